// SPDX-License-Identifier: MIT
// Until pools.c has them.
#include "publish/health.h"

__attribute__((weak)) void pool_refresh(struct publisher *publisher, struct named_pool *pool)
{
    (void)publisher;
    (void)pool;
}

__attribute__((weak)) void
pool_visit_live(struct named_pool *pool,
                void (*visit)(void *context, struct pool_member *member,
                              enum target_state declared),
                void *context)
{
    (void)pool;
    (void)visit;
    (void)context;
}
