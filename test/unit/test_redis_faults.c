// SPDX-License-Identifier: MIT
// The client of Redis with peers that do not keep to the protocol, and replies in any pieces.
#include "base/buf.h"
#include "redis/redis_int.h"
#include "redis_client.h"
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

// Says the same to whoever connects, in pieces, and then waits, or closes.
struct peer {
    int listener;
    uint16_t port;
    pthread_t thread;
    const char *first; // at once
    const char *text;  // after the first bytes that come behind the greeting
    size_t len;
    size_t piece;
    sem_t *next; // asked before each piece, unless NULL
    bool closes;
};

static void read_until(int fd, const char *word)
{
    char buf[4096];
    size_t len = 0;
    while (len < sizeof buf - 1) {
        ssize_t n = recv(fd, buf + len, sizeof buf - 1 - len, 0);
        if (n <= 0) {
            return;
        }
        len += (size_t)n;
        buf[len] = 0;
        if (strstr(buf, word) != NULL) {
            return;
        }
    }
}

static void talk(const struct peer *peer, int fd)
{
    char rest[4096];
    read_until(fd, "PING");
    if (send(fd, peer->first, strlen(peer->first), MSG_NOSIGNAL) < 0) {
        return;
    }
    if (peer->len > 0) {
        read_until(fd, "GET");
    }
    for (size_t at = 0; at < peer->len;) {
        size_t len = peer->len - at < peer->piece ? peer->len - at : peer->piece;
        if (peer->next != NULL) {
            sem_wait(peer->next);
        }
        ssize_t n = send(fd, peer->text + at, len, MSG_NOSIGNAL);
        if (n < 0) {
            return;
        }
        at += (size_t)n;
    }
    while (!peer->closes && recv(fd, rest, sizeof rest, 0) > 0) {
    }
}

static void *serve(void *context)
{
    struct peer *peer = context;
    int fd;
    while ((fd = accept(peer->listener, NULL, NULL)) >= 0) {
        talk(peer, fd);
        close(fd);
    }
    return NULL;
}

static void peer_begin(struct peer *peer)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    peer->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(peer->listener, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(peer->listener, 16), 0);
    assert_int_equal(getsockname(peer->listener, (struct sockaddr *)&in, &len), 0);
    peer->port = ntohs(in.sin_port);
    if (peer->first == NULL) {
        peer->first = "+OK\r\n+PONG\r\n";
    }
    if (peer->piece == 0) {
        peer->piece = 65536;
    }
    assert_int_equal(pthread_create(&peer->thread, NULL, serve, peer), 0);
}

static void peer_end(struct peer *peer)
{
    shutdown(peer->listener, SHUT_RDWR);
    pthread_join(peer->thread, NULL);
    close(peer->listener);
}

static void connect_to(struct client *c, const struct peer *peer)
{
    char url[64];
    snprintf(url, sizeof url, "redis://127.0.0.1:%u", peer->port);
    client_begin(c, url);
}

// A GET is answered so, and then the connection is lost for that reason.
static void check(const char *text, size_t len, bool closes, const char *why)
{
    struct peer peer = {.text = text, .len = len, .closes = closes};
    struct client c;
    peer_begin(&peer);
    connect_to(&c, &peer);
    WAIT(&c, c.is_ready);
    assert_true(client_put(&c, "GET x"));
    assert_true(client_put(&c, "GET y"));
    WAIT(&c, c.lost_count > 0);
    if (strstr(c.detail, why) == NULL) {
        fail_msg("%.40s: %s", text, c.detail);
    }
    assert_int_equal(c.reply_count, 2);
    assert_int_not_equal(c.nil_count, 0);
    client_end(&c);
    peer_end(&peer);
}

static char *repeat(const char *text, size_t count, size_t *len)
{
    size_t one = strlen(text);
    char *all = malloc(one * count + 1);
    for (size_t i = 0; i < count; i++) {
        memcpy(all + i * one, text, one);
    }
    all[one * count] = 0;
    *len = one * count;
    return all;
}

