// SPDX-License-Identifier: MIT
// The client side of HTTP/1: a server connection, one exchange after the other.
//
//            ┌────────────── response sent, keep-alive ──────────────┐
//            ▼                                                       │
//   accept ─ WAIT ─ head ─► BODY ─ body complete ─► ANSWER ── response sent ──► LINGER ─► closed
//             │              │                        │ 101
//             └ malformed ───┴──────► LINGER          └──► TUNNEL ─ both FINs ─► closed
//
// While an answer is being made nothing is read: a pipelined request stays in the kernel, and what was
// received together with the one before is kept. Sending is in h1_server_send.c.
#include "http/h1/h1_server_int.h"
#include "http/h1/h1_write.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" // RFC 9113 3.4

enum {
    START_LINE_REST = H1_METHOD_MAX + 16, // bytes of a start line without its target
    PREFACE_LEN = sizeof PREFACE - 1,
    PREFACE_HEAD_LEN = PREFACE_LEN - 6, // as far as it looks like a head
};

static const struct h1_server_state state_wait, state_body, state_answer;

void h1_server_close(struct h1_server_conn *c)
{
    h1_server_set_state(c, &h1_server_in_closed);
    loop_task_cancel(&c->again);
    http_conn_close(&c->conn);
}

// The client speaks HTTP/2, as it knew before (RFC 9113 3.3): another protocol takes the connection over.
static void turn_to_h2(struct h1_server_conn *c, struct str bytes)
{
    const struct h1_server_state *before = c->state;
    loop_task_cancel(&c->again);
    c->state = &h1_server_in_closed;
    if (!http_conn_begin_h2(&c->conn, bytes, c->readable)) {
        c->state = before;
        h1_server_close(c);
    }
}

// Ends the user's part with an error, if there is one.
static void end_exchange(struct h1_server_conn *c, int err)
{
    if (c->in_exchange) {
        c->in_exchange = false;
        c->stream.bytes_out = c->conn.out.written - c->written_before;
        c->stream.events->on_reset(&c->stream, err);
    }
}

void h1_server_cut(struct h1_server_conn *c)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->conn.io.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    c->conn.is_cut = true;
    h1_server_close(c);
}

void h1_server_lose(struct h1_server_conn *c, int err)
{
    bool answering = c->in_exchange && c->head_sent;
    end_exchange(c, err);
    if (h1_server_is_closed(c)) {
        return;
    }
    if (answering) {
        h1_server_cut(c);
    } else {
        h1_server_close(c);
    }
}

void h1_server_linger(struct h1_server_conn *c)
{
    h1_kept_free(h1_server_loop(c), &c->kept);
    h1_server_set_state(c, &h1_server_in_linger);
    c->paused = false;
    http_conn_enter(&c->conn, PHASE_LINGER);
    if (outq_is_empty(&c->conn.out)) {
        outq_shut(h1_server_loop(c), &c->conn.out);
        c->shut = true;
    }
    h1_server_run_again(c);
}

// Answers what cannot be served; the connection ends.
static void answer_error(struct h1_server_conn *c, int err)
{
    unsigned status = (unsigned)err_status(err);
    struct str text = str_from_c(err_text(err));
    struct http_field fields[2] = {
        {STR("Content-Type"), STR("text/plain; charset=utf-8"), FIELD_CONTENT_TYPE},
        {STR("Allow"), STR("GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"), FIELD_OTHER},
    };
    struct http_head head = {
        .fields = fields, .field_count = status == 405 ? 2 : 1, .status = status};
    struct h1_framing framing = {
        .body = BODY_LENGTH, .body_len = text.len + 1, .connection = "close", .add_date = true};
    h1_write_response(h1_server_loop(c), &c->conn.out, &head, &framing);
    outq_put_copy(h1_server_loop(c), &c->conn.out, text);
    outq_put_copy(h1_server_loop(c), &c->conn.out, STR("\n"));
    h1_server_linger(c);
}

// The same for a head with which no exchange has begun.
static void refuse(struct h1_server_conn *c, int err)
{
    c->conn.server->ops->on_refused(c->conn.server, &c->stream, err);
    answer_error(c, err);
}

// ---- receiving ----

