// SPDX-License-Identifier: MIT
// What stands in Redis, decoded: entries of the change stream and records of the hashes. Anybody may have
// written there: all of it is checked, nothing is taken for granted. Pure functions; any thread.
#include "fleet/fleet_int.h"

enum { FIELDS_MAX = 64 }; // of an entry: ours have ten, more are not ours

// ---- one value ----

static bool is_hex(struct str s, size_t len)
{
    if (s.len != len) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (ascii_hex(s.p[i]) < 0 || (s.p[i] >= 'A' && s.p[i] <= 'F')) {
            return false;
        }
    }
    return true;
}

static bool read_revision(struct str s, uint64_t *revision)
{
    uint64_t number;
    if (s.len > 16 || str_to_u64(s, &number) != 0 || number > FLEET_REVISION_MAX) {
        return false;
    }
    *revision = number;
    return true;
}

// "1732212345678-0"
static bool is_stream_id(struct str s)
{
    size_t dash = str_find_char(s, '-');
    uint64_t number;
    return s.len < FLEET_STREAM_ID_MAX && dash != SIZE_MAX &&
           str_to_u64(str_sub(s, 0, dash), &number) == 0 &&
           str_to_u64(str_from(s, dash + 1), &number) == 0;
}

// ---- an entry ----

// What is known of an entry before it is judged.
struct fields {
    struct str version, kind, epoch, revision, previous, tag, node, changes;
    bool wants_beat;
};

static bool read_fields(struct fields *fields, const struct redis_reply *list)
{
    *fields = (struct fields){.wants_beat = false};
    if (list->type != REDIS_ARRAY || list->count % 2 != 0 || list->count > (unsigned)FIELDS_MAX) {
        return false;
    }
    for (unsigned i = 0; i + 1 < list->count; i += 2) {
        const struct redis_reply *name = redis_reply_item(list, i);
        const struct redis_reply *value = redis_reply_item(list, i + 1);
        if (name->type != REDIS_STRING || value->type != REDIS_STRING) {
            return false;
        }
        if (name->text.len != 1) {
            continue; // a newer version's
        }
        switch (name->text.p[0]) {
        case 'v':
            fields->version = value->text;
            break;
        case 'k':
            fields->kind = value->text;
            break;
        case 'e':
            fields->epoch = value->text;
            break;
        case 'r':
            fields->revision = value->text;
            break;
        case 'p':
            fields->previous = value->text;
            break;
        case 't':
            fields->tag = value->text;
            break;
        case 'n':
            fields->node = value->text;
            break;
        case 'c':
            fields->changes = value->text;
            break;
        case 'w':
            fields->wants_beat = str_eq(value->text, STR("1"));
            break;
        default:
            break;
        }
    }
    return true;
}

static const char *judge(struct fleet_entry *entry, const struct fields *fields)
{
    if (!str_eq(fields->version, STR("1"))) {
        return fields->version.len == 0 ? "it is not a record of this store"
                                        : "a newer version has written it";
    }
    if (!is_hex(fields->epoch, FLEET_EPOCH_LEN)) {
        return "its epoch is malformed";
    }
    if (entry->revision == 0 || entry->previous > entry->revision) {
        return "its revisions are malformed";
    }
    if (!is_hex(fields->tag, STORE_ID_LEN)) {
        return "its tag is malformed";
    }
    if (str_eq(fields->kind, STR("write"))) {
        entry->kind = FLEET_ENTRY_WRITE;
        return entry->previous == entry->revision ? "its revisions are malformed" : NULL;
    }
    entry->kind = FLEET_ENTRY_EPOCH;
    return str_eq(fields->kind, STR("epoch")) ? NULL : "its kind is not known";
}

