// SPDX-License-Identifier: MIT
// The life of a call: from a request's head to the end of its stream, and of the last answer that it
// waits for.
#include "admin/admin_int.h"
#include "http/uri.h"

void call_hold(struct call *call)
{
    call->holds++;
}

static void free_call(struct loop *loop, struct loop_deferred *deferred)
{
    (void)loop;
    struct call *call = CONTAINER_OF(deferred, struct call, deferred);
    secret_wipe_buf(&call->body); // a certificate's key
    buf_fini(&call->body);
    secret_wipe_buf(&call->out); // the same, of an export
    buf_fini(&call->out);
    free(call->key);
    free(call->late_text);
    free(call->written_text);
    free(call->text);
    free(call);
}

static void end_unless_used(struct call *call)
{
    if (call->stream != NULL || call->holds > 0 || call->is_freed) {
        return;
    }
    call->is_freed = true;
    list_remove(&call->node);
    list_remove(&call->link);
    loop_task_cancel(&call->task);
    loop_timer_cancel(call->admin->loop, &call->timer);
    if (call->ops != NULL && call->ops->free_state != NULL && call->state != NULL) {
        call->ops->free_state(call);
    }
    call->state = NULL;
    loop_timer_cancel(call->admin->loop, &call->early_timer);
    publish_names_free(&call->names);
    store_request_free(&call->early);
    // Its buffers may be on their way to the kernel until the end of the event.
    loop_defer(call->admin->loop, &call->deferred, free_call);
}

void call_drop(struct call *call)
{
    call->holds--;
    end_unless_used(call);
}

// The stream is over or given up: forgets it.
static void leave_stream(struct call *call)
{
    if (call->stream == NULL) {
        return;
    }
    call->stream->user = NULL;
    call->stream = NULL;
    call_hold(call);
    if (call->ops != NULL && call->ops->on_gone != NULL) {
        call->ops->on_gone(call);
    }
    call_wait_end(call);
    call_drop(call);
}

void call_cut(struct call *call)
{
    struct http_stream *stream = call->stream;
    if (stream != NULL) {
        call->is_over = true;
        leave_stream(call);
        stream->ops->reset(stream, ERR_CLOSED);
    }
}

void call_kick(struct call *call)
{
    if (call->stream != NULL && call->is_answered && !call->is_over) {
        loop_task_add(call->admin->loop, &call->task);
    }
}

static void on_task(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    struct call *call = CONTAINER_OF(task, struct call, task);
    if (call->stream == NULL || call->is_over || stream_is_full(call->stream)) {
        return; // on_room comes back
    }
    buf_clear(&call->out);
    enum flow flow = call->ops->step(call, &call->out);
    if (call->out.failed) {
        flow = FLOW_CUT;
    }
    if (call->out.len > 0 && flow != FLOW_CUT) {
        call->stream->ops->send_data(call->stream, buf_str(&call->out));
    }
    if (call->stream == NULL) {
        return;
    }
    switch (flow) {
    case FLOW_MORE:
        loop_task_add(call->admin->loop, &call->task);
        break;
    case FLOW_WAIT:
        break;
    case FLOW_END:
        call->is_over = true;
        call->stream->ops->send_end(call->stream, NULL, 0);
        break;
    case FLOW_CUT:
        call_cut(call);
        break;
    }
}

static void on_data(struct http_stream *stream, struct str data)
{
    struct call *call = stream->user;
    if (call == NULL || call->is_over) {
        return; // answered already: nobody wants it
    }
    if (call->ops != NULL && call->ops->on_data != NULL) {
        call->ops->on_data(call, data);
        return;
    }
    buf_put(&call->body, data);
    if (call->body.failed) {
        answer_status(call, 413, "the body is larger than %u bytes", ADMIN_BODY_MAX);
    }
}

static void on_end(struct http_stream *stream, const struct http_field *trailers, unsigned count)
{
    (void)trailers;
    (void)count;
    struct call *call = stream->user;
    if (call == NULL || call->is_body_done) {
        return;
    }
    call->is_body_done = true;
    if (call->is_over) {
        return;
    }
    if (call->ops != NULL && call->ops->on_end != NULL) {
        call->ops->on_end(call);
        return;
    }
    call->row->run(call);
}

