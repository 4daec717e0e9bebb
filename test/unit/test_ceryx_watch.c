// SPDX-License-Identifier: MIT
// Ceryx' keys in a real Redis: look-ups, scans, notifications, the lease. The store is played: it takes every
// request but those for hosts it was told to refuse, runs their companions, and says what it was given.
#include "ceryx/watch.h"
#include "redis_client.h"
#include <stdlib.h>
#include <unistd.h>

enum { LINE_MAX = 400 };

static unsigned timeout_ms; // of a look-up; begin() makes it long

struct bench {
    struct redis_server server;
    struct client client; // whose loop is everybody's
    struct store *store;
    char folder[64];
    struct ceryx_watch *watches[2];
    struct misses misses;
    // What the store was given: "put route a.example", a line each.
    char lines[LINE_MAX][64];
    unsigned line_count;
    unsigned request_count;
    const char *refused; // a host
    int refused_err;
    bool is_held; // requests wait in `held`
    struct store_request *held;
};

static void answer(struct bench *b, struct store_request *request)
{
    bool is_refused = false;
    for (unsigned i = 0; i < request->count; i++) {
        is_refused |= b->refused != NULL && strcmp(request->changes[i].key, b->refused) == 0;
    }
    if (is_refused) {
        store_request_fail(request, b->refused_err, "it is not liked");
        store_answer(&request);
        return;
    }
    for (unsigned i = 0; i < request->count && b->line_count < LINE_MAX; i++) {
        const struct store_change *change = &request->changes[i];
        if (change->noun == NOUN_ROUTE && change->value == NULL) {
            assert_int_equal(change->if_match, 7); // the revision of below
        }
        snprintf(b->lines[b->line_count++], sizeof b->lines[0], "%s %.*s %.40s",
                 change->value == NULL ? "del" : "put", STR_ARG(noun_name(change->noun)),
                 change->key);
        char line[600];
        if (change->noun == NOUN_ROUTE) { // as the script stores it
            struct str argv[] = {change->value == NULL ? STR("HDEL") : STR("HSET"), STR("p:routes"),
                                 str_from_c(change->key), STR_NULL};
            snprintf(line, sizeof line, "7 \n%s", change->value == NULL ? "" : change->value);
            argv[3] = str_from_c(line);
            assert_true(redis_command(b->client.redis, change->value == NULL ? 3 : 4, argv,
                                      client_on_reply, &b->client));
        }
    }
    for (const struct store_extra *extra = request->extras; extra != NULL; extra = extra->next) {
        struct str argv[8];
        for (unsigned i = 0; i < extra->argc; i++) {
            argv[i] = str_from_c(extra->argv[i]);
        }
        if (!extra->is_guard) {
            assert_true(
                redis_command(b->client.redis, extra->argc, argv, client_on_reply, &b->client));
        }
    }
    store_answer(&request);
}

static void on_submit(void *context, struct store_request *request)
{
    struct bench *b = context;
    b->request_count++;
    assert_int_equal(request->way, STORE_WRITE);
    if (b->is_held) {
        assert_null(b->held);
        b->held = request;
    } else {
        answer(b, request);
    }
}

static void make_watch(struct bench *b, unsigned number)
{
    static const char *const ids[] = {"00000000000000a1", "00000000000000a2"};
    struct problems problems;
    problems_init(&problems);
    const struct ceryx_watch_config config = {
        .url = &b->client.url,
        .loop = &b->client.loop,
        .store = b->store,
        .prefix = "ceryx",
        .store_prefix = "p",
        .node_id = ids[number],
        .miss_timeout_ms = timeout_ms,
    };
    assert_int_equal(ceryx_watch_new(&b->watches[number], &config, &problems), 0);
    problems_fini(&problems);
    ceryx_watch_start(b->watches[number]);
}

static struct ceryx_watch_status status_of(struct bench *b, unsigned number)
{
    struct ceryx_watch_status status;
    ceryx_watch_get_status(b->watches[number], &status);
    return status;
}

