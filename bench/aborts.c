// SPDX-License-Identifier: MIT
// Requests whose clients leave: each on a connection of its own, which is reset (or closed) before the
// request is whole, right after it, a moment later, or in the middle of the response.
//
//     aborts PORT HOST COUNT
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned long state = 88172645463325252ul;

static unsigned below(unsigned end)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 33) % end;
}

static int open_conn(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address) != 0) {
        perror("aborts: connect");
        exit(1);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: aborts PORT HOST COUNT\n");
        return 2;
    }
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((unsigned short)strtoul(argv[1], NULL, 10)),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    char request[512];
    char answer[512];
    int len = snprintf(request, sizeof request,
                       "POST /work HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\n\r\nbody", argv[2]);
    unsigned long count = strtoul(argv[3], NULL, 10);
    state ^= (unsigned long)getpid() << 20;
    for (unsigned long i = 0; i < count; i++) {
        int fd = open_conn(&address);
        unsigned kind = below(8);
        size_t part = kind == 0 ? below((unsigned)len) : (size_t)len;
        if (send(fd, request, part, MSG_NOSIGNAL) != (ssize_t)part) {
            perror("aborts: send");
        }
        if (kind < 3) {
            usleep(below(300));
        } else if (kind == 3) {
            struct timeval wait = {.tv_usec = 2000};
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
            (void)!recv(fd, answer, 1 + below(sizeof answer - 1), 0);
        }
        // A reset leaves no port behind in TIME_WAIT; a close with unread data is one, too.
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        close(fd);
    }
    return 0;
}
