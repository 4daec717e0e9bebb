// SPDX-License-Identifier: MIT
#include "admin/admin_int.h"
#include "base/clock.h"
#include <time.h>

int text_duration_ms(struct str text, uint64_t *ms)
{
    static const struct {
        struct str unit;
        uint64_t ms;
    } units[] = {
        {{"ms", 2}, 1},      {{"s", 1}, 1000},     {{"m", 1}, 60000},
        {{"h", 1}, 3600000}, {{"d", 1}, 86400000},
    };
    size_t digits = 0;
    while (digits < text.len && ascii_is_digit(text.p[digits])) {
        digits++;
    }
    uint64_t count = 0;
    if (str_to_u64(str_sub(text, 0, digits), &count) != 0) {
        return ERR_SYNTAX;
    }
    struct str unit = str_from(text, digits);
    if (unit.len == 0 && count == 0) {
        *ms = 0;
        return 0;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (str_eq(unit, units[i].unit) && count <= UINT64_MAX / units[i].ms) {
            *ms = count * units[i].ms;
            return 0;
        }
    }
    return ERR_SYNTAX;
}

bool text_etag_matches(struct str list, uint64_t revision, bool *any)
{
    *any = false;
    struct str element;
    while (str_next_element(&list, &element)) {
        if (str_eq(element, STR("*"))) {
            *any = true;
            return true;
        }
        uint64_t value = 0;
        if (element.len > 2 && element.p[0] == '"' && element.p[element.len - 1] == '"' &&
            str_to_u64(str_sub(element, 1, element.len - 2), &value) == 0 && value == revision) {
            return true;
        }
    }
    return false;
}

bool text_is_true(struct str value)
{
    return !str_eq(value, STR("false")) && !str_eq(value, STR("0")) && !str_eq(value, STR("no"));
}

struct str text_time(char to[TEXT_TIME_LEN], uint64_t seconds)
{
    static const uint64_t last = 253402300799; // 9999-12-31T23:59:59Z
    time_t time = (time_t)seconds;
    struct tm tm;
    if (seconds > last || gmtime_r(&time, &tm) == NULL) {
        to[0] = '\0';
        return str_make(to, 0);
    }
    return str_make(to, strftime(to, TEXT_TIME_LEN, "%Y-%m-%dT%H:%M:%SZ", &tm));
}

struct str text_time_ms(char to[TEXT_TIME_LEN], uint64_t unix_ms)
{
    clock_iso(to, unix_ms * NS_PER_MS);
    to[CLOCK_ISO_LEN] = '\0';
    return str_make(to, CLOCK_ISO_LEN);
}
