// SPDX-License-Identifier: MIT
// Client connections against a scripted origin on a real socket. What the user is told is written
// down as text: "ready;head 200;end;".
#include "http/client.h"
#include "net/outq.h"
#include "socket_peer.h"

struct fixture {
    struct loop loop;
    struct http_client_pool pool;
    struct http_client_owner owner;
    int listener;
    struct sockaddr_in address;
    struct peer peer; // the origin's end
    struct http_stream *stream;
    struct http_client_conn *idle; // kept by the owner
    struct buf told;
    struct buf body;
    unsigned closed_count;
    bool keeps;
    bool pause_at_data;
    bool switches; // to a tunnel at 101
    bool resets_at_data;
    bool reuses_at_end; // releases in on_end and begins the next exchange there
    size_t queued_max;
};

static struct fixture *fixture_of(struct http_stream *stream)
{
    return stream->user;
}

static bool was_told(const struct fixture *f, const char *all)
{
    return str_eq(buf_str(&f->told), str_from_c(all));
}

static void on_ready(struct http_stream *stream)
{
    buf_put(&fixture_of(stream)->told, STR("ready;"));
}

static void on_head(struct http_stream *stream, const struct http_head *head)
{
    struct fixture *f = fixture_of(stream);
    buf_printf(&f->told, "head %u;", head->status);
    if (head->status == 101 && f->switches) {
        stream->ops->tunnel(stream);
    }
}

static void on_info(struct http_stream *stream, const struct http_head *head)
{
    buf_printf(&fixture_of(stream)->told, "info %u;", head->status);
}

static void on_data(struct http_stream *stream, struct str data)
{
    struct fixture *f = fixture_of(stream);
    buf_put(&f->body, data);
    if (f->pause_at_data) {
        stream->ops->pause(stream);
    }
    if (f->resets_at_data) {
        stream->ops->reset(stream, ERR_CLOSED);
    }
}

static void reuse_at_end(struct fixture *f);

static void on_end(struct http_stream *stream, const struct http_field *trailers, unsigned count)
{
    struct fixture *f = fixture_of(stream);
    buf_put(&f->told, STR("end;"));
    for (unsigned i = 0; i < count; i++) {
        buf_printf(&f->told, "%.*s=%.*s;", STR_ARG(trailers[i].name), STR_ARG(trailers[i].value));
    }
    if (f->reuses_at_end) {
        reuse_at_end(f);
    }
}

static void on_full(struct http_stream *stream)
{
    struct fixture *f = fixture_of(stream);
    f->queued_max = stream->queued > f->queued_max ? stream->queued : f->queued_max;
    buf_put(&f->told, STR("full;"));
}

static void on_room(struct http_stream *stream)
{
    buf_put(&fixture_of(stream)->told, STR("room;"));
}

static void on_sent(struct http_stream *stream)
{
    (void)stream;
    fail(); // server side only
}

static void on_reset(struct http_stream *stream, int err)
{
    struct fixture *f = fixture_of(stream);
    buf_printf(&f->told, "reset %s;", err_token(err));
    f->stream = NULL;
}

static const struct http_stream_events events = {on_head, on_info, on_ready, on_data, on_end,
                                                 on_full, on_room, on_sent,  on_reset};

static bool on_idle(struct http_client_owner *owner, struct http_client_conn *conn)
{
    struct fixture *f = CONTAINER_OF(owner, struct fixture, owner);
    if (!f->keeps) {
        return false;
    }
    assert_null(f->idle);
    f->idle = conn;
    return true;
}

static void on_closed(struct http_client_owner *owner, struct http_client_conn *conn)
{
    struct fixture *f = CONTAINER_OF(owner, struct fixture, owner);
    f->closed_count++;
    if (f->idle == conn) {
        f->idle = NULL;
    }
}

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->peer.fd = -1;
    f->keeps = true;
    assert_int_equal(loop_init(&f->loop), 0);
    f->loop.is_simulated = true;
    assert_int_equal(outq_pool_init(&f->loop), 0);
    const struct h1_limits limits = {.head_max = 32768, .target_max = 8192, .field_max = 100};
    http_client_pool_init(&f->pool, &f->loop, &limits);
    f->owner = (struct http_client_owner){.on_idle = on_idle, .on_closed = on_closed};
    buf_init(&f->told, 0);
    buf_init(&f->body, 0);
    f->listener = peer_listen(&f->address);
    int small = 32768;
    setsockopt(f->listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
}

