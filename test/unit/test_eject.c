// SPDX-License-Identifier: MIT
// Failures of requests, ejections, panic, slow start.
#include "health_fixture.h"

// As a worker reports it.
static void report(struct pool_target *target)
{
    atomic_store(&target->fails, 3);
    atomic_store(&target->is_reported, true);
    target->report.run = health_on_report;
    loop_post(&loop, &target->report);
    loop_turn(&loop, 0);
    assert_false(atomic_load(&target->is_reported));
    assert_int_equal(atomic_load(&target->fails), 0);
}

// A pool of so many targets without checks.
static struct test_pool *pool_of(unsigned count)
{
    struct test_pool *pool = make_pool("shop");
    pool->own.settings.health.type = HEALTH_OFF;
    for (unsigned i = 0; i < count; i++) {
        add_number(pool, i);
    }
    health_follow(&publisher, pool->pool);
    return pool;
}

static struct pool_target *nth(const struct test_pool *pool, unsigned n)
{
    return pool_target_of(pool->made[n]);
}

static unsigned ejected_of(unsigned count, unsigned percent)
{
    struct test_pool *pool = pool_of(count);
    pool->own.settings.eject_max_percent = percent;
    for (unsigned i = 0; i < count; i++) {
        report(nth(pool, i));
    }
    unsigned ejected = pool->pool->health.ejected_count;
    assert_int_equal(sum_now().ejections_refused, count - ejected);
    return ejected;
}

static void test_share_of_1(void **state)
{
    (void)state;
    assert_int_equal(ejected_of(1, 100), 0);
}

static void test_share_of_2(void **state)
{
    (void)state;
    assert_int_equal(ejected_of(2, 10), 1);
}

static void test_share_of_3(void **state)
{
    (void)state;
    assert_int_equal(ejected_of(3, 50), 1);
}

static void test_share_of_10(void **state)
{
    (void)state;
    assert_int_equal(ejected_of(10, 50), 5);
}

static void test_share_of_all(void **state)
{
    (void)state;
    assert_int_equal(ejected_of(3, 100), 3);
}

static void test_share_of_none(void **state)
{
    (void)state;
    assert_int_equal(ejected_of(10, 0), 0);
}

static void test_out_and_back(void **state)
{
    (void)state;
    struct test_pool *pool = pool_of(3);
    struct pool_target *a = nth(pool, 0);
    report(a);
    assert_string_equal(told(), "10.0.0.1:80 ejected");
    assert_string_equal(events[0].reason, "3 requests failed within 10000 ms: out for 10000 ms");
    assert_string_equal(health_text(a), "ejected");
    assert_true(rate(pool, a, 1).is_ejected);
    assert_int_equal(rate(pool, a, 1).health, HEALTH_UP);
    report(a); // in panic it is used and fails again: no second ejection
    assert_string_equal(told(), "");
    pass(9999);
    assert_true(a->health.is_ejected);
    pass(2);
    assert_string_equal(told(), "10.0.0.1:80 returned");
    assert_false(rate(pool, a, 1).is_ejected);
    assert_int_equal(sum_now().ejections, 1);
    assert_int_equal(sum_now().targets_ejected, 0);
}

// How long the next ejection takes, in ms (to 100).
static uint64_t out_for(struct pool_target *target)
{
    uint64_t time = 0;
    report(target);
    assert_true(target->health.is_ejected);
    while (target->health.is_ejected && time < 1000000) {
        pass(100);
        time += 100;
    }
    return (time - 1) / 1000 * 1000; // one tick later at most
}

static void test_the_time_doubles(void **state)
{
    (void)state;
    struct test_pool *pool = pool_of(2);
    struct pool_target *a = nth(pool, 0);
    static const uint64_t times[] = {10000, 20000, 40000, 80000, 160000, 300000, 300000};
    for (unsigned i = 0; i < sizeof times / sizeof times[0]; i++) {
        assert_int_equal(out_for(a), times[i]);
    }
    pass(5 * 60000); // five quiet minutes: five steps back, then the next one
    assert_int_equal(out_for(a), 40000);
    pass(3600000);
    assert_int_equal(out_for(a), 10000);
}

