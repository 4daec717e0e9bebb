// SPDX-License-Identifier: MIT
// What a transaction waits for has an end: one timer, set for whatever is due first.
#include "proxy/transaction.h"

// Tunnels are exempt: they are as long as their ends want.
static bool has_due(const struct txn *txn)
{
    return txn->request_due_ms != 0 && !txn->is_tunnel;
}

void txn_arm(struct txn *txn, uint64_t after_ms)
{
    uint64_t now_ms = txn->proxy->loop->now_ms;
    if (has_due(txn) && now_ms + after_ms > txn->request_due_ms) {
        after_ms = txn->request_due_ms > now_ms ? txn->request_due_ms - now_ms : 0;
    }
    loop_timer_set(txn->proxy->loop, &txn->timer, after_ms);
}

void txn_arm_due(struct txn *txn)
{
    if (has_due(txn)) {
        txn_arm(txn, txn->request_due_ms);
    } else {
        loop_timer_cancel(txn->proxy->loop, &txn->timer);
    }
}

// Is the next byte the target's to give or to take? A client that does not send or read has a time of
// its own, on its connection. A tunnel has no other time than this.
static bool is_origin_due(const struct txn *txn)
{
    bool waits_for_client = !txn->request_sent && !txn->client_paused;
    return txn->is_tunnel || (txn->origin != NULL && !txn->origin_paused && !waits_for_client);
}

static void on_exchange_timer(struct txn *txn)
{
    uint64_t now_ms = txn->proxy->loop->now_ms;
    uint64_t limit_ms = txn->is_tunnel              ? txn->timeouts.tunnel_idle_ms
                        : txn->step == STEP_DELIVER ? txn->timeouts.idle_ms
                                                    : txn->timeouts.response_ms;
    bool counts = is_origin_due(txn);
    uint64_t since = txn->progress_ms;
    if (txn->step == STEP_RECEIVE && txn->request_sent) {
        since = txn->sent_ns / 1000000; // a 1xx is no progress
    }
    if (!counts || since + limit_ms > now_ms) {
        txn_arm(txn, counts ? since + limit_ms - now_ms : limit_ms);
        return;
    }
    if (txn->is_tunnel) {
        txn_abort(txn, END_TUNNEL_IDLE);
    } else if (txn->step == STEP_RECEIVE) {
        stat_count(txn->proxy->stats, upstream_errors_total);
        proxy_member_failed(txn->proxy, txn->member, ERR_TIMEOUT);
        txn_attempt_failed(txn, END_ORIGIN_SLOW, RETRY_TIMEOUT, false);
    } else {
        txn_abort(txn, END_ORIGIN_SLOW);
    }
}

// The time of the whole request is up. When the target had the request for most of it, it is the target that
// did not answer.
static void on_due(struct txn *txn)
{
    uint64_t now_ns = txn->proxy->loop->now_ns;
    if (txn->step == STEP_RECEIVE && txn->request_sent) {
        stat_count(txn->proxy->stats, upstream_errors_total);
        if ((now_ns - txn->sent_ns) * 2 >= now_ns - txn->started_ns) {
            proxy_member_failed(txn->proxy, txn->member, ERR_TIMEOUT);
        }
    }
    txn_abort(txn, END_DEADLINE);
}

static void on_timer(struct loop *loop, struct loop_timer *timer)
{
    struct txn *txn = CONTAINER_OF(timer, struct txn, timer);
    if (has_due(txn) && loop->now_ms >= txn->request_due_ms) {
        on_due(txn);
        return;
    }
    switch (txn->wait) {
    case WAIT_HOST:
        txn_miss_timeout(txn);
        break;
    case WAIT_QUEUE:
        if (loop->now_ms < txn->queue_due_ms) {
            txn_arm(txn, txn->queue_due_ms - loop->now_ms);
        } else {
            txn_queue_timeout(txn);
            txn_run(txn);
        }
        break;
    case WAIT_CONNECT:
        txn_begin_second(txn);
        break;
    case WAIT_BODY:
        txn_arm_due(txn);
        break;
    case WAIT_RESPONSE:
    case WAIT_END:
    case WAIT_SENT:
        on_exchange_timer(txn);
        break;
    }
}

void txn_init_timer(struct txn *txn)
{
    loop_timer_init(&txn->timer, on_timer);
}
