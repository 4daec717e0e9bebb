// SPDX-License-Identifier: MIT
#include "tls_pair.h"

static void test_handshake_and_bytes(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    client_config(p, true, NULL);
    connect_pair(p, "a.example", 1 << TLS_H2 | 1 << TLS_HTTP1);
    pump(p);
    assert_int_equal(p->server.step, STEP_DONE);
    assert_int_equal(p->client.step, STEP_DONE);
    assert_string_equal(p->sni, "a.example");
    assert_true(str_eq(tls_version(p->server.tls), STR("1.3")));
    assert_int_equal(tls_protocol(p->server.tls), TLS_H2);
    assert_int_equal(tls_protocol(p->client.tls), TLS_H2);
    assert_false(tls_is_resumed(p->server.tls));
    say(p, &p->client, STR("hello"));
    say(p, &p->server, STR("hi"));
    pump(p);
    assert_true(heard(&p->server, "hello"));
    assert_true(heard(&p->client, "hi"));
    assert_int_equal(p->client.out.written, 5);
    assert_true(p->client.out.sent > 5);
    outq_shut(&p->loop, &p->client.out);
    pump(p);
    assert_true(p->server.is_end);
    assert_int_equal(p->server.end_errno, 0);
    assert_false(tls_is_truncated(p->server.tls));
    pair_free(&p);
}

// FIN without close_notify is the end of one direction; the other works on.
static void test_truncation_is_seen(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        p->version = version;
        client_config(p, true, NULL);
        connect_pair(p, "a.example", 0);
        pump(p);
        say(p, &p->client, STR("half"));
        shutdown(p->client.io.fd, SHUT_WR);
        pump(p);
        assert_true(heard(&p->server, "half"));
        assert_true(p->server.is_end);
        assert_int_equal(p->server.end_errno, 0);
        assert_true(tls_is_truncated(p->server.tls));
        say(p, &p->server, STR("the rest"));
        outq_shut(&p->loop, &p->server.out);
        pump(p);
        assert_true(heard(&p->client, "the rest"));
        assert_true(p->client.is_end);
        assert_false(tls_is_truncated(p->client.tls));
    }
    pair_free(&p);
}

static void test_byte_by_byte(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    p->chunk = 1;
    p->asks = true;
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        p->version = version;
        client_config(p, true, client_leaf);
        connect_pair(p, "a.example", 1 << TLS_H2);
        pump(p);
        assert_int_equal(p->server.step, STEP_DONE);
        assert_int_equal(p->client.step, STEP_DONE);
        assert_true(str_eq(tls_version(p->server.tls),
                           version == TLS1_2_VERSION ? STR("1.2") : STR("1.3")));
        say(p, &p->client, STR("one"));
        say(p, &p->client, STR("two"));
        say(p, &p->server, STR("three"));
        outq_shut(&p->loop, &p->client.out);
        pump(p);
        assert_true(heard(&p->server, "onetwo"));
        assert_true(heard(&p->client, "three"));
        assert_true(p->server.is_end);
        assert_false(tls_is_truncated(p->server.tls));
    }
    pair_free(&p);
}

// The client's first bytes come with the end of its handshake.
static void test_bytes_behind_the_handshake(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    bool is_drained;
    char buf[LOOP_READ_LEN];
    client_config(p, true, NULL);
    connect_pair(p, "a.example", 0);
    step(p, &p->client);
    step(p, &p->server);
    step(p, &p->client);
    assert_int_equal(p->client.step, STEP_DONE);
    say(p, &p->client, STR("GET / HTTP/1.1"));
    assert_int_equal(tls_handshake(p->server.tls, &is_drained), STEP_DONE);
    assert_false(is_drained);
    assert_int_equal(tls_recv(p->server.tls, buf, sizeof buf, &is_drained), 14);
    errno = 0;
    assert_int_equal(tls_recv(p->server.tls, buf, sizeof buf, &is_drained), -1);
    assert_int_equal(errno, EAGAIN);
    assert_true(is_drained);
    // Part of a record is held, and the rest of it is in the socket: that is read in the same call.
    say(p, &p->client, STR("more"));
    ssize_t n = recv(p->server.io.fd, buf, sizeof buf, 0);
    assert_true(n > 20);
    assert_int_equal(tls_feed(p->server.tls, str_make(buf, 10)), 0);
    assert_int_equal(write(p->client.io.fd, buf + 10, (size_t)n - 10), n - 10);
    assert_int_equal(tls_recv(p->server.tls, buf, sizeof buf, &is_drained), 4);
    assert_true(is_drained);
    static char much[TLS_HELD_MAX + 1];
    assert_int_equal(tls_feed(p->server.tls, str_make(much, sizeof much)), ERR_MEMORY);
    pair_free(&p);
}

