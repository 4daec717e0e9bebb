// SPDX-License-Identifier: MIT
// What is wrong with a declaration: a list of (JSON pointer, detail), for RFC 9457 answers, the CLI,
// and file:line:column messages. Owner thread only.
#pragma once
#include "base/err.h"
#include "base/str.h"

enum { PROBLEM_MAX = 20 }; // more are counted, not kept

struct problem {
    char pointer[256]; // RFC 6901, "" for the whole; a longer one is cut
    char detail[512];  // valid UTF-8 without control bytes, also where it quotes input
};

struct problems {
    int err; // the first one's code: ERR_SYNTAX (400), ERR_INVALID (422), ERR_IN_USE, …; 0 if none
    unsigned count;        // kept in items
    unsigned dropped;      // found, but not kept (too many, or no memory)
    struct problem *items; // malloc, grows
};

void problems_init(struct problems *problems);
// Frees the items; the list is empty after, and can be used again.
void problems_fini(struct problems *problems);
// Adds one. Returns `err`, so that a caller can write: return problems_add(…). pointer may be "".
int problems_add(struct problems *problems, int err, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
