// SPDX-License-Identifier: MIT
// From libyaml's events to a tree, with a stack of our own: nesting costs no C stack.
#include "model/yaml_int.h"
#include <limits.h>
#include <yaml.h>

struct anchor {
    char *name;
    json_t *value;   // borrowed from the tree
    unsigned size;   // values in it
    unsigned height; // levels in it: 0 for a scalar
};

// A list or mapping under way.
struct level {
    json_t *value;
    unsigned place;
    unsigned height;        // levels below it so far, and itself
    unsigned values_before; // values of the document when it began
    char *anchor;           // its own, or NULL
    char *key;              // of the member whose value comes next; NULL: a key comes next
    unsigned key_line;
    unsigned key_column;
};

struct yaml_stream {
    yaml_parser_t parser;
    char *name;
    bool ended;
    struct problems *problems; // of the call
    // The document under way.
    struct yaml_doc *doc;
    struct level levels[YAML_DEPTH_MAX];
    unsigned depth;
    unsigned values;
    struct anchor anchors[YAML_ANCHORS_MAX];
    unsigned anchor_count;
};

int yaml_stream_new(struct yaml_stream **stream, const char *name, struct str text)
{
    struct yaml_stream *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return ERR_MEMORY;
    }
    s->name = str_dup(str_from_c(name));
    if (s->name == NULL || yaml_parser_initialize(&s->parser) == 0) {
        free(s->name);
        free(s);
        return ERR_MEMORY;
    }
    yaml_parser_set_input_string(&s->parser, (const unsigned char *)(text.len == 0 ? "" : text.p),
                                 text.len);
    yaml_parser_set_encoding(&s->parser, YAML_UTF8_ENCODING);
    *stream = s;
    return 0;
}

static void drop_document(struct yaml_stream *s)
{
    for (unsigned i = 0; i < s->depth; i++) {
        free(s->levels[i].anchor);
        free(s->levels[i].key);
    }
    for (unsigned i = 0; i < s->anchor_count; i++) {
        free(s->anchors[i].name);
    }
    s->depth = 0;
    s->anchor_count = 0;
    s->values = 0;
    yaml_doc_free(&s->doc);
}

void yaml_stream_free(struct yaml_stream **stream)
{
    if (*stream == NULL) {
        return;
    }
    drop_document(*stream);
    yaml_parser_delete(&(*stream)->parser);
    free((*stream)->name);
    free(*stream);
    *stream = NULL;
}

// What a text counts for, in values: aliases of long texts must not grow without bound either.
static unsigned text_cost(size_t len)
{
    return len / 32 < YAML_VALUES_MAX ? (unsigned)(len / 32) : (unsigned)YAML_VALUES_MAX;
}

static int fail_at(struct yaml_stream *s, size_t line, size_t column, const char *what)
{
    char pointer[256];
    snprintf(pointer, sizeof pointer, "%.200s:%zu:%zu", s->name, line + 1, column + 1);
    return problems_add(s->problems, ERR_SYNTAX, pointer, "%s", what);
}

static int fail(struct yaml_stream *s, const yaml_event_t *event, const char *what)
{
    return fail_at(s, event->start_mark.line, event->start_mark.column, what);
}

static int fail_memory(struct yaml_stream *s)
{
    return problems_add(s->problems, ERR_MEMORY, s->name, "%s", err_text(ERR_MEMORY));
}

// Puts a value (a reference that is taken) where the document is. *place is its index.
static int put_value(struct yaml_stream *s, const yaml_event_t *event, json_t *value,
                     unsigned *place)
{
    if (value == NULL) {
        return fail_memory(s);
    }
    struct yaml_place here = {.line = (unsigned)event->start_mark.line + 1,
                              .column = (unsigned)event->start_mark.column + 1};
    int bad;
    if (s->depth == 0) {
        s->doc->root = value;
        bad = 0;
    } else {
        struct level *level = &s->levels[s->depth - 1];
        here.parent = level->place;
        if (json_is_array(level->value)) {
            here.index = (unsigned)json_array_size(level->value);
            bad = json_array_append_new(level->value, value);
        } else {
            bad = json_object_set_new(level->value, level->key, value);
            here.key = level->key;
            here.line = level->key_line;
            here.column = level->key_column;
            level->key = NULL;
        }
    }
    if (bad != 0) {
        free(here.key);
        return fail_memory(s);
    }
    *place = yaml_doc_add_place(s->doc, here);
    if (*place == UINT_MAX) {
        return fail_memory(s);
    }
    return ++s->values > YAML_VALUES_MAX ? fail(s, event, "the document has too many values") : 0;
}

