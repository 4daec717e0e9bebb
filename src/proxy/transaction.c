// SPDX-License-Identifier: MIT
// The life of a transaction, and the events of its client's stream.
#include "proxy/transaction.h"
#include "base/invariant.h"

static const struct http_stream_events client_events;

// The bytes of a head that are copied in one piece, and where to.
struct kept_range {
    const char *from;
    const char *end;
    char *to;
};

// The view in the copy. What lies elsewhere gets one of its own.
static struct str keep_view(struct txn *txn, struct str view, const struct kept_range *range)
{
    if (view.len == 0) {
        return str_make(view.p == NULL ? NULL : "", 0);
    }
    if (view.p >= range->from && view.p + view.len <= range->end) {
        view.p = range->to + (view.p - range->from);
        return view;
    }
    return arena_str(&txn->arena, view);
}

// From the method to the end of the last field: protocols put them there in this order. A range that
// cannot be one is empty.
static bool copy_range(struct txn *txn, const struct http_head *head, struct kept_range *range)
{
    range->from = head->method_text.p;
    range->end = head->target.p + head->target.len;
    for (unsigned i = 0; i < head->field_count; i++) {
        const char *value_end = head->fields[i].value.p + head->fields[i].value.len;
        range->end = value_end > range->end ? value_end : range->end;
    }
    if (range->end < range->from || range->end - range->from > TXN_ARENA_MAX) {
        range->end = range->from;
    }
    size_t len = (size_t)(range->end - range->from);
    range->to = len == 0 ? NULL : arena_alloc(&txn->arena, len);
    if (range->to != NULL) {
        memcpy(range->to, range->from, len);
    }
    return len == 0 || range->to != NULL;
}

// Copies a head into the arena.
static bool keep_head(struct txn *txn, const struct http_head *head)
{
    struct kept_range range;
    struct http_field *fields = arena_alloc(&txn->arena, (head->field_count + 1) * sizeof *fields);
    if (fields == NULL || !copy_range(txn, head, &range)) {
        return false;
    }
    txn->request = *head;
    struct http_head *copy = &txn->request;
    copy->fields = fields;
    for (unsigned i = 0; i < head->field_count; i++) {
        fields[i].id = head->fields[i].id;
        fields[i].name = keep_view(txn, head->fields[i].name, &range);
        fields[i].value = keep_view(txn, head->fields[i].value, &range);
    }
    copy->method_text = keep_view(txn, head->method_text, &range);
    copy->target = keep_view(txn, head->target, &range);
    copy->scheme = keep_view(txn, head->scheme, &range);
    copy->authority = keep_view(txn, head->authority, &range);
    copy->path = keep_view(txn, head->path, &range);
    copy->query = keep_view(txn, head->query, &range);
    return !txn->arena.overflow;
}

void txn_begin(struct proxy *proxy, struct http_stream *stream, const struct http_head *head)
{
    struct txn *txn = slab_get(&proxy->txn_slab);
    if (txn == NULL) {
        stream->ops->reset(stream, ERR_MEMORY);
        return;
    }
    memset(txn, 0, sizeof *txn);
    txn->proxy = proxy;
    txn->client = stream;
    stream->events = &client_events;
    stream->user = txn;
    list_append(&proxy->txns, &txn->node);
    txn_init_timer(txn);
    arena_init(&txn->arena, &proxy->arenas, TXN_ARENA_MAX);
    txn->started_ns = proxy->loop->now_ns;
    txn->progress_ms = proxy->loop->now_ms;
    txn->request_ended = stream->is_complete;
    if (!keep_head(txn, head)) {
        txn_answer(txn, END_NO_MEMORY);
    } else {
        txn_identify(txn);
    }
    txn_run(txn);
}

// Gives back the count on the member.
static void put_member(struct txn *txn)
{
    if (txn->member == NULL) {
        return;
    }
    if (txn_is_logged(txn)) {
        char text[POOL_MEMBER_TEXT_MAX];
        size_t len = pool_member_text(txn->member, text, sizeof text);
        txn->target_text = arena_str(&txn->arena, str_make(text, len));
    }
    pool_member_put(txn->member);
    txn->member = NULL;
}

