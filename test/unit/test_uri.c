// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "http/uri.h"

static struct str view(const char *text)
{
    return str_from_c(text);
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void test_split(void **state)
{
    (void)state;
    static const struct {
        const char *target, *scheme, *authority, *path, *query;
    } cases[] = {
        {"/", "", "", "/", ""},
        {"/a/b?c=d?e", "", "", "/a/b", "?c=d?e"},
        {"/?", "", "", "/", "?"},
        {"//h/p", "", "", "//h/p", ""},
        {"/%41%2f%zz", NULL, NULL, NULL, NULL},
        {"/%41%2F", "", "", "/%41%2F", ""},
        {"/a?%zz&%4", "", "", "/a", "?%zz&%4"},
        {"/a?b|c^d`{e}", "", "", "/a", "?b|c^d`{e}"},
        {"/a\\b", "", "", "/a\\b", ""},
        {"/~!$&'()*+,;=:@-._[]", "", "", "/~!$&'()*+,;=:@-._[]", ""},
        {"http://h", "http", "h", "/", ""},
        {"http://h?q", "http", "h", "/", "?q"},
        {"HTTP://H:80/p?q", "HTTP", "H:80", "/p", "?q"},
        {"https://[::1]:8443/", "https", "[::1]:8443", "/", ""},
        {"http://h/http://g", "http", "h", "/http://g", ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct uri_target out;
        int err = uri_split_target(view(cases[i].target), false, &out);
        if (cases[i].scheme == NULL) {
            assert_int_equal(err, ERR_TARGET);
            continue;
        }
        if (err != 0 || !str_eq(out.scheme, view(cases[i].scheme)) ||
            !str_eq(out.authority, view(cases[i].authority)) ||
            !str_eq(out.path, view(cases[i].path)) || !str_eq(out.query, view(cases[i].query))) {
            fail_msg("%s", cases[i].target);
        }
    }
}

static void test_split_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "a",
                                      "a/b",
                                      "?q",
                                      "*",
                                      "**",
                                      "*/",
                                      "/a#b",
                                      "/a?b#c",
                                      "/a b",
                                      "/a\tb",
                                      "/\x7f",
                                      "/\xc3\xa4",
                                      "/a?\xff",
                                      "/a\"",
                                      "/<",
                                      "/>",
                                      "/^",
                                      "/`",
                                      "/{",
                                      "/|",
                                      "/}",
                                      "/a?\"",
                                      "/a?<",
                                      "/a? ",
                                      "/%",
                                      "/%4",
                                      "/%4g",
                                      "/%g4",
                                      "/%zz?q",
                                      "http:",
                                      "http:/h",
                                      "http://",
                                      "http:///p",
                                      "http://?q",
                                      "http://u@h/",
                                      "http://u:p@h/",
                                      "http://h:0/",
                                      "http://h:99999/",
                                      "http://h:1x/",
                                      "http://h\\p",
                                      "http://a b/",
                                      "http://h#f",
                                      "http://[::1/",
                                      "http://[::1]x/",
                                      "ftp://h/",
                                      "ws://h/",
                                      "httpss://h/",
                                      "h:80",
                                      "h:443/p",
                                      "javascript:x",
                                      "http://h/%",
                                      "http://h..g/"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct uri_target out;
        if (uri_split_target(view(bad[i]), false, &out) != ERR_TARGET) {
            fail_msg("%s", bad[i]);
        }
    }
    struct uri_target out;
    assert_int_equal(uri_split_target(STR("*"), true, &out), 0);
    assert_true(str_eq(out.path, STR("*")));
    assert_int_equal(uri_split_target(STR("/a\0b"), false, &out), ERR_TARGET);
}

// NULL: refused.
static void check_normal(const char *path, bool loose, const char *expected)
{
    struct str in = view(path);
    char *out = malloc(in.len == 0 ? 1 : in.len);
    assert_non_null(out);
    size_t len = 0;
    int err = uri_normalise(in, loose, out, &len);
    if (expected == NULL ? err != ERR_TARGET
                         : err != 0 || !str_eq(str_make(out, len), view(expected))) {
        fail_msg("%s: %d, %.*s", path, err, (int)len, out);
    }
    free(out);
}

static void test_normalise(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"/", "/"},
                                           {"*", "*"},
                                           {"/a/b.c/d..e", "/a/b.c/d..e"},
                                           {"//", "//"},
                                           {"/a//b/", "/a//b/"},
                                           {"/.", "/"},
                                           {"/./", "/"},
                                           {"/..", "/"},
                                           {"/../", "/"},
                                           {"/../../a", "/a"},
                                           {"/a/.", "/a/"},
                                           {"/a/..", "/"},
                                           {"/a/../b", "/b"},
                                           {"/a/b/../../c", "/c"},
                                           {"/a/b/../c/./d", "/a/c/d"},
                                           {"/a//..", "/a/"},
                                           {"/a//../..", "/"},
                                           {"//..", "/"},
                                           {"/a/...", "/a/..."},
                                           {"/.a/..b/c.", "/.a/..b/c."},
                                           {"/a/%2e%2E/b", "/b"},
                                           {"/a/.%2e/b", "/b"},
                                           {"/%2e", "/"},
                                           {"/%61%7E%5F%2D", "/a~_-"},
                                           {"/%c3%a4%3a", "/%C3%A4%3A"},
                                           {"/%252e%252e/", "/%252e%252e/"},
                                           {"/a%20b%3F%23", "/a%20b%3F%23"},
                                           {"/a/..;/b", "/a/..;/b"},
                                           {"/mid/content=5/../6", "/mid/6"},
                                           {"/%0d%0A", "/%0D%0A"}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        check_normal(cases[i][0], false, cases[i][1]);
        check_normal(cases[i][0], true, cases[i][1]);
        check_normal(cases[i][1], false, cases[i][1]);
    }
    static const char *const bad[] = {"",   "a",   "a/b",  "?",    "**",
                                      "/%", "/%4", "/%zz", "/%00", "/a/%00b"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        check_normal(bad[i], false, NULL);
        check_normal(bad[i], true, NULL);
    }
    static const char *const loose[][2] = {{"/a%2fb", "/a%2Fb"},
                                           {"/a%5cb", "/a%5Cb"},
                                           {"/a\\b", "/a\\b"},
                                           {"/..%2f..", "/..%2F.."},
                                           {"/a/..\\b/../c", "/a/c"}};
    for (size_t i = 0; i < COUNT(loose); i++) {
        check_normal(loose[i][0], false, NULL);
        check_normal(loose[i][0], true, loose[i][1]);
    }
}

