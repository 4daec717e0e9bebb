// SPDX-License-Identifier: MIT
// The stream into the replica, and what is done when it is not the history that is known: with real servers.
#include "follow_check.h"

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

// Two nodes that follow, with routes a and b.
static void open_two(struct check *c)
{
    check_open(c, 0);
    CHECK_WAIT(c, check_status(c, 0).state == FLEET_FOLLOWING);
    check_open(c, 1);
    check_route(c, "a.example", "201");
    check_route(c, "b.example", "202");
    CHECK_WAIT(c, check_is_converged(c));
}

static void clear_events(struct check *c)
{
    for (unsigned i = 0; i < CHECK_NODES; i++) {
        buf_clear(&c->nodes[i].events);
    }
}

// ---- following ----

static void test_follow(void **state)
{
    struct check *c = *state;
    open_two(c);
    assert_int_equal(check_revision(c), 2);
    check_route(c, "a.example", "203");
    check_drop_route(c, "b.example");
    check_put(c, NOUN_POOL, "web", "{\"targets\":[{\"address\":\"127.0.0.1:80\"}]}");
    check_put(c, NOUN_ROUTE, "c.example/x",
              "{\"host\":\"c.example\",\"path\":\"/x\",\"pool\":\"web\"}");
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 2);
    assert_int_equal(check_count(c, 1, NOUN_POOL), 1);
    // The replica knows what refers to what.
    struct store_reader *reader;
    assert_int_equal(store_reader_open(c->nodes[1].store, &reader), 0);
    struct buf value;
    uint64_t revision;
    buf_init(&value, 0);
    assert_int_equal(store_reader_get(reader, NOUN_ROUTE, STR("c.example/x"), &value, &revision),
                     0);
    assert_int_equal(revision, 6);
    buf_fini(&value);
    store_reader_close(&reader);
    assert_int_equal(check_status(c, 0).skipped, 0);
    assert_true(fleet_is_ready(c->nodes[0].fleet));
}

// A node goes on from its mark: nothing is read twice.
static void test_mark(void **state)
{
    struct check *c = *state;
    open_two(c);
    check_close(c, 1);
    check_route(c, "a.example", "210");
    check_route(c, "d.example", "211");
    check_open(c, 1);
    assert_true(fleet_is_ready(c->nodes[1].fleet));
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_status(c, 1).resyncs, 0);
    CHECK_WAIT(c, check_status(c, 1).applied == 2);
    assert_string_equal(check_status(c, 1).epoch, check_status(c, 0).epoch);
}

static void test_many(void **state)
{
    struct check *c = *state;
    open_two(c);
    for (unsigned i = 0; i < 3000; i++) {
        char host[32];
        snprintf(host, sizeof host, "h%u.example", i % 100);
        check_route(c, host, i % 2 == 0 ? "200" : "404");
        if (i % 200 == 0) {
            check_turn(c, 0);
        }
    }
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_status(c, 0).resyncs, 1); // the first one
    CHECK_WAIT(c, check_status(c, 0).applied == 3002);
}

struct answer {
    unsigned count;
    unsigned failed;
    uint64_t revision;
};

static void on_done(struct store_request *request)
{
    struct answer *answer = request->context;
    answer->count++;
    answer->failed += request->err != 0;
    answer->revision = request->revision;
    store_request_free(&request);
}

static void submit(struct check *c, unsigned i, const char *host, unsigned status,
                   struct answer *answer)
{
    char value[120];
    snprintf(value, sizeof value, "{\"host\":\"%s\",\"path\":\"/\",\"respond\":{\"status\":%u}}",
             host, status);
    struct store_request *request = store_request_new(1);
    assert_non_null(request);
    request->changes[0].noun = NOUN_ROUTE;
    request->changes[0].key = str_dup(str_from_c(host));
    request->changes[0].value = str_dup(str_from_c(value));
    request->wants_fleet = true;
    request->loop = &c->nodes[i].control;
    request->on_done = on_done;
    request->context = answer;
    store_submit(c->nodes[i].store, &request);
}

