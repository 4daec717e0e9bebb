// SPDX-License-Identifier: MIT
// apply --dry-run: the same checks as the server's, and a comparison with what it has.
#include "admin/admin.h"
#include "cli/apply_int.h"
#include "cli/cli.h"

struct trial {
    struct operations *operations;
    struct client *client;
    const struct operation *operation; // the one under way
    json_t *known; // "pools/NAME", "certificates/NAME": does it exist after the change or not
    int status;    // of a call that failed altogether
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

// "pools/NAME" in `to`; terminated.
static bool put_label(struct buf *to, enum noun noun, struct str key)
{
    buf_init(to, 0);
    buf_put(to, noun_plural(noun));
    buf_put_char(to, '/');
    buf_put(to, key);
    buf_put_char(to, '\0');
    return !to->failed;
}

// Is it there after the change?
static bool exists(struct trial *trial, enum noun noun, struct str key)
{
    struct buf label;
    bool result = true; // without an answer nothing is said
    if (put_label(&label, noun, key)) {
        const json_t *known = json_object_get(trial->known, label.p);
        if (known == NULL) {
            json_t *value;
            known = fetch(trial, noun, key, &value) == 404 ? json_false() : json_true();
            json_decref(value);
            json_object_set(trial->known, label.p, (json_t *)(uintptr_t)known);
        }
        result = json_is_true(known);
    }
    buf_fini(&label);
    return result;
}

static void visit_reference(void *context, enum noun noun, struct str key)
{
    struct trial *trial = context;
    if ((noun == NOUN_POOL || noun == NOUN_CERTIFICATE) && !exists(trial, noun, key)) {
        char detail[300];
        snprintf(detail, sizeof detail, "%.*s \"%.*s\" does not exist", STR_ARG(noun_name(noun)),
                 STR_ARG(key));
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
    bool in_files = noun == NOUN_CERTIFICATE && declaration->certificate.chain_file.len > 0;
    json_t *encoded = NULL;
    // Files are the server's: it looks into them when the declaration is applied.
    if (mode == DECODE_FEED || in_files || admin_check_declaration(declaration, problems) == 0) {
        encoded = declaration_encode(declaration);
    }
    if (mode == DECODE_STRICT) {
        declaration_references(declaration, visit_reference, trial);
    }
    declaration_free(&declaration);
    return encoded;
}

// What is declared of a certificate in files: the rest the server found in them.
static json_t *declared_part(json_t *value)
{
    static const char *const names[] = {"hosts", "chain_file", "key_file"};
    json_t *part = json_object();
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *member = json_object_get(value, names[i]);
        if (member != NULL) {
            json_object_set(part, names[i], member);
        }
    }
    return part;
}

static bool are_equal(json_t *now, json_t *wanted)
{
    if (json_object_get(wanted, "chain_file") == NULL) {
        return json_equal(now, wanted) != 0;
    }
    json_t *now_part = declared_part(now);
    json_t *wanted_part = declared_part(wanted);
    bool is_equal = json_equal(now_part, wanted_part) != 0;
    json_decref(now_part);
    json_decref(wanted_part);
    return is_equal;
}

static const char *compare(struct trial *trial, enum noun noun, struct str key, json_t *wanted)
{
    json_t *stored;
    unsigned status = fetch(trial, noun, key, &stored);
    struct problems problems;
    problems_init(&problems);
    json_t *now =
        stored == NULL ? NULL : canonical(noun, key, stored, DECODE_FEED, trial, &problems);
    const char *result = status == 404                           ? "created"
                         : now != NULL && are_equal(now, wanted) ? "unchanged"
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
    if (noun < 0 || !noun_is_supported((enum noun)noun)) {
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
        int noun = noun_find(str_from_c(operation->kind));
        struct buf label;
        if (noun != NOUN_POOL && noun != NOUN_CERTIFICATE) {
            continue;
        }
        if (put_label(&label, (enum noun)noun, str_from_c(operation->key))) {
            json_object_set_new(trial.known, label.p,
                                operation->is_delete ? json_false() : json_true());
        }
        buf_fini(&label);
    }
    for (size_t i = 0; i < operations->count && trial.status == CLI_DONE; i++) {
        trial.operation = &operations->items[i];
        operation_show(operations, trial.operation, try_operation(&trial), is_json);
    }
    json_decref(trial.known);
    return operations->failed > 0 ? CLI_FAILED : trial.status;
}
