// SPDX-License-Identifier: MIT
// What a write brings along for Redis: guards that the keys of Ceryx are still what was read, and the commands
// that change them with the declarations, all or nothing.
#include "ceryx/ceryx_int.h"
#include "ceryx/translate.h"
#include <stdlib.h>

enum { ARGUMENT_MAX = 10 };

static const struct str setting_names[] = {
    {"enforce_https", 13},
    {"mode", 4},
    {"certificate_path", 16},
    {"key_path", 8},
};
enum { SETTING_COUNT = sizeof setting_names / sizeof setting_names[0] };

static struct str setting_of(const struct ceryx_source *source, unsigned i)
{
    const struct str values[SETTING_COUNT] = {
        source->enforce_https,
        source->mode,
        source->certificate_path,
        source->key_path,
    };
    return values[i];
}

// ---- digests ----

uint64_t ceryx_hash(uint64_t hash, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        hash = (hash ^ (unsigned char)text.p[i]) * 0x100000001b3ull;
    }
    return hash;
}

// With what ends it, so that no two lists of fields read the same.
static uint64_t hash_field(uint64_t hash, struct str text)
{
    char end[24];
    int len = snprintf(end, sizeof end, "%c%zu;", text.p == NULL ? '-' : '+', text.len);
    return ceryx_hash(ceryx_hash(hash, text), str_make(end, (size_t)len));
}

void ceryx_digests(const struct ceryx_source *source, struct str route_value,
                   char to[CERYX_DIGESTS_LEN + 1])
{
    uint64_t hash = hash_field(CERYX_HASH_BEGIN, source->target);
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        hash = hash_field(hash, setting_of(source, i));
    }
    snprintf(to, CERYX_DIGESTS_LEN + 1, "%016llx:%016llx", (unsigned long long)hash,
             (unsigned long long)ceryx_hash(CERYX_HASH_BEGIN, route_value));
}

// ---- the list ----

static void free_extra(struct store_extra *extra)
{
    for (unsigned i = 0; i < extra->argc; i++) {
        free(extra->argv[i]);
    }
    free(extra->argv);
    free(extra->expected);
    free(extra);
}

// A command of `count` texts, copied. NULL: out of memory.
static struct store_extra *make_extra(const struct str *texts, unsigned count)
{
    struct store_extra *extra = calloc(1, sizeof *extra);
    if (extra == NULL) {
        return NULL;
    }
    extra->argv = calloc(count, sizeof *extra->argv);
    bool is_whole = extra->argv != NULL;
    for (unsigned i = 0; i < count && is_whole; i++) {
        extra->argv[i] = str_dup(texts[i]);
        is_whole = extra->argv[i] != NULL;
        extra->argc += is_whole;
    }
    if (!is_whole) {
        free_extra(extra);
        return NULL;
    }
    return extra;
}

static void append(struct store_extra **extras, struct store_extra *extra)
{
    while (*extras != NULL) {
        extras = &(*extras)->next;
    }
    *extras = extra;
}

static int add_command(struct store_extra **extras, const struct str *texts, unsigned count)
{
    struct store_extra *extra = make_extra(texts, count);
    if (extra == NULL) {
        return ERR_MEMORY;
    }
    append(extras, extra);
    return 0;
}

// Takes what stands behind `last` off again; last NULL: all of it.
static void cut_behind(struct store_extra **extras, struct store_extra *last)
{
    struct store_extra **at = last == NULL ? extras : &last->next;
    while (*at != NULL) {
        struct store_extra *extra = *at;
        *at = extra->next;
        free_extra(extra);
    }
}

static struct store_extra *last_of(struct store_extra *extras)
{
    while (extras != NULL && extras->next != NULL) {
        extras = extras->next;
    }
    return extras;
}

// "PREFIX:routes:HOST"
static void put_key(struct buf *out, const char *prefix, const char *kind, struct str host)
{
    buf_put(out, str_from_c(prefix));
    buf_printf(out, ":%s:", kind);
    buf_put(out, host);
}

// ---- guards ----

static int add_guard(struct store_extra **extras, const struct str *texts, unsigned count,
                     struct str expected)
{
    struct store_extra *extra = make_extra(texts, count);
    char *copy = extra == NULL ? NULL : malloc(expected.len + 1);
    if (copy == NULL) {
        if (extra != NULL) {
            free_extra(extra);
        }
        return ERR_MEMORY;
    }
    if (expected.len > 0) {
        memcpy(copy, expected.p, expected.len);
    }
    extra->is_guard = true;
    extra->expected = copy;
    extra->expected_len = expected.len;
    append(extras, extra);
    return 0;
}

