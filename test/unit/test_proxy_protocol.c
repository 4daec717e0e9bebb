// SPDX-License-Identifier: MIT
// PROXY headers: what is accepted, what is refused, whole and byte by byte; what is written reads back.
#include "base/buf.h"
#include "net/address.h"
#include "net/proxy_protocol.h"
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define ADDRESSES \
    "\x0a\x00\x00\x01\xc0\x00\x02\x02\x30\x39\x01\xbb" // 10.0.0.1:12345, 192.0.2.2:443

// Parsed at its exact length on the heap, so that a read past it is seen.
static ptrdiff_t parse(struct str bytes, struct proxy_header *out)
{
    char *copy = malloc(bytes.len == 0 ? 1 : bytes.len);
    assert_non_null(copy);
    memcpy(copy, bytes.p, bytes.len);
    ptrdiff_t result = proxy_header_parse(copy, bytes.len, out);
    free(copy);
    return result;
}

// Every part of it asks for more, all of it and more behind it give its length.
static void check_whole(struct str header)
{
    struct proxy_header out;
    for (size_t len = 0; len < header.len; len++) {
        assert_int_equal(parse(str_sub(header, 0, len), &out), 0);
    }
    assert_int_equal(parse(header, &out), header.len);
    struct buf more;
    buf_init(&more, 0);
    buf_put(&more, header);
    buf_put(&more, STR("GET / HTTP/1.1\r\n"));
    assert_int_equal(parse(buf_str(&more), &out), header.len);
    buf_fini(&more);
}

// Refused at the latest when all of it is there.
static void check_bad(struct str header)
{
    struct proxy_header out;
    for (size_t len = 0; len <= header.len; len++) {
        ptrdiff_t result = parse(str_sub(header, 0, len), &out);
        assert_true(result <= 0);
        if (result < 0) {
            return;
        }
    }
    fail_msg("accepted or waiting: %.*s", STR_ARG(header));
}

static void check_address(const struct sockaddr_storage *address, const char *text)
{
    char got[NET_ADDRESS_TEXT_MAX];
    net_format_address(address, got, sizeof got);
    assert_string_equal(got, text);
}

static void test_v1(void **state)
{
    (void)state;
    struct proxy_header out;
    struct str four = STR("PROXY TCP4 10.0.0.1 192.0.2.2 12345 443\r\n");
    check_whole(four);
    assert_int_equal(proxy_header_parse(four.p, four.len, &out), four.len);
    assert_int_equal(out.version, 1);
    assert_false(out.is_local);
    check_address(&out.source, "10.0.0.1:12345");
    check_address(&out.destination, "192.0.2.2:443");
    struct str six = STR("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n");
    check_whole(six);
    assert_int_equal(proxy_header_parse(six.p, six.len, &out), six.len);
    check_address(&out.source, "[2001:db8::1]:0");
    check_address(&out.destination, "[::1]:65535");
    check_whole(STR("PROXY UNKNOWN\r\n"));
    struct str longest = STR("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                             "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n");
    assert_int_equal(longest.len, PROXY_V1_MAX);
    check_whole(longest);
    assert_int_equal(proxy_header_parse(longest.p, longest.len, &out), longest.len);
    assert_true(out.is_local);
    assert_int_equal(out.source.ss_family, 0);
}

static void test_v1_malformed(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "GET / HTTP/1.1\r\n",
        "proxy TCP4 10.0.0.1 192.0.2.2 12345 443\r\n",
        "PROXY  TCP4 10.0.0.1 192.0.2.2 12345 443\r\n",
        "PROXY TCP4  10.0.0.1 192.0.2.2 12345 443\r\n",
        "PROXY TCP4 10.0.0.1 192.0.2.2 12345 443 \r\n",
        "PROXY TCP4 10.0.0.1 192.0.2.2 12345 443\n",
        "PROXY TCP4 10.0.0.1 192.0.2.2 12345\r\n",
        "PROXY TCP4 10.0.0.1 192.0.2.2 12345 443 1\r\n",
        "PROXY TCP4 10.0.0.1 192.0.2.2 012345 443\r\n",
        "PROXY TCP4 10.0.0.1 192.0.2.2 65536 443\r\n",
        "PROXY TCP4 10.0.0.1 192.0.2.2 +1 443\r\n",
        "PROXY TCP4 10.0.0.1 192.0.2.2 1 00\r\n",
        "PROXY TCP4 10.0.0.01 192.0.2.2 1 1\r\n",
        "PROXY TCP4 10.0.0 192.0.2.2 1 1\r\n",
        "PROXY TCP4 ::1 ::1 1 1\r\n",
        "PROXY TCP6 10.0.0.1 192.0.2.2 1 1\r\n",
        "PROXY TCP5 10.0.0.1 192.0.2.2 1 1\r\n",
        "PROXY UDP4 10.0.0.1 192.0.2.2 1 1\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_bad(str_from_c(rows[i]));
    }
    check_bad(STR("PROXY TCP4 10.0.0.1\0 192.0.2.2 1 1\r\n"));
    // One byte too long.
    check_bad(STR("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 655355\r\n"));
}

