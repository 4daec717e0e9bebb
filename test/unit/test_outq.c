// SPDX-License-Identifier: MIT
#include "net/outq.h"
#include "base/buf.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
    struct loop loop;
    struct loop_io io;
    struct outq out;
    int peer;
    struct buf received;
    unsigned flushed;
};

static void on_event(struct loop *loop, struct loop_io *io, uint32_t events)
{
    (void)loop;
    (void)io;
    (void)events;
}

static void on_flushed(struct loop *loop, struct outq *out)
{
    (void)loop;
    CONTAINER_OF(out, struct fixture, out)->flushed++;
}

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    assert_int_equal(loop_init(&f->loop), 0);
    assert_int_equal(outq_pool_init(&f->loop), 0);
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    int len = 4096;
    assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &len, sizeof len), 0);
    f->io = (struct loop_io){pair[0], on_event};
    f->peer = pair[1];
    outq_init(&f->out, &f->io, on_flushed);
    buf_init(&f->received, 0);
}

static void end(struct fixture *f)
{
    outq_fini(&f->loop, &f->out);
    assert_int_equal(f->loop.outq_pool->batches.live_count, 0);
    assert_int_equal(f->loop.outq_pool->blocks.live_count, 0);
    loop_close(&f->loop, &f->io);
    close(f->peer);
    buf_fini(&f->received);
    outq_pool_fini(&f->loop);
    loop_fini(&f->loop);
}

// Reads at most `max` bytes of what is there.
static void read_some(struct fixture *f, size_t max)
{
    while (max > 0) {
        char *to = buf_reserve(&f->received, 4096);
        assert_non_null(to);
        ssize_t n = read(f->peer, to, max < 4096 ? max : 4096);
        if (n <= 0) {
            return;
        }
        f->received.len += (size_t)n;
        max -= (size_t)n;
    }
}

// As at EPOLLOUT, until all is sent.
static void drain(struct fixture *f)
{
    for (unsigned i = 0; !outq_is_empty(&f->out); i++) {
        assert_true(i < 100000);
        read_some(f, SIZE_MAX);
        f->out.blocked = false;
        outq_flush(&f->loop, &f->out);
    }
    read_some(f, SIZE_MAX);
}

static void make_pattern(char *to, size_t len, unsigned from)
{
    for (size_t i = 0; i < len; i++) {
        to[i] = (char)((i + from) * 2654435761u >> 13);
    }
}

static void test_views_and_copies_in_order(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    outq_put_copy(&f.loop, &f.out, STR("one "));
    outq_put_view(&f.loop, &f.out, STR("two "));
    outq_put_copy(&f.loop, &f.out, STR("three "));
    outq_put_copy(&f.loop, &f.out, STR("four ")); // joins the one before
    outq_put_view(&f.loop, &f.out, STR_NULL);
    char *to = outq_reserve(&f.loop, &f.out, 100);
    memcpy(to, "five", 4);
    outq_commit(&f.out, 4);
    assert_false(outq_is_empty(&f.out));
    assert_int_equal(f.flushed, 0);
    f.loop.after_event(&f.loop);
    assert_int_equal(f.flushed, 1);
    assert_true(outq_is_empty(&f.out));
    assert_int_equal(f.out.written, 23);
    read_some(&f, SIZE_MAX);
    assert_true(str_eq(buf_str(&f.received), STR("one two three four five")));
    assert_int_equal(f.loop.outq_pool->batches.live_count, 0);
    end(&f);
}

// More pieces than one writev takes.
static void test_many_pieces(void **state)
{
    (void)state;
    enum { PIECES = 500, PIECE = OUTQ_COPY_MAX + 1 };
    struct fixture f;
    static char data[PIECES * PIECE];
    begin(&f);
    make_pattern(data, sizeof data, 1);
    for (unsigned i = 0; i < PIECES; i++) {
        struct str piece = str_make(data + i * PIECE, PIECE);
        if (i % 3 == 0) {
            outq_put_copy(&f.loop, &f.out, piece);
        } else {
            outq_put_view(&f.loop, &f.out, piece);
        }
    }
    outq_flush_all(&f.loop);
    drain(&f);
    assert_true(str_eq(buf_str(&f.received), str_make(data, sizeof data)));
    end(&f);
}

