// SPDX-License-Identifier: MIT
// All that Redis has against all that the replica has; requests that the replica cannot take; histories judged.
#include "follow_check.h"
#include <stdio.h>
#include <sys/resource.h>

static int setup(void **state)
{
    struct check *c = calloc(1, sizeof *c);
    check_init(c);
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    check_fini(*state);
    free(*state);
    return 0;
}

// Routes FROM to TO past the stream, as if it had been trimmed. ARGV: from, to, status, revision, tag
static const char bulk[] =
    "local p = tonumber(redis.call('HGET', KEYS[1], 'revision')) "
    "for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do "
    "local h = string.format('h%07d.example', i) p = p + 1 "
    "redis.call('HSET', KEYS[3], h, string.format('%.0f', p) .. ' \\n{\"host\":\"' .. h .. "
    "'\",\"path\":\"/\",\"respond\":{\"status\":' .. ARGV[3] .. '}}') end "
    "redis.call('HSET', KEYS[1], 'revision', string.format('%.0f', p), 'tag', ARGV[4]) "
    "redis.call('XTRIM', KEYS[2], 'MAXLEN', '0') return p";

static void write_bulk(struct check *c, unsigned from, unsigned to, unsigned status)
{
    while (from <= to) {
        unsigned last = to - from > 20000 ? from + 20000 : to;
        char texts[3][16];
        char tag[STORE_ID_LEN + 1];
        snprintf(texts[0], sizeof texts[0], "%u", from);
        snprintf(texts[1], sizeof texts[1], "%u", last);
        snprintf(texts[2], sizeof texts[2], "%u", status);
        snprintf(tag, sizeof tag, "%08x%024x", 0xb01d, ++c->tag);
        const struct str argv[] = {STR("EVAL"),          str_from_c(bulk),     STR("3"),
                                   STR("t:meta"),        STR("t:stream"),      STR("t:routes"),
                                   str_from_c(texts[0]), str_from_c(texts[1]), str_from_c(texts[2]),
                                   str_from_c(tag)};
        const struct redis_reply *reply = check_ask(c, sizeof argv / sizeof argv[0], argv);
        if (reply->type == REDIS_ERROR) {
            fail_msg("%s", reply->text.p);
        }
        from = last + 1;
    }
}

static void open_one(struct check *c)
{
    check_open(c, 0);
    CHECK_WAIT(c, check_status(c, 0).state == FLEET_FOLLOWING);
}

static void test_difference(void **state)
{
    struct check *c = *state;
    open_one(c);
    write_bulk(c, 1, 3000, 200);
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_status(c, 0).resync_changed, 3000);
    check_close(c, 0);
    write_bulk(c, 2991, 3010, 404);
    check_say(c, "HDEL t:routes h0000001.example h0000002.example");
    check_open(c, 0);
    CHECK_WAIT(c, check_is_converged(c));
    struct fleet_status status = check_status(c, 0);
    assert_int_equal(status.resync_changed, 20);
    assert_int_equal(status.resync_deleted, 2);
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 3008);
}

static void test_all_nouns(void **state)
{
    struct check *c = *state;
    open_one(c);
    check_put(c, NOUN_POOL, "web", "{\"targets\":[{\"address\":\"127.0.0.1:80\"}]}");
    check_put(c, NOUN_ROUTE, "a.example", "{\"host\":\"a.example\",\"pool\":\"web\"}");
    check_write_secret(c, NOUN_TENANT, "one", "{\"a\":1}", "sealed-1");
    check_write_secret(c, NOUN_KEY, "k1", "{\"b\":1}", "sealed-2");
    check_put(c, NOUN_TICKETS, "current", "{\"not\":\"ours\"}");
    CHECK_WAIT(c, check_is_converged(c));
    check_open(c, 1); // by a resync
    CHECK_WAIT(c, check_is_converged(c));
    for (unsigned i = 0; i < 2; i++) {
        struct store_record record;
        struct store *store = c->nodes[i].store;
        assert_int_equal(store_get_secret(store, NOUN_TENANT, STR("one"), &record), 0);
        assert_true(str_eq(record.secret, STR("sealed-1")));
        assert_int_equal(store_get_secret(store, NOUN_KEY, STR("k1"), &record), 0);
        assert_true(str_eq(record.secret, STR("sealed-2")));
        assert_int_equal(check_count(c, i, NOUN_TICKETS), 0); // without a key they stay its own
    }
    // What refers goes first.
    check_close(c, 0); // it would not do the same (test_key_gone)
    check_close(c, 1);
    check_say(c, "DEL t:routes t:pools");
    check_put(c, NOUN_TENANT, "one", "");
    check_say(c, "XTRIM t:stream MAXLEN 0");
    check_open(c, 0);
    check_open(c, 1);
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_status(c, 1).resync_deleted, 3);
}

