// SPDX-License-Identifier: MIT
// The admin API over a real store and publisher, on a control loop that the test turns by hand; the
// test is the client (support/script_stream.h). Include after the file's own system headers.
#pragma once
#include "admin/admin_int.h"
#include "base/clock.h"
#include "base/hash.h"
#include "loop/rcu.h"
#include "net/outq.h"
#include "support/script_stream.h"
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

#define ADMIN_TOKEN "0123456789abcdef0123456789abcdef"

struct admin_check {
    char folder[64];
    struct config config;
    struct loop control;
    struct store *store;
    struct store_line line;
    struct publisher *publisher;
    struct admin *admin;
    struct admin_deps deps;
    struct admin_hooks hooks;
    struct in6_addr peer; // of the requests to come
    unsigned cuts;
    bool is_draining;
};

static inline void check_status(void *context, struct admin_status *status)
{
    struct admin_check *check = context;
    status->uptime_ms = 1500;
    status->is_ready = true;
    status->is_draining = check->is_draining;
    status->node_name = STR("edge-1");
    status->node_zone = STR("a");
    status->worker_count = 2;
    status->workers[1] = (struct admin_worker_status){.id = 1, .connections = 3, .requests = 4};
}

static inline void check_cut(void *context)
{
    ((struct admin_check *)context)->cuts++;
}

static inline bool check_feed(void *context, uint64_t revision, const struct store_record *records,
                              unsigned count)
{
    return publisher_begin(((struct admin_check *)context)->publisher, revision, records, count);
}

static inline void check_live(void *context)
{
    store_line_resume(&((struct admin_check *)context)->line);
}

static inline void check_writable(void *context, bool is_writable, struct str detail)
{
    admin_store_changed(((struct admin_check *)context)->admin, is_writable, detail);
}

static inline int admin_setup(void **state)
{
    struct admin_check *check = calloc(1, sizeof *check);
    assert_non_null(check);
    *state = check;
    hash_seed();
    stats_set_worker_count(2);
    assert_int_equal(config_init(&check->config), 0);
    snprintf(check->folder, sizeof check->folder, "/tmp/admin-test-XXXXXX");
    assert_non_null(mkdtemp(check->folder));
    char url[128];
    snprintf(url, sizeof url, "sqlite:%s/a.db", check->folder);
    assert_int_equal(loop_init(&check->control), 0);
    assert_int_equal(outq_pool_init(&check->control), 0);
    rcu_thread_begin();
    struct problems problems;
    problems_init(&problems);
    assert_int_equal(store_open(&check->store, str_from_c(url), &problems), 0);
    problems_fini(&problems);
    assert_int_equal(publisher_new(&check->publisher, NULL, NULL, NULL), 0);
    assert_int_equal(publisher_load(check->publisher, check->store), 0);
    assert_int_equal(publisher_start(check->publisher, &check->control), 0);
    check->hooks = (struct admin_hooks){.status = check_status, .cut = check_cut};
    check->deps = (struct admin_deps){
        .control = &check->control,
        .config = &check->config,
        .store = check->store,
        .publisher = check->publisher,
        .token = ADMIN_TOKEN,
        .hooks = &check->hooks,
        .context = check,
    };
    assert_int_equal(admin_new(&check->admin, &check->deps), 0);
    struct store_feed feed = {.on_change = check_feed,
                              .on_state = check_writable,
                              .context = check,
                              .line = &check->line};
    store_line_init(&check->line, &check->control);
    publisher_on_live(check->publisher, check_live, check);
    assert_int_equal(store_start(check->store, &check->control, &feed), 0);
    check->peer = in6addr_loopback;
    return 0;
}

static inline int admin_teardown(void **state)
{
    struct admin_check *check = *state;
    publisher_hurry(check->publisher);
    store_close(&check->store);
    loop_turn(&check->control, 0);
    store_line_finish(&check->line);
    admin_free(&check->admin);
    publisher_stop(check->publisher);
    loop_turn(&check->control, 0);
    publisher_free(&check->publisher);
    outq_pool_fini(&check->control);
    loop_fini(&check->control);
    rcu_thread_end();
    config_fini(&check->config);
    static const char *const names[] = {"a.db", "a.db-wal", "a.db-shm", "a.db.lock"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", check->folder, names[i]);
        unlink(path);
    }
    rmdir(check->folder);
    free(check);
    return 0;
}

// A request head of a client; fields are "Name: value" lines, views into the given text.
static inline void admin_head(struct http_head *head, struct http_field *fields, const char *method,
                              const char *target, const char *lines, bool has_body)
{
    struct uri_parts {
        struct str path;
        struct str query;
    } parts;
    struct str text = str_from_c(target);
    size_t mark = str_find_char(text, '?');
    parts.path = mark == SIZE_MAX ? text : str_sub(text, 0, mark);
    parts.query = mark == SIZE_MAX ? STR_NULL : str_from(text, mark);
    *head = (struct http_head){
        .fields = fields,
        .version = 11,
        .keep_alive = true,
        .body = has_body ? BODY_CHUNKED : BODY_NONE,
        .method = http_method_find(str_from_c(method)),
        .method_text = str_from_c(method),
        .target = text,
        .authority = STR("localhost:8081"),
        .path = parts.path,
        .query = parts.query,
    };
    struct str rest = str_from_c(lines);
    while (rest.len > 0) {
        struct str line;
        struct str tail;
        str_split(rest, '\n', &line, &tail);
        rest = tail;
        struct http_field *field = &fields[head->field_count++];
        assert_true(str_split(line, ':', &field->name, &field->value));
        field->value = str_trim(field->value);
        field->id = field_find(field->name);
        if (field->id == FIELD_HOST) {
            head->authority = field->value;
        }
        if (field->id != FIELD_OTHER) {
            head->seen |= FIELD_BIT(field->id);
        }
    }
}

static inline void admin_begin(struct admin_check *check, struct script_stream *script,
                               const char *method, const char *target, const char *lines,
                               const char *body)
{
    struct http_field fields[16];
    struct http_head head;
    admin_head(&head, fields, method, target, lines == NULL ? "" : lines, body != NULL);
    script_stream_init(script, &check->control);
    script->stream.is_complete = body == NULL;
    call_begin(check->admin, &script->stream, &head, &check->peer);
    if (body != NULL) {
        script_stream_data(script, str_from_c(body));
        script_stream_end(script);
    }
}

// Turns the loop until the answer is complete (at most a minute).
static inline void admin_finish(struct admin_check *check, struct script_stream *script)
{
    uint64_t deadline_ns = clock_monotonic_ns() + 60 * NS_PER_SEC;
    while (!script->is_ended && !script->is_over && clock_monotonic_ns() < deadline_ns) {
        loop_turn(&check->control, 20);
    }
    assert_true(script->is_ended || script->is_over);
    script_stream_read(script);
    loop_turn(&check->control, 0);
}

// A whole exchange; returns the status. The script stays for a look; script_stream_fini after.
static inline unsigned admin_call(struct admin_check *check, struct script_stream *script,
                                  const char *method, const char *target, const char *lines,
                                  const char *body)
{
    admin_begin(check, script, method, target, lines, body);
    admin_finish(check, script);
    return script->status;
}

// The same, when only the status counts.
static inline unsigned admin_do(struct admin_check *check, const char *method, const char *target,
                                const char *lines, const char *body)
{
    struct script_stream script;
    unsigned status = admin_call(check, &script, method, target, lines, body);
    script_stream_fini(&script);
    return status;
}
