// SPDX-License-Identifier: MIT
// Arrays that grow: an owner has a pointer, a count and a size, all zero at first, and frees the pointer.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

// The items, moved, with `size` (in items, not 0) of `item_len` bytes each; NULL: memory is out, or so many
// bytes cannot be, and the array is as before.
static inline void *array_resize(void *items, size_t size, size_t item_len)
{
    size_t len;
    return __builtin_mul_overflow(size, item_len, &len) ? NULL : realloc(items, len);
}

// Is there room for one more item, or could it be made? `first` items at first, then twice as many as before.
// False: memory is out, nothing has changed. The first three are lvalues, read more than once; the bound on
// how many there may be is the caller's.
#define ARRAY_ROOM(items, count, size, first)                                  \
    ({                                                                         \
        bool room_ = (count) < (size);                                         \
        if (!room_) {                                                          \
            size_t size_ = (size) == 0 ? (size_t)(first) : (size_t)(size)*2;   \
            void *items_ = (__typeof__(size))size_ == size_                    \
                               ? array_resize((items), size_, sizeof *(items)) \
                               : NULL;                                         \
            if (items_ != NULL) {                                              \
                (items) = items_;                                              \
                (size) = (__typeof__(size))size_;                              \
                room_ = true;                                                  \
            }                                                                  \
        }                                                                      \
        room_;                                                                 \
    })
