// SPDX-License-Identifier: MIT
// Writes into a real Redis: what is checked there, and what a request is answered when Redis is not as it
// should be. test_fleet_outcome.c has what goes wrong on the way.
#include "fleet_check.h"

#define A    "{\"host\":\"a\",\"path\":\"/\",\"respond\":{\"status\":200,\"body\":\"1\"}}"
#define A2   "{\"host\":\"a\",\"path\":\"/\",\"respond\":{\"status\":200,\"body\":\"2\"}}"
#define B    "{\"host\":\"b\",\"path\":\"/\",\"pool\":\"p\"}"
#define POOL "{\"targets\":[]}"

static struct redis_server server;

static char *say(const char *line)
{
    static char answer[4096];
    redis_server_say(&server, line, answer, sizeof answer);
    return answer;
}

static int setup(void **state)
{
    (void)state;
    redis_server_init(&server);
    redis_server_start(&server, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    redis_server_fini(&server);
    return 0;
}

// ---- what is checked ----

static void test_each_write_has_its_revision(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    struct store_request *made = node_run(&node, node_one(NOUN_ROUTE, "a", A));
    assert_int_equal(made->err, 0);
    assert_true(made->changes[0].was_new);
    assert_false(made->changes[0].was_same);
    assert_int_equal(strlen(made->id), STORE_ID_LEN);
    uint64_t revision = made->revision;
    assert_int_equal(made->changes[0].revision, revision);
    store_request_free(&made);
    // It is live here before it is answered.
    struct store_record record;
    assert_int_equal(store_get(node.store, NOUN_ROUTE, STR("a"), &record), 0);
    assert_int_equal(record.revision, revision);
    struct store_request *same = node_run(&node, node_one(NOUN_ROUTE, "a", A));
    assert_true(same->changes[0].was_same);
    assert_int_equal(same->revision, revision);
    store_request_free(&same);
    struct store_request *other = node_run(&node, node_one(NOUN_ROUTE, "a", A2));
    assert_false(other->changes[0].was_new);
    assert_int_equal(other->revision, revision + 1);
    store_request_free(&other);
    assert_int_equal(node_expect(&node, node_one(NOUN_ROUTE, "a", NULL), 0, ""), revision + 2);
    assert_int_equal(store_get(node.store, NOUN_ROUTE, STR("a"), &record), ERR_NOT_FOUND);
    node_expect(&node, node_one(NOUN_ROUTE, "a", NULL), ERR_NOT_FOUND,
                "route \"a\" does not exist");
    node_close(&node);
}

static void test_conditions(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    struct store_request *request = node_one(NOUN_ROUTE, "a", A);
    request->changes[0].if_match_any = true;
    node_expect(&node, request, ERR_PRECONDITION, "does not exist");
    request = node_one(NOUN_ROUTE, "a", A);
    request->changes[0].if_none_match = true;
    uint64_t revision = node_expect(&node, request, 0, "");
    request = node_one(NOUN_ROUTE, "a", A2);
    request->changes[0].if_none_match = true;
    node_expect(&node, request, ERR_PRECONDITION, "exists already");
    request = node_one(NOUN_ROUTE, "a", A2);
    request->changes[0].if_match = revision + 7;
    char text[80];
    snprintf(text, sizeof text, "has revision %llu, not %llu", (unsigned long long)revision,
             (unsigned long long)revision + 7);
    node_expect(&node, request, ERR_PRECONDITION, text);
    request = node_one(NOUN_ROUTE, "a", A2);
    request->changes[0].if_match = revision;
    revision = node_expect(&node, request, 0, "");
    request = node_one(NOUN_ROUTE, "a", NULL);
    request->changes[0].if_match_any = true;
    node_expect(&node, request, 0, "");
    node_close(&node);
}

static void test_all_or_nothing_and_in_order(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    struct store_request *request = store_request_new(4);
    node_set(request, 0, NOUN_ROUTE, "a", A);
    node_set(request, 1, NOUN_ROUTE, "zz", NULL);
    node_set(request, 2, NOUN_ROUTE, "b", B);
    node_refer(request, 2, "p");
    node_set(request, 3, NOUN_ROUTE, "a", A2)->if_none_match = true;
    request = node_run(&node, request);
    assert_int_equal(request->err, ERR_NOT_FOUND); // the first one's
    assert_int_equal(request->changes[0].err, 0);
    assert_int_equal(request->changes[1].err, ERR_NOT_FOUND);
    assert_int_equal(request->changes[2].err, ERR_INVALID);
    assert_string_equal(node_detail(request, 2), "pool \"p\" does not exist");
    assert_string_equal(request->changes[2].problems.items[0].pointer, "/pool");
    assert_int_equal(request->changes[3].err, ERR_PRECONDITION); // made by change 0
    store_request_free(&request);
    assert_non_null(strstr(say("EXISTS pm:routes"), ":0"));

    request = store_request_new(4);
    node_set(request, 0, NOUN_ROUTE, "b", B); // refers to what is made behind it
    node_refer(request, 0, "p");
    node_set(request, 1, NOUN_POOL, "p", POOL);
    node_set(request, 2, NOUN_ROUTE, "a", A);
    node_set(request, 3, NOUN_ROUTE, "a", NULL); // and deleted again
    request = node_run(&node, request);
    assert_int_equal(request->err, 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(request->changes[i].revision, request->revision);
    }
    store_request_free(&request);
    assert_non_null(strstr(say("HGET pm:refs pool:p"), "$1\r\n1\r\n"));
    assert_int_equal(store_count(node.store, NOUN_ROUTE), 1);
    node_close(&node);
}

static void test_what_is_used_stays(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    struct store_request *request = store_request_new(13);
    node_set(request, 0, NOUN_POOL, "p", POOL);
    for (unsigned i = 1; i < 13; i++) {
        char key[16];
        char value[64];
        snprintf(key, sizeof key, "h%02u", i);
        snprintf(value, sizeof value, "{\"host\":\"%s\",\"path\":\"/\",\"pool\":\"p\"}", key);
        node_set(request, i, NOUN_ROUTE, key, value);
        node_refer(request, i, "p");
        node_refer(request, i, "p"); // twice is once
    }
    node_expect(&node, request, 0, "");
    assert_non_null(strstr(say("HGET pm:refs pool:p"), "$2\r\n12\r\n"));
    request = node_run(&node, node_one(NOUN_POOL, "p", NULL));
    assert_int_equal(request->err, ERR_IN_USE);
    assert_int_equal(request->changes[0].problems.count, 11);
    assert_string_equal(node_detail(request, 0), "pool \"p\" is used by route \"h01\"");
    assert_string_equal(request->changes[0].problems.items[10].detail, "and by more");
    store_request_free(&request);

    // All but one go with it; a new one of the same request is named.
    request = store_request_new(13);
    for (unsigned i = 1; i < 12; i++) {
        char key[16];
        snprintf(key, sizeof key, "h%02u", i);
        node_set(request, i - 1, NOUN_ROUTE, key, NULL);
    }
    node_set(request, 11, NOUN_POOL, "p", NULL);
    node_set(request, 12, NOUN_ROUTE, "b", B);
    node_refer(request, 12, "p");
    request = node_run(&node, request);
    assert_int_equal(request->err, ERR_IN_USE);
    assert_int_equal(request->changes[11].problems.count, 2);
    assert_string_equal(node_detail(request, 11), "pool \"p\" is used by route \"b\"");
    assert_string_equal(request->changes[11].problems.items[1].detail,
                        "and by more"); // the replica names ten at a time
    assert_int_equal(request->changes[12].err, ERR_INVALID);
    store_request_free(&request);

    request = store_request_new(13);
    for (unsigned i = 1; i < 13; i++) {
        char key[16];
        snprintf(key, sizeof key, "h%02u", i);
        node_set(request, i, NOUN_ROUTE, key, NULL);
    }
    node_set(request, 0, NOUN_POOL, "p", NULL);
    node_expect(&node, request, 0, "");
    assert_non_null(strstr(say("EXISTS pm:refs pm:routes pm:pools"), ":0"));
    node_close(&node);
}

static struct store_request *with_secret(const char *value, const char *secret, bool keep)
{
    struct store_request *request = node_one(NOUN_KEY, "k", value);
    request->changes[0].secret = secret == NULL ? NULL : str_dup(str_from_c(secret));
    request->changes[0].keep_secret = keep;
    return request;
}

static void assert_secret(struct node *node, const char *expected)
{
    struct store_record record;
    int err = store_get_secret(node->store, NOUN_KEY, STR("k"), &record);
    assert_int_equal(err, 0);
    assert_true(str_eq(record.secret, str_from_c(expected)));
    char there[64];
    snprintf(there, sizeof there, "\r\n%s\r\n", expected);
    const char *said = say("HGET pm:secrets key:k");
    assert_non_null(expected[0] == '\0' ? strstr(said, "$-1") : strstr(said, there));
}

static void test_secrets(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, true, NULL);
    node_wait_writable(&node);
    node_expect(&node, with_secret("{\"x\":1}", "one", false), 0, "");
    assert_secret(&node, "one");
    uint64_t revision = node_expect(&node, with_secret("{\"x\":1}", "again", false), 0, "");
    assert_secret(&node, "one"); // an equal value has an equal secret
    node_expect(&node, with_secret("{\"x\":2}", NULL, true), 0, "");
    assert_secret(&node, "one");
    node_expect(&node, with_secret("{\"x\":3}", "two", false), 0, "");
    assert_secret(&node, "two");
    revision = node_expect(&node, with_secret("{\"x\":3}", NULL, true), 0, "");
    // Sealed anew: no revision of its own, here and there.
    struct store_request *request = node_one(NOUN_KEY, "k", NULL);
    request->changes[0].secret = str_dup(STR("two anew"));
    request->changes[0].reseal = true;
    request->changes[0].if_match = revision;
    request = node_run(&node, request);
    assert_int_equal(request->err, 0);
    assert_true(request->changes[0].was_same);
    store_request_free(&request);
    assert_secret(&node, "two anew");
    assert_int_equal(store_revision(node.store), revision);
    request = node_one(NOUN_KEY, "k", NULL);
    request->changes[0].secret = str_dup(STR("old"));
    request->changes[0].reseal = true;
    request->changes[0].if_match = revision - 1;
    node_expect(&node, request, ERR_PRECONDITION, "has revision");
    assert_secret(&node, "two anew");
    // What comes to the replica late is not put over a newer one.
    request = node_one(NOUN_KEY, "k", NULL);
    request->changes[0].secret = str_dup(STR("late"));
    request->changes[0].reseal = true;
    request->changes[0].if_match = revision - 1;
    request->way = STORE_REPLAY;
    node_expect(&node, request, 0, "");
    assert_secret(&node, "two anew");
    assert_int_equal(node_expect(&node, with_secret("{\"x\":3}", NULL, false), 0, ""),
                     revision + 1);
    assert_secret(&node, "");
    node_expect(&node, with_secret("{\"x\":3}", "three", false), 0, ""); // was never stored
    assert_secret(&node, "three");
    node_expect(&node, with_secret(NULL, NULL, false), 0, "");
    assert_non_null(strstr(say("EXISTS pm:secrets pm:keys"), ":0"));
    node_close(&node);
}

