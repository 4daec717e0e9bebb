// SPDX-License-Identifier: MIT
// HTTP/2 client connections against an origin that is nghttp2 itself, in the same thread.
#include "client_user.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

enum { MANY = 100 };

static struct origin_conn *only_conn(struct client *c)
{
    assert_int_equal(c->origin.conn_count, 1);
    return c->origin.conns[0];
}

static void test_exchanges(void **state)
{
    (void)state;
    static const struct {
        const char *path, *told, *fields;
        size_t body_len;
    } cases[] = {
        {"/ok", "ready;head 200;end;", "content-length=2;", 2},
        {"/none", "ready;head 204;end;", "", 0},
        {"/trailers-only", "ready;head 200;end;", "grpc-status=5;", 0},
        {"/info", "ready;info 103;head 200;end;", "content-type=text/plain;", 2},
        {"/big", "ready;head 200;end;", "", ORIGIN_BIG},
        {"/reset", "ready;reset closed;", "", 0},
        {"/short", "ready;head 200;reset protocol;", "", 1},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct client c;
        struct user u;
        client_begin(&c, HTTP_CLIENT_H2);
        client_get(&c, &u, cases[i].path);
        WAIT(&c, u.stream == NULL);
        assert_true(user_was_told(&u, cases[i].told));
        assert_true(user_has_field(&u, cases[i].fields));
        assert_int_equal(u.body_len, cases[i].body_len);
        assert_false(u.never_arrived);
        user_fini(&u);
        client_end(&c);
    }
}

// What the origin sees of a request, and how heads are framed.
static void test_head(void **state)
{
    (void)state;
    struct client c;
    struct user u;
    client_begin(&c, HTTP_CLIENT_H2);
    client_get(&c, &u, "/ok");
    WAIT(&c, u.stream == NULL);
    assert_int_equal(u.head.version, 20);
    assert_int_equal(u.head.body, BODY_LENGTH);
    assert_int_equal(u.head.body_len, 2);
    struct origin_stream *s = &only_conn(&c)->streams[0];
    assert_true(s->ended);
    const char *seen[] = {":method: GET\n", ":scheme: http\n", ":authority: shop.example\n",
                          ":path: /ok\n",   "x-test: yes\n",   "te: trailers\n"};
    for (unsigned i = 0; i < sizeof seen / sizeof seen[0]; i++) {
        assert_true(str_find(buf_str(&s->fields), str_from_c(seen[i])) != SIZE_MAX);
    }
    assert_true(str_find(buf_str(&s->fields), STR("connection")) == SIZE_MAX);
    user_fini(&u);

    // HEAD: a length without content.
    user_init(&u);
    assert_true(client_start(&c, &u));
    assert_true(u.stream->was_reused);
    user_send(&u, "HEAD", "/head", BODY_NONE, 0);
    WAIT(&c, u.stream == NULL);
    assert_true(user_was_told(&u, "head 200;end;"));
    assert_int_equal(u.head.body, BODY_NONE);
    assert_true(u.head.seen & FIELD_BIT(FIELD_CONTENT_LENGTH));
    user_fini(&u);
    client_end(&c);
}

static void test_request_body(void **state)
{
    (void)state;
    struct client c;
    struct user u;
    client_begin(&c, HTTP_CLIENT_H2);
    user_init(&u);
    assert_true(client_start(&c, &u));
    WAIT(&c, user_was_told(&u, "ready;"));
    user_send(&u, "POST", "/echo", BODY_CHUNKED, 0);
    for (int i = 0; i < 50; i++) {
        u.stream->ops->send_data(u.stream, STR("0123456789"));
        u.stream->ops->send_data(u.stream, STR("abcdefghij"));
        client_poll(&c, 0);
    }
    const struct http_field trailer = {STR("X-Sum"), STR("1"), FIELD_OTHER};
    u.stream->ops->send_end(u.stream, &trailer, 1);
    WAIT(&c, u.stream == NULL);
    assert_true(user_was_told(&u, "ready;head 200;end;"));
    assert_int_equal(u.body_len, 1000);
    assert_int_equal(u.head.body, BODY_CHUNKED);
    assert_true(user_has_field(&u, "grpc-status=0;"));
    assert_true(str_starts(buf_str(&u.body), STR("0123456789abcdefghij0123")));
    const struct origin_stream *s = &only_conn(&c)->streams[0];
    assert_true(str_ends(buf_str(&s->fields), STR("x-sum: 1\n")));
    user_fini(&u);
    client_end(&c);
}

