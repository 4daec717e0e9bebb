// SPDX-License-Identifier: MIT
// HTTP/2 of clients: what is malformed (RFC 9113 8.2, 8.3), what is too slow, and what is an attack.
#include "http/h2/h2_guard.h"
#include "h2_server_fixture.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

struct bad_request {
    const char *fields;
    const char *seen; // %u is the stream
};

#define PLAIN_PSEUDO ":method=GET|:scheme=http|:authority=a.example|:path=/"

static const struct bad_request bad_requests[] = {
    {PLAIN_PSEUDO "|X-Upper=1", "R1 1;"},
    {PLAIN_PSEUDO "|x a=1", "R1 1;"},
    {PLAIN_PSEUDO "|x-a=1\r\nx-b: 2", "R1 1;"},
    {PLAIN_PSEUDO "|x-a=1\n", "R1 1;"},
    {PLAIN_PSEUDO "|x-a= 1", "R1 1;"},
    {PLAIN_PSEUDO "|connection=close", "R1 1;"},
    {PLAIN_PSEUDO "|keep-alive=1", "R1 1;"},
    {PLAIN_PSEUDO "|proxy-connection=close", "R1 1;"},
    {PLAIN_PSEUDO "|transfer-encoding=chunked", "R1 1;"},
    {PLAIN_PSEUDO "|upgrade=h2c", "R1 1;"},
    {PLAIN_PSEUDO "|te=gzip", "R1 1;"},
    {PLAIN_PSEUDO "|content-length=1|content-length=2", "R1 1;"},
    {PLAIN_PSEUDO "|content-length=0|content-length=0", "R1 1;"},
    {PLAIN_PSEUDO "|content-length=+1", "R1 1;"},
    {PLAIN_PSEUDO "|content-length=5", "R1 1;"}, // and END_STREAM
    {PLAIN_PSEUDO "|:path=/b", "R1 1;"},
    {PLAIN_PSEUDO "|x-a=1|:protocol=websocket", "R1 1;"},
    {PLAIN_PSEUDO "|:protocol=websocket", "R1 1;"},
    {":method=GET|:scheme=http|:authority=a.example|x-a=1|:path=/", "R1 1;"},
    {":method=GET|:scheme=http|:authority=a.example|:unknown=1|:path=/", "R1 1;"},
    {":method=GET|:scheme=http|:authority=a.example|:status=200|:path=/", "R1 1;"},
    {":method=GET|:scheme=http|:authority=a.example", "R1 1;"},
    {":method=GET|:scheme=http|:authority=a.example|:path=", "R1 1;"},
    {":method=GET|:scheme=http|:authority=a.example|:path=x", "R1 1;"},
    {":method=GET|:scheme=http|:authority=a.example|:path=*", "R1 1;"},
    {":method=GET|:authority=a.example|:path=/", "R1 1;"},
    {":scheme=http|:authority=a.example|:path=/", "R1 1;"},
    {":method=G T|:scheme=http|:authority=a.example|:path=/", "R1 1;"},
    {":method=GET|:scheme=http|:authority=a.example|:path=/ b", "R1 1;"},
    {":method=GET|:scheme=http|:authority=a.example|:path=/#b", "H1 400"},
    {":method=GET|:scheme=ftp|:authority=a.example|:path=/", "H1 400"},
    {":method=GET|:scheme=http|:authority=me@a.example|:path=/", "H1 400"},
    {":method=GET|:scheme=http|:authority=a..b|:path=/", "H1 400"},
    {":method=GET|:scheme=http|:authority=a.example|:path=/|host=b.example", "H1 400"},
    {":method=TRACE|:scheme=http|:authority=a.example|:path=/", "H1 405"},
    {":method=CONNECT|:authority=a.example:443", "H1 405"},
    {":method=CONNECT|:protocol=connect-udp|:scheme=http|:authority=a.example|:path=/", "H1 400"},
};

