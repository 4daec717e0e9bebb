// SPDX-License-Identifier: MIT
#include "loop/rcu.h"
#include "loop/version.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

struct thing {
    struct version version;
    uint64_t value;
    uint64_t check; // ~value while it lives
};

static atomic_uint live_things;

static void free_thing(struct version *version)
{
    struct thing *thing = CONTAINER_OF(version, struct thing, version);
    thing->check = 0;
    free(thing);
    atomic_fetch_sub(&live_things, 1);
}

static struct thing *make_thing(uint64_t value)
{
    struct thing *thing = calloc(1, sizeof *thing);
    assert_non_null(thing);
    version_init(&thing->version, free_thing);
    thing->value = value;
    thing->check = ~value;
    atomic_fetch_add(&live_things, 1);
    return thing;
}

static void test_pins_share_one_reference(void **state)
{
    (void)state;
    struct pin_table table;
    assert_int_equal(pin_table_init(&table, 4), 0);
    struct thing *thing = make_thing(1);
    struct pin *first = pin_get(&table, &thing->version);
    struct pin *second = pin_get(&table, &thing->version);
    assert_ptr_equal(first, second);
    assert_int_equal(atomic_load(&thing->version.refs), 2);
    assert_int_equal(table.count, 1);
    version_unref(&thing->version); // the slot's
    assert_int_equal(atomic_load(&live_things), 1);
    pin_put(&table, &first);
    assert_null(first);
    assert_int_equal(atomic_load(&live_things), 1);
    pin_put(&table, &second);
    assert_int_equal(atomic_load(&live_things), 0);
    assert_int_equal(table.count, 0);
    pin_put(&table, &second); // NULL
    pin_table_fini(&table);
}

static void test_many_pins_in_few_buckets(void **state)
{
    (void)state;
    enum { COUNT = 50 };
    struct pin_table table;
    struct pin *pins[COUNT];
    struct thing *things[COUNT];
    assert_int_equal(pin_table_init(&table, 2), 0);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            things[i] = make_thing(i);
            pins[i] = pin_get(&table, &things[i]->version);
            assert_non_null(pins[i]);
            version_unref(&things[i]->version);
        }
        assert_int_equal(table.count, COUNT);
        for (unsigned i = 0; i < COUNT; i++) {
            unsigned k = (i * 7 + round) % COUNT; // 7 and 50 have no common divisor
            assert_int_equal(things[k]->value, k);
            pin_put(&table, &pins[k]);
        }
        assert_int_equal(atomic_load(&live_things), 0);
    }
    pin_table_fini(&table);
}

static void test_fini_lets_go(void **state)
{
    (void)state;
    struct pin_table table;
    assert_int_equal(pin_table_init(&table, 8), 0);
    struct thing *thing = make_thing(9);
    assert_non_null(pin_get(&table, &thing->version));
    version_unref(&thing->version);
    pin_table_fini(&table);
    assert_int_equal(atomic_load(&live_things), 0);
}

// ---- a slot that is swapped while workers read and pin ----

enum { READERS = 2, SWAPS = 20000, HELD = 8 };

static struct thing *slot;
static atomic_bool done;

static void retire_thing(void *object)
{
    version_unref(object);
}

static void *read_slot(void *argument)
{
    struct pin_table table;
    struct pin *held[HELD] = {NULL};
    struct thing *things[HELD] = {NULL};
    bool *bad = argument;
    *bad = pin_table_init(&table, 16) != 0;
    rcu_thread_begin();
    for (unsigned turn = 0; !*bad && !atomic_load(&done); turn++) {
        unsigned i = turn % HELD;
        // What was pinned some turns ago is still whole, though it may be retired since.
        *bad = things[i] != NULL && things[i]->check != ~things[i]->value;
        pin_put(&table, &held[i]);
        things[i] = rcu_load(slot);
        held[i] = pin_get(&table, &things[i]->version);
        *bad = *bad || held[i] == NULL;
        rcu_turn_done();
        if (turn % 64 == 0) {
            rcu_go_offline();
            rcu_go_online();
        }
    }
    pin_table_fini(&table);
    rcu_thread_end();
    return NULL;
}

static void test_swap_under_readers(void **state)
{
    (void)state;
    pthread_t threads[READERS];
    bool bad[READERS];
    rcu_thread_begin();
    slot = make_thing(0);
    for (unsigned i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_slot, &bad[i]), 0);
    }
    for (uint64_t value = 1; value <= SWAPS; value++) {
        struct rcu_retired *retired = rcu_retired_new();
        assert_non_null(retired);
        struct thing *before = slot;
        rcu_publish(slot, make_thing(value));
        rcu_retire(&retired, retire_thing, &before->version);
        assert_null(retired);
        rcu_turn_done();
    }
    atomic_store(&done, true);
    rcu_go_offline();
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(bad[i]);
    }
    rcu_drain();
    rcu_go_online();
    assert_int_equal(rcu_retired_count(), 0);
    assert_int_equal(atomic_load(&live_things), 1);
    version_unref(&slot->version);
    assert_int_equal(atomic_load(&live_things), 0);
    rcu_thread_end();
}

static void test_unused_retired(void **state)
{
    (void)state;
    struct rcu_retired *retired = rcu_retired_new();
    assert_non_null(retired);
    rcu_retired_free(&retired);
    assert_null(retired);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pins_share_one_reference),
        cmocka_unit_test(test_many_pins_in_few_buckets),
        cmocka_unit_test(test_fini_lets_go),
        cmocka_unit_test(test_swap_under_readers),
        cmocka_unit_test(test_unused_retired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
