// SPDX-License-Identifier: MIT
// One event loop a thread: epoll (edge-triggered), timers, a mailbox, a run list, deferred frees.
//
//     turn:  epoll_wait ─► events ─► mailbox ─► run list ─► timers ─► deferred frees ─► RCU quiescent
//                                └───────── after_events ────────────┘
//
// Everything here belongs to the loop's thread, but loop_post() and loop_stop().
#pragma once
#include "base/err.h"
#include "base/list.h"
#include "base/str.h"
#include <stdatomic.h>

enum {
    LOOP_READ_LEN = 65536, // the shared receive buffer
    LOOP_EVENT_MAX = 256,  // events taken by one epoll_wait
    LOOP_WHEEL_LEVELS = 6, // 64 slots each, 1 ms ticks: 2 years
};

struct loop;
struct loop_io;
struct outq_pool;
struct tls_buffers;

// A file descriptor in the loop. Embedded in its owner. `on_event` gets EPOLL… bits. It is called for
// every edge; what it does not use up it remembers itself (and runs again with loop_run).
struct loop_io {
    int fd; // -1: not in the loop; events that were already taken from the kernel are dropped
    void (*on_event)(struct loop *loop, struct loop_io *io, uint32_t events);
};

// Runs once, in the next turn at the latest. Adding it twice is one run.
struct loop_task {
    struct list node;
    void (*run)(struct loop *loop, struct loop_task *task);
};

struct loop_timer {
    struct list node;
    uint64_t deadline_ms; // loop time
    void (*on_expire)(struct loop *loop, struct loop_timer *timer);
};

// A free at the end of the turn: nobody frees an object inside a callback that it was passed to.
struct loop_deferred {
    struct loop_deferred *next;
    void (*free_it)(struct loop *loop, struct loop_deferred *deferred);
};

// A message from any thread. Owned by the mailbox until run() gets it, which then owns it.
struct loop_message {
    struct loop_message *next;
    void (*run)(struct loop *loop, struct loop_message *message);
};

struct loop {
    int epoll_fd;
    int wake_fd;
    uint64_t now_ns; // monotonic, read once a turn
    uint64_t now_ms;
    uint64_t real_ns; // wall clock of the same moment
    void *owner;      // the thread's own struct (worker, control)
    char *read_buf;   // LOOP_READ_LEN bytes, for whoever reads; views into it end with the event
    struct list run_list;
    struct loop_deferred *deferred;
    // Called after each event, message, task and timer: flushes what they queued (net/outq.h) before
    // the receive buffer is used again.
    void (*after_event)(struct loop *loop);
    struct list dirty; // outputs with something to flush
    // Called while `gathered` is not empty, after the events of a turn and at its end, and in between where
    // there are many: sends what outputs gathered over several events.
    void (*after_events)(struct loop *loop);
    struct list gathered;
    unsigned gather_count;           // events, messages, tasks and timers since
    struct outq_pool *outq_pool;     // memory of outputs (net/outq.h)
    struct tls_buffers *tls_buffers; // wire buffers (net/tls.h), or NULL
    _Atomic(struct loop_message *) mailbox;
    atomic_bool stopping;
    bool is_rcu;       // registered; goes offline before it blocks
    bool is_simulated; // loop_read_clock leaves the clock fields as they are
    uint64_t turns;
    // timer wheel
    uint64_t wheel_ms; // all before this is done
    uint64_t wheel_used[LOOP_WHEEL_LEVELS];
    struct list wheel[LOOP_WHEEL_LEVELS][64];
};

// 0, or ERR_SYSTEM / ERR_MEMORY. Not yet bound to a thread.
int loop_init(struct loop *loop) WARN_UNUSED;
void loop_fini(struct loop *loop);
// Runs until loop_stop(). The calling thread is registered with RCU for that time.
void loop_run(struct loop *loop);
// One turn that waits at most wait_ms (-1: as long as nothing happens). For tests and loop_run.
void loop_turn(struct loop *loop, int wait_ms);
// Runs messages until there are none, and nothing else: at the end of an owner's life.
void loop_empty_mailbox(struct loop *loop);
bool loop_has_messages(const struct loop *loop);
// Any thread; the loop ends after its turn.
void loop_stop(struct loop *loop);
// Any thread. Never fails, never blocks; messages of one sender arrive in order.
void loop_post(struct loop *loop, struct loop_message *message);
// Reads the clocks again (at the start of a turn). Does nothing in simulations, which set the fields
// themselves.
void loop_read_clock(struct loop *loop);

// Adds io->fd for reading, writing and peer close, edge-triggered. 0, or ERR_SYSTEM.
int loop_add(struct loop *loop, struct loop_io *io) WARN_UNUSED;
// The same with chosen EPOLL… bits (listeners: level-triggered, exclusive).
int loop_add_events(struct loop *loop, struct loop_io *io, uint32_t events) WARN_UNUSED;
// Closes the descriptor and forgets pending events of it. Not for one of several duplicates, which
// would stay in the loop: loop_release() and close().
void loop_close(struct loop *loop, struct loop_io *io);
// Another loop_io takes the place of this one, with its descriptor (`to->fd` is set, `from->fd` is -1).
// 0, or ERR_SYSTEM and nothing has changed.
int loop_move(struct loop *loop, struct loop_io *from, struct loop_io *to) WARN_UNUSED;
// Takes it out without closing; returns the descriptor.
int loop_release(struct loop *loop, struct loop_io *io);

void loop_task_init(struct loop_task *task, void (*run)(struct loop *loop, struct loop_task *task));
void loop_task_add(struct loop *loop, struct loop_task *task);
void loop_task_cancel(struct loop_task *task);

void loop_timer_init(struct loop_timer *timer,
                     void (*on_expire)(struct loop *loop, struct loop_timer *timer));
// (Re)arms it `after_ms` from now. At least 1 ms; never early, at most one tick and one turn late.
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t after_ms);
void loop_timer_cancel(struct loop *loop, struct loop_timer *timer);
static inline bool loop_timer_is_set(const struct loop_timer *timer)
{
    return timer->node.next != &timer->node;
}

void loop_defer(struct loop *loop, struct loop_deferred *deferred,
                void (*free_it)(struct loop *loop, struct loop_deferred *deferred));
// Runs them now: at the end of a loop's life, outside of any event.
void loop_run_deferred(struct loop *loop);
