// SPDX-License-Identifier: MIT
#include "cert/digest.h"
#include "base/invariant.h"
#include "cert/pem.h"
#include <openssl/sha.h>

enum { PART_MAX = 8 };

// Each part's own digest first: all of one length.
void cert_digest(const struct str *parts, unsigned count, uint8_t digest[CERT_DIGEST_LEN])
{
    uint8_t all[PART_MAX][SHA256_DIGEST_LENGTH];
    INVARIANT(count <= PART_MAX);
    for (unsigned i = 0; i < count; i++) {
        SHA256((const unsigned char *)(parts[i].len == 0 ? "" : parts[i].p), parts[i].len, all[i]);
    }
    SHA256(all[0], count * sizeof all[0], digest);
}

void cert_digest_text(const struct str *parts, unsigned count, char to[2 * CERT_DIGEST_LEN + 1])
{
    uint8_t digest[CERT_DIGEST_LEN];
    cert_digest(parts, count, digest);
    pem_hex(digest, to);
}