static void start_exchange(struct h1_server_conn *c, const struct http_head *head, size_t head_len)
{
    c->is_fresh = false;
    c->stream.bytes_in = head_len;
    c->stream.bytes_out = 0;
    c->stream.queued = 0;
    c->written_before = c->conn.out.written;
    c->keep_alive = head->keep_alive;
    c->is_http10 = head->version == 10;
    c->is_head = head->method == METHOD_HEAD;
    c->head_sent = false;
    c->response_ended = false;
    c->paused = false;
    c->was_full = false;
    c->response_body = BODY_NONE;
    h1_body_init(&c->body, head);
    c->request_ended = h1_body_is_empty(&c->body);
    c->stream.is_complete = c->request_ended;
    c->expects = head->expect_continue && !c->is_http10 && !c->request_ended;
    h1_server_set_state(c, c->request_ended ? &state_answer : &state_body);
    http_conn_enter(&c->conn, PHASE_BUSY);
    c->conn.server->request_count++;
    c->in_exchange = true;
    c->conn.server->ops->on_request(c->conn.server, &c->stream, head);
}

// Do these bytes, the first of the connection, begin as HTTP/2's preface does?
static bool may_be_preface(const char *p, size_t len)
{
    return memcmp(p, PREFACE, len < PREFACE_LEN ? len : PREFACE_LEN) == 0;
}

// The time for a head counts from its first byte.
static void wait_for_more(struct h1_server_conn *c)
{
    if (c->conn.phase != PHASE_HEAD) {
        http_conn_enter(&c->conn, PHASE_HEAD);
    }
}

static size_t wait_input(struct h1_server_conn *c, const char *p, size_t len)
{
    if (c->is_fresh && may_be_preface(p, len)) {
        if (len >= PREFACE_LEN) {
            turn_to_h2(c, str_make(p, len));
            return len;
        }
        wait_for_more(c);
        return 0;
    }
    struct http_field fields[H1_FIELD_MAX];
    struct http_head head;
    ptrdiff_t n = h1_parse_request(p, len, &c->conn.server->config->limits, fields, &head);
    if (n > 0) {
        start_exchange(c, &head, (size_t)n);
        return (size_t)n;
    }
    if (n < 0) {
        refuse(c, (int)n);
        return len;
    }
    wait_for_more(c);
    return 0;
}

void h1_server_next_request(struct h1_server_conn *c)
{
    h1_server_set_state(c, &state_wait);
    c->paused = false;
    http_conn_enter(&c->conn, PHASE_IDLE);
    if (c->conn.server->draining) {
        c->readable = true; // one look, then it closes
    }
    if (c->kept != NULL || c->readable) {
        h1_server_run_again(c);
    }
}

static void request_complete(struct h1_server_conn *c, const struct h1_body_result *result)
{
    c->request_ended = true;
    c->stream.is_complete = true;
    if (!c->in_exchange) {
        h1_server_next_request(c);
        return;
    }
    h1_server_set_state(c, &state_answer);
    c->stream.events->on_end(&c->stream, result->trailers, result->trailer_count);
}

static void body_failed(struct h1_server_conn *c, int err)
{
    bool was_answered = !c->in_exchange; // whole: a RST could take it away
    bool answer = c->in_exchange && !c->head_sent;
    end_exchange(c, err);
    if (h1_server_is_closed(c)) {
        return;
    }
    if (answer) {
        answer_error(c, err);
    } else if (was_answered) {
        h1_server_linger(c);
    } else {
        h1_server_cut(c);
    }
}

static size_t body_input(struct h1_server_conn *c, const char *p, size_t len)
{
    if (c->paused) {
        return 0;
    }
    struct h1_body_result result;
    int event = h1_body_next(&c->body, p, len, &result);
    if (event < 0) {
        body_failed(c, event);
        return len;
    }
    c->stream.bytes_in += result.used;
    c->expects = false;
    if (event == H1_BODY_DATA && c->in_exchange) {
        c->stream.events->on_data(&c->stream, result.data);
        if (c->state == &state_body && c->body.kind == BODY_LENGTH && c->body.left == 0) {
            request_complete(c, &result);
        }
    } else if (event == H1_BODY_END ||
               (event == H1_BODY_DATA && c->body.kind == BODY_LENGTH && c->body.left == 0)) {
        request_complete(c, &result);
    }
    return result.used;
}

