// SPDX-License-Identifier: MIT
// Connections over TLS: handshakes whole, in pieces, in turns, suspended and failed; HTTP/1 and HTTP/2 on
// them; how they end. What comes before the handshake: test_server_opening.c.
#include "http/server_int.h"
#include "opening_fixture.h"

#define GET     "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
#define OK      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define TOLD    "hello a.example;handshake ok;"
#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

static const char alpn_h1[] = "\x08http/1.1";
static const char alpn_both[] = "\x02h2\x08http/1.1";

static void begin_client(struct opening *o, struct tls_peer *c, const char *alpn)
{
    tls_peer_init(c, &o->f.loop, &o->f.peer, "A.example", alpn);
}

static void shake(struct opening *o, struct tls_peer *c)
{
    PUMP(&o->f.loop, &o->f.peer, tls_peer_is_ready(c));
}

static void check_request(struct opening *o, struct tls_peer *c)
{
    tls_peer_send(c, STR(GET));
    PUMP(&o->f.loop, &o->f.peer, tls_peer_has(c, OK));
    assert_true(was_told(&o->f, TOLD "GET /a;sent;"));
    assert_non_null(http_stream_tls(o->f.stream));
    assert_true(str_eq(tls_sni(http_stream_tls(o->f.stream)), STR("a.example")));
}

static void test_http1(void **state)
{
    (void)state;
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (enum http_accept kind = HTTP_ACCEPT_TLS; kind <= HTTP_ACCEPT_EITHER; kind++) {
        struct opening o;
        opening_begin(&o, MODE_AT_ONCE, kind);
        for (unsigned i = 0; i < 2; i++) {
            struct tls_peer c;
            begin_client(&o, &c, i == 0 ? NULL : alpn_h1);
            SSL_set_max_proto_version(c.ssl, versions[i]);
            shake(&o, &c);
            check_request(&o, &c);
            assert_string_equal(o.version, i == 0 ? "1.2" : "1.3");
            tls_peer_send(&c, STR("GET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
            PUMP(&o.f.loop, &o.f.peer, tls_peer_has(&c, OK "HTTP/1.1 200 OK\r\n"));
            PUMP(&o.f.loop, &o.f.peer, (tls_peer_step(&c), c.is_ended) && o.f.peer.closed);
            assert_int_equal(o.f.server.conn_count, 0);
            tls_peer_fini(&c);
            renew(&o.f);
        }
        assert_int_equal(o.may_be_plain_asked, 0);
        opening_end(&o);
    }
}

static void test_by_bytes(void **state)
{
    (void)state;
    struct opening o;
    opening_begin(&o, MODE_AT_ONCE, HTTP_ACCEPT_TLS);
    for (int max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
        struct tls_peer c;
        begin_client(&o, &c, alpn_h1);
        SSL_set_max_proto_version(c.ssl, max);
        c.by_bytes = true;
        shake(&o, &c);
        check_request(&o, &c);
        tls_peer_fini(&c);
        renew(&o.f);
    }
    opening_end(&o);
}

// The end of the handshake and the request in one segment, with FIN behind it.
static void test_request_with_finished(void **state)
{
    (void)state;
    struct opening o;
    opening_prepare(&o, MODE_AT_ONCE, HTTP_ACCEPT_TLS);
    o.f.config.half_close = true;
    start(&o.f);
    struct tls_peer c;
    begin_client(&o, &c, alpn_h1);
    tls_peer_step(&c);
    PUMP(&o.f.loop, &o.f.peer, o.f.peer.received.len > 0);
    settle(&o.f.loop, &o.f.peer);
    struct str more = buf_str(&o.f.peer.received);
    assert_int_equal(BIO_write(c.in, more.p, (int)more.len), (int)more.len);
    c.fed = more.len;
    assert_int_equal(SSL_do_handshake(c.ssl), 1);
    assert_int_equal(SSL_write(c.ssl, GET, sizeof GET - 1), (int)sizeof GET - 1);
    tls_peer_flush(&c); // one segment
    peer_fin(&o.f.peer);
    PUMP(&o.f.loop, &o.f.peer, tls_peer_has(&c, "ok"));
    assert_true(was_told(&o.f, TOLD "GET /a;sent;"));
    PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 0);
    tls_peer_fini(&c);
    opening_end(&o);
}

static void test_h2(void **state)
{
    (void)state;
    struct opening o;
    opening_begin(&o, MODE_HOLD, HTTP_ACCEPT_TLS);
    for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
        struct tls_peer c;
        begin_client(&o, &c, alpn_both);
        c.by_bytes = by_bytes;
        shake(&o, &c);
        // The preface, SETTINGS, and HEADERS with GET, https, /, and :authority x, without Huffman.
        tls_peer_send(&c, STR(PREFACE "\0\0\0\4\0\0\0\0\0"
                                      "\0\0\6\1\5\0\0\0\1\x82\x87\x84\x41\1x"));
        PUMP(&o.f.loop, &o.f.peer, o.f.open_count == 1);
        assert_true(o.f.stream->is_h2);
        assert_true(str_eq(tls_sni(http_stream_tls(o.f.stream)), STR("a.example")));
        assert_true(str_eq(http_stream_peer_text(o.f.stream), STR("127.0.0.1")));
        answer(o.f.stream, "ok");
        PUMP(&o.f.loop, &o.f.peer, tls_peer_has(&c, "ok"));
        assert_int_equal(c.plain.p[3], 4); // SETTINGS came first
        tls_peer_fini(&c);
        renew(&o.f);
    }
    // What ALPN said holds: HTTP/2 without it is no HTTP/1.
    struct tls_peer c;
    begin_client(&o, &c, alpn_h1);
    shake(&o, &c);
    tls_peer_send(&c, STR(PREFACE));
    PUMP(&o.f.loop, &o.f.peer, tls_peer_has(&c, "HTTP/1.1 "));
    assert_false(tls_peer_has(&c, "HTTP/1.1 200"));
    tls_peer_fini(&c);
    opening_end(&o);
}

