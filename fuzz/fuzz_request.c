// SPDX-License-Identifier: MIT
// The first byte says where the rest is cut: a prefix gives "more" or the answer of the whole, and
// every view lies in the input.
#include "base/invariant.h"
#include "http/h1/h1_parse.h"
#include "http/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct h1_limits limits = {.head_max = 2048, .target_max = 256, .field_max = 20};

static void check_view(struct str view, const char *p, size_t len)
{
    INVARIANT(view.len == 0 || (view.p >= p && view.p + view.len <= p + len));
}

static void check_head(const struct http_head *head, const char *p, size_t len)
{
    INVARIANT(head->field_count <= limits.field_max);
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct http_field *field = &head->fields[i];
        check_view(field->name, p, len);
        check_view(field->value, p, len);
        INVARIANT(field_name_is_valid(field->name) && !field_is_disguised(field->name));
        INVARIANT(field_value_is_valid(field->value));
        INVARIANT(field->id == field_find(field->name));
        INVARIANT(str_eq(str_trim(field->value), field->value));
    }
    check_view(head->method_text, p, len);
    check_view(head->target, p, len);
    check_view(head->scheme, p, len);
    check_view(head->authority, p, len);
    check_view(head->query, p, len);
    INVARIANT(head->target.len <= limits.target_max);
    INVARIANT(head->path.len > 0 && (head->path.p[0] == '/' || head->path.p[0] == '*'));
    INVARIANT(head->version == 10 || head->version == 11);
    INVARIANT(head->body != BODY_UNTIL_CLOSE);
    INVARIANT(head->body_len == 0 || head->body == BODY_LENGTH);
    INVARIANT(head->version == 11 || head->body != BODY_CHUNKED);
    char host[URI_HOST_MAX + 1];
    size_t host_len;
    unsigned port;
    INVARIANT(head->authority.len > 0 || head->version == 10);
    INVARIANT(head->authority.len == 0 ||
              uri_parse_host(head->authority, host, &host_len, &port) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    const char *p = (const char *)data + 1;
    size_t len = size - 1;
    size_t cut = len * data[0] / 255;
    struct http_field fields[20];
    struct http_head head;
    ptrdiff_t part = h1_parse_request(p, cut, &limits, fields, &head);
    ptrdiff_t whole = h1_parse_request(p, len, &limits, fields, &head);
    INVARIANT(part == 0 || part == whole);
    INVARIANT(whole <= 0 || part == (cut < (size_t)whole ? 0 : whole));
    INVARIANT(whole <= (ptrdiff_t)limits.head_max && whole <= (ptrdiff_t)len);
    INVARIANT(whole >= 0 || err_status((int)whole) != 500);
    if (whole > 0) {
        check_head(&head, p, (size_t)whole);
    }
    return 0;
}
