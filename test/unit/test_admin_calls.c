// SPDX-License-Identifier: MIT
// Which call a request is, and who may make it.
#include "admin_check.h"
#include "net/address.h"
#include <sys/stat.h>

static void finds_rows(void **state)
{
    (void)state;
    static const struct {
        enum http_method method;
        const char *path;
        const char *pattern; // NULL: no row
        const char *first;
        const char *second;
        const char *allow;
    } cases[] = {
        {METHOD_GET, "/v1/routes", "/v1/routes", "", "", NULL},
        {METHOD_GET, "/v1/routes/", "/v1/routes", "", "", NULL},
        {METHOD_PUT, "/v1/routes/a.example/b/c", "/v1/routes/{*}", "a.example/b/c", "", NULL},
        {METHOD_GET, "/v1/pools/p", "/v1/pools/{}", "p", "", NULL},
        {METHOD_GET, "/v1/certificates", "/v1/certificates", "", "", NULL},
        {METHOD_PATCH, "/v1/certificates/c", "/v1/certificates/{}", "c", "", NULL},
        {METHOD_POST, "/v1/certificates/c", NULL, "", "", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"},
        {METHOD_GET, "/v1/certificates/c/d", NULL, "", "", NULL},
        {METHOD_GET, "/v1/pools/p/targets", "/v1/pools/{}/targets", "p", "", NULL},
        {METHOD_DELETE, "/v1/pools/p/targets/10.0.0.1%3A80", "/v1/pools/{}/targets/{}", "p",
         "10.0.0.1%3A80", NULL},
        {METHOD_POST, "/v1/pools/p/switch", "/v1/pools/{}/switch", "p", "", NULL},
        {METHOD_POST, "/v1/routes/a", NULL, "", "", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"},
        {METHOD_GET, "/v1/batch", NULL, "", "", "POST, OPTIONS"},
        {METHOD_POST, "/v1/pools/p/targets/a", NULL, "", "", "GET, HEAD, PUT, DELETE, OPTIONS"},
        {METHOD_GET, "/v1/pools/p/targets/a", "/v1/pools/{}/targets/{}", "p", "a", NULL},
        {METHOD_GET, "/v1/pools/p/switch", NULL, "", "", "POST, OPTIONS"},
        {METHOD_POST, "/admin/set_backends", "/admin/set_backends", "", "", NULL},
        {METHOD_POST, "/admin/set_backends/", "/admin/set_backends", "", "", NULL},
        {METHOD_POST, "/admin/set_backends/x", NULL, "", "", NULL},
        {METHOD_PUT, "/metrics", NULL, "", "", "GET, HEAD, OPTIONS"},
        {METHOD_GET, "/v1/nothing", NULL, "", "", NULL},
        {METHOD_GET, "/", NULL, "", "", NULL},
        {METHOD_GET, "/v1/pools/p/q", NULL, "", "", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str rest[2] = {STR_NULL, STR_NULL};
        const char *allow = NULL;
        const struct call_row *row =
            calls_find(str_from_c(cases[i].path), cases[i].method, rest, &allow);
        if (cases[i].pattern == NULL) {
            assert_null(row);
        } else {
            assert_non_null(row);
            assert_string_equal(row->pattern, cases[i].pattern);
        }
        assert_true(str_eq(rest[0], str_from_c(cases[i].first)));
        assert_true(str_eq(rest[1], str_from_c(cases[i].second)));
        if (cases[i].allow == NULL) {
            assert_null(allow);
        } else {
            assert_string_equal(allow, cases[i].allow);
        }
    }
}

static void reads_durations(void **state)
{
    (void)state;
    uint64_t ms = 1;
    assert_int_equal(text_duration_ms(STR("0"), &ms), 0);
    assert_int_equal(ms, 0);
    assert_int_equal(text_duration_ms(STR("250ms"), &ms), 0);
    assert_int_equal(ms, 250);
    assert_int_equal(text_duration_ms(STR("2m"), &ms), 0);
    assert_int_equal(ms, 120000);
    assert_int_equal(text_duration_ms(STR(""), &ms), ERR_SYNTAX);
    assert_int_equal(text_duration_ms(STR("5"), &ms), ERR_SYNTAX);
    assert_int_equal(text_duration_ms(STR("-5s"), &ms), ERR_SYNTAX);
    assert_int_equal(text_duration_ms(STR("99999999999999999999s"), &ms), ERR_SYNTAX);
    assert_int_equal(text_duration_ms(STR("18446744073709551615d"), &ms), ERR_SYNTAX);
}

static void matches_etags(void **state)
{
    (void)state;
    bool any = false;
    assert_true(text_etag_matches(STR("\"7\""), 7, &any));
    assert_false(any);
    assert_true(text_etag_matches(STR("\"1\", \"7\""), 7, &any));
    assert_false(text_etag_matches(STR("7"), 7, &any));
    assert_false(text_etag_matches(STR("W/\"7\""), 7, &any));
    assert_true(text_etag_matches(STR("*"), 7, &any));
    assert_true(any);
}

static void guards(void **state)
{
    struct admin_check *check = *state;
    static const struct {
        const char *peer; // address
        const char *lines;
        unsigned status;
    } cases[] = {
        {"::1", "", 200},
        {"127.0.0.1", "", 200},
        {"10.0.0.1", "", 401},
        {"10.0.0.1", "Authorization: Bearer " ADMIN_TOKEN, 200},
        {"10.0.0.1", "Authorization: bearer " ADMIN_TOKEN, 200},
        {"10.0.0.1", "Authorization: Bearer wrong", 401},
        {"::1", "Authorization: Bearer wrong", 401},
        {"::1", "Authorization: Basic YTpi", 401},
        {"::1", "Host: 127.0.0.1", 200},
        {"::1", "Host: [::1]:9", 200},
        {"::1", "Host: LOCALHOST:1234", 200},
        {"::1", "Host: evil.example", 403},
        {"::1", "Host: 10.0.0.1", 403},
        {"::1", "Host: localhost.evil.example", 403},
        {"::1", "Origin: http://localhost:8081", 200},
        {"::1", "Origin: http://localhost:8082", 403},
        {"::1", "Origin: http://evil.example", 403},
        {"::1", "Origin: null", 403},
        {"10.0.0.1", "Authorization: Bearer " ADMIN_TOKEN "\nHost: evil.example", 403},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(net_parse_in6(str_from_c(cases[i].peer), &check->peer), 0);
        unsigned status = admin_do(check, "GET", "/v1/status", cases[i].lines, NULL);
        if (status != cases[i].status) {
            fail_msg("%s %s: %u", cases[i].peer, cases[i].lines, status);
        }
    }
    check->peer = in6addr_loopback;
    check->config.admin.require_token = true;
    assert_int_equal(admin_do(check, "GET", "/v1/status", NULL, NULL), 401);
    assert_int_equal(admin_do(check, "GET", "/healthz", "Host: 10.1.1.1", NULL), 200);
    check->config.admin.require_token = false;
}

static void refuses_clearly(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    char value[100];
    assert_int_equal(admin_call(check, &script, "POST", "/v1/status", NULL, ""), 405);
    assert_true(script_stream_field(&script, "Allow", value, sizeof value));
    assert_string_equal(value, "GET, HEAD, OPTIONS");
    assert_true(script_stream_field(&script, "Content-Type", value, sizeof value));
    assert_string_equal(value, "application/problem+json");
    json_t *problem = json_loads(script_stream_text(&script), 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(problem, "status")), 405);
    assert_true(json_is_array(json_object_get(problem, "errors")));
    json_decref(problem);
    script_stream_fini(&script);

    assert_int_equal(admin_call(check, &script, "OPTIONS", "/v1/pools", NULL, NULL), 204);
    assert_true(script_stream_field(&script, "Allow", value, sizeof value));
    assert_false(script_stream_field(&script, "Access-Control-Allow-Origin", value, sizeof value));
    script_stream_fini(&script);

    assert_int_equal(admin_do(check, "GET", "/v1/nothing", NULL, NULL), 404);
    assert_int_equal(admin_do(check, "GET", "/v1/tenants", NULL, NULL), 404);
    assert_int_equal(admin_do(check, "POST", "/v1/pools/p/switch", NULL, "{}"), 422);
    assert_int_equal(admin_do(check, "PUT", "/v1/pools/p", "Content-Type: text/plain", "{}"), 415);
    assert_int_equal(admin_do(check, "GET", "/v1/pools?limit=0", NULL, NULL), 400);
    assert_int_equal(admin_do(check, "GET", "/v1/pools?%zz", NULL, NULL), 400);
    char *large = malloc(ADMIN_BODY_MAX + 2);
    assert_non_null(large);
    memset(large, ' ', ADMIN_BODY_MAX + 1);
    large[ADMIN_BODY_MAX + 1] = '\0';
    assert_int_equal(admin_do(check, "PUT", "/v1/pools/p", NULL, large), 413);
    free(large);
}

static void head_is_get_without_body(void **state)
{
    struct admin_check *check = *state;
    static const char *const targets[] = {"/v1/status", "/v1/export", "/v1/events", "/metrics"};
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        struct script_stream script;
        assert_int_equal(admin_call(check, &script, "HEAD", targets[i], NULL, NULL), 200);
        assert_int_equal(script.body.len, 0);
        assert_true(script.is_ended);
        script_stream_fini(&script);
    }
}

static void tells_status(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    assert_int_equal(admin_call(check, &script, "GET", "/v1/status?pretty", NULL, NULL), 200);
    json_t *status = json_loads(script_stream_text(&script), 0, NULL);
    assert_string_equal(json_string_value(json_object_get(status, "node")), "edge-1");
    assert_int_equal(json_integer_value(json_object_get(status, "connections")), 3);
    assert_int_equal(json_array_size(json_object_get(status, "workers")), 2);
    assert_true(json_is_true(json_object_get(json_object_get(status, "store"), "writable")));
    json_decref(status);
    assert_non_null(strstr(script_stream_text(&script), "\n  \"version\""));
    script_stream_fini(&script);
    assert_int_equal(admin_call(check, &script, "GET", "/metrics", NULL, NULL), 200);
    const char *text = script_stream_text(&script);
    assert_non_null(strstr(text, "# TYPE pointsman_requests_total counter\n"));
    assert_non_null(strstr(text, "\npointsman_routes 0\n"));
    assert_non_null(strstr(text, "\npointsman_access_log_write_errors_total 0\n"));
    assert_non_null(strstr(text, "\npointsman_access_log_lost_total 0\n"));
    script_stream_fini(&script);
    assert_int_equal(admin_call(check, &script, "GET", "/v1/stats", NULL, NULL), 200);
    json_t *stats = json_loads(script_stream_text(&script), 0, NULL);
    assert_true(json_is_object(json_object_get(stats, "tenants")));
    json_decref(stats);
    script_stream_fini(&script);
    assert_int_equal(admin_do(check, "GET", "/readyz", NULL, NULL), 200);
    check->is_draining = true;
    assert_int_equal(admin_do(check, "GET", "/readyz", NULL, NULL), 503);
}

static void makes_and_reads_tokens(void **state)
{
    (void)state;
    char folder[] = "/tmp/token-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char path[64];
    snprintf(path, sizeof path, "%s/admin.token", folder);
    struct problems problems;
    problems_init(&problems);
    char *first = NULL;
    char *second = NULL;
    assert_int_equal(admin_token_load(path, &first, &problems), 0);
    assert_int_equal(strlen(first), 64);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(admin_token_load(path, &second, &problems), 0);
    assert_string_equal(first, second);
    free(second);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(admin_token_load(path, &second, &problems), ERR_INVALID);
    assert_null(second);
    assert_non_null(strstr(problems.items[0].detail, "chmod 600"));
    problems_fini(&problems);
    problems_init(&problems);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(admin_token_load(path, &second, &problems), ERR_INVALID);
    problems_fini(&problems);
    free(first);
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_rows),
        cmocka_unit_test(reads_durations),
        cmocka_unit_test(matches_etags),
        cmocka_unit_test_setup_teardown(guards, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(refuses_clearly, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(head_is_get_without_body, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(tells_status, admin_setup, admin_teardown),
        cmocka_unit_test(makes_and_reads_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
