// SPDX-License-Identifier: MIT
// A running node: its threads, from start to the end of draining.
#pragma once
#include "model/config.h"

struct serve_request {
    struct config *config; // checked; limits.connections may be lowered to what the system gives
    bool demo;             // two small origins and three routes
};

// Starts, serves until SIGTERM or SIGINT, drains. Main thread. Returns the exit status of the program;
// why a start failed is printed.
int serve_run(const struct serve_request *request);
