// SPDX-License-Identifier: MIT
// Memory of one transaction: taken piece by piece, given back all at once. Blocks come from the
// owner's `struct arena_pool`, so a warm transaction calls no malloc. An arena has a hard maximum;
// over it (or when memory is out) it returns NULL and its `overflow` flag stays set until reset: the
// request ends with an error, never the process. Owner thread only.
#pragma once
#include "base/str.h"

enum {
    ARENA_BLOCK_LEN = 8192, // bytes of a block with its header
};

struct arena_block;

// Free blocks kept for reuse, at most `keep_max`. One a thread.
struct arena_pool {
    struct arena_block *free;
    size_t free_count;
    size_t keep_max;
};

struct arena {
    struct arena_pool *pool;
    struct arena_block *blocks; // newest first
    char *at;
    char *end;
    size_t total; // bytes taken from the pool or malloc
    size_t max;   // bound on `total`
    bool overflow;
};

void arena_pool_init(struct arena_pool *pool, size_t keep_max);
// Frees the kept blocks; no arena of the pool may hold any.
void arena_pool_fini(struct arena_pool *pool);

void arena_init(struct arena *arena, struct arena_pool *pool, size_t max);
// Gives everything back; the arena can be used again.
void arena_reset(struct arena *arena);

// A place to go back to: what was taken since is given back, the overflow flag is as it was then.
struct arena_mark {
    struct arena_block *blocks;
    char *at;
    char *end;
    size_t total;
    bool overflow;
};

struct arena_mark arena_mark(const struct arena *arena);
// `mark` is of this arena, since its last reset.
void arena_rewind(struct arena *arena, const struct arena_mark *mark);

// Slow path of arena_alloc.
void *arena_alloc_slow(struct arena *arena, size_t size);

// `size` bytes aligned to 8, not cleared; NULL and overflow when over the maximum.
static inline void *arena_alloc(struct arena *arena, size_t size)
{
    size_t rounded = (size + 7) & ~(size_t)7;
    // One comparison for three: 0 (also where the rounding wrapped) is as large as can be less one.
    if (rounded - 1 < (size_t)(arena->end - arena->at)) {
        void *p = arena->at;
        arena->at += rounded;
        return p;
    }
    return arena_alloc_slow(arena, size);
}

// A terminated copy; the empty view with p == NULL on overflow.
struct str arena_str(struct arena *arena, struct str s);
// A formatted, terminated text; p == NULL on overflow.
struct str arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
