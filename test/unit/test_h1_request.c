// SPDX-License-Identifier: MIT
#include "h1_check.h"

static struct check check;

#define HOST "Host: h\r\n"
#define GET  "GET / HTTP/1.1\r\n" HOST
#define POST "POST / HTTP/1.1\r\n" HOST

static void accept_head(struct str text)
{
    ptrdiff_t result = check_all(&check, text);
    if (result <= 0) {
        fail_msg("%.*s: %s", STR_ARG(text), err_token((int)result));
    }
}

static void test_simple(void **state)
{
    (void)state;
    static const char text[] = "GET /a/b?c=d HTTP/1.1\r\nHost: Shop.example.com:80\r\n"
                               "X-A:  v w\t \r\nX-Empty:\r\nX-Obs: \xe4\xff\r\n\r\nGET / next";
    assert_int_equal(check_all(&check, str_from_c(text)), strlen(text) - strlen("GET / next"));
    const struct http_head *head = &check.head;
    assert_int_equal(head->method, METHOD_GET);
    check_str(head->method_text, "GET");
    check_str(head->target, "/a/b?c=d");
    check_str(head->scheme, "");
    check_str(head->authority, "Shop.example.com:80");
    check_str(head->path, "/a/b");
    check_str(head->query, "?c=d");
    assert_int_equal(head->version, 11);
    assert_true(head->keep_alive);
    assert_false(head->upgrade);
    assert_false(head->expect_continue);
    assert_false(head->te_trailers);
    assert_int_equal(head->body, BODY_NONE);
    assert_int_equal(head->field_count, 4);
    check_str(head->fields[1].name, "X-A");
    check_str(head->fields[1].value, "v w");
    check_str(head->fields[2].value, "");
    check_str(head->fields[3].value, "\xe4\xff");
    assert_int_equal(head->fields[0].id, FIELD_HOST);
    assert_int_equal(head->seen, FIELD_BIT(FIELD_HOST));
    // Everything is a view of the input.
    assert_true(head->path.p > check.copy && head->path.p < check.copy + strlen(text));
}