// Two nodes write the same routes at once: one order everywhere, and each answer is of what is live there.
static void test_both_write(void **state)
{
    struct check *c = *state;
    open_two(c);
    struct answer answers[2] = {{0}};
    CHECK_WAIT(c, check_status(c, 0).is_writable && check_status(c, 1).is_writable);
    for (unsigned n = 0; n < 600; n++) {
        char host[32];
        snprintf(host, sizeof host, "h%u.example", n % 7);
        submit(c, n % 2, host, 200 + n % 300, &answers[n % 2]);
        check_turn(c, 0);
    }
    CHECK_WAIT(c, answers[0].count == 300 && answers[1].count == 300);
    assert_int_equal(answers[0].failed + answers[1].failed, 0);
    assert_true(store_revision(c->nodes[0].store) >= answers[0].revision);
    assert_true(store_revision(c->nodes[1].store) >= answers[1].revision);
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_status(c, 0).resyncs, 1);
    // After lost writes both write again, in the new epoch.
    check_say(c, "HSET t:meta revision 5");
    CHECK_WAIT(c, check_status(c, 0).epochs + check_status(c, 1).epochs == 1);
    CHECK_WAIT(c, check_is_converged(c));
    CHECK_WAIT(c, check_status(c, 0).is_writable && check_status(c, 1).is_writable);
    submit(c, 0, "new.example", 200, &answers[0]);
    submit(c, 1, "new.example", 201, &answers[1]);
    CHECK_WAIT(c, answers[0].count == 301 && answers[1].count == 301);
    assert_int_equal(answers[0].failed + answers[1].failed, 0);
    assert_true(answers[0].revision > FLEET_REVISION_STEP);
    CHECK_WAIT(c, check_is_converged(c));
}

// ---- a stream that does not reach back ----

static void test_trimmed_away(void **state)
{
    struct check *c = *state;
    open_two(c);
    check_close(c, 1);
    check_route(c, "a.example", "210");
    check_drop_route(c, "b.example");
    check_route(c, "c.example", "212");
    CHECK_WAIT(c, check_is_following(c, 0));
    check_say(c, "XTRIM t:stream MAXLEN 1");
    check_open(c, 1);
    CHECK_WAIT(c, check_is_converged(c));
    struct fleet_status status = check_status(c, 1);
    assert_int_equal(status.resyncs, 1);
    assert_int_equal(status.resync_changed, 2);
    assert_int_equal(status.resync_deleted, 1);
    assert_int_equal(status.epochs, 0);
    assert_true(check_has_event(c, 1, "resync resynced"));
    // The one that followed all the time has nothing to do.
    assert_int_equal(check_status(c, 0).resyncs, 1);
}

static void test_trimmed_to_nothing(void **state)
{
    struct check *c = *state;
    open_two(c);
    check_say(c, "XTRIM t:stream MAXLEN 0");
    check_close(c, 1);
    check_open(c, 1);
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_status(c, 1).resyncs, 0); // meta says that nothing was missed
    check_route(c, "a.example", "220");
    CHECK_WAIT(c, check_is_converged(c));
    check_say(c, "XTRIM t:stream MAXLEN 0");
    check_route(c, "a.example", "221");
    check_say(c, "XTRIM t:stream MAXLEN 0");
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_status(c, 0).epochs, 0);
}

static void test_stream_deleted(void **state)
{
    struct check *c = *state;
    open_two(c);
    check_say(c, "DEL t:stream");
    check_route(c, "a.example", "230");
    CHECK_WAIT(c, check_is_converged(c));
    // One whose ids are behind: as with a clock that was set back.
    check_say(c, "DEL t:stream");
    check_say(c, "XADD t:stream 5-1 foo bar");
    check_say(c, "XTRIM t:stream MAXLEN 0");
    check_say(c, "HSET t:meta revision 9 tag 00000000000000000000000000000009");
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_status(c, 0).resyncs, 2);
    assert_int_equal(check_status(c, 0).epochs, 0);
}

// ---- what cannot be decoded ----

static void test_garbage(void **state)
{
    struct check *c = *state;
    open_two(c);
    clear_events(c);
    check_say(c, "XADD t:stream * foo bar");
    check_say(c, "XADD t:stream * v 1");
    check_route(c, "c.example", "203");
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_status(c, 0).skipped, 2);
    assert_int_equal(check_status(c, 0).resyncs, 1);
    CHECK_WAIT(c, check_has_event(c, 0, "skipped"));
}

