// SPDX-License-Identifier: MIT
// From declarations to the changes of a request.
#include "ceryx/translate.h"
#include "publish/declare.h"
#include <stdlib.h>

struct change_list {
    struct store_change *changes;
    unsigned *count;
    struct problems *problems;
};

static int add_put(const struct change_list *list, const struct seal *seal, enum noun noun,
                   const char *key, const char *text)
{
    struct problems found;
    problems_init(&found);
    json_t *value = json_loads(text, 0, NULL);
    int err = value == NULL
                  ? problems_add(&found, ERR_MEMORY, "", "out of memory")
                  : declare_change(seal, noun, key, value, &list->changes[*list->count], &found);
    json_decref(value);
    *list->count += err == 0;
    if (err != 0) {
        problems_add(list->problems, err,
                     noun == NOUN_CERTIFICATE ? "/settings/certificate_path" : "/target", "%s: %s",
                     noun == NOUN_CERTIFICATE ? "certificate_path, key_path" : "target",
                     found.count > 0 ? found.items[0].detail : err_text(err));
    }
    problems_fini(&found);
    return err;
}

static int add_delete(const struct change_list *list, enum noun noun, const char *key)
{
    struct store_change *change = &list->changes[*list->count];
    *change = (struct store_change){.noun = noun, .key = str_dup(str_from_c(key))};
    *list->count += 1;
    return change->key != NULL ? 0 : problems_add(list->problems, ERR_MEMORY, "", "out of memory");
}

int ceryx_build(const struct seal *seal, const struct ceryx_parts *parts,
                const struct ceryx_present *present, bool with_certificate,
                struct store_change changes[CERYX_CHANGE_MAX], unsigned *count,
                struct problems *problems)
{
    const struct change_list list = {changes, count, problems};
    bool has_pool = parts->route != NULL && parts->pool != NULL;
    bool has_certificate = parts->route != NULL && parts->certificate != NULL && with_certificate;
    int err = 0;
    *count = 0;
    // What the route refers to comes before it, what it referred to behind.
    if (has_pool) {
        err = add_put(&list, seal, NOUN_POOL, parts->name, parts->pool);
    }
    if (err == 0 && has_certificate) {
        err = add_put(&list, seal, NOUN_CERTIFICATE, parts->name, parts->certificate);
    }
    if (err == 0 && parts->route != NULL) {
        err = add_put(&list, seal, NOUN_ROUTE, parts->key, parts->route);
    } else if (err == 0 && present->has_route) {
        err = add_delete(&list, NOUN_ROUTE, parts->key);
    }
    if (err == 0 && !has_pool && present->has_pool) {
        err = add_delete(&list, NOUN_POOL, parts->name);
    }
    if (err == 0 && !has_certificate && present->has_certificate) {
        err = add_delete(&list, NOUN_CERTIFICATE, parts->name);
    }
    while (err != 0 && *count > 0) {
        store_change_fini(&changes[--*count]);
    }
    return err;
}
