// SPDX-License-Identifier: MIT
// An answer that waits until the names of what was changed stand for something:
//
//   written and live ─► names without an answer? ─► poll ─► first answers, or a second is over ─► answer
#include "admin/admin_int.h"

static bool is_named(const struct call *call)
{
    return (call->noun != NOUN_POOL && call->noun != NOUN_ROUTE) ||
           publisher_unresolved(call->admin->publisher, call->noun, str_from_c(call->key)) == 0;
}

static void on_poll(struct loop *loop, struct loop_timer *timer)
{
    struct call *call = CONTAINER_OF(timer, struct call, timer);
    if (call->stream != NULL && !is_named(call) && loop->now_ms < call->late_until_ms) {
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
    call->late_until_ms = loop->now_ms + ADMIN_NAMES_WAIT_MS;
    loop_timer_init(&call->timer, on_poll);
    loop_timer_set(loop, &call->timer, ADMIN_NAMES_POLL_MS);
    call_hold(call);
}
