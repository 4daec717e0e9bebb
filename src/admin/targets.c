// SPDX-License-Identifier: MIT
// One target of a pool. The pool is read, changed and written back with compare-and-swap.
#include "admin/admin_int.h"
#include "http/uri.h"

enum { DRAIN_POLL_MS = 20 };

// State of PUT and DELETE of a target.
struct target_call {
    char *address; // canonical
    size_t index;  // in the list, of the attempt under way
    bool was_new;
    bool is_counted; // in admin->drain_count
    uint64_t drain_ms;
    uint64_t deadline_ms; // loop time; 0: not draining yet
};

static void free_target_call(struct call *call)
{
    struct target_call *state = call->state;
    if (state->is_counted) {
        call->admin->drain_count--;
    }
    free(state->address);
    free(state);
}

static const struct call_ops target_ops = {.free_state = free_target_call};

static struct str target_text(const json_t *target)
{
    const char *text = json_string_value(target);
    return str_from_c(text != NULL ? text : json_string_value(json_object_get(target, "address")));
}

// Index of an address in a list of targets, or SIZE_MAX.
static size_t find_target(const json_t *targets, const char *address)
{
    size_t index;
    json_t *target;
    json_array_foreach(targets, index, target)
    {
        if (str_eq(target_text(target), str_from_c(address))) {
            return index;
        }
    }
    return SIZE_MAX;
}

// Reads key and address of the URL once (a call may run several times). False: answered.
static bool read_target(struct call *call)
{
    if (call->state != NULL) {
        return true;
    }
    if (!object_key(call) || !object_wait(call)) {
        return false;
    }
    struct str raw = call->rest[1];
    struct target_call *state = calloc(1, sizeof *state);
    char *text = malloc(raw.len + 1);
    char *memory = NULL;
    size_t len = 0;
    struct target_address address;
    struct problems problems;
    problems_init(&problems);
    call->state = state;
    call->ops = state == NULL ? NULL : &target_ops;
    int err = 0;
    if (state == NULL || text == NULL) {
        err = problems_add(&problems, ERR_MEMORY, "", "out of memory");
    } else if (uri_decode(raw, text, &len) != 0) {
        err = problems_add(&problems, ERR_SYNTAX, "", "the address has a broken percent-encoding");
    } else {
        err = target_address_parse(str_make(text, len), &address, &memory, "", &problems);
    }
    if (err == 0) {
        state->address = str_dup(address.text);
        err = state->address == NULL ? problems_add(&problems, ERR_MEMORY, "", "out of memory") : 0;
    }
    if (err != 0) {
        answer_problems(call, &problems);
    }
    free(memory);
    free(text);
    problems_fini(&problems);
    return err == 0;
}

// The list of targets in a pool's value, made when there is none. Borrowed; NULL: out of memory.
static json_t *targets_of(json_t *pool)
{
    json_t *targets = json_object_get(pool, "targets");
    if (!json_is_array(targets)) {
        json_object_set_new(pool, "targets", json_array());
        targets = json_object_get(pool, "targets");
    }
    return targets;
}

// A problem of the pool as one of its target: "/targets/3/weight" is "/weight" here.
static void localise_problems(struct problems *problems, size_t index)
{
    char prefix[32];
    int len = snprintf(prefix, sizeof prefix, "/targets/%zu", index);
    unsigned kept = problems->count < PROBLEM_MAX ? problems->count : PROBLEM_MAX;
    for (unsigned i = 0; i < kept; i++) {
        char *pointer = problems->items[i].pointer;
        if (strncmp(pointer, prefix, (size_t)len) == 0 &&
            (pointer[len] == '/' || pointer[len] == '\0')) {
            memmove(pointer, pointer + len, strlen(pointer + len) + 1);
        }
    }
}

static void submit_pool(struct call *call, json_t *pool, uint64_t revision,
                        void (*on_done)(struct store_request *request))
{
    struct target_call *state = call->state;
    struct problems problems;
    problems_init(&problems);
    struct store_change change;
    int err = change_build(call->admin, NOUN_POOL, call->key, pool, &change, &problems);
    if (err != 0) {
        localise_problems(&problems, state->index);
        answer_problems(call, &problems);
    } else if (state->deadline_ms == 0 && !object_condition(call, &change)) {
        change_fini(&change);
    } else {
        if (change.if_match == 0) {
            change.if_match = revision;
        }
        object_submit(call, &change, on_done);
    }
    problems_fini(&problems);
}

