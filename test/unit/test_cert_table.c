// SPDX-License-Identifier: MIT
#include "base/clock.h"
#include "cert/check.h"
#include "cert/table.h"
#include "loop/rcu.h"
#include "support/test_certs.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { SECRET_MAX = 64 };

static char folder[] = "/tmp/test_cert_table_XXXXXX";
static char default_file[128];
static struct test_cert *root;
static struct test_cert *middle;

// ---- a store in memory ----

static struct {
    pthread_mutex_t mutex;
    struct {
        char name[64];
        char *secret;
    } items[SECRET_MAX];
    unsigned count;
    unsigned fetches;
    int err;
    bool is_held; // fetch waits
} secrets = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static int fetch(void *context, struct str name, struct buf *secret)
{
    (void)context;
    int err = ERR_NOT_FOUND;
    pthread_mutex_lock(&secrets.mutex);
    while (secrets.is_held) {
        pthread_mutex_unlock(&secrets.mutex);
        usleep(1000);
        pthread_mutex_lock(&secrets.mutex);
    }
    secrets.fetches++;
    for (unsigned i = 0; i < secrets.count; i++) {
        if (str_eq(str_from_c(secrets.items[i].name), name)) {
            buf_put(secret, str_from_c(secrets.items[i].secret));
            err = 0;
        }
    }
    err = secrets.err != 0 ? secrets.err : err;
    pthread_mutex_unlock(&secrets.mutex);
    return err;
}

static void store_secret(const char *name, char *secret)
{
    pthread_mutex_lock(&secrets.mutex);
    unsigned i = 0;
    while (i < secrets.count && strcmp(secrets.items[i].name, name) != 0) {
        i++;
    }
    if (i == secrets.count) {
        assert_true(secrets.count++ < SECRET_MAX);
        snprintf(secrets.items[i].name, sizeof secrets.items[i].name, "%s", name);
    }
    free(secrets.items[i].secret);
    secrets.items[i].secret = secret;
    pthread_mutex_unlock(&secrets.mutex);
}

static void hold_store(bool is_held, int err)
{
    pthread_mutex_lock(&secrets.mutex);
    secrets.is_held = is_held;
    secrets.err = err;
    pthread_mutex_unlock(&secrets.mutex);
}

// ---- a table ----

static struct loop loop;

static struct cert_table *open_table(unsigned loaded_max, unsigned waits_max)
{
    struct problems problems;
    struct cert_table *table = NULL;
    const struct cert_table_config config = {.loaded_max = loaded_max,
                                             .waits_max = waits_max,
                                             .loader = {fetch, NULL},
                                             .default_file = default_file};
    problems_init(&problems);
    assert_int_equal(rcu_start(), 0);
    rcu_thread_begin();
    assert_int_equal(loop_init(&loop), 0);
    loop.is_rcu = true;
    loop_read_clock(&loop);
    assert_int_equal(cert_table_new(&table, &config, &problems), 0);
    assert_int_equal(cert_table_start(table), 0);
    return table;
}

static void close_table(struct cert_table *table)
{
    cert_table_stop(table);
    loop_empty_mailbox(&loop);
    loop_fini(&loop);
    rcu_drain();
    cert_table_free(&table);
    assert_null(table);
    rcu_thread_end();
    for (unsigned i = 0; i < secrets.count; i++) {
        free(secrets.items[i].secret);
        secrets.items[i].secret = NULL;
    }
    secrets.count = 0;
}

static struct cert_counts counts_of(const struct cert_table *table)
{
    struct cert_counts counts;
    cert_get_counts(table, &counts);
    return counts;
}

// The declaration as the feed brings it; `text` holds the fields of the value.
static struct declaration *decode(struct str text, enum decode_mode mode)
{
    struct problems problems;
    struct declaration *declaration = NULL;
    problems_init(&problems);
    json_t *value = model_json_parse(text, &problems);
    assert_non_null(value);
    assert_int_equal(
        declaration_decode(NOUN_CERTIFICATE, STR("x"), value, mode, &declaration, NULL, &problems),
        0);
    json_decref(value);
    return declaration;
}

static struct declaration *declare(const struct test_cert *cert)
{
    struct buf text;
    struct problems problems;
    buf_init(&text, 0);
    problems_init(&problems);
    buf_put(&text, STR("{\"chain\":"));
    buf_put_json(&text, str_from_c(cert->chain_pem));
    buf_put(&text, STR(",\"key\":"));
    buf_put_json(&text, str_from_c(cert->key_pem));
    buf_put_char(&text, '}');
    struct declaration *declaration = decode(buf_str(&text), DECODE_STRICT);
    assert_int_equal(cert_check(declaration, &problems), 0);
    buf_fini(&text);
    return declaration;
}

