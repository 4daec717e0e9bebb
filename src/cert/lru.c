// SPDX-License-Identifier: MIT
// What is loaded: at most limits.certificates_loaded, and a new one takes the place of one that was used
// long ago. The order is nearly exact: uses are noted by the second, and what was used since it was last
// looked at goes to the end.
#include "cert/table_int.h"

enum { LOOK_MAX = 32 }; // how many are looked at for one place

void cert_lru_init(struct cert_table *table)
{
    pthread_mutex_init(&table->lru_mutex, NULL);
    list_init(&table->lru);
}

static uint64_t use_of(const struct cert_held *held)
{
    return atomic_load_explicit(&held->loaded.used_ms, memory_order_relaxed);
}

// With the mutex. Takes the one out that is to go; never `added`.
static struct cert_held *choose(struct cert_table *table, const struct cert_held *added)
{
    struct cert_held *oldest = NULL;
    for (unsigned i = 0; i < LOOK_MAX; i++) {
        struct cert_held *held = LIST_FIRST(&table->lru, struct cert_held, node);
        if (held == added) {
            break; // the last one, all others were looked at
        }
        uint64_t use = use_of(held);
        bool was_used = use != held->stamp_ms;
        if (oldest == NULL || use < use_of(oldest) || !was_used) {
            oldest = held;
        }
        if (!was_used) {
            break;
        }
        held->stamp_ms = use;
        list_remove(&held->node);
        list_append(&table->lru, &held->node);
    }
    return oldest;
}

static struct cert_held *evict(struct cert_table *table, const struct cert_held *added)
{
    uint64_t loaded = atomic_load_explicit(&table->counts.loaded, memory_order_relaxed);
    if (loaded <= table->config.loaded_max) {
        return NULL;
    }
    struct cert_held *held = choose(table, added);
    if (held == NULL) {
        return NULL; // nothing but the new one
    }
    list_remove(&held->node);
    rcu_publish(held->version->loaded, NULL);
    cert_count(&table->counts.loaded, -1);
    cert_count(&table->counts.evictions, 1);
    return held;
}

void cert_lru_add(struct cert_table *table, struct cert_version *version, struct cert_held **place)
{
    struct cert_held *held = *place;
    *place = NULL;
    held->version = version;
    held->stamp_ms = use_of(held);
    pthread_mutex_lock(&table->lru_mutex);
    list_append(&table->lru, &held->node);
    cert_count(&table->counts.loaded, 1);
    rcu_publish(version->loaded, &held->loaded);
    struct cert_held *gone = evict(table, held);
    pthread_mutex_unlock(&table->lru_mutex);
    if (gone != NULL) {
        struct rcu_retired *retired = gone->retired;
        gone->retired = NULL;
        rcu_go_online(); // this thread is offline while it reads and parses
        rcu_retire(&retired, cert_held_free, gone);
        rcu_go_offline();
    }
}

void cert_lru_drop(struct cert_table *table, struct cert_version *version)
{
    pthread_mutex_lock(&table->lru_mutex);
    struct cert_loaded *loaded = version->loaded;
    if (loaded != NULL) {
        list_remove(&CONTAINER_OF(loaded, struct cert_held, loaded)->node);
        version->loaded = NULL;
        cert_count(&table->counts.loaded, -1);
    }
    pthread_mutex_unlock(&table->lru_mutex);
    if (loaded != NULL) {
        cert_held_free(CONTAINER_OF(loaded, struct cert_held, loaded));
    }
}
