// SPDX-License-Identifier: MIT
// When a request is sent again, where to, with what body; and what is answered when it is not.
#include "sim/sim_check.h"

static void test_refused_then_next(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    struct sim_stream *client = sim_request(sim, POST_EMPTY); // nothing was sent: any method
    unsigned first = sim->origin->member;
    sim_leave(sim->origin, ERR_CLOSED);
    assert_int_equal(sim->origin_count, 2);
    assert_int_not_equal(sim->origin->member, first);
    sim_connected(sim->origin);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    check_record(sim, 1, 200, "done");
    assert_int_equal(sim->last.retries, 1);
    assert_int_equal(sim_counter(sim, COUNTER_upstream_retries_total), 1);
    sim_free(&sim);
}

static void test_refused_at_once(void **state)
{
    (void)state;
    struct sim *sim = sim_new(3);
    sim->refuses_at_once = true;
    sim_rules(sim)->retries = 2;
    struct sim_stream *client = sim_request(sim, GET);
    check_answer(client, 502);
    assert_true(sim_has_field(client, "Proxy-Status: pointsman; error=connection_refused"));
    check_record(sim, 1, 502, "connect_failed");
    assert_int_equal(sim->last.retries, 2);
    assert_int_equal(sim_counter(sim, COUNTER_upstream_connect_errors_total), 3);
    sim_free(&sim);
}

static void test_exhausted(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    sim_rules(sim)->retries = 5; // more than there are targets
    struct sim_stream *client = sim_request(sim, GET);
    sim_leave(sim->origin, ERR_CLOSED);
    sim_leave(sim->origin, ERR_CLOSED);
    check_answer(client, 502);
    assert_int_equal(sim->origin_count, 2);
    check_record(sim, 1, 502, "connect_failed");
    sim_free(&sim);
}

static void test_no_target(void **state)
{
    (void)state;
    struct sim *sim = sim_new(0);
    struct sim_stream *client = sim_request(sim, GET);
    check_answer(client, 503);
    check_record(sim, 1, 503, "no_target");
    assert_int_equal(sim_counter(sim, COUNTER_no_target_total), 1);
    sim_free(&sim);
}

// Closed before the first byte of an answer: retry_on "reset" and an idempotent method.
static void test_reset_before_answer(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        unsigned retry_on;
        bool again;
    } cases[] = {
        {GET, RETRY_RESET, true},
        {GET, RETRY_CONNECT | RETRY_TIMEOUT | RETRY_502, false},
        {GET, 0, false},
        {HEAD_REQUEST, RETRY_RESET, true},
        {POST_EMPTY, RETRY_RESET, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sim *sim = sim_new(2);
        sim_rules(sim)->retry_on = cases[i].retry_on;
        struct sim_stream *client = sim_request_connected(sim, cases[i].request);
        sim_leave(sim->origin, ERR_CLOSED);
        assert_int_equal(sim->origin_count, cases[i].again ? 2 : 1);
        if (cases[i].again) {
            sim_connected(sim->origin);
            sim_respond(sim->origin, OK_EMPTY);
            check_answer(client, 200);
        } else {
            check_answer(client, 502);
            check_record(sim, 1, 502, "origin_closed");
        }
        sim_free(&sim);
    }
}

static void test_part_of_an_answer(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    struct sim_stream *client = sim_request_connected(sim, GET);
    sim->origin->stream.bytes_in = 5; // "HTTP/" came
    sim_leave(sim->origin, ERR_CLOSED);
    assert_int_equal(sim->origin_count, 1);
    check_answer(client, 502);
    check_record(sim, 1, 502, "origin_closed");
    sim_free(&sim);
}

static void test_malformed_answer(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    struct sim_stream *client = sim_request_connected(sim, GET);
    sim_leave(sim->origin, ERR_LENGTH_DIFFERS);
    assert_int_equal(sim->origin_count, 1);
    check_answer(client, 502);
    check_record(sim, 1, 502, "origin_bad_response");
    sim_free(&sim);
}

