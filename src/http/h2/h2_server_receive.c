// SPDX-License-Identifier: MIT
// The client side of HTTP/2: frames into events of streams.
//
// What a paused user does not take is held in its stream's queue, and the stream's window is not given
// back: that is the backpressure. The connection's window is, up to a bound, so that others go on.
#include "base/hash.h"
#include "http/h2/h2_server_int.h"

// ---- streams ----

static struct h2_server_stream *new_stream(struct h2_server_conn *c, int32_t id)
{
    struct h2_server_stream *s = h2_memory_get(c->memory, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    memset(s, 0, sizeof *s);
    s->stream.ops = &h2_server_stream_ops;
    s->stream.loop = h2_server_loop(c);
    s->stream.conn = &c->conn;
    s->stream.is_h2 = true;
    s->c = c;
    s->id = id;
    s->memory = h2_memory_ref(); // its own: it may outlive the connection within a turn
    s->progress_ms = s->stream.loop->now_ms;
    list_append(&c->streams, &s->node);
    list_init(&s->touched);
    list_init(&s->resumed);
    c->stream_count++;
    h2_server_watch(c, c->conn.server->config->body_timeout_ms);
    return s;
}

static void free_it(struct loop *loop, struct loop_deferred *deferred)
{
    (void)loop;
    struct h2_server_stream *s = CONTAINER_OF(deferred, struct h2_server_stream, deferred);
    struct h2_memory *memory = s->memory;
    h2_memory_put(memory, s->in_trailers);
    h2_memory_put(memory, s->out_trailers);
    h2_memory_put(memory, s);
    h2_memory_unref(&memory);
}

// Takes bytes off what is held; gives the windows back.
static void release_held(struct h2_server_stream *s, size_t len)
{
    struct h2_server_conn *c = s->c;
    size_t owed = len < c->owed ? len : c->owed;
    c->held -= len;
    c->owed -= owed;
    if (c->session != NULL && h2_server_is_open(c)) {
        if (owed > 0) {
            (void)nghttp2_session_consume_connection(c->session, owed);
        }
        if (!s->is_gone) {
            (void)nghttp2_session_consume_stream(c->session, s->id, len);
        }
        h2_server_wake(c);
    }
}

static void drop_held(struct h2_server_stream *s)
{
    size_t held = s->in.len;
    h2_queue_fini(s->stream.loop, &s->in);
    if (held > 0) {
        release_held(s, held);
    }
}

void h2_server_free_stream(struct h2_server_stream *s)
{
    INVARIANT(!s->in_exchange);
    if (list_is_empty(&s->node)) {
        return; // it was freed in this turn already
    }
    drop_held(s);
    h2_queue_fini(s->stream.loop, &s->out);
    list_remove(&s->node);
    list_remove(&s->touched);
    list_remove(&s->resumed);
    s->c->stream_count--;
    loop_defer(s->stream.loop, &s->deferred, free_it);
}

void h2_server_reset_user(struct h2_server_stream *s, int err)
{
    if (s->in_exchange) {
        s->in_exchange = false;
        s->stream.queued = 0;
        s->ended = s->end_sent; // a response that breaks off must not look complete
        s->stream.events->on_reset(&s->stream, err);
    }
}

void h2_server_reset_stream(struct h2_server_stream *s, uint32_t code)
{
    if (s->is_gone || s->was_reset) {
        return;
    }
    s->was_reset = true;
    s->err = 0;
    h2_queue_fini(s->stream.loop, &s->out);
    drop_held(s);
    if (h2_server_is_open(s->c)) {
        if (nghttp2_submit_rst_stream(s->c->session, NGHTTP2_FLAG_NONE, s->id, code) != 0) {
            s->c->err = ERR_MEMORY;
        }
        h2_server_wake(s->c);
    }
}

struct h2_trailers *h2_server_keep_trailers(struct h2_server_stream *s,
                                            const struct http_field *fields, unsigned count)
{
    size_t len = sizeof(struct h2_trailers) + count * sizeof *fields;
    size_t at = len;
    for (unsigned i = 0; i < count; i++) {
        len += fields[i].name.len + fields[i].value.len;
    }
    struct h2_trailers *kept = h2_memory_get(s->memory, len);
    if (kept == NULL) {
        return NULL;
    }
    kept->count = count;
    char *to = (char *)kept + at;
    for (unsigned i = 0; i < count; i++) {
        struct http_field field = fields[i];
        kept->fields[i] = field;
        kept->fields[i].name.p = memcpy(to, field.name.p, field.name.len);
        to += field.name.len;
        if (field.value.len > 0) {
            memcpy(to, field.value.p, field.value.len);
        }
        kept->fields[i].value.p = to;
        to += field.value.len;
    }
    return kept;
}

// ---- requests ----

void h2_server_refuse(struct h2_server_stream *s, int err)
{
    struct str text = str_from_c(err_text(err));
    struct http_field fields[2] = {
        {STR("content-type"), STR("text/plain; charset=utf-8"), FIELD_CONTENT_TYPE},
        {STR("allow"), STR("GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"), FIELD_OTHER},
    };
    struct http_head head = {.fields = fields, .status = (unsigned)err_status(err)};
    head.field_count = head.status == 405 ? 2 : 1;
    head.body = BODY_LENGTH;
    head.body_len = text.len;
    h2_server_send_head(&s->stream, &head);
    h2_server_send_data(&s->stream, text);
    h2_server_send_end(&s->stream, NULL, 0);
}

// Which budget a header section is paid from that is refused.
static enum h2_abuse abuse_of(int err)
{
    bool is_too_large = err == ERR_HEAD_TOO_LARGE || err == ERR_TOO_MANY_FIELDS;
    return is_too_large ? ABUSE_HEADER_BOMB : ABUSE_RAPID_RESET;
}

static void refuse_request(struct h2_server_stream *s, int err)
{
    struct h2_server_conn *c = s->c;
    enum h2_abuse kind = abuse_of(err);
    if (!h2_guard_spend(&c->guard, s->stream.loop->now_ms, kind)) {
        c->abuse = kind;
    }
    c->conn.server->ops->on_refused(c->conn.server, &s->stream, err);
    if (!h2_server_is_open(c)) {
        return;
    }
    if (err == ERR_PROTOCOL) {
        h2_server_reset_stream(s, NGHTTP2_PROTOCOL_ERROR); // RFC 9113 8.1.1
    } else {
        h2_server_refuse(s, err);
    }
}

// RFC 8441 5: a GET that asks for an upgrade, with a key that nobody will check.
static void add_handshake(struct h2_server_stream *s, struct h2_section *section)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char key[24];
    uint64_t seed[2] = {s->stream.loop->now_ns, (uintptr_t)s ^ (uint64_t)(uint32_t)s->id};
    uint64_t bits = hash_bytes(seed, sizeof seed);
    for (unsigned i = 0; i < 22; i++) {
        if (i == 10) {
            bits = hash_bytes(&bits, sizeof bits);
        }
        // 16 bytes are 21 digits and 2 bits more.
        key[i] = digits[(bits >> (i % 10 * 6)) & (i == 21 ? 48 : 63)];
    }
    key[22] = '=';
    key[23] = '=';
    h2_section_put(section, STR("upgrade"), STR("websocket"));
    h2_section_put(section, STR("sec-websocket-key"), str_make(key, sizeof key));
}

