// SPDX-License-Identifier: MIT
// Connections to targets, kept and reused. One a worker; connections are shared by all pools and
// routes that name the same address and speak to it in the same way.
//
//   address, TLS, name, protocol ─► endpoint ─┬► idle connections (last used first), a bound and an age
//   and limit                                 ├► HTTP/2 connections with room for another stream
//                                             └► requests that wait for one that is being opened: whatever is
//                                                free first goes to the oldest
//
// A target that was removed is not told here: its idle connections end at their age, at most
// keepalive.timeout after their last use.
#pragma once
#include "http/client.h"
#include "upstream/limit.h"

struct upstream_endpoint;

struct upstream {
    struct http_client_pool clients;
    struct loop *loop;
    struct upstream_endpoint **buckets;
    unsigned bucket_count; // a power of 2
    unsigned endpoint_count;
    uint64_t idle_count;
    uint64_t opened_count; // connections begun since the start
    uint64_t bare_count;   // requests turned away at a limit without a connection of this worker
    struct http_client_owner alone; // of connections with a preamble
    struct list with_idle;          // endpoints that keep a connection
    struct list limited_idle;       // those of them that have a limit
    struct loop_timer timer;
    struct list openings; // connections that are being opened
    struct list to_serve; // endpoints where something became free
    struct loop_task serve_task;
    struct slab waiters;
    struct slab opening_slab;
    struct upstream_peers *peers; // set after upstream_init(); NULL: none
};

// Connections are shared only where address, TLS context, server name, protocol, limit and preamble are
// the same.
struct upstream_request {
    struct sockaddr_storage address;
    socklen_t address_len;
    struct tls_context *tls; // NULL: plain
    struct str server_name;
    enum http_client_protocol protocol;
    struct str preamble;          // a PROXY header: such a connection is for this exchange alone
    struct upstream_limit *limit; // of the target's connections; NULL: none
    struct pool_queue *queue;     // with `limit`: who is told that it has room again; NULL: nobody
    unsigned connect_timeout_ms;
    unsigned keep_idle;       // connections this worker may keep for the address
    unsigned keep_timeout_ms; // how long
    bool fresh;               // no kept connection, and none that others use
    bool check;               // ask the socket of a kept one whether the target has closed
};

int upstream_init(struct upstream *upstream, struct loop *loop,
                  const struct h1_limits *limits) WARN_UNUSED;
// Closes the idle connections; none may be in use.
void upstream_fini(struct upstream *upstream);
// A stream on a kept connection or beside others on an HTTP/2 one (stream->was_reused: send_head at
// once). Else one that waits: on_ready follows, with another stream (also of a kept connection, which
// became free meanwhile), or on_reset with this one; until then only reset() means something. NULL with *err
// when it failed at once; ERR_LIMIT: all connections that `limit` allows are in use. The queue is kicked when one
// is free or closed, also an idle one of another worker, which is asked for: join it, ask once more, wait.
struct http_stream *upstream_get(struct upstream *upstream, const struct upstream_request *request,
                                 const struct http_stream_events *events, void *user, int *err);
// Closes all idle connections.
void upstream_drop_idle(struct upstream *upstream);