static size_t tunnel_input(struct h1_server_conn *c, const char *p, size_t len)
{
    if (c->paused) {
        return 0;
    }
    c->stream.bytes_in += len;
    c->stream.events->on_data(&c->stream, str_make(p, len));
    return len;
}

static size_t linger_input(struct h1_server_conn *c, const char *p, size_t len)
{
    (void)p;
    c->lingered += (uint32_t)len;
    if (c->lingered > HTTP_LINGER_MAX) {
        h1_server_close(c);
    }
    return len;
}

// Gives bytes to the state as long as it takes them; keeps the rest. Returns what was taken.
static size_t feed(struct h1_server_conn *c, const char *p, size_t len)
{
    size_t used = 0;
    while (used < len && c->state->on_input != NULL) {
        size_t n = c->state->on_input(c, p + used, len - used);
        if (n == 0) {
            break;
        }
        used += n;
    }
    c->starved = used < len && c->state->on_input != NULL && !c->paused;
    return used;
}

static void feed_kept(struct h1_server_conn *c)
{
    struct h1_kept *kept = h1_kept_take(&c->kept);
    struct str bytes = h1_kept_bytes(kept);
    size_t used = feed(c, bytes.p, bytes.len);
    bool is_over = h1_server_is_closed(c) || c->state == &h1_server_in_linger;
    h1_kept_put(h1_server_loop(c), &c->kept, kept, is_over ? bytes.len : used);
}

// A partial head is looked at again when another line is complete, or when it grew over a bound;
// else a head that comes byte by byte would be parsed once a byte.
static bool is_worth_a_look(const struct h1_server_conn *c, struct str more)
{
    const struct h1_limits *limits = &c->conn.server->config->limits;
    size_t before = h1_kept_bytes(c->kept).len;
    size_t after = before + more.len;
    size_t line_max = limits->target_max + START_LINE_REST;
    // Behind a CR anything but LF is an error, which is told at once.
    bool after_cr = before > 0 && h1_kept_bytes(c->kept).p[before - 1] == '\r';
    // Behind the first lines of HTTP/2's preface no line may come.
    bool in_preface = c->is_fresh && before < PREFACE_LEN && after >= PREFACE_HEAD_LEN;
    return after_cr || in_preface || str_find_char(more, '\r') != SIZE_MAX ||
           str_find_char(more, '\n') != SIZE_MAX || (before <= line_max && after > line_max) ||
           after > limits->head_max;
}

static void take(struct h1_server_conn *c, struct str bytes)
{
    if (c->kept != NULL) {
        bool look = c->state != &state_wait || is_worth_a_look(c, bytes);
        if (!h1_kept_append(h1_server_loop(c), &c->kept, bytes)) {
            h1_server_lose(c, ERR_MEMORY);
        } else if (look) {
            feed_kept(c);
        }
        return;
    }
    size_t used = feed(c, bytes.p, bytes.len);
    if (used < bytes.len && !h1_server_is_closed(c) && c->state != &h1_server_in_linger &&
        !h1_kept_append(h1_server_loop(c), &c->kept, str_from(bytes, used))) {
        h1_server_lose(c, ERR_MEMORY);
    }
}

static bool wants_input(const struct h1_server_conn *c)
{
    return c->state->on_input != NULL && !c->paused;
}

static void receive(struct h1_server_conn *c)
{
    struct loop *loop = h1_server_loop(c);
    bool is_drained;
    ssize_t n = net_recv(&c->conn.io, c->conn.tls, loop->read_buf, LOOP_READ_LEN, &is_drained);
    if (n < 0) {
        // FIN or an error may wait behind sealed bytes that are no whole record.
        c->readable = !is_drained || (c->conn.tls != NULL && (c->fin || c->broken));
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            h1_server_lose(c, ERR_CLOSED);
        }
        return;
    }
    if (n == 0) {
        c->readable = false;
        c->fin = true;
        c->state->on_fin(c);
        return;
    }
    // Read empty, unless FIN or an error waits behind it.
    if (is_drained && !c->fin && !c->broken) {
        c->readable = false;
    }
    if (c->state == &state_body || c->state == &h1_server_in_tunnel) {
        http_conn_enter(&c->conn, PHASE_BUSY);
    }
    take(c, str_make(loop->read_buf, (size_t)n));
}

