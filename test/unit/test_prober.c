// SPDX-License-Identifier: MIT
#include "base/clock.h"
#include "h2_origin.h"
#include "net/tls.h"
#include "probe_peer.h"
#include "support/test_certs.h"
#include "upstream/prober.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct status_range good_range = {200, 399};

struct seen {
    unsigned count;
    struct probe_result last;
    struct probe *probe;
    bool ends; // the probe, at the first result
};

static void on_result(void *context, const struct probe_result *result)
{
    struct seen *seen = context;
    seen->count++;
    seen->last = *result;
    if (seen->ends) {
        probe_end(&seen->probe);
    }
}

struct fixture {
    struct loop control;
    struct prober *prober;
};

static void begin(struct fixture *f, unsigned max)
{
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(loop_init(&f->control), 0);
    assert_int_equal(prober_new(&f->prober, max), 0);
    assert_int_equal(prober_start(f->prober, &f->control), 0);
}

static void end(struct fixture *f)
{
    prober_stop(f->prober);
    loop_empty_mailbox(&f->control);
    prober_free(&f->prober);
    loop_empty_mailbox(&f->control);
    loop_fini(&f->control);
}

static void turn_until(struct fixture *f, const unsigned *count, unsigned wanted)
{
    uint64_t until = clock_monotonic_ns() + 60 * NS_PER_SEC;
    while (*count < wanted && clock_monotonic_ns() < until) {
        loop_turn(&f->control, 5);
    }
    assert_true(*count >= wanted);
}

// Waits for a peer.
#define WAIT_PEER(condition)                                        \
    do {                                                            \
        uint64_t until_ns = clock_monotonic_ns() + 60 * NS_PER_SEC; \
        while (!(condition) && clock_monotonic_ns() < until_ns) {   \
            usleep(1000);                                           \
        }                                                           \
        assert_true(condition);                                     \
    } while (0)

static void turn_for(struct fixture *f, uint64_t ms)
{
    uint64_t until = clock_monotonic_ns() + ms * NS_PER_MS;
    while (clock_monotonic_ns() < until) {
        loop_turn(&f->control, 5);
    }
}

static struct probe_spec spec_of(const struct peer *peer)
{
    return (struct probe_spec){
        .type = HEALTH_HTTP,
        .address = peer->address,
        .address_len = peer->address_len,
        .protocol = HTTP_CLIENT_AUTO,
        .host = STR("shop.example"),
        .path = STR("/health?deep=1"),
        .statuses = &good_range,
        .status_count = 1,
        .interval_ms = 60000,
        .timeout_ms = 5000,
        .server_name = STR("shop.example"),
    };
}

static void probe(struct fixture *f, const struct probe_spec *spec, struct seen *seen)
{
    seen->probe = probe_begin(f->prober, spec, on_result, seen);
    assert_non_null(seen->probe);
}

// One result.
static struct probe_result check_once(struct fixture *f, const struct probe_spec *spec)
{
    struct seen seen = {0};
    probe(f, spec, &seen);
    turn_until(f, &seen.count, 1);
    probe_end(&seen.probe);
    assert_null(seen.probe);
    return seen.last;
}

static struct probe_result check_answer(struct fixture *f, const char *answer, const char *body)
{
    struct peer peer = {.answer = answer};
    peer_begin(&peer);
    struct probe_spec spec = spec_of(&peer);
    spec.body = str_from_c(body);
    struct probe_result result = check_once(f, &spec);
    peer_end(&peer);
    return result;
}

#define HEAD "HTTP/1.1 200 OK\r\nContent-Length: "

