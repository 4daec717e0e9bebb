// SPDX-License-Identifier: MIT
// The live route table: host and path to a route, one look-up for 1 and for 1,000,000 hosts.
//
//   host (lock-free hash) ─► exact ─► "*.parent" … ─► "*"      then the longest path prefix in that host
//
// A slot is made by its first declaration and keeps the counters; its version is swapped under RCU.
// Version and its one literal target are one block: a million routes are usual. Other lists of a route have
// a pool of their own (pool_slot.is_hidden), which is named as any pool: action is ROUTE_POOL.
#pragma once
#include "upstream/pool.h"

struct x509_store_st;

struct route_slot {
    union {
        struct route_version *current;    // rcu; NULL: deleted
        struct route_slot *next_unlinked; // when the table is emptied at its end
    };
    struct stat_slot stats;
    unsigned refs; // 1 of the table and 1 of each version; of a host: 1 of each path too. Control
    uint16_t text_len;
    bool is_path;   // false: the slot of "/", inside its host
    bool is_linked; // in the table; control
    char text[];    // the path, or (is_path false) the host. Use route_slot_host() and _path()
};

struct route_split {
    struct pool_slot *pool;
    unsigned weight;
};

struct route_split_set {
    unsigned count;
    unsigned total; // sum of weights
    struct route_split items[];
};

// Immutable. What is NULL or 0 costs nothing on a request's way.
struct route_version {
    struct version version;
    struct route_slot *slot;
    struct tenant_slot *tenant;     // or NULL
    const struct route_decl *rules; // NULL: all else is default (see route_decl)
    uint8_t action;                 // enum route_action
    bool access_log;
    bool has_access_rules; // allow or deny
    bool is_passthrough;
    struct route_client_auth *client_auth; // of the host (path "/"), or NULL
    union {                                // use route_pool()
        struct pool_slot *pool;
        struct route_split_set *split;
        struct pool_version targets;
    } to;
};

// Who may connect to a host: shared by versions with equal declarations.
struct route_client_auth {
    struct x509_store_st *store; // owned
    uint64_t id[2];              // hash of CA and mode, never 0: what tickets and 421 compare
    bool is_required;
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
// The pool of a route now: the declared one, one of a split by weight (`random` is any changing
// number), or the inline targets. *named is the pool's slot (name, counters, cursor), NULL for inline
// targets. NULL: not declared, or the action has no pool. In an RCU section, the route's version found
// in it or pinned; to keep the result pin its `version`.
const struct pool_version *route_pool(const struct route_version *route, uint64_t random,
                                      struct pool_slot **named);
// Views that live as long as the slot.
struct str route_slot_host(const struct route_slot *slot);
struct str route_slot_path(const struct route_slot *slot); // "/" or "/a/b"
// "shop.example.com/api" or "shop.example.com", for logs. Returns the length written (terminated).
size_t route_slot_text(const struct route_slot *slot, char *to, size_t size);