static void malformed_requests_end_alone(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_AT_ONCE);
    for (size_t i = 0; i < sizeof bad_requests / sizeof bad_requests[0]; i++) {
        h2_send_headers(&f, H2_FLAG_END, 1, bad_requests[i].fields);
        h2_get(&f, 3);
        for (unsigned turn = 0; turn < 200 && !h2_saw(&f, "D3 2 end;"); turn++) {
            loop_turn(&f.loop, 1);
            peer_poll(&f.peer);
        }
        if (!h2_saw(&f, bad_requests[i].seen) || !h2_saw(&f, "D3 2 end;") ||
            f.server.request_count != i + 1) {
            fail_msg("%s gave %.*s; %.*s", bad_requests[i].fields, STR_ARG(buf_str(&f.seen)),
                     STR_ARG(buf_str(&f.told)));
        }
        h2_renew(&f);
    }
    h2_end(&f);
}

static void host_alone_is_enough(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_AT_ONCE);
    h2_send_headers(&f, H2_FLAG_END, 1,
                    ":method=GET|:scheme=http|:path=/|host=A.example|x_forwarded_for=1.2.3.4");
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D1 2 end;"));
    assert_int_equal(f.head.authority.len, 9);
    assert_true(str_eq(buf_str(&f.fields), STR("host: A.example\n")));
    h2_send_headers(&f, H2_FLAG_END, 3,
                    ":method=GET|:scheme=http|:path=/|:authority=a.example|host=A.example");
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D3 2 end;"));
    h2_end(&f);
}

static void bodies_must_have_their_length(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_SINK);
    h2_send_headers(&f, 0, 1, H2_POST "|content-length=5");
    h2_send_frame(&f, NGHTTP2_DATA, H2_FLAG_END, 1, STR("abc"));
    PUMP(&f.loop, &f.peer, h2_saw(&f, "R1 1;"));
    assert_true(h2_was_told(&f, "reset protocol;"));
    h2_send_headers(&f, 0, 3, H2_POST "|content-length=2");
    h2_send_frame(&f, NGHTTP2_DATA, 0, 3, STR("abc"));
    PUMP(&f.loop, &f.peer, h2_saw(&f, "R3 1;"));
    assert_int_equal(f.open_count, 0);
    assert_true(str_eq(buf_str(&f.body), STR("abc")));
    h2_end(&f);
}

static void limits_of_heads(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_AT_ONCE);
    struct buf text;
    buf_init(&text, 0);
    buf_printf(&text, ":method=GET|:scheme=http|:authority=a.example|:path=/%*s", 1100, "");
    for (size_t i = 0; i < text.len; i++) {
        text.p[i] = text.p[i] == ' ' ? 'x' : text.p[i];
    }
    buf_put_char(&text, 0);
    h2_send_headers(&f, H2_FLAG_END, 1, text.p);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "H1 414"));
    buf_clear(&text);
    buf_printf(&text, PLAIN_PSEUDO);
    for (unsigned i = 0; i < 51; i++) {
        buf_printf(&text, "|a=");
    }
    buf_put_char(&text, 0);
    h2_send_headers(&f, H2_FLAG_END, 3, text.p);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "H3 431"));
    buf_clear(&text);
    buf_printf(&text, PLAIN_PSEUDO "|a=%04000d", 0);
    buf_put_char(&text, 0);
    h2_send_headers(&f, H2_FLAG_END, 5, text.p);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "H5 431"));
    assert_true(h2_was_told(&f, "refused target_too_long;refused too_many_fields;"
                                "refused head_too_large;"));
    buf_fini(&text);
    h2_end(&f);
}

// ---- attacks: all end with ENHANCE_YOUR_CALM (11) that reaches the client ----

static void cut_off(struct h2_fixture *f, const char *what)
{
    char told[64];
    snprintf(told, sizeof told, "abuse %s;", what);
    PUMP(&f->loop, &f->peer, h2_was_told(f, told) && h2_saw(f, " 11;") && peer_is_over(&f->peer));
    h2_end(f);
}

// Sends as much as goes until the server has had enough.
static void flood(struct h2_fixture *f, struct str piece, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        size_t sent = 0;
        for (unsigned tries = 0; sent < piece.len && tries < 10000; tries++) {
            sent += peer_offer(&f->peer, str_from(piece, sent));
            loop_turn(&f->loop, 0);
            peer_poll(&f->peer);
            if (h2_was_told(f, "abuse")) {
                return;
            }
        }
    }
}

static void rapid_reset(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    for (uint32_t id = 1; id < 2000 && !h2_was_told(&f, "abuse"); id += 2) {
        h2_get(&f, id);
        h2_send_rst(&f, id);
        loop_turn(&f.loop, 0);
    }
    assert_int_equal(f.server.request_count, 101);
    cut_off(&f, "rapid_reset");
}

