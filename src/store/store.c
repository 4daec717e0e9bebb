// SPDX-License-Identifier: MIT
#include "base/invariant.h"
#include "base/log.h"
#include "store/store_int.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof((struct store_status){0}).detail == STORE_DETAIL_LEN, "one bound");

// ---- opening ----

// The file, readable by its owner alone (SQLite gives log and index the same mode), and its entry in
// the directory on disk.
static int make_file(const char *path, struct problems *problems)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return errno == EEXIST ? 0
                               : problems_add(problems, ERR_UNAVAILABLE, "", "%s: %s", path,
                                              strerrordesc_np(errno));
    }
    close(fd);
    char *copy = str_dup(str_from_c(path));
    if (copy == NULL) {
        return problems_add(problems, ERR_MEMORY, "", "%s: out of memory", path);
    }
    int directory = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_synced = directory >= 0 && fsync(directory) == 0;
    int number = errno;
    if (directory >= 0) {
        close(directory);
    }
    free(copy);
    return is_synced ? 0
                     : problems_add(problems, ERR_UNAVAILABLE, "", "%s: %s", path,
                                    strerrordesc_np(number));
}

static int on_commit(void *context, sqlite3 *db, const char *name, int pages)
{
    (void)db;
    (void)name;
    struct store_writer *writer = context;
    writer->wal_pages = pages < 0 ? 0 : (unsigned)pages;
    return SQLITE_OK;
}

// The text that a query gives; none: "".
static void read_text(struct store *store, const char *sql, char *to, size_t size)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(store->writer.db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        str_copy(to, size, store_db_column(statement, 0));
    }
    sqlite3_finalize(statement);
}

static int read_meta(struct store *store, struct problems *problems)
{
    static const char *const count_sql[NOUN_COUNT] = {
        [NOUN_ROUTE] = "SELECT value FROM meta WHERE name = 'count_route'",
        [NOUN_POOL] = "SELECT value FROM meta WHERE name = 'count_pool'",
        [NOUN_CERTIFICATE] = "SELECT value FROM meta WHERE name = 'count_certificate'",
        [NOUN_TENANT] = "SELECT value FROM meta WHERE name = 'count_tenant'",
        [NOUN_KEY] = "SELECT value FROM meta WHERE name = 'count_key'",
        [NOUN_TICKETS] = "SELECT value FROM meta WHERE name = 'count_tickets'",
    };
    struct store_writer *writer = &store->writer;
    int64_t number = 0;
    int err = store_db_number(writer->db, store->path,
                              "SELECT value FROM meta WHERE name = 'revision'", &number, problems);
    writer->revision = (uint64_t)number;
    atomic_init(&store->revision, writer->revision);
    for (int noun = 0; err == 0 && noun < NOUN_COUNT; noun++) {
        err = store_db_number(writer->db, store->path, count_sql[noun], &number, problems);
        writer->counts[noun] = (uint64_t)number;
        atomic_init(&store->counts[noun], writer->counts[noun]);
    }
    if (err == 0) {
        read_text(store, "SELECT value FROM meta WHERE name = 'node_id'", store->node_id,
                  sizeof store->node_id);
        read_text(store, "SELECT value FROM meta WHERE name = 'mark'", store->mark,
                  sizeof store->mark);
        memcpy(writer->mark, store->mark, sizeof writer->mark);
    }
    return err;
}

