// SPDX-License-Identifier: MIT
// Connections that are passed through: bytes and FIN both ways, targets that fail, each way to end.
#include "sim/sim_check.h"

static struct sim *new_sim(unsigned members)
{
    struct sim *sim = sim_new(members);
    sim_route(sim)->is_passthrough = true;
    return sim;
}

static struct sim_stream *open_raw(struct sim *sim)
{
    struct sim_stream *client = sim_raw(sim, "raw.example", "hello");
    assert_int_equal(sim->origin->life, SIM_CONNECTING);
    sim_connected(sim->origin);
    assert_true(sim->origin->is_tunnel);
    return client;
}

static void test_bytes_both_ways(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1);
    struct sim_stream *client = sim_raw(sim, "raw.example", "first,");
    sim_text(client, "second,"); // before there is a connection
    sim_connected(sim->origin);
    assert_string_equal(sim_body(sim->origin), "first,second,");
    sim_advance(sim, 1);
    assert_int_equal(sim->proxy->keep_slab.live_count, 0);
    sim_text(client, "third");
    sim_text(sim->origin, "answer");
    assert_string_equal(sim_body(sim->origin), "first,second,third");
    assert_string_equal(sim_body(client), "answer");
    assert_int_equal(atomic_load(&sim->stats->tunnels), 1);
    assert_int_equal(sim_counter(sim, COUNTER_passthrough_total), 1);
    assert_int_equal(sim_counter(sim, COUNTER_requests_total), 0);
    sim_end(client);
    assert_true(sim->origin->out_ended);
    sim_text(sim->origin, "!");
    sim_end(sim->origin);
    assert_int_equal(client->life, SIM_SENT);
    assert_int_equal(sim->origin->life, SIM_RELEASED);
    check_record(sim, 1, 0, "tunnel_closed");
    assert_string_equal(sim->last.host, "raw.example");
    assert_string_equal(sim->last.target, "10.0.0.1:8000");
    sim_check_idle(sim);
    sim_free(&sim);
}

static void test_client_ends_before_the_target_is_there(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1);
    struct sim_stream *client = sim_raw(sim, "raw.example", "all");
    sim_end(client);
    sim_connected(sim->origin);
    assert_string_equal(sim_body(sim->origin), "all");
    assert_true(sim->origin->out_ended);
    sim_end(sim->origin);
    assert_int_equal(client->life, SIM_SENT);
    sim_free(&sim);
}

static void test_backpressure(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1);
    struct sim_stream *client = open_raw(sim);
    struct sim_stream *origin = sim->origin;
    client->window = origin->window = 10;
    sim_fill(client, HTTP_AHEAD_LEN + 20);
    assert_true(client->is_paused);
    sim_read(origin);
    assert_false(client->is_paused);
    sim_fill(origin, HTTP_AHEAD_LEN + 20);
    assert_true(origin->is_paused);
    sim_read(client);
    assert_false(origin->is_paused);
    sim_free(&sim);
}

// A client that sends much before there is a target waits.
static void test_early_bytes_are_bounded(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1);
    struct sim_stream *client = sim_raw(sim, "raw.example", "x");
    sim_fill(client, 70000);
    assert_true(client->is_paused);
    sim_connected(sim->origin);
    assert_int_equal(sim->origin->body.len, 70001);
    sim_read(sim->origin);
    assert_false(client->is_paused);
    sim_free(&sim);
}

static void check_refused(const struct sim *sim, struct sim_stream *client, const char *end)
{
    static const char alert[] = {0x15, 3, 3, 0, 2, 2, 80};
    assert_int_equal(client->body.len, sizeof alert);
    assert_memory_equal(client->body.p, alert, sizeof alert);
    assert_true(client->out_ended);
    assert_int_equal(client->life, SIM_LIVE);
    sim_end(client);
    assert_int_equal(client->life, SIM_SENT);
    check_record(sim, 1, 0, end);
}

