// SPDX-License-Identifier: MIT
// The kinds of stores, behind one interface for the common cases: what is declared goes in as each kind takes
// it, and comes out of the node's own tables. Include after cmocka's own headers.
//
//   sqlite  the embedded one, written to by requests
//   file    a folder, written to by renames; the embedded one follows
//   redis   a Redis server of the test's own, written to by requests; the embedded one follows
#pragma once
#include "files/files.h"
#include "fleet/fleet.h"
#include "store_check.h"
#include "support/redis_server.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum kind { KIND_SQLITE, KIND_FILE, KIND_REDIS };

struct stores {
    struct check check; // the embedded store, or the replica
    enum kind kind;
    char folder[96]; // of a file: store
    struct files *files;
    struct redis_server server;
    struct redis_url url;
    struct redis_tls tls;
    struct seal *seal;
    struct fleet *fleet;
};

static inline void stores_load(void *context, struct fleet_load *load)
{
    (void)context;
    load->workers = 1;
}

static inline void stores_on_fleet_state(void *context, bool is_writable, const char *detail)
{
    (void)context;
    (void)is_writable;
    (void)detail;
}

static inline void stores_on_fleet_event(void *context, const struct fleet_event *event)
{
    (void)context;
    (void)event;
}

static inline void stores_make_fleet(struct check *check)
{
    struct stores *stores = (struct stores *)check; // its first member
    const struct fleet_config config = {.url = &stores->url,
                                        .tls = &stores->tls,
                                        .prefix = "pm",
                                        .node_name = "test",
                                        .node_zone = "",
                                        .address = "127.0.0.1:1",
                                        .version = "0",
                                        .stream_entries = 1000,
                                        .stream_bytes = 64 << 20,
                                        .store = check->store,
                                        .seal = stores->seal,
                                        .load = stores_load,
                                        .on_state = stores_on_fleet_state,
                                        .on_event = stores_on_fleet_event,
                                        .context = stores};
    assert_int_equal(fleet_new(&stores->fleet, &config, &check->problems), 0);
}

static inline void stores_wait_following(struct stores *stores)
{
    struct fleet_status status;
    uint64_t until = clock_monotonic_ns() + 60 * NS_PER_SEC;
    do {
        assert_true(clock_monotonic_ns() < until);
        loop_turn(&stores->check.control, 5);
        fleet_get_status(stores->fleet, &status);
    } while (status.state != FLEET_FOLLOWING || !status.is_writable);
}

static inline void stores_open(struct stores *stores)
{
    struct check *check = &stores->check;
    check_open(check);
    if (stores->kind == KIND_FILE) {
        const struct files_config config = {
            .folder = stores->folder, .accept_empty = true, .store = check->store};
        assert_int_equal(files_new(&stores->files, &config, &check->problems), 0);
        assert_int_equal(files_start(stores->files, &check->control), 0);
    }
    if (stores->kind == KIND_REDIS) {
        assert_int_equal(fleet_start(stores->fleet, &check->control), 0);
        stores_wait_following(stores);
    }
}

static inline void stores_close(struct stores *stores)
{
    struct check *check = &stores->check;
    files_stop(stores->files);
    fleet_stop(stores->fleet);
    store_stop(check->store);
    for (unsigned i = 0; i < 3; i++) {
        loop_turn(&check->control, 0);
    }
    files_free(&stores->files);
    fleet_free(&stores->fleet);
    check_close(check);
}

// A key file, and what opens with it: a secret in Redis needs one.
static inline void stores_open_seal(struct stores *stores)
{
    static const char key[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    char path[160];
    snprintf(path, sizeof path, "%s.keys", stores->check.path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, key, sizeof key - 1), (ssize_t)sizeof key - 1);
    close(fd);
    assert_int_equal(seal_open_file(&stores->seal, path, &stores->check.problems), 0);
}

static inline int stores_setup(void **state)
{
    struct stores *stores = calloc(1, sizeof *stores);
    stores->kind = (enum kind)(uintptr_t)*state;
    check_init(&stores->check);
    snprintf(stores->folder, sizeof stores->folder, "%s.d", stores->check.folder);
    assert_int_equal(mkdir(stores->folder, 0700), 0);
    if (stores->kind == KIND_REDIS) {
        char url[128];
        redis_server_init(&stores->server);
        redis_server_start(&stores->server, NULL);
        snprintf(url, sizeof url, "redis+unix://%s", stores->server.socket);
        assert_int_equal(redis_url_parse(&stores->url, str_from_c(url), &stores->check.problems),
                         0);
        stores_open_seal(stores);
        stores->check.is_replica = true;
        stores->check.before_start = stores_make_fleet;
    }
    stores_open(stores);
    *state = stores;
    return 0;
}

static inline int stores_teardown(void **state)
{
    struct stores *stores = *state;
    stores_close(stores);
    if (stores->kind == KIND_REDIS) {
        redis_server_fini(&stores->server);
        redis_url_fini(&stores->url);
        seal_free(&stores->seal);
    }
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

// ---- what is declared ----

struct item {
    enum noun noun;
    const char *key;
    const char *value; // canonical; NULL: delete
    const char *pool;  // that it refers to
};

static inline void stores_write_file(const struct stores *stores, const struct item *items,
                                     unsigned count)
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

static inline bool stores_has(struct stores *stores, const struct item *item)
{
    struct store_record record;
    int err = store_get(stores->check.store, item->noun, str_from_c(item->key), &record);
    return item->value == NULL ? err == ERR_NOT_FOUND
                               : err == 0 && str_eq(record.value, str_from_c(item->value));
}

static inline void stores_wait(struct stores *stores, const struct item *items, unsigned count)
{
    uint64_t until = clock_monotonic_ns() + 60 * NS_PER_SEC;
    for (unsigned i = 0; i < count;) {
        assert_true(clock_monotonic_ns() < until);
        loop_turn(&stores->check.control, 10);
        i = stores_has(stores, &items[i]) ? i + 1 : 0;
    }
    while (stores->check.revision < store_revision(stores->check.store)) {
        assert_true(clock_monotonic_ns() < until);
        loop_turn(&stores->check.control, 5); // the feed follows the commit
    }
}

static inline struct store_change *stores_set(struct store_request *request, unsigned i,
                                              const struct item *item)
{
    struct store_change *change = check_set(request, i, item->noun, item->key, item->value);
    if (item->pool != NULL) {
        check_refer(request, i, NOUN_POOL, item->pool, "/pool");
    }
    return change;
}

// All of `items` is what is declared afterwards; a list must hold all there is, as a file does.
static inline void stores_declare(struct stores *stores, const struct item *items, unsigned count)
{
    if (stores->kind == KIND_FILE) {
        stores_write_file(stores, items, count);
    } else {
        struct store_request *request = store_request_new(count);
        for (unsigned i = 0; i < count; i++) {
            stores_set(request, i, &items[i]);
        }
        check_expect(&stores->check, request, 0);
    }
    stores_wait(stores, items, count);
}

// Routes and pools as they are stored.
#define ROUTE(host, body) \
    "{\"host\":\"" host "\",\"path\":\"/\",\"respond\":{\"body\":\"" body "\"}}"
#define ROUTE_TO(host, pool) "{\"host\":\"" host "\",\"path\":\"/\",\"pool\":\"" pool "\"}"
#define POOL                 "{\"targets\":[]}"
