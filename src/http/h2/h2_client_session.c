// SPDX-License-Identifier: MIT
// What nghttp2 says of a client connection.
#include "http/h2/h2_client_int.h"

static struct h2_client_stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

// A request that nghttp2 has not begun yet is not known to it by its id.
static struct h2_client_stream *find_stream(struct h2_client_conn *c, int32_t id)
{
    LIST_FOR_EACH (node, &c->streams) {
        struct h2_client_stream *s = CONTAINER_OF(node, struct h2_client_stream, node);
        if (s->id == id && id != 0) {
            return s;
        }
    }
    return NULL;
}

// The stream ends with our RST_STREAM; `err` is what its user is told.
static void refuse(struct h2_client_stream *s, int err)
{
    nghttp2_submit_rst_stream(s->conn->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_PROTOCOL_ERROR);
    h2_client_lose_stream(s, err);
}

// ---- received ----

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_client_conn *c = user;
    struct h2_client_stream *s = stream_of(session, frame->hd.stream_id);
    if (frame->hd.type != NGHTTP2_HEADERS || s == NULL || s->err != 0) {
        return 0;
    }
    enum h2_section_kind kind = s->head_seen ? H2_TRAILERS : H2_RESPONSE;
    h2_section_free(&s->section);
    s->section = h2_section_new(c->memory, kind, &c->link.pool->limits);
    if (s->section == NULL) {
        refuse(s, ERR_MEMORY);
    }
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    (void)user;
    (void)flags;
    struct h2_client_stream *s = stream_of(session, frame->hd.stream_id);
    if (s == NULL || s->section == NULL) {
        return 0;
    }
    return h2_section_add(s->section, name, value) == 0 ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

// RFC 8441 5: what is 101 in HTTP/1 is 200 here. `fields` has room for two more than there are.
static void make_switch(const struct h2_client_stream *s, struct http_head *head,
                        struct http_field *fields)
{
    unsigned count = 0;
    for (unsigned i = 0; i < head->field_count; i++) {
        enum field_id id = head->fields[i].id;
        if (id != FIELD_CONTENT_LENGTH && id != FIELD_SEC_WEBSOCKET_ACCEPT) {
            fields[count++] = head->fields[i];
        }
    }
    fields[count++] = (struct http_field){STR("Upgrade"), STR("websocket"), FIELD_UPGRADE};
    fields[count++] =
        (struct http_field){field_name(FIELD_SEC_WEBSOCKET_ACCEPT),
                            str_make(s->accept, sizeof s->accept), FIELD_SEC_WEBSOCKET_ACCEPT};
    head->fields = fields;
    head->field_count = count;
    head->seen &= ~FIELD_BIT(FIELD_CONTENT_LENGTH);
    head->seen |= FIELD_BIT(FIELD_UPGRADE) | FIELD_BIT(FIELD_SEC_WEBSOCKET_ACCEPT);
    head->status = 101;
    head->reason = STR_NULL;
    head->upgrade = true;
    head->body = BODY_NONE;
    head->body_len = 0;
}

static void tell_switch(struct h2_client_stream *s, struct http_head *head)
{
    struct http_field fields[H1_FIELD_MAX + 2];
    make_switch(s, head, fields);
    s->stream.events->on_head(&s->stream, head);
    if (!s->is_gone && !s->is_tunnel) {
        refuse(s, ERR_UPGRADE); // nobody goes on with it
    }
}

static void tell_head(struct h2_client_stream *s, bool ended)
{
    struct http_head head;
    int err = h2_section_response(s->section, (enum http_method)s->method, ended, &head);
    if (err == 0 && head.status < 200 && ended) {
        err = ERR_PROTOCOL;
    }
    if (err != 0) {
        refuse(s, err);
        return;
    }
    if (head.status < 200) {
        s->stream.events->on_info(&s->stream, &head);
        return;
    }
    s->head_seen = true;
    if (s->is_connect && head.status < 300 && !ended) {
        tell_switch(s, &head);
        return;
    }
    // Of what answers a CONNECT nghttp2 does not compare the lengths; whoever sends the body on relies on them.
    s->has_left = head.body == BODY_LENGTH;
    s->left = s->has_left ? head.body_len : 0;
    if (s->left > 0 && ended) {
        refuse(s, ERR_LENGTH_DIFFERS);
        return;
    }
    s->stream.is_complete = ended;
    s->stream.events->on_head(&s->stream, &head);
}

// Takes `len` bytes off what the response said that it has. False: it has less, or (at its end) more.
static bool count_body(struct h2_client_stream *s, size_t len, bool ended)
{
    if (!s->has_left) {
        return true;
    }
    bool fits = len <= s->left && (!ended || len == s->left);
    s->left -= fits ? len : 0;
    return fits;
}

// The end of the message with what came of trailers; now, or when the user takes data again.
static void take_end(struct h2_client_stream *s, struct h2_section **trailers)
{
    s->peer_ended = true;
    s->stream.is_complete = true;
    if (trailers != NULL) {
        s->trailers = *trailers;
        *trailers = NULL;
    }
    h2_client_deliver(s);
}

// The same, behind a body.
static void end_body(struct h2_client_stream *s, struct h2_section **trailers)
{
    if (count_body(s, 0, true)) {
        take_end(s, trailers);
    } else {
        refuse(s, ERR_LENGTH_DIFFERS);
    }
}

