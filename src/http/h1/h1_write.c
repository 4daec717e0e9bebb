// SPDX-License-Identifier: MIT
#include "http/h1/h1_write.h"
#include "http/date.h"

// Bytes into the output: one reservation for a usual head, pieces for a very large one.
struct writer {
    struct loop *loop;
    struct outq *out;
    char *start; // NULL: piece by piece
    char *at;
};

static void begin(struct writer *w, struct loop *loop, struct outq *out, size_t len)
{
    *w = (struct writer){.loop = loop, .out = out};
    if (len <= OUTQ_SCRATCH_LEN) {
        w->start = outq_reserve(loop, out, len);
        w->at = w->start;
    }
}

static inline void put(struct writer *w, struct str s)
{
    if (s.len == 0) {
        return; // s.p may be NULL
    }
    if (w->start != NULL) {
        memcpy(w->at, s.p, s.len);
        w->at += s.len;
    } else {
        outq_put_copy(w->loop, w->out, s);
    }
}

static void finish(struct writer *w)
{
    if (w->start != NULL) {
        outq_commit(w->out, (size_t)(w->at - w->start));
    }
}

static struct str put_decimal(char *end, uint64_t value)
{
    char *at = end;
    do {
        *--at = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return str_make(at, (size_t)(end - at));
}

static struct str put_hex(char *end, uint64_t value)
{
    static const char digits[] = "0123456789abcdef";
    char *at = end;
    do {
        *--at = digits[value & 15];
        value >>= 4;
    } while (value > 0);
    return str_make(at, (size_t)(end - at));
}

enum {
    FRAMING_MAX = 256, // bytes of the fields that put_framing writes
    NUMBER_MAX = 24,
};

static size_t fields_len(const struct http_field *fields, unsigned count)
{
    size_t len = 0;
    for (unsigned i = 0; i < count; i++) {
        len += fields[i].name.len + fields[i].value.len + 4;
    }
    return len;
}

static void put_field(struct writer *w, struct str name, struct str value)
{
    put(w, name);
    put(w, STR(": "));
    put(w, value);
    put(w, STR("\r\n"));
}

static void put_fields(struct writer *w, const struct http_field *fields, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        put_field(w, fields[i].name, fields[i].value);
    }
}

static void put_framing(struct writer *w, const struct h1_framing *framing)
{
    char number[NUMBER_MAX];
    if (framing->body == BODY_LENGTH || (framing->body == BODY_NONE && framing->has_length)) {
        put_field(w, STR("Content-Length"), put_decimal(number + NUMBER_MAX, framing->body_len));
    } else if (framing->body == BODY_CHUNKED) {
        put(w, STR("Transfer-Encoding: chunked\r\n"));
    }
    if (framing->add_date) {
        put_field(w, STR("Date"), http_date(w->loop->real_ns));
    }
    if (framing->connection != NULL) {
        put_field(w, STR("Connection"), str_from_c(framing->connection));
    }
    put(w, STR("\r\n"));
}

void h1_write_request(struct loop *loop, struct outq *out, const struct http_head *head,
                      const struct h1_framing *framing)
{
    struct writer w;
    begin(&w, loop, out,
          head->method_text.len + head->target.len + head->authority.len + FRAMING_MAX +
              fields_len(head->fields, head->field_count));
    if (out->failed) {
        return;
    }
    put(&w, head->method_text);
    put(&w, STR(" "));
    put(&w, head->target);
    put(&w, STR(" HTTP/1.1\r\n"));
    put_field(&w, STR("Host"), head->authority);
    put_fields(&w, head->fields, head->field_count);
    put_framing(&w, framing);
    finish(&w);
}

void h1_write_response(struct loop *loop, struct outq *out, const struct http_head *head,
                       const struct h1_framing *framing)
{
    char number[NUMBER_MAX];
    struct str reason = head->reason.len > 0 ? head->reason : http_reason(head->status);
    struct writer w;
    begin(&w, loop, out, reason.len + FRAMING_MAX + fields_len(head->fields, head->field_count));
    if (out->failed) {
        return;
    }
    put(&w, STR("HTTP/1.1 "));
    put(&w, put_decimal(number + NUMBER_MAX, head->status));
    put(&w, STR(" "));
    put(&w, reason);
    put(&w, STR("\r\n"));
    put_fields(&w, head->fields, head->field_count);
    put_framing(&w, framing);
    finish(&w);
}

void h1_write_chunk(struct loop *loop, struct outq *out, struct str data)
{
    if (data.len == 0) {
        return; // a chunk of 0 bytes would be the last
    }
    char number[NUMBER_MAX];
    struct str size = put_hex(number + NUMBER_MAX, data.len);
    char *to = outq_reserve(loop, out, size.len + 2);
    if (to == NULL) {
        return;
    }
    memcpy(to, size.p, size.len);
    memcpy(to + size.len, "\r\n", 2);
    outq_commit(out, size.len + 2);
    outq_put_view(loop, out, data);
    outq_put_copy(loop, out, STR("\r\n"));
}

void h1_write_last_chunk(struct loop *loop, struct outq *out, const struct http_field *trailers,
                         unsigned count)
{
    struct writer w;
    begin(&w, loop, out, fields_len(trailers, count) + 8);
    if (out->failed) {
        return;
    }
    put(&w, STR("0\r\n"));
    put_fields(&w, trailers, count);
    put(&w, STR("\r\n"));
    finish(&w);
}
