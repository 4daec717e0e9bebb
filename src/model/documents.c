// SPDX-License-Identifier: MIT
#include "base/array.h"
#include "model/documents.h"
#include <stdio.h>
#include <stdlib.h>

void documents_init(struct documents *documents, documents_on_fault on_fault, void *context)
{
    *documents = (struct documents){.on_fault = on_fault, .context = context};
}

void documents_fini(struct documents *documents)
{
    for (size_t i = 0; i < documents->count; i++) {
        struct document *document = &documents->items[i];
        if (document->yaml != NULL) {
            yaml_doc_free(&document->yaml);
        } else {
            json_decref(document->root);
        }
    }
    free(documents->items);
    documents_init(documents, documents->on_fault, documents->context);
}

static void tell(const struct documents *documents, const char *file, unsigned line,
                 unsigned column, const char *detail)
{
    char place[320];
    snprintf(place, sizeof place, "%.280s:%u:%u", file, line, column);
    documents->on_fault(documents->context, place, detail);
}

void documents_fault(const struct documents *documents, size_t document, struct str pointer,
                     const char *detail)
{
    const struct document *place = &documents->items[document];
    unsigned line;
    unsigned column;
    document_locate(place, pointer, &line, &column);
    char text[1024];
    snprintf(text, sizeof text, "%.*s%s%s", STR_ARG(pointer), pointer.len > 0 ? ": " : "", detail);
    tell(documents, place->file, line, column, text);
}

static struct document *add_document(struct documents *documents, const char *path)
{
    if (!ARRAY_ROOM(documents->items, documents->count, documents->size, 16)) {
        documents->on_fault(documents->context, "", "out of memory");
        return NULL;
    }
    struct document *document = &documents->items[documents->count++];
    *document = (struct document){.file = path};
    return document;
}

static int read_yaml(struct documents *documents, const char *path, struct str text)
{
    struct yaml_stream *stream = NULL;
    struct problems problems;
    problems_init(&problems);
    int step = yaml_stream_new(&stream, path, text);
    struct yaml_doc *doc = NULL;
    while (step == 0 && (step = yaml_stream_next(stream, &doc, &problems)) == STEP_DONE) {
        struct document *document = add_document(documents, path);
        if (document == NULL) {
            yaml_doc_free(&doc);
            step = ERR_MEMORY;
            break;
        }
        document->yaml = doc;
        document->root = yaml_doc_root(doc);
        step = 0;
    }
    for (unsigned i = 0; i < problems.count; i++) {
        documents->on_fault(documents->context, problems.items[i].pointer,
                            problems.items[i].detail);
    }
    yaml_stream_free(&stream);
    problems_fini(&problems);
    return step < 0 ? step : 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// Moves on, counting lines.
static void skip(struct str *rest, size_t len, unsigned *line, unsigned *column)
{
    for (size_t i = 0; i < len; i++) {
        bool is_end = rest->p[i] == '\n';
        *line += is_end;
        *column = is_end ? 1 : *column + 1;
    }
    *rest = str_from(*rest, len);
}

// JSON values one after the other, on lines of their own or not.
static int read_json(struct documents *documents, const char *path, struct str rest)
{
    unsigned line = 1;
    unsigned column = 1;
    for (;;) {
        size_t blanks = 0;
        while (blanks < rest.len && is_blank(rest.p[blanks])) {
            blanks++;
        }
        skip(&rest, blanks, &line, &column);
        if (rest.len == 0) {
            return 0;
        }
        json_error_t error;
        json_t *root =
            json_loadb(rest.p, rest.len, JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &error);
        if (root == NULL) {
            bool is_first_line = error.line <= 1;
            tell(documents, path, line + (unsigned)error.line - 1,
                 (unsigned)error.column + (is_first_line ? column - 1 : 0), error.text);
            return ERR_SYNTAX;
        }
        struct document *document = add_document(documents, path);
        if (document == NULL) {
            json_decref(root);
            return ERR_MEMORY;
        }
        document->root = root;
        document->line = line;
        document->column = column;
        skip(&rest, (size_t)error.position, &line, &column);
    }
}

// JSON has escapes that YAML has not, so a file that begins like JSON is read as JSON; a YAML file may
// begin so too, but then its name says what it is.
static bool looks_like_json(const char *path, struct str text)
{
    struct str name = str_from_c(path);
    if (str_ends(name, STR(".yaml")) || str_ends(name, STR(".yml"))) {
        return false;
    }
    size_t i = 0;
    while (i < text.len && is_blank(text.p[i])) {
        i++;
    }
    return i < text.len && (text.p[i] == '{' || text.p[i] == '[');
}

int documents_parse(struct documents *documents, const char *name, struct str text)
{
    if (text.len == 0) {
        return 0;
    }
    return looks_like_json(name, text) ? read_json(documents, name, text)
                                       : read_yaml(documents, name, text);
}

void document_locate(const struct document *document, struct str pointer, unsigned *line,
                     unsigned *column)
{
    *line = document->line;
    *column = document->column;
    if (document->yaml != NULL) {
        yaml_doc_find(document->yaml, pointer, line, column);
    }
}
