// SPDX-License-Identifier: MIT
#include "cert/handshake.h"
#include "cert/table_int.h"
#include "loop/rcu.h"
#include <stdlib.h>

// One that a handshake waits for. Outlives the handshake if that ends first.
struct provide_wait {
    struct cert_wait wait;
    struct tls *tls; // NULL: nobody waits any more
};

static void on_loaded(struct cert_wait *wait, int err)
{
    (void)err; // what is there is looked up again; what failed a moment ago is refused then
    struct provide_wait *provide = CONTAINER_OF(wait, struct provide_wait, wait);
    struct tls *tls = provide->tls;
    free(provide);
    if (tls != NULL) {
        tls_set_waiting(tls, NULL);
        tls_resume(tls);
    }
}

// False: it cannot be had now.
static bool ask(struct cert_table *table, struct tls *tls, struct cert_slot *slot)
{
    struct provide_wait *provide = calloc(1, sizeof *provide);
    if (provide == NULL) {
        return false;
    }
    provide->wait.loop = tls_loop(tls);
    provide->wait.on_loaded = on_loaded;
    provide->tls = tls;
    if (cert_ask(table, slot, &provide->wait) != 0) {
        free(provide);
        return false;
    }
    tls_set_waiting(tls, provide);
    return true;
}

enum tls_verdict cert_provide(struct cert_table *table, struct tls *tls,
                              struct cert_slot *const slots[2], bool *waited, bool *refused)
{
    const struct cert_loaded *loaded[2] = {NULL, NULL};
    unsigned count = 0;
    bool had_slot = false;
    for (unsigned i = 0; i < 2; i++) {
        if (slots[i] == NULL) {
            continue;
        }
        had_slot = true;
        loaded[i] = cert_get(slots[i], tls_loop(tls)->now_ms);
        if (loaded[i] == NULL && ask(table, tls, slots[i])) {
            if (waited != NULL) {
                *waited = true;
            }
            return TLS_WAIT; // it comes again, and then for the other one
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        if (loaded[i] != NULL &&
            tls_add_certificate(tls, loaded[i]->leaf, loaded[i]->chain, loaded[i]->key) == 0) {
            count++;
        }
    }
    if (count > 0) {
        return TLS_PROCEED;
    }
    if (refused != NULL && had_slot) {
        *refused = true;
    }
    return TLS_REFUSE;
}

void cert_abandon(struct tls *tls)
{
    struct provide_wait *provide = tls_waiting(tls);
    if (provide != NULL) {
        provide->tls = NULL;
        tls_set_waiting(tls, NULL);
    }
}

enum tls_verdict cert_client_provide(struct tls *tls, void *owner)
{
    const struct cert_client *client = owner;
    struct cert_slot *const slots[2] = {client->slot, NULL};
    enum tls_verdict verdict = cert_provide(client->table, tls, slots, NULL, NULL);
    // Without its certificate the target decides whether it takes us.
    return verdict == TLS_REFUSE ? TLS_PROCEED : verdict;
}

void cert_client_abandon(struct tls *tls, void *owner)
{
    (void)owner;
    cert_abandon(tls);
}

uint64_t cert_client_which(void *owner)
{
    const struct cert_client *client = owner;
    const struct cert_version *version = rcu_load(client->slot->current);
    return version == NULL ? 0 : version->number;
}
