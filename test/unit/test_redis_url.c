// SPDX-License-Identifier: MIT
#include "redis/redis.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static int parse(struct redis_url *url, const char *text, struct problems *problems)
{
    problems_init(problems);
    return redis_url_parse(url, str_from_c(text), problems);
}

struct good {
    const char *text;
    enum redis_scheme scheme;
    bool is_tls;
    const char *host; // the last one
    unsigned host_count, port;
    const char *user, *password, *master, *path;
    unsigned db;
    const char *shown;
};

static const struct good goods[] = {
    {"redis://localhost", REDIS_TCP, false, "localhost", 1, 6379, "", "", "", "", 0,
     "redis://localhost:6379"},
    {"REDIS://10.0.0.7:7000/3", REDIS_TCP, false, "10.0.0.7", 1, 7000, "", "", "", "", 3,
     "redis://10.0.0.7:7000/3"},
    {"redis://a_b.example/", REDIS_TCP, false, "a_b.example", 1, 6379, "", "", "", "", 0,
     "redis://a_b.example:6379"},
    {"redis://h?db=15", REDIS_TCP, false, "h", 1, 6379, "", "", "", "", 15, "redis://h:6379/15"},
    {"redis://[2001:db8::1]", REDIS_TCP, false, "2001:db8::1", 1, 6379, "", "", "", "", 0,
     "redis://[2001:db8::1]:6379"},
    {"rediss://:p%40ss%2f@[::1]:1/2", REDIS_TCP, true, "::1", 1, 1, "", "p@ss/", "", "", 2,
     "rediss://[::1]:1/2"},
    {"redis://me:s3cret:x@h:65535", REDIS_TCP, false, "h", 1, 65535, "me", "s3cret:x", "", "", 0,
     "redis://me@h:65535"},
    {"redis://me:a@b@h", REDIS_TCP, false, "h", 1, 6379, "me", "a@b", "", "", 0,
     "redis://me@h:6379"},
    {"redis://me:@h", REDIS_TCP, false, "h", 1, 6379, "me", "", "", "", 0, "redis://me@h:6379"},
    {"redis+sentinel://a,b:1,[::2]:3/mymaster", REDIS_SENTINEL, false, "::2", 3, 3, "", "",
     "mymaster", "", 0, "redis+sentinel://a:26379,b:1,[::2]:3/mymaster"},
    {"rediss+sentinel://u:p@a/m%20m/9", REDIS_SENTINEL, true, "a", 1, 26379, "u", "p", "m m", "", 9,
     "rediss+sentinel://u@a:26379/m m/9"},
    {"redis+unix:///run/redis.sock", REDIS_UNIX, false, NULL, 0, 0, "", "", "", "/run/redis.sock",
     0, "redis+unix:///run/redis.sock"},
    {"unix:///run/a%20b?db=2", REDIS_UNIX, false, NULL, 0, 0, "", "", "", "/run/a b", 2,
     "unix:///run/a b?db=2"},
};

static void test_good(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof goods / sizeof goods[0]; i++) {
        const struct good *good = &goods[i];
        struct redis_url url;
        struct problems problems;
        if (parse(&url, good->text, &problems) != 0) {
            fail_msg("%s: %s", good->text, problems.items[0].detail);
        }
        assert_int_equal(url.scheme, good->scheme);
        assert_int_equal(url.is_tls, good->is_tls);
        assert_int_equal(url.host_count, good->host_count);
        if (good->host_count > 0) {
            assert_string_equal(url.hosts[url.host_count - 1].name, good->host);
            assert_int_equal(url.hosts[url.host_count - 1].port, good->port);
        }
        assert_string_equal(url.user, good->user);
        assert_string_equal(url.password, good->password);
        assert_string_equal(url.master, good->master);
        assert_string_equal(url.path, good->path);
        assert_int_equal(url.db, good->db);
        assert_string_equal(url.shown, good->shown);
        assert_true(redis_url_is(str_from_c(good->text)));
        redis_url_fini(&url);
        problems_fini(&problems);
    }
}

static void test_sentinel_login(void **state)
{
    (void)state;
    struct redis_url url;
    struct problems problems;
    assert_int_equal(
        parse(&url, "redis+sentinel://a/m?sentinel_user=s&sentinel_password=%26x&db=1", &problems),
        0);
    assert_string_equal(url.sentinel_user, "s");
    assert_string_equal(url.sentinel_password, "&x");
    assert_int_equal(url.db, 1);
    redis_url_fini(&url);
    problems_fini(&problems);
}

