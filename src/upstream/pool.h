// SPDX-License-Identifier: MIT
// Pools and their targets as workers see them.
//
//   pool_slot ──rcu──► pool_version ──► members[i] ──► pool_member (count, address)
//   (named, or inside a route: inline targets)          lives as long as requests use it
//
// A slot keeps its members across versions: a target that stays keeps its count. Exactness: one
// atomic count per member for all workers.
#pragma once
#include "base/str.h"
#include "loop/version.h"
#include "model/declaration.h"
#include "observe/stats.h"

// One target of one pool. Made and freed by the control thread; freed when it is in no version, its
// count is 0 and a grace period has passed.
struct pool_member {
    atomic_uint inflight; // requests and tunnels under way, over all workers
    atomic_uint cut;      // 1: requests and tunnels to it are to be ended (DELETE ?drain=)
    uint16_t port;        // network order, of an IPv4 or IPv6 address
    uint8_t family;       // AF_INET, AF_INET6; AF_UNIX and names: see `named`
    uint8_t state;        // of the newest version (enum target_state), for status
    uint8_t address[16];
    struct member_named *named; // unix path or DNS name with its current answer, else NULL
};

struct pool_entry {
    struct pool_member *member;
    uint16_t weight;
    uint8_t state; // enum target_state
};

struct pool_version {
    struct version version;
    unsigned entry_count;
    uint8_t balance; // enum balance
    const struct pool_settings *settings; // NULL: all defaults
    struct pool_entry entries[];
};

struct pool_settings {
    unsigned keepalive_idle;
    unsigned keepalive_timeout_ms;
    struct timeouts_decl timeouts;
};

struct pool_slot {
    struct pool_version *current; // rcu; NULL: not declared (yet)
    struct stat_slot stats;
    atomic_uint cursor; // round robin
    unsigned refs;      // routes that name it; control thread
    struct str name;    // empty: inside a route
};

enum { POOL_TRIED_MAX = 11 }; // members one request may try: 1 + retries

// Picks a member among those up with weight > 0 and not in tried[], by the version's balance, and
// counts one request on it. NULL: none. Least requests: the smallest (inflight + 1) / weight, from a
// random start. Worker, in an RCU section or with the version pinned. `random` is any changing number.
struct pool_member *pool_pick(const struct pool_version *pool, atomic_uint *cursor, uint64_t random,
                              struct pool_member *const *tried, unsigned tried_count);
// The request on a picked member has ended. Any worker.
void pool_member_put(struct pool_member *member);
// The address to connect to now. False: a name without an answer yet.
bool pool_member_address(const struct pool_member *member, struct sockaddr_storage *address,
                         socklen_t *len);
// Writes "10.0.0.5:8080", "unix:/run/x", "name:80" terminated; returns the length.
size_t pool_member_text(const struct pool_member *member, char *to, size_t size);
