// SPDX-License-Identifier: MIT
// Which pool, and which of its targets: read from the live tables anew for each attempt, so that a target
// that left meanwhile is not chosen.
#include "proxy/transaction.h"

enum { UNLISTED_MAX = 4 };

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

static struct route_version *live_route(const struct txn *txn)
{
    struct route_version *route = rcu_load(txn->route->slot->current);
    return route == NULL ? txn->route : route; // deleted since: what it matched it keeps
}

static uint64_t roll_of(struct txn *txn)
{
    if (txn->roll == 0) {
        txn->roll = proxy_random(txn->proxy) | 1;
    }
    return txn->roll;
}

const struct pool_version *txn_find_pool(struct txn *txn, enum end_reason *end)
{
    struct route_version *route = live_route(txn);
    if (!hold_version(txn, route)) {
        *end = END_NO_MEMORY;
        return NULL;
    }
    const struct pool_version *pool = route_pool(route, roll_of(txn), &txn->pool);
    if (pool == NULL) {
        *end = END_NO_POOL;
    }
    return pool;
}

void txn_settle_timeouts(struct txn *txn, const struct pool_settings *settings)
{
    const struct config *config = txn->proxy->shared->config;
    const struct route_decl *rules = txn_rules(txn);
    const struct timeouts_decl *of_pool = settings == NULL ? NULL : &settings->timeouts;
    const struct timeouts_decl *of_route = rules == NULL ? NULL : &rules->timeouts;
#define SETTLE(field, fallback)                                                      \
    txn->timeouts.field = of_route != NULL && of_route->field != 0 ? of_route->field \
                          : of_pool != NULL && of_pool->field != 0 ? of_pool->field  \
                                                                   : (fallback)
    SETTLE(connect_ms, config->timeouts.connect_ms);
    SETTLE(response_ms, config->timeouts.response_ms);
    SETTLE(idle_ms, txn->timeouts.response_ms);
    SETTLE(tunnel_idle_ms, config->timeouts.tunnel_idle_ms);
    SETTLE(request_ms, config->timeouts.request_ms);
#undef SETTLE
    // The time of the whole request counts from its arrival.
    unsigned limit_ms = txn->timeouts.request_ms;
    txn->request_due_ms = limit_ms == 0 ? 0 : txn->started_ns / 1000000 + limit_ms;
}

void txn_peek_timeouts(struct txn *txn)
{
    struct pool_slot *named;
    const struct pool_version *pool = route_pool(live_route(txn), roll_of(txn), &named);
    txn_settle_timeouts(txn, pool == NULL ? NULL : pool_settings(pool));
}

// Would the same target fail in the same way?
static bool is_connect_failure(enum end_reason end)
{
    return end == END_CONNECT_REFUSED || end == END_CONNECT_TIMEOUT || end == END_TLS_FAILED ||
           end == END_TLS_VERIFY;
}

void excluded_init(struct excluded *excluded, struct pool_member *const *tried, unsigned count)
{
    memcpy(excluded->members, tried, count * sizeof tried[0]);
    excluded->tried = count;
    excluded->count = count;
    excluded->unlisted = 0;
    excluded->saw_less = count > 0;
}

bool excluded_add_full(struct excluded *excluded, struct pool_member *member,
                       struct pool_choice *choice)
{
    const struct pool_target *target = pool_target_of(member);
    const struct upstream_limit *limit = target == NULL ? NULL : rcu_load(target->limit);
    excluded->saw_less = excluded->saw_less || (limit != NULL && upstream_limit_is_h2(limit));
    pool_member_unpick(member); // nobody gets a turn for what was not used
    if (excluded->count < POOL_TRIED_MAX) {
        excluded->members[excluded->count++] = member;
        return true;
    }
    // Many are full: now only those that do not look it. (Not before: one whose connections of HTTP/2 are all in
    // use may take another request on them.)
    choice->needs_room = true;
    bool goes_on = excluded->unlisted++ < UNLISTED_MAX;
    excluded->saw_less = excluded->saw_less || !goes_on;
    return goes_on;
}

static enum pool_result pick(struct txn *txn, const struct pool_version *pool,
                             struct pool_choice *choice, const struct excluded *excluded)
{
    choice->tried = excluded->members;
    choice->tried_count = excluded->count;
    enum pool_result result = pool_pick(pool, txn->pool, choice, &txn->member);
    if (result == POOL_NONE && excluded->tried > 0 && !is_connect_failure(txn->end)) {
        // Better again than not at all.
        choice->tried += excluded->tried;
        choice->tried_count -= excluded->tried;
        result = pool_pick(pool, txn->pool, choice, &txn->member);
    }
    return result;
}

static void note_settings(struct txn *txn, const struct pool_settings *settings)
{
    txn->watches_status =
        settings != NULL && settings->passive.max_fails > 0 && settings->passive.status_count > 0;
    txn->times_answers = settings != NULL && settings->balance == BALANCE_RANDOM_TWO;
}

enum pool_result txn_take_target(struct txn *txn, const struct pool_version *pool,
                                 struct pool_choice *choice)
{
    const struct pool_settings *settings = pool_settings(pool);
    const uint64_t *bare_count = &txn->proxy->upstream.bare_count;
    uint64_t bare_before = *bare_count;
    unsigned full_count = 0;
    struct excluded excluded;
    excluded_init(&excluded, txn->tried, txn->tried_count);
    for (;;) {
        enum pool_result result = pick(txn, pool, choice, &excluded);
        if (result != POOL_PICKED) {
            txn->member = NULL;
            txn->saw_all = !excluded.saw_less;
            txn->is_shut_out = full_count > 0 && *bare_count - bare_before == full_count;
            return excluded.count > excluded.tried || choice->needs_room ? POOL_FULL : result;
        }
        int err = ERR_CLOSED;
        txn->origin = txn_connect(txn, txn->member, settings, &txn_origin_events, &err);
        if (txn->origin != NULL || err != ERR_LIMIT) {
            note_settings(txn, settings);
            if (txn->origin == NULL) {
                proxy_member_failed(txn->proxy, txn->member, err);
            }
            return POOL_PICKED;
        }
        struct pool_member *member = txn->member; // it has all the connections that it may have
        txn->member = NULL;
        full_count++;
        if (!excluded_add_full(&excluded, member, choice)) {
            txn->saw_all = false;
            txn->is_shut_out = *bare_count - bare_before == full_count;
            return POOL_FULL;
        }
    }
}
