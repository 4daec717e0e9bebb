// SPDX-License-Identifier: MIT
// TLS between a socket and the bytes of its connection: a filter, not a connection of its own.
//
//   recv ─► wire buffer of the loop ─► SSL_read ─► the caller's buffer        (tls_recv)
//   outq ─► SSL_write ─► wire buffer of the loop ─► send; the rest into outq's blocks (tls_seal)
//
// OpenSSL reads and writes through a BIO of our own on buffers that all connections of a loop share: an
// idle connection owns none. All calls: the loop's thread, but where it says otherwise. OpenSSL's types
// are named here by their tags, so that this header can be included everywhere.
#pragma once
#include "base/str.h"
#include "loop/loop.h"
#include "net/outq.h"
#include <sys/types.h>
#include <sys/uio.h>

struct tls;         // one connection's
struct tls_context; // what connections have in common (SSL_CTX); reference counted, any thread
struct x509_st;
struct evp_pkey_st;
struct stack_st_X509;
struct x509_store_st;
struct stack_st_X509_NAME;

enum tls_profile { TLS_INTERMEDIATE, TLS_MODERN };        // of Mozilla's server side TLS guide
enum tls_protocol { TLS_NO_PROTOCOL, TLS_HTTP1, TLS_H2 }; // by ALPN

enum {
    TLS_SNI_MAX = 255,
    TLS_TICKET_KEY_MAX = 4, // the newest seals, all open
    TLS_SCOPE_LEN = 32,
    TLS_SUBJECT_MAX = 1024, // bytes of a subject as text
};

// ---- what a loop needs: its wire buffers ----

// Once a loop that has TLS connections; sets loop->tls_buffers. 0, or ERR_MEMORY.
int tls_loop_init(struct loop *loop) WARN_UNUSED;
void tls_loop_fini(struct loop *loop);

// ---- session tickets ----

struct tls_ticket_key {
    uint8_t name[16]; // public, in the ticket
    uint8_t aes[32];
    uint8_t hmac[32];
};
struct tls_ticket_keys {
    unsigned count;
    struct tls_ticket_key keys[TLS_TICKET_KEY_MAX]; // newest first
};
// What contexts read at each ticket, under RCU; swapped by the control thread with rcu_publish().
struct tls_ticket_ring {
    struct tls_ticket_keys *current; // rcu; NULL: no tickets
};

// ---- server side ----

enum tls_verdict {
    TLS_PROCEED,
    TLS_WAIT,              // suspended until tls_resume()
    TLS_UNRECOGNIZED_NAME, // ends with that alert
    TLS_REFUSE,            // ends with internal_error
};

// What a server connection was made with, and what its tickets are good for: the certificate slots of
// the name (0: none), and the client certificate policy (0, 0: none). All of it is compared.
struct tls_scope {
    uint64_t certificates[2];
    uint64_t policy[2];
};

// Asked inside tls_handshake(). `user` is what it was made with.
struct tls_server_hooks {
    // The ClientHello is here, tls_sni() is known. Comes again after TLS_WAIT. Sets the scope
    // (tls_set_scope) and, if the host has one, the client certificate policy (tls_ask_certificate).
    enum tls_verdict (*on_hello)(struct tls *tls, void *user);
    // A full handshake (not a resumption) needs certificates: tls_add_certificate() for each. Comes
    // again after TLS_WAIT.
    enum tls_verdict (*on_certificate)(struct tls *tls, void *user);
    // The connection ends while it is suspended: nobody may call tls_resume() any more.
    void (*on_abandoned)(struct tls *tls, void *user);
};

struct tls_server_config {
    enum tls_profile profile;
    const struct tls_ticket_ring *tickets; // outlives the context; NULL: none
    const struct tls_server_hooks *hooks;  // constant
    bool http1_only;                       // ALPN offers http/1.1 alone
};

// Any thread. 0, or ERR_MEMORY, ERR_SYSTEM.
int tls_server_context_new(struct tls_context **context,
                           const struct tls_server_config *config) WARN_UNUSED;

// ---- client side ----

struct tls_client_config {
    enum tls_profile profile;
    bool verify;                 // chain and name
    struct x509_store_st *store; // trusted; referenced. NULL: the system's (loaded once a process)
    // The server asks for a client certificate: as tls_server_hooks.on_certificate and on_abandoned, with
    // `owner` for user. NULL: none is given.
    enum tls_verdict (*on_certificate)(struct tls *tls, void *owner);
    void (*on_abandoned)(struct tls *tls, void *owner);
    // A number of the certificate that would be given now; another one, another certificate. Sessions are
    // resumed as long as it stays: to the server a resumed client is who it was. On the connection's loop.
    // NULL: it is always the same.
    uint64_t (*which_certificate)(void *owner);
    void *owner;
};
// Any thread (the system's store is read from disk the first time).
int tls_client_context_new(struct tls_context **context,
                           const struct tls_client_config *config) WARN_UNUSED;

struct tls_context *tls_context_ref(struct tls_context *context);
// NULL is allowed.
void tls_context_unref(struct tls_context **context);

