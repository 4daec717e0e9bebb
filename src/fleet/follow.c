// SPDX-License-Identifier: MIT
// The connection that follows, and its states.
//
//   AWAY ──ready──► VERIFYING ──► FOLLOWING ──doubt──► verify.lua (still FOLLOWING; or back to VERIFYING)
//                     │   ▲ ▲
//                     │   │ └── EMPTY: no declarations there (or a key is gone), but here: asked again and again
//                     ▼   │
//                   RESYNC┘ (done: FOLLOWING)
//
// One connection, so that what is asked is answered in order: an XREAD that is answered behind verify.lua has
// seen all that verify.lua has.
#include "base/log.h"
#include "fleet/follow_int.h"
#include <stdlib.h>

enum { LOOK_OVER_MS = 5000 }; // between two looks at a history that seems to be fine

static uint64_t now_ms(const struct follow *follow)
{
    return follow->fleet->loop.now_ms;
}

uint64_t follow_held(const struct follow *follow)
{
    uint64_t count = 0;
    for (int noun = 0; noun < NOUN_COUNT; noun++) {
        if (noun != NOUN_TICKETS) {
            count += store_count(follow->fleet->config.store, (enum noun)noun);
        }
    }
    return count;
}

// ---- what is told ----

void follow_tell(struct follow *follow, const char *state, const char *detail)
{
    const struct fleet_event event = {
        .type = "store",
        .state = state,
        .detail = detail,
        .id = "",
        .outcome = "",
        .node = "",
        .revision = follow->place.revision,
    };
    fleet_tell(follow->fleet, &event);
}

void follow_skip(struct follow *follow, const struct fleet_entry *entry, const char *what)
{
    fleet_status_lock(follow->fleet)->skipped++;
    fleet_status_unlock(follow->fleet);
    if (now_ms(follow) - follow->told_ms >= 1000) {
        follow->told_ms = now_ms(follow);
        follow->told = 0;
    }
    if (follow->told++ >= FOLLOW_TOLD_MAX) {
        return; // counted, but not a line for each
    }
    char detail[FOLLOW_WHY_MAX + 80];
    snprintf(detail, sizeof detail, "%s%.*s%s%s", entry->stream_id.len > 0 ? "entry " : "",
             (int)(entry->stream_id.len > 48 ? 48 : entry->stream_id.len),
             entry->stream_id.p == NULL ? "" : entry->stream_id.p,
             entry->stream_id.len > 0 ? ": " : "", what);
    char node[FLEET_TEXT_MAX];
    str_copy(node, sizeof node, entry->node);
    log_warning("skipped: %s", detail);
    const struct fleet_event event = {
        .type = "store",
        .state = "skipped",
        .detail = detail,
        .id = "",
        .outcome = "",
        .node = node,
        .revision = entry->revision,
    };
    fleet_tell(follow->fleet, &event);
}

void follow_set_state(struct follow *follow, enum fleet_follow_state state, const char *detail)
{
    if (follow->fleet->state == FLEET_FOLLOWING && state != FLEET_FOLLOWING) {
        follow->away_since_ms = now_ms(follow);
    }
    fleet_set_state(follow->fleet, state, detail);
}

static void settle(struct follow *follow)
{
    if (follow->wants_settle && follow->fleet->state == FLEET_FOLLOWING &&
        follow->fleet->place.revision >= follow->settle_revision) {
        follow->wants_settle = false;
        write_settle(follow->fleet, follow->is_whole);
    }
}

void follow_on_live(struct follow *follow, const struct replay *replay)
{
    struct fleet *fleet = follow->fleet;
    struct fleet_status *status = fleet_status_lock(fleet);
    status->applied += !replay->is_end && replay->request->way == STORE_REPLAY;
    if (replay->has_place) {
        str_copy(status->epoch, sizeof status->epoch, str_from_c(replay->place.epoch));
        status->revision = replay->place.revision;
    }
    fleet_status_unlock(fleet);
    if (replay->has_place) {
        fleet->place = replay->place;
    }
    if (replay->is_end) {
        follow_on_resynced(follow, &replay->place);
    }
    if (replay->has_place) {
        write_live(fleet, replay->place.revision);
        settle(follow);
    }
    if (replay->wants_beat) {
        nodes_beat_now(fleet);
    }
}

