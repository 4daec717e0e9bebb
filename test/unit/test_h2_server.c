// SPDX-License-Identifier: MIT
// HTTP/2 of clients: what goes well.
#include "h2_server_fixture.h"

static void answers(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_AT_ONCE);
    h2_get(&f, 1);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D1 2 end;"));
    assert_true(h2_saw(&f, "H1 200 x-mixed=Case content-length=2;"));
    assert_true(str_eq(buf_str(&f.told), STR("GET /;sent;")));
    assert_int_equal(f.head.method, METHOD_GET);
    assert_int_equal(f.head.body, BODY_NONE);
    // A second one, HEAD: no DATA, but its length.
    h2_send_headers(&f, H2_FLAG_END, 3,
                    ":path=/b?q=1|:method=HEAD|:authority=a.example|:scheme=https|accept=*/*");
    PUMP(&f.loop, &f.peer, h2_saw(&f, "H3 200 x-mixed=Case content-length=2 end;"));
    assert_true(h2_was_told(&f, "HEAD /b?q=1;sent;"));
    assert_int_equal(f.server.request_count, 2);
    h2_end(&f);
}

static void many_streams_in_one_segment(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_AT_ONCE);
    struct buf all;
    buf_init(&all, 0);
    struct buf block;
    buf_init(&block, 0);
    h2_put_block(&block, H2_GET);
    for (uint32_t id = 1; id < 2 * 100; id += 2) {
        h2_put_frame(&all, NGHTTP2_HEADERS, H2_FLAG_END | H2_FLAG_HEADERS, id, buf_str(&block));
    }
    peer_send(&f.peer, buf_str(&all));
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D199 2 end;"));
    assert_int_equal(f.server.request_count, 100);
    assert_int_equal(f.open_count, 0);
    assert_int_equal(f.got.len, 200);
    buf_fini(&block);
    buf_fini(&all);
    h2_end(&f);
}

static void byte_by_byte(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_AT_END);
    struct buf all;
    buf_init(&all, 0);
    struct buf block;
    buf_init(&block, 0);
    h2_put_block(&block, H2_POST "|cookie=a=1|content-length=3|cookie=b=2|x-a=1|cookie=c");
    h2_put_frame(&all, NGHTTP2_HEADERS, 0, 1, str_sub(buf_str(&block), 0, 20));
    h2_put_frame(&all, NGHTTP2_CONTINUATION, H2_FLAG_HEADERS, 1, str_from(buf_str(&block), 20));
    h2_put_frame(&all, NGHTTP2_DATA, 0, 1, STR("ab"));
    h2_put_frame(&all, NGHTTP2_DATA, H2_FLAG_END, 1, STR("c"));
    for (size_t i = 0; i < all.len; i++) {
        peer_send(&f.peer, str_sub(buf_str(&all), i, 1));
        loop_turn(&f.loop, 0);
    }
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D1 2 end;"));
    assert_true(str_eq(buf_str(&f.told), STR("POST /;end;sent;")));
    assert_true(str_eq(buf_str(&f.body), STR("abc")));
    assert_true(
        str_eq(buf_str(&f.fields), STR("cookie: a=1; b=2; c\ncontent-length: 3\nx-a: 1\n")));
    assert_int_equal(f.head.body, BODY_LENGTH);
    assert_int_equal(f.head.body_len, 3);
    buf_fini(&block);
    buf_fini(&all);
    h2_end(&f);
}

static void echoes_with_trailers(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_ECHO);
    h2_send_headers(&f, 0, 1, H2_POST "|te=trailers|expect=100-continue");
    h2_send_frame(&f, NGHTTP2_DATA, 0, 1, STR("hello"));
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D1 5;"));
    assert_true(f.head.te_trailers && f.head.expect_continue);
    assert_int_equal(f.head.body, BODY_CHUNKED);
    h2_send_headers(&f, H2_FLAG_END, 1, "grpc-status=0|authorization=x|x-last=");
    PUMP(&f.loop, &f.peer, h2_saw(&f, "H1 grpc-status=0 x-last= end;"));
    assert_true(str_eq(buf_str(&f.got), STR("hello")));
    assert_true(h2_was_told(&f, "end;grpc-status=0;x-last=;sent;"));
    h2_end(&f);
}