// Small views are copied, so that thousands of them are a few writes; nothing at all is no piece.
static void test_small_pieces_are_copied(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    char small[] = "abc";
    for (unsigned i = 0; i < 3 * OUTQ_IOV_MAX; i++) {
        outq_put_view(&f.loop, &f.out, str_make(small, 3));
        assert_non_null(outq_reserve(&f.loop, &f.out, 1));
        outq_commit(&f.out, 0);
    }
    memset(small, 'x', 3);
    assert_int_equal(f.out.written, 0); // all in one batch
    outq_flush_all(&f.loop);
    drain(&f);
    assert_int_equal(f.received.len, 3 * 3 * OUTQ_IOV_MAX);
    assert_int_equal(str_find_char(buf_str(&f.received), 'x'), SIZE_MAX);
    end(&f);
}

// Nobody reads: what was borrowed is owned after the event, order holds, memory goes back.
static void test_blocked_peer(void **state)
{
    (void)state;
    enum { ROUNDS = 40, ROUND = 10007 };
    struct fixture f;
    static char all[ROUNDS * ROUND];
    static char shared[ROUND]; // like the receive buffer: overwritten after each event
    begin(&f);
    make_pattern(all, sizeof all, 3);
    uint64_t put = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        memcpy(shared, all + i * ROUND, ROUND);
        outq_put_copy(&f.loop, &f.out, str_make(shared, 7));
        outq_put_view(&f.loop, &f.out, str_make(shared + 7, ROUND - 7));
        put += ROUND;
        outq_flush_all(&f.loop);
        memset(shared, 0xee, ROUND);
        assert_int_equal(f.out.written + f.out.queued, put);
        if (i % 5 == 4) {
            read_some(&f, 1000 + i * 100); // the kernel takes some, in odd pieces
            f.out.blocked = false;
            outq_flush(&f.loop, &f.out);
        }
    }
    assert_true(f.out.blocked);
    assert_true(f.out.queued > 0);
    drain(&f);
    assert_int_equal(f.received.len, sizeof all);
    assert_memory_equal(f.received.p, all, sizeof all);
    assert_int_equal(f.loop.outq_pool->blocks.live_count, 0);
    assert_int_equal(f.out.queued, 0);
    end(&f);
}

static void test_copy_larger_than_scratch(void **state)
{
    (void)state;
    struct fixture f;
    static char data[3 * OUTQ_SCRATCH_LEN + 11];
    begin(&f);
    make_pattern(data, sizeof data, 9);
    outq_put_copy(&f.loop, &f.out, STR("x"));
    outq_put_copy(&f.loop, &f.out, str_make(data, sizeof data));
    outq_flush_all(&f.loop);
    drain(&f);
    assert_int_equal(f.received.len, sizeof data + 1);
    assert_memory_equal(f.received.p + 1, data, sizeof data);
    end(&f);
}

static void test_peer_gone(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    static char data[100000];
    outq_put_view(&f.loop, &f.out, str_make(data, sizeof data));
    outq_flush_all(&f.loop);
    assert_true(f.out.queued > 0);
    close(f.peer);
    f.peer = -1;
    f.out.blocked = false;
    outq_put_view(&f.loop, &f.out, STR("more"));
    outq_flush_all(&f.loop);
    assert_true(f.out.failed);
    assert_int_equal(f.out.queued, 0);
    assert_int_equal(f.loop.outq_pool->blocks.live_count, 0);
    // Later bytes vanish, and the owner is told each time.
    f.flushed = 0;
    assert_null(outq_reserve(&f.loop, &f.out, 10));
    outq_put_copy(&f.loop, &f.out, STR("even more"));
    outq_flush_all(&f.loop);
    assert_int_equal(f.flushed, 1);
    end(&f);
}

// It fails in the middle of an event, when the pieces are too many for one batch.
static void test_failure_inside_an_event(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    close(f.peer);
    f.peer = -1;
    static char piece[OUTQ_COPY_MAX + 1];
    for (unsigned i = 0; i < 3 * OUTQ_IOV_MAX; i++) {
        outq_put_view(&f.loop, &f.out, str_make(piece, sizeof piece));
    }
    outq_flush_all(&f.loop);
    assert_true(f.out.failed);
    assert_int_equal(f.flushed, 1);
    end(&f);
}

// All blocks of the loop are in use: the output that needs one more fails and says why.
static void test_bound_of_blocks(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.loop.outq_pool->blocks.live_max = 2;
    static char data[OUTQ_BLOCK_LEN];
    for (unsigned i = 0; !f.out.failed; i++) {
        assert_true(i < 100);
        assert_true(f.out.queued <= 2 * OUTQ_BLOCK_LEN);
        outq_put_view(&f.loop, &f.out, str_make(data, sizeof data));
        outq_flush_all(&f.loop);
    }
    assert_true(f.out.is_short);
    assert_int_equal(f.loop.outq_pool->blocks.live_count, 0);
    end(&f);
}