// A record that breaks off, with FIN behind it, in one event.
static void test_broken_record(void **state)
{
    (void)state;
    struct opening o;
    opening_begin(&o, MODE_AT_ONCE, HTTP_ACCEPT_TLS);
    for (int i = 0; i < 2; i++) {
        struct tls_peer c;
        char bytes[64];
        begin_client(&o, &c, i == 0 ? alpn_h1 : alpn_both);
        shake(&o, &c);
        settle(&o.f.loop, &o.f.peer);
        assert_int_equal(SSL_write(c.ssl, GET, sizeof GET - 1), (int)sizeof GET - 1);
        assert_int_equal(BIO_read(c.out, bytes, 20), 20);
        assert_int_equal(peer_offer(&o.f.peer, str_make(bytes, 20)), 20);
        peer_fin(&o.f.peer);
        PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 0);
        assert_int_equal(o.f.server.timed_out_count, 0);
        tls_peer_fini(&c);
        renew(&o.f);
    }
    opening_end(&o);
}

static void test_echo(void **state)
{
    (void)state;
    enum { LEN = 2000000 };
    struct opening o;
    struct tls_peer c;
    opening_begin(&o, MODE_ECHO, HTTP_ACCEPT_TLS);
    begin_client(&o, &c, alpn_h1);
    shake(&o, &c);
    char *data = malloc(LEN);
    assert_non_null(data);
    for (size_t i = 0; i < LEN; i++) {
        data[i] = (char)(i * 2654435761u >> 13);
    }
    tls_peer_send(&c, STR("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"));
    size_t sent = 0;
    struct buf wire; // what TLS made and the socket has not taken yet
    buf_init(&wire, 0);
    for (unsigned round = 0; !was_told(&o.f, TOLD "POST /;end;sent;"); round++) {
        assert_true(round < 100000);
        if (wire.len == 0 && sent < LEN) {
            size_t part = LEN - sent < 50000 ? LEN - sent : 50000;
            assert_int_equal(SSL_write(c.ssl, data + sent, (int)part), (int)part);
            sent += part;
            char *to = buf_reserve(&wire, 60000);
            wire.len += (size_t)BIO_read(c.out, to, 60000);
        }
        size_t taken = peer_offer(&o.f.peer, buf_str(&wire));
        memmove(wire.p, wire.p + taken, wire.len - taken);
        wire.len -= taken;
        o.f.peer.deaf = round % 8 != 7;
        settle(&o.f.loop, &o.f.peer);
    }
    o.f.peer.deaf = false;
    PUMP(&o.f.loop, &o.f.peer, tls_peer_has(&c, "\r\n0\r\n\r\n"));
    // The chunks put together.
    struct str rest = str_from(buf_str(&c.plain), str_find(buf_str(&c.plain), STR("\r\n\r\n")) + 4);
    size_t at = 0;
    for (;;) {
        unsigned long len = strtoul(rest.p, NULL, 16);
        if (len == 0) {
            break;
        }
        rest = str_from(rest, str_find(rest, STR("\r\n")) + 2);
        assert_true(at + len <= LEN && memcmp(rest.p, data + at, len) == 0);
        at += len;
        rest = str_from(rest, len + 2);
    }
    assert_int_equal(at, LEN);
    assert_true(o.f.queued_max > 0);
    buf_fini(&wire);
    free(data);
    tls_peer_fini(&c);
    opening_end(&o);
}

