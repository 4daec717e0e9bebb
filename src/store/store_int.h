// SPDX-License-Identifier: MIT
// Inside of the store folder.
//
//     store.c       open, start, close, submit; the store thread
//     write.c       one group: requests into a transaction         (store thread)
//     change.c      one change of a request                        (store thread)
//     refuse.c      why a change is refused                        (any thread)
//     read.c        look-ups and lists                             (control thread)
//     reader.c      reading for other threads                      (theirs)
//     request.c     requests, and how answers and feed travel back
//     line.c        their order on the control loop              (control thread)
//     checkpoint.c  moves the log into the file, beside the writer (a thread of its own)
//     db.c          connections and statements     schema.c  tables, migrations     lock.c  PATH.lock
#pragma once
#include "base/buf.h"
#include "store/store.h"
#include <pthread.h>
#include <sqlite3.h>
#include <sys/stat.h>

enum {
    STORE_RECORD_SCHEMA = 1, // written with each record
    STORE_GROUP_MAX = 256,   // requests committed together
    STORE_GROUP_CHANGES_MAX = 1000,
    STORE_DETAIL_LEN = 200, // as in struct store_status
    STORE_PAGE_LEN = 4096,
    STORE_CHECKPOINT_PAGES = 4000, // log pages that are worth a checkpoint
    STORE_CHECKPOINT_REST = 1000,  // pages that the store thread copies itself
    STORE_WAL_MAX = 64 << 20,      // bytes after which the log starts over
    STORE_PROBE_MS = 1000,         // between attempts to write again after a failure
};

// Statements of the writer and of the reader, prepared once.
#define STORE_WRITE_STATEMENTS(X)                                                                \
    X(WRITE_BEGIN, "BEGIN IMMEDIATE")                                                            \
    X(WRITE_COMMIT, "COMMIT")                                                                    \
    X(WRITE_ROLLBACK, "ROLLBACK")                                                                \
    X(WRITE_SAVEPOINT, "SAVEPOINT request")                                                      \
    X(WRITE_RELEASE, "RELEASE request")                                                          \
    X(WRITE_UNDO, "ROLLBACK TO request")                                                         \
    X(WRITE_GET, "SELECT value, revision FROM records WHERE noun = ?1 AND key = ?2")             \
    X(WRITE_EXISTS, "SELECT 1 FROM records WHERE noun = ?1 AND key = ?2")                        \
    X(WRITE_PUT, "REPLACE INTO records(noun, key, value, revision, schema)"                      \
                 " VALUES(?1, ?2, ?3, ?4, ?5)")                                                  \
    X(WRITE_TOUCH, "UPDATE records SET revision = ?3 WHERE noun = ?1 AND key = ?2")              \
    X(WRITE_DELETE, "DELETE FROM records WHERE noun = ?1 AND key = ?2")                          \
    X(WRITE_SECRET_PUT, "INSERT INTO secrets(noun, key, secret) VALUES(?1, ?2, ?3)"              \
                        " ON CONFLICT(noun, key) DO UPDATE SET secret = excluded.secret")        \
    X(WRITE_SECRET_CLEAR, "DELETE FROM secrets WHERE noun = ?1 AND key = ?2")                    \
    X(WRITE_SECRET_EXISTS, "SELECT 1 FROM secrets WHERE noun = ?1 AND key = ?2")                 \
    X(WRITE_REF_ADD, "INSERT OR IGNORE INTO refs(from_noun, from_key, to_noun, to_key)"          \
                     " VALUES(?1, ?2, ?3, ?4)")                                                  \
    X(WRITE_REF_FROM, "SELECT to_noun, to_key FROM refs WHERE from_noun = ?1 AND from_key = ?2") \
    X(WRITE_REF_CLEAR, "DELETE FROM refs WHERE from_noun = ?1 AND from_key = ?2")                \
    X(WRITE_REF_TO, "SELECT from_noun, from_key FROM refs WHERE to_noun = ?1 AND to_key = ?2"    \
                    " ORDER BY from_noun, from_key LIMIT ?3")                                    \
    X(WRITE_META, "REPLACE INTO meta(name, value) VALUES(?1, ?2)")

