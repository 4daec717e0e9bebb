// SPDX-License-Identifier: MIT
#include "loop/rcu.h"
#include "base/list.h"
#include <pthread.h>
#include <stdatomic.h>

#if defined(__SANITIZE_THREAD__)
#define HAS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_TSAN 1
#endif
#endif

#ifdef HAS_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
// Stands for the order that a grace period gives: readers' turns before, frees after.
static char grace_period;
#define TSAN_ACQUIRE(p) __tsan_acquire(p)
#define TSAN_RELEASE(p) __tsan_release(p)
#else
static char grace_period;
#define TSAN_ACQUIRE(p) ((void)(p))
#define TSAN_RELEASE(p) ((void)(p))
#endif

static atomic_uint_fast64_t waiting_count;

static void *do_nothing(void *argument)
{
    return argument;
}

int rcu_start(void)
{
    // liburcu ends the process when it cannot make its thread: whether there is room for one is asked
    // here first, where it is still an error.
    pthread_t probe;
    if (pthread_create(&probe, NULL, do_nothing, NULL) != 0) {
        return ERR_SYSTEM;
    }
    pthread_join(probe, NULL);
    return urcu_qsbr_get_default_call_rcu_data() == NULL ? ERR_MEMORY : 0;
}

void rcu_thread_begin(void)
{
    urcu_qsbr_register_thread();
}

void rcu_thread_end(void)
{
    TSAN_RELEASE(&grace_period);
    urcu_qsbr_unregister_thread();
}

void rcu_turn_done(void)
{
    TSAN_RELEASE(&grace_period);
    urcu_qsbr_quiescent_state();
}

void rcu_go_offline(void)
{
    TSAN_RELEASE(&grace_period);
    urcu_qsbr_thread_offline();
}

void rcu_go_online(void)
{
    urcu_qsbr_thread_online();
}

#ifdef HAS_TSAN
void rcu_node_added(const void *node)
{
    __tsan_release((void *)(uintptr_t)node);
}

void rcu_node_found(const void *node)
{
    __tsan_acquire((void *)(uintptr_t)node);
}
#else
void rcu_node_added(const void *node)
{
    (void)node;
}

void rcu_node_found(const void *node)
{
    (void)node;
}
#endif

struct rcu_retired *rcu_retired_new(void)
{
    return calloc(1, sizeof(struct rcu_retired));
}

void rcu_retired_free(struct rcu_retired **retired)
{
    free(*retired);
    *retired = NULL;
}

static void reclaim(struct rcu_head *head)
{
    struct rcu_retired *retired = CONTAINER_OF(head, struct rcu_retired, head);
    TSAN_ACQUIRE(&grace_period);
    TSAN_ACQUIRE(retired);
    retired->free_it(retired->object);
    free(retired);
    atomic_fetch_sub_explicit(&waiting_count, 1, memory_order_relaxed);
}

void rcu_retire(struct rcu_retired **retired, void (*free_it)(void *object), void *object)
{
    struct rcu_retired *it = *retired;
    *retired = NULL;
    it->free_it = free_it;
    it->object = object;
    atomic_fetch_add_explicit(&waiting_count, 1, memory_order_relaxed);
    TSAN_RELEASE(it);
    urcu_qsbr_call_rcu(&it->head, reclaim);
}

uint64_t rcu_retired_count(void)
{
    return atomic_load_explicit(&waiting_count, memory_order_relaxed);
}

void rcu_drain(void)
{
    urcu_qsbr_barrier();
}
