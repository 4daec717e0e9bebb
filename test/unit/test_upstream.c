// SPDX-License-Identifier: MIT
// Which connection a request gets: by TLS and ALPN, shared or alone, kept or not.
#include "client_user.h"
#include "support/test_certs.h"
#include <stdio.h>
#include <sys/un.h>

struct secure {
    struct client c;
    struct test_cert *ca;
    struct test_cert *leaf;
    X509_STORE *store;
    struct tls_context *context;
};

static void begin_with(struct secure *s, enum http_client_protocol protocol, const char *names,
                       int begin_days, int end_days)
{
    client_begin(&s->c, protocol);
    s->ca = test_ca("Test CA");
    s->leaf = test_leaf(s->ca, names, TEST_KEY_EC, begin_days, end_days);
    origin_use_tls(&s->c.origin, s->leaf->leaf, s->leaf->key);
    s->store = X509_STORE_new();
    assert_int_equal(X509_STORE_add_cert(s->store, s->ca->leaf), 1);
    const struct tls_client_config config = {.verify = true, .store = s->store};
    assert_int_equal(tls_client_context_new(&s->context, &config), 0);
    s->c.request.tls = s->context;
    s->c.request.server_name = STR("shop.example");
}

static void begin(struct secure *s, enum http_client_protocol protocol)
{
    begin_with(s, protocol, "shop.example,other.example", -1, 30);
}

static void end(struct secure *s)
{
    client_end(&s->c);
    tls_context_unref(&s->context);
    X509_STORE_free(s->store);
    test_cert_free(&s->leaf);
    test_cert_free(&s->ca);
}

static bool got(struct origin_conn *c, const char *text)
{
    return str_find(buf_str(&c->raw), str_from_c(text)) != SIZE_MAX;
}

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static void answer(struct origin_conn *c, const char *text)
{
    buf_clear(&c->raw);
    buf_put(&c->out, str_from_c(text));
}

// A GET on the newest HTTP/1 connection of the origin.
static void exchange_h1(struct client *c, const char *told)
{
    struct user u;
    client_get(c, &u, "/x");
    WAIT(c, c->origin.conn_count > 0 && got(c->origin.conns[c->origin.conn_count - 1], "\r\n\r\n"));
    answer(c->origin.conns[c->origin.conn_count - 1], OK);
    WAIT(c, u.stream == NULL);
    assert_true(user_was_told(&u, told));
    user_fini(&u);
}

static void exchange_h2(struct client *c, const char *told)
{
    struct user u;
    client_get(c, &u, "/ok");
    WAIT(c, u.stream == NULL);
    assert_true(user_was_told(&u, told));
    user_fini(&u);
}

static void test_alpn(void **state)
{
    (void)state;
    struct secure s;
    begin(&s, HTTP_CLIENT_AUTO);
    exchange_h2(&s.c, "ready;head 200;end;");
    exchange_h2(&s.c, "head 200;end;");
    assert_int_equal(s.c.origin.conn_count, 1);
    const struct origin_stream *seen = &s.c.origin.conns[0]->streams[0];
    assert_true(str_find(buf_str(&seen->fields), STR(":scheme: https\n")) != SIZE_MAX);
    end(&s);

    for (int no_alpn = 0; no_alpn <= 1; no_alpn++) {
        begin(&s, HTTP_CLIENT_AUTO);
        s.c.origin.alpn_h1 = true;
        s.c.origin.no_alpn = no_alpn == 1;
        exchange_h1(&s.c, "ready;head 200;end;");
        exchange_h1(&s.c, "head 200;end;");
        assert_int_equal(s.c.origin.conn_count, 1);
        end(&s);
    }
    begin(&s, HTTP_CLIENT_HTTP1); // h2 is not offered
    s.c.origin.alpn_h1 = true;
    exchange_h1(&s.c, "ready;head 200;end;");
    end(&s);
}

static void test_h2_alone(void **state)
{
    (void)state;
    for (int no_alpn = 0; no_alpn <= 1; no_alpn++) {
        struct secure s;
        struct user u;
        begin(&s, HTTP_CLIENT_H2);
        s.c.origin.alpn_h1 = true;
        s.c.origin.no_alpn = no_alpn == 1;
        client_get(&s.c, &u, "/ok");
        WAIT(&s.c, u.stream == NULL);
        assert_true(user_was_told(&u, no_alpn == 1 ? "reset protocol;" : "reset tls;"));
        user_fini(&u);
        end(&s);
    }
}

