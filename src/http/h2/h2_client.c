// SPDX-License-Identifier: MIT
// The origin side of HTTP/2: a client connection, its streams and its end.
#include "http/h2/h2_client_int.h"
#include "net/acked.h"

enum { DELIVER_MAX = 65536 }; // bytes of one stream, kept before, in one turn

// ---- streams ----

static void free_stream(struct loop *loop, struct loop_deferred *deferred)
{
    (void)loop;
    struct h2_client_stream *s = CONTAINER_OF(deferred, struct h2_client_stream, deferred);
    h2_section_free(&s->section);
    h2_section_free(&s->trailers);
    h2_memory_unref(&s->memory);
    slab_put(s->slab, s);
}

static struct h2_client_stream *new_stream(struct h2_client_conn *c,
                                           const struct http_stream_events *events, void *user)
{
    struct slab *slab = &c->link.pool->h2_streams;
    struct h2_client_stream *s = slab_get(slab);
    if (s == NULL) {
        return NULL;
    }
    memset(s, 0, sizeof *s);
    s->memory = h2_memory_ref();
    if (s->memory == NULL) {
        slab_put(slab, s);
        return NULL;
    }
    s->slab = slab;
    s->conn = c;
    s->stream = (struct http_stream){
        .ops = &h2_client_stream_ops,
        .events = events,
        .user = user,
        .loop = client_link_loop(&c->link),
        .is_h2 = true,
    };
    list_init(&s->changed);
    list_append(&c->streams, &s->node);
    c->stream_count++;
    return s;
}

// ---- room ----

static bool has_room(const struct h2_client_conn *c)
{
    return c->is_open && !c->is_leaving && c->link.phase != LINK_CLOSED &&
           c->stream_count < c->stream_max &&
           nghttp2_session_get_next_stream_id(c->session) < H2_CLIENT_ID_MAX;
}

// Tells the owner whether there is room, if that has changed.
static void tell_room(struct h2_client_conn *c)
{
    bool now = has_room(c);
    if (now != c->has_room) {
        c->has_room = now;
        c->link.base.owner->on_room(c->link.base.owner, &c->link.base, now);
    }
}

// ---- streams ----

static void close_now(struct h2_client_conn *c)
{
    loop_task_cancel(&c->again);
    client_link_close(&c->link);
}

void h2_client_detach(struct h2_client_stream *s)
{
    struct h2_client_conn *c = s->conn;
    struct loop *loop = client_link_loop(&c->link);
    s->is_gone = true;
    if (s->id > 0 && c->session != NULL) {
        nghttp2_session_set_stream_user_data(c->session, s->id, NULL);
    }
    h2_queue_fini(loop, &s->out);
    h2_queue_fini(loop, &s->in);
    list_remove(&s->node);
    list_remove(&s->changed);
    loop_defer(loop, &s->deferred, free_stream);
    c->stream_count--;
    if (c->link.phase == LINK_OPEN) {
        tell_room(c);
        h2_client_note(c, NULL);
    } else if (c->link.phase != LINK_CLOSED && c->stream_count == 0) {
        close_now(c); // nobody waits for it any more
    }
}

void h2_client_note(struct h2_client_conn *c, struct h2_client_stream *s)
{
    if (s != NULL) {
        list_remove(&s->changed);
        list_append(&c->changed, &s->changed);
    }
    outq_wake(client_link_loop(&c->link), &c->link.out);
}

void h2_client_lose_stream(struct h2_client_stream *s, int err)
{
    if (s->err == 0 && (!s->is_gone || s->is_orphan)) {
        s->err = err;
        h2_client_note(s->conn, s);
    }
}

void h2_client_leave(struct h2_client_conn *c)
{
    c->is_leaving = true;
    tell_room(c);
    h2_client_note(c, NULL);
}

// ---- the end ----

// Closes, and tells all. Not within nghttp2.
static void fail_all(struct h2_client_conn *c, int err)
{
    if (c->link.phase == LINK_CLOSED) {
        return;
    }
    close_now(c);
    while (!list_is_empty(&c->streams)) {
        struct h2_client_stream *s = LIST_FIRST(&c->streams, struct h2_client_stream, node);
        bool is_orphan = s->is_orphan;
        h2_client_detach(s);
        if (!is_orphan) {
            s->stream.events->on_reset(&s->stream, err);
        }
    }
}

// The peer has closed, and of what was sent for this stream nothing has reached it.
static bool never_arrived(const struct h2_client_conn *c, const struct h2_client_stream *s)
{
    uint64_t acked;
    return s->stream.was_reused && c->link.fin && s->stream.bytes_in == 0 &&
           net_acked(c->link.io.fd, &acked) == 0 && acked <= s->sent_before;
}

