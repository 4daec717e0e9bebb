// SPDX-License-Identifier: MIT
#include "http/uri.h"
#include "http/chars.h"
#include <arpa/inet.h>

enum {
    HOST_NAME_MAX_LEN = 253, // RFC 1035 2.3.4, as text without the final dot
    LABEL_MAX = 63,
    PORT_DIGITS_MAX = 5,
};

// Index of the first byte that is not path text, SIZE_MAX for a broken escape.
static size_t scan_path(struct str s)
{
    size_t i = 0;
    while (i < s.len) {
        if (char_is(s.p[i], CHAR_PATH)) {
            i++;
        } else if (s.p[i] == '%') {
            if (s.len - i < 3 || ascii_hex(s.p[i + 1]) < 0 || ascii_hex(s.p[i + 2]) < 0) {
                return SIZE_MAX;
            }
            i += 3;
        } else {
            break;
        }
    }
    return i;
}

// `s` begins with '/'.
static int split_path(struct str s, struct uri_target *out)
{
    size_t end = scan_path(s);
    if (end == SIZE_MAX) {
        return ERR_TARGET;
    }
    out->path = str_make(s.p, end);
    out->query = str_make(s.p + end, s.len - end);
    if (end < s.len && s.p[end] != '?') {
        return ERR_TARGET;
    }
    for (size_t i = end; i < s.len; i++) {
        if (!char_is(s.p[i], CHAR_QUERY)) {
            return ERR_TARGET;
        }
    }
    return 0;
}

static int split_absolute(struct str target, struct uri_target *out)
{
    size_t scheme_len = str_starts_case(target, STR("http://"))    ? 4
                        : str_starts_case(target, STR("https://")) ? 5
                                                                   : 0;
    if (scheme_len == 0) {
        return ERR_TARGET;
    }
    out->scheme = str_make(target.p, scheme_len);
    struct str rest = str_from(target, scheme_len + 3);
    size_t end = 0;
    while (end < rest.len && rest.p[end] != '/' && rest.p[end] != '?') {
        end++;
    }
    out->authority = str_make(rest.p, end);
    char host[URI_HOST_MAX + 1];
    size_t host_len;
    unsigned port;
    if (uri_parse_host(out->authority, host, &host_len, &port) != 0) {
        return ERR_TARGET;
    }
    rest = str_from(rest, end);
    if (rest.len > 0 && rest.p[0] == '/') {
        return split_path(rest, out);
    }
    int err = split_path(rest, out); // empty, or a query alone
    out->path = STR("/");
    return err;
}

int uri_split_target(struct str target, bool allow_asterisk, struct uri_target *out)
{
    *out = (struct uri_target){STR_NULL, STR_NULL, STR_NULL, STR_NULL};
    if (target.len == 0) {
        return ERR_TARGET;
    }
    if (target.p[0] == '/') {
        return split_path(target, out);
    }
    if (target.len == 1 && target.p[0] == '*') {
        out->path = target;
        return allow_asterisk ? 0 : ERR_TARGET;
    }
    return split_absolute(target, out);
}

// Nothing to decode, no dot segment, nothing to refuse: almost every path.
static bool is_plain(struct str path)
{
    char before = '/';
    for (size_t i = 0; i < path.len; i++) {
        char c = path.p[i];
        if (c == '%' || c == '\\' || (c == '.' && before == '/')) {
            return false;
        }
        before = c;
    }
    return true;
}

static bool is_unreserved(int c)
{
    return c < 0x80 &&
           (char_is((char)c, CHAR_ALNUM) || c == '-' || c == '.' || c == '_' || c == '~');
}

// Writes the escape at `p` (three bytes at most are left) as it is to be sent on: one byte or three.
// Returns the number, or 0 for one that is broken or refused.
static size_t put_escape(const char *p, size_t left, bool loose, char *out)
{
    if (left < 3 || ascii_hex(p[1]) < 0 || ascii_hex(p[2]) < 0) {
        return 0;
    }
    int c = ascii_hex(p[1]) * 16 + ascii_hex(p[2]);
    if (c == 0 || (!loose && (c == '/' || c == '\\'))) {
        return 0;
    }
    if (is_unreserved(c)) {
        out[0] = (char)c;
        return 1;
    }
    static const char digits[] = "0123456789ABCDEF";
    out[0] = '%';
    out[1] = digits[c >> 4];
    out[2] = digits[c & 15];
    return 3;
}

// Ends the segment out[from..len): a dot segment goes, ".." with the segment before it. Returns the
// new length; out[0] is '/' and stays.
static size_t end_segment(const char *out, size_t from, size_t len)
{
    if (len - from == 1 && out[from] == '.') {
        return from;
    }
    if (len - from == 2 && out[from] == '.' && out[from + 1] == '.') {
        size_t at = from > 1 ? from - 1 : from;
        while (out[at - 1] != '/') {
            at--;
        }
        return at;
    }
    return len;
}

