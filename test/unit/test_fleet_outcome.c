// SPDX-License-Identifier: MIT
// What becomes of a write when Redis is silent, dies, or loses its connections: what is answered, when, and
// what is told afterwards.
#include "fleet_check.h"
#include "fleet/nodes_int.h"
#include <dirent.h>
#include <signal.h>

#define A "{\"host\":\"a\",\"path\":\"/\",\"respond\":{\"status\":200,\"body\":\"1\"}}"
#define B "{\"host\":\"b\",\"path\":\"/\",\"respond\":{\"status\":200,\"body\":\"2\"}}"
#define C "{\"host\":\"c\",\"path\":\"/\",\"respond\":{\"status\":200,\"body\":\"3\"}}"

static struct redis_server server;
static const char *const lasting[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};

static char *say_to(const struct redis_server *to, const char *line)
{
    static char answer[4096];
    redis_server_say(to, line, answer, sizeof answer);
    return answer;
}

static char *say(const char *line)
{
    return say_to(&server, line);
}

static int setup(void **state)
{
    (void)state;
    redis_server_init(&server);
    redis_server_start(&server, NULL);
    return 0;
}

static int setup_lasting(void **state)
{
    (void)state;
    redis_server_init(&server);
    redis_server_start(&server, lasting);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char line[160];
    redis_server_signal(&server, SIGCONT);
    snprintf(line, sizeof line, "%s/appendonlydir", server.folder);
    redis_server_kill(&server);
    DIR *folder = opendir(line);
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        (void)unlinkat(dirfd(folder), entry->d_name, 0);
    }
    if (folder != NULL) {
        closedir(folder);
        rmdir(line);
    }
    redis_server_fini(&server);
    return 0;
}

static uint64_t ms_since(const struct node *node, uint64_t began_ms)
{
    return node_ms(node) - began_ms;
}

static bool is_written(const char *key)
{
    char line[64];
    snprintf(line, sizeof line, "HEXISTS pm:routes %s", key);
    return strstr(say(line), ":1") != NULL;
}

static struct store_request *wait_for(struct node *node, void **slot)
{
    NODE_WAIT(node, *slot != (void *)node);
    return *slot;
}

// ---- silence ----

// Sent, then silence: what the answer and the event say.
static void pause_around_a_write(uint64_t pause_ms)
{
    struct node node;
    void *slot;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    node_expect(&node, node_one(NOUN_ROUTE, "a", A), 0, "");
    redis_server_signal(&server, SIGSTOP);
    uint64_t began_ms = node_ms(&node);
    node_submit(&node, node_one(NOUN_ROUTE, "b", B), &slot);
    NODE_WAIT(&node, !node.is_writable);
    assert_in_range(ms_since(&node, began_ms), 500, 1500);
    assert_non_null(strstr(node.detail, "has not answered for 1."));
    // Refused at once from now on, before it is sent.
    uint64_t refused_ms = node_ms(&node);
    struct store_request *refused = node_run(&node, node_one(NOUN_ROUTE, "c", C));
    assert_int_equal(refused->err, ERR_UNAVAILABLE);
    assert_int_equal(refused->outcome, STORE_NOT_WRITTEN);
    assert_non_null(strstr(node_detail(refused, 0), "has not answered for"));
    assert_true(ms_since(&node, refused_ms) < 200);
    store_request_free(&refused);
    struct store_request *unknown = wait_for(&node, &slot);
    assert_in_range(ms_since(&node, began_ms), 2300, 3000);
    assert_int_equal(unknown->err, ERR_UNAVAILABLE);
    assert_int_equal(unknown->outcome, STORE_UNKNOWN);
    assert_int_equal(strlen(unknown->id), STORE_ID_LEN);
    assert_null(node_outcome(&node, unknown->id));
    while (ms_since(&node, began_ms) < pause_ms) {
        node_turn(&node);
    }
    redis_server_signal(&server, SIGCONT);
    uint64_t back_ms = node_ms(&node);
    NODE_WAIT(&node, node_outcome(&node, unknown->id) != NULL);
    assert_true(ms_since(&node, back_ms) < 3000);
    const struct node_event *told = node_outcome(&node, unknown->id);
    NODE_WAIT(&node, node.is_writable);
    assert_string_equal(told->outcome, is_written("b") ? "applied" : "not_applied");
    assert_true((told->revision > 0) == is_written("b"));
    assert_false(is_written("c"));
    store_request_free(&unknown);
    node_expect(&node, node_one(NOUN_ROUTE, "c", C), 0, "");
    struct fleet_status status;
    fleet_get_status(node.fleet, &status);
    assert_int_equal(status.unknown, 1);
    assert_int_equal(status.orphans, 0);
    assert_int_equal(status.pending, 0);
    assert_int_equal(status.refused, 1);
    assert_int_equal(status.writes, 4);
    node_close(&node);
}

