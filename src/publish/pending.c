// SPDX-License-Identifier: MIT
// A version whose targets are all names that nobody has answered for yet: what it would replace serves until
// the first answer, or that there is none, or a second after they were first asked for. However often another
// one takes its place: a second after the first of them was to replace it.
//
//   prepared ─► published? ── waits ──► pool->pending ── an answer, the timer ──► published, followed
//                    └── need not ──► at once           └ the next version of the pool ──► dropped
#include "base/clock.h"
#include "publish/health.h"
#include <stdlib.h>

enum { PENDING_MS = 1000 };

struct pending_version {
    struct loop_timer timer;
    struct publisher *publisher;
    struct named_pool *pool; // held
    struct pool_own_version *version;
    struct retirement *retired; // for the version that it replaces
    uint64_t since_ms;          // loop time since when that one is to be replaced
};

static bool has_member(const struct pool_part *part)
{
    return part->name == NULL ? part->member != NULL : part->name->set != NULL;
}

// Is somebody there for new requests? Who is only drained has nothing to serve on for.
static bool is_serving(const struct pool_own_version *version)
{
    for (unsigned i = 0; i < version->part_count; i++) {
        const struct pool_part *part = &version->parts[i];
        if (part->declared == TARGET_UP && part->weight > 0 && has_member(part)) {
            return true;
        }
    }
    return false;
}

// Loop time until which it is to wait; 0: it is not.
static uint64_t waits_until(const struct pool_own_version *version)
{
    uint64_t until_ms = 0;
    for (unsigned i = 0; i < version->part_count; i++) {
        const struct pool_part *part = &version->parts[i];
        if (has_member(part)) {
            return 0;
        }
        const struct watched_name *watched = part->name == NULL ? NULL : part->name->watched;
        if (watched == NULL || name_has_failed(watched)) {
            continue;
        }
        if (watched->since_ms + PENDING_MS > until_ms) {
            until_ms = watched->since_ms + PENDING_MS;
        }
    }
    return until_ms;
}

struct pending_version *pending_new(const struct publisher *publisher,
                                    const struct pool_own_version *version)
{
    bool may_wait = publisher->control != NULL && waits_until(version) > 0;
    // Without memory it does not wait.
    return may_wait ? calloc(1, sizeof(struct pending_version)) : NULL;
}

void pending_free(struct pending_version **place)
{
    free(*place);
    *place = NULL;
}

// Out of its pool: its version is the live one now.
static void publish_pending(struct pending_version *pending)
{
    struct publisher *publisher = pending->publisher;
    struct named_pool *pool = pending->pool;
    pool->pending = NULL;
    loop_timer_cancel(publisher->control, &pending->timer);
    version_renew(publisher, pool, pending->version); // workers find no moment without targets
    version_swap(publisher, pool, pending->version, &pending->retired);
    version_follow(publisher, pool);
    free(pending);
    pool_unhold(publisher, pool);
}

// Until when `pending` is to wait.
static uint64_t ends_at(const struct pending_version *pending)
{
    uint64_t until_ms = waits_until(pending->version);
    uint64_t last_ms = pending->since_ms + PENDING_MS;
    return until_ms < last_ms ? until_ms : last_ms;
}

// Very many may have waited for one name: they are published as they are refreshed, some in each turn.
static void on_timer(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct pending_version *pending = CONTAINER_OF(timer, struct pending_version, timer);
    health_mark(pending->publisher, pending->pool);
}

bool pending_begin(struct publisher *publisher, struct pending_version **place,
                   struct named_pool *pool, struct pool_own_version *version,
                   struct retirement **retired)
{
    if (*place == NULL || *retired == NULL || publisher->control == NULL) {
        return false;
    }
    // Of one that is new in the same revision, and not yet followed, nobody was served.
    if (pool->slot.current == NULL || pool->is_ended || pool->health.publisher == NULL ||
        !is_serving(live_version(pool))) {
        return false;
    }
    uint64_t now_ms = publisher->control->now_ms;
    struct pending_version *pending = *place;
    pending->version = version;
    pending->since_ms = pool->pending == NULL ? now_ms : pool->pending->since_ms;
    uint64_t until_ms = ends_at(pending);
    if (until_ms <= now_ms) {
        return false;
    }
    pending_drop(pool);
    *place = NULL;
    pending->publisher = publisher;
    pending->pool = pool;
    pending->retired = *retired;
    *retired = NULL;
    pool->pending = pending;
    pool->holds++;
    loop_timer_init(&pending->timer, on_timer);
    loop_timer_set(publisher->control, &pending->timer, until_ms - now_ms);
    return true;
}

bool pending_look(struct named_pool *pool)
{
    struct pending_version *pending = pool->pending;
    if (pending == NULL || ends_at(pending) > pending->publisher->control->now_ms) {
        return false;
    }
    publish_pending(pending);
    return true;
}

void pending_drop(struct named_pool *pool)
{
    struct pending_version *pending = pool->pending;
    if (pending == NULL) {
        return;
    }
    struct publisher *publisher = pending->publisher;
    pool->pending = NULL;
    loop_timer_cancel(publisher->control, &pending->timer);
    // Nobody has seen it, but members of an answer may be some that were there before, with requests.
    drop_pool(publisher, pool, pending->version, false);
    retirement_free(&pending->retired);
    free(pending);
    pool_unhold(publisher, pool);
}

void pendings_drop(struct publisher *publisher)
{
    LIST_FOR_EACH_SAFE (node, &publisher->all_pools) {
        pending_drop(CONTAINER_OF(node, struct named_pool, node_of_all));
    }
}

const struct pool_own_version *newest_version(const struct named_pool *pool)
{
    return pool->pending != NULL        ? pool->pending->version
           : pool->slot.current == NULL ? NULL
                                        : live_version(pool);
}
