// SPDX-License-Identifier: MIT
// What is known of targets: active checks, failures of requests, names; and what follows from it.
//
//   prober ── results ──┐
//   workers ── reports ─┼─► state of the member ─► pool_refresh: a new view ─► workers
//   timers ─────────────┘              └─► events, log, numbers
//
// Control thread.
#pragma once
#include "publish/publish_int.h"
#include "upstream/pool_view.h"
#include "upstream/prober.h"

// After each publishing of a version of the pool and each answer for one of its names: members of the live
// version are checked as it says (an unchanged one goes on as it is), the others are not any more. Members
// that are new while others serve begin their slow start.
void health_follow(struct publisher *publisher, struct named_pool *pool);
// The member leaves the live version or is about to be freed: no probe, no timer, no report points to it.
void health_forget(struct publisher *publisher, struct pool_member *member);
// Fills health, is_ejected, warm, and weight and declared where the target has its own word.
void health_rate(const struct publisher *publisher, const struct pool_settings *settings,
                 struct pool_candidate *candidate);
// What came out of a new view: panic begins and ends.
void health_seen(struct publisher *publisher, struct named_pool *pool,
                 const struct pool_view_facts *facts);
// A name of the pool was answered (error NULL), or not.
void health_name(struct publisher *publisher, struct str pool, struct str name, const char *error);
// Of pool_slot.on_report.
void health_on_report(struct loop *loop, struct loop_message *report);
int health_start(struct publisher *publisher) WARN_UNUSED;
void health_stop(struct publisher *publisher);

// pools.c: makes a new view of what is live and known, and publishes it. Out of memory: the old one stays
// and it is tried again soon.
void pool_refresh(struct publisher *publisher, struct named_pool *pool);