static void test_silence_that_the_connection_outlives(void **state)
{
    (void)state;
    pause_around_a_write(2700);
}

static void test_silence_that_it_does_not_outlive(void **state)
{
    (void)state;
    pause_around_a_write(4500);
}

static void test_an_idle_node_notices_silence(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    node_turn_for(&node, 400);
    redis_server_signal(&server, SIGSTOP);
    uint64_t began_ms = node_ms(&node);
    NODE_WAIT(&node, !node.is_writable);
    assert_in_range(ms_since(&node, began_ms), 500, 1600);
    redis_server_signal(&server, SIGCONT);
    NODE_WAIT(&node, node.is_writable);
    node_expect(&node, node_one(NOUN_ROUTE, "a", A), 0, "");
    node_close(&node);
}

// ---- lost connections ----

static void test_a_reply_that_was_lost_is_found_in_the_stream(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    for (unsigned i = 0; i < 10; i++) {
        void *slot;
        char value[128];
        snprintf(value, sizeof value,
                 "{\"host\":\"a\",\"path\":\"/\",\"respond\":{\"status\":200,\"body\":\"%u\"}}", i);
        node_wait_writable(&node);
        node_submit(&node, node_one(NOUN_ROUTE, "a", value), &slot);
        while (node.fleet->write->sent_count == 0 && slot == (void *)&node) {
            loop_turn(&node.fleet->loop, 0);
        }
        usleep(i % 3 * 500); // before or after Redis has done it
        redis_drop(node.fleet->write->redis, "test");
        struct store_request *request = wait_for(&node, &slot);
        struct store_record record;
        bool is_there = store_get(node.store, NOUN_ROUTE, STR("a"), &record) == 0 &&
                        str_eq(record.value, str_from_c(value));
        // Never "unknown" when all is well a moment later; what is said is what is there.
        assert_int_equal(request->outcome, STORE_NOT_WRITTEN);
        assert_true((request->err == 0) == is_there);
        assert_true(request->err == 0 || request->err == ERR_UNAVAILABLE);
        if (request->err == 0) {
            assert_int_equal(request->revision, record.revision);
            assert_int_equal(request->changes[0].revision, record.revision);
        }
        store_request_free(&request);
    }
    node_close(&node);
}

static void test_killed_in_between(void **state)
{
    (void)state;
    enum { COUNT = 200 };
    static void *slots[COUNT];
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    for (unsigned i = 0; i < COUNT; i++) {
        char key[16];
        char value[128];
        snprintf(key, sizeof key, "h%03u", i);
        snprintf(value, sizeof value,
                 "{\"host\":\"%s\",\"path\":\"/\",\"respond\":{\"status\":200,\"body\":\"1\"}}",
                 key);
        node_submit(&node, node_one(NOUN_ROUTE, key, value), &slots[i]);
    }
    while (node.answers < 20) {
        node_turn(&node);
    }
    redis_server_kill(&server);
    node_turn_for(&node, 300);
    node_expect(&node, node_one(NOUN_ROUTE, "c", C), ERR_UNAVAILABLE, "Redis is away");
    redis_server_start(&server, lasting);
    for (unsigned i = 0; i < COUNT; i++) {
        char key[16];
        snprintf(key, sizeof key, "h%03u", i);
        struct store_request *request = wait_for(&node, &slots[i]);
        if (request->outcome == STORE_UNKNOWN) {
            NODE_WAIT(&node, node_outcome(&node, request->id) != NULL);
            const char *outcome = node_outcome(&node, request->id)->outcome;
            assert_string_equal(outcome, is_written(key) ? "applied" : "not_applied");
        } else if (request->outcome == STORE_NOT_WRITTEN) {
            assert_true((request->err == 0) == is_written(key));
        }
        store_request_free(&request);
    }
    node_wait_writable(&node);
    node_expect(&node, node_one(NOUN_ROUTE, "c", C), 0, "");
    assert_false(node.fleet->write->is_unsettled);
    node_close(&node);
}

