// SPDX-License-Identifier: MIT
// What every store that takes requests does with them: conditions, references, secrets, answers, feeds. The
// same cases for the embedded store and for Redis. A folder takes no requests: its files carry no conditions,
// no deletions and no secrets apart, and a reference of its own is judged by file (test_files.c).
#include "stores_kinds.h"
#include "base/hash.h"

static const struct item a1 = {NOUN_ROUTE, "a", ROUTE("a", "1"), NULL};
static const struct item a2 = {NOUN_ROUTE, "a", ROUTE("a", "2"), NULL};
static const struct item a_gone = {NOUN_ROUTE, "a", NULL, NULL};
static const struct item b_to_p = {NOUN_ROUTE, "b", ROUTE_TO("b", "p"), "p"};
static const struct item b1 = {NOUN_ROUTE, "b", ROUTE("b", "1"), NULL};
static const struct item b_gone = {NOUN_ROUTE, "b", NULL, NULL};
static const struct item pool = {NOUN_POOL, "p", POOL, NULL};
static const struct item pool_gone = {NOUN_POOL, "p", NULL, NULL};

static struct store_request *make(const struct item *item)
{
    struct store_request *request = store_request_new(1);
    stores_set(request, 0, item);
    return request;
}

static struct store_request *make_two(const struct item *one, const struct item *other)
{
    struct store_request *request = store_request_new(2);
    stores_set(request, 0, one);
    stores_set(request, 1, other);
    return request;
}

// Runs it and expects this of its first change.
static uint64_t run(struct stores *stores, struct store_request *request, bool was_new,
                    bool was_same)
{
    struct store_request *answer = check_run(&stores->check, request);
    assert_int_equal(answer->err, 0);
    assert_int_equal(answer->changes[0].err, 0);
    assert_int_equal(answer->changes[0].was_new, was_new);
    assert_int_equal(answer->changes[0].was_same, was_same);
    uint64_t revision = answer->changes[0].revision;
    store_request_free(&answer);
    return revision;
}

// It is refused: by `err`, for the reason that change `at` gives; nothing has changed.
static void refuse(struct stores *stores, struct store_request *request, int err, unsigned at,
                   const char *detail)
{
    uint64_t before = store_revision(stores->check.store);
    unsigned fed = stores->check.fed;
    struct store_request *answer = check_run(&stores->check, request);
    assert_int_equal(answer->err, err);
    assert_true(answer->changes[at].problems.count > 0);
    assert_string_equal(answer->changes[at].problems.items[0].detail, detail);
    for (unsigned i = 0; i < answer->count; i++) {
        assert_false(answer->changes[i].was_new);
        assert_int_equal(answer->changes[i].revision, 0);
    }
    store_request_free(&answer);
    assert_int_equal(store_revision(stores->check.store), before);
    assert_int_equal(stores->check.fed, fed);
}

static uint64_t revision_of(struct stores *stores, const struct item *item)
{
    struct store_record record;
    assert_int_equal(store_get(stores->check.store, item->noun, str_from_c(item->key), &record), 0);
    return record.revision;
}

// ---- answers ----

static void test_answers(void **state)
{
    struct stores *stores = *state;
    struct check *check = &stores->check;
    assert_int_equal(run(stores, make(&a1), true, false), 1);
    check_text(check, "put route a=" ROUTE("a", "1") "@1; answer 1; ");
    assert_int_equal(run(stores, make(&a2), false, false), 2);
    check_text(check, "put route a=" ROUTE("a", "2") "@2; answer 2; ");
    assert_int_equal(run(stores, make(&b1), true, false), 3);
    buf_clear(&check->log);
    assert_int_equal(run(stores, make(&a2), false, true), 2); // the record's own
    check_text(check, "answer 3; ");
    assert_int_equal(store_revision(check->store), 3);
    assert_int_equal(run(stores, make(&a_gone), false, false), 4);
    check_text(check, "del route a@4; answer 4; ");
    refuse(stores, make(&a_gone), ERR_NOT_FOUND, 0, "route \"a\" does not exist");
    assert_int_equal(run(stores, make(&a1), true, false), 5);
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 2);
}

