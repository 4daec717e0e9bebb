// SPDX-License-Identifier: MIT
// A target and a connection to it; then the request.
#include "net/address.h"
#include "net/proxy_protocol.h"
#include "proxy/transaction.h"
#include <stdio.h>

enum { UNIQUE_ID_MAX = 128 }; // PROXY protocol 2.2.5

// What a request for a connection points to while it is asked for.
struct wanted {
    struct upstream_request request;
    const struct pool_settings *settings; // NULL: all defaults
    char target[POOL_MEMBER_TEXT_MAX];
    char preamble[PROXY_HEADER_MAX];
    char tls_version[16]; // "TLSv1.3"
};

// Route over pool over configuration.
static void settle_timeouts(struct txn *txn, const struct pool_version *pool)
{
    const struct config *config = txn->proxy->shared->config;
    const struct route_decl *rules = txn_rules(txn);
    const struct pool_settings *settings = pool_settings(pool);
    const struct timeouts_decl *of_pool = settings == NULL ? NULL : &settings->timeouts;
    const struct timeouts_decl *of_route = rules == NULL ? NULL : &rules->timeouts;
#define SETTLE(field, fallback)                                                      \
    txn->timeouts.field = of_route != NULL && of_route->field != 0 ? of_route->field \
                          : of_pool != NULL && of_pool->field != 0 ? of_pool->field  \
                                                                   : (fallback)
    SETTLE(connect_ms, config->timeouts.connect_ms);
    SETTLE(response_ms, config->timeouts.response_ms);
    SETTLE(idle_ms, txn->timeouts.response_ms);
    SETTLE(tunnel_idle_ms, config->timeouts.tunnel_idle_ms);
#undef SETTLE
}

// txn->pool lives as long as a version of the route that names it: the one that the request came by,
// or a newer one, which is held as well. False: out of memory.
static bool hold_version(struct txn *txn, struct route_version *route)
{
    struct pin_table *pins = &txn->proxy->pins;
    struct pin *pin = NULL;
    if (route != txn->route) {
        pin = pin_get(pins, &route->version);
        if (pin == NULL) {
            return false;
        }
    }
    txn->pool = NULL; // of what is let go
    pin_put(pins, &txn->newer_pin);
    txn->newer_pin = pin;
    return true;
}

// The same target would fail in the same way.
static bool is_connect_failure(enum end_reason end)
{
    return end == END_CONNECT_REFUSED || end == END_CONNECT_TIMEOUT || end == END_TLS_FAILED ||
           end == END_TLS_VERIFY;
}

// Chooses and counts; NULL with the reason in *end. The tables are read anew for each attempt: a target
// that left meanwhile is not chosen.
static struct pool_member *pick(struct txn *txn, struct wanted *wanted, enum end_reason *end)
{
    struct route_version *route = rcu_load(txn->route->slot->current);
    if (route == NULL) {
        route = txn->route; // deleted since: what it matched it keeps
    }
    uint64_t random = proxy_random(txn->proxy);
    if (!hold_version(txn, route)) {
        *end = END_NO_MEMORY;
        return NULL;
    }
    const struct pool_version *pool = route_pool(route, random, &txn->pool);
    if (pool == NULL) {
        *end = END_NO_POOL;
        return NULL;
    }
    struct pool_choice choice = {
        .random = random, .tried = txn->tried, .tried_count = txn->tried_count};
    struct pool_member *member;
    enum pool_result result = pool_pick(pool, txn->pool, &choice, &member);
    if (result == POOL_NONE && txn->tried_count > 0 && !is_connect_failure(txn->end)) {
        choice.tried_count = 0; // better again than not at all
        result = pool_pick(pool, txn->pool, &choice, &member);
    }
    if (result != POOL_PICKED) {
        *end = END_NO_TARGET;
        return NULL;
    }
    settle_timeouts(txn, pool);
    unsigned workers = txn->proxy->shared->worker_count;
    wanted->settings = pool_settings(pool);
    unsigned idle = wanted->settings == NULL ? 64 : wanted->settings->keepalive_idle;
    wanted->request.keep_idle = (idle + workers - 1) / workers;
    wanted->request.keep_timeout_ms =
        wanted->settings == NULL ? 60000 : wanted->settings->keepalive_timeout_ms;
    return member;
}

// ---- how the target is spoken to ----

// The name without port and brackets.
static struct str without_port(struct str host)
{
    if (host.len > 0 && host.p[0] == '[') {
        size_t end = str_find_char(host, ']');
        return end == SIZE_MAX ? host : str_sub(host, 1, end - 1);
    }
    size_t colon = str_find_char(host, ':');
    return colon == SIZE_MAX ? host : str_sub(host, 0, colon);
}

// Whose certificate it must be: what the pool says, else the Host that is sent.
static struct str server_name_of(struct txn *txn, struct wanted *wanted)
{
    const struct route_decl *rules = txn_rules(txn);
    enum host_header mode = rules == NULL ? HOST_KEEP : rules->host_header;
    if (wanted->settings != NULL && wanted->settings->server_name.len > 0) {
        return wanted->settings->server_name;
    }
    if (mode == HOST_LITERAL) {
        return without_port(rules->host_literal);
    }
    if (mode == HOST_TARGET || txn->request.authority.len == 0) {
        size_t len = pool_member_text(txn->member, wanted->target, sizeof wanted->target);
        struct str address = str_make(wanted->target, len);
        if (!str_starts(address, STR("unix:"))) {
            return without_port(address);
        }
    }
    return without_port(txn->request.authority);
}

