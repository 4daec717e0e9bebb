// SPDX-License-Identifier: MIT
// All targets of a pool at once: POST …/switch and POST /admin/set_backends. What tries the targets is
// scripted here: the linker puts these in the place of the publisher's.
#include "admin_check.h"
#include "net/address.h"

// The trial under way, as the call asked for it.
static struct {
    void (*on_end)(void *context, const struct publish_trial_result *result);
    void *context;
    uint64_t wait_ms;
    char pool[64];
    unsigned target_count;
    unsigned begun;
    unsigned ended; // given up
    int err;        // of those to come
} trial;

int __wrap_publisher_try_targets(struct publisher *publisher, struct str pool,
                                 const struct pool_decl *decl, uint64_t wait_ms,
                                 void (*on_end)(void *context,
                                                const struct publish_trial_result *result),
                                 void *context, struct publish_trial **out);
void __wrap_publish_trial_end(struct publish_trial **out);

int __wrap_publisher_try_targets(struct publisher *publisher, struct str pool,
                                 const struct pool_decl *decl, uint64_t wait_ms,
                                 void (*on_end)(void *context,
                                                const struct publish_trial_result *result),
                                 void *context, struct publish_trial **out)
{
    (void)publisher;
    trial.on_end = on_end;
    trial.context = context;
    trial.wait_ms = wait_ms;
    trial.target_count = decl->target_count;
    str_copy(trial.pool, sizeof trial.pool, pool);
    trial.begun++;
    *out = (struct publish_trial *)&trial;
    return trial.err;
}

void __wrap_publish_trial_end(struct publish_trial **out)
{
    assert_ptr_equal(*out, &trial);
    trial.ended++;
    *out = NULL;
}

static int setup(void **state)
{
    memset(&trial, 0, sizeof trial);
    return admin_setup(state);
}

static void end_trial(bool is_good, const char *failed)
{
    const struct publish_trial_result result = {.is_good = is_good, .failed = str_from_c(failed)};
    trial.on_end(trial.context, &result);
}

static json_t *read_answer(struct script_stream *script)
{
    json_t *tree = json_loads(script_stream_text(script), 0, NULL);
    assert_non_null(tree);
    return tree;
}

// GET, as compact text of one member.
static void expect_member(struct admin_check *check, const char *target, const char *name,
                          const char *expected)
{
    struct script_stream script;
    assert_int_equal(admin_call(check, &script, "GET", target, NULL, NULL), 200);
    json_t *tree = read_answer(&script);
    char *text = json_dumps(json_object_get(tree, name), JSON_COMPACT | JSON_ENCODE_ANY);
    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
    json_decref(tree);
    script_stream_fini(&script);
}

static void make_pool(struct admin_check *check)
{
    assert_int_equal(
        admin_do(check, "PUT", "/v1/pools/web", NULL,
                 "{\"targets\":[{\"address\":\"10.0.0.1:80\",\"weight\":3,"
                 "\"zone\":\"a\"},{\"address\":\"10.0.0.2:80\",\"state\":\"drain\"}]}"),
        201);
}

static void expect_old(struct admin_check *check)
{
    struct script_stream script;
    assert_int_equal(admin_call(check, &script, "GET", "/v1/pools/web", NULL, NULL), 200);
    json_t *tree = read_answer(&script);
    json_t *targets = json_object_get(tree, "targets");
    assert_int_equal(json_array_size(targets), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(targets, 1), "address")),
                        "10.0.0.2:80");
    json_decref(tree);
    script_stream_fini(&script);
}

