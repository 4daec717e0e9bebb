// SPDX-License-Identifier: MIT
// The first bytes of a connection, before it is known what is spoken on it:
//
//   PROXY header ─► first byte ─► ClientHello ─► [turn] ─► handshake ─► HTTP/1 | HTTP/2
//        │              │ plain        │ passthrough            ▲ │
//        ▼              ▼              ▼                        │ ▼ suspended: a certificate is loaded
//      closed         HTTP/1       tunnel (raw)
//
// All of it has the time of one head (PHASE_NEW, never renewed). Handshakes with their asymmetric
// cryptography are begun in turns, a few in each turn of the loop: others are served in between.
#include "base/invariant.h"
#include "http/server_int.h"
#include "net/address.h"
#include "net/client_hello.h"
#include "net/proxy_protocol.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum {
    // The largest ClientHello with the heads of its records, one byte in each being the worst that is taken.
    OPENING_MAX = CLIENT_HELLO_MAX * 2,
    HANDSHAKES_A_TURN = 16,
};

enum opening_state {
    OPENING_PROXY,
    OPENING_FIRST, // the first byte tells
    OPENING_HELLO,
    OPENING_TURN,      // waits for its turn
    OPENING_HANDSHAKE, // which needs bytes, or a certificate
    OPENING_CLOSED,
};

struct http_opening {
    struct http_conn conn; // first
    struct list waiting;   // in http_handshakes
    struct loop_task again;
    char *kept; // what came, until it is known whose it is
    uint32_t kept_len;
    uint32_t kept_size;
    uint8_t state; // enum opening_state
    uint8_t kind;  // enum http_accept
    bool readable;
    bool fin;        // FIN or an error was announced
    bool is_begun;   // its handshake had its turn
    bool is_counted; // ops->on_handshake was told
};

static struct http_opening *opening_of(struct http_conn *conn)
{
    return CONTAINER_OF(conn, struct http_opening, conn);
}

static struct loop *loop_of(const struct http_opening *o)
{
    return o->conn.server->loop;
}

static void run(struct http_opening *o);

// ---- its end ----

static void let_go(struct http_opening *o)
{
    loop_task_cancel(&o->again);
    list_remove(&o->waiting);
    free(o->kept);
    o->kept = NULL;
}

static void close_now(struct http_opening *o)
{
    if (o->state == OPENING_CLOSED) {
        return;
    }
    o->state = OPENING_CLOSED;
    let_go(o);
    http_conn_close(&o->conn);
}

static void tell_handshake(struct http_opening *o, int err)
{
    const struct http_server_ops *ops = o->conn.server->ops;
    if (!o->is_counted && ops->on_handshake != NULL) {
        o->is_counted = true;
        ops->on_handshake(o->conn.server, o->conn.tls, err);
    }
}

// Says something in the clear and closes.
static void refuse(struct http_opening *o, struct str answer)
{
    (void)send(o->conn.io.fd, answer.p, answer.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    // What was not read yet would make the kernel reset the connection, and take the answer away.
    shutdown(o->conn.io.fd, SHUT_WR);
    (void)recv(o->conn.io.fd, loop_of(o)->read_buf, LOOP_READ_LEN, MSG_DONTWAIT);
    close_now(o);
}

static void bad_proxy_header(struct http_opening *o)
{
    const struct http_server_ops *ops = o->conn.server->ops;
    if (ops->on_abuse != NULL) {
        ops->on_abuse(o->conn.server, "proxy_header");
    }
    close_now(o);
}

// ---- what is kept ----

static struct str kept(const struct http_opening *o)
{
    return str_make(o->kept, o->kept_len);
}

static void drop(struct http_opening *o, size_t len)
{
    memmove(o->kept, o->kept + len, o->kept_len - len);
    o->kept_len -= (uint32_t)len;
}

// Reads once. False: nothing came now, or the connection was closed.
static bool receive(struct http_opening *o)
{
    struct loop *loop = loop_of(o);
    bool is_drained;
    ssize_t n = net_recv(&o->conn.io, NULL, loop->read_buf, LOOP_READ_LEN, &is_drained);
    if (n <= 0) {
        o->readable = false;
        if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
            close_now(o);
        }
        return false;
    }
    o->readable = !is_drained || o->fin;
    size_t len = o->kept_len + (size_t)n;
    if (len > o->kept_size) {
        char *more = len > OPENING_MAX + LOOP_READ_LEN ? NULL : realloc(o->kept, len);
        if (more == NULL) {
            close_now(o);
            return false;
        }
        o->kept = more;
        o->kept_size = (uint32_t)len;
    }
    memcpy(o->kept + o->kept_len, loop->read_buf, (size_t)n);
    o->kept_len = (uint32_t)len;
    return true;
}