static void test_broken_record(void **state)
{
    struct check *c = *state;
    open_one(c);
    check_route(c, "a.example", "200");
    check_route(c, "b.example", "200");
    CHECK_WAIT(c, check_is_converged(c));
    check_close(c, 0);
    check_say(c, "HSET t:routes a.example rubbish");
    check_say(c, "HSET t:routes Not.Canonical 3");
    write_bulk(c, 1, 10, 200);
    check_open(c, 0);
    CHECK_WAIT(c, check_is_following(c, 0));
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 12); // the good version of a stays
    assert_int_equal(check_status(c, 0).skipped, 2);
    check_sleep(c, 700);
    assert_int_equal(check_status(c, 0).resyncs, 1); // since this process began
}

// Of a record that was put there by hand: no later revision may be below it.
static void test_record_above(void **state)
{
    struct check *c = *state;
    open_one(c);
    check_route(c, "a.example", "200");
    CHECK_WAIT(c, check_is_converged(c));
    check_close(c, 0);
    const struct str argv[] = {STR("HSET"), STR("t:routes"), STR("x.example"),
                               STR("90000 \n{\"respond\":{\"status\":200}}")};
    check_ask(c, 4, argv);
    write_bulk(c, 1, 10, 200);
    check_open(c, 0);
    CHECK_WAIT(c, check_revision(c) > 90000);
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_status(c, 0).epochs, 1);
}

// One that nothing could be above is nobody's: the store does not follow it to the end of all revisions.
static void test_record_that_is_invented(void **state)
{
    struct check *c = *state;
    open_one(c);
    check_route(c, "a.example", "200");
    CHECK_WAIT(c, check_is_converged(c));
    check_close(c, 0);
    const struct str argv[] = {STR("HSET"), STR("t:routes"), STR("x.example"),
                               STR("9007199254740991 \n{\"respond\":{\"status\":200}}")};
    check_ask(c, 4, argv);
    write_bulk(c, 1, 10, 200);
    check_open(c, 0);
    CHECK_WAIT(c, check_is_following(c, 0));
    assert_int_equal(check_status(c, 0).skipped, 1);
    assert_int_equal(check_status(c, 0).epochs, 0);
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 11);
}

// Others write while it is read; what is read is what there is in the end.
static void test_meanwhile(void **state)
{
    struct check *c = *state;
    open_one(c);
    write_bulk(c, 1, 20000, 200);
    check_open(c, 1);
    unsigned written = 0;
    char host[40];
    while (check_status(c, 1).state != FLEET_FOLLOWING || written < 300) {
        check_turn(c, 0);
        if (written == 20000) { // a machine that is slower at reading than at writing gets an end
            usleep(1000);
            continue;
        }
        snprintf(host, sizeof host, "h%07u.example", written * 7919 % 20500 + 1);
        if (written % 3 == 0) {
            check_drop_route(c, host);
        } else {
            check_route(c, host, written % 2 == 0 ? "201" : "202");
        }
        if (written % 50 == 0) {
            check_say(c, "XTRIM t:stream MAXLEN 2000"); // about what is written meanwhile
        }
        written++;
    }
    CHECK_WAIT(c, check_is_converged(c));
    print_message("%u writes meanwhile, %llu resyncs\n", written,
                  (unsigned long long)check_status(c, 1).resyncs);
}