static void take_section(struct h2_client_stream *s, const nghttp2_frame *frame)
{
    bool ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    struct h2_section *section = s->section;
    if (section == NULL) {
        return;
    }
    if (s->head_seen) {
        s->section = NULL;
        if (ended && s->err == 0) {
            end_body(s, &section);
        }
        h2_section_free(&section);
        return;
    }
    // The user may let the stream go within.
    tell_head(s, ended);
    if (!s->is_gone) {
        h2_section_free(&s->section);
        if (ended && s->err == 0) {
            take_end(s, NULL);
        }
    }
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_client_conn *c = user;
    if (frame->hd.stream_id == 0) {
        if (frame->hd.type == NGHTTP2_SETTINGS && !(frame->hd.flags & NGHTTP2_FLAG_ACK)) {
            h2_client_on_settings(c);
        } else if (frame->hd.type == NGHTTP2_GOAWAY) {
            h2_client_on_goaway(c);
        }
        return 0;
    }
    struct h2_client_stream *s = stream_of(session, frame->hd.stream_id);
    if (s == NULL) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS) {
        s->stream.bytes_in += frame->hd.length + H2_CLIENT_FRAME_HEAD;
        take_section(s, frame);
    } else if (frame->hd.type == NGHTTP2_DATA) {
        s->stream.bytes_in += H2_CLIENT_FRAME_HEAD;
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM && s->err == 0) {
            end_body(s, NULL);
        }
    } else if (frame->hd.type == NGHTTP2_RST_STREAM) {
        s->peer_reset = true;
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t len, void *user)
{
    (void)flags;
    struct h2_client_conn *c = user;
    struct h2_client_stream *s = stream_of(session, id);
    struct str bytes = str_make((const char *)data, len);
    nghttp2_session_consume_connection(session, len);
    if (s == NULL || s->err != 0) {
        return 0; // its user has gone: it will be reset
    }
    s->stream.bytes_in += len;
    if (!count_body(s, len, false)) {
        refuse(s, ERR_LENGTH_DIFFERS);
        return 0;
    }
    if (s->paused || h2_queue_len(&s->in) > 0) {
        if (!h2_queue_append(client_link_loop(&c->link), &s->in, bytes)) {
            refuse(s, ERR_MEMORY);
        }
        return 0;
    }
    nghttp2_session_consume_stream(session, id, len);
    s->stream.events->on_data(&s->stream, bytes);
    return 0;
}

// ---- ended ----

static int error_of(const struct h2_client_stream *s, uint32_t code)
{
    if (s->peer_reset || code == NGHTTP2_REFUSED_STREAM || code == NGHTTP2_NO_ERROR) {
        return ERR_CLOSED;
    }
    return ERR_PROTOCOL;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    (void)user;
    struct h2_client_stream *s = stream_of(session, id);
    if (s == NULL) {
        return 0;
    }
    s->is_closed = true;
    if (s->is_orphan) {
        h2_client_note(s->conn, s);
        return 0;
    }
    if (!s->peer_ended || (s->is_tunnel && !s->end_sent)) {
        // RFC 9113 8.7: the peer did not look at it.
        s->stream.never_arrived = code == NGHTTP2_REFUSED_STREAM && !s->head_seen;
        h2_client_lose_stream(s, error_of(s, code));
    }
    return 0;
}

static int on_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error, void *user)
{
    (void)session;
    (void)error;
    struct h2_client_stream *s = find_stream(user, frame->hd.stream_id);
    if (s != NULL && frame->hd.type == NGHTTP2_HEADERS && !s->head_seen &&
        s->stream.bytes_out == 0) {
        s->stream.never_arrived = true;
        s->is_closed = true;
        h2_client_lose_stream(s, ERR_CLOSED);
    }
    return 0;
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)user;
    struct h2_client_stream *s =
        frame->hd.stream_id == 0 ? NULL : stream_of(session, frame->hd.stream_id);
    if (s == NULL) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS) {
        s->stream.bytes_out += frame->hd.length + H2_CLIENT_FRAME_HEAD;
    }
    if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
        s->end_sent = true;
    }
    return 0;
}

// ---- making one ----

static nghttp2_session_callbacks *new_callbacks(void)
{
    nghttp2_session_callbacks *callbacks;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) {
        return NULL;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_not_sent);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, h2_client_send_body);
    return callbacks;
}

static int submit_preface(struct h2_client_conn *c)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_CLIENT_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)c->link.pool->limits.head_max},
    };
    int result = nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, 3);
    if (result == 0) {
        result = nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0,
                                                       H2_CLIENT_WINDOW);
    }
    return result == 0 ? 0 : ERR_MEMORY;
}

int h2_client_session_new(struct h2_client_conn *c)
{
    nghttp2_option *option = NULL;
    nghttp2_session_callbacks *callbacks = new_callbacks();
    if (callbacks == NULL || nghttp2_option_new(&option) != 0) {
        nghttp2_session_callbacks_del(callbacks);
        return ERR_MEMORY;
    }
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_max_deflate_dynamic_table_size(option, 4096);
    nghttp2_option_set_peer_max_concurrent_streams(option, H2_CLIENT_FIRST_STREAM_MAX);
    int result = nghttp2_session_client_new3(&c->session, callbacks, c, option,
                                             h2_memory_of_session(c->memory));
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return result == 0 ? submit_preface(c) : ERR_MEMORY;
}
