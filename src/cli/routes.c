// SPDX-License-Identifier: MIT
// pointsman route …
#include "cli/cli.h"
#include "cli/objects.h"
#include "cli/route_body.h"

const struct flag route_list_flags[] = {
    {"host", "HOST", "only the routes of this host"},
    {"limit", "N", "at most so many (default: all)"},
    {0},
};

// Targets in one cell: "10.0.0.5:8080, 10.0.0.6:8080 and 3 more".
static void put_targets(struct buf *text, const json_t *targets)
{
    enum { SHOWN = 3 };
    size_t i;
    json_t *target;
    json_array_foreach(targets, i, target)
    {
        const char *address = json_string_value(target);
        if (address == NULL) {
            address = json_string_value(json_object_get(target, "address"));
        }
        if (i == SHOWN) {
            buf_printf(text, " and %zu more", json_array_size(targets) - i);
            return;
        }
        buf_printf(text, "%s%s", i > 0 ? ", " : "", address != NULL ? address : "?");
    }
}

static void put_split(struct buf *text, const json_t *split)
{
    size_t i;
    json_t *part;
    buf_put(text, STR("split"));
    json_array_foreach(split, i, part)
    {
        const char *pool = json_string_value(json_object_get(part, "pool"));
        buf_printf(text, " %s=%" JSON_INTEGER_FORMAT, pool != NULL ? pool : "?",
                   json_integer_value(json_object_get(part, "weight")));
    }
}

// Where a route leads, in a few words.
static void put_destination(struct table *table, const json_t *route)
{
    struct buf text;
    buf_init(&text, 0);
    const char *pool = json_string_value(json_object_get(route, "pool"));
    const json_t *redirect = json_object_get(route, "redirect");
    const json_t *respond = json_object_get(route, "respond");
    if (pool != NULL) {
        buf_printf(&text, "pool %s", pool);
    } else if (json_object_get(route, "split") != NULL) {
        put_split(&text, json_object_get(route, "split"));
    } else if (redirect != NULL) {
        const char *to = json_string_value(json_object_get(redirect, "to"));
        buf_printf(&text, "redirect %s", to != NULL ? to : "?");
    } else if (respond != NULL) {
        buf_printf(&text, "respond %" JSON_INTEGER_FORMAT,
                   json_integer_value(json_object_get(respond, "status")));
    } else {
        put_targets(&text, json_object_get(route, "targets"));
    }
    table_put(table, buf_str(&text));
    buf_fini(&text);
}

static void put_row(struct table *table, const json_t *route)
{
    const char *host = json_string_value(json_object_get(route, "host"));
    const char *path = json_string_value(json_object_get(route, "path"));
    bool is_root = path == NULL || strcmp(path, "/") == 0;
    table_putf(table, "%s%s", host != NULL ? host : "?", is_root ? "" : path);
    put_destination(table, route);
    table_put_member(table, route, "tenant", "-");
}

static const struct object_kind routes = {
    .name = "route",
    .plural = "routes",
    .columns = {"ROUTE", "TO", "TENANT"},
    .column_count = 3,
    .put_row = put_row,
};

int run_route_list(const struct args *args)
{
    return objects_list(args, &routes);
}

int run_route_get(const struct args *args)
{
    return object_show(args, &routes);
}

int run_route_put(const struct args *args)
{
    json_t *body = route_body(args);
    return body == NULL ? CLI_WRONG_USE : object_put(args, &routes, body);
}

int run_route_rm(const struct args *args)
{
    return objects_remove(args, &routes);
}
