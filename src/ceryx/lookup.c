// SPDX-License-Identifier: MIT
// A host that a worker does not know: is it in Redis? Then its route is made, and the worker told when it is
// live. Workers that ask for the same host wait for the same look-up.
//
//   ask ─► read ─┬─ not there ─► remembered for MISS_NEGATIVE_MS
//                ├─ there ─► store_submit ─► live here, or changed meanwhile: read again
//                └─ no answer in time: nobody knows; what comes later is thrown away
#include "base/hash.h"
#include "ceryx/watch_int.h"
#include <stdlib.h>

enum { TRY_MAX = 3 };

struct lookup {
    struct list node; // in watch->lookups
    struct ceryx_watch *watch;
    struct list misses; // empty: nobody waits any more
    struct loop_timer timer;
    uint64_t hash;
    unsigned tries;
    bool had_route; // the store had one when it was read
    char host[URI_HOST_MAX + 1];
};

static struct remembered *place_of(struct ceryx_watch *watch, uint64_t hash)
{
    return &watch->remembered[hash % CERYX_REMEMBERED];
}

// Tells all that wait. `unknown_until_ms` as in miss_answer().
static void answer_all(struct lookup *lookup, uint64_t unknown_until_ms)
{
    while (!list_is_empty(&lookup->misses)) {
        struct miss *miss = LIST_FIRST(&lookup->misses, struct miss, node);
        list_remove(&miss->node);
        miss_answer(miss, unknown_until_ms);
    }
}

static void end_lookup(struct lookup *lookup, uint64_t unknown_until_ms)
{
    struct ceryx_watch *watch = lookup->watch;
    answer_all(lookup, unknown_until_ms);
    loop_timer_cancel(watch->config.loop, &lookup->timer);
    list_remove(&lookup->node);
    watch->lookup_count--;
    watch_lock(watch)->under_way = watch->lookup_count;
    watch_unlock(watch);
    free(lookup);
}

static void end_failed(struct lookup *lookup)
{
    if (!list_is_empty(&lookup->misses)) {
        WATCH_COUNT(lookup->watch, failed);
    }
    end_lookup(lookup, 0);
}

static void end_missing(struct lookup *lookup)
{
    struct ceryx_watch *watch = lookup->watch;
    uint64_t until_ms = watch->config.loop->now_ms + MISS_NEGATIVE_MS;
    *place_of(watch, lookup->hash) =
        (struct remembered){.hash = lookup->hash, .until_ms = until_ms};
    WATCH_COUNT(watch, missing);
    end_lookup(lookup, until_ms);
}

static void read_host(struct lookup *lookup);

static void on_stored(struct store_request *request)
{
    struct lookup *lookup = request->context;
    int err = request->err;
    store_request_free(&request);
    if (err == 0 || (err == ERR_PRECONDITION && lookup->had_route)) {
        WATCH_COUNT(lookup->watch, found);
        end_lookup(lookup, 0);
    } else if (err == ERR_PRECONDITION && !list_is_empty(&lookup->misses)) {
        read_host(lookup); // it was changed meanwhile
    } else if (err == ERR_INVALID || err == ERR_IN_USE) {
        end_missing(lookup);
    } else {
        end_failed(lookup);
    }
}

static void on_read(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct lookup *lookup = context;
    struct ceryx_watch *watch = lookup->watch;
    const char *host = lookup->host;
    struct rows rows = {.hosts = &host, .count = 1, .for_lookup = true};
    if (watch->is_stopping || examine_read(watch, reply, &rows) != 0) {
        rows_fini(&rows);
        end_failed(lookup);
        return;
    }
    if (rows.request == NULL) {
        rows_fini(&rows);
        end_missing(lookup);
        return;
    }
    lookup->had_route = rows.has_route;
    rows.request->on_done = on_stored;
    rows.request->context = lookup;
    store_submit(watch->config.store, &rows.request);
    rows_fini(&rows);
}

static void read_host(struct lookup *lookup)
{
    const char *host = lookup->host;
    if (lookup->tries++ == TRY_MAX || lookup->watch->is_stopping ||
        !redis_is_ready(lookup->watch->redis) ||
        !examine_send(lookup->watch, &host, 1, false, on_read, lookup)) {
        end_failed(lookup);
    }
}

// Who waits is gone by now; what is still under way has its place until it ends.
static void on_timeout(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct lookup *lookup = CONTAINER_OF(timer, struct lookup, timer);
    WATCH_COUNT(lookup->watch, failed);
    answer_all(lookup, 0);
}

static struct lookup *find(const struct ceryx_watch *watch, uint64_t hash, const char *host)
{
    LIST_FOR_EACH (node, &watch->lookups) {
        struct lookup *lookup = CONTAINER_OF(node, struct lookup, node);
        if (lookup->hash == hash && strcmp(lookup->host, host) == 0) {
            return lookup;
        }
    }
    return NULL;
}

static void join(struct lookup *lookup, struct miss *miss)
{
    struct ceryx_watch *watch = lookup->watch;
    if (list_is_empty(&lookup->misses)) {
        loop_timer_set(watch->config.loop, &lookup->timer, watch->config.miss_timeout_ms);
    }
    list_append(&lookup->misses, &miss->node);
}

static void begin(struct ceryx_watch *watch, struct miss *miss)
{
    struct lookup *lookup = calloc(1, sizeof *lookup);
    if (lookup == NULL) {
        miss_answer(miss, 0);
        return;
    }
    lookup->watch = watch;
    lookup->hash = miss->hash;
    list_init(&lookup->misses);
    loop_timer_init(&lookup->timer, on_timeout);
    str_copy(lookup->host, sizeof lookup->host, str_make(miss->host, miss->host_len));
    list_append(&watch->lookups, &lookup->node);
    watch->lookup_count++;
    struct ceryx_watch_status *status = watch_lock(watch);
    status->lookups++;
    status->under_way = watch->lookup_count;
    watch_unlock(watch);
    join(lookup, miss);
    read_host(lookup);
}

static void on_ask(struct loop *loop, struct loop_message *message)
{
    struct miss *miss = CONTAINER_OF(message, struct miss, message);
    struct ceryx_watch *watch = miss->asked;
    const struct remembered *known = place_of(watch, miss->hash);
    if (known->hash == miss->hash && known->until_ms > loop->now_ms) {
        WATCH_COUNT(watch, negative);
        miss_answer(miss, known->until_ms);
        return;
    }
    struct lookup *lookup = find(watch, miss->hash, miss->host);
    if (lookup != NULL) {
        WATCH_COUNT(watch, joined);
        join(lookup, miss);
    } else if (watch->is_stopping || !redis_is_ready(watch->redis)) {
        WATCH_COUNT(watch, failed);
        miss_answer(miss, 0);
    } else if (watch->lookup_count >= CERYX_LOOKUP_MAX) {
        WATCH_COUNT(watch, over);
        miss_answer(miss, 0);
    } else {
        begin(watch, miss);
    }
}

void lookup_ask(void *context, struct miss *miss)
{
    struct ceryx_watch *watch = context;
    miss->asked = watch;
    miss->message.run = on_ask;
    loop_post(watch->config.loop, &miss->message);
}

void lookup_end_all(struct ceryx_watch *watch)
{
    while (!list_is_empty(&watch->lookups)) {
        end_lookup(LIST_FIRST(&watch->lookups, struct lookup, node), 0);
    }
}
