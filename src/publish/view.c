// SPDX-License-Identifier: MIT
// What is live, for status, statistics and metrics.
#include "publish/health.h"
#include "upstream/limit.h"
#include <arpa/inet.h>

uint64_t publisher_revision(const struct publisher *publisher)
{
    return publisher->revision;
}

uint64_t publisher_route_count(const struct publisher *publisher)
{
    return route_table_count(publisher->routes);
}

uint64_t publisher_pool_count(const struct publisher *publisher)
{
    return publisher->pool_count;
}

uint64_t publisher_certificate_count(const struct publisher *publisher)
{
    struct cert_counts counts = {0};
    if (publisher->certs != NULL) {
        cert_get_counts(publisher->certs, &counts);
    }
    return counts.certificates;
}

uint64_t publisher_skipped_count(const struct publisher *publisher)
{
    return publisher->skipped;
}

struct visit {
    enum stat_kind kind;
    void (*call)(void *context, struct str name, const struct stat_sum *sum);
    void *context;
};

static void visit_slot(void *context, struct stat_slot *slot)
{
    const struct visit *visit = context;
    char text[8192]; // a host and a path of any length a model allows
    struct str name = STR_NULL;
    struct stat_sum sum;
    stat_slot_sum(slot, &sum);
    switch (visit->kind) {
    case STAT_ROUTE:
        name = str_make(
            text, route_slot_text(CONTAINER_OF(slot, struct route_slot, stats), text, sizeof text));
        break;
    case STAT_POOL:
        name = CONTAINER_OF(slot, struct pool_slot, stats)->name;
        break;
    case STAT_TENANT:
        name = CONTAINER_OF(slot, struct tenant_slot, stats)->id;
        break;
    case STAT_KIND_COUNT:
        return;
    }
    visit->call(visit->context, name, &sum);
}

uint64_t publisher_stats(struct publisher *publisher, const char *kind, uint64_t after,
                         unsigned limit,
                         void (*visit)(void *context, struct str name, const struct stat_sum *sum),
                         void *context)
{
    static const struct {
        struct str name;
        enum stat_kind kind;
    } kinds[] = {
        {STR("routes"), STAT_ROUTE}, {STR("pools"), STAT_POOL}, {STR("tenants"), STAT_TENANT}};
    (void)publisher; // one a process, as the numbers
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (str_eq(str_from_c(kind), kinds[i].name)) {
            struct visit all = {.kind = kinds[i].kind, .call = visit, .context = context};
            return stats_visit(kinds[i].kind, after, limit, visit_slot, &all);
        }
    }
    return 0;
}

// ---- targets ----

// Of a name: the address that it stands for. Returns the length.
static size_t write_resolved(struct pool_member *member, char *to, size_t size)
{
    const struct member_named *named = pool_member_name(member);
    if (named == NULL ||
        inet_ntop(named->resolved.family, named->resolved.bytes, to, (socklen_t)size) == NULL) {
        return 0;
    }
    return strlen(to);
}

struct target_visit {
    struct publisher *publisher;
    const struct pool_settings *settings; // of the live version; NULL: there is none
    void (*call)(void *context, const struct publish_target *target);
    void *context;
};

static unsigned weight_now(const struct target_visit *visit, struct pool_member *member,
                           const struct pool_part *part)
{
    struct pool_candidate candidate = {
        .member = member,
        .weight = part->weight,
        .warm = 1000,
        .declared = part->declared,
        .health = HEALTH_UP,
    };
    health_rate(visit->publisher, visit->settings, &candidate);
    if (candidate.declared != part->declared) {
        return 0; // it says drain itself: what is declared does not show that
    }
    uint64_t thousandths = (uint64_t)candidate.weight * candidate.warm;
    return (unsigned)((thousandths + 999) / 1000);
}