static void test_what_is_answered_is_live(void **state)
{
    struct stores *stores = *state;
    char number[24];
    for (unsigned i = 1; i <= 50; i++) {
        snprintf(number, sizeof number, "n%u", i);
        char value[120];
        snprintf(value, sizeof value,
                 "{\"host\":\"%s\",\"path\":\"/\",\"respond\":{\"body\":\"x\"}}", number);
        const struct item item = {NOUN_ROUTE, number, value, NULL};
        assert_int_equal(run(stores, make(&item), true, false), i);
        assert_int_equal(stores->check.fed, i); // before the answer
        assert_int_equal(stores->check.revision, i);
        assert_int_equal(revision_of(stores, &item), i);
    }
}

// ---- conditions ----

static struct store_request *if_match(const struct item *item, uint64_t revision)
{
    struct store_request *request = make(item);
    request->changes[0].if_match = revision;
    return request;
}

static struct store_request *if_any(const struct item *item)
{
    struct store_request *request = make(item);
    request->changes[0].if_match_any = true;
    return request;
}

static struct store_request *if_none(const struct item *item)
{
    struct store_request *request = make(item);
    request->changes[0].if_none_match = true;
    return request;
}

static void test_if_match(void **state)
{
    struct stores *stores = *state;
    refuse(stores, if_match(&a1, 1), ERR_PRECONDITION, 0, "route \"a\" does not exist");
    refuse(stores, if_any(&a1), ERR_PRECONDITION, 0, "route \"a\" does not exist");
    run(stores, make(&a1), true, false);
    run(stores, make(&b1), true, false);
    refuse(stores, if_match(&a2, 2), ERR_PRECONDITION, 0, "route \"a\" has revision 1, not 2");
    assert_int_equal(run(stores, if_match(&a2, 1), false, false), 3);
    assert_int_equal(run(stores, if_any(&a1), false, false), 4);
    refuse(stores, if_match(&a_gone, 1), ERR_PRECONDITION, 0, "route \"a\" has revision 4, not 1");
    // 404 before 412.
    const struct item absent = {NOUN_ROUTE, "absent", NULL, NULL};
    refuse(stores, if_match(&absent, 1), ERR_NOT_FOUND, 0, "route \"absent\" does not exist");
    // Also when it would have been the same.
    refuse(stores, if_match(&a1, 3), ERR_PRECONDITION, 0, "route \"a\" has revision 4, not 3");
    assert_int_equal(run(stores, if_match(&a1, 4), false, true), 4);
    assert_int_equal(run(stores, if_match(&a_gone, 4), false, false), 5);
}

static void test_if_none_match(void **state)
{
    struct stores *stores = *state;
    assert_int_equal(run(stores, if_none(&a1), true, false), 1);
    refuse(stores, if_none(&a1), ERR_PRECONDITION, 0, "route \"a\" exists already");
    refuse(stores, if_none(&a2), ERR_PRECONDITION, 0, "route \"a\" exists already");
}

// ---- several changes ----

static void test_one_key_several_times(void **state)
{
    struct stores *stores = *state;
    struct check *check = &stores->check;
    struct store_request *request = store_request_new(5);
    stores_set(request, 0, &a1);
    stores_set(request, 1, &a_gone);
    stores_set(request, 2, &a2)->if_none_match = true; // what came before counts
    stores_set(request, 3, &b1);
    stores_set(request, 4, &b1);
    request = check_run(check, request);
    assert_int_equal(request->err, 0);
    assert_true(request->changes[0].was_new);
    assert_false(request->changes[1].was_new);
    assert_true(request->changes[2].was_new);
    assert_true(request->changes[3].was_new);
    assert_true(request->changes[4].was_same);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(request->changes[i].revision, 1);
    }
    store_request_free(&request);
    check_text(check,
               "put route a=" ROUTE("a", "2") "@1; put route b=" ROUTE("b", "1") "@1; answer 1; ");
    request = make_two(&a1, &a2); // there and back again: the value counts, not the way
    check_expect(check, request, 0);
    assert_int_equal(revision_of(stores, &a2), 2);
    // The same revision twice in a request: the first change has taken it away.
    request = make_two(&a1, &a_gone);
    request->changes[0].if_match = 2;
    request->changes[1].if_match = 2;
    refuse(stores, request, ERR_PRECONDITION, 1, "route \"a\" has revision 3, not 2");
}

static void test_made_and_deleted_at_once(void **state)
{
    struct stores *stores = *state;
    check_expect(&stores->check, make_two(&a1, &a_gone), 0);
    assert_int_equal(store_count(stores->check.store, NOUN_ROUTE), 0);
    assert_true(stores_has(stores, &a_gone));
    uint64_t revision = run(stores, if_none(&a1), true, false);
    assert_int_equal(revision, 2); // that was one
    assert_int_equal(store_revision(stores->check.store), revision);
}

