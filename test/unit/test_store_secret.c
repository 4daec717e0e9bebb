// SPDX-License-Identifier: MIT
// What is stored beside a record and never shown.
#include "store_check.h"
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
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

static struct store_request *make(const char *key, const char *value, const char *secret)
{
    struct store_request *r = check_one(NOUN_CERTIFICATE, key, value);
    r->changes[0].secret = secret == NULL ? NULL : str_dup(str_from_c(secret));
    return r;
}

static void put(struct check *check, const char *key, const char *value, const char *secret)
{
    check_expect(check, make(key, value, secret), 0);
}

static struct store_request *reseal(const char *key, const char *secret, uint64_t if_match)
{
    struct store_request *r = make(key, NULL, secret);
    r->changes[0].reseal = true;
    r->changes[0].if_match = if_match;
    return r;
}

// NULL: none.
static void assert_secret(struct check *check, const char *key, const char *secret)
{
    struct store_record record;
    struct store_reader *reader;
    struct buf text;
    buf_init(&text, 0);
    buf_put(&text, STR("<"));
    assert_int_equal(store_reader_open(check->store, &reader), 0);
    int err = store_reader_secret(reader, NOUN_CERTIFICATE, str_from_c(key), &text);
    assert_int_equal(err, secret == NULL ? ERR_NOT_FOUND : 0);
    assert_true(str_eq(str_from(buf_str(&text), 1), str_from_c(secret)));
    assert_true(buf_str(&text).p[0] == '<'); // appended
    store_reader_close(&reader);
    assert_null(reader);
    buf_fini(&text);
    err = store_get_secret(check->store, NOUN_CERTIFICATE, str_from_c(key), &record);
    assert_true(err == 0 || (err == ERR_NOT_FOUND && secret == NULL));
    assert_true(err != 0 || str_eq(record.secret, str_from_c(secret)));
    if (store_get(check->store, NOUN_CERTIFICATE, str_from_c(key), &record) == 0) {
        assert_int_equal(record.secret.len, 0);
    }
}

static bool no_secret(void *context, const struct store_record *record)
{
    assert_int_equal(record->secret.len, 0);
    ++*(unsigned *)context;
    return true;
}

static void test_with_the_value(void **state)
{
    struct check *check = *state;
    put(check, "a", "1", "s1");
    assert_secret(check, "a", "s1");
    put(check, "a", "2", "s2");
    assert_secret(check, "a", "s2");
    struct store_request *r = make("a", "3", NULL);
    r->changes[0].keep_secret = true;
    check_expect(check, r, 0);
    assert_secret(check, "a", "s2");
    put(check, "a", "4", NULL);
    assert_secret(check, "a", NULL);
    put(check, "a", "5", "s5");
    put(check, "a", NULL, NULL);
    assert_secret(check, "a", NULL);
    put(check, "a", "6", NULL); // it went with the record
    assert_secret(check, "a", NULL);
    put(check, "b", "1", "");
    assert_secret(check, "b", "");
    unsigned count = 0;
    assert_int_equal(
        store_list(check->store, NOUN_CERTIFICATE, STR_NULL, STR_NULL, 0, no_secret, &count), 0);
    assert_int_equal(count, 2);
    check_text(check, "put certificate a=1+s1@1; answer 1; put certificate a=2+s2@2; answer 2; "
                      "put certificate a=3@3; answer 3; put certificate a=4@4; answer 4; "
                      "put certificate a=5+s5@5; answer 5; del certificate a@6; answer 6; "
                      "put certificate a=6@7; answer 7; put certificate b=1@8; answer 8; ");
}

// The same value: the same secret, whatever it was sealed to.
static void test_same_value(void **state)
{
    struct check *check = *state;
    put(check, "a", "1", "s1");
    struct store_request *r = check_run(check, make("a", "1", "sealed anew"));
    assert_int_equal(r->err, 0);
    assert_true(r->changes[0].was_same);
    assert_int_equal(r->changes[0].revision, 1);
    store_request_free(&r);
    assert_secret(check, "a", "s1");
    r = make("a", "1", NULL);
    r->changes[0].keep_secret = true;
    r = check_run(check, r);
    assert_true(r->changes[0].was_same);
    store_request_free(&r);
    // But one that was never stored is, and one that is to go goes.
    r = check_run(check, make("a", "1", NULL));
    assert_false(r->changes[0].was_same);
    assert_int_equal(r->revision, 2);
    store_request_free(&r);
    assert_secret(check, "a", NULL);
    r = check_run(check, make("a", "1", "s3"));
    assert_false(r->changes[0].was_same);
    store_request_free(&r);
    assert_secret(check, "a", "s3");
    assert_int_equal(store_revision(check->store), 3);
}

