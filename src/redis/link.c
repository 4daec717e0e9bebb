// SPDX-License-Identifier: MIT
// One socket, from connect() to its end.
//
//   CLOSED ─► CONNECTING ─► SHAKING (TLS) ─► OPEN ─► CLOSED
//
// Whatever a callback does, it does at most close the link: opening it again is for a task or a timer. So
// whoever has called one looks at `opened` and `phase` only.
#include "base/invariant.h"
#include "net/address.h"
#include "net/tls.h"
#include "redis/redis_int.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READS_MAX = 4 }; // in one event; then others have their turn

void redis_copy_printable(char *to, size_t size, struct str text)
{
    // "unknown command 'AUTH', with args beginning with: …": a password.
    size_t len = str_copy(to, size, str_sub(text, 0, str_find(text, STR(", with args"))));
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)to[i] < 0x20 || (unsigned char)to[i] > 0x7e) {
            to[i] = '?';
        }
    }
}

// ---- the end ----

static void say_why(struct redis_link *link, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void say_why(struct redis_link *link, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(link->why, sizeof link->why, format, args);
    va_end(args);
}

void redis_link_close(struct redis_link *link)
{
    if (link->phase == REDIS_CLOSED) {
        return;
    }
    link->phase = REDIS_CLOSED;
    loop_task_cancel(&link->again);
    outq_fini(link->loop, &link->out);
    tls_free(&link->tls);
    loop_close(link->loop, &link->io);
}

static void lose(struct redis_link *link)
{
    redis_link_close(link);
    link->ops->on_lost(link, link->why);
}

static void lose_by_errno(struct redis_link *link, const char *what, int error)
{
    char text[64];
    say_why(link, "%s: %s", what, net_connect_text(error, text, sizeof text));
    lose(link);
}

void redis_link_answer_all(struct redis_link *link)
{
    INVARIANT(link->phase == REDIS_CLOSED);
    while (link->line.count > 0) {
        struct redis_waiting waiting = redis_line_take(&link->line);
        if (waiting.on_reply != NULL) {
            waiting.on_reply(waiting.context, link->redis, NULL);
        }
    }
}

// ---- replies ----

// A reply or a message. False: nobody expects it.
static bool give(struct redis_link *link, const struct redis_reply *reply)
{
    struct redis_waiting *first = redis_line_first(&link->line);
    bool is_confirmation = false;
    bool is_asked = first != NULL && first->confirmations > 0;
    // Before the first of them is confirmed, an array that looks like a message is a reply.
    bool is_message =
        (link->is_subscribed || is_asked) && redis_is_message(reply, &is_confirmation);
    link->is_subscribed = link->is_subscribed || is_confirmation;
    if (is_asked && (is_confirmation || !is_message)) {
        // An error instead of confirmations stands for all of them.
        first->confirmations = is_confirmation ? first->confirmations - 1 : 0;
        if (first->confirmations == 0) {
            (void)redis_line_take(&link->line);
        }
        is_message = true;
    }
    if (is_message) {
        if (link->ops->on_message == NULL) {
            return false;
        }
        link->ops->on_message(link, reply);
        return true;
    }
    if (first == NULL) {
        return false;
    }
    struct redis_waiting waiting = redis_line_take(&link->line);
    if (waiting.on_reply != NULL) {
        waiting.on_reply(waiting.context, link->redis, reply);
    }
    return true;
}

// Gives out what has come. False: the link is another one now, or closed.
static bool give_all(struct redis_link *link)
{
    uint32_t opened = link->opened;
    bool is_there = true;
    while (is_there && !link->is_held) {
        const struct redis_reply *reply = NULL;
        const char *why = NULL;
        int step = redis_reader_next(&link->reader, &reply, &why);
        if (step == STEP_AGAIN) {
            return true;
        }
        if (step < 0) {
            say_why(link, "protocol: %s", why);
            lose(link);
            return false;
        }
        bool is_expected = give(link, reply);
        is_there = link->opened == opened && link->phase == REDIS_OPEN;
        if (is_there && !is_expected) {
            char text[64] = "";
            if (reply->type == REDIS_ERROR) { // "max number of clients reached", and then it closes
                redis_copy_printable(text, sizeof text, reply->text);
            }
            say_why(link, "%s", text[0] != 0 ? text : "protocol: a reply to nothing");
            lose(link);
            return false;
        }
    }
    return is_there;
}

// Reads once. False: the link is closed, or nothing more is to be had now.
static bool receive(struct redis_link *link)
{
    bool is_drained = false;
    ssize_t n = net_recv(&link->io, link->tls, link->loop->read_buf, LOOP_READ_LEN, &is_drained);
    int error = n < 0 ? errno : 0;
    if (n > 0) {
        link->heard_ms = link->loop->now_ms;
        link->is_readable = !is_drained || link->is_fin;
        if (!redis_reader_feed(&link->reader, str_make(link->loop->read_buf, (size_t)n))) {
            say_why(link, "%s", err_text(ERR_MEMORY));
            lose(link);
            return false;
        }
        return give_all(link);
    }
    if (n < 0 && (error == EAGAIN || error == EWOULDBLOCK)) {
        // Sealed bytes that are no whole record: the socket was not read empty.
        link->is_readable = link->tls != NULL && (!is_drained || link->is_fin);
        if (!link->is_readable && link->out.failed) {
            say_why(link, "the connection is broken");
            lose(link);
        }
        return link->is_readable;
    }
    link->is_readable = false;
    if (n == 0) {
        say_why(link, "closed by the server");
    } else if (error == EPROTO) {
        say_why(link, "TLS: %s", tls_failure(link->tls));
    } else {
        lose_by_errno(link, "read", error);
        return false;
    }
    lose(link);
    return false;
}

static void read_some(struct redis_link *link)
{
    for (unsigned i = 0; i < READS_MAX && link->is_readable && !link->is_held; i++) {
        if (!receive(link)) {
            return;
        }
    }
    if (link->is_readable && !link->is_held) {
        loop_task_add(link->loop, &link->again);
    }
}

void redis_link_hold(struct redis_link *link)
{
    link->is_held = true;
}

void redis_link_go_on(struct redis_link *link)
{
    if (!link->is_held) {
        return;
    }
    link->is_held = false;
    if (link->phase == REDIS_OPEN) {
        loop_task_add(link->loop, &link->again);
    }
}

// ---- until it is open ----

static void opened(struct redis_link *link)
{
    link->phase = REDIS_OPEN;
    // With the end of the handshake what comes behind it may be here already.
    link->is_readable = link->is_readable || link->tls != NULL;
    uint32_t which = link->opened;
    link->ops->on_open(link);
    if (link->opened == which && link->phase == REDIS_OPEN) {
        loop_task_add(link->loop, &link->again);
    }
}

static void shake(struct redis_link *link)
{
    bool is_drained = false;
    int step = tls_handshake(link->tls, &is_drained);
    if (step == ERR_CLOSED) {
        say_why(link, "TLS: closed in the handshake");
        lose(link);
    } else if (step < 0) {
        say_why(link, "TLS: %s", tls_failure(link->tls));
        lose(link);
    } else if (step == STEP_DONE) {
        opened(link);
    } else if (!is_drained && !link->out.blocked && !tls_is_suspended(link->tls)) {
        loop_task_add(link->loop, &link->again);
    }
}

static void connected(struct redis_link *link)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(link->io.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0) {
        lose_by_errno(link, "connect", error);
        return;
    }
    if (link->tls == NULL) {
        opened(link);
    } else {
        link->phase = REDIS_SHAKING;
        shake(link);
    }
}