// FIN without close_notify in the middle of a body is a broken body, with it as well.
static void test_broken_body(void **state)
{
    (void)state;
    struct opening o;
    opening_begin(&o, MODE_HOLD, HTTP_ACCEPT_TLS);
    for (int notifies = 0; notifies < 2; notifies++) {
        struct tls_peer c;
        begin_client(&o, &c, alpn_h1);
        shake(&o, &c);
        tls_peer_send(&c, STR("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"));
        PUMP(&o.f.loop, &o.f.peer, o.f.body.len == 3);
        if (notifies) {
            SSL_shutdown(c.ssl);
            tls_peer_flush(&c);
        }
        peer_fin(&o.f.peer);
        PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 0);
        assert_true(was_told(&o.f, TOLD "POST /;reset closed;"));
        tls_peer_fini(&c);
        renew(&o.f);
    }
    opening_end(&o);
}

// A response that is cut off must not look complete: no close_notify.
static void test_cut_response(void **state)
{
    (void)state;
    struct opening o;
    struct tls_peer c;
    opening_begin(&o, MODE_HOLD, HTTP_ACCEPT_TLS);
    begin_client(&o, &c, alpn_h1);
    shake(&o, &c);
    tls_peer_send(&c, STR("GET / HTTP/1.0\r\nHost: x\r\n\r\n"));
    PUMP(&o.f.loop, &o.f.peer, o.f.open_count == 1);
    send_head_of(o.f.stream, 200, BODY_UNTIL_CLOSE, 0);
    o.f.stream->ops->send_data(o.f.stream, STR("part"));
    PUMP(&o.f.loop, &o.f.peer, tls_peer_has(&c, "part"));
    o.f.open_count--;
    o.f.stream->ops->reset(o.f.stream, ERR_CLOSED);
    PUMP(&o.f.loop, &o.f.peer, peer_is_over(&o.f.peer) && o.f.server.conn_count == 0);
    tls_peer_step(&c);
    assert_false(c.is_ended);
    tls_peer_fini(&c);
    opening_end(&o);
}

// ---- turns ----

enum { CROWD = 9, A_TURN = 2 };

static void test_turns(void **state)
{
    (void)state;
    struct opening o;
    struct peer peers[CROWD];
    struct tls_peer clients[CROWD];
    opening_prepare(&o, MODE_AT_ONCE, HTTP_ACCEPT_EITHER);
    o.f.config.handshakes_a_turn = A_TURN;
    start(&o.f);
    for (unsigned i = 0; i < CROWD; i++) {
        connect_peer(&o.f, &peers[i]);
        tls_peer_init(&clients[i], &o.f.loop, &peers[i], "a.example", alpn_h1);
        tls_peer_step(&clients[i]);
    }
    peer_send(&o.f.peer, STR(GET));
    unsigned before = 0;
    for (unsigned turn = 0; o.hellos < CROWD; turn++) {
        assert_true(turn < 2 * CROWD);
        loop_turn(&o.f.loop, 0);
        assert_true(o.hellos - before <= A_TURN);
        before = o.hellos;
        peer_poll(&o.f.peer);
        assert_true(o.hellos == 0 || peer_has_all(&o.f.peer, OK)); // others are served meanwhile
    }
    for (unsigned i = 0; i < CROWD; i++) {
        PUMP(&o.f.loop, &peers[i], tls_peer_is_ready(&clients[i]));
        tls_peer_send(&clients[i], STR(GET));
        PUMP(&o.f.loop, &peers[i], tls_peer_has(&clients[i], OK));
        tls_peer_fini(&clients[i]);
        peer_fini(&peers[i]);
    }
    opening_end(&o);
}

