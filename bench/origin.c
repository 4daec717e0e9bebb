// SPDX-License-Identifier: MIT
// The origin of the benchmarks: one thread, epoll, keep-alive, as little work for a request as a server
// can do. A request with a body gets 204, any other gets 200 and BODY_LEN bytes (default 1024).
//
//     origin PORT [BODY_LEN]
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FD_MAX = 65536,
    IN_MAX = 16384, // bytes of a request head
    EVENT_MAX = 256,
    BODY_MAX = 64 << 20,
    WRITE_WAIT_MS = 5000,
};

struct conn {
    size_t len;                   // bytes in `in`
    unsigned long long body_left; // of the request that is being read
    char in[IN_MAX];
};

static struct conn *conns[FD_MAX];
static char *page; // the answer to a request without a body
static size_t page_len;
static const char no_content[] = "HTTP/1.1 204 No Content\r\n\r\n";

static void close_conn(int fd)
{
    free(conns[fd]);
    conns[fd] = NULL;
    close(fd);
}

// A full socket is waited for: whoever measures reads.
static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);
        if (sent < 0) {
            struct pollfd wait = {fd, POLLOUT, 0};
            if (errno != EAGAIN || poll(&wait, 1, WRITE_WAIT_MS) != 1) {
                return -1;
            }
            continue;
        }
        data += sent;
        len -= (size_t)sent;
    }
    return 0;
}

static unsigned long long find_length(const char *head, const char *end)
{
    for (const char *line = head; line < end; line++) {
        line = memchr(line, '\n', (size_t)(end - line));
        if (line == NULL) {
            return 0;
        }
        if (end - line > 16 && strncasecmp(line + 1, "content-length:", 15) == 0) {
            return strtoull(line + 16, NULL, 10);
        }
    }
    return 0;
}

// Answers what is complete. -1: the connection is to be closed.
static int answer(int fd, struct conn *conn)
{
    size_t at = 0;
    int err = 0;
    while (err == 0) {
        size_t have = conn->len - at;
        if (conn->body_left > 0) {
            size_t take = have < conn->body_left ? have : (size_t)conn->body_left;
            at += take;
            conn->body_left -= take;
            if (conn->body_left > 0) {
                break;
            }
            err = write_all(fd, no_content, sizeof no_content - 1);
            continue;
        }
        char *end = memmem(conn->in + at, have, "\r\n\r\n", 4);
        if (end == NULL) {
            break;
        }
        conn->body_left = find_length(conn->in + at, end);
        at = (size_t)(end + 4 - conn->in);
        if (conn->body_left == 0) {
            err = write_all(fd, page, page_len);
        }
    }
    memmove(conn->in, conn->in + at, conn->len - at);
    conn->len -= at;
    return err;
}

static void serve(int fd)
{
    struct conn *conn = conns[fd];
    ssize_t got = recv(fd, conn->in + conn->len, sizeof conn->in - conn->len, 0);
    if (got < 0 && errno == EAGAIN) {
        return;
    }
    if (got <= 0) {
        close_conn(fd);
        return;
    }
    conn->len += (size_t)got;
    if (answer(fd, conn) != 0 || conn->len == sizeof conn->in) {
        close_conn(fd);
    }
}

static void accept_all(int poller, int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (fd >= FD_MAX || (conns[fd] = calloc(1, sizeof(struct conn))) == NULL ||
            epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0) {
            if (fd < FD_MAX) {
                close_conn(fd);
            } else {
                close(fd);
            }
        }
    }
}

static int make_page(size_t body_len)
{
    char head[128];
    int head_len = snprintf(head, sizeof head,
                            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                            "Content-Length: %zu\r\n\r\n",
                            body_len);
    page_len = (size_t)head_len + body_len;
    page = malloc(page_len);
    if (page == NULL) {
        return -1;
    }
    memcpy(page, head, (size_t)head_len);
    memset(page + head_len, 'x', body_len);
    return 0;
}

// On all of 127.0.0.0/8, where the system lets a socket be bound to the loopback device; else on
// 127.0.0.1 alone.
static int listen_on(unsigned port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int on = 1;
    bool is_inside = setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", sizeof "lo") == 0;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((unsigned short)port),
                                  .sin_addr = {htonl(is_inside ? INADDR_ANY : INADDR_LOOPBACK)}};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0) {
        perror("origin: listen");
        return -1;
    }
    return fd;
}

int main(int argc, char **argv)
{
    size_t body_len = argc > 2 ? strtoul(argv[2], NULL, 10) : 1024;
    if (argc < 2 || argc > 3 || body_len > BODY_MAX || make_page(body_len) != 0) {
        fprintf(stderr, "usage: origin PORT [BODY_LEN]\n");
        return 2;
    }
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    int listener = listen_on((unsigned)strtoul(argv[1], NULL, 10));
    int poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    if (listener < 0 || poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) != 0) {
        return 1;
    }
    for (;;) {
        struct epoll_event events[EVENT_MAX];
        int count = epoll_wait(poller, events, EVENT_MAX, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener) {
                accept_all(poller, listener);
            } else {
                serve(events[i].data.fd);
            }
        }
    }
}
