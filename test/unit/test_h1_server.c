// SPDX-License-Identifier: MIT
// Requests, bodies and connections: what a client can do in good order. Faults, timeouts and tunnels:
// test_h1_server_faults.c.
#include "h1_server_fixture.h"

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static void test_keep_alive(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_AT_ONCE);
    assert_true(str_eq(STR_NULL, buf_str(&f.told)));
    peer_send(&f.peer, STR("GET /a HTTP/1.1\r\nHost: x\r\n\r\n"));
    PUMP(&f.loop, &f.peer, was_told(&f, "GET /a;sent;") && peer_has_all(&f.peer, OK));
    assert_true(str_eq(http_stream_peer_text(f.stream), STR("127.0.0.1")));
    assert_int_equal(http_stream_local_port(f.stream), ntohs(f.address.sin_port));
    assert_int_equal(f.stream->bytes_in, 28);
    assert_int_equal(f.stream->bytes_out, sizeof OK - 1);
    peer_send(&f.peer, STR("GET /b HTTP/1.1\r\nHost: x\r\n\r\n"));
    PUMP(&f.loop, &f.peer,
         was_told(&f, "GET /a;sent;GET /b;sent;") && peer_has_all(&f.peer, OK OK));
    assert_int_equal(f.stream->bytes_out, sizeof OK - 1);
    peer_send(&f.peer, STR("GET /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    PUMP(&f.loop, &f.peer, f.peer.closed && f.server.conn_count == 0);
    assert_true(peer_has(&f.peer, "Connection: close\r\n\r\nok"));
    assert_int_equal(f.server.request_count, 3);
    end(&f);
}

// Many requests in one segment: all answered in order, one a turn, others in between.
static void test_pipelining(void **state)
{
    (void)state;
    enum { COUNT = 60 };
    struct fixture f;
    begin(&f, MODE_AT_ONCE);
    struct buf all;
    struct buf wanted;
    buf_init(&all, 0);
    buf_init(&wanted, 0);
    for (unsigned i = 0; i < COUNT; i++) {
        buf_printf(&all, "GET /%u HTTP/1.1\r\nHost: x\r\n\r\n", i);
        buf_printf(&wanted, "GET /%u;sent;", i);
    }
    struct peer other;
    connect_peer(&f, &other);
    settle(&f.loop, NULL);
    peer_send(&f.peer, buf_str(&all));
    PUMP(&f.loop, &f.peer, f.server.request_count > 0);
    peer_send(&other, STR("GET /other HTTP/1.1\r\nHost: x\r\n\r\n"));
    PUMP(&f.loop, &other, peer_has_all(&other, OK));
    assert_true(f.server.request_count < COUNT);
    PUMP(&f.loop, &f.peer, f.server.request_count == COUNT + 1 && f.open_count == 0);
    size_t at = str_find(buf_str(&f.told), STR("GET /other;sent;"));
    assert_int_not_equal(at, SIZE_MAX);
    memmove(f.told.p + at, f.told.p + at + 16, f.told.len - at - 16);
    f.told.len -= 16;
    assert_true(str_eq(buf_str(&f.told), buf_str(&wanted)));
    PUMP(&f.loop, &f.peer, f.peer.received.len == COUNT * (sizeof OK - 1));
    buf_fini(&all);
    buf_fini(&wanted);
    peer_fini(&other);
    end(&f);
}

// The same exchange with the request cut in two at every byte.
static void check_split(const char *request, const char *told, const char *body)
{
    struct fixture f;
    begin(&f, MODE_AT_END);
    struct str all = str_from_c(request);
    for (size_t cut = 1; cut <= all.len; cut++) {
        peer_send(&f.peer, str_sub(all, 0, cut));
        settle(&f.loop, &f.peer);
        assert_true(list_is_empty(&f.loop.run_list)); // it waits, it does not spin
        if (cut < all.len) {
            assert_false(peer_has(&f.peer, "HTTP/1.1"));
            peer_send(&f.peer, str_from(all, cut));
        }
        PUMP(&f.loop, &f.peer, was_told(&f, told) && peer_has_all(&f.peer, OK));
        assert_true(str_eq(buf_str(&f.body), str_from_c(body)));
        assert_int_equal(f.stream->bytes_in, all.len);
        renew(&f);
    }
    // Byte by byte.
    for (size_t i = 0; i < all.len; i++) {
        peer_send(&f.peer, str_sub(all, i, 1));
        settle(&f.loop, &f.peer);
    }
    PUMP(&f.loop, &f.peer, was_told(&f, told) && peer_has_all(&f.peer, OK));
    assert_true(str_eq(buf_str(&f.body), str_from_c(body)));
    end(&f);
}

static void test_split_requests(void **state)
{
    (void)state;
    check_split("\r\nGET /a?b HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n", "GET /a?b;sent;", "");
    check_split("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "POST /;end;sent;",
                "hello");
    check_split("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                "3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
                "POST /;end;X-Sum=1;X-More=2;sent;", "abcde");
}

static void test_body_then_next_request(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_AT_END);
    peer_send(&f.peer, STR("POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
                           "POST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "1\r\nd\r\n0\r\n\r\n"
                           "POST /3 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
                           "GET /4 HTTP/1.1\r\nHost: x\r\n\r\n"));
    PUMP(&f.loop, &f.peer,
         was_told(&f, "POST /1;end;sent;POST /2;end;sent;POST /3;sent;GET /4;sent;"));
    PUMP(&f.loop, &f.peer, peer_has_all(&f.peer, OK OK OK OK));
    assert_true(str_eq(buf_str(&f.body), STR("abcd")));
    end(&f);
}

