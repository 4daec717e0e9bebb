// SPDX-License-Identifier: MIT
#include "net/proxy_protocol.h"
#include "net/address.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const char signature[12] = "\r\n\r\n\0\r\nQUIT\n";

enum {
    V2_HEADER = 16,
    FAMILY_IN4 = 0x11, // over TCP
    FAMILY_IN6 = 0x21,
    IN4_LEN = 12,
    IN6_LEN = 36,
    UNIX_LEN = 216,
    TLV_ALPN = 0x01,
    TLV_AUTHORITY = 0x02,
    TLV_CRC32C = 0x03,
    TLV_UNIQUE_ID = 0x05,
    TLV_SSL = 0x20,
    SSL_VERSION = 0x21,
    SSL_CN = 0x22,
    CLIENT_SSL = 1, // bits of TLV_SSL's first byte
    CLIENT_CERT_CONN = 2,
    CLIENT_CERT_SESS = 4,
    UNIQUE_ID_MAX = 128,
};

// ---- version 1 ----

// Decimal without sign or leading zeros.
static bool parse_port(struct str text, uint16_t *port)
{
    uint64_t value;
    if (text.len == 0 || text.len > 5 || (text.len > 1 && text.p[0] == '0') ||
        str_to_u64(text, &value) != 0 || value > UINT16_MAX) {
        return false;
    }
    *port = (uint16_t)value;
    return true;
}

static bool set_address(struct sockaddr_storage *to, int family, const void *address, uint16_t port)
{
    memset(to, 0, sizeof *to);
    if (family == AF_INET) {
        struct sockaddr_in *in4 = (struct sockaddr_in *)to;
        in4->sin_family = AF_INET;
        in4->sin_port = htons(port);
        memcpy(&in4->sin_addr, address, sizeof in4->sin_addr);
    } else {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        memcpy(&in6->sin6_addr, address, sizeof in6->sin6_addr);
    }
    return true;
}

static bool parse_address(struct str text, struct str port_text, int family,
                          struct sockaddr_storage *to)
{
    char terminated[INET6_ADDRSTRLEN];
    unsigned char address[16];
    uint16_t port;
    if (text.len >= sizeof terminated || !parse_port(port_text, &port)) {
        return false;
    }
    str_copy(terminated, sizeof terminated, text);
    return strlen(terminated) == text.len && inet_pton(family, terminated, address) == 1 &&
           set_address(to, family, address, port);
}

// The words between single spaces. False: not exactly `count`.
static bool split(struct str line, struct str *words, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        size_t space = str_find_char(line, ' ');
        if ((space == SIZE_MAX) != (i == count - 1)) {
            return false;
        }
        words[i] = str_sub(line, 0, space == SIZE_MAX ? line.len : space);
        line = space == SIZE_MAX ? STR_NULL : str_from(line, space + 1);
    }
    return true;
}

static ptrdiff_t parse_v1(struct str bytes, struct proxy_header *out)
{
    struct str words[6];
    size_t end = str_find_char(str_sub(bytes, 0, PROXY_V1_MAX), '\n');
    if (end == SIZE_MAX) {
        return bytes.len < PROXY_V1_MAX ? 0 : ERR_SYNTAX;
    }
    if (bytes.p[--end] != '\r') {
        return ERR_SYNTAX;
    }
    struct str line = str_sub(bytes, 0, end);
    out->version = 1;
    if (str_eq(line, STR("PROXY UNKNOWN")) || str_starts(line, STR("PROXY UNKNOWN "))) {
        out->is_local = true;
        return (ptrdiff_t)end + 2;
    }
    if (!split(line, words, 6)) {
        return ERR_SYNTAX;
    }
    int family = str_eq(words[1], STR("TCP4"))   ? AF_INET
                 : str_eq(words[1], STR("TCP6")) ? AF_INET6
                                                 : 0;
    if (family == 0 || !parse_address(words[2], words[4], family, &out->source) ||
        !parse_address(words[3], words[5], family, &out->destination)) {
        return ERR_SYNTAX;
    }
    return (ptrdiff_t)end + 2;
}

// ---- version 2 ----

static unsigned number16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

// CRC32c (RFC 3720 B.4), bit by bit: a header comes once a connection.
static uint32_t crc_add(uint32_t crc, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        }
    }
    return crc;
}

// Of the whole header with the four bytes of the sum itself taken for zeros.
static uint32_t checksum(const uint8_t *header, size_t len, const uint8_t *sum)
{
    static const uint8_t zeros[4];
    size_t before = (size_t)(sum - header);
    uint32_t crc = crc_add(UINT32_MAX, header, before);
    crc = crc_add(crc, zeros, 4);
    return ~crc_add(crc, sum + 4, len - before - 4);
}

static struct str text_of(const uint8_t *p, size_t len)
{
    return str_make((const char *)p, len);
}

