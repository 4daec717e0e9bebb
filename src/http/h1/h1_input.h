// SPDX-License-Identifier: MIT
// Bytes received that could not be used at once: a partial head, or what came behind a message.
// A connection with nothing kept owns no memory. Loop thread.
#pragma once
#include "base/str.h"

struct h1_kept {
    size_t start;
    size_t end;
    size_t size;
    char data[];
};

static inline struct str h1_kept_bytes(const struct h1_kept *kept)
{
    return kept == NULL ? STR_NULL : str_make(kept->data + kept->start, kept->end - kept->start);
}

// Appends; false when memory is out.
bool h1_kept_append(struct h1_kept **kept, struct str bytes);
// Drops the first `len` bytes, and the memory when none are left.
void h1_kept_consume(struct h1_kept **kept, size_t len);
void h1_kept_free(struct h1_kept **kept);