// A paused user gets no more than what was received; nothing is lost.
static void test_pause_and_resume(void **state)
{
    (void)state;
    enum { LEN = 3000000 };
    struct fixture f;
    begin(&f, MODE_AT_END);
    char *data = malloc(LEN);
    assert_non_null(data);
    for (size_t i = 0; i < LEN; i++) {
        data[i] = (char)(i * 2654435761u >> 11);
    }
    char head[128];
    snprintf(head, sizeof head, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", LEN);
    f.pause_at_data = true;
    peer_send(&f.peer, str_from_c(head));
    size_t sent = 0;
    while (sent < LEN || !was_told(&f, "PUT /;end;sent;")) {
        if (sent < LEN) {
            sent += peer_offer(&f.peer, str_make(data + sent, LEN - sent));
        }
        settle(&f.loop, &f.peer);
        size_t before = f.body.len;
        settle(&f.loop, &f.peer);
        assert_int_equal(f.body.len, before); // paused: no more comes
        if (f.open_count > 0 && f.stream->is_complete == false) {
            f.stream->ops->resume(f.stream);
        }
    }
    assert_int_equal(f.body.len, LEN);
    assert_memory_equal(f.body.p, data, LEN);
    free(data);
    end(&f);
}

// A user that pauses at the last bytes and never resumes does not stop the next request.
static void test_pause_ends_with_exchange(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_AT_END);
    f.pause_at_data = true;
    for (unsigned i = 1; i <= 3; i++) {
        peer_send(&f.peer, STR("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"));
        PUMP(&f.loop, &f.peer, f.server.request_count == i && f.open_count == 0);
    }
    end(&f);
}

