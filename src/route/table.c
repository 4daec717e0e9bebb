// SPDX-License-Identifier: MIT
#include "route/table.h"
#include "base/hash.h"
#include "base/invariant.h"
#include "route/table_int.h"
#include <stdlib.h>
#include <string.h>

enum { BUCKETS_FIRST = 1024, GROW_HOSTS = 0, GROW_PATHS = 1 };

static struct cds_lfht *make_hash(void)
{
    return cds_lfht_new_flavor(BUCKETS_FIRST, BUCKETS_FIRST, 0, 0, &urcu_qsbr_flavor, NULL);
}

int route_table_new(struct route_table **out)
{
    struct route_table *table = calloc(1, sizeof *table);
    if (table == NULL) {
        return ERR_MEMORY;
    }
    table->hosts = make_hash();
    table->paths = make_hash();
    table->host_buckets = BUCKETS_FIRST;
    table->path_buckets = BUCKETS_FIRST;
    table->grower = grower_new();
    *out = table;
    if (table->hosts == NULL || table->paths == NULL || table->grower == NULL) {
        route_table_free(out);
        return ERR_MEMORY;
    }
    return 0;
}

void route_table_free(struct route_table **place)
{
    struct route_table *table = *place;
    *place = NULL;
    if (table == NULL) {
        return;
    }
    grower_free(&table->grower);
    if (table->hosts != NULL) {
        INVARIANT(cds_lfht_destroy(table->hosts, NULL) == 0);
    }
    if (table->paths != NULL) {
        INVARIANT(cds_lfht_destroy(table->paths, NULL) == 0);
    }
    free(table);
}

static void init_slot(struct route_slot *slot, struct str text, bool is_path)
{
    stat_slot_init(&slot->stats, STAT_ROUTE);
    slot->refs = 1;
    slot->text_len = (uint16_t)text.len;
    slot->is_path = is_path;
    slot->is_linked = true;
    memcpy(slot->text, text.p, text.len);
}

// Labels behind the "*" of "*.example.com"; 0: no wildcard.
static unsigned count_labels(struct str host)
{
    unsigned labels = 0;
    for (size_t i = 0; host.len > 2 && host.p[0] == '*' && i < host.len; i++) {
        labels += host.p[i] == '.';
    }
    return labels;
}

// Keeps count and bit of a depth. The bit is set before anything of that depth is published: release,
// pairs with the acquire in route.c.
static void count_depth(unsigned *counts, _Atomic uint64_t *words, unsigned depth, bool is_added)
{
    uint64_t bit = UINT64_C(1) << (depth - 1) % 64;
    _Atomic uint64_t *word = &words[(depth - 1) / 64];
    if (is_added && counts[depth - 1]++ == 0) {
        atomic_fetch_or_explicit(word, bit, memory_order_release);
    } else if (!is_added && --counts[depth - 1] == 0) {
        atomic_fetch_and_explicit(word, ~bit, memory_order_release);
    }
}

// One bucket a node: doubled when there are more nodes. Never made smaller: 16 bytes a bucket.
static void grow_one(struct route_table *table, unsigned number, struct cds_lfht *hash,
                     unsigned long count, unsigned long *buckets)
{
    if (count > *buckets && grower_ask(table->grower, number, hash, *buckets * 2)) {
        *buckets *= 2;
    }
}

static int make_host(struct route_table *table, struct str name, struct route_host **out)
{
    unsigned labels = count_labels(name);
    if (name.len == 0 || name.len > UINT16_MAX || labels > LABEL_MAX) {
        return ERR_LIMIT;
    }
    struct route_host *host = calloc(1, sizeof *host + name.len);
    if (host == NULL) {
        return ERR_MEMORY;
    }
    cds_lfht_node_init(&host->node);
    init_slot(&host->root, name, false);
    rcu_node_added(&host->node);
    cds_lfht_add(table->hosts, (unsigned long)hash_str(route_host_key(name)), &host->node);
    grow_one(table, GROW_HOSTS, table->hosts, ++table->host_count, &table->host_buckets);
    if (str_eq(name, STR("*"))) {
        rcu_publish(table->any, host);
    } else if (labels > 0) {
        count_depth(table->wildcard_counts, table->wildcards, labels, true);
    }
    *out = host;
    return 0;
}

static unsigned count_segments(struct str path)
{
    unsigned segments = 0;
    for (size_t i = 0; i < path.len; i++) {
        segments += path.p[i] == '/';
    }
    return segments;
}

static int make_path(struct route_table *table, struct route_host *host, struct str text,
                     struct route_slot **out)
{
    if (host->depths == NULL) {
        struct route_depths *depths = calloc(1, sizeof *depths);
        if (depths == NULL) {
            return ERR_MEMORY;
        }
        rcu_publish(host->depths, depths);
    }
    struct route_path *path = calloc(1, sizeof *path + text.len);
    if (path == NULL) {
        return ERR_MEMORY;
    }
    cds_lfht_node_init(&path->node);
    path->host = host;
    host->root.refs++;
    init_slot(&path->slot, text, true);
    rcu_node_added(&path->node);
    cds_lfht_add(table->paths, route_path_hash(host, text), &path->node);
    grow_one(table, GROW_PATHS, table->paths, ++table->path_count, &table->path_buckets);
    count_depth(host->depths->counts, &host->depths->used, count_segments(text), true);
    host->depths->total++;
    *out = &path->slot;
    return 0;
}

static bool is_root(struct str path)
{
    return str_eq(path, STR("/"));
}