// ---- asking ----

void follow_retry_later(struct follow *follow, unsigned after_ms)
{
    follow->ask_at_ms = now_ms(follow) + after_ms;
}

static void on_verify(void *context, struct redis *redis, const struct redis_reply *reply);

bool follow_call_verify(struct follow *follow, const struct fleet_place *ours,
                        redis_on_reply *on_reply)
{
    const struct fleet_keys *keys = &follow->fleet->keys;
    struct str argv[NOUN_COUNT + 4];
    unsigned argc = 0;
    argv[argc++] = str_from_c(keys->texts[FLEET_META]);
    argv[argc++] = str_from_c(keys->texts[FLEET_STREAM]);
    for (unsigned noun = 0; noun < NOUN_COUNT; noun++) {
        if (noun != NOUN_TICKETS) {
            argv[argc++] = str_from_c(keys->nouns[noun]);
        }
    }
    unsigned key_count = argc;
    argv[argc++] = str_from_c(ours->stream_id[0] == '\0' ? "0-0" : ours->stream_id);
    argv[argc++] = str_from_c(ours->tag);
    return fleet_script_call(follow->redis, &fleet_script_verify, key_count, argc, argv, on_reply,
                             follow);
}

static void ask(struct follow *follow)
{
    follow->wants_check = false;
    follow->ask_at_ms = 0;
    follow->asked.verify = follow_call_verify(follow, &follow->place, on_verify);
}

void follow_begin_resync(struct follow *follow)
{
    follow->must_resync = true;
    follow->looks = 0;
    if (resync_begin(follow) != 0) {
        follow_set_state(follow, FLEET_VERIFYING, "the replica cannot be read");
        follow_retry_later(follow, FOLLOW_RETRY_MS);
        return;
    }
    follow_set_state(follow, FLEET_RESYNC, follow->reason);
    follow_tell(follow, "resync", follow->reason);
}

// ---- what is to be done ----

// A history that is being restored key by key is looked at again, until it is the same twice.
static bool is_steady(struct follow *follow, const struct found *found)
{
    bool is_same = follow->looks > 0 && follow->look.has_meta == found->has_meta &&
                   follow->look.total == found->total &&
                   strcmp(follow->look.place.epoch, found->place.epoch) == 0;
    if (follow_held(follow) == 0 ||
        (is_same && now_ms(follow) - follow->look_ms >= FOLLOW_LOOK_MS) ||
        follow->looks >= FOLLOW_LOOKS) {
        follow->looks = 0;
        follow->look = *found;
        return true;
    }
    if (!is_same) {
        follow->look = *found;
        follow->look_ms = now_ms(follow);
        follow->looks++;
    }
    follow_retry_later(follow, FOLLOW_LOOK_MS);
    return false;
}

static void enter_following(struct follow *follow, const struct found *found)
{
    follow->looks = 0;
    if (!found->is_place_there) {
        // Our last entry is trimmed away, with nothing behind it: on from the last one that there was.
        str_copy(follow->place.stream_id, sizeof follow->place.stream_id,
                 str_from_c(found->place.stream_id));
    }
    follow->expected = found->place.revision;
    follow->wants_settle = true;
    follow->is_whole = true;
    follow->settle_revision = found->place.revision;
    if (follow->fleet->state != FLEET_FOLLOWING) {
        follow->count = FOLLOW_COUNT_FIRST;
        follow_set_state(follow, FLEET_FOLLOWING, "");
        follow_tell(follow, "following", "");
    }
    settle(follow);
}

