// SPDX-License-Identifier: MIT
// Requests that wait for a target at its limit: turns, the bound, the time, and those who leave.
#include "sim/sim_check.h"

enum { TURN_MS = 3 }; // messages that a turn takes

static struct sim *new_sim(unsigned members, unsigned max)
{
    struct sim *sim = sim_new(members);
    sim_make_queue(sim, max);
    return sim;
}

// The exchange ends; whoever is next gets its turn.
static void answer(struct sim *sim, struct sim_stream *origin)
{
    sim_respond(origin, OK_EMPTY);
    sim_advance(sim, TURN_MS);
}

static void test_turns_in_order(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1, 10);
    struct sim_stream *clients[4];
    for (unsigned i = 0; i < 4; i++) {
        clients[i] = sim_request(sim, GET);
    }
    assert_int_equal(sim->origin_count, 1);
    assert_int_equal(pool_queue_len(atomic_load(&sim->home.queue)), 3);
    sim_connected(sim->origin);
    sim_advance(sim, 100);
    for (unsigned i = 0; i < 4; i++) {
        struct sim_stream *origin = sim->origin;
        assert_int_equal(sim->origin_count, i + 1);
        assert_int_equal(sim_inflight(sim), 1);
        if (i > 0) {
            sim_connected(origin);
        }
        answer(sim, origin);
        check_answer(clients[i], 200);
    }
    assert_int_equal(sim_counter(sim, COUNTER_queued_total), 3);
    assert_true(sim->last.queue_ns >= 100000000);
    sim_check_idle(sim);
    sim_free(&sim);
}

// Whoever comes while others wait does not overtake them, although there is room at this moment.
static void test_nobody_overtakes(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1, 10);
    sim_request(sim, GET);
    struct sim_stream *second = sim_request(sim, GET);
    struct sim_stream *first_origin = sim->origin;
    sim_connected(first_origin);
    sim_respond(first_origin, OK_EMPTY); // the turn is on its way
    struct sim_stream *third = sim_request(sim, GET);
    assert_int_equal(sim->origin_count, 1);
    sim_advance(sim, TURN_MS);
    assert_int_equal(sim->origin_count, 2);
    sim_connected(sim->origin);
    answer(sim, sim->origin);
    check_answer(second, 200);
    assert_int_equal(third->life, SIM_LIVE);
    sim_connected(sim->origin);
    answer(sim, sim->origin);
    check_answer(third, 200);
    sim_free(&sim);
}

static void check_refused(struct sim *sim, struct sim_stream *client, const char *end)
{
    check_answer(client, 503);
    assert_true(sim_has_field(client, "Retry-After: 1"));
    assert_true(sim_has_field(client, "Proxy-Status: pointsman; error=connection_limit_reached"));
    assert_string_equal(sim->last.end, end);
}

static void test_bound_and_time(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1, 1);
    sim_request(sim, GET);
    struct sim_stream *waits = sim_request(sim, GET);
    struct sim_stream *refused = sim_request(sim, GET);
    check_refused(sim, refused, "queue_full");
    assert_int_equal(sim_counter(sim, COUNTER_queue_full_total), 1);
    sim_connected(sim->origin);
    sim_advance(sim, 998);
    assert_int_equal(waits->life, SIM_LIVE);
    sim_advance(sim, 10);
    check_refused(sim, waits, "queue_timeout");
    assert_int_equal(sim_counter(sim, COUNTER_queue_timeouts_total), 1);
    answer(sim, sim->origin);
    sim_check_idle(sim);
    sim_free(&sim);
}

static void test_no_queue(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    sim->settings.requests_per_target = 1;
    sim_swap_route(sim, 2);
    sim_request(sim, GET);
    sim_request(sim, GET);
    assert_int_equal(sim->origin_count, 2);
    check_refused(sim, sim_request(sim, GET), "queue_full");
    sim_free(&sim);
}

// Who leaves gives up its place; also when its turn is on its way.
static void test_clients_that_leave(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct sim *sim = new_sim(1, 10);
        struct sim_stream *first = sim_request_connected(sim, GET);
        struct sim_stream *gone = sim_request(sim, GET);
        struct sim_stream *next = sim_request(sim, GET);
        if (i == 0) {
            sim_leave(gone, ERR_CLOSED);
            sim_advance(sim, TURN_MS);
            answer(sim, sim->origin);
        } else if (i == 1) {
            sim_respond(sim->origin, OK_EMPTY);
            sim_leave(gone, ERR_CLOSED);
            sim_advance(sim, TURN_MS);
        } else {
            sim_leave(first, ERR_CLOSED); // of whom the room comes
            sim_leave(gone, ERR_CLOSED);
            sim_advance(sim, TURN_MS);
        }
        assert_int_equal(sim->origin_count, 2);
        sim_connected(sim->origin);
        answer(sim, sim->origin);
        check_answer(next, 200);
        sim_check_idle(sim);
        sim_free(&sim);
    }
}

