// SPDX-License-Identifier: MIT
// The client side of HTTP/2: a server connection with many exchanges.
//
//   begin ─► OPEN ─ GOAWAY ─► ENDING ─ all sent ─► LINGER ─ FIN, time ─► CLOSED
//              │                                                            ▲
//              └──────────────── reset, FIN, abort ─────────────────────────┘
//
// socket ─► guard (counts frames) ─► nghttp2 ─► streams (h2_server_receive.c) ─► users
// users ─► streams' queues (h2_server_send.c) ─► nghttp2 ─► output ─► socket
//
// nghttp2 is never called from inside one of its callbacks, but for its submit functions: what happens
// there is written down (abuse, err, broken) and done in h2_server_settle().
#include "http/h2/h2_server_int.h"
#include <errno.h>
#include <sys/epoll.h>

_Static_assert(sizeof(struct h2_server_conn) <= 896, "an idle connection must stay small");

// Newer than the oldest nghttp2 that we build with, and backported to some: used where they are.
void nghttp2_option_set_stream_reset_rate_limit(nghttp2_option *option, uint64_t burst,
                                                uint64_t rate) __attribute__((weak));
void nghttp2_option_set_max_continuations(nghttp2_option *option, size_t val) __attribute__((weak));

// ---- the end ----

static void set_state(struct h2_server_conn *c, enum h2_server_state state)
{
    INVARIANT(state > c->state);
    c->state = (uint8_t)state;
}

static void reset_users(struct h2_server_conn *c, int err)
{
    struct list rest; // telling one may free it
    list_init(&rest);
    list_splice(&rest, &c->streams);
    while (!list_is_empty(&rest)) {
        struct h2_server_stream *s = LIST_FIRST(&rest, struct h2_server_stream, node);
        list_remove(&s->node);
        list_append(&c->streams, &s->node);
        h2_server_reset_user(s, err);
        h2_queue_fini(s->stream.loop, &s->out);
    }
}

static void close_now(struct h2_server_conn *c)
{
    if (c->state == H2_SERVER_CLOSED) {
        return;
    }
    set_state(c, H2_SERVER_CLOSED);
    loop_task_cancel(&c->again);
    loop_timer_cancel(h2_server_loop(c), &c->timer);
    reset_users(c, ERR_CLOSED);
    while (!list_is_empty(&c->streams)) {
        h2_server_free_stream(LIST_FIRST(&c->streams, struct h2_server_stream, node));
    }
    http_conn_close(&c->conn);
}

void h2_server_lose(struct h2_server_conn *c, int err)
{
    if (h2_server_is_open(c)) {
        set_state(c, H2_SERVER_ENDING);
        reset_users(c, err);
    }
    close_now(c);
}

// GOAWAY with `code`, then the connection ends orderly. Exchanges end with `err`.
static void end_orderly(struct h2_server_conn *c, uint32_t code, int err)
{
    if (!h2_server_is_open(c)) {
        return;
    }
    set_state(c, H2_SERVER_ENDING);
    // Without memory for it there is no GOAWAY.
    (void)nghttp2_session_terminate_session(c->session, code);
    reset_users(c, err);
    http_conn_enter(&c->conn, PHASE_LINGER);
    h2_server_wake(c);
}

static void cut_off(struct h2_server_conn *c, enum h2_abuse kind)
{
    const struct http_server_ops *ops = c->conn.server->ops;
    if (ops->on_abuse != NULL) {
        ops->on_abuse(c->conn.server, h2_abuse_name(kind));
    }
    end_orderly(c, NGHTTP2_ENHANCE_YOUR_CALM, ERR_ABUSE);
}

// nghttp2 has sent GOAWAY with an error.
static void give_up(struct h2_server_conn *c)
{
    const struct http_server_ops *ops = c->conn.server->ops;
    if (ops->on_abuse != NULL) {
        ops->on_abuse(c->conn.server, h2_abuse_name(ABUSE_PROTOCOL));
    }
    end_orderly(c, NGHTTP2_PROTOCOL_ERROR, ERR_PROTOCOL);
}