#define STORE_READ_STATEMENTS(X)                                                          \
    X(READ_GET, "SELECT value, revision FROM records WHERE noun = ?1 AND key = ?2")       \
    X(READ_GET_SECRET, "SELECT r.value, r.revision, s.secret FROM records r"              \
                       " LEFT JOIN secrets s ON s.noun = r.noun AND s.key = r.key"        \
                       " WHERE r.noun = ?1 AND r.key = ?2")                               \
    X(READ_LIST, "SELECT key, value, revision FROM records"                               \
                 " WHERE noun = ?1 AND key > ?2 AND key < ?3 ORDER BY key LIMIT ?4")      \
    X(READ_HOST, "SELECT key, value, revision FROM records WHERE noun = ?1 AND key = ?2") \
    X(READ_BEGIN, "BEGIN")                                                                \
    X(READ_END, "COMMIT")

enum store_write_statement {
#define X(name, sql) name,
    STORE_WRITE_STATEMENTS(X)
#undef X
        WRITE_STATEMENT_COUNT
};

enum store_read_statement {
#define X(name, sql) name,
    STORE_READ_STATEMENTS(X)
#undef X
        READ_STATEMENT_COUNT
};

// The store thread's own, once it runs.
struct store_writer {
    sqlite3 *db;
    sqlite3_stmt *statements[WRITE_STATEMENT_COUNT];
    // With what the group under way has done so far.
    uint64_t revision;
    uint64_t counts[NOUN_COUNT];
    char mark[STORE_MARK_MAX];
    bool is_dirty;       // there is something to commit
    unsigned wal_pages;  // in the log after the last commit
    unsigned wal_asked;  // when the helper was asked last
    unsigned wal_copied; // when the store thread itself copied last
    bool is_writable;
    bool is_state_told; // the control loop knows is_writable
};

// What follows feed and records of one request to the control loop, in one block.
struct store_batch {
    struct store_feed feed; // a copy: the store may be closed before the loop takes it
    uint64_t revision;
    unsigned count;
    struct store_record records[]; // views into the request's changes
};

struct store {
    char *path;
    struct stat file; // as it was opened
    int lock_fd;
    char node_id[17];

    // The control thread's.
    sqlite3 *read_db;
    sqlite3_stmt *read_statements[READ_STATEMENT_COUNT];
    struct buf read_buf;  // what store_get's views point into
    bool has_read_secret; // it holds one

    struct store_writer writer;
    struct loop *control;
    struct store_feed feed;
    struct store_front front;
    char mark[STORE_MARK_MAX]; // as committed; the store thread's
    pthread_t thread;
    bool has_thread;

    sqlite3 *checkpoint_db;
    pthread_t checkpoint_thread;
    bool has_checkpoint_thread;

    // As committed. Written by the store thread with release after COMMIT, read by anyone (acquire).
    atomic_uint_least64_t revision;
    atomic_uint_least64_t counts[NOUN_COUNT];

    pthread_mutex_t mutex; // what follows
    pthread_cond_t wake;   // the store thread: requests, or is_stopping
    pthread_cond_t wake_checkpoint;
    struct store_request *first;
    struct store_request **last;
    unsigned pending;
    uint64_t pending_changes;
    unsigned failing; // REPLAY and FORCE that failed and were not answered yet
    bool is_stopping;
    bool is_checkpoint_wanted;
    bool is_checkpoint_running;
    bool is_checkpoint_stopping;
    unsigned checkpoint_done; // pages that the last one found in the file already
    struct store_status status;
};

// ---- db.c ----

// Opens the existing file. 0, or ERR_UNAVAILABLE with a problem; *db may be set also then.
int store_db_open(const char *path, sqlite3 **db, struct problems *problems) WARN_UNUSED;
// Runs statements without results. 0, or ERR_UNAVAILABLE with a problem.
int store_db_run(sqlite3 *db, const char *path, const char *sql,
                 struct problems *problems) WARN_UNUSED;
// The number that a query gives. 0, or ERR_UNAVAILABLE with a problem.
int store_db_number(sqlite3 *db, const char *path, const char *sql, int64_t *out,
                    struct problems *problems) WARN_UNUSED;
