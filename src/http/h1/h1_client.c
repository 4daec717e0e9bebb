// SPDX-License-Identifier: MIT
// The origin side of HTTP/1: a client connection and its reuse.
//
//   CONNECT ─► HEAD ─► BODY ─► DONE ─ release ─► IDLE ─ reuse ─► HEAD
//                │ 101                             │ data, FIN
//                └──► TUNNEL ─ release ─► FLUSH    └──► closed
#include "base/invariant.h"
#include "http/client.h"
#include "http/h1/h1_body.h"
#include "http/h1/h1_input.h"
#include "http/h1/h1_write.h"
#include "net/acked.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    KEPT_CONNS = 512,
    FLUSH_MS = 30000, // for what a tunnel left queued
};

enum state {
    STATE_CONNECT,
    STATE_HEAD,
    STATE_BODY,
    STATE_DONE,
    STATE_TUNNEL,
    STATE_IDLE,
    STATE_FLUSH, // without a user: what is queued goes out, then it is closed
    STATE_CLOSED,
};

struct h1_client_conn {
    struct http_client_conn base;
    struct loop_io io;
    struct outq out;
    struct http_stream stream;
    struct http_client_pool *pool;
    struct loop_task again;
    struct loop_timer connect_timer;
    struct loop_deferred deferred;
    struct h1_kept *kept;
    struct h1_body body; // of the response
    uint64_t written_before;
    uint64_t request_left; // BODY_LENGTH
    uint8_t request_body;  // enum http_body
    uint8_t state;         // enum state
    uint8_t method;        // enum http_method
    bool readable;
    bool fin;
    bool broken;
    bool starved; // what is kept is not enough: more bytes must come first
    bool keep_alive;
    bool request_ended;
    bool paused;
    bool was_full;
    bool fin_queued;
    bool shut;
};

static struct h1_client_conn *conn_of(struct http_stream *stream)
{
    return CONTAINER_OF(stream, struct h1_client_conn, stream);
}

// The only place where the state changes.
static void set_state(struct h1_client_conn *c, enum state state)
{
    static const uint8_t from[] = {
        // bit of each state that may come before
        [STATE_CONNECT] = 0,
        [STATE_HEAD] = 1 << STATE_CONNECT | 1 << STATE_IDLE,
        [STATE_BODY] = 1 << STATE_HEAD,
        [STATE_DONE] = 1 << STATE_HEAD | 1 << STATE_BODY,
        [STATE_TUNNEL] = 1 << STATE_HEAD,
        [STATE_IDLE] = 1 << STATE_DONE,
        [STATE_FLUSH] = 1 << STATE_TUNNEL,
        [STATE_CLOSED] = 0x7f,
    };
    INVARIANT(from[state] & (1u << c->state));
    c->state = (uint8_t)state;
}

static void free_conn(struct loop *loop, struct loop_deferred *deferred)
{
    struct h1_client_conn *c = CONTAINER_OF(deferred, struct h1_client_conn, deferred);
    h1_kept_free(loop, &c->kept);
    slab_put(&c->pool->conns, c);
}

static void close_now(struct h1_client_conn *c)
{
    set_state(c, STATE_CLOSED);
    loop_timer_cancel(c->pool->loop, &c->connect_timer);
    loop_task_cancel(&c->again);
    outq_fini(c->pool->loop, &c->out);
    loop_close(c->pool->loop, &c->io);
    loop_defer(c->pool->loop, &c->deferred, free_conn);
    c->base.owner->on_closed(c->base.owner, &c->base);
}

// The peer's FIN came, and it told that it had received nothing of this exchange: it had closed the
// kept connection before, so nobody can have read the request, whatever its method.
static bool never_arrived(const struct h1_client_conn *c)
{
    uint64_t acked;
    return c->stream.was_reused && c->state == STATE_HEAD && c->fin && c->stream.bytes_in == 0 &&
           net_acked(c->io.fd, &acked) == 0 && acked <= c->written_before;
}

