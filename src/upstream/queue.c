// SPDX-License-Identifier: MIT
// How the threads of one queue talk. Each waiter brings the two messages that it may need, so nothing
// here can fail once it has joined:
//
//   waiter's loop                    owner's loop: the list
//     join ───────── call: JOIN ────►  listed, oldest first
//     on_turn ◄───── call: TURN ─────  unlisted ◄──────────── kick (any thread)
//     again ──────── call: AGAIN ───►  listed in its old place; the turn goes to the next, if it saw less than all
//     (served) ───── leave: SERVED ─►  the turns that it held are everybody's again; only if it asked to
//     leave ──────── leave: LEAVE ──►  unlisted; if it had a turn, that goes to the next
//     (freed) ◄───── leave: DONE ────
//
// `call` is on its way in one direction at a time; `leave` may cross it, and is always behind it, since
// messages of one sender arrive in order. So with DONE nothing more is on its way, and the waiter is freed.
//
// No turn is lost. A put lowers the target's count and then looks at `waiting`; who joins raises `waiting`
// and then picks once more: all four are seq_cst, so one of the two sees the other. The same for who has a
// turn and finds nothing: `seen` is the number of the last turn before it picked, and every younger turn
// goes to somebody who has not picked since, or is kept for the messages that are still on their way.
//
// Who picked in its turn, could not go on (no connection may be opened) and gave back what it had picked made
// no room: that kick is not passed on, nor is the turn. Else those who wait would wake each other for ever. Nor is
// a turn passed on by who could have taken any target and saw that all are full: what gets free after that is
// another turn. Else one kick too many (a connection that became idle is one beside its request's) would have all
// that wait look in vain, one after the other.
//
// A turn that its worker cannot use goes to those who can, and they may be without end: HTTP/2 connections of
// another worker that are never idle as long as anybody there waits. So who has waited for long may hold the
// turns: AGAIN says so, and until it is served, leaves, or its time is over nobody else gets one. Then all
// do, since the turns meanwhile are gone. After a hold there is none for as long as it was, and for a part of what
// it could have been: to move a connection to another worker is to open it anew.
#include "upstream/queue.h"
#include "base/invariant.h"
#include <stdlib.h>

enum { REST_PART = 8 }; // of the time that was asked for

struct pool_queue {
    atomic_uint refs;
    atomic_uint waiting;          // joined, and neither served nor left
    atomic_uint members;          // the same, but who left counts until the owner knows
    _Atomic(struct loop *) owner; // the first that waited
    atomic_uint kicks;            // that the owner has not seen
    atomic_bool is_kicked;        // `kick` is on its way
    struct loop_message kick;
    _Atomic uint64_t turn; // number of the newest turn; written by the owner
    // The owner's.
    struct list listed; // by ticket
    unsigned listed_count;
    struct list *near;          // who came back last, or was in front of it; NULL: nobody
    uint64_t ticket;            // the last that was given
    unsigned kept;              // turns for which nobody was listed
    uint64_t kept_turn;         // the newest of them
    struct pool_waiter *holder; // NULL: nobody
    struct loop_timer hold;     // its end; set while there is a holder
    uint64_t hold_since_ms;
    unsigned hold_ms; // what was asked for
    uint64_t rest_until_ms;
};

enum waiter_state { WAITER_WAITS, WAITER_IN_TURN, WAITER_LEFT };

struct pool_waiter {
    struct pool_queue *queue; // referenced
    struct loop *loop;
    void (*on_turn)(void *user);
    void *user;
    struct loop_message call;
    struct loop_message leave;
    // Its own loop's.
    uint8_t state; // enum waiter_state
    bool is_again; // pool_queue_again() in this turn
    bool saw_all;  // what it said there
    bool has_held; // it asked to hold the turns: the owner must hear how it ends
    // Who has the message has these.
    uint64_t seen;    // the newest turn when it last began to pick
    uint64_t turn;    // that it was given last
    unsigned hold_ms; // 0: it does not ask to hold the turns
    // The owner's.
    struct list node;
    uint64_t ticket; // 0: not yet
};

static void on_hold_over(struct loop *loop, struct loop_timer *timer);

// The turn that this thread is in.
static _Thread_local struct {
    struct pool_queue *queue;
    unsigned kicks; // made meanwhile
} in_turn;

struct pool_queue *pool_queue_new(void)
{
    struct pool_queue *queue = calloc(1, sizeof *queue);
    if (queue != NULL) {
        atomic_init(&queue->refs, 1);
        list_init(&queue->listed);
        loop_timer_init(&queue->hold, on_hold_over);
    }
    return queue;
}

