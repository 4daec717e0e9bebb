// SPDX-License-Identifier: MIT
// Members of plain types: read from JSON into a struct, written back when not default.
#include "model/codec_int.h"

void read_bool(struct reader *r, const struct at *at, json_t *value, void *to,
               const struct member *member)
{
    (void)member;
    if (!json_is_boolean(value)) {
        reader_wrong_type(r, at, "true or false", value);
        return;
    }
    *(bool *)to = json_is_true(value);
}

json_t *write_bool(const void *from, const struct member *member, bool *skip)
{
    bool value = *(const bool *)from;
    *skip = value == (member->rule != NULL);
    return *skip ? NULL : json_boolean(value);
}

void read_unsigned(struct reader *r, const struct at *at, json_t *value, void *to,
                   const struct member *member)
{
    const struct range *range = member->rule;
    if (!json_is_integer(value)) {
        reader_wrong_type(r, at, "a whole number", value);
        return;
    }
    json_int_t number = json_integer_value(value);
    if (number < 0 || (uint64_t)number < range->min || (uint64_t)number > range->max) {
        reader_problem(r, at, "must be %llu to %llu", (unsigned long long)range->min,
                       (unsigned long long)range->max);
        return;
    }
    *(unsigned *)to = (unsigned)number;
}

json_t *write_unsigned(const void *from, const struct member *member, bool *skip)
{
    const struct range *range = member->rule;
    unsigned value = *(const unsigned *)from;
    *skip = value == range->none;
    return *skip ? NULL : json_integer(value);
}

// A duration within `range` (ms). False (and a problem) when it is none.
static bool view_duration(struct reader *r, const struct at *at, json_t *value,
                          const struct range *range, uint64_t *ms)
{
    struct str text;
    if (!json_is_string(value)) {
        reader_wrong_type(r, at, "a duration such as \"500ms\", \"5s\", \"1h\"", value);
        return false;
    }
    text = str_make(json_string_value(value), json_string_length(value));
    if (duration_parse(text, ms) != 0) {
        reader_problem(r, at, "must be a duration such as \"500ms\", \"5s\", \"2m\", \"1h\"");
        return false;
    }
    if (*ms < range->min || *ms > range->max) {
        char min[VALUE_TEXT_MAX];
        char max[VALUE_TEXT_MAX];
        duration_format(range->min, min);
        duration_format(range->max, max);
        reader_problem(r, at, "must be %s to %s", min, max);
        return false;
    }
    return true;
}

static json_t *write_duration_text(uint64_t ms)
{
    char text[VALUE_TEXT_MAX];
    return json_stringn(text, duration_format(ms, text));
}

void read_duration(struct reader *r, const struct at *at, json_t *value, void *to,
                   const struct member *member)
{
    uint64_t ms;
    if (view_duration(r, at, value, member->rule, &ms)) {
        *(unsigned *)to = (unsigned)ms;
    }
}

json_t *write_duration(const void *from, const struct member *member, bool *skip)
{
    const struct range *range = member->rule;
    unsigned ms = *(const unsigned *)from;
    *skip = ms == range->none;
    return *skip ? NULL : write_duration_text(ms);
}

void read_seconds(struct reader *r, const struct at *at, json_t *value, void *to,
                  const struct member *member)
{
    uint64_t ms;
    if (!view_duration(r, at, value, member->rule, &ms)) {
        return;
    }
    if (ms % 1000 != 0) {
        reader_problem(r, at, "must be whole seconds");
        return;
    }
    *(unsigned *)to = (unsigned)(ms / 1000);
}

json_t *write_seconds(const void *from, const struct member *member, bool *skip)
{
    const struct range *range = member->rule;
    uint64_t ms = (uint64_t) * (const unsigned *)from * 1000;
    *skip = ms == range->none;
    return *skip ? NULL : write_duration_text(ms);
}

