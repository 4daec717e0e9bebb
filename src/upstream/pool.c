// SPDX-License-Identifier: MIT
#include "upstream/pool.h"
#include "base/invariant.h"
#include "upstream/target.h"

// Where a member's requests are counted.
static atomic_uint *count_of(struct pool_member *member)
{
    struct pool_target *target = pool_target_of(member);
    return target == NULL ? &member->inflight : target->count;
}

static bool was_tried(const struct pool_member *member, struct pool_member *const *tried,
                      unsigned tried_count)
{
    for (unsigned i = 0; i < tried_count; i++) {
        if (tried[i] == member) {
            return true;
        }
    }
    return false;
}

static bool may_pick(const struct pool_entry *entry, struct pool_member *const *tried,
                     unsigned tried_count)
{
    return entry->state == TARGET_UP && entry->weight > 0 &&
           !was_tried(entry->member, tried, tried_count);
}

// The smallest (inflight + 1) / weight from `start` on; of equal ones the first.
static struct pool_member *find_least(const struct pool_version *pool, unsigned start,
                                      struct pool_member *const *tried, unsigned tried_count)
{
    struct pool_member *best = NULL;
    uint64_t best_load = 0;
    uint64_t best_weight = 1;
    unsigned at = start;
    for (unsigned i = 0; i < pool->entry_count; i++) {
        const struct pool_entry *entry = &pool->entries[at];
        at = at + 1 < pool->entry_count ? at + 1 : 0;
        if (!may_pick(entry, tried, tried_count)) {
            continue;
        }
        // Relaxed: a count, nothing else is read through it.
        uint64_t load =
            (uint64_t)atomic_load_explicit(count_of(entry->member), memory_order_relaxed) + 1;
        // load / weight < best_load / best_weight; 33 + 16 bits do not overflow.
        if (best == NULL || load * best_weight < best_load * entry->weight) {
            best = entry->member;
            best_load = load;
            best_weight = entry->weight;
        }
    }
    return best;
}

// The entry whose shares hold `share`.
static const struct pool_entry *find_share(const struct pool_version *pool, uint32_t share)
{
    unsigned low = 0;
    unsigned high = pool->entry_count - 1u;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (pool->entries[middle].until <= share) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return &pool->entries[low];
}

// Smooth weighted round robin without a table: step k takes share (k * stride) mod total. The stride is
// coprime to the total, so each round visits every share once; it is near the golden section of it, so
// the shares of one entry come evenly spread.
static struct pool_member *find_next(const struct pool_version *pool, atomic_uint *cursor,
                                     struct pool_member *const *tried, unsigned tried_count)
{
    uint32_t total = pool->entries[pool->entry_count - 1].until;
    if (total == 0) {
        return NULL;
    }
    for (unsigned attempt = 0; attempt <= tried_count; attempt++) {
        // Relaxed: only that each worker gets another number.
        uint32_t step = atomic_fetch_add_explicit(cursor, 1, memory_order_relaxed);
        uint32_t share = (uint32_t)((uint64_t)(step % total) * pool->stride % total);
        const struct pool_entry *entry = find_share(pool, share);
        if (!was_tried(entry->member, tried, tried_count)) {
            return entry->member;
        }
    }
    return find_least(pool, 0, tried, tried_count); // a heavy one that was tried keeps coming
}

enum pool_result pool_pick(const struct pool_version *pool, struct pool_slot *slot,
                           const struct pool_choice *choice, struct pool_member **picked)
{
    struct pool_member *member = NULL;
    if (pool->entry_count > 0 && pool->balance == BALANCE_ROUND_ROBIN && slot != NULL) {
        member = find_next(pool, &slot->cursor, choice->tried, choice->tried_count);
    } else if (pool->entry_count > 0) {
        unsigned start = (unsigned)((choice->random >> 32) * pool->entry_count >> 32);
        member = find_least(pool, start, choice->tried, choice->tried_count);
    }
    *picked = member;
    if (member == NULL) {
        return POOL_NONE;
    }
    // Relaxed: the version that was read keeps the member until the next quiescent state, and
    // the control thread looks at the count only after that.
    atomic_fetch_add_explicit(count_of(member), 1, memory_order_relaxed);
    return POOL_PICKED;
}

unsigned pool_member_requests(const struct pool_member *member)
{
    const atomic_uint *count = member->is_bare
                                   ? &member->inflight
                                   : CONTAINER_OF(member, const struct pool_target, member)->count;
    // Acquire: pairs with the release in pool_member_put().
    return atomic_load_explicit(count, memory_order_acquire);
}

void pool_member_unpick(struct pool_member *member)
{
    unsigned before = atomic_fetch_sub_explicit(count_of(member), 1, memory_order_seq_cst);
    INVARIANT(before > 0);
}

void pool_member_put(struct pool_member *member)
{
    // Release: what was done with the member comes before its free (acquire in pool_member_requests).
    unsigned before = atomic_fetch_sub_explicit(count_of(member), 1, memory_order_release);
    INVARIANT(before > 0);
}
