// SPDX-License-Identifier: MIT
#include "net/address.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { LISTEN_BACKLOG = 4096 };

static int parse_unix(struct str path, struct sockaddr_storage *address, socklen_t *len)
{
    struct sockaddr_un *un = (struct sockaddr_un *)address;
    if (path.len == 0 || path.len >= sizeof un->sun_path || str_find_char(path, '\0') != SIZE_MAX) {
        return ERR_SYNTAX;
    }
    un->sun_family = AF_UNIX;
    str_copy(un->sun_path, sizeof un->sun_path, path);
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
    return 0;
}

static int parse_ip(struct str host, uint16_t port, struct sockaddr_storage *address,
                    socklen_t *len)
{
    char text[INET6_ADDRSTRLEN];
    if (host.len >= sizeof text || str_find_char(host, '\0') != SIZE_MAX) {
        return ERR_SYNTAX;
    }
    str_copy(text, sizeof text, host);
    struct sockaddr_in *in = (struct sockaddr_in *)address;
    if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        *len = sizeof *in;
        return 0;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;
    if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        *len = sizeof *in6;
        return 0;
    }
    return ERR_SYNTAX;
}

int net_parse_listen(struct str text, struct sockaddr_storage *address, socklen_t *len)
{
    memset(address, 0, sizeof *address);
    if (str_starts(text, STR("unix:"))) {
        return parse_unix(str_from(text, 5), address, len);
    }
    size_t colon = str_rfind_char(text, ':');
    uint64_t port;
    if (colon == SIZE_MAX || str_to_u64(str_from(text, colon + 1), &port) != 0 || port > 65535) {
        return ERR_SYNTAX;
    }
    struct str host = str_sub(text, 0, colon);
    if (host.len == 0) {
        ((struct sockaddr_in6 *)address)->sin6_flowinfo = NET_BOTH_FAMILIES;
        return parse_ip(STR("::"), (uint16_t)port, address, len);
    }
    if (str_eq_case(host, STR("localhost"))) {
        return parse_ip(STR("127.0.0.1"), (uint16_t)port, address, len);
    }
    if (host.p[0] == '[' && host.p[host.len - 1] == ']') {
        if (str_find_char(host, ':') == SIZE_MAX) {
            return ERR_SYNTAX;
        }
        return parse_ip(str_sub(host, 1, host.len - 2), (uint16_t)port, address, len);
    }
    // An IPv6 address needs its brackets: "::1:80" could be read in two ways.
    return str_find_char(host, ':') == SIZE_MAX ? parse_ip(host, (uint16_t)port, address, len)
                                                : ERR_SYNTAX;
}

size_t net_format_address(const struct sockaddr_storage *address, char *to, size_t size)
{
    char text[INET6_ADDRSTRLEN] = "";
    int len = 0;
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
        len = snprintf(to, size, "%s:%u", text, ntohs(in->sin_port));
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
        len = snprintf(to, size, "[%s]:%u", text, ntohs(in6->sin6_port));
    } else if (address->ss_family == AF_UNIX) {
        len = snprintf(to, size, "unix:%s", ((const struct sockaddr_un *)address)->sun_path);
    } else {
        to[0] = '\0';
    }
    return len < 0 ? 0 : (size_t)len < size ? (size_t)len : size - 1;
}

static void map_ipv4(const struct in_addr *from, struct in6_addr *to)
{
    memset(to, 0, sizeof *to);
    to->s6_addr[10] = 0xff;
    to->s6_addr[11] = 0xff;
    memcpy(&to->s6_addr[12], from, 4);
}

void net_peer_in6(const struct sockaddr_storage *address, struct in6_addr *to)
{
    if (address->ss_family == AF_INET) {
        map_ipv4(&((const struct sockaddr_in *)address)->sin_addr, to);
    } else if (address->ss_family == AF_INET6) {
        *to = ((const struct sockaddr_in6 *)address)->sin6_addr;
    } else {
        *to = in6addr_loopback;
    }
}

