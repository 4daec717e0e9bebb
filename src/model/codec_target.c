// SPDX-License-Identifier: MIT
// Lists of targets, in routes and in pools.
#include "base/hash.h"
#include "model/codec_int.h"

enum { ZONE_MAX = 200, SEEN_SIZE = 2048, TARGETS_MAX = 1000, FEW = 16 };

static const struct range weight_range = {0, 65535, 1};
static const struct words state_words = {(const struct word[]){{{"up", 2}, TARGET_UP},
                                                               {{"drain", 5}, TARGET_DRAIN},
                                                               {{"down", 4}, TARGET_DOWN}},
                                         3, TARGET_UP};
static const struct text_rule zone_rule = {ZONE_MAX, name_is_valid,
                                           "a name of letters, digits or any of . _ : @ -"};

static void read_address(struct reader *r, const struct at *at, json_t *value, void *to,
                         const struct member *member)
{
    (void)member;
    struct str text;
    char buffer[TARGET_TEXT_MAX];
    struct target_address *address = to;
    if (!reader_view(r, at, value, &text)) {
        return;
    }
    const char *wrong = target_parse(text, buffer, address);
    if (wrong != NULL) {
        memset(address, 0, sizeof *address);
        reader_problem(r, at, "%s", wrong);
        return;
    }
    struct str copy = reader_copy(r, address->text);
    if (copy.p == NULL) {
        memset(address, 0, sizeof *address);
        return;
    }
    target_rebase(address, copy.p);
}

static json_t *write_address(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    (void)skip;
    return write_str(((const struct target_address *)from)->text);
}

// backup: false and max_connections: 0 are what this version does anyway.
static void refuse_unless_off(struct reader *r, const struct at *at, json_t *value, void *to,
                              const struct member *member)
{
    (void)to;
    bool is_number = member->rule != NULL;
    if (is_number ? !json_is_integer(value) : !json_is_boolean(value)) {
        reader_wrong_type(r, at, is_number ? "a whole number" : "true or false", value);
    } else if (is_number ? json_integer_value(value) != 0 : json_is_true(value)) {
        reader_problem(r, at, "\"%s\" is not part of this version", at->name);
    }
}

static const struct member target_members[] = {
    {{"address", 7}, read_address, write_address, offsetof(struct target_decl, address), NULL},
    {{"weight", 6},
     read_unsigned,
     write_unsigned,
     offsetof(struct target_decl, weight),
     &weight_range},
    {{"state", 5}, read_word, write_word, offsetof(struct target_decl, state), &state_words},
    {{"zone", 4}, read_text, write_text, offsetof(struct target_decl, zone), &zone_rule},
    {{"backup", 6}, refuse_unless_off, NULL, offsetof(struct target_decl, backup), NULL},
    {{"max_connections", 15},
     refuse_unless_off,
     NULL,
     offsetof(struct target_decl, backup),
     &weight_range},
};
static const struct member_table target_table = {target_members, MEMBER_COUNT(target_members),
                                                 "a target"};

static void read_target(struct reader *r, const struct at *at, json_t *value,
                        struct target_decl *target)
{
    target->weight = 1;
    if (json_is_string(value)) {
        read_address(r, at, value, &target->address, NULL);
        return;
    }
    if (!json_is_object(value)) {
        reader_wrong_type(r, at, "an address or an object", value);
        return;
    }
    reader_read_object(r, at, value, target, &target_table);
    if (json_object_get(value, "address") == NULL) {
        const struct at address = {at, "address", 0};
        reader_problem(r, &address, "is missing");
    }
}

// Open addressing over the addresses seen; the table is four times as large as the list may be.
struct seen {
    uint16_t index[SEEN_SIZE]; // of the target, plus 1
};

static unsigned find_before(struct seen *seen, const struct target_decl *targets, unsigned i)
{
    struct str text = targets[i].address.text;
    uint64_t slot = hash_str(text) % SEEN_SIZE;
    for (; seen->index[slot] != 0; slot = (slot + 1) % SEEN_SIZE) {
        unsigned other = seen->index[slot] - 1u;
        if (str_eq(targets[other].address.text, text)) {
            return other;
        }
    }
    seen->index[slot] = (uint16_t)(i + 1);
    return i;
}

static unsigned find_before_in_few(const struct target_decl *targets, unsigned i)
{
    unsigned other = 0;
    while (other < i && !str_eq(targets[other].address.text, targets[i].address.text)) {
        other++;
    }
    return other;
}

static void check_duplicates(struct reader *r, const struct at *at,
                             const struct target_decl *targets, unsigned count)
{
    struct seen seen;
    if (count > FEW) {
        memset(&seen, 0, sizeof seen);
    }
    for (unsigned i = 0; i < count; i++) {
        if (targets[i].address.text.len == 0) {
            continue; // already a problem
        }
        unsigned other =
            count > FEW ? find_before(&seen, targets, i) : find_before_in_few(targets, i);
        if (other < i) {
            const struct at here = {at, NULL, i};
            reader_problem(r, &here, "is the same target as element %u, \"%.*s\"", other,
                           STR_ARG(targets[i].address.text));
        }
    }
}

_Static_assert(TARGETS_MAX < SEEN_SIZE, "a probe ends at a free place");

struct target_list {
    struct target_decl *targets;
    unsigned count;
};

// read_targets() is given the address of the pointer, with the count behind it.
_Static_assert(offsetof(struct route_decl, target_count) - offsetof(struct route_decl, targets) ==
                       offsetof(struct target_list, count) &&
                   offsetof(struct pool_decl, target_count) - offsetof(struct pool_decl, targets) ==
                       offsetof(struct target_list, count),
               "pointer and count are neighbours");

void read_targets(struct reader *r, const struct at *at, json_t *value, void *to,
                  const struct member *member)
{
    const struct range *range = member->rule;
    struct target_list *list = to;
    list->targets =
        reader_read_array(r, at, value, sizeof *list->targets, (unsigned)range->max, &list->count);
    if (json_is_array(value) && json_array_size(value) < range->min) {
        reader_problem(r, at, "must have at least %u target", (unsigned)range->min);
    }
    for (unsigned i = 0; i < list->count; i++) {
        const struct at here = {at, NULL, i};
        read_target(r, &here, json_array_get(value, i), &list->targets[i]);
    }
    check_duplicates(r, at, list->targets, list->count);
}

static bool is_plain(const struct target_decl *target)
{
    return target->weight == 1 && target->state == TARGET_UP && target->zone.len == 0;
}

// In a route a target that is only an address is written as a string; in a pool all are objects.
json_t *write_targets(const void *from, const struct member *member, bool *skip)
{
    const struct range *range = member->rule;
    const struct target_list *list = from;
    *skip = range->min > 0 && list->count == 0;
    json_t *array = *skip ? NULL : json_array();
    for (unsigned i = 0; i < list->count && array != NULL; i++) {
        const struct target_decl *target = &list->targets[i];
        json_t *item = range->min > 0 && is_plain(target) ? write_str(target->address.text)
                                                          : write_object(target, &target_table);
        if (json_array_append_new(array, item) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}
