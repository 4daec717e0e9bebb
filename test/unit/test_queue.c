// SPDX-License-Identifier: MIT
// Requests that wait for a target: in order, none forgotten, over several loops on threads.
#include "upstream/queue.h"
#include "loop/rcu.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

// ---- one loop, step by step ----

struct person {
    struct pool_waiter *waiter;
    unsigned turns;
    unsigned order; // of the last turn
    bool wants_again;
    bool saw_all;
    bool wants_to_leave;
    unsigned hold_ms;
    struct pool_queue *kicks; // what it had picked is given back within the turn
    struct pool_queue *freed; // meanwhile another thread gives something back, once
};

static unsigned turn_count;

static void *run_kick(void *queue)
{
    pool_queue_kick(queue);
    return NULL;
}

static void on_turn(void *user)
{
    struct person *person = user;
    person->turns++;
    person->order = ++turn_count;
    if (person->kicks != NULL) {
        pool_queue_kick(person->kicks);
    }
    if (person->freed != NULL) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, run_kick, person->freed), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        person->freed = NULL;
    }
    if (person->wants_again) {
        pool_queue_again(person->waiter, person->saw_all);
        if (person->hold_ms > 0) {
            pool_queue_hold(person->waiter, person->hold_ms);
        }
    } else if (person->wants_to_leave) {
        pool_queue_leave(&person->waiter);
    } else {
        person->waiter = NULL;
    }
}

struct desk {
    struct loop loops[2];
    struct pool_queue *queue;
    struct person people[8];
};

static void open_desk(struct desk *desk)
{
    memset(desk, 0, sizeof *desk);
    turn_count = 0;
    assert_int_equal(loop_init(&desk->loops[0]), 0);
    assert_int_equal(loop_init(&desk->loops[1]), 0);
    desk->queue = pool_queue_new();
    assert_non_null(desk->queue);
}

static void join(struct desk *desk, unsigned i, unsigned loop)
{
    assert_int_equal(pool_queue_join(desk->queue, &desk->loops[loop], 100, on_turn,
                                     &desk->people[i], &desk->people[i].waiter),
                     0);
    assert_non_null(desk->people[i].waiter);
}

static void settle(struct desk *desk)
{
    while (loop_has_messages(&desk->loops[0]) || loop_has_messages(&desk->loops[1])) {
        loop_empty_mailbox(&desk->loops[0]);
        loop_empty_mailbox(&desk->loops[1]);
    }
}

static void close_desk(struct desk *desk)
{
    for (unsigned i = 0; i < 8; i++) {
        pool_queue_leave(&desk->people[i].waiter);
    }
    assert_int_equal(pool_queue_len(desk->queue), 0);
    pool_queue_unref(&desk->queue); // the messages hold it
    assert_null(desk->queue);
    settle(desk);
    loop_fini(&desk->loops[0]);
    loop_fini(&desk->loops[1]);
}

static void test_oldest_first(void **state)
{
    (void)state;
    struct desk desk;
    open_desk(&desk);
    for (unsigned i = 0; i < 6; i++) {
        join(&desk, i, i % 2);
        settle(&desk);
    }
    assert_int_equal(pool_queue_len(desk.queue), 6);
    for (unsigned i = 0; i < 6; i++) {
        pool_queue_kick(desk.queue);
        settle(&desk);
        assert_int_equal(desk.people[i].order, i + 1);
        assert_int_equal(turn_count, i + 1);
    }
    assert_int_equal(pool_queue_len(desk.queue), 0);
    pool_queue_kick(desk.queue);
    settle(&desk);
    assert_int_equal(turn_count, 6);
    close_desk(&desk);
}

// Several freed at once are several turns.
static void test_kicks_are_counted(void **state)
{
    (void)state;
    struct desk desk;
    open_desk(&desk);
    for (unsigned i = 0; i < 6; i++) {
        join(&desk, i, 1);
    }
    for (unsigned i = 0; i < 4; i++) {
        pool_queue_kick(desk.queue);
    }
    settle(&desk);
    assert_int_equal(turn_count, 4);
    assert_int_equal(desk.people[3].order, 4);
    assert_int_equal(pool_queue_len(desk.queue), 2);
    pool_queue_kick_all(desk.queue);
    settle(&desk);
    assert_int_equal(turn_count, 6);
    close_desk(&desk);
}

