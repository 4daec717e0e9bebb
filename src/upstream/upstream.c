// SPDX-License-Identifier: MIT
#include "base/hash.h"
#include "net/outq.h"
#include "upstream/upstream_int.h"
#include <stddef.h>

enum {
    BUCKETS_AT_START = 256,
    SWEEP_MS = 1000,
    KEPT_WAITERS = 512,
};

static struct upstream_endpoint **bucket_of(struct upstream *upstream, uint64_t hash)
{
    return &upstream->buckets[hash & (upstream->bucket_count - 1)];
}

static void grow(struct upstream *upstream)
{
    unsigned count = upstream->bucket_count * 2;
    struct upstream_endpoint **buckets = calloc(count, sizeof *buckets);
    if (buckets == NULL) {
        return; // longer chains, nothing else
    }
    struct upstream_endpoint **old = upstream->buckets;
    unsigned old_count = upstream->bucket_count;
    upstream->buckets = buckets;
    upstream->bucket_count = count;
    for (unsigned i = 0; i < old_count; i++) {
        while (old[i] != NULL) {
            struct upstream_endpoint *endpoint = old[i];
            old[i] = endpoint->next;
            struct upstream_endpoint **bucket = bucket_of(upstream, endpoint->hash);
            endpoint->next = *bucket;
            *bucket = endpoint;
        }
    }
    free(old);
}

// An endpoint without connections is forgotten.
void upstream_maybe_free(struct upstream_endpoint *endpoint)
{
    if (endpoint->in_use > 0 || endpoint->idle_count > 0 || !list_is_empty(&endpoint->waiters)) {
        return;
    }
    list_remove(&endpoint->to_serve);
    struct upstream_endpoint **link = bucket_of(endpoint->upstream, endpoint->hash);
    while (*link != endpoint) {
        link = &(*link)->next;
    }
    *link = endpoint->next;
    endpoint->upstream->endpoint_count--;
    tls_context_unref(&endpoint->tls);
    upstream_limit_unref(&endpoint->limit);
    free(endpoint);
}

static void unlink_idle(struct upstream_endpoint *endpoint, struct http_client_conn *conn)
{
    list_remove(&conn->node);
    endpoint->idle_count--;
    endpoint->upstream->idle_count--;
    if (endpoint->idle_count == 0) {
        list_remove(&endpoint->with_idle);
        list_remove(&endpoint->limited_idle);
    }
    if (endpoint->limit != NULL) {
        upstream_limit_note_idle(endpoint->limit, false);
    }
}

static bool on_idle(struct http_client_owner *owner, struct http_client_conn *conn)
{
    struct upstream_endpoint *endpoint = CONTAINER_OF(owner, struct upstream_endpoint, owner);
    endpoint->speaks_h2 = conn->is_h2;
    if (endpoint->keep_idle == 0) {
        return false;
    }
    // What is over keep_idle is closed by the sweep, if it was not needed for a while: between two
    // rounds of a busy worker all its connections are idle, and closing some would only mean opening
    // them again.
    endpoint->in_use--;
    if (endpoint->idle_count++ == 0) {
        list_append(&endpoint->upstream->with_idle, &endpoint->with_idle);
        if (endpoint->limit != NULL) {
            list_append(&endpoint->upstream->limited_idle, &endpoint->limited_idle);
        }
    }
    endpoint->upstream->idle_count++;
    list_push(&endpoint->idle, &conn->node);
    upstream_serve(endpoint);
    if (endpoint->limit != NULL) {
        upstream_limit_note_idle(endpoint->limit, true);
    }
    if (!loop_timer_is_set(&endpoint->upstream->timer)) {
        loop_timer_set(endpoint->upstream->loop, &endpoint->upstream->timer, SWEEP_MS);
    }
    return true;
}

static void on_room(struct http_client_owner *owner, struct http_client_conn *conn, bool has_room)
{
    struct upstream_endpoint *endpoint = CONTAINER_OF(owner, struct upstream_endpoint, owner);
    list_remove(&conn->room);
    if (conn->is_h2) {
        endpoint->speaks_h2 = true;
    }
    if (has_room && conn->is_h2) {
        list_push(&endpoint->room, &conn->room);
        upstream_serve(endpoint);
        if (endpoint->limit != NULL) {
            upstream_limit_note_room(endpoint->limit);
        }
    }
}

static void on_closed(struct http_client_owner *owner, struct http_client_conn *conn)
{
    struct upstream_endpoint *endpoint = CONTAINER_OF(owner, struct upstream_endpoint, owner);
    list_remove(&conn->room);
    if (list_is_empty(&conn->node)) {
        endpoint->in_use--;
    } else {
        unlink_idle(endpoint, conn);
    }
    if (endpoint->limit != NULL) {
        upstream_limit_give(endpoint->limit);
    }
    upstream_maybe_free(endpoint);
}

