// SPDX-License-Identifier: MIT
// From what Ceryx keeps of a host to declarations.
#include "ceryx/translate.h"
#include "base/utf8.h"
#include "ceryx/ceryx_int.h"
#include "http/uri.h"
#include "model/value.h"
#include "publish/declare.h"
#include <stdlib.h>

enum { HASH_DIGITS = 16 };

// A target, taken apart. Views into it.
struct target {
    bool is_https;
    struct str authority;
    struct str path; // "", or it begins with '/'
};

int ceryx_key(struct str host, char **key, struct problems *problems)
{
    *key = NULL;
    if (str_eq(host, STR(CERYX_WILDCARD))) {
        *key = str_dup(STR("*"));
        return *key != NULL ? 0 : problems_add(problems, ERR_MEMORY, "/source", "out of memory");
    }
    char canonical[VALUE_HOST_MAX + 1];
    size_t len = 0;
    const char *wrong = host_canonicalise(host, false, canonical, &len);
    if (wrong != NULL) {
        return problems_add(problems, ERR_INVALID, "/source", "source: %s",
                            host.len == 0 ? "must not be empty" : wrong);
    }
    *key = str_dup(str_make(canonical, len));
    return *key != NULL ? 0 : problems_add(problems, ERR_MEMORY, "/source", "out of memory");
}

struct str ceryx_host(struct str key)
{
    if (str_eq(key, STR("*"))) {
        return STR(CERYX_WILDCARD);
    }
    bool is_other =
        key.len == 0 || str_starts(key, STR("*.")) || str_find_char(key, '/') != SIZE_MAX;
    return is_other ? STR_NULL : key;
}

void ceryx_name(struct str key, char to[CERYX_NAME_MAX + 1])
{
    enum { KEPT = CERYX_NAME_MAX - sizeof "ceryx:" - HASH_DIGITS };
    size_t len = str_copy(to, CERYX_NAME_MAX + 1, STR("ceryx-"));
    str_copy(to + len, CERYX_NAME_MAX + 1 - len, key);
    if (key.len + len <= CERYX_NAME_MAX && name_is_valid(str_from_c(to))) {
        return;
    }
    // No host has a name with a colon: what follows cannot be that of another one.
    len = str_copy(to, CERYX_NAME_MAX + 1, STR("ceryx:"));
    if (str_eq(key, STR("*"))) {
        str_copy(to + len, CERYX_NAME_MAX + 1 - len, STR("wildcard"));
        return;
    }
    // Too long, or an IPv6 address: a hash tells it apart.
    for (size_t i = 0; i < key.len && i < KEPT; i++) {
        bool is_bracket = key.p[i] == '[' || key.p[i] == ']';
        to[len++] = is_bracket ? '_' : key.p[i];
    }
    snprintf(to + len, CERYX_NAME_MAX + 1 - len, "-%016llx",
             (unsigned long long)ceryx_hash(CERYX_HASH_BEGIN, key));
}

static bool is_true(struct str value)
{
    return str_eq(value, STR("1")) || str_eq_case(value, STR("true"));
}

// 0, or a problem at /target.
static int read_target(struct str text, struct target *target, struct problems *problems)
{
    *target = (struct target){0};
    if (text.len > CERYX_TARGET_MAX) {
        return problems_add(problems, ERR_INVALID, "/target", "target: is longer than %d bytes",
                            CERYX_TARGET_MAX);
    }
    if (!utf8_is_valid(text)) {
        return problems_add(problems, ERR_INVALID, "/target", "target: is not UTF-8");
    }
    struct str rest = text;
    if (str_starts_case(text, STR("https://"))) {
        target->is_https = true;
        rest = str_from(text, 8);
    } else if (str_starts_case(text, STR("http://"))) {
        rest = str_from(text, 7);
    } else if (str_find(text, STR("://")) != SIZE_MAX) {
        return problems_add(problems, ERR_INVALID, "/target",
                            "target: must be an http:// or https:// URL");
    }
    size_t slash = str_find_char(rest, '/');
    target->authority = str_sub(rest, 0, slash);
    target->path = slash == SIZE_MAX ? STR("") : str_from(rest, slash);
    if (target->authority.len == 0) {
        return problems_add(problems, ERR_INVALID, "/target", "target: the host is missing");
    }
    return 0;
}

// Decodes and encodes once: the text that a store would hold. NULL: with problems at `pointer`.
static char *canonise(enum noun noun, const char *key, json_t *value, const char *pointer,
                      struct problems *problems)
{
    struct problems found;
    problems_init(&found);
    struct declaration *declaration = NULL;
    unsigned unknown = 0;
    int err = value == NULL ? problems_add(&found, ERR_MEMORY, "", "out of memory")
                            : declaration_decode(noun, str_from_c(key), value, DECODE_STRICT,
                                                 &declaration, &unknown, &found);
    json_t *tree = err == 0 ? declaration_encode(declaration) : NULL;
    char *text = tree == NULL ? NULL : json_dumps(tree, JSON_COMPACT);
    json_decref(tree);
    declaration_free(&declaration);
    if (text == NULL) {
        problems_add(problems, err == 0 ? ERR_MEMORY : err, pointer, "%s: %s", pointer + 1,
                     found.count > 0 ? found.items[0].detail : "out of memory");
    }
    problems_fini(&found);
    return text;
}

// A new reference, NULL: out of memory.
static json_t *text_of(struct str text)
{
    return json_stringn(text.p == NULL ? "" : text.p, text.len);
}

