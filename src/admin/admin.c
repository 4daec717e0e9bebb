// SPDX-License-Identifier: MIT
#include "admin/admin_int.h"
#include "base/log.h"
#include "net/address.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    ACCEPT_MAX = 64,      // connections taken by one event
    ACCEPT_REST_MS = 100, // without accepting when descriptors have run out
    HANDSHAKES_A_TURN = 4,
    H2_STREAMS = 16, // of one connection; each may send ADMIN_BODY_MAX
};

static void on_request(struct http_server *server, struct http_stream *stream,
                       const struct http_head *head)
{
    call_begin(server->owner, stream, head, http_stream_peer(stream));
}

static void on_ceryx_request(struct http_server *server, struct http_stream *stream,
                             const struct http_head *head)
{
    call_begin_ceryx(server->owner, stream, head, http_stream_peer(stream));
}

static void on_refused(struct http_server *server, struct http_stream *stream, int err)
{
    (void)server;
    (void)stream;
    log_debug("admin: a request was refused: %s", err_text(err));
}

static const struct http_server_ops server_ops = {
    .on_request = on_request,
    .on_refused = on_refused,
    .may_be_plain = admin_tls_may_be_plain,
    .on_handshake = admin_tls_on_handshake,
};

static const struct http_server_ops ceryx_ops = {
    .on_request = on_ceryx_request,
    .on_refused = on_refused,
};

// A level-triggered listener that cannot be served would turn the loop without end.
static void rest_listener(struct admin_listener *listener)
{
    struct loop *loop = listener->admin->loop;
    listener->resting_fd = loop_release(loop, &listener->io);
    listener->is_resting = true;
    if (!loop_timer_is_set(&listener->admin->rest_timer)) {
        loop_timer_set(loop, &listener->admin->rest_timer, ACCEPT_REST_MS);
    }
}

static void on_rested(struct loop *loop, struct loop_timer *timer)
{
    struct admin *admin = CONTAINER_OF(timer, struct admin, rest_timer);
    for (unsigned i = 0; i < admin->listener_count; i++) {
        struct admin_listener *listener = &admin->listeners[i];
        if (!listener->is_resting) {
            continue;
        }
        listener->io.fd = listener->resting_fd;
        listener->is_resting = loop_add_events(loop, &listener->io, EPOLLIN) != 0;
        if (listener->is_resting) {
            listener->io.fd = -1;
            loop_timer_set(loop, timer, ACCEPT_REST_MS);
        }
    }
}

