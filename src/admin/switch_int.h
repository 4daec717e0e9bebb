// SPDX-License-Identifier: MIT
// Replacing all targets of a pool at once: for POST …/switch and POST /admin/set_backends. Control thread.
//
//   given list ─► with what is kept of those that stay ─► checked ─► tried (wait_ms) ─► written, if the
//                                                                             targets are still the old ones
#pragma once
#include "admin/admin_int.h"

// One target of the list as the client gave it.
struct switch_target {
    json_t *value; // text, or an object, or what is wrong
    char *pointer; // to it in the body
    char *address; // canonical; NULL: it has none
};

// State of both calls.
struct switch_call {
    struct switch_target *targets; // ADMIN_TARGETS_MAX
    size_t count;
    uint64_t wait_ms;            // for them to be healthy; 0: not at all
    bool keeps_state;            // of targets that stay; else a list says: use these
    bool makes_pool;             // when there is none
    struct publish_trial *trial; // under way
    json_t *before;              // the targets when it began
    bool is_counted;             // in admin->switch_count
    bool is_tried;               // and good
};

// Makes the state of the call, with no target yet. NULL: answered.
struct switch_call *switch_new(struct call *call);
// Adds a target of the body, one of at most ADMIN_TARGETS_MAX. 0, or ERR_MEMORY.
int switch_add(struct switch_call *state, json_t *value, const char *pointer) WARN_UNUSED;
// "30s": 0 and *ms, or a problem at `pointer`.
int switch_read_wait(struct str text, uint64_t *ms, const char *pointer,
                     struct problems *problems) WARN_UNUSED;
// All that follows, to the answer; again when somebody else was faster.
void switch_run(struct call *call);
// Answers with the pool, request->changes[0].
void switch_on_done(struct store_request *request);

// switch_trial.c: tries the targets of `pool`, as it would be, and then runs the call again, or answers with
// what is wrong; `old` are the targets that it has now (a reference is taken).
void switch_try(struct call *call, json_t *pool, json_t *old);

// backends.c: makes the pool with this change (taken), and a route "*" to it if there is none.
void backends_make(struct call *call, struct store_change *pool);