static void test_good_checks_end_it(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    struct pool_target *a = add_number(pool, 0);
    struct pool_target *b = add_number(pool, 1);
    health_follow(&publisher, pool->pool);
    answer(a, true, "ok");
    answer(b, true, "ok");
    pass(1000);
    report(a);
    (void)told();
    answer(a, true, "ok"); // took 1 ms: began before
    answer(a, true, "ok");
    assert_true(a->health.is_ejected);
    pass(5);
    answer(a, true, "ok");
    answer(a, false, "status 500");
    answer(a, true, "ok");
    assert_true(a->health.is_ejected);
    answer(a, true, "ok"); // `rise` in a row
    assert_false(a->health.is_ejected);
    assert_string_equal(told(), "10.0.0.1:80 returned");
    assert_string_equal(a->health.reason, "its checks are good");
    report(a); // soon again: the streak goes on
    assert_non_null(strstr(a->health.reason, "out for 20000 ms"));
    // Down by checks: they alone decide from now on.
    (void)told();
    answer_times(a, false, 3);
    assert_false(a->health.is_ejected);
    assert_string_equal(told(), "10.0.0.1:80 down");
    assert_int_equal(sum_now().targets_ejected, 0);
    report(a);
    assert_string_equal(told(), "");
}

static void test_reports_that_come_late(void **state)
{
    (void)state;
    struct test_pool *pool = pool_of(3);
    struct pool_target *a = nth(pool, 0);
    take_from(pool, a);
    health_follow(&publisher, pool->pool);
    report(a); // it has left
    assert_string_equal(told(), "");
    pool->own.settings.passive.max_fails = 0;
    report(nth(pool, 1)); // off since
    assert_string_equal(told(), "");
    pool->own.settings.passive.max_fails = 3;
    pool->pool->slot.current = NULL;
    report(nth(pool, 1)); // the pool was deleted
    assert_string_equal(told(), "");
    pool->pool->slot.current = pool->version;
    struct named_pool *named = a->pool;
    a->pool = NULL;
    report(a);
    a->pool = named;
}

static void test_removed_in_each_state(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    pool->own.settings.slow_start_ms = 10000;
    for (unsigned i = 0; i < 5; i++) {
        add_number(pool, i);
    }
    health_follow(&publisher, pool->pool);
    answer(nth(pool, 1), true, "ok");
    answer(nth(pool, 2), false, "no");
    answer(nth(pool, 3), true, "ok");
    report(nth(pool, 3));
    answer(nth(pool, 4), true, "ok");
    pass(20000); // what was ejected is back
    report(nth(pool, 4));
    answer_times(nth(pool, 1), false, 3);
    answer_times(nth(pool, 1), true, 2);
    assert_false(list_is_empty(&publisher.health.warming));
    for (unsigned i = 0; i < 5; i++) {
        health_forget(&publisher, pool->made[i]);
    }
    assert_int_equal(live_probes, 0);
    assert_int_equal(sum_now().targets_down + sum_now().targets_ejected, 0);
    (void)told();
    pass(100000);
    assert_string_equal(told(), "");
}

static void test_declared_down_while_ejected(void **state)
{
    (void)state;
    struct test_pool *pool = pool_of(2);
    report(nth(pool, 0));
    declare(pool, nth(pool, 0), TARGET_DOWN);
    assert_int_equal(sum_now().targets_ejected, 0);
    report(nth(pool, 1)); // it is the only one now
    assert_int_equal(sum_now().targets_ejected, 0);
}

