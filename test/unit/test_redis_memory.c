// SPDX-License-Identifier: MIT
// The client of Redis when memory is out: each allocation fails once, one run after another. Whatever is
// lost by it is made again, and nothing leaks.
#include "redis_client.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static unsigned left; // allocations until one fails; 0: none does

static bool fails(void)
{
    return left > 0 && --left == 0;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

// Large both ways, and many at once.
static void use(struct client *c)
{
    static char large[40000];
    const struct str set[] = {STR("SET"), STR("large"), str_make(large, sizeof large)};
    const struct str get[] = {STR("MGET"), STR("large"), STR("large")};
    unsigned put = redis_command(c->redis, 3, set, client_on_reply, c);
    for (unsigned i = 0; i < 150; i++) {
        put += client_put(c, "INCR counter");
    }
    put += redis_command(c->redis, 2, get, client_on_reply, c);
    WAIT(c, c->reply_count == put); // each that was taken is answered, if by NULL
}

static void run_all(const char *url)
{
    unsigned made = 0;
    for (unsigned at = 1; at < 2000; at++) {
        struct client c;
        left = 0;
        client_init(&c, url, NULL);
        redis_free(&c.redis);
        left = at;
        struct problems problems;
        problems_init(&problems);
        int err = redis_new(&c.redis, &c.config, &problems);
        if (err == 0) {
            redis_start(c.redis);
            WAIT(&c, c.is_ready);
            use(&c);
            made++;
        } else {
            assert_int_equal(err, ERR_MEMORY);
        }
        bool is_over = left > 0; // none has failed
        left = 0;
        if (err == 0) {
            WAIT(&c, c.is_ready);
            client_ask(&c, "PING");
            assert_string_equal(c.text, "PONG");
        }
        problems_fini(&problems);
        client_end(&c);
        if (is_over) {
            assert_int_not_equal(made, 0);
            return;
        }
    }
    fail_msg("there is always another allocation");
}

static void test_each_allocation(void **state)
{
    (void)state;
    struct redis_server server;
    char url[160];
    redis_server_init(&server);
    redis_server_start(&server, NULL);
    snprintf(url, sizeof url, "unix://%s", server.socket);
    run_all(url);
    snprintf(url, sizeof url, "redis://localhost:%u", server.port);
    run_all(url);
    redis_server_fini(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
