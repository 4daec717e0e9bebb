// SPDX-License-Identifier: MIT
#include "base/str.h"

bool str_eq_case(struct str a, struct str b)
{
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (ascii_lower(a.p[i]) != ascii_lower(b.p[i])) {
            return false;
        }
    }
    return true;
}

int str_cmp(struct str a, struct str b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len == 0 ? 0 : memcmp(a.p, b.p, len);
    if (order != 0) {
        return order;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

bool str_starts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && str_eq(str_make(s.p, prefix.len), prefix);
}

bool str_starts_case(struct str s, struct str prefix)
{
    return s.len >= prefix.len && str_eq_case(str_make(s.p, prefix.len), prefix);
}

bool str_ends(struct str s, struct str suffix)
{
    return s.len >= suffix.len && str_eq(str_from(s, s.len - suffix.len), suffix);
}

struct str str_from(struct str s, size_t from)
{
    if (from >= s.len) {
        return str_make(s.p == NULL ? NULL : s.p + s.len, 0);
    }
    return str_make(s.p + from, s.len - from);
}

struct str str_sub(struct str s, size_t from, size_t len)
{
    s = str_from(s, from);
    if (s.len > len) {
        s.len = len;
    }
    return s;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct str str_trim(struct str s)
{
    while (s.len > 0 && is_blank(s.p[0])) {
        s.p++;
        s.len--;
    }
    while (s.len > 0 && is_blank(s.p[s.len - 1])) {
        s.len--;
    }
    return s;
}

size_t str_find_char(struct str s, char c)
{
    const char *at = s.len == 0 ? NULL : memchr(s.p, c, s.len);
    return at == NULL ? SIZE_MAX : (size_t)(at - s.p);
}

size_t str_rfind_char(struct str s, char c)
{
    for (size_t i = s.len; i > 0; i--) {
        if (s.p[i - 1] == c) {
            return i - 1;
        }
    }
    return SIZE_MAX;
}

size_t str_find(struct str s, struct str needle)
{
    if (needle.len == 0) {
        return 0;
    }
    for (size_t i = 0; i < s.len && needle.len <= s.len - i; i++) {
        if (memcmp(s.p + i, needle.p, needle.len) == 0) {
            return i;
        }
    }
    return SIZE_MAX;
}

static size_t element_end(struct str s)
{
    bool quoted = false;
    for (size_t i = 0; i < s.len; i++) {
        if (quoted && s.p[i] == '\\') {
            i++;
        } else if (s.p[i] == '"') {
            quoted = !quoted;
        } else if (!quoted && s.p[i] == ',') {
            return i;
        }
    }
    return s.len;
}

bool str_next_element(struct str *rest, struct str *element)
{
    while (rest->len > 0) {
        size_t end = element_end(*rest);
        *element = str_trim(str_sub(*rest, 0, end));
        *rest = str_from(*rest, end + 1);
        if (element->len > 0) {
            return true;
        }
    }
    return false;
}

bool str_split(struct str s, char c, struct str *head, struct str *tail)
{
    size_t at = str_find_char(s, c);
    if (at == SIZE_MAX) {
        *head = s;
        *tail = str_from(s, s.len);
        return false;
    }
    *head = str_sub(s, 0, at);
    *tail = str_from(s, at + 1);
    return true;
}

int str_to_u64(struct str s, uint64_t *value)
{
    if (s.len == 0) {
        return -1;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (!ascii_is_digit(s.p[i])) {
            return -1;
        }
        uint64_t digit = (uint64_t)(s.p[i] - '0');
        if (sum > (UINT64_MAX - digit) / 10) {
            return -1;
        }
        sum = sum * 10 + digit;
    }
    *value = sum;
    return 0;
}

char *str_dup(struct str s)
{
    char *copy = malloc(s.len + 1);
    if (copy == NULL) {
        return NULL;
    }
    if (s.len > 0) {
        memcpy(copy, s.p, s.len);
    }
    copy[s.len] = '\0';
    return copy;
}

size_t str_copy(char *to, size_t size, struct str s)
{
    size_t len = s.len < size ? s.len : size - 1;
    if (len > 0) {
        memcpy(to, s.p, len);
    }
    to[len] = '\0';
    return len;
}

bool str_eq_secret(struct str a, struct str b)
{
    unsigned difference = a.len != b.len;
    for (size_t i = 0; i < a.len; i++) {
        difference |= (unsigned char)a.p[i] ^ (b.len > 0 ? (unsigned char)b.p[i % b.len] : 1u);
    }
    return difference == 0;
}