static void replaces_as_a_difference(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    char first[40];
    char second[40];
    make_pool(check);
    const char *body = "{\"wait_healthy\":\"0\",\"targets\":[\"10.0.0.3\",\"10.0.0.2:80\","
                       "{\"address\":\"10.0.0.1\",\"zone\":\"b\"}]}";
    assert_int_equal(admin_call(check, &script, "POST", "/v1/pools/web/switch", NULL, body), 200);
    json_t *pool = read_answer(&script);
    json_t *targets = json_object_get(pool, "targets");
    assert_int_equal(json_array_size(targets), 3);
    json_t *kept = json_array_get(targets, 2);
    assert_int_equal(json_integer_value(json_object_get(kept, "weight")), 3);
    assert_string_equal(json_string_value(json_object_get(kept, "zone")), "b");
    // Whoever is in the list is to be used.
    json_t *drained = json_array_get(targets, 1);
    const char *drain = json_string_value(json_object_get(drained, "state"));
    assert_true(drain == NULL || strcmp(drain, "up") == 0);
    json_decref(pool);
    assert_true(script_stream_field(&script, "ETag", first, sizeof first));
    script_stream_fini(&script);
    assert_int_equal(admin_call(check, &script, "POST", "/v1/pools/web/switch", NULL, body), 200);
    assert_true(script_stream_field(&script, "ETag", second, sizeof second));
    assert_string_equal(first, second);
    script_stream_fini(&script);
    assert_int_equal(trial.begun, 0);
    // The same targets need no trial either.
    body = "{\"targets\":[\"10.0.0.3\",\"10.0.0.2:80\",\"10.0.0.1\"]}";
    assert_int_equal(admin_do(check, "POST", "/v1/pools/web/switch", NULL, body), 200);
    assert_int_equal(trial.begun, 0);
    body = "{\"targets\":[\"10.0.0.9\"],\"wait_healthy\":0}";
    assert_int_equal(admin_do(check, "POST", "/v1/pools/web/switch?wait=none", NULL, body), 202);
}

static void waits_until_they_are_healthy(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    make_pool(check);
    admin_begin(check, &script, "POST", "/v1/pools/web/switch", NULL,
                "{\"targets\":[\"10.0.0.8:80\",\"10.0.0.9:80\"]}");
    assert_int_equal(trial.begun, 1);
    assert_int_equal(trial.wait_ms, 30000);
    assert_int_equal(trial.target_count, 2);
    assert_string_equal(trial.pool, "web");
    expect_old(check);
    // Another field may be changed meanwhile.
    assert_int_equal(
        admin_do(check, "PATCH", "/v1/pools/web", NULL, "{\"balance\":\"round_robin\"}"), 200);
    assert_int_equal(script.status, 0);
    end_trial(true, "[]");
    admin_finish(check, &script);
    assert_int_equal(script.status, 200);
    script_stream_fini(&script);
    expect_member(check, "/v1/pools/web", "balance", "\"round_robin\"");
    struct script_stream list;
    assert_int_equal(admin_call(check, &list, "GET", "/v1/pools/web", NULL, NULL), 200);
    assert_non_null(strstr(script_stream_text(&list), "10.0.0.9:80"));
    assert_null(strstr(script_stream_text(&list), "10.0.0.1:80"));
    script_stream_fini(&list);
    assert_int_equal(trial.begun, 1);
    assert_int_equal(trial.ended, 0);
    assert_int_equal(check->admin->switch_count, 0);
}

static void changes_nothing_unless_all_are_healthy(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    make_pool(check);
    admin_begin(check, &script, "POST", "/v1/pools/web/switch", NULL,
                "{\"targets\":[\"10.0.0.1\",\"10.0.0.9\"],\"wait_healthy\":\"2s\"}");
    assert_int_equal(trial.wait_ms, 2000);
    end_trial(false, "[{\"address\":\"10.0.0.9:80\",\"detail\":\"connect: refused\"}]");
    admin_finish(check, &script);
    assert_int_equal(script.status, 409);
    json_t *problem = read_answer(&script);
    json_t *errors = json_object_get(problem, "errors");
    assert_int_equal(json_array_size(errors), 1);
    json_t *error = json_array_get(errors, 0);
    assert_string_equal(json_string_value(json_object_get(error, "pointer")), "/targets/1");
    assert_string_equal(json_string_value(json_object_get(error, "address")), "10.0.0.9:80");
    assert_string_equal(json_string_value(json_object_get(error, "detail")), "connect: refused");
    json_decref(problem);
    script_stream_fini(&script);
    expect_old(check);
    assert_int_equal(check->admin->switch_count, 0);
}