static void test_dropped_while_dirty(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    outq_put_copy(&f.loop, &f.out, STR("never"));
    outq_fini(&f.loop, &f.out);
    outq_flush_all(&f.loop);
    assert_int_equal(f.flushed, 0);
    read_some(&f, SIZE_MAX);
    assert_int_equal(f.received.len, 0);
    end(&f);
}

// Wire bytes go out at once, or behind what waits; in order with all that is put later.
static void test_wire_bytes_keep_their_place(void **state)
{
    (void)state;
    struct fixture f;
    static char data[200000];
    begin(&f);
    make_pattern(data, sizeof data, 5);
    outq_put_wire(&f.loop, &f.out, STR_NULL);
    outq_put_wire(&f.loop, &f.out, STR("first"));
    assert_int_equal(f.out.sent, 5); // nobody has to flush
    assert_true(list_is_empty(&f.out.dirty));
    read_some(&f, SIZE_MAX);
    assert_true(str_eq(buf_str(&f.received), STR("first")));
    f.received.len = 0;
    outq_put_view(&f.loop, &f.out, str_make(data, 100000));
    outq_flush_all(&f.loop);
    assert_true(f.out.blocked);
    outq_put_wire(&f.loop, &f.out, str_make(data + 100000, 50000));
    outq_put_view(&f.loop, &f.out, str_make(data + 150000, 50000));
    outq_flush_all(&f.loop);
    drain(&f);
    assert_int_equal(f.received.len, sizeof data);
    assert_memory_equal(f.received.p, data, sizeof data);
    assert_int_equal(f.out.sent, sizeof data + 5);
    end(&f);
}

// Its owner hears of it though nothing was put.
static void test_wire_bytes_to_nobody(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    close(f.peer);
    f.peer = -1;
    outq_put_wire(&f.loop, &f.out, STR("alert"));
    assert_true(f.out.failed);
    outq_flush_all(&f.loop);
    assert_int_equal(f.flushed, 1);
    end(&f);
}

static unsigned before_calls;

static void put_before(struct loop *loop, struct outq *out)
{
    before_calls++;
    outq_put_copy(loop, out, STR("made late"));
}

static void end_before(struct loop *loop, struct outq *out)
{
    before_calls++;
    outq_fini(loop, out);
}

static void test_before_flush(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    before_calls = 0;
    f.out.before_flush = put_before;
    outq_flush_all(&f.loop);
    assert_int_equal(before_calls, 0);
    outq_wake(&f.loop, &f.out);
    outq_wake(&f.loop, &f.out);
    outq_flush_all(&f.loop);
    assert_int_equal(before_calls, 1);
    assert_int_equal(f.flushed, 1);
    outq_put_copy(&f.loop, &f.out, STR(" and "));
    outq_flush_all(&f.loop);
    assert_int_equal(before_calls, 2);
    read_some(&f, SIZE_MAX);
    assert_true(str_eq(buf_str(&f.received), STR("made late and made late")));
    f.out.before_flush = end_before;
    outq_wake(&f.loop, &f.out);
    outq_flush_all(&f.loop);
    assert_int_equal(before_calls, 3);
    assert_int_equal(f.flushed, 2); // it is no more
    end(&f);
}

static void test_shut(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    outq_put_copy(&f.loop, &f.out, STR("all"));
    outq_flush_all(&f.loop);
    outq_shut(&f.loop, &f.out);
    read_some(&f, SIZE_MAX);
    char byte;
    assert_int_equal(read(f.peer, &byte, 1), 0);
    assert_true(str_eq(buf_str(&f.received), STR("all")));
    end(&f);
}

// ---- gathering ----

enum { TALKERS = 100, TALKERS_EVENTS = 64 };

struct talker {
    struct loop_io io;
    struct fixture *f;
    unsigned number;
};

// What is put is a view into the receive buffer, which the next event overwrites.
static void on_talk(struct loop *loop, struct loop_io *io, uint32_t events)
{
    (void)events;
    struct talker *talker = CONTAINER_OF(io, struct talker, io);
    int len = snprintf(loop->read_buf, 300, "<%0280u>", talker->number);
    outq_put_view(loop, &talker->f->out, str_make(loop->read_buf, (size_t)len));
}

// Messages: each send of the output is one that the peer reads.
static void begin_gathering(struct fixture *f)
{
    begin(f);
    int pair[2];
    loop_close(&f->loop, &f->io);
    close(f->peer);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    f->io = (struct loop_io){pair[0], on_event};
    f->peer = pair[1];
    f->out.gathers = true;
}