static void test_not_within_join(void **state)
{
    (void)state;
    struct desk desk;
    open_desk(&desk);
    join(&desk, 0, 0);
    pool_queue_kick(desk.queue);
    assert_int_equal(turn_count, 0);
    settle(&desk);
    assert_int_equal(turn_count, 1);
    close_desk(&desk);
}

static void test_bound(void **state)
{
    (void)state;
    struct desk desk;
    open_desk(&desk);
    struct pool_waiter *waiter;
    assert_int_equal(
        pool_queue_join(desk.queue, &desk.loops[0], 0, on_turn, &desk.people[7], &waiter),
        ERR_LIMIT);
    assert_null(waiter);
    join(&desk, 0, 0);
    join(&desk, 1, 1);
    assert_int_equal(
        pool_queue_join(desk.queue, &desk.loops[0], 2, on_turn, &desk.people[7], &waiter),
        ERR_LIMIT);
    pool_queue_leave(&desk.people[0].waiter);
    assert_int_equal(
        pool_queue_join(desk.queue, &desk.loops[0], 2, on_turn, &desk.people[7], &waiter), 0);
    desk.people[7].waiter = waiter;
    close_desk(&desk);
}

// Who finds nothing keeps its place; the turn goes on to each of the others once, and is over.
static void test_again(void **state)
{
    (void)state;
    struct desk desk;
    open_desk(&desk);
    for (unsigned i = 0; i < 3; i++) {
        join(&desk, i, i % 2);
        settle(&desk);
        desk.people[i].wants_again = true;
    }
    pool_queue_kick(desk.queue);
    settle(&desk);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(desk.people[i].turns, 1);
        assert_int_equal(desk.people[i].order, i + 1);
        desk.people[i].wants_again = i == 0;
    }
    assert_int_equal(pool_queue_len(desk.queue), 3);
    pool_queue_kick(desk.queue);
    settle(&desk);
    assert_int_equal(desk.people[0].turns, 2);
    assert_int_equal(desk.people[1].turns, 2); // it takes what the first could not
    assert_int_equal(desk.people[2].turns, 1);
    desk.people[0].wants_again = false;
    pool_queue_kick(desk.queue);
    settle(&desk);
    assert_int_equal(desk.people[0].turns, 3); // still the first
    assert_int_equal(desk.people[2].turns, 1);
    // A newcomer is no reason to try again.
    join(&desk, 3, 0);
    settle(&desk);
    assert_int_equal(desk.people[3].turns, 0);
    close_desk(&desk);
}

// Who saw that there is nothing for anybody does not have all others look in vain.
static void test_again_saw_all(void **state)
{
    (void)state;
    struct desk desk;
    open_desk(&desk);
    for (unsigned i = 0; i < 8; i++) {
        join(&desk, i, i % 2);
        settle(&desk);
        desk.people[i].wants_again = true;
        desk.people[i].saw_all = true;
    }
    pool_queue_kick(desk.queue);
    settle(&desk);
    assert_int_equal(desk.people[0].turns, 1);
    assert_int_equal(turn_count, 1);
    // Each has a turn of its own, and finds its place again.
    pool_queue_kick_all(desk.queue);
    settle(&desk);
    assert_int_equal(turn_count, 9);
    for (unsigned i = 0; i < 8; i++) {
        desk.people[i].wants_again = false;
    }
    for (unsigned i = 0; i < 8; i++) {
        pool_queue_kick(desk.queue);
        settle(&desk);
        assert_int_equal(desk.people[i].order, 10 + i);
    }
    close_desk(&desk);
}

// What this thread has worked: what others do on the machine does not count.
static uint64_t used_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// All called at once and back again: no more than some steps for each.
static void test_many_come_back(void **state)
{
    enum { MANY = 40000 };
    (void)state;
    struct desk desk;
    open_desk(&desk);
    struct person *people = calloc(MANY, sizeof *people);
    assert_non_null(people);
    for (unsigned i = 0; i < MANY; i++) {
        people[i].wants_again = true;
        people[i].saw_all = true;
        assert_int_equal(pool_queue_join(desk.queue, &desk.loops[i % 2], MANY, on_turn, &people[i],
                                         &people[i].waiter),
                         0);
    }
    settle(&desk);
    uint64_t before_ns = used_ns();
    pool_queue_kick_all(desk.queue);
    settle(&desk);
    assert_int_equal(turn_count, MANY);
    assert_true(used_ns() - before_ns < 15000000000u); // minutes, if each looked through all
    for (unsigned i = 0; i < MANY; i++) {
        pool_queue_leave(&people[i].waiter);
    }
    settle(&desk);
    free(people);
    close_desk(&desk);
}

