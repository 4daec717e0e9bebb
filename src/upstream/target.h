// SPDX-License-Identifier: MIT
// What is known of a target while it runs: in front of the member of each pool (and of each list of
// several targets or of names). A route with one literal address has a bare member.
//
//   workers: count ─ fails ─ latency          control: health ─► view (pool_view.h) ─► workers
#pragma once
#include "upstream/pool.h"

enum health_state { HEALTH_UNKNOWN, HEALTH_UP, HEALTH_DOWN };

enum { HEALTH_REASON_MAX = 96 };

struct probe;

// Control thread; publish/health.c. All zero (says_weight -1) until the target is in a live version.
struct target_health {
    struct probe *probe; // NULL: not checked actively
    uint8_t state;       // enum health_state, by active checks; UP without, UNKNOWN until the first
    uint8_t declared;    // enum target_state of the live version
    bool is_followed;    // of the live version, as far as health knows
    bool is_late;        // others served when it came, or came back: it begins with slow start
    bool is_ejected;     // by failures of requests
    bool says_drain;     // its own word in the answer to a check
    int says_weight;     // the same; -1: nothing
    unsigned mark;       // of the last look at the live version that found it
    unsigned streak;     // checks in a row against `state`
    unsigned good;       // good ones in a row, begun since the ejection
    unsigned ejections;  // in a row: the time doubles with each
    uint64_t digest;     // of what `probe` was made with
    uint64_t ejected_ms; // when the last ejection began; control loop time
    uint64_t returned_ms;           // when it ended
    uint64_t slow_since_ms;         // slow start: began then; 0: not in it
    uint64_t changed_unix_ms;       // when `state` or is_ejected last changed; 0: never
    struct list of_pool;            // pool_health.targets
    struct list node;               // of the publisher: ejected, or in slow start
    struct loop_timer timer;        // the end of the ejection
    char reason[HEALTH_REASON_MAX]; // of the last change; while DOWN of the last bad check
};

struct pool_target {
    atomic_uint *count;      // requests and tunnels under way over all workers; in slot->counts
    struct pool_slot *slot;  // whose it is; outlives it
    struct named_pool *pool; // the publisher's
    struct upstream_limit *limit; // rcu_load(): of open connections; NULL: no bound
    struct leaving *leaving;      // publish/reap.c: its record of the time when it leaves
    unsigned index;               // in its pool's members; control
    bool is_live;                 // as of the last look (publish/view.c); control
    uint64_t id;                  // stable over restarts and nodes: hash of scheme and address
    // Failures of requests: workers count, control decides.
    _Atomic uint64_t fails_since_ms; // loop time of the first in the window
    atomic_uint fails;
    atomic_bool is_reported; // `report` is on its way
    struct loop_message report;
    // Peak EWMA of answer times, for random_two.
    _Atomic uint64_t latency_ns;
    _Atomic uint64_t latency_at_ms;
    struct target_health health;
    struct pool_member member; // last: the longer kinds of address follow it
};

// NULL: a bare member.
static inline struct pool_target *pool_target_of(struct pool_member *member)
{
    return member->is_bare ? NULL : CONTAINER_OF(member, struct pool_target, member);
}

// A request on the member failed: refused, timed out, reset, TLS, a malformed answer, or a status of
// passive.status. Worker, before pool_member_put(). At passive.max_fails within fail_timeout control is
// told (slot->control, slot->on_report), once until it has looked.
void pool_member_failed(struct pool_member *member, const struct pool_settings *settings,
                        uint64_t now_ms);
// It answered `ns` after the request was sent. Only random_two looks at it: call it for that alone.
void pool_member_answered(struct pool_member *member, uint64_t ns, uint64_t now_ms);