// What is written past the history (a restore that ends late, HDEL) shows in the number of records.
static bool is_count_right(struct follow *follow, const struct found *found)
{
    if (!replay_is_empty(&follow->line) || found->place.revision != follow->place.revision) {
        return true; // it cannot be told now
    }
    int64_t skew = (int64_t)found->total - (int64_t)follow_held(follow);
    bool is_right = !follow->is_skew_known || skew == follow->skew;
    follow->is_skew_known = true;
    follow->skew = skew;
    return is_right;
}

// Most of a kind is gone, and no revision says so: its key was deleted, or evicted. That is no reason to do the same.
static bool is_lost(const struct follow *follow, const struct found *found, char *why, size_t size)
{
    if (!found->has_meta || found->place.revision != follow->place.revision ||
        strcmp(found->place.epoch, follow->place.epoch) != 0 || !replay_is_empty(&follow->line)) {
        return false; // it cannot be told now
    }
    for (unsigned noun = 0; noun < NOUN_COUNT; noun++) {
        uint64_t held = store_count(follow->fleet->config.store, (enum noun)noun);
        if (noun != NOUN_TICKETS && found->counts[noun] < held / 2 + held % 2) {
            snprintf(why, size,
                     "%s has %llu records of the %llu that it had with revision %llu: was it "
                     "deleted, or evicted?",
                     follow->fleet->keys.nouns[noun], (unsigned long long)found->counts[noun],
                     (unsigned long long)held, (unsigned long long)found->place.revision);
            return true;
        }
    }
    return false;
}

static void on_empty(struct follow *follow, const struct found *found)
{
    char why[FOLLOW_WHY_MAX] = "the store in Redis came back empty: what was declared is served on";
    bool has_lost = is_lost(follow, found, why, sizeof why);
    follow->fleet->is_key_gone = has_lost;
    if (follow_held(follow) > 0 && !follow->fleet->config.accept_empty) {
        follow_enter_empty(follow, why);
        return;
    }
    if (!is_steady(follow, found)) {
        return;
    }
    if (!found->has_meta) {
        follow_begin_init(follow);
    } else if (has_lost || found->place.revision < follow->place.revision) {
        follow_begin_raise(follow); // what was lost was accepted: so that the others see it
    } else {
        follow_begin_resync(follow);
    }
}

// Nothing is under way into the replica.
static void act(struct follow *follow, const struct found *found, enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_FOLLOW:
        if (follow->must_resync || follow->fleet->state == FLEET_RESYNC) {
            follow_begin_resync(follow);
        } else {
            enter_following(follow, found);
        }
        return;
    case VERDICT_RESYNC:
        follow_begin_resync(follow);
        return;
    case VERDICT_OTHER:
        if (is_steady(follow, found)) {
            follow_begin_resync(follow);
        }
        return;
    case VERDICT_LOST:
        if (is_steady(follow, found)) {
            follow_begin_raise(follow);
        }
        return;
    case VERDICT_EMPTY:
        on_empty(follow, found);
        return;
    case VERDICT_NONE:
        if (is_steady(follow, found)) {
            follow_begin_init(follow);
        }
        return;
    }
}