static struct bench *begin(const char *const *arguments)
{
    struct bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    timeout_ms = 30000;
    redis_server_init(&b->server);
    redis_server_start(&b->server, arguments);
    char url[100];
    snprintf(url, sizeof url, "redis://127.0.0.1:%u/0", b->server.port);
    client_begin(&b->client, url);
    WAIT(&b->client, b->client.is_ready);
    snprintf(b->folder, sizeof b->folder, "/tmp/test_ceryx.XXXXXX");
    assert_non_null(mkdtemp(b->folder));
    char path[100];
    snprintf(path, sizeof path, "%s/replica.db", b->folder);
    struct problems problems;
    problems_init(&problems);
    assert_int_equal(store_open_replica(&b->store, path, &problems), 0);
    problems_fini(&problems);
    store_set_front(b->store, &(struct store_front){.submit = on_submit, .context = b});
    return b;
}

static void watch_one(struct bench *b)
{
    make_watch(b, 0);
    misses_init(&b->misses, &b->client.loop, ceryx_watch_misses(b->watches[0]));
    WAIT(&b->client, status_of(b, 0).is_connected);
}

static struct bench *begin_watching(const char *const *arguments)
{
    struct bench *b = begin(arguments);
    watch_one(b);
    return b;
}

static void end(struct bench *b)
{
    for (unsigned i = 0; i < 2; i++) {
        ceryx_watch_stop(b->watches[i]);
        ceryx_watch_free(&b->watches[i]);
    }
    loop_empty_mailbox(&b->client.loop); // the last answers
    assert_int_equal(b->misses.count, 0);
    misses_fini(&b->misses);
    store_close(&b->store);
    client_end(&b->client);
    redis_server_fini(&b->server);
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", b->folder);
    assert_int_equal(system(command), 0);
    free(b);
}

// As a worker does for a request.
static void ask(struct bench *b, const char *host)
{
    struct miss *miss = calloc(1, sizeof *miss);
    assert_non_null(miss);
    list_init(&miss->node);
    list_init(&miss->txns);
    miss->owner = &b->misses;
    miss->loop = &b->client.loop;
    miss->hash = hash_str(str_from_c(host));
    miss->host_len = str_copy(miss->host, sizeof miss->host, str_from_c(host));
    assert_in_range(b->misses.count, 0, MISS_MAX - 1);
    b->misses.under_way[b->misses.count++] = miss;
    b->misses.source->ask(b->misses.source->context, miss);
}

static bool is_remembered(const struct bench *b, const char *host)
{
    uint64_t hash = hash_str(str_from_c(host));
    return b->misses.remembered != NULL &&
           b->misses.remembered[hash % MISS_REMEMBERED].hash == hash;
}

static void say(struct bench *b, const char *line)
{
    client_ask(&b->client, line);
    assert_int_not_equal(b->client.type, REDIS_ERROR);
}

static unsigned count_lines(const struct bench *b, const char *line)
{
    unsigned count = 0;
    for (unsigned i = 0; i < b->line_count; i++) {
        count += strcmp(b->lines[i], line) == 0;
    }
    return count;
}

static void wait_pass(struct bench *b)
{
    uint64_t scans = status_of(b, 0).scans;
    WAIT(&b->client, status_of(b, 0).scans >= scans + 2);
}

// ---- look-ups ----

static void test_found(void **state)
{
    (void)state;
    struct bench *b = begin(NULL);
    say(b, "SET p:ceryx:lease somebody"); // no scans here
    watch_one(b);
    say(b, "SET ceryx:routes:a.example http://10.0.0.1:8000/");
    ask(b, "a.example");
    ask(b, "a.example");
    WAIT(&b->client, b->misses.count == 0);
    assert_false(is_remembered(b, "a.example"));
    assert_int_equal(b->request_count, 1);
    assert_int_equal(count_lines(b, "put route a.example"), 1);
    assert_int_equal(status_of(b, 0).found, 1);
    assert_int_equal(status_of(b, 0).joined, 1);
    client_ask(&b->client, "HGET p:ceryx a.example");
    assert_int_equal(strlen(b->client.text), 33);
    end(b);
}

static void test_missing(void **state)
{
    (void)state;
    struct bench *b = begin_watching(NULL);
    ask(b, "nobody.example");
    WAIT(&b->client, b->misses.count == 0);
    assert_true(is_remembered(b, "nobody.example"));
    ask(b, "nobody.example");
    WAIT(&b->client, b->misses.count == 0);
    assert_int_equal(status_of(b, 0).negative, 1);
    assert_int_equal(status_of(b, 0).lookups, 1);
    // A target that is none is not there either.
    say(b, "SET ceryx:routes:bad.example http://");
    ask(b, "bad.example");
    WAIT(&b->client, b->misses.count == 0);
    assert_true(is_remembered(b, "bad.example"));
    assert_int_equal(count_lines(b, "put route bad.example"), 0);
    end(b);
}