static void begin_request(struct h2_server_stream *s, struct h2_section *section, bool ended)
{
    struct http_server *server = s->c->conn.server;
    s->is_websocket = str_eq(h2_section_protocol(section), STR("websocket"));
    if (s->is_websocket) {
        add_handshake(s, section);
    }
    struct http_head head;
    int err = h2_section_request(section, ended, &head);
    s->is_head = head.method == METHOD_HEAD;
    s->peer_ended = ended;
    if (err != 0) {
        s->end_told = true;
        refuse_request(s, err);
        return;
    }
    s->end_told = ended;
    s->stream.is_complete = ended || s->is_websocket;
    s->in_exchange = true;
    server->request_count++;
    server->ops->on_request(server, &s->stream, &head);
}

static bool is_held_back(const struct h2_server_stream *s)
{
    return s->paused || (s->is_websocket && !s->is_tunnel);
}

static void tell_end(struct h2_server_stream *s, const struct http_field *trailers, unsigned count)
{
    s->end_told = true;
    s->stream.is_complete = true;
    s->stream.events->on_end(&s->stream, s->is_tunnel ? NULL : trailers, s->is_tunnel ? 0 : count);
    if (s->is_tunnel && s->end_sent && s->in_exchange) {
        h2_server_touch(s); // it was the last that was missing
    }
}

static void end_request(struct h2_server_stream *s, const struct http_field *trailers,
                        unsigned count)
{
    s->peer_ended = true;
    if (!s->in_exchange) {
        return;
    }
    if (s->in.len == 0 && !is_held_back(s)) {
        tell_end(s, trailers, count);
        return;
    }
    if (count > 0) {
        s->in_trailers = h2_server_keep_trailers(s, trailers, count);
        if (s->in_trailers == NULL) {
            s->err = ERR_MEMORY;
            h2_server_touch(s);
        }
    }
}

