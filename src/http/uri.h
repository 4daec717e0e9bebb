// SPDX-License-Identifier: MIT
// Request targets, paths and hosts (RFC 3986, RFC 9110 4, RFC 9112 3.2). Pure; any thread.
#pragma once
#include "base/err.h"
#include "base/str.h"

enum {
    URI_HOST_MAX = 255, // bytes of a host (RFC 1035 2.3.4: 253, and brackets of an address)
};

// Splits a request target into scheme, authority, path and query: origin-form, absolute-form (http
// and https), and "*" when `allow_asterisk` (OPTIONS). The path of "http://h" and "http://h?q" is "/".
// Bytes outside RFC 3986's characters (controls, space, '"', '<', '>', '^', '`', '{', '|', '}', bytes
// over 0x7e, '#') are refused, but for '^', '`', '{', '|', '}' in the query, which browsers send as they
// are; '[' and ']' pass; '\' passes here and is judged by uri_normalise. Broken escapes
// ("%zz", "%4") are refused in the path; in the query they pass. userinfo in an absolute-form is refused.
// 0, or ERR_TARGET. Outputs are views into `target` (or constants).
struct uri_target {
    struct str scheme;
    struct str authority;
    struct str path;
    struct str query; // with '?'
};
int uri_split_target(struct str target, bool allow_asterisk, struct uri_target *out) WARN_UNUSED;

// Writes the path that is matched and sent on: escapes of unreserved characters decoded, other escapes
// with upper-case digits, dot segments removed (RFC 3986 6.2.2, 5.2.4). Empty segments stay. Never
// longer than the input: `out` has room for path.len bytes, *out_len >= 1.
// Unless `loose`: an escaped '/' (%2F), '\' in either form (%5C) and %00 are refused (%00 also if loose).
// "*" stays as it is; any other path that does not begin with '/' is refused. 0, or ERR_TARGET.
int uri_normalise(struct str path, bool loose, char *out, size_t *out_len) WARN_UNUSED;

// Parses "host", "host:port", "[v6]:port" as in Host and authority. Writes the host in lower case
// without port and one trailing dot (IPv6 in brackets) to out[URI_HOST_MAX + 1], terminated.
// *port is 0 when absent. reg-names: letters, digits, '-', '_', '.'; labels 1 to 63 bytes; no empty
// label; a host that consists of digits and dots only is a valid IPv4 address. IPv6 is written in its
// one canonical form (RFC 5952); no zone. "host:" is "host" (RFC 3986 3.2.3). 0, or ERR_HOST.
int uri_parse_host(struct str text, char *out, size_t *out_len, unsigned *port) WARN_UNUSED;

// Percent-decodes `text` once into out (room for text.len). 0, or ERR_SYNTAX for a broken escape.
int uri_decode(struct str text, char *out, size_t *out_len) WARN_UNUSED;
