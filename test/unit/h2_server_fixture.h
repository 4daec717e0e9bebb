// SPDX-License-Identifier: MIT
// A real http_server with an HTTP/2 client made of raw frames. What the user is told is written down as
// "GET /a;end;sent;", what the client gets as "H1 200;D1 2 end;" (HEADERS, DATA, RST, GOAWAY …).
#pragma once
#include "http/server.h"
#include "net/outq.h"
#include "socket_peer.h"
#include <nghttp2/nghttp2.h>

enum h2_mode {
    H2_HOLD,    // the test answers
    H2_AT_ONCE, // answers in on_request
    H2_AT_END,  // answers when the request is complete
    H2_ECHO,    // sends the body back, with backpressure
    H2_TUNNEL,  // switches protocols and echoes
    H2_SINK,    // counts the body, and answers at its end
};

enum { H2_STREAM_MAX = 256, H2_FLAG_END = 1, H2_FLAG_HEADERS = 4, H2_FLAG_ACK = 1 };

struct h2_fixture {
    struct loop loop;
    struct http_server server;
    struct http_server_config config;
    int listener;
    struct sockaddr_in address;
    struct peer peer;
    nghttp2_hd_inflater *inflater; // of what the client gets
    size_t parsed;                 // bytes of peer.received that were written down

    enum h2_mode mode;
    struct http_stream *stream; // of the latest request
    struct buf told;
    struct buf fields; // of the latest request: "name: value\n"
    struct buf seen;
    struct buf got; // DATA of all streams
    struct buf body;
    struct http_head head; // of the latest request; its views are gone
    size_t queued_max;
    unsigned open_count;
    bool pause_at_data;
};

static const struct http_stream_events h2_user_events;

static inline void h2_tell(struct h2_fixture *f, const char *what)
{
    buf_put(&f->told, str_from_c(what));
    buf_put_char(&f->told, ';');
}

static inline void h2_answer(struct http_stream *stream, const char *text)
{
    struct str body = str_from_c(text);
    struct http_field fields[] = {{STR("X-Mixed"), STR("Case"), FIELD_OTHER},
                                  {STR("Connection"), STR("close"), FIELD_CONNECTION}};
    struct http_head head = {.status = 200,
                             .body = BODY_LENGTH,
                             .body_len = body.len,
                             .fields = fields,
                             .field_count = 2,
                             .seen = FIELD_BIT(FIELD_CONNECTION)};
    stream->ops->send_head(stream, &head);
    stream->ops->send_data(stream, body);
    stream->ops->send_end(stream, NULL, 0);
}

static inline void h2_send_head_of(struct http_stream *stream, unsigned status, enum http_body body,
                                   uint64_t body_len)
{
    struct http_head head = {.status = status, .body = body, .body_len = body_len};
    stream->ops->send_head(stream, &head);
}

// All views lie in one row, as whoever keeps a head expects.
static inline void check_row(const struct http_head *head)
{
    const char *from = head->method_text.p;
    const char *end = head->target.p + head->target.len;
    assert_true(end >= from && head->authority.p >= from);
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct http_field *field = &head->fields[i];
        assert_true(field->name.p >= from && field->value.p >= field->name.p);
        assert_true(field->id == field_find(field->name));
        end = field->value.p + field->value.len > end ? field->value.p + field->value.len : end;
    }
    assert_true(head->authority.p + head->authority.len <= end);
    assert_true(head->path.p >= from && head->path.p + head->path.len <= end);
}

static inline void h2_on_request(struct http_server *server, struct http_stream *stream,
                                 const struct http_head *head)
{
    struct h2_fixture *f = CONTAINER_OF(server, struct h2_fixture, server);
    stream->events = &h2_user_events;
    stream->user = f;
    f->stream = stream;
    f->head = *head;
    f->open_count++;
    check_row(head);
    assert_true(stream->is_h2 && head->version == 20 && head->keep_alive);
    buf_put(&f->told, head->method_text);
    buf_put_char(&f->told, ' ');
    buf_put(&f->told, head->target);
    buf_put_char(&f->told, ';');
    buf_clear(&f->fields);
    for (unsigned i = 0; i < head->field_count; i++) {
        buf_printf(&f->fields, "%.*s: %.*s\n", STR_ARG(head->fields[i].name),
                   STR_ARG(head->fields[i].value));
    }
    if (f->mode == H2_AT_ONCE || (f->mode == H2_AT_END && stream->is_complete)) {
        h2_answer(stream, "ok");
    } else if (f->mode == H2_ECHO) {
        h2_send_head_of(stream, 200, BODY_CHUNKED, 0);
    } else if (f->mode == H2_TUNNEL) {
        h2_send_head_of(stream, 101, BODY_NONE, 0);
        stream->ops->tunnel(stream);
    }
}

