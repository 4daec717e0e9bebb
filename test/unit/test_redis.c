// SPDX-License-Identifier: MIT
// The client of Redis with real servers.
#include "redis_client.h"
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
    assert_int_equal(redis_waiting_ms(c.redis), 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_pipeline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
