// SPDX-License-Identifier: MIT
#include "upstream/pool.h"
#include "base/invariant.h"
#include "loop/rcu.h"
#include "upstream/limit.h"
#include "upstream/pool_member.h"
#include "upstream/pool_view_int.h"
#include "upstream/queue.h"

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

// A route's one literal target.
static struct pool_member *pick_entry(const struct pool_version *pool,
                                      const struct pool_choice *choice)
{
    const struct pool_entry *entry = &pool->entries[0];
    if (pool->entry_count == 0 || entry->state != TARGET_UP || entry->weight == 0 ||
        choice->beside != NULL || was_tried(entry->member, choice->tried, choice->tried_count)) {
        return NULL;
    }
    // Relaxed: the version that was read keeps the member until the next quiescent state, and the control
    // thread looks at the count only after that.
    atomic_fetch_add_explicit(count_of(entry->member), 1, memory_order_relaxed);
    return entry->member;
}

// ---- over a view ----

static bool has_no_room(struct pool_member *member)
{
    const struct pool_target *target = pool_target_of(member);
    const struct upstream_limit *limit = target == NULL ? NULL : rcu_load(target->limit);
    return limit != NULL && upstream_limit_is_full(limit);
}

bool view_is_wanted(const struct picking *picking, struct pool_member *member)
{
    const struct pool_choice *choice = picking->choice;
    if (was_tried(member, choice->tried, choice->tried_count) ||
        (choice->needs_room && has_no_room(member))) {
        return false;
    }
    return choice->beside == NULL ||
           (pool_member_is_beside(choice->beside, member) &&
            pool_member_family(choice->beside) != pool_member_family(member));
}

bool view_claim(struct picking *picking, atomic_uint *count)
{
    if (picking->limit == 0) {
        atomic_fetch_add_explicit(count, 1, memory_order_relaxed); // as in claim_seen()
        return true;
    }
    // Never over the limit, not for a moment: nobody else is turned away for a request that is not there.
    unsigned now = atomic_load_explicit(count, memory_order_seq_cst);
    while (now < picking->limit) {
        if (atomic_compare_exchange_weak_explicit(count, &now, now + 1, memory_order_seq_cst,
                                                  memory_order_seq_cst)) {
            return true;
        }
    }
    picking->is_full = true;
    return false;
}

// The target of the cookie, if it may still be used.
static struct pool_member *pick_sticky(struct picking *picking)
{
    const struct pool_view *view = picking->view;
    uint64_t id = picking->choice->sticky;
    uint32_t low = 0;
    uint32_t high = view->known_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (view->known[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    struct pool_member *member = low < view->known_count ? view->known[low].member : NULL;
    return member != NULL && view->known[low].id == id && view_is_wanted(picking, member) &&
                   view_claim(picking, count_of(member))
               ? member
               : NULL;
}

static struct pool_member *pick_of_tier(struct picking *picking, enum balance balance,
                                        struct pool_slot *slot)
{
    if (picking->choice->beside != NULL) {
        return view_pick_least(picking);
    }
    switch (balance) {
    case BALANCE_ROUND_ROBIN:
        return view_pick_next(picking, &slot->cursor);
    case BALANCE_RANDOM_TWO:
        return view_pick_of_two(picking);
    case BALANCE_HASH:
        return picking->choice->has_hash ? view_pick_hashed(picking) : view_pick_least(picking);
    case BALANCE_LEAST_REQUESTS:
        break;
    }
    return view_pick_least(picking);
}

static enum pool_result pick_of_view(const struct pool_own *own, struct picking *picking,
                                     struct pool_slot *slot, struct pool_member **picked)
{
    struct pool_member *member = picking->choice->sticky == 0 ? NULL : pick_sticky(picking);
    picking->is_full = false; // the target of a cookie is not waited for: others are as good
    for (uint32_t i = 0; member == NULL && i < picking->view->tier_count; i++) {
        picking->tier = &picking->view->tiers[i];
        member = pick_of_tier(picking, (enum balance)own->settings.balance, slot);
    }
    *picked = member;
    return member != NULL ? POOL_PICKED : picking->is_full ? POOL_FULL : POOL_NONE;
}

enum pool_result pool_pick(const struct pool_version *pool, struct pool_slot *slot,
                           const struct pool_choice *choice, struct pool_member **picked)
{
    if (pool->own == NULL) {
        *picked = pick_entry(pool, choice);
        return *picked == NULL ? POOL_NONE : POOL_PICKED;
    }
    struct picking picking = {
        .view = rcu_load(pool->own->view),
        .choice = choice,
        .limit = pool->own->settings.requests_per_target,
    };
    return pick_of_view(pool->own, &picking, slot, picked);
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
    struct pool_target *target = pool_target_of(member);
    // Release: what was done with the member comes before its free (acquire in pool_member_requests).
    // Seq_cst: a waiter counts itself, then looks at the counts; here it is the other way round, so one of
    // the two sees the other.
    unsigned before = atomic_fetch_sub_explicit(count_of(member), 1, memory_order_seq_cst);
    INVARIANT(before > 0);
    if (target != NULL) {
        // The slot outlives the member, and this is the member's turn.
        struct pool_queue *queue = atomic_load_explicit(&target->slot->queue, memory_order_acquire);
        if (queue != NULL) {
            pool_queue_kick(queue);
        }
    }
}

void pool_member_failed(struct pool_member *member, const struct pool_settings *settings,
                        uint64_t now_ms)
{
    struct pool_target *target = pool_target_of(member);
    if (target == NULL || settings == NULL || settings->passive.max_fails == 0 ||
        target->slot->control == NULL) {
        return;
    }
    // Relaxed: two workers that begin a window at the same moment may lose a failure of it.
    uint64_t since = atomic_load_explicit(&target->fails_since_ms, memory_order_relaxed);
    if (now_ms > since && now_ms - since >= settings->passive.fail_timeout_ms &&
        atomic_compare_exchange_strong_explicit(&target->fails_since_ms, &since, now_ms,
                                                memory_order_relaxed, memory_order_relaxed)) {
        atomic_store_explicit(&target->fails, 0, memory_order_relaxed);
    }
    unsigned fails = atomic_fetch_add_explicit(&target->fails, 1, memory_order_relaxed) + 1;
    // Acquire: pairs with the release of control, which has done with the message. The request that failed is
    // still counted, so the target is there until control has got it.
    if (fails >= settings->passive.max_fails &&
        !atomic_exchange_explicit(&target->is_reported, true, memory_order_acquire)) {
        target->report.run = target->slot->on_report;
        loop_post(target->slot->control, &target->report);
    }
}