static void deliver_to(struct h2_server_stream *s)
{
    size_t given = 0;
    while (s->in_exchange && !is_held_back(s) && s->in.len > 0) {
        if (given >= H2_DELIVER_MAX) {
            list_append(&s->c->resumed, &s->resumed);
            loop_task_add(s->stream.loop, &s->c->again);
            return;
        }
        struct str front = h2_queue_front(&s->in);
        h2_queue_drop(s->stream.loop, &s->in, front.len);
        release_held(s, front.len);
        given += front.len;
        s->progress_ms = s->stream.loop->now_ms;
        s->stream.events->on_data(&s->stream, front);
    }
    if (s->in_exchange && !is_held_back(s) && s->peer_ended && !s->end_told) {
        const struct h2_trailers *kept = s->in_trailers;
        tell_end(s, kept == NULL ? NULL : kept->fields, kept == NULL ? 0 : kept->count);
    }
}

void h2_server_deliver(struct h2_server_conn *c)
{
    struct list ready;
    list_init(&ready);
    list_splice(&ready, &c->resumed);
    while (!list_is_empty(&ready)) {
        struct h2_server_stream *s = LIST_FIRST(&ready, struct h2_server_stream, resumed);
        list_remove(&s->resumed);
        deliver_to(s);
    }
}

// ---- what nghttp2 tells ----

static struct h2_server_stream *find(nghttp2_session *session, int32_t id)
{
    return id == 0 ? NULL : nghttp2_session_get_stream_user_data(session, id);
}

// Inside a callback the session cannot be ended: the call is broken off, and whoever made it does.
static int result_of(const struct h2_server_conn *c)
{
    return h2_server_is_open(c) && c->abuse == ABUSE_NONE ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_server_conn *c = user;
    bool is_request = frame->headers.cat == NGHTTP2_HCAT_REQUEST;
    if (frame->hd.type != NGHTTP2_HEADERS) {
        return 0;
    }
    h2_section_free(&c->section);
    if (is_request) {
        struct h2_server_stream *s = new_stream(c, frame->hd.stream_id);
        if (s == NULL) {
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
        (void)nghttp2_session_set_stream_user_data(session, s->id, s);
    }
    c->section = h2_section_new(c->memory, is_request ? H2_REQUEST : H2_TRAILERS,
                                &c->conn.server->config->limits);
    return c->section == NULL ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    (void)session;
    (void)frame;
    (void)flags;
    struct h2_server_conn *c = user;
    if (c->section != NULL && h2_section_add(c->section, name, value) != 0) {
        c->abuse = ABUSE_HEADER_BOMB;
    }
    return result_of(c);
}

// A field that nghttp2 would leave out silently: RFC 9113 8.2.1 has it malformed.
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                             nghttp2_rcbuf *name, nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    (void)session;
    (void)frame;
    (void)name;
    (void)value;
    (void)flags;
    (void)user;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void take_trailers(struct h2_server_stream *s, struct h2_section *section)
{
    const struct http_field *fields;
    unsigned count;
    int err = h2_section_trailers(section, &fields, &count);
    if (err != 0) {
        // It costs the client what a refused request does.
        enum h2_abuse kind = abuse_of(err);
        if (!h2_guard_spend(&s->c->guard, s->stream.loop->now_ms, kind)) {
            s->c->abuse = kind;
        }
        h2_server_reset_stream(s, NGHTTP2_PROTOCOL_ERROR);
        h2_server_reset_user(s, err);
    } else {
        end_request(s, fields, count);
    }
}

static void take_headers(struct h2_server_conn *c, struct h2_server_stream *s,
                         const nghttp2_frame *frame)
{
    // Taken off the connection, so that it outlives what the callbacks do.
    struct h2_section *section = c->section;
    c->section = NULL;
    s->stream.bytes_in += H2_FRAME_HEADER_LEN + frame->hd.length;
    s->progress_ms = s->stream.loop->now_ms;
    bool ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (section == NULL) {
        return;
    }
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        begin_request(s, section, ended);
    } else if (ended) {
        take_trailers(s, section);
    }
    h2_section_free(&section);
}

static void take_ping_ack(struct h2_server_conn *c)
{
    if (c->is_draining && !c->is_last_sent) {
        c->notice_ms = 0; // the client has seen the first GOAWAY
    }
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_server_conn *c = user;
    struct h2_server_stream *s = find(session, frame->hd.stream_id);
    bool is_ack = (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (s != NULL) {
            take_headers(c, s, frame);
        }
        break;
    case NGHTTP2_DATA:
        if (s != NULL) {
            s->stream.bytes_in += H2_FRAME_HEADER_LEN;
            if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
                end_request(s, NULL, 0);
            }
        }
        break;
    case NGHTTP2_RST_STREAM:
        if (s != NULL) {
            s->peer_reset = true;
        }
        break;
    case NGHTTP2_SETTINGS:
        c->settled = c->settled || is_ack;
        break;
    case NGHTTP2_PING:
        if (is_ack) {
            take_ping_ack(c);
        }
        break;
    default:
        break;
    }
    return result_of(c);
}