static void on_again(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    struct redis_link *link = CONTAINER_OF(task, struct redis_link, again);
    if (link->phase == REDIS_SHAKING) {
        shake(link);
    } else if (link->phase == REDIS_OPEN && give_all(link)) {
        read_some(link);
    }
}

static void on_event(struct loop *loop, struct loop_io *io, uint32_t events)
{
    struct redis_link *link = CONTAINER_OF(io, struct redis_link, io);
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        link->is_readable = true;
        link->is_fin = link->is_fin || (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    }
    if (link->phase == REDIS_CONNECTING) {
        if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
            connected(link);
        }
        return;
    }
    if ((events & EPOLLOUT) && link->out.blocked) {
        link->out.blocked = false;
        outq_flush(loop, &link->out);
        if (link->out.failed) {
            outq_wake(loop, &link->out);
        }
    }
    if (link->phase == REDIS_SHAKING) {
        shake(link);
    } else if (link->phase == REDIS_OPEN) {
        read_some(link);
    }
}

static void on_flushed(struct loop *loop, struct outq *out)
{
    (void)loop;
    struct redis_link *link = CONTAINER_OF(out, struct redis_link, out);
    if (!out->failed || link->phase == REDIS_CLOSED) {
        return;
    }
    // What the server said before it closed, an error often, is read first.
    if (!out->is_short && link->phase == REDIS_OPEN && !link->is_held) {
        link->is_readable = true;
        link->is_fin = true;
        loop_task_add(link->loop, &link->again);
        return;
    }
    say_why(link, "%s", out->is_short ? err_text(ERR_MEMORY) : "closed by the server");
    lose(link);
}

