// SPDX-License-Identifier: MIT
// The parts of `apply`. Main thread.
#pragma once
#include "cli/client.h"
#include "cli/documents.h"
#include "model/declaration.h"

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
    unsigned failed; // faults found (and printed) so far
};

void operations_init(struct operations *operations);
void operations_fini(struct operations *operations);
// Takes the declarations out of the documents. Faults are printed and counted.
void operations_expand(struct operations *operations);
// "file:line:column: kind key: /pointer: detail" on standard error. `pointer` is one of the declaration.
void operation_report(const struct operations *operations, const struct operation *operation,
                      struct str pointer, const char *detail);
// Where the value of a pointer of the declaration stands.
void operation_locate(const struct operations *operations, const struct operation *operation,
                      struct str pointer, unsigned *line, unsigned *column);
// Prints one result, as JSON or for people.
void operation_show(const struct operations *operations, const struct operation *operation,
                    const char *result, bool is_json);
// What would be done. Returns the exit status.
int operations_try(struct operations *operations, struct client *client, bool is_json);
