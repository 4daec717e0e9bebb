// SPDX-License-Identifier: MIT
// All declarations together: who is the first of a key, what refers to something, and what differs from
// what is stored. Certificates come first, then pools, then routes, so that who is referred to has been
// judged before. What is refused stays as it is stored, together with all that it needs.
#include "base/array.h"
#include "files/files_int.h"
#include "model/declaration.h"
#include <stdio.h>
#include <stdlib.h>

static const enum noun nouns[] = {NOUN_CERTIFICATE, NOUN_POOL, NOUN_ROUTE};
enum { NOUNS = sizeof nouns / sizeof nouns[0] };

struct wanted {
    const struct file *file;
    struct file_item *item;
    bool is_stored; // there is a record of its key
    bool is_same;   // with the same value
    bool is_refused;
    char *stored; // the record's value, where it is another; malloc
};

// A record that no file declares.
struct extra {
    enum noun noun;
    char *key;
    char *value;
    bool is_kept; // something that stays needs it
};

struct round {
    const char *folder;
    struct files_faults *faults;
    bool keep_all;
    struct wanted *wanted; // by noun and key
    size_t wanted_count;
    struct extra *extras; // the same
    size_t extra_count;
    size_t extra_size;
    size_t at; // the merge with what is stored
    bool is_out_of_memory;
};

static int compare_keys(enum noun noun, const char *key, enum noun other_noun, const char *other)
{
    return noun != other_noun ? (noun < other_noun ? -1 : 1)
                              : str_cmp(str_from_c(key), str_from_c(other));
}

// Of one key in the order of files, and in a file in the order of its text.
static int compare_wanted(const void *a, const void *b)
{
    const struct wanted *one = a;
    const struct wanted *other = b;
    int order = compare_keys(one->item->change.noun, one->item->change.key,
                             other->item->change.noun, other->item->change.key);
    if (order == 0 && one->file != other->file) {
        return strcmp(one->file->name, other->file->name);
    }
    return order != 0 ? order : (one->item < other->item ? -1 : one->item > other->item);
}

static void put_place(const struct round *round, const struct wanted *wanted, char *to, size_t size)
{
    char *path = folder_path(round->folder, wanted->file->name);
    snprintf(to, size, "%.280s:%u:%u", path == NULL ? wanted->file->name : path, wanted->item->line,
             wanted->item->column);
    free(path);
}

static void fault(struct round *round, const struct wanted *wanted, const char *detail)
{
    char place[320];
    put_place(round, wanted, place, sizeof place);
    const struct store_change *change = &wanted->item->change;
    files_faultf(round->faults, place, "%.*s %.200s: %s", STR_ARG(noun_name(change->noun)),
                 change->key, detail);
}

// ---- what is declared ----

static int collect(struct round *round, const struct file_table *table, unsigned *refused)
{
    size_t count = 0;
    for (size_t i = 0; i < table->count; i++) {
        count += table->items[i].count;
    }
    round->wanted = calloc(count == 0 ? 1 : count, sizeof *round->wanted);
    if (round->wanted == NULL) {
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < table->count; i++) {
        for (size_t n = 0; n < table->items[i].count; n++) {
            round->wanted[round->wanted_count++] =
                (struct wanted){.file = &table->items[i], .item = &table->items[i].items[n]};
        }
    }
    qsort(round->wanted, round->wanted_count, sizeof *round->wanted, compare_wanted);
    size_t kept = 0;
    for (size_t i = 0; i < round->wanted_count; i++) {
        struct wanted *next = &round->wanted[i];
        const struct wanted *first = kept == 0 ? NULL : &round->wanted[kept - 1];
        if (first == NULL || compare_keys(first->item->change.noun, first->item->change.key,
                                          next->item->change.noun, next->item->change.key) != 0) {
            round->wanted[kept++] = *next;
            continue;
        }
        char place[320];
        put_place(round, first, place, sizeof place);
        char detail[400];
        snprintf(detail, sizeof detail, "is declared already at %s, which counts", place);
        fault(round, next, detail);
        (*refused)++;
    }
    round->wanted_count = kept;
    return 0;
}

