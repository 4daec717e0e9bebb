// SPDX-License-Identifier: MIT
#include "cert/check.h"
#include "base/clock.h"
#include "cert/facts.h"
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>

// What is being checked.
struct check {
    struct declaration *declaration;
    struct problems *problems;
    const char *chain_pointer;
    const char *key_pointer;
    struct str chain_text;
    struct str key_text;
    struct buf chain_file;
    struct buf key_file;
    X509 *chain[PEM_CHAIN_MAX];
    unsigned chain_count;
    EVP_PKEY *key;
    struct facts facts;
};

static int reject(struct check *check, const char *pointer, const char *detail)
{
    return problems_add(check->problems, ERR_INVALID, pointer, "%s", detail);
}

// ---- reading ----

static void read_one(struct check *check, struct str path, struct buf *to, const char *pointer)
{
    char why[PEM_WHY_MAX];
    char *name = str_dup(path);
    int err = name == NULL ? ERR_MEMORY : pem_read_file(name, to, why);
    if (name == NULL) {
        problems_add(check->problems, err, pointer, "%s", err_text(err));
    } else if (err != 0) {
        // What a file lacks is the declaration's fault, not this node's.
        problems_add(check->problems, err == ERR_MEMORY ? err : ERR_INVALID, pointer, "%s", why);
    }
    free(name);
}

static void read_texts(struct check *check)
{
    const struct certificate_decl *decl = &check->declaration->certificate;
    bool has_files = decl->chain_file.len > 0 && decl->key_file.len > 0;
    check->chain_pointer = has_files ? "/chain_file" : "/chain";
    check->key_pointer = has_files ? "/key_file" : "/key";
    if (has_files) {
        read_one(check, decl->chain_file, &check->chain_file, check->chain_pointer);
        read_one(check, decl->key_file, &check->key_file, check->key_pointer);
        check->chain_text = buf_str(&check->chain_file);
        check->key_text = buf_str(&check->key_file);
        return;
    }
    check->chain_text = decl->chain;
    check->key_text = decl->key;
    if (decl->chain.len == 0) {
        reject(check, "/chain", "chain and key are needed, or chain_file and key_file");
    } else if (decl->chain.len > PEM_TEXT_MAX) {
        reject(check, "/chain", "longer than 64 KiB");
    }
    if (decl->chain.len > 0 && decl->key.len == 0) {
        reject(check, "/key", "the key is needed with the chain");
    } else if (decl->key.len > PEM_TEXT_MAX) {
        reject(check, "/key", "longer than 64 KiB");
    }
}

static int take_block(struct check *check, const struct pem_block *block)
{
    if (pem_is_key(block)) {
        return reject(check, check->chain_pointer,
                      "there is a private key in it; the chain holds certificates only");
    }
    if (!pem_is_certificate(block)) {
        return 0; // parameters and other things that are of no use here
    }
    if (check->chain_count == PEM_CHAIN_MAX) {
        return reject(check, check->chain_pointer, "more than 10 certificates");
    }
    X509 *certificate = pem_certificate(block->der, block->der_len);
    if (certificate == NULL) {
        return problems_add(check->problems, ERR_INVALID, check->chain_pointer,
                            "certificate %u cannot be read", check->chain_count + 1);
    }
    check->chain[check->chain_count++] = certificate;
    return 0;
}

static int read_chain(struct check *check)
{
    struct pem_reader reader;
    struct pem_block block;
    int step = pem_open(&reader, check->chain_text);
    if (step != 0) {
        return problems_add(check->problems, step, check->chain_pointer, "%s", err_text(step));
    }
    int err = 0;
    while (err == 0 && (step = pem_next(&reader, &block)) == STEP_DONE) {
        err = take_block(check, &block);
        pem_block_free(&block);
    }
    pem_close(&reader);
    if (err == 0 && step != STEP_AGAIN) {
        err = reject(check, check->chain_pointer, "the PEM text is malformed");
    } else if (err == 0 && check->chain_count == 0) {
        err = reject(check, check->chain_pointer, "there is no PEM certificate in it");
    }
    return err;
}