// ---- beginning ----

void redis_link_init(struct redis_link *link, struct redis *redis, struct loop *loop,
                     const struct redis_link_ops *ops)
{
    *link = (struct redis_link){
        .loop = loop, .ops = ops, .redis = redis, .io = {.fd = -1, .on_event = on_event}};
    outq_init(&link->out, &link->io, on_flushed);
    loop_task_init(&link->again, on_again);
}

void redis_link_fini(struct redis_link *link)
{
    redis_link_close(link);
    redis_line_fini(&link->line);
    if (link->has_reader) {
        redis_reader_fini(&link->reader);
        link->has_reader = false;
    }
}

static bool begin_connect(struct redis_link *link, const struct sockaddr_storage *address,
                          socklen_t address_len)
{
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        say_why(link, "socket: %s", strerror(errno));
        return false;
    }
    if (address->ss_family != AF_UNIX) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    link->io.fd = fd;
    bool has_failed =
        connect(fd, (const struct sockaddr *)address, address_len) != 0 && errno != EINPROGRESS;
    if (has_failed || loop_add(link->loop, &link->io) != 0) {
        char text[64];
        say_why(link, "connect: %s", net_connect_text(errno, text, sizeof text));
        close(fd);
        link->io.fd = -1;
        return false;
    }
    return true;
}

bool redis_link_open(struct redis_link *link, const struct sockaddr_storage *address,
                     socklen_t address_len, struct tls_context *tls, struct str name)
{
    INVARIANT(link->phase == REDIS_CLOSED && link->line.count == 0);
    int err =
        link->has_reader ? redis_reader_reset(&link->reader) : redis_reader_init(&link->reader);
    if (err != 0) {
        say_why(link, "%s", err_text(err));
        return false;
    }
    link->has_reader = true;
    outq_init(&link->out, &link->io, on_flushed);
    if (tls != NULL) {
        link->tls = tls_new_client(link->loop, tls, &link->io, &link->out, name, 0, link->redis);
        if (link->tls == NULL) {
            say_why(link, "%s", err_text(ERR_MEMORY));
            return false;
        }
    }
    if (!begin_connect(link, address, address_len)) {
        tls_free(&link->tls);
        return false;
    }
    link->phase = REDIS_CONNECTING;
    link->opened++;
    link->is_readable = false;
    link->is_fin = false;
    link->is_subscribed = false;
    link->is_held = false;
    return true;
}

// ---- commands ----

bool redis_link_command(struct redis_link *link, unsigned argc, const struct str *argv,
                        redis_on_reply *on_reply, void *context)
{
    INVARIANT(link->phase == REDIS_OPEN);
    if (argc == 0 || !redis_line_reserve(&link->line) ||
        !redis_command_put(link->loop, &link->out, argc, argv)) {
        return false;
    }
    struct redis_waiting waiting = {.on_reply = on_reply,
                                    .context = context,
                                    .since_ms = link->loop->now_ms,
                                    .confirmations = redis_command_confirmations(argc, argv)};
    redis_line_append(&link->line, &waiting);
    return true;
}

uint64_t redis_link_waiting_ms(const struct redis_link *link)
{
    if (link->line.count == 0) {
        return 0;
    }
    uint64_t since_ms = link->line.items[link->line.first].since_ms;
    // An oldest command is there, however young it is.
    return link->loop->now_ms > since_ms ? link->loop->now_ms - since_ms : 1;
}

uint64_t redis_link_silent_ms(const struct redis_link *link)
{
    uint64_t waiting_ms = redis_link_waiting_ms(link);
    uint64_t heard_ms = link->loop->now_ms - link->heard_ms; // ago
    return waiting_ms > heard_ms + 1 ? heard_ms + 1 : waiting_ms;
}