static void test_no_secret_without_a_key(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    node_expect(&node, with_secret("{\"x\":1}", "one", false), ERR_INVALID,
                "store.encryption_key_file");
    assert_non_null(strstr(say("EXISTS pm:secrets pm:keys"), ":0"));
    // Keys of session tickets stay at home then.
    struct store_request *request = node_one(NOUN_TICKETS, "current", "{\"keys\":[]}");
    request->changes[0].secret = str_dup(STR("plain"));
    request->changes[0].if_none_match = true;
    node_expect(&node, request, 0, "");
    struct store_record record;
    assert_int_equal(store_get_secret(node.store, NOUN_TICKETS, STR("current"), &record), 0);
    assert_true(str_eq(record.secret, STR("plain")));
    assert_non_null(strstr(say("EXISTS pm:secrets pm:tickets"), ":0"));
    node_close(&node);
}

static struct store_extra *extra(struct store_request *request, bool is_guard, const char *line,
                                 const char *expected)
{
    struct store_extra *item = calloc(1, sizeof *item);
    struct str rest = str_from_c(line);
    item->argv = calloc(8, sizeof *item->argv);
    item->is_guard = is_guard;
    while (rest.len > 0) {
        struct str word;
        str_split(rest, ' ', &word, &rest);
        item->argv[item->argc++] = str_dup(word);
    }
    item->expected = is_guard ? str_dup(str_from_c(expected)) : NULL;
    item->expected_len = is_guard ? strlen(expected) : 0;
    struct store_extra **last = &request->extras;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = item;
    return item;
}

