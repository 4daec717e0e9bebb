// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "http/h1/h1_parse.h"

struct decoded {
    int end; // the last event or error
    size_t used;
    char data[4096];
    size_t len;
};

// Feeds the text in pieces: the first of `first` bytes, the others of `step` bytes.
static struct decoded decode(struct str text, size_t first, size_t step)
{
    struct h1_chunked chunked;
    h1_chunked_init(&chunked);
    struct decoded result = {.end = H1_CHUNKED_MORE};
    size_t piece = first;
    for (size_t at = 0; at < text.len;) {
        struct str in = str_sub(text, at, piece);
        while (in.len > 0) {
            size_t used = 0;
            struct str data;
            result.end = h1_chunked_next(&chunked, in.p, in.len, &used, &data);
            assert_true(used <= in.len);
            result.used += used;
            if (result.end < 0 || result.end == H1_CHUNKED_TRAILERS) {
                return result;
            }
            if (result.end == H1_CHUNKED_DATA) {
                assert_true(data.len > 0 && data.p >= in.p && data.p + data.len == in.p + used);
                assert_true(result.len + data.len <= sizeof(result.data));
                memcpy(result.data + result.len, data.p, data.len);
                result.len += data.len;
            } else {
                assert_int_equal(used, in.len);
            }
            in = str_from(in, used);
        }
        at += piece;
        piece = step;
    }
    return result;
}

static struct decoded decode_all_ways(struct str text)
{
    struct decoded whole = decode(text, text.len, 1);
    struct decoded bytes = decode(text, 1, 1);
    for (size_t first = 1; first <= text.len; first++) {
        struct decoded split = decode(text, first, text.len);
        assert_int_equal(split.end < 0, whole.end < 0);
        assert_true(whole.end >= 0 || split.end == whole.end);
        assert_int_equal(split.used, whole.used);
        assert_int_equal(split.len, whole.len);
        assert_memory_equal(split.data, whole.data, whole.len);
    }
    assert_int_equal(bytes.used, whole.used);
    assert_int_equal(bytes.len, whole.len);
    assert_memory_equal(bytes.data, whole.data, whole.len);
    return whole;
}

#define S(text)                   \
    {                             \
        "" text, sizeof(text) - 1 \
    }

static void test_good(void **state)
{
    (void)state;
    static const struct {
        struct str text;
        struct str data;
    } cases[] = {
        {S("0\r\n"), S("")},
        {S("5\r\nhello\r\n0\r\n"), S("hello")},
        {S("5\r\nhello\r\n1\r\n!\r\n0000\r\n"), S("hello!")},
        {S("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n"), S("01234567890123456789")},
        {S("3\r\n\r\n0\r\n0\r\n"), S("\r\n0")},
        {S("0000000000000001\r\nx\r\n0\r\n"), S("x")},
        {S("1;a\r\nx\r\n0;b=c\r\n"), S("x")},
        {S("1 ; a = \"q; \\\" \t\xff\" ;b\r\nx\r\n0\r\n"), S("x")},
        {S("1;a\t=\tb;c=\"\"\r\nx\r\n0\r\n"), S("x")},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[256];
        size_t len = cases[i].text.len;
        memcpy(text, cases[i].text.p, len);
        memcpy(text + len, "T: v\r\n\r\n", 8); // what follows is not touched
        struct decoded got = decode_all_ways(str_make(text, len + 8));
        if (got.end != H1_CHUNKED_TRAILERS || got.used != len ||
            !str_eq(str_make(got.data, got.len), cases[i].data)) {
            fail_msg("%.*s: %d", STR_ARG(cases[i].text), got.end);
        }
    }
}

