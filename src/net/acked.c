// SPDX-License-Identifier: MIT
// A file of its own, since linux/tcp.h and netinet/tcp.h cannot be included together.
#include "net/acked.h"
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

int net_acked(int fd, uint64_t *bytes)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    size_t needed = offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof info.tcpi_bytes_acked;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 || len < needed) {
        return ERR_SYSTEM;
    }
    // The SYN is counted as a byte.
    *bytes = info.tcpi_bytes_acked == 0 ? 0 : info.tcpi_bytes_acked - 1;
    return 0;
}