// A v2 header of these parts, its length filled in.
static struct str v2(struct buf *to, unsigned command, unsigned family, struct str body)
{
    buf_clear(to);
    buf_put(to, STR(SIGNATURE));
    buf_put_char(to, (char)command);
    buf_put_char(to, (char)family);
    buf_put_char(to, (char)(body.len >> 8));
    buf_put_char(to, (char)body.len);
    buf_put(to, body);
    return buf_str(to);
}

static void test_v2(void **state)
{
    (void)state;
    struct buf buf;
    struct proxy_header out;
    buf_init(&buf, 0);
    struct str four = v2(&buf, 0x21, 0x11, STR(ADDRESSES));
    check_whole(four);
    assert_int_equal(proxy_header_parse(four.p, four.len, &out), four.len);
    assert_int_equal(out.version, 2);
    check_address(&out.source, "10.0.0.1:12345");
    check_address(&out.destination, "192.0.2.2:443");
    char six[36] = {[0] = 0x20, [1] = 1, [15] = 7, [31] = 1, [32] = 0, [33] = 80, [35] = 81};
    struct str header = v2(&buf, 0x21, 0x21, str_make(six, sizeof six));
    check_whole(header);
    assert_int_equal(proxy_header_parse(header.p, header.len, &out), header.len);
    check_address(&out.source, "[2001::7]:80");
    check_address(&out.destination, "[::1]:81");
    char unix_paths[216] = "/a";
    header = v2(&buf, 0x21, 0x31, str_make(unix_paths, sizeof unix_paths));
    check_whole(header);
    assert_int_equal(proxy_header_parse(header.p, header.len, &out), header.len);
    assert_int_equal(out.source.ss_family, 0);
    assert_false(out.is_local);
    check_whole(v2(&buf, 0x21, 0x12, STR(ADDRESSES))); // a datagram's addresses are addresses
    check_whole(v2(&buf, 0x21, 0x00, STR_NULL));
    // LOCAL: whatever follows is passed over.
    header = v2(&buf, 0x20, 0xff, STR("anything"));
    check_whole(header);
    assert_int_equal(proxy_header_parse(header.p, header.len, &out), header.len);
    assert_true(out.is_local);
    buf_fini(&buf);
}

