// SPDX-License-Identifier: MIT
// Into a SQLite file: one request through the store's own write path, all or nothing.
#include "base/array.h"
#include "cli/cli.h"
#include "cli/copy_int.h"
#include "publish/sealed.h"
#include <stdio.h>
#include <stdlib.h>

static const enum noun nouns[] = {NOUN_ROUTE, NOUN_POOL, NOUN_CERTIFICATE};
enum { NOUNS = sizeof nouns / sizeof nouns[0] };

struct target {
    struct copy *copy;
    struct loop loop;
    struct store *store;
    struct store_change *deletions; // keys that FROM has not
    unsigned deletion_count;
    unsigned deletion_size;
    bool has_failed;
    struct store_request *answer;
};

static bool on_record(void *context, const struct store_record *record)
{
    struct target *target = context;
    struct store_change wanted = {.noun = record->noun, .key = str_dup(record->key)};
    if (wanted.key == NULL) {
        target->has_failed = true;
        return false;
    }
    const struct copy *copy = target->copy;
    if (copy_is_left_out(copy, &wanted) || copy_has(copy, &wanted)) {
        free(wanted.key);
        return true;
    }
    if (!ARRAY_ROOM(target->deletions, target->deletion_count, target->deletion_size, 64)) {
        free(wanted.key);
        target->has_failed = true;
        return false;
    }
    target->deletions[target->deletion_count++] = wanted;
    return true;
}

static bool find_deletions(struct target *target)
{
    struct copy *copy = target->copy;
    copy_sort(copy);
    for (unsigned n = 0; n < NOUNS && copy->is_replace && !target->has_failed; n++) {
        target->has_failed |=
            store_list(target->store, nouns[n], STR(""), STR_NULL, 0, on_record, target) != 0;
    }
    if (target->has_failed) {
        fprintf(stderr, "pointsman: %s: cannot be read, or memory is out\n", copy->to);
    }
    return !target->has_failed;
}

bool copy_seal(struct copy *copy)
{
    for (unsigned i = 0; i < copy->count; i++) {
        struct store_change *change = &copy->changes[i];
        if (change->secret == NULL) {
            continue;
        }
        char *text = change->secret;
        change->secret = NULL;
        int err = sealed_close(copy->seal, change->key, text, &change->secret);
        if (err != 0) {
            fprintf(stderr, "pointsman: certificate %s: its key cannot be sealed: %s\n",
                    change->key, err_text(err));
            return false;
        }
    }
    return true;
}

bool copy_may_write(const struct copy *copy, const char *to, uint64_t routes, uint64_t pools,
                    uint64_t certificates)
{
    if (copy->is_merge || copy->is_replace || routes + pools + certificates == 0) {
        return true;
    }
    fprintf(stderr,
            "pointsman: %s holds %llu routes, %llu pools and %llu certificates: --merge keeps "
            "them, --replace deletes them\n",
            to, (unsigned long long)routes, (unsigned long long)pools,
            (unsigned long long)certificates);
    return false;
}

static bool may_write(const struct target *target)
{
    return copy_may_write(target->copy, target->copy->to, store_count(target->store, NOUN_ROUTE),
                          store_count(target->store, NOUN_POOL),
                          store_count(target->store, NOUN_CERTIFICATE));
}

static bool on_change(void *context, uint64_t revision, const struct store_record *records,
                      unsigned count)
{
    (void)context;
    (void)revision;
    (void)records;
    (void)count;
    return true; // nobody serves it
}

static void on_state(void *context, bool is_writable, struct str detail)
{
    (void)context;
    (void)is_writable;
    (void)detail; // the answer says it
}

static void on_done(struct store_request *request)
{
    ((struct target *)request->context)->answer = request;
}

static bool submit(struct target *target)
{
    unsigned puts = target->copy->count;
    struct store_request *request = copy_take(target->copy, target->deletion_count);
    if (request == NULL) {
        return false;
    }
    for (unsigned i = 0; i < target->deletion_count; i++) {
        request->changes[puts + i].noun = target->deletions[i].noun;
        request->changes[puts + i].key = target->deletions[i].key; // moved
    }
    target->deletion_count = 0;
    request->loop = &target->loop;
    request->on_done = on_done;
    request->context = target;
    const struct store_feed feed = {on_change, on_state, target, NULL};
    if (store_start(target->store, &target->loop, &feed) != 0) {
        fputs("pointsman: cannot start a thread\n", stderr);
        store_request_free(&request);
        return false;
    }
    store_submit(target->store, &request);
    while (target->answer == NULL) {
        loop_turn(&target->loop, 1000);
    }
    return true;
}

void copy_count(struct copy *copy, const struct store_request *answer)
{
    for (unsigned i = 0; i < answer->count; i++) {
        const struct store_change *change = &answer->changes[i];
        copy->deleted += change->value == NULL;
        copy->same += change->value != NULL && change->was_same;
        copy->created += change->value != NULL && change->was_new;
        copy->updated += change->value != NULL && !change->was_same && !change->was_new;
    }
}

void copy_print_refusal(const struct store_request *answer)
{
    for (unsigned i = 0; i < answer->count; i++) {
        const struct store_change *change = &answer->changes[i];
        for (unsigned n = 0; n < change->problems.count; n++) {
            fprintf(stderr, "pointsman: %.*s %s: %s\n", STR_ARG(noun_name(change->noun)),
                    change->key, change->problems.items[n].detail);
        }
    }
}

static int take_answer(struct target *target)
{
    const struct store_request *answer = target->answer;
    if (answer->err == 0) {
        copy_count(target->copy, answer);
        return CLI_DONE;
    }
    copy_print_refusal(answer);
    fprintf(stderr, "pointsman: nothing was copied: %s\n", err_text(answer->err));
    return CLI_FAILED;
}

int copy_write_sqlite(struct copy *copy)
{
    struct target target = {.copy = copy};
    struct problems problems;
    problems_init(&problems);
    if (loop_init(&target.loop) != 0) {
        fputs("pointsman: out of memory\n", stderr);
        return CLI_FAILED;
    }
    bool is_open = store_open(&target.store, str_from_c(copy->to), &problems) == 0;
    copy_print_problems(copy->to, &problems);
    int status = CLI_FAILED;
    if (is_open && may_write(&target) && find_deletions(&target) && copy_seal(copy) &&
        submit(&target)) {
        status = take_answer(&target);
    }
    store_request_free(&target.answer);
    store_close(&target.store);
    loop_turn(&target.loop, 0);
    for (unsigned i = 0; i < target.deletion_count; i++) {
        free(target.deletions[i].key);
    }
    free(target.deletions);
    loop_fini(&target.loop);
    problems_fini(&problems);
    return status;
}
