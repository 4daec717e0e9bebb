// SPDX-License-Identifier: MIT
// Users of client streams, which write down what they are told: "ready;head 200;end;".
#pragma once
#include "base/clock.h"
#include "h2_origin.h"
#include "net/outq.h"
#include "upstream/upstream.h"

struct user {
    struct http_stream *stream; // NULL: over
    struct buf told;
    struct buf fields; // of the last head, and trailers
    size_t body_len;
    struct http_head head; // views are not valid
    bool sends_get;        // when it is ready
    bool pauses;           // at data
    bool keeps;            // does not release at the end
    bool tunnels;          // at 101
    bool never_arrived;
    bool moved; // another stream at on_ready
    const char *path;
    struct buf body; // what came, of short ones
};

struct client {
    struct loop loop;
    struct upstream upstream;
    struct origin origin;
    struct upstream_request request;
};

static inline void user_get(struct user *u, const char *path);

static inline void user_on_ready(struct http_stream *stream)
{
    struct user *u = stream->user;
    u->moved = u->stream != stream;
    u->stream = stream;
    buf_put(&u->told, STR("ready;"));
    if (u->sends_get) {
        user_get(u, u->path);
    }
}

static inline void user_put_fields(struct user *u, const struct http_field *fields, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        buf_printf(&u->fields, "%.*s=%.*s;", STR_ARG(fields[i].name), STR_ARG(fields[i].value));
    }
}

static inline void user_on_head(struct http_stream *stream, const struct http_head *head)
{
    struct user *u = stream->user;
    u->head = *head;
    buf_printf(&u->told, "head %u;", head->status);
    user_put_fields(u, head->fields, head->field_count);
    if (head->status == 101 && u->tunnels) {
        stream->ops->tunnel(stream);
    }
}

static inline void user_on_info(struct http_stream *stream, const struct http_head *head)
{
    struct user *u = stream->user;
    buf_printf(&u->told, "info %u;", head->status);
}

static inline void user_on_data(struct http_stream *stream, struct str data)
{
    struct user *u = stream->user;
    u->body_len += data.len;
    if (u->body_len < 65536) {
        buf_put(&u->body, data);
    }
    if (u->pauses) {
        stream->ops->pause(stream);
    }
}

static inline void user_on_end(struct http_stream *stream, const struct http_field *trailers,
                               unsigned count)
{
    struct user *u = stream->user;
    buf_put(&u->told, STR("end;"));
    user_put_fields(u, trailers, count);
    if (!u->keeps) {
        u->stream = NULL;
        stream->ops->release(stream);
    }
}

static inline void user_on_full(struct http_stream *stream)
{
    struct user *u = stream->user;
    buf_put(&u->told, STR("full;"));
}

static inline void user_on_room(struct http_stream *stream)
{
    struct user *u = stream->user;
    buf_put(&u->told, STR("room;"));
}

static inline void user_on_reset(struct http_stream *stream, int err)
{
    struct user *u = stream->user;
    buf_printf(&u->told, "reset %s;", err_token(err));
    u->never_arrived = stream->never_arrived;
    u->stream = NULL;
}

static const struct http_stream_events user_events = {
    .on_head = user_on_head,
    .on_info = user_on_info,
    .on_ready = user_on_ready,
    .on_data = user_on_data,
    .on_end = user_on_end,
    .on_full = user_on_full,
    .on_room = user_on_room,
    .on_reset = user_on_reset,
};

static inline void user_init(struct user *u)
{
    memset(u, 0, sizeof *u);
    buf_init(&u->told, 0);
    buf_init(&u->fields, 0);
    buf_init(&u->body, 0);
}

static inline void user_fini(struct user *u)
{
    if (u->stream != NULL) {
        u->stream->ops->reset(u->stream, ERR_CLOSED);
    }
    buf_fini(&u->told);
    buf_fini(&u->fields);
    buf_fini(&u->body);
}

static inline bool user_was_told(const struct user *u, const char *all)
{
    return str_eq(buf_str(&u->told), str_from_c(all));
}

static inline bool user_has_field(const struct user *u, const char *text)
{
    return str_find(buf_str(&u->fields), str_from_c(text)) != SIZE_MAX;
}