int fleet_entry_read(struct fleet_entry *entry, const struct redis_reply *item, const char **why)
{
    *entry = (struct fleet_entry){.kind = FLEET_ENTRY_WRITE};
    *why = "it is not an entry of a stream";
    const struct redis_reply *id = redis_reply_item(item, 0);
    if (item->type != REDIS_ARRAY || id->type != REDIS_STRING || !is_stream_id(id->text)) {
        return ERR_SYNTAX;
    }
    entry->stream_id = id->text;
    struct fields fields;
    if (!read_fields(&fields, redis_reply_item(item, 1))) {
        return ERR_SYNTAX;
    }
    uint64_t revision;
    uint64_t previous;
    bool is_linked =
        read_revision(fields.revision, &revision) && read_revision(fields.previous, &previous);
    if (is_linked) {
        entry->revision = revision;
        entry->previous = previous;
    }
    // Also of one that is refused: whoever reports it says whose it is.
    entry->node = str_sub(fields.node, 0, FLEET_TEXT_MAX - 1);
    const char *fault = judge(entry, &fields);
    if (fault != NULL) {
        *why = fault;
        return ERR_SYNTAX;
    }
    entry->epoch = fields.epoch;
    entry->tag = fields.tag;
    entry->changes = fields.changes;
    entry->wants_beat = fields.wants_beat;
    *why = "";
    return 0;
}

// ---- a change ----

static enum noun find_noun(struct str name)
{
    for (unsigned i = 0; i < NOUN_COUNT; i++) {
        if (str_eq(noun_name((enum noun)i), name)) {
            return (enum noun)i;
        }
    }
    return NOUN_COUNT;
}

// Takes a length off *head, up to the next blank or its end.
static bool take_len(struct str *head, size_t *len)
{
    struct str word;
    uint64_t number;
    str_split(*head, ' ', &word, head);
    if (word.len > 10 || str_to_u64(word, &number) != 0 || number > SIZE_MAX) {
        return false;
    }
    *len = (size_t)number;
    return true;
}

static bool take(struct str *rest, size_t len, struct str *part)
{
    if (len > rest->len) {
        return false;
    }
    *part = str_sub(*rest, 0, len);
    *rest = str_from(*rest, len);
    return true;
}

int fleet_changes_next(struct str *rest, struct fleet_change *change)
{
    *change = (struct fleet_change){.noun = NOUN_COUNT};
    if (rest->len == 0) {
        return STEP_AGAIN;
    }
    struct str head;
    struct str body;
    if (!str_split(*rest, '\n', &head, &body) || head.len < 2) {
        return ERR_SYNTAX;
    }
    change->op = head.p[0];
    if (change->op != '+' && change->op != '=' && change->op != '-') {
        return ERR_SYNTAX;
    }
    struct str name;
    size_t key_len;
    size_t value_len;
    str_split(str_from(head, 1), ' ', &name, &head);
    if (name.len == 0 || !take_len(&head, &key_len) || !take_len(&head, &value_len)) {
        return ERR_SYNTAX;
    }
    size_t secret_len = 0;
    change->keep_secret = str_eq(head, STR("k"));
    bool has_secret = !change->keep_secret && !str_eq(head, STR("-"));
    if (has_secret && (!take_len(&head, &secret_len) || head.len > 0 || secret_len == 0)) {
        return ERR_SYNTAX;
    }
    bool is_deletion = change->op == '-';
    if (key_len == 0 || is_deletion != (value_len == 0) ||
        (is_deletion && (has_secret || change->keep_secret)) ||
        !take(&body, key_len, &change->key) || !take(&body, value_len, &change->value) ||
        !take(&body, secret_len, &change->secret)) {
        return ERR_SYNTAX;
    }
    change->noun = find_noun(name);
    *rest = body;
    return STEP_DONE;
}

// ---- a record ----

int fleet_record_read(struct str text, uint64_t *revision, struct str *refs, struct str *value)
{
    struct str head;
    struct str number;
    struct str references;
    if (!str_split(text, '\n', &head, value) || value->len == 0 ||
        !str_split(head, ' ', &number, &references) || !read_revision(number, revision)) {
        return ERR_SYNTAX;
    }
    if (refs != NULL) {
        *refs = references;
    }
    return 0;
}
