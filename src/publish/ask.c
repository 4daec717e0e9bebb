// SPDX-License-Identifier: MIT
// Names asked for ahead of the change that declares them. While an asker has a name it is watched as if a pool
// used it, so the change begins with its addresses: what it replaces serves until then.
#include "publish/health.h"
#include <stdlib.h>

struct publish_names {
    struct publisher *publisher;
    size_t count;
    struct watched_name **items; // a reference of each
};

static bool is_missing(const struct watched_name *watched)
{
    return watched->address_count == 0 && !watched->is_failing;
}

static int add_name(struct publish_names *names, struct str host)
{
    struct watched_name *watched = name_watch(names->publisher, host);
    if (watched == NULL) {
        return ERR_MEMORY;
    }
    names->items[names->count++] = watched;
    return 0;
}

static int add_names(struct publish_names *names, const struct target_decl *targets, unsigned count)
{
    unsigned found = 0;
    for (unsigned i = 0; i < count; i++) {
        found += targets[i].address.is_name;
    }
    if (found == 0) {
        return 0;
    }
    struct watched_name **items =
        realloc((void *)names->items, (names->count + found) * sizeof(struct watched_name *));
    if (items == NULL) {
        return ERR_MEMORY;
    }
    names->items = items;
    int err = 0;
    for (unsigned i = 0; i < count && err == 0; i++) {
        err = targets[i].address.is_name ? add_name(names, targets[i].address.host) : 0;
    }
    return err;
}

int publisher_ask_names(struct publisher *publisher, const struct store_record *record,
                        struct publish_names **place)
{
    struct declaration *declaration = NULL;
    struct problems problems;
    problems_init(&problems);
    int err = change_decode(record, &declaration, &problems);
    problems_fini(&problems);
    if (err != 0) {
        return err;
    }
    if (*place == NULL) {
        *place = calloc(1, sizeof **place);
        err = *place == NULL ? ERR_MEMORY : 0;
    }
    if (err == 0) {
        (*place)->publisher = publisher;
        bool is_pool = record->noun == NOUN_POOL;
        err = is_pool
                  ? add_names(*place, declaration->pool.targets, declaration->pool.target_count)
                  : add_names(*place, declaration->route.targets, declaration->route.target_count);
    }
    declaration_free(&declaration);
    return err;
}

bool publish_names_are_answered(const struct publish_names *names)
{
    for (size_t i = 0; names != NULL && i < names->count; i++) {
        if (is_missing(names->items[i])) {
            return false;
        }
    }
    return true;
}

void publish_names_free(struct publish_names **place)
{
    struct publish_names *names = *place;
    *place = NULL;
    if (names == NULL) {
        return;
    }
    for (size_t i = 0; i < names->count; i++) {
        name_unwatch(names->publisher, names->items[i]);
    }
    free((void *)names->items);
    free(names);
}
