// SPDX-License-Identifier: MIT
#include "cli/documents.h"
#include <errno.h>

void documents_init(struct documents *documents)
{
    *documents = (struct documents){.items = NULL};
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
    documents_init(documents);
}

static const char *shown_name(const char *path)
{
    return strcmp(path, "-") == 0 ? "standard input" : path;
}

static int read_all(const char *path, struct buf *text)
{
    bool is_standard = strcmp(path, "-") == 0;
    FILE *file = is_standard ? stdin : fopen(path, "re");
    if (file == NULL) {
        fprintf(stderr, "pointsman: cannot open %s: %s\n", path, strerror(errno));
        return -1;
    }
    char part[16384];
    size_t n;
    while ((n = fread(part, 1, sizeof part, file)) > 0 && !text->failed) {
        buf_put(text, str_make(part, n));
    }
    int err = ferror(file) ? errno : 0;
    if (!is_standard) {
        fclose(file);
    }
    if (err != 0 || text->failed) {
        fprintf(stderr, "pointsman: cannot read %s: %s\n", shown_name(path),
                err != 0 ? strerror(err) : "it is too long, or memory is out");
        return -1;
    }
    return 0;
}

static struct document *add_document(struct documents *documents, const char *path)
{
    if (documents->count == documents->size) {
        size_t size = documents->size == 0 ? 16 : documents->size * 2;
        struct document *items = realloc(documents->items, size * sizeof *items);
        if (items == NULL) {
            fputs("pointsman: out of memory\n", stderr);
            return NULL;
        }
        documents->items = items;
        documents->size = size;
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
        fprintf(stderr, "%s: %s\n", problems.items[i].pointer, problems.items[i].detail);
    }
    yaml_stream_free(&stream);
    problems_fini(&problems);
    return step < 0 ? -1 : 0;
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
            fprintf(stderr, "%s:%u:%u: %s\n", path, line + (unsigned)error.line - 1,
                    (unsigned)error.column + (is_first_line ? column - 1 : 0), error.text);
            return -1;
        }
        struct document *document = add_document(documents, path);
        if (document == NULL) {
            json_decref(root);
            return -1;
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

int documents_read(struct documents *documents, const char *path)
{
    struct buf text;
    buf_init(&text, DOCUMENT_FILE_MAX);
    int err = read_all(path, &text);
    if (err == 0 && text.len > 0) {
        err = looks_like_json(path, buf_str(&text)) ? read_json(documents, path, buf_str(&text))
                                                    : read_yaml(documents, path, buf_str(&text));
    }
    buf_fini(&text);
    return err;
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

json_t *text_file_read(const char *path)
{
    struct buf text;
    buf_init(&text, TEXT_FILE_MAX);
    json_t *value = NULL;
    if (read_all(path, &text) == 0) {
        value = json_stringn(text.len > 0 ? text.p : "", text.len);
        if (value == NULL) {
            fprintf(stderr, "pointsman: %s is no text\n", shown_name(path));
        }
    }
    if (text.p != NULL) {
        explicit_bzero(text.p, text.len);
    }
    buf_fini(&text);
    return value;
}

void json_wipe_member(json_t *object, const char *name)
{
    const json_t *member = json_object_get(object, name);
    if (json_is_string(member)) {
        explicit_bzero((char *)(uintptr_t)json_string_value(member), json_string_length(member));
    }
}