// Of ours, with a revision: what it says of records is skipped, the rest goes on.
static void put_entry(struct check *c, const char *changes)
{
    uint64_t revision = check_revision(c);
    char r[24];
    char p[24];
    char tag[STORE_ID_LEN + 1];
    snprintf(r, sizeof r, "%llu", (unsigned long long)revision + 1);
    snprintf(p, sizeof p, "%llu", (unsigned long long)revision);
    snprintf(tag, sizeof tag, "%08x%024x", 0xfeed, ++c->tag);
    char epoch[20];
    str_copy(epoch, sizeof epoch, check_say(c, "HGET t:meta epoch")->text);
    const struct str argv[] = {
        STR("XADD"),         STR("t:stream"), STR("*"),          STR("v"), STR("1"),      STR("k"),
        STR("write"),        STR("e"),        str_from_c(epoch), STR("r"), str_from_c(r), STR("p"),
        str_from_c(p),       STR("t"),        str_from_c(tag),   STR("n"), STR("evil"),   STR("c"),
        str_from_c(changes),
    };
    check_ask(c, sizeof argv / sizeof argv[0], argv);
    char line[160];
    snprintf(line, sizeof line, "HSET t:meta revision %s tag %s", r, tag);
    check_say(c, line);
}

static void test_undecodable(void **state)
{
    struct check *c = *state;
    open_two(c);
    put_entry(c, "what is this?");
    put_entry(c, "+gadget 1 2 -\nx{}");         // a noun of a newer version
    put_entry(c, "+route 9 3 -\ne.example{x}"); // no JSON
    put_entry(c, "+route 9 2 -\nE.Example{}");  // not a canonical key
    put_entry(c, "+pool 3 29 -\nweb{\"targets\":[{\"address\":\"?\"}]}"); // not a pool
    check_route(c, "f.example", "204");
    CHECK_WAIT(c, check_is_converged(c));
    struct fleet_status status = check_status(c, 0);
    assert_int_equal(status.skipped, 5);
    assert_int_equal(status.resyncs, 1);
    assert_int_equal(status.revision, 8);
    CHECK_WAIT(c, strcmp(c->nodes[0].skipped_by, "evil") == 0);
    // In an entry with others: those are taken.
    put_entry(c, "+gadget 1 2 -\nx{}=route 9 25 -\nf.example{\"respond\":{\"status\":205}");
    put_entry(c, "+gadget 1 2 -\nx{}=route 9 26 -\nf.example{\"respond\":{\"status\":205}}");
    CHECK_WAIT(c, check_status(c, 0).revision == 10);
    assert_int_equal(check_status(c, 0).skipped, 8);
    struct store_record record;
    assert_int_equal(store_get(c->nodes[0].store, NOUN_ROUTE, STR("f.example"), &record), 0);
    assert_int_equal(record.revision, 10);
}

// An entry that says it is of our history, far ahead: it does not stop what follows.
static void test_liar(void **state)
{
    struct check *c = *state;
    open_two(c);
    char epoch[20];
    str_copy(epoch, sizeof epoch, check_say(c, "HGET t:meta epoch")->text);
    char line[300];
    snprintf(line, sizeof line,
             "XADD t:stream * v 1 k write e %s r 5001 p 5000 t 0123456789abcdef0123456789abcdef "
             "n x c x",
             epoch);
    check_say(c, line);
    check_route(c, "c.example", "203");
    CHECK_WAIT(c, check_is_converged(c));
    snprintf(line, sizeof line,
             "XADD t:stream * v 1 k epoch e 0123456789abcdef r 5001 p 2 t "
             "0123456789abcdef0123456789abcdef n x c x");
    check_say(c, line);
    check_route(c, "c.example", "204");
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_status(c, 0).epochs, 0);
}

// An older copy took the place of what is there, and others wrote before this node looked: revisions that it
// has seen come again, and the next one fits.
static void test_revisions_again(void **state)
{
    struct check *c = *state;
    open_two(c);
    check_route(c, "a.example", "203");
    check_route(c, "b.example", "204");
    CHECK_WAIT(c, check_is_converged(c));
    char line[80];
    snprintf(line, sizeof line, "HSET t:meta revision %llu",
             (unsigned long long)check_revision(c) - 2);
    check_say(c, line);
    check_route(c, "a.example", "210");
    check_route(c, "b.example", "211");
    check_route(c, "a.example", "212");
    CHECK_WAIT(c, check_is_converged(c));
}

// ---- a store that came back empty ----