static void gives_way_to_others(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    make_pool(check);
    const char *body = "{\"targets\":[\"10.0.0.9\"]}";
    admin_begin(check, &script, "POST", "/v1/pools/web/switch", NULL, body);
    assert_int_equal(admin_do(check, "PUT", "/v1/pools/web/targets/10.0.0.7%3A80", NULL, "{}"),
                     201);
    end_trial(true, "[]");
    admin_finish(check, &script);
    assert_int_equal(script.status, 409);
    script_stream_fini(&script);
    // Two that want the same are both done.
    struct script_stream other;
    admin_begin(check, &script, "POST", "/v1/pools/web/switch", NULL, body);
    void *first = trial.context;
    admin_begin(check, &other, "POST", "/v1/pools/web/switch", NULL, body);
    end_trial(true, "[]");
    admin_finish(check, &other);
    assert_int_equal(other.status, 200);
    trial.context = first;
    end_trial(true, "[]");
    admin_finish(check, &script);
    assert_int_equal(script.status, 200);
    script_stream_fini(&script);
    script_stream_fini(&other);
    // The pool has gone meanwhile.
    admin_begin(check, &script, "POST", "/v1/pools/web/switch", NULL,
                "{\"targets\":[\"10.0.0.10\"]}");
    assert_int_equal(admin_do(check, "DELETE", "/v1/pools/web", NULL, NULL), 204);
    end_trial(true, "[]");
    admin_finish(check, &script);
    assert_int_equal(script.status, 404);
    script_stream_fini(&script);
}

static void ends_with_its_client(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    make_pool(check);
    admin_begin(check, &script, "POST", "/v1/pools/web/switch", NULL,
                "{\"targets\":[\"10.0.0.9\"]}");
    script_stream_leave(&script);
    script_stream_fini(&script);
    loop_turn(&check->control, 0);
    assert_int_equal(trial.ended, 1);
    assert_int_equal(check->admin->switch_count, 0);
    expect_old(check);
    // One that is under way at the end of the program is given up, too (teardown).
    admin_begin(check, &script, "POST", "/v1/pools/web/switch", NULL,
                "{\"targets\":[\"10.0.0.9\"]}");
    assert_int_equal(check->admin->switch_count, 1);
    script_stream_leave(&script);
    script_stream_fini(&script);
}

static void so_many_at_a_time(void **state)
{
    struct admin_check *check = *state;
    struct script_stream *scripts = calloc(ADMIN_SWITCH_MAX, sizeof *scripts);
    assert_non_null(scripts);
    make_pool(check);
    const char *body = "{\"targets\":[\"10.0.0.9\"]}";
    for (unsigned i = 0; i < ADMIN_SWITCH_MAX; i++) {
        admin_begin(check, &scripts[i], "POST", "/v1/pools/web/switch", NULL, body);
    }
    assert_int_equal(trial.begun, ADMIN_SWITCH_MAX);
    assert_int_equal(admin_do(check, "POST", "/v1/pools/web/switch", NULL, body), 503);
    for (unsigned i = 0; i < ADMIN_SWITCH_MAX; i++) {
        script_stream_leave(&scripts[i]);
        script_stream_fini(&scripts[i]);
    }
    free(scripts);
    loop_turn(&check->control, 0);
    assert_int_equal(check->admin->switch_count, 0);
    trial.err = ERR_MEMORY;
    assert_int_equal(admin_do(check, "POST", "/v1/pools/web/switch", NULL, body), 500);
    assert_int_equal(check->admin->switch_count, 0);
}

struct bad_body {
    const char *body;
    unsigned status;
    const char *pointer; // of the first error
};

static void refuse_bodies(struct admin_check *check, const char *target,
                          const struct bad_body *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct script_stream script;
        unsigned status = admin_call(check, &script, "POST", target, NULL, cases[i].body);
        json_t *problem = read_answer(&script);
        json_t *error = json_array_get(json_object_get(problem, "errors"), 0);
        const char *pointer = json_string_value(json_object_get(error, "pointer"));
        if (status != cases[i].status || pointer == NULL ||
            strcmp(pointer, cases[i].pointer) != 0) {
            fail_msg("%s: %u, %s", cases[i].body, status, script_stream_text(&script));
        }
        json_decref(problem);
        script_stream_fini(&script);
    }
}

// A list of `count` addresses, in `open` and `close`.
static char *many_addresses(const char *open, unsigned count, const char *close)
{
    struct buf text;
    buf_init(&text, 0);
    buf_put(&text, str_from_c(open));
    for (unsigned i = 0; i < count; i++) {
        buf_printf(&text, "%s\"10.0.%u.%u:80\"", i == 0 ? "" : ",", i / 250, i % 250 + 1);
    }
    buf_put(&text, str_from_c(close));
    buf_put_char(&text, '\0');
    assert_false(text.failed);
    return text.p;
}

