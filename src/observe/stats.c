// SPDX-License-Identifier: MIT
// A slot that has counted something owns a block: a header and one cell per worker.
//
//   worker: first request ─► block ─► fresh (lock-free stack) ─► control: known[kind], by serial
//
// So listing costs what was used, not what is declared.
#include "base/array.h"
#include "observe/stats.h"
#include "base/invariant.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_LEN = 64 };

struct stat_block {
    struct stat_block *next; // in fresh or pending
    struct stat_slot *slot;
    uint64_t serial; // control; 0: not known yet
    enum stat_kind kind;
    char pad[LINE_LEN - 28];
    struct stat_cell cells[];
};

_Static_assert(sizeof(struct stat_cell) == LINE_LEN, "one cell, one cache line");
_Static_assert(sizeof(struct stat_block) == LINE_LEN, "cells begin a cache line");

// In order of serial; a freed block leaves a hole, holes are closed when they are the half.
struct known {
    struct known_entry {
        uint64_t serial;
        struct stat_block *block; // NULL: a hole
    } * entries;
    size_t count, size, holes;
};

static unsigned worker_count = 1;
static struct worker_stats *workers;
static _Atomic uint64_t dropped; // by stat_slot_add, which does not know its worker's struct

// A slot that has not counted yet points to its kind's mark.
static struct stat_cell marks[STAT_KIND_COUNT];
static _Atomic(struct stat_block *) fresh;
static struct stat_block *pending; // taken from fresh, oldest first; not known for want of memory
static struct known known_of[STAT_KIND_COUNT];
static uint64_t last_serial;

void stats_set_worker_count(unsigned count)
{
    INVARIANT(count > 0 && count <= STATS_WORKER_MAX);
    size_t one = (sizeof(struct worker_stats) + LINE_LEN - 1) / LINE_LEN * LINE_LEN;
    _Static_assert(sizeof(struct worker_stats) % LINE_LEN == 0, "an array of whole lines");
    free(workers);
    workers = aligned_alloc(LINE_LEN, one * count);
    INVARIANT(workers != NULL); // at the start of the process
    memset(workers, 0, one * count);
    worker_count = count;
}

unsigned stats_worker_count(void)
{
    return worker_count;
}

struct worker_stats *stats_of_worker(unsigned index)
{
    if (workers == NULL) {
        stats_set_worker_count(worker_count);
    }
    INVARIANT(index < worker_count);
    return &workers[index];
}

void stat_slot_init(struct stat_slot *slot, enum stat_kind kind)
{
    atomic_init(&slot->cells, &marks[kind]);
}

static bool is_mark(const struct stat_cell *cells)
{
    return cells >= marks && cells < marks + STAT_KIND_COUNT;
}

static struct stat_block *block_of(struct stat_cell *cells)
{
    return (struct stat_block *)(void *)((char *)cells - sizeof(struct stat_block));
}

// The slot's cells; makes them, unless another worker was faster. NULL: out of memory.
static struct stat_cell *make_cells(struct stat_slot *slot, struct stat_cell *empty)
{
    size_t size = sizeof(struct stat_block) + worker_count * sizeof(struct stat_cell);
    struct stat_block *block = aligned_alloc(LINE_LEN, size);
    if (block == NULL) {
        atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
        return NULL;
    }
    memset(block, 0, size);
    block->slot = slot;
    // Release: the cleared cells; pairs with the acquire loads of the slot's cells.
    if (!atomic_compare_exchange_strong_explicit(&slot->cells, &empty, block->cells,
                                                 memory_order_acq_rel, memory_order_acquire)) {
        free(block);
        return empty;
    }
    if (empty != NULL) {
        block->kind = (enum stat_kind)(empty - marks);
        block->next = atomic_load_explicit(&fresh, memory_order_relaxed);
        // Release: the header; pairs with the exchange in collect().
        while (!atomic_compare_exchange_weak_explicit(&fresh, &block->next, block,
                                                      memory_order_release, memory_order_relaxed)) {
        }
    }
    return block->cells;
}

struct stat_cell *stat_slot_cell(struct stat_slot *slot, unsigned worker)
{
    INVARIANT(worker < worker_count);
    struct stat_cell *cells = atomic_load_explicit(&slot->cells, memory_order_acquire);
    if (cells == NULL || is_mark(cells)) {
        cells = make_cells(slot, cells);
    }
    return cells == NULL ? NULL : &cells[worker];
}

void stat_slot_add(struct stat_slot *slot, unsigned worker, uint64_t ns, unsigned status,
                   uint64_t bytes_in, uint64_t bytes_out)
{
    struct stat_cell *cell = stat_slot_cell(slot, worker);
    if (cell == NULL) {
        return;
    }
    stat_add(&cell->count, 1);
    stat_add(&cell->ns, ns);
    if (status >= 500 && status <= 599) {
        stat_add(&cell->errors, 1);
    }
    stat_add(&cell->bytes_in, bytes_in);
    stat_add(&cell->bytes_out, bytes_out);
}

