// SPDX-License-Identifier: MIT
#include "cli/objects.h"
#include "cli/cli.h"
#include "cli/input.h"

enum {
    PAGE_MAX = 1000,       // objects a page
    WAIT_STALL_SEC = 3700, // more than the server waits for a fleet at most
};

// "/v1/routes/KEY" into *path, terminated.
static void put_path(struct buf *path, const struct object_kind *kind, const char *key)
{
    buf_printf(path, "/v1/%s/", kind->plural);
    path_put_key(path, str_from_c(key));
    buf_put_char(path, '\0');
}

// Adds what --wait and --wait-timeout say to a terminated path, and lets the client wait for so long.
static void put_path_wait(struct buf *path, const struct args *args, struct client *client)
{
    const char *wait = args_flag(args, "wait");
    const char *timeout = args_flag(args, "wait-timeout");
    if (wait == NULL && timeout == NULL) {
        return;
    }
    path->len -= path->len > 0; // its end
    buf_put(path, STR("?wait="));
    path_put_segment(path, str_from_c(wait == NULL ? "node" : wait));
    if (timeout != NULL) {
        buf_put(path, STR("&timeout="));
        path_put_segment(path, str_from_c(timeout));
        client_set_stall(client, WAIT_STALL_SEC);
    }
    buf_put_char(path, '\0');
}

static int out_of_memory(void)
{
    fputs("pointsman: out of memory\n", stderr);
    return CLI_FAILED;
}

int object_get(struct client *client, const struct object_kind *kind, const char *key,
               json_t **object)
{
    *object = NULL;
    struct buf path;
    buf_init(&path, 0);
    put_path(&path, kind, key);
    if (path.failed) {
        return out_of_memory();
    }
    struct answer answer;
    int status = client_call(client, "GET", path.p, NULL, STR_NULL, &answer);
    if (status == CLI_DONE && answer.status != 200) {
        char subject[300];
        snprintf(subject, sizeof subject, "%s %s", kind->name, key);
        status = answer_report(&answer, subject);
    } else if (status == CLI_DONE) {
        *object = client_answer_json(&answer);
        status = *object == NULL ? CLI_FAILED : CLI_DONE;
    }
    answer_fini(&answer);
    buf_fini(&path);
    return status;
}

static int tell_put(const struct object_kind *kind, const char *key, const struct answer *answer)
{
    printf("%s %s %s\n", kind->name, key, answer->status == 201 ? "created" : "updated");
    if (kind->remark == NULL) {
        return CLI_DONE;
    }
    json_t *object = client_answer_json(answer);
    const char *remark = object == NULL ? NULL : kind->remark(object);
    if (remark != NULL) {
        fprintf(stderr, "pointsman: %s\n", remark);
    }
    int status = object == NULL ? CLI_FAILED : CLI_DONE;
    json_decref(object);
    return status;
}

static int put_body(struct client *client, const struct args *args, const struct object_kind *kind,
                    const char *path, struct str body)
{
    struct answer answer;
    const char *key = args->words[0];
    int status = client_call(client, "PUT", path, "application/json", body, &answer);
    if (status == CLI_DONE && answer.status >= 300) {
        char subject[300];
        snprintf(subject, sizeof subject, "%s %s", kind->name, key);
        status = answer_report(&answer, subject);
    } else if (status == CLI_DONE && args_flag(args, "json") != NULL) {
        json_t *object = client_answer_json(&answer);
        status = object == NULL ? CLI_FAILED : CLI_DONE;
        output_json(object, stdout);
        json_decref(object);
    } else if (status == CLI_DONE) {
        status = tell_put(kind, key, &answer);
    }
    answer_fini(&answer);
    return status;
}

int object_put(const struct args *args, const struct object_kind *kind, json_t *body)
{
    struct buf path;
    buf_init(&path, 0);
    put_path(&path, kind, args->words[0]);
    char *text = json_dumps(body, JSON_COMPACT);
    json_wipe_member(body, "key");
    json_decref(body);
    struct client *client = NULL;
    int status = text == NULL || path.failed ? out_of_memory() : client_open(args, &client);
    if (status == CLI_DONE) {
        put_path_wait(&path, args, client);
        status = path.failed ? out_of_memory() : CLI_DONE;
    }
    if (status == CLI_DONE) {
        status = put_body(client, args, kind, path.p, str_from_c(text));
    }
    client_close(&client);
    if (text != NULL) {
        explicit_bzero(text, strlen(text)); // it may hold a key
    }
    free(text);
    buf_fini(&path);
    return status;
}

int object_show(const struct args *args, const struct object_kind *kind)
{
    struct client *client;
    int status = client_open(args, &client);
    if (status == CLI_DONE) {
        json_t *object;
        status = object_get(client, kind, args->words[0], &object);
        if (status == CLI_DONE && args_flag(args, "json") != NULL) {
            output_json(object, stdout);
        } else if (status == CLI_DONE) {
            output_yaml(object, stdout);
        }
        json_decref(object);
    }
    client_close(&client);
    return status;
}

