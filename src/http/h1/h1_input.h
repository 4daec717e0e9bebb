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
// Off the connection, so that the bytes outlive what callbacks do to it; h1_kept_put() takes it.
static inline struct h1_kept *h1_kept_take(struct h1_kept **place)
{
    struct h1_kept *kept = *place;
    *place = NULL;
    return kept;
}
// What was taken goes back to where it was, without its first `used` bytes; freed when these are all.
void h1_kept_put(struct loop *loop, struct h1_kept **place, struct h1_kept *kept, size_t used);
// Frees it at the end of the turn; NULL is allowed.
void h1_kept_free(struct loop *loop, struct h1_kept **kept);
