// SPDX-License-Identifier: MIT
// The nodes of the fleet, inside.
//
//     nodes.c       the connection, when it beats and looks, what others ask of it
//     node_list.c   the list: read from a reply, compared with the one before, told
//     wait.c        who waits for all of them
#pragma once
#include "fleet/fleet_int.h"
#include "fleet/script.h"

extern const struct fleet_script fleet_script_beat;

enum {
    NODES_SILENT_MS = 2000, // a connection that does not answer is made anew
    NODES_LEAVE_MS = 200,   // at the end, to take the own entry away
    NODES_TWICE_MS =
        60000, // so long after it was seen last, a second process with this node's id is gone
    NODES_JSON_MAX = 8192, // bytes of an entry; a longer one is passed over
    NODES_LOOK_MS = 5,     // between two looks while somebody waits
};

struct node_entry {
    struct fleet_node node; // is_live as it was judged last
    char boot[FLEET_EPOCH_LEN + 1];
};

struct node_list {
    struct node_entry *items; // in order of ids
    unsigned count;
};

struct nodes {
    struct fleet *fleet;
    struct redis *redis;
    struct loop_timer timer;
    char boot[FLEET_EPOCH_LEN + 1]; // of this process
    bool is_asked;                  // a beat or a look is under way
    bool is_beat;                   // it is a beat
    bool wants_beat;
    bool wants_look;
    bool has_beaten; // Redis has an entry of this process
    bool has_list;   // one came: what is new after that is told
    bool is_refused; // beats cannot be written; told
    bool is_stopped;
    bool has_left;
    uint64_t asked;    // number of the question that was sent last
    uint64_t asked_ms; // loop time of that
    uint64_t answered; // of the one that was answered last
    uint64_t grace_ms; // loop time until which nobody who was live is taken for dead
    uint64_t twice_ms; // loop time; 0: no second process has this node's id
    uint64_t redis_ms; // Redis' clock as it was told last; 0: never
    uint64_t redis_at; // loop time of that
    uint64_t lost_ms;  // loop time since when nothing was heard; 0: it is connected
    uint64_t rate_ns;  // when the rate of requests was taken
    uint64_t rate_requests;
    uint64_t rate;
    // Under the fleet's mutex; written by its thread.
    struct node_list list;
    uint64_t list_ns; // monotonic, when it came; 0: never
    uint64_t highest; // revision that any node was ever seen with
};

// ---- nodes.c ----

// Asks for the list as soon as possible.
void nodes_look(struct nodes *nodes);
// Has Redis not answered for FLEET_SILENCE_MS?
bool nodes_is_away(const struct nodes *nodes);

// ---- node_list.c ----

// `reply` is {node, JSON, …}; `now_ms` Redis' clock. 0 or ERR_MEMORY. Entries that cannot be read are left out.
int node_list_read(struct node_list *list, const struct redis_reply *reply, uint64_t now_ms,
                   struct str own_id) WARN_UNUSED;
void node_list_fini(struct node_list *list);
// `list` (new) takes the place of the one before: who is live is judged, what has changed is told. Takes what
// `list` holds. 0 or ERR_MEMORY.
int node_list_take(struct nodes *nodes, struct node_list *list) WARN_UNUSED;
// What of this node is told, behind "seen".
void node_put_own(struct nodes *nodes, struct buf *to);
// The "boot" of an entry's JSON; false: it has none.
bool node_read_boot(struct str json, char boot[FLEET_EPOCH_LEN + 1]);