static unsigned read_messages(struct fixture *f)
{
    unsigned count = 0;
    for (;;) {
        char *to = buf_reserve(&f->received, 65536);
        assert_non_null(to);
        ssize_t n = read(f->peer, to, 65536);
        if (n <= 0) {
            return count;
        }
        f->received.len += (size_t)n;
        count++;
    }
}

// Many events of a turn: a few sends, all there at its end, in order.
static void test_gathers_over_events(void **state)
{
    (void)state;
    struct fixture f;
    struct talker talkers[TALKERS];
    begin_gathering(&f);
    for (unsigned i = 0; i < TALKERS; i++) {
        talkers[i] = (struct talker){.io = {eventfd(1, EFD_NONBLOCK), on_talk}, &f, i};
        assert_int_equal(loop_add_events(&f.loop, &talkers[i].io, EPOLLIN | EPOLLET), 0);
    }
    loop_turn(&f.loop, 0);
    assert_true(outq_is_empty(&f.out));
    assert_int_equal(f.loop.outq_pool->gathered_count, 0);
    // 28 of 282 bytes fill a batch, and what is there after 64 events goes out.
    unsigned messages = read_messages(&f);
    assert_in_range(messages, TALKERS / 28 + 1, TALKERS / 28 + 2);
    assert_true(f.flushed <= messages);
    assert_int_equal(f.received.len, TALKERS * 282);
    for (unsigned i = 0; i < TALKERS; i++) {
        unsigned number = 0;
        assert_int_equal(sscanf(buf_str(&f.received).p + (size_t)i * 282, "<%u>", &number), 1);
        assert_in_range(number, 0, TALKERS - 1);
        assert_int_equal(talkers[number].number, number);
        talkers[number].number = TALKERS; // once
    }
    for (unsigned i = 0; i < TALKERS; i++) {
        loop_close(&f.loop, &talkers[i].io);
    }
    end(&f);
}

// The first answers of a long turn do not wait for its end.
static unsigned events_before_first;

static void on_count(struct loop *loop, struct loop_io *io, uint32_t events)
{
    (void)events;
    struct talker *talker = CONTAINER_OF(io, struct talker, io);
    if (talker->f->flushed == 0) {
        events_before_first++;
    }
    outq_put_copy(loop, &talker->f->out, STR("x"));
}

static void test_gathers_for_a_while(void **state)
{
    (void)state;
    struct fixture f;
    struct talker talkers[TALKERS];
    begin_gathering(&f);
    events_before_first = 0;
    for (unsigned i = 0; i < TALKERS; i++) {
        talkers[i] = (struct talker){.io = {eventfd(1, EFD_NONBLOCK), on_count}, &f, i};
        assert_int_equal(loop_add_events(&f.loop, &talkers[i].io, EPOLLIN | EPOLLET), 0);
    }
    loop_turn(&f.loop, 0);
    assert_int_equal(events_before_first, TALKERS_EVENTS);
    assert_int_equal(read_messages(&f), 2);
    assert_int_equal(f.received.len, TALKERS);
    for (unsigned i = 0; i < TALKERS; i++) {
        loop_close(&f.loop, &talkers[i].io);
    }
    end(&f);
}

// A large piece is not copied: it goes out with its event, and what was gathered before it.
static void test_gathers_small_pieces_alone(void **state)
{
    (void)state;
    static char large[OUTQ_GATHER_MAX + 1];
    struct fixture f;
    begin_gathering(&f);
    outq_put_copy(&f.loop, &f.out, STR("before "));
    f.loop.after_event(&f.loop);
    assert_int_equal(read_messages(&f), 0);
    assert_int_equal(f.flushed, 0);
    outq_put_view(&f.loop, &f.out, str_make(large, sizeof large));
    f.loop.after_event(&f.loop);
    assert_int_equal(read_messages(&f), 1);
    assert_int_equal(f.flushed, 1);
    assert_int_equal(f.received.len, 7 + sizeof large);
    assert_int_equal(f.loop.outq_pool->gathered_count, 0);
    end(&f);
}

// Much in one event: sent in as few calls as where nothing gathers.
static void test_gathers_no_smaller_sends(void **state)
{
    (void)state;
    enum { FRAMES = 15 };
    static const size_t lens[] = {300, 1000, 2000, OUTQ_GATHER_MAX};
    static char frame[OUTQ_GATHER_MAX];
    for (unsigned i = 0; i < sizeof lens / sizeof *lens; i++) {
        struct fixture f;
        begin_gathering(&f);
        for (unsigned k = 0; k < FRAMES; k++) {
            outq_put_copy(&f.loop, &f.out, STR("head of 9"));
            outq_put_view(&f.loop, &f.out, str_make(frame, lens[i]));
        }
        outq_flush_all(&f.loop);
        assert_int_equal(read_messages(&f), 1);
        assert_int_equal(f.received.len, FRAMES * (9 + lens[i]));
        end(&f);
    }
}

