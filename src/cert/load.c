// SPDX-License-Identifier: MIT
// From a stored secret or from files to what a handshake needs. Certificates of issuers are shared: a
// hundred thousand leaves of one authority hold one copy of its chain.
#include "base/clock.h"
#include "base/log.h"
#include "cert/pem.h"
#include "cert/table_int.h"
#include <openssl/err.h>
#include <openssl/sha.h>
#include <stdlib.h>

enum { INTERN_BUCKETS = 4096, LOG_EVERY_MS = 1000, RETRY_BROKEN_MS = 5000, RETRY_SOON_MS = 500 };

// ---- shared certificates ----

struct cert_intern {
    struct cert_intern *next;
    X509 *certificate;
    unsigned refs;
    uint8_t digest[SHA256_DIGEST_LENGTH];
};

struct cert_interns {
    pthread_mutex_t mutex; // loading, and freeing on the reclaim thread
    struct cert_intern *buckets[INTERN_BUCKETS];
};

int cert_interns_new(struct cert_interns **out)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL) {
        return ERR_MEMORY;
    }
    pthread_mutex_init(&(*out)->mutex, NULL);
    return 0;
}

void cert_interns_free(struct cert_interns **place)
{
    if (*place != NULL) {
        pthread_mutex_destroy(&(*place)->mutex);
    }
    free(*place);
    *place = NULL;
}

static struct cert_intern **bucket_of(struct cert_interns *interns, const uint8_t *digest)
{
    return &interns->buckets[(digest[0] | (unsigned)digest[1] << 8) % INTERN_BUCKETS];
}

// With the mutex. NULL: malformed, or no memory.
static struct cert_intern *make_intern(struct cert_interns *interns, const struct pem_block *block,
                                       const uint8_t *digest)
{
    struct cert_intern *intern = calloc(1, sizeof *intern);
    if (intern == NULL ||
        (intern->certificate = pem_certificate(block->der, block->der_len)) == NULL) {
        free(intern);
        return NULL;
    }
    memcpy(intern->digest, digest, sizeof intern->digest);
    struct cert_intern **bucket = bucket_of(interns, digest);
    intern->next = *bucket;
    *bucket = intern;
    return intern;
}

static struct cert_intern *get_intern(struct cert_interns *interns, const struct pem_block *block)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256(block->der, (size_t)block->der_len, digest);
    pthread_mutex_lock(&interns->mutex);
    struct cert_intern *intern = *bucket_of(interns, digest);
    while (intern != NULL && memcmp(intern->digest, digest, sizeof digest) != 0) {
        intern = intern->next;
    }
    if (intern == NULL) {
        intern = make_intern(interns, block, digest);
    }
    if (intern != NULL) {
        intern->refs++;
    }
    pthread_mutex_unlock(&interns->mutex);
    return intern;
}

static void put_intern(struct cert_interns *interns, struct cert_intern *intern)
{
    pthread_mutex_lock(&interns->mutex);
    if (--intern->refs == 0) {
        struct cert_intern **at = bucket_of(interns, intern->digest);
        while (*at != intern) {
            at = &(*at)->next;
        }
        *at = intern->next;
        X509_free(intern->certificate);
        free(intern);
    }
    pthread_mutex_unlock(&interns->mutex);
}

// ---- parsing ----

void cert_held_free(void *object)
{
    struct cert_held *held = object;
    if (held == NULL) {
        return;
    }
    X509_free(held->loaded.leaf);
    EVP_PKEY_free(held->loaded.key);
    sk_X509_free(held->loaded.chain);
    for (unsigned i = 0; i < held->chain_count; i++) {
        put_intern(held->interns, held->chain[i]);
    }
    rcu_retired_free(&held->retired);
    free(held);
}

static int add_block(struct cert_held *held, const struct pem_block *block, const char **why)
{
    *why = "a certificate cannot be read";
    if (held->loaded.leaf == NULL) {
        held->loaded.leaf = pem_certificate(block->der, block->der_len);
        return held->loaded.leaf == NULL ? ERR_INVALID : 0;
    }
    if (held->chain_count == PEM_CHAIN_MAX - 1) {
        *why = "the chain is too long";
        return ERR_INVALID;
    }
    struct cert_intern *intern = get_intern(held->interns, block);
    if (intern == NULL) {
        return ERR_INVALID;
    }
    held->chain[held->chain_count++] = intern;
    return 0;
}

static int read_chain(struct cert_held *held, struct str text, const char **why)
{
    struct pem_reader reader;
    struct pem_block block;
    int err = pem_open(&reader, text);
    int step = STEP_AGAIN;
    while (err == 0 && (step = pem_next(&reader, &block)) == STEP_DONE) {
        if (pem_is_certificate(&block)) {
            err = add_block(held, &block, why);
        }
        pem_block_free(&block);
    }
    pem_close(&reader);
    if (err == 0 && (step != STEP_AGAIN || held->loaded.leaf == NULL)) {
        *why = "there is no certificate, or the PEM text is malformed";
        err = ERR_INVALID;
    }
    return err;
}

static int fill_stack(struct cert_held *held)
{
    if (held->chain_count == 0) {
        return 0;
    }
    held->loaded.chain = sk_X509_new_reserve(NULL, (int)held->chain_count);
    for (unsigned i = 0; held->loaded.chain != NULL && i < held->chain_count; i++) {
        sk_X509_push(held->loaded.chain, held->chain[i]->certificate); // the interned holds it
    }
    return held->loaded.chain == NULL ? ERR_MEMORY : 0;
}