size_t net_format_in6(const struct in6_addr *address, char *to, size_t size)
{
    if (IN6_IS_ADDR_V4MAPPED(address)) {
        inet_ntop(AF_INET, &address->s6_addr[12], to, (socklen_t)size);
    } else {
        inet_ntop(AF_INET6, address, to, (socklen_t)size);
    }
    return strlen(to);
}

int net_parse_in6(struct str text, struct in6_addr *to)
{
    char copy[INET6_ADDRSTRLEN];
    if (text.len == 0 || text.len >= sizeof copy || str_find_char(text, '\0') != SIZE_MAX) {
        return ERR_SYNTAX;
    }
    str_copy(copy, sizeof copy, text);
    struct in_addr in;
    if (inet_pton(AF_INET, copy, &in) == 1) {
        map_ipv4(&in, to);
        return 0;
    }
    return inet_pton(AF_INET6, copy, to) == 1 ? 0 : ERR_SYNTAX;
}

bool net_in6_matches(const struct in6_addr *address, const struct in6_addr *network, unsigned bits)
{
    unsigned bytes = bits / 8;
    if (memcmp(address, network, bytes) != 0) {
        return false;
    }
    unsigned rest = bits % 8;
    if (rest == 0) {
        return true;
    }
    unsigned mask = 0xffu << (8 - rest) & 0xffu;
    return ((address->s6_addr[bytes] ^ network->s6_addr[bytes]) & mask) == 0;
}

bool net_is_loopback(const struct in6_addr *address)
{
    if (IN6_IS_ADDR_V4MAPPED(address)) {
        return address->s6_addr[12] == 127;
    }
    return IN6_IS_ADDR_LOOPBACK(address);
}

uint16_t net_port(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET) {
        return ntohs(((const struct sockaddr_in *)address)->sin_port);
    }
    return address->ss_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)address)->sin6_port)
                                          : 0;
}

void net_set_port(struct sockaddr_storage *address, uint16_t port)
{
    if (address->ss_family == AF_INET) {
        ((struct sockaddr_in *)address)->sin_port = htons(port);
    } else if (address->ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
    }
}

struct str net_without_port(struct str authority)
{
    if (authority.len > 0 && authority.p[0] == '[') {
        size_t end = str_find_char(authority, ']');
        return end == SIZE_MAX ? authority : str_sub(authority, 1, end - 1);
    }
    size_t colon = str_find_char(authority, ':');
    return colon == SIZE_MAX ? authority : str_sub(authority, 0, colon);
}

static bool is_unspecified(const struct in6_addr *address)
{
    static const uint8_t any_v4[4];
    return IN6_IS_ADDR_UNSPECIFIED(address) ||
           (IN6_IS_ADDR_V4MAPPED(address) && memcmp(address->s6_addr + 12, any_v4, 4) == 0);
}

bool net_reaches_locally(const struct sockaddr_storage *to, const struct sockaddr_storage *listen)
{
    if (to->ss_family == AF_UNIX || listen->ss_family == AF_UNIX) {
        return to->ss_family == listen->ss_family &&
               strcmp(((const struct sockaddr_un *)to)->sun_path,
                      ((const struct sockaddr_un *)listen)->sun_path) == 0;
    }
    bool are_ip = (to->ss_family == AF_INET || to->ss_family == AF_INET6) &&
                  (listen->ss_family == AF_INET || listen->ss_family == AF_INET6);
    if (!are_ip || net_port(to) != net_port(listen)) {
        return false;
    }
    struct in6_addr target;
    struct in6_addr own;
    net_peer_in6(to, &target);
    net_peer_in6(listen, &own);
    // Connecting to 0.0.0.0 or :: is connecting to the loopback address.
    return (net_is_loopback(&own) || is_unspecified(&own)) &&
           (net_is_loopback(&target) || is_unspecified(&target));
}

