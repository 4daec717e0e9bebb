// SPDX-License-Identifier: MIT
#include "sim/sim_stream.h"
#include "http/h1/h1_parse.h"
#include "sim/sim.h"
#include <stdlib.h>

static void require_usable(struct sim_stream *s)
{
    SIM_REQUIRE(s->sim, s->life == SIM_LIVE);
}

static void end_life(struct sim_stream *s, enum sim_life life)
{
    SIM_REQUIRE(s->sim, sim_is_live(s));
    s->life = life;
    loop_timer_cancel(s->stream.loop, &s->connect_timer);
    list_remove(&s->dirty);
    list_remove(&s->node);
    list_append(&s->sim->dead, &s->node);
    if (s->side == SIM_CLIENT) {
        s->sim->server->conn_count--;
    }
}

static void mark_dirty(struct sim_stream *s)
{
    if (list_is_empty(&s->dirty)) {
        list_append(&s->stream.loop->dirty, &s->dirty);
    }
}

// ---- what the transaction does ----

static void record_fields(struct sim_stream *s, const struct http_head *head)
{
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct http_field *field = &head->fields[i];
        buf_printf(&s->fields, "%.*s: %.*s\n", STR_ARG(field->name), STR_ARG(field->value));
        SIM_REQUIRE(s->sim, field->id != FIELD_CONNECTION && field->id != FIELD_CONTENT_LENGTH &&
                                field->id != FIELD_TRANSFER_ENCODING);
        if (str_eq_case(field->name, STR("X-Key"))) {
            SIM_REQUIRE(s->sim, str_to_u64(field->value, &s->out_key) == 0);
        }
    }
}

static void send_head(struct http_stream *stream, const struct http_head *head)
{
    struct sim_stream *s = sim_stream_of(stream);
    require_usable(s);
    SIM_REQUIRE(s->sim, !s->out_head);
    s->out_head = true;
    s->out_body = head->body;
    s->out_len = head->body_len;
    s->out_left = head->body == BODY_LENGTH ? head->body_len : 0;
    s->out_upgrade = head->upgrade;
    if (s->side == SIM_CLIENT) {
        SIM_REQUIRE(s->sim, head->status >= 200 || head->status == 101);
        s->status = head->status;
        if (s->method == METHOD_HEAD) {
            s->out_left = 0;
        }
    } else {
        s->method = head->method;
        buf_printf(&s->fields, "%.*s %.*s\nHost: %.*s\n", STR_ARG(head->method_text),
                   STR_ARG(head->target), STR_ARG(head->authority));
    }
    record_fields(s, head);
    sim_on_user_head(s);
    s->unread += 100; // heads have bytes, too
    mark_dirty(s);
}

static void send_info(struct http_stream *stream, const struct http_head *head)
{
    struct sim_stream *s = sim_stream_of(stream);
    require_usable(s);
    SIM_REQUIRE(s->sim, s->side == SIM_CLIENT && !s->out_head);
    SIM_REQUIRE(s->sim, head->status >= 100 && head->status < 200 && head->status != 101);
    s->infos++;
    s->last_info = head->status;
    s->unread += 100;
    mark_dirty(s);
}

static bool drops_content(const struct sim_stream *s)
{
    return !s->is_tunnel &&
           (s->out_body == BODY_NONE || (s->side == SIM_CLIENT && s->method == METHOD_HEAD));
}

static void send_data(struct http_stream *stream, struct str data)
{
    struct sim_stream *s = sim_stream_of(stream);
    require_usable(s);
    SIM_REQUIRE(s->sim, s->out_head && !s->out_ended);
    if (drops_content(s)) {
        return;
    }
    if (!s->is_tunnel && s->out_body == BODY_LENGTH) {
        SIM_REQUIRE(s->sim, data.len <= s->out_left);
        s->out_left -= data.len;
    }
    if (s->out_key == 0) {
        buf_put(&s->body, data);
    }
    for (size_t i = 0; s->out_key != 0 && i < data.len; i++) {
        SIM_REQUIRE(s->sim, data.p[i] == sim_byte(s->out_key, s->out_at + i));
    }
    s->out_at += data.len;
    s->unread += data.len;
    mark_dirty(s);
}

static void send_end(struct http_stream *stream, const struct http_field *trailers, unsigned count)
{
    struct sim_stream *s = sim_stream_of(stream);
    require_usable(s);
    SIM_REQUIRE(s->sim, s->out_head && !s->out_ended);
    SIM_REQUIRE(s->sim, s->is_tunnel || s->out_body != BODY_LENGTH || s->out_left == 0);
    for (unsigned i = 0; i < count; i++) {
        buf_printf(&s->fields, "%.*s: %.*s\n", STR_ARG(trailers[i].name),
                   STR_ARG(trailers[i].value));
    }
    s->trailers = count;
    s->out_ended = true;
    sim_on_user_end(s);
    mark_dirty(s);
}

static void reset(struct http_stream *stream, int err)
{
    (void)err;
    struct sim_stream *s = sim_stream_of(stream);
    SIM_REQUIRE(s->sim, sim_is_live(s));
    end_life(s, SIM_RESET);
}

