// SPDX-License-Identifier: MIT
// A client of Redis on a loop that the test turns.
#pragma once
#include "base/clock.h"
#include "base/hash.h"
#include "net/outq.h"
#include "net/tls.h"
#include "redis/redis.h"
#include "support/patient_clock.h"
#include "support/redis_server.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>

struct client {
    struct loop loop;
    struct redis_url url;
    struct redis_config config;
    struct redis *redis;
    bool is_ready;
    unsigned ready_count;
    unsigned lost_count;
    char detail[256];
    unsigned message_count;
    char message[256]; // the items of the last one, with blanks
    // of replies
    unsigned reply_count;
    unsigned nil_count; // NULL: lost
    enum redis_type type;
    int64_t number;
    char text[512];
};

// Turns the loop until it holds, at most so long by the loop's clock (support/patient_clock.h).
#define WAIT_MS(c, ms, condition)                                                               \
    do {                                                                                        \
        uint64_t end_ms = (c)->loop.now_ms + (ms);                                              \
        while (!(condition)) {                                                                  \
            if ((c)->loop.now_ms > end_ms) {                                                    \
                fail_msg("not within %u ms: %s (%s)", (unsigned)(ms), #condition, (c)->detail); \
            }                                                                                   \
            patient_turn(&(c)->loop, 10);                                                       \
        }                                                                                       \
    } while (0)
#define WAIT(c, condition) WAIT_MS(c, 60000, condition)

static inline void client_on_state(void *context, struct redis *redis, bool is_ready,
                                   const char *detail)
{
    struct client *c = context;
    assert_int_equal(is_ready, redis_is_ready(redis));
    assert_int_equal(redis_pending(redis), 0);
    c->is_ready = is_ready;
    c->ready_count += is_ready;
    c->lost_count += !is_ready;
    snprintf(c->detail, sizeof c->detail, "%s", detail);
}

static inline void client_on_message(void *context, const struct redis_reply *message)
{
    struct client *c = context;
    size_t len = 0;
    c->message_count++;
    c->message[0] = 0;
    if (message->type == REDIS_ERROR) {
        snprintf(c->message, sizeof c->message, "%s", message->text.p);
    }
    for (unsigned i = 0; i < message->count && len < sizeof c->message; i++) {
        const struct redis_reply *item = redis_reply_item(message, i);
        len += (size_t)snprintf(c->message + len, sizeof c->message - len, "%s%s",
                                i == 0 ? "" : " ", item->type == REDIS_STRING ? item->text.p : "#");
    }
}

static inline void client_on_reply(void *context, struct redis *redis,
                                   const struct redis_reply *reply)
{
    (void)redis;
    struct client *c = context;
    c->reply_count++;
    if (reply == NULL) {
        c->nil_count++;
        return;
    }
    c->type = reply->type;
    c->number = reply->integer;
    snprintf(c->text, sizeof c->text, "%s", reply->text.p == NULL ? "" : reply->text.p);
}

// Everything but redis_start().
static inline void client_init(struct client *c, const char *url, const struct redis_tls *tls)
{
    struct problems problems;
    *c = (struct client){0};
    hash_seed();
    problems_init(&problems);
    assert_int_equal(loop_init(&c->loop), 0);
    patient_begin(&c->loop);
    assert_int_equal(outq_pool_init(&c->loop), 0);
    assert_int_equal(tls_loop_init(&c->loop), 0);
    assert_int_equal(redis_url_parse(&c->url, str_from_c(url), &problems), 0);
    c->config = (struct redis_config){.url = &c->url,
                                      .tls = tls,
                                      .name = "test",
                                      .loop = &c->loop,
                                      .on_state = client_on_state,
                                      .on_message = client_on_message,
                                      .context = c};
    assert_int_equal(redis_new(&c->redis, &c->config, &problems), 0);
    problems_fini(&problems);
}

static inline void client_begin(struct client *c, const char *url)
{
    client_init(c, url, NULL);
    redis_start(c->redis);
}

static inline void client_end(struct client *c)
{
    redis_free(&c->redis);
    loop_run_deferred(&c->loop);
    tls_loop_fini(&c->loop);
    outq_pool_fini(&c->loop);
    loop_fini(&c->loop);
    redis_url_fini(&c->url);
}

// A command of words, whose reply counts. False: it was not taken.
static inline bool client_put(struct client *c, const char *line)
{
    struct str words[16];
    unsigned count = 0;
    struct str rest = str_from_c(line);
    while (rest.len > 0 && count < 16) {
        str_split(rest, ' ', &words[count++], &rest);
    }
    return redis_command(c->redis, count, words, client_on_reply, c);
}

// A command and its reply.
static inline void client_ask(struct client *c, const char *line)
{
    unsigned before = c->reply_count;
    assert_true(client_put(c, line));
    WAIT(c, c->reply_count > before && redis_pending(c->redis) == 0); // the last one is its own
}
