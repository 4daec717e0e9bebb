// SPDX-License-Identifier: MIT
#include "base/str.h"
#include "base/utf8.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void assert_str(struct str s, const char *expected)
{
    assert_int_equal(s.len, strlen(expected));
    assert_memory_equal(s.p, expected, s.len);
}

static void test_compare(void **state)
{
    (void)state;
    assert_true(str_eq(STR("abc"), STR("abc")));
    assert_false(str_eq(STR("abc"), STR("abd")));
    assert_false(str_eq(STR("abc"), STR("ab")));
    assert_true(str_eq(STR_NULL, STR("")));
    assert_true(str_eq_case(STR("Content-Length"), STR("content-LENGTH")));
    assert_false(str_eq_case(STR("a["), STR("a{")));
    assert_true(str_cmp(STR("a"), STR("b")) < 0);
    assert_true(str_cmp(STR("b"), STR("a")) > 0);
    assert_true(str_cmp(STR("a"), STR("ab")) < 0);
    assert_true(str_cmp(STR("ab"), STR("a")) > 0);
    assert_int_equal(str_cmp(STR_NULL, STR("")), 0);
    assert_true(str_cmp(STR("\xff"), STR("a")) > 0);
    assert_true(str_eq(str_from_c("x"), STR("x")));
    assert_true(str_eq(str_from_c(NULL), STR_NULL));
}

static void test_secret(void **state)
{
    (void)state;
    assert_true(str_eq_secret(STR("token"), STR("token")));
    assert_true(str_eq_secret(STR_NULL, STR("")));
    assert_false(str_eq_secret(STR("token"), STR("tokem")));
    assert_false(str_eq_secret(STR("tokentoken"), STR("token")));
    assert_false(str_eq_secret(STR("token"), STR("")));
    assert_false(str_eq_secret(STR(""), STR("token")));
}

static void test_parts(void **state)
{
    (void)state;
    assert_true(str_starts(STR("/api/x"), STR("/api")));
    assert_false(str_starts(STR("/ap"), STR("/api")));
    assert_true(str_starts(STR_NULL, STR("")));
    assert_true(str_starts_case(STR("HTTP://x"), STR("http://")));
    assert_true(str_ends(STR("a.example.com"), STR(".example.com")));
    assert_false(str_ends(STR("com"), STR(".com")));
    assert_str(str_from(STR("abc"), 1), "bc");
    assert_str(str_from(STR("abc"), 3), "");
    assert_str(str_from(STR("abc"), 99), "");
    assert_null(str_from(STR_NULL, 4).p);
    assert_str(str_sub(STR("abcdef"), 2, 3), "cde");
    assert_str(str_sub(STR("abcdef"), 4, SIZE_MAX), "ef");
    assert_str(str_trim(STR(" \t a b\t ")), "a b");
    assert_str(str_trim(STR(" \t ")), "");
    assert_str(str_trim(STR("\r\na")), "\r\na");
}

static void test_find(void **state)
{
    (void)state;
    assert_int_equal(str_find_char(STR("a:b:c"), ':'), 1);
    assert_int_equal(str_rfind_char(STR("a:b:c"), ':'), 3);
    assert_true(str_find_char(STR("abc"), ':') == SIZE_MAX);
    assert_true(str_rfind_char(STR_NULL, ':') == SIZE_MAX);
    assert_true(str_find_char(STR_NULL, ':') == SIZE_MAX);
    assert_int_equal(str_find(STR("aabaab"), STR("ab")), 1);
    assert_int_equal(str_find(STR("aab"), STR("aab")), 0);
    assert_true(str_find(STR("ab"), STR("abc")) == SIZE_MAX);
    assert_int_equal(str_find(STR_NULL, STR("")), 0);
    assert_true(str_find(STR_NULL, STR("a")) == SIZE_MAX);
    struct str head;
    struct str tail;
    assert_true(str_split(STR("k=v=w"), '=', &head, &tail));
    assert_str(head, "k");
    assert_str(tail, "v=w");
    assert_false(str_split(STR("kv"), '=', &head, &tail));
    assert_str(head, "kv");
    assert_str(tail, "");
}

static void test_elements(void **state)
{
    (void)state;
    struct str rest = STR(", a , \"b,\\\",c\" ,,d=\"x\", ,\"open,");
    static const char *const expected[] = {"a", "\"b,\\\",c\"", "d=\"x\"", "\"open,"};
    struct str element;
    for (size_t i = 0; i < 4; i++) {
        assert_true(str_next_element(&rest, &element));
        assert_str(element, expected[i]);
    }
    assert_false(str_next_element(&rest, &element));
    rest = STR("\"ends in \\");
    assert_true(str_next_element(&rest, &element));
    assert_false(str_next_element(&rest, &element));
}

static void test_numbers(void **state)
{
    (void)state;
    uint64_t value = 1;
    assert_int_equal(str_to_u64(STR("0"), &value), 0);
    assert_true(value == 0);
    assert_int_equal(str_to_u64(STR("18446744073709551615"), &value), 0);
    assert_true(value == UINT64_MAX);
    static const char *const wrong[] = {
        "", "18446744073709551616", "99999999999999999999", "+1", "-1", " 1", "1 ", "0x1", "1_0"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(str_to_u64(str_from_c(wrong[i]), &value), -1);
    }
    assert_true(value == UINT64_MAX);
    assert_int_equal(ascii_hex('f'), 15);
    assert_int_equal(ascii_hex('A'), 10);
    assert_int_equal(ascii_hex('g'), -1);
}

static void test_copies(void **state)
{
    (void)state;
    char to[4];
    assert_int_equal(str_copy(to, sizeof to, STR("abcdef")), 3);
    assert_string_equal(to, "abc");
    assert_int_equal(str_copy(to, sizeof to, STR_NULL), 0);
    assert_string_equal(to, "");
    assert_int_equal(str_copy(to, 1, STR("a")), 0);
    char *copy = str_dup(STR("abc"));
    assert_string_equal(copy, "abc");
    free(copy);
    copy = str_dup(STR_NULL);
    assert_string_equal(copy, "");
    free(copy);
}

static void test_utf8(void **state)
{
    (void)state;
    assert_int_equal(utf8_len(STR_NULL), 0);
    assert_true(utf8_is_valid(STR("a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x9A\x82\xF4\x8F\xBF\xBF")));
    static const char *const wrong[] = {"\x80",
                                        "\xC0\x80",
                                        "\xC1\xBF",
                                        "\xC3",
                                        "\xE0\x9F\xBF",
                                        "\xED\xA0\x80",
                                        "\xE2\x82",
                                        "\xF0\x8F\xBF\xBF",
                                        "\xF4\x90\x80\x80",
                                        "\xF5\x80\x80",
                                        "\xFF",
                                        "\xE2\x82\x41"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(utf8_is_valid(str_from_c(wrong[i])));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare),  cmocka_unit_test(test_secret),
        cmocka_unit_test(test_parts),    cmocka_unit_test(test_find),
        cmocka_unit_test(test_elements), cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_copies),   cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
