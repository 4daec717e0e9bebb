// SPDX-License-Identifier: MIT
// What of proxy/miss.h is the worker's.
#include "proxy/miss.h"
#include "base/hash.h"
#include "net/outq.h"
#include "proxy/transaction.h"
#include <stdlib.h>

void misses_init(struct misses *misses, struct loop *loop, const struct misses_source *source)
{
    *misses = (struct misses){.loop = loop, .source = source};
}

void misses_fini(struct misses *misses)
{
    // Each is answered before (see miss_answer()); what is not belongs to who was asked.
    for (unsigned i = 0; i < misses->count; i++) {
        misses->under_way[i]->owner = NULL;
    }
    free(misses->remembered);
    *misses = (struct misses){.count = 0};
}

// ---- what was not there a moment ago ----

static bool is_remembered(const struct misses *misses, uint64_t hash)
{
    return misses->remembered != NULL && misses->remembered[hash % MISS_REMEMBERED].hash == hash &&
           misses->remembered[hash % MISS_REMEMBERED].until_ms > misses->loop->now_ms;
}

// Takes the place of whoever has it: that one is asked for again.
static void remember(struct misses *misses, uint64_t hash, uint64_t until_ms)
{
    if (misses->remembered == NULL) {
        misses->remembered = calloc(MISS_REMEMBERED, sizeof *misses->remembered);
    }
    if (misses->remembered != NULL) {
        misses->remembered[hash % MISS_REMEMBERED].hash = hash;
        misses->remembered[hash % MISS_REMEMBERED].until_ms = until_ms;
    }
}

// ---- look-ups ----

static struct miss *find(const struct misses *misses, uint64_t hash, struct str host)
{
    for (unsigned i = 0; i < misses->count; i++) {
        struct miss *miss = misses->under_way[i];
        if (miss->hash == hash && str_eq(str_make(miss->host, miss->host_len), host)) {
            return miss;
        }
    }
    return NULL;
}

static struct miss *begin(struct misses *misses, uint64_t hash, struct str host)
{
    struct miss *miss = misses->count == MISS_MAX ? NULL : calloc(1, sizeof *miss);
    if (miss == NULL) {
        return NULL;
    }
    list_init(&miss->node);
    list_init(&miss->txns);
    miss->owner = misses;
    miss->loop = misses->loop;
    miss->hash = hash;
    miss->host_len = str_copy(miss->host, sizeof miss->host, host);
    misses->under_way[misses->count++] = miss;
    misses->source->ask(misses->source->context, miss);
    return miss;
}

bool txn_wait_for_host(struct txn *txn)
{
    struct misses *misses = &txn->proxy->misses;
    struct str host = txn_host(txn);
    if (misses->source == NULL || txn->was_missed || host.len == 0 || host.len > URI_HOST_MAX ||
        txn->proxy->stopping) {
        return false;
    }
    uint64_t hash = hash_str(host);
    if (is_remembered(misses, hash)) {
        return false;
    }
    struct miss *miss = find(misses, hash, host);
    if (miss == NULL) {
        miss = begin(misses, hash, host);
    }
    txn->was_missed = true; // once in its life
    if (miss == NULL) {
        stat_count(txn->proxy->stats, host_lookups_refused_total);
        return false;
    }
    stat_count(txn->proxy->stats, host_lookups_total);
    txn->is_missing = true;
    list_append(&miss->txns, &txn->miss_node);
    txn->wait = WAIT_HOST;
    txn_arm(txn, misses->source->timeout_ms);
    return true;
}

void txn_leave_miss(struct txn *txn)
{
    if (txn->is_missing) {
        txn->is_missing = false;
        list_remove(&txn->miss_node);
    }
}

// The route step again, with what the table has now.
static void go_on(struct txn *txn)
{
    txn_leave_miss(txn);
    loop_timer_cancel(txn->proxy->loop, &txn->timer);
    txn_resume_client(txn); // a body may wait for what the route says of it
    txn_run(txn);
}

void txn_miss_timeout(struct txn *txn)
{
    stat_count(txn->proxy->stats, host_lookup_timeouts_total);
    go_on(txn);
}

// ---- the answer ----

static void forget(struct misses *misses, const struct miss *miss)
{
    for (unsigned i = 0; i < misses->count; i++) {
        if (misses->under_way[i] == miss) {
            misses->under_way[i] = misses->under_way[--misses->count];
            return;
        }
    }
}

static void on_answer(struct loop *loop, struct loop_message *message)
{
    struct miss *miss = CONTAINER_OF(message, struct miss, message);
    struct misses *misses = miss->owner;
    if (misses != NULL) {
        forget(misses, miss);
        if (miss->unknown_until_ms != 0) {
            remember(misses, miss->hash, miss->unknown_until_ms);
        }
    }
    struct list txns; // who comes while these run is of another look-up
    list_init(&txns);
    list_splice(&txns, &miss->txns);
    free(miss);
    while (!list_is_empty(&txns)) {
        struct txn *txn = LIST_FIRST(&txns, struct txn, miss_node);
        go_on(txn);
        outq_flush_all(loop); // or each would hold a batch until all have run
    }
}

void miss_answer(struct miss *miss, uint64_t unknown_until_ms)
{
    miss->unknown_until_ms = unknown_until_ms;
    miss->message.run = on_answer;
    loop_post(miss->loop, &miss->message);
}
