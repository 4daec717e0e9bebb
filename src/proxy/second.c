// SPDX-License-Identifier: MIT
// Happy eyeballs (RFC 8305): while the connection to one address of a name is not there, one to an address of
// the other family is tried beside it. Who is ready first gets the request.
//
//   0 ms      txn->origin, txn->member ──────────────► ready: the second is given up
//   250 ms    txn->second, txn->second_member ───────► ready: takes the place of the first
//             the first fails ─► the second takes its place     the second fails ─► the first goes on
#include "proxy/transaction.h"

enum { SECOND_AFTER_MS = 250 }; // RFC 8305 5: the recommended delay

void txn_plan_second(struct txn *txn)
{
    const struct pool_member *member = txn->member;
    bool is_of_a_name = !member->is_bare && member->family == AF_UNSPEC;
    txn->second_due_ms = 0;
    if (is_of_a_name && txn->timeouts.connect_ms > SECOND_AFTER_MS) {
        txn->second_due_ms = txn->proxy->loop->now_ms + SECOND_AFTER_MS;
        txn_arm(txn, SECOND_AFTER_MS);
    } else {
        txn_arm_due(txn);
    }
}

static void take_second(struct txn *txn, struct http_stream *stream)
{
    txn->member = txn->second_member;
    txn->origin = stream;
    txn->second_member = NULL;
    txn->second = NULL;
    stream->events = &txn_origin_events;
}

// The second is ready: the first is given up.
static void win(struct txn *txn, struct http_stream *stream)
{
    struct http_stream *first = txn->origin;
    txn->origin = NULL;
    first->ops->reset(first, ERR_CLOSED);
    pool_member_put(txn->member);
    take_second(txn, stream);
    txn_origin_is_ready(txn, stream);
}

static void on_ready(struct http_stream *stream)
{
    win(stream->user, stream);
}

static void on_reset(struct http_stream *stream, int err)
{
    struct txn *txn = stream->user;
    struct pool_member *member = txn->second_member;
    txn->second = NULL; // it is gone by itself
    txn->second_member = NULL;
    stat_count(txn->proxy->stats, upstream_connect_errors_total);
    if (!stream->never_arrived) {
        proxy_member_failed(txn->proxy, member, err);
    }
    pool_member_put(member);
}

// Nothing else comes before a request is sent.
const struct http_stream_events txn_second_events = {.on_ready = on_ready, .on_reset = on_reset};

// The address of the other family, picked and counted, or NULL.
static struct pool_member *pick_beside(struct txn *txn, const struct pool_settings **settings)
{
    struct pool_slot *slot = pool_target_of(txn->member)->slot;
    const struct pool_version *pool = rcu_load(slot->current);
    const struct pool_choice choice = {.random = txn->roll,
                                       .now_ms = txn->proxy->loop->now_ms,
                                       .tried = txn->tried,
                                       .tried_count = txn->tried_count,
                                       .beside = txn->member};
    struct pool_member *member;
    if (pool == NULL || pool_pick(pool, slot, &choice, &member) != POOL_PICKED) {
        return NULL;
    }
    *settings = pool_settings(pool);
    return member;
}

void txn_begin_second(struct txn *txn)
{
    uint64_t now_ms = txn->proxy->loop->now_ms;
    if (txn->second_due_ms > now_ms) {
        txn_arm(txn, txn->second_due_ms - now_ms);
        return;
    }
    bool is_due = txn->second_due_ms != 0;
    txn->second_due_ms = 0;
    txn_arm_due(txn);
    const struct pool_settings *settings = NULL;
    struct pool_member *member = is_due ? pick_beside(txn, &settings) : NULL;
    if (member == NULL) {
        return;
    }
    int err;
    struct http_stream *stream = txn_connect(txn, member, settings, &txn_second_events, &err);
    if (stream == NULL && err == ERR_LIMIT) {
        pool_member_unpick(member); // nobody gets a turn for what was not used
        return;
    }
    if (stream == NULL) {
        proxy_member_failed(txn->proxy, member, err);
        pool_member_put(member);
        return;
    }
    stat_count(txn->proxy->stats, upstream_second_address_total);
    txn->second = stream;
    txn->second_member = member;
    if (stream->was_reused) {
        win(txn, stream);
    }
}

bool txn_promote_second(struct txn *txn)
{
    if (txn->second == NULL) {
        return false;
    }
    if (txn->tried_count < POOL_TRIED_MAX) {
        txn->tried[txn->tried_count++] = txn->member;
    }
    pool_member_put(txn->member);
    take_second(txn, txn->second);
    return true;
}

void txn_drop_second(struct txn *txn)
{
    if (txn->second == NULL) {
        return;
    }
    struct http_stream *stream = txn->second;
    txn->second = NULL;
    stream->ops->reset(stream, ERR_CLOSED);
    pool_member_put(txn->second_member);
    txn->second_member = NULL;
}