static void refuses_what_is_wrong(void **state)
{
    struct admin_check *check = *state;
    static const struct bad_body cases[] = {
        {"", 400, ""},
        {"{", 400, ""},
        {"[]", 422, ""},
        {"null", 422, ""},
        {"{}", 422, "/targets"},
        {"{\"targets\":[]}", 422, "/targets"},
        {"{\"targets\":null}", 422, "/targets"},
        {"{\"targets\":\"10.0.0.1\"}", 422, "/targets"},
        {"{\"targets\":{\"10.0.0.1\":1}}", 422, "/targets"},
        {"{\"targets\":[1]}", 422, "/targets/0"},
        {"{\"targets\":[\"10.0.0.1\",null]}", 422, "/targets/1"},
        {"{\"targets\":[[\"10.0.0.1\"]]}", 422, "/targets/0"},
        {"{\"targets\":[\"\"]}", 422, "/targets/0"},
        {"{\"targets\":[\"10.0.0.1\",\"a b\"]}", 422, "/targets/1"},
        {"{\"targets\":[\"10.0.0.1\\u0000x\"]}", 400, ""},
        {"{\"targets\":[{\"weight\":2}]}", 422, "/targets/0/address"},
        {"{\"targets\":[{\"address\":7}]}", 422, "/targets/0/address"},
        {"{\"targets\":[{\"address\":\"10.0.0.1\",\"weight\":70000}]}", 422, "/targets/0/weight"},
        {"{\"targets\":[{\"address\":\"10.0.0.1\",\"wait\":1}]}", 422, "/targets/0/wait"},
        {"{\"targets\":[\"10.0.0.1\"],\"wait_healthy\":\"soon\"}", 422, "/wait_healthy"},
        {"{\"targets\":[\"10.0.0.1\"],\"wait_healthy\":\"11m\"}", 422, "/wait_healthy"},
        {"{\"targets\":[\"10.0.0.1\"],\"wait_healthy\":30}", 422, "/wait_healthy"},
        {"{\"targets\":[\"10.0.0.1\"],\"wait_healthy\":null}", 422, "/wait_healthy"},
        {"{\"targets\":[\"10.0.0.1\"],\"wait_health\":\"1s\"}", 422, "/wait_health"},
        {"{\"targets\":[\"10.0.0.1\"],\"balance\":\"hash\"}", 422, "/balance"},
    };
    make_pool(check);
    refuse_bodies(check, "/v1/pools/web/switch", cases, sizeof cases / sizeof cases[0]);
    // The same one twice, in two ways to write it.
    assert_int_equal(admin_do(check, "POST", "/v1/pools/web/switch", NULL,
                              "{\"targets\":[\"10.0.0.1\",\"10.0.0.1:80\"]}"),
                     422);
    char *many = many_addresses("{\"wait_healthy\":\"0\",\"targets\":[", 1001, "]}");
    assert_int_equal(admin_do(check, "POST", "/v1/pools/web/switch", NULL, many), 422);
    free(many);
    many = many_addresses("{\"wait_healthy\":\"0\",\"targets\":[", 1000, "]}");
    assert_int_equal(admin_do(check, "POST", "/v1/pools/web/switch", NULL, many), 200);
    free(many);
    const char *body = "{\"targets\":[\"10.0.0.1\"]}";
    assert_int_equal(admin_do(check, "POST", "/v1/pools/none/switch", NULL, body), 404);
    assert_int_equal(admin_do(check, "POST", "/v1/pools/a%2Fb/switch", NULL, body), 422);
    assert_int_equal(admin_do(check, "POST", "/v1/pools/web/switch?wait=all", NULL, body), 400);
    assert_int_equal(admin_do(check, "POST", "/v1/pools/web/switch", "If-Match: \"999\"", body),
                     412);
    assert_int_equal(admin_do(check, "PUT", "/v1/pools/web/switch", NULL, body), 405);
    assert_int_equal(trial.begun, 0);
}

// ---- set_backends ----