static int open_writer(struct store *store, bool is_replica, struct problems *problems)
{
    static const char *const sql[] = {
#define X(name, text) [name] = (text),
        STORE_WRITE_STATEMENTS(X)
#undef X
    };
    struct store_writer *writer = &store->writer;
    int err = store_db_open(store->path, &writer->db, problems);
    if (err == 0 && sqlite3_db_readonly(writer->db, NULL) != 0) {
        return problems_add(problems, ERR_UNAVAILABLE, "", "%s cannot be written", store->path);
    }
    if (err == 0) {
        unsigned count;
        // The check comes first: nothing is changed in a file that is not ours.
        const struct store_step *steps = store_schema_steps(&count);
        err = store_schema_migrate(writer->db, store->path, steps, count, problems);
    }
    if (err == 0) {
        err = store_db_run(writer->db, store->path,
                           "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                           "PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864;"
                           "PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY;"
                           "PRAGMA secure_delete = ON;"
                           "PRAGMA cache_size = -6144",
                           problems);
    }
    if (err == 0 && is_replica) {
        // What a crash of the machine takes comes again; the file stays whole.
        err = store_db_run(writer->db, store->path, "PRAGMA synchronous = NORMAL", problems);
    }
    int64_t is_wal = 0;
    if (err == 0) {
        err = store_db_number(writer->db, store->path,
                              "SELECT journal_mode = 'wal' FROM pragma_journal_mode", &is_wal,
                              problems);
    }
    if (err == 0 && !is_wal) {
        err = problems_add(problems, ERR_UNAVAILABLE, "",
                           "%s: the file system cannot hold a shared log (WAL)", store->path);
    }
    if (err == 0) {
        err = store_db_prepare(writer->db, store->path, sql, WRITE_STATEMENT_COUNT,
                               writer->statements, problems);
    }
    if (err != 0) {
        return err;
    }
    sqlite3_wal_hook(writer->db, on_commit, writer);
    writer->is_writable = true;
    writer->is_state_told = true; // a feed begins as writable
    store->status.is_writable = true;
    return read_meta(store, problems);
}

static int open_reading(struct store *store, struct problems *problems)
{
    static const char *const sql[] = {
#define X(name, text) [name] = (text),
        STORE_READ_STATEMENTS(X)
#undef X
    };
    int err = store_db_open(store->path, &store->read_db, problems);
    if (err == 0) {
        err = store_db_run(store->read_db, store->path,
                           "PRAGMA query_only = ON; PRAGMA cache_size = -2048", problems);
    }
    if (err == 0) {
        err = store_db_prepare(store->read_db, store->path, sql, READ_STATEMENT_COUNT,
                               store->read_statements, problems);
    }
    return err;
}

static int open_others(struct store *store, struct problems *problems)
{
    int err = open_reading(store, problems);
    if (err == 0) {
        err = store_db_open(store->path, &store->checkpoint_db, problems);
    }
    if (err == 0) {
        err = store_db_run(store->checkpoint_db, store->path,
                           "PRAGMA synchronous = FULL; PRAGMA cache_size = -64", problems);
    }
    return err;
}

// A path that SQLite takes as a file name, whatever it looks like.
static char *make_path(struct str path)
{
    if (path.p[0] == '/') {
        return str_dup(path);
    }
    struct buf text;
    buf_init(&text, 0);
    buf_put(&text, STR("./"));
    buf_put(&text, path);
    char *copy = text.failed ? NULL : str_dup(buf_str(&text));
    buf_fini(&text);
    return copy;
}

static void free_store(struct store **store)
{
    struct store *s = *store;
    *store = NULL;
    store_db_finalize(s->writer.statements, WRITE_STATEMENT_COUNT);
    store_db_finalize(s->read_statements, READ_STATEMENT_COUNT);
    // The writer last: the last connection moves what is left in the log into the file.
    sqlite3_close(s->checkpoint_db);
    sqlite3_close(s->read_db);
    sqlite3_close(s->writer.db);
    store_forget_read(s);
    buf_fini(&s->read_buf);
    store_lock_give(&s->lock_fd);
    pthread_mutex_destroy(&s->mutex);
    pthread_cond_destroy(&s->wake);
    pthread_cond_destroy(&s->wake_checkpoint);
    free(s->path);
    free(s);
}

// Takes `path` (NULL: memory was out). NULL: memory is out.
static struct store *make_store(char *path)
{
    struct store *s = path == NULL ? NULL : calloc(1, sizeof *s);
    if (s == NULL) {
        free(path);
        return NULL;
    }
    s->lock_fd = -1;
    s->last = &s->first;
    buf_init(&s->read_buf, 0);
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->wake_checkpoint, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    s->path = path;
    return s;
}