static void test_verdicts(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        const char *body;
        const char *reason; // "ok": good
        unsigned status;
    } cases[] = {
        {HEAD "2\r\n\r\nok", NULL, "ok", 200},
        {"HTTP/1.0 204 No Content\r\n\r\n", NULL, "ok", 204},
        {"HTTP/1.1 103 Early Hints\r\n\r\n" HEAD "0\r\n\r\n", NULL, "ok", 200},
        {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", NULL, "status 503", 503},
        {"HTTP/1.1 400 Bad Request\r\n\r\nno", "no", "status 400", 400},
        {HEAD "8\r\n\r\nis ready", "ready", "ok", 200},
        {HEAD "8\r\n\r\nis r|ea|dy", "ready", "ok", 200},
        {HEAD "12\r\n\r\naa|aa|ab aa|c", "aaaab", "ok", 200},
        {HEAD "4\r\n\r\nabab", "abb", "body not found", 200},
        {HEAD "0\r\n\r\n", "ready", "body not found", 200},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nre\r\n|3\r\nady\r\n0\r\n\r\n",
         "ready", "ok", 200},
        {HEAD "100\r\n\r\nready", "ready", "ok", 200}, // found before it was cut
        {HEAD "100\r\n\r\nis", "ready", "closed before the answer's end", 200},
        {HEAD "100\r\n\r\nis", NULL, "ok", 200},
        {"", NULL, "closed before an answer", 0},
        {"HTTP/1.1 200", NULL, "closed before an answer", 0},
        {"SSH-2.0-OpenSSH_9.2\r\n\r\n", NULL, "malformed answer", 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", NULL, "malformed answer", 0},
        {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", NULL,
         "malformed answer", 101},
    };
    struct fixture f;
    uint64_t checks;
    uint64_t failures;
    unsigned bad = 0;
    begin(&f, 10);
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct probe_result result = check_answer(&f, cases[i].answer, cases[i].body);
        assert_string_equal(result.reason, cases[i].reason);
        assert_int_equal(result.is_good, strcmp(cases[i].reason, "ok") == 0);
        assert_int_equal(result.status, cases[i].status);
        assert_int_equal(result.says_weight, -1);
        assert_false(result.says_drain);
        assert_true(result.ns > 0 && result.ns < 10 * NS_PER_SEC);
        bad += !result.is_good;
        prober_counts(f.prober, &checks, &failures);
        assert_int_equal(checks, i + 1);
        assert_int_equal(failures, bad);
    }
    end(&f);
}

static void test_words(void **state)
{
    (void)state;
    static const struct {
        const char *fields;
        int weight;
        bool drains;
    } cases[] = {
        {"Pointsman-Target: weight=5\r\n", 5, false},
        {"pointsman-target: DRAIN\r\n", -1, true},
        {"Pointsman-Target: weight=0, drain\r\n", 0, true},
        {"Pointsman-Target: drain, up\r\n", -1, false},
        {"Pointsman-Target: drain\r\nPointsman-Target: weight=65535\r\n", 65535, true},
        {"Pointsman-Target: weight=65536\r\n", -1, false},
        {"Pointsman-Target: weight=-1, weight=, draining\r\n", -1, false},
        {"Pointsman-Targets: drain\r\n", -1, false},
    };
    struct fixture f;
    begin(&f, 10);
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char answer[256];
        snprintf(answer, sizeof answer, "HTTP/1.1 %u OK\r\n%sContent-Length: 0\r\n\r\n",
                 i % 2 == 0 ? 200u : 500u, cases[i].fields);
        struct probe_result result = check_answer(&f, answer, NULL);
        assert_int_equal(result.says_weight, cases[i].weight);
        assert_int_equal(result.says_drain, cases[i].drains);
        assert_int_equal(result.is_good, i % 2 == 0); // the word is told either way
    }
    end(&f);
}

static void test_a_body_is_looked_at_up_to_a_bound(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 10);
    for (int is_inside = 0; is_inside <= 1; is_inside++) {
        size_t ahead = PROBE_BODY_MAX - (is_inside ? 5 : 4);
        char *answer = calloc(1, PROBE_BODY_MAX + 256);
        int len = snprintf(answer, 256, HEAD "%zu\r\n\r\n", ahead + 50);
        memset(answer + len, '.', ahead + 50);
        memcpy(answer + (size_t)len + ahead, "ready", 5);
        struct probe_result result = check_answer(&f, answer, "ready");
        assert_int_equal(result.is_good, is_inside);
        assert_string_equal(result.reason, is_inside ? "ok" : "body not found");
        free(answer);
    }
    // One without an end is bounded too.
    struct peer peer = {.answer = "HTTP/1.1 200 OK\r\n\r\n................|", .is_endless = true};
    peer_begin(&peer);
    struct probe_spec spec = spec_of(&peer);
    // The status was good in time; a machine that stands still just then is given more of it.
    for (unsigned i = 0; i < 2; i++) {
        struct probe_result result = {.reason = "no answer"};
        for (spec.timeout_ms = 100;
             str_starts(str_from_c(result.reason), STR("no answer")) && spec.timeout_ms < 60000;
             spec.timeout_ms *= 4) {
            result = check_once(&f, &spec);
        }
        char wanted[64];
        snprintf(wanted, sizeof wanted, "no end of the answer in %u ms", spec.timeout_ms / 4);
        assert_string_equal(result.reason, i == 0 ? "ok" : wanted);
        assert_int_equal(result.is_good, i == 0);
        spec.body = STR("ready");
    }
    peer_end(&peer);
    end(&f);
}

