// SPDX-License-Identifier: MIT
#include "model/declaration.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <sys/un.h>

struct expected {
    const char *text;
    const char *canonical;
    const char *host;
    unsigned port;
    int family; // 0: a name
    enum target_scheme scheme;
};

static void test_accepted(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        {"10.0.0.5:8080", "10.0.0.5:8080", "10.0.0.5", 8080, AF_INET, TARGET_HTTP},
        {"10.0.0.5", "10.0.0.5:80", "10.0.0.5", 80, AF_INET, TARGET_HTTP},
        {"http://10.0.0.5:1/", "10.0.0.5:1", "10.0.0.5", 1, AF_INET, TARGET_HTTP},
        {"HTTP://10.0.0.5", "10.0.0.5:80", "10.0.0.5", 80, AF_INET, TARGET_HTTP},
        {"[::1]:65535", "[::1]:65535", "::1", 65535, AF_INET6, TARGET_HTTP},
        {"[0:0::1]", "[::1]:80", "::1", 80, AF_INET6, TARGET_HTTP},
        {"[2001:DB8::A]:1", "[2001:db8::a]:1", "2001:db8::a", 1, AF_INET6, TARGET_HTTP},
        {"app.internal:3000", "app.internal:3000", "app.internal", 3000, 0, TARGET_HTTP},
        {"App_1.", "app_1:80", "app_1", 80, 0, TARGET_HTTP},
        {"localhost:08080", "localhost:8080", "localhost", 8080, 0, TARGET_HTTP},
        {"b\xc3\xbc"
         "cher.example",
         "xn--bcher-kva.example:80", "xn--bcher-kva.example", 80, 0, TARGET_HTTP},
        {"unix:/run/x.sock", "unix:/run/x.sock", "/run/x.sock", 0, AF_UNIX, TARGET_HTTP},
        {"https://10.0.0.6", "https://10.0.0.6:443", "10.0.0.6", 443, AF_INET, TARGET_HTTPS},
        {"HTTPS://App.Example:8443/", "https://app.example:8443", "app.example", 8443, 0,
         TARGET_HTTPS},
        {"https://[::1]", "https://[::1]:443", "::1", 443, AF_INET6, TARGET_HTTPS},
        {"h2c://10.0.0.6", "h2c://10.0.0.6:80", "10.0.0.6", 80, AF_INET, TARGET_H2C},
        {"H2C://[::1]:50051", "h2c://[::1]:50051", "::1", 50051, AF_INET6, TARGET_H2C},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct expected *e = &cases[i];
        struct problems problems;
        struct target_address a;
        char *memory;
        problems_init(&problems);
        assert_int_equal(target_address_parse(str_from_c(e->text), &a, &memory, "/x", &problems),
                         0);
        assert_true(str_eq(a.text, str_from_c(e->canonical)));
        assert_string_equal(a.text.p, e->canonical);
        assert_true(str_eq(a.host, str_from_c(e->host)));
        assert_int_equal(a.port, e->port);
        assert_int_equal(a.scheme, e->scheme);
        assert_int_equal(a.is_name, e->family == 0);
        assert_int_equal(a.is_unix, e->family == AF_UNIX);
        assert_int_equal(a.sockaddr.ss_family, e->family);
        assert_int_equal(a.sockaddr_len > 0, e->family != 0);
        assert_ptr_equal(a.text.p, memory);
        free(memory);
    }
}

static void test_sockaddr(void **state)
{
    (void)state;
    struct problems problems;
    struct target_address a;
    char *memory;
    problems_init(&problems);
    assert_int_equal(target_address_parse(STR("1.2.3.4:258"), &a, &memory, "", &problems), 0);
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a.sockaddr;
    assert_int_equal(a.sockaddr_len, sizeof *v4);
    assert_int_equal(v4->sin_port, htons(258));
    assert_int_equal(v4->sin_addr.s_addr, htonl(0x01020304));
    free(memory);
    assert_int_equal(target_address_parse(STR("[::1]:258"), &a, &memory, "", &problems), 0);
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a.sockaddr;
    assert_int_equal(a.sockaddr_len, sizeof *v6);
    assert_int_equal(v6->sin6_port, htons(258));
    assert_memory_equal(&v6->sin6_addr, &in6addr_loopback, 16);
    free(memory);
    assert_int_equal(target_address_parse(STR("unix:/run/x"), &a, &memory, "", &problems), 0);
    assert_string_equal(((const struct sockaddr_un *)&a.sockaddr)->sun_path, "/run/x");
    free(memory);
}

