// SPDX-License-Identifier: MIT
// Targets as far as their members tell.
#include "publish/publish_int.h"

struct target_visit {
    void (*call)(void *context, const struct publish_target *target);
    void *context;
};

static void visit_member(void *context, struct str address, const struct pool_member *member)
{
    const struct target_visit *visit = context;
    const struct publish_target target = {
        .address = address,
        .health = "none",
        .reason = "",
        .requests = pool_member_requests(member),
        .weight = 1,
        .member = member,
    };
    visit->call(visit->context, &target);
}

__attribute__((weak)) bool
publisher_pool_targets(struct publisher *publisher, struct str pool,
                       void (*visit)(void *context, const struct publish_target *target),
                       void *context)
{
    struct target_visit all = {.call = visit, .context = context};
    return publisher_pool_members(publisher, pool, visit_member, &all);
}

__attribute__((weak)) unsigned publisher_unresolved(struct publisher *publisher, enum noun noun,
                                                    struct str key)
{
    (void)publisher;
    (void)noun;
    (void)key;
    return 0;
}