static inline void user_send(struct user *u, const char *method, const char *path,
                             enum http_body body, uint64_t len)
{
    static struct http_field fields[] = {
        {{"X-Test", 6}, {"yes", 3}, FIELD_OTHER},
        {{"Connection", 10}, {"x-test", 6}, FIELD_CONNECTION},
    };
    struct http_head head = {
        .method = http_method_find(str_from_c(method)),
        .method_text = str_from_c(method),
        .target = str_from_c(path),
        .authority = STR("shop.example"),
        .fields = fields,
        .field_count = 2,
        .te_trailers = true,
        .body = body,
        .body_len = len,
    };
    u->stream->ops->send_head(u->stream, &head);
    if (body == BODY_NONE && u->stream != NULL) {
        u->stream->ops->send_end(u->stream, NULL, 0);
    }
}

static inline void user_get(struct user *u, const char *path)
{
    user_send(u, "GET", path, BODY_NONE, 0);
}

// ---- the side under test ----

static inline void client_begin(struct client *c, enum http_client_protocol protocol)
{
    static const struct h1_limits limits = {
        .head_max = 32768, .target_max = 8192, .field_max = 100};
    memset(c, 0, sizeof *c);
    origin_listen(&c->origin);
    assert_int_equal(loop_init(&c->loop), 0);
    c->loop.is_simulated = true;
    assert_int_equal(outq_pool_init(&c->loop), 0);
    assert_int_equal(tls_loop_init(&c->loop), 0);
    assert_int_equal(upstream_init(&c->upstream, &c->loop, &limits), 0);
    memcpy(&c->request.address, &c->origin.address, sizeof c->origin.address);
    c->request.address_len = sizeof c->origin.address;
    c->request.protocol = protocol;
    c->request.connect_timeout_ms = 1000;
    c->request.keep_idle = 8;
    c->request.keep_timeout_ms = 60000;
}

static inline void client_end(struct client *c)
{
    upstream_fini(&c->upstream);
    http_client_pool_fini(&c->upstream.clients);
    assert_int_equal(c->upstream.endpoint_count, 0);
    assert_int_equal(c->upstream.clients.conns.live_count, 0);
    assert_int_equal(c->upstream.clients.h2_conns.live_count, 0);
    assert_int_equal(c->upstream.clients.h2_streams.live_count, 0);
    assert_int_equal(c->loop.outq_pool->batches.live_count, 0);
    assert_int_equal(c->loop.outq_pool->blocks.live_count, 0);
    origin_fini(&c->origin);
    tls_loop_fini(&c->loop);
    outq_pool_fini(&c->loop);
    loop_fini(&c->loop);
}

static inline void client_poll(struct client *c, int wait_ms)
{
    origin_poll(&c->origin);
    loop_turn(&c->loop, wait_ms);
}

// Turns both sides until the condition holds.
#define WAIT(c, condition)                                                               \
    do {                                                                                 \
        uint64_t until_ns_ = clock_monotonic_ns() + 60 * NS_PER_SEC;                     \
        for (int turn_ = 0; !(condition) && clock_monotonic_ns() < until_ns_; turn_++) { \
            client_poll((c), turn_ < 100 ? 0 : 1);                                       \
        }                                                                                \
        if (!(condition)) {                                                              \
            fail_msg("not in time: %s", #condition);                                     \
        }                                                                                \
    } while (0)

// Some turns in which nothing more is expected.
static inline void client_settle(struct client *c)
{
    for (int i = 0; i < 20; i++) {
        client_poll(c, 0);
    }
}

static inline void client_pass(struct client *c, uint64_t ms)
{
    c->loop.now_ms += ms;
    c->loop.now_ns += ms * 1000000;
    client_settle(c);
}

// A stream for a user; the request may go out at once if it was reused.
static inline bool client_start(struct client *c, struct user *u)
{
    int err = 0;
    u->stream = upstream_get(&c->upstream, &c->request, &user_events, u, &err);
    return u->stream != NULL;
}

// The whole of a GET.
static inline void client_get(struct client *c, struct user *u, const char *path)
{
    user_init(u);
    u->sends_get = true;
    u->path = path;
    assert_true(client_start(c, u));
    if (u->stream->was_reused) {
        user_get(u, path);
    }
}