static void test_bad(void **state)
{
    (void)state;
    static const struct {
        struct str text;
        int err;
    } cases[] = {
        {S("\r\n"), ERR_CHUNK_SIZE},
        {S(" 5\r\n"), ERR_CHUNK_SIZE},
        {S("+5\r\n"), ERR_CHUNK_SIZE},
        {S("-5\r\n"), ERR_CHUNK_SIZE},
        {S("0x5\r\n"), ERR_CHUNK_SIZE},
        {S("5g\r\n"), ERR_CHUNK_SIZE},
        {S("5_0\r\n"), ERR_CHUNK_SIZE},
        {S("5,\r\n"), ERR_CHUNK_SIZE},
        {S("5\n"), ERR_CHUNK_SIZE},
        {S("5\0\r\n"), ERR_CHUNK_SIZE},
        {S(";a\r\n"), ERR_CHUNK_SIZE},
        {S("5\rx"), ERR_CHUNK_SIZE},
        {S("5\r\r\n"), ERR_CHUNK_SIZE},
        {S("10000000000000005\r\n"), ERR_CHUNK_SIZE},
        {S("00000000000000005\r\n"), ERR_CHUNK_SIZE},
        {S("ffffffffffffffff\r\n"), ERR_CHUNK_SIZE},
        {S("8000000000000000\r\n"), ERR_CHUNK_SIZE},
        {S("5 \r\n"), ERR_CHUNK_EXTENSION},
        {S("5 5\r\n"), ERR_CHUNK_EXTENSION},
        {S("5;\r\n"), ERR_CHUNK_EXTENSION},
        {S("5;;a\r\n"), ERR_CHUNK_EXTENSION},
        {S("5;a=\r\n"), ERR_CHUNK_EXTENSION},
        {S("5;=a\r\n"), ERR_CHUNK_EXTENSION},
        {S("5;a=b=c\r\n"), ERR_CHUNK_EXTENSION},
        {S("5;a \r\n"), ERR_CHUNK_EXTENSION},
        {S("5;a b\r\n"), ERR_CHUNK_EXTENSION},
        {S("5;a=b \r\n"), ERR_CHUNK_EXTENSION},
        {S("5;a\n"), ERR_CHUNK_EXTENSION},
        {S("5;a=\"x\ny\"\r\n"), ERR_CHUNK_EXTENSION},
        {S("5;a=\"x\r\n"), ERR_CHUNK_EXTENSION},
        {S("5;a=\"x\\\n\"\r\n"), ERR_CHUNK_EXTENSION},
        {S("5;a=\"x\"y\r\n"), ERR_CHUNK_EXTENSION},
        {S("5;a\0\r\n"), ERR_CHUNK_EXTENSION},
        {S("5;a\xe4\r\n"), ERR_CHUNK_EXTENSION},
        {S("5;a\rx"), ERR_CHUNK_SIZE},
        {S("1\r\nxy\r\n"), ERR_CHUNK_END},
        {S("1\r\nx\n"), ERR_CHUNK_END},
        {S("1\r\nx\r0"), ERR_CHUNK_END},
        {S("1\r\nx0\r\n"), ERR_CHUNK_END},
        {S("1\r\nx\r\n\r\n"), ERR_CHUNK_SIZE},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct decoded got = decode_all_ways(cases[i].text);
        if (got.end != cases[i].err) {
            fail_msg("%.*s: %s", STR_ARG(cases[i].text), err_token(got.end));
        }
    }
}