static void test_undone(void **state)
{
    struct check *check = *state;
    put(check, "a", "1", "s1");
    struct store_request *r = store_request_new(2);
    check_set(r, 0, NOUN_CERTIFICATE, "a", "2")->secret = str_dup(STR("s2"));
    check_set(r, 1, NOUN_CERTIFICATE, "none", NULL);
    check_expect(check, r, ERR_NOT_FOUND);
    assert_secret(check, "a", "s1");
}

static void test_reseal(void **state)
{
    struct check *check = *state;
    put(check, "a", "1", "s1");
    put(check, "b", "1", "s2");
    buf_clear(&check->log);
    struct store_request *r = check_run(check, reseal("a", "anew", 1));
    assert_int_equal(r->err, 0);
    assert_true(r->changes[0].was_same);
    assert_int_equal(r->changes[0].revision, 1);
    assert_int_equal(r->revision, 2);
    store_request_free(&r);
    assert_secret(check, "a", "anew");
    struct store_record record;
    assert_int_equal(store_get(check->store, NOUN_CERTIFICATE, STR("a"), &record), 0);
    assert_true(str_eq(record.value, STR("1")));
    assert_int_equal(record.revision, 1);
    assert_int_equal(store_revision(check->store), 2);
    check_text(check, "answer 2; "); // no feed
    // Somebody was faster.
    put(check, "a", "2", "newer");
    check_expect(check, reseal("a", "older", 1), ERR_PRECONDITION);
    assert_secret(check, "a", "newer");
    put(check, "a", NULL, NULL);
    check_expect(check, reseal("a", "older", 3), ERR_NOT_FOUND);
    assert_secret(check, "a", NULL);
    // What is in use may be sealed anew.
    r = check_one(NOUN_POOL, "p", "1");
    check_refer(r, 0, NOUN_CERTIFICATE, "b", "/tls/client_certificate");
    check_expect(check, r, 0);
    check_expect(check, reseal("b", "anew", 2), 0);
    assert_secret(check, "b", "anew");
    check_expect(check, check_one(NOUN_CERTIFICATE, "b", NULL), ERR_IN_USE);
    // In one request with others: they are judged as without it.
    r = store_request_new(3);
    check_set(r, 0, NOUN_CERTIFICATE, "b", "1")->secret = str_dup(STR("x"));
    check_set(r, 1, NOUN_CERTIFICATE, "b", NULL);
    check_set(r, 2, NOUN_CERTIFICATE, "b", NULL)->secret = str_dup(STR("y"));
    r->changes[2].reseal = true;
    r->changes[2].if_match = 2;
    check_expect(check, r, ERR_IN_USE);
    assert_secret(check, "b", "anew");
    r = store_request_new(2);
    check_set(r, 0, NOUN_POOL, "p", "2");
    check_refer(r, 0, NOUN_CERTIFICATE, "none", "/tls/client_certificate");
    check_set(r, 1, NOUN_POOL, "p", NULL)->secret = str_dup(STR("y"));
    r->changes[1].reseal = true;
    r->changes[1].if_match = store_revision(check->store) + 1;
    check_expect(check, r, ERR_INVALID);
}

static void test_restart(void **state)
{
    struct check *check = *state;
    put(check, "a", "1", "s1");
    struct store_request *r = check_one(NOUN_TICKETS, "current", "{}");
    r->changes[0].secret = str_dup(STR("t"));
    check_expect(check, r, 0);
    assert_int_equal(store_count(check->store, NOUN_TICKETS), 1);
    check_text(check, "put certificate a=1+s1@1; answer 1; put tickets current={}+t@2; answer 2; ");
    check_close(check);
    check_open(check);
    assert_int_equal(store_count(check->store, NOUN_TICKETS), 1);
    assert_int_equal(store_count(check->store, NOUN_CERTIFICATE), 1);
    assert_secret(check, "a", "s1");
}

