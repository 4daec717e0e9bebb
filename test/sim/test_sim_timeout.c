// SPDX-License-Identifier: MIT
// Each deadline of a transaction: what it counts, what renews it, and whose fault it is.
#include "sim/sim_check.h"

enum { CONNECT_MS = 1000, RESPONSE_MS = 5000, TUNNEL_MS = 20000 };

static void test_connect(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    sim_rules(sim)->retries = 0;
    struct sim_stream *client = sim_request(sim, GET);
    assert_int_equal(sim->last_asked.connect_timeout_ms, CONNECT_MS);
    sim_advance(sim, CONNECT_MS);
    assert_int_equal(client->status, 0);
    sim_advance(sim, 1);
    check_answer(client, 504);
    assert_true(sim_has_field(client, "Proxy-Status: pointsman; error=connection_timeout"));
    check_record(sim, 1, 504, "connect_timeout");
    assert_int_equal(sim_counter(sim, COUNTER_upstream_connect_errors_total), 1);
    sim_free(&sim);
}

static void test_connect_of_each_attempt(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    struct sim_stream *client = sim_request(sim, GET);
    unsigned first = sim->origin->member;
    sim_advance(sim, CONNECT_MS + 1);
    assert_int_equal(sim->origin_count, 2);
    assert_int_not_equal(sim->origin->member, first);
    sim_advance(sim, CONNECT_MS + 1);
    check_answer(client, 504);
    check_record(sim, 1, 504, "connect_timeout");
    assert_int_equal(sim->last.retries, 1);
    sim_free(&sim);
}

static void test_response(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    struct sim_stream *client = sim_request(sim, GET);
    sim_advance(sim, CONNECT_MS / 2);
    sim_connected(sim->origin);
    struct sim_stream *origin = sim->origin;
    sim_advance(sim, RESPONSE_MS);
    assert_int_equal(client->status, 0);
    sim_advance(sim, 2);
    check_answer(client, 504); // not sent again: the target may be at work on it
    check_record(sim, 1, 504, "origin_timeout");
    assert_int_equal(origin->life, SIM_RESET);
    assert_int_equal(sim->origin_count, 1);
    sim_free(&sim);
}

static void test_response_on_next_target(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    sim_rules(sim)->retry_on |= RETRY_TIMEOUT;
    struct sim_stream *client = sim_request_connected(sim, GET);
    sim_advance(sim, RESPONSE_MS + 2);
    assert_int_equal(sim->origin_count, 2);
    sim_connected(sim->origin);
    sim_advance(sim, RESPONSE_MS - 2); // a time of its own
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    check_record(sim, 1, 200, "done");
    sim_free(&sim);
}

static void test_route_over_configuration(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    sim_rules(sim)->retries = 0;
    sim_rules(sim)->timeouts = (struct timeouts_decl){.connect_ms = 50, .response_ms = 100};
    struct sim_stream *client = sim_request(sim, GET);
    sim_advance(sim, 52);
    check_answer(client, 504);
    client = sim_request_connected(sim, GET);
    sim_advance(sim, 102);
    check_answer(client, 504);
    check_record(sim, 2, 504, "origin_timeout");
    sim_free(&sim);
}

static void test_informational_is_no_progress(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request_connected(sim, GET);
    for (int i = 0; i < 5; i++) {
        sim_advance(sim, RESPONSE_MS / 5);
        sim_respond(sim->origin, "HTTP/1.1 102 Processing\r\n\r\n");
    }
    sim_advance(sim, 2);
    check_answer(client, 504);
    assert_int_equal(client->infos, 5);
    sim_free(&sim);
}

static void test_between_bytes(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request_connected(sim, GET);
    sim_advance(sim, RESPONSE_MS - 1);
    sim_respond(sim->origin, OK_CHUNKED);
    for (int i = 0; i < 3; i++) {
        sim_advance(sim, RESPONSE_MS - 1);
        sim_text(sim->origin, "x");
    }
    sim_advance(sim, RESPONSE_MS);
    assert_int_equal(client->life, SIM_LIVE);
    sim_advance(sim, 2);
    assert_int_equal(client->life, SIM_RESET); // visibly not complete
    assert_false(client->out_ended);
    assert_int_equal(sim->origin->life, SIM_RESET);
    check_record(sim, 1, 200, "origin_timeout");
    assert_int_equal(sim_counter(sim, COUNTER_responses_truncated_total), 1);
    sim_free(&sim);
}

// timeouts.idle is the time between two pieces of a response, not that to its head.
static void test_between_bytes_of_its_own(void **state)
{
    (void)state;
    for (unsigned idle_ms = 100; idle_ms <= 2 * RESPONSE_MS; idle_ms += 2 * RESPONSE_MS - 100) {
        struct sim *sim = sim_new(1);
        sim_rules(sim)->timeouts.idle_ms = idle_ms;
        struct sim_stream *client = sim_request_connected(sim, GET);
        sim_advance(sim, RESPONSE_MS - 1);
        sim_respond(sim->origin, OK_CHUNKED);
        sim_advance(sim, idle_ms - 1);
        sim_text(sim->origin, "x");
        sim_advance(sim, idle_ms - 1);
        assert_int_equal(client->life, SIM_LIVE);
        sim_advance(sim, 3);
        assert_int_equal(client->life, SIM_RESET);
        check_record(sim, 1, 200, "origin_timeout");
        sim_free(&sim);
    }
}

