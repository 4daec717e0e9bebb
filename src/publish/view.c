// SPDX-License-Identifier: MIT
// What is live, for status, statistics and metrics.
#include "publish/publish_int.h"

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

bool publisher_pool_members(struct publisher *publisher, struct str name,
                            void (*visit)(void *context, struct str address,
                                          const struct pool_member *member),
                            void *context)
{
    struct named_pool *pool = pool_by_name(publisher, name, false);
    if (pool == NULL) {
        return false;
    }
    for (unsigned i = 0; i < pool->member_count; i++) {
        char text[POOL_MEMBER_TEXT_MAX];
        size_t len = pool_member_show(pool->members[i], text, sizeof text);
        visit(context, str_make(text, len), pool->members[i]);
    }
    return pool->slot.current != NULL;
}

static bool is_current(const struct named_pool *pool, const struct pool_member *member)
{
    const struct pool_version *current = pool->slot.current;
    for (unsigned i = 0; current != NULL && i < current->entry_count; i++) {
        if (current->entries[i].member == member) {
            return true;
        }
    }
    return false;
}

unsigned publisher_cut_member(struct publisher *publisher, struct str name, struct str address)
{
    struct named_pool *pool = pool_by_name(publisher, name, false);
    unsigned inflight = 0;
    for (unsigned i = 0; pool != NULL && i < pool->member_count; i++) {
        struct pool_member *member = pool->members[i];
        char text[POOL_MEMBER_TEXT_MAX];
        size_t len = pool_member_show(member, text, sizeof text);
        if (!str_eq(str_make(text, len), address) || is_current(pool, member)) {
            continue;
        }
        // Release: what the worker is told after this finds the mark.
        atomic_store_explicit(&member->cut, 1, memory_order_release);
        inflight += pool_member_requests(member);
    }
    return inflight;
}
