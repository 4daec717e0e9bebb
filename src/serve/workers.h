// SPDX-License-Identifier: MIT
// The worker threads. All functions: control thread (or the starting thread before it), unless they
// say otherwise.
#pragma once
#include "admin/admin.h"
#include "proxy/proxy.h"

struct workers;

// Makes the workers with their listeners on config->listen.http and https; none runs yet. 0, or an err with a
// problem that names the address.
int workers_new(struct workers **workers, struct proxy_shared *shared,
                struct problems *problems) WARN_UNUSED;
// Starts the threads. 0, or ERR_SYSTEM.
int workers_start(struct workers *workers) WARN_UNUSED;
// Tells them to drain; tunnels and what is left are ended after `tunnel_ms`.
void workers_drain(struct workers *workers, uint64_t tunnel_ms);
// Tells them to end what is marked as cut.
void workers_cut(struct workers *workers);
// Ends the threads and all connections.
void workers_stop(struct workers *workers);
void workers_free(struct workers **workers);
// Fills worker_count and workers of a status.
void workers_status(struct workers *workers, struct admin_status *status);