static void test_end_during_the_handshake(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    client_config(p, true, NULL);
    for (unsigned keep = 0; keep < 3; keep++) {
        bool is_drained;
        char hello[4096];
        connect_pair(p, "a.example", 0);
        (void)tls_handshake(p->client.tls, &is_drained);
        if (keep < 2) { // nothing, or a part of it
            ssize_t n = recv(p->server.io.fd, hello, sizeof hello, 0);
            assert_true(n > 100);
            assert_int_equal(tls_feed(p->server.tls, str_make(hello, keep * 100)), 0);
        }
        shutdown(p->client.io.fd, SHUT_WR);
        pump(p);
        assert_int_equal(p->server.step, ERR_CLOSED);
    }
    pair_free(&p);
}

// A client may ask for records of 512 bytes.
static void test_small_records(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        p->version = version;
        client_config(p, true, NULL);
        connect_pair(p, "a.example", 0);
        SSL_set_tlsext_max_fragment_length(p->client.tls->ssl, TLSEXT_max_fragment_length_512);
        pump(p);
        assert_int_equal(p->server.step, STEP_DONE);
        static char data[300000];
        memset(data, 'd', sizeof data);
        say(p, &p->server, str_make(data, sizeof data));
        for (int i = 0; i < 100 && p->client.got_len < sizeof data; i++) {
            pump(p);
        }
        assert_int_equal(p->client.got_len, sizeof data);
        assert_memory_equal(p->client.got, data, sizeof data);
        assert_true(p->server.out.sent > sizeof data + sizeof data / 512 * 20);
    }
    pair_free(&p);
}

static int peer_key_type(const struct side *side)
{
    X509 *certificate = SSL_get0_peer_certificate(side->tls->ssl);
    return EVP_PKEY_get_base_id(X509_get0_pubkey(certificate));
}

static void test_certificate_that_the_client_can_use(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    client_config(p, true, NULL);
    serves_too = rsa_leaf;
    connect_pair(p, "a.example", 0);
    pump(p);
    assert_int_equal(peer_key_type(&p->client), EVP_PKEY_EC);
    client_config(p, true, NULL);
    connect_pair(p, "a.example", 0);
    SSL_set1_sigalgs_list(p->client.tls->ssl, "RSA-PSS+SHA256:ecdsa_secp384r1_sha384");
    pump(p);
    assert_int_equal(p->client.step, STEP_DONE);
    assert_int_equal(peer_key_type(&p->client), EVP_PKEY_RSA);
    pair_free(&p);
}

// The struct that the connection is of is another one now.
static void test_moved(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    client_config(p, true, NULL);
    connect_pair(p, "a.example", 0);
    pump(p);
    struct loop_io io = p->server.io;
    struct outq out = p->server.out;
    out.io = &io;
    list_init(&out.dirty);
    tls_move(p->server.tls, &io, &out);
    p->server.io.fd = -1;
    outq_put_copy(&p->loop, &out, STR("moved"));
    outq_flush_all(&p->loop);
    step(p, &p->client);
    assert_true(heard(&p->client, "moved"));
    say(p, &p->client, STR("seen"));
    char buf[LOOP_READ_LEN];
    bool is_drained;
    assert_int_equal(tls_recv(p->server.tls, buf, sizeof buf, &is_drained), 4);
    tls_free(&p->server.tls);
    assert_null(out.tls);
    outq_fini(&p->loop, &out);
    close(io.fd);
    pair_free(&p);
}

