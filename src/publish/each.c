// SPDX-License-Identifier: MIT
// All pools, for status and metrics.
#include "publish/publish_int.h"

struct pool_visit {
    void (*call)(void *context, const struct pool_slot *slot);
    void *context;
};

static void visit_pool(void *context, struct name_node *node)
{
    const struct pool_visit *visit = context;
    const struct named_pool *pool = CONTAINER_OF(node, struct named_pool, node);
    visit->call(visit->context, &pool->slot);
}

uint64_t publisher_each_pool(struct publisher *publisher, uint64_t after, unsigned limit,
                             void (*visit)(void *context, const struct pool_slot *slot),
                             void *context)
{
    struct pool_visit all = {.call = visit, .context = context};
    return name_map_visit(&publisher->pools, after, limit, visit_pool, &all);
}