// A turn that is on its way, or is not used, goes to the next.
static void test_leave_passes_on(void **state)
{
    (void)state;
    struct desk desk;
    open_desk(&desk);
    for (unsigned i = 0; i < 4; i++) {
        join(&desk, i, 1);
    }
    settle(&desk);
    // The list is that of loop 1: its messages first, so that the turn is on its way.
    pool_queue_kick(desk.queue);
    pool_queue_leave(&desk.people[0].waiter);
    settle(&desk);
    assert_int_equal(desk.people[0].turns, 0);
    assert_int_equal(desk.people[1].turns, 1);
    desk.people[2].wants_to_leave = true;
    pool_queue_kick(desk.queue);
    settle(&desk);
    assert_int_equal(desk.people[2].turns, 1);
    assert_int_equal(desk.people[3].turns, 1);
    assert_int_equal(pool_queue_len(desk.queue), 0);
    close_desk(&desk);
}

// Who gives back what it had picked and waits on has made no room; who goes has.
static void test_kick_within_turn(void **state)
{
    (void)state;
    struct desk desk;
    open_desk(&desk);
    for (unsigned i = 0; i < 3; i++) {
        join(&desk, i, i % 2);
        desk.people[i].kicks = desk.queue;
        desk.people[i].wants_again = true;
    }
    pool_queue_kick(desk.queue);
    settle(&desk);
    assert_int_equal(turn_count, 1); // else they would wake each other without end
    desk.people[0].wants_again = false;
    desk.people[1].wants_again = false;
    desk.people[1].wants_to_leave = true;
    pool_queue_kick(desk.queue);
    settle(&desk);
    assert_int_equal(desk.people[0].turns, 2);
    assert_int_equal(desk.people[1].turns, 1);
    assert_int_equal(desk.people[2].turns, 1); // it saw all that was given back
    assert_int_equal(pool_queue_len(desk.queue), 1);
    close_desk(&desk);
}

// What gets free while somebody looks in vain is not lost, though the turn is passed on as well.
static void test_kick_beside_a_turn(void **state)
{
    (void)state;
    struct desk desk;
    open_desk(&desk);
    join(&desk, 0, 0); // loop 0 owns the list
    join(&desk, 1, 1);
    pool_queue_leave(&desk.people[0].waiter);
    settle(&desk);
    desk.people[1].wants_again = true;
    desk.people[1].freed = desk.queue;
    pool_queue_kick(desk.queue);
    settle(&desk);
    assert_int_equal(desk.people[1].turns, 2);
    desk.people[1].saw_all = true;
    desk.people[1].freed = desk.queue;
    pool_queue_kick(desk.queue);
    settle(&desk);
    assert_int_equal(desk.people[1].turns, 4);
    assert_int_equal(pool_queue_len(desk.queue), 1);
    close_desk(&desk);
}

static void test_leave_on_the_way(void **state)
{
    (void)state;
    struct desk desk;
    open_desk(&desk);
    join(&desk, 0, 0); // loop 0 owns the list
    settle(&desk);
    join(&desk, 1, 1);
    join(&desk, 2, 1);
    pool_queue_leave(&desk.people[0].waiter);
    loop_empty_mailbox(&desk.loops[0]);
    pool_queue_kick(desk.queue);
    loop_empty_mailbox(&desk.loops[0]); // the turn lies in the mailbox of loop 1
    pool_queue_leave(&desk.people[1].waiter);
    settle(&desk);
    assert_int_equal(desk.people[1].turns, 0);
    assert_int_equal(desk.people[2].turns, 1);
    // Joined and left before anybody looked.
    join(&desk, 3, 1);
    pool_queue_leave(&desk.people[3].waiter);
    settle(&desk);
    close_desk(&desk);
}

