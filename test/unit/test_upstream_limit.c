// SPDX-License-Identifier: MIT
// Waiting for a connection of HTTP/1, what is kept and for how long, and the limit of a target's connections.
#include "client_user.h"

#define OK   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define MANY 4

static void begin(struct client *c)
{
    client_begin(c, HTTP_CLIENT_AUTO);
    c->origin.is_raw = true;
}

static bool has_request(const struct origin_conn *c)
{
    return str_find(buf_str(&c->raw), STR("\r\n\r\n")) != SIZE_MAX;
}

static void answer(struct origin_conn *c)
{
    buf_clear(&c->raw);
    buf_put(&c->out, STR(OK));
}

// Answers whatever has been asked.
static void answer_all(struct client *c)
{
    for (unsigned i = 0; i < c->origin.conn_count; i++) {
        if (c->origin.conns[i]->fd >= 0 && has_request(c->origin.conns[i])) {
            answer(c->origin.conns[i]);
        }
    }
}

static void finish(struct client *c, struct user *u, const char *told)
{
    for (int i = 0; i < 1000 && u->stream != NULL; i++) {
        answer_all(c);
        client_poll(c, 0);
    }
    assert_null(u->stream);
    assert_true(user_was_told(u, told));
    user_fini(u);
}

// ---- waiting ----

static unsigned open_h1(const struct client *c)
{
    return (unsigned)c->upstream.clients.conns.live_count;
}

// A connection that others give back is there before the new one.
static void test_takes_what_is_free(void **state)
{
    (void)state;
    struct client c;
    struct user a, b;
    begin(&c);
    client_get(&c, &a, "/a");
    WAIT(&c, c.origin.conn_count == 1 && has_request(c.origin.conns[0]));
    client_get(&c, &b, "/b"); // begins to connect
    assert_int_equal(open_h1(&c), 2);
    struct http_stream *before = b.stream;
    answer(c.origin.conns[0]);
    // Its turn comes with the answer to the other, and the new connection has nobody.
    finish(&c, &a, "ready;head 200;end;");
    WAIT(&c, user_was_told(&b, "ready;"));
    assert_ptr_not_equal(b.stream, before);
    finish(&c, &b, "ready;head 200;end;");
    client_settle(&c);
    assert_int_equal(c.upstream.idle_count, 2); // nothing was thrown away
    client_get(&c, &b, "/c");
    assert_true(b.stream->was_reused);
    finish(&c, &b, "head 200;end;");
    assert_int_equal(c.upstream.opened_count, 2);
    client_end(&c);
}

// The same while the handshake of the new one cannot end: the listener's queue is full of it.
static void test_oldest_first(void **state)
{
    (void)state;
    struct client c;
    struct user a, waiting[MANY];
    begin(&c);
    client_get(&c, &a, "/a");
    WAIT(&c, c.origin.conn_count == 1 && has_request(c.origin.conns[0]));
    // A target that lets nobody in any more: the system's queue is full.
    assert_int_equal(listen(c.origin.listener, 0), 0);
    int listener = c.origin.listener;
    c.origin.listener = -1;
    int fill[4];
    for (int i = 0; i < 4; i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(fill[i], (struct sockaddr *)&c.origin.address, sizeof c.origin.address);
    }
    for (int i = 0; i < MANY; i++) {
        client_get(&c, &waiting[i], "/w");
    }
    client_settle(&c);
    finish(&c, &a, "ready;head 200;end;");
    for (int i = 0; i < MANY; i++) { // all on the one connection, in order
        WAIT(&c, has_request(c.origin.conns[0]));
        for (int k = 0; k < MANY; k++) {
            assert_int_equal(waiting[k].told.len > 0, k <= i);
        }
        answer(c.origin.conns[0]);
        WAIT(&c, waiting[i].stream == NULL);
    }
    assert_int_equal(c.origin.conn_count, 1);
    for (int i = 0; i < MANY; i++) {
        assert_true(user_was_told(&waiting[i], "ready;head 200;end;"));
        user_fini(&waiting[i]);
    }
    for (int i = 0; i < 4; i++) {
        close(fill[i]);
    }
    c.origin.listener = listener;
    client_end(&c);
}

