// SPDX-License-Identifier: MIT
// A stream of either side in memory, for the simulation of transactions. The test plays the peer: what
// the peer does is a call here; what the transaction does is recorded and checked against the contract
// of http/stream.h. A call that a real stream could not take ends the program with the seed.
#pragma once
#include "base/buf.h"
#include "http/stream.h"

struct sim;

enum sim_side { SIM_CLIENT, SIM_ORIGIN };

enum sim_life {
    SIM_CONNECTING, // origin: on_ready is to come
    SIM_LIVE,
    SIM_SENT,     // client: it has the whole response (on_sent was given)
    SIM_GONE,     // the peer left (on_reset was given)
    SIM_RESET,    // the transaction gave up
    SIM_RELEASED, // origin: the transaction gave it back
};

struct sim_stream {
    struct http_stream stream; // first
    struct list node;          // among the live or the dead streams of the simulation
    struct list dirty;         // in loop->dirty
    struct loop_timer connect_timer;
    struct sim *sim;
    enum sim_side side;
    enum sim_life life;
    unsigned number; // of its side, from 1
    unsigned member; // origin: index of the target
    bool is_raw;     // origin: of a connection that is passed through
    struct tls *tls; // client: NULL: none

    // What the peer said: the request of a client, the response of an origin.
    enum http_method method; // of the request, on both sides
    enum http_body in_body;
    uint64_t in_left; // BODY_LENGTH
    uint64_t in_at;   // bytes of content so far
    uint64_t in_key;  // not 0: content is sim_byte(in_key, offset)
    unsigned in_status;
    bool in_head;
    bool in_ended;
    bool wants_upgrade;

    // What the transaction said.
    enum http_body out_body;
    uint64_t out_len; // told in the head
    uint64_t out_left;
    uint64_t out_at;
    uint64_t out_key; // from the field X-Key: content is checked and not kept
    unsigned status;  // client: of the final head; 0: none yet
    unsigned infos;   // 1xx heads
    unsigned last_info;
    unsigned trailers;
    struct buf fields; // "Name: value\n" each; in front the target of a request
    struct buf body;
    bool out_head;
    bool out_ended;
    bool out_upgrade;
    bool is_tunnel;
    bool is_paused;
    unsigned pauses;
    unsigned resumes;

    size_t window; // bytes the peer takes before it must read; 0: all
    size_t unread;
    bool was_full;
};

static inline struct sim_stream *sim_stream_of(struct http_stream *stream)
{
    return CONTAINER_OF(stream, struct sim_stream, stream);
}

// Byte `at` of the content `key`.
static inline char sim_byte(uint64_t key, uint64_t at)
{
    return (char)(key * 31 + at * 7 + (at >> 8) * 13);
}

// A new stream in the simulation, which frees it at its end.
struct sim_stream *sim_stream_new(struct sim *sim, enum sim_side side, enum sim_life life);
void sim_stream_free(struct sim_stream *s);
// The streams with something to send; the loop's after_event.
void sim_flush(struct loop *loop);

static inline bool sim_is_live(const struct sim_stream *s)
{
    return s->life == SIM_LIVE || s->life == SIM_CONNECTING;
}

// ---- what the peer does; each is one event ----

// Content, and the end of the message. The peer keeps its own framing: these end the program when
// there is more or less than the head told.
void sim_data(struct sim_stream *s, struct str data);
void sim_text(struct sim_stream *s, const char *text);
void sim_fill(struct sim_stream *s, size_t len); // generated content: sim_byte(in_key, …)
void sim_end(struct sim_stream *s);
void sim_end_with_trailer(struct sim_stream *s, const char *name, const char *value);
// Origin: the connection stands.
void sim_connected(struct sim_stream *s);
// The same, and its protocol is another than was thought: the stream is another one now, which it returns.
struct sim_stream *sim_connected_anew(struct sim_stream *s);
// Origin: a head ("HTTP/1.1 200 OK\r\n…\r\n\r\n"), 1xx or final. One without content is the end, too.
void sim_respond(struct sim_stream *s, const char *text);
// The peer takes all that waits for it.
void sim_read(struct sim_stream *s);
// The peer is gone, with an ERR_….
void sim_leave(struct sim_stream *s, int err);

// ---- what was recorded ----

const char *sim_body(struct sim_stream *s);
bool sim_has_field(struct sim_stream *s, const char *line);
