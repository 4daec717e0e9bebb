// SPDX-License-Identifier: MIT
#include "http/date.h"
#include "base/clock.h"

struct str http_date(uint64_t real_ns)
{
    static _Thread_local uint64_t second = UINT64_MAX;
    static _Thread_local char text[CLOCK_HTTP_DATE_LEN];
    if (second != real_ns / NS_PER_SEC) {
        second = real_ns / NS_PER_SEC;
        clock_http_date(text, real_ns);
    }
    return str_make(text, sizeof text);
}
