// SPDX-License-Identifier: MIT
// Into a Redis, by the script with which nodes write.
//
//   it is a store already: 1,000 changes at a time, each block one revision that nodes follow at once
//   it is none yet:        the same under other names, which in the end become the store's, all in one step;
//                          so nodes that wait for a store that came back empty never see a part of it
#include "base/array.h"
#include "cli/cli.h"
#include "cli/copy_int.h"
#include "fleet/fleet.h"
#include "publish/declare.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    BLOCK_CHANGES = 1000,
    BLOCK_BYTES = 8 << 20,
    STAGED_SEC = 3600, // after which what a copy that was cut off has left goes away
};

struct target {
    struct copy *copy;
    struct copy_redis redis;
    struct fleet_keys staged;
    bool is_staged;
    struct fleet_writer writer;
    struct fleet_call call;
    char node[FLEET_EPOCH_LEN + 1];
    struct store_change *deletions; // keys that FROM has not
    unsigned deletion_count;
    unsigned deletion_size;
    enum noun noun; // that is scanned
    uint64_t counts[NOUN_COUNT];
    uint64_t done;
};

// ---- what is there ----

static bool count_one(struct target *target, enum noun noun)
{
    const struct str argv[] = {STR("HLEN"), str_from_c(target->redis.keys.nouns[noun])};
    const struct redis_reply *reply = copy_redis_command(&target->redis, 2, argv);
    if (reply == NULL) {
        return false;
    }
    target->counts[noun] = reply->integer < 0 ? 0 : (uint64_t)reply->integer;
    return true;
}

static bool may_write(struct target *target)
{
    struct copy_redis *redis = &target->redis;
    if (!copy_redis_look(redis) || !count_one(target, NOUN_ROUTE) ||
        !count_one(target, NOUN_POOL) || !count_one(target, NOUN_CERTIFICATE)) {
        return false;
    }
    uint64_t routes = target->counts[NOUN_ROUTE];
    uint64_t pools = target->counts[NOUN_POOL];
    uint64_t certificates = target->counts[NOUN_CERTIFICATE];
    if (!redis->is_there && routes + pools + certificates > 0) {
        fprintf(
            stderr,
            "pointsman: %s holds declarations, but no %s: a node that starts on it repairs that\n",
            redis->url.shown, redis->keys.texts[FLEET_META]);
        return false;
    }
    return copy_may_write(target->copy, redis->url.shown, routes, pools, certificates);
}

static bool has_key(const struct copy *copy)
{
    for (unsigned i = 0; i < copy->count && !seal_has_key(copy->seal); i++) {
        if (copy->changes[i].secret != NULL) {
            fputs("pointsman: secrets in Redis are sealed: --encryption-key-file is needed\n",
                  stderr);
            return false;
        }
    }
    return true;
}

static bool on_there(void *context, struct str field, struct str value)
{
    struct target *target = context;
    (void)value;
    struct store_change wanted = {.noun = target->noun, .key = str_dup(field)};
    if (wanted.key != NULL &&
        (copy_is_left_out(target->copy, &wanted) || copy_has(target->copy, &wanted))) {
        free(wanted.key);
        return true;
    }
    if (wanted.key == NULL ||
        !ARRAY_ROOM(target->deletions, target->deletion_count, target->deletion_size, 64)) {
        fputs("pointsman: out of memory\n", stderr);
        free(wanted.key);
        return false;
    }
    target->deletions[target->deletion_count++] = wanted;
    return true;
}

// In the order in which they can go: routes first. A scan may bring a key twice.
static bool find_deletions(struct target *target)
{
    static const enum noun nouns[] = {NOUN_ROUTE, NOUN_POOL, NOUN_CERTIFICATE};
    for (unsigned i = 0; i < 3 && target->copy->is_replace; i++) {
        target->noun = nouns[i];
        if (!copy_redis_scan(&target->redis, target->redis.keys.nouns[nouns[i]], true, on_there,
                             NULL, target)) {
            return false;
        }
    }
    unsigned kept = 0;
    struct store_change *all = target->deletions;
    if (target->deletion_count > 0) {
        qsort(all, target->deletion_count, sizeof *all, copy_compare);
    }
    for (unsigned i = 0; i < target->deletion_count; i++) {
        if (kept > 0 && copy_compare(&all[kept - 1], &all[i]) == 0) {
            free(all[i].key);
        } else {
            all[kept++] = all[i];
        }
    }
    target->deletion_count = kept;
    return true;
}

