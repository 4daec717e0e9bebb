// SPDX-License-Identifier: MIT
// POST /admin/set_backends/: a list of addresses becomes the targets of pool "default".
#include "admin/switch_int.h"

static const char default_pool[] = "default";
static const char default_route[] = "*";

// 0: the route is there, or *change makes it. Else a negative err.
static int build_route(struct call *call, struct store_change *change, bool *is_missing)
{
    struct store_record record;
    int err = store_get(call->admin->store, NOUN_ROUTE, STR("*"), &record);
    *is_missing = err == ERR_NOT_FOUND;
    if (!*is_missing) {
        return err;
    }
    struct problems problems;
    problems_init(&problems);
    json_t *route = json_pack("{s:s}", "pool", default_pool);
    err = route == NULL
              ? ERR_MEMORY
              : change_build(call->admin, NOUN_ROUTE, default_route, route, change, &problems);
    change->if_none_match = true;
    json_decref(route);
    problems_fini(&problems);
    return err;
}

void backends_make(struct call *call, struct store_change *pool)
{
    struct store_change route = {.noun = NOUN_ROUTE};
    bool is_missing = false;
    int err = build_route(call, &route, &is_missing);
    struct store_request *request = err == 0 ? store_request_new(is_missing ? 2 : 1) : NULL;
    if (request == NULL) {
        store_change_fini(&route);
        answer_err(call, err == 0 ? ERR_MEMORY : err);
        return;
    }
    pool->if_none_match = true;
    request->changes[0] = *pool;
    *pool = (struct store_change){.noun = NOUN_POOL};
    if (is_missing) {
        request->changes[1] = route;
    }
    request->wants_fleet = call->wait == WAIT_FLEET;
    request->loop = call->admin->loop;
    request->on_done = switch_on_done;
    request->context = call;
    call_hold(call);
    submit_when_named(call, &request);
}

// The JSON pointer of a member (RFC 6901 3), cut to fit.
static void point_at(char *to, size_t size, const char *name)
{
    size_t len = 0;
    to[len++] = '/';
    for (const char *at = name; *at != '\0' && len + 3 < size; at++) {
        bool is_escaped = *at == '~' || *at == '/';
        to[len++] = is_escaped ? '~' : *at;
        if (is_escaped) {
            to[len++] = *at == '~' ? '0' : '1';
        }
    }
    to[len] = '\0';
}

static int add_address(struct switch_call *state, json_t *value, const char *pointer,
                       struct problems *problems)
{
    if (!json_is_string(value)) {
        return problems_add(problems, ERR_INVALID, pointer, "must be an address, like \"%s\"",
                            "10.0.0.5:8080");
    }
    return switch_add(state, value, pointer) == 0
               ? 0
               : problems_add(problems, ERR_MEMORY, "", "out of memory");
}

static int read_list(struct switch_call *state, const json_t *body, struct problems *problems)
{
    size_t index;
    json_t *value;
    int err = 0;
    json_array_foreach(body, index, value)
    {
        char pointer[32];
        snprintf(pointer, sizeof pointer, "/%zu", index);
        int one = add_address(state, value, pointer, problems);
        err = err == 0 ? one : err;
    }
    return err;
}

// The members' values say nothing here.
static int read_keys(struct switch_call *state, json_t *body, struct problems *problems)
{
    const char *name;
    json_t *value;
    json_object_foreach(body, name, value)
    {
        char pointer[256];
        point_at(pointer, sizeof pointer, name);
        json_t *address = json_string(name);
        int err = address == NULL ? problems_add(problems, ERR_MEMORY, "", "out of memory")
                                  : add_address(state, address, pointer, problems);
        json_decref(address);
        if (err != 0) {
            return err;
        }
    }
    return 0;
}

static int read_backends(struct call *call, struct switch_call *state, json_t *body,
                         struct problems *problems)
{
    bool is_list = json_is_array(body);
    size_t count = is_list ? json_array_size(body) : json_object_size(body);
    struct str value;
    if (!is_list && !json_is_object(body)) {
        return problems_add(problems, ERR_INVALID, "",
                            "must be a list of addresses, or an object whose keys they are");
    }
    if (count > ADMIN_TARGETS_MAX) {
        return problems_add(problems, ERR_INVALID, "", "has more than %d addresses",
                            ADMIN_TARGETS_MAX);
    }
    if (count == 0 && !call_switch(call, STR("allow_empty"))) {
        return problems_add(problems, ERR_INVALID, "",
                            "is empty: nothing would be served (allow_empty=true does it)");
    }
    int err = 0;
    if (call_param(call, STR("wait_healthy"), &value)) {
        err = switch_read_wait(value, &state->wait_ms, "", problems);
    }
    if (err == 0) {
        err = is_list ? read_list(state, body, problems) : read_keys(state, body, problems);
    }
    return err;
}

// False: answered.
static bool read_call(struct call *call)
{
    call->noun = NOUN_POOL;
    call->key = str_dup(str_from_c(default_pool));
    if (call->key == NULL) {
        answer_err(call, ERR_MEMORY);
        return false;
    }
    struct switch_call *state = NULL;
    json_t *body = NULL;
    if (!object_wait(call) || (body = object_body(call)) == NULL ||
        (state = switch_new(call)) == NULL) {
        json_decref(body);
        return false;
    }
    state->keeps_state = true;
    state->makes_pool = true;
    struct problems problems;
    problems_init(&problems);
    int err = read_backends(call, state, body, &problems);
    if (err != 0) {
        answer_problems(call, &problems);
    }
    problems_fini(&problems);
    json_decref(body);
    return err == 0;
}

void call_set_backends(struct call *call)
{
    if (call->state != NULL || read_call(call)) {
        switch_run(call);
    }
}
