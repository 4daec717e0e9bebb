// SPDX-License-Identifier: MIT
// pointsman pool drain, up, switch: what becomes of the targets of a pool.
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/objects.h"
#include "cli/route_body.h"
#include "model/value.h"
#include <time.h>

enum {
    POLL_MS = 100,
    WAIT_HEALTHY_MS = 30000, // what the server waits that is not told
    STALL_SEC = 60,          // an answer may come so much later than it should
};

const struct flag pool_drain_flags[] = {
    {"wait", "TIME", "return when it is empty; fail when it is not after this time, like 30s"},
    {"remove-after", "TIME", "delete it when it is empty, at the latest after this time, like 30s"},
    {0},
};

const struct flag pool_switch_flags[] = {
    {"to", "TARGET[=WEIGHT],...", "the targets that the pool is to have; may be repeated"},
    {"wait-healthy", "TIME",
     "how long the new ones may take to be healthy (default 30s; 0: not tried)"},
    {0},
};

// Reads a flag's duration; false: it is none, printed. Not given: *ms stays.
static bool read_duration(const struct args *args, const char *name, uint64_t *ms)
{
    const char *text = args_flag(args, name);
    if (text == NULL || duration_parse(str_from_c(text), ms) == 0) {
        return true;
    }
    fprintf(stderr, "pointsman: --%s \"%s\": must be a time, like 30s\n", name, text);
    return false;
}

// Is the target declared? A PUT would make it, which neither drain nor up mean.
static int find_target(struct client *client, const char *pool_name, struct str address)
{
    json_t *pool;
    int status = object_get(client, &pool_kind, pool_name, &pool);
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

// What a command does to one target.
struct target_change {
    const char *pool;
    struct str address;       // in the one form in which it is stored
    const char *body;         // of a PUT; NULL: it is deleted
    const char *remove_after; // of a DELETE
    const char *done;         // what is printed then
    bool waits;
    uint64_t wait_ms;
};

// "/v1/pools/NAME/targets/ADDRESS?query"; false: no memory, printed.
static bool put_path(struct buf *path, const struct target_change *change, const char *query)
{
    buf_init(path, 0);
    buf_put(path, STR("/v1/pools/"));
    path_put_segment(path, str_from_c(change->pool));
    buf_put(path, STR("/targets/"));
    path_put_segment(path, change->address);
    buf_put(path, str_from_c(query));
    buf_put_char(path, '\0');
    if (path->failed) {
        fputs("pointsman: out of memory\n", stderr);
    }
    return !path->failed;
}

static int report_refusal(const struct answer *answer, const struct target_change *change)
{
    char subject[600];
    snprintf(subject, sizeof subject, "pool %s, target %.*s", change->pool,
             STR_ARG(change->address));
    return answer_report(answer, subject);
}

// PUT of the body, or DELETE.
static int call_target(struct client *client, const struct target_change *change)
{
    char query[100] = "";
    if (change->body == NULL) {
        snprintf(query, sizeof query, "?drain=%s", change->remove_after);
        client_set_stall(client, 0); // it is answered when the target is empty
    }
    struct buf path;
    if (!put_path(&path, change, query)) {
        buf_fini(&path);
        return CLI_FAILED;
    }
    struct answer answer;
    int status = change->body == NULL
                     ? client_call(client, "DELETE", path.p, NULL, STR_NULL, &answer)
                     : client_call(client, "PUT", path.p, "application/json",
                                   str_from_c(change->body), &answer);
    if (status == CLI_DONE && answer.status >= 300) {
        status = report_refusal(&answer, change);
    }
    answer_fini(&answer);
    buf_fini(&path);
    return status;
}

static int count_requests(struct client *client, const struct target_change *change,
                          const char *path, json_int_t *requests)
{
    struct answer answer;
    int status = client_call(client, "GET", path, NULL, STR_NULL, &answer);
    if (status == CLI_DONE && answer.status != 200) {
        status = report_refusal(&answer, change);
    } else if (status == CLI_DONE) {
        json_t *target = client_answer_json(&answer);
        status = target == NULL ? CLI_FAILED : CLI_DONE;
        *requests = json_integer_value(json_object_get(target, "requests"));
        json_decref(target);
    }
    answer_fini(&answer);
    return status;
}

// Until nothing is under way to the target.
static int wait_until_empty(struct client *client, const struct target_change *change)
{
    struct buf path;
    json_int_t requests = 0;
    uint64_t begin = clock_monotonic_ns();
    int status = put_path(&path, change, "") ? CLI_DONE : CLI_FAILED;
    while (status == CLI_DONE) {
        status = count_requests(client, change, path.p, &requests);
        if (status != CLI_DONE || requests == 0) {
            break;
        }
        uint64_t waited_ms = (clock_monotonic_ns() - begin) / NS_PER_MS;
        if (waited_ms >= change->wait_ms) {
            fprintf(stderr,
                    "pointsman: pool %s, target %.*s: still under way: %" JSON_INTEGER_FORMAT
                    "; it stays in state drain\n",
                    change->pool, STR_ARG(change->address), requests);
            status = CLI_FAILED;
            break;
        }
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * (long)NS_PER_MS}, NULL);
    }
    buf_fini(&path);
    return status;
}