// What is refused, and what the reason says.
static const char *const bads[][2] = {
    {"http://h", "not redis://"},
    {"redis:/h", "not redis://"},
    {"", "not redis://"},
    {"redis://", "there is no host"},
    {"redis://:6379", "there is no host"},
    {"redis://:secret@", "there is no host"},
    {"redis:///0", "there is no host"},
    {"redis://:sec/ret@h", "there is no host"},
    {"redis://h:0", "the port is not a number"},
    {"redis://h:", "the port is not a number"},
    {"redis://h:65536", "the port is not a number"},
    {"redis://h:secret", "the port is not a number"},
    {"redis://h:1x", "the port is not a number"},
    {"redis://secret@h", "a user has a password"},
    {"redis://u:secret%@h", "% is followed by two"},
    {"redis://u:secret%0@h", "% is followed by two"},
    {"redis://u:secret%zz@h", "% is followed by two"},
    {"redis://u:secret%00@h", "% is followed by two"},
    {"redis://a b", "a space or a control byte"},
    {"redis://a\tb", "a space or a control byte"},
    {"redis://h#secret", "%23"},
    {"redis://h!", "the host is not"},
    {"redis://-h", "the host is not"},
    {"redis://a..b", "the host is not"},
    {"redis://1.2.3", "the host is not"},
    {"redis://1.2.3.400", "the host is not"},
    {"redis://[::1", "the host is not"},
    {"redis://[::1]x", "the host is not"},
    {"redis://[1.2.3.4]", "the host is not"},
    {"redis://1::1", "the host is not"},
    {"redis://a,b", "several hosts"},
    {"redis://h/x", "the database is not a number"},
    {"redis://h/-1", "the database is not a number"},
    {"redis://h/1/2", "the database is not a number"},
    {"redis://h/99999999999", "the database is not a number"},
    {"redis://h?db=x", "the database is not a number"},
    {"redis://h/1?db=1", "the database is given twice"},
    {"redis://h?secret=1", "there are db, sentinel_user and sentinel_password"},
    {"redis://h?sentinel_user=x", "for redis+sentinel:// alone"},
    {"redis+sentinel://a", "the name of the primary is missing"},
    {"redis+sentinel://a/", "the name of the primary is missing"},
    {"redis+sentinel://a//1", "the name of the primary is missing"},
    {"redis+sentinel://a,/m", "there is no host"},
    {"redis+sentinel://a/m/x", "the database is not a number"},
    {"redis+sentinel://a/m?sentinel_user=a&sentinel_user=b", "given twice"},
    {"redis+sentinel://1,2,3/m", "the host is not"},
    {"redis+sentinel://a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a/m", "more than 16"},
    {"unix://:secret@/run/x", "neither user nor host"},
    {"unix://host/run/x", "neither user nor host"},
    {"unix://", "the path of the socket"},
    {"unix:///", "the path of the socket"},
    {"unix:///%00", "bad %-encoding"},
};

static void test_bad(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof bads / sizeof bads[0]; i++) {
        struct redis_url url;
        struct problems problems;
        if (parse(&url, bads[i][0], &problems) != ERR_INVALID) {
            fail_msg("%s is taken", bads[i][0]);
        }
        assert_int_equal(problems.count, 1);
        const char *detail = problems.items[0].detail;
        if (strstr(detail, bads[i][1]) == NULL) {
            fail_msg("%s: %s", bads[i][0], detail);
        }
        assert_null(strstr(detail, "secret"));
        assert_string_equal(problems.items[0].pointer, "");
        redis_url_fini(&url);
        problems_fini(&problems);
    }
}

static void test_long(void **state)
{
    (void)state;
    char text[5000];
    struct redis_url url;
    struct problems problems;
    memset(text, 'a', sizeof text);
    memcpy(text, "redis://", 8);
    text[4999] = 0;
    assert_int_equal(parse(&url, text, &problems), ERR_INVALID);
    redis_url_fini(&url);
    problems_fini(&problems);
    // A name that is too long for what is shown of it is cut there.
    memcpy(text, "redis+unix:///", 14);
    text[13 + 107] = 0;
    assert_int_equal(parse(&url, text, &problems), 0);
    redis_url_fini(&url);
    problems_fini(&problems);
    memset(text + 100, 'a', 200);
    memcpy(text, "redis+sentinel://h/", 19);
    text[600] = 0;
    assert_int_equal(parse(&url, text, &problems), 0);
    assert_int_equal(strlen(url.shown), REDIS_SHOWN_MAX - 1);
    redis_url_fini(&url);
    problems_fini(&problems);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_sentinel_login),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
