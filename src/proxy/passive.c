// SPDX-License-Identifier: MIT
// What requests show of their targets. The settings are those of the pool's live version: the version by which
// the target was picked may be gone by now.
#include "proxy/transaction.h"

static const struct pool_settings *live_settings(struct pool_member *member)
{
    const struct pool_target *target = pool_target_of(member);
    const struct pool_version *pool = target == NULL ? NULL : rcu_load(target->slot->current);
    return pool == NULL ? NULL : pool_settings(pool);
}

static void report(struct proxy *proxy, struct pool_member *member,
                   const struct pool_settings *settings)
{
    if (settings != NULL && settings->passive.max_fails > 0) {
        pool_member_failed(member, settings, proxy->loop->now_ms);
    }
}

void proxy_member_failed(struct proxy *proxy, struct pool_member *member, int err)
{
    if (member != NULL && err != ERR_LIMIT && err != ERR_MEMORY && err != ERR_SYSTEM) {
        report(proxy, member, live_settings(member));
    }
}

static bool is_among(const struct status_range *ranges, unsigned count, unsigned status)
{
    for (unsigned i = 0; i < count; i++) {
        if (status >= ranges[i].from && status <= ranges[i].to) {
            return true;
        }
    }
    return false;
}

void txn_note_answer(struct txn *txn, unsigned status, uint64_t ns)
{
    if (txn->times_answers) {
        pool_member_answered(txn->member, ns, txn->proxy->loop->now_ms);
    }
    if (txn->watches_status) {
        const struct pool_settings *settings = live_settings(txn->member);
        if (settings != NULL &&
            is_among(settings->passive.statuses, settings->passive.status_count, status)) {
            report(txn->proxy, txn->member, settings);
        }
    }
}

enum end_reason proxy_connect_failure(const struct pool_member *member, int err)
{
    switch (err) {
    case ERR_TIMEOUT:
        return END_CONNECT_TIMEOUT;
    case ERR_TLS_VERIFY:
        return END_TLS_VERIFY;
    case ERR_TLS:
        return END_TLS_FAILED;
    case ERR_PROTOCOL: // ALPN had nothing that suits both, or it is no HTTP/2
        return member->scheme == TARGET_HTTPS ? END_TLS_FAILED : END_ORIGIN_BAD;
    default:
        return END_CONNECT_REFUSED;
    }
}
