// SPDX-License-Identifier: MIT
#include "base/array.h"
#include "cli/import_traefik_int.h"
#include <strings.h>

void tree_fini(struct tree *tree)
{
    for (size_t i = 0; i < tree->count; i++) {
        if (tree->items[i].value != NULL) {
            explicit_bzero(tree->items[i].value,
                           strlen(tree->items[i].value)); // keys of certificates
        }
        free(tree->items[i].key);
        free(tree->items[i].value);
    }
    free(tree->items);
}

bool tree_add(struct tree *tree, struct str key, struct str value)
{
    tree->bytes += key.len + value.len + sizeof *tree->items;
    if (tree->bytes > IMPORT_TREE_BYTES) {
        import_fail(tree->import, "all keys together are more than %d MiB",
                    IMPORT_TREE_BYTES >> 20);
        return false;
    }
    if (!ARRAY_ROOM(tree->items, tree->count, tree->size, 1024)) {
        import_fail(tree->import, "out of memory");
        return false;
    }
    struct tree_item item = {.key = str_dup(key), .value = str_dup(value)};
    if (item.key == NULL || item.value == NULL) {
        free(item.key);
        free(item.value);
        import_fail(tree->import, "out of memory");
        return false;
    }
    tree->items[tree->count++] = item;
    return true;
}

static int compare_items(const void *a, const void *b)
{
    const struct tree_item *one = a;
    const struct tree_item *other = b;
    return strcasecmp(one->key, other->key);
}

void tree_sort(struct tree *tree)
{
    if (tree->count > 0) {
        qsort(tree->items, tree->count, sizeof *tree->items, compare_items);
    }
}

// ---- folders ----

// The first of items[from, to) whose key is not below `text`, as far as that goes; `above`: the first one that
// is above.
static size_t find(const struct tree *tree, size_t from, size_t to, struct str text, bool above)
{
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        int order = strncasecmp(tree->items[middle].key, text.p, text.len);
        if (order < 0 || (above && order == 0)) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

static struct tree_node find_folder(struct tree *tree, size_t from, size_t to, struct str path)
{
    struct buf text; // with the '/'
    buf_init(&text, 0);
    buf_put(&text, path);
    buf_put_char(&text, '/');
    struct tree_node node = {.tree = tree, .depth = path.len + 1};
    if (text.failed) {
        import_fail(tree->import, "out of memory");
    } else {
        node.from = find(tree, from, to, buf_str(&text), false);
        node.to = find(tree, node.from, to, buf_str(&text), true);
    }
    buf_fini(&text);
    return node;
}

struct tree_node tree_find(struct tree *tree, const char *path)
{
    return find_folder(tree, 0, tree->count, str_from_c(path));
}

struct tree_node node_at(const struct tree_node *node, struct str name)
{
    if (node_is_empty(node)) {
        return *node;
    }
    struct buf path;
    buf_init(&path, 0);
    buf_put(&path, str_make(node->tree->items[node->from].key, node->depth));
    buf_put(&path, name);
    struct tree_node found = {.tree = node->tree};
    if (path.failed) {
        import_fail(node->tree->import, "out of memory");
    } else {
        found = find_folder(node->tree, node->from, node->to, buf_str(&path));
    }
    buf_fini(&path);
    return found;
}

const char *node_value(const struct tree_node *node, const char *name)
{
    for (size_t i = node->from; i < node->to; i++) {
        struct tree_item *item = &node->tree->items[i];
        if (strcasecmp(item->key + node->depth, name) == 0) {
            item->is_used = true;
            return item->value;
        }
    }
    return NULL;
}

bool node_is_true(const struct tree_node *node, const char *name)
{
    const char *value = node_value(node, name);
    return value != NULL && (strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0);
}

bool node_has(const struct tree_node *node, const char *name)
{
    bool is_true = node_is_true(node, name);
    struct tree_node folder = node_at(node, str_from_c(name));
    return is_true || !node_is_empty(&folder);
}

bool node_next(const struct tree_node *node, size_t *at, struct str *name, struct tree_node *child)
{
    while (*at < node->to) {
        struct str rest = str_from_c(node->tree->items[*at].key + node->depth);
        size_t len = str_find_char(rest, '/');
        if (len == SIZE_MAX || len == 0) {
            ++*at; // a value
            continue;
        }
        *name = str_sub(rest, 0, len);
        struct str path = str_make(node->tree->items[*at].key, node->depth + len);
        *child = find_folder(node->tree, *at, node->to, path);
        *at = child->to > *at ? child->to : *at + 1;
        return true;
    }
    return false;
}

struct element {
    uint64_t number;
    struct str text;
};

static int compare_elements(const void *a, const void *b)
{
    const struct element *one = a;
    const struct element *other = b;
    return one->number < other->number ? -1 : one->number > other->number;
}

static int list_of_commas(const char *value, struct str *texts, unsigned max)
{
    struct str rest = str_from_c(value);
    struct str text;
    unsigned count = 0;
    while (str_next_element(&rest, &text)) {
        if (count == max) {
            return -1;
        }
        texts[count++] = text;
    }
    return (int)count;
}

int node_list(const struct tree_node *node, const char *name, struct str *texts, unsigned max)
{
    const char *value = node_value(node, name);
    if (value != NULL) {
        return list_of_commas(value, texts, max);
    }
    struct tree_node folder = node_at(node, str_from_c(name));
    struct element *elements = calloc(max, sizeof *elements);
    unsigned count = 0;
    for (size_t i = folder.from; i < folder.to && elements != NULL; i++) {
        struct tree_item *item = &folder.tree->items[i];
        uint64_t number;
        if (str_to_u64(str_from_c(item->key + folder.depth), &number) != 0) {
            continue; // stays unused, and is told
        }
        if (count == max) {
            free(elements);
            return -1;
        }
        item->is_used = true;
        elements[count++] = (struct element){number, str_from_c(item->value)};
    }
    if (count > 0) {
        qsort(elements, count, sizeof *elements, compare_elements);
    }
    for (unsigned i = 0; i < count; i++) {
        texts[i] = elements[i].text;
    }
    free(elements);
    return (int)count;
}

void node_use(const struct tree_node *node)
{
    for (size_t i = node->from; i < node->to; i++) {
        node->tree->items[i].is_used = true;
    }
}

struct str node_key(const struct tree_node *node)
{
    static char key[1024];
    if (node_is_empty(node)) {
        return STR("?");
    }
    int len = snprintf(key, sizeof key, "%.*s/%.*s", STR_ARG(node->tree->import->prefix),
                       (int)node->depth - 1, node->tree->items[node->from].key);
    return str_make(key, (size_t)len < sizeof key ? (size_t)len : sizeof key - 1);
}

void node_tell_rest(const struct tree_node *node)
{
    for (size_t i = node->from; i < node->to; i++) {
        struct tree_item *item = &node->tree->items[i];
        if (!item->is_used) {
            struct tree_node self = {node->tree, i, i + 1, strlen(item->key) + 1};
            import_tell(node->tree->import, IMPORT_CHANGED, node_key(&self),
                        "not understood, and left out");
            item->is_used = true;
        }
    }
}
