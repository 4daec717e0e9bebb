// SPDX-License-Identifier: MIT
// What control and the prober's thread share of a probe is its count of references and one flag. Each
// message on its way holds a reference, so that it may be run, at the end, after the prober is gone.
#include "upstream/prober.h"
#include "base/hash.h"
#include "base/invariant.h"
#include "net/outq.h"
#include "net/tls.h"
#include "upstream/prober_int.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum {
    TURN_MAX = 64,       // checks begun in one turn of the loop
    BURST_MS = 100,      // begun within that time, they count as beginning together
    BURST_MAX = 16,      // of which so many begin at once
    JITTER_PERCENT = 10, // of the interval, to either side
};

struct probe {
    atomic_uint refs; // control's, the thread's, and one for each message on its way
    atomic_bool is_dead;
    struct prober *prober; // gone, perhaps, once is_dead
    // control
    probe_done *on_result;
    void *context;
    uint64_t generation;     // of the spec it has now
    struct loop_message end; // to the thread
    // thread
    struct list held;        // linked: the thread has its reference
    struct list node;        // waiting for its turn
    struct loop_timer timer; // until the next check
    struct spec *spec;       // NULL: not yet there
    uint64_t spec_generation;
    struct check check;
    bool is_due; // while the check before is still under way
};

struct prober {
    struct loop loop;
    struct loop *control;
    pthread_t thread;
    bool is_running;  // control
    bool is_stopping; // written once the thread has ended
    bool has_outq;
    bool has_tls;
    unsigned probe_count; // control
    unsigned max;
    _Atomic uint64_t checks;
    _Atomic uint64_t failures;
    // thread
    struct checker checker;
    struct list held;
    struct list waiting;
    struct loop_task begin;
    unsigned under_way;
    uint64_t burst_since_ms;
    unsigned burst;
    uint64_t random;
};

// A spec on its way to the thread.
struct probe_order {
    struct loop_message message;
    struct probe *probe;
    struct spec *spec;
    uint64_t generation;
};

// A result on its way to control.
struct probe_reply {
    struct loop_message message;
    struct probe *probe;
    uint64_t generation;
    struct probe_result result;
};

static void ref(struct probe *probe)
{
    atomic_fetch_add_explicit(&probe->refs, 1, memory_order_relaxed);
}

static void unref(struct probe *probe)
{
    // Release: what was done with it comes before; acquire: before the free by whoever is the last.
    if (atomic_fetch_sub_explicit(&probe->refs, 1, memory_order_acq_rel) == 1) {
        free(probe);
    }
}

static bool is_dead(const struct probe *probe)
{
    return atomic_load_explicit(&probe->is_dead, memory_order_relaxed);
}

// ---- when ----

// Spreads; nobody gains by guessing it (xorshift).
static uint64_t draw(struct prober *prober, uint64_t below)
{
    prober->random ^= prober->random << 13;
    prober->random ^= prober->random >> 7;
    prober->random ^= prober->random << 17;
    return below == 0 ? 0 : prober->random % below;
}

static uint64_t next_in(struct prober *prober, unsigned interval_ms)
{
    uint64_t part = (uint64_t)interval_ms * JITTER_PERCENT / 100;
    return interval_ms - part + draw(prober, 2 * part + 1);
}

static uint64_t first_in(struct prober *prober, unsigned interval_ms)
{
    if (prober->loop.now_ms - prober->burst_since_ms > BURST_MS) {
        prober->burst_since_ms = prober->loop.now_ms;
        prober->burst = 0;
    }
    return prober->burst++ < BURST_MAX ? 0 : draw(prober, interval_ms / 10 + 1);
}

static void wait_for_turn(struct probe *probe)
{
    list_remove(&probe->node);
    list_append(&probe->prober->waiting, &probe->node);
    loop_task_add(&probe->prober->loop, &probe->prober->begin);
}

static void on_due(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct probe *probe = CONTAINER_OF(timer, struct probe, timer);
    if (check_is_under_way(&probe->check)) {
        probe->is_due = true;
    } else {
        wait_for_turn(probe);
    }
}

