// SPDX-License-Identifier: MIT
// Text as pointer and length. A `struct str` is a borrowed view: it owns nothing, is not
// terminated, and lives as long as what it points into. All functions: any thread.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *p;
    size_t len;
};

#define STR(literal) ((struct str){"" literal, sizeof(literal) - 1})
#define STR_NULL     ((struct str){NULL, 0})
// For printf: printf("%.*s", STR_ARG(s))
#define STR_ARG(s) (int)(s).len, (s).p

static inline struct str str_make(const char *p, size_t len)
{
    return (struct str){p, len};
}

// A view of a terminated string; NULL gives the empty view.
static inline struct str str_from_c(const char *text)
{
    return (struct str){text, text == NULL ? 0 : strlen(text)};
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static inline char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static inline bool ascii_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// The value of a hexadecimal digit, or -1.
static inline int ascii_hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Equality without ASCII case.
bool str_eq_case(struct str a, struct str b);
// <0, 0, >0 in byte order; a prefix sorts first.
int str_cmp(struct str a, struct str b);
bool str_starts(struct str s, struct str prefix);
bool str_starts_case(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
// The part from `from` on (clamped to the end).
struct str str_from(struct str s, size_t from);
// At most `len` bytes from `from` on (clamped).
struct str str_sub(struct str s, size_t from, size_t len);
// Without leading and trailing SP and HTAB (OWS, RFC 9110 5.6.3).
struct str str_trim(struct str s);
// Index of the first c, or SIZE_MAX.
size_t str_find_char(struct str s, char c);
size_t str_rfind_char(struct str s, char c);
// Index of the first needle, or SIZE_MAX.
size_t str_find(struct str s, struct str needle);
// Takes the next element of a comma separated list (RFC 9110 5.6.1) off *rest, trimmed; empty
// elements are passed over. Commas inside quoted strings do not separate. False at the end.
bool str_next_element(struct str *rest, struct str *element);
// Splits at the first `c`: true, *head before and *tail after it; false: *head is all, *tail empty.
bool str_split(struct str s, char c, struct str *head, struct str *tail);
// Decimal digits only, no sign, no blanks, no overflow: 0 and *value, or -1.
int str_to_u64(struct str s, uint64_t *value);
// A terminated copy from malloc, NULL when out of memory.
char *str_dup(struct str s);
// Copies as much as fits and terminates; returns the number of bytes copied. size > 0.
size_t str_copy(char *to, size_t size, struct str s);
// The same for secrets: time depends on the lengths only.
bool str_eq_secret(struct str a, struct str b);