static int open_path(struct store **store, char *path, bool is_replica, struct problems *problems)
{
    struct store *s = make_store(path);
    if (s == NULL) {
        return problems_add(problems, ERR_MEMORY, "", "out of memory");
    }
    int err = store_lock_take(s->path, &s->lock_fd, problems);
    if (err == 0) {
        err = make_file(s->path, problems);
    }
    if (err == 0) {
        err = open_writer(s, is_replica, problems);
    }
    if (err == 0) {
        err = open_others(s, problems);
    }
    if (err == 0 && stat(s->path, &s->file) != 0) {
        err = problems_add(problems, ERR_UNAVAILABLE, "", "%s: %s", s->path, strerror(errno));
    }
    if (err != 0) {
        free_store(&s);
        return err;
    }
    if ((s->file.st_mode & S_IRWXO) != 0) {
        log_warning("%s: every user of this machine has access to it, and it may hold private keys",
                    s->path);
    }
    *store = s;
    return 0;
}

int store_open(struct store **store, struct str url, struct problems *problems)
{
    *store = NULL;
    if (!str_starts(url, STR("sqlite:")) || url.len == STR("sqlite:").len ||
        memchr(url.p, '\0', url.len) != NULL) {
        return problems_add(problems, ERR_INVALID, "", "\"%.*s\" is not sqlite:PATH",
                            (int)(url.len > 200 ? 200 : url.len), url.p);
    }
    return open_path(store, make_path(str_from(url, STR("sqlite:").len)), false, problems);
}

int store_open_replica(struct store **store, const char *path, struct problems *problems)
{
    *store = NULL;
    if (path[0] == '\0') {
        return problems_add(problems, ERR_INVALID, "", "the replica has no path");
    }
    return open_path(store, make_path(str_from_c(path)), true, problems);
}

// All statements of the reading connection see one moment; the writer's stands in for its meta.
static int hold_moment(struct store *store, struct problems *problems)
{
    int64_t revision;
    int err = open_reading(store, problems);
    if (err == 0) {
        err = store_db_run(store->read_db, store->path, "BEGIN", problems);
    }
    if (err == 0) { // it begins with what is read first
        err =
            store_db_number(store->read_db, store->path,
                            "SELECT value FROM meta WHERE name = 'revision'", &revision, problems);
    }
    if (err == 0) {
        store->writer.db = store->read_db;
        err = read_meta(store, problems);
        store->writer.db = NULL;
    }
    return err;
}

int store_open_shared(struct store **store, const char *path, struct problems *problems)
{
    *store = NULL;
    struct store *s = make_store(make_path(str_from_c(path)));
    if (s == NULL) {
        return problems_add(problems, ERR_MEMORY, "", "out of memory");
    }
    sqlite3 *db = NULL;
    int err = store_db_open(s->path, &db, problems);
    if (err == 0) {
        err = store_schema_check(db, s->path, problems);
    }
    sqlite3_close(db);
    if (err == 0) {
        err = hold_moment(s, problems);
    }
    if (err == 0 && s->mark[0] == '\0') {
        err = problems_add(problems, ERR_INVALID, "", "%s is no replica", s->path);
    }
    if (err != 0) {
        free_store(&s);
        return err;
    }
    *store = s;
    return 0;
}

const char *store_mark(const struct store *store)
{
    return store->mark;
}

void store_set_front(struct store *store, const struct store_front *front)
{
    INVARIANT(!store->has_thread);
    store->front = *front;
}

// ---- the store thread ----

// Waits for requests, or for the time of a probe when the store cannot write. Locked.
static void wait_for_work(struct store *store)
{
    if (store->writer.is_writable && store->writer.is_state_told) {
        pthread_cond_wait(&store->wake, &store->mutex);
        return;
    }
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STORE_PROBE_MS / 1000;
    if (pthread_cond_timedwait(&store->wake, &store->mutex, &until) == ETIMEDOUT) {
        pthread_mutex_unlock(&store->mutex);
        store_write_probe(store);
        pthread_mutex_lock(&store->mutex);
    }
}

