// SPDX-License-Identifier: MIT
// Who is checked, how, and what follows from the answers.
#include "health_fixture.h"

static void test_the_first_answer_decides(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    struct pool_target *a = add_number(pool, 0);
    struct pool_target *b = add_number(pool, 1);
    assert_int_equal(rate(pool, a, 1).health, HEALTH_UNKNOWN); // before it is live
    health_follow(&publisher, pool->pool);
    assert_int_equal(live_probes, 2);
    assert_string_equal(health_text(a), "unknown");
    assert_int_equal(rate(pool, a, 1).health, HEALTH_UNKNOWN);
    answer(a, true, "ok");
    answer(b, false, "status 503");
    assert_string_equal(told(), "10.0.0.1:80 up; 10.0.0.2:80 down");
    assert_string_equal(events[1].reason, "status 503");
    assert_string_equal(events[1].pool, "shop");
    assert_string_equal(b->health.reason, "status 503");
    assert_string_equal(health_text(a), "up");
    assert_string_equal(health_text(b), "down");
    assert_int_equal(rate(pool, b, 1).health, HEALTH_DOWN);
    assert_int_equal(pool->refreshes, 0); // collected
    pass(1);
    assert_int_equal(pool->refreshes, 1);
    struct publish_health_sum sum = sum_now();
    assert_int_equal(sum.targets_down, 1);
    assert_int_equal(sum.transitions, 1);
    assert_int_equal(sum.checks, 7);
    assert_int_equal(sum.check_failures, 3);
}

static void test_rise_and_fall(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    struct pool_target *a = add_number(pool, 0);
    health_follow(&publisher, pool->pool);
    answer(a, true, "ok");
    (void)told();
    answer_times(a, false, 2);
    answer(a, true, "ok"); // not in a row
    answer_times(a, false, 2);
    assert_string_equal(told(), "");
    answer(a, false, "no answer in 2000 ms");
    assert_string_equal(told(), "10.0.0.1:80 down");
    answer(a, true, "ok");
    answer(a, false, "connect: refused");
    assert_string_equal(a->health.reason, "connect: refused"); // of now, without an event
    answer(a, true, "ok");
    assert_string_equal(told(), "");
    answer(a, true, "ok");
    assert_string_equal(told(), "10.0.0.1:80 up");
    for (unsigned i = 0; i < 10; i++) { // flapping: each change takes its whole streak
        answer_times(a, false, 3);
        answer_times(a, true, 2);
    }
    assert_int_equal(event_count, 20);
    assert_int_equal(sum_now().transitions, 22);
}

static void test_what_is_asked(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    struct pool_settings *settings = &pool->own.settings;
    struct pool_target *a = add_number(pool, 0);
    struct pool_target *secure = add_to(pool, "https://app.internal:8443", "10.1.0.9");
    struct pool_target *h2c = add_to(pool, "h2c://10.0.0.3:50051", NULL);
    struct pool_target *local = add_to(pool, "unix:/run/x.sock", NULL);
    settings->send_proxy = SEND_PROXY_V2;
    settings->tls = (struct tls_context *)&pools; // any addresses: they are only compared here
    settings->health_tls = (struct tls_context *)&publisher;
    health_follow(&publisher, pool->pool);
    assert_string_equal(probe_of(a)->host, "10.0.0.1:80");
    assert_string_equal(probe_of(a)->path, "/up");
    assert_null(probe_of(a)->spec.tls);
    assert_int_equal(probe_of(a)->spec.send_proxy, SEND_PROXY_V2);
    assert_int_equal(probe_of(a)->spec.protocol, HTTP_CLIENT_AUTO);
    assert_int_equal(((const struct sockaddr_in *)&probe_of(a)->spec.address)->sin_port, htons(80));
    assert_string_equal(probe_of(secure)->host, "app.internal:8443");
    assert_string_equal(probe_of(secure)->server_name, "app.internal");
    assert_ptr_equal(probe_of(secure)->spec.tls, settings->tls);
    assert_int_equal(probe_of(h2c)->spec.protocol, HTTP_CLIENT_H2);
    assert_string_equal(probe_of(local)->host, "localhost");
    assert_int_equal(probe_of(local)->spec.address.ss_family, AF_UNIX);
    // Its own host, port, scheme and TLS.
    settings->server_name = STR("pool.example");
    settings->health.host = STR("check.example");
    settings->health.port = 9000;
    settings->health.scheme = HEALTH_SCHEME_HTTPS;
    health_follow(&publisher, pool->pool);
    assert_int_equal(fake_count, 4);
    assert_int_equal(probe_of(a)->changes, 1);
    assert_string_equal(probe_of(a)->host, "check.example");
    assert_string_equal(probe_of(a)->server_name, "pool.example");
    assert_int_equal(((const struct sockaddr_in *)&probe_of(a)->spec.address)->sin_port,
                     htons(9000));
    assert_int_equal(probe_of(a)->spec.send_proxy, SEND_PROXY_OFF);
    assert_ptr_equal(probe_of(a)->spec.tls, settings->tls);
    assert_int_equal(probe_of(h2c)->spec.protocol, HTTP_CLIENT_AUTO); // TLS is not how it is used
    settings->health.has_tls = true;
    settings->health.tls.server_name = STR("own.example");
    settings->protocol = POOL_HTTP1;
    health_follow(&publisher, pool->pool);
    assert_string_equal(probe_of(a)->server_name, "own.example");
    assert_ptr_equal(probe_of(secure)->spec.tls, settings->health_tls);
    assert_int_equal(probe_of(secure)->spec.protocol, HTTP_CLIENT_HTTP1);
    settings->health.scheme = HEALTH_SCHEME_HTTP;
    health_follow(&publisher, pool->pool);
    assert_null(probe_of(secure)->spec.tls);
}

