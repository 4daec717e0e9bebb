// SPDX-License-Identifier: MIT
// Requests that wait for a connection. Each is bound to one that is being opened, of HTTP/1 each to its own;
// but whatever becomes free first goes to the oldest. A connection that is there when nobody waits any
// more becomes idle. What became free is given out by a task: users are not called within their own calls.
#include "upstream/upstream_int.h"

enum {
    JOIN_MAX = 100, // requests that wait for one connection that is to be HTTP/2
};

// One that is being opened. Ours until it is there.
struct opening {
    struct list node; // endpoint->openings
    struct list all;  // upstream->openings
    struct upstream_endpoint *endpoint;
    struct upstream *upstream;
    struct http_stream *stream;
    unsigned waiter_count;
    uint64_t too_old_ms; // from then on nobody new waits for it
    struct loop_deferred deferred;
};

struct waiter {
    struct http_stream stream; // first: what its user has until then
    struct list node;          // endpoint->waiters
    struct upstream_endpoint *endpoint;
    struct upstream *upstream;
    struct opening *opening; // NULL: it was not what was expected; the task finds another
    unsigned connect_timeout_ms;
    bool check;
    bool is_paused;
    bool is_over;
    struct loop_deferred deferred;
};

size_t upstream_waiter_len(void)
{
    return sizeof(struct waiter);
}

size_t upstream_opening_len(void)
{
    return sizeof(struct opening);
}

static struct waiter *waiter_of(struct http_stream *stream)
{
    return CONTAINER_OF(stream, struct waiter, stream);
}

static struct waiter *oldest(const struct upstream_endpoint *endpoint)
{
    return LIST_FIRST(&endpoint->waiters, struct waiter, node);
}

// ---- their ends ----

static void free_waiter(struct loop *loop, struct loop_deferred *deferred)
{
    (void)loop;
    struct waiter *w = CONTAINER_OF(deferred, struct waiter, deferred);
    slab_put(&w->upstream->waiters, w);
}

static void free_opening(struct loop *loop, struct loop_deferred *deferred)
{
    (void)loop;
    struct opening *o = CONTAINER_OF(deferred, struct opening, deferred);
    slab_put(&o->upstream->opening_slab, o);
}

static void end_opening(struct opening *o)
{
    list_remove(&o->node);
    list_remove(&o->all);
    loop_defer(o->upstream->loop, &o->deferred, free_opening);
}

static void abandon(struct opening *o)
{
    struct http_stream *stream = o->stream;
    end_opening(o);
    stream->ops->reset(stream, ERR_CLOSED); // the endpoint may be gone after
}

static void unbind(struct waiter *w)
{
    if (w->opening != NULL) {
        w->opening->waiter_count--;
        w->opening = NULL;
    }
}

static void end_waiter(struct waiter *w)
{
    w->is_over = true;
    list_remove(&w->node);
    unbind(w);
    loop_defer(w->upstream->loop, &w->deferred, free_waiter);
}

static void fail(struct waiter *w, int err)
{
    end_waiter(w);
    w->stream.events->on_reset(&w->stream, err);
}

static void hand_over(struct waiter *w, struct http_stream *stream)
{
    end_waiter(w);
    if (w->is_paused) {
        stream->ops->pause(stream);
    }
    stream->events->on_ready(stream);
}

// ---- what its user may do ----

static void reset(struct http_stream *stream, int err)
{
    (void)err;
    struct waiter *w = waiter_of(stream);
    struct opening *o = w->opening;
    struct upstream_endpoint *endpoint = w->endpoint;
    if (w->is_over) {
        return;
    }
    end_waiter(w);
    if (o != NULL && o->waiter_count == 0) {
        abandon(o);
    } else {
        upstream_maybe_free(endpoint);
    }
}

static void release(struct http_stream *stream)
{
    reset(stream, ERR_CLOSED);
}

static void pause_input(struct http_stream *stream)
{
    waiter_of(stream)->is_paused = true;
}

static void resume_input(struct http_stream *stream)
{
    waiter_of(stream)->is_paused = false;
}

static void ignore(struct http_stream *stream)
{
    (void)stream;
}

