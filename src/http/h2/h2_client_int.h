// SPDX-License-Identifier: MIT
// What the parts of an HTTP/2 client connection share: the connection and its life (h2_client.c), the
// callbacks of its session (h2_client_session.c), what users of streams do (h2_client_stream.c).
//
//   opening ─ TLS: ALPN h2, or plain ─► preface sent ─ SETTINGS of the peer ─► open ◄─► idle
//      └───── ALPN http/1.1 ─► h1_client_adopt()
//
// No stream begins before the peer's SETTINGS: they say how many there may be, and whether it knows
// extended CONNECT. Streams that are lost, and queues that became longer or shorter, are noted in
// `changed` and told to the users at the end of the event, never within nghttp2.
#pragma once
#include "base/invariant.h"
#include "http/client_link.h"
#include "http/h2/h2_fields.h"
#include "http/h2/h2_queue.h"
#include "net/websocket.h"

enum {
    H2_CLIENT_FRAME_HEAD = 9,
    H2_CLIENT_STREAM_WINDOW = 256 << 10, // what one stream may leave unread here
    H2_CLIENT_WINDOW =
        1 << 20, // of all; given back at once, a stream that is paused stops no other
    H2_CLIENT_STREAM_MAX = 1000,      // of one connection, whatever the peer allows
    H2_CLIENT_FIRST_STREAM_MAX = 100, // as nghttp2 believes before its SETTINGS
    H2_CLIENT_ID_MAX = 1 << 30,       // then another connection; far from where ids end
    H2_CLIENT_PUMP_MAX = 65536,       // bytes that wait for the socket while no more are made
    H2_CLIENT_FLUSH_MS = 30000,       // for what tunnels left queued
    H2_CLIENT_SILENT_MS = 1000,       // a peer that says nothing for so long gets no more streams
};

struct h2_client_conn {
    struct client_link link; // first
    nghttp2_session *session;
    struct h2_memory *memory;
    struct loop_task again;
    struct list streams; // all
    struct list changed; // those whose users are to be told something
    unsigned stream_count;
    unsigned stream_max;
    uint64_t received_ms; // when the peer last said something
    bool is_dead;         // nghttp2 is not asked any more, and nothing comes
    bool only_h2;         // HTTP/1 is not what was asked for
    bool is_open;         // the peer's SETTINGS have come
    bool is_idle;         // the owner has it in its list
    bool has_room;        // what the owner was told
    bool is_leaving;      // no more streams: GOAWAY, a failure, or silence
};

struct h2_client_stream {
    struct http_stream stream;
    struct h2_client_conn *conn;
    struct list node;
    struct list changed;
    struct loop_deferred deferred;
    struct h2_queue out;
    struct h2_queue in;          // received while paused
    struct h2_section *section;  // being received
    struct h2_section *trailers; // received while paused
    uint64_t sent_before;        // link.out.sent when the request was sent
    uint64_t sent_ms;
    uint64_t left;  // of the response's body, if has_left
    int32_t id;     // 0: nothing was sent
    int err;        // to be told, if not 0
    uint8_t method; // enum http_method
    bool head_seen;
    bool has_left;
    bool is_connect;  // extended CONNECT
    bool is_tunnel;   // and it succeeded
    bool peer_ended;  // END_STREAM came
    bool is_told_end; // on_end was called
    bool request_ended;
    bool has_trailers; // END_STREAM comes with them
    bool end_sent;     // END_STREAM was sent
    bool is_closed;    // nghttp2 knows it no more
    bool is_orphan;    // without a user: what is queued goes out first
    bool paused;
    bool was_full;
    bool peer_reset;
    bool is_gone; // its user knows it no more
    char accept[NET_WEBSOCKET_ACCEPT_LEN];
    struct slab *slab;
    struct h2_memory *memory; // held: sections are given back after the connection has gone
};

static inline struct h2_client_stream *h2_client_stream_of(struct http_stream *stream)
{
    return CONTAINER_OF(stream, struct h2_client_stream, stream);
}

static inline struct h2_client_conn *h2_client_of_link(struct client_link *link)
{
    return CONTAINER_OF(link, struct h2_client_conn, link);
}

// ---- h2_client.c ----

// The user is told at the end of the event (or nghttp2 has something to send: then with NULL).
void h2_client_note(struct h2_client_conn *c, struct h2_client_stream *s);
// The stream is lost.
void h2_client_lose_stream(struct h2_client_stream *s, int err);
// The connection takes no more streams.
void h2_client_leave(struct h2_client_conn *c);
// Forgets a stream; its memory goes at the end of the turn.
void h2_client_detach(struct h2_client_stream *s);
// The peer's SETTINGS, the first or later ones.
void h2_client_on_settings(struct h2_client_conn *c);
void h2_client_on_goaway(struct h2_client_conn *c);
// The stream's user gets what was kept, as far as it takes it.
void h2_client_deliver(struct h2_client_stream *s);

// ---- h2_client_session.c ----

// Makes the session and its preface. 0, or ERR_MEMORY.
int h2_client_session_new(struct h2_client_conn *c) WARN_UNUSED;

// ---- h2_client_stream.c ----

extern const struct http_stream_ops h2_client_stream_ops;
int h2_client_send_body(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t len, nghttp2_data_source *source, void *user);