static const char BACKENDS[] = "/admin/set_backends/";

static void makes_pool_and_route(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    assert_int_equal(
        admin_call(check, &script, "POST", BACKENDS, NULL, "[\"10.0.0.1:8080\",\"10.0.0.2:8080\"]"),
        200);
    assert_non_null(strstr(script_stream_text(&script), "10.0.0.2:8080"));
    script_stream_fini(&script);
    expect_member(check, "/v1/routes/*", "pool", "\"default\"");
    assert_int_equal(publisher_pool_count(check->publisher), 1);
    uint64_t revision = publisher_revision(check->publisher);
    // A difference: who stays keeps what was declared of it.
    assert_int_equal(admin_do(check, "PUT", "/v1/pools/default/targets/10.0.0.1%3A8080", NULL,
                              "{\"weight\":5,\"state\":\"drain\"}"),
                     200);
    assert_int_equal(admin_do(check, "POST", "/admin/set_backends", NULL,
                              "{\"10.0.0.1:8080\":{\"weight\":9},\"10.0.0.3:8080\":null}"),
                     200);
    assert_int_equal(admin_call(check, &script, "GET", "/v1/pools/default", NULL, NULL), 200);
    json_t *pool = read_answer(&script);
    json_t *targets = json_object_get(pool, "targets");
    assert_int_equal(json_array_size(targets), 2);
    json_t *first = json_array_get(targets, 0);
    assert_int_equal(json_integer_value(json_object_get(first, "weight")), 5);
    assert_string_equal(json_string_value(json_object_get(first, "state")), "drain");
    json_decref(pool);
    script_stream_fini(&script);
    assert_int_equal(publisher_revision(check->publisher), revision + 2);
    // The same again: nothing new. A route that was removed stays removed.
    assert_int_equal(admin_do(check, "DELETE", "/v1/routes/*", NULL, NULL), 204);
    revision = publisher_revision(check->publisher);
    assert_int_equal(
        admin_do(check, "POST", BACKENDS, NULL, "[\"10.0.0.1:8080\",\"10.0.0.3:8080\"]"), 200);
    assert_int_equal(publisher_revision(check->publisher), revision);
    assert_int_equal(admin_do(check, "GET", "/v1/routes/*", NULL, NULL), 404);
    assert_int_equal(trial.begun, 0);
}

static void leaves_a_route_alone(void **state)
{
    struct admin_check *check = *state;
    assert_int_equal(admin_do(check, "PUT", "/v1/routes/*", NULL, "{\"respond\":{\"status\":204}}"),
                     201);
    assert_int_equal(admin_do(check, "POST", BACKENDS, NULL, "[\"10.0.0.1\"]"), 200);
    expect_member(check, "/v1/routes/*", "respond", "{\"status\":204}");
    assert_int_equal(admin_do(check, "GET", "/v1/pools/default", NULL, NULL), 200);
    assert_int_equal(admin_do(check, "POST", BACKENDS, "If-Match: \"999\"", "[\"10.0.0.2\"]"), 412);
}

static void is_for_this_machine(void **state)
{
    struct admin_check *check = *state;
    static const struct {
        const char *peer;
        const char *lines;
        unsigned status;
    } cases[] = {
        {"::1", "", 200},
        {"127.0.0.1", "X-Forwarded-For: 10.0.0.1", 200},
        {"10.0.0.1", "", 403},
        {"10.0.0.1", "X-Forwarded-For: 127.0.0.1", 403},
        {"10.0.0.1", "Authorization: Bearer " ADMIN_TOKEN, 403},
        {"2001:db8::1", "Authorization: Bearer " ADMIN_TOKEN, 403},
        {"127.0.0.1", "Authorization: Bearer wrong", 401},
        {"127.0.0.1", "Host: evil.example", 403},
        {"127.0.0.1", "Origin: http://evil.example", 403},
        {"127.0.0.1", "Content-Type: text/plain", 415},
        {"127.0.0.1", "Content-Type: application/x-www-form-urlencoded", 200},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(net_parse_in6(str_from_c(cases[i].peer), &check->peer), 0);
        unsigned status = admin_do(check, "POST", BACKENDS, cases[i].lines, "[\"10.0.0.1\"]");
        if (status != cases[i].status) {
            fail_msg("%s %s: %u", cases[i].peer, cases[i].lines, status);
        }
    }
    check->peer = in6addr_loopback;
    check->config.admin.require_token = true;
    assert_int_equal(admin_do(check, "POST", BACKENDS, NULL, "[\"10.0.0.1\"]"), 401);
    assert_int_equal(
        admin_do(check, "POST", BACKENDS, "Authorization: Bearer " ADMIN_TOKEN, "[\"10.0.0.1\"]"),
        200);
    assert_int_equal(admin_do(check, "GET", BACKENDS, "Authorization: Bearer " ADMIN_TOKEN, NULL),
                     405);
    check->config.admin.require_token = false;
}

