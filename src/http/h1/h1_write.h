// SPDX-License-Identifier: MIT
// HTTP/1 messages to bytes. Everything that is sent is written anew here from parsed heads. Loop thread.
#pragma once
#include "http/head.h"
#include "net/outq.h"

// How a message is delimited, and what the head says of the connection.
struct h1_framing {
    enum http_body body; // BODY_NONE: no framing field at all
    uint64_t body_len;   // BODY_LENGTH; BODY_NONE with has_length: told, not sent
    bool has_length;
    const char *connection; // value of the Connection field, or NULL for none
    bool add_date;          // a Date is missing (RFC 9110 6.6.1)
};

// Writes a request head: "METHOD TARGET HTTP/1.1", Host (from head->authority), fields.
void h1_write_request(struct loop *loop, struct outq *out, const struct http_head *head,
                      const struct h1_framing *framing);
// Writes a response head, status line first. An empty reason becomes the standard one.
void h1_write_response(struct loop *loop, struct outq *out, const struct http_head *head,
                       const struct h1_framing *framing);
// One chunk; `data` is borrowed like outq_put_view.
void h1_write_chunk(struct loop *loop, struct outq *out, struct str data);
// The last chunk and the trailer section.
void h1_write_last_chunk(struct loop *loop, struct outq *out, const struct http_field *trailers,
                         unsigned count);