static int open_bound(const struct sockaddr_storage *address, socklen_t len, bool shared)
{
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (shared) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    }
    if (address->ss_family == AF_INET6) {
        int v6_only = ((const struct sockaddr_in6 *)address)->sin6_flowinfo != NET_BOTH_FAMILIES;
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof v6_only);
    }
    if (bind(fd, (const struct sockaddr *)address, len) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

// True when a process listens on the path; a socket file that nobody serves is removed.
static bool unix_is_served(const struct sockaddr_storage *address, socklen_t len)
{
    const char *path = ((const struct sockaddr_un *)address)->sun_path;
    struct stat st;
    if (lstat(path, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        return false; // bind says what is wrong
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool served =
        fd >= 0 && (connect(fd, (const struct sockaddr *)address, len) == 0 || errno == EAGAIN);
    if (fd >= 0) {
        close(fd);
    }
    if (!served) {
        unlink(path);
    }
    return served;
}

static void close_all(const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        close(fds[i]);
    }
}

static int listen_unix(const struct sockaddr_storage *address, socklen_t len, unsigned count,
                       int *fds)
{
    if (unix_is_served(address, len)) {
        return ERR_IN_USE;
    }
    int fd = open_bound(address, len, false);
    if (fd < 0) {
        return ERR_SYSTEM;
    }
    if (listen(fd, LISTEN_BACKLOG) != 0) {
        close(fd);
        return ERR_SYSTEM;
    }
    fds[0] = fd;
    for (unsigned i = 1; i < count; i++) {
        fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, 0); // one queue, taken from by all
        if (fds[i] < 0) {
            int saved = errno;
            close_all(fds, i);
            errno = saved;
            return ERR_SYSTEM;
        }
    }
    return 0;
}

static bool wants_both(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET6 &&
           ((const struct sockaddr_in6 *)address)->sin6_flowinfo == NET_BOTH_FAMILIES;
}

int net_listen(const struct sockaddr_storage *address, socklen_t len, unsigned count, int *fds)
{
    if (address->ss_family == AF_UNIX) {
        return listen_unix(address, len, count, fds);
    }
    struct sockaddr_storage bound = *address;
    // Without SO_REUSEPORT this fails if anybody is there, also one who would share.
    int probe = open_bound(&bound, len, false);
    if (probe < 0 && errno == EAFNOSUPPORT && wants_both(&bound)) {
        // A machine without IPv6: all its addresses are IPv4.
        in_port_t port = ((const struct sockaddr_in6 *)&bound)->sin6_port;
        memset(&bound, 0, sizeof bound);
        *(struct sockaddr_in *)&bound =
            (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
        len = sizeof(struct sockaddr_in);
        probe = open_bound(&bound, len, false);
    }
    if (probe < 0) {
        return errno == EADDRINUSE ? ERR_IN_USE : ERR_SYSTEM;
    }
    socklen_t bound_len = sizeof bound;
    getsockname(probe, (struct sockaddr *)&bound, &bound_len); // port 0: all share the one drawn
    close(probe);
    if (wants_both(address) && bound.ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)&bound)->sin6_flowinfo = NET_BOTH_FAMILIES;
    }
    for (unsigned i = 0; i < count; i++) {
        fds[i] = open_bound(&bound, len, true);
        if (fds[i] < 0 || listen(fds[i], LISTEN_BACKLOG) != 0) {
            int saved = errno;
            close_all(fds, fds[i] < 0 ? i : i + 1);
            errno = saved;
            return saved == EADDRINUSE ? ERR_IN_USE : ERR_SYSTEM;
        }
    }
    return 0;
}

const char *net_connect_text(int error, char *to, size_t size)
{
    switch (error) {
    case ECONNREFUSED:
        return "refused";
    case ETIMEDOUT:
        return "timeout";
    case EHOSTUNREACH:
    case ENETUNREACH:
        return "unreachable";
    case ECONNRESET:
        return "reset";
    case ENOENT:
        return "no such socket";
    case EACCES:
    case EPERM:
        return "not allowed";
    default:
        return strerror_r(error, to, size);
    }
}
