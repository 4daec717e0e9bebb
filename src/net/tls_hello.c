// SPDX-License-Identifier: MIT
// What a server connection asks its owner: at the ClientHello, and for certificates.
#include "net/client_hello.h"
#include "net/tls_int.h"
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdlib.h>

static bool take_sni(struct tls *tls)
{
    const unsigned char *p;
    size_t len;
    char text[CLIENT_HELLO_SNI_LEN];
    size_t text_len = 0;
    if (tls->name != NULL ||
        SSL_client_hello_get0_ext(tls->ssl, TLSEXT_TYPE_server_name, &p, &len) != 1) {
        return true;
    }
    if (client_hello_sni(str_make((const char *)p, len), text, &text_len) != 0) {
        return false;
    }
    tls->name = text_len == 0 ? NULL : str_dup(str_make(text, text_len));
    return text_len == 0 || tls->name != NULL;
}

static enum tls_verdict ask(struct tls *tls, enum tls_verdict (*hook)(struct tls *tls, void *user),
                            void *user)
{
    tls->in_hook = true;
    enum tls_verdict verdict = hook == NULL ? TLS_PROCEED : hook(tls, user);
    tls->in_hook = false;
    return verdict;
}

static int on_hello(SSL *ssl, int *alert, void *argument)
{
    (void)argument;
    struct tls *tls = tls_of(ssl);
    *alert = SSL_AD_DECODE_ERROR;
    if (!take_sni(tls)) {
        return SSL_CLIENT_HELLO_ERROR;
    }
    const struct tls_server_hooks *hooks = tls->context->hooks;
    switch (ask(tls, hooks == NULL ? NULL : hooks->on_hello, tls->user)) {
    case TLS_PROCEED:
        return SSL_CLIENT_HELLO_SUCCESS;
    case TLS_WAIT:
        return SSL_CLIENT_HELLO_RETRY;
    case TLS_UNRECOGNIZED_NAME:
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_CLIENT_HELLO_ERROR;
    case TLS_REFUSE:
        break;
    }
    *alert = SSL_AD_INTERNAL_ERROR;
    return SSL_CLIENT_HELLO_ERROR;
}

static int on_certificate(SSL *ssl, void *argument)
{
    (void)argument;
    struct tls *tls = tls_of(ssl);
    const struct tls_server_hooks *hooks = tls->context->hooks;
    switch (ask(tls, hooks == NULL ? NULL : hooks->on_certificate, tls->user)) {
    case TLS_PROCEED:
        return 1;
    case TLS_WAIT:
        return -1;
    case TLS_UNRECOGNIZED_NAME:
    case TLS_REFUSE:
        break;
    }
    return 0;
}

// h2 before http/1.1, whatever order the client has (RFC 7301 3.2).
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *in, unsigned in_len, void *argument)
{
    (void)argument;
    static const unsigned char h2[] = "h2";
    static const unsigned char http1[] = "http/1.1";
    const struct tls *tls = tls_of(ssl);
    const unsigned char *best = NULL;
    for (unsigned i = 0; i < in_len && i + 1 + in[i] <= in_len; i += 1u + in[i]) {
        if (in[i] == 2 && memcmp(in + i + 1, h2, 2) == 0 && !tls->context->http1_only) {
            best = h2;
            break;
        }
        if (in[i] == 8 && memcmp(in + i + 1, http1, 8) == 0) {
            best = http1;
        }
    }
    if (best == NULL) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = best;
    *out_len = best == h2 ? 2 : 8;
    return SSL_TLSEXT_ERR_OK;
}

void tls_server_callbacks(SSL_CTX *ssl)
{
    SSL_CTX_set_client_hello_cb(ssl, on_hello, NULL);
    SSL_CTX_set_cert_cb(ssl, on_certificate, NULL);
    SSL_CTX_set_alpn_select_cb(ssl, on_alpn, NULL);
}

// ---- for hooks ----

int tls_add_certificate(struct tls *tls, struct x509_st *leaf, struct stack_st_X509 *chain,
                        struct evp_pkey_st *key)
{
    return SSL_use_cert_and_key(tls->ssl, leaf, key, chain, 1) == 1 ? 0 : ERR_TLS;
}

void tls_set_scope(struct tls *tls, const struct tls_scope *scope)
{
    _Static_assert(sizeof *scope == TLS_SCOPE_LEN && TLS_SCOPE_LEN <= SSL_MAX_SID_CTX_LENGTH,
                   "a scope is the context of its sessions");
    tls->scope = *scope;
    SSL_set_session_id_context(tls->ssl, (const unsigned char *)scope, sizeof *scope);
}

void tls_ask_certificate(struct tls *tls, struct x509_store_st *store, bool is_required)
{
    SSL_set_verify(tls->ssl, SSL_VERIFY_PEER | (is_required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                   NULL);
    SSL_set1_verify_cert_store(tls->ssl, store);
    STACK_OF(X509) *all = X509_STORE_get1_all_certs(store);
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
    for (int i = 0; names != NULL && i < sk_X509_num(all); i++) {
        X509_NAME *name = X509_NAME_dup(X509_get_subject_name(sk_X509_value(all, i)));
        if (name != NULL && sk_X509_NAME_push(names, name) == 0) {
            X509_NAME_free(name);
        }
    }
    SSL_set0_CA_list(tls->ssl, names);
    sk_X509_pop_free(all, X509_free);
}
