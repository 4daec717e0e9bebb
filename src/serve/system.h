// SPDX-License-Identifier: MIT
// What the machine gives: processors, descriptors, a name.
#pragma once
#include "base/str.h"

// Processors this process may use: affinity and the quota of its cgroup, at least 1.
unsigned system_worker_count(void);
// Raises RLIMIT_NOFILE as far as it goes. Returns how many client connections it allows for: three
// quarters of the descriptors, since idle clients need no second one for a target. `wanted` 0: no bound.
unsigned system_connection_limit(unsigned wanted);
// "hostname-1a2b3c4d" from the host and a node id; terminated.
void system_node_name(struct str node_id, char *to, size_t size);