// Keeps what the user does not take now.
static void hold(struct h2_server_conn *c, struct h2_server_stream *s, struct str data)
{
    size_t before = s->in.len;
    if (!h2_queue_append(s->stream.loop, &s->in, data)) {
        c->held += s->in.len - before;
        (void)nghttp2_session_consume_connection(c->session, data.len);
        s->err = ERR_MEMORY;
        h2_server_touch(s);
        return;
    }
    c->held += data.len;
    if (c->held <= H2_HELD_MAX) {
        (void)nghttp2_session_consume_connection(c->session, data.len);
    } else {
        c->owed += data.len;
    }
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p,
                   size_t len, void *user)
{
    (void)flags;
    struct h2_server_conn *c = user;
    struct h2_server_stream *s = find(session, id);
    struct str data = str_make((const char *)p, len);
    if (s == NULL || !s->in_exchange || s->err != 0) {
        (void)nghttp2_session_consume(session, id, len);
        return result_of(c);
    }
    s->stream.bytes_in += len;
    s->progress_ms = s->stream.loop->now_ms;
    if (s->in.len > 0 || is_held_back(s)) {
        hold(c, s, data);
    } else {
        (void)nghttp2_session_consume(session, id, len);
        s->stream.events->on_data(&s->stream, data);
    }
    return result_of(c);
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct h2_server_conn *c = user;
    struct h2_server_stream *s = find(session, id);
    if (s == NULL) {
        return 0;
    }
    s->is_gone = true;
    uint64_t now_ms = s->stream.loop->now_ms;
    if (s->peer_reset && !s->end_sent && !h2_guard_spend(&c->guard, now_ms, ABUSE_RAPID_RESET)) {
        c->abuse = ABUSE_RAPID_RESET;
    }
    bool is_whole = s->end_sent && (!s->is_tunnel || s->peer_ended);
    if (!is_whole || (s->is_tunnel && s->peer_reset)) {
        h2_server_reset_user(s,
                             s->peer_reset || code == NGHTTP2_NO_ERROR ? ERR_CLOSED : ERR_PROTOCOL);
    }
    if (!s->in_exchange) {
        h2_server_free_stream(s);
    }
    return 0; // budgets are looked at behind the call that this is in
}

void h2_server_set_receive_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback2(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}

// ---- what users do ----

static void reset(struct http_stream *stream, int err)
{
    struct h2_server_stream *s = h2_server_stream_of(stream);
    s->in_exchange = false;
    if (s->is_gone) {
        h2_server_free_stream(s);
    } else if (!s->end_sent) {
        h2_server_reset_stream(s, err == ERR_REQUEST_TIMEOUT || err == ERR_TIMEOUT
                                      ? NGHTTP2_CANCEL
                                      : NGHTTP2_INTERNAL_ERROR);
    }
}

static void pause_input(struct http_stream *stream)
{
    h2_server_stream_of(stream)->paused = true;
}

static void resume_held(struct h2_server_stream *s)
{
    s->progress_ms = s->stream.loop->now_ms;
    if ((s->in.len > 0 || (s->peer_ended && !s->end_told)) && list_is_empty(&s->resumed) &&
        s->c->state != H2_SERVER_CLOSED) {
        list_append(&s->c->resumed, &s->resumed);
        loop_task_add(s->stream.loop, &s->c->again);
    }
}

static void resume_input(struct http_stream *stream)
{
    struct h2_server_stream *s = h2_server_stream_of(stream);
    if (s->paused) {
        s->paused = false;
        resume_held(s);
    }
}

static void tunnel(struct http_stream *stream)
{
    struct h2_server_stream *s = h2_server_stream_of(stream);
    s->is_tunnel = true;
    s->paused = false;
    s->end_told = false;
    s->has_left = false;
    stream->is_complete = false;
    resume_held(s);
}

static void release(struct http_stream *stream)
{
    (void)stream; // a server stream ends with on_sent
}

const struct http_stream_ops h2_server_stream_ops = {
    .send_head = h2_server_send_head,
    .send_info = h2_server_send_info,
    .send_data = h2_server_send_data,
    .send_end = h2_server_send_end,
    .reset = reset,
    .pause = pause_input,
    .resume = resume_input,
    .tunnel = tunnel,
    .release = release,
};
