// SPDX-License-Identifier: MIT
#include "publish/publish.h"
#include "base/clock.h"
#include "base/invariant.h"
#include "model/config.h"
#include "publish/health.h"
#include "publish/tickets.h"
#include <stdlib.h>

enum {
    REAP_MS = 100,      // between looks at what waits to be freed
    REAP_SOON_MS = 10,  // when one look was not enough
    REAP_BUDGET = 2000, // things looked at in one tick: well under 5 ms
    LOAD_TURN = 1000,   // records between quiescent states while loading
};

static void on_reap(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct publisher *publisher = CONTAINER_OF(timer, struct publisher, timer);
    arm_reaper(publisher, reap(publisher, REAP_BUDGET));
}

static void on_retry(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct publisher *publisher = CONTAINER_OF(timer, struct publisher, retry);
    refresh_dirty(publisher);
    answers_soon(publisher);
}

int publisher_new(struct publisher **out, struct cert_table *certs, struct tls_ticket_ring *tickets,
                  const struct seal *seal)
{
    struct publisher *publisher = calloc(1, sizeof *publisher);
    if (publisher == NULL) {
        return ERR_MEMORY;
    }
    publisher->certs = certs;
    publisher->tickets = tickets;
    publisher->seal = seal;
    list_init(&publisher->fresh);
    list_init(&publisher->held);
    list_init(&publisher->leaving);
    list_init(&publisher->listeners);
    list_init(&publisher->certificate_listeners);
    list_init(&publisher->all_pools);
    list_init(&publisher->dirty);
    list_init(&publisher->answered);
    loop_task_init(&publisher->answers, answers_on_task);
    loop_timer_init(&publisher->retry, on_retry);
    loop_timer_init(&publisher->timer, on_reap);
    health_init(publisher);
    publisher->held_at = &publisher->held;
    publisher->leaving_at = &publisher->leaving;
    int err = rcu_start();
    if (err == 0) {
        err = route_table_new(&publisher->routes);
    }
    if (err == 0) {
        err = resolver_new(&publisher->resolver, NULL);
    }
    if (err != 0) {
        publisher_free(&publisher);
        return err;
    }
    *out = publisher;
    return 0;
}

int publisher_configure(struct publisher *publisher, const struct publish_config *config)
{
    INVARIANT(publisher->names.count == 0 && publisher->control == NULL);
    free(publisher->zone);
    publisher->zone = config->zone.len == 0 ? NULL : str_dup(config->zone);
    if (config->zone.len > 0 && publisher->zone == NULL) {
        return ERR_MEMORY;
    }
    publisher->health.prober = config->prober;
    publisher->health.origin_tls = config->origin_tls;
    publisher->resolver_loop = config->prober == NULL ? NULL : prober_loop(config->prober);
    if (config->config == NULL) {
        return 0;
    }
    const struct resolver_config dns = {
        .servers = (const char *const *)config->config->dns.servers,
        .server_count = config->config->dns.server_count,
        .timeout_ms = config->config->dns.timeout_ms,
        .min_ttl_ms = config->config->dns.min_ttl_ms,
        .max_ttl_ms = config->config->dns.max_ttl_ms,
    };
    struct resolver *resolver;
    int err = resolver_new(&resolver, &dns);
    if (err == 0) {
        resolver_free(&publisher->resolver);
        publisher->resolver = resolver;
    }
    return err;
}

static void clear_version(void *context, struct route_version *version)
{
    INVARIANT(drop_route(context, version, true) == 0);
}

static void clear_maps(struct publisher *publisher)
{
    struct name_node *node;
    pools_clear(publisher);
    while ((node = name_map_pop(&publisher->tenants)) != NULL) {
        struct named_tenant *tenant = CONTAINER_OF(node, struct named_tenant, node);
        stat_slot_fini(&tenant->slot.stats);
        free(tenant);
    }
    name_map_fini(&publisher->tenants);
    INVARIANT(publisher->names.count == 0 && publisher->uses.count == 0);
    INVARIANT(list_is_empty(&publisher->all_pools));
    name_map_fini(&publisher->names);
    name_map_fini(&publisher->uses);
    shared_clear(publisher);
}

static void clear_tickets(struct publisher *publisher)
{
    if (publisher->tickets != NULL) {
        tickets_free(publisher->tickets->current);
        publisher->tickets->current = NULL;
    }
}

