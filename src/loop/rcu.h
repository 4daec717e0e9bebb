// SPDX-License-Identifier: MIT
// Read-copy-update, the one way in which live tables are shared (liburcu, QSBR flavour). The only
// header that includes liburcu.
//
// A registered thread may hold pointers from a table until its next quiescent state: the end of its
// loop turn, or going offline before it blocks. Writers (the control thread) swap pointers and hand
// what was replaced to rcu_retire().
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <urcu/urcu-qsbr.h>
#include <urcu/rculfhash.h>

// Loads a published pointer; pairs with rcu_publish(). Registered threads.
#define rcu_load(place) __atomic_load_n(&(place), __ATOMIC_ACQUIRE)
// Publishes with release order: the next look-up on any thread sees it. Pairs with rcu_load().
#define rcu_publish(place, pointer) __atomic_store_n(&(place), (pointer), __ATOMIC_RELEASE)

// Makes the reclaim thread, so that no change has to: nothing may fail after its publishing. At the start,
// with signals blocked as that thread shall have them; again does nothing. 0, ERR_MEMORY, ERR_SYSTEM.
int rcu_start(void) WARN_UNUSED;

// What a thread that holds table pointers does around its life, its turns and its waits.
void rcu_thread_begin(void);
void rcu_thread_end(void);
void rcu_turn_done(void);
void rcu_go_offline(void);
void rcu_go_online(void);

// liburcu's hash table is not compiled with ThreadSanitizer; these tell it of the order that adding
// and finding a node give. Nothing in other builds.
void rcu_node_added(const void *node);
void rcu_node_found(const void *node);

// Runs `free_it(object)` after a grace period, on the reclaim thread. Allocated before a change is
// published, since nothing after that may fail.
struct rcu_retired {
    struct rcu_head head;
    void (*free_it)(void *object);
    void *object;
};

// NULL when memory is out.
struct rcu_retired *rcu_retired_new(void);
void rcu_retired_free(struct rcu_retired **retired);
// Takes *retired. Control thread, registered.
void rcu_retire(struct rcu_retired **retired, void (*free_it)(void *object), void *object);
// Objects retired and not freed yet. Any thread.
uint64_t rcu_retired_count(void);
// Waits until all that was retired before is freed. Blocks; not in a read section.
void rcu_drain(void);
