// SPDX-License-Identifier: MIT
// From records to live tables: the one place that knows the order of a change.
//
//   decode ─► build (all allocations, also of what retiring needs) ─► publish (cannot fail) ─► retire
//
// Control thread, but where it says otherwise.
#pragma once
#include "cert/table.h"
#include "net/tls.h"
#include "route/route.h"
#include "store/store.h"

struct publisher;

// `certs` (may be NULL in tests: certificates are skipped), `tickets` and `seal` outlive it. At its end the
// ring is empty again.
int publisher_new(struct publisher **publisher, struct cert_table *certs,
                  struct tls_ticket_ring *tickets, const struct seal *seal) WARN_UNUSED;
// After all workers have stopped and their mailboxes are empty; before cert_table_free().
void publisher_free(struct publisher **publisher);
// For workers: constant pointer for the life of the publisher.
const struct route_table *publisher_routes(const struct publisher *publisher);

// Loads everything from the store into the tables; before the node is ready (the starting thread,
// registered with RCU). A record that cannot be built is skipped, counted and logged. 0 or a negative err.
int publisher_load(struct publisher *publisher, struct store *store) WARN_UNUSED;
// Starts the loop's timers (freeing of members, DNS answers) on the control loop.
int publisher_start(struct publisher *publisher, struct loop *control) WARN_UNUSED;
void publisher_stop(struct publisher *publisher);

// The store's feed: makes the records live, all of one revision together, and then calls the listeners.
void publisher_apply(struct publisher *publisher, uint64_t revision,
                     const struct store_record *records, unsigned count);
// The same without holding the control thread: a large revision takes several turns of its loop. True:
// it is live, and the listeners know. False: later, then on_live() is called; until then the records
// must live, and neither of these two may be called.
bool publisher_begin(struct publisher *publisher, uint64_t revision,
                     const struct store_record *records, unsigned count);
// Whom to tell. Without, nothing takes several turns.
void publisher_on_live(struct publisher *publisher, void (*on_live)(void *context), void *context);
// At the end of the loop: what takes several turns is done now (and on_live() called), and from now on
// everything is done at once.
void publisher_hurry(struct publisher *publisher);

// Dry run of a decoded declaration: can this node build it? 0, or a negative err with problems. Any thread;
// the publisher may be NULL.
int publisher_check(struct publisher *publisher, const struct declaration *declaration,
                    struct problems *problems) WARN_UNUSED;

// Called after each applied revision; for a large one several times, with some of its records each
// (`is_last`: the last time).
struct publish_listener {
    struct list node;
    void (*on_applied)(struct publish_listener *listener, uint64_t revision,
                       const struct store_record *records, unsigned count, bool is_last);
};
void publisher_listen(struct publisher *publisher, struct publish_listener *listener);

// Something to know about a certificate.
struct publish_certificate_event {
    struct str name;
    const char *state; // "expiring", "expired", "file_changed" (and live), "file_broken" (not used)
    uint64_t not_after; // Unix seconds; 0: not known
    uint64_t days_left; // whole days
    const char *detail; // why it is broken, or ""
};
// Control loop. "expiring" comes once for each certificate and threshold (30, 7, 1 days), "expired" once;
// again when it was replaced, and after a start.
struct publish_certificate_listener {
    struct list node;
    void (*on_event)(struct publish_certificate_listener *listener,
                     const struct publish_certificate_event *event);
};
void publisher_listen_certificates(struct publisher *publisher,
                                   struct publish_certificate_listener *listener);
// Certificates that end within that time (whole days, up to 31), with those that have ended; as of the last
// look, a minute ago at most, shortly after a change.
uint64_t publisher_expiring(const struct publisher *publisher, uint64_t within_sec);
// The one that ends first: its time in Unix seconds and its name in name[size], terminated. 0: there is
// none.
uint64_t publisher_next_expiry(const struct publisher *publisher, char *name, size_t size);

// ---- targets: health and names ----

struct prober;

// Before publisher_load(). What is not given has its default. `prober` outlives the publisher's
// publisher_stop(); NULL (tests): nothing is checked actively, names are asked on the control loop.
struct publish_config {
    struct str zone;             // of this node; empty: none
    const struct config *config; // dns; NULL: defaults
    struct prober *prober;
    struct tls_context
        *origin_tls; // of targets with https:// whose pool has no settings of its own
};
int publisher_configure(struct publisher *publisher,
                        const struct publish_config *config) WARN_UNUSED;

// A target of a named pool, or of a list of several in a route, has changed its state.
struct publish_health_event {
    struct str pool; // "shop-web"; of a route's own list "shop.example.com/api"
    struct str
        target; // as declared; of a name with the address: "app:80 (10.0.0.7)". Empty: the pool
    const char *
        state; // "up", "down" (checks), "ejected", "returned" (passive), "drain", "weight" (its own
               // word), "panic", "calm" (the pool), "resolved", "unresolved" (a name)
    const char *reason;
    uint64_t unix_ms;
};
struct publish_health_listener {
    struct list node;
    void (*on_event)(struct publish_health_listener *listener,
                     const struct publish_health_event *event);
};
void publisher_listen_health(struct publisher *publisher, struct publish_health_listener *listener);

