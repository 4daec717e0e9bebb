// SPDX-License-Identifier: MIT
// The client of Redis by Sentinels: real ones, with a real failover.
#include "redis_client.h"
#include <unistd.h>

enum { SENTINELS = 3 };

struct group {
    struct redis_server servers[2]; // the first is the primary
    struct redis_server sentinels[SENTINELS];
};

static bool says(const struct redis_server *server, const char *line, const char *expected)
{
    char answer[4096];
    redis_server_say(server, line, answer, sizeof answer);
    return strstr(answer, expected) != NULL;
}

static void wait_for(const struct redis_server *server, const char *line, const char *expected)
{
    uint64_t until_ns = clock_monotonic_ns() + 150 * NS_PER_SEC;
    while (clock_monotonic_ns() < until_ns) {
        if (says(server, line, expected)) {
            return;
        }
        usleep(10000);
    }
    fail_msg("%s never says %s", line, expected);
}

// A Sentinel that finds a failure in 2.5 s: a machine that stands still for less is none.
static void start_sentinel(struct group *g, struct redis_server *sentinel, const char *more)
{
    char text[1024];
    snprintf(text, sizeof text,
             "sentinel monitor first 127.0.0.1 %u 2\n"
             "sentinel down-after-milliseconds first 2500\n"
             "sentinel failover-timeout first 2000\n"
             "%s",
             g->servers[0].port, more);
    redis_server_start_sentinel(sentinel, text);
}

static void group_begin(struct group *g, const char *more)
{
    char port[16];
    redis_server_init(&g->servers[0]);
    static const char *const at_once[] = {"--repl-diskless-sync-delay", "0", NULL};
    redis_server_start(&g->servers[0], at_once);
    snprintf(port, sizeof port, "%u", g->servers[0].port);
    const char *const follows[] = {"--replicaof", "127.0.0.1", port, NULL};
    redis_server_init(&g->servers[1]);
    redis_server_start(&g->servers[1], follows);
    wait_for(&g->servers[1], "INFO replication", "master_link_status:up");
    for (unsigned i = 0; i < SENTINELS; i++) {
        redis_server_init(&g->sentinels[i]);
        start_sentinel(g, &g->sentinels[i], more);
    }
}

// They know each other, and the replica.
static void group_settle(struct group *g)
{
    for (unsigned i = 0; i < SENTINELS; i++) {
        wait_for(&g->sentinels[i], "INFO sentinel", "slaves=1,sentinels=3");
    }
}

static void group_end(struct group *g)
{
    for (unsigned i = 0; i < SENTINELS; i++) {
        redis_server_fini(&g->sentinels[i]);
    }
    redis_server_fini(&g->servers[1]);
    redis_server_fini(&g->servers[0]);
}

static void connect_by(struct client *c, const struct group *g, const char *login,
                       const char *after)
{
    char url[200];
    snprintf(url, sizeof url, "redis+sentinel://%s127.0.0.1:%u,127.0.0.1:%u,localhost:%u/%s", login,
             g->sentinels[0].port, g->sentinels[1].port, g->sentinels[2].port, after);
    client_begin(c, url);
}

static bool is_at(const struct client *c, const struct redis_server *server)
{
    char peer[32];
    snprintf(peer, sizeof peer, "127.0.0.1:%u", server->port);
    return c->is_ready && strcmp(redis_peer(c->redis), peer) == 0;
}

// The primary is killed: the Sentinels choose the replica.
static void test_primary_killed(void **state)
{
    (void)state;
    struct group g;
    struct client c;
    group_begin(&g, "");
    group_settle(&g);
    connect_by(&c, &g, "", "first");
    WAIT(&c, is_at(&c, &g.servers[0]));
    client_ask(&c, "SET key value");
    redis_server_kill(&g.servers[0]);
    WAIT(&c, !c.is_ready);
    wait_for(&g.servers[1], "ROLE", "master");
    WAIT_MS(&c, 10000, is_at(&c, &g.servers[1]));
    client_ask(&c, "GET key");
    assert_string_equal(c.text, "value");
    client_end(&c);
    group_end(&g);
}

