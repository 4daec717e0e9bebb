// SPDX-License-Identifier: MIT
// What the user of a stream of an HTTP/2 client connection does.
#include "http/h2/h2_client_int.h"

// ---- the body, as nghttp2 asks for it ----

// For nghttp2: how much of a stream's body can be sent.
static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len,
                         uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)source;
    (void)buf;
    (void)user;
    const struct h2_client_stream *s = nghttp2_session_get_stream_user_data(session, id);
    if (s == NULL) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; // its user has gone
    }
    size_t have = h2_queue_len(&s->out);
    if (have == 0 && !s->request_ended) {
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (have <= len && s->request_ended) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (s->has_trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        }
    }
    return (ssize_t)(have < len ? have : len);
}

int h2_client_send_body(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t len, nghttp2_data_source *source, void *user)
{
    (void)source;
    struct h2_client_conn *c = user;
    struct h2_client_stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (s == NULL) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    struct loop *loop = client_link_loop(&c->link);
    outq_put_copy(loop, &c->link.out, str_make((const char *)head, H2_CLIENT_FRAME_HEAD));
    h2_queue_send(loop, &s->out, &c->link.out, len);
    s->stream.bytes_out += len + H2_CLIENT_FRAME_HEAD;
    h2_client_note(c, s);
    return 0;
}

// ---- the head ----

// A switch to WebSocket, if the peer knows how (RFC 8441 3): 0, or ERR_UPGRADE.
static int prepare_connect(struct h2_client_stream *s, const struct http_head *head)
{
    nghttp2_session *session = s->conn->session;
    if (!str_eq_case(http_head_value(head, FIELD_UPGRADE), STR("websocket")) ||
        nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) !=
            1) {
        return ERR_UPGRADE;
    }
    s->is_connect = true;
    return net_websocket_accept(http_head_value(head, FIELD_SEC_WEBSOCKET_KEY), s->accept) == 0
               ? 0
               : ERR_UPGRADE;
}

static void put_fields(struct h2_nva *nva, const struct h2_client_stream *s,
                       const struct http_head *head)
{
    if (!s->is_connect) {
        h2_nva_put_fields(nva, head->fields, head->field_count);
        return;
    }
    for (unsigned i = 0; i < head->field_count; i++) {
        if (head->fields[i].id != FIELD_SEC_WEBSOCKET_KEY) {
            h2_nva_put_fields(nva, &head->fields[i], 1);
        }
    }
}

static void fill(struct h2_nva *nva, const struct h2_client_stream *s, const struct http_head *head)
{
    bool is_tls = s->conn->link.tls != NULL;
    h2_nva_init(nva);
    h2_nva_put(nva, STR(":method"), s->is_connect ? STR("CONNECT") : head->method_text);
    h2_nva_put(nva, STR(":scheme"), is_tls ? STR("https") : STR("http"));
    if (head->authority.len > 0) {
        h2_nva_put(nva, STR(":authority"), head->authority);
    }
    h2_nva_put(nva, STR(":path"), head->target);
    if (s->is_connect) {
        h2_nva_put(nva, STR(":protocol"), STR("websocket"));
    }
    put_fields(nva, s, head);
    if (head->te_trailers && !s->is_connect) {
        h2_nva_put(nva, STR("te"), STR("trailers"));
    }
    if (head->body == BODY_LENGTH) {
        h2_nva_put_length(nva, head->body_len);
    }
}

static int submit(struct h2_client_stream *s, const struct http_head *head)
{
    struct h2_client_conn *c = s->conn;
    if (head->upgrade) {
        int err = prepare_connect(s, head);
        if (err != 0) {
            return err;
        }
    }
    struct h2_nva nva;
    fill(&nva, s, head);
    if (nva.overflow) {
        return ERR_TOO_MANY_FIELDS;
    }
    bool has_body = s->is_connect || head->body == BODY_CHUNKED || head->body_len > 0;
    nghttp2_data_provider provider = {.read_callback = read_body};
    int32_t id =
        nghttp2_submit_request(c->session, NULL, nva.nv, nva.count, has_body ? &provider : NULL, s);
    if (id < 0) {
        return id == NGHTTP2_ERR_NOMEM ? ERR_MEMORY : ERR_CLOSED;
    }
    s->id = id;
    s->request_ended = !has_body;
    return 0;
}

