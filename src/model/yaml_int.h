// SPDX-License-Identifier: MIT
#pragma once
#include "model/yaml.h"

// The value of a plain scalar: NULL and *value (a new reference; NULL when out of memory), or what is
// wrong with it.
const char *yaml_plain_scalar(struct str text, json_t **value);

// Where a value stands: a tree in one array, in the order of the text.
struct yaml_place {
    unsigned parent; // index
    unsigned index;  // of an element of a list
    char *key;       // of a member, malloc; NULL: an element, or the root
    unsigned line;
    unsigned column;
};

struct yaml_doc {
    json_t *root;
    struct yaml_place *places; // [0] is the root
    unsigned place_count;
    unsigned place_size;
    unsigned
        *hints; // by depth, the place found last: who asks in order finds each soon. NULL: none
};

// Adds a place; takes `key`. Its index, or UINT_MAX when out of memory.
unsigned yaml_doc_add_place(struct yaml_doc *doc, struct yaml_place place);