// ---- PROXY header ----

static void take_source(struct http_conn *conn, const struct proxy_header *header)
{
    const struct sockaddr_storage *destination = &header->destination;
    if (header->is_local || header->source.ss_family == AF_UNSPEC) {
        return; // the sender itself: as the socket says
    }
    net_peer_in6(&header->source, &conn->peer);
    conn->peer_text_len = (uint8_t)net_format_in6(&conn->peer, conn->peer_text, HTTP_PEER_TEXT_MAX);
    conn->local_port = destination->ss_family == AF_INET
                           ? ntohs(((const struct sockaddr_in *)destination)->sin_port)
                           : ntohs(((const struct sockaddr_in6 *)destination)->sin6_port);
}

static bool keep_proxied(struct http_conn *conn, const struct proxy_header *header)
{
    size_t len = header->authority.len + header->unique_id.len;
    struct http_conn_proxied *proxied = malloc(sizeof *proxied + len);
    if (proxied == NULL) {
        return false;
    }
    char *at = proxied->text;
    proxied->proxied = (struct http_proxied){
        .authority = str_make(at, header->authority.len),
        .unique_id = str_make(at + header->authority.len, header->unique_id.len),
        .is_tls = header->is_tls,
    };
    if (header->authority.len > 0) {
        memcpy(at, header->authority.p, header->authority.len);
    }
    if (header->unique_id.len > 0) {
        memcpy(at + header->authority.len, header->unique_id.p, header->unique_id.len);
    }
    conn->proxied = proxied;
    return true;
}

// True: done, the state is the next one.
static bool take_proxy_header(struct http_opening *o)
{
    struct proxy_header header;
    ptrdiff_t len = proxy_header_parse(o->kept, o->kept_len, &header);
    if (len < 0) {
        bad_proxy_header(o);
        return false;
    }
    if (len == 0) {
        return false;
    }
    take_source(&o->conn, &header);
    if (!keep_proxied(&o->conn, &header)) {
        close_now(o);
        return false;
    }
    drop(o, (size_t)len);
    o->state = OPENING_FIRST;
    return true;
}

// ---- what it turns into ----

static void on_event(struct http_conn *conn, uint32_t events);

// HTTP/1 in the clear, with what is kept.
static void begin_plain(struct http_opening *o)
{
    char *bytes = o->kept;
    size_t len = o->kept_len;
    bool readable = o->readable;
    o->kept = NULL;
    let_go(o);
    h1_server_conn_begin(&o->conn, str_make(bytes, len), readable);
    free(bytes);
}

static void begin_raw(struct http_opening *o, const struct client_hello *hello)
{
    char *bytes = o->kept;
    size_t len = o->kept_len;
    bool readable = o->readable;
    o->kept = NULL;
    let_go(o);
    h1_server_conn_begin_raw(&o->conn, str_make(hello->sni, hello->sni_len), str_make(bytes, len),
                             readable);
    free(bytes);
}

static void begin_secured(struct http_opening *o)
{
    struct http_conn *conn = &o->conn;
    bool is_h2 = tls_protocol(conn->tls) == TLS_H2;
    tls_on_resumed(conn->tls, NULL);
    let_go(o);
    if (!is_h2) {
        h1_server_conn_begin(conn, STR_NULL, true);
        return;
    }
    o->state = OPENING_CLOSED; // this block is left
    if (!http_conn_begin_h2(conn, STR_NULL, true)) {
        o->state = OPENING_HANDSHAKE;
        close_now(o);
    }
}

// ---- TLS ----

static void on_resumed(struct tls *tls, void *user)
{
    (void)tls;
    struct http_opening *o = user;
    if (o->state != OPENING_CLOSED) {
        o->readable = true; // what came meanwhile was not read
        loop_task_add(loop_of(o), &o->again);
    }
}