static void send_head(struct http_stream *stream, const struct http_head *head)
{
    struct h2_client_stream *s = h2_client_stream_of(stream);
    if (s->is_gone || s->err != 0) {
        return;
    }
    s->method = (uint8_t)head->method;
    s->sent_before = s->conn->link.out.sent;
    s->sent_ms = stream->loop->now_ms;
    int err = submit(s, head);
    if (err != 0) {
        s->stream.never_arrived = err == ERR_CLOSED;
        h2_client_lose_stream(s, err);
    }
    h2_client_note(s->conn, NULL);
}

static void send_info(struct http_stream *stream, const struct http_head *head)
{
    (void)stream; // requests have none
    (void)head;
}

// ---- the body, as the user gives it ----

static bool can_send(const struct h2_client_stream *s)
{
    return !s->is_gone && !s->is_closed && s->err == 0 && s->id > 0 && !s->request_ended;
}

static void send_data(struct http_stream *stream, struct str data)
{
    struct h2_client_stream *s = h2_client_stream_of(stream);
    if (!can_send(s) || data.len == 0) {
        return;
    }
    // One view can be borrowed; what came before it in this event is kept.
    if (!h2_queue_own(stream->loop, &s->out)) {
        h2_client_lose_stream(s, ERR_MEMORY);
        return;
    }
    h2_queue_borrow(&s->out, data);
    nghttp2_session_resume_data(s->conn->session, s->id);
    h2_client_note(s->conn, s);
}

static void send_end(struct http_stream *stream, const struct http_field *trailers, unsigned count)
{
    struct h2_client_stream *s = h2_client_stream_of(stream);
    if (!can_send(s) || (s->is_connect && !s->is_tunnel)) {
        return; // the end of what asks for the switch is not that of what follows it
    }
    s->request_ended = true;
    if (count > 0 && !s->is_tunnel) {
        struct h2_nva nva;
        h2_nva_init(&nva);
        h2_nva_put_fields(&nva, trailers, count);
        s->has_trailers = nva.count > 0 && !nva.overflow &&
                          nghttp2_submit_trailer(s->conn->session, s->id, nva.nv, nva.count) == 0;
    }
    nghttp2_session_resume_data(s->conn->session, s->id);
    h2_client_note(s->conn, NULL);
}

// ---- the rest ----

// Nobody wants the answer any more.
static void cancel(struct h2_client_stream *s)
{
    if (s->id > 0 && !s->is_closed) {
        nghttp2_submit_rst_stream(s->conn->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
    }
}

static void reset(struct http_stream *stream, int err)
{
    (void)err;
    struct h2_client_stream *s = h2_client_stream_of(stream);
    struct h2_client_conn *c = s->conn;
    if (s->is_gone) {
        return;
    }
    // It has the whole request for so long, and has said nothing to anybody: maybe it is not there.
    bool is_silent = s->end_sent && !s->head_seen && c->received_ms <= s->sent_ms &&
                     stream->loop->now_ms - s->sent_ms >= H2_CLIENT_SILENT_MS;
    cancel(s);
    h2_client_detach(s);
    if (is_silent) {
        h2_client_leave(c);
    }
}

static void pause_input(struct http_stream *stream)
{
    h2_client_stream_of(stream)->paused = true;
}

static void resume_input(struct http_stream *stream)
{
    struct h2_client_stream *s = h2_client_stream_of(stream);
    if (s->paused && !s->is_gone) {
        s->paused = false;
        h2_client_note(s->conn, s);
    }
}

static void tunnel(struct http_stream *stream)
{
    struct h2_client_stream *s = h2_client_stream_of(stream);
    s->is_tunnel = true;
    s->stream.is_complete = s->peer_ended;
}

static void release(struct http_stream *stream)
{
    struct h2_client_stream *s = h2_client_stream_of(stream);
    struct h2_client_conn *c = s->conn;
    if (s->is_gone) {
        return;
    }
    if (s->is_tunnel && s->peer_ended && s->request_ended && !s->end_sent && !s->is_closed) {
        s->is_gone = true;
        s->is_orphan = true;
        loop_timer_set(stream->loop, &c->link.timer, H2_CLIENT_FLUSH_MS);
        h2_client_note(c, s); // a view that it borrowed
        return;
    }
    if (!s->end_sent) {
        cancel(s); // the rest of the request is not needed
    }
    h2_client_detach(s);
}

const struct http_stream_ops h2_client_stream_ops = {
    send_head, send_info, send_data, send_end, reset, pause_input, resume_input, tunnel, release,
};