static struct wanted *find_wanted(const struct round *round, enum noun noun, const char *key)
{
    size_t low = 0;
    size_t high = round->wanted_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        struct wanted *wanted = &round->wanted[middle];
        int order = compare_keys(wanted->item->change.noun, wanted->item->change.key, noun, key);
        if (order == 0) {
            return wanted;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

static struct extra *find_extra(const struct round *round, enum noun noun, const char *key)
{
    // Few are looked for, and only when something is refused or nothing is deleted.
    size_t low = 0;
    size_t high = round->extra_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        struct extra *extra = &round->extras[middle];
        int order = compare_keys(extra->noun, extra->key, noun, key);
        if (order == 0) {
            return extra;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

// ---- what is stored ----

static void add_extra(struct round *round, const struct store_record *record)
{
    if (!ARRAY_ROOM(round->extras, round->extra_count, round->extra_size, 64)) {
        round->is_out_of_memory = true;
        return;
    }
    struct extra *extra = &round->extras[round->extra_count++];
    *extra = (struct extra){
        .noun = record->noun, .key = str_dup(record->key), .value = str_dup(record->value)};
    round->is_out_of_memory |= extra->key == NULL || extra->value == NULL;
}

// Records come in the order of what is wanted: both are walked through once.
static bool on_record(void *context, const struct store_record *record)
{
    struct round *round = context;
    while (round->at < round->wanted_count) {
        struct wanted *wanted = &round->wanted[round->at];
        const struct store_change *change = &wanted->item->change;
        int order = change->noun != record->noun ? (change->noun < record->noun ? -1 : 1)
                                                 : str_cmp(str_from_c(change->key), record->key);
        if (order > 0) {
            break;
        }
        round->at++;
        if (order == 0) {
            wanted->is_stored = true;
            wanted->is_same = str_eq(str_from_c(change->value), record->value);
            wanted->stored = wanted->is_same ? NULL : str_dup(record->value);
            round->is_out_of_memory |= !wanted->is_same && wanted->stored == NULL;
            return !round->is_out_of_memory;
        }
    }
    add_extra(round, record);
    return !round->is_out_of_memory;
}

static int compare_with(struct round *round, struct store_reader *reader)
{
    // In the order of enum noun, which is that of `wanted`.
    for (int noun = 0; noun < NOUN_COUNT; noun++) {
        bool is_ours = noun == NOUN_ROUTE || noun == NOUN_POOL || noun == NOUN_CERTIFICATE;
        int err = is_ours ? store_reader_list(reader, (enum noun)noun, on_record, round) : 0;
        if (err != 0 || round->is_out_of_memory) {
            return err != 0 ? err : ERR_MEMORY;
        }
    }
    return 0;
}

// ---- what refers to what ----

static bool is_there(struct round *round, enum noun noun, const char *key)
{
    const struct wanted *wanted = find_wanted(round, noun, key);
    if (wanted != NULL) {
        return !wanted->is_refused || wanted->is_stored; // a refused one stays as it is stored
    }
    return round->keep_all && find_extra(round, noun, key) != NULL;
}

static void judge(struct round *round, struct wanted *wanted)
{
    const struct store_change *change = &wanted->item->change;
    for (unsigned i = 0; i < change->reference_count; i++) {
        const struct store_reference *reference = &change->references[i];
        if (is_there(round, reference->noun, reference->key)) {
            continue;
        }
        char detail[500];
        snprintf(detail, sizeof detail, "%.60s: %.*s \"%.200s\" is declared by no file%s",
                 reference->pointer, STR_ARG(noun_name(reference->noun)), reference->key,
                 wanted->is_stored ? "; what was live stays" : "");
        fault(round, wanted, detail);
        wanted->is_refused = true;
    }
}

static void keep(struct round *round, enum noun noun, struct str key);

static void on_reference(void *context, enum noun noun, struct str key)
{
    keep(context, noun, key);
}

// What a stored value refers to stays as well.
static void keep_needs(struct round *round, enum noun noun, const char *key, const char *value)
{
    struct problems problems;
    problems_init(&problems);
    json_t *tree = model_json_parse(str_from_c(value), &problems);
    struct declaration *declaration = NULL;
    if (tree != NULL && declaration_decode(noun, str_from_c(key), tree, DECODE_FEED, &declaration,
                                           NULL, &problems) == 0) {
        declaration_references(declaration, on_reference, round);
    }
    declaration_free(&declaration);
    json_decref(tree);
    problems_fini(&problems);
}

// Only records that no file declares are in danger. A route refers to pools, a pool to certificates: the
// depth is that of the nouns.
static void keep(struct round *round, enum noun noun, struct str key)
{
    char *text = str_dup(key);
    if (text == NULL) {
        round->is_out_of_memory = true;
        return;
    }
    struct extra *extra = find_extra(round, noun, text);
    if (extra != NULL && !extra->is_kept) {
        extra->is_kept = true;
        keep_needs(round, noun, extra->key, extra->value);
    }
    free(text);
}

static void judge_all(struct round *round, unsigned *refused)
{
    for (unsigned n = 0; n < NOUNS; n++) {
        for (size_t i = 0; i < round->wanted_count; i++) {
            struct wanted *wanted = &round->wanted[i];
            if (wanted->item->change.noun != nouns[n]) {
                continue;
            }
            judge(round, wanted);
            if (wanted->is_refused) {
                (*refused)++;
            }
        }
    }
    for (size_t i = 0; i < round->wanted_count; i++) {
        const struct wanted *wanted = &round->wanted[i];
        const struct store_change *change = &wanted->item->change;
        if (wanted->is_refused && wanted->is_stored) {
            keep_needs(round, change->noun, change->key,
                       wanted->is_same ? change->value : wanted->stored);
        }
    }
}

// ---- the request ----

static char *copy(const char *text, bool *is_out_of_memory)
{
    char *result = text == NULL ? NULL : str_dup(str_from_c(text));
    *is_out_of_memory |= text != NULL && result == NULL;
    return result;
}

static bool copy_change(const struct store_change *from, struct store_change *to)
{
    bool is_out_of_memory = false;
    to->noun = from->noun;
    to->key = copy(from->key, &is_out_of_memory);
    to->value = copy(from->value, &is_out_of_memory);
    to->secret = copy(from->secret, &is_out_of_memory);
    to->references =
        from->reference_count == 0 ? NULL : calloc(from->reference_count, sizeof *to->references);
    if (from->reference_count > 0 && to->references == NULL) {
        return false;
    }
    to->reference_count = from->reference_count;
    for (unsigned i = 0; i < from->reference_count; i++) {
        to->references[i] = (struct store_reference){
            .noun = from->references[i].noun,
            .key = copy(from->references[i].key, &is_out_of_memory),
            .pointer = copy(from->references[i].pointer, &is_out_of_memory),
        };
    }
    return !is_out_of_memory;
}

static bool is_put(const struct wanted *wanted)
{
    return !wanted->is_refused && !wanted->is_same;
}

static bool is_deleted(const struct round *round, const struct extra *extra)
{
    return !round->keep_all && !extra->is_kept;
}

static int make_request(struct round *round, struct store_request **request)
{
    unsigned count = 0;
    for (size_t i = 0; i < round->wanted_count; i++) {
        count += is_put(&round->wanted[i]);
    }
    for (size_t i = 0; i < round->extra_count; i++) {
        count += is_deleted(round, &round->extras[i]);
    }
    if (count == 0) {
        return 0;
    }
    *request = store_request_new(count);
    if (*request == NULL) {
        return ERR_MEMORY;
    }
    unsigned at = 0;
    bool is_whole = true;
    for (size_t i = 0; i < round->wanted_count && is_whole; i++) {
        if (is_put(&round->wanted[i])) {
            is_whole = copy_change(&round->wanted[i].item->change, &(*request)->changes[at++]);
        }
    }
    for (size_t i = 0; i < round->extra_count && is_whole; i++) {
        if (is_deleted(round, &round->extras[i])) {
            struct store_change *change = &(*request)->changes[at++];
            change->noun = round->extras[i].noun;
            change->key = str_dup(str_from_c(round->extras[i].key));
            is_whole = change->key != NULL;
        }
    }
    if (!is_whole) {
        store_request_free(request);
    }
    return is_whole ? 0 : ERR_MEMORY;
}

static void round_fini(struct round *round)
{
    for (size_t i = 0; i < round->wanted_count; i++) {
        free(round->wanted[i].stored);
    }
    for (size_t i = 0; i < round->extra_count; i++) {
        free(round->extras[i].key);
        free(round->extras[i].value);
    }
    free(round->wanted);
    free(round->extras);
}

int round_build(const char *folder, const struct file_table *table, struct store_reader *reader,
                bool keep_all, struct round_result *result, struct files_faults *faults)
{
    *result = (struct round_result){.request = NULL};
    struct round round = {.folder = folder, .faults = faults, .keep_all = keep_all};
    int err = collect(&round, table, &result->refused);
    if (err == 0 && reader != NULL) {
        err = compare_with(&round, reader);
    }
    if (err == 0) {
        judge_all(&round, &result->refused);
        result->declarations = round.wanted_count;
        err = round.is_out_of_memory ? ERR_MEMORY : make_request(&round, &result->request);
    }
    round_fini(&round);
    return err;
}