// Who is not idempotent has the kept connection asked first, who wants a fresh one gets no kept one.
static void test_check_and_fresh(void **state)
{
    (void)state;
    struct client c;
    struct user a, fresh, late;
    begin(&c);
    client_get(&c, &a, "/a");
    WAIT(&c, c.origin.conn_count == 1 && has_request(c.origin.conns[0]));
    c.request.fresh = true;
    client_get(&c, &fresh, "/fresh");
    c.request.fresh = false;
    c.request.check = true;
    client_get(&c, &late, "/late");
    // The target answers, and closes: what is given back is of no use to anybody.
    buf_put(&c.origin.conns[0]->out, STR(OK));
    origin_poll(&c.origin);
    origin_close_conn(c.origin.conns[0]);
    WAIT(&c, a.stream == NULL);
    user_fini(&a);
    finish(&c, &fresh, "ready;head 200;end;");
    finish(&c, &late, "ready;head 200;end;");
    client_end(&c);
}

// Who leaves takes its connection along; one that failed fails its own request alone.
static void test_leaving(void **state)
{
    (void)state;
    struct client c;
    struct user a, b;
    begin(&c);
    client_get(&c, &a, "/a");
    client_get(&c, &b, "/b");
    assert_int_equal(open_h1(&c), 2);
    user_fini(&a);
    client_settle(&c);
    assert_int_equal(open_h1(&c), 1);
    finish(&c, &b, "ready;head 200;end;");
    client_end(&c);

    begin(&c);
    close(c.origin.listener); // nobody listens
    c.origin.listener = -1;
    for (int i = 0; i < 3; i++) {
        user_init(&a);
        a.sends_get = true;
        a.path = "/a";
        if (client_start(&c, &a)) {
            WAIT(&c, a.stream == NULL);
            assert_true(user_was_told(&a, "reset closed;"));
        }
        user_fini(&a);
    }
    client_settle(&c);
    assert_int_equal(c.upstream.endpoint_count, 0);
    client_end(&c);
}

// A request's pause before there is a connection holds when there is one.
static void test_paused_before(void **state)
{
    (void)state;
    struct client c;
    struct user a;
    begin(&c);
    client_get(&c, &a, "/a");
    a.stream->ops->pause(a.stream);
    WAIT(&c, c.origin.conn_count == 1 && has_request(c.origin.conns[0]));
    answer(c.origin.conns[0]);
    client_settle(&c);
    assert_true(user_was_told(&a, "ready;"));
    a.stream->ops->resume(a.stream);
    WAIT(&c, a.stream == NULL);
    assert_true(user_was_told(&a, "ready;head 200;end;"));
    user_fini(&a);
    client_end(&c);
}

// ---- what is kept ----

static void test_idle_pool(void **state)
{
    (void)state;
    struct client c;
    struct user users[MANY];
    begin(&c);
    c.request.keep_idle = 2;
    c.request.keep_timeout_ms = 10000;
    for (int i = 0; i < MANY; i++) {
        client_get(&c, &users[i], "/x");
    }
    for (int i = 0; i < MANY; i++) {
        finish(&c, &users[i], "ready;head 200;end;");
    }
    assert_int_equal(c.upstream.idle_count, MANY);
    client_pass(&c, 1100); // what the last second did not need is closed, down to the bound
    assert_int_equal(c.upstream.idle_count, 2);
    // The one that was used last is used first; the other's age goes on.
    for (int i = 0; i < 9; i++) {
        client_pass(&c, 1000);
        client_get(&c, &users[0], "/x");
        assert_true(users[0].stream->was_reused);
        finish(&c, &users[0], "head 200;end;");
    }
    client_pass(&c, 1000);
    assert_int_equal(c.upstream.idle_count, 1);
    client_pass(&c, 12000);
    assert_int_equal(c.upstream.idle_count, 0);
    assert_int_equal(c.upstream.endpoint_count, 0);
    client_end(&c);
}

// ---- the limit ----

static int try_get(struct client *c, struct user *u)
{
    int err = 0;
    user_init(u);
    u->sends_get = true;
    u->path = "/x";
    u->stream = upstream_get(&c->upstream, &c->request, &user_events, u, &err);
    if (u->stream != NULL && u->stream->was_reused) {
        user_get(u, u->path);
    }
    return u->stream == NULL ? err : 0;
}

