// SPDX-License-Identifier: MIT
// The tables, and how older files become the newest. A released step is never edited: what differs is
// a new step, and a dump of each released schema stands in test/unit/data for its test.
#include "base/log.h"
#include "store/store_int.h"

enum { APPLICATION_ID = 0x706e746d }; // "pntm" in the file's header: not somebody else's

static const struct store_step steps[] = {
    // Keys compare as bytes (BINARY). refs is looked at from both ends: who uses this, and what did the
    // old value refer to.
    {1,
     "PRAGMA application_id = 1886286957;"
     "CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;"
     "CREATE TABLE records(noun INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,"
     " revision INTEGER NOT NULL, schema INTEGER NOT NULL, PRIMARY KEY(noun, key)) WITHOUT ROWID;"
     "CREATE TABLE refs(to_noun INTEGER NOT NULL, to_key TEXT NOT NULL,"
     " from_noun INTEGER NOT NULL, from_key TEXT NOT NULL,"
     " PRIMARY KEY(to_noun, to_key, from_noun, from_key)) WITHOUT ROWID;"
     "CREATE INDEX refs_from ON refs(from_noun, from_key);"
     "INSERT INTO meta VALUES('revision', 0);"
     "INSERT INTO meta VALUES('node_id', lower(hex(randomblob(8))));"},
    // Secrets apart, with rowids: a list of 100,000 certificates reads no page of them (in a column of
    // records, twice to three times as slow), and a key of 2 to 4 KiB stays in its leaf.
    {2, "CREATE TABLE secrets(noun INTEGER NOT NULL, key TEXT NOT NULL, secret TEXT NOT NULL,"
        " PRIMARY KEY(noun, key));"},
};

const struct store_step *store_schema_steps(unsigned *count)
{
    *count = sizeof steps / sizeof steps[0];
    return steps;
}

static int take_step(sqlite3 *db, const char *path, const struct store_step *step,
                     struct problems *problems)
{
    char done[80];
    snprintf(done, sizeof done, "PRAGMA user_version = %d; COMMIT", step->version);
    int err = store_db_run(db, path, "BEGIN IMMEDIATE", problems);
    if (err == 0) {
        err = store_db_run(db, path, step->sql, problems);
    }
    if (err == 0) {
        err = store_db_run(db, path, done, problems);
    }
    if (err != 0 && !sqlite3_get_autocommit(db)) {
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    }
    return err;
}

// Is it ours, and how old?
static int check_file(sqlite3 *db, const char *path, int64_t *version, struct problems *problems)
{
    int64_t application;
    int64_t tables;
    int err = store_db_number(db, path, "PRAGMA user_version", version, problems);
    if (err == 0) {
        err = store_db_number(db, path, "PRAGMA application_id", &application, problems);
    }
    if (err == 0) {
        err = store_db_number(db, path, "SELECT count(*) FROM sqlite_schema", &tables, problems);
    }
    if (err != 0) {
        return err;
    }
    bool is_empty = *version == 0 && application == 0 && tables == 0;
    if (!is_empty && application != APPLICATION_ID) {
        return problems_add(problems, ERR_INVALID, "", "%s is a database of another program", path);
    }
    return 0;
}

int store_schema_check(sqlite3 *db, const char *path, struct problems *problems)
{
    int64_t version;
    int err = check_file(db, path, &version, problems);
    int newest = steps[sizeof steps / sizeof steps[0] - 1].version;
    if (err == 0 && version != newest) {
        err = problems_add(problems, ERR_INVALID, "", "%s has schema %lld, and not %d", path,
                           (long long)version, newest);
    }
    return err;
}

int store_schema_migrate(sqlite3 *db, const char *path, const struct store_step *all,
                         unsigned count, struct problems *problems)
{
    int64_t version;
    int err = check_file(db, path, &version, problems);
    if (err != 0) {
        return err;
    }
    int newest = all[count - 1].version;
    if (version > newest) {
        return problems_add(problems, ERR_INVALID, "",
                            "%s has schema %lld, made by a newer version of this program, which "
                            "knows schemas up to %d",
                            path, (long long)version, newest);
    }
    for (unsigned i = 0; i < count; i++) {
        if (all[i].version <= version) {
            continue;
        }
        err = take_step(db, path, &all[i], problems);
        if (err != 0) {
            return err;
        }
        if (version > 0) {
            log_info("%s: migrated to schema %d", path, all[i].version);
        }
    }
    return 0;
}
