// SPDX-License-Identifier: MIT
#include "loop/version.h"
#include "base/invariant.h"
#include <stdlib.h>

struct pin {
    struct pin *next;
    struct version *version;
    unsigned count;
};

void version_init(struct version *version, void (*free_it)(struct version *version))
{
    atomic_init(&version->refs, 1);
    version->free_it = free_it;
}

void version_unref(struct version *version)
{
    // Release orders this holder's reads before the free; acquire orders the free after all of them.
    unsigned before = atomic_fetch_sub_explicit(&version->refs, 1, memory_order_acq_rel);
    INVARIANT(before > 0);
    if (before == 1) {
        version->free_it(version);
    }
}

int pin_table_init(struct pin_table *table, unsigned bucket_count)
{
    *table = (struct pin_table){.bucket_count = bucket_count};
    table->buckets = calloc(bucket_count, sizeof *table->buckets);
    return table->buckets == NULL ? ERR_MEMORY : 0;
}

void pin_table_fini(struct pin_table *table)
{
    for (unsigned i = 0; table->buckets != NULL && i < table->bucket_count; i++) {
        while (table->buckets[i] != NULL) {
            struct pin *pin = table->buckets[i];
            table->buckets[i] = pin->next;
            version_unref(pin->version);
            free(pin);
        }
    }
    while (table->free != NULL) {
        struct pin *pin = table->free;
        table->free = pin->next;
        free(pin);
    }
    free(table->buckets);
    table->buckets = NULL;
}

static struct pin **bucket_of(struct pin_table *table, const struct version *version)
{
    uint64_t hash = (uint64_t)(uintptr_t)version * 0x9E3779B97F4A7C15u;
    return &table->buckets[(hash >> 32) & (table->bucket_count - 1)];
}

struct pin *pin_get(struct pin_table *table, struct version *version)
{
    struct pin **bucket = bucket_of(table, version);
    for (struct pin *pin = *bucket; pin != NULL; pin = pin->next) {
        if (pin->version == version) {
            pin->count++;
            return pin;
        }
    }
    struct pin *pin = table->free;
    if (pin != NULL) {
        table->free = pin->next;
    } else if ((pin = malloc(sizeof *pin)) == NULL) {
        return NULL;
    }
    atomic_fetch_add_explicit(&version->refs, 1, memory_order_relaxed);
    *pin = (struct pin){.next = *bucket, .version = version, .count = 1};
    *bucket = pin;
    table->count++;
    return pin;
}

void pin_put(struct pin_table *table, struct pin **place)
{
    struct pin *pin = *place;
    *place = NULL;
    if (pin == NULL || --pin->count > 0) {
        return;
    }
    struct pin **link = bucket_of(table, pin->version);
    while (*link != pin) {
        link = &(*link)->next;
    }
    *link = pin->next;
    version_unref(pin->version);
    table->count--;
    pin->next = table->free;
    table->free = pin;
}
