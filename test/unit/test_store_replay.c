// SPDX-License-Identifier: MIT
// A store as the replica of another: what is replayed, what is forced, marks, fronts, what fails.
#include "store_check.h"
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

static int setup(void **state)
{
    struct check *check = calloc(1, sizeof *check);
    check_init(check);
    check->is_replica = true;
    check_open(check);
    *state = check;
    return 0;
}

static int teardown(void **state)
{
    check_fini(*state);
    free(*state);
    return 0;
}

// One change of another store.
static struct store_request *make(enum store_way way, uint64_t revision, const char *key,
                                  const char *value, const char *mark)
{
    struct store_request *request = check_one(NOUN_ROUTE, key, value);
    request->way = way;
    request->revision = revision;
    request->changes[0].revision = revision;
    str_copy(request->mark, sizeof request->mark, str_from_c(mark));
    return request;
}

static uint64_t revision_of(struct check *check, const char *key)
{
    struct store_record record;
    int err = store_get(check->store, NOUN_ROUTE, str_from_c(key), &record);
    return err == 0 ? record.revision : 0;
}

static void test_replay(void **state)
{
    struct check *check = *state;
    check_expect(check, make(STORE_REPLAY, 7, "a", "1", "m7"), 0);
    check_expect(check, make(STORE_REPLAY, 12, "b", "1", "m12"), 0);
    check_expect(check, make(STORE_REPLAY, 13, "a", "2", "m13"), 0);
    check_text(check, "put route a=1@7; answer 7; put route b=1@12; answer 12; "
                      "put route a=2@13; answer 13; ");
    assert_int_equal(store_revision(check->store), 13);
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 2);
    check_expect(check, make(STORE_REPLAY, 14, "b", NULL, "m14"), 0);
    check_text(check, "del route b@14; answer 14; ");
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 1);
    assert_string_equal(store_mark(check->store), "m14");
}

static void test_replay_passes_over_what_is_as_new(void **state)
{
    struct check *check = *state;
    check_expect(check, make(STORE_REPLAY, 10, "a", "10", ""), 0);
    buf_clear(&check->log);
    struct store_request *request = check_run(check, make(STORE_REPLAY, 9, "a", "9", "m9"));
    assert_int_equal(request->err, 0);
    assert_true(request->changes[0].was_same);
    assert_int_equal(request->revision, 9);
    store_request_free(&request);
    check_expect(check, make(STORE_REPLAY, 10, "a", "other", ""), 0);
    check_expect(check, make(STORE_REPLAY, 9, "a", NULL, ""), 0);
    check_expect(check, make(STORE_REPLAY, 9, "absent", NULL, ""), 0);
    check_text(check, "answer 9; answer 10; answer 9; answer 9; ");
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 1);
    assert_int_equal(revision_of(check, "a"), 10);
    assert_int_equal(store_revision(check->store), 10);
    assert_string_equal(store_mark(check->store), "m9"); // the place moved on
    // Of a key that is not there an old one is news.
    check_expect(check, make(STORE_REPLAY, 5, "b", "5", ""), 0);
    assert_int_equal(store_revision(check->store), 10);
    assert_int_equal(revision_of(check, "b"), 5);
}

static void test_equal_value_takes_the_revision(void **state)
{
    struct check *check = *state;
    check_expect(check, make(STORE_REPLAY, 3, "a", "1", ""), 0);
    buf_clear(&check->log);
    unsigned feeds = check->feeds;
    check_expect(check, make(STORE_REPLAY, 8, "a", "1", "m8"), 0);
    check_text(check, "answer 8; ");
    assert_int_equal(revision_of(check, "a"), 8);
    assert_int_equal(store_revision(check->store), 8);
    assert_int_equal(check->feeds, feeds + 1); // without records: the revision rose
    check_expect(check, make(STORE_FORCE, 8, "a", "1", "m8"), 0);
    check_expect(check, make(STORE_FORCE, 6, "a", "1", "m6"), 0);
    check_text(check, "answer 8; answer 6; ");
    assert_int_equal(revision_of(check, "a"), 6);
    assert_int_equal(store_revision(check->store), 8);
    assert_int_equal(check->feeds, feeds + 1);
}

