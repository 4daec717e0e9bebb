// SPDX-License-Identifier: MIT
#include "sim/sim.h"
#include "http/h1/h1_parse.h"
#include "upstream/pool_counts.h"
#include "upstream/pool_member.h"
#include "upstream/pool_view.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn void sim_fail(const struct sim *sim, const char *condition, const char *file, int line)
{
    fprintf(stderr, "%s:%d: %s (seed %llu, event %llu)\n", file, line, condition,
            (unsigned long long)sim->seed, (unsigned long long)sim->event);
    abort();
}

// ---- routes and pools ----

static void free_route(struct version *version)
{
    struct route_version *of = CONTAINER_OF(version, struct route_version, version);
    struct sim_route *route = CONTAINER_OF(of, struct sim_route, version);
    route->sim->routes_freed++;
    stat_slot_fini(&route->pool.stats);
    pool_view_free(route->own.view);
    free(route->pool_version);
    free(route);
}

static void keep_version(struct version *version)
{
    (void)version; // a part of its route
}

static struct pool_version *make_pool(struct sim *sim, struct sim_route *route, unsigned count)
{
    struct pool_candidate candidates[SIM_MEMBERS];
    struct pool_view_facts facts;
    struct pool_version *pool = calloc(1, sizeof *pool);
    SIM_REQUIRE(sim, pool != NULL && count <= SIM_MEMBERS);
    version_init(&route->pool_own, keep_version);
    route->own.settings = sim->settings;
    for (unsigned i = 0; i < count; i++) {
        candidates[i] = (struct pool_candidate){.member = sim->members[i],
                                                .weight = 1,
                                                .warm = 1000,
                                                .declared = TARGET_UP,
                                                .health = HEALTH_UP};
    }
    route->own.view = pool_view_new(&route->own.settings, candidates, count, &facts);
    SIM_REQUIRE(sim, route->own.view != NULL);
    pool->version = &route->pool_own;
    pool->own = &route->own;
    return pool;
}

static struct sim_route *make_route(struct sim *sim, unsigned member_count)
{
    struct sim_route *route = calloc(1, sizeof *route);
    SIM_REQUIRE(sim, route != NULL);
    route->sim = sim;
    route->rules = (struct route_decl){
        .host = STR("*"), .path = STR("/"), .retries = 1, .retry_on = RETRY_CONNECT | RETRY_RESET};
    route->rules.target_path = STR("");
    route->pool.name = STR("pool");
    stat_slot_init(&route->pool.stats, STAT_POOL);
    route->pool_version = make_pool(sim, route, member_count);
    route->pool.current = route->pool_version;
    atomic_init(&route->pool.queue, atomic_load(&sim->home.queue));
    version_init(&route->version.version, free_route);
    route->version.slot = sim->slot;
    route->version.rules = &route->rules;
    route->version.action = ROUTE_POOL;
    route->version.access_log = true;
    route->version.to.pool = &route->pool;
    return route;
}

struct route_version *sim_route(struct sim *sim)
{
    return sim->slot->current;
}

struct route_decl *sim_rules(struct sim *sim)
{
    return &CONTAINER_OF(sim->slot->current, struct sim_route, version)->rules;
}

struct pool_settings *sim_settings(struct sim *sim)
{
    return &CONTAINER_OF(sim->slot->current, struct sim_route, version)->own.settings;
}

void sim_drop_route(struct sim *sim)
{
    struct route_version *before = sim->slot->current;
    rcu_publish(sim->slot->current, NULL);
    sim->home.current = NULL;
    if (before != NULL) {
        version_unref(&before->version);
    }
}

void sim_swap_route(struct sim *sim, unsigned member_count)
{
    struct sim_route *route = make_route(sim, member_count);
    struct route_version *before = sim->slot->current;
    rcu_publish(sim->slot->current, &route->version);
    sim->home.current = route->pool_version;
    if (before != NULL) {
        version_unref(&before->version);
    }
}

// ---- life ----

static void set_clock(struct sim *sim, uint64_t now_ms)
{
    sim->loop.now_ms = now_ms;
    sim->loop.now_ns = now_ms * 1000000;
    sim->loop.real_ns = 1700000000000000000u + sim->loop.now_ns;
}

static void start_loop(struct sim *sim)
{
    SIM_REQUIRE(sim, loop_init(&sim->loop) == 0);
    sim->loop.is_simulated = true;
    sim->loop.owner = sim;
    sim->loop.after_event = sim_flush;
    set_clock(sim, sim->loop.now_ms);
}

