// SPDX-License-Identifier: MIT
// Routes, pools and targets over the API: conditions, patches, lists.
#include "admin_check.h"

// One exchange whose answer is JSON; the tree is the caller's.
static json_t *ask(struct admin_check *check, const char *method, const char *target,
                   const char *lines, const char *body, unsigned expected)
{
    struct script_stream script;
    unsigned status = admin_call(check, &script, method, target, lines, body);
    if (status != expected) {
        fail_msg("%s %s: %u instead of %u: %s", method, target, status, expected,
                 script_stream_text(&script));
    }
    json_t *tree = json_loads(script_stream_text(&script), 0, NULL);
    assert_non_null(tree);
    script_stream_fini(&script);
    return tree;
}

static void expect_field(struct admin_check *check, const char *method, const char *target,
                         const char *body, unsigned status, const char *name, const char *expected)
{
    json_t *tree = ask(check, method, target, NULL, body, status);
    char *text = json_dumps(json_object_get(tree, name), JSON_COMPACT | JSON_ENCODE_ANY);
    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
    json_decref(tree);
}

static uint64_t etag_of(struct admin_check *check, const char *method, const char *target,
                        const char *body, unsigned expected)
{
    struct script_stream script;
    char text[40] = "";
    assert_int_equal(admin_call(check, &script, method, target, NULL, body), expected);
    assert_true(script_stream_field(&script, "ETag", text, sizeof text));
    script_stream_fini(&script);
    uint64_t value = 0;
    assert_int_equal(str_to_u64(str_make(text + 1, strlen(text) - 2), &value), 0);
    return value;
}

static void makes_reads_replaces_deletes(void **state)
{
    struct admin_check *check = *state;
    const char *url = "/v1/routes/Shop.Example.com/api/";
    assert_int_equal(admin_do(check, "GET", url, NULL, NULL), 404);
    uint64_t first = etag_of(check, "PUT", url, "{\"targets\":[\"10.0.0.1:80\"]}", 201);
    assert_int_equal(etag_of(check, "PUT", url, "{\"targets\":[\"10.0.0.1\"]}", 200), first);
    uint64_t second = etag_of(check, "PUT", url, "{\"targets\":[\"10.0.0.2:80\"]}", 200);
    assert_true(second > first);
    assert_int_equal(publisher_revision(check->publisher), second);
    expect_field(check, "GET", "/v1/routes/shop.example.com/api", NULL, 200, "host",
                 "\"shop.example.com\"");
    expect_field(check, "GET", "/v1/routes/shop.example.com/api", NULL, 200, "path", "\"/api\"");
    assert_int_equal(publisher_route_count(check->publisher), 1);
    assert_int_equal(admin_do(check, "DELETE", url, NULL, NULL), 204);
    assert_int_equal(admin_do(check, "DELETE", url, NULL, NULL), 404);
    assert_int_equal(publisher_route_count(check->publisher), 0);
}

static void honours_conditions(void **state)
{
    struct admin_check *check = *state;
    const char *url = "/v1/pools/web";
    const char *body = "{\"targets\":[\"10.0.0.1:80\"]}";
    char line[64];
    assert_int_equal(admin_do(check, "PUT", url, "If-Match: \"1\"", body), 412);
    assert_int_equal(admin_do(check, "PUT", url, "If-Match: *", body), 412);
    assert_int_equal(admin_do(check, "PUT", url, "If-None-Match: *", body), 201);
    assert_int_equal(admin_do(check, "PUT", url, "If-None-Match: *", body), 412);
    uint64_t etag = etag_of(check, "GET", url, NULL, 200);
    snprintf(line, sizeof line, "If-None-Match: \"%llu\"", (unsigned long long)etag);
    assert_int_equal(admin_do(check, "GET", url, line, NULL), 304);
    snprintf(line, sizeof line, "If-Match: \"%llu\"", (unsigned long long)etag + 1);
    assert_int_equal(admin_do(check, "DELETE", url, line, NULL), 412);
    snprintf(line, sizeof line, "If-Match: \"99\", \"%llu\"", (unsigned long long)etag);
    assert_int_equal(admin_do(check, "PATCH", url, line, "{\"balance\":\"round_robin\"}"), 200);
    assert_int_equal(admin_do(check, "DELETE", url, line, NULL), 412);
    assert_int_equal(admin_do(check, "DELETE", url, "If-Match: *", NULL), 204);
}