static void test_the_request(void **state)
{
    (void)state;
    static const char *const preambles[] = {"", "PROXY UNKNOWN\r\n",
                                            "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"};
    static const unsigned lens[] = {0, 15, 16};
    struct fixture f;
    begin(&f, 10);
    for (unsigned i = 0; i < 2; i++) { // (the peer takes version 2 for a whole request)
        struct peer peer = {.answer = HEAD "0\r\n\r\n"};
        char wanted[512];
        snprintf(wanted, sizeof wanted,
                 "%.*sGET /health?deep=1 HTTP/1.1\r\nHost: shop.example\r\n"
                 "User-Agent: pointsman-health/%s\r\nAccept: */*\r\n\r\n",
                 (int)lens[i], preambles[i], POINTSMAN_VERSION);
        peer_begin(&peer);
        struct probe_spec spec = spec_of(&peer);
        spec.send_proxy = (uint8_t)i;
        assert_true(check_once(&f, &spec).is_good);
        peer_end(&peer);
        assert_string_equal(peer.request, wanted);
    }
    struct peer peer = {0};
    struct seen seen = {0};
    peer_begin(&peer);
    struct probe_spec spec = spec_of(&peer);
    spec.send_proxy = SEND_PROXY_V2;
    spec.timeout_ms = 200;
    probe(&f, &spec, &seen);
    turn_until(&f, &seen.count, 1);
    probe_end(&seen.probe);
    WAIT_PEER(peer_got(&peer, lens[2] + 11));
    peer_end(&peer);
    assert_memory_equal(peer.request, preambles[2], lens[2]);
    assert_memory_equal(peer.request + lens[2], "GET /health", 11);
    end(&f);
}

static void test_targets_that_do_not_answer(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 10);
    struct peer peer = {0};
    peer_begin(&peer);
    struct probe_spec spec = spec_of(&peer);
    spec.timeout_ms = 120;
    struct probe_result result = check_once(&f, &spec);
    assert_string_equal(result.reason, "no answer in 120 ms");
    assert_true(result.ns >= 120 * NS_PER_MS);
    peer_end(&peer);

    struct peer closing = {.closes = true};
    peer_begin(&closing);
    spec = spec_of(&closing);
    assert_string_equal(check_once(&f, &spec).reason, "closed before an answer");
    peer_end(&closing);
    assert_string_equal(check_once(&f, &spec).reason, "connect: refused"); // nobody listens now
    spec.type = HEALTH_TCP;
    assert_string_equal(check_once(&f, &spec).reason, "connect: refused");

    struct peer resetting = {.resets = true};
    peer_begin(&resetting);
    spec = spec_of(&resetting);
    assert_string_equal(check_once(&f, &spec).reason, "closed before an answer");
    peer_end(&resetting);

    struct sockaddr_un *un = (struct sockaddr_un *)&spec.address;
    *un = (struct sockaddr_un){.sun_family = AF_UNIX, .sun_path = "/nowhere/socket"};
    spec.address_len = sizeof *un;
    assert_string_equal(check_once(&f, &spec).reason, "connect: no such socket");
    end(&f);
}

// Its queue of connections is full: nobody answers to SYN.
static void test_a_connect_that_takes_too_long(void **state)
{
    (void)state;
    struct fixture f;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fds[8];
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listening, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listening, 0), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &len), 0);
    for (unsigned i = 0; i < 8; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(fds[i], (struct sockaddr *)&address, sizeof address);
    }
    begin(&f, 10);
    struct peer peer = {0};
    memcpy(&peer.address, &address, sizeof address);
    peer.address_len = sizeof address;
    struct probe_spec spec = spec_of(&peer);
    spec.timeout_ms = 150;
    assert_string_equal(check_once(&f, &spec).reason, "connect: timeout");
    const struct tls_client_config config = {.verify = false};
    assert_int_equal(tls_client_context_new(&spec.tls, &config), 0);
    assert_string_equal(check_once(&f, &spec).reason, "connect: timeout");
    tls_context_unref(&spec.tls);
    end(&f);
    for (unsigned i = 0; i < 8; i++) {
        close(fds[i]);
    }
    close(listening);
}

