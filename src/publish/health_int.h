// SPDX-License-Identifier: MIT
// Between the files of health. Control thread.
#pragma once
#include "publish/health.h"

// ---- health.c ----

// Of the live version. NULL: there is none.
const struct pool_settings *health_settings(const struct named_pool *pool);

// ---- health_tell.c ----

// An event of the target, which is kept for status, and a line of the log if there were not too many.
void health_changed(struct publisher *publisher, struct pool_target *target, const char *state,
                    const char *reason);
void health_on_log_timer(struct loop *loop, struct loop_timer *timer);

// ---- health_active.c ----

// What checks are made with, of a live pool or of one that is tried.
struct health_source {
    const struct health_decl *health;
    struct str server_name;         // of the pool; empty: none
    uint8_t protocol;               // enum pool_protocol
    uint8_t send_proxy;             // enum send_proxy
    struct tls_context *tls;        // of the pool; NULL: none
    struct tls_context *health_tls; // of health.tls; NULL: none
    struct tls_context *origin_tls; // NULL: none
};
struct health_endpoint {
    struct str text; // "10.0.0.5:8080", "app:80", "unix:/run/x"
    enum target_scheme scheme;
    const struct sockaddr_storage *address;
    socklen_t address_len;
};
// Borrows from both.
void health_spec(struct probe_spec *spec, const struct health_source *source,
                 const struct health_endpoint *endpoint);
// Of all that probes of the pool are made with but the target itself. Not 0.
uint64_t active_digest(const struct publisher *publisher, const struct pool_settings *settings);
// The target's check begins, ends, changes or goes on, as the live version and target->health.declared say.
// False: out of memory, to be called again.
bool active_follow(struct publisher *publisher, struct pool_target *target,
                   const struct pool_settings *settings, uint64_t digest, bool is_new);
void active_end(struct publisher *publisher, struct pool_target *target);

// ---- health_passive.c ----

// A good check that took `ns` came in.
void passive_saw_good(struct publisher *publisher, struct pool_target *target,
                      const struct pool_settings *settings, uint64_t ns);
// An ejection ends without a word; does nothing without one.
void passive_end(struct publisher *publisher, struct pool_target *target);

// ---- slow_start.c ----

enum { WARM_FIRST = 100, WARM_WHOLE = 1000 }; // thousandths

void warm_begin(struct publisher *publisher, struct pool_target *target,
                const struct pool_settings *settings);
void warm_end(struct pool_target *target);
// Thousandths.
uint16_t warm_share(const struct pool_settings *settings, const struct target_health *health,
                    uint64_t now_ms);
void warm_on_timer(struct loop *loop, struct loop_timer *timer);

// ---- trial.c ----

// All trials end silently; who began one may still call publish_trial_end().
void trials_stop(struct publisher *publisher);
// They are freed.
void trials_free(struct publisher *publisher);
