// SPDX-License-Identifier: MIT
// The origin side of HTTP/1: what the user of a client connection does, its opening and reuse.
#include "http/h1/h1_client_int.h"
#include "http/h1/h1_write.h"
#include <errno.h>
#include <sys/socket.h>

enum { FLUSH_MS = 30000 }; // for what a tunnel left queued

void h1_client_on_flushed(struct client_link *link)
{
    struct h1_client_conn *c = h1_client_of_link(link);
    struct loop *loop = client_link_loop(link);
    const struct outq *out = &link->out;
    if (c->state == STATE_FLUSH) {
        if (out->failed || out->queued == 0) {
            h1_client_close_now(c);
        }
        return;
    }
    c->stream.queued = out->queued;
    if (out->is_short) {
        h1_client_fail(c, ERR_MEMORY);
        return;
    }
    if (out->failed) {
        // The origin may have answered before it closed: what it sent is read first.
        link->readable = true;
        loop_task_add(loop, &c->again);
        return;
    }
    if (out->queued == 0 && c->fin_queued && !c->shut) {
        outq_shut(loop, &link->out);
        c->shut = true;
    }
    stream_tell_room(&c->stream, out->queued, &c->was_full);
}

static void on_flush_timeout(struct client_link *link)
{
    h1_client_close_now(h1_client_of_link(link));
}

static void send_head(struct http_stream *stream, const struct http_head *head)
{
    struct h1_client_conn *c = h1_client_of(stream);
    // "TE" is for this hop, which Connection must say (RFC 9110 10.1.4).
    const char *connection = head->te_trailers ? (head->upgrade ? "upgrade, TE" : "TE")
                             : head->upgrade   ? "upgrade"
                                               : NULL;
    struct h1_framing framing = {
        .body = head->body, .body_len = head->body_len, .connection = connection};
    c->method = (uint8_t)head->method;
    c->request_body = (uint8_t)head->body;
    c->request_left = head->body == BODY_LENGTH ? head->body_len : 0;
    c->request_ended = false;
    c->head_sent = true;
    h1_write_request(stream->loop, &c->link.out, head, &framing);
}

static void send_info(struct http_stream *stream, const struct http_head *head)
{
    (void)stream; // requests have none
    (void)head;
}

static void send_data(struct http_stream *stream, struct str data)
{
    struct h1_client_conn *c = h1_client_of(stream);
    if (c->state == STATE_TUNNEL || c->request_body == BODY_LENGTH) {
        if (c->state != STATE_TUNNEL) {
            INVARIANT(data.len <= c->request_left);
            c->request_left -= data.len;
        }
        outq_put_view(stream->loop, &c->link.out, data);
    } else if (c->request_body == BODY_CHUNKED) {
        h1_write_chunk(stream->loop, &c->link.out, data);
    }
}

static void send_end(struct http_stream *stream, const struct http_field *trailers, unsigned count)
{
    struct h1_client_conn *c = h1_client_of(stream);
    if (c->state == STATE_TUNNEL) {
        c->fin_queued = true;
        outq_wake(stream->loop, &c->link.out);
        return;
    }
    INVARIANT(c->request_body != BODY_LENGTH || c->request_left == 0);
    if (c->request_body == BODY_CHUNKED) {
        h1_write_last_chunk(stream->loop, &c->link.out, trailers, count);
    }
    c->request_ended = true;
}

static void reset(struct http_stream *stream, int err)
{
    (void)err;
    struct h1_client_conn *c = h1_client_of(stream);
    if (c->state != STATE_CLOSED) {
        h1_client_close_now(c);
    }
}

static void pause_input(struct http_stream *stream)
{
    h1_client_of(stream)->paused = true;
}

static void resume_input(struct http_stream *stream)
{
    struct h1_client_conn *c = h1_client_of(stream);
    if (c->paused) {
        c->paused = false;
        if (c->link.readable || c->kept != NULL) {
            loop_task_add(stream->loop, &c->again);
        }
    }
}

static void tunnel(struct http_stream *stream)
{
    struct h1_client_conn *c = h1_client_of(stream);
    h1_client_set_state(c, STATE_TUNNEL);
    c->stream.is_complete = false;
    if (c->kept != NULL || c->link.readable) {
        loop_task_add(stream->loop, &c->again);
    }
}

static void become_idle(struct h1_client_conn *c)
{
    h1_client_set_state(c, STATE_IDLE);
    c->link.base.idle_since_ms = c->link.pool->loop->now_ms;
    if (!c->link.base.owner->on_idle(c->link.base.owner, &c->link.base)) {
        h1_client_close_now(c);
    }
}