// `part` NULL: it is leaving.
static void visit_target(const struct target_visit *visit, struct pool_member *member,
                         const struct pool_part *part)
{
    struct pool_target *target = pool_target_of(member);
    char text[POOL_MEMBER_TEXT_MAX];
    char resolved[INET6_ADDRSTRLEN];
    struct publish_target facts = {
        .address = str_make(text, pool_member_show(member, text, sizeof text)),
        .resolved = str_make(resolved, write_resolved(member, resolved, sizeof resolved)),
        .health = health_text(target),
        .reason = target->health.reason,
        .since_unix_ms = target->health.changed_unix_ms,
        .requests = pool_member_requests(member),
        .connections = target->limit == NULL ? 0 : upstream_limit_open(target->limit),
        .weight = part == NULL ? 0 : weight_now(visit, member, part),
        .is_leaving = part == NULL,
        .member = member,
    };
    visit->call(visit->context, &facts);
}

static void visit_live(void *context, struct pool_member *member, const struct pool_part *part)
{
    pool_target_of(member)->is_live = true;
    if (context != NULL) {
        visit_target(context, member, part);
    }
}

// Marks the members of the live version, and visits them.
static void mark_live(struct named_pool *pool, struct target_visit *visit)
{
    for (unsigned i = 0; i < pool->member_count; i++) {
        pool_target_of(pool->members[i])->is_live = false;
    }
    if (pool->slot.current != NULL) {
        version_visit(live_version(pool), visit_live, visit);
    }
}

bool publisher_pool_targets(struct publisher *publisher, struct str name,
                            void (*call)(void *context, const struct publish_target *target),
                            void *context)
{
    struct named_pool *pool = pool_by_name(publisher, name, false);
    if (pool == NULL) {
        return false;
    }
    struct target_visit visit = {
        .publisher = publisher,
        .settings = pool->slot.current == NULL ? NULL : &live_version(pool)->own.settings,
        .call = call,
        .context = context,
    };
    mark_live(pool, &visit);
    for (unsigned i = 0; i < pool->member_count; i++) {
        if (!pool_target_of(pool->members[i])->is_live) {
            visit_target(&visit, pool->members[i], NULL);
        }
    }
    return pool->slot.current != NULL;
}

unsigned publisher_cut_member(struct publisher *publisher, struct str name, struct str address)
{
    struct named_pool *pool = pool_by_name(publisher, name, false);
    unsigned inflight = 0;
    if (pool == NULL) {
        return 0;
    }
    mark_live(pool, NULL);
    for (unsigned i = 0; i < pool->member_count; i++) {
        struct pool_member *member = pool->members[i];
        char text[POOL_MEMBER_TEXT_MAX];
        size_t len = pool_member_show(member, text, sizeof text);
        if (pool_target_of(member)->is_live || !str_eq(str_make(text, len), address)) {
            continue;
        }
        // Release: what the worker is told after this finds the mark.
        atomic_store_explicit(&member->cut, 1, memory_order_release);
        inflight += pool_member_requests(member);
    }
    return inflight;
}

static const struct named_pool *pool_of_key(struct publisher *publisher, enum noun noun,
                                            struct str key)
{
    if (noun == NOUN_POOL) {
        return pool_by_name(publisher, key, false);
    }
    size_t slash = str_find_char(key, '/');
    struct str host = slash == SIZE_MAX ? key : str_sub(key, 0, slash);
    struct str path = slash == SIZE_MAX ? STR("/") : str_from(key, slash);
    const struct route_slot *slot =
        noun == NOUN_ROUTE ? route_table_slot(publisher->routes, host, path) : NULL;
    return slot == NULL || slot->current == NULL ? NULL : hidden_pool_of(slot->current);
}

unsigned publisher_unresolved(struct publisher *publisher, enum noun noun, struct str key)
{
    const struct named_pool *pool = pool_of_key(publisher, noun, key);
    unsigned count = 0;
    const struct pool_own_version *version = pool == NULL ? NULL : newest_version(pool);
    for (unsigned i = 0; version != NULL && i < version->part_count; i++) {
        // Answered is not enough: workers pick from the set of the view, which follows.
        const struct pool_part *part = &version->parts[i];
        const struct watched_name *watched = part->name == NULL ? NULL : part->name->watched;
        count += watched != NULL && part->set == NULL && !name_has_failed(watched);
    }
    return count;
}
