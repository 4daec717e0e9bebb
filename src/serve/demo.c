// SPDX-License-Identifier: MIT
#include "serve/demo.h"
#include "http/server.h"
#include "net/outq.h"
#include "net/address.h"
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { ORIGIN_COUNT = 2 };

struct origin {
    struct loop_io io;
    struct http_server server;
    char name[8];
    unsigned port;
    uint64_t answered;
};

struct demo {
    struct loop *loop;
    struct origin origins[ORIGIN_COUNT];
    const struct config *config;
};

static const struct http_server_config server_config = {
    .limits = {.head_max = 65536, .target_max = 65536, .field_max = H1_FIELD_MAX},
    .header_timeout_ms = 10000,
    .idle_timeout_ms = 60000,
    .body_timeout_ms = 60000,
};

static void ignore_data(struct http_stream *stream, struct str data)
{
    (void)stream;
    (void)data;
}

static void ignore_end(struct http_stream *stream, const struct http_field *trailers,
                       unsigned count)
{
    (void)stream;
    (void)trailers;
    (void)count;
}

static void ignore(struct http_stream *stream)
{
    (void)stream;
}

static void ignore_reset(struct http_stream *stream, int err)
{
    (void)stream;
    (void)err;
}

static const struct http_stream_events events = {
    .on_data = ignore_data,
    .on_end = ignore_end,
    .on_full = ignore,
    .on_room = ignore,
    .on_sent = ignore,
    .on_reset = ignore_reset,
};

static void on_request(struct http_server *server, struct http_stream *stream,
                       const struct http_head *request)
{
    struct origin *origin = server->owner;
    char text[512];
    int len =
        snprintf(text, sizeof text, "Hello from demo origin %s: %.*s %.*s (request %llu)\n",
                 origin->name, STR_ARG(request->method_text),
                 STR_ARG(str_sub(request->path, 0, 256)), (unsigned long long)++origin->answered);
    struct str body = str_make(text, (size_t)len < sizeof text ? (size_t)len : sizeof text - 1);
    struct http_field fields[] = {
        {STR("Content-Type"), STR("text/plain; charset=utf-8"), FIELD_CONTENT_TYPE},
        {STR("X-Demo-Origin"), str_from_c(origin->name), FIELD_OTHER},
    };
    struct http_head head = {.fields = fields,
                             .field_count = 2,
                             .status = 200,
                             .body = BODY_LENGTH,
                             .body_len = body.len};
    stream->events = &events;
    stream->user = origin;
    stream->ops->send_head(stream, &head);
    stream->ops->send_data(stream, body);
    stream->ops->send_end(stream, NULL, 0);
    outq_flush_all(stream->loop); // the text is on this stack
}

static void on_refused(struct http_server *server, struct http_stream *stream, int err)
{
    (void)server;
    (void)stream;
    (void)err;
}

static const struct http_server_ops server_ops = {
    .on_request = on_request,
    .on_refused = on_refused,
};

static void on_accept(struct loop *loop, struct loop_io *io, uint32_t event_bits)
{
    (void)loop;
    (void)event_bits;
    struct origin *origin = CONTAINER_OF(io, struct origin, io);
    struct sockaddr_storage peer = {0};
    socklen_t len = sizeof peer;
    int fd = accept4(io->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0 && http_server_accept(&origin->server, fd, &peer, HTTP_ACCEPT_PLAIN) != 0) {
        return; // closed already
    }
}

static int start_origin(struct demo *demo, unsigned index)
{
    struct origin *origin = &demo->origins[index];
    struct sockaddr_storage address;
    socklen_t len;
    origin->name[0] = (char)('A' + index);
    origin->io = (struct loop_io){.fd = -1, .on_event = on_accept};
    int err = http_server_init(&origin->server, demo->loop, &server_config, &server_ops, origin);
    if (err == 0) {
        err = net_parse_listen(STR("127.0.0.1:0"), &address, &len);
    }
    if (err == 0) {
        err = net_listen(&address, len, 1, &origin->io.fd);
    }
    if (err != 0) {
        return err;
    }
    len = sizeof address;
    getsockname(origin->io.fd, (struct sockaddr *)&address, &len);
    origin->port = net_port(&address);
    return loop_add_events(demo->loop, &origin->io, EPOLLIN);
}

// The port by which a user reaches the proxy from this machine.
static unsigned port_of(const char *address)
{
    struct str text = str_from_c(address);
    uint64_t port = 0;
    size_t colon = str_rfind_char(text, ':');
    return colon != SIZE_MAX && str_to_u64(str_from(text, colon + 1), &port) == 0 ? (unsigned)port
                                                                                  : 0;
}

