// SPDX-License-Identifier: MIT
// Lines of the access log. All appenders write without bounds: the caller's ACCESS_LINE_MAX covers the
// longest text with every byte escaped.
#include "observe/access_log_int.h"
#include "base/clock.h"
#include "base/utf8.h"
#include <time.h>

static const char hex_digits[] = "0123456789abcdef";

void access_clock_init(struct access_clock *clock)
{
    clock->iso_sec = UINT64_MAX;
    clock->clf_sec = UINT64_MAX;
}

static inline char *put(char *to, const char *text, size_t len)
{
    memcpy(to, text, len);
    return to + len;
}
#define PUT(to, literal) put((to), "" literal, sizeof(literal) - 1)

static const char digit_pairs[] = "0001020304050607080910111213141516171819"
                                  "2021222324252627282930313233343536373839"
                                  "4041424344454647484950515253545556575859"
                                  "6061626364656667686970717273747576777879"
                                  "8081828384858687888990919293949596979899";

static char *put_number(char *to, uint64_t value)
{
    char digits[20];
    char *p = digits + sizeof digits;
    while (value >= 100) {
        p -= 2;
        memcpy(p, digit_pairs + 2 * (value % 100), 2);
        value /= 100;
    }
    if (value >= 10) {
        p -= 2;
        memcpy(p, digit_pairs + 2 * value, 2);
    } else {
        *--p = (char)('0' + value);
    }
    return put(to, p, (size_t)(digits + sizeof digits - p));
}

// Does one of these 8 bytes need a closer look: below 0x20, '"', '\\', or above 0x7e?
static inline bool is_special(uint64_t bytes)
{
    const uint64_t ones = 0x0101010101010101u;
    const uint64_t tops = 0x8080808080808080u;
    uint64_t quote = bytes ^ (ones * '"');
    uint64_t slash = bytes ^ (ones * '\\');
    // The usual tests for a byte below n and for a zero byte; DEL is found by adding 1. A carry or a
    // borrow may only report too much, never too little: the first special byte is always seen.
    uint64_t found = (bytes - ones * 0x20) | (quote - ones) | (slash - ones) | (bytes + ones);
    return ((found | bytes) & tops) != 0;
}

