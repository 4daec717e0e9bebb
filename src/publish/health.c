// SPDX-License-Identifier: MIT
// Who is followed, how they are rated, and when views are made anew.
#include "publish/health.h"
#include "base/clock.h"
#include "base/invariant.h"
#include "publish/health_int.h"

enum {
    REFRESH_BUDGET = 2000, // targets rated in one turn of the loop, and at least one pool
    RETRY_MS = 1000,       // after memory was out
    NAMES_MS = 5000,       // in which the names of a new pool are answered
};

uint64_t health_now_ms(const struct publisher *publisher)
{
    // The loop's clock is the same, read once a turn.
    return publisher->control != NULL ? publisher->control->now_ms
                                      : clock_monotonic_ns() / NS_PER_MS;
}

const struct pool_settings *health_settings(const struct named_pool *pool)
{
    return pool->slot.current == NULL ? NULL : pool_settings(pool->slot.current);
}

// ---- refreshing ----

static void on_refresh(struct loop *loop, struct loop_task *task)
{
    struct publisher *publisher = CONTAINER_OF(task, struct publisher, health.refresh);
    struct list now;
    list_init(&now);
    list_splice(&now, &publisher->health.dirty); // who is marked meanwhile waits for the next turn
    unsigned rated = 0;
    while (!list_is_empty(&now) && rated < REFRESH_BUDGET) {
        struct pool_health *health = LIST_FIRST(&now, struct pool_health, dirty);
        rated += health->target_count + 1;
        list_remove(&health->dirty);
        pool_refresh(publisher, CONTAINER_OF(health, struct named_pool, health));
    }
    list_splice(&publisher->health.dirty, &now);
    if (!list_is_empty(&publisher->health.dirty)) {
        loop_task_add(loop, task);
    }
}

void health_mark(struct publisher *publisher, struct named_pool *pool)
{
    if (pool->health.publisher == NULL) {
        return;
    }
    if (list_is_empty(&pool->health.dirty)) {
        list_append(&publisher->health.dirty, &pool->health.dirty);
    }
    if (publisher->control != NULL) {
        loop_task_add(publisher->control, &publisher->health.refresh);
    }
}

// ---- following ----

struct follow {
    struct publisher *publisher;
    struct named_pool *pool;
    const struct pool_settings *settings;
    uint64_t digest;
    bool has_others; // some served before
};

static bool is_serving(const struct target_health *health)
{
    return health->declared == TARGET_UP && health->state != HEALTH_DOWN && !health->is_ejected;
}

static bool has_serving(const struct named_pool *pool)
{
    LIST_FOR_EACH (node, &pool->health.targets) {
        if (is_serving(CONTAINER_OF(node, struct target_health, of_pool))) {
            return true;
        }
    }
    return false;
}

// Does a target that joins now find others at work? The first answers for the names of a new pool come one
// after the other, but belong together.
static bool is_late(const struct publisher *publisher, const struct pool_health *pool,
                    struct pool_member *member, bool has_others)
{
    return has_others && (pool_member_name(member) == NULL ||
                          health_now_ms(publisher) >= pool->since_ms + NAMES_MS);
}

static void add_target(struct named_pool *pool, struct pool_target *target)
{
    struct target_health *health = &target->health;
    // The last word that was told of a target that comes back is not true of it any more.
    *health = (struct target_health){.says_weight = -1, .is_followed = true};
    list_init(&health->node);
    loop_timer_init(&health->timer, NULL);
    list_append(&pool->health.targets, &health->of_pool);
    // Failures from before it left are not held against it.
    atomic_store_explicit(&target->fails, 0, memory_order_relaxed);
}

static void follow_member(void *context, struct pool_member *member, enum target_state declared)
{
    const struct follow *follow = context;
    struct pool_target *target = pool_target_of(member);
    if (target == NULL) {
        return;
    }
    struct target_health *health = &target->health;
    struct pool_health *of_pool = &follow->pool->health;
    bool is_new = !health->is_followed;
    if (is_new) {
        INVARIANT(target->pool == follow->pool);
        add_target(follow->pool, target);
    } else {
        of_pool->target_count -= health->declared != TARGET_DOWN;
    }
    of_pool->target_count += declared != TARGET_DOWN;
    bool is_joining = declared == TARGET_UP && (is_new || health->declared != TARGET_UP);
    if (is_joining) {
        health->is_late = is_late(follow->publisher, of_pool, member, follow->has_others);
    }
    health->declared = (uint8_t)declared;
    health->mark = of_pool->mark;
    if (!active_follow(follow->publisher, target, follow->settings, follow->digest, is_new)) {
        of_pool->is_incomplete = true;
    }
    if (is_joining && health->is_late && health->state == HEALTH_UP) {
        warm_begin(follow->publisher, target, follow->settings);
    }
}