static inline void h2_on_refused(struct http_server *server, struct http_stream *stream, int err)
{
    (void)stream;
    struct h2_fixture *f = CONTAINER_OF(server, struct h2_fixture, server);
    buf_printf(&f->told, "refused %s;", err_token(err));
}

static inline void h2_on_abuse(struct http_server *server, const char *what)
{
    struct h2_fixture *f = CONTAINER_OF(server, struct h2_fixture, server);
    buf_printf(&f->told, "abuse %s;", what);
}

static inline bool h2_is_echo(const struct h2_fixture *f)
{
    return f->mode == H2_ECHO || f->mode == H2_TUNNEL;
}

static inline void h2_user_data(struct http_stream *stream, struct str data)
{
    struct h2_fixture *f = stream->user;
    if (h2_is_echo(f)) {
        stream->ops->send_data(stream, data);
    } else {
        buf_put(&f->body, data);
    }
    if (f->pause_at_data) {
        stream->ops->pause(stream);
    }
}

static inline void h2_user_end(struct http_stream *stream, const struct http_field *trailers,
                               unsigned count)
{
    struct h2_fixture *f = stream->user;
    h2_tell(f, "end");
    for (unsigned i = 0; i < count; i++) {
        buf_printf(&f->told, "%.*s=%.*s;", STR_ARG(trailers[i].name), STR_ARG(trailers[i].value));
    }
    if (f->mode == H2_AT_END || f->mode == H2_SINK) {
        h2_answer(stream, "ok");
    } else if (h2_is_echo(f)) {
        stream->ops->send_end(stream, trailers, count);
    }
}

static inline void h2_user_full(struct http_stream *stream)
{
    struct h2_fixture *f = stream->user;
    f->queued_max = stream->queued > f->queued_max ? stream->queued : f->queued_max;
    if (h2_is_echo(f)) {
        stream->ops->pause(stream);
    } else {
        h2_tell(f, "full");
    }
}

static inline void h2_user_room(struct http_stream *stream)
{
    struct h2_fixture *f = stream->user;
    if (h2_is_echo(f)) {
        stream->ops->resume(stream);
    } else {
        h2_tell(f, "room");
    }
}

static inline void h2_user_sent(struct http_stream *stream)
{
    struct h2_fixture *f = stream->user;
    assert_true(stream->bytes_out > 0 && stream->bytes_in > 0);
    f->open_count--;
    h2_tell(f, "sent");
}

static inline void h2_user_reset(struct http_stream *stream, int err)
{
    struct h2_fixture *f = stream->user;
    f->open_count--;
    buf_printf(&f->told, "reset %s;", err_token(err));
}

static const struct http_stream_events h2_user_events = {
    .on_data = h2_user_data,
    .on_end = h2_user_end,
    .on_full = h2_user_full,
    .on_room = h2_user_room,
    .on_sent = h2_user_sent,
    .on_reset = h2_user_reset,
};

static const struct http_server_ops h2_user_ops = {
    .on_request = h2_on_request,
    .on_refused = h2_on_refused,
    .on_abuse = h2_on_abuse,
};

// ---- frames of the client ----

static inline void h2_put_frame(struct buf *to, unsigned type, unsigned flags, uint32_t id,
                                struct str payload)
{
    char *head = buf_reserve(to, 9);
    assert_non_null(head);
    const char bytes[9] = {(char)(payload.len >> 16),
                           (char)(payload.len >> 8),
                           (char)payload.len,
                           (char)type,
                           (char)flags,
                           (char)(id >> 24),
                           (char)(id >> 16),
                           (char)(id >> 8),
                           (char)id};
    buf_put(to, str_make(bytes, 9));
    buf_put(to, payload);
}

static inline void h2_put_len(struct buf *to, size_t len)
{
    if (len < 127) {
        buf_put_char(to, (char)len);
        return;
    }
    buf_put_char(to, 127);
    len -= 127;
    while (len >= 128) {
        buf_put_char(to, (char)(len % 128 | 128));
        len /= 128;
    }
    buf_put_char(to, (char)len);
}

