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

// ---- what holds between changes ----

struct key_entry {
    unsigned number; // of a change of the key, from 1; 0: free
    bool is_fed;
};

struct key_table {
    struct key_entry *entries;
    size_t size; // a power of 2
};

static int make_keys(struct key_table *keys, unsigned count)
{
    keys->size = 4;
    while (keys->size < (size_t)count * 2) {
        keys->size *= 2;
    }
    keys->entries = calloc(keys->size, sizeof *keys->entries);
    return keys->entries == NULL ? ERR_MEMORY : 0;
}

// The entry of the change's key; its number is 0 when no change of the key has one yet.
static struct key_entry *find_key(const struct key_table *keys, const struct store_request *request,
                                  const struct store_change *change)
{
    struct str key = str_from_c(change->key);
    size_t at = (hash_str(key) + (size_t)change->noun) & (keys->size - 1);
    while (keys->entries[at].number != 0) {
        const struct store_change *other = &request->changes[keys->entries[at].number - 1];
        if (other->noun == change->noun && str_eq(str_from_c(other->key), key)) {
            break;
        }
        at = (at + 1) & (keys->size - 1);
    }
    return &keys->entries[at];
}

// Marks the last change of each key and the last that changed it. 0 or ERR_MEMORY.
static int mark_last(struct store_request *request)
{
    if (request->count == 1) {
        request->changes[0].is_last = !request->changes[0].reseal;
        request->changes[0].is_fed = request->changes[0].is_changed;
        return 0;
    }
    struct key_table keys;
    if (make_keys(&keys, request->count) != 0) {
        return ERR_MEMORY;
    }
    for (unsigned i = request->count; i-- > 0;) {
        struct store_change *change = &request->changes[i];
        if (change->reseal) {
            continue; // it says nothing of the key's value
        }
        struct key_entry *entry = find_key(&keys, request, change);
        if (entry->number == 0) {
            entry->number = i + 1;
            change->is_last = true;
        }
        change->is_fed = change->is_changed && !entry->is_fed;
        entry->is_fed |= change->is_changed;
    }
    free(keys.entries);
    return 0;
}

// Marks the first change of each key. 0 or ERR_MEMORY.
static int mark_first(struct store_request *request)
{
    if (request->count == 1) {
        request->changes[0].is_first = true;
        return 0;
    }
    struct key_table keys;
    if (make_keys(&keys, request->count) != 0) {
        return ERR_MEMORY;
    }
    for (unsigned i = 0; i < request->count; i++) {
        struct key_entry *entry = find_key(&keys, request, &request->changes[i]);
        request->changes[i].is_first = entry->number == 0;
        if (entry->number == 0) {
            entry->number = i + 1;
        }
    }
    free(keys.entries);
    return 0;
}

// What a stored value refers to must be there when the request is done.
static int check_references(struct store_writer *writer, struct store_request *request,
                            struct store_change *change)
{
    for (unsigned i = 0; i < change->reference_count; i++) {
        const struct store_reference *reference = &change->references[i];
        int code =
            sqlite3_step(store_write_bind(writer, WRITE_EXISTS, reference->noun, reference->key));
        sqlite3_reset(writer->statements[WRITE_EXISTS]);
        if (code == SQLITE_ROW) {
            continue;
        }
        if (code != SQLITE_DONE) {
            return ERR_UNAVAILABLE;
        }
        store_refuse(request, change, STORE_DANGLING, i);
    }
    return 0;
}

