// SPDX-License-Identifier: MIT
// Failures of requests, and what follows from them: the members passive and eject of a pool. Sets of
// statuses, which checks have as well.
#include "model/codec_int.h"

enum {
    STATUS_RANGES_MAX = 32,
    DAY_MS = 24 * 3600 * 1000,
    MAX_TIME_DEFAULT_MS = 300 * 1000,
};

// --- sets of statuses: "200-399", "200,204,300-399"

struct status_list {
    struct status_range *ranges;
    unsigned count;
};

_Static_assert(offsetof(struct health_decl, status_count) -
                           offsetof(struct health_decl, statuses) ==
                       offsetof(struct status_list, count) &&
                   offsetof(struct passive_decl, status_count) -
                           offsetof(struct passive_decl, statuses) ==
                       offsetof(struct status_list, count),
               "pointer and count are neighbours");

static bool parse_status(struct str text, uint16_t *status)
{
    uint64_t value;
    text = str_trim(text);
    if (text.len != 3 || str_to_u64(text, &value) != 0 || value < 100 || value > 599) {
        return false;
    }
    *status = (uint16_t)value;
    return true;
}

static bool parse_range(struct str text, struct status_range *range)
{
    struct str from;
    struct str to;
    bool is_range = str_split(text, '-', &from, &to);
    if (!parse_status(from, &range->from) || (is_range && !parse_status(to, &range->to))) {
        return false;
    }
    range->to = is_range ? range->to : range->from;
    return range->from <= range->to;
}

// Puts a range in its place among `count` that are in order; returns how many there are then.
static unsigned insert_range(struct status_range *ranges, unsigned count, struct status_range range)
{
    unsigned i = count;
    for (; i > 0 && ranges[i - 1].from > range.from; i--) {
        ranges[i] = ranges[i - 1];
    }
    ranges[i] = range;
    return count + 1;
}

// Ranges that touch become one, so that equal sets have one text.
static unsigned merge_ranges(struct status_range *ranges, unsigned count)
{
    unsigned out = 0;
    for (unsigned i = 1; i < count; i++) {
        if (ranges[i].from > ranges[out].to + 1) {
            ranges[++out] = ranges[i];
        } else if (ranges[i].to > ranges[out].to) {
            ranges[out].to = ranges[i].to;
        }
    }
    return out + 1;
}

void read_statuses(struct reader *r, const struct at *at, json_t *value, void *to,
                   const struct member *member)
{
    (void)member;
    struct status_list *list = to;
    struct status_range ranges[STATUS_RANGES_MAX];
    struct str text;
    char number[VALUE_TEXT_MAX];
    if (json_is_integer(value)) { // YAML's 200
        int len =
            snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        text = str_make(number, (size_t)len);
    } else if (!reader_view(r, at, value, &text)) {
        return;
    }
    unsigned count = 0;
    struct str rest = text;
    do {
        struct str element;
        struct status_range range;
        str_split(rest, ',', &element, &rest);
        if (!parse_range(element, &range)) {
            reader_problem(r, at,
                           "must be statuses from 100 to 599, such as \"200-399\" or "
                           "\"200,204,300-399\"");
            return;
        }
        if (count == STATUS_RANGES_MAX) {
            reader_problem(r, at, "has more than %u parts", (unsigned)STATUS_RANGES_MAX);
            return;
        }
        count = insert_range(ranges, count, range);
    } while (rest.len > 0);
    count = merge_ranges(ranges, count);
    struct status_range *copy = reader_alloc(r, count * sizeof *copy);
    if (copy != NULL) {
        memcpy(copy, ranges, count * sizeof *copy);
        *list = (struct status_list){copy, count};
    }
}