static bool wants_nothing(const struct h2_server_conn *c)
{
    return nghttp2_session_want_write(c->session) == 0 && outq_is_empty(&c->conn.out);
}

// Closing with unread input would reset the connection, and could take the GOAWAY away.
static void linger(struct h2_server_conn *c)
{
    set_state(c, H2_SERVER_LINGER);
    http_conn_enter(&c->conn, PHASE_LINGER);
    outq_shut(h2_server_loop(c), &c->conn.out);
    if (c->fin && !c->readable) {
        close_now(c);
    } else if (c->readable) {
        loop_task_add(h2_server_loop(c), &c->again);
    }
}

// ---- what follows from what happened ----

static void say_last(struct h2_server_conn *c)
{
    c->is_last_sent = true;
    if (nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(c->session), NGHTTP2_NO_ERROR,
                              NULL, 0) != 0) {
        c->err = ERR_MEMORY;
    }
    h2_server_wake(c);
}

static void choose_phase(struct h2_server_conn *c)
{
    enum http_phase phase = c->conn.phase;
    if (!c->guard.has_preface) {
        return; // the time for it runs from the beginning
    }
    if (c->guard.in_block) {
        // However slowly it comes, one header block has the time of one head.
        if (phase != PHASE_HEAD || c->block_seen != c->guard.block_count) {
            c->block_seen = c->guard.block_count;
            http_conn_enter(&c->conn, PHASE_HEAD);
        }
        return;
    }
    h2_section_free(&c->section);
    enum http_phase wanted = c->stream_count > 0 ? PHASE_BUSY : PHASE_IDLE;
    if (phase != wanted) {
        http_conn_enter(&c->conn, wanted);
    }
}

static void settle_open(struct h2_server_conn *c)
{
    if (c->abuse != ABUSE_NONE) {
        cut_off(c, (enum h2_abuse)c->abuse);
    } else if (c->broken) {
        give_up(c);
    } else if (c->err != 0) {
        h2_server_lose(c, c->err);
    } else if (c->fin && c->stream_count == 0 && wants_nothing(c)) {
        close_now(c);
    } else if (c->is_last_sent && c->stream_count == 0 && wants_nothing(c)) {
        set_state(c, H2_SERVER_ENDING);
    } else {
        if (c->is_draining && !c->is_last_sent && h2_server_loop(c)->now_ms >= c->notice_ms) {
            say_last(c);
        }
        choose_phase(c);
    }
}

void h2_server_settle(struct h2_server_conn *c)
{
    if (h2_server_is_open(c)) {
        settle_open(c);
    }
    if (c->state == H2_SERVER_ENDING && wants_nothing(c)) {
        linger(c);
    }
}

// ---- receiving ----

static void take(struct h2_server_conn *c, struct str bytes)
{
    enum h2_abuse kind = h2_guard_scan(&c->guard, h2_server_loop(c)->now_ms, bytes);
    if (kind != ABUSE_NONE) {
        c->abuse = (uint8_t)kind;
        return;
    }
    c->in_session = true;
    ssize_t n = nghttp2_session_mem_recv(c->session, (const uint8_t *)bytes.p, bytes.len);
    c->in_session = false;
    if (n == NGHTTP2_ERR_NOMEM) {
        c->err = ERR_MEMORY;
    } else if (n == NGHTTP2_ERR_FLOODED) {
        c->abuse = ABUSE_CONTROL; // it does not read what it asks for
    } else if (n < 0 && c->abuse == ABUSE_NONE) {
        c->broken = true;
    }
    h2_server_wake(c);
}

static void drop_input(struct h2_server_conn *c, size_t len)
{
    c->lingered += (uint32_t)len;
    if (c->lingered > HTTP_LINGER_MAX) {
        close_now(c);
    }
}

