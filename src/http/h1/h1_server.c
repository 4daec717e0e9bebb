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
// received together with the one before is kept.
#include "base/invariant.h"
#include "http/h1/h1_body.h"
#include "http/h1/h1_input.h"
#include "http/h1/h1_write.h"
#include "http/server_int.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum {
    DISCARD_MAX = 65536, // bytes of a body nobody wants that are read to keep the connection
    START_LINE_REST = H1_METHOD_MAX + 16, // bytes of a start line without its target
};

struct h1_server_conn;

// A state: what is done with input, and when the peer ends.
struct h1_server_state {
    const char *name;
    // Takes bytes; 0: none can be used now, they are kept. NULL: input is not read in this state.
    size_t (*on_input)(struct h1_server_conn *conn, const char *p, size_t len);
    // The peer sent FIN and everything before it was taken.
    void (*on_fin)(struct h1_server_conn *conn);
    void (*on_timeout)(struct h1_server_conn *conn);
};

struct h1_server_conn {
    struct http_conn conn; // first
    struct http_stream stream;
    struct loop_task again;
    const struct h1_server_state *state;
    struct h1_kept *kept;
    struct h1_body body;     // of the request
    uint64_t response_left;  // BODY_LENGTH
    uint64_t written_before; // conn.out.written at the start of the exchange
    uint32_t lingered;       // bytes dropped
    uint8_t response_body;   // enum http_body
    bool readable;           // the kernel may have more
    bool fin;                // the peer sent FIN (it may not be read yet)
    bool broken;             // reset
    bool starved;            // what is kept is not enough: more bytes must come first
    bool expects;            // the client waits for 100 (Continue) before it sends the body
    bool in_exchange;        // the stream has a user
    bool keep_alive;         // the client wants it, and nothing speaks against it
    bool is_http10;
    bool is_head;
    bool head_sent;
    bool response_ended;
    bool request_ended;
    bool paused;
    bool was_full; // the user was told to pause, on_room is owed
    bool fin_queued;
    bool shut; // FIN sent
};

_Static_assert(sizeof(struct h1_server_conn) <= 480, "an idle connection must stay small");

static const struct h1_server_state state_wait, state_body, state_answer, state_tunnel,
    state_linger, state_closed;

static struct h1_server_conn *conn_of(struct http_stream *stream)
{
    return CONTAINER_OF(stream, struct h1_server_conn, stream);
}

static struct loop *loop_of(struct h1_server_conn *c)
{
    return c->conn.server->loop;
}

static void set_state(struct h1_server_conn *c, const struct h1_server_state *state)
{
    INVARIANT(c->state != &state_closed);
    c->state = state;
}

static bool is_closed(const struct h1_server_conn *c)
{
    return c->state == &state_closed;
}

static void run_again(struct h1_server_conn *c)
{
    loop_task_add(loop_of(c), &c->again);
}

static void close_now(struct h1_server_conn *c)
{
    set_state(c, &state_closed);
    loop_task_cancel(&c->again);
    http_conn_close(&c->conn);
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

// Closes so that a response under way does not look complete: RST instead of FIN.
static void cut(struct h1_server_conn *c)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->conn.io.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close_now(c);
}

// The peer is gone, or is given up.
static void lose(struct h1_server_conn *c, int err)
{
    bool answering = c->in_exchange && c->head_sent;
    end_exchange(c, err);
    if (is_closed(c)) {
        return;
    }
    if (answering) {
        cut(c);
    } else {
        close_now(c);
    }
}

// Everything was said; what the client still sends is read and dropped for a while, since closing
// with unread input would reset the connection and could take the answer away (RFC 9112 9.6).
static void linger(struct h1_server_conn *c)
{
    h1_kept_free(loop_of(c), &c->kept);
    set_state(c, &state_linger);
    c->paused = false;
    http_conn_enter(&c->conn, PHASE_LINGER);
    if (outq_is_empty(&c->conn.out)) {
        shutdown(c->conn.io.fd, SHUT_WR);
        c->shut = true;
    }
    run_again(c);
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
    h1_write_response(loop_of(c), &c->conn.out, &head, &framing);
    outq_put_copy(loop_of(c), &c->conn.out, text);
    outq_put_copy(loop_of(c), &c->conn.out, STR("\n"));
    linger(c);
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
    set_state(c, c->request_ended ? &state_answer : &state_body);
    http_conn_enter(&c->conn, PHASE_BUSY);
    c->conn.server->request_count++;
    c->in_exchange = true;
    c->conn.server->ops->on_request(c->conn.server, &c->stream, head);
}

