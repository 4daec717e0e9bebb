// SPDX-License-Identifier: MIT
// Exact counts and times. Each worker adds to cells of its own with plain relaxed stores; readers sum.
#pragma once
#include "base/err.h"
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { STATS_WORKER_MAX = 256 };

// One worker's numbers of one slot (route, pool, tenant).
struct stat_cell {
    _Atomic uint64_t count;
    _Atomic uint64_t ns;
    _Atomic uint64_t errors; // answers 500 to 599
    _Atomic uint64_t bytes_in;
    _Atomic uint64_t bytes_out;
    // The worker's own, for retry budgets (proxy/retry.c); nobody else reads them.
    uint64_t retry_credit;
    uint64_t retry_mark;
    uint64_t pad; // a cache line of its own
};

// What a slot belongs to: the list it is in once it has counted something.
enum stat_kind { STAT_ROUTE, STAT_POOL, STAT_TENANT, STAT_KIND_COUNT };

// In each slot; the cells of all workers are made at the first request (the only allocation). All zero
// is a slot that is in no list.
struct stat_slot {
    _Atomic(struct stat_cell *) cells; // stats_worker_count() of them, or the kind's mark, or NULL
};

struct stat_sum {
    uint64_t count, ns, errors, bytes_in, bytes_out;
};

// Before threads start. INVARIANT: 1 to STATS_WORKER_MAX.
void stats_set_worker_count(unsigned count);
unsigned stats_worker_count(void);
// Control, before the slot is published.
void stat_slot_init(struct stat_slot *slot, enum stat_kind kind);
// Any worker, its own index. Out of memory: the number is dropped and counted.
void stat_slot_add(struct stat_slot *slot, unsigned worker, uint64_t ns, unsigned status,
                   uint64_t bytes_in, uint64_t bytes_out);
// Worker: its own cell, made if there is none. NULL: out of memory.
struct stat_cell *stat_slot_cell(struct stat_slot *slot, unsigned worker);
// Any thread, while the slot lives.
void stat_slot_sum(const struct stat_slot *slot, struct stat_sum *sum);
// Control (the thread that calls stats_visit). No worker adds any more.
void stat_slot_fini(struct stat_slot *slot);

// Calls visit for slots of a kind that have counted anything, in the order of their first request:
// starts after position `after` (0: at the beginning), at most `limit` visits. Returns the position to
// go on from, or 0 at the end. Slots may come and go between calls. Control.
uint64_t stats_visit(enum stat_kind kind, uint64_t after, unsigned limit,
                     void (*visit)(void *context, struct stat_slot *slot), void *context);

