// SPDX-License-Identifier: MIT
#include "http/h2/h2_memory.h"
#include "base/invariant.h"
#include "base/sanitize.h"
#include "http/h2/h2_pages.h"
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEADER_LEN = 16,
    FIRST_BITS = 6, // the first class: up to 64 bytes
    LAST_BITS = 16, // the last: up to 64 KiB
    CLASS_COUNT = 2 * (LAST_BITS - FIRST_BITS) + 1,
    CLASS_NONE = CLASS_COUNT, // larger: straight from malloc
    CLASS_PAGES,              // a frame buffer: of h2_pages
    KEPT_LEN = 1 << 20,       // bytes that a class may keep
    FRAME_MIN = 16384,
};

// Classes count what is asked for, without this header: nghttp2 asks for powers of two.
struct block {
    struct h2_region *region; // CLASS_PAGES
    uint32_t size;            // of `data`
    uint32_t kind;
    alignas(16) char data[];
};

_Static_assert(offsetof(struct block, data) == HEADER_LEN, "blocks are aligned");

struct free_list {
    struct block *first; // the first word of `data` links to the next
    size_t count;
};

struct h2_memory {
    nghttp2_mem mem;
    unsigned users;
    struct free_list lists[CLASS_COUNT];
    struct h2_pages pages;
};

static _Thread_local struct h2_memory *of_thread;

// Classes are 2^n and 1.5 * 2^n: at most a third is wasted.
static unsigned class_of(size_t size)
{
    if (size <= 1u << FIRST_BITS) {
        return 0;
    }
    unsigned bits = 63u - (unsigned)__builtin_clzll(size - 1);
    if (bits >= LAST_BITS) {
        return CLASS_NONE;
    }
    size_t half = (size_t)3 << (bits - 1);
    return 2 * (bits - FIRST_BITS) + (size <= half ? 1 : 2);
}

static size_t size_of(unsigned kind)
{
    size_t whole = (size_t)1 << (FIRST_BITS + kind / 2);
    return kind % 2 == 0 ? whole : whole + whole / 2;
}

static struct block *block_of(void *p)
{
    return (struct block *)(void *)((char *)p - HEADER_LEN);
}

static void *get_new(unsigned kind, size_t size)
{
    struct block *block = size > UINT32_MAX ? NULL : malloc(HEADER_LEN + size);
    if (block == NULL) {
        return NULL;
    }
    block->region = NULL;
    block->size = (uint32_t)size;
    block->kind = kind;
    return block->data;
}

static void *get_pages(struct h2_memory *memory)
{
    struct h2_region *region;
    struct block *block = h2_pages_get(&memory->pages, &region);
    if (block == NULL) {
        return NULL;
    }
    block->region = region;
    block->size = H2_PAGES_LEN - HEADER_LEN;
    block->kind = CLASS_PAGES;
    return block->data;
}

void *h2_memory_get(struct h2_memory *memory, size_t size)
{
    if (size > FRAME_MIN && size <= H2_PAGES_LEN - HEADER_LEN) {
        return get_pages(memory);
    }
    unsigned kind = class_of(size);
    if (kind == CLASS_NONE) {
        return get_new(kind, size);
    }
    struct free_list *list = &memory->lists[kind];
    struct block *block = list->first;
    if (block == NULL) {
        return get_new(kind, size_of(kind));
    }
    SANITIZE_UNPOISON(block->data, block->size);
    memcpy(&list->first, block->data, sizeof(struct block *));
    list->count--;
    return block->data;
}

void h2_memory_put(struct h2_memory *memory, void *p)
{
    if (p == NULL) {
        return;
    }
    struct block *block = block_of(p);
    if (block->kind == CLASS_PAGES) {
        h2_pages_put(&memory->pages, block->region, block);
        return;
    }
    if (block->kind == CLASS_NONE) {
        free(block);
        return;
    }
    INVARIANT(block->kind < CLASS_COUNT);
    struct free_list *list = &memory->lists[block->kind];
    if ((list->count + 1) * block->size > KEPT_LEN) {
        free(block);
        return;
    }
    memcpy(block->data, &list->first, sizeof(struct block *));
    list->first = block;
    list->count++;
    SANITIZE_POISON(block->data, block->size);
}

static void *on_malloc(size_t size, void *user)
{
    return h2_memory_get(user, size);
}

static void on_free(void *p, void *user)
{
    h2_memory_put(user, p);
}

static void *on_calloc(size_t count, size_t size, void *user)
{
    size_t all;
    if (__builtin_mul_overflow(count, size, &all)) {
        return NULL;
    }
    void *p = h2_memory_get(user, all);
    if (p != NULL) {
        memset(p, 0, all);
    }
    return p;
}

static void *on_realloc(void *p, size_t size, void *user)
{
    if (p == NULL) {
        return h2_memory_get(user, size);
    }
    size_t had = block_of(p)->size;
    if (size <= had) {
        return p;
    }
    void *larger = h2_memory_get(user, size);
    if (larger != NULL) {
        memcpy(larger, p, had);
        h2_memory_put(user, p);
    }
    return larger;
}

struct h2_memory *h2_memory_ref(void)
{
    if (of_thread == NULL) {
        of_thread = calloc(1, sizeof *of_thread);
        if (of_thread == NULL) {
            return NULL;
        }
        h2_pages_init(&of_thread->pages);
        of_thread->mem = (nghttp2_mem){of_thread, on_malloc, on_free, on_calloc, on_realloc};
    }
    of_thread->users++;
    return of_thread;
}

void h2_memory_unref(struct h2_memory **memory)
{
    struct h2_memory *m = *memory;
    *memory = NULL;
    INVARIANT(m->users > 0);
    if (--m->users > 0) {
        return;
    }
    for (unsigned kind = 0; kind < CLASS_COUNT; kind++) {
        while (m->lists[kind].first != NULL) {
            struct block *block = m->lists[kind].first;
            SANITIZE_UNPOISON(block->data, block->size);
            memcpy(&m->lists[kind].first, block->data, sizeof(struct block *));
            free(block);
        }
    }
    h2_pages_fini(&m->pages);
    if (of_thread == m) { // else its thread has ended, and another one clears up
        of_thread = NULL;
    }
    free(m);
}

nghttp2_mem *h2_memory_of_session(struct h2_memory *memory)
{
    return &memory->mem;
}

size_t h2_memory_kept(const struct h2_memory *memory)
{
    size_t kept = 0;
    for (unsigned kind = 0; kind < CLASS_COUNT; kind++) {
        kept += memory->lists[kind].count * size_of(kind);
    }
    return kept;
}