// Nothing more comes from the peer: what is complete is still delivered.
static void lose(struct h2_client_conn *c, int err)
{
    c->is_dead = true;
    h2_client_leave(c);
    if (c->link.fin) {
        // Or what is told to have never arrived still would.
        outq_drop_gathered(client_link_loop(&c->link), &c->link.out);
    }
    LIST_FOR_EACH_SAFE (node, &c->streams) {
        struct h2_client_stream *s = CONTAINER_OF(node, struct h2_client_stream, node);
        if (!s->peer_ended || s->is_orphan || (s->is_tunnel && !s->end_sent)) {
            s->stream.never_arrived = s->stream.never_arrived || never_arrived(c, s);
            h2_client_lose_stream(s, err);
        }
    }
}

void h2_client_close(struct client_link *link)
{
    struct h2_client_conn *c = h2_client_of_link(link);
    if (link->phase == LINK_OPEN && !c->is_dead && !link->out.failed) {
        nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL, 0);
        link->ops->before_flush(link);
        outq_flush(client_link_loop(link), &link->out);
    }
    close_now(c);
}

// ---- sending ----

// Frames for the output, as many as the socket will take before long.
static void pump(struct client_link *link)
{
    struct h2_client_conn *c = h2_client_of_link(link);
    struct loop *loop = client_link_loop(link);
    while (!c->is_dead && !link->out.failed && link->out.queued < H2_CLIENT_PUMP_MAX) {
        const uint8_t *bytes;
        ssize_t n = nghttp2_session_mem_send(c->session, &bytes);
        if (n < 0) {
            lose(c, n == NGHTTP2_ERR_NOMEM ? ERR_MEMORY : ERR_PROTOCOL);
            break;
        }
        if (n == 0) {
            break;
        }
        outq_put_copy(loop, &link->out, str_make((const char *)bytes, (size_t)n));
    }
    LIST_FOR_EACH_SAFE (node, &c->changed) {
        struct h2_client_stream *s = CONTAINER_OF(node, struct h2_client_stream, changed);
        if (!h2_queue_own(loop, &s->out)) {
            h2_client_lose_stream(s, ERR_MEMORY);
        }
    }
}

// ---- what users are told at the end of an event ----

static void tell_end(struct h2_client_stream *s)
{
    const struct http_field *fields = NULL;
    unsigned count = 0;
    if (s->trailers != NULL && h2_section_trailers(s->trailers, &fields, &count) != 0) {
        h2_client_lose_stream(s, ERR_TRAILER);
        return;
    }
    s->is_told_end = true;
    s->stream.events->on_end(&s->stream, fields, count);
}

void h2_client_deliver(struct h2_client_stream *s)
{
    struct h2_client_conn *c = s->conn;
    struct loop *loop = client_link_loop(&c->link);
    size_t told = 0;
    while (!s->is_gone && !s->paused && s->err == 0 && h2_queue_len(&s->in) > 0) {
        if (told >= DELIVER_MAX) {
            list_remove(&s->changed);
            list_append(&c->changed, &s->changed);
            loop_task_add(loop, &c->again);
            return;
        }
        struct str front = h2_queue_front(&s->in);
        h2_queue_drop(loop, &s->in, front.len);
        if (!s->is_closed) {
            nghttp2_session_consume_stream(c->session, s->id, front.len);
            h2_client_note(c, NULL);
        }
        told += front.len;
        s->stream.events->on_data(&s->stream, front);
    }
    if (!s->is_gone && !s->paused && s->err == 0 && s->peer_ended && !s->is_told_end) {
        tell_end(s);
    }
}

static void tell_queue(struct h2_client_stream *s)
{
    s->stream.queued = h2_queue_len(&s->out);
    stream_tell_room(&s->stream, s->stream.queued, &s->was_full);
}

static void tell_one(struct h2_client_stream *s)
{
    struct h2_client_conn *c = s->conn;
    if (s->err != 0) {
        bool is_orphan = s->is_orphan;
        if (s->id > 0 && !s->is_closed && !c->is_dead) {
            nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
        }
        h2_client_detach(s);
        if (!is_orphan) {
            s->stream.events->on_reset(&s->stream, s->err);
        }
    } else if (s->is_orphan) {
        if (s->is_closed) {
            h2_client_detach(s);
        }
    } else {
        tell_queue(s);
        h2_client_deliver(s);
    }
}