static struct anchor *find_anchor(struct yaml_stream *s, const char *name)
{
    // The newest of a name counts (YAML 1.2.2, 3.2.2.2).
    for (unsigned i = s->anchor_count; i > 0; i--) {
        if (strcmp(s->anchors[i - 1].name, name) == 0) {
            return &s->anchors[i - 1];
        }
    }
    return NULL;
}

static int add_anchor(struct yaml_stream *s, const yaml_event_t *event, const char *name,
                      json_t *value, unsigned size, unsigned height)
{
    if (s->anchor_count == YAML_ANCHORS_MAX) {
        return fail(s, event, "the document has too many anchors");
    }
    char *copy = str_dup(str_from_c(name));
    if (copy == NULL) {
        return fail_memory(s);
    }
    s->anchors[s->anchor_count++] = (struct anchor){copy, value, size, height};
    return 0;
}

static bool expects_key(const struct yaml_stream *s)
{
    return s->depth > 0 && json_is_object(s->levels[s->depth - 1].value) &&
           s->levels[s->depth - 1].key == NULL;
}

static int take_key(struct yaml_stream *s, const yaml_event_t *event, struct str text)
{
    struct level *level = &s->levels[s->depth - 1];
    bool is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (is_plain && str_eq(text, STR("<<"))) {
        return fail(s, event, "merge keys (\"<<\") are not supported");
    }
    level->key = str_dup(text);
    s->values += text_cost(text.len);
    level->key_line = (unsigned)event->start_mark.line + 1;
    level->key_column = (unsigned)event->start_mark.column + 1;
    if (level->key == NULL) {
        return fail_memory(s);
    }
    if (json_object_get(level->value, level->key) != NULL) {
        char what[128];
        snprintf(what, sizeof what, "the key \"%.64s\" is there twice", level->key);
        return fail(s, event, what);
    }
    return 0;
}

static bool tag_is(const yaml_char_t *tag, const char *name)
{
    return tag != NULL && strcmp((const char *)tag, name) == 0;
}

static int on_scalar(struct yaml_stream *s, const yaml_event_t *event)
{
    struct str text = str_make((const char *)event->data.scalar.value, event->data.scalar.length);
    const yaml_char_t *tag = event->data.scalar.tag;
    bool is_text = tag_is(tag, YAML_STR_TAG) || tag_is(tag, "!");
    if (tag != NULL && !is_text) {
        return fail(s, event, "tags are not supported, but for !!str");
    }
    if (memchr(text.p, '\0', text.len) != NULL) {
        return fail(s, event, "holds a NUL byte");
    }
    const char *anchor = (const char *)event->data.scalar.anchor;
    if (expects_key(s)) {
        return anchor != NULL ? fail(s, event, "keys cannot have anchors")
                              : take_key(s, event, text);
    }
    json_t *value = NULL;
    if (!is_text && event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        const char *wrong = yaml_plain_scalar(text, &value);
        if (wrong != NULL) {
            return fail(s, event, wrong);
        }
    } else {
        value = json_stringn(text.p, text.len);
    }
    unsigned place;
    s->values += text_cost(text.len);
    int err = put_value(s, event, value, &place);
    return err != 0 || anchor == NULL
               ? err
               : add_anchor(s, event, anchor, value, 1 + text_cost(text.len), 0);
}

static int on_start(struct yaml_stream *s, const yaml_event_t *event, json_t *value,
                    const yaml_char_t *anchor, const yaml_char_t *tag)
{
    const char *wrong = expects_key(s)               ? "a key must be a scalar"
                        : s->depth == YAML_DEPTH_MAX ? "is nested too deeply"
                        : tag != NULL && !tag_is(tag, YAML_MAP_TAG) && !tag_is(tag, YAML_SEQ_TAG)
                            ? "tags are not supported"
                            : NULL;
    if (wrong != NULL) {
        json_decref(value);
        return fail(s, event, wrong);
    }
    struct level level = {.value = value, .height = 1, .values_before = s->values};
    int err = put_value(s, event, value, &level.place);
    if (err != 0) {
        return err;
    }
    if (anchor != NULL) {
        level.anchor = str_dup(str_from_c((const char *)anchor));
        if (level.anchor == NULL) {
            return fail_memory(s);
        }
    }
    s->levels[s->depth++] = level;
    return 0;
}