static void check_host(struct str text, const char *expected, unsigned expected_port)
{
    char out[URI_HOST_MAX + 1];
    size_t len = 0;
    unsigned port = 77;
    int err = uri_parse_host(text, out, &len, &port);
    if (expected == NULL) {
        if (err != ERR_HOST) {
            fail_msg("%.*s is not refused", STR_ARG(text));
        }
        return;
    }
    if (err != 0 || !str_eq(str_make(out, len), view(expected)) || out[len] != '\0' ||
        port != expected_port) {
        fail_msg("%.*s: %d", STR_ARG(text), err);
    }
}

static void test_host(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
        unsigned port;
    } good[] = {{"a", "a", 0},
                {"Shop.Example.COM:8080", "shop.example.com", 8080},
                {"a.", "a", 0},
                {"a.:1", "a", 1},
                {"a:", "a", 0},
                {"a:65535", "a", 65535},
                {"a:00080", "a", 80},
                {"my_host-1.x", "my_host-1.x", 0},
                {"-a-", "-a-", 0},
                {"xn--nxasmq6b", "xn--nxasmq6b", 0},
                {"127.0.0.1", "127.0.0.1", 0},
                {"127.0.0.1.", "127.0.0.1", 0},
                {"1a.2", "1a.2", 0},
                {"[::1]", "[::1]", 0},
                {"[0:0:0:0:0:0:0:1]:80", "[::1]", 80},
                {"[2001:DB8::A]", "[2001:db8::a]", 0},
                {"[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]", 0}};
    for (size_t i = 0; i < COUNT(good); i++) {
        check_host(view(good[i].text), good[i].host, good[i].port);
    }
    static const char *const bad[] = {"",           ".",
                                      "..",         ".a",
                                      "a..b",       "a..",
                                      ":",          ":80",
                                      "a:0",        "a:65536",
                                      "a:123456",   "a:+1",
                                      "a:-1",       "a:8 0",
                                      "a:80:80",    "a:b",
                                      "a b",        " a",
                                      "a ",         "a,b",
                                      "a/b",        "a\\b",
                                      "a?b",        "a#b",
                                      "a@b",        "u:p@h",
                                      "a\tb",       "a%41",
                                      "a!b",        "\xc3\xa4",
                                      "a\x7f",      "1.2.3",
                                      "1.2.3.4.5",  "256.1.1.1",
                                      "01.2.3.4",   "1",
                                      "[",          "[]",
                                      "[::1",       "::1",
                                      "[::1]]",     "[::1]a",
                                      "[::1].",     "[g::1]",
                                      "[1.2.3.4]",  "[::1%25eth0]",
                                      "[::1%eth0]", "[v1.a]",
                                      "[:::]",      "[1:2:3:4:5:6:7:8:9]",
                                      "*",          "*.a",
                                      "a;b",        "(a)"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        check_host(view(bad[i]), NULL, 0);
    }
    check_host(STR("a\0b"), NULL, 0);
    check_host(STR("[::1\0]"), NULL, 0);
}

static void test_host_limits(void **state)
{
    (void)state;
    char text[400];
    memset(text, 'a', sizeof(text));
    char expected[400];
    memcpy(expected, text, 63);
    expected[63] = '\0';
    check_host(str_make(text, 63), expected, 0);
    check_host(str_make(text, 64), NULL, 0); // a label
    for (size_t i = 0; i < sizeof(text); i += 2) {
        text[i] = 'b';
        text[i + 1] = '.';
    }
    memcpy(expected, text, 253);
    expected[253] = '\0';
    check_host(str_make(text, 253), expected, 0);
    check_host(str_make(text, 254), expected, 0); // with its final dot
    check_host(str_make(text, 255), NULL, 0);
    check_host(str_make(text, 400), NULL, 0);
}

static void test_decode(void **state)
{
    (void)state;
    char out[32];
    size_t len;
    assert_int_equal(uri_decode(STR("a%2Fb%00%2a%25"), out, &len), 0);
    assert_int_equal(len, 6);
    assert_memory_equal(out, "a/b\0*%", 6);
    assert_int_equal(uri_decode(STR(""), out, &len), 0);
    assert_int_equal(len, 0);
    assert_int_equal(uri_decode(STR("%"), out, &len), ERR_SYNTAX);
    assert_int_equal(uri_decode(STR("a%4"), out, &len), ERR_SYNTAX);
    assert_int_equal(uri_decode(STR("%g0"), out, &len), ERR_SYNTAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),       cmocka_unit_test(test_split_refused),
        cmocka_unit_test(test_normalise),   cmocka_unit_test(test_host),
        cmocka_unit_test(test_host_limits), cmocka_unit_test(test_decode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