void txn_drop_origin(struct txn *txn)
{
    if (txn->origin != NULL) {
        txn->origin->ops->reset(txn->origin, ERR_CLOSED);
        txn->origin = NULL;
    }
    txn->origin_ready = false;
    put_member(txn);
    txn_drop_second(txn);
    txn_leave_miss(txn);
    txn_leave_queue(txn);
}

void txn_release_origin(struct txn *txn)
{
    struct http_stream *origin = txn->origin;
    txn->origin = NULL;
    origin->ops->release(origin);
    put_member(txn);
}

void txn_pause_client(struct txn *txn)
{
    if (txn->client != NULL && !txn->client_paused) {
        txn->client_paused = true;
        txn->client->ops->pause(txn->client);
    }
}

void txn_resume_client(struct txn *txn)
{
    if (txn->client != NULL && txn->client_paused) {
        txn->client_paused = false;
        txn->client->ops->resume(txn->client);
    }
}

void txn_pause_origin(struct txn *txn)
{
    if (txn->origin != NULL && txn->origin_ready && !txn->origin_paused) {
        txn->origin_paused = true;
        txn->origin->ops->pause(txn->origin);
    }
}

void txn_abort(struct txn *txn, enum end_reason reason)
{
    txn_answer(txn, reason);
    txn_run(txn);
}

// ---- the client's events ----

// May the request still be sent again, so that its body must be kept?
static bool may_repeat(const struct txn *txn)
{
    // On a kept connection, and on one of HTTP/2 (REFUSED_STREAM), any request may turn out never to have
    // arrived.
    bool may_be_stale =
        (txn->origin->was_reused || txn->origin->is_h2) && txn->origin->bytes_in == 0;
    return !txn->keep_overflow && txn->step <= STEP_RECEIVE &&
           (may_be_stale || http_method_is_idempotent(txn->request.method));
}

static void keep_body(struct txn *txn, struct str data)
{
    if (!body_keep_append(&txn->keep, &txn->proxy->keep_slab, data)) {
        txn_abort(txn, END_NO_MEMORY);
    }
}

// The body goes to the target as it comes.
static void pass_body(struct txn *txn, struct str data)
{
    if (may_repeat(txn)) {
        if (txn->keep.len + data.len > TXN_KEEP_MAX ||
            !body_keep_append(&txn->keep, &txn->proxy->keep_slab, data)) {
            txn->keep_overflow = true;
        }
    } else {
        txn->keep_overflow = true;
    }
    txn->origin->ops->send_data(txn->origin, data);
}

static uint64_t keep_bound(const struct txn *txn)
{
    const struct route_decl *rules = txn_rules(txn);
    uint64_t bound = rules == NULL ? 0 : rules->buffer_request;
    return bound > TXN_KEEP_MAX ? bound : TXN_KEEP_MAX;
}

static bool is_body_awaited(const struct txn *txn)
{
    return txn->wait == WAIT_BODY && txn->step <= STEP_BALANCE;
}

static void on_client_data(struct http_stream *stream, struct str data)
{
    struct txn *txn = stream->user;
    txn->progress_ms = stream->loop->now_ms;
    if (txn->is_tunnel) {
        if (txn->origin != NULL) {
            txn->origin->ops->send_data(txn->origin, data);
        }
        return;
    }
    txn->body_received += data.len;
    if (txn->step >= STEP_RESPOND || txn->response_ended) {
        return; // answered already: what still comes is dropped
    }
    if (txn->body_limit != 0 && txn->body_received > txn->body_limit) {
        txn_abort(txn, END_BODY_TOO_LARGE);
        return;
    }
    if (txn->origin_ready) {
        pass_body(txn, data);
        return;
    }
    keep_body(txn, data);
    if (is_body_awaited(txn)) {
        txn_run(txn); // is it complete enough?
    } else if (txn->step < STEP_RESPOND && txn->keep.len >= keep_bound(txn)) {
        txn_pause_client(txn);
    }
}

