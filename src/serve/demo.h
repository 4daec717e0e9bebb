// SPDX-License-Identifier: MIT
// What `serve --demo` brings: two small origins on loopback and three routes to them, so that the first
// curl has something to show. Control thread.
#pragma once
#include "model/config.h"
#include "store/store.h"

struct demo;

// Listens on two free ports of 127.0.0.1 and declares pool "demo" and the routes, unless they exist.
// The declarations become live through the store like any others; then what to try is printed.
int demo_start(struct demo **demo, struct loop *control, struct store *store,
               const struct config *config, struct problems *problems) WARN_UNUSED;
void demo_free(struct demo **demo);
