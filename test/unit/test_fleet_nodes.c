// SPDX-License-Identifier: MIT
// Heartbeats, the list of nodes, and waiting for all of them, on a redis-server of the test's own.
#include "follow_check.h"
#include "fleet/nodes_int.h"

struct told {
    struct buf text; // "node-1 joined, "
};
static struct told told[CHECK_NODES];

static void on_event(void *context, const struct fleet_event *event)
{
    const struct check_node *node = context;
    struct told *to = &told[node->name[5] - '0'];
    if (strcmp(event->type, "node") == 0) {
        buf_printf(&to->text, "%s %s, ", event->node, event->state);
    }
}

static int setup(void **state)
{
    struct check *c = calloc(1, sizeof *c);
    check_init(c);
    for (unsigned i = 0; i < CHECK_NODES; i++) {
        buf_init(&told[i].text, 0);
    }
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    check_fini(*state);
    for (unsigned i = 0; i < CHECK_NODES; i++) {
        buf_fini(&told[i].text);
    }
    free(*state);
    return 0;
}

static bool was_told(unsigned i, const char *text)
{
    return told[i].text.len > 0 && str_find(buf_str(&told[i].text), str_from_c(text)) != SIZE_MAX;
}

static void open_node(struct check *c, unsigned i)
{
    check_open(c, i);
    c->nodes[i].fleet->config.on_event = on_event; // read by this thread alone
}

// The node of this name as node `i` lists it; false: it is not there.
static bool find(struct check *c, unsigned i, const char *name, struct fleet_node *out)
{
    struct fleet_node *nodes = NULL;
    unsigned count = fleet_list_nodes(c->nodes[i].fleet, &nodes);
    bool is_found = false;
    assert_non_null(nodes);
    for (unsigned at = 0; at < count; at++) {
        if (at > 0) {
            assert_true(strcmp(nodes[at - 1].name, nodes[at].name) <= 0);
        }
        if (strcmp(nodes[at].name, name) == 0) {
            *out = nodes[at];
            is_found = true;
        }
    }
    free(nodes);
    return is_found;
}

static bool is_live(struct check *c, unsigned i, const char *name)
{
    struct fleet_node node;
    return find(c, i, name, &node) && node.is_live;
}

static uint64_t redis_now(struct check *c)
{
    const struct redis_reply *reply = check_say(c, "TIME");
    int64_t seconds = 0;
    int64_t micros = 0;
    assert_true(redis_reply_number(redis_reply_item(reply, 0), &seconds));
    assert_true(redis_reply_number(redis_reply_item(reply, 1), &micros));
    return (uint64_t)seconds * 1000 + (uint64_t)micros / 1000;
}

// An entry of a node that is not there.
static void put_ghost(struct check *c, const char *id, uint64_t seen, const char *epoch,
                      uint64_t revision)
{
    char line[400];
    snprintf(
        line, sizeof line,
        "HSET t:nodes %s {\"seen\":%llu,\"name\":\"ghost-%s\",\"version\":\"1\",\"boot\":\"b\","
        "\"epoch\":\"%s\",\"revision\":%llu}",
        id, (unsigned long long)seen, id, epoch, (unsigned long long)revision);
    (void)check_say(c, line);
}

static void test_list(void **state)
{
    struct check *c = *state;
    for (unsigned i = 0; i < CHECK_NODES; i++) {
        open_node(c, i);
    }
    CHECK_WAIT(c, is_live(c, 0, "node-0") && is_live(c, 0, "node-1") && is_live(c, 0, "node-2"));
    check_route(c, "a.example", "201");
    struct fleet_node node = {.revision = 0};
    CHECK_WAIT(c, find(c, 0, "node-2", &node) && node.revision == 1);
    assert_false(node.is_self);
    assert_string_equal(node.version, "1");
    assert_string_equal(node.address, "127.0.0.1:1");
    assert_int_equal(node.workers, 1);
    assert_true(node.seen_ms > 0 && node.age_ms <= FLEET_LIVE_MS);
    assert_string_equal(node.epoch, check_status(c, 0).epoch);
    assert_true(find(c, 0, "node-0", &node) && node.is_self);
    const struct fleet_status status = check_status(c, 0);
    assert_int_equal(status.nodes, 3);
    assert_int_equal(status.nodes_live, 3);
    assert_int_equal(status.redis_revision, 1);
    assert_true(status.beat_age_ms < 5000);
}