static void test_slow_upload_is_the_clients(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request_connected(sim, POST_10);
    sim_advance(sim, 3 * RESPONSE_MS);
    sim_text(client, "12345");
    sim_advance(sim, 3 * RESPONSE_MS);
    sim_text(client, "67890");
    sim_end(client);
    sim_advance(sim, RESPONSE_MS - 1);
    assert_int_equal(client->status, 0);
    sim_advance(sim, 3);
    check_answer(client, 504);
    sim_free(&sim);
}

// The same when the target has begun to answer: it may wait for the rest of the body.
static void test_slow_upload_with_early_head(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request_connected(sim, POST_10);
    sim_respond(sim->origin, OK_CHUNKED);
    sim_advance(sim, 3 * RESPONSE_MS);
    assert_int_equal(client->life, SIM_LIVE);
    sim_text(client, "1234567890");
    sim_end(client);
    sim_advance(sim, RESPONSE_MS - 1);
    assert_int_equal(client->life, SIM_LIVE);
    sim_advance(sim, RESPONSE_MS);
    assert_int_equal(client->life, SIM_RESET);
    check_record(sim, 1, 200, "origin_timeout");
    sim_free(&sim);
}

static void test_slow_reader_is_the_clients(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    sim->window = 1000;
    struct sim_stream *client = sim_request_connected(sim, GET);
    sim->origin->window = 0;
    sim_respond(sim->origin, OK_CHUNKED);
    sim_fill(sim->origin, HTTP_AHEAD_LEN + 2000);
    assert_true(sim->origin->is_paused);
    sim_advance(sim, 10 * RESPONSE_MS);
    assert_int_equal(client->life, SIM_LIVE);
    sim_read(client);
    assert_false(sim->origin->is_paused);
    sim_advance(sim, RESPONSE_MS - 1);
    assert_int_equal(client->life, SIM_LIVE);
    sim_advance(sim, RESPONSE_MS + 2); // now it is the target's turn
    assert_int_equal(client->life, SIM_RESET);
    check_record(sim, 1, 200, "origin_timeout");
    sim_free(&sim);
}

static void test_origin_that_does_not_read(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request(sim, PUT_CHUNKED);
    sim->origin->window = 1000;
    sim_connected(sim->origin);
    sim_fill(client, HTTP_AHEAD_LEN + 2000);
    assert_true(client->is_paused);
    sim_advance(sim, RESPONSE_MS + 2);
    check_answer(client, 504);
    assert_false(client->is_paused); // the rest is read and dropped
    check_record(sim, 1, 504, "origin_timeout");
    sim_free(&sim);
}

static struct sim_stream *open_tunnel(struct sim *sim)
{
    struct sim_stream *client = sim_request_connected(sim, UPGRADE);
    sim_respond(sim->origin, SWITCH);
    assert_true(client->is_tunnel && sim->origin->is_tunnel);
    return client;
}

static void test_tunnel_idle(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = open_tunnel(sim);
    sim_advance(sim, TUNNEL_MS - 1);
    sim_text(client, "ping");
    sim_advance(sim, TUNNEL_MS - 1);
    sim_text(sim->origin, "pong");
    sim_advance(sim, TUNNEL_MS - 1);
    assert_int_equal(client->life, SIM_LIVE);
    sim_advance(sim, 3);
    assert_int_equal(client->life, SIM_RESET);
    assert_int_equal(sim->origin->life, SIM_RESET);
    check_record(sim, 1, 101, "tunnel_idle");
    assert_int_equal(sim_counter(sim, COUNTER_responses_truncated_total), 0);
    sim_free(&sim);
}

// A peer that takes nothing is idle, whoever it is.
static void test_tunnel_with_a_stuck_peer(void **state)
{
    (void)state;
    for (int client_is_stuck = 0; client_is_stuck < 2; client_is_stuck++) {
        struct sim *sim = sim_new(1);
        struct sim_stream *client = open_tunnel(sim);
        struct sim_stream *stuck = client_is_stuck ? client : sim->origin;
        struct sim_stream *other = client_is_stuck ? sim->origin : client;
        stuck->window = 1000;
        sim_fill(other, HTTP_AHEAD_LEN + 2000);
        assert_true(other->is_paused);
        sim_advance(sim, TUNNEL_MS - 1);
        assert_int_equal(client->life, SIM_LIVE);
        sim_advance(sim, TUNNEL_MS + 3);
        assert_int_equal(client->life, SIM_RESET);
        check_record(sim, 1, 101, "tunnel_idle");
        sim_free(&sim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connect),
        cmocka_unit_test(test_connect_of_each_attempt),
        cmocka_unit_test(test_response),
        cmocka_unit_test(test_response_on_next_target),
        cmocka_unit_test(test_route_over_configuration),
        cmocka_unit_test(test_informational_is_no_progress),
        cmocka_unit_test(test_between_bytes),
        cmocka_unit_test(test_between_bytes_of_its_own),
        cmocka_unit_test(test_slow_upload_is_the_clients),
        cmocka_unit_test(test_slow_upload_with_early_head),
        cmocka_unit_test(test_slow_reader_is_the_clients),
        cmocka_unit_test(test_origin_that_does_not_read),
        cmocka_unit_test(test_tunnel_idle),
        cmocka_unit_test(test_tunnel_with_a_stuck_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
