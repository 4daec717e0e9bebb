// SPDX-License-Identifier: MIT
#include "store_check.h"
#include <sqlite3.h>
#include <sys/stat.h>

static int setup(void **state)
{
    struct check *check = malloc(sizeof *check);
    check_init(check);
    check_open(check);
    *state = check;
    return 0;
}

static int teardown(void **state)
{
    struct check *check = *state;
    check_fini(check);
    free(check);
    return 0;
}

static void assert_record(struct check *check, enum noun noun, const char *key, const char *value,
                          uint64_t revision)
{
    struct store_record record;
    int err = store_get(check->store, noun, str_from_c(key), &record);
    if (value == NULL) {
        assert_int_equal(err, ERR_NOT_FOUND);
        return;
    }
    assert_int_equal(err, 0);
    assert_true(str_eq(record.key, str_from_c(key)));
    assert_true(str_eq(record.value, str_from_c(value)));
    assert_int_equal(record.revision, revision);
}

static void turn_until_fed(struct check *check, unsigned fed)
{
    uint64_t until = clock_monotonic_ns() + 60 * NS_PER_SEC;
    while (check->fed < fed) {
        assert_true(clock_monotonic_ns() < until);
        loop_turn(&check->control, 10);
    }
}

// While a change is not live yet nothing overtakes it: no change, no answer, not even that all is as it
// was or a refusal.
static void test_a_slow_change_holds_back_what_follows(void **state)
{
    struct check *check = *state;
    void *slots[5];
    check->is_slow = true;
    check_submit(check, check_one(NOUN_ROUTE, "a", "1"), &slots[0]);
    turn_until_fed(check, 1);
    check_submit(check, check_one(NOUN_ROUTE, "a", "1"), &slots[1]);
    check_submit(check, check_one(NOUN_ROUTE, "b", "2"), &slots[2]);
    check_submit(check, check_one(NOUN_ROUTE, "none", NULL), &slots[3]);
    uint64_t until = clock_monotonic_ns() + NS_PER_SEC / 5;
    while (clock_monotonic_ns() < until) {
        loop_turn(&check->control, 10);
    }
    check_text(check, "put route a=1@1; ");
    store_line_resume(&check->line);
    turn_until_fed(check, 2);
    loop_turn(&check->control, 10);
    check_text(check, "answer 1; answer 1; put route b=2@2; ");
    store_line_resume(&check->line);
    check_wait(check, 4);
    check_text(check, "answer 2; answer 0; ");
    // The end: what is under way is resumed by its owner, the rest is delivered.
    check_submit(check, check_one(NOUN_ROUTE, "c", "3"), &slots[4]);
    turn_until_fed(check, 3);
    check->is_slow = false;
    store_line_resume(&check->line);
    check_wait(check, 5);
    for (unsigned i = 0; i < 5; i++) {
        struct store_request *request = slots[i];
        store_request_free(&request);
    }
}

static void test_put_and_delete(void **state)
{
    struct check *check = *state;
    assert_int_equal(store_revision(check->store), 0);
    struct store_request *r = check_run(check, check_one(NOUN_ROUTE, "a", "1"));
    assert_int_equal(r->err, 0);
    assert_int_equal(r->revision, 1);
    assert_true(r->changes[0].was_new);
    assert_int_equal(r->changes[0].revision, 1);
    store_request_free(&r);
    assert_record(check, NOUN_ROUTE, "a", "1", 1);
    assert_record(check, NOUN_POOL, "a", NULL, 0);
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 1);

    r = check_run(check, check_one(NOUN_ROUTE, "a", "2"));
    assert_false(r->changes[0].was_new);
    assert_int_equal(r->revision, 2);
    store_request_free(&r);
    check_expect(check, check_one(NOUN_POOL, "a", "p"), 0);
    assert_record(check, NOUN_ROUTE, "a", "2", 2);

    r = check_run(check, check_one(NOUN_ROUTE, "a", NULL));
    assert_int_equal(r->err, 0);
    assert_int_equal(r->changes[0].revision, 4);
    store_request_free(&r);
    assert_record(check, NOUN_ROUTE, "a", NULL, 0);
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 0);
    assert_int_equal(store_count(check->store, NOUN_POOL), 1);
    assert_int_equal(store_revision(check->store), 4);

    r = check_run(check, check_one(NOUN_ROUTE, "a", NULL));
    assert_int_equal(r->err, ERR_NOT_FOUND);
    assert_int_equal(r->changes[0].err, ERR_NOT_FOUND);
    assert_string_equal(r->changes[0].problems.items[0].detail, "route \"a\" does not exist");
    store_request_free(&r);
    check_text(check,
               "put route a=1@1; answer 1; put route a=2@2; answer 2; put pool a=p@3; answer 3; "
               "del route a@4; answer 4; answer 0; ");
}

