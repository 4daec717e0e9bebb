// SPDX-License-Identifier: MIT
// Consistent hashing: each member draws a number from the key and its own id, and the best draw wins
// (weighted rendezvous: with weight w the draw is -ln(u) / w, the smallest wins). So shares are those of the
// weights, a new member takes its share and moves nothing else, and the keys of one that is gone go each to
// its second best: the same on all nodes, from nothing but ids and weights.
//
// Bounded load: a member with more than 1.25 times its share of what is under way is passed over.
#include "upstream/pool_view_int.h"

enum {
    DRAW_MAX = 8,      // best draws that are tried before the least loaded member is taken
    LOAD_FLOOR = 4,    // requests that a member may always have
    LOAD_QUARTERS = 5, // of the average share
};

static const double LN2 = 0.6931471805599453;

// Uniform in 64 bits: the two halves of a product, which all bits of both ids go into.
static uint64_t draw(uint64_t key, uint64_t id)
{
    unsigned __int128 product =
        (unsigned __int128)(key ^ id) * (id * UINT64_C(0x9e3779b97f4a7c15) | 1);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

// ln(x) of 0 < x <= 1, to 8 digits; own arithmetic, so that all nodes agree whatever their libc.
static double find_log(double x)
{
    int exponent = 0;
    union {
        double value;
        uint64_t bits;
    } number = {.value = x};
    exponent = (int)(number.bits >> 52) - 1023;
    number.bits = (number.bits & UINT64_C(0xfffffffffffff)) | UINT64_C(0x3ff0000000000000);
    if (number.value > 1.4142135623730951) {
        number.value /= 2;
        exponent++;
    }
    double s = (number.value - 1) / (number.value + 1);
    double square = s * s;
    double series =
        1 + square * (1.0 / 3 + square * (1.0 / 5 + square * (1.0 / 7 + square * (1.0 / 9))));
    return 2 * s * series + exponent * LN2;
}

// Of a number drawn, in (0, 1).
static double rate_draw(uint64_t number)
{
    return -find_log(((double)(int64_t)(number >> 11) + 0.5) * 0x1p-53);
}

struct best {
    uint32_t at; // UINT32_MAX: none
    double rate;
};

// The best draw behind `after` (a rate).
static struct best find_even(const struct picking *picking, uint64_t key, struct best after,
                             uint64_t *last)
{
    const struct view_tier *tier = picking->tier;
    const uint64_t *ids = picking->view->ids;
    struct best best = {.at = UINT32_MAX};
    uint64_t top = 0;
    bool is_first = after.at == UINT32_MAX;
    for (uint32_t at = tier->first; at < tier->first + tier->count; at++) {
        uint64_t number = draw(key, ids[at]);
        if ((number > top || best.at == UINT32_MAX) && (is_first || number < *last)) {
            top = number;
            best.at = at;
        }
    }
    *last = top;
    return best;
}

static struct best find_weighted(const struct picking *picking, uint64_t key, struct best after)
{
    const struct view_tier *tier = picking->tier;
    const struct pool_view *view = picking->view;
    struct best best = {.at = UINT32_MAX, .rate = 1e300};
    bool is_first = after.at == UINT32_MAX;
    for (uint32_t at = tier->first; at < tier->first + tier->count; at++) {
        uint64_t number = draw(key, view->ids[at]);
        // -ln(u) >= 1 - u: most are out without a logarithm.
        double floor = (double)(int64_t)(~number >> 11) * 0x1p-53;
        if (floor >= best.rate * view->weights[at]) {
            continue;
        }
        double rate = rate_draw(number) / view->weights[at];
        if (rate < best.rate && (is_first || rate > after.rate)) {
            best = (struct best){.at = at, .rate = rate};
        }
    }
    return best;
}

struct load {
    uint64_t requests; // under way, of the tier
    uint64_t weights;
    bool is_known;
};

static bool has_room(const struct picking *picking, uint32_t at, struct load *load)
{
    const struct view_tier *tier = picking->tier;
    const struct pool_view *view = picking->view;
    uint64_t wanted = (uint64_t)view_count(view, at) + 1;
    if (wanted <= LOAD_FLOOR) {
        return true;
    }
    if (!load->is_known) {
        load->is_known = true;
        for (uint32_t i = tier->first; i < tier->first + tier->count; i++) {
            load->requests += view_count(view, i);
            load->weights += view->weights[i];
        }
    }
    // wanted <= ceil(1.25 * (requests + 1) * weight / weights), in doubles: nothing overflows, and at the
    // border either answer is right.
    double share = (double)LOAD_QUARTERS / 4 * (double)(load->requests + 1) *
                   (double)view->weights[at] / (double)load->weights;
    return (double)wanted < share + 1;
}

struct pool_member *view_pick_hashed(struct picking *picking)
{
    const struct pool_view *view = picking->view;
    uint64_t key = picking->choice->hash;
    struct load load = {0};
    struct best best = {.at = UINT32_MAX};
    uint64_t last = 0;
    unsigned draws = DRAW_MAX + picking->choice->tried_count;
    for (unsigned i = 0; i < draws && i < picking->tier->count; i++) {
        best = picking->tier->is_even ? find_even(picking, key, best, &last)
                                      : find_weighted(picking, key, best);
        if (best.at == UINT32_MAX) {
            break;
        }
        if (view_is_wanted(picking, view->members[best.at]) && has_room(picking, best.at, &load) &&
            view_claim(picking, view->counts[best.at])) {
            return view->members[best.at];
        }
    }
    return view_pick_least(picking);
}
