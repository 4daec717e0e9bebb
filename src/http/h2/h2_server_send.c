// SPDX-License-Identifier: MIT
// The client side of HTTP/2: answers into frames.
//
//   send_data ─► stream's queue (borrowed) ─ pump: flow control, priorities ─► output ─► socket
//                     └ what is left after the event is copied ─► blocks ─ WINDOW_UPDATE, EPOLLOUT ─┘
//
// The pump runs once an event, before the flush. While the socket is full nothing is pumped, so that
// nothing is copied twice and priorities still count when there is room.
#include "http/date.h"
#include "http/h2/h2_server_int.h"

void h2_server_wake(struct h2_server_conn *c)
{
    if (c->state != H2_SERVER_CLOSED) {
        outq_wake(h2_server_loop(c), &c->conn.out);
    }
}

void h2_server_touch(struct h2_server_stream *s)
{
    if (list_is_empty(&s->touched)) {
        list_append(&s->c->touched, &s->touched);
    }
    h2_server_wake(s->c);
}

// ---- the pump ----

static bool takes_more(const struct h2_server_conn *c)
{
    return !c->conn.out.blocked && !c->conn.out.failed && c->conn.io.fd >= 0 &&
           c->pumped < H2_PUMP_MAX;
}

static void flush_between(struct h2_server_conn *c)
{
    if (c->pumped - c->flushed >= H2_PUMP_FLUSH) {
        outq_flush(h2_server_loop(c), &c->conn.out);
        c->flushed = c->pumped;
    }
}

static void pump(struct h2_server_conn *c)
{
    c->in_session = true;
    while (takes_more(c)) {
        if (!h2_server_is_open(c) && nghttp2_session_want_write(c->session) == 0) {
            break; // behind the last GOAWAY
        }
        c->is_pausing = false;
        const uint8_t *frame;
        ssize_t n = nghttp2_session_mem_send(c->session, &frame);
        if (n < 0) {
            c->err = n == NGHTTP2_ERR_NOMEM ? ERR_MEMORY : ERR_PROTOCOL;
            break;
        }
        if (n == 0 && !c->is_pausing) {
            break;
        }
        outq_put_copy(h2_server_loop(c), &c->conn.out, str_make((const char *)frame, (size_t)n));
        c->pumped += (unsigned)n;
        flush_between(c);
    }
    c->in_session = false;
}

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len,
                       uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)buf;
    (void)user;
    struct h2_server_stream *s = source->ptr;
    size_t have = h2_queue_len(&s->out);
    if (have == 0 && !s->ended) {
        s->is_waiting = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (have > len || !s->ended) {
        return (ssize_t)(have < len ? have : len);
    }
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (s->out_trailers != NULL) {
        struct h2_nva nva;
        h2_nva_init(&nva);
        h2_nva_put_fields(&nva, s->out_trailers->fields, s->out_trailers->count);
        if (nva.count > 0 && nghttp2_submit_trailer(session, id, nva.nv, nva.count) == 0) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        }
    }
    return (ssize_t)have;
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
                        size_t len, nghttp2_data_source *source, void *user)
{
    (void)session;
    (void)frame; // never padded
    struct h2_server_conn *c = user;
    struct h2_server_stream *s = source->ptr;
    struct loop *loop = h2_server_loop(c);
    outq_put_copy(loop, &c->conn.out, str_make((const char *)header, H2_FRAME_HEADER_LEN));
    h2_queue_send(loop, &s->out, &c->conn.out, len);
    c->pumped += H2_FRAME_HEADER_LEN + (unsigned)len;
    s->stream.bytes_out += H2_FRAME_HEADER_LEN + len;
    s->progress_ms = loop->now_ms;
    h2_guard_earn_sent(&c->guard, len);
    h2_server_touch(s);
    if (c->pumped - c->flushed >= H2_PUMP_FLUSH || !takes_more(c)) {
        c->is_pausing = true; // many DATA frames go out in one call
        return NGHTTP2_ERR_PAUSE;
    }
    return 0;
}

static void end_was_sent(struct h2_server_stream *s)
{
    s->end_sent = true;
    h2_guard_earn_request(&s->c->guard);
    h2_server_touch(s);
    if (!s->peer_ended && !s->is_tunnel && !s->was_reset) {
        // RFC 9113 8.1: the rest of the request is not needed.
        h2_server_reset_stream(s, NGHTTP2_NO_ERROR);
    }
}