void publisher_free(struct publisher **place)
{
    struct publisher *publisher = *place;
    *place = NULL;
    if (publisher == NULL) {
        return;
    }
    publisher_hurry(publisher);
    publisher->is_ending = true;
    health_fini(publisher); // trials have names
    if (publisher->routes != NULL) {
        reap_all(publisher);
        route_table_clear(publisher->routes, clear_version, publisher);
        clear_maps(publisher);
        clear_tickets(publisher);
        rcu_drain();
        route_table_free(&publisher->routes);
    }
    resolver_free(&publisher->resolver);
    free(publisher->candidates);
    free(publisher->zone);
    free(publisher);
}

const struct route_table *publisher_routes(const struct publisher *publisher)
{
    return publisher->routes;
}

void arm_reaper(struct publisher *publisher, bool is_more)
{
    bool is_idle = list_is_empty(&publisher->fresh) && list_is_empty(&publisher->held) &&
                   list_is_empty(&publisher->leaving);
    if (publisher->control == NULL || is_idle) {
        return;
    }
    // Set already, by what was retired in that look: sooner, but never put off.
    uint64_t soon_ms = publisher->control->now_ms + REAP_SOON_MS + 1;
    bool is_late = is_more && publisher->timer.deadline_ms > soon_ms;
    if (!loop_timer_is_set(&publisher->timer) || is_late) {
        loop_timer_set(publisher->control, &publisher->timer, is_more ? REAP_SOON_MS : REAP_MS);
    }
}

struct load {
    struct publisher *publisher;
    uint64_t count;
};

static bool load_one(void *context, const struct store_record *record)
{
    struct load *load = context;
    struct change change;
    apply_records(load->publisher, &change, record, 1);
    if (++load->count % LOAD_TURN == 0) {
        rcu_turn_done();
    }
    return true;
}

// A list gives no secrets.
static int load_tickets(struct load *load, struct store *store)
{
    struct store_record record;
    int err = store_get_secret(store, NOUN_TICKETS, STR("current"), &record);
    if (err == 0) {
        (void)load_one(load, &record);
    }
    return err == ERR_NOT_FOUND ? 0 : err;
}

int publisher_load(struct publisher *publisher, struct store *store)
{
    struct load load = {.publisher = publisher};
    uint64_t revision = store_revision(store);
    route_table_expect(publisher->routes, store_count(store, NOUN_ROUTE));
    int err = store_list(store, NOUN_POOL, STR_NULL, STR_NULL, 0, load_one, &load);
    if (err == 0 && publisher->certs != NULL) {
        cert_table_expect(publisher->certs, store_count(store, NOUN_CERTIFICATE));
        err = store_list(store, NOUN_CERTIFICATE, STR_NULL, STR_NULL, 0, load_one, &load);
    }
    if (err == 0) {
        err = load_tickets(&load, store);
    }
    if (err == 0) {
        err = store_list(store, NOUN_ROUTE, STR_NULL, STR_NULL, 0, load_one, &load);
    }
    publisher->revision = revision;
    return err;
}

int publisher_start(struct publisher *publisher, struct loop *control)
{
    publisher->control = control;
    LIST_FOR_EACH (node, &publisher->all_pools) {
        CONTAINER_OF(node, struct named_pool, node_of_all)->slot.control = control;
    }
    arm_reaper(publisher, false);
    expiry_start(publisher);
    health_start(publisher);
    int err = watch_files(publisher);
    return err != 0 ? err
                    : resolver_start(publisher->resolver,
                                     publisher->resolver_loop != NULL ? publisher->resolver_loop
                                                                      : control,
                                     control);
}

void publisher_stop(struct publisher *publisher)
{
    if (publisher->control != NULL) {
        pendings_drop(publisher); // members leave, and the reaper would look
        loop_timer_cancel(publisher->control, &publisher->timer);
        loop_timer_cancel(publisher->control, &publisher->retry);
        loop_task_cancel(&publisher->answers);
        expiry_stop(publisher);
        health_stop(publisher);
        unwatch_files(publisher);
        publisher->control = NULL;
    }
    resolver_stop(publisher->resolver);
}

int publisher_check(struct publisher *publisher, const struct declaration *declaration,
                    struct problems *problems)
{
    (void)publisher;
    if (declaration->noun == NOUN_ROUTE) {
        unsigned segments = 0;
        struct str path = declaration->route.path;
        for (size_t i = 0; i < path.len; i++) {
            segments += path.p[i] == '/';
        }
        if (segments > ROUTE_SEGMENT_MAX) {
            return problems_add(problems, ERR_INVALID, "/path",
                                "a path has at most %d segments, this one has %u",
                                ROUTE_SEGMENT_MAX, segments);
        }
    }
    return 0;
}
