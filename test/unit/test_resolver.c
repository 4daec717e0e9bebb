// SPDX-License-Identifier: MIT
#include "base/clock.h"
#include "net/resolver.h"
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

struct asked {
    unsigned answers;
    sa_family_t family;
    struct resolver_name *name;
    bool is_once;
};

static void on_answer(void *context, const struct resolver_result *result)
{
    struct asked *asked = context;
    asked->answers++;
    asked->family = result->count == 0 ? AF_UNSPEC : result->addresses[0].ss_family;
    if (asked->is_once) {
        resolver_unwatch(&asked->name); // inside the call
    }
}

static void turn_until(struct loop *loop, const unsigned *count, unsigned wanted)
{
    uint64_t end = clock_monotonic_ns() + 10 * NS_PER_SEC;
    while (*count < wanted && clock_monotonic_ns() < end) {
        loop_turn(loop, 50);
    }
}

static void test_answers(void **state)
{
    (void)state;
    struct loop loop;
    struct resolver *resolver;
    struct asked before = {0};
    struct asked after = {.is_once = true};
    struct asked gone = {0};
    assert_int_equal(loop_init(&loop), 0);
    assert_int_equal(resolver_new(&resolver, NULL), 0);
    assert_int_equal(resolver_watch(resolver, STR("localhost"), on_answer, &before, &before.name),
                     0);
    assert_int_equal(resolver_watch(resolver, STR("localhost"), on_answer, &gone, &gone.name), 0);
    resolver_unwatch(&gone.name);
    assert_null(gone.name);
    assert_int_equal(resolver_start(resolver, &loop, &loop), 0);
    turn_until(&loop, &before.answers, 1);
    assert_int_equal(before.answers, 1);
    assert_int_equal(before.family, AF_INET); // of localhost the IPv4 address
    assert_int_equal(resolver_watch(resolver, STR("127.0.0.2"), on_answer, &after, &after.name), 0);
    turn_until(&loop, &after.answers, 1);
    assert_int_equal(after.answers, 1);
    assert_null(after.name);
    assert_int_equal(gone.answers, 0);
    resolver_unwatch(&before.name);
    resolver_stop(resolver);
    resolver_free(&resolver);
    loop_fini(&loop);
}

static void test_end_with_a_question_under_way(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        struct loop loop;
        struct resolver *resolver;
        struct asked asked = {0};
        assert_int_equal(loop_init(&loop), 0);
        assert_int_equal(resolver_new(&resolver, NULL), 0);
        assert_int_equal(resolver_start(resolver, &loop, &loop), 0);
        assert_int_equal(resolver_watch(resolver, STR("localhost"), on_answer, &asked, &asked.name),
                         0);
        if (i % 2 == 0) {
            loop_turn(&loop, 1);
        }
        resolver_unwatch(&asked.name);
        resolver_stop(resolver);
        resolver_free(&resolver);
        loop_turn(&loop, 0); // takes what was posted before
        loop_turn(&loop, 0);
        loop_fini(&loop);
    }
}

static void test_long_names_are_refused(void **state)
{
    (void)state;
    struct resolver *resolver;
    struct resolver_name *name;
    char text[RESOLVER_NAME_MAX + 1];
    memset(text, 'a', sizeof text);
    assert_int_equal(resolver_new(&resolver, NULL), 0);
    assert_int_equal(resolver_watch(resolver, str_make(text, sizeof text), on_answer, NULL, &name),
                     ERR_LIMIT);
    assert_int_equal(resolver_watch(resolver, STR_NULL, on_answer, NULL, &name), ERR_LIMIT);
    resolver_free(&resolver);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_end_with_a_question_under_way),
        cmocka_unit_test(test_long_names_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