static int read_key(struct check *check)
{
    const char *why;
    int err = pem_read_key(check->key_text, EVP_PKEY_NONE, &check->key, &why);
    return err == 0 ? 0 : problems_add(check->problems, err, check->key_pointer, "%s", why);
}

// ---- judging ----

static bool has_issued(X509 *issuer, X509 *subject)
{
    bool has = X509_check_issued(issuer, subject) == X509_V_OK &&
               X509_verify(subject, X509_get0_pubkey(issuer)) == 1;
    ERR_clear_error();
    return has;
}

static void check_order(struct check *check)
{
    for (unsigned i = 0; i + 1 < check->chain_count; i++) {
        if (!has_issued(check->chain[i + 1], check->chain[i])) {
            problems_add(check->problems, ERR_INVALID, check->chain_pointer,
                         "the chain is not in order: certificate %u was not issued by certificate "
                         "%u (the leaf comes first, then the issuer of each)",
                         i + 1, i + 2);
            return;
        }
    }
}

static void check_dates(struct check *check)
{
    uint64_t now = clock_real_ns() / NS_PER_SEC;
    for (unsigned i = 0; i < check->chain_count; i++) {
        uint64_t end = facts_time(X509_get0_notAfter(check->chain[i]));
        char date[CLOCK_ISO_LEN];
        clock_iso(date, end * NS_PER_SEC);
        if (end <= now) {
            problems_add(check->problems, ERR_INVALID, check->chain_pointer,
                         "certificate %u has expired on %.10s", i + 1, date);
        }
    }
}

static void check_signatures(struct check *check)
{
    for (unsigned i = 0; i < check->chain_count; i++) {
        int digest = NID_undef;
        bool is_known = X509_get_signature_info(check->chain[i], &digest, NULL, NULL, NULL) == 1;
        bool is_weak = digest == NID_sha1 || digest == NID_md5 || digest == NID_md5_sha1;
        if (is_known && is_weak && !has_issued(check->chain[i], check->chain[i])) {
            problems_add(check->problems, ERR_INVALID, check->chain_pointer,
                         "certificate %u is signed with %s, which clients refuse", i + 1,
                         OBJ_nid2sn(digest));
        }
    }
}

static void check_usage(struct check *check)
{
    X509 *leaf = check->chain[0];
    uint32_t usage = X509_get_key_usage(leaf); // all bits: not restricted
    uint32_t extended = X509_get_extended_key_usage(leaf);
    if ((usage & (KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT | KU_KEY_AGREEMENT)) == 0 ||
        (extended & (XKU_SSL_SERVER | XKU_SSL_CLIENT | XKU_ANYEKU)) == 0) {
        reject(check, check->chain_pointer, "its key usage does not allow TLS");
    }
}

static void check_key(struct check *check)
{
    const char *why = NULL;
    if (facts_key_type(check->key, check->facts.key_type, &why) != 0) {
        reject(check, check->key_pointer, why);
        return;
    }
    for (unsigned i = 0; i < check->chain_count; i++) {
        bool fits = X509_check_private_key(check->chain[i], check->key) == 1;
        ERR_clear_error();
        if (fits && i > 0) {
            problems_add(check->problems, ERR_INVALID, check->chain_pointer,
                         "the key belongs to certificate %u: the leaf must come first", i + 1);
        }
        if (fits) {
            return;
        }
    }
    reject(check, check->key_pointer, "the key does not fit the certificate");
}

static bool is_covered(const struct facts *facts, struct str host)
{
    for (unsigned i = 0; i < facts->name_count; i++) {
        if (facts_covers(facts->names[i], host)) {
            return true;
        }
    }
    return str_eq(host, STR("*")); // the default for what no other certificate is for
}