static void test_guards_and_companions(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    say("SET cx:routes:a http://t");
    say("HSET cx:settings:a mode proxy");
    struct store_request *request = node_one(NOUN_ROUTE, "a", A);
    extra(request, true, "GET cx:routes:a", "http://other");
    extra(request, false, "SET cx:mine 1", NULL);
    node_expect(&node, request, ERR_PRECONDITION, "has changed in Redis");
    assert_non_null(strstr(say("EXISTS cx:mine pm:routes"), ":0"));
    request = node_one(NOUN_ROUTE, "a", A);
    extra(request, true, "GET cx:routes:a", "http://t");
    extra(request, true, "GET cx:routes:none", "");
    free(extra(request, true, "HMGET cx:settings:a mode x", "proxy")->expected);
    struct store_extra *fields = request->extras->next->next;
    fields->expected = malloc(7);
    memcpy(fields->expected, "proxy\0\0", 7);
    fields->expected_len = 7;
    extra(request, false, "HSET cx:mine a 1", NULL);
    extra(request, false, "DEL cx:routes:a", NULL);
    node_expect(&node, request, 0, "");
    assert_non_null(strstr(say("HGET cx:mine a"), "$1\r\n1\r\n"));
    assert_non_null(strstr(say("EXISTS cx:routes:a"), ":0"));
    // A key of another type has nothing of it.
    say("SET cx:settings:b text");
    say("HSET cx:routes:b x y");
    request = node_one(NOUN_ROUTE, "a", A);
    extra(request, true, "GET cx:routes:b", "");
    free(extra(request, true, "HMGET cx:settings:b mode x", "")->expected);
    fields = request->extras->next;
    fields->expected = calloc(1, 2);
    fields->expected_len = 2;
    node_expect(&node, request, 0, "");
    request = node_one(NOUN_ROUTE, "a", A);
    extra(request, true, "GET cx:routes:b", "http://t");
    node_expect(&node, request, ERR_PRECONDITION, "has changed in Redis");
    assert_true(node.is_writable);
    // Also when the declaration is there as it is.
    request = node_one(NOUN_ROUTE, "a", A);
    extra(request, false, "HSET cx:mine a 2", NULL);
    node_expect(&node, request, 0, "");
    assert_non_null(strstr(say("HGET cx:mine a"), "$1\r\n2\r\n"));
    // One that Redis would refuse is refused before anything is written.
    request = node_one(NOUN_ROUTE, "a", A2);
    extra(request, false, "SET cx:other 1", NULL);
    extra(request, false, "HSET cx:other x y", NULL);
    say("SET cx:other text");
    node_expect(&node, request, ERR_UNAVAILABLE, "cx:other is a string, not a hash");
    // But not if it is deleted before.
    request = node_one(NOUN_ROUTE, "a", A);
    extra(request, false, "DEL cx:settings:b", NULL);
    extra(request, false, "HSET cx:settings:b mode proxy", NULL);
    node_expect(&node, request, 0, "");
    assert_non_null(strstr(say("HGET cx:settings:b mode"), "proxy"));
    request = node_one(NOUN_ROUTE, "a", A2);
    extra(request, false, "FLUSHALL now", NULL);
    node_expect(&node, request, ERR_UNAVAILABLE, "cannot go with a write");
    assert_non_null(strstr(say("GET cx:other"), "text"));
    node_close(&node);
}