static void patches(void **state)
{
    struct admin_check *check = *state;
    const char *url = "/v1/routes/a.example";
    assert_int_equal(admin_do(check, "PATCH", url, NULL, "{\"retries\":2}"), 404);
    assert_int_equal(
        admin_do(check, "PUT", url, NULL, "{\"targets\":[\"10.0.0.1:80\"],\"strip_path\":true}"),
        201);
    expect_field(check, "PATCH", url, "{\"retries\":2,\"strip_path\":null}", 200, "retries", "2");
    assert_int_equal(admin_do(check, "PATCH", url, NULL, "[]"), 422);
    assert_int_equal(admin_do(check, "PATCH", url, NULL, "{"), 400);
    assert_int_equal(admin_do(check, "PATCH", url, NULL, "{\"host\":\"b.example\"}"), 422);
    // Two at once: both are done, the second on top of the first.
    struct script_stream one;
    struct script_stream two;
    admin_begin(check, &one, "PATCH", url, NULL, "{\"retries\":3}");
    admin_begin(check, &two, "PATCH", url, NULL, "{\"strip_path\":true}");
    admin_finish(check, &one);
    admin_finish(check, &two);
    assert_int_equal(one.status, 200);
    assert_int_equal(two.status, 200);
    script_stream_fini(&one);
    script_stream_fini(&two);
    expect_field(check, "GET", url, NULL, 200, "retries", "3");
    expect_field(check, "GET", url, NULL, 200, "strip_path", "true");
}

static void points_at_faults(void **state)
{
    struct admin_check *check = *state;
    static const struct {
        const char *target;
        const char *body;
        unsigned status;
        const char *errors; // pointer of the first
    } cases[] = {
        {"/v1/routes/a.example", "{\"pool\":\"none\"}", 422, "/pool"},
        {"/v1/routes/a.example",
         "{\"split\":[{\"pool\":\"web\",\"weight\":1},{\"pool\":\"none\",\"weight\":1}]}", 422,
         "/split/1/pool"},
        {"/v1/routes/a.example", "{\"host\":\"b.example\",\"pool\":\"web\"}", 422, "/host"},
        {"/v1/routes/a.example/x", "{\"path\":\"/y\",\"pool\":\"web\"}", 422, "/path"},
        {"/v1/routes/a.example", "{\"pool\":\"web\",\"retry\":1}", 422, "/retry"},
        {"/v1/routes/a.example/x%2Fy", "{\"pool\":\"web\"}", 422, NULL},
        {"/v1/routes/a.example/../y", "{\"pool\":\"web\"}", 422, NULL},
        {"/v1/routes/a.example//y", "{\"pool\":\"web\"}", 422, NULL},
        {"/v1/routes/a.example/%3Fy", "{\"pool\":\"web\"}", 422, NULL},
        {"/v1/routes/a.example/%zz", "{\"pool\":\"web\"}", 400, NULL},
        {"/v1/routes/a.example", "{\"pool\":", 400, ""},
        {"/v1/routes/a.example", "", 400, ""},
        {"/v1/routes/a.example", "[]", 422, ""},
        {"/v1/pools/web/targets/10.0.0.1%3A80", "{\"weight\":70000}", 422, "/weight"},
        {"/v1/pools/web/targets/10.0.0.1%3A80", "{\"address\":\"10.0.0.2:80\"}", 422, "/address"},
        {"/v1/pools/none/targets/10.0.0.1%3A80", "{}", 404, NULL},
        {"/v1/pools/web/targets/%20", "{}", 422, ""},
    };
    assert_int_equal(admin_do(check, "PUT", "/v1/pools/web", NULL, "{\"targets\":[]}"), 201);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *tree = ask(check, "PUT", cases[i].target, NULL, cases[i].body, cases[i].status);
        json_t *error = json_array_get(json_object_get(tree, "errors"), 0);
        const char *pointer = json_string_value(json_object_get(error, "pointer"));
        if (cases[i].errors != NULL && (pointer == NULL || strcmp(pointer, cases[i].errors) != 0)) {
            fail_msg("%s %s: pointer %s", cases[i].target, cases[i].body, pointer);
        }
        json_decref(tree);
    }
    assert_int_equal(publisher_route_count(check->publisher), 0);
}

static void keeps_what_is_used(void **state)
{
    struct admin_check *check = *state;
    assert_int_equal(admin_do(check, "PUT", "/v1/pools/web", NULL, "{\"targets\":[]}"), 201);
    assert_int_equal(admin_do(check, "PUT", "/v1/routes/*", NULL, "{\"pool\":\"web\"}"), 201);
    json_t *tree = ask(check, "DELETE", "/v1/pools/web", NULL, NULL, 409);
    json_decref(tree);
    assert_int_equal(admin_do(check, "DELETE", "/v1/routes/%2A", NULL, NULL), 204);
    assert_int_equal(admin_do(check, "DELETE", "/v1/pools/web", NULL, NULL), 204);
}

