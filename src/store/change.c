// SPDX-License-Identifier: MIT
// One change into the tables: what is stored under its key, may it be made, its record, secret and
// references. An API's change is judged and gets its revision here; one of another store has its own.
#include "base/invariant.h"
#include "store/store_int.h"

int store_write_run(struct store_writer *writer, enum store_write_statement which)
{
    int code = sqlite3_step(writer->statements[which]);
    sqlite3_reset(writer->statements[which]);
    return code == SQLITE_DONE ? 0 : ERR_UNAVAILABLE;
}

sqlite3_stmt *store_write_bind(struct store_writer *writer, enum store_write_statement which,
                               enum noun noun, const char *key)
{
    sqlite3_stmt *statement = writer->statements[which];
    sqlite3_bind_int(statement, 1, (int)noun);
    store_db_bind(statement, 2, str_from_c(key));
    return statement;
}

// What is stored under a change's key.
struct present {
    bool exists;
    bool is_same;
    uint64_t revision;
};

static int look_up(struct store_writer *writer, const struct store_change *change,
                   struct present *present)
{
    sqlite3_stmt *statement = store_write_bind(writer, WRITE_GET, change->noun, change->key);
    int code = sqlite3_step(statement);
    *present = (struct present){.exists = code == SQLITE_ROW};
    if (present->exists) {
        present->revision = (uint64_t)sqlite3_column_int64(statement, 1);
        present->is_same = change->value != NULL &&
                           str_eq(store_db_column(statement, 0), str_from_c(change->value));
    }
    sqlite3_reset(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? 0 : ERR_UNAVAILABLE;
}

// Equal values have equal secrets, but for one that was never stored, or is to go.
static int compare_secrets(struct store_writer *writer, const struct store_change *change,
                           struct present *present)
{
    if (!present->is_same || (change->secret == NULL && change->keep_secret)) {
        return 0;
    }
    int code =
        sqlite3_step(store_write_bind(writer, WRITE_SECRET_EXISTS, change->noun, change->key));
    sqlite3_reset(writer->statements[WRITE_SECRET_EXISTS]);
    present->is_same = (code == SQLITE_ROW) == (change->secret != NULL);
    return code == SQLITE_ROW || code == SQLITE_DONE ? 0 : ERR_UNAVAILABLE;
}

// True when the change may be made. RFC 9110 13.2.1: 404 comes before 412.
static bool check_conditions(struct store_request *request, struct store_change *change,
                             const struct present *present)
{
    bool must_exist = change->if_match_any || change->if_match != 0;
    if (change->value == NULL && !present->exists) {
        store_refuse(request, change, STORE_ABSENT, 0);
    } else if (change->if_none_match && present->exists) {
        store_refuse(request, change, STORE_EXISTS, 0);
    } else if (must_exist && !present->exists) {
        store_refuse(request, change, STORE_NONE, 0);
    } else if (change->if_match != 0 && change->if_match != present->revision) {
        store_refuse(request, change, STORE_REVISION, present->revision);
    }
    return change->err == 0;
}

static int put_references(struct store_writer *writer, const struct store_change *change,
                          unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        sqlite3_stmt *statement =
            store_write_bind(writer, WRITE_REF_ADD, change->noun, change->key);
        sqlite3_bind_int(statement, 3, (int)change->references[i].noun);
        store_db_bind(statement, 4, str_from_c(change->references[i].key));
        int err = store_write_run(writer, WRITE_REF_ADD);
        if (err != 0) {
            return err;
        }
    }
    return 0;
}

// Is it among the first `count`?
static bool has_reference(const struct store_change *change, unsigned count, int noun,
                          struct str key)
{
    for (unsigned i = 0; i < count; i++) {
        const struct store_reference *reference = &change->references[i];
        if ((int)reference->noun == noun && str_eq(str_from_c(reference->key), key)) {
            return true;
        }
    }
    return false;
}

// Most changes of a value leave what it refers to as it was: then two trees are not touched.
static int compare_references(struct store_writer *writer, const struct store_change *change,
                              unsigned count, bool *is_same)
{
    unsigned distinct = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct store_reference *reference = &change->references[i];
        distinct += !has_reference(change, i, (int)reference->noun, str_from_c(reference->key));
    }
    sqlite3_stmt *statement = store_write_bind(writer, WRITE_REF_FROM, change->noun, change->key);
    unsigned found = 0;
    int code;
    *is_same = true;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        found++;
        *is_same &= has_reference(change, count, sqlite3_column_int(statement, 0),
                                  store_db_column(statement, 1));
    }
    sqlite3_reset(statement);
    *is_same &= found == distinct;
    return code == SQLITE_DONE ? 0 : ERR_UNAVAILABLE;
}

