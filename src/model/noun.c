// SPDX-License-Identifier: MIT
// What is the same for all nouns: names, keys, decode, encode, references.
#include "model/codec_int.h"

static const struct {
    struct str name;
    struct str plural;
} nouns[NOUN_COUNT] = {
    [NOUN_ROUTE] = {{"route", 5}, {"routes", 6}},
    [NOUN_POOL] = {{"pool", 4}, {"pools", 5}},
    [NOUN_CERTIFICATE] = {{"certificate", 11}, {"certificates", 12}},
    [NOUN_TENANT] = {{"tenant", 6}, {"tenants", 7}},
    [NOUN_KEY] = {{"key", 3}, {"keys", 4}},
    [NOUN_TICKETS] = {{"tickets", 7}, {"tickets", 7}},
};

struct str noun_name(enum noun noun)
{
    return nouns[noun].name;
}

struct str noun_plural(enum noun noun)
{
    return nouns[noun].plural;
}

int noun_find(struct str name)
{
    for (int i = 0; i < NOUN_TICKETS; i++) { // what is internal has no name for others
        if (str_eq(nouns[i].name, name) || str_eq(nouns[i].plural, name)) {
            return i;
        }
    }
    return -1;
}

bool noun_is_supported(enum noun noun)
{
    return noun == NOUN_ROUTE || noun == NOUN_POOL || noun == NOUN_CERTIFICATE;
}

static int find_route_key(struct str text, char **key, struct problems *problems)
{
    size_t slash = str_find_char(text, '/');
    char host[VALUE_HOST_MAX + VALUE_PATH_MAX + 1];
    char path[VALUE_PATH_MAX + 1] = "/";
    size_t host_len = 0;
    size_t path_len = 1;
    const char *wrong = host_canonicalise(str_sub(text, 0, slash), true, host, &host_len);
    if (wrong != NULL) {
        return problems_add(problems, ERR_INVALID, "/host", "%s", wrong);
    }
    if (slash != SIZE_MAX) {
        wrong = path_canonicalise(str_from(text, slash), path, &path_len);
    }
    if (wrong != NULL) {
        return problems_add(problems, ERR_INVALID, "/path", "%s", wrong);
    }
    const struct route_decl route = {.host = {host, host_len}, .path = {path, path_len}};
    *key = route_key(&route);
    return *key != NULL ? 0 : problems_add(problems, ERR_MEMORY, "", "%s", err_text(ERR_MEMORY));
}

int declaration_key(enum noun noun, struct str text, char **key, struct problems *problems)
{
    *key = NULL;
    if (noun == NOUN_ROUTE) {
        return find_route_key(text, key, problems);
    }
    if (!name_is_valid(text)) {
        return problems_add(problems, ERR_INVALID, "", "the name of a %.*s must be %s",
                            STR_ARG(noun_name(noun)), rule_name.must);
    }
    *key = str_dup(text);
    return *key != NULL ? 0 : problems_add(problems, ERR_MEMORY, "", "%s", err_text(ERR_MEMORY));
}

static void read_noun(struct reader *r, struct declaration *declaration, struct str key,
                      json_t *value)
{
    if (declaration->noun == NOUN_ROUTE) {
        route_defaults(&declaration->route);
        reader_read_object(r, NULL, value, &declaration->route, &route_table_members);
        route_finish(r, key, value, &declaration->route);
        return;
    }
    if (declaration->noun == NOUN_CERTIFICATE) {
        reader_read_object(r, NULL, value, &declaration->certificate, &certificate_table_members);
        certificate_finish(r, value);
    } else {
        declaration_default_pool(&declaration->pool);
        reader_read_object(r, NULL, value, &declaration->pool, &pool_table_members);
        pool_finish(r, value, &declaration->pool);
    }
    if (key.len == 0) {
        reader_problem(r, NULL, "a %.*s needs a name", STR_ARG(noun_name(declaration->noun)));
    }
}

