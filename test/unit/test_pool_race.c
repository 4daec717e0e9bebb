// SPDX-License-Identifier: MIT
// Several workers pick, give back and fail while control changes the view.
#include "../support/pool_fixture.h"
#include "loop/rcu.h"
#include <pthread.h>
#include <string.h>

enum {
    THREADS = 4,
    PICKS = 250000, // each
    TARGETS = 40,
    LIMIT = 3,
    HELD_MAX = 40,
};

struct shared {
    struct pool_fixture *fixture;
    pthread_barrier_t barrier;
    atomic_uint over;   // picks that found a target over its limit
    atomic_uint full;   // answers POOL_FULL
    atomic_uint picked; // requests that were counted
    atomic_uint running;
};

struct worker {
    struct shared *shared;
    pthread_t thread;
    uint64_t random;
    struct pool_member *held[HELD_MAX];
    unsigned held_count;
};

static void give_back(struct worker *worker)
{
    unsigned at = (unsigned)(fixture_random(&worker->random) % worker->held_count);
    struct pool_member *member = worker->held[at];
    worker->held[at] = worker->held[--worker->held_count];
    if (fixture_random(&worker->random) % 4 == 0) {
        pool_member_failed(member, &worker->shared->fixture->own.settings, worker->random % 100000);
        pool_member_answered(member, worker->random % 1000000, worker->random % 100000);
    }
    pool_member_put(member);
}

static void take_one(struct worker *worker)
{
    struct shared *shared = worker->shared;
    struct pool_fixture *f = shared->fixture;
    struct pool_member *member;
    uint64_t random = fixture_random(&worker->random);
    struct pool_choice choice = {.random = random,
                                 .hash = random * 7,
                                 .has_hash = true,
                                 .now_ms = 5,
                                 .sticky = random % 8 == 0 ? random : 0,
                                 .tried = worker->held,
                                 .tried_count = random % 4 == 0 && worker->held_count > 0};
    switch (pool_pick(f->pool, &f->slot, &choice, &member)) {
    case POOL_PICKED:
        worker->held[worker->held_count++] = member;
        atomic_fetch_add_explicit(&shared->picked, 1, memory_order_relaxed);
        if (pool_member_requests(member) > LIMIT) {
            atomic_fetch_add_explicit(&shared->over, 1, memory_order_relaxed);
        }
        break;
    case POOL_FULL:
        atomic_fetch_add_explicit(&shared->full, 1, memory_order_relaxed);
        break;
    case POOL_NONE:
        break;
    }
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    rcu_thread_begin();
    pthread_barrier_wait(&worker->shared->barrier);
    for (unsigned i = 0; i < PICKS; i++) {
        unsigned wanted = (unsigned)(fixture_random(&worker->random) % HELD_MAX);
        if (worker->held_count > wanted) {
            give_back(worker);
        } else {
            take_one(worker);
        }
        if (i % 16 == 0) {
            rcu_turn_done();
        }
    }
    while (worker->held_count > 0) {
        give_back(worker);
    }
    rcu_turn_done();
    rcu_thread_end();
    atomic_fetch_sub(&worker->shared->running, 1);
    return NULL;
}

static void on_report(struct loop *loop, struct loop_message *message)
{
    struct pool_target *target = CONTAINER_OF(message, struct pool_target, report);
    (void)loop;
    atomic_store_explicit(&target->fails, 0, memory_order_relaxed);
    atomic_store_explicit(&target->is_reported, false, memory_order_release);
}

// Control: another view again and again.
static void change(struct pool_fixture *f, struct loop *loop, uint64_t *random)
{
    struct rcu_retired *retired = rcu_retired_new();
    assert_non_null(retired);
    for (unsigned i = 0; i < TARGETS; i++) {
        uint64_t dice = fixture_random(random) % 16;
        f->candidates[i].health = dice == 0 ? HEALTH_DOWN : dice == 1 ? HEALTH_UNKNOWN : HEALTH_UP;
        f->candidates[i].is_ejected = dice == 2;
        f->candidates[i].is_far = dice == 3;
        f->candidates[i].declared = dice == 4 ? TARGET_DRAIN : TARGET_UP;
        f->candidates[i].warm = dice == 5 ? 300 : 1000;
    }
    struct pool_view *view = pool_view_new(&f->own.settings, f->candidates, f->count, &f->facts);
    struct pool_view *before = f->own.view;
    assert_non_null(view);
    rcu_publish(f->own.view, view);
    rcu_retire(&retired, pool_view_free, before);
    loop_empty_mailbox(loop);
    rcu_turn_done();
}