// Neither of the files has it when the record is gone and the log was moved into the file.
static void test_erased(void **state)
{
    struct check *check = *state;
    static const char secret[] = "a-key-that-must-not-stay-anywhere";
    char big[5000];
    memset(big, 'k', sizeof big);
    memcpy(big, secret, sizeof secret - 1);
    memcpy(big + sizeof big - sizeof secret, secret, sizeof secret);
    put(check, "a", "1", big);
    put(check, "a", NULL, NULL);
    check_close(check); // the last connection moves the log
    static char file[1 << 20];
    FILE *stream = fopen(check->path, "r");
    size_t len = fread(file, 1, sizeof file, stream);
    fclose(stream);
    assert_true(len > 0 && len < sizeof file);
    assert_null(memmem(file, len, secret, sizeof secret - 1));
}

struct reading {
    struct store_reader *reader;
    atomic_bool is_over;
    uint64_t reads;
};

// Sees whole secrets only, and never older ones than before.
static void *read_on(void *argument)
{
    struct reading *reading = argument;
    unsigned last = 0;
    while (!atomic_load_explicit(&reading->is_over, memory_order_relaxed)) {
        struct buf text;
        buf_init(&text, 0);
        int err = store_reader_secret(reading->reader, NOUN_CERTIFICATE, STR("a"), &text);
        assert_int_equal(err, 0);
        uint64_t number;
        assert_int_equal(text.len, 3000);
        assert_int_equal(str_to_u64(str_sub(buf_str(&text), 0, 10), &number), 0);
        assert_true(number >= last);
        last = (unsigned)number;
        reading->reads++;
        buf_fini(&text);
    }
    return NULL;
}

static void test_reader_beside_writer(void **state)
{
    struct check *check = *state;
    check->is_quiet = true;
    char secret[3001];
    memset(secret, 'x', 3000);
    secret[3000] = '\0';
    struct reading reading = {0};
    pthread_t thread;
    for (unsigned i = 0; i < 300; i++) {
        char value[16];
        snprintf(value, sizeof value, "%u", i);
        snprintf(secret, 11, "%010u", i);
        secret[10] = 'x';
        put(check, "a", value, secret);
        if (i == 0) {
            assert_int_equal(store_reader_open(check->store, &reading.reader), 0);
            assert_int_equal(pthread_create(&thread, NULL, read_on, &reading), 0);
        }
    }
    // What was answered is seen.
    struct store_reader *reader;
    struct buf text;
    buf_init(&text, 0);
    assert_int_equal(store_reader_open(check->store, &reader), 0);
    assert_int_equal(store_reader_secret(reader, NOUN_CERTIFICATE, STR("a"), &text), 0);
    assert_true(str_starts(buf_str(&text), STR("0000000299")));
    buf_fini(&text);
    buf_init(&text, 100); // its owner's bound
    assert_int_equal(store_reader_secret(reader, NOUN_CERTIFICATE, STR("a"), &text), ERR_MEMORY);
    buf_fini(&text);
    store_reader_close(&reader);
    atomic_store_explicit(&reading.is_over, true, memory_order_relaxed);
    pthread_join(thread, NULL);
    assert_true(reading.reads > 0);
    store_reader_close(&reading.reader);
}

// Far over what it takes: the secrets are not read.
static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static void test_list_of_many(void **state)
{
    struct check *check = *state;
    check->is_quiet = true;
    enum { BLOCKS = 5, BLOCK = 1000 };
    char secret[4001];
    memset(secret, 's', 4000);
    secret[4000] = '\0';
    for (unsigned b = 0; b < BLOCKS; b++) {
        struct store_request *r = store_request_new(BLOCK);
        for (unsigned i = 0; i < BLOCK; i++) {
            char key[32];
            snprintf(key, sizeof key, "c%u", b * BLOCK + i);
            check_set(r, i, NOUN_CERTIFICATE, key, "{}")->secret = str_dup(str_from_c(secret));
        }
        check_expect(check, r, 0);
    }
    unsigned count = 0;
    uint64_t began = cpu_ns();
    assert_int_equal(
        store_list(check->store, NOUN_CERTIFICATE, STR_NULL, STR_NULL, 0, no_secret, &count), 0);
    assert_int_equal(count, BLOCKS * BLOCK);
    assert_true(cpu_ns() - began < NS_PER_SEC);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_with_the_value),
        TEST(test_same_value),
        TEST(test_undone),
        TEST(test_reseal),
        TEST(test_restart),
        TEST(test_erased),
        TEST(test_reader_beside_writer),
        TEST(test_list_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
