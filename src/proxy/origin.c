// SPDX-License-Identifier: MIT
// The events of the target's stream: connected, response, body, end, failure.
#include "proxy/transaction.h"

void txn_origin_is_ready(struct txn *txn, struct http_stream *stream)
{
    txn_drop_second(txn);
    txn->origin = stream; // of the protocol that was found
    txn->connect_ns = stream->loop->now_ns - txn->connect_started_ns;
    txn->origin_ready = true;
    txn->step = STEP_SEND;
    txn_run(txn);
}

static void on_ready(struct http_stream *stream)
{
    struct txn *txn = stream->user;
    if (stream->was_reused) { // one that got free meanwhile
        stat_count(txn->proxy->stats, upstream_reuses_total);
    }
    txn_origin_is_ready(txn, stream);
}

static void on_info(struct http_stream *stream, const struct http_head *head)
{
    struct txn *txn = stream->user;
    struct http_head out;
    txn->progress_ms = stream->loop->now_ms;
    if (++txn->info_count > TXN_INFO_MAX) {
        stat_count(txn->proxy->stats, upstream_errors_total);
        proxy_member_failed(txn->proxy, txn->member, ERR_PROTOCOL);
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
    txn_note_answer(txn, head->status, txn->origin_ns);
    if (txn_retry_status(txn, head->status)) {
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
    txn_send_anew(txn);
    return true;
}

// Was it the target's doing? It breaks off in the middle of an answer for reasons of its own, and it may say that
// it takes no extended CONNECT.
static bool is_failure(const struct txn *txn, const struct http_stream *stream, int err)
{
    bool is_closed = err == ERR_CLOSED || err == ERR_TLS;
    return !stream->never_arrived && err != ERR_UPGRADE && !(is_closed && txn->response_started);
}

static void on_failed_exchange(struct txn *txn, const struct http_stream *stream, int err)
{
    stat_count(txn->proxy->stats, upstream_errors_total);
    bool is_silent = stream->bytes_in == 0;
    bool is_closed = err == ERR_CLOSED || err == ERR_TLS;
    if (is_failure(txn, stream, err)) {
        proxy_member_failed(txn->proxy, txn->member, err);
    }
    if (txn->response_started) {
        txn_abort(txn, is_closed ? END_TRUNCATED : END_ORIGIN_BAD);
    } else if (err == ERR_TLS && is_silent) {
        // With TLS 1.3 a target refuses a client's certificate only after the handshake.
        txn_attempt_failed(txn, END_TLS_FAILED, RETRY_CONNECT | RETRY_RESET, stream->never_arrived);
    } else if (is_closed) {
        // A response that had begun (a part of its head came) is not asked for again.
        txn_attempt_failed(txn, END_ORIGIN_CLOSED, is_silent ? RETRY_RESET : 0,
                           stream->never_arrived);
    } else {
        bool cannot = stream->is_h2 && err == ERR_UPGRADE; // it takes no extended CONNECT
        txn_abort(txn, cannot ? END_UPGRADE_FAILED : END_ORIGIN_BAD);
    }
}

// The connection was not to be had.
static void on_failed_connection(struct txn *txn, const struct http_stream *stream, int err)
{
    stat_count(txn->proxy->stats, upstream_connect_errors_total);
    if (!stream->never_arrived) {
        proxy_member_failed(txn->proxy, txn->member, err);
    }
    if (!txn_promote_second(txn)) {
        txn_attempt_failed(txn, proxy_connect_failure(txn->member, err), RETRY_CONNECT, true);
    }
}

static void on_reset(struct http_stream *stream, int err)
{
    struct txn *txn = stream->user;
    txn->origin = NULL; // it is gone by itself
    if (txn->is_tunnel) {
        txn_abort(txn, END_TUNNEL);
    } else if (err == ERR_CLOSED && txn->second == NULL && retry_stale(txn, stream)) {
        return;
    } else if (!txn->origin_ready) {
        on_failed_connection(txn, stream, err);
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
