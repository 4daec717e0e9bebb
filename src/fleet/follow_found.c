// SPDX-License-Identifier: MIT
// What verify.lua has found, and what follows from it.
#include "fleet/follow_int.h"

static bool is_epoch(struct str text)
{
    bool is_fine = text.len == FLEET_EPOCH_LEN;
    for (size_t i = 0; i < text.len && is_fine; i++) {
        is_fine = ascii_hex(text.p[i]) >= 0;
    }
    return is_fine;
}

static struct str text_at(const struct redis_reply *reply, unsigned at)
{
    const struct redis_reply *item = redis_reply_item(reply, at);
    return item->type == REDIS_STRING ? item->text : STR_NULL;
}

static int read_meta(struct found *found, const struct redis_reply *reply, char *why,
                     size_t why_size)
{
    struct str epoch = text_at(reply, 1);
    struct str revision = text_at(reply, 2);
    struct str schema = text_at(reply, 4);
    if (!is_epoch(epoch) || str_to_u64(revision, &found->place.revision) != 0 ||
        found->place.revision > FLEET_REVISION_STORE_MAX) {
        snprintf(why, why_size, "the store's meta is broken: epoch \"%.*s\", revision \"%.*s\"",
                 (int)(epoch.len > 40 ? 40 : epoch.len), epoch.p == NULL ? "" : epoch.p,
                 (int)(revision.len > 40 ? 40 : revision.len),
                 revision.p == NULL ? "" : revision.p);
        return ERR_SYNTAX;
    }
    if (!str_eq(schema, STR("1"))) {
        snprintf(why, why_size, "the store has schema \"%.*s\": a newer version has written it",
                 (int)(schema.len > 40 ? 40 : schema.len), schema.p == NULL ? "" : schema.p);
        return ERR_SYNTAX;
    }
    str_copy(found->place.epoch, sizeof found->place.epoch, epoch);
    str_copy(found->place.tag, sizeof found->place.tag, text_at(reply, 3));
    return 0;
}

// "12 0 3"
static bool read_counts(struct found *found, struct str list)
{
    for (unsigned noun = 0; noun < NOUN_COUNT; noun++) {
        struct str word;
        if (noun == NOUN_TICKETS) {
            continue;
        }
        str_split(list, ' ', &word, &list);
        if (str_to_u64(word, &found->counts[noun]) != 0) {
            return false;
        }
    }
    return list.len == 0;
}

int found_read(struct found *found, const struct redis_reply *reply, char *why, size_t why_size)
{
    *found = (struct found){.has_meta = false};
    if (reply->type == REDIS_ERROR) {
        snprintf(why, why_size, "%.*s", (int)(reply->text.len > 200 ? 200 : reply->text.len),
                 reply->text.p);
        return ERR_SYNTAX;
    }
    if (reply->type != REDIS_ARRAY || reply->count != 10 ||
        str_to_u64(text_at(reply, 8), &found->total) != 0 ||
        !read_counts(found, text_at(reply, 9))) {
        snprintf(why, why_size, "Redis gave an answer that cannot be read");
        return ERR_SYNTAX;
    }
    found->has_meta = str_eq(text_at(reply, 0), STR("1"));
    found->is_place_there = str_eq(text_at(reply, 7), STR("1"));
    str_copy(found->place.stream_id, sizeof found->place.stream_id, text_at(reply, 5));
    str_copy(found->first_id, sizeof found->first_id, text_at(reply, 6));
    return found->has_meta ? read_meta(found, reply, why, why_size) : 0;
}

// <0, 0, >0; an id that cannot be read is the first.
static int compare_ids(const char *a, const char *b)
{
    const char *texts[] = {a, b};
    uint64_t numbers[2][2] = {{0}};
    for (unsigned i = 0; i < 2; i++) {
        struct str ms;
        struct str sequence;
        str_split(str_from_c(texts[i]), '-', &ms, &sequence);
        if (str_to_u64(ms, &numbers[i][0]) != 0 || str_to_u64(sequence, &numbers[i][1]) != 0) {
            numbers[i][0] = 0;
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        if (numbers[0][i] != numbers[1][i]) {
            return numbers[0][i] < numbers[1][i] ? -1 : 1;
        }
    }
    return 0;
}

static enum verdict judge_same_epoch(const struct found *found, const struct fleet_place *ours,
                                     char *why, size_t why_size)
{
    unsigned long long there = found->place.revision;
    unsigned long long here = ours->revision;
    if (there < here) {
        snprintf(why, why_size, "Redis has lost revisions %llu to %llu", there + 1, here);
        return VERDICT_LOST;
    }
    if (found->is_place_there || (there == here && strcmp(found->place.tag, ours->tag) == 0)) {
        return VERDICT_FOLLOW;
    }
    if (there == here) {
        snprintf(why, why_size, "revision %llu in Redis is another than here", there);
        return VERDICT_LOST;
    }
    // The stream reaches back to our place, but it has another history there.
    if (found->first_id[0] != '\0' && compare_ids(found->first_id, ours->stream_id) <= 0 &&
        compare_ids(ours->stream_id, found->place.stream_id) <= 0) {
        snprintf(why, why_size, "Redis' history does not have our revision %llu", here);
        return VERDICT_LOST;
    }
    snprintf(why, why_size, "the stream does not reach back to revision %llu", here);
    return VERDICT_RESYNC;
}

enum verdict found_judge(const struct found *found, const struct fleet_place *ours, char *why,
                         size_t why_size)
{
    why[0] = '\0';
    bool is_same_epoch =
        found->has_meta && ours->epoch[0] != '\0' && strcmp(found->place.epoch, ours->epoch) == 0;
    enum verdict verdict =
        is_same_epoch ? judge_same_epoch(found, ours, why, why_size) : VERDICT_OTHER;
    if (found->total == 0 && (!is_same_epoch || verdict == VERDICT_LOST)) {
        snprintf(why, why_size, "the store in Redis is empty");
        return VERDICT_EMPTY;
    }
    if (!found->has_meta) {
        snprintf(why, why_size, "Redis has declarations, but no history of them");
        return VERDICT_NONE;
    }
    if (is_same_epoch) {
        return verdict;
    }
    if (found->place.revision < ours->revision) {
        snprintf(why, why_size, "Redis has another history, up to revision %llu of our %llu",
                 (unsigned long long)found->place.revision, (unsigned long long)ours->revision);
        return VERDICT_LOST;
    }
    snprintf(why, why_size, "%s",
             ours->epoch[0] == '\0' ? "nothing has been read yet" : "Redis has another history");
    return VERDICT_OTHER;
}
