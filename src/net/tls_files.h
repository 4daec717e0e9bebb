// SPDX-License-Identifier: MIT
// What a TLS client reads from PEM files: whom it trusts, and who it is. Any thread; blocks on the disk.
#pragma once
#include "net/tls.h"

enum {
    TLS_FILE_MAX = 1 << 20, // bytes of a file
    TLS_FILE_WHY_MAX = 256,
};

// A certificate with its chain and its key.
struct tls_identity;

// The certificates of a file as a store of trusted ones. NULL with why[TLS_FILE_WHY_MAX], which names it.
struct x509_store_st *tls_store_from_file(const char *path, char *why);
// A chain, leaf first, and its key without a passphrase (both may be in one file). 0; ERR_SYSTEM: a file
// cannot be read; ERR_INVALID; ERR_MEMORY; all with why[TLS_FILE_WHY_MAX].
int tls_identity_load(struct tls_identity **identity, const char *certificate_file,
                      const char *key_file, char *why) WARN_UNUSED;
// NULL is allowed. No connection may ask for it any more.
void tls_identity_free(struct tls_identity **identity);
// The on_certificate of a tls_client_config whose `owner` is the identity.
enum tls_verdict tls_identity_give(struct tls *tls, void *identity);
