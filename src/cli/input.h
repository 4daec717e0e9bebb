// SPDX-License-Identifier: MIT
// Files that are named on the command line. Main thread.
#pragma once
#include "base/buf.h"
#include "model/documents.h"
#include <jansson.h>

enum {
    DOCUMENT_FILE_MAX = 1 << 30, // bytes of a file
    TEXT_FILE_MAX = 256 << 10,   // of one that is a field's value
};

// A documents_on_fault: on standard error.
void documents_print_fault(void *context, const char *place, const char *detail);
// Appends what a file holds ("-": standard input). The name is borrowed. 0, or -1: printed as
// file:line:column: message.
int documents_read(struct documents *documents, const char *path);
// The text of a small file (PEM; "-": standard input) as a JSON string, a new reference; NULL: printed.
json_t *text_file_read(const char *path);
// Overwrites the string that a member of an object is, so that it does not stay in memory. NULL is fine.
void json_wipe_member(json_t *object, const char *name);
