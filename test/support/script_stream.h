// SPDX-License-Identifier: MIT
// A server-side stream in memory: a test plays the client. What the user of the stream sends is
// recorded; what the client does is a call. No sockets, no time of its own. One thread.
#pragma once
#include "base/buf.h"
#include "http/stream.h"

struct script_stream {
    struct http_stream stream; // first
    // Recorded.
    unsigned status; // 0: no head yet
    enum http_body body_kind;
    uint64_t body_len; // told in the head
    struct buf fields; // "Name: value\n" each
    struct buf body;
    unsigned info_count; // 1xx heads
    unsigned pause_count;
    unsigned resume_count;
    bool is_ended;  // send_end was called
    bool is_reset;  // the user gave up
    bool is_paused; // the client's bytes are not wanted
    bool is_over;   // on_sent or on_reset was given
    size_t window;  // bytes the client takes before it must call script_stream_read; 0: all
    size_t unread;  // bytes sent and not taken
};

// `loop` as for any stream. The user sets events and user, as in http_server_ops.on_request.
void script_stream_init(struct script_stream *script, struct loop *loop);
void script_stream_fini(struct script_stream *script);
// The client's bytes, and their end.
void script_stream_data(struct script_stream *script, struct str data);
void script_stream_end(struct script_stream *script);
// The client reads everything that waits (on_room follows where it is due), and the exchange ends
// (on_sent) when the answer is complete.
void script_stream_read(struct script_stream *script);
// The client goes away.
void script_stream_leave(struct script_stream *script);
// A recorded field's value in to[size], terminated; false: it is not there.
bool script_stream_field(const struct script_stream *script, const char *name, char *to,
                         size_t size);
// The recorded body, terminated.
const char *script_stream_text(struct script_stream *script);
