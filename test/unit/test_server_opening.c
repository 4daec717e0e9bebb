// SPDX-License-Identifier: MIT
// How connections begin: PROXY headers, one address for TLS and plain, passthrough, refusals, time, drain.
// Handshakes: test_server_tls.c.
#include "http/server_int.h"
#include "net/address.h"
#include "opening_fixture.h"

#define GET      "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
#define OK       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define V1       "PROXY TCP4 192.0.2.7 198.51.100.1 4711 8443\r\n"
#define V2_HEAD  "\r\n\r\n\0\r\nQUIT\n"
#define V2_LOCAL V2_HEAD "\x20\x00\x00\x00"

static void send_by_bytes(struct opening *o, struct str bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        (void)peer_offer(&o->f.peer, str_sub(bytes, i, 1));
        loop_turn(&o->f.loop, 0);
    }
}

// ---- PROXY headers ----

static void begin_proxied(struct opening *o, enum http_accept kind)
{
    opening_prepare(o, MODE_AT_ONCE, kind);
    o->f.config.proxy_protocol = true;
    start(&o->f);
}

static void check_addresses(const struct opening *o)
{
    const struct http_stream *stream = o->f.stream;
    assert_true(str_eq(http_stream_peer_text(stream), STR("192.0.2.7")));
    assert_int_equal(http_stream_local_port(stream), 8443);
    assert_non_null(http_stream_proxied(stream));
    struct sockaddr_storage source;
    struct sockaddr_storage destination;
    http_stream_addresses(stream, &source, &destination);
    char text[2][NET_ADDRESS_TEXT_MAX];
    net_format_address(&source, text[0], sizeof text[0]);
    net_format_address(&destination, text[1], sizeof text[1]);
    assert_string_equal(text[0], "192.0.2.7:4711");
    assert_string_equal(text[1], "198.51.100.1:8443");
}

static void test_proxy_header(void **state)
{
    (void)state;
    struct opening o;
    begin_proxied(&o, HTTP_ACCEPT_PLAIN);
    struct str all = STR(V1 GET);
    for (size_t cut = 1; cut <= all.len; cut += 7) {
        peer_send(&o.f.peer, str_sub(all, 0, cut));
        settle(&o.f.loop, &o.f.peer);
        assert_true(list_is_empty(&o.f.loop.run_list)); // it waits, it does not spin
        if (cut < all.len) {
            peer_send(&o.f.peer, str_from(all, cut));
        }
        PUMP(&o.f.loop, &o.f.peer, was_told(&o.f, "GET /a;sent;") && peer_has_all(&o.f.peer, OK));
        check_addresses(&o);
        renew(&o.f);
    }
    send_by_bytes(&o, all);
    PUMP(&o.f.loop, &o.f.peer, was_told(&o.f, "GET /a;sent;") && peer_has_all(&o.f.peer, OK));
    check_addresses(&o);
    // The connection goes on as any other.
    peer_send(&o.f.peer, STR(GET));
    PUMP(&o.f.loop, &o.f.peer, peer_has_all(&o.f.peer, OK OK));
    check_addresses(&o);
    assert_int_equal(o.f.server.request_count, 2 + all.len / 7 + (all.len % 7 != 0));
    opening_end(&o);
}

static void test_proxy_header_v2(void **state)
{
    (void)state;
    struct opening o;
    begin_proxied(&o, HTTP_ACCEPT_PLAIN);
    send_by_bytes(&o, STR(V2_HEAD "\x21\x11\x00\x2d\xc0\x00\x02\x07\xc6\x33\x64\x01\x12\x67\x20\xfb"
                                  "\x02\x00\x04name\x05\x00\x02id\x20\x00\x0f\x01\x00\x00\x00\x00"
                                  "\x21\x00\x07TLSv1.3"
                                  "\xee\x00\x00" GET));
    PUMP(&o.f.loop, &o.f.peer, peer_has_all(&o.f.peer, OK));
    check_addresses(&o);
    const struct http_proxied *proxied = http_stream_proxied(o.f.stream);
    assert_true(str_eq(proxied->authority, STR("name")));
    assert_true(str_eq(proxied->tls_version, STR("TLSv1.3")));
    assert_true(proxied->is_tls);
    opening_end(&o);
}

