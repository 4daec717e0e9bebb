// SPDX-License-Identifier: MIT
// Plain scalars by the core schema (YAML 1.2.2, 10.3.2).
#include "model/yaml_int.h"
#include <errno.h>
#include <math.h>

enum { NUMBER_MAX = 64 }; // bytes of a number; a longer one is text

static bool is_word(struct str text, struct str lower)
{
    if (!str_eq_case(text, lower)) {
        return false;
    }
    // "true", "True", "TRUE", but not "tRUE".
    bool rest_lower = true;
    bool rest_upper = true;
    for (size_t i = 1; i < text.len; i++) {
        rest_lower &= text.p[i] >= 'a';
        rest_upper &= text.p[i] < 'a';
    }
    bool first_upper = text.p[0] < 'a';
    return rest_lower || (rest_upper && first_upper);
}

static size_t skip_digits(struct str text, size_t i)
{
    while (i < text.len && ascii_is_digit(text.p[i])) {
        i++;
    }
    return i;
}

// [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?  *is_int: only sign and digits.
static bool is_number(struct str text, bool *is_int)
{
    size_t i = text.len > 0 && (text.p[0] == '-' || text.p[0] == '+') ? 1 : 0;
    size_t whole = skip_digits(text, i);
    bool digits = whole > i;
    i = whole;
    *is_int = digits && i == text.len;
    if (i < text.len && text.p[i] == '.') {
        size_t end = skip_digits(text, i + 1);
        digits |= end > i + 1;
        i = end;
    }
    if (!digits) {
        return false;
    }
    if (i < text.len && (text.p[i] == 'e' || text.p[i] == 'E')) {
        i++;
        i += i < text.len && (text.p[i] == '-' || text.p[i] == '+');
        size_t end = skip_digits(text, i);
        if (end == i) {
            return false;
        }
        i = end;
    }
    return i == text.len;
}

// "0o17", "0x1F": 8 or 16, else 0.
static int find_radix(struct str text)
{
    int radix = str_starts(text, STR("0o")) ? 8 : str_starts(text, STR("0x")) ? 16 : 0;
    for (size_t i = 2; i < text.len; i++) {
        int digit = ascii_hex(text.p[i]);
        if (digit < 0 || digit >= radix) {
            return 0;
        }
    }
    return text.len > 2 ? radix : 0;
}

static const char *parse_int(struct str text, int radix, json_t **value)
{
    char digits[NUMBER_MAX + 1];
    str_copy(digits, sizeof digits, radix == 10 ? text : str_from(text, 2));
    errno = 0;
    long long number = strtoll(digits, NULL, radix);
    if (errno != 0) {
        return "the number is too large";
    }
    *value = json_integer(number);
    return NULL;
}

const char *yaml_plain_scalar(struct str text, json_t **value)
{
    bool is_int = false;
    int radix = find_radix(text);
    *value = NULL;
    if (text.len == 0 || str_eq(text, STR("~")) || is_word(text, STR("null"))) {
        *value = json_null();
    } else if (is_word(text, STR("true")) || is_word(text, STR("false"))) {
        *value = json_boolean(ascii_lower(text.p[0]) == 't');
    } else if (text.len <= NUMBER_MAX && radix != 0) {
        return parse_int(text, radix, value);
    } else if (text.len <= NUMBER_MAX && is_number(text, &is_int)) {
        if (is_int) {
            return parse_int(text, 10, value);
        }
        char digits[NUMBER_MAX + 1];
        str_copy(digits, sizeof digits, text);
        double number = strtod(digits, NULL);
        if (!isfinite(number)) {
            return "the number is too large";
        }
        *value = json_real(number);
    } else {
        size_t sign = text.p[0] == '-' || text.p[0] == '+';
        struct str rest = str_from(text, sign);
        if ((rest.len == 4 && rest.p[0] == '.' && is_word(str_from(rest, 1), STR("inf"))) ||
            str_eq(text, STR(".nan")) || str_eq(text, STR(".NaN")) || str_eq(text, STR(".NAN"))) {
            return "infinity and not-a-number cannot be used";
        }
        *value = json_stringn(text.p, text.len);
    }
    return NULL;
}
