// SPDX-License-Identifier: MIT
// Slow start: a target that is new among others, or back, begins with a tenth of its weight and has all of it
// after slow_start. One timer for all; a pool's view is made anew in ten steps, or each second.
#include "publish/health_int.h"

enum {
    STEP_COUNT = 10,
    STEP_MIN_MS = 100,
    STEP_MAX_MS = 1000,
    // A look walks over the targets of all pools: they share it, and their steps may be so late.
    TICK_MS = 50,
};

static uint64_t step_ms(const struct pool_settings *settings)
{
    uint64_t step = settings->slow_start_ms / STEP_COUNT;
    return step < STEP_MIN_MS ? STEP_MIN_MS : step > STEP_MAX_MS ? STEP_MAX_MS : step;
}

void warm_begin(struct publisher *publisher, struct pool_target *target,
                const struct pool_settings *settings)
{
    struct target_health *health = &target->health;
    struct pool_health *pool = &target->pool->health;
    if (settings->slow_start_ms == 0 || health->is_ejected || publisher->control == NULL) {
        return;
    }
    uint64_t now = health_now_ms(publisher);
    health->slow_since_ms = now > 0 ? now : 1;
    if (list_is_empty(&health->node)) {
        list_append(&publisher->health.warming, &health->node);
    }
    if (pool->warm_at_ms <= now) {
        pool->warm_at_ms = now + step_ms(settings);
    }
    struct loop_timer *timer = &publisher->health.warm_timer;
    if (!loop_timer_is_set(timer) || timer->deadline_ms > pool->warm_at_ms) {
        loop_timer_set(publisher->control, timer, pool->warm_at_ms - now);
    }
    health_mark(publisher, target->pool);
}

void warm_end(struct pool_target *target)
{
    struct target_health *health = &target->health;
    if (health->slow_since_ms != 0) {
        health->slow_since_ms = 0;
        list_remove(&health->node);
    }
}

uint16_t warm_share(const struct pool_settings *settings, const struct target_health *health,
                    uint64_t now_ms)
{
    uint64_t whole = settings->slow_start_ms;
    if (whole == 0 || health->slow_since_ms == 0 || now_ms >= health->slow_since_ms + whole) {
        return WARM_WHOLE;
    }
    uint64_t past = now_ms > health->slow_since_ms ? now_ms - health->slow_since_ms : 0;
    return (uint16_t)(WARM_FIRST + (WARM_WHOLE - WARM_FIRST) * past / whole);
}

void warm_on_timer(struct loop *loop, struct loop_timer *timer)
{
    struct publisher *publisher = CONTAINER_OF(timer, struct publisher, health.warm_timer);
    uint64_t next = UINT64_MAX;
    LIST_FOR_EACH_SAFE (node, &publisher->health.warming) {
        struct target_health *health = CONTAINER_OF(node, struct target_health, node);
        struct pool_target *target = CONTAINER_OF(health, struct pool_target, health);
        struct pool_health *pool = &target->pool->health;
        const struct pool_settings *settings = health_settings(target->pool);
        if (settings == NULL || warm_share(settings, health, loop->now_ms) == WARM_WHOLE) {
            warm_end(target);
            health_mark(publisher, target->pool);
            continue;
        }
        if (pool->warm_at_ms <= loop->now_ms) {
            pool->warm_at_ms = loop->now_ms + step_ms(settings);
            health_mark(publisher, target->pool);
        }
        next = pool->warm_at_ms < next ? pool->warm_at_ms : next;
    }
    if (next != UINT64_MAX) {
        uint64_t wait_ms = next - loop->now_ms;
        loop_timer_set(loop, timer, wait_ms > TICK_MS ? wait_ms : TICK_MS);
    }
}