// LOCAL and UNKNOWN: the sender itself; addresses that are not told: the socket's.
static void test_proxy_header_local(void **state)
{
    (void)state;
    static const struct str rows[] = {
        {V2_LOCAL GET, sizeof V2_LOCAL GET - 1},
        {"PROXY UNKNOWN\r\n" GET, sizeof "PROXY UNKNOWN\r\n" GET - 1},
        {V2_HEAD "\x21\x00\x00\x00" GET, sizeof V2_HEAD "\x21\x00\x00\x00" GET - 1},
    };
    struct opening o;
    begin_proxied(&o, HTTP_ACCEPT_PLAIN);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        send_by_bytes(&o, rows[i]);
        PUMP(&o.f.loop, &o.f.peer, peer_has_all(&o.f.peer, OK));
        assert_true(str_eq(http_stream_peer_text(o.f.stream), STR("127.0.0.1")));
        assert_int_equal(http_stream_local_port(o.f.stream), ntohs(o.f.address.sin_port));
        assert_int_equal(http_stream_proxied(o.f.stream) != NULL, i == 2);
        renew(&o.f);
    }
    opening_end(&o);
}

static void test_proxy_header_missing(void **state)
{
    (void)state;
    static const char *const rows[] = {
        GET,
        "\x16\x03\x01",
        "PROXY TCP4 192.0.2.7 198.51.100.1 04711 8443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
    };
    for (enum http_accept kind = HTTP_ACCEPT_PLAIN; kind <= HTTP_ACCEPT_EITHER; kind++) {
        struct opening o;
        begin_proxied(&o, kind);
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            peer_send(&o.f.peer, str_from_c(rows[i]));
            PUMP(&o.f.loop, &o.f.peer,
                 was_told(&o.f, "abuse proxy_header;") && peer_is_over(&o.f.peer));
            assert_int_equal(o.f.peer.received.len, 0);
            renew(&o.f);
        }
        opening_end(&o);
    }
}

// Others than trusted peers cannot say who they are.
static void test_proxy_header_untrusted(void **state)
{
    (void)state;
    struct opening o;
    opening_prepare(&o, MODE_AT_ONCE, HTTP_ACCEPT_PLAIN);
    o.f.config.proxy_protocol = true;
    o.untrusted = true;
    start(&o.f);
    peer_send(&o.f.peer, STR(GET));
    PUMP(&o.f.loop, &o.f.peer, peer_has_all(&o.f.peer, OK));
    renew(&o.f);
    peer_send(&o.f.peer, STR(V1 GET));
    PUMP(&o.f.loop, &o.f.peer, peer_has(&o.f.peer, "HTTP/1.1 400 ") && o.f.peer.closed);
    opening_end(&o);
}

// ---- TLS or not ----

static void test_either_plain(void **state)
{
    (void)state;
    struct opening o;
    opening_begin(&o, MODE_AT_ONCE, HTTP_ACCEPT_EITHER);
    send_by_bytes(&o, STR(GET));
    PUMP(&o.f.loop, &o.f.peer, was_told(&o.f, "GET /a;sent;") && peer_has_all(&o.f.peer, OK));
    assert_int_equal(o.may_be_plain_asked, 1);
    assert_null(http_stream_tls(o.f.stream));
    o.refuses_plain = true;
    renew(&o.f);
    peer_send(&o.f.peer, STR(GET));
    PUMP(&o.f.loop, &o.f.peer, peer_has(&o.f.peer, "HTTP/1.1 400 ") && o.f.peer.closed);
    peer_fin(&o.f.peer);
    PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 0);
    opening_end(&o);
}

// A body that came with the header is a view of what was kept: it is sent from there.
static void test_kept_body(void **state)
{
    (void)state;
    struct opening o;
    opening_prepare(&o, MODE_ECHO, HTTP_ACCEPT_PLAIN);
    o.f.config.proxy_protocol = true;
    start(&o.f);
    struct buf all;
    buf_init(&all, 0);
    buf_put(&all, STR(V1 "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n"));
    for (unsigned i = 0; i < 3000; i++) {
        buf_put_char(&all, (char)('a' + i % 26));
    }
    peer_send(&o.f.peer, buf_str(&all));
    PUMP(&o.f.loop, &o.f.peer, peer_has(&o.f.peer, "0\r\n\r\n"));
    size_t at = str_find(buf_str(&o.f.peer.received), STR("bb8\r\n"));
    assert_int_not_equal(at, SIZE_MAX);
    assert_memory_equal(o.f.peer.received.p + at + 5, all.p + all.len - 3000, 3000);
    buf_fini(&all);
    opening_end(&o);
}