static void test_panic(void **state)
{
    (void)state;
    struct test_pool *pool = pool_of(2);
    report(nth(pool, 0));
    (void)told();
    pool->is_panic = true;
    health_mark(&publisher, pool->pool);
    pass(1);
    health_mark(&publisher, pool->pool);
    pass(1);
    assert_string_equal(told(), " panic"); // once, of the pool
    assert_string_equal(events[0].reason, "1 of 2 targets are ejected: ejections are ignored");
    assert_int_equal(sum_now().pools_in_panic, 1);
    pool->is_panic = false;
    health_mark(&publisher, pool->pool);
    pass(1);
    assert_string_equal(told(), " calm");
    assert_int_equal(sum_now().pools_in_panic, 0);
    pool->is_panic = true;
    health_mark(&publisher, pool->pool);
    pass(1);
    health_forget_pool(&publisher, pool->pool);
    assert_int_equal(sum_now().pools_in_panic, 0);
}

// ---- slow start ----

static void test_slow_start_of_a_new_target(void **state)
{
    (void)state;
    struct test_pool *pool = pool_of(2);
    pool->own.settings.slow_start_ms = 10000;
    health_follow(&publisher, pool->pool);
    assert_int_equal(rate(pool, nth(pool, 0), 1).warm, 1000); // nobody is new among others
    struct pool_target *c = add_number(pool, 2);
    assert_int_equal(rate(pool, c, 1).warm, 100); // the first view knows it
    health_follow(&publisher, pool->pool);
    loop_turn(&loop, 0);
    unsigned before = pool->refreshes;
    assert_int_equal(rate(pool, c, 1).warm, 100);
    pass(5000);
    assert_int_equal(rate(pool, c, 1).warm, 550);
    for (unsigned i = 0; i < 60; i++) {
        pass(100);
    }
    assert_int_equal(rate(pool, c, 1).warm, 1000);
    assert_int_equal(c->health.slow_since_ms, 0);
    assert_true(pool->refreshes - before >= 6 && pool->refreshes - before <= 8);
    before = pool->refreshes;
    pass(100000);
    assert_int_equal(pool->refreshes, before); // the timer has ended
}

static void test_slow_start_of_what_is_back(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    pool->own.settings.slow_start_ms = 400; // steps of 100 ms at least
    struct pool_target *a = add_number(pool, 0);
    struct pool_target *b = add_number(pool, 1);
    health_follow(&publisher, pool->pool);
    answer(a, true, "ok");
    answer(b, true, "ok");
    assert_int_equal(rate(pool, a, 1).warm, 1000); // those that a pool begins with are alike
    assert_int_equal(rate(pool, b, 1).warm, 1000);
    struct pool_target *c = add_number(pool, 2);
    health_follow(&publisher, pool->pool);
    answer(c, true, "ok");
    assert_int_equal(rate(pool, c, 1).warm, 100);
    pass(1);
    unsigned before = pool->refreshes;
    for (unsigned i = 0; i < 100; i++) {
        pass(10);
    }
    assert_true(pool->refreshes - before >= 4 && pool->refreshes - before <= 5);
    answer_times(a, false, 3);
    answer_times(a, true, 2);
    assert_int_equal(rate(pool, a, 1).warm, 100);
    assert_int_equal(rate(pool, b, 1).warm, 1000);
    pass(1000);
    report(a);
    assert_true(a->health.is_ejected);
    pass(10001);
    assert_false(a->health.is_ejected);
    assert_int_equal(rate(pool, a, 1).warm, 100);
    pool->own.settings.slow_start_ms = 0; // off meanwhile
    assert_int_equal(rate(pool, a, 1).warm, 1000);
    pass(1000);
    assert_true(list_is_empty(&publisher.health.warming));
}

