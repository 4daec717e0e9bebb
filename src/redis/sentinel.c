// SPDX-License-Identifier: MIT
// Sentinels are asked in turn; the one that answers is listened to, on the same connection:
//
//   connect ─► (AUTH) ─► SENTINEL get-master-addr-by-name ─► redis_on_primary()
//                        SUBSCRIBE +switch-master ─► a failover ─► redis_on_primary()
//
// A subscribed connection takes no other command (RESP2), so that asking again is a new one. One that may
// not be subscribed to, or that is lost, is made again every second.
#include "redis/redis_int.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    TICK_MS = 1000, // pause between questions of who is not listened to, and between PINGs
};

static void begin(struct redis_sentinel *sentinel);

static const struct redis_url *url_of(const struct redis_sentinel *sentinel)
{
    return sentinel->redis->config.url;
}

// ---- a Sentinel that does not help ----

// `why` is about the one at sentinel->at.
static void turn_away(struct redis_sentinel *sentinel, const char *why)
{
    const struct redis_url *url = url_of(sentinel);
    const struct redis_host *host = &url->hosts[sentinel->at];
    struct redis_link *link = &sentinel->link;
    char said[REDIS_WHY_MAX];
    snprintf(said, sizeof said, "Sentinel %.80s:%u: %.100s", host->name, host->port, why);
    redis_link_close(link);
    redis_link_answer_all(link);
    sentinel->is_listening = false;
    sentinel->is_named = false;
    sentinel->at = (sentinel->at + 1) % url->host_count;
    sentinel->failed++;
    str_copy(sentinel->why, sizeof sentinel->why, str_from_c(said));
    if (sentinel->is_asked && sentinel->failed < url->host_count) {
        loop_timer_set(sentinel->redis->loop, &sentinel->timer, 0);
        return;
    }
    loop_timer_set(sentinel->redis->loop, &sentinel->timer, TICK_MS);
    sentinel->failed = 0;
    if (sentinel->is_asked) {
        sentinel->is_asked = false;
        redis_on_no_primary(sentinel->redis, sentinel->why);
    }
}

static void turn_away_error(struct redis_sentinel *sentinel, const struct redis_reply *reply)
{
    char text[REDIS_WHY_MAX];
    redis_copy_printable(text, sizeof text, reply->text);
    turn_away(sentinel, text);
}

// ---- what it says ----

static bool is_open(const struct redis_sentinel *sentinel)
{
    return sentinel->link.phase == REDIS_OPEN;
}

static void on_auth(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct redis_sentinel *sentinel = context;
    if (reply != NULL && reply->type == REDIS_ERROR && is_open(sentinel)) {
        turn_away_error(sentinel, reply);
    }
}

static bool read_address(struct str host, struct str port_text, uint16_t *port)
{
    uint64_t number;
    if (host.len == 0 || host.len > 253 || str_find_char(host, '\0') != SIZE_MAX ||
        str_to_u64(port_text, &number) != 0 || number == 0 || number > 65535) {
        return false;
    }
    *port = (uint16_t)number;
    return true;
}

static void on_address(void *context, struct redis *redis, const struct redis_reply *reply)
{
    struct redis_sentinel *sentinel = context;
    if (reply == NULL || !is_open(sentinel)) {
        return;
    }
    if (reply->type == REDIS_ERROR) {
        turn_away_error(sentinel, reply);
        return;
    }
    const struct redis_reply *host = redis_reply_item(reply, 0);
    uint16_t port;
    if (reply->type == REDIS_NIL) {
        turn_away(sentinel, "it does not know a primary of that name");
    } else if (host->type != REDIS_STRING ||
               !read_address(host->text, redis_reply_item(reply, 1)->text, &port)) {
        turn_away(sentinel, "its answer is not an address");
    } else {
        sentinel->failed = 0;
        sentinel->is_asked = false;
        loop_timer_set(redis->loop, &sentinel->timer, TICK_MS);
        redis_on_primary(redis, host->text, port);
    }
}

// "NAME OLD-IP OLD-PORT NEW-IP NEW-PORT"
static void on_switch(struct redis_sentinel *sentinel, struct str text)
{
    struct str parts[5];
    char host[256];
    uint16_t port;
    for (unsigned i = 0; i < 5; i++) {
        str_split(text, ' ', &parts[i], &text);
    }
    if (str_eq(parts[0], str_from_c(url_of(sentinel)->master)) &&
        read_address(parts[3], parts[4], &port)) {
        str_copy(host, sizeof host, parts[3]);
        redis_on_primary(sentinel->redis, str_from_c(host), port);
    }
}

