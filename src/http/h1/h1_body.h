// SPDX-License-Identifier: MIT
// The content of a message taken from the bytes that come, whatever its framing. Pure; any thread.
#pragma once
#include "http/h1/h1_parse.h"

enum { H1_TRAILER_FIELD_MAX = 32 };

struct h1_body {
    uint64_t left; // BODY_LENGTH
    struct h1_chunked chunked;
    uint8_t kind; // enum http_body
    bool in_trailers;
};

enum h1_body_event {
    H1_BODY_MORE, // nothing more can be taken from these bytes
    H1_BODY_DATA, // *data is content
    H1_BODY_END,  // the message is complete; trailers are set
};

struct h1_body_result {
    size_t used; // bytes taken
    struct str data;
    struct http_field trailers[H1_TRAILER_FIELD_MAX];
    unsigned trailer_count;
};

void h1_body_init(struct h1_body *body, const struct http_head *head);
// Is the message complete without any content?
bool h1_body_is_empty(const struct h1_body *body);
// Returns an enum h1_body_event or a negative ERR_….
int h1_body_next(struct h1_body *body, const char *p, size_t len,
                 struct h1_body_result *result) WARN_UNUSED;