static void free_members(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_MEMBERS; i++) {
        pool_member_free(sim->members[i]);
        sim->members[i] = NULL;
    }
}

static void make_members(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_MEMBERS; i++) {
        struct target_address address = {.sockaddr_len = sizeof(struct sockaddr_in)};
        struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(8000 + i))};
        memcpy(&in4.sin_addr, (uint8_t[4]){10, 0, 0, (uint8_t)(1 + i)}, 4);
        memcpy(&address.sockaddr, &in4, sizeof in4);
        address.port = (uint16_t)(8000 + i);
        sim->members[i] = pool_member_new(&sim->home, &address, NULL);
        SIM_REQUIRE(sim, sim->members[i] != NULL);
    }
}

void sim_make_named(struct sim *sim, unsigned member_count)
{
    const struct target_address address = {
        .text = STR("name:80"), .host = STR("name"), .port = 80, .is_name = true};
    sim_drop_route(sim);
    free_members(sim);
    for (unsigned i = 0; i < SIM_MEMBERS; i++) {
        struct sockaddr_in in4 = {.sin_family = AF_INET};
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
        memcpy(&in4.sin_addr, (uint8_t[4]){10, 0, 0, (uint8_t)(1 + i)}, 4);
        in6.sin6_addr.s6_addr[0] = 0xfd;
        in6.sin6_addr.s6_addr[15] = (uint8_t)(1 + i);
        const void *resolved = i % 2 == 0 ? (const void *)&in4 : (const void *)&in6;
        sim->members[i] = pool_member_new(&sim->home, &address, resolved);
        SIM_REQUIRE(sim, sim->members[i] != NULL);
    }
    sim_swap_route(sim, member_count);
}

void sim_make_queue(struct sim *sim, unsigned max)
{
    struct pool_queue *queue = pool_queue_new();
    SIM_REQUIRE(sim, queue != NULL);
    atomic_store(&sim->home.queue, queue);
    sim->settings.queue = max;
    sim->settings.queue_timeout_ms = 1000;
    sim->settings.requests_per_target = 1;
    sim_swap_route(sim, sim->member_count);
}

static void on_report(struct loop *loop, struct loop_message *report)
{
    struct sim *sim = loop->owner;
    struct pool_target *target = CONTAINER_OF(report, struct pool_target, report);
    sim->report_count++;
    atomic_store(&target->fails, 0);
    atomic_store(&target->is_reported, false);
}

static void make_home(struct sim *sim)
{
    sim->settings = (struct pool_settings){.keepalive_idle = 8,
                                           .keepalive_timeout_ms = 60000,
                                           .balance = BALANCE_ROUND_ROBIN,
                                           .retry_budget = 100,
                                           .panic_percent = 50};
    sim->home.control = &sim->loop;
    sim->home.on_report = on_report;
    make_members(sim);
}

struct sim *sim_new(unsigned member_count)
{
    struct sim *sim = calloc(1, sizeof *sim);
    if (sim == NULL) {
        abort();
    }
    list_init(&sim->live);
    list_init(&sim->dead);
    start_loop(sim);
    make_home(sim);
    sim->member_count = member_count;
    sim->slot = calloc(1, sizeof *sim->slot + 2);
    SIM_REQUIRE(sim, sim->slot != NULL);
    stat_slot_init(&sim->slot->stats, STAT_ROUTE);
    sim->slot->text[0] = '*';
    sim->slot->text_len = 1;
    sim_swap_route(sim, member_count);

    SIM_REQUIRE(sim, config_init(&sim->config) == 0);
    sim->config.timeouts.connect_ms = 1000;
    sim->config.timeouts.response_ms = 5000;
    sim->config.timeouts.tunnel_idle_ms = 20000;
    stats_set_worker_count(1);
    sim->shared.config = &sim->config;
    // Never looked into but by sim_links.c.
    sim->shared.routes = (const struct route_table *)(const void *)sim;
    sim->shared.access_log = (struct access_log *)(void *)sim;
    sim->shared.certs = (struct cert_table *)(void *)sim;
    sim->shared.worker_count = 1;
    SIM_REQUIRE(sim, proxy_new(&sim->proxy, &sim->loop, 0, &sim->shared) == 0);
    for (unsigned i = 0; i < 4; i++) {
        sim->proxy->random[i] = i + 1;
    }
    sim->stats = sim->proxy->stats;
    sim->check = sim_check_transactions;
    return sim;
}

