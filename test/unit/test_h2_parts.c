// SPDX-License-Identifier: MIT
// The parts under HTTP/2 connections: budgets, memory, queues.
#include "http/h2/h2_fields.h"
#include "http/h2/h2_guard.h"
#include "http/h2/h2_queue.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { HEAD_MAX = 32768 };

static void scans_the_same_at_any_split(void **state)
{
    (void)state;
    // SETTINGS, HEADERS without END_HEADERS, two CONTINUATIONs, DATA, a PING that breaks off.
    static const char frames[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                 "\0\0\0\4\0\0\0\0\0"
                                 "\0\0\3\1\1\0\0\0\1abc"
                                 "\0\0\1\11\0\0\0\0\1d"
                                 "\0\0\2\11\4\0\0\0\1ef"
                                 "\0\0\4\0\1\0\0\0\1data"
                                 "\0\0\10\6\0\0\0\0\0half";
    const size_t in_block_at = 24 + 9 + 9;
    const size_t block_end = 24 + 9 + 12 + 10 + 11;
    struct str all = str_make(frames, sizeof frames - 1);
    for (size_t cut = 0; cut <= all.len; cut++) {
        struct h2_guard guard;
        h2_guard_init(&guard, 0, HEAD_MAX);
        assert_int_equal(h2_guard_scan(&guard, 0, str_sub(all, 0, cut)), ABUSE_NONE);
        assert_int_equal(guard.in_block, cut >= in_block_at && cut < block_end);
        assert_int_equal(guard.has_preface, cut >= 24 + 9);
        assert_int_equal(h2_guard_scan(&guard, 0, str_from(all, cut)), ABUSE_NONE);
        assert_int_equal(guard.block_count, 1);
        assert_int_equal(guard.payload_left, 4);
        assert_int_equal(guard.left[ABUSE_CONTROL], 2000 - 2);
        assert_int_equal(guard.left[ABUSE_EMPTY], 100);
    }
}

static void budgets_refill(void **state)
{
    (void)state;
    struct h2_guard guard;
    h2_guard_init(&guard, 1000, HEAD_MAX);
    for (unsigned i = 0; i < 100; i++) {
        assert_true(h2_guard_spend(&guard, 1000, ABUSE_RAPID_RESET));
    }
    assert_false(h2_guard_spend(&guard, 1019, ABUSE_RAPID_RESET));
    assert_true(h2_guard_spend(&guard, 1020, ABUSE_RAPID_RESET)); // 50 a second
    assert_false(h2_guard_spend(&guard, 1020, ABUSE_RAPID_RESET));
    for (unsigned i = 0; i < H2_EARN_ANSWERS; i++) {
        assert_false(h2_guard_spend(&guard, 1020, ABUSE_RAPID_RESET));
        h2_guard_earn_request(&guard);
    }
    assert_true(h2_guard_spend(&guard, 1020, ABUSE_RAPID_RESET));
    assert_false(h2_guard_spend(&guard, 1020, ABUSE_RAPID_RESET));
    // Never more than the budget.
    for (unsigned i = 0; i < 100; i++) {
        assert_true(h2_guard_spend(&guard, 1000000, ABUSE_RAPID_RESET));
    }
    assert_false(h2_guard_spend(&guard, 1000000, ABUSE_RAPID_RESET));
    // What has no budget is too much at once.
    assert_false(h2_guard_spend(&guard, 1000000, ABUSE_PROTOCOL));
}

static void bytes_sent_pay_for_windows(void **state)
{
    (void)state;
    struct h2_guard guard;
    h2_guard_init(&guard, 0, HEAD_MAX);
    const struct str window = STR("\0\0\4\10\0\0\0\0\1\0\0\1\0");
    guard.preface_left = 0;
    for (unsigned i = 0; i < 10000; i++) {
        h2_guard_earn_sent(&guard, 700);
        assert_int_equal(h2_guard_scan(&guard, 0, window), ABUSE_NONE);
    }
    unsigned count = 0;
    enum h2_abuse kind;
    do {
        h2_guard_earn_sent(&guard, 1);
        kind = h2_guard_scan(&guard, 0, window);
        count++;
    } while (kind == ABUSE_NONE);
    assert_int_equal(kind, ABUSE_CONTROL);
    assert_in_range(count, 2000, 2020);
}

static void blocks_may_have_the_frames_they_need(void **state)
{
    (void)state;
    struct h2_guard guard;
    h2_guard_init(&guard, 0, 1 << 20);
    assert_true((uint64_t)guard.continuation_max * 16384 >= 1 << 20);
    for (unsigned i = 0; i < ABUSE_COUNT; i++) {
        assert_true(h2_abuse_name((enum h2_abuse)i)[0] != 0);
    }
    assert_string_equal(h2_abuse_name(ABUSE_NONE), "");
}

static void memory_is_kept_and_given_back(void **state)
{
    (void)state;
    struct h2_memory *memory = h2_memory_ref();
    struct h2_memory *again = h2_memory_ref();
    assert_ptr_equal(memory, again);
    nghttp2_mem *mem = h2_memory_of_session(memory);
    static const size_t sizes[] = {0,    1,     64,    65,    96,    97,    1024,  2928,
                                   4096, 16384, 16385, 16394, 20464, 20465, 65536, 200000};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    for (unsigned round = 0; round < 3; round++) {
        char *blocks[COUNT];
        for (unsigned i = 0; i < COUNT; i++) {
            blocks[i] = mem->malloc(sizes[i], mem->mem_user_data);
            assert_non_null(blocks[i]);
            assert_int_equal((uintptr_t)blocks[i] % 16, 0);
            memset(blocks[i], (int)i, sizes[i]);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            blocks[i] = mem->realloc(blocks[i], sizes[i] + 5000, mem->mem_user_data);
            assert_non_null(blocks[i]);
            for (size_t k = 0; k < sizes[i]; k++) {
                assert_int_equal(blocks[i][k], i);
            }
        }
        for (unsigned i = 0; i < COUNT; i++) {
            mem->free(blocks[i], mem->mem_user_data);
        }
    }
    char *zeros = mem->calloc(100, 10, mem->mem_user_data);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(zeros[i], 0);
    }
    h2_memory_put(memory, zeros);
    assert_null(mem->calloc(SIZE_MAX / 2, 3, mem->mem_user_data));
    assert_null(mem->malloc(SIZE_MAX, mem->mem_user_data));
    assert_true(h2_memory_kept(memory) > 0);
    h2_memory_put(memory, NULL);
    h2_memory_unref(&again);
    assert_null(again);
    h2_memory_unref(&memory);
}

