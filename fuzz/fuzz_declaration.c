// SPDX-License-Identifier: MIT
// JSON text as a route, a pool and a certificate: what is taken has one canonical form, which is taken again and
// gives itself. The text as a key of a route: the same.
#include "base/hash.h"
#include "base/invariant.h"
#include "model/declaration.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *encode(const struct declaration *declaration)
{
    json_t *value = declaration_encode(declaration);
    INVARIANT(value != NULL);
    char *text = json_dumps(value, JSON_COMPACT);
    INVARIANT(text != NULL);
    json_decref(value);
    return text;
}

static void on_reference(void *context, enum noun noun, struct str key)
{
    INVARIANT((noun == NOUN_POOL || noun == NOUN_CERTIFICATE) && key.len > 0);
    ++*(unsigned *)context;
}

static void check_again(const struct declaration *declaration, struct problems *problems)
{
    char *text = encode(declaration);
    json_t *value = model_json_parse(str_from_c(text), problems);
    INVARIANT(value != NULL);
    struct declaration *again;
    // What a certificate is stored as has no key, and facts that only a feed reads.
    enum decode_mode mode = declaration->noun == NOUN_CERTIFICATE ? DECODE_FEED : DECODE_STRICT;
    int err = declaration_decode(declaration->noun, str_from_c(declaration->key), value, mode,
                                 &again, NULL, problems);
    INVARIANT(err == 0);
    char *text_again = encode(again);
    INVARIANT(strcmp(text, text_again) == 0);
    INVARIANT(strcmp(declaration->key, again->key) == 0);
    unsigned count = 0;
    declaration_references(again, on_reference, &count);
    free(text);
    free(text_again);
    json_decref(value);
    declaration_free(&again);
}

static void check_secret(const struct declaration *declaration)
{
    int err;
    char *chain;
    char *key;
    char *text = certificate_encode_secret(declaration, &err);
    INVARIANT(err == 0);
    if (text != NULL && certificate_decode_secret(str_from_c(text), &chain, &key) == 0) {
        INVARIANT(str_eq(str_from_c(chain), declaration->certificate.chain));
        INVARIANT(str_eq(str_from_c(key), declaration->certificate.key));
        free(chain);
        free(key);
    }
    free(text);
}

static void check_noun(enum noun noun, struct str key, json_t *value, enum decode_mode mode)
{
    struct problems problems;
    struct declaration *declaration;
    unsigned unknown;
    problems_init(&problems);
    int err = declaration_decode(noun, key, value, mode, &declaration, &unknown, &problems);
    INVARIANT((err == 0) == (problems.count == 0) && (err == 0) == (declaration != NULL));
    INVARIANT(err == 0 || err == ERR_INVALID);
    if (err == 0) {
        check_again(declaration, &problems);
    }
    if (err == 0 && noun == NOUN_CERTIFICATE) {
        check_secret(declaration);
    }
    declaration_free(&declaration);
    problems_fini(&problems);
}

static void check_key(struct str text)
{
    struct problems problems;
    char *key;
    char *again;
    problems_init(&problems);
    if (declaration_key(NOUN_ROUTE, text, &key, &problems) == 0) {
        INVARIANT(declaration_key(NOUN_ROUTE, str_from_c(key), &again, &problems) == 0);
        INVARIANT(strcmp(key, again) == 0);
        free(key);
        free(again);
    }
    problems_fini(&problems);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hash_seed();
    struct problems problems;
    problems_init(&problems);
    struct str text = str_make((const char *)data, size);
    check_key(text);
    json_t *value = model_json_parse(text, &problems);
    if (value != NULL) {
        check_noun(NOUN_ROUTE, STR_NULL, value, DECODE_STRICT);
        check_noun(NOUN_ROUTE, STR("h/a"), value, DECODE_FEED);
        check_noun(NOUN_POOL, STR("p"), value, DECODE_STRICT);
        check_noun(NOUN_POOL, STR("p"), value, DECODE_FEED);
        check_noun(NOUN_CERTIFICATE, STR("c"), value, DECODE_STRICT);
        check_noun(NOUN_CERTIFICATE, STR("c"), value, DECODE_FEED);
        json_t *merged = json_merge_patch(value, value);
        INVARIANT(merged != NULL);
        json_decref(merged);
        json_decref(value);
    }
    problems_fini(&problems);
    return 0;
}