static void begin_tls(struct http_opening *o)
{
    struct http_conn *conn = &o->conn;
    struct tls_context *context = conn->server->config->tls;
    conn->tls = tls_new_server(loop_of(o), context, &conn->io, &conn->out, o);
    if (conn->tls == NULL || tls_feed(conn->tls, kept(o)) != 0) {
        close_now(o);
        return;
    }
    tls_on_resumed(conn->tls, on_resumed);
    free(o->kept);
    o->kept = NULL;
    o->kept_len = o->kept_size = 0;
    o->state = OPENING_HANDSHAKE;
}

static void handshake(struct http_opening *o)
{
    bool is_drained;
    int step = tls_handshake(o->conn.tls, &is_drained);
    if (o->conn.out.failed) {
        step = ERR_CLOSED;
    }
    if (step < 0) {
        tell_handshake(o, step);
        o->conn.is_cut = true; // nothing to notify of; an alert was sent
        close_now(o);
    } else if (step == STEP_DONE) {
        tell_handshake(o, 0);
        if (o->state == OPENING_HANDSHAKE) {
            begin_secured(o);
        }
    } else if (is_drained && !tls_is_suspended(o->conn.tls)) {
        o->readable = o->fin; // FIN stands behind: one read more
    }
}

// ---- ClientHello ----

static void bad_hello(struct http_opening *o)
{
    struct str bytes = kept(o);
    bool is_http = bytes.len > 0 && (bytes.p[0] >= 'A' && bytes.p[0] <= 'Z');
    tell_handshake(o, ERR_TLS);
    refuse(o, is_http ? STR("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
                            "Connection: close\r\nContent-Length: 57\r\n\r\n"
                            "This is an address for HTTPS, and the request was HTTP.\r\n")
                      // alert, TLS 1.0 record: fatal, decode_error
                      : STR("\x15\x03\x01\x00\x02\x02\x32"));
}

static void wait_for_turn(struct http_opening *o)
{
    struct http_handshakes *handshakes = http_server_handshakes(o->conn.server);
    o->state = OPENING_TURN;
    list_append(&handshakes->waiting, &o->waiting);
    loop_task_add(loop_of(o), &handshakes->task);
}

static void take_hello(struct http_opening *o)
{
    const struct http_server_ops *ops = o->conn.server->ops;
    struct client_hello hello;
    int step = client_hello_parse(kept(o), &hello);
    if (step == 0 && o->kept_len > OPENING_MAX) {
        step = ERR_LIMIT;
    }
    if (step < 0) {
        bad_hello(o);
    } else if (step > 0 && ops->on_hello != NULL && ops->on_raw != NULL &&
               ops->on_hello(o->conn.server, str_make(hello.sni, hello.sni_len)) ==
                   HTTP_HELLO_RAW) {
        begin_raw(o, &hello);
    } else if (step > 0) {
        wait_for_turn(o);
    }
}

// A few in each turn of the loop, in the order they came.
static void run_turns(struct loop *loop, struct loop_task *task)
{
    struct http_handshakes *handshakes = CONTAINER_OF(task, struct http_handshakes, task);
    unsigned most = handshakes->server->config->handshakes_a_turn;
    most = most > 0 ? most : HANDSHAKES_A_TURN;
    if (handshakes->turn != loop->turns) {
        handshakes->turn = loop->turns;
        handshakes->begun = 0;
    }
    while (handshakes->begun < most && !list_is_empty(&handshakes->waiting)) {
        struct http_opening *o = LIST_FIRST(&handshakes->waiting, struct http_opening, waiting);
        list_remove(&o->waiting);
        handshakes->begun++;
        begin_tls(o);
        if (o->state == OPENING_HANDSHAKE) {
            run(o);
        }
        outq_flush_all(loop); // the receive buffer is used again
    }
    if (!list_is_empty(&handshakes->waiting)) {
        loop_task_add(loop, task);
    }
}

void http_handshakes_init(struct http_server *server)
{
    struct http_handshakes *handshakes = http_server_handshakes(server);
    handshakes->server = server;
    list_init(&handshakes->waiting);
    loop_task_init(&handshakes->task, run_turns);
}

// ---- events ----