json_t *write_statuses(const void *from, const struct member *member, bool *skip)
{
    const struct status_list *list = from;
    const struct status_range *none = member->rule;
    *skip =
        list->count == 0 || (none != NULL && list->count == 1 &&
                             list->ranges[0].from == none->from && list->ranges[0].to == none->to);
    char text[STATUS_RANGES_MAX * sizeof "599-599,"];
    size_t len = 0;
    for (unsigned i = 0; i < list->count && len < sizeof text - 1; i++) {
        const struct status_range *range = &list->ranges[i];
        len +=
            (size_t)snprintf(text + len, sizeof text - len, "%s%u", i > 0 ? "," : "", range->from);
        if (range->to > range->from && len < sizeof text - 1) {
            len += (size_t)snprintf(text + len, sizeof text - len, "-%u", range->to);
        }
    }
    return *skip ? NULL : json_stringn(text, len);
}

// --- passive

static const struct range max_fails_range = {0, 1000, 3};
static const struct range fail_timeout_range = {100, DAY_MS, 10000};

const struct passive_decl pool_passive_default = {.max_fails = 3, .fail_timeout_ms = 10000};

static const struct member passive_members[] = {
    {{"max_fails", 9},
     read_unsigned,
     write_unsigned,
     offsetof(struct passive_decl, max_fails),
     &max_fails_range},
    {{"fail_timeout", 12},
     read_duration,
     write_duration,
     offsetof(struct passive_decl, fail_timeout_ms),
     &fail_timeout_range},
    {{"status", 6}, read_statuses, write_statuses, offsetof(struct passive_decl, statuses), NULL},
};
static const struct member_table passive_table = {passive_members, MEMBER_COUNT(passive_members),
                                                  "passive"};

void read_passive(struct reader *r, const struct at *at, json_t *value, void *to,
                  const struct member *member)
{
    (void)member;
    reader_read_object(r, at, value, to, &passive_table);
}

json_t *write_passive(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    return write_part(from, &passive_table, skip);
}

// --- eject

typedef __typeof__(((struct pool_decl *)0)->eject) eject_decl;

static const struct range max_percent_range = {0, 100, 50};
static const struct range base_time_range = {100, DAY_MS, 10000};
static const struct range max_time_range = {100, DAY_MS, 0};

static unsigned default_max_time(const eject_decl *eject)
{
    return eject->base_time_ms > MAX_TIME_DEFAULT_MS ? eject->base_time_ms : MAX_TIME_DEFAULT_MS;
}

static void read_max_time(struct reader *r, const struct at *at, json_t *value, void *to,
                          const struct member *member)
{
    read_duration(r, at, value, &((eject_decl *)to)->max_time_ms, member);
}

static json_t *write_max_time(const void *from, const struct member *member, bool *skip)
{
    const eject_decl *eject = from;
    if (eject->max_time_ms == default_max_time(eject)) {
        *skip = true;
        return NULL;
    }
    return write_duration(&eject->max_time_ms, member, skip);
}

static const struct member eject_members[] = {
    {{"max_percent", 11},
     read_unsigned,
     write_unsigned,
     offsetof(eject_decl, max_percent),
     &max_percent_range},
    {{"base_time", 9},
     read_duration,
     write_duration,
     offsetof(eject_decl, base_time_ms),
     &base_time_range},
    {{"max_time", 8}, read_max_time, write_max_time, 0, &max_time_range},
};
static const struct member_table eject_table = {eject_members, MEMBER_COUNT(eject_members),
                                                "eject"};

void pool_default_eject(struct pool_decl *pool)
{
    pool->eject.max_percent = (unsigned)max_percent_range.none;
    pool->eject.base_time_ms = (unsigned)base_time_range.none;
    pool->eject.max_time_ms = MAX_TIME_DEFAULT_MS;
}

void read_eject(struct reader *r, const struct at *at, json_t *value, void *to,
                const struct member *member)
{
    (void)member;
    eject_decl *eject = to;
    eject->max_time_ms = 0;
    reader_read_object(r, at, value, eject, &eject_table);
    if (eject->max_time_ms == 0) {
        eject->max_time_ms = default_max_time(eject);
    } else if (eject->max_time_ms < eject->base_time_ms) {
        const struct at max_time = {at, "max_time", 0};
        char text[VALUE_TEXT_MAX];
        duration_format(eject->base_time_ms, text);
        reader_problem(r, &max_time, "must not be shorter than base_time, %s", text);
    }
}

json_t *write_eject(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    return write_part(from, &eject_table, skip);
}
