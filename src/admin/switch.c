// SPDX-License-Identifier: MIT
// POST /v1/pools/{name}/switch, and what it has in common with set_backends.
//
//   run ─► build ─► try new targets ── all good ─► run again ─► written with compare-and-swap ─► answer
//                        │ not in time: 409, nothing is changed
//                        └ the client leaves: given up
#include "admin/switch_int.h"
#include "admin/target_int.h"
#include "model/value.h"

static void free_switch(struct call *call)
{
    struct switch_call *state = call->state;
    if (state->trial != NULL) {
        publish_trial_end(&state->trial);
    }
    if (state->is_counted) {
        call->admin->switch_count--;
    }
    for (size_t i = 0; i < state->count; i++) {
        json_decref(state->targets[i].value);
        free(state->targets[i].pointer);
        free(state->targets[i].address);
    }
    free(state->targets);
    json_decref(state->before);
    free(state);
}

static void on_gone(struct call *call)
{
    struct switch_call *state = call->state;
    if (state->trial != NULL) {
        publish_trial_end(&state->trial);
        call_drop(call); // the hold of the trial
    }
}

static const struct call_ops switch_ops = {.on_gone = on_gone, .free_state = free_switch};

struct switch_call *switch_new(struct call *call)
{
    struct switch_call *state = calloc(1, sizeof *state);
    struct switch_target *targets = calloc(ADMIN_TARGETS_MAX, sizeof *targets);
    if (state == NULL || targets == NULL) {
        free(state);
        free(targets);
        answer_err(call, ERR_MEMORY);
        return NULL;
    }
    state->targets = targets;
    call->state = state;
    call->ops = &switch_ops;
    return state;
}

// The canonical form of an address, or the text as it is: then it is refused later. NULL: out of memory.
static char *canonical_address(struct str text)
{
    struct target_address address = {0};
    char *memory = NULL;
    struct problems ignored;
    problems_init(&ignored);
    int err = target_address_parse(text, &address, &memory, "", &ignored);
    char *canonical = err == ERR_MEMORY ? NULL : str_dup(err == 0 ? address.text : text);
    free(memory);
    problems_fini(&ignored);
    return canonical;
}

int switch_add(struct switch_call *state, json_t *value, const char *pointer)
{
    struct switch_target *target = &state->targets[state->count++];
    const json_t *text = json_is_object(value) ? json_object_get(value, "address") : value;
    target->value = json_incref(value);
    target->pointer = str_dup(str_from_c(pointer));
    if (json_is_string(text)) {
        target->address =
            canonical_address(str_make(json_string_value(text), json_string_length(text)));
    }
    bool is_whole = target->pointer != NULL && (target->address != NULL || !json_is_string(text));
    return is_whole ? 0 : ERR_MEMORY;
}

int switch_read_wait(struct str text, uint64_t *ms, const char *pointer, struct problems *problems)
{
    if (text_duration_ms(text, ms) == 0 && *ms <= ADMIN_SWITCH_MAX_MS) {
        return 0;
    }
    return problems_add(problems, ERR_INVALID, pointer,
                        "must be a duration of at most 10m, like \"30s\", or \"0\"");
}

// ---- the new list ----

// Old targets by their addresses. A new reference; NULL: out of memory.
static json_t *index_targets(const json_t *old)
{
    json_t *by_address = json_object();
    size_t index;
    json_t *target;
    json_array_foreach(old, index, target)
    {
        const char *address = json_string_value(json_object_get(target, "address"));
        if (address != NULL && json_object_set(by_address, address, target) != 0) {
            json_decref(by_address);
            return NULL;
        }
    }
    return by_address;
}

