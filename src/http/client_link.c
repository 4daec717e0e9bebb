// SPDX-License-Identifier: MIT
#include "http/client_link.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

// Why the connect has failed that is being told of; else 0.
static _Thread_local int connect_errno;

static void on_event(struct loop *loop, struct loop_io *io, uint32_t events);

static struct client_link *of_out(struct outq *out)
{
    return CONTAINER_OF(out, struct client_link, out);
}

static void on_flushed(struct loop *loop, struct outq *out)
{
    (void)loop;
    struct client_link *link = of_out(out);
    if (link->phase == LINK_OPEN) {
        link->ops->on_flushed(link);
    } else if (out->failed && link->phase != LINK_CLOSED) {
        link->ops->on_failed(link, out->is_short ? ERR_MEMORY : ERR_CLOSED);
    }
}

static void before_flush(struct loop *loop, struct outq *out)
{
    (void)loop;
    struct client_link *link = of_out(out);
    if (link->phase == LINK_OPEN) {
        link->ops->before_flush(link);
    }
}

static void drop_preamble(struct client_link *link)
{
    free(link->preamble);
    link->preamble = NULL;
}

static void free_link(struct loop *loop, struct loop_deferred *deferred)
{
    (void)loop;
    struct client_link *link = CONTAINER_OF(deferred, struct client_link, deferred);
    tls_free(&link->tls);
    link->ops->free_it(link);
}

static void let_go(struct client_link *link)
{
    struct loop *loop = client_link_loop(link);
    link->phase = LINK_CLOSED;
    loop_timer_cancel(loop, &link->timer);
    loop_task_cancel(&link->shake_again);
    outq_fini(loop, &link->out);
    drop_preamble(link);
    loop_defer(loop, &link->deferred, free_link);
}

void client_link_close(struct client_link *link)
{
    struct loop *loop = client_link_loop(link);
    if (!link->broken) {
        outq_flush_gathered(loop, &link->out);
    }
    if (link->tls != NULL && link->phase == LINK_OPEN && !link->broken && !link->out.failed &&
        outq_is_empty(&link->out)) {
        outq_shut(loop, &link->out); // what came was all that was to come
    }
    let_go(link);
    loop_close(loop, &link->io);
    link->base.owner->on_closed(link->base.owner, &link->base);
}

// ---- until it is open ----

static void opened(struct client_link *link)
{
    link->phase = LINK_OPEN;
    // With the end of the handshake what comes behind it may be here already.
    link->readable = link->tls != NULL || link->readable;
    link->ops->on_open(link);
}

static void shake(struct client_link *link)
{
    bool is_drained = false;
    int step = tls_handshake(link->tls, &is_drained);
    if (step < 0) {
        link->ops->on_failed(link, step);
    } else if (step == STEP_DONE) {
        opened(link);
    } else if (!is_drained && !link->out.blocked && !tls_is_suspended(link->tls)) {
        loop_task_add(client_link_loop(link), &link->shake_again);
    }
}

static void on_shake_again(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    shake(CONTAINER_OF(task, struct client_link, shake_again));
}

static void on_resumed(struct tls *tls, void *user)
{
    (void)tls;
    struct client_link *link = user;
    if (link->phase == LINK_SHAKING) {
        shake(link);
    }
}

static void connected(struct client_link *link)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(link->io.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0) {
        connect_errno = error;
        link->ops->on_failed(link, error == ETIMEDOUT ? ERR_TIMEOUT : ERR_CLOSED);
        connect_errno = 0;
        return;
    }
    if (link->preamble != NULL) {
        outq_put_wire(client_link_loop(link), &link->out,
                      str_make(link->preamble, link->preamble_len));
        drop_preamble(link);
        if (link->out.failed) {
            link->ops->on_failed(link, link->out.is_short ? ERR_MEMORY : ERR_CLOSED);
            return;
        }
    }
    if (link->tls == NULL) {
        opened(link);
    } else {
        link->phase = LINK_SHAKING;
        shake(link);
    }
}

static void on_event(struct loop *loop, struct loop_io *io, uint32_t events)
{
    struct client_link *link = CONTAINER_OF(io, struct client_link, io);
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        link->readable = true;
        link->fin = link->fin || (events & EPOLLRDHUP) != 0;
        link->broken = link->broken || (events & (EPOLLHUP | EPOLLERR)) != 0;
    }
    if (link->phase == LINK_CONNECTING) {
        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
            return;
        }
        connected(link);
    } else {
        if ((events & EPOLLOUT) && link->out.blocked) {
            link->out.blocked = false;
            outq_flush(loop, &link->out);
            link->out.on_flushed(loop, &link->out);
        }
        if (link->phase == LINK_SHAKING) {
            shake(link);
        }
    }
    if (link->phase == LINK_OPEN) {
        link->ops->on_event(link);
    }
}

