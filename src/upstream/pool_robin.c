// SPDX-License-Identifier: MIT
// Smooth weighted round robin without a table of turns: step k takes share (k * stride) mod total. The
// stride is coprime to the total, so each round visits every share once; it is near the golden section of it,
// so the shares of one member come evenly spread.
#include "upstream/pool_view_int.h"

enum {
    STRIDE_SEARCH = 64, // strides to each side that are looked at
    TURN_MAX = 4, // turns of members that are full or tried, before the next best one is searched
};

static uint32_t find_gcd(uint32_t a, uint32_t b)
{
    while (b != 0) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

// How unevenly the multiples of stride/total spread: the sum of its continued fraction's terms (the
// smaller, the lower their discrepancy), or UINT32_MAX where they do not visit every share.
static uint32_t rate_stride(uint32_t stride, uint32_t total)
{
    uint32_t sum = 0;
    uint32_t a = total;
    uint32_t b = stride;
    while (b != 0) {
        uint32_t rest = a % b;
        sum += a / b;
        a = b;
        b = rest;
    }
    return a == 1 ? sum : UINT32_MAX;
}

// The best stride near the golden section of the total.
static uint32_t find_stride(uint32_t total)
{
    uint32_t middle = (uint32_t)((double)total * 0.6180339887498949);
    uint32_t best = 1;
    uint32_t best_rate = UINT32_MAX;
    for (uint32_t off = 0; off <= STRIDE_SEARCH && off <= middle; off++) {
        for (unsigned side = 0; side < 2; side++) {
            uint32_t stride = side == 0 ? middle - off : middle + off;
            uint32_t rate = stride > 0 && stride < total ? rate_stride(stride, total) : UINT32_MAX;
            if (rate < best_rate) {
                best = stride;
                best_rate = rate;
            }
        }
    }
    return best;
}

void view_fill_shares(struct pool_view *view, struct view_tier *tier)
{
    uint32_t common = 0;
    uint64_t sum = 0;
    for (uint32_t at = tier->first; at < tier->first + tier->count; at++) {
        common = find_gcd(view->weights[at], common);
        sum += view->weights[at];
    }
    // Weights in slow start are large and have little in common: their total is kept within 31 bits.
    uint64_t unit = sum / common >> 31 == 0 ? common : (sum >> 30) + 1;
    uint32_t total = 0;
    for (uint32_t at = tier->first; at < tier->first + tier->count; at++) {
        uint32_t share = (uint32_t)(view->weights[at] / unit);
        total += share > 0 ? share : 1;
        view->untils[at] = total;
    }
    tier->stride = tier->is_even ? 1 : find_stride(total);
}

// Whose shares hold `share`.
static uint32_t find_share(const struct pool_view *view, const struct view_tier *tier,
                           uint32_t share)
{
    uint32_t low = tier->first;
    uint32_t high = tier->first + tier->count - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (view->untils[middle] <= share) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct pool_member *view_pick_next(struct picking *picking, atomic_uint *cursor)
{
    const struct pool_view *view = picking->view;
    const struct view_tier *tier = picking->tier;
    uint32_t total = view->untils[tier->first + tier->count - 1];
    for (unsigned turn = 0; turn <= picking->choice->tried_count + TURN_MAX; turn++) {
        // Relaxed: only that each worker gets another number.
        uint32_t step = atomic_fetch_add_explicit(cursor, 1, memory_order_relaxed);
        uint32_t share = (uint32_t)((uint64_t)(step % total) * tier->stride % total);
        uint32_t at = find_share(view, tier, share);
        if (view_is_wanted(picking, view->members[at]) && view_claim(picking, view->counts[at])) {
            return view->members[at];
        }
    }
    return view_pick_least(picking); // a heavy one that was tried keeps coming
}