// It was changed between reading and writing: read again. Another node has made it: live.
static void test_changed_meanwhile(void **state)
{
    (void)state;
    struct bench *b = begin(NULL);
    say(b, "SET p:ceryx:lease somebody");
    say(b, "SET ceryx:routes:a.example http://10.0.0.1:8000/");
    watch_one(b);
    b->refused = "a.example";
    b->refused_err = ERR_PRECONDITION;
    ask(b, "a.example");
    WAIT(&b->client, b->misses.count == 0);
    assert_in_range(b->request_count, 2, 4);
    assert_int_equal(status_of(b, 0).failed, 1);
    assert_false(is_remembered(b, "a.example"));
    b->request_count = 0;
    say(b, "HSET p:routes a.example x");
    ask(b, "a.example");
    WAIT(&b->client, b->misses.count == 0);
    assert_int_equal(b->request_count, 1);
    assert_int_equal(status_of(b, 0).found, 1);
    end(b);
}

static void test_too_many_and_late(void **state)
{
    (void)state;
    struct bench *b = begin(NULL);
    timeout_ms = 200;
    watch_one(b);
    redis_server_signal(&b->server, SIGSTOP);
    struct misses more = b->misses; // of another worker
    more.count = 0;
    for (unsigned i = 0; i < CERYX_LOOKUP_MAX; i++) {
        char host[40];
        snprintf(host, sizeof host, "h%u.example", i);
        ask(b, host);
    }
    loop_turn(&b->client.loop, 0);
    assert_int_equal(status_of(b, 0).under_way, CERYX_LOOKUP_MAX);
    struct misses first = b->misses;
    b->misses = more;
    ask(b, "one-more.example");
    for (unsigned i = 0; i < first.count; i++) {
        first.under_way[i]->owner = &first;
    }
    WAIT(&b->client, b->misses.count == 0);
    assert_int_equal(status_of(b, 0).over, 1);
    assert_int_equal(status_of(b, 0).failed, 0); // the others wait on
    WAIT(&b->client, first.count == 0);
    assert_int_equal(status_of(b, 0).failed, CERYX_LOOKUP_MAX);
    assert_null(first.remembered);
    WAIT(&b->client, !status_of(b, 0).is_connected); // it was silent for too long
    ask(b, "away.example");
    WAIT(&b->client, b->misses.count == 0);
    assert_false(is_remembered(b, "away.example"));
    redis_server_signal(&b->server, SIGCONT);
    WAIT(&b->client, status_of(b, 0).is_connected && status_of(b, 0).under_way == 0);
    end(b);
}

// ---- scans ----

static void test_scan(void **state)
{
    (void)state;
    struct bench *b = begin(NULL);
    for (unsigned i = 0; i < 30; i++) {
        char line[100];
        snprintf(line, sizeof line, "SET ceryx:routes:h%u.example 10.0.0.1:8000", i);
        say(b, line);
    }
    say(b, "SET ceryx:routes:$wildcard 10.0.0.2:8000");
    say(b, "SET ceryx:routes:bad.example http://");
    say(b, "SET ceryx:routes:UPPER.example 10.0.0.1:8000");
    say(b, "HSET ceryx:routes:hash.example a b");
    say(b, "SET ceryx:other:x 1");
    make_watch(b, 0);
    WAIT(&b->client, status_of(b, 0).scans >= 2);
    assert_int_equal(status_of(b, 0).adopted, 31);
    assert_int_equal(status_of(b, 0).refused, 3);
    assert_int_equal(status_of(b, 0).scanned, 34);
    assert_int_equal(count_lines(b, "put route h7.example"), 1);
    assert_int_equal(count_lines(b, "put route *"), 1);
    unsigned requests = b->request_count;
    wait_pass(b);
    assert_int_equal(b->request_count, requests); // nothing has changed
    assert_int_equal(status_of(b, 0).refused, 3);
    // A target, a setting, and one that is gone.
    say(b, "SET ceryx:routes:h1.example 10.0.0.9:8000");
    say(b, "HSET ceryx:settings:h2.example enforce_https 1");
    say(b, "DEL ceryx:routes:h3.example");
    say(b, "SET ceryx:routes:bad.example 10.0.0.1");
    say(b, "SET ceryx:routes:h4.example http://"); // was good
    wait_pass(b);
    assert_int_equal(count_lines(b, "put route h1.example"), 2);
    assert_int_equal(count_lines(b, "put route h2.example"), 2);
    assert_int_equal(count_lines(b, "del route h3.example"), 1);
    assert_int_equal(count_lines(b, "put route bad.example"), 1);
    assert_int_equal(count_lines(b, "del route h4.example"), 1);
    assert_string_equal(status_of(b, 0).refused_host, "h4.example");
    client_ask(&b->client, "HEXISTS p:ceryx h3.example");
    assert_int_equal(b->client.number, 0);
    end(b);
}

