// SPDX-License-Identifier: MIT
// A growing byte buffer on the heap, for the control side and for cold paths. Appending never fails
// visibly: out of memory (or over `max`) sets `failed`, later appends do nothing, and the owner checks
// once at the end. Owner thread only.
#pragma once
#include "base/str.h"
#include <stdarg.h>

struct buf {
    char *p;
    size_t len;
    size_t size;
    size_t max; // 0: no bound
    bool failed;
};

void buf_init(struct buf *buf, size_t max);
void buf_fini(struct buf *buf);
// Empties it and keeps the memory.
void buf_clear(struct buf *buf);
// Room for `len` more bytes at buf->p + buf->len; NULL on failure.
char *buf_reserve(struct buf *buf, size_t len);
void buf_put(struct buf *buf, struct str s);
void buf_put_char(struct buf *buf, char c);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Drops the first `len` bytes.
void buf_consume(struct buf *buf, size_t len);
// Appends a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD.
void buf_put_json(struct buf *buf, struct str s);

static inline struct str buf_str(const struct buf *buf)
{
    return str_make(buf->p, buf->len);
}
