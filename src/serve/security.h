// SPDX-License-Identifier: MIT
// What a node needs for TLS, besides its workers: keys of the store, certificates and their thread, session
// tickets, the context for targets. The control thread (or the starting one before it).
#pragma once
#include "cert/table.h"
#include "model/config.h"
#include "store/store.h"

struct security;

// Opens the key file, a reader of the store and the certificate table with its default certificate; no
// thread runs yet. 0, or an err with a problem. `config` outlives it.
int security_new(struct security **security, const struct config *config, struct store *store,
                 struct problems *problems) WARN_UNUSED;
// Starts the certificate thread, and what goes on beside on the control loop: new keys for session tickets,
// sealing anew. The store's threads run. 0, or ERR_SYSTEM, ERR_MEMORY.
int security_start(struct security *security, struct loop *control) WARN_UNUSED;
// Ends it: before the loops' mailboxes are emptied for the last time, after the workers have ended. NULL is
// allowed.
void security_stop(struct security *security);
// After the store's last answers, before it is closed. NULL is allowed.
void security_close_store(struct security *security);
// After everything that has versions or connections. NULL is allowed.
void security_free(struct security **security);

// Live as long as it does.
struct cert_table *security_certs(const struct security *security);
const struct seal *security_seal(const struct security *security);
struct tls_ticket_ring *security_tickets(struct security *security);
struct tls_context *security_origin_tls(const struct security *security);
