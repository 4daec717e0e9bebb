// SPDX-License-Identifier: MIT
// Socket addresses as text and back, and listening sockets. Any thread.
#pragma once
#include "base/err.h"
#include "base/str.h"
#include <netinet/in.h>
#include <sys/socket.h>

enum {
    NET_ADDRESS_TEXT_MAX = 128, // bytes of an address as text, terminated
};

// In sin6_flowinfo of "::": IPv4 as well, from ":80". "[::]:80" is IPv6 alone, so that it can stand
// next to "0.0.0.0:80".
enum { NET_BOTH_FAMILIES = 1 };

// "0.0.0.0:80", "[::]:80", ":80" (all addresses, IPv6 and IPv4), "localhost:80" (127.0.0.1),
// "unix:/path". 0, or ERR_SYNTAX.
int net_parse_listen(struct str text, struct sockaddr_storage *address, socklen_t *len) WARN_UNUSED;
// "10.1.2.3:80", "[2001:db8::1]:80", "unix:/path" into to[size]; returns the length.
size_t net_format_address(const struct sockaddr_storage *address, char *to, size_t size);
// The IPv6 form of a peer's address: IPv4 mapped (::ffff:a.b.c.d); unix sockets are ::1.
void net_peer_in6(const struct sockaddr_storage *address, struct in6_addr *to);
// "10.1.2.3", "2001:db8::1" of such an address, terminated; returns the length. size >= 46.
size_t net_format_in6(const struct in6_addr *address, char *to, size_t size);
// Reads "10.1.2.3" or "2001:db8::1" into the IPv6 form. 0, or ERR_SYNTAX.
int net_parse_in6(struct str text, struct in6_addr *to) WARN_UNUSED;
// Is `address` in the network of `bits` (0 to 128) bits?
bool net_in6_matches(const struct in6_addr *address, const struct in6_addr *network, unsigned bits);
bool net_is_loopback(const struct in6_addr *address);
// The port, host order; 0: the address has none.
uint16_t net_port(const struct sockaddr_storage *address);
// Nothing for an address without ports.
void net_set_port(struct sockaddr_storage *address, uint16_t port);
// "a.example:80" and "[::1]:80" without port and brackets: a view into `authority`.
struct str net_without_port(struct str authority);
// Why a connection failed, by its errno: "refused", "timeout", …; the system's words in to[size] for others.
const char *net_connect_text(int error, char *to, size_t size);
// Does a connection to `to` reach what listens on `listen`, and from this machine itself (loopback, or
// a unix socket)?
bool net_reaches_locally(const struct sockaddr_storage *to, const struct sockaddr_storage *listen);

// Opens listening sockets on one address: `count` of them, which share it (SO_REUSEPORT), after a check
// that nobody else listens there. Non-blocking, close-on-exec. `fds` has room for count.
// 0; ERR_IN_USE: somebody else is on the address; ERR_SYSTEM with errno.
int net_listen(const struct sockaddr_storage *address, socklen_t len, unsigned count,
               int *fds) WARN_UNUSED;