// ---- of connections that are one exchange's alone ----

static void on_room_alone(struct http_client_owner *owner, struct http_client_conn *conn,
                          bool has_room)
{
    (void)owner;
    (void)conn;
    (void)has_room;
}

static bool on_idle_alone(struct http_client_owner *owner, struct http_client_conn *conn)
{
    (void)owner;
    (void)conn;
    return false;
}

static void on_closed_alone(struct http_client_owner *owner, struct http_client_conn *conn)
{
    (void)owner;
    (void)conn;
}

// Of a limited target.
struct alone {
    struct http_client_owner owner; // first
    struct upstream_limit *limit;
};

static void free_alone(struct alone *alone)
{
    upstream_limit_unref(&alone->limit);
    free(alone);
}

static void on_closed_limited(struct http_client_owner *owner, struct http_client_conn *conn)
{
    (void)conn;
    struct alone *alone = CONTAINER_OF(owner, struct alone, owner);
    upstream_limit_give(alone->limit);
    free_alone(alone);
}

// ---- ages ----

// Closes connections that were idle for too long, and those over the bound that the last second did not
// need: the last in each list.
static void sweep_endpoint(struct upstream_endpoint *endpoint, uint64_t now_ms)
{
    while (endpoint->idle_count > 0) {
        struct http_client_conn *oldest =
            CONTAINER_OF(endpoint->idle.prev, struct http_client_conn, node);
        bool is_over = endpoint->idle_count > endpoint->keep_idle;
        uint64_t age_ms = now_ms - oldest->idle_since_ms;
        if (age_ms < (is_over ? SWEEP_MS : endpoint->keep_timeout_ms)) {
            return;
        }
        bool is_last = endpoint->idle_count == 1;
        http_client_close(oldest);
        if (is_last) {
            return; // the endpoint may be gone
        }
    }
}

static void on_sweep(struct loop *loop, struct loop_timer *timer)
{
    struct upstream *upstream = CONTAINER_OF(timer, struct upstream, timer);
    LIST_FOR_EACH_SAFE (node, &upstream->with_idle) {
        sweep_endpoint(CONTAINER_OF(node, struct upstream_endpoint, with_idle), loop->now_ms);
    }
    if (upstream->idle_count > 0) {
        loop_timer_set(loop, timer, SWEEP_MS);
    }
}

bool upstream_close_idle(struct upstream *upstream, const struct upstream_limit *limit)
{
    LIST_FOR_EACH (node, &upstream->limited_idle) {
        struct upstream_endpoint *endpoint =
            CONTAINER_OF(node, struct upstream_endpoint, limited_idle);
        if (endpoint->limit == limit) {
            http_client_close(CONTAINER_OF(endpoint->idle.prev, struct http_client_conn, node));
            return true;
        }
    }
    return false;
}

// ---- finding one ----

static bool is_same(const struct upstream_endpoint *e, const struct upstream_key *key,
                    const struct upstream_request *request)
{
    return e->key.tls == key->tls && e->key.limit == key->limit &&
           e->key.protocol == key->protocol && e->key.address_len == key->address_len &&
           e->name_len == request->server_name.len &&
           memcmp(e->text, &request->address, key->address_len) == 0 &&
           (e->name_len == 0 ||
            memcmp(e->text + key->address_len, request->server_name.p, e->name_len) == 0);
}

static uint64_t hash_of(const struct upstream_key *key, const struct upstream_request *request)
{
    uint64_t hash = hash_bytes(&request->address, request->address_len);
    if (key->tls != NULL || key->limit != NULL || key->protocol != HTTP_CLIENT_AUTO) {
        hash ^= hash_bytes(key, sizeof *key) * 3;
        hash ^= hash_bytes(request->server_name.p, request->server_name.len) * 5;
    }
    return hash;
}

static struct upstream_endpoint *new_endpoint(struct upstream *upstream,
                                              const struct upstream_key *key,
                                              const struct upstream_request *request)
{
    struct upstream_endpoint *endpoint =
        calloc(1, sizeof *endpoint + key->address_len + request->server_name.len);
    if (endpoint == NULL) {
        return NULL;
    }
    endpoint->owner = (struct http_client_owner){on_room, on_idle, on_closed};
    endpoint->upstream = upstream;
    list_init(&endpoint->idle);
    list_init(&endpoint->room);
    list_init(&endpoint->with_idle);
    list_init(&endpoint->limited_idle);
    list_init(&endpoint->openings);
    list_init(&endpoint->waiters);
    list_init(&endpoint->to_serve);
    endpoint->limit = request->limit == NULL ? NULL : upstream_limit_ref(request->limit);
    endpoint->tls = request->tls == NULL ? NULL : tls_context_ref(request->tls);
    endpoint->key = *key;
    endpoint->name_len = request->server_name.len;
    memcpy(endpoint->text, &request->address, key->address_len);
    if (endpoint->name_len > 0) {
        memcpy(endpoint->text + key->address_len, request->server_name.p, endpoint->name_len);
    }
    return endpoint;
}