// Keys that cannot be read are refused alone; a route that was made of one before goes.
static void test_unreadable(void **state)
{
    (void)state;
    struct bench *b = begin(NULL);
    char line[6000] = "SET ceryx:routes:long.example ";
    memset(line + strlen(line), 'x', 5000);
    say(b, line);
    say(b, "SET ceryx:routes:a.example 10.0.0.1:8000");
    say(b, "SET ceryx:settings:a.example text");
    say(b, "SET ceryx:routes:was.example 10.0.0.1:8000");
    say(b, "HSET p:ceryx gone.example broken");
    make_watch(b, 0);
    WAIT(&b->client, status_of(b, 0).scans >= 2);
    assert_int_equal(status_of(b, 0).adopted, 2);
    assert_int_equal(status_of(b, 0).refused, 1);
    assert_string_equal(status_of(b, 0).refused_detail, "its target is too long");
    client_ask(&b->client, "HEXISTS p:ceryx gone.example");
    assert_int_equal(b->client.number, 0);
    say(b, "DEL ceryx:routes:was.example");
    say(b, "RPUSH ceryx:routes:was.example x");
    wait_pass(b);
    assert_int_equal(count_lines(b, "del route was.example"), 1);
    assert_int_equal(status_of(b, 0).refused, 2);
    end(b);
}

// A route that is not what was adopted any more stays when its key goes.
static void test_replaced_route_stays(void **state)
{
    (void)state;
    struct bench *b = begin(NULL);
    say(b, "SET ceryx:routes:a.example 10.0.0.1:8000");
    make_watch(b, 0);
    WAIT(&b->client, status_of(b, 0).adopted == 1);
    struct str argv[] = {STR("HSET"), STR("p:routes"), STR("a.example"), STR("9 \n{\"own\":1}")};
    assert_true(redis_command(b->client.redis, 4, argv, client_on_reply, &b->client));
    wait_pass(b);
    say(b, "DEL ceryx:routes:a.example");
    wait_pass(b);
    assert_int_equal(count_lines(b, "del route a.example"), 0);
    client_ask(&b->client, "HEXISTS p:ceryx a.example");
    assert_int_equal(b->client.number, 0);
    end(b);
}

// One that the store does not take is found among many, and left alone until it changes.
static void test_refused_alone(void **state)
{
    (void)state;
    struct bench *b = begin(NULL);
    for (unsigned i = 0; i < 120; i++) {
        char line[100];
        snprintf(line, sizeof line, "SET ceryx:routes:h%u.example 10.0.0.1:8000", i);
        say(b, line);
    }
    b->refused = "h50.example";
    b->refused_err = ERR_INVALID;
    make_watch(b, 0);
    WAIT(&b->client, status_of(b, 0).scans >= 2);
    assert_int_equal(status_of(b, 0).adopted, 119);
    assert_int_equal(status_of(b, 0).refused, 1);
    assert_string_equal(status_of(b, 0).refused_host, "h50.example");
    unsigned requests = b->request_count;
    wait_pass(b);
    assert_int_equal(b->request_count, requests);
    b->refused = NULL;
    say(b, "SET ceryx:routes:h50.example 10.0.0.2:8000");
    WAIT(&b->client, status_of(b, 0).adopted == 120);
    end(b);
}

