// SPDX-License-Identifier: MIT
// The first bytes of a connection, before it is known what is spoken on it:
//
//   HEADER ─► FIRST ─► HELLO ─► TURN ─► a step of the handshake ─► HTTP/1 | HTTP/2
//     │         │        │        ▲        │           │
//     │         │        │        └─ HANDSHAKE ◄─      ▼
//     │         │        │           bytes    │    SUSPENDED: a certificate is loaded, then TURN
//     │         │        └──► HTTP/1 in its tunnel state (the TLS is not terminated here)
//     │         └──► HTTP/1, in the clear
//     └──► closed            what cannot go on is told why, and lingers: FAREWELL
//
// All of it together has the time of one head (PHASE_NEW, never renewed). Steps of handshakes cost
// asymmetric cryptography: a bounded number is taken in each turn of the loop, in the order in which they
// were asked for, behind the events of that turn. So others are served in between.
#include "base/invariant.h"
#include "http/h1/h1_input.h"
#include "http/server_int.h"
#include "net/address.h"
#include "net/client_hello.h"
#include "net/proxy_protocol.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

enum {
    READ_MAX = 16384,                      // bytes taken at once; the rest waits in the kernel
    HELLO_WIRE_MAX = 2 * CLIENT_HELLO_MAX, // a ClientHello with the heads of its records
    HANDSHAKES_A_TURN = 16,                // where the configuration has no number
    RECORD_HANDSHAKE = 0x16,               // the first byte of TLS (RFC 8446 5.1)
};

_Static_assert(HELLO_WIRE_MAX + READ_MAX <= 65536, "tls_feed() takes what was kept");

// Fatal alerts in a record of TLS 1.0, which every version reads (RFC 8446 5.1, 6).
#define ALERT_UNEXPECTED_MESSAGE STR("\x15\x03\x01\x00\x02\x02\x0a")
#define ALERT_DECODE_ERROR       STR("\x15\x03\x01\x00\x02\x02\x32")

#define NOT_HTTPS_TEXT "Client sent an HTTP request to an HTTPS address.\n"
#define NOT_HTTPS_LEN  "49"
_Static_assert(sizeof NOT_HTTPS_TEXT - 1 == 49, "as NOT_HTTPS_LEN says");

enum opening_state {
    OPENING_HEADER, // of the PROXY protocol
    OPENING_FIRST,  // the first byte tells TLS from HTTP
    OPENING_HELLO,
    OPENING_TURN,      // the handshake's next step waits for its turn
    OPENING_HANDSHAKE, // needs bytes
    OPENING_SUSPENDED, // needs a certificate
    OPENING_FAREWELL,  // was told why it ends; what still comes is dropped
    OPENING_CLOSED,    // or taken over by a protocol
};

// What a look at the bytes has led to.
enum progress {
    PROGRESS_GONE, // the opening is over, or waits: its memory may be another protocol's
    PROGRESS_MORE, // more bytes are needed
    PROGRESS_NEXT, // the next state is there, and has not looked yet
};

struct http_opening {
    struct http_conn conn; // first
    struct list waiting;   // in http_handshakes
    struct loop_task again;
    struct h1_kept *kept; // what came, until it is known whose it is
    uint32_t lingered;    // bytes dropped
    uint8_t state;        // enum opening_state
    uint8_t kind;         // enum http_accept
    bool readable;        // the kernel may have more
    bool fin;             // FIN or an error was announced
    bool is_shut;
    bool is_told; // ops->on_handshake
};

_Static_assert(sizeof(struct http_opening) <= 480, "HTTP/1 takes its place");

static struct http_opening *opening_of(struct http_conn *conn)
{
    return CONTAINER_OF(conn, struct http_opening, conn);
}

static struct loop *loop_of(const struct http_opening *o)
{
    return o->conn.server->loop;
}

// ---- the end ----