// A stream of the protocol that was found takes the place of the first one.
static void test_stream_changes(void **state)
{
    (void)state;
    struct secure s;
    struct user u;
    begin(&s, HTTP_CLIENT_AUTO);
    s.c.origin.alpn_h1 = true;
    client_get(&s.c, &u, "/x");
    WAIT(&s.c, user_was_told(&u, "ready;"));
    assert_true(u.moved);
    assert_false(u.stream->is_h2);
    user_fini(&u); // resets the new one
    client_settle(&s.c);
    assert_int_equal(s.c.upstream.endpoint_count, 0);
    end(&s);
}

// Before h2 was seen there each opens a connection of its own; but the first that is there is enough.
static void test_join_first(void **state)
{
    (void)state;
    struct secure s;
    struct user users[20];
    begin(&s, HTTP_CLIENT_AUTO);
    client_get(&s.c, &users[0], "/hold");
    WAIT(&s.c, s.c.origin.conn_count == 1);
    int listener = s.c.origin.listener;
    s.c.origin.listener = -1; // the others have to wait
    for (int i = 1; i < 20; i++) {
        client_get(&s.c, &users[i], "/hold");
    }
    assert_int_equal(s.c.upstream.opened_count, 20);
    WAIT(&s.c, s.c.origin.request_count == 20);
    assert_int_equal(s.c.origin.conn_count, 1);
    s.c.origin.listener = listener;
    // What was being opened was given up.
    assert_int_equal(s.c.upstream.clients.h2_conns.live_count, 1);
    for (int i = 0; i < 20; i++) {
        assert_true(user_was_told(&users[i], "ready;"));
        assert_true(users[i].stream->is_h2);
        user_fini(&users[i]);
    }
    end(&s);
}

// Once h2 was seen all wait for one connection.
static void test_join_while_opening(void **state)
{
    (void)state;
    struct secure s;
    struct user users[20];
    begin(&s, HTTP_CLIENT_AUTO);
    client_get(&s.c, &users[0], "/hold");
    WAIT(&s.c, s.c.origin.request_count == 1);
    nghttp2_submit_goaway(s.c.origin.conns[0]->session, 0, INT32_MAX, NGHTTP2_NO_ERROR, NULL, 0);
    client_settle(&s.c);
    for (int i = 1; i < 20; i++) {
        client_get(&s.c, &users[i], "/ok");
        assert_false(users[i].stream->was_reused);
    }
    for (int i = 1; i < 20; i++) {
        WAIT(&s.c, users[i].stream == NULL);
        assert_true(user_was_told(&users[i], "ready;head 200;end;"));
    }
    assert_int_equal(s.c.origin.conn_count, 2);

    // It speaks HTTP/1 now: the others get connections of their own.
    nghttp2_submit_goaway(s.c.origin.conns[1]->session, 0, INT32_MAX, NGHTTP2_NO_ERROR, NULL, 0);
    client_settle(&s.c);
    for (int i = 1; i < 20; i++) {
        user_fini(&users[i]);
    }
    s.c.origin.alpn_h1 = true;
    for (int i = 1; i < 5; i++) {
        client_get(&s.c, &users[i], "/x");
    }
    assert_int_equal(s.c.upstream.opened_count, 3);
    for (int i = 1; i < 5; i++) {
        WAIT(&s.c, user_was_told(&users[i], "ready;"));
        assert_false(users[i].stream->is_h2);
    }
    assert_int_equal(s.c.origin.conn_count, 6);
    for (int i = 0; i < 5; i++) {
        user_fini(&users[i]);
    }
    end(&s);
}

