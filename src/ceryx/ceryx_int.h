// SPDX-License-Identifier: MIT
#pragma once
#include "base/str.h"

// FNV-1a over 64 bits, going on from `hash`: not seeded, so that all nodes agree. It tells what was changed by
// chance, it is no defence.
#define CERYX_HASH_BEGIN 0xcbf29ce484222325ull
uint64_t ceryx_hash(uint64_t hash, struct str text);
