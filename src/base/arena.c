// SPDX-License-Identifier: MIT
#include "base/arena.h"
#include "base/sanitize.h"
#include <stdarg.h>

struct arena_block {
    struct arena_block *next;
    size_t len; // with this header
};

void arena_pool_init(struct arena_pool *pool, size_t keep_max)
{
    *pool = (struct arena_pool){.keep_max = keep_max};
}

void arena_pool_fini(struct arena_pool *pool)
{
    while (pool->free != NULL) {
        struct arena_block *block = pool->free;
        pool->free = block->next;
        SANITIZE_UNPOISON(block, block->len);
        free(block);
    }
    pool->free_count = 0;
}

static struct arena_block *take_block(struct arena_pool *pool, size_t len)
{
    if (len == ARENA_BLOCK_LEN && pool->free != NULL) {
        struct arena_block *block = pool->free;
        pool->free = block->next;
        pool->free_count--;
        SANITIZE_UNPOISON(block, len);
        return block;
    }
    struct arena_block *block = malloc(len);
    if (block != NULL) {
        block->len = len;
    }
    return block;
}

static void give_block(struct arena_pool *pool, struct arena_block *block)
{
    if (block->len == ARENA_BLOCK_LEN && pool->free_count < pool->keep_max) {
        block->next = pool->free;
        pool->free = block;
        pool->free_count++;
        SANITIZE_POISON(block + 1, block->len - sizeof *block);
        return;
    }
    free(block);
}

void arena_init(struct arena *arena, struct arena_pool *pool, size_t max)
{
    // The bound on the bound keeps sums of sizes from wrapping.
    *arena = (struct arena){.pool = pool, .max = max < SIZE_MAX / 2 ? max : SIZE_MAX / 2};
}

void arena_reset(struct arena *arena)
{
    while (arena->blocks != NULL) {
        struct arena_block *block = arena->blocks;
        arena->blocks = block->next;
        give_block(arena->pool, block);
    }
    arena->at = NULL;
    arena->end = NULL;
    arena->total = 0;
    arena->overflow = false;
}

struct arena_mark arena_mark(const struct arena *arena)
{
    return (struct arena_mark){arena->blocks, arena->at, arena->end, arena->total, arena->overflow};
}

void arena_rewind(struct arena *arena, const struct arena_mark *mark)
{
    while (arena->blocks != mark->blocks) {
        struct arena_block *block = arena->blocks;
        arena->blocks = block->next;
        give_block(arena->pool, block);
    }
    arena->at = mark->at;
    arena->end = mark->end;
    arena->total = mark->total;
    arena->overflow = mark->overflow;
}

void *arena_alloc_slow(struct arena *arena, size_t size)
{
    if (size > arena->max) {
        arena->overflow = true;
        return NULL;
    }
    if (size == 0) {
        return arena_alloc(arena, 8); // nothing still has an address of its own
    }
    size = (size + 7) & ~(size_t)7;
    size_t room = ARENA_BLOCK_LEN - sizeof(struct arena_block);
    size_t len = size <= room ? (size_t)ARENA_BLOCK_LEN : size + sizeof(struct arena_block);
    if (len > arena->max - arena->total) {
        arena->overflow = true;
        return NULL;
    }
    struct arena_block *block = take_block(arena->pool, len);
    if (block == NULL) {
        arena->overflow = true;
        return NULL;
    }
    block->next = arena->blocks;
    arena->blocks = block;
    arena->total += len;
    char *start = (char *)(block + 1);
    // A large block of its own leaves the rest of the current one in use.
    if (len == ARENA_BLOCK_LEN) {
        arena->at = start + size;
        arena->end = (char *)block + len;
    }
    return start;
}

struct str arena_str(struct arena *arena, struct str s)
{
    char *copy = arena_alloc(arena, s.len + 1);
    if (copy == NULL) {
        return STR_NULL;
    }
    if (s.len > 0) {
        memcpy(copy, s.p, s.len);
    }
    copy[s.len] = '\0';
    return str_make(copy, s.len);
}

struct str arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = len < 0 ? NULL : arena_alloc(arena, (size_t)len + 1);
    if (text != NULL) {
        vsnprintf(text, (size_t)len + 1, format, again);
    }
    va_end(again);
    return text == NULL ? STR_NULL : str_make(text, (size_t)len);
}
