// SPDX-License-Identifier: MIT
// What has changed is told: to listeners, and in the log.
#include "base/clock.h"
#include "base/log.h"
#include "publish/health_int.h"
#include <arpa/inet.h>
#include <stdio.h>

enum {
    LOG_MAX = 100, // lines in LOG_MS
    LOG_MS = 1000,
};

static uint64_t now_unix_ms(const struct publisher *publisher)
{
    uint64_t ns = publisher->control != NULL ? publisher->control->real_ns : clock_real_ns();
    return ns / NS_PER_MS;
}

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

void health_on_log_timer(struct loop *loop, struct loop_timer *timer)
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

// An event, and a line of the log if there were not too many. `target` NULL: the pool itself.
static void tell_state(struct publisher *publisher, struct named_pool *pool,
                       struct pool_target *target, const char *state, const char *reason)
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
    tell_state(publisher, target->pool, target, state, health->reason);
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
    tell_state(publisher, pool, NULL, facts->is_panic ? "panic" : "calm", reason);
}

void publisher_listen_health(struct publisher *publisher, struct publish_health_listener *listener)
{
    list_append(&publisher->health.listeners, &listener->node);
}
