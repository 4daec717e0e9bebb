// SPDX-License-Identifier: MIT
// The configuration file: a YAML tree walked against the table of settings.
#include "base/buf.h"
#include "model/config_int.h"
#include "model/yaml.h"
#include <errno.h>

enum { FILE_MAX = 1 << 20 };

// One setting or section under way; sections nest two deep at most, because the paths of the table do.
struct walk {
    struct config *config;
    const struct yaml_doc *doc;
    const char *name; // of the file
    struct problems *problems;
    int err;
};

static void place(const struct walk *w, const char *json_pointer, char *to, size_t size)
{
    unsigned line;
    unsigned column;
    yaml_doc_find(w->doc, str_from_c(json_pointer), &line, &column);
    snprintf(to, size, "%.200s:%u:%u", w->name, line, column);
}

static void keep(struct walk *w, int err)
{
    w->err = w->err != 0 ? w->err : err;
}

// A scalar as text, in `number` if need be. False for lists, mappings and null.
static bool scalar_text(json_t *value, char number[VALUE_TEXT_MAX], struct str *text)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        *text = str_make(json_string_value(value), json_string_length(value));
        return true;
    case JSON_INTEGER:
        snprintf(number, VALUE_TEXT_MAX, "%lld", (long long)json_integer_value(value));
        *text = str_from_c(number);
        return true;
    case JSON_REAL:
        snprintf(number, VALUE_TEXT_MAX, "%.17g", json_real_value(value));
        *text = str_from_c(number);
        return true;
    case JSON_TRUE:
        *text = STR("true");
        return true;
    case JSON_FALSE:
        *text = STR("false");
        return true;
    case JSON_OBJECT:
    case JSON_ARRAY:
    case JSON_NULL:
        break;
    }
    return false;
}

static void take_list(struct walk *w, const struct config_row *row, const char *json_pointer,
                      json_t *value)
{
    config_clear_list(w->config, row);
    for (size_t i = 0; i < json_array_size(value); i++) {
        char element[300];
        char pointer[256];
        char number[VALUE_TEXT_MAX];
        struct str text;
        snprintf(element, sizeof element, "%.250s/%zu", json_pointer, i);
        place(w, element, pointer, sizeof pointer);
        if (!scalar_text(json_array_get(value, i), number, &text)) {
            keep(w, problems_add(w->problems, ERR_INVALID, pointer, "%.*s must be a %s",
                                 STR_ARG(row->path), config_kind_name(row->kind)));
            continue;
        }
        keep(w, config_take_value(w->config, row, text, pointer, w->problems));
    }
}

static void take_setting(struct walk *w, const struct config_row *row, const char *json_pointer,
                         json_t *value)
{
    char pointer[256];
    char number[VALUE_TEXT_MAX];
    struct str text;
    place(w, json_pointer, pointer, sizeof pointer);
    if (json_is_null(value)) {
        return;
    }
    if (config_kind_is_list(row->kind) && json_is_array(value)) {
        take_list(w, row, json_pointer, value);
    } else if (!scalar_text(value, number, &text)) {
        keep(w, problems_add(w->problems, ERR_INVALID, pointer, "%.*s must be a %s, not a %s",
                             STR_ARG(row->path), config_kind_name(row->kind),
                             json_is_array(value) ? "list" : "mapping"));
    } else {
        keep(w, config_set(w->config, row->path, text, false, pointer, w->problems));
    }
}

static bool is_section(struct str name)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        struct str path = config_rows[i].path;
        if (path.len > name.len && path.p[name.len] == '.' && str_starts(path, name)) {
            return true;
        }
    }
    return false;
}

// `section` is "" at the top.
static void take_member(struct walk *w, const char *section, const char *name, json_t *value)
{
    char path[200];
    char json_pointer[300];
    char pointer[256];
    bool top = section[0] == '\0';
    snprintf(path, sizeof path, "%.64s%s%.100s", section, top ? "" : ".", name);
    snprintf(json_pointer, sizeof json_pointer, "%s%.64s/%.100s", top ? "" : "/", section, name);
    unsigned i = strlen(name) > 100 ? config_row_count : config_find(str_from_c(path));
    if (i < config_row_count) {
        take_setting(w, &config_rows[i], json_pointer, value);
        return;
    }
    place(w, json_pointer, pointer, sizeof pointer);
    keep(w, config_add_unknown(w->problems, pointer, str_from_c(path)));
}

static void take_section(struct walk *w, const char *section, json_t *value)
{
    char json_pointer[80];
    char pointer[256];
    snprintf(json_pointer, sizeof json_pointer, "/%.64s", section);
    place(w, json_pointer, pointer, sizeof pointer);
    if (json_is_null(value)) {
        return;
    }
    if (!json_is_object(value)) {
        keep(w, problems_add(w->problems, ERR_INVALID, pointer, "%s must be a mapping", section));
        return;
    }
    const char *name;
    json_t *item;
    json_object_foreach(value, name, item)
    {
        take_member(w, section, name, item);
    }
}

static void take_root(struct walk *w, json_t *root)
{
    char pointer[256];
    if (json_is_null(root)) {
        return;
    }
    if (!json_is_object(root)) {
        place(w, "", pointer, sizeof pointer);
        keep(w, problems_add(w->problems, ERR_INVALID, pointer,
                             "a configuration is a mapping of settings"));
        return;
    }
    const char *name;
    json_t *item;
    json_object_foreach(root, name, item)
    {
        if (is_section(str_from_c(name))) {
            take_section(w, name, item);
        } else {
            take_member(w, "", name, item);
        }
    }
}

int config_read_text(struct config *config, const char *name, struct str text,
                     struct problems *problems)
{
    struct yaml_stream *stream;
    struct yaml_doc *doc;
    int err = yaml_stream_new(&stream, name, text);
    if (err != 0) {
        return problems_add(problems, err, name, "%s", err_text(err));
    }
    int step = yaml_stream_next(stream, &doc, problems);
    if (step == STEP_DONE) {
        struct walk w = {config, doc, name, problems, 0};
        take_root(&w, yaml_doc_root(doc));
        err = w.err;
        yaml_doc_free(&doc);
        step = yaml_stream_next(stream, &doc, problems);
        if (step == STEP_DONE) {
            step = problems_add(problems, ERR_INVALID, name,
                                "a configuration has one document, not several");
            yaml_doc_free(&doc);
        }
    }
    yaml_stream_free(&stream);
    return err != 0 ? err : step;
}

static int read_all(FILE *file, struct buf *text)
{
    size_t got;
    do {
        char *to = buf_reserve(text, 4096);
        got = to == NULL ? 0 : fread(to, 1, 4096, file);
        text->len += got;
    } while (got > 0);
    return text->failed ? ERR_LIMIT : ferror(file) ? ERR_SYSTEM : 0;
}

int config_read_file(struct config *config, const char *path, struct problems *problems)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return problems_add(problems, ERR_SYSTEM, path, "cannot be read: %s", strerror(errno));
    }
    struct buf text;
    buf_init(&text, FILE_MAX + 4096);
    int err = read_all(file, &text);
    if (err == ERR_SYSTEM) {
        problems_add(problems, err, path, "cannot be read: %s", strerror(errno));
    } else if (err != 0) {
        problems_add(problems, err, path, "is larger than 1 MiB, or memory is out");
    } else {
        err = config_read_text(config, path, buf_str(&text), problems);
    }
    fclose(file);
    buf_fini(&text);
    return err;
}
