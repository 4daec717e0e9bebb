// SPDX-License-Identifier: MIT
// A TLS ClientHello (RFC 8446 4.1.2), as far as routing must know it, however it is cut into records and
// segments. Pure; any thread.
#pragma once
#include "base/err.h"
#include "base/str.h"

enum {
    CLIENT_HELLO_MAX = 16384 + 4
}; // bytes of the handshake message; records around it come on top

enum { CLIENT_HELLO_SNI_LEN = 256 };

struct client_hello {
    char sni[CLIENT_HELLO_SNI_LEN]; // canonical: lower case, no trailing dot; "": none. Terminated
    size_t sni_len;
    bool offers_h2; // ALPN
    bool offers_tls13;
};

// The body of a server_name extension (RFC 6066 3) as it stands in client_hello.sni: what routes a connection
// and what its handshake goes by is one reading. 0 (also with "": what it has is no name of a host), or
// ERR_SYNTAX.
int client_hello_sni(struct str body, char to[CLIENT_HELLO_SNI_LEN], size_t *len);
// 1: parsed; 0: more bytes are needed; negative: ERR_SYNTAX (no TLS, malformed),
// ERR_LIMIT (longer than CLIENT_HELLO_MAX). `bytes` is all that came from the connection's beginning.
int client_hello_parse(struct str bytes, struct client_hello *out);
