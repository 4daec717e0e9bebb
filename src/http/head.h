// SPDX-License-Identifier: MIT
// The head of a request or a response as the transaction sees it, whatever protocol brought it.
#pragma once
#include "http/field.h"

// X(id, name)
#define METHOD_TABLE(X)          \
    X(METHOD_GET, "GET")         \
    X(METHOD_HEAD, "HEAD")       \
    X(METHOD_POST, "POST")       \
    X(METHOD_PUT, "PUT")         \
    X(METHOD_DELETE, "DELETE")   \
    X(METHOD_OPTIONS, "OPTIONS") \
    X(METHOD_PATCH, "PATCH")     \
    X(METHOD_CONNECT, "CONNECT") \
    X(METHOD_TRACE, "TRACE")

enum http_method {
    METHOD_OTHER = 0,
#define X(id, name) id,
    METHOD_TABLE(X)
#undef X
};

enum http_body {
    BODY_NONE,        // no content
    BODY_LENGTH,      // exactly body_len bytes
    BODY_CHUNKED,     // until the last chunk; trailers may follow
    BODY_UNTIL_CLOSE, // responses only
};

// The views of a head that was just parsed point into the receive buffer; whoever keeps it copies them.
struct http_head {
    struct http_field *fields; // in the order received
    unsigned field_count;
    uint64_t seen; // FIELD_BIT of each known field that is there

    uint8_t version; // 10, 11, 20
    bool keep_alive; // the peer allows another message after this one
    bool upgrade;    // Connection: upgrade, with an Upgrade field (in a request: not to h2c)
    bool expect_continue;
    bool te_trailers; // the client takes trailers ("TE: trailers")
    enum http_body body;
    uint64_t body_len; // with BODY_LENGTH, else 0

    // Requests.
    enum http_method method;
    struct str method_text;
    struct str target;    // as received
    struct str scheme;    // of an absolute-form target, else empty
    struct str authority; // of the target, else the Host field's value; may be empty for 1.0
    struct str path;      // raw, begins with '/'; "*" for OPTIONS *
    struct str query;     // raw, with its '?'; empty if there is none

    // Responses.
    unsigned status;
    struct str reason;
};

// The first field with this id, or NULL.
const struct http_field *http_head_find(const struct http_head *head, enum field_id id);
// Its value, or the empty view.
struct str http_head_value(const struct http_head *head, enum field_id id);
// The first field with this name (any case), or NULL.
const struct http_field *http_head_find_name(const struct http_head *head, struct str name);

// Is `token` an element (any case) of the comma separated values of the fields with this id?
bool http_head_has_token(const struct http_head *head, enum field_id id, struct str token);

enum http_method http_method_find(struct str name); // case-sensitive (RFC 9110 9.1)
// RFC 9110 9.2.2: GET, HEAD, OPTIONS, TRACE, PUT, DELETE.
bool http_method_is_idempotent(enum http_method method);
// The reason phrase of a status (RFC 9110 15), "" if unknown.
struct str http_reason(unsigned status);
