// SPDX-License-Identifier: MIT
// Each way to end, in each step that waits: the client leaves, the target leaves, the target is cut,
// the node stops. Always one record, and everything given back.
#include "sim/sim_check.h"

// Where a transaction can wait.
enum place {
    AT_BODY,    // buffer_request
    AT_CONNECT, // no connection yet
    AT_UPLOAD,  // the head was sent, the body comes
    AT_RESPONSE,
    AT_INFO,        // after a 1xx
    AT_DELIVER,     // a part of the response was delivered
    AT_EARLY,       // the same, and the request body still comes
    AT_FULL,        // the client does not read
    AT_SENT,        // the response is complete, the client has not taken it
    AT_OWN_ANSWER,  // one of our own, not taken yet
    AT_SECOND,      // connecting, after a first attempt
    AT_TUNNEL,      //
    AT_TUNNEL_HALF, // one FIN
    PLACE_COUNT,
};

static struct sim_stream *go_on(struct sim *sim, enum place place)
{
    struct sim_stream *client = sim_request_connected(sim, place == AT_EARLY ? PUT_CHUNKED : GET);
    if (place == AT_INFO) {
        sim_respond(sim->origin, "HTTP/1.1 102 Processing\r\n\r\n");
    } else if (place == AT_SECOND) {
        sim_leave(sim->origin, ERR_CLOSED);
    } else if (place != AT_RESPONSE) {
        client->window = 10;
        sim_respond(sim->origin, OK_CHUNKED);
        sim_fill(sim->origin, place == AT_FULL ? HTTP_AHEAD_LEN + 10 : 50);
        if (place == AT_SENT) {
            sim_end(sim->origin);
        }
    }
    return client;
}

static struct sim_stream *go_to(struct sim *sim, enum place place)
{
    struct sim_stream *client;
    switch (place) {
    case AT_BODY:
        sim_rules(sim)->buffer_request = 100;
        client = sim_request(sim, PUT_CHUNKED);
        sim_text(client, "abc");
        return client;
    case AT_CONNECT:
        return sim_request(sim, GET);
    case AT_UPLOAD:
        client = sim_request_connected(sim, PUT_CHUNKED);
        sim_text(client, "abc");
        return client;
    case AT_OWN_ANSWER:
        sim->window = 10;
        sim->refuses_at_once = true;
        return sim_request(sim, GET);
    case AT_TUNNEL:
    case AT_TUNNEL_HALF:
        client = sim_request_connected(sim, UPGRADE);
        sim_respond(sim->origin, SWITCH);
        if (place == AT_TUNNEL_HALF) {
            sim_end(client);
        }
        return client;
    case AT_RESPONSE:
    case AT_INFO:
    case AT_DELIVER:
    case AT_EARLY:
    case AT_FULL:
    case AT_SENT:
    case AT_SECOND:
    case PLACE_COUNT:
        break;
    }
    return go_on(sim, place);
}

static bool has_origin(enum place place)
{
    return place != AT_BODY && place != AT_SENT && place != AT_OWN_ANSWER;
}

static bool is_connecting(enum place place)
{
    return place == AT_CONNECT || place == AT_SECOND;
}

static bool is_tunnel(enum place place)
{
    return place == AT_TUNNEL || place == AT_TUNNEL_HALF;
}

static bool has_head(enum place place)
{
    return place == AT_DELIVER || place == AT_EARLY || place == AT_FULL || place == AT_SENT;
}

// The status that is logged when the client was not answered.
static unsigned status_at(enum place place, unsigned unanswered)
{
    if (is_tunnel(place)) {
        return 101;
    }
    if (place == AT_OWN_ANSWER) {
        return 502;
    }
    return has_head(place) ? 200 : unanswered;
}

static void test_client_leaves(void **state)
{
    (void)state;
    for (enum place place = 0; place < PLACE_COUNT; place++) {
        struct sim *sim = sim_new(2);
        struct sim_stream *client = go_to(sim, place);
        assert_int_equal(client->life, SIM_LIVE);
        assert_int_equal(sim_inflight(sim), has_origin(place) ? 1 : 0);
        sim_leave(client, ERR_CLOSED);
        check_record(sim, 1, status_at(place, 499),
                     is_tunnel(place) ? "tunnel_closed" : "client_left");
        assert_int_equal(sim_counter(sim, COUNTER_client_gone_total), is_tunnel(place) ? 0 : 1);
        assert_int_equal(sim_inflight(sim), 0);
        if (has_origin(place)) {
            assert_int_equal(sim->origin->life, SIM_RESET);
        }
        sim_check_idle(sim);
        sim_free(&sim);
    }
}

