// SPDX-License-Identifier: MIT
// pointsman apply: all files as one batch, and what became of each declaration.
#include "cli/apply_int.h"
#include "cli/cli.h"

const struct flag apply_flags[] = {
    {"dry-run", NULL, "check, and say what would be done, but write nothing"},
    {0},
};

void operation_show(const struct operations *operations, const struct operation *operation,
                    const char *result, bool is_json)
{
    if (!is_json) {
        printf("%s %s %s\n", operation->kind, operation->key, result);
        return;
    }
    unsigned line;
    unsigned column;
    operation_locate(operations, operation, STR(""), &line, &column);
    json_t *object =
        json_pack("{s:s,s:s,s:s,s:s,s:I,s:I}", "kind", operation->kind, "key", operation->key,
                  "result", result, "file", operations->documents.items[operation->document].file,
                  "line", (json_int_t)line, "column", (json_int_t)column);
    json_dumpf(object, stdout, JSON_COMPACT);
    fputc('\n', stdout);
    json_decref(object);
}

static void put_line(struct buf *body, const struct operation *operation)
{
    char *value = operation->value == NULL ? NULL : json_dumps(operation->value, JSON_COMPACT);
    if (operation->value != NULL && value == NULL) {
        body->failed = true;
        return;
    }
    buf_put(body, operation->is_delete ? STR("{\"op\":\"delete\",\"kind\":")
                                       : STR("{\"op\":\"put\",\"kind\":"));
    buf_put_json(body, str_from_c(operation->kind));
    buf_put(body, STR(",\"key\":"));
    buf_put_json(body, str_from_c(operation->key));
    if (value != NULL) {
        buf_put(body, STR(",\"value\":"));
        buf_put(body, str_from_c(value));
    }
    buf_put(body, STR("}\n"));
    free(value);
}

// The faults of one line; pointers of its answer are those of the line.
static void report_faults(const struct operations *operations, const struct operation *operation,
                          const json_t *answer)
{
    const json_t *errors = json_object_get(answer, "errors");
    size_t i;
    json_t *error;
    json_array_foreach(errors, i, error)
    {
        struct str pointer = str_from_c(json_string_value(json_object_get(error, "pointer")));
        const char *detail = json_string_value(json_object_get(error, "detail"));
        if (str_starts(pointer, STR("/value"))) {
            pointer = str_from(pointer, 6);
        }
        operation_report(operations, operation, pointer, detail != NULL ? detail : "refused");
    }
    if (json_array_size(errors) == 0) {
        const char *detail = json_string_value(json_object_get(answer, "detail"));
        operation_report(operations, operation, STR(""), detail != NULL ? detail : "refused");
    }
}

// One line of the batch's answer. 0, or -1: it is none.
static int take_answer(struct operations *operations, struct str text, bool is_json)
{
    json_t *answer = json_loadb(text.p, text.len, 0, NULL);
    const json_t *line = json_object_get(answer, "line");
    const char *result = json_string_value(json_object_get(answer, "result"));
    json_int_t number = json_integer_value(line);
    if (json_object_get(answer, "done") != NULL && line == NULL) {
        json_decref(answer);
        return 0; // the sum of many blocks
    }
    if (result == NULL || number < 1 || (uint64_t)number > operations->count) {
        json_decref(answer);
        return -1;
    }
    const struct operation *operation = &operations->items[number - 1];
    bool is_failed = strcmp(result, "failed") == 0;
    if (is_failed) {
        report_faults(operations, operation, answer);
    }
    operations->failed += is_failed || strcmp(result, "skipped") == 0;
    operation_show(operations, operation, result, is_json);
    json_decref(answer);
    return 0;
}

static int take_answers(struct operations *operations, const struct answer *answer, bool is_json)
{
    struct str rest = buf_str(&answer->body);
    uint64_t count = 0;
    while (rest.len > 0) {
        struct str line;
        str_split(rest, '\n', &line, &rest);
        if (take_answer(operations, line, is_json) != 0) {
            return count == 0 ? answer_report(answer, "apply") : CLI_FAILED;
        }
        count++;
    }
    if (count < operations->count) {
        fputs("pointsman: the server's answer is not complete\n", stderr);
        return CLI_FAILED;
    }
    return operations->failed > 0 ? CLI_FAILED : CLI_DONE;
}

static int send_batch(struct operations *operations, struct client *client, bool is_json)
{
    struct buf body;
    buf_init(&body, 0);
    for (size_t i = 0; i < operations->count; i++) {
        put_line(&body, &operations->items[i]);
    }
    struct answer answer;
    int status = CLI_FAILED;
    if (body.failed) {
        fputs("pointsman: out of memory\n", stderr);
    } else {
        status = client_call(client, "POST", "/v1/batch", "application/x-ndjson", buf_str(&body),
                             &answer);
        if (status == CLI_DONE) {
            status = take_answers(operations, &answer, is_json);
        }
        answer_fini(&answer);
    }
    buf_fini(&body);
    return status;
}

static int apply(const struct args *args, struct operations *operations)
{
    int err = 0;
    for (unsigned i = 0; i < args->word_count; i++) {
        err |= documents_read(&operations->documents, args->words[i]);
    }
    operations_expand(operations);
    if (err != 0 || operations->failed > 0) {
        return CLI_FAILED;
    }
    if (operations->count == 0) {
        fputs("pointsman: there is nothing to apply\n", stderr);
        return CLI_DONE;
    }
    struct client *client;
    int status = client_open(args, &client);
    if (status == CLI_DONE) {
        bool is_json = args_flag(args, "json") != NULL;
        status = args_flag(args, "dry-run") != NULL ? operations_try(operations, client, is_json)
                                                    : send_batch(operations, client, is_json);
    }
    client_close(&client);
    return status;
}

int run_apply(const struct args *args)
{
    struct operations operations;
    operations_init(&operations, documents_print_fault, NULL);
    int status = apply(args, &operations);
    operations_fini(&operations);
    return status;
}
