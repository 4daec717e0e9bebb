// SPDX-License-Identifier: MIT
#include "upstream/pool_build.h"
#include "upstream/pool_member.h"
#include <stdlib.h>
#include <string.h>

static bool is_reusable(const struct pool_member *member)
{
    return atomic_load_explicit(&member->cut, memory_order_relaxed) == 0;
}

int known_init(struct known_members *set, struct pool_member *const *items, unsigned count)
{
    *set = (struct known_members){0};
    if (count <= KNOWN_FEW) {
        set->few_count = count;
        for (unsigned i = 0; i < count; i++) {
            set->few[i] = items[i];
        }
        return 0;
    }
    size_t size = 64;
    while (size < (size_t)count * 2) {
        size *= 2;
    }
    set->table = calloc(size, sizeof *set->table);
    if (set->table == NULL) {
        return ERR_MEMORY;
    }
    set->mask = size - 1;
    for (unsigned i = 0; i < count; i++) {
        struct member_key key;
        member_key_of(&key, items[i]);
        size_t at = (size_t)member_key_hash(&key) & set->mask;
        while (set->table[at] != NULL) {
            at = (at + 1) & set->mask;
        }
        set->table[at] = items[i];
    }
    return 0;
}

static struct pool_member *find_known(const struct known_members *set,
                                      const struct member_key *wanted)
{
    struct member_key key;
    if (set->table == NULL) {
        for (unsigned i = 0; i < set->few_count; i++) {
            member_key_of(&key, set->few[i]);
            if (member_key_eq(&key, wanted) && is_reusable(set->few[i])) {
                return set->few[i];
            }
        }
        return NULL;
    }
    for (size_t at = (size_t)member_key_hash(wanted) & set->mask; set->table[at] != NULL;
         at = (at + 1) & set->mask) {
        member_key_of(&key, set->table[at]);
        if (member_key_eq(&key, wanted) && is_reusable(set->table[at])) {
            return set->table[at];
        }
    }
    return NULL;
}

struct pool_member *known_find(const struct known_members *known,
                               const struct target_address *address)
{
    struct member_key key;
    member_key_of_address(&key, address, NULL);
    return find_known(known, &key);
}

void known_fini(struct known_members *known)
{
    free(known->table);
    known->table = NULL;
}

int pool_fill_bare(struct pool_version *to, const struct target_decl *target,
                   struct pool_member *known)
{
    struct member_key key;
    struct member_key of_known;
    struct pool_member *member = known;
    member_key_of_address(&key, &target->address, NULL);
    if (known != NULL) {
        member_key_of(&of_known, known);
    }
    if (known == NULL || !member_key_eq(&of_known, &key) || !is_reusable(known)) {
        member = pool_member_new(NULL, &target->address, NULL);
    }
    if (member == NULL) {
        return ERR_MEMORY;
    }
    member->refs++;
    to->entry_count = 1;
    to->entries[0] = (struct pool_entry){
        .member = member,
        .weight = (uint16_t)target->weight,
        .state = (uint8_t)target->state,
    };
    return 0;
}
