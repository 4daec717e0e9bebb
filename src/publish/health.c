// SPDX-License-Identifier: MIT
// Who is followed, what is told, and when views are made anew.
#include "publish/health.h"
#include "base/clock.h"
#include "base/invariant.h"
#include "base/log.h"
#include "publish/health_int.h"
#include <arpa/inet.h>
#include <stdio.h>

enum {
    REFRESH_BUDGET = 2000, // targets rated in one turn of the loop, and at least one pool
    RETRY_MS = 1000,       // after memory was out
    LOG_MAX = 100,         // lines in LOG_MS
    LOG_MS = 1000,
};

uint64_t health_now_ms(const struct publisher *publisher)
{
    // The loop's clock is the same, read once a turn.
    return publisher->control != NULL ? publisher->control->now_ms
                                      : clock_monotonic_ns() / NS_PER_MS;
}

static uint64_t now_unix_ms(const struct publisher *publisher)
{
    uint64_t ns = publisher->control != NULL ? publisher->control->real_ns : clock_real_ns();
    return ns / NS_PER_MS;
}

const struct pool_settings *health_settings(const struct named_pool *pool)
{
    return pool->slot.current == NULL ? NULL : pool_settings(pool->slot.current);
}

// ---- telling ----

static bool is_bad_news(const char *state)
{
    static const char *const bad[] = {"down", "ejected", "panic", "unresolved"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (strcmp(state, bad[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void on_log_timer(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct health *health = CONTAINER_OF(timer, struct health, log_timer);
    if (health->left_out > 0) {
        log_warning("%llu more changes of targets were not logged",
                    (unsigned long long)health->left_out);
    }
    health->logged = 0;
    health->left_out = 0;
}

// A thousand targets that fail together are a thousand events, but not as many lines.
static void write_line(struct publisher *publisher, const struct publish_health_event *event)
{
    struct health *health = &publisher->health;
    if (publisher->control != NULL && !loop_timer_is_set(&health->log_timer)) {
        loop_timer_set(publisher->control, &health->log_timer, LOG_MS);
    }
    if (++health->logged > LOG_MAX && publisher->control != NULL) {
        health->left_out++;
        return;
    }
    enum log_level level = is_bad_news(event->state) ? LOG_WARNING : LOG_INFO;
    if (event->target.len == 0) {
        log_message(level, "pool %.*s: %s: %s", STR_ARG(event->pool), event->state, event->reason);
    } else {
        log_message(level, "pool %.*s: %.*s: %s: %s", STR_ARG(event->pool), STR_ARG(event->target),
                    event->state, event->reason);
    }
}

static void tell(struct publisher *publisher, struct publish_health_event *event)
{
    event->unix_ms = now_unix_ms(publisher);
    write_line(publisher, event);
    LIST_FOR_EACH_SAFE (node, &publisher->health.listeners) {
        struct publish_health_listener *listener =
            CONTAINER_OF(node, struct publish_health_listener, node);
        listener->on_event(listener, event);
    }
}

// As declared; of a name with the address that is meant.
static size_t write_target(struct pool_member *member, char *to, size_t size)
{
    size_t len = pool_member_show(member, to, size);
    struct sockaddr_storage address;
    socklen_t address_len;
    char host[INET6_ADDRSTRLEN];
    if (pool_member_name(member) == NULL || !pool_member_address(member, &address, &address_len)) {
        return len;
    }
    const void *bytes = address.ss_family == AF_INET6
                            ? (const void *)&((const struct sockaddr_in6 *)&address)->sin6_addr
                            : (const void *)&((const struct sockaddr_in *)&address)->sin_addr;
    if (inet_ntop(address.ss_family, bytes, host, sizeof host) == NULL) {
        return len;
    }
    int more = snprintf(to + len, size - len, " (%s)", host);
    return more > 0 && (size_t)more < size - len ? len + (size_t)more : len;
}

void health_tell(struct publisher *publisher, struct named_pool *pool, struct pool_target *target,
                 const char *state, const char *reason)
{
    char text[POOL_MEMBER_TEXT_MAX + INET6_ADDRSTRLEN + 16];
    struct publish_health_event event = {
        .pool = pool->slot.name, .target = STR(""), .state = state, .reason = reason};
    if (target != NULL) {
        event.target = str_make(text, write_target(&target->member, text, sizeof text));
    }
    tell(publisher, &event);
}

void health_changed(struct publisher *publisher, struct pool_target *target, const char *state,
                    const char *reason)
{
    struct target_health *health = &target->health;
    health->changed_unix_ms = now_unix_ms(publisher);
    if (reason != health->reason) {
        str_copy(health->reason, sizeof health->reason, str_from_c(reason));
    }
    health_tell(publisher, target->pool, target, state, health->reason);
    health_mark(publisher, target->pool);
}

void health_name(struct publisher *publisher, struct str pool, struct str name, const char *error)
{
    struct publish_health_event event = {
        .pool = pool,
        .target = name,
        .state = error == NULL ? "resolved" : "unresolved",
        .reason = error == NULL ? "it has an address" : error,
    };
    tell(publisher, &event);
}

void health_seen(struct publisher *publisher, struct named_pool *pool,
                 const struct pool_view_facts *facts)
{
    struct pool_health *health = &pool->health;
    if (health->publisher == NULL || list_is_empty(&health->targets) ||
        health->is_panic == facts->is_panic) {
        return;
    }
    health->is_panic = facts->is_panic;
    char reason[HEALTH_REASON_MAX];
    if (facts->is_panic) {
        publisher->health.panic_count++;
        snprintf(reason, sizeof reason, "%u of %u targets are ejected: ejections are ignored",
                 health->ejected_count, health->target_count);
    } else {
        publisher->health.panic_count--;
        snprintf(reason, sizeof reason, "%u of %u targets are ejected", health->ejected_count,
                 health->target_count);
    }
    health_tell(publisher, pool, NULL, facts->is_panic ? "panic" : "calm", reason);
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
    if (pool->health.publisher == NULL || list_is_empty(&pool->health.targets)) {
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
    health->declared = (uint8_t)declared;
    health->mark = of_pool->mark;
    if (!active_follow(follow->publisher, target, follow->settings, follow->digest, is_new)) {
        of_pool->is_incomplete = true;
    }
    if (is_new && follow->has_others && health->probe == NULL && declared == TARGET_UP) {
        warm_begin(follow->publisher, target, follow->settings);
    }
}

static void settle_pool(struct publisher *publisher, struct named_pool *pool)
{
    struct pool_health *health = &pool->health;
    if (health->publisher == NULL) {
        health->publisher = publisher;
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
        follow.digest = active_digest(publisher, follow.settings);
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
    list_remove(&health->dirty);
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
}

// ---- what follows from it ----

void health_rate(const struct publisher *publisher, const struct pool_settings *settings,
                 struct pool_candidate *candidate)
{
    const struct pool_target *target = pool_target_of(candidate->member);
    candidate->health = HEALTH_UP;
    candidate->warm = 1000;
    candidate->is_ejected = false;
    if (target == NULL || settings == NULL) {
        return;
    }
    const struct target_health *health = &target->health;
    bool is_checked = settings->health.type != HEALTH_OFF && publisher->health.prober != NULL;
    if (is_checked) {
        candidate->health = health->is_followed ? health->state : HEALTH_UNKNOWN;
    }
    if (!health->is_followed) { // of a version that is being made
        bool is_late = target->pool != NULL && target->pool->health.publisher != NULL &&
                       has_serving(target->pool);
        candidate->warm = !is_checked && is_late && settings->slow_start_ms > 0 ? 100 : 1000;
        return;
    }
    candidate->is_ejected = health->is_ejected;
    candidate->warm = warm_share(settings, health, health_now_ms(publisher));
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

void publisher_listen_health(struct publisher *publisher, struct publish_health_listener *listener)
{
    list_append(&publisher->health.listeners, &listener->node);
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
    loop_timer_init(&health->log_timer, on_log_timer);
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
