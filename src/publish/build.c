// SPDX-License-Identifier: MIT
// From declarations to versions, and the way back.
#include "base/invariant.h"
#include "publish/publish_int.h"
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

static size_t version_len(const struct route_decl *decl)
{
    if (decl->action != ROUTE_TARGETS) {
        return sizeof(struct route_version);
    }
    size_t len = offsetof(struct route_version, to.targets.entries) +
                 decl->target_count * sizeof(struct pool_entry);
    return len < sizeof(struct route_version) ? sizeof(struct route_version) : len;
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

static int build_inline(struct publisher *publisher, struct route_version *route,
                        const struct route_decl *decl)
{
    struct pool_version *targets = &route->to.targets;
    struct pool_member *known_few[16];
    struct pool_member **known = known_few;
    unsigned known_count = 0;
    const struct route_version *before = route->slot->current;
    targets->version = &route->version;
    if (before != NULL && before->action == ROUTE_TARGETS) {
        known_count = before->to.targets.entry_count;
        if (known_count > 16 && (known = malloc(known_count * sizeof *known)) == NULL) {
            return ERR_MEMORY;
        }
        for (unsigned i = 0; i < known_count; i++) {
            known[i] = before->to.targets.entries[i].member;
        }
    }
    int err = pool_fill(targets, BALANCE_LEAST_REQUESTS, decl->targets, decl->target_count, known,
                        known_count);
    if (known != known_few) {
        free(known);
    }
    return err != 0 ? err : watch_members(publisher, targets);
}

static int build_action(struct publisher *publisher, struct route_version *route,
                        const struct route_decl *decl)
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
        return build_inline(publisher, route, decl);
    case ROUTE_REDIRECT:
    case ROUTE_RESPOND:
        break;
    }
    return 0;
}

int build_route(struct publisher *publisher, struct route_slot *slot, struct declaration **decl,
                struct route_version **out)
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
        err = build_action(publisher, route, rules);
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

static bool reserve_members(struct named_pool *pool, unsigned more)
{
    unsigned wanted = pool->member_count + more;
    if (wanted <= pool->member_size) {
        return true;
    }
    void *members = realloc(pool->members, wanted * sizeof(struct pool_member *));
    if (members == NULL) {
        return false;
    }
    pool->members = members;
    pool->member_size = wanted;
    return true;
}

static int build_tls(struct publisher *publisher, struct pool_own_version *version,
                     const struct pool_decl *decl)
{
    for (unsigned i = 0; i < decl->target_count; i++) {
        if (decl->targets[i].address.scheme == TARGET_HTTPS) {
            struct named_tls *tls = NULL;
            int err = tls_get(publisher, decl, &tls);
            version->tls_share = tls;
            version->own.settings.tls = tls == NULL ? NULL : tls->context;
            return err;
        }
    }
    return 0;
}

int build_pool(struct publisher *publisher, struct named_pool *pool, const struct pool_decl *decl,
               struct pool_own_version **out)
{
    if (!reserve_members(pool, decl->target_count)) {
        return ERR_MEMORY;
    }
    struct pool_own_version *version =
        pool_own_version_new(decl, pool->members, pool->member_count);
    if (version == NULL) {
        return ERR_MEMORY;
    }
    for (unsigned i = 0; i < version->pool.entry_count; i++) {
        struct pool_member *member = version->pool.entries[i].member;
        if (member->refs == 1 && !member->is_listed) {
            member->is_listed = true;
            pool->members[pool->member_count++] = member;
        }
    }
    int err = build_tls(publisher, version, decl);
    if (err == 0) {
        err = watch_members(publisher, &version->pool);
    }
    if (err != 0) {
        INVARIANT(drop_pool(publisher, pool, version, true) == 0);
        return err;
    }
    *out = version;
    return 0;
}

