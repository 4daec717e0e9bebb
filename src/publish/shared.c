// SPDX-License-Identifier: MIT
// What many declarations say alike is kept once: client certificate policies and TLS contexts, by digest.
// Equal pools so share their context, and with it their connections to targets.
#include "base/invariant.h"
#include "cert/digest.h"
#include "cert/handshake.h"
#include "publish/publish_int.h"
#include <stdlib.h>

// ---- client certificate policies ----

static struct named_auth *make_auth(struct publisher *publisher, const struct route_decl *decl,
                                    const uint8_t *id, const char *digest, int *err)
{
    struct named_auth *named = calloc(1, sizeof *named);
    const char *why;
    *err = ERR_MEMORY;
    if (named == NULL) {
        return NULL;
    }
    named->auth.store = tls_store_from_pem(decl->client_auth.ca, &why);
    named->auth.is_required = decl->client_auth.is_required;
    memcpy(named->auth.id, id, sizeof named->auth.id);
    named->auth.id[0] += named->auth.id[0] == 0;
    str_copy(named->digest, sizeof named->digest, str_from_c(digest));
    named->node.name = str_from_c(named->digest);
    if (named->auth.store == NULL || name_map_add(&publisher->auths, &named->node) != 0) {
        *err = named->auth.store == NULL ? ERR_INVALID : ERR_MEMORY;
        tls_store_free(named->auth.store);
        free(named);
        return NULL;
    }
    return named;
}

int auth_get(struct publisher *publisher, const struct route_decl *decl,
             struct route_client_auth **auth)
{
    struct str parts[] = {decl->client_auth.ca,
                          decl->client_auth.is_required ? STR("require") : STR("optional")};
    uint8_t id[CERT_DIGEST_LEN];
    char digest[2 * CERT_DIGEST_LEN + 1];
    cert_digest(parts, 2, id);
    cert_digest_text(parts, 2, digest);
    struct name_node *found = name_map_find(&publisher->auths, str_from_c(digest));
    int err = 0;
    struct named_auth *named = found != NULL ? CONTAINER_OF(found, struct named_auth, node)
                                             : make_auth(publisher, decl, id, digest, &err);
    if (named == NULL) {
        return err;
    }
    named->refs++;
    *auth = &named->auth;
    return 0;
}

void auth_put(struct publisher *publisher, struct route_client_auth *auth)
{
    struct named_auth *named = CONTAINER_OF(auth, struct named_auth, auth);
    INVARIANT(named->refs > 0);
    if (--named->refs == 0) {
        name_map_remove(&publisher->auths, &named->node);
        tls_store_free(named->auth.store);
        free(named);
    }
}

// ---- TLS to targets ----

static struct named_client *client_by_name(struct publisher *publisher, struct str name)
{
    struct name_node *found = name_map_find(&publisher->clients, name);
    if (found != NULL) {
        return CONTAINER_OF(found, struct named_client, node);
    }
    struct named_client *named = calloc(1, sizeof *named + name.len + 1);
    if (named == NULL || cert_table_make(publisher->certs, name, &named->client.slot) != 0) {
        free(named);
        return NULL;
    }
    cert_slot_ref(named->client.slot);
    named->client.table = publisher->certs;
    str_copy(named->name, name.len + 1, name);
    named->node.name = str_make(named->name, name.len);
    if (name_map_add(&publisher->clients, &named->node) != 0) {
        cert_slot_unref(publisher->certs, named->client.slot);
        free(named);
        return NULL;
    }
    return named;
}

static int make_context(struct publisher *publisher, const struct pool_tls_decl *decl,
                        struct tls_context **context)
{
    struct tls_client_config config = {.profile = TLS_INTERMEDIATE, .verify = decl->verify};
    const char *why;
    if (decl->client_certificate.len > 0 && publisher->certs != NULL) {
        struct named_client *client = client_by_name(publisher, decl->client_certificate);
        if (client == NULL) {
            return ERR_MEMORY;
        }
        config.on_certificate = cert_client_provide;
        config.on_abandoned = cert_client_abandon;
        config.which_certificate = cert_client_which;
        config.owner = &client->client;
    }
    if (decl->ca.len > 0 && (config.store = tls_store_from_pem(decl->ca, &why)) == NULL) {
        return ERR_INVALID;
    }
    int err = tls_client_context_new(context, &config);
    tls_store_free(config.store); // the context has a reference of its own
    return err;
}

int tls_get(struct publisher *publisher, const struct pool_tls_decl *decl, struct named_tls **out)
{
    struct str parts[] = {decl->verify ? STR("verify") : STR("trust"), decl->ca,
                          decl->client_certificate};
    char digest[2 * CERT_DIGEST_LEN + 1];
    cert_digest_text(parts, 3, digest);
    struct name_node *found = name_map_find(&publisher->tls, str_from_c(digest));
    if (found != NULL) {
        *out = CONTAINER_OF(found, struct named_tls, node);
        (*out)->refs++;
        return 0;
    }
    struct named_tls *named = calloc(1, sizeof *named);
    if (named == NULL) {
        return ERR_MEMORY;
    }
    str_copy(named->digest, sizeof named->digest, str_from_c(digest));
    named->node.name = str_from_c(named->digest);
    named->refs = 1;
    int err = make_context(publisher, decl, &named->context);
    if (err == 0) {
        err = name_map_add(&publisher->tls, &named->node);
    }
    if (err != 0) {
        tls_context_unref(&named->context);
        free(named);
        return err;
    }
    *out = named;
    return 0;
}

void tls_put(struct publisher *publisher, struct named_tls *named)
{
    INVARIANT(named->refs > 0);
    if (--named->refs == 0) {
        name_map_remove(&publisher->tls, &named->node);
        tls_context_unref(&named->context); // connections have references of their own
        free(named);
    }
}

void shared_clear(struct publisher *publisher)
{
    struct name_node *node;
    INVARIANT(publisher->auths.count == 0 && publisher->tls.count == 0);
    while ((node = name_map_pop(&publisher->clients)) != NULL) {
        struct named_client *named = CONTAINER_OF(node, struct named_client, node);
        cert_slot_unref(publisher->certs, named->client.slot);
        free(named);
    }
    name_map_fini(&publisher->clients);
    name_map_fini(&publisher->auths);
    name_map_fini(&publisher->tls);
}
