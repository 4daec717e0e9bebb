// SPDX-License-Identifier: MIT
// Finds one field in a form and hashes its value, as the bytes come; nothing is kept but a line. For the key that
// a pool is balanced by. Pure; the same hash on all nodes and after a restart.
//
//   form_scan_init ─► form_scan_put(bytes) … ─► form_scan_end ─► found?
#pragma once
#include "base/str.h"

enum form_kind {
    FORM_NONE,      // nothing that fields can be found in
    FORM_PAIRS,     // application/x-www-form-urlencoded, and queries
    FORM_MULTIPART, // multipart/form-data
};

enum form_state { FORM_WANTS_MORE, FORM_FOUND, FORM_ABSENT };

enum {
    FORM_LINE_MAX = 512,    // bytes of a part's header line; of a longer one the rest is not read
    FORM_BOUNDARY_MAX = 70, // RFC 2046 5.1.1
};

struct key_hasher {
    uint64_t state;
};

struct form_scan {
    struct str name;        // of the wanted field; lives as long as this
    uint8_t kind;           // enum form_kind
    uint8_t state;          // enum form_state
    uint8_t at;             // where in its grammar
    bool is_wanted;         // the field that is being read is the one
    struct key_hasher hash; // of the value so far
    uint64_t seen;          // bytes
    // Pairs.
    size_t matched;     // bytes of the name that agree
    uint8_t escape_len; // of a percent-escape: how much of it came
    char escape;        // its first digit
    // Multipart.
    struct str boundary;    // lives as long as this
    uint8_t delimiter_seen; // of CR LF "--" boundary
    uint16_t line_len;
    char line[FORM_LINE_MAX];
};

// All at once.
uint64_t key_hash(const void *bytes, size_t len);

// What a Content-Type says; with FORM_MULTIPART a view of its boundary.
enum form_kind form_kind_of(struct str content_type, struct str *boundary);
void form_scan_init(struct form_scan *scan, enum form_kind kind, struct str name,
                    struct str boundary);
// Stops at the end of the field: what follows is not looked at.
enum form_state form_scan_put(struct form_scan *scan, struct str bytes);
// The form has ended: never FORM_WANTS_MORE.
enum form_state form_scan_end(struct form_scan *scan);
// With FORM_FOUND.
uint64_t form_scan_hash(const struct form_scan *scan);
