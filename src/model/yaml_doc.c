// SPDX-License-Identifier: MIT
// Documents and where their values stand.
#include "base/array.h"
#include "model/yaml_int.h"
#include <limits.h>

unsigned yaml_doc_add_place(struct yaml_doc *doc, struct yaml_place place)
{
    if (!ARRAY_ROOM(doc->places, doc->place_count, doc->place_size, 16)) {
        free(place.key);
        return UINT_MAX;
    }
    doc->places[doc->place_count] = place;
    return doc->place_count++;
}

void yaml_doc_free(struct yaml_doc **doc)
{
    if (*doc == NULL) {
        return;
    }
    for (unsigned i = 0; i < (*doc)->place_count; i++) {
        free((*doc)->places[i].key);
    }
    free((*doc)->places);
    free((*doc)->hints);
    json_decref((*doc)->root);
    free(*doc);
    *doc = NULL;
}

json_t *yaml_doc_root(const struct yaml_doc *doc)
{
    return doc->root;
}

// Is `token` (RFC 6901) the key?
static bool token_is(struct str token, const char *key)
{
    for (size_t i = 0; i < token.len; i++, key++) {
        char c = token.p[i];
        if (c == '~' && i + 1 < token.len) {
            i++;
            c = token.p[i] == '1' ? '/' : '~';
        }
        if (*key == '\0' || *key != c) {
            return false;
        }
    }
    return *key == '\0';
}

static bool find_child(const struct yaml_doc *doc, unsigned parent, struct str token, unsigned from,
                       unsigned to, unsigned *found)
{
    uint64_t index = 0;
    bool is_index = str_to_u64(token, &index) == 0;
    for (unsigned i = from; i < to; i++) {
        const struct yaml_place *place = &doc->places[i];
        if (place->parent == parent && (place->key != NULL ? token_is(token, place->key)
                                                           : is_index && place->index == index)) {
            *found = i;
            return true;
        }
    }
    return false;
}

// Children stand behind their parent; looked for from the one that was found last, then before it.
static bool find_near(const struct yaml_doc *doc, unsigned depth, struct str token, unsigned *at)
{
    unsigned parent = *at;
    unsigned *hint = doc->hints == NULL || depth > YAML_DEPTH_MAX ? NULL : &doc->hints[depth];
    unsigned from = hint == NULL || *hint <= parent ? parent + 1 : *hint;
    if (!find_child(doc, parent, token, from, doc->place_count, at) &&
        !find_child(doc, parent, token, parent + 1, from, at)) {
        return false;
    }
    if (hint != NULL) {
        *hint = *at;
    }
    return true;
}

void yaml_doc_find(const struct yaml_doc *doc, struct str pointer, unsigned *line, unsigned *column)
{
    unsigned at = 0;
    unsigned depth = 0;
    struct str rest = str_from(pointer, 1);
    while (pointer.len > 0 && rest.p != NULL) {
        struct str token;
        bool more = str_split(rest, '/', &token, &rest);
        if (!find_near(doc, depth++, token, &at) || !more) {
            break;
        }
    }
    *line = doc->place_count > 0 ? doc->places[at].line : 1;
    *column = doc->place_count > 0 ? doc->places[at].column : 1;
}
