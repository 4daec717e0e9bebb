// SPDX-License-Identifier: MIT
// One exchange (a request and its response) as its user sees it, whatever protocol carries it. The
// transaction sees its client and its origin through this interface and nothing else; HTTP/1 is one
// implementation, a scripted one in memory (test/support/script_stream.h) another.
//
//     user (transaction, admin API)
//        │ ops: send_head, send_data, send_end, …      ▲ events: on_head, on_data, on_end, …
//        ▼                                             │
//     stream of a server connection (client side) or of a client connection (origin side)
//
// All calls: the thread of the connection's loop. A stream belongs to its connection; its user holds
// it from the moment it gets it until on_reset, on_sent (server side) or stream_release (client side).
#pragma once
#include "http/head.h"
#include "loop/loop.h"

struct http_stream;
struct http_conn;

enum {
    // bytes queued for a peer at which its user is told to pause the producer
    HTTP_AHEAD_LEN = 65536,
};

// What the user may do.
struct http_stream_ops {
    // Server side: the final response head. Client side: the request head. Views in `head` are
    // copied before the return. Framing follows head->body and body_len; Connection,
    // Content-Length, Transfer-Encoding are written by the stream and must not be among the fields.
    // Requests use method_text, target, authority (as Host), fields. Responses: status, reason, fields.
    // A response without content that tells a length all the same (HEAD, 304): BODY_NONE, with
    // FIELD_CONTENT_LENGTH in `seen` and the length in body_len.
    void (*send_head)(struct http_stream *stream, const struct http_head *head);
    // A 1xx response head (server side), never 101.
    void (*send_info)(struct http_stream *stream, const struct http_head *head);
    // Body bytes, borrowed until the end of the current event (they are sent or copied by then).
    void (*send_data)(struct http_stream *stream, struct str data);
    // The end of the body, with trailers if the peer can take them.
    void (*send_end)(struct http_stream *stream, const struct http_field *trailers, unsigned count);
    // Gives up: the peer must be able to see that the message is not complete. No event follows.
    void (*reset)(struct http_stream *stream, int err);
    // Stops and restarts on_data and on_end. What was received already may still come in the same event.
    void (*pause)(struct http_stream *stream);
    void (*resume)(struct http_stream *stream);
    // From here on raw bytes: send_data and on_data carry them, send_end and on_end are FIN. Server
    // side: after send_head with status 101 (or 2xx of a CONNECT). Client side: after on_head with 101.
    void (*tunnel)(struct http_stream *stream);
    // Client side: the exchange is over (on_end was seen and the request was sent whole): the
    // connection is kept for reuse if it can be. Otherwise it is closed; of a tunnel whose ends both
    // sent FIN, what is still queued goes out first. No event follows.
    void (*release)(struct http_stream *stream);
};

// What the user is told.
struct http_stream_events {
    // Server side: comes from the server's on_request instead. Client side: the final response head
    // (or 101); views are valid until the return.
    void (*on_head)(struct http_stream *stream, const struct http_head *head);
    // Client side: a 1xx head other than 101.
    void (*on_info)(struct http_stream *stream, const struct http_head *head);
    // Client side: connected, send_head may be called. Not called for a reused connection. When the
    // protocol was only found out now, `stream` may be another one than http_client_open() returned,
    // which is gone; its events and user are the same.
    void (*on_ready)(struct http_stream *stream);
    // Body bytes (tunnel: raw bytes), valid until the return.
    void (*on_data)(struct http_stream *stream, struct str data);
    // The message is complete (tunnel: the peer sent FIN). Trailers are valid until the return.
    void (*on_end)(struct http_stream *stream, const struct http_field *trailers, unsigned count);
    // HTTP_AHEAD_LEN bytes or more wait for the peer: the user pauses what produces them.
    void (*on_full)(struct http_stream *stream);
    // The queue of bytes to the peer fell below HTTP_AHEAD_LEN / 2 again after it was above.
    void (*on_room)(struct http_stream *stream);
    // Server side: the response was handed to the kernel whole, the stream is over. (Tunnel: both
    // directions have ended.)
    void (*on_sent)(struct http_stream *stream);
    // The peer is gone or broke the protocol (enum err); the stream is over. ERR_CLOSED: closed or
    // reset; for a reused client connection see `was_reused` and `bytes_in`.
    void (*on_reset)(struct http_stream *stream, int err);
};

struct http_stream {
    const struct http_stream_ops *ops;
    const struct http_stream_events *events;
    void *user;
    struct loop *loop;
    struct http_conn
        *conn;         // server side: its connection (http/server.h has what may be asked of it)
    size_t queued;     // bytes waiting for the peer (copied, not in the kernel yet)
    uint64_t bytes_in; // of this exchange, as they were on the wire (heads included)
    uint64_t bytes_out;
    bool was_reused;    // client side: this connection carried an exchange before
    bool never_arrived; // client side, in on_reset: the peer had closed before any byte came to it
    bool is_h2;         // one of many on its connection
    bool is_complete;   // the peer's message has ended (on_end was or need not be called)
};

// As of the last flush.
static inline bool stream_is_full(const struct http_stream *stream)
{
    return stream->queued >= HTTP_AHEAD_LEN;
}

// For the protocols: on_full or on_room when `queued` bytes wait for the peer now and the user knows otherwise.
static inline void stream_tell_room(struct http_stream *stream, size_t queued, bool *was_full)
{
    if (queued >= HTTP_AHEAD_LEN && !*was_full) {
        *was_full = true;
        stream->events->on_full(stream);
    } else if (queued < HTTP_AHEAD_LEN / 2 && *was_full) {
        *was_full = false;
        stream->events->on_room(stream);
    }
}
