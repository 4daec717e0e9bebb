// SPDX-License-Identifier: MIT
#include "upstream/limit_int.h"
#include <stdlib.h>

struct upstream_limit *upstream_limit_new(unsigned max)
{
    struct upstream_limit *limit = calloc(1, sizeof *limit);
    if (limit != NULL) {
        atomic_init(&limit->refs, 1);
        atomic_init(&limit->max, max);
    }
    return limit;
}

struct upstream_limit *upstream_limit_ref(struct upstream_limit *limit)
{
    // Relaxed: who refers to it has it already.
    atomic_fetch_add_explicit(&limit->refs, 1, memory_order_relaxed);
    return limit;
}

void upstream_limit_unref(struct upstream_limit **place)
{
    struct upstream_limit *limit = *place;
    *place = NULL;
    // Release and acquire: the last one sees what all others did.
    if (limit != NULL && atomic_fetch_sub_explicit(&limit->refs, 1, memory_order_acq_rel) == 1) {
        struct pool_queue *queue = atomic_load_explicit(&limit->queue, memory_order_relaxed);
        pool_queue_unref(&queue);
        free(limit);
    }
}

static void kick(struct upstream_limit *limit)
{
    struct pool_queue *queue = atomic_load_explicit(&limit->queue, memory_order_acquire);
    if (queue != NULL) {
        pool_queue_kick(queue);
    }
}

void upstream_limit_set_max(struct upstream_limit *limit, unsigned max)
{
    unsigned before = atomic_exchange_explicit(&limit->max, max, memory_order_seq_cst);
    struct pool_queue *queue = atomic_load_explicit(&limit->queue, memory_order_acquire);
    if (queue != NULL && before != 0 && (max == 0 || max > before)) {
        pool_queue_kick_all(queue);
    }
}

void upstream_limit_set_queue(struct upstream_limit *limit, struct pool_queue *queue)
{
    // Acquire and release: who finds it sees it whole.
    struct pool_queue *none = NULL;
    if (queue == NULL || atomic_load_explicit(&limit->queue, memory_order_acquire) != NULL) {
        return;
    }
    pool_queue_ref(queue);
    if (!atomic_compare_exchange_strong_explicit(&limit->queue, &none, queue, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        pool_queue_unref(&queue);
    }
}

unsigned upstream_limit_open(const struct upstream_limit *limit)
{
    return atomic_load_explicit(&limit->open, memory_order_relaxed);
}

unsigned upstream_limit_idle(const struct upstream_limit *limit)
{
    return atomic_load_explicit(&limit->idle, memory_order_relaxed);
}

bool upstream_limit_is_full(const struct upstream_limit *limit)
{
    unsigned max = atomic_load_explicit(&limit->max, memory_order_relaxed);
    return max != 0 && upstream_limit_open(limit) >= max && upstream_limit_idle(limit) == 0;
}

bool upstream_limit_is_h2(const struct upstream_limit *limit)
{
    return atomic_load_explicit(&limit->is_h2, memory_order_relaxed);
}

// ---- workers ----

// Seq_cst here and in give: who was turned away and then waits, and who gives and then looks who waits
// (queue.h), cannot both miss each other. Not counted first and given back: for that moment another
// worker would be turned away for nothing.
bool upstream_limit_take(struct upstream_limit *limit)
{
    unsigned open = atomic_load_explicit(&limit->open, memory_order_seq_cst);
    unsigned max = atomic_load_explicit(&limit->max, memory_order_seq_cst);
    while (max == 0 || open < max) {
        if (atomic_compare_exchange_weak_explicit(&limit->open, &open, open + 1,
                                                  memory_order_seq_cst, memory_order_seq_cst)) {
            return true;
        }
    }
    return false;
}

void upstream_limit_give(struct upstream_limit *limit)
{
    atomic_fetch_sub_explicit(&limit->open, 1, memory_order_seq_cst);
    kick(limit);
}

void upstream_limit_note_idle(struct upstream_limit *limit, bool is_idle)
{
    if (is_idle) {
        atomic_fetch_add_explicit(&limit->idle, 1, memory_order_seq_cst);
        kick(limit);
    } else {
        atomic_fetch_sub_explicit(&limit->idle, 1, memory_order_seq_cst);
    }
}

void upstream_limit_note_room(struct upstream_limit *limit)
{
    if (!upstream_limit_is_h2(limit)) {
        atomic_store_explicit(&limit->is_h2, true, memory_order_relaxed);
    }
    kick(limit);
}
