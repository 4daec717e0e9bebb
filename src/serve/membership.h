// SPDX-License-Identifier: MIT
// Declarations that nodes share through Redis: its address, the replica, the fleet. Control thread (or the
// starting one).
#pragma once
#include "ceryx/watch.h"
#include "fleet/fleet.h"
#include "model/config.h"

struct membership;

// Reads where Redis is and opens the replica, store.local. *membership stays NULL when the store is no Redis (nothing
// is opened then). 0, or a negative err with problems: also a local file that was a store of its own.
int membership_open(struct membership **membership, const struct config *config,
                    struct store **store, struct problems *problems) WARN_UNUSED;

// What the fleet is made of, and whom it calls.
struct membership_hooks {
    const char *node_name; // outlives the fleet, as the rest
    const struct seal *seal;
    void (*load)(void *context, struct fleet_load *load);
    void (*on_state)(void *context, bool is_writable, const char *detail);
    void (*on_event)(void *context, const struct fleet_event *event);
    void *context;
};
// Before store_start(). NULL is allowed: 0.
int membership_join(struct membership *membership, const struct membership_hooks *hooks,
                    struct problems *problems) WARN_UNUSED;
// NULL: there is none.
struct fleet *membership_fleet(const struct membership *membership);
// Who watches Ceryx' keys; NULL: nobody.
struct ceryx_watch *membership_ceryx(const struct membership *membership);
// For struct proxy_shared; NULL: no host is looked up.
const struct misses_source *membership_misses(const struct membership *membership);
// Ends the fleet's thread and all that is on it, once no worker runs any more. Before store_stop(). NULL is
// allowed.
void membership_leave(struct membership *membership);
// After store_stop() and its last answers; before store_close(). The fleet is stopped by then.
void membership_free(struct membership **membership);
