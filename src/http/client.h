// SPDX-License-Identifier: MIT
// Client connections: to origins, with reuse. A stream's user gets it from http_client_open() or from
// an idle connection, and gives it back with ops->release or ops->reset. Loop thread.
#pragma once
#include "base/slab.h"
#include "http/h1/h1_parse.h"
#include "http/stream.h"
#include <sys/socket.h>

struct http_client_conn;

// Who keeps idle connections (upstream/). `on_idle` gets a connection whose exchange is over and that
// may be used again: returns false if it should be closed. `on_closed` comes once for every
// connection, idle or in use, when it has ended; an idle one is still linked by its node.
struct http_client_owner {
    bool (*on_idle)(struct http_client_owner *owner, struct http_client_conn *conn);
    void (*on_closed)(struct http_client_owner *owner, struct http_client_conn *conn);
};

struct http_client_conn {
    struct list node; // the owner's, while the connection is idle; else unlinked
    uint64_t idle_since_ms;
    struct http_client_owner *owner;
};

// One a worker: memory and settings of its client connections.
struct http_client_pool {
    struct loop *loop;
    struct h1_limits limits;
    struct slab conns;
};

void http_client_pool_init(struct http_client_pool *pool, struct loop *loop,
                           const struct h1_limits *limits);
// All connections must be closed.
void http_client_pool_fini(struct http_client_pool *pool);

// Starts a connection. on_ready follows, or on_reset with ERR_CLOSED (refused, unreachable) or
// ERR_TIMEOUT. NULL with *err when it failed at once (ERR_CLOSED, ERR_MEMORY, ERR_SYSTEM).
struct http_stream *http_client_open(struct http_client_pool *pool,
                                     const struct sockaddr_storage *address, socklen_t address_len,
                                     unsigned connect_timeout_ms, struct http_client_owner *owner,
                                     const struct http_stream_events *events, void *user, int *err);
// The stream of an idle connection for a new exchange (the owner has unlinked it). With `check`, the
// socket is asked first whether the peer has closed: NULL then (the connection is gone).
struct http_stream *http_client_reuse(struct http_client_conn *conn, bool check,
                                      const struct http_stream_events *events, void *user);
// Closes an idle connection that the owner has unlinked.
void http_client_close(struct http_client_conn *conn);
