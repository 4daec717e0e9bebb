// SPDX-License-Identifier: MIT
// Which kind of connection a target gets.
//
//   plain, or HTTP/1 alone by ALPN ─► HTTP/1
//   plain by prior knowledge, or TLS ─► HTTP/2 ─ ALPN says otherwise ─► HTTP/1
#include "http/client_link.h"

static struct client_link *link_of(struct http_client_conn *conn)
{
    return CONTAINER_OF(conn, struct client_link, base);
}

void http_client_pool_init(struct http_client_pool *pool, struct loop *loop,
                           const struct h1_limits *limits)
{
    *pool = (struct http_client_pool){.loop = loop, .limits = *limits};
    slab_init(&pool->conns, h1_client_conn_len(), H1_CLIENT_KEPT);
    slab_init(&pool->h2_conns, h2_client_conn_len(), H2_CLIENT_KEPT);
    slab_init(&pool->h2_streams, h2_client_stream_len(), H2_CLIENT_STREAMS_KEPT);
}

void http_client_pool_fini(struct http_client_pool *pool)
{
    loop_run_deferred(pool->loop);
    slab_fini(&pool->conns);
    slab_fini(&pool->h2_conns);
    slab_fini(&pool->h2_streams);
}

struct http_stream *http_client_open(struct http_client_pool *pool,
                                     const struct http_client_target *target,
                                     struct http_client_owner *owner,
                                     const struct http_stream_events *events, void *user, int *err)
{
    bool may_be_h2 = target->protocol == HTTP_CLIENT_H2 ||
                     (target->protocol == HTTP_CLIENT_AUTO && target->tls != NULL);
    return may_be_h2 ? h2_client_open(pool, target, owner, events, user, err)
                     : h1_client_open(pool, target, owner, events, user, err);
}

struct http_stream *http_client_join(struct http_client_conn *conn,
                                     const struct http_stream_events *events, void *user)
{
    return h2_client_join(link_of(conn), events, user);
}

struct http_stream *http_client_reuse(struct http_client_conn *conn, bool check,
                                      const struct http_stream_events *events, void *user)
{
    return h1_client_reuse(link_of(conn), check, events, user);
}

void http_client_close(struct http_client_conn *conn)
{
    if (conn->is_h2) {
        h2_client_close(link_of(conn));
    } else {
        h1_client_close(link_of(conn));
    }
}
