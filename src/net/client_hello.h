// SPDX-License-Identifier: MIT
// A TLS ClientHello (RFC 8446 4.1.2), as far as routing must know it, however it is cut into records and
// segments. Pure; any thread.
#pragma once
#include "base/err.h"
#include "base/str.h"

enum {
    CLIENT_HELLO_MAX = 16384 + 4
}; // bytes of the handshake message; records around it come on top

struct client_hello {
    char sni[256]; // canonical: lower case, no trailing dot; "": none. Terminated
    size_t sni_len;
    bool offers_h2; // ALPN
    bool offers_tls13;
};

// 1: parsed; 0: more bytes are needed; negative: ERR_SYNTAX (no TLS, malformed, a name that is none),
// ERR_LIMIT (longer than CLIENT_HELLO_MAX). `bytes` is all that came from the connection's beginning.
int client_hello_parse(struct str bytes, struct client_hello *out);
