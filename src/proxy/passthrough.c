// SPDX-License-Identifier: MIT
// Connections whose TLS is not terminated here: the ClientHello chose a route by its name, and all bytes
// go to a target of its pool and back as they are.
//
//   client stream ──bytes──► raw ──► target stream      (both in their tunnel state)
//
// A raw connection has a route and a target, and no transaction: nothing in it is HTTP.
#include "proxy/raw.h"

enum {
    KEEP_MAX = 65536, // bytes of the client that wait for the target's connection, but for one read
    FAREWELL_MS = 2000, // for a client that was refused to take the alert
};

size_t raw_len(void)
{
    return sizeof(struct raw);
}

// ---- the end ----

void raw_put_member(struct raw *raw)
{
    if (raw->member != NULL) {
        pool_member_text(raw->member, raw->target_text, sizeof raw->target_text);
        pool_member_put(raw->member);
        raw->member = NULL;
    }
}

// Gives up the target's stream, the count on its member, and a place in the queue.
static void drop_target(struct raw *raw)
{
    if (raw->target != NULL) {
        raw->target->ops->reset(raw->target, ERR_CLOSED);
        raw->target = NULL;
    }
    raw_put_member(raw);
    raw_leave_queue(raw);
}

static void count(struct raw *raw, uint64_t duration_ns)
{
    struct proxy *proxy = raw->proxy;
    struct worker_stats *stats = proxy->stats;
    stat_add(&stats->counters[COUNTER_bytes_in_total], raw->bytes_in);
    stat_add(&stats->counters[COUNTER_bytes_out_total], raw->bytes_out);
    if (raw->route != NULL) {
        stat_slot_add(&raw->route->slot->stats, proxy->index, duration_ns, 0, raw->bytes_in,
                      raw->bytes_out);
        if (raw->route->tenant != NULL) {
            stat_slot_add(&raw->route->tenant->stats, proxy->index, duration_ns, 0, raw->bytes_in,
                          raw->bytes_out);
        }
    }
    if (raw->pool != NULL && !raw->pool->is_hidden) {
        stat_slot_add(&raw->pool->stats, proxy->index, duration_ns, 0, raw->bytes_in,
                      raw->bytes_out);
    }
    if (raw->is_open) {
        atomic_store_explicit(&stats->tunnels,
                              atomic_load_explicit(&stats->tunnels, memory_order_relaxed) - 1,
                              memory_order_relaxed);
    }
}

static void log_record(const struct raw *raw, uint64_t duration_ns)
{
    struct proxy *proxy = raw->proxy;
    char route[TXN_HOST_MAX + 2];
    struct access_record record = {
        .real_ns = proxy->loop->real_ns,
        .duration_ns = duration_ns,
        .bytes_in = raw->bytes_in,
        .bytes_out = raw->bytes_out,
        .queue_ns = raw->queue_ns,
        .connect_ns = raw->connect_ns,
        .retries = (uint8_t)raw->tried_count,
        .client_ip = str_make(raw->peer, raw->peer_len),
        .host = str_make(raw->sni, raw->sni_len),
        .pool = raw->pool == NULL ? STR_NULL : pool_slot_name(raw->pool),
        .target = str_from_c(raw->target_text),
        .end = end_info(raw->end)->token,
    };
    if (raw->route != NULL) {
        record.route = str_make(route, route_slot_text(raw->route->slot, route, sizeof route));
        record.tenant = raw->route->tenant == NULL ? STR_NULL : raw->route->tenant->id;
    }
    access_log_add(proxy->shared->access_log, proxy->index, &record);
}

