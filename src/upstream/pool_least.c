// SPDX-License-Identifier: MIT
// Least requests: the smallest (requests + 1) / weight of all members, looked at one by one from a random
// start, so that equal ones are taken evenly and workers seldom meet at the same one.
#include "upstream/pool_view_int.h"

enum {
    MEET_MAX = 3,  // times that another worker may be faster, before the second best is good enough
    RUN_STEP = 4,  // counts compared at a time
    LOOK_MAX = 16, // with a limit: each time somebody was faster and it was full
};

// The smallest of counts that lie one after the other, if it is below `least`: its index, else UINT32_MAX.
static uint32_t find_in_run(const atomic_uint *counts, uint32_t count, unsigned *least)
{
    uint32_t found = UINT32_MAX;
    unsigned best = *least;
    uint32_t at = 0;
    for (; at + RUN_STEP <= count && best > 0; at += RUN_STEP) {
        unsigned a = view_load(&counts[at]);
        unsigned b = view_load(&counts[at + 1]);
        unsigned c = view_load(&counts[at + 2]);
        unsigned d = view_load(&counts[at + 3]);
        unsigned of_two = a < b ? a : b;
        unsigned of_others = c < d ? c : d;
        unsigned all = of_two < of_others ? of_two : of_others;
        if (all < best) {
            best = all;
            found = at + (a == all ? 0 : b == all ? 1 : c == all ? 2 : 3);
        }
    }
    for (; at < count && best > 0; at++) {
        unsigned one = view_load(&counts[at]);
        if (one < best) {
            best = one;
            found = at;
        }
    }
    *least = best;
    return found;
}

// Nobody is excluded and nobody is heavier: the smallest count.
static uint32_t find_even(const struct pool_view *view, uint32_t first, uint32_t end,
                          unsigned *least)
{
    uint32_t found = first;
    uint32_t at = first;
    while (at < end && *least != 0) {
        uint32_t stop = view->runs[at] < end ? view->runs[at] : end;
        uint32_t best = find_in_run(view->counts[at], stop - at, least);
        found = best == UINT32_MAX ? found : at + best;
        at = stop;
    }
    return found;
}

// The best of the tier, with the count that was seen; UINT32_MAX: nobody.
static uint32_t find_least_even(const struct picking *picking, uint32_t start, unsigned *seen)
{
    const struct view_tier *tier = picking->tier;
    uint32_t end = tier->first + tier->count;
    *seen = UINT32_MAX;
    uint32_t found = find_even(picking->view, start, end, seen);
    if (*seen > 0 && start > tier->first) {
        unsigned before = *seen;
        uint32_t other = find_even(picking->view, tier->first, start, seen);
        found = *seen < before ? other : found;
    }
    return found;
}

static uint32_t find_least(struct picking *picking, uint32_t start, unsigned *seen)
{
    const struct view_tier *tier = picking->tier;
    const struct pool_view *view = picking->view;
    uint32_t found = UINT32_MAX;
    uint64_t best_load = 0;
    uint64_t best_weight = 1;
    uint32_t at = start;
    for (uint32_t i = 0; i < tier->count; i++, at++) {
        at = at == tier->first + tier->count ? tier->first : at;
        uint64_t load = (uint64_t)view_count(view, at) + 1;
        // load / weight < best_load / best_weight; 33 + 26 bits do not overflow.
        if (found != UINT32_MAX && load * best_weight >= best_load * view->weights[at]) {
            continue;
        }
        if (!view_is_wanted(picking, view->members[at])) {
            continue;
        }
        if (picking->limit != 0 && load > picking->limit) {
            picking->is_full = true;
            continue;
        }
        found = at;
        best_load = load;
        best_weight = view->weights[at];
        *seen = (unsigned)(load - 1);
        if (load == 1 && best_weight == tier->weight_max) {
            break; // nobody is better
        }
    }
    return found;
}

// Only if nobody came since it was looked at; one that went makes it no worse.
static bool claim_seen(atomic_uint *count, unsigned seen)
{
    unsigned now = seen;
    // Relaxed: the view keeps the member until the next quiescent state, and control looks at the count
    // only after that.
    while (!atomic_compare_exchange_weak_explicit(count, &now, now + 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
        if (now > seen) {
            return false;
        }
    }
    return true;
}

struct pool_member *view_pick_least(struct picking *picking)
{
    const struct pool_view *view = picking->view;
    const struct view_tier *tier = picking->tier;
    const struct pool_choice *choice = picking->choice;
    uint32_t start = tier->first + (uint32_t)((choice->random >> 32) * tier->count >> 32);
    bool is_plain =
        tier->is_even && choice->tried_count == 0 && choice->beside == NULL && !choice->needs_room;
    for (unsigned look = 0; look < LOOK_MAX; look++) {
        unsigned seen = 0;
        uint32_t at =
            is_plain ? find_least_even(picking, start, &seen) : find_least(picking, start, &seen);
        if (at == UINT32_MAX) {
            return NULL;
        }
        if (picking->limit != 0 && seen >= picking->limit) {
            break; // the emptiest one is full
        }
        // Exact: another worker has come meanwhile, and somebody else may be better now.
        if (claim_seen(view->counts[at], seen) ||
            (look >= MEET_MAX && view_claim(picking, view->counts[at]))) {
            return view->members[at];
        }
    }
    picking->is_full = true;
    return NULL;
}
