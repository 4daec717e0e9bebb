// SPDX-License-Identifier: MIT
#include "loop/loop.h"
#include "base/clock.h"
#include "base/invariant.h"
#include "loop/rcu.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { WHEEL_BITS = 6, WHEEL_SLOTS = 64 };

// Events, messages, tasks and timers after which what was gathered is sent, though more follow: about a millisecond
// of a busy turn.
enum { GATHER_EVENTS = 64 };

// One turn of the highest level: no timer is set further ahead than that.
static const uint64_t wheel_span = 1ull << (WHEEL_BITS * LOOP_WHEEL_LEVELS);

void loop_read_clock(struct loop *loop)
{
    if (loop->is_simulated) {
        return;
    }
    loop->now_ns = clock_monotonic_ns();
    loop->now_ms = loop->now_ns / NS_PER_MS;
    loop->real_ns = clock_real_ns();
}

static void flush_gathered(struct loop *loop)
{
    loop->gather_count = 0;
    if (loop->after_events != NULL && !list_is_empty(&loop->gathered)) {
        loop->after_events(loop);
    }
}

static void flush(struct loop *loop)
{
    if (loop->after_event != NULL && !list_is_empty(&loop->dirty)) {
        loop->after_event(loop);
    }
    if (++loop->gather_count >= GATHER_EVENTS) {
        flush_gathered(loop);
    }
}

// ---- descriptors ----

int loop_add_events(struct loop *loop, struct loop_io *io, uint32_t events)
{
    struct epoll_event event = {.events = events, .data = {.ptr = io}};
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, io->fd, &event) == 0 ? 0 : ERR_SYSTEM;
}

int loop_add(struct loop *loop, struct loop_io *io)
{
    return loop_add_events(loop, io, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

void loop_close(struct loop *loop, struct loop_io *io)
{
    (void)loop;
    if (io->fd >= 0) {
        close(io->fd); // the last descriptor of its socket, so it leaves the epoll set by itself
        io->fd = -1;
    }
}

int loop_move(struct loop *loop, struct loop_io *from, struct loop_io *to)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = to};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, from->fd, &event) != 0) {
        return ERR_SYSTEM;
    }
    to->fd = from->fd;
    from->fd = -1;
    return 0;
}

int loop_release(struct loop *loop, struct loop_io *io)
{
    int fd = io->fd;
    if (fd >= 0) {
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        io->fd = -1;
    }
    return fd;
}

// ---- tasks, deferred frees ----

void loop_task_init(struct loop_task *task, void (*run)(struct loop *loop, struct loop_task *task))
{
    list_init(&task->node);
    task->run = run;
}

void loop_task_add(struct loop *loop, struct loop_task *task)
{
    if (list_is_empty(&task->node)) {
        list_append(&loop->run_list, &task->node);
    }
}

void loop_task_cancel(struct loop_task *task)
{
    list_remove(&task->node);
}

static void run_tasks(struct loop *loop)
{
    struct list now;
    list_init(&now);
    list_splice(&now, &loop->run_list); // what is added meanwhile waits for the next turn
    while (!list_is_empty(&now)) {
        struct loop_task *task = LIST_FIRST(&now, struct loop_task, node);
        list_remove(&task->node);
        task->run(loop, task);
        flush(loop);
    }
}

void loop_defer(struct loop *loop, struct loop_deferred *deferred,
                void (*free_it)(struct loop *loop, struct loop_deferred *deferred))
{
    deferred->free_it = free_it;
    deferred->next = loop->deferred;
    loop->deferred = deferred;
}

void loop_run_deferred(struct loop *loop)
{
    while (loop->deferred != NULL) {
        struct loop_deferred *deferred = loop->deferred;
        loop->deferred = deferred->next;
        deferred->free_it(loop, deferred);
    }
}

// ---- timers: a hierarchical wheel of 1 ms ticks; a slot of level n spans 64^n ms ----

void loop_timer_init(struct loop_timer *timer,
                     void (*on_expire)(struct loop *loop, struct loop_timer *timer))
{
    list_init(&timer->node);
    timer->deadline_ms = 0;
    timer->on_expire = on_expire;
}