static void free_streams(struct list *streams)
{
    while (!list_is_empty(streams)) {
        sim_stream_free(LIST_FIRST(streams, struct sim_stream, node));
    }
}

// What waiters and their queue say to each other, and reports, may be on their way.
static void free_queue(struct sim *sim)
{
    struct pool_queue *queue = atomic_load(&sim->home.queue);
    loop_empty_mailbox(&sim->loop);
    SIM_REQUIRE(sim, queue == NULL || pool_queue_len(queue) == 0);
    atomic_store(&sim->home.queue, NULL);
    pool_queue_unref(&queue);
}

void sim_free(struct sim **place)
{
    struct sim *sim = *place;
    *place = NULL;
    http_server_abort_all(sim->server);
    sim_check_idle(sim);
    proxy_free(&sim->proxy);
    free_streams(&sim->live);
    free_streams(&sim->dead);
    free_queue(sim);
    sim_drop_route(sim);
    free_members(sim);
    pool_counts_free(&sim->home.counts);
    stat_slot_fini(&sim->slot->stats);
    free(sim->slot);
    config_fini(&sim->config);
    loop_fini(&sim->loop);
    stats_set_worker_count(1);
    free(sim);
}

// ---- requests, time ----

struct sim_stream *sim_request(struct sim *sim, const char *text)
{
    struct http_field fields[H1_FIELD_MAX];
    struct http_head head;
    struct h1_limits limits = {.head_max = 4 << 20, .target_max = 1 << 20, .field_max = 200};
    size_t len = strlen(text);
    char *bytes = malloc(len);
    SIM_REQUIRE(sim, bytes != NULL);
    memcpy(bytes, text, len);
    SIM_REQUIRE(sim, h1_parse_request(bytes, len, &limits, fields, &head) == (ptrdiff_t)len);
    struct sim_stream *s = sim_stream_new(sim, SIM_CLIENT, SIM_LIVE);
    s->number = ++sim->client_count;
    s->method = head.method;
    s->wants_upgrade = head.upgrade;
    s->in_body = head.body;
    s->in_left = head.body_len;
    s->in_ended = head.body == BODY_NONE || (head.body == BODY_LENGTH && head.body_len == 0);
    s->stream.is_complete = s->in_ended;
    s->stream.bytes_in = len;
    struct str key = STR_NULL;
    const struct http_field *field = http_head_find_name(&head, STR("X-Key"));
    if (field != NULL) {
        key = field->value;
        SIM_REQUIRE(sim, str_to_u64(key, &s->in_key) == 0);
    }
    if (sim->tls.client != NULL) {
        s->tls = sim->tls.client;
        s->stream.is_h2 = s->tls->is_h2;
        head.version = s->tls->is_h2 ? 20 : head.version;
    }
    sim->server->conn_count++;
    sim->request_count++;
    sim->server->ops->on_request(sim->server, &s->stream, &head);
    free(bytes); // views are valid until the return
    sim_after_event(sim);
    return s;
}

struct sim_stream *sim_raw(struct sim *sim, const char *sni, const char *bytes)
{
    SIM_REQUIRE(sim, sim->server->ops->on_hello(sim->server, str_from_c(sni)) == HTTP_HELLO_RAW);
    struct sim_stream *s = sim_stream_new(sim, SIM_CLIENT, SIM_LIVE);
    s->number = ++sim->client_count;
    s->is_tunnel = true;
    s->out_head = true;
    sim->server->conn_count++;
    sim->raw_count++;
    sim->server->ops->on_raw(sim->server, &s->stream, str_from_c(sni));
    if (sim_is_live(s)) {
        sim_text(s, bytes);
    } else {
        sim_after_event(sim);
    }
    return s;
}

struct sim_stream *sim_request_connected(struct sim *sim, const char *text)
{
    struct sim_stream *client = sim_request(sim, text);
    SIM_REQUIRE(sim, sim->origin != NULL);
    sim_connected(sim->origin);
    return client;
}

void sim_advance(struct sim *sim, unsigned ms)
{
    for (unsigned i = 0; i < ms; i++) {
        set_clock(sim, sim->loop.now_ms + 1);
        loop_turn(&sim->loop, 0);
    }
    sim_after_event(sim);
}

void sim_leap(struct sim *sim, unsigned ms)
{
    set_clock(sim, sim->loop.now_ms + ms);
    loop_turn(&sim->loop, 0);
    sim_after_event(sim);
}