static void test_joined_and_left(void **state)
{
    struct check *c = *state;
    open_node(c, 0);
    CHECK_WAIT(c, is_live(c, 0, "node-0") && check_status(c, 0).nodes == 1);
    open_node(c, 1);
    CHECK_WAIT(c, was_told(0, "node-1 joined, "));
    check_sleep(c, FLEET_LIVE_MS + 200); // else a list that was lost would look the same
    check_close(c, 1);                   // takes its entry away
    assert_int_equal(check_say(c, "HLEN t:nodes")->integer, 1);
    CHECK_WAIT(c, was_told(0, "node-1 left, "));
    assert_int_equal(check_status(c, 0).nodes, 1);
    assert_false(was_told(0, "node-0"));
}

static void test_ghosts(void **state)
{
    struct check *c = *state;
    open_node(c, 0);
    CHECK_WAIT(c, check_status(c, 0).nodes_live == 1);
    uint64_t now = redis_now(c);
    (void)check_say(c, "HSET t:nodes bad no-json");
    (void)check_say(c, "HSET t:nodes worse [1]");
    put_ghost(c, "aa", now, "0123456789abcdef", 77);
    put_ghost(c, "bb", now + 3600000, "0123456789abcdef", 5); // of a server whose clock was ahead
    put_ghost(c, "cc", 1, "0123456789abcdef", 5);             // silent for decades
    CHECK_WAIT(c, is_live(c, 0, "ghost-aa") && is_live(c, 0, "ghost-bb"));
    CHECK_WAIT(c, check_say(c, "HEXISTS t:nodes cc")->integer == 0);
    struct fleet_node node = {.seen_ms = 0};
    CHECK_WAIT(c, find(c, 0, "ghost-bb", &node) && node.seen_ms <= redis_now(c));
    struct fleet *fleet = c->nodes[0].fleet;
    (void)fleet_status_lock(fleet);
    assert_int_equal(fleet->nodes->highest, 77);
    fleet_status_unlock(fleet);
    CHECK_WAIT(c, was_told(0, "ghost-aa left, ") && was_told(0, "ghost-bb left, "));
    assert_true(redis_now(c) - now >= FLEET_LIVE_MS);
    assert_true(find(c, 0, "ghost-aa", &node) && !node.is_live); // not forgotten yet
    assert_int_equal(check_status(c, 0).nodes_live, 1);
}

static void test_twice(void **state)
{
    struct check *c = *state;
    open_node(c, 0);
    CHECK_WAIT(c, check_status(c, 0).nodes_live == 1);
    char id[17];
    str_copy(id, sizeof id, fleet_node_id(c->nodes[0].fleet));
    put_ghost(c, id, redis_now(c), "0123456789abcdef", 0);
    CHECK_WAIT(c, was_told(0, "node-0 twice, "));
    CHECK_WAIT(c, is_live(c, 0, "node-0"));
}

// The hash is gone, or Redis was away: nobody has left because of that.
static void test_lost_list(void **state)
{
    struct check *c = *state;
    open_node(c, 0);
    open_node(c, 1);
    CHECK_WAIT(c, is_live(c, 0, "node-1") && is_live(c, 1, "node-0"));
    (void)check_say(c, "DEL t:nodes");
    CHECK_WAIT(c, check_say(c, "HLEN t:nodes")->integer == 2);
    redis_server_signal(&c->server, SIGSTOP);
    check_sleep(c, 6000);
    assert_false(is_live(c, 0, "node-1")); // nothing is known of it for too long
    assert_true(is_live(c, 0, "node-0"));
    assert_true(check_status(c, 0).beat_age_ms > 5000);
    redis_server_signal(&c->server, SIGCONT);
    CHECK_WAIT(c, is_live(c, 0, "node-1") && is_live(c, 1, "node-0"));
    assert_false(was_told(0, "left") || was_told(1, "left"));
}

// Nothing can be written: the place in Redis and the list are read all the same.
static void test_full(void **state)
{
    struct check *c = *state;
    open_node(c, 0);
    open_node(c, 1);
    CHECK_WAIT(c, is_live(c, 0, "node-1") && is_live(c, 1, "node-0"));
    (void)check_say(c, "CONFIG SET maxmemory 1");
    check_sleep(c, FLEET_LIVE_MS + 1000);
    assert_true(check_status(c, 0).beat_age_ms < FLEET_LIVE_MS);
    assert_true(is_live(c, 0, "node-1"));
    assert_false(was_told(0, "left"));
    (void)check_say(c, "CONFIG SET maxmemory 0");
    struct fleet_node node = {.age_ms = 0};
    CHECK_WAIT(c, find(c, 0, "node-1", &node) && node.age_ms < 1000);
}

// ---- waiting ----

struct waiter {
    unsigned calls;
    char lagging[1024];
    uint64_t begun_ns, took_ms;
    struct fleet_wait *wait;
};

