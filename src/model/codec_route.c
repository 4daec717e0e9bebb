// SPDX-License-Identifier: MIT
// A route: its table of members, and what holds between them.
#include "model/codec_int.h"

enum { RETRIES_MAX = 10, RETRIES_DEFAULT = 1, HTTPS_REDIRECT_DEFAULT = 308 };

static const struct range targets_range = {1, 1000, 0};
static const struct range retries_range = {0, RETRIES_MAX, RETRIES_DEFAULT};
static const struct range buffer_range = {0, 1ull << 30, 0};

static void read_host(struct reader *r, const struct at *at, json_t *value, void *to,
                      const struct member *member)
{
    (void)member;
    struct str text;
    char host[VALUE_HOST_MAX + 1];
    size_t len;
    if (!reader_view(r, at, value, &text)) {
        return;
    }
    const char *wrong = host_canonicalise(text, true, host, &len);
    if (wrong != NULL) {
        reader_problem(r, at, "%s", wrong);
        return;
    }
    *(struct str *)to = reader_copy(r, str_make(host, len));
}

static void read_https(struct reader *r, const struct at *at, json_t *value, void *to,
                       const struct member *member)
{
    (void)member;
    struct str text;
    if (!reader_view(r, at, value, &text)) {
        return;
    }
    if (!str_eq(text, STR("allow")) && !str_eq(text, STR("require"))) {
        reader_problem(r, at, "must be one of \"allow\", \"require\"");
        return;
    }
    *(bool *)to = str_eq(text, STR("require"));
}

static json_t *write_https(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    *skip = !*(const bool *)from;
    return *skip ? NULL : json_string("require");
}

static void read_redirect_status(struct reader *r, const struct at *at, json_t *value, void *to,
                                 const struct member *member)
{
    (void)member;
    if (!json_is_integer(value)) {
        reader_wrong_type(r, at, "a whole number", value);
    } else if (!redirect_status_is_valid(json_integer_value(value))) {
        reader_problem(r, at, "must be one of 301, 302, 303, 307, 308");
    } else {
        *(unsigned *)to = (unsigned)json_integer_value(value);
    }
}

static json_t *write_redirect_status(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    unsigned status = *(const unsigned *)from;
    *skip = status == HTTPS_REDIRECT_DEFAULT;
    return *skip ? NULL : json_integer(status);
}

#define PLAIN(name, type, rule)                                                                  \
    {                                                                                            \
        {#name, sizeof #name - 1}, read_##type, write_##type, offsetof(struct route_decl, name), \
            rule                                                                                 \
    }
#define AS(name, member, type, rule)                                                             \
    {                                                                                            \
        {name, sizeof name - 1}, read_##type, write_##type, offsetof(struct route_decl, member), \
            rule                                                                                 \
    }

// In the order of the reference, which is the order of the canonical text.
static const struct member route_members[] = {
    {{"host", 4}, read_host, write_text, offsetof(struct route_decl, host), NULL},
    {{"path", 4}, read_target_path, write_text, offsetof(struct route_decl, path), NULL},
    PLAIN(pool, text, &rule_name),
    PLAIN(split, split, NULL),
    PLAIN(targets, targets, &targets_range),
    PLAIN(redirect, redirect, NULL),
    PLAIN(respond, respond, NULL),
    PLAIN(tenant, text, &rule_name),
    AS("https", https_required, https, NULL),
    PLAIN(redirect_status, redirect_status, NULL),
    AS("hsts", hsts_sec, seconds, &hsts_range),
    PLAIN(client_auth, client_auth, NULL),
    PLAIN(passthrough, bool, NULL),
    PLAIN(target_path, target_path, NULL),
    PLAIN(strip_path, bool, NULL),
    // This and limits fill two members of the struct each: they get the whole.
    {{"host_header", 11}, read_host_header, write_host_header, 0, NULL},
    PLAIN(request_headers, header_rules, NULL),
    PLAIN(response_headers, header_rules, NULL),
    PLAIN(allow, cidrs, NULL),
    PLAIN(deny, cidrs, NULL),
    PLAIN(buffer_request, size, &buffer_range),
    {{"limits", 6}, read_body_limit, write_body_limit, 0, NULL},
    PLAIN(timeouts, timeouts, NULL),
    PLAIN(retries, unsigned, &retries_range),
    PLAIN(retry_on, retry_on, NULL),
    PLAIN(unavailable, unavailable, NULL),
    PLAIN(access_log, bool, "true"),
};

const struct member_table route_table_members = {route_members, MEMBER_COUNT(route_members),
                                                 "a route"};

void route_defaults(struct route_decl *route)
{
    route->redirect_status = HTTPS_REDIRECT_DEFAULT;
    route->retries = RETRIES_DEFAULT;
    route->retry_on = RETRY_CONNECT | RETRY_RESET;
    route->access_log = true;
}

// The members of which a route has exactly one; the same order as enum route_action.
static const char *const actions[] = {"pool", "split", "targets", "redirect", "respond"};

static void find_action(struct reader *r, json_t *value, struct route_decl *route)
{
    char list[64] = "";
    size_t len = 0;
    unsigned found = 0;
    for (unsigned i = 0; i < MEMBER_COUNT(actions); i++) {
        if (json_object_get(value, actions[i]) == NULL) {
            continue;
        }
        route->action = (enum route_action)i;
        len += (size_t)snprintf(list + len, sizeof list - len, "%s%s", found == 0 ? "" : ", ",
                                actions[i]);
        found++;
    }
    if (found == 0) {
        reader_problem(r, NULL, "one of pool, split, targets, redirect, respond must be declared");
    } else if (found > 1) {
        reader_problem(r, NULL,
                       "only one of pool, split, targets, redirect, respond can be declared, "
                       "not %s together",
                       list);
    }
}

// What the body says of host or path must agree with the key that it is stored under.
static void take_from_key(struct reader *r, const char *name, json_t *declared, struct str from_key,
                          struct str *to)
{
    const struct at at = {NULL, name, 0};
    if (declared != NULL && to->len > 0 && !str_eq(*to, from_key)) {
        reader_problem(r, &at, "is \"%.*s\", but the key says \"%.*s\"", STR_ARG(*to),
                       STR_ARG(from_key));
        return;
    }
    if (to->len == 0) {
        *to = reader_copy(r, from_key);
    }
}

void route_finish(struct reader *r, struct str key, json_t *value, struct route_decl *route)
{
    if (key.len > 0) {
        size_t slash = str_find_char(key, '/');
        struct str path = slash == SIZE_MAX ? STR("/") : str_from(key, slash);
        take_from_key(r, "host", json_object_get(value, "host"), str_sub(key, 0, slash),
                      &route->host);
        take_from_key(r, "path", json_object_get(value, "path"), path, &route->path);
    } else {
        if (route->path.len == 0) {
            route->path = STR("/");
        }
        if (json_is_object(value) && json_object_get(value, "host") == NULL) {
            const struct at at = {NULL, "host", 0};
            reader_problem(r, &at, "is missing");
        }
    }
    if (json_is_object(value)) {
        find_action(r, value, route);
        route_check_tls(r, route);
    }
}

char *route_key(const struct route_decl *route)
{
    size_t path_len = route->path.len > 1 ? route->path.len : 0;
    char *key = malloc(route->host.len + path_len + 1);
    if (key != NULL) {
        memcpy(key, route->host.p, route->host.len);
        memcpy(key + route->host.len, route->path.p, path_len);
        key[route->host.len + path_len] = '\0';
    }
    return key;
}