// A window that is small: what does not go is kept, the user is told, and nothing is lost.
static void test_backpressure_of_request(void **state)
{
    (void)state;
    static char block[40000];
    struct client c;
    struct user u;
    client_begin(&c, HTTP_CLIENT_H2);
    c.origin.window = 1;
    user_init(&u);
    assert_true(client_start(&c, &u));
    WAIT(&c, user_was_told(&u, "ready;"));
    user_send(&u, "POST", "/echo", BODY_LENGTH, sizeof block * 3);
    for (int i = 0; i < 3; i++) {
        u.stream->ops->send_data(u.stream, str_make(block, sizeof block));
        client_settle(&c);
    }
    u.stream->ops->send_end(u.stream, NULL, 0);
    assert_true(str_find(buf_str(&u.told), STR("full;")) != SIZE_MAX);
    assert_true(u.stream->queued > HTTP_AHEAD_LEN);
    struct origin_conn *conn = only_conn(&c);
    nghttp2_session_set_local_window_size(conn->session, 0, conn->streams[0].id, 1 << 20);
    WAIT(&c, u.stream == NULL);
    assert_true(str_find(buf_str(&u.told), STR("room;")) != SIZE_MAX);
    assert_int_equal(u.body_len, sizeof block * 3);
    user_fini(&u);
    client_end(&c);
}

// A paused stream keeps at most its window here, and stops no other.
static void test_pause(void **state)
{
    (void)state;
    struct client c;
    struct user slow, u;
    client_begin(&c, HTTP_CLIENT_H2);
    client_get(&c, &slow, "/big");
    slow.pauses = true;
    WAIT(&c, slow.body_len > 0);
    size_t had = slow.body_len;
    client_settle(&c);
    for (int i = 0; i < 3; i++) {
        client_get(&c, &u, "/big");
        WAIT(&c, u.stream == NULL);
        assert_int_equal(u.body_len, ORIGIN_BIG);
        user_fini(&u);
    }
    assert_int_equal(slow.body_len, had);
    assert_int_equal(only_conn(&c)->streams[0].left, ORIGIN_BIG - (256 << 10));
    slow.pauses = false;
    slow.stream->ops->resume(slow.stream);
    WAIT(&c, slow.stream == NULL);
    assert_int_equal(slow.body_len, ORIGIN_BIG);
    assert_true(user_was_told(&slow, "ready;head 200;end;"));
    user_fini(&slow);
    client_end(&c);
}

static void test_complete_before_close(void **state)
{
    (void)state;
    struct client c;
    struct user u;
    client_begin(&c, HTTP_CLIENT_H2);
    client_get(&c, &u, "/info");
    u.stream->ops->pause(u.stream);
    WAIT(&c, user_was_told(&u, "ready;info 103;head 200;"));
    client_settle(&c);
    origin_close_conn(only_conn(&c));
    client_settle(&c);
    assert_non_null(u.stream);
    u.stream->ops->resume(u.stream);
    WAIT(&c, u.stream == NULL);
    assert_true(user_was_told(&u, "ready;info 103;head 200;end;"));
    assert_int_equal(u.body_len, 2);
    client_settle(&c);
    assert_int_equal(c.upstream.endpoint_count, 0);
    user_fini(&u);
    client_end(&c);
}

// Those that come while the connection is being opened join it.
static void test_many_streams(void **state)
{
    (void)state;
    struct client c;
    static struct user users[MANY];
    client_begin(&c, HTTP_CLIENT_H2);
    for (unsigned i = 0; i < MANY; i++) {
        client_get(&c, &users[i], i % 2 == 0 ? "/ok" : "/echo");
    }
    for (unsigned i = 0; i < MANY; i++) {
        WAIT(&c, users[i].stream == NULL);
        assert_true(user_was_told(&users[i], "ready;head 200;end;"));
        user_fini(&users[i]);
    }
    assert_int_equal(only_conn(&c)->stream_count, MANY);
    // The next finds it idle.
    client_settle(&c);
    assert_int_equal(c.upstream.idle_count, 1);
    client_get(&c, &users[0], "/ok");
    assert_int_equal(c.upstream.idle_count, 0);
    WAIT(&c, users[0].stream == NULL);
    user_fini(&users[0]);
    only_conn(&c);
    // And its age ends it.
    client_pass(&c, 61000);
    client_pass(&c, 1000);
    assert_int_equal(origin_open_count(&c.origin), 0);
    client_end(&c);
}

