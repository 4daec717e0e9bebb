// SPDX-License-Identifier: MIT
// Pools and tenants by their names, pools of routes' own lists, and their members.
#include "base/array.h"
#include "base/invariant.h"
#include "publish/health.h"
#include "upstream/pool_counts.h"
#include "upstream/queue.h"
#include "upstream/limit.h"
#include <stdlib.h>

// ---- named pools ----

static struct named_pool *make_pool(struct publisher *publisher, struct str name)
{
    struct named_pool *pool = calloc(1, sizeof *pool + name.len + 1);
    if (pool == NULL) {
        return NULL;
    }
    str_copy(pool->name, name.len + 1, name);
    pool->node.name = str_make(pool->name, name.len);
    pool->slot.name = pool->node.name;
    pool->slot.control = publisher->control;
    pool->slot.on_report = health_on_report;
    list_init(&pool->dirty);
    list_append(&publisher->all_pools, &pool->node_of_all);
    return pool;
}

struct named_pool *pool_by_name(struct publisher *publisher, struct str name, bool is_made)
{
    struct name_node *found = name_map_find(&publisher->pools, name);
    if (found != NULL || !is_made) {
        return found == NULL ? NULL : CONTAINER_OF(found, struct named_pool, node);
    }
    struct named_pool *pool = make_pool(publisher, name);
    if (pool == NULL) {
        return NULL;
    }
    if (name_map_add(&publisher->pools, &pool->node) != 0) {
        list_remove(&pool->node_of_all);
        free(pool);
        return NULL;
    }
    stat_slot_init(&pool->slot.stats, STAT_POOL);
    return pool;
}

struct named_pool *pool_of_route(struct publisher *publisher, const struct route_slot *slot)
{
    if (slot->current != NULL) {
        struct named_pool *before = hidden_pool_of(slot->current);
        if (before != NULL) {
            return before;
        }
    }
    char text[8192]; // a host and a path of any length a model allows
    size_t len = route_slot_text(slot, text, sizeof text);
    struct named_pool *pool = make_pool(publisher, str_make(text, len));
    if (pool == NULL) {
        return NULL;
    }
    pool->slot.is_hidden = true;
    pool->last = retirement_new();
    if (pool->last == NULL) {
        list_remove(&pool->node_of_all);
        free(pool);
        return NULL;
    }
    return pool;
}

static void free_pool(struct publisher *publisher, struct named_pool *pool)
{
    INVARIANT(pool->named_count == 0 && pool->newest_count == 0);
    INVARIANT(pool->member_count == 0 && pool->slot.refs == 0 && pool->slot.current == NULL);
    health_forget_pool(publisher, pool);
    list_remove(&pool->node_of_all);
    list_remove(&pool->dirty);
    retirement_free(&pool->last);
    struct pool_queue *queue = atomic_load_explicit(&pool->slot.queue, memory_order_relaxed);
    if (queue != NULL) {
        pool_queue_unref(&queue);
    }
    pool_counts_free(&pool->slot.counts);
    stat_slot_fini(&pool->slot.stats);
    free(pool->members);
    free(pool);
}

// The version of a list goes after the last route that had it: nobody can come by it any more, but it may
// be pinned.
static void retire_hidden(struct publisher *publisher, struct named_pool *pool)
{
    struct pool_own_version *version = live_version(pool);
    rcu_publish(pool->slot.current, NULL);
    if (publisher->is_ending) {
        drop_pool(publisher, pool, version, true);
        return;
    }
    pool->last->kind = RETIRED_POOL;
    pool->last->object.pool = version;
    pool->last->named = pool;
    pool->holds++;
    retire(publisher, &pool->last);
}

void pool_sweep(struct publisher *publisher, struct named_pool *pool)
{
    // Versions of routes are gone only after their grace period and their last pin, so nobody can come
    // by this slot once nothing refers to it.
    if (pool->slot.refs > 0 || pool->holds > 0) {
        return;
    }
    if (pool->slot.is_hidden && pool->slot.current != NULL) {
        retire_hidden(publisher, pool);
    }
    if (pool->slot.current != NULL || pool->holds > 0 || pool->member_count > 0) {
        return;
    }
    if (!pool->slot.is_hidden) {
        name_map_remove(&publisher->pools, &pool->node);
    }
    free_pool(publisher, pool);
}