static struct upstream_endpoint *find(struct upstream *upstream,
                                      const struct upstream_request *request)
{
    const struct upstream_key key = {request->tls, request->limit, (uint32_t)request->protocol,
                                     request->address_len};
    uint64_t hash = hash_of(&key, request);
    for (struct upstream_endpoint *e = *bucket_of(upstream, hash); e != NULL; e = e->next) {
        if (e->hash == hash && is_same(e, &key, request)) {
            return e;
        }
    }
    struct upstream_endpoint *endpoint = new_endpoint(upstream, &key, request);
    if (endpoint == NULL) {
        return NULL;
    }
    endpoint->hash = hash;
    if (++upstream->endpoint_count > upstream->bucket_count) {
        grow(upstream);
    }
    struct upstream_endpoint **bucket = bucket_of(upstream, hash);
    endpoint->next = *bucket;
    *bucket = endpoint;
    return endpoint;
}

// The connection used last is the one least likely to have been closed by the target.
static struct http_stream *reuse(struct upstream_endpoint *endpoint, bool check,
                                 const struct http_stream_events *events, void *user)
{
    LIST_FOR_EACH_SAFE (node, &endpoint->idle) {
        struct http_client_conn *conn = CONTAINER_OF(node, struct http_client_conn, node);
        if (conn->is_h2) {
            continue; // without room, or it would have been joined
        }
        unlink_idle(endpoint, conn);
        // One more, so that a stale connection does not take the endpoint with it.
        endpoint->in_use += 2;
        struct http_stream *stream = http_client_reuse(conn, check, events, user);
        endpoint->in_use--;
        if (stream != NULL) {
            return stream;
        }
    }
    return NULL;
}

// A stream on a connection that others use as well.
static struct http_stream *join(struct upstream_endpoint *endpoint,
                                const struct http_stream_events *events, void *user)
{
    LIST_FOR_EACH_SAFE (node, &endpoint->room) {
        struct http_client_conn *conn = CONTAINER_OF(node, struct http_client_conn, room);
        if (!list_is_empty(&conn->node)) {
            unlink_idle(endpoint, conn);
            endpoint->in_use++;
        }
        struct http_stream *stream = http_client_join(conn, events, user);
        if (stream != NULL) {
            return stream;
        }
    }
    return NULL;
}

struct http_stream *upstream_take_kept(struct upstream_endpoint *endpoint, bool check,
                                       const struct http_stream_events *events, void *user)
{
    struct http_stream *stream = join(endpoint, events, user);
    return stream != NULL ? stream : reuse(endpoint, check, events, user);
}

// ---- opening one ----

// Room for another connection, if need be at the cost of an idle one to the same target by another name.
static bool take_room(struct upstream *upstream, struct upstream_limit *limit)
{
    if (upstream_limit_take(limit)) {
        return true;
    }
    if (upstream_close_idle(upstream, limit) && upstream_limit_take(limit)) {
        return true;
    }
    upstream_limit_recall(limit, upstream->peers, upstream);
    return false;
}

static struct http_stream *open_one(struct upstream *upstream,
                                    const struct http_client_target *target,
                                    struct http_client_owner *owner, struct upstream_limit *limit,
                                    const struct http_stream_events *events, void *user, int *err)
{
    if (limit != NULL && !take_room(upstream, limit)) {
        *err = ERR_LIMIT;
        return NULL;
    }
    upstream->opened_count++;
    struct http_stream *stream =
        http_client_open(&upstream->clients, target, owner, events, user, err);
    if (stream == NULL && limit != NULL) {
        upstream_limit_give(limit);
    }
    return stream;
}

struct http_stream *upstream_connect(struct upstream_endpoint *endpoint,
                                     unsigned connect_timeout_ms,
                                     const struct http_stream_events *events, void *user, int *err)
{
    struct sockaddr_storage address = {0};
    memcpy(&address, endpoint->text, endpoint->key.address_len);
    const struct http_client_target target = {
        .address = &address,
        .address_len = endpoint->key.address_len,
        .tls = endpoint->tls,
        .server_name = str_make(endpoint->text + endpoint->key.address_len, endpoint->name_len),
        .protocol = (enum http_client_protocol)endpoint->key.protocol,
        .connect_timeout_ms = connect_timeout_ms,
    };
    endpoint->in_use++;
    struct http_stream *stream =
        open_one(endpoint->upstream, &target, &endpoint->owner, endpoint->limit, events, user, err);
    endpoint->in_use -= stream == NULL;
    return stream;
}

