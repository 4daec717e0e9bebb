// SPDX-License-Identifier: MIT
// The target of a connection that is passed through: picked as for requests, with a queue in front of a pool
// that is full; balanced by the client's address where the pool is by any key.
#include "net/address.h"
#include "net/proxy_protocol.h"
#include "proxy/form_scan.h"
#include "proxy/raw.h"

static const struct http_stream_events target_events;

// The client's addresses for a target that reads the PROXY protocol.
static struct str write_preamble(const struct raw *raw, const struct pool_settings *settings,
                                 char *to, size_t size)
{
    struct proxy_header header = {
        .version = settings->send_proxy == SEND_PROXY_V1 ? 1 : 2,
        .authority = str_make(raw->sni, raw->sni_len),
        .is_tls = false, // not ended here: the target does that itself
    };
    http_stream_addresses(raw->client, &header.source, &header.destination);
    return str_make(to, proxy_header_write(&header, to, size));
}

// Remembers whose member was picked. False: out of memory.
static bool hold_version(struct raw *raw, struct version *version)
{
    struct pin *pin = pin_get(&raw->proxy->pins, version);
    if (pin == NULL) {
        return false;
    }
    pin_put(&raw->proxy->pins, &raw->pool_pin);
    raw->pool_pin = pin;
    return true;
}

// The pool now, and its slot in raw->pool. NULL: with the reason in *end.
static const struct pool_version *find_pool(struct raw *raw, uint64_t random, enum end_reason *end)
{
    struct route_version *route = rcu_load(raw->route->slot->current);
    if (route == NULL) {
        *end = END_NO_ROUTE;
        return NULL;
    }
    struct pool_slot *named;
    const struct pool_version *pool = route_pool(route, random, &named);
    if (pool == NULL) {
        *end = END_NO_POOL;
        return NULL;
    }
    if (route != raw->route && !hold_version(raw, &route->version)) {
        *end = END_NO_MEMORY;
        return NULL;
    }
    raw->pool = named;
    const struct config *config = raw->proxy->shared->config;
    const struct pool_settings *settings = pool_settings(pool);
    const struct timeouts_decl *of_pool = settings == NULL ? NULL : &settings->timeouts;
    const struct timeouts_decl *of_route = route->rules == NULL ? NULL : &route->rules->timeouts;
#define SETTLE(field)                                                       \
    raw->field = of_route != NULL && of_route->field != 0 ? of_route->field \
                 : of_pool != NULL && of_pool->field != 0 ? of_pool->field  \
                                                          : config->timeouts.field
    SETTLE(connect_ms);
    SETTLE(tunnel_idle_ms);
#undef SETTLE
    return pool;
}

// A connection to the picked member. False: it failed at once, with *err.
static bool open_target(struct raw *raw, const struct pool_settings *settings, int *err)
{
    struct proxy *proxy = raw->proxy;
    char preamble[PROXY_HEADER_MAX];
    struct upstream_request request = {
        .protocol = HTTP_CLIENT_HTTP1, // no connection of this kind is kept or shared
        .connect_timeout_ms = raw->connect_ms,
        .fresh = true,
    };
    *err = ERR_SYSTEM; // what follows is not the target's fault
    if (!pool_member_address(raw->member, &request.address, &request.address_len) ||
        net_reaches_locally(&request.address, &proxy->shared->admin_address)) {
        return false;
    }
    if (settings != NULL && settings->send_proxy != SEND_PROXY_OFF) {
        request.preamble = write_preamble(raw, settings, preamble, sizeof preamble);
    }
    proxy_settle_limit(raw->member, raw->pool, &request);
    raw->connect_started_ns = proxy->loop->now_ns;
    raw->target = upstream_get(&proxy->upstream, &request, &target_events, raw, err);
    if (raw->target != NULL) {
        stat_count(proxy->stats, upstream_connects_total);
    }
    return raw->target != NULL;
}