static void on_full(struct http_stream *stream)
{
    (void)stream; // nothing is produced while the stream is full (on_task)
}

static void on_room(struct http_stream *stream)
{
    if (stream->user != NULL) {
        call_kick(stream->user);
    }
}

static void on_sent(struct http_stream *stream)
{
    if (stream->user != NULL) {
        leave_stream(stream->user);
    }
}

static void on_reset(struct http_stream *stream, int err)
{
    (void)err;
    on_sent(stream);
}

static const struct http_stream_events events = {
    .on_data = on_data,
    .on_end = on_end,
    .on_full = on_full,
    .on_room = on_room,
    .on_sent = on_sent,
    .on_reset = on_reset,
};

// Copies what the call needs of the head into one block; views into it.
static bool copy_head(struct call *call, const struct http_head *head, struct str *query)
{
    struct {
        struct str *to;
        struct str from;
    } parts[] = {
        {&call->path, head->path},
        {query, str_from(head->query, 1)},
        {&call->authority, head->authority},
        {&call->origin, http_head_value(head, FIELD_ORIGIN)},
        {&call->authorization, http_head_value(head, FIELD_AUTHORIZATION)},
        {&call->content_type, http_head_value(head, FIELD_CONTENT_TYPE)},
        {&call->if_match, http_head_value(head, FIELD_IF_MATCH)},
        {&call->if_none_match, http_head_value(head, FIELD_IF_NONE_MATCH)},
        {&call->last_event_id, http_head_value(head, FIELD_LAST_EVENT_ID)},
    };
    size_t total = 1;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        total += parts[i].from.len;
    }
    call->text = malloc(total);
    if (call->text == NULL) {
        return false;
    }
    char *at = call->text;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i].from.len > 0) {
            memcpy(at, parts[i].from.p, parts[i].from.len);
        }
        *parts[i].to = str_make(at, parts[i].from.len);
        at += parts[i].from.len;
    }
    return true;
}

// Decodes a part of call->text in place.
static bool decode_part(const struct call *call, struct str part, struct str *out)
{
    char *at = call->text + (part.p - call->text);
    size_t len = 0;
    if (uri_decode(part, at, &len) != 0) {
        return false;
    }
    *out = str_make(at, len);
    return true;
}

// 0, or the status to refuse with.
static unsigned read_query(struct call *call, struct str query)
{
    while (query.len > 0) {
        struct str pair;
        struct str rest;
        str_split(query, '&', &pair, &rest);
        query = rest;
        if (pair.len == 0) {
            continue;
        }
        if (call->param_count == ADMIN_PARAM_MAX) {
            return 400;
        }
        struct call_param *param = &call->params[call->param_count++];
        struct str name;
        struct str value;
        str_split(pair, '=', &name, &value);
        if (!decode_part(call, name, &param->name) ||
            (value.len > 0 && !decode_part(call, value, &param->value))) {
            return 400;
        }
    }
    call->is_pretty = call_switch(call, STR("pretty"));
    return 0;
}

bool call_param(const struct call *call, struct str name, struct str *value)
{
    for (unsigned i = 0; i < call->param_count; i++) {
        if (str_eq(call->params[i].name, name)) {
            *value = call->params[i].value;
            return true;
        }
    }
    return false;
}

bool call_switch(const struct call *call, struct str name)
{
    struct str value;
    return call_param(call, name, &value) && text_is_true(value);
}

// Every call that is no GET changes declarations.
static bool is_write(const struct call *call)
{
    return call->row->method != METHOD_GET && call->row->method != METHOD_OTHER;
}

// Ceryx' paths are there when it is enabled, and on its own address there are no others.
static void find_row(struct call *call)
{
    const struct config *config = call->admin->deps.config;
    bool is_below = str_starts(call->path, STR("/api/"));
    call->is_ceryx = call->is_ceryx_address || (is_below && config->ceryx.enabled);
    if (is_below ? !config->ceryx.enabled : call->is_ceryx_address) {
        return;
    }
    call->row = calls_find(call->path, call->method, call->rest, &call->allow);
}

