// SPDX-License-Identifier: MIT
// The message by which a worker that is at a limit has idle connections of others closed. It goes from
// worker to worker, until as many were closed as were asked for, or all were asked.
#include "upstream/limit_int.h"
#include "upstream/upstream_int.h"

static bool begin_round(struct upstream_limit *limit)
{
    // An exchange, so that what the round before wrote is seen; pairs with the one in go_round().
    if (atomic_exchange_explicit(&limit->is_under_way, true, memory_order_seq_cst)) {
        return false;
    }
    limit->wanted = atomic_exchange_explicit(&limit->asked, 0, memory_order_seq_cst);
    return true;
}

// To the next worker; false: all were asked, or no more is needed.
static bool pass_on(struct upstream_limit *limit)
{
    struct upstream_peers *peers = limit->peers;
    while (limit->wanted > 0 && limit->hops > 0) {
        limit->hops--;
        limit->at = (limit->at + 1) % peers->count;
        struct upstream *next = peers->items[limit->at];
        if (next != NULL) {
            loop_post(next->loop, &limit->round);
            return true;
        }
    }
    return false;
}

static void go_round(struct upstream_limit *limit)
{
    do {
        limit->hops = limit->peers->count;
        if (pass_on(limit)) {
            return;
        }
        (void)atomic_exchange_explicit(&limit->is_under_way, false, memory_order_seq_cst);
        // Whoever asked in between relied on this round.
    } while (atomic_load_explicit(&limit->asked, memory_order_seq_cst) > 0 && begin_round(limit));
    upstream_limit_unref(&limit);
}

static void run_round(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct upstream_limit *limit = CONTAINER_OF(message, struct upstream_limit, round);
    struct upstream *upstream = limit->peers->items[limit->at];
    while (limit->wanted > 0 && upstream != NULL && upstream_close_idle(upstream, limit)) {
        limit->wanted--;
    }
    if (pass_on(limit)) {
        return;
    }
    limit->wanted = 0;
    go_round(limit);
}

void upstream_limit_recall(struct upstream_limit *limit, struct upstream_peers *peers,
                           const struct upstream *self)
{
    if (peers == NULL || peers->count < 2 ||
        atomic_load_explicit(&limit->idle, memory_order_seq_cst) == 0) {
        return;
    }
    atomic_fetch_add_explicit(&limit->asked, 1, memory_order_seq_cst);
    if (!begin_round(limit)) {
        return;
    }
    limit->peers = peers;
    limit->round.run = run_round;
    limit->at = 0;
    for (unsigned i = 0; i < peers->count; i++) {
        limit->at = peers->items[i] == self ? i : limit->at; // the others first
    }
    upstream_limit_ref(limit);
    go_round(limit);
}
