// SPDX-License-Identifier: MIT
// Many nodes on one Redis. The declarations are there; the node's own store (a replica) follows them, and
// all that this node serves comes from the replica. Redis is never asked on a request's way.
//
//   API ─► store_submit ─► front ─► write: one script ──► Redis: objects, revision, record in the stream
//                                                             │
//   tables ◄─ feed ◄─ replica (SQLite) ◄─ REPLAY ◄─ follow ◄──┘ XREAD       beat: heartbeat, nodes
//
// One thread with a loop of its own and three connections, one for each of write, follow and beat.
#pragma once
#include "cert/seal.h"
#include "net/address.h"
#include "redis/redis.h"
#include "store/store.h"

struct fleet;

enum {
    FLEET_NODE_MAX = 1000,     // nodes that are listed; the ones seen last
    FLEET_TEXT_MAX = 256,      // a node's name, zone, address, version; terminated
    FLEET_LIVE_MS = 5000,      // a node is alive so long after its heartbeat, by Redis' clock
    FLEET_FORGET_MS = 3600000, // a node that was silent for so long is forgotten
    FLEET_BEAT_MS = 500,       // between heartbeats
    FLEET_SILENCE_MS = 1000,   // writes are refused when Redis has not answered for so long
    FLEET_UNKNOWN_MS = 2500,   // a write that was sent is waited for so long
    FLEET_WAIT_REPLICAS_MS = 1000,
    FLEET_WAIT_MAX = 10000,        // calls that wait for the fleet
    FLEET_REVISION_STEP = 1000000, // revisions that are left out when writes were lost
};
#define FLEET_REVISION_MAX ((1ull << 53) - 1) // Redis' scripts count in doubles
// No store comes that far: what somebody invented must not use up the revisions that are left. What a node
// says, or a record that is above its store; then what is taken for the store's own.
#define FLEET_REVISION_CREDIBLE  (FLEET_REVISION_MAX / 2)
#define FLEET_REVISION_STORE_MAX (FLEET_REVISION_MAX - (1ull << 40))

// Something that operators should know. Texts live until the callback returns.
struct fleet_event {
    const char *type; // "store" or "node"
    // "store": "away", "back", "following", "resync" (with counts), "resynced", "epoch", "empty", "skipped",
    //          "outcome", "silent"
    // "node":  "joined", "left", "changed" (its version)
    const char *state;
    const char *detail;        // "" or why
    const char *id;            // of "outcome"; else ""
    const char *outcome;       // of "outcome": "applied", "not_applied", "unknown"; else ""
    const char *node;          // of "node", and who made what was skipped; else ""
    uint64_t revision;         // 0: none
    uint64_t changed, deleted; // of "resynced": records that were other than in Redis
};

// Numbers of this node for its heartbeat.
struct fleet_load {
    uint64_t connections;
    uint64_t requests; // since the start
    unsigned workers;
    bool is_draining;
};

struct fleet_config {
    const struct redis_url *url; // all texts are borrowed and outlive the fleet
    const struct redis_tls *tls;
    const char *prefix;
    const char *node_name;
    const char *node_zone;
    const char *address; // of its admin API
    const char *version;
    bool accept_empty;
    unsigned wait_replicas;
    uint64_t stream_entries; // that the change stream keeps, about
    uint64_t stream_bytes;   // the same in bytes
    struct store *store;     // the replica
    const struct seal *seal;
    // Any thread: fills a zeroed *load.
    void (*load)(void *context, struct fleet_load *load);
    // The control loop. Redis can be written or not (`detail` says why).
    void (*on_state)(void *context, bool is_writable, const char *detail);
    void (*on_event)(void *context, const struct fleet_event *event);
    void *context;
};

enum fleet_follow_state {
    FLEET_AWAY,      // no connection
    FLEET_VERIFYING, // is it the history that we know?
    FLEET_EMPTY,     // Redis has not (or not one key of) what this node has: it waits
    FLEET_RESYNC,    // all of it is read
    FLEET_FOLLOWING,
};
// "away", "verifying", "empty", "resync", "following". Lives for ever.
const char *fleet_follow_name(enum fleet_follow_state state);

