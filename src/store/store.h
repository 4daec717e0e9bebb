// SPDX-License-Identifier: MIT
// Where declarations are kept. One interface for every store; the embedded one is SQLite.
//
//     control ── store_submit(request) ──► store thread: check, write, group commit (sync)
//     control ◄── feed (in revision order), then the request's on_done ── mailbox
//
// The tables of this node change only through the feed. A request that was answered without error is
// on disk, and its feed has been delivered to the control loop before its on_done. One that was
// answered ERR_UNAVAILABLE was not fed; after a crash right then it may still turn out to be on disk,
// then whole (a failed sync says no more than that).
#pragma once
#include "base/buf.h"
#include "loop/loop.h"
#include "model/declaration.h"

struct store;

enum {
    STORE_PENDING_MAX = 10000,          // requests that wait
    STORE_PENDING_CHANGES_MAX = 100000, // changes in them; one request is always taken
    STORE_REFERRER_MAX = 10,            // keys named by store_reader_referrers and by ERR_IN_USE
    STORE_ID_LEN = 32,                  // of a request's id, hexadecimal digits
    STORE_MARK_MAX = 160,               // bytes of a replica's mark, terminated
};

// How a request is made.
enum store_way {
    STORE_WRITE, // by an API: checked, gets the next revision. With a front, that takes it
    STORE_REPLAY, // by another store: its revision and those of its changes are given, nothing is checked.
    // A change of a record that is as new already is passed over; an equal value is not fed, but
    // gets the revision. When one fails, those behind it fail as well, until the failed ones'
    // on_done ran: nothing is left out in between. Their answers are taken before store_close().
    STORE_FORCE, // the same, but what is given takes the place of what is there, however new
};

// What became of a request that was answered with ERR_UNAVAILABLE.
enum store_outcome {
    STORE_NOT_WRITTEN, // as always
    STORE_UNKNOWN,     // it was sent, and no answer came: an event tells later
    STORE_WRITTEN,     // and is live, but not on as many replicas as were asked for
};

// What is done together with a request in the store behind a front, all or nothing; others pass it over.
struct store_extra {
    struct store_extra *next;
    bool
        is_guard; // the command is run first, and its reply must be `expected`, else the request is refused
    // (ERR_PRECONDITION); nil is "", an array is its items, each ended by a NUL
    unsigned argc;
    char **argv;    // malloc, owned
    char *expected; // malloc, owned; of a guard
    size_t expected_len;
};

// Something a change's value refers to: it must exist when the request is done.
struct store_reference {
    enum noun noun;
    char *key;
    char *pointer; // JSON pointer of it in the value, for the problem
};

struct store_change {
    enum noun noun;
    char *key;    // canonical; owned
    char *value;  // canonical JSON text; owned; NULL: delete
    char *secret; // what GET never shows (sealed by the caller, cert/seal.h); owned; NULL: none, or
        // with keep_secret what is stored stays. Equal values are taken to have equal secrets
        // (they hold a digest of what is secret): then nothing is written
    bool keep_secret;
    // Only `secret`, which is the stored one sealed anew: no new revision, no feed, `value` is not looked
    // at. With if_match, so that it never takes the place of a newer one.
    bool reseal;
    struct store_reference *references; // malloc, with their texts; owned
    unsigned reference_count;
    uint64_t if_match;  // 0: none; else the record's revision must be this
    bool if_match_any;  // "If-Match: *": the record must exist
    bool if_none_match; // the record must not exist
    // Answers. The last three mean something only when the request's err is 0.
    int err; // 0, ERR_NOT_FOUND (delete), ERR_PRECONDITION, ERR_INVALID, ERR_IN_USE, ERR_UNAVAILABLE
    struct problems problems;
    bool was_new;      // created by this request
    bool was_same;     // the stored value was the same: no new revision
    uint64_t revision; // the record's own, after; of a deletion the request's. REPLAY, FORCE: given
    // Used by the store.
    bool is_changed; // differs from what was there before this change
    bool is_first;   // the first of its key in the request (REPLAY, FORCE)
    bool is_last;    // the last of its key in the request
    bool is_fed;     // the last that changed its key
};

struct store_batch;

