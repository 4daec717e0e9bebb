// SPDX-License-Identifier: MIT
// Memory of HTTP/2 sessions: a thread's free lists by size class, so that a warm session calls no
// malloc. Blocks of a class over what it may keep go back to malloc; when the last user of the thread is
// gone, all do. Everything: the thread that made it (or, when that has ended, the one that clears up).
#pragma once
#include <nghttp2/nghttp2.h>

struct h2_memory;

// One more user of this thread's memory; NULL: out of memory. Each session holds one.
struct h2_memory *h2_memory_ref(void);
// Everything that this user took must be given back. NULLs the pointer.
void h2_memory_unref(struct h2_memory **memory);
// For nghttp2_session_*_new3(); lives as long as the memory.
nghttp2_mem *h2_memory_of_session(struct h2_memory *memory);
// `size` bytes aligned to 16, not cleared; NULL: out of memory.
void *h2_memory_get(struct h2_memory *memory, size_t size);
// NULL is allowed.
void h2_memory_put(struct h2_memory *memory, void *p);
// For tests: bytes in free lists.
size_t h2_memory_kept(const struct h2_memory *memory);