static void on_timer(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct client_link *link = CONTAINER_OF(timer, struct client_link, timer);
    if (link->phase == LINK_OPEN) {
        link->on_timer(link);
    } else {
        connect_errno = link->phase == LINK_CONNECTING ? ETIMEDOUT : 0;
        link->ops->on_failed(link, ERR_TIMEOUT);
        connect_errno = 0;
    }
}

static void init(struct client_link *link, struct http_client_pool *pool,
                 struct http_client_owner *owner, const struct client_link_ops *ops)
{
    *link = (struct client_link){.pool = pool, .ops = ops, .io = {.fd = -1, .on_event = on_event}};
    link->base.owner = owner;
    list_init(&link->base.node);
    list_init(&link->base.room);
    outq_init(&link->out, &link->io, on_flushed);
    link->out.before_flush = ops->before_flush == NULL ? NULL : before_flush;
    link->out.gathers = ops->gathers;
    loop_timer_init(&link->timer, on_timer);
    loop_task_init(&link->shake_again, on_shake_again);
}

// What the connection will need once it is there. False: out of memory.
static bool prepare(struct client_link *link, const struct http_client_target *target,
                    unsigned alpn)
{
    if (target->preamble.len > 0) {
        link->preamble = malloc(target->preamble.len);
        if (link->preamble == NULL) {
            return false;
        }
        memcpy(link->preamble, target->preamble.p, target->preamble.len);
        link->preamble_len = target->preamble.len;
    }
    if (target->tls != NULL) {
        link->tls = tls_new_client(client_link_loop(link), target->tls, &link->io, &link->out,
                                   target->server_name, alpn, link);
        if (link->tls == NULL) {
            return false;
        }
        tls_on_resumed(link->tls, on_resumed);
    }
    return true;
}

static int begin_connect(struct client_link *link, const struct http_client_target *target)
{
    const struct sockaddr_storage *address = target->address;
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return ERR_SYSTEM;
    }
    if (address->ss_family != AF_UNIX) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    link->io.fd = fd;
    bool failed = connect(fd, (const struct sockaddr *)address, target->address_len) != 0 &&
                  errno != EINPROGRESS;
    connect_errno = failed ? errno : 0;
    if (failed || loop_add(client_link_loop(link), &link->io) != 0) {
        close(fd);
        link->io.fd = -1;
        return failed ? ERR_CLOSED : ERR_SYSTEM;
    }
    return 0;
}

int http_client_connect_errno(void)
{
    return connect_errno;
}

int client_link_open(struct client_link *link, struct http_client_pool *pool,
                     const struct http_client_target *target, unsigned alpn,
                     struct http_client_owner *owner, const struct client_link_ops *ops)
{
    init(link, pool, owner, ops);
    connect_errno = 0;
    int err = prepare(link, target, alpn) ? begin_connect(link, target) : ERR_MEMORY;
    if (err != 0) {
        tls_free(&link->tls);
        drop_preamble(link);
        return err;
    }
    loop_timer_set(pool->loop, &link->timer, target->connect_timeout_ms);
    return 0;
}

int client_link_move(struct client_link *from, struct client_link *to,
                     const struct client_link_ops *ops)
{
    struct loop *loop = client_link_loop(from);
    init(to, from->pool, from->base.owner, ops);
    int err = loop_move(loop, &from->io, &to->io);
    if (err != 0) {
        return err;
    }
    // The output with what is queued in it.
    struct outq empty = to->out;
    to->out = from->out;
    to->out.io = &to->io;
    to->out.on_flushed = empty.on_flushed;
    to->out.before_flush = empty.before_flush;
    to->out.gathers = empty.gathers;
    outq_moved(loop, &from->out, &to->out);
    outq_init(&from->out, &from->io, on_flushed);
    if (from->tls != NULL) {
        to->tls = from->tls;
        from->tls = NULL;
        tls_move(to->tls, &to->io, &to->out);
    }
    to->phase = from->phase;
    to->readable = from->readable;
    to->fin = from->fin;
    to->broken = from->broken;
    let_go(from);
    return 0;
}

ssize_t client_link_receive(struct client_link *link)
{
    struct loop *loop = client_link_loop(link);
    bool is_drained = false;
    ssize_t n = net_recv(&link->io, link->tls, loop->read_buf, LOOP_READ_LEN, &is_drained);
    bool may_end = link->fin || link->broken; // FIN or an error waits behind a short read
    if (n > 0) {
        if (is_drained && !may_end) {
            link->readable = false;
        }
        return n;
    }
    if (n == 0) {
        link->readable = false;
        link->fin = true;
        link->is_cut = link->tls != NULL && tls_is_truncated(link->tls);
        return CLIENT_LINK_END;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        // Sealed bytes that are no whole record: the socket was not read empty.
        link->readable = link->tls != NULL && (!is_drained || may_end);
        return 0;
    }
    link->readable = false;
    return errno == EPROTO ? ERR_TLS : ERR_CLOSED;
}
