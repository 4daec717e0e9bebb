// SPDX-License-Identifier: MIT
// What server.c (accept, timeouts, lists) and the protocols share of a server connection.
#pragma once
#include "http/server.h"
#include "net/outq.h"

// Which list a connection is in; each has its timeout. One more row is one more list.
#define HTTP_PHASE_TABLE(X)                          \
    X(PHASE_NEW)    /* accepted, nothing received */ \
    X(PHASE_IDLE)   /* between exchanges */          \
    X(PHASE_HEAD)   /* part of a head received */    \
    X(PHASE_BUSY)   /* an exchange */                \
    X(PHASE_LINGER) /* answered; what still comes is dropped for a while */

enum http_phase {
#define X(name) name,
    HTTP_PHASE_TABLE(X)
#undef X
        PHASE_COUNT
};

enum {
    HTTP_LINGER_MS = 5000,
    HTTP_LINGER_MAX = 4 << 20, // bytes dropped before the connection is closed anyway
    HTTP_PEER_TEXT_MAX = 46,
};

struct http_conn;

// A protocol's part of a server connection.
struct http_conn_ops {
    void (*on_event)(struct http_conn *conn, uint32_t events);
    // The time of its phase is up. The connection moves, renews or closes itself.
    void (*on_timeout)(struct http_conn *conn);
    // The server drains: close now if idle, else after the exchange.
    void (*drain)(struct http_conn *conn);
    // Ends the exchange (on_reset) and closes.
    void (*abort)(struct http_conn *conn);
    // http_stream_close_after().
    void (*close_after)(struct http_conn *conn);
    // Frees what the protocol owns, after the close, in the next turn's deferred frees.
    void (*fini)(struct http_conn *conn);
};

// What a connection keeps of its PROXY header; malloc.
struct http_conn_proxied {
    struct http_proxied proxied;
    bool has_addresses;
    uint16_t peer_port;
    struct in6_addr local; // where the client came to; the port is the connection's local_port
    char text[];           // of the views
};

// Common head of every server connection, the first member of its struct. The protocol may change while
// it lives: an opening becomes HTTP/1 in place, the head stays and the rest is made anew; HTTP/2 needs more and
// moves to a block of its own (http_conn_begin_h2).
//
//   accept ─► opening: PROXY header, ClientHello, handshake ─► h1 | h2 | h1 in its tunnel state (raw)
//          └► h1, if there is nothing of that to wait for ─ preface "PRI * HTTP/2.0" ─► h2
struct http_conn {
    struct loop_io io;
    struct tls *tls;                   // NULL: none
    struct http_conn_proxied *proxied; // NULL: none
    struct list node;                  // in the list of its phase
    uint64_t since_ms;
    enum http_phase phase;
    uint16_t local_port;
    const struct http_conn_ops *ops;
    struct http_server *server;
    struct outq out;
    struct loop_deferred deferred;
    struct in6_addr peer;
    char peer_text[HTTP_PEER_TEXT_MAX];
    uint8_t peer_text_len;
    bool is_large; // in a block for HTTP/2
    bool is_cut;   // the peer must see that something is missing: no close_notify
};

// Enters a phase now (or renews it): its timeout starts anew.
void http_conn_enter(struct http_conn *conn, enum http_phase phase);
// Closes the socket, unlinks, frees at the end of the turn.
void http_conn_close(struct http_conn *conn);

// The start of the protocols, on a conn whose head is filled. What was received already (`bytes`, plain)
// is taken as if it came now; `readable`: the kernel may have more. May close the connection.
//
// server_opening.c
size_t http_opening_len(void);
// `is_trusted`: a PROXY header comes first.
void http_opening_init(struct http_conn *conn, enum http_accept kind, bool is_trusted);
// Handshakes of a server that wait for their turn.
struct http_handshakes {
    struct list waiting; // of struct http_opening
    struct loop_task task;
    struct http_server *server;
    uint64_t turn;  // of the loop
    unsigned begun; // in that turn
};
void http_handshakes_init(struct http_server *server);
// server.c
struct http_handshakes *http_server_handshakes(struct http_server *server);
// Goes on as HTTP/2, in another block: `conn` is gone. False: no memory, and nothing has changed.
bool http_conn_begin_h2(struct http_conn *conn, struct str bytes, bool readable) WARN_UNUSED;
// h1/h1_server.c. Nothing is read before the first event, but `bytes`.
size_t h1_server_conn_len(void);
void h1_server_conn_init(struct http_conn *conn);
void h1_server_conn_begin(struct http_conn *conn, struct str bytes, bool readable);
// In its tunnel state, for server->ops->on_raw.
void h1_server_conn_begin_raw(struct http_conn *conn, struct str sni, struct str bytes,
                              bool readable);
// h2/h2_server.c. `bytes` may hold the client's preface and more.
size_t h2_server_conn_len(void);
void h2_server_conn_begin(struct http_conn *conn, struct str bytes, bool readable);
