// SPDX-License-Identifier: MIT
#include "upstream/pool_counts.h"
#include "base/invariant.h"
#include <stdlib.h>
#include <string.h>

enum {
    LINE = 64,
    FIRST_SIZE = LINE / sizeof(atomic_uint), // one cache line: most pools are small
    SIZE_TOP = 1 << 26,                      // of a block
};

// One allocation, aligned to cache lines: the counts share none with what is not a count.
struct block {
    struct block *next;  // as large as all before it
    atomic_uint *counts; // behind `used`
    unsigned size;
    unsigned used_count;
    unsigned low;    // words of `used` before this one are full
    uint64_t used[]; // a bit each
};

struct pool_counts {
    struct block *first;
};

struct pool_counts *pool_counts_new(void)
{
    return calloc(1, sizeof(struct pool_counts));
}

void pool_counts_free(struct pool_counts **place)
{
    struct pool_counts *counts = *place;
    *place = NULL;
    struct block *block = counts == NULL ? NULL : counts->first;
    while (block != NULL) {
        struct block *next = block->next;
        free(block);
        block = next;
    }
    free(counts);
}

static struct block *make_block(unsigned size)
{
    size_t head = sizeof(struct block) + (size + 63) / 64 * sizeof(uint64_t);
    head = (head + LINE - 1) / LINE * LINE;
    struct block *block = aligned_alloc(LINE, head + size * sizeof(atomic_uint));
    if (block == NULL) {
        return NULL;
    }
    memset(block, 0, head);
    block->counts = (atomic_uint *)(void *)((char *)block + head);
    block->size = size;
    return block;
}

static atomic_uint *take(struct block *block)
{
    unsigned at = block->low;
    while (block->used[at] == UINT64_MAX) {
        at++;
    }
    unsigned bit = (unsigned)__builtin_ctzll(~block->used[at]);
    INVARIANT(at * 64 + bit < block->size);
    block->used[at] |= UINT64_C(1) << bit;
    block->used_count++;
    block->low = at;
    atomic_uint *count = &block->counts[at * 64 + bit];
    atomic_init(count, 0);
    return count;
}

atomic_uint *pool_counts_get(struct pool_counts *counts)
{
    struct block **place = &counts->first;
    unsigned total = 0;
    for (; *place != NULL; place = &(*place)->next) {
        if ((*place)->used_count < (*place)->size) {
            return take(*place);
        }
        total += (*place)->size;
    }
    if (total >= SIZE_TOP) {
        return NULL;
    }
    *place = make_block(total == 0 ? FIRST_SIZE : total);
    return *place == NULL ? NULL : take(*place);
}

void pool_counts_put(struct pool_counts *counts, atomic_uint *count)
{
    for (struct block *block = counts->first; block != NULL; block = block->next) {
        if (count >= block->counts && count < block->counts + block->size) {
            unsigned at = (unsigned)(count - block->counts);
            INVARIANT((block->used[at / 64] >> at % 64 & 1) == 1);
            block->used[at / 64] &= ~(UINT64_C(1) << at % 64);
            block->used_count--;
            block->low = at / 64 < block->low ? at / 64 : block->low;
            return;
        }
    }
    INVARIANT(count == NULL);
}