static void flow_control_holds_back(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin_with(&f, H2_HOLD, 100000);
    h2_get(&f, 1);
    PUMP(&f.loop, &f.peer, f.stream != NULL);
    enum { LEN = 300000 };
    char *body = calloc(1, LEN);
    h2_send_head_of(f.stream, 200, BODY_LENGTH, LEN);
    f.stream->ops->send_data(f.stream, str_make(body, LEN));
    f.stream->ops->send_end(f.stream, NULL, 0);
    loop_turn(&f.loop, 0);
    outq_flush_all(&f.loop);
    memset(body, 'x', LEN); // was only borrowed
    // The connection's window is 65535.
    PUMP(&f.loop, &f.peer, f.got.len == 65535 || !h2_saw(&f, "never"));
    settle(&f.loop, &f.peer);
    h2_note(&f);
    assert_int_equal(f.got.len, 65535);
    assert_true(h2_was_told(&f, "full;"));
    assert_int_equal(f.stream->queued, LEN - 65535);
    h2_send_window(&f, 0, 1 << 20);
    settle(&f.loop, &f.peer);
    h2_note(&f);
    assert_int_equal(f.got.len, 100000);
    assert_false(h2_was_told(&f, "room;"));
    h2_send_window(&f, 1, 190000);
    settle(&f.loop, &f.peer);
    h2_note(&f);
    assert_int_equal(f.got.len, 290000);
    assert_true(h2_was_told(&f, "room;"));
    h2_send_window(&f, 1, 20000);
    PUMP(&f.loop, &f.peer, h2_was_told(&f, "sent;"));
    h2_note(&f);
    assert_int_equal(f.got.len, LEN);
    for (size_t i = 0; i < LEN; i++) {
        assert_int_equal(f.got.p[i], 0);
    }
    free(body);
    h2_end(&f);
}

static void a_paused_upload_waits(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_SINK);
    f.pause_at_data = true;
    h2_send_headers(&f, 0, 1, H2_POST);
    static char piece[16384];
    for (unsigned i = 0; i < 15; i++) {
        h2_send_frame(&f, NGHTTP2_DATA, 0, 1, str_make(piece, sizeof piece));
        settle(&f.loop, &f.peer);
    }
    assert_int_equal(f.body.len, 16384);
    assert_true(f.loop.outq_pool->blocks.live_count > 0);
    // Others go on meanwhile.
    struct http_stream *first = f.stream;
    f.pause_at_data = false;
    h2_send_headers(&f, 0, 3, H2_POST);
    h2_send_frame(&f, NGHTTP2_DATA, H2_FLAG_END, 3, STR("other"));
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D3 2 end;"));
    h2_send_headers(&f, H2_FLAG_END, 1, "x-sum=1");
    settle(&f.loop, &f.peer);
    assert_int_equal(f.body.len, 16384 + 5);
    first->ops->resume(first);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D1 2 end;"));
    assert_int_equal(f.body.len, 15 * 16384 + 5);
    assert_true(h2_was_told(&f, "end;x-sum=1;sent;"));
    h2_end(&f);
}

static void an_early_answer_ends_the_upload(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_AT_ONCE);
    h2_send_headers(&f, 0, 1, H2_POST);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D1 2 end;R1 0;"));
    assert_true(str_eq(buf_str(&f.told), STR("POST /;sent;")));
    // What was on its way is ignored.
    h2_send_frame(&f, NGHTTP2_DATA, 0, 1, STR("late"));
    h2_get(&f, 3);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D3 2 end;"));
    h2_end(&f);
}

