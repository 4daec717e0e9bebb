// SPDX-License-Identifier: MIT
// The calls of the API, one row each.
#include "admin/admin_int.h"

#define ROW(row_method, row_pattern, row_run, ...)                                \
    {                                                                             \
        .method = row_method, .pattern = row_pattern, .run = row_run, __VA_ARGS__ \
    }

static void answer_later_noun(struct call *call)
{
    answer_status(call, 404, "%.*s: tenants and keys are not part of this version",
                  STR_ARG(call->path));
}

// clang-format off
static const struct call_row rows[] = {
    ROW(METHOD_GET, "/v1/routes", call_list, .noun = NOUN_ROUTE),
    ROW(METHOD_GET, "/v1/routes/{*}", call_object_get, .noun = NOUN_ROUTE),
    ROW(METHOD_PUT, "/v1/routes/{*}", call_object_put, .noun = NOUN_ROUTE),
    ROW(METHOD_PATCH, "/v1/routes/{*}", call_object_patch, .noun = NOUN_ROUTE),
    ROW(METHOD_DELETE, "/v1/routes/{*}", call_object_delete, .noun = NOUN_ROUTE),
    ROW(METHOD_GET, "/v1/pools", call_list, .noun = NOUN_POOL),
    ROW(METHOD_GET, "/v1/pools/{}", call_object_get, .noun = NOUN_POOL),
    ROW(METHOD_PUT, "/v1/pools/{}", call_object_put, .noun = NOUN_POOL),
    ROW(METHOD_PATCH, "/v1/pools/{}", call_object_patch, .noun = NOUN_POOL),
    ROW(METHOD_DELETE, "/v1/pools/{}", call_object_delete, .noun = NOUN_POOL),
    ROW(METHOD_GET, "/v1/pools/{}/targets", call_targets_get, .noun = NOUN_POOL),
    ROW(METHOD_GET, "/v1/pools/{}/targets/{}", call_target_get, .noun = NOUN_POOL),
    ROW(METHOD_PUT, "/v1/pools/{}/targets/{}", call_target_put, .noun = NOUN_POOL),
    ROW(METHOD_DELETE, "/v1/pools/{}/targets/{}", call_target_delete, .noun = NOUN_POOL),
    ROW(METHOD_POST, "/v1/pools/{}/switch", call_pool_switch, .noun = NOUN_POOL),
    ROW(METHOD_POST, "/admin/set_backends", call_set_backends, .noun = NOUN_POOL, .is_local = true),
    ROW(METHOD_GET, "/v1/certificates", call_list, .noun = NOUN_CERTIFICATE),
    ROW(METHOD_GET, "/v1/certificates/{}", call_object_get, .noun = NOUN_CERTIFICATE),
    ROW(METHOD_PUT, "/v1/certificates/{}", call_object_put, .noun = NOUN_CERTIFICATE),
    ROW(METHOD_PATCH, "/v1/certificates/{}", call_object_patch, .noun = NOUN_CERTIFICATE),
    ROW(METHOD_DELETE, "/v1/certificates/{}", call_object_delete, .noun = NOUN_CERTIFICATE),
    ROW(METHOD_POST, "/v1/batch", call_batch, .body = CALL_STREAM),
    ROW(METHOD_GET, "/v1/export", call_export, ),
    ROW(METHOD_GET, "/v1/events", call_events, ),
    ROW(METHOD_GET, "/v1/status", call_status, ),
    ROW(METHOD_GET, "/v1/nodes", call_nodes, ),
    ROW(METHOD_GET, "/v1/stats", call_stats, ),
    ROW(METHOD_GET, "/metrics", call_metrics, ),
    ROW(METHOD_GET, "/healthz", call_health, .is_open = true),
    ROW(METHOD_GET, "/readyz", call_ready, .is_open = true),
    ROW(METHOD_GET, "/api/routes", call_ceryx_list, .noun = NOUN_ROUTE, .is_ceryx = true),
    ROW(METHOD_POST, "/api/routes", call_ceryx_post, .noun = NOUN_ROUTE, .is_ceryx = true),
    ROW(METHOD_GET, "/api/routes/{}", call_ceryx_get, .noun = NOUN_ROUTE, .is_ceryx = true),
    ROW(METHOD_PUT, "/api/routes/{}", call_ceryx_put, .noun = NOUN_ROUTE, .is_ceryx = true),
    ROW(METHOD_DELETE, "/api/routes/{}", call_ceryx_delete, .noun = NOUN_ROUTE, .is_ceryx = true),
    // Names that are taken, for later versions: a clear answer instead of a puzzling one.
    ROW(METHOD_OTHER, "/v1/tenants", answer_later_noun, ),
    ROW(METHOD_OTHER, "/v1/tenants/{*}", answer_later_noun, ),
    ROW(METHOD_OTHER, "/v1/keys", answer_later_noun, ),
    ROW(METHOD_OTHER, "/v1/keys/{*}", answer_later_noun, ),
};
// clang-format on

enum { ROW_COUNT = sizeof rows / sizeof rows[0] };

static bool match_row(struct str pattern, struct str path, struct str rest[2])
{
    unsigned count = 0;
    while (pattern.len > 0) {
        if (str_starts(pattern, STR("{*}"))) {
            rest[count] = path;
            return path.len > 0;
        }
        if (str_starts(pattern, STR("{}"))) {
            size_t end = str_find_char(path, '/');
            end = end == SIZE_MAX ? path.len : end;
            if (end == 0) {
                return false;
            }
            rest[count++] = str_sub(path, 0, end);
            path = str_from(path, end);
            pattern = str_from(pattern, 2);
            continue;
        }
        if (path.len == 0 || path.p[0] != pattern.p[0]) {
            return false;
        }
        path = str_from(path, 1);
        pattern = str_from(pattern, 1);
    }
    // "/v1/routes/" is the list too.
    return path.len == 0 || str_eq(path, STR("/"));
}

// The methods of one pattern are few: their texts are constants.
static const char *allow_text(const bool allowed[METHOD_TRACE + 1])
{
    if (allowed[METHOD_GET] && allowed[METHOD_PATCH]) {
        return "GET, HEAD, PUT, PATCH, DELETE, OPTIONS";
    }
    if (allowed[METHOD_GET] && allowed[METHOD_PUT]) {
        return "GET, HEAD, PUT, DELETE, OPTIONS";
    }
    if (allowed[METHOD_GET] && allowed[METHOD_POST]) {
        return "GET, HEAD, POST, OPTIONS";
    }
    return allowed[METHOD_GET] ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
}

const struct call_row *calls_find(struct str path, enum http_method method, struct str rest[2],
                                  const char **allow)
{
    bool allowed[METHOD_TRACE + 1] = {false};
    bool is_found = false;
    *allow = NULL;
    for (unsigned i = 0; i < ROW_COUNT; i++) {
        struct str parts[2] = {STR_NULL, STR_NULL};
        if (!match_row(str_from_c(rows[i].pattern), path, parts)) {
            continue;
        }
        if (rows[i].method == method || rows[i].method == METHOD_OTHER) {
            rest[0] = parts[0];
            rest[1] = parts[1];
            return &rows[i];
        }
        allowed[rows[i].method] = true;
        is_found = true;
    }
    if (is_found) {
        *allow = allow_text(allowed);
    }
    return NULL;
}
