// SPDX-License-Identifier: MIT
// Secrets in the store that are not sealed with the newest key of store.encryption_key_file are sealed anew,
// in small steps after the start: so keys are turned by listing the new one first, and the old one can go
// when the log says that all are done. Control thread (or the starting one).
#pragma once
#include "cert/seal.h"
#include "store/store.h"

struct reseal;

// The store's threads run. *reseal stays NULL when there is no key, and so nothing to do. 0, or ERR_MEMORY.
// `store` and `seal` outlive it.
int reseal_start(struct reseal **reseal, struct loop *control, struct store *store,
                 const struct seal *seal) WARN_UNUSED;
// After the store's last answers were taken. NULL is allowed.
void reseal_free(struct reseal **reseal);