int declaration_decode(enum noun noun, struct str key, json_t *value, enum decode_mode mode,
                       struct declaration **out, unsigned *unknown, struct problems *problems)
{
    *out = NULL;
    if (unknown != NULL) {
        *unknown = 0;
    }
    if (!noun_is_supported(noun)) {
        return problems_add(problems, ERR_INVALID, "", "%.*s are not part of this version",
                            STR_ARG(noun_plural(noun)));
    }
    struct declaration *declaration = calloc(1, sizeof *declaration);
    if (declaration == NULL) {
        return problems_add(problems, ERR_MEMORY, "", "%s", err_text(ERR_MEMORY));
    }
    declaration->noun = noun;
    struct reader r = {.problems = problems, .mode = mode};
    read_noun(&r, declaration, key, value);
    declaration->memory = r.blocks;
    if (unknown != NULL) {
        *unknown = r.unknown;
    }
    if (!r.failed) {
        declaration->key = key.len > 0 ? str_dup(key) : route_key(&declaration->route);
        if (declaration->key == NULL) {
            problems_add(problems, ERR_MEMORY, "", "%s", err_text(ERR_MEMORY));
        }
    }
    if (declaration->key == NULL) {
        declaration_free(&declaration);
        return problems->err;
    }
    *out = declaration;
    return 0;
}

void declaration_free(struct declaration **declaration)
{
    if (*declaration == NULL) {
        return;
    }
    reader_free_memory((*declaration)->memory, (*declaration)->noun == NOUN_CERTIFICATE);
    free((*declaration)->key);
    free(*declaration);
    *declaration = NULL;
}

json_t *declaration_encode(const struct declaration *declaration)
{
    switch (declaration->noun) {
    case NOUN_ROUTE:
        return write_object(&declaration->route, &route_table_members);
    case NOUN_POOL:
        return write_object(&declaration->pool, &pool_table_members);
    case NOUN_CERTIFICATE:
        return write_object(&declaration->certificate, &certificate_table_members);
    case NOUN_TENANT:
    case NOUN_KEY:
    case NOUN_TICKETS:
    case NOUN_COUNT:
        break;
    }
    return NULL; // declaration_decode() makes none
}

// The certificates that a pool shows its targets: to requests and, when another, to checks.
static unsigned find_certificates(const struct pool_decl *pool, struct str names[2],
                                  const char *pointers[2])
{
    unsigned count = 0;
    if (pool->tls.client_certificate.len > 0) {
        pointers[count] = "/tls/client_certificate";
        names[count++] = pool->tls.client_certificate;
    }
    struct str of_checks = pool->health.tls.client_certificate;
    if (of_checks.len > 0 && !str_eq(of_checks, pool->tls.client_certificate)) {
        pointers[count] = "/health/tls/client_certificate";
        names[count++] = of_checks;
    }
    return count;
}

void declaration_references(const struct declaration *declaration,
                            void (*visit)(void *context, enum noun noun, struct str key),
                            void *context)
{
    if (declaration->noun == NOUN_POOL) {
        struct str names[2];
        const char *pointers[2];
        unsigned count = find_certificates(&declaration->pool, names, pointers);
        for (unsigned i = 0; i < count; i++) {
            visit(context, NOUN_CERTIFICATE, names[i]);
        }
    }
    if (declaration->noun != NOUN_ROUTE) {
        return;
    }
    const struct route_decl *route = &declaration->route;
    if (route->action == ROUTE_POOL) {
        visit(context, NOUN_POOL, route->pool);
    }
    for (unsigned i = 0; i < route->split_count; i++) {
        visit(context, NOUN_POOL, route->split[i].pool);
    }
}

size_t declaration_reference_pointer(const struct declaration *declaration, unsigned index,
                                     char *to, size_t size)
{
    if (declaration->noun == NOUN_POOL) {
        struct str names[2];
        const char *pointers[2];
        unsigned count = find_certificates(&declaration->pool, names, pointers);
        return str_copy(to, size, str_from_c(index < count ? pointers[index] : ""));
    }
    bool is_split = declaration->noun == NOUN_ROUTE && declaration->route.action == ROUTE_SPLIT;
    int len = is_split ? snprintf(to, size, "/split/%u/pool", index) : snprintf(to, size, "/pool");
    return (size_t)len < size ? (size_t)len : size - 1;
}
