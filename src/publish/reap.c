// SPDX-License-Identifier: MIT
// What was replaced or removed, until it can be freed.
//
//   fresh ── grace period ──► held ── last pin ──► freed; its members that are in no other version:
//   leaving ── last request ──► grace period ──► freed
//
// The slot's own reference of a version stays until here, so a worker's last unpin never frees.
#include "base/clock.h"
#include "base/invariant.h"
#include "publish/publish_int.h"
#include <stdlib.h>

enum {
    SLICE_NS = 1000000, // of each list, in one look
    CLOCK_EVERY = 16,   // things between two looks at the clock
};

struct retirement *retirement_new(void)
{
    struct retirement *retirement = calloc(1, sizeof *retirement);
    if (retirement == NULL) {
        return NULL;
    }
    retirement->rcu = rcu_retired_new();
    if (retirement->rcu == NULL) {
        free(retirement);
        return NULL;
    }
    return retirement;
}

void retirement_free(struct retirement **place)
{
    struct retirement *retirement = *place;
    *place = NULL;
    if (retirement != NULL) {
        rcu_retired_free(&retirement->rcu);
        free(retirement);
    }
}

// Reclaim thread.
static void on_grace(void *object)
{
    struct retirement *retirement = object;
    // Release: pairs with the acquire in is_past(); the control thread frees after it.
    atomic_store_explicit(&retirement->is_past, true, memory_order_release);
}

static bool is_past(const atomic_bool *flag)
{
    return atomic_load_explicit(flag, memory_order_acquire);
}

static uint64_t now_ms(void)
{
    return clock_monotonic_ns() / NS_PER_MS;
}

static bool is_counted(const struct retirement *retirement)
{
    return retirement->kind != RETIRED_SLOT && retirement->kind != RETIRED_VIEW;
}

void retire(struct publisher *publisher, struct retirement **place)
{
    struct retirement *retirement = *place;
    *place = NULL;
    retirement->at_ms = now_ms();
    list_append(&publisher->fresh, &retirement->node);
    publisher->retired_count += is_counted(retirement);
    rcu_retire(&retirement->rcu, on_grace, retirement);
    arm_reaper(publisher, false); // a view is replaced without any change
}

static const struct version *version_of(const struct retirement *retirement)
{
    switch (retirement->kind) {
    case RETIRED_ROUTE:
        return &retirement->object.route->version;
    case RETIRED_POOL:
        return &retirement->object.pool->version;
    case RETIRED_CERTIFICATE:
        return &retirement->object.certificate->version;
    case RETIRED_VIEW:
    case RETIRED_SLOT:
        break;
    }
    return NULL;
}

static bool is_pinned(const struct retirement *retirement)
{
    // Acquire: pairs with the release of a worker's unref. After the grace period nobody can pin anew.
    const struct version *version = version_of(retirement);
    return version != NULL && atomic_load_explicit(&version->refs, memory_order_acquire) > 1;
}

// False: memory is out, again later.
static bool end_retirement(struct publisher *publisher, struct retirement *retirement, bool is_end)
{
    switch (retirement->kind) {
    case RETIRED_ROUTE:
        if (drop_route(publisher, retirement->object.route, is_end) != 0) {
            return false;
        }
        break;
    case RETIRED_POOL:
        drop_pool(publisher, retirement->named, retirement->object.pool, is_end);
        pool_unhold(publisher, retirement->named);
        break;
    case RETIRED_VIEW:
        old_view_free(publisher, retirement->named, retirement->object.view);
        pool_unhold(publisher, retirement->named);
        break;
    case RETIRED_CERTIFICATE: {
        struct cert_slot *slot = retirement->object.certificate->slot;
        version_unref(&retirement->object.certificate->version);
        cert_table_sweep(publisher->certs, slot);
        break;
    }
    case RETIRED_SLOT:
        route_slot_unref(retirement->object.slot);
        break;
    }
    publisher->retired_count -= is_counted(retirement);
    list_remove(&retirement->node);
    free(retirement);
    return true;
}

// What one look may cost: things looked at, and time. To free a pool takes a hundred times longer than to see
// that something is still pinned.
struct budget {
    unsigned count;
    uint64_t until_ns;
};

static bool take_one(struct budget *budget)
{
    if (budget->count > 0 && --budget->count % CLOCK_EVERY == 0 &&
        clock_monotonic_ns() >= budget->until_ns) {
        budget->count = 0;
    }
    return budget->count > 0;
}

// These return whether the budget ran out: there may be more to do now.
static bool reap_fresh(struct publisher *publisher, struct budget budget)
{
    while (!list_is_empty(&publisher->fresh) && take_one(&budget)) {
        struct retirement *retirement = LIST_FIRST(&publisher->fresh, struct retirement, node);
        if (!is_past(&retirement->is_past)) {
            return false; // they pass in order
        }
        if (is_pinned(retirement)) {
            list_remove(&retirement->node);
            list_append(&publisher->held, &retirement->node);
        } else if (!end_retirement(publisher, retirement, false)) {
            return false;
        }
    }
    return budget.count == 0;
}