// What is given over what is kept. A new reference; NULL: out of memory.
static json_t *merge_target(const struct switch_call *state, const struct switch_target *given,
                            const json_t *by_address)
{
    if (given->address == NULL) {
        return json_incref(given->value); // refused later, with what is wrong
    }
    json_t *old = json_object_get(by_address, given->address);
    json_t *target = old == NULL ? json_object() : json_copy(old);
    if (old != NULL && !state->keeps_state) {
        (void)json_object_del(target, "state");
    }
    bool is_done = !json_is_object(given->value) || json_object_update(target, given->value) == 0;
    is_done = is_done && json_object_set_new(target, "address", json_string(given->address)) == 0;
    if (!is_done) {
        json_decref(target);
        return NULL;
    }
    return target;
}

// A new reference; NULL: out of memory.
static json_t *merge_targets(const struct switch_call *state, const json_t *old)
{
    json_t *by_address = index_targets(old);
    json_t *merged = json_array();
    bool is_whole = by_address != NULL && merged != NULL;
    for (size_t i = 0; i < state->count && is_whole; i++) {
        json_t *target = merge_target(state, &state->targets[i], by_address);
        is_whole = json_array_append_new(merged, target) == 0;
    }
    json_decref(by_address);
    if (!is_whole) {
        json_decref(merged);
        return NULL;
    }
    return merged;
}

// ---- what is wrong ----

// "/targets/3/weight" of the pool is where the client's body has it; of a target that is only an address all
// is wrong.
static void translate_pointer(const struct switch_call *state, struct problem *problem)
{
    struct str rest = str_from_c(problem->pointer);
    struct str number;
    struct str tail;
    uint64_t index = 0;
    if (!str_starts(rest, STR("/targets/"))) {
        return;
    }
    bool has_tail = str_split(str_from(rest, strlen("/targets/")), '/', &number, &tail);
    if (str_to_u64(number, &index) != 0 || index >= state->count) {
        return;
    }
    const struct switch_target *given = &state->targets[index];
    struct buf text;
    buf_init(&text, sizeof problem->pointer - 1);
    buf_put(&text, str_from_c(given->pointer));
    if (has_tail && json_is_object(given->value)) {
        buf_put_char(&text, '/');
        buf_put(&text, tail);
    }
    str_copy(problem->pointer, sizeof problem->pointer, buf_str(&text));
    buf_fini(&text);
}

static void answer_refused(struct call *call, struct problems *problems)
{
    for (unsigned i = 0; i < problems->count; i++) {
        translate_pointer(call->state, &problems->items[i]);
    }
    answer_problems(call, problems);
}

// ---- writing ----

void switch_on_done(struct store_request *request)
{
    struct call *call = request->context;
    if (object_finish(call, request)) {
        const struct store_change *change = &request->changes[0];
        call->etag = change->revision;
        answer_done(call, 200, change->value, !change->was_same);
    }
    store_request_free(&request);
    call_drop(call);
}

static bool has_targets(const struct store_change *change, json_t *targets)
{
    json_t *pool = json_loads(change->value, 0, NULL);
    bool is_same = json_equal(json_object_get(pool, "targets"), targets) == 1;
    json_decref(pool);
    return is_same;
}

// The pool as it would be is good: tries it, or writes it (with the change, which is taken).
static void go_on(struct call *call, json_t *pool, json_t *old, uint64_t revision,
                  struct store_change *change)
{
    struct switch_call *state = call->state;
    bool is_same = has_targets(change, old);
    if (state->is_tried && !is_same && json_equal(state->before, old) != 1) {
        answer_status(call, 409,
                      "the targets of pool %s were changed meanwhile: they stay as they are",
                      call->key);
    } else if (!object_condition(call, change)) {
        // answered
    } else if (state->wait_ms > 0 && !state->is_tried && !is_same) {
        switch_try(call, pool, old);
    } else if (revision == 0) {
        backends_make(call, change);
    } else {
        change->if_match = change->if_match == 0 ? revision : change->if_match;
        object_submit(call, change, switch_on_done);
    }
    store_change_fini(change); // nothing is left of one that was submitted
}