static void on_waited(void *context, const char *lagging)
{
    struct waiter *waiter = context;
    waiter->calls++;
    waiter->wait = NULL;
    waiter->took_ms = (clock_monotonic_ns() - waiter->begun_ns) / NS_PER_MS;
    str_copy(waiter->lagging, sizeof waiter->lagging, str_from_c(lagging));
}

static void begin(struct check *c, struct waiter *waiter, uint64_t revision, uint64_t timeout_ms)
{
    *waiter = (struct waiter){.begun_ns = clock_monotonic_ns()};
    assert_int_equal(
        fleet_wait(c->nodes[0].fleet, revision, timeout_ms, on_waited, waiter, &waiter->wait), 0);
}

static void open_two(struct check *c)
{
    open_node(c, 0);
    open_node(c, 1);
    CHECK_WAIT(c, is_live(c, 0, "node-1"));
    check_route(c, "a.example", "201");
    CHECK_WAIT(c, check_is_converged(c));
}

static void test_wait(void **state)
{
    struct check *c = *state;
    struct waiter waiter;
    open_two(c);
    begin(c, &waiter, 1, 30000);
    CHECK_WAIT(c, waiter.calls == 1);
    assert_string_equal(waiter.lagging, "");
    begin(c, &waiter, 2, 30000); // it comes later
    check_sleep(c, 100);
    assert_int_equal(waiter.calls, 0);
    check_route(c, "a.example", "202");
    CHECK_WAIT(c, waiter.calls == 1);
    assert_string_equal(waiter.lagging, "");
    begin(c, &waiter, 3, 200); // it never does
    CHECK_WAIT(c, waiter.calls == 1);
    assert_string_equal(waiter.lagging, "node-0, node-1");
    assert_true(waiter.took_ms >= 200);
}

static void test_wait_for_one_that_lags(void **state)
{
    struct check *c = *state;
    struct waiter waiter;
    open_two(c);
    put_ghost(c, "aa", redis_now(c), check_status(c, 0).epoch, 0);
    put_ghost(c, "bb", redis_now(c), "0123456789abcdef", 99); // another history
    begin(c, &waiter, 1, 500);
    CHECK_WAIT(c, waiter.calls == 1);
    assert_string_equal(waiter.lagging, "ghost-aa, ghost-bb");
    put_ghost(c, "bb", redis_now(c), check_status(c, 0).epoch, 1);
    begin(c, &waiter, 1, 30000);
    CHECK_WAIT(c, waiter.calls == 1); // it is dead meanwhile
    assert_string_equal(waiter.lagging, "");
    assert_true(waiter.took_ms < FLEET_LIVE_MS + 2000);
}

static void test_wait_without_redis(void **state)
{
    struct check *c = *state;
    struct waiter waiter;
    open_two(c);
    begin(c, &waiter, 1, 30000); // both have said that they serve it
    CHECK_WAIT(c, waiter.calls == 1);
    redis_server_signal(&c->server, SIGSTOP);
    struct waiter waiters[12]; // that end before, when and after the connection is dropped
    for (unsigned i = 0; i < 12; i++) {
        begin(c, &waiters[i], 1, 1600 + 100 * i);
    }
    for (unsigned i = 0; i < 12; i++) {
        CHECK_WAIT(c, waiters[i].calls == 1);
        assert_string_equal(waiters[i].lagging, "node-1"); // what it has said is too old
        assert_true(waiters[i].took_ms >= 1600 + 100 * i);
    }
    begin(c, &waiter, 1, 60000);
    check_sleep(c, 3500); // the connection is dropped meanwhile
    assert_int_equal(waiter.calls, 0);
    redis_server_signal(&c->server, SIGCONT); // back before the time is up
    CHECK_WAIT(c, waiter.calls == 1);
    assert_string_equal(waiter.lagging, "");
}

static void test_wait_given_up(void **state)
{
    struct check *c = *state;
    struct waiter waiter;
    struct waiter other;
    open_two(c);
    begin(c, &waiter, 100, 3600000);
    fleet_wait_end(&waiter.wait);
    check_sleep(c, 100);
    begin(c, &other, 100, 3600000);
    check_sleep(c, 50);
    check_close(c, 0); // whoever waits is told
    assert_int_equal(other.calls, 1);
    assert_string_equal(other.lagging, "node-0, node-1");
    assert_int_equal(waiter.calls, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_list),
        TEST(test_joined_and_left),
        TEST(test_ghosts),
        TEST(test_twice),
        TEST(test_lost_list),
        TEST(test_full),
        TEST(test_wait),
        TEST(test_wait_for_one_that_lags),
        TEST(test_wait_without_redis),
        TEST(test_wait_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