static int set_https(json_t *route, const struct ceryx_source *source)
{
    if (!is_true(source->enforce_https)) {
        return 0;
    }
    return json_object_set_new(route, "https", json_string("require")) |
           json_object_set_new(route, "redirect_status", json_integer(301));
}

// {"redirect": {"to": …, "status": 301}}. The final '/' of a target is dropped where the path is appended.
static json_t *make_redirect(const struct ceryx_source *source, const struct target *target)
{
    struct buf to;
    buf_init(&to, 0);
    buf_put(&to, target->is_https ? STR("https://") : STR("http://"));
    buf_put(&to, target->authority);
    buf_put(&to, target->path);
    json_t *route = to.failed ? NULL
                              : json_pack("{s:{s:o,s:i}}", "redirect", "to", text_of(buf_str(&to)),
                                          "status", 301);
    buf_fini(&to);
    if (route != NULL && set_https(route, source) != 0) {
        json_decref(route);
        route = NULL;
    }
    return route;
}

// {"targets": […]}, or {"pool": NAME} for https.
static json_t *make_proxy(const struct ceryx_source *source, const struct target *target,
                          const char *name)
{
    json_t *route = target->is_https ? json_pack("{s:s}", "pool", name)
                                     : json_pack("{s:[o]}", "targets", text_of(target->authority));
    int failed = route == NULL ? -1 : set_https(route, source);
    if (failed == 0 && target->path.len > 0) {
        failed = json_object_set_new(route, "target_path", text_of(target->path));
    }
    if (failed != 0) {
        json_decref(route);
        return NULL;
    }
    return route;
}

// The name that the target is asked for; an address has none.
static json_t *make_pool(const struct target *target)
{
    struct buf text;
    buf_init(&text, 0);
    buf_put(&text, STR("https://"));
    buf_put(&text, target->authority);
    struct problems ignored;
    problems_init(&ignored);
    struct target_address address = {0};
    char *memory = NULL;
    bool is_name = !text.failed &&
                   target_address_parse(buf_str(&text), &address, &memory, "", &ignored) == 0 &&
                   address.is_name;
    json_t *tls = json_pack("{s:b}", "verify", 0);
    if (is_name && json_object_set_new(tls, "server_name", text_of(address.host)) != 0) {
        json_decref(tls);
        tls = NULL;
    }
    json_t *pool = text.failed || tls == NULL
                       ? NULL
                       : json_pack("{s:[o],s:O}", "targets", text_of(buf_str(&text)), "tls", tls);
    json_decref(tls);
    free(memory);
    problems_fini(&ignored);
    buf_fini(&text);
    return pool;
}

static int make_route(const struct ceryx_source *source, const struct target *target,
                      struct ceryx_parts *parts, struct problems *problems)
{
    bool is_redirect = str_eq(source->mode, STR("redirect"));
    json_t *route =
        is_redirect ? make_redirect(source, target) : make_proxy(source, target, parts->name);
    parts->route = canonise(NOUN_ROUTE, parts->key, route, "/target", problems);
    json_decref(route);
    bool has_pool = target->is_https && !is_redirect;
    if (parts->route != NULL && has_pool) {
        json_t *pool = make_pool(target);
        parts->pool = canonise(NOUN_POOL, parts->name, pool, "/target", problems);
        json_decref(pool);
    }
    bool is_whole = parts->route != NULL && (!has_pool || parts->pool != NULL);
    return is_whole ? 0 : problems->err;
}

// Settings that name both files; Ceryx asks by the name in the handshake, which "$wildcard" never is.
static int make_certificate(const struct ceryx_source *source, struct ceryx_parts *parts,
                            struct problems *problems)
{
    if (source->certificate_path.len == 0 || source->key_path.len == 0 ||
        strcmp(parts->key, "*") == 0) {
        return 0;
    }
    if (!utf8_is_valid(source->certificate_path) || !utf8_is_valid(source->key_path)) {
        return problems_add(problems, ERR_INVALID, "/settings/certificate_path",
                            "certificate_path, key_path: is not UTF-8");
    }
    json_t *value = json_pack("{s:o,s:o,s:[s]}", "chain_file", text_of(source->certificate_path),
                              "key_file", text_of(source->key_path), "hosts", parts->key);
    parts->certificate =
        canonise(NOUN_CERTIFICATE, parts->name, value, "/settings/certificate_path", problems);
    json_decref(value);
    return parts->certificate != NULL ? 0 : problems->err;
}

int ceryx_translate(const struct ceryx_source *source, struct ceryx_parts *parts,
                    struct problems *problems)
{
    *parts = (struct ceryx_parts){0};
    if (source->target.p == NULL) {
        return ERR_NOT_FOUND;
    }
    char name[CERYX_NAME_MAX + 1];
    struct target target = {0};
    int err = ceryx_key(source->host, &parts->key, problems);
    if (err == 0) {
        ceryx_name(str_from_c(parts->key), name);
        parts->name = str_dup(str_from_c(name));
        err = parts->name == NULL ? problems_add(problems, ERR_MEMORY, "", "out of memory")
                                  : read_target(source->target, &target, problems);
    }
    if (err == 0) {
        err = make_route(source, &target, parts, problems);
    }
    if (err == 0) {
        err = make_certificate(source, parts, problems);
    }
    if (err != 0) {
        ceryx_parts_fini(parts);
    }
    return err;
}

void ceryx_parts_fini(struct ceryx_parts *parts)
{
    free(parts->key);
    free(parts->name);
    free(parts->route);
    free(parts->pool);
    free(parts->certificate);
    *parts = (struct ceryx_parts){0};
}
