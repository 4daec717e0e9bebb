// SPDX-License-Identifier: MIT
// A worker's proxy: listeners, client connections, transactions. One a worker thread.
#pragma once
#include "cert/cert.h"
#include "http/server.h"
#include "loop/version.h"
#include "model/config.h"
#include "observe/access_log.h"
#include "route/route.h"
#include "upstream/upstream.h"

struct proxy;
struct misses_source;

// Shared by all workers; constant, outlives them.
struct proxy_shared {
    const struct config *config;
    const struct route_table *routes;
    struct cert_table *certs; // NULL: no TLS
    const struct tls_ticket_ring *tickets;
    struct tls_context
        *origin_tls;               // of targets with https:// whose pool has no settings of its own
    struct access_log *access_log; // NULL: off
    // Where the admin API listens and believes who is on this machine: no target may be there. Family 0:
    // nowhere.
    struct sockaddr_storage admin_address;
    const struct misses_source *misses; // asked for hosts that are not known; NULL: nobody
    struct upstream_peers *peers;       // of all workers' connections; NULL: each is alone
    unsigned worker_count;
    atomic_uint connections; // open client connections of all workers
};

// The loop must have its outq pool and, with `certs`, its wire buffers (tls_loop_init); then the caller sets
// loop->owner to the proxy, where handshakes look for it. 0, or ERR_MEMORY, ERR_SYSTEM.
int proxy_new(struct proxy **proxy, struct loop *loop, unsigned index,
              struct proxy_shared *shared) WARN_UNUSED;
// Ends all connections. The loop's thread, or after it has ended.
void proxy_free(struct proxy **proxy);
// The thread of its loop has ended: whom it asks for hosts may be freed before it is.
void proxy_ask_nobody(struct proxy *proxy);
// Accepts from a listening socket, which stays the caller's. Before the thread starts.
int proxy_listen(struct proxy *proxy, int fd, enum http_accept kind) WARN_UNUSED;
// Worker: stops accepting (what waits in the queue is taken first), ends idle connections; the others
// end after their exchange. At `tunnel_ms` from now tunnels and what is left are ended.
void proxy_drain(struct proxy *proxy, uint64_t tunnel_ms);
// Worker: ends the transactions whose member is marked (pool_member.cut).
void proxy_cut(struct proxy *proxy);
