// SPDX-License-Identifier: MIT
// Answers of our own: error pages, redirects, fixed responses, the route's page for when nothing answers.
#include "base/buf.h"
#include "net/address.h"
#include "proxy/transaction.h"

enum { OWN_FIELDS_MAX = 8 };

struct answer {
    struct http_head head;
    struct http_field fields[OWN_FIELDS_MAX];
    struct str body;
};

static void add(struct answer *answer, enum field_id id, struct str name, struct str value)
{
    if (value.p != NULL && answer->head.field_count < OWN_FIELDS_MAX) {
        answer->fields[answer->head.field_count++] = (struct http_field){name, value, id};
    }
}

static void send_answer(struct txn *txn, struct answer *answer)
{
    struct http_stream *client = txn->client;
    add(answer, FIELD_OTHER, HSTS_NAME, txn_hsts(txn));
    answer->head.fields = answer->fields;
    answer->head.body = BODY_LENGTH;
    answer->head.body_len = answer->body.len;
    if (answer->head.status == 204 || answer->head.status == 304) {
        answer->head.body = BODY_NONE;
        answer->body.len = 0;
    }
    txn->status = answer->head.status;
    txn->response_started = true;
    txn->response_ended = true;
    client->ops->send_head(client, &answer->head);
    if (answer->body.len > 0) {
        client->ops->send_data(client, answer->body);
    }
    client->ops->send_end(client, NULL, 0);
    txn_resume_client(txn);
}

// JSON for those who ask for it and not for HTML.
static bool wants_json(const struct txn *txn)
{
    struct str accept = http_head_value(&txn->request, FIELD_ACCEPT);
    return str_find(accept, STR("json")) != SIZE_MAX && str_find(accept, STR("html")) == SIZE_MAX;
}

static void error_page(struct txn *txn, struct answer *answer, const struct end_info *info)
{
    struct str reason = http_reason(answer->head.status);
    if (wants_json(txn)) {
        add(answer, FIELD_CONTENT_TYPE, STR("Content-Type"), STR("application/json"));
        answer->body = arena_printf(&txn->arena,
                                    "{\"status\": %u, \"title\": \"%.*s\", \"detail\": \"%s\", "
                                    "\"request_id\": \"%.*s\"}\n",
                                    answer->head.status, STR_ARG(reason), info->text,
                                    STR_ARG(txn->request_id_text));
    } else {
        add(answer, FIELD_CONTENT_TYPE, STR("Content-Type"), STR("text/html; charset=utf-8"));
        answer->body =
            arena_printf(&txn->arena,
                         "<!doctype html>\n<html lang=\"en\"><title>%u %.*s</title>\n"
                         "<h1>%.*s</h1>\n<p>%s</p>\n<p><small>Request %.*s</small></p>\n",
                         answer->head.status, STR_ARG(reason), STR_ARG(reason), info->text,
                         STR_ARG(txn->request_id_text));
    }
    add(answer, FIELD_CACHE_CONTROL, STR("Cache-Control"), STR("no-store"));
}

// What Ceryx answers with when nothing is known of a host: a page, whatever was asked for.
static void no_route_page(struct txn *txn, struct answer *answer)
{
    answer->body = arena_printf(
        &txn->arena,
        "<!doctype html>\n<html lang=\"en\"><title>Service unavailable</title>\n"
        "<h1>Nobody answers here</h1>\n<p>No service has been set up for this address, or it has "
        "moved away.</p>\n<p><small>Request %.*s</small></p>\n",
        STR_ARG(txn->request_id_text));
    add(answer, FIELD_CONTENT_TYPE, STR("Content-Type"), STR("text/html; charset=utf-8"));
    add(answer, FIELD_CACHE_CONTROL, STR("Cache-Control"), STR("no-store"));
}

// Is this one of the ends that the route's own page is for: no target answered?
static bool is_unavailable(enum end_reason end)
{
    switch ((int)end) {
    case END_NO_POOL:
    case END_NO_TARGET:
    case END_QUEUE_FULL:
    case END_QUEUE_TIMEOUT:
    case END_DEADLINE:
    case END_CONNECT_REFUSED:
    case END_CONNECT_TIMEOUT:
    case END_ORIGIN_CLOSED:
    case END_ORIGIN_SLOW:
        return true;
    default:
        return false;
    }
}

// There may be room in a moment.
static bool is_full(enum end_reason end)
{
    return end == END_QUEUE_FULL || end == END_QUEUE_TIMEOUT;
}

// What was wrong with the request may be wrong with what follows it.
static bool is_refusal(enum end_reason end)
{
    return end == END_REFUSED || end == END_BAD_TARGET || end == END_BODY_TOO_LARGE ||
           end == END_HEAD_TOO_LARGE;
}

// A response that is nothing but a head, whose status says that gRPC itself worked.
static void answer_grpc(struct txn *txn, const struct end_info *info, unsigned status)
{
    struct http_stream *client = txn->client;
    struct answer answer = {.head = {.status = 200, .body = BODY_NONE}};
    add(&answer, FIELD_CONTENT_TYPE, STR("Content-Type"), STR("application/grpc"));
    add(&answer, FIELD_OTHER, STR("grpc-status"), txn_grpc_status(txn, status));
    add(&answer, FIELD_OTHER, STR("grpc-message"), txn_grpc_message(txn, str_from_c(info->text)));
    if (info->proxy_error[0] != '\0') {
        add(&answer, FIELD_PROXY_STATUS, STR("Proxy-Status"),
            arena_printf(&txn->arena, "pointsman; error=%s", info->proxy_error));
    }
    add(&answer, FIELD_X_REQUEST_ID, STR("X-Request-Id"), txn->request_id_text);
    add(&answer, FIELD_OTHER, HSTS_NAME, txn_hsts(txn));
    answer.head.fields = answer.fields;
    txn->status = 200;
    txn->response_started = true;
    txn->response_ended = true;
    client->ops->send_head(client, &answer.head);
    client->ops->send_end(client, NULL, 0);
    txn_resume_client(txn);
}