// A literal field without indexing (RFC 7541 6.2.2).
static inline void h2_put_field(struct buf *to, struct str name, struct str value)
{
    buf_put_char(to, 0);
    h2_put_len(to, name.len);
    buf_put(to, name);
    h2_put_len(to, value.len);
    buf_put(to, value);
}

// "name=value|name=value" as a header block.
static inline void h2_put_block(struct buf *to, const char *fields)
{
    struct str rest = str_from_c(fields);
    while (rest.len > 0) {
        struct str field;
        struct str name;
        struct str value;
        (void)str_split(rest, '|', &field, &rest);
        size_t at = str_find_char(str_from(field, 1), '='); // a pseudo-header begins with ':'
        name = str_sub(field, 0, at + 1);
        value = str_from(field, at + 2);
        h2_put_field(to, name, value);
    }
}

static inline void h2_send_frame(struct h2_fixture *f, unsigned type, unsigned flags, uint32_t id,
                                 struct str payload)
{
    struct buf frame;
    buf_init(&frame, 0);
    h2_put_frame(&frame, type, flags, id, payload);
    peer_send(&f->peer, buf_str(&frame));
    buf_fini(&frame);
}

static inline void h2_send_headers(struct h2_fixture *f, unsigned flags, uint32_t id,
                                   const char *fields)
{
    struct buf block;
    buf_init(&block, 0);
    h2_put_block(&block, fields);
    h2_send_frame(f, NGHTTP2_HEADERS, flags | H2_FLAG_HEADERS, id, buf_str(&block));
    buf_fini(&block);
}

#define H2_GET  ":method=GET|:scheme=http|:authority=a.example|:path=/"
#define H2_POST ":method=POST|:scheme=http|:authority=a.example|:path=/"

static inline void h2_get(struct h2_fixture *f, uint32_t id)
{
    h2_send_headers(f, H2_FLAG_END, id, H2_GET);
}

static inline void h2_send_window(struct h2_fixture *f, uint32_t id, uint32_t len)
{
    const char bytes[4] = {(char)(len >> 24), (char)(len >> 16), (char)(len >> 8), (char)len};
    h2_send_frame(f, NGHTTP2_WINDOW_UPDATE, 0, id, str_make(bytes, 4));
}

static inline void h2_send_rst(struct h2_fixture *f, uint32_t id)
{
    h2_send_frame(f, NGHTTP2_RST_STREAM, 0, id, str_make("\0\0\0\10", 4));
}

// ---- frames of the server, as text ----

static inline void h2_note_headers(struct h2_fixture *f, uint32_t id, const uint8_t *p, size_t len)
{
    buf_printf(&f->seen, "H%u", id);
    while (len > 0) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t n = nghttp2_hd_inflate_hd2(f->inflater, &nv, &flags, p, len, 1);
        assert_true(n >= 0);
        p += n;
        len -= (size_t)n;
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            struct str name = str_make((const char *)nv.name, nv.namelen);
            if (str_eq(name, STR(":status"))) {
                buf_printf(&f->seen, " %.*s", (int)nv.valuelen, (const char *)nv.value);
            } else if (!str_eq(name, STR("date"))) {
                buf_printf(&f->seen, " %.*s=%.*s", STR_ARG(name), (int)nv.valuelen,
                           (const char *)nv.value);
            }
        }
        if (flags & NGHTTP2_HD_INFLATE_FINAL) {
            nghttp2_hd_inflate_end_headers(f->inflater);
            break;
        }
    }
}