static void test_verification(void **state)
{
    (void)state;
    static const struct {
        const char *names;
        const char *server_name;
        int begin_days, end_days;
        bool other_ca;
    } cases[] = {
        {"other.example", "shop.example", -1, 30, false},
        {"shop.example", "shop.example", -30, -1, false},
        {"shop.example", "shop.example", 5, 30, false},
        {"shop.example", "shop.example", -1, 30, true},
        {"shop.example", "127.0.0.1", -1, 30, false},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct secure s;
        struct user u;
        struct tls_context *strict = NULL;
        begin_with(&s, HTTP_CLIENT_AUTO, cases[i].names, cases[i].begin_days, cases[i].end_days);
        s.c.request.server_name = str_from_c(cases[i].server_name);
        struct test_cert *other = test_ca("Other CA");
        if (cases[i].other_ca) {
            X509_STORE *store = X509_STORE_new();
            X509_STORE_add_cert(store, other->leaf);
            const struct tls_client_config config = {.verify = true, .store = store};
            assert_int_equal(tls_client_context_new(&strict, &config), 0);
            X509_STORE_free(store);
            s.c.request.tls = strict;
        }
        client_get(&s.c, &u, "/ok");
        WAIT(&s.c, u.stream == NULL);
        assert_true(user_was_told(&u, "reset tls_verify;"));
        assert_int_equal(s.c.origin.request_count, 0);
        user_fini(&u);
        client_settle(&s.c);
        tls_context_unref(&strict);
        test_cert_free(&other);
        end(&s);
    }
}

// Without verification any certificate does.
static void test_no_verification(void **state)
{
    (void)state;
    struct secure s;
    struct tls_context *loose;
    begin_with(&s, HTTP_CLIENT_AUTO, "other.example", -30, -1);
    const struct tls_client_config config = {.verify = false};
    assert_int_equal(tls_client_context_new(&loose, &config), 0);
    s.c.request.tls = loose;
    exchange_h2(&s.c, "ready;head 200;end;");
    tls_context_unref(&loose); // the endpoint holds it as long as it needs it
    exchange_h2(&s.c, "head 200;end;");
    end(&s);
}

static void test_no_tls_there(void **state)
{
    (void)state;
    struct secure s;
    struct user u;
    begin(&s, HTTP_CLIENT_AUTO);
    SSL_CTX_free(s.c.origin.tls);
    s.c.origin.tls = NULL;
    s.c.origin.is_raw = true;
    client_get(&s.c, &u, "/ok");
    WAIT(&s.c, s.c.origin.conn_count == 1 && s.c.origin.conns[0]->raw.len > 0);
    answer(s.c.origin.conns[0], "HTTP/1.1 400 Bad Request\r\n\r\n");
    WAIT(&s.c, u.stream == NULL);
    assert_true(user_was_told(&u, "reset tls;"));
    user_fini(&u);
    // And one that says nothing.
    client_get(&s.c, &u, "/ok");
    client_settle(&s.c);
    assert_non_null(u.stream);
    client_pass(&s.c, 1100);
    assert_true(user_was_told(&u, "reset timeout;"));
    user_fini(&u);
    // And one that hangs up.
    client_get(&s.c, &u, "/ok");
    WAIT(&s.c, s.c.origin.conn_count == 3 && s.c.origin.conns[2]->raw.len > 0);
    origin_close_conn(s.c.origin.conns[2]);
    WAIT(&s.c, u.stream == NULL);
    assert_true(user_was_told(&u, "reset closed;") || user_was_told(&u, "reset tls;"));
    user_fini(&u);
    end(&s);
}

// TLS 1.3: the server may refuse the client's certificate, or that there is none, when the client is done with
// its handshake and has sent its request. That is told apart from a close.
static void test_client_certificate_refused(void **state)
{
    (void)state;
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        for (int is_h1 = 0; is_h1 <= 1; is_h1++) {
            struct secure s;
            struct user u;
            begin(&s, is_h1 == 1 ? HTTP_CLIENT_HTTP1 : HTTP_CLIENT_AUTO);
            s.c.origin.alpn_h1 = is_h1 == 1;
            SSL_CTX_set_verify(s.c.origin.tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                               NULL);
            SSL_CTX_set_max_proto_version(s.c.origin.tls, version);
            client_get(&s.c, &u, "/ok");
            for (int i = 0; i < 1000 && u.stream != NULL; i++) {
                client_poll(&s.c, 0);
                for (unsigned k = 0; k < s.c.origin.conn_count; k++) {
                    struct origin_conn *c = s.c.origin.conns[k];
                    if (c->ssl != NULL && ERR_peek_error() != 0) {
                        ERR_clear_error();
                        origin_close_conn(c); // as a server does
                    }
                }
            }
            assert_true(user_was_told(
                &u, is_h1 == 1 && version == TLS1_3_VERSION ? "ready;reset tls;" : "reset tls;"));
            user_fini(&u);
            end(&s);
        }
    }
}

