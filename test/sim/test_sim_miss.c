// SPDX-License-Identifier: MIT
// Requests for hosts that the table does not know: they wait for one look-up each host, and everything that
// may happen meanwhile. The one route of the simulation is that of "*".
#include "sim/sim_check.h"
#include <stdio.h>

enum { TIMEOUT_MS = 50, ASKED_MAX = 300 };

// Who is asked.
static struct {
    struct miss *asked[ASKED_MAX];
    unsigned count;
} book;

static void ask(void *context, struct miss *miss)
{
    assert_ptr_equal(context, &book);
    assert_in_range(book.count, 0, ASKED_MAX - 1);
    book.asked[book.count++] = miss;
}

static const struct misses_source source = {.ask = ask, .context = &book, .timeout_ms = TIMEOUT_MS};

static struct sim *new_sim(void)
{
    book.count = 0;
    struct sim *sim = sim_new(1);
    misses_init(&sim->proxy->misses, &sim->loop, &source);
    return sim;
}

static struct sim_stream *request(struct sim *sim, unsigned host)
{
    char text[100];
    snprintf(text, sizeof text, "GET /a HTTP/1.1\r\nHost: h%u.example.com\r\n\r\n", host);
    return sim_request(sim, text);
}

static void answer_miss(struct sim *sim, unsigned number, bool is_unknown)
{
    miss_answer(book.asked[number], is_unknown ? sim->loop.now_ms + MISS_NEGATIVE_MS : 0);
    book.asked[number] = NULL;
    sim_advance(sim, 1);
}

static void check_unknown(struct sim *sim, struct sim_stream *client)
{
    check_answer(client, 404);
    assert_string_equal(sim->last.end, "no_route");
}

// The route of "*" is used only after the look-up.
static void test_waits(void **state)
{
    (void)state;
    struct sim *sim = new_sim();
    struct sim_stream *client = request(sim, 1);
    assert_int_equal(book.count, 1);
    assert_string_equal(book.asked[0]->host, "h1.example.com");
    sim_advance(sim, TIMEOUT_MS / 2);
    assert_null(sim->origin);
    assert_int_equal(client->life, SIM_LIVE);
    answer_miss(sim, 0, true);
    assert_non_null(sim->origin);
    sim_connected(sim->origin);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    assert_int_equal(sim_counter(sim, COUNTER_host_lookups_total), 1);
    sim_check_idle(sim);
    sim_free(&sim);
}

static void test_becomes_live(void **state)
{
    (void)state;
    struct sim *sim = new_sim();
    sim_drop_route(sim);
    struct sim_stream *client = request(sim, 1);
    sim_swap_route(sim, 1);
    answer_miss(sim, 0, false);
    sim_connected(sim->origin);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    // It was not remembered.
    request(sim, 1);
    assert_int_equal(book.count, 2);
    answer_miss(sim, 1, false);
    sim_free(&sim);
}

static void test_duplicates_join(void **state)
{
    (void)state;
    struct sim *sim = new_sim();
    sim_drop_route(sim);
    struct sim_stream *clients[5];
    for (unsigned i = 0; i < 5; i++) {
        clients[i] = request(sim, 1);
    }
    struct sim_stream *other = request(sim, 2);
    assert_int_equal(book.count, 2);
    sim_leave(clients[2], ERR_CLOSED);
    answer_miss(sim, 0, true);
    for (unsigned i = 0; i < 5; i++) {
        if (i != 2) {
            check_unknown(sim, clients[i]);
        }
    }
    assert_int_equal(other->life, SIM_LIVE);
    answer_miss(sim, 1, true);
    check_unknown(sim, other);
    sim_check_idle(sim);
    sim_free(&sim);
}

static void test_remembered(void **state)
{
    (void)state;
    struct sim *sim = new_sim();
    sim_drop_route(sim);
    request(sim, 1);
    answer_miss(sim, 0, true);
    check_unknown(sim, request(sim, 1));
    sim_advance(sim, MISS_NEGATIVE_MS - 10);
    check_unknown(sim, request(sim, 1));
    assert_int_equal(book.count, 1);
    sim_advance(sim, 20);
    struct sim_stream *again = request(sim, 1);
    assert_int_equal(book.count, 2);
    answer_miss(sim, 1, true);
    check_unknown(sim, again);
    sim_free(&sim);
}

// What nobody knows is not remembered.
static void test_not_remembered(void **state)
{
    (void)state;
    struct sim *sim = new_sim();
    sim_drop_route(sim);
    for (unsigned i = 0; i < 3; i++) {
        struct sim_stream *client = request(sim, 1);
        assert_int_equal(book.count, i + 1);
        answer_miss(sim, i, false);
        check_unknown(sim, client);
    }
    sim_free(&sim);
}

