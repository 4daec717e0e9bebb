// SPDX-License-Identifier: MIT
// The client of Redis over TLS, and the waiting client.
#include "net/tls_files.h"
#include "redis_client.h"
#include "support/test_certs.h"

struct secure {
    struct redis_server server;
    struct test_cert *ca;
    struct test_cert *stranger;
    struct test_cert *leaf;
    uint16_t port;
    char ca_file[96], stranger_file[96], certificate_file[96], key_file[96];
};

static void write_file(char path[96], const struct secure *s, const char *name, const char *text)
{
    snprintf(path, 96, "%s/%s", s->server.folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    fclose(file);
}

static void secure_begin(struct secure *s, const char *auth_clients)
{
    char port[16];
    *s = (struct secure){.ca = test_ca("Test CA"), .stranger = test_ca("Another CA")};
    s->leaf = test_leaf(s->ca, "localhost", TEST_KEY_EC, -1, 30);
    redis_server_init(&s->server);
    s->port = redis_server_free_port();
    write_file(s->ca_file, s, "ca.pem", s->ca->leaf_pem);
    write_file(s->stranger_file, s, "stranger.pem", s->stranger->leaf_pem);
    write_file(s->certificate_file, s, "leaf.pem", s->leaf->chain_pem);
    write_file(s->key_file, s, "leaf.key", s->leaf->key_pem);
    snprintf(port, sizeof port, "%u", s->port);
    const char *const arguments[] = {"--tls-port",
                                     port,
                                     "--tls-cert-file",
                                     s->certificate_file,
                                     "--tls-key-file",
                                     s->key_file,
                                     "--tls-ca-cert-file",
                                     s->ca_file,
                                     "--tls-auth-clients",
                                     auth_clients,
                                     NULL};
    redis_server_start(&s->server, arguments);
}

static void secure_end(struct secure *s)
{
    redis_server_fini(&s->server);
    test_cert_free(&s->leaf);
    test_cert_free(&s->stranger);
    test_cert_free(&s->ca);
}

static void client_begin_secure(struct client *c, const struct secure *s, const char *host,
                                const struct redis_tls *tls)
{
    char url[96];
    snprintf(url, sizeof url, "rediss://%s:%u", host, s->port);
    client_init(c, url, tls);
    redis_start(c->redis);
}

static void test_trusted(void **state)
{
    (void)state;
    struct secure s;
    struct client c;
    secure_begin(&s, "no");
    const struct redis_tls tls = {.ca_file = s.ca_file};
    client_begin_secure(&c, &s, "localhost", &tls);
    WAIT(&c, c.is_ready);
    for (unsigned i = 0; i < 5000; i++) {
        assert_true(client_put(&c, "INCR counter"));
    }
    WAIT(&c, c.reply_count == 5000);
    assert_int_equal(c.number, 5000);
    // Many records, both ways.
    static char large[2000000];
    memset(large, 'y', sizeof large);
    const struct str set[] = {STR("SET"), STR("large"), str_make(large, sizeof large)};
    assert_true(redis_command(c.redis, 3, set, client_on_reply, &c));
    client_ask(&c, "STRLEN large");
    WAIT(&c, redis_pending(c.redis) == 0);
    assert_int_equal(c.number, sizeof large);
    client_ask(&c, "GET large");
    assert_memory_equal(c.text, large, sizeof c.text - 1);
    // Made again, TLS and all.
    redis_drop(c.redis, "again");
    WAIT(&c, c.is_ready);
    client_ask(&c, "PING");
    redis_server_kill(&s.server);
    WAIT(&c, !c.is_ready);
    client_end(&c);
    secure_end(&s);
}

static void test_not_trusted(void **state)
{
    (void)state;
    struct secure s;
    struct client c;
    secure_begin(&s, "no");
    const struct redis_tls stranger = {.ca_file = s.stranger_file};
    client_begin_secure(&c, &s, "localhost", &stranger);
    WAIT(&c, c.lost_count > 0);
    assert_string_equal(c.detail, "TLS: self-signed certificate in certificate chain");
    client_end(&c);
    const struct redis_tls tls = {.ca_file = s.ca_file};
    client_begin_secure(&c, &s, "127.0.0.1", &tls); // the certificate is for localhost
    WAIT(&c, c.lost_count > 0);
    assert_string_equal(c.detail, "TLS: IP address mismatch");
    client_end(&c);
    const struct redis_tls blind = {.ca_file = "", .no_verify = true};
    client_begin_secure(&c, &s, "127.0.0.1", &blind);
    WAIT(&c, c.is_ready);
    client_end(&c);
    // Neither side may be plain.
    struct redis_server *server = &s.server;
    char url[96];
    snprintf(url, sizeof url, "rediss://127.0.0.1:%u", server->port);
    client_begin(&c, url);
    WAIT(&c, c.lost_count > 0);
    assert_memory_equal(c.detail, "TLS: ", 5);
    client_end(&c);
    snprintf(url, sizeof url, "redis://127.0.0.1:%u", s.port);
    client_begin(&c, url);
    WAIT(&c, c.lost_count > 0);
    client_end(&c);
    secure_end(&s);
}

static void test_client_certificate(void **state)
{
    (void)state;
    struct secure s;
    struct client c;
    secure_begin(&s, "yes");
    const struct redis_tls tls = {.ca_file = s.ca_file};
    client_begin_secure(&c, &s, "localhost", &tls);
    WAIT(&c, c.lost_count > 0);
    assert_memory_equal(c.detail, "TLS: ", 5);
    assert_int_equal(c.ready_count, 0);
    client_end(&c);
    const struct redis_tls mine = {
        .ca_file = s.ca_file, .certificate_file = s.certificate_file, .key_file = s.key_file};
    client_begin_secure(&c, &s, "localhost", &mine);
    WAIT(&c, c.is_ready);
    client_ask(&c, "PING");
    assert_string_equal(c.text, "PONG");
    client_end(&c);
    secure_end(&s);
}

static void test_files(void **state)
{
    (void)state;
    struct secure s;
    struct client c;
    secure_begin(&s, "no");
    client_init(&c, "rediss://localhost", NULL);
    struct {
        struct redis_tls tls;
        const char *why;
    } const cases[] = {
        {{.ca_file = "/nonexistent/ca.pem"}, "/nonexistent/ca.pem: No such file or directory"},
        {{.ca_file = s.server.folder}, ": not a regular file"},
        {{.ca_file = s.key_file}, "leaf.key: holds no certificate in PEM"},
        {{.certificate_file = s.certificate_file}, "a client certificate has a key"},
        {{.certificate_file = s.key_file, .key_file = s.key_file}, "holds no well-formed"},
        {{.certificate_file = s.ca_file, .key_file = s.key_file}, "is not the key of"},
        {{.certificate_file = s.ca_file, .key_file = s.ca_file}, "holds no private key"},
        {{.certificate_file = s.ca_file, .key_file = "/nonexistent"}, "/nonexistent: No such"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct problems problems;
        struct redis *redis = NULL;
        struct redis_config config = c.config;
        problems_init(&problems);
        config.tls = &cases[i].tls;
        assert_int_not_equal(redis_new(&redis, &config, &problems), 0);
        assert_null(redis);
        assert_int_equal(problems.count, 1);
        if (strstr(problems.items[0].detail, cases[i].why) == NULL) {
            fail_msg("%s: %s", cases[i].why, problems.items[0].detail);
        }
        problems_fini(&problems);
    }
    client_end(&c);
    secure_end(&s);
}

// ---- the waiting client ----

static void test_sync(void **state)
{
    (void)state;
    struct secure s;
    struct problems problems;
    struct redis_url url;
    struct redis_sync *sync = NULL;
    char text[96];
    hash_seed();
    secure_begin(&s, "no");
    const struct redis_tls tls = {.ca_file = s.ca_file};
    for (unsigned is_tls = 0; is_tls < 2; is_tls++) {
        problems_init(&problems);
        snprintf(text, sizeof text, is_tls ? "rediss://localhost:%u" : "redis://127.0.0.1:%u",
                 is_tls ? s.port : s.server.port);
        assert_int_equal(redis_url_parse(&url, str_from_c(text), &problems), 0);
        assert_int_equal(redis_sync_open(&sync, &url, &tls, 60000, &problems), 0);
        const struct str set[] = {STR("SET"), STR("key"), STR("value")};
        const struct str get[] = {STR("GET"), STR("key")};
        const struct str incr[] = {STR("INCR"), STR("counter")};
        const struct redis_reply *reply = redis_sync_command(sync, 3, set);
        assert_non_null(reply);
        assert_string_equal(reply->text.p, "OK");
        reply = redis_sync_command(sync, 2, get);
        assert_string_equal(reply->text.p, "value");
        assert_null(redis_sync_receive(sync)); // of no command
        for (unsigned i = 0; i < 20000; i++) {
            assert_true(redis_sync_send(sync, 2, incr));
        }
        for (unsigned i = 0; i < 20000; i++) {
            reply = redis_sync_receive(sync);
            assert_non_null(reply);
            assert_int_equal(reply->integer, i + 1 + 20000 * is_tls);
        }
        redis_sync_close(&sync);
        assert_null(sync);
        redis_url_fini(&url);
        problems_fini(&problems);
    }
    secure_end(&s);
}

static void test_sync_faults(void **state)
{
    (void)state;
    struct redis_server server;
    struct problems problems;
    struct redis_url url;
    struct redis_sync *sync = NULL;
    char text[128];
    const struct str ping = STR("PING");
    hash_seed();
    redis_server_init(&server);
    problems_init(&problems);
    snprintf(text, sizeof text, "redis://:secret@127.0.0.1:%u", server.port);
    assert_int_equal(redis_url_parse(&url, str_from_c(text), &problems), 0);
    assert_int_equal(redis_sync_open(&sync, &url, NULL, 300, &problems), ERR_UNAVAILABLE);
    snprintf(text, sizeof text, "redis://127.0.0.1:%u: connect: refused", server.port);
    assert_string_equal(problems.items[0].detail, text);
    assert_null(sync);
    redis_url_fini(&url);
    redis_server_start(&server, NULL);
    assert_int_equal(
        redis_url_parse(&url, str_sub(str_from_c(text), 0, strlen(text) - 18), &problems), 0);
    assert_int_equal(redis_sync_open(&sync, &url, NULL, 3000, &problems), 0);
    assert_non_null(redis_sync_command(sync, 1, &ping));
    redis_server_signal(&server, SIGSTOP);
    assert_null(redis_sync_command(sync, 1, &ping));
    assert_string_equal(redis_sync_error(sync), "no answer in 3000 ms");
    redis_server_signal(&server, SIGCONT);
    assert_null(redis_sync_command(sync, 1, &ping)); // it is over
    redis_sync_close(&sync);
    assert_int_equal(redis_sync_open(&sync, &url, NULL, 60000, &problems), 0);
    assert_true(redis_sync_send(sync, 1, &ping));
    redis_server_kill(&server);
    while (redis_sync_receive(sync) != NULL) {
    }
    assert_null(redis_sync_command(sync, 1, &ping));
    assert_int_not_equal(redis_sync_error(sync)[0], 0);
    redis_sync_close(&sync);
    redis_sync_close(&sync);
    redis_url_fini(&url);
    problems_fini(&problems);
    redis_server_fini(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trusted),
        cmocka_unit_test(test_not_trusted),
        cmocka_unit_test(test_client_certificate),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_sync),
        cmocka_unit_test(test_sync_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