static void take_fin(struct h2_server_conn *c)
{
    c->fin = true;
    c->readable = false;
    if (c->state == H2_SERVER_LINGER) {
        close_now(c);
    } else if (h2_server_is_open(c) && !c->conn.server->config->half_close) {
        h2_server_lose(c, ERR_CLOSED);
    }
}

static void receive(struct h2_server_conn *c)
{
    struct loop *loop = h2_server_loop(c);
    bool is_drained = false;
    ssize_t n = net_recv(&c->conn.io, c->conn.tls, loop->read_buf, LOOP_READ_LEN, &is_drained);
    if (n < 0) {
        // FIN or an error may wait behind sealed bytes that are no whole record.
        c->readable = !is_drained || (c->conn.tls != NULL && c->hung_up);
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            h2_server_lose(c, ERR_CLOSED);
        }
    } else if (n == 0) {
        take_fin(c);
    } else {
        // FIN or an error that was announced waits behind a short read.
        c->readable = !is_drained || c->hung_up;
        if (h2_server_is_open(c)) {
            take(c, str_make(loop->read_buf, (size_t)n));
        } else {
            drop_input(c, (size_t)n);
        }
    }
}

// One round of work: what was held first, then one read.
static void run(struct h2_server_conn *c)
{
    h2_server_deliver(c);
    if (c->state != H2_SERVER_CLOSED && c->readable) {
        receive(c);
    }
    if (c->state != H2_SERVER_CLOSED && c->readable) {
        loop_task_add(h2_server_loop(c), &c->again); // others first
    }
    if (c->state != H2_SERVER_CLOSED) {
        h2_server_settle(c);
    }
}

static void on_again(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    struct h2_server_conn *c = CONTAINER_OF(task, struct h2_server_conn, again);
    h2_server_wake(c);
    run(c);
}

static void on_event(struct http_conn *conn, uint32_t events)
{
    struct h2_server_conn *c = h2_server_of(conn);
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        c->readable = !c->fin;
        c->hung_up = c->hung_up || (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    }
    if ((events & EPOLLOUT) && conn->out.blocked) {
        conn->out.blocked = false;
        outq_flush(h2_server_loop(c), &conn->out);
        h2_server_wake(c);
    }
    run(c);
}

// ---- time ----

void h2_server_watch(struct h2_server_conn *c, uint64_t after_ms)
{
    struct loop *loop = h2_server_loop(c);
    if (after_ms != 0 &&
        (!loop_timer_is_set(&c->timer) || c->timer.deadline_ms > loop->now_ms + after_ms + 1)) {
        loop_timer_set(loop, &c->timer, after_ms);
    }
}

// Is it the client's turn? Also for an answer that nobody waits for any more, as that to a refused head.
static bool waits_for_window(const struct h2_server_stream *s)
{
    return h2_queue_len(&s->out) > 0;
}

// Once the response has begun, both directions are the exchange's own matter (gRPC streams).
static bool waits_for_body(const struct h2_server_stream *s)
{
    return s->in_exchange && !s->peer_ended && !s->paused && !s->is_websocket && !s->head_sent;
}

static void expire_stream(struct h2_server_conn *c, struct h2_server_stream *s)
{
    struct http_server *server = c->conn.server;
    server->timed_out_count++;
    if (waits_for_window(s)) {
        if (server->ops->on_abuse != NULL) {
            server->ops->on_abuse(server, h2_abuse_name(ABUSE_STALLED));
        }
        h2_server_reset_stream(s, NGHTTP2_CANCEL);
        h2_server_reset_user(s, ERR_TIMEOUT);
    } else {
        h2_server_reset_user(s, ERR_REQUEST_TIMEOUT);
        if (h2_server_is_open(c)) {
            h2_server_refuse(s, ERR_REQUEST_TIMEOUT);
        }
    }
}

