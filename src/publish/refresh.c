// SPDX-License-Identifier: MIT
// Views: whom workers may pick, from what is declared (parts), answered (sets) and known (health).
#include "base/invariant.h"
#include "publish/health.h"
#include "upstream/queue.h"
#include <stdlib.h>

enum { RETRY_MS = 100 }; // after memory was out

// The members that stand for a part, now (`is_newest`) or in the version's view.
static struct pool_member *const *members_of(const struct pool_part *part, bool is_newest,
                                             unsigned *count)
{
    const struct name_set *set = part->set;
    if (part->name == NULL) {
        *count = 1;
        return &part->member;
    }
    if (is_newest) {
        set = part->name->set;
    }
    *count = set == NULL ? 0 : set->count;
    return set == NULL ? NULL : set->members;
}

void version_visit(const struct pool_own_version *version,
                   void (*visit)(void *context, struct pool_member *member,
                                 const struct pool_part *part),
                   void *context)
{
    for (unsigned i = 0; i < version->part_count; i++) {
        unsigned count;
        struct pool_member *const *members = members_of(&version->parts[i], false, &count);
        for (unsigned k = 0; k < count; k++) {
            visit(context, members[k], &version->parts[i]);
        }
    }
}

struct visit_live {
    void (*call)(void *context, struct pool_member *member, enum target_state declared);
    void *context;
};

static void visit_one(void *context, struct pool_member *member, const struct pool_part *part)
{
    const struct visit_live *visit = context;
    visit->call(visit->context, member, (enum target_state)part->declared);
}

void pool_visit_live(struct named_pool *pool,
                     void (*visit)(void *context, struct pool_member *member,
                                   enum target_state declared),
                     void *context)
{
    if (pool->slot.current != NULL && !pool->is_ended) {
        struct visit_live all = {.call = visit, .context = context};
        version_visit(live_version(pool), visit_one, &all);
    }
}

static bool reserve_candidates(struct publisher *publisher, unsigned count)
{
    if (count <= publisher->candidate_size) {
        return true;
    }
    unsigned size = publisher->candidate_size == 0 ? 64 : publisher->candidate_size;
    while (size < count) {
        size *= 2;
    }
    void *candidates = realloc(publisher->candidates, size * sizeof *publisher->candidates);
    if (candidates == NULL) {
        return false;
    }
    publisher->candidates = candidates;
    publisher->candidate_size = size;
    return true;
}

struct pool_view *make_view(struct publisher *publisher, struct pool_own_version *version)
{
    unsigned total = 0;
    unsigned count;
    for (unsigned i = 0; i < version->part_count; i++) {
        (void)members_of(&version->parts[i], true, &count);
        total += count;
    }
    if (!reserve_candidates(publisher, total)) {
        return NULL;
    }
    struct pool_candidate *candidate = publisher->candidates;
    const struct pool_settings *settings = &version->own.settings;
    for (unsigned i = 0; i < version->part_count; i++) {
        const struct pool_part *part = &version->parts[i];
        struct pool_member *const *members = members_of(part, true, &count);
        for (unsigned k = 0; k < count; k++) {
            *candidate = (struct pool_candidate){
                .member = members[k],
                .weight = part->weight,
                .warm = 1000,
                .declared = part->declared,
                .health = HEALTH_UP,
                .is_backup = part->is_backup,
                .is_far = part->is_far,
            };
            health_rate(publisher, settings, candidate++);
        }
    }
    return pool_view_new(settings, publisher->candidates, total, &version->facts);
}

// With room for the sets that the new view has no more.
static struct old_view *make_old_view(struct pool_own_version *version)
{
    unsigned count = 0;
    for (unsigned i = 0; i < version->part_count; i++) {
        const struct pool_part *part = &version->parts[i];
        count += part->name != NULL && part->set != part->name->set;
    }
    struct old_view *old = malloc(sizeof *old + count * sizeof old->sets[0]);
    if (old != NULL) {
        old->set_count = 0;
    }
    return old;
}

