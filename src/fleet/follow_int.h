// SPDX-License-Identifier: MIT
// The stream into the replica, inside.
//
//     follow.c       the connection, its states: which history is it, what is to be done
//     follow_epoch.c where a history begins: epoch.lua, init.lua
//     follow_read.c  XREAD: entries into requests                 follow_found.c  verify.lua's answer, judged
//     declare.c      one change of an entry, or record of a hash, into a change of the replica
//     replay.c       requests on their way into the replica, in order
//     resync.c       all that Redis has against all that the replica has      compare.c  the replica's side of it
//
// Everything is the fleet's thread.
#pragma once
#include "base/list.h"
#include "fleet/fleet_int.h"

enum {
    FOLLOW_BLOCK_MS = 300,        // one XREAD waits so long: what else is asked waits behind it
    FOLLOW_COUNT = 500,           // entries of one XREAD; fewer when they are large
    FOLLOW_COUNT_FIRST = 1,       // of each connection: a reply over REDIS_REPLY_MAX ends one
    FOLLOW_REPLY_BYTES = 8 << 20, // a larger reply makes the next one ask for fewer
    FOLLOW_SENT_MAX = 2000,       // requests that the replica has at a time
    FOLLOW_SENT_BYTES = 32 << 20, // and their texts; one is always sent
    FOLLOW_SENT_CHANGES = 50000,
    FOLLOW_RETRY_MS = 500, // after something that failed
    FOLLOW_TICK_MS = 100,
    FOLLOW_LOOK_MS = 250,    // between two looks at a history that is another
    FOLLOW_LOOKS = 3,        // so many at most, while it is still changing
    FOLLOW_SILENT_MS = 3000, // a connection that does not answer is made anew
    FOLLOW_IDLE_MS = 300,    // nothing has come for so long: is something wrong?
    FOLLOW_TOLD_MAX = 10,    // events and log lines of what is skipped, in a second
    RESYNC_PAGE = 1000,      // records of one HSCAN, about; fewer when they are large
    RESYNC_PAGE_FIRST = 10,
    RESYNC_PAGE_BYTES = 8 << 20, // a larger page makes the next one ask for fewer
    RESYNC_EXTRA_MAX = 50000,    // keys that are taken for deletion at a time
    RESYNC_TRIES = 3,            // without a pause
    FOLLOW_WHY_MAX = 256,
};

extern const struct fleet_script fleet_script_verify;
extern const struct fleet_script fleet_script_epoch;
extern const struct fleet_script fleet_script_init;

struct follow;

// ---- replay.c ----

// A request on its way. In one list of its line.
struct replay {
    struct list node;
    struct follow *follow;
    struct store_request *request; // NULL: the store has it
    struct fleet_place place;      // after it, if has_place
    size_t bytes;
    unsigned changes;
    bool has_place;
    bool wants_beat;
    bool is_end; // of a resync
};

struct replay_line {
    struct follow *follow;
    struct list queue; // to be sent
    struct list sent;  // with the store
    struct list
        held; // has failed, or came back behind one that did; goes to the front of the queue
    unsigned sent_count;
    unsigned sent_changes;
    size_t sent_bytes;
    bool is_failing;
    bool is_stopped; // answers are only freed
    struct loop_timer timer;
};

void replay_line_init(struct replay_line *line, struct follow *follow);
void replay_line_fini(struct replay_line *line);
// Drops what is not with the store, and lets go of what is.
void replay_line_stop(struct replay_line *line);
// Puts a request at the end; takes *request. `place` NULL: the place that is live does not move. NULL: out of
// memory, then *request stays the caller's.
struct replay *replay_add(struct replay_line *line, struct store_request **request,
                          const struct fleet_place *place) WARN_UNUSED;
// Sends what fits. After replay_add() and what was set in its result.
void replay_send(struct replay_line *line);
bool replay_is_empty(const struct replay_line *line);
// Is nothing left to be sent, and not too much under way?
bool replay_has_room(const struct replay_line *line);

// ---- declare.c ----

// Fills a zeroed change; value NULL: delete. 0; ERR_MEMORY; ERR_INVALID with `why`: it is no declaration that
// this version understands (the change is to be freed in any case).
int declare_fill(struct store_change *change, enum noun noun, struct str key,
                 const struct str *value, uint64_t revision, char *why,
                 size_t why_size) WARN_UNUSED;

// ---- compare.c ----

struct compare_slot {
    uint64_t key;     // hash; 0: free
    uint64_t content; // hash of value and revision; the lowest bit: it is in Redis
};

// The records of one noun: 16 bytes for each. A hash that two keys share makes a record be written again, or
// not be deleted before the next process; one that two contents share would leave the older one.
struct compare {
    struct compare_slot *slots;
    size_t size; // a power of two, or 0
    size_t count;
    size_t unseen; // of those that the replica had
};

void compare_fini(struct compare *compare);
// Takes all that the replica has. 0, ERR_MEMORY, ERR_UNAVAILABLE.
int compare_load(struct compare *compare, struct store_reader *reader, enum noun noun) WARN_UNUSED;
// Redis has this. *is_other: the replica has it not, or another. 0 or ERR_MEMORY.
int compare_see(struct compare *compare, struct str key, uint64_t revision, struct str value,
                bool *is_other) WARN_UNUSED;
// Redis has it, whatever it is. 0 or ERR_MEMORY.
int compare_keep(struct compare *compare, struct str key) WARN_UNUSED;
bool compare_is_seen(const struct compare *compare, struct str key);