static void test_tcp_and_unix(void **state)
{
    (void)state;
    struct fixture f;
    char path[64];
    snprintf(path, sizeof path, "/tmp/pointsman-prober-%d", (int)getpid());
    unlink(path);
    begin(&f, 10);
    struct peer peer = {0};
    peer_begin(&peer);
    struct probe_spec spec = spec_of(&peer);
    spec.type = HEALTH_TCP;
    spec.protocol = HTTP_CLIENT_H2; // not a byte of it is sent
    struct probe_result result = check_once(&f, &spec);
    assert_true(result.is_good);
    assert_int_equal(result.status, 0);
    turn_for(&f, 30);
    peer_end(&peer);
    assert_string_equal(peer.request, "");
    struct peer local = {.answer = HEAD "0\r\n\r\n", .unix_path = path};
    peer_begin(&local);
    spec = spec_of(&local);
    assert_true(check_once(&f, &spec).is_good);
    peer_end(&local);
    unlink(path);
    end(&f);
}

// ---- TLS ----

struct secure {
    struct test_cert *ca;
    struct test_cert *leaf;
    SSL_CTX *server;
    X509_STORE *store;
    struct tls_context *context;
    // of a client certificate
    struct test_cert *client;
    struct loop *loop;
    struct tls *waiting;
    struct loop_message loaded_message;
    pthread_t loader;
    bool is_loaded;
    unsigned abandoned;
};

static void on_loaded(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct secure *s = CONTAINER_OF(message, struct secure, loaded_message);
    s->is_loaded = true;
    if (s->waiting != NULL) {
        tls_resume(s->waiting);
    }
}

static void *load_later(void *argument)
{
    struct secure *s = argument;
    usleep(20000);
    loop_post(s->loop, &s->loaded_message);
    return NULL;
}

// As the certificate thread does it: it is not there at first.
static enum tls_verdict give_client(struct tls *tls, void *owner)
{
    struct secure *s = owner;
    if (!s->is_loaded) {
        s->waiting = tls;
        s->loop = tls_loop(tls);
        s->loaded_message.run = on_loaded;
        assert_int_equal(pthread_create(&s->loader, NULL, load_later, s), 0);
        return TLS_WAIT;
    }
    return tls_add_certificate(tls, s->client->leaf, s->client->chain, s->client->key) == 0
               ? TLS_PROCEED
               : TLS_REFUSE;
}

static void on_abandoned(struct tls *tls, void *owner)
{
    (void)tls;
    struct secure *s = owner;
    s->waiting = NULL;
    s->abandoned++;
}

static void secure_begin(struct secure *s, const char *names, int begin_days, int end_days)
{
    *s = (struct secure){0};
    s->ca = test_ca("Test CA");
    s->leaf = test_leaf(s->ca, names, TEST_KEY_EC, begin_days, end_days);
    s->client = test_leaf(s->ca, "client.example", TEST_KEY_EC, -1, 30);
    s->server = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(s->server, s->leaf->leaf), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(s->server, s->leaf->key), 1);
    s->store = X509_STORE_new();
    assert_int_equal(X509_STORE_add_cert(s->store, s->ca->leaf), 1);
    X509_STORE_up_ref(s->store);
    SSL_CTX_set_cert_store(s->server, s->store);
}

static void secure_context(struct secure *s, bool shows_client)
{
    const struct tls_client_config config = {
        .verify = true,
        .store = s->store,
        .on_certificate = shows_client ? give_client : NULL,
        .on_abandoned = on_abandoned,
        .owner = s,
    };
    assert_int_equal(tls_client_context_new(&s->context, &config), 0);
}

static void secure_end(struct secure *s)
{
    tls_context_unref(&s->context);
    SSL_CTX_free(s->server);
    X509_STORE_free(s->store);
    test_cert_free(&s->leaf);
    test_cert_free(&s->client);
    test_cert_free(&s->ca);
}

static struct probe_result check_tls(struct fixture *f, struct secure *s, enum health_type type)
{
    struct peer peer = {.answer = HEAD "2\r\n\r\nok", .tls = s->server};
    peer_begin(&peer);
    struct probe_spec spec = spec_of(&peer);
    spec.type = type;
    spec.tls = s->context;
    struct probe_result result = check_once(f, &spec);
    peer_end(&peer);
    return result;
}

