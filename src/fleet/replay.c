// SPDX-License-Identifier: MIT
// Requests on their way into the replica, in order.
//
//     queue ── store_submit ──► sent ── on_done ──► live
//       ▲                         │ failed, and all behind it
//       └── after a pause ── held ◄┘
//
// What came back without an error behind one that failed is sent once more with it: a deletion must not come to
// stand before what it deletes.
#include "base/log.h"
#include "fleet/follow_int.h"
#include <stdlib.h>

static void free_replay(struct replay *replay)
{
    list_remove(&replay->node);
    store_request_free(&replay->request);
    free(replay);
}

static void free_all(struct list *list)
{
    while (!list_is_empty(list)) {
        free_replay(CONTAINER_OF(list->next, struct replay, node));
    }
}

static void on_retry(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct replay_line *line = CONTAINER_OF(timer, struct replay_line, timer);
    line->is_failing = false;
    replay_send(line);
}

void replay_line_init(struct replay_line *line, struct follow *follow)
{
    *line = (struct replay_line){.follow = follow};
    list_init(&line->queue);
    list_init(&line->sent);
    list_init(&line->held);
    loop_timer_init(&line->timer, on_retry);
}

void replay_line_stop(struct replay_line *line)
{
    line->is_stopped = true;
    loop_timer_cancel(&line->follow->fleet->loop, &line->timer);
    free_all(&line->queue);
    free_all(&line->held);
}

void replay_line_fini(struct replay_line *line)
{
    free_all(&line->queue);
    free_all(&line->held);
    free_all(&line->sent); // there are none: the store has answered all
}

bool replay_is_empty(const struct replay_line *line)
{
    return list_is_empty(&line->queue) && list_is_empty(&line->sent) && list_is_empty(&line->held);
}

static bool has_room(const struct replay_line *line, const struct replay *next)
{
    return line->sent_count == 0 || (line->sent_count < FOLLOW_SENT_MAX &&
                                     line->sent_bytes + next->bytes <= FOLLOW_SENT_BYTES &&
                                     line->sent_changes + next->changes <= FOLLOW_SENT_CHANGES);
}

bool replay_has_room(const struct replay_line *line)
{
    return !line->is_failing && list_is_empty(&line->queue) && line->sent_count < FOLLOW_SENT_MAX &&
           line->sent_bytes < FOLLOW_SENT_BYTES && line->sent_changes < FOLLOW_SENT_CHANGES;
}

// As if it had never been answered. The given revisions stay.
static void reset(struct store_request *request)
{
    request->err = 0;
    for (unsigned i = 0; i < request->count; i++) {
        struct store_change *change = &request->changes[i];
        problems_fini(&change->problems);
        problems_init(&change->problems);
        change->err = 0;
        change->was_new = false;
        change->was_same = false;
        change->is_changed = false;
        change->is_last = false;
        change->is_fed = false;
    }
}

// Behind what is sent are only answers, in the order of sending.
static void hold(struct replay_line *line, struct replay *replay, struct store_request *request)
{
    reset(request);
    list_remove(&replay->node);
    list_append(&line->held, &replay->node);
    replay->request = request;
}

static void note_failure(struct replay_line *line, const struct store_request *request)
{
    const char *detail = request->count > 0 && request->changes[0].problems.count > 0
                             ? request->changes[0].problems.items[0].detail
                             : err_text(request->err);
    if (line->is_failing) {
        return;
    }
    line->is_failing = true;
    struct fleet *fleet = line->follow->fleet;
    char fault[sizeof fleet->replica_fault];
    str_copy(fault, sizeof fault, str_from_c(detail));
    if (strcmp(fault, fleet->replica_fault) != 0) { // it is tried again and again
        memcpy(fleet->replica_fault, fault, sizeof fault);
        log_error("the replica could not be written: %s", fault);
    }
}

static void on_done(struct store_request *request)
{
    struct replay *replay = request->context;
    struct replay_line *line = &replay->follow->line;
    line->sent_count--;
    line->sent_bytes -= replay->bytes;
    line->sent_changes -= replay->changes;
    if (line->is_stopped) {
        replay->request = request;
        free_replay(replay);
        return;
    }
    if (request->err != 0) {
        note_failure(line, request);
    }
    if (line->is_failing) {
        hold(line, replay, request);
        if (list_is_empty(&line->sent)) {
            list_splice(&line->held, &line->queue); // what was held comes first
            list_splice(&line->queue, &line->held);
            loop_timer_set(&line->follow->fleet->loop, &line->timer, FOLLOW_RETRY_MS);
        }
        return;
    }
    line->follow->fleet->replica_fault[0] = '\0';
    replay->request = request;
    list_remove(&replay->node);
    follow_on_live(line->follow, replay);
    free_replay(replay);
    replay_send(line);
    follow_go_on(line->follow);
}

static size_t measure(const struct store_request *request)
{
    size_t bytes = sizeof *request;
    for (unsigned i = 0; i < request->count; i++) {
        const struct store_change *change = &request->changes[i];
        bytes += sizeof *change + strlen(change->key) +
                 (change->value == NULL ? 0 : strlen(change->value)) +
                 (change->secret == NULL ? 0 : strlen(change->secret));
    }
    return bytes;
}

struct replay *replay_add(struct replay_line *line, struct store_request **request,
                          const struct fleet_place *place)
{
    struct replay *replay = calloc(1, sizeof *replay);
    if (replay == NULL) {
        return NULL;
    }
    replay->follow = line->follow;
    replay->request = *request;
    replay->bytes = measure(*request);
    replay->changes = (*request)->count;
    replay->has_place = place != NULL;
    if (place != NULL) {
        replay->place = *place;
        fleet_place_write(place, (*request)->mark, sizeof(*request)->mark);
    }
    *request = NULL;
    list_append(&line->queue, &replay->node);
    return replay;
}

void replay_send(struct replay_line *line)
{
    while (!line->is_failing && !line->is_stopped && !list_is_empty(&line->queue)) {
        struct replay *replay = CONTAINER_OF(line->queue.next, struct replay, node);
        if (!has_room(line, replay)) {
            return;
        }
        struct store_request *request = replay->request;
        replay->request = NULL;
        request->loop = &line->follow->fleet->loop;
        request->on_done = on_done;
        request->context = replay;
        list_remove(&replay->node);
        list_append(&line->sent, &replay->node);
        line->sent_count++;
        line->sent_bytes += replay->bytes;
        line->sent_changes += replay->changes;
        store_submit(line->follow->fleet->config.store, &request);
    }
}
