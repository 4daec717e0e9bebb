// SPDX-License-Identifier: MIT
// What the verbs of routes, pools and certificates have in common. Main thread; all return the exit status and have
// printed why when it is not CLI_DONE.
#pragma once
#include "cli/client.h"
#include "cli/output.h"

struct object_kind {
    const char *name;   // "route"
    const char *plural; // in URLs and lists
    const char *columns[TABLE_COLUMN_MAX];
    unsigned column_count;
    void (*put_row)(struct table *table, const json_t *object);
    // What who has put it may not expect of it; NULL: nothing. The member may be NULL.
    const char *(*remark)(const json_t *object);
};

extern const struct object_kind pool_kind;

// All objects, page by page; --json, --limit, --host.
int objects_list(const struct args *args, const struct object_kind *kind);
// *object is a new reference, or NULL.
int object_get(struct client *client, const struct object_kind *kind, const char *key,
               json_t **object);
// GET of args->words[0], printed as YAML or, with --json, as JSON.
int object_show(const struct args *args, const struct object_kind *kind);
// PUT of args->words[0]; takes the reference of `body`.
int object_put(const struct args *args, const struct object_kind *kind, json_t *body);
// DELETE of all args->words; goes on behind one that fails.
int objects_remove(const struct args *args, const struct object_kind *kind);