// The body comes back while it comes in: views of the receive buffer and of kept bytes go out in
// order, memory stays bounded though the client reads late.
static void test_echo_with_slow_reader(void **state)
{
    (void)state;
    enum { CHUNK = 1000, CHUNKS = 4000 };
    struct fixture f;
    begin(&f, MODE_ECHO);
    struct buf all;
    buf_init(&all, 0);
    buf_put(&all, STR("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
    for (unsigned i = 0; i < CHUNKS; i++) {
        buf_printf(&all, "%x\r\n%0*u\r\n", CHUNK, CHUNK, i);
    }
    buf_put(&all, STR("0\r\nX-Sum: 7\r\n\r\n"));
    size_t sent = 0;
    f.peer.deaf = true;
    for (unsigned round = 0; !was_told(&f, "POST /;end;X-Sum=7;sent;"); round++) {
        assert_true(round < 100000);
        if (sent < all.len) {
            sent += peer_offer(&f.peer, str_from(buf_str(&all), sent));
        }
        settle(&f.loop, &f.peer);
        f.peer.deaf = round % 16 != 15;
    }
    f.peer.deaf = false;
    PUMP(&f.loop, &f.peer, peer_has(&f.peer, "0\r\nX-Sum: 7\r\n\r\n"));
    assert_true(f.queued_max > 0);
    assert_true(f.queued_max < HTTP_AHEAD_LEN + LOOP_READ_LEN + 8192);
    // What came back is the same, whatever its chunks.
    struct str in = buf_str(&f.peer.received);
    in = str_from(in, str_find(in, STR("\r\n\r\n")) + 4);
    struct h1_chunked chunked;
    struct str data;
    size_t total = 0;
    struct buf back;
    buf_init(&back, 0);
    h1_chunked_init(&chunked);
    for (;;) {
        size_t used;
        int event = h1_chunked_next(&chunked, in.p, in.len, &used, &data);
        in = str_from(in, used);
        if (event != H1_CHUNKED_DATA) {
            assert_int_equal(event, H1_CHUNKED_TRAILERS);
            break;
        }
        buf_put(&back, data);
        total += data.len;
    }
    assert_int_equal(total, CHUNK * CHUNKS);
    for (unsigned i = 0; i < CHUNKS; i++) {
        char number[16];
        snprintf(number, sizeof number, "%05u", i);
        assert_memory_equal(back.p + i * CHUNK + CHUNK - 5, number, 5);
    }
    buf_fini(&back);
    buf_fini(&all);
    end(&f);
}

static void test_head_and_bare_statuses(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_HOLD);
    peer_send(&f.peer, STR("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"));
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    answer(f.stream, "12345");
    PUMP(&f.loop, &f.peer,
         f.open_count == 0 &&
             peer_has_all(&f.peer, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"));
    static const struct {
        unsigned status;
        bool length_seen;
        const char *wanted;
    } rows[] = {
        {204, false, "HTTP/1.1 204 No Content\r\n\r\n"},
        {204, true, "HTTP/1.1 204 No Content\r\n\r\n"},
        {304, true, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"},
        {200, false, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
        {599, false, "HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buf_clear(&f.peer.received);
        peer_send(&f.peer, STR("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
        PUMP(&f.loop, &f.peer, f.open_count == 1);
        struct http_head head = {.status = rows[i].status,
                                 .body = BODY_NONE,
                                 .body_len = 9,
                                 .seen = FIELD_BIT(FIELD_DATE)};
        head.seen |= rows[i].length_seen ? FIELD_BIT(FIELD_CONTENT_LENGTH) : 0;
        f.stream->ops->send_head(f.stream, &head);
        f.stream->ops->send_end(f.stream, NULL, 0);
        PUMP(&f.loop, &f.peer, f.open_count == 0 && peer_has_all(&f.peer, rows[i].wanted));
    }
    end(&f);
}

static void test_chunked_response_with_trailers(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_HOLD);
    peer_send(&f.peer, STR("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    struct http_head early = {.status = 103};
    f.stream->ops->send_info(f.stream, &early);
    send_head_of(f.stream, 200, BODY_UNTIL_CLOSE, 0);
    f.stream->ops->send_data(f.stream, STR("hello"));
    f.stream->ops->send_data(f.stream, STR_NULL);
    const struct http_field trailer = {STR("X-Sum"), STR("1"), FIELD_OTHER};
    f.stream->ops->send_end(f.stream, &trailer, 1);
    PUMP(&f.loop, &f.peer,
         peer_has_all(&f.peer, "HTTP/1.1 103 Early Hints\r\n\r\n"
                               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                               "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"));
    assert_int_equal(f.server.conn_count, 1);
    end(&f);
}

static void test_http10(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_HOLD);
    peer_send(&f.peer, STR("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    struct http_head early = {.status = 103};
    f.stream->ops->send_info(f.stream, &early); // not for 1.0
    answer(f.stream, "ok");
    PUMP(&f.loop, &f.peer,
         peer_has_all(&f.peer,
                      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"));
    buf_clear(&f.peer.received);
    // Without a length it lasts until the close.
    peer_send(&f.peer, STR("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    send_head_of(f.stream, 200, BODY_CHUNKED, 0);
    f.stream->ops->send_data(f.stream, STR("hello"));
    f.stream->ops->send_end(f.stream, NULL, 0);
    PUMP(&f.loop, &f.peer, f.peer.closed);
    assert_true(peer_has_all(&f.peer, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"));
    renew(&f);
    peer_send(&f.peer, STR("GET / HTTP/1.0\r\n\r\n"));
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    answer(f.stream, "ok");
    PUMP(&f.loop, &f.peer, f.peer.closed && peer_has(&f.peer, "Connection: close\r\n\r\nok"));
    end(&f);
}

// A response before the body has come: a small rest is read and dropped, a large one ends the
// connection, in order.
static void test_early_response(void **state)
{
    (void)state;
    static char rest[60000];
    struct fixture f;
    begin(&f, MODE_AT_ONCE);
    memset(rest, 'x', sizeof rest);
    peer_send(&f.peer, STR("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60005\r\n\r\nhello"));
    PUMP(&f.loop, &f.peer, peer_has_all(&f.peer, OK));
    for (size_t sent = 0; sent < sizeof rest;) {
        sent += peer_offer(&f.peer, str_make(rest + sent, sizeof rest - sent));
        settle(&f.loop, &f.peer);
    }
    peer_send(&f.peer, STR("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    PUMP(&f.loop, &f.peer, peer_has_all(&f.peer, OK OK) && f.open_count == 0);
    renew(&f);
    peer_send(&f.peer, STR("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nhello"));
    PUMP(&f.loop, &f.peer, peer_has(&f.peer, "Connection: close\r\n\r\nok"));
    for (unsigned i = 0; i < 4; i++) {
        peer_offer(&f.peer, str_make(rest, sizeof rest)); // still coming: no RST
        settle(&f.loop, &f.peer);
    }
    PUMP(&f.loop, &f.peer, f.peer.closed);
    assert_false(f.peer.reset);
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, f.server.conn_count == 0);
    end(&f);
}

static void test_expect(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_HOLD);
    struct str head =
        STR("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    // A final answer at once: whether the body will come is not known.
    peer_send(&f.peer, head);
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    answer(f.stream, "no");
    PUMP(&f.loop, &f.peer, f.peer.closed && peer_has(&f.peer, "Connection: close\r\n\r\nno"));
    renew(&f);
    peer_send(&f.peer, head);
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    struct http_head go_on = {.status = 100};
    f.stream->ops->send_info(f.stream, &go_on);
    PUMP(&f.loop, &f.peer, peer_has_all(&f.peer, "HTTP/1.1 100 Continue\r\n\r\n"));
    peer_send(&f.peer, STR("abc"));
    PUMP(&f.loop, &f.peer, was_told(&f, "POST /;end;"));
    answer(f.stream, "ok");
    PUMP(&f.loop, &f.peer, f.open_count == 0 && peer_has(&f.peer, OK));
    assert_int_equal(f.server.conn_count, 1);
    end(&f);
}

// A client that does not read: the user hears of it, and what is queued stays bounded.
static void test_slow_reader(void **state)
{
    (void)state;
    enum { PIECE = 30000 };
    static char piece[PIECE];
    struct fixture f;
    begin(&f, MODE_HOLD);
    f.peer.deaf = true;
    peer_send(&f.peer, STR("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    send_head_of(f.stream, 200, BODY_LENGTH, 1000ull * PIECE);
    unsigned pieces = 0;
    while (!stream_is_full(f.stream)) {
        assert_true(pieces < 1000);
        f.stream->ops->send_data(f.stream, str_make(piece, PIECE));
        pieces++;
        loop_turn(&f.loop, 0);
    }
    assert_true(was_told(&f, "GET /;full;"));
    assert_true(f.stream->queued < HTTP_AHEAD_LEN + PIECE);
    f.peer.deaf = false;
    PUMP(&f.loop, &f.peer, was_told(&f, "GET /;full;room;"));
    for (; pieces < 1000; pieces++) {
        f.stream->ops->send_data(f.stream, str_make(piece, PIECE));
        loop_turn(&f.loop, 0);
        peer_poll(&f.peer);
    }
    f.stream->ops->send_end(f.stream, NULL, 0);
    PUMP(&f.loop, &f.peer, f.open_count == 0);
    PUMP(&f.loop, &f.peer, f.peer.received.len > 1000u * PIECE);
    end(&f);
}

static void test_drain(void **state)
{
    (void)state;
    struct fixture f;
    struct peer idle;
    struct peer busy;
    struct peer begun;
    struct peer waiting;
    begin(&f, MODE_AT_ONCE);
    connect_peer(&f, &idle);
    connect_peer(&f, &busy);
    connect_peer(&f, &begun);
    connect_peer(&f, &waiting);
    peer_send(&idle, STR("GET /idle HTTP/1.1\r\nHost: x\r\n\r\n"));
    PUMP(&f.loop, &idle, peer_has_all(&idle, OK));
    f.mode = MODE_HOLD;
    peer_send(&busy, STR("GET /busy HTTP/1.1\r\nHost: x\r\n\r\n"));
    PUMP(&f.loop, &busy, f.open_count == 1);
    struct http_stream *of_busy = f.stream;
    peer_send(&begun, STR("GET /begun HTTP/1.1\r\nHost: x\r\n\r\n"));
    PUMP(&f.loop, &begun, f.open_count == 2);
    struct http_stream *of_begun = f.stream;
    send_head_of(of_begun, 200, BODY_LENGTH, 2);
    loop_turn(&f.loop, 0);
    f.mode = MODE_AT_ONCE;
    peer_send(&waiting, STR("GET /waiting HTTP/1.1\r\nHost: x\r\n\r\n")); // not seen yet
    http_server_drain(&f.server);
    PUMP(&f.loop, &idle, idle.closed);
    PUMP(&f.loop, &f.peer, f.peer.closed);
    PUMP(&f.loop, &waiting, waiting.closed && peer_has(&waiting, "Connection: close\r\n\r\nok"));
    assert_int_equal(f.server.conn_count, 2);
    answer(of_busy, "ok");
    PUMP(&f.loop, &busy, busy.closed && peer_has(&busy, "Connection: close\r\n\r\nok"));
    // Its head did not say so, but it ends as well.
    of_begun->ops->send_data(of_begun, STR("ok"));
    of_begun->ops->send_end(of_begun, NULL, 0);
    PUMP(&f.loop, &begun, begun.closed && peer_has_all(&begun, OK));
    assert_int_equal(f.server.conn_count, 0);
    peer_fini(&idle);
    peer_fini(&busy);
    peer_fini(&begun);
    peer_fini(&waiting);
    end(&f);
}

static void test_close_after(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_HOLD);
    peer_send(&f.peer, STR("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    http_stream_close_after(f.stream);
    answer(f.stream, "ok");
    PUMP(&f.loop, &f.peer, f.peer.closed && peer_has(&f.peer, "Connection: close\r\n\r\nok"));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_pipelining),
        cmocka_unit_test(test_split_requests),
        cmocka_unit_test(test_body_then_next_request),
        cmocka_unit_test(test_pause_and_resume),
        cmocka_unit_test(test_pause_ends_with_exchange),
        cmocka_unit_test(test_echo_with_slow_reader),
        cmocka_unit_test(test_head_and_bare_statuses),
        cmocka_unit_test(test_chunked_response_with_trailers),
        cmocka_unit_test(test_http10),
        cmocka_unit_test(test_early_response),
        cmocka_unit_test(test_expect),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_close_after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