static void test_bounds(void **state)
{
    (void)state;
    char text[2 * H1_CHUNK_EXTENSION_MAX + 64];
    memset(text, 'a', sizeof(text));
    memcpy(text, "1;", 2);
    memcpy(text + 1 + H1_CHUNK_EXTENSION_MAX, "\r\nx\r\n0\r\n", 8);
    // The semicolon is the size's; the name and the CR behind it are counted.
    struct decoded got = decode_all_ways(str_make(text, H1_CHUNK_EXTENSION_MAX + 9));
    assert_int_equal(got.end, H1_CHUNKED_TRAILERS);
    memset(text + 2, 'a', sizeof(text) - 2);
    assert_int_equal(decode_all_ways(str_make(text, sizeof(text))).end, ERR_CHUNK_EXTENSION);
    // The bound is per chunk.
    size_t len = 0;
    for (int i = 0; i < 3; i++) {
        len += str_copy(text + len, sizeof(text) - len, STR("1;"));
        memset(text + len, 'a', H1_CHUNK_EXTENSION_MAX / 2);
        len += H1_CHUNK_EXTENSION_MAX / 2;
        len += str_copy(text + len, sizeof(text) - len, STR("\r\nx\r\n"));
    }
    assert_int_equal(decode_all_ways(str_make(text, len)).len, 3);

    struct h1_chunked chunked;
    h1_chunked_init(&chunked);
    size_t used;
    struct str data;
    struct str big = STR("7fffffffffffffff\r\nab");
    assert_int_equal(h1_chunked_next(&chunked, big.p, big.len, &used, &data), H1_CHUNKED_DATA);
    assert_int_equal(data.len, 2);
    assert_true(chunked.left == INT64_MAX - 2);
    assert_int_equal(h1_chunked_next(&chunked, big.p, 0, &used, &data), H1_CHUNKED_MORE);
    assert_int_equal(used, 0);
}

static ptrdiff_t trailers(struct str text, struct http_field *fields, unsigned *count)
{
    ptrdiff_t whole = h1_parse_trailers(text.p, text.len, 8, fields, count);
    for (size_t len = 0; len < text.len; len++) {
        ptrdiff_t part = h1_parse_trailers(text.p, len, 8, fields, count);
        assert_true(part == 0 || part == whole);
        assert_true(whole <= 0 || part == (len < (size_t)whole ? 0 : whole));
    }
    return h1_parse_trailers(text.p, text.len, 8, fields, count);
}

static void test_trailers(void **state)
{
    (void)state;
    struct http_field fields[8];
    unsigned count;
    assert_int_equal(trailers(STR("\r\nGET"), fields, &count), 2);
    assert_int_equal(count, 0);
    struct str all = STR("grpc-status: 0\r\nHost: x\r\nContent-Length: 5\r\nETag: \"e\"\r\n"
                         "X_Real_IP: 1\r\nrange: x\r\nX-Sum: \xff\r\n\r\n");
    assert_int_equal(trailers(all, fields, &count), all.len);
    assert_int_equal(count, 3);
    assert_true(str_eq(fields[0].name, STR("grpc-status")));
    assert_true(str_eq(fields[1].name, STR("ETag")));
    assert_true(str_eq(fields[2].value, STR("\xff")));
    static const char *const bad[] = {" a: b\r\n\r\n", "a : b\r\n\r\n",      "a\r\n\r\n",
                                      "a: b\n\r\n",    "a: b\r\n c\r\n\r\n", "\n",
                                      "\rx",           ": b\r\n\r\n",        "a: \x01\r\n\r\n",
                                      "0\r\n\r\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(trailers(str_from_c(bad[i]), fields, &count), ERR_TRAILER);
    }
    assert_int_equal(
        trailers(STR("a:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\n\r\n"), fields, &count),
        ERR_TOO_MANY_FIELDS);
    static char big[H1_TRAILER_MAX + 10];
    memset(big, 'a', sizeof(big));
    big[1] = ':';
    assert_int_equal(h1_parse_trailers(big, sizeof(big), 8, fields, &count), ERR_HEAD_TOO_LARGE);
    assert_int_equal(h1_parse_trailers(big, H1_TRAILER_MAX, 8, fields, &count), ERR_HEAD_TOO_LARGE);
    assert_int_equal(h1_parse_trailers(big, H1_TRAILER_MAX - 1, 8, fields, &count), 0);
    memcpy(big + H1_TRAILER_MAX - 4, "\r\n\r\n", 4);
    assert_int_equal(h1_parse_trailers(big, sizeof(big), 8, fields, &count), H1_TRAILER_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_trailers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
