// SPDX-License-Identifier: MIT
// Both ends of a client's connection, for targets that want to know them (PROXY protocol).
#include "http/server_int.h"
#include "net/address.h"

static struct sockaddr_storage storage_of(const struct in6_addr *in6, uint16_t port)
{
    struct sockaddr_storage storage = {0};
    if (IN6_IS_ADDR_V4MAPPED(in6)) {
        struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&in4.sin_addr, in6->s6_addr + 12, sizeof in4.sin_addr);
        memcpy(&storage, &in4, sizeof in4);
    } else {
        struct sockaddr_in6 address = {
            .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = *in6};
        memcpy(&storage, &address, sizeof address);
    }
    return storage;
}

// The same address in the form of its own family; others than IP stay as they are.
static struct sockaddr_storage plain_form(const struct sockaddr_storage *address)
{
    if (address->ss_family != AF_INET6) {
        return *address;
    }
    struct sockaddr_in6 in6;
    memcpy(&in6, address, sizeof in6);
    return storage_of(&in6.sin6_addr, ntohs(in6.sin6_port));
}

void http_stream_addresses(const struct http_stream *stream, struct sockaddr_storage *source,
                           struct sockaddr_storage *destination)
{
    const struct http_conn *conn = stream->conn;
    struct sockaddr_storage peer = {0};
    struct sockaddr_storage local = {0};
    socklen_t peer_len = sizeof peer;
    socklen_t local_len = sizeof local;
    struct in6_addr in6;
    const struct http_conn_proxied *proxied = conn->proxied;
    if (proxied != NULL && proxied->has_addresses) {
        *source = storage_of(&conn->peer, proxied->peer_port);
        *destination = storage_of(&proxied->local, conn->local_port);
        return;
    }
    if (getpeername(conn->io.fd, (struct sockaddr *)&peer, &peer_len) == 0 &&
        getsockname(conn->io.fd, (struct sockaddr *)&local, &local_len) == 0) {
        net_peer_in6(&peer, &in6);
        if (memcmp(&in6, &conn->peer, sizeof in6) == 0) {
            *source = plain_form(&peer);
            *destination = plain_form(&local);
            return;
        }
    }
    // The client is gone: its port and the address that it came to are not known any more.
    struct in6_addr any = IN6ADDR_ANY_INIT;
    if (IN6_IS_ADDR_V4MAPPED(&conn->peer)) {
        any.s6_addr[10] = 0xff;
        any.s6_addr[11] = 0xff;
    }
    *source = storage_of(&conn->peer, 0);
    *destination = storage_of(&any, conn->local_port);
}