static int guard_settings(struct str key, const struct ceryx_source *source,
                          struct store_extra **extras)
{
    struct str texts[ARGUMENT_MAX] = {STR("HMGET"), key};
    struct buf expected;
    buf_init(&expected, 0);
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        texts[2 + i] = setting_names[i];
        buf_put(&expected, setting_of(source, i));
        buf_put_char(&expected, '\0');
    }
    int err = expected.failed ? ERR_MEMORY
                              : add_guard(extras, texts, 2 + SETTING_COUNT, buf_str(&expected));
    buf_fini(&expected);
    return err;
}

int ceryx_guard(const char *prefix, const struct ceryx_source *source, struct store_extra **extras)
{
    struct store_extra *last = last_of(*extras);
    struct buf route;
    struct buf settings;
    buf_init(&route, 0);
    buf_init(&settings, 0);
    put_key(&route, prefix, "routes", source->host);
    put_key(&settings, prefix, "settings", source->host);
    int err = route.failed || settings.failed ? ERR_MEMORY : 0;
    if (err == 0) {
        err = add_guard(extras, (struct str[]){STR("GET"), buf_str(&route)}, 2, source->target);
    }
    if (err == 0) {
        err = guard_settings(buf_str(&settings), source, extras);
    }
    buf_fini(&route);
    buf_fini(&settings);
    if (err != 0) {
        cut_behind(extras, last);
    }
    return err;
}

// ---- companions ----

int ceryx_mark(const char *store_prefix, const struct ceryx_source *source, struct str route_value,
               struct store_extra **extras)
{
    char digests[CERYX_DIGESTS_LEN + 1];
    ceryx_digests(source, route_value, digests);
    struct buf key;
    buf_init(&key, 0);
    buf_printf(&key, "%s:ceryx", store_prefix);
    const struct str texts[] = {STR("HSET"), buf_str(&key), source->host, str_from_c(digests)};
    int err = key.failed ? ERR_MEMORY : add_command(extras, texts, 4);
    buf_fini(&key);
    return err;
}

int ceryx_unmark(const char *store_prefix, struct str host, struct store_extra **extras)
{
    struct buf key;
    buf_init(&key, 0);
    buf_printf(&key, "%s:ceryx", store_prefix);
    const struct str texts[] = {STR("HDEL"), buf_str(&key), host};
    int err = key.failed ? ERR_MEMORY : add_command(extras, texts, 3);
    buf_fini(&key);
    return err;
}

static int set_settings(struct str key, const struct ceryx_source *source,
                        struct store_extra **extras)
{
    struct str texts[ARGUMENT_MAX] = {STR("HSET"), key};
    unsigned count = 2;
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        struct str value = setting_of(source, i);
        if (value.p != NULL) {
            texts[count++] = setting_names[i];
            texts[count++] = value;
        }
    }
    return count == 2 ? 0 : add_command(extras, texts, count);
}

int ceryx_write(const char *prefix, const struct ceryx_source *source, struct store_extra **extras)
{
    struct store_extra *last = last_of(*extras);
    struct buf route;
    struct buf settings;
    buf_init(&route, 0);
    buf_init(&settings, 0);
    put_key(&route, prefix, "routes", source->host);
    put_key(&settings, prefix, "settings", source->host);
    int err = route.failed || settings.failed ? ERR_MEMORY : 0;
    if (err == 0) {
        err = add_command(extras, (struct str[]){STR("SET"), buf_str(&route), source->target}, 3);
    }
    if (err == 0) {
        err = add_command(extras, (struct str[]){STR("DEL"), buf_str(&settings)}, 2);
    }
    if (err == 0) {
        err = set_settings(buf_str(&settings), source, extras);
    }
    buf_fini(&route);
    buf_fini(&settings);
    if (err != 0) {
        cut_behind(extras, last);
    }
    return err;
}

int ceryx_erase(const char *prefix, struct str host, struct store_extra **extras)
{
    struct buf route;
    struct buf settings;
    buf_init(&route, 0);
    buf_init(&settings, 0);
    put_key(&route, prefix, "routes", host);
    put_key(&settings, prefix, "settings", host);
    const struct str texts[] = {STR("DEL"), buf_str(&route), buf_str(&settings)};
    int err = route.failed || settings.failed ? ERR_MEMORY : add_command(extras, texts, 3);
    buf_fini(&route);
    buf_fini(&settings);
    return err;
}
