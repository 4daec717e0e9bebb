// SPDX-License-Identifier: MIT
// Files of declarations: YAML documents, JSON values, NDJSON. Owner thread only.
#pragma once
#include "model/yaml.h"
#include <jansson.h>

struct document {
    json_t *root;          // of the YAML document, or own
    struct yaml_doc *yaml; // NULL: JSON
    const char *file;      // as it was named
    unsigned line;         // where JSON begins
    unsigned column;
};

// What is wrong; `place` is "file:line:column", or empty when there is none.
typedef void (*documents_on_fault)(void *context, const char *place, const char *detail);

struct documents {
    struct document *items;
    size_t count;
    size_t size;
    documents_on_fault on_fault;
    void *context; // of on_fault
};

void documents_init(struct documents *documents, documents_on_fault on_fault, void *context);
void documents_fini(struct documents *documents);
// Appends what a file's text holds. The name is borrowed; it says by its end whether a text that begins
// like JSON may be YAML. 0; or, after telling, ERR_SYNTAX, ERR_INVALID, ERR_MEMORY.
int documents_parse(struct documents *documents, const char *name, struct str text) WARN_UNUSED;
// A fault of the value that a JSON pointer names.
void documents_fault(const struct documents *documents, size_t document, struct str pointer,
                     const char *detail);
// Where a JSON pointer's value stands; in JSON files the beginning of the value that holds it.
void document_locate(const struct document *document, struct str pointer, unsigned *line,
                     unsigned *column);