void switch_run(struct call *call)
{
    struct switch_call *state = call->state;
    uint64_t revision = 0;
    struct store_record record;
    bool is_missing =
        state->makes_pool &&
        store_get(call->admin->store, NOUN_POOL, str_from_c(call->key), &record) == ERR_NOT_FOUND;
    json_t *pool = is_missing ? json_object() : object_load(call, &revision);
    if (pool == NULL) {
        return;
    }
    json_t *old = json_incref(target_list(pool));
    json_t *merged = merge_targets(state, old);
    struct problems problems;
    problems_init(&problems);
    struct store_change change;
    if (old == NULL || merged == NULL || json_object_set_new(pool, "targets", merged) != 0) {
        answer_err(call, ERR_MEMORY);
    } else if (change_build(call->admin, NOUN_POOL, call->key, pool, &change, &problems) != 0) {
        answer_refused(call, &problems);
    } else {
        go_on(call, pool, old, revision, &change);
    }
    problems_fini(&problems);
    json_decref(old);
    json_decref(pool);
}

// ---- the call of one pool ----

static int read_member(struct switch_call *state, const char *name, json_t *value,
                       struct problems *problems)
{
    static const struct str names[] = {{"targets", 7}, {"wait_healthy", 12}};
    char pointer[80];
    if (strcmp(name, "wait_healthy") == 0) {
        struct str text = json_is_string(value)
                              ? str_make(json_string_value(value), json_string_length(value))
                              : STR_NULL;
        bool is_zero = json_is_integer(value) && json_integer_value(value) == 0;
        return switch_read_wait(is_zero ? STR("0") : text, &state->wait_ms, "/wait_healthy",
                                problems);
    }
    if (strcmp(name, "targets") == 0) {
        return 0;
    }
    snprintf(pointer, sizeof pointer, "/%.64s", name);
    unsigned near = name_nearest(str_from_c(name), names, 2);
    if (near < 2) {
        return problems_add(problems, ERR_INVALID, pointer,
                            "a switch has no field \"%.64s\"; did you mean \"%s\"?", name,
                            names[near].p);
    }
    return problems_add(problems, ERR_INVALID, pointer, "a switch has no field \"%.64s\"", name);
}

static int read_targets(struct switch_call *state, const json_t *targets, struct problems *problems)
{
    size_t count = json_array_size(targets);
    if (!json_is_array(targets) || count == 0 || count > ADMIN_TARGETS_MAX) {
        return problems_add(problems, ERR_INVALID, "/targets",
                            targets == NULL ? "is missing" : "must be a list of 1 to %d targets",
                            ADMIN_TARGETS_MAX);
    }
    size_t index;
    json_t *target;
    json_array_foreach(targets, index, target)
    {
        char pointer[40];
        snprintf(pointer, sizeof pointer, "/targets/%zu", index);
        if (switch_add(state, target, pointer) != 0) {
            return problems_add(problems, ERR_MEMORY, "", "out of memory");
        }
    }
    return 0;
}

// False: answered.
static bool read_switch(struct call *call)
{
    struct switch_call *state = NULL;
    json_t *body = NULL;
    if (!object_key(call) || !object_wait(call) || (body = object_body(call)) == NULL ||
        (state = switch_new(call)) == NULL) {
        json_decref(body);
        return false;
    }
    struct problems problems;
    problems_init(&problems);
    state->wait_ms = ADMIN_SWITCH_DEFAULT_MS;
    if (!json_is_object(body)) {
        (void)problems_add(&problems, ERR_INVALID, "", "a switch is an object with \"targets\"");
    } else {
        const char *name;
        json_t *value;
        json_object_foreach(body, name, value)
        {
            (void)read_member(state, name, value, &problems);
        }
        (void)read_targets(state, json_object_get(body, "targets"), &problems);
    }
    bool is_good = problems.err == 0;
    if (!is_good) {
        answer_problems(call, &problems);
    }
    problems_fini(&problems);
    json_decref(body);
    return is_good;
}

void call_pool_switch(struct call *call)
{
    if (call->state != NULL || read_switch(call)) {
        switch_run(call);
    }
}
