// SPDX-License-Identifier: MIT
// Accepting, timeouts and draining of server connections. A connection is always in the list of its
// phase; a list is ordered by time, since all in it have the same timeout, so one timer for the first
// of each list is all it takes.
#include "base/invariant.h"
#include "http/server_int.h"
#include "net/address.h"
#include <netinet/tcp.h>
#include <unistd.h>

enum { KEPT_CONNS = 1024 };

struct http_server_lists {
    struct http_server *server;
    struct list phases[PHASE_COUNT];
    struct loop_timer timer;
    struct slab conns;    // of openings and HTTP/1
    struct slab h2_conns; // of HTTP/2, which are larger
    struct http_handshakes handshakes;
};

struct http_handshakes *http_server_handshakes(struct http_server *server)
{
    return &server->lists->handshakes;
}

// A block of this length: openings and HTTP/1 are made of each other in place.
static size_t small_len(void)
{
    size_t h1 = h1_server_conn_len();
    size_t opening = http_opening_len();
    return h1 > opening ? h1 : opening;
}

static unsigned phase_timeout_ms(const struct http_server *server, enum http_phase phase)
{
    const struct http_server_config *config = server->config;
    switch (phase) {
    case PHASE_NEW:
    case PHASE_HEAD:
        return config->header_timeout_ms;
    case PHASE_IDLE:
        return config->idle_timeout_ms;
    case PHASE_BUSY:
        return config->body_timeout_ms;
    case PHASE_LINGER:
        return HTTP_LINGER_MS;
    case PHASE_COUNT:
        break;
    }
    return 0;
}

// Arms the timer for the connection that is due first.
static void arm(struct http_server_lists *lists)
{
    struct http_server *server = lists->server;
    uint64_t first = UINT64_MAX;
    for (int phase = 0; phase < PHASE_COUNT; phase++) {
        unsigned timeout_ms = phase_timeout_ms(server, (enum http_phase)phase);
        if (timeout_ms != 0 && !list_is_empty(&lists->phases[phase])) {
            uint64_t due =
                LIST_FIRST(&lists->phases[phase], struct http_conn, node)->since_ms + timeout_ms;
            first = due < first ? due : first;
        }
    }
    if (first != UINT64_MAX) {
        uint64_t now = server->loop->now_ms;
        loop_timer_set(server->loop, &lists->timer, first > now ? first - now : 1);
    }
}

static void expire_phase(struct http_server_lists *lists, enum http_phase phase)
{
    struct http_server *server = lists->server;
    unsigned timeout_ms = phase_timeout_ms(server, phase);
    struct list *head = &lists->phases[phase];
    while (timeout_ms != 0 && !list_is_empty(head)) {
        struct http_conn *conn = LIST_FIRST(head, struct http_conn, node);
        if (conn->since_ms + timeout_ms > server->loop->now_ms) {
            return;
        }
        // Whatever it does, it must leave the front, or this would not end.
        conn->since_ms = server->loop->now_ms;
        list_remove(&conn->node);
        list_append(head, &conn->node);
        conn->ops->on_timeout(conn);
        outq_flush_all(server->loop); // or thousands that expire together would hold a batch each
    }
}

static void on_timer(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct http_server_lists *lists = CONTAINER_OF(timer, struct http_server_lists, timer);
    for (int phase = 0; phase < PHASE_COUNT; phase++) {
        expire_phase(lists, (enum http_phase)phase);
    }
    arm(lists);
}

void http_conn_enter(struct http_conn *conn, enum http_phase phase)
{
    struct http_server_lists *lists = conn->server->lists;
    conn->phase = phase;
    conn->since_ms = conn->server->loop->now_ms;
    list_remove(&conn->node);
    list_append(&lists->phases[phase], &conn->node);
    unsigned timeout_ms = phase_timeout_ms(conn->server, phase);
    if (timeout_ms != 0 && (!loop_timer_is_set(&lists->timer) ||
                            lists->timer.deadline_ms > conn->since_ms + timeout_ms + 1)) {
        loop_timer_set(conn->server->loop, &lists->timer, timeout_ms);
    }
}

