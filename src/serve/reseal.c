// SPDX-License-Identifier: MIT
#include "serve/reseal.h"
#include "base/log.h"
#include <stdlib.h>
#include <string.h>

enum {
    STEP_RECORDS = 16, // looked at in one turn of the loop
    RETRY_MS = 5000,   // when the store cannot be written
    SECRET_MAX =
        256 * 1024, // of a certificate: chain and key, at most 64 KiB each, as JSON in base64
};

static const enum noun nouns[] = {NOUN_CERTIFICATE, NOUN_TICKETS};
enum { NOUN_COUNT_HERE = sizeof nouns / sizeof nouns[0] };

struct reseal {
    struct loop *control;
    struct store *store;
    const struct seal *seal;
    struct loop_task task;
    struct loop_timer timer; // for another attempt
    unsigned noun;           // index into nouns[]
    struct buf last;         // key of the record looked at last; empty: none yet
    struct buf keys[STEP_RECORDS];
    unsigned key_count;
    unsigned key_at;
    uint64_t done;
    uint64_t unreadable;
};

static bool on_record(void *context, const struct store_record *record)
{
    struct reseal *reseal = context;
    struct buf *key = &reseal->keys[reseal->key_count];
    buf_clear(key);
    buf_put(key, record->key);
    reseal->key_count++;
    return reseal->key_count < STEP_RECORDS;
}

static void wipe(struct buf *buf)
{
    if (buf->p != NULL) {
        explicit_bzero(buf->p, buf->size);
    }
    buf_fini(buf);
}

// The secret of a record under the newest key: malloc. NULL with *err.
static char *seal_anew(const struct reseal *reseal, const struct store_record *record, int *err)
{
    struct buf plain;
    struct buf sealed;
    struct buf context;
    buf_init(&plain, SECRET_MAX);
    buf_init(&sealed, SECRET_MAX);
    buf_init(&context, 0);
    buf_printf(&context, "%.*s/%.*s", STR_ARG(noun_plural(record->noun)), STR_ARG(record->key));
    // Not moved while it grows: what is left behind would not be wiped.
    *err = buf_reserve(&plain, record->secret.len) == NULL || context.failed ? ERR_MEMORY : 0;
    if (*err == 0) {
        *err = seal_open(reseal->seal, buf_str(&context), record->secret, &plain);
    }
    if (*err == 0) {
        *err = seal_close(reseal->seal, buf_str(&context), buf_str(&plain), &sealed);
    }
    char *text = *err == 0 ? str_dup(buf_str(&sealed)) : NULL;
    if (*err == 0 && text == NULL) {
        *err = ERR_MEMORY;
    }
    wipe(&plain);
    buf_fini(&sealed);
    buf_fini(&context);
    return text;
}

static void on_done(struct store_request *request)
{
    struct reseal *reseal = request->context;
    int err = request->err;
    store_request_free(&request);
    if (err == 0) {
        reseal->done++;
    } else if (err == ERR_UNAVAILABLE) {
        // The store cannot be written now: this key again, later.
        reseal->key_at -= reseal->key_at > 0;
        loop_timer_set(reseal->control, &reseal->timer, RETRY_MS);
        return;
    } else if (err != ERR_PRECONDITION && err != ERR_NOT_FOUND) { // somebody has written it since
        log_warning("secrets are not all sealed anew, the next start goes on: %s", err_text(err));
        return;
    }
    loop_task_add(reseal->control, &reseal->task);
}