// The exchange fails.
static void fail(struct h1_client_conn *c, int err)
{
    enum state before = (enum state)c->state;
    c->stream.bytes_out = c->out.written - c->written_before;
    if (before == STATE_CLOSED) {
        return;
    }
    if (c->kept != NULL && before == STATE_HEAD) {
        c->stream.bytes_in += h1_kept_bytes(c->kept).len; // a head had begun
    }
    c->stream.never_arrived = never_arrived(c);
    close_now(c);
    if (before != STATE_IDLE && before != STATE_DONE && before != STATE_FLUSH) {
        c->stream.events->on_reset(&c->stream, err);
    }
}

// ---- receiving ----

// `rest`: bytes received behind the response. They are no response's, since the next request was not
// sent: the connection is not kept. That must be known before on_end, in which the user may release it
// and its owner may hand it to the next exchange, which would take them for its answer.
static void response_complete(struct h1_client_conn *c, const struct http_field *trailers,
                              unsigned trailer_count, size_t rest)
{
    set_state(c, STATE_DONE);
    c->keep_alive = c->keep_alive && rest == 0;
    c->stream.is_complete = true;
    c->stream.events->on_end(&c->stream, trailers, trailer_count);
}

static size_t head_input(struct h1_client_conn *c, const char *p, size_t len)
{
    struct http_field fields[H1_FIELD_MAX];
    struct http_head head;
    ptrdiff_t n =
        h1_parse_response(p, len, (enum http_method)c->method, &c->pool->limits, fields, &head);
    if (n < 0) {
        fail(c, (int)n);
        return len;
    }
    if (n == 0) {
        return 0;
    }
    c->stream.bytes_in += (uint64_t)n;
    if (head.status < 200 && head.status != 101) {
        c->stream.events->on_info(&c->stream, &head);
        return (size_t)n;
    }
    c->keep_alive = head.keep_alive;
    h1_body_init(&c->body, &head);
    if (head.status == 101) {
        c->stream.events->on_head(&c->stream, &head);
        if (c->state == STATE_HEAD) {
            fail(c, ERR_UPGRADE); // nobody asked for it
        }
        return (size_t)n;
    }
    bool is_empty = h1_body_is_empty(&c->body);
    if (!is_empty) {
        set_state(c, STATE_BODY);
    }
    c->stream.is_complete = is_empty;
    c->stream.events->on_head(&c->stream, &head);
    if (is_empty && c->state == STATE_HEAD) {
        response_complete(c, NULL, 0, len - (size_t)n);
    }
    return (size_t)n;
}

static size_t body_input(struct h1_client_conn *c, const char *p, size_t len)
{
    struct h1_body_result result;
    int event = h1_body_next(&c->body, p, len, &result);
    if (event < 0) {
        fail(c, event);
        return len;
    }
    c->stream.bytes_in += result.used;
    if (event == H1_BODY_DATA) {
        c->stream.events->on_data(&c->stream, result.data);
        if (c->state == STATE_BODY && c->body.kind == BODY_LENGTH && c->body.left == 0) {
            response_complete(c, NULL, 0, len - result.used);
        }
    } else if (event == H1_BODY_END) {
        response_complete(c, result.trailers, result.trailer_count, len - result.used);
    }
    return result.used;
}

static size_t take_some(struct h1_client_conn *c, const char *p, size_t len)
{
    if (c->paused) {
        return 0;
    }
    switch ((enum state)c->state) {
    case STATE_HEAD:
        return head_input(c, p, len);
    case STATE_BODY:
        return body_input(c, p, len);
    case STATE_TUNNEL:
        c->stream.bytes_in += len;
        c->stream.events->on_data(&c->stream, str_make(p, len));
        return len;
    case STATE_CONNECT:
    case STATE_DONE:
    case STATE_IDLE:
    case STATE_FLUSH:
    case STATE_CLOSED:
        break;
    }
    return 0;
}

static bool wants_input(const struct h1_client_conn *c)
{
    return !c->paused &&
           (c->state == STATE_HEAD || c->state == STATE_BODY || c->state == STATE_TUNNEL);
}

static size_t feed(struct h1_client_conn *c, const char *p, size_t len)
{
    size_t used = 0;
    while (used < len) {
        size_t n = take_some(c, p + used, len - used);
        if (n == 0) {
            break;
        }
        used += n;
    }
    c->starved = used < len && wants_input(c);
    return used;
}

