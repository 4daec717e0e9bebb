// SPDX-License-Identifier: MIT
// Objects on a free list are poisoned under AddressSanitizer, so that use after free is seen.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZE_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZE_HAS_ASAN 1
#endif
#endif

#ifdef SANITIZE_HAS_ASAN
#include <sanitizer/asan_interface.h>
#define SANITIZE_POISON(p, len)   __asan_poison_memory_region(p, len)
#define SANITIZE_UNPOISON(p, len) __asan_unpoison_memory_region(p, len)
#else
#define SANITIZE_POISON(p, len)   ((void)(p), (void)(len))
#define SANITIZE_UNPOISON(p, len) ((void)(p), (void)(len))
#endif