static void test_v2_malformed(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 0);
    check_bad(v2(&buf, 0x11, 0x11, STR(ADDRESSES)));
    check_bad(v2(&buf, 0x31, 0x11, STR(ADDRESSES)));
    check_bad(v2(&buf, 0x22, 0x11, STR(ADDRESSES)));
    check_bad(v2(&buf, 0x21, 0x13, STR(ADDRESSES)));
    check_bad(v2(&buf, 0x21, 0x41, STR(ADDRESSES)));
    check_bad(v2(&buf, 0x21, 0x11, STR("\x0a\x00\x00\x01\xc0\x00\x02\x02\x30\x39\x01")));
    check_bad(v2(&buf, 0x21, 0x21, STR(ADDRESSES)));
    check_bad(v2(&buf, 0x21, 0x31, STR(ADDRESSES)));
    // TLVs: cut in the head, cut in the value, a unique id too long, an SSL part too short.
    check_bad(v2(&buf, 0x21, 0x11, STR(ADDRESSES "\x02")));
    check_bad(v2(&buf, 0x21, 0x11, STR(ADDRESSES "\x02\x00")));
    check_bad(v2(&buf, 0x21, 0x11, STR(ADDRESSES "\x02\x00\x01")));
    check_bad(v2(&buf, 0x21, 0x11,
                 STR(ADDRESSES "\x02\x00\x03"
                               "ab")));
    check_bad(v2(&buf, 0x21, 0x11, STR(ADDRESSES "\x20\x00\x04\x01\x00\x00\x00")));
    check_bad(v2(&buf, 0x21, 0x11, STR(ADDRESSES "\x20\x00\x07\x01\x00\x00\x00\x00\x21\x00")));
    check_bad(v2(&buf, 0x21, 0x11, STR(ADDRESSES "\x20\x00\x09\x01\x00\x00\x00\x00\x21\x00\x02x")));
    char unique[15 + 129] = ADDRESSES "\x05\x00\x81";
    check_bad(v2(&buf, 0x21, 0x11, str_make(unique, sizeof unique)));
    check_bad(v2(&buf, 0x21, 0x11, STR(ADDRESSES "\x03\x00\x04\x00\x00\x00\x01")));
    check_bad(v2(&buf, 0x21, 0x11, STR(ADDRESSES "\x03\x00\x03\x00\x00\x00")));
    // Longer than is taken: refused as soon as it says so.
    char *large = calloc(1, PROXY_HEADER_MAX);
    struct proxy_header out;
    struct str header = v2(&buf, 0x21, 0x11, str_make(large, PROXY_HEADER_MAX - 15));
    assert_int_equal(parse(str_sub(header, 0, 16), &out), ERR_LIMIT);
    free(large);
    buf_fini(&buf);
}

static void test_v2_tlvs(void **state)
{
    (void)state;
    struct buf buf;
    struct proxy_header out;
    buf_init(&buf, 0);
    struct str header = v2(&buf, 0x21, 0x11,
                           STR(ADDRESSES "\x01\x00\x02h2"
                                         "\x02\x00\x01"
                                         "a"
                                         "\xee\x00\x03???"
                                         "\x04\x00\x00"
                                         "\x05\x00\x02id"
                                         "\x20\x00\x13\x03\x00\x00\x00\x00"
                                         "\x21\x00\x07TLSv1.3"
                                         "\x99\x00\x01."));
    check_whole(header);
    assert_int_equal(proxy_header_parse(header.p, header.len, &out), header.len);
    assert_true(str_eq(out.alpn, STR("h2")));
    assert_true(str_eq(out.authority, STR("a")));
    assert_true(str_eq(out.unique_id, STR("id")));
    assert_true(out.is_tls && out.has_client_cert);
    assert_true(str_eq(out.tls_version, STR("TLSv1.3")));
    // A certificate that was not verified is none.
    header = v2(&buf, 0x21, 0x11, STR(ADDRESSES "\x20\x00\x05\x07\x00\x00\x00\x01"));
    assert_int_equal(proxy_header_parse(header.p, header.len, &out), header.len);
    assert_true(out.is_tls && !out.has_client_cert);
    buf_fini(&buf);
}