// Ends what has waited too long; returns when the next may be due, 0: there is none.
static uint64_t expire_streams(struct h2_server_conn *c, uint64_t now_ms, uint64_t timeout_ms)
{
    uint64_t next_ms = 0;
    struct list rest;
    list_init(&rest);
    list_splice(&rest, &c->streams);
    while (!list_is_empty(&rest)) {
        struct h2_server_stream *s = LIST_FIRST(&rest, struct h2_server_stream, node);
        list_remove(&s->node);
        list_append(&c->streams, &s->node);
        bool waits = waits_for_window(s) || waits_for_body(s);
        uint64_t due_ms = (waits ? s->progress_ms : now_ms) + timeout_ms;
        if (waits && due_ms <= now_ms) {
            expire_stream(c, s);
        } else if (next_ms == 0 || due_ms < next_ms) {
            next_ms = due_ms;
        }
    }
    return next_ms;
}

static void on_timer(struct loop *loop, struct loop_timer *timer)
{
    struct h2_server_conn *c = CONTAINER_OF(timer, struct h2_server_conn, timer);
    uint64_t now_ms = loop->now_ms;
    uint64_t timeout_ms = c->conn.server->config->body_timeout_ms;
    if (!h2_server_is_open(c)) {
        return;
    }
    if (c->is_draining && !c->is_last_sent && c->notice_ms > now_ms) {
        h2_server_watch(c, c->notice_ms - now_ms);
    }
    if (timeout_ms != 0 && c->stream_count > 0) {
        if (c->conn.out.blocked && c->progress_ms + timeout_ms <= now_ms) {
            c->conn.server->timed_out_count++;
            h2_server_lose(c, ERR_TIMEOUT);
            return;
        }
        // While the socket is full, it is not for a stream to answer for it.
        uint64_t next_ms = c->conn.out.blocked ? c->progress_ms + timeout_ms
                                               : expire_streams(c, now_ms, timeout_ms);
        if (next_ms > now_ms) {
            h2_server_watch(c, next_ms - now_ms);
        }
    }
    h2_server_wake(c); // on_flushed settles
}

static void on_timeout(struct http_conn *conn)
{
    struct h2_server_conn *c = h2_server_of(conn);
    switch (conn->phase) {
    case PHASE_NEW:
    case PHASE_HEAD:
    case PHASE_IDLE:
        conn->server->timed_out_count++;
        end_orderly(c, NGHTTP2_NO_ERROR, ERR_REQUEST_TIMEOUT);
        break;
    case PHASE_BUSY: // the streams have times of their own
        break;
    case PHASE_LINGER:
        close_now(c);
        break;
    case PHASE_COUNT:
        break;
    }
}

// ---- what server.c calls ----

// RFC 9113 6.8: what is on its way when the client learns of it is still served.
static void drain(struct http_conn *conn)
{
    struct h2_server_conn *c = h2_server_of(conn);
    if (!h2_server_is_open(c) || c->is_draining) {
        return;
    }
    if (!c->guard.has_preface) {
        close_now(c);
        return;
    }
    c->is_draining = true;
    c->notice_ms = h2_server_loop(c)->now_ms + H2_NOTICE_MS;
    if (nghttp2_submit_shutdown_notice(c->session) != 0 ||
        nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL) != 0) {
        c->err = ERR_MEMORY;
    }
    h2_server_watch(c, H2_NOTICE_MS);
    h2_server_wake(c);
}

static void abort_conn(struct http_conn *conn)
{
    h2_server_lose(h2_server_of(conn), ERR_CLOSED);
}

static void close_after(struct http_conn *conn)
{
    (void)conn; // its other streams are not concerned
}

static void fini(struct http_conn *conn)
{
    struct h2_server_conn *c = h2_server_of(conn);
    h2_section_free(&c->section);
    if (c->session != NULL) {
        nghttp2_session_del(c->session);
    }
    if (c->memory != NULL) {
        h2_memory_unref(&c->memory);
    }
}