static void test_tls(void **state)
{
    (void)state;
    static const struct {
        const char *names;
        int begin_days, end_days;
        const char *reason;
    } cases[] = {
        {"shop.example", -1, 30, "ok"},
        {"shop.example", -30, -1, "TLS: certificate has expired"},
        {"shop.example", 1, 30, "TLS: certificate is not yet valid"},
        {"other.example", -1, 30, "TLS: hostname mismatch"},
    };
    struct fixture f;
    begin(&f, 10);
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct secure s;
        secure_begin(&s, cases[i].names, cases[i].begin_days, cases[i].end_days);
        secure_context(&s, false);
        assert_string_equal(check_tls(&f, &s, HEALTH_HTTP).reason, cases[i].reason);
        assert_string_equal(check_tls(&f, &s, HEALTH_TCP).reason, cases[i].reason);
        secure_end(&s);
    }
    // Another authority.
    struct secure s;
    secure_begin(&s, "shop.example", -1, 30);
    X509_STORE *server_store = s.store;
    s.store = X509_STORE_new();
    secure_context(&s, false);
    assert_string_equal(check_tls(&f, &s, HEALTH_HTTP).reason,
                        "TLS: self-signed certificate in certificate chain");
    X509_STORE_free(s.store);
    s.store = server_store;
    // Who speaks no TLS at all.
    struct peer plain = {.answer = "HTTP/1.1 400 Bad Request\r\n\r\n"};
    peer_begin(&plain);
    struct probe_spec spec = spec_of(&plain);
    spec.tls = s.context;
    spec.timeout_ms = 200;
    struct probe_result result = check_once(&f, &spec);
    assert_false(result.is_good);
    assert_string_equal(result.reason, "TLS: timeout");
    peer_end(&plain);
    secure_end(&s);
    end(&f);
}

