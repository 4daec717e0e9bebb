// SPDX-License-Identifier: MIT
// apply --dry-run: the same checks as the server's, and a comparison with what it has.
#include "cli/apply_int.h"
#include "cli/cli.h"

struct trial {
    struct operations *operations;
    struct client *client;
    const struct operation *operation; // the one under way
    json_t *pools;                     // name: does it exist after the change (true) or not
    int status;                        // of a call that failed altogether
};

// GET of a declaration. Its answer's status, or 0: no answer, printed.
static unsigned fetch(struct trial *trial, enum noun noun, struct str key, json_t **value)
{
    *value = NULL;
    struct buf path;
    buf_init(&path, 0);
    buf_printf(&path, "/v1/%.*s/", STR_ARG(noun_plural(noun)));
    path_put_key(&path, key);
    buf_put_char(&path, '\0');
    struct answer answer = {0};
    unsigned status = 0;
    if (!path.failed &&
        client_call(trial->client, "GET", path.p, NULL, STR_NULL, &answer) == CLI_DONE) {
        status = answer.status;
        if (status == 200) {
            *value = client_answer_json(&answer);
        } else if (status != 404) {
            answer_report(&answer, "apply");
            status = 0;
        }
    }
    trial->status = status == 0 ? CLI_FAILED : trial->status;
    answer_fini(&answer);
    buf_fini(&path);
    return status;
}

static void report(struct trial *trial, struct str pointer, const char *detail)
{
    operation_report(trial->operations, trial->operation, pointer, detail);
    trial->operations->failed++;
}

static void report_problems(struct trial *trial, const struct problems *problems)
{
    unsigned kept = problems->count < PROBLEM_MAX ? problems->count : PROBLEM_MAX;
    for (unsigned i = 0; i < kept; i++) {
        operation_report(trial->operations, trial->operation,
                         str_from_c(problems->items[i].pointer), problems->items[i].detail);
    }
    trial->operations->failed++;
}

// Is the pool there after the change?
static bool pool_exists(struct trial *trial, struct str name)
{
    const json_t *known = json_object_getn(trial->pools, name.p, name.len);
    if (known == NULL) {
        json_t *value;
        unsigned status = fetch(trial, NOUN_POOL, name, &value);
        json_decref(value);
        known = status == 404 ? json_false() : json_true(); // without an answer nothing is said
        json_object_setn(trial->pools, name.p, name.len, (json_t *)(uintptr_t)known);
    }
    return json_is_true(known);
}

static void visit_reference(void *context, enum noun noun, struct str key)
{
    struct trial *trial = context;
    if (noun == NOUN_POOL && !pool_exists(trial, key)) {
        char detail[300];
        snprintf(detail, sizeof detail, "pool \"%.*s\" does not exist", STR_ARG(key));
        report(trial, STR(""), detail);
    }
}

// The canonical value of a declaration (a new reference), or NULL with problems.
static json_t *canonical(enum noun noun, struct str key, json_t *value, enum decode_mode mode,
                         struct trial *trial, struct problems *problems)
{
    struct declaration *declaration = NULL;
    unsigned unknown = 0;
    if (declaration_decode(noun, key, value, mode, &declaration, &unknown, problems) != 0) {
        return NULL;
    }
    if (mode == DECODE_STRICT) {
        declaration_references(declaration, visit_reference, trial);
    }
    json_t *encoded = declaration_encode(declaration);
    declaration_free(&declaration);
    return encoded;
}

static const char *compare(struct trial *trial, enum noun noun, struct str key, json_t *wanted)
{
    json_t *stored;
    unsigned status = fetch(trial, noun, key, &stored);
    struct problems problems;
    problems_init(&problems);
    json_t *now =
        stored == NULL ? NULL : canonical(noun, key, stored, DECODE_FEED, trial, &problems);
    const char *result = status == 404                                 ? "created"
                         : now != NULL && json_equal(now, wanted) != 0 ? "unchanged"
                                                                       : "updated";
    json_decref(now);
    json_decref(stored);
    problems_fini(&problems);
    return result;
}

static const char *try_delete(struct trial *trial, enum noun noun, struct str key)
{
    json_t *stored;
    unsigned status = fetch(trial, noun, key, &stored);
    json_decref(stored);
    if (status == 404) {
        report(trial, STR(""), "not found");
        return "failed";
    }
    return "deleted";
}

static const char *try_put(struct trial *trial, enum noun noun, struct str key)
{
    struct problems problems;
    problems_init(&problems);
    unsigned before = trial->operations->failed;
    json_t *wanted = canonical(noun, key, trial->operation->value, DECODE_STRICT, trial, &problems);
    const char *result = "failed";
    if (wanted == NULL) {
        report_problems(trial, &problems);
    } else if (trial->operations->failed == before) {
        result = compare(trial, noun, key, wanted);
    }
    json_decref(wanted);
    problems_fini(&problems);
    return result;
}

static const char *try_operation(struct trial *trial)
{
    const struct operation *operation = trial->operation;
    struct problems problems;
    problems_init(&problems);
    char *key = NULL;
    int noun = noun_find(str_from_c(operation->kind));
    const char *result = "failed";
    if (noun != NOUN_ROUTE && noun != NOUN_POOL) {
        report(trial, STR(""), "this kind is not part of this version");
    } else if (declaration_key((enum noun)noun, str_from_c(operation->key), &key, &problems) != 0) {
        report_problems(trial, &problems);
    } else {
        result = operation->is_delete ? try_delete(trial, (enum noun)noun, str_from_c(key))
                                      : try_put(trial, (enum noun)noun, str_from_c(key));
    }
    free(key);
    problems_fini(&problems);
    return result;
}

int operations_try(struct operations *operations, struct client *client, bool is_json)
{
    struct trial trial = {operations, client, NULL, json_object(), CLI_DONE};
    for (size_t i = 0; i < operations->count; i++) {
        const struct operation *operation = &operations->items[i];
        if (strcmp(operation->kind, "pool") == 0) {
            json_object_set_new(trial.pools, operation->key,
                                operation->is_delete ? json_false() : json_true());
        }
    }
    for (size_t i = 0; i < operations->count && trial.status == CLI_DONE; i++) {
        trial.operation = &operations->items[i];
        operation_show(operations, trial.operation, try_operation(&trial), is_json);
    }
    json_decref(trial.pools);
    return operations->failed > 0 ? CLI_FAILED : trial.status;
}
