// SPDX-License-Identifier: MIT
// Many hosts: read, compared with what was adopted, written. All of a page at once; when that is refused in
// smaller chunks, down to the one host that is to blame, which is marked and left alone until it changes.
#include "base/log.h"
#include "ceryx/watch_int.h"
#include <stdlib.h>

static void next_chunk(struct ceryx_watch *watch);

bool work_is_idle(const struct ceryx_watch *watch)
{
    return watch->work.hosts == NULL;
}

static void free_hosts(struct watch_work *work)
{
    for (unsigned i = 0; i < work->count; i++) {
        free(work->hosts[i]);
    }
    free(work->hosts);
    rows_fini(&work->rows);
    *work = (struct watch_work){.hosts = NULL};
}

void work_end(struct ceryx_watch *watch)
{
    // What is under way finds by the number that it is not this work's any more.
    watch->work_number++;
    free_hosts(&watch->work);
}

static void done(struct ceryx_watch *watch)
{
    work_end(watch);
    watch_look(watch);
}

// The chunk has been dealt with.
static void go_on(struct ceryx_watch *watch)
{
    struct watch_work *work = &watch->work;
    rows_fini(&work->rows);
    work->at += work->chunk;
    work->limit = work->limit * 2 < work->count ? work->limit * 2 : work->count;
    work->chunk = 0;
    work->tries = 0;
    work->has_values = false;
    work->keeps_parts = false;
    next_chunk(watch);
}

static void unmark(struct ceryx_watch *watch, const char *host)
{
    const struct str argv[] = {STR("HDEL"), str_from_c(watch->mark_key), str_from_c(host)};
    watch_send(watch, 3, argv);
}

// The store does not take it.
static void on_refused(struct ceryx_watch *watch, int err, const char *detail)
{
    struct watch_work *work = &watch->work;
    if (err == ERR_UNAVAILABLE || err == ERR_MEMORY) {
        if (!str_eq(str_from_c(watch->trouble), str_from_c(detail))) {
            str_copy(watch->trouble, sizeof watch->trouble, str_from_c(detail));
            log_warning("Ceryx' hosts are not adopted now: %s", detail);
        }
        lease_give_back(watch); // which ends the work
        return;
    }
    if (work->chunk > 1) {
        work->limit = work->chunk > 10 ? work->chunk / 10 : 1;
    } else if (err == ERR_IN_USE && !work->keeps_parts) {
        work->keeps_parts = true; // the same again, without that
    } else if (err != ERR_PRECONDITION && err != ERR_NOT_FOUND) {
        const char *host = work->hosts[work->at];
        watch_refused(watch, host, detail, false);
        watch_mark(watch, host, work->rows.refused_mark);
        work->at++;
        work->keeps_parts = false;
    } else if (++work->tries > 3) {
        work->at++; // it is being changed all the time: the next pass will see
        work->tries = 0;
        work->keeps_parts = false;
    }
    rows_fini(&work->rows);
    work->chunk = 0;
    next_chunk(watch);
}

struct submitted {
    struct ceryx_watch *watch;
    uint64_t number; // of the work
    unsigned changed, deleted;
};

static const char *detail_of(const struct store_request *request)
{
    for (unsigned i = 0; i < request->count; i++) {
        if (request->changes[i].problems.count > 0) {
            return request->changes[i].problems.items[0].detail;
        }
    }
    return err_text(request->err);
}

static void on_stored(struct store_request *request)
{
    struct submitted *submitted = request->context;
    struct ceryx_watch *watch = submitted->watch;
    bool is_ours = submitted->number == watch->work_number && !watch->is_stopping;
    if (request->err == 0) { // it counts also when the work was given up meanwhile
        struct ceryx_watch_status *status = watch_lock(watch);
        status->adopted += submitted->changed;
        status->deleted += submitted->deleted;
        watch_unlock(watch);
    }
    free(submitted);
    if (is_ours && request->err == 0) {
        watch->trouble[0] = '\0';
        go_on(watch);
    } else if (is_ours) {
        on_refused(watch, request->err, detail_of(request));
    }
    store_request_free(&request);
}

static void submit(struct ceryx_watch *watch)
{
    struct submitted *submitted = calloc(1, sizeof *submitted);
    if (submitted == NULL) {
        on_refused(watch, ERR_MEMORY, err_text(ERR_MEMORY));
        return;
    }
    *submitted = (struct submitted){.watch = watch, .number = watch->work_number};
    for (unsigned i = 0; i < watch->work.rows.count; i++) {
        submitted->changed += watch->work.rows.kinds[i] == ROW_CHANGED;
        submitted->deleted += watch->work.rows.kinds[i] == ROW_DELETED;
    }
    watch->work.rows.request->on_done = on_stored;
    watch->work.rows.request->context = submitted;
    store_submit(watch->config.store, &watch->work.rows.request);
}

// What only needs a mark, or the end of one.
static bool settle_marks(struct ceryx_watch *watch)
{
    struct watch_work *work = &watch->work;
    bool is_clear = true;
    for (unsigned i = 0; i < work->rows.count; i++) {
        switch (work->rows.kinds[i]) {
        case ROW_UNMARK:
            unmark(watch, work->rows.hosts[i]);
            break;
        case ROW_UNCLEAR:
            is_clear = false;
            break;
        case ROW_REFUSED:
        case ROW_SAME:
        case ROW_ABSENT:
        case ROW_CHANGED:
        case ROW_DELETED:
            break;
        }
    }
    return is_clear;
}

static void on_read(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct submitted *read = context;
    struct ceryx_watch *watch = read->watch;
    bool is_ours = read->number == watch->work_number && !watch->is_stopping;
    free(read);
    if (!is_ours) {
        return;
    }
    struct watch_work *work = &watch->work;
    int err = examine_read(watch, reply, &work->rows);
    if (err != 0) {
        on_refused(watch, ERR_UNAVAILABLE,
                   reply != NULL && reply->type == REDIS_ERROR ? reply->text.p : err_text(err));
        return;
    }
    if (!settle_marks(watch)) {
        rows_fini(&work->rows);
        work->chunk = 0;
        work->has_values = true; // the same again
        next_chunk(watch);
    } else if (work->rows.request != NULL) {
        submit(watch);
    } else {
        go_on(watch);
    }
}

static void next_chunk(struct ceryx_watch *watch)
{
    struct watch_work *work = &watch->work;
    if (work->at >= work->count) {
        done(watch);
        return;
    }
    work->chunk = work->count - work->at < work->limit ? work->count - work->at : work->limit;
    struct submitted *read = calloc(1, sizeof *read);
    work->rows = (struct rows){.hosts = (const char *const *)work->hosts + work->at,
                               .count = work->chunk,
                               .has_values = work->has_values,
                               .keeps_parts = work->keeps_parts};
    if (read != NULL) {
        *read = (struct submitted){.watch = watch, .number = watch->work_number};
    }
    if (read == NULL ||
        !examine_send(watch, work->rows.hosts, work->chunk, work->has_values, on_read, read)) {
        free(read);
        on_refused(watch, ERR_UNAVAILABLE, "Redis is away");
    }
}

void work_begin(struct ceryx_watch *watch, char ***hosts, unsigned count)
{
    watch->work = (struct watch_work){.hosts = *hosts, .count = count, .limit = count};
    *hosts = NULL;
    next_chunk(watch);
}