// The connection ends again and again.
static void test_interrupted(void **state)
{
    struct check *c = *state;
    open_one(c);
    write_bulk(c, 1, 30000, 200);
    check_open(c, 1);
    for (unsigned i = 0; i < 5; i++) {
        check_sleep(c, 60);
        check_say(c, "CLIENT KILL TYPE normal SKIPME yes");
    }
    write_bulk(c, 29000, 31000, 404);
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_count(c, 1, NOUN_ROUTE), 31000);
    // And of a node that has most of it: what is not there any more is gone in the end, too.
    check_close(c, 1);
    check_say(c, "DEL t:routes");
    write_bulk(c, 5000, 25000, 404);
    check_open(c, 1);
    for (unsigned i = 0; i < 3; i++) {
        check_sleep(c, 50);
        check_say(c, "CLIENT KILL TYPE normal SKIPME yes");
    }
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_count(c, 1, NOUN_ROUTE), 20001);
}

// More than are deleted at a time.
static void test_large(void **state)
{
    struct check *c = *state;
    unsigned count = RESYNC_EXTRA_MAX + 5000;
    open_one(c);
    check_close(c, 0);
    write_bulk(c, 1, count, 200);
    uint64_t began = clock_monotonic_ns();
    check_open(c, 1);
    CHECK_WAIT(c, check_is_following(c, 1));
    print_message("first sync of %u: %llu ms\n", count,
                  (unsigned long long)((clock_monotonic_ns() - began) / NS_PER_MS));
    assert_true(check_is_same(c, 1));
    check_close(c, 1);
    write_bulk(c, 1, 1, 404);
    began = clock_monotonic_ns();
    check_open(c, 1);
    CHECK_WAIT(c, check_is_following(c, 1));
    print_message("resync with one difference: %llu ms, read in %llu\n",
                  (unsigned long long)((clock_monotonic_ns() - began) / NS_PER_MS),
                  (unsigned long long)check_status(c, 1).resync_ms);
    assert_int_equal(check_status(c, 1).resync_changed, 1);
    check_close(c, 1);
    check_say(c, "DEL t:routes");
    write_bulk(c, 1, 5, 200);
    check_open(c, 1);
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_status(c, 1).resync_deleted, count - 5);
    assert_int_equal(check_count(c, 1, NOUN_ROUTE), 5);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    print_message("at most %ld MiB\n", usage.ru_maxrss / 1024);
}

// What is large comes in small pages: no reply needs memory for a thousand of them.
static void test_large_records(void **state)
{
    static const char pad[] = "local r = redis.call('HGET', KEYS[1], 'revision') "
                              "return redis.call('HSET', KEYS[2], ARGV[1], r .. "
                              "' \\n{\"respond\":{\"status\":200},\"newer\":\"' .. "
                              "string.rep('x', 524288) .. '\"}')";
    struct check *c = *state;
    open_one(c);
    check_route(c, "a.example", "200");
    CHECK_WAIT(c, check_is_converged(c));
    check_close(c, 0);
    for (unsigned i = 0; i < 60; i++) {
        char host[32];
        snprintf(host, sizeof host, "l%u.example", i);
        const struct str argv[] = {STR("EVAL"),   str_from_c(pad), STR("2"),
                                   STR("t:meta"), STR("t:routes"), str_from_c(host)};
        assert_int_equal(check_ask(c, 6, argv)->type, REDIS_INTEGER);
    }
    check_say(c, "CONFIG RESETSTAT");
    check_open(c, 1);
    CHECK_WAIT(c, check_is_following(c, 1) && check_count(c, 1, NOUN_ROUTE) == 61);
    const struct redis_reply *reply = check_say(c, "INFO commandstats");
    const char *scans = strstr(reply->text.p, "cmdstat_hscan:calls=");
    assert_non_null(scans);
    // One each for the five kinds that are empty, and those of at most some 10 records.
    assert_true(strtoul(scans + strlen("cmdstat_hscan:calls="), NULL, 10) >= 5 + 5);
}

// ---- a replica that cannot be written ----

