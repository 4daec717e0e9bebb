// SPDX-License-Identifier: MIT
// The live route table: host and path to a route, one look-up for 1 and for 1,000,000 hosts.
//
//   host (lock-free hash) ─► exact ─► "*.parent" … ─► "*"      then the longest path prefix in that host
//
// A route slot is made by its first declaration and keeps counters and inline members; its version is
// swapped under RCU.
#pragma once
#include "upstream/pool.h"

struct route_slot {
    struct route_version *current; // rcu; NULL: deleted
    struct stat_slot stats;
    struct pool_slot *targets;  // inline targets (ROUTE_TARGETS), made when first declared
    struct route_host *host;
    struct str path; // "/" or "/a/b"
};

struct route_split {
    struct pool_slot *pool;
    unsigned weight;
};

// Immutable. What is NULL or 0 costs nothing on a request's way.
struct route_version {
    struct version version;
    struct route_slot *slot;
    uint8_t action; // enum route_action
    bool access_log;
    bool has_access_rules; // allow or deny
    struct pool_slot *pool; // ROUTE_POOL, ROUTE_TARGETS
    const struct route_split *split; // ROUTE_SPLIT
    unsigned split_count;
    unsigned split_total;            // sum of weights
    struct tenant_slot *tenant;      // or NULL
    const struct route_decl *rules;  // NULL: all else is default (see route_decl)
};

// A tenant's name and numbers; made at the first route that names it, never freed.
struct tenant_slot {
    struct stat_slot stats;
    struct str id;
};

struct route_table;

// Worker or control, registered with RCU. `host` is canonical (uri_parse_host), "" for HTTP/1.0
// without one; `path` normalised. Exact host, else longest wildcard, else "*"; in the best host that has
// any route the longest prefix on segment borders. A host that exists but has no route for this path
// falls through to the next host. NULL: no route. Valid until the RCU section ends; pin it to keep it.
struct route_version *route_find(const struct route_table *table, struct str host, struct str path);
// "shop.example.com/api" or "shop.example.com", for logs. Returns the length written (terminated).
size_t route_slot_text(const struct route_slot *slot, char *to, size_t size);