// The kernel takes nothing any more: close_notify waits, and FIN with it.
static void test_end_behind_a_full_socket(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    client_config(p, true, NULL);
    connect_pair(p, "a.example", 0);
    pump(p);
    static char data[8 << 20];
    say(p, &p->server, str_make(data, sizeof data));
    assert_true(p->server.out.queued > 0);
    outq_shut(&p->loop, &p->server.out);
    assert_false(p->client.is_end);
    for (int i = 0; i < 2000 && !p->client.is_end; i++) {
        pump(p);
    }
    assert_int_equal(p->client.got_len, sizeof data);
    assert_true(p->client.is_end);
    assert_false(tls_is_truncated(p->client.tls));
    char byte;
    assert_int_equal(recv(p->client.io.fd, &byte, 1, 0), 0); // FIN
    pair_free(&p);
}

// More than the kernel takes: what is left is sealed and owned, and goes out in order.
static void test_much_both_ways(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    client_config(p, true, NULL);
    connect_pair(p, "a.example", 0);
    pump(p);
    size_t len = 3 << 20;
    char *data = malloc(len);
    for (size_t i = 0; i < len; i++) {
        data[i] = (char)(i * 7 + i / 1000);
    }
    for (size_t at = 0; at < len; at += 100000) {
        size_t part = len - at < 100000 ? len - at : 100000;
        for (size_t i = 0; i < part;) { // pieces of every size
            size_t piece = 1 + (at + i) % 30000;
            piece = piece < part - i ? piece : part - i;
            outq_put_view(&p->loop, &p->server.out, str_make(data + at + i, piece));
            i += piece;
        }
        outq_flush_all(&p->loop);
        say(p, &p->client, str_make(data + at, part));
    }
    for (int i = 0; i < 2000 && (p->client.got_len < len || p->server.got_len < len); i++) {
        pump(p);
    }
    assert_int_equal(p->client.got_len, len);
    assert_int_equal(p->server.got_len, len);
    assert_memory_equal(p->client.got, data, len);
    assert_memory_equal(p->server.got, data, len);
    assert_int_equal(p->server.out.queued, 0);
    free(data);
    pair_free(&p);
}

static void reconnect(struct pair *p, bool resumed)
{
    connect_pair(p, "a.example", 0);
    pump(p);
    assert_int_equal(p->server.step, STEP_DONE);
    assert_int_equal(tls_is_resumed(p->server.tls), resumed);
    say(p, &p->client, STR("x"));
    say(p, &p->server, STR("y"));
    pump(p);
    assert_true(heard(&p->server, "x"));
    assert_true(heard(&p->client, "y"));
}

static void check_tickets(int version)
{
    struct pair *p = pair_new();
    p->version = version;
    client_config(p, true, NULL);
    reconnect(p, false);
    reconnect(p, true);
    unsigned full = p->certificates;
    // A newer key: the old one still opens.
    struct tls_ticket_keys newer = {
        .count = 2, .keys = {{.name = {1}, .aes = {2}, .hmac = {3}}, p->keys.keys[0]}};
    p->ring.current = &newer;
    reconnect(p, true);
    assert_int_equal(p->certificates, full); // resumed ones need no certificate
    const unsigned char *ticket;
    size_t ticket_len;
    SSL_SESSION_get0_ticket(SSL_get0_session(p->client.tls->ssl), &ticket, &ticket_len);
    assert_true(ticket_len > 64); // the client was given a newer one
    assert_memory_equal(ticket, newer.keys[0].name, sizeof newer.keys[0].name);
    newer.count = 1;
    // OpenSSL's clients do not say that they have a newer one in TLS 1.2.
    reconnect(p, version == TLS1_3_VERSION);
    reconnect(p, true);
    struct tls_ticket_keys other = {.count = 1, .keys = {{.name = {9}, .aes = {9}, .hmac = {9}}}};
    p->ring.current = &other;
    reconnect(p, false);
    p->ring.current = NULL; // none are given
    reconnect(p, false);
    p->ring.current = &p->keys;
    reconnect(p, false);
    reconnect(p, true);
    // None that is for longer than its keys: what was tampered with is as good as none.
    p->keys.keys[0].hmac[0] ^= 1;
    reconnect(p, false);
    pair_free(&p);
}

