// SPDX-License-Identifier: MIT
// Targets as they are: lists, status, metrics, events, and the wait for names. What the publisher knows of
// them is scripted here: the linker puts these in the place of its functions.
#include "admin_check.h"
#include "support/patient_clock.h"

enum { KNOWN_MAX = 16 };

static struct {
    struct publish_target known[KNOWN_MAX]; // of pool "web"
    unsigned count;
    unsigned copies; // each comes so many times more, with addresses of their own
    unsigned unresolved;
    struct publish_health_listener *listener;
    struct publish_listener *changes;
} world;

bool __wrap_publisher_pool_targets(struct publisher *publisher, struct str pool,
                                   void (*visit)(void *context,
                                                 const struct publish_target *target),
                                   void *context);
unsigned __wrap_publisher_unresolved(struct publisher *publisher, enum noun noun, struct str key);
int __wrap_publisher_ask_names(struct publisher *publisher, const struct store_record *record,
                               struct publish_names **names);
void __wrap_publisher_listen_health(struct publisher *publisher,
                                    struct publish_health_listener *listener);
void __real_publisher_listen(struct publisher *publisher, struct publish_listener *listener);
void __wrap_publisher_listen(struct publisher *publisher, struct publish_listener *listener);
void __wrap_publisher_health(const struct publisher *publisher, struct publish_health_sum *sum);

bool __wrap_publisher_pool_targets(struct publisher *publisher, struct str pool,
                                   void (*visit)(void *context,
                                                 const struct publish_target *target),
                                   void *context)
{
    (void)publisher;
    if (!str_eq(pool, STR("web"))) {
        return false;
    }
    for (unsigned i = 0; i < world.count; i++) {
        visit(context, &world.known[i]);
    }
    for (unsigned i = 0; i < world.copies; i++) {
        char text[32];
        struct publish_target copy = world.known[0];
        int len = snprintf(text, sizeof text, "10.%u.%u.%u:80", i / 65536, i / 256 % 256, i % 256);
        copy.address = str_make(text, (size_t)len);
        visit(context, &copy);
    }
    return true;
}

unsigned __wrap_publisher_unresolved(struct publisher *publisher, enum noun noun, struct str key)
{
    (void)publisher;
    assert_true(noun == NOUN_POOL || noun == NOUN_ROUTE);
    assert_true(key.len > 0);
    return world.unresolved;
}

// Known of all before: what is waited for here is that they are live.
int __wrap_publisher_ask_names(struct publisher *publisher, const struct store_record *record,
                               struct publish_names **names)
{
    (void)publisher;
    assert_true(record->noun == NOUN_POOL || record->noun == NOUN_ROUTE);
    assert_null(*names);
    return 0;
}

void __wrap_publisher_listen_health(struct publisher *publisher,
                                    struct publish_health_listener *listener)
{
    (void)publisher;
    list_init(&listener->node);
    world.listener = listener;
}

void __wrap_publisher_listen(struct publisher *publisher, struct publish_listener *listener)
{
    world.changes = listener;
    __real_publisher_listen(publisher, listener);
}

void __wrap_publisher_health(const struct publisher *publisher, struct publish_health_sum *sum)
{
    (void)publisher;
    *sum = (struct publish_health_sum){
        .checks = 70,
        .check_failures = 7,
        .transitions = 3,
        .ejections = 2,
        .ejections_refused = 11,
        .targets_down = 5,
        .targets_ejected = 6,
        .pools_in_panic = 1,
        .names = 9,
        .names_unresolved = 4,
        .dns_failures = 8,
    };
}

static int setup(void **state)
{
    memset(&world, 0, sizeof world);
    return admin_setup(state);
}

static struct publish_target *know(const char *address, const char *health, unsigned requests)
{
    struct publish_target *target = &world.known[world.count++];
    *target = (struct publish_target){
        .address = str_from_c(address),
        .resolved = STR_NULL,
        .health = health,
        .reason = "",
        .requests = requests,
        .weight = 1,
    };
    return target;
}

// The answer of a GET, compact.
static char *ask(struct admin_check *check, const char *target, unsigned expected)
{
    struct script_stream script;
    unsigned status = admin_call(check, &script, "GET", target, NULL, NULL);
    if (status != expected) {
        fail_msg("%s: %u", target, status);
    }
    char *text = strdup(script_stream_text(&script));
    script_stream_fini(&script);
    assert_non_null(text);
    return text;
}

