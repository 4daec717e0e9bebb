// SPDX-License-Identifier: MIT
#include "base/clock.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void assert_dates(uint64_t real_ns, const char *http, const char *iso)
{
    char text[64];
    memset(text, '#', sizeof text);
    clock_http_date(text, real_ns);
    assert_int_equal(strlen(http), CLOCK_HTTP_DATE_LEN);
    assert_memory_equal(text, http, CLOCK_HTTP_DATE_LEN);
    assert_int_equal(text[CLOCK_HTTP_DATE_LEN], '#');
    memset(text, '#', sizeof text);
    clock_iso(text, real_ns);
    assert_int_equal(strlen(iso), CLOCK_ISO_LEN);
    assert_memory_equal(text, iso, CLOCK_ISO_LEN);
    assert_int_equal(text[CLOCK_ISO_LEN], '#');
}

static void test_dates(void **state)
{
    (void)state;
    assert_dates(0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00.000Z");
    assert_dates(784111777ull * NS_PER_SEC + 999999999, "Sun, 06 Nov 1994 08:49:37 GMT",
                 "1994-11-06T08:49:37.999Z");
    assert_dates(1709251199ull * NS_PER_SEC + 5 * NS_PER_MS, "Thu, 29 Feb 2024 23:59:59 GMT",
                 "2024-02-29T23:59:59.005Z");
    assert_dates(4102444800ull * NS_PER_SEC, "Fri, 01 Jan 2100 00:00:00 GMT",
                 "2100-01-01T00:00:00.000Z");
}

static void test_clocks_run(void **state)
{
    (void)state;
    uint64_t before = clock_monotonic_ns();
    assert_true(clock_monotonic_ns() >= before);
    assert_true(clock_real_ns() > 1600000000ull * NS_PER_SEC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_clocks_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