static void test_too_many(void **state)
{
    (void)state;
    struct sim *sim = new_sim();
    sim_drop_route(sim);
    for (unsigned i = 0; i < MISS_MAX; i++) {
        request(sim, i);
    }
    assert_int_equal(book.count, MISS_MAX);
    check_unknown(sim, request(sim, MISS_MAX));
    assert_int_equal(book.count, MISS_MAX);
    assert_int_equal(sim_counter(sim, COUNTER_host_lookups_refused_total), 1);
    struct sim_stream *joins = request(sim, 7);
    assert_int_equal(joins->life, SIM_LIVE);
    for (unsigned i = 0; i < MISS_MAX; i++) {
        miss_answer(book.asked[i], sim->loop.now_ms + MISS_NEGATIVE_MS);
    }
    sim_advance(sim, 1);
    check_unknown(sim, joins);
    assert_int_equal(sim->proxy->misses.count, 0);
    sim_check_idle(sim);
    sim_free(&sim);
}

static void test_timeout(void **state)
{
    (void)state;
    struct sim *sim = new_sim();
    sim_drop_route(sim);
    struct sim_stream *client = request(sim, 1);
    sim_advance(sim, TIMEOUT_MS - 1);
    assert_int_equal(client->life, SIM_LIVE);
    sim_advance(sim, 2);
    check_unknown(sim, client);
    assert_int_equal(sim_counter(sim, COUNTER_host_lookup_timeouts_total), 1);
    // The look-up is still under way: the next one joins it.
    client = request(sim, 1);
    assert_int_equal(book.count, 1);
    answer_miss(sim, 0, false);
    check_unknown(sim, client);
    sim_check_idle(sim);
    sim_free(&sim);
}

static void test_body_comes_meanwhile(void **state)
{
    (void)state;
    struct sim *sim = new_sim();
    struct sim_stream *client =
        sim_request(sim, "POST /a HTTP/1.1\r\nHost: h1.example.com\r\nContent-Length: 10\r\n\r\n");
    sim_text(client, "01234");
    answer_miss(sim, 0, true);
    sim_connected(sim->origin);
    sim_text(client, "56789");
    assert_string_equal(sim_body(sim->origin), "0123456789");
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    sim_free(&sim);
}

static void test_large_body(void **state)
{
    (void)state;
    struct sim *sim = new_sim();
    struct sim_stream *client =
        sim_request(sim, "POST /a HTTP/1.1\r\nHost: h1.example.com\r\nX-Key: 5\r\n"
                         "Content-Length: 200000\r\n\r\n");
    sim_fill(client, 70000);
    assert_true(client->is_paused);
    answer_miss(sim, 0, true);
    sim_connected(sim->origin);
    assert_false(client->is_paused);
    sim_fill(client, 130000);
    sim_end(client);
    assert_true(sim->origin->out_ended);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    sim_free(&sim);
}

static void test_body_is_bounded(void **state)
{
    (void)state;
    struct sim *sim = new_sim();
    sim->config.limits.body = 8;
    struct sim_stream *client = sim_request(
        sim, "POST /a HTTP/1.1\r\nHost: h1.example.com\r\nTransfer-Encoding: chunked\r\n\r\n");
    sim_text(client, "0123456789");
    sim_end(client);
    answer_miss(sim, 0, true);
    check_answer(client, 413);
    assert_null(sim->origin);
    sim_free(&sim);
}

static void test_not_asked(void **state)
{
    (void)state;
    struct sim *sim = new_sim();
    sim_drop_route(sim);
    check_unknown(sim, sim_request(sim, "GET /a HTTP/1.0\r\n\r\n"));
    assert_int_equal(book.count, 0);
    sim_free(&sim);
}

// The answer comes when the worker's loop is emptied.
static void test_end(void **state)
{
    (void)state;
    struct sim *sim = new_sim();
    struct sim_stream *client = request(sim, 1);
    request(sim, 2);
    sim_leave(client, ERR_CLOSED);
    miss_answer(book.asked[0], sim->loop.now_ms + 1);
    miss_answer(book.asked[1], 0);
    sim->check = NULL;
    sim_free(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits),           cmocka_unit_test(test_becomes_live),
        cmocka_unit_test(test_duplicates_join), cmocka_unit_test(test_remembered),
        cmocka_unit_test(test_not_remembered),  cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_timeout),         cmocka_unit_test(test_body_comes_meanwhile),
        cmocka_unit_test(test_large_body),      cmocka_unit_test(test_body_is_bounded),
        cmocka_unit_test(test_not_asked),       cmocka_unit_test(test_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
