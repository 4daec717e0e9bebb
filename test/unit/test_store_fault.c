// SPDX-License-Identifier: MIT
// Every write to the disk fails once, one after the other: the first, then the second, … until all
// goes well. Whatever fails, what was acknowledged is there after the next open, and nothing is there
// by half. A layer over SQLite's file system does the failing.
#include "base/log.h"
#include "store_check.h"
#include <sqlite3.h>

enum fault_kind {
    FAULT_IO,   // the operation fails
    FAULT_FULL, // no space: half is written
    FAULT_TORN, // half is written, then an error
};

static struct {
    atomic_bool is_armed;
    atomic_uint count; // operations since it was armed
    atomic_bool has_failed;
    unsigned fail_at;
    bool is_lasting; // all later ones fail too
    enum fault_kind kind;
    sqlite3_vfs *real_vfs;
    sqlite3_vfs vfs;
} fault;

struct fault_file {
    sqlite3_file base;
    sqlite3_file *real; // behind this struct
};

static bool fails_now(void)
{
    if (!atomic_load(&fault.is_armed)) {
        return false;
    }
    unsigned count = atomic_fetch_add(&fault.count, 1) + 1;
    bool is_hit = count == fault.fail_at || (fault.is_lasting && count > fault.fail_at);
    if (is_hit) {
        atomic_store(&fault.has_failed, true);
    }
    return is_hit;
}

static sqlite3_file *real(sqlite3_file *file)
{
    return ((struct fault_file *)file)->real;
}

static int on_close(sqlite3_file *file)
{
    return real(file)->pMethods->xClose(real(file));
}

static int on_read(sqlite3_file *file, void *to, int len, sqlite3_int64 at)
{
    return real(file)->pMethods->xRead(real(file), to, len, at);
}

static int on_write(sqlite3_file *file, const void *from, int len, sqlite3_int64 at)
{
    if (!fails_now()) {
        return real(file)->pMethods->xWrite(real(file), from, len, at);
    }
    if (fault.kind != FAULT_IO) {
        (void)real(file)->pMethods->xWrite(real(file), from, len / 2, at);
    }
    return fault.kind == FAULT_FULL ? SQLITE_FULL : SQLITE_IOERR_WRITE;
}

static int on_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return fails_now() ? SQLITE_IOERR_TRUNCATE : real(file)->pMethods->xTruncate(real(file), size);
}

static int on_sync(sqlite3_file *file, int flags)
{
    return fails_now() ? SQLITE_IOERR_FSYNC : real(file)->pMethods->xSync(real(file), flags);
}

static int on_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real(file)->pMethods->xFileSize(real(file), size);
}

static int on_lock(sqlite3_file *file, int level)
{
    return real(file)->pMethods->xLock(real(file), level);
}

static int on_unlock(sqlite3_file *file, int level)
{
    return real(file)->pMethods->xUnlock(real(file), level);
}

static int on_check_lock(sqlite3_file *file, int *out)
{
    return real(file)->pMethods->xCheckReservedLock(real(file), out);
}

static int on_control(sqlite3_file *file, int op, void *argument)
{
    return real(file)->pMethods->xFileControl(real(file), op, argument);
}

static int on_sector_size(sqlite3_file *file)
{
    return real(file)->pMethods->xSectorSize(real(file));
}

static int on_characteristics(sqlite3_file *file)
{
    return real(file)->pMethods->xDeviceCharacteristics(real(file));
}

static int on_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out)
{
    return real(file)->pMethods->xShmMap(real(file), page, size, extend, out);
}

static int on_shm_lock(sqlite3_file *file, int at, int count, int flags)
{
    return real(file)->pMethods->xShmLock(real(file), at, count, flags);
}

static void on_shm_barrier(sqlite3_file *file)
{
    real(file)->pMethods->xShmBarrier(real(file));
}

static int on_shm_unmap(sqlite3_file *file, int remove)
{
    return real(file)->pMethods->xShmUnmap(real(file), remove);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = on_close,
    .xRead = on_read,
    .xWrite = on_write,
    .xTruncate = on_truncate,
    .xSync = on_sync,
    .xFileSize = on_size,
    .xLock = on_lock,
    .xUnlock = on_unlock,
    .xCheckReservedLock = on_check_lock,
    .xFileControl = on_control,
    .xSectorSize = on_sector_size,
    .xDeviceCharacteristics = on_characteristics,
    .xShmMap = on_shm_map,
    .xShmLock = on_shm_lock,
    .xShmBarrier = on_shm_barrier,
    .xShmUnmap = on_shm_unmap,
};