static void expect(struct admin_check *check, const char *target, const char *expected)
{
    char *text = ask(check, target, 200);
    assert_string_equal(text, expected);
    free(text);
}

static void put_pool(struct admin_check *check, const char *body)
{
    assert_int_equal(admin_do(check, "PUT", "/v1/pools/web", NULL, body), 201);
}

static void shows_what_is_known(void **state)
{
    struct admin_check *check = *state;
    put_pool(check, "{\"targets\":[{\"address\":\"10.0.0.1\",\"weight\":4,\"zone\":\"a\","
                    "\"backup\":true,\"max_connections\":9},{\"address\":\"10.0.0.2\","
                    "\"state\":\"drain\"},{\"address\":\"app.internal:81\"},"
                    "{\"address\":\"none.internal:82\"},{\"address\":\"10.0.0.5\"}]}");
    struct publish_target *one = know("10.0.0.1:80", "up", 3);
    one->weight = 2;
    one->connections = 8;
    one->since_unix_ms = 1735689600123;
    one->reason = "ok";
    know("10.0.0.2:80", "ejected", 1)->reason = "3 failures";
    know("10.0.0.9:80", "up", 12)->is_leaving = true;
    struct publish_target *first = know("app.internal:81", "down", 5);
    first->resolved = STR("10.1.0.1");
    first->reason = "status 500";
    struct publish_target *second = know("app.internal:81", "up", 6);
    second->resolved = STR("2001:db8::1");
    struct publish_target *third = know("app.internal:81", "none", 7);
    third->resolved = STR("10.1.0.3");
    third->is_leaving = true;
    expect(check, "/v1/pools/web/targets",
           "[{\"address\":\"10.0.0.1:80\",\"weight\":4,\"state\":\"up\",\"zone\":\"a\","
           "\"backup\":true,\"max_connections\":9,\"requests\":3,\"connections\":8,"
           "\"health\":\"up\",\"reason\":\"ok\",\"since\":\"2025-01-01T00:00:00.123Z\","
           "\"weight_now\":2},"
           "{\"address\":\"10.0.0.2:80\",\"weight\":1,\"state\":\"drain\",\"requests\":1,"
           "\"health\":\"ejected\",\"reason\":\"3 failures\",\"weight_now\":1},"
           "{\"address\":\"app.internal:81\",\"weight\":1,\"state\":\"up\",\"requests\":18,"
           "\"health\":\"up\",\"reason\":\"\",\"weight_now\":1,\"addresses\":["
           "{\"address\":\"10.1.0.1\",\"requests\":5,\"health\":\"down\","
           "\"reason\":\"status 500\"},"
           "{\"address\":\"2001:db8::1\",\"requests\":6,\"health\":\"up\",\"reason\":\"\"},"
           "{\"address\":\"10.1.0.3\",\"requests\":7,\"state\":\"leaving\"}]},"
           "{\"address\":\"none.internal:82\",\"weight\":1,\"state\":\"up\",\"requests\":0,"
           "\"health\":\"unknown\",\"reason\":\"the name has no address yet\","
           "\"addresses\":[]},"
           "{\"address\":\"10.0.0.5:80\",\"weight\":1,\"state\":\"up\",\"requests\":0,"
           "\"health\":\"unknown\",\"reason\":\"not live\"},"
           "{\"address\":\"10.0.0.9:80\",\"state\":\"leaving\",\"requests\":12}]\n");
    expect(check, "/v1/pools/web/targets/10.0.0.2",
           "{\"address\":\"10.0.0.2:80\",\"weight\":1,\"state\":\"drain\",\"requests\":1,"
           "\"health\":\"ejected\",\"reason\":\"3 failures\",\"weight_now\":1}\n");
    expect(check, "/v1/pools/web/targets/10.0.0.9%3A80",
           "{\"address\":\"10.0.0.9:80\",\"state\":\"leaving\",\"requests\":12}\n");
    free(ask(check, "/v1/pools/web/targets/10.0.0.10%3A80", 404));
    free(ask(check, "/v1/pools/none/targets/10.0.0.1%3A80", 404));
    free(ask(check, "/v1/pools/none/targets", 404));
    free(ask(check, "/v1/pools/web/targets/%zz", 400));
}

