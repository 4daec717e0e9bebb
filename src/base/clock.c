// SPDX-License-Identifier: MIT
#include "base/clock.h"
#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t clock_monotonic_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_real_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

static void put_digits(char *to, unsigned value, int digits)
{
    for (int i = digits - 1; i >= 0; i--) {
        to[i] = (char)('0' + value % 10);
        value /= 10;
    }
}

static struct tm utc(uint64_t real_ns)
{
    time_t sec = (time_t)(real_ns / NS_PER_SEC);
    struct tm tm;
    gmtime_r(&sec, &tm);
    return tm;
}

void clock_http_date(char *to, uint64_t real_ns)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm = utc(real_ns);
    memcpy(to, "Sun, 06 Nov 1994 08:49:37 GMT", CLOCK_HTTP_DATE_LEN);
    memcpy(to, days + 3 * tm.tm_wday, 3);
    put_digits(to + 5, (unsigned)tm.tm_mday, 2);
    memcpy(to + 8, months + 3 * tm.tm_mon, 3);
    put_digits(to + 12, (unsigned)tm.tm_year + 1900, 4);
    put_digits(to + 17, (unsigned)tm.tm_hour, 2);
    put_digits(to + 20, (unsigned)tm.tm_min, 2);
    put_digits(to + 23, (unsigned)tm.tm_sec, 2);
}

void clock_iso(char *to, uint64_t real_ns)
{
    struct tm tm = utc(real_ns);
    memcpy(to, "1994-11-06T08:49:37.000Z", CLOCK_ISO_LEN);
    put_digits(to, (unsigned)tm.tm_year + 1900, 4);
    put_digits(to + 5, (unsigned)tm.tm_mon + 1, 2);
    put_digits(to + 8, (unsigned)tm.tm_mday, 2);
    put_digits(to + 11, (unsigned)tm.tm_hour, 2);
    put_digits(to + 14, (unsigned)tm.tm_min, 2);
    put_digits(to + 17, (unsigned)tm.tm_sec, 2);
    put_digits(to + 20, (unsigned)(real_ns / NS_PER_MS % 1000), 3);
}
