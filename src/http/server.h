// SPDX-License-Identifier: MIT
// Server connections: what listeners accept, for the proxy (workers) and the admin API (control).
#pragma once
#include "http/h1/h1_parse.h"
#include "http/stream.h"
#include <netinet/in.h>

struct http_server;

struct http_server_config {
    struct h1_limits limits;
    unsigned header_timeout_ms; // for a whole head, from its first byte (or the accept)
    unsigned idle_timeout_ms;   // between exchanges
    unsigned
        body_timeout_ms; // between bytes of a request body, and for a client that does not read
    bool half_close;     // FIN after a complete request does not cancel it
};

// What a server does with its requests. Constant.
struct http_server_ops {
    // A request head has come. Sets stream->events and stream->user, and answers now or later
    // through stream->ops. Head and views are valid until the return.
    void (*on_request)(struct http_server *server, struct http_stream *stream,
                       const struct http_head *head);
    // A head was refused before there was an exchange: the connection answers `status` with a short
    // page and closes. For logs and counters; `head` holds what had been parsed, or is NULL.
    void (*on_refused)(struct http_server *server, struct http_stream *stream, int err);
    // A connection has ended (conn_count is one less already). May be NULL.
    void (*on_closed)(struct http_server *server);
};

// One a loop and kind of traffic. Embedded in its owner.
struct http_server {
    struct loop *loop;
    const struct http_server_config *config; // outlives the server
    const struct http_server_ops *ops;
    void *owner;
    struct http_server_lists *lists; // connections by state, with their timeouts
    uint64_t conn_count;
    uint64_t accepted_count;
    uint64_t request_count;
    uint64_t timed_out_count; // connections that were ended by a timeout
    bool draining;
};

// 0, or ERR_MEMORY.
int http_server_init(struct http_server *server, struct loop *loop,
                     const struct http_server_config *config, const struct http_server_ops *ops,
                     void *owner) WARN_UNUSED;
// Closes all connections.
void http_server_fini(struct http_server *server);
// Takes an accepted, non-blocking socket. 0, or ERR_MEMORY / ERR_SYSTEM (the socket is closed).
int http_server_accept(struct http_server *server, int fd,
                       const struct sockaddr_storage *peer) WARN_UNUSED;
// Idle connections are closed, others after their exchange ("Connection: close"). conn_count tells
// when it is done.
void http_server_drain(struct http_server *server);
// Ends all exchanges (on_reset) and connections now.
void http_server_abort_all(struct http_server *server);

// The connection of a server stream: the peer's address (IPv4 as ::ffff:a.b.c.d; unix sockets: ::1)
// and its text ("10.1.2.3", "2001:db8::1", "unix").
const struct in6_addr *http_stream_peer(const struct http_stream *stream);
struct str http_stream_peer_text(const struct http_stream *stream);
unsigned http_stream_local_port(const struct http_stream *stream);
// After on_request returned or later: the connection ends with this exchange.
void http_stream_close_after(struct http_stream *stream);