static void wheel_insert(struct loop *loop, struct loop_timer *timer)
{
    uint64_t at = timer->deadline_ms > loop->wheel_ms ? timer->deadline_ms : loop->wheel_ms + 1;
    // The level is that of the highest bit in which the deadline differs from the wheel's time, so
    // a slot is always ahead of the wheel's position in its level.
    uint64_t difference = at ^ loop->wheel_ms;
    unsigned level =
        difference == 0 ? 0 : (63u - (unsigned)__builtin_clzll(difference)) / WHEEL_BITS;
    if (level >= LOOP_WHEEL_LEVELS) {
        level = LOOP_WHEEL_LEVELS - 1;
    }
    unsigned slot = (at >> (level * WHEEL_BITS)) & (WHEEL_SLOTS - 1);
    list_append(&loop->wheel[level][slot], &timer->node);
    loop->wheel_used[level] |= 1ull << slot;
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t after_ms)
{
    list_remove(&timer->node);
    // One more than asked: the current millisecond has partly passed.
    timer->deadline_ms = loop->now_ms + (after_ms < wheel_span ? after_ms : wheel_span - 1) + 1;
    wheel_insert(loop, timer);
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    list_remove(&timer->node);
}

// The first used slot of `level` among `slots`, or -1. Empty slots may still have their bit; clearing
// it here is enough.
static int first_used(struct loop *loop, unsigned level, uint64_t slots)
{
    uint64_t used = loop->wheel_used[level] & slots;
    while (used != 0) {
        unsigned slot = (unsigned)__builtin_ctzll(used);
        if (!list_is_empty(&loop->wheel[level][slot])) {
            return (int)slot;
        }
        loop->wheel_used[level] &= ~(1ull << slot);
        used &= used - 1;
    }
    return -1;
}

// Milliseconds until the wheel has something to do, or -1. A slot of a higher level counts when it
// begins: its timers are spread over the lower levels then.
static int64_t wheel_next(struct loop *loop)
{
    for (unsigned level = 0; level < LOOP_WHEEL_LEVELS; level++) {
        unsigned shift = level * WHEEL_BITS;
        unsigned at = (loop->wheel_ms >> shift) & (WHEEL_SLOTS - 1);
        uint64_t ahead = at == WHEEL_SLOTS - 1 ? 0 : ~0ull << (at + 1);
        uint64_t base = loop->wheel_ms >> (shift + WHEEL_BITS) << (shift + WHEEL_BITS);
        int slot = first_used(loop, level, ahead);
        if (slot < 0 && level == LOOP_WHEEL_LEVELS - 1) {
            // No level is above: what is behind belongs to the next turn of the wheel.
            slot = first_used(loop, level, ~ahead);
            base += wheel_span;
        }
        if (slot >= 0) {
            return (int64_t)(base + ((uint64_t)slot << shift) - loop->wheel_ms);
        }
    }
    return -1;
}

static void take_slot(struct loop *loop, unsigned level, struct list *into)
{
    unsigned slot = (loop->wheel_ms >> (level * WHEEL_BITS)) & (WHEEL_SLOTS - 1);
    list_splice(into, &loop->wheel[level][slot]);
    loop->wheel_used[level] &= ~(1ull << slot);
}

// Moves the wheel to `ms`, where something is due in some level.
static void wheel_advance(struct loop *loop, uint64_t ms)
{
    struct list due;
    list_init(&due);
    loop->wheel_ms = ms;
    for (unsigned level = LOOP_WHEEL_LEVELS; level-- > 0;) {
        if ((ms & ((1ull << (level * WHEEL_BITS)) - 1)) == 0) {
            take_slot(loop, level, &due);
        }
    }
    while (!list_is_empty(&due)) {
        struct loop_timer *timer = LIST_FIRST(&due, struct loop_timer, node);
        list_remove(&timer->node);
        if (timer->deadline_ms > loop->wheel_ms) {
            wheel_insert(loop, timer);
            continue;
        }
        timer->on_expire(loop, timer);
        flush(loop);
    }
}

static void run_timers(struct loop *loop)
{
    while (loop->wheel_ms < loop->now_ms) {
        int64_t next = wheel_next(loop);
        if (next < 0 || loop->wheel_ms + (uint64_t)next > loop->now_ms) {
            loop->wheel_ms = loop->now_ms;
            return;
        }
        wheel_advance(loop, loop->wheel_ms + (uint64_t)next);
    }
}

// ---- mailbox: a stack that many push to and the loop empties at once ----

void loop_post(struct loop *loop, struct loop_message *message)
{
    struct loop_message *head = atomic_load_explicit(&loop->mailbox, memory_order_relaxed);
    do {
        message->next = head;
        // Release pairs with the acquire in run_mailbox: the message's content goes with it.
    } while (!atomic_compare_exchange_weak_explicit(&loop->mailbox, &head, message,
                                                    memory_order_release, memory_order_relaxed));
    if (head == NULL) {
        uint64_t one = 1;
        ssize_t done = write(loop->wake_fd, &one, sizeof one);
        (void)done; // full means that it is already awake
    }
}