static enum http_client_protocol protocol_of(const struct txn *txn, const struct wanted *wanted)
{
    enum pool_protocol protocol =
        wanted->settings == NULL ? POOL_AUTO : (enum pool_protocol)wanted->settings->protocol;
    bool is_tls = txn->member->scheme == TARGET_HTTPS;
    if (txn->member->scheme == TARGET_H2C) {
        return HTTP_CLIENT_H2;
    }
    switch (protocol) {
    case POOL_H2:
    case POOL_H2C:
        return HTTP_CLIENT_H2;
    case POOL_HTTP1:
        return is_tls ? HTTP_CLIENT_HTTP1 : HTTP_CLIENT_AUTO; // without TLS the same
    case POOL_AUTO:
        break;
    }
    // A switch of protocols is what HTTP/1 is surely able to do.
    return is_tls && txn_asks_upgrade(txn) ? HTTP_CLIENT_HTTP1 : HTTP_CLIENT_AUTO;
}

static struct sockaddr_storage address_of(const struct in6_addr *in6)
{
    struct sockaddr_storage storage = {0};
    if (IN6_IS_ADDR_V4MAPPED(in6)) {
        struct sockaddr_in in4 = {.sin_family = AF_INET};
        memcpy(&in4.sin_addr, in6->s6_addr + 12, sizeof in4.sin_addr);
        memcpy(&storage, &in4, sizeof in4);
    } else {
        struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = *in6};
        memcpy(&storage, &address, sizeof address);
    }
    return storage;
}

// Who the client is, for a target that reads the PROXY protocol. Behind other proxies, which name it in a
// field, its port is not known: 0.
static struct str preamble_of(struct txn *txn, struct wanted *wanted)
{
    struct tls *tls = http_stream_tls(txn->client);
    struct proxy_header header = {
        .version = wanted->settings->send_proxy == SEND_PROXY_V1 ? 1 : 2,
        .unique_id = str_sub(txn->request_id_text, 0, UNIQUE_ID_MAX),
    };
    http_stream_addresses(txn->client, &header.source, &header.destination);
    const struct in6_addr *peer = http_stream_peer(txn->client);
    if (memcmp(peer, &txn->client_address, sizeof *peer) != 0) {
        header.source = address_of(&txn->client_address);
    }
    if (tls != NULL) {
        header.is_tls = true;
        header.authority = tls_sni(tls);
        header.alpn = tls_protocol(tls) == TLS_H2      ? STR("h2")
                      : tls_protocol(tls) == TLS_HTTP1 ? STR("http/1.1")
                                                       : STR_NULL;
        int len = snprintf(wanted->tls_version, sizeof wanted->tls_version, "TLSv%.*s",
                           STR_ARG(tls_version(tls)));
        header.tls_version = str_make(wanted->tls_version, (size_t)len);
    }
    return str_make(wanted->preamble,
                    proxy_header_write(&header, wanted->preamble, sizeof wanted->preamble));
}

// False: the target cannot be spoken to.
static bool settle_protocol(struct txn *txn, struct wanted *wanted)
{
    struct upstream_request *request = &wanted->request;
    const struct pool_settings *settings = wanted->settings;
    request->protocol = protocol_of(txn, wanted);
    if (txn->member->scheme == TARGET_HTTPS) {
        request->tls = settings != NULL && settings->tls != NULL ? settings->tls
                                                                 : txn->proxy->shared->origin_tls;
        request->server_name = server_name_of(txn, wanted);
        if (request->tls == NULL || request->server_name.len > TLS_SNI_MAX) {
            return false;
        }
    }
    if (settings != NULL && settings->send_proxy != SEND_PROXY_OFF) {
        request->preamble = preamble_of(txn, wanted);
    }
    return true;
}

enum step_result txn_step_balance(struct txn *txn)
{
    struct proxy *proxy = txn->proxy;
    struct wanted wanted;
    struct upstream_request *request = &wanted.request;
    enum end_reason end = END_NO_TARGET;
    *request = (struct upstream_request){0};
    txn->member = pick(txn, &wanted, &end);
    if (txn->member == NULL) {
        if (txn->tried_count > 0) {
            return txn_answer(txn, txn->end); // what the last attempt failed with
        }
        stat_count(proxy->stats, no_target_total);
        return txn_answer(txn, end);
    }
    int err = ERR_CLOSED;
    uint64_t opened_before = proxy->upstream.opened_count;
    txn->connect_started_ns = proxy->loop->now_ns;
    request->connect_timeout_ms = txn->timeouts.connect_ms;
    request->fresh = txn->force_fresh;
    request->check = !http_method_is_idempotent(txn->request.method);
    // The admin API believes who is on this machine; a declared target must not make that of a client.
    if (pool_member_address(txn->member, &request->address, &request->address_len) &&
        !net_reaches_locally(&request->address, &proxy->admin_address) &&
        settle_protocol(txn, &wanted)) {
        txn->origin = upstream_get(&proxy->upstream, request, &txn_origin_events, txn, &err);
    }
    if (txn->origin == NULL) {
        stat_count(proxy->stats, upstream_connect_errors_total);
        return txn_next_attempt(txn, END_CONNECT_REFUSED, RETRY_CONNECT, true);
    }
    if (txn->origin->was_reused) {
        stat_count(proxy->stats, upstream_reuses_total);
        txn->origin_ready = true;
        return STEP_NEXT;
    }
    if (proxy->upstream.opened_count != opened_before) { // else it joined one that is being opened
        stat_count(proxy->stats, upstream_connects_total);
    }
    txn->wait = WAIT_CONNECT;
    return STEP_WAIT;
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
