// SPDX-License-Identifier: MIT
#pragma once
#include "base/err.h"
#include <stdint.h>

// How many bytes of a TCP connection that we opened the peer's kernel has acknowledged; also when the
// connection has failed, as long as the socket is open. Any thread.
// 0, or ERR_SYSTEM: not known (not TCP, or the kernel does not tell).
int net_acked(int fd, uint64_t *bytes) WARN_UNUSED;
