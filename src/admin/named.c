// SPDX-License-Identifier: MIT
// Names of what is changed are to stand for something, before it is live and when the call returns:
//
//   change ─► names without an answer? ─► poll ─► first answers, or a second is over ─► submitted
//   written and live ─► names without an answer? ─► the same, in the same second ─► answer
#include "admin/admin_int.h"

static bool may_declare_names(const struct store_change *change)
{
    if (change->value == NULL) {
        return false;
    }
    return change->noun == NOUN_POOL ||
           (change->noun == NOUN_ROUTE &&
            str_find(str_from_c(change->value), STR("\"targets\"")) != SIZE_MAX);
}

// Best effort: without memory it begins without them, as one with a name that nobody answers for.
static void ask(struct call *call, const struct store_request *request)
{
    for (unsigned i = 0; i < request->count; i++) {
        const struct store_change *change = &request->changes[i];
        const struct store_record record = {.noun = change->noun,
                                            .key = str_from_c(change->key),
                                            .value = str_from_c(change->value)};
        if (may_declare_names(change) &&
            publisher_ask_names(call->admin->publisher, &record, &call->names) != 0) {
            return;
        }
    }
}

static void on_early(struct loop *loop, struct loop_timer *timer)
{
    struct call *call = CONTAINER_OF(timer, struct call, early_timer);
    if (call->stream != NULL && !publish_names_are_answered(call->names) &&
        loop->now_ms < call->names_until_ms) {
        loop_timer_set(loop, timer, ADMIN_NAMES_POLL_MS);
        return;
    }
    store_submit(call->admin->store, &call->early);
}

void submit_when_named(struct call *call, struct store_request **request)
{
    struct loop *loop = call->admin->loop;
    bool is_first = call->names == NULL && call->names_until_ms == 0;
    if (is_first && call->stream != NULL && call->method != METHOD_DELETE &&
        !call->has_no_new_names) {
        // Also when it does not wait: what a trial found out of them is kept until they are live.
        ask(call, *request);
    }
    if (!is_first || call->wait == WAIT_NONE || publish_names_are_answered(call->names)) {
        store_submit(call->admin->store, request);
        return;
    }
    call->early = *request;
    *request = NULL;
    call->names_until_ms = loop->now_ms + ADMIN_NAMES_WAIT_MS;
    loop_timer_init(&call->early_timer, on_early);
    loop_timer_set(loop, &call->early_timer, ADMIN_NAMES_POLL_MS);
}

static bool is_named(const struct call *call)
{
    return (call->noun != NOUN_POOL && call->noun != NOUN_ROUTE) ||
           publisher_unresolved(call->admin->publisher, call->noun, str_from_c(call->key)) == 0;
}

static void on_poll(struct loop *loop, struct loop_timer *timer)
{
    struct call *call = CONTAINER_OF(timer, struct call, timer);
    if (call->stream != NULL && !is_named(call) && loop->now_ms < call->names_until_ms) {
        loop_timer_set(loop, timer, ADMIN_NAMES_POLL_MS);
        return;
    }
    answer_json(call, call->late_status, str_from_c(call->late_text));
    call_drop(call); // the hold of the timer
}

void answer_when_named(struct call *call, unsigned status, struct str text)
{
    if (call->stream == NULL || call->wait == WAIT_NONE || is_named(call)) {
        answer_json(call, status, text);
        return;
    }
    call->late_text = str_dup(text);
    if (call->late_text == NULL) {
        answer_json(call, status, text); // done all the same
        return;
    }
    struct loop *loop = call->admin->loop;
    call->late_status = status;
    if (call->names_until_ms == 0) {
        call->names_until_ms = loop->now_ms + ADMIN_NAMES_WAIT_MS;
    }
    loop_timer_init(&call->timer, on_poll);
    loop_timer_set(loop, &call->timer, ADMIN_NAMES_POLL_MS);
    call_hold(call);
}