static void test_checksum(void **state)
{
    (void)state;
    struct buf buf;
    struct proxy_header out;
    buf_init(&buf, 0);
    struct str fixed =
        v2(&buf, 0x21, 0x11, STR(ADDRESSES "\x03\x00\x04\x68\x29\xc7\x0e")); // by other code
    assert_int_equal(parse(fixed, &out), fixed.len);
    char written[PROXY_HEADER_MAX];
    struct proxy_header header = {.version = 2, .authority = STR("a.example")};
    size_t len = proxy_header_write(&header, written, sizeof written);
    assert_true(len > 0);
    assert_int_equal(parse(str_make(written, len), &out), len);
    // Any bit of it that changes is noticed.
    for (size_t i = 16; i < len; i++) {
        if (i == len - 7) {
            continue; // the type of the sum: it would be another TLV
        }
        written[i] ^= 4;
        assert_int_equal(parse(str_make(written, len), &out), ERR_SYNTAX);
        written[i] ^= 4;
    }
    buf_fini(&buf);
}

static struct sockaddr_storage address(const char *text)
{
    struct sockaddr_storage storage;
    socklen_t len;
    assert_int_equal(net_parse_listen(str_from_c(text), &storage, &len), 0);
    return storage;
}

// IPv4 and IPv6 mapped are one.
static void check_same(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    struct in6_addr in6[2];
    net_peer_in6(a, &in6[0]);
    net_peer_in6(b, &in6[1]);
    assert_memory_equal(&in6[0], &in6[1], sizeof in6[0]);
    assert_int_equal(net_port(a), net_port(b));
}

static void check_back(const struct proxy_header *header)
{
    char written[PROXY_HEADER_MAX];
    struct proxy_header out;
    size_t len = proxy_header_write(header, written, sizeof written);
    assert_true(len > 0);
    check_whole(str_make(written, len));
    assert_int_equal(proxy_header_parse(written, len, &out), len);
    assert_int_equal(out.version, header->version);
    check_same(&out.source, &header->source);
    check_same(&out.destination, &header->destination);
    bool is_pair = header->source.ss_family == header->destination.ss_family;
    assert_int_equal(out.source.ss_family, is_pair ? header->source.ss_family : AF_INET6);
    if (header->version == 2) {
        assert_true(str_eq(out.authority, header->authority));
        assert_true(str_eq(out.alpn, header->alpn));
        assert_true(str_eq(out.unique_id, header->unique_id));
        assert_int_equal(out.is_tls, header->is_tls);
        assert_int_equal(out.has_client_cert, header->has_client_cert);
        assert_true(str_eq(out.client_cn, header->client_cn));
        assert_true(str_eq(out.tls_version, header->tls_version));
    }
    // Exactly as much room as is needed, and a byte less.
    if (header->version == 2) {
        assert_int_equal(proxy_header_write(header, written, len), len);
        assert_int_equal(proxy_header_write(header, written, len - 1), 0);
    }
}

static void test_write(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"10.0.0.1:1", "192.0.2.2:443"},
        {"[2001:db8::1]:65535", "[::1]:80"},
        {"10.0.0.1:1", "[::1]:80"},
        {"[2001:db8::1]:0", "192.0.2.2:443"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct proxy_header header = {
            .version = 1, .source = address(pairs[i][0]), .destination = address(pairs[i][1])};
        check_back(&header);
        header.version = 2;
        check_back(&header);
        header.authority = STR("shop.example");
        header.alpn = STR("h2");
        header.unique_id = STR("0123456789");
        check_back(&header);
        header.is_tls = true;
        check_back(&header);
        header.has_client_cert = true;
        header.tls_version = STR("TLSv1.3");
        header.client_cn = STR("alice");
        check_back(&header);
    }
    char text[128];
    struct proxy_header unknown = {.version = 1};
    assert_int_equal(proxy_header_write(&unknown, text, sizeof text), 15);
    assert_memory_equal(text, "PROXY UNKNOWN\r\n", 15);
    assert_int_equal(proxy_header_write(&unknown, text, 8), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v1),      cmocka_unit_test(test_v1_malformed),
        cmocka_unit_test(test_v2),      cmocka_unit_test(test_v2_malformed),
        cmocka_unit_test(test_v2_tlvs), cmocka_unit_test(test_checksum),
        cmocka_unit_test(test_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
