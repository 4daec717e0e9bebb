// SPDX-License-Identifier: MIT
// Values that are written as text: durations, sizes, networks, names. The API, the configuration and
// the CLI read them with these functions alone. Pure; any thread.
#pragma once
#include "base/err.h"
#include "base/str.h"
#include "model/declaration.h"

enum {
    VALUE_TEXT_MAX = 64,  // room for any duration, size or network as text, terminated
    VALUE_NAME_MAX = 200, // bytes of a pool's, tenant's, key's or certificate's name
    VALUE_HOST_MAX = 255, // bytes of a canonical host with "*." (253 and 2)
    VALUE_HOST_PORT_MAX = VALUE_HOST_MAX + 6,
    VALUE_PATH_MAX = 1024, // bytes of a canonical path
};

// The longest duration that a setting may have: 24 days, in ms (below 2^31).
#define VALUE_DURATION_MAX_MS (24u * 24 * 3600 * 1000)

// "100ms", "5s", "2m", "1h", "365d": decimal digits and one unit; "0" needs none. 0, or ERR_SYNTAX.
int duration_parse(struct str text, uint64_t *ms) WARN_UNUSED;
// In the largest unit that loses nothing: 90000 is "90s", 3600000 is "1h". Returns the length.
size_t duration_format(uint64_t ms, char to[VALUE_TEXT_MAX]);

// "1500", "32k", "100m", "1g" (powers of 1024; the unit in either case). 0, or ERR_SYNTAX.
int size_parse(struct str text, uint64_t *bytes) WARN_UNUSED;
size_t size_format(uint64_t bytes, char to[VALUE_TEXT_MAX]);

// "10.0.0.0/8", "2001:db8::/32", or one address. Bits behind the prefix are cleared. "::/0" covers
// IPv4 too, because IPv4 peers are ::ffff:a.b.c.d. 0, or ERR_SYNTAX.
int cidr_parse(struct str text, struct cidr *cidr) WARN_UNUSED;
// As it is shown: IPv4 in its own form, a single address without "/". Returns the length.
size_t cidr_format(const struct cidr *cidr, char to[VALUE_TEXT_MAX]);

// Names of pools, tenants, keys and certificates: 1 to 200 bytes of A-Z a-z 0-9 . _ : @ - that begin
// with a letter, a digit or '_' ("." and ".." would not survive in a URL). Case matters.
bool name_is_valid(struct str name);

// The canonical host of a route: lower case A-labels (IDNA 2008 and UTS 46, non-transitional), no
// trailing dot, IPv6 in brackets in its one form. `wildcard` also allows "*" and "*.NAME". Writes
// out[VALUE_HOST_MAX + 1], terminated. NULL when it is fine, else what is wrong with it (constant text).
const char *host_canonicalise(struct str text, bool wildcard, char *out, size_t *out_len);

// A host as host_canonicalise() takes it, with or without a port, as it stands in Host. Writes
// out[VALUE_HOST_PORT_MAX + 1], terminated. NULL when it is fine, else what is wrong.
const char *host_port_canonicalise(struct str text, char *out, size_t *out_len);

// The canonical path of a route as it is matched: begins with '/', normalised like a request's path
// (uri_normalise), bytes that no path may hold are escaped, a final '/' is dropped (but of "/").
// Writes out[VALUE_PATH_MAX + 1], terminated. NULL when it is fine, else what is wrong.
const char *path_canonicalise(struct str text, char *out, size_t *out_len);

// Which of names[count] was meant by `text` (edit distance at most a third of its length, at least 1):
// its index, or count. Names over 64 bytes are not compared.
unsigned name_nearest(struct str text, const struct str *names, unsigned count);