static void feed_kept(struct h1_client_conn *c)
{
    struct h1_kept *kept = c->kept;
    c->kept = NULL;
    struct str bytes = h1_kept_bytes(kept);
    size_t used = feed(c, bytes.p, bytes.len);
    if (used == bytes.len || c->state == STATE_CLOSED || c->state == STATE_DONE) {
        h1_kept_free(c->pool->loop, &kept);
        return;
    }
    INVARIANT(c->kept == NULL);
    kept->start += used;
    c->kept = kept;
}

static void take(struct h1_client_conn *c, struct str bytes)
{
    size_t used = 0;
    if (c->kept == NULL) {
        used = feed(c, bytes.p, bytes.len);
        // Behind a complete response (DONE) nothing is kept: response_complete() has seen to it.
        if (used == bytes.len || c->state == STATE_CLOSED || c->state == STATE_DONE) {
            return;
        }
    }
    bool was_kept = c->kept != NULL;
    if (!h1_kept_append(c->pool->loop, &c->kept, str_from(bytes, used))) {
        fail(c, ERR_MEMORY);
    } else if (was_kept && (c->state != STATE_HEAD || str_find_char(bytes, '\n') != SIZE_MAX ||
                            h1_kept_bytes(c->kept).len > c->pool->limits.head_max)) {
        feed_kept(c);
    }
}

static void on_fin(struct h1_client_conn *c)
{
    c->keep_alive = false;
    if (c->state == STATE_BODY && c->body.kind == BODY_UNTIL_CLOSE) {
        response_complete(c, NULL, 0, 0);
    } else if (c->state == STATE_TUNNEL) {
        if (!c->stream.is_complete) {
            c->stream.is_complete = true;
            c->stream.events->on_end(&c->stream, NULL, 0);
        } else if (!c->shut && (c->broken || c->out.failed)) {
            fail(c, ERR_CLOSED); // after FIN a reset is no longer seen by reading
        }
    } else {
        fail(c, ERR_CLOSED);
    }
}

static void receive(struct h1_client_conn *c)
{
    struct loop *loop = c->pool->loop;
    ssize_t n;
    do {
        n = recv(c->io.fd, loop->read_buf, LOOP_READ_LEN, 0);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        // A short read is the end, unless FIN or an error waits behind it.
        if (n < LOOP_READ_LEN && !c->fin && !c->broken) {
            c->readable = false;
        }
        take(c, str_make(loop->read_buf, (size_t)n));
        return;
    }
    c->readable = false;
    if (n == 0) {
        c->fin = true;
        on_fin(c);
    } else if ((errno != EAGAIN && errno != EWOULDBLOCK) || c->out.failed) {
        fail(c, ERR_CLOSED);
    }
}

static void run(struct h1_client_conn *c)
{
    if (c->state == STATE_IDLE) {
        fail(c, ERR_CLOSED); // data or FIN where neither may be
        return;
    }
    if (c->kept != NULL && wants_input(c) && !c->starved) {
        feed_kept(c);
    }
    if (c->readable && wants_input(c)) {
        receive(c);
    }
    if ((c->readable || (c->kept != NULL && !c->starved)) && wants_input(c)) {
        loop_task_add(c->pool->loop, &c->again);
    }
}

static void on_again(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    run(CONTAINER_OF(task, struct h1_client_conn, again));
}

static void connected(struct h1_client_conn *c)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(c->io.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0) {
        fail(c, error == ETIMEDOUT ? ERR_TIMEOUT : ERR_CLOSED);
        return;
    }
    loop_timer_cancel(c->pool->loop, &c->connect_timer);
    set_state(c, STATE_HEAD);
    c->stream.events->on_ready(&c->stream);
}

static void on_event(struct loop *loop, struct loop_io *io, uint32_t events)
{
    struct h1_client_conn *c = CONTAINER_OF(io, struct h1_client_conn, io);
    if (c->state == STATE_CONNECT) {
        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
            return;
        }
        connected(c);
        if (c->state == STATE_CLOSED) {
            return;
        }
    }
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        c->readable = true;
        c->fin = c->fin || (events & EPOLLRDHUP) != 0;
        c->broken = c->broken || (events & (EPOLLHUP | EPOLLERR)) != 0;
    }
    if ((events & EPOLLOUT) && c->out.blocked) {
        c->out.blocked = false;
        outq_flush(loop, &c->out);
        c->out.on_flushed(loop, &c->out);
    }
    if (c->state == STATE_FLUSH) {
        if (c->broken) {
            close_now(c);
        }
    } else if (c->readable && c->state != STATE_CLOSED) {
        run(c);
    }
}

