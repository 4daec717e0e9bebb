// SPDX-License-Identifier: MIT
// Pools and their targets as workers see them.
//
//   pool_slot ──rcu──► pool_version ──► own: settings, view ──rcu──► members that may be picked
//   route_version ── contains ─┘ (one literal target: own is NULL)      live as long as requests use them
//
// Members are kept across versions: a target that stays keeps its count, its health and its connections
// (target.h). Exactness: one atomic count per member for all workers.
#pragma once
#include "base/list.h"
#include "base/str.h"
#include "loop/loop.h"
#include "loop/version.h"
#include "model/declaration.h"
#include "observe/stats.h"

// One target of one pool. Made and freed by the control thread (pool_member.h); freed when it is in no
// version, its count is 0 and a grace period has passed. A million of them are usual: 24 bytes, and the
// longer kinds of address follow (member_in6, member_named).
struct pool_member {
    atomic_uint inflight; // of a bare one, else pool_target.count: use pool_member_requests()
    atomic_uint cut;      // 1: requests and tunnels to it are to be ended (DELETE ?drain=)
    unsigned refs;        // versions that hold it; control
    uint16_t port;        // network order, of an IPv4 or IPv6 address
    uint8_t family;       // AF_INET, AF_INET6, AF_UNIX; AF_UNSPEC: a name
    uint8_t scheme;       // enum target_scheme
    uint8_t leaving;      // waits for its last request (publish/reap.c); control
    atomic_uchar state;   // of the newest version (enum target_state), for status
    bool is_listed : 1;   // among its pool's members; control
    bool is_bare : 1;     // no pool_target is in front of it
    uint8_t in4[4];
};

struct pool_entry {
    struct pool_member *member;
    uint16_t weight;
    uint8_t state; // enum target_state
};

struct pool_own;

struct pool_version {
    struct version *version; // what to pin: its own, or that of the route that it is inside
    struct pool_own *own;    // NULL: a route's one literal target, all defaults; it is entries[0]
    uint16_t entry_count;    // 0 or 1
    struct pool_entry entries[];
};

struct pool_settings {
    unsigned keepalive_idle;
    unsigned keepalive_timeout_ms;
    struct timeouts_decl timeouts;
    uint8_t protocol;     // enum pool_protocol
    uint8_t send_proxy;   // enum send_proxy
    uint8_t balance;      // enum balance
    uint8_t retry_budget; // percent; 100: no bound
    uint8_t panic_percent;
    struct hash_decl hash;     // texts of settings are in the version's memory
    struct sticky_decl sticky; // cookie empty: off
    struct passive_decl passive;
    struct health_decl health; // control's
    unsigned eject_max_percent;
    unsigned eject_base_ms;
    unsigned eject_max_ms;
    unsigned requests_per_target; // 0: no bound
    unsigned queue;
    unsigned queue_timeout_ms;
    unsigned slow_start_ms;
    struct str server_name; // empty: the Host that is sent
    struct tls_context
        *tls; // of targets with https://; NULL: none has it. Shared by versions with equal
              // settings, so that connections outlive a change of the pool
    struct tls_context *health_tls; // of health.tls; NULL: not declared
};

struct pool_view;

// What a pool has that a route's one literal target has not.
struct pool_own {
    struct pool_settings settings;
    struct pool_view *view; // rcu: whom workers may pick (pool_view.h)
};

// NULL: all defaults. Valid as long as the version.
static inline const struct pool_settings *pool_settings(const struct pool_version *pool)
{
    return pool->own == NULL ? NULL : &pool->own->settings;
}

struct pool_queue;
struct pool_counts;

struct pool_slot {
    struct pool_version *current; // rcu; NULL: not declared (yet)
    struct stat_slot stats;
    atomic_uint cursor; // round robin
    _Atomic(struct pool_queue *)
        queue;                  // made with the first version that has limits.queue, then kept
    struct pool_counts *counts; // where the members' counts are, packed; control
    struct loop *control;       // where reports of failures go; NULL: nowhere (tests)
    void (*on_report)(struct loop *loop, struct loop_message *report); // pool_target.report
    unsigned refs; // route versions that name it; control
    bool
        is_hidden; // of a route's own list: `name` is the route's, for events; see pool_slot_name()
    struct str name;
};

// For logs and statistics: a route's own list has no name there.
static inline struct str pool_slot_name(const struct pool_slot *slot)
{
    return slot->is_hidden ? STR_NULL : slot->name;
}

enum { POOL_TRIED_MAX = 11 }; // members one request may try: 1 + retries

// What a request brings for the choice of its target. Zero is nothing.
struct pool_choice {
    uint64_t random;                  // any changing number
    uint64_t now_ms;                  // loop time; only BALANCE_RANDOM_TWO looks at it
    uint64_t hash;                    // of what the pool is balanced by (BALANCE_HASH)
    bool has_hash;                    // else such a pool is balanced by requests
    uint64_t sticky;                  // pool_target.id of the cookie; 0: none
    struct pool_member *const *tried; // members not to be picked
    unsigned tried_count;
    bool needs_room; // not a target whose connections are all in use (limit.h)
    const struct pool_member
        *beside; // only another address of this one's name, of the other family
};

enum pool_result {
    POOL_PICKED,
    POOL_NONE, // there is no target that may be used
    POOL_FULL, // there are, but all at limits.requests_per_target
};

// Picks a member and counts one request on it. Sticky first, then the pool's balance: least requests is
// the smallest (requests + 1) / weight, from a random start. Worker, in an RCU section or with the version
// pinned. `slot` is the pool's; NULL: one literal target of a route.
enum pool_result pool_pick(const struct pool_version *pool, struct pool_slot *slot,
                           const struct pool_choice *choice, struct pool_member **member);
// The request on a picked member has ended. Any worker; the member may be used until the end of its
// loop turn. A waiter of the pool's queue gets its turn.
void pool_member_put(struct pool_member *member);
// The same when nothing was done with it: nobody gets a turn, or those that wait would wake each other without
// end.
void pool_member_unpick(struct pool_member *member);
// Requests and tunnels under way, over all workers. Acquire: 0 means that all that was done with the
// member is done. Any thread.
unsigned pool_member_requests(const struct pool_member *member);
// The address to connect to, for good. False: a name's member that was made without one. In an RCU section,
// with the member picked or its version pinned.
bool pool_member_address(const struct pool_member *member, struct sockaddr_storage *address,
                         socklen_t *len);
enum { POOL_MEMBER_TEXT_MAX = 280 };
// Writes "10.0.0.5:8080", "unix:/run/x", "name:80" terminated and cut to fit; returns the length.
size_t pool_member_text(const struct pool_member *member, char *to, size_t size);
// The same as it is declared and shown: with "https://" or "h2c://" in front where the target has it.
size_t pool_member_show(const struct pool_member *member, char *to, size_t size);
