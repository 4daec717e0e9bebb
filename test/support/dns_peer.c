// SPDX-License-Identifier: MIT
#include "support/dns_peer.h"
#include <arpa/inet.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADER_LEN = 12, TYPE_A = 1, TYPE_AAAA = 28, ANSWER_MAX = 16384 };

static void put16(uint8_t **at, unsigned value)
{
    *(*at)++ = (uint8_t)(value >> 8);
    *(*at)++ = (uint8_t)value;
}

static void put_record(uint8_t **at, unsigned type, unsigned ttl, const void *address, unsigned len)
{
    put16(at, 0xC00C); // the name of the question
    put16(at, type);
    put16(at, 1);
    put16(at, ttl >> 16);
    put16(at, ttl & 0xffff);
    put16(at, len);
    memcpy(*at, address, len);
    *at += len;
}

static unsigned put_records(uint8_t **at, const struct dns_peer_name *name, unsigned type)
{
    unsigned count = 0;
    char text[512];
    snprintf(text, sizeof text, "%s", name->addresses == NULL ? "" : name->addresses);
    char *rest = text;
    char *one;
    while ((one = strsep(&rest, " ")) != NULL) {
        uint8_t address[16];
        bool is_in6 = strchr(one, ':') != NULL;
        if (is_in6 == (type == TYPE_AAAA) &&
            inet_pton(is_in6 ? AF_INET6 : AF_INET, one, address) == 1) {
            put_record(at, type, name->ttl, address, is_in6 ? 16 : 4);
            count++;
        }
    }
    for (unsigned i = 0; i < name->many && type == TYPE_A; i++) {
        const uint8_t address[4] = {10, 1, (uint8_t)(i >> 8), (uint8_t)i};
        put_record(at, type, name->ttl, address, sizeof address);
        count++;
    }
    return count;
}

// The question's name as text; its end in the packet. 0: malformed.
static size_t read_name(const uint8_t *packet, size_t len, char *to, size_t size)
{
    size_t at = HEADER_LEN;
    size_t used = 0;
    while (at < len && packet[at] != 0) {
        size_t label = packet[at++];
        if (label > 63 || at + label >= len || used + label + 2 > size) {
            return 0;
        }
        used += (size_t)snprintf(to + used, size - used, "%s%.*s", used > 0 ? "." : "", (int)label,
                                 (const char *)packet + at);
        at += label;
    }
    return at + 5 <= len ? at + 5 : 0;
}

// The length of the answer; 0: silence.
static size_t make_answer(struct dns_peer *peer, const uint8_t *packet, size_t len, uint8_t *to,
                          bool is_tcp)
{
    char name[256] = "";
    size_t end = len < HEADER_LEN ? 0 : read_name(packet, len, name, sizeof name);
    if (end == 0) {
        return 0;
    }
    unsigned type = (unsigned)packet[end - 4] << 8 | packet[end - 3];
    struct dns_peer_name found = {.kind = DNS_NO_NAME};
    pthread_mutex_lock(&peer->mutex);
    memcpy(peer->last, name, sizeof name);
    for (unsigned i = 0; i < peer->name_count; i++) {
        if (strcasecmp(peer->names[i].name, name) == 0) {
            found = peer->names[i];
        }
    }
    pthread_mutex_unlock(&peer->mutex);
    atomic_fetch_add(&peer->questions, type == TYPE_A);
    atomic_fetch_add(&peer->over_tcp, is_tcp);
    if (found.kind == DNS_SILENCE || (found.kind == DNS_IN4_ALONE && type != TYPE_A)) {
        return 0;
    }
    memcpy(to, packet, end);
    memset(to + 2, 0, HEADER_LEN - 2);
    unsigned code = found.kind == DNS_NO_NAME ? 3 : found.kind == DNS_FAIL ? 2 : 0;
    bool is_cut = found.kind == DNS_TRUNCATED && !is_tcp;
    to[2] = (uint8_t)(0x84 | (is_cut ? 2 : 0));
    to[3] = (uint8_t)(0x80 | code);
    to[5] = 1;
    uint8_t *at = to + end;
    if (found.kind == DNS_GARBAGE) {
        to[7] = 200;
        memset(at, 0xFF, 64);
        return end + 64;
    }
    if (code == 0 && !is_cut) {
        unsigned count = put_records(&at, &found, type);
        to[6] = (uint8_t)(count >> 8);
        to[7] = (uint8_t)count;
    }
    return (size_t)(at - to);
}