// Streams that we have to reset for the client's errors cost the same (CVE-2025-8671).
static void made_you_reset(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    for (uint32_t id = 1; id < 2000 && !h2_was_told(&f, "abuse"); id += 2) {
        h2_send_headers(&f, 0, id, H2_POST "|content-length=1");
        h2_send_frame(&f, NGHTTP2_DATA, 0, id, STR("xx"));
        loop_turn(&f.loop, 0);
        peer_poll(&f.peer);
    }
    assert_in_range(f.server.request_count, 100, 102);
    cut_off(&f, "rapid_reset");
}

static void honest_clients_may_cancel(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    uint32_t id = 1;
    for (unsigned i = 0; i < 400; i++) { // every fifth
        f.mode = H2_AT_ONCE;
        for (unsigned n = 0; n < H2_EARN_ANSWERS; n++, id += 2) {
            h2_get(&f, id);
            loop_turn(&f.loop, 0);
        }
        f.mode = H2_HOLD;
        h2_get(&f, id);
        h2_send_rst(&f, id);
        id += 2;
        loop_turn(&f.loop, 0);
        peer_poll(&f.peer);
    }
    PUMP(&f.loop, &f.peer, f.server.request_count == 2000 && f.open_count == 0);
    assert_false(h2_was_told(&f, "abuse"));
    h2_end(&f);
}

static void continuation_flood(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    struct buf block;
    buf_init(&block, 0);
    h2_put_block(&block, H2_GET);
    h2_send_frame(&f, NGHTTP2_HEADERS, 0, 1, buf_str(&block));
    buf_clear(&block);
    h2_put_frame(&block, NGHTTP2_CONTINUATION, 0, 1, STR("\0\1a\1b"));
    flood(&f, buf_str(&block), 20);
    buf_fini(&block);
    cut_off(&f, "continuation");
}

static void flood_of(unsigned type, unsigned flags, uint32_t id, struct str payload,
                     const char *what)
{
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    h2_send_headers(&f, 0, 1, H2_POST);
    settle(&f.loop, &f.peer);
    struct buf frames;
    buf_init(&frames, 0);
    for (unsigned i = 0; i < 50; i++) {
        h2_put_frame(&frames, type, flags, id, payload);
    }
    flood(&f, buf_str(&frames), 1000);
    buf_fini(&frames);
    assert_true(h2_was_told(&f, "reset abuse;"));
    cut_off(&f, what);
}

static void control_floods(void **state)
{
    (void)state;
    struct str eight = STR("\0\0\0\0\0\0\0\0");
    flood_of(NGHTTP2_PING, 0, 0, eight, "control_flood");
    flood_of(NGHTTP2_PING, H2_FLAG_ACK, 0, eight, "control_flood");
    flood_of(NGHTTP2_SETTINGS, 0, 0, STR("\0\4\0\0\0\1"), "control_flood");
    flood_of(NGHTTP2_WINDOW_UPDATE, 0, 0, STR("\0\0\0\1"), "control_flood");
    flood_of(NGHTTP2_PRIORITY, 0, 1, STR("\0\0\0\3\1"), "control_flood");
    flood_of(NGHTTP2_PRIORITY_UPDATE, 0, 0, STR("\0\0\0\1u=1"), "control_flood");
    flood_of(0x77, 0, 0, STR("?"), "control_flood");
    flood_of(NGHTTP2_DATA, 0, 1, STR(""), "empty_frames");
}

static void answers_to_floods_are_bounded(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    settle(&f.loop, &f.peer);
    f.peer.deaf = true;
    struct buf frames;
    buf_init(&frames, 0);
    for (unsigned i = 0; i < 100; i++) {
        h2_put_frame(&frames, NGHTTP2_PING, 0, 0, STR("\0\0\0\0\0\0\0\0"));
    }
    flood(&f, buf_str(&frames), 1000);
    buf_fini(&frames);
    assert_in_range(f.loop.outq_pool->blocks.live_count, 0, 8);
    f.peer.deaf = false;
    cut_off(&f, "control_flood");
}

