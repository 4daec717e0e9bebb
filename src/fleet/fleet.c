// SPDX-License-Identifier: MIT
// From start to end, the thread, the status, and what goes to the control loop.
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "fleet/nodes_int.h"
#include "net/outq.h"
#include "net/tls.h"
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>

// ---- small things that all modules use ----

const char *fleet_follow_name(enum fleet_follow_state state)
{
    switch (state) {
    case FLEET_AWAY:
        return "away";
    case FLEET_VERIFYING:
        return "verifying";
    case FLEET_EMPTY:
        return "empty";
    case FLEET_RESYNC:
        return "resync";
    case FLEET_FOLLOWING:
        return "following";
    }
    return "unknown";
}

void fleet_make_id(char *to, size_t digits)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t bytes[STORE_ID_LEN / 2];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) {
        // Only before the kernel has gathered any: an id must be unique, not secret.
        uint64_t now = clock_monotonic_ns();
        uint64_t words[2] = {hash_bytes(&now, sizeof now), now};
        memcpy(bytes, words, sizeof bytes);
    }
    for (size_t i = 0; i < digits && i < STORE_ID_LEN; i++) {
        to[i] = hex[(bytes[i / 2] >> (i % 2 * 4)) & 15];
    }
    to[digits] = '\0';
}

void fleet_keys_init(struct fleet_keys *keys, const char *prefix)
{
    static const char *const names[FLEET_KEY_COUNT] = {
        [FLEET_META] = "meta",       [FLEET_STREAM] = "stream", [FLEET_REFS] = "refs",
        [FLEET_SECRETS] = "secrets", [FLEET_NODES] = "nodes",   [FLEET_FENCE] = "fence",
        [FLEET_CERYX] = "ceryx",
    };
    for (unsigned i = 0; i < FLEET_KEY_COUNT; i++) {
        snprintf(keys->texts[i], sizeof keys->texts[i], "%.*s:%s", FLEET_PREFIX_MAX, prefix,
                 names[i]);
    }
    for (unsigned i = 0; i < NOUN_COUNT; i++) {
        snprintf(keys->nouns[i], sizeof keys->nouns[i], "%.*s:%.*s", FLEET_PREFIX_MAX, prefix,
                 STR_ARG(noun_plural((enum noun)i)));
    }
}

bool fleet_place_read(struct fleet_place *place, const char *mark)
{
    *place = (struct fleet_place){.revision = 0};
    unsigned long long revision = 0;
    int end = 0;
    if (sscanf(mark, "%16[0-9a-f] %llu %32[0-9a-f-] %47[0-9-]%n", place->epoch, &revision,
               place->tag, place->stream_id, &end) != 4 ||
        mark[end] != '\0' || strlen(place->epoch) != FLEET_EPOCH_LEN ||
        revision > FLEET_REVISION_MAX) {
        *place = (struct fleet_place){.revision = 0};
        return false;
    }
    place->revision = revision;
    return true;
}

void fleet_place_write(const struct fleet_place *place, char *mark, size_t size)
{
    snprintf(mark, size, "%s %llu %s %s", place->epoch, (unsigned long long)place->revision,
             place->tag[0] == '\0' ? "-" : place->tag,
             place->stream_id[0] == '\0' ? "0-0" : place->stream_id);
}

// ---- status ----

struct fleet_status *fleet_status_lock(struct fleet *fleet)
{
    pthread_mutex_lock(&fleet->mutex);
    return &fleet->status;
}

void fleet_status_unlock(struct fleet *fleet)
{
    pthread_mutex_unlock(&fleet->mutex);
}

void fleet_get_status(struct fleet *fleet, struct fleet_status *status)
{
    *status = *fleet_status_lock(fleet);
    uint64_t now = clock_monotonic_ns();
    uint64_t beat_ns = fleet->nodes == NULL ? 0 : fleet->nodes->list_ns;
    status->beat_age_ms = (now - (beat_ns == 0 ? fleet->made_ns : beat_ns)) / NS_PER_MS;
    status->away_ms = fleet->away_since_ns == 0 ? 0 : (now - fleet->away_since_ns) / NS_PER_MS;
    fleet_status_unlock(fleet);
}

bool fleet_is_ready(struct fleet *fleet)
{
    // Pairs with the release of who set it.
    return atomic_load_explicit(&fleet->is_content_there, memory_order_acquire);
}

struct loop *fleet_loop(struct fleet *fleet)
{
    return &fleet->loop;
}

struct str fleet_node_id(const struct fleet *fleet)
{
    return str_from_c(fleet->node_id);
}

