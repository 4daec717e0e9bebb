// SPDX-License-Identifier: MIT
#include "cert/pem.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int pem_open(struct pem_reader *reader, struct str text)
{
    reader->bio = BIO_new_mem_buf(text.len == 0 ? "" : text.p, (int)text.len);
    return reader->bio == NULL ? ERR_MEMORY : 0;
}

void pem_close(struct pem_reader *reader)
{
    BIO_free(reader->bio);
    reader->bio = NULL;
}

int pem_next(struct pem_reader *reader, struct pem_block *block)
{
    char *header = NULL;
    *block = (struct pem_block){0};
    ERR_clear_error();
    if (PEM_read_bio(reader->bio, &block->label, &header, &block->der, &block->der_len) == 1) {
        block->is_encrypted = header[0] != 0;
        OPENSSL_free(header);
        return STEP_DONE;
    }
    unsigned long reason = ERR_peek_last_error();
    ERR_clear_error();
    return ERR_GET_LIB(reason) == ERR_LIB_PEM && ERR_GET_REASON(reason) == PEM_R_NO_START_LINE
               ? STEP_AGAIN
               : ERR_INVALID;
}

void pem_block_free(struct pem_block *block)
{
    OPENSSL_free(block->label);
    OPENSSL_clear_free(block->der, block->der == NULL ? 0 : (size_t)block->der_len);
    *block = (struct pem_block){0};
}

bool pem_is_certificate(const struct pem_block *block)
{
    struct str label = str_from_c(block->label);
    return str_eq(label, STR(PEM_STRING_X509)) || str_eq(label, STR(PEM_STRING_X509_OLD));
}

bool pem_is_key(const struct pem_block *block)
{
    return str_ends(str_from_c(block->label), STR("PRIVATE KEY"));
}

X509 *pem_certificate(const unsigned char *der, long len)
{
    const unsigned char *at = der;
    X509 *certificate = d2i_X509(NULL, &at, len);
    if (certificate != NULL && at != der + len) {
        X509_free(certificate);
        certificate = NULL;
    }
    ERR_clear_error();
    return certificate;
}

static int read_key_block(const struct pem_block *block, int type, EVP_PKEY **key, const char **why)
{
    if (block->is_encrypted || str_eq(str_from_c(block->label), STR(PEM_STRING_PKCS8))) {
        *why = "the key is encrypted; it must be given without a passphrase";
        return ERR_INVALID;
    }
    const unsigned char *at = block->der;
    *key = type == EVP_PKEY_NONE ? NULL : d2i_PrivateKey(type, NULL, &at, block->der_len);
    if (*key == NULL) {
        at = block->der;
        *key = d2i_AutoPrivateKey(NULL, &at, block->der_len);
    }
    ERR_clear_error();
    if (*key == NULL) {
        *why = "the private key cannot be read";
        return ERR_INVALID;
    }
    return 0;
}

int pem_read_key(struct str text, int type, EVP_PKEY **key, const char **why)
{
    struct pem_reader reader;
    struct pem_block block;
    *why = err_text(ERR_MEMORY);
    int err = pem_open(&reader, text);
    if (err != 0) {
        return err;
    }
    int step;
    while ((step = pem_next(&reader, &block)) == STEP_DONE) {
        if (pem_is_key(&block)) {
            err = read_key_block(&block, type, key, why);
            pem_block_free(&block);
            break;
        }
        pem_block_free(&block); // EC PARAMETERS, a certificate in the same file
    }
    pem_close(&reader);
    if (step != STEP_DONE) {
        *why = step == STEP_AGAIN ? "there is no PEM private key" : "the PEM text is malformed";
        err = ERR_INVALID;
    }
    return err;
}

static int fail(char *why, int err, const char *path, const char *what)
{
    snprintf(why, PEM_WHY_MAX, "%.120s: %s", path, what);
    return err;
}

int pem_read_file(const char *path, struct buf *to, char *why)
{
    // O_NONBLOCK: a pipe must not stop us here.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return fail(why, ERR_SYSTEM, path, strerror(errno));
    }
    struct stat about;
    int err = 0;
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        err = fail(why, ERR_INVALID, path, "not a regular file");
    } else if (about.st_size > PEM_TEXT_MAX) {
        err = fail(why, ERR_INVALID, path, "larger than 64 KiB");
    }
    // A buffer that does not grow leaves no copies of a key behind.
    char *at = err == 0 ? buf_reserve(to, PEM_TEXT_MAX + 1) : NULL;
    if (err == 0 && at == NULL) {
        err = fail(why, ERR_MEMORY, path, err_text(ERR_MEMORY));
    }
    ssize_t len = 1;
    size_t total = 0;
    while (err == 0 && len > 0 && total <= PEM_TEXT_MAX) {
        len = read(fd, at + total, PEM_TEXT_MAX + 1 - total);
        total += len > 0 ? (size_t)len : 0;
    }
    if (len < 0) {
        err = fail(why, ERR_SYSTEM, path, strerror(errno));
    } else if (err == 0 && total > PEM_TEXT_MAX) {
        err = fail(why, ERR_INVALID, path, "larger than 64 KiB");
    }
    to->len += err == 0 ? total : 0;
    close(fd);
    return err;
}

void pem_wipe(struct buf *buf)
{
    if (buf->p != NULL) {
        OPENSSL_cleanse(buf->p, buf->size);
    }
    buf_fini(buf);
}

void pem_hex(const uint8_t digest[32], char to[65])
{
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < 32; i++) {
        to[2 * i] = digits[digest[i] >> 4];
        to[2 * i + 1] = digits[digest[i] & 15];
    }
    to[64] = 0;
}
