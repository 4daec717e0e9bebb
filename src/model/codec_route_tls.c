// SPDX-License-Identifier: MIT
// The members of a route that are about TLS, and what they rule out.
#include "model/codec_int.h"

enum { CA_MAX = 256 << 10 };

// --- hsts

// "0s" is refused: it would mean "forget it", not "none".
const struct range hsts_range = {1000, 36500ull * 24 * 3600 * 1000, 0};

// --- client_auth

typedef __typeof__(((struct route_decl *)0)->client_auth) client_auth_decl;

const struct text_rule rule_ca = {CA_MAX, text_is_pem,
                                  "certificates as PEM text, with their \"-----BEGIN\" lines"};

static void read_mode(struct reader *r, const struct at *at, json_t *value, void *to,
                      const struct member *member)
{
    (void)member;
    struct str text;
    if (!reader_view(r, at, value, &text)) {
        return;
    }
    if (!str_eq(text, STR("require")) && !str_eq(text, STR("optional"))) {
        reader_problem(r, at, "must be one of \"require\", \"optional\"");
        return;
    }
    *(bool *)to = str_eq(text, STR("require"));
}

static json_t *write_mode(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    *skip = *(const bool *)from;
    return *skip ? NULL : json_string("optional");
}

static const struct member client_auth_members[] = {
    {{"ca", 2}, read_text, write_text, offsetof(client_auth_decl, ca), &rule_ca},
    {{"mode", 4}, read_mode, write_mode, offsetof(client_auth_decl, is_required), NULL},
};
static const struct member_table client_auth_table = {
    client_auth_members, MEMBER_COUNT(client_auth_members), "client_auth"};

void read_client_auth(struct reader *r, const struct at *at, json_t *value, void *to,
                      const struct member *member)
{
    (void)member;
    client_auth_decl *auth = to;
    auth->is_required = true;
    if (reader_read_object(r, at, value, auth, &client_auth_table) &&
        json_object_get(value, "ca") == NULL) {
        const struct at here = {at, "ca", 0};
        reader_problem(r, &here, "is missing");
    }
}

json_t *write_client_auth(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    *skip = ((const client_auth_decl *)from)->ca.len == 0;
    return *skip ? NULL : write_object(from, &client_auth_table);
}

// --- what goes together

static void check_passthrough(struct reader *r, const struct route_decl *route)
{
    const struct {
        const char *name;
        bool is_set;
    } needs_http[] = {
        {"https", route->https_required},
        {"hsts", route->hsts_sec != 0},
        {"client_auth", route->client_auth.ca.len > 0},
        {"target_path", route->target_path.len > 0},
        {"strip_path", route->strip_path},
        {"host_header", route->host_header != HOST_KEEP},
        {"request_headers", route->request_headers.set_count + route->request_headers.remove_count},
        {"response_headers",
         route->response_headers.set_count + route->response_headers.remove_count},
        {"buffer_request", route->buffer_request > 0},
        {"limits", route->has_body_limit},
        {"retry_on", (route->retry_on & (RETRY_502 | RETRY_503 | RETRY_504 | RETRY_TIMEOUT)) != 0},
        {"unavailable", route->unavailable.is_set},
    };
    for (unsigned i = 0; i < MEMBER_COUNT(needs_http); i++) {
        if (needs_http[i].is_set) {
            const struct at at = {NULL, needs_http[i].name, 0};
            reader_problem(r, &at,
                           "cannot be declared together with passthrough: TLS is passed on "
                           "unread");
        }
    }
    const struct at at = {NULL, "passthrough", 0};
    if (route->action == ROUTE_REDIRECT || route->action == ROUTE_RESPOND) {
        reader_problem(r, &at, "needs pool, split or targets");
    }
    if (route->path.len > 1) {
        reader_problem(r, &at, "is for a whole host: it belongs on the route with path \"/\"");
    }
}

void route_check_tls(struct reader *r, const struct route_decl *route)
{
    if (route->passthrough) {
        check_passthrough(r, route);
    }
    if (route->client_auth.ca.len > 0 && route->path.len > 1) {
        const struct at at = {NULL, "client_auth", 0};
        reader_problem(r, &at, "is for a whole host: it belongs on the route with path \"/\"");
    }
}
