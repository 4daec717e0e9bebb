// SPDX-License-Identifier: MIT
// What the parts of a worker's connections share: endpoints and what is kept (upstream.c), requests that
// wait for a connection that is being opened (waiting.c).
//
//   upstream_get ─┬─ kept, or room beside others ────────────────────────────► stream
//                 └─ waiter ── opening ─► open ─┐
//                      │           whatever is free first, to the oldest ─► on_ready(stream)
//                      └─ some other becomes idle ┘
#pragma once
#include "upstream/upstream.h"
#include <sys/un.h>

enum { UPSTREAM_ADDRESS_MAX = sizeof(struct sockaddr_un) };

// What makes connections interchangeable. Without padding that is not cleared: it is compared as bytes.
struct upstream_key {
    const struct tls_context *tls;
    const struct upstream_limit *limit;
    uint32_t protocol; // enum http_client_protocol
    uint32_t address_len;
};

struct upstream_endpoint {
    struct http_client_owner owner; // first
    struct upstream_endpoint *next; // in its bucket
    struct upstream *upstream;
    struct list idle;             // last used first
    struct list room;             // HTTP/2 with room for streams
    struct list with_idle;        // in upstream->with_idle
    struct list limited_idle;     // in upstream->limited_idle, if it has a limit
    struct list openings;         // connections that are being opened for waiters, oldest first
    struct list waiters;          // requests, oldest first
    struct list to_serve;         // in upstream->to_serve
    struct tls_context *tls;      // referenced: its address means nothing else while this lives
    struct upstream_limit *limit; // referenced; NULL: none
    uint64_t hash;
    unsigned idle_count;
    unsigned keep_idle;
    unsigned keep_timeout_ms;
    unsigned in_use; // connections that are not idle
    bool speaks_h2;  // as far as is known
    size_t name_len; // of the server name, behind the address
    struct upstream_key key;
    char text[];
};

// ---- upstream.c ----

// A stream of a kept connection, or beside others on an open one. NULL: none is free.
struct http_stream *upstream_take_kept(struct upstream_endpoint *endpoint, bool check,
                                       const struct http_stream_events *events, void *user);
// Begins to connect, if the limit lets it. NULL with *err (ERR_LIMIT and those of http_client_open).
struct http_stream *upstream_connect(struct upstream_endpoint *endpoint,
                                     unsigned connect_timeout_ms,
                                     const struct http_stream_events *events, void *user, int *err);
// Frees an endpoint that nobody uses.
void upstream_maybe_free(struct upstream_endpoint *endpoint);
// Closes one idle connection that counts for the limit. False: there is none here.
bool upstream_close_idle(struct upstream *upstream, const struct upstream_limit *limit);

// ---- waiting.c ----

size_t upstream_waiter_len(void);
size_t upstream_opening_len(void);
// A stream that stands for a connection to come: on_ready or on_reset follows, before which only reset (and
// pause, resume) mean something. NULL with *err.
struct http_stream *upstream_wait(struct upstream_endpoint *endpoint, bool check,
                                  unsigned connect_timeout_ms,
                                  const struct http_stream_events *events, void *user, int *err);
// Something became free: who waits gets it, soon.
void upstream_serve(struct upstream_endpoint *endpoint);
void upstream_on_serve(struct loop *loop, struct loop_task *task);
// Gives up connections that nobody waits for any more.
void upstream_drop_openings(struct upstream *upstream);