void sim_after_event(struct sim *sim)
{
    sim_flush(&sim->loop);
    sim->event++;
    if (sim->check != NULL) {
        sim->check(sim);
    }
}

void sim_on_user_head(struct sim_stream *s)
{
    if (s->sim->on_user_head != NULL) {
        s->sim->on_user_head(s);
    }
}

void sim_on_user_end(struct sim_stream *s)
{
    if (s->sim->on_user_end != NULL) {
        s->sim->on_user_end(s);
    }
}

// ---- what must hold ----

uint64_t sim_counter(const struct sim *sim, enum counter counter)
{
    return atomic_load(&sim->stats->counters[counter]);
}

unsigned sim_inflight(const struct sim *sim)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < SIM_MEMBERS; i++) {
        sum += pool_member_requests(sim->members[i]);
    }
    return sum;
}

static unsigned check_one(struct sim *sim, struct txn *txn)
{
    SIM_REQUIRE(sim, txn->client != NULL);
    struct sim_stream *client = sim_stream_of(txn->client);
    SIM_REQUIRE(sim, client->life == SIM_LIVE && client->stream.user == txn);
    SIM_REQUIRE(sim, client->is_paused == txn->client_paused);
    SIM_REQUIRE(sim, client->out_head == txn->response_started);
    if (txn->origin == NULL) {
        SIM_REQUIRE(sim, txn->member == NULL && txn->second == NULL);
        SIM_REQUIRE(sim, !client->is_paused || client->in_ended || txn->waiter != NULL ||
                             txn->is_missing);
        return 0;
    }
    SIM_REQUIRE(sim, txn->waiter == NULL);
    struct sim_stream *origin = sim_stream_of(txn->origin);
    SIM_REQUIRE(sim, sim_is_live(origin) && origin->stream.user == txn);
    SIM_REQUIRE(sim, origin->is_paused == txn->origin_paused);
    SIM_REQUIRE(sim, txn->member == sim->members[origin->member]);
    // Backpressure: a full peer's producer stands still.
    SIM_REQUIRE(sim, !client->was_full || origin->is_paused || origin->life == SIM_CONNECTING);
    SIM_REQUIRE(sim, !origin->was_full || client->is_paused || client->in_ended);
    // And nobody stands still for nothing.
    SIM_REQUIRE(sim, !origin->is_paused || client->was_full);
    SIM_REQUIRE(sim, !client->is_paused || origin->was_full || client->in_ended ||
                         origin->life == SIM_CONNECTING);
    if (txn->second == NULL) {
        SIM_REQUIRE(sim, txn->second_member == NULL);
        return 1;
    }
    SIM_REQUIRE(sim, origin->life == SIM_CONNECTING);
    const struct sim_stream *second = sim_stream_of(txn->second);
    SIM_REQUIRE(sim, second->life == SIM_CONNECTING && second->stream.user == txn);
    SIM_REQUIRE(sim, txn->second_member == sim->members[second->member]);
    return 2;
}

void sim_check_transactions(struct sim *sim)
{
    unsigned with_member = 0;
    uint64_t count = 0;
    LIST_FOR_EACH (node, &sim->proxy->txns) {
        with_member += check_one(sim, CONTAINER_OF(node, struct txn, node));
        count++;
    }
    LIST_FOR_EACH (node, &sim->live) {
        const struct sim_stream *s = CONTAINER_OF(node, struct sim_stream, node);
        with_member += s->side == SIM_ORIGIN && s->is_raw ? 1 : 0;
    }
    SIM_REQUIRE(sim, sim_inflight(sim) == with_member);
    SIM_REQUIRE(sim, sim->proxy->txn_slab.live_count == count);
    count += sim->proxy->raw_slab.live_count;
    SIM_REQUIRE(sim, sim->record_count + count == sim->request_count + sim->raw_count);
    SIM_REQUIRE(sim, sim->server->conn_count == count);
}

void sim_check_idle(struct sim *sim)
{
    sim_check_transactions(sim);
    SIM_REQUIRE(sim, list_is_empty(&sim->proxy->txns) && list_is_empty(&sim->proxy->raws));
    SIM_REQUIRE(sim, list_is_empty(&sim->live));
    SIM_REQUIRE(sim, sim->proxy->keep_slab.live_count == 0);
    SIM_REQUIRE(sim, sim->proxy->pins.count == 0);
    SIM_REQUIRE(sim, atomic_load(&sim->stats->tunnels) == 0);
    SIM_REQUIRE(sim, sim_counter(sim, COUNTER_requests_total) == sim->request_count);
}