// False: answered.
static bool admit_call(struct call *call, struct str query, const struct http_head *head,
                       const struct in6_addr *peer)
{
    unsigned query_status = read_query(call, query);
    find_row(call);
    const char *detail = NULL;
    unsigned status = guard_check(call->admin, call, peer, &detail);
    if (status != 0) {
        call->allow = NULL;
        answer_status(call, status, "%s", detail);
        return false;
    }
    if (call->method == METHOD_OPTIONS && str_eq(call->path, STR("*"))) {
        call->allow = "GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS";
    }
    if (call->row == NULL && call->allow == NULL) {
        answer_status(call, 404, "there is no %.*s", STR_ARG(call->path));
        return false;
    }
    if (call->row == NULL && call->method == METHOD_OPTIONS) {
        answer_send(call, 204, NULL, STR_NULL);
        return false;
    }
    if (call->row == NULL) {
        answer_status(call, 405, "%.*s takes %s", STR_ARG(call->path), call->allow);
        return false;
    }
    if (call->admin->deps.files != NULL && is_write(call)) {
        struct files_status files;
        files_get_status(call->admin->deps.files, &files);
        answer_status(call, 409, "declarations come from the files in %s: change them there",
                      files.folder);
        return false;
    }
    if (query_status != 0) {
        answer_status(call, query_status, "the query is malformed or has more than %u parameters",
                      ADMIN_PARAM_MAX);
        return false;
    }
    if (head->body != BODY_NONE && !guard_type_is_known(call->content_type)) {
        answer_status(call, 415,
                      "the body must be application/json, application/merge-patch+json "
                      "or application/x-ndjson");
        return false;
    }
    if (call->row->body == CALL_COLLECT && head->body == BODY_LENGTH &&
        head->body_len > ADMIN_BODY_MAX) {
        answer_status(call, 413, "the body is larger than %u bytes", ADMIN_BODY_MAX);
        return false;
    }
    return true;
}

static struct call *make_call(struct admin *admin, struct http_stream *stream,
                              const struct http_head *head)
{
    struct call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        return NULL;
    }
    call->admin = admin;
    call->stream = stream;
    call->is_head = head->method == METHOD_HEAD;
    call->method = call->is_head ? METHOD_GET : head->method;
    call->version = head->version;
    call->is_body_done =
        head->body == BODY_NONE || (head->body == BODY_LENGTH && head->body_len == 0);
    list_init(&call->link);
    loop_task_init(&call->task, on_task);
    loop_timer_init(&call->timer, NULL);
    loop_timer_init(&call->early_timer, NULL);
    buf_init(&call->body, ADMIN_BODY_MAX);
    buf_init(&call->out, 0);
    list_append(&admin->calls, &call->node);
    return call;
}

static void begin(struct admin *admin, struct http_stream *stream, const struct http_head *head,
                  const struct in6_addr *peer, bool is_ceryx_address)
{
    stream->events = &events;
    stream->user = NULL;
    struct call *call = make_call(admin, stream, head);
    if (call == NULL) {
        stream->ops->reset(stream, ERR_MEMORY);
        return;
    }
    call->is_ceryx_address = is_ceryx_address;
    stream->user = call;
    struct str query = STR_NULL;
    if (!copy_head(call, head, &query)) {
        call_cut(call);
        return;
    }
    if (!admit_call(call, query, head, peer)) {
        return;
    }
    if (head->expect_continue && !call->is_body_done && head->version >= 11) {
        struct http_head info = {.version = 11, .status = 100, .reason = http_reason(100)};
        stream->ops->send_info(stream, &info);
    }
    if (call->is_body_done || call->row->body == CALL_STREAM) {
        call->row->run(call);
    }
}

void call_begin(struct admin *admin, struct http_stream *stream, const struct http_head *head,
                const struct in6_addr *peer)
{
    begin(admin, stream, head, peer, false);
}

void call_begin_ceryx(struct admin *admin, struct http_stream *stream, const struct http_head *head,
                      const struct in6_addr *peer)
{
    begin(admin, stream, head, peer, true);
}
