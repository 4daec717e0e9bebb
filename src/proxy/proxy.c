// SPDX-License-Identifier: MIT
// A worker's proxy: accepts, hands requests to transactions, drains.
#include "base/log.h"
#include "net/address.h"
#include "net/outq.h"
#include "proxy/secure.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

enum {
    ACCEPT_MAX = 64, // connections taken in one event, so that others are served meanwhile
    KEPT_TXNS = 1024,
    KEPT_RAWS = 64,
    KEPT_ARENA_BLOCKS = 1024,
    KEPT_BODY_BLOCKS = 128,
    PIN_BUCKETS = 4096,
    LISTENER_MAX = 2 * CONFIG_LISTEN_MAX,
    BUFFERS_MIN = 1 << 20, // bytes of each half of a worker's share
    LISTEN_PAUSE_MS = 100, // after "too many open files"
};

struct listener {
    struct loop_io io;
    enum http_accept kind;
    struct loop_timer retry;
    struct proxy *proxy;
};

static void on_request(struct http_server *server, struct http_stream *stream,
                       const struct http_head *head)
{
    txn_begin(server->owner, stream, head);
}

static void on_refused(struct http_server *server, struct http_stream *stream, int err)
{
    proxy_log_refused(server->owner, stream, err);
}

static void on_h2(struct http_server *server)
{
    stat_count(((struct proxy *)server->owner)->stats, h2_connections_total);
}

static void on_closed(struct http_server *server)
{
    struct proxy *proxy = server->owner;
    atomic_fetch_sub_explicit(&proxy->shared->connections, 1, memory_order_relaxed);
    atomic_store_explicit(&proxy->stats->connections, server->conn_count, memory_order_relaxed);
    atomic_store_explicit(&proxy->stats->counters[COUNTER_connections_timed_out_total],
                          server->timed_out_count, memory_order_relaxed);
}

static bool is_trusted(struct http_server *server, const struct in6_addr *peer)
{
    return proxy_is_trusted(server->owner, peer);
}

static const struct http_server_ops server_ops = {
    .on_request = on_request,
    .on_refused = on_refused,
    .on_closed = on_closed,
    .on_h2 = on_h2,
    .is_trusted = is_trusted,
    .on_hello = secure_on_hello,
    .on_raw = raw_begin,
    .on_handshake = secure_on_handshake,
    .on_abuse = secure_on_abuse,
};

static void take_connection(struct proxy *proxy, int fd, const struct sockaddr_storage *peer,
                            enum http_accept kind)
{
    struct proxy_shared *shared = proxy->shared;
    unsigned limit = shared->config->limits.connections;
    unsigned open = atomic_fetch_add_explicit(&shared->connections, 1, memory_order_relaxed);
    if (limit != 0 && open >= limit) {
        atomic_fetch_sub_explicit(&shared->connections, 1, memory_order_relaxed);
        stat_count(proxy->stats, connections_refused_total);
        close(fd);
        return;
    }
    if (http_server_accept(&proxy->server, fd, peer, kind) != 0) {
        atomic_fetch_sub_explicit(&shared->connections, 1, memory_order_relaxed);
        stat_count(proxy->stats, connections_refused_total);
        return;
    }
    stat_count(proxy->stats, connections_accepted_total);
    atomic_store_explicit(&proxy->stats->connections, proxy->server.conn_count,
                          memory_order_relaxed);
}

// Returns false when the queue is empty or cannot be read now (errno says which).
static bool accept_one(struct listener *listener)
{
    struct sockaddr_storage peer = {0};
    socklen_t len = sizeof peer;
    int fd = accept4(listener->io.fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        take_connection(listener->proxy, fd, &peer, listener->kind);
        return true;
    }
    return errno == EINTR || errno == ECONNABORTED || errno == EPROTO;
}

static void on_retry(struct loop *loop, struct loop_timer *timer)
{
    struct listener *listener = CONTAINER_OF(timer, struct listener, retry);
    if (listener->io.fd >= 0 && loop_add_events(loop, &listener->io, EPOLLIN) != 0) {
        loop_timer_set(loop, timer, LISTEN_PAUSE_MS);
    }
}