static void on_grace(void *object)
{
    atomic_store((atomic_bool *)object, true);
}

static void drop(struct cert_table *table, struct cert_version *before)
{
    if (before != NULL) { // as the publisher does: a grace period, the last pin, then the free
        struct cert_slot *slot = before->slot;
        atomic_bool is_past = false;
        struct rcu_retired *retired = rcu_retired_new();
        rcu_retire(&retired, on_grace, &is_past);
        while (!atomic_load(&is_past) || atomic_load(&before->version.refs) > 1) {
            loop_turn(&loop, 1);
        }
        version_unref(&before->version);
        cert_table_sweep(table, slot);
    }
}

static void put_declaration(struct cert_table *table, const char *name,
                            const struct declaration *declaration)
{
    struct cert_slot *slot;
    struct cert_version *version;
    assert_int_equal(cert_table_make(table, str_from_c(name), &slot), 0);
    assert_int_equal(cert_version_new(table, slot, &declaration->certificate, &version), 0);
    drop(table, cert_table_publish(table, slot, version));
    cert_table_sweep(table, slot);
    rcu_turn_done();
}

static void put(struct cert_table *table, const char *name, const struct test_cert *cert)
{
    struct declaration *declaration = declare(cert);
    int err;
    store_secret(name, certificate_encode_secret(declaration, &err));
    put_declaration(table, name, declaration);
    declaration_free(&declaration);
}

static void put_leaf(struct cert_table *table, const char *name, const char *names,
                     enum test_key kind, int end_days)
{
    struct test_cert *leaf = test_leaf(middle, names, kind, -1, end_days);
    put(table, name, leaf);
    test_cert_free(&leaf);
}

static void remove_it(struct cert_table *table, const char *name)
{
    struct cert_slot *slot = cert_table_slot(table, str_from_c(name));
    assert_non_null(slot);
    struct cert_version *before = cert_table_publish(table, slot, NULL);
    cert_slot_ref(slot);
    drop(table, before);
    cert_slot_unref(table, slot);
    rcu_turn_done();
}

// ---- looking up ----

static struct cert_choice find(struct cert_table *table, const char *name)
{
    struct cert_choice choice;
    cert_find(table, str_from_c(name), &choice);
    return choice;
}

static void finds(struct cert_table *table, const char *name, const char *first, const char *second)
{
    struct cert_choice choice = find(table, name);
    const char *wanted[] = {first, second};
    for (unsigned i = 0; i < 2; i++) {
        if (wanted[i] == NULL) {
            assert_null(choice.slots[i]);
            assert_int_equal(choice.ids[i], 0);
        } else {
            assert_non_null(choice.slots[i]);
            assert_true(str_eq(cert_slot_name(choice.slots[i]), str_from_c(wanted[i])));
            assert_int_not_equal(choice.ids[i], 0);
        }
    }
}

static void test_names(void **state)
{
    (void)state;
    struct cert_table *table = open_table(100, 10);
    finds(table, "a.example", "", NULL); // the default's slot has no name
    assert_true(find(table, "a.example").is_default);
    assert_true(find(table, "").is_default);
    put_leaf(table, "a", "a.example,*.a.example", TEST_KEY_EC, 90);
    put_leaf(table, "r", "a.example", TEST_KEY_RSA, 90);
    finds(table, "a.example", "a", "r");
    assert_false(find(table, "a.example").is_default);
    finds(table, "x.a.example", "a", NULL);
    assert_true(find(table, "x.y.a.example").is_default); // one label only
    assert_true(find(table, "example").is_default);
    put_leaf(table, "x", "x.a.example", TEST_KEY_RSA, 90);
    finds(table, "x.a.example", NULL, "x"); // exact is all
    assert_int_equal(counts_of(table).certificates, 3);
    assert_int_equal(counts_of(table).names, 3);
    remove_it(table, "x");
    finds(table, "x.a.example", "a", NULL);
    put_leaf(table, "a", "b.example", TEST_KEY_EC, 90); // other names
    finds(table, "a.example", NULL, "r");
    finds(table, "b.example", "a", NULL);
    assert_true(find(table, "x.a.example").is_default);
    remove_it(table, "a");
    remove_it(table, "r");
    assert_int_equal(counts_of(table).names, 0);
    assert_null(cert_table_slot(table, STR("a")));
    struct declaration *any = decode(STR("{\"hosts\":[\"*\"],\"names\":[\"*\"],"
                                         "\"not_after\":\"2090-01-01T00:00:00Z\","
                                         "\"key_type\":\"rsa-2048\"}"),
                                     DECODE_FEED);
    put_declaration(table, "any", any);
    finds(table, "a.example", NULL, "any");
    assert_true(find(table, "a.example").is_default);
    remove_it(table, "any");
    finds(table, "a.example", "", NULL);
    declaration_free(&any);
    close_table(table);
}