static void infos_and_empty_answers(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    h2_get(&f, 1);
    PUMP(&f.loop, &f.peer, f.stream != NULL);
    struct http_field link = {STR("Link"), STR("</a.css>"), FIELD_OTHER};
    struct http_head info = {.status = 103, .fields = &link, .field_count = 1};
    f.stream->ops->send_info(f.stream, &info);
    struct http_head head = {
        .status = 304, .body = BODY_NONE, .body_len = 77, .seen = FIELD_BIT(FIELD_CONTENT_LENGTH)};
    f.stream->ops->send_head(f.stream, &head);
    f.stream->ops->send_end(f.stream, NULL, 0);
    outq_flush_all(&f.loop);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "H1 103 link=</a.css>;H1 304 content-length=77 end;"));
    assert_true(h2_was_told(&f, "sent;"));
    h2_get(&f, 3);
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    h2_send_head_of(f.stream, 204, BODY_NONE, 0);
    f.stream->ops->send_end(f.stream, NULL, 0);
    outq_flush_all(&f.loop);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "H3 204 end;"));
    h2_end(&f);
}

static void a_reset_answer_is_seen(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    h2_get(&f, 1);
    PUMP(&f.loop, &f.peer, f.stream != NULL);
    h2_send_head_of(f.stream, 200, BODY_CHUNKED, 0);
    f.stream->ops->send_data(f.stream, STR("part"));
    outq_flush_all(&f.loop);
    f.stream->ops->reset(f.stream, ERR_CLOSED);
    f.open_count--;
    outq_flush_all(&f.loop);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D1 4;R1 2;"));
    // Before the head too.
    h2_get(&f, 3);
    PUMP(&f.loop, &f.peer, f.open_count == 1);
    f.stream->ops->reset(f.stream, ERR_MEMORY);
    f.open_count--;
    outq_flush_all(&f.loop);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "R3 2;"));
    h2_end(&f);
}

static void websockets_by_extended_connect(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_TUNNEL);
    h2_send_headers(&f, 0, 1,
                    ":method=CONNECT|:protocol=websocket|:scheme=https|:authority=a.example|"
                    ":path=/chat|sec-websocket-version=13|origin=https://a.example");
    h2_send_frame(&f, NGHTTP2_DATA, 0, 1, STR("ping"));
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D1 4;"));
    assert_true(h2_saw(&f, "H1 200;D1 4;"));
    assert_true(str_eq(f.head.scheme, STR("https")));
    assert_true(f.head.upgrade && f.head.method == METHOD_GET);
    assert_true(h2_was_told(&f, "GET /chat;"));
    struct str fields = buf_str(&f.fields);
    assert_true(str_find(fields, STR("upgrade: websocket\n")) != SIZE_MAX);
    size_t key = str_find(fields, STR("sec-websocket-key: "));
    assert_true(key != SIZE_MAX);
    assert_true(str_starts(str_from(fields, key + 19 + 22), STR("==\n")));
    h2_send_frame(&f, NGHTTP2_DATA, H2_FLAG_END, 1, STR("bye"));
    PUMP(&f.loop, &f.peer, h2_was_told(&f, "end;sent;"));
    h2_note(&f);
    assert_true(str_eq(buf_str(&f.got), STR("pingbye")));
    // Refused by the target: an answer like any other.
    f.mode = H2_AT_ONCE;
    h2_send_headers(
        &f, 0, 3, ":method=CONNECT|:protocol=websocket|:scheme=http|:authority=a.example|:path=/");
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D3 2 end;R3 0;"));
    h2_end(&f);
}

static void drains_in_two_steps(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    h2_get(&f, 1);
    PUMP(&f.loop, &f.peer, f.stream != NULL);
    http_server_drain(&f.server);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "P;"));
    assert_true(h2_saw(&f, "G2147483647 0;"));
    // A request that was on its way is served.
    struct http_stream *first = f.stream;
    h2_get(&f, 3);
    PUMP(&f.loop, &f.peer, f.stream != first);
    h2_answer(f.stream, "ok");
    outq_flush_all(&f.loop);
    pass(&f.loop, 1001);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "G3 0;"));
    assert_false(f.peer.closed);
    h2_answer(first, "ok");
    outq_flush_all(&f.loop);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D1 2 end;") && f.peer.closed);
    peer_close(&f.peer);
    for (int i = 0; i < 100 && f.server.conn_count > 0; i++) {
        loop_turn(&f.loop, 1);
    }
    assert_int_equal(f.server.conn_count, 0);
    h2_end(&f);
}

