// SPDX-License-Identifier: MIT
#include "net/tls_files.h"
#include "base/buf.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct tls_identity {
    X509 *leaf;
    STACK_OF(X509) * chain;
    EVP_PKEY *key;
};

static int say(char *why, int err, const char *path, const char *what)
{
    snprintf(why, TLS_FILE_WHY_MAX, "%.180s: %s", path, what);
    return err;
}

static int read_fd(int fd, const char *path, struct buf *to, char *why)
{
    struct stat about;
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        return say(why, ERR_INVALID, path, "not a regular file");
    }
    if (about.st_size > TLS_FILE_MAX) {
        return say(why, ERR_INVALID, path, "larger than 1 MiB");
    }
    // A buffer that does not grow leaves no copies of a key behind.
    size_t size = (size_t)about.st_size + 1;
    char *at = buf_reserve(to, size);
    if (at == NULL) {
        return say(why, ERR_MEMORY, path, err_text(ERR_MEMORY));
    }
    ssize_t len = 1;
    while (len > 0 && to->len < size) {
        len = read(fd, at + to->len, size - to->len);
        if (len < 0 && errno == EINTR) {
            len = 1;
        } else if (len < 0) {
            return say(why, ERR_SYSTEM, path, strerror(errno));
        } else {
            to->len += (size_t)len;
        }
    }
    return 0;
}

static int read_file(const char *path, struct buf *to, char *why)
{
    // O_NONBLOCK: a pipe must not stop us here.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return say(why, ERR_SYSTEM, path, strerror(errno));
    }
    int err = read_fd(fd, path, to, why);
    close(fd);
    return err;
}

static void wipe(struct buf *buf)
{
    if (buf->p != NULL) {
        OPENSSL_cleanse(buf->p, buf->size);
    }
    buf_fini(buf);
}

struct x509_store_st *tls_store_from_file(const char *path, char *why)
{
    struct buf text;
    const char *what = NULL;
    struct x509_store_st *store = NULL;
    buf_init(&text, 0);
    if (read_file(path, &text, why) == 0) {
        store = tls_store_from_pem(buf_str(&text), &what);
        if (store == NULL) {
            (void)say(why, ERR_INVALID, path, what);
        }
    }
    buf_fini(&text);
    return store;
}

// There is nobody to ask for a passphrase.
static int no_passphrase(char *to, int size, int is_writing, void *user)
{
    (void)to;
    (void)size;
    (void)is_writing;
    (void)user;
    return 0;
}

// The certificates of a text. False: none, or one is malformed, or memory is out.
static bool read_chain(struct tls_identity *identity, BIO *bio)
{
    identity->chain = sk_X509_new_null();
    bool is_good = identity->chain != NULL;
    ERR_clear_error();
    while (is_good) {
        X509 *certificate = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
        if (certificate == NULL) {
            break;
        }
        if (identity->leaf == NULL) {
            identity->leaf = certificate;
        } else if (sk_X509_push(identity->chain, certificate) == 0) {
            X509_free(certificate);
            is_good = false;
        }
    }
    bool is_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    return is_good && is_end && identity->leaf != NULL;
}

static int load_chain(struct tls_identity *identity, const char *path, char *why)
{
    struct buf text;
    buf_init(&text, 0);
    int err = read_file(path, &text, why);
    if (err == 0) {
        BIO *bio = BIO_new_mem_buf(text.p, (int)text.len);
        if (bio == NULL) {
            err = say(why, ERR_MEMORY, path, err_text(ERR_MEMORY));
        } else if (!read_chain(identity, bio)) {
            err = say(why, ERR_INVALID, path, "holds no well-formed certificates in PEM");
        }
        BIO_free(bio);
    }
    wipe(&text); // the key may be in the same file
    return err;
}

static int load_key(struct tls_identity *identity, const char *path, char *why)
{
    struct buf text;
    buf_init(&text, 0);
    int err = read_file(path, &text, why);
    if (err == 0) {
        BIO *bio = BIO_new_mem_buf(text.p, (int)text.len);
        identity->key =
            bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
        ERR_clear_error();
        if (bio == NULL) {
            err = say(why, ERR_MEMORY, path, err_text(ERR_MEMORY));
        } else if (identity->key == NULL) {
            err = say(why, ERR_INVALID, path, "holds no private key in PEM without a passphrase");
        } else if (X509_check_private_key(identity->leaf, identity->key) != 1) {
            err = say(why, ERR_INVALID, path, "is not the key of the certificate");
        }
        ERR_clear_error();
        BIO_free(bio);
    }
    wipe(&text);
    return err;
}

int tls_identity_load(struct tls_identity **place, const char *certificate_file,
                      const char *key_file, char *why)
{
    struct tls_identity *identity = calloc(1, sizeof *identity);
    *place = NULL;
    if (identity == NULL) {
        return say(why, ERR_MEMORY, certificate_file, err_text(ERR_MEMORY));
    }
    int err = load_chain(identity, certificate_file, why);
    err = err == 0 ? load_key(identity, key_file, why) : err;
    if (err != 0) {
        tls_identity_free(&identity);
        return err;
    }
    *place = identity;
    return 0;
}

void tls_identity_free(struct tls_identity **place)
{
    struct tls_identity *identity = *place;
    *place = NULL;
    if (identity != NULL) {
        X509_free(identity->leaf);
        sk_X509_pop_free(identity->chain, X509_free);
        EVP_PKEY_free(identity->key);
        free(identity);
    }
}

enum tls_verdict tls_identity_give(struct tls *tls, void *context)
{
    const struct tls_identity *identity = context;
    return tls_add_certificate(tls, identity->leaf, identity->chain, identity->key) == 0
               ? TLS_PROCEED
               : TLS_REFUSE;
}
