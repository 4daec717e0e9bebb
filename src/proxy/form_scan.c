// SPDX-License-Identifier: MIT
#include "proxy/form_scan.h"

// ---- the hash: FNV-1a (Fowler, Noll, Vo), with the finisher of MurmurHash3 (Appleby), for all bits ----

static void hasher_init(struct key_hasher *hasher)
{
    hasher->state = 0xCBF29CE484222325u;
}

static void hasher_put(struct key_hasher *hasher, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    uint64_t state = hasher->state;
    for (size_t i = 0; i < len; i++) {
        state = (state ^ at[i]) * 0x100000001B3u;
    }
    hasher->state = state;
}

static uint64_t hasher_end(const struct key_hasher *hasher)
{
    uint64_t h = hasher->state;
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCDu;
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53u;
    return h ^ h >> 33;
}

uint64_t key_hash(const void *bytes, size_t len)
{
    struct key_hasher hasher;
    hasher_init(&hasher);
    hasher_put(&hasher, bytes, len);
    return hasher_end(&hasher);
}

// ---- pairs: name=value&name=value, '+' is a space, %XX a byte (WHATWG URL 5.1) ----

enum { PAIR_NAME, PAIR_VALUE };

// A decoded byte of a name or a value.
static void take_byte(struct form_scan *scan, char c)
{
    if (scan->at == PAIR_NAME) {
        bool agrees = scan->matched < scan->name.len && scan->name.p[scan->matched] == c;
        scan->matched = agrees ? scan->matched + 1 : SIZE_MAX; // SIZE_MAX: another name
    } else if (scan->is_wanted) {
        hasher_put(&scan->hash, &c, 1);
    }
}

// What looked like an escape and is none stands for itself.
static void flush_escape(struct form_scan *scan)
{
    uint8_t len = scan->escape_len;
    scan->escape_len = 0;
    if (len > 0) {
        take_byte(scan, '%');
    }
    if (len > 1) {
        take_byte(scan, scan->escape);
    }
}

static void end_of_name(struct form_scan *scan)
{
    scan->is_wanted = scan->matched == scan->name.len;
    scan->at = PAIR_VALUE;
}

static void end_of_pair(struct form_scan *scan)
{
    flush_escape(scan);
    if (scan->at == PAIR_NAME && scan->name.len > 0) {
        end_of_name(scan); // "name" alone is one without a value
    }
    if (scan->is_wanted) {
        scan->state = FORM_FOUND;
    }
    scan->at = PAIR_NAME;
    scan->matched = 0;
}

static void put_pair_byte(struct form_scan *scan, char c)
{
    if (scan->escape_len == 1 && ascii_hex(c) >= 0) {
        scan->escape = c;
        scan->escape_len = 2;
        return;
    }
    if (scan->escape_len == 2 && ascii_hex(c) >= 0) {
        scan->escape_len = 0;
        take_byte(scan, (char)(ascii_hex(scan->escape) * 16 + ascii_hex(c)));
        return;
    }
    flush_escape(scan);
    if (c == '%') {
        scan->escape_len = 1;
    } else if (c == '&') {
        end_of_pair(scan);
    } else if (c == '=' && scan->at == PAIR_NAME) {
        end_of_name(scan);
    } else {
        take_byte(scan, c == '+' ? ' ' : c);
    }
}

// ---- multipart (RFC 7578, RFC 2046 5.1) ----

enum {
    PART_BETWEEN,   // in front of the first delimiter, or in a part that is not wanted
    PART_DELIMITER, // behind a delimiter, on its line
    PART_HEADER,
    PART_VALUE, // of the wanted one
};

// The delimiter's byte `i`: CR LF "--" boundary.
static char delimiter_byte(const struct form_scan *scan, size_t i)
{
    return i < 4 ? "\r\n--"[i] : scan->boundary.p[i - 4];
}

// The value of a parameter of a header line (name="…" or name=…), or the null view.
static struct str parameter(struct str rest, struct str name)
{
    while (rest.len > 0) {
        size_t semicolon = 0;
        for (bool quoted = false; semicolon < rest.len; semicolon++) {
            char c = rest.p[semicolon];
            if (c == '\\' && quoted && semicolon + 1 < rest.len) {
                semicolon++;
            } else if (c == '"') {
                quoted = !quoted;
            } else if (c == ';' && !quoted) {
                break;
            }
        }
        struct str one = str_trim(str_sub(rest, 0, semicolon));
        rest = str_from(rest, semicolon + (semicolon < rest.len));
        size_t equals = str_find_char(one, '=');
        if (equals == SIZE_MAX || !str_eq_case(str_trim(str_sub(one, 0, equals)), name)) {
            continue;
        }
        struct str value = str_trim(str_from(one, equals + 1));
        if (value.len >= 2 && value.p[0] == '"' && value.p[value.len - 1] == '"') {
            value = str_sub(value, 1, value.len - 2);
        }
        return value;
    }
    return STR_NULL;
}