static void test_one_stream_at_a_time(void **state)
{
    (void)state;
    struct client c;
    struct user a, b, d;
    client_begin(&c, HTTP_CLIENT_H2);
    c.origin.max_streams = 1;
    client_get(&c, &a, "/hold");
    client_get(&c, &b, "/ok"); // waits for the same; there is no room: a connection of its own
    WAIT(&c, b.stream == NULL);
    assert_true(user_was_told(&b, "ready;head 200;end;"));
    assert_int_equal(c.origin.conn_count, 2);
    user_fini(&b);
    client_get(&c, &d, "/ok");
    WAIT(&c, d.stream == NULL);
    assert_true(user_was_told(&d, "head 200;end;"));
    user_fini(&d);
    // With the end of the first there is room on its connection again.
    user_fini(&a);
    client_settle(&c);
    assert_int_equal(c.origin.conns[0]->streams[0].closed, NGHTTP2_CANCEL + 1);
    assert_int_equal(c.upstream.idle_count, 2);
    client_end(&c);
}

static void test_refused(void **state)
{
    (void)state;
    struct client c;
    struct user u;
    client_begin(&c, HTTP_CLIENT_H2);
    client_get(&c, &u, "/refuse");
    WAIT(&c, u.stream == NULL);
    assert_true(user_was_told(&u, "ready;reset closed;"));
    assert_true(u.never_arrived);
    user_fini(&u);
    client_get(&c, &u, "/ok"); // the connection is good
    WAIT(&c, u.stream == NULL);
    assert_true(user_was_told(&u, "head 200;end;"));
    only_conn(&c);
    user_fini(&u);
    client_end(&c);
}

static void test_goaway(void **state)
{
    (void)state;
    struct client c;
    struct user hold, last, after, next;
    client_begin(&c, HTTP_CLIENT_H2);
    client_get(&c, &hold, "/hold");
    WAIT(&c, c.origin.request_count == 1);
    client_get(&c, &last, "/goaway");
    client_get(&c, &after, "/ok");
    WAIT(&c, last.stream == NULL && after.stream == NULL);
    assert_true(user_was_told(&last, "head 200;end;"));
    assert_true(user_was_told(&after, "reset closed;"));
    assert_true(after.never_arrived);
    // What had begun goes on, what is new goes elsewhere.
    assert_non_null(hold.stream);
    client_get(&c, &next, "/ok");
    WAIT(&c, next.stream == NULL);
    assert_true(user_was_told(&next, "ready;head 200;end;"));
    assert_int_equal(c.origin.conn_count, 2);
    user_fini(&hold);
    WAIT(&c, c.origin.conns[0]->ended); // with its last stream it is over
    assert_false(c.origin.conns[1]->ended);
    user_fini(&last);
    user_fini(&after);
    user_fini(&next);
    client_end(&c);
}

static void test_lost_connection(void **state)
{
    (void)state;
    struct client c;
    struct user a, b;
    client_begin(&c, HTTP_CLIENT_H2);
    client_get(&c, &a, "/hold");
    WAIT(&c, c.origin.request_count == 1);
    client_get(&c, &b, "/hold");
    WAIT(&c, c.origin.request_count == 2);
    origin_close_conn(only_conn(&c));
    WAIT(&c, a.stream == NULL && b.stream == NULL);
    assert_true(user_was_told(&a, "ready;reset closed;"));
    assert_true(user_was_told(&b, "reset closed;"));
    assert_false(a.never_arrived);
    assert_false(b.never_arrived);
    user_fini(&a);
    user_fini(&b);
    client_settle(&c);
    assert_int_equal(c.upstream.endpoint_count, 0);
    client_end(&c);
}

// Something else than HTTP/2 answers.
static void test_garbage(void **state)
{
    (void)state;
    static const char *texts[] = {
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    };
    static const size_t lens[] = {46, 18, 9};
    for (unsigned i = 0; i < 3; i++) {
        struct client c;
        struct user u;
        client_begin(&c, HTTP_CLIENT_H2);
        c.origin.is_raw = true;
        client_get(&c, &u, "/ok");
        WAIT(&c, c.origin.conn_count == 1);
        buf_put(&c.origin.conns[0]->out, str_make(texts[i], lens[i]));
        WAIT(&c, u.stream == NULL);
        assert_true(user_was_told(&u, "reset protocol;"));
        user_fini(&u);
        client_settle(&c);
        assert_int_equal(c.upstream.endpoint_count, 0);
        client_end(&c);
    }
}

