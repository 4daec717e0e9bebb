// SPDX-License-Identifier: MIT
// Names to addresses, again and again. One thread calls getaddrinfo (it may block); answers come to
// the control loop by its mailbox.
//
//     control ── watch ──► urgent ─┐
//                                  ├─► thread: getaddrinfo ──► mailbox ──► on_answer ─┐
//                          later ──┘◄──────────── 30 s after the answer ──────────────┘
#pragma once
#include "base/err.h"
#include "base/str.h"
#include "loop/loop.h"
#include <sys/socket.h>

enum {
    RESOLVER_REFRESH_MS = 30000, // between an answer and the next question
    RESOLVER_NAME_MAX = 255,
};

struct resolver;
struct resolver_name;

// Called on the control loop with the first address, IPv4 or IPv6, port 0. A question that failed
// calls nothing: the last answer stays. resolver_unwatch() may be called inside.
typedef void resolver_answer(void *context, const struct sockaddr *address, socklen_t len);

// 0, or ERR_MEMORY. All functions but the thread's own: control thread (or the starting one before).
int resolver_new(struct resolver **resolver) WARN_UNUSED;
// 0, or ERR_SYSTEM. Names watched before are asked now.
int resolver_start(struct resolver *resolver, struct loop *control) WARN_UNUSED;
// No answers after it. Does not wait for a question under way.
void resolver_stop(struct resolver *resolver);
// All names unwatched. An answer that is in the loop's mailbox frees itself there.
void resolver_free(struct resolver **resolver);

// Asks for `host` at once and then every 30 s. 0; ERR_MEMORY; ERR_LIMIT: the name is too long.
int resolver_watch(struct resolver *resolver, struct str host, resolver_answer *on_answer,
                   void *context, struct resolver_name **name) WARN_UNUSED;
void resolver_unwatch(struct resolver_name **name);
// Questions that gave no address. Any thread.
uint64_t resolver_failure_count(const struct resolver *resolver);