struct pool_queue *pool_queue_ref(struct pool_queue *queue)
{
    // Relaxed: who refers to it has it already.
    atomic_fetch_add_explicit(&queue->refs, 1, memory_order_relaxed);
    return queue;
}

void pool_queue_unref(struct pool_queue **place)
{
    struct pool_queue *queue = *place;
    *place = NULL;
    // Release and acquire: the last one sees what all others did.
    if (queue != NULL && atomic_fetch_sub_explicit(&queue->refs, 1, memory_order_acq_rel) == 1) {
        INVARIANT(list_is_empty(&queue->listed) && queue->holder == NULL);
        free(queue);
    }
}

unsigned pool_queue_len(const struct pool_queue *queue)
{
    return atomic_load_explicit(&queue->waiting, memory_order_seq_cst);
}

// ---- the owner ----

static void run_turn(struct loop *loop, struct loop_message *message);
static void run_done(struct loop *loop, struct loop_message *message);

static void unlist(struct pool_queue *queue, struct pool_waiter *waiter)
{
    if (queue->near == &waiter->node) {
        queue->near = waiter->node.prev == &queue->listed ? NULL : waiter->node.prev;
    }
    list_remove(&waiter->node);
    queue->listed_count--;
}

static uint64_t ticket_of(const struct list *node)
{
    return CONTAINER_OF(node, const struct pool_waiter, node)->ticket;
}

// Its place is that of its ticket. Those that were called together come back one after the other, so the next
// place is near the last one: looked for from there, or from the front, where who comes back alone belongs.
static void enlist(struct pool_queue *queue, struct pool_waiter *waiter)
{
    struct list *end = &queue->listed;
    struct list *behind = end;
    if (waiter->ticket == 0) {
        waiter->ticket = ++queue->ticket;
    } else {
        behind = queue->near == NULL ? end->next : queue->near;
        while (behind != end && ticket_of(behind) < waiter->ticket) {
            behind = behind->next;
        }
        while (behind->prev != end && ticket_of(behind->prev) > waiter->ticket) {
            behind = behind->prev;
        }
        queue->near = &waiter->node;
    }
    list_append(behind, &waiter->node);
    queue->listed_count++;
}

static void call_up(struct pool_queue *queue, struct pool_waiter *waiter, uint64_t turn)
{
    unlist(queue, waiter);
    waiter->turn = turn;
    waiter->call.run = run_turn;
    loop_post(waiter->loop, &waiter->call);
}

// Turns are kept for those whose message is still on its way, at most one for each.
static void bound_kept(struct pool_queue *queue)
{
    unsigned members = atomic_load_explicit(&queue->members, memory_order_seq_cst);
    unsigned away = members > queue->listed_count ? members - queue->listed_count : 0;
    if (queue->kept > away) {
        queue->kept = away;
    }
}

static bool is_listed(const struct pool_waiter *waiter)
{
    return !list_is_empty(&waiter->node);
}

static struct pool_waiter *next_for(const struct pool_queue *queue, uint64_t turn)
{
    struct pool_waiter *holder = queue->holder;
    if (holder != NULL) {
        return is_listed(holder) && holder->seen < turn ? holder : NULL;
    }
    LIST_FOR_EACH (node, &queue->listed) {
        struct pool_waiter *waiter = CONTAINER_OF(node, struct pool_waiter, node);
        if (waiter->seen < turn) {
            return waiter;
        }
    }
    return NULL;
}

// To the oldest that has not picked since the turn came up.
static void give(struct pool_queue *queue, uint64_t turn)
{
    struct pool_waiter *waiter = next_for(queue, turn);
    if (waiter != NULL) {
        call_up(queue, waiter, turn);
        return;
    }
    queue->kept++;
    queue->kept_turn = turn > queue->kept_turn ? turn : queue->kept_turn;
    bound_kept(queue);
}

static void give_new(struct pool_queue *queue, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        // Release: pairs with the acquire of who begins to pick.
        uint64_t turn = atomic_load_explicit(&queue->turn, memory_order_relaxed) + 1;
        atomic_store_explicit(&queue->turn, turn, memory_order_release);
        give(queue, turn);
    }
}

static void maybe_hold(struct pool_queue *queue, struct loop *loop, struct pool_waiter *waiter)
{
    unsigned hold_ms = waiter->hold_ms;
    waiter->hold_ms = 0;
    if (hold_ms > 0 && queue->holder == NULL && loop->now_ms >= queue->rest_until_ms) {
        queue->holder = waiter;
        queue->hold_since_ms = loop->now_ms;
        queue->hold_ms = hold_ms;
        loop_timer_set(loop, &queue->hold, hold_ms);
    }
}