static void take_first(struct http_opening *o)
{
    const struct http_server *server = o->conn.server;
    const struct http_server_ops *ops = server->ops;
    bool is_tls = o->kept[0] == 0x16;
    if (o->kind == HTTP_ACCEPT_TLS || (o->kind == HTTP_ACCEPT_EITHER && is_tls)) {
        if (server->config->tls == NULL) {
            close_now(o);
            return;
        }
        o->state = OPENING_HELLO;
    } else if (o->kind == HTTP_ACCEPT_PLAIN || ops->may_be_plain == NULL ||
               ops->may_be_plain(o->conn.server, &o->conn.peer)) {
        begin_plain(o);
    } else {
        bad_hello(o);
    }
}

static bool is_here(const struct http_opening *o)
{
    return o->conn.ops->on_event == on_event && o->state != OPENING_CLOSED;
}

// As far as what has come allows. The opening may be another protocol, or gone, when it returns.
static void run(struct http_opening *o)
{
    bool more = true;
    while (more && is_here(o)) {
        enum opening_state before = (enum opening_state)o->state;
        if (o->state == OPENING_TURN) {
            return;
        }
        if (o->state == OPENING_HANDSHAKE) {
            if (!tls_is_suspended(o->conn.tls) || o->readable) {
                handshake(o);
            }
            if (is_here(o) && o->readable && !tls_is_suspended(o->conn.tls)) {
                loop_task_add(loop_of(o), &o->again);
            }
            return;
        }
        if (o->state == OPENING_PROXY && o->kept_len > 0 && !take_proxy_header(o) && !is_here(o)) {
            return;
        }
        if (o->state == OPENING_FIRST && o->kept_len > 0) {
            take_first(o);
            if (!is_here(o)) {
                return;
            }
        }
        if (o->state == OPENING_HELLO) {
            take_hello(o);
            if (!is_here(o) || o->state == OPENING_TURN) {
                return;
            }
        }
        more = before != o->state || (o->readable && receive(o));
    }
}

static void on_again(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    run(CONTAINER_OF(task, struct http_opening, again));
}

static void on_event(struct http_conn *conn, uint32_t events)
{
    struct http_opening *o = opening_of(conn);
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        o->readable = true;
        o->fin = o->fin || (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    }
    if ((events & EPOLLOUT) && conn->out.blocked) {
        conn->out.blocked = false;
        outq_flush(loop_of(o), &conn->out);
    }
    bool is_waiting =
        o->state == OPENING_TURN || (o->state == OPENING_HANDSHAKE && tls_is_suspended(conn->tls));
    if (is_waiting) {
        if (events & (EPOLLHUP | EPOLLERR)) {
            close_now(o); // nobody is there any more
        }
        return;
    }
    if (o->readable) {
        run(o);
    }
}

static void on_timeout(struct http_conn *conn)
{
    struct http_opening *o = opening_of(conn);
    conn->server->timed_out_count++;
    if (conn->tls != NULL) {
        tell_handshake(o, ERR_TIMEOUT);
    }
    conn->is_cut = true;
    close_now(o);
}

static void drain(struct http_conn *conn)
{
    struct http_opening *o = opening_of(conn);
    if (o->kept_len == 0 && conn->tls == NULL) {
        close_now(o); // nothing was said yet
    }
}

static void abort_conn(struct http_conn *conn)
{
    close_now(opening_of(conn));
}

static void close_after(struct http_conn *conn)
{
    (void)conn;
}

static void fini(struct http_conn *conn)
{
    (void)conn;
}

static const struct http_conn_ops opening_ops = {on_event,   on_timeout,  drain,
                                                 abort_conn, close_after, fini};

static void on_flushed(struct loop *loop, struct outq *out)
{
    (void)loop;
    (void)out; // a failure is seen by the next step
}

size_t http_opening_len(void)
{
    return sizeof(struct http_opening);
}

void http_opening_init(struct http_conn *conn, enum http_accept kind, bool is_trusted)
{
    struct http_opening *o = opening_of(conn);
    conn->ops = &opening_ops;
    outq_init(&conn->out, &conn->io, on_flushed);
    list_init(&o->waiting);
    loop_task_init(&o->again, on_again);
    o->kind = (uint8_t)kind;
    o->state = is_trusted ? OPENING_PROXY : OPENING_FIRST;
}