static void tell_changed(struct h2_client_conn *c)
{
    struct list told;
    list_init(&told);
    list_splice(&told, &c->changed);
    while (!list_is_empty(&told)) {
        struct h2_client_stream *s = LIST_FIRST(&told, struct h2_client_stream, changed);
        list_remove(&s->changed);
        tell_one(s);
    }
}

// What becomes of the connection now.
static void settle(struct h2_client_conn *c)
{
    if (!c->is_dead && outq_is_empty(&c->link.out) && !nghttp2_session_want_read(c->session) &&
        !nghttp2_session_want_write(c->session)) {
        lose(c, c->is_leaving ? ERR_CLOSED : ERR_PROTOCOL);
        return; // comes again
    }
    if (c->stream_count > 0) {
        return;
    }
    if (!c->is_open || c->is_leaving) {
        h2_client_close(&c->link);
    } else if (!c->is_idle) {
        c->is_idle = true;
        c->link.base.idle_since_ms = client_link_loop(&c->link)->now_ms;
        if (!c->link.base.owner->on_idle(c->link.base.owner, &c->link.base)) {
            h2_client_close(&c->link);
        }
    }
}

static void on_flushed(struct client_link *link)
{
    struct h2_client_conn *c = h2_client_of_link(link);
    if (link->out.is_short) {
        fail_all(c, ERR_MEMORY);
        return;
    }
    if (link->out.failed && !c->is_dead) {
        // The origin may have answered before it closed: what it sent is read first.
        link->readable = true;
        loop_task_add(client_link_loop(link), &c->again);
    }
    tell_changed(c);
    if (link->phase == LINK_OPEN) {
        settle(c);
    }
}

// ---- receiving ----

static void take(struct h2_client_conn *c, const char *bytes, size_t len)
{
    c->received_ms = client_link_loop(&c->link)->now_ms;
    ssize_t n = nghttp2_session_mem_recv(c->session, (const uint8_t *)bytes, len);
    if (n < 0) {
        lose(c, n == NGHTTP2_ERR_NOMEM ? ERR_MEMORY : ERR_PROTOCOL);
    }
    h2_client_note(c, NULL); // the answers to it
}

static void run(struct h2_client_conn *c)
{
    struct client_link *link = &c->link;
    if (c->is_dead) {
        link->readable = false;
        h2_client_note(c, NULL);
        return;
    }
    if (link->readable) {
        ssize_t n = client_link_receive(link);
        if (n > 0) {
            take(c, client_link_loop(link)->read_buf, (size_t)n);
        } else if (n < 0 || (link->out.failed && !link->readable)) {
            lose(c, n == ERR_TLS ? ERR_TLS : ERR_CLOSED);
        }
    }
    if (link->readable) {
        loop_task_add(client_link_loop(link), &c->again);
    }
    if (!list_is_empty(&c->changed)) {
        h2_client_note(c, NULL);
    }
}

static void on_again(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    run(CONTAINER_OF(task, struct h2_client_conn, again));
}

static void on_event(struct client_link *link)
{
    struct h2_client_conn *c = h2_client_of_link(link);
    if (link->readable) {
        run(c);
    }
    if (!link->out.blocked && !c->is_dead) {
        h2_client_note(c, NULL); // there is room again
    }
}

// ---- opening ----

// The stream for which it was opened has waited for SETTINGS.
static void begin_first(struct h2_client_conn *c)
{
    if (list_is_empty(&c->streams)) {
        return;
    }
    struct h2_client_stream *s = LIST_FIRST(&c->streams, struct h2_client_stream, node);
    if (c->stream_max > 0) {
        s->stream.events->on_ready(&s->stream);
    } else {
        s->stream.never_arrived = true;
        h2_client_lose_stream(s, ERR_CLOSED);
    }
}