static void test_all_or_nothing(void **state)
{
    struct stores *stores = *state;
    run(stores, make(&a1), true, false);
    struct store_request *request = store_request_new(4);
    stores_set(request, 0, &a2);
    stores_set(request, 1, &b_gone);
    stores_set(request, 2, &a_gone)->if_match = 9;
    stores_set(request, 3, &pool);
    request = check_run(&stores->check, request);
    assert_int_equal(request->err, ERR_NOT_FOUND); // the first one's
    assert_int_equal(request->changes[0].err, 0);
    assert_int_equal(request->changes[1].err, ERR_NOT_FOUND);
    assert_int_equal(request->changes[2].err, ERR_PRECONDITION);
    assert_int_equal(request->changes[3].err, 0);
    store_request_free(&request);
    assert_true(stores_has(stores, &a1));
    assert_int_equal(store_count(stores->check.store, NOUN_POOL), 0);
    assert_int_equal(store_revision(stores->check.store), 1);
    refuse(stores, make_two(&b_to_p, &b_to_p), ERR_INVALID, 1, "pool \"p\" does not exist");
}

static void test_no_changes(void **state)
{
    struct stores *stores = *state;
    run(stores, make(&a1), true, false);
    struct store_request *request = check_run(&stores->check, store_request_new(0));
    assert_int_equal(request->err, 0);
    assert_int_equal(request->revision, 1);
    store_request_free(&request);
}

// ---- references ----

static void test_references(void **state)
{
    struct stores *stores = *state;
    refuse(stores, make(&b_to_p), ERR_INVALID, 0, "pool \"p\" does not exist");
    check_expect(&stores->check, make_two(&b_to_p, &pool), 0); // in any order
    refuse(stores, make(&pool_gone), ERR_IN_USE, 0, "pool \"p\" is used by route \"b\"");
    refuse(stores, make_two(&a1, &pool_gone), ERR_IN_USE, 1, "pool \"p\" is used by route \"b\"");
    // Gone together, or no longer referred to.
    check_expect(&stores->check, make_two(&pool_gone, &b_gone), 0);
    check_expect(&stores->check, make_two(&pool, &b_to_p), 0);
    check_expect(&stores->check, make_two(&b1, &pool_gone), 0);
    assert_int_equal(store_count(stores->check.store, NOUN_POOL), 0);
    check_expect(&stores->check, make_two(&b_to_p, &pool), 0);
    refuse(stores, make_two(&pool_gone, &b_to_p), ERR_IN_USE, 0,
           "pool \"p\" is used by route \"b\"");
    // Deleted and made anew: it is there in the end.
    check_expect(&stores->check, make_two(&pool_gone, &pool), 0);
}

static void test_reference_names_its_place(void **state)
{
    struct stores *stores = *state;
    struct store_request *request = check_run(&stores->check, make(&b_to_p));
    assert_int_equal(request->err, ERR_INVALID);
    assert_string_equal(request->changes[0].problems.items[0].pointer, "/pool");
    store_request_free(&request);
}

static void test_used_by_many(void **state)
{
    struct stores *stores = *state;
    run(stores, make(&pool), true, false);
    struct store_request *request = store_request_new(12);
    char keys[12][8];
    char values[12][160];
    for (unsigned i = 0; i < 12; i++) {
        snprintf(keys[i], sizeof keys[i], "h%02u", i);
        snprintf(values[i], sizeof values[i], "{\"host\":\"%s\",\"path\":\"/\",\"pool\":\"p\"}",
                 keys[i]);
        const struct item item = {NOUN_ROUTE, keys[i], values[i], "p"};
        stores_set(request, i, &item);
    }
    check_expect(&stores->check, request, 0);
    request = check_run(&stores->check, make(&pool_gone));
    assert_int_equal(request->err, ERR_IN_USE);
    const struct problems *problems = &request->changes[0].problems;
    assert_int_equal(problems->count, STORE_REFERRER_MAX + 1);
    for (unsigned i = 0; i < STORE_REFERRER_MAX; i++) {
        char expected[160];
        snprintf(expected, sizeof expected, "pool \"p\" is used by route \"%s\"", keys[i]);
        assert_string_equal(problems->items[i].detail, expected);
    }
    assert_string_equal(problems->items[STORE_REFERRER_MAX].detail, "and by more");
    store_request_free(&request);
}

