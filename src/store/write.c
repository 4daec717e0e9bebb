// SPDX-License-Identifier: MIT
// One group of requests: a transaction, with a savepoint for each request.
//
//     BEGIN ─► for each request: SAVEPOINT, changes in order, references ─► RELEASE | ROLLBACK TO
//           ─► revision and counts ─► COMMIT (one sync) ─► feed and answers
//
// A function's err is the store's fault (disk, memory) and fails the whole group; what a request asked
// wrongly is in its own err and undoes that request alone.
#include "base/clock.h"
#include "base/hash.h"
#include "base/invariant.h"
#include "base/log.h"
#include "store/store_int.h"
#include <errno.h>

// Names of the counts in meta.
static const char *const count_names[NOUN_COUNT] = {
    [NOUN_ROUTE] = "count_route",
    [NOUN_POOL] = "count_pool",
    [NOUN_CERTIFICATE] = "count_certificate",
    [NOUN_TENANT] = "count_tenant",
    [NOUN_KEY] = "count_key",
    [NOUN_TICKETS] = "count_tickets",
};

// Runs a statement that gives no rows.
static int run(struct store_writer *writer, enum store_write_statement which)
{
    int code = sqlite3_step(writer->statements[which]);
    sqlite3_reset(writer->statements[which]);
    return code == SQLITE_DONE ? 0 : ERR_UNAVAILABLE;
}

static sqlite3_stmt *bind_key(struct store_writer *writer, enum store_write_statement which,
                              enum noun noun, const char *key)
{
    sqlite3_stmt *statement = writer->statements[which];
    sqlite3_bind_int(statement, 1, (int)noun);
    store_db_bind(statement, 2, str_from_c(key));
    return statement;
}

static void refuse(struct store_request *request, struct store_change *change, int err)
{
    change->err = err;
    request->err = err; // reset_answers() makes it the first one's
}

// ---- one change ----

// What is stored under a change's key.
struct present {
    bool exists;
    bool is_same;
    uint64_t revision;
};

static int look_up(struct store_writer *writer, const struct store_change *change,
                   struct present *present)
{
    sqlite3_stmt *statement = bind_key(writer, WRITE_GET, change->noun, change->key);
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
    int code = sqlite3_step(bind_key(writer, WRITE_SECRET_EXISTS, change->noun, change->key));
    sqlite3_reset(writer->statements[WRITE_SECRET_EXISTS]);
    present->is_same = (code == SQLITE_ROW) == (change->secret != NULL);
    return code == SQLITE_ROW || code == SQLITE_DONE ? 0 : ERR_UNAVAILABLE;
}

// True when the change may be made. RFC 9110 13.2.1: 404 comes before 412.
static bool check_conditions(struct store_request *request, struct store_change *change,
                             const struct present *present)
{
    const char *name = noun_name(change->noun).p;
    if (change->value == NULL && !present->exists) {
        refuse(request, change, ERR_NOT_FOUND);
        (void)problems_add(&change->problems, ERR_NOT_FOUND, "", "%s \"%.300s\" does not exist",
                           name, change->key);
        return false;
    }
    if (change->if_none_match && present->exists) {
        refuse(request, change, ERR_PRECONDITION);
        (void)problems_add(&change->problems, ERR_PRECONDITION, "", "%s \"%.300s\" exists already",
                           name, change->key);
        return false;
    }
    bool must_exist = change->if_match_any || change->if_match != 0;
    if (must_exist && !present->exists) {
        refuse(request, change, ERR_PRECONDITION);
        (void)problems_add(&change->problems, ERR_PRECONDITION, "", "%s \"%.300s\" does not exist",
                           name, change->key);
        return false;
    }
    if (change->if_match != 0 && change->if_match != present->revision) {
        refuse(request, change, ERR_PRECONDITION);
        (void)problems_add(&change->problems, ERR_PRECONDITION, "",
                           "%s \"%.300s\" has revision %llu, not %llu", name, change->key,
                           (unsigned long long)present->revision,
                           (unsigned long long)change->if_match);
        return false;
    }
    return true;
}

