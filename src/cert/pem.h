// SPDX-License-Identifier: MIT
// Certificates and keys as text, and the files that they come from. Any thread.
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <openssl/evp.h>
#include <openssl/x509.h>

enum {
    PEM_CHAIN_MAX = 10,       // certificates of a chain
    PEM_TEXT_MAX = 64 * 1024, // bytes of a chain, of a key, of a file
    PEM_BUNDLE_MAX = 100,     // certificates of a CA bundle
    PEM_BUNDLE_LEN = 256 * 1024,
    PEM_WHY_MAX = 200,
};

// One block after another. `der` belongs to the caller (pem_block_free: wiped).
struct pem_reader {
    BIO *bio;
};
struct pem_block {
    char *label;
    unsigned char *der;
    long der_len;
    bool is_encrypted; // by the block's own header
};
// 0, or ERR_MEMORY. The text must live as long.
int pem_open(struct pem_reader *reader, struct str text) WARN_UNUSED;
void pem_close(struct pem_reader *reader);
// STEP_DONE; STEP_AGAIN: no more; ERR_INVALID: malformed.
int pem_next(struct pem_reader *reader, struct pem_block *block);
void pem_block_free(struct pem_block *block);
bool pem_is_certificate(const struct pem_block *block);
bool pem_is_key(const struct pem_block *block);

// The whole of the bytes as a certificate, or NULL.
X509 *pem_certificate(const unsigned char *der, long len);
// The first private key in the text; `type`: EVP_PKEY_… if it is known (three times as fast), or
// EVP_PKEY_NONE. 0, or ERR_INVALID, ERR_MEMORY with *why (constant text).
int pem_read_key(struct str text, int type, EVP_PKEY **key, const char **why) WARN_UNUSED;

// A regular file of at most PEM_TEXT_MAX bytes, appended to *to. 0, or ERR_INVALID, ERR_SYSTEM,
// ERR_MEMORY with why[PEM_WHY_MAX], which names the file.
int pem_read_file(const char *path, struct buf *to, char *why) WARN_UNUSED;
// As buf_fini(), for secrets.
void pem_wipe(struct buf *buf);

// SHA-256 as 64 lower case hexadecimal digits, terminated.
void pem_hex(const uint8_t digest[32], char to[65]);
