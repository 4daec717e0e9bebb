// SPDX-License-Identifier: MIT
// Server connections: what listeners accept, for the proxy (workers) and the admin API (control).
#pragma once
#include "http/h1/h1_parse.h"
#include "http/stream.h"
#include "net/tls.h"
#include <netinet/in.h>

struct http_server;

struct http_server_config {
    struct h1_limits limits;
    unsigned header_timeout_ms; // for a whole head, from its first byte (or the accept)
    unsigned idle_timeout_ms;   // between exchanges
    unsigned
        body_timeout_ms; // between bytes of a request body, and for a client that does not read
    bool half_close;     // FIN after a complete request does not cancel it
    bool proxy_protocol; // a trusted peer's connection begins with a PROXY header (ops->is_trusted)
    struct tls_context *tls; // of HTTP_ACCEPT_TLS and HTTP_ACCEPT_EITHER; NULL: neither is accepted
    unsigned handshakes_a_turn; // steps of handshakes in a turn of the loop, others wait; 0: 16
    unsigned h2_streams;        // open streams of one h2 connection
};

enum http_accept {
    HTTP_ACCEPT_PLAIN,
    HTTP_ACCEPT_TLS,
    HTTP_ACCEPT_EITHER, // by its first byte; ops->may_be_plain decides for those without TLS
};

// What is done with a connection whose ClientHello has come.
enum http_hello {
    HTTP_HELLO_TLS, // it is terminated here
    HTTP_HELLO_RAW, // it is not: on_raw follows
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
    // The rest may be NULL: trusted are none, all is TLS, plain is allowed.
    bool (*is_trusted)(struct http_server *server, const struct in6_addr *peer);
    enum http_hello (*on_hello)(struct http_server *server, struct str sni);
    // A stream in its tunnel state from the beginning: on_data brings the ClientHello and what follows.
    // Sets stream->events and stream->user; ends as a tunnel does.
    void (*on_raw)(struct http_server *server, struct http_stream *stream, struct str sni);
    // A connection without TLS on an address that is for both. False: it gets 400 and is closed.
    bool (*may_be_plain)(struct http_server *server, const struct in6_addr *peer);
    // A handshake is over: 0 (tls_version(), tls_is_resumed() …) or what it failed with; then `tls` is NULL
    // if it had not begun (what came was no ClientHello).
    void (*on_handshake)(struct http_server *server, struct tls *tls, int err);
    // A connection speaks HTTP/2, by ALPN or by prior knowledge.
    void (*on_h2)(struct http_server *server);
    // A peer is cut off for what it did (h2: the name of the counter, "rapid_reset" …).
    void (*on_abuse)(struct http_server *server, const char *what);
};

// What a PROXY header said beside the addresses (PROXY protocol 2.2). Views live as long as the
// connection.
struct http_proxied {
    struct str authority;   // PP2_TYPE_AUTHORITY
    struct str tls_version; // PP2_SUBTYPE_SSL_VERSION
    bool is_tls;            // the client came by TLS (PP2_TYPE_SSL)
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
int http_server_accept(struct http_server *server, int fd, const struct sockaddr_storage *peer,
                       enum http_accept kind) WARN_UNUSED;
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
// Where the client's connection comes from and what it came to, each in the form of its own family (AF_INET,
// AF_INET6; AF_UNIX without a path). Behind a PROXY header what it says.
void http_stream_addresses(const struct http_stream *stream, struct sockaddr_storage *source,
                           struct sockaddr_storage *destination);
// NULL: the connection has no TLS.
struct tls *http_stream_tls(const struct http_stream *stream);
// NULL: no PROXY header.
const struct http_proxied *http_stream_proxied(const struct http_stream *stream);
// After on_request returned or later: the connection ends with this exchange (HTTP/2: nothing, its
// other streams are not concerned).
void http_stream_close_after(struct http_stream *stream);
