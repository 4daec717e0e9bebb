// SPDX-License-Identifier: MIT
// Names to things, for the control thread alone. Grows a few buckets at a time, so that no single
// change pays for all.
#pragma once
#include "base/err.h"
#include "base/str.h"
#include <stdint.h>

// Embedded in the thing, which owns the name.
struct name_node {
    struct name_node *next;
    uint64_t hash;
    struct str name;
};

struct name_map {
    struct name_node **buckets;
    struct name_node **old; // being emptied, from the front
    size_t bucket_count;    // a power of 2, or 0
    size_t old_count;
    size_t moved;
    size_t count;
};

struct name_node *name_map_find(const struct name_map *map, struct str name);
// 0, or ERR_MEMORY. The name is not in the map yet.
int name_map_add(struct name_map *map, struct name_node *node) WARN_UNUSED;
void name_map_remove(struct name_map *map, struct name_node *node);
// Visits names in slices: begins at position `after` (0: at the beginning), goes on for about `limit` visits,
// and returns the position of the next slice, or 0 at the end. Names may come and go between slices: who is
// there all the time is visited once. `visit` must not change the map.
uint64_t name_map_visit(const struct name_map *map, uint64_t after, unsigned limit,
                        void (*visit)(void *context, struct name_node *node), void *context);
// Takes any node out, or returns NULL when it is empty. To empty it at its end: only this and
// name_map_fini() may follow.
struct name_node *name_map_pop(struct name_map *map);
void name_map_fini(struct name_map *map);
