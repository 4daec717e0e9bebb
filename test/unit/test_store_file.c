// SPDX-License-Identifier: MIT
// Files that the store did not make just now: older and newer schemas, other programs' files, damage.
#include "store_check.h"
#include "store/store_int.h"
#include <sys/wait.h>

static int setup(void **state)
{
    struct check *check = malloc(sizeof *check);
    check_init(check);
    *state = check;
    return 0;
}

static int teardown(void **state)
{
    struct check *check = *state;
    check_fini(check);
    free(check);
    return 0;
}

static void run_sql(struct check *check, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(check->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void run_file(struct check *check, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char sql[16384];
    size_t len = fread(sql, 1, sizeof sql - 1, file);
    fclose(file);
    assert_true(len > 0 && len < sizeof sql - 1);
    sql[len] = '\0';
    run_sql(check, sql);
}

static void assert_refused(struct check *check, int err, const char *detail)
{
    assert_int_equal(check_try_open(check), err);
    assert_null(check->store);
    assert_true(check->problems.count > 0);
    if (strstr(check->problems.items[0].detail, detail) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", detail, check->problems.items[0].detail);
    }
}

static void test_schema_1(void **state)
{
    struct check *check = *state;
    run_file(check, "store-schema-1.sql");
    check_open(check);
    assert_true(str_eq(store_node_id(check->store), STR("0123456789abcdef")));
    assert_int_equal(store_revision(check->store), 7);
    assert_int_equal(store_count(check->store, NOUN_ROUTE), 2);
    assert_int_equal(store_count(check->store, NOUN_POOL), 1);
    struct store_record record;
    assert_int_equal(store_get(check->store, NOUN_ROUTE, STR("shop.example.com/api"), &record), 0);
    assert_int_equal(record.revision, 7);
    assert_true(str_ends(record.value, STR("[\"10.0.0.5:8080\"]}")));
    check_expect(check, check_one(NOUN_POOL, "shop-web", NULL), ERR_IN_USE);
    struct store_request *r = check_run(check, check_one(NOUN_ROUTE, "new", "1"));
    assert_int_equal(r->revision, 8);
    store_request_free(&r);
    // What schema 2 brought.
    assert_int_equal(store_count(check->store, NOUN_TICKETS), 0);
    struct store_request *secret = check_one(NOUN_CERTIFICATE, "c", "1");
    secret->changes[0].secret = str_dup(STR("s"));
    check_expect(check, secret, 0);
    assert_int_equal(store_get_secret(check->store, NOUN_CERTIFICATE, STR("c"), &record), 0);
    assert_true(str_eq(record.secret, STR("s")));
}

static void test_schema_2(void **state)
{
    struct check *check = *state;
    run_file(check, "store-schema-2.sql");
    check_open(check);
    assert_int_equal(store_revision(check->store), 9);
    assert_int_equal(store_count(check->store, NOUN_CERTIFICATE), 1);
    assert_int_equal(store_count(check->store, NOUN_TICKETS), 1);
    struct store_record record;
    assert_int_equal(store_get_secret(check->store, NOUN_CERTIFICATE, STR("shop"), &record), 0);
    assert_int_equal(record.revision, 8);
    assert_true(str_eq(record.secret, STR("{\"chain\":\"a\",\"key\":\"b\"}")));
    check_expect(check, check_one(NOUN_CERTIFICATE, "shop", NULL), ERR_IN_USE);
}

// What a new file has is what the dump of the newest schema has.
static void test_new_file_is_the_newest_schema(void **state)
{
    static const char sql[] = "SELECT group_concat(sql, ';') FROM"
                              " (SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name)";
    struct check *check = *state;
    char made[2048];
    for (unsigned turn = 0; turn < 2; turn++) {
        if (turn == 0) {
            check_open(check);
            check_close(check);
        } else {
            assert_int_equal(unlink(check->path), 0);
            run_file(check, "store-schema-2.sql");
        }
        sqlite3 *db;
        sqlite3_stmt *statement;
        assert_int_equal(sqlite3_open(check->path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
        struct str text = store_db_column(statement, 0);
        if (turn == 0) {
            str_copy(made, sizeof made, text);
        } else {
            assert_true(str_eq(text, str_from_c(made)));
        }
        sqlite3_finalize(statement);
        sqlite3_close(db);
    }
}

// The machinery of migrations, with steps that are not released.
static void test_steps(void **state)
{
    static const struct store_step more[] = {
        {2, "this one is done already"},
        {3, "ALTER TABLE records ADD COLUMN tenant TEXT; INSERT INTO meta VALUES('step', 3)"},
        {4, "INSERT INTO meta VALUES('half', 3); INSERT INTO nowhere VALUES(1)"},
    };
    struct check *check = *state;
    run_file(check, "store-schema-2.sql");
    sqlite3 *db = NULL;
    struct problems *problems = &check->problems;
    assert_int_equal(store_db_open(check->path, &db, problems), 0);
    // The last one fails: the one before stays, the last leaves nothing behind.
    assert_int_equal(store_schema_migrate(db, check->path, more, 3, problems), ERR_UNAVAILABLE);
    assert_non_null(strstr(problems->items[0].detail, "nowhere"));
    int64_t number;
    assert_int_equal(store_db_number(db, "", "PRAGMA user_version", &number, problems), 0);
    assert_int_equal(number, 3);
    assert_int_equal(
        store_db_number(db, "", "SELECT count(*) FROM meta WHERE name = 'half'", &number, problems),
        0);
    assert_int_equal(number, 0);
    assert_int_equal(store_db_number(db, "", "SELECT count(*) FROM records WHERE tenant IS NULL",
                                     &number, problems),
                     0);
    assert_int_equal(number, 5);
    sqlite3_close(db);
    // Now it is newer than what is released.
    assert_refused(check, ERR_INVALID, "has schema 3, made by a newer version");
}

static void test_newer_schema(void **state)
{
    struct check *check = *state;
    check_open(check);
    check_close(check);
    run_sql(check, "PRAGMA user_version = 99");
    assert_refused(check, ERR_INVALID, "schema 99");
    run_sql(check, "PRAGMA user_version = 2");
    check_open(check); // the refusal gave the lock back and changed nothing
}

static void test_other_programs(void **state)
{
    struct check *check = *state;
    run_sql(check, "CREATE TABLE theirs(a)");
    assert_refused(check, ERR_INVALID, "another program");
    run_sql(check, "DROP TABLE theirs; PRAGMA application_id = 7");
    assert_refused(check, ERR_INVALID, "another program");
}

static void test_damage(void **state)
{
    struct check *check = *state;
    FILE *file = fopen(check->path, "w");
    fputs("This is not a database at all, but long enough to be taken for one. ", file);
    for (unsigned i = 0; i < 100; i++) {
        fputs("And so on, and so on, and so on, line after line.\n", file);
    }
    fclose(file);
    assert_refused(check, ERR_UNAVAILABLE, "not a database");
}

static void test_bad_urls(void **state)
{
    static const char *const urls[] = {"", "sqlite:", "s.db", "redis://h", "SQLITE:s.db"};
    struct check *check = *state;
    for (unsigned i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        str_copy(check->url, sizeof check->url, str_from_c(urls[i]));
        assert_refused(check, ERR_INVALID, "is not sqlite:PATH");
    }
    snprintf(check->url, sizeof check->url, "sqlite:%s/none/s.db", check->folder);
    assert_refused(check, ERR_UNAVAILABLE, "No such file or directory");
    snprintf(check->url, sizeof check->url, "sqlite:%s", check->folder);
    assert_int_equal(check_try_open(check), ERR_UNAVAILABLE);
    char lock[96];
    snprintf(lock, sizeof lock, "%s.lock", check->folder);
    unlink(lock);
}

// Names that SQLite would take for something else than a file.
static void test_odd_paths(void **state)
{
    static const char *const names[] = {":memory:", "file:x?mode=memory", "a b"};
    struct check *check = *state;
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(check->folder), 0);
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(check->url, sizeof check->url, "sqlite:%s", names[i]);
        check_open(check);
        check_expect(check, check_one(NOUN_ROUTE, "a", "1"), 0);
        check_close(check);
        assert_int_equal(access(names[i], R_OK), 0);
    }
    assert_int_equal(chdir(before), 0);
}

static void test_lock_of_another_process(void **state)
{
    struct check *check = *state;
    int ready[2];
    int done[2];
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(done), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    char byte = 0;
    if (child == 0) {
        close(done[1]);
        int fd;
        int err = store_lock_take(check->path, &fd, &check->problems);
        ssize_t len = write(ready[1], err == 0 ? "1" : "0", 1);
        len += read(done[0], &byte, 1); // until the parent closes its end
        _exit(len < 0);
    }
    close(done[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, '1');
    char expected[120];
    snprintf(expected, sizeof expected, "%s is in use by process %ld", check->path, (long)child);
    assert_refused(check, ERR_LOCKED, expected);
    close(done[1]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    check_open(check); // the lock ends with its process
    close(ready[0]);
    close(ready[1]);
}

// Somebody writes with other tools: the store cannot, says so, and comes back by itself.
static void test_foreign_writer(void **state)
{
    struct check *check = *state;
    check_open(check);
    check_expect(check, check_one(NOUN_ROUTE, "a", "1"), 0);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(check->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    struct store_request *r = check_run(check, check_one(NOUN_ROUTE, "b", "1"));
    assert_int_equal(r->err, ERR_UNAVAILABLE);
    assert_int_equal(r->changes[0].err, ERR_UNAVAILABLE);
    assert_string_equal(r->changes[0].problems.items[0].detail, "database is locked");
    store_request_free(&r);
    assert_false(check->is_writable);
    assert_string_equal(check->detail, "database is locked");
    struct store_status status;
    store_get_status(check->store, &status);
    assert_false(status.is_writable);
    struct store_record record;
    assert_int_equal(store_get(check->store, NOUN_ROUTE, STR("a"), &record), 0);
    sqlite3_close(db);
    for (unsigned i = 0; i < 100 && !check->is_writable; i++) {
        loop_turn(&check->control, 100); // nobody writes: the probe finds it
    }
    assert_true(check->is_writable);
    store_get_status(check->store, &status);
    assert_true(status.is_writable);
    assert_string_equal(status.detail, "");
    check_text(check, "put route a=1@1; answer 1; not writable; answer 0; writable; ");
    assert_int_equal(store_revision(check->store), 1);
}

// The log is copied and starts over, also under writes that never pause.
static void test_log_is_bounded(void **state)
{
    struct check *check = *state;
    check->is_quiet = true;
    check_open(check);
    enum { LEN = 1 << 20, COUNT = 160 };
    char *value = malloc(LEN + 1);
    memset(value, 'x', LEN);
    value[LEN] = '\0';
    char wal[96];
    snprintf(wal, sizeof wal, "%s-wal", check->path);
    long most = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        value[0] = (char)('a' + i % 26);
        check_expect(check, check_one(NOUN_ROUTE, "big", value), 0);
        FILE *file = fopen(wal, "r");
        fseek(file, 0, SEEK_END);
        most = ftell(file) > most ? ftell(file) : most;
        fclose(file);
    }
    free(value);
    assert_true(most < 2 * STORE_WAL_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_schema_1, setup, teardown),
        cmocka_unit_test_setup_teardown(test_schema_2, setup, teardown),
        cmocka_unit_test_setup_teardown(test_new_file_is_the_newest_schema, setup, teardown),
        cmocka_unit_test_setup_teardown(test_steps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_newer_schema, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_programs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_urls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_odd_paths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lock_of_another_process, setup, teardown),
        cmocka_unit_test_setup_teardown(test_foreign_writer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log_is_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
