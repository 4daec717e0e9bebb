// SPDX-License-Identifier: MIT
// What the tests of declarations share: decode JSON, and look for one problem at one place.
#pragma once
#include "model/declaration.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static inline int decode_text(enum noun noun, const char *key, const char *json,
                              enum decode_mode mode, struct declaration **out, unsigned *unknown,
                              struct problems *problems)
{
    json_t *value = model_json_parse(str_from_c(json), problems);
    if (value == NULL) {
        fail_msg("not JSON: %s", json);
    }
    int err = declaration_decode(noun, str_from_c(key), value, mode, out, unknown, problems);
    json_decref(value);
    return err;
}

static inline char *encode_text(const struct declaration *declaration)
{
    json_t *value = declaration_encode(declaration);
    assert_non_null(value);
    char *text = json_dumps(value, JSON_COMPACT);
    assert_non_null(text);
    json_decref(value);
    return text;
}

static inline void print_problems(const struct problems *problems)
{
    for (unsigned i = 0; i < problems->count; i++) {
        print_message("  %s: %s\n", problems->items[i].pointer, problems->items[i].detail);
    }
}

// Decodes, and checks the canonical text, which must be a fixed point. Free with declaration_free().
static inline struct declaration *decode_as(enum noun noun, const char *key, const char *json,
                                            const char *canonical)
{
    struct problems problems;
    struct declaration *declaration;
    struct declaration *again;
    problems_init(&problems);
    if (decode_text(noun, key, json, DECODE_STRICT, &declaration, NULL, &problems) != 0) {
        print_problems(&problems);
        fail_msg("refused: %s", json);
    }
    char *text = encode_text(declaration);
    assert_string_equal(text, canonical);
    if (decode_text(noun, key, text, DECODE_STRICT, &again, NULL, &problems) != 0) {
        print_problems(&problems);
        fail_msg("refused its own form: %s", text);
    }
    char *twice = encode_text(again);
    assert_string_equal(twice, canonical);
    assert_string_equal(again->key, declaration->key);
    free(text);
    free(twice);
    declaration_free(&again);
    assert_int_equal(problems.count, 0);
    problems_fini(&problems);
    return declaration;
}

static inline void check_form(enum noun noun, const char *key, const char *json,
                              const char *canonical)
{
    struct declaration *declaration = decode_as(noun, key, json, canonical);
    declaration_free(&declaration);
    assert_null(declaration);
}

// Exactly one problem, at `pointer`, whose detail holds `detail`.
static inline void check_refused(enum noun noun, const char *key, const char *json,
                                 const char *pointer, const char *detail)
{
    struct problems problems;
    struct declaration *declaration;
    problems_init(&problems);
    int err = decode_text(noun, key, json, DECODE_STRICT, &declaration, NULL, &problems);
    if (err != ERR_INVALID || problems.count != 1 ||
        strcmp(problems.items[0].pointer, pointer) != 0 ||
        strstr(problems.items[0].detail, detail) == NULL) {
        print_problems(&problems);
        fail_msg("%s: %d, expected %s: %s", json, err, pointer, detail);
    }
    assert_null(declaration);
    problems_fini(&problems);
}