static void drains_all_addresses(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    put_pool(check, "{\"targets\":[{\"address\":\"app.internal:81\"}]}");
    know("app.internal:81", "none", 0)->resolved = STR("10.1.0.1");
    struct publish_target *left = know("app.internal:81", "none", 1);
    left->resolved = STR("10.1.0.2");
    left->is_leaving = true;
    admin_begin(check, &script, "DELETE", "/v1/pools/web/targets/app.internal%3A81?drain=10s", NULL,
                NULL);
    for (int i = 0; i < 20; i++) {
        loop_turn(&check->control, 10);
    }
    assert_int_equal(script.status, 0);
    world.known[1].requests = 0;
    admin_finish(check, &script);
    assert_int_equal(script.status, 204);
    script_stream_fini(&script);
}

static void tells_sums(void **state)
{
    struct admin_check *check = *state;
    char *text = ask(check, "/v1/status", 200);
    assert_non_null(strstr(text, "\"health\":{\"targets_down\":5,\"targets_ejected\":6,"
                                 "\"pools_in_panic\":1,\"names_unresolved\":4,\"checks\":70,"
                                 "\"check_failures\":7}"));
    free(text);
    static const char *const lines[] = {
        "\npointsman_targets_down 5\n",
        "\npointsman_targets_ejected 6\n",
        "\npointsman_pools_in_panic 1\n",
        "\npointsman_health_checks_total 70\n",
        "\npointsman_health_check_failures_total 7\n",
        "\npointsman_health_transitions_total 3\n",
        "\npointsman_ejections_total 2\n",
        "\npointsman_ejections_refused_total 11\n",
        "\npointsman_dns_names 9\n",
        "\npointsman_dns_names_unresolved 4\n",
        "\npointsman_dns_failures_total 8\n",
        "\npointsman_queue_length 0\n",
        "\npointsman_target_series_left_out 0\n",
        "# TYPE pointsman_target_up gauge\n",
        "# TYPE pointsman_target_requests gauge\n",
        "\npointsman_routes 0\n",
    };
    text = ask(check, "/metrics", 200);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (strstr(text, lines[i]) == NULL) {
            fail_msg("no %s", lines[i]);
        }
    }
    free(text);
}

static void tells_series(void **state)
{
    struct admin_check *check = *state;
    put_pool(check, "{\"targets\":[]}");
    assert_int_equal(admin_do(check, "PUT", "/v1/pools/other", NULL, "{\"targets\":[]}"), 201);
    // Nobody looks after these.
    know("10.0.0.1:80", "none", 3);
    know("unix:/a\"b\\c", "none", 4);
    struct publish_target *named = know("app:81", "none", 5);
    named->resolved = STR("10.1.0.1");
    know("10.0.0.9:80", "up", 9)->is_leaving = true;
    char *text = ask(check, "/metrics", 200);
    assert_null(strstr(text, "pointsman_target_up{"));
    free(text);
    named->health = "ejected";
    text = ask(check, "/metrics", 200);
    static const char up[] = "pointsman_target_up{pool=\"web\",target=\"10.0.0.1:80\"} 1\n"
                             "pointsman_target_up{pool=\"web\",target=\"unix:/a\\\"b\\\\c\"} 1\n"
                             "pointsman_target_up{pool=\"web\",target=\"app:81 (10.1.0.1)\"} 0\n#";
    assert_non_null(strstr(text, up));
    assert_non_null(
        strstr(text, "\npointsman_target_requests{pool=\"web\",target=\"app:81 (10.1.0.1)\"} 5\n"));
    assert_null(strstr(text, "10.0.0.9:80"));
    free(text);
    // Beyond the bound they are counted.
    world.count = 1;
    world.known[0].health = "up";
    world.copies = ADMIN_SERIES_MAX + 4;
    text = ask(check, "/metrics", 200);
    unsigned found = 0;
    for (const char *at = text; (at = strstr(at, "pointsman_target_up{")) != NULL; at++) {
        found++;
    }
    assert_int_equal(found, ADMIN_SERIES_MAX);
    assert_non_null(strstr(text, "\npointsman_target_series_left_out 5\n"));
    free(text);
}

