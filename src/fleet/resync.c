// SPDX-License-Identifier: MIT
// All that Redis has against all that the replica has; the difference goes into the replica.
//
//   verify.lua (the place of the start) ─► for each noun, routes last: XREAD + HSCAN, page by page
//     ─► for each noun, routes first: what no page had, asked for once more, deleted ─► verify.lua ─► the mark
//
// What is written meanwhile comes by XREAD, which is asked before each page: what a page says is never older than
// what was read before it, and what is read after it is newer.
#include "base/log.h"
#include "fleet/follow_int.h"
#include <stdlib.h>

enum phase { PHASE_START, PHASE_SCAN, PHASE_DELETE, PHASE_END };

// What others refer to comes first.
static const enum noun order[] = {NOUN_CERTIFICATE, NOUN_POOL,    NOUN_TENANT,
                                  NOUN_KEY,         NOUN_TICKETS, NOUN_ROUTE};
enum { ORDER_COUNT = sizeof order / sizeof order[0] };

struct resync {
    struct follow *follow;
    enum phase phase;
    unsigned at; // in `order`
    char cursor[24];
    unsigned page; // records of the next one
    struct store_reader *reader;
    struct compare compares[NOUN_COUNT];
    struct fleet_place place;      // of the start, then as far as the stream was read
    struct store_request *secrets; // a page that waits for its secrets
    char **extras;                 // keys that no page had; the first `extra_at` are done
    unsigned extra_count;
    unsigned extra_size;
    unsigned extra_at;
    unsigned extra_asked;
    bool has_more_extras;
    bool is_extra_known; // of this noun
    bool is_waiting;     // for verify, a page, secrets, or whether extras are there
    bool is_reading;
    bool is_broken; // begins again as soon as nothing is asked
    unsigned tries;
    uint64_t retry_ms; // loop time
    uint64_t began_ms;
    uint64_t highest; // revision of a record
    uint64_t changed, deleted;
    bool has_skipped;
    char why[FOLLOW_WHY_MAX];
};

static void drop_extras(struct resync *resync)
{
    for (unsigned i = 0; i < resync->extra_count; i++) {
        free(resync->extras[i]);
    }
    resync->extra_count = 0;
    resync->extra_at = 0;
}

void resync_free(struct resync **resync)
{
    struct resync *r = *resync;
    if (r == NULL) {
        return;
    }
    *resync = NULL;
    store_reader_close(&r->reader);
    for (unsigned i = 0; i < NOUN_COUNT; i++) {
        compare_fini(&r->compares[i]);
    }
    store_request_free(&r->secrets);
    drop_extras(r);
    free(r->extras);
    free(r);
}

static void fail(struct resync *resync, const char *why)
{
    struct follow *follow = resync->follow;
    resync_free(&follow->resync);
    follow_on_resync_failed(follow, why);
}

static void fail_by_reply(struct resync *resync, const struct redis_reply *reply)
{
    char why[FOLLOW_WHY_MAX];
    snprintf(why, sizeof why, "%.*s", (int)(reply->text.len > 200 ? 200 : reply->text.len),
             reply->text.p == NULL ? "an answer that cannot be read" : reply->text.p);
    fail(resync, why);
}

// The resync of the moment, whose question this answers; NULL: none, or the connection is lost.
static struct resync *answered(struct follow *follow, const struct redis_reply *reply)
{
    if (reply == NULL || follow->resync == NULL) {
        return NULL;
    }
    follow->resync->is_waiting = false;
    return follow->resync;
}

static enum noun noun_of(const struct resync *resync)
{
    return order[resync->at];
}

// Those of a node without a key are its own.
static bool is_ours(const struct resync *resync, enum noun noun)
{
    return noun != NOUN_TICKETS || seal_has_key(resync->follow->fleet->config.seal);
}

static bool has_secrets(enum noun noun)
{
    return noun != NOUN_ROUTE && noun != NOUN_POOL;
}

static struct store_request *new_request(const struct resync *resync, unsigned count)
{
    struct store_request *request = store_request_new(count);
    if (request != NULL) {
        request->count = 0; // as many as are used
        request->way = STORE_FORCE;
        request->revision = resync->place.revision;
    }
    return request;
}

// Takes *request. False: out of memory, and the resync has failed.
static bool submit(struct resync *resync, struct store_request **request)
{
    if ((*request)->count == 0) {
        store_request_free(request);
        return true;
    }
    (*request)->revision = resync->place.revision;
    if (replay_add(&resync->follow->line, request, NULL) == NULL) {
        store_request_free(request);
        fail(resync, "out of memory");
        return false;
    }
    replay_send(&resync->follow->line);
    return true;
}

