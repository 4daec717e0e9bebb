// SPDX-License-Identifier: MIT
// Whom workers may pick: made by control from what is declared and what is known, whenever one of both
// changes; swapped under RCU in pool_own.view.
//
//   declared targets ─┐                    ┌ tier 0: own zone
//   answers of DNS   ─┼─► candidates ─► view ┼ tier 1: other zones
//   health           ─┘                    └ tier 2: backups         + all others: sticky, hash
#pragma once
#include "upstream/target.h"

// One member, as it stands. Weight and states are of its declaration.
struct pool_candidate {
    struct pool_member *member;
    uint32_t weight;  // declared, or what the target says itself
    uint16_t warm;    // slow start: thousandths of the weight, 1000 when it is over
    uint8_t declared; // enum target_state (a target's own "drain" is TARGET_DRAIN)
    uint8_t health;   // enum health_state; UP without active checks
    bool is_ejected;
    bool is_backup;
    bool is_far; // the node has a zone, and the target another one
};

// What came out, for events and status.
struct pool_view_facts {
    unsigned usable;   // members that may be picked
    unsigned declared; // members that are declared up with a weight, without backups
    bool is_panic;     // ejections are ignored
};

// How candidates are rated, in this order:
// - declared down, or DOWN by checks: never. Declared drain: for sticky requests alone, with sticky.stays.
// - UNKNOWN ones are used while no other candidate of their kind (backup or not) is UP.
// - ejected ones are not used, unless fewer than panic_percent of those not DOWN would be left (is_panic).
// - far ones form a tier of their own behind the near ones, while at least panic_percent of the near ones
//   are usable; with fewer near and far ones are one tier. Backups come last.
// Declared up with weight 0 is as draining. NULL: out of memory. Control thread.
struct pool_view *pool_view_new(const struct pool_settings *settings,
                                const struct pool_candidate *candidates, unsigned count,
                                struct pool_view_facts *facts) WARN_UNUSED;
// Any thread that no worker reads it from any more (the reclaim thread: a void pointer for rcu_retire).
void pool_view_free(void *view);
