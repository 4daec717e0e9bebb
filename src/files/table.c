// SPDX-License-Identifier: MIT
// The files, and what each declared the last time it was good.
#include "files/files_int.h"
#include "model/operations.h"
#include "model/problem.h"
#include "publish/declare.h"
#include <stdlib.h>

static void free_items(struct file_item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        store_change_fini(&items[i].change);
    }
    free(items);
}

static void free_file(struct file *file)
{
    free_items(file->items, file->count);
    buf_fini(&file->faults);
    free(file->name);
}

void file_table_fini(struct file_table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        free_file(&table->items[i]);
    }
    free(table->items);
    *table = (struct file_table){.items = NULL};
}

// ---- one file ----

struct reading {
    struct operations operations;
    struct files_faults faults;
    struct file_item *items;
    size_t count;
};

static void wipe_values(struct operations *operations)
{
    // Keys of certificates; the documents share the strings.
    for (size_t i = 0; i < operations->count; i++) {
        json_t *key = json_object_get(operations->items[i].value, "key");
        if (json_is_string(key)) {
            explicit_bzero((char *)(uintptr_t)json_string_value(key), json_string_length(key));
        }
    }
}

static void report(struct reading *reading, const struct operation *operation,
                   const struct problems *problems)
{
    for (unsigned i = 0; i < problems->count && i < PROBLEM_MAX; i++) {
        operation_report(&reading->operations, operation, str_from_c(problems->items[i].pointer),
                         problems->items[i].detail);
    }
}

// 0, or a negative err with faults.
static int take(struct reading *reading, const struct operation *operation, const struct seal *seal)
{
    int noun = noun_find(str_from_c(operation->kind));
    if (noun < 0 || noun == NOUN_TICKETS || !noun_is_supported((enum noun)noun)) {
        operation_report(&reading->operations, operation, STR(""),
                         "its kind must be \"route\", \"pool\" or \"certificate\"");
        return ERR_INVALID;
    }
    if (operation->is_delete) {
        operation_report(&reading->operations, operation, STR(""),
                         "a file says what there is: leave out what is to be deleted");
        return ERR_INVALID;
    }
    struct problems problems;
    problems_init(&problems);
    struct file_item *item = &reading->items[reading->count];
    char *key = NULL;
    int err = declaration_key((enum noun)noun, str_from_c(operation->key), &key, &problems);
    if (err == 0) {
        err =
            declare_change(seal, (enum noun)noun, key, operation->value, &item->change, &problems);
    }
    if (err == 0) {
        operation_locate(&reading->operations, operation, STR(""), &item->line, &item->column);
        reading->count++;
    } else {
        report(reading, operation, &problems);
    }
    free(key);
    problems_fini(&problems);
    return err;
}

static int take_all(struct reading *reading, const struct seal *seal)
{
    struct operations *operations = &reading->operations;
    reading->items = calloc(operations->count == 0 ? 1 : operations->count, sizeof *reading->items);
    if (reading->items == NULL) {
        files_fault(&reading->faults, "", "out of memory");
        return ERR_MEMORY;
    }
    int result = 0;
    for (size_t i = 0; i < operations->count; i++) {
        int err = take(reading, &operations->items[i], seal);
        result = result != 0 ? result : err;
        if (reading->faults.count >= FILES_FAULTS_SHOWN) {
            break;
        }
    }
    return result;
}

static int read_text(struct reading *reading, const char *path, struct str text,
                     const struct seal *seal, bool may_be_empty)
{
    if (text.len == 0 && !may_be_empty) {
        // What an editor leaves for a moment, or a full disk for longer.
        files_fault(&reading->faults, path,
                    "is empty: delete the file if its declarations are to go");
        return ERR_INVALID;
    }
    int err = documents_parse(&reading->operations.documents, path, text);
    if (err == 0) {
        operations_expand(&reading->operations);
        err = reading->operations.failed > 0 ? ERR_INVALID : take_all(reading, seal);
        wipe_values(&reading->operations);
    }
    return err;
}

static void read_file(struct file *file, const char *folder, const struct seal *seal,
                      bool is_unread)
{
    bool may_be_empty = file->is_known ? file->count == 0 : !is_unread && !file->is_broken;
    struct reading reading = {.items = NULL};
    files_faults_init(&reading.faults);
    operations_init(&reading.operations, files_fault, &reading.faults);
    struct buf text;
    buf_init(&text, FILES_FILE_MAX + 2 * 65536);
    char *path = folder_path(folder, file->name);
    int err =
        path == NULL ? ERR_MEMORY : folder_read_file(folder, file->name, &text, &reading.faults);
    if (err == 0) {
        err = read_text(&reading, path, buf_str(&text), seal, may_be_empty);
    }
    operations_fini(&reading.operations);
    if (text.p != NULL) {
        explicit_bzero(text.p, text.len);
    }
    buf_fini(&text);
    free(path);
    file->is_broken = err != 0;
    buf_fini(&file->faults);
    file->faults = reading.faults.text; // moved
    file->fault_count = reading.faults.count;
    if (err != 0) {
        free_items(reading.items, reading.count);
        return;
    }
    free_items(file->items, file->count);
    file->items = reading.items;
    file->count = reading.count;
    file->is_known = true;
}

// ---- all of them ----

static struct file *find(const struct file_table *table, const char *name)
{
    size_t low = 0;
    size_t high = table->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(table->items[middle].name, name);
        if (order == 0) {
            return &table->items[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

// Takes over what is known of a file, or begins with it.
static int carry_over(struct file_table *old, const char *name, struct file *file)
{
    struct file *known = find(old, name);
    if (known != NULL) {
        *file = *known;
        *known = (struct file){.name = known->name}; // the name stays for find()
        file->name = str_dup(str_from_c(name));
    } else {
        *file = (struct file){.name = str_dup(str_from_c(name))};
        buf_init(&file->faults, 0);
    }
    return file->name == NULL ? ERR_MEMORY : 0;
}

int file_table_update(struct file_table *table, const char *folder, const struct folder_list *list,
                      const struct seal *seal, bool retry,
                      bool (*is_held)(void *context, const char *name), void *context)
{
    struct file_table next = {.count = 0};
    next.items = calloc(list->count == 0 ? 1 : list->count, sizeof *next.items);
    if (next.items == NULL) {
        return ERR_MEMORY;
    }
    int err = 0;
    for (size_t i = 0; i < list->count && err == 0; i++) {
        const struct folder_entry *entry = &list->items[i];
        struct file *file = &next.items[next.count++];
        err = carry_over(table, entry->name, file);
        bool is_wanted = file->sign != entry->sign || (retry && file->is_broken);
        if (err == 0 && is_wanted && !(is_held != NULL && is_held(context, entry->name))) {
            file->sign = entry->sign;
            read_file(file, folder, seal, table->is_unread);
        }
    }
    if (err != 0) {
        // Half of it is in the other table; all is read again, and until then nothing is declared anew.
        free_file(&next.items[--next.count]); // has no name
        for (size_t i = 0; i < next.count; i++) {
            next.items[i].sign = 0;
        }
    }
    // Of a folder without files it cannot be told either what those had that come.
    next.is_unread = err != 0 || (list->count == 0 && (table->is_unread || table->count > 0));
    file_table_fini(table);
    *table = next;
    return err;
}
