// SPDX-License-Identifier: MIT
// The calls of one target among themselves. Control thread.
#pragma once
#include "admin/admin_int.h"

// State of PUT and DELETE of a target.
struct target_call {
    char *address; // canonical
    size_t index;  // in the list, of the attempt under way
    bool was_new;
    bool is_counted; // in admin->drain_count
    uint64_t drain_ms;
    uint64_t deadline_ms; // loop time; 0: not draining yet
    bool is_late;         // the time was up with requests under way
};

// Index of an address in a list of targets, or SIZE_MAX.
size_t target_find(const json_t *targets, const char *address);
// Reads key and address of the URL once (a call may run several times). False: answered.
bool target_read(struct call *call);
// The list of targets in a pool's value, made when there is none. Borrowed; NULL: out of memory.
json_t *target_list(json_t *pool);
// The stored pool (a new reference) with the target's place in state->index; NULL: answered, also when it
// has no such target.
json_t *target_load(struct call *call, uint64_t *revision);
// The address of a target that is declared as text or as an object. Lives with the value.
struct str target_text(const json_t *target);
// Writes the changed pool back if it still has this revision; answers when it is wrong.
void target_submit(struct call *call, json_t *pool, uint64_t revision,
                   void (*on_done)(struct store_request *request));
