// SPDX-License-Identifier: MIT
// Files of declarations: YAML documents, JSON values, NDJSON. Main thread.
#pragma once
#include "base/buf.h"
#include "model/yaml.h"
#include <jansson.h>

enum {
    DOCUMENT_FILE_MAX = 1 << 30, // bytes of a file
    TEXT_FILE_MAX = 256 << 10,   // of one that is a field's value
};

struct document {
    json_t *root;          // of the YAML document, or own
    struct yaml_doc *yaml; // NULL: JSON
    const char *file;      // as it was named
    unsigned line;         // where JSON begins
    unsigned column;
};

struct documents {
    struct document *items;
    size_t count;
    size_t size;
};

void documents_init(struct documents *documents);
void documents_fini(struct documents *documents);
// Appends what a file holds ("-": standard input). The name is borrowed. 0, or -1: printed as
// file:line:column: message.
int documents_read(struct documents *documents, const char *path);
// Where a JSON pointer's value stands; in JSON files the beginning of the value that holds it.
void document_locate(const struct document *document, struct str pointer, unsigned *line,
                     unsigned *column);

// The text of a small file (PEM; "-": standard input) as a JSON string, a new reference; NULL: printed.
json_t *text_file_read(const char *path);
// Overwrites the string that a member of an object is, so that it does not stay in memory. NULL is fine.
void json_wipe_member(json_t *object, const char *name);
