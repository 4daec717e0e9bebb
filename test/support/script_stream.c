// SPDX-License-Identifier: MIT
#include "support/script_stream.h"
#include "base/invariant.h"

static struct script_stream *script_of(struct http_stream *stream)
{
    return CONTAINER_OF(stream, struct script_stream, stream);
}

static void send_head(struct http_stream *stream, const struct http_head *head)
{
    struct script_stream *script = script_of(stream);
    INVARIANT(script->status == 0 && !script->is_over);
    script->status = head->status;
    script->body_kind = head->body;
    script->body_len = head->body_len;
    for (unsigned i = 0; i < head->field_count; i++) {
        buf_printf(&script->fields, "%.*s: %.*s\n", STR_ARG(head->fields[i].name),
                   STR_ARG(head->fields[i].value));
    }
}

static void send_info(struct http_stream *stream, const struct http_head *head)
{
    INVARIANT(head->status >= 100 && head->status < 200);
    script_of(stream)->info_count++;
}

static void send_data(struct http_stream *stream, struct str data)
{
    struct script_stream *script = script_of(stream);
    INVARIANT(script->status != 0 && !script->is_ended && !script->is_over);
    buf_put(&script->body, data);
    if (script->window != 0) {
        script->unread += data.len;
        stream->queued = script->unread > script->window ? script->unread - script->window : 0;
    }
}

static void send_end(struct http_stream *stream, const struct http_field *trailers, unsigned count)
{
    (void)trailers;
    (void)count;
    struct script_stream *script = script_of(stream);
    INVARIANT(script->status != 0 && !script->is_ended && !script->is_over);
    script->is_ended = true;
}

static void reset(struct http_stream *stream, int err)
{
    (void)err;
    struct script_stream *script = script_of(stream);
    script->is_reset = true;
    script->is_over = true;
}

static void pause_input(struct http_stream *stream)
{
    script_of(stream)->is_paused = true;
    script_of(stream)->pause_count++;
}

static void resume_input(struct http_stream *stream)
{
    script_of(stream)->is_paused = false;
    script_of(stream)->resume_count++;
}

static void tunnel(struct http_stream *stream)
{
    (void)stream;
}

static void release(struct http_stream *stream)
{
    (void)stream; // of client streams
}

static const struct http_stream_ops script_ops = {
    .send_head = send_head,
    .send_info = send_info,
    .send_data = send_data,
    .send_end = send_end,
    .reset = reset,
    .pause = pause_input,
    .resume = resume_input,
    .tunnel = tunnel,
    .release = release,
};

void script_stream_init(struct script_stream *script, struct loop *loop)
{
    *script = (struct script_stream){.stream = {.ops = &script_ops, .loop = loop}};
    buf_init(&script->fields, 0);
    buf_init(&script->body, 0);
}

void script_stream_fini(struct script_stream *script)
{
    buf_fini(&script->fields);
    buf_fini(&script->body);
}

void script_stream_data(struct script_stream *script, struct str data)
{
    if (!script->is_over) {
        script->stream.events->on_data(&script->stream, data);
    }
}

void script_stream_end(struct script_stream *script)
{
    if (!script->is_over) {
        script->stream.is_complete = true;
        script->stream.events->on_end(&script->stream, NULL, 0);
    }
}

void script_stream_read(struct script_stream *script)
{
    bool was_full = stream_is_full(&script->stream);
    script->unread = 0;
    script->stream.queued = 0;
    if (script->is_over) {
        return;
    }
    if (script->is_ended) {
        script->is_over = true;
        script->stream.events->on_sent(&script->stream);
    } else if (was_full) {
        script->stream.events->on_room(&script->stream);
    }
}

void script_stream_leave(struct script_stream *script)
{
    if (!script->is_over) {
        script->is_over = true;
        script->stream.events->on_reset(&script->stream, ERR_CLOSED);
    }
}

bool script_stream_field(const struct script_stream *script, const char *name, char *to,
                         size_t size)
{
    struct str rest = buf_str(&script->fields);
    struct str line;
    while (rest.len > 0) {
        struct str tail;
        str_split(rest, '\n', &line, &tail);
        rest = tail;
        struct str field;
        struct str value;
        if (str_split(line, ':', &field, &value) && str_eq_case(field, str_from_c(name))) {
            str_copy(to, size, str_trim(value));
            return true;
        }
    }
    return false;
}

const char *script_stream_text(struct script_stream *script)
{
    buf_put_char(&script->body, '\0');
    script->body.len--;
    return script->body.p;
}