int store_db_prepare(sqlite3 *db, const char *path, const char *const *sql, unsigned count,
                     sqlite3_stmt **out, struct problems *problems) WARN_UNUSED;
void store_db_finalize(sqlite3_stmt **statements, unsigned count);
// Why the last call failed, with the system's reason: "disk I/O error: No space left on device".
void store_db_describe(sqlite3 *db, char *to, size_t size);
// Borrowed until the statement is reset.
void store_db_bind(sqlite3_stmt *statement, int at, struct str text);
struct str store_db_column(sqlite3_stmt *statement, int at);

// ---- schema.c ----

// One migration: from `version` - 1 to `version`.
struct store_step {
    int version;
    const char *sql;
};
// The released steps, in order.
const struct store_step *store_schema_steps(unsigned *count);
// Is the file ours, and of this version's schema? 0; ERR_INVALID; ERR_UNAVAILABLE. With a problem.
int store_schema_check(sqlite3 *db, const char *path, struct problems *problems) WARN_UNUSED;
// Brings the file up to the last of `steps`, each in a transaction of its own. 0; ERR_INVALID (another
// program's file, or a newer schema); ERR_UNAVAILABLE. With a problem.
int store_schema_migrate(sqlite3 *db, const char *path, const struct store_step *steps,
                         unsigned count, struct problems *problems) WARN_UNUSED;

// ---- lock.c ----

// Takes PATH.lock for this process. 0 and *fd; ERR_LOCKED or ERR_UNAVAILABLE with a problem.
int store_lock_take(const char *path, int *fd, struct problems *problems) WARN_UNUSED;
void store_lock_give(int *fd);

// ---- request.c ----

// Memory for the request's feed, its records filled from the changes that are is_fed. NULL when
// memory is out.
struct store_batch *store_batch_new(const struct store *store, const struct store_request *request,
                                    uint64_t revision);
// Feeds the tables, if the request changed something. False: it is not live yet. Control.
bool store_request_feed(struct store_request *request) WARN_UNUSED;
// Sends the answer, takes the request. Control.
void store_request_answer(struct store_request *request, struct loop *control);
// Sends feed and answer to the control loop. Store thread; takes the request.
void store_request_deliver(struct store *store, struct store_request *request);
// Tells the control loop. False when memory is out. Store thread.
bool store_state_deliver(struct store *store, bool is_writable, const char *detail) WARN_UNUSED;

// Of a chain of requests those of another store that failed (with `all_failed` every one) are noted, and
// what waits behind them is doomed, as is what comes before they are answered. Store thread.
void store_doom(struct store *store, struct store_request *first, bool all_failed);
// The same for one that was refused at once. Locked.
void store_doom_one(struct store *store, struct store_request *request);

// ---- line.c ----

void store_line_add(struct store_line *line, struct store_request *request);

// ---- read.c ----

// What store_get's views point into is gone, a secret cleared. Control.
void store_forget_read(struct store *store);

// ---- change.c ----

// Runs a statement that gives no rows, and resets it.
int store_write_run(struct store_writer *writer, enum store_write_statement which);
// A statement with noun and key bound; key is borrowed until it is reset.
sqlite3_stmt *store_write_bind(struct store_writer *writer, enum store_write_statement which,
                               enum noun noun, const char *key);
// Makes one change of an API, with the revision it gets, or refuses it. 0 or ERR_UNAVAILABLE.
int store_change_apply(struct store_writer *writer, struct store_request *request,
                       struct store_change *change, uint64_t revision) WARN_UNUSED;
// Makes one change of another store; is_first is set. 0 or ERR_UNAVAILABLE.
int store_change_replay(struct store_writer *writer, const struct store_request *request,
                        struct store_change *change) WARN_UNUSED;

// ---- write.c ----

// Commits a chain of requests and sends all answers. Store thread.
void store_write_group(struct store *store, struct store_request *first);
// Tries to write after a failure. Store thread.
void store_write_probe(struct store *store);

// ---- checkpoint.c ----

int store_checkpoint_start(struct store *store) WARN_UNUSED;
void store_checkpoint_stop(struct store *store);
// After a commit: is it time? Store thread.
void store_checkpoint_consider(struct store *store);
