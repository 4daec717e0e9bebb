// SPDX-License-Identifier: MIT
// Finding the end of a piece of a head, 16 bytes at a time where the machine can. Each has a portable
// twin with the same result (test_h1_scan.c); H1_SCAN_PORTABLE leaves the SSE2 ones out. None reads
// at or behind `end`. Any thread.
#pragma once
#include "http/chars.h"
#include <stddef.h>

#if defined(__SSE2__) && !defined(H1_SCAN_PORTABLE)
#define H1_SCAN_SSE2 1
#include <emmintrin.h>
#endif

// The first byte from p on that may not be in a field value or a reason: a control byte but HTAB.
static inline const char *h1_scan_value_portable(const char *p, const char *end)
{
    while (p < end && char_is(*p, CHAR_VALUE)) {
        p++;
    }
    return p;
}

// The first byte that is no visible ASCII character: the end of a request target.
static inline const char *h1_scan_target_portable(const char *p, const char *end)
{
    while (p<end && * p> 0x20 && *p < 0x7f) {
        p++;
    }
    return p;
}

// The first byte that is not part of a token: the end of a field name. *plain becomes false when
// there is anything but letters, digits and '-' in it.
static inline const char *h1_scan_token_portable(const char *p, const char *end, bool *plain)
{
    while (p < end && char_is(*p, CHAR_TOKEN)) {
        *plain &= *p == '-' || char_is(*p, CHAR_ALNUM);
        p++;
    }
    return p;
}

#ifdef H1_SCAN_SSE2

static inline __m128i h1_load16(const char *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline const char *h1_scan_value(const char *p, const char *end)
{
    // A byte is a control byte if the unsigned minimum of it and 0x1f is itself.
    const __m128i control = _mm_set1_epi8(0x1f);
    const __m128i tab = _mm_set1_epi8('\t');
    const __m128i del = _mm_set1_epi8(0x7f);
    while (end - p >= 16) {
        __m128i x = h1_load16(p);
        __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(x, control), x);
        __m128i bad =
            _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(x, tab), low), _mm_cmpeq_epi8(x, del));
        unsigned mask = (unsigned)_mm_movemask_epi8(bad);
        if (mask != 0) {
            return p + __builtin_ctz(mask);
        }
        p += 16;
    }
    return h1_scan_value_portable(p, end);
}

static inline const char *h1_scan_target(const char *p, const char *end)
{
    // Signed comparison: bytes from 0x80 on are negative, so less than a space too.
    const __m128i space = _mm_set1_epi8(0x21);
    const __m128i del = _mm_set1_epi8(0x7f);
    while (end - p >= 16) {
        __m128i x = h1_load16(p);
        __m128i bad = _mm_or_si128(_mm_cmplt_epi8(x, space), _mm_cmpeq_epi8(x, del));
        unsigned mask = (unsigned)_mm_movemask_epi8(bad);
        if (mask != 0) {
            return p + __builtin_ctz(mask);
        }
        p += 16;
    }
    return h1_scan_target_portable(p, end);
}

// True for each byte of x from `low` to `low` + `count` - 1.
static inline __m128i h1_in_range(__m128i x, char low, char count)
{
    __m128i shifted = _mm_sub_epi8(x, _mm_set1_epi8(low));
    __m128i last = _mm_set1_epi8((char)(count - 1));
    return _mm_cmpeq_epi8(_mm_min_epu8(shifted, last), shifted);
}

static inline const char *h1_scan_token(const char *p, const char *end, bool *plain)
{
    // Letters, digits and '-' here; the table takes over at any other byte.
    if (end - p >= 16) {
        __m128i x = h1_load16(p);
        __m128i letter = h1_in_range(_mm_or_si128(x, _mm_set1_epi8(0x20)), 'a', 26);
        __m128i digit = h1_in_range(x, '0', 10);
        __m128i dash = _mm_cmpeq_epi8(x, _mm_set1_epi8('-'));
        __m128i good = _mm_or_si128(_mm_or_si128(letter, digit), dash);
        unsigned mask = (unsigned)_mm_movemask_epi8(good) ^ 0xffffu;
        p += mask == 0 ? 16 : __builtin_ctz(mask);
        if (mask != 0 && *p == ':') {
            return p;
        }
    }
    return h1_scan_token_portable(p, end, plain);
}

#else

static inline const char *h1_scan_value(const char *p, const char *end)
{
    return h1_scan_value_portable(p, end);
}

static inline const char *h1_scan_target(const char *p, const char *end)
{
    return h1_scan_target_portable(p, end);
}

static inline const char *h1_scan_token(const char *p, const char *end, bool *plain)
{
    return h1_scan_token_portable(p, end, plain);
}

#endif
