// SPDX-License-Identifier: MIT
// The client of Redis with real servers.
#include "redis_client.h"
#include <stdlib.h>
#include <unistd.h>

static void connect_to(struct client *c, const struct redis_server *server)
{
    char url[128];
    snprintf(url, sizeof url, "redis://127.0.0.1:%u", server->port);
    client_begin(c, url);
    WAIT(c, c->is_ready);
}

static void test_replies(void **state)
{
    (void)state;
    struct redis_server server;
    struct client c;
    redis_server_init(&server);
    redis_server_start(&server, NULL);
    connect_to(&c, &server);
    char peer[64];
    snprintf(peer, sizeof peer, "127.0.0.1:%u", server.port);
    assert_string_equal(redis_peer(c.redis), peer);
    client_ask(&c, "SET key value");
    assert_int_equal(c.type, REDIS_STATUS);
    assert_string_equal(c.text, "OK");
    client_ask(&c, "GET key");
    assert_int_equal(c.type, REDIS_STRING);
    assert_string_equal(c.text, "value");
    client_ask(&c, "GET missing");
    assert_int_equal(c.type, REDIS_NIL);
    client_ask(&c, "STRLEN key");
    assert_int_equal(c.type, REDIS_INTEGER);
    assert_int_equal(c.number, 5);
    client_ask(&c, "LPUSH key x");
    assert_int_equal(c.type, REDIS_ERROR);
    assert_string_equal(c.text,
                        "WRONGTYPE Operation against a key holding the wrong kind of value");
    client_ask(&c, "CLIENT GETNAME");
    assert_string_equal(c.text, "test");
    assert_int_equal(redis_pending(c.redis), 0);
    assert_int_equal(redis_silent_ms(c.redis), 0);
    client_end(&c);
    redis_server_fini(&server);
}

static void on_nested(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct client *c = context;
    int64_t number = 0;
    const struct redis_reply *inner = redis_reply_item(reply, 1);
    assert_int_equal(reply->type, REDIS_ARRAY);
    assert_int_equal(reply->count, 4);
    assert_string_equal(redis_reply_item(reply, 0)->text.p, "a");
    assert_int_equal(inner->count, 3);
    assert_true(redis_reply_number(redis_reply_item(inner, 0), &number));
    assert_int_equal(number, 7);
    assert_int_equal(redis_reply_item(inner, 1)->type, REDIS_NIL);
    assert_int_equal(redis_reply_item(inner, 2)->count, 0);
    assert_true(redis_reply_is_error(redis_reply_item(reply, 2), "BAD"));
    assert_false(redis_reply_is_error(redis_reply_item(reply, 2), "BA"));
    assert_true(redis_reply_number(redis_reply_item(reply, 3), &number));
    assert_int_equal(number, -12);
    assert_int_equal(redis_reply_item(reply, 4)->type, REDIS_NIL);
    assert_false(redis_reply_number(redis_reply_item(reply, 4), &number));
    c->reply_count++;
}

static void test_nested(void **state)
{
    (void)state;
    struct redis_server server;
    struct client c;
    redis_server_init(&server);
    redis_server_start(&server, NULL);
    connect_to(&c, &server);
    const struct str eval[] = {
        STR("EVAL"), STR("return {'a', {7, false, {}}, {err = 'BAD thing'}, '-12'}"), STR("0")};
    assert_true(redis_command(c.redis, 3, eval, on_nested, &c));
    WAIT(&c, c.reply_count == 1);
    client_end(&c);
    redis_server_fini(&server);
}

static void test_pipeline(void **state)
{
    (void)state;
    struct redis_server server;
    struct client c;
    redis_server_init(&server);
    redis_server_start(&server, NULL);
    char url[160];
    snprintf(url, sizeof url, "unix://%s?db=3", server.socket);
    client_begin(&c, url);
    WAIT(&c, c.is_ready);
    for (unsigned i = 0; i < 10000; i++) {
        assert_true(client_put(&c, "INCR counter"));
    }
    assert_int_equal(redis_pending(c.redis), 10000);
    WAIT(&c, c.reply_count == 10000);
    assert_int_equal(c.number, 10000);
    client_ask(&c, "CLIENT INFO");
    assert_non_null(strstr(c.text, " db=3 "));
    // Larger than any buffer, both ways.
    static char large[3000000];
    memset(large, 'x', sizeof large);
    const struct str set[] = {STR("SET"), STR("large"), str_make(large, sizeof large)};
    assert_true(redis_command(c.redis, 3, set, client_on_reply, &c));
    client_ask(&c, "STRLEN large");
    WAIT(&c, redis_pending(c.redis) == 0);
    assert_int_equal(c.number, sizeof large);
    client_ask(&c, "GET large");
    assert_int_equal(c.type, REDIS_STRING);
    assert_memory_equal(c.text, large, sizeof c.text - 1);
    client_end(&c);
    redis_server_fini(&server);
}

