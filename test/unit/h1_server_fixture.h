// SPDX-License-Identifier: MIT
// A real http_server on real sockets with a scripted user. What the user is told is written down as
// text: "GET /a;end;sent;".
#pragma once
#include "http/server.h"
#include "net/outq.h"
#include "socket_peer.h"

enum user_mode {
    MODE_HOLD,    // the test answers
    MODE_AT_ONCE, // answers in on_request
    MODE_AT_END,  // answers when the request is complete
    MODE_ECHO,    // sends the body back, chunked, with backpressure
    MODE_TUNNEL,  // switches protocols and echoes
    MODE_TUNNEL_HOLD,
};

struct fixture {
    struct loop loop;
    struct http_server server;
    struct http_server_config config;
    const struct http_server_ops *ops;
    enum http_accept kind;
    int listener;
    struct sockaddr_in address;
    struct peer peer;

    enum user_mode mode;
    struct http_stream *stream; // of the latest request
    struct buf told;
    struct buf body;
    bool pause_at_data;
    bool pause_at_end_of_body;
    size_t queued_max;
    unsigned open_count; // exchanges that have not ended
};

extern const struct http_stream_events user_events;

static inline struct fixture *fixture_of(struct http_stream *stream)
{
    return stream->user;
}

static inline void tell(struct fixture *f, const char *what)
{
    buf_put(&f->told, str_from_c(what));
    buf_put_char(&f->told, ';');
}

static inline bool was_told(const struct fixture *f, const char *all)
{
    return str_eq(buf_str(&f->told), str_from_c(all));
}

// A response head without a Date, so that it can be compared.
static inline void send_head_of(struct http_stream *stream, unsigned status, enum http_body body,
                                uint64_t body_len)
{
    struct http_head head = {
        .status = status, .body = body, .body_len = body_len, .seen = FIELD_BIT(FIELD_DATE)};
    stream->ops->send_head(stream, &head);
}

static inline void answer(struct http_stream *stream, const char *text)
{
    struct str body = str_from_c(text);
    send_head_of(stream, 200, BODY_LENGTH, body.len);
    stream->ops->send_data(stream, body);
    stream->ops->send_end(stream, NULL, 0);
}

static inline void on_request(struct http_server *server, struct http_stream *stream,
                              const struct http_head *head)
{
    struct fixture *f = CONTAINER_OF(server, struct fixture, server);
    stream->events = &user_events;
    stream->user = f;
    f->stream = stream;
    f->open_count++;
    buf_put(&f->told, head->method_text);
    buf_put_char(&f->told, ' ');
    buf_put(&f->told, head->target);
    buf_put_char(&f->told, ';');
    if (f->mode == MODE_AT_ONCE || (f->mode == MODE_AT_END && stream->is_complete)) {
        answer(stream, "ok");
    } else if (f->mode == MODE_ECHO) {
        send_head_of(stream, 200, BODY_CHUNKED, 0);
    } else if (f->mode == MODE_TUNNEL || f->mode == MODE_TUNNEL_HOLD) {
        send_head_of(stream, 101, BODY_NONE, 0);
        stream->ops->tunnel(stream);
    }
}

static inline void on_refused(struct http_server *server, struct http_stream *stream, int err)
{
    (void)stream;
    struct fixture *f = CONTAINER_OF(server, struct fixture, server);
    buf_printf(&f->told, "refused %s;", err_token(err));
}

static inline void user_data(struct http_stream *stream, struct str data)
{
    struct fixture *f = fixture_of(stream);
    if (f->mode == MODE_ECHO || f->mode == MODE_TUNNEL) {
        stream->ops->send_data(stream, data);
    } else {
        buf_put(&f->body, data);
    }
    if (f->pause_at_data) {
        stream->ops->pause(stream);
    }
}

