// SPDX-License-Identifier: MIT
#include "loop/loop.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

static void start(struct loop *loop, uint64_t ms)
{
    assert_int_equal(loop_init(loop), 0);
    loop->is_simulated = true;
    loop->now_ms = ms;
    loop->wheel_ms = ms;
}

static void pass_to(struct loop *loop, uint64_t ms)
{
    loop->now_ms = ms;
    loop_turn(loop, 0);
}

// ---- timers ----

struct probe {
    struct loop_timer timer;
    uint64_t fired_at; // loop time
    unsigned count;
};

static void on_probe(struct loop *loop, struct loop_timer *timer)
{
    struct probe *probe = CONTAINER_OF(timer, struct probe, timer);
    probe->fired_at = loop->now_ms;
    probe->count++;
}

static void probe_init(struct probe *probe)
{
    *probe = (struct probe){0};
    loop_timer_init(&probe->timer, on_probe);
}

// Each distance, armed at moments at, before and behind the borders of all levels: silent one
// millisecond before it, heard at most one after.
static void test_timer_each_level(void **state)
{
    (void)state;
    static const uint64_t distances[] = {1,
                                         2,
                                         62,
                                         63,
                                         64,
                                         65,
                                         127,
                                         4095,
                                         4096,
                                         4097,
                                         262143,
                                         262144,
                                         262145,
                                         9999999,
                                         1 << 24,
                                         1 << 30,
                                         3u << 30,
                                         1ull << 35,
                                         (1ull << 36) - 2};
    static const uint64_t origins[] = {1,
                                       62,
                                       63,
                                       64,
                                       4095,
                                       4096,
                                       262143,
                                       262144,
                                       16777215,
                                       (1 << 24) + 5,
                                       (1 << 30) - 1,
                                       1 << 30,
                                       (1ull << 36) - 1,
                                       1ull << 36,
                                       (1ull << 36) - 70,
                                       (1ull << 40) - 1};
    struct loop loop;
    start(&loop, 1);
    for (size_t o = 0; o < sizeof origins / sizeof origins[0]; o++) {
        for (size_t d = 0; d < sizeof distances / sizeof distances[0]; d++) {
            struct probe probe;
            probe_init(&probe);
            loop.now_ms = origins[o];
            loop.wheel_ms = origins[o];
            loop_timer_set(&loop, &probe.timer, distances[d]);
            assert_true(loop_timer_is_set(&probe.timer));
            pass_to(&loop, origins[o] + distances[d] - 1);
            assert_int_equal(probe.count, 0);
            pass_to(&loop, origins[o] + distances[d] + 1);
            assert_int_equal(probe.count, 1);
            assert_false(loop_timer_is_set(&probe.timer));
        }
    }
    loop_fini(&loop);
}

static void test_timer_too_far_is_clamped(void **state)
{
    (void)state;
    struct loop loop;
    struct probe probe;
    start(&loop, 1000);
    probe_init(&probe);
    loop_timer_set(&loop, &probe.timer, UINT64_MAX);
    pass_to(&loop, 1ull << 35);
    assert_int_equal(probe.count, 0);
    pass_to(&loop, (1ull << 36) + 1001);
    assert_int_equal(probe.count, 1);
    loop_fini(&loop);
}

enum { MODEL_TIMERS = 200, MODEL_ROUNDS = 20000 };

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 24;
}

// Random arming, cancelling and passing of time against the plain rule.
static void run_model(uint64_t seed, uint64_t origin)
{
    static struct probe probes[MODEL_TIMERS];
    static uint64_t due[MODEL_TIMERS]; // 0: not armed
    struct loop loop;
    start(&loop, origin);
    for (unsigned i = 0; i < MODEL_TIMERS; i++) {
        probe_init(&probes[i]);
        due[i] = 0;
    }
    for (unsigned round = 0; round < MODEL_ROUNDS; round++) {
        unsigned i = (unsigned)(next_random(&seed) % MODEL_TIMERS);
        uint64_t bits = next_random(&seed) % 28;
        if (next_random(&seed) % 8 == 0) {
            loop_timer_cancel(&loop, &probes[i].timer);
            due[i] = 0;
        } else {
            uint64_t after = next_random(&seed) & ((1ull << bits) - 1);
            loop_timer_set(&loop, &probes[i].timer, after);
            due[i] = loop.now_ms + after + 1;
        }
        if (round % 16 != 0) {
            continue;
        }
        bits = next_random(&seed) % 20;
        pass_to(&loop, loop.now_ms + (next_random(&seed) & ((1ull << bits) - 1)));
        for (unsigned k = 0; k < MODEL_TIMERS; k++) {
            bool fires = due[k] != 0 && due[k] <= loop.now_ms;
            assert_int_equal(probes[k].count, fires);
            assert_int_equal(loop_timer_is_set(&probes[k].timer), due[k] != 0 && !fires);
            due[k] = fires ? 0 : due[k];
            probes[k].count = 0;
        }
    }
    loop_fini(&loop);
}