// Both change what they have both seen: one order, and the other one learns of it.
static void test_of_two_nodes_one_is_faster(void **state)
{
    (void)state;
    struct node nodes[2];
    for (unsigned i = 0; i < 2; i++) {
        node_open(&nodes[i], &server, false, NULL);
        node_wait_writable(&nodes[i]);
    }
    uint64_t revision = node_expect(&nodes[0], node_one(NOUN_ROUTE, "a", A), 0, "");
    for (unsigned round = 0; round < 20; round++) {
        void *slots[2];
        NODE_WAIT(&nodes[0], store_revision(nodes[0].store) == revision);
        NODE_WAIT(&nodes[1], store_revision(nodes[1].store) == revision);
        for (unsigned i = 0; i < 2; i++) {
            char value[128];
            snprintf(
                value, sizeof value,
                "{\"host\":\"a\",\"path\":\"/\",\"respond\":{\"status\":200,\"body\":\"%u/%u\"}}",
                round, i);
            struct store_request *request = node_one(NOUN_ROUTE, "a", value);
            request->changes[0].if_match = revision;
            node_submit(&nodes[i], request, &slots[i]);
        }
        unsigned winners = 0;
        for (unsigned i = 0; i < 2; i++) {
            NODE_WAIT(&nodes[i], slots[i] != (void *)&nodes[i]);
            struct store_request *request = slots[i];
            struct store_record record;
            assert_int_equal(store_get(nodes[i].store, NOUN_ROUTE, STR("a"), &record), 0);
            assert_int_equal(record.revision, revision + 1); // also where it was refused
            winners += request->err == 0;
            assert_true(request->err == 0 || request->err == ERR_PRECONDITION);
            store_request_free(&request);
        }
        assert_int_equal(winners, 1);
        revision++;
    }
    node_close(&nodes[0]);
    node_close(&nodes[1]);
}