// ---- who it is, and where ----

static void begin_at(struct client *c, const struct redis_server *server, const char *format)
{
    char url[160];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(url, sizeof url, format, server->port);
#pragma GCC diagnostic pop
    client_begin(c, url);
}

static void test_login(void **state)
{
    (void)state;
    static const char *const arguments[] = {
        "--requirepass", "s3cret", "--user", "me", "on", ">pa/ss", "~*", "&*",
        "+@all",         "-ping",  NULL};
    struct redis_server server;
    struct client c;
    redis_server_init(&server);
    redis_server_start(&server, arguments);
    begin_at(&c, &server, "redis://:s3cret@localhost:%u/2"); // a name, of which ::1 is refused
    WAIT(&c, c.is_ready);
    assert_int_equal(c.lost_count, 0);
    client_ask(&c, "CLIENT INFO");
    assert_non_null(strstr(c.text, " db=2 "));
    client_end(&c);
    begin_at(&c, &server, "redis://me:pa%%2Fss@127.0.0.1:%u"); // may not PING
    WAIT(&c, c.is_ready);
    client_ask(&c, "ACL WHOAMI");
    assert_string_equal(c.text, "me");
    client_end(&c);
    static const char *const wrong[][2] = {
        {"redis://:secret@127.0.0.1:%u",
         "WRONGPASS invalid username-password pair or user is disabled."},
        {"redis://me:secret@127.0.0.1:%u",
         "WRONGPASS invalid username-password pair or user is disabled."},
        {"redis://127.0.0.1:%u", "NOAUTH Authentication required."},
        {"redis://:s3cret@127.0.0.1:%u/99", "ERR DB index is out of range"},
    };
    for (unsigned i = 0; i < 4; i++) {
        begin_at(&c, &server, wrong[i][0]);
        WAIT(&c, c.lost_count > 0);
        assert_string_equal(c.detail, wrong[i][1]);
        uint64_t until_ms = c.loop.now_ms + 200;
        WAIT(&c, c.loop.now_ms > until_ms);
        assert_int_equal(c.lost_count, 1); // told once, of all its attempts
        assert_false(redis_is_ready(c.redis));
        assert_false(client_put(&c, "GET x"));
        client_end(&c);
    }
    redis_server_fini(&server);
}

// A server without AUTH repeats what it was given.
static void test_password_is_not_repeated(void **state)
{
    (void)state;
    static const char *const arguments[] = {"--rename-command", "AUTH", "LOGIN", NULL};
    struct redis_server server;
    struct client c;
    redis_server_init(&server);
    redis_server_start(&server, arguments);
    begin_at(&c, &server, "redis://me:s3cret@127.0.0.1:%u");
    WAIT(&c, c.lost_count > 0);
    assert_string_equal(c.detail, "ERR unknown command 'AUTH'");
    client_end(&c);
    redis_server_fini(&server);
}

static void test_nobody_there(void **state)
{
    (void)state;
    struct redis_server server;
    struct client c;
    redis_server_init(&server);
    begin_at(&c, &server, "redis://127.0.0.1:%u");
    WAIT(&c, c.lost_count > 0);
    assert_string_equal(c.detail, "connect: refused");
    redis_server_start(&server, NULL);
    WAIT_MS(&c, 5000, c.is_ready);
    assert_int_equal(c.lost_count, 1);
    client_end(&c);
    client_begin(&c, "unix:///tmp/pointsman-there-is-none.sock");
    WAIT(&c, c.lost_count > 0);
    assert_string_equal(c.detail, "connect: no such socket");
    client_end(&c);
    client_begin(&c, "redis://no-such-host.invalid");
    WAIT(&c, c.lost_count > 0);
    assert_memory_equal(c.detail, "name no-such-host.invalid: ", 27);
    client_end(&c);
    redis_server_fini(&server);
}

