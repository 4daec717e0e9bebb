// SPDX-License-Identifier: MIT
// Bodies both ways: early answers, buffering, backpressure, bounds, broken and bodiless answers, heads
// that do not fit.
#include "sim/sim_check.h"
#include <stdio.h>

static void test_streams_both_ways(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request_connected(sim, POST_10);
    struct sim_stream *origin = sim->origin;
    sim_text(client, "12345");
    assert_string_equal(sim_body(origin), "12345");
    sim_respond(origin, OK_CHUNKED);
    sim_text(origin, "abc");
    assert_string_equal(sim_body(client), "abc");
    sim_text(client, "67890");
    sim_end(client);
    assert_true(origin->out_ended);
    sim_text(origin, "def");
    sim_end(origin);
    check_answer(client, 200);
    assert_string_equal(sim_body(client), "abcdef");
    assert_int_equal(origin->life, SIM_RELEASED);
    check_record(sim, 1, 200, "done");
    sim_free(&sim);
}

// The answer is complete while the body comes: the rest is dropped, the target's connection is not
// kept.
static void test_early_answer(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    sim->window = 10; // the client does not take the whole answer at once
    struct sim_stream *client = sim_request_connected(sim, POST_10);
    struct sim_stream *origin = sim->origin;
    sim_text(client, "123");
    sim_respond(origin, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\n");
    sim_text(origin, "big");
    sim_end(origin);
    assert_int_equal(origin->life, SIM_RELEASED);
    assert_false(origin->out_ended);
    assert_int_equal(client->life, SIM_LIVE);
    sim_text(client, "4567890");
    sim_end(client);
    assert_string_equal(sim_body(origin), "123");
    sim_read(client);
    check_answer(client, 413);
    check_record(sim, 1, 413, "done");
    sim_free(&sim);
}

static void test_early_answer_to_a_paused_client(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request(sim, PUT_CHUNKED);
    client->window = 10;
    sim->origin->window = 10;
    sim_connected(sim->origin);
    sim_fill(client, HTTP_AHEAD_LEN + 100);
    assert_true(client->is_paused);
    sim_respond(sim->origin, OK_EMPTY);
    assert_false(client->is_paused);
    sim_fill(client, 100);
    sim_end(client);
    sim_read(client);
    check_answer(client, 200);
    sim_free(&sim);
}

static void test_buffered(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    sim_rules(sim)->buffer_request = 100;
    struct sim_stream *client = sim_request(sim, PUT_CHUNKED);
    sim_text(client, "12345");
    assert_null(sim->origin);
    sim_end(client);
    assert_non_null(sim->origin);
    sim_connected(sim->origin);
    assert_int_equal(sim->origin->out_body, BODY_LENGTH);
    assert_string_equal(sim_body(sim->origin), "12345");
    assert_true(sim->origin->out_ended);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    assert_int_equal(client->infos, 0);
    sim_free(&sim);
}

static void test_buffered_over_the_bound(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    sim_rules(sim)->buffer_request = 100000;
    struct sim_stream *client = sim_request(sim, PUT_CHUNKED);
    sim_fill(client, 99999);
    assert_null(sim->origin);
    sim_fill(client, 2);
    assert_non_null(sim->origin); // the rest streams
    assert_false(client->is_paused);
    sim_fill(client, 1);
    assert_true(client->is_paused); // but not before there is a connection
    sim_connected(sim->origin);
    assert_false(client->is_paused);
    assert_int_equal(sim->origin->out_body, BODY_CHUNKED);
    sim_fill(client, 10);
    sim_end(client);
    assert_int_equal(sim->origin->out_at, 100012);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    sim_free(&sim);
}

#define PUT_EXPECT                                                       \
    "PUT /a HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 5\r\n" \
    "Expect: 100-continue\r\n\r\n"

static void test_expect(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request_connected(sim, PUT_EXPECT);
    assert_true(sim_has_field(sim->origin, "Expect: 100-continue")); // the target's to answer
    assert_int_equal(client->infos, 0);
    sim_respond(sim->origin, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_int_equal(client->infos, 1);
    sim_text(client, "12345");
    sim_end(client);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);

    sim_rules(sim)->buffer_request = 100;
    client = sim_request(sim, PUT_EXPECT);
    assert_int_equal(client->infos, 1);
    assert_int_equal(client->last_info, 100);
    sim_text(client, "12");
    sim_text(client, "345");
    sim_end(client);
    assert_int_equal(client->infos, 1); // once
    sim_connected(sim->origin);
    assert_false(sim_has_field(sim->origin, "Expect: 100-continue"));
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    sim_free(&sim);
}

static void test_client_that_reads_slowly(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request_connected(sim, GET);
    struct sim_stream *origin = sim->origin;
    client->window = 1000;
    sim_respond(origin, OK_CHUNKED);
    for (int i = 0; i < 5; i++) {
        while (!origin->is_paused) {
            sim_fill(origin, 10000);
        }
        assert_in_range(client->stream.queued, HTTP_AHEAD_LEN, HTTP_AHEAD_LEN + 10000);
        sim_read(client);
    }
    sim_end(origin);
    sim_read(client);
    check_answer(client, 200);
    assert_int_equal(client->out_at, origin->in_at);
    assert_int_equal(origin->pauses, 5);
    assert_int_equal(origin->resumes, 5);
    sim_free(&sim);
}

static void test_origin_that_reads_slowly(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request(sim, PUT_CHUNKED);
    struct sim_stream *origin = sim->origin;
    // Nothing is sent before there is a connection; a bound of it is kept.
    sim_fill(client, TXN_KEEP_MAX);
    assert_true(client->is_paused);
    origin->window = 1000;
    sim_connected(origin);
    for (int i = 0; i < 5; i++) {
        while (!client->is_paused) {
            sim_fill(client, 10000);
        }
        sim_read(origin);
    }
    sim_end(client);
    assert_true(origin->out_ended);
    assert_int_equal(origin->out_at, client->in_at);
    assert_int_equal(client->pauses, client->resumes);
    sim_respond(origin, OK_EMPTY);
    check_answer(client, 200);
    sim_free(&sim);
}

// Full of informational heads, and then another attempt: its target stands still from the start.
static void test_full_before_a_retry(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    struct sim_stream *client = sim_request_connected(sim, GET);
    client->window = 1;
    for (int i = 0; !sim->origin->is_paused; i++) {
        assert_true(i < 10000);
        sim_respond(sim->origin, "HTTP/1.1 103 Early Hints\r\n\r\n");
        sim->origin->stream.bytes_in = 0; // as if it had sent nothing
    }
    sim_leave(sim->origin, ERR_CLOSED);
    sim_connected(sim->origin);
    assert_true(sim->origin->is_paused);
    sim_read(client);
    sim_respond(sim->origin, OK_EMPTY);
    sim_read(client);
    check_answer(client, 200);
    sim_free(&sim);
}

static void test_body_limit(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    sim_rules(sim)->has_body_limit = true;
    sim_rules(sim)->body_limit = 9;
    struct sim_stream *client = sim_request(sim, PUT_10); // told in advance
    check_answer(client, 413);
    assert_null(sim->origin);
    assert_true(sim->close_after);

    client = sim_request_connected(sim, PUT_CHUNKED);
    sim_text(client, "123456789");
    assert_int_equal(client->status, 0);
    sim_text(client, "x");
    check_answer(client, 413);
    assert_int_equal(sim->origin->life, SIM_RESET);
    assert_false(sim->origin->out_ended);
    check_record(sim, 2, 413, "body_too_large");

    client = sim_request_connected(sim, PUT_CHUNKED);
    sim_respond(sim->origin, OK_CHUNKED); // too late for another answer
    sim_text(client, "1234567890");
    assert_int_equal(client->life, SIM_RESET);
    check_record(sim, 3, 200, "body_too_large");

    sim_rules(sim)->buffer_request = 100;
    unsigned origins = sim->origin_count;
    client = sim_request(sim, PUT_CHUNKED);
    sim_text(client, "1234567890");
    check_answer(client, 413);
    assert_int_equal(sim->origin_count, origins);
    sim_free(&sim);
}

static void test_truncated(void **state)
{
    (void)state;
    static const char *const heads[] = {
        OK_5, OK_CHUNKED, "HTTP/1.0 200 OK\r\n\r\n"}; // until it closes, in good order
    static const int errs[] = {ERR_CLOSED, ERR_CHUNK_SIZE, ERR_MEMORY};
    static const char *const ends[] = {"origin_truncated", "origin_bad_response", "no_memory"};
    for (size_t i = 0; i < 9; i++) {
        struct sim *sim = sim_new(1);
        struct sim_stream *client = sim_request_connected(sim, GET);
        sim_respond(sim->origin, heads[i / 3]);
        sim_text(sim->origin, "1234");
        sim_leave(sim->origin, errs[i % 3]);
        assert_int_equal(client->life, SIM_RESET);
        assert_false(client->out_ended);
        check_record(sim, 1, 200, ends[i % 3]);
        assert_int_equal(sim_counter(sim, COUNTER_responses_truncated_total), 1);
        sim_free(&sim);
    }
}

static void test_without_content(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request_connected(sim, HEAD_REQUEST);
    sim_respond(sim->origin, OK_5);
    check_answer(client, 200);
    assert_int_equal(client->out_len, 5); // the length is told all the same
    assert_int_equal(client->out_body, BODY_NONE);
    assert_int_equal(sim->origin->life, SIM_RELEASED);

    client = sim_request_connected(sim, GET);
    sim_respond(sim->origin,
                "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 7\r\n\r\n");
    check_answer(client, 304);
    assert_int_equal(client->out_len, 7);
    assert_true(sim_has_field(client, "ETag: \"a\""));

    client = sim_request_connected(sim, GET);
    sim_respond(sim->origin, "HTTP/1.1 204 No Content\r\n\r\n");
    check_answer(client, 204);
    assert_int_equal(client->out_body, BODY_NONE);
    sim_free(&sim);
}

static void test_informational(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request_connected(sim, GET);
    sim_respond(sim->origin, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
    sim_respond(sim->origin, "HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n");
    assert_int_equal(client->infos, 2);
    assert_int_equal(client->status, 0);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    check_record(sim, 1, 200, "done");
    sim_free(&sim);
}

static void test_trailers(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    for (unsigned wanted = 0; wanted < 2; wanted++) {
        struct sim_stream *client = sim_request_connected(
            sim,
            wanted ? "GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: trailers\r\n\r\n" : GET);
        sim_respond(sim->origin, OK_CHUNKED);
        sim_end_with_trailer(sim->origin, "X-Sum", "2");
        check_answer(client, 200);
        assert_int_equal(client->trailers, wanted);
    }
    sim_free(&sim);
}

// A head that does not fit into a transaction's memory, and one that leaves no room for another.
static void test_huge_heads(void **state)
{
    (void)state;
    static const size_t sizes[] = {TXN_ARENA_MAX + 10, TXN_ARENA_MAX - 60000,
                                   TXN_ARENA_MAX / 2 + 9};
    for (size_t i = 0; i < 3; i++) {
        struct sim *sim = sim_new(1);
        char *text = malloc(sizes[i] + 200);
        assert_non_null(text);
        int len = snprintf(text, 200, "GET / HTTP/1.1\r\nHost: a\r\nVia: ");
        memset(text + len, 'v', sizes[i]);
        memcpy(text + len + sizes[i], "\r\n\r\n", 5);
        struct sim_stream *client = sim_request(sim, text);
        if (client->life == SIM_LIVE) {
            sim_connected(sim->origin);
        }
        check_answer(client, 500);
        check_record(sim, 1, 500, "no_memory");
        assert_int_equal(sim_counter(sim, COUNTER_arena_overflows_total), 1);
        free(text);
        sim_free(&sim);
    }
}

static void test_huge_answer(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    size_t size = TXN_ARENA_MAX + 10;
    char *text = malloc(size + 200);
    assert_non_null(text);
    int len = snprintf(text, 200, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nVia: ");
    memset(text + len, 'v', size);
    memcpy(text + len + size, "\r\n\r\n", 5);
    struct sim_stream *client = sim_request_connected(sim, GET);
    sim_respond(sim->origin, text);
    check_answer(client, 500);
    assert_int_equal(sim->origin->life, SIM_RESET);
    check_record(sim, 1, 500, "no_memory");
    free(text);
    sim_free(&sim);
}

// The newest version of the route is used when the body is here, and held until the end.
static void test_route_changes_while_buffering(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    sim_rules(sim)->buffer_request = 100;
    struct sim_stream *client = sim_request(sim, PUT_CHUNKED);
    sim_swap_route(sim, 1);
    sim_end(client);
    sim_connected(sim->origin);
    sim_swap_route(sim, 1);
    assert_int_equal(sim->routes_freed, 0);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    assert_int_equal(sim->routes_freed, 2);
    sim_free(&sim);
}

// The protocol is known only when the connection stands; the body came before.
static void test_another_stream_when_connected(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request(sim, PUT_10);
    sim_text(client, "01234");
    struct sim_stream *origin = sim_connected_anew(sim->origin);
    sim_text(client, "56789");
    sim_end(client);
    assert_string_equal(sim_body(origin), "0123456789");
    assert_true(origin->out_ended);
    sim_respond(origin, OK_5);
    sim_text(origin, "12345");
    sim_end(origin);
    check_answer(client, 200);
    assert_int_equal(origin->life, SIM_RELEASED);
    sim_check_idle(sim);
    sim_free(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams_both_ways),
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_early_answer_to_a_paused_client),
        cmocka_unit_test(test_buffered),
        cmocka_unit_test(test_buffered_over_the_bound),
        cmocka_unit_test(test_expect),
        cmocka_unit_test(test_client_that_reads_slowly),
        cmocka_unit_test(test_origin_that_reads_slowly),
        cmocka_unit_test(test_full_before_a_retry),
        cmocka_unit_test(test_body_limit),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_without_content),
        cmocka_unit_test(test_informational),
        cmocka_unit_test(test_trailers),
        cmocka_unit_test(test_huge_heads),
        cmocka_unit_test(test_huge_answer),
        cmocka_unit_test(test_route_changes_while_buffering),
        cmocka_unit_test(test_another_stream_when_connected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