int uri_normalise(struct str path, bool loose, char *out, size_t *out_len)
{
    bool asterisk = path.len == 1 && path.p[0] == '*';
    if (path.len == 0 || (path.p[0] != '/' && !asterisk)) {
        return ERR_TARGET;
    }
    if (is_plain(path)) {
        memcpy(out, path.p, path.len);
        *out_len = path.len;
        return 0;
    }
    out[0] = '/';
    size_t len = 1;
    size_t segment = 1;
    size_t i = 1;
    while (i < path.len) {
        char c = path.p[i];
        if (c == '%') {
            size_t put = put_escape(path.p + i, path.len - i, loose, out + len);
            if (put == 0) {
                return ERR_TARGET;
            }
            len += put;
            i += 3;
            continue;
        }
        if (c == '\\' && !loose) {
            return ERR_TARGET;
        }
        i++;
        if (c != '/') {
            out[len++] = c;
            continue;
        }
        size_t kept = end_segment(out, segment, len);
        if (kept == len) {
            out[len++] = '/';
            kept = len;
        }
        segment = len = kept;
    }
    *out_len = end_segment(out, segment, len);
    return 0;
}

static int parse_port(struct str text, unsigned *port)
{
    uint64_t value;
    if (text.len == 0) {
        return 0; // RFC 3986 3.2.3: "host:" is the same as "host"
    }
    if (text.len > PORT_DIGITS_MAX || str_to_u64(text, &value) != 0 || value == 0 ||
        value > UINT16_MAX) {
        return ERR_HOST;
    }
    *port = (unsigned)value;
    return 0;
}

// "[v6]" and what follows it. Written in its one canonical form, so that equal addresses are equal.
static int parse_ipv6(struct str text, char *out, size_t *out_len, struct str *rest)
{
    size_t close = str_find_char(text, ']');
    char address[INET6_ADDRSTRLEN];
    if (close == SIZE_MAX || close - 1 >= sizeof(address)) {
        return ERR_HOST;
    }
    str_copy(address, sizeof(address), str_sub(text, 1, close - 1));
    struct in6_addr binary;
    // A NUL inside would end the text early for inet_pton.
    if (strlen(address) != close - 1 || inet_pton(AF_INET6, address, &binary) != 1 ||
        inet_ntop(AF_INET6, &binary, address, sizeof(address)) == NULL) {
        return ERR_HOST;
    }
    size_t len = strlen(address);
    out[0] = '[';
    memcpy(out + 1, address, len);
    out[len + 1] = ']';
    *out_len = len + 2;
    *rest = str_from(text, close + 1);
    return 0;
}

// Letters, digits, '-', '_' and dots up to the end or a ':'.
static int parse_name(struct str text, char *out, size_t *out_len, struct str *rest)
{
    size_t len = 0;
    size_t label = 0; // where the current label begins
    bool numeric = true;
    while (len < text.len && text.p[len] != ':') {
        char c = text.p[len];
        if (len > HOST_NAME_MAX_LEN) {
            return ERR_HOST;
        }
        if (c == '.') {
            if (len == label) {
                return ERR_HOST;
            }
            label = len + 1;
        } else if (!char_is(c, CHAR_HOST) || len - label >= LABEL_MAX) {
            return ERR_HOST;
        } else {
            numeric &= ascii_is_digit(c);
        }
        out[len++] = ascii_lower(c);
    }
    *rest = str_from(text, len);
    if (len > 0 && len == label) {
        len--; // the final dot
    }
    if (len == 0 || len > HOST_NAME_MAX_LEN) {
        return ERR_HOST;
    }
    out[len] = '\0';
    struct in_addr binary;
    if (numeric && inet_pton(AF_INET, out, &binary) != 1) {
        return ERR_HOST;
    }
    *out_len = len;
    return 0;
}

int uri_parse_host(struct str text, char *out, size_t *out_len, unsigned *port)
{
    *port = 0;
    struct str rest;
    int err = text.len > 0 && text.p[0] == '[' ? parse_ipv6(text, out, out_len, &rest)
                                               : parse_name(text, out, out_len, &rest);
    if (err != 0) {
        return err;
    }
    out[*out_len] = '\0';
    if (rest.len == 0) {
        return 0;
    }
    return rest.p[0] == ':' ? parse_port(str_from(rest, 1), port) : ERR_HOST;
}

int uri_decode(struct str text, char *out, size_t *out_len)
{
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i];
        if (c == '%') {
            if (text.len - i < 3 || ascii_hex(text.p[i + 1]) < 0 || ascii_hex(text.p[i + 2]) < 0) {
                return ERR_SYNTAX;
            }
            c = (char)(ascii_hex(text.p[i + 1]) * 16 + ascii_hex(text.p[i + 2]));
            i += 2;
        }
        out[len++] = c;
    }
    *out_len = len;
    return 0;
}