static bool is_short_of_resources(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

int admin_new(struct admin **out, const struct admin_deps *deps)
{
    struct admin *admin = calloc(1, sizeof *admin);
    if (admin == NULL) {
        return ERR_MEMORY;
    }
    admin->deps = *deps;
    admin->loop = deps->control;
    admin->store = deps->store;
    admin->publisher = deps->publisher;
    admin->server_config = (struct http_server_config){
        .limits = {.head_max = 32768, .target_max = 16384, .field_max = 100},
        .header_timeout_ms = 10000,
        .idle_timeout_ms = 60000,
        .body_timeout_ms = 60000,
        .half_close = false,
        .handshakes_a_turn = HANDSHAKES_A_TURN,
        .h2_streams = H2_STREAMS,
    };
    list_init(&admin->calls);
    loop_timer_init(&admin->rest_timer, on_rested);
    int err = events_new(&admin->events, admin);
    if (err == 0) {
        err = admin_tls_open(admin);
        admin->server_config.tls = admin->tls;
    }
    if (err == 0) {
        err = http_server_init(&admin->server, admin->loop, &admin->server_config, &server_ops,
                               admin);
    }
    admin->ceryx_config = admin->server_config;
    admin->ceryx_config.tls = NULL;
    if (err == 0) {
        err = http_server_init(&admin->ceryx_server, admin->loop, &admin->ceryx_config, &ceryx_ops,
                               admin);
        if (err != 0) {
            http_server_fini(&admin->server);
        }
    }
    if (err != 0) {
        admin_tls_close(admin);
        events_free(&admin->events);
        free(admin);
        return err;
    }
    *out = admin;
    return 0;
}

static void on_accept(struct loop *loop, struct loop_io *io, uint32_t bits)
{
    (void)loop;
    (void)bits;
    struct admin_listener *listener = CONTAINER_OF(io, struct admin_listener, io);
    for (int i = 0; i < ACCEPT_MAX; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t len = sizeof peer;
        int fd = accept4(io->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) {
            continue;
        }
        if (fd < 0 && is_short_of_resources(errno)) {
            log_warning("admin: cannot take a connection: %s", strerror(errno));
            rest_listener(listener);
            return;
        }
        if (fd < 0) {
            return; // level-triggered: what is left is told again
        }
        if (listener->server->conn_count >= ADMIN_CONN_MAX) {
            log_warning("admin: more than %d connections, one was closed", ADMIN_CONN_MAX);
            close(fd);
            continue;
        }
        enum http_accept kind =
            listener->server->config->tls == NULL ? HTTP_ACCEPT_PLAIN : HTTP_ACCEPT_EITHER;
        int err = http_server_accept(listener->server, fd, &peer, kind);
        if (err != 0) {
            log_warning("admin: cannot take a connection: %s", err_text(err));
        }
    }
}

// What the rules for Host and token must know of an address.
static void judge_address(int fd, bool *is_local, bool *is_wildcard)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    struct in6_addr in6;
    *is_local = false;
    *is_wildcard = false;
    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        return;
    }
    net_peer_in6(&address, &in6);
    *is_local = net_is_loopback(&in6);
    uint8_t any_v4[16] = {[10] = 0xff, [11] = 0xff};
    *is_wildcard = memcmp(&in6, &in6addr_any, sizeof in6) == 0 || memcmp(&in6, any_v4, 16) == 0;
}

// Takes the descriptor.
static int add_listener(struct admin *admin, int fd, struct http_server *server)
{
    if (admin->listener_count == ADMIN_LISTENER_MAX) {
        close(fd);
        return ERR_LIMIT;
    }
    struct admin_listener *listener = &admin->listeners[admin->listener_count];
    listener->admin = admin;
    listener->server = server;
    listener->io = (struct loop_io){.fd = fd, .on_event = on_accept};
    if (loop_add_events(admin->loop, &listener->io, EPOLLIN) != 0) {
        close(fd);
        return ERR_SYSTEM;
    }
    admin->listener_count++;
    return 0;
}

int admin_listen_ceryx(struct admin *admin, int fd)
{
    return add_listener(admin, fd, &admin->ceryx_server);
}

int admin_listen(struct admin *admin, int fd)
{
    bool is_local = false;
    bool is_wildcard = false;
    judge_address(fd, &is_local, &is_wildcard);
    bool has_token = admin->deps.token != NULL && admin->deps.token[0] != '\0';
    if (!is_local && !has_token) {
        close(fd);
        return ERR_INVALID;
    }
    int err = add_listener(admin, fd, &admin->server);
    admin->is_wildcard = admin->is_wildcard || (err == 0 && is_wildcard);
    return err;
}

void admin_free(struct admin **admin_ref)
{
    struct admin *admin = *admin_ref;
    if (admin == NULL) {
        return;
    }
    *admin_ref = NULL;
    for (unsigned i = 0; i < admin->listener_count; i++) {
        if (admin->listeners[i].is_resting) {
            close(admin->listeners[i].resting_fd);
        } else {
            loop_close(admin->loop, &admin->listeners[i].io);
        }
    }
    loop_timer_cancel(admin->loop, &admin->rest_timer);
    LIST_FOR_EACH_SAFE (node, &admin->calls) {
        call_cut(CONTAINER_OF(node, struct call, node));
    }
    // Those that wait for an answer which will not come any more.
    LIST_FOR_EACH_SAFE (node, &admin->calls) {
        struct call *call = CONTAINER_OF(node, struct call, node);
        call->holds = 1;
        call_drop(call);
    }
    http_server_fini(&admin->server);
    http_server_fini(&admin->ceryx_server);
    admin_tls_close(admin);
    events_free(&admin->events);
    free(admin); // calls are freed by the loop, at the latest in loop_fini()
}
