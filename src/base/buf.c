// SPDX-License-Identifier: MIT
#include "base/buf.h"
#include "base/utf8.h"

void buf_init(struct buf *buf, size_t max)
{
    *buf = (struct buf){.max = max};
}

void buf_fini(struct buf *buf)
{
    free(buf->p);
    *buf = (struct buf){0};
}

void buf_clear(struct buf *buf)
{
    buf->len = 0;
    buf->failed = false;
}

// `spare` bytes come on top of `len` and do not count for the bound.
static char *reserve(struct buf *buf, size_t len, size_t spare)
{
    if (buf->failed) {
        return NULL;
    }
    size_t most = buf->max != 0 && buf->max < SIZE_MAX / 2 ? buf->max : SIZE_MAX / 2;
    if (buf->len > most || len > most - buf->len) {
        buf->failed = true;
        return NULL;
    }
    size_t need = buf->len + len + spare;
    if (buf->p != NULL && buf->size >= need) {
        return buf->p + buf->len;
    }
    size_t size = buf->size < 64 ? 64 : buf->size;
    while (size < need) {
        size = size > SIZE_MAX / 4 ? need : size * 2;
    }
    char *p = realloc(buf->p, size);
    if (p == NULL) {
        buf->failed = true;
        return NULL;
    }
    buf->p = p;
    buf->size = size;
    return p + buf->len;
}

char *buf_reserve(struct buf *buf, size_t len)
{
    return reserve(buf, len, 0);
}

void buf_put(struct buf *buf, struct str s)
{
    char *to = s.len == 0 ? NULL : buf_reserve(buf, s.len);
    if (to != NULL) {
        memcpy(to, s.p, s.len);
        buf->len += s.len;
    }
}

void buf_put_char(struct buf *buf, char c)
{
    char *to = buf_reserve(buf, 1);
    if (to != NULL) {
        *to = c;
        buf->len++;
    }
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0) {
        buf->failed = true;
    }
    char *to = len < 0 ? NULL : reserve(buf, (size_t)len, 1);
    if (to != NULL) {
        vsnprintf(to, (size_t)len + 1, format, again);
        buf->len += (size_t)len;
    }
    va_end(again);
}

void buf_consume(struct buf *buf, size_t len)
{
    if (len >= buf->len) {
        buf->len = 0;
        return;
    }
    memmove(buf->p, buf->p + len, buf->len - len);
    buf->len -= len;
}

static void put_json_escape(struct buf *buf, unsigned char c)
{
    switch (c) {
    case '"':
        buf_put(buf, STR("\\\""));
        return;
    case '\\':
        buf_put(buf, STR("\\\\"));
        return;
    case '\n':
        buf_put(buf, STR("\\n"));
        return;
    case '\r':
        buf_put(buf, STR("\\r"));
        return;
    case '\t':
        buf_put(buf, STR("\\t"));
        return;
    default:
        buf_printf(buf, "\\u%04x", c);
    }
}

void buf_put_json(struct buf *buf, struct str s)
{
    buf_put_char(buf, '"');
    size_t i = 0;
    while (i < s.len) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c == 0x7f || c == '"' || c == '\\') {
            put_json_escape(buf, c);
            i++;
            continue;
        }
        size_t len = utf8_len(str_from(s, i));
        if (len == 0) {
            buf_put(buf, STR("\xEF\xBF\xBD"));
            i++;
            continue;
        }
        buf_put(buf, str_sub(s, i, len));
        i += len;
    }
    buf_put_char(buf, '"');
}
