// SPDX-License-Identifier: MIT
// OpenSSL takes a buffer for each read and write and gives it back (SSL_MODE_RELEASE_BUFFERS), which is
// what makes idle connections small. Blocks of these sizes are kept by the thread that freed them, so that
// malloc is not asked on a warm path.
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

// What is kept: blocks of a size, bounded in number, on lists of the thread.
enum { RECORD_BLOCKS, SMALL_BLOCKS, BLOCK_CLASSES };

static const struct {
    size_t above; // sizes over this
    size_t len;   // and up to this get a block of it
    unsigned keep_max;
} classes[BLOCK_CLASSES] = {
    // A read, a write, or a message of a handshake.
    [RECORD_BLOCKS] = {16384, 22016, 32},
    // What OpenSSL takes for each record on the way, of whichever direction.
    [SMALL_BLOCKS] = {24, 40, 64},
};

struct kept {
    struct kept *next;
};

static _Thread_local struct {
    struct kept *first;
    unsigned count;
} lists[BLOCK_CLASSES];

static void *take(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    for (unsigned i = 0; i < BLOCK_CLASSES; i++) {
        if (size <= classes[i].above || size > classes[i].len) {
            continue;
        }
        struct kept *block = lists[i].first;
        if (block == NULL) {
            return malloc(classes[i].len);
        }
        lists[i].first = block->next;
        lists[i].count--;
        return block;
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
    for (unsigned i = 0; i < BLOCK_CLASSES; i++) {
        // Some more than the class has is good too, but much more would be wasted.
        if (size >= classes[i].len && size - classes[i].len < 16 &&
            lists[i].count < classes[i].keep_max) {
            struct kept *first = block;
            first->next = lists[i].first;
            lists[i].first = first;
            lists[i].count++;
            return;
        }
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
    return lists[RECORD_BLOCKS].count;
}

// Before anything else uses OpenSSL; without it all is as it would be, only slower.
__attribute__((constructor)) static void install(void)
{
    (void)CRYPTO_set_mem_functions(take, resize, give);
}

#endif
