// SPDX-License-Identifier: MIT
// Declarations into batches. A batch is all or nothing: what the node refuses is told and taken out, and the
// rest is sent again.
#include "admin/admin.h"
#include "cli/cli.h"
#include "cli/import_int.h"
#include "cli/input.h"
#include <unistd.h>

static void free_op(struct import_op *op)
{
    if (op->line != NULL) {
        explicit_bzero(op->line, op->len);
    }
    free(op->line);
    free(op->source);
    *op = (struct import_op){0};
}

void import_free_ops(struct import *import)
{
    for (unsigned i = 0; i < import->op_count; i++) {
        free_op(&import->ops[i]);
    }
    import->op_count = 0;
    import->op_bytes = 0;
}

static void wipe_buf(struct buf *buf)
{
    if (buf->p != NULL) {
        explicit_bzero(buf->p, buf->size);
    }
    buf_fini(buf);
}

// ---- what is said of each line ----

static void tell_errors(struct import *import, const struct import_op *op, const json_t *answer)
{
    const json_t *errors = json_object_get(answer, "errors");
    struct buf text;
    buf_init(&text, 0);
    size_t i;
    json_t *error;
    json_array_foreach(errors, i, error)
    {
        const char *pointer = json_string_value(json_object_get(error, "pointer"));
        const char *detail = json_string_value(json_object_get(error, "detail"));
        bool has_pointer = pointer != NULL && pointer[0] != '\0';
        buf_printf(&text, "%s%s%s%s", i > 0 ? "; " : "", has_pointer ? pointer : "",
                   has_pointer ? ": " : "", detail != NULL ? detail : "");
    }
    if (text.len == 0) {
        const char *detail = json_string_value(json_object_get(answer, "detail"));
        buf_put(&text, str_from_c(detail));
    }
    import_tell(import, IMPORT_LEFT_OUT, str_from_c(op->source), "refused: %.*s",
                STR_ARG(buf_str(&text)));
    buf_fini(&text);
}

// One line of the answer. `map`: which operation each line of the request was. 0; -1: it is none.
static int take_answer(struct import *import, const unsigned *map, unsigned count, struct str text)
{
    json_t *answer = json_loadb(text.p, text.len, 0, NULL);
    json_int_t number = json_integer_value(json_object_get(answer, "line"));
    const char *result = json_string_value(json_object_get(answer, "result"));
    if (result == NULL || number < 1 || number > (json_int_t)count) {
        json_decref(answer);
        return -1;
    }
    struct import_op *op = &import->ops[map[number - 1]];
    if (json_integer_value(json_object_get(answer, "status")) == 503) {
        import->is_busy = true; // written or not: to write it again does no harm
    } else if (strcmp(result, "failed") == 0) {
        tell_errors(import, op, answer);
        op->is_answered = true;
        import->refused++;
    } else if (strcmp(result, "skipped") != 0) { // without what failed it may be good
        op->is_answered = true;
        import->created += strcmp(result, "created") == 0;
        import->updated += strcmp(result, "updated") == 0;
        import->unchanged += strcmp(result, "unchanged") == 0;
    }
    json_decref(answer);
    return 0;
}

static void take_answers(struct import *import, const unsigned *map, unsigned count,
                         const struct answer *answer)
{
    struct str rest = buf_str(&answer->body);
    unsigned lines = 0;
    while (rest.len > 0) {
        struct str line;
        str_split(rest, '\n', &line, &rest);
        if (take_answer(import, map, count, line) != 0) {
            break;
        }
        lines++;
    }
    if (lines == 0 && answer->status == 503) {
        import->is_busy = true;
    } else if (lines < count) {
        import->has_failed = true;
        answer_report(answer, "import");
    }
}

// Sends what has no answer yet. Returns how many these were.
static unsigned send_round(struct import *import)
{
    unsigned map[IMPORT_BATCH_LINES];
    unsigned count = 0;
    struct buf body;
    buf_init(&body, 0);
    buf_reserve(&body,
                import->op_bytes + import->op_count); // a buffer that moves leaves keys behind
    for (unsigned i = 0; i < import->op_count; i++) {
        if (!import->ops[i].is_answered) {
            map[count++] = i;
            buf_put(&body, str_make(import->ops[i].line, import->ops[i].len));
            buf_put_char(&body, '\n');
        }
    }
    if (body.failed) {
        import_fail(import, "out of memory");
    } else if (count > 0) {
        struct answer answer = {0};
        if (client_call(import->client, "POST", "/v1/batch", "application/x-ndjson", buf_str(&body),
                        &answer) == CLI_DONE) {
            take_answers(import, map, count, &answer);
        } else {
            import->has_failed = true;
        }
        answer_fini(&answer);
    }
    wipe_buf(&body);
    return count;
}