static void test_timer_model(void **state)
{
    (void)state;
    run_model(1, 12345);
    run_model(2, (1ull << 36) - 5000000); // over the border of the whole wheel
    run_model(3, (1ull << 30) - 1000);
}

struct chain {
    struct loop_timer timer;
    struct loop_timer *victim;
    unsigned left;
};

static void on_chain(struct loop *loop, struct loop_timer *timer)
{
    struct chain *chain = CONTAINER_OF(timer, struct chain, timer);
    if (chain->victim != NULL) {
        loop_timer_cancel(loop, chain->victim);
    }
    if (chain->left > 0) {
        chain->left--;
        loop_timer_set(loop, &chain->timer, 0);
    }
}

static void test_timer_changes_in_callback(void **state)
{
    (void)state;
    struct loop loop;
    struct probe victim;
    struct chain chain = {.left = 3};
    start(&loop, 100);
    probe_init(&victim);
    loop_timer_init(&chain.timer, on_chain);
    chain.victim = &victim.timer;
    loop_timer_set(&loop, &chain.timer, 10);
    loop_timer_set(&loop, &victim.timer, 10); // due in the same tick, cancelled by the first
    pass_to(&loop, 500);
    assert_int_equal(victim.count, 0);
    assert_int_equal(chain.left, 2); // armed anew, it waits for time to pass
    pass_to(&loop, 501);
    assert_int_equal(chain.left, 1);
    loop_timer_cancel(&loop, &chain.timer);
    loop_fini(&loop);
}

static void test_wait_ends_at_timer(void **state)
{
    (void)state;
    struct loop loop;
    struct probe probe;
    assert_int_equal(loop_init(&loop), 0);
    probe_init(&probe);
    uint64_t before = loop.now_ns;
    loop_timer_set(&loop, &probe.timer, 5);
    for (unsigned turns = 0; probe.count == 0; turns++) {
        assert_true(turns < 10);
        loop_turn(&loop, -1);
    }
    assert_true(loop.now_ns - before >= 5000000);
    loop_fini(&loop);
}

// ---- tasks, deferred frees ----

struct work {
    struct loop_task task;
    struct loop_task *adds;
    struct loop_task *cancels;
    unsigned count;
};

static void on_work(struct loop *loop, struct loop_task *task)
{
    struct work *work = CONTAINER_OF(task, struct work, task);
    work->count++;
    if (work->adds != NULL) {
        loop_task_add(loop, work->adds);
    }
    if (work->cancels != NULL) {
        loop_task_cancel(work->cancels);
    }
}

static void test_tasks(void **state)
{
    (void)state;
    struct loop loop;
    struct work a = {0};
    struct work b = {0};
    start(&loop, 1);
    loop_task_init(&a.task, on_work);
    loop_task_init(&b.task, on_work);
    loop_task_add(&loop, &a.task);
    loop_task_add(&loop, &a.task);
    loop_turn(&loop, -1); // does not block
    assert_int_equal(a.count, 1);
    a.adds = &a.task; // itself: the next turn
    loop_task_add(&loop, &a.task);
    loop_turn(&loop, -1);
    assert_int_equal(a.count, 2);
    loop_turn(&loop, -1);
    assert_int_equal(a.count, 3);
    a.adds = NULL;
    a.cancels = &b.task; // of the same turn
    loop_task_add(&loop, &b.task);
    loop_turn(&loop, 0);
    assert_int_equal(a.count, 4);
    assert_int_equal(b.count, 0);
    loop_turn(&loop, 0);
    assert_int_equal(b.count, 0);
    loop_fini(&loop);
}

