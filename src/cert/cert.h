// SPDX-License-Identifier: MIT
// Certificates, chosen live by name.
//
//   SNI ─► cert_table (lock-free hash: "shop.example.com", ".example.com" of "*.example.com")
//       ─► cert_name ─► up to two slots (ECDSA, RSA) ─rcu─► cert_version ─rcu─► cert_loaded (parsed)
//
// A version knows names and dates, not the key: what a handshake needs is read, opened and parsed by the
// certificate thread when it is first asked for, and kept in a bounded, least recently used set per
// node. A worker never reads: it asks and its handshake is suspended (cert_ask).
#pragma once
#include "loop/loop.h"
#include "loop/version.h"
#include "model/declaration.h"
#include "net/tls.h"

struct cert_table;
struct cert_slot;

// What a handshake needs. Immutable; freed a grace period after it left its version.
struct cert_loaded {
    struct x509_st *leaf;
    struct stack_st_X509 *chain; // without the leaf
    struct evp_pkey_st *key;
    _Atomic uint64_t used_ms; // loop time of the last use, written at most once a second
};

// The slots of one name. slots[0] is the ECDSA or EdDSA one if there is one; NULL: none.
struct cert_choice {
    struct cert_slot *slots[2];
    uint64_t ids[2]; // of the slots' names (stable over nodes and restarts), 0: none
    bool is_default; // no slot is for this name: the default certificate
};

// Worker, in an RCU section. Exact, then one label's wildcard (RFC 9525 6.3), else the default. `name` is
// canonical (lower case, no trailing dot), empty: none.
void cert_find(const struct cert_table *table, struct str name, struct cert_choice *choice);
// Parsed already: in an RCU section. NULL: cert_ask().
const struct cert_loaded *cert_get(struct cert_slot *slot, uint64_t now_ms);

// One that waits. Embedded in its owner or allocated; belongs to the certificate thread from cert_ask()
// until on_loaded.
struct cert_wait {
    struct loop_message message;
    struct loop *loop;
    struct cert_slot *slot;
    struct cert_version *version; // referenced
    // On `loop`. err 0: cert_get() gives it now (unless it was replaced meanwhile: ask again).
    void (*on_loaded)(struct cert_wait *wait, int err);
    int err;
};

// Asks for slot->current. 0; ERR_LIMIT: too many wait already (limits.certificate_waits); ERR_NOT_FOUND:
// the slot has no version any more; ERR_UNAVAILABLE: it failed a moment ago, or the end is near. Worker, in an RCU section; wait->loop and on_loaded are set.
int cert_ask(struct cert_table *table, struct cert_slot *slot, struct cert_wait *wait) WARN_UNUSED;

struct cert_counts {
    uint64_t certificates; // declared
    uint64_t names;
    uint64_t loaded; // parsed now
    uint64_t loads;  // since the start
    uint64_t load_failures;
    uint64_t waits; // now
    uint64_t waits_refused;
    uint64_t evictions;
};
void cert_get_counts(const struct cert_table *table, struct cert_counts *counts); // any thread
