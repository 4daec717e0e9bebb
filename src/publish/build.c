// SPDX-License-Identifier: MIT
// From declarations to versions, and the way back.
#include "base/invariant.h"
#include "publish/publish_int.h"
#include "upstream/queue.h"
#include "upstream/upstream.h"
#include <stdlib.h>

enum { RETRY_DEFAULT = RETRY_CONNECT | RETRY_RESET };

static bool is_plain_timeouts(const struct timeouts_decl *timeouts)
{
    return timeouts->connect_ms == 0 && timeouts->response_ms == 0 && timeouts->idle_ms == 0 &&
           timeouts->tunnel_idle_ms == 0;
}

// Does the version alone say it all (client_auth and passthrough too)? Then the declaration need not
// stay.
static bool is_plain(const struct route_decl *decl)
{
    return (decl->action == ROUTE_POOL || decl->action == ROUTE_SPLIT ||
            decl->action == ROUTE_TARGETS) &&
           !decl->https_required && decl->target_path.len == 0 && !decl->strip_path &&
           decl->hsts_sec == 0 && decl->host_header == HOST_KEEP &&
           decl->request_headers.set_count == 0 && decl->request_headers.remove_count == 0 &&
           decl->response_headers.set_count == 0 && decl->response_headers.remove_count == 0 &&
           decl->allow_count == 0 && decl->deny_count == 0 && decl->buffer_request == 0 &&
           !decl->has_body_limit && is_plain_timeouts(&decl->timeouts) && decl->retries == 1 &&
           decl->retry_on == RETRY_DEFAULT && !decl->unavailable.is_set;
}

static void free_route_version(struct version *version)
{
    struct route_version *route = CONTAINER_OF(version, struct route_version, version);
    if (route->rules != NULL) {
        struct declaration *decl =
            CONTAINER_OF((void *)(uintptr_t)route->rules, struct declaration, route);
        declaration_free(&decl);
    }
    if (route->action == ROUTE_SPLIT) {
        free(route->to.split);
    }
    free(route);
}

// One address and nothing else to know of it: it stays inside the route's version. All other lists have a
// pool of their own.
static bool is_bare(const struct route_decl *decl)
{
    return decl->action == ROUTE_TARGETS && decl->target_count == 1 &&
           !decl->targets[0].address.is_name && decl->targets[0].max_connections == 0;
}

static size_t version_len(const struct route_decl *decl)
{
    size_t len = sizeof(struct route_version);
    size_t with_target = offsetof(struct route_version, to.targets.entries[1]);
    return is_bare(decl) && with_target > len ? with_target : len;
}

static int build_split(struct publisher *publisher, struct route_version *route,
                       const struct route_decl *decl)
{
    struct route_split_set *split =
        calloc(1, sizeof *split + decl->split_count * sizeof split->items[0]);
    if (split == NULL) {
        return ERR_MEMORY;
    }
    route->to.split = split;
    for (unsigned i = 0; i < decl->split_count; i++) {
        struct named_pool *pool = pool_by_name(publisher, decl->split[i].pool, true);
        if (pool == NULL) {
            return ERR_MEMORY;
        }
        pool->slot.refs++;
        split->items[split->count++] =
            (struct route_split){.pool = &pool->slot, .weight = decl->split[i].weight};
        split->total += decl->split[i].weight;
    }
    return 0;
}

static int build_bare(struct route_version *route, const struct route_decl *decl)
{
    struct pool_version *targets = &route->to.targets;
    struct pool_member *known = NULL;
    const struct route_version *before = route->slot->current;
    targets->version = &route->version;
    if (before != NULL && before->action == ROUTE_TARGETS && before->to.targets.entry_count > 0) {
        known = before->to.targets.entries[0].member;
    }
    return pool_fill_bare(targets, decl->targets, known);
}

// Workers see it as any pool that a route names.
static int build_list(struct publisher *publisher, struct route_version *route,
                      const struct route_decl *decl, struct own_list *list)
{
    struct named_pool *pool = pool_of_route(publisher, route->slot);
    route->action = ROUTE_POOL;
    if (pool == NULL) {
        return ERR_MEMORY;
    }
    struct pool_decl own;
    declaration_default_pool(&own);
    own.targets = decl->targets;
    own.target_count = decl->target_count;
    pool->holds++;
    list->pool = pool;
    pool->slot.refs++;
    route->to.pool = &pool->slot;
    return build_pool(publisher, pool, &own, &list->version);
}

static int build_action(struct publisher *publisher, struct route_version *route,
                        const struct route_decl *decl, struct own_list *list)
{
    struct named_pool *pool;
    switch (decl->action) {
    case ROUTE_POOL:
        pool = pool_by_name(publisher, decl->pool, true);
        if (pool == NULL) {
            return ERR_MEMORY;
        }
        pool->slot.refs++;
        route->to.pool = &pool->slot;
        return 0;
    case ROUTE_SPLIT:
        return build_split(publisher, route, decl);
    case ROUTE_TARGETS:
        return is_bare(decl) ? build_bare(route, decl) : build_list(publisher, route, decl, list);
    case ROUTE_REDIRECT:
    case ROUTE_RESPOND:
        break;
    }
    return 0;
}

