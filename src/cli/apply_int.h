// SPDX-License-Identifier: MIT
// The parts of `apply`. Main thread.
#pragma once
#include "cli/client.h"
#include "cli/input.h"
#include "model/operations.h"

// Prints one result, as JSON or for people.
void operation_show(const struct operations *operations, const struct operation *operation,
                    const char *result, bool is_json);
// What would be done. Returns the exit status.
int operations_try(struct operations *operations, struct client *client, bool is_json);
