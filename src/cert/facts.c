// SPDX-License-Identifier: MIT
#include "cert/facts.h"
#include "model/value.h"
#include <openssl/bn.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { RSA_BITS_MIN = 2048, RSA_BITS_MAX = 8192 };

uint64_t facts_time(const ASN1_TIME *time)
{
    struct tm tm;
    if (ASN1_TIME_to_tm(time, &tm) != 1) {
        return 0;
    }
    time_t seconds = timegm(&tm);
    return seconds < 0 ? 0 : (uint64_t)seconds;
}

// RFC 2253, bytes beyond ASCII and control bytes escaped; what is too long is cut.
static int print_name(const X509_NAME *name, char to[FACTS_SUBJECT_MAX])
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio == NULL) {
        return ERR_MEMORY;
    }
    char *text = NULL;
    int done = X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253);
    long len = BIO_get_mem_data(bio, &text);
    str_copy(to, FACTS_SUBJECT_MAX, str_make(text, done < 0 || len < 0 ? 0 : (size_t)len));
    BIO_free(bio);
    return 0;
}

static int print_serial(const X509 *leaf, char to[FACTS_SERIAL_MAX])
{
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(leaf), NULL);
    char *text = number == NULL ? NULL : BN_bn2hex(number);
    BN_free(number);
    if (text == NULL) {
        return ERR_MEMORY;
    }
    size_t len = str_copy(to, FACTS_SERIAL_MAX, str_from_c(text));
    for (size_t i = 0; i < len; i++) {
        to[i] = ascii_lower(to[i]);
    }
    OPENSSL_free(text);
    return 0;
}

// The digest of a chain (certificate_facts.content).
static int digest_chain(X509 *const *chain, unsigned count, char content[65])
{
    uint8_t digest[32];
    uint8_t part[32];
    unsigned len = sizeof part;
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool is_done = hash != NULL && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1;
    for (unsigned i = 0; is_done && i < count; i++) {
        is_done = X509_digest(chain[i], EVP_sha256(), part, &len) == 1 &&
                  EVP_DigestUpdate(hash, part, sizeof part) == 1;
    }
    is_done = is_done && EVP_DigestFinal_ex(hash, digest, NULL) == 1;
    EVP_MD_CTX_free(hash);
    if (is_done) {
        pem_hex(digest, content);
    }
    return is_done ? 0 : ERR_MEMORY;
}

// ---- names ----

static bool is_known(const struct facts *facts, const size_t *offsets, struct str name)
{
    for (unsigned i = 0; i < facts->name_count; i++) {
        size_t end = i + 1 < facts->name_count ? offsets[i + 1] : facts->texts.len;
        if (str_eq(str_make(facts->texts.p + offsets[i], end - offsets[i]), name)) {
            return true;
        }
    }
    return false;
}

// Offsets first: the texts move as they grow.
static void read_names(const GENERAL_NAMES *all, struct facts *facts, size_t *offsets)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(all); i++) {
        const GENERAL_NAME *one = sk_GENERAL_NAME_value(all, i);
        if (one->type != GEN_DNS) {
            continue;
        }
        char host[VALUE_HOST_MAX + 1];
        size_t len = 0;
        int text_len = ASN1_STRING_length(one->d.dNSName);
        struct str text = str_make((const char *)ASN1_STRING_get0_data(one->d.dNSName),
                                   text_len < 0 ? 0 : (size_t)text_len);
        if (host_canonicalise(text, true, host, &len) != NULL ||
            str_eq(str_make(host, len), STR("*")) ||
            is_known(facts, offsets, str_make(host, len))) {
            continue; // nobody can ask for such a name
        }
        if (facts->name_count == FACTS_NAME_MAX) {
            facts->has_too_many_names = true;
            return;
        }
        offsets[facts->name_count++] = facts->texts.len;
        buf_put(&facts->texts, str_make(host, len));
    }
}

static int find_names(const X509 *leaf, struct facts *facts)
{
    GENERAL_NAMES *all = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    ERR_clear_error();
    if (all == NULL) {
        return 0;
    }
    size_t *offsets = malloc(FACTS_NAME_MAX * sizeof *offsets);
    if (offsets != NULL) {
        read_names(all, facts, offsets);
    }
    GENERAL_NAMES_free(all);
    facts->names = calloc(facts->name_count + 1, sizeof *facts->names);
    for (unsigned i = 0; offsets != NULL && facts->names != NULL && i < facts->name_count; i++) {
        size_t end = i + 1 < facts->name_count ? offsets[i + 1] : facts->texts.len;
        facts->names[i] = str_make(facts->texts.p + offsets[i], end - offsets[i]);
    }
    bool is_done = offsets != NULL && facts->names != NULL && !facts->texts.failed;
    free(offsets);
    return is_done ? 0 : ERR_MEMORY;
}