static int on_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    (void)vfs;
    struct fault_file *mine = (struct fault_file *)file;
    mine->real = (sqlite3_file *)(void *)(mine + 1);
    int code = fault.real_vfs->xOpen(fault.real_vfs, name, mine->real, flags, out);
    mine->base.pMethods = mine->real->pMethods == NULL ? NULL : &methods;
    return code;
}

static int setup_vfs(void **state)
{
    (void)state;
    fault.real_vfs = sqlite3_vfs_find(NULL);
    fault.vfs = *fault.real_vfs;
    fault.vfs.zName = "fault";
    fault.vfs.szOsFile = (int)sizeof(struct fault_file) + fault.real_vfs->szOsFile;
    fault.vfs.xOpen = on_open;
    return sqlite3_vfs_register(&fault.vfs, 1);
}

static void arm(unsigned fail_at, bool is_lasting, enum fault_kind kind)
{
    fault.fail_at = fail_at;
    fault.is_lasting = is_lasting;
    fault.kind = kind;
    atomic_store(&fault.count, 0);
    atomic_store(&fault.has_failed, false);
    atomic_store(&fault.is_armed, true);
}

static void disarm(void)
{
    atomic_store(&fault.is_armed, false);
}

// ---- what is done while it fails ----

enum { STEPS = 5, VALUE_LEN = 3000 };

// Each request makes a pool and a route that uses it, and replaces the record "same" and its secret.
static struct store_request *step_request(unsigned step)
{
    char name[16];
    char value[VALUE_LEN + 1];
    snprintf(name, sizeof name, "s%u", step);
    memset(value, 'a' + (int)step, VALUE_LEN); // some pages each
    value[VALUE_LEN] = '\0';
    struct store_request *request = store_request_new(3);
    check_set(request, 0, NOUN_POOL, name, value);
    check_set(request, 1, NOUN_ROUTE, name, value);
    check_refer(request, 1, NOUN_POOL, name, "/pool");
    check_set(request, 2, NOUN_ROUTE, "same", value)->secret = str_dup(str_from_c(value));
    return request;
}

struct outcome {
    bool is_acknowledged[STEPS];
    uint64_t revisions[STEPS];
};

static void run_steps(struct check *check, struct outcome *outcome)
{
    memset(outcome, 0, sizeof *outcome);
    if (check_try_open(check) != 0) {
        assert_true(check->problems.count > 0);
        store_close(&check->store);
        return;
    }
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned fed = check->fed;
        struct store_request *request = check_run(check, step_request(step));
        bool is_good = request->err == 0;
        assert_true(is_good || request->err == ERR_UNAVAILABLE);
        assert_int_equal(check->fed - fed, is_good ? 3 : 0); // fed is what is acknowledged
        assert_int_equal(check->is_writable, is_good);
        outcome->is_acknowledged[step] = is_good;
        outcome->revisions[step] = request->revision;
        store_request_free(&request);
        if (step == STEPS / 2) {
            struct store_record record; // reading goes on
            int err = store_get(check->store, NOUN_ROUTE, STR("s0"), &record);
            assert_int_equal(err, outcome->is_acknowledged[0] ? 0 : ERR_NOT_FOUND);
        }
    }
    check_close(check);
}

static bool has_record(struct check *check, enum noun noun, const char *key, unsigned step)
{
    struct store_record record;
    int err = store_get(check->store, noun, str_from_c(key), &record);
    assert_true(err == 0 || err == ERR_NOT_FOUND);
    if (err == 0) {
        assert_int_equal(record.value.len, VALUE_LEN);
        assert_int_equal(record.value.p[0], 'a' + (int)step);
        assert_int_equal(record.value.p[VALUE_LEN - 1], 'a' + (int)step);
    }
    return err == 0;
}

// The secret is that of the value.
static void check_secret(struct check *check)
{
    struct store_record record;
    if (store_get_secret(check->store, NOUN_ROUTE, STR("same"), &record) == 0) {
        assert_true(str_eq(record.secret, record.value));
    }
}

static bool count_one(void *context, const struct store_record *record)
{
    (void)record;
    ++*(uint64_t *)context;
    return true;
}

