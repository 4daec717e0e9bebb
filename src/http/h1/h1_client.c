// SPDX-License-Identifier: MIT
// The origin side of HTTP/1: what comes on a client connection.
#include "http/h1/h1_client_int.h"
#include "net/acked.h"

void h1_client_set_state(struct h1_client_conn *c, enum h1_client_state state)
{
    static const uint8_t from[] = {
        // bit of each state that may come before
        [STATE_CONNECT] = 0,
        [STATE_HEAD] = 1 << STATE_CONNECT | 1 << STATE_IDLE,
        [STATE_BODY] = 1 << STATE_HEAD,
        [STATE_DONE] = 1 << STATE_HEAD | 1 << STATE_BODY,
        [STATE_TUNNEL] = 1 << STATE_HEAD,
        [STATE_IDLE] = 1 << STATE_DONE | 1 << STATE_HEAD, // HEAD: nothing was sent
        [STATE_FLUSH] = 1 << STATE_TUNNEL,
        [STATE_CLOSED] = 0x7f,
    };
    INVARIANT(from[state] & (1u << c->state));
    c->state = (uint8_t)state;
}

static void free_it(struct client_link *link)
{
    struct h1_client_conn *c = h1_client_of_link(link);
    h1_kept_free(client_link_loop(link), &c->kept);
    slab_put(&link->pool->conns, c);
}

void h1_client_close_now(struct h1_client_conn *c)
{
    h1_client_set_state(c, STATE_CLOSED);
    loop_task_cancel(&c->again);
    client_link_close(&c->link);
}

// The peer's FIN came, and it told that it had received nothing of this exchange: it had closed the
// kept connection before, so nobody can have read the request, whatever its method.
static bool never_arrived(const struct h1_client_conn *c)
{
    uint64_t acked;
    return c->stream.was_reused && c->state == STATE_HEAD && c->link.fin &&
           c->stream.bytes_in == 0 && net_acked(c->link.io.fd, &acked) == 0 &&
           acked <= c->sent_before;
}

void h1_client_fail(struct h1_client_conn *c, int err)
{
    enum h1_client_state before = (enum h1_client_state)c->state;
    c->stream.bytes_out = c->link.out.written - c->written_before;
    if (before == STATE_CLOSED) {
        return;
    }
    if (c->kept != NULL && before == STATE_HEAD) {
        c->stream.bytes_in += h1_kept_bytes(c->kept).len; // a head had begun
    }
    c->stream.never_arrived = never_arrived(c);
    h1_client_close_now(c);
    if (before != STATE_IDLE && before != STATE_DONE && before != STATE_FLUSH) {
        c->stream.events->on_reset(&c->stream, err);
    }
}

// ---- receiving ----

// `rest`: bytes received behind the response. They are no response's, since the next request was not
// sent: the connection is not kept. That must be known before on_end, in which the user may release it
// and its owner may hand it to the next exchange, which would take them for its answer.
static void response_complete(struct h1_client_conn *c, const struct http_field *trailers,
                              unsigned trailer_count, size_t rest)
{
    h1_client_set_state(c, STATE_DONE);
    c->keep_alive = c->keep_alive && rest == 0;
    c->stream.is_complete = true;
    c->stream.events->on_end(&c->stream, trailers, trailer_count);
}

static size_t head_input(struct h1_client_conn *c, const char *p, size_t len)
{
    struct http_field fields[H1_FIELD_MAX];
    struct http_head head;
    ptrdiff_t n = h1_parse_response(p, len, (enum http_method)c->method, &c->link.pool->limits,
                                    fields, &head);
    if (n < 0) {
        h1_client_fail(c, (int)n);
        return len;
    }
    if (n == 0) {
        return 0;
    }
    c->stream.bytes_in += (uint64_t)n;
    if (head.status < 200 && head.status != 101) {
        c->stream.events->on_info(&c->stream, &head);
        return (size_t)n;
    }
    c->keep_alive = head.keep_alive;
    h1_body_init(&c->body, &head);
    if (head.status == 101) {
        c->stream.events->on_head(&c->stream, &head);
        if (c->state == STATE_HEAD) {
            h1_client_fail(c, ERR_UPGRADE); // nobody asked for it
        }
        return (size_t)n;
    }
    bool is_empty = h1_body_is_empty(&c->body);
    if (!is_empty) {
        h1_client_set_state(c, STATE_BODY);
    }
    c->stream.is_complete = is_empty;
    c->stream.events->on_head(&c->stream, &head);
    if (is_empty && c->state == STATE_HEAD) {
        response_complete(c, NULL, 0, len - (size_t)n);
    }
    return (size_t)n;
}

static size_t body_input(struct h1_client_conn *c, const char *p, size_t len)
{
    struct h1_body_result result;
    int event = h1_body_next(&c->body, p, len, &result);
    if (event < 0) {
        h1_client_fail(c, event);
        return len;
    }
    c->stream.bytes_in += result.used;
    if (event == H1_BODY_DATA) {
        c->stream.events->on_data(&c->stream, result.data);
        if (c->state == STATE_BODY && c->body.kind == BODY_LENGTH && c->body.left == 0) {
            response_complete(c, NULL, 0, len - result.used);
        }
    } else if (event == H1_BODY_END) {
        response_complete(c, result.trailers, result.trailer_count, len - result.used);
    }
    return result.used;
}