static void on_message(struct redis_link *link, const struct redis_reply *message)
{
    struct redis_sentinel *sentinel = CONTAINER_OF(link, struct redis_sentinel, link);
    struct str kind = redis_reply_item(message, 0)->text;
    if (message->type == REDIS_ERROR) {
        sentinel->is_listening = false; // it may not: it is asked again
    } else if (str_eq(kind, STR("subscribe"))) {
        sentinel->is_listening = true;
    } else if (str_eq(kind, STR("message"))) {
        on_switch(sentinel, redis_reply_item(message, 2)->text);
    }
}

// ---- its connection ----

static void on_open(struct redis_link *link)
{
    struct redis_sentinel *sentinel = CONTAINER_OF(link, struct redis_sentinel, link);
    const struct redis_url *url = url_of(sentinel);
    struct str ask[3] = {STR("SENTINEL"), STR("get-master-addr-by-name"), str_from_c(url->master)};
    struct str subscribe[2] = {STR("SUBSCRIBE"), STR("+switch-master")};
    if (!redis_put_auth(link, url->sentinel_user, url->sentinel_password, on_auth, sentinel) ||
        !redis_link_command(link, 3, ask, on_address, sentinel) ||
        !redis_link_command(link, 2, subscribe, NULL, NULL)) {
        turn_away(sentinel, err_text(ERR_MEMORY));
    }
}

static void on_lost(struct redis_link *link, const char *why)
{
    struct redis_sentinel *sentinel = CONTAINER_OF(link, struct redis_sentinel, link);
    redis_names_failed(&sentinel->redis->names, sentinel->at);
    turn_away(sentinel, why);
}

static const struct redis_link_ops link_ops = {
    .on_open = on_open,
    .on_lost = on_lost,
    .on_message = on_message,
};

static void go_on(struct redis_sentinel *sentinel)
{
    struct redis *redis = sentinel->redis;
    const struct redis_host *host = &url_of(sentinel)->hosts[sentinel->at];
    struct sockaddr_storage address;
    socklen_t len;
    unsigned left;
    const char *why = NULL;
    int step = redis_names_find(&redis->names, sentinel->at, host->name, host->port, &address, &len,
                                &left, &why);
    sentinel->is_named = step == STEP_AGAIN;
    if (step < 0) {
        turn_away(sentinel, why);
    } else if (step == STEP_DONE && !redis_link_open(&sentinel->link, &address, len, redis->tls,
                                                     str_from_c(host->name))) {
        redis_names_failed(&redis->names, sentinel->at);
        turn_away(sentinel, sentinel->link.why);
    }
}

static void begin(struct redis_sentinel *sentinel)
{
    redis_link_close(&sentinel->link);
    redis_link_answer_all(&sentinel->link);
    sentinel->is_listening = false;
    loop_timer_set(sentinel->redis->loop, &sentinel->timer, REDIS_SENTINEL_MS);
    go_on(sentinel);
}

static void on_pong(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)context;
    (void)redis;
    (void)reply;
}

static void on_timer(struct loop *loop, struct loop_timer *timer)
{
    struct redis_sentinel *sentinel = CONTAINER_OF(timer, struct redis_sentinel, timer);
    struct redis_link *link = &sentinel->link;
    struct str ping = STR("PING");
    if (link->phase == REDIS_CLOSED && !sentinel->is_named) {
        begin(sentinel);
    } else if (!is_open(sentinel) || redis_link_waiting_ms(link) >= REDIS_SENTINEL_MS) {
        turn_away(sentinel, "timeout");
    } else if (!sentinel->is_listening) {
        begin(sentinel);
    } else if (redis_link_command(link, 1, &ping, on_pong, NULL)) {
        loop_timer_set(loop, timer, TICK_MS);
    } else {
        turn_away(sentinel, err_text(ERR_MEMORY));
    }
}

// ---- for conn.c ----

void redis_sentinel_init(struct redis_sentinel *sentinel, struct redis *redis)
{
    *sentinel = (struct redis_sentinel){.redis = redis};
    redis_link_init(&sentinel->link, redis, redis->loop, &link_ops);
    loop_timer_init(&sentinel->timer, on_timer);
}

void redis_sentinel_fini(struct redis_sentinel *sentinel)
{
    loop_timer_cancel(sentinel->redis->loop, &sentinel->timer);
    redis_link_fini(&sentinel->link);
}

void redis_sentinel_ask(struct redis_sentinel *sentinel)
{
    if (sentinel->is_doubted) {
        sentinel->at = (sentinel->at + 1) % url_of(sentinel)->host_count;
    }
    sentinel->is_doubted = false;
    sentinel->is_asked = true;
    sentinel->failed = 0;
    begin(sentinel);
}

void redis_sentinel_doubt(struct redis_sentinel *sentinel)
{
    sentinel->is_doubted = true;
}

void redis_sentinel_on_answer(struct redis_sentinel *sentinel)
{
    if (sentinel->is_named) {
        sentinel->is_named = false;
        loop_timer_set(sentinel->redis->loop, &sentinel->timer, 0);
    }
}
