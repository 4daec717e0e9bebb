// SPDX-License-Identifier: MIT
// What is checked: a listening socket on a thread of its own that does one thing with each connection.
#pragma once
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PEER_CONN_MAX = 512, PEER_REQUEST_MAX = 2048, PEER_TIMES_MAX = 256 };

struct peer_conn {
    int fd; // -1: none
    SSL *ssl;
    bool is_shaken;
    size_t len;
    size_t answered; // bytes of the answer
    uint64_t at_ms;  // of the accept
    char request[PEER_REQUEST_MAX];
};

struct peer {
    // Set before peer_begin().
    const char *answer; // NULL: none ever; '|' is a pause
    bool closes;        // when the request is there
    bool resets;        // the same, with RST
    unsigned delay_ms;  // before the answer
    bool is_endless;    // the answer is repeated
    SSL_CTX *tls;
    const char *unix_path;
    // What was seen.
    atomic_uint accepted;
    atomic_uint open;
    atomic_uint open_max;
    char request[PEER_REQUEST_MAX]; // the last one; with `mutex`
    size_t request_len;
    uint64_t times_ms[PEER_TIMES_MAX];
    // Its own.
    pthread_mutex_t mutex;
    pthread_t thread;
    atomic_bool is_stopping;
    int fd;
    struct sockaddr_storage address;
    socklen_t address_len;
    struct peer_conn *conns;
};

static inline uint64_t peer_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline void peer_close(struct peer *peer, struct peer_conn *c)
{
    if (peer->resets) {
        struct linger now = {.l_onoff = 1};
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    if (c->ssl != NULL) {
        SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
    }
    close(c->fd);
    *c = (struct peer_conn){.fd = -1};
    atomic_fetch_sub(&peer->open, 1);
}

static inline void peer_accept(struct peer *peer)
{
    int fd = accept4(peer->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    unsigned i = 0;
    while (fd >= 0 && i < PEER_CONN_MAX && peer->conns[i].fd >= 0) {
        i++;
    }
    if (fd < 0 || i == PEER_CONN_MAX) {
        abort();
    }
    struct peer_conn *c = &peer->conns[i];
    *c = (struct peer_conn){.fd = fd, .at_ms = peer_now_ms()};
    unsigned count = atomic_fetch_add(&peer->accepted, 1);
    if (count < PEER_TIMES_MAX) {
        peer->times_ms[count] = c->at_ms;
    }
    unsigned open = atomic_fetch_add(&peer->open, 1) + 1;
    if (open > atomic_load(&peer->open_max)) {
        atomic_store(&peer->open_max, open);
    }
    if (peer->tls != NULL) {
        c->ssl = SSL_new(peer->tls);
        SSL_set_fd(c->ssl, fd);
        SSL_set_accept_state(c->ssl);
    }
}

// > 0: bytes; 0: the end; -1: nothing now.
static inline ssize_t peer_read(struct peer_conn *c, char *to, size_t len)
{
    if (c->ssl == NULL) {
        ssize_t n = recv(c->fd, to, len, MSG_DONTWAIT);
        return n < 0 && errno != EAGAIN ? 0 : n;
    }
    ERR_clear_error();
    int n = SSL_read(c->ssl, to, (int)len);
    c->is_shaken = SSL_is_init_finished(c->ssl) == 1;
    if (n > 0) {
        return n;
    }
    int error = SSL_get_error(c->ssl, n);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? -1 : 0;
}

static inline bool peer_write(struct peer_conn *c, const char *p, size_t len)
{
    if (len == 0) {
        return true;
    }
    if (c->ssl != NULL) {
        return SSL_write(c->ssl, p, (int)len) == (int)len;
    }
    return send(c->fd, p, len, MSG_NOSIGNAL) == (ssize_t)len;
}

// The next piece of the answer. False: the connection is over.
static inline bool peer_answer(struct peer *peer, struct peer_conn *c)
{
    const char *rest = peer->answer + c->answered;
    size_t len = strcspn(rest, "|");
    if (!peer_write(c, rest, len)) {
        return false;
    }
    if (rest[len] == '|') {
        c->answered += len + 1;
        return true;
    }
    if (peer->is_endless) {
        c->answered = (size_t)(strstr(peer->answer, "\r\n\r\n") - peer->answer) + 4;
        return true;
    }
    return false;
}

static inline void peer_serve(struct peer *peer, struct peer_conn *c)
{
    ssize_t n = peer_read(c, c->request + c->len, sizeof c->request - 1 - c->len);
    if (n == 0) {
        peer_close(peer, c);
        return;
    }
    c->len += n > 0 ? (size_t)n : 0;
    c->request[c->len] = '\0';
    pthread_mutex_lock(&peer->mutex);
    if (c->len > 0) {
        memcpy(peer->request, c->request, c->len + 1);
        peer->request_len = c->len;
    }
    pthread_mutex_unlock(&peer->mutex);
    if (strstr(c->request, "\r\n\r\n") != NULL && peer_now_ms() - c->at_ms >= peer->delay_ms) {
        if (peer->closes || peer->resets || (peer->answer != NULL && !peer_answer(peer, c))) {
            peer_close(peer, c);
        }
    }
}

static inline void *peer_run(void *argument)
{
    struct peer *peer = argument;
    while (!atomic_load(&peer->is_stopping)) {
        struct pollfd wait = {.fd = peer->fd, .events = POLLIN};
        if (poll(&wait, 1, 2) > 0) {
            peer_accept(peer);
        }
        for (unsigned i = 0; i < PEER_CONN_MAX; i++) {
            if (peer->conns[i].fd >= 0) {
                peer_serve(peer, &peer->conns[i]);
            }
        }
    }
    return NULL;
}

// Of the last request, at least so many bytes have come (a NUL is one of them).
static inline bool peer_got(struct peer *peer, size_t len)
{
    pthread_mutex_lock(&peer->mutex);
    bool has = peer->request_len >= len;
    pthread_mutex_unlock(&peer->mutex);
    return has;
}

static inline void peer_begin(struct peer *peer)
{
    peer->conns = calloc(PEER_CONN_MAX, sizeof *peer->conns);
    for (unsigned i = 0; i < PEER_CONN_MAX; i++) {
        peer->conns[i].fd = -1;
    }
    pthread_mutex_init(&peer->mutex, NULL);
    if (peer->unix_path != NULL) {
        struct sockaddr_un *un = (struct sockaddr_un *)&peer->address;
        un->sun_family = AF_UNIX;
        snprintf(un->sun_path, sizeof un->sun_path, "%s", peer->unix_path);
        peer->address_len = sizeof *un;
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)&peer->address;
        in->sin_family = AF_INET;
        in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        peer->address_len = sizeof *in;
    }
    socklen_t len = sizeof peer->address;
    peer->fd = socket(peer->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(peer->fd, (struct sockaddr *)&peer->address, peer->address_len) != 0 ||
        listen(peer->fd, 512) != 0 ||
        (peer->unix_path == NULL &&
         getsockname(peer->fd, (struct sockaddr *)&peer->address, &len) != 0) ||
        pthread_create(&peer->thread, NULL, peer_run, peer) != 0) {
        abort();
    }
}

static inline void peer_end(struct peer *peer)
{
    atomic_store(&peer->is_stopping, true);
    pthread_join(peer->thread, NULL);
    for (unsigned i = 0; i < PEER_CONN_MAX; i++) {
        if (peer->conns[i].fd >= 0) {
            peer_close(peer, &peer->conns[i]);
        }
    }
    close(peer->fd);
    free(peer->conns);
    pthread_mutex_destroy(&peer->mutex);
}
