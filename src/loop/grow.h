// SPDX-License-Identifier: MIT
// Growing the hash tables beside the traffic. liburcu can do so by itself (CDS_LFHT_AUTO_RESIZE), but
// its 0.13 may lose the request for ever when the thread that asks is interrupted at the wrong moment,
// and then all chains grow long; so a thread of ours does it.
#pragma once
#include "loop/rcu.h"

enum { GROW_TABLE_MAX = 2 };

struct grower;

// The thread starts with the first request. Control thread, all of it. NULL: out of memory.
struct grower *grower_new(void);
// Waits for a growth under way. The caller is registered with RCU.
void grower_free(struct grower **grower);
// Makes `table` (its number under GROW_TABLE_MAX) have `buckets` (a power of 2) soon. False: not now,
// ask again later.
bool grower_ask(struct grower *grower, unsigned number, struct cds_lfht *table,
                unsigned long buckets);