static void test_what_is_unchanged_goes_on(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    struct pool_target *a = add_number(pool, 0);
    health_follow(&publisher, pool->pool);
    answer_times(a, false, 1);
    struct pool_target *b = add_number(pool, 1);
    pool->own.settings.balance = BALANCE_HASH;
    pool->own.settings.health.fall = 5; // not of the check itself
    health_follow(&publisher, pool->pool);
    assert_int_equal(probe_of(a)->changes, 0);
    assert_int_equal(fake_count, 2);
    assert_string_equal(health_text(a), "down");
    pool->own.settings.health.path = STR("/ready"); // another check: the state is kept
    health_follow(&publisher, pool->pool);
    assert_int_equal(probe_of(a)->changes, 1);
    assert_string_equal(probe_of(b)->path, "/ready");
    assert_string_equal(health_text(a), "down");
    (void)told();
    pool->own.settings.health.type = HEALTH_OFF;
    health_follow(&publisher, pool->pool);
    assert_int_equal(live_probes, 0);
    assert_string_equal(told(), "10.0.0.1:80 up");
    assert_string_equal(health_text(a), "none");
    assert_int_equal(rate(pool, a, 1).health, HEALTH_UP);
    assert_int_equal(sum_now().targets_down, 0);
    pool->own.settings.health.type = HEALTH_TCP; // those that served go on until their first answer
    health_follow(&publisher, pool->pool);
    assert_int_equal(rate(pool, a, 1).health, HEALTH_UP);
    answer(a, false, "connect: refused");
    assert_string_equal(health_text(a), "down");
}

static void test_declared_states(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    struct pool_target *a = add_number(pool, 0);
    struct pool_target *b = add_number(pool, 1);
    health_follow(&publisher, pool->pool);
    answer(a, false, "connect: refused");
    declare(pool, b, TARGET_DRAIN); // is still checked
    assert_non_null(b->health.probe);
    declare(pool, a, TARGET_DOWN);
    assert_null(a->health.probe);
    assert_int_equal(sum_now().targets_down, 0);
    assert_int_equal(pool->pool->health.target_count, 1);
    declare(pool, a, TARGET_UP);
    assert_int_equal(pool->pool->health.target_count, 2);
    assert_string_equal(health_text(a), "unknown");
    answer(a, true, "ok");
    assert_string_equal(health_text(a), "up");
}

static void test_its_own_word(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    struct pool_target *a = add_number(pool, 0);
    health_follow(&publisher, pool->pool);
    answer(a, true, "ok");
    (void)told();
    struct probe_result result = {
        .is_good = true, .status = 200, .says_drain = true, .says_weight = 5, .reason = "ok"};
    probe_of(a)->done(probe_of(a)->context, &result);
    probe_of(a)->done(probe_of(a)->context, &result); // told once
    assert_string_equal(told(), "10.0.0.1:80 weight; 10.0.0.1:80 drain");
    assert_int_equal(rate(pool, a, 3).weight, 5);
    assert_int_equal(rate(pool, a, 3).declared, TARGET_DRAIN);
    assert_int_equal(rate(pool, a, 0).weight, 0); // an operator's word is the last
    answer(a, false, "connect: refused");         // no answer, no other word
    assert_int_equal(rate(pool, a, 3).weight, 5);
    answer(a, true, "ok");
    assert_string_equal(told(), "10.0.0.1:80 weight; 10.0.0.1:80 up");
    assert_int_equal(rate(pool, a, 3).weight, 3);
    assert_int_equal(rate(pool, a, 3).declared, TARGET_UP);
    declare(pool, a, TARGET_DOWN);
    assert_int_equal(rate(pool, a, 3).declared, TARGET_DOWN);
}

static void test_names_are_told_with_their_address(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    struct pool_target *a = add_to(pool, "https://app:8443", "10.1.0.9");
    health_follow(&publisher, pool->pool);
    answer(a, false, "connect: refused");
    assert_string_equal(told(), "https://app:8443 (10.1.0.9) down");
    health_name(&publisher, STR("shop"), STR("app"), NULL);
    health_name(&publisher, STR("shop"), STR("app"), "no such name");
    assert_string_equal(told(), "app resolved; app unresolved");
    assert_string_equal(events[1].reason, "no such name");
}