// ---- a store that is filled under other names ----

// The staged keys: those of nouns, then the others, meta last.
enum { STAGED_OTHERS = 4, STAGED_COUNT = NOUN_COUNT + STAGED_OTHERS };
static const enum fleet_key staged_others[STAGED_OTHERS] = {FLEET_STREAM, FLEET_REFS, FLEET_SECRETS,
                                                            FLEET_META};

static const char *key_at(const struct fleet_keys *keys, unsigned i)
{
    return i < NOUN_COUNT ? keys->nouns[i] : keys->texts[staged_others[i - NOUN_COUNT]];
}

static void print_lost(const struct target *target)
{
    fprintf(stderr, "pointsman: %s: %s\n", target->redis.url.shown,
            redis_sync_error(target->redis.sync));
}

// Behind the command that makes the keys, and sent with it: who is killed leaves nothing for ever.
static bool send_expiry(struct target *target)
{
    char seconds[12];
    snprintf(seconds, sizeof seconds, "%d", STAGED_SEC);
    for (unsigned i = 0; i < STAGED_COUNT; i++) {
        const struct str argv[] = {STR("EXPIRE"), str_from_c(key_at(&target->staged, i)),
                                   str_from_c(seconds)};
        if (!redis_sync_send(target->redis.sync, 3, argv)) {
            print_lost(target);
            return false;
        }
    }
    return true;
}

static bool receive_expiry(struct target *target)
{
    for (unsigned i = 0; i < STAGED_COUNT; i++) {
        if (copy_redis_receive(&target->redis) == NULL) {
            return false;
        }
    }
    return true;
}

static void set_staged_keys(struct target *target)
{
    char id[5];
    fleet_make_id(id, 4);
    const char *prefix = target->copy->to_prefix;
    struct fleet_keys *keys = &target->staged;
    for (unsigned i = 0; i < FLEET_KEY_COUNT; i++) {
        snprintf(keys->texts[i], sizeof keys->texts[i], "%.*s:~%s:%u", FLEET_PREFIX_MAX, prefix, id,
                 i);
    }
    for (unsigned i = 0; i < NOUN_COUNT; i++) {
        snprintf(keys->nouns[i], sizeof keys->nouns[i], "%.*s:~%s:%.*s", FLEET_PREFIX_MAX, prefix,
                 id, STR_ARG(noun_name((enum noun)i)));
    }
}

static bool on_node(void *context, struct str field, struct str value)
{
    struct target *target = context;
    (void)field;
    json_t *node = json_loadb(value.p, value.len, 0, NULL);
    json_int_t revision = json_integer_value(json_object_get(node, "revision"));
    json_decref(node);
    if (revision > 0 && (uint64_t)revision > target->copy->revision) {
        target->copy->revision = (uint64_t)revision;
    }
    return true;
}

