// SPDX-License-Identifier: MIT
// Who may call the admin API. A token proves an operator; from this machine it may be left out. What
// is left then are browsers on this machine that a foreign page makes call us: the Host rule stops
// names that were rebound to 127.0.0.1, the Origin rule stops forms and scripts.
#include "admin/admin_int.h"
#include "http/uri.h"
#include "net/address.h"

// An address cannot be rebound.
static bool is_literal(struct str name)
{
    bool is_v4 = name.len > 0;
    for (size_t i = 0; i < name.len; i++) {
        is_v4 = is_v4 && (ascii_is_digit(name.p[i]) || name.p[i] == '.');
    }
    return is_v4 || str_starts(name, STR("["));
}

// No name that a page's own server could point here.
static bool host_is_safe(struct str authority)
{
    char host[URI_HOST_MAX + 1];
    size_t len = 0;
    unsigned port = 0;
    return authority.len > 0 && uri_parse_host(authority, host, &len, &port) == 0 &&
           (str_eq(str_make(host, len), STR("localhost")) || is_literal(str_make(host, len)));
}

static bool host_is_known(const struct admin *admin, struct str authority)
{
    char host[URI_HOST_MAX + 1];
    size_t len = 0;
    unsigned port = 0;
    if (authority.len == 0 || uri_parse_host(authority, host, &len, &port) != 0) {
        return false;
    }
    struct str name = str_make(host, len);
    if (str_eq(name, STR("localhost")) || str_eq(name, STR("127.0.0.1")) ||
        str_eq(name, STR("[::1]"))) {
        return true;
    }
    if (admin->is_wildcard && is_literal(name)) {
        return true; // any of this machine's addresses may be meant
    }
    char own[URI_HOST_MAX + 1];
    size_t own_len = 0;
    struct str address = str_from_c(admin->deps.config->admin.address);
    return uri_parse_host(address, own, &own_len, &port) == 0 &&
           str_eq(name, str_make(own, own_len));
}

// Same origin: the page was served by this very address.
static bool origin_is_own(struct str origin, struct str authority)
{
    struct str rest = STR_NULL;
    if (str_starts_case(origin, STR("http://"))) {
        rest = str_from(origin, 7);
    } else if (str_starts_case(origin, STR("https://"))) {
        rest = str_from(origin, 8);
    }
    return rest.len > 0 && str_eq_case(rest, authority);
}

static unsigned check_token(const struct admin *admin, const struct call *call,
                            const struct in6_addr *peer, const char **detail)
{
    struct str token = str_from_c(admin->deps.token);
    struct str given = call->authorization;
    if (given.len > 0) {
        if (!str_starts_case(given, STR("Bearer "))) {
            *detail = "the Authorization field must be \"Bearer TOKEN\"";
            return 401;
        }
        if (token.len == 0 || !str_eq_secret(str_trim(str_from(given, 7)), token)) {
            *detail = "the token is wrong";
            return 401;
        }
        return 0;
    }
    if (admin->deps.config->admin.require_token || !net_is_loopback(peer)) {
        *detail = "a token is needed: Authorization: Bearer TOKEN";
        return 401;
    }
    return 0;
}

unsigned guard_check(const struct admin *admin, const struct call *call,
                     const struct in6_addr *peer, const char **detail)
{
    if (call->row != NULL && call->row->is_open) {
        return 0;
    }
    // Ceryx' API has neither tokens nor names: its address is for networks whose machines may all use it.
    // Those of browsers are refused: it serves no pages, and one of a rebound name would be its own origin.
    if (call->is_ceryx_address) {
        if (call->origin.len > 0 &&
            !(origin_is_own(call->origin, call->authority) && host_is_safe(call->authority))) {
            *detail = "requests from other origins are refused";
            return 403;
        }
        return 0;
    }
    if (!host_is_known(admin, call->authority)) {
        *detail = "Host must be the admin address or localhost";
        return 403;
    }
    // Whatever a field says of who is behind it: the peer itself.
    if (call->row != NULL && call->row->is_local && !net_is_loopback(peer)) {
        *detail = "this call is for callers on this machine only";
        return 403;
    }
    if (call->origin.len > 0 && !origin_is_own(call->origin, call->authority)) {
        *detail = "requests from other origins are refused";
        return 403;
    }
    return check_token(admin, call, peer, detail);
}

bool guard_type_is_known(struct str content_type)
{
    // curl -d says "form"; a real form of a browser carries an Origin and got no further than that.
    static const struct str known[] = {
        {"application/json", 16},
        {"application/merge-patch+json", 28},
        {"application/x-ndjson", 20},
        {"application/x-www-form-urlencoded", 33},
    };
    struct str type;
    struct str parameters;
    str_split(content_type, ';', &type, &parameters);
    type = str_trim(type);
    if (type.len == 0) {
        return true;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (str_eq_case(type, known[i])) {
            return true;
        }
    }
    return false;
}
