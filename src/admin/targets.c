// SPDX-License-Identifier: MIT
// One target of a pool: PUT. The pool is read, changed and written back with compare-and-swap.
#include "admin/target_int.h"
#include "http/uri.h"

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

struct str target_text(const json_t *target)
{
    const char *text = json_string_value(target);
    return str_from_c(text != NULL ? text : json_string_value(json_object_get(target, "address")));
}

size_t target_find(const json_t *targets, const char *address)
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

bool target_read(struct call *call)
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

json_t *target_list(json_t *pool)
{
    json_t *targets = json_object_get(pool, "targets");
    if (!json_is_array(targets)) {
        json_object_set_new(pool, "targets", json_array());
        targets = json_object_get(pool, "targets");
    }
    return targets;
}

json_t *target_load(struct call *call, uint64_t *revision)
{
    struct target_call *state = call->state;
    json_t *pool = object_load(call, revision);
    if (pool == NULL) {
        return NULL;
    }
    state->index = target_find(target_list(pool), state->address);
    if (state->index == SIZE_MAX) {
        answer_status(call, 404, "pool %s has no target %s", call->key, state->address);
        json_decref(pool);
        return NULL;
    }
    return pool;
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

void target_submit(struct call *call, json_t *pool, uint64_t revision,
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
        store_change_fini(&change);
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
        json_t *target = json_array_get(targets, target_find(targets, state->address));
        unsigned status = state->was_new ? 201 : 200;
        call->etag = change->revision;
        char *text = json_dumps(target, JSON_COMPACT);
        if (text == NULL) {
            answer_err(call, ERR_MEMORY);
        } else {
            answer_done(call, status, text, state->was_new);
        }
        free(text);
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
    if (!target_read(call)) {
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
    json_t *targets = target_list(pool);
    state->index = target_find(targets, state->address);
    state->was_new = state->index == SIZE_MAX;
    call->has_no_new_names = !state->was_new;
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
        target_submit(call, pool, revision, on_put_done);
    } else {
        answer_err(call, ERR_MEMORY);
    }
    json_decref(fields);
    json_decref(pool);
}
