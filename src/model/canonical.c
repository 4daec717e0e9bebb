// SPDX-License-Identifier: MIT
// Hosts and paths of routes in the one form that requests are compared with.
#include "base/utf8.h"
#include "http/chars.h"
#include "http/uri.h"
#include "model/value.h"
#include <idn2.h>

enum {
    HOST_NAME_MAX_LEN = 253,
    HOST_INPUT_MAX = 1024, // bytes of a host before IDNA
};

_Static_assert(VALUE_HOST_MAX >= HOST_NAME_MAX_LEN + 2, "a wildcard is two bytes longer");

static bool is_ascii(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.p[i] >= 0x80) {
            return false;
        }
    }
    return true;
}

static const char *parse_ascii_host(struct str text, char *out, size_t *out_len)
{
    unsigned port;
    char host[URI_HOST_MAX + 1];
    size_t colon = str_rfind_char(text, ':');
    size_t bracket = str_rfind_char(text, ']');
    if (colon != SIZE_MAX && (bracket == SIZE_MAX || colon > bracket)) {
        return text.p[0] != '[' && str_find_char(text, ':') != colon
                   ? "an IPv6 address is written in brackets"
                   : "a host has no port here";
    }
    if (text.len > 0 && text.p[text.len - 1] == '.' && text.len > HOST_NAME_MAX_LEN + 1) {
        return "is longer than 253 bytes";
    }
    if (uri_parse_host(text, host, out_len, &port) != 0) {
        return "is not a valid host name or IP address";
    }
    if (*out_len > HOST_NAME_MAX_LEN) {
        return "is longer than 253 bytes";
    }
    memcpy(out, host, *out_len + 1);
    return NULL;
}

static const char *parse_idn(struct str text, char *out, size_t *out_len)
{
    if (text.len > HOST_INPUT_MAX || !utf8_is_valid(text)) {
        return "is too long or not UTF-8";
    }
    char input[HOST_INPUT_MAX + 1];
    str_copy(input, sizeof input, text);
    uint8_t *ascii = NULL;
    int err = idn2_lookup_u8((const uint8_t *)input, &ascii,
                             IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL | IDN2_USE_STD3_ASCII_RULES);
    if (err != IDN2_OK) {
        return "is not a valid internationalised host name";
    }
    const char *wrong = parse_ascii_host(str_from_c((const char *)ascii), out, out_len);
    idn2_free(ascii);
    return wrong;
}

const char *host_canonicalise(struct str text, bool wildcard, char *out, size_t *out_len)
{
    if (text.len == 0) {
        return "is empty";
    }
    // In all that follows the text is taken for terminated somewhere.
    if (memchr(text.p, '\0', text.len) != NULL) {
        return "holds a NUL byte";
    }
    bool has_star = memchr(text.p, '*', text.len) != NULL;
    if (has_star && !wildcard) {
        return "must not be a wildcard";
    }
    if (text.len == 1 && has_star) {
        memcpy(out, "*", 2);
        *out_len = 1;
        return NULL;
    }
    size_t prefix = has_star && str_starts(text, STR("*.")) ? 2 : 0;
    struct str name = str_from(text, prefix);
    if (has_star && (prefix == 0 || memchr(name.p, '*', name.len) != NULL)) {
        return "a wildcard is \"*\" alone or the whole first label, as in \"*.example.com\"";
    }
    memcpy(out, "*.", prefix);
    const char *wrong = is_ascii(name) ? parse_ascii_host(name, out + prefix, out_len)
                                       : parse_idn(name, out + prefix, out_len);
    if (wrong != NULL) {
        return wrong;
    }
    struct str written = str_make(out + prefix, *out_len);
    *out_len += prefix;
    bool is_address = written.p[0] == '[';
    for (size_t i = 0; !is_address && prefix > 0; i++) {
        if (i == written.len) {
            is_address = true; // digits and dots only
        } else if (!ascii_is_digit(written.p[i]) && written.p[i] != '.') {
            break;
        }
    }
    return prefix > 0 && is_address ? "a wildcard is for names, not for IP addresses" : NULL;
}

