// SPDX-License-Identifier: MIT
// Inside of the TLS filter:
//
//   tls.c          connections: handshake, bytes both ways, the end      tls_bio.c     the wire buffers
//   tls_context.c  contexts, profiles, trusted stores                    tls_ticket.c  session tickets
//   tls_hello.c    what a server asks at a ClientHello                   tls_about.c   what is known after
//   tls_memory.c   OpenSSL's large buffers, kept instead of freed
#pragma once
#include "net/tls.h"
#include <openssl/ssl.h>
#include <stdatomic.h>

enum {
    TLS_RECORD_MAX = 16384,
    // Header, nonce and tag, also of 32 records: a client may ask for such small ones (RFC 6066 4).
    TLS_RECORD_OVERHEAD = 2048,
    // Wire bytes of one read: with a partial record that OpenSSL holds, what is in them fits LOOP_READ_LEN.
    TLS_WIRE_IN = LOOP_READ_LEN - TLS_RECORD_MAX - 1024,
    TLS_WIRE_OUT = 65536 + TLS_RECORD_MAX + TLS_RECORD_OVERHEAD,
    TLS_HELD_MAX = 65536, // wire bytes saved of one connection
    // Bytes of TLS's own that a peer may ask for (new keys, renegotiation) without reading or saying anything.
    TLS_ANSWERS_MAX = 16384,
};

// A loop's: nobody's between two calls, but `out`, whose view tls_seal() gave. All connections of the
// loop have the same BIO.
struct tls_buffers {
    BIO *bio;
    struct tls *current; // whose call this is, or NULL
    size_t in_start;
    size_t in_end;
    size_t out_len;
    char in[TLS_WIRE_IN];
    char out[TLS_WIRE_OUT];
    char plain[TLS_RECORD_MAX]; // small pieces on their way into one record
};

struct tls_context {
    atomic_uint refs;
    SSL_CTX *ssl;
    bool is_server;
    const struct tls_ticket_ring *tickets;
    const struct tls_server_hooks *hooks;
    bool http1_only;
    struct tls_client_config client; // without store
    struct tls_sessions *sessions;   // client side; tls_ticket.c
};

struct tls {
    SSL *ssl;
    struct tls_context *context;
    struct loop *loop;
    struct loop_io *io;
    struct outq *out;
    void *user;
    void *waiting;
    void (*on_resumed)(struct tls *tls, void *user);
    char *name; // SNI (server), server_name (client); NULL: none
    char *held; // wire bytes that came too early; NULL: none
    uint32_t held_start;
    uint32_t held_end;
    struct tls_scope scope;
    uint64_t certificate; // client: the number of the one that it gives if it is asked
    uint32_t answers; // bytes that reading made us say, since plain bytes came and none were queued
    int io_errno;     // of a failed read
    bool may_read;    // this call has not read from the socket yet
    bool is_drained;  // of the last read
    bool is_eof;      // the socket's FIN, or an error (io_errno), was read
    bool got_end;     // close_notify came before that
    bool is_suspended;
    bool is_established;
    bool is_broken; // no bytes pass any more
    bool end_sealed;
    bool in_hook;
};

// tls_bio.c
void tls_bio_attach(struct tls *tls);
// Around each use of tls->ssl: begin, the call, end. Errors of earlier calls are forgotten; one read from
// the socket follows at most, and only if it may. `end` hands what was written (but not when `seals`) to
// the output and saves what was not read.
void tls_io_begin(struct tls *tls, bool may_read);
// Inside of it: there are wire bytes that were not asked for yet, or may be.
bool tls_io_has_more(const struct tls *tls);
void tls_io_end(struct tls *tls, bool seals);

// tls_memory.c
// Buffers that the calling thread keeps; 0 where they are not kept. Whoever links TLS links this with it.
unsigned tls_memory_kept(void);

// tls_hello.c
void tls_server_callbacks(SSL_CTX *ssl);

// tls_ticket.c
int tls_ticket_callbacks(struct tls_context *context) WARN_UNUSED;
void tls_ticket_begin(struct tls *tls); // server: none are promised while there is no key
int tls_sessions_new(struct tls_context *context) WARN_UNUSED;
void tls_sessions_free(struct tls_sessions **sessions);
void tls_session_offer(struct tls *tls); // client: resumes what was kept for its name

static inline struct tls *tls_of(const SSL *ssl)
{
    return SSL_get_app_data(ssl);
}
