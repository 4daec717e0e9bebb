// SPDX-License-Identifier: MIT
// Keys by SCAN, a page at a time; values in pipelines. What is in memory is one page of keys and one value.
#include "base/array.h"
#include "cli/import_int.h"

// Keys of a page: copied, as a reply lives until the next one.
struct page {
    struct buf texts;
    struct str *keys; // offsets while texts grow: see page_key()
    unsigned count;
    unsigned size;
};

static bool add_key(struct page *page, struct str key)
{
    if (!ARRAY_ROOM(page->keys, page->count, page->size, 1024)) {
        return false;
    }
    page->keys[page->count++] = str_make(NULL, key.len);
    buf_put(&page->texts, key);
    return !page->texts.failed;
}

// From now on the keys are views.
static void end_page(struct page *page)
{
    const char *at = page->texts.p;
    for (unsigned i = 0; i < page->count; i++) {
        page->keys[i].p = at;
        at += page->keys[i].len;
    }
}

static void lost(struct import *import)
{
    import_fail(import, "%s: %s", import->url.shown, redis_sync_error(import->redis));
}

static void take_reply(struct import *import, const struct import_source *source, struct str key,
                       const struct redis_reply *reply)
{
    if (reply->type == REDIS_ERROR) {
        import_tell(import, IMPORT_LEFT_OUT, key, "Redis says: %.*s", STR_ARG(reply->text));
    } else if (reply->type != REDIS_NIL) { // gone meanwhile
        source->take(import, source->context, key, reply);
    }
}

static void read_some(struct import *import, const struct import_source *source,
                      const struct str *keys, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct str words[4] = {[1] = keys[i]};
        unsigned argc = source->command(words);
        if (!redis_sync_send(import->redis, argc, words)) {
            lost(import);
            return;
        }
    }
    for (unsigned i = 0; i < count && !import->has_failed; i++) {
        const struct redis_reply *reply = redis_sync_receive(import->redis);
        if (reply == NULL) {
            lost(import);
            return;
        }
        take_reply(import, source, keys[i], reply);
    }
}

// The cursor of the next page, "0" at the end, in cursor[size].
static bool scan(struct import *import, struct str pattern, char *cursor, size_t size,
                 const struct import_source *source, struct page *page)
{
    struct str words[] = {STR("SCAN"), str_from_c(cursor), STR("MATCH"),
                          pattern,     STR("COUNT"),       STR("1000")};
    const struct redis_reply *reply =
        redis_sync_command(import->redis, sizeof words / sizeof words[0], words);
    if (reply == NULL) {
        lost(import);
        return false;
    }
    if (reply->type == REDIS_ERROR) {
        import_fail(import, "%s: %.*s", import->url.shown, STR_ARG(reply->text));
        return false;
    }
    const struct redis_reply *keys = redis_reply_item(reply, 1);
    str_copy(cursor, size, redis_reply_item(reply, 0)->text);
    for (unsigned i = 0; keys->type == REDIS_ARRAY && i < keys->count; i++) {
        struct str key = redis_reply_item(keys, i)->text;
        if (import_seen(import, &import->keys, key)) {
            continue; // SCAN may give a key more than once
        }
        if (source->wants(import, key) && !add_key(page, key)) {
            import_fail(import, "out of memory");
        }
    }
    end_page(page);
    return !import->has_failed;
}

// "prefix*", where the prefix stands for itself.
static void put_pattern(struct buf *pattern, struct str prefix)
{
    for (size_t i = 0; i < prefix.len; i++) {
        if (memchr("*?[]\\^", prefix.p[i], 6) != NULL) {
            buf_put_char(pattern, '\\');
        }
        buf_put_char(pattern, prefix.p[i]);
    }
    buf_put_char(pattern, '*');
}

void import_read(struct import *import, struct str prefix, const struct import_source *source)
{
    struct buf pattern;
    buf_init(&pattern, 0);
    put_pattern(&pattern, prefix);
    struct page page = {0};
    buf_init(&page.texts, 0);
    char cursor[32] = "0";
    if (pattern.failed) {
        import_fail(import, "out of memory");
    }
    while (!import->has_failed &&
           scan(import, buf_str(&pattern), cursor, sizeof cursor, source, &page)) {
        for (unsigned at = 0; at < page.count && !import->has_failed; at += IMPORT_PIPELINE) {
            unsigned count = page.count - at < IMPORT_PIPELINE ? page.count - at : IMPORT_PIPELINE;
            read_some(import, source, page.keys + at, count);
        }
        page.count = 0;
        buf_clear(&page.texts);
        if (strcmp(cursor, "0") == 0) {
            break;
        }
    }
    free(page.keys);
    buf_fini(&page.texts);
    buf_fini(&pattern);
}
