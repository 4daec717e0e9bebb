// SPDX-License-Identifier: MIT
// What connections have in common: versions, ciphers, trust.
#include "net/tls_int.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>

// Mozilla's intermediate profile but for its DHE suites: a client that has them and no ECDHE is hard to
// find, and one that asks for nothing else makes a server work (CVE-2002-20001). All are good, so the
// order is ours, with ChaCha20 for clients that put it first (they have no AES in hardware).
#define CIPHERS_12                                               \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:" \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:" \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS     "X25519:P-256:P-384"

// New context with one reference and what both sides share. NULL: out of memory.
static struct tls_context *new_context(const SSL_METHOD *side, enum tls_profile profile)
{
    struct tls_context *context = calloc(1, sizeof *context);
    if (context == NULL) {
        return NULL;
    }
    atomic_init(&context->refs, 1);
    context->ssl = SSL_CTX_new(side);
    if (context->ssl == NULL ||
        SSL_CTX_set_min_proto_version(context->ssl, profile == TLS_MODERN ? TLS1_3_VERSION
                                                                          : TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(context->ssl, CIPHERS_12) != 1 ||
        SSL_CTX_set_ciphersuites(context->ssl, CIPHERS_13) != 1 ||
        SSL_CTX_set1_groups_list(context->ssl, GROUPS) != 1) {
        tls_context_unref(&context);
        return NULL;
    }
    SSL_CTX_set_mode(context->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    // FIN without close_notify is the end of input as on a plain connection, and tls_is_truncated() tells:
    // the other way stays open, and sessions stay good.
    SSL_CTX_set_options(context->ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                          SSL_OP_IGNORE_UNEXPECTED_EOF |
                                          SSL_OP_CIPHER_SERVER_PREFERENCE |
                                          SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_session_cache_mode(context->ssl, SSL_SESS_CACHE_OFF);
    return context;
}

int tls_server_context_new(struct tls_context **out, const struct tls_server_config *config)
{
    ERR_clear_error();
    *out = new_context(TLS_server_method(), config->profile);
    struct tls_context *context = *out;
    if (context == NULL) {
        return ERR_MEMORY;
    }
    context->is_server = true;
    context->hooks = config->hooks;
    context->tickets = config->tickets;
    context->http1_only = config->http1_only;
    tls_server_callbacks(context->ssl);
    int err = tls_ticket_callbacks(context);
    if (err != 0) {
        tls_context_unref(out);
    }
    return err;
}

static X509_STORE *system_store;

static void load_system_store(void)
{
    system_store = X509_STORE_new();
    if (system_store != NULL && X509_STORE_set_default_paths(system_store) != 1) {
        ERR_clear_error(); // a system without: nothing is trusted
    }
}

static int on_client_certificate(SSL *ssl, void *argument)
{
    (void)argument;
    struct tls *tls = tls_of(ssl);
    const struct tls_client_config *config = &tls->context->client;
    tls->in_hook = true;
    enum tls_verdict verdict = config->on_certificate(tls, config->owner);
    tls->in_hook = false;
    return verdict == TLS_PROCEED ? 1 : verdict == TLS_WAIT ? -1 : 0;
}

int tls_client_context_new(struct tls_context **out, const struct tls_client_config *config)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    ERR_clear_error();
    *out = new_context(TLS_client_method(), config->profile);
    struct tls_context *context = *out;
    if (context == NULL) {
        return ERR_MEMORY;
    }
    context->client = *config;
    context->client.store = NULL;
    SSL_CTX_set_verify(context->ssl, config->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (config->verify && config->store == NULL) {
        pthread_once(&once, load_system_store);
    }
    X509_STORE *store = config->store != NULL ? config->store : system_store;
    if (config->verify && store != NULL) {
        SSL_CTX_set1_cert_store(context->ssl, store);
    }
    if (config->on_certificate != NULL) {
        SSL_CTX_set_cert_cb(context->ssl, on_client_certificate, NULL);
    }
    int err = config->verify && store == NULL ? ERR_MEMORY : tls_sessions_new(context);
    if (err != 0) {
        tls_context_unref(out);
    }
    return err;
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
    atomic_fetch_add_explicit(&context->refs, 1, memory_order_relaxed);
    return context;
}

void tls_context_unref(struct tls_context **place)
{
    struct tls_context *context = *place;
    *place = NULL;
    // Release and acquire: what others did with it is done before it is freed.
    if (context == NULL || atomic_fetch_sub_explicit(&context->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    SSL_CTX_free(context->ssl);
    tls_sessions_free(&context->sessions);
    free(context);
}

struct x509_store_st *tls_store_from_pem(struct str pem, const char **why)
{
    *why = "out of memory";
    ERR_clear_error();
    BIO *bio = pem.len > INT32_MAX ? NULL : BIO_new_mem_buf(pem.p, (int)pem.len);
    X509_STORE *store = X509_STORE_new();
    unsigned count = 0;
    while (bio != NULL && store != NULL) {
        X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (certificate == NULL) {
            break;
        }
        count += X509_STORE_add_cert(store, certificate) == 1;
        X509_free(certificate);
    }
    bool is_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    bool has_memory = bio != NULL && store != NULL;
    ERR_clear_error();
    BIO_free(bio);
    if (has_memory && count > 0 && is_end) {
        // Who trusts an intermediate need not trust all that its root has issued.
        X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
        *why = NULL;
        return store;
    }
    if (has_memory) {
        *why = count == 0 ? "holds no certificate in PEM" : "holds a certificate that is malformed";
    }
    X509_STORE_free(store);
    return NULL;
}

void tls_store_free(struct x509_store_st *store)
{
    X509_STORE_free(store);
}