static void test_disk(void **state)
{
    struct check *c = *state;
    open_one(c);
    check_route(c, "a.example", "200");
    CHECK_WAIT(c, check_is_converged(c));
    char elsewhere[100];
    snprintf(elsewhere, sizeof elsewhere, "%s.away", c->nodes[0].path);
    assert_int_equal(rename(c->nodes[0].path, elsewhere), 0);
    check_route(c, "b.example", "200");
    check_drop_route(c, "b.example");
    check_route(c, "a.example", "201");
    check_route(c, "c.example", "202");
    CHECK_WAIT(c, strstr(check_status(c, 0).detail, "replica cannot be written") != NULL);
    check_sleep(c, 1200);
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 1);
    assert_int_equal(rename(elsewhere, c->nodes[0].path), 0);
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 2);
    assert_int_equal(check_status(c, 0).resyncs, 1);
}

// Tables that are behind hold the stream back; it is read on when they are there.
static void test_slow_tables(void **state)
{
    struct check *c = *state;
    open_one(c);
    c->nodes[0].is_slow = true;
    for (unsigned i = 0; i < 2600; i++) {
        char host[32];
        snprintf(host, sizeof host, "h%u.example", i);
        check_route(c, host, "200");
    }
    check_sleep(c, 300);
    assert_int_equal(check_status(c, 0).applied, 0);
    c->nodes[0].is_slow = false;
    store_line_resume(&c->nodes[0].line);
    CHECK_WAIT(c, check_is_converged(c));
    CHECK_WAIT(c, check_status(c, 0).applied == 2600);
}

// What is not live yet does not count: the revision is where the node is, not where it is going.
static void test_revision_meanwhile(void **state)
{
    struct check *c = *state;
    open_one(c);
    check_route(c, "a.example", "200");
    CHECK_WAIT(c, check_is_converged(c));
    uint64_t before = check_status(c, 0).revision;
    c->nodes[0].is_slow = true;
    check_say(c, "HSET t:meta epoch 0123456789abcdef revision 1000");
    CHECK_WAIT(c, c->nodes[0].line.under_way != NULL);
    assert_int_equal(check_status(c, 0).state, FLEET_RESYNC);
    assert_int_equal(store_revision(c->nodes[0].store), 1000);
    assert_int_equal(check_status(c, 0).revision, before);
    c->nodes[0].is_slow = false;
    store_line_resume(&c->nodes[0].line);
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_status(c, 0).revision, 1000);
}

// ---- without a server ----

static struct fleet_place place_of(const char *epoch, uint64_t revision, const char *tag,
                                   const char *id)
{
    struct fleet_place place = {.revision = revision};
    str_copy(place.epoch, sizeof place.epoch, str_from_c(epoch));
    str_copy(place.tag, sizeof place.tag, str_from_c(tag));
    str_copy(place.stream_id, sizeof place.stream_id, str_from_c(id));
    return place;
}

static void expect(const struct found *found, const struct fleet_place *ours, enum verdict verdict)
{
    char why[FOLLOW_WHY_MAX];
    assert_int_equal(found_judge(found, ours, why, sizeof why), verdict);
    assert_int_equal(why[0] == '\0', verdict == VERDICT_FOLLOW);
}

