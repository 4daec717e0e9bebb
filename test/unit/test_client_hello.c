// SPDX-License-Identifier: MIT
// ClientHellos: built by hand and by OpenSSL, whole and in every cut, in records of any size; malformed ones.
#include "base/buf.h"
#include "net/client_hello.h"
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define BYTES(literal)               \
    {                                \
        literal, sizeof(literal) - 1 \
    }
#define RANDOM "0123456789abcdef0123456789abcdef"

// Parsed at its exact length on the heap, so that a read past it is seen.
static int parse(struct str bytes, struct client_hello *out)
{
    char *copy = malloc(bytes.len == 0 ? 1 : bytes.len);
    assert_non_null(copy);
    memcpy(copy, bytes.p, bytes.len);
    int result = client_hello_parse(str_make(copy, bytes.len), out);
    free(copy);
    return result;
}

static void put16(struct buf *to, size_t number)
{
    buf_put_char(to, (char)(number >> 8));
    buf_put_char(to, (char)number);
}

static void put_extension(struct buf *to, unsigned type, struct str body)
{
    put16(to, type);
    put16(to, body.len);
    buf_put(to, body);
}

static void put_sni(struct buf *to, struct str name)
{
    put16(to, 0);
    put16(to, name.len + 5);
    put16(to, name.len + 3);
    buf_put_char(to, 0);
    put16(to, name.len);
    buf_put(to, name);
}

// The handshake message around these extensions.
static void put_message(struct buf *to, struct str extensions)
{
    struct buf body;
    buf_init(&body, 0);
    buf_put(&body, STR("\x03\x03" RANDOM "\x02id\x00\x02\x13\x01\x01\x00"));
    put16(&body, extensions.len);
    buf_put(&body, extensions);
    buf_put_char(to, 1);
    buf_put_char(to, (char)(body.len >> 16));
    put16(to, body.len & 0xffff);
    buf_put(to, buf_str(&body));
    buf_fini(&body);
}

// In records of at most `most` bytes.
static void put_records(struct buf *to, struct str message, size_t most)
{
    while (message.len > 0) {
        size_t len = message.len < most ? message.len : most;
        buf_put(to, STR("\x16\x03\x01"));
        put16(to, len);
        buf_put(to, str_sub(message, 0, len));
        message = str_from(message, len);
    }
}

static void check_cuts(struct str wire, const char *sni)
{
    struct client_hello hello;
    for (size_t len = 0; len < wire.len; len++) {
        assert_int_equal(parse(str_sub(wire, 0, len), &hello), 0);
    }
    assert_int_equal(parse(wire, &hello), 1);
    assert_string_equal(hello.sni, sni);
    assert_int_equal(hello.sni_len, strlen(sni));
}

static int parse_extensions(struct str extensions, struct client_hello *hello)
{
    struct buf message;
    struct buf wire;
    buf_init(&message, 0);
    buf_init(&wire, 0);
    put_message(&message, extensions);
    put_records(&wire, buf_str(&message), 16384);
    int result = parse(buf_str(&wire), hello);
    buf_fini(&message);
    buf_fini(&wire);
    return result;
}

static int parse_name(struct str name, struct client_hello *hello)
{
    struct buf extensions;
    buf_init(&extensions, 0);
    put_sni(&extensions, name);
    int result = parse_extensions(buf_str(&extensions), hello);
    buf_fini(&extensions);
    return result;
}