struct fleet_status {
    char url[REDIS_SHOWN_MAX];
    char peer[NET_ADDRESS_TEXT_MAX]; // who answers now or did last
    char detail[256];                // why it is away or refuses writes; ""
    char epoch[17];
    enum fleet_follow_state state;
    bool is_writable;
    uint64_t away_ms;        // since when nothing is followed; 0: it is
    uint64_t revision;       // up to which all is live here: a resync gets there at its end
    uint64_t redis_revision; // as Redis said last
    uint64_t pending;        // writes under way
    uint64_t writes, refused,
        unknown;      // answered so far: all, 503 before they were sent, with an unknown outcome
    uint64_t orphans; // of those, still without an outcome
    uint64_t applied; // records of the stream
    uint64_t skipped; // records that cannot be decoded, or built
    uint64_t resyncs, epochs;                // since the start
    uint64_t resync_changed, resync_deleted; // by the last one
    uint64_t resync_ms;                      // how long the last one took
    uint64_t reconnects;
    unsigned nodes, nodes_live;
    uint64_t beat_age_ms; // since the last heartbeat was answered
};

// Before store_start(): becomes the front of its store. 0; ERR_MEMORY, ERR_SYSTEM, ERR_INVALID with a problem.
int fleet_new(struct fleet **fleet, const struct fleet_config *config,
              struct problems *problems) WARN_UNUSED;
// After store_start(). 0, or ERR_SYSTEM, ERR_MEMORY.
int fleet_start(struct fleet *fleet, struct loop *control) WARN_UNUSED;
// Ends the thread: writes under way are answered (503, outcome unknown if they were sent), the node's
// heartbeat is taken away. Later requests are refused. Before store_stop(). NULL is allowed.
void fleet_stop(struct fleet *fleet);
// After store_stop() and the turns that take the store's last answers; before store_close().
void fleet_free(struct fleet **fleet);
// Any thread.
void fleet_get_status(struct fleet *fleet, struct fleet_status *status);
// Is there something to serve: the replica's content, or what the first resync has brought? Any thread.
bool fleet_is_ready(struct fleet *fleet);
// The loop of its thread, for what else talks to the same Redis (src/ceryx). Nothing runs on it before
// fleet_start(), nothing after fleet_stop(). It has its outputs and wire buffers.
struct loop *fleet_loop(struct fleet *fleet);
// The node's id, as in struct store. Any thread.
struct str fleet_node_id(const struct fleet *fleet);

// ---- the nodes ----

struct fleet_node {
    char id[17];
    char name[FLEET_TEXT_MAX];
    char zone[FLEET_TEXT_MAX];
    char address[FLEET_TEXT_MAX];
    char version[FLEET_TEXT_MAX];
    char epoch[17];
    uint64_t revision; // live there
    uint64_t seen_ms;  // Unix time by Redis' clock
    uint64_t age_ms;   // of its last heartbeat, now
    uint64_t connections, requests, requests_per_second;
    unsigned workers;
    bool is_live;
    bool is_draining;
    bool is_self;
};

// As of the last heartbeat, in order of names; with Redis away as they were seen last (the own one is fresh).
// Returns how many there are (malloc'ed in *nodes; free() it); 0 with NULL: out of memory. Any thread.
unsigned fleet_list_nodes(struct fleet *fleet, struct fleet_node **nodes);

// Calls `on_done` once on the control loop: all live nodes serve `revision` (lagging ""), or the time is up, or
// Redis is away (`lagging` names those that are not known to serve it: "edge-2, edge-3"). fleet_wait_end() before
// that: it comes no more. Control thread. 0, ERR_LIMIT, ERR_MEMORY.
struct fleet_wait;
int fleet_wait(struct fleet *fleet, uint64_t revision, uint64_t timeout_ms,
               void (*on_done)(void *context, const char *lagging), void *context,
               struct fleet_wait **wait) WARN_UNUSED;
void fleet_wait_end(struct fleet_wait **wait);