static void test_an_older_session_is_refused(void **state)
{
    (void)state;
    struct node node;
    char line[128];
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    node_expect(&node, node_one(NOUN_ROUTE, "a", A), 0, "");
    uint64_t session = node.fleet->write->session;
    snprintf(line, sizeof line, "HSET pm:fence %s %llu", node.fleet->node_id,
             (unsigned long long)session + 5);
    say(line);
    node_expect(&node, node_one(NOUN_ROUTE, "b", B), ERR_UNAVAILABLE, "this node's id");
    assert_false(is_written("b"));
    node_turn_for(&node, 50);
    node_wait_writable(&node);
    assert_int_equal(node.fleet->write->session, session + 6);
    node_expect(&node, node_one(NOUN_ROUTE, "b", B), 0, "");
    node_close(&node);
}

// A session that nobody can be above would end all writes of the node.
static void test_a_broken_session_is_replaced(void **state)
{
    (void)state;
    static const char *const broken[] = {"nan", "inf", "-inf", "1e300", "9007199254740992", "x"};
    struct node node;
    char line[128];
    node_open(&node, &server, false, NULL);
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        node_wait_writable(&node);
        snprintf(line, sizeof line, "HSET pm:fence %s %s", node.fleet->node_id, broken[i]);
        say(line);
        uint64_t generation = node.fleet->write->generation;
        redis_drop(node.fleet->write->redis, "a test");
        NODE_WAIT(&node, node.fleet->write->generation > generation);
        assert_true(node.fleet->write->session < 100);
    }
    node_wait_writable(&node);
    node_expect(&node, node_one(NOUN_ROUTE, "a", A), 0, "");
    node_close(&node);
}

// ---- written, but ----

static void test_written_but_not_live(void **state)
{
    (void)state;
    struct node node;
    void *slot;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    node.is_slow = true;
    uint64_t began_ms = node_ms(&node);
    node_submit(&node, node_one(NOUN_ROUTE, "a", A), &slot);
    struct store_request *request = wait_for(&node, &slot);
    assert_in_range(ms_since(&node, began_ms), 2300, 3000);
    assert_int_equal(request->err, ERR_UNAVAILABLE);
    assert_int_equal(request->outcome, STORE_WRITTEN);
    assert_non_null(strstr(node_detail(request, 0), "it is behind"));
    assert_true(request->revision > 0);
    assert_true(is_written("a"));
    store_request_free(&request);
    node.is_slow = false;
    store_line_resume(&node.line);
    node_expect(&node, node_one(NOUN_ROUTE, "b", B), 0, "");
    node_close(&node);
}

static void want_a_replica(struct fleet_config *config)
{
    config->wait_replicas = 1;
}

// So many writes at once; how many were confirmed. The others were written, and say why they were not.
static unsigned write_to_replicas(struct node *node, unsigned count)
{
    static void *slots[100];
    unsigned confirmed = 0;
    for (unsigned i = 0; i < count; i++) {
        char value[128];
        snprintf(value, sizeof value,
                 "{\"host\":\"a\",\"path\":\"/\",\"respond\":{\"status\":200,\"body\":\"%u!\"}}",
                 i);
        node_submit(node, node_one(NOUN_ROUTE, "a", value), &slots[i]);
    }
    for (unsigned i = 0; i < count; i++) {
        struct store_request *request = wait_for(node, &slots[i]);
        if (request->err == 0) {
            confirmed++;
        } else {
            assert_int_equal(request->err, ERR_UNAVAILABLE);
            assert_int_equal(request->outcome, STORE_WRITTEN);
            assert_non_null(strstr(node_detail(request, 0), "replicas have"));
        }
        store_request_free(&request);
    }
    return confirmed;
}