// ---- the stream meanwhile ----

static void on_stream(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct follow *follow = context;
    struct resync *resync = follow->resync;
    if (reply == NULL || resync == NULL) {
        return;
    }
    resync->is_reading = false;
    if (reply->type == REDIS_ERROR) {
        fail_by_reply(resync, reply);
        return;
    }
    char why[FOLLOW_WHY_MAX];
    enum taken taken = follow_take(follow, reply, &resync->place, false, why, sizeof why);
    if (taken == TAKEN_MEMORY) {
        fail(resync, "out of memory");
    } else if (taken != TAKEN_ALL) {
        resync->is_broken = true;
        str_copy(resync->why, sizeof resync->why, str_from_c(why));
    }
    if (follow->resync != NULL) {
        resync_go_on(follow->resync);
    }
}

static void read_stream(struct resync *resync)
{
    if (!resync->is_reading) {
        resync->is_reading = follow_call_read(resync->follow, &resync->place, 0, on_stream);
    }
}

// ---- a page ----

static void skip(struct resync *resync, enum noun noun, struct str key, const char *why)
{
    char what[FOLLOW_WHY_MAX];
    snprintf(what, sizeof what, "record %.*s \"%.*s\": %.150s", STR_ARG(noun_name(noun)),
             (int)(key.len > 60 ? 60 : key.len), key.p == NULL ? "" : key.p, why);
    const struct fleet_entry none = {.revision = 0};
    resync->has_skipped = true;
    follow_skip(resync->follow, &none, what);
}

// One record of Redis: into the request if it is another here. 0 or ERR_MEMORY.
static int take_record(struct resync *resync, enum noun noun, struct str key, struct str text,
                       struct store_request *request)
{
    struct compare *compare = &resync->compares[noun];
    uint64_t revision = 0;
    struct str value;
    if (fleet_record_read(text, &revision, NULL, &value) != 0 ||
        (revision > resync->place.revision && revision > FLEET_REVISION_CREDIBLE)) {
        skip(resync, noun, key, "it cannot be read");
        return compare_keep(compare, key); // what was good stays
    }
    bool is_other = false;
    int err = compare_see(compare, key, revision, value, &is_other);
    if (err != 0 || !is_other) {
        return err;
    }
    char why[FOLLOW_WHY_MAX];
    struct store_change *change = &request->changes[request->count];
    err = declare_fill(change, noun, key, &value, revision, why, sizeof why);
    if (err == 0) {
        resync->highest = resync->highest < revision ? revision : resync->highest;
        resync->changed++;
        request->count++;
        return 0;
    }
    store_change_fini(change);
    if (err == ERR_INVALID) {
        skip(resync, noun, key, why);
        return 0;
    }
    return err;
}

static void on_secrets(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct resync *resync = answered(context, reply);
    if (resync == NULL) {
        return;
    }
    struct store_request *request = resync->secrets;
    if (reply->type != REDIS_ARRAY || reply->count != request->count) {
        fail_by_reply(resync, reply);
        return;
    }
    for (unsigned i = 0; i < request->count; i++) {
        const struct redis_reply *item = redis_reply_item(reply, i);
        if (item->type != REDIS_STRING) {
            continue;
        }
        request->changes[i].secret = str_dup(item->text);
        if (request->changes[i].secret == NULL) {
            fail(resync, "out of memory");
            return;
        }
    }
    if (submit(resync, &resync->secrets)) {
        resync_go_on(resync);
    }
}

// "certificate:NAME" of all changes. False: the connection is gone, or memory is out.
static bool ask_secrets(struct resync *resync)
{
    const struct store_request *request = resync->secrets;
    struct str *argv = calloc(request->count + 2, sizeof *argv);
    struct buf fields;
    buf_init(&fields, 0);
    if (argv == NULL) {
        return false;
    }
    for (unsigned i = 0; i < request->count; i++) {
        buf_printf(&fields, "%s:%s", noun_name(request->changes[i].noun).p,
                   request->changes[i].key);
        buf_put_char(&fields, '\0');
    }
    bool is_sent = !fields.failed;
    argv[0] = STR("HMGET");
    argv[1] = str_from_c(resync->follow->fleet->keys.texts[FLEET_SECRETS]);
    const char *at = fields.p;
    for (unsigned i = 0; i < request->count && is_sent; i++) {
        argv[i + 2] = str_from_c(at);
        at += argv[i + 2].len + 1;
    }
    is_sent = is_sent && redis_command(resync->follow->redis, request->count + 2, argv, on_secrets,
                                       resync->follow);
    buf_fini(&fields);
    free(argv);
    return is_sent;
}

