// SPDX-License-Identifier: MIT
// Time. On the data path the loop reads it once a turn (loop->now_ns); this is what it reads with,
// and what simulations replace by setting the loop's fields themselves. Any thread.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define NS_PER_MS  1000000ull
#define NS_PER_SEC 1000000000ull

uint64_t clock_monotonic_ns(void);
// Since 1970, UTC.
uint64_t clock_real_ns(void);

enum {
    CLOCK_HTTP_DATE_LEN = 29, // "Sun, 06 Nov 1994 08:49:37 GMT"
    CLOCK_ISO_LEN = 24,       // "2025-01-31T12:00:00.123Z"
};
// Writes exactly CLOCK_HTTP_DATE_LEN bytes, not terminated (IMF-fixdate, RFC 9110 5.6.7).
void clock_http_date(char *to, uint64_t real_ns);
// Writes exactly CLOCK_ISO_LEN bytes, not terminated (RFC 3339, milliseconds).
void clock_iso(char *to, uint64_t real_ns);
