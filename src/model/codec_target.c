// SPDX-License-Identifier: MIT
// Lists of targets, in routes and in pools.
#include "model/codec_int.h"

enum { ZONE_MAX = 200, TARGETS_MAX = 1000 };

static const struct range weight_range = {0, 65535, 1};
static const struct range connections_range = {0, 65535, 0};
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

static const struct member target_members[] = {
    {{"address", 7}, read_address, write_address, offsetof(struct target_decl, address), NULL},
    {{"weight", 6},
     read_unsigned,
     write_unsigned,
     offsetof(struct target_decl, weight),
     &weight_range},
    {{"state", 5}, read_word, write_word, offsetof(struct target_decl, state), &state_words},
    {{"zone", 4}, read_text, write_text, offsetof(struct target_decl, zone), &zone_rule},
    {{"backup", 6}, read_bool, write_bool, offsetof(struct target_decl, backup), NULL},
    {{"max_connections", 15},
     read_unsigned,
     write_unsigned,
     offsetof(struct target_decl, max_connections),
     &connections_range},
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
    reader_require_member(r, at, value, "address");
}

_Static_assert((int)TARGETS_MAX <= (int)READER_TEXTS_MAX, "all are compared");

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
    const struct str *first = list->count == 0 ? NULL : &list->targets[0].address.text;
    reader_check_repeated(r, at, first, sizeof *list->targets, list->count, "target");
}

static bool is_plain(const struct target_decl *target)
{
    return target->weight == 1 && target->state == TARGET_UP && target->zone.len == 0 &&
           !target->backup && target->max_connections == 0;
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
