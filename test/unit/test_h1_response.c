// SPDX-License-Identifier: MIT
#include "h1_check.h"

static struct check check = {.response = true, .method = METHOD_GET};

#define OK "HTTP/1.1 200 OK\r\n"

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
    accept_head(STR("HTTP/1.1 404 Not Found \xe4!\r\nContent-Length: 12\r\nServer: x\r\n\r\nbody"));
    assert_int_equal(check.head.status, 404);
    assert_int_equal(check.head.version, 11);
    check_str(check.head.reason, "Not Found \xe4!");
    assert_int_equal(check.head.body, BODY_LENGTH);
    assert_int_equal(check.head.body_len, 12);
    assert_true(check.head.keep_alive);
    assert_int_equal(check.head.field_count, 2);
    check_str(http_head_value(&check.head, FIELD_SERVER), "x");
}

static void test_status_line(void **state)
{
    (void)state;
    static const struct check_case cases[] = {
        CASE("HTTP/1.1 200\r\n\r\n", 0),
        CASE("HTTP/1.1 200 \r\n\r\n", 0),
        CASE("HTTP/1.0 200  two\t\r\n\r\n", 0),
        CASE("HTTP/1.1 599 \r\n\r\n", 0),
        CASE("HTTP/1.1 600 x\r\n\r\n", ERR_STATUS),
        CASE("HTTP/1.1 999 x\r\n\r\n", ERR_STATUS),
        CASE("HTTP/1.1 099 x\r\n\r\n", ERR_STATUS),
        CASE("HTTP/1.1 000 x\r\n\r\n", ERR_STATUS),
        CASE("HTTP/1.1 20 x\r\n\r\n", ERR_STATUS),
        CASE("HTTP/1.1 2000 x\r\n\r\n", ERR_STATUS),
        CASE("HTTP/1.1 +20 x\r\n\r\n", ERR_STATUS),
        CASE("HTTP/1.1 2x0 x\r\n\r\n", ERR_STATUS),
        CASE("HTTP/1.1 200OK\r\n\r\n", ERR_STATUS),
        CASE("HTTP/1.1  200 OK\r\n\r\n", ERR_STATUS),
        CASE("HTTP/1.1 \r\n\r\n", ERR_STATUS),
        CASE("HTTP/1.1 200\tOK\r\n\r\n", ERR_STATUS),
        CASE("HTTP/1.1\r\n\r\n", ERR_START_LINE),
        CASE("HTTP/1.1\t200 OK\r\n\r\n", ERR_START_LINE),
        CASE("HTTP/2.0 200 OK\r\n\r\n", ERR_VERSION),
        CASE("HTTP/1.2 200 OK\r\n\r\n", ERR_VERSION),
        CASE("HTTP/0.9 200 OK\r\n\r\n", ERR_VERSION),
        CASE("HTTP/1 200 OK\r\n\r\n", ERR_START_LINE),
        CASE("http/1.1 200 OK\r\n\r\n", ERR_START_LINE),
        CASE("ICY 200 OK\r\n\r\n", ERR_START_LINE),
        CASE("\r\n" OK "\r\n", ERR_START_LINE),
        CASE(" " OK "\r\n", ERR_START_LINE),
        CASE("<html>", ERR_START_LINE),
        CASE("HTTP/1.1 200 O\0K\r\n\r\n", ERR_CONTROL_BYTE),
        CASE("HTTP/1.1 200 OK\n\r\n", ERR_LINE_END),
        CASE("HTTP/1.1 200\n\r\n", ERR_LINE_END),
        CASE("HTTP/1.1 200 OK\rX\r\n\r\n", ERR_LINE_END),
        CASE(OK "A : b\r\n\r\n", ERR_FIELD_SPACE),
        CASE(OK "A: b\r\n c\r\n\r\n", ERR_FIELD_FOLDED),
        CASE(OK "A: b\0\r\n\r\n", ERR_CONTROL_BYTE),
        CASE(OK "A: b\n\r\n", ERR_LINE_END),
        CASE(OK "A\r\n\r\n", ERR_FIELD_NAME),
    };
    CHECK_CASES(&check, cases);
    accept_head(STR("HTTP/1.1 200\r\n\r\n"));
    check_str(check.head.reason, "");
}

