// SPDX-License-Identifier: MIT
// A header that is accepted is accepted at exactly its length, its views lie in it, and what is written of
// it reads back as the same.
#include "base/invariant.h"
#include "net/proxy_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_view(struct str view, const char *p, size_t len)
{
    INVARIANT(view.len == 0 || (view.p >= p && view.p + view.len <= p + len));
}

static void check_back(const struct proxy_header *header)
{
    char written[PROXY_HEADER_MAX];
    struct proxy_header again;
    size_t len = proxy_header_write(header, written, sizeof written);
    if (len == 0) {
        return; // its texts are too long
    }
    INVARIANT(proxy_header_parse(written, len, &again) == (ptrdiff_t)len);
    INVARIANT(again.version == header->version);
    INVARIANT(memcmp(&again.source, &header->source, sizeof again.source) == 0);
    INVARIANT(memcmp(&again.destination, &header->destination, sizeof again.source) == 0);
    if (header->version == 2) {
        INVARIANT(str_eq(again.authority, header->authority));
        INVARIANT(str_eq(again.alpn, header->alpn));
        INVARIANT(str_eq(again.unique_id, header->unique_id));
        INVARIANT(again.is_tls == header->is_tls);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *p = (const char *)data;
    struct proxy_header header;
    struct proxy_header part;
    ptrdiff_t len = proxy_header_parse(p, size, &header);
    if (len <= 0) {
        return 0;
    }
    INVARIANT((size_t)len <= size && len <= PROXY_HEADER_MAX);
    INVARIANT(proxy_header_parse(p, (size_t)len, &part) == len);
    INVARIANT(proxy_header_parse(p, (size_t)len - 1, &part) == 0);
    INVARIANT(proxy_header_parse(p, (size_t)len / 2, &part) == 0);
    check_view(header.authority, p, (size_t)len);
    check_view(header.alpn, p, (size_t)len);
    check_view(header.unique_id, p, (size_t)len);
    check_view(header.tls_version, p, (size_t)len);
    check_view(header.client_cn, p, (size_t)len);
    if (header.is_local) {
        INVARIANT(header.source.ss_family == AF_UNSPEC);
    } else {
        check_back(&header);
    }
    return 0;
}
