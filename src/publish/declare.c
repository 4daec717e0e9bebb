// SPDX-License-Identifier: MIT
// From a JSON value to what the store takes: decode, agree with the key, check, try to build, encode, seal.
#include "publish/declare.h"
#include "base/buf.h"
#include "cert/check.h"
#include "publish/publish.h"
#include "publish/sealed.h"
#include <stdlib.h>

struct reference_list {
    const struct declaration *declaration;
    struct store_change *change;
    unsigned visited;
    bool is_out_of_memory;
};

static void on_reference(void *context, enum noun noun, struct str key)
{
    struct reference_list *list = context;
    struct store_change *change = list->change;
    char pointer[64];
    declaration_reference_pointer(list->declaration, list->visited++, pointer, sizeof pointer);
    // A tenant is a label only as long as tenants cannot be declared.
    if ((noun != NOUN_POOL && noun != NOUN_CERTIFICATE) || list->is_out_of_memory) {
        return;
    }
    struct store_reference *references =
        realloc(change->references, (change->reference_count + 1) * sizeof *references);
    if (references == NULL) {
        list->is_out_of_memory = true;
        return;
    }
    change->references = references;
    struct store_reference *reference = &references[change->reference_count++];
    *reference = (struct store_reference){
        .noun = noun,
        .key = str_dup(key),
        .pointer = str_dup(str_from_c(pointer)),
    };
    list->is_out_of_memory = reference->key == NULL || reference->pointer == NULL;
}

// The key that a route would have with the host or path of its body; host and path may be left out,
// but must not contradict. The decoder has judged both by then.
static int check_agreement(const char *key, const json_t *value, struct problems *problems)
{
    const char *host = json_string_value(json_object_get(value, "host"));
    const char *path = json_string_value(json_object_get(value, "path"));
    if (host == NULL && path == NULL) {
        return 0;
    }
    struct str own = str_from_c(key);
    struct str own_host;
    struct str own_rest;
    bool has_path = str_split(own, '/', &own_host, &own_rest);
    struct str own_path = has_path ? str_from(own, own_host.len) : STR("/");
    struct buf text;
    buf_init(&text, 0);
    buf_put(&text, host == NULL ? own_host : str_from_c(host));
    buf_put(&text, path == NULL ? own_path : str_from_c(path));
    char *other = NULL;
    struct problems ignored;
    problems_init(&ignored);
    int err =
        text.failed ? ERR_MEMORY : declaration_key(NOUN_ROUTE, buf_str(&text), &other, &ignored);
    problems_fini(&ignored);
    buf_fini(&text);
    if (err != 0 || strcmp(other, key) == 0) {
        free(other);
        return err == ERR_MEMORY ? problems_add(problems, err, "", "out of memory") : 0;
    }
    struct str other_host;
    struct str other_rest;
    str_split(str_from_c(other), '/', &other_host, &other_rest);
    bool is_host = !str_eq(other_host, own_host);
    err = problems_add(problems, ERR_INVALID, is_host ? "/host" : "/path",
                       "contradicts the key \"%s\"", key);
    free(other);
    return err;
}

static int fill_change(const struct declaration *declaration, const char *key,
                       struct store_change *change)
{
    json_t *tree = declaration_encode(declaration);
    change->noun = declaration->noun;
    change->value = tree == NULL ? NULL : json_dumps(tree, JSON_COMPACT);
    json_decref(tree);
    change->key = str_dup(str_from_c(key));
    struct reference_list list = {.declaration = declaration, .change = change};
    declaration_references(declaration, on_reference, &list);
    bool is_whole = change->value != NULL && change->key != NULL && !list.is_out_of_memory;
    return is_whole ? 0 : ERR_MEMORY;
}

static int check_ca(struct str ca, const char *pointer, struct problems *problems)
{
    unsigned count = 0;
    return ca.len == 0 ? 0 : cert_check_ca(ca, pointer, &count, problems);
}

int declare_check(struct declaration *declaration, struct problems *problems)
{
    int err = 0;
    switch (declaration->noun) {
    case NOUN_CERTIFICATE:
        return cert_check(declaration, problems);
    case NOUN_ROUTE:
        return check_ca(declaration->route.client_auth.ca, "/client_auth/ca", problems);
    case NOUN_POOL:
        err = check_ca(declaration->pool.tls.ca, "/tls/ca", problems);
        if (declaration->pool.health.has_tls) {
            int health_err = check_ca(declaration->pool.health.tls.ca, "/health/tls/ca", problems);
            err = err != 0 ? err : health_err;
        }
        return err;
    case NOUN_TENANT:
    case NOUN_KEY:
    case NOUN_TICKETS:
    case NOUN_COUNT:
        break;
    }
    return 0;
}

static int close_secret(const struct seal *seal, const struct declaration *declaration,
                        struct store_change *change, struct problems *problems)
{
    if (declaration->certificate.chain_file.len > 0) {
        return 0; // in files
    }
    int err = 0;
    char *text = certificate_encode_secret(declaration, &err);
    if (text == NULL && err == 0) {
        return 0;
    }
    if (err == 0) {
        err = sealed_close(seal, change->key, text, &change->secret);
    }
    return err == 0 ? 0 : problems_add(problems, err, "", "cannot seal the key: %s", err_text(err));
}

int declare_change(const struct seal *seal, enum noun noun, const char *key, json_t *value,
                   struct store_change *change, struct problems *problems)
{
    *change = (struct store_change){.noun = noun};
    if (!json_is_object(value)) {
        return problems_add(problems, ERR_INVALID, "", "must be an object: the fields of a %.*s",
                            STR_ARG(noun_name(noun)));
    }
    // The agreement is judged first: the decoder takes the key for granted.
    int err = noun == NOUN_ROUTE ? check_agreement(key, value, problems) : 0;
    struct declaration *declaration = NULL;
    unsigned unknown = 0;
    if (err == 0) {
        err = declaration_decode(noun, str_from_c(key), value, DECODE_STRICT, &declaration,
                                 &unknown, problems);
    }
    if (err == 0) {
        err = declare_check(declaration, problems);
    }
    if (err == 0) {
        err = publisher_check(NULL, declaration, problems);
    }
    if (err == 0 && fill_change(declaration, key, change) != 0) {
        err = problems_add(problems, ERR_MEMORY, "", "out of memory");
    }
    if (err == 0 && noun == NOUN_CERTIFICATE) {
        err = close_secret(seal, declaration, change, problems);
    }
    declaration_free(&declaration);
    if (err != 0) {
        store_change_fini(change);
        if (problems->count == 0) {
            problems_add(problems, err, "", "%s", err_text(err));
        }
    }
    return err;
}