struct publish_health_sum {
    uint64_t checks, check_failures; // made since the start
    uint64_t transitions;            // up to down and back, by checks
    uint64_t ejections;
    uint64_t ejections_refused; // eject.max_percent of the pool were ejected already
    uint64_t targets_down, targets_ejected, pools_in_panic; // now
    uint64_t names, names_unresolved, dns_failures, dns_left_out;
};
void publisher_health(const struct publisher *publisher, struct publish_health_sum *sum);

// One member as it is now; of a name there is one for each of its addresses.
struct publish_target {
    struct str address;  // as declared
    struct str resolved; // of a name: "10.0.0.7"; else empty
    const char
        *health; // "up", "down", "unknown" (not yet checked), "ejected", "none" (not checked)
    const char *reason;     // of the last change; ""
    uint64_t since_unix_ms; // of the last change; 0: none
    unsigned requests;      // under way
    unsigned connections;   // open, where max_connections is declared
    unsigned weight;        // that it has now (slow start, its own word)
    bool is_leaving;        // no longer declared: its last requests are under way
    const struct pool_member *member;
};
// All members of a pool, those that leave too. False: no such pool.
bool publisher_pool_targets(struct publisher *publisher, struct str pool,
                            void (*visit)(void *context, const struct publish_target *target),
                            void *context);
// Pools, declared or only mentioned, in slices: begins at position `after` (0: at the beginning), visits about
// `limit` of them, and returns the position of the next slice, or 0 at the end. They may come and go between
// slices, not in a visit.
uint64_t publisher_each_pool(struct publisher *publisher, uint64_t after, unsigned limit,
                             void (*visit)(void *context, const struct pool_slot *slot),
                             void *context);
// Names of a live pool or route that no answer has come for yet, or whose first one is not live yet.
unsigned publisher_unresolved(struct publisher *publisher, enum noun noun, struct str key);

// Names of targets asked for before what declares them is live, so that it begins with their addresses and
// what it replaces serves until then.
struct publish_names;
// Adds those of a pool's or route's record to *names (NULL at first; it may stay NULL). They are asked for now,
// unless something live has them. 0, or a negative err.
int publisher_ask_names(struct publisher *publisher, const struct store_record *record,
                        struct publish_names **names) WARN_UNUSED;
// Is it known of each what it stands for, or that this cannot be found out now? NULL: true.
bool publish_names_are_answered(const struct publish_names *names);
// They are let go, but for those that something live has. Before publisher_free(). NULL is allowed.
void publish_names_free(struct publish_names **names);

// New targets tried before they are live: each with the pool's health check, without one by a TCP connect.
// Those of `decl` that the live pool has and that are up there count as good. on_end comes once, on the
// control loop, when all are good, or at the end of wait_ms; *failed (JSON array text) names those that are
// not, with reasons. publish_trial_end() before that: it comes no more. A name is good when it has its addresses
// for what is declared inside on_end, too.
struct publish_trial;
struct publish_trial_result {
    bool is_good;
    struct str failed; // [{"address": …, "detail": …}]; until the callback returns
};
int publisher_try_targets(struct publisher *publisher, struct str pool,
                          const struct pool_decl *decl, uint64_t wait_ms,
                          void (*on_end)(void *context, const struct publish_trial_result *result),
                          void *context, struct publish_trial **trial) WARN_UNUSED;
void publish_trial_end(struct publish_trial **trial);

// What is live.
uint64_t publisher_revision(const struct publisher *publisher);
uint64_t publisher_route_count(const struct publisher *publisher);
uint64_t publisher_pool_count(const struct publisher *publisher);
uint64_t publisher_certificate_count(const struct publisher *publisher);
uint64_t publisher_skipped_count(const struct publisher *publisher);
// Retired and still pinned versions; age of the oldest in ms.
void publisher_retired(const struct publisher *publisher, uint64_t *count, uint64_t *oldest_ms);

// Numbers for /v1/stats, /metrics and pool status: calls visit for each slot that has counted anything.
// kind: "routes", "pools", "tenants". In slices: starts after `after` (an opaque position, 0 first),
// at most `limit` visits, returns the next position or 0 at the end.
uint64_t publisher_stats(struct publisher *publisher, const char *kind, uint64_t after,
                         unsigned limit,
                         void (*visit)(void *context, struct str name, const struct stat_sum *sum),
                         void *context);
// Marks a member whose requests and tunnels are to be cut (it has left the pool's version); workers
// look at pool_member.cut when told to (proxy_cut). Returns the requests still under way.
unsigned publisher_cut_member(struct publisher *publisher, struct str pool, struct str address);
