// SPDX-License-Identifier: MIT
// Requests at a fixed rate over kept connections, and what became of each: for restarts of targets
// under load. A connection that ends is opened again; a request is never sent twice.
//
//     steady ADDRESS PORT HOST PATH RATE SECONDS CONNECTIONS [BODY_BYTES]
//
// With BODY_BYTES it is a POST. Prints one line of JSON:
//   sent, ok (2xx, whole), bad (another status), begun (broken off after the first byte of a response),
//   unanswered (closed before one), late (no connection was free when it was due: sent later),
//   statuses {"503": n}, p50_us, p99_us, max_us.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTION_MAX = 1000, HEAD_MAX = 8192, TIME_MAX_US = 10000000, SLOTS = 100000 };

struct conn {
    int fd; // -1: closed
    bool is_busy;
    size_t have;   // bytes of the response
    size_t wanted; // of the whole response; 0: the head is not complete
    unsigned status;
    uint64_t sent_us;
    char head[HEAD_MAX + 1];
};

static struct conn conns[CONNECTION_MAX];
static unsigned conn_count;
static struct sockaddr_in address;
static int epoll_fd;
static char request[65536];
static size_t request_len;
static uint64_t sent, ok, bad, begun, unanswered, late, most_us;
static uint64_t statuses[1000];
static uint64_t times[SLOTS]; // by 100 us

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void open_conn(struct conn *conn)
{
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (conn->fd < 0 || connect(conn->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        die("connect");
    }
    int one = 1;
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = conn};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) != 0) {
        die("epoll_ctl");
    }
    conn->is_busy = false;
}

static void note_end(struct conn *conn)
{
    uint64_t us = now_us() - conn->sent_us;
    most_us = us > most_us ? us : most_us;
    times[us / 100 < SLOTS ? us / 100 : SLOTS - 1]++;
    conn->is_busy = false;
}

static void on_closed(struct conn *conn)
{
    if (conn->is_busy && conn->have > 0) {
        begun++;
    } else if (conn->is_busy) {
        unanswered++;
    }
    if (conn->is_busy) {
        note_end(conn);
    }
    close(conn->fd);
    open_conn(conn);
}

// Is the response whole?
static bool is_whole(struct conn *conn)
{
    if (conn->wanted == 0) {
        conn->head[conn->have < HEAD_MAX ? conn->have : HEAD_MAX] = '\0';
        const char *end = strstr(conn->head, "\r\n\r\n");
        if (end == NULL) {
            return false;
        }
        const char *length = strcasestr(conn->head, "\ncontent-length:");
        conn->status = (unsigned)strtoul(conn->head + 9, NULL, 10);
        conn->wanted = (size_t)(end - conn->head) + 4;
        if (length != NULL && length < end) {
            conn->wanted += strtoul(length + 16, NULL, 10);
        }
    }
    return conn->have >= conn->wanted;
}

static void on_readable(struct conn *conn)
{
    char drop[65536];
    bool is_head = conn->have < HEAD_MAX;
    ssize_t len = is_head ? recv(conn->fd, conn->head + conn->have, HEAD_MAX - conn->have, 0)
                          : recv(conn->fd, drop, sizeof drop, 0);
    if (len <= 0) {
        on_closed(conn);
        return;
    }
    conn->have += (size_t)len;
    if (!conn->is_busy) {
        on_closed(conn); // an answer that nobody asked for (408 before a close)
        return;
    }
    if (!is_whole(conn)) {
        return;
    }
    statuses[conn->status < 1000 ? conn->status : 999]++;
    if (conn->status / 100 == 2) {
        ok++;
    } else {
        bad++;
    }
    note_end(conn);
}