// Those that leave while they wait for their turn cost nothing.
static void test_turns_left(void **state)
{
    (void)state;
    struct opening o;
    struct peer peers[CROWD];
    struct tls_peer clients[CROWD];
    opening_prepare(&o, MODE_AT_ONCE, HTTP_ACCEPT_TLS);
    o.f.config.handshakes_a_turn = 1;
    start(&o.f);
    for (unsigned i = 0; i < CROWD; i++) {
        connect_peer(&o.f, &peers[i]);
        tls_peer_init(&clients[i], &o.f.loop, &peers[i], "a.example", alpn_h1);
        tls_peer_step(&clients[i]);
    }
    loop_turn(&o.f.loop, 0);
    assert_int_equal(o.hellos, 1);
    for (unsigned i = 0; i < CROWD; i++) {
        if (i % 2 == 0) {
            peer_fin(&peers[i]);
        } else {
            peer_abort(&peers[i]);
        }
    }
    settle(&o.f.loop, &o.f.peer);
    PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 1);
    assert_true(o.hellos <= 2); // one more may have had its turn before its end was seen
    for (unsigned i = 0; i < CROWD; i++) {
        tls_peer_fini(&clients[i]);
        peer_fini(&peers[i]);
    }
    http_server_abort_all(&o.f.server);
    opening_end(&o);
}

// The server ends while some wait.
static void test_turns_ended(void **state)
{
    (void)state;
    struct opening o;
    struct peer others[3];
    struct tls_peer clients[3];
    opening_prepare(&o, MODE_AT_ONCE, HTTP_ACCEPT_TLS);
    o.f.config.handshakes_a_turn = 1;
    start(&o.f);
    for (unsigned i = 0; i < 3; i++) {
        connect_peer(&o.f, &others[i]);
        tls_peer_init(&clients[i], &o.f.loop, &others[i], "a.example", alpn_h1);
        tls_peer_step(&clients[i]);
    }
    loop_turn(&o.f.loop, 0);
    http_server_drain(&o.f.server); // they have begun: they are served
    assert_int_equal(o.f.server.conn_count, 3);
    for (unsigned i = 0; i < 2; i++) {
        PUMP(&o.f.loop, &others[i], tls_peer_is_ready(&clients[i]));
    }
    tls_peer_send(&clients[0], STR(GET));
    PUMP(&o.f.loop, &others[0], tls_peer_has(&clients[0], "Connection: close"));
    opening_end(&o);
    for (unsigned i = 0; i < 3; i++) {
        tls_peer_fini(&clients[i]);
        peer_fini(&others[i]);
    }
}

// ---- suspended ----

static void resume(struct opening *o)
{
    struct tls *tls = o->suspended;
    assert_non_null(tls);
    o->suspended = NULL;
    tls_resume(tls);
}

static void test_suspended(void **state)
{
    (void)state;
    struct opening o;
    opening_begin(&o, MODE_AT_ONCE, HTTP_ACCEPT_TLS);
    for (unsigned kind = 1; kind < 4; kind++) {
        struct tls_peer c;
        begin_client(&o, &c, alpn_h1);
        o.hello_waits = kind & 1;
        o.certificate_waits = kind >> 1;
        for (unsigned waits = o.hello_waits + o.certificate_waits; waits > 0; waits--) {
            PUMP(&o.f.loop, &o.f.peer, (tls_peer_step(&c), o.suspended != NULL));
            settle(&o.f.loop, &o.f.peer);
            assert_true(list_is_empty(&o.f.loop.run_list));
            assert_int_equal(o.f.peer.received.len, 0);
            resume(&o);
        }
        shake(&o, &c);
        check_request(&o, &c);
        tls_peer_fini(&c);
        renew(&o.f);
    }
    assert_int_equal(o.abandoned, 0);
    opening_end(&o);
}