static struct http_stream *start(struct fixture *f, int *err)
{
    struct sockaddr_storage address;
    memcpy(&address, &f->address, sizeof f->address);
    const struct http_client_target target = {
        .address = &address, .address_len = sizeof f->address, .connect_timeout_ms = 1000};
    return http_client_open(&f->pool, &target, &f->owner, &events, f, err);
}

// Opens a connection and accepts it at the origin.
static void open_stream(struct fixture *f)
{
    int err = 0;
    f->stream = start(f, &err);
    assert_non_null(f->stream);
    PUMP(&f->loop, &f->peer, was_told(f, "ready;"));
    buf_clear(&f->told);
    int fd = -1;
    for (int i = 0; fd < 0; i++) {
        assert_true(i < 1000000);
        fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
    }
    peer_fini(&f->peer);
    peer_init(&f->peer, fd);
}

static void send_request(struct fixture *f, const char *method, enum http_body body, uint64_t len)
{
    struct http_head head = {.method = http_method_find(str_from_c(method)),
                             .method_text = str_from_c(method),
                             .target = STR("/t"),
                             .authority = STR("x"),
                             .body = body,
                             .body_len = len};
    f->stream->ops->send_head(f->stream, &head);
    if (body == BODY_NONE) {
        f->stream->ops->send_end(f->stream, NULL, 0);
    }
}

#define REQUEST " /t HTTP/1.1\r\nHost: x\r\n"

static void get(struct fixture *f)
{
    buf_clear(&f->peer.received);
    send_request(f, "GET", BODY_NONE, 0);
    PUMP(&f->loop, &f->peer, peer_has_all(&f->peer, "GET" REQUEST "\r\n"));
}

// Gives the stream back, and forgets what was kept.
static void release(struct fixture *f)
{
    if (f->stream != NULL) {
        f->stream->ops->release(f->stream);
        f->stream = NULL;
    }
}

static void drop_idle(struct fixture *f)
{
    if (f->idle != NULL) {
        http_client_close(f->idle);
        assert_null(f->idle);
    }
    buf_clear(&f->told);
    buf_clear(&f->body);
}

static void end(struct fixture *f)
{
    if (f->stream != NULL) {
        f->stream->ops->reset(f->stream, ERR_CLOSED);
    }
    drop_idle(f);
    http_client_pool_fini(&f->pool);
    assert_int_equal(f->pool.conns.live_count, 0);
    assert_int_equal(f->loop.outq_pool->batches.live_count, 0);
    assert_int_equal(f->loop.outq_pool->blocks.live_count, 0);
    peer_fini(&f->peer);
    close(f->listener);
    buf_fini(&f->told);
    buf_fini(&f->body);
    outq_pool_fini(&f->loop);
    loop_fini(&f->loop);
}

static void reuse(struct fixture *f, bool check)
{
    struct http_client_conn *conn = f->idle;
    assert_non_null(conn);
    f->idle = NULL;
    f->stream = http_client_reuse(conn, check, &events, f);
}

static void reuse_at_end(struct fixture *f)
{
    release(f);
    if (f->idle != NULL) {
        reuse(f, false);
        send_request(f, "GET", BODY_NONE, 0);
    }
}

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static void test_reuse(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    open_stream(&f);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(f.stream->was_reused, i > 0);
        get(&f);
        peer_send(&f.peer, STR(OK));
        PUMP(&f.loop, &f.peer, was_told(&f, "head 200;end;"));
        assert_true(f.stream->is_complete);
        assert_int_equal(f.stream->bytes_in, sizeof OK - 1);
        assert_true(str_eq(buf_str(&f.body), STR("ok")));
        release(&f);
        assert_non_null(f.idle);
        buf_clear(&f.told);
        buf_clear(&f.body);
        reuse(&f, true);
        assert_non_null(f.stream);
    }
    assert_int_equal(f.closed_count, 0);
    f.stream->ops->reset(f.stream, ERR_CLOSED);
    f.stream = NULL;
    assert_int_equal(f.closed_count, 1);
    PUMP(&f.loop, &f.peer, f.peer.closed);
    end(&f);
}

