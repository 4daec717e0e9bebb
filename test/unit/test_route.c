// SPDX-License-Identifier: MIT
#include "base/hash.h"
#include "route/table.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static void free_version(struct version *version)
{
    free(CONTAINER_OF(version, struct route_version, version));
}

static void drop(void *context, struct route_version *version)
{
    (void)context;
    route_slot_unref(version->slot);
    version_unref(&version->version);
}

static struct route_version *put(struct route_table *table, const char *host, const char *path)
{
    struct route_slot *slot = NULL;
    assert_int_equal(route_table_make(table, str_from_c(host), str_from_c(path), &slot), 0);
    struct route_version *version = calloc(1, sizeof *version);
    assert_non_null(version);
    version_init(&version->version, free_version);
    version->slot = slot;
    slot->refs++;
    struct route_version *before = route_table_publish(table, slot, version);
    if (before != NULL) {
        drop(NULL, before);
    }
    return version;
}

static void rm(struct route_table *table, const char *host, const char *path)
{
    struct route_slot *unlinked[2];
    struct route_slot *slot = route_table_slot(table, str_from_c(host), str_from_c(path));
    assert_non_null(slot);
    struct route_version *before = route_table_publish(table, slot, NULL);
    unsigned count = route_table_unlink(table, slot, unlinked);
    if (before != NULL) {
        drop(NULL, before);
    }
    urcu_qsbr_synchronize_rcu();
    for (unsigned i = 0; i < count; i++) {
        route_slot_unref(unlinked[i]);
    }
}

// The text of the route that is found, or "".
static const char *find(struct route_table *table, const char *host, const char *path)
{
    static char text[4096];
    struct route_version *found = route_find(table, str_from_c(host), str_from_c(path));
    text[0] = 0;
    if (found != NULL) {
        size_t len = route_slot_text(found->slot, text, sizeof text);
        assert_int_equal(len, strlen(text));
    }
    return text;
}

static struct route_table *setup(void)
{
    struct route_table *table;
    assert_int_equal(route_table_new(&table), 0);
    return table;
}

static void teardown(struct route_table *table)
{
    route_table_clear(table, drop, NULL);
    assert_int_equal(route_table_count(table), 0);
    route_table_free(&table);
    assert_null(table);
}

static void test_hosts(void **state)
{
    (void)state;
    struct route_table *table = setup();
    assert_string_equal(find(table, "a.example", "/"), "");
    put(table, "a.example", "/");
    put(table, "[::1]", "/");
    assert_string_equal(find(table, "a.example", "/"), "a.example");
    assert_string_equal(find(table, "a.example", "/x/y"), "a.example");
    assert_string_equal(find(table, "[::1]", "/"), "[::1]");
    assert_string_equal(find(table, "b.a.example", "/"), "");
    assert_string_equal(find(table, "example", "/"), "");
    assert_string_equal(find(table, "", "/"), "");
    put(table, "*", "/");
    assert_string_equal(find(table, "", "/"), "*");
    assert_string_equal(find(table, "b.a.example", "/"), "*");
    assert_string_equal(find(table, "a.example", "/"), "a.example");
    rm(table, "*", "/");
    assert_string_equal(find(table, "", "/"), "");
    assert_int_equal(route_table_count(table), 2);
    teardown(table);
}

static void test_wildcards(void **state)
{
    (void)state;
    struct route_table *table = setup();
    put(table, "*.example.com", "/");
    put(table, "*.shop.example.com", "/");
    put(table, "www.shop.example.com", "/");
    put(table, "*.com", "/");
    assert_string_equal(find(table, "example.com", "/"), "*.com");
    assert_string_equal(find(table, "com", "/"), "");
    assert_string_equal(find(table, "a.example.com", "/"), "*.example.com");
    assert_string_equal(find(table, "a.b.c.example.com", "/"), "*.example.com");
    assert_string_equal(find(table, "shop.example.com", "/"), "*.example.com");
    assert_string_equal(find(table, "a.shop.example.com", "/"), "*.shop.example.com");
    assert_string_equal(find(table, "a.b.shop.example.com", "/"), "*.shop.example.com");
    assert_string_equal(find(table, "www.shop.example.com", "/"), "www.shop.example.com");
    assert_string_equal(find(table, "notexample.com", "/"), "*.com");
    // What cannot be a host finds no internal name.
    assert_string_equal(find(table, ".example.com", "/"), "");
    assert_string_equal(find(table, "*.example.com", "/"), "");
    rm(table, "*.example.com", "/");
    assert_string_equal(find(table, "a.example.com", "/"), "*.com");
    rm(table, "*.com", "/");
    assert_string_equal(find(table, "a.example.com", "/"), "");
    assert_string_equal(find(table, "a.shop.example.com", "/"), "*.shop.example.com");
    teardown(table);
}

