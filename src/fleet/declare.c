// SPDX-License-Identifier: MIT
// One change of an entry, or one record of a hash, into a change of the replica: decoded as the tables will,
// so that what they would not take never stands in the replica.
#include "fleet/follow_int.h"
#include <stdlib.h>

struct references {
    struct store_change *change;
    bool is_out_of_memory;
};

static void on_reference(void *context, enum noun noun, struct str key)
{
    struct references *references = context;
    struct store_change *change = references->change;
    struct store_reference *grown =
        realloc(change->references, (change->reference_count + 1) * sizeof *grown);
    if (grown == NULL) {
        references->is_out_of_memory = true;
        return;
    }
    change->references = grown;
    struct store_reference *reference = &grown[change->reference_count++];
    *reference = (struct store_reference){.noun = noun, .key = str_dup(key)};
    references->is_out_of_memory |= reference->key == NULL;
}

static int judge(struct store_change *change, struct str value, struct problems *problems)
{
    json_t *tree = model_json_parse(value, problems);
    if (tree == NULL) {
        return problems->err;
    }
    if (!noun_is_supported(change->noun)) {
        json_decref(tree); // what this version knows by name is kept for the next one
        return 0;
    }
    struct declaration *declaration = NULL;
    int err = declaration_decode(change->noun, str_from_c(change->key), tree, DECODE_FEED,
                                 &declaration, NULL, problems);
    json_decref(tree);
    struct references references = {.change = change};
    if (err == 0) {
        declaration_references(declaration, on_reference, &references);
    }
    declaration_free(&declaration);
    return references.is_out_of_memory ? ERR_MEMORY : err;
}

// Is it written as this program writes it?
static int check_key(enum noun noun, struct str key, struct problems *problems)
{
    char *canonical = NULL;
    int err = declaration_key(noun, key, &canonical, problems);
    if (err == 0 && !str_eq(str_from_c(canonical), key)) {
        err = problems_add(problems, ERR_INVALID, "", "the key should be \"%.200s\"", canonical);
    }
    free(canonical);
    return err;
}

int declare_fill(struct store_change *change, enum noun noun, struct str key,
                 const struct str *value, uint64_t revision, char *why, size_t why_size)
{
    why[0] = '\0';
    if (noun == NOUN_COUNT) {
        snprintf(why, why_size, "this version does not know what it is");
        return ERR_INVALID;
    }
    if (key.len == 0 || memchr(key.p, '\0', key.len) != NULL ||
        (value != NULL && memchr(value->p, '\0', value->len) != NULL)) {
        snprintf(why, why_size, "it has a zero byte, or no key");
        return ERR_INVALID;
    }
    problems_init(&change->problems);
    change->noun = noun;
    change->revision = revision;
    change->key = str_dup(key);
    change->value = value == NULL ? NULL : str_dup(*value);
    if (change->key == NULL || (value != NULL && change->value == NULL)) {
        return ERR_MEMORY;
    }
    struct problems problems;
    problems_init(&problems);
    int err = check_key(noun, key, &problems);
    if (err == 0 && value != NULL) {
        err = judge(change, *value, &problems);
    }
    if (err != 0 && problems.count > 0) {
        snprintf(why, why_size, "%.60s%s%.150s", problems.items[0].pointer,
                 problems.items[0].pointer[0] == '\0' ? "" : " ", problems.items[0].detail);
    }
    problems_fini(&problems);
    return err == 0 || err == ERR_MEMORY ? err : ERR_INVALID;
}