static const struct http_conn_ops h2_conn_ops = {
    .on_event = on_event,
    .on_timeout = on_timeout,
    .drain = drain,
    .abort = abort_conn,
    .close_after = close_after,
    .fini = fini,
};

// ---- the beginning ----

static nghttp2_option *new_option(const struct h2_server_conn *c)
{
    nghttp2_option *option;
    if (nghttp2_option_new(&option) != 0) {
        return NULL;
    }
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_builtin_recv_extension_type(option, NGHTTP2_PRIORITY_UPDATE);
    // Our own bounds come first; these must not.
    if (nghttp2_option_set_stream_reset_rate_limit != NULL) {
        nghttp2_option_set_stream_reset_rate_limit(option, UINT32_MAX, UINT32_MAX);
    }
    if (nghttp2_option_set_max_continuations != NULL) {
        nghttp2_option_set_max_continuations(option, c->guard.continuation_max + 1);
    }
    return option;
}

static int open_session(struct h2_server_conn *c)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option = new_option(c);
    if (option == NULL) {
        return ERR_MEMORY;
    }
    int rv = nghttp2_session_callbacks_new(&callbacks);
    if (rv == 0) {
        h2_server_set_receive_callbacks(callbacks);
        h2_server_set_send_callbacks(callbacks);
        rv = nghttp2_session_server_new3(&c->session, callbacks, c, option,
                                         h2_memory_of_session(c->memory));
        nghttp2_session_callbacks_del(callbacks);
    }
    nghttp2_option_del(option);
    return rv == 0 ? 0 : ERR_MEMORY;
}

static int send_settings(struct h2_server_conn *c)
{
    const struct http_server_config *config = c->conn.server->config;
    uint32_t streams = config->h2_streams == 0 ? H2_STREAMS_DEFAULT : config->h2_streams;
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)config->limits.head_max},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    if (nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings,
                                sizeof settings / sizeof settings[0]) != 0 ||
        nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, H2_CONN_WINDOW) !=
            0) {
        return ERR_MEMORY;
    }
    return 0;
}

static int start(struct h2_server_conn *c)
{
    c->memory = h2_memory_ref();
    if (c->memory == NULL) {
        return ERR_MEMORY;
    }
    int err = open_session(c);
    return err != 0 ? err : send_settings(c);
}

size_t h2_server_conn_len(void)
{
    return sizeof(struct h2_server_conn);
}

void h2_server_conn_begin(struct http_conn *conn, struct str bytes, bool readable)
{
    struct h2_server_conn *c = h2_server_of(conn);
    // The head of the struct stays as it is; all else is made anew.
    memset((char *)c + sizeof *conn, 0, sizeof *c - sizeof *conn);
    struct loop *loop = h2_server_loop(c);
    conn->ops = &h2_conn_ops;
    conn->out.before_flush = h2_server_before_flush;
    conn->out.gathers = true;
    conn->out.on_flushed = h2_server_on_flushed;
    list_init(&c->streams);
    list_init(&c->touched);
    list_init(&c->resumed);
    loop_task_init(&c->again, on_again);
    loop_timer_init(&c->timer, on_timer);
    h2_guard_init(&c->guard, loop->now_ms, conn->server->config->limits.head_max);
    c->abuse = ABUSE_NONE;
    c->progress_ms = loop->now_ms;
    c->readable = readable;
    http_conn_enter(conn, PHASE_HEAD);
    if (start(c) != 0) {
        close_now(c);
        return;
    }
    h2_server_wake(c);
    if (bytes.len > 0) {
        take(c, bytes);
    }
    if (c->state != H2_SERVER_CLOSED && conn->server->draining) {
        drain(conn);
    }
    if (c->state != H2_SERVER_CLOSED && readable) {
        loop_task_add(loop, &c->again); // `bytes` may lie in the buffer that is read into
    }
    if (c->state != H2_SERVER_CLOSED) {
        h2_server_settle(c);
    }
}
