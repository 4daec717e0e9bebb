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

__attribute__((weak)) struct probe *probe_begin(struct prober *prober,
                                                const struct probe_spec *spec,
                                                probe_done *on_result, void *context)
{
    (void)prober;
    (void)spec;
    (void)on_result;
    (void)context;
    return NULL;
}

__attribute__((weak)) int probe_change(struct probe *probe, const struct probe_spec *spec)
{
    (void)probe;
    (void)spec;
    return 0;
}

__attribute__((weak)) void probe_end(struct probe **probe)
{
    *probe = NULL;
}

__attribute__((weak)) void prober_counts(const struct prober *prober, uint64_t *checks,
                                         uint64_t *failures)
{
    (void)prober;
    *checks = 0;
    *failures = 0;
}
