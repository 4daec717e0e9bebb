// SPDX-License-Identifier: MIT
// Which target a request gets by what it brings (keys, cookies), what is told of targets that fail, and how often
// requests may be sent again in all.
#include "sim/sim_check.h"
#include <stdio.h>

#define FORM_TYPE "Content-Type: application/x-www-form-urlencoded\r\n"

static struct sim *new_hashed(enum hash_by by, const char *name)
{
    struct sim *sim = sim_new(4);
    sim->settings.balance = BALANCE_HASH;
    sim->settings.hash.by = by;
    sim->settings.hash.name = str_from_c(name);
    sim_swap_route(sim, 4);
    return sim;
}

// The target of a request whose key is `number`, between two parts of its text.
static unsigned target_of(struct sim *sim, const char *front, unsigned number, const char *behind)
{
    char text[512];
    snprintf(text, sizeof text, "%s%u%s\r\n\r\n", front, number, behind);
    struct sim_stream *client = sim_request_connected(sim, text);
    unsigned member = sim->origin->member;
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    return member;
}

// Equal keys go to one target, different ones to all.
static void check_keys(enum hash_by by, const char *name, const char *front, const char *behind)
{
    struct sim *sim = new_hashed(by, name);
    unsigned used = 0;
    for (unsigned i = 0; i < 40; i++) {
        unsigned member = target_of(sim, front, i, behind);
        assert_int_equal(target_of(sim, front, i, behind), member);
        used |= 1u << member;
    }
    assert_int_equal(used, 15);
    sim_free(&sim);
}

static void test_keys(void **state)
{
    (void)state;
#define REST    " HTTP/1.1\r\nHost: a"
#define HEAD_OF "GET /" REST "\r\n"
    check_keys(HASH_PATH, "", "GET /p/", REST);
    check_keys(HASH_HEADER, "x-user", HEAD_OF "X-User: u", "");
    check_keys(HASH_COOKIE, "sid", HEAD_OF "Cookie: a=1; sid=", "; b=2");
    check_keys(HASH_QUERY, "user", "GET /?a=b&us%65r=x+", REST);
    check_keys(HASH_KEY, "", HEAD_OF "X-Api-Key: k", "");
    check_keys(HASH_KEY, "", HEAD_OF "Authorization: Bearer ", "");
    check_keys(HASH_KEY, "", "GET /?api_key=", REST);
}

static void test_one_client(void **state)
{
    (void)state;
    struct sim *sim = new_hashed(HASH_CLIENT_IP, "");
    unsigned member = target_of(sim, "GET /", 0, REST);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(target_of(sim, "GET /", i, REST), member);
    }
    sim_free(&sim);
}

// The field is found in whatever pieces it comes, and the request waits no longer than it must.
static void test_form_in_pieces(void **state)
{
    (void)state;
    static const char body[] = "first=1&user=gr%C3%BCn+a&last=2";
    const size_t len = sizeof body - 1;
    const size_t found_at = sizeof "first=1&user=gr%C3%BCn+a&" - 1;
    struct sim *sim = new_hashed(HASH_FORM, "user");
    int wanted = -1;
    for (size_t piece = 1; piece <= len; piece++) {
        struct sim_stream *client = sim_request(sim, "POST / HTTP/1.1\r\nHost: a\r\n" FORM_TYPE
                                                     "Content-Length: 31\r\n\r\n");
        unsigned before = sim->origin_count;
        for (size_t at = 0; at < len; at += piece) {
            size_t n = piece < len - at ? piece : len - at;
            sim_data(client, str_make(body + at, n));
            assert_int_equal(sim->origin_count, at + n >= found_at ? before + 1 : before);
        }
        wanted = wanted < 0 ? (int)sim->origin->member : wanted;
        assert_int_equal(sim->origin->member, wanted);
        sim_end(client);
        sim_connected(sim->origin);
        assert_string_equal(sim_body(sim->origin), body);
        sim_respond(sim->origin, OK_EMPTY);
        check_answer(client, 200);
    }
    sim_free(&sim);
}