// The new history begins above all that anybody has seen: no If-Match of before can match.
static bool begin_staged(struct target *target)
{
    struct copy_redis *redis = &target->redis;
    if (!copy_redis_scan(redis, redis->keys.texts[FLEET_NODES], true, on_node, NULL, target)) {
        return false;
    }
    uint64_t seen = target->copy->revision;
    uint64_t start = seen == 0 ? 0 : seen + FLEET_REVISION_STEP;
    if (start > FLEET_REVISION_MAX - FLEET_REVISION_STEP) {
        fprintf(stderr, "pointsman: revision %llu is too high to go on from\n",
                (unsigned long long)seen);
        return false;
    }
    char tag[STORE_ID_LEN + 1];
    char number[24];
    fleet_make_id(redis->epoch, FLEET_EPOCH_LEN);
    fleet_make_id(tag, STORE_ID_LEN);
    snprintf(number, sizeof number, "%llu", (unsigned long long)start);
    set_staged_keys(target);
    const struct str argv[] = {STR("HSET"),     str_from_c(target->staged.texts[FLEET_META]),
                               STR("schema"),   STR("1"),
                               STR("epoch"),    str_from_c(redis->epoch),
                               STR("revision"), str_from_c(number),
                               STR("tag"),      str_from_c(tag)};
    target->is_staged = true;
    target->writer.keys = &target->staged;
    target->writer.stream_entries = 1; // nobody follows it
    target->writer.stream_bytes = 1;
    if (!redis_sync_send(redis->sync, 10, argv)) {
        print_lost(target);
        return false;
    }
    return send_expiry(target) && copy_redis_receive(redis) != NULL && receive_expiry(target);
}

static void drop_staged(struct target *target)
{
    struct str argv[STAGED_COUNT + 1] = {STR("DEL")};
    for (unsigned i = 0; i < STAGED_COUNT; i++) {
        argv[i + 1] = str_from_c(key_at(&target->staged, i));
    }
    (void)copy_redis_command(&target->redis, STAGED_COUNT + 1, argv);
}

static bool adopt_staged(struct target *target)
{
    const struct fleet_keys *own = &target->redis.keys;
    struct str argv[3 + 1 + 2 * STAGED_COUNT + 1] = {STR("EVAL"),
                                                     str_from_c(fleet_script_adopt.text)};
    unsigned argc = 3;
    argv[argc++] = str_from_c(own->texts[FLEET_META]);
    for (unsigned i = 0; i < STAGED_COUNT; i++) {
        argv[argc++] = str_from_c(key_at(&target->staged, i));
        argv[argc++] = str_from_c(key_at(own, i));
    }
    char number[12];
    snprintf(number, sizeof number, "%u", argc - 3);
    argv[2] = str_from_c(number);
    char nouns[12];
    snprintf(nouns, sizeof nouns, "%u", (unsigned)NOUN_COUNT);
    argv[argc++] = str_from_c(nouns);
    const struct redis_reply *reply = copy_redis_command(&target->redis, argc, argv);
    if (reply != NULL && reply->integer != 1) {
        fprintf(stderr, "pointsman: %s is not empty any more: nothing was copied\n",
                target->redis.url.shown);
    }
    return reply != NULL && reply->integer == 1;
}

// ---- blocks ----

static bool call(struct target *target, const struct store_request *request, bool with_text,
                 const struct redis_reply **reply)
{
    char id[STORE_ID_LEN + 1];
    fleet_make_id(id, STORE_ID_LEN);
    int err = fleet_call_format(&target->call, &target->writer, request, id, with_text);
    if (err != 0) {
        fprintf(stderr, "pointsman: %s\n", err_text(err));
        return false;
    }
    if (!redis_sync_send(target->redis.sync, target->call.argc, target->call.argv)) {
        print_lost(target);
        return false;
    }
    if (target->is_staged && !send_expiry(target)) {
        return false;
    }
    *reply = redis_sync_receive(target->redis.sync);
    if (*reply == NULL) {
        print_lost(target);
    }
    return *reply != NULL;
}

static void print_failure(const struct target *target, const struct store_request *request,
                          const struct fleet_call_answer *answer)
{
    const char *shown = target->redis.url.shown;
    if (answer->result == FLEET_CALL_REFUSED) {
        copy_print_refusal(request);
    } else if (answer->result == FLEET_CALL_EPOCH || answer->result == FLEET_CALL_EMPTY) {
        fprintf(stderr, "pointsman: %s was emptied or restored meanwhile\n", shown);
    } else {
        fprintf(stderr, "pointsman: %s: %s\n", shown, answer->detail);
    }
}