// The one after *at; false at the end, or (failed) when it goes over it.
static bool next_tlv(const uint8_t **at, const uint8_t *end, unsigned *type, struct str *value,
                     bool *failed)
{
    if (*at == end) {
        return false;
    }
    if (end - *at < 3 || (size_t)(end - *at - 3) < number16(*at + 1)) {
        *failed = true;
        return false;
    }
    *type = (*at)[0];
    *value = text_of(*at + 3, number16(*at + 1));
    *at += 3 + value->len;
    return true;
}

static bool parse_ssl(struct str body, struct proxy_header *out)
{
    if (body.len < 5) {
        return false;
    }
    const uint8_t *p = (const uint8_t *)body.p;
    const uint8_t *at = p + 5;
    uint32_t verify = (uint32_t)number16(p + 1) << 16 | number16(p + 3);
    unsigned type;
    struct str value;
    bool failed = false;
    out->is_tls = (p[0] & CLIENT_SSL) != 0;
    out->has_client_cert = (p[0] & (CLIENT_CERT_CONN | CLIENT_CERT_SESS)) != 0 && verify == 0;
    while (next_tlv(&at, p + body.len, &type, &value, &failed)) {
        if (type == SSL_VERSION) {
            out->tls_version = value;
        } else if (type == SSL_CN) {
            out->client_cn = value;
        }
    }
    return !failed;
}

static bool parse_tlvs(const uint8_t *header, size_t header_len, size_t from,
                       struct proxy_header *out)
{
    const uint8_t *at = header + from;
    unsigned type;
    struct str value;
    bool failed = false;
    while (!failed && next_tlv(&at, header + header_len, &type, &value, &failed)) {
        const uint8_t *p = (const uint8_t *)value.p;
        switch (type) {
        case TLV_ALPN:
            out->alpn = value;
            break;
        case TLV_AUTHORITY:
            out->authority = value;
            break;
        case TLV_UNIQUE_ID:
            failed = value.len > UNIQUE_ID_MAX;
            out->unique_id = value;
            break;
        case TLV_CRC32C:
            failed = value.len != 4 || checksum(header, header_len, p) !=
                                           ((uint32_t)number16(p) << 16 | number16(p + 2));
            break;
        case TLV_SSL:
            failed = !parse_ssl(value, out);
            break;
        default:
            break; // not for us
        }
    }
    return !failed;
}

static ptrdiff_t parse_v2(const uint8_t *p, size_t len, struct proxy_header *out)
{
    if (len < V2_HEADER) {
        return 0;
    }
    unsigned command = p[12] & 15;
    unsigned body_len = number16(p + 14);
    size_t whole = V2_HEADER + body_len;
    if (p[12] >> 4 != 2 || command > 1) {
        return ERR_SYNTAX;
    }
    if (whole > PROXY_HEADER_MAX) {
        return ERR_LIMIT;
    }
    if (len < whole) {
        return 0;
    }
    out->version = 2;
    out->is_local = command == 0;
    if (out->is_local) {
        return (ptrdiff_t)whole; // what it says is not to be looked at (2.2)
    }
    // Families and transports there may be: unspecified, IPv4, IPv6, unix; unspecified, stream, datagram.
    static const uint8_t address_lens[] = {0, IN4_LEN, IN6_LEN, UNIX_LEN};
    unsigned family = p[13] >> 4;
    if (family >= sizeof address_lens || (p[13] & 15) > 2) {
        return ERR_SYNTAX;
    }
    const uint8_t *body = p + V2_HEADER;
    size_t address_len = address_lens[family];
    if (body_len < address_len) {
        return ERR_SYNTAX;
    }
    if (address_len == IN4_LEN) {
        set_address(&out->source, AF_INET, body, (uint16_t)number16(body + 8));
        set_address(&out->destination, AF_INET, body + 4, (uint16_t)number16(body + 10));
    } else if (address_len == IN6_LEN) {
        set_address(&out->source, AF_INET6, body, (uint16_t)number16(body + 32));
        set_address(&out->destination, AF_INET6, body + 16, (uint16_t)number16(body + 34));
    }
    return parse_tlvs(p, whole, V2_HEADER + address_len, out) ? (ptrdiff_t)whole : ERR_SYNTAX;
}

ptrdiff_t proxy_header_parse(const char *p, size_t len, struct proxy_header *out)
{
    *out = (struct proxy_header){.version = 0};
    size_t of_v2 = len < sizeof signature ? len : sizeof signature;
    if (len == 0) {
        return 0;
    }
    if (memcmp(p, signature, of_v2) == 0) {
        return len < sizeof signature ? 0 : parse_v2((const uint8_t *)p, len, out);
    }
    struct str bytes = str_make(p, len);
    struct str start = STR("PROXY ");
    size_t of_v1 = len < start.len ? len : start.len;
    if (memcmp(p, start.p, of_v1) != 0) {
        return ERR_SYNTAX;
    }
    return len < start.len ? 0 : parse_v1(bytes, out);
}

// ---- writing ----

static bool is_ip(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET || address->ss_family == AF_INET6;
}

// What both addresses are written as; 0: they are not told. A client of IPv6 that another proxy names, which
// came by IPv4, makes a pair of IPv6.
static int family_of(const struct proxy_header *header)
{
    if (!is_ip(&header->source) || !is_ip(&header->destination)) {
        return 0;
    }
    return header->source.ss_family == header->destination.ss_family ? header->source.ss_family
                                                                     : AF_INET6;
}

