// SPDX-License-Identifier: MIT
// A server whose connections begin with PROXY headers and TLS. What it is asked and told is written down
// with what its user is told: "hello a.example;handshake ok;GET /;sent;".
#pragma once
#include "h1_server_fixture.h"
#include "support/test_certs.h"
#include "tls_peer.h"

struct opening {
    struct fixture f; // first
    struct tls_context *context;
    struct tls *suspended; // the latest that waits
    unsigned hello_waits;
    unsigned certificate_waits;
    unsigned hellos; // handshakes that began
    unsigned abandoned;
    unsigned may_be_plain_asked;
    bool refuses_plain;
    bool untrusted;
    bool pause_raw;
    char version[8];
    char sni[256];
};

static struct test_cert *opening_ca, *opening_leaf;

static inline int opening_make_certs(void **state)
{
    (void)state;
    opening_ca = test_ca("unit CA");
    opening_leaf = test_leaf(opening_ca, "a.example", TEST_KEY_EC, -1, 10);
    return 0;
}

static inline int opening_free_certs(void **state)
{
    (void)state;
    test_cert_free(&opening_leaf);
    test_cert_free(&opening_ca);
    return 0;
}

static inline struct opening *opening_at(struct tls *tls)
{
    return tls_loop(tls)->owner;
}

static inline enum tls_verdict opening_tls_hello(struct tls *tls, void *user)
{
    (void)user;
    struct opening *o = opening_at(tls);
    str_copy(o->sni, sizeof o->sni, tls_sni(tls));
    if (o->hello_waits > 0) {
        o->hello_waits--;
        o->suspended = tls;
        return TLS_WAIT;
    }
    o->hellos++;
    return TLS_PROCEED;
}

static inline enum tls_verdict opening_tls_certificate(struct tls *tls, void *user)
{
    (void)user;
    struct opening *o = opening_at(tls);
    if (o->certificate_waits > 0) {
        o->certificate_waits--;
        o->suspended = tls;
        return TLS_WAIT;
    }
    return tls_add_certificate(tls, opening_leaf->leaf, opening_leaf->chain, opening_leaf->key) == 0
               ? TLS_PROCEED
               : TLS_REFUSE;
}

static inline void opening_tls_abandoned(struct tls *tls, void *user)
{
    (void)user;
    opening_at(tls)->abandoned++;
    opening_at(tls)->suspended = NULL;
}

static const struct tls_server_hooks opening_hooks = {opening_tls_hello, opening_tls_certificate,
                                                      opening_tls_abandoned};

static inline struct opening *opening_of_server(struct http_server *server)
{
    return (struct opening *)CONTAINER_OF(server, struct fixture, server);
}

static inline bool opening_is_trusted(struct http_server *server, const struct in6_addr *peer)
{
    (void)peer;
    return !opening_of_server(server)->untrusted;
}

static inline enum http_hello opening_on_hello(struct http_server *server, struct str sni)
{
    buf_printf(&opening_of_server(server)->f.told, "hello %.*s;", STR_ARG(sni));
    return str_starts(sni, STR("raw.")) ? HTTP_HELLO_RAW : HTTP_HELLO_TLS;
}

static inline void opening_on_raw(struct http_server *server, struct http_stream *stream,
                                  struct str sni)
{
    struct opening *o = opening_of_server(server);
    stream->events = &user_events;
    stream->user = &o->f;
    o->f.stream = stream;
    o->f.open_count++;
    buf_printf(&o->f.told, "raw %.*s;", STR_ARG(sni));
    if (o->pause_raw) {
        stream->ops->pause(stream);
    }
}

static inline bool opening_may_be_plain(struct http_server *server, const struct in6_addr *peer)
{
    (void)peer;
    struct opening *o = opening_of_server(server);
    o->may_be_plain_asked++;
    return !o->refuses_plain;
}

static inline void opening_on_handshake(struct http_server *server, struct tls *tls, int err)
{
    struct opening *o = opening_of_server(server);
    if (err == 0) {
        str_copy(o->version, sizeof o->version, tls_version(tls));
    }
    buf_printf(&o->f.told, "handshake %s;", err == 0 ? "ok" : err_token(err));
}

static inline void opening_on_abuse(struct http_server *server, const char *what)
{
    buf_printf(&opening_of_server(server)->f.told, "abuse %s;", what);
}

static const struct http_server_ops opening_ops = {
    .on_request = on_request,
    .on_refused = on_refused,
    .is_trusted = opening_is_trusted,
    .on_hello = opening_on_hello,
    .on_raw = opening_on_raw,
    .may_be_plain = opening_may_be_plain,
    .on_handshake = opening_on_handshake,
    .on_abuse = opening_on_abuse,
};

// Up to the first connection: start().
static inline void opening_prepare(struct opening *o, enum user_mode mode, enum http_accept kind)
{
    memset(o, 0, sizeof *o);
    prepare(&o->f, mode);
    assert_int_equal(tls_loop_init(&o->f.loop), 0);
    struct tls_server_config config = {.hooks = &opening_hooks};
    assert_int_equal(tls_server_context_new(&o->context, &config), 0);
    o->f.config.tls = o->context;
    o->f.ops = &opening_ops;
    o->f.kind = kind;
}

static inline void opening_begin(struct opening *o, enum user_mode mode, enum http_accept kind)
{
    opening_prepare(o, mode, kind);
    start(&o->f);
}

static inline void opening_end(struct opening *o)
{
    http_server_fini(&o->f.server);
    tls_context_unref(&o->context);
    tls_loop_fini(&o->f.loop);
    end(&o->f);
}
