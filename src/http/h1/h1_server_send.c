// SPDX-License-Identifier: MIT
// The client side of HTTP/1: answers, and what their progress does to the connection.
#include "http/h1/h1_server_int.h"
#include "http/h1/h1_write.h"
#include <sys/socket.h>

enum { DISCARD_MAX = 65536 }; // bytes of a body nobody wants that are read to keep the connection

// The response was handed to the kernel whole.
static void response_done(struct h1_server_conn *c)
{
    c->in_exchange = false;
    c->stream.bytes_out = c->conn.out.written - c->written_before;
    c->stream.events->on_sent(&c->stream);
    if (h1_server_is_closed(c)) {
        return;
    }
    if (!c->keep_alive) {
        if (c->request_ended && !c->readable && c->kept == NULL) {
            h1_server_close(c); // nothing unread: closing is orderly
        } else {
            h1_server_linger(c);
        }
        return;
    }
    if (c->request_ended) {
        h1_server_next_request(c);
    } else {
        c->paused = false; // the rest of the body is read and dropped
        h1_server_run_again(c);
    }
}

void h1_server_on_flushed(struct loop *loop, struct outq *out)
{
    struct http_conn *conn = CONTAINER_OF(out, struct http_conn, out);
    struct h1_server_conn *c = CONTAINER_OF(conn, struct h1_server_conn, conn);
    size_t before = c->stream.queued;
    c->stream.queued = out->queued;
    if (out->failed) {
        h1_server_lose(c, out->is_short ? ERR_MEMORY : ERR_CLOSED);
        return;
    }
    // The time to read counts from when the queue began, and anew when the client has read.
    if ((out->queued < before || (before == 0 && out->queued > 0)) && conn->phase == PHASE_BUSY) {
        http_conn_enter(conn, PHASE_BUSY);
    }
    if (out->queued == 0 && c->fin_queued && !c->shut) {
        outq_shut(loop, out);
        c->shut = true;
        if (c->state == &h1_server_in_tunnel && c->request_ended) {
            h1_server_tunnel_done(c);
            return;
        }
    }
    if (c->state == &h1_server_in_linger) {
        if (out->queued == 0 && !c->shut) {
            outq_shut(loop, out);
            c->shut = true;
        }
        if (c->shut && c->fin && !c->readable) {
            h1_server_close(c);
        }
        return;
    }
    if (!c->in_exchange) {
        return;
    }
    if (c->response_ended && out->queued == 0) {
        response_done(c);
    } else {
        stream_tell_room(&c->stream, out->queued, &c->was_full);
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
    struct h1_server_conn *c = h1_server_conn_of(stream);
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
    struct h1_server_conn *c = h1_server_conn_of(stream);
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
    struct h1_server_conn *c = h1_server_conn_of(stream);
    if (c->state == &h1_server_in_tunnel) {
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

static void send_end(struct http_stream *stream, const struct http_field *trailers, unsigned count)
{
    struct h1_server_conn *c = h1_server_conn_of(stream);
    if (c->state == &h1_server_in_tunnel) {
        c->fin_queued = true;
        outq_wake(stream->loop, &c->conn.out);
        return;
    }
    INVARIANT(c->response_body != BODY_LENGTH || c->response_left == 0);
    if (c->response_body == BODY_CHUNKED) {
        h1_write_last_chunk(stream->loop, &c->conn.out, trailers, count);
    }
    c->response_ended = true;
    outq_wake(stream->loop, &c->conn.out);
}

static void reset(struct http_stream *stream, int err)
{
    (void)err;
    struct h1_server_conn *c = h1_server_conn_of(stream);
    c->in_exchange = false;
    if (h1_server_is_closed(c)) {
        return;
    }
    h1_server_cut(c);
}

static void pause_input(struct http_stream *stream)
{
    h1_server_conn_of(stream)->paused = true;
}

static void resume_input(struct http_stream *stream)
{
    struct h1_server_conn *c = h1_server_conn_of(stream);
    if (c->paused) {
        c->paused = false;
        http_conn_enter(&c->conn, PHASE_BUSY);
        h1_server_run_again(c);
    }
}

static void tunnel(struct http_stream *stream)
{
    struct h1_server_conn *c = h1_server_conn_of(stream);
    h1_server_set_state(c, &h1_server_in_tunnel);
    c->request_ended = false;
    c->stream.is_complete = false;
    c->paused = false;
    http_conn_enter(&c->conn, PHASE_BUSY);
    if (c->kept != NULL || c->readable) {
        h1_server_run_again(c);
    }
}

static void release(struct http_stream *stream)
{
    (void)stream; // a server stream ends with on_sent
}

const struct http_stream_ops h1_server_stream_ops = {
    send_head, send_info, send_data, send_end, reset, pause_input, resume_input, tunnel, release,
};