int build_route(struct publisher *publisher, struct route_slot *slot, struct declaration **decl,
                struct route_version **out, struct own_list *list)
{
    const struct route_decl *rules = &(*decl)->route;
    struct named_tenant *tenant = NULL;
    if (rules->tenant.len > 0 && (tenant = tenant_by_id(publisher, rules->tenant)) == NULL) {
        declaration_free(decl);
        return ERR_MEMORY;
    }
    struct route_version *route = calloc(1, version_len(rules));
    if (route == NULL) {
        declaration_free(decl);
        return ERR_MEMORY;
    }
    version_init(&route->version, free_route_version);
    route->slot = slot;
    slot->refs++;
    route->tenant = tenant == NULL ? NULL : &tenant->slot;
    route->action = (uint8_t)rules->action;
    route->access_log = rules->access_log;
    route->has_access_rules = rules->allow_count > 0 || rules->deny_count > 0;
    route->is_passthrough = rules->passthrough;
    int err = rules->client_auth.ca.len == 0 ? 0 : auth_get(publisher, rules, &route->client_auth);
    if (err == 0) {
        err = build_action(publisher, route, rules, list);
    }
    if (is_plain(rules)) {
        declaration_free(decl);
    } else {
        route->rules = rules;
        *decl = NULL;
    }
    if (err != 0) {
        INVARIANT(drop_route(publisher, route, true) == 0);
        return err;
    }
    *out = route;
    return 0;
}

struct named_pool *hidden_pool_of(const struct route_version *route)
{
    bool is_hidden =
        route->action == ROUTE_POOL && route->to.pool != NULL && route->to.pool->is_hidden;
    return is_hidden ? pool_of_slot(route->to.pool) : NULL;
}

// ---- pools ----

static bool has_https(const struct pool_decl *decl)
{
    for (unsigned i = 0; i < decl->target_count; i++) {
        if (decl->targets[i].address.scheme == TARGET_HTTPS) {
            return true;
        }
    }
    return decl->health.type != HEALTH_OFF && decl->health.scheme == HEALTH_SCHEME_HTTPS &&
           !decl->health.has_tls;
}

static int build_tls(struct publisher *publisher, struct pool_own_version *version,
                     const struct pool_decl *decl)
{
    struct named_tls *tls = NULL;
    if (has_https(decl)) {
        int err = tls_get(publisher, &decl->tls, &tls);
        if (err != 0) {
            return err;
        }
        version->tls_share = tls;
        version->own.settings.tls = tls->context;
    }
    if (decl->health.type != HEALTH_OFF && decl->health.has_tls) {
        int err = tls_get(publisher, &decl->health.tls, &tls);
        if (err != 0) {
            return err;
        }
        version->health_tls_share = tls;
        version->own.settings.health_tls = tls->context;
    }
    return 0;
}

// The queue is there before the first version that needs it is.
static int build_queue(struct named_pool *pool, const struct pool_decl *decl)
{
    if (decl->limits.queue == 0 ||
        atomic_load_explicit(&pool->slot.queue, memory_order_relaxed) != NULL) {
        return 0;
    }
    struct pool_queue *queue = pool_queue_new();
    // Release: pairs with the acquire loads of workers.
    atomic_store_explicit(&pool->slot.queue, queue, memory_order_release);
    return queue == NULL ? ERR_MEMORY : 0;
}

static int build_part(struct publisher *publisher, struct named_pool *pool,
                      const struct known_members *known, const struct target_decl *target,
                      struct pool_part *part)
{
    if (target->address.is_name) {
        part->name = name_use_get(publisher, pool, target);
        if (part->name == NULL) {
            return ERR_MEMORY;
        }
        part->set = part->name->set;
        if (part->set == NULL) {
            return 0;
        }
        part->set->refs++;
        bool is_done = true;
        for (unsigned i = 0; is_done && i < part->set->count; i++) {
            is_done = prepare_limit(part->set->members[i], target->max_connections);
        }
        return is_done ? 0 : ERR_MEMORY;
    }
    struct pool_member *member = known_find(known, &target->address);
    if (member == NULL) {
        member = pool_make_member(pool, &target->address, NULL, target->max_connections);
    }
    if (member == NULL) {
        return ERR_MEMORY;
    }
    member->refs++;
    part->member = member;
    return prepare_limit(member, target->max_connections) ? 0 : ERR_MEMORY;
}

static int build_parts(struct publisher *publisher, struct named_pool *pool,
                       const struct pool_decl *decl, struct pool_own_version *version)
{
    struct known_members known;
    int err = known_init(&known, pool->members, pool->member_count);
    for (unsigned i = 0; err == 0 && i < decl->target_count; i++) {
        const struct target_decl *target = &decl->targets[i];
        struct pool_part *part = &version->parts[i];
        *part = (struct pool_part){
            .weight = target->weight,
            .max_connections = target->max_connections,
            .declared = (uint8_t)target->state,
            .is_backup = target->backup,
            .is_far = publisher->zone != NULL && target->zone.len > 0 &&
                      !str_eq(target->zone, str_from_c(publisher->zone)),
        };
        version->part_count++;
        err = build_part(publisher, pool, &known, target, part);
    }
    known_fini(&known);
    return err;
}

int build_pool(struct publisher *publisher, struct named_pool *pool, const struct pool_decl *decl,
               struct pool_own_version **out)
{
    struct pool_own_version *version = pool_version_new(decl);
    if (version == NULL) {
        return ERR_MEMORY;
    }
    int err = build_parts(publisher, pool, decl, version);
    if (err == 0) {
        err = build_tls(publisher, version, decl);
    }
    if (err == 0) {
        err = build_queue(pool, decl);
    }
    if (err == 0) {
        version->changes = pool->changes;
        version->own.view = make_view(publisher, version);
        err = version->own.view == NULL ? ERR_MEMORY : 0;
    }
    if (err != 0) {
        drop_pool(publisher, pool, version, true);
        return err;
    }
    *out = version;
    return 0;
}
