// SPDX-License-Identifier: MIT
// Objects of one size with a free list, for connections and transactions: taken and given back
// without malloc once warm. Freed objects over `keep_max` go back to malloc. Owner thread only.
#pragma once
#include <stddef.h>

struct slab {
    void *free; // the first word of a free object links to the next
    size_t object_len;
    size_t free_count;
    size_t keep_max;
    size_t live_count; // objects handed out
    size_t live_max;   // bound on live_count, set after slab_init(); 0: none
};

// object_len >= sizeof(void *).
void slab_init(struct slab *slab, size_t object_len, size_t keep_max);
// Frees what is kept; objects still handed out are the caller's fault and stay allocated.
void slab_fini(struct slab *slab);
// An object, not cleared; NULL when memory is out or live_max is reached.
void *slab_get(struct slab *slab);
void slab_put(struct slab *slab, void *object);