// With a preamble: of one exchange alone.
static struct http_stream *open_alone(struct upstream *upstream,
                                      const struct upstream_request *request,
                                      const struct http_stream_events *events, void *user, int *err)
{
    const struct http_client_target target = {
        .address = &request->address,
        .address_len = request->address_len,
        .tls = request->tls,
        .server_name = request->server_name,
        .protocol = request->protocol,
        .preamble = request->preamble,
        .connect_timeout_ms = request->connect_timeout_ms,
    };
    if (request->limit == NULL) {
        return open_one(upstream, &target, &upstream->alone, NULL, events, user, err);
    }
    struct alone *alone = malloc(sizeof *alone);
    if (alone == NULL) {
        *err = ERR_MEMORY;
        return NULL;
    }
    alone->owner = (struct http_client_owner){on_room_alone, on_idle_alone, on_closed_limited};
    alone->limit = upstream_limit_ref(request->limit);
    struct http_stream *stream =
        open_one(upstream, &target, &alone->owner, request->limit, events, user, err);
    if (stream == NULL) {
        free_alone(alone);
    }
    return stream;
}

struct http_stream *upstream_get(struct upstream *upstream, const struct upstream_request *request,
                                 const struct http_stream_events *events, void *user, int *err)
{
    if (request->address_len > UPSTREAM_ADDRESS_MAX || request->server_name.len > TLS_SNI_MAX) {
        *err = ERR_SYSTEM;
        return NULL;
    }
    if (request->limit != NULL) {
        upstream_limit_set_queue(request->limit, request->queue);
    }
    if (request->preamble.len > 0) {
        return open_alone(upstream, request, events, user, err);
    }
    struct upstream_endpoint *endpoint = find(upstream, request);
    if (endpoint == NULL) {
        *err = ERR_MEMORY;
        return NULL;
    }
    endpoint->keep_idle = request->keep_idle;
    endpoint->keep_timeout_ms = request->keep_timeout_ms;
    endpoint->in_use++; // until there is a connection, or none
    struct http_stream *stream;
    if (request->fresh) {
        stream = upstream_connect(endpoint, request->connect_timeout_ms, events, user, err);
    } else {
        stream = upstream_take_kept(endpoint, request->check, events, user);
        if (stream == NULL) {
            stream = upstream_wait(endpoint, request->check, request->connect_timeout_ms, events,
                                   user, err);
        }
    }
    upstream->bare_count += stream == NULL && *err == ERR_LIMIT && endpoint->in_use == 1;
    endpoint->in_use--;
    upstream_maybe_free(endpoint);
    return stream;
}

int upstream_init(struct upstream *upstream, struct loop *loop, const struct h1_limits *limits)
{
    *upstream = (struct upstream){.loop = loop, .bucket_count = BUCKETS_AT_START};
    upstream->alone = (struct http_client_owner){on_room_alone, on_idle_alone, on_closed_alone};
    http_client_pool_init(&upstream->clients, loop, limits);
    list_init(&upstream->with_idle);
    list_init(&upstream->limited_idle);
    list_init(&upstream->openings);
    list_init(&upstream->to_serve);
    loop_task_init(&upstream->serve_task, upstream_on_serve);
    slab_init(&upstream->waiters, upstream_waiter_len(), KEPT_WAITERS);
    slab_init(&upstream->opening_slab, upstream_opening_len(), KEPT_WAITERS);
    loop_timer_init(&upstream->timer, on_sweep);
    upstream->buckets = calloc(upstream->bucket_count, sizeof *upstream->buckets);
    return upstream->buckets == NULL ? ERR_MEMORY : 0;
}

void upstream_drop_idle(struct upstream *upstream)
{
    while (!list_is_empty(&upstream->with_idle)) {
        struct upstream_endpoint *endpoint =
            LIST_FIRST(&upstream->with_idle, struct upstream_endpoint, with_idle);
        http_client_close(LIST_FIRST(&endpoint->idle, struct http_client_conn, node));
    }
}

void upstream_fini(struct upstream *upstream)
{
    // HTTP/2 connections whose last stream was just let go become idle, or close, with the flush.
    upstream_drop_openings(upstream);
    outq_flush_all(upstream->loop);
    upstream_drop_idle(upstream);
    loop_timer_cancel(upstream->loop, &upstream->timer);
    loop_task_cancel(&upstream->serve_task);
    loop_run_deferred(upstream->loop);
    slab_fini(&upstream->waiters);
    slab_fini(&upstream->opening_slab);
    for (unsigned i = 0; upstream->peers != NULL && i < upstream->peers->count; i++) {
        if (upstream->peers->items[i] == upstream) {
            upstream->peers->items[i] = NULL;
        }
    }
    free(upstream->buckets);
    upstream->buckets = NULL;
}