static inline bool is_plain(char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

// Copies the plain bytes that *rest begins with.
static inline char *put_plain(char *to, struct str *rest)
{
    const char *p = rest->p;
    const char *end = p + rest->len;
    while (end - p >= 8) {
        uint64_t bytes;
        memcpy(&bytes, p, 8);
        if (is_special(bytes)) {
            break;
        }
        memcpy(to, &bytes, 8);
        to += 8;
        p += 8;
    }
    while (p < end && is_plain(*p)) {
        *to++ = *p++;
    }
    *rest = str_make(p, (size_t)(end - p));
    return to;
}

// The text without quotes; bytes that are not UTF-8 become U+FFFD.
static char *put_json_text(char *to, struct str text)
{
    to = put_plain(to, &text);
    while (text.len > 0) {
        unsigned char c = (unsigned char)*text.p;
        size_t len = utf8_len(text);
        if (c == '"' || c == '\\') {
            *to++ = '\\';
            *to++ = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            to = PUT(to, "\\u00");
            *to++ = hex_digits[c >> 4];
            *to++ = hex_digits[c & 15];
        } else if (len == 0) {
            to = PUT(to, "\xEF\xBF\xBD");
            len = 1;
        } else {
            to = put(to, text.p, len);
        }
        text = str_from(text, len);
        to = put_plain(to, &text);
    }
    return to;
}

// The text as Apache escapes it: \" \\ and \xhh for all that is not printable ASCII.
static char *put_log_text(char *to, struct str text)
{
    to = put_plain(to, &text);
    while (text.len > 0) {
        unsigned char c = (unsigned char)*text.p;
        *to++ = '\\';
        if (c == '"' || c == '\\') {
            *to++ = (char)c;
        } else {
            *to++ = 'x';
            *to++ = hex_digits[c >> 4];
            *to++ = hex_digits[c & 15];
        }
        text = str_from(text, 1);
        to = put_plain(to, &text);
    }
    return to;
}

static char *put_iso(char *to, uint64_t real_ns, struct access_clock *clock)
{
    uint64_t sec = real_ns / NS_PER_SEC;
    if (sec != clock->iso_sec) {
        clock_iso(clock->iso, real_ns);
        clock->iso_sec = sec;
    }
    memcpy(to, clock->iso, CLOCK_ISO_LEN);
    unsigned ms = (unsigned)(real_ns / NS_PER_MS % 1000);
    to[20] = (char)('0' + ms / 100);
    memcpy(to + 21, digit_pairs + (size_t)2 * (ms % 100), 2);
    return to + CLOCK_ISO_LEN;
}

static char *put_clf_time(char *to, uint64_t real_ns, struct access_clock *clock)
{
    uint64_t sec = real_ns / NS_PER_SEC;
    if (sec != clock->clf_sec) {
        char date[CLOCK_HTTP_DATE_LEN]; // "Sun, 06 Nov 1994 08:49:37 GMT"
        clock_http_date(date, real_ns);
        memcpy(clock->clf, "[06/Nov/1994:08:49:37 +0000]", sizeof clock->clf);
        memcpy(clock->clf + 1, date + 5, 2);
        memcpy(clock->clf + 4, date + 8, 3);
        memcpy(clock->clf + 8, date + 12, 4);
        memcpy(clock->clf + 13, date + 17, 8);
        clock->clf_sec = sec;
    }
    return put(to, clock->clf, sizeof clock->clf);
}

// Hands out an entry's texts in their order.
struct text_reader {
    const char *p;
    const uint16_t *lens;
};

static inline struct str take_text(struct text_reader *reader)
{
    struct str text = str_make(reader->p, *reader->lens);
    reader->p += text.len;
    reader->lens++;
    return text;
}

static inline char *put_json_member(char *to, const char *key, size_t key_len, struct str text)
{
    if (text.len == 0) {
        return to;
    }
    to = put(to, key, key_len);
    to = put_json_text(to, text);
    *to++ = '"';
    return to;
}
#define PUT_TEXT(to, key, text) \
    put_json_member((to), ",\"" key "\":\"", sizeof(",\"" key "\":\"") - 1, (text))
#define PUT_NUMBER(to, key, value)    put_number(PUT((to), ",\"" key "\":"), (value))
#define PUT_NUMBER_IF(to, key, value) ((value) == 0 ? (to) : PUT_NUMBER((to), key, (value)))

static char *put_json_version(char *to, unsigned version)
{
    switch (version) {
    case 10:
        return PUT(to, ",\"http.version\":\"1.0\"");
    case 11:
        return PUT(to, ",\"http.version\":\"1.1\"");
    case 20:
        return PUT(to, ",\"http.version\":\"2\"");
    default:
        return to;
    }
}

char *access_format_json(char *to, const struct access_entry *entry, struct access_clock *clock)
{
    struct text_reader reader = {entry->texts, entry->lens};
    to = PUT(to, "{\"@timestamp\":\"");
    to = put_iso(to, entry->real_ns, clock);
    *to++ = '"';
    to = PUT_TEXT(to, "client.ip", take_text(&reader));
    to = PUT_TEXT(to, "http.request.method", take_text(&reader));
    to = PUT_TEXT(to, "url.domain", take_text(&reader));
    to = PUT_TEXT(to, "url.path", take_text(&reader));
    to = PUT_TEXT(to, "url.query", take_text(&reader));
    to = put_json_version(to, entry->version);
    to = PUT_TEXT(to, "tls.version", str_sub(str_from_c(entry->tls_version), 0, 8));
    to = PUT_NUMBER_IF(to, "http.response.status_code", entry->status);
    to = PUT_NUMBER(to, "http.request.bytes", entry->bytes_in);
    to = PUT_NUMBER(to, "http.response.bytes", entry->bytes_out);
    to = PUT_NUMBER(to, "event.duration", entry->duration_ns);
    to = PUT_TEXT(to, "user_agent.original", take_text(&reader));
    to = PUT_TEXT(to, "http.request.referrer", take_text(&reader));
    to = PUT_TEXT(to, "trace.id", take_text(&reader));
    to = PUT_TEXT(to, "pointsman.request_id", take_text(&reader));
    to = PUT_TEXT(to, "pointsman.route", take_text(&reader));
    to = PUT_TEXT(to, "pointsman.pool", take_text(&reader));
    to = PUT_TEXT(to, "pointsman.target", take_text(&reader));
    to = PUT_TEXT(to, "pointsman.tenant", take_text(&reader));
    to = PUT_NUMBER_IF(to, "pointsman.queue_ns", entry->queue_ns);
    to = PUT_NUMBER_IF(to, "pointsman.connect_ns", entry->connect_ns);
    to = PUT_NUMBER_IF(to, "pointsman.origin_ns", entry->origin_ns);
    to = PUT_NUMBER_IF(to, "pointsman.retries", entry->retries);
    to = PUT_TEXT(to, "pointsman.end", str_sub(str_from_c(entry->end), 0, 64));
    return PUT(to, "}\n");
}

static char *put_quoted_or_dash(char *to, struct str text)
{
    *to++ = '"';
    if (text.len == 0) {
        *to++ = '-';
    } else {
        to = put_log_text(to, text);
    }
    *to++ = '"';
    return to;
}

static char *put_request_line(char *to, struct text_reader *reader, unsigned version)
{
    struct str method = take_text(reader);
    (void)take_text(reader); // the host
    struct str path = take_text(reader);
    struct str query = take_text(reader);
    if (method.len == 0) {
        return PUT(to, "\"-\"");
    }
    *to++ = '"';
    to = put_log_text(to, method);
    *to++ = ' ';
    to = put_log_text(to, path);
    if (query.len > 0) {
        *to++ = '?';
        to = put_log_text(to, query);
    }
    if (version != 0) {
        to = PUT(to, " HTTP/");
        *to++ = (char)('0' + version / 10 % 10);
        *to++ = '.';
        *to++ = (char)('0' + version % 10);
    }
    *to++ = '"';
    return to;
}

char *access_format_combined(char *to, const struct access_entry *entry, struct access_clock *clock)
{
    struct text_reader reader = {entry->texts, entry->lens};
    struct str client = take_text(&reader);
    to = client.len == 0 ? PUT(to, "-") : put_log_text(to, client);
    to = PUT(to, " - - ");
    to = put_clf_time(to, entry->real_ns, clock);
    *to++ = ' ';
    to = put_request_line(to, &reader, entry->version);
    *to++ = ' ';
    to = entry->status == 0 ? PUT(to, "000") : put_number(to, entry->status);
    *to++ = ' ';
    to = entry->bytes_out == 0 ? PUT(to, "-") : put_number(to, entry->bytes_out);
    *to++ = ' ';
    struct str user_agent = take_text(&reader);
    to = put_quoted_or_dash(to, take_text(&reader));
    *to++ = ' ';
    to = put_quoted_or_dash(to, user_agent);
    *to++ = '\n';
    return to;
}