static void assert_refused(struct str text, const char *detail)
{
    struct problems problems;
    struct target_address a;
    char *memory;
    problems_init(&problems);
    int err = target_address_parse(text, &a, &memory, "/targets/3/address", &problems);
    if (err != ERR_INVALID) {
        fail_msg("\"%.*s\" was taken", STR_ARG(text));
    }
    assert_null(memory);
    assert_int_equal(problems.count, 1);
    assert_string_equal(problems.items[0].pointer, "/targets/3/address");
    if (strstr(problems.items[0].detail, detail) == NULL) {
        fail_msg("\"%.*s\": %s", STR_ARG(text), problems.items[0].detail);
    }
    problems_fini(&problems);
}

static void test_refused(void **state)
{
    (void)state;
    assert_refused(STR(""), "missing");
    assert_refused(STR(":80"), "missing");
    assert_refused(STR("http://"), "missing");
    assert_refused(STR("https://"), "missing");
    assert_refused(STR("h2c://:80"), "missing");
    assert_refused(STR("https://a/x"), "no path");
    assert_refused(STR("https://a//"), "no path");
    assert_refused(STR("https://u@a"), "no user");
    assert_refused(STR("https://a:0"), "1 to 65535");
    assert_refused(STR("https://h2c://a"), "no path");
    assert_refused(STR("h2://10.0.0.6"), "unknown scheme");
    assert_refused(STR("https://unix:/run/x.sock"), "has no scheme");
    assert_refused(STR("http://unix:/run/x.sock"), "has no scheme");
    assert_refused(STR("ftp://10.0.0.6"), "unknown scheme");
    assert_refused(STR("10.0.0.5/x"), "no path");
    assert_refused(STR("http://a//"), "no path");
    assert_refused(STR("http://a/x"), "target_path");
    assert_refused(STR("a?b"), "no path or query");
    assert_refused(STR("user@a"), "no user");
    assert_refused(STR("a:0"), "1 to 65535");
    assert_refused(STR("a:65536"), "1 to 65535");
    assert_refused(STR("a:"), "1 to 65535");
    assert_refused(STR("a:x"), "1 to 65535");
    assert_refused(STR("::1"), "brackets");
    assert_refused(STR("::1:80"), "brackets");
    assert_refused(STR("[::1"), "brackets");
    assert_refused(STR("[::g]:80"), "not a valid");
    assert_refused(STR("[fe80::1%eth0]:80"), "not a valid");
    assert_refused(STR("300.0.0.1"), "not a valid");
    assert_refused(STR("a b"), "not a valid");
    assert_refused(STR("a..b"), "not a valid");
    assert_refused(STR("*.a"), "wildcard");
    assert_refused(STR("a\0b"), "NUL");
    assert_refused(STR("unix:"), "absolute path");
    assert_refused(STR("unix:x.sock"), "absolute path");
    assert_refused(STR("unix:/a\nb"), "control byte");
    assert_refused(STR("unix"), "cannot be called");
    assert_refused(STR("http://UNIX./"), "cannot be called");
}

static void test_limits(void **state)
{
    (void)state;
    struct problems problems;
    struct target_address a;
    char *memory;
    char text[400];
    problems_init(&problems);
    memset(text, 'a', sizeof text);
    memcpy(text, "unix:/", 6);
    assert_int_equal(target_address_parse(str_make(text, 5 + 107), &a, &memory, "", &problems), 0);
    free(memory);
    assert_refused(str_make(text, 5 + 108), "107 bytes");
    memset(text, 'a', sizeof text);
    text[63] = text[127] = text[191] = '.';
    memcpy(text + 253, ":65535", 6);
    assert_int_equal(target_address_parse(str_make(text, 259), &a, &memory, "", &problems), 0);
    assert_int_equal(a.host.len, 253);
    assert_int_equal(a.text.len, 259);
    free(memory);
    char long_text[300];
    snprintf(long_text, sizeof long_text, "https://%.259s", text);
    assert_int_equal(target_address_parse(str_from_c(long_text), &a, &memory, "", &problems), 0);
    assert_int_equal(a.text.len, 267);
    assert_int_equal(a.host.len, 253);
    assert_int_equal(a.host.p - a.text.p, 8);
    free(memory);
    memset(text + 253, 'a', 100);
    assert_refused(str_make(text, 254), "not a valid");
    assert_refused(str_make(text, 399), "not a valid");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_sockaddr),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