static void on_accept(struct loop *loop, struct loop_io *io, uint32_t events)
{
    (void)events;
    struct listener *listener = CONTAINER_OF(io, struct listener, io);
    for (int i = 0; i < ACCEPT_MAX; i++) {
        if (accept_one(listener)) {
            continue;
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            // Out of descriptors or memory: the queue would wake us without end.
            log_error("accept: %s; trying again in %d ms", strerror(errno), LISTEN_PAUSE_MS);
            int fd = loop_release(loop, io);
            io->fd = fd;
            loop_timer_set(loop, &listener->retry, LISTEN_PAUSE_MS);
        }
        return;
    }
}

static void on_drain_end(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct proxy *proxy = CONTAINER_OF(timer, struct proxy, drain_timer);
    proxy->stopping = true;
    http_server_abort_all(&proxy->server); // ends their transactions
}

// A worker's share of limits.buffers: one half for what is queued for peers, the other for kept bodies.
static void bound_buffers(struct proxy *proxy)
{
    const struct proxy_shared *shared = proxy->shared;
    unsigned workers = shared->worker_count > 0 ? shared->worker_count : 1;
    uint64_t half = shared->config->limits.buffers / workers / 2;
    half = half > BUFFERS_MIN ? half : BUFFERS_MIN;
    if (proxy->loop->outq_pool != NULL) { // streams without sockets have none
        proxy->loop->outq_pool->blocks.live_max = half / OUTQ_BLOCK_LEN;
    }
    proxy->keep_slab.live_max = half / BODY_KEEP_BLOCK_LEN;
}

static int make_tls(struct proxy *proxy)
{
    const struct proxy_shared *shared = proxy->shared;
    if (shared->certs == NULL) {
        return 0;
    }
    const struct tls_server_config config = {
        .profile =
            shared->config->tls.profile == TLS_PROFILE_MODERN ? TLS_MODERN : TLS_INTERMEDIATE,
        .tickets = shared->tickets,
        .hooks = &secure_hooks,
    };
    int err = tls_server_context_new(&proxy->tls, &config);
    proxy->server_config.tls = proxy->tls;
    return err;
}

int proxy_new(struct proxy **out, struct loop *loop, unsigned index, struct proxy_shared *shared)
{
    const struct config *config = shared->config;
    struct proxy *proxy = calloc(1, sizeof *proxy);
    if (proxy == NULL) {
        return ERR_MEMORY;
    }
    proxy->loop = loop;
    proxy->shared = shared;
    proxy->index = index;
    proxy->started_ms = loop->now_ms;
    proxy->stats = stats_of_worker(index);
    list_init(&proxy->txns);
    list_init(&proxy->raws);
    loop_timer_init(&proxy->drain_timer, on_drain_end);
    misses_init(&proxy->misses, loop, shared->misses);
    arena_pool_init(&proxy->arenas, KEPT_ARENA_BLOCKS);
    slab_init(&proxy->txn_slab, sizeof(struct txn), KEPT_TXNS);
    slab_init(&proxy->raw_slab, raw_len(), KEPT_RAWS);
    slab_init(&proxy->keep_slab, BODY_KEEP_BLOCK_LEN, KEPT_BODY_BLOCKS);
    bound_buffers(proxy);
    proxy->server_config = (struct http_server_config){
        .limits = {.head_max = config->limits.header_bytes,
                   .target_max = config->limits.header_bytes / 2, // so that fields have room
                   .field_max = config->limits.headers},
        .header_timeout_ms = config->timeouts.header_ms,
        .idle_timeout_ms = config->timeouts.idle_ms,
        .body_timeout_ms = config->timeouts.response_ms,
        .half_close = config->listen.half_close,
        .proxy_protocol = config->listen.proxy_protocol,
        .handshakes_a_turn = config->limits.handshakes,
        .h2_streams = config->limits.h2_streams,
    };
    proxy->listeners = calloc(LISTENER_MAX, sizeof *proxy->listeners);
    if (getrandom(proxy->random, sizeof proxy->random, 0) != (ssize_t)sizeof proxy->random) {
        proxy->random[0] = loop->now_ns | 1;
    }
    int err = proxy->listeners == NULL ? ERR_MEMORY : pin_table_init(&proxy->pins, PIN_BUCKETS);
    if (err == 0) {
        err = make_tls(proxy);
    }
    if (err == 0) {
        err = http_server_init(&proxy->server, loop, &proxy->server_config, &server_ops, proxy);
    }
    if (err == 0) {
        err = upstream_init(&proxy->upstream, loop, &proxy->server_config.limits);
    }
    if (err == 0 && shared->peers != NULL) {
        proxy->upstream.peers = shared->peers;
        upstream_peers_add(shared->peers, &proxy->upstream);
    }
    *out = proxy;
    if (err != 0) {
        proxy_free(out);
    }
    return err;
}

