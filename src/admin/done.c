// SPDX-License-Identifier: MIT
// The answer of a write that is live here, and with ?wait=fleet not before it is live on all nodes:
//
//   written and live here ─► fleet_wait ─► everywhere ─► the answer as it would have been (named.c)
//                                       └► not in time ─► 504 with those that lag; it is written all the same
#include "admin/admin_int.h"

// Without a text: a head alone.
static void send_written(struct call *call, unsigned status, const char *text, bool with_names)
{
    if (text == NULL) {
        answer_send(call, status, NULL, STR_NULL);
    } else if (with_names) {
        answer_when_named(call, status, str_from_c(text));
    } else {
        answer_json(call, status, str_from_c(text));
    }
}

// 504: it is written, but these lag.
static void answer_lagging(struct call *call, const char *lagging)
{
    call->lagging = lagging;
    answer_status(call, 504, "it is written, but not yet known to be served by %s", lagging);
    call->lagging = NULL;
}

static void on_everywhere(void *context, const char *lagging)
{
    struct call *call = context;
    call->fleet_wait = NULL;
    if (lagging[0] == '\0') {
        char *text = call->written_text;
        call->written_text = NULL;
        send_written(call, call->written_status, text, call->written_with_names);
        free(text);
    } else {
        answer_lagging(call, lagging);
    }
    call_drop(call); // the hold of the wait
}

bool call_wait_fleet(struct call *call, void (*on_done)(void *context, const char *lagging))
{
    struct fleet *fleet = call->admin->deps.fleet;
    if (call->wait != WAIT_FLEET || fleet == NULL || call->revision == 0 || call->stream == NULL) {
        return false;
    }
    int err = fleet_wait(fleet, call->revision, call->wait_ms, on_done, call, &call->fleet_wait);
    if (err != 0) {
        return false;
    }
    call_hold(call);
    return true;
}

void call_wait_end(struct call *call)
{
    if (call->fleet_wait != NULL) {
        fleet_wait_end(&call->fleet_wait);
        call_drop(call); // the hold of the wait
    }
}

void answer_done(struct call *call, unsigned status, const char *text, bool with_names)
{
    status = call->wait == WAIT_NONE ? 202 : status;
    bool is_fleet = call->wait == WAIT_FLEET && call->admin->deps.fleet != NULL;
    if (!is_fleet || call->stream == NULL) {
        send_written(call, status, text, with_names);
        return;
    }
    call->written_status = status;
    call->written_with_names = with_names;
    call->written_text = text == NULL ? NULL : str_dup(str_from_c(text));
    bool is_kept = text == NULL || call->written_text != NULL;
    if (!is_kept || !call_wait_fleet(call, on_everywhere)) {
        answer_lagging(call, "all other nodes"); // nobody can be asked
    }
}