static void test_judge(void **state)
{
    (void)state;
    const char *e = "00000000000000e1";
    struct fleet_place ours = place_of(e, 10, "aa", "100-1");
    struct found found = {.has_meta = true, .total = 5, .place = place_of(e, 10, "aa", "100-1")};
    expect(&found, &ours, VERDICT_FOLLOW); // the same, whatever the stream has
    found.place = place_of(e, 12, "cc", "120-0");
    found.is_place_there = true;
    expect(&found, &ours, VERDICT_FOLLOW);
    found.is_place_there = false;
    str_copy(found.first_id, sizeof found.first_id, STR("100-2"));
    expect(&found, &ours, VERDICT_RESYNC); // trimmed
    str_copy(found.first_id, sizeof found.first_id, STR("99-9"));
    expect(&found, &ours, VERDICT_LOST); // it should be there
    str_copy(found.first_id, sizeof found.first_id, STR("5-0"));
    str_copy(found.place.stream_id, sizeof found.place.stream_id, STR("6-0"));
    expect(&found, &ours, VERDICT_RESYNC); // a stream made anew, its clock behind
    found.place = place_of(e, 10, "bb", "100-1");
    expect(&found, &ours, VERDICT_LOST);
    found.place = place_of(e, 9, "bb", "100-1");
    found.is_place_there = true;
    expect(&found, &ours, VERDICT_LOST);
    found.place = place_of("00000000000000e2", 9, "bb", "100-1");
    expect(&found, &ours, VERDICT_LOST);
    found.place.revision = 11;
    expect(&found, &ours, VERDICT_OTHER);
    found.total = 0;
    expect(&found, &ours, VERDICT_EMPTY);
    found.place = place_of(e, 11, "bb", "100-1");
    expect(&found, &ours, VERDICT_FOLLOW); // all was deleted, and we know its history
    found.place = place_of(e, 9, "bb", "100-1");
    expect(&found, &ours, VERDICT_EMPTY);
    found.has_meta = false;
    expect(&found, &ours, VERDICT_EMPTY);
    found.total = 3;
    expect(&found, &ours, VERDICT_NONE);
    ours = place_of("", 0, "", "");
    found.has_meta = true;
    expect(&found, &ours, VERDICT_OTHER);
}

static void test_declare(void **state)
{
    (void)state;
    struct store_change change = {.noun = NOUN_ROUTE};
    char why[FOLLOW_WHY_MAX];
    const struct str split = STR("{\"host\":\"a.example\",\"split\":[{\"pool\":\"x\",\"weight\":1},"
                                 "{\"pool\":\"y\",\"weight\":1}]}");
    assert_int_equal(
        declare_fill(&change, NOUN_ROUTE, STR("a.example"), &split, 7, why, sizeof why), 0);
    assert_int_equal(change.reference_count, 2);
    assert_string_equal(change.references[1].key, "y");
    assert_int_equal(change.revision, 7);
    store_change_fini(&change);
    assert_int_equal(
        declare_fill(&change, NOUN_ROUTE, STR("b.example"), &split, 7, why, sizeof why),
        ERR_INVALID); // the key says another host
    assert_non_null(strstr(why, "/host"));
    store_change_fini(&change);
    assert_int_equal(
        declare_fill(&change, NOUN_POOL, str_make("a\0b", 3), NULL, 7, why, sizeof why),
        ERR_INVALID);
    store_change_fini(&change);
    assert_int_equal(declare_fill(&change, NOUN_COUNT, STR("a"), NULL, 7, why, sizeof why),
                     ERR_INVALID);
    store_change_fini(&change);
}

static void test_compare(void **state)
{
    (void)state;
    struct compare compare = {.slots = NULL};
    char key[16];
    bool is_other;
    assert_false(compare_is_seen(&compare, STR("k1")));
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 5000; i++) {
            snprintf(key, sizeof key, "k%u", i);
            assert_int_equal(compare_see(&compare, str_from_c(key), i, STR("v"), &is_other), 0);
            assert_int_equal(is_other, round == 0);
        }
    }
    assert_int_equal(compare.count, 5000);
    assert_int_equal(compare_see(&compare, STR("k7"), 8, STR("v"), &is_other), 0);
    assert_true(is_other);
    assert_int_equal(compare_see(&compare, STR("k7"), 8, STR("w"), &is_other), 0);
    assert_true(is_other);
    assert_false(compare_is_seen(&compare, STR("x")));
    assert_int_equal(compare_keep(&compare, STR("x")), 0);
    assert_true(compare_is_seen(&compare, STR("x")));
    assert_int_equal(compare.unseen, 0); // nothing was loaded
    compare_fini(&compare);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_difference),
        CASE(test_all_nouns),
        CASE(test_broken_record),
        CASE(test_record_above),
        CASE(test_record_that_is_invented),
        CASE(test_meanwhile),
        CASE(test_interrupted),
        CASE(test_large),
        CASE(test_large_records),
        CASE(test_disk),
        CASE(test_slow_tables),
        CASE(test_revision_meanwhile),
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_declare),
        cmocka_unit_test(test_compare),
    };
    cmocka_set_test_filter(getenv("CASE"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
