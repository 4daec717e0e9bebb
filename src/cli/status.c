// SPDX-License-Identifier: MIT
// pointsman status
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/nodes.h"
#include "cli/output.h"

// "3d 4h", "4h 12m", "12m 5s", "5s".
static void put_uptime(struct table *table, double seconds)
{
    uint64_t sec = seconds > 0 ? (uint64_t)seconds : 0;
    uint64_t units[] = {sec / 86400, sec / 3600 % 24, sec / 60 % 60, sec % 60};
    static const char names[] = "dhms";
    for (unsigned i = 0; i < 3; i++) {
        if (units[i] > 0) {
            table_putf(table, "%llu%c %llu%c", (unsigned long long)units[i], names[i],
                       (unsigned long long)units[i + 1], names[i + 1]);
            return;
        }
    }
    table_putf(table, "%llus", (unsigned long long)sec);
}

static void put_store(struct table *table, const json_t *store)
{
    const char *detail = json_string_value(json_object_get(store, "detail"));
    bool is_writable = json_is_true(json_object_get(store, "writable"));
    table_putf(table, "%s%s%s", is_writable ? "writable" : "NOT WRITABLE",
               detail != NULL && detail[0] != '\0' ? ": " : "", detail != NULL ? detail : "");
}

// "routes.d/: 3 files, 1 broken, 0 declarations refused: routes.d/a.yaml:1:2: …"
static void put_files(struct table *table, const json_t *files)
{
    if (files == NULL) {
        return; // declarations are written here
    }
    const char *folder = json_string_value(json_object_get(files, "folder"));
    const char *detail = json_string_value(json_object_get(files, "detail"));
    struct buf text;
    buf_init(&text, 0);
    buf_printf(&text,
               "%s: %" JSON_INTEGER_FORMAT " files, %" JSON_INTEGER_FORMAT
               " broken, %" JSON_INTEGER_FORMAT " declarations refused%s%s%s",
               folder == NULL ? "" : folder, json_integer_value(json_object_get(files, "files")),
               json_integer_value(json_object_get(files, "broken")),
               json_integer_value(json_object_get(files, "refused")),
               json_is_true(json_object_get(files, "readable")) ? "" : ", NOT READABLE",
               detail != NULL && detail[0] != '\0' ? ": " : "", detail != NULL ? detail : "");
    table_put_c(table, "files");
    table_put(table, buf_str(&text));
    buf_fini(&text);
}

// "120, 3 end within 30 days (soonest: shop, 2027-01-31)".
static void put_certificates(struct table *table, const json_t *certificates)
{
    if (certificates == NULL) {
        return; // an older server
    }
    const json_t *soonest = json_object_get(certificates, "soonest");
    const char *name = json_string_value(json_object_get(soonest, "name"));
    const char *end = json_string_value(json_object_get(soonest, "not_after"));
    json_int_t count = json_integer_value(json_object_get(certificates, "count"));
    json_int_t expiring = json_integer_value(json_object_get(certificates, "expiring_30d"));
    table_put_c(table, "certificates");
    if (name == NULL || end == NULL) {
        table_putf(table, "%" JSON_INTEGER_FORMAT, count);
        return;
    }
    table_putf(table,
               "%" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT
               " of them end within 30 days (the first: %s, %.10s)",
               count, expiring, name, end);
}

// What is not well: "targets down: 2, names unresolved: 1".
static void put_health(struct table *table, const json_t *health)
{
    static const char *const rows[][2] = {{"targets_down", "targets down"},
                                          {"targets_ejected", "targets ejected"},
                                          {"pools_in_panic", "pools in panic"},
                                          {"names_unresolved", "names unresolved"}};
    if (health == NULL) {
        return; // an older server
    }
    char text[200] = "";
    size_t len = 0;
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0] && len < sizeof text - 1; i++) {
        json_int_t count = json_integer_value(json_object_get(health, rows[i][0]));
        if (count > 0) {
            len += (size_t)snprintf(text + len, sizeof text - len, "%s%s: %" JSON_INTEGER_FORMAT,
                                    len > 0 ? ", " : "", rows[i][1], count);
        }
    }
    table_put_c(table, "health");
    table_put_c(table, len > 0 ? text : "all targets well");
}

static void print_facts(const json_t *status)
{
    struct table table;
    table_init(&table, 2);
    const json_t *retired = json_object_get(status, "retired");
    static const char *const members[] = {"version", "node", "zone", "revision"};
    for (unsigned i = 0; i < sizeof members / sizeof members[0]; i++) {
        table_put_c(&table, members[i]);
        table_put_member(&table, status, members[i], "-");
    }
    table_put_c(&table, "uptime");
    put_uptime(&table, json_number_value(json_object_get(status, "uptime")));
    table_put_c(&table, "state");
    table_put_c(&table, json_is_true(json_object_get(status, "draining")) ? "draining"
                        : json_is_false(json_object_get(status, "ready")) ? "loading"
                                                                          : "ready");
    static const char *const counts[] = {"routes", "pools", "skipped", "connections"};
    for (unsigned i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        table_put_c(&table, counts[i]);
        table_put_member(&table, status, counts[i], "-");
    }
    put_certificates(&table, json_object_get(status, "certificates"));
    put_health(&table, json_object_get(status, "health"));
    table_put_c(&table, "retired");
    table_putf(&table, "%" JSON_INTEGER_FORMAT " versions, the oldest for %.1f s",
               json_integer_value(json_object_get(retired, "versions")),
               json_number_value(json_object_get(retired, "oldest_seconds")));
    table_put_c(&table, "store");
    put_store(&table, json_object_get(status, "store"));
    put_files(&table, json_object_get(json_object_get(status, "store"), "files"));
    nodes_put_fleet(&table, json_object_get(json_object_get(status, "store"), "fleet"));
    table_print(&table, stdout);
    table_fini(&table);
}

static void print_workers(const json_t *workers)
{
    struct table table;
    table_init(&table, 3);
    table_put_c(&table, "WORKER");
    table_put_c(&table, "CONNECTIONS");
    table_put_c(&table, "REQUESTS");
    size_t i;
    json_t *worker;
    json_array_foreach(workers, i, worker)
    {
        table_put_member(&table, worker, "id", "?");
        table_put_member(&table, worker, "connections", "-");
        table_put_member(&table, worker, "requests", "-");
    }
    fputc('\n', stdout);
    table_print(&table, stdout);
    table_fini(&table);
}

int run_status(const struct args *args)
{
    struct client *client;
    int exit_status = client_open(args, &client);
    if (exit_status != CLI_DONE) {
        return exit_status;
    }
    struct answer answer;
    exit_status = client_call(client, "GET", "/v1/status", NULL, STR_NULL, &answer);
    if (exit_status == CLI_DONE && answer.status != 200) {
        exit_status = answer_report(&answer, "status");
    } else if (exit_status == CLI_DONE) {
        json_t *status = client_answer_json(&answer);
        if (status == NULL) {
            exit_status = CLI_FAILED;
        } else if (args_flag(args, "json") != NULL) {
            output_json(status, stdout);
        } else {
            print_facts(status);
            print_workers(json_object_get(status, "workers"));
        }
        json_decref(status);
    }
    answer_fini(&answer);
    client_close(&client);
    return exit_status;
}
