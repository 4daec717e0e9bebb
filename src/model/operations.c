// SPDX-License-Identifier: MIT
// From documents to operations.
#include "base/array.h"
#include "model/operations.h"
#include "base/buf.h"
#include <stdio.h>
#include <stdlib.h>

void operations_init(struct operations *operations, documents_on_fault on_fault, void *context)
{
    *operations = (struct operations){.items = NULL};
    documents_init(&operations->documents, on_fault, context);
}

void operations_fini(struct operations *operations)
{
    for (size_t i = 0; i < operations->count; i++) {
        free(operations->items[i].kind);
        free(operations->items[i].key);
        json_decref(operations->items[i].value);
    }
    free(operations->items);
    documents_fini(&operations->documents);
    operations_init(operations, operations->documents.on_fault, operations->documents.context);
}

void operation_locate(const struct operations *operations, const struct operation *operation,
                      struct str pointer, unsigned *line, unsigned *column)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s%.*s", operation->prefix,
             operation->is_line && operation->value != NULL ? "/value" : "", STR_ARG(pointer));
    document_locate(&operations->documents.items[operation->document], str_from_c(full), line,
                    column);
}

void operation_report(const struct operations *operations, const struct operation *operation,
                      struct str pointer, const char *detail)
{
    unsigned line;
    unsigned column;
    operation_locate(operations, operation, pointer, &line, &column);
    const struct documents *documents = &operations->documents;
    char place[320];
    snprintf(place, sizeof place, "%.280s:%u:%u", documents->items[operation->document].file, line,
             column);
    char text[1024];
    snprintf(text, sizeof text, "%s %.300s: %.*s%s%s", operation->kind, operation->key,
             STR_ARG(pointer), pointer.len > 0 ? ": " : "", detail);
    documents->on_fault(documents->context, place, text);
}

// A fault of something that is no operation (yet).
static void refuse(struct operations *operations, size_t document, const char *pointer,
                   const char *detail)
{
    documents_fault(&operations->documents, document, str_from_c(pointer), detail);
    operations->failed++;
}

static struct operation *add_operation(struct operations *operations, size_t document,
                                       const char *prefix)
{
    if (!ARRAY_ROOM(operations->items, operations->count, operations->size, 64)) {
        refuse(operations, document, prefix, "out of memory");
        return NULL;
    }
    struct operation *operation = &operations->items[operations->count++];
    *operation = (struct operation){.document = document};
    str_copy(operation->prefix, sizeof operation->prefix, str_from_c(prefix));
    return operation;
}

// "host" or "host/path" of a route, "name" of the others; malloc, NULL: it has none.
static char *declared_key(const json_t *object, const char *kind)
{
    bool is_route = strcmp(kind, "route") == 0;
    const char *name = json_string_value(json_object_get(object, is_route ? "host" : "name"));
    const char *path = is_route ? json_string_value(json_object_get(object, "path")) : NULL;
    if (name == NULL) {
        return NULL;
    }
    struct buf key;
    buf_init(&key, 0);
    buf_put(&key, str_from_c(name));
    if (path != NULL && strcmp(path, "/") != 0) {
        buf_put(&key, path[0] == '/' ? STR("") : STR("/"));
        buf_put(&key, str_from_c(path));
    }
    char *text = key.failed ? NULL : str_dup(buf_str(&key));
    buf_fini(&key);
    return text;
}

// {kind: route, host: …, …} or an item of {routes: […]}.
static void add_declaration(struct operations *operations, size_t document, const char *prefix,
                            const json_t *object, const char *kind)
{
    bool is_route = strcmp(kind, "route") == 0;
    char *key = declared_key(object, kind);
    if (key == NULL) {
        refuse(operations, document, prefix,
               is_route ? "a route needs a \"host\"" : "it needs a \"name\"");
        return;
    }
    struct operation *operation = add_operation(operations, document, prefix);
    if (operation == NULL) {
        free(key);
        return;
    }
    operation->key = key;
    operation->kind = str_dup(str_from_c(kind));
    operation->value = json_copy((json_t *)(uintptr_t)object);
    json_object_del(operation->value, "kind");
    if (!is_route) {
        json_object_del(operation->value, "name");
    }
}