static void test_status(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    sim_rules(sim)->retry_on = RETRY_503;
    struct sim_stream *client = sim_request_connected(sim, GET);
    struct sim_stream *first = sim->origin;
    sim_respond(first, UNAVAILABLE);
    assert_int_equal(first->life, SIM_RESET);
    assert_int_equal(sim->origin_count, 2);
    sim_connected(sim->origin);
    sim_respond(sim->origin, UNAVAILABLE); // the last one's answer is the client's
    check_answer(client, 503);
    check_record(sim, 1, 503, "done");
    assert_int_equal(sim->last.retries, 1);
    assert_false(sim_has_field(client, "Proxy-Status: pointsman; error=connection_terminated"));

    client = sim_request_connected(sim, POST_EMPTY); // not idempotent
    sim_respond(sim->origin, UNAVAILABLE);
    check_answer(client, 503);
    assert_int_equal(sim->origin_count, 3);
    sim_free(&sim);
}

// With one target alone: an answer may be better the second time, a refused connection may not.
static void test_status_of_a_single_target(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    sim_rules(sim)->retry_on = RETRY_502;
    struct sim_stream *client = sim_request_connected(sim, GET);
    sim_respond(sim->origin, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(sim->origin_count, 2);
    sim_connected(sim->origin);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    check_record(sim, 1, 200, "done");
    sim_free(&sim);
}

static void test_body_is_sent_again(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    struct sim_stream *client = sim_request(sim, PUT_CHUNKED);
    sim_text(client, "one "); // before there is a connection
    sim_connected(sim->origin);
    sim_text(client, "two ");
    assert_string_equal(sim_body(sim->origin), "one two ");
    sim_leave(sim->origin, ERR_CLOSED);
    sim_text(client, "three");
    sim_connected(sim->origin);
    assert_string_equal(sim_body(sim->origin), "one two three");
    assert_int_equal(sim->origin->out_body, BODY_CHUNKED);
    sim_end_with_trailer(client, "X-Sum", "1");
    assert_true(sim->origin->out_ended);
    assert_int_equal(sim->origin->trailers, 1);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    sim_free(&sim);
}

// All of a chunked body is here: its length is told.
static void test_complete_body_is_sent_again(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    struct sim_stream *client = sim_request_connected(sim, PUT_CHUNKED);
    sim_text(client, "whole");
    sim_end(client);
    sim_leave(sim->origin, ERR_CLOSED);
    sim_connected(sim->origin);
    assert_int_equal(sim->origin->out_body, BODY_LENGTH);
    assert_int_equal(sim->origin->out_len, 5);
    assert_string_equal(sim_body(sim->origin), "whole");
    assert_true(sim->origin->out_ended);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    sim_free(&sim);
}

static void test_body_over_the_bound(void **state)
{
    (void)state;
    for (int over = 0; over < 2; over++) {
        struct sim *sim = sim_new(2);
        struct sim_stream *client = sim_request_connected(sim, PUT_CHUNKED);
        sim_fill(client, TXN_KEEP_MAX - 10);
        sim_fill(client, 10u + (unsigned)over);
        sim_leave(sim->origin, ERR_CLOSED);
        if (over) {
            check_answer(client, 502);
            assert_int_equal(sim->origin_count, 1);
        } else {
            sim_connected(sim->origin);
            assert_int_equal(sim->origin->out_at, TXN_KEEP_MAX);
            sim_end(client);
            sim_respond(sim->origin, OK_EMPTY);
            check_answer(client, 200);
        }
        sim_free(&sim);
    }
}

// A kept connection that the target had closed: the same request on a new one, not counted.
static void test_stale(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    sim->reuses = true;
    sim_rules(sim)->retries = 0;
    struct sim_stream *client = sim_request(sim, PUT_10);
    struct sim_stream *first = sim->origin;
    assert_true(first->out_head);
    sim_text(client, "12345");
    sim_leave(first, ERR_CLOSED);
    assert_ptr_not_equal(sim->origin, first);
    assert_true(sim->last_asked.fresh);
    sim_text(client, "67890");
    sim_end(client);
    sim_connected(sim->origin);
    assert_string_equal(sim_body(sim->origin), "1234567890");
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    check_record(sim, 1, 200, "done");
    assert_int_equal(sim->last.retries, 0);
    assert_int_equal(sim_counter(sim, COUNTER_upstream_retries_total), 0);
    assert_int_equal(sim_counter(sim, COUNTER_upstream_reuses_total), 1);
    sim_free(&sim);
}

static void test_stale_and_fresh_fails(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    sim->reuses = true;
    sim_rules(sim)->retries = 0;
    struct sim_stream *client = sim_request(sim, GET);
    sim_leave(sim->origin, ERR_CLOSED);
    sim_connected(sim->origin);
    sim_leave(sim->origin, ERR_CLOSED);
    check_answer(client, 502);
    assert_int_equal(sim->origin_count, 2);
    check_record(sim, 1, 502, "origin_closed");
    sim_free(&sim);
}

// POST may have been done by a target that then closed, unless it cannot have got it.
static void test_stale_post(void **state)
{
    (void)state;
    for (int unsent = 0; unsent < 2; unsent++) {
        struct sim *sim = sim_new(1);
        sim->reuses = true;
        sim->is_unsent = unsent != 0;
        struct sim_stream *client = sim_request(sim, POST_EMPTY);
        assert_true(sim->last_asked.check); // the socket was asked before
        sim_leave(sim->origin, ERR_CLOSED);
        if (unsent) {
            sim_connected(sim->origin);
            sim_respond(sim->origin, OK_EMPTY);
            check_answer(client, 200);
        } else {
            check_answer(client, 502);
            assert_int_equal(sim->origin_count, 1);
        }
        sim_free(&sim);
    }
}

static void test_never_after_the_head(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    sim->reuses = true;
    sim_rules(sim)->retry_on = 63;
    struct sim_stream *client = sim_request(sim, GET);
    sim_respond(sim->origin, OK_5);
    sim_text(sim->origin, "12");
    sim_leave(sim->origin, ERR_CLOSED);
    assert_int_equal(client->life, SIM_RESET);
    assert_int_equal(sim->origin_count, 1);
    check_record(sim, 1, 200, "origin_truncated");
    sim_free(&sim);
}

// The attempt is made by what holds now, not by what held when the request came.
static void test_reads_the_tables_anew(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request(sim, GET);
    sim_swap_route(sim, 3);
    sim_leave(sim->origin, ERR_CLOSED);
    assert_int_equal(sim->origin_count, 2);
    assert_int_not_equal(sim->origin->member, 0);
    sim_swap_route(sim, 1); // the version in between lives on with the request
    assert_int_equal(sim->routes_freed, 0);
    sim_connected(sim->origin);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    assert_int_equal(sim->routes_freed, 2);
    sim_free(&sim);
}

static void test_route_is_gone(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    struct sim_stream *client = sim_request(sim, GET);
    sim_drop_route(sim);
    sim_leave(sim->origin, ERR_CLOSED);
    assert_int_equal(sim->origin_count, 2); // a request keeps the route that it matched
    sim_connected(sim->origin);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    check_record(sim, 1, 200, "done");
    client = sim_request(sim, GET);
    check_answer(client, 404);
    check_record(sim, 2, 404, "no_route");
    sim_free(&sim);
}

static void test_at_most_ten(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    sim_rules(sim)->retries = 10;
    struct sim_stream *client = sim_request(sim, GET);
    for (unsigned i = 1; client->life == SIM_LIVE; i++) {
        assert_int_equal(sim->origin_count, i);
        sim_connected(sim->origin);
        sim_leave(sim->origin, ERR_CLOSED);
    }
    assert_int_equal(sim->origin_count, POOL_TRIED_MAX);
    check_answer(client, 502);
    assert_int_equal(sim->last.retries, 10);
    sim_free(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_then_next),
        cmocka_unit_test(test_refused_at_once),
        cmocka_unit_test(test_exhausted),
        cmocka_unit_test(test_no_target),
        cmocka_unit_test(test_reset_before_answer),
        cmocka_unit_test(test_part_of_an_answer),
        cmocka_unit_test(test_malformed_answer),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_status_of_a_single_target),
        cmocka_unit_test(test_body_is_sent_again),
        cmocka_unit_test(test_complete_body_is_sent_again),
        cmocka_unit_test(test_body_over_the_bound),
        cmocka_unit_test(test_stale),
        cmocka_unit_test(test_stale_and_fresh_fails),
        cmocka_unit_test(test_stale_post),
        cmocka_unit_test(test_never_after_the_head),
        cmocka_unit_test(test_reads_the_tables_anew),
        cmocka_unit_test(test_route_is_gone),
        cmocka_unit_test(test_at_most_ten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
