// SPDX-License-Identifier: MIT
// What is known of targets: active checks, failures of requests, names; and what follows from it.
//
//   prober ── results ──┐
//   workers ── reports ─┼─► state of the member ─► pool_refresh: a new view ─► workers
//   timers ─────────────┘              └─► events, log, numbers
//
// Refreshes are collected: one for each pool and turn of the loop, however many of its targets changed.
// Control thread.
#pragma once
#include "publish/publish_int.h"
#include "upstream/pool_view.h"
#include "upstream/prober.h"

// In publisher_new() and, with everything stopped, at the end of publisher_free().
void health_init(struct publisher *publisher);
void health_fini(struct publisher *publisher);
// With publisher->control set; what was marked before is refreshed in the first turn.
void health_start(struct publisher *publisher);
// All probes, timers and trials end (a trial's on_end does not come any more).
void health_stop(struct publisher *publisher);

// Milliseconds, monotonic: the control loop's clock, or while there is none the machine's.
uint64_t health_now_ms(const struct publisher *publisher);

// After each publishing of a version of the pool (also when its last one was deleted) and each answer for
// one of its names: members of the live version are checked as it says (an unchanged one goes on as it is),
// the others are not any more. Members that are new while others serve begin their slow start.
void health_follow(struct publisher *publisher, struct named_pool *pool);
// The member leaves the live version or is about to be freed: no probe, no timer points to it. A report that
// is on its way stays on its way (pool_target.is_reported). Again does nothing; bare members are ignored.
void health_forget(struct publisher *publisher, struct pool_member *member);
// The pool is about to be freed. Again does nothing.
void health_forget_pool(struct publisher *publisher, struct named_pool *pool);
// Fills health, is_ejected, warm, and weight and declared where the target has its own word. What the
// candidate has of its declaration (member, weight, declared, is_backup, is_far) is there.
void health_rate(const struct publisher *publisher, const struct pool_settings *settings,
                 struct pool_candidate *candidate);
// What came out of a new view that is live now: panic begins and ends.
void health_seen(struct publisher *publisher, struct named_pool *pool,
                 const struct pool_view_facts *facts);
// A name of the pool has its first answer, or one again after failures (error NULL); or the first failure
// after an answer or after the start. Not called for each repetition.
void health_name(struct publisher *publisher, struct str pool, struct str name, const char *error);
// Of pool_slot.on_report. pool_target.pool must be set.
void health_on_report(struct loop *loop, struct loop_message *report);
// The pool gets a new view at the end of this turn (before publisher_start(): in the first turn after it).
// For a pool that has been followed, with or without targets; else nothing happens.
void health_mark(struct publisher *publisher, struct named_pool *pool);
// For status: "up", "down", "unknown", "ejected", "none" (not checked). Lives forever.
const char *health_text(const struct pool_target *target);

// ---- of pools.c ----

// Makes a new view of what is live and known, and publishes it. Out of memory: the old one stays and it is
// tried again soon (health_mark in a timer of pools.c).
void pool_refresh(struct publisher *publisher, struct named_pool *pool);
// Each member that may be picked by the live version, of names one for each address, with the state that
// is declared. Nothing without a live version. `visit` may call health_… of the member.
void pool_visit_live(struct named_pool *pool,
                     void (*visit)(void *context, struct pool_member *member,
                                   enum target_state declared),
                     void *context);
