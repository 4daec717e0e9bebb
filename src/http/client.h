// SPDX-License-Identifier: MIT
// Client connections: to origins, with reuse. A stream's user gets it from http_client_open() or from
// an idle connection, and gives it back with ops->release or ops->reset. Loop thread.
#pragma once
#include "base/slab.h"
#include "http/h1/h1_parse.h"
#include "http/stream.h"
#include "net/tls.h"
#include <sys/socket.h>

struct http_client_conn;

// Who keeps idle connections (upstream/). `on_idle` gets a connection whose exchange is over and that
// may be used again: returns false if it should be closed. `on_closed` comes once for every
// connection, idle or in use, when it has ended; an idle one is still linked by its node.
struct http_client_owner {
    // An h2 connection takes another stream (`has_room`), or takes none any more (all in use, GOAWAY, or
    // it is about to close). It is told first when the connection turns out to be h2, with room.
    void (*on_room)(struct http_client_owner *owner, struct http_client_conn *conn, bool has_room);
    bool (*on_idle)(struct http_client_owner *owner, struct http_client_conn *conn);
    void (*on_closed)(struct http_client_owner *owner, struct http_client_conn *conn);
};

struct http_client_conn {
    struct list node; // the owner's, while the connection is idle; else unlinked
    struct list room; // the owner's, of h2 connections with room; else unlinked
    uint64_t idle_since_ms;
    struct http_client_owner *owner;
    bool is_h2;
};

// One a worker: memory and settings of its client connections.
struct http_client_pool {
    struct loop *loop;
    struct h1_limits limits;
    struct slab conns;    // HTTP/1
    struct slab h2_conns; // HTTP/2
    struct slab h2_streams;
};

void http_client_pool_init(struct http_client_pool *pool, struct loop *loop,
                           const struct h1_limits *limits);
// All connections must be closed.
void http_client_pool_fini(struct http_client_pool *pool);

// How a target is spoken to.
enum http_client_protocol {
    HTTP_CLIENT_AUTO,  // plain: HTTP/1; TLS: h2 or http/1.1, as ALPN says
    HTTP_CLIENT_HTTP1, // TLS: ALPN http/1.1 alone
    HTTP_CLIENT_H2,    // TLS: ALPN h2 alone; plain: by prior knowledge
};

struct http_client_target {
    const struct sockaddr_storage *address;
    socklen_t address_len;
    struct tls_context *tls; // NULL: plain
    struct str server_name;  // SNI, and the name that the certificate must have; with `tls`
    enum http_client_protocol protocol;
    struct str preamble;         // sent first, in the clear (a PROXY header); copied
    unsigned connect_timeout_ms; // for TCP and TLS together
};

// Starts a connection. on_ready follows, or on_reset with ERR_CLOSED (refused, unreachable),
// ERR_TIMEOUT, ERR_TLS, ERR_TLS_VERIFY or ERR_PROTOCOL (ALPN has not what is asked for). NULL with *err
// when it failed at once (ERR_CLOSED, ERR_MEMORY, ERR_SYSTEM).
struct http_stream *http_client_open(struct http_client_pool *pool,
                                     const struct http_client_target *target,
                                     struct http_client_owner *owner,
                                     const struct http_stream_events *events, void *user, int *err);
// Inside of on_reset, or after http_client_open() has returned NULL: the errno with which the connect failed;
// 0: it was not the connect that did. Of this thread.
int http_client_connect_errno(void);
// One more stream on an open h2 connection; the owner has unlinked an idle one. stream->was_reused is set,
// send_head may be called. NULL: it takes no more now.
struct http_stream *http_client_join(struct http_client_conn *conn,
                                     const struct http_stream_events *events, void *user);
// The stream of an idle HTTP/1 connection for a new exchange (the owner has unlinked it). With `check`, the
// socket is asked first whether the peer has closed: NULL then (the connection is gone).
struct http_stream *http_client_reuse(struct http_client_conn *conn, bool check,
                                      const struct http_stream_events *events, void *user);
// Closes an idle connection that the owner has unlinked.
void http_client_close(struct http_client_conn *conn);
