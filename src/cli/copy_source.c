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

bool copy_add_record(struct copy *copy, enum noun noun, struct str key, struct str value)
{
    struct store_change *change = copy_add(copy);
    if (change == NULL) {
        return false;
    }
    change->noun = noun;
    change->key = str_dup(key);
    change->value = str_dup(value);
    if (change->key == NULL || change->value == NULL) {
        fputs("pointsman: out of memory\n", stderr);
        return false;
    }
    return add_references(change, noun);
}

static bool on_record(void *context, const struct store_record *record)
{
    struct source *source = context;
    source->has_failed = !copy_add_record(source->copy, record->noun, record->key, record->value);
    return !source->has_failed;
}

// From sealed to plain. False: printed.
static bool open_secret(const struct copy *copy, struct store_change *change)
{
    struct str sealed = str_from_c(change->secret);
    if (sealed.len == 0) {
        return true;
    }
    struct buf text;
    buf_init(&text, 0);
    int err = ERR_MEMORY;
    if (buf_reserve(&text, sealed.len + 1) != NULL) { // not moved: it could not be wiped
        err = sealed_open(copy->seal, str_from_c(change->key), sealed, &text);
    }
    sealed_wipe(change->secret);
    change->secret = err == 0 ? str_dup(buf_str(&text)) : NULL;
    err = err == 0 && change->secret == NULL ? ERR_MEMORY : err;
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

static bool is_in_files(const struct store_change *change)
{
    return strstr(change->value, "\"chain_file\"") != NULL;
}

bool copy_open_secrets(struct copy *copy)
{
    unsigned kept = 0;
    bool is_good = true;
    for (unsigned i = 0; i < copy->count; i++) {
        struct store_change *change = &copy->changes[i];
        if (!is_in_files(change) && !copy->with_secrets) {
            is_good = copy_leave_out(copy, change) && is_good;
            store_change_fini(change);
            continue;
        }
        is_good = is_good && open_secret(copy, change);
        copy->changes[kept++] = *change;
    }
    copy->count = kept;
    return is_good;
}

// The sealed secrets of the certificates.
static bool take_secrets(struct copy *copy, struct store *store)
{
    for (unsigned i = 0; i < copy->count && copy->with_secrets; i++) {
        struct store_change *change = &copy->changes[i];
        struct store_record record;
        int err = is_in_files(change)
                      ? ERR_NOT_FOUND
                      : store_get_secret(store, NOUN_CERTIFICATE, str_from_c(change->key), &record);
        if (err == 0 && record.secret.len > 0) {
            change->secret = str_dup(record.secret);
            err = change->secret == NULL ? ERR_MEMORY : 0;
        }
        if (err != 0 && err != ERR_NOT_FOUND) {
            fprintf(stderr, "pointsman: certificate %s: %s\n", change->key, err_text(err));
            return false;
        }
    }
    return copy_open_secrets(copy);
}

static bool read_store(struct copy *copy, struct store *store)
{
    struct source source = {.copy = copy};
    copy->revision = store_revision(store);
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

// A node may run on it when the file is its replica: it is what came back empty that it is copied to.
static int open_file(struct store **store, const char *url, const char *path,
                     struct problems *problems)
{
    int err = store_open(store, str_from_c(url), problems);
    if (err != ERR_LOCKED) {
        return err;
    }
    struct problems other;
    problems_init(&other);
    if (store_open_shared(store, path, &other) == 0) {
        err = 0;
        problems_fini(problems);
        problems_init(problems);
    }
    problems_fini(&other);
    return err;
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
    bool is_good = open_file(&store, copy->from, path, &problems) == 0;
    copy_print_problems(copy->from, &problems);
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