static void test_the_longer_one_wins(void **state)
{
    (void)state;
    struct cert_table *table = open_table(100, 10);
    put_leaf(table, "old", "a.example", TEST_KEY_EC, 10);
    uint64_t id = find(table, "a.example").ids[0];
    put_leaf(table, "new", "a.example,b.example", TEST_KEY_EC, 90);
    finds(table, "a.example", "new", NULL);
    put_leaf(table, "short", "a.example", TEST_KEY_EC, 5);
    finds(table, "a.example", "new", NULL);
    remove_it(table, "new");
    finds(table, "a.example", "old", NULL);
    assert_int_equal(find(table, "a.example").ids[0], id); // of the slot's name
    assert_true(find(table, "b.example").is_default);
    put_leaf(table, "short", "a.example", TEST_KEY_EC, 50); // renewed: now it is the longest
    finds(table, "a.example", "short", NULL);
    close_table(table); // with versions that are still there
}

// ---- loading ----

struct waiter {
    struct cert_wait wait;
    int err;
    bool is_done;
};

static void on_loaded(struct cert_wait *wait, int err)
{
    struct waiter *waiter = CONTAINER_OF(wait, struct waiter, wait);
    waiter->err = err;
    waiter->is_done = true;
}

static int ask(struct cert_table *table, struct cert_slot *slot, struct waiter *waiter)
{
    *waiter = (struct waiter){.wait = {.loop = &loop, .on_loaded = on_loaded}};
    return cert_ask(table, slot, &waiter->wait);
}

static int await(struct waiter *waiter)
{
    for (unsigned i = 0; !waiter->is_done && i < 5000; i++) {
        loop_turn(&loop, 1);
    }
    assert_true(waiter->is_done);
    return waiter->err;
}

static const struct cert_loaded *load(struct cert_table *table, const char *name)
{
    struct waiter waiter;
    struct cert_slot *slot = find(table, name).slots[0];
    if (cert_get(slot, loop.now_ms) == NULL) {
        assert_int_equal(ask(table, slot, &waiter), 0);
        assert_int_equal(await(&waiter), 0);
    }
    return cert_get(slot, loop.now_ms);
}

static void test_load_and_replace(void **state)
{
    (void)state;
    struct cert_table *table = open_table(100, 10);
    struct test_cert *one = test_leaf(middle, "a.example", TEST_KEY_EC, -1, 90);
    struct test_cert *two = test_leaf(middle, "a.example", TEST_KEY_EC, -1, 90);
    assert_non_null(
        cert_get(find(table, "none.example").slots[0], 0)); // the default is always there
    put(table, "a", one);
    assert_null(cert_get(find(table, "a.example").slots[0], loop.now_ms));
    const struct cert_loaded *loaded = load(table, "a.example");
    assert_int_equal(X509_cmp(loaded->leaf, one->leaf), 0);
    assert_int_equal(sk_X509_num(loaded->chain), 1);
    assert_int_equal(X509_check_private_key(loaded->leaf, loaded->key), 1);
    // Another of the same authority shares its chain.
    put_leaf(table, "b", "b.example", TEST_KEY_EC, 90);
    assert_ptr_equal(sk_X509_value(load(table, "b.example")->chain, 0),
                     sk_X509_value(loaded->chain, 0));
    unsigned fetches = secrets.fetches;
    struct waiter waiters[3]; // loaded meanwhile: answered without loading again
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(ask(table, find(table, "a.example").slots[0], &waiters[i]), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(await(&waiters[i]), 0);
    }
    assert_int_equal(secrets.fetches, fetches);
    put(table, "a", two);
    loaded = cert_get(find(table, "a.example").slots[0], loop.now_ms);
    assert_null(loaded); // never the old one
    assert_int_equal(X509_cmp(load(table, "a.example")->leaf, two->leaf), 0);
    assert_int_equal(counts_of(table).loads, 3);
    assert_int_equal(counts_of(table).loaded, 2);
    assert_int_equal(counts_of(table).waits, 0);
    test_cert_free(&one);
    test_cert_free(&two);
    close_table(table);
}