// Streams that nghttp2 resets for what the client did cost it as much as those that it resets itself.
static void count_reset(struct h2_server_conn *c, const struct h2_server_stream *s, uint32_t code)
{
    bool is_ours = s != NULL && s->was_reset;
    bool is_early = code == NGHTTP2_REFUSED_STREAM && !c->settled; // it did not know better
    if (!is_ours && !is_early && code != NGHTTP2_NO_ERROR &&
        !h2_guard_spend(&c->guard, h2_server_loop(c)->now_ms, ABUSE_RAPID_RESET)) {
        c->abuse = ABUSE_RAPID_RESET;
    }
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_server_conn *c = user;
    struct h2_server_stream *s =
        frame->hd.stream_id == 0
            ? NULL
            : nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (frame->hd.type == NGHTTP2_GOAWAY && h2_server_is_open(c) &&
        frame->goaway.error_code != NGHTTP2_NO_ERROR) {
        c->broken = true; // nghttp2 has found a connection error
    } else if (frame->hd.type == NGHTTP2_RST_STREAM) {
        count_reset(c, s, frame->rst_stream.error_code);
    }
    if (s == NULL) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS) {
        s->stream.bytes_out += H2_FRAME_HEADER_LEN + frame->hd.length;
        s->progress_ms = h2_server_loop(c)->now_ms;
    }
    if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        end_was_sent(s);
    }
    return 0;
}

void h2_server_set_send_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
}

// ---- around the flush ----

// What flow control or the socket did not take is borrowed no longer.
static void own_views(struct h2_server_conn *c)
{
    LIST_FOR_EACH (node, &c->touched) {
        struct h2_server_stream *s = CONTAINER_OF(node, struct h2_server_stream, touched);
        if (!h2_queue_own(h2_server_loop(c), &s->out)) {
            s->err = ERR_MEMORY;
        }
    }
}

void h2_server_before_flush(struct loop *loop, struct outq *out)
{
    (void)loop;
    struct h2_server_conn *c = h2_server_of(CONTAINER_OF(out, struct http_conn, out));
    if (c->state == H2_SERVER_CLOSED || c->in_session) {
        return;
    }
    c->pumped = 0;
    c->flushed = 0;
    pump(c);
    own_views(c);
    if (c->pumped >= H2_PUMP_MAX && !out->blocked) {
        loop_task_add(h2_server_loop(c), &c->again);
    }
}

// A stream's END_STREAM and all before it are with the kernel.
static void finish(struct h2_server_stream *s)
{
    if (s->is_tunnel && !s->end_told) {
        return; // the other direction goes on
    }
    if (s->in_exchange) {
        s->in_exchange = false;
        s->stream.queued = 0;
        s->stream.events->on_sent(&s->stream);
    }
    if (s->is_gone) {
        h2_server_free_stream(s);
    }
}

static void tell(struct h2_server_stream *s)
{
    s->stream.queued = h2_queue_len(&s->out);
    if (s->err != 0) {
        int err = s->err;
        h2_server_reset_stream(s, NGHTTP2_INTERNAL_ERROR);
        h2_server_reset_user(s, err);
    } else if (s->end_sent) {
        finish(s);
    } else if (s->in_exchange) {
        stream_tell_room(&s->stream, s->stream.queued, &s->was_full);
    }
}

static void tell_all(struct h2_server_conn *c)
{
    struct list told; // telling one may touch others
    list_init(&told);
    list_splice(&told, &c->touched);
    while (!list_is_empty(&told)) {
        struct h2_server_stream *s = LIST_FIRST(&told, struct h2_server_stream, touched);
        list_remove(&s->touched);
        if (s->end_sent && s->err == 0 && c->conn.out.queued > 0) {
            list_append(&c->touched, &s->touched); // not yet all with the kernel
        } else {
            tell(s);
        }
        if (c->state == H2_SERVER_CLOSED) {
            return; // all streams are gone, and out of every list
        }
    }
}

void h2_server_on_flushed(struct loop *loop, struct outq *out)
{
    struct h2_server_conn *c = h2_server_of(CONTAINER_OF(out, struct http_conn, out));
    if (c->state == H2_SERVER_CLOSED) {
        return;
    }
    if (out->failed) {
        h2_server_lose(c, out->is_short ? ERR_MEMORY : ERR_CLOSED);
        return;
    }
    if (out->queued == 0 || out->sent != c->sent_before) {
        c->sent_before = out->sent;
        c->progress_ms = loop->now_ms;
    }
    tell_all(c);
    h2_server_settle(c);
}

// ---- what users do ----

static void offer(struct h2_server_stream *s)
{
    if (s->is_waiting) {
        s->is_waiting = false;
        if (nghttp2_session_resume_data(s->c->session, s->id) == NGHTTP2_ERR_NOMEM) {
            s->err = ERR_MEMORY;
        }
    }
    h2_server_touch(s);
}

// Has the stream a peer to send to?
static bool is_heard(const struct h2_server_stream *s)
{
    return h2_server_is_open(s->c) && !s->is_gone && !s->was_reset;
}

static bool is_bare(unsigned status)
{
    return status < 200 || status == 204 || status == 304;
}

