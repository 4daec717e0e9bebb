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

const struct flag pool_drain_flags[] = {
    {"remove-after", "TIME", "delete it when it is empty, at the latest after this time, like 30s"},
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

static const struct object_kind pools = {
    .name = "pool",
    .plural = "pools",
    .columns = {"POOL", "TARGETS", "UP", "BALANCE"},
    .column_count = 4,
    .put_row = put_row,
};

int run_pool_list(const struct args *args)
{
    return objects_list(args, &pools);
}

static void print_targets(const json_t *targets)
{
    struct table table;
    table_init(&table, 4);
    static const char *const columns[] = {"TARGET", "WEIGHT", "STATE", "REQUESTS"};
    for (unsigned i = 0; i < 4; i++) {
        table_put_c(&table, columns[i]);
    }
    size_t i;
    json_t *target;
    json_array_foreach(targets, i, target)
    {
        table_put_member(&table, target, "address", "?");
        table_put_member(&table, target, "weight", "1");
        table_put_member(&table, target, "state", "up");
        table_put_member(&table, target, "requests", "0");
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
    int status = object_get(client, &pools, key, &targets);
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
        status = object_get(client, &pools, args->words[0], &pool);
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
    return body == NULL ? CLI_WRONG_USE : object_put(args, &pools, body);
}

int run_pool_rm(const struct args *args)
{
    return objects_remove(args, &pools);
}

// Is the target declared? A PUT would make it, which neither drain nor up mean.
static int find_target(struct client *client, const char *pool_name, struct str address)
{
    json_t *pool;
    int status = object_get(client, &pools, pool_name, &pool);
    if (status != CLI_DONE) {
        return status;
    }
    status = CLI_FAILED;
    size_t i;
    json_t *target;
    json_array_foreach(json_object_get(pool, "targets"), i, target)
    {
        const char *text = json_string_value(target);
        text = text != NULL ? text : json_string_value(json_object_get(target, "address"));
        if (str_eq(str_from_c(text), address)) {
            status = CLI_DONE;
        }
    }
    if (status != CLI_DONE) {
        fprintf(stderr, "pointsman: pool %s has no target %.*s\n", pool_name, STR_ARG(address));
    }
    json_decref(pool);
    return status;
}

// One call for a target: PUT of `body`, or DELETE with `query`.
static int call_target(struct client *client, const struct args *args, struct str address,
                       const char *query, const char *body)
{
    struct buf path;
    buf_init(&path, 0);
    buf_put(&path, STR("/v1/pools/"));
    path_put_segment(&path, str_from_c(args->words[0]));
    buf_put(&path, STR("/targets/"));
    path_put_segment(&path, address);
    buf_put(&path, str_from_c(query));
    buf_put_char(&path, '\0');
    if (path.failed) {
        fputs("pointsman: out of memory\n", stderr);
        return CLI_FAILED;
    }
    struct answer answer;
    int status = body == NULL ? client_call(client, "DELETE", path.p, NULL, STR_NULL, &answer)
                              : client_call(client, "PUT", path.p, "application/json",
                                            str_from_c(body), &answer);
    if (status == CLI_DONE && answer.status >= 300) {
        char subject[600];
        snprintf(subject, sizeof subject, "pool %s, target %.*s", args->words[0], STR_ARG(address));
        status = answer_report(&answer, subject);
    }
    answer_fini(&answer);
    buf_fini(&path);
    return status;
}

static int change_target(const struct args *args, struct str address, const char *remove_after,
                         const char *body)
{
    struct client *client;
    int status = client_open(args, &client);
    if (status == CLI_DONE) {
        status = find_target(client, args->words[0], address);
    }
    if (status == CLI_DONE && remove_after != NULL) {
        char query[100];
        snprintf(query, sizeof query, "?drain=%s", remove_after);
        client_set_stall(client, 0); // it is answered when the target is empty
        status = call_target(client, args, address, query, NULL);
    } else if (status == CLI_DONE) {
        status = call_target(client, args, address, "", body);
    }
    client_close(&client);
    return status;
}

// Reads args->words[1] in the one form in which it is stored.
static int run_on_target(const struct args *args, const char *remove_after, const char *body,
                         const char *done)
{
    struct target_address address;
    char *memory = NULL;
    struct problems problems;
    problems_init(&problems);
    int status = CLI_WRONG_USE;
    int err = target_address_parse(str_from_c(args->words[1]), &address, &memory, "", &problems);
    if (err != 0) {
        fprintf(stderr, "pointsman: target %s: %s\n", args->words[1],
                problems.count > 0 ? problems.items[0].detail : "is not valid");
    } else {
        status = change_target(args, address.text, remove_after, body);
    }
    if (status == CLI_DONE) {
        printf("pool %s: %.*s %s\n", args->words[0], STR_ARG(address.text), done);
    }
    free(memory);
    problems_fini(&problems);
    return status;
}

int run_pool_drain(const struct args *args)
{
    const char *remove_after = args_flag(args, "remove-after");
    uint64_t ms;
    if (remove_after == NULL) {
        return run_on_target(args, NULL, "{\"state\":\"drain\"}", "draining");
    }
    if (duration_parse(str_from_c(remove_after), &ms) != 0) {
        fprintf(stderr, "pointsman: --remove-after \"%s\": must be a time, like 30s\n",
                remove_after);
        return CLI_WRONG_USE;
    }
    return run_on_target(args, remove_after, NULL, "removed");
}

int run_pool_up(const struct args *args)
{
    return run_on_target(args, NULL, "{\"state\":\"up\"}", "up");
}