static void test_cuts(void **state)
{
    (void)state;
    struct buf extensions;
    struct buf message;
    struct buf wire;
    buf_init(&extensions, 0);
    buf_init(&message, 0);
    buf_init(&wire, 0);
    put_extension(&extensions, 0x5a5a, STR_NULL); // as browsers do (RFC 8701)
    put_sni(&extensions, STR("Shop.Example."));
    put_extension(&extensions, 16, STR("\x00\x0c\x08http/1.1\x02h2"));
    put_extension(&extensions, 43, STR("\x04\x03\x04\x03\x03"));
    put_message(&message, buf_str(&extensions));
    static const size_t sizes[] = {1, 2, 3, 4, 5, 7, 40, 100, 16384};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        buf_clear(&wire);
        put_records(&wire, buf_str(&message), sizes[i]);
        check_cuts(buf_str(&wire), "shop.example");
        struct client_hello hello;
        buf_put(&wire, STR("what follows is not looked at"));
        assert_int_equal(parse(buf_str(&wire), &hello), 1);
        assert_true(hello.offers_h2 && hello.offers_tls13);
    }
    buf_fini(&extensions);
    buf_fini(&message);
    buf_fini(&wire);
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *sni; // NULL: refused
    } rows[] = {
        {"a", "a"},
        {"A.B-c_1.example", "a.b-c_1.example"},
        {"xn--bcher-kva.example.", "xn--bcher-kva.example"},
        {"", NULL},
        // What no host can be called is no name.
        {"192.0.2.1", ""},
        {".", ""},
        {"a b", ""},
        {"a/b", ""},
        {"a:443", ""},
        {"*.example", ""},
        {"b\xc3\xbc"
         "cher.example",
         ""},
        {"a\r\nb", ""},
    };
    struct client_hello hello;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int result = parse_name(str_from_c(rows[i].name), &hello);
        assert_int_equal(result, rows[i].sni == NULL ? ERR_SYNTAX : 1);
        if (rows[i].sni != NULL) {
            assert_string_equal(hello.sni, rows[i].sni);
            assert_int_equal(hello.sni_len, strlen(rows[i].sni));
        }
    }
    assert_int_equal(parse_name(STR("a\0b"), &hello), 1);
    assert_int_equal(hello.sni_len, 0);
    char name[260];
    memset(name, 'a', sizeof name);
    assert_int_equal(parse_name(str_make(name, 253), &hello), 1);
    assert_int_equal(hello.sni_len, 253);
    assert_int_equal(parse_name(str_make(name, 254), &hello), 1);
    assert_int_equal(hello.sni_len, 0);
}

static void test_extensions(void **state)
{
    (void)state;
    struct client_hello hello;
    assert_int_equal(parse_extensions(STR_NULL, &hello), 1);
    assert_true(hello.sni_len == 0 && !hello.offers_h2 && !hello.offers_tls13);
#define SNI_A "\x00\x00\x00\x06\x00\x04\x00\x00\x01"
    assert_int_equal(parse_extensions(STR(SNI_A "a"), &hello), 1);
    assert_string_equal(hello.sni, "a");
    static const struct str bad[] = {
        BYTES(SNI_A "a" SNI_A "b"),                                  // twice
        BYTES("\x00\x00\x00\x0a\x00\x08\x00\x00\x01s\x00\x00\x01s"), // two names
        BYTES("\x00\x00\x00\x06\x00\x04\x01\x00\x01s"),              // of another kind
        BYTES("\x00\x00\x00\x06\x00\x05\x00\x00\x01s"),              // lengths that differ
        BYTES("\x00\x00\x00\x06\x00\x03\x00\x00\x01s"),
        BYTES("\x00\x00\x00\x06\x00\x04\x00\x00\x02s"),
        BYTES("\x00\x00\x00\x02\x00\x00"), // an empty list
        BYTES("\x00\x00\x00\x00"),         // an empty extension
        BYTES("\x00\x10\x00\x05\x00\x04\x02h2"),
        BYTES("\x00\x10\x00\x05\x00\x03\x03h2"),
        BYTES("\x00\x2b\x00\x04\x04\x03\x04\x03"),
        BYTES("\x00\x2b\x00\x04\x03\x03\x04\x03"),
        BYTES("\x00\x17\x00\x01"), // longer than all
        BYTES("\x00\x17\x00"),
        BYTES("\x00"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse_extensions(bad[i], &hello), ERR_SYNTAX);
    }
}