static void on_found(struct follow *follow, const struct found *found)
{
    char why[FOLLOW_WHY_MAX];
    fleet_status_lock(follow->fleet)->redis_revision = found->place.revision;
    fleet_status_unlock(follow->fleet);
    enum verdict verdict = found_judge(found, &follow->place, why, sizeof why);
    bool is_quiet = follow->fleet->state == FLEET_FOLLOWING;
    if (verdict == VERDICT_FOLLOW && is_lost(follow, found, why, sizeof why)) {
        verdict = VERDICT_EMPTY;
    } else if (verdict == VERDICT_FOLLOW && follow->fleet->state == FLEET_EMPTY &&
               found->place.revision == follow->place.revision) {
        follow->must_resync = true; // somebody has put it back: as it was?
        str_copy(follow->reason, sizeof follow->reason, STR("Redis has its declarations again"));
    }
    if (verdict == VERDICT_FOLLOW && !follow->must_resync) {
        if (is_quiet && !is_count_right(follow, found)) {
            follow_want_resync(follow, "Redis has another number of declarations");
            return;
        }
        if (follow->raise_above <= found->place.revision) {
            enter_following(follow, found);
            follow_go_on(follow);
            return;
        }
    }
    if (verdict != VERDICT_FOLLOW) {
        str_copy(follow->reason, sizeof follow->reason, str_from_c(why));
    }
    if (follow->raise_above > found->place.revision && found->has_meta &&
        verdict != VERDICT_EMPTY) {
        snprintf(follow->reason, sizeof follow->reason,
                 "a record in Redis has revision %llu, the store only %llu",
                 (unsigned long long)follow->raise_above,
                 (unsigned long long)found->place.revision);
        verdict = VERDICT_LOST;
    }
    if (is_quiet) {
        follow_set_state(follow, FLEET_VERIFYING, follow->reason);
    }
    if (!replay_is_empty(&follow->line)) {
        follow->wants_check = true; // asked again when the replica has all that was read
        return;
    }
    act(follow, found, verdict);
}

static void on_verify(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct follow *follow = context;
    follow->asked.verify = false;
    if (reply == NULL) {
        return;
    }
    struct found found;
    char why[FOLLOW_WHY_MAX];
    if (found_read(&found, reply, why, sizeof why) == 0) {
        on_found(follow, &found);
        return;
    }
    follow_set_state(follow, FLEET_VERIFYING, why);
    follow_retry_later(follow, FOLLOW_RETRY_MS);
}

void follow_doubt(struct follow *follow, const char *why)
{
    str_copy(follow->reason, sizeof follow->reason, str_from_c(why));
    if (follow->fleet->state == FLEET_FOLLOWING) {
        follow_set_state(follow, FLEET_VERIFYING, why);
    }
    follow->wants_check = true;
    follow_go_on(follow);
}

void follow_want_resync(struct follow *follow, const char *why)
{
    follow->must_resync = true;
    follow_doubt(follow, why);
}

// ---- reading ----

static void on_read(void *context, struct redis *redis, const struct redis_reply *reply);

static void read_on(struct follow *follow)
{
    follow->asked.read = follow_call_read(follow, &follow->place, FOLLOW_BLOCK_MS, on_read);
}

static void on_entries(struct follow *follow, const struct redis_reply *reply)
{
    char why[FOLLOW_WHY_MAX] = "";
    follow->entry_ms = now_ms(follow);
    enum taken taken = follow_take(follow, reply, &follow->place, true, why, sizeof why);
    switch (taken) {
    case TAKEN_ALL:
        return;
    case TAKEN_GAP:
    case TAKEN_EPOCH:
        follow_want_resync(follow, why);
        return;
    case TAKEN_MEMORY:
        log_error("the stream waits: out of memory");
        follow->read_at_ms = now_ms(follow) + FOLLOW_RETRY_MS;
        return;
    }
}

static void on_read(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct follow *follow = context;
    follow->asked.read = false;
    if (reply == NULL || follow->fleet->state != FLEET_FOLLOWING) {
        return; // what it brings is read again when it is known whether it belongs to our history
    }
    if (reply->type == REDIS_ERROR) {
        char why[FOLLOW_WHY_MAX];
        snprintf(why, sizeof why, "%.*s", (int)(reply->text.len > 200 ? 200 : reply->text.len),
                 reply->text.p);
        follow_set_state(follow, FLEET_VERIFYING, why);
        follow_retry_later(follow, FOLLOW_RETRY_MS);
        return;
    }
    if (reply->type == REDIS_ARRAY) {
        on_entries(follow, reply);
    } else if (follow->expected > follow->place.revision) {
        char why[FOLLOW_WHY_MAX];
        snprintf(why, sizeof why, "the stream does not have revisions %llu to %llu",
                 (unsigned long long)follow->place.revision + 1,
                 (unsigned long long)follow->expected);
        follow->expected = 0;
        follow_want_resync(follow, why);
        return;
    }
    follow_go_on(follow);
}

