// SPDX-License-Identifier: MIT
// The first bytes of a request body, kept while no target has been chosen, and for sending the request
// again. Worker.
#pragma once
#include "base/slab.h"
#include "base/str.h"

enum { BODY_KEEP_BLOCK_LEN = 16384 };

struct body_keep_block;

struct body_keep {
    struct body_keep_block *first;
    struct body_keep_block *last;
    uint64_t len;
};

// slab: of BODY_KEEP_BLOCK_LEN. False when memory is out.
bool body_keep_append(struct body_keep *keep, struct slab *slab, struct str bytes);
void body_keep_free(struct body_keep *keep, struct slab *slab);
// Calls visit for each piece in order.
void body_keep_each(const struct body_keep *keep, void (*visit)(void *context, struct str piece),
                    void *context);
