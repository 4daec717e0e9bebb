// SPDX-License-Identifier: MIT
// What the tests of the HTTP/1 parsers share: each text is parsed whole and as every prefix, in a
// block of exactly its size, so that a read behind the end is seen.
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "http/h1/h1_parse.h"

static const struct h1_limits check_limits = {
    .head_max = 32768, .target_max = 8192, .field_max = 100};

struct check {
    const struct h1_limits *limits;
    bool response;
    enum http_method method; // of the request that a response answers
    struct http_field fields[H1_FIELD_MAX];
    struct http_head head;
    char *copy;
};

static inline ptrdiff_t check_once(struct check *check, struct str text)
{
    free(check->copy);
    check->copy = malloc(text.len == 0 ? 1 : text.len);
    assert_non_null(check->copy);
    if (text.len > 0) {
        memcpy(check->copy, text.p, text.len);
    }
    const struct h1_limits *limits = check->limits == NULL ? &check_limits : check->limits;
    if (check->response) {
        return h1_parse_response(check->copy, text.len, check->method, limits, check->fields,
                                 &check->head);
    }
    return h1_parse_request(check->copy, text.len, limits, check->fields, &check->head);
}

// The result of the whole, after every prefix gave that or "more". The head is that of the whole.
static inline ptrdiff_t check_all(struct check *check, struct str text)
{
    ptrdiff_t whole = check_once(check, text);
    for (size_t len = 0; len < text.len; len++) {
        ptrdiff_t part = check_once(check, str_make(text.p, len));
        if (whole > 0) {
            assert_int_equal(part, len < (size_t)whole ? 0 : whole);
        } else if (part != 0) {
            assert_int_equal(part, whole);
        }
    }
    assert_int_equal(check_once(check, text), whole);
    return whole;
}

static inline void check_fini(struct check *check)
{
    free(check->copy);
    check->copy = NULL;
}

struct check_case {
    struct str text;
    int err; // 0: accepted
};

// A literal with its length, so that it may hold NULs.
#define CASE(text, err)                  \
    {                                    \
        {"" text, sizeof(text) - 1}, err \
    }

static inline void check_cases(struct check *check, const struct check_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ptrdiff_t result = check_all(check, cases[i].text);
        if (cases[i].err != 0 ? result != cases[i].err : result <= 0) {
            fail_msg("%.*s: %s, not %s", STR_ARG(cases[i].text), err_token((int)result),
                     err_token(cases[i].err));
        }
    }
}

#define CHECK_CASES(check, cases) check_cases(check, cases, sizeof(cases) / sizeof((cases)[0]))

static inline void check_str(struct str got, const char *expected)
{
    if (!str_eq(got, str_from_c(expected))) {
        fail_msg("got \"%.*s\", not \"%s\"", STR_ARG(got), expected);
    }
}
