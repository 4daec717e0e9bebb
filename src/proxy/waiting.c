// SPDX-License-Identifier: MIT
// A place in the queue in front of a pool whose targets are all at their limit.
//
//   all are full ─► join ─► WAIT_QUEUE ─┬► its turn: picks ─┬► a target
//                                       │                   └► none: its old place again
//                                       ├► limits.queue_timeout, timeouts.request: 503, 504
//                                       └► the client left: the place is given up
#include "proxy/transaction.h"

// Parts of limits.queue_timeout: how long a request waits while other workers have all the connections, before
// nobody else gets a turn; and for how long that is.
enum { HOLD_AFTER = 8, HOLD_FOR = 4 };

struct pool_queue *proxy_queue_of(const struct pool_slot *slot)
{
    // Acquire: pairs with the release of control, which makes it.
    return slot == NULL ? NULL : atomic_load_explicit(&slot->queue, memory_order_acquire);
}

static void on_turn(void *user)
{
    struct txn *txn = user;
    txn->turn = txn->waiter;
    txn->waiter = NULL;
    txn_run(txn);
}

bool txn_must_wait(const struct txn *txn, const struct pool_settings *settings)
{
    if (settings->queue == 0 || txn->turn != NULL) {
        return false;
    }
    const struct pool_queue *queue = proxy_queue_of(txn->pool);
    return queue != NULL && pool_queue_len(queue) > 0;
}

// The answer that there is no room; after a failed attempt what that failed with.
static enum step_result refuse(struct txn *txn, enum end_reason end, unsigned timeout_ms)
{
    txn->retry_after_sec = timeout_ms > 1000 ? (timeout_ms + 999) / 1000 : 1;
    return txn_answer(txn, txn->tried_count > 0 ? txn->end : end);
}

static enum step_result refuse_full(struct txn *txn, const struct pool_settings *settings)
{
    stat_count(txn->proxy->stats, queue_full_total);
    return refuse(txn, END_QUEUE_FULL, settings == NULL ? 0 : settings->queue_timeout_ms);
}

enum step_result txn_wait_for_turn(struct txn *txn, const struct pool_version *pool,
                                   struct pool_choice *choice)
{
    const struct pool_settings *settings = pool_settings(pool);
    struct loop *loop = txn->proxy->loop;
    struct pool_queue *queue = proxy_queue_of(txn->pool);
    txn_leave_queue(txn); // of another pool
    if (settings == NULL || settings->queue == 0 || queue == NULL) {
        return refuse_full(txn, settings);
    }
    int err = pool_queue_join(queue, loop, settings->queue, on_turn, txn, &txn->waiter);
    if (err != 0) {
        return err == ERR_LIMIT ? refuse_full(txn, settings) : txn_answer(txn, END_NO_MEMORY);
    }
    txn->queue = queue;
    txn->queued_at_ns = loop->now_ns;
    txn->queue_due_ms = loop->now_ms + settings->queue_timeout_ms;
    // A target may have got free before anybody waited. Behind others it would overtake them.
    if (pool_queue_len(queue) <= 1 && txn_take_target(txn, pool, choice) == POOL_PICKED) {
        txn_leave_queue(txn);
        return txn_go_on(txn);
    }
    stat_count(txn->proxy->stats, queued_total);
    txn->wait = WAIT_QUEUE;
    txn_arm(txn, settings->queue_timeout_ms);
    return STEP_WAIT;
}

// Connections of HTTP/2 are never idle, so never this worker's, as long as others on theirs have turns.
static void maybe_hold(struct txn *txn, uint64_t now_ms)
{
    uint64_t since_ms = txn->queued_at_ns / 1000000;
    uint64_t timeout_ms = txn->queue_due_ms - since_ms;
    if (txn->is_shut_out && now_ms - since_ms >= timeout_ms / HOLD_AFTER) {
        pool_queue_hold(txn->waiter, (unsigned)(timeout_ms / HOLD_FOR) + 1);
    }
}

bool txn_wait_again(struct txn *txn)
{
    if (txn->turn == NULL || proxy_queue_of(txn->pool) != txn->queue) {
        return false;
    }
    uint64_t now_ms = txn->proxy->loop->now_ms;
    pool_queue_again(txn->turn, txn->saw_all);
    txn->waiter = txn->turn;
    txn->turn = NULL;
    maybe_hold(txn, now_ms);
    txn->wait = WAIT_QUEUE;
    txn_arm(txn, txn->queue_due_ms > now_ms ? txn->queue_due_ms - now_ms : 0);
    return true;
}

static void end_wait(struct txn *txn)
{
    txn->queue_ns += txn->proxy->loop->now_ns - txn->queued_at_ns;
    txn->queue = NULL;
}

void txn_use_turn(struct txn *txn)
{
    if (txn->queue == NULL) {
        return;
    }
    struct pool_slot *slot = proxy_queue_of(txn->pool) == txn->queue ? txn->pool : NULL;
    txn->turn = NULL; // spent
    end_wait(txn);
    if (slot != NULL) {
        proxy_wake_queue(slot, txn->roll, txn->proxy->loop->now_ms);
    }
}

void txn_leave_queue(struct txn *txn)
{
    if (txn->queue == NULL) {
        return;
    }
    struct pool_slot *slot = proxy_queue_of(txn->pool) == txn->queue ? txn->pool : NULL;
    pool_queue_leave(&txn->waiter);
    pool_queue_leave(&txn->turn);
    end_wait(txn);
    if (slot != NULL) {
        proxy_wake_queue(slot, txn->roll, txn->proxy->loop->now_ms);
    }
}

enum step_result txn_queue_timeout(struct txn *txn)
{
    stat_count(txn->proxy->stats, queue_timeouts_total);
    return refuse(txn, END_QUEUE_TIMEOUT,
                  (unsigned)(txn->queue_due_ms - txn->queued_at_ns / 1000000));
}

// Who joins behind others does not look for itself, and a turn that came up before is not for it. So who is
// served, or leaves, looks for it: a pick that is given back at once is a turn for the oldest.
void proxy_wake_queue(struct pool_slot *slot, uint64_t random, uint64_t now_ms)
{
    const struct pool_queue *queue = proxy_queue_of(slot);
    if (queue == NULL || pool_queue_len(queue) == 0) {
        return;
    }
    const struct pool_version *pool = rcu_load(slot->current);
    const struct pool_choice choice = {.random = random, .now_ms = now_ms};
    struct pool_member *member;
    if (pool != NULL && pool_pick(pool, slot, &choice, &member) == POOL_PICKED) {
        pool_member_put(member);
    }
}
