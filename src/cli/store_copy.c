// SPDX-License-Identifier: MIT
// pointsman store copy: from one store into another, without a node.
#include "base/array.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/copy_int.h"
#include "publish/declare.h"
#include "redis/redis.h"
#include <jansson.h>
#include <stdlib.h>

const struct flag store_copy_flags[] = {
    {"merge", NULL, "TO may hold declarations: they stay, those of FROM win"},
    {"replace", NULL, "TO may hold declarations: those that FROM has not are deleted"},
    {"secrets", NULL, "uploaded certificates too, with their keys: keep TO secret"},
    {"encryption-key-file", "FILE",
     "the keys that seal secrets (store.encryption_key_file): opens those of FROM, seals those of "
     "TO"},
    {"from-prefix", "PREFIX", "of the keys in Redis (store.prefix), of FROM: pointsman"},
    {"to-prefix", "PREFIX", "the same of TO"},
    {"password-file", "FILE", "the password of Redis, when the URL has none"},
    {"ca-file", "FILE", "who is trusted with rediss://; the system's authorities without it"},
    {"json", NULL, "print JSON"},
    {0},
};

const char *copy_path(const char *url, const char *scheme)
{
    struct str text = str_from_c(url);
    struct str start = str_from_c(scheme);
    return str_starts(text, start) && text.len > start.len ? url + start.len : NULL;
}

struct store_change *copy_add(struct copy *copy)
{
    if (!ARRAY_ROOM(copy->changes, copy->count, copy->size, 64)) {
        fputs("pointsman: out of memory\n", stderr);
        return NULL;
    }
    struct store_change *change = &copy->changes[copy->count++];
    *change = (struct store_change){.noun = NOUN_ROUTE};
    return change;
}

struct store_request *copy_take(struct copy *copy, unsigned more)
{
    struct store_request *request = store_request_new(copy->count + more);
    if (request == NULL) {
        fputs("pointsman: out of memory\n", stderr);
        return NULL;
    }
    for (unsigned i = 0; i < copy->count; i++) {
        request->changes[i] = copy->changes[i];
        problems_init(&request->changes[i].problems);
    }
    copy->count = 0;
    return request;
}

bool copy_leave_out(struct copy *copy, struct store_change *change)
{
    char **keys = realloc(copy->left_keys, (copy->left_out + 1) * sizeof *keys);
    if (keys == NULL) {
        fputs("pointsman: out of memory\n", stderr);
        return false;
    }
    copy->left_keys = keys;
    keys[copy->left_out++] = change->key; // moved
    change->key = NULL;
    return true;
}

void copy_fini(struct copy *copy)
{
    for (unsigned i = 0; i < copy->left_out; i++) {
        free(copy->left_keys[i]);
    }
    free(copy->left_keys);
    for (unsigned i = 0; i < copy->count; i++) {
        store_change_fini(&copy->changes[i]);
    }
    free(copy->changes);
    copy->changes = NULL;
    copy->left_keys = NULL;
    copy->left_out = copy->count = copy->size = 0;
}

int copy_compare(const void *a, const void *b)
{
    const struct store_change *one = a;
    const struct store_change *other = b;
    return one->noun != other->noun ? (one->noun < other->noun ? -1 : 1)
                                    : strcmp(one->key, other->key);
}

void copy_sort(struct copy *copy)
{
    if (copy->count > 0) {
        qsort(copy->changes, copy->count, sizeof *copy->changes, copy_compare);
    }
}

bool copy_has(const struct copy *copy, const struct store_change *change)
{
    return copy->count > 0 &&
           bsearch(change, copy->changes, copy->count, sizeof *change, copy_compare) != NULL;
}

bool copy_is_left_out(const struct copy *copy, const struct store_change *change)
{
    for (unsigned i = 0; i < copy->left_out && change->noun == NOUN_CERTIFICATE; i++) {
        if (strcmp(copy->left_keys[i], change->key) == 0) {
            return true;
        }
    }
    return false;
}

void copy_print_problems(const char *url, const struct problems *problems)
{
    for (unsigned i = 0; i < problems->count; i++) {
        fprintf(stderr, "pointsman: %s: %s\n", url, problems->items[i].detail);
    }
}

// A pool that names a certificate which is left out would be refused, or not work.
static int check_left_out(const struct copy *copy)
{
    int status = CLI_DONE;
    for (unsigned i = 0; i < copy->count && copy->left_out > 0; i++) {
        const struct store_change *change = &copy->changes[i];
        for (unsigned n = 0; n < change->reference_count; n++) {
            bool is_found = change->references[n].noun != NOUN_CERTIFICATE;
            for (unsigned k = 0; k < copy->count && !is_found; k++) {
                is_found = copy->changes[k].noun == NOUN_CERTIFICATE &&
                           strcmp(copy->changes[k].key, change->references[n].key) == 0;
            }
            if (!is_found) {
                fprintf(stderr,
                        "pointsman: pool %s uses certificate %s, which is copied with --secrets\n",
                        change->key, change->references[n].key);
                status = CLI_FAILED;
            }
        }
    }
    return status;
}