// One round of work: kept bytes first, then one read.
static void run(struct h1_server_conn *c)
{
    if (c->kept != NULL && wants_input(c) && !c->starved) {
        feed_kept(c);
        if (h1_server_is_closed(c)) {
            return;
        }
    }
    if (c->readable && wants_input(c)) {
        receive(c);
        if (h1_server_is_closed(c)) {
            return;
        }
    }
    if (c->state == &state_answer && (c->fin || c->broken)) {
        state_answer.on_fin(c);
    } else if (c->state == &state_body && c->paused && c->broken) {
        h1_server_lose(c, ERR_CLOSED); // the rest of the body will never come
    } else if ((c->readable || (c->kept != NULL && !c->starved)) && wants_input(c)) {
        h1_server_run_again(c); // others first
    } else if (c->conn.phase == PHASE_IDLE && c->conn.server->draining) {
        h1_server_close(c);
    }
}

static void on_again(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    run(CONTAINER_OF(task, struct h1_server_conn, again));
}

static void on_event(struct http_conn *conn, uint32_t events)
{
    struct h1_server_conn *c = CONTAINER_OF(conn, struct h1_server_conn, conn);
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        c->readable = true;
        c->fin = c->fin || (events & EPOLLRDHUP) != 0;
        c->broken = c->broken || (events & (EPOLLHUP | EPOLLERR)) != 0;
    }
    if ((events & EPOLLOUT) && c->conn.out.blocked) {
        c->conn.out.blocked = false;
        outq_flush(h1_server_loop(c), &c->conn.out);
        c->conn.out.on_flushed(h1_server_loop(c), &c->conn.out);
        if (h1_server_is_closed(c)) {
            return;
        }
    }
    run(c);
}

// ---- the peer's end ----

static void wait_fin(struct h1_server_conn *c)
{
    if (c->kept != NULL) {
        refuse(c, ERR_SYNTAX); // the head breaks off
    } else {
        h1_server_close(c);
    }
}

static void body_fin(struct h1_server_conn *c)
{
    h1_server_lose(c, ERR_CLOSED);
}

// FIN after a complete request: the client has left, unless half-closed connections are allowed.
static void answer_fin(struct h1_server_conn *c)
{
    bool leaves = c->broken || !c->conn.server->config->half_close;
    if (leaves && !c->response_ended) {
        h1_server_lose(c, ERR_CLOSED);
    } else if (leaves) {
        c->keep_alive = false;
    }
}

void h1_server_tunnel_done(struct h1_server_conn *c)
{
    c->in_exchange = false;
    c->stream.bytes_out = c->conn.out.written - c->written_before;
    c->stream.events->on_sent(&c->stream);
    if (!h1_server_is_closed(c)) {
        h1_server_close(c);
    }
}

static void tunnel_fin(struct h1_server_conn *c)
{
    if (c->request_ended) {
        if (c->broken) {
            h1_server_lose(c, ERR_CLOSED);
        }
        return;
    }
    c->request_ended = true;
    c->stream.is_complete = true;
    c->stream.events->on_end(&c->stream, NULL, 0);
    if (!h1_server_is_closed(c) && c->shut) {
        h1_server_tunnel_done(c);
    }
}

// With bytes still queued, on_flushed closes.
static void linger_fin(struct h1_server_conn *c)
{
    if (outq_is_empty(&c->conn.out)) {
        h1_server_close(c);
    }
}

static void closed_fin(struct h1_server_conn *c)
{
    (void)c;
}

// ---- timeouts ----

static void wait_timeout(struct h1_server_conn *c)
{
    c->conn.server->timed_out_count++;
    if (c->kept != NULL) {
        refuse(c, ERR_REQUEST_TIMEOUT);
    } else {
        h1_server_close(c);
    }
}

// Nothing came from the client, or nothing went to it, for the time between two bytes.
static void busy_timeout(struct h1_server_conn *c)
{
    struct http_server *server = c->conn.server;
    if (!c->in_exchange && c->state == &state_body) {
        server->timed_out_count++;
        h1_server_close(c);
    } else if (c->conn.out.blocked) {
        server->timed_out_count++;
        h1_server_lose(c, ERR_TIMEOUT);
    } else if (c->state == &state_body && !c->paused) {
        server->timed_out_count++;
        body_failed(c, ERR_REQUEST_TIMEOUT);
    }
}

