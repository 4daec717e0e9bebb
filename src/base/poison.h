// SPDX-License-Identifier: MIT
// Included in front of every file by the build (-include): functions that do not know the size of
// what they write to, or that cannot report an error, do not compile.
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// glibc makes macros of some of them when it checks buffers (_FORTIFY_SOURCE).
#undef strcpy
#undef strcat
#undef sprintf
#undef vsprintf
#undef stpcpy
#pragma GCC poison strcpy strcat sprintf vsprintf strtok atoi atol atoll stpcpy
