// SPDX-License-Identifier: MIT
// The admin API: REST over the same HTTP code that serves the proxy, on the control loop.
//
//   accept ─► http_server ─► guard (token, Host, Origin) ─► row of calls.c ─► handler ─► answer
//                                                             │ writes            ▲
//                                                             ▼                   │ on_done
//                                              store thread: check, commit, feed ─┘
//
// Nothing here holds the control thread for long: long answers and batches run in slices of
// ADMIN_SLICE_NS as loop tasks, with backpressure. All functions: control thread, unless they say
// otherwise.
#pragma once
#include "cert/cert.h"
#include "cert/seal.h"
#include "files/files.h"
#include "ceryx/watch.h"
#include "fleet/fleet.h"
#include "model/config.h"
#include "observe/access_log.h"
#include "observe/stats.h"
#include "publish/publish.h"
#include "store/store.h"

struct admin;

struct admin_worker_status {
    unsigned id;
    uint64_t connections;
    uint64_t requests;
};

// What the program as a whole knows about itself. The strings live as long as the program.
struct admin_status {
    uint64_t uptime_ms;
    bool is_draining;
    bool is_ready;
    struct str node_name;
    struct str node_zone;
    unsigned worker_count;
    struct admin_worker_status workers[STATS_WORKER_MAX];
};

struct admin_hooks {
    // Fills a zeroed *status.
    void (*status)(void *context, struct admin_status *status);
    // After publisher_cut_member(): workers are to end what is marked.
    void (*cut)(void *context);
};

// All are borrowed and outlive the admin.
struct admin_deps {
    struct loop *control;
    const struct config *config;
    struct store *store;
    struct publisher *publisher;
    struct files *files; // NULL: declarations are written here; else they come from these files
    struct ceryx_watch *ceryx; // NULL: Ceryx' keys in Redis are not looked at
    struct fleet *fleet;       // NULL: this node is alone; else declarations are in its Redis
    struct cert_table
        *certs; // NULL: none, and no TLS; else the loop has its buffers (tls_loop_init)
    const struct seal *seal; // of secrets in the store; NULL: they are stored as they are
    const struct access_log *access_log; // NULL: none is written
    const char *token; // NULL or "": none; then only loopback and unix sockets are served
    const struct admin_hooks *hooks;
    void *context; // of the hooks
};

// The control loop has its outputs (outq_pool_init). Before the control thread runs is fine too. With
// certificates control->owner becomes the admin.
// 0, or ERR_MEMORY, ERR_SYSTEM.
int admin_new(struct admin **admin, const struct admin_deps *deps) WARN_UNUSED;
// Takes a listening, non-blocking descriptor (closed by admin_free, and on error).
// 0; ERR_INVALID: beyond loopback without a token; ERR_LIMIT: too many; ERR_SYSTEM.
int admin_listen(struct admin *admin, int fd) WARN_UNUSED;
// The same for an address where Ceryx' API is alone, for anybody who reaches it: without a token, without TLS.
// 0; ERR_LIMIT: too many; ERR_SYSTEM.
int admin_listen_ceryx(struct admin *admin, int fd) WARN_UNUSED;
// Closes all connections and listeners. After store_stop() and the turns that take the
// store's last answers: none may come any more. Before publisher_free() and loop_fini().
void admin_free(struct admin **admin);

// What main tells the readers of /v1/events: the store's on_state, and "ready", "draining", …
void admin_store_changed(struct admin *admin, bool is_writable, struct str detail);
void admin_files_changed(struct admin *admin); // what is wrong with the files is not what it was
void admin_node_changed(struct admin *admin, const char *state);
void admin_fleet_event(struct admin *admin, const struct fleet_event *event);

// Is the declaration good as far as it can be told from itself: a certificate and its key, the CAs that
// routes and pools name? Fills a certificate's facts (cert/check.h). Any thread, also without an admin.
// 0, or the err of `problems`.
int admin_check_declaration(struct declaration *declaration, struct problems *problems) WARN_UNUSED;

// The token of the API: read from `path`, or made at the first start (32 random bytes as hexadecimal
// digits, mode 0600, O_EXCL). *token is malloc'd. A file that others than its owner may read is
// refused, as is one that holds no token. Any thread.
// 0; ERR_INVALID or ERR_SYSTEM with a problem that names the file and the way out; ERR_MEMORY.
int admin_token_load(const char *path, char **token, struct problems *problems) WARN_UNUSED;
