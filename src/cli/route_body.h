// SPDX-License-Identifier: MIT
// The bodies of `route put`, `pool put` and `pool switch`, from files, --set-json and flags. Main thread.
#pragma once
#include "cli/command.h"
#include <jansson.h>

// A new reference, or NULL: wrong use, printed.
json_t *route_body(const struct args *args);
json_t *pool_body(const struct args *args);
// The targets of all --to, with their weights if given. A new reference.
json_t *switch_targets(const struct args *args);