// One record, counters, everything given back. The client's stream is over.
static void finish(struct raw *raw)
{
    struct proxy *proxy = raw->proxy;
    uint64_t duration_ns = proxy->loop->now_ns - raw->started_ns;
    drop_target(raw);
    loop_timer_cancel(proxy->loop, &raw->timer);
    loop_task_cancel(&raw->keep_task);
    count(raw, duration_ns);
    if (proxy->shared->access_log != NULL && (raw->route == NULL || raw->route->access_log)) {
        log_record(raw, duration_ns);
    }
    body_keep_free(&raw->keep, &proxy->keep_slab);
    pin_put(&proxy->pins, &raw->pool_pin);
    pin_put(&proxy->pins, &raw->route_pin);
    list_remove(&raw->node);
    slab_put(&proxy->raw_slab, raw);
}

static void read_client_bytes(struct raw *raw)
{
    raw->bytes_in = raw->client->bytes_in;
    raw->bytes_out = raw->client->bytes_out;
    raw->client = NULL;
}

void raw_cut(struct raw *raw, enum end_reason end)
{
    struct http_stream *client = raw->client;
    raw->end = end;
    read_client_bytes(raw);
    client->ops->reset(client, ERR_CLOSED);
    finish(raw);
}

void raw_refuse(struct raw *raw, enum end_reason end)
{
    static const char alert[] = {0x15, 3, 3, 0, 2, 2, 80}; // fatal, internal_error (RFC 8446 6)
    struct http_stream *client = raw->client;
    raw->end = end;
    raw->is_refused = true;
    drop_target(raw);
    if (raw->client_paused) {
        raw->client_paused = false;
        client->ops->resume(client);
    }
    client->ops->send_data(client, str_make(alert, sizeof alert));
    client->ops->send_end(client, NULL, 0);
    loop_timer_set(raw->proxy->loop, &raw->timer, FAREWELL_MS);
}

// ---- time ----

static void on_timer(struct loop *loop, struct loop_timer *timer)
{
    struct raw *raw = CONTAINER_OF(timer, struct raw, timer);
    uint64_t due_ms = raw->progress_ms + raw->tunnel_idle_ms;
    if (raw->is_refused) {
        raw_cut(raw, raw->end);
    } else if (raw->queue != NULL) {
        raw_queue_timeout(raw);
    } else if (due_ms > loop->now_ms) {
        loop_timer_set(loop, timer, due_ms - loop->now_ms);
    } else {
        raw_cut(raw, END_TUNNEL_IDLE);
    }
}

static void on_keep_sent(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    struct raw *raw = CONTAINER_OF(task, struct raw, keep_task);
    body_keep_free(&raw->keep, &raw->proxy->keep_slab);
}

void raw_pause_client(struct raw *raw)
{
    if (!raw->client_paused) {
        raw->client_paused = true;
        raw->client->ops->pause(raw->client);
    }
}

void raw_resume_client(struct raw *raw)
{
    if (raw->client_paused) {
        raw->client_paused = false;
        raw->client->ops->resume(raw->client);
    }
}

// ---- the client's events ----

static void on_client_data(struct http_stream *stream, struct str data)
{
    struct raw *raw = stream->user;
    raw->progress_ms = stream->loop->now_ms;
    if (raw->is_refused) {
        return;
    }
    if (raw->is_open) {
        raw->target->ops->send_data(raw->target, data);
        return;
    }
    if (!body_keep_append(&raw->keep, &raw->proxy->keep_slab, data)) {
        stat_count(raw->proxy->stats, no_memory_total);
        raw_cut(raw, END_NO_MEMORY);
    } else if (raw->keep.len >= KEEP_MAX) {
        raw_pause_client(raw);
    }
}

static void on_client_end(struct http_stream *stream, const struct http_field *trailers,
                          unsigned trailer_count)
{
    (void)trailers;
    (void)trailer_count;
    struct raw *raw = stream->user;
    raw->client_ended = true;
    raw->progress_ms = stream->loop->now_ms;
    if (raw->is_open) {
        raw->target->ops->send_end(raw->target, NULL, 0);
    }
}

static void on_client_full(struct http_stream *stream)
{
    struct raw *raw = stream->user;
    raw->client_full = true;
    if (raw->is_open && !raw->target_paused) {
        raw->target_paused = true;
        raw->target->ops->pause(raw->target);
    }
}