static size_t wait_input(struct h1_server_conn *c, const char *p, size_t len)
{
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
    if (c->conn.phase != PHASE_HEAD) {
        http_conn_enter(&c->conn, PHASE_HEAD);
    }
    return 0;
}

// The exchange is over and the request was read whole: the next one may come.
static void next_request(struct h1_server_conn *c)
{
    set_state(c, &state_wait);
    c->paused = false;
    http_conn_enter(&c->conn, PHASE_IDLE);
    if (c->conn.server->draining) {
        c->readable = true; // one look, then it closes
    }
    if (c->kept != NULL || c->readable) {
        run_again(c);
    }
}

static void request_complete(struct h1_server_conn *c, const struct h1_body_result *result)
{
    c->request_ended = true;
    c->stream.is_complete = true;
    if (!c->in_exchange) {
        next_request(c);
        return;
    }
    set_state(c, &state_answer);
    c->stream.events->on_end(&c->stream, result->trailers, result->trailer_count);
}

static void body_failed(struct h1_server_conn *c, int err)
{
    bool answer = c->in_exchange && !c->head_sent;
    end_exchange(c, err);
    if (is_closed(c)) {
        return;
    }
    if (answer) {
        answer_error(c, err);
    } else {
        cut(c);
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
        close_now(c);
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
    // Taken off the connection, so that the bytes outlive what the callbacks do to it.
    struct h1_kept *kept = c->kept;
    c->kept = NULL;
    struct str bytes = h1_kept_bytes(kept);
    size_t used = feed(c, bytes.p, bytes.len);
    if (used == bytes.len || is_closed(c) || c->state == &state_linger) {
        h1_kept_free(loop_of(c), &kept);
        return;
    }
    INVARIANT(c->kept == NULL);
    kept->start += used;
    c->kept = kept;
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
    return after_cr || str_find_char(more, '\r') != SIZE_MAX ||
           str_find_char(more, '\n') != SIZE_MAX || (before <= line_max && after > line_max) ||
           after > limits->head_max;
}

static void take(struct h1_server_conn *c, struct str bytes)
{
    if (c->kept != NULL) {
        bool look = c->state != &state_wait || is_worth_a_look(c, bytes);
        if (!h1_kept_append(loop_of(c), &c->kept, bytes)) {
            lose(c, ERR_MEMORY);
        } else if (look) {
            feed_kept(c);
        }
        return;
    }
    size_t used = feed(c, bytes.p, bytes.len);
    if (used < bytes.len && !is_closed(c) && c->state != &state_linger &&
        !h1_kept_append(loop_of(c), &c->kept, str_from(bytes, used))) {
        lose(c, ERR_MEMORY);
    }
}

static bool wants_input(const struct h1_server_conn *c)
{
    return c->state->on_input != NULL && !c->paused;
}

static void receive(struct h1_server_conn *c)
{
    struct loop *loop = loop_of(c);
    ssize_t n;
    do {
        n = recv(c->conn.io.fd, loop->read_buf, LOOP_READ_LEN, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        c->readable = false;
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            lose(c, ERR_CLOSED);
        }
        return;
    }
    if (n == 0) {
        c->readable = false;
        c->fin = true;
        c->state->on_fin(c);
        return;
    }
    // A short read is the end, unless FIN or an error waits behind it.
    if (n < LOOP_READ_LEN && !c->fin && !c->broken) {
        c->readable = false;
    }
    if (c->state == &state_body || c->state == &state_tunnel) {
        http_conn_enter(&c->conn, PHASE_BUSY);
    }
    take(c, str_make(loop->read_buf, (size_t)n));
}

// One round of work: kept bytes first, then one read.
static void run(struct h1_server_conn *c)
{
    if (c->kept != NULL && wants_input(c) && !c->starved) {
        feed_kept(c);
        if (is_closed(c)) {
            return;
        }
    }
    if (c->readable && wants_input(c)) {
        receive(c);
        if (is_closed(c)) {
            return;
        }
    }
    if (c->state == &state_answer && (c->fin || c->broken)) {
        state_answer.on_fin(c);
    } else if (c->state == &state_body && c->paused && c->broken) {
        lose(c, ERR_CLOSED); // the rest of the body will never come
    } else if ((c->readable || (c->kept != NULL && !c->starved)) && wants_input(c)) {
        run_again(c); // others first
    } else if (c->conn.phase == PHASE_IDLE && c->conn.server->draining) {
        close_now(c);
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
        outq_flush(loop_of(c), &c->conn.out);
        c->conn.out.on_flushed(loop_of(c), &c->conn.out);
        if (is_closed(c)) {
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
        close_now(c);
    }
}

static void body_fin(struct h1_server_conn *c)
{
    lose(c, ERR_CLOSED);
}

// FIN after a complete request: the client has left, unless half-closed connections are allowed.
static void answer_fin(struct h1_server_conn *c)
{
    bool leaves = c->broken || !c->conn.server->config->half_close;
    if (leaves && !c->response_ended) {
        lose(c, ERR_CLOSED);
    } else if (leaves) {
        c->keep_alive = false;
    }
}

static void tunnel_done(struct h1_server_conn *c)
{
    c->in_exchange = false;
    c->stream.bytes_out = c->conn.out.written - c->written_before;
    c->stream.events->on_sent(&c->stream);
    if (!is_closed(c)) {
        close_now(c);
    }
}

static void tunnel_fin(struct h1_server_conn *c)
{
    if (c->request_ended) {
        if (c->broken) {
            lose(c, ERR_CLOSED);
        }
        return;
    }
    c->request_ended = true;
    c->stream.is_complete = true;
    c->stream.events->on_end(&c->stream, NULL, 0);
    if (!is_closed(c) && c->shut) {
        tunnel_done(c);
    }
}

// With bytes still queued, on_flushed closes.
static void linger_fin(struct h1_server_conn *c)
{
    if (outq_is_empty(&c->conn.out)) {
        close_now(c);
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
        close_now(c);
    }
}

// Nothing came from the client, or nothing went to it, for the time between two bytes.
static void busy_timeout(struct h1_server_conn *c)
{
    struct http_server *server = c->conn.server;
    if (!c->in_exchange && c->state == &state_body) {
        server->timed_out_count++;
        close_now(c);
    } else if (c->conn.out.blocked) {
        server->timed_out_count++;
        lose(c, ERR_TIMEOUT);
    } else if (c->state == &state_body && !c->paused) {
        server->timed_out_count++;
        body_failed(c, ERR_REQUEST_TIMEOUT);
    }
}

static void linger_timeout(struct h1_server_conn *c)
{
    close_now(c);
}

static void no_timeout(struct h1_server_conn *c)
{
    (void)c;
}

static const struct h1_server_state state_wait = {"wait", wait_input, wait_fin, wait_timeout};
static const struct h1_server_state state_body = {"body", body_input, body_fin, busy_timeout};
static const struct h1_server_state state_answer = {"answer", NULL, answer_fin, busy_timeout};
static const struct h1_server_state state_tunnel = {"tunnel", tunnel_input, tunnel_fin, no_timeout};
static const struct h1_server_state state_linger = {"linger", linger_input, linger_fin,
                                                    linger_timeout};
static const struct h1_server_state state_closed = {"closed", NULL, closed_fin, no_timeout};

// ---- sending ----

// The response was handed to the kernel whole.
static void response_done(struct h1_server_conn *c)
{
    c->in_exchange = false;
    c->stream.bytes_out = c->conn.out.written - c->written_before;
    c->stream.events->on_sent(&c->stream);
    if (is_closed(c)) {
        return;
    }
    if (!c->keep_alive) {
        if (c->request_ended && !c->readable && c->kept == NULL) {
            close_now(c); // nothing unread: closing is orderly
        } else {
            linger(c);
        }
        return;
    }
    if (c->request_ended) {
        next_request(c);
    } else {
        c->paused = false; // the rest of the body is read and dropped
        run_again(c);
    }
}

static void on_flushed(struct loop *loop, struct outq *out)
{
    (void)loop;
    struct http_conn *conn = CONTAINER_OF(out, struct http_conn, out);
    struct h1_server_conn *c = CONTAINER_OF(conn, struct h1_server_conn, conn);
    size_t before = c->stream.queued;
    c->stream.queued = out->queued;
    if (out->failed) {
        lose(c, out->is_short ? ERR_MEMORY : ERR_CLOSED);
        return;
    }
    // The time to read counts from when the queue began, and anew when the client has read.
    if ((out->queued < before || (before == 0 && out->queued > 0)) && conn->phase == PHASE_BUSY) {
        http_conn_enter(conn, PHASE_BUSY);
    }
    if (out->queued == 0 && c->fin_queued && !c->shut) {
        shutdown(conn->io.fd, SHUT_WR);
        c->shut = true;
        if (c->state == &state_tunnel && c->request_ended) {
            tunnel_done(c);
            return;
        }
    }
    if (c->state == &state_linger) {
        if (out->queued == 0 && !c->shut) {
            shutdown(conn->io.fd, SHUT_WR);
            c->shut = true;
        }
        if (c->shut && c->fin && !c->readable) {
            close_now(c);
        }
        return;
    }
    if (!c->in_exchange) {
        return;
    }
    if (c->response_ended && out->queued == 0) {
        response_done(c);
    } else if (out->queued >= HTTP_AHEAD_LEN) {
        if (!c->was_full) {
            c->was_full = true;
            c->stream.events->on_full(&c->stream);
        }
    } else if (c->was_full && out->queued < HTTP_AHEAD_LEN / 2) {
        c->was_full = false;
        c->stream.events->on_room(&c->stream);
    }
}

// May the connection serve another request after this response?
static bool keeps_alive(const struct h1_server_conn *c)
{
    if (!c->keep_alive || c->conn.server->draining || c->broken ||
        (c->fin && !c->conn.server->config->half_close)) {
        return false;
    }
    if (c->expects) {
        return false; // nobody can tell whether the body will come (RFC 9110 10.1.1)
    }
    return c->request_ended || (c->body.kind == BODY_LENGTH && c->body.left <= DISCARD_MAX);
}

// How the response is delimited for this client.
static struct h1_framing frame_response(const struct h1_server_conn *c,
                                        const struct http_head *head)
{
    struct h1_framing framing = {.body = head->body, .body_len = head->body_len};
    if (head->body == BODY_CHUNKED || head->body == BODY_UNTIL_CLOSE) {
        framing.body = c->is_http10 ? BODY_UNTIL_CLOSE : BODY_CHUNKED;
    }
    bool is_bare = head->status < 200 || head->status == 204 || head->status == 304;
    if (head->body == BODY_NONE && !is_bare && !c->is_head) {
        framing.body = BODY_LENGTH; // without a length it would last until the close
        framing.body_len = 0;
    }
    // RFC 9110 8.6: no Content-Length in 1xx and 204.
    framing.has_length = head->status >= 200 && head->status != 204 &&
                         (head->seen & FIELD_BIT(FIELD_CONTENT_LENGTH)) != 0;
    framing.add_date = (head->seen & FIELD_BIT(FIELD_DATE)) == 0;
    return framing;
}

static void send_head(struct http_stream *stream, const struct http_head *head)
{
    struct h1_server_conn *c = conn_of(stream);
    INVARIANT(!c->head_sent);
    struct h1_framing framing = frame_response(c, head);
    if (framing.body == BODY_UNTIL_CLOSE && !c->is_head) {
        c->keep_alive = false;
    }
    bool is_switch = head->status == 101;
    c->keep_alive = keeps_alive(c);
    if (is_switch) {
        framing.connection = "upgrade";
    } else if (!c->keep_alive) {
        framing.connection = "close";
    } else if (c->is_http10) {
        framing.connection = "keep-alive";
    }
    c->head_sent = true;
    c->response_body = c->is_head ? BODY_NONE : (uint8_t)framing.body;
    c->response_left = framing.body == BODY_LENGTH && !c->is_head ? framing.body_len : 0;
    h1_write_response(stream->loop, &c->conn.out, head, &framing);
}

static void send_info(struct http_stream *stream, const struct http_head *head)
{
    struct h1_server_conn *c = conn_of(stream);
    if (c->is_http10 || c->head_sent) {
        return; // RFC 9110 15.2
    }
    if (head->status == 100) {
        c->expects = false;
    }
    struct h1_framing framing = {.body = BODY_NONE};
    h1_write_response(stream->loop, &c->conn.out, head, &framing);
}

static void send_data(struct http_stream *stream, struct str data)
{
    struct h1_server_conn *c = conn_of(stream);
    if (c->state == &state_tunnel) {
        outq_put_view(stream->loop, &c->conn.out, data);
        return;
    }
    switch ((enum http_body)c->response_body) {
    case BODY_NONE:
        return;
    case BODY_LENGTH:
        INVARIANT(data.len <= c->response_left);
        c->response_left -= data.len;
        break;
    case BODY_CHUNKED:
        h1_write_chunk(stream->loop, &c->conn.out, data);
        return;
    case BODY_UNTIL_CLOSE:
        break;
    }
    outq_put_view(stream->loop, &c->conn.out, data);
}

static void wake_flush(struct h1_server_conn *c)
{
    if (list_is_empty(&c->conn.out.dirty)) {
        list_append(&loop_of(c)->dirty, &c->conn.out.dirty);
    }
}

static void send_end(struct http_stream *stream, const struct http_field *trailers, unsigned count)
{
    struct h1_server_conn *c = conn_of(stream);
    if (c->state == &state_tunnel) {
        c->fin_queued = true;
        wake_flush(c);
        return;
    }
    INVARIANT(c->response_body != BODY_LENGTH || c->response_left == 0);
    if (c->response_body == BODY_CHUNKED) {
        h1_write_last_chunk(stream->loop, &c->conn.out, trailers, count);
    }
    c->response_ended = true;
    wake_flush(c);
}

static void reset(struct http_stream *stream, int err)
{
    (void)err;
    struct h1_server_conn *c = conn_of(stream);
    c->in_exchange = false;
    if (is_closed(c)) {
        return;
    }
    cut(c);
}

static void pause_input(struct http_stream *stream)
{
    conn_of(stream)->paused = true;
}

static void resume_input(struct http_stream *stream)
{
    struct h1_server_conn *c = conn_of(stream);
    if (c->paused) {
        c->paused = false;
        http_conn_enter(&c->conn, PHASE_BUSY);
        run_again(c);
    }
}

static void tunnel(struct http_stream *stream)
{
    struct h1_server_conn *c = conn_of(stream);
    set_state(c, &state_tunnel);
    c->request_ended = false;
    c->stream.is_complete = false;
    c->paused = false;
    http_conn_enter(&c->conn, PHASE_BUSY);
    if (c->kept != NULL || c->readable) {
        run_again(c);
    }
}

static void release(struct http_stream *stream)
{
    (void)stream; // a server stream ends with on_sent
}

static const struct http_stream_ops server_stream_ops = {
    send_head, send_info, send_data, send_end, reset, pause_input, resume_input, tunnel, release,
};

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
        close_now(c);
    }
}