static void test_replicas_are_waited_for(void **state)
{
    (void)state;
    struct node node;
    struct redis_server replica;
    node_open(&node, &server, false, want_a_replica);
    node_wait_writable(&node);
    struct store_request *request = node_run(&node, node_one(NOUN_ROUTE, "a", A));
    assert_int_equal(request->err, ERR_UNAVAILABLE);
    assert_int_equal(request->outcome, STORE_WRITTEN);
    assert_string_equal(node_detail(request, 0), "it is written, but only 0 of 1 replicas have it");
    store_request_free(&request);
    assert_true(node.is_writable); // WAIT is no silence
    char port[12];
    snprintf(port, sizeof port, "%u", server.port);
    const char *const arguments[] = {"--replicaof", "127.0.0.1", port, NULL};
    redis_server_init(&replica);
    redis_server_start(&replica, arguments);
    NODE_WAIT(&node, strstr(say_to(&replica, "ROLE"), "connected") != NULL);
    // A machine that stands still makes Redis say that a replica is late, too.
    unsigned confirmed = 0;
    for (unsigned round = 0; round < 20 && confirmed < 100; round++) {
        confirmed = write_to_replicas(&node, 100);
    }
    assert_int_equal(confirmed, 100);
    redis_server_fini(&replica);
    node_close(&node);
}

static void test_a_server_that_became_a_replica(void **state)
{
    (void)state;
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    node_expect(&node, node_one(NOUN_ROUTE, "a", A), 0, "");
    char line[64];
    snprintf(line, sizeof line, "REPLICAOF 127.0.0.1 %u", redis_server_free_port());
    say(line);
    // The first may be refused because the connection that follows was closed: it is not sent then.
    for (unsigned i = 0; i < 100 && strstr(node.fleet->write->trouble, "READONLY") == NULL; i++) {
        node_expect(&node, node_one(NOUN_ROUTE, "b", B), ERR_UNAVAILABLE, "");
        node_turn_for(&node, 20);
    }
    NODE_WAIT(&node, !node.is_writable);
    NODE_WAIT(&node, strstr(node.fleet->write->trouble, "READONLY") != NULL);
    node_expect(&node, node_one(NOUN_ROUTE, "b", B), ERR_UNAVAILABLE, "");
    assert_false(is_written("b"));
    say("REPLICAOF NO ONE");
    node_wait_writable(&node);
    node_expect(&node, node_one(NOUN_ROUTE, "b", B), 0, "");
    node_close(&node);
}

static void test_a_replica_that_cannot_be_written(void **state)
{
    (void)state;
    struct node node;
    char elsewhere[100];
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    node_expect(&node, node_one(NOUN_ROUTE, "a", A), 0, "");
    snprintf(elsewhere, sizeof elsewhere, "%s.away", node.path);
    assert_int_equal(rename(node.path, elsewhere), 0);
    // Nobody knows before the first one.
    struct store_request *request = node_run(&node, node_one(NOUN_ROUTE, "b", B));
    assert_int_equal(request->err, ERR_UNAVAILABLE);
    assert_int_equal(request->outcome, STORE_WRITTEN);
    store_request_free(&request);
    assert_false(node.is_writable);
    assert_non_null(strstr(node.detail, "the local replica cannot be written"));
    request = node_run(&node, node_one(NOUN_ROUTE, "c", C));
    assert_int_equal(request->err, ERR_UNAVAILABLE);
    assert_int_equal(request->outcome, STORE_NOT_WRITTEN);
    assert_non_null(strstr(node_detail(request, 0), "the local replica cannot be written"));
    store_request_free(&request);
    assert_false(is_written("c"));
    assert_int_equal(rename(elsewhere, node.path), 0);
    node_wait_writable(&node);
    node_expect(&node, node_one(NOUN_ROUTE, "c", C), 0, "");
    node_close(&node);
}

