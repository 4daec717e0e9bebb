// SPDX-License-Identifier: MIT
#include "base/slab.h"
#include "base/sanitize.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static void test_reuse_and_bound(void **state)
{
    (void)state;
    struct slab slab;
    void *objects[5];
    slab_init(&slab, 48, 3);
    for (int i = 0; i < 5; i++) {
        objects[i] = slab_get(&slab);
        assert_non_null(objects[i]);
        memset(objects[i], i, 48);
    }
    assert_int_equal(slab.live_count, 5);
    for (int i = 0; i < 5; i++) {
        slab_put(&slab, objects[i]);
    }
    assert_int_equal(slab.live_count, 0);
    assert_int_equal(slab.free_count, 3);
    assert_ptr_equal(slab_get(&slab), objects[2]); // the warmest first
    assert_ptr_equal(slab_get(&slab), objects[1]);
    assert_int_equal(slab.live_count, 2);
    memset(objects[1], 1, 48);
    slab_put(&slab, objects[1]);
    slab_put(&slab, objects[2]);
    slab_fini(&slab);
    assert_int_equal(slab.free_count, 0);
}

static void test_nothing_kept(void **state)
{
    (void)state;
    struct slab slab;
    slab_init(&slab, sizeof(void *), 0);
    void *object = slab_get(&slab);
    slab_put(&slab, object);
    assert_int_equal(slab.free_count, 0);
    slab_fini(&slab);
}

static void test_freed_object_is_poisoned(void **state)
{
    (void)state;
#ifdef SANITIZE_HAS_ASAN
    struct slab slab;
    slab_init(&slab, 64, 1);
    char *object = slab_get(&slab);
    assert_false(__asan_address_is_poisoned(object + 32));
    slab_put(&slab, object);
    assert_true(__asan_address_is_poisoned(object + 32));
    assert_ptr_equal(slab_get(&slab), object);
    assert_false(__asan_address_is_poisoned(object + 32));
    slab_put(&slab, object);
    slab_fini(&slab);
#else
    skip();
#endif
}

static void test_bound_of_live_objects(void **state)
{
    (void)state;
    struct slab slab;
    slab_init(&slab, 32, 1);
    slab.live_max = 2;
    void *one = slab_get(&slab);
    void *two = slab_get(&slab);
    assert_non_null(one);
    assert_non_null(two);
    assert_null(slab_get(&slab));
    assert_int_equal(slab.live_count, 2);
    slab_put(&slab, one);
    one = slab_get(&slab);
    assert_non_null(one);
    slab_put(&slab, one);
    slab_put(&slab, two);
    slab_fini(&slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reuse_and_bound),
        cmocka_unit_test(test_nothing_kept),
        cmocka_unit_test(test_bound_of_live_objects),
        cmocka_unit_test(test_freed_object_is_poisoned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
