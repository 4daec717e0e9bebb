// SPDX-License-Identifier: MIT
// The table of steps, and the loop that walks it.
#include "base/invariant.h"
#include "proxy/transaction.h"

struct step_info {
    const char *name;
    enum step_result (*run)(struct txn *txn);
};

static const struct step_info steps[STEP_COUNT] = {
    [STEP_ROUTE] = {"route", txn_step_route},       [STEP_ADMIT] = {"admit", txn_step_admit},
    [STEP_BALANCE] = {"balance", txn_step_balance}, [STEP_SEND] = {"send", txn_step_send},
    [STEP_RECEIVE] = {"receive", txn_step_receive}, [STEP_DELIVER] = {"deliver", txn_step_deliver},
    [STEP_RESPOND] = {"respond", txn_step_respond}, [STEP_FINISH] = {"finish", txn_step_finish},
};

void txn_run(struct txn *txn)
{
    for (;;) {
        INVARIANT(txn->step < STEP_COUNT);
        switch (steps[txn->step].run(txn)) {
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

const char *txn_step_name(enum step step)
{
    return step < STEP_COUNT ? steps[step].name : "none";
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
