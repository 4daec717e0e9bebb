// SPDX-License-Identifier: MIT
#include "loop/grow.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct grower {
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct cds_lfht *tables[GROW_TABLE_MAX];
    unsigned long wanted[GROW_TABLE_MAX]; // 0: nothing to do
    bool is_stopping;
    bool is_started;
    pthread_t thread;
};

struct grower *grower_new(void)
{
    struct grower *grower = calloc(1, sizeof *grower);
    if (grower != NULL) {
        pthread_mutex_init(&grower->mutex, NULL);
        pthread_cond_init(&grower->wake, NULL);
    }
    return grower;
}

// With the mutex. False: stopping.
static bool wait_work(struct grower *grower, struct cds_lfht **table, unsigned long *buckets)
{
    while (!grower->is_stopping) {
        for (unsigned i = 0; i < GROW_TABLE_MAX; i++) {
            if (grower->wanted[i] != 0) {
                *table = grower->tables[i];
                *buckets = grower->wanted[i];
                grower->wanted[i] = 0;
                return true;
            }
        }
        pthread_cond_wait(&grower->wake, &grower->mutex);
    }
    return false;
}

static void *run_grower(void *argument)
{
    struct grower *grower = argument;
    struct cds_lfht *table;
    unsigned long buckets;
    pthread_mutex_lock(&grower->mutex);
    while (wait_work(grower, &table, &buckets)) {
        pthread_mutex_unlock(&grower->mutex);
        rcu_thread_begin();
        cds_lfht_resize(table, buckets);
        rcu_thread_end();
        pthread_mutex_lock(&grower->mutex);
    }
    pthread_mutex_unlock(&grower->mutex);
    return NULL;
}

// Signals are for the threads that ask for them.
static bool start(struct grower *grower)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    grower->is_started = pthread_create(&grower->thread, NULL, run_grower, grower) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return grower->is_started;
}

bool grower_ask(struct grower *grower, unsigned number, struct cds_lfht *table,
                unsigned long buckets)
{
    if (!grower->is_started && !start(grower)) {
        return false;
    }
    pthread_mutex_lock(&grower->mutex);
    grower->tables[number] = table;
    grower->wanted[number] = buckets;
    pthread_cond_signal(&grower->wake);
    pthread_mutex_unlock(&grower->mutex);
    return true;
}

void grower_free(struct grower **place)
{
    struct grower *grower = *place;
    *place = NULL;
    if (grower == NULL) {
        return;
    }
    if (grower->is_started) {
        pthread_mutex_lock(&grower->mutex);
        grower->is_stopping = true;
        pthread_cond_signal(&grower->wake);
        pthread_mutex_unlock(&grower->mutex);
        rcu_go_offline(); // a growth may wait for a grace period
        pthread_join(grower->thread, NULL);
        rcu_go_online();
    }
    pthread_cond_destroy(&grower->wake);
    pthread_mutex_destroy(&grower->mutex);
    free(grower);
}