static void test_start_line(void **state)
{
    (void)state;
    static const struct check_case cases[] = {
        CASE("\r\n" GET "\r\n", 0),
        CASE("\r\n\r\n" GET "\r\n", ERR_START_LINE),
        CASE("\n" GET "\r\n", ERR_LINE_END),
        CASE("\r" GET "\r\n", ERR_LINE_END),
        CASE(" " GET "\r\n", ERR_METHOD),
        CASE("FOO-bar.1 / HTTP/1.1\r\n" HOST "\r\n", 0),
        CASE("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n" HOST "\r\n", 0), // 32
        CASE("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n" HOST "\r\n", ERR_METHOD),
        CASE("G\x01T / HTTP/1.1\r\n" HOST "\r\n", ERR_METHOD),
        CASE("G\0T / HTTP/1.1\r\n" HOST "\r\n", ERR_METHOD),
        CASE("GET\t/ HTTP/1.1\r\n" HOST "\r\n", ERR_METHOD),
        CASE("G:T / HTTP/1.1\r\n" HOST "\r\n", ERR_METHOD),
        CASE("\x16\x03\x01\x02", ERR_METHOD),
        CASE("GET\r\n", ERR_START_LINE),
        CASE("GET /\r\n", ERR_START_LINE),
        CASE("GET /\n", ERR_START_LINE),
        CASE("GET  / HTTP/1.1\r\n" HOST "\r\n", ERR_START_LINE),
        CASE("GET /  HTTP/1.1\r\n" HOST "\r\n", ERR_START_LINE),
        CASE("GET / HTTP/1.1 \r\n" HOST "\r\n", ERR_START_LINE),
        CASE("GET / HTTP/1.1\n" HOST "\r\n", ERR_LINE_END),
        CASE("GET / HTTP/1.1\rX\n" HOST "\r\n", ERR_LINE_END),
        CASE("GET /\tHTTP/1.1\r\n" HOST "\r\n", ERR_TARGET),
        CASE("GET /\0 HTTP/1.1\r\n" HOST "\r\n", ERR_TARGET),
        CASE("GET /\x7f HTTP/1.1\r\n" HOST "\r\n", ERR_TARGET),
        CASE("GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", ERR_TARGET),
        CASE("GET /#a HTTP/1.1\r\n" HOST "\r\n", ERR_TARGET),
        CASE("GET a HTTP/1.1\r\n" HOST "\r\n", ERR_TARGET),
        CASE("GET * HTTP/1.1\r\n" HOST "\r\n", ERR_TARGET),
        CASE("OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 0),
        CASE("options * HTTP/1.1\r\n" HOST "\r\n", ERR_TARGET),
        CASE("CONNECT h:443 HTTP/1.1\r\n" HOST "\r\n", ERR_METHOD_REFUSED),
        CASE("CONNECT [ HTTP/1.1\r\n" HOST "\r\n", ERR_METHOD_REFUSED),
        CASE("TRACE / HTTP/1.1\r\n" HOST "\r\n", ERR_METHOD_REFUSED),
    };
    CHECK_CASES(&check, cases);
}

static void test_version(void **state)
{
    (void)state;
    static const struct check_case cases[] = {
        CASE("GET / HTTP/1.0\r\n\r\n", 0),
        CASE("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ERR_VERSION),
        CASE("GET / HTTP/1.2\r\n" HOST "\r\n", ERR_VERSION),
        CASE("GET / HTTP/1.9\r\n" HOST "\r\n", ERR_VERSION),
        CASE("GET / HTTP/0.9\r\n" HOST "\r\n", ERR_VERSION),
        CASE("GET / HTTP/3.0\r\n" HOST "\r\n", ERR_VERSION),
        CASE("GET / http/1.1\r\n" HOST "\r\n", ERR_START_LINE),
        CASE("GET / HTTP/1\r\n" HOST "\r\n", ERR_START_LINE),
        CASE("GET / HT\r\n", ERR_START_LINE),
        CASE("GET / HTTP/11\r\n" HOST "\r\n", ERR_START_LINE),
        CASE("GET / HTTP/1.10\r\n" HOST "\r\n", ERR_START_LINE),
        CASE("GET / HTTP/1,1\r\n" HOST "\r\n", ERR_START_LINE),
        CASE("GET / HTTP/+.1\r\n" HOST "\r\n", ERR_START_LINE),
        CASE("GET / HTTPS/1.1\r\n" HOST "\r\n", ERR_START_LINE),
        CASE("GET / x HTTP/1.1\r\n" HOST "\r\n", ERR_START_LINE),
    };
    CHECK_CASES(&check, cases);
}

static void test_fields(void **state)
{
    (void)state;
    static const struct check_case cases[] = {
        CASE(GET "A: b\r\n c\r\n\r\n", ERR_FIELD_FOLDED),
        CASE(GET "A: b\r\n\tc\r\n\r\n", ERR_FIELD_FOLDED),
        CASE("GET / HTTP/1.1\r\n A: b\r\n" HOST "\r\n", ERR_FIELD_FOLDED),
        CASE(GET "A: b\r\n \r\n\r\n", ERR_FIELD_FOLDED),
        CASE(GET "A : b\r\n\r\n", ERR_FIELD_SPACE),
        CASE(GET "A\t: b\r\n\r\n", ERR_FIELD_SPACE),
        CASE(GET "A B: b\r\n\r\n", ERR_FIELD_SPACE),
        CASE(GET ": b\r\n\r\n", ERR_FIELD_NAME),
        CASE(GET "A\r\n\r\n", ERR_FIELD_NAME),
        CASE(GET "A\n\r\n", ERR_FIELD_NAME),
        CASE(GET "A(B: c\r\n\r\n", ERR_FIELD_NAME),
        CASE(GET "A\xe4: c\r\n\r\n", ERR_FIELD_NAME),
        CASE(GET "A\0: c\r\n\r\n", ERR_CONTROL_BYTE),
        CASE(GET "A: b\0c\r\n\r\n", ERR_CONTROL_BYTE),
        CASE(GET "A: b\x01\r\n\r\n", ERR_CONTROL_BYTE),
        CASE(GET "A: b\x7f\r\n\r\n", ERR_CONTROL_BYTE),
        CASE(GET "A: b\x0b\r\n\r\n", ERR_CONTROL_BYTE),
        CASE(GET "A: b\n\r\n", ERR_LINE_END),
        CASE(GET "A: b\rc\r\n\r\n", ERR_LINE_END),
        CASE(GET "A: b\r\r\n\r\n", ERR_LINE_END),
        CASE(GET "A: b\r\n\n", ERR_LINE_END),
        CASE(GET "A: b\r\n\rX", ERR_LINE_END),
        CASE(GET "A:b\r\nB:\t\r\n!#$%&'*+-.^_`|~1:\r\n\r\n", 0),
    };
    CHECK_CASES(&check, cases);
}

static void test_host(void **state)
{
    (void)state;
    static const struct check_case cases[] = {
        CASE("GET / HTTP/1.1\r\n\r\n", ERR_HOST_MISSING),
        CASE("GET http://h/ HTTP/1.1\r\n\r\n", ERR_HOST_MISSING),
        CASE(GET HOST "\r\n", ERR_HOST_REPEATED),
        CASE("GET / HTTP/1.0\r\n" HOST "hOST: g\r\n\r\n", ERR_HOST_REPEATED),
        CASE("GET / HTTP/1.1\r\nHost:\r\n\r\n", ERR_HOST),
        CASE("GET / HTTP/1.1\r\nHost: \t \r\n\r\n", ERR_HOST),
        CASE("GET http://h/ HTTP/1.1\r\nHost:\r\n\r\n", ERR_HOST),
        CASE("GET / HTTP/1.0\r\nHost:\r\n\r\n", 0),
        CASE("GET / HTTP/1.0\r\nHost: a b\r\n\r\n", ERR_HOST),
        CASE("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", ERR_HOST),
        CASE("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", ERR_HOST),
        CASE("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", ERR_HOST),
        CASE("GET / HTTP/1.1\r\nHost: h:80x\r\n\r\n", ERR_HOST),
        CASE("GET / HTTP/1.1\r\nHost: \xe4\r\n\r\n", ERR_HOST),
        CASE("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", 0),
        CASE("GET http://h/ HTTP/1.1\r\nHost: a b\r\n\r\n", ERR_HOST),
    };
    CHECK_CASES(&check, cases);
    accept_head(STR("GET http://Other:81/p?q HTTP/1.1\r\n" HOST "\r\n"));
    check_str(check.head.scheme, "http");
    check_str(check.head.authority, "Other:81");
    check_str(check.head.path, "/p");
    check_str(check.head.query, "?q");
    accept_head(STR("OPTIONS http://h HTTP/1.1\r\n" HOST "\r\n"));
    check_str(check.head.path, "/");
    accept_head(STR("GET / HTTP/1.0\r\n\r\n"));
    check_str(check.head.authority, "");
}

static void test_length(void **state)
{
    (void)state;
    static const struct check_case cases[] = {
        CASE(POST "Content-Length: +5\r\n\r\n", ERR_LENGTH),
        CASE(POST "Content-Length: -5\r\n\r\n", ERR_LENGTH),
        CASE(POST "Content-Length: 5 5\r\n\r\n", ERR_LENGTH),
        CASE(POST "Content-Length: 5, 5\r\n\r\n", ERR_LENGTH),
        CASE(POST "Content-Length: 5,\r\n\r\n", ERR_LENGTH),
        CASE(POST "Content-Length: 0x5\r\n\r\n", ERR_LENGTH),
        CASE(POST "Content-Length: 5_0\r\n\r\n", ERR_LENGTH),
        CASE(POST "Content-Length: 5.0\r\n\r\n", ERR_LENGTH),
        CASE(POST "Content-Length: \"5\"\r\n\r\n", ERR_LENGTH),
        CASE(POST "Content-Length:\r\n\r\n", ERR_LENGTH),
        CASE(POST "Content-Length: 9223372036854775808\r\n\r\n", ERR_LENGTH),
        CASE(POST "Content-Length: 18446744073709551621\r\n\r\n", ERR_LENGTH),
        CASE(POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", ERR_LENGTH_DIFFERS),
        CASE(POST "Content-Length: 5\r\ncontent-length: 6\r\n\r\n", ERR_LENGTH_DIFFERS),
        CASE(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", ERR_LENGTH_AND_CODING),
        CASE(POST "Transfer-Encoding: x\r\nContent-Length: \r\n\r\n", ERR_LENGTH_AND_CODING),
    };
    CHECK_CASES(&check, cases);
    accept_head(STR(POST "Content-Length: 9223372036854775807\r\n\r\n"));
    assert_int_equal(check.head.body, BODY_LENGTH);
    assert_true(check.head.body_len == INT64_MAX);
    accept_head(STR(POST "Content-Length:\t0005 \r\n\r\n"));
    assert_int_equal(check.head.body_len, 5);
    accept_head(STR(GET "Content-Length: 0\r\n\r\n"));
    assert_int_equal(check.head.body, BODY_LENGTH);
    assert_int_equal(check.head.body_len, 0);
}

#define TE(value) POST "Transfer-Encoding:" value "\r\n\r\n"

static void test_coding(void **state)
{
    (void)state;
    static const struct check_case cases[] = {
        CASE(TE("chunked"), 0),
        CASE(TE(" \tChUnKeD\t "), 0),
        CASE(TE(" gzip, chunked"), ERR_CODING),
        CASE(TE(" gzip"), ERR_CODING),
        CASE(TE(" identity"), ERR_CODING),
        CASE(TE(" xchunked"), ERR_CODING),
        CASE(TE(" chunkedx"), ERR_CODING),
        CASE(TE(""), ERR_CODING_ORDER),
        CASE(TE(" chunked, gzip"), ERR_CODING_ORDER),
        CASE(TE(" chunked, chunked"), ERR_CODING_ORDER),
        CASE(TE(" chunked,"), ERR_CODING_ORDER),
        CASE(TE(" ,chunked"), ERR_CODING_ORDER),
        CASE(TE(" chunked;q=1"), ERR_CODING_ORDER),
        CASE(TE(" \"chunked\""), ERR_CODING_ORDER),
        CASE(TE(" chun ked"), ERR_CODING_ORDER),
        CASE(TE(" chunked\x0b"), ERR_CONTROL_BYTE),
        CASE(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
             ERR_CODING_ORDER),
        CASE(POST "Transfer-Encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n",
             ERR_CODING_ORDER),
        CASE("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", ERR_CODING_VERSION),
    };
    CHECK_CASES(&check, cases);
    accept_head(STR(TE(" chunked")));
    assert_int_equal(check.head.body, BODY_CHUNKED);
}

static void test_disguised(void **state)
{
    (void)state;
    accept_head(STR(POST "Content_Length: 7\r\nX-Keep: 1\r\nTransfer_Encoding: chunked\r\n"
                         "x_forwarded_for: 1.1.1.1\r\nMy_Own: 2\r\n\r\n"));
    assert_int_equal(check.head.field_count, 3);
    assert_int_equal(check.head.body, BODY_NONE);
    check_str(check.head.fields[1].name, "X-Keep");
    check_str(check.head.fields[2].name, "My_Own");
}

static void test_connection(void **state)
{
    (void)state;
    static const struct {
        struct str text;
        bool keep_alive;
        bool upgrade;
    } cases[] = {
#define C(text, keep_alive, upgrade) {{text, sizeof(text) - 1}, keep_alive, upgrade}
        C(GET "\r\n", true, false),
        C(GET "Connection: close\r\n\r\n", false, false),
        C(GET "Connection: Keep-Alive\r\n\r\n", true, false),
        C(GET "Connection: foo, CLOSE\r\n\r\n", false, false),
        C(GET "Connection: keep-alive, close\r\n\r\n", false, false),
        C(GET "Connection: keep-alive\r\nConnection: close\r\n\r\n", false, false),
        C(GET "Connection: closed\r\n\r\n", true, false),
        C("GET / HTTP/1.0\r\n\r\n", false, false),
        C("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true, false),
        C("GET / HTTP/1.0\r\nConnection: a, keep-alive\r\n\r\n", true, false),
        C("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", false, false),
        C(GET "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", true, true),
        C(GET "Connection: keep-alive, Upgrade\r\nUpgrade: a/1, b\r\n\r\n", true, true),
        C(GET "Upgrade: websocket\r\n\r\n", true, false),
        C(GET "Connection: upgrade\r\n\r\n", true, false),
        C(GET "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n", true, false),
        C(GET "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: H2C\r\n\r\n", true, false),
#undef C
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        accept_head(cases[i].text);
        if (check.head.keep_alive != cases[i].keep_alive ||
            check.head.upgrade != cases[i].upgrade) {
            fail_msg("%.*s", STR_ARG(cases[i].text));
        }
    }
    static const struct check_case bad[] = {
        CASE(GET "Connection: upgrade\r\nUpgrade:\r\n\r\n", ERR_UPGRADE),
        CASE(GET "Connection: upgrade\r\nUpgrade: a b\r\n\r\n", ERR_UPGRADE),
        CASE(GET "Connection: upgrade\r\nUpgrade: a/\r\n\r\n", ERR_UPGRADE),
        CASE(GET "Connection: upgrade\r\nUpgrade: /a\r\n\r\n", ERR_UPGRADE),
    };
    CHECK_CASES(&check, bad);
}

static void test_expect(void **state)
{
    (void)state;
    accept_head(STR(POST "Expect: 100-Continue\r\nTE: gzip, Trailers\r\n\r\n"));
    assert_true(check.head.expect_continue);
    assert_true(check.head.te_trailers);
    accept_head(STR("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n"));
    assert_false(check.head.expect_continue);
    accept_head(STR(POST "Expect: 200-ok\r\n\r\n"));
    assert_false(check.head.expect_continue);
}

static void test_limits(void **state)
{
    (void)state;
    struct h1_limits limits = {.head_max = 64, .target_max = 8, .field_max = 3};
    check.limits = &limits;
    static const struct check_case cases[] = {
        CASE("GET /1234567 HTTP/1.1\r\n" HOST "\r\n", 0),
        CASE("GET /12345678 HTTP/1.1\r\n" HOST "\r\n", ERR_TARGET_TOO_LONG),
        CASE("GET /12345678", ERR_TARGET_TOO_LONG),
        CASE(GET "A: 1\r\nB: 2\r\n\r\n", 0),
        CASE(GET "A: 1\r\nB: 2\r\nC: 3\r\n\r\n", ERR_TOO_MANY_FIELDS),
        CASE(GET "X_Real_IP: 1\r\nX_Real_IP: 1\r\nC: 3\r\n\r\n", ERR_TOO_MANY_FIELDS),
        CASE(GET "AAAAA: 1234567890123456789012345678\r\n\r\n", 0), // 25 + 37 + 2 = 64
        CASE(GET "AAAAAA: 1234567890123456789012345678\r\n\r\n", ERR_HEAD_TOO_LARGE),
        CASE(GET "AAAAAA: 1234567890123456789012345678901234567890", ERR_HEAD_TOO_LARGE),
    };
    CHECK_CASES(&check, cases);
    // More than the scratch array of a worker holds is never filled.
    limits.head_max = 32768;
    limits.field_max = 1000;
    char many[H1_FIELD_MAX * 6 + 64];
    size_t len = str_copy(many, sizeof(many), STR(GET));
    for (int i = 0; i < H1_FIELD_MAX - 1; i++) {
        len += str_copy(many + len, sizeof(many) - len, STR("a:b\r\n"));
    }
    str_copy(many + len, sizeof(many) - len, STR("\r\n"));
    assert_int_equal(check_once(&check, str_from_c(many)), len + 2);
    str_copy(many + len, sizeof(many) - len, STR("a:b\r\n\r\n"));
    assert_int_equal(check_once(&check, str_from_c(many)), ERR_TOO_MANY_FIELDS);
    check.limits = NULL;
}

static void test_connection_names_are_bounded(void **state)
{
    (void)state;
    char text[1024];
    size_t len = str_copy(text, sizeof(text), STR(GET "Connection: ,,"));
    for (int i = 0; i < H1_CONNECTION_MAX; i++) {
        len += str_copy(text + len, sizeof(text) - len, STR("a,,"));
    }
    str_copy(text + len, sizeof(text) - len, STR("\r\n\r\n"));
    assert_int_equal(check_once(&check, str_from_c(text)), len + 4);
    str_copy(text + len, sizeof(text) - len, STR("\r\nConnection: close\r\n\r\n"));
    assert_int_equal(check_once(&check, str_from_c(text)), ERR_TOO_MANY_FIELDS);
}

static int end(void **state)
{
    (void)state;
    check_fini(&check);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_simple),     cmocka_unit_test(test_start_line),
        cmocka_unit_test(test_version),    cmocka_unit_test(test_fields),
        cmocka_unit_test(test_host),       cmocka_unit_test(test_length),
        cmocka_unit_test(test_coding),     cmocka_unit_test(test_disguised),
        cmocka_unit_test(test_connection), cmocka_unit_test(test_expect),
        cmocka_unit_test(test_limits),     cmocka_unit_test(test_connection_names_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