static void settle_pool(struct publisher *publisher, struct named_pool *pool)
{
    struct pool_health *health = &pool->health;
    if (health->publisher == NULL) {
        health->publisher = publisher;
        health->since_ms = health_now_ms(publisher);
        list_init(&health->node);
        list_init(&health->dirty);
        list_init(&health->targets);
    }
}

void health_follow(struct publisher *publisher, struct named_pool *pool)
{
    struct pool_health *health = &pool->health;
    settle_pool(publisher, pool);
    struct follow follow = {.publisher = publisher,
                            .pool = pool,
                            .settings = health_settings(pool),
                            .has_others = has_serving(pool)};
    health->mark++;
    health->is_incomplete = false;
    if (follow.settings != NULL) {
        follow.digest = follow.settings->health.type == HEALTH_OFF
                            ? 0
                            : active_digest(publisher, follow.settings);
        pool_visit_live(pool, follow_member, &follow);
    }
    LIST_FOR_EACH_SAFE (node, &health->targets) {
        struct target_health *of = CONTAINER_OF(node, struct target_health, of_pool);
        if (of->mark != health->mark) {
            health_forget(publisher, &CONTAINER_OF(of, struct pool_target, health)->member);
        }
    }
    if (!list_is_empty(&health->targets) && list_is_empty(&health->node)) {
        list_append(&publisher->health.pools, &health->node);
    }
    if (health->is_incomplete && publisher->control != NULL) {
        loop_timer_set(publisher->control, &publisher->health.retry_timer, RETRY_MS);
    }
}

static void on_retry(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct publisher *publisher = CONTAINER_OF(timer, struct publisher, health.retry_timer);
    LIST_FOR_EACH_SAFE (node, &publisher->health.pools) {
        struct pool_health *health = CONTAINER_OF(node, struct pool_health, node);
        if (health->is_incomplete) {
            health_follow(publisher, CONTAINER_OF(health, struct named_pool, health));
        }
    }
}

// Nothing of it is live: what is told of a pool ends with its last target.
static void leave_pool(struct publisher *publisher, struct pool_health *health)
{
    list_remove(&health->node);
    publisher->health.panic_count -= health->is_panic;
    health->is_panic = false;
    health->is_incomplete = false;
}

void health_forget(struct publisher *publisher, struct pool_member *member)
{
    struct pool_target *target = pool_target_of(member);
    if (target == NULL || !target->health.is_followed) {
        return;
    }
    struct target_health *health = &target->health;
    struct pool_health *of_pool = &target->pool->health;
    active_end(publisher, target);
    passive_end(publisher, target);
    warm_end(target);
    list_remove(&health->of_pool);
    health->is_followed = false;
    of_pool->target_count -= health->declared != TARGET_DOWN;
    if (list_is_empty(&of_pool->targets)) {
        leave_pool(publisher, of_pool);
    }
}

void health_forget_pool(struct publisher *publisher, struct named_pool *pool)
{
    struct pool_health *health = &pool->health;
    if (health->publisher == NULL) {
        return;
    }
    LIST_FOR_EACH_SAFE (node, &health->targets) {
        struct target_health *of = CONTAINER_OF(node, struct target_health, of_pool);
        health_forget(publisher, &CONTAINER_OF(of, struct pool_target, health)->member);
    }
    leave_pool(publisher, health);
    list_remove(&health->dirty);
}

// ---- what follows from it ----