static void test_refused_framing(void **state)
{
    (void)state;
    static const struct check_case cases[] = {
        CASE(OK "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", ERR_LENGTH_AND_CODING),
        CASE(OK "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", ERR_LENGTH_DIFFERS),
        CASE(OK "Content-Length: 5, 5\r\n\r\n", ERR_LENGTH),
        CASE(OK "Content-Length: -1\r\n\r\n", ERR_LENGTH),
        CASE(OK "Content-Length:\r\n\r\n", ERR_LENGTH),
        CASE(OK "Transfer-Encoding: gzip\r\n\r\n", ERR_CODING),
        CASE(OK "Transfer-Encoding: gzip, chunked\r\n\r\n", ERR_CODING),
        CASE(OK "Transfer-Encoding: chunked, gzip\r\n\r\n", ERR_CODING_ORDER),
        CASE("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ERR_CODING_VERSION),
        CASE("HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n", ERR_CODING),
        CASE("HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n", ERR_LENGTH),
        CASE("HTTP/1.1 100 x\r\nTransfer-Encoding: chunked\r\n\r\n", ERR_CODING),
        CASE("HTTP/1.1 103 x\r\nContent-Length: 5\r\n\r\n", ERR_LENGTH),
        CASE("HTTP/1.1 101 x\r\n\r\n", ERR_UPGRADE),
        CASE("HTTP/1.1 101 x\r\nConnection: upgrade\r\n\r\n", ERR_UPGRADE),
        CASE("HTTP/1.1 101 x\r\nUpgrade: a\r\n\r\n", ERR_UPGRADE),
        CASE("HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", ERR_UPGRADE),
        CASE("HTTP/1.0 101 x\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n", ERR_UPGRADE),
    };
    CHECK_CASES(&check, cases);
}

static void test_body(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum http_method method;
        enum http_body body;
        uint64_t body_len;
        bool keep_alive;
        bool upgrade;
    } cases[] = {
        {OK "\r\n", METHOD_GET, BODY_UNTIL_CLOSE, 0, false, false},
        {OK "Connection: keep-alive\r\n\r\n", METHOD_GET, BODY_UNTIL_CLOSE, 0, false, false},
        {OK "Content-Length: 0\r\n\r\n", METHOD_GET, BODY_LENGTH, 0, true, false},
        {OK "Content-Length: 9\r\nConnection: close\r\n\r\n", METHOD_GET, BODY_LENGTH, 9, false,
         false},
        {OK "Transfer-Encoding: chunked\r\n\r\n", METHOD_POST, BODY_CHUNKED, 0, true, false},
        {OK "Transfer-Encoding: chunked\r\n\r\n", METHOD_HEAD, BODY_NONE, 0, true, false},
        {OK "Content-Length: 9\r\n\r\n", METHOD_HEAD, BODY_NONE, 0, true, false},
        {OK "\r\n", METHOD_HEAD, BODY_NONE, 0, true, false},
        {"HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n", METHOD_GET, BODY_NONE, 0, true, false},
        {"HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n", METHOD_GET, BODY_NONE, 0, true, false},
        {"HTTP/1.1 204 x\r\n\r\n", METHOD_GET, BODY_NONE, 0, true, false},
        {"HTTP/1.1 100 Continue\r\n\r\n", METHOD_POST, BODY_NONE, 0, true, false},
        {"HTTP/1.1 103 x\r\nLink: a\r\n\r\n", METHOD_GET, BODY_NONE, 0, true, false},
        {"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", METHOD_GET,
         BODY_NONE, 0, false, true},
        {OK "Content-Length: 1\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", METHOD_GET,
         BODY_LENGTH, 1, true, false},
        {"HTTP/1.0 200 x\r\nContent-Length: 1\r\n\r\n", METHOD_GET, BODY_LENGTH, 1, false, false},
        {"HTTP/1.0 200 x\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n", METHOD_GET,
         BODY_LENGTH, 1, true, false},
        {OK "Content-Length: 9\r\n\r\n", METHOD_CONNECT, BODY_NONE, 0, false, true},
        {"HTTP/1.1 403 x\r\nContent-Length: 9\r\n\r\n", METHOD_CONNECT, BODY_LENGTH, 9, true,
         false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        check.method = cases[i].method;
        accept_head(str_from_c(cases[i].text));
        const struct http_head *head = &check.head;
        if (head->body != cases[i].body || head->body_len != cases[i].body_len ||
            head->keep_alive != cases[i].keep_alive || head->upgrade != cases[i].upgrade) {
            fail_msg("%s", cases[i].text);
        }
    }
    check.method = METHOD_GET;
}

static void test_limits(void **state)
{
    (void)state;
    static const struct h1_limits limits = {.head_max = 32, .target_max = 1, .field_max = 2};
    check.limits = &limits;
    static const struct check_case cases[] = {
        CASE(OK "A: b\r\nC: d\r\n\r\n", 0),
        CASE(OK "A:\r\nB:\r\nC:\r\n\r\n", ERR_TOO_MANY_FIELDS),
        CASE(OK "A: 0123456789\r\n\r\n", ERR_HEAD_TOO_LARGE),
        CASE("HTTP/1.1 200 0123456789012345678901234", ERR_HEAD_TOO_LARGE),
    };
    CHECK_CASES(&check, cases);
    check.limits = NULL;
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
        cmocka_unit_test(test_simple),          cmocka_unit_test(test_status_line),
        cmocka_unit_test(test_refused_framing), cmocka_unit_test(test_body),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
