// SPDX-License-Identifier: MIT
// What the parsers of requests, responses and trailers share.
#pragma once
#include "http/h1/h1_parse.h"

// A field section as it was found, with what deciding the framing needs.
struct h1_section {
    unsigned count;             // fields kept
    uint64_t seen;              // FIELD_BIT of each known field
    uint64_t repeated;          // of each that was there more than once
    uint8_t at[FIELD_ID_COUNT]; // index of the last field with this id, valid where seen
};

// Parses field lines from p up to and with the empty line. Field values come without surrounding
// white space; disguised names are counted and left out.
// STEP_DONE and *next behind the section, STEP_AGAIN when `end` came first, or a negative ERR_….
int h1_parse_fields(const char *p, const char *end, unsigned field_max, struct http_field *fields,
                    struct h1_section *section, const char **next) WARN_UNUSED;

// Takes a line end at p: STEP_DONE for CRLF, STEP_AGAIN when more is needed to tell, ERR_LINE_END for
// a CR or LF that stands alone, `other` for any other byte.
static inline int h1_take_line_end(const char *p, const char *end, int other)
{
    if (p == end) {
        return STEP_AGAIN;
    }
    if (*p != '\r') {
        return *p == '\n' ? ERR_LINE_END : other;
    }
    if (end - p < 2) {
        return STEP_AGAIN;
    }
    return p[1] == '\n' ? STEP_DONE : ERR_LINE_END;
}

// "HTTP/1.0" or "HTTP/1.1" at p. STEP_DONE and *version (10, 11), STEP_AGAIN, ERR_VERSION for another
// version, ERR_START_LINE for anything else.
int h1_take_version(const char *p, const char *end, uint8_t *version) WARN_UNUSED;
enum { H1_VERSION_LEN = 8 };

static inline bool h1_has(const struct h1_section *section, enum field_id id)
{
    return (section->seen & FIELD_BIT(id)) != 0;
}

// Sets body and body_len from Content-Length and Transfer-Encoding (RFC 9112 6.3); BODY_NONE when both
// are missing. 0 or a negative ERR_….
int h1_decide_length(const struct h1_section *section, struct http_head *head) WARN_UNUSED;

// Sets keep_alive and upgrade from Connection and Upgrade. 0; ERR_UPGRADE; ERR_TOO_MANY_FIELDS: more
// than H1_CONNECTION_MAX names.
int h1_decide_connection(const struct h1_section *section, struct http_head *head) WARN_UNUSED;