static void ignore_head(struct http_stream *stream, const struct http_head *head)
{
    (void)stream;
    (void)head;
}

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

static const struct http_stream_ops waiter_ops = {
    .send_head = ignore_head,
    .send_info = ignore_head,
    .send_data = ignore_data,
    .send_end = ignore_end,
    .reset = reset,
    .pause = pause_input,
    .resume = resume_input,
    .tunnel = ignore,
    .release = release,
};

// ---- a connection is there, or will never be ----

static void on_ready(struct http_stream *stream)
{
    struct opening *o = stream->user;
    struct upstream_endpoint *endpoint = o->endpoint;
    struct list *waiters = &endpoint->waiters;
    endpoint->speaks_h2 = stream->is_h2;
    if (list_is_empty(waiters)) {
        end_opening(o);
        stream->ops->release(stream);
        return;
    }
    struct waiter *first = oldest(endpoint);
    // Whoever waited for this one waits for that of the other instead.
    struct opening *freed = first->opening == o ? NULL : first->opening;
    unbind(first);
    LIST_FOR_EACH (node, waiters) {
        if (o->waiter_count == 0) {
            break; // of HTTP/1 it was for one alone, and there may be thousands
        }
        struct waiter *w = CONTAINER_OF(node, struct waiter, node);
        if (w->opening == o) {
            unbind(w);
            w->opening = freed;
            if (freed != NULL) {
                freed->waiter_count++;
                freed = NULL;
            }
        }
    }
    end_opening(o);
    upstream_serve(endpoint);
    stream->events = first->stream.events;
    stream->user = first->stream.user;
    hand_over(first, stream);
}

static void on_reset(struct http_stream *stream, int err)
{
    struct opening *o = stream->user;
    struct upstream_endpoint *endpoint = o->endpoint;
    bool never_arrived = stream->never_arrived;
    endpoint->in_use++; // its users may let all go
    end_opening(o);
    while (o->waiter_count > 0) {
        struct waiter *found = NULL;
        LIST_FOR_EACH (node, &endpoint->waiters) {
            struct waiter *w = CONTAINER_OF(node, struct waiter, node);
            if (w->opening == o) {
                found = w;
                break;
            }
        }
        found->stream.never_arrived = never_arrived;
        fail(found, err);
    }
    endpoint->in_use--;
    upstream_maybe_free(endpoint);
}

static const struct http_stream_events opening_events = {
    .on_ready = on_ready,
    .on_reset = on_reset,
};

// ---- which one to wait for ----

static struct opening *find_opening(struct upstream_endpoint *endpoint)
{
    bool is_h2 = endpoint->speaks_h2 || endpoint->key.protocol == HTTP_CLIENT_H2;
    uint64_t now_ms = endpoint->upstream->loop->now_ms;
    LIST_FOR_EACH (node, &endpoint->openings) {
        struct opening *o = CONTAINER_OF(node, struct opening, node);
        if (o->waiter_count < (is_h2 ? JOIN_MAX : 1u) && now_ms < o->too_old_ms) {
            return o;
        }
    }
    return NULL;
}

static struct opening *new_opening(struct upstream_endpoint *endpoint, unsigned connect_timeout_ms,
                                   int *err)
{
    struct upstream *upstream = endpoint->upstream;
    struct opening *o = slab_get(&upstream->opening_slab);
    if (o == NULL) {
        *err = ERR_MEMORY;
        return NULL;
    }
    *o = (struct opening){.endpoint = endpoint, .upstream = upstream};
    list_init(&o->node);
    list_init(&o->all);
    o->too_old_ms = upstream->loop->now_ms + connect_timeout_ms / 2 + 1;
    o->stream = upstream_connect(endpoint, connect_timeout_ms, &opening_events, o, err);
    if (o->stream == NULL) {
        slab_put(&upstream->opening_slab, o);
        return NULL;
    }
    list_append(&endpoint->openings, &o->node);
    list_append(&upstream->openings, &o->all);
    return o;
}