static void on_begin(struct loop *loop, struct loop_task *task)
{
    struct prober *prober = CONTAINER_OF(task, struct prober, begin);
    for (unsigned i = 0;
         i < TURN_MAX && prober->under_way < prober->max && !list_is_empty(&prober->waiting); i++) {
        struct probe *probe = LIST_FIRST(&prober->waiting, struct probe, node);
        list_remove(&probe->node);
        prober->under_way++;
        if (!probe->spec->is.is_once) {
            loop_timer_set(loop, &probe->timer, next_in(prober, probe->spec->is.interval_ms));
        }
        check_begin(&probe->check, probe->spec);
    }
    if (prober->under_way < prober->max && !list_is_empty(&prober->waiting)) {
        loop_task_add(loop, task);
    }
}

// ---- results ----

static void on_reply(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct probe_reply *reply = CONTAINER_OF(message, struct probe_reply, message);
    struct probe *probe = reply->probe;
    if (!is_dead(probe) && !probe->prober->is_stopping && reply->generation == probe->generation) {
        probe->on_result(probe->context, &reply->result); // it may end the probe
    }
    unref(probe);
    free(reply);
}

static void send_result(struct probe *probe)
{
    struct probe_reply *reply = malloc(sizeof *reply);
    if (reply == NULL) {
        return; // as if it had not been checked; the next one comes
    }
    ref(probe);
    reply->message.run = on_reply;
    reply->probe = probe;
    reply->generation = probe->spec_generation;
    reply->result = probe->check.result;
    loop_post(probe->prober->control, &reply->message);
}

static void free_slot(struct prober *prober)
{
    prober->under_way--;
    if (!list_is_empty(&prober->waiting)) {
        loop_task_add(&prober->loop, &prober->begin);
    }
}

static void on_checked(struct check *check)
{
    struct probe *probe = CONTAINER_OF(check, struct probe, check);
    struct prober *prober = probe->prober;
    bool is_once = probe->spec->is.is_once;
    atomic_fetch_add_explicit(&prober->checks, 1, memory_order_relaxed);
    if (!check->result.is_good) {
        atomic_fetch_add_explicit(&prober->failures, 1, memory_order_relaxed);
    }
    free_slot(prober);
    // What was our own fault says nothing about the target; but who asks once must hear something.
    if (!check->is_fault || is_once) {
        send_result(probe);
    }
    if (probe->is_due) {
        probe->is_due = false;
        wait_for_turn(probe);
    }
}

// ---- orders from control ----

// The thread has no part in it any more, but for its reference and spec.
static void forget(struct probe *probe)
{
    if (check_is_under_way(&probe->check)) {
        check_cancel(&probe->check);
        free_slot(probe->prober);
    }
    list_remove(&probe->node);
    loop_timer_cancel(&probe->prober->loop, &probe->timer);
    probe->is_due = false;
}

static void let_go(struct probe *probe)
{
    forget(probe);
    list_remove(&probe->held);
    spec_free(&probe->spec);
    unref(probe);
}

static void on_order(struct loop *loop, struct loop_message *message)
{
    struct probe_order *order = CONTAINER_OF(message, struct probe_order, message);
    struct probe *probe = order->probe;
    // Dead: there may be no prober. (Alive, it is there: it outlives its loop's turns.)
    if (is_dead(probe) || probe->prober->is_stopping) {
        spec_free(&order->spec);
    } else {
        if (list_is_empty(&probe->held)) {
            list_append(&probe->prober->held, &probe->held);
            ref(probe);
        }
        forget(probe);
        spec_free(&probe->spec);
        probe->spec = order->spec;
        probe->spec_generation = order->generation;
        uint64_t wait_ms = first_in(probe->prober, probe->spec->is.interval_ms);
        if (wait_ms == 0) {
            wait_for_turn(probe);
        } else {
            loop_timer_set(loop, &probe->timer, wait_ms);
        }
    }
    unref(probe);
    free(order);
}

static void on_end(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct probe *probe = CONTAINER_OF(message, struct probe, end);
    if (!list_is_empty(&probe->held)) {
        let_go(probe);
    }
    unref(probe);
}

// ---- control ----

// 0 or ERR_MEMORY.
static int send_spec(struct probe *probe, const struct probe_spec *spec)
{
    struct probe_order *order = malloc(sizeof *order);
    struct spec *copy = spec_new(spec);
    if (order == NULL || copy == NULL) {
        free(order);
        spec_free(&copy);
        return ERR_MEMORY;
    }
    ref(probe);
    order->message.run = on_order;
    order->probe = probe;
    order->spec = copy;
    order->generation = ++probe->generation;
    loop_post(&probe->prober->loop, &order->message);
    return 0;
}