static void release(struct http_stream *stream)
{
    struct h1_client_conn *c = h1_client_of(stream);
    bool is_whole = !c->link.fin && !c->link.broken && c->kept == NULL && !c->link.out.failed;
    if (c->state == STATE_CLOSED) {
        return;
    }
    if (c->state == STATE_HEAD && !c->head_sent && is_whole) {
        become_idle(
            c); // never used; what TLS may have behind its handshake is read when it is (`again`)
        return;
    }
    bool reusable = c->state == STATE_DONE && c->request_ended && c->keep_alive && is_whole &&
                    !c->link.readable && outq_is_empty(&c->link.out);
    if (c->state == STATE_TUNNEL && c->stream.is_complete && c->fin_queued && !c->link.out.failed &&
        !outq_is_empty(&c->link.out)) {
        h1_client_set_state(c, STATE_FLUSH);
        loop_task_cancel(&c->again);
        c->link.on_timer = on_flush_timeout;
        loop_timer_set(stream->loop, &c->link.timer, FLUSH_MS);
        return;
    }
    if (!reusable) {
        h1_client_close_now(c);
        return;
    }
    loop_task_cancel(&c->again);
    become_idle(c);
}

static const struct http_stream_ops stream_ops = {
    send_head, send_info, send_data, send_end, reset, pause_input, resume_input, tunnel, release,
};

// ---- opening, reuse ----

size_t h1_client_conn_len(void)
{
    return sizeof(struct h1_client_conn);
}

// A struct for a connection, all zero but what begins an exchange. NULL: out of memory.
static struct h1_client_conn *make_conn(struct http_client_pool *pool)
{
    struct h1_client_conn *c = slab_get(&pool->conns);
    if (c != NULL) {
        memset(c, 0, sizeof *c);
        c->stream.ops = &stream_ops;
        c->stream.loop = pool->loop;
        loop_task_init(&c->again, h1_client_on_again);
    }
    return c;
}

static void begin_exchange(struct h1_client_conn *c, const struct http_stream_events *events,
                           void *user)
{
    c->stream.events = events;
    c->stream.user = user;
    c->stream.bytes_in = 0;
    c->stream.bytes_out = 0;
    c->stream.queued = 0;
    c->stream.is_complete = false;
    c->written_before = c->link.out.written;
    c->sent_before = c->link.out.sent;
    c->paused = false;
    c->was_full = false;
    c->head_sent = false;
    c->request_ended = false;
    c->keep_alive = false;
}

struct http_stream *h1_client_open(struct http_client_pool *pool,
                                   const struct http_client_target *target,
                                   struct http_client_owner *owner,
                                   const struct http_stream_events *events, void *user, int *err)
{
    struct h1_client_conn *c = make_conn(pool);
    if (c == NULL) {
        *err = ERR_MEMORY;
        return NULL;
    }
    *err = client_link_open(&c->link, pool, target, 1u << TLS_HTTP1, owner, &h1_client_link_ops);
    if (*err != 0) {
        slab_put(&pool->conns, c);
        return NULL;
    }
    begin_exchange(c, events, user);
    return &c->stream;
}

struct http_stream *h1_client_adopt(struct client_link *from,
                                    const struct http_stream_events *events, void *user)
{
    struct http_client_pool *pool = from->pool;
    struct h1_client_conn *c = make_conn(pool);
    if (c == NULL) {
        return NULL;
    }
    if (client_link_move(from, &c->link, &h1_client_link_ops) != 0) {
        slab_put(&pool->conns, c);
        return NULL;
    }
    begin_exchange(c, events, user);
    h1_client_set_state(c, STATE_HEAD);
    if (c->link.readable) {
        loop_task_add(pool->loop, &c->again);
    }
    c->stream.events->on_ready(&c->stream);
    return &c->stream;
}

// Has the peer closed, or sent what nobody asked for?
static bool is_stale(struct h1_client_conn *c)
{
    char byte;
    ssize_t n = recv(c->link.io.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

struct http_stream *h1_client_reuse(struct client_link *link, bool check,
                                    const struct http_stream_events *events, void *user)
{
    struct h1_client_conn *c = h1_client_of_link(link);
    INVARIANT(c->state == STATE_IDLE);
    if (check && is_stale(c)) {
        h1_client_close_now(c);
        return NULL;
    }
    h1_client_set_state(c, STATE_HEAD);
    begin_exchange(c, events, user);
    c->stream.was_reused = true;
    return &c->stream;
}

void h1_client_close(struct client_link *link)
{
    h1_client_close_now(h1_client_of_link(link));
}