void drop_member(struct publisher *publisher, struct named_pool *named, struct pool_member *member)
{
    for (unsigned i = 0; named != NULL && i < named->member_count; i++) {
        if (named->members[i] == member) {
            named->members[i] = named->members[--named->member_count];
            break;
        }
    }
    struct member_named *with_name = pool_member_name(member);
    if (with_name != NULL && with_name->name != NULL) {
        unwatch_name(publisher, with_name->name);
    }
    pool_member_free(member);
}

enum { LAST_HOLD = 0xff }; // in a dead version's entry.state: its reference was the member's last

static bool make_leaving(struct list *records, unsigned count)
{
    for (; count > 0; count--) {
        struct leaving *leaving = calloc(1, sizeof *leaving);
        if (leaving == NULL) {
            LIST_FOR_EACH_SAFE (node, records) {
                free(CONTAINER_OF(node, struct leaving, node));
            }
            return false;
        }
        list_append(records, &leaving->node);
    }
    return true;
}

static void begin_leaving(struct publisher *publisher, struct named_pool *named,
                          struct pool_member *member, struct list *records)
{
    struct leaving *leaving = LIST_FIRST(records, struct leaving, node);
    list_remove(&leaving->node);
    leaving->member = member;
    leaving->named = named;
    member->leaving = 1;
    leave(publisher, leaving);
}

// Gives back a version's references of its members.
static int drop_entries(struct publisher *publisher, struct named_pool *named,
                        struct pool_version *pool, bool is_unseen)
{
    unsigned leaving_count = 0;
    for (unsigned i = 0; i < pool->entry_count; i++) {
        struct pool_entry *entry = &pool->entries[i];
        entry->state = --entry->member->refs == 0 ? LAST_HOLD : 0;
        leaving_count += entry->state == LAST_HOLD && entry->member->leaving == 0;
    }
    struct list records;
    list_init(&records);
    if (!is_unseen && !make_leaving(&records, leaving_count)) {
        for (unsigned i = 0; i < pool->entry_count; i++) {
            pool->entries[i].member->refs++;
        }
        return ERR_MEMORY;
    }
    for (unsigned i = 0; i < pool->entry_count; i++) {
        struct pool_member *member = pool->entries[i].member;
        if (pool->entries[i].state != LAST_HOLD) {
            continue;
        }
        if (member->leaving > 0) {
            member->leaving = 2;
        } else if (is_unseen) {
            drop_member(publisher, named, member);
        } else {
            begin_leaving(publisher, named, member, &records);
        }
    }
    pool->entry_count = 0;
    return 0;
}

static void drop_pool_ref(struct publisher *publisher, struct pool_slot *slot)
{
    slot->refs--;
    pool_sweep(publisher, pool_of_slot(slot));
}

int drop_route(struct publisher *publisher, struct route_version *route, bool is_unseen)
{
    switch ((enum route_action)route->action) {
    case ROUTE_TARGETS:
        if (drop_entries(publisher, NULL, &route->to.targets, is_unseen) != 0) {
            return ERR_MEMORY;
        }
        break;
    case ROUTE_POOL:
        if (route->to.pool != NULL) {
            drop_pool_ref(publisher, route->to.pool);
        }
        break;
    case ROUTE_SPLIT:
        for (unsigned i = 0; route->to.split != NULL && i < route->to.split->count; i++) {
            drop_pool_ref(publisher, route->to.split->items[i].pool);
        }
        break;
    case ROUTE_REDIRECT:
    case ROUTE_RESPOND:
        break;
    }
    if (route->client_auth != NULL) {
        auth_put(publisher, route->client_auth);
    }
    route_slot_unref(route->slot);
    version_unref(&route->version);
    return 0;
}

int drop_pool(struct publisher *publisher, struct named_pool *named,
              struct pool_own_version *version, bool is_unseen)
{
    if (drop_entries(publisher, named, &version->pool, is_unseen) != 0) {
        return ERR_MEMORY;
    }
    if (version->tls_share != NULL) {
        tls_put(publisher, version->tls_share);
    }
    version_unref(&version->version);
    return 0;
}
