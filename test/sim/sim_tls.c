// SPDX-License-Identifier: MIT
#include "sim/sim_tls.h"
#include "cert/handshake.h"
#include "sim/sim.h"

const struct sim_host *sim_find_host(struct sim *sim, struct str name)
{
    for (unsigned i = 0; i < sim->tls.host_count; i++) {
        if (str_eq(name, str_from_c(sim->tls.hosts[i].name))) {
            return &sim->tls.hosts[i];
        }
    }
    return NULL;
}

struct tls sim_handshake(struct sim *sim, const char *sni)
{
    struct tls tls = {0};
    const struct sim_host *host = sim_find_host(sim, str_from_c(sni));
    str_copy(tls.sni, sizeof tls.sni, str_from_c(sni));
    if (host != NULL) {
        memcpy(tls.scope.certificates, host->ids, sizeof tls.scope.certificates);
        memcpy(tls.scope.policy, host->auth.id, sizeof tls.scope.policy);
    }
    return tls;
}

// ---- cert/ ----

void cert_find(const struct cert_table *table, struct str name, struct cert_choice *choice)
{
    struct sim *sim = (struct sim *)(uintptr_t)table;
    const struct sim_host *host = sim_find_host(sim, name);
    *choice = (struct cert_choice){.is_default = host == NULL || host->ids[0] == 0};
    if (host != NULL) {
        memcpy(choice->ids, host->ids, sizeof choice->ids);
    }
}

enum tls_verdict cert_provide(struct cert_table *table, struct tls *tls,
                              struct cert_slot *const slots[2], bool *waited, bool *refused)
{
    (void)table;
    (void)tls;
    (void)slots;
    (void)waited;
    (void)refused;
    return TLS_REFUSE;
}

void cert_abandon(struct tls *tls)
{
    (void)tls;
}

// ---- net/tls.h ----

int tls_server_context_new(struct tls_context **context, const struct tls_server_config *config)
{
    (void)config;
    *context = NULL;
    return 0;
}

void tls_context_unref(struct tls_context **context)
{
    *context = NULL;
}

struct str tls_sni(const struct tls *tls)
{
    return str_from_c(tls->sni);
}

struct str tls_version(const struct tls *tls)
{
    (void)tls;
    return STR("1.3");
}

enum tls_protocol tls_protocol(const struct tls *tls)
{
    return tls->is_h2 ? TLS_H2 : TLS_HTTP1;
}

bool tls_is_resumed(const struct tls *tls)
{
    (void)tls;
    return false;
}

const struct tls_scope *tls_scope(const struct tls *tls)
{
    return &tls->scope;
}

struct loop *tls_loop(const struct tls *tls)
{
    (void)tls;
    return NULL;
}

void tls_set_scope(struct tls *tls, const struct tls_scope *scope)
{
    tls->scope = *scope;
}

void tls_ask_certificate(struct tls *tls, struct x509_store_st *store, bool is_required)
{
    (void)tls;
    (void)store;
    (void)is_required;
}

bool tls_peer_certificate(const struct tls *tls, char *subject, size_t size, size_t *subject_len,
                          char fingerprint[64])
{
    if (!tls->has_certificate) {
        return false;
    }
    *subject_len = str_copy(subject, size, STR("CN=alice"));
    memset(fingerprint, 'a', 64);
    return true;
}
