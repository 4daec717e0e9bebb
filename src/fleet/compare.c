// SPDX-License-Identifier: MIT
// What the replica has of a noun, as hashes: a page of Redis is compared with memory instead of the disk.
#include "base/hash.h"
#include "fleet/follow_int.h"
#include <stdlib.h>

static uint64_t hash_key(struct str key)
{
    uint64_t hash = hash_str(key);
    return hash == 0 ? 1 : hash;
}

static uint64_t hash_content(uint64_t revision, struct str value)
{
    return (hash_str(value) ^ hash_bytes(&revision, sizeof revision)) & ~1ull;
}

void compare_fini(struct compare *compare)
{
    free(compare->slots);
    *compare = (struct compare){.slots = NULL};
}

static struct compare_slot *find(const struct compare *compare, uint64_t key)
{
    size_t at = key & (compare->size - 1);
    while (compare->slots[at].key != 0 && compare->slots[at].key != key) {
        at = (at + 1) & (compare->size - 1);
    }
    return &compare->slots[at];
}

static bool grow(struct compare *compare)
{
    struct compare old = *compare;
    struct compare larger = old;
    larger.size = old.size == 0 ? 256 : old.size * 2;
    larger.slots = calloc(larger.size, sizeof *larger.slots);
    if (larger.slots == NULL) {
        return false;
    }
    for (size_t i = 0; i < old.size; i++) {
        if (old.slots[i].key != 0) {
            *find(&larger, old.slots[i].key) = old.slots[i];
        }
    }
    *compare = larger;
    free(old.slots);
    return true;
}

// The key's slot, a new one if it has none. NULL: out of memory.
static struct compare_slot *slot_of(struct compare *compare, struct str key)
{
    if (compare->count * 4 >= compare->size * 3 && !grow(compare)) {
        return NULL;
    }
    uint64_t hash = hash_key(key);
    struct compare_slot *slot = find(compare, hash);
    if (slot->key == 0) {
        slot->key = hash;
        compare->count++;
    }
    return slot;
}

struct loading {
    struct compare *compare;
    bool is_out_of_memory;
};

static bool on_record(void *context, const struct store_record *record)
{
    struct loading *loading = context;
    struct compare_slot *slot = slot_of(loading->compare, record->key);
    if (slot == NULL) {
        loading->is_out_of_memory = true;
        return false;
    }
    slot->content = hash_content(record->revision, record->value);
    loading->compare->unseen++;
    return true;
}

int compare_load(struct compare *compare, struct store_reader *reader, enum noun noun)
{
    struct loading loading = {.compare = compare};
    compare_fini(compare);
    int err = store_reader_list(reader, noun, on_record, &loading);
    return loading.is_out_of_memory ? ERR_MEMORY : err;
}

int compare_see(struct compare *compare, struct str key, uint64_t revision, struct str value,
                bool *is_other)
{
    size_t before = compare->count;
    struct compare_slot *slot = slot_of(compare, key);
    if (slot == NULL) {
        return ERR_MEMORY;
    }
    uint64_t content = hash_content(revision, value);
    bool is_new = compare->count != before;
    *is_other = is_new || (slot->content & ~1ull) != content;
    compare->unseen -= !is_new && (slot->content & 1) == 0;
    slot->content = content | 1;
    return 0;
}

int compare_keep(struct compare *compare, struct str key)
{
    size_t before = compare->count;
    struct compare_slot *slot = slot_of(compare, key);
    if (slot == NULL) {
        return ERR_MEMORY;
    }
    compare->unseen -= compare->count == before && (slot->content & 1) == 0;
    slot->content |= 1;
    return 0;
}

bool compare_is_seen(const struct compare *compare, struct str key)
{
    return compare->size > 0 && (find(compare, hash_key(key))->content & 1) != 0;
}