// Without the field the request goes by the number of requests: at its end, or at the bound.
static void test_form_without_the_field(void **state)
{
    (void)state;
    struct sim *sim = new_hashed(HASH_FORM, "user");
    struct sim_stream *client =
        sim_request(sim, "POST / HTTP/1.1\r\nHost: a\r\n" FORM_TYPE "Expect: 100-continue\r\n"
                         "Transfer-Encoding: chunked\r\n\r\n");
    assert_int_equal(client->infos, 1);
    sim_text(client, "other=1");
    assert_int_equal(sim->origin_count, 0);
    sim_end(client);
    assert_int_equal(sim->origin_count, 1);
    client = sim_request(sim, "POST / HTTP/1.1\r\nHost: a\r\n" FORM_TYPE
                              "Transfer-Encoding: chunked\r\n\r\n");
    sim_fill(client, TXN_KEEP_MAX - 1);
    assert_int_equal(sim->origin_count, 1);
    sim_fill(client, 1);
    assert_int_equal(sim->origin_count, 2);
    client = sim_request(sim, PUT_10); // no form at all
    assert_int_equal(sim->origin_count, 3);
    client = sim_request(sim, "POST / HTTP/1.1\r\nHost: a\r\n" FORM_TYPE
                              "Transfer-Encoding: chunked\r\n\r\n");
    sim_text(client, "use");
    sim_leave(client, ERR_CLOSED);
    assert_int_equal(sim->origin_count, 3);
    sim_free(&sim);
}

// ---- cookies ----

static struct sim *new_sticky(void)
{
    struct sim *sim = sim_new(4);
    sim->settings.sticky.cookie = STR("pm_target");
    sim->settings.sticky.ttl_sec = 3600;
    sim_swap_route(sim, 4);
    return sim;
}

static void cookie_of(struct sim *sim, unsigned member, char *to, size_t size)
{
    snprintf(to, size, "pm_target=%016llx",
             (unsigned long long)pool_target_of(sim->members[member])->id);
}

static void test_sticky(void **state)
{
    (void)state;
    struct sim *sim = new_sticky();
    struct sim_stream *client = sim_request_connected(sim, GET);
    unsigned member = sim->origin->member;
    sim_respond(sim->origin, OK_EMPTY);
    char cookie[64];
    char line[256];
    cookie_of(sim, member, cookie, sizeof cookie);
    snprintf(line, sizeof line, "Set-Cookie: %s; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax",
             cookie);
    assert_true(sim_has_field(client, line));
    for (int i = 0; i < 8; i++) {
        snprintf(line, sizeof line,
                 "GET / HTTP/1.1\r\nHost: a\r\nCookie: pm_target=zz; a=b; %s\r\n\r\n", cookie);
        client = sim_request_connected(sim, line);
        assert_int_equal(sim->origin->member, member);
        sim_respond(sim->origin, OK_EMPTY);
        assert_true(str_find(buf_str(&client->fields), STR("Set-Cookie")) == SIZE_MAX);
    }
    assert_int_equal(sim_counter(sim, COUNTER_sticky_moved_total), 0);
    // Its target fails: another one, and the cookie says so.
    client = sim_request(sim, line);
    sim_leave(sim->origin, ERR_CLOSED);
    sim_connected(sim->origin);
    assert_int_not_equal(sim->origin->member, member);
    cookie_of(sim, sim->origin->member, cookie, sizeof cookie);
    sim_respond(sim->origin, OK_EMPTY);
    snprintf(line, sizeof line, "Set-Cookie: %s; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax",
             cookie);
    assert_true(sim_has_field(client, line));
    assert_int_equal(sim_counter(sim, COUNTER_sticky_moved_total), 1);
    sim_free(&sim);
}

// ---- failures ----

static struct sim *new_watched(unsigned members)
{
    struct sim *sim = sim_new(members);
    sim->settings.passive.max_fails = 1;
    sim->settings.passive.fail_timeout_ms = 10000;
    sim_swap_route(sim, members);
    sim_rules(sim)->retries = 0;
    return sim;
}

static void check_reported(struct sim *sim, unsigned wanted)
{
    sim_advance(sim, 2);
    assert_int_equal(sim->report_count, wanted);
    sim_check_idle(sim);
    sim_free(&sim);
}

static void test_failures_are_told(void **state)
{
    (void)state;
    struct sim *sim = new_watched(1);
    sim->refuses_at_once = true;
    sim_request(sim, GET);
    check_reported(sim, 1);

    static const int connect_errs[] = {ERR_CLOSED, ERR_TLS, ERR_TLS_VERIFY, ERR_TIMEOUT};
    for (int i = 0; i < 4; i++) {
        sim = new_watched(1);
        sim_request(sim, GET);
        sim_leave(sim->origin, connect_errs[i]);
        check_reported(sim, 1);
    }
    static const int exchange_errs[] = {ERR_CLOSED, ERR_TLS, ERR_STATUS, ERR_MEMORY};
    for (int i = 0; i < 4; i++) {
        sim = new_watched(1);
        sim_request_connected(sim, GET);
        sim_leave(sim->origin, exchange_errs[i]);
        check_reported(sim, exchange_errs[i] == ERR_MEMORY ? 0 : 1);
    }
    sim = new_watched(1);
    sim_request_connected(sim, GET);
    sim_advance(sim, 5010);
    check_reported(sim, 1);

    sim = new_watched(1); // what has begun may break off for reasons of its own
    sim_request_connected(sim, GET);
    sim_respond(sim->origin, OK_5);
    sim_leave(sim->origin, ERR_CLOSED);
    check_reported(sim, 0);
}