static void test_one_key_several_times(void **state)
{
    struct check *check = *state;
    struct store_request *request = store_request_new(5);
    request->way = STORE_REPLAY;
    request->revision = 4;
    check_set(request, 0, NOUN_ROUTE, "a", "1");
    check_set(request, 1, NOUN_ROUTE, "a", NULL);
    check_set(request, 2, NOUN_ROUTE, "a", "2");
    check_set(request, 3, NOUN_ROUTE, "b", "1");
    check_set(request, 4, NOUN_ROUTE, "b", NULL);
    for (unsigned i = 0; i < 5; i++) {
        request->changes[i].revision = 4;
    }
    check_expect(check, request, 0);
    check_text(check, "put route a=2@4; del route b@4; answer 4; ");
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 1);
}

static void test_force(void **state)
{
    struct check *check = *state;
    check_expect(check, make(STORE_REPLAY, 100, "a", "100", ""), 0);
    check_expect(check, make(STORE_REPLAY, 101, "b", "101", ""), 0);
    buf_clear(&check->log);
    struct store_request *request = make(STORE_FORCE, 105, "a", "50", "");
    request->changes[0].revision = 50;
    check_expect(check, request, 0);
    check_expect(check, make(STORE_FORCE, 105, "b", NULL, ""), 0);
    check_expect(check, make(STORE_FORCE, 105, "c", NULL, "m105"), 0);
    check_text(check, "put route a=50@50; answer 105; del route b@105; answer 105; answer 105; ");
    assert_int_equal(revision_of(check, "a"), 50);
    assert_int_equal(store_revision(check->store), 105);
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 1);
    assert_int_equal(check->parts, 2);
    // The store's revision never falls.
    check_expect(check, make(STORE_FORCE, 60, "d", "60", ""), 0);
    assert_int_equal(store_revision(check->store), 105);
    assert_int_equal(check->revision, 105);
}

static void on_referrer(void *context, enum noun noun, struct str key)
{
    assert_int_equal(noun, NOUN_ROUTE);
    buf_put(context, key);
    buf_put_char(context, ' ');
}

static void assert_referrers(struct check *check, const char *pool, const char *expected)
{
    struct buf text;
    buf_init(&text, 0);
    check_referrers(check->store, NOUN_POOL, pool, on_referrer, &text);
    assert_true(str_eq(buf_str(&text), str_from_c(expected)));
    buf_fini(&text);
}

static void test_nothing_is_checked_and_references_are_kept(void **state)
{
    struct check *check = *state;
    // Before its pool, which a newer record of the stream brings.
    struct store_request *request = make(STORE_REPLAY, 1, "a", "1", "");
    check_refer(request, 0, NOUN_POOL, "p", "/pool");
    check_expect(check, request, 0);
    assert_referrers(check, "p", "a ");
    request = make(STORE_REPLAY, 2, "a", "2", "");
    check_refer(request, 0, NOUN_POOL, "q", "/pool");
    check_expect(check, request, 0);
    assert_referrers(check, "p", "");
    assert_referrers(check, "q", "a ");
    request = check_one(NOUN_POOL, "q", "{}");
    request->way = STORE_REPLAY;
    request->revision = request->changes[0].revision = 3;
    check_expect(check, request, 0);
    request = check_one(NOUN_POOL, "q", NULL); // in use
    request->way = STORE_REPLAY;
    request->revision = request->changes[0].revision = 4;
    request->changes[0].if_match = 77; // means nothing
    check_expect(check, request, 0);
    assert_int_equal(store_count(check->store, NOUN_POOL), 0);
    check_expect(check, make(STORE_FORCE, 5, "a", NULL, ""), 0);
    assert_referrers(check, "q", "");
}

static void test_reader(void **state)
{
    struct check *check = *state;
    struct store_reader *reader = NULL;
    check_expect(check, make(STORE_REPLAY, 9, "a", "value", ""), 0);
    assert_int_equal(store_reader_open(check->store, &reader), 0);
    struct buf value;
    buf_init(&value, 0);
    buf_put(&value, STR("has "));
    uint64_t revision = 0;
    assert_int_equal(store_reader_get(reader, NOUN_ROUTE, STR("a"), &value, &revision), 0);
    assert_true(str_eq(buf_str(&value), STR("has value")));
    assert_int_equal(revision, 9);
    assert_int_equal(store_reader_get(reader, NOUN_ROUTE, STR("b"), &value, &revision),
                     ERR_NOT_FOUND);
    buf_fini(&value);
    store_reader_close(&reader);
}