// More frame buffers than one region has, given back in another order.
static void frame_buffers_share_regions(void **state)
{
    (void)state;
    enum { COUNT = 200 };
    struct h2_memory *memory = h2_memory_ref();
    char *blocks[COUNT];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            blocks[i] = h2_memory_get(memory, 16394);
            assert_non_null(blocks[i]);
            memset(blocks[i], (int)i, 16394);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            unsigned k = i * 77 % COUNT;
            assert_int_equal((unsigned char)blocks[k][16393], k);
            h2_memory_put(memory, blocks[k]);
        }
    }
    h2_memory_unref(&memory);
}

// Kept memory is bounded.
static void memory_over_the_bound_goes_back(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    struct h2_memory *memory = h2_memory_ref();
    void *blocks[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        blocks[i] = h2_memory_get(memory, 60000);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        h2_memory_put(memory, blocks[i]);
    }
    assert_in_range(h2_memory_kept(memory), 65536, 1 << 20);
    h2_memory_unref(&memory);
}

static void queues_keep_the_order(void **state)
{
    (void)state;
    struct loop loop;
    assert_int_equal(loop_init(&loop), 0);
    assert_int_equal(outq_pool_init(&loop), 0);
    struct h2_queue queue = {0};
    char text[50000];
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (char)(i * 7);
    }
    assert_true(h2_queue_append(&loop, &queue, str_make(text, 20000)));
    assert_true(h2_queue_append(&loop, &queue, str_make(text + 20000, 10)));
    h2_queue_borrow(&queue, str_make(text + 20010, 20000));
    assert_int_equal(h2_queue_len(&queue), 40010);
    assert_true(h2_queue_own(&loop, &queue));
    h2_queue_borrow(&queue, str_make(text + 40010, sizeof text - 40010));
    assert_int_equal(h2_queue_len(&queue), sizeof text);
    size_t at = 0;
    while (h2_queue_len(&queue) > 0) {
        struct str front = str_sub(h2_queue_front(&queue), 0, 999);
        assert_memory_equal(front.p, text + at, front.len);
        h2_queue_drop(&loop, &queue, front.len);
        at += front.len;
    }
    assert_int_equal(at, sizeof text);
    loop_run_deferred(&loop);
    assert_int_equal(loop.outq_pool->blocks.live_count, 0);
    // The bound of the loop's blocks holds.
    loop.outq_pool->blocks.live_max = 2;
    assert_false(h2_queue_append(&loop, &queue, str_make(text, sizeof text)));
    assert_in_range(queue.len, 30000, 2 * OUTQ_BLOCK_LEN);
    h2_queue_fini(&loop, &queue);
    assert_int_equal(h2_queue_len(&queue), 0);
    loop_run_deferred(&loop);
    assert_int_equal(loop.outq_pool->blocks.live_count, 0);
    outq_pool_fini(&loop);
    loop_fini(&loop);
}