// PEM text with one or more certificates as a store of trusted ones, each by itself: an intermediate without
// its root is enough. NULL with *why (static text).
struct x509_store_st *tls_store_from_pem(struct str pem, const char **why);
void tls_store_free(struct x509_store_st *store);

// ---- connections ----

// A filter for the socket of `io` and the output `out` (out->tls is set: from now on what is put there
// is sealed). The server's handshake begins with the first input; the client's with tls_handshake().
// NULL: out of memory. `alpn` of a client: bits 1 << TLS_HTTP1, 1 << TLS_H2 of what to offer; 0: no ALPN.
struct tls *tls_new_server(struct loop *loop, struct tls_context *context, struct loop_io *io,
                           struct outq *out, void *user);
struct tls *tls_new_client(struct loop *loop, struct tls_context *context, struct loop_io *io,
                           struct outq *out, struct str server_name, unsigned alpn, void *user);
// Sends nothing. NULL is allowed; clears out->tls. Not inside a callback of the same connection: its
// owner defers (loop_defer) or calls it from outside of hooks.
void tls_free(struct tls **tls);
// The connection's io or out has another address now (its struct was moved).
void tls_move(struct tls *tls, struct loop_io *io, struct outq *out);

// Wire bytes that were read from the socket already (copied); they come before what the socket has.
// 0, or ERR_MEMORY.
int tls_feed(struct tls *tls, struct str bytes) WARN_UNUSED;
// Goes on with the handshake: reads from the socket at most once. STEP_DONE; STEP_AGAIN: needs input or
// room (tls_is_suspended(): tls_resume, nothing is done before that); or negative: ERR_CLOSED (FIN or
// reset), ERR_TLS (broken, refused; an alert was sent if one is due), ERR_TLS_VERIFY (the peer's
// certificate was not accepted). *is_drained: the socket has no more input now (edge-triggered).
int tls_handshake(struct tls *tls, bool *is_drained);
bool tls_is_suspended(const struct tls *tls);
// What suspended it is there: calls `on_resumed`, if it was set, which calls tls_handshake() again. From
// a message or task, not from within a hook.
void tls_resume(struct tls *tls);
void tls_on_resumed(struct tls *tls, void (*on_resumed)(struct tls *tls, void *user));
// Whatever the hook that suspended it wants to find again; NULL at first.
void tls_set_waiting(struct tls *tls, void *waiting);
void *tls_waiting(const struct tls *tls);
struct loop *tls_loop(const struct tls *tls);

// Plain bytes into `to` (len: at least LOOP_READ_LEN); reads from the socket at most once, and gives all
// that this read brought. As recv(): > 0; 0: the end (close_notify, or FIN: tls_is_truncated()); -1 with
// errno (EAGAIN; EPROTO: TLS is broken; ECONNRESET …). *is_drained: the socket was read empty, as far as
// a short read says (FIN or an error may still wait behind it).
ssize_t tls_recv(struct tls *tls, char *to, size_t len, bool *is_drained);
bool tls_is_truncated(const struct tls *tls);
// The same for both kinds of connection (tls NULL: recv, and a short read is the end).
ssize_t net_recv(struct loop_io *io, struct tls *tls, char *to, size_t len, bool *is_drained);

// For outq.c: seals plain bytes into the loop's wire buffer, as many of them (at least a record) as fit;
// *wire is a view of it, valid until the next call of any tls_ function of the loop. Returns the number
// of plain bytes taken, or -1: the connection is broken.
ssize_t tls_seal(struct tls *tls, const struct iovec *iov, unsigned count, size_t skip,
                 struct str *wire);
// close_notify as wire bytes, once (empty the second time); as tls_seal.
struct str tls_seal_end(struct tls *tls);

// ---- what is known of a connection ----

struct str tls_sni(const struct tls *tls); // lower case, no trailing dot; empty: none. Server side
// "1.2", "1.3"; "" before the handshake. Lives forever.
struct str tls_version(const struct tls *tls);
enum tls_protocol tls_protocol(const struct tls *tls);
bool tls_is_resumed(const struct tls *tls);
const struct tls_scope *tls_scope(const struct tls *tls);

// For hooks. Certificate and key are referenced. 0, or ERR_TLS.
int tls_add_certificate(struct tls *tls, struct x509_st *leaf, struct stack_st_X509 *chain,
                        struct evp_pkey_st *key) WARN_UNUSED;
void tls_set_scope(struct tls *tls, const struct tls_scope *scope);
// Asks the client for a certificate of this store (referenced). Without `is_required` a client may have
// none, but one that it has must be good.
void tls_ask_certificate(struct tls *tls, struct x509_store_st *store, bool is_required);

// The client's certificate, also in a resumed connection. False: none. Subject as RFC 2253 text (bytes
// beyond ASCII and control bytes escaped; empty if it has no room), SHA-256 fingerprint as 64 lower case
// hexadecimal digits.
bool tls_peer_certificate(const struct tls *tls, char *subject, size_t size, size_t *subject_len,
                          char fingerprint[64]);
// Why ERR_TLS or ERR_TLS_VERIFY: "certificate has expired", "no shared cipher". Lives until the next
// call on this loop.
const char *tls_failure(const struct tls *tls);
