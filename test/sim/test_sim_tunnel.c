// SPDX-License-Identifier: MIT
// Upgrades: who may switch, bytes and FIN in both directions and every order, ends.
#include "sim/sim_check.h"

static struct sim_stream *open_tunnel(struct sim *sim)
{
    struct sim_stream *client = sim_request_connected(sim, UPGRADE);
    assert_true(sim->origin->out_upgrade);
    assert_true(sim_has_field(sim->origin, "Upgrade: websocket"));
    sim_respond(sim->origin, SWITCH);
    assert_int_equal(client->status, 101);
    assert_true(sim_has_field(client, "Upgrade: websocket"));
    assert_true(client->is_tunnel && sim->origin->is_tunnel);
    return client;
}

static void test_bytes_both_ways(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = open_tunnel(sim);
    assert_int_equal(atomic_load(&sim->stats->tunnels), 1);
    sim_text(client, "hello");
    sim_text(sim->origin, "world");
    assert_string_equal(sim_body(sim->origin), "hello");
    assert_string_equal(sim_body(client), "world");
    assert_int_equal(sim_inflight(sim), 1);
    sim_free(&sim);
}

static void test_fin_of_client_first(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = open_tunnel(sim);
    struct sim_stream *origin = sim->origin;
    sim_text(client, "bye");
    sim_end(client);
    assert_true(origin->out_ended);
    assert_int_equal(client->life, SIM_LIVE);
    sim_text(origin, "last words"); // the other direction goes on
    sim_end(origin);
    assert_int_equal(client->life, SIM_SENT);
    assert_string_equal(sim_body(client), "last words");
    assert_false(sim_is_live(origin));
    check_record(sim, 1, 101, "tunnel_closed");
    assert_int_equal(atomic_load(&sim->stats->tunnels), 0);
    sim_free(&sim);
}

static void test_fin_of_origin_first(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = open_tunnel(sim);
    struct sim_stream *origin = sim->origin;
    sim_end(origin);
    assert_true(client->out_ended);
    assert_int_equal(client->life, SIM_LIVE);
    sim_text(client, "still here");
    assert_string_equal(sim_body(origin), "still here");
    sim_end(client);
    assert_int_equal(client->life, SIM_SENT);
    assert_true(origin->out_ended);
    check_record(sim, 1, 101, "tunnel_closed");
    sim_free(&sim);
}

// Both FINs while the client has not taken all: the end waits for it.
static void test_fin_behind_a_queue(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = open_tunnel(sim);
    client->window = 2;
    sim_text(sim->origin, "12345");
    sim_end(sim->origin);
    sim_end(client);
    assert_int_equal(client->life, SIM_LIVE);
    sim_read(client);
    assert_int_equal(client->life, SIM_SENT);
    check_record(sim, 1, 101, "tunnel_closed");
    sim_free(&sim);
}

static void test_one_side_is_gone(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        bool client_leaves = i & 1;
        struct sim *sim = sim_new(1);
        struct sim_stream *client = open_tunnel(sim);
        struct sim_stream *origin = sim->origin;
        if (i & 2) {
            sim_end(client);
        }
        if (i & 4 && !(i & 2)) {
            sim_end(origin);
        }
        sim_leave(client_leaves ? client : origin, ERR_CLOSED);
        assert_int_equal(client_leaves ? origin->life : client->life, SIM_RESET);
        check_record(sim, 1, 101, "tunnel_closed");
        assert_int_equal(sim_counter(sim, COUNTER_client_gone_total), 0);
        assert_int_equal(sim_counter(sim, COUNTER_responses_truncated_total), 0);
        sim_check_idle(sim);
        sim_free(&sim);
    }
}

static void test_backpressure(void **state)
{
    (void)state;
    for (int to_client = 0; to_client < 2; to_client++) {
        struct sim *sim = sim_new(1);
        struct sim_stream *client = open_tunnel(sim);
        struct sim_stream *reader = to_client ? client : sim->origin;
        struct sim_stream *writer = to_client ? sim->origin : client;
        reader->window = 1000;
        for (int i = 0; i < 3; i++) {
            while (!writer->is_paused) {
                sim_fill(writer, 20000);
            }
            sim_text(reader, "other way"); // is not held up
            sim_read(reader);
        }
        assert_int_equal(writer->pauses, 3);
        assert_int_equal(writer->resumes, 3);
        assert_int_equal(reader->pauses, 0);
        sim_free(&sim);
    }
}

// The target answered before it had taken the whole of a large head: the client stays paused.
static void test_switch_while_full(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request(sim, UPGRADE);
    struct sim_stream *origin = sim->origin;
    origin->window = 10;
    origin->unread = HTTP_AHEAD_LEN + 10;
    sim_connected(origin);
    assert_true(client->is_paused);
    sim_respond(origin, SWITCH);
    assert_true(client->is_tunnel && client->is_paused);
    sim_read(origin);
    sim_text(client, "hello");
    assert_string_equal(sim_body(origin), "hello");
    sim_free(&sim);
}

#define PUT_UPGRADE                                                             \
    "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: upgrade\r\n" \
    "Upgrade: websocket\r\n\r\n"

static void test_switch_that_was_not_asked_for(void **state)
{
    (void)state;
    static const char *const requests[] = {
        GET,
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
        PUT_UPGRADE,
    };
    for (size_t i = 0; i < 3; i++) {
        struct sim *sim = sim_new(1);
        struct sim_stream *client = sim_request_connected(sim, requests[i]);
        sim_respond(sim->origin, SWITCH);
        check_answer(client, 502);
        assert_false(client->is_tunnel);
        assert_int_equal(sim->origin->life, SIM_RESET);
        check_record(sim, 1, 502, "upgrade_failed");
        sim_free(&sim);
    }
}

static void test_refused_switch_is_an_answer(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request_connected(sim, UPGRADE);
    sim_respond(sim->origin, OK_5);
    sim_text(sim->origin, "plain");
    sim_end(sim->origin);
    check_answer(client, 200);
    assert_false(client->is_tunnel);
    check_record(sim, 1, 200, "done");
    sim_free(&sim);
}

static void test_cut(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    struct sim_stream *one = open_tunnel(sim);
    struct sim_stream *of_one = sim->origin;
    struct sim_stream *two = open_tunnel(sim);
    assert_int_not_equal(of_one->member, sim->origin->member);
    atomic_store(&sim->members[of_one->member]->cut, 1);
    proxy_cut(sim->proxy);
    assert_int_equal(one->life, SIM_RESET);
    assert_int_equal(of_one->life, SIM_RESET);
    assert_int_equal(two->life, SIM_LIVE);
    check_record(sim, 1, 101, "cut");
    assert_int_equal(sim_counter(sim, COUNTER_tunnels_cut_total), 1);
    sim_free(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_both_ways),
        cmocka_unit_test(test_fin_of_client_first),
        cmocka_unit_test(test_fin_of_origin_first),
        cmocka_unit_test(test_fin_behind_a_queue),
        cmocka_unit_test(test_one_side_is_gone),
        cmocka_unit_test(test_backpressure),
        cmocka_unit_test(test_switch_while_full),
        cmocka_unit_test(test_switch_that_was_not_asked_for),
        cmocka_unit_test(test_refused_switch_is_an_answer),
        cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