static void leave(struct http_opening *o)
{
    INVARIANT(o->state != OPENING_CLOSED);
    o->state = OPENING_CLOSED;
    loop_task_cancel(&o->again);
    list_remove(&o->waiting);
    h1_kept_free(loop_of(o), &o->kept);
    if (o->conn.tls != NULL) {
        tls_on_resumed(o->conn.tls, NULL);
    }
}

static void close_now(struct http_opening *o)
{
    if (o->state != OPENING_CLOSED) {
        leave(o);
        http_conn_close(&o->conn);
    }
}

static void shut(struct http_opening *o)
{
    if (!o->is_shut) {
        o->is_shut = true;
        outq_shut(loop_of(o), &o->conn.out);
    }
}

// Closing with unread input would reset the connection, and could take away what was said last.
static void say_farewell(struct http_opening *o)
{
    struct http_conn *conn = &o->conn;
    list_remove(&o->waiting);
    h1_kept_free(loop_of(o), &o->kept);
    o->state = OPENING_FAREWELL;
    http_conn_enter(conn, PHASE_LINGER);
    if (conn->out.failed) {
        close_now(o);
        return;
    }
    if (outq_is_empty(&conn->out)) {
        shut(o);
    }
    o->readable = true;
    loop_task_add(loop_of(o), &o->again);
}

// Says it in the clear.
static void refuse(struct http_opening *o, struct str answer)
{
    outq_put_copy(loop_of(o), &o->conn.out, answer);
    say_farewell(o);
}

static void refuse_http(struct http_opening *o)
{
    refuse(o, STR("HTTP/1.1 400 Bad Request\r\n"
                  "Content-Type: text/plain; charset=utf-8\r\n"
                  "Content-Length: " NOT_HTTPS_LEN "\r\n"
                  "Connection: close\r\n\r\n" NOT_HTTPS_TEXT));
}

static void tell_handshake(struct http_opening *o, int err)
{
    const struct http_server_ops *ops = o->conn.server->ops;
    if (!o->is_told && ops->on_handshake != NULL) {
        o->is_told = true;
        ops->on_handshake(o->conn.server, o->conn.tls, err);
    }
}

static void fail_handshake(struct http_opening *o, int err)
{
    tell_handshake(o, err);
    if (err == ERR_TLS || err == ERR_TLS_VERIFY) {
        say_farewell(o); // an alert is on its way
    } else {
        close_now(o);
    }
}

// ---- bytes ----

// Reads once. False: nothing came now, or it was closed.
static bool receive(struct http_opening *o)
{
    struct loop *loop = loop_of(o);
    bool is_drained;
    ssize_t n = net_recv(&o->conn.io, NULL, loop->read_buf, READ_MAX, &is_drained);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        o->readable = false;
        return false;
    }
    if (n <= 0) {
        close_now(o);
        return false;
    }
    o->readable = !is_drained || o->fin;
    if (o->state == OPENING_FAREWELL) {
        o->lingered += (uint32_t)n;
        return true;
    }
    if (!h1_kept_append(loop, &o->kept, str_make(loop->read_buf, (size_t)n))) {
        close_now(o);
        return false;
    }
    return true;
}

// ---- what it turns into ----

// Whoever takes over must hear of an end that was announced here: edges do not come twice of themselves.
static bool announce_again(struct http_opening *o)
{
    struct http_conn *conn = &o->conn;
    if (!o->fin) {
        return true;
    }
    int fd = loop_release(loop_of(o), &conn->io);
    conn->io.fd = fd;
    return loop_add(loop_of(o), &conn->io) == 0;
}

// HTTP/1: over TLS, or with the bytes that have come; as a tunnel if `raw` names the host.
static void begin_h1(struct http_opening *o, const struct client_hello *raw)
{
    struct http_conn *conn = &o->conn;
    struct str bytes = h1_kept_bytes(o->kept); // lives until the end of the turn
    bool readable = o->readable;
    leave(o);
    if (!announce_again(o)) {
        http_conn_close(conn);
    } else if (raw != NULL) {
        h1_server_conn_begin_raw(conn, str_make(raw->sni, raw->sni_len), bytes, readable);
    } else {
        h1_server_conn_begin(conn, bytes, readable);
    }
}

