// SPDX-License-Identifier: MIT
// Where a history begins: epoch.lua after lost writes, init.lua in a store that has none.
#include "base/log.h"
#include "fleet/follow_int.h"

// ---- what both scripts are given ----

// The new history, and what its revisions are above.
struct beginning {
    char epoch[FLEET_EPOCH_LEN + 1];
    char tag[STORE_ID_LEN + 1];
    char floor[24];
    char step[24];
};

static void make_beginning(const struct follow *follow, struct beginning *beginning)
{
    uint64_t floor = nodes_highest(follow->fleet);
    floor = floor < follow->place.revision ? follow->place.revision : floor;
    floor = floor < follow->raise_above ? follow->raise_above : floor;
    fleet_make_id(beginning->epoch, FLEET_EPOCH_LEN);
    fleet_make_id(beginning->tag, STORE_ID_LEN);
    snprintf(beginning->floor, sizeof beginning->floor, "%llu", (unsigned long long)floor);
    snprintf(beginning->step, sizeof beginning->step, "%d", FLEET_REVISION_STEP);
}

static struct str word_of(const struct redis_reply *reply, unsigned at)
{
    const struct redis_reply *item = redis_reply_item(reply, at);
    return item->type == REDIS_STRING ? item->text : STR_NULL;
}

static void on_script_failed(struct follow *follow, const struct redis_reply *reply)
{
    char detail[FOLLOW_WHY_MAX];
    struct str text = reply->type == REDIS_ERROR ? reply->text : word_of(reply, 0);
    if (str_eq(text, STR("limit"))) {
        snprintf(detail, sizeof detail, "there are no revisions left above those of Redis");
        follow_tell(follow, "epoch", detail);
    } else {
        snprintf(detail, sizeof detail, "%.*s", (int)(text.len > 200 ? 200 : text.len),
                 text.p == NULL ? "" : text.p);
    }
    follow_set_state(follow, FLEET_VERIFYING, detail);
    follow_retry_later(follow, FOLLOW_RETRY_MS);
}

// ---- a new epoch ----

static void on_raise(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct follow *follow = context;
    follow->asked.script = false;
    if (reply == NULL) {
        return;
    }
    struct str word = word_of(reply, 0);
    if (str_eq(word, STR("same"))) {
        follow->wants_check = true; // another node was first
        follow_go_on(follow);
        return;
    }
    if (!str_eq(word, STR("ok"))) {
        on_script_failed(follow, reply);
        return;
    }
    fleet_status_lock(follow->fleet)->epochs++;
    fleet_status_unlock(follow->fleet);
    char detail[FOLLOW_WHY_MAX + 100];
    snprintf(detail, sizeof detail, "%s; epoch %.*s begins with revision %.*s", follow->reason,
             STR_ARG(word_of(reply, 1)), STR_ARG(word_of(reply, 2)));
    log_warning("%s", detail);
    follow_tell(follow, "epoch", detail);
    follow->raise_above = 0;
    follow_begin_resync(follow);
}

void follow_begin_raise(struct follow *follow)
{
    struct fleet *fleet = follow->fleet;
    struct beginning beginning;
    char entries[24];
    make_beginning(follow, &beginning);
    snprintf(entries, sizeof entries, "%llu", (unsigned long long)fleet->config.stream_entries);
    const struct str argv[] = {
        str_from_c(fleet->keys.texts[FLEET_META]),
        str_from_c(fleet->keys.texts[FLEET_STREAM]),
        str_from_c(fleet->keys.texts[FLEET_NODES]),
        str_from_c(follow->look.place.epoch),
        str_from_c(beginning.epoch),
        str_from_c(beginning.tag),
        str_from_c(beginning.floor),
        str_from_c(beginning.step),
        str_from_c(fleet->node_id),
        str_from_c(entries),
    };
    follow->asked.script = fleet_script_call(follow->redis, &fleet_script_epoch, 3,
                                             sizeof argv / sizeof argv[0], argv, on_raise, follow);
}

// ---- the first history ----

void follow_enter_empty(struct follow *follow, const char *detail)
{
    bool is_new = follow->fleet->state != FLEET_EMPTY;
    follow_set_state(follow, FLEET_EMPTY, detail);
    if (is_new) {
        follow_tell(follow, "empty", detail);
    }
    follow_retry_later(follow, FOLLOW_RETRY_MS);
}

static void on_init(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct follow *follow = context;
    follow->asked.script = false;
    if (reply == NULL) {
        return;
    }
    struct str word = word_of(reply, 0);
    if (str_eq(word, STR("held"))) {
        char detail[FOLLOW_WHY_MAX];
        struct str name = word_of(reply, 1);
        snprintf(detail, sizeof detail,
                 "the store in Redis is empty, but node %.*s has seen declarations",
                 (int)(name.len > 100 ? 100 : name.len), name.p == NULL ? "" : name.p);
        follow_enter_empty(follow, detail);
        return;
    }
    if (str_eq(word, STR("exists"))) {
        follow->wants_check = true;
        follow_go_on(follow);
        return;
    }
    if (!str_eq(word, STR("ok"))) {
        on_script_failed(follow, reply);
        return;
    }
    log_info("%s: the store begins with epoch %.*s, revision %.*s",
             follow->fleet->config.url->shown, STR_ARG(word_of(reply, 1)),
             STR_ARG(word_of(reply, 2)));
    follow_begin_resync(follow);
}

void follow_begin_init(struct follow *follow)
{
    struct fleet *fleet = follow->fleet;
    struct beginning beginning;
    char live[24];
    make_beginning(follow, &beginning);
    snprintf(live, sizeof live, "%d", FLEET_LIVE_MS);
    struct str argv[NOUN_COUNT + 10];
    unsigned argc = 0;
    argv[argc++] = str_from_c(fleet->keys.texts[FLEET_META]);
    argv[argc++] = str_from_c(fleet->keys.texts[FLEET_STREAM]);
    argv[argc++] = str_from_c(fleet->keys.texts[FLEET_NODES]);
    for (unsigned noun = 0; noun < NOUN_COUNT; noun++) {
        if (noun != NOUN_TICKETS) {
            argv[argc++] = str_from_c(fleet->keys.nouns[noun]);
        }
    }
    unsigned key_count = argc;
    argv[argc++] = str_from_c(beginning.epoch);
    argv[argc++] = str_from_c(beginning.tag);
    argv[argc++] = str_from_c(beginning.floor);
    argv[argc++] = str_from_c(beginning.step);
    argv[argc++] = str_from_c(fleet->node_id);
    argv[argc++] = fleet->config.accept_empty ? STR("1") : STR("0");
    argv[argc++] = str_from_c(live);
    follow->asked.script = fleet_script_call(follow->redis, &fleet_script_init, key_count, argc,
                                             argv, on_init, follow);
}
