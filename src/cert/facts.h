// SPDX-License-Identifier: MIT
// What a certificate says of itself. Any thread.
#pragma once
#include "cert/pem.h"
#include "model/declaration.h"
#include <openssl/x509v3.h>

enum {
    FACTS_NAME_MAX = 1000,
    FACTS_SUBJECT_MAX = 1024,
    FACTS_SERIAL_MAX = 128,
    FACTS_KEY_TYPE_MAX = 16,
};

struct facts {
    uint64_t not_before;
    uint64_t not_after;
    char subject[FACTS_SUBJECT_MAX];
    char issuer[FACTS_SUBJECT_MAX];
    char serial[FACTS_SERIAL_MAX];
    char fingerprint[65];
    char content[65];
    char key_type[FACTS_KEY_TYPE_MAX];
    struct str *names; // canonical, without those that occur twice
    unsigned name_count;
    bool has_too_many_names;
    struct buf texts;
};

// All but key_type. 0, or ERR_MEMORY. facts_free() in any case; *facts is zero before.
int facts_read(X509 *const *chain, unsigned count, struct facts *facts) WARN_UNUSED;
void facts_free(struct facts *facts);
void facts_view(const struct facts *facts, struct certificate_facts *view);
// 0 and the type, or ERR_INVALID with *why: keys that are not taken.
int facts_key_type(EVP_PKEY *key, char type[FACTS_KEY_TYPE_MAX], const char **why) WARN_UNUSED;
// Unix seconds; 0: before 1970 or no time.
uint64_t facts_time(const ASN1_TIME *time);
// Is `name` of a certificate (RFC 9525 6.3) good for `host` (which may be a wildcard itself)?
bool facts_covers(struct str name, struct str host);