static void test_tickets(void **state)
{
    (void)state;
    check_tickets(TLS1_2_VERSION);
    check_tickets(TLS1_3_VERSION);
}

// To the server a resumed client is who it was: with another certificate nothing is resumed, nor later
// when it is the first one's turn again.
static void check_client_certificate_replaced(int version)
{
    struct pair *p = pair_new();
    p->version = version;
    p->asks = p->requires = true;
    client_config(p, true, client_leaf);
    client_certificate_number = 1;
    reconnect(p, false);
    reconnect(p, true);
    client_certificate_number = 2;
    reconnect(p, false);
    reconnect(p, true);
    client_certificate_number = 1;
    reconnect(p, false);
    client_certificate_number = 0;
    pair_free(&p);
}

static void test_client_certificate_is_replaced(void **state)
{
    (void)state;
    check_client_certificate_replaced(TLS1_2_VERSION);
    check_client_certificate_replaced(TLS1_3_VERSION);
}

static void check_scope(int version)
{
    struct pair *p = pair_new();
    p->version = version;
    for (int asks = 0; asks < 2; asks++) {
        p->asks = p->requires = asks;
        client_config(p, true, asks ? client_leaf : NULL);
        p->scope = (struct tls_scope){.certificates = {1}};
        reconnect(p, false);
        reconnect(p, true);
        p->scope.policy[1] = 5;
        reconnect(p, false);
        p->scope.certificates[0] = 2;
        reconnect(p, false);
        reconnect(p, true);
        char subject[TLS_SUBJECT_MAX];
        size_t len;
        char fingerprint[64];
        assert_int_equal(
            tls_peer_certificate(p->server.tls, subject, sizeof subject, &len, fingerprint), asks);
        assert_int_equal(len > 0, asks);
        assert_true(!asks || str_eq(str_make(subject, len), STR("CN=leaf")));
    }
    // What was resumed without a certificate where none was asked for is no way in where one is.
    p->asks = p->requires = false;
    p->scope = (struct tls_scope){.certificates = {7}};
    client_config(p, true, NULL);
    reconnect(p, false);
    reconnect(p, true);
    p->asks = p->requires = true;
    p->scope.policy[0] = 1;
    connect_pair(p, "a.example", 0);
    pump(p);
    assert_true(p->server.step < 0);
    pair_free(&p);
}

static void test_ticket_is_good_in_its_scope(void **state)
{
    (void)state;
    check_scope(TLS1_2_VERSION);
    check_scope(TLS1_3_VERSION);
}

// A ticket does not outlive the certificate that its client has shown.
static void test_ticket_of_a_certificate_that_ends(void **state)
{
    (void)state;
    const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct pair *pairs[2];
    struct test_cert *brief = test_leaf(ca, "alice", TEST_KEY_EC, -1, 1);
    X509_gmtime_adj(X509_getm_notAfter(brief->leaf), 2);
    assert_true(X509_sign(brief->leaf, ca->key, EVP_sha256()) > 0);
    for (unsigned i = 0; i < 2; i++) {
        pairs[i] = pair_new();
        pairs[i]->version = versions[i];
        pairs[i]->asks = pairs[i]->requires = true;
        client_config(pairs[i], true, brief);
        reconnect(pairs[i], false);
        reconnect(pairs[i], true);
    }
    sleep(3);
    for (unsigned i = 0; i < 2; i++) {
        connect_pair(pairs[i], "a.example", 0);
        pump(pairs[i]);
        assert_int_equal(pairs[i]->server.step, ERR_TLS_VERIFY);
        pair_free(&pairs[i]);
    }
    test_cert_free(&brief);
}