static void on_connect_timeout(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    fail(CONTAINER_OF(timer, struct h1_client_conn, connect_timer), ERR_TIMEOUT);
}

// ---- sending ----

static void on_flushed(struct loop *loop, struct outq *out)
{
    struct h1_client_conn *c = CONTAINER_OF(out, struct h1_client_conn, out);
    if (c->state == STATE_CLOSED) {
        return;
    }
    if (c->state == STATE_FLUSH) {
        if (out->failed || out->queued == 0) {
            close_now(c);
        }
        return;
    }
    c->stream.queued = out->queued;
    if (out->is_short) {
        fail(c, ERR_MEMORY);
        return;
    }
    if (out->failed) {
        // The origin may have answered before it closed: what it sent is read first.
        c->readable = true;
        loop_task_add(loop, &c->again);
        return;
    }
    if (out->queued == 0 && c->fin_queued && !c->shut) {
        shutdown(c->io.fd, SHUT_WR);
        c->shut = true;
    }
    if (out->queued >= HTTP_AHEAD_LEN) {
        if (!c->was_full) {
            c->was_full = true;
            c->stream.events->on_full(&c->stream);
        }
    } else if (c->was_full && out->queued < HTTP_AHEAD_LEN / 2) {
        c->was_full = false;
        c->stream.events->on_room(&c->stream);
    }
}

static void send_head(struct http_stream *stream, const struct http_head *head)
{
    struct h1_client_conn *c = conn_of(stream);
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
    h1_write_request(stream->loop, &c->out, head, &framing);
}

static void send_info(struct http_stream *stream, const struct http_head *head)
{
    (void)stream; // requests have none
    (void)head;
}

static void send_data(struct http_stream *stream, struct str data)
{
    struct h1_client_conn *c = conn_of(stream);
    if (c->state == STATE_TUNNEL || c->request_body == BODY_LENGTH) {
        if (c->state != STATE_TUNNEL) {
            INVARIANT(data.len <= c->request_left);
            c->request_left -= data.len;
        }
        outq_put_view(stream->loop, &c->out, data);
    } else if (c->request_body == BODY_CHUNKED) {
        h1_write_chunk(stream->loop, &c->out, data);
    }
}

static void send_end(struct http_stream *stream, const struct http_field *trailers, unsigned count)
{
    struct h1_client_conn *c = conn_of(stream);
    if (c->state == STATE_TUNNEL) {
        c->fin_queued = true;
        if (list_is_empty(&c->out.dirty)) {
            list_append(&stream->loop->dirty, &c->out.dirty);
        }
        return;
    }
    INVARIANT(c->request_body != BODY_LENGTH || c->request_left == 0);
    if (c->request_body == BODY_CHUNKED) {
        h1_write_last_chunk(stream->loop, &c->out, trailers, count);
    }
    c->request_ended = true;
}

static void reset(struct http_stream *stream, int err)
{
    (void)err;
    struct h1_client_conn *c = conn_of(stream);
    if (c->state != STATE_CLOSED) {
        close_now(c);
    }
}

static void pause_input(struct http_stream *stream)
{
    conn_of(stream)->paused = true;
}

static void resume_input(struct http_stream *stream)
{
    struct h1_client_conn *c = conn_of(stream);
    if (c->paused) {
        c->paused = false;
        if (c->readable || c->kept != NULL) {
            loop_task_add(stream->loop, &c->again);
        }
    }
}

static void tunnel(struct http_stream *stream)
{
    struct h1_client_conn *c = conn_of(stream);
    set_state(c, STATE_TUNNEL);
    c->stream.is_complete = false;
    if (c->kept != NULL || c->readable) {
        loop_task_add(stream->loop, &c->again);
    }
}