// Brings refs from what the old value referred to, if there was one, to what the new one does.
static int write_references(struct store_writer *writer, const struct store_change *change,
                            bool exists)
{
    unsigned count = change->value == NULL ? 0 : change->reference_count;
    bool is_same = count == 0;
    int err = exists ? compare_references(writer, change, count, &is_same) : 0;
    if (err != 0 || is_same) {
        return err;
    }
    if (exists) {
        store_write_bind(writer, WRITE_REF_CLEAR, change->noun, change->key);
        err = store_write_run(writer, WRITE_REF_CLEAR);
    }
    return err != 0 ? err : put_references(writer, change, count);
}

static int write_secret(struct store_writer *writer, const struct store_change *change, bool exists)
{
    if (change->value != NULL && change->secret == NULL && (change->keep_secret || !exists)) {
        return 0;
    }
    bool is_put = change->secret != NULL && (change->value != NULL || change->reseal);
    enum store_write_statement which = is_put ? WRITE_SECRET_PUT : WRITE_SECRET_CLEAR;
    sqlite3_stmt *statement = store_write_bind(writer, which, change->noun, change->key);
    if (is_put) {
        store_db_bind(statement, 3, str_from_c(change->secret));
    }
    int err = store_write_run(writer, which);
    if (is_put) {
        sqlite3_clear_bindings(statement); // a view into a change that is cleared and freed
    }
    return err;
}

static int write_change(struct store_writer *writer, struct store_change *change, bool exists)
{
    enum store_write_statement which = change->value == NULL ? WRITE_DELETE : WRITE_PUT;
    sqlite3_stmt *statement = store_write_bind(writer, which, change->noun, change->key);
    if (change->value != NULL) {
        store_db_bind(statement, 3, str_from_c(change->value));
        sqlite3_bind_int64(statement, 4, (sqlite3_int64)change->revision);
        sqlite3_bind_int(statement, 5, STORE_RECORD_SCHEMA);
    }
    int err = store_write_run(writer, which);
    if (err == 0) {
        err = write_secret(writer, change, exists);
    }
    return err != 0 ? err : write_references(writer, change, exists);
}

// The value is written, or deleted, with all that belongs to it.
static int make_change(struct store_writer *writer, struct store_change *change, bool exists)
{
    change->is_changed = true;
    change->was_new = !exists;
    if (change->was_new) {
        writer->counts[change->noun]++;
    } else if (change->value == NULL) {
        writer->counts[change->noun]--;
    }
    return write_change(writer, change, exists);
}

int store_change_apply(struct store_writer *writer, struct store_request *request,
                       struct store_change *change, uint64_t revision)
{
    struct present present;
    int err = look_up(writer, change, &present);
    if (err == 0) {
        err = compare_secrets(writer, change, &present);
    }
    if (err != 0 || !check_conditions(request, change, &present)) {
        return err;
    }
    if (change->reseal) {
        INVARIANT(change->if_match != 0 && change->secret != NULL);
        present.is_same = true;
        err = write_secret(writer, change, true);
    }
    if (err != 0) {
        return err;
    }
    if (present.is_same) {
        change->was_same = true;
        change->revision = present.revision;
        return 0;
    }
    change->revision = revision;
    return make_change(writer, change, present.exists);
}

// ---- from another store ----

static int touch(struct store_writer *writer, const struct store_change *change)
{
    sqlite3_stmt *statement = store_write_bind(writer, WRITE_TOUCH, change->noun, change->key);
    sqlite3_bind_int64(statement, 3, (sqlite3_int64)change->revision);
    writer->is_dirty = true;
    return store_write_run(writer, WRITE_TOUCH);
}

// The same value: its revision and its secret may be others.
static int replay_same(struct store_writer *writer, const struct store_change *change,
                       const struct present *present)
{
    int err = present->revision == change->revision ? 0 : touch(writer, change);
    if (err == 0 && change->secret != NULL) {
        writer->is_dirty = true;
        err = write_secret(writer, change, true);
    }
    return err;
}

int store_change_replay(struct store_writer *writer, const struct store_request *request,
                        struct store_change *change)
{
    struct present present;
    int err = look_up(writer, change, &present);
    if (err == 0) {
        err = compare_secrets(writer, change, &present);
    }
    if (err != 0) {
        return err;
    }
    // What this request itself has written is not "as new already".
    bool is_as_new = present.exists && (present.revision > change->revision ||
                                        (present.revision == change->revision && change->is_first));
    change->was_same = true;
    if (change->reseal) {
        // The only condition that is kept here: a newer secret may have come on another way meanwhile.
        bool is_meant =
            present.exists && (change->if_match == 0 || change->if_match == present.revision);
        writer->is_dirty |= is_meant;
        return is_meant ? write_secret(writer, change, true) : 0;
    }
    if ((change->value == NULL && !present.exists) || (request->way == STORE_REPLAY && is_as_new)) {
        return 0;
    }
    if (present.is_same) {
        return replay_same(writer, change, &present);
    }
    change->was_same = false;
    writer->is_dirty = true;
    return make_change(writer, change, present.exists);
}
