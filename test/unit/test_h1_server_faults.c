// SPDX-License-Identifier: MIT
// What goes wrong on the client's side: faults, ends in every state, timeouts; and tunnels.
#include "h1_server_fixture.h"

#define GET "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
#define OK  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

struct refusal {
    const char *request;
    const char *token;
    unsigned status;
};

static void check_refusal(struct fixture *f, const struct refusal *row)
{
    char told[64];
    char status[32];
    snprintf(told, sizeof told, "refused %s;", row->token);
    snprintf(status, sizeof status, "HTTP/1.1 %u ", row->status);
    struct str all = str_from_c(row->request);
    for (size_t cut = 0; cut < all.len; cut++) {
        peer_send(&f->peer, str_sub(all, 0, cut));
        settle(&f->loop, &f->peer);
        peer_offer(&f->peer, str_from(all, cut)); // it may be refused already
        PUMP(&f->loop, &f->peer, f->peer.closed);
        assert_true(was_told(f, told));
        assert_true(str_starts(buf_str(&f->peer.received), str_from_c(status)));
        assert_true(peer_has(&f->peer, "Connection: close\r\n"));
        assert_false(f->peer.reset);
        assert_int_equal(f->open_count, 0);
        renew(f);
    }
}

static void test_refusals_at_every_cut(void **state)
{
    (void)state;
    static const struct refusal rows[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", "field_folded", 400},
        {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", "field_space", 400},
        {"GET / HTTP/1.1\r\n\r\n", "host_missing", 400},
        {"GET / HTTP/3.0\r\nHost: x\r\n\r\n", "version", 505},
        {"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", "method_refused", 405},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
         "length_and_coding", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "coding", 501},
    };
    struct fixture f;
    begin(&f, MODE_AT_END);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_refusal(&f, &rows[i]);
    }
    end(&f);
}

// Bounds that are passed without any line end in sight.
static void test_endless_heads(void **state)
{
    (void)state;
    static char junk[40000];
    struct fixture f;
    begin(&f, MODE_AT_END);
    memset(junk, 'a', sizeof junk);
    for (size_t piece = 100; piece <= 10000; piece *= 10) {
        peer_send(&f.peer, STR("GET /"));
        settle(&f.loop, &f.peer);
        for (size_t sent = 0; sent < 9000 && f.told.len == 0; sent += piece) {
            peer_offer(&f.peer, str_make(junk, piece));
            settle(&f.loop, &f.peer);
        }
        PUMP(&f.loop, &f.peer, f.peer.closed && was_told(&f, "refused target_too_long;"));
        assert_true(peer_has(&f.peer, "HTTP/1.1 414 "));
        renew(&f);
        peer_send(&f.peer, STR("GET / HTTP/1.1\r\nHost: x\r\nA: "));
        settle(&f.loop, &f.peer);
        for (size_t sent = 0; sent < 33000 && f.told.len == 0; sent += piece) {
            peer_offer(&f.peer, str_make(junk, piece));
            settle(&f.loop, &f.peer);
        }
        PUMP(&f.loop, &f.peer, f.peer.closed && was_told(&f, "refused head_too_large;"));
        assert_true(peer_has(&f.peer, "HTTP/1.1 431 "));
        renew(&f);
    }
    end(&f);
}

static void test_bad_body(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_AT_END);
    peer_send(&f.peer,
              STR("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"));
    PUMP(&f.loop, &f.peer, f.peer.closed && was_told(&f, "POST /;reset chunk_size;"));
    assert_true(peer_has(&f.peer, "HTTP/1.1 400 "));
    renew(&f);
    // After the response has begun nothing can be said: cut.
    f.mode = MODE_ECHO;
    peer_send(&f.peer,
              STR("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"));
    PUMP(&f.loop, &f.peer, f.peer.reset && was_told(&f, "POST /;reset chunk_size;"));
    end(&f);
}

// A partial trailer section waits for the network; it is bounded, too.
static void test_trailers_are_bounded(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_AT_END);
    peer_send(&f.peer, STR("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "1\r\na\r\n0\r\nX: a"));
    settle(&f.loop, &f.peer);
    assert_true(list_is_empty(&f.loop.run_list)); // no busy waiting
    char junk[1000];
    memset(junk, 'a', sizeof junk);
    for (unsigned i = 0; i < 12; i++) {
        peer_offer(&f.peer, str_make(junk, sizeof junk));
        settle(&f.loop, &f.peer);
    }
    PUMP(&f.loop, &f.peer, f.peer.closed && was_told(&f, "POST /;reset head_too_large;"));
    assert_true(peer_has(&f.peer, "HTTP/1.1 431 "));
    end(&f);
}

// ---- FIN and RST in each state ----

static void test_fin_while_waiting(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_AT_ONCE);
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, f.peer.closed && f.server.conn_count == 0);
    assert_int_equal(f.peer.received.len, 0);
    assert_int_equal(f.told.len, 0);
    renew(&f);
    peer_send(&f.peer, STR("GET / HT"));
    settle(&f.loop, &f.peer);
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, f.peer.closed && was_told(&f, "refused syntax;"));
    assert_true(peer_has(&f.peer, "HTTP/1.1 400 "));
    PUMP(&f.loop, &f.peer, f.server.conn_count == 0); // nothing to linger for
    end(&f);
}