// One entry of the table, named thousands of times.
static void header_bomb(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    struct buf block;
    buf_init(&block, 0);
    h2_put_block(&block, H2_GET);
    buf_put_char(&block, 0x40); // with indexing
    h2_put_len(&block, 1);
    buf_put_char(&block, 'a');
    h2_put_len(&block, 3000);
    for (unsigned i = 0; i < 3000; i++) {
        buf_put_char(&block, 'x');
    }
    for (unsigned i = 0; i < 10000; i++) {
        buf_put_char(&block, (char)(0x80 | 62));
    }
    h2_send_frame(&f, NGHTTP2_HEADERS, H2_FLAG_END | H2_FLAG_HEADERS, 1, buf_str(&block));
    buf_fini(&block);
    cut_off(&f, "header_bomb");
}

static void large_heads_again_and_again(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    struct buf text;
    buf_init(&text, 0);
    buf_printf(&text, PLAIN_PSEUDO "|a=%05000d", 0);
    buf_put_char(&text, 0);
    for (uint32_t id = 1; id < 200 && !h2_was_told(&f, "abuse"); id += 2) {
        h2_send_headers(&f, H2_FLAG_END, id, text.p);
        settle(&f.loop, &f.peer);
    }
    assert_true(h2_saw(&f, "H19 431"));
    buf_fini(&text);
    cut_off(&f, "header_bomb");
}

static void protocol_error(struct str frame, const char *goaway)
{
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    h2_get(&f, 1);
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    peer_send(&f.peer, frame);
    PUMP(&f.loop, &f.peer, h2_saw(&f, goaway) && peer_is_over(&f.peer));
    assert_true(h2_was_told(&f, "abuse protocol_errors;"));
    assert_true(h2_was_told(&f, "reset protocol;"));
    h2_end(&f);
}

static void protocol_errors_are_told(void **state)
{
    (void)state;
    // HEADERS on stream 0; a frame of 1 MiB; CONTINUATION without HEADERS; bad HPACK index.
    protocol_error(STR("\0\0\1\1\4\0\0\0\0x"), "G1 1;");
    protocol_error(STR("\20\0\0\0\0\0\0\0\1"), "G1 6;");
    protocol_error(STR("\0\0\0\11\4\0\0\0\3"), "G1 1;");
    protocol_error(STR("\0\0\1\1\5\0\0\0\3\377"), "G");
    // WINDOW_UPDATE over 2^31-1.
    protocol_error(STR("\0\0\4\10\0\0\0\0\0\177\377\377\377"), "G1 3;");
}

// ---- slowness ----

static void a_client_without_window(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin_with(&f, H2_HOLD, 10);
    h2_get(&f, 1);
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    h2_answer(f.stream, "0123456789abcdef");
    outq_flush_all(&f.loop);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D1 10;"));
    pass(&f.loop, 29000);
    assert_int_equal(f.open_count, 1);
    pass(&f.loop, 1002);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "R1 8;"));
    assert_true(h2_was_told(&f, "abuse stalled;reset timeout;"));
    assert_int_equal(f.loop.outq_pool->blocks.live_count, 0);
    f.mode = H2_AT_ONCE;
    h2_get(&f, 3);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D3 2 end;"));
    h2_end(&f);
}

// The same for an answer that has no user.
static void a_refused_client_without_window(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin_with(&f, H2_HOLD, 5);
    h2_send_headers(&f, H2_FLAG_END, 1, ":method=GET|:scheme=http|:authority=a:b|:path=/");
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D1 5;"));
    pass(&f.loop, 30002);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "R1 8;"));
    assert_true(h2_was_told(&f, "refused host;abuse stalled;"));
    h2_end(&f);
}

// An origin that says on and on that it will answer, to a client that does not read.
static void heads_before_the_answer(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin_with(&f, H2_HOLD, 0x7fffffff);
    h2_send_window(&f, 0, 0x7fff0000);
    f.peer.deaf = true;
    h2_get(&f, 1);
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    struct http_stream *other = f.stream;
    static char piece[60000];
    h2_send_head_of(other, 200, BODY_CHUNKED, 0);
    while (!stream_is_full(other)) {
        other->ops->send_data(other, str_make(piece, sizeof piece));
        outq_flush_all(&f.loop);
        loop_turn(&f.loop, 0);
    }
    h2_get(&f, 3);
    PUMP(&f.loop, &f.peer, f.open_count == 2);
    const struct http_head info = {.status = 103};
    for (unsigned i = 0; i < 100 && f.open_count == 2; i++) {
        f.stream->ops->send_info(f.stream, &info);
        outq_flush_all(&f.loop);
    }
    assert_int_equal(f.open_count, 1);
    assert_true(str_ends(buf_str(&f.told), STR("reset memory;")));
    h2_end(&f);
}