struct task_talker {
    struct loop_task task;
    struct fixture *f;
};

static void on_task(struct loop *loop, struct loop_task *task)
{
    outq_put_copy(loop, &CONTAINER_OF(task, struct task_talker, task)->f->out, STR("x"));
}

static void test_gathers_for_a_while_in_tasks(void **state)
{
    (void)state;
    struct fixture f;
    struct task_talker talkers[TALKERS];
    begin_gathering(&f);
    for (unsigned i = 0; i < TALKERS; i++) {
        talkers[i].f = &f;
        loop_task_init(&talkers[i].task, on_task);
        loop_task_add(&f.loop, &talkers[i].task);
    }
    loop_turn(&f.loop, 0);
    assert_int_equal(read_messages(&f), 2);
    assert_int_equal(f.received.len, TALKERS);
    end(&f);
}

static void test_gathered_is_sent_before_the_end(void **state)
{
    (void)state;
    struct fixture f;
    begin_gathering(&f);
    outq_put_copy(&f.loop, &f.out, STR("last words"));
    f.loop.after_event(&f.loop);
    assert_int_equal(f.loop.outq_pool->gathered_count, 1);
    outq_flush_gathered(&f.loop, &f.out);
    assert_int_equal(read_messages(&f), 1);
    outq_put_copy(&f.loop, &f.out, STR("nobody hears these"));
    f.loop.after_event(&f.loop);
    outq_fini(&f.loop, &f.out);
    assert_int_equal(f.loop.outq_pool->gathered_count, 0);
    loop_turn(&f.loop, 0);
    assert_int_equal(read_messages(&f), 0);
    end(&f);
}

// It moves with what it has gathered; so many hold a batch, others do not wait.
static void test_gathering_is_bounded(void **state)
{
    (void)state;
    enum { MANY = 100, MOST = 64 };
    struct fixture f;
    struct fixture others[MANY];
    begin_gathering(&f);
    memset(others, 0, sizeof others);
    for (unsigned i = 0; i < MANY; i++) {
        outq_init(&others[i].out, &f.io, on_flushed);
        others[i].out.gathers = true;
        outq_put_copy(&f.loop, &others[i].out, STR("x"));
        f.loop.after_event(&f.loop);
    }
    assert_int_equal(f.loop.outq_pool->gathered_count, MOST);
    assert_int_equal(f.loop.outq_pool->batches.live_count, MOST);
    assert_int_equal(read_messages(&f), MANY - MOST);
    struct outq elsewhere = others[0].out;
    outq_moved(&f.loop, &others[0].out, &elsewhere);
    others[0].out = elsewhere;
    outq_moved(&f.loop, &elsewhere, &others[0].out);
    assert_int_equal(f.loop.outq_pool->gathered_count, MOST);
    outq_flush_all(&f.loop);
    assert_int_equal(read_messages(&f), MOST);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(others[i].flushed, 1);
        outq_fini(&f.loop, &others[i].out);
    }
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_views_and_copies_in_order),
        cmocka_unit_test(test_many_pieces),
        cmocka_unit_test(test_small_pieces_are_copied),
        cmocka_unit_test(test_blocked_peer),
        cmocka_unit_test(test_copy_larger_than_scratch),
        cmocka_unit_test(test_peer_gone),
        cmocka_unit_test(test_failure_inside_an_event),
        cmocka_unit_test(test_bound_of_blocks),
        cmocka_unit_test(test_dropped_while_dirty),
        cmocka_unit_test(test_wire_bytes_keep_their_place),
        cmocka_unit_test(test_wire_bytes_to_nobody),
        cmocka_unit_test(test_before_flush),
        cmocka_unit_test(test_shut),
        cmocka_unit_test(test_gathers_over_events),
        cmocka_unit_test(test_gathers_for_a_while),
        cmocka_unit_test(test_gathers_small_pieces_alone),
        cmocka_unit_test(test_gathers_no_smaller_sends),
        cmocka_unit_test(test_gathers_for_a_while_in_tasks),
        cmocka_unit_test(test_gathered_is_sent_before_the_end),
        cmocka_unit_test(test_gathering_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
