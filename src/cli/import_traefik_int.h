// SPDX-License-Identifier: MIT
// Traefik's keys as a tree, and what its routers, services and middlewares mean here. Main thread.
#pragma once
#include "cli/import_int.h"
#include "cli/import_rule.h"

enum {
    TRAEFIK_LIST_MAX = 1000, // elements of a list
    TRAEFIK_CHAIN_MAX = 64,  // middlewares of a router, those of chains included
};

// ---- import_tree.c ----

struct traefik_service;

struct tree_item {
    char *key; // behind "traefik/"
    char *value;
    bool is_used; // understood, or told: what is neither at the end is told then
};

struct tree {
    struct import *import;
    struct tree_item *items; // sorted by key, without case: a folder's are neighbours
    size_t count;
    size_t size;
    size_t bytes;
    struct traefik_service **services; // at the place of their first item; NULL: none was read yet
};

// A folder: the items under a path.
struct tree_node {
    struct tree *tree;
    size_t from;
    size_t to;
    size_t depth; // bytes of its path
};

void tree_fini(struct tree *tree);
bool tree_add(struct tree *tree, struct str key, struct str value);
void tree_sort(struct tree *tree);
// "http/routers". There may be nothing in it: from == to.
struct tree_node tree_find(struct tree *tree, const char *path);
// A folder in it; `name` may have several segments.
struct tree_node node_at(const struct tree_node *node, struct str name);
static inline bool node_is_empty(const struct tree_node *node)
{
    return node->from == node->to;
}
// The value "NAME" of a folder, or NULL; it is used then.
const char *node_value(const struct tree_node *node, const char *name);
// Is "NAME" true, or a folder? A value of it is used then.
bool node_has(const struct tree_node *node, const char *name);
bool node_is_true(const struct tree_node *node, const char *name);
// The next child: *at begins with node->from. False: there is none.
bool node_next(const struct tree_node *node, size_t *at, struct str *name, struct tree_node *child);
// "NAME/0", "NAME/1", … in order, or "NAME" with commas. Returns how many there are in texts[]; -1: too many.
int node_list(const struct tree_node *node, const char *name, struct str *texts, unsigned max);
// All in it is used.
void node_use(const struct tree_node *node);
// Its key in Redis, for the report, in static memory.
struct str node_key(const struct tree_node *node);
// What is in it and was not used: it is told, as changed.
void node_tell_rest(const struct tree_node *node);

// ---- import_traefik_middleware.c ----

// What becomes of a router besides who answers.
struct traefik_effects {
    json_t *fields; // of the route
    bool redirects; // http to https, and nothing else
    unsigned redirect_status;
    struct str strip[16]; // prefixes that are stripped
    unsigned strip_count;
    char reason[IMPORT_REASON_MAX]; // why the router cannot be taken; ""
};
void traefik_apply_middlewares(const struct tree_node *router, struct traefik_effects *effects);

// ---- import_traefik_service.c ----

struct traefik_service {
    char *pool; // or
    json_t *split;
    bool host_target;               // Host is the target's
    char *target_path;              // NULL: none
    char reason[IMPORT_REASON_MAX]; // why it cannot be taken; ""
};
// "app", "app@redis". False: "app@file", of which nothing is known here.
bool traefik_own_name(const char *text, struct str *name);
// A service, read at the first call; its pools are put then. Lives until traefik_free_services(), without a
// reason; with one until the next call.
const struct traefik_service *traefik_find_service(struct tree *tree, const char *name);
void traefik_free_services(struct tree *tree);
// "1m30s", "30" (seconds): milliseconds, -1: neither.
int64_t traefik_duration(const char *text);

// ---- import_traefik_router.c ----

// All routers as routes, with their pools. Telling what is left over is the caller's.
void traefik_put_routers(struct tree *tree);