static void tells_events(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    put_pool(check, "{\"targets\":[]}");
    admin_begin(check, &script, "GET", "/v1/events", NULL, NULL);
    loop_turn(&check->control, 0);
    assert_non_null(world.listener);
    struct publish_health_event event = {
        .pool = STR("web"),
        .target = STR("app:80 (10.0.0.7)"),
        .state = "down",
        .reason = "no \"answer\"",
        .unix_ms = 1735689600123,
    };
    world.listener->on_event(world.listener, &event);
    event.target = STR_NULL;
    event.state = "panic";
    event.reason = "";
    world.listener->on_event(world.listener, &event);
    for (int i = 0; i < 5; i++) {
        loop_turn(&check->control, 0);
    }
    char expected[600];
    unsigned long long revision = publisher_revision(check->publisher);
    snprintf(expected, sizeof expected,
             "event: health\nid: %llu\ndata: {\"pool\":\"web\",\"target\":\"app:80 (10.0.0.7)\","
             "\"state\":\"down\",\"reason\":\"no \\\"answer\\\"\","
             "\"time\":\"2025-01-01T00:00:00.123Z\"}\n\n"
             "event: health\nid: %llu\ndata: {\"pool\":\"web\",\"state\":\"panic\",\"reason\":\"\","
             "\"time\":\"2025-01-01T00:00:00.123Z\"}\n\n",
             revision, revision);
    if (strstr(script_stream_text(&script), expected) == NULL) {
        fail_msg("%s", script_stream_text(&script));
    }
    script_stream_leave(&script);
    script_stream_fini(&script);
}

// While a large revision is told in parts, an event beside it has no id: who resumes after an id has seen
// all of its revision.
static void tells_events_beside_a_revision(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    admin_begin(check, &script, "GET", "/v1/events", NULL, NULL);
    loop_turn(&check->control, 0);
    const struct publish_health_event event = {
        .pool = STR("web"), .target = STR_NULL, .state = "calm", .reason = ""};
    const struct store_record record = {
        .noun = NOUN_POOL, .key = STR("web"), .value = STR("{}"), .revision = 7};
    world.changes->on_applied(world.changes, 7, &record, 1, false);
    world.listener->on_event(world.listener, &event);
    world.changes->on_applied(world.changes, 7, &record, 1, true);
    for (int i = 0; i < 5; i++) {
        loop_turn(&check->control, 0);
    }
    static const char change[] =
        "data: {\"op\":\"put\",\"kind\":\"pool\",\"key\":\"web\",\"revision\":7}\n\n";
    char expected[600];
    snprintf(expected, sizeof expected,
             "event: change\n%sevent: health\ndata: {\"pool\":\"web\",\"state\":\"calm\","
             "\"reason\":\"\",\"time\":\"1970-01-01T00:00:00.000Z\"}\n\n"
             "event: change\nid: 7\n%s",
             change, change);
    if (strstr(script_stream_text(&script), expected) == NULL) {
        fail_msg("%s", script_stream_text(&script));
    }
    script_stream_leave(&script);
    script_stream_fini(&script);
}

// Turns the loop for so long, by its own clock; true: answered.
static bool answers_within(struct admin_check *check, const struct script_stream *script,
                           unsigned ms)
{
    uint64_t deadline_ms = check->control.now_ms + ms;
    while (!script->is_ended && check->control.now_ms < deadline_ms) {
        patient_turn(&check->control, 5);
    }
    return script->is_ended;
}

// A turn of a change that began then. Half of the second that it may wait for names passes; what a slow disk
// takes longer does not.
static void turn_sparing(struct admin_check *check, uint64_t began_ms)
{
    if (check->control.now_ms - began_ms < 500) {
        patient_turn(&check->control, 5);
    } else {
        loop_turn(&check->control, 5);
    }
}

// Begins a change and turns until it is live; what it waits for then are the names. When it began.
static uint64_t begin_change(struct admin_check *check, struct script_stream *script,
                             const char *method, const char *target, const char *body)
{
    uint64_t revision = publisher_revision(check->publisher);
    uint64_t began_ms = check->control.now_ms;
    uint64_t deadline_ns = clock_monotonic_ns() + 60 * NS_PER_SEC;
    admin_begin(check, script, method, target, NULL, body);
    while (publisher_revision(check->publisher) == revision) {
        assert_true(clock_monotonic_ns() < deadline_ns);
        turn_sparing(check, began_ms);
    }
    return began_ms;
}

