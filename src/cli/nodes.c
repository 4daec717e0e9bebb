// SPDX-License-Identifier: MIT
// pointsman nodes, and what status says of the fleet.
#include "cli/nodes.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/objects.h"

static const char *state_of(const json_t *node)
{
    return json_is_false(json_object_get(node, "live"))      ? "away"
           : json_is_true(json_object_get(node, "draining")) ? "draining"
                                                             : "live";
}

static void print_nodes(const json_t *nodes)
{
    static const char *const columns[] = {"NODE", "ZONE", "ADDRESS", "VERSION", "REVISION",
                                          "LAG",  "RPS",  "SEEN",    "STATE"};
    enum { COLUMN_COUNT = sizeof columns / sizeof columns[0] };
    struct table table;
    table_init(&table, COLUMN_COUNT);
    for (unsigned i = 0; i < COLUMN_COUNT; i++) {
        table_put_c(&table, columns[i]);
    }
    size_t i;
    json_t *node;
    json_array_foreach(nodes, i, node)
    {
        static const char *const members[] = {"name", "zone", "address", "version", "revision"};
        for (unsigned j = 0; j < sizeof members / sizeof members[0]; j++) {
            table_put_member(&table, node, members[j], "-");
        }
        table_put_member(&table, node, "lag", "-");
        table_put_member(&table, json_object_get(node, "load"), "requests_per_second", "-");
        table_put_member(&table, node, "seen", "-");
        table_put_c(&table, state_of(node));
    }
    table_print(&table, stdout);
    table_fini(&table);
}

int run_nodes(const struct args *args)
{
    struct client *client;
    int status = client_open(args, &client);
    if (status != CLI_DONE) {
        return status;
    }
    struct answer answer;
    status = client_call(client, "GET", "/v1/nodes", NULL, STR_NULL, &answer);
    if (status == CLI_DONE && answer.status != 200) {
        status = answer_report(&answer, "nodes");
    } else if (status == CLI_DONE) {
        json_t *nodes = client_answer_json(&answer);
        if (nodes == NULL) {
            status = CLI_FAILED;
        } else if (args_flag(args, "json") != NULL) {
            output_json(nodes, stdout);
        } else {
            print_nodes(nodes);
        }
        json_decref(nodes);
    }
    answer_fini(&answer);
    client_close(&client);
    return status;
}

void nodes_put_fleet(struct table *table, const json_t *fleet)
{
    if (fleet == NULL) {
        return; // this node is alone
    }
    const char *state = json_string_value(json_object_get(fleet, "state"));
    const char *url = json_string_value(json_object_get(fleet, "url"));
    double away = json_number_value(json_object_get(fleet, "away_seconds"));
    struct buf text;
    buf_init(&text, 0);
    buf_printf(&text, "%s %s", state == NULL ? "?" : state, url == NULL ? "" : url);
    if (away > 0) {
        buf_printf(&text, " for %.1f s", away);
    }
    buf_printf(&text,
               ", %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT
               " nodes live, %" JSON_INTEGER_FORMAT " revisions behind",
               json_integer_value(json_object_get(fleet, "nodes_live")),
               json_integer_value(json_object_get(fleet, "nodes")),
               json_integer_value(json_object_get(fleet, "lag")));
    table_put_c(table, "fleet");
    table_put(table, buf_str(&text));
    buf_fini(&text);
}
