// SPDX-License-Identifier: MIT
// SHA-256 for what is not a certificate. Any thread.
#pragma once
#include "base/str.h"

enum { CERT_DIGEST_LEN = 32 };

// Over all parts with their lengths, so that no two lists of parts are alike.
void cert_digest(const struct str *parts, unsigned count, uint8_t digest[CERT_DIGEST_LEN]);
// The same as 64 lower case hexadecimal digits, terminated.
void cert_digest_text(const struct str *parts, unsigned count, char to[2 * CERT_DIGEST_LEN + 1]);