static void end_hold(struct pool_queue *queue, struct loop *loop)
{
    uint64_t held_ms = loop->now_ms - queue->hold_since_ms;
    unsigned rest_ms = queue->hold_ms / REST_PART;
    queue->holder = NULL;
    queue->rest_until_ms = loop->now_ms + (held_ms > rest_ms ? held_ms : rest_ms);
    loop_timer_cancel(loop, &queue->hold);
    give_new(queue, atomic_load_explicit(&queue->members, memory_order_seq_cst));
}

static void on_hold_over(struct loop *loop, struct loop_timer *timer)
{
    end_hold(CONTAINER_OF(timer, struct pool_queue, hold), loop);
}

// JOIN, AGAIN.
static void run_enlist(struct loop *loop, struct loop_message *message)
{
    struct pool_waiter *waiter = CONTAINER_OF(message, struct pool_waiter, call);
    struct pool_queue *queue = waiter->queue;
    enlist(queue, waiter);
    maybe_hold(queue, loop, waiter);
    uint64_t turn = waiter->turn;
    waiter->turn = 0;
    // First what was kept for it: to pass on its own would find that nobody is away, and keep nothing.
    if (queue->kept > 0 && waiter->seen < queue->kept_turn &&
        (queue->holder == NULL || queue->holder == waiter)) {
        queue->kept--;
        call_up(queue, waiter, queue->kept_turn);
    }
    if (turn != 0) {
        give(queue, turn);
    }
    bound_kept(queue);
}

static void run_leave(struct loop *loop, struct loop_message *message)
{
    struct pool_waiter *waiter = CONTAINER_OF(message, struct pool_waiter, leave);
    struct pool_queue *queue = waiter->queue;
    atomic_fetch_sub_explicit(&queue->members, 1, memory_order_seq_cst);
    bool was_listed = is_listed(waiter);
    if (was_listed) {
        unlist(queue, waiter);
    }
    if (queue->holder == waiter) {
        end_hold(queue, loop);
    }
    if (!was_listed) {
        give(queue, waiter->turn);
    }
    bound_kept(queue);
    message->run = run_done;
    loop_post(waiter->loop, message);
}

// Of one that was served, and had asked to hold the turns.
static void run_served(struct loop *loop, struct loop_message *message)
{
    struct pool_waiter *waiter = CONTAINER_OF(message, struct pool_waiter, leave);
    struct pool_queue *queue = waiter->queue;
    if (queue->holder == waiter) {
        end_hold(queue, loop);
    }
    message->run = run_done;
    loop_post(waiter->loop, message);
}

static void run_kick(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct pool_queue *queue = CONTAINER_OF(message, struct pool_queue, kick);
    // In this order: a kick that comes between the two sends the message once more, for nothing.
    atomic_store_explicit(&queue->is_kicked, false, memory_order_seq_cst);
    unsigned kicks = atomic_exchange_explicit(&queue->kicks, 0, memory_order_seq_cst);
    unsigned members = atomic_load_explicit(&queue->members, memory_order_seq_cst);
    kicks = kicks < members ? kicks : members;
    give_new(queue, kicks);
    pool_queue_unref(&queue);
}

// ---- any worker ----

// Its loop looks after the list, for as long as the queue is.
static struct loop *owner_of(struct pool_queue *queue, struct loop *candidate)
{
    struct loop *owner = atomic_load_explicit(&queue->owner, memory_order_acquire);
    if (owner == NULL &&
        atomic_compare_exchange_strong_explicit(&queue->owner, &owner, candidate,
                                                memory_order_acq_rel, memory_order_acquire)) {
        return candidate;
    }
    return owner;
}

static void kick(struct pool_queue *queue, unsigned count)
{
    struct loop *owner = atomic_load_explicit(&queue->owner, memory_order_acquire);
    if (owner == NULL || count == 0) {
        return;
    }
    atomic_fetch_add_explicit(&queue->kicks, count, memory_order_seq_cst);
    if (!atomic_exchange_explicit(&queue->is_kicked, true, memory_order_seq_cst)) {
        queue->kick.run = run_kick;
        pool_queue_ref(queue);
        loop_post(owner, &queue->kick);
    }
}

void pool_queue_kick(struct pool_queue *queue)
{
    if (in_turn.queue == queue) {
        in_turn.kicks++;
    } else if (pool_queue_len(queue) >
               0) { // seq_cst, as is the count that was lowered before: see above
        kick(queue, 1);
    }
}

void pool_queue_kick_all(struct pool_queue *queue)
{
    kick(queue, pool_queue_len(queue));
}

// ---- the waiter's loop ----

// Of one that has joined: there is one.
static struct loop *waiter_owner(const struct pool_waiter *waiter)
{
    return atomic_load_explicit(&waiter->queue->owner, memory_order_acquire);
}

