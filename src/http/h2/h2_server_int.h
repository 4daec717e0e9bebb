// SPDX-License-Identifier: MIT
// What the parts of the client side of HTTP/2 share: h2_server.c has the connection (bytes, time, its
// end), h2_server_receive.c turns frames into events of streams, h2_server_send.c answers into frames.
#pragma once
#include "base/invariant.h"
#include "http/h2/h2_fields.h"
#include "http/h2/h2_guard.h"
#include "http/h2/h2_queue.h"
#include "http/server_int.h"

enum {
    // A client's upload over 50 ms of distance makes 5 MB/s with this, and a paused stream holds no
    // more of it.
    H2_STREAM_WINDOW = 256 << 10,
    H2_CONN_WINDOW = 1 << 20,
    // Bytes held for paused streams of a connection up to which its window is given back all the same,
    // so that the other streams go on. Behind it the connection waits, and holds at most
    // H2_CONN_WINDOW more.
    H2_HELD_MAX = 1 << 20,
    H2_STREAMS_DEFAULT = 100,
    H2_PUMP_FLUSH = 256 << 10, // bytes handed to the output before it is flushed in between
    H2_PUMP_MAX = 1 << 20,     // bytes of one event: others first
    H2_DELIVER_MAX = 64 << 10, // held bytes given to a user at a time
    H2_INFO_MAX = 16,          // 1xx heads of a stream that may wait while the client does not read
    H2_NOTICE_MS = 1000,       // between the two GOAWAYs of a drain, if the PING has no answer
};

enum h2_server_state {
    H2_SERVER_OPEN,
    H2_SERVER_ENDING, // the last GOAWAY goes out; what comes is dropped
    H2_SERVER_LINGER, // FIN was sent
    H2_SERVER_CLOSED,
};

// A copy of trailers, until they can be sent or told.
struct h2_trailers {
    unsigned count;
    struct http_field fields[];
};

struct h2_server_conn {
    struct http_conn conn; // first
    nghttp2_session *session;
    struct h2_memory *memory;
    struct h2_section *section; // the header section under way
    struct list streams;        // all
    struct list touched;        // streams whose user is to be told something after the flush
    struct list resumed;        // streams with something held for a user that takes it again
    struct loop_task again;
    struct loop_timer timer; // of the stream that stalls first, and of a drain
    struct h2_guard guard;
    size_t held;          // received, and not taken by users
    size_t owed;          // of these, window of the connection not given back
    uint64_t progress_ms; // when the client took bytes last, while some wait
    uint64_t sent_before; // conn.out.sent then
    uint64_t notice_ms;   // when a drain began
    uint32_t block_seen;  // guard.block_count when the phase was entered
    uint32_t lingered;
    unsigned stream_count;
    unsigned pumped;  // bytes given to the output in this event
    unsigned flushed; // of these, before its last flush
    int err;          // nghttp2 cannot go on
    uint8_t state;    // enum h2_server_state
    uint8_t abuse;    // enum h2_abuse found inside a callback
    bool readable;
    bool fin;          // was read
    bool hung_up;      // FIN or an error was announced
    bool in_session;   // inside nghttp2: it must not be called again
    bool settled;      // the client knows our settings
    bool broken;       // nghttp2 found the connection's protocol broken
    bool is_draining;  // the first GOAWAY was sent
    bool is_last_sent; // the second
    bool is_pausing;   // a callback asked the pump to flush
};

struct h2_server_stream {
    struct http_stream stream; // first
    struct h2_server_conn *c;
    struct h2_memory *memory;
    struct list node;    // in c->streams
    struct list touched; // in c->touched
    struct list resumed; // in c->resumed
    struct loop_deferred deferred;
    struct h2_queue out;
    struct h2_queue in;
    struct h2_trailers *out_trailers;
    struct h2_trailers *in_trailers;
    uint64_t progress_ms;
    uint64_t response_left; // BODY_LENGTH
    int32_t id;
    uint32_t infos;    // 1xx heads that came while the socket was full
    int err;           // found while sending; told after the flush
    bool in_exchange;  // it has a user
    bool has_body;     // of the response
    bool has_left;     // response_left counts
    bool is_head;      // HEAD
    bool is_websocket; // extended CONNECT, told as a GET with an upgrade
    bool is_tunnel;
    bool head_sent;
    bool ended;      // by the user
    bool end_sent;   // END_STREAM is in the output
    bool is_waiting; // nghttp2 waits for nghttp2_session_resume_data()
    bool peer_ended; // END_STREAM came
    bool end_told;
    bool paused;
    bool was_full;
    bool was_reset;  // by us
    bool peer_reset; // by the client
    bool is_gone;    // nghttp2 has closed it
};

static inline struct h2_server_conn *h2_server_of(struct http_conn *conn)
{
    return CONTAINER_OF(conn, struct h2_server_conn, conn);
}

static inline struct h2_server_stream *h2_server_stream_of(struct http_stream *stream)
{
    return CONTAINER_OF(stream, struct h2_server_stream, stream);
}

static inline struct loop *h2_server_loop(const struct h2_server_conn *c)
{
    return c->conn.server->loop;
}

static inline bool h2_server_is_open(const struct h2_server_conn *c)
{
    return c->state == H2_SERVER_OPEN;
}

// ---- h2_server.c ----

// Ends all exchanges and closes at once.
void h2_server_lose(struct h2_server_conn *c, int err);
// After anything that happened: does the connection end, which phase is it in, who is woken?
void h2_server_settle(struct h2_server_conn *c);
// The timer must ring in `after_ms` at the latest; 0: never.
void h2_server_watch(struct h2_server_conn *c, uint64_t after_ms);

// ---- h2_server_receive.c ----

extern const struct http_stream_ops h2_server_stream_ops;
void h2_server_set_receive_callbacks(nghttp2_session_callbacks *callbacks);
// Tells users what was held for them.
void h2_server_deliver(struct h2_server_conn *c);
// Answers a request without a user, with the page of `err`.
void h2_server_refuse(struct h2_server_stream *s, int err);
// Ends the user's part.
void h2_server_reset_user(struct h2_server_stream *s, int err);
// RST_STREAM.
void h2_server_reset_stream(struct h2_server_stream *s, uint32_t code);
// Nobody needs it any more: freed at the end of the turn.
void h2_server_free_stream(struct h2_server_stream *s);
struct h2_trailers *h2_server_keep_trailers(struct h2_server_stream *s,
                                            const struct http_field *fields, unsigned count);

// ---- h2_server_send.c ----

void h2_server_set_send_callbacks(nghttp2_session_callbacks *callbacks);
void h2_server_before_flush(struct loop *loop, struct outq *out);
void h2_server_on_flushed(struct loop *loop, struct outq *out);
// Something is to be sent, or to be told, after this event.
void h2_server_wake(struct h2_server_conn *c);
void h2_server_touch(struct h2_server_stream *s);
void h2_server_send_head(struct http_stream *stream, const struct http_head *head);
void h2_server_send_info(struct http_stream *stream, const struct http_head *head);
void h2_server_send_data(struct http_stream *stream, struct str data);
void h2_server_send_end(struct http_stream *stream, const struct http_field *trailers,
                        unsigned count);
