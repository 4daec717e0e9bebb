// SPDX-License-Identifier: MIT
#pragma once
#include "cli/output.h"

// The row "fleet" of the status, from the member of that name of its store; NULL: none. Main thread.
void nodes_put_fleet(struct table *table, const json_t *fleet);