static void test_same_value(void **state)
{
    struct check *check = *state;
    check_expect(check, check_one(NOUN_ROUTE, "a", "1"), 0);
    check_expect(check, check_one(NOUN_ROUTE, "b", "1"), 0);
    struct store_request *r = check_run(check, check_one(NOUN_ROUTE, "a", "1"));
    assert_int_equal(r->err, 0);
    assert_true(r->changes[0].was_same);
    assert_false(r->changes[0].was_new);
    assert_int_equal(r->changes[0].revision, 1); // the record's own
    assert_int_equal(r->revision, 2);            // the store's
    store_request_free(&r);
    // One of two is the same: the other has the revision.
    r = store_request_new(2);
    check_set(r, 0, NOUN_ROUTE, "a", "1");
    check_set(r, 1, NOUN_ROUTE, "b", "2");
    r = check_run(check, r);
    assert_int_equal(r->revision, 3);
    assert_true(r->changes[0].was_same);
    assert_false(r->changes[1].was_same);
    store_request_free(&r);
    assert_record(check, NOUN_ROUTE, "a", "1", 1);
    check_text(check, "put route a=1@1; answer 1; put route b=1@2; answer 2; answer 2; "
                      "put route b=2@3; answer 3; ");
}

static void test_conditions(void **state)
{
    struct check *check = *state;
    struct store_request *r = check_one(NOUN_ROUTE, "a", "1");
    r->changes[0].if_match_any = true;
    check_expect(check, r, ERR_PRECONDITION);
    r = check_one(NOUN_ROUTE, "a", "1");
    r->changes[0].if_match = 1;
    check_expect(check, r, ERR_PRECONDITION);
    r = check_one(NOUN_ROUTE, "a", "1");
    r->changes[0].if_none_match = true;
    check_expect(check, r, 0);
    r = check_one(NOUN_ROUTE, "a", "1");
    r->changes[0].if_none_match = true;
    check_expect(check, r, ERR_PRECONDITION);
    r = check_one(NOUN_ROUTE, "a", "2");
    r->changes[0].if_match = 1;
    check_expect(check, r, 0);
    r = check_one(NOUN_ROUTE, "a", "2"); // the same value, but somebody was faster
    r->changes[0].if_match = 1;
    r = check_run(check, r);
    assert_int_equal(r->err, ERR_PRECONDITION);
    assert_int_equal(r->revision, 0);
    assert_string_equal(r->changes[0].problems.items[0].detail,
                        "route \"a\" has revision 2, not 1");
    store_request_free(&r);
    r = check_one(NOUN_ROUTE, "a", NULL);
    r->changes[0].if_match = 1;
    check_expect(check, r, ERR_PRECONDITION);
    r = check_one(NOUN_ROUTE, "a", NULL);
    r->changes[0].if_match_any = true;
    check_expect(check, r, 0);
    r = check_one(NOUN_ROUTE, "a", NULL);
    r->changes[0].if_match = 2;
    check_expect(check, r, ERR_NOT_FOUND);
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 0);
}

static void test_all_or_nothing(void **state)
{
    struct check *check = *state;
    struct store_request *r = store_request_new(4);
    check_set(r, 0, NOUN_ROUTE, "a", "1");
    check_set(r, 1, NOUN_ROUTE, "b", NULL);
    check_set(r, 2, NOUN_ROUTE, "c", "1");
    check_set(r, 3, NOUN_ROUTE, "a", "2")->if_none_match = true;
    r = check_run(check, r);
    assert_int_equal(r->err, ERR_NOT_FOUND); // the first one's; both are reported
    assert_int_equal(r->changes[1].err, ERR_NOT_FOUND);
    assert_int_equal(r->changes[3].err, ERR_PRECONDITION);
    assert_int_equal(r->changes[0].err, 0);
    assert_false(r->changes[0].was_new);
    store_request_free(&r);
    assert_record(check, NOUN_ROUTE, "a", NULL, 0);
    assert_record(check, NOUN_ROUTE, "c", NULL, 0);
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 0);
    assert_int_equal(store_revision(check->store), 0);
    check_expect(check, check_one(NOUN_ROUTE, "d", "1"), 0);
    assert_int_equal(store_revision(check->store), 1);
}

