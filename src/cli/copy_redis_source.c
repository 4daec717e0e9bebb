// SPDX-License-Identifier: MIT
// What is copied: all declarations of a Redis. It may be written to meanwhile: then it is read again.
#include "cli/cli.h"
#include "cli/copy_int.h"
#include <stdio.h>
#include <stdlib.h>

enum { READS_MAX = 3 };

static const enum noun nouns[] = {NOUN_CERTIFICATE, NOUN_POOL, NOUN_ROUTE};
enum { NOUNS = sizeof nouns / sizeof nouns[0] };

struct source {
    struct copy *copy;
    struct copy_redis *redis;
    enum noun noun;
    unsigned asked; // changes whose secrets are there
};

static bool on_field(void *context, struct str field, struct str text)
{
    struct source *source = context;
    uint64_t revision;
    struct str value;
    if (fleet_record_read(text, &revision, NULL, &value) != 0) {
        fprintf(stderr, "pointsman: %s: %.*s %.*s cannot be read\n", source->redis->url.shown,
                STR_ARG(noun_name(source->noun)), (int)(field.len > 300 ? 300 : field.len),
                field.p);
        return false;
    }
    return copy_add_record(source->copy, source->noun, field, value);
}

static bool take_secrets(struct source *source, const struct redis_reply *reply)
{
    const struct copy *copy = source->copy;
    for (unsigned i = source->asked; i < copy->count; i++) {
        const struct redis_reply *secret = redis_reply_item(reply, i - source->asked);
        if (secret->type == REDIS_STRING && secret->text.len > 0) {
            copy->changes[i].secret = str_dup(secret->text);
            if (copy->changes[i].secret == NULL) {
                fputs("pointsman: out of memory\n", stderr);
                return false;
            }
        }
    }
    source->asked = copy->count;
    return true;
}

// The secrets of the page's certificates.
static bool on_page(void *context)
{
    struct source *source = context;
    const struct copy *copy = source->copy;
    unsigned count = copy->count - source->asked;
    if (!copy->with_secrets || count == 0) {
        return true;
    }
    struct str *argv = calloc((size_t)count + 2, sizeof *argv);
    struct buf names;
    buf_init(&names, 0);
    bool is_good = argv != NULL;
    for (unsigned i = 0; i < count && is_good; i++) {
        buf_printf(&names, "certificate:%s", copy->changes[source->asked + i].key);
    }
    is_good = is_good && !names.failed;
    size_t at = 0;
    for (unsigned i = 0; i < count && is_good; i++) {
        size_t len = STR("certificate:").len + strlen(copy->changes[source->asked + i].key);
        argv[i + 2] = str_sub(buf_str(&names), at, len);
        at += len;
    }
    if (is_good) {
        argv[0] = STR("HMGET");
        argv[1] = str_from_c(source->redis->keys.texts[FLEET_SECRETS]);
        const struct redis_reply *reply = copy_redis_command(source->redis, count + 2, argv);
        is_good = reply != NULL && take_secrets(source, reply);
    } else {
        fputs("pointsman: out of memory\n", stderr);
    }
    buf_fini(&names);
    free(argv);
    return is_good;
}

// A scan may bring a field twice.
static void drop_doubles(struct copy *copy)
{
    copy_sort(copy);
    unsigned kept = 0;
    for (unsigned i = 0; i < copy->count; i++) {
        if (kept > 0 && copy_compare(&copy->changes[kept - 1], &copy->changes[i]) == 0) {
            store_change_fini(&copy->changes[i]);
        } else {
            copy->changes[kept++] = copy->changes[i];
        }
    }
    copy->count = kept;
}

static bool read_all(struct copy *copy, struct copy_redis *redis)
{
    struct source source = {.copy = copy, .redis = redis};
    for (unsigned n = 0; n < NOUNS; n++) {
        source.noun = nouns[n];
        bool is_certificate = nouns[n] == NOUN_CERTIFICATE;
        if (!copy_redis_scan(redis, redis->keys.nouns[nouns[n]], !is_certificate, on_field,
                             is_certificate ? on_page : NULL, &source)) {
            return false;
        }
        drop_doubles(copy);
        if (is_certificate && !copy_open_secrets(copy)) {
            return false;
        }
    }
    return true;
}

static int read_moment(struct copy *copy, struct copy_redis *redis)
{
    for (unsigned i = 0; i < READS_MAX; i++) {
        copy_fini(copy);
        if (!copy_redis_look(redis)) {
            return CLI_FAILED;
        }
        if (!redis->is_there) {
            fprintf(stderr, "pointsman: %s holds no declarations: there is no %s\n",
                    redis->url.shown, redis->keys.texts[FLEET_META]);
            return CLI_FAILED;
        }
        copy->revision = redis->revision;
        if (!read_all(copy, redis) || !copy_redis_look(redis)) {
            return CLI_FAILED;
        }
        if (copy->revision == redis->revision) {
            return CLI_DONE;
        }
    }
    fprintf(stderr,
            "pointsman: %s was written to while it was read: the copy may mix several moments\n",
            redis->url.shown);
    return CLI_DONE;
}

int copy_read_redis(struct copy *copy)
{
    struct copy_redis redis;
    int status = copy_redis_open(&redis, copy, copy->from, copy->from_prefix);
    if (status == CLI_DONE) {
        status = read_moment(copy, &redis);
    }
    copy_redis_close(&redis);
    return status;
}