void import_flush(struct import *import)
{
    for (unsigned i = 0; import->is_dry_run && i < import->op_count; i++) {
        fwrite(import->ops[i].line, 1, import->ops[i].len, stdout);
        fputc('\n', stdout);
    }
    unsigned left = import->is_dry_run ? 0 : import->op_count;
    for (unsigned round = 0; round < IMPORT_ROUNDS_MAX && left > 0 && !import->has_failed;
         round++) {
        if (import->is_busy) {
            usleep(IMPORT_PAUSE_MS * 1000);
            import->is_busy = false;
        }
        left = send_round(import);
    }
    if (left > 0 && import->is_busy) {
        import_fail(import, "the node cannot write now: see pointsman status");
    }
    for (unsigned i = 0; left > 0 && !import->has_failed && i < import->op_count; i++) {
        if (!import->ops[i].is_answered) {
            import->refused++;
            import_tell(import, IMPORT_LEFT_OUT, str_from_c(import->ops[i].source),
                        "refused: a batch with it was refused again and again");
        }
    }
    import_free_ops(import);
}

// ---- what is sent ----

static void put_line(struct import *import, struct str source, enum noun noun, const char *key,
                     json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT);
    struct buf line;
    buf_init(&line, 0);
    if (text != NULL) {
        buf_reserve(&line, strlen(text) + 2 * strlen(key) + 100);
        buf_put(&line, STR("{\"op\":\"put\",\"kind\":"));
        buf_put_json(&line, noun_name(noun));
        buf_put(&line, STR(",\"key\":"));
        buf_put_json(&line, str_from_c(key));
        buf_put(&line, STR(",\"value\":"));
        buf_put(&line, str_from_c(text));
        buf_put_char(&line, '}');
        explicit_bzero(text, strlen(text));
    }
    free(text);
    struct import_op op = {.source = str_dup(source), .line = line.p, .len = line.len};
    if (text == NULL || line.failed || op.source == NULL) {
        import_fail(import, "out of memory");
        free_op(&op);
        return;
    }
    if (import->op_count == IMPORT_BATCH_LINES || import->op_bytes + op.len > IMPORT_BATCH_BYTES) {
        import_flush(import);
    }
    import->ops[import->op_count++] = op;
    import->op_bytes += op.len;
    import->taken[noun]++;
}

static void tell_problems(struct import *import, struct str source, const struct problems *problems)
{
    struct buf text;
    buf_init(&text, 0);
    for (unsigned i = 0; i < problems->count && i < PROBLEM_MAX; i++) {
        const struct problem *problem = &problems->items[i];
        buf_printf(&text, "%s%s%s%s", i > 0 ? "; " : "", problem->pointer,
                   problem->pointer[0] != '\0' ? ": " : "", problem->detail);
    }
    import_tell(import, IMPORT_LEFT_OUT, source, "%.*s", STR_ARG(buf_str(&text)));
    buf_fini(&text);
}

// The canonical key; NULL: left out, and told why.
static char *check(struct import *import, struct str source, enum noun noun, struct str key,
                   json_t *value)
{
    struct problems problems;
    problems_init(&problems);
    char *canonical = NULL;
    struct declaration *declaration = NULL;
    int err = declaration_key(noun, key, &canonical, &problems);
    if (err == 0) {
        err = declaration_decode(noun, str_from_c(canonical), value, DECODE_STRICT, &declaration,
                                 NULL, &problems);
    }
    // Files are the node's, which may be another machine.
    bool in_files =
        err == 0 && noun == NOUN_CERTIFICATE && declaration->certificate.chain_file.len > 0;
    if (err == 0 && !in_files) {
        err = admin_check_declaration(declaration, &problems);
    }
    if (err != 0) {
        tell_problems(import, source, &problems);
    }
    declaration_free(&declaration);
    problems_fini(&problems);
    if (err != 0) {
        free(canonical);
        canonical = NULL;
    }
    return canonical;
}

bool import_put(struct import *import, struct str source, enum noun noun, struct str key,
                json_t *value)
{
    if (value == NULL) {
        import_fail(import, "out of memory");
    }
    char *canonical = import->has_failed ? NULL : check(import, source, noun, key, value);
    bool is_put = false;
    if (canonical != NULL) {
        struct buf label;
        buf_init(&label, 0);
        buf_printf(&label, "%.*s/%s", STR_ARG(noun_plural(noun)), canonical);
        is_put = !import_seen(import, &import->declarations, buf_str(&label));
        buf_fini(&label);
        if (is_put) {
            put_line(import, source, noun, canonical, value);
        } else if (!import->has_failed) {
            import_tell(import, IMPORT_LEFT_OUT, source, "another key gives the same %.*s %s",
                        STR_ARG(noun_name(noun)), canonical);
        }
    }
    json_wipe_member(value, "chain");
    json_wipe_member(value, "key");
    json_decref(value);
    free(canonical);
    return is_put && !import->has_failed;
}