// A pool that others refer to stays; the host is served as its key says all the same.
static void test_pool_in_use(void **state)
{
    (void)state;
    struct bench *b = begin(NULL);
    say(b, "SET ceryx:routes:a.example https://10.0.0.1");
    make_watch(b, 0);
    WAIT(&b->client, status_of(b, 0).adopted == 1);
    say(b, "HSET p:pools ceryx-a.example x");
    b->refused = "ceryx-a.example";
    b->refused_err = ERR_IN_USE;
    say(b, "SET ceryx:routes:a.example http://10.0.0.2");
    WAIT(&b->client, status_of(b, 0).adopted == 2);
    assert_int_equal(count_lines(b, "put route a.example"), 2);
    say(b, "DEL ceryx:routes:a.example");
    WAIT(&b->client, status_of(b, 0).deleted == 1);
    assert_int_equal(count_lines(b, "del pool ceryx-a.example"), 0);
    assert_int_equal(status_of(b, 0).refused, 0);
    end(b);
}

// The store cannot write: another node may; this one tries again.
static void test_store_away(void **state)
{
    (void)state;
    struct bench *b = begin(NULL);
    say(b, "SET ceryx:routes:a.example 10.0.0.1:8000");
    b->refused = "a.example";
    b->refused_err = ERR_UNAVAILABLE;
    make_watch(b, 0);
    WAIT(&b->client, b->request_count == 1 && !status_of(b, 0).is_scanning);
    client_ask(&b->client, "EXISTS p:ceryx:lease");
    assert_int_equal(b->client.number, 0);
    b->refused = NULL;
    WAIT(&b->client, status_of(b, 0).adopted == 1);
    end(b);
}

// It ends while the store has a request of it.
static void test_end_with_requests(void **state)
{
    (void)state;
    struct bench *b = begin(NULL);
    say(b, "SET ceryx:routes:a.example 10.0.0.1:8000");
    b->is_held = true;
    make_watch(b, 0);
    WAIT(&b->client, b->held != NULL);
    answer(b, b->held); // on its way
    end(b);
}

// ---- notifications, the lease ----

static void test_notifications(void **state)
{
    (void)state;
    static const char *const arguments[] = {"--notify-keyspace-events", "K$hg", NULL};
    struct bench *b = begin(arguments);
    say(b, "SET ceryx:routes:a.example 10.0.0.1:8000");
    make_watch(b, 0);
    WAIT(&b->client, status_of(b, 0).is_notified && status_of(b, 0).adopted == 1);
    uint64_t scans = status_of(b, 0).scans;
    uint64_t begun_ns = clock_monotonic_ns();
    say(b, "SET ceryx:routes:a.example 10.0.0.2:8000");
    WAIT(&b->client, count_lines(b, "put route a.example") == 2);
    say(b, "HSET ceryx:settings:a.example mode redirect");
    WAIT(&b->client, count_lines(b, "put route a.example") == 3);
    say(b, "DEL ceryx:routes:a.example");
    WAIT(&b->client, count_lines(b, "del route a.example") == 1);
    // One stands behind the first word of it; the others are those of the long pause.
    uint64_t pauses = (clock_monotonic_ns() - begun_ns) / NS_PER_MS / CERYX_PASS_NOTIFIED_MS;
    assert_in_range(status_of(b, 0).scans, scans, scans + 2 + pauses);
    // They stop: it is noticed, and scans find what changes.
    say(b, "CONFIG SET notify-keyspace-events K$");
    WAIT(&b->client, !status_of(b, 0).is_notified);
    say(b, "SET ceryx:routes:b.example 10.0.0.2:8000");
    WAIT(&b->client, count_lines(b, "put route b.example") == 1);
    end(b);
}

static void test_lease(void **state)
{
    (void)state;
    struct bench *b = begin(NULL);
    make_watch(b, 0);
    WAIT(&b->client, status_of(b, 0).is_scanning);
    make_watch(b, 1);
    WAIT(&b->client, status_of(b, 1).is_connected);
    wait_pass(b);
    assert_false(status_of(b, 1).is_scanning);
    ceryx_watch_leave(b->watches[0]);
    WAIT(&b->client, status_of(b, 1).is_scanning);
    say(b, "SET ceryx:routes:a.example 10.0.0.1:8000");
    WAIT(&b->client, status_of(b, 1).adopted == 1);
    end(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_changed_meanwhile),
        cmocka_unit_test(test_too_many_and_late),
        cmocka_unit_test(test_scan),
        cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_replaced_route_stays),
        cmocka_unit_test(test_refused_alone),
        cmocka_unit_test(test_pool_in_use),
        cmocka_unit_test(test_store_away),
        cmocka_unit_test(test_end_with_requests),
        cmocka_unit_test(test_notifications),
        cmocka_unit_test(test_lease),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
