// SPDX-License-Identifier: MIT
#include "observe/stats.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void test_sum_over_workers(void **state)
{
    (void)state;
    struct stat_slot slot;
    struct stat_sum sum;
    stat_slot_init(&slot, STAT_ROUTE);
    stat_slot_sum(&slot, &sum);
    assert_int_equal(sum.count, 0);
    stat_slot_add(&slot, 0, 100, 200, 10, 20);
    stat_slot_add(&slot, 3, 50, 502, 1, 2);
    stat_slot_add(&slot, 3, 50, 499, 0, 0);
    stat_slot_add(&slot, 1, 7, 600, 0, 0);
    stat_slot_sum(&slot, &sum);
    assert_int_equal(sum.count, 4);
    assert_int_equal(sum.ns, 207);
    assert_int_equal(sum.errors, 1);
    assert_int_equal(sum.bytes_in, 11);
    assert_int_equal(sum.bytes_out, 22);
    stat_slot_fini(&slot);
    stat_slot_sum(&slot, &sum);
    assert_int_equal(sum.count, 0);
}

static void test_zeroed_slot_counts_unlisted(void **state)
{
    (void)state;
    struct stat_slot slot = {NULL};
    struct stat_sum sum;
    stat_slot_add(&slot, 0, 1, 200, 0, 0);
    stat_slot_sum(&slot, &sum);
    assert_int_equal(sum.count, 1);
    stat_slot_fini(&slot);
}

struct seen {
    struct stat_slot *slots[2000];
    unsigned count;
};

static void see(void *context, struct stat_slot *slot)
{
    struct seen *seen = context;
    seen->slots[seen->count++] = slot;
}

enum { SLOTS = 1000 };

static void test_visit_in_slices(void **state)
{
    (void)state;
    static struct stat_slot slots[SLOTS];
    struct seen *seen = calloc(1, sizeof *seen);
    assert_non_null(seen);
    assert_int_equal(stats_visit(STAT_POOL, 0, 10, see, seen), 0);
    for (unsigned i = 0; i < SLOTS; i++) {
        stat_slot_init(&slots[i], STAT_POOL);
        if (i % 2 == 0) {
            stat_slot_add(&slots[i], 1, 1, 200, 0, 0);
        }
    }
    uint64_t position = 0;
    unsigned rounds = 0;
    do {
        position = stats_visit(STAT_POOL, position, 7, see, seen);
        rounds++;
        assert_true(rounds < SLOTS);
        if (rounds == 10) { // some that were visited and some that were not go
            for (unsigned i = 0; i < SLOTS; i += 4) {
                stat_slot_fini(&slots[i]);
            }
        }
    } while (position != 0);
    // 70 were visited before the half of the rest went.
    assert_int_equal(seen->count, 70 + (SLOTS / 2 - 70) / 2);
    for (unsigned i = 0; i < seen->count; i++) {
        assert_true(((size_t)(seen->slots[i] - slots)) % 2 == 0);
    }
    seen->count = 0;
    assert_int_equal(stats_visit(STAT_ROUTE, 0, 100, see, seen), 0);
    assert_int_equal(seen->count, 0);
    for (unsigned i = 0; i < SLOTS; i++) {
        stat_slot_fini(&slots[i]);
    }
    assert_int_equal(stats_visit(STAT_POOL, 0, 100, see, seen), 0);
    assert_int_equal(seen->count, 0);
    free(seen);
}

static void test_counters(void **state)
{
    (void)state;
    stat_count(stats_of_worker(0), requests_total);
    stat_count(stats_of_worker(2), requests_total);
    stat_add(&stats_of_worker(2)->counters[COUNTER_bytes_in_total], 40);
    assert_int_equal(stats_counter_sum(COUNTER_requests_total), 2);
    assert_int_equal(stats_counter_sum(COUNTER_bytes_in_total), 40);
    assert_string_equal(stats_counter_name(COUNTER_no_route_total), "no_route_total");
    assert_string_equal(stats_counter_help(COUNTER_no_route_total),
                        "Requests that no route matched");
    for (unsigned i = 0; i < COUNTER_COUNT; i++) {
        assert_true(strlen(stats_counter_name((enum counter)i)) > 0);
        assert_true(strlen(stats_counter_help((enum counter)i)) > 0);
    }
    assert_int_equal((uintptr_t)stats_of_worker(1) % 64, 0);
}

struct adder {
    struct stat_slot *slots;
    unsigned worker;
};

static void *add_many(void *argument)
{
    const struct adder *adder = argument;
    for (unsigned i = 0; i < 20000; i++) {
        stat_slot_add(&adder->slots[i % 16], adder->worker, 1, 500, 1, 1);
    }
    return NULL;
}

static void test_workers_at_once(void **state)
{
    (void)state;
    struct stat_slot slots[16];
    struct adder adders[4];
    pthread_t threads[4];
    struct seen *seen = calloc(1, sizeof *seen);
    assert_non_null(seen);
    for (unsigned i = 0; i < 16; i++) {
        stat_slot_init(&slots[i], STAT_TENANT);
    }
    for (unsigned i = 0; i < 4; i++) {
        adders[i] = (struct adder){.slots = slots, .worker = i};
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &adders[i]), 0);
    }
    for (unsigned i = 0; i < 50; i++) {
        seen->count = 0;
        stats_visit(STAT_TENANT, 0, 100, see, seen);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    seen->count = 0;
    stats_visit(STAT_TENANT, 0, 100, see, seen);
    assert_int_equal(seen->count, 16);
    uint64_t total = 0;
    for (unsigned i = 0; i < 16; i++) {
        struct stat_sum sum;
        stat_slot_sum(&slots[i], &sum);
        total += sum.count;
        assert_int_equal(sum.count, sum.errors);
        stat_slot_fini(&slots[i]);
    }
    assert_int_equal(total, 80000);
    free(seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum_over_workers), cmocka_unit_test(test_zeroed_slot_counts_unlisted),
        cmocka_unit_test(test_visit_in_slices),  cmocka_unit_test(test_counters),
        cmocka_unit_test(test_workers_at_once),
    };
    stats_set_worker_count(4);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
