// SPDX-License-Identifier: MIT
#include "net/address.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

static void test_parse_listen(void **state)
{
    (void)state;
    static const struct {
        struct str text;
        const char *formatted; // NULL: refused
    } rows[] = {
        {STR("0.0.0.0:80"), "0.0.0.0:80"},
        {STR("127.0.0.1:0"), "127.0.0.1:0"},
        {STR("localhost:8080"), "127.0.0.1:8080"},
        {STR("LocalHost:8080"), "127.0.0.1:8080"},
        {STR(":8080"), "[::]:8080"},
        {STR("[::]:80"), "[::]:80"},
        {STR("[2001:db8::1]:65535"), "[2001:db8::1]:65535"},
        {STR("unix:/run/x.sock"), "unix:/run/x.sock"},
        {STR(""), NULL},
        {STR("80"), NULL},
        {STR("127.0.0.1"), NULL},
        {STR("127.0.0.1:"), NULL},
        {STR("127.0.0.1:65536"), NULL},
        {STR("127.0.0.1:+80"), NULL},
        {STR("127.0.0.1:99999999999999999999"), NULL},
        {STR("127.0.0.256:80"), NULL},
        {STR("127.0.0.1\0:80"), NULL},
        {STR("::1:80"), NULL},
        {STR("[::1:80"), NULL},
        {STR("[]:80"), NULL},
        {STR("[:80"), NULL},
        {STR("[127.0.0.1]:80"), NULL},
        {STR("example.com:80"), NULL},
        {STR("unix:"), NULL},
        {STR("unix:/a\0b"), NULL},
        {STR("unix:/0123456789012345678901234567890123456789012345678901234567890123456789012345678"
             "90123456789012345678901234567"),
         NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sockaddr_storage address;
        socklen_t len = 0;
        int err = net_parse_listen(rows[i].text, &address, &len);
        assert_int_equal(err, rows[i].formatted == NULL ? ERR_SYNTAX : 0);
        if (err == 0) {
            char text[NET_ADDRESS_TEXT_MAX];
            assert_int_equal(net_format_address(&address, text, sizeof text),
                             strlen(rows[i].formatted));
            assert_string_equal(text, rows[i].formatted);
        }
    }
}

static void test_format_is_bounded(void **state)
{
    (void)state;
    struct sockaddr_storage address;
    socklen_t len;
    char text[8];
    assert_int_equal(net_parse_listen(STR("192.168.100.200:8080"), &address, &len), 0);
    assert_int_equal(net_format_address(&address, text, sizeof text), 7);
    assert_string_equal(text, "192.168");
}

static void test_in6(void **state)
{
    (void)state;
    static const struct {
        struct str text;
        const char *formatted;
        bool loopback;
    } rows[] = {
        {STR("10.1.2.3"), "10.1.2.3", false},
        {STR("127.8.8.8"), "127.8.8.8", true},
        {STR("::1"), "::1", true},
        {STR("::ffff:127.0.0.1"), "127.0.0.1", true},
        {STR("2001:DB8::1"), "2001:db8::1", false},
        {STR("::"), "::", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct in6_addr address;
        char text[INET6_ADDRSTRLEN];
        assert_int_equal(net_parse_in6(rows[i].text, &address), 0);
        assert_int_equal(net_format_in6(&address, text, sizeof text), strlen(rows[i].formatted));
        assert_string_equal(text, rows[i].formatted);
        assert_int_equal(net_is_loopback(&address), rows[i].loopback);
    }
    static const struct str bad[] = {
        {"", 0},
        {"10.1.2", 6},
        {"10.1.2.3.4", 10},
        {"10.1.2.3\0x", 10},
        {"[::1]", 5},
        {"::1%lo", 6},
        {" 10.1.2.3", 9},
        {"10.1.2.3:80", 11},
        {"unknown", 7},
        {"00000000000000000000000000000000000000000000000000000", 53},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct in6_addr address;
        assert_int_equal(net_parse_in6(bad[i], &address), ERR_SYNTAX);
    }
}

static bool matches(const char *address, const char *network, unsigned bits)
{
    struct in6_addr a;
    struct in6_addr n;
    assert_int_equal(net_parse_in6(str_from_c(address), &a), 0);
    assert_int_equal(net_parse_in6(str_from_c(network), &n), 0);
    return net_in6_matches(&a, &n, bits);
}

static void test_networks(void **state)
{
    (void)state;
    assert_true(matches("10.200.3.4", "10.0.0.0", 96 + 8));
    assert_false(matches("11.0.0.0", "10.0.0.0", 96 + 8));
    assert_true(matches("10.128.0.0", "10.255.0.0", 96 + 9));
    assert_false(matches("10.127.0.0", "10.255.0.0", 96 + 9));
    assert_true(matches("2001:db8::1", "::", 0));
    assert_true(matches("2001:db8::1", "2001:db8::1", 128));
    assert_false(matches("2001:db8::1", "2001:db8::", 128));
    assert_true(matches("2001:db8::1", "2001:db8::", 127));
    assert_false(matches("10.0.0.1", "::", 96)); // mapped, not compatible
}

static void test_peers(void **state)
{
    (void)state;
    struct sockaddr_storage address;
    socklen_t len;
    struct in6_addr peer;
    char text[INET6_ADDRSTRLEN];
    assert_int_equal(net_parse_listen(STR("10.9.8.7:5"), &address, &len), 0);
    net_peer_in6(&address, &peer);
    net_format_in6(&peer, text, sizeof text);
    assert_string_equal(text, "10.9.8.7");
    assert_int_equal(net_parse_listen(STR("unix:/x"), &address, &len), 0);
    net_peer_in6(&address, &peer);
    assert_true(net_is_loopback(&peer));
}

// Listens on `text` with a port of the kernel's choice; returns the address as it is bound.
static struct sockaddr_storage listen_on(const char *text, unsigned count, int *fds)
{
    struct sockaddr_storage address;
    socklen_t len;
    assert_int_equal(net_parse_listen(str_from_c(text), &address, &len), 0);
    assert_int_equal(net_listen(&address, len, count, fds), 0);
    len = sizeof address;
    assert_int_equal(getsockname(fds[0], (struct sockaddr *)&address, &len), 0);
    return address;
}

static unsigned port_of(const struct sockaddr_storage *address)
{
    return ntohs(address->ss_family == AF_INET ? ((const struct sockaddr_in *)address)->sin_port
                                               : ((const struct sockaddr_in6 *)address)->sin6_port);
}

static int listen_at(const char *format, unsigned port, int *fd)
{
    char text[64];
    struct sockaddr_storage address;
    socklen_t len;
    snprintf(text, sizeof text, "%s:%u", format, port);
    assert_int_equal(net_parse_listen(str_from_c(text), &address, &len), 0);
    return net_listen(&address, len, 1, fd);
}

static void test_listen_shared_by_own_sockets_only(void **state)
{
    (void)state;
    int fds[3];
    int other;
    struct sockaddr_storage bound = listen_on("127.0.0.1:0", 3, fds);
    for (unsigned i = 1; i < 3; i++) {
        struct sockaddr_storage same;
        socklen_t len = sizeof same;
        assert_int_equal(getsockname(fds[i], (struct sockaddr *)&same, &len), 0);
        assert_int_equal(port_of(&same), port_of(&bound));
    }
    assert_int_equal(listen_at("127.0.0.1", port_of(&bound), &other), ERR_IN_USE);
    assert_int_equal(listen_at("", port_of(&bound), &other), ERR_IN_USE);
    for (unsigned i = 0; i < 3; i++) {
        close(fds[i]);
    }
    assert_int_equal(listen_at("127.0.0.1", port_of(&bound), &other), 0);
    close(other);
}

static bool has_ipv6(void)
{
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof any) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return has;
}

static void test_listen_families(void **state)
{
    (void)state;
    int v4;
    int v6;
    int both;
    // ":0" takes IPv4 clients, with IPv6 on the machine or without.
    struct sockaddr_storage bound = listen_on(":0", 1, &both);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port_of(&bound)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int client = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&to, sizeof to), 0);
    close(client);
    assert_int_equal(listen_at("0.0.0.0", port_of(&bound), &v4), ERR_IN_USE);
    close(both);
    if (!has_ipv6()) {
        return;
    }
    // "0.0.0.0" and "[::]" stand next to each other on one port.
    bound = listen_on("0.0.0.0:0", 1, &v4);
    assert_int_equal(listen_at("[::]", port_of(&bound), &v6), 0);
    assert_int_equal(listen_at("", port_of(&bound), &both), ERR_IN_USE);
    close(v4);
    close(v6);
}

