// SPDX-License-Identifier: MIT
// OpenSSL takes a buffer of a record for each read and write and gives it back (SSL_MODE_RELEASE_BUFFERS),
// which is what makes idle connections small. Blocks of that size are kept by the thread that freed them,
// so that malloc is not asked on a warm path.
#include "base/sanitize.h"
#include "net/tls_int.h"
#include <malloc.h>
#include <openssl/crypto.h>
#include <stddef.h>
#include <stdlib.h>

#ifdef SANITIZE_HAS_ASAN

unsigned tls_memory_kept(void)
{
    return 0;
}

#else

enum {
    BLOCK_MIN = 16384, // usable bytes of what is kept
    BLOCK_MAX = 18432,
    KEPT_MAX = 32, // of a thread
};

struct kept {
    struct kept *next;
};

static _Thread_local struct kept *kept;
static _Thread_local unsigned kept_count;

static void *take(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    if (size > BLOCK_MIN && size <= BLOCK_MAX) {
        if (kept != NULL) {
            struct kept *block = kept;
            kept = block->next;
            kept_count--;
            return block;
        }
        return malloc(BLOCK_MAX);
    }
    return size == 0 ? NULL : malloc(size);
}

static void give(void *block, const char *file, int line)
{
    (void)file;
    (void)line;
    if (block == NULL) {
        return;
    }
    size_t size = malloc_usable_size(block);
    if (kept_count < KEPT_MAX && size >= BLOCK_MAX && size < BLOCK_MAX + 64) {
        struct kept *first = block;
        first->next = kept;
        kept = first;
        kept_count++;
        return;
    }
    free(block);
}

static void *resize(void *block, size_t size, const char *file, int line)
{
    if (size == 0) {
        give(block, file, line);
        return NULL;
    }
    return realloc(block, size);
}

unsigned tls_memory_kept(void)
{
    return kept_count;
}

// Before anything else uses OpenSSL; without it all is as it would be, only slower.
__attribute__((constructor)) static void install(void)
{
    (void)CRYPTO_set_mem_functions(take, resize, give);
}

#endif