static void test_broken(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool closes;
        const char *why;
    } cases[] = {
        {"HTTP/1.1 400 Bad Request\r\n\r\n", false, "protocol: "},
        {"hello\r\n", false, "protocol: "},
        {"+half a rep", true, "closed by the server"},
        {"$10\r\nabc", true, "closed by the server"},
        {"*2\r\n$1\r\na\r\n", true, "closed by the server"},
        {"$629145600\r\nabc", false, "protocol: a reply of more than 512 MiB"},
        {"$99999999999999999999\r\n", false, "protocol: "},
        {"$-5\r\n", false, "protocol: "},
        {"*-5\r\n", false, "protocol: "},
        {"*2000000000\r\n$1\r\na\r\n", true, "closed by the server"},
        {"*99999999999\r\n", false, "protocol: "},
        {":12x\r\n", false, "protocol: "},
        {"%1\r\n+a\r\n+b\r\n", false, "protocol: "},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check(cases[i].text, strlen(cases[i].text), cases[i].closes, cases[i].why);
    }
}

static void test_excess(void **state)
{
    (void)state;
    size_t len;
    char *text = repeat("*1\r\n", 1000000, &len);
    check(text, len, false, "protocol: ");
    free(text);
    text = repeat("+aaaaaaaaaaaaaaa", 20000, &len);
    check(text, len, false, "protocol: a line without an end");
    free(text);
}

// What comes without a command.
static void test_unasked(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"+OK\r\n+PONG\r\n+EXTRA\r\n", "protocol: a reply to nothing"},
        {"+OK\r\n+PONG\r\n-ERR max number of clients reached\r\n",
         "ERR max number of clients reached"},
        {"-ERR max number of clients reached\r\n", "closed by the server"},
        {"+OK\r\n-LOADING Redis is loading the dataset in memory\r\n",
         "LOADING Redis is loading the dataset in memory"},
        {"+OK\r\n-ERR \x1b[31m\r\n", "ERR ?[31m"},
        {"+OK\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n+x\r\n",
         "protocol: a reply to nothing"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer peer = {.first = cases[i][0], .closes = i == 2};
        struct client c;
        peer_begin(&peer);
        connect_to(&c, &peer);
        WAIT(&c, c.lost_count > 0);
        assert_string_equal(c.detail, cases[i][1]);
        client_end(&c);
        peer_end(&peer);
    }
}

// A server that cannot save refuses even a PING. It can be read all the same.
static void test_disk_of_the_server(void **state)
{
    (void)state;
    struct peer peer = {.first = "+OK\r\n-MISCONF Redis is configured to save RDB snapshots\r\n"};
    struct client c;
    peer_begin(&peer);
    connect_to(&c, &peer);
    WAIT(&c, c.ready_count > 0);
    client_end(&c);
    peer_end(&peer);
}

// A connection that is lost as soon as it is there is not made thousands of times a second.
static void test_lost_at_once(void **state)
{
    (void)state;
    struct peer peer = {.closes = true};
    struct client c;
    peer_begin(&peer);
    connect_to(&c, &peer);
    uint64_t until_ms = c.loop.now_ms + 1000;
    WAIT(&c, c.loop.now_ms > until_ms || c.ready_count > 12);
    assert_true(c.ready_count <= 12);
    WAIT(&c, c.ready_count >= 3); // but it is made
    client_end(&c);
    peer_end(&peer);
}

// A reply that takes long to arrive, over a slow network, is not silence.
static void test_slow(void **state)
{
    (void)state;
    static const char text[] = "$40\r\n0123456789012345678901234567890123456789\r\n";
    enum { PIECE = 4, PAUSE_MS = 500 };
    sem_t next;
    struct peer peer = {.text = text, .len = sizeof text - 1, .piece = PIECE, .next = &next};
    struct client c;
    sem_init(&next, 0, 0);
    peer_begin(&peer);
    connect_to(&c, &peer);
    WAIT(&c, c.is_ready);
    assert_true(client_put(&c, "GET x"));
    for (size_t at = 0; at < peer.len; at += PIECE) {
        assert_int_equal(c.reply_count, 0);
        c.loop.now_ms += PAUSE_MS;
        c.loop.now_ns += PAUSE_MS * NS_PER_MS;
        assert_in_range(redis_silent_ms(c.redis), PAUSE_MS, 2 * PAUSE_MS - 1);
        sem_post(&next);
        WAIT(&c, redis_silent_ms(c.redis) < PAUSE_MS); // it has heard
    }
    WAIT(&c, c.reply_count == 1);
    assert_string_equal(c.text, "0123456789012345678901234567890123456789");
    client_end(&c);
    peer_end(&peer);
    sem_destroy(&next);
}