static void fields_that_are_not_sent(void **state)
{
    (void)state;
    static const struct http_field fields[] = {
        {{"Connection", 10}, {"x", 1}, FIELD_CONNECTION},
        {{"Keep-Alive", 10}, {"x", 1}, FIELD_KEEP_ALIVE},
        {{"Upgrade", 7}, {"x", 1}, FIELD_UPGRADE},
        {{"Transfer-Encoding", 17}, {"chunked", 7}, FIELD_TRANSFER_ENCODING},
        {{"TE", 2}, {"gzip", 4}, FIELD_TE},
        {{"TE", 2}, {"trailers", 8}, FIELD_TE},
        {{"Host", 4}, {"a", 1}, FIELD_HOST},
        {{"X-A", 3}, {NULL, 0}, FIELD_OTHER},
    };
    struct h2_nva nva;
    h2_nva_init(&nva);
    h2_nva_put_status(&nva, 206);
    h2_nva_put_length(&nva, UINT64_MAX);
    h2_nva_put_fields(&nva, fields, sizeof fields / sizeof fields[0]);
    assert_int_equal(nva.count, 4);
    assert_memory_equal(nva.nv[0].value, "206", 3);
    assert_int_equal(nva.nv[1].valuelen, 20);
    assert_memory_equal(nva.nv[1].value, "18446744073709551615", 20);
    assert_memory_equal(nva.nv[2].value, "trailers", 8);
    assert_non_null(nva.nv[3].value);
    for (unsigned i = 0; i < H2_NV_MAX; i++) {
        h2_nva_put(&nva, STR("a"), STR("b"));
    }
    assert_true(nva.overflow && nva.count == H2_NV_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scans_the_same_at_any_split),
        cmocka_unit_test(budgets_refill),
        cmocka_unit_test(bytes_sent_pay_for_windows),
        cmocka_unit_test(blocks_may_have_the_frames_they_need),
        cmocka_unit_test(memory_is_kept_and_given_back),
        cmocka_unit_test(frame_buffers_share_regions),
        cmocka_unit_test(memory_over_the_bound_goes_back),
        cmocka_unit_test(queues_keep_the_order),
        cmocka_unit_test(fields_that_are_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
