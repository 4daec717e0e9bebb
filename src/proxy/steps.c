// SPDX-License-Identifier: MIT
// The table of steps, and the loop that walks it.
#include "base/invariant.h"
#include "proxy/transaction.h"

static enum step_result (*const steps[STEP_COUNT])(struct txn *txn) = {
    [STEP_ROUTE] = txn_step_route,     [STEP_ADMIT] = txn_step_admit,
    [STEP_BALANCE] = txn_step_balance, [STEP_SEND] = txn_step_send,
    [STEP_RECEIVE] = txn_step_receive, [STEP_DELIVER] = txn_step_deliver,
    [STEP_RESPOND] = txn_step_respond, [STEP_FINISH] = txn_step_finish,
};

void txn_run(struct txn *txn)
{
    for (;;) {
        INVARIANT(txn->step < STEP_COUNT);
        switch (steps[txn->step](txn)) {
        case STEP_NEXT:
            txn->step++;
            break;
        case STEP_JUMP:
            break;
        case STEP_WAIT:
        case STEP_GONE:
            return;
        }
    }
}

enum step_result txn_answer(struct txn *txn, enum end_reason reason)
{
    txn->end = reason;
    txn_drop_origin(txn);
    if (txn->client == NULL) {
        txn->step = STEP_FINISH;
        return STEP_JUMP;
    }
    if (txn->response_started) {
        // Too late for an answer: the client must see that this one is not complete.
        if (!txn->is_tunnel) {
            stat_count(txn->proxy->stats, responses_truncated_total);
        }
        txn->client_bytes_in = txn->client->bytes_in;
        txn->client_bytes_out = txn->client->bytes_out;
        txn->client->ops->reset(txn->client, ERR_CLOSED);
        txn->client = NULL;
        txn->step = STEP_FINISH;
        return STEP_JUMP;
    }
    txn->step = STEP_RESPOND;
    return STEP_JUMP;
}

enum step_result txn_step_receive(struct txn *txn)
{
    txn->wait = WAIT_RESPONSE;
    return STEP_WAIT;
}

enum step_result txn_step_deliver(struct txn *txn)
{
    txn->wait = txn->response_ended ? WAIT_SENT : WAIT_END;
    return STEP_WAIT;
}
