// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "http/chars.h"
#include "http/head.h"

// The classes again, by the characters that the RFCs list.
static void test_chars(void **state)
{
    (void)state;
    static const char alnum[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    static const char pchar[] = "-._~!$&'()*+,;=:@/[]\\";
    for (int i = 0; i < 256; i++) {
        char c = (char)i;
        bool letter = i != 0 && strchr(alnum, i) != NULL;
        bool path = letter || (i != 0 && strchr(pchar, i) != NULL);
        assert_int_equal(char_is(c, CHAR_ALNUM), letter);
        assert_int_equal(char_is(c, CHAR_HOST), letter || c == '-' || c == '_');
        assert_int_equal(char_is(c, CHAR_TOKEN),
                         letter || (i != 0 && strchr("!#$%&'*+-.^_`|~", i) != NULL));
        assert_int_equal(char_is(c, CHAR_VALUE), i == '\t' || (i >= 0x20 && i != 0x7f));
        assert_int_equal(char_is(c, CHAR_PATH), path);
        assert_int_equal(char_is(c, CHAR_QUERY), path || (i != 0 && strchr("%?^`{|}", i) != NULL));
    }
}

static void check_found(struct str name, enum field_id expected)
{
    // A block of exactly the size: reads behind the name are seen.
    char *copy = malloc(name.len + 1);
    assert_non_null(copy);
    char *exact = copy + 1;
    memcpy(exact, name.p, name.len);
    assert_int_equal(field_find(str_make(exact, name.len)), expected);
    free(copy);
}

static void test_find(void **state)
{
    (void)state;
#define X(id, name, flags)                                                       \
    do {                                                                         \
        char text[] = name;                                                      \
        struct str view = str_make(text, sizeof(text) - 1);                      \
        check_found(view, id);                                                   \
        assert_true(str_eq(field_name(id), view));                               \
        assert_int_equal(field_flags(id), flags);                                \
        for (size_t i = 0; i < view.len; i++) {                                  \
            for (int c = 0; c < 256; c++) {                                      \
                char was = text[i];                                              \
                text[i] = (char)c;                                               \
                bool same = ascii_lower((char)c) == ascii_lower(was);            \
                if ((field_find(view) == id) != same) {                          \
                    fail_msg("%s with byte %d at %zu", name, c, i);              \
                }                                                                \
                text[i] = was;                                                   \
            }                                                                    \
        }                                                                        \
        for (size_t i = 0; i < view.len; i++) {                                  \
            text[i] = ascii_lower(text[i]);                                      \
        }                                                                        \
        check_found(view, id);                                                   \
        assert_int_equal(field_find(str_make(text, view.len - 1)) == id, false); \
    } while (0);
    FIELD_TABLE(X)
#undef X
    static const char *const others[] = {"",
                                         "a",
                                         "TX",
                                         "Abc",
                                         "Hosts",
                                         "X-Thing",
                                         "sec-ch-ua",
                                         "Accept-Encoding",
                                         "Proxy-Authorizatioo",
                                         "Proxy-Authorization1",
                                         "Content-Lengt",
                                         "Content-Lengthh",
                                         "cONTENT_LENGTH",
                                         "If-Range"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        check_found(str_from_c(others[i]), FIELD_OTHER);
    }
    assert_int_equal(field_name(FIELD_OTHER).len, 0);
    assert_int_equal(field_name((enum field_id)1000).len, 0);
    assert_int_equal(field_flags(FIELD_OTHER), 0);
}

static void test_disguised(void **state)
{
    (void)state;
    static const char *const yes[] = {"X_Forwarded_For",   "x_forwarded-for",  "X-Forwarded_Host",
                                      "content_length",    "Content_Length",   "TRANSFER_ENCODING",
                                      "Transfer.Encoding", "X_Real_IP",        "x_request_id",
                                      "Proxy_Connection",  "Keep_Alive",       "HTTP2_Settings",
                                      "X~Forwarded!Proto", "Sec_WebSocket_Key"};
    static const char *const no[] = {
        "X-Forwarded-For", "Content-Length", "Host",    "_Host",
        "X_Custom",        "my_field",       "",        "_",
        "content_type",    "User_Agent",     "Upgrade", "X_Forwarded_For_And_More"};
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (!field_is_disguised(str_from_c(yes[i]))) {
            fail_msg("%s", yes[i]);
        }
    }
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
        if (field_is_disguised(str_from_c(no[i]))) {
            fail_msg("%s", no[i]);
        }
    }
}

