// SPDX-License-Identifier: MIT
// The way back: what versions held is given up.
#include "base/invariant.h"
#include "publish/publish_int.h"
#include <stdlib.h>

void member_unref(struct publisher *publisher, struct named_pool *pool, struct pool_member *member,
                  bool is_unseen)
{
    INVARIANT(member->refs > 0);
    if (--member->refs > 0) {
        return;
    }
    if (member->leaving > 0) {
        member->leaving = 2; // declared again and gone again
    } else if (is_unseen) {
        drop_member(publisher, pool, member);
    } else {
        struct leaving *leaving = pool_target_of(member)->leaving;
        *leaving = (struct leaving){.member = member, .named = pool};
        member->leaving = 1;
        leave(publisher, leaving);
    }
}

// The route's one target. Its record is made here: a million of them are usual, and few leave at a time.
static int drop_bare(struct publisher *publisher, struct pool_version *targets, bool is_unseen)
{
    if (targets->entry_count == 0) {
        return 0;
    }
    struct pool_member *member = targets->entries[0].member;
    if (member->refs == 1 && member->leaving == 0 && !is_unseen) {
        struct leaving *leaving = calloc(1, sizeof *leaving);
        if (leaving == NULL) {
            return ERR_MEMORY;
        }
        leaving->member = member;
        member->refs = 0;
        member->leaving = 1;
        leave(publisher, leaving);
    } else {
        member_unref(publisher, NULL, member, is_unseen);
    }
    targets->entry_count = 0;
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
        if (drop_bare(publisher, &route->to.targets, is_unseen) != 0) {
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

void drop_pool(struct publisher *publisher, struct named_pool *pool,
               struct pool_own_version *version, bool is_unseen)
{
    for (unsigned i = 0; i < version->part_count; i++) {
        struct pool_part *part = &version->parts[i];
        if (part->name != NULL) {
            set_unref(publisher, pool, part->set, is_unseen);
            name_use_put(publisher, part->name, is_unseen);
        } else if (part->member != NULL) { // NULL: memory was out
            member_unref(publisher, pool, part->member, is_unseen);
        }
    }
    version->part_count = 0;
    if (version->tls_share != NULL) {
        tls_put(publisher, version->tls_share);
    }
    if (version->health_tls_share != NULL) {
        tls_put(publisher, version->health_tls_share);
    }
    version_unref(&version->version);
}
