// SPDX-License-Identifier: MIT
// What is copied: all declarations of a store, or of a folder. Internal records (ticket keys) stay where
// they are.
#include "cli/cli.h"
#include "cli/copy_int.h"
#include "files/files.h"
#include "publish/declare.h"
#include "publish/sealed.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static const enum noun nouns[] = {NOUN_CERTIFICATE, NOUN_POOL, NOUN_ROUTE};
enum { NOUNS = sizeof nouns / sizeof nouns[0] };

static void print_problems(const char *url, const struct problems *problems)
{
    for (unsigned i = 0; i < problems->count; i++) {
        fprintf(stderr, "pointsman: %s: %s\n", url, problems->items[i].detail);
    }
}

// ---- a store ----

struct source {
    struct copy *copy;
    bool has_failed;
};

static void on_reference(void *context, enum noun noun, struct str key)
{
    struct store_change *change = context;
    if (noun != NOUN_POOL && noun != NOUN_CERTIFICATE) {
        return;
    }
    struct store_reference *references =
        realloc(change->references, (change->reference_count + 1) * sizeof *references);
    char *copy = references == NULL ? NULL : str_dup(key);
    if (references != NULL) {
        change->references = references;
    }
    if (copy != NULL) {
        references[change->reference_count++] =
            (struct store_reference){.noun = noun, .key = copy, .pointer = str_dup(STR(""))};
    } else {
        change->noun = NOUN_COUNT; // out of memory
    }
}

static bool add_references(struct store_change *change, enum noun noun)
{
    struct problems problems;
    problems_init(&problems);
    json_t *tree = model_json_parse(str_from_c(change->value), &problems);
    struct declaration *declaration = NULL;
    int err = tree == NULL ? ERR_INVALID
                           : declaration_decode(noun, str_from_c(change->key), tree, DECODE_FEED,
                                                &declaration, NULL, &problems);
    if (err == 0) {
        declaration_references(declaration, on_reference, change);
    } else {
        fprintf(stderr, "pointsman: %.*s %s cannot be read: %s\n", STR_ARG(noun_name(noun)),
                change->key, problems.count > 0 ? problems.items[0].detail : err_text(err));
    }
    declaration_free(&declaration);
    json_decref(tree);
    problems_fini(&problems);
    return err == 0 && change->noun == noun;
}

static bool on_record(void *context, const struct store_record *record)
{
    struct source *source = context;
    struct store_change *change = copy_add(source->copy);
    if (change == NULL) {
        source->has_failed = true;
        return false;
    }
    change->noun = record->noun;
    change->key = str_dup(record->key);
    change->value = str_dup(record->value);
    source->has_failed =
        change->key == NULL || change->value == NULL || !add_references(change, record->noun);
    return !source->has_failed;
}

// The plain secret of a certificate. False: printed.
static bool open_secret(struct copy *copy, struct store *store, struct store_change *change)
{
    struct store_record record;
    int err = store_get_secret(store, NOUN_CERTIFICATE, str_from_c(change->key), &record);
    struct buf text;
    buf_init(&text, 0);
    if (err == 0 && record.secret.len > 0) {
        if (buf_reserve(&text, record.secret.len + 1) == NULL) { // not moved: it could not be wiped
            err = ERR_MEMORY;
        } else {
            err = sealed_open(copy->seal, str_from_c(change->key), record.secret, &text);
        }
        change->secret = err == 0 ? str_dup(buf_str(&text)) : NULL;
        err = err == 0 && change->secret == NULL ? ERR_MEMORY : err;
    }
    if (text.p != NULL) {
        explicit_bzero(text.p, text.size);
    }
    buf_fini(&text);
    if (err != 0) {
        fprintf(stderr, "pointsman: certificate %s: its key cannot be opened: %s\n", change->key,
                err == ERR_NOT_FOUND ? "what sealed it is not in --encryption-key-file"
                                     : err_text(err));
    }
    return err == 0;
}

// Certificates are the first noun: the changes so far.
static bool take_secrets(struct copy *copy, struct store *store)
{
    unsigned kept = 0;
    bool is_good = true;
    for (unsigned i = 0; i < copy->count; i++) {
        struct store_change *change = &copy->changes[i];
        bool is_in_files = strstr(change->value, "\"chain_file\"") != NULL;
        if (!is_in_files && !copy->with_secrets) {
            is_good = copy_leave_out(copy, change) && is_good;
            store_change_fini(change);
            continue;
        }
        is_good = is_good && (is_in_files || open_secret(copy, store, change));
        copy->changes[kept++] = *change;
    }
    copy->count = kept;
    return is_good;
}

static bool read_store(struct copy *copy, struct store *store)
{
    struct source source = {.copy = copy};
    for (unsigned n = 0; n < NOUNS; n++) {
        int err = store_list(store, nouns[n], STR(""), STR_NULL, 0, on_record, &source);
        if (err != 0) {
            fprintf(stderr, "pointsman: %s: %s\n", copy->from, err_text(err));
        }
        if (err != 0 || source.has_failed ||
            (nouns[n] == NOUN_CERTIFICATE && !take_secrets(copy, store))) {
            return false;
        }
    }
    return true;
}

int copy_read_sqlite(struct copy *copy)
{
    const char *path = copy_path(copy->from, "sqlite:");
    if (access(path, R_OK) != 0) { // it would be made
        fprintf(stderr, "pointsman: %s: %s\n", copy->from, strerrordesc_np(errno));
        return CLI_FAILED;
    }
    struct problems problems;
    struct store *store = NULL;
    problems_init(&problems);
    bool is_good = store_open(&store, str_from_c(copy->from), &problems) == 0;
    print_problems(copy->from, &problems);
    is_good = is_good && read_store(copy, store);
    store_close(&store);
    problems_fini(&problems);
    return is_good ? CLI_DONE : CLI_FAILED;
}

// ---- a folder ----

static bool take_changes(struct copy *copy, struct store_request *request)
{
    for (unsigned i = 0; i < request->count; i++) {
        struct store_change *change = &request->changes[i];
        if (change->secret != NULL && !copy->with_secrets) {
            if (!copy_leave_out(copy, change)) {
                return false;
            }
            continue;
        }
        struct store_change *to = copy_add(copy);
        if (to == NULL) {
            return false;
        }
        *to = *change; // moved
        *change = (struct store_change){.noun = change->noun};
    }
    return true;
}

int copy_read_folder(struct copy *copy)
{
    struct files_faults faults;
    struct store_request *request = NULL;
    files_faults_init(&faults);
    int err = files_read(copy_path(copy->from, "file:"), NULL, &request, &faults);
    if (faults.text.len > 0) {
        fwrite(faults.text.p, 1, faults.text.len, stderr);
    }
    bool is_good = err == 0 && take_changes(copy, request);
    store_request_free(&request);
    files_faults_fini(&faults);
    return is_good ? CLI_DONE : CLI_FAILED;
}