static void free_waiter(struct pool_waiter *waiter)
{
    pool_queue_unref(&waiter->queue);
    free(waiter);
}

static void run_turn(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct pool_waiter *waiter = CONTAINER_OF(message, struct pool_waiter, call);
    struct pool_queue *queue = waiter->queue;
    if (waiter->state == WAITER_LEFT) {
        return; // the owner will pass the turn on, and DONE comes
    }
    waiter->state = WAITER_IN_TURN;
    waiter->is_again = false;
    // Acquire: what led to these turns was before, and is seen by the pick that follows.
    waiter->seen = atomic_load_explicit(&queue->turn, memory_order_acquire);
    in_turn.queue = queue;
    in_turn.kicks = 0;
    waiter->on_turn(waiter->user);
    in_turn.queue = NULL;
    unsigned kicks = in_turn.kicks;
    if (waiter->state != WAITER_LEFT && waiter->is_again) {
        waiter->state = WAITER_WAITS;
        waiter->turn = kicks > 0 || waiter->saw_all ? 0 : waiter->turn;
        waiter->call.run = run_enlist;
        loop_post(waiter_owner(waiter), &waiter->call);
        return;
    }
    if (waiter->state != WAITER_LEFT) {
        atomic_fetch_sub_explicit(&queue->waiting, 1, memory_order_seq_cst);
        atomic_fetch_sub_explicit(&queue->members, 1, memory_order_seq_cst);
    }
    kick(queue, kicks < pool_queue_len(queue) ? kicks : pool_queue_len(queue));
    if (waiter->state != WAITER_LEFT && waiter->has_held) {
        waiter->leave.run = run_served;
        loop_post(waiter_owner(waiter), &waiter->leave);
    } else if (waiter->state != WAITER_LEFT) {
        free_waiter(waiter);
    }
}

static void run_done(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    free_waiter(CONTAINER_OF(message, struct pool_waiter, leave));
}

// Never counted for a moment: who joins meanwhile would believe that somebody is before it, who sees to it that
// no room is missed.
static bool count_waiting(struct pool_queue *queue, unsigned max)
{
    unsigned now = atomic_load_explicit(&queue->waiting, memory_order_seq_cst);
    while (now < max) {
        if (atomic_compare_exchange_weak_explicit(&queue->waiting, &now, now + 1,
                                                  memory_order_seq_cst, memory_order_seq_cst)) {
            return true;
        }
    }
    return false;
}

int pool_queue_join(struct pool_queue *queue, struct loop *loop, unsigned max,
                    void (*on_turn)(void *user), void *user, struct pool_waiter **place)
{
    *place = NULL;
    struct pool_waiter *waiter = calloc(1, sizeof *waiter);
    if (waiter == NULL) {
        return ERR_MEMORY;
    }
    // Members first: whoever sees somebody waiting finds that there is somebody to keep a turn for.
    atomic_fetch_add_explicit(&queue->members, 1, memory_order_seq_cst);
    if (!count_waiting(queue, max)) {
        atomic_fetch_sub_explicit(&queue->members, 1, memory_order_seq_cst);
        free(waiter);
        return ERR_LIMIT;
    }
    waiter->queue = pool_queue_ref(queue);
    waiter->loop = loop;
    waiter->on_turn = on_turn;
    waiter->user = user;
    // `seen` is 0, though it may pick once more: a turn for nothing does less harm than none.
    waiter->call.run = run_enlist;
    list_init(&waiter->node);
    loop_post(owner_of(queue, loop), &waiter->call);
    *place = waiter;
    return 0;
}

void pool_queue_again(struct pool_waiter *waiter, bool saw_all)
{
    INVARIANT(waiter->state == WAITER_IN_TURN);
    waiter->is_again = true;
    waiter->saw_all = saw_all;
}

void pool_queue_hold(struct pool_waiter *waiter, unsigned hold_ms)
{
    INVARIANT(waiter->state == WAITER_IN_TURN && waiter->is_again);
    waiter->hold_ms = hold_ms;
    waiter->has_held = true;
}

void pool_queue_leave(struct pool_waiter **place)
{
    struct pool_waiter *waiter = *place;
    *place = NULL;
    if (waiter == NULL) {
        return;
    }
    INVARIANT(waiter->state != WAITER_LEFT);
    struct pool_queue *queue = waiter->queue;
    waiter->state = WAITER_LEFT;
    atomic_fetch_sub_explicit(&queue->waiting, 1, memory_order_seq_cst);
    waiter->leave.run = run_leave;
    loop_post(waiter_owner(waiter), &waiter->leave);
}