static void pause_input(struct http_stream *stream)
{
    struct sim_stream *s = sim_stream_of(stream);
    require_usable(s);
    SIM_REQUIRE(s->sim, !s->is_paused);
    s->is_paused = true;
    s->pauses++;
}

static void resume_input(struct http_stream *stream)
{
    struct sim_stream *s = sim_stream_of(stream);
    require_usable(s);
    SIM_REQUIRE(s->sim, s->is_paused);
    s->is_paused = false;
    s->resumes++;
}

static void tunnel(struct http_stream *stream)
{
    struct sim_stream *s = sim_stream_of(stream);
    require_usable(s);
    SIM_REQUIRE(s->sim, !s->is_tunnel && !s->is_paused);
    if (s->is_raw) {
        s->out_head = true; // of neither side is there a head
        s->in_head = true;
    } else {
        SIM_REQUIRE(s->sim, s->wants_upgrade);
        SIM_REQUIRE(s->sim, s->side == SIM_CLIENT ? s->status == 101 : s->in_status == 101);
    }
    s->is_tunnel = true;
    s->in_ended = false;
    s->out_ended = false;
    stream->is_complete = false;
}

static void release(struct http_stream *stream)
{
    struct sim_stream *s = sim_stream_of(stream);
    require_usable(s);
    SIM_REQUIRE(s->sim, s->side == SIM_ORIGIN && s->in_ended);
    end_life(s, SIM_RELEASED);
}

static const struct http_stream_ops sim_ops = {
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

static void on_connect_timeout(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct sim_stream *s = CONTAINER_OF(timer, struct sim_stream, connect_timer);
    end_life(s, SIM_GONE);
    s->stream.events->on_reset(&s->stream, ERR_TIMEOUT);
}

struct sim_stream *sim_stream_new(struct sim *sim, enum sim_side side, enum sim_life life)
{
    struct sim_stream *s = calloc(1, sizeof *s);
    SIM_REQUIRE(sim, s != NULL);
    s->stream.ops = &sim_ops;
    s->stream.loop = &sim->loop;
    s->sim = sim;
    s->side = side;
    s->life = life;
    s->window = sim->window;
    list_init(&s->dirty);
    loop_timer_init(&s->connect_timer, on_connect_timeout);
    buf_init(&s->fields, 0);
    buf_init(&s->body, 0);
    list_append(&sim->live, &s->node);
    return s;
}

void sim_stream_free(struct sim_stream *s)
{
    list_remove(&s->node);
    list_remove(&s->dirty);
    loop_timer_cancel(s->stream.loop, &s->connect_timer);
    buf_fini(&s->fields);
    buf_fini(&s->body);
    free(s);
}

// The response went out whole; a tunnel is over when both directions have ended.
static bool is_sent(const struct sim_stream *s)
{
    return s->side == SIM_CLIENT && s->out_ended && s->stream.queued == 0 &&
           (!s->is_tunnel || s->in_ended);
}

static void flush(struct sim_stream *s)
{
    s->stream.queued = s->window != 0 && s->unread > s->window ? s->unread - s->window : 0;
    if (is_sent(s)) {
        s->stream.bytes_out = s->out_at;
        end_life(s, SIM_SENT);
        s->stream.events->on_sent(&s->stream);
    } else if (s->stream.queued >= HTTP_AHEAD_LEN && !s->was_full) {
        s->was_full = true;
        s->stream.events->on_full(&s->stream);
    } else if (s->was_full && s->stream.queued < HTTP_AHEAD_LEN / 2) {
        s->was_full = false;
        s->stream.events->on_room(&s->stream);
    }
}

void sim_flush(struct loop *loop)
{
    while (!list_is_empty(&loop->dirty)) {
        struct sim_stream *s = LIST_FIRST(&loop->dirty, struct sim_stream, dirty);
        list_remove(&s->dirty);
        flush(s);
    }
}

// ---- what the peer does ----

static void require_speaking(struct sim_stream *s)
{
    require_usable(s);
    SIM_REQUIRE(s->sim, !s->is_paused && !s->in_ended);
    SIM_REQUIRE(s->sim, s->side == SIM_CLIENT || s->in_head);
}

void sim_data(struct sim_stream *s, struct str data)
{
    require_speaking(s);
    if (!s->is_tunnel) {
        SIM_REQUIRE(s->sim, s->in_body != BODY_NONE);
        SIM_REQUIRE(s->sim, s->in_body != BODY_LENGTH || data.len <= s->in_left);
        s->in_left -= s->in_body == BODY_LENGTH ? data.len : 0;
    }
    s->in_at += data.len;
    s->stream.bytes_in += data.len;
    // A copy that ends with the event, so that a view that is kept too long is found.
    char *bytes = malloc(data.len + 1);
    SIM_REQUIRE(s->sim, bytes != NULL);
    memcpy(bytes, data.p, data.len);
    s->stream.events->on_data(&s->stream, str_make(bytes, data.len));
    sim_after_event(s->sim);
    free(bytes);
}

void sim_text(struct sim_stream *s, const char *text)
{
    sim_data(s, str_from_c(text));
}

void sim_fill(struct sim_stream *s, size_t len)
{
    char *bytes = malloc(len + 1);
    SIM_REQUIRE(s->sim, bytes != NULL);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = sim_byte(s->in_key, s->in_at + i);
    }
    sim_data(s, str_make(bytes, len));
    free(bytes);
}

