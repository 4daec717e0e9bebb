// SPDX-License-Identifier: MIT
// Two connections to two addresses of one name: who is first, who fails, what is given back.
#include "sim/sim_check.h"

// A request whose first connection has not answered for 250 ms.
struct pair {
    struct sim *sim;
    struct sim_stream *client;
    struct sim_stream *first;
    struct sim_stream *second;
};

static struct pair begin(const char *request)
{
    struct pair pair = {.sim = sim_new(2)};
    sim_make_named(pair.sim, 2);
    pair.sim->settings.passive.max_fails = 1;
    pair.sim->settings.passive.fail_timeout_ms = 10000;
    sim_swap_route(pair.sim, 2);
    pair.client = sim_request(pair.sim, request);
    pair.first = pair.sim->origin;
    sim_advance(pair.sim, 249);
    assert_int_equal(pair.sim->origin_count, 1);
    sim_advance(pair.sim, 3);
    pair.second = pair.sim->origin;
    assert_int_equal(pair.sim->origin_count, 2);
    assert_int_not_equal(pair.second->member, pair.first->member);
    assert_int_equal(sim_inflight(pair.sim), 2);
    assert_int_equal(sim_counter(pair.sim, COUNTER_upstream_second_address_total), 1);
    return pair;
}

static void finish(struct pair *pair, struct sim_stream *winner, unsigned retries)
{
    assert_int_equal(sim_inflight(pair->sim), 1);
    sim_respond(winner, OK_EMPTY);
    check_answer(pair->client, 200);
    assert_int_equal(pair->sim->last.retries, retries);
    sim_check_idle(pair->sim);
    sim_free(&pair->sim);
}

static void test_first_wins(void **state)
{
    (void)state;
    struct pair pair = begin(GET);
    sim_connected(pair.first);
    assert_int_equal(pair.second->life, SIM_RESET);
    assert_int_equal(pair.sim->report_count, 0);
    finish(&pair, pair.first, 0);
}

static void test_second_wins(void **state)
{
    (void)state;
    struct pair pair = begin(POST_EMPTY);
    sim_connected(pair.second);
    assert_int_equal(pair.first->life, SIM_RESET);
    assert_true(pair.second->out_head);
    assert_int_equal(pair.sim->report_count, 0);
    finish(&pair, pair.second, 0);
}

// As another stream than it was, of the protocol that was found.
static void test_second_is_another(void **state)
{
    (void)state;
    struct pair pair = begin(GET);
    struct sim_stream *anew = sim_connected_anew(pair.second);
    finish(&pair, anew, 0);
}

static void test_first_fails(void **state)
{
    (void)state;
    struct pair pair = begin(GET);
    sim_leave(pair.first, ERR_CLOSED);
    assert_int_equal(pair.sim->origin_count, 2); // no attempt of its own
    sim_advance(pair.sim, 1);
    assert_int_equal(pair.sim->report_count, 1);
    sim_connected(pair.second);
    finish(&pair, pair.second, 0);
}

static void test_second_fails(void **state)
{
    (void)state;
    struct pair pair = begin(GET);
    sim_leave(pair.second, ERR_CLOSED);
    sim_advance(pair.sim, 300);
    assert_int_equal(pair.sim->origin_count, 2); // and no third one
    assert_int_equal(pair.sim->report_count, 1);
    sim_connected(pair.first);
    finish(&pair, pair.first, 0);
}

static void test_both_fail(void **state)
{
    (void)state;
    struct pair pair = begin(GET);
    sim_leave(pair.first, ERR_CLOSED);
    sim_leave(pair.second, ERR_CLOSED);
    check_answer(pair.client, 502);
    assert_string_equal(pair.sim->last.end, "connect_failed");
    sim_check_idle(pair.sim);
    sim_free(&pair.sim);
}

static void test_client_leaves(void **state)
{
    (void)state;
    struct pair pair = begin(GET);
    sim_leave(pair.client, ERR_CLOSED);
    assert_int_equal(pair.first->life, SIM_RESET);
    assert_int_equal(pair.second->life, SIM_RESET);
    sim_check_idle(pair.sim);
    sim_free(&pair.sim);
}

static void test_second_is_cut(void **state)
{
    (void)state;
    struct pair pair = begin(GET);
    atomic_store(&pair.sim->members[pair.second->member]->cut, 1);
    proxy_cut(pair.sim->proxy);
    sim_after_event(pair.sim);
    assert_int_equal(pair.second->life, SIM_RESET);
    sim_connected(pair.first);
    finish(&pair, pair.first, 0);
}

// A kept connection to the other address needs no waiting.
static void test_second_is_kept(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    sim_make_named(sim, 2);
    struct sim_stream *client = sim_request(sim, GET);
    struct sim_stream *first = sim->origin;
    sim->reuses = true;
    sim_advance(sim, 260);
    assert_int_equal(sim->origin_count, 2);
    assert_int_equal(first->life, SIM_RESET);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    sim_free(&sim);
}

// Of one family, of a literal address, or with little time for a connection there is no second one.
static void test_none(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct sim *sim = sim_new(2);
        if (i > 0) {
            sim_make_named(sim, i == 1 ? 1 : 2);
        }
        if (i == 2) {
            sim_rules(sim)->timeouts.connect_ms = 200;
            sim_rules(sim)->retries = 0;
        }
        struct sim_stream *client = sim_request(sim, GET);
        sim_advance(sim, 400);
        assert_int_equal(sim->origin_count, 1);
        assert_int_equal(sim_counter(sim, COUNTER_upstream_second_address_total), 0);
        if (i < 2) {
            sim_leave(client, ERR_CLOSED);
        }
        sim_free(&sim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_wins),        cmocka_unit_test(test_second_wins),
        cmocka_unit_test(test_second_is_another), cmocka_unit_test(test_first_fails),
        cmocka_unit_test(test_second_fails),      cmocka_unit_test(test_both_fail),
        cmocka_unit_test(test_client_leaves),     cmocka_unit_test(test_second_is_cut),
        cmocka_unit_test(test_second_is_kept),    cmocka_unit_test(test_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
