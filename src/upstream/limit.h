// SPDX-License-Identifier: MIT
// How many connections may be open to one target, over all workers. Connections of a limited target are
// shared by nobody who has not the same limit, so the count is exact.
//
//   control: new, set_max        workers: take ─► connection ─► give ─► the pool's queue is kicked
//   at the limit, while other workers keep idle ones: one message goes round and has them closed
#pragma once
#include "observe/stats.h"
#include "upstream/queue.h"

struct upstream;
struct upstream_limit;

// Control, or any thread; one reference. `max` 0: no bound. NULL: out of memory.
struct upstream_limit *upstream_limit_new(unsigned max);
struct upstream_limit *upstream_limit_ref(struct upstream_limit *limit); // any thread
// Any thread. NULL is allowed.
void upstream_limit_unref(struct upstream_limit **limit);
// A lower one closes nothing: what is over it ends by itself. Any thread.
void upstream_limit_set_max(struct upstream_limit *limit, unsigned max);
// Who waits for room: kicked when a connection has ended or became idle. The first one stays; referenced.
// Any thread. upstream_get() does it with the queue of a request that it turns away.
void upstream_limit_set_queue(struct upstream_limit *limit, struct pool_queue *queue);
// Connections that are open or being opened, and how many of them are idle. Any thread.
unsigned upstream_limit_open(const struct upstream_limit *limit);
unsigned upstream_limit_idle(const struct upstream_limit *limit);

// At the limit, and none of them is idle. Any thread.
bool upstream_limit_is_full(const struct upstream_limit *limit);
// Some were HTTP/2: at the limit, one worker may have room on a connection and another none. Any thread.
bool upstream_limit_is_h2(const struct upstream_limit *limit);

// ---- workers (upstream.c) ----

// All workers' connections; zero at first, constant while threads run.
struct upstream_peers {
    unsigned count;
    struct upstream *items[STATS_WORKER_MAX];
};

// Before the threads start; upstream_fini() takes it out again.
static inline void upstream_peers_add(struct upstream_peers *peers, struct upstream *upstream)
{
    if (peers->count < STATS_WORKER_MAX) { // there are no more workers
        peers->items[peers->count++] = upstream;
    }
}

// Counts one more connection. False: at the limit, nothing has changed.
bool upstream_limit_take(struct upstream_limit *limit);
void upstream_limit_give(struct upstream_limit *limit);
void upstream_limit_note_idle(struct upstream_limit *limit, bool is_idle);
// An HTTP/2 connection takes more streams.
void upstream_limit_note_room(struct upstream_limit *limit);
// Has one idle connection closed, on whatever other worker there is one; `peers` may be NULL. Whoever waits
// is told by the queue. One message a limit is under way, however many ask.
void upstream_limit_recall(struct upstream_limit *limit, struct upstream_peers *peers,
                           const struct upstream *self);
