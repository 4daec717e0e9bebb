// SPDX-License-Identifier: MIT
// A target that is accepted has its parts in place, and its path in normal form has no dot segment,
// nothing encoded that need not be, and stays as it is when done again.
#include "base/invariant.h"
#include "http/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LEN_MAX = 4096 };

static bool has_dot_segment(struct str path)
{
    struct str segment;
    bool more = true;
    while (more) {
        more = str_split(path, '/', &segment, &path);
        if (str_eq(segment, STR(".")) || str_eq(segment, STR(".."))) {
            return true;
        }
    }
    return false;
}

static void check_escapes(struct str path, bool loose)
{
    for (size_t i = 0; i < path.len; i++) {
        if (path.p[i] == '%') {
            INVARIANT(path.len - i >= 3);
            int c = ascii_hex(path.p[i + 1]) * 16 + ascii_hex(path.p[i + 2]);
            INVARIANT(c > 0 && (loose || (c != '/' && c != '\\')));
            INVARIANT(!ascii_is_digit((char)c) && c != '.' && c != '-' && c != '_' && c != '~');
        }
        INVARIANT(loose || path.p[i] != '\\');
    }
}

static void check_path(struct str path, bool loose)
{
    static char out[LEN_MAX];
    static char again[LEN_MAX];
    size_t len = 0;
    if (uri_normalise(path, loose, out, &len) != 0) {
        return;
    }
    INVARIANT(len >= 1 && len <= path.len);
    struct str normal = str_make(out, len);
    INVARIANT(!has_dot_segment(normal));
    check_escapes(normal, loose);
    size_t again_len = 0;
    INVARIANT(uri_normalise(normal, loose, again, &again_len) == 0);
    INVARIANT(str_eq(normal, str_make(again, again_len)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > LEN_MAX) {
        return 0;
    }
    struct str target = str_make((const char *)data, size);
    struct uri_target parts;
    if (uri_split_target(target, true, &parts) == 0) {
        INVARIANT(parts.path.len > 0 && (parts.path.p[0] == '/' || target.len == 1));
        INVARIANT(parts.query.len == 0 || parts.query.p[0] == '?');
        INVARIANT(parts.query.len == 0 || parts.query.p + parts.query.len == target.p + target.len);
        INVARIANT((parts.scheme.len == 0) == (parts.authority.len == 0));
        check_path(parts.path, false);
        check_path(parts.path, true);
    }
    static char decoded[LEN_MAX];
    size_t len = 0;
    if (uri_decode(target, decoded, &len) == 0) {
        INVARIANT(len <= size);
    }
    return 0;
}