static void answer_error(struct txn *txn)
{
    if (is_refusal(txn->end)) {
        http_stream_close_after(txn->client);
    }
    const struct end_info *info = end_info(txn->end);
    bool is_ceryx = txn->end == END_NO_ROUTE && txn->proxy->shared->config->ceryx.enabled;
    unsigned status = is_ceryx ? 503 : info->status;
    if (txn_is_grpc(txn)) {
        answer_grpc(txn, info, status);
        return;
    }
    const struct route_decl *rules = txn_rules(txn);
    struct answer answer = {.head = {.status = status}};
    bool has_own_page = rules != NULL && rules->unavailable.is_set && is_unavailable(txn->end);
    unsigned retry_after_sec = is_full(txn->end) ? txn->retry_after_sec : 0;
    if (has_own_page) {
        answer.head.status = rules->unavailable.status;
        if (rules->unavailable.retry_after_sec > 0) {
            retry_after_sec = rules->unavailable.retry_after_sec;
        }
    }
    if (retry_after_sec > 0) {
        add(&answer, FIELD_RETRY_AFTER, STR("Retry-After"),
            arena_printf(&txn->arena, "%u", retry_after_sec));
    }
    if (has_own_page && rules->unavailable.body.len > 0) {
        answer.body = rules->unavailable.body;
        add(&answer, FIELD_CONTENT_TYPE, STR("Content-Type"), rules->unavailable.content_type);
        add(&answer, FIELD_CACHE_CONTROL, STR("Cache-Control"), STR("no-store"));
    } else if (is_ceryx) {
        no_route_page(txn, &answer);
    } else {
        error_page(txn, &answer, info);
    }
    if (info->proxy_error[0] != '\0') {
        add(&answer, FIELD_PROXY_STATUS, STR("Proxy-Status"),
            arena_printf(&txn->arena, "pointsman; error=%s", info->proxy_error));
    }
    add(&answer, FIELD_X_REQUEST_ID, STR("X-Request-Id"), txn->request_id_text);
    send_answer(txn, &answer);
}

// https://HOST[:PORT]/path?query
static struct str https_location(struct txn *txn)
{
    unsigned port = txn->proxy->shared->config->https_port;
    struct str host = txn_host(txn);
    char suffix[8] = "";
    if (port != 443) {
        snprintf(suffix, sizeof suffix, ":%u", port);
    }
    return arena_printf(&txn->arena, "https://%.*s%s%.*s%.*s", STR_ARG(host), suffix,
                        STR_ARG(txn->path), STR_ARG(txn->request.query));
}

static struct str redirect_location(struct txn *txn, const struct route_decl *rules)
{
    struct str to = rules->redirect.to;
    if (!rules->redirect.keep_path) {
        return to;
    }
    struct str path = txn->path;
    if (rules->strip_path && rules->path.len > 1) {
        path = str_from(path, rules->path.len);
    }
    if (to.len > 0 && to.p[to.len - 1] == '/' && path.len > 0) {
        to.len--;
    }
    // "//host" alone would be a URL of another site.
    while (to.len == 0 && path.len > 1 && (path.p[1] == '/' || path.p[1] == '\\')) {
        path = str_from(path, 1);
    }
    return arena_printf(&txn->arena, "%.*s%.*s%.*s", STR_ARG(to), STR_ARG(path),
                        STR_ARG(txn->request.query));
}

static void answer_redirect(struct txn *txn)
{
    const struct route_decl *rules = txn_rules(txn);
    bool to_https = rules->https_required && !txn->is_https;
    struct answer answer = {
        .head = {.status = to_https ? rules->redirect_status : rules->redirect.status}};
    struct str location = to_https ? https_location(txn) : redirect_location(txn, rules);
    add(&answer, FIELD_LOCATION, STR("Location"), location);
    send_answer(txn, &answer);
}

static void answer_fixed(struct txn *txn)
{
    const struct route_decl *rules = txn_rules(txn);
    struct answer answer = {.head = {.status = rules->respond.status}};
    answer.body = rules->respond.body;
    if (rules->respond.content_type.len > 0) {
        add(&answer, FIELD_CONTENT_TYPE, STR("Content-Type"), rules->respond.content_type);
    }
    send_answer(txn, &answer);
}

// OPTIONS with Max-Forwards: 0 asks this proxy itself (RFC 9110 9.3.7).
static void answer_options(struct txn *txn)
{
    struct answer answer = {.head = {.status = 200}};
    add(&answer, FIELD_OTHER, STR("Allow"), STR("GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"));
    send_answer(txn, &answer);
}

enum step_result txn_step_respond(struct txn *txn)
{
    if (txn->response_ended) {
        txn->wait = WAIT_SENT;
        return STEP_WAIT;
    }
    loop_timer_cancel(txn->proxy->loop, &txn->timer);
    if (txn->arena.overflow) {
        // What is left to say fits into what a new arena gives; the request's own data is gone with it
        // but for what the log needs, which is why nothing is reset here.
        txn->arena.max += ARENA_BLOCK_LEN * 2;
        stat_count(txn->proxy->stats, arena_overflows_total);
    }
    if (txn->end == END_REDIRECT) {
        answer_redirect(txn);
    } else if (txn->end == END_RESPOND) {
        answer_fixed(txn);
    } else if (txn->end == END_MAX_FORWARDS) {
        answer_options(txn);
    } else {
        answer_error(txn);
    }
    txn->wait = WAIT_SENT;
    return STEP_WAIT;
}
