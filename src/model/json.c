// SPDX-License-Identifier: MIT
// JSON text to a tree, and merge patches.
#include "base/array.h"
#include "model/declaration.h"

json_t *model_json_parse(struct str text, struct problems *problems)
{
    json_error_t error;
    json_t *value = json_loadb(text.p == NULL ? "" : text.p, text.len,
                               JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (value == NULL) {
        bool no_memory = json_error_code(&error) == json_error_out_of_memory;
        problems_add(problems, no_memory ? ERR_MEMORY : ERR_SYNTAX, "",
                     "not JSON: line %d, column %d: %s", error.line, error.column, error.text);
    }
    return value;
}

// A pair of objects under way; `into` belongs to the result.
struct merge {
    json_t *into;
    json_t *patch;
};

struct merge_stack {
    struct merge *items;
    size_t count;
    size_t size;
};

static int push_merge(struct merge_stack *stack, json_t *into, json_t *patch)
{
    if (!ARRAY_ROOM(stack->items, stack->count, stack->size, 8)) {
        return ERR_MEMORY;
    }
    stack->items[stack->count++] = (struct merge){into, patch};
    return 0;
}

// One member of a patch object. Nested objects are pushed: no recursion on input.
static int merge_member(struct merge_stack *stack, json_t *into, const char *key, json_t *value)
{
    if (json_is_null(value)) {
        json_object_del(into, key);
        return 0;
    }
    if (!json_is_object(value)) {
        return json_object_set_new(into, key, json_deep_copy(value)) == 0 ? 0 : ERR_MEMORY;
    }
    json_t *child = json_object_get(into, key);
    if (!json_is_object(child)) {
        child = json_object();
        if (json_object_set_new(into, key, child) != 0) {
            return ERR_MEMORY;
        }
    }
    return push_merge(stack, child, value);
}

json_t *json_merge_patch(json_t *target, json_t *patch)
{
    if (!json_is_object(patch)) {
        return json_deep_copy(patch);
    }
    json_t *result = json_is_object(target) ? json_deep_copy(target) : json_object();
    struct merge_stack stack = {0};
    int err = result == NULL ? ERR_MEMORY : push_merge(&stack, result, patch);
    while (err == 0 && stack.count > 0) {
        struct merge top = stack.items[--stack.count];
        const char *key;
        json_t *value;
        json_object_foreach(top.patch, key, value)
        {
            err = merge_member(&stack, top.into, key, value);
            if (err != 0) {
                break;
            }
        }
    }
    free(stack.items);
    if (err != 0) {
        json_decref(result);
        return NULL;
    }
    return result;
}