static void begin_secured(struct http_opening *o)
{
    struct http_conn *conn = &o->conn;
    if (tls_protocol(conn->tls) != TLS_H2) {
        begin_h1(o, NULL);
        return;
    }
    bool readable = o->readable || o->fin;
    leave(o);
    if (!http_conn_begin_h2(conn, STR_NULL, readable)) {
        http_conn_close(conn);
    }
}

// ---- PROXY header ----

static void take_addresses(struct http_conn *conn, const struct proxy_header *header)
{
    if (header->source.ss_family == AF_UNSPEC) {
        return; // not told: as the socket says
    }
    net_peer_in6(&header->source, &conn->peer);
    conn->peer_text_len = (uint8_t)net_format_in6(&conn->peer, conn->peer_text, HTTP_PEER_TEXT_MAX);
    conn->local_port = net_port(&header->destination);
}

static bool keep_proxied(struct http_conn *conn, const struct proxy_header *header)
{
    struct str authority = header->authority;
    struct str version = header->tls_version;
    struct http_conn_proxied *proxied = malloc(sizeof *proxied + authority.len + version.len);
    if (proxied == NULL) {
        return false;
    }
    if (authority.len > 0) {
        memcpy(proxied->text, authority.p, authority.len);
    }
    if (version.len > 0) {
        memcpy(proxied->text + authority.len, version.p, version.len);
    }
    proxied->proxied = (struct http_proxied){
        .authority = str_make(proxied->text, authority.len),
        .tls_version = str_make(proxied->text + authority.len, version.len),
        .is_tls = header->is_tls,
    };
    proxied->has_addresses = header->source.ss_family != AF_UNSPEC;
    if (proxied->has_addresses) {
        proxied->peer_port = (uint16_t)net_port(&header->source);
        net_peer_in6(&header->destination, &proxied->local);
    }
    conn->proxied = proxied;
    return true;
}

static enum progress take_header(struct http_opening *o)
{
    struct http_server *server = o->conn.server;
    struct str bytes = h1_kept_bytes(o->kept);
    struct proxy_header header;
    ptrdiff_t len = proxy_header_parse(bytes.p, bytes.len, &header);
    if (len == 0) {
        return PROGRESS_MORE;
    }
    if (len < 0) {
        if (server->ops->on_abuse != NULL) {
            server->ops->on_abuse(server, "proxy_header");
        }
        close_now(o);
        return PROGRESS_GONE;
    }
    // Of its own connections (health checks) a sender tells nothing.
    if (!header.is_local) {
        take_addresses(&o->conn, &header);
        if (!keep_proxied(&o->conn, &header)) {
            close_now(o);
            return PROGRESS_GONE;
        }
    }
    o->kept->start += (size_t)len;
    if (o->kept->start == o->kept->end) {
        h1_kept_free(loop_of(o), &o->kept);
    }
    if (o->kind == HTTP_ACCEPT_PLAIN) {
        begin_h1(o, NULL);
        return PROGRESS_GONE;
    }
    o->state = OPENING_FIRST;
    return PROGRESS_NEXT;
}

// ---- TLS or not ----

static enum progress take_first(struct http_opening *o)
{
    struct http_server *server = o->conn.server;
    char first = h1_kept_bytes(o->kept).p[0];
    if (first == RECORD_HANDSHAKE) {
        o->state = OPENING_HELLO;
        return PROGRESS_NEXT;
    }
    bool may_be_plain =
        o->kind == HTTP_ACCEPT_EITHER &&
        (server->ops->may_be_plain == NULL || server->ops->may_be_plain(server, &o->conn.peer));
    if (may_be_plain) {
        begin_h1(o, NULL);
    } else if (first >= 'A' && first <= 'Z') {
        tell_handshake(o, ERR_TLS);
        refuse_http(o);
    } else {
        tell_handshake(o, ERR_TLS);
        refuse(o, ALERT_UNEXPECTED_MESSAGE);
    }
    return PROGRESS_GONE;
}

