// SPDX-License-Identifier: MIT
// The wide scanners give what the portable ones give: every byte at every place of a text of every
// length around their 16 bytes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "http/h1/h1_scan.h"

enum { LEN_MAX = 40 };

static void compare(const char *p, size_t len)
{
    const char *end = p + len;
    assert_ptr_equal(h1_scan_value(p, end), h1_scan_value_portable(p, end));
    assert_ptr_equal(h1_scan_target(p, end), h1_scan_target_portable(p, end));
    bool wide = true;
    bool portable = true;
    assert_ptr_equal(h1_scan_token(p, end, &wide), h1_scan_token_portable(p, end, &portable));
    assert_int_equal(wide, portable);
}

static void test_every_byte(void **state)
{
    (void)state;
    for (size_t len = 0; len <= LEN_MAX; len++) {
        char *text = malloc(len + 1);
        assert_non_null(text);
        char *p = text + 1; // unaligned, and the block ends with the text
        memset(p, 'a', len);
        compare(p, len);
        for (size_t i = 0; i < len; i++) {
            for (int c = 0; c < 256; c++) {
                p[i] = (char)c;
                compare(p, len);
            }
            p[i] = 'a';
        }
        free(text);
    }
}

// A second byte in front of or behind the first: the first one found wins.
static void test_pairs(void **state)
{
    (void)state;
    static const char bytes[] = {0,   '\t', '\n', '\r', ' ',        '!',
                                 ':', '_',  0x7e, 0x7f, (char)0x80, (char)0xff};
    char text[LEN_MAX];
    memset(text, 'Z', sizeof(text));
    for (size_t i = 0; i < sizeof(text); i++) {
        for (size_t k = 0; k < sizeof(text); k++) {
            for (size_t b = 0; b < sizeof(bytes) * sizeof(bytes); b++) {
                text[i] = bytes[b % sizeof(bytes)];
                text[k] = bytes[b / sizeof(bytes)];
                compare(text, sizeof(text));
            }
            text[k] = 'Z';
        }
        text[i] = 'Z';
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