void health_rate(const struct publisher *publisher, const struct pool_settings *settings,
                 struct pool_candidate *candidate)
{
    const struct pool_target *target = pool_target_of(candidate->member);
    candidate->health = HEALTH_UP;
    candidate->warm = WARM_WHOLE;
    candidate->is_ejected = false;
    if (target == NULL || settings == NULL) {
        return;
    }
    const struct target_health *health = &target->health;
    bool is_checked = settings->health.type != HEALTH_OFF && publisher->health.prober != NULL;
    if (is_checked) {
        candidate->health = health->is_followed ? health->state : HEALTH_UNKNOWN;
    }
    bool is_joining = candidate->declared == TARGET_UP && // by the version that is being made
                      (!health->is_followed || health->declared != TARGET_UP);
    if (is_joining) {
        const struct named_pool *pool = target->pool;
        bool is_cold = settings->slow_start_ms > 0 && pool != NULL &&
                       pool->health.publisher != NULL &&
                       is_late(publisher, &pool->health, candidate->member, has_serving(pool));
        candidate->warm = is_cold ? WARM_FIRST : WARM_WHOLE;
    } else {
        candidate->warm = warm_share(settings, health, health_now_ms(publisher));
    }
    if (!health->is_followed) {
        return;
    }
    candidate->is_ejected = health->is_ejected;
    if (!is_checked) {
        return;
    }
    if (health->says_drain && candidate->declared == TARGET_UP) {
        candidate->declared = TARGET_DRAIN;
    }
    if (health->says_weight >= 0 && candidate->weight > 0) { // 0: an operator took it out
        candidate->weight = (uint32_t)health->says_weight;
    }
}

const char *health_text(const struct pool_target *target)
{
    const struct target_health *health = &target->health;
    if (health->probe != NULL && health->state == HEALTH_DOWN) {
        return "down";
    }
    if (health->is_ejected) {
        return "ejected";
    }
    if (health->probe == NULL) {
        return "none";
    }
    return health->state == HEALTH_UP ? "up" : "unknown";
}

void publisher_health(const struct publisher *publisher, struct publish_health_sum *sum)
{
    const struct health *health = &publisher->health;
    *sum = (struct publish_health_sum){
        .transitions = health->transitions,
        .ejections = health->ejections,
        .ejections_refused = health->ejections_refused,
        .targets_down = health->down_count,
        .targets_ejected = health->ejected_count,
        .pools_in_panic = health->panic_count,
        .names = publisher->names.count,
        .names_unresolved = health->unresolved_count,
    };
    if (health->prober != NULL) {
        prober_counts(health->prober, &sum->checks, &sum->check_failures);
    }
    if (publisher->resolver != NULL) {
        sum->dns_failures = resolver_failure_count(publisher->resolver);
        sum->dns_left_out = resolver_left_out_count(publisher->resolver);
    }
}

// ---- its life ----

void health_init(struct publisher *publisher)
{
    struct health *health = &publisher->health;
    list_init(&health->listeners);
    list_init(&health->pools);
    list_init(&health->dirty);
    list_init(&health->ejected);
    list_init(&health->warming);
    list_init(&health->trials);
    loop_task_init(&health->refresh, on_refresh);
    loop_timer_init(&health->warm_timer, warm_on_timer);
    loop_timer_init(&health->retry_timer, on_retry);
    loop_timer_init(&health->log_timer, health_on_log_timer);
}

void health_start(struct publisher *publisher)
{
    struct health *health = &publisher->health;
    if (!list_is_empty(&health->dirty)) {
        loop_task_add(publisher->control, &health->refresh);
    }
    LIST_FOR_EACH (node, &health->pools) {
        if (CONTAINER_OF(node, struct pool_health, node)->is_incomplete) {
            loop_timer_set(publisher->control, &health->retry_timer, RETRY_MS);
            break;
        }
    }
}

void health_stop(struct publisher *publisher)
{
    struct health *health = &publisher->health;
    trials_stop(publisher);
    loop_task_cancel(&health->refresh);
    loop_timer_cancel(publisher->control, &health->warm_timer);
    loop_timer_cancel(publisher->control, &health->retry_timer);
    loop_timer_cancel(publisher->control, &health->log_timer);
    LIST_FOR_EACH (node, &health->ejected) {
        struct target_health *of = CONTAINER_OF(node, struct target_health, node);
        loop_timer_cancel(publisher->control, &of->timer);
    }
    LIST_FOR_EACH (pool_node, &health->pools) {
        struct pool_health *of_pool = CONTAINER_OF(pool_node, struct pool_health, node);
        LIST_FOR_EACH (node, &of_pool->targets) {
            struct target_health *of = CONTAINER_OF(node, struct target_health, of_pool);
            if (of->probe != NULL) {
                probe_end(&of->probe);
            }
        }
    }
    health->prober = NULL; // it may be gone from now on
}

void health_fini(struct publisher *publisher)
{
    trials_free(publisher);
}
