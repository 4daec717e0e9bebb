// SPDX-License-Identifier: MIT
// Active health checks. One thread with a loop of its own (DNS lives on it as well: net/resolver.h);
// control says what is to be checked, results go back by its mailbox.
//
//   control ── probe_begin ──► prober: interval with jitter ─► client stream or connect ─► verdict ──┐
//           ◄──────────────────────────── on_result (mailbox) ◄─────────────────────────────────────┘
#pragma once
#include "http/client.h"
#include "model/declaration.h"

struct prober;
struct probe;

enum { PROBE_BODY_MAX = 65536, PROBE_REASON_MAX = 96 };

// All is copied (tls: referenced).
struct probe_spec {
    enum health_type type;
    struct sockaddr_storage address;
    socklen_t address_len;
    struct tls_context *tls; // NULL: plain
    struct str server_name;
    enum http_client_protocol protocol;
    uint8_t send_proxy; // enum send_proxy: a PROXY header of our own goes first (LOCAL in v2)
    struct str host;    // of Host
    struct str path;
    struct str body; // must be found; empty: any
    const struct status_range *statuses;
    unsigned status_count;
    unsigned interval_ms;
    unsigned timeout_ms;
    bool is_once; // one result, then nothing more until probe_end()
};

struct probe_result {
    bool is_good;
    bool says_drain;               // Pointsman-Target: drain
    int says_weight;               // Pointsman-Target: weight=5; -1: nothing
    unsigned status;               // 0: none came
    uint64_t ns;                   // until the verdict
    char reason[PROBE_REASON_MAX]; // "status 503", "connect: refused", "no answer in 2 s", "ok"
};

// Control loop. probe_end() may be called inside.
typedef void probe_done(void *context, const struct probe_result *result);

// At most `max` checks are under way at a time. 0, or ERR_MEMORY, ERR_SYSTEM.
int prober_new(struct prober **prober, unsigned max) WARN_UNUSED;
// Its loop, for what else is to run there; before prober_start() nothing runs on it.
struct loop *prober_loop(struct prober *prober);
// Checks never go to who listens there (the admin API believes who is on this machine). Before the start.
void prober_forbid(struct prober *prober, const struct sockaddr_storage *listen);
int prober_start(struct prober *prober, struct loop *control) WARN_UNUSED;
// The thread has ended after it; no results come any more.
void prober_stop(struct prober *prober);
// All probes ended.
void prober_free(struct prober **prober);
// Checks made and those that failed since the start. Any thread.
void prober_counts(const struct prober *prober, uint64_t *checks, uint64_t *failures);

// Control thread, or the starting one. The first check comes at once (spread over interval_ms / 10 when many
// begin together), each next one interval_ms after the one before began, +-10 %. NULL: out of memory.
struct probe *probe_begin(struct prober *prober, const struct probe_spec *spec,
                          probe_done *on_result, void *context);
// Takes another spec; what is under way is given up, results of the old one do not come. 0 or ERR_MEMORY.
int probe_change(struct probe *probe, const struct probe_spec *spec) WARN_UNUSED;
// No result after it. *probe is NULL after.
void probe_end(struct probe **probe);
