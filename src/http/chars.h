// SPDX-License-Identifier: MIT
// What each byte may be part of, one table for all grammars of the protocol. Any thread.
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum {
    CHAR_TOKEN = 1,  // tchar (RFC 9110 5.6.2)
    CHAR_VALUE = 2,  // field-vchar, obs-text, SP, HTAB (RFC 9110 5.5)
    CHAR_PATH = 4,   // pchar and '/' without '%' (RFC 3986 3.3), and '[', ']', '\\'
    CHAR_QUERY = 8,  // the same, '%', '?', and what browsers leave as it is in queries
    CHAR_HOST = 16,  // letters, digits, '-', '_'
    CHAR_ALNUM = 32, // letters and digits
};

extern const uint8_t http_chars[256];

static inline bool char_is(char c, unsigned classes)
{
    return (http_chars[(unsigned char)c] & classes) != 0;
}
