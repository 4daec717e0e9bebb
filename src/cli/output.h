// SPDX-License-Identifier: MIT
// What people read: tables and YAML. Main thread.
#pragma once
#include "base/buf.h"
#include <jansson.h>
#include <stdio.h>

enum { TABLE_COLUMN_MAX = 12 };

// Cells row by row; printed with columns as wide as their widest cell. Controls are shown as '?',
// so that no declaration can move the cursor of a terminal.
struct table {
    unsigned column_count;
    unsigned cell_count;
    size_t widths[TABLE_COLUMN_MAX];
    struct buf text; // cells, each terminated
};

void table_init(struct table *table, unsigned column_count);
void table_fini(struct table *table);
void table_put(struct table *table, struct str cell);
void table_put_c(struct table *table, const char *cell);
void table_putf(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_print(const struct table *table, FILE *to);
// A string, number or boolean of an object as text; `missing` when it is not there, null
// or empty.
void table_put_member(struct table *table, const json_t *object, const char *name,
                      const char *missing);

// JSON with 2 blanks of indentation and a line feed.
void output_json(const json_t *value, FILE *to);
// An object as a YAML block: a line a member, lists of scalars or objects an item a line, what is
// deeper in flow style. No "---".
void output_yaml(const json_t *object, FILE *to);