static void waits_as_told(void **state)
{
    struct admin_check *check = *state;
    const char *body = "{\"targets\":[]}";
    assert_int_equal(admin_do(check, "PUT", "/v1/pools/a?wait=fleet&timeout=5s", NULL, body), 201);
    assert_int_equal(admin_do(check, "PUT", "/v1/pools/b?wait=none", NULL, body), 202);
    assert_int_equal(admin_do(check, "PUT", "/v1/pools/b?wait=all", NULL, body), 400);
    assert_int_equal(admin_do(check, "PUT", "/v1/pools/b?timeout=soon", NULL, body), 400);
    assert_int_equal(admin_do(check, "DELETE", "/v1/pools/b?wait=none", NULL, NULL), 202);
}

static void lists_in_pages(void **state)
{
    struct admin_check *check = *state;
    for (int i = 0; i < 25; i++) {
        char target[64];
        snprintf(target, sizeof target, "/v1/routes/h%02d.example%s", i / 2, i % 2 ? "/x" : "");
        assert_int_equal(admin_do(check, "PUT", target, NULL, "{\"respond\":{\"status\":204}}"),
                         201);
    }
    json_t *page = ask(check, "GET", "/v1/routes?limit=10", NULL, NULL, 200);
    assert_int_equal(json_array_size(json_object_get(page, "routes")), 10);
    assert_string_equal(json_string_value(json_object_get(page, "next")), "h04.example/x");
    json_decref(page);
    page = ask(check, "GET", "/v1/routes?limit=15&after=h04.example/x", NULL, NULL, 200);
    assert_int_equal(json_array_size(json_object_get(page, "routes")), 15);
    assert_null(json_object_get(page, "next"));
    json_decref(page);
    page = ask(check, "GET", "/v1/routes?host=H03.example", NULL, NULL, 200);
    assert_int_equal(json_array_size(json_object_get(page, "routes")), 2);
    json_decref(page);
    assert_int_equal(admin_do(check, "PUT", "/v1/pools/web", NULL, "{\"targets\":[]}"), 201);
    page = ask(check, "GET", "/v1/pools", NULL, NULL, 200);
    json_t *pool = json_array_get(json_object_get(page, "pools"), 0);
    assert_string_equal(json_string_value(json_object_get(pool, "name")), "web");
    json_decref(page);
}

static void changes_targets(void **state)
{
    struct admin_check *check = *state;
    const char *url = "/v1/pools/web/targets/10.0.0.1%3A80";
    assert_int_equal(admin_do(check, "PUT", "/v1/pools/web", NULL, "{\"targets\":[]}"), 201);
    expect_field(check, "PUT", url, "{\"weight\":3}", 201, "weight", "3");
    expect_field(check, "PUT", url, "{\"state\":\"drain\"}", 200, "weight", "3");
    json_t *targets = ask(check, "GET", "/v1/pools/web/targets", NULL, NULL, 200);
    json_t *target = json_array_get(targets, 0);
    assert_string_equal(json_string_value(json_object_get(target, "state")), "drain");
    assert_int_equal(json_integer_value(json_object_get(target, "requests")), 0);
    json_decref(targets);
    assert_int_equal(admin_do(check, "DELETE", url, NULL, NULL), 204);
    assert_int_equal(admin_do(check, "DELETE", url, NULL, NULL), 404);
    assert_int_equal(admin_do(check, "PUT", url, NULL, ""), 201);
    assert_int_equal(
        admin_do(check, "DELETE", "/v1/pools/web/targets/10.0.0.1%3A80?drain=never", NULL, NULL),
        400);
    assert_int_equal(
        admin_do(check, "DELETE", "/v1/pools/web/targets/10.0.0.1%3A80?drain=30s", NULL, NULL),
        204);
    assert_int_equal(check->cuts, 0);
    expect_field(check, "GET", "/v1/pools/web", NULL, 200, "targets", "[]");
}

static void client_may_leave(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    admin_begin(check, &script, "PUT", "/v1/pools/web", NULL, "{\"targets\":[]}");
    script_stream_leave(&script);
    script_stream_fini(&script);
    for (int i = 0; i < 500 && publisher_pool_count(check->publisher) == 0; i++) {
        loop_turn(&check->control, 20);
    }
    assert_int_equal(publisher_pool_count(check->publisher), 1);
    admin_begin(check, &script, "PUT", "/v1/pools/web", NULL, NULL);
    script_stream_leave(&script);
    script_stream_fini(&script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(makes_reads_replaces_deletes, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(honours_conditions, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(patches, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(points_at_faults, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(keeps_what_is_used, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(waits_as_told, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(lists_in_pages, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(changes_targets, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(client_may_leave, admin_setup, admin_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