static void test_listen_unix(void **state)
{
    (void)state;
    char folder[] = "/tmp/address-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char text[64];
    snprintf(text, sizeof text, "unix:%s/s", folder);
    int fds[2];
    struct sockaddr_storage address;
    socklen_t len;
    assert_int_equal(net_parse_listen(str_from_c(text), &address, &len), 0);
    assert_int_equal(net_listen(&address, len, 2, fds), 0);
    int other;
    assert_int_equal(net_listen(&address, len, 1, &other), ERR_IN_USE);
    close(fds[0]);
    close(fds[1]);
    // A file left behind is no obstacle; one that is no socket is.
    assert_int_equal(net_listen(&address, len, 1, &other), 0);
    close(other);
    const char *path = ((struct sockaddr_un *)&address)->sun_path;
    assert_int_equal(unlink(path), 0);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_not_equal(net_listen(&address, len, 1, &other), 0);
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
    rmdir(folder);
}

static bool reaches(const char *to, const char *listen)
{
    struct sockaddr_storage a;
    struct sockaddr_storage b;
    socklen_t len;
    assert_int_equal(net_parse_listen(str_from_c(to), &a, &len), 0);
    assert_int_equal(net_parse_listen(str_from_c(listen), &b, &len), 0);
    return net_reaches_locally(&a, &b);
}

static void test_reaches_locally(void **state)
{
    (void)state;
    static const char *const own[] = {"127.0.0.1:81", "[::1]:81", ":81", "0.0.0.0:81", "[::]:81"};
    static const char *const local[] = {"127.0.0.1:81", "127.9.9.9:81", "0.0.0.0:81",
                                        "[::1]:81",     "[::]:81",      "[::ffff:127.0.0.1]:81",
                                        "localhost:81"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        for (size_t k = 0; k < sizeof local / sizeof local[0]; k++) {
            assert_true(reaches(local[k], own[i]));
        }
        assert_false(reaches("127.0.0.1:82", own[i]));
        assert_false(reaches("10.0.0.5:81", own[i])); // comes from 10.0.0.5, which needs a token
        assert_false(reaches("unix:/a", own[i]));
    }
    assert_false(reaches("127.0.0.1:81", "10.0.0.5:81"));
    assert_true(reaches("unix:/a", "unix:/a"));
    assert_false(reaches("unix:/b", "unix:/a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_listen),
        cmocka_unit_test(test_format_is_bounded),
        cmocka_unit_test(test_in6),
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_peers),
        cmocka_unit_test(test_listen_shared_by_own_sockets_only),
        cmocka_unit_test(test_listen_families),
        cmocka_unit_test(test_reaches_locally),
        cmocka_unit_test(test_listen_unix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
