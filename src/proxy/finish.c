// SPDX-License-Identifier: MIT
// The last step: one record, counters, everything given back.
#include "proxy/transaction.h"

bool txn_is_logged(const struct txn *txn)
{
    return txn->proxy->shared->access_log != NULL && (txn->route == NULL || txn->route->access_log);
}

static void count(struct txn *txn, uint64_t duration_ns)
{
    struct proxy *proxy = txn->proxy;
    struct worker_stats *stats = proxy->stats;
    unsigned status = txn->status;
    stat_count(stats, requests_total);
    if (txn->end == END_NO_MEMORY) {
        stat_count(stats, no_memory_total);
    }
    stat_add(&stats->counters[COUNTER_bytes_in_total], txn->client_bytes_in);
    stat_add(&stats->counters[COUNTER_bytes_out_total], txn->client_bytes_out);
    if (status < 600) {
        stat_add(&stats->codes[status].count, 1);
        stat_add(&stats->codes[status].ns, duration_ns);
    }
    if (txn->route != NULL) {
        stat_slot_add(&txn->route->slot->stats, proxy->index, duration_ns, status,
                      txn->client_bytes_in, txn->client_bytes_out);
        if (txn->route->tenant != NULL) {
            stat_slot_add(&txn->route->tenant->stats, proxy->index, duration_ns, status,
                          txn->client_bytes_in, txn->client_bytes_out);
        }
    }
    if (txn->pool != NULL && !txn->pool->is_hidden) {
        stat_slot_add(&txn->pool->stats, proxy->index, duration_ns, status, txn->client_bytes_in,
                      txn->client_bytes_out);
    }
    if (txn->is_tunnel) {
        atomic_store_explicit(&stats->tunnels,
                              atomic_load_explicit(&stats->tunnels, memory_order_relaxed) - 1,
                              memory_order_relaxed);
    }
}

static void log_record(struct txn *txn, uint64_t duration_ns)
{
    struct proxy *proxy = txn->proxy;
    const struct http_head *request = &txn->request;
    char route[TXN_HOST_MAX + 2048];
    struct access_record record = {
        .real_ns = proxy->loop->real_ns,
        .duration_ns = duration_ns,
        .bytes_in = txn->client_bytes_in,
        .bytes_out = txn->client_bytes_out,
        .queue_ns = txn->queue_ns,
        .connect_ns = txn->connect_ns,
        .origin_ns = txn->origin_ns,
        .status = (uint16_t)txn->status,
        .version = request->version,
        .retries = (uint8_t)txn->retries,
        .client_ip = txn->client_ip,
        .method = request->method_text,
        .host = txn->host_len > 0 ? txn_host(txn) : request->authority,
        .path = txn->path.len > 0 ? txn->path : request->path,
        .query = str_from(request->query, 1),
        .user_agent = http_head_value(request, FIELD_USER_AGENT),
        .referrer = http_head_value(request, FIELD_REFERER),
        .trace_id = str_sub(txn->traceparent_text, 3, 32),
        .request_id = txn->request_id_text,
        .pool = txn->pool == NULL ? STR_NULL : pool_slot_name(txn->pool),
        .target = txn->target_text,
        .tls_version = txn->tls_version,
        .end = end_info(txn->end)->token,
    };
    if (txn->route != NULL) {
        record.route = str_make(route, route_slot_text(txn->route->slot, route, sizeof route));
        record.tenant = txn->route->tenant == NULL ? STR_NULL : txn->route->tenant->id;
    }
    access_log_add(proxy->shared->access_log, proxy->index, &record);
}

enum step_result txn_step_finish(struct txn *txn)
{
    struct proxy *proxy = txn->proxy;
    uint64_t duration_ns = proxy->loop->now_ns - txn->started_ns;
    txn_drop_origin(txn);
    loop_timer_cancel(proxy->loop, &txn->timer);
    count(txn, duration_ns);
    if (txn_is_logged(txn)) {
        log_record(txn, duration_ns);
    }
    body_keep_free(&txn->keep, &proxy->keep_slab);
    pin_put(&proxy->pins, &txn->newer_pin);
    pin_put(&proxy->pins, &txn->route_pin);
    list_remove(&txn->node);
    arena_reset(&txn->arena);
    slab_put(&proxy->txn_slab, txn);
    return STEP_GONE;
}

void proxy_log_refused(struct proxy *proxy, struct http_stream *stream, int err)
{
    unsigned status = (unsigned)err_status(err);
    stat_count(proxy->stats, requests_refused_total);
    stat_count(proxy->stats, requests_total);
    stat_add(&proxy->stats->codes[status].count, 1);
    if (proxy->shared->access_log == NULL) {
        return;
    }
    struct access_record record = {
        .real_ns = proxy->loop->real_ns,
        .status = (uint16_t)status,
        .version = stream->is_h2 ? 20 : 11,
        .client_ip = http_stream_peer_text(stream),
        .end = err_token(err),
    };
    access_log_add(proxy->shared->access_log, proxy->index, &record);
}
