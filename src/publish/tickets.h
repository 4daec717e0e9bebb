// SPDX-License-Identifier: MIT
// Session ticket keys: one record "current" of NOUN_TICKETS, so that all workers and nodes have the same.
//
//   value:  {"keys": [{"name": <32 hex>, "created": <Unix seconds>}, …]}       newest first
//   secret: the same with "key" (128 hex), sealed for "tickets/current"
#pragma once
#include "cert/seal.h"
#include "net/tls.h"
#include "store/store.h"

enum {
    TICKETS_ROTATE_SEC = 12 * 3600, // how long a key seals
    TICKETS_KEEP_SEC = 48 * 3600,   // how long it opens
};

// The change that is due at `now_sec`: keys where there are none (or none that can be read), a new one in front
// when the newest has sealed for long enough, old ones dropped. *request is NULL when nothing is due; else
// it is for store_submit(), its answer needs no care: another node that was faster is as good
// (ERR_PRECONDITION). 0, or ERR_MEMORY, ERR_SYSTEM, ERR_UNAVAILABLE. Control thread (or the starting one).
int tickets_rotate(struct store *store, const struct seal *seal, uint64_t now_sec,
                   struct store_request **request) WARN_UNUSED;

// The keys of a secret. 0 and *keys (tickets_free), or ERR_INVALID, ERR_NOT_FOUND (sealed with a key that
// is not there), ERR_MEMORY. Any thread.
int tickets_open(const struct seal *seal, struct str secret,
                 struct tls_ticket_keys **keys) WARN_UNUSED;
// Wipes. For rcu_retire() too; NULL is allowed.
void tickets_free(void *keys);