static bool keep_trailers(struct txn *txn, const struct http_field *trailers, unsigned count)
{
    struct http_field *copy = arena_alloc(&txn->arena, count * sizeof *copy);
    if (copy == NULL) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        copy[i].id = trailers[i].id;
        copy[i].name = arena_str(&txn->arena, trailers[i].name);
        copy[i].value = arena_str(&txn->arena, trailers[i].value);
    }
    txn->trailers = copy;
    txn->trailer_count = count;
    return !txn->arena.overflow;
}

static void on_client_end(struct http_stream *stream, const struct http_field *trailers,
                          unsigned count)
{
    struct txn *txn = stream->user;
    txn->progress_ms = stream->loop->now_ms;
    if (txn->is_tunnel) {
        if (txn->origin != NULL) {
            txn->origin->ops->send_end(txn->origin, NULL, 0);
        }
        return;
    }
    txn->request_ended = true;
    if (txn->step >= STEP_RESPOND || txn->response_ended) {
        return;
    }
    if (count > 0 && !keep_trailers(txn, trailers, count)) {
        txn_abort(txn, END_NO_MEMORY);
        return;
    }
    if (txn->origin_ready && txn->step >= STEP_RECEIVE) {
        txn->origin->ops->send_end(txn->origin, txn->trailers, txn->trailer_count);
        txn->request_sent = true;
        txn->sent_ns = stream->loop->now_ns;
    } else if (is_body_awaited(txn)) {
        txn_run(txn);
    }
}

static void on_client_full(struct http_stream *stream)
{
    struct txn *txn = stream->user;
    txn->client_full = true;
    txn_pause_origin(txn);
}

static void on_client_room(struct http_stream *stream)
{
    struct txn *txn = stream->user;
    txn->progress_ms = stream->loop->now_ms;
    txn->client_full = false;
    if (txn->origin != NULL && txn->origin_paused) {
        txn->origin_paused = false;
        txn->origin->ops->resume(txn->origin);
    }
}

static void client_is_gone(struct txn *txn)
{
    txn->client_bytes_in = txn->client->bytes_in;
    txn->client_bytes_out = txn->client->bytes_out;
    txn->client = NULL;
    txn_drop_origin(txn);
    txn->step = STEP_FINISH;
    txn_run(txn);
}

static void on_client_sent(struct http_stream *stream)
{
    struct txn *txn = stream->user;
    if (txn->is_tunnel && txn->origin != NULL) {
        txn_release_origin(txn); // what the client said last may still be on its way
    }
    client_is_gone(txn);
}

static void on_client_reset(struct http_stream *stream, int err)
{
    struct txn *txn = stream->user;
    if (txn->proxy->stopping) {
        txn->end = END_STOP;
    } else if (txn->is_tunnel) {
        txn->end = txn->end == END_DONE ? END_TUNNEL : txn->end;
    } else if (err == ERR_TIMEOUT || err == ERR_REQUEST_TIMEOUT) {
        txn->end = END_CLIENT_SLOW;
    } else if (err == ERR_CLOSED) {
        txn->end = END_CLIENT_LEFT;
    } else if (err == ERR_MEMORY) {
        txn->end = END_NO_MEMORY;
    } else {
        txn->end = END_REFUSED;
    }
    if (txn->end == END_CLIENT_LEFT) {
        stat_count(txn->proxy->stats, client_gone_total);
    }
    if (!txn->is_tunnel && !txn->response_started) {
        txn->status = end_info(txn->end)->status;
    }
    client_is_gone(txn);
}

static const struct http_stream_events client_events = {
    .on_data = on_client_data,
    .on_end = on_client_end,
    .on_full = on_client_full,
    .on_room = on_client_room,
    .on_sent = on_client_sent,
    .on_reset = on_client_reset,
};
