// SPDX-License-Identifier: MIT
// Two at random, the better of them: latency * (requests + 1) / weight.
//
// Latency is a peak EWMA: a slower answer counts at once, faster ones bring it down with time; what is idle is
// forgiven with time too, or nobody would look at it again.
#include "upstream/pool_view_int.h"

#define LATENCY_MAX (UINT64_C(1) << 46) // ns: 19 hours

enum {
    HALF_LIFE_MS = 7000, // a weight of 1/e after 10 s
    DRAW_MAX = 4,        // for each of the two, while those drawn are full or tried
};

// What is left of `value` after a time: value / 2^x, with 2^-x as 1 - 0.68 x + 0.18 x^2 between the halves.
static uint64_t decay(uint64_t value, uint64_t age_ms)
{
    uint64_t halves = age_ms / HALF_LIFE_MS;
    if (halves >= 63) {
        return 0;
    }
    value >>= halves;
    // In 16 bits a millisecond still counts; 46 + 15 bits at most.
    uint64_t part = (age_ms % HALF_LIFE_MS << 16) / HALF_LIFE_MS;
    uint64_t lost = part * (44564 - (11796 * part >> 16)) >> 16;
    return value - (value * lost >> 16);
}

static uint64_t age_of(const struct pool_target *target, uint64_t now_ms)
{
    uint64_t at_ms = atomic_load_explicit(&target->latency_at_ms, memory_order_relaxed);
    return now_ms > at_ms ? now_ms - at_ms : 0;
}

void pool_member_answered(struct pool_member *member, uint64_t ns, uint64_t now_ms)
{
    struct pool_target *target = pool_target_of(member);
    if (target == NULL) {
        return;
    }
    // Relaxed, and not one step: of two answers at the same moment one may be lost, which is one
    // sample of many.
    uint64_t before = atomic_load_explicit(&target->latency_ns, memory_order_relaxed);
    uint64_t latency = ns < LATENCY_MAX ? ns : LATENCY_MAX;
    if (ns < before) {
        latency = ns + decay(before - ns, age_of(target, now_ms));
    }
    atomic_store_explicit(&target->latency_ns, latency, memory_order_relaxed);
    atomic_store_explicit(&target->latency_at_ms, now_ms, memory_order_relaxed);
}

// 0: not known.
static uint64_t latency_of(struct pool_member *member, unsigned requests, uint64_t now_ms)
{
    const struct pool_target *target = pool_target_of(member);
    if (target == NULL) {
        return 0;
    }
    uint64_t latency = atomic_load_explicit(&target->latency_ns, memory_order_relaxed);
    // With requests under way it is not idle: silence forgives nothing.
    return requests > 0 || now_ms == 0 ? latency : decay(latency, age_of(target, now_ms));
}

// A member that may be picked, not `other`; UINT32_MAX: none was drawn.
static uint32_t draw(struct picking *picking, uint64_t *random, uint32_t other)
{
    const struct pool_view *view = picking->view;
    const struct view_tier *tier = picking->tier;
    for (unsigned i = 0; i < DRAW_MAX; i++) {
        *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint32_t at = tier->first + (uint32_t)((*random >> 32) * tier->count >> 32);
        if (at != other && view_is_wanted(picking, view->members[at]) &&
            (picking->limit == 0 || view_count(view, at) < picking->limit)) {
            return at;
        }
    }
    return UINT32_MAX;
}

static bool is_better(const struct picking *picking, uint32_t a, uint32_t b)
{
    const struct pool_view *view = picking->view;
    unsigned of_a = view_count(view, a);
    unsigned of_b = view_count(view, b);
    uint64_t latency_a = latency_of(view->members[a], of_a, picking->choice->now_ms);
    uint64_t latency_b = latency_of(view->members[b], of_b, picking->choice->now_ms);
    if (latency_a == 0 || latency_b == 0) {
        // One that never answered: asked when it is idle, else taken to be like the other.
        if (latency_a != latency_b && (latency_a == 0 ? of_a : of_b) == 0) {
            return latency_a == 0;
        }
        latency_a = latency_b = 1;
    }
    return (double)latency_a * ((double)of_a + 1) * view->weights[b] <
           (double)latency_b * ((double)of_b + 1) * view->weights[a];
}

struct pool_member *view_pick_of_two(struct picking *picking)
{
    const struct pool_view *view = picking->view;
    uint64_t random = picking->choice->random;
    uint32_t a = draw(picking, &random, UINT32_MAX);
    uint32_t b = a == UINT32_MAX ? a : draw(picking, &random, a);
    if (b != UINT32_MAX) {
        if (is_better(picking, b, a)) {
            uint32_t best = b;
            b = a;
            a = best;
        }
        if (view_claim(picking, view->counts[a])) {
            return view->members[a];
        }
        if (view_claim(picking, view->counts[b])) {
            return view->members[b];
        }
    }
    return view_pick_least(picking);
}