// ---- replies in pieces ----

static const char stream[] = "+OK\r\n$5\r\nhe\r\no\r\n:-7\r\n$-1\r\n*-1\r\n*0\r\n-ERR x\r\n"
                             "*3\r\n*2\r\n:1\r\n$0\r\n\r\n$-1\r\n+s\r\n";

static void describe(struct buf *to, const struct redis_reply *reply)
{
    buf_printf(to, "%d:%lld:%.*s(", reply->type, (long long)reply->integer, STR_ARG(reply->text));
    for (unsigned i = 0; i < reply->count; i++) {
        const struct redis_reply *item = redis_reply_item(reply, i);
        buf_printf(to, "%d:%lld:%.*s:%u,", item->type, (long long)item->integer,
                   STR_ARG(item->text), item->count);
    }
    buf_printf(to, ")");
}

static unsigned read_all(struct redis_reader *reader, struct buf *to)
{
    const struct redis_reply *reply = NULL;
    const char *why = NULL;
    unsigned count = 0;
    while (redis_reader_next(reader, &reply, &why) == STEP_DONE) {
        describe(to, reply);
        count++;
    }
    assert_null(why);
    return count;
}

static void test_pieces(void **state)
{
    (void)state;
    struct redis_reader reader;
    struct buf whole;
    struct buf parts;
    buf_init(&whole, 0);
    buf_init(&parts, 0);
    assert_int_equal(redis_reader_init(&reader), 0);
    assert_true(redis_reader_feed(&reader, str_from_c(stream)));
    assert_int_equal(read_all(&reader, &whole), 8);
    for (size_t cut = 1; cut < sizeof stream - 1; cut++) {
        buf_clear(&parts);
        assert_true(redis_reader_feed(&reader, str_sub(str_from_c(stream), 0, cut)));
        unsigned count = read_all(&reader, &parts);
        assert_true(redis_reader_feed(&reader, str_from(str_from_c(stream), cut)));
        assert_int_equal(count + read_all(&reader, &parts), 8);
        assert_true(str_eq(buf_str(&whole), buf_str(&parts)));
    }
    buf_clear(&parts);
    for (size_t at = 0; at < sizeof stream - 1; at++) {
        assert_true(redis_reader_feed(&reader, str_sub(str_from_c(stream), at, 1)));
        (void)read_all(&reader, &parts);
    }
    assert_true(str_eq(buf_str(&whole), buf_str(&parts)));
    // Half a reply is forgotten.
    assert_true(redis_reader_feed(&reader, STR("*2\r\n+a\r\n")));
    assert_int_equal(read_all(&reader, &parts), 0);
    assert_int_equal(redis_reader_reset(&reader), 0);
    assert_true(redis_reader_feed(&reader, STR("+b\r\n")));
    assert_int_equal(read_all(&reader, &parts), 1);
    redis_reader_fini(&reader);
    buf_fini(&whole);
    buf_fini(&parts);
}

// An array that has more items than it has room for at first.
static void test_many_items(void **state)
{
    (void)state;
    struct redis_reader reader;
    struct buf text;
    const struct redis_reply *reply = NULL;
    const char *why = NULL;
    enum { COUNT = 30000 };
    buf_init(&text, 0);
    buf_printf(&text, "*%d\r\n", COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        buf_printf(&text, ":%u\r\n", i);
    }
    assert_int_equal(redis_reader_init(&reader), 0);
    for (size_t at = 0; at < text.len; at += 5000) {
        assert_int_equal(redis_reader_next(&reader, &reply, &why), STEP_AGAIN);
        assert_true(redis_reader_feed(&reader, str_sub(buf_str(&text), at, 5000)));
    }
    assert_int_equal(redis_reader_next(&reader, &reply, &why), STEP_DONE);
    assert_int_equal(reply->count, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(redis_reply_item(reply, i)->integer, i);
    }
    assert_int_equal(redis_reader_next(&reader, &reply, &why), STEP_AGAIN);
    redis_reader_fini(&reader);
    buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken),       cmocka_unit_test(test_excess),
        cmocka_unit_test(test_unasked),      cmocka_unit_test(test_disk_of_the_server),
        cmocka_unit_test(test_lost_at_once), cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_many_items),   cmocka_unit_test(test_slow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
