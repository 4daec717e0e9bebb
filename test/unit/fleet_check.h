// SPDX-License-Identifier: MIT
// A node's fleet on a Redis server of the test's own: its loop and the control loop are turned by hand, all on
// one thread. Include after cmocka's own headers.
#pragma once
#include "base/clock.h"
#include "base/hash.h"
#include "fleet/write_int.h"
#include "support/patient_clock.h"
#include "support/redis_server.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

enum { NODE_EVENTS = 40 };

struct node_event {
    char state[16];
    char id[STORE_ID_LEN + 1];
    char outcome[16];
    uint64_t revision;
};

// One node.
struct node {
    char folder[64];
    char path[80];
    struct loop control;
    struct store *store;
    struct store_line line;
    struct redis_url url;
    struct fleet *fleet;
    struct seal *seal;
    struct problems problems;
    bool is_slow; // what is fed does not become live before node_resume()
    bool is_writable;
    char detail[300]; // why not
    struct node_event events[NODE_EVENTS];
    unsigned event_count;
    unsigned answers;
};

static inline bool node_on_change(void *context, uint64_t revision,
                                  const struct store_record *records, unsigned count)
{
    (void)revision;
    (void)records;
    (void)count;
    return !((struct node *)context)->is_slow;
}

static inline void node_on_store_state(void *context, bool is_writable, struct str detail)
{
    (void)context;
    (void)is_writable;
    (void)detail;
}

static inline void node_on_state(void *context, bool is_writable, const char *detail)
{
    struct node *node = context;
    node->is_writable = is_writable;
    snprintf(node->detail, sizeof node->detail, "%s", detail);
}

static inline void node_load(void *context, struct fleet_load *load)
{
    (void)context;
    load->workers = 1;
}

static inline void node_on_event(void *context, const struct fleet_event *event)
{
    struct node *node = context;
    if (node->event_count == NODE_EVENTS || strcmp(event->type, "store") != 0) {
        return;
    }
    struct node_event *kept = &node->events[node->event_count++];
    snprintf(kept->state, sizeof kept->state, "%s", event->state);
    snprintf(kept->id, sizeof kept->id, "%s", event->id);
    snprintf(kept->outcome, sizeof kept->outcome, "%s", event->outcome);
    kept->revision = event->revision;
}

static inline void node_on_done(struct store_request *request)
{
    struct node *node = *(struct node **)request->context;
    node->answers++;
    *(struct store_request **)request->context = request;
}

static inline void node_turn(struct node *node)
{
    patient_turn(&node->fleet->loop, 1);
    loop_turn(&node->control, 0);
}