static void test_limit(void **state)
{
    (void)state;
    struct client c;
    struct user a, b, d;
    begin(&c);
    struct upstream_limit *limit = upstream_limit_new(2);
    c.request.limit = limit;
    assert_int_equal(try_get(&c, &a), 0);
    assert_int_equal(try_get(&c, &b), 0);
    assert_int_equal(upstream_limit_open(limit), 2); // those being opened count
    assert_int_equal(try_get(&c, &d), ERR_LIMIT);
    user_fini(&d);
    c.request.fresh = true;
    assert_int_equal(try_get(&c, &d), ERR_LIMIT);
    user_fini(&d);
    c.request.fresh = false;
    finish(&c, &a, "ready;head 200;end;");
    finish(&c, &b, "ready;head 200;end;");
    assert_int_equal(upstream_limit_open(limit), 2);
    assert_int_equal(upstream_limit_idle(limit), 2);
    upstream_limit_set_max(limit, 3);
    assert_int_equal(try_get(&c, &a), 0); // the idle ones first
    assert_int_equal(try_get(&c, &b), 0);
    assert_int_equal(upstream_limit_open(limit), 2);
    assert_int_equal(upstream_limit_idle(limit), 0);
    assert_int_equal(try_get(&c, &d), 0);
    assert_int_equal(upstream_limit_open(limit), 3);
    struct user e;
    assert_int_equal(try_get(&c, &e), ERR_LIMIT);
    user_fini(&e);
    user_fini(&b); // its connection goes with it
    assert_int_equal(upstream_limit_open(limit), 2);
    finish(&c, &a, "head 200;end;");
    finish(&c, &d, "ready;head 200;end;");
    client_pass(&c, 62000);
    assert_int_equal(upstream_limit_open(limit), 0);
    assert_int_equal(upstream_limit_idle(limit), 0);
    upstream_limit_unref(&limit);
    client_end(&c);
}

// A connection that could not be begun is given back, and so is one of a single exchange.
static void test_limit_never_drifts(void **state)
{
    (void)state;
    struct client c;
    struct user a;
    begin(&c);
    struct upstream_limit *limit = upstream_limit_new(2);
    c.request.limit = limit;
    c.request.preamble = STR("PROXY UNKNOWN\r\n");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(try_get(&c, &a), 0);
        assert_int_equal(upstream_limit_open(limit), 1);
        finish(&c, &a, "ready;head 200;end;");
        assert_int_equal(upstream_limit_open(limit), 0);
    }
    struct user b, d;
    assert_int_equal(try_get(&c, &a), 0);
    assert_int_equal(try_get(&c, &b), 0);
    assert_int_equal(try_get(&c, &d), ERR_LIMIT);
    user_fini(&a);
    user_fini(&b);
    user_fini(&d);
    assert_int_equal(upstream_limit_open(limit), 0);
    c.request.preamble = STR_NULL;
    struct sockaddr_storage good = c.request.address;
    memset(&c.request.address, 0, sizeof c.request.address); // of no family
    assert_int_not_equal(try_get(&c, &a), 0);
    user_fini(&a);
    assert_int_equal(upstream_limit_open(limit), 0);
    c.request.address = good;
    // What is closed before it was ever used, too.
    assert_int_equal(try_get(&c, &a), 0);
    user_fini(&a);
    client_settle(&c);
    assert_int_equal(upstream_limit_open(limit), 0);
    assert_int_equal(c.upstream.endpoint_count, 0);
    upstream_limit_unref(&limit);
    client_end(&c);
}

// Streams of HTTP/2 share one that counts once.
static void test_limit_h2(void **state)
{
    (void)state;
    struct client c;
    struct user users[MANY];
    client_begin(&c, HTTP_CLIENT_H2);
    struct upstream_limit *limit = upstream_limit_new(1);
    c.request.limit = limit;
    for (int i = 0; i < MANY; i++) {
        client_get(&c, &users[i], "/ok");
    }
    for (int i = 0; i < MANY; i++) {
        WAIT(&c, users[i].stream == NULL);
        assert_true(user_was_told(&users[i], "ready;head 200;end;"));
        user_fini(&users[i]);
    }
    assert_int_equal(upstream_limit_open(limit), 1);
    assert_int_equal(c.origin.conn_count, 1);
    // One that has no room for all: who waited for it asks again, and is turned away for now.
    c.origin.max_streams = 1;
    upstream_drop_idle(&c.upstream);
    client_settle(&c);
    client_get(&c, &users[0], "/hold");
    client_get(&c, &users[1], "/hold");
    WAIT(&c, users[1].stream == NULL);
    assert_true(user_was_told(&users[1], "reset closed;"));
    assert_true(users[1].never_arrived);
    user_fini(&users[1]);
    assert_int_equal(try_get(&c, &users[1]), ERR_LIMIT);
    user_fini(&users[1]);
    user_fini(&users[0]);
    upstream_limit_unref(&limit); // the connection holds it
    client_end(&c);
}

