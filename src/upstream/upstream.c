// SPDX-License-Identifier: MIT
#include "upstream/upstream.h"
#include "base/hash.h"
#include <stddef.h>
#include <sys/un.h>

enum {
    BUCKETS_AT_START = 256,
    SWEEP_MS = 1000,
    ADDRESS_MAX = sizeof(struct sockaddr_un),
};

struct upstream_endpoint {
    struct http_client_owner owner; // first
    struct upstream_endpoint *next; // in its bucket
    struct upstream *upstream;
    struct list idle;      // last used first
    struct list with_idle; // in upstream->with_idle
    uint64_t hash;
    unsigned idle_count;
    unsigned keep_idle;
    unsigned keep_timeout_ms;
    unsigned in_use; // connections that are not idle
    socklen_t address_len;
    char address[];
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

static void on_closed(struct http_client_owner *owner, struct http_client_conn *conn)
{
    struct upstream_endpoint *endpoint = CONTAINER_OF(owner, struct upstream_endpoint, owner);
    if (list_is_empty(&conn->node)) {
        endpoint->in_use--;
    } else {
        unlink_idle(endpoint, conn);
    }
    maybe_free(endpoint);
}

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

static struct upstream_endpoint *find(struct upstream *upstream,
                                      const struct upstream_request *request)
{
    uint64_t hash = hash_bytes(&request->address, request->address_len);
    for (struct upstream_endpoint *e = *bucket_of(upstream, hash); e != NULL; e = e->next) {
        if (e->hash == hash && e->address_len == request->address_len &&
            memcmp(e->address, &request->address, request->address_len) == 0) {
            return e;
        }
    }
    struct upstream_endpoint *endpoint = calloc(1, sizeof *endpoint + request->address_len);
    if (endpoint == NULL) {
        return NULL;
    }
    endpoint->owner = (struct http_client_owner){.on_idle = on_idle, .on_closed = on_closed};
    endpoint->upstream = upstream;
    list_init(&endpoint->idle);
    list_init(&endpoint->with_idle);
    endpoint->hash = hash;
    endpoint->address_len = request->address_len;
    memcpy(endpoint->address, &request->address, request->address_len);
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
    while (endpoint->idle_count > 0) {
        struct http_client_conn *conn = LIST_FIRST(&endpoint->idle, struct http_client_conn, node);
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

struct http_stream *upstream_get(struct upstream *upstream, const struct upstream_request *request,
                                 const struct http_stream_events *events, void *user, int *err)
{
    if (request->address_len > ADDRESS_MAX) {
        *err = ERR_SYSTEM;
        return NULL;
    }
    struct upstream_endpoint *endpoint = find(upstream, request);
    if (endpoint == NULL) {
        *err = ERR_MEMORY;
        return NULL;
    }
    endpoint->keep_idle = request->keep_idle;
    endpoint->keep_timeout_ms = request->keep_timeout_ms;
    struct http_stream *stream =
        request->fresh ? NULL : reuse(endpoint, request->check, events, user);
    if (stream != NULL) {
        return stream;
    }
    endpoint->in_use++;
    const struct http_client_target target = {
        .address = &request->address,
        .address_len = request->address_len,
        .connect_timeout_ms = request->connect_timeout_ms,
    };
    stream = http_client_open(&upstream->clients, &target, &endpoint->owner, events, user, err);
    if (stream == NULL) {
        endpoint->in_use--;
        maybe_free(endpoint);
    }
    return stream;
}

int upstream_init(struct upstream *upstream, struct loop *loop, const struct h1_limits *limits)
{
    *upstream = (struct upstream){.loop = loop, .bucket_count = BUCKETS_AT_START};
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
    upstream_drop_idle(upstream);
    loop_timer_cancel(upstream->loop, &upstream->timer);
    free(upstream->buckets);
    upstream->buckets = NULL;
}
