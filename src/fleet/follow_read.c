// SPDX-License-Identifier: MIT
// XREAD: entries of the stream into requests of the replica, one for each revision.
#include "fleet/follow_int.h"
#include <stdlib.h>

struct str follow_field(const struct redis_reply *item, struct str name)
{
    const struct redis_reply *fields = redis_reply_item(item, 1);
    for (unsigned i = 0; fields->type == REDIS_ARRAY && i + 1 < fields->count; i += 2) {
        const struct redis_reply *field = redis_reply_item(fields, i);
        const struct redis_reply *value = redis_reply_item(fields, i + 1);
        if (field->type == REDIS_STRING && value->type == REDIS_STRING &&
            str_eq(field->text, name)) {
            return value->text;
        }
    }
    return STR_NULL;
}

bool follow_call_read(struct follow *follow, const struct fleet_place *place, unsigned block_ms,
                      redis_on_reply *on_reply)
{
    char count_text[16];
    char block_text[16];
    snprintf(count_text, sizeof count_text, "%u", follow->count);
    snprintf(block_text, sizeof block_text, "%u", block_ms);
    struct str argv[9];
    unsigned argc = 0;
    argv[argc++] = STR("XREAD");
    argv[argc++] = STR("COUNT");
    argv[argc++] = str_from_c(count_text);
    if (block_ms > 0) {
        argv[argc++] = STR("BLOCK");
        argv[argc++] = str_from_c(block_text);
    }
    argv[argc++] = STR("STREAMS");
    argv[argc++] = str_from_c(follow->fleet->keys.texts[FLEET_STREAM]);
    argv[argc++] = str_from_c(place->stream_id[0] == '\0' ? "0-0" : place->stream_id);
    return redis_command(follow->redis, argc, argv, on_reply, follow);
}

static void skip_change(struct follow *follow, const struct fleet_entry *entry,
                        const struct fleet_change *change, const char *why)
{
    char what[FOLLOW_WHY_MAX];
    snprintf(what, sizeof what, "%.*s \"%.*s\": %.150s",
             change->noun == NOUN_COUNT ? 6 : (int)noun_name(change->noun).len,
             change->noun == NOUN_COUNT ? "record" : noun_name(change->noun).p,
             (int)(change->key.len > 60 ? 60 : change->key.len),
             change->key.p == NULL ? "" : change->key.p, why);
    follow_skip(follow, entry, what);
}

// 0 (also when it is passed over: then nothing is used) or ERR_MEMORY.
static int add_change(struct follow *follow, const struct fleet_entry *entry,
                      const struct fleet_change *change, struct store_request *request)
{
    if (change->noun == NOUN_TICKETS && !seal_has_key(follow->fleet->config.seal)) {
        return 0; // those of this node are its own
    }
    struct store_change *to = &request->changes[request->count];
    char why[FOLLOW_WHY_MAX];
    int err = declare_fill(to, change->noun, change->key, change->op == '-' ? NULL : &change->value,
                           entry->revision, why, sizeof why);
    if (err == 0 && change->op != '-') {
        to->keep_secret = change->keep_secret;
        to->secret = change->secret.len == 0 ? NULL : str_dup(change->secret);
        err = change->secret.len > 0 && to->secret == NULL ? ERR_MEMORY : 0;
    }
    if (err == 0) {
        request->count++;
        return 0;
    }
    store_change_fini(to);
    if (err == ERR_MEMORY) {
        return err;
    }
    follow->is_skew_known = false;
    skip_change(follow, entry, change, why);
    return 0;
}

// NULL: out of memory.
static struct store_request *make_request(struct follow *follow, const struct fleet_entry *entry)
{
    unsigned count = 0;
    struct fleet_change change;
    struct str rest = entry->changes;
    while (fleet_changes_next(&rest, &change) == STEP_DONE) {
        count++;
    }
    struct store_request *request = store_request_new(count);
    if (request == NULL) {
        return NULL;
    }
    request->count = 0;
    request->way = STORE_REPLAY;
    request->revision = entry->revision;
    rest = entry->changes;
    int step = STEP_DONE;
    for (unsigned i = 0; i < count && step == STEP_DONE; i++) {
        step = fleet_changes_next(&rest, &change);
        if (step == STEP_DONE && add_change(follow, entry, &change, request) != 0) {
            store_request_free(&request);
            return NULL;
        }
    }
    if (fleet_changes_next(&rest, &change) < 0) {
        follow->is_skew_known = false;
        follow_skip(follow, entry, "its changes cannot be read to their end");
    }
    return request;
}

