// SPDX-License-Identifier: MIT
// What cannot happen. Kept in release builds: a wrong state is stopped before it does harm. Never for
// what a peer, an operator or a full disk can cause: those are errors.
#pragma once

_Noreturn void invariant_failed(const char *condition, const char *file, int line);

#define INVARIANT(condition)                                  \
    do {                                                      \
        if (__builtin_expect(!(condition), 0)) {              \
            invariant_failed(#condition, __FILE__, __LINE__); \
        }                                                     \
    } while (0)
