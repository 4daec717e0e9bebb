// SPDX-License-Identifier: MIT
// From documents to declarations: what `pointsman apply` sends and what the files of a file: store say.
// Owner thread only.
#pragma once
#include "model/declaration.h"
#include "model/documents.h"

enum { OPERATION_PREFIX_MAX = 64 };

// One declaration of the files, as a line of a batch.
struct operation {
    size_t document;
    char prefix[OPERATION_PREFIX_MAX]; // JSON pointer of the declaration in its document
    bool is_line;                      // written as a batch line: its fields are under /value
    bool is_delete;
    char *kind;
    char *key;     // as it is shown and sent
    json_t *value; // own reference; NULL: a deletion
};

struct operations {
    struct documents documents;
    struct operation *items;
    size_t count;
    size_t size;
    unsigned failed; // faults found (and told) so far
};

void operations_init(struct operations *operations, documents_on_fault on_fault, void *context);
void operations_fini(struct operations *operations);
// Takes the declarations out of the documents. Faults are told and counted.
void operations_expand(struct operations *operations);
// Tells a fault of one: "kind key: /pointer: detail". `pointer` is one of the declaration.
void operation_report(const struct operations *operations, const struct operation *operation,
                      struct str pointer, const char *detail);
// Where the value of a pointer of the declaration stands.
void operation_locate(const struct operations *operations, const struct operation *operation,
                      struct str pointer, unsigned *line, unsigned *column);