static void test_fin_in_body(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_AT_END);
    peer_send(&f.peer, STR("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"));
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, was_told(&f, "POST /;reset closed;") && peer_is_over(&f.peer));
    assert_true(str_eq(buf_str(&f.body), STR("abc")));
    assert_int_equal(f.peer.received.len, 0);
    end(&f);
}

// FIN after a complete request: the client has left.
static void test_fin_while_answering(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_HOLD);
    peer_send(&f.peer, STR(GET));
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, was_told(&f, "GET /;reset closed;"));
    assert_int_equal(f.server.conn_count, 0);
    renew(&f);
    // In one segment with the request.
    peer_send(&f.peer, STR(GET));
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, was_told(&f, "GET /;reset closed;"));
    renew(&f);
    // Not when the answer was given already.
    f.mode = MODE_AT_ONCE;
    peer_send(&f.peer, STR(GET));
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, was_told(&f, "GET /;sent;") && f.peer.closed);
    assert_true(peer_has(&f.peer, "\r\n\r\nok"));
    end(&f);
}

static void test_half_close(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_HOLD);
    f.config.half_close = true;
    peer_send(&f.peer, STR(GET GET));
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    settle(&f.loop, &f.peer);
    assert_true(was_told(&f, "GET /;"));
    answer(f.stream, "ok");
    PUMP(&f.loop, &f.peer, was_told(&f, "GET /;sent;GET /;"));
    answer(f.stream, "ok");
    PUMP(&f.loop, &f.peer, f.peer.closed && peer_has_all(&f.peer, OK OK));
    assert_int_equal(f.server.conn_count, 0);
    renew(&f);
    peer_send(&f.peer, STR(GET)); // RST is no half close
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    peer_abort(&f.peer);
    PUMP(&f.loop, &f.peer, was_told(&f, "GET /;reset closed;"));
    end(&f);
}

static void test_rst_in_paused_body(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_AT_END);
    f.pause_at_data = true;
    peer_send(&f.peer, STR("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"));
    PUMP(&f.loop, &f.peer, f.body.len == 3);
    peer_abort(&f.peer);
    PUMP(&f.loop, &f.peer, was_told(&f, "POST /;reset closed;"));
    end(&f);
}

// What is given up by its user is seen as cut, also where the close would be its end.
static void test_reset_is_visible(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_HOLD);
    for (unsigned i = 0; i < 2; i++) {
        peer_send(&f.peer, i == 0 ? STR("GET / HTTP/1.0\r\n\r\n") : STR(GET));
        PUMP(&f.loop, &f.peer, f.open_count == 1);
        send_head_of(f.stream, 200, BODY_UNTIL_CLOSE, 0);
        f.stream->ops->send_data(f.stream, STR("half"));
        PUMP(&f.loop, &f.peer, peer_has(&f.peer, "half"));
        f.stream->ops->reset(f.stream, ERR_CLOSED);
        f.open_count--;
        PUMP(&f.loop, &f.peer, f.peer.reset);
        assert_true(was_told(&f, "GET /;"));
        renew(&f);
    }
    // The end of the server cuts as well.
    peer_send(&f.peer, STR("GET / HTTP/1.0\r\n\r\n"));
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    send_head_of(f.stream, 200, BODY_UNTIL_CLOSE, 0);
    f.stream->ops->send_data(f.stream, STR("half"));
    PUMP(&f.loop, &f.peer, peer_has(&f.peer, "half"));
    http_server_abort_all(&f.server);
    PUMP(&f.loop, &f.peer, f.peer.reset && was_told(&f, "GET /;reset closed;"));
    end(&f);
}

// ---- timeouts ----

static void test_header_timeout(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_AT_ONCE);
    settle(&f.loop, &f.peer);
    pass(&f.loop, 9990);
    assert_int_equal(f.server.conn_count, 1);
    pass(&f.loop, 20);
    PUMP(&f.loop, &f.peer, f.peer.closed && f.server.conn_count == 0);
    assert_int_equal(f.peer.received.len, 0); // it never spoke
    renew(&f);
    // Bytes that trickle in do not renew it.
    struct str part = STR("GET / HTTP/1.1\r\nHost: x\r\nA: bcdefghijklmnop");
    for (size_t i = 0; i < part.len && f.told.len == 0; i++) {
        peer_offer(&f.peer, str_sub(part, i, 1));
        settle(&f.loop, &f.peer);
        pass(&f.loop, 400);
    }
    PUMP(&f.loop, &f.peer, f.peer.closed && was_told(&f, "refused request_timeout;"));
    assert_true(peer_has(&f.peer, "HTTP/1.1 408 "));
    end(&f);
}

