// SPDX-License-Identifier: MIT
// Bytes of one stream: those for the peer that flow control or the socket does not take yet, or those
// received that its user does not take. Blocks come from the loop's pool of output blocks (net/outq.h),
// whose bound holds for them too. An empty queue owns nothing. Loop thread.
//
//   append (copied) ─► blocks ─┐
//   borrow (this event) ─ view ┴─► send (into an output), or front and drop
//
// Blocks that were emptied go back at the end of the turn: outputs may still borrow views of them.
#pragma once
#include "net/outq.h"

struct h2_block;

struct h2_queue {
    struct h2_block *first;
    struct h2_block *last;
    size_t len;      // bytes in blocks
    struct str view; // behind them
};

static inline size_t h2_queue_len(const struct h2_queue *queue)
{
    return queue->len + queue->view.len;
}

// A queue that is all zero is empty. Frees the blocks at the end of the turn.
void h2_queue_fini(struct loop *loop, struct h2_queue *queue);
// Copies. False: memory is out, or all blocks of the loop are in use; what fitted is in the queue.
bool h2_queue_append(struct loop *loop, struct h2_queue *queue, struct str bytes) WARN_UNUSED;
// Borrows `view` until the end of the event; there is none yet.
void h2_queue_borrow(struct h2_queue *queue, struct str view);
// Copies what is left of the view. As h2_queue_append().
bool h2_queue_own(struct loop *loop, struct h2_queue *queue) WARN_UNUSED;
// Puts the first `len` (<= h2_queue_len()) bytes into an output.
void h2_queue_send(struct loop *loop, struct h2_queue *queue, struct outq *out, size_t len);
// The first bytes as far as they lie in a row, valid until the end of the event; empty: none.
struct str h2_queue_front(const struct h2_queue *queue);
// Drops the first `len` (<= h2_queue_front().len) bytes.
void h2_queue_drop(struct loop *loop, struct h2_queue *queue, size_t len);
