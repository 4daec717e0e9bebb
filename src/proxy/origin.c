// SPDX-License-Identifier: MIT
// The events of the target's stream: connected, response, body, end, failure; and when to try again.
#include "proxy/transaction.h"

enum step_result txn_next_attempt(struct txn *txn, enum end_reason reason, unsigned retry_bit,
                                  bool is_unsent)
{
    const struct route_decl *rules = txn_rules(txn);
    unsigned retry_max = rules == NULL ? 1 : rules->retries;
    unsigned retry_on = rules == NULL ? RETRY_CONNECT | RETRY_RESET : rules->retry_on;
    bool is_repeatable =
        !txn->keep_overflow && (is_unsent || http_method_is_idempotent(txn->request.method));
    struct pool_member *member = txn->member;
    txn_drop_origin(txn);
    txn->end = reason;
    if (txn->response_started || !is_repeatable || !(retry_on & retry_bit) ||
        txn->retries >= retry_max || txn->tried_count == POOL_TRIED_MAX) {
        return txn_answer(txn, reason);
    }
    stat_count(txn->proxy->stats, upstream_retries_total);
    txn->retries++;
    txn->tried[txn->tried_count++] = member;
    txn->force_fresh = false;
    txn->origin_paused = false;
    txn->request_sent = false;
    loop_timer_cancel(txn->proxy->loop, &txn->timer);
    txn->step = STEP_BALANCE;
    return STEP_JUMP;
}

void txn_attempt_failed(struct txn *txn, enum end_reason reason, unsigned retry_bit, bool is_unsent)
{
    txn_next_attempt(txn, reason, retry_bit, is_unsent);
    txn_run(txn);
}

static void on_ready(struct http_stream *stream)
{
    struct txn *txn = stream->user;
    txn->origin = stream; // of the protocol that was found
    txn->connect_ns = stream->loop->now_ns - txn->connect_started_ns;
    txn->origin_ready = true;
    txn->step = STEP_SEND;
    txn_run(txn);
}

static void on_info(struct http_stream *stream, const struct http_head *head)
{
    struct txn *txn = stream->user;
    struct http_head out;
    txn->progress_ms = stream->loop->now_ms;
    if (++txn->info_count > TXN_INFO_MAX) {
        stat_count(txn->proxy->stats, upstream_errors_total);
        txn_abort(txn, END_ORIGIN_BAD);
        return;
    }
    // However many there are, they take the memory of one: what was sent is copied already.
    struct arena_mark mark = arena_mark(&txn->arena);
    if (!txn->response_started && txn_build_response(txn, head, &out) == 0) {
        txn->client->ops->send_info(txn->client, &out);
    }
    arena_rewind(&txn->arena, &mark);
}

static unsigned status_retry_bit(unsigned status)
{
    return status == 502 ? RETRY_502 : status == 503 ? RETRY_503 : status == 504 ? RETRY_504 : 0;
}

// Is this answer one that another target may better?
static bool should_retry_status(const struct txn *txn, unsigned status)
{
    const struct route_decl *rules = txn_rules(txn);
    return rules != NULL && (rules->retry_on & status_retry_bit(status)) != 0 &&
           txn->retries < rules->retries && !txn->keep_overflow &&
           http_method_is_idempotent(txn->request.method);
}

static void start_tunnel(struct txn *txn)
{
    struct proxy *proxy = txn->proxy;
    txn->is_tunnel = true;
    txn->end = END_TUNNEL;
    stat_count(proxy->stats, tunnels_total);
    stat_add(&proxy->stats->tunnels, 1);
    body_keep_free(&txn->keep, &proxy->keep_slab);
    // The target may have answered before it took the whole of a large head: it is still full.
    bool was_paused = txn->client_paused;
    txn_resume_client(txn);
    txn->origin->ops->tunnel(txn->origin);
    txn->client->ops->tunnel(txn->client);
    if (was_paused) {
        txn_pause_client(txn);
    }
    txn_arm(txn, txn->timeouts.tunnel_idle_ms);
}

// Only to a protocol that the client named (RFC 9110 7.8).
static bool may_switch(const struct txn *txn, const struct http_head *response)
{
    if (!txn_asks_upgrade(txn) || !txn->request_ended) {
        return false;
    }
    struct str rest = http_head_value(response, FIELD_UPGRADE);
    struct str element;
    bool any = false;
    while (str_next_element(&rest, &element)) {
        if (!http_head_has_token(&txn->request, FIELD_UPGRADE, element)) {
            return false;
        }
        any = true;
    }
    return any;
}

static void on_head(struct http_stream *stream, const struct http_head *head)
{
    struct txn *txn = stream->user;
    struct http_head out;
    txn->origin_ns = stream->loop->now_ns - txn->sent_ns;
    txn->progress_ms = stream->loop->now_ms;
    if (should_retry_status(txn, head->status)) {
        txn_attempt_failed(txn, END_ORIGIN_CLOSED, status_retry_bit(head->status), false);
        return;
    }
    bool is_switch = head->status == 101;
    // To a client of HTTP/2 any 2xx would say that its tunnel is open (RFC 8441 5).
    bool is_deaf = txn->client->is_h2 && txn_asks_upgrade(txn) && head->status / 100 == 2;
    if (is_deaf || (is_switch && !may_switch(txn, head))) {
        txn_abort(txn, END_UPGRADE_FAILED);
        return;
    }
    if (txn_build_response(txn, head, &out) != 0) {
        txn_abort(txn, END_NO_MEMORY);
        return;
    }
    txn->status = head->status;
    txn->response_started = true;
    txn->step = STEP_DELIVER;
    txn->end = END_DONE; // of an earlier attempt
    txn->client->ops->send_head(txn->client, &out);
    if (txn->timeouts.idle_ms != txn->timeouts.response_ms) {
        txn_arm(txn, txn->timeouts.idle_ms);
    }
    if (is_switch) {
        start_tunnel(txn);
    }
    txn_run(txn);
}

