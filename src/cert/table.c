// SPDX-License-Identifier: MIT
// The table itself: its life, its slots, and looking up.
#include "base/clock.h"
#include "base/hash.h"
#include "base/invariant.h"
#include "cert/table_int.h"
#include <openssl/sha.h>
#include <stdlib.h>

enum { BUCKETS_FIRST = 256, GROW_NAMES = 0, GROW_SLOTS = 1, USED_EVERY_MS = 1000 };

static struct cds_lfht *make_hash(void)
{
    return cds_lfht_new_flavor(BUCKETS_FIRST, BUCKETS_FIRST, 0, 0, &urcu_qsbr_flavor, NULL);
}

static void init_threads(struct cert_table *table)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&table->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_cond_init(&table->told, NULL);
    pthread_mutex_init(&table->mutex, NULL);
    table->queue_end = &table->queue;
    list_init(&table->watched);
    list_init(&table->empty);
    cert_lru_init(table);
}

int cert_table_new(struct cert_table **out, const struct cert_table_config *config,
                   struct problems *problems)
{
    struct cert_table *table = calloc(1, sizeof *table);
    if (table == NULL) {
        return ERR_MEMORY;
    }
    table->config = *config;
    init_threads(table);
    table->names = make_hash();
    table->by_name = make_hash();
    table->name_buckets = BUCKETS_FIRST;
    table->slot_buckets = BUCKETS_FIRST;
    table->grower = grower_new();
    int err = cert_interns_new(&table->interns);
    if (table->names == NULL || table->by_name == NULL || table->grower == NULL) {
        err = ERR_MEMORY;
    }
    if (err == 0) {
        err = cert_default_load(table, problems);
        table->config.default_file = NULL; // the caller's; it was read
        table->config.default_key_file = NULL;
    }
    if (err != 0) {
        cert_table_free(&table);
        return err;
    }
    *out = table;
    return 0;
}

static void free_fallback(struct cert_table *table)
{
    struct cert_slot *slot = table->fallback;
    if (slot != NULL && slot->current != NULL) {
        cert_held_free(slot->current->loaded);
        free(slot->current);
    }
    free(slot);
}

void cert_table_free(struct cert_table **place)
{
    struct cert_table *table = *place;
    *place = NULL;
    if (table == NULL) {
        return;
    }
    INVARIANT(!table->is_started);
    while (table->slot_count > 0) {
        struct cert_slot *slot = table->slots[table->slot_count - 1];
        struct cert_version *before = cert_table_publish(table, slot, NULL);
        slot->refs = before == NULL ? 0 : 1;
        if (before != NULL) {
            before->version.free_it(&before->version);
        }
        cert_table_sweep(table, slot);
    }
    rcu_drain();
    grower_free(&table->grower);
    INVARIANT(table->names == NULL || cds_lfht_destroy(table->names, NULL) == 0);
    INVARIANT(table->by_name == NULL || cds_lfht_destroy(table->by_name, NULL) == 0);
    free_fallback(table);
    cert_interns_free(&table->interns);
    pthread_mutex_destroy(&table->mutex);
    pthread_mutex_destroy(&table->lru_mutex);
    pthread_cond_destroy(&table->wake);
    pthread_cond_destroy(&table->told);
    free(table->slots);
    free(table);
}

// ---- looking up ----

static int match_name(struct cds_lfht_node *node, const void *key)
{
    rcu_node_found(node);
    const struct cert_name *name = CONTAINER_OF(node, struct cert_name, node);
    return str_eq(str_make(name->text, name->len), *(const struct str *)key);
}

struct cert_name *cert_table_name(const struct cert_table *table, struct str text)
{
    struct cds_lfht_iter iter;
    cds_lfht_lookup(table->names, (unsigned long)hash_str(text), match_name, &text, &iter);
    struct cds_lfht_node *node = cds_lfht_iter_get_node(&iter);
    return node == NULL ? NULL : CONTAINER_OF(node, struct cert_name, node);
}

// False: none of the name's slots has a certificate now.
static bool choose(const struct cert_name *name, struct cert_choice *choice)
{
    bool has_any = false;
    for (unsigned i = 0; name != NULL && i < 2; i++) {
        struct cert_slot *slot = rcu_load(name->slots[i]);
        bool is_live = slot != NULL && rcu_load(slot->current) != NULL;
        choice->slots[i] = is_live ? slot : NULL;
        choice->ids[i] = is_live ? slot->id : 0;
        has_any |= is_live;
    }
    return has_any;
}

void cert_find(const struct cert_table *table, struct str name, struct cert_choice *choice)
{
    *choice = (struct cert_choice){0};
    if (name.len > 0 && choose(cert_table_name(table, name), choice)) {
        return;
    }
    size_t dot = str_find_char(name, '.');
    if (dot != SIZE_MAX && dot > 0 && dot + 1 < name.len &&
        choose(cert_table_name(table, str_from(name, dot)), choice)) {
        return;
    }
    choice->is_default = true;
    if (!choose(rcu_load(table->any), choice)) {
        unsigned at = table->fallback->current->is_second ? 1 : 0;
        choice->slots[at] = table->fallback;
        choice->ids[at] = table->fallback->id;
    }
}

const struct cert_loaded *cert_get(struct cert_slot *slot, uint64_t now_ms)
{
    struct cert_version *version = rcu_load(slot->current);
    struct cert_loaded *loaded = version == NULL ? NULL : rcu_load(version->loaded);
    if (loaded != NULL &&
        atomic_load_explicit(&loaded->used_ms, memory_order_relaxed) + USED_EVERY_MS <= now_ms) {
        // Relaxed: only which one is evicted first depends on it.
        atomic_store_explicit(&loaded->used_ms, now_ms, memory_order_relaxed);
    }
    return loaded;
}

