// SPDX-License-Identifier: MIT
#include "route/route.h"
#include "base/hash.h"
#include "route/table_int.h"
#include <string.h>

static int match_host(struct cds_lfht_node *node, const void *key)
{
    const struct str *wanted = key;
    rcu_node_found(node);
    const struct route_slot *root = &CONTAINER_OF(node, struct route_host, node)->root;
    return str_eq(route_host_key(str_make(root->text, root->text_len)), *wanted);
}

struct route_host *route_table_host(const struct route_table *table, struct str key)
{
    struct cds_lfht_iter iter;
    cds_lfht_lookup(table->hosts, (unsigned long)hash_str(key), match_host, &key, &iter);
    struct cds_lfht_node *node = cds_lfht_iter_get_node(&iter);
    return node == NULL ? NULL : CONTAINER_OF(node, struct route_host, node);
}

struct path_key {
    const struct route_host *host;
    struct str path;
};

static int match_path(struct cds_lfht_node *node, const void *key)
{
    const struct path_key *wanted = key;
    rcu_node_found(node);
    const struct route_path *path = CONTAINER_OF(node, struct route_path, node);
    return path->host == wanted->host &&
           str_eq(str_make(path->slot.text, path->slot.text_len), wanted->path);
}

unsigned long route_path_hash(const struct route_host *host, struct str path)
{
    return (unsigned long)(hash_str(path) ^ (uint64_t)(uintptr_t)host * 0x9E3779B97F4A7C15u);
}

struct route_path *route_table_path(const struct route_table *table, const struct route_host *host,
                                    struct str path)
{
    struct path_key key = {.host = host, .path = path};
    struct cds_lfht_iter iter;
    cds_lfht_lookup(table->paths, route_path_hash(host, path), match_path, &key, &iter);
    struct cds_lfht_node *node = cds_lfht_iter_get_node(&iter);
    return node == NULL ? NULL : CONTAINER_OF(node, struct route_path, node);
}

// The longest path of this host that is a prefix of `path` on a segment border, but "/".
static struct route_version *find_prefix(const struct route_table *table,
                                         const struct route_host *host, uint64_t used,
                                         struct str path)
{
    size_t ends[ROUTE_SEGMENT_MAX + 1]; // by depth: the length of that prefix
    unsigned deepest = 64u - (unsigned)__builtin_clzll(used);
    unsigned depth = 0;
    for (size_t at = 0; at < path.len && depth < deepest;) {
        const char *slash = memchr(path.p + at + 1, '/', path.len - at - 1);
        at = slash == NULL ? path.len : (size_t)(slash - path.p);
        ends[++depth] = at;
    }
    for (; depth > 0; depth--) {
        if ((used & UINT64_C(1) << (depth - 1)) == 0) {
            continue;
        }
        struct route_path *found = route_table_path(table, host, str_make(path.p, ends[depth]));
        struct route_version *version = found == NULL ? NULL : rcu_load(found->slot.current);
        if (version != NULL) {
            return version;
        }
    }
    return NULL;
}

static struct route_version *find_in_host(const struct route_table *table,
                                          const struct route_host *host, struct str path)
{
    if (host == NULL) {
        return NULL;
    }
    struct route_depths *depths = rcu_load(host->depths);
    if (depths != NULL && path.len > 1 && path.p[0] == '/') {
        // Acquire: pairs with the release in table.c; the bit is set before its route is published.
        uint64_t used = atomic_load_explicit(&depths->used, memory_order_acquire);
        struct route_version *found = used == 0 ? NULL : find_prefix(table, host, used, path);
        if (found != NULL) {
            return found;
        }
    }
    return rcu_load(host->root.current);
}

static struct route_version *find_wildcard(const struct route_table *table, struct str host,
                                           struct str path)
{
    uint64_t used[LABEL_MAX / 64];
    uint64_t any = 0;
    for (unsigned i = 0; i < LABEL_MAX / 64; i++) {
        used[i] = atomic_load_explicit(&table->wildcards[i], memory_order_acquire);
        any |= used[i];
    }
    if (any == 0) {
        return NULL;
    }
    unsigned dots = 0;
    for (size_t i = 0; i < host.len; i++) {
        dots += host.p[i] == '.';
    }
    // Behind the n-th dot from the right stand n labels.
    for (size_t i = 0; i < host.len; i++) {
        if (host.p[i] != '.') {
            continue;
        }
        unsigned labels = dots--;
        if (i == 0 || labels > LABEL_MAX ||
            (used[(labels - 1) / 64] >> (labels - 1) % 64 & 1) == 0) {
            continue;
        }
        struct route_version *found =
            find_in_host(table, route_table_host(table, str_from(host, i)), path);
        if (found != NULL) {
            return found;
        }
    }
    return NULL;
}

struct route_version *route_find(const struct route_table *table, struct str host, struct str path)
{
    struct route_version *found = NULL;
    // Wildcards are kept under names that begin with a dot: no host of a request may.
    if (host.len > 0 && host.p[0] != '.' && host.p[0] != '*') {
        found = find_in_host(table, route_table_host(table, host), path);
        if (found == NULL) {
            found = find_wildcard(table, host, path);
        }
    }
    return found != NULL ? found : find_in_host(table, rcu_load(table->any), path);
}

static struct pool_slot *choose_split(const struct route_split_set *split, uint64_t random)
{
    uint64_t share = (random >> 32) * split->total >> 32;
    for (unsigned i = 0; i < split->count; i++) {
        if (share < split->items[i].weight) {
            return split->items[i].pool;
        }
        share -= split->items[i].weight;
    }
    return NULL; // all weights 0
}

const struct pool_version *route_pool(const struct route_version *route, uint64_t random,
                                      struct pool_slot **named)
{
    *named = NULL;
    switch ((enum route_action)route->action) {
    case ROUTE_POOL:
        *named = route->to.pool;
        break;
    case ROUTE_SPLIT:
        *named = choose_split(route->to.split, random);
        break;
    case ROUTE_TARGETS:
        return &route->to.targets;
    case ROUTE_REDIRECT:
    case ROUTE_RESPOND:
        break;
    }
    return *named == NULL ? NULL : rcu_load((*named)->current);
}

struct str route_slot_host(const struct route_slot *slot)
{
    const struct route_slot *root = slot->is_path ? &route_path_of(slot)->host->root : slot;
    return str_make(root->text, root->text_len);
}

struct str route_slot_path(const struct route_slot *slot)
{
    return slot->is_path ? str_make(slot->text, slot->text_len) : STR("/");
}

size_t route_slot_text(const struct route_slot *slot, char *to, size_t size)
{
    size_t len = str_copy(to, size, route_slot_host(slot));
    if (slot->is_path) {
        len += str_copy(to + len, size - len, route_slot_path(slot));
    }
    return len;
}
