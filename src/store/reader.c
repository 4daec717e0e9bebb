// SPDX-License-Identifier: MIT
// Reading for a thread that is neither the control nor the store thread: a connection of its own, so that
// nobody waits for anybody. As in read.c, no statement stays open between calls.
#include "base/log.h"
#include "store/store_int.h"

enum { READER_SECRET, READER_LIST, READER_GET, READER_REF_TO, READER_STATEMENT_COUNT };

struct store_reader {
    sqlite3 *db;
    sqlite3_stmt *statements[READER_STATEMENT_COUNT];
};

int store_reader_open(struct store *store, struct store_reader **reader)
{
    static const char *const sql[] = {
        [READER_SECRET] = "SELECT secret FROM secrets WHERE noun = ?1 AND key = ?2",
        [READER_LIST] = "SELECT key, value, revision FROM records WHERE noun = ?1 ORDER BY key",
        [READER_GET] = "SELECT value, revision FROM records WHERE noun = ?1 AND key = ?2",
        [READER_REF_TO] = ("SELECT from_noun, from_key FROM refs WHERE to_noun = ?1 AND to_key = ?2"
                           " ORDER BY from_noun, from_key LIMIT ?3"),
    };
    *reader = NULL;
    struct store_reader *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return ERR_MEMORY;
    }
    struct problems problems;
    problems_init(&problems);
    int err = store_db_open(store->path, &r->db, &problems);
    if (err == 0) {
        err = store_db_run(r->db, store->path, "PRAGMA query_only = ON; PRAGMA cache_size = -1024",
                           &problems);
    }
    if (err == 0) {
        err = store_db_prepare(r->db, store->path, sql, READER_STATEMENT_COUNT, r->statements,
                               &problems);
    }
    if (err != 0 && problems.count > 0) {
        log_error("%s", problems.items[0].detail);
    }
    problems_fini(&problems);
    if (err != 0) {
        store_reader_close(&r);
        return err;
    }
    *reader = r;
    return 0;
}

void store_reader_close(struct store_reader **reader)
{
    if (*reader == NULL) {
        return;
    }
    store_db_finalize((*reader)->statements, READER_STATEMENT_COUNT);
    sqlite3_close((*reader)->db);
    free(*reader);
    *reader = NULL;
}

int store_reader_secret(struct store_reader *reader, enum noun noun, struct str key,
                        struct buf *secret)
{
    sqlite3_stmt *statement = reader->statements[READER_SECRET];
    sqlite3_bind_int(statement, 1, (int)noun);
    store_db_bind(statement, 2, key);
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        buf_put(secret, store_db_column(statement, 0));
    }
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    if (code != SQLITE_ROW) {
        return code == SQLITE_DONE ? ERR_NOT_FOUND : ERR_UNAVAILABLE;
    }
    return secret->failed ? ERR_MEMORY : 0;
}

int store_reader_get(struct store_reader *reader, enum noun noun, struct str key, struct buf *value,
                     uint64_t *revision)
{
    sqlite3_stmt *statement = reader->statements[READER_GET];
    sqlite3_bind_int(statement, 1, (int)noun);
    store_db_bind(statement, 2, key);
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        buf_put(value, store_db_column(statement, 0));
        *revision = (uint64_t)sqlite3_column_int64(statement, 1);
    }
    sqlite3_reset(statement);
    if (code != SQLITE_ROW) {
        return code == SQLITE_DONE ? ERR_NOT_FOUND : ERR_UNAVAILABLE;
    }
    return value->failed ? ERR_MEMORY : 0;
}

int store_reader_referrers(struct store_reader *reader, enum noun noun, struct str key,
                           void (*visit)(void *context, enum noun noun, struct str key),
                           void *context)
{
    sqlite3_stmt *statement = reader->statements[READER_REF_TO];
    sqlite3_bind_int(statement, 1, (int)noun);
    store_db_bind(statement, 2, key);
    sqlite3_bind_int(statement, 3, STORE_REFERRER_MAX);
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        visit(context, (enum noun)sqlite3_column_int(statement, 0), store_db_column(statement, 1));
    }
    sqlite3_reset(statement);
    return code == SQLITE_DONE ? 0 : ERR_UNAVAILABLE;
}

int store_reader_list(struct store_reader *reader, enum noun noun,
                      bool (*visit)(void *context, const struct store_record *record),
                      void *context)
{
    sqlite3_stmt *statement = reader->statements[READER_LIST];
    sqlite3_bind_int(statement, 1, (int)noun);
    int code = SQLITE_DONE;
    bool is_wanted = true;
    while (is_wanted && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        struct store_record record = {
            .noun = noun,
            .key = store_db_column(statement, 0),
            .value = store_db_column(statement, 1),
            .revision = (uint64_t)sqlite3_column_int64(statement, 2),
        };
        is_wanted = visit(context, &record);
    }
    // An open statement would hold the log back.
    sqlite3_reset(statement);
    return !is_wanted || code == SQLITE_DONE ? 0 : ERR_UNAVAILABLE;
}
