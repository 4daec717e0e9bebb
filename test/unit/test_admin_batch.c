// SPDX-License-Identifier: MIT
// Batches, export, and the stream of events.
#include "admin_check.h"

static unsigned count_lines(const char *text)
{
    unsigned count = 0;
    for (; *text != '\0'; text++) {
        count += *text == '\n';
    }
    return count;
}

static void put_route(struct buf *to, unsigned number)
{
    buf_printf(to,
               "{\"op\":\"put\",\"kind\":\"route\",\"key\":\"h%u.example\","
               "\"value\":{\"targets\":[\"10.0.0.1:80\"]}}\n",
               number);
}

static void does_all(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    // A route may come before its pool; blank lines do not count.
    const char *body =
        "{\"op\":\"put\",\"kind\":\"route\",\"key\":\"a.example\",\"value\":"
        "{\"pool\":\"p\"}}\n\r\n"
        "{\"op\":\"put\",\"kind\":\"pool\",\"key\":\"p\",\"value\":{\"targets\":[]}}";
    assert_int_equal(admin_call(check, &script, "POST", "/v1/batch", NULL, body), 200);
    const char *text = script_stream_text(&script);
    assert_int_equal(count_lines(text), 2);
    assert_non_null(strstr(text, "{\"line\":1,\"status\":201,\"result\":\"created\""));
    assert_non_null(strstr(text, "{\"line\":3,\"status\":201,\"result\":\"created\""));
    script_stream_fini(&script);
    assert_int_equal(publisher_revision(check->publisher), 1);
    assert_int_equal(admin_call(check, &script, "POST", "/v1/batch", NULL, body), 200);
    assert_non_null(strstr(script_stream_text(&script), "\"result\":\"unchanged\""));
    script_stream_fini(&script);
    body = "{\"op\":\"delete\",\"kind\":\"route\",\"key\":\"a.example\"}\n";
    assert_int_equal(admin_call(check, &script, "POST", "/v1/batch", NULL, body), 200);
    assert_non_null(strstr(script_stream_text(&script), "\"result\":\"deleted\""));
    script_stream_fini(&script);
    assert_int_equal(admin_do(check, "POST", "/v1/batch", NULL, ""), 200);
}

