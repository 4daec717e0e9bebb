// SPDX-License-Identifier: MIT
// Requests that wait for a target at its limit: one queue a pool, over all workers, oldest first.
//
//   pick says POOL_FULL ─► pool_queue_join ─► … ◄── mailbox: your turn ◄── pool_queue_kick ◄── a put
//
// No lock: one worker (the first that waited) owns the list; the others talk to it by mailboxes. A turn
// is a right to pick again; who then finds nothing waits again in its old place. Newcomers that see
// somebody waiting join behind, so nobody overtakes.
#pragma once
#include "loop/loop.h"

struct pool_queue;
struct pool_waiter;

// Control, before the slot is published; counted: the slot holds one reference.
struct pool_queue *pool_queue_new(void);                     // NULL: out of memory
struct pool_queue *pool_queue_ref(struct pool_queue *queue); // any thread
// Any thread. NULL is allowed.
void pool_queue_unref(struct pool_queue **queue);

// How many wait. Any thread.
unsigned pool_queue_len(const struct pool_queue *queue);
// Waits behind all others, at most `max` in all. on_turn(user) comes on this loop, not before the function
// has returned; the waiter is then spent, unless pool_queue_again() is called inside. After joining the
// caller picks once more, since a target may have got free before (then it leaves).
// 0 and *waiter; ERR_LIMIT: full; ERR_MEMORY. Worker.
int pool_queue_join(struct pool_queue *queue, struct loop *loop, unsigned max,
                    void (*on_turn)(void *user), void *user,
                    struct pool_waiter **waiter) WARN_UNUSED;
// Inside on_turn: nothing could be picked, it waits on in its old place. `saw_all`: nobody else would have found
// anything either, and the turn is over; else it goes to the next.
void pool_queue_again(struct pool_waiter *waiter, bool saw_all);
// After pool_queue_again(): what gets free is for nobody else for `hold_ms`, or until this one is served or
// leaves. Nothing happens while another holds the turns, and for a while after that. For who has waited for
// long and cannot use what others can.
void pool_queue_hold(struct pool_waiter *waiter, unsigned hold_ms);
// Gives up the place; on_turn comes no more. A turn that is on its way goes to the next; so does one that is
// not used: inside on_turn, when nothing was picked and it will not wait any longer. *waiter is NULL
// after; NULL is allowed. Worker, the same loop. Before the loop's end all of its waiters leave; then the
// mailboxes of all loops are emptied until nothing is in any.
void pool_queue_leave(struct pool_waiter **waiter);
// A target has room again: the oldest waiter gets a turn. What made the room (a count that was lowered) and
// what a pick looks at are seq_cst, so that no waiter is missed. A count that was raised for a moment and is
// given back makes room, too. Any thread; nothing when nobody waits.
void pool_queue_kick(struct pool_queue *queue);
// Much may have changed: each one that waits gets a turn, the oldest first. Any thread.
void pool_queue_kick_all(struct pool_queue *queue);
