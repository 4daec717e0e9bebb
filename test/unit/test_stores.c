// SPDX-License-Identifier: MIT
// What every store does, whatever it is made of: the same cases for the embedded one, written to by requests,
// and for a folder of files, written to by renames.
#include "store_check.h"
#include "files/files.h"
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#ifdef WITHOUT_INOTIFY
// test_stores_polled: a kernel that has no more of it to give.
int __wrap_inotify_init1(int flags);
int __wrap_inotify_init1(int flags)
{
    (void)flags;
    errno = EMFILE;
    return -1;
}
#endif

struct kind {
    const char *name;
    bool is_folder;
};

static const struct kind kinds[] = {{"sqlite", false}, {"file", true}};

struct stores {
    struct check check; // the embedded store, or the replica
    const struct kind *kind;
    char folder[96];
    struct files *files;
};

static void open_it(struct stores *stores)
{
    check_open(&stores->check);
    if (stores->kind->is_folder) {
        const struct files_config config = {
            .folder = stores->folder, .accept_empty = true, .store = stores->check.store};
        assert_int_equal(files_new(&stores->files, &config, &stores->check.problems), 0);
        assert_int_equal(files_start(stores->files, &stores->check.control), 0);
    }
}

static void close_it(struct stores *stores)
{
    files_stop(stores->files);
    store_stop(stores->check.store);
    loop_turn(&stores->check.control, 0);
    files_free(&stores->files);
    check_close(&stores->check);
}

static int setup(void **state)
{
    struct stores *stores = calloc(1, sizeof *stores);
    stores->kind = *state;
    check_init(&stores->check);
    snprintf(stores->folder, sizeof stores->folder, "%s.d", stores->check.folder);
    assert_int_equal(mkdir(stores->folder, 0700), 0);
    open_it(stores);
    *state = stores;
    return 0;
}

static int teardown(void **state)
{
    struct stores *stores = *state;
    close_it(stores);
    DIR *folder = opendir(stores->folder);
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        unlinkat(dirfd(folder), entry->d_name, 0);
    }
    closedir(folder);
    rmdir(stores->folder);
    check_fini(&stores->check);
    free(stores);
    return 0;
}

// What is declared from now on: a JSON text {"routes": […], "pools": […]} as a whole, or one declaration a
// request, as the kind takes it.
struct item {
    enum noun noun;
    const char *key;
    const char *value; // canonical; NULL: delete
    const char *pool;  // that it refers to
};

static void write_file(const struct stores *stores, const struct item *items, unsigned count)
{
    char path[160];
    char hidden[160];
    snprintf(path, sizeof path, "%s/a.json", stores->folder);
    snprintf(hidden, sizeof hidden, "%s/.a", stores->folder);
    FILE *file = fopen(hidden, "we");
    assert_non_null(file);
    fputc('\n', file); // an empty file would be a fault
    for (unsigned i = 0; i < count; i++) {
        if (items[i].value != NULL) {
            fprintf(file, "{\"op\":\"put\",\"kind\":\"%s\",\"key\":\"%s\",\"value\":%s}\n",
                    noun_name(items[i].noun).p, items[i].key, items[i].value);
        }
    }
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(hidden, path), 0);
}

static bool is_stored(struct stores *stores, const struct item *item)
{
    struct store_record record;
    int err = store_get(stores->check.store, item->noun, str_from_c(item->key), &record);
    return item->value == NULL ? err == ERR_NOT_FOUND
                               : err == 0 && str_eq(record.value, str_from_c(item->value));
}

static void wait_stored(struct stores *stores, const struct item *items, unsigned count)
{
    uint64_t until = clock_monotonic_ns() + 30 * NS_PER_SEC;
    for (unsigned i = 0; i < count;) {
        assert_true(clock_monotonic_ns() < until);
        loop_turn(&stores->check.control, 10);
        i = is_stored(stores, &items[i]) ? i + 1 : 0;
    }
    for (unsigned i = 0; i < 5; i++) {
        loop_turn(&stores->check.control, 5); // the feed follows the commit
    }
}

// All of `items` is what is declared afterwards; a list must hold all there is, as a file does.
static void declare(struct stores *stores, const struct item *items, unsigned count)
{
    if (stores->kind->is_folder) {
        write_file(stores, items, count);
    } else {
        struct store_request *request = store_request_new(count);
        for (unsigned i = 0; i < count; i++) {
            check_set(request, i, items[i].noun, items[i].key, items[i].value);
            if (items[i].pool != NULL) {
                check_refer(request, i, NOUN_POOL, items[i].pool, "/pool");
            }
        }
        check_expect(&stores->check, request, 0);
    }
    wait_stored(stores, items, count);
}

#define A      "{\"host\":\"a\",\"path\":\"/\",\"respond\":{\"status\":200,\"body\":\"1\"}}"
#define A2     "{\"host\":\"a\",\"path\":\"/\",\"respond\":{\"status\":200,\"body\":\"2\"}}"
#define B      "{\"host\":\"b\",\"path\":\"/\",\"pool\":\"p\"}"
#define B_PATH "{\"host\":\"b\",\"path\":\"/x\",\"redirect\":{\"to\":\"https://c\"}}"
#define POOL   "{\"targets\":[]}"

// The canonical values, as the store gets them from whoever writes.
static const char *canonical(enum noun noun, const char *key, const char *text)
{
    struct problems problems;
    problems_init(&problems);
    json_t *tree = model_json_parse(str_from_c(text), &problems);
    struct declaration *declaration = NULL;
    assert_int_equal(declaration_decode(noun, str_from_c(key), tree, DECODE_STRICT, &declaration,
                                        NULL, &problems),
                     0);
    json_t *encoded = declaration_encode(declaration);
    char *result = json_dumps(encoded, JSON_COMPACT);
    json_decref(encoded);
    json_decref(tree);
    declaration_free(&declaration);
    problems_fini(&problems);
    return result;
}

