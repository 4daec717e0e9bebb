// SPDX-License-Identifier: MIT
// Bytes received that could not be used at once: a partial head, or what came behind a message.
// A connection with nothing kept owns no memory. Loop thread.
//
// Memory is given back at the end of the turn: outputs may still borrow views into it (net/outq.h).
#pragma once
#include "base/str.h"
#include "loop/loop.h"

struct h1_kept {
    struct loop_deferred deferred;
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
bool h1_kept_append(struct loop *loop, struct h1_kept **kept, struct str bytes);
// Frees it at the end of the turn; NULL is allowed.
void h1_kept_free(struct loop *loop, struct h1_kept **kept);