static bool reap_held(struct publisher *publisher, struct budget budget)
{
    if (publisher->held_at == &publisher->held) {
        publisher->held_at = publisher->held.next;
    }
    while (!list_is_empty(&publisher->held) && take_one(&budget)) {
        struct list *node = publisher->held_at;
        if (node == &publisher->held) {
            return false; // all were looked at; the next call begins with the first
        }
        publisher->held_at = node->next;
        struct retirement *retirement = CONTAINER_OF(node, struct retirement, node);
        if (!is_pinned(retirement) && !end_retirement(publisher, retirement, false)) {
            return false;
        }
    }
    return budget.count == 0;
}

// Reclaim thread.
static void on_leaving_grace(void *object)
{
    struct leaving *leaving = object;
    atomic_store_explicit(&leaving->is_past, true, memory_order_release);
}

static void end_leaving(struct leaving *leaving)
{
    list_remove(&leaving->node);
    if (leaving->named == NULL) { // else it is the target's
        free(leaving);
    }
}

// Control is still to hear of its failures: the message is inside the target.
static bool is_reported(struct pool_member *member)
{
    struct pool_target *target = pool_target_of(member);
    // Acquire: after it nobody touches the message.
    return target != NULL && atomic_load_explicit(&target->is_reported, memory_order_acquire);
}

static void free_leaving(struct publisher *publisher, struct leaving *leaving)
{
    struct named_pool *named = leaving->named;
    struct pool_member *member = leaving->member;
    end_leaving(leaving);
    drop_member(publisher, named, member);
    if (named != NULL) {
        pool_sweep(publisher, named);
    }
}

static void look_at_leaving(struct publisher *publisher, struct leaving *leaving)
{
    struct pool_member *member = leaving->member;
    if (leaving->is_waiting && !is_past(&leaving->is_past)) {
        return;
    }
    if (member->refs > 0) { // declared again
        member->leaving = 0;
        end_leaving(leaving);
        return;
    }
    if (member->leaving > 1) { // declared again and gone again: from the beginning
        member->leaving = 1;
        leaving->is_waiting = false;
    }
    if (pool_member_requests(member) > 0 || is_reported(member)) {
        leaving->is_waiting = false;
        return;
    }
    if (leaving->is_waiting) {
        free_leaving(publisher, leaving);
        return;
    }
    // A worker may look at a member until the end of the turn in which it gave it back.
    struct rcu_retired *rcu = rcu_retired_new();
    if (rcu != NULL) {
        leaving->is_waiting = true;
        atomic_store_explicit(&leaving->is_past, false, memory_order_relaxed);
        rcu_retire(&rcu, on_leaving_grace, leaving);
    }
}

void leave(struct publisher *publisher, struct leaving *leaving)
{
    list_append(&publisher->leaving, &leaving->node);
    look_at_leaving(publisher, leaving); // most have no request: their grace period begins now
    arm_reaper(publisher, false);
}

static bool reap_leaving(struct publisher *publisher, struct budget budget)
{
    if (publisher->leaving_at == &publisher->leaving) {
        publisher->leaving_at = publisher->leaving.next;
    }
    while (!list_is_empty(&publisher->leaving) && take_one(&budget)) {
        struct list *node = publisher->leaving_at;
        if (node == &publisher->leaving) {
            return false;
        }
        publisher->leaving_at = node->next;
        look_at_leaving(publisher, CONTAINER_OF(node, struct leaving, node));
    }
    return budget.count == 0;
}

bool reap(struct publisher *publisher, unsigned count)
{
    // Each list has a time of its own, so that none keeps the others from being looked at.
    uint64_t now_ns = clock_monotonic_ns();
    struct budget budget = {count + 1, now_ns + SLICE_NS};
    bool is_more = reap_fresh(publisher, budget);
    budget.until_ns += SLICE_NS;
    is_more |= reap_held(publisher, budget);
    budget.until_ns += SLICE_NS;
    is_more |= reap_leaving(publisher, budget);
    return is_more;
}

static void end_list(struct publisher *publisher, struct list *list)
{
    LIST_FOR_EACH_SAFE (node, list) {
        struct retirement *retirement = CONTAINER_OF(node, struct retirement, node);
        INVARIANT(is_past(&retirement->is_past));
        INVARIANT(end_retirement(publisher, retirement, true));
    }
}

void reap_all(struct publisher *publisher)
{
    rcu_drain(); // all flags are set
    end_list(publisher, &publisher->fresh);
    end_list(publisher, &publisher->held);
    LIST_FOR_EACH_SAFE (node, &publisher->leaving) {
        struct leaving *leaving = CONTAINER_OF(node, struct leaving, node);
        struct pool_member *member = leaving->member;
        INVARIANT(!leaving->is_waiting || is_past(&leaving->is_past));
        member->leaving = 0;
        if (member->refs > 0) {
            end_leaving(leaving);
        } else {
            free_leaving(publisher, leaving);
        }
    }
    publisher->held_at = &publisher->held;
    publisher->leaving_at = &publisher->leaving;
}

void publisher_retired(const struct publisher *publisher, uint64_t *count, uint64_t *oldest_ms)
{
    *count = publisher->retired_count;
    *oldest_ms = 0;
    const struct list *lists[] = {&publisher->held, &publisher->fresh};
    for (unsigned i = 0; i < 2; i++) {
        LIST_FOR_EACH (node, lists[i]) {
            const struct retirement *retirement = CONTAINER_OF(node, struct retirement, node);
            if (is_counted(retirement)) {
                uint64_t now = now_ms();
                *oldest_ms = now > retirement->at_ms ? now - retirement->at_ms : 0;
                return;
            }
        }
    }
}