static void test_idle_timeout(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_AT_ONCE);
    peer_send(&f.peer, STR(GET));
    PUMP(&f.loop, &f.peer, peer_has_all(&f.peer, OK));
    pass(&f.loop, 59990);
    assert_int_equal(f.server.conn_count, 1);
    pass(&f.loop, 20);
    PUMP(&f.loop, &f.peer, f.peer.closed && f.server.conn_count == 0);
    assert_true(peer_has_all(&f.peer, OK)); // in silence
    end(&f);
}

static void test_body_timeout(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_AT_END);
    peer_send(&f.peer, STR("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"));
    for (unsigned i = 0; i < 5; i++) {
        PUMP(&f.loop, &f.peer, f.body.len == i && f.open_count == 1);
        pass(&f.loop, 25000); // each byte renews it
        peer_send(&f.peer, STR("a"));
    }
    PUMP(&f.loop, &f.peer, f.body.len == 5);
    pass(&f.loop, 30020);
    PUMP(&f.loop, &f.peer, f.peer.closed && was_told(&f, "POST /;reset request_timeout;"));
    assert_true(peer_has(&f.peer, "HTTP/1.1 408 "));
    renew(&f);
    // It is not the client's fault while the user has paused it, nor while the answer is made.
    f.pause_at_data = true;
    peer_send(&f.peer, STR("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na"));
    PUMP(&f.loop, &f.peer, f.body.len == 1);
    pass(&f.loop, 100000);
    pass(&f.loop, 100000);
    assert_true(was_told(&f, "POST /;"));
    f.mode = MODE_HOLD;
    f.stream->ops->resume(f.stream);
    peer_send(&f.peer, STR("b"));
    PUMP(&f.loop, &f.peer, was_told(&f, "POST /;end;"));
    pass(&f.loop, 100000);
    pass(&f.loop, 100000);
    answer(f.stream, "ok");
    PUMP(&f.loop, &f.peer, peer_has_all(&f.peer, OK));
    end(&f);
}

// Fills the way to the client until bytes are queued here.
static void fill(struct fixture *f)
{
    static char piece[60000];
    send_head_of(f->stream, 200, BODY_LENGTH, 1ull << 40);
    for (unsigned i = 0; !stream_is_full(f->stream); i++) {
        assert_true(i < 1000);
        f->stream->ops->send_data(f->stream, str_make(piece, sizeof piece));
        loop_turn(&f->loop, 0);
    }
}

static void test_slow_reader_timeout(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_HOLD);
    f.peer.deaf = true;
    peer_send(&f.peer, STR(GET));
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    // The wait for the answer does not count.
    pass(&f.loop, 29000);
    fill(&f);
    pass(&f.loop, 29000);
    assert_int_equal(f.open_count, 1);
    pass(&f.loop, 1100);
    assert_true(was_told(&f, "GET /;full;reset timeout;"));
    f.peer.deaf = false;
    PUMP(&f.loop, &f.peer, f.peer.reset);
    end(&f);
}

static void test_linger_ends(void **state)
{
    (void)state;
    static char junk[65536];
    struct fixture f;
    begin(&f, MODE_AT_ONCE);
    peer_send(&f.peer, STR("bad\r\n"));
    PUMP(&f.loop, &f.peer, f.peer.closed);
    pass(&f.loop, 4000);
    assert_int_equal(f.server.conn_count, 1);
    pass(&f.loop, 1100);
    assert_int_equal(f.server.conn_count, 0);
    renew(&f);
    // Nor can it be fed for ever.
    peer_send(&f.peer, STR("bad\r\n"));
    for (unsigned i = 0; f.server.conn_count > 0; i++) {
        assert_true(i < 10000);
        peer_offer(&f.peer, str_make(junk, sizeof junk));
        settle(&f.loop, &f.peer);
    }
    end(&f);
}

static void test_no_timeouts(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_AT_ONCE);
    f.config.header_timeout_ms = 0;
    f.config.idle_timeout_ms = 0;
    f.config.body_timeout_ms = 0;
    renew(&f);
    peer_send(&f.peer, STR("GET / HT"));
    settle(&f.loop, &f.peer);
    pass(&f.loop, 10000000);
    peer_send(&f.peer, STR("TP/1.1\r\nHost: x\r\n\r\n"));
    PUMP(&f.loop, &f.peer, peer_has_all(&f.peer, OK));
    pass(&f.loop, 10000000);
    peer_send(&f.peer, STR(GET));
    PUMP(&f.loop, &f.peer, peer_has_all(&f.peer, OK OK));
    end(&f);
}

