// SPDX-License-Identifier: MIT
// What stands in Ceryx' keys, fields ended by line feeds: a target, a host, four settings. What is taken becomes
// declarations that a store takes, and what is shown of them makes the same declarations again.
#include "base/hash.h"
#include "base/invariant.h"
#include "ceryx/translate.h"
#include <jansson.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool equal(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void check_canonical(enum noun noun, const char *key, const char *text)
{
    struct problems problems;
    struct declaration *declaration = NULL;
    problems_init(&problems);
    json_t *value = json_loads(text, 0, NULL);
    INVARIANT(value != NULL);
    INVARIANT(declaration_decode(noun, str_from_c(key), value, DECODE_STRICT, &declaration, NULL,
                                 &problems) == 0);
    json_t *tree = declaration_encode(declaration);
    char *again = json_dumps(tree, JSON_COMPACT);
    INVARIANT(equal(text, again));
    free(again);
    json_decref(tree);
    json_decref(value);
    declaration_free(&declaration);
    problems_fini(&problems);
}

static void check_shown(const struct ceryx_parts *parts)
{
    struct ceryx_source back;
    struct ceryx_parts again;
    struct problems problems;
    char *memory = NULL;
    problems_init(&problems);
    int err = ceryx_show(str_from_c(parts->key), str_from_c(parts->route), str_from_c(parts->pool),
                         str_from_c(parts->certificate), &back, &memory);
    // "unix:" is no URL of Ceryx', and all others are shown.
    INVARIANT(err == 0);
    INVARIANT(ceryx_translate(&back, &again, &problems) == 0);
    INVARIANT(equal(again.key, parts->key) && equal(again.name, parts->name));
    INVARIANT(equal(again.route, parts->route) && equal(again.pool, parts->pool));
    INVARIANT(equal(again.certificate, parts->certificate));
    ceryx_parts_fini(&again);
    free(memory);
    problems_fini(&problems);
}

static void check_extras(const struct ceryx_source *source, const char *route)
{
    struct store_request *request = store_request_new(1);
    INVARIANT(request != NULL);
    INVARIANT(ceryx_guard("c", source, &request->extras) == 0);
    INVARIANT(ceryx_write("c", source, &request->extras) == 0);
    INVARIANT(ceryx_mark("p", source, str_from_c(route), &request->extras) == 0);
    store_request_free(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hash_seed();
    struct str rest = str_make((const char *)data, size);
    struct ceryx_source source = {0};
    struct str *const fields[] = {
        &source.target,           &source.host,    &source.mode, &source.enforce_https,
        &source.certificate_path, &source.key_path};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0] && rest.len > 0; i++) {
        str_split(rest, '\n', fields[i], &rest);
    }
    struct ceryx_parts parts;
    struct problems problems;
    problems_init(&problems);
    int err = ceryx_translate(&source, &parts, &problems);
    INVARIANT(err == 0 || err == ERR_INVALID || (err == ERR_NOT_FOUND && source.target.p == NULL));
    INVARIANT((err == ERR_INVALID) == (problems.count > 0));
    INVARIANT((err == 0) == (parts.route != NULL));
    if (err == 0) {
        check_canonical(NOUN_ROUTE, parts.key, parts.route);
        if (parts.pool != NULL) {
            check_canonical(NOUN_POOL, parts.name, parts.pool);
        }
        check_shown(&parts);
        check_extras(&source, parts.route);
    }
    ceryx_parts_fini(&parts);
    problems_fini(&problems);
    return 0;
}