// 1: submitted; 0: nothing to do for this record; negative: an err.
static int look_at(struct reseal *reseal, struct str key)
{
    struct store_record record;
    int err = store_get_secret(reseal->store, nouns[reseal->noun], key, &record);
    if (err == ERR_NOT_FOUND) {
        return 0;
    }
    if (err != 0) {
        return err;
    }
    if (record.secret.len == 0 || seal_is_current(reseal->seal, record.secret)) {
        return 0;
    }
    char *secret = seal_anew(reseal, &record, &err);
    if (secret == NULL) {
        if (err != ERR_MEMORY) {
            reseal->unreadable++;
            log_error("%.*s/%.*s: its secret cannot be opened: %s",
                      STR_ARG(noun_plural(record.noun)), STR_ARG(key), err_text(err));
            return 0;
        }
        return err;
    }
    struct store_request *request = store_request_new(1);
    if (request == NULL) {
        free(secret);
        return ERR_MEMORY;
    }
    struct store_change *change = &request->changes[0];
    change->noun = record.noun;
    change->key = str_dup(key);
    change->secret = secret;
    change->reseal = true;
    change->if_match = record.revision;
    request->loop = reseal->control;
    request->on_done = on_done;
    request->context = reseal;
    if (change->key == NULL) {
        store_request_free(&request);
        return ERR_MEMORY;
    }
    store_submit(reseal->store, &request);
    return 1;
}

static void tell(const struct reseal *reseal)
{
    if (reseal->done > 0 || reseal->unreadable > 0) {
        log_info("%llu secrets were sealed anew with the first key of store.encryption_key_file, "
                 "%llu could not be opened",
                 (unsigned long long)reseal->done, (unsigned long long)reseal->unreadable);
    }
}

// The next few records. False: there are none left.
static bool list_more(struct reseal *reseal, int *err)
{
    reseal->key_at = 0;
    reseal->key_count = 0;
    *err = store_list(reseal->store, nouns[reseal->noun], buf_str(&reseal->last), STR_NULL,
                      STEP_RECORDS, on_record, reseal);
    for (unsigned i = 0; i < reseal->key_count && *err == 0; i++) {
        *err = reseal->keys[i].failed ? ERR_MEMORY : 0;
    }
    if (*err == 0 && reseal->key_count == 0) {
        buf_clear(&reseal->last);
        reseal->noun++;
    }
    return *err == 0 && reseal->noun < NOUN_COUNT_HERE;
}

static void run(struct loop *loop, struct loop_task *task)
{
    struct reseal *reseal = CONTAINER_OF(task, struct reseal, task);
    int result = 0;
    if (reseal->key_at == reseal->key_count && !list_more(reseal, &result)) {
        if (result == 0) {
            tell(reseal);
            return;
        }
    }
    while (result == 0 && reseal->key_at < reseal->key_count) {
        struct str key = buf_str(&reseal->keys[reseal->key_at++]);
        buf_clear(&reseal->last);
        buf_put(&reseal->last, key);
        result = reseal->last.failed ? ERR_MEMORY : look_at(reseal, key);
    }
    if (result < 0) {
        log_warning("secrets are not all sealed anew, the next start goes on: %s",
                    err_text(result));
    } else if (result == 0) {
        loop_task_add(loop, task);
    }
}

static void on_retry(struct loop *loop, struct loop_timer *timer)
{
    loop_task_add(loop, &CONTAINER_OF(timer, struct reseal, timer)->task);
}

int reseal_start(struct reseal **out, struct loop *control, struct store *store,
                 const struct seal *seal)
{
    *out = NULL;
    if (!seal_has_key(seal)) {
        return 0;
    }
    struct reseal *reseal = calloc(1, sizeof *reseal);
    if (reseal == NULL) {
        return ERR_MEMORY;
    }
    reseal->control = control;
    reseal->store = store;
    reseal->seal = seal;
    buf_init(&reseal->last, 0);
    for (unsigned i = 0; i < STEP_RECORDS; i++) {
        buf_init(&reseal->keys[i], 0);
    }
    loop_timer_init(&reseal->timer, on_retry);
    loop_task_init(&reseal->task, run);
    loop_task_add(control, &reseal->task);
    *out = reseal;
    return 0;
}

void reseal_free(struct reseal **place)
{
    struct reseal *reseal = *place;
    *place = NULL;
    if (reseal == NULL) {
        return;
    }
    loop_task_cancel(&reseal->task);
    loop_timer_cancel(reseal->control, &reseal->timer);
    buf_fini(&reseal->last);
    for (unsigned i = 0; i < STEP_RECORDS; i++) {
        buf_fini(&reseal->keys[i]);
    }
    free(reseal);
}