static int put_references(struct store_writer *writer, const struct store_change *change,
                          unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        sqlite3_stmt *statement = bind_key(writer, WRITE_REF_ADD, change->noun, change->key);
        sqlite3_bind_int(statement, 3, (int)change->references[i].noun);
        store_db_bind(statement, 4, str_from_c(change->references[i].key));
        int err = run(writer, WRITE_REF_ADD);
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
    sqlite3_stmt *statement = bind_key(writer, WRITE_REF_FROM, change->noun, change->key);
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
        bind_key(writer, WRITE_REF_CLEAR, change->noun, change->key);
        err = run(writer, WRITE_REF_CLEAR);
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
    sqlite3_stmt *statement = bind_key(writer, which, change->noun, change->key);
    if (is_put) {
        store_db_bind(statement, 3, str_from_c(change->secret));
    }
    int err = run(writer, which);
    if (is_put) {
        sqlite3_clear_bindings(statement); // a view into a change that is cleared and freed
    }
    return err;
}

static int write_change(struct store_writer *writer, struct store_change *change, bool exists)
{
    enum store_write_statement which = change->value == NULL ? WRITE_DELETE : WRITE_PUT;
    sqlite3_stmt *statement = bind_key(writer, which, change->noun, change->key);
    if (change->value != NULL) {
        store_db_bind(statement, 3, str_from_c(change->value));
        sqlite3_bind_int64(statement, 4, (sqlite3_int64)change->revision);
        sqlite3_bind_int(statement, 5, STORE_RECORD_SCHEMA);
    }
    int err = run(writer, which);
    if (err == 0) {
        err = write_secret(writer, change, exists);
    }
    return err != 0 ? err : write_references(writer, change, exists);
}

static int apply_change(struct store_writer *writer, struct store_request *request,
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
    change->is_changed = true;
    change->was_new = !present.exists;
    change->revision = revision;
    if (change->was_new) {
        writer->counts[change->noun]++;
    } else if (change->value == NULL) {
        writer->counts[change->noun]--;
    }
    return write_change(writer, change, present.exists);
}

// ---- what holds between changes ----

struct key_entry {
    unsigned number; // of the key's last change, from 1; 0: free
    bool is_fed;
};

// Marks the last change of each key and the last that changed it. 0 or ERR_MEMORY.
static int mark_last(struct store_request *request)
{
    if (request->count == 1) {
        request->changes[0].is_last = !request->changes[0].reseal;
        request->changes[0].is_fed = request->changes[0].is_changed;
        return 0;
    }
    size_t size = 4;
    while (size < (size_t)request->count * 2) {
        size *= 2;
    }
    struct key_entry *entries = calloc(size, sizeof *entries);
    if (entries == NULL) {
        return ERR_MEMORY;
    }
    for (unsigned i = request->count; i-- > 0;) {
        struct store_change *change = &request->changes[i];
        if (change->reseal) {
            continue; // it says nothing of the key's value
        }
        struct str key = str_from_c(change->key);
        size_t at = (hash_str(key) + (size_t)change->noun) & (size - 1);
        while (entries[at].number != 0) {
            const struct store_change *other = &request->changes[entries[at].number - 1];
            if (other->noun == change->noun && str_eq(str_from_c(other->key), key)) {
                break;
            }
            at = (at + 1) & (size - 1);
        }
        if (entries[at].number == 0) {
            entries[at].number = i + 1;
            change->is_last = true;
        }
        change->is_fed = change->is_changed && !entries[at].is_fed;
        entries[at].is_fed |= change->is_changed;
    }
    free(entries);
    return 0;
}

// What a stored value refers to must be there when the request is done.
static int check_references(struct store_writer *writer, struct store_request *request,
                            struct store_change *change)
{
    for (unsigned i = 0; i < change->reference_count; i++) {
        const struct store_reference *reference = &change->references[i];
        int code = sqlite3_step(bind_key(writer, WRITE_EXISTS, reference->noun, reference->key));
        sqlite3_reset(writer->statements[WRITE_EXISTS]);
        if (code == SQLITE_ROW) {
            continue;
        }
        if (code != SQLITE_DONE) {
            return ERR_UNAVAILABLE;
        }
        refuse(request, change, ERR_INVALID);
        (void)problems_add(
            &change->problems, ERR_INVALID, reference->pointer == NULL ? "" : reference->pointer,
            "%s \"%.300s\" does not exist", noun_name(reference->noun).p, reference->key);
    }
    return 0;
}