static void put_response(struct h2_nva *nva, struct h2_server_stream *s,
                         const struct http_head *head, bool is_switch)
{
    const struct http_field *fields = head->fields;
    h2_nva_put_status(nva, is_switch ? 200 : head->status);
    for (unsigned i = 0; i < head->field_count; i++) {
        // RFC 8441 5.1: the handshake's proof is of HTTP/1.
        if (!is_switch || fields[i].id != FIELD_SEC_WEBSOCKET_ACCEPT) {
            h2_nva_put_fields(nva, &fields[i], 1);
        }
    }
    // RFC 9110 8.6: no Content-Length in 1xx and 204.
    bool tells_length = head->body == BODY_LENGTH ||
                        (head->body == BODY_NONE && (head->seen & FIELD_BIT(FIELD_CONTENT_LENGTH)));
    if (tells_length && head->status >= 200 && head->status != 204) {
        h2_nva_put_length(nva, head->body_len);
    }
    if ((head->seen & FIELD_BIT(FIELD_DATE)) == 0) {
        h2_nva_put(nva, STR("date"), http_date(s->stream.loop->real_ns));
    }
}

void h2_server_send_head(struct http_stream *stream, const struct http_head *head)
{
    struct h2_server_stream *s = h2_server_stream_of(stream);
    INVARIANT(!s->head_sent);
    s->head_sent = true;
    if (!is_heard(s)) {
        return;
    }
    bool is_switch = s->is_websocket && head->status == 101;
    struct http_head refusal = *head;
    if (s->is_websocket && head->status >= 200 && head->status < 300) {
        // It would say that the tunnel is open (RFC 8441 5); what answers so does not know the protocol.
        refusal.status = 501;
        head = &refusal;
    }
    struct h2_nva nva;
    h2_nva_init(&nva);
    put_response(&nva, s, head, is_switch);
    s->has_left = head->body == BODY_LENGTH;
    s->response_left = s->has_left ? head->body_len : 0;
    s->has_body = is_switch || (!s->is_head && !is_bare(head->status) && head->body != BODY_NONE &&
                                !(s->has_left && head->body_len == 0));
    nghttp2_data_provider provider = {.source.ptr = s, .read_callback = on_read};
    int rv = nva.overflow ? NGHTTP2_ERR_NOMEM
                          : nghttp2_submit_response(s->c->session, s->id, nva.nv, nva.count,
                                                    s->has_body ? &provider : NULL);
    if (rv != 0) {
        s->err = rv == NGHTTP2_ERR_NOMEM ? ERR_MEMORY : ERR_PROTOCOL;
    }
    h2_server_touch(s);
}

void h2_server_send_info(struct http_stream *stream, const struct http_head *head)
{
    struct h2_server_stream *s = h2_server_stream_of(stream);
    if (s->head_sent || !is_heard(s)) {
        return;
    }
    // They wait within nghttp2, where nothing bounds them.
    s->infos += s->c->conn.out.blocked;
    if (s->infos > H2_INFO_MAX) {
        s->err = ERR_MEMORY;
        h2_server_touch(s);
        return;
    }
    struct h2_nva nva;
    h2_nva_init(&nva);
    h2_nva_put_status(&nva, head->status);
    h2_nva_put_fields(&nva, head->fields, head->field_count);
    if (!nva.overflow && nghttp2_submit_headers(s->c->session, NGHTTP2_FLAG_NONE, s->id, NULL,
                                                nva.nv, nva.count, NULL) < 0) {
        s->err = ERR_MEMORY;
    }
    h2_server_touch(s);
}

void h2_server_send_data(struct http_stream *stream, struct str data)
{
    struct h2_server_stream *s = h2_server_stream_of(stream);
    struct h2_server_conn *c = s->c;
    if (!s->has_body || s->ended || s->err != 0 || data.len == 0 || !is_heard(s)) {
        return;
    }
    if (s->has_left) {
        INVARIANT(data.len <= s->response_left);
        s->response_left -= data.len;
    }
    if (h2_queue_len(&s->out) == 0) {
        s->progress_ms = stream->loop->now_ms; // it waits for the client from now on
    } else if (s->out.view.len > 0 && !c->in_session) {
        pump(c); // or the piece before would be copied to make place for this one
        if (!is_heard(s)) {
            h2_server_wake(c);
            return; // nghttp2 has closed it: it may be freed at the end of the turn
        }
    }
    if (!h2_queue_own(stream->loop, &s->out)) {
        s->err = ERR_MEMORY;
    } else {
        h2_queue_borrow(&s->out, data);
    }
    offer(s);
}

void h2_server_send_end(struct http_stream *stream, const struct http_field *trailers,
                        unsigned count)
{
    struct h2_server_stream *s = h2_server_stream_of(stream);
    if (!is_heard(s) || s->ended || s->err != 0) {
        return;
    }
    s->ended = true;
    if (!s->has_body) {
        h2_server_touch(s);
        return;
    }
    INVARIANT(!s->has_left || s->response_left == 0);
    if (count > 0 && !s->is_tunnel) {
        s->out_trailers = h2_server_keep_trailers(s, trailers, count);
        if (s->out_trailers == NULL) {
            s->err = ERR_MEMORY;
        }
    }
    offer(s);
}
