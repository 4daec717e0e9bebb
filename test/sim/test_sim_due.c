// SPDX-License-Identifier: MIT
// timeouts.request: the whole exchange has a time, whatever it waits for.
#include "sim/sim_check.h"

static struct sim *new_sim(unsigned members)
{
    struct sim *sim = sim_new(members);
    sim_rules(sim)->timeouts.request_ms = 700;
    return sim;
}

static void check_due(struct sim *sim, struct sim_stream *client)
{
    assert_int_equal(client->life, SIM_LIVE);
    sim_advance(sim, 10);
    check_answer(client, 504);
    assert_string_equal(sim->last.end, "request_timeout");
    assert_true(sim_has_field(client, "Proxy-Status: pointsman; error=http_response_timeout"));
    assert_int_equal(sim_inflight(sim), 0);
    sim_check_idle(sim);
    sim_free(&sim);
}

static void test_while_connecting(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1);
    struct sim_stream *client = sim_request(sim, GET);
    sim_advance(sim, 698);
    check_due(sim, client);
}

static void test_while_the_target_thinks(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1);
    sim_settings(sim)->passive.max_fails = 1;
    sim_settings(sim)->passive.fail_timeout_ms = 10000;
    struct sim_stream *client = sim_request_connected(sim, GET);
    sim_advance(sim, 698);
    assert_int_equal(sim->report_count, 0);
    sim_advance(sim, 10);
    assert_int_equal(sim->report_count, 1); // it had the request all the time
    check_answer(client, 504);
    sim_free(&sim);
}

// Not from the attempt on, but from the request's arrival.
static void test_over_attempts(void **state)
{
    (void)state;
    struct sim *sim = new_sim(2);
    struct sim_stream *client = sim_request(sim, GET);
    sim_advance(sim, 400);
    sim_leave(sim->origin, ERR_CLOSED);
    sim_advance(sim, 200);
    sim_connected(sim->origin);
    sim_advance(sim, 98);
    check_due(sim, client);
}

static void test_in_the_queue(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    sim_make_queue(sim, 10);
    sim_request_connected(sim, GET);
    sim_rules(sim)->timeouts.request_ms = 700;
    struct sim_stream *client = sim_request(sim, GET);
    sim_advance(sim, 698);
    assert_int_equal(client->life, SIM_LIVE);
    sim_advance(sim, 10);
    check_answer(client, 504);
    assert_int_equal(sim_counter(sim, COUNTER_queue_timeouts_total), 0);
    sim_respond(sim->origin, OK_EMPTY);
    sim_advance(sim, 1);
    sim_check_idle(sim);
    sim_free(&sim);
}

static void test_while_the_body_is_awaited(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1);
    sim_rules(sim)->buffer_request = 1000;
    struct sim_stream *client = sim_request(sim, PUT_10);
    sim_advance(sim, 698);
    assert_int_equal(sim->origin_count, 0);
    check_due(sim, client);
}

// What has begun can only be cut.
static void test_while_delivering(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1);
    struct sim_stream *client = sim_request_connected(sim, GET);
    sim_respond(sim->origin, OK_CHUNKED);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(client->life, SIM_LIVE);
        sim_text(sim->origin, "more");
        sim_advance(sim, 100);
    }
    sim_advance(sim, 5);
    assert_int_equal(client->life, SIM_RESET);
    check_record(sim, 1, 200, "request_timeout");
    sim_check_idle(sim);
    sim_free(&sim);
}

static void test_tunnels_are_exempt(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1);
    struct sim_stream *client = sim_request_connected(sim, UPGRADE);
    sim_respond(sim->origin, SWITCH);
    sim_advance(sim, 2000);
    assert_int_equal(client->life, SIM_LIVE);
    sim_leave(client, ERR_CLOSED);
    sim_free(&sim);
}

// Route over pool over configuration.
static void test_levels(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct sim *sim = sim_new(1);
        sim->config.timeouts.request_ms = 500;
        sim_settings(sim)->timeouts.request_ms = i > 0 ? 300 : 0;
        sim_rules(sim)->timeouts.request_ms = i > 1 ? 800 : 0;
        static const unsigned limits[] = {500, 300, 800};
        struct sim_stream *client = sim_request_connected(sim, GET);
        sim_advance(sim, limits[i] - 2);
        check_due(sim, client);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_while_connecting),
        cmocka_unit_test(test_while_the_target_thinks),
        cmocka_unit_test(test_over_attempts),
        cmocka_unit_test(test_in_the_queue),
        cmocka_unit_test(test_while_the_body_is_awaited),
        cmocka_unit_test(test_while_delivering),
        cmocka_unit_test(test_tunnels_are_exempt),
        cmocka_unit_test(test_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