// All or nothing: one revision for all its changes, which are made in order. What is refused is
// reported for every change, not only for the first. Owned by the store from submit to on_done.
struct store_request {
    struct store_request *next;
    struct store_change *changes; // malloc, `count` of them; owned
    unsigned count;
    enum store_way way;
    bool wants_fleet;           // all nodes are to tell at once when they have it
    struct store_extra *extras; // malloc, owned
    char mark[STORE_MARK_MAX];  // REPLAY, FORCE: stored with it (store_mark); "": the old one stays
    struct loop *loop;          // where on_done runs
    // Owns the request from then on (store_request_free). NULL: the store frees it.
    void (*on_done)(struct store_request *request);
    void *context;
    // Answers. When the store cannot write (disk full, …), is overloaded or out of memory, all changes
    // have that err and the first one has the problem with the detail.
    int err; // 0, or the first refused change's err, or ERR_UNAVAILABLE, ERR_MEMORY
    uint64_t
        revision; // the store's revision of this request (or the current one if nothing changed).
    // REPLAY, FORCE: given; the store's is not lower afterwards
    enum store_outcome outcome;
    char id[STORE_ID_LEN + 1]; // given by a front; "": none
    // Used by the store.
    struct loop_message message;
    struct store_batch *batch;
    struct store_line *line;
    struct store *failed_in; // behind it others fail until it is answered
    bool is_doomed;          // one before it has failed
};

// One record that changed. Views live as long as the call.
struct store_record {
    enum noun noun;
    struct str key;
    struct str value; // empty: deleted
    struct str
        secret; // of store_get_secret, and in a feed of the change that brought it; else empty
    uint64_t revision; // the record's own
    bool is_part;      // in a feed: of a FORCE, which others of the same revision may follow
};

// What waits on the control loop for a change that takes several turns. Control thread, all of it.
struct store_line {
    struct loop *control;
    struct store_request *first;
    struct store_request **last;
    struct store_request *under_way; // fed, not live yet
    struct loop_task task;
};
void store_line_init(struct store_line *line, struct loop *control);
// The change for which on_change() returned false is live.
void store_line_resume(struct store_line *line);
// After store_close() and the loop's last turn: delivers all that waits. on_change() returns true now.
void store_line_finish(struct store_line *line);

// Called on the control loop in revision order, once per request that changed something (of another
// store's also when only the revision rose, without records then). A key that
// the request changed several times comes once, as it is in the end; it may be the deletion of a key
// that the feed never brought (made and deleted by the same request).
struct store_feed {
    // True: it is live. False (only with a line): it will be, then store_line_resume(); the records
    // live until then, and neither the next change nor an answer comes before.
    bool (*on_change)(void *context, uint64_t revision, const struct store_record *records,
                      unsigned count);
    // The store cannot write (`detail` says why), or can again (detail empty).
    void (*on_state)(void *context, bool is_writable, struct str detail);
    void *context;
    struct store_line *line; // or NULL; outlives all answers
};

// Opens (makes, migrates) the file and takes its lock ("PATH.lock"); does not start the thread. The
// starting thread. `url` is "sqlite:PATH". 0; or with a problem that names the file: ERR_LOCKED (and
// which process holds it), ERR_INVALID (bad URL, another program's file, a newer schema),
// ERR_UNAVAILABLE (cannot be opened or written), ERR_MEMORY.
int store_open(struct store **store, struct str url, struct problems *problems) WARN_UNUSED;
// The same for the replica of a store that is elsewhere: a change is not synced to disk, for it would come
// again.
int store_open_replica(struct store **store, const char *path,
                       struct problems *problems) WARN_UNUSED;
// The replica of another process, which may go on writing it: as of now, to read from alone, until
// store_close(). Nothing is written, nothing is locked. 0; ERR_INVALID (it is not a replica, has another
// version's schema, or is another program's file); ERR_UNAVAILABLE, ERR_MEMORY. With a problem.
int store_open_shared(struct store **store, const char *path,
                      struct problems *problems) WARN_UNUSED;
// The mark that was committed last, "" at first, and after a STORE_WRITE that the file took itself: it has
// gone a way of its own. The starting thread; the one that submits REPLAY, when none is under way.
const char *store_mark(const struct store *store);

// Who takes STORE_WRITE requests instead of the store. Before store_start(); copied. `submit` may be called
// by any thread, owns the request from then on, and gives it back with store_answer().
struct store_front {
    void (*submit)(void *context, struct store_request *request);
    void *context;
};
void store_set_front(struct store *store, const struct store_front *front);
// Sends a request's answer to its loop (NULL: the store's control loop). Any thread; takes *request.
void store_answer(struct store_request **request);
// All of it has failed with `err`: clears the answers, the first change gets the problem. Any thread.
void store_request_fail(struct store_request *request, int err, const char *detail);

// Why a change is refused; for the store and for fronts, so that all say the same.
enum store_refusal {
    STORE_ABSENT,   // it is to be deleted, and is not there: ERR_NOT_FOUND
    STORE_EXISTS,   // if_none_match: ERR_PRECONDITION
    STORE_NONE,     // if_match, and it is not there: ERR_PRECONDITION
    STORE_REVISION, // if_match: it has another revision, `number`: ERR_PRECONDITION
    STORE_DANGLING, // its reference number `number` does not exist: ERR_INVALID
};
// Sets the change's and the request's err, and adds the problem; store_request_refuse() when all that is
// refused is. Any thread.
void store_refuse(struct store_request *request, struct store_change *change,
                  enum store_refusal why, uint64_t number);