void fleet_set_state(struct fleet *fleet, enum fleet_follow_state state, const char *detail)
{
    bool is_other = fleet->state != state;
    fleet->state = state;
    struct fleet_status *status = fleet_status_lock(fleet);
    status->state = state;
    if (state == FLEET_FOLLOWING) {
        fleet->away_since_ns = 0;
    } else if (fleet->away_since_ns == 0) {
        fleet->away_since_ns = clock_monotonic_ns();
    }
    // A node that never came to Redis says why, too.
    bool is_news = is_other || (detail != NULL && detail[0] != '\0' &&
                                strncmp(fleet->said, detail, sizeof fleet->said - 1) != 0);
    str_copy(fleet->said, sizeof fleet->said, str_from_c(detail));
    if (detail != NULL) {
        str_copy(status->detail, sizeof status->detail, str_from_c(detail));
    }
    fleet_status_unlock(fleet);
    if (is_news) {
        log_info("%s: %s%s%s", fleet->config.url->shown, fleet_follow_name(state),
                 detail == NULL || detail[0] == '\0' ? "" : ": ", detail == NULL ? "" : detail);
    }
    if (is_other) {
        write_follow_changed(fleet);
    }
}

// ---- to the control loop ----

struct told {
    struct loop_message message;
    struct fleet *fleet;
    bool is_state;
    bool is_writable;
    struct fleet_event event;
    char texts[]; // of the event, one after the other; of a state its detail
};

static void on_told(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct told *told = CONTAINER_OF(message, struct told, message);
    const struct fleet_config *config = &told->fleet->config;
    if (told->is_state) {
        config->on_state(config->context, told->is_writable, told->texts);
    } else {
        config->on_event(config->context, &told->event);
    }
    free(told);
}

static const char *move_in(char **to, const char *text)
{
    const char *start = *to;
    size_t len = text == NULL ? 0 : strlen(text);
    memcpy(*to, text == NULL ? "" : text, len);
    (*to)[len] = '\0';
    *to += len + 1;
    return start;
}

static size_t len_of(const char *text)
{
    return text == NULL ? 1 : strlen(text) + 1;
}

void fleet_tell(struct fleet *fleet, const struct fleet_event *event)
{
    struct told *told =
        malloc(sizeof *told + len_of(event->type) + len_of(event->state) + len_of(event->detail) +
               len_of(event->id) + len_of(event->outcome) + len_of(event->node));
    if (told == NULL || fleet->control == NULL) {
        log_error("an event of the fleet is lost: %s", event->state);
        free(told);
        return;
    }
    *told = (struct told){.message.run = on_told, .fleet = fleet, .event = *event};
    char *at = told->texts;
    told->event.type = move_in(&at, event->type);
    told->event.state = move_in(&at, event->state);
    told->event.detail = move_in(&at, event->detail);
    told->event.id = move_in(&at, event->id);
    told->event.outcome = move_in(&at, event->outcome);
    told->event.node = move_in(&at, event->node);
    loop_post(fleet->control, &told->message);
}

void fleet_tell_writable(struct fleet *fleet, bool is_writable, const char *detail)
{
    struct fleet_status *status = fleet_status_lock(fleet);
    bool is_other = status->is_writable != is_writable;
    status->is_writable = is_writable;
    if (is_other || !is_writable) {
        str_copy(status->detail, sizeof status->detail, str_from_c(is_writable ? "" : detail));
    }
    fleet_status_unlock(fleet);
    if (!is_other || fleet->control == NULL) {
        return;
    }
    struct told *told = malloc(sizeof *told + len_of(detail));
    if (told == NULL) {
        log_error("the state of the fleet's store is not told: out of memory");
        return;
    }
    *told = (struct told){
        .message.run = on_told, .fleet = fleet, .is_state = true, .is_writable = is_writable};
    char *at = told->texts;
    (void)move_in(&at, detail);
    loop_post(fleet->control, &told->message);
}

// ---- the front ----

static void on_request(struct loop *loop, struct loop_message *message)
{
    struct store_request *request = CONTAINER_OF(message, struct store_request, message);
    write_take(loop->owner, request);
}

static void refuse(struct store_request *request)
{
    store_request_fail(request, ERR_UNAVAILABLE, "the node is stopping");
    store_answer(&request);
}

static void submit(void *context, struct store_request *request)
{
    struct fleet *fleet = context;
    if (atomic_load_explicit(&fleet->is_stopping, memory_order_acquire)) {
        refuse(request);
        return;
    }
    request->message.run = on_request;
    loop_post(&fleet->loop, &request->message);
}

