// SPDX-License-Identifier: MIT
// For LD_PRELOAD: counts what each thread takes from the heap and the locks it takes, in the file that
// MALLOC_COUNT names, where a test reads them while the program runs. glibc.
//
//     cc -O2 -shared -fPIC -o malloc_count.so malloc_count.c
//
// The file is an array of `struct slot`, one a thread; slot 0 is for threads beyond the last.
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SLOT_COUNT = 256 };

struct slot {
    _Atomic uint64_t thread;      // its id
    _Atomic uint64_t allocations; // malloc, calloc, realloc, aligned_alloc, posix_memalign
    _Atomic uint64_t frees;
    _Atomic uint64_t locks; // pthread_mutex_lock, pthread_rwlock_*
    _Atomic uint64_t taken; // bytes, as usable
    _Atomic uint64_t given;
};

// What glibc exports beside the names that are replaced here.
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *old);
extern int __pthread_mutex_lock(pthread_mutex_t *mutex);
extern int __pthread_rwlock_rdlock(pthread_rwlock_t *lock);
extern int __pthread_rwlock_wrlock(pthread_rwlock_t *lock);

static struct slot unmapped[SLOT_COUNT]; // until the file is there
static struct slot *slots = unmapped;
static atomic_uint slot_count = 1;
// initial-exec: the first use must not allocate.
static __thread unsigned own __attribute__((tls_model("initial-exec")));

__attribute__((constructor)) static void map(void)
{
    const char *path = getenv("MALLOC_COUNT");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof unmapped) != 0) {
        return;
    }
    void *place = mmap(NULL, sizeof unmapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (place != MAP_FAILED) {
        slots = place;
        slots[own].thread = (uint64_t)gettid();
    }
}

static struct slot *mine(void)
{
    if (own == 0) {
        unsigned next = atomic_fetch_add(&slot_count, 1);
        own = next < SLOT_COUNT ? next : 0;
        slots[own].thread = (uint64_t)gettid();
    }
    return &slots[own];
}

static void *took(void *place)
{
    struct slot *slot = mine();
    slot->allocations++;
    slot->taken += malloc_usable_size(place);
    return place;
}

void *malloc(size_t size)
{
    return took(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return took(__libc_calloc(count, size));
}

void *realloc(void *old, size_t size)
{
    mine()->given += malloc_usable_size(old);
    return took(__libc_realloc(old, size));
}

void *memalign(size_t alignment, size_t size)
{
    return took(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return took(__libc_memalign(alignment, size));
}

int posix_memalign(void **place, size_t alignment, size_t size)
{
    *place = took(__libc_memalign(alignment, size));
    return *place == NULL ? 12 : 0;
}

void free(void *old)
{
    if (old != NULL) {
        struct slot *slot = mine();
        slot->frees++;
        slot->given += malloc_usable_size(old);
        __libc_free(old);
    }
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    mine()->locks++;
    return __pthread_mutex_lock(mutex);
}

int pthread_rwlock_rdlock(pthread_rwlock_t *lock)
{
    mine()->locks++;
    return __pthread_rwlock_rdlock(lock);
}

int pthread_rwlock_wrlock(pthread_rwlock_t *lock)
{
    mine()->locks++;
    return __pthread_rwlock_wrlock(lock);
}
