// SPDX-License-Identifier: MIT
// One check, from its connect to its verdict:
//
//   connect ─► TLS ─► (TCP: good) ─► GET ─► status, Pointsman-Target ─► body ─► end of the answer
//      └─────────┴────────────────────┴─────────────┴───────────────────┴──► bad, with a reason
//
// The verdict is often there before the answer has ended. The rest of it is read, within bounds, so that
// targets do not see one reset after another.
#include "base/clock.h"
#include "net/address.h"
#include "net/tls.h"
#include "upstream/prober_int.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    HEAD_MAX = 32768,
    FIELD_MAX = 100,
    WEIGHT_MAX = 65535,
    WHOLE_EXTRA_MS =
        1, // the connection, which knows what it waits for, is first to see that time is up
};

// ---- the verdict ----

static void decide(struct check *check, bool is_good, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void decide(struct check *check, bool is_good, const char *format, ...)
{
    if (check->has_verdict) {
        return;
    }
    struct probe_result *result = &check->result;
    check->has_verdict = true;
    result->is_good = is_good;
    result->ns = clock_monotonic_ns() - check->began_ns;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(result->reason, sizeof result->reason, format, arguments);
    va_end(arguments);
}

// `stream` is over already, or ended by the caller.
static void end(struct check *check)
{
    check->stream = NULL;
    loop_timer_cancel(check->checker->clients.loop, &check->timer);
    check->on_end(check);
}

static void hang_up(struct check *check)
{
    struct http_stream *stream = check->stream;
    check->stream = NULL;
    stream->ops->reset(stream, ERR_CLOSED);
    end(check);
}

// Before it was connected, or TLS was agreed on.
static void decide_unconnected(struct check *check, int err)
{
    char text[64];
    int error = http_client_connect_errno();
    if (err == ERR_TLS || err == ERR_TLS_VERIFY) {
        decide(check, false, "TLS: %s", tls_failure(NULL));
    } else if (err == ERR_TIMEOUT) {
        decide(check, false, "%s: timeout", error != 0 ? "connect" : "TLS");
    } else if (err == ERR_PROTOCOL) {
        decide(check, false, "TLS: the target does not speak the protocol (ALPN)");
    } else if (error != 0) {
        decide(check, false, "connect: %s", net_connect_text(error, text, sizeof text));
    } else if (check->spec->is.tls != NULL) {
        decide(check, false, "TLS: closed in the handshake");
    } else {
        decide(check, false, "connect: closed");
    }
}

static bool is_own_fault(int err)
{
    return err == ERR_MEMORY || err == ERR_SYSTEM || err == ERR_LIMIT;
}

static void decide_failed(struct check *check, int err)
{
    if (is_own_fault(err)) {
        check->is_fault = !check->has_verdict;
        decide(check, false, "not checked: %s", err_text(err));
    } else if (!check->is_ready) {
        decide_unconnected(check, err);
    } else if (err == ERR_TLS || err == ERR_TLS_VERIFY) {
        decide(check, false, "TLS: %s", tls_failure(NULL));
    } else if (err == ERR_CLOSED) {
        decide(check, false, "closed before %s",
               check->result.status == 0 ? "an answer" : "the answer's end");
    } else if (err == ERR_TIMEOUT) {
        decide(check, false, "timeout");
    } else {
        decide(check, false, "malformed answer");
    }
}

static void on_timeout(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct check *check = CONTAINER_OF(timer, struct check, timer);
    if (!check->is_ready) {
        decide(check, false, "connect: timeout");
    } else if (check->result.status == 0) {
        decide(check, false, "no answer in %u ms", check->spec->is.timeout_ms);
    } else {
        decide(check, false, "no end of the answer in %u ms", check->spec->is.timeout_ms);
    }
    hang_up(check);
}

// ---- what the answer says ----

static void take_word(struct str word, struct probe_result *result)
{
    static const struct str weight = {"weight=", 7};
    uint64_t value;
    if (str_eq_case(word, STR("drain"))) {
        result->says_drain = true;
    } else if (str_eq_case(word, STR("up"))) {
        result->says_drain = false;
    } else if (str_starts_case(word, weight) &&
               str_to_u64(str_from(word, weight.len), &value) == 0 && value <= WEIGHT_MAX) {
        result->says_weight = (int)value;
    }
}

// Reads fields Pointsman-Target: "weight=5", "drain", "up".
static void read_word(const struct http_head *head, struct probe_result *result)
{
    for (unsigned i = 0; i < head->field_count; i++) {
        if (str_eq_case(head->fields[i].name, STR("Pointsman-Target"))) {
            struct str rest = head->fields[i].value;
            struct str word;
            while (str_next_element(&rest, &word)) {
                take_word(word, result);
            }
        }
    }
}

static bool is_expected(const struct spec *spec, unsigned status)
{
    for (unsigned i = 0; i < spec->is.status_count; i++) {
        if (status >= spec->is.statuses[i].from && status <= spec->is.statuses[i].to) {
            return true;
        }
    }
    return false;
}

static void on_head(struct http_stream *stream, const struct http_head *head)
{
    struct check *check = stream->user;
    check->result.status = head->status;
    read_word(head, &check->result);
    if (head->status < 200) {
        decide(check, false, "malformed answer"); // 101: nobody asked for it
        hang_up(check);
    } else if (!is_expected(check->spec, head->status)) {
        decide(check, false, "status %u", head->status);
    } else if (check->spec->is.body.len == 0) {
        decide(check, true, "ok");
    }
}

static void on_info(struct http_stream *stream, const struct http_head *head)
{
    (void)stream;
    (void)head;
}

// The search goes on from one view to the next.
static bool find_body(struct check *check, struct str data)
{
    const struct str body = check->spec->is.body;
    const uint16_t *fallback = check->spec->fallback;
    size_t seen = check->body_seen;
    for (size_t i = 0; i < data.len && seen < body.len; i++) {
        while (seen > 0 && data.p[i] != body.p[seen]) {
            seen = fallback[seen - 1];
        }
        seen += data.p[i] == body.p[seen];
    }
    check->body_seen = seen;
    return seen == body.len;
}

static void on_data(struct http_stream *stream, struct str data)
{
    struct check *check = stream->user;
    data = str_sub(data, 0, PROBE_BODY_MAX - check->body_len);
    check->body_len += data.len;
    if (!check->has_verdict && find_body(check, data)) {
        decide(check, true, "ok");
    }
    if (check->body_len == PROBE_BODY_MAX) {
        decide(check, false, "body not found");
        hang_up(check);
    }
}

static void on_end(struct http_stream *stream, const struct http_field *trailers, unsigned count)
{
    (void)trailers;
    (void)count;
    struct check *check = stream->user;
    decide(check, false, "body not found");
    check->stream = NULL;
    stream->ops->release(stream);
    end(check);
}

static void on_reset(struct http_stream *stream, int err)
{
    struct check *check = stream->user;
    decide_failed(check, err);
    end(check);
}

static void on_nothing(struct http_stream *stream)
{
    (void)stream;
}

// ---- the request ----

static void on_ready(struct http_stream *stream)
{
    struct check *check = stream->user;
    const struct probe_spec *spec = &check->spec->is;
    check->stream = stream; // another one, where the protocol was found out only now
    check->is_ready = true;
    if (spec->type == HEALTH_TCP) {
        decide(check, true, "ok");
        hang_up(check);
        return;
    }
    struct http_field fields[] = {
        {STR("User-Agent"), STR("pointsman-health/" POINTSMAN_VERSION), FIELD_USER_AGENT},
        {STR("Accept"), STR("*/*"), FIELD_ACCEPT},
    };
    size_t query = str_find_char(spec->path, '?');
    struct http_head head = {
        .fields = fields,
        .field_count = sizeof fields / sizeof fields[0],
        .seen = FIELD_BIT(FIELD_USER_AGENT) | FIELD_BIT(FIELD_ACCEPT),
        .version = 11,
        .method = METHOD_GET,
        .method_text = STR("GET"),
        .target = spec->path,
        .path = str_sub(spec->path, 0, query),
        .query = str_from(spec->path, query),
        .authority = spec->host,
        .body = BODY_NONE,
    };
    stream->ops->send_head(stream, &head);
    stream->ops->send_end(stream, NULL, 0);
}

static const struct http_stream_events events = {
    .on_head = on_head,
    .on_info = on_info,
    .on_ready = on_ready,
    .on_data = on_data,
    .on_end = on_end,
    .on_full = on_nothing,
    .on_room = on_nothing,
    .on_sent = on_nothing,
    .on_reset = on_reset,
};

// The connection is our own, not a client's.
static struct str preamble_of(uint8_t send_proxy)
{
    static const char version_2[] = {'\r', '\n', '\r', '\n', 0,  '\r', '\n', 'Q',
                                     'U',  'I',  'T',  '\n', 32, 0,    0,    0};
    switch ((enum send_proxy)send_proxy) {
    case SEND_PROXY_V1:
        return STR("PROXY UNKNOWN\r\n");
    case SEND_PROXY_V2:
        return str_make(version_2, sizeof version_2); // LOCAL, no addresses
    case SEND_PROXY_OFF:
        break;
    }
    return STR_NULL;
}

void check_init(struct check *check, struct checker *checker, void (*on_ended)(struct check *check))
{
    *check = (struct check){.checker = checker, .on_end = on_ended};
    loop_timer_init(&check->timer, on_timeout);
}

void check_begin(struct check *check, const struct spec *spec)
{
    struct loop *loop = check->checker->clients.loop;
    bool is_bare = spec->is.type == HEALTH_TCP && spec->is.tls == NULL; // no preface of HTTP/2
    check->spec = spec;
    check->began_ns = clock_monotonic_ns();
    check->has_verdict = false;
    check->is_ready = false;
    check->is_fault = false;
    check->body_len = 0;
    check->body_seen = 0;
    check->result = (struct probe_result){.says_weight = -1};
    struct http_client_target target = {
        .address = &spec->is.address,
        .address_len = spec->is.address_len,
        .tls = spec->is.tls,
        .server_name = spec->is.server_name,
        .protocol = is_bare ? HTTP_CLIENT_HTTP1 : spec->is.protocol,
        .preamble = preamble_of(spec->is.send_proxy),
        .connect_timeout_ms = spec->is.timeout_ms,
    };
    if (net_reaches_locally(&spec->is.address, &check->checker->forbidden)) {
        decide(check, false, "connect: not allowed to the admin API");
        end(check);
        return;
    }
    int err = 0;
    loop_timer_set(loop, &check->timer, spec->is.timeout_ms + WHOLE_EXTRA_MS);
    check->stream = http_client_open(&check->checker->clients, &target, &check->checker->owner,
                                     &events, check, &err);
    if (check->stream == NULL) {
        decide_failed(check, err);
        end(check);
    }
}

void check_cancel(struct check *check)
{
    struct http_stream *stream = check->stream;
    loop_timer_cancel(check->checker->clients.loop, &check->timer);
    check->stream = NULL;
    if (stream != NULL) {
        stream->ops->reset(stream, ERR_CLOSED);
    }
}

// ---- connections: each for one check ----

static void on_room(struct http_client_owner *owner, struct http_client_conn *conn, bool has_room)
{
    (void)owner;
    (void)conn;
    (void)has_room;
}

static bool on_idle(struct http_client_owner *owner, struct http_client_conn *conn)
{
    (void)owner;
    (void)conn;
    return false;
}

static void on_closed(struct http_client_owner *owner, struct http_client_conn *conn)
{
    (void)owner;
    (void)conn;
}

void checker_init(struct checker *checker, struct loop *loop)
{
    static const struct h1_limits limits = {
        .head_max = HEAD_MAX, .target_max = HEAD_MAX, .field_max = FIELD_MAX};
    checker->owner =
        (struct http_client_owner){.on_room = on_room, .on_idle = on_idle, .on_closed = on_closed};
    http_client_pool_init(&checker->clients, loop, &limits);
}

void checker_fini(struct checker *checker)
{
    http_client_pool_fini(&checker->clients);
}