static void check_counts(struct check *check)
{
    for (int noun = 0; noun < NOUN_COUNT; noun++) {
        uint64_t count = 0;
        assert_int_equal(
            store_list(check->store, (enum noun)noun, STR(""), STR(""), 0, count_one, &count), 0);
        assert_int_equal(count, store_count(check->store, (enum noun)noun));
    }
}

static void verify(struct check *check, const struct outcome *outcome)
{
    check_open(check);
    int last = -1;
    uint64_t revision = 0;
    for (unsigned step = 0; step < STEPS; step++) {
        char name[16];
        snprintf(name, sizeof name, "s%u", step);
        bool has_pool = has_record(check, NOUN_POOL, name, step);
        bool has_route = has_record(check, NOUN_ROUTE, name, step);
        assert_int_equal(has_pool, has_route);
        assert_true(has_pool || !outcome->is_acknowledged[step]);
        if (has_pool) {
            last = (int)step;
            check_expect(check, check_one(NOUN_POOL, name, NULL), ERR_IN_USE);
        }
        if (outcome->is_acknowledged[step]) {
            assert_true(outcome->revisions[step] > revision);
            revision = outcome->revisions[step];
        }
    }
    assert_true(store_revision(check->store) >= revision);
    assert_int_equal(last >= 0,
                     has_record(check, NOUN_ROUTE, "same", last < 0 ? 0 : (unsigned)last));
    check_secret(check);
    check_counts(check);
    check_expect(check, check_one(NOUN_ROUTE, "after", "1"), 0);
    check_close(check);
}

static void fail_everywhere(bool is_lasting, enum fault_kind kind)
{
    unsigned n = 1;
    for (bool has_failed = true; has_failed; n++) {
        assert_true(n < 2000);
        struct check check;
        struct outcome outcome;
        // In memory where that is possible: what a sync costs does not matter here.
        check_init_in(&check, access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        check.is_quiet = true;
        arm(n, is_lasting, kind);
        run_steps(&check, &outcome);
        disarm();
        has_failed = atomic_load(&fault.has_failed);
        for (unsigned step = 0; !has_failed && step < STEPS; step++) {
            assert_true(outcome.is_acknowledged[step]);
        }
        check.is_writable = true;
        verify(&check, &outcome);
        check_fini(&check);
    }
    assert_true(n > 50); // it did have something to fail
}

static void test_one_failure(void **state)
{
    (void)state;
    fail_everywhere(false, FAULT_IO);
    fail_everywhere(false, FAULT_FULL);
    fail_everywhere(false, FAULT_TORN);
}

static void test_lasting_failure(void **state)
{
    (void)state;
    fail_everywhere(true, FAULT_IO);
    fail_everywhere(true, FAULT_FULL);
}

// A disk that is full for a while: state and detail, nothing lost, and back again by itself.
static void test_full_for_a_while(void **state)
{
    (void)state;
    struct check check;
    check_init(&check);
    check_open(&check);
    check_expect(&check, check_one(NOUN_ROUTE, "a", "1"), 0);
    arm(1, true, FAULT_FULL);
    struct store_request *r = check_run(&check, check_one(NOUN_ROUTE, "b", "1"));
    assert_int_equal(r->err, ERR_UNAVAILABLE);
    assert_string_equal(r->changes[0].problems.items[0].detail, "database or disk is full");
    store_request_free(&r);
    check_expect(&check, check_one(NOUN_ROUTE, "c", "1"), ERR_UNAVAILABLE);
    check_expect(&check, check_one(NOUN_ROUTE, "a", "1"), 0); // the same: nothing to write
    struct store_status status;
    store_get_status(check.store, &status);
    assert_false(status.is_writable);
    assert_string_equal(status.detail, "database or disk is full");
    disarm();
    check_expect(&check, check_one(NOUN_ROUTE, "c", "2"), 0);
    check_text(&check, "put route a=1@1; answer 1; not writable; answer 0; answer 0; answer 1; "
                       "writable; put route c=2@2; answer 2; ");
    check_fini(&check);
}

int main(void)
{
    log_set_level(LOG_ERROR + 1); // each failure is logged, as it should be
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_failure),
        cmocka_unit_test(test_lasting_failure),
        cmocka_unit_test(test_full_for_a_while),
    };
    return cmocka_run_group_tests(tests, setup_vfs, NULL);
}