// ---- slots ----

static int match_slot(struct cds_lfht_node *node, const void *key)
{
    const struct cert_slot *slot = CONTAINER_OF(node, struct cert_slot, node);
    return str_eq(cert_slot_name(slot), *(const struct str *)key);
}

struct cert_slot *cert_table_slot(const struct cert_table *table, struct str name)
{
    struct cds_lfht_iter iter;
    cds_lfht_lookup(table->by_name, (unsigned long)hash_str(name), match_slot, &name, &iter);
    struct cds_lfht_node *node = cds_lfht_iter_get_node(&iter);
    return node == NULL ? NULL : CONTAINER_OF(node, struct cert_slot, node);
}

// The same on every node and after a restart: tickets carry it.
static uint64_t make_id(struct str name)
{
    uint8_t hash[SHA256_DIGEST_LENGTH];
    uint64_t id;
    SHA256((const unsigned char *)name.p, name.len, hash);
    memcpy(&id, hash, sizeof id);
    return id == 0 ? 1 : id;
}

struct cert_slot *cert_slot_new(struct str name)
{
    struct cert_slot *slot = calloc(1, sizeof *slot + name.len + 1);
    if (slot != NULL) {
        cds_lfht_node_init(&slot->node);
        slot->id = make_id(name);
        slot->name_len = (unsigned)name.len;
        str_copy(slot->name, name.len + 1, name);
    }
    return slot;
}

static bool reserve_slot(struct cert_table *table)
{
    if (table->slot_count < table->slots_size) {
        return true;
    }
    unsigned size = table->slots_size == 0 ? 64 : table->slots_size * 2;
    void *slots = realloc(table->slots, size * sizeof(struct cert_slot *));
    if (slots == NULL) {
        return false;
    }
    table->slots = slots;
    table->slots_size = size;
    return true;
}

// As in route/table.c: one bucket a node, never fewer.
static void grow(struct cert_table *table, unsigned number, struct cds_lfht *hash,
                 unsigned long count, unsigned long *buckets)
{
    if (count > *buckets && grower_ask(table->grower, number, hash, *buckets * 2)) {
        *buckets *= 2;
    }
}

int cert_table_make(struct cert_table *table, struct str name, struct cert_slot **out)
{
    struct cert_slot *slot = cert_table_slot(table, name);
    if (slot != NULL) {
        *out = slot;
        return 0;
    }
    slot = reserve_slot(table) ? cert_slot_new(name) : NULL;
    if (slot == NULL || (slot->retired = rcu_retired_new()) == NULL) {
        free(slot);
        return ERR_MEMORY;
    }
    slot->index = (unsigned)table->slot_count;
    table->slots[table->slot_count++] = slot;
    cds_lfht_add(table->by_name, (unsigned long)hash_str(name), &slot->node);
    grow(table, GROW_SLOTS, table->by_name, table->slot_count, &table->slot_buckets);
    *out = slot;
    return 0;
}

void cert_table_name_added(struct cert_table *table)
{
    table->name_count++;
    grow(table, GROW_NAMES, table->names, table->name_count, &table->name_buckets);
}

static void sweep_slot(struct cert_table *table, struct cert_slot *slot)
{
    if (slot->current != NULL || slot->refs > 0) {
        return;
    }
    INVARIANT(cds_lfht_del(table->by_name, &slot->node) == 0);
    struct cert_slot *last = table->slots[--table->slot_count];
    table->slots[slot->index] = last;
    last->index = slot->index;
    rcu_retire(&slot->retired, free, slot);
}

void cert_table_sweep(struct cert_table *table, struct cert_slot *slot)
{
    LIST_FOR_EACH_SAFE (node, &table->empty) {
        struct cert_name *name = CONTAINER_OF(node, struct cert_name, empty);
        list_remove(&name->empty);
        INVARIANT(cds_lfht_del(table->names, &name->node) == 0);
        table->name_count--;
        if (table->any == name) {
            rcu_publish(table->any, NULL);
        }
        rcu_retire(&name->retired, free, name);
    }
    if (slot != NULL) {
        sweep_slot(table, slot);
    }
}

void cert_slot_ref(struct cert_slot *slot)
{
    slot->refs++;
}

void cert_slot_unref(struct cert_table *table, struct cert_slot *slot)
{
    INVARIANT(slot->refs > 0);
    slot->refs--;
    cert_table_sweep(table, slot);
}

struct cert_version *cert_slot_version(const struct cert_slot *slot)
{
    return slot->current;
}

struct str cert_slot_name(const struct cert_slot *slot)
{
    return str_make(slot->name, slot->name_len);
}

void cert_table_expect(struct cert_table *table, uint64_t names)
{
    while (table->name_buckets < names) {
        table->name_buckets *= 2;
    }
    table->slot_buckets = table->name_buckets;
    cds_lfht_resize(table->names, table->name_buckets);
    cds_lfht_resize(table->by_name, table->slot_buckets);
}

bool cert_table_visit(struct cert_table *table, uint64_t *position, unsigned limit,
                      void (*visit)(void *context, struct cert_version *version), void *context)
{
    for (; limit > 0 && *position < table->slot_count; limit--, ++*position) {
        struct cert_version *version = table->slots[*position]->current;
        if (version != NULL) {
            visit(context, version);
        }
    }
    return *position < table->slot_count;
}

void cert_get_counts(const struct cert_table *table, struct cert_counts *counts)
{
#define COPY(name) counts->name = atomic_load_explicit(&table->counts.name, memory_order_relaxed)
    COPY(certificates);
    COPY(names);
    COPY(loaded);
    COPY(loads);
    COPY(load_failures);
    COPY(waits);
    COPY(waits_refused);
    COPY(evictions);
#undef COPY
}