static int remove_object(struct client *client, const struct args *args,
                         const struct object_kind *kind, const char *key)
{
    struct buf path;
    buf_init(&path, 0);
    put_path(&path, kind, key);
    put_path_wait(&path, args, client);
    if (path.failed) {
        return out_of_memory();
    }
    struct answer answer;
    int status = client_call(client, "DELETE", path.p, NULL, STR_NULL, &answer);
    if (status == CLI_DONE && answer.status >= 300) {
        char subject[300];
        snprintf(subject, sizeof subject, "%s %s", kind->name, key);
        status = answer_report(&answer, subject);
    } else if (status == CLI_DONE) {
        printf("%s %s deleted\n", kind->name, key);
    }
    answer_fini(&answer);
    buf_fini(&path);
    return status;
}

int objects_remove(const struct args *args, const struct object_kind *kind)
{
    struct client *client;
    int status = client_open(args, &client);
    if (status != CLI_DONE) {
        return status;
    }
    for (unsigned i = 0; i < args->word_count; i++) {
        int one = remove_object(client, args, kind, args->words[i]);
        status = one != CLI_DONE ? one : status;
    }
    client_close(&client);
    return status;
}

// A list on its way from pages to standard output.
struct listing {
    const struct object_kind *kind;
    bool is_json;
    uint64_t left; // objects that may still be shown
    uint64_t shown;
    bool has_header; // it stands above the first page
};

static void show_page(struct listing *listing, const json_t *objects)
{
    struct table table;
    table_init(&table, listing->kind->column_count);
    for (unsigned i = 0; !listing->has_header && i < listing->kind->column_count; i++) {
        table_put_c(&table, listing->kind->columns[i]);
    }
    listing->has_header = true;
    size_t i;
    json_t *object;
    json_array_foreach(objects, i, object)
    {
        if (listing->left == 0) {
            break;
        }
        listing->left--;
        if (listing->is_json) {
            fputs(listing->shown > 0 ? ",\n" : "", stdout);
            json_dumpf(object, stdout, JSON_COMPACT);
        } else {
            listing->kind->put_row(&table, object);
        }
        listing->shown++;
    }
    if (!listing->is_json) {
        table_print(&table, stdout);
    }
    table_fini(&table);
}

// One page; *after becomes where the next begins, empty at the end.
static int list_page(struct client *client, struct listing *listing, const char *host,
                     struct buf *after)
{
    struct buf path;
    buf_init(&path, 0);
    buf_printf(&path, "/v1/%s?limit=%u", listing->kind->plural,
               (unsigned)(listing->left < PAGE_MAX ? listing->left : PAGE_MAX));
    if (host != NULL) {
        buf_put(&path, STR("&host="));
        path_put_segment(&path, str_from_c(host));
    }
    if (after->len > 0) {
        buf_put(&path, STR("&after="));
        path_put_segment(&path, buf_str(after));
    }
    buf_put_char(&path, '\0');
    buf_clear(after);
    if (path.failed) {
        return out_of_memory();
    }
    struct answer answer;
    int status = client_call(client, "GET", path.p, NULL, STR_NULL, &answer);
    if (status == CLI_DONE && answer.status != 200) {
        status = answer_report(&answer, listing->kind->plural);
    } else if (status == CLI_DONE) {
        json_t *page = client_answer_json(&answer);
        status = page == NULL ? CLI_FAILED : CLI_DONE;
        show_page(listing, json_object_get(page, listing->kind->plural));
        buf_put(after, str_from_c(json_string_value(json_object_get(page, "next"))));
        json_decref(page);
    }
    answer_fini(&answer);
    buf_fini(&path);
    return status;
}

int objects_list(const struct args *args, const struct object_kind *kind)
{
    struct listing listing = {.kind = kind, .left = UINT64_MAX};
    listing.is_json = args_flag(args, "json") != NULL;
    const char *limit = args_flag(args, "limit");
    if (limit != NULL && (str_to_u64(str_from_c(limit), &listing.left) != 0 || listing.left == 0)) {
        fprintf(stderr, "pointsman: --limit \"%s\": must be a number above 0\n", limit);
        return CLI_WRONG_USE;
    }
    struct client *client;
    int status = client_open(args, &client);
    struct buf after;
    buf_init(&after, 0);
    if (status == CLI_DONE && listing.is_json) {
        fputs("[\n", stdout);
    }
    bool has_more = status == CLI_DONE;
    while (has_more) {
        status = list_page(client, &listing, args_flag(args, "host"), &after);
        has_more = status == CLI_DONE && after.len > 0 && listing.left > 0 && !after.failed;
    }
    if (status == CLI_DONE && listing.is_json) {
        fputs(listing.shown > 0 ? "\n]\n" : "]\n", stdout);
    }
    buf_fini(&after);
    client_close(&client);
    return status;
}