static void on_declared(struct store_request *request)
{
    struct demo *demo = request->context;
    unsigned port = port_of(demo->config->listen.http[0]);
    if (request->err == 0) {
        printf(
            "\npointsman is ready. Try:\n"
            "  curl http://127.0.0.1:%u/                                # route *\n"
            "  curl -H 'Host: demo.localhost' http://127.0.0.1:%u/      # two targets in turn\n"
            "  curl -i -H 'Host: demo.localhost' http://127.0.0.1:%u/hello\n"
            "Add a route of your own:\n"
            "  curl -X PUT http://127.0.0.1:%u/v1/routes/my.localhost -d '{\"pool\": \"demo\"}'\n"
            "  curl -H 'Host: my.localhost' http://127.0.0.1:%u/\n\n",
            port, port, port, port_of(demo->config->admin.address), port);
    } else {
        printf("the demo routes could not be declared: %s\n", err_text(request->err));
    }
    fflush(stdout);
    store_request_free(&request);
}

struct demo_row {
    enum noun noun;
    const char *key;
    const char *value;
    const char *pool; // that it refers to
};

static bool fill(struct store_change *change, const struct demo_row *row, const char *value)
{
    change->noun = row->noun;
    change->key = str_dup(str_from_c(row->key));
    change->value = str_dup(str_from_c(value));
    if (row->pool != NULL) {
        change->references = calloc(1, sizeof *change->references);
        if (change->references == NULL) {
            return false;
        }
        change->reference_count = 1;
        change->references[0].noun = NOUN_POOL;
        change->references[0].key = str_dup(str_from_c(row->pool));
        change->references[0].pointer = str_dup(STR("/pool"));
    }
    return change->key != NULL && change->value != NULL;
}

static int declare(struct demo *demo, struct store *store)
{
    static const struct demo_row rows[] = {
        {NOUN_POOL, "demo", NULL, NULL},
        {NOUN_ROUTE, "demo.localhost",
         "{\"host\":\"demo.localhost\",\"path\":\"/\",\"pool\":\"demo\"}", "demo"},
        {NOUN_ROUTE, "demo.localhost/hello",
         "{\"host\":\"demo.localhost\",\"path\":\"/hello\",\"respond\":{"
         "\"body\":\"Hello from the proxy itself\\n\",\"content_type\":\"text/plain\"}}",
         NULL},
        {NOUN_ROUTE, "*", "{\"host\":\"*\",\"path\":\"/\",\"pool\":\"demo\"}", "demo"},
    };
    enum { ROW_COUNT = sizeof rows / sizeof rows[0] };
    char pool[256];
    snprintf(pool, sizeof pool,
             "{\"targets\":[{\"address\":\"127.0.0.1:%u\"},{\"address\":\"127.0.0.1:%u\"}],"
             "\"balance\":\"round_robin\"}",
             demo->origins[0].port, demo->origins[1].port);
    struct store_request *request = store_request_new(ROW_COUNT);
    if (request == NULL) {
        return ERR_MEMORY;
    }
    request->loop = demo->loop;
    request->on_done = on_declared;
    request->context = demo;
    unsigned count = 0;
    for (unsigned i = 0; i < ROW_COUNT; i++) {
        struct store_record record;
        // What a user has declared under these names stays.
        if (i > 0 && store_get(store, rows[i].noun, str_from_c(rows[i].key), &record) == 0) {
            continue;
        }
        if (!fill(&request->changes[count++], &rows[i], i == 0 ? pool : rows[i].value)) {
            store_request_free(&request);
            return ERR_MEMORY;
        }
    }
    request->count = count;
    store_submit(store, &request);
    return 0;
}

int demo_start(struct demo **out, struct loop *control, struct store *store,
               const struct config *config, struct problems *problems)
{
    struct demo *demo = calloc(1, sizeof *demo);
    *out = demo;
    if (demo == NULL) {
        return problems_add(problems, ERR_MEMORY, "demo", "%s", err_text(ERR_MEMORY));
    }
    demo->loop = control;
    demo->config = config;
    int err = 0;
    for (unsigned i = 0; i < ORIGIN_COUNT && err == 0; i++) {
        err = start_origin(demo, i);
    }
    if (err == 0) {
        err = declare(demo, store);
    }
    return err == 0 ? 0 : problems_add(problems, err, "demo", "%s", err_text(err));
}

void demo_free(struct demo **place)
{
    struct demo *demo = *place;
    *place = NULL;
    if (demo == NULL) {
        return;
    }
    for (unsigned i = 0; i < ORIGIN_COUNT; i++) {
        loop_close(demo->loop, &demo->origins[i].io);
        http_server_fini(&demo->origins[i].server);
    }
    free(demo);
}