// An owner may hand a connection on while on_end still runs: bytes behind the response must never be the
// answer to that exchange, however they came.
static void test_reuse_in_callback(void **state)
{
    (void)state;
    static const char *const responses[] = {
        OK, "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"};
    for (unsigned how = 0; how < 9; how++) {
        struct str response = str_from_c(responses[how / 3]);
        struct fixture f;
        begin(&f);
        open_stream(&f);
        get(&f);
        f.reuses_at_end = true;
        size_t first = how % 3 == 2 ? 20 : 0; // a part of the head is kept
        if (first > 0) {
            peer_send(&f.peer, str_sub(response, 0, first));
            settle(&f.loop, &f.peer);
        }
        struct buf bytes;
        buf_init(&bytes, 0);
        buf_put(&bytes, str_from(response, first));
        if (how % 3 != 0) {
            buf_put(&bytes, STR(OK));
        }
        peer_send(&f.peer, buf_str(&bytes));
        buf_fini(&bytes);
        PUMP(&f.loop, &f.peer, f.told.len > 0 && str_ends(buf_str(&f.told), STR("end;")));
        f.reuses_at_end = false;
        settle(&f.loop, &f.peer);
        assert_true(was_told(&f, how / 3 == 1 ? "head 204;end;" : "head 200;end;"));
        assert_int_equal(f.closed_count, how % 3 == 0 ? 0 : 1);
        if (how % 3 == 0) {
            assert_non_null(f.stream);
            peer_send(&f.peer, STR(OK));
            PUMP(&f.loop, &f.peer, str_ends(buf_str(&f.told), STR("end;head 200;end;")));
        } else {
            assert_null(f.stream);
        }
        end(&f);
    }
}

// What the origin does to an idle connection is seen by the loop, or by the check before reuse.
static void test_stale_connection(void **state)
{
    (void)state;
    for (unsigned how = 0; how < 6; how++) {
        struct fixture f;
        begin(&f);
        open_stream(&f);
        get(&f);
        peer_send(&f.peer, STR(OK));
        PUMP(&f.loop, &f.peer, was_told(&f, "head 200;end;"));
        release(&f);
        if (how % 3 == 0) {
            peer_fin(&f.peer);
        } else if (how % 3 == 1) {
            peer_abort(&f.peer);
        } else {
            peer_send(&f.peer, STR("HTTP/1.1 408 Request Timeout\r\n\r\n"));
        }
        if (how < 3) {
            PUMP(&f.loop, &f.peer, f.idle == NULL);
        } else {
            reuse(&f, true);
            assert_null(f.stream);
        }
        assert_int_equal(f.closed_count, 1);
        assert_true(was_told(&f, "head 200;end;"));
        end(&f);
    }
}

// Without the check the failure comes as a reset of a reused connection that has brought nothing.
static void test_stale_without_check(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    open_stream(&f);
    get(&f);
    peer_send(&f.peer, STR(OK));
    PUMP(&f.loop, &f.peer, was_told(&f, "head 200;end;"));
    release(&f);
    peer_close(&f.peer);
    reuse(&f, false);
    struct http_stream *stream = f.stream;
    send_request(&f, "GET", BODY_NONE, 0);
    for (unsigned i = 0; f.stream != NULL; i++) {
        assert_true(i < 5000);
        assert_true(stream->was_reused);
        assert_int_equal(stream->bytes_in, 0);
        loop_turn(&f.loop, 1);
    }
    assert_true(was_told(&f, "head 200;end;reset closed;"));
    end(&f);
}

static void test_refused_and_timeout(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    int err = 0;
    close(f.listener);
    f.stream = start(&f, &err);
    if (f.stream != NULL) {
        PUMP(&f.loop, &f.peer, was_told(&f, "reset closed;"));
        assert_int_equal(f.closed_count, 1);
    } else {
        assert_int_equal(err, ERR_CLOSED);
    }
    buf_clear(&f.told);
    // A full queue drops connection requests: the time passes.
    f.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof f.address;
    f.address.sin_port = 0;
    assert_int_equal(bind(f.listener, (struct sockaddr *)&f.address, len), 0);
    assert_int_equal(listen(f.listener, 0), 0);
    assert_int_equal(getsockname(f.listener, (struct sockaddr *)&f.address, &len), 0);
    int waiting[4];
    for (unsigned i = 0; i < 4; i++) {
        waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!connect(waiting[i], (struct sockaddr *)&f.address, len);
    }
    f.stream = start(&f, &err);
    assert_non_null(f.stream);
    settle(&f.loop, NULL);
    pass(&f.loop, 990);
    assert_int_equal(f.told.len, 0);
    pass(&f.loop, 20);
    assert_true(was_told(&f, "reset timeout;"));
    for (unsigned i = 0; i < 4; i++) {
        close(waiting[i]);
    }
    end(&f);
}

