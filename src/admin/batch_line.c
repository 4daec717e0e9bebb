// SPDX-License-Identifier: MIT
#include "base/array.h"
#include "admin/batch_int.h"

// What a line says, as far as it is right.
struct line {
    bool is_delete;
    enum noun noun;
    char *key; // canonical, malloc
    json_t *value;
};

// A new line of the block; NULL: out of memory.
static struct batch_line *add_line(struct batch *batch)
{
    if (!ARRAY_ROOM(batch->lines, batch->line_count, batch->line_size, 64)) {
        return NULL;
    }
    struct batch_line *line = &batch->lines[batch->line_count++];
    *line = (struct batch_line){.number = batch->line_number};
    return line;
}

// Room for one more change; NULL: out of memory.
static struct store_change *next_change(struct batch *batch)
{
    return ARRAY_ROOM(batch->changes, batch->change_count, batch->change_size, 64)
               ? &batch->changes[batch->change_count]
               : NULL;
}

static int read_operation(json_t *tree, struct line *line, struct problems *problems)
{
    const char *name;
    json_t *member;
    json_object_foreach(tree, name, member)
    {
        if (strcmp(name, "op") != 0 && strcmp(name, "kind") != 0 && strcmp(name, "key") != 0 &&
            strcmp(name, "value") != 0) {
            problems_add(problems, ERR_INVALID, "", "unknown field \"%.100s\"", name);
        }
    }
    const char *op = json_string_value(json_object_get(tree, "op"));
    if (op == NULL || (strcmp(op, "put") != 0 && strcmp(op, "delete") != 0)) {
        problems_add(problems, ERR_INVALID, "/op", "must be \"put\" or \"delete\"");
    }
    line->is_delete = op != NULL && strcmp(op, "delete") == 0;
    const char *kind = json_string_value(json_object_get(tree, "kind"));
    int noun = kind == NULL ? -1 : noun_find(str_from_c(kind));
    if (noun < 0) {
        problems_add(problems, ERR_INVALID, "/kind",
                     "must be \"route\", \"pool\" or \"certificate\"");
    } else if (!noun_is_supported((enum noun)noun)) {
        problems_add(problems, ERR_INVALID, "/kind", "\"%s\" is not part of this version", kind);
    }
    line->noun = noun < 0 ? NOUN_ROUTE : (enum noun)noun;
    line->value = json_object_get(tree, "value");
    if (!line->is_delete && line->value == NULL) {
        problems_add(problems, ERR_INVALID, "/value", "is missing");
    }
    return problems->err;
}

// The key, or for a route what host and path of its value make.
static int read_key(json_t *tree, struct line *line, struct problems *problems)
{
    const char *key = json_string_value(json_object_get(tree, "key"));
    if (key != NULL) {
        int err = declaration_key(line->noun, str_from_c(key), &line->key, problems);
        for (unsigned i = 0; err != 0 && i < problems->count && i < PROBLEM_MAX; i++) {
            snprintf(problems->items[i].pointer, sizeof problems->items[i].pointer, "/key");
        }
        return err;
    }
    const char *host = json_string_value(json_object_get(line->value, "host"));
    const char *path = json_string_value(json_object_get(line->value, "path"));
    if (json_object_get(tree, "key") != NULL || line->is_delete || line->noun != NOUN_ROUTE ||
        host == NULL) {
        return problems_add(problems, ERR_INVALID, "/key", "must be the object's key, a string");
    }
    struct buf text;
    buf_init(&text, 0);
    buf_put(&text, str_from_c(host));
    buf_put(&text, str_from_c(path));
    int err = text.failed ? problems_add(problems, ERR_MEMORY, "", "out of memory")
                          : declaration_key(NOUN_ROUTE, buf_str(&text), &line->key, problems);
    buf_fini(&text);
    return err;
}

static void put_prefix(struct problems *problems)
{
    unsigned kept = problems->count < PROBLEM_MAX ? problems->count : PROBLEM_MAX;
    for (unsigned i = 0; i < kept; i++) {
        char old[sizeof problems->items[i].pointer];
        str_copy(old, sizeof old, str_from_c(problems->items[i].pointer));
        char *to = problems->items[i].pointer;
        size_t used = str_copy(to, sizeof old, STR("/value"));
        str_copy(to + used, sizeof old - used, str_from_c(old));
    }
}

static int build_line(struct batch *batch, json_t *tree, struct problems *problems)
{
    struct line line = {0};
    if (!json_is_object(tree)) {
        return problems_add(problems, ERR_INVALID, "", "a line is an object");
    }
    int err = read_operation(tree, &line, problems);
    err = err != 0 ? err : read_key(tree, &line, problems);
    struct store_change *change = next_change(batch);
    if (err == 0 && change == NULL) {
        err = problems_add(problems, ERR_MEMORY, "", "out of memory");
    }
    if (err == 0 && line.is_delete) {
        err = change_build_delete(line.noun, line.key, change);
    } else if (err == 0) {
        err = change_build(batch->call->admin, line.noun, line.key, line.value, change, problems);
        if (err != 0) {
            put_prefix(problems);
        }
    }
    free(line.key);
    if (err != 0) {
        return err;
    }
    size_t len = strlen(change->key) + (change->value == NULL ? 0 : strlen(change->value)) +
                 (change->secret == NULL ? 0 : strlen(change->secret));
    if (batch->bytes + len > BATCH_BLOCK_BYTES) {
        store_change_fini(change);
        return problems_add(problems, ERR_BODY_TOO_LARGE, "",
                            "the block is larger than %d bytes: send fewer lines at once",
                            BATCH_BLOCK_BYTES);
    }
    batch->bytes += len;
    batch->change_count++;
    return 0;
}

