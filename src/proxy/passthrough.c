// SPDX-License-Identifier: MIT
// Connections whose TLS is not terminated here: the ClientHello chose a route by its name, and all bytes
// go to a target of its pool and back as they are.
//
//   client stream ──bytes──► raw ──► target stream      (both in their tunnel state)
//
// A raw connection has a route and a target, and no transaction: nothing in it is HTTP.
#include "net/address.h"
#include "net/proxy_protocol.h"
#include "proxy/transaction.h"

enum {
    KEEP_MAX = 65536, // bytes of the client that wait for the target's connection, but for one read
    FAREWELL_MS = 2000, // for a client that was refused to take the alert
};

struct raw {
    struct list node; // in proxy->raws
    struct proxy *proxy;
    struct http_stream *client; // NULL: gone
    struct http_stream *target; // NULL: none now
    bool is_open;               // both are tunnels
    bool is_refused;            // the client was told so; what it still sends is dropped
    bool client_ended;          // FIN
    bool client_full;
    bool client_paused;
    bool target_paused;
    enum end_reason end; // until it is open: why the last target failed

    struct pin *route_pin;
    struct route_version *route;
    struct pin *pool_pin; // of the version that the newest member is of, if it is not `route`
    struct pool_slot *pool;
    struct pool_member *member;
    struct pool_member *tried[POOL_TRIED_MAX];
    unsigned tried_count;
    unsigned tunnel_idle_ms;
    struct body_keep keep;
    struct loop_task keep_task; // frees what is kept when it was sent

    struct loop_timer timer;
    uint64_t progress_ms; // last byte either way
    uint64_t started_ns;
    uint64_t connect_started_ns;
    uint64_t connect_ns;
    uint64_t bytes_in;
    uint64_t bytes_out;
    size_t sni_len;
    char sni[TLS_SNI_MAX + 1];
    char peer[46];
    size_t peer_len;
    char target_text[POOL_MEMBER_TEXT_MAX];
};

static const struct http_stream_events target_events;

size_t raw_len(void)
{
    return sizeof(struct raw);
}

// ---- the end ----

static void put_member(struct raw *raw)
{
    if (raw->member != NULL) {
        pool_member_text(raw->member, raw->target_text, sizeof raw->target_text);
        pool_member_put(raw->member);
        raw->member = NULL;
    }
}