static void refuses_bad_backends(void **state)
{
    struct admin_check *check = *state;
    static const struct bad_body cases[] = {
        {"", 400, ""},
        {"10.0.0.1", 400, ""},
        {"\"10.0.0.1\"", 422, ""},
        {"7", 422, ""},
        {"null", 422, ""},
        {"[]", 422, ""},
        {"{}", 422, ""},
        {"[7]", 422, "/0"},
        {"[\"10.0.0.1\",{\"address\":\"10.0.0.2\"}]", 422, "/1"},
        {"[\"10.0.0.1\",\"nope nope\"]", 422, "/1"},
        {"{\"10.0.0.1\":1,\"a b/~\":1}", 422, "/a b~1~0"},
        {"{\"\":1}", 422, "/"},
        {"{\"10.0.0.1\":1,\"10.0.0.1\":2}", 400, ""},
    };
    refuse_bodies(check, BACKENDS, cases, sizeof cases / sizeof cases[0]);
    assert_int_equal(admin_do(check, "POST", BACKENDS, NULL, "[\"10.0.0.1\",\"10.0.0.1:80\"]"),
                     422);
    char *many = many_addresses("[", 1001, "]");
    assert_int_equal(admin_do(check, "POST", BACKENDS, NULL, many), 422);
    free(many);
    assert_int_equal(
        admin_do(check, "POST", "/admin/set_backends?wait_healthy=soon", NULL, "[\"10.0.0.1\"]"),
        422);
    assert_int_equal(publisher_pool_count(check->publisher), 0);
    assert_int_equal(publisher_route_count(check->publisher), 0);
    assert_int_equal(admin_do(check, "POST", "/admin/set_backends/?allow_empty=true", NULL, "[]"),
                     200);
    expect_member(check, "/v1/pools/default", "targets", "[]");
}

static void backends_may_be_tried_first(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    admin_begin(check, &script, "POST", "/admin/set_backends/?wait_healthy=5s", NULL,
                "{\"10.0.0.1\":1,\"app/x\":1}");
    admin_finish(check, &script);
    assert_int_equal(script.status, 422);
    script_stream_fini(&script);
    admin_begin(check, &script, "POST", "/admin/set_backends/?wait_healthy=5s", NULL,
                "{\"10.0.0.1\":1,\"10.0.0.2\":1}");
    assert_int_equal(trial.wait_ms, 5000);
    end_trial(false, "[{\"address\":\"10.0.0.2:80\",\"detail\":\"status 503\"}]");
    admin_finish(check, &script);
    assert_int_equal(script.status, 409);
    assert_non_null(strstr(script_stream_text(&script), "\"/10.0.0.2\""));
    script_stream_fini(&script);
    assert_int_equal(publisher_pool_count(check->publisher), 0);
    admin_begin(check, &script, "POST", "/admin/set_backends/?wait_healthy=5s", NULL,
                "[\"10.0.0.1\"]");
    end_trial(true, "[]");
    admin_finish(check, &script);
    assert_int_equal(script.status, 200);
    script_stream_fini(&script);
    expect_member(check, "/v1/routes/*", "pool", "\"default\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(replaces_as_a_difference, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(waits_until_they_are_healthy, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(changes_nothing_unless_all_are_healthy, setup,
                                        admin_teardown),
        cmocka_unit_test_setup_teardown(gives_way_to_others, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(ends_with_its_client, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(so_many_at_a_time, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(refuses_what_is_wrong, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(makes_pool_and_route, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(leaves_a_route_alone, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(is_for_this_machine, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(refuses_bad_backends, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(backends_may_be_tried_first, setup, admin_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
