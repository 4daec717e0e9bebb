// SPDX-License-Identifier: MIT
// The access log's parts: the ring of one worker, and the formats.
#pragma once
#include "observe/access_log.h"
#include <stdatomic.h>

// The texts of a record, in the order in which they lie in the ring.
#define ACCESS_TEXT_TABLE(X) \
    X(client_ip)             \
    X(method)                \
    X(host)                  \
    X(path)                  \
    X(query)                 \
    X(user_agent)            \
    X(referrer)              \
    X(trace_id)              \
    X(request_id)            \
    X(route)                 \
    X(pool)                  \
    X(target)                \
    X(tenant)

enum access_text {
#define X(name) ACCESS_TEXT_##name,
    ACCESS_TEXT_TABLE(X)
#undef X
        ACCESS_TEXT_COUNT
};

// A record as it lies in the ring: this, then the texts without separators, up to a multiple of 8.
struct access_entry {
    uint32_t size;   // of all, in bytes
    uint32_t is_gap; // 1: nothing but the way to the start of the ring; only these 8 bytes exist
    uint64_t real_ns;
    uint64_t duration_ns;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t queue_ns;
    uint64_t connect_ns;
    uint64_t origin_ns;
    const char *end;
    const char *tls_version; // NULL: none
    uint16_t status;
    uint8_t version;
    uint8_t retries;
    uint16_t lens[ACCESS_TEXT_COUNT];
    char texts[];
};

enum {
    ACCESS_ENTRY_MAX = sizeof(struct access_entry) + ACCESS_TEXT_COUNT * ACCESS_LOG_TEXT_MAX + 8,
    // The longest line: each byte as \u00XX, and all keys and numbers.
    ACCESS_LINE_MAX = ACCESS_TEXT_COUNT * ACCESS_LOG_TEXT_MAX * 6 + 2048,
};

// Positions count bytes since the start and never wrap; `& (size - 1)` gives the place. What only one
// side writes has a cache line of its own.
struct access_ring {
    _Alignas(64) _Atomic uint64_t head; // written by the worker (release), read by the log thread
    uint64_t seen_tail;                 // the worker's copy of tail: refreshed when it looks full
    char *data;
    size_t size;                        // a power of 2
    _Alignas(64) _Atomic uint64_t tail; // written by the log thread (release), read by the worker
};

enum access_ring_result { ACCESS_RING_ADDED, ACCESS_RING_ADDED_WAKE, ACCESS_RING_FULL };

// `size`: a power of 2, at least 2 * ACCESS_ENTRY_MAX. 0, or ERR_MEMORY.
int access_ring_init(struct access_ring *ring, size_t size) WARN_UNUSED;
void access_ring_fini(struct access_ring *ring);
// Producer. ADDED_WAKE: this record made it half full, the consumer should be woken.
enum access_ring_result access_ring_add(struct access_ring *ring,
                                        const struct access_record *record);
// Consumer: the next entry, or NULL. It lives until access_ring_release().
const struct access_entry *access_ring_next(const struct access_ring *ring, uint64_t *position,
                                            uint64_t head);

// Consumer: up to where records are now.
static inline uint64_t access_ring_head(const struct access_ring *ring)
{
    // Pairs with the release in access_ring_add(): the entries before head are complete.
    return atomic_load_explicit(&ring->head, memory_order_acquire);
}

// Consumer: everything before `position` may be overwritten.
static inline void access_ring_release(struct access_ring *ring, uint64_t position)
{
    // Pairs with the acquire in access_ring_add(): the entries were read before they are overwritten.
    atomic_store_explicit(&ring->tail, position, memory_order_release);
}

// Texts of time that change once a second.
struct access_clock {
    uint64_t iso_sec;
    uint64_t clf_sec;
    char iso[24]; // "2025-01-31T12:00:00.123Z"
    char clf[28]; // "[31/Jan/2025:12:00:00 +0000]"
};

void access_clock_init(struct access_clock *clock);
// One line with its line feed; `to` has room for ACCESS_LINE_MAX bytes. Returns its end.
char *access_format_json(char *to, const struct access_entry *entry, struct access_clock *clock);
char *access_format_combined(char *to, const struct access_entry *entry,
                             struct access_clock *clock);