static void end_of_line(struct form_scan *scan)
{
    const struct str wanted = STR("content-disposition:");
    struct str line = str_make(scan->line, scan->line_len);
    line.len -= str_ends(line, STR("\r")) ? 1 : 0;
    scan->line_len = 0;
    if (line.len == 0) {
        scan->at = scan->is_wanted ? PART_VALUE : PART_BETWEEN;
        return;
    }
    if (str_starts_case(line, wanted)) {
        struct str name = parameter(str_from(line, wanted.len), STR("name"));
        scan->is_wanted = name.p != NULL && str_eq(name, scan->name);
    }
}

static void put_in_line(struct form_scan *scan, char c)
{
    if (c != '\n') {
        if (scan->line_len < FORM_LINE_MAX) {
            scan->line[scan->line_len++] = c;
        }
        return;
    }
    if (scan->at == PART_DELIMITER) {
        bool is_last = scan->line_len >= 2 && scan->line[0] == '-' && scan->line[1] == '-';
        scan->state = is_last ? FORM_ABSENT : scan->state;
        scan->line_len = 0;
        scan->is_wanted = false;
        scan->at = PART_HEADER;
        return;
    }
    end_of_line(scan);
}

static void take_content(struct form_scan *scan, const char *bytes, size_t len)
{
    if (scan->at == PART_VALUE) {
        hasher_put(&scan->hash, bytes, len);
    }
}

// Content, in which a delimiter may begin. CR stands at a delimiter's beginning alone: what does not go on
// as one can only begin anew.
static void put_content(struct form_scan *scan, char c)
{
    if (delimiter_byte(scan, scan->delimiter_seen) == c) {
        if (++scan->delimiter_seen == scan->boundary.len + 4) {
            scan->delimiter_seen = 0;
            scan->state = scan->at == PART_VALUE ? FORM_FOUND : scan->state;
            scan->at = PART_DELIMITER;
        }
        return;
    }
    for (size_t i = 0; i < scan->delimiter_seen; i++) {
        char was = delimiter_byte(scan, i);
        take_content(scan, &was, 1);
    }
    scan->delimiter_seen = c == '\r' ? 1 : 0;
    if (c != '\r') {
        take_content(scan, &c, 1);
    }
}

static void put_part_byte(struct form_scan *scan, char c)
{
    if (scan->at == PART_DELIMITER || scan->at == PART_HEADER) {
        put_in_line(scan, c);
        return;
    }
    put_content(scan, c);
}

// ---- both ----

enum form_kind form_kind_of(struct str content_type, struct str *boundary)
{
    size_t semicolon = str_find_char(content_type, ';');
    struct str type =
        str_trim(semicolon == SIZE_MAX ? content_type : str_sub(content_type, 0, semicolon));
    if (str_eq_case(type, STR("application/x-www-form-urlencoded"))) {
        return FORM_PAIRS;
    }
    if (semicolon == SIZE_MAX || !str_eq_case(type, STR("multipart/form-data"))) {
        return FORM_NONE;
    }
    *boundary = parameter(str_from(content_type, semicolon + 1), STR("boundary"));
    bool is_valid = boundary->len > 0 && boundary->len <= FORM_BOUNDARY_MAX;
    return is_valid ? FORM_MULTIPART : FORM_NONE;
}

void form_scan_init(struct form_scan *scan, enum form_kind kind, struct str name,
                    struct str boundary)
{
    *scan = (struct form_scan){.name = name, .kind = (uint8_t)kind, .boundary = boundary};
    scan->state = kind == FORM_NONE ? FORM_ABSENT : FORM_WANTS_MORE;
    scan->delimiter_seen = 2; // the first one may stand at the very beginning
    hasher_init(&scan->hash);
}

enum form_state form_scan_put(struct form_scan *scan, struct str bytes)
{
    for (size_t i = 0; i < bytes.len && scan->state == FORM_WANTS_MORE; i++) {
        if (scan->kind == FORM_PAIRS) {
            put_pair_byte(scan, bytes.p[i]);
        } else {
            put_part_byte(scan, bytes.p[i]);
        }
    }
    scan->seen += bytes.len;
    return (enum form_state)scan->state;
}

enum form_state form_scan_end(struct form_scan *scan)
{
    if (scan->state == FORM_WANTS_MORE && scan->kind == FORM_PAIRS) {
        end_of_pair(scan);
    }
    if (scan->state == FORM_WANTS_MORE) {
        scan->state = FORM_ABSENT; // of a multipart without its last delimiter as well
    }
    return (enum form_state)scan->state;
}

uint64_t form_scan_hash(const struct form_scan *scan)
{
    return hasher_end(&scan->hash);
}