// Picks a member and opens a connection to it. POOL_PICKED without a connection: it failed at once.
static enum pool_result take(struct raw *raw, const struct pool_version *pool, uint64_t random)
{
    const struct pool_settings *settings = pool_settings(pool);
    struct excluded excluded;
    struct pool_choice choice = {
        .random = random, .now_ms = raw->proxy->loop->now_ms, .tried = excluded.members};
    excluded_init(&excluded, raw->tried, raw->tried_count);
    if (settings != NULL && settings->balance == BALANCE_HASH) {
        const struct in6_addr *peer = http_stream_peer(raw->client);
        choice.hash = key_hash(peer, sizeof *peer);
        choice.has_hash = true;
    }
    for (;;) {
        choice.tried_count = excluded.count;
        enum pool_result result = pool_pick(pool, raw->pool, &choice, &raw->member);
        if (result != POOL_PICKED) {
            raw->member = NULL;
            raw->saw_all = !excluded.saw_less;
            return excluded.count > excluded.tried || choice.needs_room ? POOL_FULL : result;
        }
        int err;
        if (open_target(raw, settings, &err) || err != ERR_LIMIT) {
            if (raw->target == NULL) {
                proxy_member_failed(raw->proxy, raw->member, err);
            }
            return POOL_PICKED;
        }
        struct pool_member *member = raw->member;
        raw->member = NULL;
        if (!excluded_add_full(&excluded, member, &choice)) {
            raw->saw_all = false;
            return POOL_FULL;
        }
    }
}

// The member failed: it is put aside. False: no other may be tried.
static bool pass_over(struct raw *raw, enum end_reason end)
{
    const struct route_decl *rules = raw->route->rules;
    unsigned retry_max = rules == NULL ? 1 : rules->retries;
    bool retries = rules == NULL || (rules->retry_on & RETRY_CONNECT) != 0;
    struct pool_member *member = raw->member;
    stat_count(raw->proxy->stats, upstream_connect_errors_total);
    raw->end = end;
    raw_put_member(raw);
    if (!retries || raw->tried_count >= retry_max || raw->tried_count == POOL_TRIED_MAX) {
        return false;
    }
    stat_count(raw->proxy->stats, upstream_retries_total);
    raw->tried[raw->tried_count++] = member;
    return true;
}

// ---- the queue ----

static void on_turn(void *user)
{
    struct raw *raw = user;
    raw->turn = raw->waiter;
    raw->waiter = NULL;
    raw_try_target(raw);
}

// It waits no more; `is_served`: its turn was used.
static void end_wait(struct raw *raw, bool is_served)
{
    if (raw->queue == NULL) {
        return;
    }
    struct proxy *proxy = raw->proxy;
    struct pool_slot *slot = proxy_queue_of(raw->pool) == raw->queue ? raw->pool : NULL;
    if (is_served) {
        raw->turn = NULL; // spent
    }
    pool_queue_leave(&raw->turn);
    pool_queue_leave(&raw->waiter);
    raw->queue_ns += proxy->loop->now_ns - raw->queued_at_ns;
    raw->queue = NULL;
    loop_timer_cancel(proxy->loop, &raw->timer);
    if (slot != NULL) {
        proxy_wake_queue(slot, proxy_random(proxy), proxy->loop->now_ms);
    }
}

void raw_leave_queue(struct raw *raw)
{
    end_wait(raw, false);
}

void raw_queue_timeout(struct raw *raw)
{
    uint64_t now_ms = raw->proxy->loop->now_ms;
    if (raw->queue_due_ms > now_ms) {
        loop_timer_set(raw->proxy->loop, &raw->timer, raw->queue_due_ms - now_ms);
        return;
    }
    stat_count(raw->proxy->stats, queue_timeouts_total);
    raw_refuse(raw, END_QUEUE_TIMEOUT);
}

static void refuse_full(struct raw *raw)
{
    stat_count(raw->proxy->stats, queue_full_total);
    raw_refuse(raw, raw->tried_count > 0 ? raw->end : END_QUEUE_FULL);
}

// All are full. True: there was room in the end.
static bool wait_for_turn(struct raw *raw, const struct pool_version *pool, uint64_t random)
{
    const struct pool_settings *settings = pool_settings(pool);
    struct loop *loop = raw->proxy->loop;
    struct pool_queue *queue = proxy_queue_of(raw->pool);
    if (raw->turn != NULL && raw->queue == queue) {
        pool_queue_again(raw->turn, raw->saw_all);
        raw->waiter = raw->turn;
        raw->turn = NULL;
        return false;
    }
    end_wait(raw, false); // of another pool
    if (settings == NULL || settings->queue == 0 || queue == NULL ||
        pool_queue_join(queue, loop, settings->queue, on_turn, raw, &raw->waiter) != 0) {
        refuse_full(raw);
        return false;
    }
    raw->queue = queue;
    raw->queued_at_ns = loop->now_ns;
    raw->queue_due_ms = loop->now_ms + settings->queue_timeout_ms;
    // As for requests (waiting.c).
    if (pool_queue_len(queue) <= 1 && take(raw, pool, random) == POOL_PICKED) {
        return true;
    }
    stat_count(raw->proxy->stats, queued_total);
    loop_timer_set(loop, &raw->timer, settings->queue_timeout_ms);
    return false;
}

