// SPDX-License-Identifier: MIT
// What is known of a connection after its handshake.
#include "net/tls_int.h"
#include <openssl/bio.h>
#include <openssl/x509.h>

struct str tls_sni(const struct tls *tls)
{
    return tls->name == NULL || !tls->context->is_server ? STR("") : str_from_c(tls->name);
}

struct str tls_version(const struct tls *tls)
{
    switch (SSL_version(tls->ssl)) {
    case TLS1_3_VERSION:
        return tls->is_established ? STR("1.3") : STR("");
    case TLS1_2_VERSION:
        return tls->is_established ? STR("1.2") : STR("");
    default:
        return STR("");
    }
}

enum tls_protocol tls_protocol(const struct tls *tls)
{
    const unsigned char *name = NULL;
    unsigned len = 0;
    SSL_get0_alpn_selected(tls->ssl, &name, &len);
    return len == 0 ? TLS_NO_PROTOCOL : len == 2 ? TLS_H2 : TLS_HTTP1;
}

bool tls_is_resumed(const struct tls *tls)
{
    return SSL_session_reused(tls->ssl) == 1;
}

const struct tls_scope *tls_scope(const struct tls *tls)
{
    return &tls->scope;
}

static bool write_subject(const X509 *certificate, char *to, size_t size, size_t *len)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio == NULL) {
        return false;
    }
    int written = X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
    char *text = NULL;
    long text_len = BIO_get_mem_data(bio, &text);
    bool done = written >= 0 && text_len >= 0;
    if (done && (size_t)text_len < size) { // a part of it could be somebody else's name
        *len = str_copy(to, size, str_make(text, (size_t)text_len));
    }
    BIO_free(bio);
    return done;
}

bool tls_peer_certificate(const struct tls *tls, char *subject, size_t size, size_t *subject_len,
                          char fingerprint[64])
{
    static const char digits[] = "0123456789abcdef";
    const X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;
    *subject_len = 0;
    if (certificate == NULL || SSL_get_verify_result(tls->ssl) != X509_V_OK ||
        X509_digest(certificate, EVP_sha256(), digest, &digest_len) != 1 || digest_len != 32 ||
        !write_subject(certificate, subject, size, subject_len)) {
        return false;
    }
    for (unsigned i = 0; i < digest_len; i++) {
        fingerprint[2 * i] = digits[digest[i] >> 4];
        fingerprint[2 * i + 1] = digits[digest[i] & 15];
    }
    return true;
}
