// SPDX-License-Identifier: MIT
// The certificate thread: loads what handshakes wait for, watches files.
//
//   worker: cert_ask ─► queue ─► load ─► version->loaded ─► message ─► worker: on_loaded
#include "base/clock.h"
#include "base/invariant.h"
#include "cert/table_int.h"
#include <signal.h>
#include <time.h>

enum { WATCH_MS = 1000 }; // between looks at files

int cert_ask(struct cert_table *table, struct cert_slot *slot, struct cert_wait *wait)
{
    struct cert_version *version = rcu_load(slot->current);
    if (version == NULL) {
        return ERR_NOT_FOUND;
    }
    if (atomic_load_explicit(&version->failed_until_ms, memory_order_relaxed) >
        wait->loop->now_ms) {
        return ERR_UNAVAILABLE;
    }
    if (atomic_fetch_add_explicit(&table->counts.waits, 1, memory_order_relaxed) >=
        table->config.waits_max) {
        cert_count(&table->counts.waits, -1);
        cert_count(&table->counts.waits_refused, 1);
        return ERR_LIMIT;
    }
    // Relaxed, as in pin_get(): in this RCU section the slot's own reference is there.
    atomic_fetch_add_explicit(&version->version.refs, 1, memory_order_relaxed);
    wait->slot = slot;
    wait->version = version;
    wait->err = 0;
    wait->message.next = NULL;
    pthread_mutex_lock(&table->mutex);
    bool is_stopping = table->is_stopping;
    if (!is_stopping) {
        *table->queue_end = &wait->message;
        table->queue_end = &wait->message.next;
    }
    pthread_mutex_unlock(&table->mutex);
    if (is_stopping) {
        version_unref(&version->version);
        cert_count(&table->counts.waits, -1);
        return ERR_UNAVAILABLE;
    }
    pthread_cond_signal(&table->wake);
    return 0;
}

// On the loop that asked.
static void on_answer(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct cert_wait *wait = CONTAINER_OF(message, struct cert_wait, message);
    version_unref(
        &wait->version->version); // the slot's own reference goes on the control thread only
    wait->version = NULL;
    wait->on_loaded(wait, wait->err);
}

static void answer(struct cert_table *table, struct cert_wait *wait, int err)
{
    wait->err = err;
    wait->message.run = on_answer;
    cert_count(&table->counts.waits, -1);
    loop_post(wait->loop, &wait->message);
}

static void serve(struct cert_table *table, struct cert_wait *wait)
{
    struct cert_version *version = wait->version;
    // One that was replaced meanwhile is of no use: whoever waits finds the new one and asks for that.
    bool is_needed =
        rcu_load(version->loaded) == NULL && rcu_load(version->slot->current) == version;
    answer(table, wait, is_needed ? cert_load(table, version) : 0);
}

// With the mutex. NULL: none.
static struct cert_wait *take(struct cert_table *table)
{
    struct loop_message *message = table->queue;
    if (message == NULL) {
        return NULL;
    }
    table->queue = message->next;
    if (table->queue == NULL) {
        table->queue_end = &table->queue;
    }
    message->next = NULL;
    return CONTAINER_OF(message, struct cert_wait, message);
}

// With the mutex, until something is there or it is time to look at files.
static void sleep_until(struct cert_table *table, uint64_t until_ms)
{
    if (list_is_empty(&table->watched)) {
        pthread_cond_wait(&table->wake, &table->mutex);
        return;
    }
    struct timespec until = {.tv_sec = (time_t)(until_ms / 1000),
                             .tv_nsec = (long)(until_ms % 1000 * NS_PER_MS)};
    pthread_cond_timedwait(&table->wake, &table->mutex, &until);
}

static void *run(void *argument)
{
    struct cert_table *table = argument;
    uint64_t watched_ms = 0;
    rcu_thread_begin();
    rcu_go_offline();
    pthread_mutex_lock(&table->mutex);
    while (!table->is_stopping) {
        struct cert_wait *wait = take(table);
        uint64_t now_ms = clock_monotonic_ns() / NS_PER_MS;
        if (wait != NULL) {
            pthread_mutex_unlock(&table->mutex);
            serve(table, wait);
            pthread_mutex_lock(&table->mutex);
        } else if (!list_is_empty(&table->watched) && now_ms >= watched_ms + WATCH_MS) {
            watched_ms = now_ms;
            pthread_mutex_unlock(&table->mutex);
            cert_watch_turn(table);
            pthread_mutex_lock(&table->mutex);
        } else {
            sleep_until(table, watched_ms + WATCH_MS);
        }
    }
    struct cert_wait *wait;
    while ((wait = take(table)) != NULL) {
        answer(table, wait, ERR_UNAVAILABLE);
    }
    pthread_mutex_unlock(&table->mutex);
    rcu_go_online();
    rcu_thread_end();
    return NULL;
}

int cert_table_start(struct cert_table *table)
{
    // Signals are for the threads that ask for them.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    table->is_started = pthread_create(&table->thread, NULL, run, table) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return table->is_started ? 0 : ERR_SYSTEM;
}

void cert_table_stop(struct cert_table *table)
{
    pthread_mutex_lock(&table->mutex);
    table->is_stopping = true;
    pthread_cond_signal(&table->wake);
    pthread_mutex_unlock(&table->mutex);
    if (table->is_started) {
        pthread_join(table->thread, NULL);
        table->is_started = false;
    }
}