static void check_refused(struct opening *o, struct str bytes, struct str answer, bool by_bytes)
{
    if (by_bytes) {
        send_by_bytes(o, bytes);
    } else {
        peer_send(&o->f.peer, bytes);
    }
    PUMP(&o->f.loop, &o->f.peer, o->f.peer.closed);
    assert_true(was_told(&o->f, "handshake tls;"));
    assert_true(str_starts(buf_str(&o->f.peer.received), answer));
    // It lingers: what comes late does not reset the answer away.
    assert_int_equal(o->f.server.conn_count, 1);
    peer_send(&o->f.peer, STR("more"));
    settle(&o->f.loop, NULL);
    assert_int_equal(o->f.server.conn_count, 1);
    peer_fin(&o->f.peer);
    PUMP(&o->f.loop, &o->f.peer, o->f.server.conn_count == 0);
    assert_false(o->f.peer.reset);
    assert_int_equal(o->f.server.request_count, 0);
    renew(&o->f);
}

static void test_no_tls(void **state)
{
    (void)state;
    struct opening o;
    struct str unexpected = STR("\x15\x03\x01\x00\x02\x02\x0a");
    struct str malformed = STR("\x15\x03\x01\x00\x02\x02\x32");
    opening_begin(&o, MODE_AT_ONCE, HTTP_ACCEPT_TLS);
    for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
        check_refused(&o, STR(GET), STR("HTTP/1.1 400 Bad Request\r\n"), by_bytes);
        check_refused(&o, STR("\x80\x2e\x01\x00\x02"), unexpected, by_bytes);
        check_refused(&o, STR("\x16\x02\x00\x00\x05"), malformed, by_bytes);
        check_refused(&o, STR("\x16\x03\x01\x00\x04\x02\x00\x00\x00"), malformed, by_bytes);
        check_refused(&o, STR("\x16\x03\x01\x00\x04\x01\x01\x00\x00"), malformed, by_bytes);
    }
    // What never makes a ClientHello is not kept for ever.
    struct buf records;
    buf_init(&records, 0);
    buf_put(&records, STR("\x16\x03\x01\x00\x04\x01\x00\x40\x00"));
    while (records.len < 40000) {
        buf_put(&records, STR("\x16\x03\x01\x00\x01."));
    }
    check_refused(&o, buf_str(&records), malformed, false);
    buf_fini(&records);
    opening_end(&o);
}

static void test_linger_ends(void **state)
{
    (void)state;
    struct opening o;
    opening_begin(&o, MODE_AT_ONCE, HTTP_ACCEPT_TLS);
    peer_send(&o.f.peer, STR(GET));
    PUMP(&o.f.loop, &o.f.peer, o.f.peer.closed);
    pass(&o.f.loop, HTTP_LINGER_MS + 100);
    settle(&o.f.loop, &o.f.peer);
    assert_int_equal(o.f.server.conn_count, 0);
    // Nor for ever bytes.
    renew(&o.f);
    peer_send(&o.f.peer, STR(GET));
    char *junk = calloc(1, 100000);
    for (unsigned i = 0; i < 1000 && o.f.server.conn_count > 0; i++) {
        (void)peer_offer(&o.f.peer, str_make(junk, 100000));
        settle(&o.f.loop, &o.f.peer);
    }
    assert_int_equal(o.f.server.conn_count, 0);
    free(junk);
    opening_end(&o);
}

// Without a context for it, TLS is not accepted.
static void test_no_context(void **state)
{
    (void)state;
    struct opening o;
    opening_begin(&o, MODE_AT_ONCE, HTTP_ACCEPT_TLS);
    o.f.config.tls = NULL;
    int fds[2];
    struct sockaddr_storage peer = {.ss_family = AF_UNIX};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(http_server_accept(&o.f.server, fds[0], &peer, HTTP_ACCEPT_TLS), ERR_SYSTEM);
    char byte;
    assert_int_equal(recv(fds[1], &byte, 1, 0), 0); // it was closed
    close(fds[1]);
    o.f.config.tls = o.context;
    opening_end(&o);
}

