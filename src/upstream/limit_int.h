// SPDX-License-Identifier: MIT
// What a limit is made of, for limit.c and recall.c.
#pragma once
#include "upstream/limit.h"

struct upstream_limit {
    atomic_uint refs;
    atomic_uint max; // 0: no bound
    atomic_uint open;
    atomic_uint idle;
    atomic_bool is_h2;                  // some were
    _Atomic(struct pool_queue *) queue; // referenced
    // The message that goes round.
    atomic_uint asked; // connections to be closed that the round does not know of yet
    atomic_bool is_under_way;
    struct loop_message round;
    struct upstream_peers *peers;
    unsigned at;     // whose turn it is
    unsigned wanted; // still, of this round
    unsigned hops;   // left
};
