// SPDX-License-Identifier: MIT
#include "base/invariant.h"
#include "http/h1/h1_input.h"

bool h1_kept_append(struct loop *loop, struct h1_kept **place, struct str bytes)
{
    struct h1_kept *kept = *place;
    size_t have = kept == NULL ? 0 : kept->end - kept->start;
    if (bytes.len == 0) {
        return true;
    }
    if (kept == NULL || kept->size - kept->end < bytes.len) {
        size_t size = (have + bytes.len + 1023) & ~(size_t)1023;
        if (size < 2 * have) {
            size = 2 * have; // a large head in small pieces is not copied for each
        }
        struct h1_kept *larger = malloc(sizeof *larger + size);
        if (larger == NULL) {
            return false;
        }
        *larger = (struct h1_kept){.end = have, .size = size};
        if (have > 0) {
            memcpy(larger->data, kept->data + kept->start, have);
        }
        h1_kept_free(loop, place);
        kept = larger;
        *place = kept;
    }
    memcpy(kept->data + kept->end, bytes.p, bytes.len);
    kept->end += bytes.len;
    return true;
}

void h1_kept_put(struct loop *loop, struct h1_kept **place, struct h1_kept *kept, size_t used)
{
    if (used == h1_kept_bytes(kept).len) {
        h1_kept_free(loop, &kept);
        return;
    }
    INVARIANT(*place == NULL);
    kept->start += used;
    *place = kept;
}

static void free_kept(struct loop *loop, struct loop_deferred *deferred)
{
    (void)loop;
    free(CONTAINER_OF(deferred, struct h1_kept, deferred));
}

void h1_kept_free(struct loop *loop, struct h1_kept **place)
{
    if (*place != NULL) {
        loop_defer(loop, &(*place)->deferred, free_kept);
        *place = NULL;
    }
}
