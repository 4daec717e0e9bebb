// SPDX-License-Identifier: MIT
// From start to end, the connections, the status.
#include "ceryx/watch_int.h"
#include "base/hash.h"
#include "base/log.h"
#include <stdlib.h>
#include <sys/random.h>

enum { TICK_MS = 50, SILENCE_MS = 1000 };

// ---- small things ----

struct ceryx_watch_status *watch_lock(struct ceryx_watch *watch)
{
    pthread_mutex_lock(&watch->mutex);
    return &watch->status;
}

void watch_unlock(struct ceryx_watch *watch)
{
    pthread_mutex_unlock(&watch->mutex);
}

void watch_refused(struct ceryx_watch *watch, const char *host, const char *detail,
                   bool is_certificate)
{
    struct ceryx_watch_status *status = watch_lock(watch);
    status->refused += !is_certificate;
    status->certificate_refused += is_certificate;
    str_copy(status->refused_host, sizeof status->refused_host, str_from_c(host));
    str_copy(status->refused_detail, sizeof status->refused_detail, str_from_c(detail));
    watch_unlock(watch);
    log_warning("Ceryx' host %.255s is %s: %.400s", host,
                is_certificate ? "served without its certificate" : "refused", detail);
}

static void on_ignored(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)context;
    (void)redis;
    if (reply != NULL && reply->type == REDIS_ERROR) {
        log_debug("Ceryx' keys: %.*s", STR_ARG(reply->text));
    }
}

void watch_send(struct ceryx_watch *watch, unsigned argc, const struct str *argv)
{
    if (!redis_command(watch->redis, argc, argv, on_ignored, watch)) {
        log_debug("Ceryx' keys: a command was not sent");
    }
}

void watch_mark(struct ceryx_watch *watch, const char *host, const char *digests)
{
    const struct str argv[] = {STR("HSET"), str_from_c(watch->mark_key), str_from_c(host),
                               str_from_c(digests)};
    watch_send(watch, 4, argv);
}

// ---- the connections ----

static void on_state(void *context, struct redis *redis, bool is_ready, const char *detail)
{
    struct ceryx_watch *watch = context;
    (void)redis;
    struct ceryx_watch_status *status = watch_lock(watch);
    status->is_connected = is_ready;
    status->is_scanning = status->is_scanning && is_ready;
    watch_unlock(watch);
    if (is_ready) {
        watch->lease_ms = 0;
    } else {
        log_debug("Ceryx' keys: %s", detail);
        watch->has_lease = false;
        watch->wants_lease = false;
        scan_end(watch);
    }
    watch_look(watch);
}

static void on_events_state(void *context, struct redis *redis, bool is_ready, const char *detail)
{
    (void)redis;
    (void)detail;
    notify_on_state(context, is_ready);
}

static void on_events_message(void *context, const struct redis_reply *message)
{
    notify_on_message(context, message);
}

void watch_look(struct ceryx_watch *watch)
{
    if (watch->is_stopping || !watch->is_started || !redis_is_ready(watch->redis)) {
        return;
    }
    lease_look(watch);
    notify_look(watch);
    scan_look(watch);
}

static void on_tick(struct loop *loop, struct loop_timer *timer)
{
    struct ceryx_watch *watch = CONTAINER_OF(timer, struct ceryx_watch, tick);
    // A server that has stopped to answer is asked anew, elsewhere if it has moved.
    if (redis_is_ready(watch->redis) && redis_silent_ms(watch->redis) > SILENCE_MS) {
        redis_drop(watch->redis, "no answer for 1 s");
    }
    watch_look(watch);
    loop_timer_set(loop, timer, TICK_MS);
}

static void on_page(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    watch_look(CONTAINER_OF(timer, struct ceryx_watch, page_timer));
}

// ---- from start to end ----

static void put_key(char *to, const struct ceryx_watch *watch, const char *rest)
{
    snprintf(to, WATCH_KEY_MAX, "%.100s:%s", watch->config.store_prefix, rest);
}

static int connect_both(struct ceryx_watch *watch, struct problems *problems)
{
    struct redis_config config = {
        .url = watch->config.url,
        .tls = watch->config.tls,
        .name = "pointsman-ceryx",
        .loop = watch->config.loop,
        .on_state = on_state,
        .context = watch,
    };
    int err = redis_new(&watch->redis, &config, problems);
    config.name = "pointsman-ceryx-events";
    config.on_state = on_events_state;
    config.on_message = on_events_message;
    return err == 0 ? redis_new(&watch->events, &config, problems) : err;
}