static void a_client_that_does_not_read(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin_with(&f, H2_HOLD, 0x7fffffff);
    h2_send_window(&f, 0, 0x7fff0000);
    f.peer.deaf = true;
    h2_get(&f, 1);
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    static char piece[60000];
    h2_send_head_of(f.stream, 200, BODY_CHUNKED, 0);
    while (!stream_is_full(f.stream)) {
        f.stream->ops->send_data(f.stream, str_make(piece, sizeof piece));
        outq_flush_all(&f.loop);
        loop_turn(&f.loop, 0);
    }
    pass(&f.loop, 29000);
    assert_int_equal(f.open_count, 1);
    pass(&f.loop, 2000);
    assert_true(h2_was_told(&f, "reset timeout;"));
    assert_int_equal(f.server.conn_count, 0);
    assert_int_equal(f.server.timed_out_count, 1);
    h2_end(&f);
}

static void a_body_that_stops(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_SINK);
    h2_send_headers(&f, 0, 1, H2_POST);
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    pass(&f.loop, 20000);
    h2_send_frame(&f, NGHTTP2_DATA, 0, 1, STR("a"));
    PUMP(&f.loop, &f.peer, f.body.len == 1);
    pass(&f.loop, 20000);
    assert_int_equal(f.open_count, 1);
    pass(&f.loop, 10002);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "H1 408") && h2_saw(&f, "R1 0;"));
    assert_true(h2_was_told(&f, "reset request_timeout;"));
    h2_end(&f);
}

static void a_head_that_trickles(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    h2_get(&f, 1);
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    struct buf block;
    buf_init(&block, 0);
    h2_put_block(&block, H2_GET);
    h2_put_field(&block, STR("a"), STR("0123456789012345678901234567890123456789"));
    struct buf frame;
    buf_init(&frame, 0);
    h2_put_frame(&frame, NGHTTP2_HEADERS, H2_FLAG_END | H2_FLAG_HEADERS, 3, buf_str(&block));
    for (unsigned i = 0; i < 11; i++) {
        peer_send(&f.peer, str_sub(buf_str(&frame), i < 1 ? 0 : 9 + i, i < 1 ? 10 : 1));
        settle(&f.loop, &f.peer);
        assert_false(peer_is_over(&f.peer));
        pass(&f.loop, 1000);
    }
    PUMP(&f.loop, &f.peer, h2_saw(&f, "G3 0;") && peer_is_over(&f.peer));
    assert_int_equal(f.open_count, 0);
    buf_fini(&frame);
    buf_fini(&block);
    h2_end(&f);
}

static void a_preface_that_does_not_come(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    settle(&f.loop, &f.peer);
    peer_fini(&f.peer);
    PUMP(&f.loop, &f.peer, f.server.conn_count == 0);
    h2_end(&f);
}

// Memory for what is held runs out: the stream ends, others go on.
static void no_blocks_left(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_SINK);
    f.loop.outq_pool->blocks.live_max = 3;
    f.pause_at_data = true;
    h2_send_headers(&f, 0, 1, H2_POST);
    static char piece[16384];
    for (unsigned i = 0; i < 6; i++) {
        h2_send_frame(&f, NGHTTP2_DATA, 0, 1, str_make(piece, sizeof piece));
        settle(&f.loop, &f.peer);
    }
    PUMP(&f.loop, &f.peer, h2_saw(&f, "R1 2;"));
    assert_true(h2_was_told(&f, "reset memory;"));
    assert_int_equal(f.loop.outq_pool->blocks.live_count, 0);
    f.pause_at_data = false;
    h2_send_headers(&f, 0, 3, H2_POST);
    h2_send_frame(&f, NGHTTP2_DATA, H2_FLAG_END, 3, STR("x"));
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D3 2 end;"));
    h2_end(&f);
}