static void test_one_key_several_times(void **state)
{
    struct check *check = *state;
    struct store_request *r = store_request_new(7);
    check_set(r, 0, NOUN_ROUTE, "a", "1");
    check_set(r, 1, NOUN_POOL, "a", "1");
    check_set(r, 2, NOUN_ROUTE, "b", "1");
    check_set(r, 3, NOUN_ROUTE, "a", "2");
    check_set(r, 4, NOUN_ROUTE, "a", "2"); // same: what is fed is the change before
    check_set(r, 5, NOUN_ROUTE, "b", NULL);
    check_set(r, 6, NOUN_POOL, "c", "1");
    r = check_run(check, r);
    assert_int_equal(r->err, 0);
    assert_true(r->changes[4].was_same);
    assert_int_equal(r->changes[4].revision, 1);
    store_request_free(&r);
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 1);
    check_text(check, "put pool a=1@1; put route a=2@1; del route b@1; put pool c=1@1; answer 1; ");
}

static void test_references(void **state)
{
    struct check *check = *state;
    struct store_request *r = check_one(NOUN_ROUTE, "a", "1");
    check_refer(r, 0, NOUN_POOL, "x", "/split/0/pool");
    check_refer(r, 0, NOUN_POOL, "y", "/split/1/pool");
    r = check_run(check, r);
    assert_int_equal(r->err, ERR_INVALID);
    assert_int_equal(r->changes[0].problems.count, 2);
    assert_string_equal(r->changes[0].problems.items[1].pointer, "/split/1/pool");
    assert_string_equal(r->changes[0].problems.items[1].detail, "pool \"y\" does not exist");
    store_request_free(&r);
    assert_record(check, NOUN_ROUTE, "a", NULL, 0);

    // Forward, inside of one request.
    r = store_request_new(2);
    check_set(r, 0, NOUN_ROUTE, "a", "1");
    check_refer(r, 0, NOUN_POOL, "x", "/pool");
    check_refer(r, 0, NOUN_POOL, "x", "/pool"); // twice is once
    check_set(r, 1, NOUN_POOL, "x", "p");
    check_expect(check, r, 0);

    // What a value that the same request replaces refers to does not matter.
    r = store_request_new(2);
    check_set(r, 0, NOUN_ROUTE, "b", "1");
    check_refer(r, 0, NOUN_POOL, "missing", "/pool");
    check_set(r, 1, NOUN_ROUTE, "b", "2");
    check_refer(r, 1, NOUN_POOL, "x", "/pool");
    check_expect(check, r, 0);

    r = check_run(check, check_one(NOUN_POOL, "x", NULL));
    assert_int_equal(r->err, ERR_IN_USE);
    assert_int_equal(r->changes[0].problems.count, 2);
    assert_string_equal(r->changes[0].problems.items[0].detail,
                        "pool \"x\" is used by route \"a\"");
    store_request_free(&r);
    assert_record(check, NOUN_POOL, "x", "p", 1);

    // Deleting both, in any order; replacing what refers.
    r = store_request_new(3);
    check_set(r, 0, NOUN_POOL, "x", NULL);
    check_set(r, 1, NOUN_ROUTE, "a", NULL);
    check_set(r, 2, NOUN_ROUTE, "b", "3");
    check_expect(check, r, 0);
    assert_record(check, NOUN_POOL, "x", NULL, 0);
    // Gone and back inside one request is not gone.
    check_expect(check, check_one(NOUN_POOL, "x", "p"), 0);
    r = check_one(NOUN_ROUTE, "a", "1");
    check_refer(r, 0, NOUN_POOL, "x", "/pool");
    check_expect(check, r, 0);
    r = store_request_new(2);
    check_set(r, 0, NOUN_POOL, "x", NULL);
    check_set(r, 1, NOUN_POOL, "x", "p");
    check_expect(check, r, 0);
    check_expect(check, check_one(NOUN_POOL, "x", NULL), ERR_IN_USE);
}