static void suspend(struct opening *o, struct tls_peer *c)
{
    begin_client(o, c, alpn_h1);
    o->certificate_waits = 1;
    PUMP(&o->f.loop, &o->f.peer, (tls_peer_step(c), o->suspended != NULL));
    settle(&o->f.loop, &o->f.peer);
}

static void test_suspended_ends(void **state)
{
    (void)state;
    struct opening o;
    struct tls_peer c;
    opening_begin(&o, MODE_AT_ONCE, HTTP_ACCEPT_TLS);
    // FIN
    suspend(&o, &c);
    peer_fin(&o.f.peer);
    PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 0);
    assert_true(was_told(&o.f, "hello a.example;handshake closed;"));
    assert_int_equal(o.abandoned, 1);
    tls_peer_fini(&c);
    renew(&o.f);
    // RST
    suspend(&o, &c);
    peer_abort(&o.f.peer);
    PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 0);
    assert_int_equal(o.abandoned, 2);
    tls_peer_fini(&c);
    renew(&o.f);
    // Time
    suspend(&o, &c);
    pass(&o.f.loop, 10100);
    PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 0);
    assert_true(was_told(&o.f, "hello a.example;handshake timeout;"));
    assert_int_equal(o.abandoned, 3);
    assert_int_equal(o.f.server.timed_out_count, 1);
    tls_peer_fini(&c);
    renew(&o.f);
    // Drain leaves it, the end does not; nor does it come back when it is resumed in the same turn.
    suspend(&o, &c);
    http_server_drain(&o.f.server);
    assert_int_equal(o.f.server.conn_count, 1);
    struct tls *tls = o.suspended;
    http_server_abort_all(&o.f.server);
    tls_resume(tls);
    settle(&o.f.loop, &o.f.peer);
    assert_int_equal(o.f.server.conn_count, 0);
    tls_peer_fini(&c);
    opening_end(&o);
}

// Resumed ones take their turn like all.
static void test_resumed_in_turns(void **state)
{
    (void)state;
    struct opening o;
    struct peer peers[CROWD];
    struct tls_peer clients[CROWD];
    struct tls *suspended[CROWD];
    opening_prepare(&o, MODE_AT_ONCE, HTTP_ACCEPT_TLS);
    o.f.config.handshakes_a_turn = 1;
    start(&o.f);
    for (unsigned i = 0; i < CROWD; i++) {
        connect_peer(&o.f, &peers[i]);
        tls_peer_init(&clients[i], &o.f.loop, &peers[i], "a.example", alpn_h1);
        o.hello_waits = 1;
        o.suspended = NULL;
        PUMP(&o.f.loop, &peers[i], (tls_peer_step(&clients[i]), o.suspended != NULL));
        suspended[i] = o.suspended;
    }
    for (unsigned i = 0; i < CROWD; i++) {
        tls_resume(suspended[i]);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        assert_int_equal(o.hellos, i);
        loop_turn(&o.f.loop, 0);
    }
    assert_int_equal(o.hellos, CROWD);
    for (unsigned i = 0; i < CROWD; i++) {
        PUMP(&o.f.loop, &peers[i], tls_peer_is_ready(&clients[i]));
        tls_peer_fini(&clients[i]);
        peer_fini(&peers[i]);
    }
    opening_end(&o);
}

// ---- failures ----

static void check_alert(struct opening *o, struct tls_peer *c, const char *trouble)
{
    PUMP(&o->f.loop, &o->f.peer, (tls_peer_step(c), c->is_broken));
    assert_string_equal(c->trouble, trouble);
    assert_true(was_told(&o->f, "hello a.example;handshake tls;"));
    peer_fin(&o->f.peer);
    PUMP(&o->f.loop, &o->f.peer, o->f.server.conn_count == 0);
    assert_false(o->f.peer.reset);
    tls_peer_fini(c);
    renew(&o->f);
}