// What the whole node counts. X(name, help): one row makes the cell, the JSON name and the metric
// pointsman_<name>.
#define COUNTER_TABLE(X)                                                                          \
    X(requests_total, "Requests answered")                                                        \
    X(connections_accepted_total, "Client connections accepted")                                  \
    X(connections_refused_total, "Client connections closed at limits.connections")               \
    X(connections_timed_out_total, "Client connections closed by a timeout")                      \
    X(requests_refused_total, "Requests refused as malformed or over a limit")                    \
    X(client_gone_total, "Requests whose client left before the answer")                          \
    X(no_route_total, "Requests that no route matched")                                           \
    X(no_target_total, "Requests without a live target")                                          \
    X(host_lookups_total, "Requests that waited for a look-up of their host")                     \
    X(host_lookups_refused_total, "Requests whose host was not looked up: too many look-ups")     \
    X(host_lookup_timeouts_total, "Requests whose host was not found in ceryx.miss_timeout")      \
    X(upstream_connects_total, "Connections opened to targets")                                   \
    X(upstream_reuses_total, "Requests sent on a connection that was kept")                       \
    X(upstream_connect_errors_total, "Connections to targets that failed")                        \
    X(upstream_errors_total, "Exchanges with targets that failed")                                \
    X(upstream_retries_total, "Requests sent again")                                              \
    X(retry_budget_total, "Requests not sent again: the pool's retry_budget was used up")         \
    X(upstream_second_address_total,                                                              \
      "Connections tried to another address of a name while the first one did not answer")        \
    X(queued_total, "Requests that waited for a target at its limit")                             \
    X(queue_full_total, "Requests answered with 503: the pool's queue was full")                  \
    X(queue_timeouts_total, "Requests answered with 503: no target in limits.queue_timeout")      \
    X(sticky_moved_total, "Requests whose sticky target could not be used")                       \
    X(tunnels_total, "Tunnels opened")                                                            \
    X(tunnels_cut_total, "Tunnels and requests ended by DELETE with drain")                       \
    X(responses_truncated_total, "Responses that ended before they were complete")                \
    X(arena_overflows_total, "Requests that needed more memory than allowed")                     \
    X(no_memory_total, "Requests ended since memory or limits.buffers was used up")               \
    X(tls_handshakes_total, "TLS handshakes completed with clients")                              \
    X(tls_resumed_total, "TLS handshakes that resumed a session")                                 \
    X(tls_failed_total, "TLS handshakes with clients that failed")                                \
    X(tls_certificate_waits_total, "Handshakes that waited for a certificate")                    \
    X(tls_certificate_refused_total,                                                              \
      "Handshakes refused at limits.certificate_waits, or whose certificate could not be loaded") \
    X(misdirected_total, "Requests answered with 421")                                            \
    X(proxy_header_errors_total, "Connections closed for their PROXY header")                     \
    X(h2_connections_total, "HTTP/2 connections of clients")                                      \
    X(h2_rapid_reset_total, "HTTP/2 connections ended: too many streams reset")                   \
    X(h2_continuation_total, "HTTP/2 connections ended: too many CONTINUATION frames")            \
    X(h2_control_flood_total,                                                                     \
      "HTTP/2 connections ended: too many SETTINGS, PING and other control frames")               \
    X(h2_empty_frames_total, "HTTP/2 connections ended: too many empty frames")                   \
    X(h2_header_bomb_total,                                                                       \
      "HTTP/2 connections ended: header sections over the bound again and again")                 \
    X(h2_stalled_total, "HTTP/2 streams ended: the client gave no window in time")                \
    X(h2_protocol_errors_total, "HTTP/2 connections ended: protocol error")                       \
    X(passthrough_total, "Connections passed through without terminating TLS")                    \
    X(bytes_in_total, "Bytes received from clients")                                              \
    X(bytes_out_total, "Bytes sent to clients")                                                   \
    X(access_log_dropped_total, "Access log records dropped because the ring was full")           \
    X(stats_dropped_total, "Numbers dropped because memory was out")

enum counter {
#define X(name, help) COUNTER_##name,
    COUNTER_TABLE(X)
#undef X
        COUNTER_COUNT
};

// One worker's numbers; aligned to a cache line, one array in all.
struct worker_stats {
    _Atomic uint64_t counters[COUNTER_COUNT];
    _Atomic uint64_t connections; // open now
    _Atomic uint64_t tunnels;     // open now
    struct {
        _Atomic uint64_t count;
        _Atomic uint64_t ns;
    } codes[600]; // by status, 100 to 599; 499: the client left
} __attribute__((aligned(64)));

// Worker: its own object. A relaxed load and store: only this thread writes.
static inline void stat_add(_Atomic uint64_t *cell, uint64_t value)
{
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + value,
                          memory_order_relaxed);
}
#define stat_count(stats, name) stat_add(&(stats)->counters[COUNTER_##name], 1)

// Worker `index`'s; made for all at stats_set_worker_count(). Any thread may read.
struct worker_stats *stats_of_worker(unsigned index);
uint64_t stats_counter_sum(enum counter counter);
const char *stats_counter_name(enum counter counter);
const char *stats_counter_help(enum counter counter);
