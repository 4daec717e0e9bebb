// SPDX-License-Identifier: MIT
// TLS of the admin API: the same certificates as the traffic's, chosen by name; on addresses beyond loopback
// nobody else than this machine may do without.
#include "admin/admin_int.h"
#include "base/log.h"
#include "cert/handshake.h"
#include "net/address.h"

// What a ticket of the admin API is good for: for nothing else, and nothing else for it.
static const struct tls_scope admin_scope = {.policy = {0x706f696e74736d61, 0x6e2d61646d696e}};

static enum tls_verdict on_hello(struct tls *tls, void *user)
{
    (void)user;
    tls_set_scope(tls, &admin_scope);
    return TLS_PROCEED;
}

static enum tls_verdict on_certificate(struct tls *tls, void *user)
{
    (void)user;
    const struct admin *admin = tls_loop(tls)->owner;
    struct cert_choice choice;
    bool waited = false;
    bool refused = false;
    cert_find(admin->deps.certs, tls_sni(tls), &choice);
    return cert_provide(admin->deps.certs, tls, choice.slots, &waited, &refused);
}

static void on_abandoned(struct tls *tls, void *user)
{
    (void)user;
    cert_abandon(tls);
}

static const struct tls_server_hooks hooks = {on_hello, on_certificate, on_abandoned};

int admin_tls_open(struct admin *admin)
{
    if (admin->deps.certs == NULL) {
        return 0;
    }
    bool is_modern = admin->deps.config->tls.profile == TLS_PROFILE_MODERN;
    struct tls_server_config config = {
        .profile = is_modern ? TLS_MODERN : TLS_INTERMEDIATE,
        .hooks = &hooks,
    };
    admin->loop->owner = admin;
    return tls_server_context_new(&admin->tls, &config);
}

void admin_tls_close(struct admin *admin)
{
    tls_context_unref(&admin->tls);
}

bool admin_tls_may_be_plain(struct http_server *server, const struct in6_addr *peer)
{
    (void)server;
    return net_is_loopback(peer);
}

void admin_tls_on_handshake(struct http_server *server, struct tls *tls, int err)
{
    (void)server;
    if (err != 0) {
        log_debug("admin: a TLS handshake failed: %s", tls_failure(tls));
    }
}