static void test_failures(void **state)
{
    (void)state;
    struct cert_table *table = open_table(100, 10);
    struct waiter waiter;
    struct test_cert *leaf = test_leaf(middle, "a.example", TEST_KEY_EC, -1, 90);
    put(table, "a", leaf);
    store_secret("a", strdup("pm1:00000000:AAAA")); // sealed with a key that is not here
    struct cert_slot *slot = find(table, "a.example").slots[0];
    assert_int_equal(ask(table, slot, &waiter), 0);
    assert_int_equal(await(&waiter), ERR_NOT_FOUND);
    assert_int_equal(ask(table, slot, &waiter), ERR_UNAVAILABLE); // not tried at each handshake
    assert_int_equal(counts_of(table).load_failures, 1);
    put(table, "a", leaf); // a new version is tried at once
    assert_non_null(load(table, "a.example"));
    static const char *const bad[] = {"", "{}", "{\"chain\":\"x\",\"key\":\"y\"}", "[1"};
    for (unsigned i = 0; i < 4; i++) {
        put(table, "a", leaf);
        store_secret("a", strdup(bad[i]));
        assert_int_equal(ask(table, slot, &waiter), 0);
        assert_int_equal(await(&waiter), ERR_INVALID);
    }
    put(table, "a", leaf);
    hold_store(false, ERR_UNAVAILABLE);
    assert_int_equal(ask(table, slot, &waiter), 0);
    assert_int_equal(await(&waiter), ERR_UNAVAILABLE);
    hold_store(false, 0);
    loop.now_ms += 10000; // later it is tried again
    assert_int_equal(ask(table, slot, &waiter), 0);
    assert_int_equal(await(&waiter), 0);
    cert_slot_ref(slot);
    remove_it(table, "a");
    assert_int_equal(ask(table, slot, &waiter), ERR_NOT_FOUND);
    cert_slot_unref(table, slot);
    test_cert_free(&leaf);
    close_table(table);
}

static void test_waits_are_bounded(void **state)
{
    (void)state;
    struct cert_table *table = open_table(100, 3);
    struct waiter waiters[4];
    put_leaf(table, "a", "a.example", TEST_KEY_EC, 90);
    struct cert_slot *slot = find(table, "a.example").slots[0];
    hold_store(true, 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(ask(table, slot, &waiters[i]), 0);
    }
    assert_int_equal(ask(table, slot, &waiters[3]), ERR_LIMIT);
    assert_int_equal(counts_of(table).waits, 3);
    assert_int_equal(counts_of(table).waits_refused, 1);
    hold_store(false, 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(await(&waiters[i]), 0);
    }
    assert_int_equal(ask(table, slot, &waiters[3]), 0);
    assert_int_equal(await(&waiters[3]), 0);
    // At the end those that wait are answered.
    put_leaf(table, "a", "a.example", TEST_KEY_EC, 90);
    hold_store(true, 0);
    assert_int_equal(ask(table, slot, &waiters[0]), 0);
    assert_int_equal(ask(table, slot, &waiters[1]), 0);
    usleep(20000);
    hold_store(false, ERR_UNAVAILABLE);
    cert_table_stop(table);
    assert_int_equal(ask(table, slot, &waiters[2]), ERR_UNAVAILABLE);
    assert_int_equal(await(&waiters[0]), ERR_UNAVAILABLE);
    assert_int_equal(await(&waiters[1]), ERR_UNAVAILABLE);
    hold_store(false, 0);
    close_table(table);
}

static void test_least_recently_used(void **state)
{
    (void)state;
    struct cert_table *table = open_table(8, 10);
    char name[32];
    char host[32];
    for (unsigned i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "c%u", i);
        snprintf(host, sizeof host, "h%u.example", i);
        put_leaf(table, name, host, TEST_KEY_EC, 90);
    }
    for (unsigned i = 0; i < 30; i++) {
        snprintf(host, sizeof host, "h%u.example", i);
        assert_non_null(load(table, host));
        // Used again and again, as time goes by.
        assert_non_null(cert_get(find(table, "h0.example").slots[0], loop.now_ms + 2000 * (i + 1)));
        assert_true(counts_of(table).loaded <= 8);
    }
    assert_int_equal(counts_of(table).loaded, 8);
    assert_int_equal(counts_of(table).evictions, 22);
    assert_null(cert_get(find(table, "h1.example").slots[0], loop.now_ms));
    assert_non_null(load(table, "h1.example")); // and back
    close_table(table);
}