// False: none is free.
static bool send_one(void)
{
    static unsigned next;
    for (unsigned i = 0; i < conn_count; i++) {
        struct conn *conn = &conns[next++ % conn_count];
        if (conn->is_busy) {
            continue;
        }
        conn->have = 0;
        conn->wanted = 0;
        conn->is_busy = true;
        conn->sent_us = now_us();
        sent++;
        if (send(conn->fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len) {
            // Closed while it was idle: the request never left, as far as it can be told.
            conn->is_busy = false;
            sent--;
            close(conn->fd);
            open_conn(conn);
            return send_one();
        }
        return true;
    }
    return false;
}

static void poll_once(int wait_ms)
{
    struct epoll_event events[256];
    int count = epoll_wait(epoll_fd, events, 256, wait_ms);
    for (int i = 0; i < count; i++) {
        on_readable(events[i].data.ptr);
    }
}

static bool is_anything_busy(void)
{
    for (unsigned i = 0; i < conn_count; i++) {
        if (conns[i].is_busy) {
            return true;
        }
    }
    return false;
}

static uint64_t quantile_us(double share)
{
    uint64_t all = 0;
    for (unsigned i = 0; i < SLOTS; i++) {
        all += times[i];
    }
    uint64_t left = (uint64_t)((double)all * share);
    for (unsigned i = 0; i < SLOTS; i++) {
        if (times[i] > left) {
            return i * 100 + 50;
        }
        left -= times[i];
    }
    return most_us;
}

static void print_result(void)
{
    printf("{\"sent\": %lu, \"ok\": %lu, \"bad\": %lu, \"begun\": %lu, \"unanswered\": %lu, "
           "\"late\": %lu, \"p50_us\": %lu, \"p99_us\": %lu, \"max_us\": %lu, \"statuses\": {",
           sent, ok, bad, begun, unanswered, late, quantile_us(0.5), quantile_us(0.99), most_us);
    const char *comma = "";
    for (unsigned i = 0; i < 1000; i++) {
        if (statuses[i] > 0) {
            printf("%s\"%u\": %lu", comma, i, statuses[i]);
            comma = ", ";
        }
    }
    printf("}}\n");
}

int main(int argc, char **argv)
{
    if (argc < 8) {
        fprintf(stderr, "usage: steady ADDRESS PORT HOST PATH RATE SECONDS CONNECTIONS [BODY]\n");
        return 2;
    }
    address = (struct sockaddr_in){.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10))};
    double rate = strtod(argv[5], NULL);
    uint64_t seconds = strtoul(argv[6], NULL, 10);
    conn_count = (unsigned)strtoul(argv[7], NULL, 10);
    size_t body_len = argc > 8 ? strtoul(argv[8], NULL, 10) : 0;
    if (inet_pton(AF_INET, argv[1], &address.sin_addr) != 1 || conn_count == 0 ||
        conn_count > CONNECTION_MAX || rate <= 0 || body_len > sizeof request / 2) {
        fprintf(stderr, "steady: an argument is out of range\n");
        return 2;
    }
    int len = snprintf(request, sizeof request / 2, "%s %s HTTP/1.1\r\nHost: %s\r\n",
                       argc > 8 ? "POST" : "GET", argv[4], argv[3]);
    request_len = (size_t)len;
    if (argc > 8) {
        request_len +=
            (size_t)snprintf(request + request_len, 100, "Content-Length: %zu\r\n", body_len);
    }
    memcpy(request + request_len, "\r\n", 2);
    request_len += 2;
    memset(request + request_len, 'x', body_len);
    request_len += body_len;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < conn_count; i++) {
        open_conn(&conns[i]);
    }
    uint64_t start = now_us();
    uint64_t end = start + seconds * 1000000;
    uint64_t due = 0; // requests so far
    for (uint64_t now = start; now < end; now = now_us()) {
        uint64_t wanted = (uint64_t)((double)(now - start) * rate / 1e6);
        while (due < wanted) {
            if (!send_one()) {
                late++;
                break;
            }
            due++;
        }
        poll_once(1);
    }
    uint64_t until = now_us() + TIME_MAX_US;
    while (is_anything_busy() && now_us() < until) {
        poll_once(10);
    }
    for (unsigned i = 0; i < conn_count; i++) {
        unanswered += conns[i].is_busy;
    }
    print_result();
    return 0;
}