static void test_client_is_too_slow(void **state)
{
    (void)state;
    for (enum place place = 0; place < PLACE_COUNT; place++) {
        struct sim *sim = sim_new(2);
        struct sim_stream *client = go_to(sim, place);
        sim_leave(client, place == AT_UPLOAD ? ERR_REQUEST_TIMEOUT : ERR_TIMEOUT);
        check_record(sim, 1, status_at(place, 408),
                     is_tunnel(place) ? "tunnel_closed" : "client_timeout");
        sim_check_idle(sim);
        sim_free(&sim);
    }
}

static void test_client_is_malformed(void **state)
{
    (void)state;
    static const enum place places[] = {AT_BODY, AT_UPLOAD, AT_EARLY};
    for (size_t i = 0; i < 3; i++) {
        struct sim *sim = sim_new(2);
        struct sim_stream *client = go_to(sim, places[i]);
        sim_leave(client, ERR_CHUNK_SIZE);
        check_record(sim, 1, status_at(places[i], 400), "bad_request");
        assert_true(sim->origin == NULL || !sim->origin->out_ended);
        sim_check_idle(sim);
        sim_free(&sim);
    }
}

static void test_origin_leaves(void **state)
{
    (void)state;
    for (enum place place = 0; place < PLACE_COUNT; place++) {
        if (!has_origin(place)) {
            continue;
        }
        struct sim *sim = sim_new(2);
        sim_rules(sim)->retries = place == AT_SECOND ? 1 : 0;
        struct sim_stream *client = go_to(sim, place);
        sim_leave(sim->origin, ERR_CLOSED);
        sim_read(client);
        if (is_tunnel(place) || has_head(place)) {
            assert_int_equal(client->life, SIM_RESET);
            check_record(sim, 1, status_at(place, 0),
                         is_tunnel(place) ? "tunnel_closed" : "origin_truncated");
        } else {
            check_answer(client, 502);
            check_record(sim, 1, 502, is_connecting(place) ? "connect_failed" : "origin_closed");
        }
        sim_check_idle(sim);
        sim_free(&sim);
    }
}

// DELETE of the target with drain, when its time is up.
static void test_target_is_cut(void **state)
{
    (void)state;
    for (enum place place = 0; place < PLACE_COUNT; place++) {
        struct sim *sim = sim_new(1);
        sim_rules(sim)->retry_on |= RETRY_TIMEOUT;
        if (place == AT_SECOND) {
            sim_swap_route(sim, 2);
        }
        struct sim_stream *client = go_to(sim, place);
        for (int i = 0; i < SIM_MEMBERS; i++) {
            atomic_store(&sim->members[i]->cut, 1);
        }
        proxy_cut(sim->proxy);
        sim_after_event(sim);
        if (!has_origin(place)) {
            assert_int_equal(client->life, SIM_LIVE);
            assert_int_equal(sim_counter(sim, COUNTER_tunnels_cut_total), 0);
        } else if (is_tunnel(place) || has_head(place)) {
            assert_int_equal(client->life, SIM_RESET);
            check_record(sim, 1, status_at(place, 0), "cut");
        } else {
            check_answer(client, 503);
            check_record(sim, 1, 503, "cut");
        }
        assert_int_equal(sim_inflight(sim), 0);
        sim_free(&sim);
    }
}

// The node drains: what is under way goes on, until the time is up.
static void test_drain(void **state)
{
    (void)state;
    for (enum place place = 0; place < PLACE_COUNT; place++) {
        struct sim *sim = sim_new(2);
        struct sim_stream *client = go_to(sim, place);
        proxy_drain(sim->proxy, 100);
        assert_true(sim->server->draining);
        assert_int_equal(sim->drop_idle_count, 1);
        sim_advance(sim, 99);
        assert_int_equal(client->life, SIM_LIVE);
        assert_int_equal(sim->server->conn_count, 1);
        sim_advance(sim, 3);
        assert_int_equal(client->life, SIM_GONE);
        check_record(sim, 1, status_at(place, 503), "stopped");
        assert_int_equal(sim_counter(sim, COUNTER_client_gone_total), 0);
        assert_int_equal(sim->server->conn_count, 0);
        sim_check_idle(sim);
        sim_free(&sim);
    }
}

static void test_drain_lets_finish(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_stream *client = sim_request(sim, GET);
    proxy_drain(sim->proxy, 1000);
    sim_connected(sim->origin);
    sim_respond(sim->origin, OK_5);
    sim_text(sim->origin, "12345");
    sim_end(sim->origin);
    check_answer(client, 200);
    check_record(sim, 1, 200, "done");
    assert_int_equal(sim->server->conn_count, 0);
    sim_advance(sim, 1100);
    sim_free(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client_leaves),       cmocka_unit_test(test_client_is_too_slow),
        cmocka_unit_test(test_client_is_malformed), cmocka_unit_test(test_origin_leaves),
        cmocka_unit_test(test_target_is_cut),       cmocka_unit_test(test_drain),
        cmocka_unit_test(test_drain_lets_finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
