// SPDX-License-Identifier: MIT
// A TLS server and a TLS client of one loop, over a pair of sockets; bytes pass in chunks if wanted.
#pragma once
#include "net/tls_int.h"
#include "support/test_certs.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { PLAIN_MAX = 8 << 20 };

struct side {
    struct loop_io io;
    struct outq out;
    struct tls *tls;
    struct tls_context *context;
    int step; // of the handshake
    char *got;
    size_t got_len;
    bool is_end;
    int end_errno;
};

struct pair {
    struct loop loop;
    struct side server, client;
    struct tls_ticket_keys keys;
    struct tls_ticket_ring ring;
    struct x509_store_st *client_ca;
    bool asks, requires;
    unsigned hello_waits, certificate_waits, abandoned, hellos, certificates;
    int version;   // of new clients; 0: the best
    size_t chunk;  // bytes that pass at once between the two; 0: they have one socket pair
    int relays[2]; // far ends of the server's and the client's socket, with a chunk
    enum tls_verdict hello_verdict;
    struct tls_scope scope;
    char sni[256];
};

static struct test_cert *ca, *leaf, *rsa_leaf, *expired, *client_leaf;

static int make_all(void **state)
{
    (void)state;
    ca = test_ca("unit CA");
    leaf = test_leaf(ca, "a.example,*.b.example", TEST_KEY_EC, -1, 10);
    rsa_leaf = test_leaf(ca, "a.example", TEST_KEY_RSA, -1, 10);
    expired = test_leaf(ca, "a.example", TEST_KEY_EC, -10, -1);
    client_leaf = test_leaf(ca, "alice", TEST_KEY_EC, -1, 10);
    return 0;
}

static int free_all(void **state)
{
    (void)state;
    test_cert_free(&leaf);
    test_cert_free(&rsa_leaf);
    test_cert_free(&expired);
    test_cert_free(&client_leaf);
    test_cert_free(&ca);
    return 0;
}

static struct test_cert *serves, *serves_too; // by on_certificate; NULL: none

static enum tls_verdict on_hello(struct tls *tls, void *user)
{
    struct pair *p = user;
    p->hellos++;
    struct str sni = tls_sni(tls);
    str_copy(p->sni, sizeof p->sni, sni);
    if (p->hello_waits > 0) {
        p->hello_waits--;
        return TLS_WAIT;
    }
    tls_set_scope(tls, &p->scope);
    if (p->asks) {
        tls_ask_certificate(tls, p->client_ca, p->requires);
    }
    return p->hello_verdict;
}

static enum tls_verdict on_certificate(struct tls *tls, void *user)
{
    struct pair *p = user;
    p->certificates++;
    if (p->certificate_waits > 0) {
        p->certificate_waits--;
        return TLS_WAIT;
    }
    struct test_cert *certs[] = {serves, serves_too};
    for (unsigned i = 0; i < 2; i++) {
        if (certs[i] != NULL &&
            tls_add_certificate(tls, certs[i]->leaf, certs[i]->chain, certs[i]->key) != 0) {
            return TLS_REFUSE;
        }
    }
    return TLS_PROCEED;
}

static void on_abandoned(struct tls *tls, void *user)
{
    (void)tls;
    ((struct pair *)user)->abandoned++;
}

static unsigned client_waits; // how often the hook is to wait

static enum tls_verdict give_client(struct tls *tls, void *owner)
{
    const struct test_cert *cert = owner;
    if (client_waits > 0) {
        client_waits--;
        return TLS_WAIT;
    }
    return tls_add_certificate(tls, cert->leaf, cert->chain, cert->key) == 0 ? TLS_PROCEED
                                                                             : TLS_REFUSE;
}

static unsigned clients_abandoned;

static void on_client_abandoned(struct tls *tls, void *owner)
{
    (void)tls;
    assert_non_null(owner);
    clients_abandoned++;
}

static uint64_t client_certificate_number;

static uint64_t which_client(void *owner)
{
    assert_non_null(owner);
    return client_certificate_number;
}

static const struct tls_server_hooks hooks = {on_hello, on_certificate, on_abandoned};

static void on_flushed(struct loop *loop, struct outq *out)
{
    (void)loop;
    (void)out;
}

static void on_event(struct loop *loop, struct loop_io *io, uint32_t events)
{
    (void)loop;
    (void)io;
    (void)events;
}

static struct pair *pair_new(void)
{
    struct pair *p = calloc(1, sizeof *p);
    assert_int_equal(loop_init(&p->loop), 0);
    assert_int_equal(outq_pool_init(&p->loop), 0);
    assert_int_equal(tls_loop_init(&p->loop), 0);
    p->server.io.fd = p->client.io.fd = p->relays[0] = p->relays[1] = -1;
    p->server.got = malloc(PLAIN_MAX);
    p->client.got = malloc(PLAIN_MAX);
    p->keys.count = 1;
    memset(&p->keys.keys[0], 7, sizeof p->keys.keys[0]);
    p->ring.current = &p->keys;
    p->scope.certificates[0] = 1;
    serves = leaf;
    serves_too = NULL;
    struct tls_server_config config = {.tickets = &p->ring, .hooks = &hooks};
    assert_int_equal(tls_server_context_new(&p->server.context, &config), 0);
    const char *why;
    p->client_ca = tls_store_from_pem(str_from_c(ca->leaf_pem), &why);
    assert_non_null(p->client_ca);
    return p;
}