static void show(const struct copy *copy, bool is_json)
{
    if (is_json) {
        json_t *object =
            json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", //
                      "routes", (json_int_t)copy->counts[NOUN_ROUTE], "pools",
                      (json_int_t)copy->counts[NOUN_POOL], "certificates",
                      (json_int_t)copy->counts[NOUN_CERTIFICATE], "left_out",
                      (json_int_t)copy->left_out, "created", (json_int_t)copy->created, "updated",
                      (json_int_t)copy->updated, "same", (json_int_t)copy->same, "deleted",
                      (json_int_t)copy->deleted, "files", (json_int_t)copy->files);
        json_dumpf(object, stdout, JSON_COMPACT);
        fputc('\n', stdout);
        json_decref(object);
        return;
    }
    printf("%u routes, %u pools and %u certificates copied\n", copy->counts[NOUN_ROUTE],
           copy->counts[NOUN_POOL], copy->counts[NOUN_CERTIFICATE]);
    if (copy->files > 0) {
        printf("%u files written\n", copy->files);
    } else {
        printf("%u created, %u updated, %u were the same, %u deleted\n", copy->created,
               copy->updated, copy->same, copy->deleted);
    }
    if (copy->left_out > 0) {
        printf("%u uploaded certificates left out: they are copied with --secrets\n",
               copy->left_out);
    }
}

static int wrong_use(const char *text)
{
    fprintf(stderr, "pointsman: %s\n", text);
    return CLI_WRONG_USE;
}

static bool is_redis(const char *url)
{
    return redis_url_is(str_from_c(url));
}

static int read_all(struct copy *copy)
{
    return is_redis(copy->from)                     ? copy_read_redis(copy)
           : copy_path(copy->from, "file:") != NULL ? copy_read_folder(copy)
                                                    : copy_read_sqlite(copy);
}

static int write_all(struct copy *copy)
{
    return is_redis(copy->to)                     ? copy_write_redis(copy)
           : copy_path(copy->to, "file:") != NULL ? copy_write_folder(copy)
                                                  : copy_write_sqlite(copy);
}

static int run(struct copy *copy, bool is_json)
{
    int status = read_all(copy);
    if (status == CLI_DONE) {
        status = check_left_out(copy);
    }
    for (unsigned i = 0; i < copy->count; i++) {
        copy->counts[copy->changes[i].noun]++;
    }
    if (status == CLI_DONE) {
        status = write_all(copy);
    }
    if (status == CLI_DONE) {
        show(copy, is_json);
    }
    return status;
}

static const char *flag_or(const struct args *args, const char *name, const char *other)
{
    const char *value = args_flag(args, name);
    return value == NULL ? other : value;
}

static int check_use(const struct copy *copy)
{
    const char *urls[] = {copy->from, copy->to};
    const char *prefixes[] = {copy->from_prefix, copy->to_prefix};
    for (unsigned i = 0; i < 2; i++) {
        if (copy_path(urls[i], "sqlite:") == NULL && copy_path(urls[i], "file:") == NULL &&
            !is_redis(urls[i])) {
            return wrong_use("FROM and TO are sqlite:FILE, file:FOLDER or the URL of a Redis");
        }
        if (prefixes[i][0] == '\0' || strlen(prefixes[i]) > FLEET_PREFIX_MAX) {
            return wrong_use("a prefix has 1 to 100 bytes");
        }
    }
    if (strcmp(copy->from, copy->to) == 0 &&
        (!is_redis(copy->from) || strcmp(copy->from_prefix, copy->to_prefix) == 0)) {
        return wrong_use("FROM and TO are the same");
    }
    if (copy->is_merge && copy->is_replace) {
        return wrong_use("--merge and --replace exclude each other");
    }
    if ((copy->is_merge || copy->is_replace) && copy_path(copy->to, "file:") != NULL) {
        return wrong_use("a folder must be empty: there is no --merge and no --replace");
    }
    return CLI_DONE;
}

int run_store_copy(const struct args *args)
{
    struct copy copy = {
        .from = args->words[0],
        .to = args->words[1],
        .from_prefix = flag_or(args, "from-prefix", "pointsman"),
        .to_prefix = flag_or(args, "to-prefix", "pointsman"),
        .password_file = args_flag(args, "password-file"),
        .ca_file = flag_or(args, "ca-file", ""),
        .with_secrets = args_flag(args, "secrets") != NULL,
        .is_merge = args_flag(args, "merge") != NULL,
        .is_replace = args_flag(args, "replace") != NULL,
    };
    int status = check_use(&copy);
    if (status != CLI_DONE) {
        return status;
    }
    const char *key_file = args_flag(args, "encryption-key-file");
    struct seal *seal = NULL;
    struct problems problems;
    problems_init(&problems);
    status = CLI_FAILED;
    if (seal_open_file(&seal, key_file == NULL ? "" : key_file, &problems) == 0) {
        copy.seal = seal;
        status = run(&copy, args_flag(args, "json") != NULL);
    }
    for (unsigned i = 0; i < problems.count; i++) {
        fprintf(stderr, "pointsman: --encryption-key-file: %s\n", problems.items[i].detail);
    }
    copy_fini(&copy);
    seal_free(&seal);
    problems_fini(&problems);
    return status;
}