static void test_deep_names(void **state)
{
    (void)state;
    struct route_table *table = setup();
    char host[256];
    size_t len = 0;
    for (; len < 250; len += 2) {
        memcpy(host + len, "a.", 2);
    }
    host[len++] = 'z';
    host[len] = 0;
    put(table, "*.z", "/");
    assert_string_equal(find(table, host, "/"), "*.z");
    char wildcard[300];
    snprintf(wildcard, sizeof wildcard, "*.%s", host + 2);
    put(table, wildcard, "/");
    assert_string_equal(find(table, host, "/"), wildcard);
    rm(table, wildcard, "/");
    assert_string_equal(find(table, host, "/"), "*.z");
    teardown(table);
}

static void test_paths(void **state)
{
    (void)state;
    struct route_table *table = setup();
    put(table, "h", "/api");
    assert_string_equal(find(table, "h", "/"), "");
    assert_string_equal(find(table, "h", "/api"), "h/api");
    assert_string_equal(find(table, "h", "/api/"), "h/api");
    assert_string_equal(find(table, "h", "/api/x/y"), "h/api");
    assert_string_equal(find(table, "h", "/apix"), "");
    assert_string_equal(find(table, "h", "/ap"), "");
    assert_string_equal(find(table, "h", "//api"), "");
    assert_string_equal(find(table, "h", "/x/api"), "");
    put(table, "h", "/");
    put(table, "h", "/api/v1/users");
    assert_string_equal(find(table, "h", "/apix"), "h");
    assert_string_equal(find(table, "h", "*"), "h");
    assert_string_equal(find(table, "h", "/api/v1"), "h/api");
    assert_string_equal(find(table, "h", "/api//v1/users"), "h/api");
    assert_string_equal(find(table, "h", "/api/v1/users"), "h/api/v1/users");
    assert_string_equal(find(table, "h", "/api/v1/users/1/x"), "h/api/v1/users");
    assert_string_equal(find(table, "h", "/api/v1/users2"), "h/api");
    rm(table, "h", "/api");
    assert_string_equal(find(table, "h", "/api/v1"), "h");
    assert_string_equal(find(table, "h", "/api/v1/users"), "h/api/v1/users");
    struct route_version *found = route_find(table, STR("h"), STR("/api/v1/users"));
    assert_true(str_eq(route_slot_host(found->slot), STR("h")));
    assert_true(str_eq(route_slot_path(found->slot), STR("/api/v1/users")));
    found = route_find(table, STR("h"), STR("/"));
    assert_true(str_eq(route_slot_host(found->slot), STR("h")));
    assert_true(str_eq(route_slot_path(found->slot), STR("/")));
    teardown(table);
}

static void test_fall_through(void **state)
{
    (void)state;
    struct route_table *table = setup();
    put(table, "a.b.c", "/only");
    put(table, "*.b.c", "/wild");
    put(table, "*.c", "/");
    put(table, "*", "/any");
    assert_string_equal(find(table, "a.b.c", "/only"), "a.b.c/only");
    assert_string_equal(find(table, "a.b.c", "/wild/x"), "*.b.c/wild");
    assert_string_equal(find(table, "a.b.c", "/any"), "*.c");
    rm(table, "*.c", "/");
    assert_string_equal(find(table, "a.b.c", "/any"), "*/any");
    assert_string_equal(find(table, "a.b.c", "/none"), "");
    assert_string_equal(find(table, "", "/any/x"), "*/any");
    teardown(table);
}

static void test_limits(void **state)
{
    (void)state;
    struct route_table *table = setup();
    char path[400];
    for (unsigned i = 0; i < ROUTE_SEGMENT_MAX + 1; i++) {
        memcpy(path + 2 * (size_t)i, "/s", 3);
    }
    struct route_slot *slot = NULL;
    assert_int_equal(route_table_make(table, STR("h"), str_from_c(path), &slot), ERR_LIMIT);
    assert_int_equal(route_table_make(table, STR("h"), STR("x"), &slot), ERR_LIMIT);
    assert_int_equal(route_table_make(table, STR("h"), STR(""), &slot), ERR_LIMIT);
    assert_int_equal(route_table_make(table, STR(""), STR("/"), &slot), ERR_LIMIT);
    char deepest[400];
    str_copy(deepest, sizeof deepest, str_sub(str_from_c(path), 0, 2 * ROUTE_SEGMENT_MAX));
    put(table, "h", deepest);
    char expected[500];
    snprintf(expected, sizeof expected, "h%s", deepest);
    assert_string_equal(find(table, "h", deepest), expected);
    assert_string_equal(find(table, "h", path), expected);
    assert_string_equal(find(table, "h", "/s/s"), "");
    // A path of very many segments costs no more than the deepest route.
    char *many = malloc(30001);
    assert_non_null(many);
    memset(many, '/', 30000);
    many[30000] = 0;
    assert_string_equal(find(table, "h", many), "");
    free(many);
    teardown(table);
}

