// SPDX-License-Identifier: MIT
#include "base/invariant.h"
#include "base/log.h"

_Noreturn void invariant_failed(const char *condition, const char *file, int line)
{
    log_error("invariant failed at %s:%d: %s", file, line, condition);
    abort();
}
