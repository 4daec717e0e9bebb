// SPDX-License-Identifier: MIT
// A host that is accepted reads as itself when parsed again, in lower case, and with a port.
#include "base/invariant.h"
#include "http/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(struct str host)
{
    for (size_t i = 0; i < host.len; i++) {
        char c = host.p[i];
        bool name = (c >= 'a' && c <= 'z') || ascii_is_digit(c) || c == '-' || c == '_' || c == '.';
        INVARIANT(name || (host.p[0] == '[' && (c == '[' || c == ']' || c == ':')));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char host[URI_HOST_MAX + 1];
    size_t len = 0;
    unsigned port = 0;
    if (uri_parse_host(str_make((const char *)data, size), host, &len, &port) != 0) {
        return 0;
    }
    INVARIANT(len >= 1 && len <= URI_HOST_MAX && host[len] == '\0' && port <= UINT16_MAX);
    check_text(str_make(host, len));
    char again[URI_HOST_MAX + 1];
    size_t again_len = 0;
    unsigned again_port = 1;
    INVARIANT(uri_parse_host(str_make(host, len), again, &again_len, &again_port) == 0);
    INVARIANT(again_port == 0 && str_eq(str_make(host, len), str_make(again, again_len)));
    char text[URI_HOST_MAX + 16];
    int text_len = snprintf(text, sizeof(text), "%s:%u", host, port == 0 ? 1 : port);
    INVARIANT(uri_parse_host(str_make(text, (size_t)text_len), again, &again_len, &again_port) ==
              0);
    INVARIANT(again_port == (port == 0 ? 1 : port));
    INVARIANT(str_eq(str_make(host, len), str_make(again, again_len)));
    return 0;
}