// Pools that began at different times share the timer's looks: each walks over the targets of all.
static void test_slow_start_of_many_pools(void **state)
{
    (void)state;
    struct pool_target *late[4];
    for (unsigned i = 0; i < 4; i++) {
        struct test_pool *pool = make_pool("shop");
        pool->own.settings.slow_start_ms = 10000;
        pool->own.settings.health.type = HEALTH_OFF;
        (void)add_number(pool, 0);
        health_follow(&publisher, pool->pool);
        late[i] = add_number(pool, 1);
        health_follow(&publisher, pool->pool);
        pass(7);
    }
    unsigned looks = 0;
    for (unsigned i = 0; i < 3000; i++) {
        uint64_t deadline_ms = publisher.health.warm_timer.deadline_ms;
        pass(1);
        looks += publisher.health.warm_timer.deadline_ms != deadline_ms;
    }
    assert_in_range(looks, 3, 6); // two a second at most, not four
    assert_in_range(pools[0]->refreshes, 3, 5);
    assert_in_range(pools[3]->refreshes, 3, 5);
    pass(10000);
    assert_int_equal(late[3]->health.slow_since_ms, 0);
}

// The first answers for the names of a pool do not come together.
static void test_slow_start_of_names(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    pool->own.settings.slow_start_ms = 10000;
    pool->own.settings.health.type = HEALTH_OFF;
    add_to(pool, "a.internal:80", "10.1.0.1");
    health_follow(&publisher, pool->pool);
    pass(100);
    struct pool_target *b = add_to(pool, "b.internal:80", "10.1.0.2");
    health_follow(&publisher, pool->pool);
    assert_int_equal(rate(pool, b, 1).warm, 1000);
    pass(5000);
    struct pool_target *c = add_to(pool, "b.internal:80", "10.1.0.3");
    health_follow(&publisher, pool->pool);
    assert_int_equal(rate(pool, c, 1).warm, 100);
}

static void test_slow_start_after_a_drain(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    pool->own.settings.slow_start_ms = 1000;
    struct pool_target *a = add_number(pool, 0);
    struct pool_target *b = add_number(pool, 1);
    health_follow(&publisher, pool->pool);
    answer(a, true, "ok");
    answer(b, true, "ok");
    declare(pool, a, TARGET_DRAIN);
    pass(1000);
    assert_int_equal(rate(pool, a, 1).warm, 1000);
    pool->live[0].declared = TARGET_UP; // the first view knows it
    assert_int_equal(rate(pool, a, 1).warm, 100);
    declare(pool, a, TARGET_UP);
    assert_int_equal(rate(pool, a, 1).warm, 100);
    pass(1100);
    assert_int_equal(rate(pool, a, 1).warm, 1000);
    declare(pool, a, TARGET_DOWN);
    declare(pool, a, TARGET_UP);
    answer(a, true, "ok");
    assert_int_equal(rate(pool, a, 1).warm, 100);
    struct probe_result result = {
        .is_good = true, .status = 200, .says_drain = true, .says_weight = -1, .reason = "ok"};
    probe_of(b)->done(probe_of(b)->context, &result);
    assert_int_equal(rate(pool, b, 1).warm, 1000);
    answer(b, true, "ok"); // a target that drained by its own word is back
    assert_int_equal(rate(pool, b, 1).warm, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HEALTH_TEST(test_share_of_1),
        HEALTH_TEST(test_share_of_2),
        HEALTH_TEST(test_share_of_3),
        HEALTH_TEST(test_share_of_10),
        HEALTH_TEST(test_share_of_all),
        HEALTH_TEST(test_share_of_none),
        HEALTH_TEST(test_out_and_back),
        HEALTH_TEST(test_the_time_doubles),
        HEALTH_TEST(test_good_checks_end_it),
        HEALTH_TEST(test_reports_that_come_late),
        HEALTH_TEST(test_removed_in_each_state),
        HEALTH_TEST(test_declared_down_while_ejected),
        HEALTH_TEST(test_panic),
        HEALTH_TEST(test_slow_start_of_a_new_target),
        HEALTH_TEST(test_slow_start_of_what_is_back),
        HEALTH_TEST(test_slow_start_of_many_pools),
        HEALTH_TEST(test_slow_start_of_names),
        HEALTH_TEST(test_slow_start_after_a_drain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