static inline void user_end(struct http_stream *stream, const struct http_field *trailers,
                            unsigned count)
{
    struct fixture *f = fixture_of(stream);
    tell(f, "end");
    for (unsigned i = 0; i < count; i++) {
        buf_printf(&f->told, "%.*s=%.*s;", STR_ARG(trailers[i].name), STR_ARG(trailers[i].value));
    }
    if (f->mode == MODE_AT_END) {
        answer(stream, "ok");
    } else if (f->mode == MODE_ECHO || f->mode == MODE_TUNNEL) {
        stream->ops->send_end(stream, trailers, count);
    }
}

static inline void user_full(struct http_stream *stream)
{
    struct fixture *f = fixture_of(stream);
    f->queued_max = stream->queued > f->queued_max ? stream->queued : f->queued_max;
    if (f->mode == MODE_ECHO || f->mode == MODE_TUNNEL) {
        stream->ops->pause(stream);
    } else {
        tell(f, "full");
    }
}

static inline void user_room(struct http_stream *stream)
{
    struct fixture *f = fixture_of(stream);
    if (f->mode == MODE_ECHO || f->mode == MODE_TUNNEL) {
        stream->ops->resume(stream);
    } else {
        tell(f, "room");
    }
}

static inline void user_sent(struct http_stream *stream)
{
    struct fixture *f = fixture_of(stream);
    f->open_count--;
    tell(f, "sent");
}

static inline void user_reset(struct http_stream *stream, int err)
{
    struct fixture *f = fixture_of(stream);
    f->open_count--;
    buf_printf(&f->told, "reset %s;", err_token(err));
}

const struct http_stream_events user_events = {
    .on_data = user_data,
    .on_end = user_end,
    .on_full = user_full,
    .on_room = user_room,
    .on_sent = user_sent,
    .on_reset = user_reset,
};

static const struct http_server_ops user_ops = {.on_request = on_request, .on_refused = on_refused};

// One more connection to the server.
static inline void connect_peer(struct fixture *f, struct peer *peer)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    int small = 32768; // so that a peer that does not read is felt soon
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
    peer_init(peer, fd);
    assert_int_equal(http_server_accept(&f->server, accepted, &from, f->kind), 0);
}

// All but the first connection; the test changes what it wants in between.
static inline void prepare(struct fixture *f, enum user_mode mode)
{
    memset(f, 0, sizeof *f);
    f->mode = mode;
    f->ops = &user_ops;
    f->config = (struct http_server_config){
        .limits = {.head_max = 32768, .target_max = 8192, .field_max = 100},
        .header_timeout_ms = 10000,
        .idle_timeout_ms = 60000,
        .body_timeout_ms = 30000,
    };
    assert_int_equal(loop_init(&f->loop), 0);
    f->loop.is_simulated = true;
    assert_int_equal(outq_pool_init(&f->loop), 0);
    f->loop.owner = f;
    buf_init(&f->told, 0);
    buf_init(&f->body, 0);
    f->listener = peer_listen(&f->address);
}

static inline void start(struct fixture *f)
{
    assert_int_equal(http_server_init(&f->server, &f->loop, &f->config, f->ops, f), 0);
    connect_peer(f, &f->peer);
}

static inline void begin(struct fixture *f, enum user_mode mode)
{
    prepare(f, mode);
    start(f);
}

static inline void end(struct fixture *f)
{
    peer_fini(&f->peer);
    http_server_fini(&f->server);
    assert_int_equal(f->server.conn_count, 0);
    assert_int_equal(f->open_count, 0);
    assert_int_equal(f->loop.outq_pool->batches.live_count, 0);
    assert_int_equal(f->loop.outq_pool->blocks.live_count, 0);
    close(f->listener);
    buf_fini(&f->told);
    buf_fini(&f->body);
    outq_pool_fini(&f->loop);
    loop_fini(&f->loop);
}

// Takes over with a new connection: for tables of cases.
static inline void renew(struct fixture *f)
{
    peer_fini(&f->peer);
    PUMP(&f->loop, &f->peer, f->server.conn_count == 0);
    buf_clear(&f->told);
    buf_clear(&f->body);
    connect_peer(f, &f->peer);
}