static void does_nothing_when_a_line_is_wrong(void **state)
{
    struct admin_check *check = *state;
    static const struct {
        const char *line;
        const char *errors;
    } cases[] = {
        {"{\"op\":\"put\"", "\"status\":400"},
        {"[]", "a line is an object"},
        {"{\"op\":\"set\",\"kind\":\"pool\",\"key\":\"p\"}", "\"/op\""},
        {"{\"op\":\"put\",\"kind\":\"frog\",\"key\":\"p\"}", "\"/kind\""},
        {"{\"op\":\"put\",\"kind\":\"tenant\",\"key\":\"p\"}", "not part of this version"},
        {"{\"op\":\"put\",\"kind\":\"pool\",\"key\":\"p\"}", "\"/value\""},
        {"{\"op\":\"put\",\"kind\":\"pool\",\"key\":\"p\",\"value\":{},\"x\":1}", "unknown field"},
        {"{\"op\":\"put\",\"kind\":\"pool\",\"key\":\"p p\",\"value\":{}}", "\"/key\""},
        {"{\"op\":\"put\",\"kind\":\"route\",\"key\":\"r\",\"value\":{\"pool\":\"q\"}}",
         "\"/value/pool\""},
        {"{\"op\":\"delete\",\"kind\":\"route\",\"key\":\"r\"}", "\"status\":404"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct script_stream script;
        struct buf body;
        buf_init(&body, 0);
        put_route(&body, 1);
        buf_printf(&body, "%s\n", cases[i].line);
        put_route(&body, 2);
        buf_put_char(&body, '\0');
        assert_int_equal(admin_call(check, &script, "POST", "/v1/batch", NULL, body.p), 422);
        const char *text = script_stream_text(&script);
        assert_int_equal(count_lines(text), 3);
        if (strstr(text, cases[i].errors) == NULL) {
            fail_msg("%s: %s", cases[i].line, text);
        }
        assert_non_null(strstr(text, "{\"line\":1,\"status\":424,\"result\":\"skipped\""));
        assert_non_null(strstr(text, "{\"line\":2,"));
        buf_fini(&body);
        script_stream_fini(&script);
    }
    assert_int_equal(publisher_revision(check->publisher), 0);
}

// A client that sends a batch in pieces and reads now and then, or only when all is sent.
static void run_many(struct admin_check *check, struct script_stream *script, struct str body,
                     size_t piece, bool is_late)
{
    struct http_field fields[1];
    struct http_head head;
    admin_head(&head, fields, "POST", "/v1/batch", "", true);
    script_stream_init(script, &check->control);
    script->window = 1;
    call_begin(check->admin, &script->stream, &head, &check->peer);
    uint64_t deadline_ns = clock_monotonic_ns() + 60 * NS_PER_SEC;
    bool is_done = false;
    while (!script->is_over && clock_monotonic_ns() < deadline_ns) {
        if (!script->is_paused && body.len > 0) {
            script_stream_data(script, str_sub(body, 0, piece));
            body = str_from(body, piece);
        } else if (!script->is_paused && !is_done) {
            is_done = true;
            script_stream_end(script);
        }
        loop_turn(&check->control, 0);
        assert_true(script->unread <= HTTP_AHEAD_LEN + 2 * ADMIN_SLICE_LEN);
        bool reads = !is_late || is_done;
        if (reads && (stream_is_full(&script->stream) || script->is_ended)) {
            script_stream_read(script);
        }
    }
    assert_true(script->is_ended);
    loop_turn(&check->control, 0);
}

static void works_in_blocks(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    struct buf body;
    buf_init(&body, 0);
    for (unsigned i = 0; i < 25000; i++) {
        put_route(&body, i);
        if (i == 15000) {
            buf_put(&body, STR("{\"op\":\"put\"}\n"));
        }
    }
    run_many(check, &script, buf_str(&body), 65536, false);
    assert_int_equal(script.status, 200);
    const char *text = script_stream_text(&script);
    assert_int_equal(count_lines(text), 25002);
    assert_non_null(strstr(text, "{\"done\":15001,\"failed\":10000}\n"));
    assert_int_equal(publisher_route_count(check->publisher), 15001);
    assert_int_equal(publisher_revision(check->publisher), 2);
    assert_true(script.pause_count > 0);
    script_stream_fini(&script);
    buf_fini(&body);

    // 25,000 are listed whole, and taken back as they were.
    assert_int_equal(admin_call(check, &script, "GET", "/v1/export", NULL, NULL), 200);
    assert_int_equal(count_lines(script_stream_text(&script)), 15001);
    struct script_stream again;
    run_many(check, &again, buf_str(&script.body), 30000, true);
    assert_non_null(strstr(script_stream_text(&again), "{\"done\":15001,\"failed\":0}\n"));
    assert_int_equal(publisher_revision(check->publisher), 2);
    script_stream_fini(&again);
    script_stream_fini(&script);
}

static void exactly_one_block(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    struct buf body;
    buf_init(&body, 0);
    for (unsigned i = 0; i < 10000; i++) {
        put_route(&body, i % 100);
    }
    buf_put(&body, STR("\n\n"));
    run_many(check, &script, buf_str(&body), 1000000, false);
    assert_int_equal(script.status, 200);
    assert_int_equal(count_lines(script_stream_text(&script)), 10000);
    assert_int_equal(publisher_route_count(check->publisher), 100);
    script_stream_fini(&script);
    buf_fini(&body);
}

static void bounds_lines(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    struct buf body;
    buf_init(&body, 0);
    put_route(&body, 1);
    for (unsigned i = 0; i < 3u << 20; i++) {
        buf_put_char(&body, 'x');
    }
    buf_put_char(&body, '\n');
    put_route(&body, 2);
    for (size_t tail = 0; tail < 2; tail++) {
        run_many(check, &script, buf_str(&body), 65536, false);
        assert_int_equal(script.status, 422);
        assert_non_null(strstr(script_stream_text(&script), "{\"line\":2,\"status\":413"));
        assert_int_equal(count_lines(script_stream_text(&script)), 3 - tail);
        script_stream_fini(&script);
        body.len = str_find(buf_str(&body), STR("x\n")) + 1; // ends in the long line
    }
    buf_fini(&body);
    assert_int_equal(publisher_revision(check->publisher), 0);
}

static void client_leaves_a_batch(void **state)
{
    struct admin_check *check = *state;
    struct buf body;
    buf_init(&body, 0);
    for (unsigned i = 0; i < 100; i++) {
        put_route(&body, i);
    }
    for (unsigned turns = 0; turns < 4; turns++) {
        struct script_stream script;
        struct http_field fields[1];
        struct http_head head;
        admin_head(&head, fields, "POST", "/v1/batch", "", true);
        script_stream_init(&script, &check->control);
        call_begin(check->admin, &script.stream, &head, &check->peer);
        script_stream_data(&script, buf_str(&body));
        if (turns > 1) {
            script_stream_end(&script);
        }
        for (unsigned i = 0; i < turns; i++) {
            loop_turn(&check->control, 0);
        }
        script_stream_leave(&script);
        loop_turn(&check->control, 0);
        script_stream_fini(&script);
    }
    buf_fini(&body);
}

static void begin_events(struct admin_check *check, struct script_stream *script,
                         const char *target, const char *lines)
{
    admin_begin(check, script, "GET", target, lines, NULL);
    loop_turn(&check->control, 0);
    assert_int_equal(script->status, 200);
}

static void put_pool(struct admin_check *check, const char *name)
{
    char target[64];
    snprintf(target, sizeof target, "/v1/pools/%s", name);
    assert_int_equal(admin_do(check, "PUT", target, NULL, "{\"targets\":[]}"), 201);
}

static void tells_events(void **state)
{
    struct admin_check *check = *state;
    struct script_stream script;
    begin_events(check, &script, "/v1/events", NULL);
    put_pool(check, "a");
    put_pool(check, "b");
    assert_int_equal(admin_do(check, "DELETE", "/v1/pools/a", NULL, NULL), 204);
    admin_node_changed(check->admin, "draining");
    admin_store_changed(check->admin, false, STR("disk \"full\""));
    loop_turn(&check->control, 0);
    const char *text = script_stream_text(&script);
    assert_non_null(strstr(text, "event: change\nid: 1\ndata: {\"op\":\"put\",\"kind\":\"pool\","
                                 "\"key\":\"a\",\"revision\":1}\n\n"));
    assert_non_null(strstr(text, "id: 3\ndata: {\"op\":\"delete\""));
    assert_non_null(strstr(text, "event: node\n"));
    assert_non_null(strstr(text, "\"detail\":\"disk \\\"full\\\"\"}"));
    script_stream_leave(&script);
    script_stream_fini(&script);

    begin_events(check, &script, "/v1/events?since=1", NULL);
    text = script_stream_text(&script);
    assert_null(strstr(text, "id: 1\n"));
    assert_non_null(strstr(text, "id: 2\n"));
    script_stream_leave(&script);
    script_stream_fini(&script);

    begin_events(check, &script, "/v1/events?since=1", "Last-Event-ID: 2");
    text = script_stream_text(&script);
    assert_null(strstr(text, "id: 2\n"));
    assert_non_null(strstr(text, "id: 3\n"));
    script_stream_leave(&script);
    script_stream_fini(&script);

    begin_events(check, &script, "/v1/events?since=77", NULL);
    assert_non_null(strstr(script_stream_text(&script), "event: reset\nid: 3\n"));
    script_stream_leave(&script);
    script_stream_fini(&script);
    assert_int_equal(admin_do(check, "GET", "/v1/events?since=x", NULL, NULL), 400);
}

static void on_forced(struct store_request *request)
{
    *(bool *)request->context = true;
    store_request_free(&request);
}

static void force_pool(struct admin_check *check, uint64_t revision, const char *name)
{
    struct store_request *request = store_request_new(1);
    request->way = STORE_FORCE;
    request->revision = revision;
    request->changes[0].noun = NOUN_POOL;
    request->changes[0].key = str_dup(str_from_c(name));
    request->changes[0].value = str_dup(STR("{\"targets\":[]}"));
    request->changes[0].revision = revision;
    bool is_done = false; // the answer comes behind the feed
    request->loop = &check->control;
    request->on_done = on_forced;
    request->context = &is_done;
    store_submit(check->store, &request);
    uint64_t until = clock_monotonic_ns() + 60 * NS_PER_SEC;
    while (!is_done) {
        assert_true(clock_monotonic_ns() < until);
        loop_turn(&check->control, 5);
    }
}

static void assert_events(struct admin_check *check, const char *query, bool has_x, bool has_y)
{
    struct script_stream script;
    begin_events(check, &script, query, NULL);
    const char *text = script_stream_text(&script);
    assert_int_equal(strstr(text, "\"key\":\"x\"") != NULL, has_x);
    assert_int_equal(strstr(text, "\"key\":\"y\"") != NULL, has_y);
    assert_null(strstr(text, "id: 50\n"));
    script_stream_leave(&script);
    script_stream_fini(&script);
}

// A resync brings one revision in several feeds: who resumes in between misses nothing.
static void tells_all_of_a_revision_in_parts(void **state)
{
    struct admin_check *check = *state;
    put_pool(check, "a");
    force_pool(check, 50, "x");
    assert_events(check, "/v1/events?since=50", true, false);
    force_pool(check, 50, "y");
    assert_events(check, "/v1/events?since=1", true, true);
    assert_events(check, "/v1/events?since=50", true, true);
    put_pool(check, "b");
    assert_events(check, "/v1/events?since=50", false, false);
    struct script_stream script;
    begin_events(check, &script, "/v1/events?since=1", NULL);
    assert_non_null(strstr(script_stream_text(&script), "id: 51\n"));
    script_stream_leave(&script);
    script_stream_fini(&script);
}

static void add_changes(struct admin_check *check, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        admin_node_changed(check->admin, "ready");
    }
}