static void test_a_removed_target_is_forgotten(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    struct pool_target *a = add_number(pool, 0);
    struct pool_target *b = add_number(pool, 1);
    health_follow(&publisher, pool->pool);
    answer(a, false, "connect: refused");
    answer(b, true, "ok");
    take_from(pool, a);
    health_follow(&publisher, pool->pool); // what is not live any more is found here
    assert_null(a->health.probe);
    assert_false(a->health.is_followed);
    assert_int_equal(live_probes, 1);
    assert_int_equal(sum_now().targets_down, 0);
    health_forget(&publisher, &a->member); // again: nothing
    pool->live[pool->live_count++] = (struct test_live){&a->member, TARGET_UP};
    health_follow(&publisher, pool->pool); // back, as a new one
    assert_string_equal(health_text(a), "unknown");
    assert_int_equal(pool->pool->health.target_count, 2);
    pool->pool->slot.current = NULL; // the pool was deleted
    health_follow(&publisher, pool->pool);
    assert_int_equal(live_probes, 0);
    assert_true(list_is_empty(&publisher.health.pools));
    unsigned before = pool->refreshes;
    health_mark(&publisher, pool->pool); // a name of it may be answered for the first time
    pass(1);
    assert_int_equal(pool->refreshes, before + 1);
    health_mark(&publisher, pool->pool);
    health_forget_pool(&publisher, pool->pool);
    pass(1);
    assert_int_equal(pool->refreshes, before + 1);
}

static void test_a_thousand_go_down_at_once(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    for (unsigned i = 0; i < 1000; i++) {
        add_number(pool, i);
    }
    health_follow(&publisher, pool->pool);
    pass(1);
    unsigned before = pool->refreshes;
    for (unsigned i = 0; i < 1000; i++) {
        answer(pool_target_of(pool->made[i]), false, "connect: refused");
    }
    assert_int_equal(event_count, 1000);
    assert_int_equal(publisher.health.left_out, 900); // lines of the log
    pass(1);
    assert_int_equal(pool->refreshes, before + 1);
    assert_int_equal(sum_now().targets_down, 1000);
    pass(1100);
    assert_int_equal(publisher.health.left_out, 0);
    pass(10);
    assert_int_equal(pool->refreshes, before + 1);
}

static void test_many_pools_take_several_turns(void **state)
{
    (void)state;
    for (unsigned p = 0; p < 3; p++) {
        struct test_pool *pool = make_pool(p == 0 ? "a" : p == 1 ? "b" : "c");
        for (unsigned i = 0; i < 1200; i++) {
            add_number(pool, i);
        }
        health_follow(&publisher, pool->pool);
        health_mark(&publisher, pool->pool);
    }
    loop_turn(&loop, 0);
    assert_int_equal(pools[0]->refreshes + pools[1]->refreshes + pools[2]->refreshes, 2);
    loop_turn(&loop, 0);
    assert_int_equal(pools[2]->refreshes, 1);
    loop_turn(&loop, 0);
    assert_int_equal(pools[0]->refreshes + pools[1]->refreshes + pools[2]->refreshes, 3);
}

static void test_memory_out(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    struct pool_target *a = add_number(pool, 0);
    no_memory = true;
    health_follow(&publisher, pool->pool);
    assert_null(a->health.probe);
    pass(1100);
    assert_null(a->health.probe);
    no_memory = false;
    pass(1100); // tried again
    assert_non_null(a->health.probe);
    pool->own.settings.health.path = STR("/other");
    no_memory = true;
    health_follow(&publisher, pool->pool);
    no_memory = false;
    pass(1100);
    assert_int_equal(probe_of(a)->changes, 1);
    assert_string_equal(probe_of(a)->path, "/other");
}

static void test_without_a_prober(void **state)
{
    (void)state;
    publisher.health.prober = NULL;
    struct test_pool *pool = make_pool("shop");
    struct pool_target *a = add_number(pool, 0);
    health_follow(&publisher, pool->pool);
    assert_null(a->health.probe);
    assert_string_equal(health_text(a), "none");
    assert_int_equal(rate(pool, a, 1).health, HEALTH_UP);
    assert_int_equal(sum_now().checks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HEALTH_TEST(test_the_first_answer_decides),
        HEALTH_TEST(test_rise_and_fall),
        HEALTH_TEST(test_what_is_asked),
        HEALTH_TEST(test_what_is_unchanged_goes_on),
        HEALTH_TEST(test_declared_states),
        HEALTH_TEST(test_its_own_word),
        HEALTH_TEST(test_names_are_told_with_their_address),
        HEALTH_TEST(test_a_removed_target_is_forgotten),
        HEALTH_TEST(test_a_thousand_go_down_at_once),
        HEALTH_TEST(test_many_pools_take_several_turns),
        HEALTH_TEST(test_memory_out),
        HEALTH_TEST(test_without_a_prober),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