// ERR_IN_USE, for one that uses it (called up to STORE_REFERRER_MAX times); an empty key: "and by more".
void store_refuse_used(struct store_request *request, struct store_change *change, enum noun noun,
                       struct str key);
// The end of it: the request's err becomes its first refused change's, the other answers are cleared. Any thread.
void store_request_refuse(struct store_request *request);

// Starts the store's threads; feed and answers come on `control`. *feed is copied. 0 or ERR_SYSTEM.
int store_start(struct store *store, struct loop *control,
                const struct store_feed *feed) WARN_UNUSED;
// Commits what was submitted and ends the threads. All answers have been posted when it returns; a
// control loop that has stopped takes them with one more loop_turn(). What is submitted later is
// answered with ERR_UNAVAILABLE; reading goes on. NULL is allowed. The starting thread.
void store_stop(struct store *store);
// Stops, closes, gives the lock back. NULL is allowed. The starting thread.
void store_close(struct store **store);

// Any thread. Takes *request. Never waits; when too much waits already the answer is
// ERR_UNAVAILABLE (STORE_PENDING_MAX requests, STORE_PENDING_CHANGES_MAX changes).
void store_submit(struct store *store, struct store_request **request);
// `count` changes, all zero. NULL when memory is out. Any thread.
struct store_request *store_request_new(unsigned count);
// Frees what a change owns; a secret is overwritten. The change is all zero then, but for its noun. Any thread.
void store_change_fini(struct store_change *change);
// With everything it owns. Any thread.
void store_request_free(struct store_request **request);

// Reading: the control thread (and the starting thread before it), from the local file, never waiting
// for the writer. Views are valid until the next read call. Calls do not nest, but store_get,
// store_count and store_revision may be called from a `visit`.
// 0; ERR_NOT_FOUND; ERR_UNAVAILABLE.
int store_get(struct store *store, enum noun noun, struct str key,
              struct store_record *out) WARN_UNUSED;
// With its secret (empty: none), which is cleared by the next read call.
int store_get_secret(struct store *store, enum noun noun, struct str key,
                     struct store_record *out) WARN_UNUSED;
// For one other thread at a time, over a connection of its own, which never waits for the writer. The
// reader is closed before the store; NULL is allowed. Open: 0; ERR_UNAVAILABLE (logged); ERR_MEMORY.
struct store_reader;
int store_reader_open(struct store *store, struct store_reader **reader) WARN_UNUSED;
void store_reader_close(struct store_reader **reader);
// Appends the secret of a record, as it was committed last. 0; ERR_NOT_FOUND (no record, or none of its
// own); ERR_UNAVAILABLE; ERR_MEMORY.
int store_reader_secret(struct store_reader *reader, enum noun noun, struct str key,
                        struct buf *secret) WARN_UNUSED;
// One record: its value is appended. 0; ERR_NOT_FOUND; ERR_UNAVAILABLE; ERR_MEMORY.
int store_reader_get(struct store_reader *reader, enum noun noun, struct str key, struct buf *value,
                     uint64_t *revision) WARN_UNUSED;
// Up to STORE_REFERRER_MAX keys of records of any noun that refer to (noun, key). 0 or ERR_UNAVAILABLE.
int store_reader_referrers(struct store_reader *reader, enum noun noun, struct str key,
                           void (*visit)(void *context, enum noun noun, struct str key),
                           void *context) WARN_UNUSED;
// All records of a noun in order of keys, of one moment; `visit` returns false to stop. No other call of
// the reader meanwhile. 0, or ERR_UNAVAILABLE.
int store_reader_list(struct store_reader *reader, enum noun noun,
                      bool (*visit)(void *context, const struct store_record *record),
                      void *context) WARN_UNUSED;
// Up to `limit` records with keys > `after` in byte order (routes: optionally only those of one host)
// through `visit`; it returns false to stop. 0 or ERR_UNAVAILABLE, ERR_MEMORY. limit 0: all. All that
// one call visits is of one moment.
int store_list(struct store *store, enum noun noun, struct str after, struct str host,
               unsigned limit, bool (*visit)(void *context, const struct store_record *record),
               void *context) WARN_UNUSED;
// Records of a noun. Any thread.
uint64_t store_count(struct store *store, enum noun noun);
// The last revision that was committed before the call; 0 at first. Any thread.
uint64_t store_revision(struct store *store);
// The node's id, made at the first open: 16 hexadecimal digits; lives as long as the store. Any thread.
struct str store_node_id(struct store *store);
// For status: is it writable, how many requests wait, how long the last commit took. Any thread.
struct store_status {
    bool is_writable;
    char detail[200];
    uint64_t pending;
    uint64_t commits;
    uint64_t last_commit_ns;
};
void store_get_status(struct store *store, struct store_status *status);
