// SPDX-License-Identifier: MIT
#include "base/hash.h"
#include "base/invariant.h"
#include <errno.h>
#include <sys/random.h>

static uint64_t seed_key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
static bool seed_drawn;

void hash_seed(void)
{
    if (seed_drawn) {
        return;
    }
    ssize_t len;
    do {
        len = getrandom(seed_key, sizeof seed_key, 0);
    } while (len < 0 && errno == EINTR);
    INVARIANT(len == (ssize_t)sizeof seed_key); // predictable hashes would be worse than no start
    seed_drawn = true;
}

#define ROTATE(x, bits) (((x) << (bits)) | ((x) >> (64 - (bits))))

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline void sip_round(struct sip *s)
{
    s->v0 += s->v1;
    s->v1 = ROTATE(s->v1, 13) ^ s->v0;
    s->v0 = ROTATE(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = ROTATE(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = ROTATE(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = ROTATE(s->v1, 17) ^ s->v2;
    s->v2 = ROTATE(s->v2, 32);
}

uint64_t hash_bytes(const void *p, size_t len)
{
    struct sip s = {seed_key[0] ^ 0x736f6d6570736575u, seed_key[1] ^ 0x646f72616e646f6du,
                    seed_key[0] ^ 0x6c7967656e657261u, seed_key[1] ^ 0x7465646279746573u};
    const unsigned char *at = p;
    size_t left = len;
    for (; left >= 8; left -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        s.v3 ^= word;
        sip_round(&s);
        s.v0 ^= word;
    }
    uint64_t last = (uint64_t)len << 56;
    for (size_t i = 0; i < left; i++) {
        last |= (uint64_t)at[i] << (8 * i);
    }
    s.v3 ^= last;
    sip_round(&s);
    s.v0 ^= last;
    s.v2 ^= 0xff;
    sip_round(&s);
    sip_round(&s);
    sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
