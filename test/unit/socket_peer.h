// SPDX-License-Identifier: MIT
// The other end of a connection under test: plain, non-blocking TCP over loopback, read whenever the
// test's loop turns. Nothing sleeps; what must come is waited for in turns, up to a bound.
#pragma once
#include "base/buf.h"
#include "base/clock.h"
#include "loop/loop.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

struct peer {
    int fd;
    struct buf received;
    bool closed; // FIN seen
    bool reset;  // RST seen
    bool deaf;   // does not read
};

static inline void peer_init(struct peer *peer, int fd)
{
    *peer = (struct peer){.fd = fd};
    buf_init(&peer->received, 0);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static inline void peer_close(struct peer *peer)
{
    if (peer->fd >= 0) {
        close(peer->fd);
        peer->fd = -1;
    }
}

static inline void peer_fini(struct peer *peer)
{
    peer_close(peer);
    buf_fini(&peer->received);
}

// Closes with RST.
static inline void peer_abort(struct peer *peer)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    peer_close(peer);
}

static inline void peer_poll(struct peer *peer)
{
    while (peer->fd >= 0 && !peer->deaf && !peer->closed && !peer->reset) {
        char *to = buf_reserve(&peer->received, 16384);
        assert_non_null(to);
        ssize_t n = recv(peer->fd, to, 16384, MSG_DONTWAIT);
        if (n > 0) {
            peer->received.len += (size_t)n;
        } else if (n == 0) {
            peer->closed = true;
        } else if (errno == EAGAIN || errno == EINTR) {
            return;
        } else {
            peer->reset = true;
        }
    }
}

static inline bool peer_is_over(const struct peer *peer)
{
    return peer->closed || peer->reset;
}

// Sends as much as the kernel takes now; returns that.
static inline size_t peer_offer(struct peer *peer, struct str bytes)
{
    ssize_t n = send(peer->fd, bytes.p, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    return n < 0 ? 0 : (size_t)n;
}

// For what surely fits.
static inline void peer_send(struct peer *peer, struct str bytes)
{
    assert_int_equal(peer_offer(peer, bytes), bytes.len);
}

static inline void peer_fin(struct peer *peer)
{
    shutdown(peer->fd, SHUT_WR);
}

static inline bool peer_has(const struct peer *peer, const char *text)
{
    return str_find(buf_str(&peer->received), str_from_c(text)) != SIZE_MAX;
}

static inline bool peer_has_all(const struct peer *peer, const char *text)
{
    return str_eq(buf_str(&peer->received), str_from_c(text));
}

// A listening socket on a free port of 127.0.0.1.
static inline int peer_listen(struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof *address;
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)address, len), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)address, &len), 0);
    return fd;
}

// Turns the loop until the condition holds; reads for the peer meanwhile.
#define PUMP(loop, peer, condition)                                        \
    do {                                                                   \
        uint64_t until_ns_ = clock_monotonic_ns() + 60 * NS_PER_SEC;       \
        for (int turns_ = 0; clock_monotonic_ns() < until_ns_; turns_++) { \
            peer_poll(peer);                                               \
            if (condition) {                                               \
                break;                                                     \
            }                                                              \
            loop_turn(loop, turns_ < 20 ? 0 : 1);                          \
        }                                                                  \
        assert_true(condition);                                            \
    } while (0)

// Some turns in which nothing more is expected.
static inline void settle(struct loop *loop, struct peer *peer)
{
    for (int i = 0; i < 8; i++) {
        loop_turn(loop, 0);
        if (peer != NULL) {
            peer_poll(peer);
        }
    }
}

// Lets time pass on the loop's simulated clock.
static inline void pass(struct loop *loop, uint64_t ms)
{
    loop->now_ms += ms;
    loop->now_ns += ms * 1000000;
    loop_turn(loop, 0);
}
