// SPDX-License-Identifier: MIT
// A TLS client on a peer's socket: OpenSSL on memory, moved whenever the test says so.
#pragma once
#include "socket_peer.h"
#include <openssl/err.h>
#include <openssl/ssl.h>

struct tls_peer {
    struct peer *peer;
    SSL_CTX *context;
    SSL *ssl;
    BIO *in;
    BIO *out;
    size_t fed; // bytes of peer->received that OpenSSL has
    struct buf plain;
    bool is_ended;  // close_notify
    bool is_broken; // an alert, or no TLS
    bool by_bytes;  // each byte is a segment, and a turn of the loop
    struct loop *loop;
    char trouble[128];
};

static inline void tls_peer_name(SSL *ssl, const char *name)
{
    // SSL_set_tlsext_host_name() without its cast, which drops const.
    assert_int_equal(SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                              (void *)(uintptr_t)name),
                     1);
}

static inline void tls_peer_init(struct tls_peer *c, struct loop *loop, struct peer *peer,
                                 const char *name, const char *alpn)
{
    *c = (struct tls_peer){.peer = peer, .loop = loop};
    buf_init(&c->plain, 0);
    c->context = SSL_CTX_new(TLS_client_method());
    c->ssl = SSL_new(c->context);
    c->in = BIO_new(BIO_s_mem());
    c->out = BIO_new(BIO_s_mem());
    assert_non_null(c->ssl);
    SSL_set_bio(c->ssl, c->in, c->out);
    SSL_set_connect_state(c->ssl);
    if (name != NULL) {
        tls_peer_name(c->ssl, name);
    }
    if (alpn != NULL) {
        assert_int_equal(
            SSL_set_alpn_protos(c->ssl, (const unsigned char *)alpn, (unsigned)strlen(alpn)), 0);
    }
}

static inline void tls_peer_fini(struct tls_peer *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->context);
    buf_fini(&c->plain);
}

// What OpenSSL wants to send.
static inline void tls_peer_flush(struct tls_peer *c)
{
    char bytes[16384];
    int n;
    while (c->peer->fd >= 0 && (n = BIO_read(c->out, bytes, sizeof bytes)) > 0) {
        for (int at = 0; at < n && c->by_bytes; at++) {
            (void)peer_offer(c->peer, str_make(bytes + at, 1));
            loop_turn(c->loop, 0);
        }
        if (!c->by_bytes) {
            (void)peer_offer(c->peer, str_make(bytes, (size_t)n));
        }
    }
}

static inline void tls_peer_fault(struct tls_peer *c, int result)
{
    int error = SSL_get_error(c->ssl, result);
    if (error == SSL_ERROR_ZERO_RETURN) {
        c->is_ended = true;
    } else if (error != SSL_ERROR_WANT_READ) {
        c->is_broken = true;
        const char *why = ERR_reason_error_string(ERR_peek_last_error());
        str_copy(c->trouble, sizeof c->trouble, str_from_c(why));
    }
    ERR_clear_error();
}

// Goes on as far as what was received allows.
static inline void tls_peer_step(struct tls_peer *c)
{
    char bytes[16384];
    int n = 0;
    struct str more = str_from(buf_str(&c->peer->received), c->fed);
    if (more.len > 0) {
        assert_int_equal(BIO_write(c->in, more.p, (int)more.len), (int)more.len);
        c->fed += more.len;
    }
    ERR_clear_error();
    if (!SSL_is_init_finished(c->ssl) && !c->is_broken) {
        n = SSL_do_handshake(c->ssl);
        if (n <= 0) {
            tls_peer_fault(c, n);
        }
    }
    while (SSL_is_init_finished(c->ssl) && !c->is_ended && !c->is_broken) {
        n = SSL_read(c->ssl, bytes, sizeof bytes);
        if (n <= 0) {
            tls_peer_fault(c, n);
            break;
        }
        buf_put(&c->plain, str_make(bytes, (size_t)n));
    }
    tls_peer_flush(c);
}

// Plain bytes; the handshake must be over.
static inline void tls_peer_send(struct tls_peer *c, struct str bytes)
{
    assert_int_equal(SSL_write(c->ssl, bytes.p, (int)bytes.len), (int)bytes.len);
    tls_peer_flush(c);
}

static inline bool tls_peer_is_ready(struct tls_peer *c)
{
    tls_peer_step(c);
    return SSL_is_init_finished(c->ssl) && !c->is_broken;
}

static inline bool tls_peer_has(struct tls_peer *c, const char *text)
{
    tls_peer_step(c);
    return str_find(buf_str(&c->plain), str_from_c(text)) != SIZE_MAX;
}
