// SPDX-License-Identifier: MIT
#include "base/arena.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_small_pieces_share_a_block(void **state)
{
    (void)state;
    struct arena_pool pool;
    struct arena arena;
    arena_pool_init(&pool, 4);
    arena_init(&arena, &pool, 64 * 1024);
    char *previous = NULL;
    for (int i = 1; i <= 100; i++) {
        char *p = arena_alloc(&arena, (size_t)i % 13 + 1);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 8, 0);
        assert_true(previous == NULL || p > previous);
        memset(p, i, (size_t)i % 13 + 1);
        previous = p;
    }
    assert_int_equal(arena.total, ARENA_BLOCK_LEN);
    char *zero = arena_alloc(&arena, 0);
    char *other = arena_alloc(&arena, 0);
    assert_non_null(zero);
    assert_true(zero != other);
    assert_int_equal(arena.total, ARENA_BLOCK_LEN);
    arena_reset(&arena);
    assert_int_equal(pool.free_count, 1);
    arena_pool_fini(&pool);
}

static void test_blocks_are_reused(void **state)
{
    (void)state;
    struct arena_pool pool;
    struct arena arena;
    arena_pool_init(&pool, 2);
    arena_init(&arena, &pool, 64 * 1024);
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < 4; i++) {
            memset(arena_alloc(&arena, 8000), turn, 8000);
        }
        assert_int_equal(arena.total, 4 * ARENA_BLOCK_LEN);
        arena_reset(&arena);
        assert_int_equal(pool.free_count, 2);
        assert_int_equal(arena.total, 0);
    }
    arena_pool_fini(&pool);
    assert_int_equal(pool.free_count, 0);
}

static void test_large_piece_has_its_own_block(void **state)
{
    (void)state;
    struct arena_pool pool;
    struct arena arena;
    arena_pool_init(&pool, 2);
    arena_init(&arena, &pool, 64 * 1024);
    char *small = arena_alloc(&arena, 16);
    char *large = arena_alloc(&arena, 20000);
    memset(large, 1, 20000);
    assert_ptr_equal(arena_alloc(&arena, 16), small + 16);
    arena_reset(&arena);
    assert_int_equal(pool.free_count, 1); // the large one went back to malloc
    arena_pool_fini(&pool);
}

static void test_maximum_is_sticky(void **state)
{
    (void)state;
    struct arena_pool pool;
    struct arena arena;
    arena_pool_init(&pool, 2);
    arena_init(&arena, &pool, 2 * ARENA_BLOCK_LEN);
    assert_non_null(arena_alloc(&arena, 8000));
    assert_null(arena_alloc(&arena, 2 * ARENA_BLOCK_LEN));
    assert_true(arena.overflow);
    assert_non_null(arena_alloc(&arena, 8000));
    assert_null(arena_alloc(&arena, 8000));
    assert_true(arena.overflow);
    arena_reset(&arena);
    assert_false(arena.overflow);
    assert_non_null(arena_alloc(&arena, 8000));
    arena_reset(&arena);
    arena_pool_fini(&pool);
}

static void test_absurd_sizes(void **state)
{
    (void)state;
    struct arena_pool pool;
    struct arena arena;
    arena_pool_init(&pool, 2);
    arena_init(&arena, &pool, SIZE_MAX);
    for (size_t back = 0; back < 40; back++) {
        assert_null(arena_alloc(&arena, SIZE_MAX - back));
    }
    assert_true(arena.overflow);
    arena_reset(&arena);
    arena_pool_fini(&pool);
}

static void test_rewind(void **state)
{
    (void)state;
    struct arena_pool pool;
    struct arena arena;
    arena_pool_init(&pool, 2);
    arena_init(&arena, &pool, 4 * ARENA_BLOCK_LEN);
    struct arena_mark empty = arena_mark(&arena);
    char *first = arena_alloc(&arena, 64);
    memset(first, 'x', 64);
    struct arena_mark mark = arena_mark(&arena);
    char *second = NULL;
    for (int round = 0; round < 100; round++) {
        char *again = arena_alloc(&arena, 64);
        assert_true(second == NULL || again == second);
        second = again;
        assert_non_null(arena_alloc(&arena, ARENA_BLOCK_LEN)); // a block of its own
        assert_non_null(arena_alloc(&arena, 8000));            // the next block
        assert_null(arena_alloc(&arena, 4 * ARENA_BLOCK_LEN));
        assert_true(arena.overflow);
        arena_rewind(&arena, &mark);
        assert_false(arena.overflow);
        assert_int_equal(first[63], 'x');
    }
    arena_rewind(&arena, &empty);
    assert_null(arena.blocks);
    assert_non_null(arena_alloc(&arena, 64));
    arena_reset(&arena);
    arena_pool_fini(&pool);
}

static void test_text(void **state)
{
    (void)state;
    struct arena_pool pool;
    struct arena arena;
    arena_pool_init(&pool, 2);
    arena_init(&arena, &pool, 2 * ARENA_BLOCK_LEN);
    struct str s = arena_str(&arena, STR("abc"));
    assert_string_equal(s.p, "abc");
    assert_int_equal(s.len, 3);
    assert_string_equal(arena_str(&arena, STR_NULL).p, "");
    s = arena_printf(&arena, "%s-%d", "x", 42);
    assert_string_equal(s.p, "x-42");
    assert_int_equal(s.len, 4);
    s = arena_printf(&arena, "%*d", 3 * ARENA_BLOCK_LEN, 1);
    assert_null(s.p);
    assert_true(arena.overflow);
    arena_reset(&arena);
    arena_pool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_pieces_share_a_block),
        cmocka_unit_test(test_blocks_are_reused),
        cmocka_unit_test(test_large_piece_has_its_own_block),
        cmocka_unit_test(test_maximum_is_sticky),
        cmocka_unit_test(test_absurd_sizes),
        cmocka_unit_test(test_rewind),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