static void test_flushall(void **state)
{
    struct check *c = *state;
    open_two(c);
    clear_events(c);
    check_say(c, "FLUSHALL");
    CHECK_WAIT(c, check_status(c, 0).state == FLEET_EMPTY);
    CHECK_WAIT(c, check_status(c, 1).state == FLEET_EMPTY);
    CHECK_WAIT(c, check_has_event(c, 0, "empty"));
    check_sleep(c, 1200);
    assert_int_equal(check_say(c, "EXISTS t:meta")->integer, 0);
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 2);
    assert_int_equal(check_count(c, 1, NOUN_ROUTE), 2);
    // A new node does not begin a history while the others have one.
    check_open(c, 2);
    CHECK_WAIT(c, check_status(c, 2).state == FLEET_EMPTY);
    check_sleep(c, 1500);
    assert_int_equal(check_say(c, "EXISTS t:meta")->integer, 0);
    assert_int_equal(check_status(c, 2).state, FLEET_EMPTY);
    assert_false(fleet_is_ready(c->nodes[2].fleet));
}

static void test_accept_empty(void **state)
{
    struct check *c = *state;
    c->nodes[0].accept_empty = true;
    c->nodes[1].accept_empty = true;
    open_two(c);
    char before[20];
    str_copy(before, sizeof before, str_from_c(check_status(c, 0).epoch));
    // A node that invents its revision does not use up all that there are.
    const struct str liar[] = {STR("HSET"), STR("t:nodes"), STR("liar"),
                               STR("{\"seen\":9999999999999,\"revision\":9007199254740991}")};
    check_ask(c, 4, liar);
    check_sleep(c, 1200);
    check_say(c, "FLUSHALL");
    check_ask(c, 4, liar);
    CHECK_WAIT(c, check_count(c, 0, NOUN_ROUTE) == 0 && check_count(c, 1, NOUN_ROUTE) == 0);
    CHECK_WAIT(c, check_is_converged(c));
    assert_true(check_revision(c) > 2); // If-Match of before never matches
    assert_string_not_equal(check_status(c, 0).epoch, before);
    check_route(c, "z.example", "200");
    CHECK_WAIT(c, check_is_converged(c));
}

// A key was evicted, or deleted by hand: its declarations are served on, whatever is written behind it, until it
// is back.
static void test_key_gone(void **state)
{
    struct check *c = *state;
    open_two(c);
    check_route(c, "c.example", "203");
    check_put(c, NOUN_TENANT, "one", "{}");
    CHECK_WAIT(c, check_is_converged(c));
    clear_events(c);
    check_say(c, "RENAME t:routes t:kept");
    check_route(c, "d.example", "204");
    CHECK_WAIT(c, check_status(c, 0).state == FLEET_EMPTY);
    CHECK_WAIT(c, check_status(c, 1).state == FLEET_EMPTY);
    CHECK_WAIT(c, check_has_event(c, 0, "empty") && check_has_event(c, 1, "empty"));
    for (unsigned i = 0; i < 60; i++) { // who writes is told the same
        struct fleet_status status = check_status(c, 0);
        assert_true(status.state != FLEET_EMPTY || strstr(status.detail, "t:routes has ") != NULL);
        check_sleep(c, 10);
    }
    CHECK_WAIT(c, check_count(c, 0, NOUN_ROUTE) == 4);
    check_close(c, 1);
    check_open(c, 1);
    CHECK_WAIT(c, check_status(c, 1).state == FLEET_EMPTY);
    assert_int_equal(check_count(c, 1, NOUN_ROUTE), 4);
    check_say(c, "RENAME t:kept t:routes");
    CHECK_WAIT(c, check_is_following(c, 0) && check_is_following(c, 1));
    CHECK_WAIT(c, check_is_converged(c)); // without d, whose record is gone
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 3);
}

static void test_key_gone_accepted(void **state)
{
    struct check *c = *state;
    open_two(c);
    check_put(c, NOUN_TENANT, "one", "{}");
    CHECK_WAIT(c, check_is_converged(c));
    check_say(c, "DEL t:routes");
    CHECK_WAIT(c, check_status(c, 0).state == FLEET_EMPTY);
    CHECK_WAIT(c, check_status(c, 1).state == FLEET_EMPTY);
    check_close(c, 0);
    c->nodes[0].accept_empty = true;
    check_open(c, 0);
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 0);
    assert_int_equal(check_count(c, 1, NOUN_ROUTE), 0);
    assert_int_equal(check_count(c, 1, NOUN_TENANT), 1);
}

// ---- lost writes ----

// Back to what it was at the last SAVE.
static void restart(struct check *c)
{
    redis_server_kill(&c->server);
    redis_server_start(&c->server, NULL);
    check_connect(c);
}

