// SPDX-License-Identifier: MIT
// What the store thread has sent, in its order: a change may take several turns of the control loop to
// become live, then all that came behind it waits, also answers that changed nothing (they say what is
// stored, and that must be live). A slice at a time, so that a full group does not hold the loop.
#include "base/clock.h"
#include "base/invariant.h"
#include "store/store_int.h"

enum { SLICE_NS = 2000000 };

static void on_slice(struct loop *loop, struct loop_task *task);

void store_line_init(struct store_line *line, struct loop *control)
{
    *line = (struct store_line){.control = control};
    line->last = &line->first;
    loop_task_init(&line->task, on_slice);
}

static struct store_request *take_first(struct store_line *line)
{
    struct store_request *request = line->first;
    line->first = request->next;
    if (line->first == NULL) {
        line->last = &line->first;
    }
    return request;
}

// Delivers what waits until one takes time, or the time is up.
static void deliver(struct store_line *line, uint64_t until_ns)
{
    while (line->first != NULL && line->under_way == NULL) {
        struct store_request *request = take_first(line);
        if (store_request_feed(request)) {
            store_request_answer(request, line->control);
        } else {
            line->under_way = request;
        }
        if (clock_monotonic_ns() >= until_ns) {
            break;
        }
    }
}

static void on_slice(struct loop *loop, struct loop_task *task)
{
    struct store_line *line = CONTAINER_OF(task, struct store_line, task);
    deliver(line, clock_monotonic_ns() + SLICE_NS);
    if (line->first != NULL && line->under_way == NULL) {
        loop_task_add(loop, task);
    }
}

void store_line_add(struct store_line *line, struct store_request *request)
{
    request->next = NULL;
    *line->last = request;
    line->last = &request->next;
    if (line->under_way == NULL) {
        loop_task_add(line->control, &line->task);
    }
}

void store_line_resume(struct store_line *line)
{
    struct store_request *request = line->under_way;
    INVARIANT(request != NULL);
    line->under_way = NULL;
    if (line->first != NULL) {
        loop_task_add(line->control, &line->task);
    }
    store_request_answer(request, line->control);
}

void store_line_finish(struct store_line *line)
{
    loop_task_cancel(&line->task);
    deliver(line, UINT64_MAX);
    INVARIANT(line->first == NULL && line->under_way == NULL);
}
