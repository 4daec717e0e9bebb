// SPDX-License-Identifier: MIT
// Secrets for a thread that is neither the control nor the store thread: a connection of its own, so that
// nobody waits for anybody. As in read.c, no statement stays open between calls.
#include "base/log.h"
#include "store/store_int.h"

struct store_reader {
    sqlite3 *db;
    sqlite3_stmt *statement;
};

int store_reader_open(struct store *store, struct store_reader **reader)
{
    static const char *const sql[] = {"SELECT secret FROM secrets WHERE noun = ?1 AND key = ?2"};
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
        err = store_db_prepare(r->db, store->path, sql, 1, &r->statement, &problems);
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
    sqlite3_finalize((*reader)->statement);
    sqlite3_close((*reader)->db);
    free(*reader);
    *reader = NULL;
}

int store_reader_secret(struct store_reader *reader, enum noun noun, struct str key,
                        struct buf *secret)
{
    sqlite3_bind_int(reader->statement, 1, (int)noun);
    store_db_bind(reader->statement, 2, key);
    int code = sqlite3_step(reader->statement);
    if (code == SQLITE_ROW) {
        buf_put(secret, store_db_column(reader->statement, 0));
    }
    sqlite3_reset(reader->statement);
    sqlite3_clear_bindings(reader->statement);
    if (code != SQLITE_ROW) {
        return code == SQLITE_DONE ? ERR_NOT_FOUND : ERR_UNAVAILABLE;
    }
    return secret->failed ? ERR_MEMORY : 0;
}
