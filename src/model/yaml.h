// SPDX-License-Identifier: MIT
// YAML text to the same JSON tree that the API reads, with the line and column of every value. YAML 1.2
// core schema: `yes` is a string, `0o17` is 15, `32k` is a string. Refused: tags, merge keys, repeated
// keys, keys that are no scalars, numbers JSON cannot hold, NUL. Aliases are copied; what they grow to
// counts for the bound of a document, so that a few lines cannot become gigabytes. Owner thread only.
#pragma once
#include "model/problem.h"
#include <jansson.h>

enum {
    YAML_DEPTH_MAX = 64,       // levels of nesting
    YAML_VALUES_MAX = 1000000, // values of a document, with those that aliases bring
    YAML_ANCHORS_MAX = 1000,   // of a document
};

struct yaml_stream;
struct yaml_doc;

// Begins to read `text`, which must live until the stream is freed. `name` (copied) is named in problems,
// whose pointer is "NAME:LINE:COLUMN". 0, or ERR_MEMORY.
int yaml_stream_new(struct yaml_stream **stream, const char *name, struct str text) WARN_UNUSED;
void yaml_stream_free(struct yaml_stream **stream);
// The next document: STEP_DONE and *doc (free with yaml_doc_free), STEP_AGAIN (0) at the end, or a
// negative err with a problem; after that only the end follows. An empty document is null.
int yaml_stream_next(struct yaml_stream *stream, struct yaml_doc **doc,
                     struct problems *problems) WARN_UNUSED;
void yaml_doc_free(struct yaml_doc **doc);

// Borrowed; lives as long as the document.
json_t *yaml_doc_root(const struct yaml_doc *doc);
// Line and column (from 1) of what a JSON pointer names; the key's place for a member. For what is not
// there, the nearest that holds it. The empty pointer is the document.
void yaml_doc_find(const struct yaml_doc *doc, struct str pointer, unsigned *line,
                   unsigned *column);