// "*.example.com", or what is behind its first label.
static struct str parent_of(struct str host)
{
    size_t dot = str_find_char(host, '.');
    return dot == SIZE_MAX ? STR_NULL : str_from(host, dot);
}

bool facts_covers(struct str name, struct str host)
{
    if (str_eq(name, host)) {
        return true;
    }
    return str_starts(name, STR("*.")) && !str_starts(host, STR("*")) && host.len > 0 &&
           host.p[0] != '.' && str_eq(parent_of(host), str_from(name, 1));
}

// ---- all ----

int facts_read(X509 *const *chain, unsigned count, struct facts *facts)
{
    X509 *leaf = chain[0];
    uint8_t digest[32];
    unsigned len = sizeof digest;
    facts->not_before = facts_time(X509_get0_notBefore(leaf));
    facts->not_after = facts_time(X509_get0_notAfter(leaf));
    if (X509_digest(leaf, EVP_sha256(), digest, &len) != 1) {
        return ERR_MEMORY;
    }
    pem_hex(digest, facts->fingerprint);
    int err = digest_chain(chain, count, facts->content);
    if (err == 0) {
        err = print_name(X509_get_subject_name(leaf), facts->subject);
    }
    if (err == 0) {
        err = print_name(X509_get_issuer_name(leaf), facts->issuer);
    }
    if (err == 0) {
        err = print_serial(leaf, facts->serial);
    }
    return err == 0 ? find_names(leaf, facts) : err;
}

void facts_free(struct facts *facts)
{
    buf_fini(&facts->texts);
    free(facts->names);
    facts->names = NULL;
}

void facts_view(const struct facts *facts, struct certificate_facts *view)
{
    *view = (struct certificate_facts){
        .not_before = facts->not_before,
        .not_after = facts->not_after,
        .subject = str_from_c(facts->subject),
        .issuer = str_from_c(facts->issuer),
        .serial = str_from_c(facts->serial),
        .fingerprint = str_from_c(facts->fingerprint),
        .content = str_from_c(facts->content),
        .key_type = str_from_c(facts->key_type),
    };
}

int facts_key_type(EVP_PKEY *key, char type[FACTS_KEY_TYPE_MAX], const char **why)
{
    static const struct {
        const char *group;
        const char *type;
    } curves[] = {
        {"prime256v1", "ec-p256"}, {"P-256", "ec-p256"},     {"secp384r1", "ec-p384"},
        {"P-384", "ec-p384"},      {"secp521r1", "ec-p521"}, {"P-521", "ec-p521"},
    };
    int id = EVP_PKEY_get_base_id(key);
    int bits = EVP_PKEY_get_bits(key);
    if (id == EVP_PKEY_RSA) {
        *why = bits < RSA_BITS_MIN ? "the RSA key is shorter than 2048 bits"
                                   : "the RSA key is longer than 8192 bits";
        snprintf(type, FACTS_KEY_TYPE_MAX, "rsa-%d", bits);
        return bits < RSA_BITS_MIN || bits > RSA_BITS_MAX ? ERR_INVALID : 0;
    }
    if (id == EVP_PKEY_ED25519) {
        snprintf(type, FACTS_KEY_TYPE_MAX, "ed25519");
        return 0;
    }
    char group[64] = "";
    size_t len = 0;
    *why = "keys of this type are not supported: RSA, EC P-256, P-384, P-521 or Ed25519";
    if (id != EVP_PKEY_EC || EVP_PKEY_get_group_name(key, group, sizeof group, &len) != 1) {
        ERR_clear_error();
        return ERR_INVALID;
    }
    for (size_t i = 0; i < sizeof curves / sizeof curves[0]; i++) {
        if (str_eq(str_from_c(group), str_from_c(curves[i].group))) {
            snprintf(type, FACTS_KEY_TYPE_MAX, "%s", curves[i].type);
            return 0;
        }
    }
    return ERR_INVALID;
}
