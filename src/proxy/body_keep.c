// SPDX-License-Identifier: MIT
#include "proxy/body_keep.h"

struct body_keep_block {
    struct body_keep_block *next;
    size_t len;
    char data[];
};

enum { ROOM = BODY_KEEP_BLOCK_LEN - sizeof(struct body_keep_block) };

bool body_keep_append(struct body_keep *keep, struct slab *slab, struct str bytes)
{
    while (bytes.len > 0) {
        struct body_keep_block *block = keep->last;
        if (block == NULL || block->len == ROOM) {
            block = slab_get(slab);
            if (block == NULL) {
                return false;
            }
            block->next = NULL;
            block->len = 0;
            if (keep->last == NULL) {
                keep->first = block;
            } else {
                keep->last->next = block;
            }
            keep->last = block;
        }
        size_t part = bytes.len < ROOM - block->len ? bytes.len : ROOM - block->len;
        memcpy(block->data + block->len, bytes.p, part);
        block->len += part;
        keep->len += part;
        bytes = str_from(bytes, part);
    }
    return true;
}

void body_keep_free(struct body_keep *keep, struct slab *slab)
{
    while (keep->first != NULL) {
        struct body_keep_block *block = keep->first;
        keep->first = block->next;
        slab_put(slab, block);
    }
    keep->last = NULL;
    keep->len = 0;
}

void body_keep_each(const struct body_keep *keep, void (*visit)(void *context, struct str piece),
                    void *context)
{
    for (const struct body_keep_block *block = keep->first; block != NULL; block = block->next) {
        visit(context, str_make(block->data, block->len));
    }
}
