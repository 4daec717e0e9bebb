// SPDX-License-Identifier: MIT
// What the proxy calls around itself, played by the simulation. These take the place of http/server.c,
// http/h1's connections, net/outq.c, upstream/upstream.c, route/route.c and observe/access_log.c when the
// program is linked.
#include "net/outq.h"
#include "sim/sim.h"
#include <arpa/inet.h>

static struct sim *sim_of(const struct loop *loop)
{
    return loop->owner;
}

// ---- http/server.h ----

int http_server_init(struct http_server *server, struct loop *loop,
                     const struct http_server_config *config, const struct http_server_ops *ops,
                     void *owner)
{
    *server = (struct http_server){.loop = loop, .config = config, .ops = ops, .owner = owner};
    sim_of(loop)->server = server;
    return 0;
}

int http_server_accept(struct http_server *server, int fd, const struct sockaddr_storage *peer,
                       enum http_accept kind)
{
    (void)kind;
    (void)server;
    (void)fd;
    (void)peer;
    return ERR_SYSTEM;
}

void http_server_drain(struct http_server *server)
{
    server->draining = true;
}

void http_server_abort_all(struct http_server *server)
{
    struct sim *sim = sim_of(server->loop);
    struct list *live = &sim->live;
    for (struct list *node = live->next; node != live;) {
        struct sim_stream *s = CONTAINER_OF(node, struct sim_stream, node);
        node = node->next;
        if (s->side == SIM_CLIENT) {
            sim_leave(s, ERR_CLOSED);
            node = live->next; // its origin may have gone, too
        }
    }
}

void http_server_fini(struct http_server *server)
{
    http_server_abort_all(server);
}

const struct in6_addr *http_stream_peer(const struct http_stream *stream)
{
    (void)stream;
    static const struct in6_addr peer = {
        .s6_addr = {[10] = 0xff, [11] = 0xff, [12] = 192, [13] = 0, [14] = 2, [15] = 1}};
    return &peer;
}

struct str http_stream_peer_text(const struct http_stream *stream)
{
    (void)stream;
    return STR("192.0.2.1");
}

unsigned http_stream_local_port(const struct http_stream *stream)
{
    (void)stream;
    return 8080;
}

struct tls *http_stream_tls(const struct http_stream *stream)
{
    return CONTAINER_OF((struct http_stream *)(uintptr_t)stream, struct sim_stream, stream)->tls;
}

void http_stream_addresses(const struct http_stream *stream, struct sockaddr_storage *source,
                           struct sockaddr_storage *destination)
{
    (void)stream;
    *source = (struct sockaddr_storage){.ss_family = AF_UNSPEC};
    *destination = *source;
}

const struct http_proxied *http_stream_proxied(const struct http_stream *stream)
{
    (void)stream;
    return NULL;
}

void http_stream_close_after(struct http_stream *stream)
{
    sim_of(stream->loop)->close_after = true;
}

// ---- net/outq.h ----

void outq_flush_all(struct loop *loop)
{
    sim_flush(loop);
}

// ---- upstream/upstream.h ----

void http_client_pool_fini(struct http_client_pool *pool)
{
    (void)pool;
}

int upstream_init(struct upstream *upstream, struct loop *loop, const struct h1_limits *limits)
{
    (void)limits;
    *upstream = (struct upstream){.loop = loop};
    return 0;
}

void upstream_fini(struct upstream *upstream)
{
    (void)upstream;
}

void upstream_drop_idle(struct upstream *upstream)
{
    sim_of(upstream->loop)->drop_idle_count++;
}

static unsigned find_member(struct sim *sim, const struct upstream_request *request)
{
    unsigned index = 0;
    struct sockaddr_storage address;
    socklen_t len;
    while (index < SIM_MEMBERS && (!pool_member_address(sim->members[index], &address, &len) ||
                                   memcmp(&address, &request->address, len) != 0)) {
        index++;
    }
    SIM_REQUIRE(sim, index < SIM_MEMBERS);
    return index;
}

// Of a connection that is passed through there are no heads to be told of.
static bool sim_is_of_txn(const struct http_stream_events *events)
{
    return events == &txn_origin_events || events == &txn_second_events;
}

struct http_stream *upstream_get(struct upstream *upstream, const struct upstream_request *request,
                                 const struct http_stream_events *events, void *user, int *err)
{
    struct sim *sim = sim_of(upstream->loop);
    sim->last_asked = *request;
    if (sim->refuses_at_once) {
        *err = ERR_CLOSED;
        return NULL;
    }
    if (sim->limited >> find_member(sim, request) & 1) {
        sim->limited_count++;
        *err = ERR_LIMIT;
        return NULL;
    }
    bool is_reused = sim->reuses && !request->fresh;
    struct sim_stream *s = sim_stream_new(sim, SIM_ORIGIN, is_reused ? SIM_LIVE : SIM_CONNECTING);
    s->number = ++sim->origin_count;
    s->member = find_member(sim, request);
    s->in_key = s->number;
    s->stream.events = events;
    s->stream.user = user;
    s->stream.was_reused = is_reused;
    s->is_raw = !sim_is_of_txn(events);
    if (!is_reused) {
        loop_timer_set(upstream->loop, &s->connect_timer, request->connect_timeout_ms);
    }
    sim->origin = s;
    return &s->stream;
}

// ---- route/route.h ----

struct route_version *route_find(const struct route_table *table, struct str host, struct str path)
{
    (void)path;
    struct sim *sim = (struct sim *)(uintptr_t)table;
    struct route_version *route = rcu_load(sim->slot->current);
    const struct sim_host *known = sim_find_host(sim, host);
    if (route != NULL) { // one route is all hosts': it gets the policy of who is looked for
        bool has_policy = known != NULL && known->auth.id[0] != 0;
        route->client_auth =
            has_policy ? (struct route_client_auth *)(uintptr_t)&known->auth : NULL;
    }
    return route;
}

bool route_table_has_client_auth(const struct route_table *table)
{
    const struct sim *sim = (const struct sim *)(const void *)table;
    for (unsigned i = 0; i < sim->tls.host_count; i++) {
        if (sim->tls.hosts[i].auth.id[0] != 0) {
            return true;
        }
    }
    return false;
}

static const struct pool_version *current_of(struct pool_slot *pool)
{
    return rcu_load(pool->current);
}

const struct pool_version *route_pool(const struct route_version *route, uint64_t random,
                                      struct pool_slot **named)
{
    (void)random;
    *named = route->to.pool;
    return current_of(route->to.pool);
}

struct str route_slot_host(const struct route_slot *slot)
{
    return str_make(slot->text, slot->text_len);
}

struct str route_slot_path(const struct route_slot *slot)
{
    (void)slot;
    return STR("/");
}

size_t route_slot_text(const struct route_slot *slot, char *to, size_t size)
{
    return str_copy(to, size, str_make(slot->text, slot->text_len));
}

// ---- observe/access_log.h ----

void access_log_add(struct access_log *log, unsigned worker, const struct access_record *record)
{
    (void)worker;
    struct sim *sim = (struct sim *)(void *)log;
    sim->record_count++;
    for (int i = 0; i < END_COUNT; i++) {
        sim->ends[i] += record->end == end_info((enum end_reason)i)->token;
    }
    sim->last = (struct sim_record){.status = record->status,
                                    .retries = record->retries,
                                    .end = record->end,
                                    .queue_ns = record->queue_ns,
                                    .bytes_in = record->bytes_in};
    str_copy(sim->last.target, sizeof sim->last.target, record->target);
    str_copy(sim->last.host, sizeof sim->last.host, record->host);
    sim->last.tls_version = record->tls_version;
}