static void linger_timeout(struct h1_server_conn *c)
{
    h1_server_close(c);
}

static void no_timeout(struct h1_server_conn *c)
{
    (void)c;
}

static const struct h1_server_state state_wait = {"wait", wait_input, wait_fin, wait_timeout};
static const struct h1_server_state state_body = {"body", body_input, body_fin, busy_timeout};
static const struct h1_server_state state_answer = {"answer", NULL, answer_fin, busy_timeout};
const struct h1_server_state h1_server_in_tunnel = {"tunnel", tunnel_input, tunnel_fin, no_timeout};
const struct h1_server_state h1_server_in_linger = {"linger", linger_input, linger_fin,
                                                    linger_timeout};
const struct h1_server_state h1_server_in_closed = {"closed", NULL, closed_fin, no_timeout};

// ---- what server.c calls ----

static void on_conn_timeout(struct http_conn *conn)
{
    struct h1_server_conn *c = CONTAINER_OF(conn, struct h1_server_conn, conn);
    c->state->on_timeout(c);
}

static void drain(struct http_conn *conn)
{
    struct h1_server_conn *c = CONTAINER_OF(conn, struct h1_server_conn, conn);
    if (c->state != &state_wait || c->kept != NULL) {
        return;
    }
    c->readable = true; // a request that is here already is served
    run(c);
    if (c->state == &state_wait && c->kept == NULL) {
        h1_server_close(c);
    }
}

static void abort_conn(struct http_conn *conn)
{
    h1_server_lose(CONTAINER_OF(conn, struct h1_server_conn, conn), ERR_CLOSED);
}

static void close_after(struct http_conn *conn)
{
    CONTAINER_OF(conn, struct h1_server_conn, conn)->keep_alive = false;
}

static void fini(struct http_conn *conn)
{
    struct h1_server_conn *c = CONTAINER_OF(conn, struct h1_server_conn, conn);
    h1_kept_free(h1_server_loop(c), &c->kept);
}

static const struct http_conn_ops h1_conn_ops = {
    on_event, on_conn_timeout, drain, abort_conn, close_after, fini,
};

size_t h1_server_conn_len(void)
{
    return sizeof(struct h1_server_conn);
}

// What is HTTP/1's own; the head of the struct, with its output, stays as it is.
static struct h1_server_conn *begin(struct http_conn *conn)
{
    struct h1_server_conn *c = CONTAINER_OF(conn, struct h1_server_conn, conn);
    memset((char *)c + sizeof *conn, 0, sizeof *c - sizeof *conn);
    conn->ops = &h1_conn_ops;
    conn->out.on_flushed = h1_server_on_flushed;
    c->stream.ops = &h1_server_stream_ops;
    c->stream.loop = conn->server->loop;
    c->stream.conn = conn;
    c->state = &state_wait;
    loop_task_init(&c->again, on_again);
    return c;
}

void h1_server_conn_init(struct http_conn *conn)
{
    outq_init(&conn->out, &conn->io, NULL);
    begin(conn)->is_fresh = true;
}

static void begin_input(struct h1_server_conn *c, struct str bytes, bool readable)
{
    c->readable = readable;
    if (bytes.len > 0) {
        take(c, bytes);
    }
    if (!h1_server_is_closed(c) && readable) {
        h1_server_run_again(c);
    }
}

void h1_server_conn_begin(struct http_conn *conn, struct str bytes, bool readable)
{
    struct h1_server_conn *c = begin(conn);
    c->is_fresh = conn->tls == NULL; // with TLS it was settled by ALPN
    http_conn_enter(conn, PHASE_NEW);
    begin_input(c, bytes, readable);
}

void h1_server_conn_begin_raw(struct http_conn *conn, struct str sni, struct str bytes,
                              bool readable)
{
    struct h1_server_conn *c = begin(conn);
    c->in_exchange = true;
    c->head_sent = true;
    h1_server_set_state(c, &h1_server_in_tunnel);
    http_conn_enter(conn, PHASE_BUSY);
    conn->server->ops->on_raw(conn->server, &c->stream, sni);
    if (!h1_server_is_closed(c)) {
        begin_input(c, bytes, readable);
    }
}