// Nothing may refer to what the request has deleted.
static int check_unused(struct store_writer *writer, struct store_request *request,
                        struct store_change *change)
{
    sqlite3_stmt *statement = bind_key(writer, WRITE_REF_TO, change->noun, change->key);
    sqlite3_bind_int(statement, 3, STORE_REFERRER_MAX + 1);
    unsigned count = 0;
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        refuse(request, change, ERR_IN_USE);
        if (count++ == STORE_REFERRER_MAX) {
            (void)problems_add(&change->problems, ERR_IN_USE, "", "and by more");
            continue;
        }
        struct str key = store_db_column(statement, 1);
        (void)problems_add(&change->problems, ERR_IN_USE, "",
                           "%s \"%.100s\" is used by %s \"%.*s\"", noun_name(change->noun).p,
                           change->key, noun_name((enum noun)sqlite3_column_int(statement, 0)).p,
                           (int)(key.len > 300 ? 300 : key.len), key.p);
    }
    sqlite3_reset(statement);
    return code == SQLITE_DONE ? 0 : ERR_UNAVAILABLE;
}

static int check_result(struct store_writer *writer, struct store_request *request)
{
    for (unsigned i = 0; i < request->count; i++) {
        struct store_change *change = &request->changes[i];
        if (!change->is_last || change->err != 0) {
            continue;
        }
        int err = change->value == NULL ? check_unused(writer, request, change)
                                        : check_references(writer, request, change);
        if (err != 0) {
            return err;
        }
    }
    return 0;
}

// ---- one request ----

// Of a refused request.
static void reset_answers(struct store_request *request)
{
    request->revision = 0;
    for (unsigned i = request->count; i-- > 0;) {
        struct store_change *change = &request->changes[i];
        if (change->err != 0) {
            request->err = change->err;
        }
        change->was_new = false;
        change->was_same = false;
        change->revision = 0;
    }
}

// All changes of the request, inside of its savepoint. *has_changed: it has a revision of its own.
static int apply_changes(struct store *store, struct store_request *request, bool *has_changed)
{
    struct store_writer *writer = &store->writer;
    uint64_t revision = writer->revision + 1;
    *has_changed = false;
    for (unsigned i = 0; i < request->count; i++) {
        int err = apply_change(writer, request, &request->changes[i], revision);
        if (err != 0) {
            return err;
        }
        *has_changed |= request->changes[i].is_changed;
    }
    if (request->count > 0 && mark_last(request) != 0) {
        store_request_fail(request, ERR_MEMORY, "out of memory");
        return 0;
    }
    int err = check_result(writer, request);
    if (err != 0 || request->err != 0) {
        return err;
    }
    request->revision = *has_changed ? revision : writer->revision;
    if (*has_changed) {
        // Here, where it can still fail: nothing may fail between COMMIT and the tables.
        request->batch = store_batch_new(store, request);
        if (request->batch == NULL) {
            store_request_fail(request, ERR_MEMORY, "out of memory");
        }
    }
    return 0;
}

static int apply_request(struct store *store, struct store_request *request)
{
    struct store_writer *writer = &store->writer;
    uint64_t counts[NOUN_COUNT];
    memcpy(counts, writer->counts, sizeof counts);
    bool has_changed;
    int err = run(writer, WRITE_SAVEPOINT);
    if (err == 0) {
        err = apply_changes(store, request, &has_changed);
    }
    if (err != 0) {
        return err;
    }
    if (request->err != 0) {
        memcpy(writer->counts, counts, sizeof counts);
        reset_answers(request);
        err = run(writer, WRITE_UNDO);
    } else if (has_changed) {
        writer->revision++;
    }
    return err != 0 ? err : run(writer, WRITE_RELEASE);
}

// ---- the group ----

static int write_meta(struct store_writer *writer, const char *name, uint64_t value)
{
    sqlite3_stmt *statement = writer->statements[WRITE_META];
    store_db_bind(statement, 1, str_from_c(name));
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)value);
    return run(writer, WRITE_META);
}

static uint64_t committed_count(struct store *store, int noun)
{
    return atomic_load_explicit(&store->counts[noun], memory_order_relaxed);
}

static int write_totals(struct store *store)
{
    struct store_writer *writer = &store->writer;
    int err = write_meta(writer, "revision", writer->revision);
    for (int noun = 0; err == 0 && noun < NOUN_COUNT; noun++) {
        if (writer->counts[noun] != committed_count(store, noun)) {
            err = write_meta(writer, count_names[noun], writer->counts[noun]);
        }
    }
    return err;
}

static int apply_group(struct store *store, struct store_request *first)
{
    struct store_writer *writer = &store->writer;
    uint64_t before = writer->revision;
    int err = run(writer, WRITE_BEGIN);
    for (struct store_request *r = first; err == 0 && r != NULL; r = r->next) {
        err = apply_request(store, r);
    }
    if (err == 0 && writer->revision != before) {
        err = write_totals(store);
    }
    return err != 0 ? err : run(writer, WRITE_COMMIT);
}

