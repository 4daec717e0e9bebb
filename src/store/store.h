// SPDX-License-Identifier: MIT
// Where declarations are kept. One interface for every store; the embedded one is SQLite.
//
//     control ── store_submit(request) ──► store thread: check, write, group commit (sync)
//     control ◄── feed (in revision order), then the request's on_done ── mailbox
//
// The tables of this node change only through the feed. A request that was answered without error is
// on disk, and its feed has been delivered to the control loop before its on_done.
#pragma once
#include "loop/loop.h"
#include "model/declaration.h"

struct store;

// Something a change's value refers to: it must exist when the request is done.
struct store_reference {
    enum noun noun;
    char *key;
    char *pointer; // JSON pointer of it in the value, for the problem
};

struct store_change {
    enum noun noun;
    char *key;   // canonical; owned
    char *value; // canonical JSON text; owned; NULL: delete
    struct store_reference *references;
    unsigned reference_count;
    uint64_t if_match;     // 0: none; else the record's revision must be this
    bool if_match_any;     // "If-Match: *": the record must exist
    bool if_none_match;    // the record must not exist
    // Answers.
    int err;               // 0, ERR_NOT_FOUND (delete), ERR_PRECONDITION, ERR_INVALID, ERR_IN_USE
    struct problems problems;
    bool was_new;          // created by this request
    bool was_same;         // the stored value was the same: no new revision
    uint64_t revision;     // the record's own, after
};

// All or nothing: one revision for all its changes. Owned by the store from submit to on_done.
struct store_request {
    struct store_request *next;
    struct store_change *changes; // malloc, `count` of them; owned
    unsigned count;
    struct loop *loop; // where on_done runs
    void (*on_done)(struct store_request *request);
    void *context;
    // Answers.
    int err;           // 0, or the first change's err, or ERR_UNAVAILABLE (cannot write: disk full …)
    uint64_t revision; // the store's revision of this request (or the current one if nothing changed)
    struct loop_message message; // used by the store
};

// One record that changed. Views live as long as the call.
struct store_record {
    enum noun noun;
    struct str key;
    struct str value;  // empty: deleted
    uint64_t revision; // the record's own
};

// Called on the control loop in revision order, once per request that changed something.
struct store_feed {
    void (*on_change)(void *context, uint64_t revision, const struct store_record *records,
                      unsigned count);
    // The store cannot write (`detail` says why), or can again (detail empty).
    void (*on_state)(void *context, bool is_writable, struct str detail);
    void *context;
};

// Opens (makes, migrates) the file and takes its lock; does not start the thread.
// `url` is "sqlite:PATH". 0, ERR_LOCKED (which process holds it is in the problem), or another err.
int store_open(struct store **store, struct str url, struct problems *problems) WARN_UNUSED;
// Starts the store thread; feed and answers come on `control`.
int store_start(struct store *store, struct loop *control, const struct store_feed *feed) WARN_UNUSED;
// Commits what was submitted, ends the thread, closes, gives the lock back.
void store_close(struct store **store);

// Control thread. Takes *request.
void store_submit(struct store *store, struct store_request **request);
struct store_request *store_request_new(unsigned count);
void store_request_free(struct store_request **request);

// Reading: the control thread (and the starting thread before it), from the local file, never waiting
// for the writer. Views are valid until the next read call.
// 0; ERR_NOT_FOUND; ERR_UNAVAILABLE.
int store_get(struct store *store, enum noun noun, struct str key, struct store_record *out)
    WARN_UNUSED;
// Up to `limit` records with keys > `after` in byte order (routes: optionally only those of one host)
// through `visit`; it returns false to stop. 0 or a negative err. limit 0: all.
int store_list(struct store *store, enum noun noun, struct str after, struct str host, unsigned limit,
               bool (*visit)(void *context, const struct store_record *record), void *context)
    WARN_UNUSED;
// Up to 10 keys of records of any noun that refer to (noun, key), as "route shop.example.com/api".
int store_referrers(struct store *store, enum noun noun, struct str key,
                    void (*visit)(void *context, enum noun noun, struct str key), void *context)
    WARN_UNUSED;
uint64_t store_count(struct store *store, enum noun noun);
// The last revision that was committed before the call.
uint64_t store_revision(struct store *store);
// The node's id, made at the first open: 16 hexadecimal digits.
struct str store_node_id(struct store *store);
// For status: is it writable, how many requests wait, how long the last commit took.
struct store_status {
    bool is_writable;
    char detail[200];
    uint64_t pending;
    uint64_t commits;
    uint64_t last_commit_ns;
};
void store_get_status(struct store *store, struct store_status *status);
