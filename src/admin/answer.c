// SPDX-License-Identifier: MIT
// Answers: heads with the fields that all of them have, problems as RFC 9457 says.
#include "admin/admin_int.h"
#include <stdarg.h>

enum { ANSWER_FIELD_MAX = 12, ANSWER_TEXT_MAX = 32 };

struct answer_head {
    struct http_head head;
    struct http_field fields[ANSWER_FIELD_MAX];
    char etag[ANSWER_TEXT_MAX];
    char revision[ANSWER_TEXT_MAX];
    char retry_after[ANSWER_TEXT_MAX];
};

static void add_field(struct answer_head *answer, struct str name, struct str value)
{
    answer->fields[answer->head.field_count++] = (struct http_field){
        .name = name,
        .value = value,
        .id = field_find(name),
    };
}

static void add_number(struct answer_head *answer, struct str name, char *text,
                       const char *format_before, uint64_t value, const char *format_after)
{
    int len = snprintf(text, ANSWER_TEXT_MAX, "%s%llu%s", format_before, (unsigned long long)value,
                       format_after);
    add_field(answer, name, str_make(text, (size_t)len));
}

static void fill_head(const struct call *call, struct answer_head *answer, unsigned status,
                      const char *content_type)
{
    answer->head = (struct http_head){
        .fields = answer->fields,
        .version = 11,
        .keep_alive = true,
        .status = status,
        .reason = http_reason(status),
    };
    if (content_type != NULL) {
        add_field(answer, STR("Content-Type"), str_from_c(content_type));
        add_field(answer, STR("X-Content-Type-Options"), STR("nosniff"));
    }
    add_field(answer, STR("Cache-Control"), STR("no-store"));
    if (call->etag != 0) {
        add_number(answer, STR("ETag"), answer->etag, "\"", call->etag, "\"");
    }
    if (call->revision != 0) {
        add_number(answer, STR("Pointsman-Revision"), answer->revision, "", call->revision, "");
    }
    if (call->allow != NULL) {
        add_field(answer, STR("Allow"), str_from_c(call->allow));
    }
    if (call->retry_after_sec != 0) {
        add_number(answer, STR("Retry-After"), answer->retry_after, "", call->retry_after_sec, "");
    }
    if (status == 401) {
        add_field(answer, STR("WWW-Authenticate"), STR("Bearer realm=\"pointsman\""));
    }
}

static void send_head(struct call *call, struct answer_head *answer)
{
    call->is_answered = true;
    call->stream->ops->send_head(call->stream, &answer->head);
}

void answer_send(struct call *call, unsigned status, const char *content_type, struct str body)
{
    if (call->stream == NULL || call->is_answered) {
        return;
    }
    struct answer_head answer;
    fill_head(call, &answer, status, content_type);
    bool has_body = content_type != NULL;
    answer.head.body = status == 204 || status == 304 ? BODY_NONE : BODY_LENGTH;
    answer.head.body_len = has_body ? body.len : 0;
    call->is_over = true;
    send_head(call, &answer);
    if (has_body && body.len > 0 && !call->is_head && call->stream != NULL) {
        call->stream->ops->send_data(call->stream, body);
    }
    if (call->stream != NULL) {
        call->stream->ops->send_end(call->stream, NULL, 0);
    }
}

void answer_begin(struct call *call, unsigned status, const char *content_type)
{
    if (call->stream == NULL || call->is_answered) {
        return;
    }
    struct answer_head answer;
    fill_head(call, &answer, status, content_type);
    answer.head.body = BODY_CHUNKED;
    send_head(call, &answer);
    if (call->is_head && call->stream != NULL) {
        call->is_over = true;
        call->stream->ops->send_end(call->stream, NULL, 0);
        return;
    }
    call_kick(call);
}

void answer_put_value(const struct call *call, struct buf *to, struct str text)
{
    json_t *tree = call->is_pretty ? json_loadb(text.p, text.len, JSON_DECODE_ANY, NULL) : NULL;
    char *pretty = tree == NULL ? NULL : json_dumps(tree, JSON_INDENT(2) | JSON_ENCODE_ANY);
    buf_put(to, pretty == NULL ? text : str_from_c(pretty));
    free(pretty);
    json_decref(tree);
}

static void send_out(struct call *call, unsigned status, const char *content_type)
{
    if (call->out.failed) {
        buf_clear(&call->out);
        answer_send(call, 500, "text/plain; charset=utf-8", STR("out of memory\n"));
        return;
    }
    answer_send(call, status, content_type, buf_str(&call->out));
}

