// SPDX-License-Identifier: MIT
#include "model/problem.h"
#include "base/utf8.h"
#include <stdarg.h>

enum { FIRST_SIZE = 4 };

void problems_init(struct problems *problems)
{
    *problems = (struct problems){0};
}

void problems_fini(struct problems *problems)
{
    free(problems->items);
    problems_init(problems);
}

// Details quote what somebody sent: it must not reach a terminal or a JSON text as it is.
static void make_printable(char *text)
{
    struct str rest = str_from_c(text);
    size_t out = 0;
    while (rest.len > 0) {
        size_t len = utf8_len(rest);
        unsigned char c = (unsigned char)rest.p[0];
        if (len == 0 || c < 0x20 || c == 0x7f) {
            // A sequence that the end of the buffer has cut goes without a trace.
            if (len != 0 || rest.len >= 4) {
                text[out++] = '?';
            }
            len = 1;
        } else {
            memmove(text + out, rest.p, len);
            out += len;
        }
        rest = str_from(rest, len);
    }
    text[out] = '\0';
}

static struct problem *take_item(struct problems *problems)
{
    if (problems->count == PROBLEM_MAX) {
        return NULL;
    }
    // Room doubles: FIRST_SIZE, twice that, …
    unsigned count = problems->count;
    if (count == 0 || (count >= FIRST_SIZE && (count & (count - 1)) == 0)) {
        size_t size = count == 0 ? (size_t)FIRST_SIZE : (size_t)count * 2;
        struct problem *items = realloc(problems->items, size * sizeof *items);
        if (items == NULL) {
            return NULL;
        }
        problems->items = items;
    }
    return &problems->items[problems->count++];
}

int problems_add(struct problems *problems, int err, const char *pointer, const char *format, ...)
{
    if (problems->err == 0) {
        problems->err = err;
    }
    struct problem *item = take_item(problems);
    if (item == NULL) {
        problems->dropped++;
        return err;
    }
    str_copy(item->pointer, sizeof item->pointer, str_from_c(pointer));
    make_printable(item->pointer);
    va_list args;
    va_start(args, format);
    if (vsnprintf(item->detail, sizeof item->detail, format, args) < 0) {
        item->detail[0] = '\0';
    }
    va_end(args);
    make_printable(item->detail);
    return err;
}