static void on_page(void *context, struct redis *redis, const struct redis_reply *reply);

static void ask_page(struct resync *resync)
{
    read_stream(resync);
    char count[16];
    snprintf(count, sizeof count, "%u", resync->page);
    const struct str argv[] = {
        STR("HSCAN"),
        str_from_c(resync->follow->fleet->keys.nouns[noun_of(resync)]),
        str_from_c(resync->cursor),
        STR("COUNT"),
        str_from_c(count),
    };
    resync->is_waiting = redis_command(resync->follow->redis, 5, argv, on_page, resync->follow);
}

// A record may have a megabyte: a page of them is kept to what memory is meant for.
static void size_page(struct resync *resync, const struct redis_reply *pairs)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < pairs->count; i++) {
        bytes += redis_reply_item(pairs, i)->text.len;
    }
    if (bytes > RESYNC_PAGE_BYTES) {
        resync->page = resync->page < 8 ? 1 : resync->page / 8;
    } else if (bytes < RESYNC_PAGE_BYTES / 4) {
        resync->page = resync->page * 2 > RESYNC_PAGE ? RESYNC_PAGE : resync->page * 2;
    }
}

// NULL: it has failed.
static struct store_request *compare_page(struct resync *resync, enum noun noun,
                                          const struct redis_reply *pairs)
{
    struct store_request *request = new_request(resync, pairs->count / 2);
    int err = request == NULL ? ERR_MEMORY : 0;
    for (unsigned i = 0; i + 1 < pairs->count && err == 0; i += 2) {
        err = take_record(resync, noun, redis_reply_item(pairs, i)->text,
                          redis_reply_item(pairs, i + 1)->text, request);
    }
    if (err != 0) {
        store_request_free(&request);
        fail(resync, "out of memory");
    }
    return request;
}

static void next_noun(struct resync *resync)
{
    str_copy(resync->cursor, sizeof resync->cursor, STR("0"));
    resync->at++;
    while (resync->at < ORDER_COUNT && !is_ours(resync, noun_of(resync))) {
        resync->at++;
    }
    if (resync->at == ORDER_COUNT) {
        resync->phase = PHASE_DELETE;
        resync->at = ORDER_COUNT - 1; // routes first
        resync->is_extra_known = false;
        return;
    }
    enum noun noun = noun_of(resync);
    int err = compare_load(&resync->compares[noun], resync->reader, noun);
    if (err != 0) {
        fail(resync, err_text(err));
    }
}

static void on_page(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct follow *follow = context;
    struct resync *resync = answered(follow, reply);
    if (resync == NULL) {
        return;
    }
    const struct redis_reply *pairs = redis_reply_item(reply, 1);
    if (reply->type != REDIS_ARRAY || pairs->type != REDIS_ARRAY) {
        fail_by_reply(resync, reply);
        return;
    }
    enum noun noun = noun_of(resync);
    str_copy(resync->cursor, sizeof resync->cursor, redis_reply_item(reply, 0)->text);
    bool is_last = strcmp(resync->cursor, "0") == 0;
    size_page(resync, pairs);
    // Asked for before this one is compared. With secrets not: they must not come behind a later XREAD.
    if (!is_last && !has_secrets(noun) && !resync->is_broken && replay_has_room(&follow->line)) {
        ask_page(resync);
    }
    struct store_request *request = compare_page(resync, noun, pairs);
    if (request == NULL) {
        return;
    }
    if (is_last) {
        resync->page = RESYNC_PAGE_FIRST;
        next_noun(resync);
        if (follow->resync == NULL) {
            store_request_free(&request);
            return;
        }
    }
    if (has_secrets(noun) && request->count > 0) {
        resync->secrets = request;
        resync->is_waiting = ask_secrets(resync);
        if (!resync->is_waiting) {
            fail(resync, "the secrets could not be asked for");
        }
        return;
    }
    if (submit(resync, &request)) {
        resync_go_on(resync);
    }
}

// ---- what is not there any more ----

struct listing {
    struct resync *resync;
    const struct compare *compare;
    bool is_out_of_memory;
};

// False: out of memory.
static bool add_extra(struct resync *resync, struct str key)
{
    if (resync->extra_count == resync->extra_size) {
        unsigned size = resync->extra_size == 0 ? 256 : resync->extra_size * 2;
        char **extras = realloc(resync->extras, size * sizeof *extras);
        if (extras == NULL) {
            return false;
        }
        resync->extras = extras;
        resync->extra_size = size;
    }
    char *copy = str_dup(key);
    if (copy != NULL) {
        resync->extras[resync->extra_count++] = copy;
    }
    return copy != NULL;
}