struct response {
    const char *text;
    const char *told; // the origin closes after the text when it has "until close"
    const char *body;
    bool kept;
    bool closes;
};

// Each response whole, and cut in two at every byte.
static void check_response(const char *method, const struct response *row)
{
    struct str all = str_from_c(row->text);
    for (size_t cut = 0; cut < all.len; cut++) {
        struct fixture f;
        begin(&f);
        open_stream(&f);
        send_request(&f, method, BODY_NONE, 0);
        PUMP(&f.loop, &f.peer, f.peer.received.len > 0);
        if (cut > 0) {
            peer_send(&f.peer, str_sub(all, 0, cut));
            settle(&f.loop, &f.peer);
            assert_true(list_is_empty(&f.loop.run_list)); // it waits, it does not spin
        }
        peer_offer(&f.peer, str_from(all, cut));
        if (row->closes) {
            peer_fin(&f.peer);
        }
        PUMP(&f.loop, &f.peer, was_told(&f, row->told));
        settle(&f.loop, &f.peer);
        assert_true(was_told(&f, row->told));
        assert_true(str_eq(buf_str(&f.body), str_from_c(row->body)));
        release(&f);
        assert_int_equal(f.idle != NULL, row->kept);
        end(&f);
    }
}

static void test_responses(void **state)
{
    (void)state;
    static const struct response rows[] = {
        {OK, "head 200;end;", "ok", true, false},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: "
         "1\r\n\r\n",
         "head 200;end;X=1;", "abcde", true, false},
        {"HTTP/1.1 204 No Content\r\n\r\n", "head 204;end;", "", true, false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "head 200;end;", "", true, false},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" OK,
         "info 100;info 103;head 200;end;", "ok", true, false},
        {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "head 200;end;",
         "ok", false, false},
        {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "head 200;end;", "ok", false, false},
        {"HTTP/1.1 200 OK\r\n\r\nuntil close", "head 200;end;", "until close", false, true},
        // Bytes that belong to no response.
        {OK "garbage", "head 200;end;", "ok", false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_response("GET", &rows[i]);
    }
    static const struct response head = {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
                                         "head 200;end;", "", true, false};
    check_response("HEAD", &head);
}