int cert_held_new(struct cert_interns *interns, struct str chain, struct str key,
                  struct cert_held **out, const char **why)
{
    *why = err_text(ERR_MEMORY);
    struct cert_intern *room[PEM_CHAIN_MAX];
    struct cert_held *held = calloc(1, sizeof *held + sizeof room);
    if (held == NULL || (held->retired = rcu_retired_new()) == NULL) {
        free(held);
        return ERR_MEMORY;
    }
    held->interns = interns;
    list_init(&held->node);
    int err = read_chain(held, chain, why);
    if (err == 0) {
        const EVP_PKEY *public_key = X509_get0_pubkey(held->loaded.leaf);
        int type = public_key == NULL ? EVP_PKEY_NONE : EVP_PKEY_get_base_id(public_key);
        err = pem_read_key(key, type, &held->loaded.key, why);
    }
    if (err == 0 && X509_check_private_key(held->loaded.leaf, held->loaded.key) != 1) {
        *why = "the key does not fit the certificate";
        err = ERR_INVALID;
    }
    ERR_clear_error();
    if (err == 0) {
        err = fill_stack(held);
    }
    if (err != 0) {
        cert_held_free(held);
        return err;
    }
    *out = held;
    return 0;
}

// ---- loading ----

static int load_secret(struct cert_table *table, struct str name, struct str sealed,
                       struct cert_held **held, const char **why)
{
    struct buf plain;
    char *chain = NULL;
    char *key = NULL;
    char context[300];
    int len = snprintf(context, sizeof context, "certificates/%.*s", STR_ARG(name));
    buf_init(&plain, CERT_LOAD_MAX);
    *why = "its secret in the store is damaged";
    int err = seal_open(table->config.seal, str_make(context, (size_t)len), sealed, &plain);
    if (err == ERR_NOT_FOUND) {
        *why = "its secret was sealed with a key that is not in store.encryption_key_file";
    }
    if (err == 0) {
        err = certificate_decode_secret(buf_str(&plain), &chain, &key);
    }
    if (err == 0) {
        err = cert_held_new(table->interns, str_from_c(chain), str_from_c(key), held, why);
    }
    if (key != NULL) {
        OPENSSL_cleanse(key, strlen(key));
    }
    free(key);
    free(chain);
    pem_wipe(&plain);
    return err;
}

static int load_stored(struct cert_table *table, struct str name, struct cert_held **held,
                       const char **why)
{
    struct buf sealed;
    buf_init(&sealed, CERT_LOAD_MAX);
    const struct cert_loader *loader = &table->config.loader;
    int err = loader->fetch == NULL ? ERR_NOT_FOUND : loader->fetch(loader->context, name, &sealed);
    *why = "its secret cannot be read from the store";
    if (err == 0 && sealed.failed) {
        err = ERR_MEMORY;
    }
    if (err == 0) {
        err = load_secret(table, name, buf_str(&sealed), held, why);
    }
    pem_wipe(&sealed);
    return err;
}

static int load_files(struct cert_table *table, const struct cert_version *version,
                      struct cert_held **held, const char **why)
{
    static _Thread_local char text[PEM_WHY_MAX];
    struct buf chain;
    struct buf key;
    buf_init(&chain, 0);
    buf_init(&key, 0);
    *why = text;
    int err = pem_read_file(version->chain_file.p, &chain, text); // both are terminated
    if (err == 0) {
        err = pem_read_file(version->key_file.p, &key, text);
    }
    if (err == 0) {
        err = cert_held_new(table->interns, buf_str(&chain), buf_str(&key), held, why);
    }
    buf_fini(&chain);
    pem_wipe(&key);
    return err;
}

static void log_failure(struct str name, const char *why)
{
    static _Atomic uint64_t logged_ms; // one line a second says enough
    uint64_t now_ms = clock_monotonic_ns() / NS_PER_MS;
    uint64_t before = atomic_load_explicit(&logged_ms, memory_order_relaxed);
    if (before == 0 || now_ms - before >= LOG_EVERY_MS) {
        atomic_store_explicit(&logged_ms, now_ms, memory_order_relaxed);
        log_error("certificate %.*s cannot be loaded: %s", STR_ARG(name), why);
    }
}

int cert_load(struct cert_table *table, struct cert_version *version)
{
    struct str name = cert_slot_name(version->slot);
    struct cert_held *held = NULL;
    const char *why = "";
    int err = version->chain_file.len > 0 ? load_files(table, version, &held, &why)
                                          : load_stored(table, name, &held, &why);
    uint64_t now_ms = clock_monotonic_ns() / NS_PER_MS;
    if (err != 0) {
        log_failure(name, why);
        cert_count(&table->counts.load_failures, 1);
        // Relaxed: a worker that does not see it yet asks once more. What is broken stays so for a while.
        bool is_passing = err == ERR_UNAVAILABLE || err == ERR_MEMORY;
        atomic_store_explicit(&version->failed_until_ms,
                              now_ms + (is_passing ? RETRY_SOON_MS : RETRY_BROKEN_MS),
                              memory_order_relaxed);
        return err;
    }
    cert_count(&table->counts.loads, 1);
    atomic_store_explicit(&held->loaded.used_ms, now_ms, memory_order_relaxed);
    cert_lru_add(table, version, &held);
    return 0;
}