void h2_client_on_settings(struct h2_client_conn *c)
{
    uint32_t max =
        nghttp2_session_get_remote_settings(c->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    c->stream_max = max < H2_CLIENT_STREAM_MAX ? max : H2_CLIENT_STREAM_MAX;
    if (!c->is_open) {
        c->is_open = true;
        c->link.base.is_h2 = true;
        loop_timer_cancel(client_link_loop(&c->link), &c->link.timer);
        begin_first(c);
    }
    tell_room(c);
}

void h2_client_on_goaway(struct h2_client_conn *c)
{
    h2_client_leave(c);
    LIST_FOR_EACH_SAFE (node, &c->streams) {
        struct h2_client_stream *s = CONTAINER_OF(node, struct h2_client_stream, node);
        if (s->id == 0) {
            s->stream.never_arrived = true;
            h2_client_lose_stream(s, ERR_CLOSED);
        }
    }
}

// ALPN chose HTTP/1: the stream goes on with it.
static void become_h1(struct h2_client_conn *c)
{
    if (c->only_h2) {
        fail_all(c, ERR_PROTOCOL);
        return;
    }
    struct h2_client_stream *s = LIST_FIRST(&c->streams, struct h2_client_stream, node);
    INVARIANT(c->stream_count ==
              1); // none joins before it is open, and with the first it would be closed
    list_remove(&s->node);
    if (h1_client_adopt(&c->link, s->stream.events, s->stream.user) == NULL) {
        list_push(&c->streams, &s->node);
        fail_all(c, ERR_MEMORY);
        return;
    }
    h2_client_detach(s);
}

static void on_open(struct client_link *link)
{
    struct h2_client_conn *c = h2_client_of_link(link);
    if (link->tls != NULL && tls_protocol(link->tls) != TLS_H2) {
        become_h1(c);
        return;
    }
    int err = h2_client_session_new(c);
    if (err != 0) {
        fail_all(c, err);
        return;
    }
    h2_client_note(c, NULL);
    if (link->readable) {
        loop_task_add(client_link_loop(link), &c->again);
    }
}

static void on_failed(struct client_link *link, int err)
{
    fail_all(h2_client_of_link(link), err);
}

// No SETTINGS in time; or what tunnels left behind does not go out.
static void on_timer(struct client_link *link)
{
    struct h2_client_conn *c = h2_client_of_link(link);
    if (!c->is_open) {
        fail_all(c, ERR_TIMEOUT);
        return;
    }
    LIST_FOR_EACH_SAFE (node, &c->streams) {
        struct h2_client_stream *s = CONTAINER_OF(node, struct h2_client_stream, node);
        if (s->is_orphan) {
            h2_client_lose_stream(s, ERR_TIMEOUT);
        }
    }
}

static void drop_conn(struct h2_client_conn *c)
{
    nghttp2_session_del(c->session);
    h2_memory_unref(&c->memory);
    slab_put(&c->link.pool->h2_conns, c);
}

static void free_it(struct client_link *link)
{
    drop_conn(h2_client_of_link(link));
}

static const struct client_link_ops link_ops = {
    .on_open = on_open,
    .on_failed = on_failed,
    .on_event = on_event,
    .on_flushed = on_flushed,
    .before_flush = pump,
    .gathers = true,
    .free_it = free_it,
};

size_t h2_client_conn_len(void)
{
    return sizeof(struct h2_client_conn);
}

size_t h2_client_stream_len(void)
{
    return sizeof(struct h2_client_stream);
}

static struct h2_client_conn *new_conn(struct http_client_pool *pool)
{
    struct h2_client_conn *c = slab_get(&pool->h2_conns);
    if (c == NULL) {
        return NULL;
    }
    memset(c, 0, sizeof *c);
    c->memory = h2_memory_ref();
    if (c->memory == NULL) {
        slab_put(&pool->h2_conns, c);
        return NULL;
    }
    list_init(&c->streams);
    list_init(&c->changed);
    loop_task_init(&c->again, on_again);
    return c;
}

struct http_stream *h2_client_open(struct http_client_pool *pool,
                                   const struct http_client_target *target,
                                   struct http_client_owner *owner,
                                   const struct http_stream_events *events, void *user, int *err)
{
    struct h2_client_conn *c = new_conn(pool);
    if (c == NULL) {
        *err = ERR_MEMORY;
        return NULL;
    }
    c->link.pool = pool;
    struct h2_client_stream *s = new_stream(c, events, user);
    if (s == NULL) {
        drop_conn(c);
        *err = ERR_MEMORY;
        return NULL;
    }
    c->only_h2 = target->protocol == HTTP_CLIENT_H2;
    unsigned alpn = 1u << TLS_H2 | (c->only_h2 ? 0u : 1u << TLS_HTTP1);
    *err = client_link_open(&c->link, pool, target, alpn, owner, &link_ops);
    if (*err != 0) {
        h2_memory_unref(&s->memory);
        slab_put(s->slab, s);
        drop_conn(c);
        return NULL;
    }
    c->link.on_timer = on_timer;
    return &s->stream;
}

struct http_stream *h2_client_join(struct client_link *link,
                                   const struct http_stream_events *events, void *user)
{
    struct h2_client_conn *c = h2_client_of_link(link);
    bool was_idle = c->is_idle;
    c->is_idle = false;
    struct h2_client_stream *s = has_room(c) ? new_stream(c, events, user) : NULL;
    if (s == NULL) {
        if (was_idle) {
            h2_client_close(link);
        }
        return NULL;
    }
    s->stream.was_reused = true;
    tell_room(c);
    return &s->stream;
}