// Three that find nothing; the first of them holds the turns.
static void open_held(struct desk *desk, unsigned hold_ms)
{
    open_desk(desk);
    for (unsigned i = 0; i < 3; i++) {
        join(desk, i, i % 2);
        desk->people[i].wants_again = true;
    }
    desk->people[0].hold_ms = hold_ms;
    for (unsigned i = 0; i < 4; i++) {
        pool_queue_kick(desk->queue);
        settle(desk);
        assert_int_equal(desk->people[0].turns, i + 1);
    }
    assert_int_equal(turn_count, 4); // none for the others, though it passed them on
}

static void test_hold(void **state)
{
    (void)state;
    struct desk desk;
    open_held(&desk, 3600000);
    desk.people[0].wants_again = false;
    pool_queue_kick(desk.queue);
    settle(&desk);
    assert_int_equal(desk.people[0].turns, 5);
    assert_int_equal(desk.people[1].turns, 1); // what they missed
    assert_int_equal(desk.people[2].turns, 1);
    // Not again at once: the turn is passed on.
    desk.people[1].hold_ms = 3600000;
    pool_queue_kick(desk.queue);
    settle(&desk);
    assert_int_equal(desk.people[1].turns, 2);
    assert_int_equal(desk.people[2].turns, 2);
    close_desk(&desk);
}

static void test_hold_ends_by_leaving(void **state)
{
    (void)state;
    struct desk desk;
    open_held(&desk, 3600000);
    pool_queue_leave(&desk.people[0].waiter);
    settle(&desk);
    assert_int_equal(desk.people[1].turns, 1);
    assert_int_equal(desk.people[2].turns, 1);
    close_desk(&desk);
    open_held(&desk, 3600000);
    desk.people[0].wants_again = false;
    desk.people[0].wants_to_leave = true;
    pool_queue_kick(desk.queue);
    settle(&desk);
    assert_int_equal(desk.people[1].turns, 1);
    assert_int_equal(desk.people[2].turns, 1);
    close_desk(&desk);
}

static void test_hold_ends_by_time(void **state)
{
    (void)state;
    struct desk desk;
    open_held(&desk, 100);
    while (desk.people[1].turns == 0 || desk.people[2].turns == 0) {
        loop_turn(&desk.loops[0], 10);
        loop_turn(&desk.loops[1], 10);
    }
    assert_int_equal(desk.people[0].turns, 5);
    close_desk(&desk);
}

// ---- threads: a few slots, many who want one ----

enum { THREADS = 3, PER_THREAD = 40, ROUNDS = 100000 / (THREADS * PER_THREAD), SLOTS = 3 };

struct room {
    struct pool_queue *queue;
    atomic_uint used;
    atomic_uint served;
    atomic_uint gone; // guests that are through
};

struct worker;

struct guest {
    struct worker *worker;
    struct pool_waiter *waiter;
    struct loop_task task; // holds a slot until its next run
    bool has_slot;
    unsigned rounds;
};

struct worker {
    struct loop loop;
    struct room *room;
    pthread_t thread;
    struct guest guests[PER_THREAD];
    struct loop_task impatience;
    uint64_t random;
    unsigned left;
};

static uint64_t next_random(struct worker *worker)
{
    worker->random ^= worker->random << 13;
    worker->random ^= worker->random >> 7;
    worker->random ^= worker->random << 17;
    return worker->random;
}

// Not counted first and given back: for that moment a free slot would look taken to whose turn it is.
static bool take_slot(struct room *room)
{
    unsigned used = atomic_load(&room->used);
    while (used < SLOTS) {
        if (atomic_compare_exchange_weak(&room->used, &used, used + 1)) {
            return true;
        }
    }
    return false;
}

static void use_slot(struct guest *guest)
{
    guest->has_slot = true;
    atomic_fetch_add(&guest->worker->room->served, 1);
    loop_task_add(&guest->worker->loop, &guest->task);
}

static void on_room_turn(void *user)
{
    struct guest *guest = user;
    if (take_slot(guest->worker->room)) {
        guest->waiter = NULL;
        use_slot(guest);
    } else if (next_random(guest->worker) % 8 == 0) {
        pool_queue_leave(&guest->waiter);
        loop_task_add(&guest->worker->loop, &guest->task);
    } else {
        pool_queue_again(guest->waiter, next_random(guest->worker) % 2 == 0);
        if (next_random(guest->worker) % 4 == 0) {
            pool_queue_hold(guest->waiter, 1 + (unsigned)(next_random(guest->worker) % 3));
        }
    }
}

