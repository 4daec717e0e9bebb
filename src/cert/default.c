// SPDX-License-Identifier: MIT
// The certificate for who asks for a name that has none: an operator's file, or this node's own,
// self-signed, made at the first start.
#include "base/clock.h"
#include "base/log.h"
#include "cert/facts.h"
#include "cert/table_int.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { VALID_DAYS = 3650 };

#define COMMON_NAME "pointsman default certificate"

// ---- making ----

static bool fill(X509 *certificate, EVP_PKEY *key)
{
    uint8_t serial[16];
    X509_NAME *name = X509_get_subject_name(certificate);
    BIGNUM *number = RAND_bytes(serial, sizeof serial) == 1 ? BN_bin2bn(serial, 15, NULL) : NULL;
    bool is_done =
        number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL &&
        X509_set_version(certificate, X509_VERSION_3) == 1 &&
        // A day back, for clients whose clocks are late.
        X509_gmtime_adj(X509_getm_notBefore(certificate), -24L * 3600) != NULL &&
        X509_time_adj_ex(X509_getm_notAfter(certificate), VALID_DAYS, 0, NULL) != NULL &&
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)COMMON_NAME, -1,
                                   -1, 0) == 1 &&
        X509_set_issuer_name(certificate, name) == 1 && X509_set_pubkey(certificate, key) == 1 &&
        X509_sign(certificate, key, EVP_sha256()) != 0;
    BN_free(number);
    return is_done;
}

static bool write_pem(FILE *file)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    bool is_done = key != NULL && certificate != NULL && fill(certificate, key) &&
                   PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1 &&
                   PEM_write_X509(file, certificate) == 1;
    X509_free(certificate);
    EVP_PKEY_free(key);
    return is_done;
}

static int complain(struct problems *problems, const char *path, const char *what)
{
    return problems_add(problems, ERR_SYSTEM, "", "%s: %s", path, what);
}

// A file of its own first, so that a crash leaves none that is half written.
static int make_file(const char *path, struct problems *problems)
{
    size_t size = strlen(path) + 32;
    char *temporary = malloc(size);
    if (temporary == NULL) {
        return ERR_MEMORY;
    }
    snprintf(temporary, size, "%s.%ld", path, (long)getpid());
    (void)unlink(temporary); // of a process that had our number
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    int err = 0;
    if (file == NULL) {
        err = complain(problems, temporary, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
    } else {
        bool is_written = write_pem(file) && fflush(file) == 0 && fsync(fd) == 0;
        is_written = fclose(file) == 0 && is_written;
        if (!is_written || rename(temporary, path) != 0) {
            err = complain(problems, path, "the default certificate cannot be written");
        }
    }
    if (err != 0) {
        (void)unlink(temporary);
    }
    free(temporary);
    return err;
}

// ---- loading ----

static struct cert_version *make_version(struct cert_table *table, struct cert_held *held)
{
    struct cert_version *version = calloc(1, sizeof *version);
    const char *why;
    char type[FACTS_KEY_TYPE_MAX] = "";
    if (version == NULL || facts_key_type(held->loaded.key, type, &why) != 0) {
        free(version);
        return NULL;
    }
    version_init(&version->version, NULL); // never unreferenced: freed with the table
    version->table = table;
    version->facts.not_after = facts_time(X509_get0_notAfter(held->loaded.leaf));
    version->is_second = str_starts(str_from_c(type), STR("rsa"));
    version->loaded = &held->loaded;
    return version;
}

static int take(struct cert_table *table, struct cert_held *held, const char *path,
                struct problems *problems)
{
    table->fallback = cert_slot_new(STR_NULL);
    struct cert_version *version = table->fallback == NULL ? NULL : make_version(table, held);
    if (version == NULL) {
        cert_held_free(held);
        return complain(problems, path, "a key of this type cannot be used");
    }
    version->slot = table->fallback;
    held->version = version;
    table->fallback->current = version;
    if (version->facts.not_after <= clock_real_ns() / NS_PER_SEC) {
        log_warning("%s: the default certificate has expired", path);
    }
    return 0;
}

int cert_default_load(struct cert_table *table, struct problems *problems)
{
    const char *path = table->config.default_file;
    char why[PEM_WHY_MAX] = "";
    const char *key_path = table->config.default_key_file;
    struct buf text;
    struct buf key;
    struct cert_held *held = NULL;
    int err = 0;
    if (!table->config.default_is_given && access(path, F_OK) != 0) {
        err = make_file(path, problems);
    }
    if (err != 0) {
        return err;
    }
    buf_init(&text, 0);
    buf_init(&key, 0);
    err = pem_read_file(path, &text, why);
    if (err == 0 && key_path != NULL) {
        err = pem_read_file(key_path, &key, why);
    }
    if (err != 0) {
        problems_add(problems, err, "", "%s", why);
    } else {
        const char *what;
        err = cert_held_new(table->interns, buf_str(&text),
                            key_path != NULL ? buf_str(&key) : buf_str(&text), &held, &what);
        if (err != 0) {
            problems_add(problems, err, "", "%s: %s", path, what);
        }
    }
    pem_wipe(&text);
    pem_wipe(&key);
    return err == 0 ? take(table, held, path, problems) : err;
}
