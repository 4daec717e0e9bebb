// SPDX-License-Identifier: MIT
#pragma once
#include "base/str.h"

// Bytes (1 to 4) of the well-formed UTF-8 sequence that s begins with, or 0 (RFC 3629: no overlong
// forms, no surrogates, nothing above U+10FFFF). Any thread.
size_t utf8_len(struct str s);
// Is all of s well-formed?
bool utf8_is_valid(struct str s);
