// SPDX-License-Identifier: MIT
// Removing one target, at once or after a drain:
//
//   state "drain" stored ─► poll requests under way ─► 0, or the time is up ─► removed ─► rest is cut
#include "admin/target_int.h"

// A poll looks at all targets of the pool: with many drains under way each is polled less often.
enum { DRAIN_POLL_MS = 20, DRAIN_POLL_EACH_MS = 4 };

static void remove_target(struct call *call);

// Requests under way to a target; of a name to all its addresses, those that left the answer too.
struct live_count {
    struct str address;
    uint64_t count;
};

static void count_member(void *context, const struct publish_target *target)
{
    struct live_count *live = context;
    if (str_eq(target->address, live->address)) {
        live->count += target->requests;
    }
}

static void on_removed(struct store_request *request)
{
    struct call *call = request->context;
    const struct target_call *state = call->state;
    struct admin *admin = call->admin;
    // Of one that was empty nothing is cut: a worker may have picked it in its last look at the old view.
    if (request->err == 0 && state->is_late &&
        publisher_cut_member(admin->publisher, str_from_c(call->key), str_from_c(state->address)) >
            0) {
        admin->deps.hooks->cut(admin->deps.context);
    }
    if (request->err == ERR_PRECONDITION && !call->is_conditional &&
        ++call->attempts < ADMIN_RETRY_MAX) {
        remove_target(call); // with a client or without: a drain is seen through
    } else if (object_finish(call, request)) {
        answer_done(call, 204, NULL, false);
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
    json_t *pool = target_load(call, &revision);
    json_t *targets = json_object_get(pool, "targets");
    if (pool == NULL) {
        return;
    }
    if (state->deadline_ms != 0 && !is_still_draining(json_array_get(targets, state->index))) {
        answer_status(call, 409, "the state of %s was changed while it drained: it stays",
                      state->address);
    } else if (json_array_remove(targets, state->index) != 0) {
        answer_err(call, ERR_MEMORY);
    } else {
        target_submit(call, pool, revision, on_removed);
    }
    json_decref(pool);
}

static void on_drain_timer(struct loop *loop, struct loop_timer *timer)
{
    struct call *call = CONTAINER_OF(timer, struct call, timer);
    struct target_call *state = call->state;
    struct live_count live = {.address = str_from_c(state->address)};
    publisher_pool_targets(call->admin->publisher, str_from_c(call->key), count_member, &live);
    if (live.count > 0 && loop->now_ms < state->deadline_ms) {
        uint64_t poll_ms = DRAIN_POLL_MS + (uint64_t)call->admin->drain_count * DRAIN_POLL_EACH_MS;
        uint64_t left_ms = state->deadline_ms - loop->now_ms;
        loop_timer_set(loop, timer, poll_ms < left_ms ? poll_ms : left_ms);
        return;
    }
    state->is_late = live.count > 0;
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
    json_t *pool = target_load(call, &revision);
    json_t *targets = json_object_get(pool, "targets");
    json_t *old = json_array_get(targets, state->index);
    if (pool == NULL) {
        return;
    }
    json_t *target = json_is_object(old) ? json_deep_copy(old) : json_object();
    if (target != NULL &&
        json_object_set_new(target, "address", json_string(state->address)) == 0 &&
        json_object_set_new(target, "state", json_string("drain")) == 0 &&
        json_array_set(targets, state->index, target) == 0) {
        target_submit(call, pool, revision, on_draining);
    } else {
        answer_err(call, ERR_MEMORY);
    }
    json_decref(target);
    json_decref(pool);
}

void call_target_delete(struct call *call)
{
    if (!target_read(call)) {
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