// ---- passthrough ----

static struct str make_hello(struct buf *to, const char *name)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(context);
    BIO *out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
    tls_peer_name(ssl, name);
    assert_int_equal(SSL_connect(ssl), -1);
    char *p;
    long len = BIO_get_mem_data(out, &p);
    buf_clear(to);
    buf_put(to, str_make(p, (size_t)len));
    SSL_free(ssl);
    SSL_CTX_free(context);
    return buf_str(to);
}

static void test_raw(void **state)
{
    (void)state;
    struct opening o;
    struct buf buf;
    buf_init(&buf, 0);
    struct str hello = make_hello(&buf, "raw.example");
    opening_begin(&o, MODE_TUNNEL, HTTP_ACCEPT_TLS);
    for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
        if (by_bytes) {
            send_by_bytes(&o, hello);
        } else {
            peer_send(&o.f.peer, hello);
        }
        PUMP(&o.f.loop, &o.f.peer, o.f.peer.received.len == hello.len);
        assert_memory_equal(o.f.peer.received.p, hello.p, hello.len);
        assert_true(was_told(&o.f, "hello raw.example;raw raw.example;"));
        assert_int_equal(o.f.stream->bytes_in, hello.len);
        peer_send(&o.f.peer, STR("more"));
        PUMP(&o.f.loop, &o.f.peer, peer_has(&o.f.peer, "more"));
        pass(&o.f.loop, 1000000); // it is for its user to watch the time
        settle(&o.f.loop, &o.f.peer);
        assert_false(peer_is_over(&o.f.peer));
        peer_fin(&o.f.peer);
        PUMP(&o.f.loop, &o.f.peer, o.f.peer.closed && o.f.server.conn_count == 0);
        assert_true(was_told(&o.f, "hello raw.example;raw raw.example;end;sent;"));
        renew(&o.f);
    }
    assert_int_equal(o.f.server.request_count, 0);
    buf_fini(&buf);
    opening_end(&o);
}

// The user waits for its target: nothing is delivered before it goes on, nothing is lost.
static void test_raw_paused(void **state)
{
    (void)state;
    struct opening o;
    struct buf buf;
    buf_init(&buf, 0);
    struct str hello = make_hello(&buf, "raw.example");
    opening_begin(&o, MODE_TUNNEL_HOLD, HTTP_ACCEPT_EITHER);
    o.pause_raw = true;
    peer_send(&o.f.peer, hello);
    settle(&o.f.loop, &o.f.peer);
    peer_send(&o.f.peer, STR("more"));
    settle(&o.f.loop, &o.f.peer);
    assert_true(was_told(&o.f, "hello raw.example;raw raw.example;"));
    assert_int_equal(o.f.body.len, 0);
    o.f.stream->ops->resume(o.f.stream);
    PUMP(&o.f.loop, &o.f.peer, o.f.body.len == hello.len + 4);
    assert_memory_equal(o.f.body.p, hello.p, hello.len);
    // The user ends it.
    o.f.open_count--;
    o.f.stream->ops->reset(o.f.stream, ERR_CLOSED);
    PUMP(&o.f.loop, &o.f.peer, o.f.peer.reset && o.f.server.conn_count == 0);
    buf_fini(&buf);
    opening_end(&o);
}

// FIN that came with the ClientHello, and before the tunnel began, is still heard of.
static void test_raw_fin(void **state)
{
    (void)state;
    struct opening o;
    struct buf buf;
    buf_init(&buf, 0);
    struct str hello = make_hello(&buf, "raw.example");
    opening_begin(&o, MODE_TUNNEL, HTTP_ACCEPT_TLS);
    for (size_t cut = 1; cut <= hello.len; cut += hello.len / 4) {
        peer_send(&o.f.peer, str_sub(hello, 0, cut));
        settle(&o.f.loop, &o.f.peer);
        if (cut < hello.len) {
            peer_send(&o.f.peer, str_from(hello, cut));
        }
        peer_fin(&o.f.peer);
        PUMP(&o.f.loop, &o.f.peer,
             was_told(&o.f, "hello raw.example;raw raw.example;end;sent;") && o.f.peer.closed);
        assert_int_equal(o.f.peer.received.len, hello.len);
        renew(&o.f);
    }
    // A ClientHello that breaks off.
    peer_send(&o.f.peer, str_sub(hello, 0, hello.len - 1));
    peer_fin(&o.f.peer);
    PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 0);
    assert_true(was_told(&o.f, ""));
    buf_fini(&buf);
    opening_end(&o);
}