// {"op": "put", "kind": "route", "key": "…", "value": {…}}
static void add_line(struct operations *operations, size_t document, const char *prefix,
                     const json_t *object)
{
    const char *op = json_string_value(json_object_get(object, "op"));
    const char *kind = json_string_value(json_object_get(object, "kind"));
    const char *key = json_string_value(json_object_get(object, "key"));
    json_t *value = json_object_get(object, "value");
    bool is_put = op != NULL && strcmp(op, "put") == 0;
    bool is_delete = op != NULL && strcmp(op, "delete") == 0;
    if ((!is_put && !is_delete) || kind == NULL || key == NULL || (is_put && value == NULL)) {
        refuse(operations, document, prefix,
               "a line with \"op\" (put or delete) needs \"kind\", \"key\" and, to put, \"value\"");
        return;
    }
    struct operation *operation = add_operation(operations, document, prefix);
    if (operation != NULL) {
        operation->is_line = true;
        operation->is_delete = is_delete;
        operation->kind = str_dup(str_from_c(kind));
        operation->key = str_dup(str_from_c(key));
        operation->value = is_delete ? NULL : json_incref(value);
    }
}

static void expand_object(struct operations *operations, size_t document, const char *prefix,
                          const json_t *object)
{
    const json_t *kind = json_object_get(object, "kind");
    if (json_object_get(object, "op") != NULL) {
        add_line(operations, document, prefix, object);
        return;
    }
    if (json_is_string(kind)) {
        int noun = noun_find(str_make(json_string_value(kind), json_string_length(kind)));
        char name[32] = "";
        if (noun >= 0) {
            str_copy(name, sizeof name, noun_name((enum noun)noun));
            add_declaration(operations, document, prefix, object, name);
        } else {
            char pointer[OPERATION_PREFIX_MAX + 8];
            snprintf(pointer, sizeof pointer, "%s/kind", prefix);
            refuse(operations, document, pointer, "must be \"route\", \"pool\" or \"certificate\"");
        }
        return;
    }
    refuse(operations, document, prefix,
           "must have a \"kind\", or \"routes\", \"pools\" and \"certificates\"");
}

// {routes: […], pools: […], certificates: […]}
static void expand_lists(struct operations *operations, size_t document, const json_t *root)
{
    const char *name;
    json_t *list;
    json_object_foreach((json_t *)(uintptr_t)root, name, list)
    {
        int noun = noun_find(str_from_c(name));
        char pointer[OPERATION_PREFIX_MAX];
        snprintf(pointer, sizeof pointer, "/%.40s", name);
        if (noun < 0 || !str_eq(noun_plural((enum noun)noun), str_from_c(name)) ||
            !json_is_array(list)) {
            refuse(operations, document, pointer,
                   "must be a list named \"routes\", \"pools\" or \"certificates\"");
            continue;
        }
        char kind[32];
        str_copy(kind, sizeof kind, noun_name((enum noun)noun));
        size_t i;
        json_t *item;
        json_array_foreach(list, i, item)
        {
            snprintf(pointer, sizeof pointer, "/%.40s/%zu", name, i);
            if (json_is_object(item)) {
                add_declaration(operations, document, pointer, item, kind);
            } else {
                refuse(operations, document, pointer, "must be an object");
            }
        }
    }
}

static void expand_document(struct operations *operations, size_t document)
{
    const json_t *root = operations->documents.items[document].root;
    if (json_is_null(root)) {
        return; // nothing between two "---"
    }
    if (json_is_array(root)) {
        size_t i;
        json_t *item;
        json_array_foreach(root, i, item)
        {
            char prefix[OPERATION_PREFIX_MAX];
            snprintf(prefix, sizeof prefix, "/%zu", i);
            if (json_is_object(item)) {
                expand_object(operations, document, prefix, item);
            } else {
                refuse(operations, document, prefix, "must be an object");
            }
        }
    } else if (!json_is_object(root)) {
        refuse(operations, document, "", "must be an object");
    } else if (json_object_get(root, "kind") == NULL && json_object_get(root, "op") == NULL &&
               json_object_size(root) > 0) {
        expand_lists(operations, document, root);
    } else {
        expand_object(operations, document, "", root);
    }
}

void operations_expand(struct operations *operations)
{
    for (size_t i = 0; i < operations->documents.count; i++) {
        expand_document(operations, i);
    }
    for (size_t i = 0; i < operations->count; i++) {
        if (operations->items[i].kind == NULL || operations->items[i].key == NULL) {
            operations->documents.on_fault(operations->documents.context, "", "out of memory");
            operations->failed++;
            return;
        }
    }
}