// A PUT that does not wait for names: its status.
static unsigned put_at_once(struct admin_check *check, const char *target, const char *body)
{
    struct script_stream script;
    uint64_t began_ms = check->control.now_ms;
    uint64_t deadline_ns = clock_monotonic_ns() + 60 * NS_PER_SEC;
    admin_begin(check, &script, "PUT", target, NULL, body);
    while (!script.is_ended) {
        assert_true(clock_monotonic_ns() < deadline_ns);
        turn_sparing(check, began_ms);
    }
    unsigned status = script.status;
    script_stream_read(&script);
    script_stream_fini(&script);
    return status;
}

static void waits_for_names(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    static const struct {
        const char *method;
        const char *target;
        const char *body;
    } cases[] = {
        {"PUT", "/v1/pools/web", "{\"targets\":[\"app:80\"]}"},
        {"PATCH", "/v1/pools/web", "{\"targets\":[\"app:81\"]}"},
        {"PUT", "/v1/pools/web/targets/app%3A82", "{}"},
        {"POST", "/v1/pools/web/switch", "{\"targets\":[\"app:83\"],\"wait_healthy\":\"0\"}"},
        {"PUT", "/v1/routes/a.example", "{\"targets\":[\"app:80\"]}"},
        {"POST", "/admin/set_backends/", "[\"app:84\"]"},
    };
    patient_begin(&check->control);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        world.unresolved = 1;
        begin_change(check, &script, cases[i].method, cases[i].target, cases[i].body);
        assert_false(answers_within(check, &script, 60));
        world.unresolved = 0;
        assert_true(answers_within(check, &script, 300));
        assert_true(script.status == 200 || script.status == 201);
        assert_non_null(strstr(script_stream_text(&script), "app:8"));
        script_stream_read(&script);
        script_stream_fini(&script);
    }
    // The second is over.
    world.unresolved = 1;
    uint64_t began_ms =
        begin_change(check, &script, "PUT", "/v1/pools/web", "{\"targets\":[\"b:80\"]}");
    uint64_t left_ms = began_ms + 950 - check->control.now_ms;
    assert_false(answers_within(check, &script, (unsigned)left_ms));
    assert_true(answers_within(check, &script, 200));
    assert_int_equal(script.status, 200);
    script_stream_read(&script);
    script_stream_fini(&script);
    // Nothing was changed, or nobody wants to wait.
    assert_int_equal(put_at_once(check, "/v1/pools/web", "{\"targets\":[\"b:80\"]}"), 200);
    assert_int_equal(put_at_once(check, "/v1/pools/web?wait=none", "{\"targets\":[\"c:80\"]}"),
                     202);
    assert_int_equal(put_at_once(check, "/v1/pools/web/targets/c%3A80", "{\"weight\":2}"), 200);
    // The client does not wait either.
    begin_change(check, &script, "PUT", "/v1/pools/web", "{\"targets\":[\"d:80\"]}");
    assert_false(answers_within(check, &script, 60));
    script_stream_leave(&script);
    script_stream_fini(&script);
    loop_turn(&check->control, 10);
    loop_turn(&check->control, 10);
    // Nor the end of the program (teardown).
    begin_change(check, &script, "PUT", "/v1/pools/web", "{\"targets\":[\"e:80\"]}");
    assert_false(answers_within(check, &script, 60));
    script_stream_leave(&script);
    script_stream_fini(&script);
}

static void checks_authorities(void **state)
{
    struct admin_check *check = *state;
    static const struct {
        const char *body;
        const char *pointer;
    } cases[] = {
        {"{\"targets\":[],\"tls\":{\"ca\":\"nothing\"}}", "\"/tls/ca\""},
        {"{\"targets\":[],\"health\":{\"scheme\":\"https\",\"tls\":{\"ca\":\"nothing\"}}}",
         "\"/health/tls/ca\""},
        {"{\"targets\":[],\"health\":{\"scheme\":\"https\","
         "\"tls\":{\"client_certificate\":\"none\"}}}",
         "\"/health/tls/client_certificate\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct script_stream script;
        unsigned status = admin_call(check, &script, "PUT", "/v1/pools/web", NULL, cases[i].body);
        if (status != 422 || strstr(script_stream_text(&script), cases[i].pointer) == NULL) {
            fail_msg("%s: %u %s", cases[i].body, status, script_stream_text(&script));
        }
        script_stream_fini(&script);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(shows_what_is_known, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(drains_all_addresses, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(tells_sums, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(tells_series, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(tells_events, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(tells_events_beside_a_revision, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(waits_for_names, setup, admin_teardown),
        cmocka_unit_test_setup_teardown(checks_authorities, setup, admin_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