// ---- follow_found.c ----

// What verify.lua has found.
struct found {
    bool has_meta;
    bool is_place_there;                // our place is in the stream
    struct fleet_place place;           // Redis': stream_id is the last one that was given
    char first_id[FLEET_STREAM_ID_MAX]; // ""; the stream is empty
    uint64_t total;                     // declarations
    uint64_t counts[NOUN_COUNT];        // of each noun; tickets are none
};
// 0, or ERR_SYNTAX with why.
int found_read(struct found *found, const struct redis_reply *reply, char *why,
               size_t why_size) WARN_UNUSED;

enum verdict {
    VERDICT_FOLLOW, // goes on from its place
    VERDICT_RESYNC, // Redis' history is ahead of ours
    VERDICT_LOST,   // Redis' history lacks what we have
    VERDICT_OTHER,  // another history that is above ours
    VERDICT_EMPTY,  // no declarations, and a history that is not ours or none
    VERDICT_NONE,   // declarations without a history
};
// Says `why` for all but FOLLOW.
enum verdict found_judge(const struct found *found, const struct fleet_place *ours, char *why,
                         size_t why_size);

// ---- follow.c ----

// What was asked and is not answered yet, on the connection of the moment.
struct follow_asked {
    bool verify;
    bool read;
    bool script; // epoch.lua, init.lua
};

struct follow {
    struct fleet *fleet;
    struct redis *redis;
    struct loop_timer tick;
    struct replay_line line;
    struct resync *resync; // or NULL

    struct fleet_place place; // what was put in line: fleet->place comes behind it
    bool must_resync;         // since a verdict said so
    char reason[FOLLOW_WHY_MAX];

    struct follow_asked asked;
    bool wants_check;    // ask again when it can be
    uint64_t ask_at_ms;  // loop time; 0: not by itself
    uint64_t read_at_ms; // XREAD no sooner than this
    uint64_t entry_ms;   // when an entry came last
    uint64_t expected;   // the revision that verify saw: XREAD must bring it
    unsigned count;      // of the next XREAD
    struct found look;   // the history that was not ours, when it was seen first
    unsigned looks;
    uint64_t look_ms;

    uint64_t raise_above; // a record's revision that is above Redis'; 0: none

    bool wants_settle;
    bool is_whole;
    uint64_t settle_revision;

    bool
        is_skew_known; // declarations in Redis beyond those here when all else was alike: what was skipped
    int64_t skew;

    bool was_away; // told
    uint64_t away_since_ms;
    uint64_t told_ms; // of what is skipped
    unsigned told;
};

// Goes on with what can go on: asks, reads, the next page.
void follow_go_on(struct follow *follow);
// A request of the line is live.
void follow_on_live(struct follow *follow, const struct replay *replay);
// Reads the history anew: state VERIFYING (or as it is), then as verify.lua says.
void follow_doubt(struct follow *follow, const char *why);
// All of it must be read; begins as soon as it can.
void follow_want_resync(struct follow *follow, const char *why);
// Calls verify.lua. False: the connection is gone.
bool follow_call_verify(struct follow *follow, const struct fleet_place *ours,
                        redis_on_reply *on_reply) WARN_UNUSED;
// A node's own declarations, without what is internal.
uint64_t follow_held(const struct follow *follow);
// Counts, logs and tells what cannot be decoded.
void follow_skip(struct follow *follow, const struct fleet_entry *entry, const char *what);
// The resync has ended: `place` is live. Or it cannot go on (why).
void follow_on_resynced(struct follow *follow, const struct fleet_place *place);
void follow_on_resync_failed(struct follow *follow, const char *why);

void follow_tell(struct follow *follow, const char *state, const char *detail);
void follow_set_state(struct follow *follow, enum fleet_follow_state state, const char *detail);
// verify.lua is called again after this.
void follow_retry_later(struct follow *follow, unsigned after_ms);
void follow_begin_resync(struct follow *follow);

// ---- follow_epoch.c ----

// epoch.lua for the history of follow->look, then a resync.
void follow_begin_raise(struct follow *follow);
// init.lua, then a resync.
void follow_begin_init(struct follow *follow);
void follow_enter_empty(struct follow *follow, const char *detail);

// ---- follow_read.c ----

enum taken {
    TAKEN_ALL,
    TAKEN_GAP,    // an entry does not follow the place
    TAKEN_EPOCH,  // another epoch has begun
    TAKEN_MEMORY, // as far as the place says
};
// The reply of XREAD: requests in line, *place moves on. Without marks the live place stays where it is.
enum taken follow_take(struct follow *follow, const struct redis_reply *reply,
                       struct fleet_place *place, bool with_marks, char *why, size_t why_size);
// XREAD from the place; block 0: answers at once. False: the connection is gone.
bool follow_call_read(struct follow *follow, const struct fleet_place *place, unsigned block_ms,
                      redis_on_reply *on_reply) WARN_UNUSED;
// Of the stream's fields, one by its name; empty: there is none.
struct str follow_field(const struct redis_reply *item, struct str name);

// ---- resync.c ----

// Begins. 0 or ERR_MEMORY, ERR_UNAVAILABLE (the replica cannot be read).
int resync_begin(struct follow *follow) WARN_UNUSED;
void resync_go_on(struct resync *resync);
// At the end of the connection, and of the follow. NULL is allowed.
void resync_free(struct resync **resync);
