// SPDX-License-Identifier: MIT
// The first steps: which route, and may this request pass.
#include "net/address.h"
#include "proxy/secure.h"

static enum step_result refuse_target(struct txn *txn)
{
    return txn_answer(txn, END_BAD_TARGET);
}

static enum step_result refuse_misdirected(struct txn *txn)
{
    stat_count(txn->proxy->stats, misdirected_total);
    return txn_answer(txn, END_MISDIRECTED);
}

// Writes txn->host and txn->path. STEP_NEXT, or the answer.
static enum step_result read_target(struct txn *txn)
{
    const struct http_head *request = &txn->request;
    unsigned port;
    if (request->authority.len > 0 &&
        uri_parse_host(request->authority, txn->host, &txn->host_len, &port) != 0) {
        return refuse_target(txn);
    }
    if (str_eq(request->path, STR("*"))) {
        txn->path = STR("/"); // OPTIONS * is for the host as a whole
        return STEP_NEXT;
    }
    char *path = arena_alloc(&txn->arena, request->path.len + 1);
    size_t len;
    if (path == NULL) {
        return txn_answer(txn, END_NO_MEMORY);
    }
    bool loose = txn->proxy->shared->config->paths == PATHS_LOOSE;
    if (uri_normalise(request->path, loose, path, &len) != 0) {
        return refuse_target(txn);
    }
    txn->path = str_make(path, len);
    return STEP_NEXT;
}

// Has the host a route of its own? What is for many hosts is only for those that have none.
static bool is_known(const struct txn *txn)
{
    return txn->route != NULL && str_eq(route_slot_host(txn->route->slot), txn_host(txn));
}

enum step_result txn_step_route(struct txn *txn)
{
    enum step_result result = read_target(txn);
    if (result != STEP_NEXT) {
        return result;
    }
    if (!secure_judge(txn)) {
        return refuse_misdirected(txn);
    }
    txn->route = route_find(txn->proxy->shared->routes, txn_host(txn), txn->path);
    if (txn->proxy->misses.source != NULL && !is_known(txn) && txn_wait_for_host(txn)) {
        txn->route = NULL; // it is not held meanwhile
        return STEP_WAIT;
    }
    if (txn->route != NULL && txn->route->is_passthrough) {
        // Its targets speak TLS to their clients themselves: nothing but that passes.
        txn->route = NULL;
        if (http_stream_tls(txn->client) != NULL) {
            return refuse_misdirected(txn);
        }
    }
    if (txn->route == NULL) {
        stat_count(txn->proxy->stats, no_route_total);
        return txn_answer(txn, END_NO_ROUTE);
    }
    txn->route_pin = pin_get(&txn->proxy->pins, &txn->route->version);
    if (txn->route_pin == NULL) {
        txn->route = NULL;
        return txn_answer(txn, END_NO_MEMORY);
    }
    return STEP_NEXT;
}

static bool matches(const struct cidr *list, unsigned count, const struct in6_addr *address)
{
    for (unsigned i = 0; i < count; i++) {
        if (net_in6_matches(address, &list[i].address, list[i].bits)) {
            return true;
        }
    }
    return false;
}

bool proxy_denies(const struct route_decl *rules, const struct in6_addr *address)
{
    if (matches(rules->deny, rules->deny_count, address)) {
        return true;
    }
    return rules->allow_count > 0 && !matches(rules->allow, rules->allow_count, address);
}

// A client that waits for 100 (Continue) would wait for ever: the target that could say so gets the
// request only when its body is here.
void txn_ask_for_body(struct txn *txn)
{
    if (txn->request.expect_continue && !txn->said_continue) {
        struct http_head head = {.status = 100};
        txn->said_continue = true;
        txn->client->ops->send_info(txn->client, &head);
    }
}

const struct http_field *txn_max_forwards(const struct txn *txn)
{
    return txn->request.method == METHOD_OPTIONS
               ? http_head_find_name(&txn->request, STR("Max-Forwards"))
               : NULL;
}

// Is this proxy the last that the request was meant to reach?
static bool is_last_recipient(const struct txn *txn)
{
    const struct http_field *field = txn_max_forwards(txn);
    uint64_t left;
    return field != NULL && str_to_u64(field->value, &left) == 0 && left == 0;
}

bool proxy_keeps_too_much(const struct proxy *proxy)
{
    const struct slab *slab = &proxy->keep_slab;
    return slab->live_max != 0 && slab->live_count >= slab->live_max / 4 * 3;
}

enum step_result txn_step_admit(struct txn *txn)
{
    const struct route_decl *rules = txn_rules(txn);
    txn->body_limit = txn->proxy->shared->config->limits.body;
    if (rules != NULL) {
        if ((rules->allow_count | rules->deny_count) != 0 &&
            proxy_denies(rules, &txn->client_address)) {
            return txn_answer(txn, END_DENIED);
        }
        if (rules->https_required && !txn->is_https) {
            // Without a host there is no address to send the client to.
            return txn_answer(txn, txn->host_len > 0 ? END_REDIRECT : END_BAD_TARGET);
        }
    }
    if (txn->lacks_certificate) {
        return refuse_misdirected(txn); // whatever a proxy before this one says
    }
    if (rules != NULL) {
        if (txn->route->action == ROUTE_REDIRECT) {
            return txn_answer(txn, END_REDIRECT);
        }
        if (txn->route->action == ROUTE_RESPOND) {
            return txn_answer(txn, END_RESPOND);
        }
        if (rules->has_body_limit) {
            txn->body_limit = rules->body_limit;
        }
    }
    if (is_last_recipient(txn)) {
        return txn_answer(txn, END_MAX_FORWARDS);
    }
    if (txn->body_limit != 0 && txn->request.body == BODY_LENGTH &&
        txn->request.body_len > txn->body_limit) {
        return txn_answer(txn, END_BODY_TOO_LARGE);
    }
    if (txn->body_limit != 0 && txn->body_received > txn->body_limit) {
        return txn_answer(txn, END_BODY_TOO_LARGE); // it came while the route was looked for
    }
    if (rules != NULL && rules->buffer_request > 0 && !txn->request_ended &&
        txn->keep.len < rules->buffer_request && !proxy_keeps_too_much(txn->proxy)) {
        txn_ask_for_body(txn);
        txn->wait = WAIT_BODY;
        txn_peek_timeouts(txn);
        txn_arm_due(txn);
        return STEP_WAIT;
    }
    return STEP_NEXT;
}
