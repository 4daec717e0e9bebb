// SPDX-License-Identifier: MIT
// What the two halves of an HTTP/1 client connection share: what comes (h1_client.c) and what the user
// does (h1_client_send.c).
//
//   CONNECT ─► HEAD ─► BODY ─► DONE ─ release ─► IDLE ─ reuse ─► HEAD
//                │ 101                             │ data, FIN
//                └──► TUNNEL ─ release ─► FLUSH    └──► closed
#pragma once
#include "base/invariant.h"
#include "http/client_link.h"
#include "http/h1/h1_body.h"
#include "http/h1/h1_input.h"

enum h1_client_state {
    STATE_CONNECT,
    STATE_HEAD,
    STATE_BODY,
    STATE_DONE,
    STATE_TUNNEL,
    STATE_IDLE,
    STATE_FLUSH, // without a user: what is queued goes out, then it is closed
    STATE_CLOSED,
};

struct h1_client_conn {
    struct client_link link; // first
    struct http_stream stream;
    struct loop_task again;
    struct h1_kept *kept;
    struct h1_body body; // of the response
    uint64_t written_before;
    uint64_t sent_before;
    uint64_t request_left; // BODY_LENGTH
    uint8_t request_body;  // enum http_body
    uint8_t state;         // enum h1_client_state
    uint8_t method;        // enum http_method
    bool starved;          // what is kept is not enough: more bytes must come first
    bool keep_alive;
    bool head_sent; // of the request
    bool request_ended;
    bool paused;
    bool was_full;
    bool fin_queued;
    bool shut;
};

static inline struct h1_client_conn *h1_client_of(struct http_stream *stream)
{
    return CONTAINER_OF(stream, struct h1_client_conn, stream);
}

static inline struct h1_client_conn *h1_client_of_link(struct client_link *link)
{
    return CONTAINER_OF(link, struct h1_client_conn, link);
}

// The only place where the state changes.
void h1_client_set_state(struct h1_client_conn *c, enum h1_client_state state);
void h1_client_close_now(struct h1_client_conn *c);
// The exchange fails.
void h1_client_fail(struct h1_client_conn *c, int err);
void h1_client_on_again(struct loop *loop, struct loop_task *task);
void h1_client_on_flushed(struct client_link *link);