static void test_client_certificates(void **state)
{
    (void)state;
    for (int is_shown = 0; is_shown <= 1; is_shown++) {
        struct fixture f;
        struct secure s;
        begin(&f, 10);
        secure_begin(&s, "shop.example", -1, 30);
        SSL_CTX_set_verify(s.server, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        secure_context(&s, is_shown == 1);
        struct probe_result result = check_tls(&f, &s, HEALTH_HTTP);
        assert_int_equal(result.is_good, is_shown);
        if (is_shown == 1) {
            assert_string_equal(result.reason, "ok");
            pthread_join(s.loader, NULL);
        } else {
            // With TLS 1.3 the target says so only after the handshake.
            assert_string_equal(result.reason, "TLS: tlsv13 alert certificate required");
        }
        end(&f);
        assert_int_equal(s.abandoned, 0);
        secure_end(&s);
    }
}

// The prober ends while a handshake waits for its certificate, which comes after that.
static void test_end_while_a_certificate_is_loaded(void **state)
{
    (void)state;
    struct fixture f;
    struct secure s;
    struct seen seen = {0};
    begin(&f, 10);
    secure_begin(&s, "shop.example", -1, 30);
    SSL_CTX_set_verify(s.server, SSL_VERIFY_PEER, NULL);
    secure_context(&s, true);
    struct peer peer = {.answer = HEAD "0\r\n\r\n", .tls = s.server};
    peer_begin(&peer);
    struct probe_spec spec = spec_of(&peer);
    spec.tls = s.context;
    probe(&f, &spec, &seen);
    WAIT_PEER(atomic_load(&peer.accepted) > 0);
    usleep(10000);
    prober_stop(f.prober);
    assert_int_equal(seen.count, 0);
    if (s.loop != NULL) { // it was in time
        pthread_join(s.loader, NULL);
    }
    probe_end(&seen.probe);
    end(&f);
    peer_end(&peer);
    secure_end(&s);
}

static void test_http2(void **state)
{
    (void)state;
    struct fixture f;
    struct secure s;
    begin(&f, 10);
    secure_begin(&s, "shop.example", -1, 30);
    secure_context(&s, false);
    for (int is_tls = 0; is_tls <= 1; is_tls++) {
        struct origin origin = {0};
        struct seen seen = {0};
        origin_listen(&origin);
        if (is_tls == 1) {
            origin_use_tls(&origin, s.leaf->leaf, s.leaf->key);
        }
        struct peer peer = {0};
        memcpy(&peer.address, &origin.address, sizeof origin.address);
        peer.address_len = sizeof(struct sockaddr_in);
        struct probe_spec spec = spec_of(&peer);
        spec.protocol = is_tls == 1 ? HTTP_CLIENT_AUTO : HTTP_CLIENT_H2;
        spec.path = STR("/ok");
        spec.tls = is_tls == 1 ? s.context : NULL;
        probe(&f, &spec, &seen);
        uint64_t until = clock_monotonic_ns() + 60 * NS_PER_SEC;
        while (seen.count == 0 && clock_monotonic_ns() < until) {
            origin_poll(&origin);
            loop_turn(&f.control, 1);
        }
        assert_string_equal(seen.last.reason, "ok");
        assert_int_equal(seen.last.status, 200);
        probe_end(&seen.probe);
        origin_fini(&origin);
    }
    secure_end(&s);
    end(&f);
}

// ---- when ----

static void test_intervals(void **state)
{
    (void)state;
    enum { COUNT = 24, INTERVAL_MS = 50 };
    struct fixture f;
    struct seen seen = {0};
    struct peer peer = {.answer = HEAD "0\r\n\r\n"};
    begin(&f, 10);
    peer_begin(&peer);
    struct probe_spec spec = spec_of(&peer);
    spec.interval_ms = 3600000;
    probe(&f, &spec, &seen);
    turn_until(&f, &seen.count, 1); // the first one at once
    probe_end(&seen.probe);
    spec.interval_ms = INTERVAL_MS;
    seen.count = 0;
    uint64_t since_ms = peer_now_ms();
    probe(&f, &spec, &seen);
    turn_until(&f, &seen.count, COUNT);
    probe_end(&seen.probe);
    spec.is_once = true;
    assert_true(check_once(&f, &spec).is_good); // behind it: the prober knows that it has ended
    unsigned accepted = atomic_load(&peer.accepted);
    turn_for(&f, 3 * INTERVAL_MS);
    assert_int_equal(atomic_load(&peer.accepted), accepted); // never again
    peer_end(&peer);
    end(&f);
    uint64_t least = UINT64_MAX;
    uint64_t most = 0;
    const uint64_t *times_ms = peer.times_ms + 1;
    for (unsigned i = 1; i < COUNT; i++) {
        uint64_t gap = times_ms[i] - times_ms[i - 1];
        least = gap < least ? gap : least;
        most = gap > most ? gap : most;
        // What is seen is seen late, so from one to the next it may be less.
        assert_true(times_ms[i] - since_ms + 1 >= i * (INTERVAL_MS - INTERVAL_MS / 10));
    }
    assert_true(most > least);
    assert_true(least <= 2 * INTERVAL_MS);
}

// A target that is slower than the interval has one check at a time.
static void test_one_check_at_a_time(void **state)
{
    (void)state;
    struct fixture f;
    struct seen seen = {0};
    struct peer peer = {.answer = HEAD "0\r\n\r\n", .delay_ms = 60};
    begin(&f, 10);
    peer_begin(&peer);
    struct probe_spec spec = spec_of(&peer);
    spec.interval_ms = 10;
    probe(&f, &spec, &seen);
    turn_until(&f, &seen.count, 4);
    probe_end(&seen.probe);
    peer_end(&peer);
    assert_int_equal(atomic_load(&peer.open_max), 1);
    end(&f);
}

static void test_many_probes(void **state)
{
    (void)state;
    enum { COUNT = 200, MAX = 10 };
    struct fixture f;
    struct seen *seen = calloc(COUNT, sizeof *seen);
    struct peer peer = {.answer = HEAD "0\r\n\r\n", .delay_ms = 10};
    begin(&f, MAX);
    peer_begin(&peer);
    struct probe_spec spec = spec_of(&peer);
    spec.interval_ms = 500;
    spec.is_once = true;
    for (unsigned i = 0; i < COUNT; i++) {
        probe(&f, &spec, &seen[i]);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        turn_until(&f, &seen[i].count, 1);
        assert_true(seen[i].last.is_good);
    }
    turn_for(&f, 100);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(seen[i].count, 1); // once
        probe_end(&seen[i].probe);
    }
    peer_end(&peer);
    // The peer sees the end of a connection a moment after the prober.
    assert_in_range(atomic_load(&peer.open_max), 2, 2 * MAX);
    assert_int_equal(atomic_load(&peer.accepted), COUNT);
    end(&f);
    free(seen);
}

// ---- changes ----

