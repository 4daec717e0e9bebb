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
    SUM_STEP = 64,     // counts between two looks at the sum
    LOAD_FLOOR = 4,    // requests that a member may always have
    LOAD_QUARTERS = 5, // of the average share
};

static const double LN2 = 0.6931471805599453;

// Uniform in its upper bits: a product with a factor of the member's own (multiply-shift hashing).
static uint64_t draw(uint64_t key, const struct view_draw *of)
{
    return (key ^ of->id) * of->factor;
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

// The best draw below `last`. It is set to that draw.
static uint32_t find_even(const struct picking *picking, uint64_t key, uint64_t *last)
{
    const struct view_tier *tier = picking->tier;
    const struct view_draw *draws = picking->view->draws + tier->first;
    uint32_t found = UINT32_MAX;
    uint64_t bound = *last;
    uint64_t top = 0;
    for (uint32_t i = 0; i < tier->count; i++) {
        uint64_t number = draw(key, &draws[i]);
        if (number >= top && number < bound) {
            top = number;
            found = tier->first + i;
        }
    }
    *last = top;
    return found;
}

// The best draw whose rate is above `last`. It is set to that rate.
static uint32_t find_weighted(const struct picking *picking, uint64_t key, double *last)
{
    const struct view_tier *tier = picking->tier;
    const struct pool_view *view = picking->view;
    uint32_t found = UINT32_MAX;
    double best = 1e300;
    for (uint32_t at = tier->first; at < tier->first + tier->count; at++) {
        uint64_t number = draw(key, &view->draws[at]);
        // -ln(u) >= 1 - u: most are out without a logarithm.
        double floor = (double)(int64_t)(~number >> 11) * 0x1p-53;
        if (floor >= best * view->weights[at]) {
            continue;
        }
        double rate = rate_draw(number) / view->weights[at];
        if (rate < best && rate > *last) {
            found = at;
            best = rate;
        }
    }
    *last = best;
    return found;
}

// Requests under way, of the tier: at least `enough`, or all.
static uint64_t sum_requests(const struct picking *picking, uint64_t enough)
{
    const struct pool_view *view = picking->view;
    uint32_t end = picking->tier->first + picking->tier->count;
    uint64_t sum = 0;
    for (uint32_t at = picking->tier->first; at < end && sum < enough;) {
        uint32_t stop = view->runs[at] < end ? view->runs[at] : end;
        stop = stop - at > SUM_STEP ? at + SUM_STEP : stop;
        const atomic_uint *counts = view->counts[at];
        for (uint32_t i = 0; i < stop - at; i++) {
            sum += view_load(&counts[i]);
        }
        at = stop;
    }
    return sum;
}

// One more is at most ceil(1.25 * (requests + 1) * weight / weights).
static bool has_room(const struct picking *picking, uint32_t at)
{
    uint64_t wanted = (uint64_t)view_count(picking->view, at) + 1;
    if (wanted <= LOAD_FLOOR) {
        return true;
    }
    // The other way round: how many are needed for that. In doubles nothing overflows, and at the border
    // either answer is right.
    double needed = (double)(wanted - 1) * 4 / LOAD_QUARTERS * (double)picking->tier->weights /
                        (double)picking->view->weights[at] -
                    1;
    uint64_t enough = (uint64_t)needed + 1; // more than that, not as many
    return sum_requests(picking, enough) >= enough;
}

struct pool_member *view_pick_hashed(struct picking *picking)
{
    const struct pool_view *view = picking->view;
    uint64_t key = picking->choice->hash;
    uint64_t last_draw = UINT64_MAX;
    double last_rate = 0;
    unsigned draws = DRAW_MAX + picking->choice->tried_count;
    for (unsigned i = 0; i < draws && i < picking->tier->count; i++) {
        uint32_t at = picking->tier->is_even ? find_even(picking, key, &last_draw)
                                             : find_weighted(picking, key, &last_rate);
        if (at == UINT32_MAX) {
            break;
        }
        if (view_is_wanted(picking, view->members[at]) && has_room(picking, at) &&
            view_claim(picking, view->counts[at])) {
            return view->members[at];
        }
    }
    return view_pick_least(picking);
}
