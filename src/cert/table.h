// SPDX-License-Identifier: MIT
// Changes to the certificate table, its thread, its default certificate. Control thread, registered with
// RCU (or the starting one).
#pragma once
#include "cert/cert.h"
#include "cert/seal.h"

struct cert_loader {
    // Certificate thread: the secret of a certificate as it is stored (sealed). 0, ERR_NOT_FOUND,
    // ERR_UNAVAILABLE, ERR_MEMORY.
    int (*fetch)(void *context, struct str name, struct buf *secret);
    void *context;
};

struct cert_table_config {
    unsigned loaded_max; // limits.certificates_loaded
    unsigned waits_max;  // limits.certificate_waits
    const struct seal *seal;
    struct cert_loader loader;
    const char
        *default_file; // PEM with key and self-signed certificate of this node; made if missing
};

// 0, or an err with a problem. The default certificate is there when it returns.
int cert_table_new(struct cert_table **table, const struct cert_table_config *config,
                   struct problems *problems) WARN_UNUSED;
// No reader and no version any more; the thread has ended.
void cert_table_free(struct cert_table **table);
int cert_table_start(struct cert_table *table) WARN_UNUSED; // the thread
void cert_table_stop(struct cert_table *table);

// Immutable but for `loaded`.
struct cert_version {
    struct version version;
    struct cert_slot *slot;
    struct cert_loaded *loaded;     // rcu; NULL: not now
    struct certificate_facts facts; // its views live in `memory`
    struct str *names;
    unsigned name_count;
    bool is_second; // RSA: slots[1]
    void *memory;
};

// publish/change.c's steps; the same rules as route/table.h: make and build allocate all, publish
// cannot fail.
struct cert_slot *cert_table_slot(const struct cert_table *table, struct str name);
int cert_table_make(struct cert_table *table, struct str name, struct cert_slot **slot) WARN_UNUSED;
// What publishing needs is made here: nodes for names that are not in the table yet.
int cert_version_new(struct cert_table *table, struct cert_slot *slot,
                     const struct certificate_decl *decl,
                     struct cert_version **version) WARN_UNUSED;
// Swaps the version (NULL: deleted), adds and removes names. Live when it returns. Returns the version
// before (the caller retires it: a grace period, its last pin, then version_unref).
struct cert_version *cert_table_publish(struct cert_table *table, struct cert_slot *slot,
                                        struct cert_version *version);
// Removes a slot without version and names without slots; what must wait for a grace period is retired
// inside.
void cert_table_sweep(struct cert_table *table, struct cert_slot *slot);

// Visits slots whose certificate ends before `before` (Unix seconds), in slices: starts after *position (0
// first); false when it is at the end.
bool cert_table_expiring(struct cert_table *table, uint64_t before, uint64_t *position,
                         unsigned limit,
                         void (*visit)(void *context, struct str name,
                                       const struct certificate_facts *facts),
                         void *context);
struct str cert_slot_name(const struct cert_slot *slot);
