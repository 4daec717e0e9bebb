// SPDX-License-Identifier: MIT
// pointsman export: NDJSON as it comes, or a YAML document a line.
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/output.h"

const struct flag export_flags[] = {
    {"yaml", NULL, "print YAML documents"},
    {"secrets", NULL, "certificates with their chains and keys: keep the output secret"},
    {0},
};

enum { EXPORT_LINE_MAX = 4 << 20 };

static bool write_through(void *context, struct str data)
{
    (void)context;
    return fwrite(data.p, 1, data.len, stdout) == data.len;
}

static void put_text_member(const char *name, const json_t *value)
{
    json_t *object = json_object();
    json_object_set(object, name, (json_t *)(uintptr_t)value);
    output_yaml(object, stdout);
    json_decref(object);
}

static bool print_document(struct str line)
{
    json_t *record = json_loadb(line.p, line.len, 0, NULL);
    const char *kind = json_string_value(json_object_get(record, "kind"));
    const json_t *value = json_object_get(record, "value");
    if (kind == NULL || !json_is_object(value)) {
        fputs("pointsman: the server's export holds a line that is no declaration\n", stderr);
        json_decref(record);
        return false;
    }
    printf("---\nkind: %s\n", kind);
    if (json_object_get(value, "host") == NULL) {
        put_text_member("name", json_object_get(record, "key")); // a route has its host
    }
    output_yaml(value, stdout);
    json_decref(record);
    return ferror(stdout) == 0;
}

// Cuts what comes into lines.
static bool write_yaml(void *context, struct str data)
{
    struct buf *pending = context;
    struct str line;
    struct str rest;
    while (str_split(data, '\n', &line, &rest)) {
        buf_put(pending, line);
        if (pending->failed || !print_document(buf_str(pending))) {
            return false;
        }
        buf_clear(pending);
        data = rest;
    }
    buf_put(pending, data);
    return !pending->failed;
}

int run_export(const struct args *args)
{
    struct client *client;
    int status = client_open(args, &client);
    if (status != CLI_DONE) {
        return status;
    }
    bool is_yaml = args_flag(args, "yaml") != NULL;
    const char *path =
        args_flag(args, "secrets") != NULL ? "/v1/export?secrets=true" : "/v1/export";
    struct buf pending;
    buf_init(&pending, EXPORT_LINE_MAX);
    struct answer answer;
    status = client_read(client, path, is_yaml ? write_yaml : write_through, &pending, &answer);
    if (status == CLI_DONE && answer.status != 200) {
        status = answer_report(&answer, "export");
    }
    answer_fini(&answer);
    buf_fini(&pending);
    client_close(&client);
    return status;
}