static void want_slot(struct guest *guest)
{
    struct worker *worker = guest->worker;
    struct room *room = worker->room;
    if (pool_queue_len(room->queue) == 0 && take_slot(room)) {
        use_slot(guest);
        return;
    }
    int err =
        pool_queue_join(room->queue, &worker->loop, 1000, on_room_turn, guest, &guest->waiter);
    if (err != 0) {
        abort();
    }
    if (take_slot(room)) {
        pool_queue_leave(&guest->waiter);
        use_slot(guest);
    }
}

static void on_guest(struct loop *loop, struct loop_task *task)
{
    struct guest *guest = CONTAINER_OF(task, struct guest, task);
    struct room *room = guest->worker->room;
    if (guest->has_slot) {
        guest->has_slot = false;
        atomic_fetch_sub(&room->used, 1);
        pool_queue_kick(room->queue);
        if (++guest->rounds == ROUNDS) {
            atomic_fetch_add(&room->gone, 1);
            return;
        }
    }
    (void)loop;
    want_slot(guest);
}

// Some lose patience while they wait, and come back.
static void on_impatience(struct loop *loop, struct loop_task *task)
{
    struct worker *worker = CONTAINER_OF(task, struct worker, impatience);
    struct guest *guest = &worker->guests[next_random(worker) % PER_THREAD];
    if (guest->waiter != NULL) {
        pool_queue_leave(&guest->waiter);
        worker->left++;
        loop_task_add(loop, &guest->task);
    }
    if (atomic_load(&worker->room->gone) < THREADS * PER_THREAD) {
        loop_task_add(loop, task);
    }
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    loop_run(&worker->loop);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    static struct worker workers[THREADS];
    struct room room = {.queue = pool_queue_new()};
    assert_int_equal(rcu_start(), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        struct worker *worker = &workers[i];
        assert_int_equal(loop_init(&worker->loop), 0);
        worker->room = &room;
        worker->random = 88172645463325252ull + i;
        loop_task_init(&worker->impatience, on_impatience);
        loop_task_add(&worker->loop, &worker->impatience);
        for (unsigned k = 0; k < PER_THREAD; k++) {
            worker->guests[k] = (struct guest){.worker = worker};
            loop_task_init(&worker->guests[k].task, on_guest);
            loop_task_add(&worker->loop, &worker->guests[k].task);
        }
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]), 0);
    }
    // Nobody is forgotten: it comes to an end, in far less than this.
    unsigned waits = 0;
    while (atomic_load(&room.gone) < THREADS * PER_THREAD && waits++ < 90000) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    assert_int_equal(atomic_load(&room.gone), THREADS * PER_THREAD);
    for (unsigned i = 0; i < THREADS; i++) {
        loop_stop(&workers[i].loop);
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    }
    assert_int_equal(atomic_load(&room.served), THREADS * PER_THREAD * ROUNDS);
    assert_int_equal(atomic_load(&room.used), 0);
    assert_int_equal(pool_queue_len(room.queue), 0);
    pool_queue_unref(&room.queue);
    bool any = true;
    while (any) {
        any = false;
        for (unsigned i = 0; i < THREADS; i++) {
            any = any || loop_has_messages(&workers[i].loop);
            loop_empty_mailbox(&workers[i].loop);
        }
    }
    for (unsigned i = 0; i < THREADS; i++) {
        loop_fini(&workers[i].loop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oldest_first),
        cmocka_unit_test(test_kicks_are_counted),
        cmocka_unit_test(test_not_within_join),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_again),
        cmocka_unit_test(test_again_saw_all),
        cmocka_unit_test(test_many_come_back),
        cmocka_unit_test(test_leave_passes_on),
        cmocka_unit_test(test_kick_within_turn),
        cmocka_unit_test(test_kick_beside_a_turn),
        cmocka_unit_test(test_leave_on_the_way),
        cmocka_unit_test(test_hold),
        cmocka_unit_test(test_hold_ends_by_leaving),
        cmocka_unit_test(test_hold_ends_by_time),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
