// SPDX-License-Identifier: MIT
// The counts of a pool's members, packed: a scan of 1,000 of them reads 4 KB. They lie in blocks that never
// move, so workers hold pointers to them; places that were given back are taken again, the lowest first.
// Control thread, but for the counts themselves.
#pragma once
#include "base/err.h"
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct pool_counts;

struct pool_counts *pool_counts_new(void) WARN_UNUSED; // NULL: out of memory
// All counts go with it.
void pool_counts_free(struct pool_counts **counts);
// A count of 0. NULL: out of memory.
atomic_uint *pool_counts_get(struct pool_counts *counts) WARN_UNUSED;
// No worker uses it any more.
void pool_counts_put(struct pool_counts *counts, atomic_uint *count);