static void a_ping_shortens_the_drain(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    settle(&f.loop, &f.peer);
    http_server_drain(&f.server);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "P;"));
    h2_send_frame(&f, NGHTTP2_PING, H2_FLAG_ACK, 0, STR("\0\0\0\0\0\0\0\0"));
    PUMP(&f.loop, &f.peer, h2_saw(&f, "G0 0;") && f.peer.closed);
    h2_end(&f);
}

static void idle_connections_end(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_AT_ONCE);
    h2_get(&f, 1);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "D1 2 end;"));
    pass(&f.loop, 59000);
    assert_false(h2_saw(&f, "G"));
    pass(&f.loop, 2000);
    PUMP(&f.loop, &f.peer, h2_saw(&f, "G1 0;") && f.peer.closed);
    assert_int_equal(f.server.timed_out_count, 1);
    pass(&f.loop, 6000);
    assert_int_equal(f.server.conn_count, 0);
    h2_end(&f);
}

static void the_client_leaves(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin(&f, H2_HOLD);
    h2_get(&f, 1);
    h2_get(&f, 3);
    PUMP(&f.loop, &f.peer, f.open_count == 2);
    h2_send_rst(&f, 1);
    PUMP(&f.loop, &f.peer, h2_was_told(&f, "reset closed;"));
    assert_int_equal(f.open_count, 1);
    peer_abort(&f.peer);
    for (int i = 0; i < 1000 && f.server.conn_count > 0; i++) {
        loop_turn(&f.loop, 1);
    }
    assert_int_equal(f.open_count, 0);
    h2_end(&f);
}

static void a_slow_reader_gets_all(void **state)
{
    (void)state;
    struct h2_fixture f;
    h2_begin_with(&f, H2_HOLD, 0x7fffffff);
    h2_send_window(&f, 0, 0x7fff0000);
    h2_get(&f, 1);
    PUMP(&f.loop, &f.peer, f.stream != NULL);
    enum { PIECE = 60000, COUNT = 40 };
    char *piece = malloc(PIECE);
    for (size_t i = 0; i < PIECE; i++) {
        piece[i] = (char)('a' + i % 26);
    }
    h2_send_head_of(f.stream, 200, BODY_CHUNKED, 0);
    unsigned sent = 0;
    f.peer.deaf = true;
    while (sent < COUNT) {
        if (!stream_is_full(f.stream)) {
            f.stream->ops->send_data(f.stream, str_make(piece, PIECE));
            sent++;
        } else {
            f.peer.deaf = false;
        }
        outq_flush_all(&f.loop);
        loop_turn(&f.loop, 0);
        peer_poll(&f.peer);
    }
    f.stream->ops->send_end(f.stream, NULL, 0);
    outq_flush_all(&f.loop);
    PUMP(&f.loop, &f.peer, h2_was_told(&f, "sent;"));
    h2_note(&f);
    assert_int_equal(f.got.len, PIECE * COUNT);
    for (size_t i = 0; i < f.got.len; i++) {
        assert_int_equal(f.got.p[i], 'a' + i % PIECE % 26);
    }
    free(piece);
    h2_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(many_streams_in_one_segment),
        cmocka_unit_test(byte_by_byte),
        cmocka_unit_test(echoes_with_trailers),
        cmocka_unit_test(flow_control_holds_back),
        cmocka_unit_test(a_paused_upload_waits),
        cmocka_unit_test(an_early_answer_ends_the_upload),
        cmocka_unit_test(infos_and_empty_answers),
        cmocka_unit_test(a_reset_answer_is_seen),
        cmocka_unit_test(websockets_by_extended_connect),
        cmocka_unit_test(drains_in_two_steps),
        cmocka_unit_test(a_ping_shortens_the_drain),
        cmocka_unit_test(idle_connections_end),
        cmocka_unit_test(the_client_leaves),
        cmocka_unit_test(a_slow_reader_gets_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