void read_size(struct reader *r, const struct at *at, json_t *value, void *to,
               const struct member *member)
{
    const struct range *range = member->rule;
    uint64_t bytes;
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        bytes = (uint64_t)json_integer_value(value);
    } else if (!json_is_string(value) ||
               size_parse(str_make(json_string_value(value), json_string_length(value)), &bytes) !=
                   0) {
        reader_problem(r, at, "must be a size such as \"64k\", \"100m\", or a number of bytes");
        return;
    }
    if (bytes < range->min || bytes > range->max) {
        char min[VALUE_TEXT_MAX];
        char max[VALUE_TEXT_MAX];
        size_format(range->min, min);
        size_format(range->max, max);
        reader_problem(r, at, "must be %s to %s bytes", min, max);
        return;
    }
    *(uint64_t *)to = bytes;
}

json_t *write_size(const void *from, const struct member *member, bool *skip)
{
    const struct range *range = member->rule;
    uint64_t bytes = *(const uint64_t *)from;
    *skip = bytes == range->none;
    char text[VALUE_TEXT_MAX];
    return *skip ? NULL : json_stringn(text, size_format(bytes, text));
}

bool word_find(const struct words *words, struct str text, unsigned *value)
{
    for (unsigned i = 0; i < words->count; i++) {
        if (str_eq(words->words[i].text, text)) {
            *value = words->words[i].value;
            return true;
        }
    }
    return false;
}

void read_word(struct reader *r, const struct at *at, json_t *value, void *to,
               const struct member *member)
{
    const struct words *words = member->rule;
    struct str text;
    if (!reader_view(r, at, value, &text)) {
        return;
    }
    unsigned found;
    if (word_find(words, text, &found)) {
        *(unsigned *)to = found;
        return;
    }
    char list[256] = "";
    size_t len = 0;
    for (unsigned i = 0; i < words->count && len < sizeof list - 1; i++) {
        len += (size_t)snprintf(list + len, sizeof list - len, "%s\"%.*s\"", i == 0 ? "" : ", ",
                                STR_ARG(words->words[i].text));
    }
    reader_problem(r, at, "must be one of %s", list);
}

json_t *write_word(const void *from, const struct member *member, bool *skip)
{
    const struct words *words = member->rule;
    unsigned value = *(const unsigned *)from;
    *skip = value == words->none;
    for (unsigned i = 0; i < words->count && !*skip; i++) {
        if (words->words[i].value == value) {
            return write_str(words->words[i].text);
        }
    }
    return NULL;
}

void read_text(struct reader *r, const struct at *at, json_t *value, void *to,
               const struct member *member)
{
    const struct text_rule *rule = member->rule;
    struct str text;
    if (!reader_view(r, at, value, &text)) {
        return;
    }
    if (text.len > rule->max) {
        reader_problem(r, at, "has %zu bytes; at most %zu are allowed", text.len, rule->max);
        return;
    }
    if (rule->is_valid != NULL && !rule->is_valid(text)) {
        reader_problem(r, at, "must be %s", rule->must);
        return;
    }
    *(struct str *)to = reader_copy(r, text);
}

json_t *write_text(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    const struct str *text = from;
    *skip = text->len == 0;
    return *skip ? NULL : write_str(*text);
}

const struct text_rule rule_name = {
    VALUE_NAME_MAX, name_is_valid,
    "a name: 1 to 200 letters, digits or any of . _ : @ -, beginning with a letter, digit or _"};

static const struct range timeout_range = {1, VALUE_DURATION_MAX_MS, 0};

#define TIMEOUT(name)                                                 \
    {                                                                 \
        {#name, sizeof #name - 1}, read_duration, write_duration,     \
            offsetof(struct timeouts_decl, name##_ms), &timeout_range \
    }
static const struct member timeout_members[] = {TIMEOUT(connect), TIMEOUT(response), TIMEOUT(idle),
                                                TIMEOUT(tunnel_idle), TIMEOUT(request)};
static const struct member_table timeout_table = {timeout_members, MEMBER_COUNT(timeout_members),
                                                  "timeouts"};

void read_timeouts(struct reader *r, const struct at *at, json_t *value, void *to,
                   const struct member *member)
{
    (void)member;
    reader_read_object(r, at, value, to, &timeout_table);
}

json_t *write_timeouts(const void *from, const struct member *member, bool *skip)
{
    (void)member;
    return write_part(from, &timeout_table, skip);
}
