// SPDX-License-Identifier: MIT
// A URL that is accepted has all its parts, and what is shown of it is text without its password; one that
// is refused has one problem that quotes nothing of it.
#include "base/invariant.h"
#include "redis/redis.h"
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LEN_MAX = 5000 };

static void check(const struct redis_url *url)
{
    INVARIANT(url->user != NULL && url->password != NULL && url->master != NULL &&
              url->path != NULL && url->sentinel_user != NULL && url->sentinel_password != NULL);
    INVARIANT((url->scheme == REDIS_UNIX) == (url->path[0] != 0));
    INVARIANT((url->scheme == REDIS_UNIX) == (url->host_count == 0));
    INVARIANT((url->scheme == REDIS_SENTINEL) == (url->master[0] != 0));
    INVARIANT(url->scheme == REDIS_SENTINEL || url->host_count <= 1);
    for (unsigned i = 0; i < url->host_count; i++) {
        INVARIANT(url->hosts[i].name[0] != 0 && url->hosts[i].port != 0);
    }
    for (const char *c = url->shown; *c != 0; c++) {
        INVARIANT(*c >= 0x20 && *c < 0x7f);
    }
}

// A URL whose password is a word that is nowhere else.
static void check_secret(struct str input)
{
    static const struct str secret = {"Zq7Xw9Kv3Jp5", 12};
    char text[LEN_MAX + 64];
    size_t at = str_find_char(input, '@');
    if (at == SIZE_MAX || str_find(input, secret) != SIZE_MAX) {
        return;
    }
    struct redis_url url;
    struct problems problems;
    int len = snprintf(text, sizeof text, "redis://:%.*s%.*s", STR_ARG(secret),
                       STR_ARG(str_from(input, at)));
    problems_init(&problems);
    int err = redis_url_parse(&url, str_make(text, (size_t)len), &problems);
    INVARIANT(str_find(str_from_c(url.shown), secret) == SIZE_MAX);
    INVARIANT(err == 0 || str_find(str_from_c(problems.items[0].detail), secret) == SIZE_MAX);
    redis_url_fini(&url);
    problems_fini(&problems);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > LEN_MAX) {
        return 0;
    }
    struct str input = str_make((const char *)data, size);
    struct redis_url url;
    struct problems problems;
    problems_init(&problems);
    int err = redis_url_parse(&url, input, &problems);
    if (err == 0) {
        INVARIANT(problems.count == 0 && redis_url_is(input));
        check(&url);
    } else {
        INVARIANT(err == ERR_INVALID && problems.count == 1);
    }
    redis_url_fini(&url);
    problems_fini(&problems);
    check_secret(input);
    return 0;
}
