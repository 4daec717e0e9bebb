// SPDX-License-Identifier: MIT
// Changes to the route table. Control thread (or the starting one), registered with RCU.
//
//   make slot (empty: no look-up sees it) ─► publish version ─► … ─► publish NULL ─► unlink ─► unref
#pragma once
#include "loop/rcu.h"
#include "route/route.h"

enum { ROUTE_SEGMENT_MAX = 64 }; // segments of a route's path

// 0, or ERR_MEMORY.
int route_table_new(struct route_table **table) WARN_UNUSED;
// No reader any more, and no slot.
void route_table_free(struct route_table **table);

// Makes room for that many hosts before many come at once. In no RCU section's way: blocks.
void route_table_expect(struct route_table *table, uint64_t hosts);
// The route's slot, made and linked if there was none. 0; ERR_LIMIT: too many segments or too long a
// text; ERR_MEMORY. When it fails *slot may be the host's empty slot (else it is untouched).
int route_table_make(struct route_table *table, struct str host, struct str path,
                     struct route_slot **slot) WARN_UNUSED;
// NULL: none.
struct route_slot *route_table_slot(const struct route_table *table, struct str host,
                                    struct str path);
// Swaps the version (NULL: deleted) and returns the one before. Live when it returns.
struct route_version *route_table_publish(struct route_table *table, struct route_slot *slot,
                                          struct route_version *version);
// Takes a slot without version out of the table, and its host when that is empty then. What is
// unlinked (at most two) goes to unlinked[]: a grace period later the caller gives the table's reference
// back (route_slot_unref). Returns how many.
unsigned route_table_unlink(struct route_table *table, struct route_slot *slot,
                            struct route_slot *unlinked[2]);
// Frees at 0, and the host with its last path.
void route_slot_unref(struct route_slot *slot);

// Is there a route with client_auth? Any thread; one that is being published counts already.
bool route_table_has_client_auth(const struct route_table *table);
// Slots with a version.
uint64_t route_table_count(const struct route_table *table);
// Empties the table at its end, when no worker is left: gives each version to on_version and frees the
// slots that no version holds. Blocks for a grace period.
void route_table_clear(struct route_table *table,
                       void (*on_version)(void *context, struct route_version *version),
                       void *context);
