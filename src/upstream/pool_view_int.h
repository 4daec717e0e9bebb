// SPDX-License-Identifier: MIT
// Inside a view, and how one member of it is chosen. Immutable once published, but for the members.
#pragma once
#include "upstream/pool_view.h"

enum { VIEW_TIER_MAX = 3 };

// Those that are as good as each other: a range of the view's arrays.
struct view_tier {
    uint32_t first;
    uint32_t count;      // > 0
    uint64_t weights;    // their sum
    uint32_t weight_max; // of its members
    bool is_even;        // all weights are the same
    uint32_t stride;     // round robin: how far to go at each pick
};

// What a member's draws are made of, from its id.
struct view_draw {
    uint64_t id;
    uint64_t factor;
};

// Whom a sticky request may go to, sorted by id.
struct view_known {
    uint64_t id;
    struct pool_member *member;
};

// What can be picked is kept as arrays, one place a member, tier after tier: a scan reads no more than it
// needs.
struct pool_view {
    atomic_uint **counts;
    uint32_t *runs; // where the members end whose counts lie one after the other
    struct pool_member **members;
    uint32_t *weights;       // declared weight times `warm`; only their ratios matter
    uint32_t *untils;        // round robin (NULL else): shares of the tier up to and with this one
    struct view_draw *draws; // hash (NULL else)
    struct view_known *known;
    uint32_t known_count;
    uint32_t tier_count;
    struct view_tier tiers[VIEW_TIER_MAX];
};

// One choice under way.
struct picking {
    const struct pool_view *view;
    const struct view_tier *tier;
    const struct pool_choice *choice;
    unsigned limit; // requests a member may have; 0: no bound
    bool is_full;   // somebody was passed over for being at the limit
};

// These claim a member (its request is counted) and return it; NULL: nobody of the tier. Worker, in an RCU section.
struct pool_member *view_pick_least(struct picking *picking);
struct pool_member *view_pick_next(struct picking *picking, atomic_uint *cursor);
struct pool_member *view_pick_of_two(struct picking *picking);
struct pool_member *view_pick_hashed(struct picking *picking);

// Seq_cst as pool_queue_kick() asks for; no dearer than another load on x86.
static inline unsigned view_load(const atomic_uint *count)
{
    return atomic_load_explicit(count, memory_order_seq_cst);
}

static inline unsigned view_count(const struct pool_view *view, uint32_t at)
{
    return view_load(view->counts[at]);
}

// Not tried yet, and a neighbour where one is wanted.
bool view_is_wanted(const struct picking *picking, struct pool_member *member);
// Counts one request unless the limit is reached (then `is_full`).
bool view_claim(struct picking *picking, atomic_uint *count);

// pool_robin.c: the tier's stride and its members' `untils`. Control.
void view_fill_shares(struct pool_view *view, struct view_tier *tier);
