// SPDX-License-Identifier: MIT
// HTTP/2 by prior knowledge on an address for HTTP/1: its preface is told apart from requests, however it is
// cut; what only begins like it is refused as a request.
#include "h1_server_fixture.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define GET     "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
// SETTINGS, and HEADERS with GET, http, /, and :authority x, without Huffman.
#define SETTINGS "\0\0\0\4\0\0\0\0\0"
#define HEADERS  "\0\0\6\1\5\0\0\0\1\x82\x86\x84\x41\1x"

static void check_h2(struct fixture *f)
{
    PUMP(&f->loop, &f->peer, f->open_count == 1);
    assert_true(was_told(f, "GET /;"));
    assert_true(f->stream->is_h2);
    assert_int_equal(f->server.conn_count, 1);
    assert_true(str_eq(http_stream_peer_text(f->stream), STR("127.0.0.1")));
    assert_int_equal(http_stream_local_port(f->stream), ntohs(f->address.sin_port));
    answer(f->stream, "ok");
    PUMP(&f->loop, &f->peer, was_told(f, "GET /;sent;") && peer_has(&f->peer, "ok"));
    assert_int_equal(f->peer.received.p[3], 4); // SETTINGS came first
    assert_false(peer_has(&f->peer, "HTTP/1.1"));
}

static void test_preface(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_HOLD);
    struct str all = STR(PREFACE SETTINGS HEADERS);
    for (size_t cut = 1; cut <= all.len; cut++) {
        peer_send(&f.peer, str_sub(all, 0, cut));
        settle(&f.loop, &f.peer);
        assert_true(list_is_empty(&f.loop.run_list)); // it waits, it does not spin
        if (cut < all.len) {
            peer_send(&f.peer, str_from(all, cut));
        }
        check_h2(&f);
        renew(&f);
    }
    for (size_t i = 0; i < all.len; i++) {
        peer_send(&f.peer, str_sub(all, i, 1));
        settle(&f.loop, &f.peer);
    }
    check_h2(&f);
    end(&f);
}

// FIN behind the request is heard of, though it came before the protocol changed.
static void test_preface_and_fin(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_HOLD);
    peer_send(&f.peer, STR(PREFACE SETTINGS HEADERS));
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, was_told(&f, "GET /;reset closed;"));
    PUMP(&f.loop, &f.peer, f.server.conn_count == 0);
    end(&f);
}

static void check_refused(struct fixture *f, struct str bytes, bool by_bytes, const char *told)
{
    for (size_t i = 0; by_bytes && i < bytes.len; i++) {
        (void)peer_offer(&f->peer, str_sub(bytes, i, 1));
        settle(&f->loop, &f->peer);
    }
    if (!by_bytes) {
        peer_send(&f->peer, bytes);
    }
    PUMP(&f->loop, &f->peer, was_told(f, told) && f->peer.closed);
    assert_true(peer_has(&f->peer, "Connection: close"));
    renew(f);
}

static void test_no_preface(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_AT_ONCE);
    for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
        check_refused(&f, STR("PRI * HTTP/2.0\r\n\r\nX"), by_bytes, "refused version;");
        check_refused(&f, STR("PRI * HTTP/2.0\r\n\r\nSM\r\nX"), by_bytes, "refused version;");
        check_refused(&f, STR("PRI * HTTP/2.0\r\nHost: x\r\n\r\n"), by_bytes, "refused version;");
        check_refused(&f, STR("\r\n" PREFACE), by_bytes, "refused version;");
        // Behind a request it is one.
        check_refused(&f, STR(GET PREFACE), by_bytes, "GET /a;sent;refused version;");
    }
    // Other methods that begin with it.
    peer_send(&f.peer, STR("P"));
    settle(&f.loop, &f.peer);
    peer_send(&f.peer, STR("UT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"));
    PUMP(&f.loop, &f.peer, was_told(&f, "PUT /;sent;"));
    end(&f);
}

// A part of it is a part of a head: the time for it counts from its first byte, FIN breaks it off.
static void test_part(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_AT_ONCE);
    struct str part = STR("PRI * HTTP");
    for (size_t i = 0; i < part.len; i++) {
        peer_send(&f.peer, str_sub(part, i, 1));
        settle(&f.loop, &f.peer);
        assert_int_equal(f.server.conn_count, 1);
        assert_false(peer_is_over(&f.peer));
        pass(&f.loop, 1050);
    }
    PUMP(&f.loop, &f.peer, was_told(&f, "refused request_timeout;") && f.peer.closed);
    assert_int_equal(f.server.timed_out_count, 1);
    renew(&f);
    peer_send(&f.peer, part);
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, was_told(&f, "refused syntax;") && f.peer.closed);
    end(&f);
}

static void test_drain(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, MODE_HOLD);
    peer_send(&f.peer, STR(PREFACE SETTINGS HEADERS));
    http_server_drain(&f.server); // reads what is there, and finds HTTP/2
    PUMP(&f.loop, &f.peer, f.open_count == 1 || f.server.conn_count == 0);
    if (f.open_count == 1) {
        answer(f.stream, "ok");
        PUMP(&f.loop, &f.peer, peer_has(&f.peer, "ok"));
    }
    http_server_abort_all(&f.server);
    settle(&f.loop, &f.peer);
    assert_int_equal(f.server.conn_count, 0);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_preface),    cmocka_unit_test(test_preface_and_fin),
        cmocka_unit_test(test_no_preface), cmocka_unit_test(test_part),
        cmocka_unit_test(test_drain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