static struct store_request *make_secret(enum store_way way, uint64_t revision, const char *value,
                                         const char *secret, bool keep)
{
    struct store_request *request = check_one(NOUN_CERTIFICATE, "c", value);
    struct store_change *change = &request->changes[0];
    request->way = way;
    request->revision = change->revision = revision;
    change->secret = secret == NULL ? NULL : str_dup(str_from_c(secret));
    change->keep_secret = keep;
    return request;
}

static void assert_secret(struct check *check, const char *expected)
{
    struct store_record record;
    assert_int_equal(store_get_secret(check->store, NOUN_CERTIFICATE, STR("c"), &record), 0);
    assert_true(str_eq(record.secret, str_from_c(expected)));
}

static void test_secrets(void **state)
{
    struct check *check = *state;
    check_expect(check, make_secret(STORE_REPLAY, 1, "v1", "s1", false), 0);
    assert_secret(check, "s1");
    check_expect(check, make_secret(STORE_REPLAY, 2, "v2", NULL, true), 0);
    assert_secret(check, "s1");
    check_text(check, "put certificate c=v1+s1@1; answer 1; put certificate c=v2@2; answer 2; ");
    struct store_request *request = make_secret(STORE_REPLAY, 2, NULL, "sealed anew", false);
    request->changes[0].reseal = true;
    check_expect(check, request, 0);
    assert_secret(check, "sealed anew");
    check_text(check, "answer 2; ");
    assert_int_equal(store_count(check->store, NOUN_CERTIFICATE), 1);
    check_expect(check, make_secret(STORE_FORCE, 3, "v2", "s3", false), 0);
    assert_secret(check, "s3");
    check_expect(check, make_secret(STORE_FORCE, 4, "v4", NULL, false), 0);
    assert_secret(check, "");
    request = make_secret(STORE_REPLAY, 5, NULL, "of nothing", false);
    request->changes[0].reseal = true;
    free(request->changes[0].key);
    request->changes[0].key = str_dup(STR("absent"));
    check_expect(check, request, 0);
    check_expect(check, make_secret(STORE_REPLAY, 6, NULL, NULL, false), 0);
    assert_int_equal(store_count(check->store, NOUN_CERTIFICATE), 0);
}

// ---- marks ----

static void test_mark_survives(void **state)
{
    struct check *check = *state;
    assert_string_equal(store_mark(check->store), "");
    check_expect(check, make(STORE_REPLAY, 1, "a", "1", "e 1 t 1-1"), 0);
    check_expect(check, make(STORE_REPLAY, 1, "a", "1", "e 1 t 2-1"), 0); // the place alone
    check_expect(check, make(STORE_REPLAY, 2, "b", "1", ""), 0);          // the old one stays
    struct store_request *request = store_request_new(0);
    request->way = STORE_REPLAY;
    request->revision = 9;
    str_copy(request->mark, sizeof request->mark, STR("e 9 t 3-1"));
    check_expect(check, request, 0); // no changes at all
    check_close(check);
    check_open(check);
    assert_string_equal(store_mark(check->store), "e 9 t 3-1");
    assert_int_equal(store_revision(check->store), 9);
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 2);
}

static void test_own_write_takes_the_mark_away(void **state)
{
    struct check *check = *state;
    check_expect(check, make(STORE_REPLAY, 5, "a", "1", "mark"), 0);
    check_expect(check, check_one(NOUN_ROUTE, "a", "1"), 0); // nothing changed
    assert_string_equal(store_mark(check->store), "mark");
    check_expect(check, check_one(NOUN_ROUTE, "a", "2"), 0);
    assert_string_equal(store_mark(check->store), "");
    check_close(check);
    check_open(check);
    assert_string_equal(store_mark(check->store), "");
    assert_int_equal(store_revision(check->store), 6);
}

// Replays until it is killed: route N has the value N, and the mark says which was the last.
// Says so by a byte once one of them is in the file.
static void replay_for_ever(struct check *check, int begun_fd)
{
    bool is_told = false;
    for (uint64_t i = store_revision(check->store) + 1;; i++) {
        char text[24];
        snprintf(text, sizeof text, "%llu", (unsigned long long)i);
        struct store_request *request = make(STORE_REPLAY, i, text, text, text);
        store_submit(check->store, &request);
        // One that the store refused, since too many wait, would be missing for ever.
        while (i % 50 == 0 && i - store_revision(check->store) > STORE_PENDING_MAX / 2) {
            loop_turn(&check->control, 1);
        }
        if (!is_told && store_revision(check->store) > 0) {
            is_told = write(begun_fd, "", 1) == 1;
        }
    }
}

