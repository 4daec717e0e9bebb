// SPDX-License-Identifier: MIT
#include "proxy/secure.h"
#include "cert/handshake.h"
#include "route/table.h"

// What a client must show of itself for a host; NULL: nothing. In the RCU section of this turn.
static const struct route_client_auth *policy_of(const struct proxy *proxy, struct str host)
{
    const struct route_version *route = route_find(proxy->shared->routes, host, STR("/"));
    return route == NULL ? NULL : route->client_auth;
}

// ---- handshakes ----

static struct proxy *proxy_of(struct tls *tls)
{
    return tls_loop(tls)->owner;
}

static enum tls_verdict on_hello(struct tls *tls, void *user)
{
    (void)user;
    struct proxy *proxy = proxy_of(tls);
    const struct proxy_shared *shared = proxy->shared;
    struct str sni = tls_sni(tls);
    struct cert_choice choice;
    cert_find(shared->certs, sni, &choice);
    if (choice.is_default && sni.len > 0 && shared->config->tls.unknown_sni == UNKNOWN_SNI_REJECT) {
        return TLS_UNRECOGNIZED_NAME;
    }
    struct tls_scope scope = {.certificates = {choice.ids[0], choice.ids[1]}};
    // Without a name there is no host to ask for: what needs a certificate is refused later, by 421.
    const struct route_client_auth *policy = sni.len == 0 ? NULL : policy_of(proxy, sni);
    if (policy != NULL) {
        scope.policy[0] = policy->id[0];
        scope.policy[1] = policy->id[1];
        tls_ask_certificate(tls, policy->store, policy->is_required);
    }
    tls_set_scope(tls, &scope);
    return TLS_PROCEED;
}

static enum tls_verdict on_certificate(struct tls *tls, void *user)
{
    (void)user;
    struct proxy *proxy = proxy_of(tls);
    struct cert_choice choice;
    bool waited = false;
    bool refused = false;
    // Looked up again after a wait: what was replaced meanwhile is not given any more.
    cert_find(proxy->shared->certs, tls_sni(tls), &choice);
    enum tls_verdict verdict =
        cert_provide(proxy->shared->certs, tls, choice.slots, &waited, &refused);
    if (waited) {
        stat_count(proxy->stats, tls_certificate_waits_total);
    }
    if (refused) {
        stat_count(proxy->stats, tls_certificate_refused_total);
    }
    return verdict;
}

static void on_abandoned(struct tls *tls, void *user)
{
    (void)user;
    cert_abandon(tls);
}

const struct tls_server_hooks secure_hooks = {on_hello, on_certificate, on_abandoned};

// ---- what the server tells ----

enum http_hello secure_on_hello(struct http_server *server, struct str sni)
{
    const struct proxy *proxy = server->owner;
    const struct route_version *route = route_find(proxy->shared->routes, sni, STR("/"));
    return route != NULL && route->is_passthrough ? HTTP_HELLO_RAW : HTTP_HELLO_TLS;
}

void secure_on_handshake(struct http_server *server, struct tls *tls, int err)
{
    const struct proxy *proxy = server->owner;
    if (err != 0) {
        stat_count(proxy->stats, tls_failed_total);
        return;
    }
    stat_count(proxy->stats, tls_handshakes_total);
    if (tls_is_resumed(tls)) {
        stat_count(proxy->stats, tls_resumed_total);
    }
}

void secure_on_abuse(struct http_server *server, const char *what)
{
    static const struct {
        const char *what;
        enum counter counter;
    } rows[] = {
        {"rapid_reset", COUNTER_h2_rapid_reset_total},
        {"continuation", COUNTER_h2_continuation_total},
        {"control_flood", COUNTER_h2_control_flood_total},
        {"empty_frames", COUNTER_h2_empty_frames_total},
        {"header_bomb", COUNTER_h2_header_bomb_total},
        {"stalled", COUNTER_h2_stalled_total},
        {"protocol_errors", COUNTER_h2_protocol_errors_total},
        {"proxy_header", COUNTER_proxy_header_errors_total},
    };
    const struct proxy *proxy = server->owner;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (str_eq(str_from_c(what), str_from_c(rows[i].what))) {
            stat_add(&proxy->stats->counters[rows[i].counter], 1);
            return;
        }
    }
}

// ---- requests ----

static bool is_same_policy(const struct tls_scope *scope, const struct route_client_auth *policy)
{
    return scope->policy[0] == (policy == NULL ? 0 : policy->id[0]) &&
           scope->policy[1] == (policy == NULL ? 0 : policy->id[1]);
}

// Has the host one of the certificates that the connection was made with, or the default one like it?
static bool shares_certificate(const struct proxy *proxy, const struct tls_scope *scope,
                               struct str host)
{
    struct cert_choice choice;
    cert_find(proxy->shared->certs, host, &choice);
    uint64_t first = scope->certificates[0];
    uint64_t second = scope->certificates[1];
    if ((first | second | choice.ids[0] | choice.ids[1]) == 0) {
        return true;
    }
    return (first != 0 && (first == choice.ids[0] || first == choice.ids[1])) ||
           (second != 0 && (second == choice.ids[0] || second == choice.ids[1]));
}

// A client that came without TLS has no certificate to show.
static void judge_plain(struct txn *txn)
{
    if (route_table_has_client_auth(txn->proxy->shared->routes)) {
        const struct route_client_auth *policy = policy_of(txn->proxy, txn_host(txn));
        txn->has_client_auth = policy != NULL;
        txn->lacks_certificate = policy != NULL && policy->is_required;
    }
}

bool secure_judge(struct txn *txn)
{
    const struct proxy *proxy = txn->proxy;
    const struct tls *tls = http_stream_tls(txn->client);
    if (tls == NULL) {
        judge_plain(txn);
        return true;
    }
    const struct tls_scope *scope = tls_scope(tls);
    struct str host = txn_host(txn);
    struct str sni = tls_sni(tls);
    txn->has_client_auth = (scope->policy[0] | scope->policy[1]) != 0;
    // The policy is compared even where the host is the name that the connection was made for: it may have
    // been declared since.
    if (txn->has_client_auth || route_table_has_client_auth(proxy->shared->routes)) {
        if (!is_same_policy(scope, policy_of(proxy, host))) {
            return false;
        }
    }
    return sni.len == 0 || str_eq(sni, host) || shares_certificate(proxy, scope, host);
}

void secure_read_client(struct txn *txn, struct secure_client *client)
{
    enum { FINGERPRINT_LEN = 64 };
    *client = (struct secure_client){0};
    if (!txn->has_client_auth) {
        return;
    }
    client->verify = "none";
    const struct tls *tls = http_stream_tls(txn->client);
    char *text = tls == NULL ? NULL : arena_alloc(&txn->arena, TLS_SUBJECT_MAX + FINGERPRINT_LEN);
    size_t len = 0;
    if (text != NULL &&
        tls_peer_certificate(tls, text, TLS_SUBJECT_MAX, &len, text + TLS_SUBJECT_MAX)) {
        client->verify = "success";
        client->subject = str_make(text, len);
        client->fingerprint = str_make(text + TLS_SUBJECT_MAX, FINGERPRINT_LEN);
    }
}
