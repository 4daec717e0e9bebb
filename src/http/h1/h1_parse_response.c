// SPDX-License-Identifier: MIT
#include "http/h1/h1_int.h"
#include "http/h1/h1_scan.h"

enum { STATUS_LEN = 3, STATUS_MIN = 100, STATUS_MAX = 599 };

// Three digits at p and what ends them.
static int take_status(const char *p, const char *end, unsigned *status)
{
    *status = 0;
    for (int i = 0; i < STATUS_LEN; i++) {
        if (p + i == end) {
            return STEP_AGAIN;
        }
        if (!ascii_is_digit(p[i])) {
            return ERR_STATUS;
        }
        *status = *status * 10 + (unsigned)(p[i] - '0');
    }
    if (p + STATUS_LEN == end) {
        return STEP_AGAIN;
    }
    char c = p[STATUS_LEN];
    if (c != ' ' && c != '\r' && c != '\n') {
        return ERR_STATUS;
    }
    return *status < STATUS_MIN || *status > STATUS_MAX ? ERR_STATUS : STEP_DONE;
}

// STEP_DONE and *next behind the line. The space behind the status may be missing with the reason
// (RFC 9112 4 wants it; many origins leave it out).
static int take_status_line(const char *p, const char *end, struct http_head *head,
                            const char **next)
{
    int step = h1_take_version(p, end, &head->version);
    if (step != STEP_DONE) {
        return step;
    }
    p += H1_VERSION_LEN;
    if (p == end) {
        return STEP_AGAIN;
    }
    if (*p != ' ') {
        return ERR_START_LINE;
    }
    p++;
    step = take_status(p, end, &head->status);
    if (step != STEP_DONE) {
        return step;
    }
    p += STATUS_LEN;
    if (*p == ' ') {
        p++;
    }
    const char *stop = h1_scan_value(p, end);
    head->reason = str_make(p, (size_t)(stop - p));
    step = h1_take_line_end(stop, end, ERR_CONTROL_BYTE);
    if (step == STEP_DONE) {
        *next = stop + 2;
    }
    return step;
}

// 1xx and 204 have no content, and a length or a coding in them is a trap (RFC 9110 8.6, RFC 9112 6.1).
static int check_no_content(const struct http_head *head)
{
    if (head->body == BODY_CHUNKED) {
        return ERR_CODING;
    }
    return head->body == BODY_LENGTH && head->body_len > 0 ? ERR_LENGTH : 0;
}

// RFC 9112 6.3, for the answer to `method`.
static int decide_body(const struct h1_section *section, enum http_method method,
                       struct http_head *head)
{
    bool tunnel = method == METHOD_CONNECT && head->status >= 200 && head->status < 300;
    if (tunnel) {
        head->body = BODY_NONE;
        head->keep_alive = false;
        head->upgrade = true;
        return 0;
    }
    int err = h1_decide_length(section, head);
    if (err != 0) {
        return err;
    }
    bool no_content = head->status < 200 || head->status == 204;
    err = no_content ? check_no_content(head) : 0;
    if (err != 0) {
        return err;
    }
    if (no_content || head->status == 304 || method == METHOD_HEAD) {
        head->body = BODY_NONE;
        head->body_len = 0;
    } else if (head->body == BODY_NONE) {
        head->body = BODY_UNTIL_CLOSE;
        head->keep_alive = false;
    }
    return 0;
}

static int decide(const struct h1_section *section, enum http_method method, struct http_head *head)
{
    int err = h1_decide_connection(section, head);
    if (err != 0) {
        return err;
    }
    bool upgrade = head->upgrade;
    head->upgrade = false;
    err = decide_body(section, method, head);
    if (err != 0 || head->status != 101) {
        return err;
    }
    // RFC 9110 15.2.2: a 101 says to what it switches.
    if (!upgrade) {
        return ERR_UPGRADE;
    }
    head->upgrade = true;
    head->keep_alive = false;
    return 0;
}

static int parse(const char *p, const char *end, enum http_method method,
                 const struct h1_limits *limits, struct http_field *fields, struct http_head *head,
                 const char **next)
{
    int step = take_status_line(p, end, head, &p);
    if (step != STEP_DONE) {
        return step;
    }
    struct h1_section section;
    step = h1_parse_fields(p, end, limits->field_max, fields, &section, next);
    if (step != STEP_DONE) {
        return step;
    }
    head->fields = fields;
    head->field_count = section.count;
    head->seen = section.seen;
    int err = decide(&section, method, head);
    return err != 0 ? err : STEP_DONE;
}

ptrdiff_t h1_parse_response(const char *p, size_t len, enum http_method method,
                            const struct h1_limits *limits, struct http_field *fields,
                            struct http_head *head)
{
    memset(head, 0, sizeof(*head));
    bool full = len >= limits->head_max;
    const char *end = p + (full ? limits->head_max : len);
    const char *next = end;
    int step = parse(p, end, method, limits, fields, head, &next);
    if (step == STEP_AGAIN) {
        return full ? ERR_HEAD_TOO_LARGE : 0;
    }
    return step < 0 ? step : next - p;
}
