// SPDX-License-Identifier: MIT
// Arbitrary bytes behind the preface, into a server connection over a socket pair. The first byte says
// how the user answers, the second how the rest is cut; 0xff in front of a piece lets time pass.
#include "base/invariant.h"
#include "http/server.h"
#include "net/outq.h"
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_options(void);

// Free lists link their objects through poisoned memory.
const char *__lsan_default_options(void)
{
    return "use_poisoned=1";
}

enum {
    INPUT_MAX = 65536,
    EXCHANGE_MAX = 64,
    // How the user answers.
    USER_ECHOES = 1,
    USER_PAUSES = 2,
    USER_RESETS = 4,
    USER_SENDS_TRAILERS = 8,
};

static struct loop loop;
static struct http_server server;
static unsigned mode;
static unsigned open_count;
static struct http_stream *paused[EXCHANGE_MAX];
static unsigned paused_count;

static const struct http_field trailer = {{"x-end", 5}, {"1", 1}, FIELD_OTHER};

static void finish(struct http_stream *stream)
{
    stream->ops->send_end(stream, &trailer, (mode & USER_SENDS_TRAILERS) != 0 ? 1 : 0);
}

static void forget(const struct http_stream *stream)
{
    for (unsigned i = 0; i < paused_count; i++) {
        if (paused[i] == stream) {
            paused[i] = paused[--paused_count];
            i--;
        }
    }
}

static void on_data(struct http_stream *stream, struct str bytes)
{
    INVARIANT(bytes.len > 0 && bytes.p[0] == bytes.p[0]);
    if ((mode & USER_ECHOES) != 0) {
        stream->ops->send_data(stream, bytes);
    }
    if ((mode & USER_PAUSES) != 0 && paused_count < EXCHANGE_MAX) {
        stream->ops->pause(stream);
        paused[paused_count++] = stream;
    }
    if ((mode & USER_RESETS) != 0 && bytes.len % 3 == 0) {
        open_count--;
        forget(stream);
        stream->ops->reset(stream, ERR_CLOSED);
    }
}

static void on_end(struct http_stream *stream, const struct http_field *trailers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        INVARIANT(field_name_is_valid(trailers[i].name));
        INVARIANT(field_may_trail(trailers[i].name, trailers[i].id));
    }
    if ((mode & USER_ECHOES) != 0) {
        finish(stream);
    }
}

static void ignore(struct http_stream *stream)
{
    (void)stream;
}

static void on_sent(struct http_stream *stream)
{
    open_count--;
    forget(stream);
}

static void on_reset(struct http_stream *stream, int err)
{
    INVARIANT(err < 0);
    open_count--;
    forget(stream);
}

static const struct http_stream_events events = {
    .on_data = on_data,
    .on_end = on_end,
    .on_full = ignore,
    .on_room = ignore,
    .on_sent = on_sent,
    .on_reset = on_reset,
};

static void check_head(const struct http_head *head)
{
    INVARIANT(head->version == 20 && head->method_text.len > 0 && head->path.len > 0);
    INVARIANT(head->path.p[0] == '/' || head->path.p[0] == '*');
    INVARIANT(head->authority.len > 0);
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct http_field *field = &head->fields[i];
        INVARIANT(field_name_is_valid(field->name) && field_value_is_valid(field->value));
        INVARIANT(!field_is_disguised(field->name));
        INVARIANT(field->id == field_find(field->name));
        INVARIANT(field->id != FIELD_TRANSFER_ENCODING && field->id != FIELD_CONNECTION);
    }
}

static void on_request(struct http_server *s, struct http_stream *stream,
                       const struct http_head *head)
{
    (void)s;
    check_head(head);
    stream->events = &events;
    open_count++;
    if (head->upgrade) {
        struct http_head answer = {.status = 101};
        stream->ops->send_head(stream, &answer);
        stream->ops->tunnel(stream);
        return;
    }
    struct http_head answer = {.status = 200, .body = BODY_CHUNKED};
    stream->ops->send_head(stream, &answer);
    if ((mode & USER_ECHOES) == 0 || stream->is_complete) {
        stream->ops->send_data(stream, STR("0123456789"));
        finish(stream);
    }
}

static void on_refused(struct http_server *s, struct http_stream *stream, int err)
{
    (void)s;
    (void)stream;
    INVARIANT(err < 0);
}

static void on_abuse(struct http_server *s, const char *what)
{
    (void)s;
    INVARIANT(what[0] != 0);
}

static const struct http_server_ops ops = {
    .on_request = on_request, .on_refused = on_refused, .on_abuse = on_abuse};

static const struct http_server_config config = {
    .limits = {.head_max = 2048, .target_max = 256, .field_max = 20},
    .header_timeout_ms = 1000,
    .idle_timeout_ms = 3000,
    .body_timeout_ms = 1000,
    .h2_streams = EXCHANGE_MAX,
};

static void set_up(void)
{
    static bool done;
    if (done) {
        return;
    }
    done = true;
    INVARIANT(loop_init(&loop) == 0 && outq_pool_init(&loop) == 0);
    loop.is_simulated = true;
    INVARIANT(http_server_init(&server, &loop, &config, &ops, NULL) == 0);
}

static void turn(int fd, unsigned ms)
{
    char sink[16384];
    loop.now_ms += ms;
    loop.now_ns += ms * 1000000ull;
    loop_turn(&loop, 0);
    while (recv(fd, sink, sizeof sink, MSG_DONTWAIT) > 0) {
    }
    while (paused_count > 0 && (loop.now_ms & 1) != 0) {
        struct http_stream *stream = paused[--paused_count];
        stream->ops->resume(stream);
    }
    outq_flush_all(&loop);
}

static void feed(int fd, const uint8_t *data, size_t size, size_t step)
{
    while (size > 0) {
        size_t part = size < step ? size : step;
        if (send(fd, data, part, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)part) {
            return; // it was cut off
        }
        turn(fd, *data == 0xff ? 500 : 1);
        data += part;
        size -= part;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    int fds[2];
    if (size < 2 || size > INPUT_MAX) {
        return 0;
    }
    set_up();
    mode = data[0];
    INVARIANT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    struct sockaddr_storage peer = {.ss_family = AF_UNIX};
    INVARIANT(http_server_accept(&server, fds[0], &peer, HTTP_ACCEPT_PLAIN) == 0);
    feed(fds[1], (const uint8_t *)preface, sizeof preface - 1, sizeof preface);
    // Small steps of long inputs would only take time.
    feed(fds[1], data + 2, size - 2, 1 + data[1] + size / 64);
    turn(fds[1], 1);
    close(fds[1]);
    for (unsigned i = 0; i < 20 && server.conn_count > 0; i++) {
        loop.now_ms += 1000;
        loop_turn(&loop, 0);
    }
    http_server_abort_all(&server);
    loop_turn(&loop, 0);
    INVARIANT(open_count == 0 && paused_count == 0 && server.conn_count == 0);
    INVARIANT(loop.outq_pool->blocks.live_count == 0);
    return 0;
}
