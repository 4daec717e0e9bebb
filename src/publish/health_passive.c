// SPDX-License-Identifier: MIT
// Failures of requests. A worker that has counted passive.max_fails of them reports the target; here it is
// ejected, if the pool has room for one more:
//
//   report ─► ejected ── base_time * 2^(in a row - 1), at most max_time ──► returned
//                 └───── `rise` good checks in a row that began after it ───►
//
// The streak of ejections goes back by one for each quiet minute (or base_time, if that is longer).
#include "publish/health_int.h"
#include <stdio.h>

enum { QUIET_MS = 60000, STREAK_MAX = 32 };

// May one more be ejected? At most eject.max_percent of the pool, but one of two or more.
static bool has_room(const struct pool_health *pool, const struct pool_settings *settings)
{
    if (pool->target_count < 2 || settings->eject_max_percent == 0) {
        return false;
    }
    uint64_t most = (uint64_t)pool->target_count * settings->eject_max_percent / 100;
    return pool->ejected_count < (most > 0 ? most : 1);
}

// The time of the next ejection, which counts itself.
static uint64_t next_time_ms(struct target_health *health, const struct pool_settings *settings,
                             uint64_t now_ms)
{
    uint64_t base = settings->eject_base_ms > 0 ? settings->eject_base_ms : 1;
    uint64_t most = settings->eject_max_ms > base ? settings->eject_max_ms : base;
    uint64_t quiet = base > QUIET_MS ? base : QUIET_MS;
    uint64_t back = health->ejections == 0 ? 0 : (now_ms - health->returned_ms) / quiet;
    health->ejections -= back < health->ejections ? (unsigned)back : health->ejections;
    health->ejections += health->ejections < STREAK_MAX;
    uint64_t time = base;
    for (unsigned i = 1; i < health->ejections && time < most; i++) {
        time *= 2;
    }
    return time < most ? time : most;
}

static void clear_fails(struct pool_target *target)
{
    atomic_store_explicit(&target->fails, 0, memory_order_relaxed);
    atomic_store_explicit(&target->fails_since_ms, 0, memory_order_relaxed);
}

void passive_end(struct publisher *publisher, struct pool_target *target)
{
    struct target_health *health = &target->health;
    if (!health->is_ejected) {
        return;
    }
    health->is_ejected = false;
    health->returned_ms = health_now_ms(publisher);
    health->good = 0;
    list_remove(&health->node);
    loop_timer_cancel(publisher->control, &health->timer);
    publisher->health.ejected_count--;
    target->pool->health.ejected_count--;
    clear_fails(target);
}

static void give_back(struct publisher *publisher, struct pool_target *target, const char *reason)
{
    const struct pool_settings *settings = health_settings(target->pool);
    passive_end(publisher, target);
    if (settings != NULL) {
        warm_begin(publisher, target, settings);
    }
    health_changed(publisher, target, "returned", reason);
}

static void on_time(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct pool_target *target = CONTAINER_OF(timer, struct pool_target, health.timer);
    give_back(target->pool->health.publisher, target, "its time is over");
}

static void eject(struct publisher *publisher, struct pool_target *target,
                  const struct pool_settings *settings)
{
    struct target_health *health = &target->health;
    uint64_t now = health_now_ms(publisher);
    uint64_t time = next_time_ms(health, settings, now);
    warm_end(target);
    health->is_ejected = true;
    health->ejected_ms = now;
    health->good = 0;
    list_append(&publisher->health.ejected, &health->node);
    loop_timer_init(&health->timer, on_time);
    loop_timer_set(publisher->control, &health->timer, time);
    publisher->health.ejections++;
    publisher->health.ejected_count++;
    target->pool->health.ejected_count++;
    char reason[HEALTH_REASON_MAX];
    snprintf(reason, sizeof reason, "%u requests failed within %u ms: out for %llu ms",
             settings->passive.max_fails, settings->passive.fail_timeout_ms,
             (unsigned long long)time);
    health_changed(publisher, target, "ejected", reason);
}

// A report may have been long on its way: the pool is looked at as it is now.
static void judge(struct pool_target *target)
{
    struct target_health *health = &target->health;
    struct publisher *publisher = target->pool == NULL ? NULL : target->pool->health.publisher;
    if (publisher == NULL || publisher->control == NULL || !health->is_followed) {
        return;
    }
    const struct pool_settings *settings = health_settings(target->pool);
    if (settings == NULL || settings->passive.max_fails == 0 || health->is_ejected ||
        health->state == HEALTH_DOWN || health->declared == TARGET_DOWN) {
        return;
    }
    if (has_room(&target->pool->health, settings)) {
        eject(publisher, target, settings);
    } else {
        publisher->health.ejections_refused++;
    }
}

void health_on_report(struct loop *loop, struct loop_message *report)
{
    (void)loop;
    struct pool_target *target = CONTAINER_OF(report, struct pool_target, report);
    judge(target);
    clear_fails(target);
    // Release: pairs with the exchange in pool_member_failed(); the next report begins with cleared counts.
    // From here on the target may be freed.
    atomic_store_explicit(&target->is_reported, false, memory_order_release);
}

void passive_saw_good(struct publisher *publisher, struct pool_target *target,
                      const struct pool_settings *settings, uint64_t ns)
{
    struct target_health *health = &target->health;
    uint64_t took_ms = ns / 1000000;
    if (!health->is_ejected || health_now_ms(publisher) < health->ejected_ms + took_ms) {
        return; // it began before the last failures
    }
    if (++health->good >= settings->health.rise) {
        give_back(publisher, target, "its checks are good");
    }
}