static bool is_tag(struct str text)
{
    bool is_fine = text.len > 0 && text.len <= STORE_ID_LEN;
    for (size_t i = 0; i < text.len && is_fine; i++) {
        is_fine = ascii_is_digit(text.p[i]) || (text.p[i] >= 'a' && text.p[i] <= 'f');
    }
    return is_fine;
}

// Puts `request` in line (takes it) and moves on.
static enum taken put(struct follow *follow, const struct fleet_entry *entry,
                      struct store_request *request, struct fleet_place *place, bool with_marks,
                      bool wants_beat)
{
    struct fleet_place next = *place;
    next.revision = entry->revision;
    str_copy(next.tag, sizeof next.tag, is_tag(entry->tag) ? entry->tag : STR("-"));
    str_copy(next.stream_id, sizeof next.stream_id, entry->stream_id);
    struct replay *replay = replay_add(&follow->line, &request, with_marks ? &next : NULL);
    if (replay == NULL) {
        store_request_free(&request);
        return TAKEN_MEMORY;
    }
    replay->wants_beat = wants_beat;
    *place = next;
    return TAKEN_ALL;
}

// An entry that cannot be decoded: if it is one of ours, its revision has been all the same.
static enum taken pass_over(struct follow *follow, const struct fleet_entry *entry,
                            struct fleet_place *place, bool with_marks, const char *why)
{
    follow_skip(follow, entry, why);
    if (entry->revision <= place->revision || entry->previous != place->revision) {
        // A stranger's, or too broken to tell: the chain shows whether something is missing.
        if (entry->stream_id.len > 0) {
            str_copy(place->stream_id, sizeof place->stream_id, entry->stream_id);
        }
        return TAKEN_ALL;
    }
    follow->is_skew_known = false;
    struct store_request *request = store_request_new(0);
    if (request == NULL) {
        return TAKEN_MEMORY;
    }
    request->way = STORE_REPLAY;
    request->revision = entry->revision;
    return put(follow, entry, request, place, with_marks, false);
}

static enum taken take_entry(struct follow *follow, const struct redis_reply *item,
                             struct fleet_place *place, bool with_marks, char *why, size_t why_size)
{
    struct fleet_entry entry;
    const char *reason = "";
    if (fleet_entry_read(&entry, item, &reason) != 0) {
        return pass_over(follow, &entry, place, with_marks, reason);
    }
    if (entry.kind == FLEET_ENTRY_WRITE) {
        write_seen(follow->fleet, entry.tag, entry.revision);
    }
    bool is_same_epoch = str_eq(entry.epoch, str_from_c(place->epoch));
    if (is_same_epoch && entry.revision <= place->revision) {
        // None is given twice: what is there went back, and went on from there another way.
        snprintf(why, why_size, "revision %llu came again", (unsigned long long)entry.revision);
        return TAKEN_GAP;
    }
    if (!is_same_epoch || entry.kind == FLEET_ENTRY_EPOCH) {
        snprintf(why, why_size, "a new epoch began with revision %llu",
                 (unsigned long long)entry.revision);
        return TAKEN_EPOCH;
    }
    if (entry.previous != place->revision) {
        snprintf(why, why_size, "revisions %llu to %llu are missing in the stream",
                 (unsigned long long)place->revision + 1, (unsigned long long)entry.previous);
        return TAKEN_GAP;
    }
    struct store_request *request = make_request(follow, &entry);
    if (request == NULL) {
        return TAKEN_MEMORY;
    }
    return put(follow, &entry, request, place, with_marks, entry.wants_beat);
}

enum taken follow_take(struct follow *follow, const struct redis_reply *reply,
                       struct fleet_place *place, bool with_marks, char *why, size_t why_size)
{
    size_t bytes = 0;
    const struct redis_reply *stream = redis_reply_item(reply, 0);
    const struct redis_reply *entries = redis_reply_item(stream, 1);
    if (entries->type != REDIS_ARRAY) {
        return TAKEN_ALL; // nothing new
    }
    enum taken taken = TAKEN_ALL;
    for (unsigned i = 0; i < entries->count && taken == TAKEN_ALL; i++) {
        const struct redis_reply *item = redis_reply_item(entries, i);
        bytes += follow_field(item, STR("c")).len;
        taken = take_entry(follow, item, place, with_marks, why, why_size);
    }
    if (bytes > FOLLOW_REPLY_BYTES) {
        follow->count = follow->count < 8 ? 1 : follow->count / 8;
    } else if (follow->count < FOLLOW_COUNT) {
        follow->count *= 2;
    }
    replay_send(&follow->line);
    return taken;
}
