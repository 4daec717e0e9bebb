// SPDX-License-Identifier: MIT
// A Redis, for copies from it and into it: waiting for each reply.
#include "cli/cli.h"
#include "cli/copy_int.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    TIMEOUT_MS = 5000, // for connecting, and for each reply
    PASSWORD_MAX = 4096,
};

// Takes the place of the URL's password, which is empty.
static int read_password(struct copy_redis *redis, const char *path)
{
    char text[PASSWORD_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (len < 0) {
        fprintf(stderr, "pointsman: %s: %s\n", path, strerrordesc_np(errno));
    } else {
        struct str password = str_make(text, (size_t)len);
        while (password.len > 0 && (unsigned char)password.p[password.len - 1] <= ' ') {
            password.len--; // the end of its line
        }
        free(redis->url.password);
        redis->url.password = str_dup(password);
        explicit_bzero(text, (size_t)len);
    }
    if (fd >= 0) {
        close(fd);
    }
    return len >= 0 && redis->url.password != NULL ? CLI_DONE : CLI_FAILED;
}

int copy_redis_open(struct copy_redis *redis, const struct copy *copy, const char *url,
                    const char *prefix)
{
    *redis = (struct copy_redis){.tls = {.ca_file = copy->ca_file}};
    struct problems problems;
    problems_init(&problems);
    fleet_keys_init(&redis->keys, prefix);
    int status = CLI_FAILED;
    if (redis_url_parse(&redis->url, str_from_c(url), &problems) == 0) {
        status = CLI_DONE;
        if (copy->password_file != NULL && redis->url.password[0] == '\0') {
            status = read_password(redis, copy->password_file);
        }
        if (status == CLI_DONE &&
            redis_sync_open(&redis->sync, &redis->url, &redis->tls, TIMEOUT_MS, &problems) != 0) {
            status = CLI_FAILED;
        }
    }
    for (unsigned i = 0; i < problems.count; i++) { // they name the URL, without its password
        fprintf(stderr, "pointsman: %s\n", problems.items[i].detail);
    }
    problems_fini(&problems);
    return status;
}

void copy_redis_close(struct copy_redis *redis)
{
    redis_sync_close(&redis->sync);
    redis_url_fini(&redis->url);
}

const struct redis_reply *copy_redis_receive(struct copy_redis *redis)
{
    const struct redis_reply *reply = redis_sync_receive(redis->sync);
    if (reply == NULL) {
        fprintf(stderr, "pointsman: %s: %s\n", redis->url.shown, redis_sync_error(redis->sync));
    } else if (reply->type == REDIS_ERROR) {
        fprintf(stderr, "pointsman: %s: %.*s\n", redis->url.shown, STR_ARG(reply->text));
        reply = NULL;
    }
    return reply;
}

static bool put_out(struct copy_redis *redis, unsigned argc, const struct str *argv)
{
    if (!redis_sync_send(redis->sync, argc, argv)) {
        fprintf(stderr, "pointsman: %s: %s\n", redis->url.shown, redis_sync_error(redis->sync));
        return false;
    }
    return true;
}

const struct redis_reply *copy_redis_command(struct copy_redis *redis, unsigned argc,
                                             const struct str *argv)
{
    return put_out(redis, argc, argv) ? copy_redis_receive(redis) : NULL;
}

bool copy_redis_look(struct copy_redis *redis)
{
    const struct str argv[] = {STR("HMGET"), str_from_c(redis->keys.texts[FLEET_META]),
                               STR("epoch"), STR("revision"), STR("schema")};
    const struct redis_reply *reply = copy_redis_command(redis, 5, argv);
    if (reply == NULL) {
        return false;
    }
    const struct redis_reply *epoch = redis_reply_item(reply, 0);
    int64_t revision = 0;
    redis->is_there = epoch->type == REDIS_STRING;
    if (!redis->is_there) {
        redis->revision = 0;
        return true;
    }
    bool is_newer = redis_reply_item(reply, 2)->type == REDIS_STRING &&
                    !str_eq(redis_reply_item(reply, 2)->text, STR("1"));
    if (is_newer || epoch->text.len != FLEET_EPOCH_LEN ||
        !redis_reply_number(redis_reply_item(reply, 1), &revision) || revision < 0) {
        fprintf(stderr, "pointsman: %s: %s %s\n", redis->url.shown, redis->keys.texts[FLEET_META],
                is_newer ? "was written by a newer version"
                         : "holds no epoch and revision that can be read");
        return false;
    }
    str_copy(redis->epoch, sizeof redis->epoch, epoch->text);
    redis->revision = (uint64_t)revision;
    return true;
}

static bool ask_page(struct copy_redis *redis, const char *key, const char *cursor)
{
    const struct str argv[] = {STR("HSCAN"), str_from_c(key), str_from_c(cursor), STR("COUNT"),
                               STR("100")}; // a record may have a megabyte
    return put_out(redis, 5, argv);
}

bool copy_redis_scan(struct copy_redis *redis, const char *key, bool is_ahead,
                     bool (*visit)(void *context, struct str field, struct str value),
                     bool (*on_page)(void *context), void *context)
{
    char cursor[32] = "0";
    bool is_asked = ask_page(redis, key, cursor);
    while (is_asked) {
        const struct redis_reply *reply = copy_redis_receive(redis);
        if (reply == NULL) {
            return false;
        }
        const struct redis_reply *next = redis_reply_item(reply, 0);
        const struct redis_reply *page = redis_reply_item(reply, 1);
        str_copy(cursor, sizeof cursor, next->type == REDIS_STRING ? next->text : STR("0"));
        bool is_last = strcmp(cursor, "0") == 0;
        if (!is_last && is_ahead && !ask_page(redis, key, cursor)) {
            return false;
        }
        for (unsigned i = 0; page->type == REDIS_ARRAY && i + 1 < page->count; i += 2) {
            if (!visit(context, redis_reply_item(page, i)->text,
                       redis_reply_item(page, i + 1)->text)) {
                return false;
            }
        }
        if (on_page != NULL && !on_page(context)) {
            return false;
        }
        if (is_last) {
            return true;
        }
        is_asked = is_ahead || ask_page(redis, key, cursor);
    }
    return false;
}