static bool on_listed(void *context, const struct store_record *record)
{
    struct listing *listing = context;
    if (compare_is_seen(listing->compare, record->key)) {
        return true;
    }
    if (listing->resync->extra_count == RESYNC_EXTRA_MAX) {
        listing->resync->has_more_extras = true;
        return false;
    }
    listing->is_out_of_memory = !add_extra(listing->resync, record->key);
    return !listing->is_out_of_memory;
}

// All keys of the noun that no page had. False: it has failed.
static bool find_extras(struct resync *resync)
{
    enum noun noun = noun_of(resync);
    struct listing listing = {.resync = resync, .compare = &resync->compares[noun]};
    drop_extras(resync);
    resync->has_more_extras = false;
    resync->is_extra_known = true;
    if (listing.compare->unseen == 0) {
        return true;
    }
    int err = store_reader_list(resync->reader, noun, on_listed, &listing);
    err = listing.is_out_of_memory ? ERR_MEMORY : err;
    if (err != 0) {
        fail(resync, err_text(err));
        return false;
    }
    return true;
}

static void on_extras(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct resync *resync = answered(context, reply);
    if (resync == NULL) {
        return;
    }
    if (reply->type != REDIS_ARRAY || reply->count != resync->extra_asked) {
        fail_by_reply(resync, reply);
        return;
    }
    enum noun noun = noun_of(resync);
    struct store_request *request = new_request(resync, reply->count);
    int err = request == NULL ? ERR_MEMORY : 0;
    for (unsigned i = 0; i < reply->count && err == 0; i++) {
        char **key = &resync->extras[resync->extra_at + i];
        if (redis_reply_item(reply, i)->type != REDIS_NIL) {
            // It came since its page was read.
            err = compare_keep(&resync->compares[noun], str_from_c(*key));
            continue;
        }
        struct store_change *change = &request->changes[request->count++];
        change->noun = noun;
        change->key = *key;
        change->revision = resync->place.revision;
        *key = NULL;
        resync->deleted++;
    }
    resync->extra_at += reply->count;
    if (err != 0) {
        store_request_free(&request);
        fail(resync, "out of memory");
        return;
    }
    if (submit(resync, &request)) {
        resync_go_on(resync);
    }
}

static void ask_extras(struct resync *resync)
{
    struct str argv[RESYNC_PAGE + 2];
    unsigned count = resync->extra_count - resync->extra_at;
    count = count > RESYNC_PAGE ? RESYNC_PAGE : count;
    argv[0] = STR("HMGET");
    argv[1] = str_from_c(resync->follow->fleet->keys.nouns[noun_of(resync)]);
    for (unsigned i = 0; i < count; i++) {
        argv[i + 2] = str_from_c(resync->extras[resync->extra_at + i]);
    }
    resync->extra_asked = count;
    read_stream(resync);
    resync->is_waiting =
        redis_command(resync->follow->redis, count + 2, argv, on_extras, resync->follow);
}

// The next question of this phase, if it is not over.
static void go_on_deleting(struct resync *resync)
{
    if (!resync->is_extra_known && !find_extras(resync)) {
        return;
    }
    if (resync->extra_at < resync->extra_count) {
        ask_extras(resync);
        return;
    }
    if (resync->has_more_extras) {
        if (replay_is_empty(&resync->follow->line)) {
            resync->is_extra_known = false; // the list is read again, without those
        }
        return;
    }
    resync->is_extra_known = false;
    while (resync->at > 0) {
        resync->at--;
        if (is_ours(resync, noun_of(resync))) {
            return;
        }
    }
    resync->phase = PHASE_END;
}

// ---- start and end ----

static void on_start(void *context, struct redis *redis, const struct redis_reply *reply);
static void on_end(void *context, struct redis *redis, const struct redis_reply *reply);

static void start(struct resync *resync)
{
    resync->is_waiting = follow_call_verify(resync->follow, &resync->follow->place, on_start);
}

// What verify.lua has found. False: the resync has ended.
static bool take_found(struct resync *resync, const struct redis_reply *reply, struct found *found)
{
    char why[FOLLOW_WHY_MAX];
    if (found_read(found, reply, why, sizeof why) != 0) {
        fail(resync, why);
        return false;
    }
    return true;
}