static size_t take_some(struct h1_client_conn *c, const char *p, size_t len)
{
    if (c->paused) {
        return 0;
    }
    switch ((enum h1_client_state)c->state) {
    case STATE_HEAD:
        return head_input(c, p, len);
    case STATE_BODY:
        return body_input(c, p, len);
    case STATE_TUNNEL:
        c->stream.bytes_in += len;
        c->stream.events->on_data(&c->stream, str_make(p, len));
        return len;
    case STATE_CONNECT:
    case STATE_DONE:
    case STATE_IDLE:
    case STATE_FLUSH:
    case STATE_CLOSED:
        break;
    }
    return 0;
}

static bool wants_input(const struct h1_client_conn *c)
{
    return !c->paused &&
           (c->state == STATE_HEAD || c->state == STATE_BODY || c->state == STATE_TUNNEL);
}

static size_t feed(struct h1_client_conn *c, const char *p, size_t len)
{
    size_t used = 0;
    while (used < len) {
        size_t n = take_some(c, p + used, len - used);
        if (n == 0) {
            break;
        }
        used += n;
    }
    c->starved = used < len && wants_input(c);
    return used;
}

static void feed_kept(struct h1_client_conn *c)
{
    struct h1_kept *kept = h1_kept_take(&c->kept);
    struct str bytes = h1_kept_bytes(kept);
    size_t used = feed(c, bytes.p, bytes.len);
    bool is_over = c->state == STATE_CLOSED || c->state == STATE_DONE;
    h1_kept_put(client_link_loop(&c->link), &c->kept, kept, is_over ? bytes.len : used);
}

static void take(struct h1_client_conn *c, struct str bytes)
{
    size_t used = 0;
    if (c->kept == NULL) {
        used = feed(c, bytes.p, bytes.len);
        // Behind a complete response (DONE) nothing is kept: response_complete() has seen to it.
        if (used == bytes.len || c->state == STATE_CLOSED || c->state == STATE_DONE) {
            return;
        }
    }
    bool was_kept = c->kept != NULL;
    if (!h1_kept_append(client_link_loop(&c->link), &c->kept, str_from(bytes, used))) {
        h1_client_fail(c, ERR_MEMORY);
    } else if (was_kept && (c->state != STATE_HEAD || str_find_char(bytes, '\n') != SIZE_MAX ||
                            h1_kept_bytes(c->kept).len > c->link.pool->limits.head_max)) {
        feed_kept(c);
    }
}

// Without close_notify anybody may have cut the connection: what lasts until the close is not complete.
static void on_fin(struct h1_client_conn *c)
{
    c->keep_alive = false;
    if (c->state == STATE_BODY && c->body.kind == BODY_UNTIL_CLOSE && !c->link.is_cut) {
        response_complete(c, NULL, 0, 0);
    } else if (c->state == STATE_TUNNEL) {
        if (!c->stream.is_complete) {
            c->stream.is_complete = true;
            c->stream.events->on_end(&c->stream, NULL, 0);
        } else if (!c->shut && (c->link.broken || c->link.out.failed)) {
            h1_client_fail(c, ERR_CLOSED); // after FIN a reset is no longer seen by reading
        }
    } else {
        h1_client_fail(c, ERR_CLOSED);
    }
}

static void receive(struct h1_client_conn *c)
{
    ssize_t n = client_link_receive(&c->link);
    if (n > 0) {
        take(c, str_make(client_link_loop(&c->link)->read_buf, (size_t)n));
    } else if (n == CLIENT_LINK_END) {
        on_fin(c);
    } else if (n < 0) {
        h1_client_fail(c, (int)n);
    } else if (c->link.out.failed && !c->link.readable) {
        h1_client_fail(c, ERR_CLOSED);
    }
}

// Data or FIN where neither may be; what TLS says to itself (tickets, new keys) is no data.
static void receive_idle(struct h1_client_conn *c)
{
    if (c->link.tls == NULL || client_link_receive(&c->link) != 0) {
        h1_client_fail(c, ERR_CLOSED);
    } else if (c->link.readable) {
        loop_task_add(client_link_loop(&c->link), &c->again);
    }
}

static void run(struct h1_client_conn *c)
{
    if (c->state == STATE_IDLE) {
        receive_idle(c);
        return;
    }
    if (c->kept != NULL && wants_input(c) && !c->starved) {
        feed_kept(c);
    }
    if (c->link.readable && wants_input(c)) {
        receive(c);
    }
    if ((c->link.readable || (c->kept != NULL && !c->starved)) && wants_input(c)) {
        loop_task_add(client_link_loop(&c->link), &c->again);
    }
}

void h1_client_on_again(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    run(CONTAINER_OF(task, struct h1_client_conn, again));
}

// ---- the link's events ----

static void on_open(struct client_link *link)
{
    struct h1_client_conn *c = h1_client_of_link(link);
    c->written_before = link->out.written;
    c->sent_before = link->out.sent;
    loop_timer_cancel(client_link_loop(link), &link->timer);
    h1_client_set_state(c, STATE_HEAD);
    if (link->readable) {
        loop_task_add(client_link_loop(link), &c->again);
    }
    c->stream.events->on_ready(&c->stream);
}

static void on_failed(struct client_link *link, int err)
{
    h1_client_fail(h1_client_of_link(link), err);
}

static void on_event(struct client_link *link)
{
    struct h1_client_conn *c = h1_client_of_link(link);
    if (c->state == STATE_FLUSH) {
        if (link->broken) {
            h1_client_close_now(c);
        }
    } else if (link->readable && c->state != STATE_CLOSED) {
        run(c);
    }
}

const struct client_link_ops h1_client_link_ops = {
    .on_open = on_open,
    .on_failed = on_failed,
    .on_event = on_event,
    .on_flushed = h1_client_on_flushed,
    .free_it = free_it,
};
