// SPDX-License-Identifier: MIT
// Certificates for unit tests, made when they run. Everything is freed by test_cert_free().
#pragma once
#include <openssl/evp.h>
#include <openssl/x509.h>

enum test_key { TEST_KEY_EC, TEST_KEY_RSA, TEST_KEY_ED25519 };

struct test_cert {
    X509 *leaf;
    EVP_PKEY *key;
    STACK_OF(X509) * chain; // the issuer, unless it is its own; references
    char *chain_pem;        // leaf first, with its issuer if that is not a root
    char *leaf_pem;
    char *key_pem;
};

// A root authority.
struct test_cert *test_ca(const char *name);
// An authority under another one.
struct test_cert *test_intermediate(const struct test_cert *issuer, const char *name);
// A leaf for comma separated DNS names ("" : none), valid from `begin_days` to `end_days` from now.
struct test_cert *test_leaf(const struct test_cert *issuer, const char *names, enum test_key kind,
                            int begin_days, int end_days);
// `len` bytes as a terminated text; free().
char *test_text(const char *data, size_t len);
void test_cert_free(struct test_cert **cert);