static void on_put_done(struct store_request *request)
{
    struct call *call = request->context;
    const struct target_call *state = call->state;
    if (object_finish(call, request)) {
        const struct store_change *change = &request->changes[0];
        json_t *pool = json_loads(change->value, 0, NULL);
        json_t *targets = json_object_get(pool, "targets");
        json_t *target = json_array_get(targets, find_target(targets, state->address));
        unsigned status = state->was_new ? 201 : 200;
        call->etag = change->revision;
        json_t *answer =
            json_is_string(target) ? json_pack("{s:O}", "address", target) : json_incref(target);
        answer_json_tree(call, call->wait == WAIT_NONE ? 202 : status, answer);
        json_decref(pool);
    }
    store_request_free(&request);
    call_drop(call);
}

// The fields of a PUT; left out ones are kept. A new reference; NULL: answered.
static json_t *read_fields(struct call *call)
{
    json_t *fields = call->body.len == 0 ? json_object() : object_body(call);
    if (fields != NULL && !json_is_object(fields)) {
        answer_status(call, 422, "a target is an object");
        json_decref(fields);
        return NULL;
    }
    json_t *address = json_object_get(fields, "address");
    if (address == NULL) {
        return fields;
    }
    struct problems problems;
    problems_init(&problems);
    struct target_address parsed = {0};
    char *memory = NULL;
    int err = json_is_string(address)
                  ? target_address_parse(str_from_c(json_string_value(address)), &parsed, &memory,
                                         "/address", &problems)
                  : problems_add(&problems, ERR_INVALID, "/address", "must be a string");
    const struct target_call *state = call->state;
    if (err == 0 && !str_eq(parsed.text, str_from_c(state->address))) {
        err = problems_add(&problems, ERR_INVALID, "/address", "contradicts the URL: %s",
                           state->address);
    }
    if (err != 0) {
        answer_problems(call, &problems);
        json_decref(fields);
        fields = NULL;
    }
    free(memory);
    problems_fini(&problems);
    return fields;
}

void call_target_put(struct call *call)
{
    if (!read_target(call)) {
        return;
    }
    struct target_call *state = call->state;
    json_t *fields = read_fields(call);
    uint64_t revision = 0;
    json_t *pool = fields == NULL ? NULL : object_load(call, &revision);
    if (pool == NULL) {
        json_decref(fields);
        return;
    }
    json_t *targets = targets_of(pool);
    state->index = find_target(targets, state->address);
    state->was_new = state->index == SIZE_MAX;
    json_t *old = json_array_get(targets, state->index);
    json_t *target = json_is_object(old) ? json_deep_copy(old) : json_object();
    bool is_done = target != NULL && json_object_update(target, fields) == 0 &&
                   json_object_set_new(target, "address", json_string(state->address)) == 0;
    if (state->was_new) {
        state->index = json_array_size(targets);
        is_done = json_array_append_new(targets, target) == 0 && is_done;
    } else {
        is_done = json_array_set_new(targets, state->index, target) == 0 && is_done;
    }
    if (is_done) {
        submit_pool(call, pool, revision, on_put_done);
    } else {
        answer_err(call, ERR_MEMORY);
    }
    json_decref(fields);
    json_decref(pool);
}

static void remove_target(struct call *call);

// Requests under way to a target.
struct live_count {
    struct str address;
    unsigned count;
};

static void count_member(void *context, struct str address, const struct pool_member *member)
{
    struct live_count *live = context;
    if (str_eq(address, live->address)) {
        live->count += atomic_load_explicit(&member->inflight, memory_order_relaxed);
    }
}

static void on_removed(struct store_request *request)
{
    struct call *call = request->context;
    const struct target_call *state = call->state;
    struct admin *admin = call->admin;
    if (request->err == 0 && state->deadline_ms != 0 &&
        publisher_cut_member(admin->publisher, str_from_c(call->key), str_from_c(state->address)) >
            0) {
        admin->deps.hooks->cut(admin->deps.context);
    }
    if (request->err == ERR_PRECONDITION && !call->is_conditional &&
        ++call->attempts < ADMIN_RETRY_MAX) {
        remove_target(call); // with a client or without: a drain is seen through
    } else if (object_finish(call, request)) {
        answer_send(call, call->wait == WAIT_NONE ? 202 : 204, NULL, STR_NULL);
    }
    store_request_free(&request);
    call_drop(call);
}

static bool is_still_draining(const json_t *target)
{
    const char *state = json_string_value(json_object_get(target, "state"));
    return state != NULL && strcmp(state, "drain") == 0;
}

static void remove_target(struct call *call)
{
    struct target_call *state = call->state;
    uint64_t revision = 0;
    json_t *pool = object_load(call, &revision);
    if (pool == NULL) {
        return;
    }
    json_t *targets = targets_of(pool);
    state->index = find_target(targets, state->address);
    if (state->index == SIZE_MAX) {
        answer_status(call, 404, "pool %s has no target %s", call->key, state->address);
    } else if (state->deadline_ms != 0 &&
               !is_still_draining(json_array_get(targets, state->index))) {
        answer_status(call, 409, "the state of %s was changed while it drained: it stays",
                      state->address);
    } else if (json_array_remove(targets, state->index) != 0) {
        answer_err(call, ERR_MEMORY);
    } else {
        submit_pool(call, pool, revision, on_removed);
    }
    json_decref(pool);
}