static bool must_wait(const struct raw *raw, const struct pool_settings *settings)
{
    const struct pool_queue *queue = proxy_queue_of(raw->pool);
    return settings != NULL && settings->queue > 0 && raw->turn == NULL && queue != NULL &&
           pool_queue_len(queue) > 0;
}

static void give_up(struct raw *raw, enum end_reason end)
{
    if (raw->tried_count == 0) {
        stat_count(raw->proxy->stats, no_target_total);
    }
    raw_refuse(raw, raw->tried_count == 0 ? end : raw->end);
}

void raw_try_target(struct raw *raw)
{
    for (;;) {
        enum end_reason end = END_NO_TARGET;
        uint64_t random = proxy_random(raw->proxy);
        const struct pool_version *pool = find_pool(raw, random, &end);
        if (pool == NULL) {
            give_up(raw, end);
            return;
        }
        enum pool_result result =
            must_wait(raw, pool_settings(pool)) ? POOL_FULL : take(raw, pool, random);
        if (result == POOL_NONE) {
            give_up(raw, end);
            return;
        }
        if (result == POOL_FULL && !wait_for_turn(raw, pool, random)) {
            return;
        }
        end_wait(raw, true);
        if (raw->target != NULL) {
            return; // it is being opened
        }
        if (!pass_over(raw, END_CONNECT_REFUSED)) {
            raw_refuse(raw, raw->end);
            return;
        }
    }
}

// ---- the target's events ----

static void send_piece(void *context, struct str piece)
{
    struct http_stream *target = context;
    target->ops->send_data(target, piece);
}

static void on_ready(struct http_stream *stream)
{
    struct raw *raw = stream->user;
    struct loop *loop = stream->loop;
    raw->target = stream;
    raw->is_open = true;
    raw->end = END_TUNNEL;
    raw->connect_ns = loop->now_ns - raw->connect_started_ns;
    raw->progress_ms = loop->now_ms;
    stat_count(raw->proxy->stats, tunnels_total);
    stat_add(&raw->proxy->stats->tunnels, 1);
    stream->ops->tunnel(stream);
    body_keep_each(&raw->keep, send_piece, stream);
    loop_task_add(loop, &raw->keep_task); // the views are borrowed until the end of this event
    if (raw->client_ended) {
        stream->ops->send_end(stream, NULL, 0);
    }
    if (raw->client_full) {
        raw->target_paused = true;
        stream->ops->pause(stream);
    }
    raw_resume_client(raw);
    loop_timer_set(loop, &raw->timer, raw->tunnel_idle_ms);
}

static void on_target_data(struct http_stream *stream, struct str data)
{
    struct raw *raw = stream->user;
    raw->progress_ms = stream->loop->now_ms;
    raw->client->ops->send_data(raw->client, data);
}

static void on_target_end(struct http_stream *stream, const struct http_field *trailers,
                          unsigned trailer_count)
{
    (void)trailers;
    (void)trailer_count;
    struct raw *raw = stream->user;
    raw->progress_ms = stream->loop->now_ms;
    raw->client->ops->send_end(raw->client, NULL, 0);
}

static void on_target_full(struct http_stream *stream)
{
    raw_pause_client(stream->user);
}

static void on_target_room(struct http_stream *stream)
{
    struct raw *raw = stream->user;
    raw->progress_ms = stream->loop->now_ms;
    raw_resume_client(raw);
}

static void on_target_reset(struct http_stream *stream, int err)
{
    struct raw *raw = stream->user;
    raw->target = NULL; // it is gone by itself
    if (!raw->is_open) {
        proxy_member_failed(raw->proxy, raw->member, err);
    }
    if (raw->is_open) {
        raw_cut(raw, err == ERR_MEMORY ? END_NO_MEMORY : END_TUNNEL);
    } else if (pass_over(raw, err == ERR_TIMEOUT ? END_CONNECT_TIMEOUT : END_CONNECT_REFUSED)) {
        raw_try_target(raw);
    } else {
        raw_refuse(raw, raw->end);
    }
}

static void ignore_head(struct http_stream *stream, const struct http_head *head)
{
    (void)stream;
    (void)head; // a tunnel has none
}

static const struct http_stream_events target_events = {
    .on_ready = on_ready,
    .on_info = ignore_head,
    .on_head = ignore_head,
    .on_data = on_target_data,
    .on_end = on_target_end,
    .on_full = on_target_full,
    .on_room = on_target_room,
    .on_reset = on_target_reset,
};
