// SPDX-License-Identifier: MIT
// SipHash-1-3 (Aumasson, Bernstein) with a key drawn at start: tenants choose names, so hashes
// must not be predictable. Any thread after hash_seed().
#pragma once
#include "base/str.h"

// Draws the process's key (getrandom). Once, before any thread starts. A second call does nothing.
void hash_seed(void);
uint64_t hash_bytes(const void *p, size_t len);

static inline uint64_t hash_str(struct str s)
{
    return hash_bytes(s.p, s.len);
}