static void on_start(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct resync *resync = answered(context, reply);
    struct found found;
    if (resync == NULL || !take_found(resync, reply, &found)) {
        return;
    }
    if (!found.has_meta) {
        fail(resync, "the store in Redis is gone");
        return;
    }
    resync->place = found.place;
    resync->phase = PHASE_SCAN;
    resync->is_broken = false;
    resync->highest = 0;
    str_copy(resync->cursor, sizeof resync->cursor, STR("0"));
    resync->page = RESYNC_PAGE_FIRST;
    resync->at = 0;
    int err = compare_load(&resync->compares[noun_of(resync)], resync->reader, noun_of(resync));
    if (err != 0) {
        fail(resync, err_text(err));
        return;
    }
    resync_go_on(resync);
}

static void end(struct resync *resync)
{
    read_stream(resync);
    resync->is_waiting = follow_call_verify(resync->follow, &resync->place, on_end);
}

// The mark goes in behind all that was found.
static void put_mark(struct resync *resync)
{
    struct follow *follow = resync->follow;
    struct store_request *request = new_request(resync, 0);
    struct replay *replay =
        request == NULL ? NULL : replay_add(&follow->line, &request, &resync->place);
    if (replay == NULL) {
        store_request_free(&request);
        fail(resync, "out of memory");
        return;
    }
    replay->is_end = true;
    follow->place = resync->place;
    follow->is_skew_known = !resync->has_skipped;
    follow->skew = 0;
    loop_read_clock(&follow->fleet->loop);
    struct fleet_status *status = fleet_status_lock(follow->fleet);
    status->resync_changed = resync->changed;
    status->resync_deleted = resync->deleted;
    status->resync_ms = follow->fleet->loop.now_ms - resync->began_ms;
    fleet_status_unlock(follow->fleet);
    resync_free(&follow->resync);
    replay_send(&follow->line);
}

static void on_end(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct follow *follow = context;
    struct resync *resync = answered(follow, reply);
    struct found found;
    if (resync == NULL || !take_found(resync, reply, &found)) {
        return;
    }
    if (!found.has_meta || strcmp(found.place.epoch, resync->place.epoch) != 0) {
        resync->is_broken = true;
        snprintf(resync->why, sizeof resync->why, "the history has changed");
    }
    if (!resync->is_broken && resync->highest > found.place.revision) {
        follow->raise_above = resync->highest;
        fail(resync, "a record has a revision above the store's");
        return;
    }
    if (resync->is_broken) {
        resync_go_on(resync);
        return;
    }
    put_mark(resync);
}

static void begin_again(struct resync *resync)
{
    resync->tries++;
    log_warning("the resync begins again: %s", resync->why);
    store_request_free(&resync->secrets);
    drop_extras(resync);
    resync->is_extra_known = false;
    resync->is_broken = false;
    resync->phase = PHASE_START;
    if (resync->tries % RESYNC_TRIES == 0) {
        resync->retry_ms = resync->follow->fleet->loop.now_ms + FOLLOW_RETRY_MS;
    }
}

void resync_go_on(struct resync *resync)
{
    struct follow *follow = resync->follow;
    // Each turn of the loop asks something, ends the phase, or the resync.
    while (follow->resync == resync && !resync->is_waiting) {
        if (resync->is_broken) {
            if (resync->is_reading) {
                return;
            }
            begin_again(resync);
        }
        if (!replay_has_room(&follow->line) || follow->fleet->loop.now_ms < resync->retry_ms) {
            return;
        }
        switch (resync->phase) {
        case PHASE_START:
            if (!replay_is_empty(&follow->line)) {
                return; // what is compared must be what was read so far
            }
            start(resync);
            return;
        case PHASE_SCAN:
            ask_page(resync);
            return;
        case PHASE_DELETE:
            if (resync->is_extra_known && resync->has_more_extras &&
                resync->extra_at == resync->extra_count && !replay_is_empty(&follow->line)) {
                return;
            }
            go_on_deleting(resync);
            break;
        case PHASE_END:
            end(resync);
            return;
        }
    }
}

int resync_begin(struct follow *follow)
{
    struct resync *resync = calloc(1, sizeof *resync);
    if (resync == NULL) {
        return ERR_MEMORY;
    }
    resync->follow = follow;
    resync->began_ms = follow->fleet->loop.now_ms;
    int err = store_reader_open(follow->fleet->config.store, &resync->reader);
    if (err != 0) {
        resync_free(&resync);
        return err;
    }
    resync_free(&follow->resync);
    follow->resync = resync;
    start(resync);
    return 0;
}
