// SPDX-License-Identifier: MIT
// A ring of records of different sizes. Each lies in one piece: one that would cross the end leaves a
// gap entry there and begins at the start. Sizes are multiples of 8, so a gap always fits.
#include "observe/access_log_int.h"
#include "base/invariant.h"
#include <sys/mman.h>

int access_ring_init(struct access_ring *ring, size_t size)
{
    INVARIANT((size & (size - 1)) == 0 && size >= 2 * (size_t)ACCESS_ENTRY_MAX);
    // Pages are taken when first written: a worker without traffic costs nothing.
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        return ERR_MEMORY;
    }
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    ring->seen_tail = 0;
    ring->data = data;
    ring->size = size;
    return 0;
}

void access_ring_fini(struct access_ring *ring)
{
    if (ring->data != NULL) {
        munmap(ring->data, ring->size);
        ring->data = NULL;
    }
}

static struct access_entry *entry_at(const struct access_ring *ring, uint64_t position)
{
    return (struct access_entry *)(void *)(ring->data + (position & (ring->size - 1)));
}

static inline uint16_t cut_len(struct str text)
{
    return (uint16_t)(text.len < ACCESS_LOG_TEXT_MAX ? text.len : ACCESS_LOG_TEXT_MAX);
}

// Most texts are short: two moves that may overlap are cheaper than a call.
static inline char *put_text(char *to, struct str text, uint16_t len)
{
    if (len >= 8 && len <= 16) {
        uint64_t first;
        uint64_t last;
        memcpy(&first, text.p, 8);
        memcpy(&last, text.p + len - 8, 8);
        memcpy(to, &first, 8);
        memcpy(to + len - 8, &last, 8);
    } else if (len > 0) {
        memcpy(to, text.p, len);
    }
    return to + len;
}

static void fill_entry(struct access_entry *entry, const struct access_record *record,
                       const uint16_t *lens, uint32_t size)
{
    entry->size = size;
    entry->is_gap = 0;
    entry->real_ns = record->real_ns;
    entry->duration_ns = record->duration_ns;
    entry->bytes_in = record->bytes_in;
    entry->bytes_out = record->bytes_out;
    entry->queue_ns = record->queue_ns;
    entry->connect_ns = record->connect_ns;
    entry->origin_ns = record->origin_ns;
    entry->end = record->end;
    entry->tls_version = record->tls_version;
    entry->status = record->status;
    entry->version = record->version;
    entry->retries = record->retries;
    memcpy(entry->lens, lens, sizeof entry->lens);
    char *to = entry->texts;
#define X(name) to = put_text(to, record->name, lens[ACCESS_TEXT_##name]);
    ACCESS_TEXT_TABLE(X)
#undef X
}

enum access_ring_result access_ring_add(struct access_ring *ring,
                                        const struct access_record *record)
{
    uint16_t lens[ACCESS_TEXT_COUNT];
    size_t size = offsetof(struct access_entry, texts);
#define X(name) size += lens[ACCESS_TEXT_##name] = cut_len(record->name);
    ACCESS_TEXT_TABLE(X)
#undef X
    size = (size + 7) & ~(size_t)7;

    uint64_t old = atomic_load_explicit(&ring->head, memory_order_relaxed); // only we write it
    size_t place = old & (ring->size - 1);
    size_t gap = ring->size - place < size ? ring->size - place : 0;
    uint64_t new = old + gap + size;
    bool is_half = new - ring->seen_tail >= ring->size / 2;
    if (is_half) {
        // Pairs with access_ring_release(). Only from here is the consumer's cache line touched.
        ring->seen_tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (new - ring->seen_tail > ring->size) {
            return ACCESS_RING_FULL;
        }
        // Against one and the same tail, so that no crossing goes unseen.
        is_half = new - ring->seen_tail >= ring->size / 2 && old - ring->seen_tail < ring->size / 2;
    }
    if (gap > 0) {
        struct access_entry *entry = entry_at(ring, old);
        entry->size = (uint32_t)gap;
        entry->is_gap = 1;
    }
    fill_entry(entry_at(ring, old + gap), record, lens, (uint32_t)size);
    atomic_store_explicit(&ring->head, new, memory_order_release); // to access_ring_head()
    return is_half ? ACCESS_RING_ADDED_WAKE : ACCESS_RING_ADDED;
}

const struct access_entry *access_ring_next(const struct access_ring *ring, uint64_t *position,
                                            uint64_t head)
{
    if (*position == head) {
        return NULL;
    }
    const struct access_entry *entry = entry_at(ring, *position);
    if (entry->is_gap) {
        // A gap and the entry behind it are published together.
        *position += entry->size;
        entry = entry_at(ring, *position);
    }
    *position += entry->size;
    return entry;
}