void stat_slot_sum(const struct stat_slot *slot, struct stat_sum *sum)
{
    *sum = (struct stat_sum){0};
    const struct stat_cell *cells = atomic_load_explicit(&slot->cells, memory_order_acquire);
    for (unsigned i = 0; cells != NULL && !is_mark(cells) && i < worker_count; i++) {
        sum->count += atomic_load_explicit(&cells[i].count, memory_order_relaxed);
        sum->ns += atomic_load_explicit(&cells[i].ns, memory_order_relaxed);
        sum->errors += atomic_load_explicit(&cells[i].errors, memory_order_relaxed);
        sum->bytes_in += atomic_load_explicit(&cells[i].bytes_in, memory_order_relaxed);
        sum->bytes_out += atomic_load_explicit(&cells[i].bytes_out, memory_order_relaxed);
    }
}

static void close_holes(struct known *known)
{
    size_t to = 0;
    for (size_t i = 0; i < known->count; i++) {
        if (known->entries[i].block != NULL) {
            known->entries[to++] = known->entries[i];
        }
    }
    known->count = to;
    known->holes = 0;
}

static bool make_room(struct known *known)
{
    return ARRAY_ROOM(known->entries, known->count, known->size, 64);
}

// Moves what workers have made to the known ones.
static void collect(void)
{
    struct stat_block *taken = atomic_exchange_explicit(&fresh, NULL, memory_order_acquire);
    struct stat_block *oldest_first = NULL;
    while (taken != NULL) {
        struct stat_block *next = taken->next;
        taken->next = oldest_first;
        oldest_first = taken;
        taken = next;
    }
    struct stat_block **end = &pending;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = oldest_first;
    while (pending != NULL && make_room(&known_of[pending->kind])) {
        struct stat_block *block = pending;
        struct known *known = &known_of[block->kind];
        pending = block->next;
        block->serial = ++last_serial;
        known->entries[known->count++] = (struct known_entry){block->serial, block};
    }
}

// The first entry with a serial over `serial`.
static size_t find_after(const struct known *known, uint64_t serial)
{
    size_t low = 0;
    size_t high = known->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (known->entries[middle].serial <= serial) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void forget(struct stat_block *block)
{
    collect();
    if (block->serial == 0) {
        struct stat_block **link = &pending;
        while (*link != NULL && *link != block) {
            link = &(*link)->next;
        }
        if (*link == block) {
            *link = block->next;
        }
        return;
    }
    struct known *known = &known_of[block->kind];
    size_t at = find_after(known, block->serial - 1);
    INVARIANT(at < known->count && known->entries[at].block == block);
    known->entries[at].block = NULL;
    if (++known->holes > known->count / 2) {
        close_holes(known);
    }
    if (known->count == 0) {
        free(known->entries);
        *known = (struct known){0};
    }
}

void stat_slot_fini(struct stat_slot *slot)
{
    struct stat_cell *cells = atomic_load_explicit(&slot->cells, memory_order_acquire);
    if (cells == NULL || is_mark(cells)) {
        return;
    }
    struct stat_block *block = block_of(cells);
    forget(block);
    atomic_store_explicit(&slot->cells, NULL, memory_order_relaxed);
    free(block);
}

uint64_t stats_visit(enum stat_kind kind, uint64_t after, unsigned limit,
                     void (*visit)(void *context, struct stat_slot *slot), void *context)
{
    collect();
    const struct known *known = &known_of[kind];
    size_t at = find_after(known, after);
    uint64_t last = after;
    for (unsigned visited = 0; at < known->count && visited < limit; at++) {
        last = known->entries[at].serial;
        if (known->entries[at].block != NULL) {
            visit(context, known->entries[at].block->slot);
            visited++;
        }
    }
    return at < known->count ? last : 0;
}

uint64_t stats_counter_sum(enum counter counter)
{
    uint64_t sum = counter == COUNTER_stats_dropped_total
                       ? atomic_load_explicit(&dropped, memory_order_relaxed)
                       : 0;
    for (unsigned i = 0; workers != NULL && i < worker_count; i++) {
        sum += atomic_load_explicit(&workers[i].counters[counter], memory_order_relaxed);
    }
    return sum;
}

const char *stats_counter_name(enum counter counter)
{
    static const char *const names[] = {
#define X(name, help) #name,
        COUNTER_TABLE(X)
#undef X
    };
    return names[counter];
}

const char *stats_counter_help(enum counter counter)
{
    static const char *const texts[] = {
#define X(name, help) help,
        COUNTER_TABLE(X)
#undef X
    };
    return texts[counter];
}
