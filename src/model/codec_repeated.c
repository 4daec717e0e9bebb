// SPDX-License-Identifier: MIT
// Is a text in a list twice?
#include "base/hash.h"
#include "model/codec_int.h"

enum { SEEN_SIZE = 2048, FEW = 16 };

_Static_assert((int)READER_TEXTS_MAX < (int)SEEN_SIZE, "a probe ends at a free place");

// Open addressing over the texts seen; the table is twice as large as the list may be.
struct seen {
    uint16_t index[SEEN_SIZE]; // of the text, plus 1
};

static struct str text_at(const void *first, size_t stride, unsigned i)
{
    return *(const struct str *)(const void *)((const char *)first + i * stride);
}

static unsigned find_before(struct seen *seen, const void *first, size_t stride, unsigned i)
{
    struct str text = text_at(first, stride, i);
    uint64_t slot = hash_str(text) % SEEN_SIZE;
    for (; seen->index[slot] != 0; slot = (slot + 1) % SEEN_SIZE) {
        unsigned other = seen->index[slot] - 1u;
        if (str_eq(text_at(first, stride, other), text)) {
            return other;
        }
    }
    seen->index[slot] = (uint16_t)(i + 1);
    return i;
}

static unsigned find_before_in_few(const void *first, size_t stride, unsigned i)
{
    struct str text = text_at(first, stride, i);
    unsigned other = 0;
    while (other < i && !str_eq(text_at(first, stride, other), text)) {
        other++;
    }
    return other;
}

void reader_check_repeated(struct reader *r, const struct at *at, const void *first, size_t stride,
                           unsigned count, const char *what)
{
    struct seen seen;
    if (count > FEW) {
        memset(&seen, 0, sizeof seen);
    }
    for (unsigned i = 0; i < count; i++) {
        if (text_at(first, stride, i).len == 0) {
            continue; // already a problem
        }
        unsigned other = count > FEW ? find_before(&seen, first, stride, i)
                                     : find_before_in_few(first, stride, i);
        if (other < i) {
            const struct at here = {at, NULL, i};
            reader_problem(r, &here, "is the same %s as element %u, \"%.*s\"", what, other,
                           STR_ARG(text_at(first, stride, i)));
        }
    }
}