static void test_broken_responses(void **state)
{
    (void)state;
    static const struct response rows[] = {
        {"", "reset closed;", "", false, true},
        {"HTTP/1.1 200 OK\r\nContent-Le", "reset closed;", "", false, true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "head 200;reset closed;", "half",
         false, true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
         "head 200;reset closed;", "half", false, true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX: ",
         "head 200;reset closed;", "half", false, true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
         "head 200;reset chunk_size;", "", false, false},
        {"SSH-2.0-OpenSSH\r\n\r\n", "reset start_line;", "", false, false},
        {"HTTP/1.1 abc OK\r\n\r\n", "reset status;", "", false, false},
        {"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n", "reset field_space;", "", false, false},
        {"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "reset length;", "", false, false},
        {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
         "head 101;reset upgrade;", "", false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fixture f;
        begin(&f);
        open_stream(&f);
        get(&f);
        peer_send(&f.peer, str_from_c(rows[i].text));
        if (rows[i].closes) {
            peer_fin(&f.peer);
        }
        PUMP(&f.loop, &f.peer, was_told(&f, rows[i].told));
        assert_true(str_eq(buf_str(&f.body), str_from_c(rows[i].body)));
        assert_int_equal(f.closed_count, 1);
        assert_null(f.stream);
        end(&f);
    }
}

static void test_request_bodies(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    open_stream(&f);
    send_request(&f, "POST", BODY_LENGTH, 5);
    f.stream->ops->send_data(f.stream, STR("hel"));
    f.stream->ops->send_data(f.stream, STR("lo"));
    f.stream->ops->send_end(f.stream, NULL, 0);
    PUMP(&f.loop, &f.peer, peer_has_all(&f.peer, "POST" REQUEST "Content-Length: 5\r\n\r\nhello"));
    peer_send(&f.peer, STR(OK));
    PUMP(&f.loop, &f.peer, was_told(&f, "head 200;end;"));
    release(&f);
    reuse(&f, false);
    buf_clear(&f.peer.received);
    buf_clear(&f.told);
    send_request(&f, "POST", BODY_CHUNKED, 0);
    f.stream->ops->send_data(f.stream, STR("hello"));
    const struct http_field trailer = {STR("X"), STR("1"), FIELD_OTHER};
    f.stream->ops->send_end(f.stream, &trailer, 1);
    PUMP(&f.loop, &f.peer,
         peer_has_all(&f.peer, "POST" REQUEST "Transfer-Encoding: chunked\r\n\r\n"
                               "5\r\nhello\r\n0\r\nX: 1\r\n\r\n"));
    peer_send(&f.peer, STR(OK));
    PUMP(&f.loop, &f.peer, was_told(&f, "head 200;end;"));
    release(&f);
    assert_non_null(f.idle);
    end(&f);
}

// A response before the request was sent whole is delivered; the connection is not kept.
static void test_early_response(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    open_stream(&f);
    send_request(&f, "POST", BODY_LENGTH, 1000);
    f.stream->ops->send_data(f.stream, STR("part"));
    PUMP(&f.loop, &f.peer, peer_has(&f.peer, "part"));
    peer_send(&f.peer, STR(OK));
    PUMP(&f.loop, &f.peer, was_told(&f, "head 200;end;"));
    release(&f);
    assert_null(f.idle);
    assert_int_equal(f.closed_count, 1);
    end(&f);
}

// The origin answers and closes hard while the body is still being sent.
static void test_response_before_rst(void **state)
{
    (void)state;
    static char piece[50000];
    struct fixture f;
    begin(&f);
    open_stream(&f);
    send_request(&f, "POST", BODY_LENGTH, 1ull << 40);
    f.stream->ops->send_data(f.stream, str_make(piece, sizeof piece));
    settle(&f.loop, NULL);
    peer_send(&f.peer, STR("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"));
    peer_close(&f.peer); // with unread input: RST
    for (unsigned i = 0; !was_told(&f, "head 413;end;"); i++) {
        assert_true(i < 5000);
        f.stream->ops->send_data(f.stream, str_make(piece, 10));
        loop_turn(&f.loop, 1);
    }
    assert_true(str_eq(buf_str(&f.body), STR("no")));
    settle(&f.loop, NULL);
    assert_true(was_told(&f, "head 413;end;"));
    release(&f);
    assert_null(f.idle);
    end(&f);
}

static void test_backpressure_of_request(void **state)
{
    (void)state;
    static char piece[50000];
    struct fixture f;
    begin(&f);
    open_stream(&f);
    f.peer.deaf = true;
    send_request(&f, "POST", BODY_LENGTH, 1ull << 40);
    for (unsigned i = 0; !stream_is_full(f.stream); i++) {
        assert_true(i < 1000);
        f.stream->ops->send_data(f.stream, str_make(piece, sizeof piece));
        loop_turn(&f.loop, 0);
    }
    assert_true(was_told(&f, "full;"));
    assert_true(f.queued_max < HTTP_AHEAD_LEN + sizeof piece);
    f.peer.deaf = false;
    PUMP(&f.loop, &f.peer, was_told(&f, "full;room;"));
    end(&f);
}

static void test_pause_and_resume(void **state)
{
    (void)state;
    enum { LEN = 2000000 };
    struct fixture f;
    begin(&f);
    char *data = malloc(LEN);
    assert_non_null(data);
    for (size_t i = 0; i < LEN; i++) {
        data[i] = (char)(i * 2654435761u >> 7);
    }
    f.pause_at_data = true;
    open_stream(&f);
    get(&f);
    peer_send(&f.peer, STR("HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n"));
    size_t sent = 0;
    for (unsigned round = 0; !was_told(&f, "head 200;end;"); round++) {
        assert_true(round < 100000);
        if (sent < LEN) {
            sent += peer_offer(&f.peer, str_make(data + sent, LEN - sent));
        }
        settle(&f.loop, &f.peer);
        size_t before = f.body.len;
        settle(&f.loop, &f.peer);
        assert_int_equal(f.body.len, before);
        f.stream->ops->resume(f.stream);
    }
    assert_int_equal(f.body.len, LEN);
    assert_memory_equal(f.body.p, data, LEN);
    free(data);
    // The next exchange is not paused.
    f.pause_at_data = false;
    release(&f);
    reuse(&f, true);
    assert_non_null(f.stream);
    buf_clear(&f.told);
    get(&f);
    peer_send(&f.peer, STR(OK));
    PUMP(&f.loop, &f.peer, was_told(&f, "head 200;end;"));
    end(&f);
}

// Paused before the head: a head that came meanwhile is not forgotten.
static void test_pause_before_head(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    open_stream(&f);
    get(&f);
    peer_send(&f.peer, STR("HTTP/1.1 200 OK\r\nContent-Le"));
    settle(&f.loop, &f.peer);
    f.stream->ops->pause(f.stream);
    peer_send(&f.peer, STR("ngth: 2\r\n\r\nok"));
    settle(&f.loop, &f.peer);
    assert_int_equal(f.told.len, 0);
    f.stream->ops->resume(f.stream);
    PUMP(&f.loop, &f.peer, was_told(&f, "head 200;end;"));
    end(&f);
}

static void test_reset_in_callback(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.resets_at_data = true;
    open_stream(&f);
    get(&f);
    peer_send(&f.peer, STR(OK OK OK));
    PUMP(&f.loop, &f.peer, f.closed_count == 1);
    assert_true(was_told(&f, "head 200;"));
    f.stream = NULL;
    end(&f);
}

static void test_owner_does_not_keep(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.keeps = false;
    open_stream(&f);
    get(&f);
    peer_send(&f.peer, STR(OK));
    PUMP(&f.loop, &f.peer, was_told(&f, "head 200;end;"));
    release(&f);
    assert_int_equal(f.closed_count, 1);
    PUMP(&f.loop, &f.peer, f.peer.closed);
    end(&f);
}

#define SWITCH "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"

static void begin_tunnel(struct fixture *f)
{
    f->switches = true;
    open_stream(f);
    get(f);
    buf_clear(&f->peer.received);
    peer_send(&f->peer, STR(SWITCH "behind"));
    PUMP(&f->loop, &f->peer, was_told(f, "head 101;") && f->body.len == 6);
}

static void test_tunnel(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    begin_tunnel(&f);
    f.stream->ops->send_data(f.stream, STR("there"));
    PUMP(&f.loop, &f.peer, peer_has_all(&f.peer, "there"));
    peer_fin(&f.peer);
    PUMP(&f.loop, &f.peer, was_told(&f, "head 101;end;"));
    f.stream->ops->send_data(f.stream, STR(" still"));
    f.stream->ops->send_end(f.stream, NULL, 0);
    PUMP(&f.loop, &f.peer, f.peer.closed && peer_has_all(&f.peer, "there still"));
    settle(&f.loop, &f.peer);
    assert_true(was_told(&f, "head 101;end;")); // both FINs are no error
    release(&f);
    assert_null(f.idle);
    drop_idle(&f);
    // Our FIN first.
    begin_tunnel(&f);
    f.stream->ops->send_end(f.stream, NULL, 0);
    PUMP(&f.loop, &f.peer, f.peer.closed);
    peer_send(&f.peer, STR(" and on"));
    PUMP(&f.loop, &f.peer, str_eq(buf_str(&f.body), STR("behind and on")));
    peer_close(&f.peer);
    PUMP(&f.loop, &f.peer, was_told(&f, "head 101;end;"));
    settle(&f.loop, &f.peer);
    assert_true(was_told(&f, "head 101;end;"));
    release(&f);
    end(&f);
}

// FIN and later RST: reading does not show it any more, the user is told all the same.
static void test_tunnel_rst_after_fin(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    begin_tunnel(&f);
    peer_close(&f.peer);
    PUMP(&f.loop, &f.peer, was_told(&f, "head 101;end;"));
    for (unsigned i = 0; f.stream != NULL; i++) {
        assert_true(i < 5000);
        f.stream->ops->send_data(f.stream, STR("into the void"));
        loop_turn(&f.loop, 1);
    }
    assert_true(was_told(&f, "head 101;end;reset closed;"));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_reuse_in_callback),
        cmocka_unit_test(test_stale_connection),
        cmocka_unit_test(test_stale_without_check),
        cmocka_unit_test(test_refused_and_timeout),
        cmocka_unit_test(test_responses),
        cmocka_unit_test(test_broken_responses),
        cmocka_unit_test(test_request_bodies),
        cmocka_unit_test(test_early_response),
        cmocka_unit_test(test_response_before_rst),
        cmocka_unit_test(test_backpressure_of_request),
        cmocka_unit_test(test_pause_and_resume),
        cmocka_unit_test(test_pause_before_head),
        cmocka_unit_test(test_reset_in_callback),
        cmocka_unit_test(test_owner_does_not_keep),
        cmocka_unit_test(test_tunnel),
        cmocka_unit_test(test_tunnel_rst_after_fin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