static void cuts_slow_readers(void **state)
{
    struct admin_check *check = *state;
    struct script_stream slow;
    struct script_stream quick;
    put_pool(check, "a");
    begin_events(check, &slow, "/v1/events", NULL);
    slow.window = 1;
    begin_events(check, &quick, "/v1/events", NULL);
    for (unsigned i = 0; i < 30; i++) {
        add_changes(check, 1000);
        for (unsigned k = 0; k < 10; k++) {
            loop_turn(&check->control, 0);
        }
    }
    assert_false(quick.is_over);
    assert_true(slow.unread < HTTP_AHEAD_LEN + 2 * ADMIN_SLICE_LEN);
    script_stream_read(&slow);
    loop_turn(&check->control, 0);
    assert_true(slow.is_reset);
    script_stream_fini(&slow);
    script_stream_leave(&quick);
    script_stream_fini(&quick);
    // All of revision 1 was dropped from what is kept; the node events have its number.
    begin_events(check, &quick, "/v1/events?since=0", NULL);
    assert_non_null(strstr(script_stream_text(&quick), "event: reset\n"));
    script_stream_leave(&quick);
    script_stream_fini(&quick);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(does_all, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(does_nothing_when_a_line_is_wrong, admin_setup,
                                        admin_teardown),
        cmocka_unit_test_setup_teardown(works_in_blocks, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(exactly_one_block, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(bounds_lines, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(client_leaves_a_batch, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(tells_events, admin_setup, admin_teardown),
        cmocka_unit_test_setup_teardown(tells_all_of_a_revision_in_parts, admin_setup,
                                        admin_teardown),
        cmocka_unit_test_setup_teardown(cuts_slow_readers, admin_setup, admin_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
