// SPDX-License-Identifier: MIT
// Pools, tenants and DNS names by their names.
#include "base/invariant.h"
#include "publish/publish_int.h"
#include <stdlib.h>

struct named_pool *pool_by_name(struct publisher *publisher, struct str name, bool is_made)
{
    struct name_node *found = name_map_find(&publisher->pools, name);
    if (found != NULL || !is_made) {
        return found == NULL ? NULL : CONTAINER_OF(found, struct named_pool, node);
    }
    struct named_pool *pool = calloc(1, sizeof *pool + name.len + 1);
    if (pool == NULL) {
        return NULL;
    }
    str_copy(pool->name, name.len + 1, name);
    pool->node.name = str_make(pool->name, name.len);
    pool->slot.name = pool->node.name;
    stat_slot_init(&pool->slot.stats, STAT_POOL);
    if (name_map_add(&publisher->pools, &pool->node) != 0) {
        free(pool);
        return NULL;
    }
    return pool;
}

void pool_sweep(struct publisher *publisher, struct named_pool *pool)
{
    // Versions of routes are gone only after their grace period and their last pin, so nobody can come
    // by this slot once nothing refers to it.
    if (pool->slot.refs > 0 || pool->slot.current != NULL || pool->holds > 0 ||
        pool->member_count > 0) {
        return;
    }
    name_map_remove(&publisher->pools, &pool->node);
    stat_slot_fini(&pool->slot.stats);
    free(pool->members);
    free(pool);
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

static bool is_same(const struct pool_answer *answer, const struct sockaddr *address, socklen_t len)
{
    return answer != NULL && answer->len == len && memcmp(&answer->address, address, len) == 0;
}

static void on_answer(void *context, const struct resolver_result *result)
{
    if (result->count == 0) {
        return; // the last answer stays
    }
    struct watched_name *watched = context;
    const struct sockaddr *address = (const struct sockaddr *)&result->addresses[0];
    socklen_t len =
        address->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    struct pool_answer *before = watched->resolved.answer;
    struct pool_answer *answer = calloc(1, sizeof *answer);
    struct rcu_retired *rcu = rcu_retired_new();
    if (answer == NULL || rcu == NULL || len > sizeof answer->address ||
        is_same(before, address, len)) {
        free(answer); // out of memory: the last answer stays until the next
        rcu_retired_free(&rcu);
        return;
    }
    memcpy(&answer->address, address, len);
    answer->len = len;
    rcu_publish(watched->resolved.answer, answer);
    if (before != NULL) {
        rcu_retire(&rcu, free, before);
    } else {
        rcu_retired_free(&rcu);
    }
}

// "localhost" is this machine before anybody was asked (RFC 6761 6.3).
static bool answer_localhost(struct watched_name *watched)
{
    struct pool_answer *answer = calloc(1, sizeof *answer);
    if (answer == NULL) {
        return false;
    }
    answer->len = sizeof answer->address.in4;
    answer->address.in4.sin_family = AF_INET;
    answer->address.in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    watched->resolved.answer = answer;
    return true;
}

static struct watched_name *watch_name(struct publisher *publisher, struct str host)
{
    struct name_node *found = name_map_find(&publisher->names, host);
    if (found != NULL) {
        return CONTAINER_OF(found, struct watched_name, node);
    }
    struct watched_name *watched = calloc(1, sizeof *watched + host.len + 1);
    if (watched == NULL) {
        return NULL;
    }
    str_copy(watched->host, host.len + 1, host);
    watched->node.name = str_make(watched->host, host.len);
    if ((str_eq(host, STR("localhost")) && !answer_localhost(watched)) ||
        resolver_watch(publisher->resolver, host, on_answer, watched, &watched->question) != 0) {
        free(watched->resolved.answer);
        free(watched);
        return NULL;
    }
    if (name_map_add(&publisher->names, &watched->node) != 0) {
        resolver_unwatch(&watched->question);
        free(watched->resolved.answer);
        free(watched);
        return NULL;
    }
    return watched;
}

int watch_members(struct publisher *publisher, struct pool_version *pool)
{
    for (unsigned i = 0; i < pool->entry_count; i++) {
        struct member_named *named = pool_member_name(pool->entries[i].member);
        if (named == NULL || named->name != NULL) {
            continue;
        }
        struct watched_name *watched =
            watch_name(publisher, str_make(named->text, named->host_len));
        if (watched == NULL) {
            return ERR_MEMORY;
        }
        watched->refs++;
        named->name = &watched->resolved;
    }
    return 0;
}

void unwatch_name(struct publisher *publisher, struct pool_name *resolved)
{
    struct watched_name *watched = CONTAINER_OF(resolved, struct watched_name, resolved);
    INVARIANT(watched->refs > 0);
    if (--watched->refs > 0) {
        return;
    }
    resolver_unwatch(&watched->question);
    name_map_remove(&publisher->names, &watched->node);
    free(watched->resolved.answer);
    free(watched);
}