static void serve_udp(struct dns_peer *peer)
{
    uint8_t packet[512];
    static _Thread_local uint8_t answer[ANSWER_MAX];
    struct sockaddr_in from;
    socklen_t from_len = sizeof from;
    ssize_t n = recvfrom(peer->udp, packet, sizeof packet, 0, (struct sockaddr *)&from, &from_len);
    size_t len = n > 0 ? make_answer(peer, packet, (size_t)n, answer, false) : 0;
    if (len > 0) {
        (void)!sendto(peer->udp, answer, len, 0, (struct sockaddr *)&from, from_len);
    }
}

static void serve_tcp(struct dns_peer *peer)
{
    static _Thread_local uint8_t answer[ANSWER_MAX + 2];
    uint8_t packet[514];
    int fd = accept(peer->tcp, NULL, NULL);
    struct timeval wait = {.tv_sec = 10};
    if (fd < 0) {
        return;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    for (;;) { // one after the other, until the client is done
        if (recv(fd, packet, 2, MSG_WAITALL) != 2) {
            break;
        }
        size_t len = (size_t)packet[0] << 8 | packet[1];
        if (len > 512 || recv(fd, packet, len, MSG_WAITALL) != (ssize_t)len) {
            break;
        }
        size_t answered = make_answer(peer, packet, len, answer + 2, true);
        answer[0] = (uint8_t)(answered >> 8);
        answer[1] = (uint8_t)answered;
        (void)!send(fd, answer, 1, MSG_NOSIGNAL); // in two pieces
        usleep(2000);
        (void)!send(fd, answer + 1, answered + 1, MSG_NOSIGNAL);
    }
    close(fd);
}

static void *run(void *argument)
{
    struct dns_peer *peer = argument;
    while (!atomic_load(&peer->is_stopping)) {
        struct pollfd fds[2] = {{.fd = peer->udp, .events = POLLIN},
                                {.fd = peer->tcp, .events = POLLIN}};
        if (poll(fds, 2, 20) <= 0) {
            continue;
        }
        if (fds[0].revents != 0) {
            serve_udp(peer);
        }
        if (fds[1].revents != 0) {
            serve_tcp(peer);
        }
    }
    return NULL;
}

// Both sockets on one port; false: another process had it for TCP.
static bool bind_both(struct dns_peer *peer)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    peer->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    peer->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_bound = bind(peer->udp, (struct sockaddr *)&address, sizeof address) == 0 &&
                    getsockname(peer->udp, (struct sockaddr *)&address, &len) == 0 &&
                    bind(peer->tcp, (struct sockaddr *)&address, sizeof address) == 0 &&
                    listen(peer->tcp, 16) == 0;
    peer->port = ntohs(address.sin_port);
    if (!is_bound) {
        close(peer->udp);
        close(peer->tcp);
    }
    return is_bound;
}

void dns_peer_begin(struct dns_peer *peer)
{
    memset(peer, 0, sizeof *peer);
    pthread_mutex_init(&peer->mutex, NULL);
    for (unsigned i = 0; !bind_both(peer); i++) {
        if (i == 20) {
            abort();
        }
    }
    snprintf(peer->server, sizeof peer->server, "127.0.0.1:%u", peer->port);
    if (pthread_create(&peer->thread, NULL, run, peer) != 0) {
        abort();
    }
}

void dns_peer_end(struct dns_peer *peer)
{
    atomic_store(&peer->is_stopping, true);
    pthread_join(peer->thread, NULL);
    close(peer->udp);
    close(peer->tcp);
    pthread_mutex_destroy(&peer->mutex);
}

void dns_peer_set(struct dns_peer *peer, const struct dns_peer_name *name)
{
    pthread_mutex_lock(&peer->mutex);
    unsigned i = 0;
    while (i < peer->name_count && strcmp(peer->names[i].name, name->name) != 0) {
        i++;
    }
    if (i == peer->name_count && ++peer->name_count > sizeof peer->names / sizeof peer->names[0]) {
        abort();
    }
    peer->names[i] = *name;
    pthread_mutex_unlock(&peer->mutex);
}

bool dns_peer_was_asked(struct dns_peer *peer, const char *name)
{
    pthread_mutex_lock(&peer->mutex);
    bool is_same = strcmp(peer->last, name) == 0;
    pthread_mutex_unlock(&peer->mutex);
    return is_same;
}