void pool_unhold(struct publisher *publisher, struct named_pool *pool)
{
    INVARIANT(pool->holds > 0);
    pool->holds--;
    pool_sweep(publisher, pool);
}

void pools_clear(struct publisher *publisher)
{
    struct name_node *node;
    while ((node = name_map_pop(&publisher->pools)) != NULL) {
        struct named_pool *pool = CONTAINER_OF(node, struct named_pool, node);
        if (pool->slot.current != NULL) {
            struct pool_own_version *version = live_version(pool);
            pool->slot.current = NULL;
            drop_pool(publisher, pool, version, true);
        }
        free_pool(publisher, pool);
    }
    name_map_fini(&publisher->pools);
}

struct named_tenant *tenant_by_id(struct publisher *publisher, struct str id)
{
    struct name_node *found = name_map_find(&publisher->tenants, id);
    if (found != NULL) {
        return CONTAINER_OF(found, struct named_tenant, node);
    }
    struct named_tenant *tenant = calloc(1, sizeof *tenant + id.len + 1);
    if (tenant == NULL) {
        return NULL;
    }
    str_copy(tenant->id, id.len + 1, id);
    tenant->node.name = str_make(tenant->id, id.len);
    tenant->slot.id = tenant->node.name;
    stat_slot_init(&tenant->slot.stats, STAT_TENANT);
    if (name_map_add(&publisher->tenants, &tenant->node) != 0) {
        free(tenant);
        return NULL;
    }
    return tenant;
}

// ---- members ----

static bool add_member(struct named_pool *pool, struct pool_member *member)
{
    if (!ARRAY_ROOM(pool->members, pool->member_count, pool->member_size, 2)) {
        return false;
    }
    pool_target_of(member)->index = pool->member_count;
    pool->members[pool->member_count++] = member;
    return true;
}

struct pool_member *pool_make_member(struct named_pool *pool, const struct target_address *address,
                                     const struct sockaddr *resolved, unsigned max_connections)
{
    struct pool_member *member = pool_member_new(&pool->slot, address, resolved);
    if (member == NULL) {
        return NULL;
    }
    struct pool_target *target = pool_target_of(member);
    target->pool = pool;
    target->leaving = calloc(1, sizeof *target->leaving);
    if (target->leaving == NULL || !prepare_limit(member, max_connections) ||
        !add_member(pool, member)) {
        upstream_limit_unref(&target->limit);
        free(target->leaving);
        pool_member_free(member);
        return NULL;
    }
    pool->named_count += pool_member_name(member) != NULL;
    set_limit(member, max_connections); // nobody has it yet
    return member;
}

bool prepare_limit(struct pool_member *member, unsigned max_connections)
{
    struct pool_target *target = pool_target_of(member);
    if (target->limit != NULL || max_connections == 0) {
        return true;
    }
    // Without a bound until the version is live; kept until the member's end. Workers may use it already.
    struct upstream_limit *limit = upstream_limit_new(0);
    rcu_publish(target->limit, limit);
    return limit != NULL;
}

void set_limit(struct pool_member *member, unsigned max_connections)
{
    struct pool_target *target = pool_target_of(member);
    if (target->limit != NULL) {
        upstream_limit_set_max(target->limit, max_connections);
    }
}

void drop_member(struct publisher *publisher, struct named_pool *pool, struct pool_member *member)
{
    struct pool_target *target = pool_target_of(member);
    if (target != NULL) {
        health_forget(publisher, member);
        pool->named_count -= pool_member_name(member) != NULL;
        struct pool_member *last = pool->members[--pool->member_count];
        pool->members[target->index] = last;
        pool_target_of(last)->index = target->index;
        upstream_limit_unref(&target->limit);
        free(target->leaving);
    }
    pool_member_free(member);
}
