// SPDX-License-Identifier: MIT
// From a JSON value to what the store takes, for the API, the files and copies alike. Any thread.
#pragma once
#include "cert/seal.h"
#include "store/store.h"
#include <jansson.h>

// Fills *change: decoded strictly, agreeing with its key (canonical), checked, its references collected, a
// certificate's secret sealed (`seal` NULL: as it is). 0, or a negative err with problems and an empty
// change. The caller ends it with store_change_fini().
int declare_change(const struct seal *seal, enum noun noun, const char *key, json_t *value,
                   struct store_change *change, struct problems *problems) WARN_UNUSED;

// Is the declaration good as far as it can be told from itself: a certificate and its key, the CAs that
// routes and pools name? Fills a certificate's facts (cert/check.h). 0, or the err of `problems`.
int declare_check(struct declaration *declaration, struct problems *problems) WARN_UNUSED;
