// SPDX-License-Identifier: MIT
// The first byte says where the rest is cut, the second what was asked for: a prefix gives "more" or
// the answer of the whole, and every view lies in the input.
#include "base/invariant.h"
#include "http/h1/h1_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct h1_limits limits = {.head_max = 2048, .target_max = 256, .field_max = 20};

static void check_view(struct str view, const char *p, size_t len)
{
    INVARIANT(view.len == 0 || (view.p >= p && view.p + view.len <= p + len));
}

static void check_head(const struct http_head *head, enum http_method method, const char *p,
                       size_t len)
{
    INVARIANT(head->field_count <= limits.field_max);
    for (unsigned i = 0; i < head->field_count; i++) {
        check_view(head->fields[i].name, p, len);
        check_view(head->fields[i].value, p, len);
        INVARIANT(field_name_is_valid(head->fields[i].name));
        INVARIANT(field_value_is_valid(head->fields[i].value));
    }
    check_view(head->reason, p, len);
    INVARIANT(field_value_is_valid(head->reason));
    INVARIANT(head->status >= 100 && head->status <= 599);
    bool none =
        head->status < 200 || head->status == 204 || head->status == 304 || method == METHOD_HEAD;
    INVARIANT(!none || head->body == BODY_NONE);
    INVARIANT(head->body != BODY_UNTIL_CLOSE || !head->keep_alive);
    INVARIANT(head->status != 101 || head->upgrade || method == METHOD_CONNECT);
    INVARIANT(head->body_len == 0 || head->body == BODY_LENGTH);
    INVARIANT(head->version == 11 || head->body != BODY_CHUNKED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    static const enum http_method methods[] = {METHOD_GET, METHOD_HEAD, METHOD_CONNECT,
                                               METHOD_POST};
    enum http_method method = methods[data[1] % 4];
    const char *p = (const char *)data + 2;
    size_t len = size - 2;
    size_t cut = len * data[0] / 255;
    struct http_field fields[20];
    struct http_head head;
    ptrdiff_t part = h1_parse_response(p, cut, method, &limits, fields, &head);
    ptrdiff_t whole = h1_parse_response(p, len, method, &limits, fields, &head);
    INVARIANT(part == 0 || part == whole);
    INVARIANT(whole <= 0 || part == (cut < (size_t)whole ? 0 : whole));
    INVARIANT(whole <= (ptrdiff_t)limits.head_max && whole <= (ptrdiff_t)len);
    if (whole > 0) {
        check_head(&head, method, p, (size_t)whole);
    }
    return 0;
}