// ---- the end ----

// The last reply asks for a look at the history when nothing follows it any more.
static void test_another_epoch_at_the_end(void **state)
{
    (void)state;
    struct node node;
    void *slot;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    NODE_WAIT(&node, node.fleet->nodes->has_beaten);
    node_expect(&node, node_one(NOUN_ROUTE, "b", B), 0, "");
    say("HSET pm:meta epoch 00000000deadbeef");
    node_submit(&node, node_one(NOUN_ROUTE, "a", A), &slot);
    loop_turn(&node.fleet->loop, 0);
    loop_turn(&node.fleet->loop, 0); // it is sent
    usleep(50000);                   // and its reply waits to be read
    node_stop(&node);
    assert_true(slot != (void *)&node);
    struct store_request *request = slot;
    assert_int_equal(request->err, ERR_UNAVAILABLE);
    store_request_free(&request);
    assert_false(is_written("a"));
    node_close(&node);
}

static void test_all_is_answered_at_the_end(void **state)
{
    (void)state;
    enum { COUNT = 5 };
    void *slots[COUNT];
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    redis_server_signal(&server, SIGSTOP);
    for (unsigned i = 0; i < COUNT; i++) {
        node_submit(&node, node_one(NOUN_ROUTE, "a", A), &slots[i]);
        if (i < COUNT - 1) {
            node_turn(&node); // the last one waits in the mailbox
        }
    }
    node_stop(&node);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_true(slots[i] != (void *)&node);
        struct store_request *request = slots[i];
        assert_int_equal(request->err, ERR_UNAVAILABLE);
        assert_int_equal(request->outcome, i < COUNT - 1 ? STORE_UNKNOWN : STORE_NOT_WRITTEN);
        store_request_free(&request);
    }
    node_close(&node);
}

static void test_what_waits_is_bounded(void **state)
{
    (void)state;
    enum { COUNT = STORE_PENDING_MAX + WRITE_SENT_MAX + 100 };
    static void *slots[COUNT];
    struct node node;
    node_open(&node, &server, false, NULL);
    node_wait_writable(&node);
    redis_server_signal(&server, SIGSTOP);
    for (unsigned i = 0; i < COUNT; i++) {
        node_submit(&node, node_one(NOUN_ROUTE, "a", A), &slots[i]);
    }
    node_turn(&node);
    assert_int_equal(node.fleet->write->sent_count, WRITE_SENT_MAX);
    assert_int_equal(node.fleet->write->line_count, STORE_PENDING_MAX);
    unsigned over = 0;
    unsigned unknown = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        struct store_request *request = wait_for(&node, &slots[i]);
        assert_int_equal(request->err, ERR_UNAVAILABLE);
        over += strstr(node_detail(request, 0), "too many changes") != NULL;
        unknown += request->outcome == STORE_UNKNOWN;
        store_request_free(&request);
    }
    assert_int_equal(over, 100);
    assert_int_equal(unknown, WRITE_SENT_MAX);
    redis_server_signal(&server, SIGCONT);
    NODE_WAIT(&node, node.fleet->write->orphan_count == 0);
    node_wait_writable(&node);
    node_close(&node);
}

int main(void)
{
    hash_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_silence_that_the_connection_outlives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_silence_that_it_does_not_outlive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_idle_node_notices_silence, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reply_that_was_lost_is_found_in_the_stream, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_killed_in_between, setup_lasting, teardown),
        cmocka_unit_test_setup_teardown(test_an_older_session_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_broken_session_is_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_written_but_not_live, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replicas_are_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_server_that_became_a_replica, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_replica_that_cannot_be_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_is_answered_at_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_epoch_at_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_waits_is_bounded, setup, teardown),
    };
    cmocka_set_test_filter(getenv("CASE"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