static void release(struct http_stream *stream)
{
    struct h1_client_conn *c = conn_of(stream);
    if (c->state == STATE_CLOSED) {
        return;
    }
    bool reusable = c->state == STATE_DONE && c->request_ended && c->keep_alive && !c->fin &&
                    !c->broken && !c->readable && c->kept == NULL && outq_is_empty(&c->out) &&
                    !c->out.failed;
    if (c->state == STATE_TUNNEL && c->stream.is_complete && c->fin_queued && !c->out.failed &&
        !outq_is_empty(&c->out)) {
        set_state(c, STATE_FLUSH);
        loop_task_cancel(&c->again);
        loop_timer_set(c->pool->loop, &c->connect_timer, FLUSH_MS);
        return;
    }
    if (!reusable) {
        close_now(c);
        return;
    }
    set_state(c, STATE_IDLE);
    loop_task_cancel(&c->again);
    c->base.idle_since_ms = c->pool->loop->now_ms;
    if (!c->base.owner->on_idle(c->base.owner, &c->base)) {
        close_now(c);
    }
}

static const struct http_stream_ops client_stream_ops = {
    send_head, send_info, send_data, send_end, reset, pause_input, resume_input, tunnel, release,
};

// ---- opening, reuse ----

void http_client_pool_init(struct http_client_pool *pool, struct loop *loop,
                           const struct h1_limits *limits)
{
    *pool = (struct http_client_pool){.loop = loop, .limits = *limits};
    slab_init(&pool->conns, sizeof(struct h1_client_conn), KEPT_CONNS);
}

void http_client_pool_fini(struct http_client_pool *pool)
{
    loop_run_deferred(pool->loop);
    slab_fini(&pool->conns);
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
    c->written_before = c->out.written;
    c->paused = false;
    c->was_full = false;
    c->request_ended = false;
    c->keep_alive = false;
}

struct http_stream *http_client_open(struct http_client_pool *pool,
                                     const struct http_client_target *target,
                                     struct http_client_owner *owner,
                                     const struct http_stream_events *events, void *user, int *err)
{
    const struct sockaddr_storage *address = target->address;
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        *err = ERR_SYSTEM;
        return NULL;
    }
    if (address->ss_family != AF_UNIX) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    struct h1_client_conn *c = slab_get(&pool->conns);
    if (c == NULL) {
        close(fd);
        *err = ERR_MEMORY;
        return NULL;
    }
    memset(c, 0, sizeof *c);
    c->pool = pool;
    c->base.owner = owner;
    list_init(&c->base.node);
    c->io = (struct loop_io){.fd = fd, .on_event = on_event};
    outq_init(&c->out, &c->io, on_flushed);
    c->stream.ops = &client_stream_ops;
    c->stream.loop = pool->loop;
    loop_task_init(&c->again, on_again);
    loop_timer_init(&c->connect_timer, on_connect_timeout);
    begin_exchange(c, events, user);
    bool failed =
        connect(fd, (const struct sockaddr *)address, target->address_len) != 0 && errno != EINPROGRESS;
    if (failed || loop_add(pool->loop, &c->io) != 0) {
        close(fd);
        slab_put(&pool->conns, c);
        *err = failed ? ERR_CLOSED : ERR_SYSTEM;
        return NULL;
    }
    loop_timer_set(pool->loop, &c->connect_timer, target->connect_timeout_ms);
    return &c->stream;
}

// Has the peer closed, or sent what nobody asked for?
static bool is_stale(struct h1_client_conn *c)
{
    char byte;
    ssize_t n = recv(c->io.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

struct http_stream *http_client_reuse(struct http_client_conn *conn, bool check,
                                      const struct http_stream_events *events, void *user)
{
    struct h1_client_conn *c = CONTAINER_OF(conn, struct h1_client_conn, base);
    INVARIANT(c->state == STATE_IDLE);
    if (check && is_stale(c)) {
        close_now(c);
        return NULL;
    }
    set_state(c, STATE_HEAD);
    begin_exchange(c, events, user);
    c->stream.was_reused = true;
    return &c->stream;
}

void http_client_close(struct http_client_conn *conn)
{
    close_now(CONTAINER_OF(conn, struct h1_client_conn, base));
}
