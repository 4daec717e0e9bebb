// SPDX-License-Identifier: MIT
#include "http/h1/h1_input.h"

bool h1_kept_append(struct h1_kept **place, struct str bytes)
{
    struct h1_kept *kept = *place;
    size_t have = kept == NULL ? 0 : kept->end - kept->start;
    if (bytes.len == 0) {
        return true;
    }
    if (kept == NULL || kept->size - kept->end < bytes.len) {
        size_t size = (have + bytes.len + 1023) & ~(size_t)1023;
        struct h1_kept *larger = malloc(sizeof *larger + size);
        if (larger == NULL) {
            return false;
        }
        *larger = (struct h1_kept){.end = have, .size = size};
        if (have > 0) {
            memcpy(larger->data, kept->data + kept->start, have);
        }
        free(kept);
        kept = larger;
        *place = kept;
    }
    memcpy(kept->data + kept->end, bytes.p, bytes.len);
    kept->end += bytes.len;
    return true;
}

void h1_kept_consume(struct h1_kept **place, size_t len)
{
    struct h1_kept *kept = *place;
    if (kept == NULL) {
        return;
    }
    kept->start += len;
    if (kept->start >= kept->end) {
        h1_kept_free(place);
    }
}

void h1_kept_free(struct h1_kept **place)
{
    free(*place);
    *place = NULL;
}