static void test_valid(void **state)
{
    (void)state;
    assert_true(field_name_is_valid(STR("X-A_b!~")));
    assert_false(field_name_is_valid(STR("")));
    assert_false(field_name_is_valid(STR("a b")));
    assert_false(field_name_is_valid(STR("a:")));
    assert_false(field_name_is_valid(STR("\xe4")));
    assert_false(field_name_is_valid(STR("a\0")));
    assert_true(field_value_is_valid(STR("")));
    assert_true(field_value_is_valid(STR("a\tb \xff\"")));
    assert_false(field_value_is_valid(STR("a\r")));
    assert_false(field_value_is_valid(STR("a\n")));
    assert_false(field_value_is_valid(STR("\0")));
    assert_false(field_value_is_valid(STR("\x7f")));
}

static struct http_field field(const char *name, const char *value)
{
    return (struct http_field){str_from_c(name), str_from_c(value), field_find(str_from_c(name))};
}

static void test_head(void **state)
{
    (void)state;
    struct http_field fields[] = {
        field("Host", "h"), field("connection", "X-One, close"), field("X-One", "1"),
        field("Connection", " authorization,X-Two, \"x, y\""), field("x-one", "2")};
    struct http_head head = {.fields = fields, .field_count = 5};
    for (unsigned i = 0; i < head.field_count; i++) {
        head.seen |= FIELD_BIT(fields[i].id);
    }
    assert_ptr_equal(http_head_find(&head, FIELD_CONNECTION), &fields[1]);
    assert_null(http_head_find(&head, FIELD_DATE));
    assert_true(str_eq(http_head_value(&head, FIELD_HOST), STR("h")));
    assert_int_equal(http_head_value(&head, FIELD_DATE).len, 0);
    assert_ptr_equal(http_head_find_name(&head, STR("X-ONE")), &fields[2]);
    assert_ptr_equal(http_head_find_name(&head, STR("HOST")), &fields[0]);
    assert_null(http_head_find_name(&head, STR("X-Three")));
    assert_true(http_head_has_token(&head, FIELD_CONNECTION, STR("CLOSE")));
    assert_false(http_head_has_token(&head, FIELD_CONNECTION, STR("x")));
    assert_false(http_head_has_token(&head, FIELD_UPGRADE, STR("x")));
}

static void test_methods(void **state)
{
    (void)state;
#define X(id, name) assert_int_equal(http_method_find(STR(name)), id);
    METHOD_TABLE(X)
#undef X
    assert_int_equal(http_method_find(STR("get")), METHOD_OTHER);
    assert_int_equal(http_method_find(STR("GETS")), METHOD_OTHER);
    assert_int_equal(http_method_find(STR("")), METHOD_OTHER);
    assert_true(http_method_is_idempotent(METHOD_GET));
    assert_true(http_method_is_idempotent(METHOD_HEAD));
    assert_true(http_method_is_idempotent(METHOD_PUT));
    assert_true(http_method_is_idempotent(METHOD_DELETE));
    assert_true(http_method_is_idempotent(METHOD_OPTIONS));
    assert_true(http_method_is_idempotent(METHOD_TRACE));
    assert_false(http_method_is_idempotent(METHOD_POST));
    assert_false(http_method_is_idempotent(METHOD_PATCH));
    assert_false(http_method_is_idempotent(METHOD_CONNECT));
    assert_false(http_method_is_idempotent(METHOD_OTHER));
    assert_true(str_eq(http_reason(200), STR("OK")));
    assert_true(str_eq(http_reason(431), STR("Request Header Fields Too Large")));
    assert_int_equal(http_reason(299).len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chars), cmocka_unit_test(test_find), cmocka_unit_test(test_disguised),
        cmocka_unit_test(test_valid), cmocka_unit_test(test_head), cmocka_unit_test(test_methods),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