static void abort_conn(struct http_conn *conn)
{
    lose(CONTAINER_OF(conn, struct h1_server_conn, conn), ERR_CLOSED);
}

static const struct http_conn_ops h1_conn_ops = {on_event, on_conn_timeout, drain, abort_conn};

size_t h1_server_conn_len(void)
{
    return sizeof(struct h1_server_conn);
}

void h1_server_conn_init(struct http_conn *conn)
{
    struct h1_server_conn *c = CONTAINER_OF(conn, struct h1_server_conn, conn);
    conn->ops = &h1_conn_ops;
    outq_init(&conn->out, &conn->io, on_flushed);
    c->stream.ops = &server_stream_ops;
    c->stream.loop = conn->server->loop;
    c->state = &state_wait;
    loop_task_init(&c->again, on_again);
}

void h1_server_conn_fini(struct http_conn *conn)
{
    struct h1_server_conn *c = CONTAINER_OF(conn, struct h1_server_conn, conn);
    h1_kept_free(loop_of(c), &c->kept);
}

const struct in6_addr *http_stream_peer(const struct http_stream *stream)
{
    return &CONTAINER_OF(stream, const struct h1_server_conn, stream)->conn.peer;
}

struct str http_stream_peer_text(const struct http_stream *stream)
{
    const struct http_conn *conn = &CONTAINER_OF(stream, const struct h1_server_conn, stream)->conn;
    return str_make(conn->peer_text, conn->peer_text_len);
}

unsigned http_stream_local_port(const struct http_stream *stream)
{
    return CONTAINER_OF(stream, const struct h1_server_conn, stream)->conn.local_port;
}

void http_stream_close_after(struct http_stream *stream)
{
    conn_of(stream)->keep_alive = false;
}