// Back to what was committed.
static void undo_group(struct store *store)
{
    struct store_writer *writer = &store->writer;
    if (!sqlite3_get_autocommit(writer->db)) {
        (void)run(writer, WRITE_ROLLBACK);
    }
    writer->revision = atomic_load_explicit(&store->revision, memory_order_relaxed);
    for (int noun = 0; noun < NOUN_COUNT; noun++) {
        writer->counts[noun] = committed_count(store, noun);
    }
}

static void publish_totals(struct store *store)
{
    struct store_writer *writer = &store->writer;
    for (int noun = 0; noun < NOUN_COUNT; noun++) {
        atomic_store_explicit(&store->counts[noun], writer->counts[noun], memory_order_relaxed);
    }
    // Release pairs with the acquire in store_revision().
    atomic_store_explicit(&store->revision, writer->revision, memory_order_release);
}

// Notes whether the store can write, and tells the control loop once when that changes.
static void set_state(struct store *store, bool is_writable, const char *detail, uint64_t took_ns)
{
    struct store_writer *writer = &store->writer;
    pthread_mutex_lock(&store->mutex);
    store->status.is_writable = is_writable;
    str_copy(store->status.detail, sizeof store->status.detail, str_from_c(detail));
    if (is_writable) {
        store->status.commits++;
        store->status.last_commit_ns = took_ns;
    }
    pthread_mutex_unlock(&store->mutex);
    if (is_writable != writer->is_writable) {
        writer->is_writable = is_writable;
        writer->is_state_told = false;
        if (is_writable) {
            log_info("%s: can be written again", store->path);
        } else {
            log_error("%s: cannot be written: %s", store->path, detail);
        }
    }
    if (!writer->is_state_told) {
        // Without memory it is told with the next group or probe.
        writer->is_state_told = store_state_deliver(store, is_writable, detail);
    }
}

// SQLite goes on writing into a file that was moved away, deleted or replaced; nothing of it would be
// there after a restart. False, with *detail, when the path is not the open file any more.
static bool is_in_place(const struct store *store, char *detail, size_t size)
{
    struct stat now;
    if (stat(store->path, &now) != 0) {
        snprintf(detail, size, "the file is gone: %s", strerror(errno));
        return false;
    }
    if (now.st_dev != store->file.st_dev || now.st_ino != store->file.st_ino || now.st_size == 0) {
        snprintf(detail, size, "the file was replaced or emptied while it was in use");
        return false;
    }
    return true;
}

// *detail is filled on failure.
static int commit_group(struct store *store, struct store_request *first, char *detail, size_t size)
{
    uint64_t began_ns = clock_monotonic_ns();
    uint64_t before = store->writer.revision;
    if (!is_in_place(store, detail, size)) {
        set_state(store, false, detail, 0);
        return ERR_UNAVAILABLE;
    }
    int err = apply_group(store, first);
    if (err == 0 && store->writer.revision != before) {
        publish_totals(store);
        set_state(store, true, "", clock_monotonic_ns() - began_ns);
    }
    if (err == 0) {
        return 0; // when nothing was written, that says nothing about the disk
    }
    store_db_describe(store->writer.db, detail, size);
    undo_group(store);
    set_state(store, false, detail, 0);
    return err;
}

void store_write_group(struct store *store, struct store_request *first)
{
    char detail[STORE_DETAIL_LEN] = "";
    int err = commit_group(store, first, detail, sizeof detail);
    while (first != NULL) {
        struct store_request *next = first->next;
        if (err != 0) {
            store_request_fail(first, err, detail);
            first->revision = 0;
        }
        store_request_deliver(store, first);
        first = next;
    }
    store_checkpoint_consider(store);
}

void store_write_probe(struct store *store)
{
    struct store_writer *writer = &store->writer;
    char detail[STORE_DETAIL_LEN];
    if (!is_in_place(store, detail, sizeof detail)) {
        set_state(store, false, detail, 0);
        return;
    }
    uint64_t began_ns = clock_monotonic_ns();
    int err = run(writer, WRITE_BEGIN);
    if (err == 0) {
        err = write_meta(writer, "revision", writer->revision);
    }
    if (err == 0) {
        err = run(writer, WRITE_COMMIT);
    }
    if (err == 0) {
        set_state(store, true, "", clock_monotonic_ns() - began_ns);
        return;
    }
    store_db_describe(writer->db, detail, sizeof detail);
    undo_group(store);
    set_state(store, false, detail, 0);
}