static void test_targets_that_fail(void **state)
{
    (void)state;
    struct sim *sim = new_sim(2);
    struct sim_stream *client = sim_raw(sim, "raw.example", "hello");
    sim_leave(sim->origin, ERR_CLOSED);
    assert_int_equal(sim->origin_count, 2);
    sim_connected(sim->origin);
    assert_string_equal(sim_body(sim->origin), "hello");
    sim_leave(client, ERR_CLOSED);
    check_record(sim, 1, 0, "tunnel_closed");
    assert_int_equal(sim->last.retries, 1);
    sim_free(&sim);

    sim = new_sim(2);
    client = sim_raw(sim, "raw.example", "hello");
    sim_leave(sim->origin, ERR_CLOSED);
    sim_advance(sim, 1001); // the second one does not answer
    check_refused(sim, client, "connect_timeout");
    sim_free(&sim);

    sim = new_sim(2);
    sim->refuses_at_once = true;
    client = sim_raw(sim, "raw.example", "hello");
    assert_int_equal(sim_counter(sim, COUNTER_upstream_connect_errors_total), 2);
    check_refused(sim, client, "connect_failed");
    sim_free(&sim);

    sim = new_sim(0);
    client = sim_raw(sim, "raw.example", "hello");
    assert_int_equal(sim_counter(sim, COUNTER_no_target_total), 1);
    check_refused(sim, client, "no_target");
    sim_free(&sim);
}

// Who does not take the farewell is cut.
static void test_refused_client_that_stays(void **state)
{
    (void)state;
    struct sim *sim = new_sim(0);
    struct sim_stream *client = sim_raw(sim, "raw.example", "hello");
    sim_text(client, "more");
    sim_advance(sim, 2100);
    assert_int_equal(client->life, SIM_RESET);
    check_record(sim, 1, 0, "no_target");
    sim_check_idle(sim);
    sim_free(&sim);
}

static void test_ends(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        static const char *const ends[] = {"tunnel_closed", "tunnel_closed", "tunnel_idle",
                                           "cut",           "stopped",       "client_left"};
        struct sim *sim = new_sim(1);
        struct sim_stream *client = i == 5 ? sim_raw(sim, "raw.example", "x") : open_raw(sim);
        switch (i) {
        case 0:
        case 5:
            sim_leave(client, ERR_CLOSED);
            break;
        case 1:
            sim_leave(sim->origin, ERR_CLOSED);
            break;
        case 2:
            sim_advance(sim, 15000);
            sim_text(client, "still here");
            sim_advance(sim, 19000);
            assert_int_equal(client->life, SIM_LIVE);
            sim_advance(sim, 2000);
            break;
        case 3:
            atomic_store(&sim->members[0]->cut, 1);
            proxy_cut(sim->proxy);
            sim_after_event(sim);
            assert_int_equal(sim_counter(sim, COUNTER_tunnels_cut_total), 1);
            break;
        default:
            proxy_drain(sim->proxy, 100);
            assert_int_equal(client->life, SIM_LIVE);
            sim_advance(sim, 101);
        }
        assert_false(sim_is_live(client));
        assert_false(sim_is_live(sim->origin));
        check_record(sim, 1, 0, ends[i]);
        sim_check_idle(sim);
        sim_free(&sim);
    }
}

// A change of the route concerns the next connection, and the next attempt.
static void test_route_changes(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1);
    struct sim_stream *client = open_raw(sim);
    sim_drop_route(sim);
    sim_text(client, "on");
    assert_string_equal(sim_body(sim->origin), "helloon");
    sim_leave(client, ERR_CLOSED);
    assert_int_equal(sim->routes_freed, 1);
    sim_free(&sim);

    sim = new_sim(2);
    client = sim_raw(sim, "raw.example", "hello");
    sim_drop_route(sim);
    sim_leave(sim->origin, ERR_CLOSED);
    check_refused(sim, client, "connect_failed");
    sim_free(&sim);
}

static void test_denied(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1);
    struct cidr deny = {.bits = 0};
    sim_rules(sim)->deny = &deny;
    sim_rules(sim)->deny_count = 1;
    struct sim_stream *client = sim_raw(sim, "raw.example", "hello");
    check_refused(sim, client, "denied");
    sim_free(&sim);
}

// Such a host has no HTTP for anybody.
static void test_requests_to_such_a_host(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1);
    check_answer(sim_request(sim, GET), 404);
    struct tls tls = sim_handshake(sim, "shop.example.com");
    sim->tls.client = &tls;
    check_answer(sim_request(sim, GET), 421);
    assert_int_equal(sim->origin_count, 0);
    sim_free(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_both_ways),
        cmocka_unit_test(test_client_ends_before_the_target_is_there),
        cmocka_unit_test(test_backpressure),
        cmocka_unit_test(test_early_bytes_are_bounded),
        cmocka_unit_test(test_targets_that_fail),
        cmocka_unit_test(test_refused_client_that_stays),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_route_changes),
        cmocka_unit_test(test_denied),
        cmocka_unit_test(test_requests_to_such_a_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
