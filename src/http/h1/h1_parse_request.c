// SPDX-License-Identifier: MIT
//
//   bytes ─► request line ─► fields (h1_fields.c) ─► target, Host, framing (h1_framing.c) ─► head
//
// Strictly from left to right, so that a prefix gives either "more" or the answer that the whole gives.
#include "http/h1/h1_int.h"
#include "http/h1/h1_scan.h"
#include "http/uri.h"

struct cursor {
    const char *p;
    const char *end;
};

// At most one empty line may come before the request line (RFC 9112 2.2).
static int skip_empty_line(struct cursor *at)
{
    if (at->p == at->end) {
        return STEP_AGAIN;
    }
    if (*at->p != '\r' && *at->p != '\n') {
        return STEP_DONE;
    }
    int step = h1_take_line_end(at->p, at->end, ERR_LINE_END);
    if (step == STEP_DONE) {
        at->p += 2;
    }
    return step;
}

static int take_method(struct cursor *at, struct http_head *head)
{
    const char *p = at->p;
    const char *end = at->end - p > H1_METHOD_MAX + 1 ? p + H1_METHOD_MAX + 1 : at->end;
    while (p < end && char_is(*p, CHAR_TOKEN)) {
        p++;
    }
    size_t len = (size_t)(p - at->p);
    if (len > H1_METHOD_MAX) {
        return ERR_METHOD;
    }
    if (p == end) {
        return STEP_AGAIN;
    }
    if (*p != ' ' || len == 0) {
        return *p == '\r' || *p == '\n' ? ERR_START_LINE : ERR_METHOD;
    }
    head->method_text = str_make(at->p, len);
    head->method = http_method_find(head->method_text);
    at->p = p + 1;
    return STEP_DONE;
}

static int take_target(struct cursor *at, size_t target_max, struct http_head *head)
{
    const char *p = at->p;
    bool bounded = (size_t)(at->end - p) > target_max;
    const char *stop = h1_scan_target(p, bounded ? p + target_max + 1 : at->end);
    size_t len = (size_t)(stop - p);
    if (len > target_max) {
        return ERR_TARGET_TOO_LONG;
    }
    if (stop == at->end) {
        return STEP_AGAIN;
    }
    if (*stop != ' ' || len == 0) {
        // HTTP/0.9 ends here; so does a line with two spaces.
        return *stop == '\r' || *stop == '\n' || *stop == ' ' ? ERR_START_LINE : ERR_TARGET;
    }
    head->target = str_make(p, len);
    at->p = stop + 1;
    return STEP_DONE;
}

static int take_request_line(struct cursor *at, size_t target_max, struct http_head *head)
{
    int step = take_method(at, head);
    if (step != STEP_DONE) {
        return step;
    }
    step = take_target(at, target_max, head);
    if (step != STEP_DONE) {
        return step;
    }
    step = h1_take_version(at->p, at->end, &head->version);
    if (step != STEP_DONE) {
        return step;
    }
    at->p += H1_VERSION_LEN;
    step = h1_take_line_end(at->p, at->end, ERR_START_LINE);
    if (step != STEP_DONE) {
        return step;
    }
    at->p += 2;
    if (head->method == METHOD_CONNECT || head->method == METHOD_TRACE) {
        return ERR_METHOD_REFUSED;
    }
    struct uri_target parts;
    int err = uri_split_target(head->target, head->method == METHOD_OPTIONS, &parts);
    if (err != 0) {
        return err;
    }
    head->scheme = parts.scheme;
    head->authority = parts.authority;
    head->path = parts.path;
    head->query = parts.query;
    return STEP_DONE;
}

// RFC 9112 3.2: exactly one valid Host in HTTP/1.1; the authority of the target goes before it.
static int decide_authority(const struct h1_section *section, struct http_head *head)
{
    if (!h1_has(section, FIELD_HOST)) {
        return head->version >= 11 ? ERR_HOST_MISSING : 0;
    }
    if ((section->repeated & FIELD_BIT(FIELD_HOST)) != 0) {
        return ERR_HOST_REPEATED;
    }
    struct str host = head->fields[section->at[FIELD_HOST]].value;
    if (host.len == 0 && head->version < 11) {
        return 0;
    }
    char name[URI_HOST_MAX + 1];
    size_t name_len;
    unsigned port;
    int err = uri_parse_host(host, name, &name_len, &port);
    if (err != 0) {
        return err;
    }
    if (head->authority.len == 0) {
        head->authority = host;
    }
    return 0;
}

static int decide(const struct h1_section *section, struct http_head *head)
{
    int err = decide_authority(section, head);
    if (err != 0) {
        return err;
    }
    err = h1_decide_length(section, head);
    if (err != 0) {
        return err;
    }
    err = h1_decide_connection(section, head);
    if (err != 0) {
        return err;
    }
    // RFC 9110 10.1.1: not heard from a 1.0 client, which would not know what to do with a 100.
    head->expect_continue = h1_has(section, FIELD_EXPECT) && head->version >= 11 &&
                            http_head_has_token(head, FIELD_EXPECT, STR("100-continue"));
    head->te_trailers =
        h1_has(section, FIELD_TE) && http_head_has_token(head, FIELD_TE, STR("trailers"));
    return 0;
}

// STEP_DONE and *next behind the head.
static int parse(struct cursor *at, const struct h1_limits *limits, struct http_field *fields,
                 struct http_head *head)
{
    int step = skip_empty_line(at);
    if (step != STEP_DONE) {
        return step;
    }
    step = take_request_line(at, limits->target_max, head);
    if (step != STEP_DONE) {
        return step;
    }
    struct h1_section section;
    step = h1_parse_fields(at->p, at->end, limits->field_max, fields, &section, &at->p);
    if (step != STEP_DONE) {
        return step;
    }
    head->fields = fields;
    head->field_count = section.count;
    head->seen = section.seen;
    int err = decide(&section, head);
    return err != 0 ? err : STEP_DONE;
}

ptrdiff_t h1_parse_request(const char *p, size_t len, const struct h1_limits *limits,
                           struct http_field *fields, struct http_head *head)
{
    memset(head, 0, sizeof(*head));
    bool full = len >= limits->head_max;
    struct cursor at = {p, p + (full ? limits->head_max : len)};
    int step = parse(&at, limits, fields, head);
    if (step == STEP_AGAIN) {
        return full ? ERR_HEAD_TOO_LARGE : 0;
    }
    return step < 0 ? step : at.p - p;
}
