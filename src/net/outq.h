// SPDX-License-Identifier: MIT
// What is to be sent on a socket.
//
//   put_view, put_copy ─► batch (this event: borrowed views and small copies) ─► writev
//                                  what the kernel did not take ─► blocks (owned) ─► writev at EPOLLOUT
//
// Where many small pieces come in several events of a turn (answers to the streams of one connection), an
// output gathers them: they are copied, and sent once the batch is full or the turn's events are done.
//
// An output that has nothing to send owns no memory. Views are borrowed until the loop's after_event, which runs
// before the shared receive buffer is used again. Loop thread.
#pragma once
#include "base/slab.h"
#include "loop/loop.h"

enum {
    OUTQ_BLOCK_LEN = 16384,
    OUTQ_SCRATCH_LEN = 8192, // small copies of one batch
    OUTQ_COPY_MAX = 256,     // views up to this are copied: cheaper than a piece of their own
    OUTQ_GATHER_MAX = 4096,  // the same where the output gathers: cheaper than a call of their own
    OUTQ_IOV_MAX = 32,
};

struct outq_batch;
struct outq_block;
struct tls;

struct outq_pool {
    struct slab batches;
    struct slab blocks; // live_max bounds what all outputs of the loop may hold
    unsigned gathered_count;
};

struct outq {
    struct list dirty;    // in loop->dirty
    struct list gathered; // in loop->gathered: its batch waits for the end of the turn's events
    struct loop_io *io;
    struct tls *tls; // seals what is sent, or NULL; then blocks hold sealed bytes
    struct outq_batch *batch;
    struct outq_block *first;
    struct outq_block *last;
    size_t queued;    // bytes in blocks
    uint64_t written; // bytes handed on: to the kernel, or (tls) sealed
    uint64_t sent;    // bytes that the kernel took
    // Before an event's flush, NULL: nothing. Where a protocol turns what its streams gave it into bytes.
    void (*before_flush)(struct loop *loop, struct outq *out);
    // After the flush of an event in which something was put, later where it gathers, and after outq_flush by the owner's
    // EPOLLOUT: `queued` and `failed` say what became of it.
    void (*on_flushed)(struct loop *loop, struct outq *out);
    bool gathers;  // set by its owner
    bool blocked;  // the kernel took less than offered; until EPOLLOUT
    bool is_shut;  // FIN follows what is queued (outq_shut)
    bool failed;   // the peer is gone, or memory is out: all later bytes are dropped
    bool is_short; // it failed since memory was out, or all blocks of the loop are in use
};

// Makes loop->outq_pool, sets loop->after_event and after_events. Once a loop. 0, or ERR_MEMORY.
int outq_pool_init(struct loop *loop) WARN_UNUSED;
void outq_pool_fini(struct loop *loop);

void outq_init(struct outq *out, struct loop_io *io,
               void (*on_flushed)(struct loop *loop, struct outq *out));
// Drops what is queued.
void outq_fini(struct loop *loop, struct outq *out);
// Borrows `view` until the end of the event.
void outq_put_view(struct loop *loop, struct outq *out, struct str view);
// Copies; meant for heads and chunk lines.
void outq_put_copy(struct loop *loop, struct outq *out, struct str bytes);
// Room for `len` (<= OUTQ_SCRATCH_LEN) bytes that the caller writes and outq_commit() appends; NULL
// when the output has failed.
char *outq_reserve(struct loop *loop, struct outq *out, size_t len);
void outq_commit(struct outq *out, size_t len);
// Sends now as much as the kernel takes; the rest is owned after. on_flushed is not called.
void outq_flush(struct loop *loop, struct outq *out);
// What it has gathered is sent now: before its socket is closed. on_flushed is not called.
void outq_flush_gathered(struct loop *loop, struct outq *out);
// What it has gathered is never sent, and its owner knows that of none of it.
void outq_drop_gathered(struct loop *loop, struct outq *out);
// Nothing more will be put: close_notify, if it is sealed, and FIN. The output must be empty; what the
// kernel does not take of close_notify is queued, and FIN follows it at EPOLLOUT (outq_flush).
void outq_shut(struct loop *loop, struct outq *out);
// Bytes that are wire bytes already (alerts and handshakes of TLS): sent now if nothing is queued, else
// behind it.
void outq_put_wire(struct loop *loop, struct outq *out, struct str bytes);
// Before the flush of this event before_flush and on_flushed are called, even if nothing was put.
void outq_wake(struct loop *loop, struct outq *out);
// All outputs of the loop, also what was gathered; the loop's after_events.
void outq_flush_all(struct loop *loop);
// `to` is a copy of `from`, which is not used again: takes its place in the loop's lists.
void outq_moved(struct loop *loop, struct outq *from, struct outq *to);

static inline bool outq_is_empty(const struct outq *out)
{
    return out->queued == 0 && out->batch == NULL;
}