static void free_conn(struct loop *loop, struct loop_deferred *deferred)
{
    (void)loop;
    struct http_conn *conn = CONTAINER_OF(deferred, struct http_conn, deferred);
    struct http_server_lists *lists = conn->server->lists;
    conn->ops->fini(conn);
    tls_free(&conn->tls);
    free(conn->proxied);
    slab_put(conn->is_large ? &lists->h2_conns : &lists->conns, conn);
}

// What it was made in before it grew.
static void free_small(struct loop *loop, struct loop_deferred *deferred)
{
    (void)loop;
    struct http_conn *conn = CONTAINER_OF(deferred, struct http_conn, deferred);
    slab_put(&conn->server->lists->conns, conn);
}

bool http_conn_begin_h2(struct http_conn *conn, struct str bytes, bool readable)
{
    struct http_server *server = conn->server;
    struct loop *loop = server->loop;
    struct http_conn *large = slab_get(&server->lists->h2_conns);
    if (large == NULL) {
        return false;
    }
    memset(large, 0, h2_server_conn_len());
    *large = *conn;
    if (loop_move(loop, &conn->io, &large->io) != 0) {
        slab_put(&server->lists->h2_conns, large);
        return false;
    }
    large->io.on_event = conn->io.on_event;
    large->is_large = true;
    list_init(&large->node);
    list_remove(&conn->node);
    // Its output with all that waits there (the last of a handshake).
    large->out.io = &large->io;
    outq_moved(loop, &conn->out, &large->out);
    if (large->tls != NULL) {
        tls_move(large->tls, &large->io, &large->out);
    }
    loop_defer(loop, &conn->deferred, free_small);
    if (server->ops->on_h2 != NULL) {
        server->ops->on_h2(server);
    }
    h2_server_conn_begin(large, bytes, readable);
    return true;
}

void http_conn_close(struct http_conn *conn)
{
    if (conn->io.fd < 0) {
        return;
    }
    outq_flush_gathered(conn->server->loop, &conn->out);
    if (conn->tls != NULL && outq_is_empty(&conn->out) && !conn->out.failed && !conn->is_cut) {
        outq_shut(conn->server->loop, &conn->out); // close_notify, as far as the kernel takes it
    }
    outq_fini(conn->server->loop, &conn->out);
    loop_close(conn->server->loop, &conn->io);
    list_remove(&conn->node);
    conn->server->conn_count--;
    if (conn->server->ops->on_closed != NULL) {
        conn->server->ops->on_closed(conn->server);
    }
    loop_defer(conn->server->loop, &conn->deferred, free_conn);
}

static void on_event(struct loop *loop, struct loop_io *io, uint32_t events)
{
    (void)loop;
    struct http_conn *conn = CONTAINER_OF(io, struct http_conn, io);
    conn->ops->on_event(conn, events);
}

static void read_local_port(struct http_conn *conn)
{
    struct sockaddr_storage local;
    socklen_t len = sizeof local;
    if (getsockname(conn->io.fd, (struct sockaddr *)&local, &len) == 0) {
        conn->local_port = net_port(&local);
    }
}

