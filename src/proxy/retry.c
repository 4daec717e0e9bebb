// SPDX-License-Identifier: MIT
// When a request is sent again, and how often all of them may be: the budget.
#include "proxy/transaction.h"

// The budget, of a worker and a pool (of a route with targets of its own). It is kept as hundredths of retries,
// earned by requests and forgotten over a window, so that a burst may use what the last seconds earned, and
// a storm gets no more than its share. With little traffic a few are free.
enum {
    CREDIT_OF_ONE = 100,
    CREDIT_FREE = 10 * CREDIT_OF_ONE, // in each window
    CREDIT_MAX = 1 << 30,
    WINDOW_SEC = 10,
    PERCENT_DEFAULT = 20,
};

// stat_cell.retry_credit: the credit below, the second of the last look above (0: none yet).
static uint64_t credit_of(uint64_t word)
{
    return word & UINT32_MAX;
}

// What is left of `credit` after `elapsed` seconds in which `requests` ended.
static uint64_t earn(uint64_t credit, uint64_t elapsed, uint64_t requests, unsigned percent)
{
    uint64_t kept = elapsed < WINDOW_SEC ? WINDOW_SEC - elapsed : 0;
    uint64_t recent = elapsed > WINDOW_SEC ? requests * WINDOW_SEC / elapsed : requests;
    credit = credit * kept / WINDOW_SEC + (recent < CREDIT_MAX ? recent : CREDIT_MAX) * percent;
    if (credit < CREDIT_FREE) {
        uint64_t refreshed = credit + (WINDOW_SEC - kept) * (CREDIT_FREE / WINDOW_SEC);
        credit = refreshed < CREDIT_FREE ? refreshed : CREDIT_FREE;
    }
    return credit < CREDIT_MAX ? credit : CREDIT_MAX;
}

static unsigned budget_percent(const struct txn *txn)
{
    const struct pool_version *pool = txn->pool == NULL ? NULL : rcu_load(txn->pool->current);
    const struct pool_settings *settings = pool == NULL ? NULL : pool_settings(pool);
    return settings == NULL ? PERCENT_DEFAULT : settings->retry_budget;
}

// Takes one from the budget. False: there is none left.
static bool charge(struct txn *txn)
{
    struct proxy *proxy = txn->proxy;
    unsigned percent = budget_percent(txn);
    if (percent >= 100) {
        return true;
    }
    bool is_pools = txn->pool != NULL && !txn->pool->is_hidden;
    struct stat_slot *slot = is_pools ? &txn->pool->stats : &txn->route->slot->stats;
    struct stat_cell *cell = percent == 0 ? NULL : stat_slot_cell(slot, proxy->index);
    uint64_t credit = 0;
    if (cell != NULL) {
        uint64_t now_sec = proxy->loop->now_ms / 1000 + 1;
        uint64_t last_sec = cell->retry_credit >> 32;
        bool is_first = last_sec == 0;
        uint64_t since = is_first ? proxy->started_ms / 1000 + 1 : last_sec;
        uint64_t count = atomic_load_explicit(&cell->count, memory_order_relaxed);
        credit = earn(is_first ? CREDIT_FREE : credit_of(cell->retry_credit), now_sec - since,
                      count - cell->retry_mark, percent);
        bool is_enough = credit >= CREDIT_OF_ONE;
        cell->retry_mark = count;
        cell->retry_credit = now_sec << 32 | (credit - (is_enough ? CREDIT_OF_ONE : 0));
    }
    if (credit < CREDIT_OF_ONE) {
        stat_count(proxy->stats, retry_budget_total);
        return false;
    }
    return true;
}

static bool may_repeat(const struct txn *txn, unsigned retry_bits, bool is_unsent)
{
    const struct route_decl *rules = txn_rules(txn);
    unsigned retry_max = rules == NULL ? 1 : rules->retries;
    unsigned retry_on = rules == NULL ? RETRY_CONNECT | RETRY_RESET : rules->retry_on;
    return !txn->response_started && !txn->keep_overflow &&
           (is_unsent || http_method_is_idempotent(txn->request.method)) &&
           (retry_on & retry_bits) != 0 && txn->retries < retry_max &&
           txn->tried_count < POOL_TRIED_MAX;
}

static void start_over(struct txn *txn)
{
    txn->request_sent = false;
    txn->origin_paused = false;
    txn->roll = 0;
    loop_timer_cancel(txn->proxy->loop, &txn->timer);
    txn->step = STEP_BALANCE;
}

static void begin_attempt(struct txn *txn, struct pool_member *failed)
{
    stat_count(txn->proxy->stats, upstream_retries_total);
    txn->retries++;
    txn->tried[txn->tried_count++] = failed;
    txn->force_fresh = false;
    start_over(txn);
}

enum step_result txn_next_attempt(struct txn *txn, enum end_reason reason, unsigned retry_bits,
                                  bool is_unsent)
{
    // A target that got nothing did no work: such attempts make no storm.
    bool is_repeated = may_repeat(txn, retry_bits, is_unsent) && (is_unsent || charge(txn));
    struct pool_member *member = txn->member;
    txn_drop_origin(txn);
    txn->end = reason;
    if (!is_repeated) {
        return txn_answer(txn, reason);
    }
    begin_attempt(txn, member);
    return STEP_JUMP;
}

void txn_attempt_failed(struct txn *txn, enum end_reason reason, unsigned retry_bits,
                        bool is_unsent)
{
    txn_next_attempt(txn, reason, retry_bits, is_unsent);
    txn_run(txn);
}

static unsigned status_bit(unsigned status)
{
    return status == 502 ? RETRY_502 : status == 503 ? RETRY_503 : status == 504 ? RETRY_504 : 0;
}

bool txn_retry_status(struct txn *txn, unsigned status)
{
    unsigned bit = status_bit(status);
    if (bit == 0 || !may_repeat(txn, bit, false) || !charge(txn)) {
        return false;
    }
    struct pool_member *member = txn->member;
    txn_drop_origin(txn);
    txn->end = END_ORIGIN_CLOSED;
    begin_attempt(txn, member);
    txn_run(txn);
    return true;
}

void txn_send_anew(struct txn *txn)
{
    txn_drop_origin(txn);
    txn->force_fresh = true;
    start_over(txn);
    txn_run(txn);
}
