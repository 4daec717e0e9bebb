// SPDX-License-Identifier: MIT
// Inside the route table. Two lock-free hash tables:
//
//   hosts: "shop.example.com", ".example.com" (of "*.example.com"), "*"     ─► route_host with its "/"
//   paths: (host, "/api")                                                   ─► route_path
//
// A host knows at which depths (segments) it has paths, the table at which depths (labels) it has
// wildcards, so a look-up probes only where something can be.
#pragma once
#include "loop/rcu.h"
#include "loop/grow.h"
#include "route/table.h"

struct route_depths {
    _Atomic uint64_t used; // bit d - 1: there are paths of d segments
    unsigned counts[ROUTE_SEGMENT_MAX];
    unsigned total;
};

struct route_host {
    struct cds_lfht_node node;
    struct route_depths *depths; // rcu, set once; NULL: only "/"
    struct route_slot root;
};

struct route_path {
    struct cds_lfht_node node;
    struct route_host *host;
    struct route_slot slot;
};

enum { LABEL_MAX = 128 }; // labels of a name: fewer than half of 255 bytes

struct route_table {
    struct cds_lfht *hosts;
    struct cds_lfht *paths;
    struct route_host *any; // "*"; rcu
    _Atomic uint64_t
        wildcards[LABEL_MAX / 64]; // bit d - 1: there are "*." names with d labels more
    unsigned wildcard_counts[LABEL_MAX];
    uint64_t route_count;
    _Atomic uint64_t client_auth_count; // live routes with client_auth
    // Control: nodes, and the buckets that were asked for.
    unsigned long host_count, host_buckets;
    unsigned long path_count, path_buckets;
    struct grower *grower;
};

static inline struct route_host *route_host_of(const struct route_slot *root)
{
    return (struct route_host *)(uintptr_t)((const char *)root - offsetof(struct route_host, root));
}

static inline struct route_path *route_path_of(const struct route_slot *slot)
{
    return (struct route_path *)(uintptr_t)((const char *)slot - offsetof(struct route_path, slot));
}

// The name a host is found by: "*.example.com" is ".example.com".
static inline struct str route_host_key(struct str host)
{
    return host.len > 2 && host.p[0] == '*' ? str_from(host, 1) : host;
}

// In an RCU section. `key` as route_host_key() gives it.
struct route_host *route_table_host(const struct route_table *table, struct str key);
struct route_path *route_table_path(const struct route_table *table, const struct route_host *host,
                                    struct str path);
unsigned long route_path_hash(const struct route_host *host, struct str path);