void follow_go_on(struct follow *follow)
{
    // A write's last reply may ask for it when this has stopped.
    if (follow->redis == NULL || !redis_is_ready(follow->redis)) {
        return;
    }
    if (follow->resync != NULL) {
        resync_go_on(follow->resync);
        return;
    }
    bool is_asked = follow->asked.verify || follow->asked.script;
    switch (follow->fleet->state) {
    case FLEET_FOLLOWING:
        // Not behind an XREAD, which may bring what trims our place away.
        if (follow->wants_check && !is_asked && !follow->asked.read) {
            ask(follow);
        }
        if (!follow->asked.read && replay_has_room(&follow->line) &&
            now_ms(follow) >= follow->read_at_ms) {
            read_on(follow);
        }
        return;
    case FLEET_VERIFYING:
    case FLEET_EMPTY:
        if (!is_asked && replay_is_empty(&follow->line) &&
            (follow->wants_check ||
             (follow->ask_at_ms != 0 && now_ms(follow) >= follow->ask_at_ms))) {
            ask(follow);
        }
        return;
    case FLEET_RESYNC: // its last request is on the way
    case FLEET_AWAY:
        return;
    }
}

// ---- resyncs ----

void follow_on_resynced(struct follow *follow, const struct fleet_place *place)
{
    struct fleet *fleet = follow->fleet;
    follow->must_resync = false;
    // Pairs with the acquire of fleet_is_ready().
    atomic_store_explicit(&fleet->is_content_there, true, memory_order_release);
    struct fleet_status *status = fleet_status_lock(fleet);
    status->resyncs++;
    char detail[FOLLOW_WHY_MAX];
    snprintf(detail, sizeof detail, "%llu changed, %llu deleted, in %llu ms",
             (unsigned long long)status->resync_changed, (unsigned long long)status->resync_deleted,
             (unsigned long long)status->resync_ms);
    const struct fleet_event event = {
        .type = "store",
        .state = "resynced",
        .detail = detail,
        .id = "",
        .outcome = "",
        .node = "",
        .revision = place->revision,
        .changed = status->resync_changed,
        .deleted = status->resync_deleted,
    };
    fleet_status_unlock(fleet);
    fleet_tell(fleet, &event);
    log_info("%s: resync: %s", fleet->config.url->shown, detail);
    if (fleet->state == FLEET_RESYNC) {
        follow->count = FOLLOW_COUNT_FIRST;
        follow->wants_settle = true;
        follow->is_whole = false;
        follow->settle_revision = place->revision;
        follow_set_state(follow, FLEET_FOLLOWING, "");
    }
}

void follow_on_resync_failed(struct follow *follow, const char *why)
{
    follow_set_state(follow, FLEET_VERIFYING, why);
    follow_retry_later(follow, FOLLOW_RETRY_MS);
}

// ---- what others have seen ----

void follow_check(struct fleet *fleet)
{
    fleet->follow->wants_check = true;
    follow_go_on(fleet->follow);
}

void follow_compare(struct fleet *fleet, const struct fleet_place *redis)
{
    struct follow *follow = fleet->follow;
    fleet_status_lock(fleet)->redis_revision = redis->revision;
    fleet_status_unlock(fleet);
    if (fleet->state == FLEET_EMPTY && redis->epoch[0] != '\0') {
        follow_check(fleet);
    }
    if (fleet->state != FLEET_FOLLOWING) {
        return;
    }
    bool is_idle = now_ms(follow) - follow->entry_ms > FOLLOW_IDLE_MS;
    if (strcmp(redis->epoch, follow->place.epoch) != 0 ||
        (is_idle && redis->revision != follow->place.revision)) {
        follow_check(fleet);
    }
}