// ---- what Redis refuses ----

static void test_nothing_is_written_by_a_server_that_refuses(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, true, NULL);
    node_wait_writable(&node);
    node_expect(&node, with_secret("{\"x\":1}", "s", false), 0, "");
    uint64_t revision = store_revision(node.store);
    static const struct {
        const char *before, *text, *after;
    } cases[] = {
        {"CONFIG SET maxmemory 1", "OOM", "CONFIG SET maxmemory 0"},
        {"CONFIG SET min-replicas-to-write 1", "NOREPLICAS", "CONFIG SET min-replicas-to-write 0"},
        {"RENAME pm:stream kept\r\nSET pm:stream x", "pm:stream is not a stream",
         "DEL pm:stream\r\nRENAME kept pm:stream"},
        {"RENAME pm:refs kept\r\nSET pm:refs x", "WRONGTYPE pm:refs is a string", "DEL pm:refs"},
        {"SET pm:pools x", "WRONGTYPE pm:pools is a string", "DEL pm:pools"},
        {"HSET pm:meta schema 2", "newer version", "HSET pm:meta schema 1"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct store_request *request = store_request_new(3);
        node_set(request, 0, NOUN_KEY, "k", "{\"x\":2}")->keep_secret = true;
        node_set(request, 1, NOUN_POOL, "p", POOL);
        node_set(request, 2, NOUN_ROUTE, "b", B);
        node_refer(request, 2, "p");
        say(cases[i].before);
        node_expect(&node, request, ERR_UNAVAILABLE, cases[i].text);
        say(cases[i].after);
        assert_int_equal(store_revision(node.store), revision);
        assert_non_null(strstr(say("EXISTS pm:routes pm:pools pm:refs"), ":0"));
        // Redis is asked until it takes writes again.
        NODE_WAIT(&node, node.is_writable);
    }
    node_expect(&node, with_secret("{\"x\":9}", NULL, true), 0, "");
    assert_secret(&node, "s");
    node_close(&node);
}

static void test_scripts_are_loaded_again(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    enum { COUNT = 50 };
    void *slots[COUNT];
    for (unsigned round = 0; round < 3; round++) {
        say("SCRIPT FLUSH");
        for (unsigned i = 0; i < COUNT; i++) {
            char value[100];
            snprintf(
                value, sizeof value,
                "{\"host\":\"a\",\"path\":\"/\",\"respond\":{\"status\":200,\"body\":\"%u-%u\"}}",
                round, i);
            node_submit(&node, node_one(NOUN_ROUTE, "a", value), &slots[i]);
        }
        uint64_t before = 0;
        for (unsigned i = 0; i < COUNT; i++) {
            NODE_WAIT(&node, slots[i] != (void *)&node);
            struct store_request *request = slots[i];
            assert_int_equal(request->err, 0);
            assert_true(before == 0 || request->revision == before + 1); // in order
            before = request->revision;
            store_request_free(&request);
        }
    }
    node_close(&node);
}

static void test_an_empty_store_is_not_written(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    node_expect(&node, node_one(NOUN_ROUTE, "a", A), 0, "");
    say("FLUSHALL");
    node_expect(&node, node_one(NOUN_ROUTE, "a", A2), ERR_UNAVAILABLE, "came back empty");
    assert_non_null(strstr(say("EXISTS pm:meta pm:routes"), ":0"));
    NODE_WAIT(&node, node.fleet->state == FLEET_EMPTY);
    node_expect(&node, node_one(NOUN_ROUTE, "a", A2), ERR_UNAVAILABLE, "came back empty");
    node_close(&node);
}

static void test_another_epoch_is_waited_for(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    uint64_t revision = node_expect(&node, node_one(NOUN_ROUTE, "a", A), 0, "");
    char line[200];
    snprintf(line, sizeof line, "HSET pm:meta epoch 00000000deadbeef revision %llu tag %032d",
             (unsigned long long)revision + 1000, 7);
    say(line);
    uint64_t next = node_expect(&node, node_one(NOUN_ROUTE, "a", A2), 0, "");
    assert_true(next > revision + 1000);
    node_close(&node);
}

