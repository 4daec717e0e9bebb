// SPDX-License-Identifier: MIT
// What publish/health.c keeps: one of the publisher, one of each pool. What it keeps of a target is in
// upstream/target.h. Control thread.
#pragma once
#include "loop/loop.h"

struct prober;
struct publisher;
struct tls_context;

// Of a named pool. All zero at first.
struct pool_health {
    struct publisher *publisher; // NULL: nothing of it was followed yet, the rest is not made
    struct list node;            // of health.pools, while it has targets
    struct list dirty;           // of health.dirty: its view is to be made anew
    struct list targets;         // target_health.of_pool: those of the live version
    unsigned target_count;       // those that are not declared down
    unsigned ejected_count;
    unsigned mark;       // of the last look at the live version
    uint64_t since_ms;   // when it was first followed
    uint64_t digest;     // of what its checks are made with
    uint64_t warm_at_ms; // slow start: when the next step is due
    bool is_panic;
    bool is_incomplete; // memory was out: followed again soon
};

// Of the publisher.
struct health {
    struct prober *prober;          // NULL: nothing is checked actively
    struct tls_context *origin_tls; // of checks over TLS whose pool has no settings of its own
    struct list listeners;
    struct list pools;   // those with targets
    struct list dirty;   // pools
    struct list ejected; // target_health.node
    struct list warming; // target_health.node: in slow start
    struct list trials;
    struct loop_task refresh;
    struct loop_timer warm_timer;
    struct loop_timer retry_timer;
    struct loop_timer log_timer; // at its end: how many lines were left out
    unsigned logged;             // lines since it was set
    uint64_t left_out;
    uint64_t transitions;
    uint64_t ejections;
    uint64_t ejections_refused;
    uint64_t down_count;
    uint64_t ejected_count;
    uint64_t panic_count;
    uint64_t unresolved_count; // names without any answer; answers.c counts them
    unsigned trial_probes;
};