static void test_lost_writes(void **state)
{
    struct check *c = *state;
    open_two(c);
    clear_events(c);
    char before[20];
    str_copy(before, sizeof before, str_from_c(check_status(c, 0).epoch));
    check_say(c, "SAVE");
    check_route(c, "a.example", "240"); // all of this is lost
    check_route(c, "lost.example", "241");
    check_drop_route(c, "b.example");
    CHECK_WAIT(c, check_is_converged(c));
    restart(c);
    CHECK_WAIT(c, check_status(c, 0).epochs + check_status(c, 1).epochs > 0);
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_status(c, 0).epochs + check_status(c, 1).epochs, 1);
    assert_true(check_revision(c) >= 5 + FLEET_REVISION_STEP);
    assert_string_not_equal(check_status(c, 0).epoch, before);
    assert_string_equal(check_status(c, 0).epoch, check_status(c, 1).epoch);
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 2);
    CHECK_WAIT(c, check_has_event(c, 0, "resynced") && check_has_event(c, 1, "resynced"));
    assert_true(check_has_event(c, 0, "away"));
    assert_true(check_has_event(c, 0, "back"));
    check_route(c, "a.example", "242");
    CHECK_WAIT(c, check_is_converged(c));
}

// Another node has written in the same epoch before we look: the same revisions, other records.
static void test_diverged(void **state)
{
    struct check *c = *state;
    open_two(c);
    check_say(c, "SAVE");
    check_route(c, "a.example", "250");
    CHECK_WAIT(c, check_is_converged(c));
    check_close(c, 0);
    check_close(c, 1);
    restart(c);
    c->tag += 100;
    check_route(c, "x.example", "251");
    check_route(c, "y.example", "252");
    check_open(c, 0);
    check_open(c, 1);
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_status(c, 0).epochs + check_status(c, 1).epochs, 1);
    assert_true(check_revision(c) > FLEET_REVISION_STEP);
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 4);
}

// Key by key into a running server.
static void test_restored_dump(void **state)
{
    struct check *c = *state;
    open_two(c);
    static const char *const names[] = {"t:meta", "t:stream", "t:routes"};
    struct buf dumps[3];
    for (unsigned i = 0; i < 3; i++) {
        char line[64];
        buf_init(&dumps[i], 0);
        snprintf(line, sizeof line, "DUMP %s", names[i]);
        buf_put(&dumps[i], check_say(c, line)->text);
    }
    check_route(c, "a.example", "260");
    check_route(c, "c.example", "261");
    CHECK_WAIT(c, check_is_converged(c));
    check_say(c, "FLUSHALL");
    check_sleep(c, 700);
    for (unsigned i = 0; i < 3; i++) {
        const struct str argv[] = {STR("RESTORE"), str_from_c(names[i]), STR("0"),
                                   buf_str(&dumps[i])};
        assert_int_equal(check_ask(c, 4, argv)->type, REDIS_STATUS);
        buf_fini(&dumps[i]);
        check_sleep(c, 150);
        assert_true(check_count(c, 0, NOUN_ROUTE) >= 2);
    }
    CHECK_WAIT(c, check_is_converged(c) && check_status(c, 0).epochs + check_status(c, 1).epochs);
    assert_int_equal(check_count(c, 1, NOUN_ROUTE), 2);
    assert_true(check_revision(c) > FLEET_REVISION_STEP);
}

// Another Redis with a history of its own.
static void test_other_history(void **state)
{
    struct check *c = *state;
    open_two(c);
    check_close(c, 1);
    check_say(c, "HSET t:meta epoch 0123456789abcdef revision 7777 tag "
                 "0123456789abcdef0123456789abcdef");
    check_say(c, "HDEL t:routes b.example");
    check_open(c, 1);
    CHECK_WAIT(c, check_is_converged(c));
    assert_int_equal(check_revision(c), 7777); // above ours: nothing to raise
    assert_int_equal(check_status(c, 1).resync_deleted, 1);
    assert_string_equal(check_status(c, 0).epoch, "0123456789abcdef");
}

static void test_meta_deleted(void **state)
{
    struct check *c = *state;
    open_two(c);
    check_say(c, "DEL t:meta");
    CHECK_WAIT(c, check_say(c, "EXISTS t:meta")->integer == 1);
    CHECK_WAIT(c, check_is_converged(c));
    assert_true(check_revision(c) > FLEET_REVISION_STEP);
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 2);
}

