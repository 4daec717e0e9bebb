// SPDX-License-Identifier: MIT
// Blocks of a session's frame buffer: 16 KiB of which mostly the first few hundred bytes are ever used.
// They begin at page boundaries of mapped regions, without a header of the allocator in front, so that
// one page each is resident and not five. A region whose blocks are all free goes back to the system, but
// for one. Owner thread only.
#pragma once
#include "base/list.h"

enum {
    H2_PAGES_LEN = 5 * 4096, // bytes of a block: a frame of 16 KiB and its headers
    H2_PAGES_COUNT = 63,     // blocks of a region
};

struct h2_region;

struct h2_pages {
    struct list usable; // regions with free blocks
    unsigned empty;     // of these, those that have no others
};

void h2_pages_init(struct h2_pages *pages);
// All blocks must be free.
void h2_pages_fini(struct h2_pages *pages);
// A block and its region; NULL: out of memory.
void *h2_pages_get(struct h2_pages *pages, struct h2_region **region);
void h2_pages_put(struct h2_pages *pages, struct h2_region *region, void *block);