static bool write_block(struct target *target, struct store_request *request)
{
    const struct redis_reply *reply;
    struct fleet_call_answer answer = {.result = FLEET_CALL_UNKNOWN};
    for (unsigned i = 0; i < 2 && answer.result == FLEET_CALL_UNKNOWN; i++) {
        if (!call(target, request, i > 0, &reply)) {
            return false;
        }
        fleet_call_read(&answer, request, reply, NULL);
        if (target->is_staged && !receive_expiry(target)) {
            return false;
        }
    }
    if (answer.result != FLEET_CALL_WRITTEN && answer.result != FLEET_CALL_SAME) {
        print_failure(target, request, &answer);
        return false;
    }
    copy_count(target->copy, request);
    target->done += request->count;
    return true;
}

static size_t size_of(const struct store_change *change)
{
    return strlen(change->key) + (change->value == NULL ? 0 : strlen(change->value)) +
           (change->secret == NULL ? 0 : strlen(change->secret));
}

// Moves the changes from *at on into a request, as many as a block takes.
static struct store_request *take_block(struct store_change *changes, unsigned *at, unsigned end)
{
    size_t bytes = 0;
    unsigned count = 0;
    while (*at + count < end && count < BLOCK_CHANGES && bytes < BLOCK_BYTES) {
        bytes += size_of(&changes[*at + count]);
        count++;
    }
    struct store_request *request = store_request_new(count);
    if (request == NULL) {
        fputs("pointsman: out of memory\n", stderr);
        return NULL;
    }
    for (unsigned i = 0; i < count; i++) {
        request->changes[i] = changes[*at + i];
        problems_init(&request->changes[i].problems);
        changes[*at + i] = (struct store_change){.noun = request->changes[i].noun};
    }
    *at += count;
    return request;
}

static bool write_range(struct target *target, struct store_change *changes, unsigned begin,
                        unsigned end)
{
    bool is_good = true;
    while (begin < end && is_good) {
        struct store_request *request = take_block(changes, &begin, end);
        is_good = request != NULL && write_block(target, request);
        store_request_free(&request);
    }
    return is_good;
}

// What others refer to comes first: the changes are sorted routes, pools, certificates.
static bool write_puts(struct target *target)
{
    const struct copy *copy = target->copy;
    unsigned end = copy->count;
    bool is_good = true;
    while (end > 0 && is_good) {
        unsigned begin = end;
        while (begin > 0 && copy->changes[begin - 1].noun == copy->changes[end - 1].noun) {
            begin--;
        }
        is_good = write_range(target, copy->changes, begin, end);
        end = begin;
    }
    return is_good;
}

static bool write_all(struct target *target)
{
    uint64_t total = (uint64_t)target->copy->count + target->deletion_count;
    if (!target->redis.is_there && !begin_staged(target)) {
        return false;
    }
    target->writer.epoch = str_from_c(target->redis.epoch);
    bool is_good =
        write_puts(target) && write_range(target, target->deletions, 0, target->deletion_count);
    if (target->is_staged) {
        is_good = is_good && adopt_staged(target);
        if (!is_good) {
            drop_staged(target);
        }
    }
    if (!is_good) {
        fprintf(stderr, "pointsman: %llu of %llu changes were made\n",
                (unsigned long long)(target->is_staged ? 0 : target->done),
                (unsigned long long)total);
    }
    return is_good;
}

int copy_write_redis(struct copy *copy)
{
    struct target target = {.copy = copy};
    target.writer = (struct fleet_writer){
        .keys = &target.redis.keys, .stream_entries = 100000, .stream_bytes = 64 << 20};
    fleet_make_id(target.node, FLEET_EPOCH_LEN);
    target.writer.node = str_from_c(target.node);
    fleet_call_init(&target.call);
    int status = copy_redis_open(&target.redis, copy, copy->to, copy->to_prefix);
    copy_sort(copy);
    if (status == CLI_DONE && !(may_write(&target) && has_key(copy) && find_deletions(&target) &&
                                copy_seal(copy) && write_all(&target))) {
        status = CLI_FAILED;
    }
    for (unsigned i = 0; i < target.deletion_count; i++) {
        free(target.deletions[i].key);
    }
    free(target.deletions);
    fleet_call_fini(&target.call);
    copy_redis_close(&target.redis);
    return status;
}
