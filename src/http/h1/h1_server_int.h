// SPDX-License-Identifier: MIT
// What the two halves of the client side of HTTP/1 share: h1_server.c receives and moves between the
// states, h1_server_send.c writes answers.
#pragma once
#include "base/invariant.h"
#include "http/h1/h1_body.h"
#include "http/h1/h1_input.h"
#include "http/server_int.h"

struct h1_server_conn;

// A state: what is done with input, and when the peer ends.
struct h1_server_state {
    const char *name;
    // Takes bytes; 0: none can be used now, they are kept. NULL: input is not read in this state.
    size_t (*on_input)(struct h1_server_conn *conn, const char *p, size_t len);
    // The peer sent FIN and everything before it was taken.
    void (*on_fin)(struct h1_server_conn *conn);
    void (*on_timeout)(struct h1_server_conn *conn);
};

struct h1_server_conn {
    struct http_conn conn; // first
    struct http_stream stream;
    struct loop_task again;
    const struct h1_server_state *state;
    struct h1_kept *kept;
    struct h1_body body;     // of the request
    uint64_t response_left;  // BODY_LENGTH
    uint64_t written_before; // conn.out.written at the start of the exchange
    uint32_t lingered;       // bytes dropped
    uint8_t response_body;   // enum http_body
    bool is_fresh;           // nothing but HTTP/2's preface may have come
    bool readable;           // the kernel may have more
    bool fin;                // the peer sent FIN (it may not be read yet)
    bool broken;             // reset
    bool starved;            // what is kept is not enough: more bytes must come first
    bool expects;            // the client waits for 100 (Continue) before it sends the body
    bool in_exchange;        // the stream has a user
    bool keep_alive;         // the client wants it, and nothing speaks against it
    bool is_http10;
    bool is_head;
    bool head_sent;
    bool response_ended;
    bool request_ended;
    bool paused;
    bool was_full; // the user was told to pause, on_room is owed
    bool fin_queued;
    bool shut; // FIN sent
};

_Static_assert(sizeof(struct h1_server_conn) <= 480, "an idle connection must stay small");

// The states that sending must know; all are in h1_server.c.
extern const struct h1_server_state h1_server_in_tunnel, h1_server_in_linger, h1_server_in_closed;
// What a stream's user may do.
extern const struct http_stream_ops h1_server_stream_ops;

static inline struct h1_server_conn *h1_server_conn_of(struct http_stream *stream)
{
    return CONTAINER_OF(stream, struct h1_server_conn, stream);
}

static inline struct loop *h1_server_loop(struct h1_server_conn *c)
{
    return c->conn.server->loop;
}

static inline void h1_server_set_state(struct h1_server_conn *c,
                                       const struct h1_server_state *state)
{
    INVARIANT(c->state != &h1_server_in_closed);
    c->state = state;
}

static inline bool h1_server_is_closed(const struct h1_server_conn *c)
{
    return c->state == &h1_server_in_closed;
}

static inline void h1_server_run_again(struct h1_server_conn *c)
{
    loop_task_add(h1_server_loop(c), &c->again);
}

// h1_server.c: how a connection goes on or ends.
//
// Closes at once; it must be open.
void h1_server_close(struct h1_server_conn *c);
// Closes so that a response under way does not look complete: RST instead of FIN.
void h1_server_cut(struct h1_server_conn *c);
// The peer is gone, or is given up (enum err): tells the user.
void h1_server_lose(struct h1_server_conn *c, int err);
// Everything was said; what the client still sends is read and dropped for a while, since closing
// with unread input would reset the connection and could take the answer away (RFC 9112 9.6).
void h1_server_linger(struct h1_server_conn *c);
// The exchange is over and the request was read whole: the next one may come.
void h1_server_next_request(struct h1_server_conn *c);
// Both directions of a tunnel have ended.
void h1_server_tunnel_done(struct h1_server_conn *c);

// h1_server_send.c: what was queued was offered to the kernel (outq.on_flushed).
void h1_server_on_flushed(struct loop *loop, struct outq *out);
