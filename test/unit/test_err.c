// SPDX-License-Identifier: MIT
#include "base/err.h"
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void test_rows(void **state)
{
    (void)state;
    assert_string_equal(err_text(ERR_CHUNK_SIZE), "malformed chunk size");
    assert_string_equal(err_token(ERR_CHUNK_SIZE), "chunk_size");
    assert_int_equal(err_status(ERR_CHUNK_SIZE), 400);
    assert_int_equal(err_status(ERR_LOCKED), 503); // the last row
    assert_int_equal(err_status(ERR_MEMORY), 500); // the first
}

static void test_every_row(void **state)
{
    (void)state;
    for (int err = ERR_FIRST_ + 1; err < ERR_END_; err++) {
        assert_true(err < 0);
        assert_true(err_status(err) >= 400 && err_status(err) <= 599);
        assert_true(strlen(err_text(err)) > 0);
        size_t len = strlen(err_token(err));
        assert_true(len > 0 && len < 31); // 31 would be cut
        assert_int_equal(strspn(err_token(err), "abcdefghijklmnopqrstuvwxyz0123456789_"), len);
        for (int other = err + 1; other < ERR_END_; other++) {
            assert_string_not_equal(err_token(err), err_token(other));
        }
    }
}

static void test_unknown(void **state)
{
    (void)state;
    static const int values[] = {ERR_NONE, ERR_FIRST_, ERR_END_, 1, INT_MAX, INT_MIN};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        assert_string_equal(err_text(values[i]), "unknown error");
        assert_string_equal(err_token(values[i]), "unknown");
        assert_int_equal(err_status(values[i]), 500);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_every_row),
        cmocka_unit_test(test_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
