// SPDX-License-Identifier: MIT
// How a target is spoken to: TLS, protocol, the PROXY header; and a stream to it.
#include "net/address.h"
#include "net/proxy_protocol.h"
#include "proxy/secure.h"
#include "proxy/transaction.h"
#include <stdio.h>

enum {
    UNIQUE_ID_MAX = 128, // PROXY protocol 2.2.5
    AUTHORITY_MAX = 255, // bytes passed on of what somebody else said: of a name, of "TLSv1.3"
    TLS_VERSION_MAX = 32,
};

// What a request for a connection points to while it is asked for.
struct wanted {
    struct upstream_request request;
    const struct pool_member *member;
    const struct pool_settings *settings; // NULL: all defaults
    char target[POOL_MEMBER_TEXT_MAX];
    char preamble[PROXY_HEADER_MAX];
    char tls_version[16]; // "TLSv1.3"
};

// Whose certificate it must be: what the pool says, else the Host that is sent.
static struct str server_name_of(struct txn *txn, struct wanted *wanted)
{
    const struct route_decl *rules = txn_rules(txn);
    enum host_header mode = rules == NULL ? HOST_KEEP : rules->host_header;
    if (wanted->settings != NULL && wanted->settings->server_name.len > 0) {
        return wanted->settings->server_name;
    }
    if (mode == HOST_LITERAL) {
        return net_without_port(rules->host_literal);
    }
    if (mode == HOST_TARGET || txn->request.authority.len == 0) {
        size_t len = pool_member_text(wanted->member, wanted->target, sizeof wanted->target);
        struct str address = str_make(wanted->target, len);
        if (!str_starts(address, STR("unix:"))) {
            return net_without_port(address);
        }
    }
    return net_without_port(txn->request.authority);
}

static enum http_client_protocol protocol_of(const struct txn *txn, const struct wanted *wanted)
{
    enum pool_protocol protocol =
        wanted->settings == NULL ? POOL_AUTO : (enum pool_protocol)wanted->settings->protocol;
    bool is_tls = wanted->member->scheme == TARGET_HTTPS;
    if (wanted->member->scheme == TARGET_H2C) {
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

// The TLS that ends here.
static void add_own(struct proxy_header *header, struct txn *txn, const struct tls *tls,
                    struct wanted *wanted)
{
    struct secure_client client;
    secure_read_client(txn, &client);
    header->is_tls = true;
    header->has_client_cert = client.fingerprint.len > 0;
    header->authority = tls_sni(tls);
    header->alpn = tls_protocol(tls) == TLS_H2      ? STR("h2")
                   : tls_protocol(tls) == TLS_HTTP1 ? STR("http/1.1")
                                                    : STR_NULL;
    int len = snprintf(wanted->tls_version, sizeof wanted->tls_version, "TLSv%.*s",
                       STR_ARG(tls_version(tls)));
    header->tls_version = str_make(wanted->tls_version, (size_t)len);
}

// Where the TLS was ended before us: what the sender of our own PROXY header said of it.
static void add_told(struct proxy_header *header, const struct http_proxied *told)
{
    if (told != NULL) {
        header->is_tls = told->is_tls;
        header->authority = str_sub(told->authority, 0, AUTHORITY_MAX);
        header->tls_version = str_sub(told->tls_version, 0, TLS_VERSION_MAX);
    }
}

// Who the client is, for a target that reads the PROXY protocol. Behind other proxies, which name it in a
// field, its port is not known: 0.
static struct str preamble_of(struct txn *txn, struct wanted *wanted)
{
    const struct tls *tls = http_stream_tls(txn->client);
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
        add_own(&header, txn, tls, wanted);
    } else {
        add_told(&header, http_stream_proxied(txn->client));
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
    if (wanted->member->scheme == TARGET_HTTPS) {
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

// What is kept is a worker's share of the pool's bound.
static void settle_keeping(const struct txn *txn, struct wanted *wanted)
{
    const struct pool_settings *settings = wanted->settings;
    unsigned workers = txn->proxy->shared->worker_count;
    unsigned idle = settings == NULL ? 64 : settings->keepalive_idle;
    wanted->request.keep_idle = (idle + workers - 1) / workers;
    wanted->request.keep_timeout_ms = settings == NULL ? 60000 : settings->keepalive_timeout_ms;
}

void proxy_settle_limit(struct pool_member *member, const struct pool_slot *slot,
                        struct upstream_request *request)
{
    const struct pool_target *target = pool_target_of(member);
    // A target that is in use may get one; it stays as long as the target.
    request->limit = target == NULL ? NULL : rcu_load(target->limit);
    request->queue = request->limit == NULL ? NULL : proxy_queue_of(slot);
}

struct http_stream *txn_connect(struct txn *txn, struct pool_member *member,
                                const struct pool_settings *settings,
                                const struct http_stream_events *events, int *err)
{
    struct proxy *proxy = txn->proxy;
    struct wanted wanted;
    struct upstream_request *request = &wanted.request;
    struct http_stream *stream = NULL;
    *request = (struct upstream_request){0};
    wanted.member = member;
    wanted.settings = settings;
    settle_keeping(txn, &wanted);
    uint64_t opened_before = proxy->upstream.opened_count;
    proxy_settle_limit(member, txn->pool, request);
    request->connect_timeout_ms = txn->timeouts.connect_ms;
    request->fresh = txn->force_fresh;
    request->check = !http_method_is_idempotent(txn->request.method);
    *err = ERR_SYSTEM; // what follows is not the target's fault
    // The admin API believes who is on this machine; a declared target must not make that of a client.
    if (pool_member_address(member, &request->address, &request->address_len) &&
        !net_reaches_locally(&request->address, &proxy->shared->admin_address) &&
        settle_protocol(txn, &wanted)) {
        stream = upstream_get(&proxy->upstream, request, events, txn, err);
    }
    if (stream == NULL) {
        if (*err != ERR_LIMIT) {
            stat_count(proxy->stats, upstream_connect_errors_total);
        }
    } else if (stream->was_reused) {
        stat_count(proxy->stats, upstream_reuses_total);
    } else if (proxy->upstream.opened_count != opened_before) { // else it joined one being opened
        stat_count(proxy->stats, upstream_connects_total);
    }
    return stream;
}