static void client_config(struct pair *p, bool verify, const struct test_cert *cert)
{
    tls_context_unref(&p->client.context);
    struct tls_client_config config = {.verify = verify, .store = p->client_ca};
    if (cert != NULL) {
        config.on_certificate = give_client;
        config.on_abandoned = on_client_abandoned;
        config.which_certificate = which_client;
        config.owner = (void *)(uintptr_t)cert;
    }
    assert_int_equal(tls_client_context_new(&p->client.context, &config), 0);
}

static void side_close(struct pair *p, struct side *side)
{
    if (side->io.fd >= 0) {
        outq_fini(&p->loop, &side->out);
        tls_free(&side->tls);
        close(side->io.fd);
        side->io.fd = -1;
    }
}

static void side_open(struct side *side, int fd)
{
    fcntl(fd, F_SETFL, O_NONBLOCK);
    side->io = (struct loop_io){.fd = fd, .on_event = on_event};
    outq_init(&side->out, &side->io, on_flushed);
    side->step = STEP_AGAIN;
    side->got_len = 0;
    side->is_end = false;
    side->end_errno = 0;
}

static void close_pair(struct pair *p)
{
    side_close(p, &p->server);
    side_close(p, &p->client);
    for (unsigned i = 0; i < 2; i++) {
        if (p->relays[i] >= 0) {
            close(p->relays[i]);
            p->relays[i] = -1;
        }
    }
}

static void connect_pair(struct pair *p, const char *name, unsigned alpn)
{
    int fds[2];
    close_pair(p);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    if (p->chunk > 0) {
        int other[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, other), 0);
        p->relays[0] = fds[1];
        p->relays[1] = other[0];
        fds[1] = other[1];
    }
    side_open(&p->server, fds[0]);
    side_open(&p->client, fds[1]);
    p->server.tls = tls_new_server(&p->loop, p->server.context, &p->server.io, &p->server.out, p);
    p->client.tls = tls_new_client(&p->loop, p->client.context, &p->client.io, &p->client.out,
                                   str_from_c(name), alpn, p);
    assert_non_null(p->server.tls);
    assert_non_null(p->client.tls);
    if (p->version != 0) {
        SSL_set_max_proto_version(p->client.tls->ssl, p->version);
    }
}

static void pair_free(struct pair **place)
{
    struct pair *p = *place;
    close_pair(p);
    tls_context_unref(&p->server.context);
    tls_context_unref(&p->client.context);
    tls_store_free(p->client_ca);
    tls_loop_fini(&p->loop);
    outq_pool_fini(&p->loop);
    loop_fini(&p->loop);
    free(p->server.got);
    free(p->client.got);
    free(p);
    *place = NULL;
}

// One round of a side: handshake or reading, and what is queued goes out.
static void step(struct pair *p, struct side *side)
{
    bool is_drained;
    tls_resume(side->tls);
    if (side->step == STEP_AGAIN) {
        side->step = tls_handshake(side->tls, &is_drained);
    }
    for (int i = 0; side->step == STEP_DONE && !side->is_end && i < 1000; i++) {
        char *buf = malloc(LOOP_READ_LEN);
        ssize_t n = tls_recv(side->tls, buf, LOOP_READ_LEN, &is_drained);
        if (n > 0) {
            assert_true(side->got_len + (size_t)n <= PLAIN_MAX);
            memcpy(side->got + side->got_len, buf, (size_t)n);
            side->got_len += (size_t)n;
        } else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
            side->is_end = true;
            side->end_errno = n == 0 ? 0 : errno;
        }
        free(buf);
        if (is_drained) {
            break;
        }
    }
    if (side->out.blocked) {
        side->out.blocked = false;
        outq_flush(&p->loop, &side->out);
    }
    outq_flush_all(&p->loop);
}

static bool pass(struct pair *p, int from, int to)
{
    char buf[4096];
    ssize_t n = recv(p->relays[from], buf, p->chunk, MSG_DONTWAIT);
    if (n == 0) {
        shutdown(p->relays[to], SHUT_WR);
    }
    return n > 0 && write(p->relays[to], buf, (size_t)n) == n;
}

static void pump(struct pair *p)
{
    for (int i = 0; i < 50; i++) {
        step(p, &p->client);
        step(p, &p->server);
        while (p->chunk > 0 && (pass(p, 0, 1) || pass(p, 1, 0))) {
            step(p, &p->client);
            step(p, &p->server);
        }
    }
}

static void say(struct pair *p, struct side *side, struct str text)
{
    outq_put_view(&p->loop, &side->out, text);
    outq_flush_all(&p->loop);
}

static bool heard(const struct side *side, const char *text)
{
    return str_eq(str_make(side->got, side->got_len), str_from_c(text));
}
