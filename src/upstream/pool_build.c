// SPDX-License-Identifier: MIT
#include "upstream/pool_build.h"
#include "upstream/pool_member.h"
#include <stdlib.h>
#include <string.h>

enum {
    STRIDE_SEARCH = 64, // strides to each side that are looked at
};

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

static uint32_t find_gcd(uint32_t a, uint32_t b)
{
    while (b != 0) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

// How unevenly the multiples of stride/total spread: the sum of its continued fraction's terms (the
// smaller, the lower their discrepancy), or UINT32_MAX where they do not visit every share.
static uint32_t rate_stride(uint32_t stride, uint32_t total)
{
    uint32_t sum = 0;
    uint32_t a = total;
    uint32_t b = stride;
    while (b != 0) {
        uint32_t rest = a % b;
        sum += a / b;
        a = b;
        b = rest;
    }
    return a == 1 ? sum : UINT32_MAX;
}

// The best stride near the golden section of the total.
static uint32_t find_stride(uint32_t total)
{
    uint32_t middle = (uint32_t)((double)total * 0.6180339887498949);
    uint32_t best = 1;
    uint32_t best_rate = UINT32_MAX;
    for (uint32_t off = 0; off <= STRIDE_SEARCH && off <= middle; off++) {
        for (unsigned side = 0; side < 2; side++) {
            uint32_t stride = side == 0 ? middle - off : middle + off;
            uint32_t rate = stride > 0 && stride < total ? rate_stride(stride, total) : UINT32_MAX;
            if (rate < best_rate) {
                best = stride;
                best_rate = rate;
            }
        }
    }
    return best;
}

// Shares and stride of smooth round robin (pool.c). Equal weights: one share each, in turn.
static void fill_shares(struct pool_version *pool)
{
    uint32_t common = 0;
    bool are_equal = true;
    for (unsigned i = 0; i < pool->entry_count; i++) {
        const struct pool_entry *entry = &pool->entries[i];
        if (entry->state == TARGET_UP && entry->weight > 0) {
            are_equal = are_equal && (common == 0 || common == entry->weight);
            common = find_gcd(entry->weight, common);
        }
    }
    uint32_t total = 0; // 65,535 entries of 65,535 fit
    for (unsigned i = 0; i < pool->entry_count; i++) {
        struct pool_entry *entry = &pool->entries[i];
        total += entry->state == TARGET_UP && common > 0 ? entry->weight / common : 0;
        entry->until = total;
    }
    pool->stride = are_equal ? 1 : find_stride(total);
}

int pool_fill(struct pool_version *to, enum balance balance, const struct target_decl *targets,
              unsigned count, struct pool_member *const *known, unsigned known_count)
{
    struct known_members set;
    to->balance = (uint8_t)balance;
    to->entry_count = 0;
    to->stride = 1;
    if (count > UINT16_MAX) {
        return ERR_LIMIT;
    }
    int err = known_init(&set, known, known_count);
    for (unsigned i = 0; err == 0 && i < count; i++) {
        struct member_key key;
        member_key_of_address(&key, &targets[i].address, NULL);
        struct pool_member *member = find_known(&set, &key);
        if (member == NULL) {
            member = pool_member_new(NULL, &targets[i].address, NULL);
        }
        if (member == NULL) {
            pool_unfill(to);
            err = ERR_MEMORY;
            break;
        }
        member->refs++;
        to->entries[i] = (struct pool_entry){
            .member = member,
            .weight = (uint16_t)targets[i].weight,
            .state = (uint8_t)targets[i].state,
        };
        to->entry_count++;
    }
    known_fini(&set);
    if (err == 0 && balance == BALANCE_ROUND_ROBIN) {
        fill_shares(to);
    }
    return err;
}

void pool_unfill(struct pool_version *pool)
{
    for (unsigned i = 0; i < pool->entry_count; i++) {
        struct pool_member *member = pool->entries[i].member;
        // One that is leaving belongs to the reaper.
        if (--member->refs == 0 && member->leaving == 0) {
            pool_member_free(member);
        }
    }
    pool->entry_count = 0;
}

void pool_show_states(const struct pool_version *pool)
{
    for (unsigned i = 0; i < pool->entry_count; i++) {
        atomic_store_explicit(&pool->entries[i].member->state, pool->entries[i].state,
                              memory_order_relaxed);
    }
}

struct pool_own_version *pool_own_version_new(const struct pool_decl *decl,
                                              struct pool_member *const *known,
                                              unsigned known_count)
{
    size_t entries_len = decl->target_count * sizeof(struct pool_entry);
    struct str server_name = decl->tls.server_name;
    struct pool_own_version *own = calloc(1, sizeof *own + entries_len + server_name.len + 1);
    if (own == NULL) {
        return NULL;
    }
    char *name = (char *)(own + 1) + entries_len;
    str_copy(name, server_name.len + 1, server_name);
    version_init(&own->version, pool_own_version_free);
    own->own.settings = (struct pool_settings){
        .keepalive_idle = decl->keepalive.idle,
        .keepalive_timeout_ms = decl->keepalive.timeout_ms,
        .timeouts = decl->timeouts,
        .protocol = (uint8_t)decl->protocol,
        .send_proxy = (uint8_t)decl->send_proxy,
        .server_name = str_make(name, server_name.len),
    };
    own->pool.version = &own->version;
    own->pool.own = &own->own;
    if (pool_fill(&own->pool, decl->balance, decl->targets, decl->target_count, known,
                  known_count) != 0) {
        free(own);
        return NULL;
    }
    return own;
}

void pool_own_version_free(struct version *version)
{
    free(CONTAINER_OF(version, struct pool_own_version, version));
}
