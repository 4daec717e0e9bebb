// SPDX-License-Identifier: MIT
// A revision's way into the tables: all its records together.
//
//   prepare each ─► publish all (cannot fail) ─► finish each ─► tell the listeners
//
// A large one is prepared, finished and told in slices of the control loop; only to publish it is done
// in one piece. Between slices the reaper, DNS answers and everybody else see the tables as they were:
// what is prepared holds its pools and slots, and no other revision is begun meanwhile.
#include "base/clock.h"
#include "base/invariant.h"
#include "base/log.h"
#include "publish/publish_int.h"
#include <stdlib.h>

enum {
    AT_ONCE_MAX = 64,   // records that are no matter of slices
    SLICE_NS = 2000000, // after which the thread is given back
    TELL_COUNT = 64,    // records told between two looks at the clock
    REAP_MAX = 2000,    // things looked at after a change: well under 5 ms
    LOG_EVERY_MS = 1000,
};

enum applying_step { STEP_PREPARE, STEP_FINISH, STEP_TELL };

// A large revision on its way.
struct applying {
    struct loop_task task;
    struct publisher *publisher;
    uint64_t revision;
    const struct store_record *records;
    unsigned count;
    unsigned at; // the next record of the step
    enum applying_step step;
    struct change changes[];
};

static void skip(struct publisher *publisher, const struct store_record *record, int err,
                 const struct problems *problems)
{
    publisher->skipped++;
    uint64_t now_ms = clock_monotonic_ns() / NS_PER_MS;
    if (publisher->logged_ms != 0 && now_ms - publisher->logged_ms < LOG_EVERY_MS) {
        return;
    }
    publisher->logged_ms = now_ms == 0 ? 1 : now_ms;
    const struct problem *first = problems->count > 0 ? &problems->items[0] : NULL;
    struct str noun = noun_name(record->noun);
    log_warning("record skipped: %.*s %.*s: %s %s (%llu skipped in all)", STR_ARG(noun),
                STR_ARG(record->key), first != NULL ? first->pointer : "",
                first != NULL ? first->detail : err_text(err),
                (unsigned long long)publisher->skipped);
}

// A change that fails is skipped alone. What is left of it goes with all the others' rest: its empty
// slot may be that of a host which another change of this revision needs.
static void prepare(struct publisher *publisher, struct change *change,
                    const struct store_record *record, bool is_batch)
{
    struct problems problems;
    problems_init(&problems);
    *change = (struct change){.record = record, .is_batch = is_batch};
    int err = change_prepare(publisher, change, &problems);
    if (err != 0) {
        skip(publisher, record, err, &problems);
        change->is_skipped = true;
    }
    problems_fini(&problems);
}

static void publish(struct publisher *publisher, struct change *changes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (!changes[i].is_skipped) {
            change_publish(publisher, &changes[i]);
        }
    }
}

void apply_records(struct publisher *publisher, struct change *changes,
                   const struct store_record *records, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        prepare(publisher, &changes[i], &records[i], count > 1);
    }
    publish(publisher, changes, count);
    for (unsigned i = 0; i < count; i++) {
        change_finish(publisher, &changes[i]);
    }
}

static void tell(struct publisher *publisher, uint64_t revision, const struct store_record *records,
                 unsigned count, bool is_last)
{
    LIST_FOR_EACH_SAFE (node, &publisher->listeners) {
        struct publish_listener *listener = CONTAINER_OF(node, struct publish_listener, node);
        listener->on_applied(listener, revision, records, count, is_last);
    }
}

void publisher_apply(struct publisher *publisher, uint64_t revision,
                     const struct store_record *records, unsigned count)
{
    INVARIANT(publisher->applying == NULL);
    struct change one;
    struct change *changes = count <= 1 ? &one : malloc(count * sizeof *changes);
    if (changes != NULL) {
        apply_records(publisher, changes, records, count);
    }
    for (unsigned i = 0; changes == NULL && i < count; i++) {
        apply_records(publisher, &one, &records[i], 1); // not together, but live
    }
    if (changes != &one) {
        free(changes);
    }
    publisher->revision = revision;
    tell(publisher, revision, records, count, true);
    // What earlier changes left: the more changes, the more is looked at.
    reap(publisher, 16 + 2 * (count < REAP_MAX / 2 ? count : REAP_MAX / 2));
    arm_reaper(publisher, false);
}

// Works until the time is up. True: all is done.
static bool work(struct applying *applying, uint64_t until_ns)
{
    struct publisher *publisher = applying->publisher;
    for (;;) {
        unsigned left = applying->count - applying->at;
        unsigned some = left < TELL_COUNT ? left : TELL_COUNT;
        const struct store_record *records = &applying->records[applying->at];
        struct change *change = &applying->changes[applying->at];
        switch (applying->step) {
        case STEP_PREPARE:
            prepare(publisher, change, records, true);
            applying->at++;
            break;
        case STEP_FINISH:
            change_finish(publisher, change);
            applying->at++;
            break;
        case STEP_TELL:
            tell(publisher, applying->revision, records, some, some == left);
            applying->at += some;
            break;
        }
        if (applying->at == applying->count) {
            if (applying->step == STEP_TELL) {
                return true;
            }
            if (applying->step == STEP_PREPARE) {
                publish(publisher, applying->changes, applying->count);
                publisher->revision = applying->revision;
            }
            applying->at = 0;
            applying->step++;
        }
        if (clock_monotonic_ns() >= until_ns) {
            return false;
        }
    }
}

static void end(struct publisher *publisher)
{
    free(publisher->applying);
    publisher->applying = NULL;
    arm_reaper(publisher, true);
    publisher->on_live(publisher->on_live_context);
}

static void on_slice(struct loop *loop, struct loop_task *task)
{
    struct applying *applying = CONTAINER_OF(task, struct applying, task);
    if (work(applying, clock_monotonic_ns() + SLICE_NS)) {
        end(applying->publisher);
    } else {
        loop_task_add(loop, task);
    }
}

void publisher_on_live(struct publisher *publisher, void (*on_live)(void *context), void *context)
{
    publisher->on_live = on_live;
    publisher->on_live_context = context;
}

bool publisher_begin(struct publisher *publisher, uint64_t revision,
                     const struct store_record *records, unsigned count)
{
    INVARIANT(publisher->applying == NULL);
    bool is_sliced = count > AT_ONCE_MAX && publisher->on_live != NULL &&
                     publisher->control != NULL && !publisher->is_hurried;
    struct applying *applying =
        is_sliced ? malloc(sizeof *applying + count * sizeof applying->changes[0]) : NULL;
    if (applying == NULL) {
        publisher_apply(publisher, revision, records, count);
        return true;
    }
    *applying = (struct applying){
        .publisher = publisher, .revision = revision, .records = records, .count = count};
    loop_task_init(&applying->task, on_slice);
    loop_task_add(publisher->control, &applying->task);
    publisher->applying = applying;
    return false;
}

void publisher_hurry(struct publisher *publisher)
{
    publisher->is_hurried = true;
    struct applying *applying = publisher->applying;
    if (applying != NULL) {
        loop_task_cancel(&applying->task);
        INVARIANT(work(applying, UINT64_MAX));
        end(publisher);
    }
}

void publisher_listen(struct publisher *publisher, struct publish_listener *listener)
{
    list_append(&publisher->listeners, &listener->node);
}
