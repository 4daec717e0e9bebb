// SPDX-License-Identifier: MIT
// Inside of the folder.
//
//     fleet.c    from start to end; the thread; status; what goes to the control loop
//     write.c    requests into Redis: one script each                       write.lua, fence.lua
//     pending.c  what is under way, in its order, and what has no outcome yet
//     script.h   keys, scripts, and a request as a call (write_call.c)      common.lua; any thread
//     record.c   entries of the stream and records of the hashes, decoded   (any thread)
//     follow.c   the stream into the replica; is it the history we know?    verify.lua, epoch.lua
//     resync.c   all that Redis has against all that the replica has
//     nodes.c    heartbeat, list of nodes                                   beat.lua
//     wait.c     calls that wait for the fleet
//
// Everything is the fleet's thread, unless it says otherwise.
#pragma once
#include "base/buf.h"
#include "fleet/fleet.h"
#include "fleet/script.h"
#include <pthread.h>

enum { FLEET_STREAM_ID_MAX = 48 };

// Where a history is: which, how far, by whose request, and where in the stream. As a mark of the replica:
// "EPOCH REVISION TAG STREAM-ID".
struct fleet_place {
    char epoch[FLEET_EPOCH_LEN + 1]; // "": none yet
    uint64_t revision;
    char tag[STORE_ID_LEN + 1];
    char stream_id[FLEET_STREAM_ID_MAX];
};
// False: it is no mark (then *place is empty).
bool fleet_place_read(struct fleet_place *place, const char *mark);
void fleet_place_write(const struct fleet_place *place, char *mark, size_t size);

// ---- record.c ----

struct fleet_change {
    enum noun noun;
    struct str key;
    struct str value; // of a deletion empty
    struct str secret;
    char op; // '+' created, '=' replaced, '-' deleted
    bool keep_secret;
};

enum fleet_entry_kind { FLEET_ENTRY_WRITE, FLEET_ENTRY_EPOCH };

// One entry of the stream. Texts are views into the reply.
struct fleet_entry {
    enum fleet_entry_kind kind;
    struct str stream_id;
    struct str epoch;
    struct str tag;
    struct str node;
    uint64_t revision;
    uint64_t previous;
    bool wants_beat;
    struct str changes; // for fleet_changes_next()
};
// `item` is [id, [field, value, …]]. 0, or ERR_SYNTAX with *why (static text); then stream_id is set if there
// is one, and revision and previous when they could be read (else 0).
int fleet_entry_read(struct fleet_entry *entry, const struct redis_reply *item,
                     const char **why) WARN_UNUSED;
// Takes the next change off `*rest`. STEP_DONE; STEP_AGAIN: there is none; ERR_SYNTAX. A noun that is not known
// to this version (a newer node's) has noun NOUN_COUNT.
int fleet_changes_next(struct str *rest, struct fleet_change *change) WARN_UNUSED;
// ---- write.c ----

struct write;
struct follow;
struct resync;
struct nodes;
struct waits;

int write_new(struct fleet *fleet, struct problems *problems) WARN_UNUSED;
void write_start(struct fleet *fleet);
// Answers all that is under way.
void write_stop(struct fleet *fleet);
void write_free(struct fleet *fleet);
// From the mailbox: a request of the front.
void write_take(struct fleet *fleet, struct store_request *request);
// follow has an entry of this id: it is written. Before it is live.
void write_seen(struct fleet *fleet, struct str tag, uint64_t revision);
// Everything up to this revision is live here: answers what waits for it.
void write_live(struct fleet *fleet, uint64_t revision);
// The state of `follow` has changed (writes are held back or refused unless it is FOLLOWING), or the epoch.
void write_follow_changed(struct fleet *fleet);
// follow has caught up with all that was in the stream when it asked: outcomes of what was sent before the last
// fence are known. `is_whole`: nothing was left out on the way (no resync).
void write_settle(struct fleet *fleet, bool is_whole);

// ---- follow.c, resync.c ----

int follow_new(struct fleet *fleet, struct problems *problems) WARN_UNUSED;
void follow_start(struct fleet *fleet);
void follow_stop(struct fleet *fleet);
void follow_free(struct fleet *fleet);
// A heartbeat has seen this place (epoch "" : there is no P:meta): is it ahead of us or another history?
void follow_compare(struct fleet *fleet, const struct fleet_place *redis);
// Verify now (a write was refused for its epoch).
void follow_check(struct fleet *fleet);

// ---- nodes.c, wait.c ----

int nodes_new(struct fleet *fleet, struct problems *problems) WARN_UNUSED;
void nodes_start(struct fleet *fleet);
void nodes_stop(struct fleet *fleet);
void nodes_free(struct fleet *fleet);
// Tell the others at once: a record that asks for it is live here.
void nodes_beat_now(struct fleet *fleet);
// The highest revision that any node is known to have, this one too.
uint64_t nodes_highest(struct fleet *fleet);

int waits_new(struct fleet *fleet) WARN_UNUSED;
// The thread has ended: all that wait are told.
void waits_stop(struct fleet *fleet);
void waits_free(struct fleet *fleet);
// The list of nodes is newer now.
void waits_look(struct fleet *fleet);

// ---- fleet.c ----

struct fleet {
    struct fleet_config config;
    struct fleet_keys keys;
    struct loop loop;
    struct loop *control;
    pthread_t thread;
    bool has_thread;
    char node_id[17];
    uint64_t made_ns; // monotonic

    struct write *write;
    struct follow *follow;
    struct nodes *nodes;
    struct waits *waits;

    // The thread's; follow's to set.
    enum fleet_follow_state state;
    char said[128];           // the last reason that was logged
    bool is_key_gone;         // FLEET_EMPTY: a key is, `said` which; else the store came back empty
    struct fleet_place place; // as it is live here
    char replica_fault[200];  // why the replica does not take what was read; ""

    // Shared. Written with release, read by anyone.
    atomic_bool is_stopping;      // requests are refused by the front
    atomic_bool is_content_there; // by the fleet's thread: there is something to serve
    pthread_mutex_t mutex;        // of `status`, and of what the modules say they keep under it
    uint64_t away_since_ns;       // monotonic; 0: the stream is followed. Under it too
    struct fleet_status status; // modules set their own fields under the mutex: fleet_status_lock()
};

struct fleet_status *fleet_status_lock(struct fleet *fleet);
void fleet_status_unlock(struct fleet *fleet);
// Sets state (and its status), tells write, and the control loop.
void fleet_set_state(struct fleet *fleet, enum fleet_follow_state state, const char *detail);
// Sends an event to the control loop (texts are copied). Any thread; without memory it is lost, and logged.
void fleet_tell(struct fleet *fleet, const struct fleet_event *event);
// Sends on_state to the control loop when it differs from what was told last.
void fleet_tell_writable(struct fleet *fleet, bool is_writable, const char *detail);
