// SPDX-License-Identifier: MIT
// A target and a connection to it; then the request.
#include "net/address.h"
#include "proxy/transaction.h"

// Route over pool over configuration.
static void settle_timeouts(struct txn *txn, const struct pool_version *pool)
{
    const struct config *config = txn->proxy->shared->config;
    const struct route_decl *rules = txn_rules(txn);
    const struct timeouts_decl *of_pool = pool->settings == NULL ? NULL : &pool->settings->timeouts;
    const struct timeouts_decl *of_route = rules == NULL ? NULL : &rules->timeouts;
#define SETTLE(field, fallback)                                                      \
    txn->timeouts.field = of_route != NULL && of_route->field != 0 ? of_route->field \
                          : of_pool != NULL && of_pool->field != 0 ? of_pool->field  \
                                                                   : (fallback)
    SETTLE(connect_ms, config->timeouts.connect_ms);
    SETTLE(response_ms, config->timeouts.response_ms);
    SETTLE(idle_ms, txn->timeouts.response_ms);
    SETTLE(tunnel_idle_ms, config->timeouts.tunnel_idle_ms);
#undef SETTLE
}

// txn->pool lives as long as a version of the route that names it: the one that the request came by,
// or a newer one, which is held as well. False: out of memory.
static bool hold_version(struct txn *txn, struct route_version *route)
{
    struct pin_table *pins = &txn->proxy->pins;
    struct pin *pin = NULL;
    if (route != txn->route) {
        pin = pin_get(pins, &route->version);
        if (pin == NULL) {
            return false;
        }
    }
    txn->pool = NULL; // of what is let go
    pin_put(pins, &txn->newer_pin);
    txn->newer_pin = pin;
    return true;
}

// Chooses and counts; NULL with the reason in *end. The tables are read anew for each attempt: a target
// that left meanwhile is not chosen.
static struct pool_member *pick(struct txn *txn, struct upstream_request *request,
                                enum end_reason *end)
{
    struct route_version *route = rcu_load(txn->route->slot->current);
    if (route == NULL) {
        route = txn->route; // deleted since: what it matched it keeps
    }
    uint64_t random = proxy_random(txn->proxy);
    if (!hold_version(txn, route)) {
        *end = END_NO_MEMORY;
        return NULL;
    }
    const struct pool_version *pool = route_pool(route, random, &txn->pool);
    if (pool == NULL) {
        *end = END_NO_POOL;
        return NULL;
    }
    atomic_uint *cursor = txn->pool == NULL ? NULL : &txn->pool->cursor;
    struct pool_member *member = pool_pick(pool, cursor, random, txn->tried, txn->tried_count);
    if (member == NULL && txn->tried_count > 0 && txn->end != END_CONNECT_REFUSED &&
        txn->end != END_CONNECT_TIMEOUT) {
        member = pool_pick(pool, cursor, random, NULL, 0); // better again than not at all
    }
    if (member == NULL) {
        *end = END_NO_TARGET;
        return NULL;
    }
    settle_timeouts(txn, pool);
    unsigned workers = txn->proxy->shared->worker_count;
    unsigned idle = pool->settings == NULL ? 64 : pool->settings->keepalive_idle;
    request->keep_idle = (idle + workers - 1) / workers;
    request->keep_timeout_ms =
        pool->settings == NULL ? 60000 : pool->settings->keepalive_timeout_ms;
    return member;
}

enum step_result txn_step_balance(struct txn *txn)
{
    struct proxy *proxy = txn->proxy;
    struct upstream_request request = {0};
    enum end_reason end = END_NO_TARGET;
    txn->member = pick(txn, &request, &end);
    if (txn->member == NULL) {
        if (txn->tried_count > 0) {
            return txn_answer(txn, txn->end); // what the last attempt failed with
        }
        stat_count(proxy->stats, no_target_total);
        return txn_answer(txn, end);
    }
    int err = ERR_CLOSED;
    txn->connect_started_ns = proxy->loop->now_ns;
    request.connect_timeout_ms = txn->timeouts.connect_ms;
    request.fresh = txn->force_fresh;
    request.check = !http_method_is_idempotent(txn->request.method);
    // The admin API believes who is on this machine; a declared target must not make that of a client.
    if (pool_member_address(txn->member, &request.address, &request.address_len) &&
        !net_reaches_locally(&request.address, &proxy->admin_address)) {
        txn->origin = upstream_get(&proxy->upstream, &request, &txn_origin_events, txn, &err);
    }
    if (txn->origin == NULL) {
        stat_count(proxy->stats, upstream_connect_errors_total);
        return txn_next_attempt(txn, END_CONNECT_REFUSED, RETRY_CONNECT, true);
    }
    if (txn->origin->was_reused) {
        stat_count(proxy->stats, upstream_reuses_total);
        txn->origin_ready = true;
        return STEP_NEXT;
    }
    stat_count(proxy->stats, upstream_connects_total);
    txn->wait = WAIT_CONNECT;
    return STEP_WAIT;
}

static void send_piece(void *context, struct str piece)
{
    struct http_stream *origin = context;
    origin->ops->send_data(origin, piece);
}

enum step_result txn_step_send(struct txn *txn)
{
    struct http_head head;
    int err = txn_build_request(txn, &head);
    if (err != 0) {
        return txn_answer(txn, err == ERR_MEMORY ? END_NO_MEMORY : END_HEAD_TOO_LARGE);
    }
    struct http_stream *origin = txn->origin;
    origin->ops->send_head(origin, &head);
    if (txn->keep.len > 0) {
        body_keep_each(&txn->keep, send_piece, origin);
    }
    if (txn->request_ended) {
        origin->ops->send_end(origin, txn->trailers, txn->trailer_count);
        txn->request_sent = true;
    } else {
        txn_resume_client(txn);
    }
    if (txn->client_full) {
        txn_pause_origin(txn); // of heads that an earlier attempt sent ahead
    }
    txn->sent_ns = txn->proxy->loop->now_ns;
    txn->progress_ms = txn->proxy->loop->now_ms;
    txn_arm(txn, txn->timeouts.response_ms);
    return STEP_NEXT;
}