static void test_mark_is_of_the_same_moment(void **state)
{
    struct check *check = *state;
    check_close(check);
    check->is_quiet = true;
    for (unsigned round = 0; round < 5; round++) {
        int begun[2];
        char byte;
        assert_int_equal(pipe(begun), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            check_open(check);
            replay_for_ever(check, begun[1]);
        }
        assert_int_equal(read(begun[0], &byte, 1), 1);
        close(begun[0]);
        close(begun[1]);
        usleep(25000 * round);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        check_open(check);
        uint64_t mark = 0;
        if (store_mark(check->store)[0] != '\0') {
            assert_int_equal(str_to_u64(str_from_c(store_mark(check->store)), &mark), 0);
        }
        assert_int_equal(store_revision(check->store), mark);
        assert_int_equal(store_count(check->store, NOUN_ROUTE), mark);
        check_close(check);
    }
    check_open(check);
    assert_true(store_revision(check->store) > 0);
}

// ---- a front ----

static struct front {
    struct store_request *taken;
    unsigned count;
} front;

static void take(void *context, struct store_request *request)
{
    struct front *to = context;
    to->taken = request;
    to->count++;
}

static void set_front(struct check *check)
{
    const struct store_front taker = {.submit = take, .context = &front};
    store_set_front(check->store, &taker);
}

static void test_front_takes_writes_alone(void **state)
{
    struct check *check = *state;
    check_close(check);
    check->before_start = set_front;
    check_open(check);
    buf_clear(&check->log);
    void *slot;
    check_submit(check, check_one(NOUN_ROUTE, "a", "1"), &slot);
    loop_turn(&check->control, 0);
    assert_int_equal(front.count, 1);
    assert_int_equal(check->answers, 0);
    check_expect(check, make(STORE_REPLAY, 1, "a", "1", "m"), 0);
    assert_int_equal(front.count, 1);
    front.taken->revision = 1;
    store_answer(&front.taken);
    assert_null(front.taken);
    check_wait(check, 2);
    struct store_request *answer = slot;
    assert_int_equal(answer->revision, 1);
    store_request_free(&answer);
    check_text(check, "put route a=1@1; answer 1; answer 1; ");
    // Without a loop and on_done: the control loop frees it.
    struct store_request *request = check_one(NOUN_ROUTE, "b", "1");
    request->extras = calloc(1, sizeof *request->extras);
    request->extras->argc = 2;
    request->extras->argv = calloc(2, sizeof(char *));
    request->extras->argv[0] = str_dup(STR("GET"));
    request->extras->argv[1] = str_dup(STR("key"));
    request->extras->expected = str_dup(STR("value"));
    store_submit(check->store, &request);
    assert_int_equal(front.count, 2);
    store_answer(&front.taken);
    loop_turn(&check->control, 0);
    store_stop(check->store);
    request = check_one(NOUN_ROUTE, "c", "1");
    store_submit(check->store, &request); // the front's business still
    assert_int_equal(front.count, 3);
    store_answer(&front.taken);
}

static void test_first_refused_change_gives_the_error(void **state)
{
    (void)state;
    struct store_request *request = store_request_new(3);
    for (unsigned i = 0; i < 3; i++) {
        check_set(request, i, NOUN_POOL, "p", i == 1 ? "{}" : NULL);
        request->changes[i].was_new = true;
        request->changes[i].revision = 5;
    }
    check_refer(request, 1, NOUN_CERTIFICATE, "c", "/tls/certificate");
    store_refuse_used(request, &request->changes[2], NOUN_ROUTE, STR("r"));
    store_refuse_used(request, &request->changes[2], NOUN_ROUTE, STR(""));
    store_refuse(request, &request->changes[1], STORE_DANGLING, 0);
    store_request_refuse(request);
    assert_int_equal(request->err, ERR_INVALID);
    assert_int_equal(request->changes[0].err, 0);
    assert_int_equal(request->changes[0].revision, 0);
    assert_false(request->changes[0].was_new);
    assert_string_equal(request->changes[1].problems.items[0].pointer, "/tls/certificate");
    assert_string_equal(request->changes[1].problems.items[0].detail,
                        "certificate \"c\" does not exist");
    assert_string_equal(request->changes[2].problems.items[0].detail,
                        "pool \"p\" is used by route \"r\"");
    assert_string_equal(request->changes[2].problems.items[1].detail, "and by more");
    store_request_free(&request);
}

