// SPDX-License-Identifier: MIT
// The first byte says where the rest is cut: in two pieces, byte by byte and whole give the same
// content, the same end and the same place. Trailers follow.
#include "base/invariant.h"
#include "http/h1/h1_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
    int event;
    size_t used;
    size_t data_len;
    uint64_t data_sum;
};

static void take_data(struct result *result, struct str data)
{
    for (size_t i = 0; i < data.len; i++) {
        result->data_sum = result->data_sum * 31 + (unsigned char)data.p[i];
    }
    result->data_len += data.len;
}

// Reads on from result->used up to `end`. False at the end of the content or an error.
static bool feed(struct h1_chunked *chunked, const char *p, size_t end, struct result *result)
{
    while (result->used < end) {
        size_t used = 0;
        struct str data;
        const char *at = p + result->used;
        result->event = h1_chunked_next(chunked, at, end - result->used, &used, &data);
        INVARIANT(used <= end - result->used);
        INVARIANT(data.len == 0 || (data.p >= at && data.p + data.len == at + used));
        INVARIANT(result->event != H1_CHUNKED_DATA || data.len > 0);
        result->used += used;
        take_data(result, data);
        if (result->event < 0 || result->event == H1_CHUNKED_TRAILERS) {
            return false;
        }
    }
    return true;
}

static bool same(const struct result *a, const struct result *b)
{
    bool going_on = a->event == H1_CHUNKED_DATA || a->event == H1_CHUNKED_MORE;
    bool also = b->event == H1_CHUNKED_DATA || b->event == H1_CHUNKED_MORE;
    return (a->event == b->event || (going_on && also)) && a->used == b->used &&
           a->data_len == b->data_len && a->data_sum == b->data_sum;
}

static void check_trailers(const char *p, size_t len, size_t cut)
{
    struct http_field fields[20];
    unsigned count;
    cut = cut < len ? cut : len;
    ptrdiff_t part = h1_parse_trailers(p, cut, 20, fields, &count);
    ptrdiff_t whole = h1_parse_trailers(p, len, 20, fields, &count);
    INVARIANT(part == 0 || part == whole);
    INVARIANT(whole <= 0 || part == (cut < (size_t)whole ? 0 : whole));
    for (unsigned i = 0; i < count; i++) {
        INVARIANT(fields[i].name.p >= p && fields[i].value.p <= p + whole);
        INVARIANT((field_flags(fields[i].id) & (FIELD_HOP | FIELD_SECURITY)) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    const char *p = (const char *)data + 1;
    size_t len = size - 1;
    size_t cut = len * data[0] / 255;
    struct h1_chunked chunked;
    struct result whole = {0};
    h1_chunked_init(&chunked);
    feed(&chunked, p, len, &whole);
    struct result split = {0};
    h1_chunked_init(&chunked);
    if (feed(&chunked, p, cut, &split)) {
        feed(&chunked, p, len, &split);
    }
    INVARIANT(same(&whole, &split));
    struct result bytes = {0};
    h1_chunked_init(&chunked);
    for (size_t end = 1; end <= len && feed(&chunked, p, end, &bytes); end++) {
    }
    INVARIANT(same(&whole, &bytes));
    if (whole.event == H1_CHUNKED_TRAILERS) {
        check_trailers(p + whole.used, len - whole.used, cut);
    }
    return 0;
}
