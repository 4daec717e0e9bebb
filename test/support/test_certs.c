// SPDX-License-Identifier: MIT
#include "support/test_certs.h"
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void need(bool done)
{
    if (!done) {
        fputs("test_certs: OpenSSL failed\n", stderr);
        abort();
    }
}

static EVP_PKEY *make_key(enum test_key kind)
{
    static EVP_PKEY *rsa; // making one takes long
    switch (kind) {
    case TEST_KEY_EC:
        return EVP_EC_gen("P-256");
    case TEST_KEY_ED25519:
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    case TEST_KEY_RSA:
        break;
    }
    if (rsa == NULL) {
        rsa = EVP_RSA_gen(2048);
    }
    EVP_PKEY_up_ref(rsa);
    return rsa;
}

static void add_extension(X509 *leaf, const X509 *issuer, int id, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, (X509 *)(uintptr_t)issuer, leaf, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, id, value);
    need(extension != NULL && X509_add_ext(leaf, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

char *test_text(const char *data, size_t len)
{
    char *text = malloc(len + 1);
    need(text != NULL);
    memcpy(text, data, len);
    text[len] = '\0';
    return text;
}

static char *pem_of(X509 *const *certificates, unsigned count, EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    for (unsigned i = 0; i < count; i++) {
        need(PEM_write_bio_X509(bio, certificates[i]) == 1);
    }
    need(key == NULL || PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    char *text = test_text(data, (size_t)len);
    BIO_free(bio);
    return text;
}

static struct test_cert *make(const struct test_cert *issuer, const char *common, const char *names,
                              enum test_key kind, int begin_days, int end_days, bool is_ca)
{
    struct test_cert *cert = calloc(1, sizeof *cert);
    uint64_t serial = 0;
    cert->key = make_key(kind);
    cert->leaf = X509_new();
    X509 *leaf = cert->leaf;
    X509 *signer = issuer == NULL ? leaf : issuer->leaf;
    need(cert->key != NULL && RAND_bytes((unsigned char *)&serial, sizeof serial) == 1);
    X509_set_version(leaf, X509_VERSION_3);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(leaf), serial >> 1);
    X509_gmtime_adj(X509_getm_notBefore(leaf), 86400l * begin_days);
    X509_gmtime_adj(X509_getm_notAfter(leaf), 86400l * end_days);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(leaf), "CN", MBSTRING_UTF8,
                               (const unsigned char *)common, -1, -1, 0);
    X509_set_issuer_name(leaf, X509_get_subject_name(signer));
    X509_set_pubkey(leaf, cert->key);
    add_extension(leaf, signer, NID_basic_constraints, is_ca ? "critical,CA:TRUE" : "CA:FALSE");
    add_extension(leaf, signer, NID_subject_key_identifier, "hash");
    if (names != NULL && names[0] != '\0') {
        char sans[4096] = "";
        size_t len = 0;
        for (const char *at = names; *at != '\0';) {
            size_t part = strcspn(at, ",");
            len += (size_t)snprintf(sans + len, sizeof sans - len, "%sDNS:%.*s", len > 0 ? "," : "",
                                    (int)part, at);
            at += part + (at[part] == ',');
        }
        add_extension(leaf, signer, NID_subject_alt_name, sans);
    }
    EVP_PKEY *signing = issuer == NULL ? cert->key : issuer->key;
    int type = EVP_PKEY_get_base_id(signing);
    need(X509_sign(leaf, signing, type == EVP_PKEY_ED25519 ? NULL : EVP_sha256()) > 0);
    cert->chain = sk_X509_new_null();
    X509 *all[3] = {leaf};
    unsigned count = 1;
    if (issuer != NULL && sk_X509_num(issuer->chain) > 0) {
        all[count++] = issuer->leaf;
    }
    if (issuer != NULL) {
        X509_up_ref(issuer->leaf);
        sk_X509_push(cert->chain, issuer->leaf);
    }
    cert->chain_pem = pem_of(all, count, NULL);
    cert->leaf_pem = pem_of(all, 1, NULL);
    cert->key_pem = pem_of(NULL, 0, cert->key);
    return cert;
}

struct test_cert *test_ca(const char *name)
{
    return make(NULL, name, NULL, TEST_KEY_EC, -1, 365, true);
}

struct test_cert *test_intermediate(const struct test_cert *issuer, const char *name)
{
    return make(issuer, name, NULL, TEST_KEY_EC, -1, 365, true);
}

struct test_cert *test_leaf(const struct test_cert *issuer, const char *names, enum test_key kind,
                            int begin_days, int end_days)
{
    return make(issuer, names[0] == '\0' ? "nobody" : "leaf", names, kind, begin_days, end_days,
                false);
}

void test_cert_free(struct test_cert **place)
{
    struct test_cert *cert = *place;
    *place = NULL;
    if (cert != NULL) {
        X509_free(cert->leaf);
        EVP_PKEY_free(cert->key);
        sk_X509_pop_free(cert->chain, X509_free);
        free(cert->chain_pem);
        free(cert->leaf_pem);
        free(cert->key_pem);
        free(cert);
    }
}