int ceryx_watch_new(struct ceryx_watch **out, const struct ceryx_watch_config *config,
                    struct problems *problems)
{
    struct ceryx_watch *watch = calloc(1, sizeof *watch);
    *out = watch;
    if (watch == NULL) {
        return problems_add(problems, ERR_MEMORY, "ceryx.enabled", "out of memory");
    }
    watch->config = *config;
    watch->misses = (struct misses_source){
        .ask = lookup_ask, .context = watch, .timeout_ms = config->miss_timeout_ms};
    pthread_mutex_init(&watch->mutex, NULL);
    list_init(&watch->lookups);
    loop_timer_init(&watch->tick, on_tick);
    loop_timer_init(&watch->page_timer, on_page);
    watch->noted_last = &watch->noted;
    put_key(watch->mark_key, watch, "ceryx");
    put_key(watch->lease_key, watch, "ceryx:lease");
    put_key(watch->probe_key, watch, "ceryx:probe");
    put_key(watch->routes_key, watch, "routes");
    put_key(watch->pools_key, watch, "pools");
    put_key(watch->certificates_key, watch, "certificates");
    uint64_t session = hash_bytes(&watch, sizeof watch);
    if (getrandom(&session, sizeof session, 0) < 0) {
        log_debug("no random bytes yet"); // the hash's key is random, too
    }
    snprintf(watch->holder, sizeof watch->holder, "%.16s-%016llx", config->node_id,
             (unsigned long long)session);
    watch->remembered = calloc(CERYX_REMEMBERED, sizeof *watch->remembered);
    int err = watch->remembered == NULL
                  ? problems_add(problems, ERR_MEMORY, "ceryx.enabled", "out of memory")
                  : connect_both(watch, problems);
    if (err != 0) {
        ceryx_watch_free(out);
    }
    return err;
}

static void on_start(struct loop *loop, struct loop_message *message)
{
    struct ceryx_watch *watch = CONTAINER_OF(message, struct ceryx_watch, start_message);
    if (watch->is_stopping) {
        return;
    }
    watch->is_started = true;
    redis_start(watch->redis);
    loop_timer_set(loop, &watch->tick, TICK_MS);
}

void ceryx_watch_start(struct ceryx_watch *watch)
{
    watch->start_message.run = on_start;
    loop_post(watch->config.loop, &watch->start_message);
}

static void on_leave(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct ceryx_watch *watch = CONTAINER_OF(message, struct ceryx_watch, leave_message);
    if (watch->has_lease) {
        lease_give_back(watch);
    }
    watch->is_stopping = true;
}

void ceryx_watch_leave(struct ceryx_watch *watch)
{
    if (watch != NULL) {
        watch->leave_message.run = on_leave;
        loop_post(watch->config.loop, &watch->leave_message);
    }
}

void ceryx_watch_stop(struct ceryx_watch *watch)
{
    if (watch == NULL) {
        return;
    }
    watch->is_stopping = true;
    loop_empty_mailbox(watch->config.loop); // answers of the store, and what was asked last
    loop_timer_cancel(watch->config.loop, &watch->tick);
    loop_timer_cancel(watch->config.loop, &watch->page_timer);
    if (watch->redis != NULL && redis_is_ready(watch->redis)) {
        redis_drop(watch->redis, "stopping"); // whoever waits for a reply gets none
    }
    redis_free(&watch->redis);
    redis_free(&watch->events);
    lookup_end_all(watch);
    scan_end(watch);
    notify_end(watch);
}

void ceryx_watch_free(struct ceryx_watch **place)
{
    struct ceryx_watch *watch = *place;
    *place = NULL;
    if (watch == NULL) {
        return;
    }
    ceryx_watch_stop(watch);
    free(watch->remembered);
    pthread_mutex_destroy(&watch->mutex);
    free(watch);
}

const struct misses_source *ceryx_watch_misses(const struct ceryx_watch *watch)
{
    return &watch->misses;
}

void ceryx_watch_get_status(struct ceryx_watch *watch, struct ceryx_watch_status *status)
{
    *status = *watch_lock(watch);
    watch_unlock(watch);
}
