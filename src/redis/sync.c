// SPDX-License-Identifier: MIT
// The client on a loop that turns only while somebody waits. A reply is held in the connection until the
// next call; meanwhile the socket is not read, so that no reply is ever copied or queued.
#include "base/clock.h"
#include "net/tls.h"
#include "redis/redis_int.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { TURN_MS = 100 };

struct redis_sync {
    struct loop loop;
    struct redis *redis;
    unsigned timeout_ms;
    bool is_ready;
    bool is_lost; // once it was: for good
    const struct redis_reply *reply;
    char why[REDIS_WHY_MAX];
};

static void on_state(void *context, struct redis *redis, bool is_ready, const char *detail)
{
    (void)redis;
    struct redis_sync *sync = context;
    sync->is_lost = sync->is_lost || (sync->is_ready && !is_ready);
    sync->is_ready = is_ready;
    str_copy(sync->why, sizeof sync->why, str_from_c(detail));
}

static void on_reply(void *context, struct redis *redis, const struct redis_reply *reply)
{
    struct redis_sync *sync = context;
    if (reply != NULL) {
        sync->reply = reply;
        redis_link_hold(&redis->link);
    }
}

static uint64_t deadline_of(const struct redis_sync *sync)
{
    return clock_monotonic_ns() + sync->timeout_ms * NS_PER_MS;
}

static int begin(struct redis_sync *sync, const struct redis_url *url, const struct redis_tls *tls,
                 struct problems *problems)
{
    struct redis_config config = {
        .url = url, .tls = tls, .loop = &sync->loop, .on_state = on_state, .context = sync};
    int err = outq_pool_init(&sync->loop);
    if (err == 0 && url->is_tls) {
        err = tls_loop_init(&sync->loop);
    }
    if (err != 0) {
        return problems_add(problems, err, "", "%s", err_text(err));
    }
    err = redis_new(&sync->redis, &config, problems);
    if (err != 0) {
        return err == ERR_MEMORY ? problems_add(problems, err, "", "%s", err_text(err)) : err;
    }
    redis_start(sync->redis);
    uint64_t deadline_ns = deadline_of(sync);
    while (!sync->is_ready && clock_monotonic_ns() < deadline_ns) {
        loop_turn(&sync->loop, TURN_MS);
    }
    if (!sync->is_ready) {
        return problems_add(problems, ERR_UNAVAILABLE, "", "%s: %s", url->shown,
                            sync->why[0] == 0 ? "timeout" : sync->why);
    }
    return 0;
}

int redis_sync_open(struct redis_sync **place, const struct redis_url *url,
                    const struct redis_tls *tls, unsigned timeout_ms, struct problems *problems)
{
    struct redis_sync *sync = calloc(1, sizeof *sync);
    *place = NULL;
    if (sync == NULL) {
        return problems_add(problems, ERR_MEMORY, "", "%s", err_text(ERR_MEMORY));
    }
    sync->timeout_ms = timeout_ms;
    int err = loop_init(&sync->loop);
    if (err != 0) {
        free(sync);
        return problems_add(problems, err, "", "%s", err_text(err));
    }
    err = begin(sync, url, tls, problems);
    if (err != 0) {
        redis_sync_close(&sync);
        return err;
    }
    *place = sync;
    return 0;
}

void redis_sync_close(struct redis_sync **place)
{
    struct redis_sync *sync = *place;
    *place = NULL;
    if (sync == NULL) {
        return;
    }
    redis_free(&sync->redis);
    loop_run_deferred(&sync->loop);
    if (sync->loop.tls_buffers != NULL) {
        tls_loop_fini(&sync->loop);
    }
    outq_pool_fini(&sync->loop);
    loop_fini(&sync->loop);
    free(sync);
}

bool redis_sync_send(struct redis_sync *sync, unsigned argc, const struct str *argv)
{
    if (sync->is_lost) {
        return false;
    }
    if (redis_command(sync->redis, argc, argv, on_reply, sync)) {
        return true;
    }
    str_copy(sync->why, sizeof sync->why, STR("too many commands, or bytes, without a reply"));
    return false;
}

const struct redis_reply *redis_sync_receive(struct redis_sync *sync)
{
    sync->reply = NULL;
    redis_link_go_on(&sync->redis->link);
    if (!sync->is_lost && redis_pending(sync->redis) == 0) {
        str_copy(sync->why, sizeof sync->why, STR("no command waits for a reply"));
        return NULL;
    }
    uint64_t deadline_ns = deadline_of(sync);
    while (sync->reply == NULL && !sync->is_lost) {
        if (clock_monotonic_ns() >= deadline_ns) {
            sync->is_lost = true; // its reply, if it comes, would be taken for the next command's
            snprintf(sync->why, sizeof sync->why, "no answer in %u ms", sync->timeout_ms);
            return NULL;
        }
        loop_turn(&sync->loop, TURN_MS);
    }
    return sync->reply;
}

const struct redis_reply *redis_sync_command(struct redis_sync *sync, unsigned argc,
                                             const struct str *argv)
{
    return redis_sync_send(sync, argc, argv) ? redis_sync_receive(sync) : NULL;
}

const char *redis_sync_error(const struct redis_sync *sync)
{
    return sync->why;
}