// ---- secrets ----

#define VALUE_1 "{\"v\":1}"
#define VALUE_2 "{\"v\":2}"

static struct store_request *with_secret(const char *value, const char *secret, bool keep)
{
    struct store_request *request = check_one(NOUN_KEY, "k", value);
    request->changes[0].secret = secret == NULL ? NULL : str_dup(str_from_c(secret));
    request->changes[0].keep_secret = keep;
    return request;
}

static void assert_secret(struct stores *stores, const char *expected)
{
    struct store_record record;
    assert_int_equal(store_get_secret(stores->check.store, NOUN_KEY, STR("k"), &record), 0);
    assert_true(str_eq(record.secret, str_from_c(expected)));
}

static void test_secrets(void **state)
{
    struct stores *stores = *state;
    struct check *check = &stores->check;
    run(stores, with_secret(VALUE_1, "s1", false), true, false);
    assert_secret(stores, "s1");
    check_text(check, "put key k=" VALUE_1 "+s1@1; answer 1; ");
    run(stores, with_secret(VALUE_2, NULL, true), false, false);
    assert_secret(stores, "s1");
    check_text(check, "put key k=" VALUE_2 "@2; answer 2; ");
    // Equal values have equal secrets.
    run(stores, with_secret(VALUE_2, "other", false), false, true);
    run(stores, with_secret(VALUE_2, NULL, true), false, true);
    assert_secret(stores, "s1");
    check_text(check, "answer 2; answer 2; ");
    // But for one that is to go, or comes.
    assert_int_equal(run(stores, with_secret(VALUE_2, NULL, false), false, false), 3);
    assert_secret(stores, "");
    assert_int_equal(run(stores, with_secret(VALUE_2, "s4", false), false, false), 4);
    assert_secret(stores, "s4");
    check_text(check, "put key k=" VALUE_2 "@3; answer 3; put key k=" VALUE_2 "+s4@4; answer 4; ");
    run(stores, with_secret(NULL, NULL, false), false, false);
    run(stores, with_secret(VALUE_1, NULL, true), true, false);
    assert_secret(stores, ""); // the old one is not found again
}

static struct store_request *reseal(const char *secret, uint64_t revision)
{
    struct store_request *request = with_secret(NULL, secret, false);
    request->changes[0].reseal = true;
    request->changes[0].if_match = revision;
    return request;
}

static void test_reseal(void **state)
{
    struct stores *stores = *state;
    refuse(stores, reseal("s1", 1), ERR_NOT_FOUND, 0, "key \"k\" does not exist");
    run(stores, with_secret(VALUE_1, "s1", false), true, false);
    run(stores, with_secret(VALUE_2, "s2", false), false, false);
    refuse(stores, reseal("old", 1), ERR_PRECONDITION, 0, "key \"k\" has revision 2, not 1");
    assert_secret(stores, "s2");
    unsigned fed = stores->check.fed;
    run(stores, reseal("anew", 2), false, true);
    assert_secret(stores, "anew");
    assert_int_equal(stores->check.fed, fed);
    assert_int_equal(store_revision(stores->check.store), 2);
    run(stores, with_secret(VALUE_1, NULL, true), false, false);
    assert_secret(stores, "anew");
}

// ---- large, many, again ----

static void test_large_batch(void **state)
{
    struct stores *stores = *state;
    enum { COUNT = 10000 };
    struct store_request *request = store_request_new(COUNT);
    stores->check.is_quiet = true;
    for (unsigned i = 0; i < COUNT; i++) {
        char key[16];
        char value[80];
        snprintf(key, sizeof key, "h%u", i);
        snprintf(value, sizeof value,
                 "{\"host\":\"%s\",\"path\":\"/\",\"respond\":{\"body\":\"x\"}}", key);
        const struct item item = {NOUN_ROUTE, key, value, NULL};
        stores_set(request, i, &item);
    }
    uint64_t began = clock_monotonic_ns();
    request = check_run(&stores->check, request);
    print_message("%u changes: %llu ms\n", (unsigned)COUNT,
                  (unsigned long long)((clock_monotonic_ns() - began) / NS_PER_MS));
    if (request->err == ERR_UNAVAILABLE && request->outcome != STORE_NOT_WRITTEN) {
        // A slow machine: an answer must come in time, and is live later.
        while (store_revision(stores->check.store) < 1 || stores->check.fed < COUNT) {
            assert_true(clock_monotonic_ns() < began + 60 * NS_PER_SEC);
            loop_turn(&stores->check.control, 10);
        }
    } else {
        assert_int_equal(request->err, 0);
        assert_int_equal(request->revision, 1);
    }
    for (unsigned i = 0; i < COUNT && request->err == 0; i++) {
        assert_true(request->changes[i].was_new);
        assert_int_equal(request->changes[i].revision, 1);
    }
    store_request_free(&request);
    assert_int_equal(stores->check.fed, COUNT);
    assert_int_equal(store_count(stores->check.store, NOUN_ROUTE), COUNT);
    assert_int_equal(store_revision(stores->check.store), 1);
}