void answer_json(struct call *call, unsigned status, struct str text)
{
    buf_clear(&call->out);
    answer_put_value(call, &call->out, text);
    buf_put_char(&call->out, '\n');
    send_out(call, status, "application/json");
}

void answer_json_tree(struct call *call, unsigned status, json_t *tree)
{
    char *text = tree == NULL ? NULL
                              : json_dumps(tree, (call->is_pretty ? JSON_INDENT(2) : JSON_COMPACT) |
                                                     JSON_REAL_PRECISION(12));
    json_decref(tree);
    buf_clear(&call->out);
    if (text == NULL) {
        call->out.failed = true;
    } else {
        buf_put(&call->out, str_from_c(text));
        buf_put_char(&call->out, '\n');
    }
    free(text);
    send_out(call, status, "application/json");
}

void answer_put_errors(struct buf *to, const struct problems *problems)
{
    unsigned kept = problems->count < PROBLEM_MAX ? problems->count : PROBLEM_MAX;
    buf_put_char(to, '[');
    for (unsigned i = 0; i < kept; i++) {
        buf_put(to, i == 0 ? STR("{\"pointer\":") : STR(",{\"pointer\":"));
        buf_put_json(to, str_from_c(problems->items[i].pointer));
        buf_put(to, STR(",\"detail\":"));
        buf_put_json(to, str_from_c(problems->items[i].detail));
        buf_put_char(to, '}');
    }
    buf_put_char(to, ']');
}

static void put_member(struct buf *out, const char *name, const char *text)
{
    if (text != NULL) {
        buf_printf(out, ",\"%s\":", name);
        buf_put_json(out, str_from_c(text));
    }
}

// `errors` is a JSON array, or empty.
static void send_problem(struct call *call, unsigned status, struct str detail, struct str errors)
{
    if (status == 503 && call->retry_after_sec == 0) {
        call->retry_after_sec = 1;
    }
    struct buf *out = &call->out;
    buf_clear(out);
    if (call->is_ceryx) {
        buf_put(out, STR("{\"detail\":"));
        buf_put_json(out, detail);
        buf_put(out, STR("}\n"));
        send_out(call, status, "application/json");
        return;
    }
    buf_put(out, STR("{\"type\":\"about:blank\",\"title\":"));
    buf_put_json(out, http_reason(status));
    buf_printf(out, ",\"status\":%u,\"detail\":", status);
    buf_put_json(out, detail);
    put_member(out, "outcome", call->outcome);
    put_member(out, "id", call->request_id[0] == '\0' ? NULL : call->request_id);
    put_member(out, "lagging", call->lagging);
    buf_put(out, STR(",\"errors\":"));
    buf_put(out, errors.len == 0 ? STR("[]") : errors);
    buf_put(out, STR("}\n"));
    if (call->is_pretty && !out->failed) {
        struct str text = str_make(out->p, out->len - 1);
        char *copy = str_dup(text);
        buf_clear(out);
        answer_put_value(call, out, str_from_c(copy));
        buf_put_char(out, '\n');
        out->failed = out->failed || copy == NULL;
        free(copy);
    }
    send_out(call, status, "application/problem+json");
}

void answer_status(struct call *call, unsigned status, const char *format, ...)
{
    char detail[512];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    size_t used = len < 0 ? 0 : (size_t)len;
    used = used < sizeof detail ? used : sizeof detail - 1;
    send_problem(call, status, str_make(detail, used), STR_NULL);
}

void answer_err(struct call *call, int err)
{
    send_problem(call, (unsigned)err_status(err), str_from_c(err_text(err)), STR_NULL);
}

void answer_problems(struct call *call, const struct problems *problems)
{
    const char *detail = err_text(problems->err);
    if (problems->count > 0) {
        detail = problems->items[0].detail;
    }
    struct buf errors;
    buf_init(&errors, 0);
    answer_put_errors(&errors, problems);
    send_problem(call, (unsigned)err_status(problems->err), str_from_c(detail),
                 errors.failed ? STR_NULL : buf_str(&errors));
    buf_fini(&errors);
}

void answer_errors(struct call *call, unsigned status, struct str detail, json_t *errors)
{
    char *text = errors == NULL ? NULL : json_dumps(errors, JSON_COMPACT);
    send_problem(call, status, detail, str_from_c(text));
    free(text);
    json_decref(errors);
}