static void test_a_store_that_went_back_is_not_written(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    node_expect(&node, node_one(NOUN_ROUTE, "a", A), 0, "");
    uint64_t revision = node_expect(&node, node_one(NOUN_ROUTE, "a", A2), 0, "");
    char line[200];
    snprintf(line, sizeof line, "HSET pm:meta revision %llu tag %032d",
             (unsigned long long)revision - 1, 7);
    say(line);
    // The lost revision is not given again.
    uint64_t next = node_expect(&node, node_one(NOUN_ROUTE, "b", B), 0, "");
    assert_true(next > revision + FLEET_REVISION_STEP);
    node_close(&node);
}

static void tiny_stream(struct fleet_config *config)
{
    config->stream_entries = 1000000;
    config->stream_bytes = 100000;
}

static uint64_t number_of(const char *line)
{
    const char *said = say(line);
    const char *at = strchr(said, said[0] == ':' ? ':' : '\n');
    assert_non_null(at);
    return strtoull(at + 1, NULL, 10);
}

static void test_the_stream_is_bounded(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, false, tiny_stream);
    node_wait_writable(&node);
    char value[2100];
    for (unsigned i = 0; i < 200; i++) {
        int head =
            snprintf(value, sizeof value,
                     "{\"host\":\"a\",\"path\":\"/\",\"respond\":{\"status\":200,\"body\":\"");
        memset(value + head, 'a' + (int)(i % 26), 1900);
        snprintf(value + head + 1900, sizeof value - (size_t)head - 1900, "\"}}");
        node_expect(&node, node_one(NOUN_ROUTE, "a", value), 0, "");
        assert_true(number_of("XLEN pm:stream") < 60);
        assert_true(number_of("HGET pm:meta stream_bytes") <= 100000);
    }
    assert_true(number_of("XLEN pm:stream") > 10);
    node_close(&node);
}

// ---- how long it takes ----

static void test_large_and_many(void **state)
{
    (void)state;
    enum { LARGE = 10000, MANY = 2000 };
    static void *slots[MANY];
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    struct store_request *request = store_request_new(LARGE);
    for (unsigned i = 0; i < LARGE; i++) {
        char key[32];
        char value[128];
        snprintf(key, sizeof key, "h%u.example", i);
        snprintf(value, sizeof value,
                 "{\"host\":\"%s\",\"path\":\"/\",\"respond\":{\"status\":200,\"body\":\"x\"}}",
                 key);
        node_set(request, i, NOUN_ROUTE, key, value);
    }
    uint64_t began_ns = clock_monotonic_ns();
    node_expect(&node, request, 0, "");
    print_message("%u changes in one write: %llu ms until they are live\n", (unsigned)LARGE,
                  (unsigned long long)((clock_monotonic_ns() - began_ns) / NS_PER_MS));
    began_ns = clock_monotonic_ns();
    for (unsigned i = 0; i < MANY; i++) {
        char value[128];
        snprintf(value, sizeof value,
                 "{\"host\":\"a\",\"path\":\"/\",\"respond\":{\"status\":200,\"body\":\"%u\"}}", i);
        node_submit(&node, node_one(NOUN_ROUTE, "a", value), &slots[i]);
    }
    for (unsigned i = 0; i < MANY; i++) {
        NODE_WAIT(&node, slots[i] != (void *)&node);
        request = slots[i];
        assert_int_equal(request->err, 0);
        store_request_free(&request);
    }
    print_message("%u writes: %llu us each until they are live\n", (unsigned)MANY,
                  (unsigned long long)((clock_monotonic_ns() - began_ns) / 1000 / MANY));
    node_close(&node);
}

int main(void)
{
    hash_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_write_has_its_revision, setup, teardown),
        cmocka_unit_test_setup_teardown(test_conditions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_or_nothing_and_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_used_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_secrets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_secret_without_a_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_guards_and_companions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_of_two_nodes_one_is_faster, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_written_by_a_server_that_refuses, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_scripts_are_loaded_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_empty_store_is_not_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_epoch_is_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_store_that_went_back_is_not_written, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_the_stream_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_and_many, setup, teardown),
    };
    cmocka_set_test_filter(getenv("CASE"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