// Turns until `is_true`; fails after a minute.
#define NODE_WAIT(node, is_true)                                      \
    do {                                                              \
        uint64_t node_until = clock_monotonic_ns() + 60 * NS_PER_SEC; \
        while (!(is_true)) {                                          \
            if (clock_monotonic_ns() > node_until) {                  \
                fail_msg("never: %s (%s)", #is_true, (node)->detail); \
            }                                                         \
            node_turn(node);                                          \
        }                                                             \
    } while (0)

// What the node's own clock says (support/patient_clock.h).
static inline uint64_t node_ms(const struct node *node)
{
    return node->fleet->loop.now_ms;
}

static inline void node_turn_for(struct node *node, uint64_t ms)
{
    uint64_t until = node_ms(node) + ms;
    while (node_ms(node) < until) {
        node_turn(node);
    }
}

static inline void node_open_seal(struct node *node, bool has_key)
{
    char path[96] = "";
    if (has_key) {
        static const char key[] =
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        snprintf(path, sizeof path, "%s/keys", node->folder);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_int_equal(write(fd, key, sizeof key - 1), (ssize_t)sizeof key - 1);
        close(fd);
    }
    assert_int_equal(seal_open_file(&node->seal, path, &node->problems), 0);
}

// `adapt` (or NULL) changes the configuration before the fleet is made.
static inline void node_open(struct node *node, const struct redis_server *server, bool has_key,
                             void (*adapt)(struct fleet_config *config))
{
    static struct redis_tls no_tls;
    char url[128];
    memset(node, 0, sizeof *node);
    problems_init(&node->problems);
    snprintf(node->folder, sizeof node->folder, "/tmp/fleet-test-XXXXXX");
    assert_non_null(mkdtemp(node->folder));
    snprintf(node->path, sizeof node->path, "%s/s.db", node->folder);
    snprintf(url, sizeof url, "redis://127.0.0.1:%u", server->port);
    assert_int_equal(redis_url_parse(&node->url, str_from_c(url), &node->problems), 0);
    node_open_seal(node, has_key);
    assert_int_equal(loop_init(&node->control), 0);
    assert_int_equal(store_open_replica(&node->store, node->path, &node->problems), 0);
    struct fleet_config config = {.url = &node->url,
                                  .tls = &no_tls,
                                  .prefix = "pm",
                                  .node_name = "test",
                                  .node_zone = "",
                                  .address = "127.0.0.1:1",
                                  .version = "0",
                                  .stream_entries = 10000,
                                  .stream_bytes = 64 << 20,
                                  .store = node->store,
                                  .seal = node->seal,
                                  .load = node_load,
                                  .on_state = node_on_state,
                                  .on_event = node_on_event,
                                  .context = node};
    if (adapt != NULL) {
        adapt(&config);
    }
    assert_int_equal(fleet_new(&node->fleet, &config, &node->problems), 0);
    store_line_init(&node->line, &node->control);
    const struct store_feed feed = {node_on_change, node_on_store_state, node, &node->line};
    assert_int_equal(store_start(node->store, &node->control, &feed), 0);
    node->fleet->control = &node->control;
    patient_begin(&node->fleet->loop);
    write_start(node->fleet);
    follow_start(node->fleet);
    nodes_start(node->fleet);
}

static inline void node_wait_writable(struct node *node)
{
    NODE_WAIT(node, node->is_writable);
}

// Everything is answered after it.
static inline void node_stop(struct node *node)
{
    fleet_stop(node->fleet);
    store_stop(node->store);
    node->is_slow = false;
    loop_turn(&node->control, 0);
    store_line_finish(&node->line);
    for (unsigned i = 0; i < 5; i++) {
        node_turn(node);
    }
}

static inline void node_close(struct node *node)
{
    node_stop(node);
    fleet_free(&node->fleet);
    store_close(&node->store);
    loop_turn(&node->control, 0);
    loop_fini(&node->control);
    seal_free(&node->seal);
    redis_url_fini(&node->url);
    problems_fini(&node->problems);
    static const char *const names[] = {"s.db", "s.db-wal", "s.db-shm", "s.db.lock", "keys"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[100];
        snprintf(path, sizeof path, "%s/%s", node->folder, names[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(node->folder), 0);
}

// ---- requests ----

static inline struct store_change *node_set(struct store_request *request, unsigned i,
                                            enum noun noun, const char *key, const char *value)
{
    assert_true(i < request->count);
    struct store_change *change = &request->changes[i];
    change->noun = noun;
    change->key = str_dup(str_from_c(key));
    change->value = value == NULL ? NULL : str_dup(str_from_c(value));
    return change;
}

static inline struct store_request *node_one(enum noun noun, const char *key, const char *value)
{
    struct store_request *request = store_request_new(1);
    assert_non_null(request);
    node_set(request, 0, noun, key, value);
    return request;
}

static inline void node_refer(struct store_request *request, unsigned i, const char *pool)
{
    struct store_change *change = &request->changes[i];
    change->references =
        realloc(change->references, (change->reference_count + 1) * sizeof *change->references);
    change->references[change->reference_count++] = (struct store_reference){
        .noun = NOUN_POOL, .key = str_dup(str_from_c(pool)), .pointer = str_dup(STR("/pool"))};
}

// *slot holds the node until the answer, which it holds then.
static inline void node_submit(struct node *node, struct store_request *request, void **slot)
{
    *slot = node;
    request->loop = &node->control;
    request->on_done = node_on_done;
    request->context = slot;
    store_submit(node->store, &request);
}

static inline struct store_request *node_run(struct node *node, struct store_request *request)
{
    void *slot;
    node_submit(node, request, &slot);
    NODE_WAIT(node, slot != (void *)node);
    return slot;
}

static inline const char *node_detail(const struct store_request *request, unsigned change)
{
    const struct problems *problems = &request->changes[change].problems;
    return problems->count == 0 ? "" : problems->items[0].detail;
}

// Runs it, expects `err` and a text in the first problem of the first change, frees it. Its revision.
static inline uint64_t node_expect(struct node *node, struct store_request *request, int err,
                                   const char *text)
{
    request = node_run(node, request);
    if (request->err != err || strstr(node_detail(request, 0), text) == NULL) {
        print_message("err %d, not %d: %s\n", request->err, err, node_detail(request, 0));
    }
    assert_int_equal(request->err, err);
    assert_non_null(strstr(node_detail(request, 0), text));
    uint64_t revision = request->revision;
    store_request_free(&request);
    return revision;
}

// The event "outcome" of a request; NULL: there is none yet.
static inline const struct node_event *node_outcome(const struct node *node, const char *id)
{
    for (unsigned i = 0; i < node->event_count; i++) {
        if (strcmp(node->events[i].state, "outcome") == 0 && strcmp(node->events[i].id, id) == 0) {
            return &node->events[i];
        }
    }
    return NULL;
}