static void swap_sets(struct pool_own_version *version, struct old_view *old)
{
    for (unsigned i = 0; i < version->part_count; i++) {
        struct pool_part *part = &version->parts[i];
        if (part->name == NULL || part->set == part->name->set) {
            continue;
        }
        old->sets[old->set_count++] = part->set;
        part->set = part->name->set;
        if (part->set != NULL) {
            part->set->refs++;
        }
    }
}

// The version gets a view of what is known now. What it had before, or NULL: out of memory.
static struct old_view *replace_view(struct publisher *publisher, const struct named_pool *pool,
                                     struct pool_own_version *version)
{
    struct old_view *old = make_old_view(version);
    struct pool_view *view = old == NULL ? NULL : make_view(publisher, version);
    if (view == NULL) {
        free(old);
        return NULL;
    }
    old->view = version->own.view;
    swap_sets(version, old);
    rcu_publish(version->own.view, view);
    version->changes = pool->changes;
    return old;
}

static bool prepare_limits(const struct pool_own_version *version)
{
    for (unsigned i = 0; i < version->part_count; i++) {
        const struct pool_part *part = &version->parts[i];
        unsigned count;
        struct pool_member *const *members = members_of(part, true, &count);
        for (unsigned k = 0; k < count; k++) {
            if (!prepare_limit(members[k], part->max_connections)) {
                return false;
            }
        }
    }
    return true;
}

void version_renew(struct publisher *publisher, struct named_pool *pool,
                   struct pool_own_version *version)
{
    if (version->changes == pool->changes || !prepare_limits(version)) {
        return;
    }
    struct old_view *old = replace_view(publisher, pool, version);
    if (old != NULL) {
        old_view_free(publisher, pool, old);
    }
}

static void refresh_later(struct publisher *publisher, struct named_pool *pool)
{
    if (list_is_empty(&pool->dirty)) {
        list_append(&publisher->dirty, &pool->dirty);
    }
    retry_later(publisher);
}

// Somebody may be there for those who wait; or nobody any more, and they are told at once.
void wake_waiters(struct named_pool *pool)
{
    struct pool_queue *queue = atomic_load_explicit(&pool->slot.queue, memory_order_relaxed);
    // Who joins counts itself first and then picks: it picks from what was published, or is seen here.
    atomic_thread_fence(memory_order_seq_cst);
    if (queue != NULL) {
        pool_queue_kick_all(queue);
    }
}

void pool_refresh(struct publisher *publisher, struct named_pool *pool)
{
    pool->changes++; // what is prepared now is old
    if (pending_look(pool)) {
        return;
    }
    if (pool->slot.current == NULL || pool->is_ended) {
        return;
    }
    struct pool_own_version *version = live_version(pool);
    struct retirement *retired = retirement_new();
    struct old_view *old = retired == NULL ? NULL : replace_view(publisher, pool, version);
    if (old == NULL) {
        retirement_free(&retired);
        refresh_later(publisher, pool);
        return;
    }
    wake_waiters(pool);
    bool has_other_members = old->set_count > 0;
    retired->kind = RETIRED_VIEW;
    retired->object.view = old;
    retired->named = pool;
    pool->holds++;
    retire(publisher, &retired);
    list_remove(&pool->dirty);
    health_seen(publisher, pool, &version->facts);
    if (has_other_members) {
        health_follow(publisher, pool);
    }
}

void old_view_free(struct publisher *publisher, struct named_pool *pool, struct old_view *old)
{
    pool_view_free(old->view);
    for (unsigned i = 0; i < old->set_count; i++) {
        set_unref(publisher, pool, old->sets[i], publisher->is_ending);
    }
    free(old);
}

void retry_later(struct publisher *publisher)
{
    if (publisher->control != NULL && !loop_timer_is_set(&publisher->retry)) {
        loop_timer_set(publisher->control, &publisher->retry, RETRY_MS);
    }
}

void refresh_dirty(struct publisher *publisher)
{
    struct list dirty;
    list_init(&dirty);
    list_splice(&dirty, &publisher->dirty);
    while (!list_is_empty(&dirty)) {
        struct named_pool *pool = LIST_FIRST(&dirty, struct named_pool, dirty);
        list_remove(&pool->dirty);
        pool_refresh(publisher, pool);
    }
}