struct freed {
    struct loop_deferred deferred;
    struct freed *more;
    bool done;
};

static void on_free(struct loop *loop, struct loop_deferred *deferred)
{
    struct freed *freed = CONTAINER_OF(deferred, struct freed, deferred);
    freed->done = true;
    if (freed->more != NULL) {
        loop_defer(loop, &freed->more->deferred, on_free);
    }
}

static void test_deferred(void **state)
{
    (void)state;
    struct loop loop;
    struct freed second = {0};
    struct freed first = {.more = &second};
    start(&loop, 1);
    loop_defer(&loop, &first.deferred, on_free);
    assert_false(first.done);
    loop_turn(&loop, 0);
    assert_true(first.done && second.done);
    struct freed last = {0};
    loop_defer(&loop, &last.deferred, on_free);
    loop_fini(&loop);
    assert_true(last.done);
}

// ---- descriptors ----

struct end {
    struct loop_io io;
    struct end *closes;
    struct freed freed;
    unsigned count;
    uint32_t events;
};

static void on_end_event(struct loop *loop, struct loop_io *io, uint32_t events)
{
    struct end *end = CONTAINER_OF(io, struct end, io);
    assert_false(end->freed.done);
    end->count++;
    end->events |= events;
    if (end->closes != NULL) {
        loop_close(loop, &end->closes->io);
        loop_defer(loop, &end->closes->freed.deferred, on_free);
        end->closes = NULL;
    }
}

// Both have an event in one batch; whoever is first closes the other, which must hear nothing.
static void test_close_in_same_batch(void **state)
{
    (void)state;
    struct loop loop;
    int a[2];
    int b[2];
    start(&loop, 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, b), 0);
    struct end first = {.io = {a[0], on_end_event}};
    struct end second = {.io = {b[0], on_end_event}};
    assert_int_equal(loop_add(&loop, &first.io), 0);
    assert_int_equal(loop_add(&loop, &second.io), 0);
    loop_turn(&loop, 0); // both are writable
    assert_int_equal(first.count + second.count, 2);
    assert_int_equal(write(a[1], "x", 1), 1);
    assert_int_equal(write(b[1], "x", 1), 1);
    first.count = 0;
    second.count = 0;
    first.closes = &second;
    second.closes = &first;
    loop_turn(&loop, 0);
    assert_int_equal(first.count + second.count, 1);
    assert_int_equal((first.io.fd < 0) + (second.io.fd < 0), 1);
    loop_close(&loop, &first.io);
    loop_close(&loop, &second.io);
    loop_close(&loop, &second.io); // twice is harmless
    close(a[1]);
    close(b[1]);
    loop_fini(&loop);
}

