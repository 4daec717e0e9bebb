// SPDX-License-Identifier: MIT
#include "base/slab.h"
#include "base/invariant.h"
#include "base/sanitize.h"

void slab_init(struct slab *slab, size_t object_len, size_t keep_max)
{
    INVARIANT(object_len >= sizeof(void *));
    *slab = (struct slab){.object_len = object_len, .keep_max = keep_max};
}

static void *pop(struct slab *slab)
{
    void *object = slab->free;
    SANITIZE_UNPOISON(object, slab->object_len);
    memcpy(&slab->free, object, sizeof(void *));
    slab->free_count--;
    return object;
}

void slab_fini(struct slab *slab)
{
    while (slab->free != NULL) {
        free(pop(slab));
    }
}

void *slab_get(struct slab *slab)
{
    if (slab->live_max != 0 && slab->live_count >= slab->live_max) {
        return NULL;
    }
    void *object = slab->free != NULL ? pop(slab) : malloc(slab->object_len);
    if (object != NULL) {
        slab->live_count++;
    }
    return object;
}

void slab_put(struct slab *slab, void *object)
{
    INVARIANT(slab->live_count > 0);
    slab->live_count--;
    if (slab->free_count >= slab->keep_max) {
        free(object);
        return;
    }
    memcpy(object, &slab->free, sizeof(void *));
    slab->free = object;
    slab->free_count++;
    SANITIZE_POISON(object, slab->object_len);
}
