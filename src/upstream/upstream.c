// SPDX-License-Identifier: MIT
#include "upstream/upstream.h"
#include "base/hash.h"
#include "net/outq.h"
#include <stddef.h>
#include <sys/un.h>

enum {
    BUCKETS_AT_START = 256,
    SWEEP_MS = 1000,
    ADDRESS_MAX = sizeof(struct sockaddr_un),
};

// What makes connections interchangeable. Without padding that is not cleared: it is compared as bytes.
struct key {
    const struct tls_context *tls;
    uint32_t protocol; // enum http_client_protocol
    uint32_t address_len;
};

struct upstream_endpoint {
    struct http_client_owner owner; // first
    struct upstream_endpoint *next; // in its bucket
    struct upstream *upstream;
    struct list idle;      // last used first
    struct list room;      // HTTP/2 with room for streams: open ones first, then those being opened
    struct list with_idle; // in upstream->with_idle
    struct tls_context *tls; // referenced: its address means nothing else while this lives
    uint64_t hash;
    unsigned idle_count;
    unsigned keep_idle;
    unsigned keep_timeout_ms;
    unsigned in_use; // connections that are not idle
    bool speaks_h2;  // as far as is known
    size_t name_len; // of the server name, behind the address
    struct key key;
    char text[];
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
static void maybe_free(struct upstream_endpoint *endpoint)
{
    if (endpoint->in_use > 0 || endpoint->idle_count > 0) {
        return;
    }
    struct upstream_endpoint **link = bucket_of(endpoint->upstream, endpoint->hash);
    while (*link != endpoint) {
        link = &(*link)->next;
    }
    *link = endpoint->next;
    endpoint->upstream->endpoint_count--;
    tls_context_unref(&endpoint->tls);
    free(endpoint);
}

static void unlink_idle(struct upstream_endpoint *endpoint, struct http_client_conn *conn)
{
    list_remove(&conn->node);
    endpoint->idle_count--;
    endpoint->upstream->idle_count--;
    if (endpoint->idle_count == 0) {
        list_remove(&endpoint->with_idle);
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
    }
    endpoint->upstream->idle_count++;
    list_push(&endpoint->idle, &conn->node);
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
    } else if (!has_room) {
        endpoint->speaks_h2 = false; // it was expected, and is not so
    }
    if (has_room && conn->is_h2) {
        list_push(&endpoint->room, &conn->room);
    } else if (has_room) {
        list_append(&endpoint->room, &conn->room);
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
    maybe_free(endpoint);
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

// ---- finding one ----

static bool is_same(const struct upstream_endpoint *e, const struct key *key,
                    const struct upstream_request *request)
{
    return e->key.tls == key->tls && e->key.protocol == key->protocol &&
           e->key.address_len == key->address_len && e->name_len == request->server_name.len &&
           memcmp(e->text, &request->address, key->address_len) == 0 &&
           (e->name_len == 0 ||
            memcmp(e->text + key->address_len, request->server_name.p, e->name_len) == 0);
}

static uint64_t hash_of(const struct key *key, const struct upstream_request *request)
{
    uint64_t hash = hash_bytes(&request->address, request->address_len);
    if (key->tls != NULL || key->protocol != HTTP_CLIENT_AUTO) {
        hash ^= hash_bytes(key, sizeof *key) * 3;
        hash ^= hash_bytes(request->server_name.p, request->server_name.len) * 5;
    }
    return hash;
}

static struct upstream_endpoint *new_endpoint(struct upstream *upstream, const struct key *key,
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
    const struct key key = {request->tls, (uint32_t)request->protocol, request->address_len};
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

// A stream on a connection that others use as well: an open one, or one that is still being opened.
static struct http_stream *join(struct upstream_endpoint *endpoint, bool is_open,
                                const struct http_stream_events *events, void *user)
{
    LIST_FOR_EACH_SAFE (node, &endpoint->room) {
        struct http_client_conn *conn = CONTAINER_OF(node, struct http_client_conn, room);
        if (conn->is_h2 != is_open) {
            continue;
        }
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

static struct http_stream *kept(struct upstream_endpoint *endpoint, bool check,
                                const struct http_stream_events *events, void *user)
{
    struct http_stream *stream = join(endpoint, true, events, user);
    if (stream == NULL) {
        stream = reuse(endpoint, check, events, user);
    }
    return stream != NULL ? stream : join(endpoint, false, events, user);
}

static struct http_client_target target_of(const struct upstream_request *request)
{
    return (struct http_client_target){
        .address = &request->address,
        .address_len = request->address_len,
        .tls = request->tls,
        .server_name = request->server_name,
        .protocol = request->protocol,
        .preamble = request->preamble,
        .connect_timeout_ms = request->connect_timeout_ms,
    };
}

struct http_stream *upstream_get(struct upstream *upstream, const struct upstream_request *request,
                                 const struct http_stream_events *events, void *user, int *err)
{
    if (request->address_len > ADDRESS_MAX || request->server_name.len > TLS_SNI_MAX) {
        *err = ERR_SYSTEM;
        return NULL;
    }
    struct http_client_target target = target_of(request);
    if (request->preamble.len > 0) {
        upstream->opened_count++;
        return http_client_open(&upstream->clients, &target, &upstream->alone, events, user, err);
    }
    struct upstream_endpoint *endpoint = find(upstream, request);
    if (endpoint == NULL) {
        *err = ERR_MEMORY;
        return NULL;
    }
    endpoint->keep_idle = request->keep_idle;
    endpoint->keep_timeout_ms = request->keep_timeout_ms;
    endpoint->in_use++; // until there is a connection, or none
    struct http_stream *stream =
        request->fresh ? NULL : kept(endpoint, request->check, events, user);
    if (stream == NULL) {
        target.expects_h2 =
            !request->fresh && (endpoint->speaks_h2 || request->protocol == HTTP_CLIENT_H2);
        endpoint->in_use++;
        upstream->opened_count++;
        stream = http_client_open(&upstream->clients, &target, &endpoint->owner, events, user, err);
        endpoint->in_use -= stream == NULL;
    }
    endpoint->in_use--;
    maybe_free(endpoint);
    return stream;
}

int upstream_init(struct upstream *upstream, struct loop *loop, const struct h1_limits *limits)
{
    *upstream = (struct upstream){.loop = loop, .bucket_count = BUCKETS_AT_START};
    upstream->alone = (struct http_client_owner){on_room_alone, on_idle_alone, on_closed_alone};
    http_client_pool_init(&upstream->clients, loop, limits);
    list_init(&upstream->with_idle);
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
    outq_flush_all(upstream->loop);
    upstream_drop_idle(upstream);
    loop_timer_cancel(upstream->loop, &upstream->timer);
    free(upstream->buckets);
    upstream->buckets = NULL;
}