static void test_meta_broken(void **state)
{
    struct check *c = *state;
    open_two(c);
    check_say(c, "HSET t:meta revision many");
    CHECK_WAIT(c, check_status(c, 0).state == FLEET_VERIFYING);
    check_sleep(c, 300);
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 2);
    check_say(c, "HSET t:meta revision 2");
    CHECK_WAIT(c, check_is_converged(c));
    check_say(c, "DEL t:stream");
    check_say(c, "SET t:stream x");
    CHECK_WAIT(c, check_status(c, 1).state == FLEET_VERIFYING);
    // Which key it is, is told.
    CHECK_WAIT(c, strstr(check_status(c, 1).detail, "WRONGTYPE t:stream is a string") != NULL);
    check_say(c, "DEL t:stream");
    CHECK_WAIT(c, check_is_converged(c));
    check_say(c, "RENAME t:routes t:kept");
    check_say(c, "SET t:routes x");
    CHECK_WAIT(c, strstr(check_status(c, 0).detail, "WRONGTYPE t:routes is a string") != NULL);
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 2);
    check_say(c, "RENAME t:kept t:routes");
    CHECK_WAIT(c, check_is_converged(c));
}

// HDEL, HSET past the history.
static void test_foreign_hand(void **state)
{
    struct check *c = *state;
    open_two(c);
    check_sleep(c, 700);
    CHECK_WAIT(c, check_is_converged(c));
    check_say(c, "HDEL t:routes a.example");
    CHECK_WAIT(c, check_is_same(c, 0) && check_is_same(c, 1));
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 1);
}

// ---- the server ----

// Both are there again within 2 s. A machine that stands still may need another try.
enum { BACK_MS = 2000, BACK_TRIES = 5 };

static uint64_t kill_and_come_back(struct check *c)
{
    check_say(c, "SAVE");
    redis_server_kill(&c->server);
    CHECK_WAIT(c, check_status(c, 0).state == FLEET_AWAY);
    assert_true(check_status(c, 0).detail[0] != '\0');
    check_sleep(c, 300);
    redis_server_start(&c->server, NULL);
    uint64_t began = clock_monotonic_ns();
    check_connect(c);
    CHECK_WAIT(c, check_is_converged(c));
    return (clock_monotonic_ns() - began) / NS_PER_MS;
}

static void test_killed(void **state)
{
    struct check *c = *state;
    open_two(c);
    uint64_t took_ms = UINT64_MAX;
    for (unsigned i = 0; i < BACK_TRIES && took_ms >= BACK_MS; i++) {
        took_ms = kill_and_come_back(c);
    }
    assert_true(took_ms < BACK_MS);
    assert_int_equal(check_status(c, 0).resyncs, 1);
    assert_int_equal(check_status(c, 0).epochs, 0);
    assert_true(check_status(c, 0).reconnects > 0);
}

static uint64_t pause_and_come_back(struct check *c, unsigned status)
{
    char text[8];
    snprintf(text, sizeof text, "%u", status);
    redis_server_signal(&c->server, SIGSTOP);
    check_sleep(c, 4000);
    assert_int_equal(check_count(c, 0, NOUN_ROUTE), 2);
    redis_server_signal(&c->server, SIGCONT);
    uint64_t began = clock_monotonic_ns();
    check_connect(c);
    check_route(c, "a.example", text);
    CHECK_WAIT(c, check_is_converged(c));
    return (clock_monotonic_ns() - began) / NS_PER_MS;
}

static void test_paused(void **state)
{
    struct check *c = *state;
    open_two(c);
    uint64_t took_ms = UINT64_MAX;
    for (unsigned i = 0; i < BACK_TRIES && took_ms >= BACK_MS; i++) {
        took_ms = pause_and_come_back(c, 270 + i);
    }
    assert_true(took_ms < BACK_MS);
    assert_int_equal(check_status(c, 0).epochs, 0);
    assert_int_equal(check_status(c, 0).resyncs, 1);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_follow),
        CASE(test_mark),
        CASE(test_many),
        CASE(test_both_write),
        CASE(test_trimmed_away),
        CASE(test_trimmed_to_nothing),
        CASE(test_stream_deleted),
        CASE(test_garbage),
        CASE(test_undecodable),
        CASE(test_liar),
        CASE(test_flushall),
        CASE(test_accept_empty),
        CASE(test_key_gone),
        CASE(test_key_gone_accepted),
        CASE(test_revisions_again),
        CASE(test_lost_writes),
        CASE(test_diverged),
        CASE(test_restored_dump),
        CASE(test_other_history),
        CASE(test_meta_deleted),
        CASE(test_meta_broken),
        CASE(test_foreign_hand),
        CASE(test_killed),
        CASE(test_paused),
    };
    cmocka_set_test_filter(getenv("CASE"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