// ---- time, drain, the end ----

// All of an opening together has the time of one head, however it is filled.
static void test_timeout(void **state)
{
    (void)state;
    struct opening o;
    struct str all = STR(V1);
    opening_prepare(&o, MODE_AT_ONCE, HTTP_ACCEPT_TLS);
    o.f.config.proxy_protocol = true;
    start(&o.f);
    for (size_t i = 0; i < 9; i++) {
        peer_send(&o.f.peer, str_sub(all, i, 1));
        settle(&o.f.loop, &o.f.peer);
        pass(&o.f.loop, 1000);
        assert_int_equal(o.f.server.conn_count, 1);
    }
    pass(&o.f.loop, 1100);
    PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 0 && peer_is_over(&o.f.peer));
    assert_int_equal(o.f.server.timed_out_count, 1);
    renew(&o.f);
    peer_send(&o.f.peer, STR(V1 "\x16\x03\x01\x00\x80\x01"));
    settle(&o.f.loop, &o.f.peer);
    pass(&o.f.loop, 10100);
    PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 0);
    assert_true(was_told(&o.f, "handshake timeout;"));
    assert_int_equal(o.f.server.timed_out_count, 2);
    // Nothing at all.
    renew(&o.f);
    pass(&o.f.loop, 10100);
    PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 0);
    assert_true(was_told(&o.f, ""));
    opening_end(&o);
}

static void test_drain(void **state)
{
    (void)state;
    struct opening o;
    struct peer talks;
    opening_prepare(&o, MODE_AT_ONCE, HTTP_ACCEPT_PLAIN);
    o.f.config.proxy_protocol = true;
    start(&o.f);
    connect_peer(&o.f, &talks);
    peer_send(&talks, STR("PROXY"));
    settle(&o.f.loop, NULL);
    http_server_drain(&o.f.server);
    PUMP(&o.f.loop, &o.f.peer, o.f.peer.closed);
    assert_int_equal(o.f.server.conn_count, 1);
    peer_send(&talks, STR(" UNKNOWN\r\n" GET));
    PUMP(&o.f.loop, &talks, peer_has(&talks, "Connection: close") && talks.closed);
    peer_fini(&talks);
    opening_end(&o);
}

static void test_abort(void **state)
{
    (void)state;
    static const struct str rows[] = {
        {"", 0},
        {"PROXY", 5},
        {V1, sizeof V1 - 1},
        {V1 "\x16", sizeof V1 "\x16" - 1},
        {V1 GET, sizeof V1 GET - 1}, // lingers
    };
    struct opening o;
    begin_proxied(&o, HTTP_ACCEPT_TLS);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        (void)peer_offer(&o.f.peer, rows[i]);
        settle(&o.f.loop, &o.f.peer);
        http_server_abort_all(&o.f.server);
        assert_int_equal(o.f.server.conn_count, 0);
        renew(&o.f);
    }
    peer_send(&o.f.peer, STR(V1));
    settle(&o.f.loop, &o.f.peer);
    peer_abort(&o.f.peer);
    PUMP(&o.f.loop, &o.f.peer, o.f.server.conn_count == 0);
    opening_end(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_proxy_header),
        cmocka_unit_test(test_proxy_header_v2),
        cmocka_unit_test(test_proxy_header_local),
        cmocka_unit_test(test_proxy_header_missing),
        cmocka_unit_test(test_proxy_header_untrusted),
        cmocka_unit_test(test_either_plain),
        cmocka_unit_test(test_kept_body),
        cmocka_unit_test(test_no_tls),
        cmocka_unit_test(test_linger_ends),
        cmocka_unit_test(test_no_context),
        cmocka_unit_test(test_raw),
        cmocka_unit_test(test_raw_paused),
        cmocka_unit_test(test_raw_fin),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_abort),
    };
    return cmocka_run_group_tests(tests, opening_make_certs, opening_free_certs);
}