// ---- handshake ----

static void ask_for_turn(struct http_opening *o)
{
    struct http_handshakes *handshakes = http_server_handshakes(o->conn.server);
    o->state = OPENING_TURN;
    if (list_is_empty(&o->waiting)) {
        list_append(&handshakes->waiting, &o->waiting);
    }
    loop_task_add(loop_of(o), &handshakes->task);
}

static void on_resumed(struct tls *tls, void *user)
{
    (void)tls;
    ask_for_turn(opening_of(user));
}

static int begin_tls(struct http_opening *o)
{
    struct http_conn *conn = &o->conn;
    conn->tls = tls_new_server(loop_of(o), conn->server->config->tls, &conn->io, &conn->out, conn);
    if (conn->tls == NULL) {
        return ERR_MEMORY;
    }
    tls_on_resumed(conn->tls, on_resumed);
    int err = tls_feed(conn->tls, h1_kept_bytes(o->kept));
    h1_kept_free(loop_of(o), &o->kept);
    return err;
}

// One step of the handshake.
static void take_turn(struct http_opening *o)
{
    bool is_drained;
    int step = o->conn.tls == NULL ? begin_tls(o) : 0;
    if (step == 0) {
        step = tls_handshake(o->conn.tls, &is_drained);
    }
    if (step >= 0 && o->conn.out.failed) {
        step = ERR_CLOSED;
    }
    if (step < 0) {
        fail_handshake(o, step);
        return;
    }
    o->readable = !is_drained || o->fin;
    if (step == STEP_DONE) {
        tell_handshake(o, 0);
        begin_secured(o);
    } else if (!tls_is_suspended(o->conn.tls)) {
        o->state = OPENING_HANDSHAKE;
        if (o->readable) {
            ask_for_turn(o); // behind the others
        }
    } else if (o->fin) {
        fail_handshake(o, ERR_CLOSED);
    } else {
        o->state = OPENING_SUSPENDED;
    }
}