static void test_no_settings(void **state)
{
    (void)state;
    struct client c;
    struct user a, b;
    client_begin(&c, HTTP_CLIENT_H2);
    c.origin.silent = true;
    client_get(&c, &a, "/ok");
    client_get(&c, &b, "/ok");
    client_settle(&c);
    assert_int_equal(c.origin.conn_count, 1);
    assert_non_null(a.stream);
    client_pass(&c, 1100);
    assert_true(user_was_told(&a, "reset timeout;"));
    assert_true(user_was_told(&b, "reset timeout;"));
    user_fini(&a);
    user_fini(&b);
    client_end(&c);
}

// All that wait leave: nobody needs the connection.
static void test_reset_while_opening(void **state)
{
    (void)state;
    struct client c;
    struct user a, b;
    client_begin(&c, HTTP_CLIENT_H2);
    client_get(&c, &a, "/ok");
    client_get(&c, &b, "/ok");
    user_fini(&a);
    assert_int_equal(c.upstream.endpoint_count, 1);
    user_fini(&b);
    assert_int_equal(c.upstream.endpoint_count, 0);
    client_settle(&c);
    client_get(&c, &a, "/ok");
    WAIT(&c, a.stream == NULL);
    assert_true(user_was_told(&a, "ready;head 200;end;"));
    user_fini(&a);
    client_end(&c);
}

// The answer is there before the request is: the rest is not sent.
static void test_early_answer(void **state)
{
    (void)state;
    struct client c;
    struct user u;
    client_begin(&c, HTTP_CLIENT_H2);
    user_init(&u);
    assert_true(client_start(&c, &u));
    WAIT(&c, user_was_told(&u, "ready;"));
    user_send(&u, "POST", "/ok", BODY_CHUNKED, 0);
    WAIT(&c, u.stream == NULL);
    assert_true(user_was_told(&u, "ready;head 200;end;"));
    WAIT(&c, only_conn(&c)->streams[0].closed == NGHTTP2_CANCEL + 1);
    assert_int_equal(c.upstream.idle_count, 1);
    user_fini(&u);
    client_end(&c);
}

// A peer that says nothing gets no more streams.
static void test_silence(void **state)
{
    (void)state;
    struct client c;
    struct user u;
    client_begin(&c, HTTP_CLIENT_H2);
    client_get(&c, &u, "/hold");
    WAIT(&c, c.origin.request_count == 1);
    client_settle(&c);
    client_pass(&c, 5000);
    user_fini(&u); // as a response timeout does
    WAIT(&c, only_conn(&c)->ended);
    client_end(&c);
}

static void ask_websocket(struct user *u, const char *path)
{
    struct http_field fields[] = {
        {STR("Upgrade"), STR("websocket"), FIELD_UPGRADE},
        {STR("Sec-WebSocket-Version"), STR("13"), FIELD_OTHER},
        {STR("Sec-WebSocket-Key"), STR("dGhlIHNhbXBsZSBub25jZQ=="), FIELD_SEC_WEBSOCKET_KEY},
    };
    const struct http_head head = {
        .method = METHOD_GET,
        .method_text = STR("GET"),
        .target = str_from_c(path),
        .authority = STR("shop.example"),
        .fields = fields,
        .field_count = 3,
        .seen = FIELD_BIT(FIELD_UPGRADE) | FIELD_BIT(FIELD_SEC_WEBSOCKET_KEY),
        .upgrade = true,
    };
    u->stream->ops->send_head(u->stream, &head);
    u->stream->ops->send_end(u->stream, NULL, 0);
}