static void test_failures(void **state)
{
    (void)state;
    struct opening o;
    struct tls_peer c;
    opening_begin(&o, MODE_AT_ONCE, HTTP_ACCEPT_TLS);
    begin_client(&o, &c, "\x03two");
    check_alert(&o, &c, "tlsv1 alert no application protocol");
    begin_client(&o, &c, NULL);
    SSL_set_security_level(c.ssl, 0);
    SSL_set_max_proto_version(c.ssl, TLS1_1_VERSION);
    SSL_set_min_proto_version(c.ssl, TLS1_1_VERSION);
    check_alert(&o, &c, "tlsv1 alert protocol version");
    // Garbage instead of the second flight.
    begin_client(&o, &c, NULL);
    tls_peer_step(&c);
    PUMP(&o.f.loop, &o.f.peer, o.f.peer.received.len > 0);
    peer_send(&o.f.peer, STR("\x16\x03\x03\x00\x04\x63\x00\x00\x00GARBAGE"));
    PUMP(&o.f.loop, &o.f.peer, was_told(&o.f, "hello a.example;handshake tls;"));
    peer_fin(&o.f.peer);
    PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 0);
    tls_peer_fini(&c);
    renew(&o.f);
    // It leaves between its flights.
    begin_client(&o, &c, NULL);
    tls_peer_step(&c);
    PUMP(&o.f.loop, &o.f.peer, o.f.peer.received.len > 0);
    peer_fin(&o.f.peer);
    PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 0);
    assert_true(was_told(&o.f, "hello a.example;handshake closed;"));
    tls_peer_fini(&c);
    renew(&o.f);
    // It stops between them.
    begin_client(&o, &c, NULL);
    tls_peer_step(&c);
    PUMP(&o.f.loop, &o.f.peer, o.f.peer.received.len > 0);
    pass(&o.f.loop, 10100);
    PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 0);
    assert_true(was_told(&o.f, "hello a.example;handshake timeout;"));
    tls_peer_fini(&c);
    opening_end(&o);
}

// After the handshake the time for a head begins anew, and ends.
static void test_head_timeout(void **state)
{
    (void)state;
    struct opening o;
    struct tls_peer c;
    opening_begin(&o, MODE_AT_ONCE, HTTP_ACCEPT_TLS);
    pass(&o.f.loop, 9000);
    begin_client(&o, &c, alpn_h1);
    shake(&o, &c);
    settle(&o.f.loop, &o.f.peer); // the server has its end, too
    pass(&o.f.loop, 9000);
    assert_int_equal(o.f.server.conn_count, 1);
    pass(&o.f.loop, 1100);
    PUMP(&o.f.loop, &o.f.peer, (tls_peer_step(&c), c.is_ended) && o.f.server.conn_count == 0);
    assert_int_equal(o.f.server.timed_out_count, 1);
    tls_peer_fini(&c);
    opening_end(&o);
}

static void test_behind_proxy_header(void **state)
{
    (void)state;
    struct opening o;
    opening_prepare(&o, MODE_AT_ONCE, HTTP_ACCEPT_TLS);
    o.f.config.proxy_protocol = true;
    start(&o.f);
    for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
        struct tls_peer c;
        begin_client(&o, &c, alpn_h1);
        c.by_bytes = by_bytes;
        peer_send(&o.f.peer, STR("PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n"));
        shake(&o, &c);
        check_request(&o, &c);
        assert_true(str_eq(http_stream_peer_text(o.f.stream), STR("2001:db8::7")));
        assert_int_equal(http_stream_local_port(o.f.stream), 443);
        tls_peer_fini(&c);
        renew(&o.f);
    }
    opening_end(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http1),
        cmocka_unit_test(test_by_bytes),
        cmocka_unit_test(test_request_with_finished),
        cmocka_unit_test(test_h2),
        cmocka_unit_test(test_broken_record),
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_broken_body),
        cmocka_unit_test(test_cut_response),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_turns_left),
        cmocka_unit_test(test_turns_ended),
        cmocka_unit_test(test_suspended),
        cmocka_unit_test(test_suspended_ends),
        cmocka_unit_test(test_resumed_in_turns),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_head_timeout),
        cmocka_unit_test(test_behind_proxy_header),
    };
    return cmocka_run_group_tests(tests, opening_make_certs, opening_free_certs);
}
