// SPDX-License-Identifier: MIT
// What a server sends gives the same replies whole and in pieces, and each of them is well-formed.
#include "base/hash.h"
#include "base/invariant.h"
#include "redis/redis_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LEN_MAX = 65536, DEPTH_MAX = 16 };

struct seen {
    uint64_t hash;
    unsigned count;
    int end;
};

static void mix(struct seen *seen, const void *p, size_t len)
{
    uint64_t both[2] = {seen->hash, len == 0 ? 0 : hash_bytes(p, len)};
    seen->hash = hash_bytes(both, sizeof both);
}

// Each item of a reply once, without recursion.
static void look(struct seen *seen, const struct redis_reply *reply)
{
    const struct redis_reply *path[DEPTH_MAX] = {reply};
    unsigned at[DEPTH_MAX] = {0};
    unsigned depth = 1;
    while (depth > 0) {
        const struct redis_reply *here = path[depth - 1];
        if (at[depth - 1] == 0) {
            mix(seen, &here->type, sizeof here->type);
            mix(seen, &here->integer, sizeof here->integer);
            mix(seen, here->text.p, here->text.len);
            INVARIANT(here->text.p == NULL || here->text.p[here->text.len] == 0);
            INVARIANT(here->type == REDIS_ARRAY || here->count == 0);
        }
        if (at[depth - 1] == here->count) {
            depth--;
            continue;
        }
        INVARIANT(depth < DEPTH_MAX);
        path[depth] = redis_reply_item(here, at[depth - 1]++);
        INVARIANT(path[depth] != NULL);
        at[depth++] = 0;
    }
}

static void read_all(struct redis_reader *reader, struct seen *seen)
{
    const struct redis_reply *reply = NULL;
    const char *why = NULL;
    while (seen->end >= 0 && (seen->end = redis_reader_next(reader, &reply, &why)) == STEP_DONE) {
        seen->count++;
        look(seen, reply);
    }
    INVARIANT(seen->end >= 0 || why != NULL);
}

static struct seen read_pieces(struct str input, size_t piece)
{
    struct seen seen = {0};
    struct redis_reader reader;
    INVARIANT(redis_reader_init(&reader) == 0);
    for (size_t at = 0; at < input.len && seen.end >= 0; at += piece) {
        INVARIANT(redis_reader_feed(&reader, str_sub(input, at, piece)));
        read_all(&reader, &seen);
    }
    redis_reader_fini(&reader);
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hash_seed();
    if (size == 0 || size > LEN_MAX) {
        return 0;
    }
    struct str input = str_make((const char *)data, size);
    struct seen whole = read_pieces(input, size);
    struct seen bytes = read_pieces(input, 1);
    struct seen some = read_pieces(input, 7);
    INVARIANT(whole.count == bytes.count && whole.count == some.count);
    INVARIANT(whole.hash == bytes.hash && whole.hash == some.hash);
    INVARIANT(whole.end == bytes.end && whole.end == some.end);
    return 0;
}