static void end_message(struct sim_stream *s, const struct http_field *trailers, unsigned count)
{
    require_speaking(s);
    SIM_REQUIRE(s->sim, s->is_tunnel || s->in_body != BODY_LENGTH || s->in_left == 0);
    s->in_ended = true;
    s->stream.is_complete = true;
    s->stream.events->on_end(&s->stream, trailers, count);
    if (s->is_tunnel && sim_is_live(s)) {
        mark_dirty(s); // with both directions ended it is over
    }
    sim_after_event(s->sim);
}

void sim_end(struct sim_stream *s)
{
    end_message(s, NULL, 0);
}

void sim_end_with_trailer(struct sim_stream *s, const char *name, const char *value)
{
    struct http_field field = {str_from_c(name), str_from_c(value), FIELD_OTHER};
    end_message(s, &field, 1);
}

void sim_connected(struct sim_stream *s)
{
    SIM_REQUIRE(s->sim, s->life == SIM_CONNECTING);
    s->life = SIM_LIVE;
    loop_timer_cancel(s->stream.loop, &s->connect_timer);
    s->stream.events->on_ready(&s->stream);
    sim_after_event(s->sim);
}

struct sim_stream *sim_connected_anew(struct sim_stream *s)
{
    SIM_REQUIRE(s->sim, s->life == SIM_CONNECTING);
    struct sim_stream *other = sim_stream_new(s->sim, SIM_ORIGIN, SIM_LIVE);
    other->number = s->number;
    other->member = s->member;
    other->in_key = s->in_key;
    other->is_raw = s->is_raw;
    other->stream.events = s->stream.events;
    other->stream.user = s->stream.user;
    other->stream.is_h2 = true;
    s->stream.events = NULL; // whoever touches it now is wrong
    end_life(s, SIM_GONE);
    s->sim->origin = other;
    other->stream.events->on_ready(&other->stream);
    sim_after_event(s->sim);
    return other;
}

static void give_head(struct sim_stream *s, const struct http_head *head)
{
    s->in_status = head->status;
    if (head->status < 200 && head->status != 101) {
        s->stream.events->on_info(&s->stream, head);
        return;
    }
    bool is_switch = head->status == 101;
    bool is_empty = !is_switch &&
                    (head->body == BODY_NONE || (head->body == BODY_LENGTH && head->body_len == 0));
    s->in_head = true;
    s->wants_upgrade = is_switch;
    s->in_body = head->body;
    s->in_left = head->body_len;
    s->stream.is_complete = is_empty;
    s->stream.events->on_head(&s->stream, head);
    if (is_empty && s->life == SIM_LIVE) {
        s->in_ended = true;
        s->stream.events->on_end(&s->stream, NULL, 0);
    }
}

void sim_respond(struct sim_stream *s, const char *text)
{
    require_usable(s);
    SIM_REQUIRE(s->sim, s->side == SIM_ORIGIN && s->out_head && !s->in_head && !s->is_paused);
    struct http_field fields[H1_FIELD_MAX];
    struct http_head head;
    size_t len = strlen(text);
    char *bytes = malloc(len);
    SIM_REQUIRE(s->sim, bytes != NULL);
    memcpy(bytes, text, len);
    struct h1_limits limits = {.head_max = 4 << 20, .target_max = 1 << 20, .field_max = 200};
    ptrdiff_t n = h1_parse_response(bytes, len, s->method, &limits, fields, &head);
    SIM_REQUIRE(s->sim, n == (ptrdiff_t)len);
    s->stream.bytes_in += len;
    give_head(s, &head);
    free(bytes);
    sim_after_event(s->sim);
}

void sim_read(struct sim_stream *s)
{
    s->unread = 0;
    if (s->life == SIM_LIVE) {
        mark_dirty(s);
    }
    sim_after_event(s->sim);
}

void sim_leave(struct sim_stream *s, int err)
{
    end_life(s, SIM_GONE);
    if (s->side == SIM_CLIENT) {
        s->stream.bytes_out = s->out_at;
    } else {
        s->stream.bytes_out = s->sim->is_unsent || !s->out_head ? 0 : 100 + s->out_at;
    }
    s->stream.events->on_reset(&s->stream, err);
    sim_after_event(s->sim);
}

const char *sim_body(struct sim_stream *s)
{
    buf_put_char(&s->body, '\0');
    s->body.len--;
    return s->body.p;
}

bool sim_has_field(struct sim_stream *s, const char *line)
{
    struct str rest = buf_str(&s->fields);
    while (rest.len > 0) {
        struct str one;
        struct str tail;
        str_split(rest, '\n', &one, &tail);
        rest = tail;
        if (str_eq_case(one, str_from_c(line))) {
            return true;
        }
    }
    return false;
}