// Nothing may refer to what the request has deleted.
static int check_unused(struct store_writer *writer, struct store_request *request,
                        struct store_change *change)
{
    sqlite3_stmt *statement = store_write_bind(writer, WRITE_REF_TO, change->noun, change->key);
    sqlite3_bind_int(statement, 3, STORE_REFERRER_MAX + 1);
    unsigned count = 0;
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        bool is_more = count++ == STORE_REFERRER_MAX;
        store_refuse_used(request, change, (enum noun)sqlite3_column_int(statement, 0),
                          is_more ? STR("") : store_db_column(statement, 1));
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

// All changes of the request, inside of its savepoint. *has_changed: it has a revision of its own.
static int apply_changes(struct store *store, struct store_request *request, bool *has_changed)
{
    struct store_writer *writer = &store->writer;
    uint64_t revision = writer->revision + 1;
    *has_changed = false;
    for (unsigned i = 0; i < request->count; i++) {
        int err = store_change_apply(writer, request, &request->changes[i], revision);
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
        request->batch = store_batch_new(store, request, revision);
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
    int err = store_write_run(writer, WRITE_SAVEPOINT);
    if (err == 0) {
        err = apply_changes(store, request, &has_changed);
    }
    if (err != 0) {
        return err;
    }
    if (request->err != 0) {
        memcpy(writer->counts, counts, sizeof counts);
        store_request_refuse(request);
        err = store_write_run(writer, WRITE_UNDO);
    } else if (has_changed) {
        writer->revision++;
        writer->is_dirty = true;
        writer->mark[0] = '\0'; // the file goes a way of its own: it is no replica any more
    }
    return err != 0 ? err : store_write_run(writer, WRITE_RELEASE);
}

// Of another store: nothing to refuse, so nothing to undo alone. A failure is the whole group's.
static int replay_request(struct store *store, struct store_request *request)
{
    struct store_writer *writer = &store->writer;
    if (request->is_doomed) {
        store_request_fail(request, ERR_UNAVAILABLE, "a change before this one was not written");
        return 0;
    }
    if (mark_first(request) != 0) {
        return ERR_MEMORY;
    }
    int err = 0;
    bool has_changed = false;
    for (unsigned i = 0; i < request->count && err == 0; i++) {
        err = store_change_replay(writer, request, &request->changes[i]);
        has_changed |= request->changes[i].is_changed;
    }
    if (err == 0) {
        err = mark_last(request);
    }
    bool is_later = request->revision > writer->revision;
    if (err == 0 && (has_changed || is_later)) {
        writer->is_dirty = true;
        writer->revision = is_later ? request->revision : writer->revision;
        // Also without records: who listens learns of the revision.
        request->batch = store_batch_new(store, request, writer->revision);
        err = request->batch == NULL ? ERR_MEMORY : 0;
    }
    if (request->mark[0] != '\0' && strcmp(request->mark, writer->mark) != 0) {
        writer->is_dirty = true;
        memcpy(writer->mark, request->mark, sizeof writer->mark);
    }
    return err;
}

// ---- the group ----

static int write_meta(struct store_writer *writer, const char *name, uint64_t value)
{
    sqlite3_stmt *statement = writer->statements[WRITE_META];
    store_db_bind(statement, 1, str_from_c(name));
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)value);
    return store_write_run(writer, WRITE_META);
}

static int write_mark(struct store_writer *writer)
{
    sqlite3_stmt *statement = writer->statements[WRITE_META];
    store_db_bind(statement, 1, STR("mark"));
    store_db_bind(statement, 2, str_from_c(writer->mark));
    return store_write_run(writer, WRITE_META);
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
    return err != 0 || strcmp(writer->mark, store->mark) == 0 ? err : write_mark(writer);
}

static int apply_group(struct store *store, struct store_request *first)
{
    struct store_writer *writer = &store->writer;
    writer->is_dirty = false;
    int err = store_write_run(writer, WRITE_BEGIN);
    for (struct store_request *r = first; err == 0 && r != NULL; r = r->next) {
        err = r->way == STORE_WRITE ? apply_request(store, r) : replay_request(store, r);
    }
    if (err == 0 && writer->is_dirty) {
        err = write_totals(store);
    }
    return err != 0 ? err : store_write_run(writer, WRITE_COMMIT);
}

// Back to what was committed.
static void undo_group(struct store *store)
{
    struct store_writer *writer = &store->writer;
    if (!sqlite3_get_autocommit(writer->db)) {
        (void)store_write_run(writer, WRITE_ROLLBACK);
    }
    writer->revision = atomic_load_explicit(&store->revision, memory_order_relaxed);
    memcpy(writer->mark, store->mark, sizeof writer->mark);
    for (int noun = 0; noun < NOUN_COUNT; noun++) {
        writer->counts[noun] = committed_count(store, noun);
    }
}

static void publish_totals(struct store *store)
{
    struct store_writer *writer = &store->writer;
    memcpy(store->mark, writer->mark, sizeof store->mark);
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
    if (!is_in_place(store, detail, size)) {
        set_state(store, false, detail, 0);
        return ERR_UNAVAILABLE;
    }
    int err = apply_group(store, first);
    if (err == 0 && store->writer.is_dirty) {
        publish_totals(store);
        set_state(store, true, "", clock_monotonic_ns() - began_ns);
    }
    if (err == 0) {
        return 0; // when nothing was written, that says nothing about the disk
    }
    if (err == ERR_MEMORY) { // nor does this
        snprintf(detail, size, "out of memory");
        undo_group(store);
        return err;
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
    store_doom(store, first, err != 0);
    while (first != NULL) {
        struct store_request *next = first->next;
        if (err != 0) {
            store_request_fail(first, err, detail);
            first->revision = first->way == STORE_WRITE ? 0 : first->revision;
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
    int err = store_write_run(writer, WRITE_BEGIN);
    if (err == 0) {
        err = write_meta(writer, "revision", writer->revision);
    }
    if (err == 0) {
        err = store_write_run(writer, WRITE_COMMIT);
    }
    if (err == 0) {
        set_state(store, true, "", clock_monotonic_ns() - began_ns);
        return;
    }
    store_db_describe(writer->db, detail, sizeof detail);
    undo_group(store);
    set_state(store, false, detail, 0);
}