struct values {
    struct item items[5];
};

static struct values make_values(void)
{
    return (struct values){{{NOUN_ROUTE, "a", canonical(NOUN_ROUTE, "a", A), NULL},
                            {NOUN_POOL, "p", canonical(NOUN_POOL, "p", POOL), NULL},
                            {NOUN_ROUTE, "b", canonical(NOUN_ROUTE, "b", B), "p"},
                            {NOUN_ROUTE, "b/x", canonical(NOUN_ROUTE, "b/x", B_PATH), NULL},
                            {NOUN_ROUTE, "a", canonical(NOUN_ROUTE, "a", A2), NULL}}};
}

static void free_values(struct values *values)
{
    for (unsigned i = 0; i < 5; i++) {
        free((char *)(uintptr_t)values->items[i].value);
    }
}

static void test_put_change_delete(void **state)
{
    struct stores *stores = *state;
    struct values values = make_values();
    declare(stores, values.items, 1);
    assert_int_equal(store_revision(stores->check.store), 1);
    assert_int_equal(stores->check.fed, 1);
    declare(stores, &values.items[4], 1);
    assert_int_equal(store_revision(stores->check.store), 2);
    struct item gone = {NOUN_ROUTE, "a", NULL, NULL};
    declare(stores, &gone, 1);
    assert_int_equal(store_revision(stores->check.store), 3);
    assert_int_equal(store_count(stores->check.store, NOUN_ROUTE), 0);
    assert_int_equal(stores->check.fed, 3);
    free_values(&values);
}

static void test_many_at_once_are_one_revision(void **state)
{
    struct stores *stores = *state;
    struct values values = make_values();
    declare(stores, values.items, 4);
    assert_int_equal(store_revision(stores->check.store), 1);
    assert_int_equal(stores->check.fed, 4);
    assert_int_equal(store_count(stores->check.store, NOUN_ROUTE), 3);
    assert_int_equal(store_count(stores->check.store, NOUN_POOL), 1);
    free_values(&values);
}

static void test_same_value_is_no_revision(void **state)
{
    struct stores *stores = *state;
    struct values values = make_values();
    declare(stores, values.items, 1);
    declare(stores, values.items, 1);
    declare(stores, values.items, 3);
    assert_int_equal(store_revision(stores->check.store), 2);
    assert_int_equal(stores->check.fed, 3); // `a` once
    free_values(&values);
}

static bool on_listed(void *context, const struct store_record *record)
{
    buf_put(context, record->key);
    buf_put_char(context, ' ');
    return true;
}

static void assert_list(struct stores *stores, struct str after, struct str host, unsigned limit,
                        const char *expected)
{
    struct buf text;
    buf_init(&text, 0);
    assert_int_equal(
        store_list(stores->check.store, NOUN_ROUTE, after, host, limit, on_listed, &text), 0);
    buf_put_char(&text, '\0');
    assert_string_equal(text.p, expected);
    buf_fini(&text);
}

static void on_referrer(void *context, enum noun noun, struct str key)
{
    assert_int_equal(noun, NOUN_ROUTE);
    buf_put(context, key);
}

static void test_list_and_referrers(void **state)
{
    struct stores *stores = *state;
    struct values values = make_values();
    declare(stores, values.items, 4);
    assert_list(stores, STR(""), STR_NULL, 0, "a b b/x ");
    assert_list(stores, STR("a"), STR_NULL, 1, "b ");
    assert_list(stores, STR(""), STR("b"), 0, "b b/x ");
    struct buf text;
    buf_init(&text, 0);
    assert_int_equal(store_referrers(stores->check.store, NOUN_POOL, STR("p"), on_referrer, &text),
                     0);
    assert_true(str_eq(buf_str(&text), STR("b")));
    buf_fini(&text);
    free_values(&values);
}

static void test_restart(void **state)
{
    struct stores *stores = *state;
    struct values values = make_values();
    declare(stores, values.items, 4);
    close_it(stores);
    stores->check.fed = 0;
    open_it(stores);
    wait_stored(stores, values.items, 4);
    assert_int_equal(store_revision(stores->check.store), 1);
    struct item gone[] = {
        values.items[0], values.items[1], values.items[2], {NOUN_ROUTE, "b/x", NULL, NULL}};
    declare(stores, gone, 4);
    assert_int_equal(store_revision(stores->check.store), 2);
    assert_int_equal(stores->check.fed, 1);
    free_values(&values);
}

static void test_internal_records_stay(void **state)
{
    struct stores *stores = *state;
    struct values values = make_values();
    check_expect(&stores->check, check_one(NOUN_TICKETS, "current", "{}"), 0);
    declare(stores, values.items, 1);
    struct item gone = {NOUN_ROUTE, "a", NULL, NULL};
    declare(stores, &gone, 1);
    struct item tickets = {NOUN_TICKETS, "current", "{}", NULL};
    assert_true(is_stored(stores, &tickets));
    free_values(&values);
}

int main(void)
{
    struct CMUnitTest tests[12];
    unsigned count = 0;
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } cases[] = {
        {"put, change, delete", test_put_change_delete},
        {"many at once are one revision", test_many_at_once_are_one_revision},
        {"the same value is no revision", test_same_value_is_no_revision},
        {"list and referrers", test_list_and_referrers},
        {"restart", test_restart},
        {"internal records stay", test_internal_records_stay},
    };
    for (unsigned k = 0; k < 2; k++) {
        for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            tests[count++] = (struct CMUnitTest){cases[i].name, cases[i].run, setup, teardown,
                                                 (void *)(uintptr_t)&kinds[k]};
        }
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