static void run_mailbox(struct loop *loop)
{
    if (atomic_load_explicit(&loop->mailbox, memory_order_relaxed) == NULL) {
        return;
    }
    struct loop_message *newest =
        atomic_exchange_explicit(&loop->mailbox, NULL, memory_order_acquire);
    struct loop_message *oldest = NULL;
    while (newest != NULL) {
        struct loop_message *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct loop_message *message = oldest;
        oldest = message->next;
        message->run(loop, message);
        flush(loop);
    }
}

bool loop_has_messages(const struct loop *loop)
{
    return atomic_load_explicit(&loop->mailbox, memory_order_relaxed) != NULL;
}

void loop_empty_mailbox(struct loop *loop)
{
    while (loop_has_messages(loop)) {
        run_mailbox(loop);
    }
}

// ---- the loop ----

int loop_init(struct loop *loop)
{
    memset(loop, 0, sizeof *loop);
    list_init(&loop->run_list);
    list_init(&loop->dirty);
    list_init(&loop->gathered);
    for (unsigned level = 0; level < LOOP_WHEEL_LEVELS; level++) {
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) {
            list_init(&loop->wheel[level][slot]);
        }
    }
    loop_read_clock(loop);
    loop->wheel_ms = loop->now_ms;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop->read_buf = malloc(LOOP_READ_LEN);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {.ptr = NULL}};
    if (loop->epoll_fd < 0 || loop->wake_fd < 0 || loop->read_buf == NULL ||
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) != 0) {
        int err = loop->read_buf == NULL ? ERR_MEMORY : ERR_SYSTEM;
        loop_fini(loop);
        return err;
    }
    return 0;
}

void loop_fini(struct loop *loop)
{
    loop_run_deferred(loop);
    if (loop->epoll_fd >= 0) {
        close(loop->epoll_fd);
    }
    if (loop->wake_fd >= 0) {
        close(loop->wake_fd);
    }
    free(loop->read_buf);
    loop->read_buf = NULL;
    loop->epoll_fd = -1;
    loop->wake_fd = -1;
}

static bool has_work(struct loop *loop)
{
    return !list_is_empty(&loop->run_list) ||
           atomic_load_explicit(&loop->mailbox, memory_order_relaxed) != NULL;
}

static int wait_time(struct loop *loop, int wait_ms)
{
    if (wait_ms == 0 || has_work(loop)) {
        return 0;
    }
    int64_t next = wheel_next(loop);
    if (next >= 0) {
        next -= (int64_t)(loop->now_ms - loop->wheel_ms);
        if (next < 0) {
            next = 0;
        }
        if (wait_ms < 0 || next < wait_ms) {
            wait_ms = next > 60000 ? 60000 : (int)next;
        }
    }
    return wait_ms;
}

static void dispatch(struct loop *loop, struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        struct loop_io *io = events[i].data.ptr;
        if (io == NULL) {
            uint64_t ignored;
            ssize_t done = read(loop->wake_fd, &ignored, sizeof ignored);
            (void)done;
            continue;
        }
        // Closed by an earlier event of this turn; its memory lives until the turn's end.
        if (io->fd >= 0) {
            io->on_event(loop, io, events[i].events);
            flush(loop);
        }
    }
}

void loop_turn(struct loop *loop, int wait_ms)
{
    struct epoll_event events[LOOP_EVENT_MAX];
    flush(loop); // what was queued between turns
    flush_gathered(loop);
    wait_ms = wait_time(loop, wait_ms);
    if (loop->is_rcu && wait_ms != 0) {
        rcu_go_offline();
    }
    int count = epoll_wait(loop->epoll_fd, events, LOOP_EVENT_MAX, wait_ms);
    if (loop->is_rcu && wait_ms != 0) {
        rcu_go_online();
    }
    loop_read_clock(loop);
    loop->turns++;
    dispatch(loop, events, count);
    flush_gathered(loop);
    run_mailbox(loop);
    run_tasks(loop);
    run_timers(loop);
    flush_gathered(loop);
    loop_run_deferred(loop);
    if (loop->is_rcu) {
        rcu_turn_done();
    }
}

void loop_run(struct loop *loop)
{
    rcu_thread_begin();
    loop->is_rcu = true;
    while (!atomic_load_explicit(&loop->stopping, memory_order_acquire)) {
        loop_turn(loop, -1);
    }
    run_mailbox(loop);
    loop_run_deferred(loop);
    loop->is_rcu = false;
    rcu_thread_end();
}

void loop_stop(struct loop *loop)
{
    // Release pairs with the acquire in loop_run.
    atomic_store_explicit(&loop->stopping, true, memory_order_release);
    uint64_t one = 1;
    ssize_t done = write(loop->wake_fd, &one, sizeof one);
    (void)done;
}