// '.' or '..', also with escaped dots.
static bool is_dot_segment(struct str segment)
{
    unsigned dots = 0;
    while (segment.len > 0 && dots < 3) {
        size_t len = segment.p[0] == '.' ? 1 : str_starts_case(segment, STR("%2e")) ? 3 : 0;
        if (len == 0) {
            return false;
        }
        dots++;
        segment = str_from(segment, len);
    }
    return dots == 1 || dots == 2;
}

// `path` begins with '/'.
static const char *check_segments(struct str path)
{
    struct str rest = str_from(path, 1);
    while (rest.len > 0) {
        struct str segment;
        struct str tail;
        str_split(rest, '/', &segment, &tail);
        if (segment.len == 0) {
            return "holds an empty segment (\"//\")";
        }
        if (is_dot_segment(segment)) {
            return "holds a dot segment (\".\" or \"..\")";
        }
        rest = tail;
    }
    return NULL;
}

// Escapes what a path cannot hold as it is. NULL, or what is wrong.
static const char *escape_path(struct str text, char *out, size_t size, size_t *out_len)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c == '?' || c == '#') {
            return "a path has no query or fragment ('?', '#')";
        }
        if (c < 0x20 || c == 0x7f || c == '\\') {
            return "holds a control byte or a backslash";
        }
        if (len + 3 > size) {
            return "is longer than 1024 bytes";
        }
        if (c == '%' || char_is((char)c, CHAR_PATH)) {
            out[len++] = (char)c;
            continue;
        }
        out[len++] = '%';
        out[len++] = digits[c >> 4];
        out[len++] = digits[c & 15];
    }
    *out_len = len;
    return NULL;
}

const char *host_port_canonicalise(struct str text, char *out, size_t *out_len)
{
    struct str host = text;
    struct str port = STR_NULL;
    size_t colon = str_rfind_char(text, ':');
    size_t bracket = str_rfind_char(text, ']');
    if (colon != SIZE_MAX && (bracket == SIZE_MAX || colon > bracket)) {
        host = str_sub(text, 0, colon);
        port = str_from(text, colon);
    }
    uint64_t number = 1;
    bool bad_port = port.len > 0 && (port.len > 6 || str_to_u64(str_from(port, 1), &number) != 0 ||
                                     number == 0 || number > UINT16_MAX);
    size_t len = 0;
    const char *wrong = host_canonicalise(host, false, out, &len);
    if (wrong != NULL || bad_port) {
        return wrong != NULL ? wrong : "the port must be 1 to 65535";
    }
    memcpy(out + len, port.len == 0 ? "" : port.p, port.len);
    out[len + port.len] = '\0';
    *out_len = len + port.len;
    return NULL;
}

const char *path_canonicalise(struct str text, char *out, size_t *out_len)
{
    if (text.len == 0 || text.p[0] != '/') {
        return "must begin with '/'";
    }
    char escaped[3 * VALUE_PATH_MAX + 3];
    size_t len;
    const char *wrong = escape_path(text, escaped, sizeof escaped, &len);
    if (wrong == NULL) {
        wrong = check_segments(str_make(escaped, len));
    }
    if (wrong != NULL) {
        return wrong;
    }
    char path[sizeof escaped];
    if (uri_normalise(str_make(escaped, len), false, path, &len) != 0) {
        return "holds a broken escape, or an escaped '/', '\\' or NUL";
    }
    if (len > 1 && path[len - 1] == '/') {
        len--;
    }
    if (len > VALUE_PATH_MAX) {
        return "is longer than 1024 bytes";
    }
    str_copy(out, VALUE_PATH_MAX + 1, str_make(path, len));
    *out_len = len;
    return NULL;
}