// Marks the newest line as refused.
static void refuse(struct batch *batch, struct batch_line *line, int err,
                   const struct problems *problems)
{
    line->err = err;
    batch->failed_lines++;
    if (batch->failed_lines <= BATCH_DETAIL_MAX) {
        struct buf errors;
        buf_init(&errors, 0);
        answer_put_errors(&errors, problems);
        buf_put_char(&errors, '\0');
        if (errors.failed) {
            buf_fini(&errors);
        }
        line->errors = errors.p;
    }
}

void batch_take_line(struct batch *batch, struct str text)
{
    struct batch_line *line = add_line(batch);
    if (line == NULL) {
        call_cut(batch->call); // not even the answer has room
        return;
    }
    struct problems problems;
    problems_init(&problems);
    json_t *tree = model_json_parse(text, &problems);
    int err = tree == NULL ? problems.err : build_line(batch, tree, &problems);
    secret_wipe_json(json_object_get(tree, "value"));
    json_decref(tree);
    if (err != 0) {
        refuse(batch, line, err, &problems);
    } else {
        line->change = batch->change_count - 1;
    }
    problems_fini(&problems);
}

void batch_refuse_line(struct batch *batch, int err, const char *detail)
{
    struct batch_line *line = add_line(batch);
    if (line == NULL) {
        call_cut(batch->call);
        return;
    }
    struct problems problems;
    problems_init(&problems);
    problems_add(&problems, err, "", "%s", detail);
    refuse(batch, line, err, &problems);
    problems_fini(&problems);
}

bool batch_is_done(const struct batch *batch)
{
    return batch->failed_lines == 0 && (batch->request == NULL || batch->request->err == 0);
}

// `request` NULL: the store did not see it.
static void put_failure(struct buf *out, uint64_t number, int err, const char *errors,
                        const struct store_request *request)
{
    buf_printf(out, "{\"line\":%llu,\"status\":%d,\"result\":\"failed\",\"detail\":",
               (unsigned long long)number, err_status(err));
    buf_put_json(out, str_from_c(err_text(err)));
    if (request != NULL && err == ERR_UNAVAILABLE && request->outcome != STORE_NOT_WRITTEN) {
        buf_printf(out, ",\"outcome\":\"%s\",\"id\":\"%s\"",
                   request->outcome == STORE_WRITTEN ? "written" : "unknown", request->id);
    }
    buf_put(out, STR(",\"errors\":"));
    buf_put(out, errors == NULL ? STR("[]") : str_from_c(errors));
    buf_put(out, STR("}\n"));
}

static void put_change(const struct batch *batch, const struct batch_line *line,
                       struct store_change *change, struct buf *out)
{
    int err = change->err;
    // The whole request failed (the store cannot write), and no line of it is at fault.
    if (err == 0 && batch->request->err == ERR_UNAVAILABLE) {
        err = ERR_UNAVAILABLE;
    }
    if (err != 0) {
        struct buf errors;
        buf_init(&errors, 0);
        if (err == ERR_INVALID) {
            put_prefix(&change->problems);
        }
        answer_put_errors(&errors, &change->problems);
        buf_put_char(&errors, '\0');
        put_failure(out, line->number, err, errors.failed ? NULL : errors.p, batch->request);
        buf_fini(&errors);
        return;
    }
    bool is_delete = change->value == NULL;
    const char *result = is_delete          ? "deleted"
                         : change->was_new  ? "created"
                         : change->was_same ? "unchanged"
                                            : "updated";
    unsigned status = is_delete ? 204 : change->was_new ? 201 : 200;
    buf_printf(out, "{\"line\":%llu,\"status\":%u,\"result\":\"%s\",\"revision\":%llu}\n",
               (unsigned long long)line->number, status, result,
               (unsigned long long)change->revision);
}

void batch_put_answer(const struct batch *batch, unsigned index, struct buf *out)
{
    const struct batch_line *line = &batch->lines[index];
    if (line->err != 0) {
        put_failure(out, line->number, line->err, line->errors, NULL);
        return;
    }
    struct store_change *change =
        batch->request == NULL ? NULL : &batch->request->changes[line->change];
    bool is_own = change != NULL && (batch->request->err == 0 || change->err != 0 ||
                                     batch->request->err == ERR_UNAVAILABLE);
    if (is_own) {
        put_change(batch, line, change, out);
        return;
    }
    // Nothing is wrong with it, but all of the block or nothing.
    buf_printf(out,
               "{\"line\":%llu,\"status\":424,\"result\":\"skipped\","
               "\"detail\":\"another line of the block failed\"}\n",
               (unsigned long long)line->number);
}

void batch_clear_block(struct batch *batch)
{
    for (unsigned i = 0; i < batch->line_count; i++) {
        free(batch->lines[i].errors);
    }
    for (unsigned i = 0; i < batch->change_count; i++) {
        store_change_fini(&batch->changes[i]);
    }
    store_request_free(&batch->request);
    batch->line_count = 0;
    batch->change_count = 0;
    batch->bytes = 0;
    batch->failed_lines = 0;
    batch->emitted = 0;
}