// A replica may be read from; what it says to a write is the caller's.
static void test_replica(void **state)
{
    (void)state;
    struct redis_server servers[2];
    struct client c;
    char port[16];
    redis_server_init(&servers[0]);
    redis_server_init(&servers[1]);
    redis_server_start(&servers[0], NULL);
    snprintf(port, sizeof port, "%u", servers[0].port);
    const char *const follows[] = {"--replicaof", "127.0.0.1", port, NULL};
    redis_server_start(&servers[1], follows);
    connect_to(&c, &servers[1]);
    client_ask(&c, "GET x");
    assert_int_equal(c.type, REDIS_NIL);
    client_ask(&c, "SET x y");
    assert_int_equal(c.type, REDIS_ERROR);
    assert_memory_equal(c.text, "READONLY ", 9);
    assert_true(c.is_ready);
    client_end(&c);
    redis_server_fini(&servers[1]);
    redis_server_fini(&servers[0]);
}

// ---- lost and made again ----

static void test_killed(void **state)
{
    (void)state;
    struct redis_server server;
    struct client c;
    redis_server_init(&server);
    redis_server_start(&server, NULL);
    connect_to(&c, &server);
    redis_server_signal(&server, SIGSTOP);
    for (unsigned i = 0; i < 100; i++) {
        assert_true(client_put(&c, "INCR counter"));
    }
    WAIT(&c, redis_silent_ms(c.redis) >= 300);
    assert_int_equal(c.reply_count, 0);
    redis_server_kill(&server);
    WAIT(&c, c.lost_count == 1);
    assert_int_equal(c.nil_count, 100);
    assert_int_equal(redis_silent_ms(c.redis), 0);
    redis_server_start(&server, NULL);
    WAIT_MS(&c, 5000, c.is_ready);
    client_ask(&c, "GET counter");
    assert_int_equal(c.type, REDIS_NIL);
    client_end(&c);
    redis_server_fini(&server);
}

static void test_paused(void **state)
{
    (void)state;
    struct redis_server server;
    struct client c;
    redis_server_init(&server);
    redis_server_start(&server, NULL);
    redis_server_signal(&server, SIGSTOP);
    begin_at(&c, &server, "redis://127.0.0.1:%u");
    WAIT(&c, c.lost_count > 0); // the kernel accepts, nobody answers
    assert_string_equal(c.detail, "connected, but no answer in 1000 ms");
    redis_server_signal(&server, SIGCONT);
    WAIT_MS(&c, 5000, c.is_ready);
    client_end(&c);
    redis_server_fini(&server);
}

static void on_reply_drop(void *context, struct redis *redis, const struct redis_reply *reply)
{
    struct client *c = context;
    c->reply_count++;
    c->nil_count += reply == NULL;
    if (reply != NULL) {
        assert_string_equal(reply->text.p, "value");
        redis_drop(redis, "enough of it");
        assert_string_equal(reply->text.p, "value"); // it is the callback's still
        assert_false(client_put(c, "GET key"));
    } else {
        redis_drop(redis, "not twice");
    }
}

static void test_drop(void **state)
{
    (void)state;
    struct redis_server server;
    struct client c;
    redis_server_init(&server);
    redis_server_start(&server, NULL);
    connect_to(&c, &server);
    client_ask(&c, "SET key value");
    const struct str get[] = {STR("GET"), STR("key")};
    c.reply_count = 0;
    for (unsigned i = 0; i < 50; i++) {
        assert_true(redis_command(c.redis, 2, get, on_reply_drop, &c));
    }
    WAIT(&c, c.lost_count == 1);
    assert_string_equal(c.detail, "enough of it");
    assert_int_equal(c.reply_count, 50);
    assert_int_equal(c.nil_count, 49);
    WAIT_MS(&c, 5000, c.is_ready);
    redis_drop(c.redis, "from outside");
    assert_int_equal(c.lost_count, 2);
    WAIT_MS(&c, 5000, c.is_ready);
    client_ask(&c, "GET key");
    assert_string_equal(c.text, "value");
    // With commands on their way, it is freed without a callback.
    unsigned before = c.reply_count;
    assert_true(client_put(&c, "GET key"));
    client_end(&c);
    assert_int_equal(c.reply_count, before);
    redis_server_fini(&server);
}

static void on_reply_ask(void *context, struct redis *redis, const struct redis_reply *reply)
{
    struct client *c = context;
    const struct str incr[] = {STR("INCR"), STR("counter")};
    assert_int_equal(reply->integer, ++c->number);
    if (c->number < 1000) {
        assert_true(redis_command(redis, 2, incr, on_reply_ask, c));
    }
}

