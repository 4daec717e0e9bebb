// SPDX-License-Identifier: MIT
// The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt): who the client of a trusted
// sender is. Pure; any thread.
#pragma once
#include "base/err.h"
#include "base/str.h"
#include <netinet/in.h>

enum {
    PROXY_HEADER_MAX = 4096, // bytes of a header; a longer one is refused
    PROXY_V1_MAX = 107,
};

struct proxy_header {
    unsigned version;               // 1 or 2
    bool is_local;                  // LOCAL or UNKNOWN: the sender itself; no addresses
    struct sockaddr_storage source; // AF_INET or AF_INET6; family 0: not told (unix sockets)
    struct sockaddr_storage destination;
    struct str authority; // TLVs: views into the input; empty: not there
    struct str alpn;
    struct str unique_id;
    bool is_tls;          // PP2_CLIENT_SSL
    bool has_client_cert; // verified
    struct str tls_version;
    struct str client_cn;
};

// > 0: bytes of the header; 0: more are needed; negative: ERR_SYNTAX (no header, malformed, a CRC32c that
// is wrong), ERR_LIMIT (longer than PROXY_HEADER_MAX).
ptrdiff_t proxy_header_parse(const char *p, size_t len, struct proxy_header *out);

// Writes one: version 1 or 2, addresses (of differing families: both as IPv6; unix: UNKNOWN, LOCAL is not used),
// and with version 2 the TLVs that are not empty, PP2_TYPE_SSL if is_tls, and a CRC32c. Returns the length, 0:
// `size` is too small (PROXY_HEADER_MAX always fits what is written of at most 1,000 bytes of texts).
size_t proxy_header_write(const struct proxy_header *header, char *to, size_t size);