static void test_websocket(void **state)
{
    (void)state;
    struct client c;
    struct user u;
    client_begin(&c, HTTP_CLIENT_H2);
    c.origin.takes_connect = true;
    user_init(&u);
    u.tunnels = true;
    assert_true(client_start(&c, &u));
    WAIT(&c, user_was_told(&u, "ready;"));
    ask_websocket(&u, "/ws");
    WAIT(&c, user_was_told(&u, "ready;head 101;"));
    assert_true(user_has_field(&u, "Upgrade=websocket;"));
    assert_true(user_has_field(&u, "Sec-WebSocket-Accept=s3pPLMBiTxaQ9kYGzzhZRbK+xOo=;"));
    const struct origin_stream *s = &only_conn(&c)->streams[0];
    assert_string_equal(s->method, "CONNECT");
    assert_true(str_find(buf_str(&s->fields), STR(":protocol: websocket\n")) != SIZE_MAX);
    assert_true(str_find(buf_str(&s->fields), STR("sec-websocket-key")) == SIZE_MAX);
    u.stream->ops->send_data(u.stream, STR("hello"));
    WAIT(&c, u.body_len == 5);
    assert_false(s->ended);
    u.stream->ops->send_end(u.stream, NULL, 0);
    WAIT(&c, u.stream == NULL);
    assert_true(user_was_told(&u, "ready;head 101;end;"));
    client_settle(&c);
    assert_int_equal(c.upstream.idle_count, 1);
    user_fini(&u);
    client_end(&c);
}

// What the length of a refusal promises is what its user gets: nghttp2 does not look at it.
static void test_refused_websocket(void **state)
{
    (void)state;
    static const struct {
        const char *path, *told;
    } cases[] = {
        {"/refused", "ready;head 403;end;"},
        {"/refused-short", "ready;head 403;reset length_differs;"},
        {"/refused-long", "ready;head 403;reset length_differs;"},
        {"/refused-bare", "ready;reset length_differs;"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct client c;
        struct user u;
        client_begin(&c, HTTP_CLIENT_H2);
        c.origin.takes_connect = true;
        user_init(&u);
        assert_true(client_start(&c, &u));
        WAIT(&c, user_was_told(&u, "ready;"));
        ask_websocket(&u, cases[i].path);
        WAIT(&c, u.stream == NULL);
        assert_true(user_was_told(&u, cases[i].told));
        user_fini(&u);
        client_end(&c);
    }
}

static void test_no_websocket(void **state)
{
    (void)state;
    struct client c;
    struct user u;
    client_begin(&c, HTTP_CLIENT_H2);
    user_init(&u);
    assert_true(client_start(&c, &u));
    WAIT(&c, user_was_told(&u, "ready;"));
    ask_websocket(&u, "/ws");
    WAIT(&c, u.stream == NULL);
    assert_true(user_was_told(&u, "ready;reset upgrade;"));
    assert_int_equal(c.origin.request_count, 0);
    user_fini(&u);
    client_end(&c);
}

// In the turn in which a request goes out on a kept connection, the end of that comes behind it.
struct poster {
    struct loop_io io;
    struct client *c;
    struct user user;
};

static void on_post(struct loop *loop, struct loop_io *io, uint32_t events)
{
    (void)loop;
    (void)events;
    struct poster *p = CONTAINER_OF(io, struct poster, io);
    assert_true(client_start(p->c, &p->user));
    assert_true(p->user.stream->was_reused);
    user_send(&p->user, "POST", "/ok", BODY_NONE, 0);
}

static void test_end_behind_a_request(void **state)
{
    (void)state;
    struct client c;
    struct user first;
    client_begin(&c, HTTP_CLIENT_H2);
    client_get(&c, &first, "/ok");
    WAIT(&c, first.stream == NULL);
    client_settle(&c);
    struct poster p = {.io = {eventfd(1, EFD_NONBLOCK), on_post}, .c = &c};
    user_init(&p.user);
    assert_int_equal(loop_add_events(&c.loop, &p.io, EPOLLIN | EPOLLET), 0);
    shutdown(only_conn(&c)->fd, SHUT_WR); // but it still reads
    loop_turn(&c.loop, 0);
    assert_null(p.user.stream);
    assert_true(user_was_told(&p.user, "reset closed;"));
    client_settle(&c);
    // Told to be sent again only if it was not sent.
    assert_int_equal(p.user.never_arrived ? 1 : 2, c.origin.request_count);
    loop_close(&c.loop, &p.io);
    user_fini(&p.user);
    user_fini(&first);
    client_end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exchanges),
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_request_body),
        cmocka_unit_test(test_backpressure_of_request),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_complete_before_close),
        cmocka_unit_test(test_many_streams),
        cmocka_unit_test(test_one_stream_at_a_time),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_goaway),
        cmocka_unit_test(test_lost_connection),
        cmocka_unit_test(test_end_behind_a_request),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_no_settings),
        cmocka_unit_test(test_reset_while_opening),
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_websocket),
        cmocka_unit_test(test_no_websocket),
        cmocka_unit_test(test_refused_websocket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
