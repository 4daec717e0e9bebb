// SPDX-License-Identifier: MIT
// The bodies of `route put` and `pool put`, from files, --set-json and flags. Main thread.
#pragma once
#include "cli/command.h"
#include <jansson.h>

// A new reference, or NULL: wrong use, printed.
json_t *route_body(const struct args *args);
json_t *pool_body(const struct args *args);