static void test_many_paths_in_one_host(void **state)
{
    (void)state;
    enum { PATHS = 10000 };
    struct route_table *table = setup();
    char path[64];
    char expected[80];
    for (unsigned i = 0; i < PATHS; i++) {
        snprintf(path, sizeof path, i % 2 ? "/p%u" : "/group/p%u", i);
        put(table, "h", path);
    }
    assert_int_equal(route_table_count(table), PATHS);
    for (unsigned i = 0; i < PATHS; i++) {
        snprintf(path, sizeof path, i % 2 ? "/p%u/x" : "/group/p%u/x", i);
        snprintf(expected, sizeof expected, i % 2 ? "h/p%u" : "h/group/p%u", i);
        assert_string_equal(find(table, "h", path), expected);
    }
    assert_string_equal(find(table, "h", "/group"), "");
    for (unsigned i = 0; i < PATHS; i += 100) {
        snprintf(path, sizeof path, "/group/p%u", i);
        rm(table, "h", path);
        assert_string_equal(find(table, "h", path), "");
    }
    assert_int_equal(route_table_count(table), PATHS - PATHS / 100);
    teardown(table);
}

static void test_empty_slots_are_invisible(void **state)
{
    (void)state;
    struct route_table *table = setup();
    struct route_slot *unlinked[2];
    struct route_slot *slot;
    assert_int_equal(route_table_make(table, STR("h"), STR("/a"), &slot), 0);
    assert_string_equal(find(table, "h", "/a"), "");
    struct route_slot *again;
    assert_int_equal(route_table_make(table, STR("h"), STR("/a"), &again), 0);
    assert_ptr_equal(slot, again);
    assert_int_equal(route_table_unlink(table, slot, unlinked), 2); // and its host
    struct route_slot *none[2];
    assert_int_equal(route_table_unlink(table, slot, none), 0);
    assert_null(route_table_slot(table, STR("h"), STR("/a")));
    urcu_qsbr_synchronize_rcu();
    route_slot_unref(unlinked[0]);
    route_slot_unref(unlinked[1]);
    teardown(table);
}

static void test_growing(void **state)
{
    (void)state;
    enum { HOSTS = 20000 };
    struct route_table *table = setup();
    char host[64];
    route_table_expect(table, 3000); // not a power of 2
    for (unsigned i = 0; i < HOSTS; i++) {
        snprintf(host, sizeof host, "h%u.example", i);
        put(table, host, "/");
        if (i % 100 == 0) {
            rcu_turn_done();
        }
    }
    for (unsigned i = 0; i < HOSTS; i++) {
        snprintf(host, sizeof host, "h%u.example", i);
        assert_string_equal(find(table, host, "/"), host);
    }
    teardown(table);
}

static void test_split_by_weight(void **state)
{
    (void)state;
    struct pool_version versions[2] = {{.own = NULL}, {.own = NULL}};
    struct pool_slot slots[3] = {{.current = &versions[0]}, {.current = &versions[1]}, {.refs = 0}};
    const struct route_split items[] = {{&slots[0], 95}, {&slots[1], 5}, {&slots[2], 0}};
    struct route_split_set *split = calloc(1, sizeof *split + sizeof items);
    assert_non_null(split);
    split->count = 3;
    split->total = 100;
    memcpy(split->items, items, sizeof items);
    struct route_version route = {.action = ROUTE_SPLIT, .to.split = split};
    unsigned counts[2] = {0};
    for (unsigned i = 0; i < 10000; i++) {
        struct pool_slot *named = NULL;
        const struct pool_version *pool =
            route_pool(&route, (uint64_t)i * UINT64_C(0x9E3779B97F4A7C15), &named);
        assert_true(named == &slots[0] || named == &slots[1]);
        assert_ptr_equal(pool, named->current);
        counts[named == &slots[1]]++;
    }
    assert_in_range(counts[1], 450, 550);
    free(split);
    struct pool_slot *named = NULL;
    route = (struct route_version){.action = ROUTE_POOL, .to.pool = &slots[2]};
    assert_null(route_pool(&route, 0, &named)); // mentioned, not declared
    assert_ptr_equal(named, &slots[2]);
    route = (struct route_version){.action = ROUTE_RESPOND};
    assert_null(route_pool(&route, 0, &named));
    assert_null(named);
    route = (struct route_version){.action = ROUTE_TARGETS};
    assert_ptr_equal(route_pool(&route, 0, &named), &route.to.targets);
    assert_null(named);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_wildcards),
        cmocka_unit_test(test_deep_names),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_fall_through),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_many_paths_in_one_host),
        cmocka_unit_test(test_empty_slots_are_invisible),
        cmocka_unit_test(test_growing),
        cmocka_unit_test(test_split_by_weight),
    };
    hash_seed();
    rcu_thread_begin();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rcu_thread_end();
    return failed;
}