// A bounded number in each turn of the loop, in the order in which they asked.
static void run_turns(struct loop *loop, struct loop_task *task)
{
    struct http_handshakes *handshakes = CONTAINER_OF(task, struct http_handshakes, task);
    unsigned most = handshakes->server->config->handshakes_a_turn;
    most = most == 0 ? HANDSHAKES_A_TURN : most;
    if (handshakes->turn != loop->turns) {
        handshakes->turn = loop->turns;
        handshakes->begun = 0;
    }
    while (handshakes->begun < most && !list_is_empty(&handshakes->waiting)) {
        struct http_opening *o = LIST_FIRST(&handshakes->waiting, struct http_opening, waiting);
        list_remove(&o->waiting);
        handshakes->begun++;
        take_turn(o);
        outq_flush_all(loop); // the buffers are used again
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

static enum progress take_hello(struct http_opening *o)
{
    struct http_server *server = o->conn.server;
    const struct http_server_ops *ops = server->ops;
    struct str bytes = h1_kept_bytes(o->kept);
    struct client_hello hello;
    int step = client_hello_parse(bytes, &hello);
    if (step == 0 && bytes.len > HELLO_WIRE_MAX) {
        step = ERR_LIMIT;
    }
    if (step == 0) {
        return PROGRESS_MORE;
    }
    if (step < 0) {
        tell_handshake(o, ERR_TLS);
        refuse(o, ALERT_DECODE_ERROR);
    } else if (ops->on_hello != NULL &&
               ops->on_hello(server, str_make(hello.sni, hello.sni_len)) == HTTP_HELLO_RAW) {
        begin_h1(o, &hello);
    } else if (o->fin) {
        fail_handshake(o, ERR_CLOSED); // nobody waits for an answer
    } else {
        ask_for_turn(o);
    }
    return PROGRESS_GONE;
}

// ---- events ----

static enum progress look(struct http_opening *o)
{
    switch ((enum opening_state)o->state) {
    case OPENING_HEADER:
        return o->kept == NULL ? PROGRESS_MORE : take_header(o);
    case OPENING_FIRST:
        return o->kept == NULL ? PROGRESS_MORE : take_first(o);
    case OPENING_HELLO:
        return take_hello(o);
    case OPENING_FAREWELL:
        if (o->lingered > HTTP_LINGER_MAX) {
            close_now(o);
            return PROGRESS_GONE;
        }
        return PROGRESS_MORE;
    case OPENING_TURN:
    case OPENING_HANDSHAKE:
    case OPENING_SUSPENDED:
    case OPENING_CLOSED:
        break;
    }
    return PROGRESS_GONE;
}

// One read, and what follows from it.
static void read_on(struct http_opening *o)
{
    enum progress progress;
    if (!o->readable || !receive(o)) {
        return;
    }
    do {
        progress = look(o);
    } while (progress == PROGRESS_NEXT);
    if (progress == PROGRESS_MORE && o->readable) {
        loop_task_add(loop_of(o), &o->again); // others first
    }
}

static void on_again(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    read_on(CONTAINER_OF(task, struct http_opening, again));
}

static void on_flushed(struct loop *loop, struct outq *out)
{
    (void)loop;
    struct http_opening *o = opening_of(CONTAINER_OF(out, struct http_conn, out));
    if (out->failed) {
        fail_handshake(o, out->is_short ? ERR_MEMORY : ERR_CLOSED);
    } else if (o->state == OPENING_FAREWELL && out->queued == 0) {
        shut(o);
    }
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
        on_flushed(loop_of(o), &conn->out);
    }
    switch ((enum opening_state)o->state) {
    case OPENING_HEADER:
    case OPENING_FIRST:
    case OPENING_HELLO:
    case OPENING_FAREWELL:
        read_on(o);
        break;
    case OPENING_TURN:
        if (o->fin && conn->tls == NULL) {
            fail_handshake(o, ERR_CLOSED); // before its handshake began
        }
        break;
    case OPENING_HANDSHAKE:
        if (o->readable) {
            ask_for_turn(o);
        }
        break;
    case OPENING_SUSPENDED:
        if (o->fin) {
            fail_handshake(o, ERR_CLOSED);
        }
        break;
    case OPENING_CLOSED:
        break;
    }
}

static void on_timeout(struct http_conn *conn)
{
    struct http_opening *o = opening_of(conn);
    if (o->state == OPENING_FAREWELL) {
        close_now(o);
        return;
    }
    conn->server->timed_out_count++;
    if (o->state >= OPENING_HELLO) {
        tell_handshake(o, ERR_TIMEOUT);
    }
    close_now(o);
}

static void drain(struct http_conn *conn)
{
    struct http_opening *o = opening_of(conn);
    if (o->kept == NULL && o->state <= OPENING_HELLO) {
        close_now(o); // nothing was said yet
    }
}

static void abort_conn(struct http_conn *conn)
{
    close_now(opening_of(conn));
}

static void close_after(struct http_conn *conn)
{
    (void)conn; // there is no exchange
}

static void fini(struct http_conn *conn)
{
    (void)conn; // all was given back when it was left
}

static const struct http_conn_ops opening_ops = {
    on_event, on_timeout, drain, abort_conn, close_after, fini,
};

size_t http_opening_len(void)
{
    return sizeof(struct http_opening);
}

void http_opening_init(struct http_conn *conn, enum http_accept kind, bool is_trusted)
{
    struct http_opening *o = opening_of(conn);
    memset((char *)o + sizeof *conn, 0, sizeof *o - sizeof *conn);
    conn->ops = &opening_ops;
    outq_init(&conn->out, &conn->io, on_flushed);
    list_init(&o->waiting);
    loop_task_init(&o->again, on_again);
    o->kind = (uint8_t)kind;
    o->state = is_trusted ? OPENING_HEADER : OPENING_FIRST;
}
