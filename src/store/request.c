// SPDX-License-Identifier: MIT
// How a request travels back: one message, which first feeds the tables and then answers.
//
//     store thread ── request->message ──► control: line ─► on_change(records), then on_done(request)
//
// The records are views into the request, which lives until its on_done: nothing is copied.
#include "base/invariant.h"
#include "store/store_int.h"

struct state_message {
    struct loop_message message;
    struct store_feed feed;
    bool is_writable;
    char detail[STORE_DETAIL_LEN];
};

struct store_request *store_request_new(unsigned count)
{
    struct store_request *request = calloc(1, sizeof *request);
    if (request == NULL) {
        return NULL;
    }
    request->changes = calloc(count == 0 ? 1 : count, sizeof *request->changes);
    if (request->changes == NULL) {
        free(request);
        return NULL;
    }
    request->count = count;
    for (unsigned i = 0; i < count; i++) {
        problems_init(&request->changes[i].problems);
    }
    return request;
}

void store_change_fini(struct store_change *change)
{
    for (unsigned i = 0; i < change->reference_count; i++) {
        free(change->references[i].key);
        free(change->references[i].pointer);
    }
    free(change->references);
    free(change->key);
    free(change->value);
    if (change->secret != NULL) {
        explicit_bzero(change->secret, strlen(change->secret));
    }
    free(change->secret);
    problems_fini(&change->problems);
    *change = (struct store_change){.noun = change->noun};
}

static void free_extra(struct store_extra *extra)
{
    for (unsigned i = 0; i < extra->argc; i++) {
        free(extra->argv[i]);
    }
    free(extra->argv);
    free(extra->expected);
    free(extra);
}

void store_request_free(struct store_request **request)
{
    struct store_request *r = *request;
    if (r == NULL) {
        return;
    }
    *request = NULL;
    for (unsigned i = 0; i < r->count; i++) {
        store_change_fini(&r->changes[i]);
    }
    while (r->extras != NULL) {
        struct store_extra *extra = r->extras;
        r->extras = extra->next;
        free_extra(extra);
    }
    free(r->changes);
    free(r->batch);
    free(r);
}

void store_request_fail(struct store_request *request, int err, const char *detail)
{
    request->err = err;
    for (unsigned i = 0; i < request->count; i++) {
        struct store_change *change = &request->changes[i];
        problems_fini(&change->problems); // what was found before says nothing any more
        problems_init(&change->problems);
        change->err = err;
        change->was_new = false;
        change->was_same = false;
        change->revision = request->way == STORE_WRITE ? 0 : change->revision;
    }
    if (request->count > 0) {
        (void)problems_add(&request->changes[0].problems, err, "", "%s", detail);
    }
    free(request->batch);
    request->batch = NULL;
}

struct store_batch *store_batch_new(const struct store *store, const struct store_request *request,
                                    uint64_t revision)
{
    unsigned count = 0;
    for (unsigned i = 0; i < request->count; i++) {
        count += request->changes[i].is_fed;
    }
    struct store_batch *batch = malloc(sizeof *batch + count * sizeof batch->records[0]);
    if (batch == NULL) {
        return NULL;
    }
    batch->feed = store->feed;
    batch->revision = revision;
    batch->count = 0;
    for (unsigned i = 0; i < request->count; i++) {
        const struct store_change *change = &request->changes[i];
        if (change->is_fed) {
            batch->records[batch->count++] = (struct store_record){
                .noun = change->noun,
                .key = str_from_c(change->key),
                .value = str_from_c(change->value),
                .secret = str_from_c(change->secret),
                .revision = change->revision,
                .is_part = request->way == STORE_FORCE,
            };
        }
    }
    return batch;
}

bool store_request_feed(struct store_request *request)
{
    const struct store_batch *batch = request->batch;
    return batch == NULL || batch->feed.on_change(batch->feed.context, batch->revision,
                                                  batch->records, batch->count);
}

// ---- what failed ----

void store_doom_one(struct store *store, struct store_request *request)
{
    request->failed_in = store;
    store->failing++;
}

void store_doom(struct store *store, struct store_request *first, bool all_failed)
{
    pthread_mutex_lock(&store->mutex);
    for (struct store_request *r = first; r != NULL; r = r->next) {
        if (r->way != STORE_WRITE && (all_failed || r->err != 0)) {
            store_doom_one(store, r);
        }
    }
    for (struct store_request *r = store->first; r != NULL && store->failing > 0; r = r->next) {
        r->is_doomed = r->way != STORE_WRITE;
    }
    pthread_mutex_unlock(&store->mutex);
}

static void forgive(struct store_request *request)
{
    struct store *store = request->failed_in;
    request->failed_in = NULL;
    pthread_mutex_lock(&store->mutex);
    store->failing--;
    pthread_mutex_unlock(&store->mutex);
}

// ---- answers ----

static void on_answer(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct store_request *request = CONTAINER_OF(message, struct store_request, message);
    if (request->failed_in != NULL) {
        forgive(request);
    }
    if (request->on_done == NULL) {
        store_request_free(&request);
        return;
    }
    request->on_done(request);
}

void store_request_answer(struct store_request *request, struct loop *control)
{
    free(request->batch);
    request->batch = NULL;
    if (request->loop == NULL || request->loop == control) {
        on_answer(control, &request->message);
        return;
    }
    // Only now: the answer must not overtake the feed.
    request->message.run = on_answer;
    loop_post(request->loop, &request->message);
}

void store_answer(struct store_request **request)
{
    struct store_request *r = *request;
    *request = NULL;
    r->message.run = on_answer;
    loop_post(r->loop, &r->message);
}

static void on_deliver(struct loop *loop, struct loop_message *message)
{
    struct store_request *request = CONTAINER_OF(message, struct store_request, message);
    if (request->line != NULL) {
        store_line_add(request->line, request);
        return;
    }
    INVARIANT(store_request_feed(request)); // without a line there is nothing to wait in
    store_request_answer(request, loop);
}

void store_request_deliver(struct store *store, struct store_request *request)
{
    request->next = NULL;
    request->line = store->feed.line;
    request->message.run = on_deliver;
    loop_post(store->control, &request->message);
}

static void on_state_message(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct state_message *state = CONTAINER_OF(message, struct state_message, message);
    state->feed.on_state(state->feed.context, state->is_writable, str_from_c(state->detail));
    free(state);
}

bool store_state_deliver(struct store *store, bool is_writable, const char *detail)
{
    struct state_message *state = malloc(sizeof *state);
    if (state == NULL) {
        return false;
    }
    state->message.run = on_state_message;
    state->feed = store->feed;
    state->is_writable = is_writable;
    str_copy(state->detail, sizeof state->detail, str_from_c(detail));
    loop_post(store->control, &state->message);
    return true;
}
