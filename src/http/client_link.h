// SPDX-License-Identifier: MIT
// What client connections have in common, whatever they speak: the socket, the way until it may be used,
// and its output. Included in http/ only. Loop thread.
//
//   connect ─► PROXY header ─► TLS ─► ops->on_open ─► ops->on_event …
//      └───────────┴────────────┴──► ops->on_failed
#pragma once
#include "http/client.h"
#include "net/outq.h"

struct client_link;

struct client_link_ops {
    // It is open; the timer of the connect still runs.
    void (*on_open)(struct client_link *link);
    // It did not come so far. Closes it.
    void (*on_failed)(struct client_link *link, int err);
    // Of an open one: `readable` and the like are set, what was blocked was flushed.
    void (*on_event)(struct client_link *link);
    // As that of an output (net/outq.h), of an open one.
    void (*on_flushed)(struct client_link *link);
    void (*before_flush)(struct client_link *link); // may be NULL
    bool gathers;                                   // its output does (net/outq.h)
    // At the end of the turn in which it was closed, or moved away.
    void (*free_it)(struct client_link *link);
};

enum client_link_phase { LINK_CONNECTING, LINK_SHAKING, LINK_OPEN, LINK_CLOSED };

// First in the struct of each kind of connection.
struct client_link {
    struct http_client_conn base; // first
    struct http_client_pool *pool;
    const struct client_link_ops *ops;
    struct loop_io io;
    struct outq out;
    struct tls *tls;         // NULL: plain
    struct loop_timer timer; // of the connect; of an open one its owner's, with on_timer
    struct loop_task shake_again;
    struct loop_deferred deferred;
    void (*on_timer)(struct client_link *link);
    char *preamble; // malloc, until it was sent
    size_t preamble_len;
    uint8_t phase; // enum client_link_phase
    bool readable; // the socket may have more
    bool fin;      // the peer's, behind what is still to be read
    bool broken;
    bool is_cut; // TLS ended without saying so
};

// Begins to connect. `alpn` as of tls_new_client(). Negative, with nothing held: ERR_CLOSED, ERR_MEMORY,
// ERR_SYSTEM. The struct is cleared first.
int client_link_open(struct client_link *link, struct http_client_pool *pool,
                     const struct http_client_target *target, unsigned alpn,
                     struct http_client_owner *owner,
                     const struct client_link_ops *ops) WARN_UNUSED;
// Takes over an open link, with its descriptor, TLS and output; `from` is closed and freed, and nobody is
// told. 0, or ERR_SYSTEM and nothing has changed.
int client_link_move(struct client_link *from, struct client_link *to,
                     const struct client_link_ops *ops) WARN_UNUSED;
// Closes the socket, tells the owner, frees at the end of the turn.
void client_link_close(struct client_link *link);
// Reads once into the loop's buffer. > 0: bytes; 0: nothing now; CLIENT_LINK_END: FIN, or the end of TLS;
// ERR_CLOSED: broken; ERR_TLS.
ssize_t client_link_receive(struct client_link *link);
enum { CLIENT_LINK_END = -1 };

static inline struct loop *client_link_loop(const struct client_link *link)
{
    return link->pool->loop;
}

static inline bool client_link_is_closed(const struct client_link *link)
{
    return link->phase == LINK_CLOSED;
}

// The kinds, for client.c.
extern const struct client_link_ops h1_client_link_ops;

enum { H1_CLIENT_KEPT = 512, H2_CLIENT_KEPT = 64, H2_CLIENT_STREAMS_KEPT = 1024 };
size_t h1_client_conn_len(void);
size_t h2_client_conn_len(void);
size_t h2_client_stream_len(void);

struct http_stream *h1_client_open(struct http_client_pool *pool,
                                   const struct http_client_target *target,
                                   struct http_client_owner *owner,
                                   const struct http_stream_events *events, void *user, int *err);
// Goes on with a link that turned out to speak HTTP/1: on_ready follows at once. NULL: out of memory, or
// the system refuses; nothing has changed.
struct http_stream *h1_client_adopt(struct client_link *from,
                                    const struct http_stream_events *events, void *user);
struct http_stream *h1_client_reuse(struct client_link *link, bool check,
                                    const struct http_stream_events *events, void *user);
struct http_stream *h2_client_open(struct http_client_pool *pool,
                                   const struct http_client_target *target,
                                   struct http_client_owner *owner,
                                   const struct http_stream_events *events, void *user, int *err);
struct http_stream *h2_client_join(struct client_link *link,
                                   const struct http_stream_events *events, void *user);
// Of idle ones.
void h1_client_close(struct client_link *link);
void h2_client_close(struct client_link *link);