// ---- what fails ----

// After a failure nothing that was already on its way is written, or the place would run ahead.
static void test_nothing_is_left_out(void **state)
{
    struct check *check = *state;
    char aside[120];
    snprintf(aside, sizeof aside, "%s.aside", check->path);
    check_expect(check, make(STORE_REPLAY, 1, "a", "1", "m1"), 0);
    assert_int_equal(rename(check->path, aside), 0);
    void *slots[3];
    check_submit(check, make(STORE_REPLAY, 2, "b", "2", "m2"), &slots[0]);
    struct store_status status;
    do { // it has failed, and its answer lies in the mailbox
        usleep(1000);
        store_get_status(check->store, &status);
    } while (status.is_writable);
    usleep(20000);
    assert_int_equal(rename(aside, check->path), 0);
    check_submit(check, make(STORE_REPLAY, 3, "c", "3", "m3"), &slots[1]);
    check_submit(check, make(STORE_FORCE, 4, "d", "4", "m4"), &slots[2]);
    usleep(20000);
    check_wait(check, 4);
    for (unsigned i = 0; i < 3; i++) {
        struct store_request *answer = slots[i];
        assert_int_equal(answer->err, ERR_UNAVAILABLE);
        assert_int_equal(answer->revision, 2 + i);
        assert_int_equal(answer->changes[0].revision, 2 + i); // as it was given: once more
        store_request_free(&answer);
    }
    assert_string_equal(store_mark(check->store), "m1");
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 1);
    check_expect(check, make(STORE_REPLAY, 2, "b", "2", "m2"), 0);
    check_expect(check, make(STORE_REPLAY, 3, "c", "3", "m3"), 0);
    assert_string_equal(store_mark(check->store), "m3");
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 3);
}

static void test_shared_reads_one_moment(void **state)
{
    struct check *check = *state;
    struct store *shared = NULL;
    struct problems problems;
    problems_init(&problems);
    assert_int_equal(store_open_shared(&shared, check->path, &problems), ERR_INVALID); // no mark
    assert_null(shared);
    problems_fini(&problems);
    problems_init(&problems);
    check_expect(check, make_secret(STORE_REPLAY, 3, "v", "s", false), 0);
    check_expect(check, make(STORE_REPLAY, 4, "a", "1", "m4"), 0);
    assert_int_equal(store_open_shared(&shared, check->path, &problems), 0);
    check_expect(check, make(STORE_REPLAY, 5, "a", "2", "m5"), 0); // the owner goes on
    struct store_record record;
    assert_int_equal(store_get(shared, NOUN_ROUTE, STR("a"), &record), 0);
    assert_true(str_eq(record.value, STR("1")));
    assert_int_equal(store_revision(shared), 4);
    assert_int_equal(store_count(shared, NOUN_ROUTE), 1);
    assert_int_equal(store_get_secret(shared, NOUN_CERTIFICATE, STR("c"), &record), 0);
    assert_true(str_eq(record.secret, STR("s")));
    store_close(&shared);
    assert_int_equal(revision_of(check, "a"), 5);
    assert_int_equal(store_open_shared(&shared, "/tmp/no/such/file", &problems), ERR_UNAVAILABLE);
    problems_fini(&problems);
}

static void test_replica_needs_a_path(void **state)
{
    (void)state;
    struct problems problems;
    struct store *store;
    problems_init(&problems);
    assert_int_equal(store_open_replica(&store, "", &problems), ERR_INVALID);
    assert_null(store);
    problems_fini(&problems);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_replay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replay_passes_over_what_is_as_new, setup, teardown),
        cmocka_unit_test_setup_teardown(test_equal_value_takes_the_revision, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_key_several_times, setup, teardown),
        cmocka_unit_test_setup_teardown(test_force, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_checked_and_references_are_kept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(test_secrets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mark_survives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_write_takes_the_mark_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mark_is_of_the_same_moment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_front_takes_writes_alone, setup, teardown),
        cmocka_unit_test(test_first_refused_change_gives_the_error),
        cmocka_unit_test_setup_teardown(test_nothing_is_left_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shared_reads_one_moment, setup, teardown),
        cmocka_unit_test(test_replica_needs_a_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
