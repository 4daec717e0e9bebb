// SPDX-License-Identifier: MIT
// Inside the certificate table.
//
//   control thread:      slots, names, versions (publish); never waits
//   certificate thread:  loads what is asked for, evicts, watches files
//   between them:        `mutex` (the queue, the watched, who is told), `lru_mutex` (what is loaded)
#pragma once
#include "cert/table.h"
#include "loop/grow.h"
#include "loop/rcu.h"
#include <pthread.h>

enum {
    CERT_LOAD_MAX = 256 * 1024, // bytes of a secret as it is stored
    CERT_NAME_LEN_MAX = 255,
};

struct cert_slot {
    struct cert_version *current; // rcu
    uint64_t id;
    struct cds_lfht_node node;
    struct rcu_retired *retired; // for its own end
    unsigned refs;               // versions not freed yet, others that keep it. Control
    unsigned index;              // in table->slots
    unsigned name_len;
    char name[];
};

// A name that certificates are chosen by: "shop.example.com", ".example.com" (of "*.example.com"), "*".
struct cert_name {
    struct cds_lfht_node node;
    struct cert_slot *slots[2]; // rcu
    // Control.
    struct cert_link *links; // of live versions
    unsigned refs;           // links that are not given back
    struct list empty;       // table->empty, while refs is 0
    struct rcu_retired *retired;
    unsigned len;
    char text[];
};

// A version under a name.
struct cert_link {
    struct cert_link *next;
    struct cert_name *name;
    struct cert_version *version;
};

struct cert_interns;

// What is loaded, with what belongs to it.
struct cert_held {
    struct cert_loaded loaded; // first
    struct list node;          // table->lru
    struct cert_version *version;
    uint64_t stamp_ms; // its use when it was last put at the end of the list
    struct rcu_retired *retired;
    struct cert_interns *interns;
    unsigned chain_count;
    struct cert_intern *chain[]; // shared with others
};

struct cert_table {
    struct cert_table_config config;
    struct cds_lfht *names;
    struct cds_lfht *by_name; // slots
    struct grower *grower;
    unsigned long name_count, name_buckets; // control
    unsigned long slot_count, slot_buckets;
    struct cert_slot **slots; // all, in no order
    unsigned slots_size;
    uint64_t version_number;
    struct list empty;          // names without links
    struct cert_name *any;      // "*"; rcu
    struct cert_slot *fallback; // the default certificate: in no hash
    struct cert_interns *interns;

    pthread_mutex_t lru_mutex;
    struct list lru; // of struct cert_held, used long ago first

    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct loop_message *queue; // of struct cert_wait
    struct loop_message **queue_end;
    struct list watched; // versions
    unsigned watched_count;
    cert_on_files on_files;
    void *on_files_context;
    bool is_telling; // on_files is being called
    pthread_cond_t told;
    bool is_stopping;
    bool is_started;
    pthread_t thread;

    struct {
        _Atomic uint64_t certificates, names, loaded, loads, load_failures, waits, waits_refused,
            evictions;
    } counts;
};

static inline void cert_count(_Atomic uint64_t *cell, int64_t change)
{
    atomic_fetch_add_explicit(cell, (uint64_t)change, memory_order_relaxed);
}

// table.c
// NULL: none. In an RCU section.
struct cert_name *cert_table_name(const struct cert_table *table, struct str text);
void cert_table_name_added(struct cert_table *table);
// In no table. NULL: out of memory.
struct cert_slot *cert_slot_new(struct str name);

// load.c: certificate thread (or the starting one).
int cert_interns_new(struct cert_interns **interns) WARN_UNUSED;
void cert_interns_free(struct cert_interns **interns);
// 0, or a negative err with *why (constant text): PEM of a chain and of the key that fits.
int cert_held_new(struct cert_interns *interns, struct str chain, struct str key,
                  struct cert_held **held, const char **why) WARN_UNUSED;
// Any thread, a grace period after it was seen last.
void cert_held_free(void *held);
// Loads a version's. 0, or a negative err (logged).
int cert_load(struct cert_table *table, struct cert_version *version) WARN_UNUSED;

// lru.c
void cert_lru_init(struct cert_table *table);
// Takes *held; evicts what is too much. Certificate thread.
void cert_lru_add(struct cert_table *table, struct cert_version *version, struct cert_held **held);
// The version is being freed: control thread, nobody sees it any more.
void cert_lru_drop(struct cert_table *table, struct cert_version *version);

// watch.c
// Control, as a version is published or leaves.
void cert_watch_add(struct cert_table *table, struct cert_version *version);
void cert_watch_remove(struct cert_table *table, struct cert_version *version);
// Certificate thread: looks at some files.
void cert_watch_turn(struct cert_table *table);

// default.c
int cert_default_load(struct cert_table *table, struct problems *problems) WARN_UNUSED;
