// SPDX-License-Identifier: MIT
// Header sections of HTTP/2, both ways: from what nghttp2 decodes to a head as HTTP/1 would give it, and
// from a head to what nghttp2 encodes. The rules of RFC 9113 8.2 and 8.3 that nghttp2 does not check
// itself are here. No I/O; the thread of the memory.
#pragma once
#include "http/h1/h1_parse.h"
#include "http/h2/h2_memory.h"

enum {
    H2_FIELD_COST = 32,  // added to each field's bytes (RFC 9113 6.5.2)
    H2_BOMB_FACTOR = 8,  // a section of so many times the bound ends the connection
    H2_TRAILER_MAX = 32, // fields of a trailer section
    H2_NV_MAX = 448,     // fields of a section that is sent
};

// ---- received ----

enum h2_section_kind { H2_REQUEST, H2_RESPONSE, H2_TRAILERS };

// A header section while it is decoded. One block of memory of the session's; the views of the finished
// head point into it.
struct h2_section;

// For one with `limits` (their target_max is for requests only). NULL: out of memory.
struct h2_section *h2_section_new(struct h2_memory *memory, enum h2_section_kind kind,
                                  const struct h1_limits *limits);
// NULL is allowed.
void h2_section_free(struct h2_section **section);
// Takes a decoded field. 0: go on, also when the section will be refused; ERR_ABUSE: it is far over
// its bound, and going on decoding would be the attack.
int h2_section_add(struct h2_section *section, nghttp2_rcbuf *name,
                   nghttp2_rcbuf *value) WARN_UNUSED;
// Adds a known field of our own, unless there is one, before the section is finished.
void h2_section_put(struct h2_section *section, struct str name, struct str value);
// The value of :protocol, or the empty view.
struct str h2_section_protocol(const struct h2_section *section);

// What was added as a head; `ended`: END_STREAM came with it. 0, or ERR_… (err_status() is what to
// answer, of a request); *head is filled as far as possible. Views live until h2_section_free(). All
// of a request's lie in one row: method, authority, target, fields.
int h2_section_request(struct h2_section *section, bool ended, struct http_head *head) WARN_UNUSED;
// `method` is that of the request. A 1xx has BODY_NONE.
int h2_section_response(struct h2_section *section, enum http_method method, bool ended,
                        struct http_head *head) WARN_UNUSED;
// The fields that may be in trailers; their number. 0, or ERR_….
int h2_section_trailers(struct h2_section *section, const struct http_field **fields,
                        unsigned *count) WARN_UNUSED;

// ---- sent ----

// The fields of one section. Views are borrowed until nghttp2 has copied them (nghttp2_submit_…), which
// makes names lower case too.
struct h2_nva {
    size_t count;
    bool overflow; // there were more than H2_NV_MAX
    char length[20];
    char status[3];
    nghttp2_nv nv[H2_NV_MAX];
};

// Not more than this is initialised.
static inline void h2_nva_init(struct h2_nva *nva)
{
    nva->count = 0;
    nva->overflow = false;
}

// `name` is in lower case and lives forever.
void h2_nva_put(struct h2_nva *nva, struct str name, struct str value);
void h2_nva_put_status(struct h2_nva *nva, unsigned status);
void h2_nva_put_length(struct h2_nva *nva, uint64_t len);
// All but those that HTTP/2 does not have (RFC 9113 8.2.2): Connection, Keep-Alive, Proxy-Connection,
// Transfer-Encoding, Upgrade, HTTP2-Settings, and TE other than "trailers". Host is left out too: it is
// :authority.
void h2_nva_put_fields(struct h2_nva *nva, const struct http_field *fields, unsigned count);