static void check_names(struct check *check)
{
    const struct certificate_decl *decl = &check->declaration->certificate;
    const struct facts *facts = &check->facts;
    if (facts->has_too_many_names && decl->host_count == 0) {
        reject(check, check->chain_pointer, "more than 1000 names; declare hosts");
    }
    bool is_client = (X509_get_extended_key_usage(check->chain[0]) & XKU_SSL_CLIENT) != 0;
    if (facts->name_count == 0 && decl->host_count == 0 && !is_client) {
        reject(check, "/hosts", "the certificate has no DNS names: hosts must be declared");
    }
    // One without any names is for whom its operator says (RFC 9525: the common name is none).
    for (unsigned i = 0; facts->name_count > 0 && i < decl->host_count; i++) {
        if (!is_covered(facts, decl->hosts[i])) {
            char pointer[32];
            snprintf(pointer, sizeof pointer, "/hosts/%u", i);
            problems_add(check->problems, ERR_INVALID, pointer,
                         "the certificate is not for \"%.*s\"", STR_ARG(decl->hosts[i]));
        }
    }
}

// With a chain that could be read.
static int judge(struct check *check)
{
    struct problems *problems = check->problems;
    int err = facts_read(check->chain, check->chain_count, &check->facts);
    if (err != 0) {
        return problems_add(problems, err, check->chain_pointer, "%s", err_text(err));
    }
    check_order(check);
    check_dates(check);
    check_signatures(check);
    check_usage(check);
    check_names(check);
    if (check->key != NULL) {
        check_key(check);
    }
    return problems->err;
}

static int keep(struct check *check)
{
    struct declaration *declaration = check->declaration;
    struct certificate_facts facts;
    facts_view(&check->facts, &facts);
    const struct certificate_decl *decl = &declaration->certificate;
    bool has_hosts = decl->host_count > 0;
    int err =
        certificate_set_facts(declaration, &facts, has_hosts ? decl->hosts : check->facts.names,
                              has_hosts ? decl->host_count : check->facts.name_count);
    return err == 0 ? 0 : problems_add(check->problems, err, "", "%s", err_text(err));
}

int cert_check(struct declaration *declaration, struct problems *problems)
{
    struct check check = {.declaration = declaration, .problems = problems};
    unsigned before = problems->count;
    read_texts(&check);
    bool was_read = problems->count == before;
    bool has_chain = was_read && read_chain(&check) == 0;
    if (was_read) {
        (void)read_key(&check);
    }
    if (has_chain) {
        (void)judge(&check);
    }
    int err = problems->count == before && problems->dropped == 0 ? 0 : problems->err;
    if (err == 0) {
        err = keep(&check);
    }
    for (unsigned i = 0; i < check.chain_count; i++) {
        X509_free(check.chain[i]);
    }
    EVP_PKEY_free(check.key);
    facts_free(&check.facts);
    buf_fini(&check.chain_file);
    pem_wipe(&check.key_file);
    return err;
}

// ---- bundles ----

int cert_check_ca(struct str pem, const char *pointer, unsigned *count, struct problems *problems)
{
    *count = 0;
    if (pem.len > PEM_BUNDLE_LEN) {
        return problems_add(problems, ERR_INVALID, pointer, "longer than 256 KiB");
    }
    struct pem_reader reader;
    struct pem_block block;
    int err = pem_open(&reader, pem);
    if (err != 0) {
        return problems_add(problems, err, pointer, "%s", err_text(err));
    }
    int step;
    const char *why = NULL;
    while (why == NULL && (step = pem_next(&reader, &block)) == STEP_DONE) {
        X509 *certificate = NULL;
        if (pem_is_key(&block)) {
            why = "there is a private key in it";
        } else if (pem_is_certificate(&block) && ++*count > PEM_BUNDLE_MAX) {
            why = "more than 100 certificates";
        } else if (pem_is_certificate(&block) &&
                   (certificate = pem_certificate(block.der, block.der_len)) == NULL) {
            why = "a certificate in it cannot be read";
        }
        X509_free(certificate);
        pem_block_free(&block);
    }
    pem_close(&reader);
    if (why == NULL && step != STEP_AGAIN) {
        why = "the PEM text is malformed";
    } else if (why == NULL && *count == 0) {
        why = "there is no PEM certificate in it";
    }
    return why == NULL ? 0 : problems_add(problems, ERR_INVALID, pointer, "%s", why);
}