// 0, or why there is none.
static int bind_waiter(struct waiter *w)
{
    int err = ERR_CLOSED;
    struct opening *o = find_opening(w->endpoint);
    if (o == NULL) {
        o = new_opening(w->endpoint, w->connect_timeout_ms, &err);
    }
    if (o == NULL) {
        return err;
    }
    o->waiter_count++;
    w->opening = o;
    return 0;
}

struct http_stream *upstream_wait(struct upstream_endpoint *endpoint, bool check,
                                  unsigned connect_timeout_ms,
                                  const struct http_stream_events *events, void *user, int *err)
{
    struct upstream *upstream = endpoint->upstream;
    struct waiter *w = slab_get(&upstream->waiters);
    if (w == NULL) {
        *err = ERR_MEMORY;
        return NULL;
    }
    *w = (struct waiter){
        .stream = {.ops = &waiter_ops, .events = events, .user = user, .loop = upstream->loop},
        .endpoint = endpoint,
        .upstream = upstream,
        .connect_timeout_ms = connect_timeout_ms,
        .check = check,
    };
    list_init(&w->node);
    *err = bind_waiter(w);
    if (*err != 0) {
        slab_put(&upstream->waiters, w);
        return NULL;
    }
    list_append(&endpoint->waiters, &w->node);
    return &w->stream;
}

// ---- something became free ----

// False: nothing is free.
static bool serve_oldest(struct upstream_endpoint *endpoint)
{
    struct waiter *w = oldest(endpoint);
    struct http_stream *stream =
        upstream_take_kept(endpoint, w->check, w->stream.events, w->stream.user);
    if (stream == NULL) {
        return false;
    }
    hand_over(w, stream);
    return true;
}

// Those whose connection turned out to be for one alone.
static void bind_all(struct upstream_endpoint *endpoint)
{
    struct list all; // those that fail may take others with them
    list_init(&all);
    list_splice(&all, &endpoint->waiters);
    while (!list_is_empty(&all)) {
        struct waiter *w = LIST_FIRST(&all, struct waiter, node);
        list_remove(&w->node);
        list_append(&endpoint->waiters, &w->node);
        int err = w->opening == NULL ? bind_waiter(w) : 0;
        if (err != 0) {
            // At the limit it is as good as new: whoever asks again may wait for room.
            w->stream.never_arrived = err == ERR_LIMIT;
            fail(w, err == ERR_LIMIT ? ERR_CLOSED : err);
        }
    }
}

static void serve(struct upstream_endpoint *endpoint)
{
    endpoint->in_use++; // users may let go what they get
    while (!list_is_empty(&endpoint->waiters) && serve_oldest(endpoint)) {
    }
    bind_all(endpoint);
    // One connection is enough, as long as it has room.
    if (!list_is_empty(&endpoint->room)) {
        LIST_FOR_EACH_SAFE (node, &endpoint->openings) {
            struct opening *o = CONTAINER_OF(node, struct opening, node);
            if (o->waiter_count == 0) {
                abandon(o);
            }
        }
    }
    endpoint->in_use--;
    upstream_maybe_free(endpoint);
}

void upstream_serve(struct upstream_endpoint *endpoint)
{
    struct upstream *upstream = endpoint->upstream;
    bool is_needed = !list_is_empty(&endpoint->waiters) || !list_is_empty(&endpoint->openings);
    if (is_needed && list_is_empty(&endpoint->to_serve)) {
        list_append(&upstream->to_serve, &endpoint->to_serve);
        loop_task_add(upstream->loop, &upstream->serve_task);
    }
}

void upstream_on_serve(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    struct upstream *upstream = CONTAINER_OF(task, struct upstream, serve_task);
    struct list now;
    list_init(&now);
    list_splice(&now, &upstream->to_serve);
    while (!list_is_empty(&now)) {
        struct upstream_endpoint *endpoint = LIST_FIRST(&now, struct upstream_endpoint, to_serve);
        list_remove(&endpoint->to_serve);
        serve(endpoint);
    }
}

void upstream_drop_openings(struct upstream *upstream)
{
    while (!list_is_empty(&upstream->openings)) {
        abandon(LIST_FIRST(&upstream->openings, struct opening, all));
    }
}