int route_table_make(struct route_table *table, struct str host_name, struct str path,
                     struct route_slot **slot)
{
    unsigned segments = count_segments(path);
    if (segments == 0 || segments > ROUTE_SEGMENT_MAX || path.p[0] != '/' ||
        path.len > UINT16_MAX) {
        return ERR_LIMIT;
    }
    struct route_host *host = route_table_host(table, route_host_key(host_name));
    if (host == NULL) {
        int err = make_host(table, host_name, &host);
        if (err != 0) {
            return err;
        }
    }
    *slot = &host->root;
    if (is_root(path)) {
        return 0;
    }
    struct route_path *found = route_table_path(table, host, path);
    if (found != NULL) {
        *slot = &found->slot;
        return 0;
    }
    // If it fails the slot is the host's: perhaps just made, the caller unlinks it when it is empty.
    return make_path(table, host, path, slot);
}

struct route_slot *route_table_slot(const struct route_table *table, struct str host_name,
                                    struct str path)
{
    struct route_host *host = route_table_host(table, route_host_key(host_name));
    if (host == NULL || is_root(path)) {
        return host == NULL ? NULL : &host->root;
    }
    struct route_path *found = route_table_path(table, host, path);
    return found == NULL ? NULL : &found->slot;
}

struct route_version *route_table_publish(struct route_table *table, struct route_slot *slot,
                                          struct route_version *version)
{
    struct route_version *before = slot->current;
    if (version != NULL && version->client_auth != NULL) {
        // Before it is seen: publishing it is a release, whoever finds it finds the count.
        atomic_fetch_add_explicit(&table->client_auth_count, 1, memory_order_relaxed);
    }
    rcu_publish(slot->current, version);
    if (before != NULL && before->client_auth != NULL) {
        atomic_fetch_sub_explicit(&table->client_auth_count, 1, memory_order_relaxed);
    }
    table->route_count += (version != NULL) - (before != NULL);
    return before;
}

static bool unlink_host(struct route_table *table, struct route_host *host)
{
    if (!host->root.is_linked || host->root.current != NULL ||
        (host->depths != NULL && host->depths->total > 0)) {
        return false;
    }
    struct str name = str_make(host->root.text, host->root.text_len);
    unsigned labels = count_labels(name);
    if (table->any == host) {
        rcu_publish(table->any, NULL);
    } else if (labels > 0) {
        count_depth(table->wildcard_counts, table->wildcards, labels, false);
    }
    INVARIANT(cds_lfht_del(table->hosts, &host->node) == 0);
    table->host_count--;
    host->root.is_linked = false;
    return true;
}

unsigned route_table_unlink(struct route_table *table, struct route_slot *slot,
                            struct route_slot *unlinked[2])
{
    unsigned count = 0;
    if (slot->current != NULL || !slot->is_linked) {
        return 0;
    }
    struct route_host *host = slot->is_path ? route_path_of(slot)->host : route_host_of(slot);
    if (slot->is_path) {
        unsigned segments = count_segments(str_make(slot->text, slot->text_len));
        INVARIANT(cds_lfht_del(table->paths, &route_path_of(slot)->node) == 0);
        table->path_count--;
        count_depth(host->depths->counts, &host->depths->used, segments, false);
        host->depths->total--;
        slot->is_linked = false;
        unlinked[count++] = slot;
    }
    if (unlink_host(table, host)) {
        unlinked[count++] = &host->root;
    }
    return count;
}

void route_slot_unref(struct route_slot *slot)
{
    INVARIANT(slot->refs > 0);
    if (--slot->refs > 0) {
        return;
    }
    stat_slot_fini(&slot->stats);
    if (slot->is_path) {
        struct route_path *path = route_path_of(slot);
        struct route_host *host = path->host;
        free(path);
        route_slot_unref(&host->root); // one level: a host's slot is no path
    } else {
        struct route_host *host = route_host_of(slot);
        free(host->depths);
        free(host);
    }
}

void route_table_expect(struct route_table *table, uint64_t hosts)
{
    while (table->host_buckets < hosts) {
        table->host_buckets *= 2; // liburcu would look for ever for a size that is no power of 2
    }
    cds_lfht_resize(table->hosts, table->host_buckets);
}

bool route_table_has_client_auth(const struct route_table *table)
{
    return atomic_load_explicit(&table->client_auth_count, memory_order_relaxed) > 0;
}

uint64_t route_table_count(const struct route_table *table)
{
    return table->route_count;
}

static void clear_slot(struct route_table *table, struct route_slot *slot,
                       struct route_slot **chain,
                       void (*on_version)(void *context, struct route_version *version),
                       void *context)
{
    struct route_slot *unlinked[2];
    struct route_version *before = route_table_publish(table, slot, NULL);
    unsigned count = route_table_unlink(table, slot, unlinked);
    if (before != NULL) {
        on_version(context, before);
    }
    for (unsigned i = 0; i < count; i++) {
        unlinked[i]->next_unlinked = *chain;
        *chain = unlinked[i];
    }
}

void route_table_clear(struct route_table *table,
                       void (*on_version)(void *context, struct route_version *version),
                       void *context)
{
    struct route_slot *chain = NULL;
    struct cds_lfht_iter iter;
    struct cds_lfht_node *node;
    cds_lfht_for_each(table->paths, &iter, node)
    {
        clear_slot(table, &CONTAINER_OF(node, struct route_path, node)->slot, &chain, on_version,
                   context);
    }
    cds_lfht_for_each(table->hosts, &iter, node)
    {
        clear_slot(table, &CONTAINER_OF(node, struct route_host, node)->root, &chain, on_version,
                   context);
    }
    urcu_qsbr_synchronize_rcu(); // the tables may be resizing on a thread of theirs
    while (chain != NULL) {
        struct route_slot *slot = chain;
        chain = slot->next_unlinked;
        slot->current = NULL;
        route_slot_unref(slot);
    }
}