int http_server_accept(struct http_server *server, int fd, const struct sockaddr_storage *peer,
                       enum http_accept kind)
{
    if (kind != HTTP_ACCEPT_PLAIN && server->config->tls == NULL) {
        close(fd);
        return ERR_SYSTEM;
    }
    INVARIANT(kind == HTTP_ACCEPT_PLAIN || server->loop->tls_buffers != NULL);
    struct http_conn *conn = slab_get(&server->lists->conns);
    if (conn == NULL) {
        close(fd);
        return ERR_MEMORY;
    }
    *conn = (struct http_conn){.local_port = 0}; // the rest is its protocol's
    conn->io = (struct loop_io){.fd = fd, .on_event = on_event};
    conn->server = server;
    list_init(&conn->node);
    net_peer_in6(peer, &conn->peer);
    if (peer->ss_family == AF_UNIX) {
        conn->peer_text_len = (uint8_t)str_copy(conn->peer_text, HTTP_PEER_TEXT_MAX, STR("unix"));
    } else {
        conn->peer_text_len =
            (uint8_t)net_format_in6(&conn->peer, conn->peer_text, HTTP_PEER_TEXT_MAX);
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        read_local_port(conn);
    }
    bool is_trusted = server->config->proxy_protocol && server->ops->is_trusted != NULL &&
                      server->ops->is_trusted(server, &conn->peer);
    if (kind == HTTP_ACCEPT_PLAIN && !is_trusted) {
        h1_server_conn_init(conn);
    } else {
        http_opening_init(conn, kind, is_trusted);
    }
    int err = loop_add(server->loop, &conn->io);
    if (err != 0) {
        close(fd);
        slab_put(&server->lists->conns, conn);
        return err;
    }
    server->conn_count++;
    server->accepted_count++;
    http_conn_enter(conn, PHASE_NEW);
    return 0;
}

int http_server_init(struct http_server *server, struct loop *loop,
                     const struct http_server_config *config, const struct http_server_ops *ops,
                     void *owner)
{
    *server = (struct http_server){.loop = loop, .config = config, .ops = ops, .owner = owner};
    struct http_server_lists *lists = calloc(1, sizeof *lists);
    if (lists == NULL) {
        return ERR_MEMORY;
    }
    lists->server = server;
    for (int phase = 0; phase < PHASE_COUNT; phase++) {
        list_init(&lists->phases[phase]);
    }
    loop_timer_init(&lists->timer, on_timer);
    slab_init(&lists->conns, small_len(), KEPT_CONNS);
    slab_init(&lists->h2_conns, h2_server_conn_len(), KEPT_CONNS);
    server->lists = lists;
    http_handshakes_init(server);
    return 0;
}

void http_server_drain(struct http_server *server)
{
    server->draining = true;
    for (int phase = 0; phase < PHASE_COUNT; phase++) {
        struct list all; // draining one may end others
        list_init(&all);
        list_splice(&all, &server->lists->phases[phase]);
        while (!list_is_empty(&all)) {
            struct http_conn *conn = LIST_FIRST(&all, struct http_conn, node);
            list_remove(&conn->node);
            list_append(&server->lists->phases[phase], &conn->node);
            conn->ops->drain(conn);
            outq_flush_all(server->loop); // it may have used the receive buffer
        }
    }
}

void http_server_abort_all(struct http_server *server)
{
    for (int phase = 0; phase < PHASE_COUNT; phase++) {
        struct list *head = &server->lists->phases[phase];
        while (!list_is_empty(head)) {
            struct http_conn *conn = LIST_FIRST(head, struct http_conn, node);
            conn->ops->abort(conn);
            INVARIANT(conn->io.fd < 0);
        }
    }
}

void http_server_fini(struct http_server *server)
{
    if (server->lists == NULL) {
        return;
    }
    http_server_abort_all(server);
    loop_timer_cancel(server->loop, &server->lists->timer);
    loop_run_deferred(server->loop);
    loop_task_cancel(&server->lists->handshakes.task);
    slab_fini(&server->lists->conns);
    slab_fini(&server->lists->h2_conns);
    free(server->lists);
    server->lists = NULL;
}

const struct in6_addr *http_stream_peer(const struct http_stream *stream)
{
    return &stream->conn->peer;
}

struct str http_stream_peer_text(const struct http_stream *stream)
{
    return str_make(stream->conn->peer_text, stream->conn->peer_text_len);
}

unsigned http_stream_local_port(const struct http_stream *stream)
{
    return stream->conn->local_port;
}

struct tls *http_stream_tls(const struct http_stream *stream)
{
    return stream->conn->tls;
}

const struct http_proxied *http_stream_proxied(const struct http_stream *stream)
{
    return stream->conn->proxied == NULL ? NULL : &stream->conn->proxied->proxied;
}

void http_stream_close_after(struct http_stream *stream)
{
    stream->conn->ops->close_after(stream->conn);
}