// A client that does nothing but ask for new keys, whether it reads what it gets or not.
static void test_flood_of_key_updates(void **state)
{
    (void)state;
    for (unsigned reads = 0; reads < 2; reads++) {
        struct pair *p = pair_new();
        client_config(p, true, NULL);
        connect_pair(p, "a.example", 0);
        pump(p);
        unsigned count = 0;
        for (; count < 2000 && !p->server.is_end; count++) {
            tls_io_begin(p->client.tls, false);
            assert_int_equal(SSL_key_update(p->client.tls->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
            assert_int_equal(SSL_do_handshake(p->client.tls->ssl), 1);
            tls_io_end(p->client.tls, false);
            step(p, &p->server);
            if (reads) {
                step(p, &p->client);
            }
        }
        assert_true(p->server.is_end && count > 100);
        assert_int_equal(p->server.end_errno, EPROTO);
        assert_true(p->server.out.queued <= TLS_ANSWERS_MAX + TLS_RECORD_OVERHEAD);
        pair_free(&p);
    }
}

static void test_client_certificate_is_required(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    p->asks = p->requires = true;
    client_config(p, true, NULL);
    connect_pair(p, "a.example", 0);
    pump(p);
    assert_true(p->server.step < 0);
    struct test_cert *other = test_ca("other");
    struct test_cert *stranger = test_leaf(other, "mallory", TEST_KEY_EC, -1, 10);
    client_config(p, true, stranger);
    connect_pair(p, "a.example", 0);
    pump(p);
    assert_int_equal(p->server.step, ERR_TLS_VERIFY);
    p->requires = false; // one that is bad is refused all the same
    connect_pair(p, "a.example", 0);
    pump(p);
    assert_int_equal(p->server.step, ERR_TLS_VERIFY);
    client_config(p, true, NULL);
    connect_pair(p, "a.example", 0);
    pump(p);
    assert_int_equal(p->server.step, STEP_DONE);
    test_cert_free(&stranger);
    test_cert_free(&other);
    pair_free(&p);
}

static void test_suspended(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    client_config(p, true, NULL);
    p->hello_waits = p->certificate_waits = 1;
    connect_pair(p, "a.example", 0);
    bool is_drained;
    assert_int_equal(tls_handshake(p->client.tls, &is_drained), STEP_AGAIN);
    assert_int_equal(tls_handshake(p->server.tls, &is_drained), STEP_AGAIN);
    assert_true(tls_is_suspended(p->server.tls));
    assert_int_equal(p->hellos, 1);
    assert_int_equal(tls_handshake(p->server.tls, &is_drained), STEP_AGAIN);
    assert_int_equal(p->hellos, 1); // nobody is asked twice
    tls_resume(p->server.tls);
    assert_false(tls_is_suspended(p->server.tls));
    assert_int_equal(tls_handshake(p->server.tls, &is_drained), STEP_AGAIN);
    assert_true(tls_is_suspended(p->server.tls));
    assert_int_equal(p->certificates, 1);
    pump(p);
    assert_int_equal(p->server.step, STEP_DONE);
    // Its end while it waits.
    p->certificate_waits = 1;
    client_config(p, true, NULL);
    connect_pair(p, "a.example", 0);
    (void)tls_handshake(p->client.tls, &is_drained);
    (void)tls_handshake(p->server.tls, &is_drained);
    assert_true(tls_is_suspended(p->server.tls));
    side_close(p, &p->server);
    assert_int_equal(p->abandoned, 1);
    pair_free(&p);
}

static void test_suspended_client(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    p->asks = p->requires = true;
    client_waits = 1;
    client_config(p, true, client_leaf);
    connect_pair(p, "a.example", 0);
    step(p, &p->client);
    step(p, &p->server);
    step(p, &p->client);
    assert_true(tls_is_suspended(p->client.tls));
    pump(p);
    assert_int_equal(p->client.step, STEP_DONE);
    assert_int_equal(p->server.step, STEP_DONE);
    clients_abandoned = 0;
    client_waits = 1;
    p->scope.policy[0] = 2; // a full one
    connect_pair(p, "a.example", 0);
    step(p, &p->client);
    step(p, &p->server);
    step(p, &p->client);
    assert_true(tls_is_suspended(p->client.tls));
    side_close(p, &p->client);
    assert_int_equal(clients_abandoned, 1);
    pair_free(&p);
}

// The server hears why its certificate was refused.
static void test_reasons(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    client_config(p, true, NULL);
    serves = expired;
    connect_pair(p, "a.example", 0);
    step(p, &p->client);
    step(p, &p->server);
    step(p, &p->client);
    assert_int_equal(p->client.step, ERR_TLS_VERIFY);
    assert_string_equal(tls_failure(p->client.tls), "certificate has expired");
    pump(p);
    assert_true(p->server.step == ERR_TLS || p->server.end_errno == EPROTO);
    assert_non_null(strstr(tls_failure(p->server.tls), "expired"));
    struct test_cert *other = test_ca("other");
    struct test_cert *stranger = test_leaf(other, "a.example", TEST_KEY_EC, -1, 10);
    serves = stranger;
    connect_pair(p, "a.example", 0);
    pump(p);
    assert_int_equal(p->client.step, ERR_TLS_VERIFY);
    assert_non_null(strstr(tls_failure(p->server.tls), "unknown ca"));
    test_cert_free(&stranger);
    test_cert_free(&other);
    pair_free(&p);
}

static void test_what_a_client_refuses(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    client_config(p, true, NULL);
    connect_pair(p, "c.example", 0);
    pump(p);
    assert_int_equal(p->client.step, ERR_TLS_VERIFY);
    assert_true(p->server.step < 0 || p->server.is_end);
    connect_pair(p, "x.b.example", 0);
    pump(p);
    assert_int_equal(p->client.step, STEP_DONE);
    connect_pair(p, "a.example.", 0); // the same name as without the dot
    pump(p);
    assert_int_equal(p->client.step, STEP_DONE);
    connect_pair(p, ".b.example", 0); // this is not "any name below it"
    pump(p);
    assert_int_equal(p->client.step, ERR_TLS_VERIFY);
    connect_pair(p, "127.0.0.1", 0); // no certificate for an address
    pump(p);
    assert_int_equal(p->client.step, ERR_TLS_VERIFY);
    assert_string_equal(p->sni, "");
    serves = expired;
    client_config(p, true, NULL);
    connect_pair(p, "a.example", 0);
    pump(p);
    assert_int_equal(p->client.step, ERR_TLS_VERIFY);
    client_config(p, false, NULL);
    connect_pair(p, "c.example", 0);
    pump(p);
    assert_int_equal(p->client.step, STEP_DONE);
    pair_free(&p);
}

static void test_unknown_name_is_refused(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    client_config(p, true, NULL);
    p->hello_verdict = TLS_UNRECOGNIZED_NAME;
    connect_pair(p, "a.example", 0);
    pump(p);
    assert_int_equal(p->server.step, ERR_TLS);
    assert_true(p->client.step < 0);
    assert_non_null(strstr(tls_failure(p->client.tls), "name"));
    pair_free(&p);
}

static void test_no_common_protocol(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    tls_context_unref(&p->server.context);
    struct tls_server_config config = {.tickets = &p->ring, .hooks = &hooks, .http1_only = true};
    assert_int_equal(tls_server_context_new(&p->server.context, &config), 0);
    client_config(p, true, NULL);
    connect_pair(p, "a.example", 1 << TLS_H2);
    pump(p);
    assert_int_equal(p->server.step, ERR_TLS);
    connect_pair(p, "a.example", 1 << TLS_H2 | 1 << TLS_HTTP1);
    pump(p);
    assert_int_equal(tls_protocol(p->client.tls), TLS_HTTP1);
    pair_free(&p);
}

static void test_garbage(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    client_config(p, true, NULL);
    connect_pair(p, "a.example", 0);
    assert_int_equal(write(p->client.io.fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
    bool is_drained;
    assert_int_equal(tls_handshake(p->server.tls, &is_drained), ERR_TLS);
    assert_string_equal(tls_failure(p->server.tls), "http request");
    connect_pair(p, "a.example", 0);
    assert_int_equal(write(p->client.io.fd, "\x16\x03\x01\x00\x04\x09\x00\x00\x00", 9), 9);
    assert_int_equal(tls_handshake(p->server.tls, &is_drained), ERR_TLS);
    unsigned char alert[7];
    assert_int_equal(recv(p->client.io.fd, alert, sizeof alert, 0), 7);
    assert_int_equal(alert[0], 0x15);
    assert_int_equal(alert[5], 2); // fatal
    assert_int_equal(tls_handshake(p->server.tls, &is_drained), ERR_TLS);
    // In the middle of it.
    connect_pair(p, "a.example", 0);
    pump(p);
    assert_int_equal(
        write(p->client.io.fd, "\x17\x03\x03\x00\x20garbage garbage garbage garbage ", 37), 37);
    step(p, &p->server);
    assert_true(p->server.is_end);
    assert_int_equal(p->server.end_errno, EPROTO);
    struct str wire;
    struct iovec iov = {.iov_base = (void *)(uintptr_t) "x", .iov_len = 1};
    assert_int_equal(tls_seal(p->server.tls, &iov, 1, 0, &wire), -1);
    pair_free(&p);
}

// What was read from the socket before TLS knew of it.
static void test_fed(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    client_config(p, true, NULL);
    connect_pair(p, "a.example", 0);
    bool is_drained;
    char hello[4096];
    (void)tls_handshake(p->client.tls, &is_drained);
    ssize_t n = recv(p->server.io.fd, hello, sizeof hello, 0);
    assert_true(n > 100);
    for (ssize_t i = 0; i < n; i++) {
        assert_int_equal(tls_handshake(p->server.tls, &is_drained), STEP_AGAIN);
        assert_int_equal(tls_feed(p->server.tls, str_make(hello + i, 1)), 0);
    }
    pump(p);
    assert_int_equal(p->server.step, STEP_DONE);
    pair_free(&p);
}

static void test_stores(void **state)
{
    (void)state;
    const char *why = NULL;
    assert_null(tls_store_from_pem(STR("nothing"), &why));
    assert_non_null(strstr(why, "no certificate"));
    assert_null(tls_store_from_pem(STR(""), &why));
    assert_null(tls_store_from_pem(
        STR("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), &why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshake_and_bytes),
        cmocka_unit_test(test_truncation_is_seen),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_bytes_behind_the_handshake),
        cmocka_unit_test(test_end_during_the_handshake),
        cmocka_unit_test(test_much_both_ways),
        cmocka_unit_test(test_small_records),
        cmocka_unit_test(test_end_behind_a_full_socket),
        cmocka_unit_test(test_moved),
        cmocka_unit_test(test_certificate_that_the_client_can_use),
        cmocka_unit_test(test_tickets),
        cmocka_unit_test(test_ticket_is_good_in_its_scope),
        cmocka_unit_test(test_client_certificate_is_required),
        cmocka_unit_test(test_client_certificate_is_replaced),
        cmocka_unit_test(test_ticket_of_a_certificate_that_ends),
        cmocka_unit_test(test_flood_of_key_updates),
        cmocka_unit_test(test_suspended),
        cmocka_unit_test(test_suspended_client),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_what_a_client_refuses),
        cmocka_unit_test(test_unknown_name_is_refused),
        cmocka_unit_test(test_no_common_protocol),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_fed),
        cmocka_unit_test(test_stores),
    };
    return cmocka_run_group_tests(tests, make_all, free_all);
}
