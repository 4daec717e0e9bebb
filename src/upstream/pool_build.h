// SPDX-License-Identifier: MIT
// How versions of pools come to be. Control thread (or the starting one).
#pragma once
#include "upstream/pool_member.h"

// A pool's own version: struct version and what it owns in front of what workers read.
struct pool_own_version {
    struct version version;
    struct pool_own own; // settings, and the view of workers
    void *tls_share;     // what own.settings.tls belongs to; the publisher's
    struct pool_version pool;
};

// Fills to->entries (room for `count`), entry_count, balance and stride. A target that is among `known`
// (and not being cut) is that member; others are made. Each member gets one reference.
// 0; or ERR_MEMORY, and all is as before.
int pool_fill(struct pool_version *to, enum balance balance, const struct target_decl *targets,
              unsigned count, struct pool_member *const *known, unsigned known_count) WARN_UNUSED;
// Undoes pool_fill of a version that was never published: members that nothing else holds are freed.
void pool_unfill(struct pool_version *pool);
// Each member's state is that of this version; right after it was published.
void pool_show_states(const struct pool_version *pool);

// NULL when memory is out. version.refs is 1; the settings are the declaration's (without
// tls).
struct pool_own_version *pool_own_version_new(const struct pool_decl *decl,
                                              struct pool_member *const *known,
                                              unsigned known_count);
// The whole of it; its members' references are given back before (pool_unfill, or by the reaper).
void pool_own_version_free(struct version *version);