// Cuts a group off the queue. Locked.
static struct store_request *take_group(struct store *store)
{
    struct store_request *first = store->first;
    struct store_request **end = &store->first;
    unsigned count = 0;
    uint64_t changes = 0;
    while (*end != NULL && count < STORE_GROUP_MAX &&
           (count == 0 || changes + (*end)->count <= STORE_GROUP_CHANGES_MAX)) {
        changes += (*end)->count;
        count++;
        end = &(*end)->next;
    }
    struct store_request *rest = *end;
    *end = NULL;
    store->first = rest;
    if (rest == NULL) {
        store->last = &store->first;
    }
    store->pending -= count;
    store->pending_changes -= changes;
    return first;
}

static void *store_main(void *argument)
{
    struct store *store = argument;
    pthread_mutex_lock(&store->mutex);
    while (store->first != NULL || !store->is_stopping) {
        if (store->first == NULL) {
            wait_for_work(store);
            continue;
        }
        struct store_request *group = take_group(store);
        pthread_mutex_unlock(&store->mutex);
        store_write_group(store, group);
        pthread_mutex_lock(&store->mutex);
    }
    pthread_mutex_unlock(&store->mutex);
    return NULL;
}

int store_start(struct store *store, struct loop *control, const struct store_feed *feed)
{
    INVARIANT(!store->has_thread);
    store->control = control;
    store->feed = *feed;
    // Signals are for the thread that waits for them.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = store_checkpoint_start(store);
    if (err == 0 && pthread_create(&store->thread, NULL, store_main, store) != 0) {
        store_checkpoint_stop(store);
        err = ERR_SYSTEM;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err == 0) {
        store->has_thread = true;
        pthread_setname_np(store->thread, "store");
    }
    return err;
}

void store_stop(struct store *store)
{
    if (store == NULL || !store->has_thread) {
        return;
    }
    pthread_mutex_lock(&store->mutex);
    store->is_stopping = true;
    pthread_cond_signal(&store->wake);
    pthread_mutex_unlock(&store->mutex);
    pthread_join(store->thread, NULL);
    store_checkpoint_stop(store);
    store->has_thread = false;
}

void store_close(struct store **store)
{
    struct store *s = *store;
    if (s == NULL) {
        return;
    }
    store_stop(s);
    while (s->first != NULL) { // never started
        struct store_request *request = s->first;
        s->first = request->next;
        store_request_free(&request);
    }
    free_store(store);
}

// ---- any thread ----

void store_submit(struct store *store, struct store_request **request)
{
    struct store_request *r = *request;
    *request = NULL;
    r->next = NULL;
    if (r->way == STORE_WRITE && store->front.submit != NULL) {
        r->loop = r->loop == NULL ? store->control : r->loop;
        store->front.submit(store->front.context, r);
        return;
    }
    pthread_mutex_lock(&store->mutex);
    bool is_full =
        store->pending >= STORE_PENDING_MAX ||
        (store->pending > 0 && store->pending_changes + r->count > STORE_PENDING_CHANGES_MAX);
    bool is_stopping = store->is_stopping;
    r->is_doomed = r->way != STORE_WRITE && store->failing > 0;
    if (is_full && !is_stopping && r->way != STORE_WRITE) {
        store_doom_one(store, r);
    }
    if (!is_full && !is_stopping) {
        *store->last = r;
        store->last = &r->next;
        store->pending++;
        store->pending_changes += r->count;
    }
    pthread_mutex_unlock(&store->mutex);
    if (!is_full && !is_stopping) {
        pthread_cond_signal(&store->wake); // now: with the mutex it would wake only to wait for it
    } else {
        store_request_fail(r, ERR_UNAVAILABLE,
                           is_stopping ? "the node is stopping"
                                       : "too many changes wait to be written");
        store_request_deliver(store, r);
    }
}

void store_get_status(struct store *store, struct store_status *status)
{
    pthread_mutex_lock(&store->mutex);
    *status = store->status;
    status->pending = store->pending;
    pthread_mutex_unlock(&store->mutex);
}