static void add_referrer(void *context, enum noun noun, struct str key)
{
    struct str name = noun_name(noun);
    buf_printf(context, "%.*s %.*s;", STR_ARG(name), STR_ARG(key));
}

static void test_many_referrers(void **state)
{
    struct check *check = *state;
    check->is_quiet = true;
    check_expect(check, check_one(NOUN_POOL, "x", "p"), 0);
    struct store_request *r = store_request_new(30);
    for (unsigned i = 0; i < 30; i++) {
        char key[16];
        snprintf(key, sizeof key, "r%02u", i);
        check_set(r, i, NOUN_ROUTE, key, "1");
        check_refer(r, i, NOUN_POOL, "x", "/pool");
    }
    check_expect(check, r, 0);
    r = check_run(check, check_one(NOUN_POOL, "x", NULL));
    assert_int_equal(r->err, ERR_IN_USE);
    assert_int_equal(r->changes[0].problems.count, 11);
    assert_string_equal(r->changes[0].problems.items[10].detail, "and by more");
    store_request_free(&r);
    buf_clear(&check->log);
    check_referrers(check->store, NOUN_POOL, "x", add_referrer, &check->log);
    check_text(check, "route r00;route r01;route r02;route r03;route r04;route r05;route r06;"
                      "route r07;route r08;route r09;");
}

struct listing {
    struct check *check;
    unsigned stop_after; // 0: never
    unsigned count;
};

static bool add_key(void *context, const struct store_record *record)
{
    struct listing *listing = context;
    buf_printf(&listing->check->log, "%.*s=%.*s ", STR_ARG(record->key), STR_ARG(record->value));
    return ++listing->count != listing->stop_after;
}

static void assert_list(struct check *check, const char *after, const char *host, unsigned limit,
                        unsigned stop_after, const char *expected)
{
    struct listing listing = {check, stop_after, 0};
    buf_clear(&check->log);
    assert_int_equal(store_list(check->store, NOUN_ROUTE, str_from_c(after), str_from_c(host),
                                limit, add_key, &listing),
                     0);
    check_text(check, expected);
}

static void test_list(void **state)
{
    struct check *check = *state;
    static const char *const keys[] = {"h/a", "h", "h0", "h.x",    "h-x", "h/b/c",
                                       "*.h", "*", "ha", "h/\x7f", "g",   "h/\xc3\xa4"};
    struct store_request *r = store_request_new(13);
    for (unsigned i = 0; i < 12; i++) {
        check_set(r, i, NOUN_ROUTE, keys[i], "1");
    }
    check_set(r, 12, NOUN_POOL, "h/pool", "1");
    check_expect(check, r, 0);
    assert_list(check, "", "", 0, 0,
                "*=1 *.h=1 g=1 h=1 h-x=1 h.x=1 h/a=1 h/b/c=1 h/\x7f=1 h/\xc3\xa4=1 h0=1 ha=1 ");
    assert_list(check, "", "", 2, 0, "*=1 *.h=1 ");
    assert_list(check, "*.h", "", 2, 0, "g=1 h=1 ");
    assert_list(check, "g1", "", 0, 2, "h=1 h-x=1 ");
    assert_list(check, "zz", "", 5, 0, "");
    assert_list(check, "", "h", 0, 0, "h=1 h/a=1 h/b/c=1 h/\x7f=1 h/\xc3\xa4=1 ");
    assert_list(check, "", "h", 1, 0, "h=1 ");
    assert_list(check, "", "h", 3, 0, "h=1 h/a=1 h/b/c=1 ");
    assert_list(check, "h", "h", 2, 0, "h/a=1 h/b/c=1 ");
    assert_list(check, "h/a", "h", 1, 0, "h/b/c=1 ");
    assert_list(check, "", "h", 0, 2, "h=1 h/a=1 ");
    assert_list(check, "i", "h", 0, 0, "");
    assert_list(check, "", "none", 0, 0, "");
    assert_list(check, "", "*", 0, 0, "*=1 ");
}