// The pool that it waits for is another one when its turn comes, or gone.
static void test_pool_changes(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1, 10);
    sim_request_connected(sim, GET);
    struct sim_stream *waits = sim_request(sim, GET);
    struct sim_stream *also = sim_request(sim, GET);
    sim->settings.requests_per_target = 0;
    sim_swap_route(sim, 2);
    answer(sim, sim->origin);
    sim_advance(sim, TURN_MS);
    assert_int_equal(sim->origin_count, 3); // no limit: all go on
    sim_leave(waits, ERR_CLOSED);
    sim_leave(also, ERR_CLOSED);
    sim_check_idle(sim);
    sim_free(&sim);

    sim = new_sim(1, 10);
    sim_request_connected(sim, GET);
    waits = sim_request(sim, GET);
    sim_swap_route(sim, 0);
    answer(sim, sim->origin);
    check_answer(waits, 503);
    assert_string_equal(sim->last.end, "no_target");
    sim_free(&sim);
}

// A body goes on coming while the request waits, to a bound.
static void test_body_meanwhile(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1, 10);
    sim_request_connected(sim, GET);
    struct sim_stream *first_origin = sim->origin;
    struct sim_stream *waits = sim_request(sim, PUT_CHUNKED);
    sim_fill(waits, TXN_KEEP_MAX + 1);
    assert_true(waits->is_paused);
    answer(sim, first_origin);
    sim_connected(sim->origin);
    assert_int_equal(sim->origin->out_at, TXN_KEEP_MAX + 1);
    sim_read(sim->origin);
    assert_false(waits->is_paused);
    sim_end(waits);
    answer(sim, sim->origin);
    check_answer(waits, 200);
    sim_free(&sim);
}

// A target without a connection to spare is passed over; all of them: as if they were full.
static void test_connections_are_limited(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    sim->limited = 1u << 0;
    for (unsigned i = 0; i < 3; i++) {
        sim_request(sim, GET);
        assert_int_equal(sim->origin->member, 1);
    }
    assert_int_equal(sim->origin_count, 3);
    sim->limited = 3;
    check_refused(sim, sim_request(sim, GET), "queue_full");
    sim_free(&sim);

    sim = new_sim(2, 10);
    sim->limited = 3;
    struct sim_stream *waits = sim_request(sim, GET);
    assert_int_equal(pool_queue_len(atomic_load(&sim->home.queue)), 1);
    assert_int_equal(sim_inflight(sim), 0);
    pool_queue_kick(atomic_load(&sim->home.queue));
    sim_advance(sim, 5); // in vain
    assert_int_equal(sim->origin_count, 0);
    sim->limited = 0;
    pool_queue_kick(atomic_load(&sim->home.queue));
    sim_advance(sim, TURN_MS);
    sim_connected(sim->origin);
    answer(sim, sim->origin);
    check_answer(waits, 200);
    sim_free(&sim);
}

// A kick for nothing (a connection that became idle is one beside its request's) is one look in vain, however
// many wait.
static void test_turns_in_vain(void **state)
{
    (void)state;
    struct sim *sim = new_sim(2, 100);
    sim->limited = 3;
    for (unsigned i = 0; i < 25; i++) {
        sim_request(sim, GET);
    }
    struct pool_queue *queue = atomic_load(&sim->home.queue);
    assert_int_equal(pool_queue_len(queue), 25);
    sim->limited_count = 0;
    pool_queue_kick(queue);
    sim_advance(sim, 100);
    assert_int_equal(sim->limited_count, 2); // both targets, once
    sim_free(&sim);
}

// What is passed through waits in the same queue.
static void test_raw(void **state)
{
    (void)state;
    struct sim *sim = new_sim(1, 1);
    sim_route(sim)->is_passthrough = true;
    struct sim_stream *open = sim_raw(sim, "raw.example", "a");
    sim_connected(sim->origin);
    struct sim_stream *waits = sim_raw(sim, "raw.example", "b");
    struct sim_stream *refused = sim_raw(sim, "raw.example", "c");
    assert_true(refused->out_ended);
    assert_int_equal(sim_counter(sim, COUNTER_queue_full_total), 1);
    sim_leave(open, ERR_CLOSED);
    sim_advance(sim, TURN_MS);
    assert_int_equal(sim->origin_count, 2);
    sim_connected(sim->origin);
    assert_string_equal(sim_body(sim->origin), "b");
    struct sim_stream *late = sim_raw(sim, "raw.example", "d");
    sim_advance(sim, 1100);
    assert_true(late->out_ended);
    assert_int_equal(sim_counter(sim, COUNTER_queue_timeouts_total), 1);
    sim_leave(refused, ERR_CLOSED);
    sim_leave(waits, ERR_CLOSED);
    sim_leave(late, ERR_CLOSED);
    sim_check_idle(sim);
    sim_free(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns_in_order),     cmocka_unit_test(test_nobody_overtakes),
        cmocka_unit_test(test_bound_and_time),     cmocka_unit_test(test_no_queue),
        cmocka_unit_test(test_clients_that_leave), cmocka_unit_test(test_pool_changes),
        cmocka_unit_test(test_body_meanwhile),     cmocka_unit_test(test_connections_are_limited),
        cmocka_unit_test(test_turns_in_vain),      cmocka_unit_test(test_raw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