static void check_no_drift(enum balance balance)
{
    struct pool_fixture *f = fixture_new(balance);
    struct shared shared = {.fixture = f};
    struct worker workers[THREADS] = {0};
    struct loop loop;
    uint64_t random = 12345;
    assert_int_equal(loop_init(&loop), 0);
    rcu_thread_begin();
    f->slot.control = &loop;
    f->slot.on_report = on_report;
    f->own.settings.requests_per_target = LIMIT;
    f->own.settings.passive = (struct passive_decl){.max_fails = 3, .fail_timeout_ms = 1000};
    for (unsigned i = 0; i < TARGETS; i++) {
        fixture_add(f, 1 + i % 2);
    }
    f->own.view = pool_view_new(&f->own.settings, f->candidates, f->count, &f->facts);
    assert_non_null(f->own.view);
    atomic_store(&shared.running, THREADS);
    assert_int_equal(pthread_barrier_init(&shared.barrier, NULL, THREADS), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].shared = &shared;
        workers[i].random = 77 + i;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run, &workers[i]), 0);
    }
    while (atomic_load(&shared.running) > 0) {
        change(f, &loop, &random);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    loop_empty_mailbox(&loop);
    rcu_drain();
    for (unsigned i = 0; i < TARGETS; i++) {
        assert_int_equal(pool_member_requests(f->candidates[i].member), 0);
    }
    assert_int_equal(atomic_load(&shared.over), 0);
    assert_true(atomic_load(&shared.picked) > THREADS * PICKS / 4);
    print_message("%u picked, %u times full\n", atomic_load(&shared.picked),
                  atomic_load(&shared.full));
    pthread_barrier_destroy(&shared.barrier);
    pool_view_free(f->own.view);
    rcu_thread_end();
    fixture_free(&f);
    loop_fini(&loop);
}

static void test_counts_do_not_drift(void **unused)
{
    (void)unused;
    check_no_drift(BALANCE_LEAST_REQUESTS);
    check_no_drift(BALANCE_RANDOM_TWO);
    check_no_drift(BALANCE_HASH);
    check_no_drift(BALANCE_ROUND_ROBIN);
}

static void *fill(void *argument)
{
    struct worker *worker = argument;
    struct pool_fixture *f = worker->shared->fixture;
    struct pool_member *member;
    rcu_thread_begin();
    pthread_barrier_wait(&worker->shared->barrier);
    for (unsigned i = 0; i < 5000; i++) {
        struct pool_choice choice = {.random = fixture_random(&worker->random)};
        (void)pool_pick(f->pool, &f->slot, &choice, &member);
    }
    rcu_thread_end();
    return NULL;
}

// All workers together fill the targets level.
static void test_least_requests_is_exact(void **unused)
{
    (void)unused;
    struct pool_fixture *f = fixture_new(BALANCE_LEAST_REQUESTS);
    struct shared shared = {.fixture = f};
    struct worker workers[THREADS] = {0};
    for (unsigned i = 0; i < 10; i++) {
        fixture_add(f, 1);
    }
    fixture_look(f);
    assert_int_equal(pthread_barrier_init(&shared.barrier, NULL, THREADS), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].shared = &shared;
        workers[i].random = 77 + i;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, fill, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    for (unsigned i = 0; i < 10; i++) {
        // Those that pick at the same time may all pick the same one.
        assert_in_range(pool_member_requests(f->candidates[i].member), 2000 - (THREADS - 1),
                        2000 + THREADS - 1);
    }
    pthread_barrier_destroy(&shared.barrier);
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_do_not_drift),
        cmocka_unit_test(test_least_requests_is_exact),
    };
    hash_seed();
    if (rcu_start() != 0) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
