// SPDX-License-Identifier: MIT
#include "http/h1/h1_int.h"
#include "http/h1/h1_scan.h"

// Why the line at `name` has no colon behind its name, which ends at `stop`.
static int name_error(const char *name, const char *stop)
{
    if (*stop == ' ' || *stop == '\t') {
        // RFC 9112 5.2: a line that begins with white space continues the one before it.
        return stop == name ? ERR_FIELD_FOLDED : ERR_FIELD_SPACE;
    }
    if (*stop == '\r' || *stop == '\n') {
        return ERR_FIELD_NAME;
    }
    return char_is(*stop, CHAR_VALUE) ? ERR_FIELD_NAME : ERR_CONTROL_BYTE;
}

static inline bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

// Finds the value from p (behind the colon) on. STEP_DONE and *next behind its line.
static inline int take_value(const char *p, const char *end, struct str *value, const char **next)
{
    while (p < end && is_blank(*p)) {
        p++;
    }
    const char *stop = h1_scan_value(p, end);
    int step = h1_take_line_end(stop, end, ERR_CONTROL_BYTE);
    if (step != STEP_DONE) {
        return step;
    }
    *next = stop + 2;
    while (stop > p && is_blank(stop[-1])) {
        stop--;
    }
    *value = str_make(p, (size_t)(stop - p));
    return STEP_DONE;
}

int h1_parse_fields(const char *p, const char *end, unsigned field_max, struct http_field *fields,
                    struct h1_section *section, const char **next)
{
    unsigned max = field_max < H1_FIELD_MAX ? field_max : H1_FIELD_MAX;
    unsigned lines = 0;
    unsigned count = 0;
    uint64_t seen = 0;
    uint64_t repeated = 0;
    for (;;) {
        if (p == end) {
            return STEP_AGAIN;
        }
        if (*p == '\r' || *p == '\n') {
            break;
        }
        bool plain = true;
        const char *stop = h1_scan_token(p, end, &plain);
        if (stop == end) {
            return STEP_AGAIN;
        }
        if (*stop != ':' || stop == p) {
            return name_error(p, stop);
        }
        if (lines == max) {
            return ERR_TOO_MANY_FIELDS;
        }
        lines++;
        struct http_field *field = &fields[count];
        field->name = str_make(p, (size_t)(stop - p));
        int step = take_value(stop + 1, end, &field->value, &p);
        if (step != STEP_DONE) {
            return step;
        }
        field->id = field_find(field->name);
        if (field->id == FIELD_OTHER) {
            if (!plain && field_is_disguised(field->name)) {
                continue;
            }
        } else {
            repeated |= seen & FIELD_BIT(field->id);
            seen |= FIELD_BIT(field->id);
            section->at[field->id] = (uint8_t)count;
        }
        count++;
    }
    int step = h1_take_line_end(p, end, ERR_LINE_END);
    if (step != STEP_DONE) {
        return step;
    }
    *next = p + 2;
    section->count = count;
    section->seen = seen;
    section->repeated = repeated;
    return STEP_DONE;
}

ptrdiff_t h1_parse_trailers(const char *p, size_t len, unsigned field_max,
                            struct http_field *fields, unsigned *field_count)
{
    *field_count = 0;
    bool whole = len >= H1_TRAILER_MAX;
    const char *next;
    struct h1_section section;
    int step =
        h1_parse_fields(p, p + (whole ? H1_TRAILER_MAX : len), field_max, fields, &section, &next);
    if (step == STEP_AGAIN) {
        return whole ? ERR_HEAD_TOO_LARGE : 0;
    }
    if (step < 0) {
        return step == ERR_TOO_MANY_FIELDS ? step : ERR_TRAILER;
    }
    unsigned kept = 0;
    for (unsigned i = 0; i < section.count; i++) {
        if (field_may_trail(fields[i].name, fields[i].id)) {
            fields[kept++] = fields[i];
        }
    }
    *field_count = kept;
    return next - p;
}