// All at once: one order, no revision twice, answers in that order.
static void test_many_at_once(void **state)
{
    struct stores *stores = *state;
    struct check *check = &stores->check;
    enum { COUNT = 500 };
    static void *slots[COUNT];
    check->is_quiet = true;
    for (unsigned i = 0; i < COUNT; i++) {
        check_submit(check, make(i % 2 == 0 ? &a1 : &a2), &slots[i]);
    }
    check_wait(check, COUNT);
    uint64_t last = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        struct store_request *answer = slots[i];
        assert_int_equal(answer->err, 0);
        assert_true(answer->revision > last);
        last = answer->revision;
        store_request_free(&answer);
    }
    assert_int_equal(store_revision(check->store), last);
    assert_int_equal(revision_of(stores, &a2), last);
    assert_int_equal(check->fed, COUNT);
}

static void test_goes_on_after_a_restart(void **state)
{
    struct stores *stores = *state;
    check_expect(&stores->check, make_two(&pool, &b_to_p), 0);
    run(stores, with_secret(VALUE_1, "s", false), true, false);
    stores_close(stores);
    stores_open(stores);
    assert_int_equal(store_revision(stores->check.store), 2);
    assert_secret(stores, "s");
    refuse(stores, make(&pool_gone), ERR_IN_USE, 0, "pool \"p\" is used by route \"b\"");
    refuse(stores, if_match(&b1, 2), ERR_PRECONDITION, 0, "route \"b\" has revision 1, not 2");
    assert_int_equal(run(stores, make(&b_to_p), false, true), 1);
    assert_int_equal(run(stores, if_match(&b1, 1), false, false), 3);
    assert_int_equal(run(stores, make(&pool_gone), false, false), 4);
    assert_int_equal(store_count(stores->check.store, NOUN_POOL), 0);
    assert_int_equal(store_count(stores->check.store, NOUN_ROUTE), 1);
    assert_int_equal(store_count(stores->check.store, NOUN_KEY), 1);
}

static void test_stopped(void **state)
{
    struct stores *stores = *state;
    run(stores, make(&a1), true, false);
    fleet_stop(stores->fleet);
    store_stop(stores->check.store);
    struct store_request *request = check_run(&stores->check, make(&a2));
    assert_int_equal(request->err, ERR_UNAVAILABLE);
    assert_string_equal(request->changes[0].problems.items[0].detail, "the node is stopping");
    store_request_free(&request);
    assert_true(stores_has(stores, &a1)); // reading goes on
}

int main(void)
{
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } cases[] = {
        {"answers", test_answers},
        {"what is answered is live", test_what_is_answered_is_live},
        {"If-Match", test_if_match},
        {"If-None-Match", test_if_none_match},
        {"one key several times", test_one_key_several_times},
        {"made and deleted at once", test_made_and_deleted_at_once},
        {"all or nothing", test_all_or_nothing},
        {"no changes", test_no_changes},
        {"references", test_references},
        {"a reference names its place", test_reference_names_its_place},
        {"used by many", test_used_by_many},
        {"secrets", test_secrets},
        {"reseal", test_reseal},
        {"a large batch", test_large_batch},
        {"many at once", test_many_at_once},
        {"goes on after a restart", test_goes_on_after_a_restart},
        {"stopped", test_stopped},
    };
    static const enum kind kinds[] = {KIND_SQLITE, KIND_REDIS};
    enum { CASES = sizeof cases / sizeof cases[0] };
    struct CMUnitTest tests[2 * CASES];
    unsigned count = 0;
    hash_seed();
    for (unsigned k = 0; k < 2; k++) {
        for (unsigned i = 0; i < CASES; i++) {
            tests[count++] = (struct CMUnitTest){cases[i].name, cases[i].run, stores_setup,
                                                 stores_teardown, (void *)(uintptr_t)kinds[k]};
        }
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