static void test_statuses_are_told(void **state)
{
    (void)state;
    struct status_range bad = {.from = 500, .to = 503};
    struct sim *sim = new_watched(1);
    sim->settings.passive.statuses = &bad;
    sim->settings.passive.status_count = 1;
    sim_swap_route(sim, 1);
    struct sim_stream *client = sim_request_connected(sim, GET);
    sim_respond(sim->origin, UNAVAILABLE);
    check_answer(client, 503);
    client = sim_request_connected(sim, GET);
    sim_respond(sim->origin, OK_EMPTY);
    check_answer(client, 200);
    check_reported(sim, 1);
}

// A client certificate that the target refuses, which with TLS 1.3 it does after the handshake.
static void test_refused_certificate(void **state)
{
    (void)state;
    struct sim *sim = new_watched(1);
    struct sim_stream *client = sim_request_connected(sim, GET);
    sim_leave(sim->origin, ERR_TLS);
    check_answer(client, 502);
    assert_string_equal(sim->last.end, "tls_failed");
    assert_true(sim_has_field(client, "Proxy-Status: pointsman; error=tls_protocol_error"));
    sim_free(&sim);
}

// ---- the budget ----

// One request whose target breaks off before the answer, again and again.
static unsigned attempts_of(struct sim *sim, const char *text)
{
    unsigned before = sim->origin_count;
    struct sim_stream *client = sim_request(sim, text);
    while (client->life == SIM_LIVE) {
        sim_connected(sim->origin);
        sim_leave(sim->origin, ERR_CLOSED);
    }
    assert_int_equal(client->status, 502);
    return sim->origin_count - before;
}

static void test_budget(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    sim->settings.retry_budget = 20;
    sim_swap_route(sim, 2);
    unsigned retries = 0;
    for (int i = 0; i < 200; i++) {
        retries += attempts_of(sim, GET) - 1;
    }
    assert_in_range(retries, 45, 52); // 10, and a fifth of what has ended
    assert_int_equal(sim_counter(sim, COUNTER_retry_budget_total), 200 - retries);
    assert_int_equal(sim_counter(sim, COUNTER_upstream_retries_total), retries);
    // Targets that could not be reached did no work: such attempts are free.
    for (int i = 0; i < 50; i++) {
        struct sim_stream *client = sim_request(sim, POST_EMPTY);
        sim_leave(sim->origin, ERR_CLOSED);
        sim_connected(sim->origin);
        sim_respond(sim->origin, OK_EMPTY);
        check_answer(client, 200);
    }
    sim_free(&sim);
}

static void test_budget_bounds(void **state)
{
    (void)state;
    for (unsigned percent = 0; percent <= 100; percent += 100) {
        struct sim *sim = sim_new(2);
        sim->settings.retry_budget = (uint8_t)percent;
        sim_swap_route(sim, 2);
        for (int i = 0; i < 30; i++) {
            assert_int_equal(attempts_of(sim, GET), percent == 0 ? 1 : 2);
        }
        sim_free(&sim);
    }
}

// A status that may not be tried again is passed on as it is.
static void test_budget_and_status(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    sim->settings.retry_budget = 0;
    sim_swap_route(sim, 2);
    sim_rules(sim)->retry_on = RETRY_503;
    struct sim_stream *client = sim_request_connected(sim, GET);
    sim_respond(sim->origin, UNAVAILABLE);
    check_answer(client, 503);
    check_record(sim, 1, 503, "done");
    assert_int_equal(sim_counter(sim, COUNTER_retry_budget_total), 1);
    sim_free(&sim);
}

// A request that must not be done twice, and was sent whole, is not sent again.
static void test_post_that_was_sent(void **state)
{
    (void)state;
    struct sim *sim = sim_new(2);
    assert_int_equal(attempts_of(sim, POST_EMPTY), 1);
    assert_string_equal(sim->last.end, "origin_closed");
    sim_free(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_one_client),
        cmocka_unit_test(test_form_in_pieces),
        cmocka_unit_test(test_form_without_the_field),
        cmocka_unit_test(test_sticky),
        cmocka_unit_test(test_failures_are_told),
        cmocka_unit_test(test_statuses_are_told),
        cmocka_unit_test(test_refused_certificate),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_budget_bounds),
        cmocka_unit_test(test_budget_and_status),
        cmocka_unit_test(test_post_that_was_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