int proxy_listen(struct proxy *proxy, int fd, enum http_accept kind)
{
    if (proxy->listener_count == LISTENER_MAX) {
        return ERR_LIMIT;
    }
    struct listener *listener = &proxy->listeners[proxy->listener_count++];
    listener->io = (struct loop_io){.fd = fd, .on_event = on_accept};
    listener->proxy = proxy;
    listener->kind = kind;
    loop_timer_init(&listener->retry, on_retry);
    return loop_add_events(proxy->loop, &listener->io, EPOLLIN);
}

static void close_listeners(struct proxy *proxy, bool take_queue)
{
    for (unsigned i = 0; i < proxy->listener_count; i++) {
        struct listener *listener = &proxy->listeners[i];
        unsigned taken = 0;
        while (take_queue && listener->io.fd >= 0 && taken++ < 65536 && accept_one(listener)) {
        }
        loop_timer_cancel(proxy->loop, &listener->retry);
        // Taken out first: the listeners of a unix socket are duplicates, which close() alone would
        // leave in the epoll set as long as another worker has one.
        int fd = loop_release(proxy->loop, &listener->io);
        if (fd >= 0) {
            close(fd);
        }
    }
}

void proxy_drain(struct proxy *proxy, uint64_t tunnel_ms)
{
    if (proxy->draining) {
        return;
    }
    proxy->draining = true;
    close_listeners(proxy, true);
    http_server_drain(&proxy->server);
    upstream_drop_idle(&proxy->upstream);
    loop_timer_set(proxy->loop, &proxy->drain_timer, tunnel_ms);
}

void proxy_ask_nobody(struct proxy *proxy)
{
    proxy->misses.source = NULL;
}

void proxy_cut(struct proxy *proxy)
{
    struct list all; // ending one may end others
    list_init(&all);
    list_splice(&all, &proxy->txns);
    while (!list_is_empty(&all)) {
        struct txn *txn = LIST_FIRST(&all, struct txn, node);
        list_remove(&txn->node);
        list_append(&proxy->txns, &txn->node);
        // Relaxed: the message that brought us here came after the mark.
        if (txn->second != NULL &&
            atomic_load_explicit(&txn->second_member->cut, memory_order_relaxed) != 0) {
            txn_drop_second(txn);
        }
        if (txn->member != NULL &&
            atomic_load_explicit(&txn->member->cut, memory_order_relaxed) != 0) {
            stat_count(proxy->stats, tunnels_cut_total);
            txn_abort(txn, END_CUT);
            outq_flush_all(proxy->loop); // or each would hold a batch until all are ended
        }
    }
    raw_cut_all(proxy);
}

void proxy_free(struct proxy **place)
{
    struct proxy *proxy = *place;
    *place = NULL;
    if (proxy == NULL) {
        return;
    }
    struct loop *loop = proxy->loop;
    if (proxy->listeners != NULL) {
        close_listeners(proxy, false);
    }
    loop_timer_cancel(loop, &proxy->drain_timer);
    proxy->stopping = true;
    if (proxy->server.loop != NULL) {
        http_server_fini(&proxy->server); // ends the transactions
    }
    if (proxy->upstream.buckets != NULL) {
        upstream_fini(&proxy->upstream);
    }
    loop_run_deferred(loop);
    misses_fini(&proxy->misses);
    http_client_pool_fini(&proxy->upstream.clients);
    pin_table_fini(&proxy->pins);
    tls_context_unref(&proxy->tls);
    slab_fini(&proxy->txn_slab);
    slab_fini(&proxy->raw_slab);
    slab_fini(&proxy->keep_slab);
    arena_pool_fini(&proxy->arenas);
    free(proxy->listeners);
    free(proxy);
}