// A list is of one moment, and does not hold up the writer.
static bool write_meanwhile(void *context, const struct store_record *record)
{
    struct listing *listing = context;
    if (listing->count++ == 0) {
        assert_true(str_eq(record->key, STR("a")));
        check_expect(listing->check, check_one(NOUN_ROUTE, "b", NULL), 0);
        struct store_record other;
        assert_int_equal(store_get(listing->check->store, NOUN_ROUTE, STR("c"), &other), 0);
    }
    return true;
}

static void test_list_while_writing(void **state)
{
    struct check *check = *state;
    struct store_request *r = store_request_new(3);
    check_set(r, 0, NOUN_ROUTE, "a", "1");
    check_set(r, 1, NOUN_ROUTE, "b", "1");
    check_set(r, 2, NOUN_ROUTE, "c", "1");
    check_expect(check, r, 0);
    struct listing listing = {check, 0, 0};
    assert_int_equal(
        store_list(check->store, NOUN_ROUTE, STR(""), STR(""), 0, write_meanwhile, &listing), 0);
    assert_int_equal(listing.count, 3);
    assert_list(check, "", "", 0, 0, "a=1 c=1 ");
}

static void test_groups(void **state)
{
    struct check *check = *state;
    enum { COUNT = 1000 };
    check->is_quiet = true;
    void **slots = calloc(COUNT, sizeof *slots);
    for (unsigned i = 0; i < COUNT; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%u", i % 100);
        char value[16];
        snprintf(value, sizeof value, "%u", i);
        struct store_request *r = check_one(NOUN_ROUTE, key, value);
        r->changes[0].if_none_match = i >= 900; // the last 100 are refused among the others
        check_submit(check, r, &slots[i]);
    }
    check_wait(check, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        struct store_request *r = slots[i];
        assert_int_equal(r->err, i < 900 ? 0 : ERR_PRECONDITION);
        assert_int_equal(r->revision, i < 900 ? i + 1 : 0); // in the order of their coming
        store_request_free(&r);
    }
    free(slots);
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 100);
    assert_record(check, NOUN_ROUTE, "k42", "842", 843);
    struct store_status status;
    store_get_status(check->store, &status);
    assert_true(status.is_writable);
    assert_int_equal(status.pending, 0);
    assert_true(status.commits >= 1 && status.commits < 900);
    assert_true(status.last_commit_ns > 0);
}

static void test_overload(void **state)
{
    struct check *check = *state;
    check->is_quiet = true;
    // A request of any length is taken when nothing waits; behind it there is a bound.
    enum { BIG = STORE_PENDING_CHANGES_MAX };
    struct store_request *requests[8];
    void *slots[8];
    for (unsigned n = 0; n < 8; n++) {
        requests[n] = store_request_new(n == 0 ? 20000 : BIG / 2);
        for (unsigned i = 0; i < requests[n]->count; i++) {
            check_set(requests[n], i, NOUN_ROUTE, "k", n == 0 ? "1" : "2");
        }
    }
    for (unsigned n = 0; n < 8; n++) { // the first keeps the store busy meanwhile
        check_submit(check, requests[n], &slots[n]);
    }
    check_wait(check, 8);
    unsigned refused = 0;
    for (unsigned n = 0; n < 8; n++) {
        struct store_request *r = slots[n];
        if (r->err != 0) {
            assert_int_equal(r->err, ERR_UNAVAILABLE);
            assert_int_equal(r->changes[r->count - 1].err, ERR_UNAVAILABLE);
            assert_string_equal(r->changes[0].problems.items[0].detail,
                                "too many changes wait to be written");
            refused++;
        }
        store_request_free(&r);
    }
    assert_true(refused >= 3 && refused < 8);
    assert_record(check, NOUN_ROUTE, "k", "2", 2);
}

static void test_big_batch(void **state)
{
    struct check *check = *state;
    check->is_quiet = true;
    struct store_request *r = store_request_new(10000);
    for (unsigned i = 0; i < r->count; i++) {
        char key[32];
        snprintf(key, sizeof key, "host-%u.example.com", i);
        check_set(r, i, NOUN_ROUTE, key, "{}");
    }
    check_expect(check, r, 0);
    assert_int_equal(check->fed, 10000);
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 10000);
    assert_int_equal(store_revision(check->store), 1);
}

