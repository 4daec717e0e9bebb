// SPDX-License-Identifier: MIT
// Inside of write.c and pending.c: requests on their way into Redis.
//
//            write_take ──► LINE ──► SENT ──────────────► answered: its revision is live here, or it was refused
//                             ▲        │ no answer in time ──► answered 503 ──► ORPHAN ──► event "outcome"
//                             └────────┘ another epoch, an unknown script
//
// What is known of one that was sent comes from its reply, from the stream (write_seen), or from the fence: a
// later session was raised, and all that was written before is live without it.
#pragma once
#include "fleet/fleet_int.h"

enum {
    WRITE_SENT_MAX = 1000,       // requests in flight
    WRITE_SENT_BYTES = 32 << 20, // and their bytes; one is always sent
    WRITE_ORPHAN_MAX = 10000,    // without an outcome; over it the oldest ends as unknown
    WRITE_LATE_MS = 500,         // one that has less left of FLEET_UNKNOWN_MS is not sent any more
    WRITE_LIVE_PER_MS = 1,       // changes that a slow replica takes in a millisecond
    WRITE_TICK_MS = 50,          // between looks at deadlines
    WRITE_PING_MS = 250,         // between commands that ask whether Redis is there
    WRITE_DROP_MS = 3000,        // a connection that was silent for so long is made anew
    WRITE_LOG_MAX = 10,          // outcomes that are logged in a second; all are events
    WRITE_READ_ONLY_MAX =
        4,                // so often a fence may find a replica before the connection is made anew
    WRITE_BUCKETS = 1024, // of the table of ids
};

#define FLEET_BEHIND_DETAIL "this node is catching up with Redis"
#define FLEET_EMPTY_DETAIL                                                                   \
    "the store came back empty: restore it, copy a node's replica into it (pointsman store " \
    "copy), "                                                                                \
    "or set store.accept_empty"

enum pending_place {
    PENDING_LINE,
    PENDING_SENT,
    PENDING_ORPHAN,
    PENDING_DEAD, // nothing but its reply is waited for
};

struct write;

struct pending {
    struct write *write;
    struct list node;  // of the list of its place
    struct list by_id; // in its bucket; of what was sent
    enum pending_place place;
    struct store_request *request; // NULL: it was answered
    char id[STORE_ID_LEN + 1];
    char epoch[FLEET_EPOCH_LEN + 1]; // that it was sent in
    uint64_t taken_ms;
    uint64_t generation; // of the connection that it was sent on
    size_t size;
    unsigned count;
    enum fleet_call_result result; // with has_answer
    uint64_t revision;             // must be live here; with has_answer or is_seen
    int64_t replicas;              // that have it; -1: not known
    bool is_replying;              // its reply is to come
    bool has_text;                 // that is of a call with the script's text
    bool is_again;                 // goes before those that were not sent yet
    bool is_unknown_script;
    bool has_answer;
    bool is_seen;
    bool is_blurred; // entries of the stream may have been left out since it was sent
};

struct write {
    struct fleet *fleet;
    struct redis *redis;
    struct store_reader *reader;
    struct loop_timer timer;
    struct fleet_call call;
    struct list line, sent, orphans, dead;
    struct list buckets[WRITE_BUCKETS];
    unsigned line_count, sent_count, orphan_count;
    unsigned line_changes;
    size_t sent_bytes;
    unsigned texts;      // calls with the script's text whose reply is to come
    uint64_t generation; // of the connection; counts
    uint64_t session;    // of this node, highest that is known
    uint64_t answer_ms;  // when Redis said something last, or was connected
    uint64_t asked_ms;   // when something was sent last
    bool is_connected;   // and the session is raised
    bool is_fencing;     // a call of fence.lua is under way
    bool is_silent;
    bool is_waiting; // WAIT is under way
    bool has_told;   // is_writable, as it was told last
    bool told_writable;
    unsigned read_only; // fences that found a replica
    char away[200];     // why there is no connection
    char trouble[200];  // why Redis does not take writes, by its own words; ""
    uint64_t logged_at; // second
    unsigned logged;    // outcomes in it
    // What was sent in older generations is settled when this is live.
    bool is_unsettled;
    char settle_epoch[FLEET_EPOCH_LEN + 1];
    uint64_t settle_revision;
};

// ---- write.c ----

// Sends what is in line, as far as that may be.
void write_flush(struct write *write);

// ---- pending.c ----

// In line, before what was never sent if `is_again`.
void pending_line(struct write *write, struct pending *pending);
// Out of the line, to those that were sent.
void pending_send(struct write *write, struct pending *pending);
// Its reply; NULL: the connection was lost.
void pending_reply(struct write *write, struct pending *pending, const struct redis_reply *reply);
// Answers the request (whose answers are filled in), if it has none yet, and lets go of it.
void pending_end(struct write *write, struct pending *pending);
// The same with 503 and a detail, nothing of it was written.
void pending_refuse(struct write *write, struct pending *pending, const char *detail);
// All that waits in line.
void pending_refuse_line(struct write *write, const char *detail);
// What can be answered is: live, settled.
void pending_advance(struct write *write);
// What has waited for too long is answered. `why_behind` (or NULL): the line waits for follow, and why.
void pending_expire(struct write *write, const char *why_behind);
// Entries may be left out from now on.
void pending_blur(struct write *write);
void pending_stop(struct write *write);
void pending_free_all(struct write *write);