static int change_target(const struct args *args, const struct target_change *change)
{
    struct client *client;
    int status = client_open(args, &client);
    if (status == CLI_DONE) {
        status = find_target(client, change->pool, change->address);
    }
    if (status == CLI_DONE) {
        status = call_target(client, change);
    }
    if (status == CLI_DONE && change->waits) {
        status = wait_until_empty(client, change);
    }
    client_close(&client);
    return status;
}

// On args->words: the pool and the target.
static int run_on_target(const struct args *args, struct target_change *change)
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
        change->pool = args->words[0];
        change->address = address.text;
        status = change_target(args, change);
    }
    if (status == CLI_DONE) {
        printf("pool %s: %.*s %s\n", args->words[0], STR_ARG(address.text), change->done);
    }
    free(memory);
    problems_fini(&problems);
    return status;
}

int run_pool_drain(const struct args *args)
{
    struct target_change change = {.body = "{\"state\":\"drain\"}", .done = "draining"};
    uint64_t remove_ms = 0;
    if (!read_duration(args, "remove-after", &remove_ms) ||
        !read_duration(args, "wait", &change.wait_ms)) {
        return CLI_WRONG_USE;
    }
    change.remove_after = args_flag(args, "remove-after");
    change.waits = args_flag(args, "wait") != NULL;
    if (change.remove_after != NULL && change.waits) {
        fputs("pointsman: only one of --wait and --remove-after can be given\n", stderr);
        return CLI_WRONG_USE;
    }
    if (change.remove_after != NULL) {
        change.body = NULL;
        change.done = "removed";
    } else if (change.waits) {
        change.done = "drained";
    }
    return run_on_target(args, &change);
}

int run_pool_up(const struct args *args)
{
    struct target_change change = {.body = "{\"state\":\"up\"}", .done = "up"};
    return run_on_target(args, &change);
}

// --- switch

static int answer_switch(const struct args *args, const struct answer *answer)
{
    const char *name = args->words[0];
    if (answer->status >= 300) {
        char subject[300];
        snprintf(subject, sizeof subject, "pool %s", name);
        return answer_report(answer, subject);
    }
    json_t *pool = client_answer_json(answer);
    if (pool == NULL) {
        return CLI_FAILED;
    }
    if (args_flag(args, "json") != NULL) {
        output_json(pool, stdout);
    } else {
        printf("pool %s switched to", name);
        size_t i;
        json_t *target;
        json_array_foreach(json_object_get(pool, "targets"), i, target)
        {
            const char *address = json_string_value(json_object_get(target, "address"));
            printf("%s %s", i > 0 ? "," : "", address == NULL ? "?" : address);
        }
        putchar('\n');
    }
    json_decref(pool);
    return CLI_DONE;
}

static int call_switch(const struct args *args, const json_t *body, uint64_t wait_ms)
{
    struct client *client = NULL;
    struct buf path;
    buf_init(&path, 0);
    buf_put(&path, STR("/v1/pools/"));
    path_put_segment(&path, str_from_c(args->words[0]));
    buf_put(&path, STR("/switch"));
    buf_put_char(&path, '\0');
    char *text = json_dumps(body, JSON_COMPACT);
    int status = CLI_FAILED;
    if (text == NULL || path.failed) {
        fputs("pointsman: out of memory\n", stderr);
    } else {
        status = client_open(args, &client);
    }
    if (status == CLI_DONE) {
        struct answer answer;
        client_set_stall(client, (unsigned)(wait_ms / 1000) + STALL_SEC);
        status = client_call(client, "POST", path.p, "application/json", str_from_c(text), &answer);
        status = status == CLI_DONE ? answer_switch(args, &answer) : status;
        answer_fini(&answer);
    }
    client_close(&client);
    free(text);
    buf_fini(&path);
    return status;
}

int run_pool_switch(const struct args *args)
{
    uint64_t wait_ms = WAIT_HEALTHY_MS;
    if (!read_duration(args, "wait-healthy", &wait_ms)) {
        return CLI_WRONG_USE;
    }
    wait_ms = wait_ms < VALUE_DURATION_MAX_MS ? wait_ms : VALUE_DURATION_MAX_MS;
    json_t *targets = switch_targets(args);
    if (json_array_size(targets) == 0) {
        fputs("pointsman: --to TARGET[,TARGET]... is missing\n", stderr);
        json_decref(targets);
        return CLI_WRONG_USE;
    }
    json_t *body = json_pack("{s:o}", "targets", targets);
    const char *wait = args_flag(args, "wait-healthy");
    if (wait != NULL) {
        json_object_set_new(body, "wait_healthy", json_string(wait));
    }
    int status = call_switch(args, body, wait_ms);
    json_decref(body);
    return status;
}
