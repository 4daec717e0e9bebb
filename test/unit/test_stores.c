// SPDX-License-Identifier: MIT
// What every store does, whatever it is made of: the same cases for all kinds. What requests alone can say is
// in test_stores_write.c.
#include "stores_kinds.h"
#include "base/hash.h"
#include <errno.h>

#ifdef WITHOUT_INOTIFY
// test_stores_polled: a kernel that has no more of it to give.
int __wrap_inotify_init1(int flags);
int __wrap_inotify_init1(int flags)
{
    (void)flags;
    errno = EMFILE;
    return -1;
}
#endif

static const struct item items[] = {
    {NOUN_ROUTE, "a", ROUTE("a", "1"), NULL},
    {NOUN_POOL, "p", POOL, NULL},
    {NOUN_ROUTE, "b", ROUTE_TO("b", "p"), "p"},
    {NOUN_ROUTE, "b/x", "{\"host\":\"b\",\"path\":\"/x\",\"redirect\":{\"to\":\"https://c\"}}",
     NULL},
    {NOUN_ROUTE, "a", ROUTE("a", "2"), NULL},
};

static void test_put_change_delete(void **state)
{
    struct stores *stores = *state;
    stores_declare(stores, items, 1);
    assert_int_equal(store_revision(stores->check.store), 1);
    assert_int_equal(stores->check.fed, 1);
    stores_declare(stores, &items[4], 1);
    assert_int_equal(store_revision(stores->check.store), 2);
    struct item gone = {NOUN_ROUTE, "a", NULL, NULL};
    stores_declare(stores, &gone, 1);
    assert_int_equal(store_revision(stores->check.store), 3);
    assert_int_equal(store_count(stores->check.store, NOUN_ROUTE), 0);
    assert_int_equal(stores->check.fed, 3);
}

static void test_many_at_once_are_one_revision(void **state)
{
    struct stores *stores = *state;
    stores_declare(stores, items, 4);
    assert_int_equal(store_revision(stores->check.store), 1);
    assert_int_equal(stores->check.fed, 4);
    assert_int_equal(store_count(stores->check.store, NOUN_ROUTE), 3);
    assert_int_equal(store_count(stores->check.store, NOUN_POOL), 1);
}

static void test_same_value_is_no_revision(void **state)
{
    struct stores *stores = *state;
    stores_declare(stores, items, 1);
    stores_declare(stores, items, 1);
    stores_declare(stores, items, 3);
    assert_int_equal(store_revision(stores->check.store), 2);
    assert_int_equal(stores->check.fed, 3); // `a` once
}

static bool on_listed(void *context, const struct store_record *record)
{
    buf_put(context, record->key);
    buf_put_char(context, ' ');
    return true;
}

static void assert_list(struct stores *stores, struct str after, struct str host, unsigned limit,
                        const char *expected)
{
    struct buf text;
    buf_init(&text, 0);
    assert_int_equal(
        store_list(stores->check.store, NOUN_ROUTE, after, host, limit, on_listed, &text), 0);
    buf_put_char(&text, '\0');
    assert_string_equal(text.p, expected);
    buf_fini(&text);
}

static void on_referrer(void *context, enum noun noun, struct str key)
{
    assert_int_equal(noun, NOUN_ROUTE);
    buf_put(context, key);
}

static void test_list_and_referrers(void **state)
{
    struct stores *stores = *state;
    stores_declare(stores, items, 4);
    assert_list(stores, STR(""), STR_NULL, 0, "a b b/x ");
    assert_list(stores, STR("a"), STR_NULL, 1, "b ");
    assert_list(stores, STR(""), STR("b"), 0, "b b/x ");
    struct buf text;
    buf_init(&text, 0);
    check_referrers(stores->check.store, NOUN_POOL, "p", on_referrer, &text);
    assert_true(str_eq(buf_str(&text), STR("b")));
    buf_fini(&text);
}

static void test_restart(void **state)
{
    struct stores *stores = *state;
    stores_declare(stores, items, 4);
    stores_close(stores);
    stores->check.fed = 0;
    stores_open(stores);
    stores_wait(stores, items, 4);
    assert_int_equal(store_revision(stores->check.store), 1);
    struct item gone[] = {items[0], items[1], items[2], {NOUN_ROUTE, "b/x", NULL, NULL}};
    stores_declare(stores, gone, 4);
    assert_int_equal(store_revision(stores->check.store), 2);
    assert_int_equal(stores->check.fed, 1);
}

static void test_internal_records_stay(void **state)
{
    struct stores *stores = *state;
    check_expect(&stores->check, check_one(NOUN_TICKETS, "current", "{}"), 0);
    stores_declare(stores, items, 1);
    struct item gone = {NOUN_ROUTE, "a", NULL, NULL};
    stores_declare(stores, &gone, 1);
    struct item tickets = {NOUN_TICKETS, "current", "{}", NULL};
    assert_true(stores_has(stores, &tickets));
}

int main(void)
{
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } cases[] = {
        {"put, change, delete", test_put_change_delete},
        {"many at once are one revision", test_many_at_once_are_one_revision},
        {"the same value is no revision", test_same_value_is_no_revision},
        {"list and referrers", test_list_and_referrers},
        {"restart", test_restart},
        {"internal records stay", test_internal_records_stay},
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    struct CMUnitTest tests[3 * CASES];
    unsigned count = 0;
    hash_seed();
    for (unsigned kind = KIND_SQLITE; kind <= KIND_REDIS; kind++) {
        for (unsigned i = 0; i < CASES; i++) {
            tests[count++] = (struct CMUnitTest){cases[i].name, cases[i].run, stores_setup,
                                                 stores_teardown, (void *)(uintptr_t)kind};
        }
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