static void on_drain_timer(struct loop *loop, struct loop_timer *timer)
{
    struct call *call = CONTAINER_OF(timer, struct call, timer);
    const struct target_call *state = call->state;
    struct live_count live = {.address = str_from_c(state->address)};
    publisher_pool_members(call->admin->publisher, str_from_c(call->key), count_member, &live);
    if (live.count > 0 && loop->now_ms < state->deadline_ms) {
        loop_timer_set(loop, timer, DRAIN_POLL_MS);
        return;
    }
    call->attempts = 0;
    call->is_conditional = false; // If-Match was for the first step
    remove_target(call);
    call_drop(call); // the hold of the timer
}

static void on_draining(struct store_request *request)
{
    struct call *call = request->context;
    struct target_call *state = call->state;
    struct loop *loop = call->admin->loop;
    // A drain goes on without its client.
    if (request->err == 0) {
        call->revision = request->revision;
        state->deadline_ms = loop->now_ms + state->drain_ms;
        loop_timer_init(&call->timer, on_drain_timer);
        loop_timer_set(loop, &call->timer, 1);
        call_hold(call);
        if (call->wait == WAIT_NONE) {
            answer_send(call, 202, NULL, STR_NULL);
        }
    } else {
        object_finish(call, request);
    }
    store_request_free(&request);
    call_drop(call);
}

static void begin_drain(struct call *call)
{
    struct target_call *state = call->state;
    uint64_t revision = 0;
    json_t *pool = object_load(call, &revision);
    if (pool == NULL) {
        return;
    }
    json_t *targets = targets_of(pool);
    state->index = find_target(targets, state->address);
    json_t *old = json_array_get(targets, state->index);
    if (old == NULL) {
        answer_status(call, 404, "pool %s has no target %s", call->key, state->address);
        json_decref(pool);
        return;
    }
    json_t *target = json_is_object(old) ? json_deep_copy(old) : json_object();
    if (target != NULL &&
        json_object_set_new(target, "address", json_string(state->address)) == 0 &&
        json_object_set_new(target, "state", json_string("drain")) == 0 &&
        json_array_set(targets, state->index, target) == 0) {
        submit_pool(call, pool, revision, on_draining);
    } else {
        answer_err(call, ERR_MEMORY);
    }
    json_decref(target);
    json_decref(pool);
}

void call_target_delete(struct call *call)
{
    if (!read_target(call)) {
        return;
    }
    struct target_call *state = call->state;
    struct str value;
    if (!call_param(call, STR("drain"), &value)) {
        remove_target(call);
        return;
    }
    if (text_duration_ms(value, &state->drain_ms) != 0 || state->drain_ms > ADMIN_DRAIN_MAX_MS) {
        answer_status(call, 400, "drain is a duration of at most 24h, like 30s");
        return;
    }
    if (!state->is_counted && call->admin->drain_count >= ADMIN_DRAIN_MAX) {
        answer_status(call, 503, "%u targets are draining already", ADMIN_DRAIN_MAX);
        return;
    }
    if (!state->is_counted) {
        state->is_counted = true;
        call->admin->drain_count++;
    }
    begin_drain(call);
}

static void put_member(void *context, struct str address, const struct pool_member *member)
{
    json_t *live = context;
    char name[300];
    str_copy(name, sizeof name, address);
    json_int_t count = atomic_load_explicit(&member->inflight, memory_order_relaxed);
    count += json_integer_value(json_object_get(live, name));
    json_object_set_new(live, name, json_integer(count));
}

void call_targets_get(struct call *call)
{
    uint64_t revision = 0;
    json_t *pool = object_key(call) ? object_load(call, &revision) : NULL;
    if (pool == NULL) {
        return;
    }
    json_t *live = json_object();
    json_t *answer = json_array();
    publisher_pool_members(call->admin->publisher, str_from_c(call->key), put_member, live);
    size_t index;
    json_t *target;
    json_array_foreach(json_object_get(pool, "targets"), index, target)
    {
        struct str address = target_text(target);
        json_t *weight = json_object_get(target, "weight");
        const char *state = json_string_value(json_object_get(target, "state"));
        json_t *item = json_pack("{s:s%,s:I,s:s,s:I}", "address", address.p, address.len, "weight",
                                 weight == NULL ? (json_int_t)1 : json_integer_value(weight),
                                 "state", state == NULL ? "up" : state, "requests",
                                 json_integer_value(json_object_get(live, address.p)));
        json_array_append_new(answer, item);
    }
    call->etag = revision;
    json_decref(live);
    json_decref(pool);
    answer_json_tree(call, 200, answer);
}
