// SPDX-License-Identifier: MIT
// Reading from a connection of its own: sees the last commit, and waits for nobody. A statement never
// stays open between calls, since that would keep the log from starting over.
#include "store/store_int.h"

static bool is_bad(int code)
{
    return code != SQLITE_ROW && code != SQLITE_DONE;
}

void store_forget_read(struct store *store)
{
    if (store->has_read_secret) {
        explicit_bzero(store->read_buf.p, store->read_buf.len);
        store->has_read_secret = false;
    }
    buf_clear(&store->read_buf);
}

// From a row of (value, revision), and the secret if there is a third column.
static void take_row(struct store *store, sqlite3_stmt *statement, enum noun noun, struct str key,
                     struct store_record *out)
{
    struct str value = store_db_column(statement, 0);
    bool has_secret = sqlite3_column_type(statement, 2) == SQLITE_TEXT; // NULL past the last column
    struct str secret = has_secret ? store_db_column(statement, 2) : STR("");
    // All the room first: a buffer that grows leaves a copy behind.
    (void)buf_reserve(&store->read_buf, key.len + value.len + secret.len + 1);
    buf_put(&store->read_buf, key);
    buf_put(&store->read_buf, value);
    buf_put(&store->read_buf, secret);
    store->has_read_secret = has_secret && !store->read_buf.failed;
    struct str all = buf_str(&store->read_buf);
    *out = (struct store_record){
        .noun = noun,
        .key = str_sub(all, 0, key.len),
        .value = str_sub(all, key.len, value.len),
        .secret = str_from(all, key.len + value.len),
        .revision = (uint64_t)sqlite3_column_int64(statement, 1),
    };
}

static int get(struct store *store, enum store_read_statement which, enum noun noun, struct str key,
               struct store_record *out)
{
    store_forget_read(store);
    sqlite3_stmt *statement = store->read_statements[which];
    sqlite3_bind_int(statement, 1, (int)noun);
    store_db_bind(statement, 2, key);
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        take_row(store, statement, noun, key, out);
    }
    sqlite3_reset(statement);
    if (store->read_buf.failed) {
        buf_fini(&store->read_buf);
        buf_init(&store->read_buf, 0);
        return ERR_MEMORY;
    }
    return code == SQLITE_ROW ? 0 : code == SQLITE_DONE ? ERR_NOT_FOUND : ERR_UNAVAILABLE;
}

int store_get(struct store *store, enum noun noun, struct str key, struct store_record *out)
{
    return get(store, READ_GET, noun, key, out);
}

int store_get_secret(struct store *store, enum noun noun, struct str key, struct store_record *out)
{
    return get(store, READ_GET_SECRET, noun, key, out);
}

// A list under way.
struct list_run {
    enum noun noun;
    unsigned left; // visits; 0: no bound
    bool is_over;
    bool (*visit)(void *context, const struct store_record *record);
    void *context;
};

// Visits the rows (key, value, revision) of a bound statement, and resets it.
static int visit_rows(struct list_run *list, sqlite3_stmt *statement)
{
    int code = SQLITE_DONE;
    while (!list->is_over && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        struct store_record record = {
            .noun = list->noun,
            .key = store_db_column(statement, 0),
            .value = store_db_column(statement, 1),
            .revision = (uint64_t)sqlite3_column_int64(statement, 2),
        };
        list->is_over = !list->visit(list->context, &record);
        if (list->left > 0 && --list->left == 0) {
            list->is_over = true;
        }
    }
    sqlite3_reset(statement);
    return is_bad(code) ? ERR_UNAVAILABLE : 0;
}

static void bind_range(sqlite3_stmt *statement, enum noun noun, struct str after, unsigned limit)
{
    sqlite3_bind_int(statement, 1, (int)noun);
    store_db_bind(statement, 2, after);
    // Every text is below every blob: no upper bound.
    sqlite3_bind_zeroblob(statement, 3, 0);
    sqlite3_bind_int64(statement, 4, limit == 0 ? -1 : (sqlite3_int64)limit);
}

// The routes of a host are its own key and the keys from "host/" to before "host0" ('0' follows '/');
// between those two stand other hosts ("host.x", "host-x").
static int list_host(struct store *store, struct list_run *list, struct str after, struct str host)
{
    if (str_cmp(after, host) < 0) {
        sqlite3_stmt *own = store->read_statements[READ_HOST];
        sqlite3_bind_int(own, 1, (int)list->noun);
        store_db_bind(own, 2, host);
        int err = visit_rows(list, own);
        if (err != 0 || list->is_over) {
            return err;
        }
    }
    struct buf bounds;
    buf_init(&bounds, 0);
    buf_put(&bounds, host);
    buf_put_char(&bounds, '/');
    buf_put(&bounds, host);
    buf_put_char(&bounds, '/' + 1);
    int err = ERR_MEMORY;
    if (!bounds.failed) {
        struct str from = str_sub(buf_str(&bounds), 0, host.len + 1);
        sqlite3_stmt *paths = store->read_statements[READ_LIST];
        bind_range(paths, list->noun, str_cmp(after, from) > 0 ? after : from, list->left);
        store_db_bind(paths, 3, str_from(buf_str(&bounds), host.len + 1));
        err = visit_rows(list, paths);
    }
    buf_fini(&bounds);
    return err;
}

int store_list(struct store *store, enum noun noun, struct str after, struct str host,
               unsigned limit, bool (*visit)(void *context, const struct store_record *record),
               void *context)
{
    struct list_run list = {.noun = noun, .left = limit, .visit = visit, .context = context};
    if (host.len == 0) {
        sqlite3_stmt *statement = store->read_statements[READ_LIST];
        bind_range(statement, noun, after, limit);
        return visit_rows(&list, statement);
    }
    // Two statements, one moment.
    int code = sqlite3_step(store->read_statements[READ_BEGIN]);
    sqlite3_reset(store->read_statements[READ_BEGIN]);
    if (is_bad(code)) {
        return ERR_UNAVAILABLE;
    }
    int err = list_host(store, &list, after, host);
    code = sqlite3_step(store->read_statements[READ_END]);
    sqlite3_reset(store->read_statements[READ_END]);
    return err != 0 ? err : is_bad(code) ? ERR_UNAVAILABLE : 0;
}

uint64_t store_count(struct store *store, enum noun noun)
{
    return atomic_load_explicit(&store->counts[noun], memory_order_relaxed);
}

uint64_t store_revision(struct store *store)
{
    // Acquire pairs with the release in publish_totals().
    return atomic_load_explicit(&store->revision, memory_order_acquire);
}

struct str store_node_id(struct store *store)
{
    return str_from_c(store->node_id);
}
