// SPDX-License-Identifier: MIT
// Hosts that the live table does not know are asked for elsewhere, once, while their requests wait.
//
//   transaction ─ park at `route` ─► miss ═ message ═► who knows (misses_source.ask, another thread)
//                                                          │ makes the route live, or knows of none
//   transaction ◄─ goes through `route` again ◄═ message ◄─┘ miss_answer()
//
// Requests for the same host join the one look-up of their worker. What is not there is remembered for a
// moment. Beyond MISS_MAX look-ups of a worker a host is unknown at once.
#pragma once
#include "http/uri.h"
#include "loop/loop.h"

enum {
    MISS_MAX = 100,          // look-ups of a worker under way
    MISS_REMEMBERED = 1024,  // hosts, at most, that a worker remembers as unknown
    MISS_NEGATIVE_MS = 1000, // for so long
};

// One look-up. Its asker has it until miss_answer(); the host stays as it is for that time.
struct miss {
    struct loop_message message; // for who answers to use, until miss_answer()
    struct list node;            // the same
    void *asked;                 // the same
    // The worker's.
    struct misses *owner; // NULL: the worker has ended
    struct list txns;
    uint64_t hash;
    // Of the question: constant.
    struct loop *loop; // the worker's
    size_t host_len;
    char host[URI_HOST_MAX + 1]; // canonical, terminated
    // Of the answer.
    uint64_t unknown_until_ms; // see miss_answer()
};

// Who is asked; shared by all workers, constant.
struct misses_source {
    // Any worker. Never waits; answers later, once, in any case.
    void (*ask)(void *context, struct miss *miss);
    void *context;
    unsigned timeout_ms; // so long a request waits for it
};

// The thread that was asked, or who ends it. There is no such host: then it is remembered until this time of
// loops (at most MISS_NEGATIVE_MS from now); 0: it is live now, or nobody knows. Takes the miss. All are
// answered before the workers' loops are emptied for the last time.
void miss_answer(struct miss *miss, uint64_t unknown_until_ms);

// ---- a worker's; embedded in its proxy ----

struct txn;

struct misses {
    const struct misses_source *source; // NULL: there is none
    struct loop *loop;
    struct miss *under_way[MISS_MAX]; // in no order
    unsigned count;
    struct {
        uint64_t hash;
        uint64_t until_ms;
    } * remembered; // MISS_REMEMBERED, by hash; made with the first
};

void misses_init(struct misses *misses, struct loop *loop, const struct misses_source *source);
// Nothing waits any more.
void misses_fini(struct misses *misses);
