// SPDX-License-Identifier: MIT
// The generic half of the codecs: memory, problems, objects and arrays.
#include "model/codec_int.h"
#include <stdarg.h>

enum {
    FIRST_BLOCK_LEN = 256, // a small route fits
    BLOCK_LEN = 4096,
    DEPTH_MAX = 8, // levels of an `at` chain that are shown
};

struct block {
    struct block *next;
    size_t len; // of what follows, which is aligned to 16
};

static void *take_block(struct reader *r, size_t size)
{
    size_t len = r->blocks == NULL ? (size_t)FIRST_BLOCK_LEN : (size_t)BLOCK_LEN;
    if (len < size) {
        len = size;
    }
    struct block *block = malloc(sizeof *block + len);
    if (block == NULL) {
        r->failed = true;
        problems_add(r->problems, ERR_MEMORY, "", "%s", err_text(ERR_MEMORY));
        return NULL;
    }
    block->next = r->blocks;
    block->len = len;
    r->blocks = block;
    char *start = (char *)(block + 1);
    // The larger rest stays in use.
    if (len - size >= r->free_len) {
        r->free = start + size;
        r->free_len = len - size;
    }
    return start;
}

void *reader_alloc(struct reader *r, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    void *p = r->free;
    if (size <= r->free_len && p != NULL) {
        r->free += size;
        r->free_len -= size;
    } else {
        p = take_block(r, size);
    }
    if (p != NULL) {
        memset(p, 0, size);
    }
    return p;
}

struct str reader_copy(struct reader *r, struct str text)
{
    char *p = reader_alloc(r, text.len + 1);
    if (p == NULL) {
        return STR_NULL;
    }
    if (text.len > 0) {
        memcpy(p, text.p, text.len);
    }
    return str_make(p, text.len);
}

void reader_free_memory(void *blocks, bool is_secret)
{
    struct block *block = blocks;
    while (block != NULL) {
        struct block *next = block->next;
        if (is_secret) {
            explicit_bzero(block + 1, block->len);
        }
        free(block);
        block = next;
    }
}

// RFC 6901: '~' is "~0", '/' is "~1".
static size_t put_token(char *to, size_t size, const char *name)
{
    size_t len = 0;
    for (; *name != '\0' && len + 2 < size; name++) {
        if (*name == '~' || *name == '/') {
            to[len++] = '~';
            to[len++] = *name == '~' ? '0' : '1';
        } else {
            to[len++] = *name;
        }
    }
    to[len] = '\0';
    return len;
}

static void render_pointer(const struct at *at, char *to, size_t size)
{
    const struct at *chain[DEPTH_MAX];
    unsigned depth = 0;
    for (; at != NULL && depth < DEPTH_MAX; at = at->up) {
        chain[depth++] = at;
    }
    size_t len = 0;
    to[0] = '\0';
    while (depth-- > 0 && len + 16 < size) {
        to[len++] = '/';
        if (chain[depth]->name != NULL) {
            len += put_token(to + len, size - len, chain[depth]->name);
        } else {
            len += (size_t)snprintf(to + len, size - len, "%u", chain[depth]->index);
        }
    }
}

void reader_problem(struct reader *r, const struct at *at, const char *format, ...)
{
    char pointer[sizeof((struct problem *)0)->pointer];
    char detail[sizeof((struct problem *)0)->detail];
    render_pointer(at, pointer, sizeof pointer);
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    r->failed = true;
    problems_add(r->problems, ERR_INVALID, pointer, "%s", detail);
}

void reader_wrong_type(struct reader *r, const struct at *at, const char *must, json_t *value)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "a list",  [JSON_STRING] = "a string",
        [JSON_INTEGER] = "a number", [JSON_REAL] = "a number", [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",      [JSON_NULL] = "null",
    };
    reader_problem(r, at, "must be %s, not %s", must, names[json_typeof(value)]);
}

enum { NAMES_MAX = 48 };

static void read_unknown(struct reader *r, const struct at *at, const struct member_table *table)
{
    if (r->mode == DECODE_FEED) {
        r->unknown++;
        return;
    }
    struct str names[NAMES_MAX] = {0};
    unsigned count = table->count < NAMES_MAX ? table->count : (unsigned)NAMES_MAX;
    for (unsigned i = 0; i < count; i++) {
        names[i] = table->members[i].name;
    }
    unsigned near = name_nearest(str_from_c(at->name), names, count);
    if (near < count) {
        reader_problem(r, at, "%s has no field \"%.64s\"; did you mean \"%.*s\"?", table->what,
                       at->name, STR_ARG(names[near]));
    } else {
        reader_problem(r, at, "%s has no field \"%.64s\"", table->what, at->name);
    }
}

static const struct member *find_member(const struct member_table *table, struct str name)
{
    for (unsigned i = 0; i < table->count; i++) {
        if (str_eq(table->members[i].name, name)) {
            return &table->members[i];
        }
    }
    return NULL;
}

bool reader_read_object(struct reader *r, const struct at *at, json_t *value, void *to,
                        const struct member_table *table)
{
    if (!json_is_object(value)) {
        reader_wrong_type(r, at, "an object", value);
        return false;
    }
    const char *name;
    json_t *item;
    json_object_foreach(value, name, item)
    {
        const struct at here = {at, name, 0};
        const struct member *member = find_member(table, str_from_c(name));
        if (member == NULL) {
            read_unknown(r, &here, table);
        } else {
            member->read(r, &here, item, (char *)to + member->offset, member);
        }
    }
    return true;
}

void reader_require_member(struct reader *r, const struct at *at, json_t *object, const char *name)
{
    if (json_is_object(object) && json_object_get(object, name) == NULL) {
        const struct at here = {at, name, 0};
        reader_problem(r, &here, "is missing");
    }
}

json_t *write_object(const void *from, const struct member_table *table)
{
    json_t *object = json_object();
    for (unsigned i = 0; i < table->count && object != NULL; i++) {
        const struct member *member = &table->members[i];
        if (member->write == NULL) {
            continue;
        }
        bool skip = false;
        json_t *value = member->write((const char *)from + member->offset, member, &skip);
        if (skip) {
            continue;
        }
        if (json_object_setn_new(object, member->name.p, member->name.len, value) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

json_t *write_part(const void *from, const struct member_table *table, bool *skip)
{
    json_t *object = write_object(from, table);
    if (object != NULL && json_object_size(object) == 0) {
        json_decref(object);
        *skip = true;
        return NULL;
    }
    return object;
}

void *reader_read_array(struct reader *r, const struct at *at, json_t *value, size_t element_size,
                        unsigned max, unsigned *count)
{
    *count = 0;
    if (!json_is_array(value)) {
        reader_wrong_type(r, at, "a list", value);
        return NULL;
    }
    size_t len = json_array_size(value);
    if (len > max) {
        reader_problem(r, at, "has %zu elements; at most %u are allowed", len, max);
        return NULL;
    }
    if (len == 0) {
        return NULL;
    }
    void *elements = reader_alloc(r, len * element_size);
    *count = elements == NULL ? 0 : (unsigned)len;
    return elements;
}

bool reader_view(struct reader *r, const struct at *at, json_t *value, struct str *text)
{
    if (!json_is_string(value)) {
        reader_wrong_type(r, at, "a string", value);
        return false;
    }
    *text = str_make(json_string_value(value), json_string_length(value));
    return true;
}

json_t *write_str(struct str text)
{
    return json_stringn(text.len == 0 ? "" : text.p, text.len);
}
