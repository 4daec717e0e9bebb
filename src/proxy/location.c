// SPDX-License-Identifier: MIT
// Redirects of an origin as the client must see them: an origin that names its own internal address
// gets the public one instead, and paths that were changed on the way in are changed back.
#include "proxy/transaction.h"

// Does the authority name the target, or the Host that it was asked by?
static bool is_internal(const struct txn *txn, struct str authority)
{
    char text[POOL_MEMBER_TEXT_MAX];
    struct str target = str_make(text, pool_member_text(txn->member, text, sizeof text));
    struct str port = STR(":80"); // which may be left out
    if (str_starts(target, STR("https://"))) {
        target = str_from(target, 8);
        port = STR(":443");
    } else if (str_starts(target, STR("h2c://"))) {
        target = str_from(target, 6);
    }
    if (str_eq_case(authority, target)) {
        return true;
    }
    if (str_ends(target, port) &&
        str_eq_case(authority, str_sub(target, 0, target.len - port.len))) {
        return true;
    }
    const struct route_decl *rules = txn_rules(txn);
    return rules != NULL && rules->host_header == HOST_LITERAL &&
           str_eq_case(authority, rules->host_literal);
}

// The path as the client must ask for it: target_path off, the route's stripped prefix on again.
static struct str outside_path(struct txn *txn, struct str path)
{
    const struct route_decl *rules = txn_rules(txn);
    if (rules == NULL) {
        return path;
    }
    struct str front = rules->target_path;
    if (front.len > 0 && front.p[front.len - 1] == '/') {
        front.len--;
    }
    if (front.len > 0) {
        bool is_below =
            str_starts(path, front) && (path.len == front.len || path.p[front.len] == '/' ||
                                        path.p[front.len] == '?' || path.p[front.len] == '#');
        if (!is_below) {
            return path;
        }
        path = str_from(path, front.len);
        while (path.len > 1 && path.p[0] == '/' && (path.p[1] == '/' || path.p[1] == '\\')) {
            path = str_from(path, 1); // "//host" would be a URL of another site
        }
    }
    struct str prefix = rules->strip_path && rules->path.len > 1 ? rules->path : STR("");
    if (path.len == 0 || path.p[0] != '/') {
        return arena_printf(&txn->arena, "%.*s/%.*s", STR_ARG(prefix), STR_ARG(path));
    }
    return prefix.len == 0 ? path
                           : arena_printf(&txn->arena, "%.*s%.*s", STR_ARG(prefix), STR_ARG(path));
}

struct str txn_rewrite_location(struct txn *txn, struct str location)
{
    if (txn->member == NULL || location.len == 0) {
        return location;
    }
    if (location.p[0] == '/' && !str_starts(location, STR("//"))) {
        return outside_path(txn, location);
    }
    size_t scheme_len = str_starts_case(location, STR("http://"))    ? 7
                        : str_starts_case(location, STR("https://")) ? 8
                                                                     : 0;
    if (scheme_len == 0 || txn->request.authority.len == 0) {
        return location;
    }
    struct str rest = str_from(location, scheme_len);
    size_t end = 0;
    while (end < rest.len && rest.p[end] != '/' && rest.p[end] != '?' && rest.p[end] != '#') {
        end++;
    }
    if (!is_internal(txn, str_sub(rest, 0, end))) {
        return location;
    }
    struct str path = outside_path(txn, str_from(rest, end));
    return arena_printf(&txn->arena, "%s://%.*s%.*s", txn->is_https ? "https" : "http",
                        STR_ARG(txn->request.authority), STR_ARG(path));
}
