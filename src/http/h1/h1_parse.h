// SPDX-License-Identifier: MIT
// HTTP/1 messages from bytes (RFC 9112), strict by construction. Pure functions: no I/O, no memory,
// no clock; the caller keeps the bytes. Called again with the same bytes and more, they give the same
// answer as with all at once. Any thread.
#pragma once
#include "base/err.h"
#include "http/head.h"

struct h1_limits {
    size_t head_max;   // bytes of start line and fields, with the final CRLF CRLF
    size_t target_max; // bytes of a request target
    unsigned field_max;
};

enum {
    H1_FIELD_MAX = 200,     // upper bound of limits.headers: the size of a worker's scratch array
    H1_CONNECTION_MAX = 64, // elements of Connection: each field is compared with each of them
    H1_CHUNK_EXTENSION_MAX = 256, // bytes of one chunk's extensions
    H1_TRAILER_MAX = 8192,        // bytes of a trailer section
    H1_METHOD_MAX = 32,           // bytes
};

// Parses a request head at p. `fields` has room for limits->field_max entries; the head's views point
// into p. Leading empty lines (CRLF, at most one, RFC 9112 2.2) are taken as part of the head.
// Returns the head's bytes (> 0), 0 when more bytes are needed, or a negative ERR_…; errors are found
// as early as the line that has them is complete, at the latest at head_max. A caller need not call
// again before another LF has come.
// All framing is decided here (RFC 9112 6.3): head->body, body_len, keep_alive, upgrade.
// Fields that must not be sent on (disguised names) are left out.
ptrdiff_t h1_parse_request(const char *p, size_t len, const struct h1_limits *limits,
                           struct http_field *fields, struct http_head *head) WARN_UNUSED;

// Parses a response head. `method` is that of the request (HEAD and CONNECT change the framing);
// 1xx heads are returned like others, with body BODY_NONE. Other rules and returns as above.
ptrdiff_t h1_parse_response(const char *p, size_t len, enum http_method method,
                            const struct h1_limits *limits, struct http_field *fields,
                            struct http_head *head) WARN_UNUSED;

// The chunked coding (RFC 9112 7.1), as a decoder fed with whatever has come.
struct h1_chunked {
    uint64_t left; // bytes left of the current chunk
    uint16_t extension_len;
    uint16_t trailer_len;
    uint8_t state;
    uint8_t digits;
};

void h1_chunked_init(struct h1_chunked *chunked);

enum h1_chunked_event {
    H1_CHUNKED_MORE,     // all input used up, go on when more has come
    H1_CHUNKED_DATA,     // *data is content
    H1_CHUNKED_TRAILERS, // the last chunk was read; the trailer section begins at the next byte
};
// Takes bytes from p. *used says how many; *data is set for H1_CHUNKED_DATA (a view into p).
// Returns an enum h1_chunked_event or a negative ERR_CHUNK_….
int h1_chunked_next(struct h1_chunked *chunked, const char *p, size_t len, size_t *used,
                    struct str *data) WARN_UNUSED;

// Parses the trailer section after H1_CHUNKED_TRAILERS, up to and with its empty line. Framing,
// routing, forwarding and other fields that may not be in trailers (RFC 9110 6.5.1) are left out.
// Returns its bytes (>= 2), 0 for more, or a negative ERR_…. *field_count gets the number.
ptrdiff_t h1_parse_trailers(const char *p, size_t len, unsigned field_max,
                            struct http_field *fields, unsigned *field_count) WARN_UNUSED;