static inline uint32_t h2_number(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void h2_note_frame(struct h2_fixture *f, const uint8_t *p, size_t len)
{
    unsigned flags = p[4];
    uint32_t id = h2_number(p + 5);
    const uint8_t *payload = p + 9;
    switch (p[3]) {
    case NGHTTP2_DATA:
        buf_printf(&f->seen, "D%u %zu", id, len);
        buf_put(&f->got, str_make((const char *)payload, len));
        break;
    case NGHTTP2_HEADERS:
        h2_note_headers(f, id, payload, len);
        break;
    case NGHTTP2_RST_STREAM:
        buf_printf(&f->seen, "R%u %u", id, h2_number(payload));
        break;
    case NGHTTP2_GOAWAY:
        buf_printf(&f->seen, "G%u %u", h2_number(payload), h2_number(payload + 4));
        break;
    case NGHTTP2_PING:
        buf_put(&f->seen, (flags & H2_FLAG_ACK) ? STR("PA") : STR("P"));
        break;
    default:
        return;
    }
    if ((p[3] == NGHTTP2_DATA || p[3] == NGHTTP2_HEADERS) && (flags & H2_FLAG_END)) {
        buf_put(&f->seen, STR(" end"));
    }
    buf_put_char(&f->seen, ';');
}

static inline void h2_note(struct h2_fixture *f)
{
    const struct buf *in = &f->peer.received;
    while (in->len - f->parsed >= 9) {
        const uint8_t *p = (const uint8_t *)in->p + f->parsed;
        size_t len = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
        if (in->len - f->parsed < 9 + len) {
            return;
        }
        h2_note_frame(f, p, len);
        f->parsed += 9 + len;
    }
}

static inline bool h2_saw(struct h2_fixture *f, const char *text)
{
    h2_note(f);
    return str_find(buf_str(&f->seen), str_from_c(text)) != SIZE_MAX;
}

static inline bool h2_was_told(const struct h2_fixture *f, const char *text)
{
    return str_find(buf_str(&f->told), str_from_c(text)) != SIZE_MAX;
}

// ---- the fixture ----

static const char h2_preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static inline void h2_connect(struct h2_fixture *f, unsigned window)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    int small = 32768; // so that a client that does not read is felt soon
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    assert_int_equal(connect(fd, (struct sockaddr *)&f->address, sizeof f->address), 0);
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    int accepted = -1;
    for (int i = 0; accepted < 0; i++) {
        assert_true(i < 1000000);
        accepted =
            accept4(f->listener, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }
    setsockopt(accepted, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    peer_init(&f->peer, fd);
    f->parsed = 0;
    if (f->inflater != NULL) {
        nghttp2_hd_inflate_del(f->inflater);
    }
    assert_int_equal(nghttp2_hd_inflate_new(&f->inflater), 0);
    assert_int_equal(http_server_accept(&f->server, accepted, &from, HTTP_ACCEPT_PLAIN), 0);
    peer_send(&f->peer, str_make(h2_preface, sizeof h2_preface - 1));
    const char settings[6] = {
        0, 4, (char)(window >> 24), (char)(window >> 16), (char)(window >> 8), (char)window};
    h2_send_frame(f, NGHTTP2_SETTINGS, 0, 0, str_make(settings, window == 0 ? 0 : 6));
    h2_send_frame(f, NGHTTP2_SETTINGS, H2_FLAG_ACK, 0, STR_NULL);
}

static inline void h2_begin_with(struct h2_fixture *f, enum h2_mode mode, unsigned window)
{
    memset(f, 0, sizeof *f);
    f->mode = mode;
    f->config = (struct http_server_config){
        .limits = {.head_max = 4096, .target_max = 1024, .field_max = 50},
        .header_timeout_ms = 10000,
        .idle_timeout_ms = 60000,
        .body_timeout_ms = 30000,
    };
    assert_int_equal(loop_init(&f->loop), 0);
    f->loop.is_simulated = true;
    assert_int_equal(outq_pool_init(&f->loop), 0);
    assert_int_equal(http_server_init(&f->server, &f->loop, &f->config, &h2_user_ops, f), 0);
    f->listener = peer_listen(&f->address);
    h2_connect(f, window);
}

static inline void h2_begin(struct h2_fixture *f, enum h2_mode mode)
{
    h2_begin_with(f, mode, 0);
}

static inline void h2_clear(struct h2_fixture *f)
{
    buf_clear(&f->told);
    buf_clear(&f->seen);
    buf_clear(&f->got);
    buf_clear(&f->body);
}

static inline void h2_end(struct h2_fixture *f)
{
    peer_fini(&f->peer);
    http_server_fini(&f->server);
    assert_int_equal(f->server.conn_count, 0);
    assert_int_equal(f->open_count, 0);
    assert_int_equal(f->loop.outq_pool->batches.live_count, 0);
    assert_int_equal(f->loop.outq_pool->blocks.live_count, 0);
    close(f->listener);
    nghttp2_hd_inflate_del(f->inflater);
    buf_fini(&f->told);
    buf_fini(&f->fields);
    buf_fini(&f->seen);
    buf_fini(&f->got);
    buf_fini(&f->body);
    outq_pool_fini(&f->loop);
    loop_fini(&f->loop);
}

// Takes over with a new connection: for tables of cases.
static inline void h2_renew(struct h2_fixture *f)
{
    peer_fini(&f->peer);
    PUMP(&f->loop, &f->peer, f->server.conn_count == 0);
    h2_clear(f);
    h2_connect(f, 0);
}