// The level that holds something of `height` levels is one higher.
static void raise_height(struct yaml_stream *s, unsigned height)
{
    struct level *level = s->depth == 0 ? NULL : &s->levels[s->depth - 1];
    if (level != NULL && level->height < height + 1) {
        level->height = height + 1;
    }
}

static int on_end(struct yaml_stream *s, const yaml_event_t *event)
{
    struct level level = s->levels[--s->depth];
    int err = 0;
    if (level.anchor != NULL) {
        err = add_anchor(s, event, level.anchor, level.value, s->values - level.values_before,
                         level.height);
    }
    raise_height(s, level.height);
    free(level.anchor);
    free(level.key);
    return err;
}

static int on_alias(struct yaml_stream *s, const yaml_event_t *event)
{
    if (expects_key(s)) {
        return fail(s, event, "a key must not be an alias");
    }
    struct anchor *anchor = find_anchor(s, (const char *)event->data.alias.anchor);
    if (anchor == NULL) {
        return fail(s, event, "there is no such anchor before this alias");
    }
    // Checked before it is copied: the copy is what costs.
    if (s->values >= YAML_VALUES_MAX || anchor->size > YAML_VALUES_MAX - s->values) {
        return fail(s, event, "the document's aliases grow to too many values");
    }
    // Aliases in anchors in aliases would nest without bound.
    if (anchor->height > YAML_DEPTH_MAX - s->depth) {
        return fail(s, event, "the document's aliases nest too deeply");
    }
    raise_height(s, anchor->height);
    s->values += anchor->size - 1;
    unsigned place;
    return put_value(s, event, json_deep_copy(anchor->value), &place);
}

static int on_event(struct yaml_stream *s, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return on_scalar(s, event);
    case YAML_SEQUENCE_START_EVENT:
        return on_start(s, event, json_array(), event->data.sequence_start.anchor,
                        event->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return on_start(s, event, json_object(), event->data.mapping_start.anchor,
                        event->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_end(s, event);
    case YAML_ALIAS_EVENT:
        return on_alias(s, event);
    case YAML_DOCUMENT_START_EVENT:
        s->doc = calloc(1, sizeof *s->doc);
        if (s->doc != NULL) {
            s->doc->hints = calloc(YAML_DEPTH_MAX + 1, sizeof *s->doc->hints);
        }
        return s->doc == NULL ? fail_memory(s) : 0;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        break;
    }
    return 0;
}

static int fail_parser(struct yaml_stream *s)
{
    const yaml_parser_t *parser = &s->parser;
    if (parser->error == YAML_MEMORY_ERROR) {
        return fail_memory(s);
    }
    if (parser->error == YAML_READER_ERROR) {
        char what[160];
        snprintf(what, sizeof what, "%s (byte %zu)", parser->problem, parser->problem_offset);
        return fail_at(s, parser->mark.line, parser->mark.column, what);
    }
    return fail_at(s, parser->problem_mark.line, parser->problem_mark.column,
                   parser->problem == NULL ? "not YAML" : parser->problem);
}

int yaml_stream_next(struct yaml_stream *s, struct yaml_doc **doc, struct problems *problems)
{
    *doc = NULL;
    s->problems = problems;
    int err = 0;
    while (!s->ended && err == 0) {
        yaml_event_t event;
        if (yaml_parser_parse(&s->parser, &event) == 0) {
            err = fail_parser(s);
            break;
        }
        err = on_event(s, &event);
        yaml_event_type_t type = event.type;
        yaml_event_delete(&event);
        s->ended |= type == YAML_STREAM_END_EVENT;
        if (err == 0 && type == YAML_DOCUMENT_END_EVENT) {
            *doc = s->doc;
            s->doc = NULL;
            drop_document(s);
            return STEP_DONE;
        }
    }
    if (err != 0) {
        s->ended = true;
        drop_document(s);
    }
    return err;
}
