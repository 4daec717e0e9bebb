// SPDX-License-Identifier: MIT
// Certificates for a handshake under way: what is loaded is given, for the rest the handshake waits.
// Worker thread, inside tls hooks.
#pragma once
#include "cert/cert.h"

// Gives tls_add_certificate() what is loaded of the slots (NULL: none). TLS_WAIT: one must be loaded
// first, then tls_resume(). TLS_REFUSE: none can be had (counted: *refused is set). `waited` is set when
// it waits. Both may be NULL.
enum tls_verdict cert_provide(struct cert_table *table, struct tls *tls,
                              struct cert_slot *const slots[2], bool *waited, bool *refused);
// The handshake is over while it waits: nobody resumes it.
void cert_abandon(struct tls *tls);

// The same for connections to targets: on_certificate, on_abandoned and which_certificate of a
// tls_client_config whose owner is one of these; made by publish/, outlives the context.
struct cert_client {
    struct cert_table *table;
    struct cert_slot *slot;
};
enum tls_verdict cert_client_provide(struct tls *tls, void *owner);
void cert_client_abandon(struct tls *tls, void *owner);
// 0: there is none now. In an RCU section.
uint64_t cert_client_which(void *owner);
