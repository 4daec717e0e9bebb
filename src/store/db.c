// SPDX-License-Identifier: MIT
#include "store/store_int.h"
#include <limits.h>

enum { BUSY_TIMEOUT_MS = 250 };

void store_db_describe(sqlite3 *db, char *to, size_t size)
{
    // Of other failures the system's number is an older one's.
    int code = sqlite3_errcode(db) & 0xff;
    int number = code == SQLITE_IOERR || code == SQLITE_CANTOPEN ? sqlite3_system_errno(db) : 0;
    const char *reason = number == 0 ? NULL : strerrordesc_np(number);
    if (reason == NULL) {
        snprintf(to, size, "%s", sqlite3_errmsg(db));
    } else {
        snprintf(to, size, "%s: %s", sqlite3_errmsg(db), reason);
    }
}

static int add_problem(sqlite3 *db, const char *path, struct problems *problems)
{
    char detail[STORE_DETAIL_LEN];
    store_db_describe(db, detail, sizeof detail);
    return problems_add(problems, ERR_UNAVAILABLE, "", "%s: %s", path, detail);
}

int store_db_open(const char *path, sqlite3 **db, struct problems *problems)
{
    // One thread at a time uses a connection: SQLite's own locks on it are not needed.
    if (sqlite3_open_v2(path, db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
        return *db == NULL ? problems_add(problems, ERR_MEMORY, "", "%s: out of memory", path)
                           : add_problem(*db, path, problems);
    }
    sqlite3_extended_result_codes(*db, 1);
    sqlite3_busy_timeout(*db, BUSY_TIMEOUT_MS);
    return 0;
}

int store_db_run(sqlite3 *db, const char *path, const char *sql, struct problems *problems)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        return add_problem(db, path, problems);
    }
    return 0;
}

int store_db_number(sqlite3 *db, const char *path, const char *sql, int64_t *out,
                    struct problems *problems)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_step(statement);
    }
    int err = 0;
    if (code == SQLITE_ROW) {
        *out = sqlite3_column_int64(statement, 0);
    } else if (code == SQLITE_DONE) {
        *out = 0;
    } else {
        err = add_problem(db, path, problems);
    }
    sqlite3_finalize(statement);
    return err;
}

int store_db_prepare(sqlite3 *db, const char *path, const char *const *sql, unsigned count,
                     sqlite3_stmt **out, struct problems *problems)
{
    for (unsigned i = 0; i < count; i++) {
        if (sqlite3_prepare_v3(db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &out[i], NULL) !=
            SQLITE_OK) {
            return add_problem(db, path, problems);
        }
    }
    return 0;
}

void store_db_finalize(sqlite3_stmt **statements, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        sqlite3_finalize(statements[i]);
        statements[i] = NULL;
    }
}

void store_db_bind(sqlite3_stmt *statement, int at, struct str text)
{
    // A NULL pointer would bind NULL, which is not the empty text. Over INT_MAX: SQLITE_TOOBIG when
    // the statement runs is what the length limit of SQLite itself gives.
    sqlite3_bind_text64(statement, at, text.p == NULL ? "" : text.p, text.len, SQLITE_STATIC,
                        SQLITE_UTF8);
}

struct str store_db_column(sqlite3_stmt *statement, int at)
{
    const void *text = sqlite3_column_text(statement, at);
    return str_make(text == NULL ? "" : text, (size_t)sqlite3_column_bytes(statement, at));
}
