// SPDX-License-Identifier: MIT
// Who may be picked: candidates are rated one by one, then sorted into tiers.
#include "upstream/pool_view_int.h"
#include <stdlib.h>

enum { WARM_DONE = 1000 };

// What becomes of a candidate.
enum rating {
    RATED_OUT,
    RATED_STICKY, // for requests that stick to it alone
    RATED_NEAR,
    RATED_FAR,
    RATED_BACKUP,
};

// Of the candidates of one kind: backups, or all others.
struct kind {
    unsigned up;      // checked and not ejected
    unsigned ejected; // of those that are not DOWN and not passed over as unknown
    unsigned left;    // the same, not ejected
    bool is_panic;
};

struct ratings {
    const struct pool_settings *settings;
    const struct pool_candidate *candidates;
    unsigned count;
    struct kind kinds[2]; // [is_backup]
    unsigned near_usable;
    unsigned near_declared;
    bool is_one_tier; // near and far
};

// By its declaration.
static bool is_declared(const struct pool_candidate *candidate)
{
    return candidate->declared == TARGET_UP && candidate->weight > 0;
}

// Unknown ones wait while others are known to be up.
static bool is_held_back(const struct ratings *ratings, const struct pool_candidate *candidate)
{
    return candidate->health == HEALTH_UNKNOWN && ratings->kinds[candidate->is_backup].up > 0;
}

