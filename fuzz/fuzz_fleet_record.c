// SPDX-License-Identifier: MIT
// What stands in Redis: changes of an entry, a record of a hash, and an entry whose fields are lines of the
// text. What is read lies inside of it, and what the changes say is all of it.
#include "base/invariant.h"
#include "fleet/fleet_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINES_MAX = 70 };

static bool is_inside(struct str part, struct str whole)
{
    return part.len == 0 || (part.p >= whole.p && part.p + part.len <= whole.p + whole.len);
}

static void check_changes(struct str text)
{
    struct str rest = text;
    struct fleet_change change;
    int step;
    while ((step = fleet_changes_next(&rest, &change)) == STEP_DONE) {
        INVARIANT(is_inside(change.key, text) && is_inside(change.value, text) &&
                  is_inside(change.secret, text) && is_inside(rest, text));
        INVARIANT(change.key.len > 0 && change.noun <= NOUN_COUNT);
        INVARIANT((change.op == '-') == (change.value.len == 0));
        INVARIANT(change.secret.len == 0 || !change.keep_secret);
    }
    INVARIANT((step == STEP_AGAIN) == (rest.len == 0));
}

static void check_record(struct str text)
{
    uint64_t revision;
    struct str refs;
    struct str value;
    if (fleet_record_read(text, &revision, &refs, &value) == 0) {
        INVARIANT(revision <= FLEET_REVISION_MAX && value.len > 0);
        INVARIANT(is_inside(refs, text) && is_inside(value, text));
    }
}

static void check_entry(struct str text)
{
    struct redis_reply texts[LINES_MAX];
    struct redis_reply *items[LINES_MAX];
    unsigned count = 0;
    struct str rest = text;
    while (count < LINES_MAX && rest.len > 0) {
        struct str line;
        str_split(rest, '\n', &line, &rest);
        texts[count] = (struct redis_reply){.type = REDIS_STRING, .text = line};
        items[count] = &texts[count];
        count++;
    }
    if (count == 0) {
        return;
    }
    struct redis_reply fields = {.type = REDIS_ARRAY, .count = count - 1, .items = items + 1};
    struct redis_reply *parts[] = {&texts[0], &fields};
    const struct redis_reply item = {.type = REDIS_ARRAY, .count = 2, .items = parts};
    struct fleet_entry entry;
    const char *why;
    int err = fleet_entry_read(&entry, &item, &why);
    INVARIANT((err == 0) == (why[0] == '\0'));
    INVARIANT(entry.previous <= FLEET_REVISION_MAX && entry.revision <= FLEET_REVISION_MAX);
    if (err == 0) {
        INVARIANT(entry.epoch.len == FLEET_EPOCH_LEN && entry.tag.len == STORE_ID_LEN);
        INVARIANT(entry.previous <= entry.revision && entry.stream_id.len > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = str_make((const char *)data, size);
    check_changes(text);
    check_record(text);
    check_entry(text);
    return 0;
}