// ---- from start to end ----

static void on_state(void *context, struct redis *redis, bool is_ready, const char *detail)
{
    struct follow *follow = context;
    struct fleet *fleet = follow->fleet;
    follow->asked = (struct follow_asked){.verify = false};
    resync_free(&follow->resync);
    if (!is_ready) {
        if (!follow->was_away) {
            follow->was_away = true;
            follow_tell(follow, "away", detail);
        }
        follow_set_state(follow, FLEET_AWAY, detail);
        return;
    }
    struct fleet_status *status = fleet_status_lock(fleet);
    status->reconnects += follow->was_away;
    str_copy(status->peer, sizeof status->peer, str_from_c(redis_peer(redis)));
    fleet_status_unlock(fleet);
    if (follow->was_away) {
        follow->was_away = false;
        follow_tell(follow, "back", "");
    }
    follow->looks = 0;
    follow->count = FOLLOW_COUNT_FIRST; // of a resync, too
    follow_set_state(follow, FLEET_VERIFYING, "");
    follow->wants_check = true;
    follow_go_on(follow);
}

static void on_tick(struct loop *loop, struct loop_timer *timer)
{
    struct follow *follow = CONTAINER_OF(timer, struct follow, tick);
    struct fleet *fleet = follow->fleet;
    loop_timer_set(loop, timer, FOLLOW_TICK_MS);
    struct fleet_status *status = fleet_status_lock(fleet);
    status->away_ms =
        fleet->state == FLEET_FOLLOWING ? 0 : now_ms(follow) - follow->away_since_ms + 1;
    fleet_status_unlock(fleet);
    if (redis_is_ready(follow->redis) && redis_silent_ms(follow->redis) > FOLLOW_SILENT_MS) {
        redis_drop(follow->redis, "no answer for 3 s");
        return;
    }
    if (fleet->state == FLEET_FOLLOWING && now_ms(follow) - follow->look_ms > LOOK_OVER_MS) {
        follow->look_ms = now_ms(follow);
        follow->wants_check = true;
    }
    follow_go_on(follow);
}

int follow_new(struct fleet *fleet, struct problems *problems)
{
    struct follow *follow = calloc(1, sizeof *follow);
    if (follow == NULL) {
        return ERR_MEMORY;
    }
    fleet->follow = follow;
    follow->fleet = fleet;
    follow->place = fleet->place;
    follow->count = FOLLOW_COUNT_FIRST;
    replay_line_init(&follow->line, follow);
    loop_timer_init(&follow->tick, on_tick);
    const struct redis_config config = {
        .url = fleet->config.url,
        .tls = fleet->config.tls,
        .name = "pointsman-follow",
        .loop = &fleet->loop,
        .on_state = on_state,
        .context = follow,
    };
    return redis_new(&follow->redis, &config, problems);
}

void follow_start(struct fleet *fleet)
{
    struct follow *follow = fleet->follow;
    loop_read_clock(&fleet->loop);
    follow->away_since_ms = now_ms(follow);
    loop_timer_set(&fleet->loop, &follow->tick, FOLLOW_TICK_MS);
    redis_start(follow->redis);
}

void follow_stop(struct fleet *fleet)
{
    struct follow *follow = fleet->follow;
    if (follow == NULL) {
        return;
    }
    loop_timer_cancel(&fleet->loop, &follow->tick);
    replay_line_stop(&follow->line);
    resync_free(&follow->resync);
    redis_free(&follow->redis);
}

void follow_free(struct fleet *fleet)
{
    struct follow *follow = fleet->follow;
    if (follow == NULL) {
        return;
    }
    follow_stop(fleet); // of one that was never started
    replay_line_fini(&follow->line);
    fleet->follow = NULL;
    free(follow);
}