static void on_client_room(struct http_stream *stream)
{
    struct raw *raw = stream->user;
    raw->client_full = false;
    raw->progress_ms = stream->loop->now_ms;
    if (raw->target_paused) {
        raw->target_paused = false;
        raw->target->ops->resume(raw->target);
    }
}

// Both directions have ended.
static void on_client_sent(struct http_stream *stream)
{
    struct raw *raw = stream->user;
    read_client_bytes(raw);
    if (raw->target != NULL && raw->is_open) {
        struct http_stream *target = raw->target;
        raw->target = NULL;
        target->ops->release(target); // what the client said last may still be on its way
    }
    finish(raw);
}

static void on_client_reset(struct http_stream *stream, int err)
{
    struct raw *raw = stream->user;
    if (raw->proxy->stopping) {
        raw->end = END_STOP;
    } else if (err == ERR_MEMORY) {
        raw->end = END_NO_MEMORY;
    } else if (!raw->is_open && !raw->is_refused) {
        raw->end = END_CLIENT_LEFT;
        stat_count(raw->proxy->stats, client_gone_total);
    }
    (void)stream;
    read_client_bytes(raw);
    finish(raw);
}

static const struct http_stream_events client_events = {
    .on_data = on_client_data,
    .on_end = on_client_end,
    .on_full = on_client_full,
    .on_room = on_client_room,
    .on_sent = on_client_sent,
    .on_reset = on_client_reset,
};

// ---- from outside ----

void raw_begin(struct http_server *server, struct http_stream *stream, struct str sni)
{
    struct proxy *proxy = server->owner;
    struct raw *raw = slab_get(&proxy->raw_slab);
    if (raw == NULL) {
        stream->ops->reset(stream, ERR_MEMORY);
        return;
    }
    memset(raw, 0, sizeof *raw);
    raw->proxy = proxy;
    raw->client = stream;
    stream->events = &client_events;
    stream->user = raw;
    list_append(&proxy->raws, &raw->node);
    loop_timer_init(&raw->timer, on_timer);
    loop_task_init(&raw->keep_task, on_keep_sent);
    raw->started_ns = proxy->loop->now_ns;
    raw->progress_ms = proxy->loop->now_ms;
    raw->sni_len = str_copy(raw->sni, sizeof raw->sni, sni);
    raw->peer_len = str_copy(raw->peer, sizeof raw->peer, http_stream_peer_text(stream));
    stat_count(proxy->stats, passthrough_total);
    raw->route = route_find(proxy->shared->routes, str_make(raw->sni, raw->sni_len), STR("/"));
    if (raw->route == NULL || !raw->route->is_passthrough) {
        raw->route = NULL;
        raw_refuse(raw, END_NO_ROUTE); // it was one a moment ago
        return;
    }
    raw->route_pin = pin_get(&proxy->pins, &raw->route->version);
    if (raw->route_pin == NULL) {
        raw->route = NULL;
        raw_refuse(raw, END_NO_MEMORY);
        return;
    }
    if (raw->route->rules != NULL && proxy_denies(raw->route->rules, http_stream_peer(stream))) {
        raw_refuse(raw, END_DENIED);
        return;
    }
    raw_try_target(raw);
}

void raw_cut_all(struct proxy *proxy)
{
    struct list all;
    list_init(&all);
    list_splice(&all, &proxy->raws);
    while (!list_is_empty(&all)) {
        struct raw *raw = LIST_FIRST(&all, struct raw, node);
        list_remove(&raw->node);
        list_append(&proxy->raws, &raw->node);
        // Relaxed: the message that brought us here came after the mark.
        if (raw->member != NULL &&
            atomic_load_explicit(&raw->member->cut, memory_order_relaxed) != 0) {
            stat_count(proxy->stats, tunnels_cut_total);
            raw_cut(raw, END_CUT);
        }
    }
}