// ---- from start to end ----

int fleet_new(struct fleet **out, const struct fleet_config *config, struct problems *problems)
{
    struct fleet *fleet = calloc(1, sizeof *fleet);
    *out = fleet;
    if (fleet == NULL) {
        return problems_add(problems, ERR_MEMORY, "store.url", "out of memory");
    }
    fleet->config = *config;
    fleet->made_ns = clock_monotonic_ns();
    fleet->away_since_ns = fleet->made_ns;
    pthread_mutex_init(&fleet->mutex, NULL);
    fleet->loop.epoll_fd = -1;
    fleet->loop.wake_fd = -1;
    fleet_keys_init(&fleet->keys, config->prefix);
    str_copy(fleet->node_id, sizeof fleet->node_id, store_node_id(config->store));
    str_copy(fleet->status.url, sizeof fleet->status.url, str_from_c(config->url->shown));
    atomic_init(&fleet->is_content_there,
                fleet_place_read(&fleet->place, store_mark(config->store)));
    fleet->status.revision = fleet->place.revision;
    str_copy(fleet->status.epoch, sizeof fleet->status.epoch, str_from_c(fleet->place.epoch));
    int err = loop_init(&fleet->loop);
    if (err == 0) {
        fleet->loop.owner = fleet;
        err = outq_pool_init(&fleet->loop);
    }
    if (err == 0) {
        err = tls_loop_init(&fleet->loop);
    }
    if (err != 0) {
        return problems_add(problems, err, "store.url", "%s", err_text(err));
    }
    err = write_new(fleet, problems);
    if (err == 0) {
        err = follow_new(fleet, problems);
    }
    if (err == 0) {
        err = nodes_new(fleet, problems);
    }
    if (err == 0) {
        err = waits_new(fleet);
    }
    if (err == 0) {
        const struct store_front front = {.submit = submit, .context = fleet};
        store_set_front(config->store, &front);
    }
    return err == 0 || problems->count > 0
               ? err
               : problems_add(problems, err, "store.url", "%s", err_text(err));
}

static void *fleet_main(void *argument)
{
    struct fleet *fleet = argument;
    write_start(fleet);
    follow_start(fleet);
    nodes_start(fleet);
    loop_run(&fleet->loop);
    return NULL;
}

// Marks a new file as a replica before the first declaration is in it: one that holds declarations without a mark
// was a store of its own, which is never overwritten.
static int mark_replica(struct fleet *fleet)
{
    struct store_request *request = NULL;
    if (store_mark(fleet->config.store)[0] == '\0') {
        request = store_request_new(0);
        if (request == NULL) {
            return ERR_MEMORY;
        }
        request->way = STORE_REPLAY;
        str_copy(request->mark, sizeof request->mark, STR("new"));
        request->loop = fleet->control;
        store_submit(fleet->config.store, &request);
    }
    return 0;
}

int fleet_start(struct fleet *fleet, struct loop *control)
{
    fleet->control = control;
    int err = mark_replica(fleet);
    if (err != 0) {
        return err;
    }
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    fleet->has_thread = pthread_create(&fleet->thread, NULL, fleet_main, fleet) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!fleet->has_thread) {
        return ERR_SYSTEM;
    }
    pthread_setname_np(fleet->thread, "fleet");
    return 0;
}

void fleet_stop(struct fleet *fleet)
{
    if (fleet == NULL) {
        return;
    }
    atomic_store_explicit(&fleet->is_stopping, true, memory_order_release);
    if (fleet->has_thread) {
        loop_stop(&fleet->loop);
        pthread_join(fleet->thread, NULL);
        fleet->has_thread = false;
    }
    follow_stop(fleet);
    nodes_stop(fleet); // its loop turns once more, for the own entry to be taken away
    waits_stop(fleet);
    loop_empty_mailbox(&fleet->loop); // requests that came before is_stopping was seen
    write_stop(fleet);
}

void fleet_free(struct fleet **fleet)
{
    struct fleet *f = *fleet;
    if (f == NULL) {
        return;
    }
    *fleet = NULL;
    if (f->loop.epoll_fd >= 0) {
        loop_empty_mailbox(&f->loop);
    }
    waits_free(f);
    nodes_free(f);
    follow_free(f);
    write_free(f);
    if (f->loop.epoll_fd >= 0) {
        loop_run_deferred(&f->loop);
        tls_loop_fini(&f->loop);
        outq_pool_fini(&f->loop);
        loop_fini(&f->loop);
    }
    pthread_mutex_destroy(&f->mutex);
    free(f);
}
