// SPDX-License-Identifier: MIT
// A worker's proxy without a network: its clients, its targets and its time belong to the test.
//
//   test ─► sim_request() ─► proxy (the real one) ─► upstream_get() of sim_links.c ─► sim_stream
//
// The connections of clients (http/server.h), those to targets (upstream/upstream.h), the route table's
// look-up and the access log are replaced when the test program is linked (sim_links.c); the loop, the
// timers, pools, pins and all of src/proxy are the program's own.
#pragma once
#include "proxy/transaction.h"
#include "sim/sim_stream.h"
#include "sim/sim_tls.h"

enum { SIM_MEMBERS = 4 };

// Rules, the version and, for a route of its own, the pool: one block, freed with the version.
struct sim_route {
    struct sim *sim;
    struct route_decl rules;
    struct pool_slot pool;
    struct version pool_own;
    struct pool_own own;
    struct pool_version *pool_version;
    struct route_version version; // last: it may be followed by targets
};

struct sim_record {
    unsigned status;
    unsigned retries;
    const char *end;
    uint64_t bytes_in;
    uint64_t queue_ns;
    char target[64];
    char host[64];
    const char *tls_version;
};

struct sim {
    struct loop loop; // owner: this
    struct config config;
    struct proxy_shared shared;
    struct proxy *proxy;
    struct worker_stats *stats;
    struct http_server *server;
    struct route_slot *slot;
    struct pool_slot home;         // whose the members are: its version is that of the newest route
    struct pool_settings settings; // of pools that are made from now on
    struct pool_member *members[SIM_MEMBERS];
    unsigned report_count; // failures that control was told of
    struct list live;      // streams
    struct list dead;
    unsigned routes_freed;

    // How targets behave.
    bool refuses_at_once;      // the connection fails before upstream_get returns
    unsigned limited;          // bit of a member: it has no connection to spare
    unsigned limited_count;    // how often one was asked for all the same
    bool reuses;               // kept connections, if the transaction takes one
    bool is_unsent;            // what is lost with a connection was not handed to the kernel
    size_t window;             // of new streams
    struct sim_stream *origin; // the newest
    unsigned client_count;
    unsigned origin_count;
    unsigned member_count; // of the pool
    struct upstream_request last_asked;
    unsigned drop_idle_count;

    struct sim_tls tls;

    // What was told.
    struct sim_record last;
    unsigned record_count;
    unsigned ends[END_COUNT];
    unsigned request_count;
    unsigned raw_count; // connections that were passed through
    bool close_after;   // the last answer ends its connection
    uint64_t seed;      // printed with a failure
    uint64_t event;
    // After each event, with the transactions at rest. May be NULL.
    void (*check)(struct sim *sim);
    // The transaction sent a head, or the end of a message (not counted yet as ended). May be NULL.
    void (*on_user_head)(struct sim_stream *s);
    void (*on_user_end)(struct sim_stream *s);
};

_Noreturn void sim_fail(const struct sim *sim, const char *condition, const char *file, int line);
// Holds in every simulation; a failure prints the seed and the number of the event.
#define SIM_REQUIRE(sim, condition)                          \
    do {                                                     \
        if (!(condition)) {                                  \
            sim_fail((sim), #condition, __FILE__, __LINE__); \
        }                                                    \
    } while (0)

// A proxy with one route for everything, to a pool with `member_count` targets in turn. Timeouts:
// connect 1 s, response 5 s, idle tunnel 20 s.
struct sim *sim_new(unsigned member_count);
// Ends everything; what should have been given back is checked.
void sim_free(struct sim **sim);

// The settings of the pool now. The number of its targets, their balance and order are fixed.
struct pool_settings *sim_settings(struct sim *sim);
// The members are addresses of one name now: IPv4 and IPv6 in turn. Between requests; publishes a pool of
// `member_count` of them.
void sim_make_named(struct sim *sim, unsigned member_count);
// One request a target from now on, and a queue that takes `max`.
void sim_make_queue(struct sim *sim, unsigned max);

// The rules of the route now, to be changed before requests that it is for.
struct route_decl *sim_rules(struct sim *sim);
// Publishes another version of the route, with a pool of its own; the old one is retired.
void sim_swap_route(struct sim *sim, unsigned member_count);
// The route is deleted.
void sim_drop_route(struct sim *sim);

// A request head as text. The client's stream; it may be over already.
struct sim_stream *sim_request(struct sim *sim, const char *text);
// A request and its target connected; the origin is sim->origin.
struct sim_stream *sim_request_connected(struct sim *sim, const char *text);
// A connection whose ClientHello names a host that is passed through (the route's version says so).
struct sim_stream *sim_raw(struct sim *sim, const char *sni, const char *bytes);
// The version of the route now.
struct route_version *sim_route(struct sim *sim);
// Time passes, millisecond by millisecond.
void sim_advance(struct sim *sim, unsigned ms);
// The same in one turn of the loop: it was busy, timers are late.
void sim_leap(struct sim *sim, unsigned ms);
uint64_t sim_counter(const struct sim *sim, enum counter counter);
unsigned sim_inflight(const struct sim *sim);
// Nothing is under way and everything was given back.
void sim_check_idle(struct sim *sim);
// Each transaction and its streams agree.
void sim_check_transactions(struct sim *sim);

// Of sim_stream.c.
void sim_after_event(struct sim *sim);
void sim_on_user_head(struct sim_stream *s);
void sim_on_user_end(struct sim_stream *s);