// The same for what is sent: the exchange ends once, whatever its user still says.
static void no_blocks_left_for_an_answer(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin_with(&f, H2_HOLD, 10);
    f.loop.outq_pool->blocks.live_max = 2;
    h2_get(&f, 1);
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    static char piece[50000];
    h2_send_head_of(f.stream, 200, BODY_LENGTH, 2 * sizeof piece);
    f.stream->ops->send_data(f.stream, str_make(piece, sizeof piece));
    f.stream->ops->send_data(f.stream, str_make(piece, sizeof piece));
    f.stream->ops->send_end(f.stream, NULL, 0);
    outq_flush_all(&f.loop);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "R1 2;"));
    assert_true(h2_was_told(&f, "reset memory;"));
    assert_false(h2_saw(&f, "end"));
    f.mode = H2_AT_ONCE;
    h2_get(&f, 3);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D3 2 end;"));
    h2_end(&f);
}

static void abort_ends_all(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    for (uint32_t id = 1; id < 20; id += 2) {
        h2_get(&f, id);
    }
    PUMP(&f.loop, &f.peer, f.open_count == 10);
    http_server_abort_all(&f.server);
    assert_int_equal(f.open_count, 0);
    h2_end(&f);
}

// An answer, and in the same turn, behind it, the end of its connection.
struct answerer {
    struct loop_io io;
    struct h2_fixture *f;
};

static void on_answer(struct loop *loop, struct loop_io *io, uint32_t events)
{
    (void)loop;
    (void)events;
    h2_answer(CONTAINER_OF(io, struct answerer, io)->f->stream, "last words");
}

static void an_answer_goes_out_before_the_end(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++) {
        struct h2_fixture f;
        h2_begin(&f, H2_HOLD);
        h2_get(&f, 1);
        PUMP(&f.loop, &f.peer, h2_was_told(&f, "GET /;"));
        for (int i = 0; i < 5; i++) {
            loop_turn(&f.loop, 0); // the connection has no event left: the answer's comes first
        }
        struct answerer a = {.io = {eventfd(1, EFD_NONBLOCK), on_answer}, .f = &f};
        assert_int_equal(loop_add_events(&f.loop, &a.io, EPOLLIN | EPOLLET), 0);
        if (how == 0) {
            peer_fin(&f.peer);
        } else if (how == 1) {
            h2_send_frame(&f, NGHTTP2_DATA, 0, 0, STR_NULL); // a connection error
        } else if (how == 2) {
            h2_send_rst(&f, 1);
        } else {
            f.server.draining = true;
        }
        loop_turn(&f.loop, 0);
        assert_true(list_is_empty(&f.loop.gathered));
        assert_int_equal(f.open_count, 0);
        if (how == 3) {
            http_server_abort_all(&f.server);
        }
        PUMP(&f.loop, &f.peer, h2_saw(&f, "H1 200"));
        assert_true(str_eq(buf_str(&f.got), STR("last words")));
        loop_close(&f.loop, &a.io);
        h2_end(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_requests_end_alone),
        cmocka_unit_test(host_alone_is_enough),
        cmocka_unit_test(bodies_must_have_their_length),
        cmocka_unit_test(limits_of_heads),
        cmocka_unit_test(rapid_reset),
        cmocka_unit_test(made_you_reset),
        cmocka_unit_test(honest_clients_may_cancel),
        cmocka_unit_test(continuation_flood),
        cmocka_unit_test(control_floods),
        cmocka_unit_test(answers_to_floods_are_bounded),
        cmocka_unit_test(header_bomb),
        cmocka_unit_test(large_heads_again_and_again),
        cmocka_unit_test(protocol_errors_are_told),
        cmocka_unit_test(a_client_without_window),
        cmocka_unit_test(a_refused_client_without_window),
        cmocka_unit_test(heads_before_the_answer),
        cmocka_unit_test(a_client_that_does_not_read),
        cmocka_unit_test(a_body_that_stops),
        cmocka_unit_test(a_head_that_trickles),
        cmocka_unit_test(a_preface_that_does_not_come),
        cmocka_unit_test(no_blocks_left),
        cmocka_unit_test(no_blocks_left_for_an_answer),
        cmocka_unit_test(abort_ends_all),
        cmocka_unit_test(an_answer_goes_out_before_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