static void test_no_hello(void **state)
{
    (void)state;
    struct client_hello hello;
#define HEAD "\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03" RANDOM
    // Without extensions, as old clients are.
    assert_int_equal(parse(STR(HEAD "\x00\x00\x02\x13\x01\x01\x00"), &hello), 1);
    static const struct str bad[] = {
        BYTES("GET / HTTP/1.1\r\n"),
        BYTES("\x15\x03\x01\x00\x02\x02\x28"),                     // an alert
        BYTES("\x16\x02\x01\x00\x2d"),                             // no TLS
        BYTES("\x16\x03\x04\x00\x2d"),                             // no version of a record
        BYTES("\x16\x03\x01\x00\x00"),                             // an empty record
        BYTES("\x16\x03\x01\x40\x01"),                             // too long a record
        BYTES("\x16\x03\x01\x00\x04\x02\x00\x00\x00"),             // another message
        BYTES("\x16\x03\x01\x00\x01\x01\x17\x03\x01\x00\x01\x00"), // another record within
        BYTES(HEAD "\x21\x00\x02\x13\x01\x01\x00"),                // session id too long
        BYTES(HEAD "\x00\x00\x03\x13\x01\x01\x00"),                // an odd length
        BYTES(HEAD "\x00\x00\x00\x13\x01\x01\x00"),                // no cipher
        BYTES(HEAD "\x00\x00\x02\x13\x01\x00\x00"),                // no compression method
        BYTES(HEAD "\x00\x00\x02\x13\x01\x02\x00"),                // cut
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse(bad[i], &hello), ERR_SYNTAX);
    }
    assert_int_equal(parse(STR("\x80\x2e\x01\x00\x02"), &hello), ERR_SYNTAX); // SSL 2
}

static void test_limit(void **state)
{
    (void)state;
    struct buf extensions;
    struct buf message;
    struct buf wire;
    struct client_hello hello;
    buf_init(&extensions, 0);
    buf_init(&message, 0);
    buf_init(&wire, 0);
    // The largest: all of it one extension.
    size_t rest = CLIENT_HELLO_MAX - 4 - 2 - 32 - 3 - 4 - 2 - 2 - 4;
    char *filler = calloc(1, rest + 1);
    assert_non_null(filler);
    put_extension(&extensions, 21, str_make(filler, rest));
    put_message(&message, buf_str(&extensions));
    assert_int_equal(message.len, CLIENT_HELLO_MAX);
    put_records(&wire, buf_str(&message), 5000);
    assert_int_equal(parse(str_sub(buf_str(&wire), 0, wire.len - 1), &hello), 0);
    assert_int_equal(parse(buf_str(&wire), &hello), 1);
    // One byte more: refused as soon as it says so.
    buf_clear(&extensions);
    buf_clear(&message);
    buf_clear(&wire);
    put_extension(&extensions, 21, str_make(filler, rest + 1));
    put_message(&message, buf_str(&extensions));
    put_records(&wire, buf_str(&message), 5000);
    assert_int_equal(parse(str_sub(buf_str(&wire), 0, 9), &hello), ERR_LIMIT);
    free(filler);
    buf_fini(&extensions);
    buf_fini(&message);
    buf_fini(&wire);
}

static void test_real(void **state)
{
    (void)state;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(context);
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, in, out);
    assert_int_equal(SSL_set_tlsext_host_name(ssl, "Real.Example"), 1);
    assert_int_equal(SSL_set_alpn_protos(ssl, (const unsigned char *)"\x02h2", 3), 0);
    assert_int_equal(SSL_connect(ssl), -1);
    char *wire;
    long len = BIO_get_mem_data(out, &wire);
    assert_true(len > 0);
    check_cuts(str_make(wire, (size_t)len), "real.example");
    struct client_hello hello;
    assert_int_equal(parse(str_make(wire, (size_t)len), &hello), 1);
    assert_true(hello.offers_h2 && hello.offers_tls13);
    SSL_free(ssl);
    SSL_CTX_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts),       cmocka_unit_test(test_names),
        cmocka_unit_test(test_extensions), cmocka_unit_test(test_no_hello),
        cmocka_unit_test(test_limit),      cmocka_unit_test(test_real),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