// ---- files ----

static struct {
    pthread_mutex_t mutex;
    unsigned changed;
    unsigned broken;
    struct declaration *declaration;
} told = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void on_files(void *context, struct str name, uint64_t number,
                     struct declaration *declaration, const char *detail)
{
    (void)context;
    (void)number;
    pthread_mutex_lock(&told.mutex);
    assert_true(str_eq(name, STR("f")));
    told.changed += declaration != NULL;
    told.broken += declaration == NULL && detail[0] != 0;
    if (declaration != NULL) {
        declaration_free(&told.declaration);
        told.declaration = declaration;
    }
    pthread_mutex_unlock(&told.mutex);
}

static void write_file(const char *name, const char *text, char path[128])
{
    char temporary[160];
    snprintf(path, 128, "%s/%s", folder, name);
    snprintf(temporary, sizeof temporary, "%s.new", path);
    FILE *file = fopen(temporary, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(rename(temporary, path), 0);
}

static void wait_told(const unsigned *number, unsigned wanted)
{
    for (unsigned i = 0; i < 800; i++) {
        pthread_mutex_lock(&told.mutex);
        bool is_there = *number >= wanted;
        pthread_mutex_unlock(&told.mutex);
        if (is_there) {
            return;
        }
        loop_turn(&loop, 10);
    }
    fail_msg("nobody told of the files");
}

static void test_files_are_watched(void **state)
{
    (void)state;
    struct cert_table *table = open_table(100, 10);
    char chain[128];
    char key[128];
    struct buf text;
    struct problems problems;
    problems_init(&problems);
    struct test_cert *one = test_leaf(middle, "f.example", TEST_KEY_EC, -1, 90);
    struct test_cert *two = test_leaf(middle, "f.example,g.example", TEST_KEY_EC, -1, 90);
    write_file("chain.pem", one->chain_pem, chain);
    write_file("key.pem", one->key_pem, key);
    buf_init(&text, 0);
    buf_printf(&text, "{\"chain_file\":\"%s\",\"key_file\":\"%s\"}", chain, key);
    struct declaration *declaration = decode(buf_str(&text), DECODE_STRICT);
    assert_int_equal(cert_check(declaration, &problems), 0);
    cert_table_on_files(table, on_files, NULL);
    put_declaration(table, "f", declaration);
    assert_int_equal(X509_cmp(load(table, "f.example")->leaf, one->leaf), 0);
    write_file("chain.pem", two->chain_pem, chain); // half of it: not good
    wait_told(&told.broken, 1);
    assert_int_equal(told.changed, 0);
    assert_int_equal(X509_cmp(load(table, "f.example")->leaf, one->leaf), 0);
    write_file("key.pem", two->key_pem, key);
    wait_told(&told.changed, 1);
    put_declaration(table, "f", told.declaration);
    finds(table, "g.example", "f", NULL);
    assert_int_equal(X509_cmp(load(table, "g.example")->leaf, two->leaf), 0);
    cert_table_on_files(table, NULL, NULL);
    declaration_free(&told.declaration);
    declaration_free(&declaration);
    buf_fini(&text);
    test_cert_free(&one);
    test_cert_free(&two);
    unlink(chain);
    unlink(key);
    close_table(table);
}

// ---- the default ----

static void test_default(void **state)
{
    (void)state;
    struct cert_table *table = open_table(10, 10);
    struct stat about;
    assert_int_equal(stat(default_file, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    X509 *leaf = cert_get(find(table, "").slots[0], 0)->leaf;
    X509_up_ref(leaf);
    close_table(table);
    table = open_table(10, 10); // the same after a restart
    assert_int_equal(X509_cmp(cert_get(find(table, "").slots[0], 0)->leaf, leaf), 0);
    X509_free(leaf);
    struct problems problems;
    struct cert_table *other = NULL;
    problems_init(&problems);
    struct cert_table_config config = {
        .default_file = "/nowhere/default.pem", .default_is_given = true, .loaded_max = 1};
    assert_int_equal(cert_table_new(&other, &config, &problems), ERR_SYSTEM);
    assert_null(other);
    assert_non_null(strstr(problems.items[0].detail, "/nowhere/default.pem"));
    config.default_is_given = false; // cannot be made there
    assert_int_equal(cert_table_new(&other, &config, &problems), ERR_SYSTEM);
    config.default_file = "/dev/null";
    config.default_is_given = true;
    assert_int_not_equal(cert_table_new(&other, &config, &problems), 0);
    problems_fini(&problems);
    close_table(table);
}

// ---- all at once ----

static atomic_bool is_over;
static struct cert_table *shared;

static void on_worker_loaded(struct cert_wait *wait, int err)
{
    (void)err;
    free(wait);
}

struct worker {
    pthread_t thread;
    struct loop loop; // posted to until the table has stopped
    uint64_t found;
};

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    struct loop *own = &worker->loop;
    rcu_thread_begin();
    own->is_rcu = true;
    unsigned random = 1 + (unsigned)(uintptr_t)argument;
    while (!atomic_load(&is_over)) {
        loop_turn(own, 0);
        for (unsigned i = 0; i < 20; i++) {
            char host[32];
            struct cert_choice choice;
            random = random * 1103515245 + 12345;
            int len = snprintf(host, sizeof host, "h%u.example", (random >> 16) % 8);
            cert_find(shared, str_make(host, (size_t)len), &choice);
            assert_true(choice.slots[0] != NULL || choice.slots[1] != NULL);
            const struct cert_loaded *loaded =
                choice.slots[0] == NULL ? NULL : cert_get(choice.slots[0], own->now_ms);
            if (loaded != NULL) {
                worker->found += X509_get_version(loaded->leaf) == X509_VERSION_3;
                continue;
            }
            struct cert_wait *wait = calloc(1, sizeof *wait);
            wait->loop = own;
            wait->on_loaded = on_worker_loaded;
            if (choice.slots[0] == NULL || cert_ask(shared, choice.slots[0], wait) != 0) {
                free(wait);
            }
        }
    }
    rcu_thread_end();
    return NULL;
}

static void test_readers_and_writer(void **state)
{
    (void)state;
    struct cert_table *table = open_table(4, 100);
    struct test_cert *leaves[8];
    static struct worker workers[2];
    for (unsigned i = 0; i < 8; i++) {
        char names[64];
        snprintf(names, sizeof names, "h%u.example,h%u.example", i, (i + 1) % 8);
        leaves[i] = test_leaf(middle, names, TEST_KEY_EC, -1, 90);
    }
    shared = table;
    atomic_store(&is_over, false);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(loop_init(&workers[i].loop), 0);
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]), 0);
    }
    for (unsigned turn = 0; turn < 300; turn++) {
        char name[16];
        snprintf(name, sizeof name, "c%u", turn % 5);
        if (turn % 7 == 6) {
            if (cert_table_slot(table, str_from_c(name)) != NULL) {
                remove_it(table, name);
            }
        } else {
            put(table, name, leaves[turn % 8]);
        }
        loop_turn(&loop, 0);
    }
    atomic_store(&is_over, true);
    rcu_go_offline();
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    rcu_go_online();
    assert_true(workers[0].found + workers[1].found > 0);
    assert_true(counts_of(table).loaded <= 4);
    for (unsigned i = 0; i < 8; i++) {
        test_cert_free(&leaves[i]);
    }
    cert_table_stop(table);
    for (unsigned i = 0; i < 2; i++) { // what was answered last
        loop_empty_mailbox(&workers[i].loop);
        loop_fini(&workers[i].loop);
    }
    assert_int_equal(counts_of(table).waits, 0);
    close_table(table);
}

static int begin(void **state)
{
    (void)state;
    root = test_ca("root");
    middle = test_intermediate(root, "middle");
    if (mkdtemp(folder) == NULL) {
        return 1;
    }
    snprintf(default_file, sizeof default_file, "%s/default.pem", folder);
    return 0;
}

static int end(void **state)
{
    (void)state;
    test_cert_free(&root);
    test_cert_free(&middle);
    (void)unlink(default_file);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_the_longer_one_wins),
        cmocka_unit_test(test_load_and_replace),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_waits_are_bounded),
        cmocka_unit_test(test_least_recently_used),
        cmocka_unit_test(test_files_are_watched),
        cmocka_unit_test(test_default),
        cmocka_unit_test(test_readers_and_writer),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