static void test_change(void **state)
{
    (void)state;
    struct fixture f;
    struct seen seen = {0};
    struct peer silent = {0};
    struct peer good = {.answer = HEAD "0\r\n\r\n"};
    begin(&f, 1); // the place of the old check is free again
    peer_begin(&silent);
    peer_begin(&good);
    struct probe_spec spec = spec_of(&silent);
    struct probe_spec other = spec_of(&good);
    probe(&f, &spec, &seen);
    WAIT_PEER(atomic_load(&silent.accepted) == 1);
    assert_int_equal(probe_change(seen.probe, &other), 0);
    turn_until(&f, &seen.count, 1);
    assert_true(seen.last.is_good);
    turn_for(&f, 40);
    assert_int_equal(seen.count, 1);
    WAIT_PEER(atomic_load(&silent.open) == 0); // given up
    assert_int_equal(atomic_load(&silent.accepted), 1);
    probe_end(&seen.probe);
    peer_end(&silent);
    peer_end(&good);
    end(&f);
}

// A result that is on its way when its spec is replaced, or its probe ended, does not come.
static void test_late_results(void **state)
{
    (void)state;
    struct fixture f;
    struct peer peer = {.answer = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"};
    struct peer good = {.answer = HEAD "0\r\n\r\n"};
    begin(&f, 10);
    peer_begin(&peer);
    peer_begin(&good);
    for (int ends = 0; ends <= 1; ends++) {
        struct seen seen = {0};
        struct probe_spec spec = spec_of(&peer);
        struct probe_spec other = spec_of(&good);
        uint64_t checks = 0;
        uint64_t before;
        uint64_t failures;
        prober_counts(f.prober, &before, &failures);
        probe(&f, &spec, &seen);
        WAIT_PEER(loop_has_messages(&f.control)); // the result
        prober_counts(f.prober, &checks, &failures);
        assert_int_equal(checks, before + 1);
        if (ends == 1) {
            probe_end(&seen.probe);
            turn_for(&f, 30);
            assert_int_equal(seen.count, 0);
        } else {
            assert_int_equal(probe_change(seen.probe, &other), 0);
            turn_until(&f, &seen.count, 1);
            assert_true(seen.last.is_good);
            probe_end(&seen.probe);
        }
    }
    struct seen ending = {.ends = true};
    struct probe_spec spec = spec_of(&peer);
    spec.interval_ms = 20;
    probe(&f, &spec, &ending);
    turn_until(&f, &ending.count, 1);
    turn_for(&f, 60);
    assert_int_equal(ending.count, 1);
    assert_null(ending.probe);
    peer_end(&peer);
    peer_end(&good);
    end(&f);
}

static void test_ends(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 24; i++) {
        struct fixture f;
        struct seen seen[4] = {0};
        struct peer peer = {.answer = i % 3 == 0 ? NULL : HEAD "0\r\n\r\n"};
        begin(&f, 2);
        peer_begin(&peer);
        struct probe_spec spec = spec_of(&peer);
        spec.interval_ms = 10;
        spec.protocol = i % 6 == 0 ? HTTP_CLIENT_H2 : HTTP_CLIENT_AUTO; // no SETTINGS come
        for (unsigned k = 0; k < 4; k++) {
            probe(&f, &spec, &seen[k]);
        }
        if (i % 2 == 0) {
            usleep(i * 1000);
        }
        if (i % 4 < 2) {
            prober_stop(f.prober); // before its probes end
            if (i % 4 == 1) {
                assert_int_equal(probe_change(seen[0].probe, &spec), 0);
            }
        }
        for (unsigned k = 0; k < 4; k++) {
            probe_end(&seen[k].probe);
        }
        end(&f);
        WAIT_PEER(atomic_load(&peer.open) == 0);
        peer_end(&peer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_a_body_is_looked_at_up_to_a_bound),
        cmocka_unit_test(test_the_request),
        cmocka_unit_test(test_targets_that_do_not_answer),
        cmocka_unit_test(test_a_connect_that_takes_too_long),
        cmocka_unit_test(test_tcp_and_unix),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_client_certificates),
        cmocka_unit_test(test_end_while_a_certificate_is_loaded),
        cmocka_unit_test(test_http2),
        cmocka_unit_test(test_intervals),
        cmocka_unit_test(test_one_check_at_a_time),
        cmocka_unit_test(test_many_probes),
        cmocka_unit_test(test_change),
        cmocka_unit_test(test_late_results),
        cmocka_unit_test(test_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
