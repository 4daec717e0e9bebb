// SPDX-License-Identifier: MIT
#include "cli/output.h"
#include <stdarg.h>

void table_init(struct table *table, unsigned column_count)
{
    *table = (struct table){.column_count = column_count};
    buf_init(&table->text, 0);
}

void table_fini(struct table *table)
{
    buf_fini(&table->text);
}

// Columns on a terminal: one a code point.
static size_t text_width(struct str text)
{
    size_t width = 0;
    for (size_t i = 0; i < text.len; i++) {
        width += ((unsigned char)text.p[i] & 0xC0) != 0x80;
    }
    return width;
}

void table_put(struct table *table, struct str cell)
{
    size_t *width = &table->widths[table->cell_count % table->column_count];
    size_t cell_width = text_width(cell);
    *width = cell_width > *width ? cell_width : *width;
    for (size_t i = 0; i < cell.len; i++) {
        unsigned char c = (unsigned char)cell.p[i];
        unsigned char next = i + 1 < cell.len ? (unsigned char)cell.p[i + 1] : 0;
        bool is_c1 = c == 0xC2 && next >= 0x80 && next <= 0x9f; // U+0080 to U+009F
        buf_put_char(&table->text, c < 0x20 || c == 0x7f || is_c1 ? '?' : (char)c);
        i += is_c1;
    }
    buf_put_char(&table->text, '\0');
    table->cell_count++;
}

void table_put_c(struct table *table, const char *cell)
{
    table_put(table, str_from_c(cell));
}

void table_putf(struct table *table, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    table_put(table, str_from_c(text));
}

void table_put_member(struct table *table, const json_t *object, const char *name,
                      const char *missing)
{
    const json_t *value = json_object_get(object, name);
    if (json_string_length(value) > 0) {
        table_put(table, str_make(json_string_value(value), json_string_length(value)));
    } else if (json_is_integer(value)) {
        table_putf(table, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_is_real(value)) {
        table_putf(table, "%.3g", json_real_value(value));
    } else if (json_is_boolean(value)) {
        table_put_c(table, json_is_true(value) ? "yes" : "no");
    } else {
        table_put_c(table, missing);
    }
}

void table_print(const struct table *table, FILE *to)
{
    if (table->text.failed) {
        fputs("pointsman: out of memory\n", stderr);
        return;
    }
    const char *cell = table->text.p;
    for (unsigned i = 0; i < table->cell_count; i++) {
        unsigned column = i % table->column_count;
        size_t len = strlen(cell);
        bool is_last = column + 1 == table->column_count;
        size_t pad = is_last ? 0 : table->widths[column] - text_width(str_make(cell, len)) + 2;
        fprintf(to, "%s%*s%s", cell, (int)pad, "", is_last ? "\n" : "");
        cell += len + 1;
    }
}

void output_json(const json_t *value, FILE *to)
{
    json_dumpf(value, to, JSON_INDENT(2) | JSON_ENCODE_ANY);
    fputc('\n', to);
}

// Bytes of the UTF-8 sequence at p that JSON may hold as it is and YAML may not (DEL, C1 controls,
// U+FFFE, U+FFFF): its code point, or 0.
static unsigned unprintable(const unsigned char *p, size_t *len)
{
    if (p[0] == 0x7f) {
        *len = 1;
        return 0x7f;
    }
    if (p[0] == 0xC2 && p[1] >= 0x80 && p[1] <= 0x9f) {
        *len = 2;
        return p[1];
    }
    if (p[0] == 0xEF && p[1] == 0xBF && (p[2] == 0xBE || p[2] == 0xBF)) {
        *len = 3;
        return 0xFFC0u | p[2];
    }
    return 0;
}

// JSON is YAML's flow style, but for bytes that stand in its strings only.
static void print_flow(const json_t *value, FILE *to)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    if (text == NULL) {
        fputs("null", to);
        return;
    }
    for (const char *p = text; *p != '\0';) {
        size_t len = 1;
        unsigned code = unprintable((const unsigned char *)p, &len);
        if (code != 0) {
            fprintf(to, "\\u%04x", code);
        } else {
            fputc(*p, to);
        }
        p += len;
    }
    free(text);
}

static void print_list(const json_t *list, FILE *to)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        fputs("\n  - ", to);
        print_flow(item, to);
    }
}

static void print_members(const json_t *object, FILE *to)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        json_t *name = json_string(key);
        fputs("\n  ", to);
        print_flow(name, to);
        fputs(": ", to);
        print_flow(value, to);
        json_decref(name);
    }
}

void output_yaml(const json_t *object, FILE *to)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        fprintf(to, "%s:", key); // a field's name: plain
        if (json_array_size(value) > 0) {
            print_list(value, to);
        } else if (json_object_size(value) > 0) {
            print_members(value, to);
        } else {
            fputc(' ', to);
            print_flow(value, to);
        }
        fputc('\n', to);
    }
}
