// SPDX-License-Identifier: MIT
// One reading of a folder: what is taken, what is refused, and where it says that.
#include "files/files_int.h"
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
    char folder[64];
    struct files_faults faults;
    struct store_request *request;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->folder, sizeof f->folder, "/tmp/files-test-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    files_faults_init(&f->faults);
    *state = f;
    return 0;
}

static void clear(const char *path)
{
    DIR *folder = opendir(path);
    const struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        if (unlinkat(dirfd(folder), entry->d_name, 0) != 0) {
            unlinkat(dirfd(folder), entry->d_name, AT_REMOVEDIR);
        }
    }
    closedir(folder);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    clear(f->folder);
    rmdir(f->folder);
    store_request_free(&f->request);
    files_faults_fini(&f->faults);
    free(f);
    return 0;
}

static void put(const struct fixture *f, const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", f->folder, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static int read_all(struct fixture *f)
{
    store_request_free(&f->request);
    files_faults_fini(&f->faults);
    files_faults_init(&f->faults);
    int err = files_read(f->folder, NULL, &f->request, &f->faults);
    buf_put_char(&f->faults.text, '\0');
    assert_true((err == 0) == (f->request != NULL));
    assert_true((err == 0) == (f->faults.count == 0));
    return err;
}

// One fault, at this place behind the folder, with these words.
static void assert_fault(struct fixture *f, const char *place, const char *words)
{
    assert_true(read_all(f) < 0);
    char full[200];
    snprintf(full, sizeof full, "%s%s", f->folder, place);
    if (strstr(f->faults.text.p, full) == NULL || strstr(f->faults.text.p, words) == NULL) {
        fail_msg("%s: %s: not in: %s", full, words, f->faults.text.p);
    }
}

static void test_taken(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(read_all(f), 0);
    assert_int_equal(f->request->count, 0);
    put(f, "a.yaml",
        "kind: route\nhost: A.example.\npath: /x/\nrespond: {status: 200}\n---\n---\n");
    put(f, "b.json", "[{\"kind\":\"pool\",\"name\":\"p\",\"targets\":[]}]");
    put(f, "c.yml", "routes:\n- {host: c, pool: p}\n");
    put(f, "d.yaml", "# nothing\n");
    put(f, "e.yaml", "");
    static const char *const others[] = {".h.yaml",    "#a.yaml#", "a.yaml~",
                                         "a.yaml.swp", "README",   "a.yaml.bak"};
    for (unsigned i = 0; i < sizeof others / sizeof others[0]; i++) {
        put(f, others[i], "{");
    }
    char path[200];
    snprintf(path, sizeof path, "%s/sub.yaml", f->folder);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(read_all(f), 0);
    assert_int_equal(f->request->count, 3);
    assert_string_equal(f->request->changes[0].key, "a.example/x");
    assert_string_equal(f->request->changes[1].key, "c");
    assert_int_equal(f->request->changes[1].reference_count, 1);
    assert_string_equal(f->request->changes[2].key, "p");
}

static void test_faults(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        const char *place;
        const char *words;
    } cases[] = {
        {"kind: route\nhost: [\n", "/a.yaml:3:1: ", ""},
        {"kind: route\nhost: a\nrespnd: {}\n", "/a.yaml:3:1: route a: /respnd: ", "respond"},
        {"kind: route\nhost: a\nrespond: {status: 9}\n", "/a.yaml:3:11: ", "/respond/status"},
        {"kind: rout\nhost: a\n", "/a.yaml:1:1: /kind: ", "must be \"route\""},
        {"kind: tenant\nname: a\n", "/a.yaml:1:1: ", "its kind must be"},
        {"kind: route\nrespond: {}\n", "/a.yaml:1:1: ", "needs a \"host\""},
        {"op: delete\nkind: route\nkey: a\n", "/a.yaml:1:1: ", "leave out"},
        {"just text\n", "/a.yaml:1:1: ", "must be an object"},
        {"routes:\n- {host: a, respond: {}}\n- {host: a, respond: {}}\n",
         "/a.yaml:3:3: route a: ", "declared already at"},
        {"routes:\n- {host: a, respond: {}}\n- {host: b, pool: none}\n",
         "/a.yaml:3:3: route b: ", "/pool: pool \"none\" is declared by no file"},
        {"pools:\n- {name: p, targets: [], tls: {client_certificate: c}}\n",
         "/a.yaml:2:3: pool p: ", "certificate \"c\" is declared by no file"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put(f, "a.yaml", cases[i].text);
        assert_fault(f, cases[i].place, cases[i].words);
    }
    put(f, "a.yaml", "kind: route\nhost: a\nrespond: {}\n");
    put(f, "b.json", "{\"kind\": \"route\",\n \"host\": }");
    assert_fault(f, "/b.json:2:", "");
    put(f, "b.json", "{\"kind\": \"route\", \"host\": \"a\", \"respond\": {}}");
    assert_fault(f, "/b.json:1:1: route a: ", "a.yaml:1:1, which counts");
}

// The first of what is looked for in order is found soon; places are right whatever the order.
static void test_places_of_many(void **state)
{
    struct fixture *f = *state;
    struct buf text;
    buf_init(&text, 0);
    buf_put(&text, STR("pools:\n- {name: p, targets: []}\nroutes:\n"));
    for (unsigned i = 0; i < 20000; i++) {
        buf_printf(&text, "- {host: h%u, pool: %s}\n", i, i % 10000 == 9999 ? "q" : "p");
    }
    buf_put_char(&text, '\0');
    put(f, "a.yaml", text.p);
    buf_fini(&text);
    assert_fault(f, "/a.yaml:10003:3: route h9999: ", "");
    assert_fault(f, "/a.yaml:20003:3: route h19999: ", "");
    assert_int_equal(f->faults.count, 2);
}

static void test_limits(void **state)
{
    struct fixture *f = *state;
    char path[200];
    snprintf(path, sizeof path, "%s/big.yaml", f->folder);
    put(f, "big.yaml", "# ");
    assert_int_equal(truncate(path, FILES_FILE_MAX + 1), 0);
    assert_fault(f, "/big.yaml: ", "is larger than 16777216 bytes");
    for (unsigned i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s/%u.yaml", f->folder, i);
        put(f, path + strlen(f->folder) + 1, "");
        assert_int_equal(truncate(path, FILES_BYTES_MAX / 5), 0);
    }
    assert_fault(f, ": ", "more than 67108864");
    clear(f->folder);
    for (unsigned i = 0; i <= FILES_MAX; i++) {
        char name[32];
        snprintf(name, sizeof name, "%u.yaml", i);
        put(f, name, "");
    }
    assert_fault(f, ": ", "more than 10000 files");
    snprintf(path, sizeof path, "%s/0.yaml", f->folder);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(read_all(f), 0);
}

static void test_unreadable(void **state)
{
    struct fixture *f = *state;
    char path[200];
    snprintf(path, sizeof path, "%s/pipe.yaml", f->folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_fault(f, "/pipe.yaml: ", "is no file");
    unlink(path);
    assert_int_equal(symlink("/none/at/all", path), 0); // leads nowhere: no file
    assert_int_equal(read_all(f), 0);
    store_request_free(&f->request);
    struct fixture gone = *f;
    snprintf(gone.folder, sizeof gone.folder, "/tmp/none-at-all");
    assert_true(files_read(gone.folder, NULL, &gone.request, &gone.faults) == ERR_NOT_FOUND);
    f->faults = gone.faults;
}

// Who is waited for is forgotten then, whatever has become of the file and of the folder.
static void test_waiting_ends(void **state)
{
    struct fixture *f = *state;
    struct watch watch;
    watch_init(&watch, f->folder);
    assert_true(watch_renew(&watch));
    char path[200];
    snprintf(path, sizeof path, "%s/a.yaml", f->folder);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs("a", file);
    fflush(file);
    assert_true(watch_read(&watch, 1));
    assert_true(watch_is_open(&watch, "a.yaml"));
    assert_int_equal(unlink(path), 0);
    fputs("b", file);
    fflush(file);
    assert_false(watch_expire(&watch, FILES_OPEN_MS));
    assert_true(watch_expire(&watch, FILES_OPEN_MS + 1));
    assert_false(watch_expire(&watch, FILES_OPEN_MS + 2));
    assert_false(watch_is_open(&watch, "a.yaml"));
    fclose(file);
    watch_fini(&watch);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_taken),  TEST(test_faults),     TEST(test_places_of_many),
        TEST(test_limits), TEST(test_unreadable), TEST(test_waiting_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
