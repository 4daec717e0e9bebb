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
    unsigned loaded_max;     // limits.certificates_loaded
    unsigned waits_max;      // limits.certificate_waits
    const struct seal *seal; // or NULL: no keys
    struct cert_loader loader;
    const char *default_file;     // PEM with key and certificate chain
    const char *default_key_file; // NULL: the key is in the same file
    bool
        default_is_given; // the operator's (tls.default_certificate): it must exist. Else it is this
                          // node's own, self-signed, made if missing
};

// 0, or an err with a problem. The default certificate is there when it returns.
int cert_table_new(struct cert_table **table, const struct cert_table_config *config,
                   struct problems *problems) WARN_UNUSED;
// The thread has ended, no reader is left, and all that was retired has been freed (rcu_drain). Frees the
// versions that are still there.
void cert_table_free(struct cert_table **table);
int cert_table_start(struct cert_table *table) WARN_UNUSED; // the thread
// Ends the thread. Those that wait are answered with ERR_UNAVAILABLE: before the mailboxes of their loops
// are emptied for the last time. Asking later gives that too.
void cert_table_stop(struct cert_table *table);
// Makes room for that many names before many come at once. Blocks.
void cert_table_expect(struct cert_table *table, uint64_t names);

// A certificate with files that were changed since version `number` was made. Certificate thread.
// `declaration` is checked and has the facts of the new pair; the callee owns it. NULL: the new pair is
// bad, `detail` says why, and what was there stays.
typedef void (*cert_on_files)(void *context, struct str name, uint64_t number,
                              struct declaration *declaration, const char *detail);
// NULL: nobody. When it returns the one before is not called any more.
void cert_table_on_files(struct cert_table *table, cert_on_files on_files, void *context);

struct cert_link;

// Immutable but for `loaded`, and what belongs to one thread.
struct cert_version {
    struct version version;
    struct cert_slot *slot;
    struct cert_loaded *loaded; // rcu; NULL: not now
    _Atomic uint64_t
        failed_until_ms; // it could not be loaded: not tried again before. Certificate thread
    uint64_t number;     // of all versions of the table
    struct certificate_facts facts; // its views live in the version's memory
    struct str *names;
    unsigned name_count;
    bool is_second;        // RSA: slots[1]
    bool has_hosts;        // the names were declared
    uint8_t announced;     // expiry thresholds that were told of. Control
    bool is_watched;       // among table->watched
    struct str chain_file; // empty: chain and key are in the store
    struct str key_file;
    struct cert_link *links; // one a name. Control
    struct cert_table *table;
    struct {
        struct list node; // table->watched
        uint64_t
            seen[2];   // signatures of the files when they were last looked at. Certificate thread
        bool is_known; // seen[] is set
        bool is_changed; // since it was last judged
    } watch;
};

// publish/change.c's steps; the same rules as route/table.h: make and build allocate all, publish
// cannot fail.
struct cert_slot *cert_table_slot(const struct cert_table *table, struct str name);
int cert_table_make(struct cert_table *table, struct str name, struct cert_slot **slot) WARN_UNUSED;
// What publishing needs is made here: nodes for names that are not in the table yet.
// The caller publishes it, or gives it back (version_unref, then cert_table_sweep).
int cert_version_new(struct cert_table *table, struct cert_slot *slot,
                     const struct certificate_decl *decl,
                     struct cert_version **version) WARN_UNUSED;
// Swaps the version (NULL: deleted), adds and removes names. Live when it returns. Returns the version
// before (the caller retires it: a grace period, its last pin, then version_unref).
struct cert_version *cert_table_publish(struct cert_table *table, struct cert_slot *slot,
                                        struct cert_version *version);
// Removes a slot without version and names without slots; what must wait for a grace period is retired
// inside. slot NULL: only names.
void cert_table_sweep(struct cert_table *table, struct cert_slot *slot);
// Others that keep a slot: it stays while they do. Control.
void cert_slot_ref(struct cert_slot *slot);
void cert_slot_unref(struct cert_table *table, struct cert_slot *slot);

// Visits up to `limit` slots in slices, with their versions (if they have one): starts at *position (0
// first) and moves it; false when it is at the end. What comes or goes between two slices may be missed
// or come twice.
bool cert_table_visit(struct cert_table *table, uint64_t *position, unsigned limit,
                      void (*visit)(void *context, struct cert_version *version), void *context);
// Control. NULL: it has none.
struct cert_version *cert_slot_version(const struct cert_slot *slot);
struct str cert_slot_name(const struct cert_slot *slot);