struct probe *probe_begin(struct prober *prober, const struct probe_spec *spec,
                          probe_done *on_result, void *context)
{
    struct probe *probe = calloc(1, sizeof *probe);
    if (probe == NULL) {
        return NULL;
    }
    atomic_init(&probe->refs, 1);
    atomic_init(&probe->is_dead, false);
    probe->prober = prober;
    probe->on_result = on_result;
    probe->context = context;
    list_init(&probe->held);
    list_init(&probe->node);
    loop_timer_init(&probe->timer, on_due);
    check_init(&probe->check, &prober->checker, on_checked);
    if (send_spec(probe, spec) != 0) {
        free(probe);
        return NULL;
    }
    prober->probe_count++;
    return probe;
}

int probe_change(struct probe *probe, const struct probe_spec *spec)
{
    return send_spec(probe, spec);
}

void probe_end(struct probe **place)
{
    struct probe *probe = *place;
    *place = NULL;
    if (probe == NULL) {
        return;
    }
    struct prober *prober = probe->prober;
    prober->probe_count--;
    atomic_store_explicit(&probe->is_dead, true, memory_order_relaxed);
    if (prober->is_stopping) {
        unref(probe);
        return;
    }
    probe->end.run = on_end; // takes control's reference along
    loop_post(&prober->loop, &probe->end);
}

// ---- the thread ----

void prober_forbid(struct prober *prober, const struct sockaddr_storage *listen)
{
    prober->checker.forbidden = *listen;
}

int prober_new(struct prober **out, unsigned max)
{
    struct prober *prober = calloc(1, sizeof *prober);
    if (prober == NULL) {
        return ERR_MEMORY;
    }
    int err = loop_init(&prober->loop);
    if (err != 0) {
        free(prober);
        return err;
    }
    prober->max = max == 0 ? 1 : max;
    prober->random = hash_bytes(&prober, sizeof prober) | 1;
    list_init(&prober->held);
    list_init(&prober->waiting);
    loop_task_init(&prober->begin, on_begin);
    checker_init(&prober->checker, &prober->loop);
    err = outq_pool_init(&prober->loop);
    prober->has_outq = err == 0;
    if (err == 0) {
        err = tls_loop_init(&prober->loop);
        prober->has_tls = err == 0;
    }
    if (err != 0) {
        prober_free(&prober);
        return err;
    }
    prober->loop.owner = prober;
    *out = prober;
    return 0;
}

struct loop *prober_loop(struct prober *prober)
{
    return &prober->loop;
}

static void *run_thread(void *argument)
{
    struct prober *prober = argument;
    loop_run(&prober->loop);
    return NULL;
}

int prober_start(struct prober *prober, struct loop *control)
{
    sigset_t all; // signals are for the threads that ask for them
    sigset_t before;
    sigfillset(&all);
    prober->control = control;
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&prober->thread, NULL, run_thread, prober);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        return ERR_SYSTEM;
    }
    pthread_setname_np(prober->thread, "prober");
    prober->is_running = true;
    return 0;
}

void prober_stop(struct prober *prober)
{
    if (prober->is_stopping) {
        return;
    }
    if (prober->is_running) {
        loop_stop(&prober->loop);
        pthread_join(prober->thread, NULL);
        prober->is_running = false;
    }
    prober->is_stopping = true;
    while (!list_is_empty(&prober->held)) {
        let_go(LIST_FIRST(&prober->held, struct probe, held));
    }
    loop_task_cancel(&prober->begin);
    loop_turn(&prober->loop, 0);       // connections of HTTP/2 close with their outputs
    loop_empty_mailbox(&prober->loop); // orders that came too late
    loop_run_deferred(&prober->loop);
}

void prober_free(struct prober **place)
{
    struct prober *prober = *place;
    *place = NULL;
    if (prober == NULL) {
        return;
    }
    prober_stop(prober);
    INVARIANT(prober->probe_count == 0);
    loop_empty_mailbox(&prober->loop); // what others have sent since
    checker_fini(&prober->checker);
    if (prober->has_tls) {
        tls_loop_fini(&prober->loop);
    }
    if (prober->has_outq) {
        outq_pool_fini(&prober->loop);
    }
    loop_fini(&prober->loop);
    free(prober);
}

void prober_counts(const struct prober *prober, uint64_t *checks, uint64_t *failures)
{
    *checks = atomic_load_explicit(&prober->checks, memory_order_relaxed);
    *failures = atomic_load_explicit(&prober->failures, memory_order_relaxed);
}