static void test_release_keeps_descriptor(void **state)
{
    (void)state;
    struct loop loop;
    int pair[2];
    start(&loop, 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    struct end end = {.io = {pair[0], on_end_event}};
    assert_int_equal(loop_add_events(&loop, &end.io, EPOLLIN), 0);
    assert_int_equal(loop_release(&loop, &end.io), pair[0]);
    assert_int_equal(loop_release(&loop, &end.io), -1);
    assert_int_equal(write(pair[1], "x", 1), 1);
    loop_turn(&loop, 0);
    assert_int_equal(end.count, 0);
    char byte;
    assert_int_equal(read(pair[0], &byte, 1), 1);
    close(pair[0]);
    close(pair[1]);
    loop_fini(&loop);
}

static struct end moved_to;

static void on_moving_event(struct loop *loop, struct loop_io *io, uint32_t events)
{
    on_end_event(loop, io, events);
    moved_to = (struct end){.io = {-1, on_end_event}};
    assert_int_equal(loop_move(loop, io, &moved_to.io), 0);
}

// What was there at the move is told again, to the other one alone.
static void test_move(void **state)
{
    (void)state;
    struct loop loop;
    int pair[2];
    start(&loop, 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    struct end end = {.io = {pair[0], on_moving_event}};
    assert_int_equal(write(pair[1], "x", 1), 1);
    assert_int_equal(loop_add(&loop, &end.io), 0);
    loop_turn(&loop, 0);
    assert_int_equal(end.count, 1);
    assert_int_equal(end.io.fd, -1);
    assert_int_equal(moved_to.io.fd, pair[0]);
    loop_turn(&loop, 0);
    assert_int_equal(end.count, 1);
    assert_int_equal(moved_to.count, 1);
    assert_true(moved_to.events & EPOLLIN);
    struct end bad = {.io = {-1, on_end_event}};
    struct end worse = {.io = {-1, on_end_event}};
    assert_int_equal(loop_move(&loop, &bad.io, &worse.io), ERR_SYSTEM);
    assert_int_equal(worse.io.fd, -1);
    loop_close(&loop, &moved_to.io);
    close(pair[1]);
    loop_fini(&loop);
}

static void test_add_bad_descriptor(void **state)
{
    (void)state;
    struct loop loop;
    start(&loop, 1);
    struct end end = {.io = {-1, on_end_event}};
    assert_int_equal(loop_add(&loop, &end.io), ERR_SYSTEM);
    loop_fini(&loop);
}

// ---- mailbox ----

enum { SENDERS = 3, PER_SENDER = 5000 };

struct note {
    struct loop_message message;
    unsigned sender;
    unsigned number;
};

struct box {
    struct loop loop;
    struct note notes[SENDERS][PER_SENDER];
    unsigned next[SENDERS];
    unsigned received;
    bool in_order;
};

struct sender {
    struct box *box;
    unsigned index;
};

static void on_note(struct loop *loop, struct loop_message *message)
{
    struct box *box = CONTAINER_OF(loop, struct box, loop);
    struct note *note = CONTAINER_OF(message, struct note, message);
    box->in_order = box->in_order && note->number == box->next[note->sender];
    box->next[note->sender]++;
    if (++box->received == SENDERS * PER_SENDER) {
        loop_stop(loop);
    }
}

static void *send_notes(void *argument)
{
    struct sender *sender = argument;
    for (unsigned i = 0; i < PER_SENDER; i++) {
        struct note *note = &sender->box->notes[sender->index][i];
        *note = (struct note){{NULL, on_note}, sender->index, i};
        loop_post(&sender->box->loop, &note->message);
    }
    return NULL;
}

static void *run_box(void *argument)
{
    loop_run(&((struct box *)argument)->loop);
    return NULL;
}

static void test_mailbox_from_threads(void **state)
{
    (void)state;
    struct box *box = calloc(1, sizeof *box);
    assert_non_null(box);
    box->in_order = true;
    assert_int_equal(loop_init(&box->loop), 0);
    pthread_t receiver;
    pthread_t threads[SENDERS];
    struct sender senders[SENDERS];
    assert_int_equal(pthread_create(&receiver, NULL, run_box, box), 0);
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){box, i};
        assert_int_equal(pthread_create(&threads[i], NULL, send_notes, &senders[i]), 0);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_join(receiver, NULL); // it ends when it has all
    assert_int_equal(box->received, SENDERS * PER_SENDER);
    assert_true(box->in_order);
    loop_fini(&box->loop);
    free(box);
}

static void test_stop_before_run(void **state)
{
    (void)state;
    struct box *box = calloc(1, sizeof *box);
    assert_non_null(box);
    assert_int_equal(loop_init(&box->loop), 0);
    struct note note = {{NULL, on_note}, 0, 0};
    loop_post(&box->loop, &note.message);
    loop_stop(&box->loop);
    loop_run(&box->loop);
    assert_int_equal(box->received, 1); // what was posted before the end is heard
    loop_fini(&box->loop);
    free(box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timer_each_level),
        cmocka_unit_test(test_timer_too_far_is_clamped),
        cmocka_unit_test(test_timer_model),
        cmocka_unit_test(test_timer_changes_in_callback),
        cmocka_unit_test(test_wait_ends_at_timer),
        cmocka_unit_test(test_tasks),
        cmocka_unit_test(test_deferred),
        cmocka_unit_test(test_close_in_same_batch),
        cmocka_unit_test(test_release_keeps_descriptor),
        cmocka_unit_test(test_move),
        cmocka_unit_test(test_add_bad_descriptor),
        cmocka_unit_test(test_mailbox_from_threads),
        cmocka_unit_test(test_stop_before_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