// An idle connection under another name makes room.
static void test_limit_other_name(void **state)
{
    (void)state;
    struct client c;
    struct user a;
    begin(&c);
    struct upstream_limit *limit = upstream_limit_new(1);
    c.request.limit = limit;
    assert_int_equal(try_get(&c, &a), 0);
    finish(&c, &a, "ready;head 200;end;");
    assert_int_equal(upstream_limit_idle(limit), 1);
    c.request.server_name = STR("other.example");
    assert_int_equal(try_get(&c, &a), 0);
    assert_int_equal(upstream_limit_open(limit), 1);
    assert_int_equal(upstream_limit_idle(limit), 0);
    finish(&c, &a, "ready;head 200;end;");
    // Others' connections are not theirs.
    struct upstream_limit *twin = upstream_limit_new(1);
    c.request.limit = twin;
    assert_int_equal(try_get(&c, &a), 0);
    finish(&c, &a, "ready;head 200;end;");
    assert_int_equal(upstream_limit_open(limit), 1);
    upstream_limit_unref(&limit);
    upstream_limit_unref(&twin);
    client_end(&c);
}

// ---- several workers, and the queue ----

struct waiting {
    struct client *c;
    struct pool_waiter *place;
    struct user user;
    unsigned turns;
};

static void on_turn(void *user)
{
    struct waiting *w = user;
    w->turns++;
    if (try_get(w->c, &w->user) == 0) {
        w->place = NULL;
    } else {
        user_fini(&w->user);
        user_init(&w->user);
        pool_queue_again(w->place, false);
    }
}

static void settle_both(struct client *a, struct client *b)
{
    for (int i = 0; i < 20; i++) {
        answer_all(a);
        client_poll(a, 0);
        loop_turn(&b->loop, 0);
    }
}

// Another worker of the same targets.
static void begin_beside(struct client *b, struct client *a)
{
    client_begin(b, HTTP_CLIENT_AUTO);
    b->request = a->request;
}

static void test_recall(void **state)
{
    (void)state;
    struct client a, b;
    struct user u;
    struct upstream_peers peers = {0};
    begin(&a);
    struct upstream_limit *limit = upstream_limit_new(1);
    struct pool_queue *queue = pool_queue_new();
    a.request.limit = limit;
    a.request.queue = queue;
    begin_beside(&b, &a);
    a.upstream.peers = &peers;
    b.upstream.peers = &peers;
    upstream_peers_add(&peers, &a.upstream);
    upstream_peers_add(&peers, &b.upstream);
    // One keeps the only connection that there may be.
    assert_int_equal(try_get(&a, &u), 0);
    finish(&a, &u, "ready;head 200;end;");
    assert_int_equal(upstream_limit_idle(limit), 1);
    // The other is turned away, and waits; the connection is closed, and it gets its turn.
    struct waiting w = {.c = &b};
    assert_int_equal(try_get(&b, &w.user), ERR_LIMIT);
    user_fini(&w.user);
    user_init(&w.user);
    assert_int_equal(pool_queue_join(queue, &b.loop, 10, on_turn, &w, &w.place), 0);
    settle_both(&a, &b);
    assert_null(w.place);
    assert_null(w.user.stream);
    assert_true(user_was_told(&w.user, "ready;head 200;end;"));
    assert_int_equal(upstream_limit_open(limit), 1);
    assert_int_equal(a.upstream.idle_count, 0);
    assert_int_equal(b.upstream.idle_count, 1);
    user_fini(&w.user);
    // Without anything idle anywhere nobody is asked.
    w = (struct waiting){.c = &a};
    assert_int_equal(try_get(&b, &u), 0);
    assert_int_equal(try_get(&a, &w.user), ERR_LIMIT);
    user_fini(&w.user);
    user_init(&w.user);
    assert_false(loop_has_messages(&a.loop) || loop_has_messages(&b.loop));
    assert_int_equal(pool_queue_join(queue, &a.loop, 10, on_turn, &w, &w.place), 0);
    // When it is given back it is idle there: the waiter's turn has it closed, and its next one opens.
    settle_both(&a, &b);
    assert_null(w.place);
    assert_int_equal(w.turns, 2);
    assert_true(user_was_told(&u, "head 200;end;"));
    assert_true(user_was_told(&w.user, "ready;head 200;end;"));
    user_fini(&w.user);
    user_fini(&u);
    assert_int_equal(pool_queue_len(queue), 0);
    pool_queue_unref(&queue);
    upstream_limit_unref(&limit);
    client_end(&b);
    assert_null(peers.items[1]);
    client_end(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_what_is_free),
        cmocka_unit_test(test_oldest_first),
        cmocka_unit_test(test_check_and_fresh),
        cmocka_unit_test(test_leaving),
        cmocka_unit_test(test_paused_before),
        cmocka_unit_test(test_idle_pool),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_limit_never_drifts),
        cmocka_unit_test(test_limit_h2),
        cmocka_unit_test(test_limit_other_name),
        cmocka_unit_test(test_recall),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
