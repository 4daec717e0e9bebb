// SPDX-License-Identifier: MIT
// pointsman pool …
#include "cli/cli.h"
#include "cli/objects.h"
#include "cli/route_body.h"
#include "model/value.h"

const struct flag pool_list_flags[] = {
    {"limit", "N", "at most so many (default: all)"},
    {0},
};

static void put_row(struct table *table, const json_t *pool)
{
    const json_t *targets = json_object_get(pool, "targets");
    size_t up = 0;
    size_t i;
    json_t *target;
    json_array_foreach(targets, i, target)
    {
        const char *state = json_string_value(json_object_get(target, "state"));
        up += state == NULL || strcmp(state, "up") == 0;
    }
    table_put_member(table, pool, "name", "?");
    table_putf(table, "%zu", json_array_size(targets));
    table_putf(table, "%zu", up);
    table_put_member(table, pool, "balance", "least_requests");
}

const struct object_kind pool_kind = {
    .name = "pool",
    .plural = "pools",
    .columns = {"POOL", "TARGETS", "UP", "BALANCE"},
    .column_count = 4,
    .put_row = put_row,
};

int run_pool_list(const struct args *args)
{
    return objects_list(args, &pool_kind);
}

// "5", or "5 (now 1)" while a target warms up or its check says another one.
static void put_weight(struct table *table, const json_t *target)
{
    const json_t *weight = json_object_get(target, "weight");
    const json_t *now = json_object_get(target, "weight_now");
    if (weight == NULL || now == NULL || json_equal(weight, now)) {
        table_put_member(table, target, "weight", "-");
        return;
    }
    table_putf(table, "%" JSON_INTEGER_FORMAT " (now %" JSON_INTEGER_FORMAT ")",
               json_integer_value(weight), json_integer_value(now));
}

// The addresses of a name, or a target that leaves, have some of the members only.
static void put_target(struct table *table, const json_t *target, const char *indent)
{
    const char *address = json_string_value(json_object_get(target, "address"));
    bool is_backup = json_is_true(json_object_get(target, "backup"));
    table_putf(table, "%s%s%s", indent, address == NULL ? "?" : address,
               is_backup ? " (backup)" : "");
    put_weight(table, target);
    table_put_member(table, target, "state", "-");
    table_put_member(table, target, "requests", "0");
    table_put_member(table, target, "health", "-");
    table_put_member(table, target, "since", "-");
    table_put_member(table, target, "reason", "-");
}

static void print_targets(const json_t *targets)
{
    static const char *const columns[] = {"TARGET", "WEIGHT", "STATE", "REQUESTS",
                                          "HEALTH", "SINCE",  "REASON"};
    enum { COLUMN_COUNT = sizeof columns / sizeof columns[0] };
    struct table table;
    table_init(&table, COLUMN_COUNT);
    for (unsigned i = 0; i < COLUMN_COUNT; i++) {
        table_put_c(&table, columns[i]);
    }
    size_t i;
    json_t *target;
    json_array_foreach(targets, i, target)
    {
        put_target(&table, target, "");
        size_t k;
        json_t *address;
        json_array_foreach(json_object_get(target, "addresses"), k, address)
        {
            put_target(&table, address, "  ");
        }
    }
    table_print(&table, stdout);
    table_fini(&table);
}

// The pool's fields as YAML, its targets as they are now in a table.
static int show_pool(struct client *client, const char *name, json_t *pool)
{
    char key[VALUE_NAME_MAX + 32];
    snprintf(key, sizeof key, "%s/targets", name);
    json_t *targets;
    int status = object_get(client, &pool_kind, key, &targets);
    if (status == CLI_DONE) {
        json_object_del(pool, "targets");
        output_yaml(pool, stdout);
        fputs(json_object_size(pool) > 0 ? "\n" : "", stdout);
        print_targets(targets);
    }
    json_decref(targets);
    return status;
}

int run_pool_get(const struct args *args)
{
    struct client *client;
    int status = client_open(args, &client);
    if (status == CLI_DONE) {
        json_t *pool;
        status = object_get(client, &pool_kind, args->words[0], &pool);
        if (status == CLI_DONE && args_flag(args, "json") != NULL) {
            output_json(pool, stdout);
        } else if (status == CLI_DONE) {
            status = show_pool(client, args->words[0], pool);
        }
        json_decref(pool);
    }
    client_close(&client);
    return status;
}

int run_pool_put(const struct args *args)
{
    json_t *body = pool_body(args);
    return body == NULL ? CLI_WRONG_USE : object_put(args, &pool_kind, body);
}

int run_pool_rm(const struct args *args)
{
    return objects_remove(args, &pool_kind);
}
