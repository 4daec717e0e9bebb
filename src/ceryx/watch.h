// SPDX-License-Identifier: MIT
// Ceryx' keys in Redis as a source of declarations: what others write there becomes routes.
//
//   worker: unknown host ─► look-up ─┐                                    ┌─► route live here ─► worker
//   notification ─► hosts to look at ┼─► read ─► translate ─► store_submit┤
//   scan (one node, by its lease) ───┘   (one script)   (guards: still as read; mark: adopted)
//
// It lives on the loop of the fleet's thread, with connections of its own.
#pragma once
#include "cert/seal.h"
#include "loop/loop.h"
#include "proxy/miss.h"
#include "redis/redis.h"
#include "store/store.h"

enum {
    CERYX_LOOKUP_MAX = 100,         // look-ups under way, of all workers
    CERYX_REMEMBERED = 10240,       // hosts, at most, that are remembered as not there
    CERYX_LEASE_MS = 3000,          // the node that scans is another one after so long a silence
    CERYX_RENEW_MS = 1000,          // between its renewals, and the tries of others
    CERYX_PASS_MS = 500,            // from one pass of a scan to the next, at least
    CERYX_PASS_NOTIFIED_MS = 10000, // the same while notifications come
    CERYX_PAGE = 500,               // hosts that are read at a time
    CERYX_PAGE_MS = 25,             // between pages, from CERYX_PAGES_FAST of a pass on
    CERYX_PAGES_FAST = 40,
    CERYX_NOTED_MAX = 10000, // hosts that notifications named; more: the whole is scanned
};

struct ceryx_watch_config {
    const struct redis_url *url; // all texts outlive the source
    const struct redis_tls *tls;
    struct loop *loop;        // of the fleet's thread
    struct store *store;      // whose writes go to the same Redis
    const struct seal *seal;  // of store.encryption_key_file
    const char *prefix;       // ceryx.prefix
    const char *store_prefix; // store.prefix
    const char *node_id;
    unsigned miss_timeout_ms;
};

struct ceryx_watch_status {
    bool is_connected;
    bool is_scanning;             // this node has the lease
    bool is_notified;             // keyspace notifications come
    uint64_t adopted;             // hosts whose route was written from their keys, by this node
    uint64_t deleted;             // the same, taken away
    uint64_t refused;             // hosts that cannot be translated, or were refused by the store
    uint64_t certificate_refused; // hosts adopted without their certificate
    char refused_host[URI_HOST_MAX + 1]; // the last one of either; ""
    char refused_detail[256];
    uint64_t lookups;  // asked of Redis
    uint64_t joined;   // another look-up of the host was under way
    uint64_t found;    // and live
    uint64_t missing;  // there is no such host
    uint64_t negative; // answered from memory: it was not there a moment ago
    uint64_t over;     // unknown at once: CERYX_LOOKUP_MAX
    uint64_t failed;   // unknown: no answer in time, Redis or the store away
    uint64_t under_way;
    uint64_t scans;         // whole passes
    uint64_t scan_ms;       // how long the last one took
    uint64_t scanned;       // hosts it saw
    uint64_t notifications; // that were of use
};

struct ceryx_watch;

// 0; ERR_MEMORY, ERR_INVALID, ERR_SYSTEM with a problem.
int ceryx_watch_new(struct ceryx_watch **watch, const struct ceryx_watch_config *config,
                    struct problems *problems) WARN_UNUSED;
// The loop runs, or will: begins to connect. Any thread, once.
void ceryx_watch_start(struct ceryx_watch *watch);
// Gives the lease back, so that another node goes on at once. Before the loop is stopped. Any thread, once.
void ceryx_watch_leave(struct ceryx_watch *watch);
// The loop's thread has ended, no worker asks any more, and the answers of all requests to the store are on
// their way or delivered: ends what is under way. NULL is allowed.
void ceryx_watch_stop(struct ceryx_watch *watch);
// After ceryx_watch_stop() and before the loop is freed.
void ceryx_watch_free(struct ceryx_watch **watch);
// For struct proxy_shared. Lives as long as the source.
const struct misses_source *ceryx_watch_misses(const struct ceryx_watch *watch);
// Any thread.
void ceryx_watch_get_status(struct ceryx_watch *watch, struct ceryx_watch_status *status);