static void on_data(struct http_stream *stream, struct str data)
{
    struct txn *txn = stream->user;
    txn->progress_ms = stream->loop->now_ms;
    txn->client->ops->send_data(txn->client, data);
}

static void on_end(struct http_stream *stream, const struct http_field *trailers, unsigned count)
{
    struct txn *txn = stream->user;
    if (txn->is_tunnel) {
        txn->client->ops->send_end(txn->client, NULL, 0);
        return;
    }
    // RFC 9110 6.5.1: trailers go on only to those who said that they take them.
    if (!txn->request.te_trailers) {
        count = 0;
    }
    txn->client->ops->send_end(txn->client, trailers, count);
    txn->response_ended = true;
    loop_timer_cancel(stream->loop, &txn->timer);
    txn_release_origin(txn);
    txn_resume_client(txn); // the rest of a request body is read and dropped
    txn_run(txn);
}

static void on_full(struct http_stream *stream)
{
    txn_pause_client(stream->user);
}

static void on_room(struct http_stream *stream)
{
    struct txn *txn = stream->user;
    txn->progress_ms = stream->loop->now_ms;
    txn_resume_client(txn);
}

// Can no target have acted on the request, or may it be acted on twice? Nothing has reached one before the
// connection was there, a kept one may have been closed before, and of HTTP/2 the peer says which streams
// it did not look at.
static bool is_stale(const struct txn *txn, const struct http_stream *stream)
{
    if (stream->never_arrived) {
        return true;
    }
    return txn->origin_ready && stream->was_reused && stream->bytes_in == 0 &&
           (stream->bytes_out == 0 || http_method_is_idempotent(txn->request.method));
}

// A connection that others had used turned out to be useless: the request goes out on a new one, to
// whichever target is next. Not an attempt of its own. Once for each: force_fresh.
static bool retry_stale(struct txn *txn, const struct http_stream *stream)
{
    if (!is_stale(txn, stream) || txn->keep_overflow || txn->force_fresh || txn->response_started) {
        return false;
    }
    txn_drop_origin(txn);
    txn->force_fresh = true;
    txn->request_sent = false;
    txn->origin_paused = false;
    loop_timer_cancel(stream->loop, &txn->timer);
    txn->step = STEP_BALANCE;
    txn_run(txn);
    return true;
}

static enum end_reason connect_failure(const struct txn *txn, int err)
{
    switch (err) {
    case ERR_TIMEOUT:
        return END_CONNECT_TIMEOUT;
    case ERR_TLS_VERIFY:
        return END_TLS_VERIFY;
    case ERR_TLS:
        return END_TLS_FAILED;
    case ERR_PROTOCOL: // ALPN had nothing that suits both, or it is no HTTP/2
        return txn->member->scheme == TARGET_HTTPS ? END_TLS_FAILED : END_ORIGIN_BAD;
    default:
        return END_CONNECT_REFUSED;
    }
}

static void on_failed_exchange(struct txn *txn, const struct http_stream *stream, int err)
{
    stat_count(txn->proxy->stats, upstream_errors_total);
    bool is_closed = err == ERR_CLOSED || err == ERR_TLS;
    if (txn->response_started) {
        txn_abort(txn, is_closed ? END_TRUNCATED : END_ORIGIN_BAD);
    } else if (is_closed) {
        // A response that had begun (a part of its head came) is not asked for again.
        txn_attempt_failed(txn, END_ORIGIN_CLOSED, stream->bytes_in == 0 ? RETRY_RESET : 0,
                           stream->never_arrived);
    } else {
        bool cannot = stream->is_h2 && err == ERR_UPGRADE; // it takes no extended CONNECT
        txn_abort(txn, cannot ? END_UPGRADE_FAILED : END_ORIGIN_BAD);
    }
}

static void on_reset(struct http_stream *stream, int err)
{
    struct txn *txn = stream->user;
    txn->origin = NULL; // it is gone by itself
    if (txn->is_tunnel) {
        txn_abort(txn, END_TUNNEL);
    } else if (err == ERR_CLOSED && retry_stale(txn, stream)) {
        return;
    } else if (!txn->origin_ready) {
        stat_count(txn->proxy->stats, upstream_connect_errors_total);
        txn_attempt_failed(txn, connect_failure(txn, err), RETRY_CONNECT, true);
    } else if (err == ERR_MEMORY) {
        txn_abort(txn, END_NO_MEMORY);
    } else {
        on_failed_exchange(txn, stream, err);
    }
}

const struct http_stream_events txn_origin_events = {
    .on_ready = on_ready,
    .on_info = on_info,
    .on_head = on_head,
    .on_data = on_data,
    .on_end = on_end,
    .on_full = on_full,
    .on_room = on_room,
    .on_reset = on_reset,
};
