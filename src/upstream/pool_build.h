// SPDX-License-Identifier: MIT
// How versions of pools come to be. Control thread (or the starting one).
#pragma once
#include "upstream/pool_member.h"
#include "upstream/pool_view.h"

struct name_use;
struct name_set;

// A declared target, and what stands for it in this version. Control; publish/ fills it.
struct pool_part {
    struct pool_member *member; // of a literal address or a unix path; holds a reference
    struct name_use *name;      // of a name; the same
    struct name_set *set;       // its members in the version's view, the same; NULL: no answer yet
    unsigned weight;
    unsigned max_connections; // 0: no bound
    uint8_t declared;         // enum target_state
    bool is_backup;
    bool is_far; // the node has a zone, and the target another one
};

// A pool's own version: struct version and what it owns in front of what workers read. It has no entries:
// workers pick from its view.
struct pool_own_version {
    struct version version;
    struct pool_own own;     // settings, and the view of workers
    void *tls_share;         // what own.settings.tls belongs to; the publisher's
    void *health_tls_share;  // the same of own.settings.health_tls
    struct pool_part *parts; // in the same block
    unsigned part_count;
    uint64_t changes;             // named_pool.changes when the view was made
    struct pool_view_facts facts; // of the view
    struct pool_version pool;
};

// NULL: out of memory. version.refs is 1; the settings are the declaration's (without tls), with all their
// texts but PEM blocks; room for a part of each target, no view.
struct pool_own_version *pool_version_new(const struct pool_decl *decl) WARN_UNUSED;

enum { KNOWN_FEW = 16 };

// Members that may be what is declared: searched one by one, or through a table when many.
struct known_members {
    struct pool_member *few[KNOWN_FEW];
    unsigned few_count;
    struct pool_member **table; // open addressing
    size_t mask;
};

// 0, or ERR_MEMORY.
int known_init(struct known_members *known, struct pool_member *const *items,
               unsigned count) WARN_UNUSED;
void known_fini(struct known_members *known);
// The member of a literal address or unix path that is not being cut, or NULL.
struct pool_member *known_find(const struct known_members *known,
                               const struct target_address *address);

// Fills entries[0] (there is room for it) with a literal address or a unix path. `known` (may be NULL) is the
// member if it is the same target and not being cut; else one is made, a bare one. It gets one reference.
// 0; or ERR_MEMORY, and nothing has changed.
int pool_fill_bare(struct pool_version *to, const struct target_decl *target,
                   struct pool_member *known) WARN_UNUSED;