static void look_at_kinds(struct ratings *ratings)
{
    struct kind *kinds = ratings->kinds;
    for (unsigned i = 0; i < ratings->count; i++) {
        const struct pool_candidate *candidate = &ratings->candidates[i];
        kinds[candidate->is_backup].up +=
            is_declared(candidate) && candidate->health == HEALTH_UP && !candidate->is_ejected;
    }
    for (unsigned i = 0; i < ratings->count; i++) {
        const struct pool_candidate *candidate = &ratings->candidates[i];
        if (is_declared(candidate) && candidate->health != HEALTH_DOWN &&
            !is_held_back(ratings, candidate)) {
            kinds[candidate->is_backup].ejected += candidate->is_ejected;
            kinds[candidate->is_backup].left += !candidate->is_ejected;
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        uint64_t all = (uint64_t)kinds[i].left + kinds[i].ejected;
        kinds[i].is_panic = kinds[i].ejected > 0 &&
                            (uint64_t)kinds[i].left * 100 < ratings->settings->panic_percent * all;
    }
}

static bool is_alive(const struct ratings *ratings, const struct pool_candidate *candidate)
{
    return candidate->health != HEALTH_DOWN &&
           (!candidate->is_ejected || ratings->kinds[candidate->is_backup].is_panic);
}

static bool is_usable(const struct ratings *ratings, const struct pool_candidate *candidate)
{
    return is_declared(candidate) && is_alive(ratings, candidate) &&
           !is_held_back(ratings, candidate);
}

static void look_at_zones(struct ratings *ratings)
{
    for (unsigned i = 0; i < ratings->count; i++) {
        const struct pool_candidate *candidate = &ratings->candidates[i];
        if (!candidate->is_backup && !candidate->is_far) {
            ratings->near_declared += is_declared(candidate);
            ratings->near_usable += is_usable(ratings, candidate);
        }
    }
    ratings->is_one_tier = ratings->near_usable == 0 ||
                           (uint64_t)ratings->near_usable * 100 <
                               (uint64_t)ratings->settings->panic_percent * ratings->near_declared;
}

static enum rating rate(const struct ratings *ratings, const struct pool_candidate *candidate)
{
    if (is_usable(ratings, candidate)) {
        return candidate->is_backup                         ? RATED_BACKUP
               : candidate->is_far && !ratings->is_one_tier ? RATED_FAR
                                                            : RATED_NEAR;
    }
    bool is_draining = candidate->declared == TARGET_DRAIN ||
                       (candidate->declared == TARGET_UP && candidate->weight == 0);
    return is_draining && is_alive(ratings, candidate) && ratings->settings->sticky.stays
               ? RATED_STICKY
               : RATED_OUT;
}

// ---- the view itself ----

static void *carve(char **at, size_t len)
{
    void *piece = *at;
    *at += (len + 7) / 8 * 8;
    return piece;
}

// One block: the struct and its arrays.
static struct pool_view *make_view(const struct pool_settings *settings, size_t usable,
                                   size_t known)
{
    bool is_robin = settings->balance == BALANCE_ROUND_ROBIN;
    bool is_hash = settings->balance == BALANCE_HASH;
    size_t len = sizeof(struct pool_view) + known * sizeof(struct view_known) +
                 usable * (2 * sizeof(void *) + 3 * sizeof(uint32_t)) +
                 (is_hash ? usable * sizeof(struct view_draw) : 0) + 64;
    struct pool_view *view = calloc(1, len);
    if (view == NULL) {
        return NULL;
    }
    char *at = (char *)(view + 1);
    view->counts = carve(&at, usable * sizeof(atomic_uint *));
    view->members = carve(&at, usable * sizeof(struct pool_member *));
    view->known = carve(&at, known * sizeof(struct view_known));
    view->draws = is_hash ? carve(&at, usable * sizeof(struct view_draw)) : NULL;
    view->runs = carve(&at, usable * sizeof(uint32_t));
    view->weights = carve(&at, usable * sizeof(uint32_t));
    view->untils = is_robin ? carve(&at, usable * sizeof(uint32_t)) : NULL;
    return view;
}

static void add_entry(struct pool_view *view, uint32_t at, const struct pool_candidate *candidate)
{
    struct pool_target *target = pool_target_of(candidate->member);
    uint16_t warm = candidate->warm < WARM_DONE ? candidate->warm : WARM_DONE;
    uint32_t weight = candidate->weight < UINT16_MAX ? candidate->weight : UINT16_MAX;
    view->counts[at] = target == NULL ? &candidate->member->inflight : target->count;
    view->members[at] = candidate->member;
    view->weights[at] = weight * (warm > 0 ? warm : 1);
    if (view->draws != NULL) {
        uint64_t id = target == NULL ? at : target->id;
        view->draws[at] =
            (struct view_draw){.id = id, .factor = id * UINT64_C(0x9e3779b97f4a7c15) | 1};
    }
}

static void end_tier(struct pool_view *view, uint32_t first, uint32_t end)
{
    if (end == first) {
        return;
    }
    struct view_tier *tier = &view->tiers[view->tier_count++];
    *tier = (struct view_tier){.first = first, .count = end - first, .is_even = true, .stride = 1};
    uint32_t run = end;
    for (uint32_t at = end; at > first; at--) {
        if (at < end && view->counts[at] != view->counts[at - 1] + 1) {
            run = at;
        }
        view->runs[at - 1] = run;
    }
    for (uint32_t at = first; at < end; at++) {
        tier->weights += view->weights[at];
        tier->is_even = tier->is_even && view->weights[at] == view->weights[first];
        tier->weight_max =
            view->weights[at] > tier->weight_max ? view->weights[at] : tier->weight_max;
    }
    if (view->untils != NULL) {
        view_fill_shares(view, tier);
    }
}

static int compare_ids(const void *a, const void *b)
{
    const struct view_known *one = a;
    const struct view_known *other = b;
    return (one->id > other->id) - (one->id < other->id);
}

static void fill_view(struct pool_view *view, const struct ratings *ratings, const uint8_t *rated)
{
    static const enum rating order[] = {RATED_NEAR, RATED_FAR, RATED_BACKUP};
    uint32_t at = 0;
    for (unsigned tier = 0; tier < VIEW_TIER_MAX; tier++) {
        uint32_t first = at;
        for (unsigned i = 0; i < ratings->count; i++) {
            if (rated[i] == order[tier]) {
                add_entry(view, at++, &ratings->candidates[i]);
            }
        }
        end_tier(view, first, at);
    }
    if (ratings->settings->sticky.cookie.len == 0) {
        return;
    }
    for (unsigned i = 0; i < ratings->count; i++) {
        struct pool_target *target = pool_target_of(ratings->candidates[i].member);
        if (rated[i] != RATED_OUT && target != NULL) {
            view->known[view->known_count++] =
                (struct view_known){.id = target->id, .member = &target->member};
        }
    }
    qsort(view->known, view->known_count, sizeof view->known[0], compare_ids);
}

struct pool_view *pool_view_new(const struct pool_settings *settings,
                                const struct pool_candidate *candidates, unsigned count,
                                struct pool_view_facts *facts)
{
    struct ratings ratings = {.settings = settings, .candidates = candidates, .count = count};
    uint8_t few[64];
    uint8_t *rated = count <= sizeof few ? few : malloc(count);
    if (rated == NULL) {
        return NULL;
    }
    look_at_kinds(&ratings);
    look_at_zones(&ratings);
    *facts = (struct pool_view_facts){.is_panic =
                                          ratings.kinds[0].is_panic || ratings.kinds[1].is_panic};
    unsigned sticky = 0;
    for (unsigned i = 0; i < count; i++) {
        rated[i] = (uint8_t)rate(&ratings, &candidates[i]);
        sticky += rated[i] == RATED_STICKY;
        facts->usable += rated[i] != RATED_OUT && rated[i] != RATED_STICKY;
        facts->declared += is_declared(&candidates[i]) && !candidates[i].is_backup;
    }
    size_t known = settings->sticky.cookie.len > 0 ? (size_t)facts->usable + sticky : 0;
    struct pool_view *view = make_view(settings, facts->usable, known);
    if (view != NULL) {
        fill_view(view, &ratings, rated);
    }
    if (rated != few) {
        free(rated);
    }
    return view;
}

void pool_view_free(void *view)
{
    free(view);
}
