// SPDX-License-Identifier: MIT
#include "base/buf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void assert_buf(const struct buf *buf, struct str expected)
{
    assert_false(buf->failed);
    assert_int_equal(buf->len, expected.len);
    assert_memory_equal(buf->p, expected.p, expected.len);
}

static void test_append(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 0);
    buf_put(&buf, STR_NULL);
    assert_int_equal(buf_str(&buf).len, 0);
    buf_put(&buf, STR("abc"));
    buf_put_char(&buf, '-');
    buf_printf(&buf, "%d%s", 7, "x");
    assert_buf(&buf, STR("abc-7x"));
    for (int i = 0; i < 5000; i++) {
        buf_put_char(&buf, 'y');
    }
    assert_int_equal(buf.len, 5006);
    buf_clear(&buf);
    assert_int_equal(buf.len, 0);
    assert_true(buf.size >= 5006);
    buf_fini(&buf);
    assert_null(buf.p);
}

static void test_bound_is_exact(void **state)
{
    (void)state;
    for (size_t max = 1; max < 300; max += 7) {
        struct buf buf;
        buf_init(&buf, max);
        for (size_t i = 0; i < max; i++) {
            buf_put_char(&buf, 'a');
        }
        assert_false(buf.failed);
        buf_put_char(&buf, 'b');
        assert_true(buf.failed);
        buf_put(&buf, STR("c"));
        assert_null(buf_reserve(&buf, 0));
        assert_int_equal(buf.len, max);
        buf_clear(&buf);
        buf_printf(&buf, "%*d", (int)max, 1);
        assert_false(buf.failed);
        assert_int_equal(buf.len, max);
        buf_printf(&buf, "%d", 1);
        assert_true(buf.failed);
        buf_fini(&buf);
    }
}

static void test_absurd_sizes(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 0);
    buf_put(&buf, STR("abc"));
    assert_null(buf_reserve(&buf, SIZE_MAX));
    assert_true(buf.failed);
    buf_clear(&buf);
    assert_null(buf_reserve(&buf, SIZE_MAX - 2));
    buf_fini(&buf);
}

static void test_consume(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 0);
    buf_consume(&buf, 4);
    buf_put(&buf, STR("abcdef"));
    buf_consume(&buf, 2);
    assert_buf(&buf, STR("cdef"));
    buf_consume(&buf, 0);
    assert_buf(&buf, STR("cdef"));
    buf_consume(&buf, 99);
    assert_int_equal(buf.len, 0);
    buf_fini(&buf);
}

static void test_json(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 0);
    buf_put_json(&buf, STR("a\"\\\n\r\t\x01\x7f\xC3\xA4\xFFz\xC3"));
    assert_buf(&buf, STR("\"a\\\"\\\\\\n\\r\\t\\u0001\\u007f\xC3\xA4\xEF\xBF\xBDz\xEF\xBF\xBD\""));
    buf_clear(&buf);
    buf_put_json(&buf, STR_NULL);
    assert_buf(&buf, STR("\"\""));
    buf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),       cmocka_unit_test(test_bound_is_exact),
        cmocka_unit_test(test_absurd_sizes), cmocka_unit_test(test_consume),
        cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