// ---- tunnels ----

#define UPGRADE "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
#define SWITCH  "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n"

static void test_tunnel_echo(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_TUNNEL);
    peer_send(&f.peer, STR(UPGRADE "right behind"));
    PUMP(&f.loop, &f.peer, peer_has_all(&f.peer, SWITCH "right behind"));
    pass(&f.loop, 1000000); // its user watches the time
    peer_send(&f.peer, STR(" and later"));
    PUMP(&f.loop, &f.peer, peer_has_all(&f.peer, SWITCH "right behind and later"));
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, f.peer.closed && was_told(&f, "GET /;end;sent;"));
    assert_int_equal(f.server.conn_count, 0);
    end(&f);
}

static void test_tunnel_fin_each_way(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_TUNNEL_HOLD);
    // The server's side first.
    peer_send(&f.peer, STR(UPGRADE));
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    f.stream->ops->send_data(f.stream, STR("bye"));
    f.stream->ops->send_end(f.stream, NULL, 0);
    PUMP(&f.loop, &f.peer, f.peer.closed && peer_has_all(&f.peer, SWITCH "bye"));
    peer_send(&f.peer, STR("still here"));
    PUMP(&f.loop, &f.peer, str_eq(buf_str(&f.body), STR("still here")));
    assert_true(was_told(&f, "GET /;"));
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, was_told(&f, "GET /;end;sent;"));
    renew(&f);
    // The client's side first.
    peer_send(&f.peer, STR(UPGRADE));
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, was_told(&f, "GET /;end;"));
    settle(&f.loop, &f.peer);
    f.stream->ops->send_data(f.stream, STR("still here"));
    PUMP(&f.loop, &f.peer, peer_has_all(&f.peer, SWITCH "still here"));
    f.stream->ops->send_end(f.stream, NULL, 0);
    PUMP(&f.loop, &f.peer, f.peer.closed && was_told(&f, "GET /;end;sent;"));
    renew(&f);
    // FIN, then RST.
    peer_send(&f.peer, STR(UPGRADE));
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, was_told(&f, "GET /;end;"));
    peer_abort(&f.peer);
    f.stream->ops->send_data(f.stream, STR("into the void"));
    PUMP(&f.loop, &f.peer, was_told(&f, "GET /;end;reset closed;"));
    end(&f);
}

static void test_tunnel_backpressure(void **state)
{
    (void)state;
    enum { LEN = 2000000 };
    struct fixture f;
    begin(&f, MODE_TUNNEL);
    char *data = malloc(LEN);
    assert_non_null(data);
    for (size_t i = 0; i < LEN; i++) {
        data[i] = (char)(i * 2654435761u >> 9);
    }
    peer_send(&f.peer, STR(UPGRADE));
    PUMP(&f.loop, &f.peer, peer_has_all(&f.peer, SWITCH));
    f.peer.deaf = true;
    size_t sent = 0;
    for (unsigned round = 0; f.peer.received.len < LEN + sizeof SWITCH - 1; round++) {
        assert_true(round < 100000);
        if (sent < LEN) {
            sent += peer_offer(&f.peer, str_make(data + sent, LEN - sent));
        } else {
            f.peer.deaf = false;
        }
        settle(&f.loop, &f.peer);
        f.peer.deaf = f.peer.deaf && round % 8 != 7;
    }
    assert_memory_equal(f.peer.received.p + sizeof SWITCH - 1, data, LEN);
    assert_true(f.queued_max > 0);
    assert_true(f.queued_max < HTTP_AHEAD_LEN + LOOP_READ_LEN + 4096);
    free(data);
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, was_told(&f, "GET /;end;sent;"));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals_at_every_cut),
        cmocka_unit_test(test_endless_heads),
        cmocka_unit_test(test_bad_body),
        cmocka_unit_test(test_trailers_are_bounded),
        cmocka_unit_test(test_fin_while_waiting),
        cmocka_unit_test(test_fin_in_body),
        cmocka_unit_test(test_fin_while_answering),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_rst_in_paused_body),
        cmocka_unit_test(test_reset_is_visible),
        cmocka_unit_test(test_header_timeout),
        cmocka_unit_test(test_idle_timeout),
        cmocka_unit_test(test_body_timeout),
        cmocka_unit_test(test_slow_reader_timeout),
        cmocka_unit_test(test_linger_ends),
        cmocka_unit_test(test_no_timeouts),
        cmocka_unit_test(test_tunnel_echo),
        cmocka_unit_test(test_tunnel_fin_each_way),
        cmocka_unit_test(test_tunnel_backpressure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