static void test_restart(void **state)
{
    struct check *check = *state;
    char node_id[17];
    assert_int_equal(store_node_id(check->store).len, 16);
    str_copy(node_id, sizeof node_id, store_node_id(check->store));
    check_expect(check, check_one(NOUN_POOL, "x", "p"), 0);
    struct store_request *r = check_one(NOUN_ROUTE, "a", "1");
    check_refer(r, 0, NOUN_POOL, "x", "/pool");
    check_expect(check, r, 0);
    // What was submitted before the close is written, and answered after it.
    void *slot;
    check_submit(check, check_one(NOUN_ROUTE, "late", "1"), &slot);
    check_close(check);
    assert_int_equal(check->answers, 3);
    r = slot;
    assert_int_equal(r->err, 0);
    store_request_free(&r);
    check_text(check, "put pool x=p@1; answer 1; put route a=1@2; answer 2; put route late=1@3; "
                      "answer 3; ");
    check_open(check);
    assert_true(str_eq(store_node_id(check->store), str_from_c(node_id)));
    assert_int_equal(store_revision(check->store), 3);
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 2);
    assert_int_equal(store_count(check->store, NOUN_POOL), 1);
    assert_record(check, NOUN_ROUTE, "late", "1", 3);
    check_expect(check, check_one(NOUN_POOL, "x", NULL), ERR_IN_USE);
    r = check_run(check, check_one(NOUN_ROUTE, "b", "1"));
    assert_int_equal(r->revision, 4);
    store_request_free(&r);
    check_close(check);
    check_open(check);
}

static void test_without_answer(void **state)
{
    struct check *check = *state;
    struct store_request *r = check_one(NOUN_ROUTE, "a", "1");
    store_submit(check->store, &r);
    check_expect(check, check_one(NOUN_ROUTE, "b", "1"), 0);
    check_text(check, "put route a=1@1; put route b=1@2; answer 2; ");
}

static void test_other_loop(void **state)
{
    struct check *check = *state;
    struct loop other;
    assert_int_equal(loop_init(&other), 0);
    struct store_request *r = check_one(NOUN_ROUTE, "a", "1");
    void *slot = check;
    r->loop = &other;
    r->on_done = check_on_done;
    r->context = &slot;
    store_submit(check->store, &r);
    for (unsigned i = 0; i < 1000 && check->fed == 0; i++) {
        loop_turn(&check->control, 100);
    }
    check_text(check, "put route a=1@1; ");
    assert_int_equal(check->answers, 0);
    loop_turn(&other, 0);
    assert_int_equal(check->answers, 1);
    r = slot;
    store_request_free(&r);
    loop_fini(&other);
}

static void test_lock(void **state)
{
    struct check *check = *state;
    struct store *second;
    struct problems problems;
    problems_init(&problems);
    assert_int_equal(store_open(&second, str_from_c(check->url), &problems), ERR_LOCKED);
    assert_null(second);
    char expected[200];
    snprintf(expected, sizeof expected, "%s is in use by process %ld", check->path, (long)getpid());
    assert_string_equal(problems.items[0].detail, expected);
    problems_fini(&problems);
    check_close(check);
    assert_int_equal(store_open(&second, str_from_c(check->url), &problems), 0);
    store_close(&second);
}

static void assert_mode(const char *path, const char *suffix)
{
    char name[120];
    snprintf(name, sizeof name, "%s%s", path, suffix);
    struct stat status;
    assert_int_equal(stat(name, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void test_files_are_private(void **state)
{
    struct check *check = *state;
    check_expect(check, check_one(NOUN_ROUTE, "a", "1"), 0);
    assert_mode(check->path, "");
    assert_mode(check->path, "-wal");
    assert_mode(check->path, "-shm");
    assert_mode(check->path, ".lock");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_put_and_delete, setup, teardown),
        cmocka_unit_test_setup_teardown(test_same_value, setup, teardown),
        cmocka_unit_test_setup_teardown(test_conditions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_or_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_key_several_times, setup, teardown),
        cmocka_unit_test_setup_teardown(test_references, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_referrers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list_while_writing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_groups, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overload, setup, teardown),
        cmocka_unit_test_setup_teardown(test_big_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_slow_change_holds_back_what_follows, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_are_private, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
