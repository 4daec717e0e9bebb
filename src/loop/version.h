// SPDX-License-Identifier: MIT
// Versions: immutable objects that a slot points to, swapped under RCU. A reader in an RCU section
// uses one freely; to keep it across loop turns a worker pins it.
//
// Pins are counted per worker in a table of its own: the shared count is touched only when a worker's
// count of a version leaves or reaches 0.
#pragma once
#include "base/err.h"
#include "base/list.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct version {
    atomic_uint refs; // 1 of the slot, and 1 for each worker that pins it
    void (*free_it)(struct version *version);
};

void version_init(struct version *version, void (*free_it)(struct version *version));
// Frees at 0. Any thread.
void version_unref(struct version *version);

struct pin;

// One a worker.
struct pin_table {
    struct pin **buckets;
    struct pin *free;
    unsigned bucket_count; // a power of 2
    unsigned count;
};

int pin_table_init(struct pin_table *table, unsigned bucket_count) WARN_UNUSED;
void pin_table_fini(struct pin_table *table);
// Worker; in an RCU section in which the version was read from its slot, or while it holds a pin.
// NULL when memory is out.
struct pin *pin_get(struct pin_table *table, struct version *version);
// Takes *pin; NULL is allowed.
void pin_put(struct pin_table *table, struct pin **pin);
