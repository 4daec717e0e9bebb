// SPDX-License-Identifier: MIT
// A store in a folder of its own with a control loop that the test turns by hand, and what came out of
// it as text. Include after cmocka.h's own headers.
#pragma once
#include "base/buf.h"
#include "base/clock.h"
#include "store/store.h"
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

struct check {
    char folder[64];
    char path[80]; // of the file
    char url[96];
    bool is_replica;
    void (*before_start)(struct check *check); // at each open; or NULL
    struct loop control;
    struct store *store;
    struct store_line line;
    bool is_slow; // what is fed is not live before store_line_resume()
    struct problems problems;
    struct buf log; // "put route a=1@5; answer 5; "
    bool is_quiet;
    unsigned answers;
    unsigned fed;      // records
    unsigned feeds;    // calls
    unsigned parts;    // records that are a part of a revision
    uint64_t revision; // of the last feed
    bool is_writable;
    char detail[200];
};

static inline bool check_on_change(void *context, uint64_t revision,
                                   const struct store_record *records, unsigned count)
{
    struct check *check = context;
    check->fed += count;
    check->feeds++;
    assert_true(revision >= check->revision);
    check->revision = revision;
    for (unsigned i = 0; i < count && !check->is_quiet; i++) {
        const struct store_record *r = &records[i];
        check->parts += r->is_part;
        struct str name = noun_name(r->noun);
        buf_printf(&check->log, "%s %.*s %.*s", r->value.len == 0 ? "del" : "put", STR_ARG(name),
                   STR_ARG(r->key));
        if (r->value.len != 0) {
            buf_printf(&check->log, "=%.*s", STR_ARG(r->value));
        }
        if (r->secret.len != 0) {
            buf_printf(&check->log, "+%.*s", STR_ARG(r->secret));
        }
        buf_printf(&check->log, "@%llu", (unsigned long long)r->revision);
        assert_true(r->is_part || check->is_replica || r->revision == revision);
        buf_put(&check->log, STR("; "));
    }
    return !check->is_slow;
}

static inline void check_on_state(void *context, bool is_writable, struct str detail)
{
    struct check *check = context;
    check->is_writable = is_writable;
    str_copy(check->detail, sizeof check->detail, detail);
    buf_put(&check->log, is_writable ? STR("writable; ") : STR("not writable; "));
}

static inline void check_on_done(struct store_request *request)
{
    struct check *check = *(struct check **)request->context;
    check->answers++;
    if (!check->is_quiet) {
        buf_printf(&check->log, "answer %llu; ", (unsigned long long)request->revision);
    }
    *(struct store_request **)request->context = request;
}

// Makes a folder in `base`. check_open may be called again after check_close.
static inline void check_init_in(struct check *check, const char *base)
{
    memset(check, 0, sizeof *check);
    check->is_writable = true;
    snprintf(check->folder, sizeof check->folder, "%s/store-test-XXXXXX", base);
    assert_non_null(mkdtemp(check->folder));
    snprintf(check->path, sizeof check->path, "%s/s.db", check->folder);
    snprintf(check->url, sizeof check->url, "sqlite:%s", check->path);
    buf_init(&check->log, 0);
    problems_init(&check->problems);
    assert_int_equal(loop_init(&check->control), 0);
}

static inline void check_init(struct check *check)
{
    check_init_in(check, "/tmp");
}

static inline int check_try_open(struct check *check)
{
    static struct store_feed feed = {check_on_change, check_on_state, NULL, NULL};
    feed.context = check;
    feed.line = &check->line;
    store_line_init(&check->line, &check->control);
    problems_fini(&check->problems);
    problems_init(&check->problems);
    int err = check->is_replica
                  ? store_open_replica(&check->store, check->path, &check->problems)
                  : store_open(&check->store, str_from_c(check->url), &check->problems);
    if (err == 0 && check->before_start != NULL) {
        check->before_start(check);
    }
    return err != 0 ? err : store_start(check->store, &check->control, &feed);
}

static inline void check_open(struct check *check)
{
    int err = check_try_open(check);
    if (err != 0 && check->problems.count > 0) {
        print_message("%s\n", check->problems.items[0].detail);
    }
    assert_int_equal(err, 0);
}

static inline void check_close(struct check *check)
{
    store_close(&check->store);
    assert_null(check->store);
    loop_turn(&check->control, 0);
    if (check->line.control != NULL) {
        store_line_finish(&check->line);
    }
}

static inline void check_fini(struct check *check)
{
    check_close(check);
    loop_fini(&check->control);
    buf_fini(&check->log);
    problems_fini(&check->problems);
    DIR *folder = opendir(check->folder);
    assert_non_null(folder);
    struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] != '.') {
            unlinkat(dirfd(folder), entry->d_name, 0);
        }
    }
    closedir(folder);
    rmdir(check->folder);
}

static inline void check_text(struct check *check, const char *expected)
{
    buf_put_char(&check->log, '\0');
    assert_string_equal(check->log.p, expected);
    buf_clear(&check->log);
}

// value NULL: delete. Returns the change for conditions.
static inline struct store_change *check_set(struct store_request *request, unsigned i,
                                             enum noun noun, const char *key, const char *value)
{
    assert_true(i < request->count);
    struct store_change *change = &request->changes[i];
    change->noun = noun;
    change->key = str_dup(str_from_c(key));
    change->value = value == NULL ? NULL : str_dup(str_from_c(value));
    return change;
}

static inline struct store_request *check_one(enum noun noun, const char *key, const char *value)
{
    struct store_request *request = store_request_new(1);
    assert_non_null(request);
    check_set(request, 0, noun, key, value);
    return request;
}

static inline void check_refer(struct store_request *request, unsigned i, enum noun noun,
                               const char *key, const char *pointer)
{
    struct store_change *change = &request->changes[i];
    change->references =
        realloc(change->references, (change->reference_count + 1) * sizeof *change->references);
    change->references[change->reference_count++] = (struct store_reference){
        .noun = noun,
        .key = str_dup(str_from_c(key)),
        .pointer = str_dup(str_from_c(pointer)),
    };
}

// *slot holds the check until the answer, which it holds then.
static inline void check_submit(struct check *check, struct store_request *request, void **slot)
{
    *slot = check;
    request->loop = &check->control;
    request->on_done = check_on_done;
    request->context = slot;
    store_submit(check->store, &request);
    assert_null(request);
}

// Turns the loop until so many answers have come.
static inline void check_wait(struct check *check, unsigned answers)
{
    uint64_t until = clock_monotonic_ns() + 60 * NS_PER_SEC;
    while (check->answers < answers) {
        assert_true(clock_monotonic_ns() < until);
        loop_turn(&check->control, 100);
    }
}

static inline struct store_request *check_run(struct check *check, struct store_request *request)
{
    void *slot;
    unsigned answers = check->answers + 1;
    check_submit(check, request, &slot);
    check_wait(check, answers);
    return slot;
}

// Runs it, expects `err`, frees it.
static inline void check_expect(struct check *check, struct store_request *request, int err)
{
    request = check_run(check, request);
    assert_int_equal(request->err, err);
    store_request_free(&request);
}

// Who refers to a record, read as another thread would.
static inline void check_referrers(struct store *store, enum noun noun, const char *key,
                                   void (*visit)(void *context, enum noun noun, struct str key),
                                   void *context)
{
    struct store_reader *reader = NULL;
    assert_int_equal(store_reader_open(store, &reader), 0);
    assert_int_equal(store_reader_referrers(reader, noun, str_from_c(key), visit, context), 0);
    store_reader_close(&reader);
}