// What lasts until the close is complete only if the origin says so.
static void test_truncation(void **state)
{
    (void)state;
    for (int is_clean = 0; is_clean <= 1; is_clean++) {
        struct secure s;
        struct user u;
        begin(&s, HTTP_CLIENT_HTTP1);
        s.c.origin.alpn_h1 = true;
        client_get(&s.c, &u, "/x");
        WAIT(&s.c, s.c.origin.conn_count == 1 && got(s.c.origin.conns[0], "\r\n\r\n"));
        answer(s.c.origin.conns[0], "HTTP/1.1 200 OK\r\n\r\nhello");
        WAIT(&s.c, u.body_len == 5);
        if (is_clean == 1) {
            SSL_shutdown(s.c.origin.conns[0]->ssl);
        }
        origin_close_conn(s.c.origin.conns[0]);
        WAIT(&s.c, u.stream == NULL);
        assert_true(user_was_told(&u, is_clean == 1 ? "ready;head 200;end;"
                                                    : "ready;head 200;reset closed;"));
        user_fini(&u);
        end(&s);
    }
}

// A kept connection of TLS lives on tickets and new keys, and ends with a FIN.
static void test_idle_tls(void **state)
{
    (void)state;
    struct secure s;
    begin(&s, HTTP_CLIENT_HTTP1);
    s.c.origin.alpn_h1 = true;
    exchange_h1(&s.c, "ready;head 200;end;");
    assert_int_equal(s.c.upstream.idle_count, 1);
    SSL *ssl = s.c.origin.conns[0]->ssl;
    assert_int_equal(SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    assert_int_equal(SSL_do_handshake(ssl), 1);
    client_settle(&s.c);
    assert_int_equal(s.c.upstream.idle_count, 1);
    exchange_h1(&s.c, "head 200;end;");
    SSL_shutdown(ssl);
    client_settle(&s.c);
    assert_int_equal(s.c.upstream.idle_count, 0);
    assert_int_equal(s.c.upstream.endpoint_count, 0);
    end(&s);
}

static void test_large_body_over_tls(void **state)
{
    (void)state;
    static char block[30000];
    struct secure s;
    struct user u;
    begin(&s, HTTP_CLIENT_AUTO);
    user_init(&u);
    assert_true(client_start(&s.c, &u));
    WAIT(&s.c, user_was_told(&u, "ready;"));
    user_send(&u, "POST", "/echo", BODY_CHUNKED, 0);
    for (int i = 0; i < 30; i++) {
        u.stream->ops->send_data(u.stream, str_make(block, sizeof block));
        client_poll(&s.c, 0);
    }
    u.stream->ops->send_end(u.stream, NULL, 0);
    WAIT(&s.c, u.stream == NULL);
    assert_int_equal(u.body_len, 30 * sizeof block);
    user_fini(&u);
    end(&s);
}

// Connections are shared only where all is the same.
static void test_sharing(void **state)
{
    (void)state;
    struct secure s;
    struct tls_context *twin;
    begin(&s, HTTP_CLIENT_AUTO);
    const struct tls_client_config config = {.verify = true, .store = s.store};
    assert_int_equal(tls_client_context_new(&twin, &config), 0);
    exchange_h2(&s.c, "ready;head 200;end;");
    s.c.request.server_name = STR("other.example");
    exchange_h2(&s.c, "ready;head 200;end;");
    s.c.request.tls = twin;
    exchange_h2(&s.c, "ready;head 200;end;");
    s.c.request.protocol = HTTP_CLIENT_H2;
    exchange_h2(&s.c, "ready;head 200;end;");
    assert_int_equal(s.c.origin.conn_count, 4);
    assert_int_equal(s.c.upstream.endpoint_count, 4);
    exchange_h2(&s.c, "head 200;end;");
    s.c.request.fresh = true;
    exchange_h2(&s.c, "ready;head 200;end;");
    assert_int_equal(s.c.origin.conn_count, 5);
    tls_context_unref(&twin);
    end(&s);
}

static void test_not_kept(void **state)
{
    (void)state;
    struct secure s;
    begin(&s, HTTP_CLIENT_AUTO);
    s.c.request.keep_idle = 0;
    exchange_h2(&s.c, "ready;head 200;end;");
    client_settle(&s.c);
    assert_int_equal(s.c.upstream.endpoint_count, 0);
    assert_int_equal(origin_open_count(&s.c.origin), 0);
    end(&s);
}

// A PROXY header comes first, in the clear, and makes the connection one exchange's.
static void test_preamble(void **state)
{
    (void)state;
    struct client c;
    client_begin(&c, HTTP_CLIENT_AUTO);
    c.origin.is_raw = true;
    c.request.preamble = STR("PROXY UNKNOWN\r\n");
    for (unsigned i = 0; i < 2; i++) {
        struct user u;
        client_get(&c, &u, "/x");
        WAIT(&c, c.origin.conn_count == i + 1 && got(c.origin.conns[i], "\r\n\r\n"));
        assert_true(str_starts(buf_str(&c.origin.conns[i]->raw),
                               STR("PROXY UNKNOWN\r\nGET /x HTTP/1.1\r\n")));
        answer(c.origin.conns[i], OK);
        WAIT(&c, u.stream == NULL);
        assert_true(user_was_told(&u, "ready;head 200;end;"));
        user_fini(&u);
        assert_int_equal(c.upstream.idle_count, 0);
    }
    client_settle(&c);
    assert_int_equal(origin_open_count(&c.origin), 0);
    client_end(&c);

    // Before TLS.
    struct secure s;
    struct user u;
    char first[15] = "";
    begin(&s, HTTP_CLIENT_AUTO);
    s.c.request.preamble = STR("PROXY UNKNOWN\r\n");
    client_get(&s.c, &u, "/ok");
    for (int i = 0; i < 1000 && s.c.origin.conn_count == 0; i++) {
        loop_turn(&s.c.loop, 1);
        origin_accept(&s.c.origin);
    }
    assert_int_equal(s.c.origin.conn_count, 1);
    int fd = s.c.origin.conns[0]->fd;
    ssize_t n = 0;
    for (int i = 0; i < 1000 && n != sizeof first; i++) {
        n = recv(fd, first, sizeof first, MSG_DONTWAIT | MSG_PEEK);
        loop_turn(&s.c.loop, 1);
    }
    assert_int_equal(recv(fd, first, sizeof first, MSG_DONTWAIT), sizeof first);
    assert_memory_equal(first, "PROXY UNKNOWN\r\n", sizeof first);
    WAIT(&s.c, u.stream == NULL);
    assert_true(user_was_told(&u, "ready;head 200;end;"));
    user_fini(&u);
    client_settle(&s.c);
    assert_int_equal(origin_open_count(&s.c.origin), 0);
    end(&s);
}

static void test_unix(void **state)
{
    (void)state;
    struct client c;
    client_begin(&c, HTTP_CLIENT_H2);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof un.sun_path, "/tmp/test_upstream.%d", (int)getpid());
    close(c.origin.listener);
    c.origin.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(c.origin.listener, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(listen(c.origin.listener, 8), 0);
    memset(&c.request.address, 0, sizeof c.request.address);
    memcpy(&c.request.address, &un, sizeof un);
    c.request.address_len = sizeof un;
    exchange_h2(&c, "ready;head 200;end;");
    exchange_h2(&c, "head 200;end;");
    assert_int_equal(c.origin.conn_count, 1);
    upstream_drop_idle(&c.upstream);
    client_settle(&c);
    assert_int_equal(origin_open_count(&c.origin), 0);
    unlink(un.sun_path);
    int err = 0;
    assert_null(upstream_get(&c.upstream, &c.request, &user_events, NULL, &err));
    assert_int_equal(err, ERR_CLOSED);
    assert_int_equal(c.upstream.endpoint_count, 0);
    client_end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alpn),
        cmocka_unit_test(test_h2_alone),
        cmocka_unit_test(test_stream_changes),
        cmocka_unit_test(test_join_first),
        cmocka_unit_test(test_join_while_opening),
        cmocka_unit_test(test_verification),
        cmocka_unit_test(test_no_verification),
        cmocka_unit_test(test_no_tls_there),
        cmocka_unit_test(test_client_certificate_refused),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_idle_tls),
        cmocka_unit_test(test_large_body_over_tls),
        cmocka_unit_test(test_sharing),
        cmocka_unit_test(test_not_kept),
        cmocka_unit_test(test_preamble),
        cmocka_unit_test(test_unix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
