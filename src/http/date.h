// SPDX-License-Identifier: MIT
// The Date field's value.
#pragma once
#include "base/str.h"

// That of the second that `real_ns` lies in, made once a second and thread; valid until the next call.
struct str http_date(uint64_t real_ns);
