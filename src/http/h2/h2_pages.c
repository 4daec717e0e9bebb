// SPDX-License-Identifier: MIT
#include "http/h2/h2_pages.h"
#include "base/invariant.h"
#include <string.h>
#include <sys/mman.h>

// At the beginning of its mapping; the blocks follow on the next page.
struct h2_region {
    struct list node;
    void *free; // the first word of a free block links to the next
    unsigned used;
    unsigned fresh; // blocks never used: they are not touched to be linked
};

enum { HEAD_LEN = 4096, REGION_LEN = HEAD_LEN + H2_PAGES_COUNT * H2_PAGES_LEN };

void h2_pages_init(struct h2_pages *pages)
{
    list_init(&pages->usable);
    pages->empty = 0;
}

static struct h2_region *new_region(struct h2_pages *pages)
{
    void *p = mmap(NULL, REGION_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return NULL;
    }
    // A huge page would make all of it resident. Where there are none, this fails and changes nothing.
    (void)madvise(p, REGION_LEN, MADV_NOHUGEPAGE);
    struct h2_region *region = p;
    region->fresh = H2_PAGES_COUNT;
    list_push(&pages->usable, &region->node);
    pages->empty++;
    return region;
}

static void drop_region(struct h2_pages *pages, struct h2_region *region)
{
    pages->empty--;
    list_remove(&region->node);
    munmap(region, REGION_LEN);
}

void *h2_pages_get(struct h2_pages *pages, struct h2_region **region)
{
    struct h2_region *from = list_is_empty(&pages->usable)
                                 ? new_region(pages)
                                 : LIST_FIRST(&pages->usable, struct h2_region, node);
    if (from == NULL) {
        return NULL;
    }
    void *block = from->free;
    if (block != NULL) {
        memcpy(&from->free, block, sizeof(void *));
    } else {
        from->fresh--;
        block = (char *)from + HEAD_LEN + (size_t)from->fresh * H2_PAGES_LEN;
    }
    pages->empty -= from->used == 0;
    from->used++;
    if (from->used == H2_PAGES_COUNT) {
        list_remove(&from->node);
    }
    *region = from;
    return block;
}

void h2_pages_put(struct h2_pages *pages, struct h2_region *region, void *block)
{
    INVARIANT(region->used > 0);
    if (region->used == H2_PAGES_COUNT) {
        list_push(&pages->usable, &region->node);
    }
    memcpy(block, &region->free, sizeof(void *));
    region->free = block;
    if (--region->used == 0) {
        pages->empty++;
        if (pages->empty > 1) {
            drop_region(pages, region);
        }
    }
}

void h2_pages_fini(struct h2_pages *pages)
{
    while (!list_is_empty(&pages->usable)) {
        struct h2_region *region = LIST_FIRST(&pages->usable, struct h2_region, node);
        INVARIANT(region->used == 0);
        drop_region(pages, region);
    }
}
