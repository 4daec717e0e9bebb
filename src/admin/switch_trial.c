// SPDX-License-Identifier: MIT
// A switch tries its targets before it changes anything.
#include "admin/switch_int.h"

// Pointers into the body by address. A new reference, or NULL.
static json_t *index_pointers(const struct switch_call *state)
{
    json_t *pointers = json_object();
    for (size_t i = 0; i < state->count; i++) {
        const struct switch_target *target = &state->targets[i];
        if (target->address != NULL) {
            json_object_set_new(pointers, target->address, json_string(target->pointer));
        }
    }
    return pointers;
}

// `failed` is [{"address": …, "detail": …}].
static void answer_unhealthy(struct call *call, struct str failed)
{
    json_t *list = json_loadb(failed.p, failed.len, 0, NULL);
    json_t *pointers = index_pointers(call->state);
    json_t *errors = json_array();
    size_t index;
    json_t *item;
    json_array_foreach(list, index, item)
    {
        const char *address = json_string_value(json_object_get(item, "address"));
        const char *detail = json_string_value(json_object_get(item, "detail"));
        address = address == NULL ? "" : address;
        const char *pointer = json_string_value(json_object_get(pointers, address));
        json_array_append_new(errors, json_pack("{s:s,s:s,s:s}", "pointer",
                                                pointer == NULL ? "" : pointer, "address", address,
                                                "detail", detail == NULL ? "" : detail));
    }
    char text[128];
    const struct switch_call *state = call->state;
    int len = snprintf(text, sizeof text, "%zu of %zu targets not healthy: nothing was changed",
                       json_array_size(list), state->count);
    answer_errors(call, 409, str_make(text, (size_t)len), errors);
    json_decref(pointers);
    json_decref(list);
}

static void on_tried(void *context, const struct publish_trial_result *result)
{
    struct call *call = context;
    struct switch_call *state = call->state;
    state->trial = NULL;
    state->is_tried = true;
    if (result->is_good) {
        call->row->run(call);
    } else {
        answer_unhealthy(call, result->failed);
    }
    call_drop(call); // the hold of the trial
}

static int begin_trial(struct call *call, const struct pool_decl *decl)
{
    struct switch_call *state = call->state;
    call->admin->switch_count++;
    state->is_counted = true;
    call_hold(call);
    int err = publisher_try_targets(call->admin->publisher, str_from_c(call->key), decl,
                                    state->wait_ms, on_tried, call, &state->trial);
    if (err != 0) {
        state->trial = NULL;
        call_drop(call);
    }
    return err;
}

void switch_try(struct call *call, json_t *pool, json_t *old)
{
    struct switch_call *state = call->state;
    if (call->admin->switch_count >= ADMIN_SWITCH_MAX) {
        answer_status(call, 503, "%u switches wait for their targets already", ADMIN_SWITCH_MAX);
        return;
    }
    struct declaration *declaration = NULL;
    struct problems problems;
    problems_init(&problems);
    int err = declaration_decode(NOUN_POOL, str_from_c(call->key), pool, DECODE_FEED, &declaration,
                                 NULL, &problems);
    if (err == 0) {
        state->before = json_incref(old);
        err = begin_trial(call, &declaration->pool);
    }
    if (err != 0) {
        answer_err(call, err);
    }
    declaration_free(&declaration);
    problems_fini(&problems);
}