static void drop_target(struct raw *raw)
{
    if (raw->target != NULL) {
        raw->target->ops->reset(raw->target, ERR_CLOSED);
        raw->target = NULL;
    }
    put_member(raw);
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
    if (raw->pool != NULL) {
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
        .connect_ns = raw->connect_ns,
        .retries = (uint8_t)raw->tried_count,
        .client_ip = str_make(raw->peer, raw->peer_len),
        .host = str_make(raw->sni, raw->sni_len),
        .pool = raw->pool == NULL ? STR_NULL : raw->pool->name,
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

// Ends it now, from this side.
static void cut(struct raw *raw, enum end_reason end)
{
    struct http_stream *client = raw->client;
    raw->end = end;
    read_client_bytes(raw);
    client->ops->reset(client, ERR_CLOSED);
    finish(raw);
}

// Nothing was sent yet: the client gets an alert that says so, and FIN.
static void refuse(struct raw *raw, enum end_reason end)
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

// ---- a target ----

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

// Chooses and counts, from the tables as they are now. NULL: with the reason in *end.
static struct pool_member *pick(struct raw *raw, const struct pool_settings **settings,
                                enum end_reason *end)
{
    struct proxy *proxy = raw->proxy;
    struct route_version *route = rcu_load(raw->route->slot->current);
    *end = END_NO_TARGET;
    if (route == NULL) {
        *end = END_NO_ROUTE;
        return NULL;
    }
    struct pool_slot *named;
    uint64_t random = proxy_random(proxy);
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
    *settings = pool_settings(pool);
    unsigned idle_ms = proxy->shared->config->timeouts.tunnel_idle_ms;
    if (*settings != NULL && (*settings)->timeouts.tunnel_idle_ms != 0) {
        idle_ms = (*settings)->timeouts.tunnel_idle_ms;
    }
    if (route->rules != NULL && route->rules->timeouts.tunnel_idle_ms != 0) {
        idle_ms = route->rules->timeouts.tunnel_idle_ms;
    }
    raw->tunnel_idle_ms = idle_ms;
    struct pool_choice choice = {
        .random = random, .tried = raw->tried, .tried_count = raw->tried_count};
    struct pool_member *member;
    pool_pick(pool, named, &choice, &member);
    return member;
}

static unsigned connect_ms_of(const struct raw *raw, const struct pool_settings *settings)
{
    const struct route_decl *rules = raw->route->rules;
    if (rules != NULL && rules->timeouts.connect_ms != 0) {
        return rules->timeouts.connect_ms;
    }
    return settings != NULL && settings->timeouts.connect_ms != 0
               ? settings->timeouts.connect_ms
               : raw->proxy->shared->config->timeouts.connect_ms;
}

// A connection to the picked member. False: it failed at once.
static bool open_target(struct raw *raw, const struct pool_settings *settings)
{
    struct proxy *proxy = raw->proxy;
    char preamble[PROXY_HEADER_MAX];
    struct upstream_request request = {
        .protocol = HTTP_CLIENT_HTTP1, // no connection of this kind is kept or shared
        .connect_timeout_ms = connect_ms_of(raw, settings),
        .fresh = true,
    };
    if (!pool_member_address(raw->member, &request.address, &request.address_len) ||
        net_reaches_locally(&request.address, &proxy->admin_address)) {
        return false;
    }
    if (settings != NULL && settings->send_proxy != SEND_PROXY_OFF) {
        request.preamble = write_preamble(raw, settings, preamble, sizeof preamble);
    }
    int err;
    raw->connect_started_ns = proxy->loop->now_ns;
    raw->target = upstream_get(&proxy->upstream, &request, &target_events, raw, &err);
    if (raw->target != NULL) {
        stat_count(proxy->stats, upstream_connects_total);
    }
    return raw->target != NULL;
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
    put_member(raw);
    if (!retries || raw->tried_count >= retry_max || raw->tried_count == POOL_TRIED_MAX) {
        return false;
    }
    stat_count(raw->proxy->stats, upstream_retries_total);
    raw->tried[raw->tried_count++] = member;
    return true;
}

static void try_target(struct raw *raw)
{
    for (;;) {
        const struct pool_settings *settings = NULL;
        enum end_reason end;
        raw->member = pick(raw, &settings, &end);
        if (raw->member == NULL) {
            bool is_first = raw->tried_count == 0;
            if (is_first) {
                stat_count(raw->proxy->stats, no_target_total);
            }
            refuse(raw, is_first ? end : raw->end);
            return;
        }
        if (open_target(raw, settings)) {
            return;
        }
        if (!pass_over(raw, END_CONNECT_REFUSED)) {
            refuse(raw, raw->end);
            return;
        }
    }
}

// ---- time ----

static void on_timer(struct loop *loop, struct loop_timer *timer)
{
    struct raw *raw = CONTAINER_OF(timer, struct raw, timer);
    uint64_t due_ms = raw->progress_ms + raw->tunnel_idle_ms;
    if (raw->is_refused) {
        cut(raw, raw->end);
    } else if (due_ms > loop->now_ms) {
        loop_timer_set(loop, timer, due_ms - loop->now_ms);
    } else {
        cut(raw, END_TUNNEL_IDLE);
    }
}

static void on_keep_sent(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    struct raw *raw = CONTAINER_OF(task, struct raw, keep_task);
    body_keep_free(&raw->keep, &raw->proxy->keep_slab);
}

// ---- the target's events ----

static void pause_client(struct raw *raw)
{
    if (!raw->client_paused) {
        raw->client_paused = true;
        raw->client->ops->pause(raw->client);
    }
}

static void resume_client(struct raw *raw)
{
    if (raw->client_paused) {
        raw->client_paused = false;
        raw->client->ops->resume(raw->client);
    }
}

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
    resume_client(raw);
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
    pause_client(stream->user);
}

static void on_target_room(struct http_stream *stream)
{
    struct raw *raw = stream->user;
    raw->progress_ms = stream->loop->now_ms;
    resume_client(raw);
}

static void on_target_reset(struct http_stream *stream, int err)
{
    struct raw *raw = stream->user;
    raw->target = NULL; // it is gone by itself
    if (raw->is_open) {
        cut(raw, err == ERR_MEMORY ? END_NO_MEMORY : END_TUNNEL);
    } else if (pass_over(raw, err == ERR_TIMEOUT ? END_CONNECT_TIMEOUT : END_CONNECT_REFUSED)) {
        try_target(raw);
    } else {
        refuse(raw, raw->end);
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
        cut(raw, END_NO_MEMORY);
    } else if (raw->keep.len >= KEEP_MAX) {
        pause_client(raw);
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
        refuse(raw, END_NO_ROUTE); // it was one a moment ago
        return;
    }
    raw->route_pin = pin_get(&proxy->pins, &raw->route->version);
    if (raw->route_pin == NULL) {
        raw->route = NULL;
        refuse(raw, END_NO_MEMORY);
        return;
    }
    if (raw->route->rules != NULL && proxy_denies(raw->route->rules, http_stream_peer(stream))) {
        refuse(raw, END_DENIED);
        return;
    }
    try_target(raw);
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
            cut(raw, END_CUT);
        }
    }
}
