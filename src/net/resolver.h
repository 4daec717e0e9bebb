// SPDX-License-Identifier: MIT
// Names to addresses, again and again, by c-ares: hosts file and DNS, all A and AAAA, by their TTL.
//
//     control ── watch ──► (mailbox) ─► resolver's loop: c-ares ─► (mailbox) ─► on_answer on control
//                                        ▲                                         │
//                                        └────── TTL within [min_ttl, max_ttl] ◄───┘
#pragma once
#include "base/err.h"
#include "base/str.h"
#include "loop/loop.h"
#include <sys/socket.h>

enum {
    RESOLVER_NAME_MAX = 255,
    RESOLVER_ADDRESS_MAX = 64, // of one name; more are left out, counted
    RESOLVER_RETRY_MS = 5000,  // after a failure, at most: it begins with min_ttl and doubles
};

struct resolver;
struct resolver_name;

struct resolver_config {
    const char *const
        *servers; // "10.0.0.2", "127.0.0.1:5353", "[::1]:53"; borrowed until resolver_new returns
    unsigned server_count; // 0: those of the system
    unsigned timeout_ms;
    unsigned min_ttl_ms;
    unsigned max_ttl_ms;
};

// An answer: its addresses in a stable order (AF_INET, AF_INET6; port 0), without repeats, at least one;
// or a failure: count 0 and why. The last good answer is the listener's to keep.
struct resolver_result {
    const struct sockaddr_storage *addresses;
    unsigned count;
    const char *error; // "no such name", "timeout", …; NULL: none
    unsigned ttl_ms;
};

// Called on the control loop for each answer and each failure. resolver_unwatch() may be called inside.
typedef void resolver_answer(void *context, const struct resolver_result *result);

// `config` NULL: the system's servers, 2 s, TTL 1 s to 300 s. 0; ERR_MEMORY; ERR_INVALID: a server is no
// address. All functions: control thread (or the starting one before).
int resolver_new(struct resolver **resolver, const struct resolver_config *config) WARN_UNUSED;
// Questions are asked on `loop` (which may be the control loop, and may be running already). Names watched
// before are asked now. 0, or ERR_SYSTEM.
int resolver_start(struct resolver *resolver, struct loop *loop, struct loop *control) WARN_UNUSED;
// No answers after it. The loop no longer runs, or is the caller's own.
void resolver_stop(struct resolver *resolver);
// All names unwatched.
void resolver_free(struct resolver **resolver);

// Asks for `host` at once, then by TTL. 0; ERR_MEMORY; ERR_LIMIT: the name is too long.
int resolver_watch(struct resolver *resolver, struct str host, resolver_answer *on_answer,
                   void *context, struct resolver_name **name) WARN_UNUSED;
void resolver_unwatch(struct resolver_name **name);
// Questions that gave no address. Any thread.
uint64_t resolver_failure_count(const struct resolver *resolver);
// Addresses over RESOLVER_ADDRESS_MAX. Any thread.
uint64_t resolver_left_out_count(const struct resolver *resolver);