// A failover that the old primary survives: it answers all the time, as a replica in the end.
static void test_switched(void **state)
{
    (void)state;
    struct group g;
    struct client c;
    group_begin(&g, "");
    group_settle(&g);
    connect_by(&c, &g, "", "first");
    WAIT(&c, is_at(&c, &g.servers[0]));
    // The Sentinel that is listened to is another one, since the first is gone.
    redis_server_kill(&g.sentinels[0]);
    uint64_t until_ms = c.loop.now_ms + 2500;
    WAIT(&c, c.loop.now_ms > until_ms);
    assert_true(c.is_ready);
    assert_int_equal(c.lost_count, 0);
    redis_server_signal(&g.servers[0], SIGSTOP);
    WAIT(&c, is_at(&c, &g.servers[1]));
    redis_server_signal(&g.servers[0], SIGCONT);
    client_ask(&c, "SET key value");
    assert_string_equal(c.text, "OK");
    client_end(&c);
    group_end(&g);
}

static void test_not_known(void **state)
{
    (void)state;
    struct group g;
    struct client c;
    group_begin(&g, "");
    connect_by(&c, &g, "", "second");
    WAIT(&c, c.lost_count > 0);
    assert_non_null(strstr(c.detail, "it does not know a primary of that name"));
    assert_memory_equal(c.detail, "Sentinel ", 9);
    client_end(&c);
    // One that names a replica.
    char line[128];
    snprintf(line, sizeof line, "REPLICAOF 127.0.0.1 %u", g.servers[1].port);
    for (unsigned i = 0; i < SENTINELS; i++) {
        redis_server_signal(&g.sentinels[i], SIGSTOP);
    }
    connect_by(&c, &g, "", "first");
    WAIT_MS(&c, 4000, c.lost_count > 0); // all three in turn
    assert_non_null(strstr(c.detail, ": timeout"));
    assert_true(says(&g.servers[1], "REPLICAOF NO ONE", "OK"));
    assert_true(says(&g.servers[0], line, "OK"));
    for (unsigned i = 0; i < SENTINELS; i++) {
        redis_server_signal(&g.sentinels[i], SIGCONT);
    }
    WAIT(&c, strstr(c.detail, "is not a primary, though a Sentinel says so") != NULL);
    client_end(&c);
    group_end(&g);
}

static void test_login(void **state)
{
    (void)state;
    struct group g;
    struct client c;
    group_begin(&g, "requirepass hush\n");
    connect_by(&c, &g, "", "first");
    WAIT(&c, c.lost_count > 0);
    assert_non_null(strstr(c.detail, "NOAUTH"));
    client_end(&c);
    connect_by(&c, &g, "", "first?sentinel_password=hush");
    WAIT(&c, is_at(&c, &g.servers[0]));
    assert_int_equal(c.lost_count, 0);
    client_end(&c);
    connect_by(&c, &g, ":wrong@", "first/1?sentinel_password=hush");
    WAIT(&c, c.lost_count > 0);
    assert_memory_equal(c.detail, "ERR AUTH", 8); // the server has no password
    client_end(&c);
    group_end(&g);
}

static void test_nobody(void **state)
{
    (void)state;
    struct client c;
    struct group g;
    for (unsigned i = 0; i < SENTINELS; i++) {
        g.sentinels[i].port = redis_server_free_port();
    }
    connect_by(&c, &g, "", "first");
    WAIT(&c, c.lost_count > 0);
    assert_non_null(strstr(c.detail, "connect: refused"));
    uint64_t until_ms = c.loop.now_ms + 500;
    WAIT(&c, c.loop.now_ms > until_ms);
    assert_int_equal(c.lost_count, 1);
    client_end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_primary_killed), cmocka_unit_test(test_switched),
        cmocka_unit_test(test_not_known),      cmocka_unit_test(test_login),
        cmocka_unit_test(test_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