static void test_asks_in_callback(void **state)
{
    (void)state;
    struct redis_server server;
    struct client c;
    redis_server_init(&server);
    redis_server_start(&server, NULL);
    connect_to(&c, &server);
    const struct str incr[] = {STR("INCR"), STR("counter")};
    c.number = 0;
    assert_true(redis_command(c.redis, 2, incr, on_reply_ask, &c));
    WAIT(&c, c.number == 1000);
    client_end(&c);
    redis_server_fini(&server);
}

static void test_bounds(void **state)
{
    (void)state;
    struct redis_server server;
    struct client c;
    redis_server_init(&server);
    redis_server_start(&server, NULL);
    connect_to(&c, &server);
    redis_server_signal(&server, SIGSTOP);
    for (unsigned i = 0; i < REDIS_PENDING_MAX; i++) {
        assert_true(client_put(&c, "GET x"));
    }
    assert_false(client_put(&c, "GET x"));
    redis_server_signal(&server, SIGCONT);
    WAIT(&c, c.reply_count == REDIS_PENDING_MAX);
    redis_server_signal(&server, SIGSTOP);
    size_t len = 20 << 20;
    char *large = calloc(1, len);
    const struct str set[] = {STR("SET"), STR("large"), str_make(large, len)};
    unsigned taken = 0;
    while (taken < 10 && redis_command(c.redis, 3, set, client_on_reply, &c)) {
        taken++;
    }
    assert_in_range(taken, 3, 4); // 64 MiB, and what the kernel took
    free(large);
    redis_server_signal(&server, SIGCONT);
    WAIT(&c, c.reply_count == REDIS_PENDING_MAX + taken);
    assert_string_equal(c.text, "OK");
    assert_int_equal(c.nil_count, 0);
    assert_false(redis_command(c.redis, 0, set, NULL, NULL));
    client_end(&c);
    redis_server_fini(&server);
}

// ---- messages ----

static void test_subscribe(void **state)
{
    (void)state;
    struct redis_server server;
    struct client c;
    char answer[64];
    redis_server_init(&server);
    redis_server_start(&server, NULL);
    connect_to(&c, &server);
    // What was asked before gets its reply, though it looks like a message.
    client_ask(&c, "RPUSH list message a b");
    const struct str range[] = {STR("LRANGE"), STR("list"), STR("0"), STR("-1")};
    const struct str subscribe[] = {STR("subscribe"), STR("a"), STR("b")};
    const struct str ping = STR("PING");
    unsigned before = c.reply_count;
    assert_true(redis_command(c.redis, 4, range, client_on_reply, &c));
    assert_true(redis_command(c.redis, 3, subscribe, NULL, NULL));
    WAIT(&c, c.message_count == 2);
    assert_int_equal(c.reply_count, before + 1);
    assert_int_equal(c.type, REDIS_ARRAY);
    assert_string_equal(c.message, "subscribe b #");
    redis_server_say(&server, "PUBLISH b hello", answer, sizeof answer);
    assert_string_equal(answer, ":1\r\n");
    WAIT(&c, c.message_count == 3);
    assert_string_equal(c.message, "message b hello");
    assert_true(redis_command(c.redis, 1, &ping, client_on_reply, &c));
    WAIT(&c, c.reply_count == before + 2);
    assert_int_equal(redis_pending(c.redis), 0);
    client_end(&c);
    redis_server_fini(&server);
}

static void test_may_not_subscribe(void **state)
{
    (void)state;
    static const char *const arguments[] = {"--user", "me", "on", ">x", "~*", "+@all", NULL};
    struct redis_server server;
    struct client c;
    redis_server_init(&server);
    redis_server_start(&server, arguments);
    begin_at(&c, &server, "redis://me:x@127.0.0.1:%u");
    WAIT(&c, c.is_ready);
    const struct str subscribe[] = {STR("SUBSCRIBE"), STR("a"), STR("b")};
    assert_true(redis_command(c.redis, 3, subscribe, NULL, NULL));
    WAIT(&c, c.message_count == 1);
    assert_memory_equal(c.message, "NOPERM ", 7);
    client_ask(&c, "PING");
    assert_string_equal(c.text, "PONG");
    client_end(&c);
    redis_server_fini(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_pipeline),
        cmocka_unit_test(test_login),
        cmocka_unit_test(test_password_is_not_repeated),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_replica),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_paused),
        cmocka_unit_test(test_drop),
        cmocka_unit_test(test_asks_in_callback),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_subscribe),
        cmocka_unit_test(test_may_not_subscribe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
