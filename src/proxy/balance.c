// SPDX-License-Identifier: MIT
// A target and a connection to it; then the request.
//
//   pool ─► key ─► pick ─┬► connection ─► send
//                        ├► all are full: a place in the queue ─► its turn: from the start
//                        └► none: the answer
#include "proxy/transaction.h"

// There is no target for it: what the last attempt failed with, else the reason.
static enum step_result give_up(struct txn *txn, enum end_reason end)
{
    if (txn->tried_count > 0) {
        return txn_answer(txn, txn->end);
    }
    stat_count(txn->proxy->stats, no_target_total);
    return txn_answer(txn, end);
}

static enum step_result wait_for_body(struct txn *txn)
{
    txn_leave_queue(txn);
    txn_ask_for_body(txn);
    txn->wait = WAIT_BODY;
    txn_arm_due(txn);
    return STEP_WAIT;
}

enum step_result txn_go_on(struct txn *txn)
{
    if (txn->origin == NULL) {
        return txn_next_attempt(txn, END_CONNECT_REFUSED, RETRY_CONNECT, true);
    }
    if (txn->origin->was_reused) {
        txn->origin_ready = true;
        return STEP_NEXT;
    }
    txn->wait = WAIT_CONNECT;
    txn_plan_second(txn);
    return STEP_WAIT;
}

static enum step_result take(struct txn *txn, const struct pool_version *pool,
                             struct pool_choice *choice)
{
    switch (txn_take_target(txn, pool, choice)) {
    case POOL_PICKED:
        txn_use_turn(txn);
        return txn_go_on(txn);
    case POOL_FULL:
        return txn_wait_again(txn) ? STEP_WAIT : txn_wait_for_turn(txn, pool, choice);
    case POOL_NONE:
        break;
    }
    return give_up(txn, END_NO_TARGET);
}

enum step_result txn_step_balance(struct txn *txn)
{
    enum end_reason end = END_NO_TARGET;
    struct pool_choice choice = {0};
    txn->connect_started_ns = txn->proxy->loop->now_ns;
    const struct pool_version *pool = txn_find_pool(txn, &end);
    if (pool == NULL) {
        return give_up(txn, end);
    }
    const struct pool_settings *settings = pool_settings(pool);
    txn_settle_timeouts(txn, settings);
    if (txn->request_due_ms != 0 && txn->proxy->loop->now_ms >= txn->request_due_ms) {
        return txn_answer(txn, END_DEADLINE);
    }
    choice.random = txn->roll;
    choice.now_ms = txn->proxy->loop->now_ms;
    if (settings != NULL) {
        if (!txn_read_key(txn, settings, &choice)) {
            return wait_for_body(txn);
        }
        txn_read_sticky(txn, settings, &choice);
        if (txn_must_wait(txn, settings)) {
            return txn_wait_for_turn(txn, pool, &choice);
        }
    }
    return take(txn, pool, &choice);
}

static void send_piece(void *context, struct str piece)
{
    struct http_stream *origin = context;
    origin->ops->send_data(origin, piece);
}

enum step_result txn_step_send(struct txn *txn)
{
    struct http_head head;
    int err = txn_build_request(txn, &head);
    if (err != 0) {
        return txn_answer(txn, err == ERR_MEMORY ? END_NO_MEMORY : END_HEAD_TOO_LARGE);
    }
    struct http_stream *origin = txn->origin;
    origin->ops->send_head(origin, &head);
    if (txn->keep.len > 0) {
        body_keep_each(&txn->keep, send_piece, origin);
    }
    if (txn->request_ended) {
        origin->ops->send_end(origin, txn->trailers, txn->trailer_count);
        txn->request_sent = true;
    } else {
        txn_resume_client(txn);
    }
    if (txn->client_full) {
        txn_pause_origin(txn); // of heads that an earlier attempt sent ahead
    }
    txn->sent_ns = txn->proxy->loop->now_ns;
    txn->progress_ms = txn->proxy->loop->now_ms;
    txn_arm(txn, txn->timeouts.response_ms);
    return STEP_NEXT;
}