// Returns its length.
static size_t address_bytes(const struct sockaddr_storage *address, int family, uint8_t to[16])
{
    struct in6_addr in6;
    net_peer_in6(address, &in6); // IPv4: mapped
    size_t from = family == AF_INET ? 12 : 0;
    memcpy(to, in6.s6_addr + from, 16 - from);
    return 16 - from;
}

static void address_text(const struct sockaddr_storage *address, int family,
                         char to[INET6_ADDRSTRLEN])
{
    uint8_t bytes[16];
    (void)address_bytes(address, family, bytes);
    inet_ntop(family, bytes, to, INET6_ADDRSTRLEN);
}

static size_t write_v1(const struct proxy_header *header, char *to, size_t size)
{
    char source[INET6_ADDRSTRLEN];
    char destination[INET6_ADDRSTRLEN];
    int family = family_of(header);
    int len;
    if (family != 0) {
        address_text(&header->source, family, source);
        address_text(&header->destination, family, destination);
        len = snprintf(to, size, "PROXY %s %s %s %u %u\r\n", family == AF_INET ? "TCP4" : "TCP6",
                       source, destination, net_port(&header->source),
                       net_port(&header->destination));
    } else {
        len = snprintf(to, size, "PROXY UNKNOWN\r\n");
    }
    return len > 0 && (size_t)len < size ? (size_t)len : 0;
}

struct writer {
    uint8_t *p;
    size_t len;
    size_t size;
    bool failed;
};

static void put(struct writer *w, const void *bytes, size_t len)
{
    if (w->size - w->len < len) {
        w->failed = true;
        return;
    }
    if (len > 0) {
        memcpy(w->p + w->len, bytes, len);
    }
    w->len += len;
}

static void put_tlv_head(struct writer *w, unsigned type, size_t len)
{
    const uint8_t head[3] = {(uint8_t)type, (uint8_t)(len >> 8), (uint8_t)len};
    w->failed = w->failed || len > UINT16_MAX;
    put(w, head, sizeof head);
}

static void put_text(struct writer *w, unsigned type, struct str text)
{
    if (text.len > 0) {
        put_tlv_head(w, type, text.len);
        put(w, text.p, text.len);
    }
}

static void put_ssl(struct writer *w, const struct proxy_header *header)
{
    if (!header->is_tls) {
        return;
    }
    size_t len = 5 + (header->tls_version.len > 0 ? 3 + header->tls_version.len : 0) +
                 (header->client_cn.len > 0 ? 3 + header->client_cn.len : 0);
    uint8_t client = CLIENT_SSL | (header->has_client_cert ? CLIENT_CERT_CONN : 0);
    const uint8_t head[5] = {client, 0, 0, 0, header->has_client_cert ? 0 : 1};
    put_tlv_head(w, TLV_SSL, len);
    put(w, head, sizeof head);
    put_text(w, SSL_VERSION, header->tls_version);
    put_text(w, SSL_CN, header->client_cn);
}

static void put_addresses(struct writer *w, const struct proxy_header *header, int family)
{
    if (family == 0) {
        return;
    }
    uint8_t bytes[16];
    uint16_t ports[2] = {htons(net_port(&header->source)), htons(net_port(&header->destination))};
    put(w, bytes, address_bytes(&header->source, family, bytes));
    put(w, bytes, address_bytes(&header->destination, family, bytes));
    put(w, ports, sizeof ports);
}

static size_t write_v2(const struct proxy_header *header, char *to, size_t size)
{
    static const uint8_t zeros[4];
    struct writer w = {(uint8_t *)to, 0, size, false};
    int family = family_of(header);
    uint8_t family_byte = family == AF_INET ? FAMILY_IN4 : family == AF_INET6 ? FAMILY_IN6 : 0;
    const uint8_t rest[4] = {0x21, family_byte, 0, 0};
    put(&w, signature, sizeof signature);
    put(&w, rest, sizeof rest);
    put_addresses(&w, header, family);
    put_text(&w, TLV_ALPN, header->alpn);
    put_text(&w, TLV_AUTHORITY, header->authority);
    put_text(&w, TLV_UNIQUE_ID, header->unique_id);
    put_ssl(&w, header);
    put_tlv_head(&w, TLV_CRC32C, 4);
    put(&w, zeros, sizeof zeros);
    size_t body_len = w.len - V2_HEADER;
    if (w.failed || w.len > PROXY_HEADER_MAX) {
        return 0;
    }
    w.p[14] = (uint8_t)(body_len >> 8);
    w.p[15] = (uint8_t)body_len;
    uint32_t sum = htonl(checksum(w.p, w.len, w.p + w.len - 4));
    memcpy(w.p + w.len - 4, &sum, sizeof sum);
    return w.len;
}

size_t proxy_header_write(const struct proxy_header *header, char *to, size_t size)
{
    return header->version == 1 ? write_v1(header, to, size) : write_v2(header, to, size);
}
