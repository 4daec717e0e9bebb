// SPDX-License-Identifier: MIT
// What stands in Redis, decoded: entries of the stream, their changes, records of the hashes; and replies of
// the script, as nobody would send them.
#include "base/hash.h"
#include "fleet/fleet_int.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define EPOCH "0123456789abcdef"
#define TAG   "0123456789abcdef0123456789abcdef"

enum { FIELD_MAX = 40 };

// An entry as Redis gives it.
struct item {
    struct redis_reply texts[FIELD_MAX + 1];
    struct redis_reply *fields[FIELD_MAX];
    struct redis_reply list;
    struct redis_reply *parts[2];
    struct redis_reply reply;
};

static void add_field(struct item *item, const char *text)
{
    struct redis_reply *reply = &item->texts[item->list.count];
    *reply = (struct redis_reply){.type = REDIS_STRING, .text = str_from_c(text)};
    item->fields[item->list.count++] = reply;
}

// "v=1 k=write …": blanks between.
static struct item *make_item(const char *id, const char *fields)
{
    static char texts[1000];
    struct item *item = calloc(1, sizeof *item);
    item->texts[FIELD_MAX] = (struct redis_reply){.type = REDIS_STRING, .text = str_from_c(id)};
    item->list.type = REDIS_ARRAY;
    item->list.items = item->fields;
    snprintf(texts, sizeof texts, "%s", fields);
    char *at = texts;
    while (*at != '\0') {
        char *equals = strchr(at, '=');
        assert_non_null(equals);
        char *end = strchr(equals, ' ');
        *equals = '\0';
        add_field(item, at);
        if (end != NULL) {
            *end = '\0';
        }
        add_field(item, equals + 1);
        at = end == NULL ? equals + 1 + strlen(equals + 1) : end + 1;
    }
    item->parts[0] = &item->texts[FIELD_MAX];
    item->parts[1] = &item->list;
    item->reply = (struct redis_reply){.type = REDIS_ARRAY, .count = 2, .items = item->parts};
    return item;
}

#define WHOLE "v=1 k=write e=" EPOCH " r=7 p=6 t=" TAG " n=node w=1 c=x"

static void test_an_entry(void **state)
{
    (void)state;
    struct item *item = make_item("17-0", WHOLE " later=field");
    struct fleet_entry entry;
    const char *why;
    assert_int_equal(fleet_entry_read(&entry, &item->reply, &why), 0);
    assert_int_equal(entry.kind, FLEET_ENTRY_WRITE);
    assert_int_equal(entry.revision, 7);
    assert_int_equal(entry.previous, 6);
    assert_true(entry.wants_beat);
    assert_true(str_eq(entry.stream_id, STR("17-0")));
    assert_true(str_eq(entry.epoch, STR(EPOCH)));
    assert_true(str_eq(entry.tag, STR(TAG)));
    assert_true(str_eq(entry.node, STR("node")));
    assert_true(str_eq(entry.changes, STR("x")));
    free(item);
    item = make_item("17-0", "v=1 k=epoch e=" EPOCH " r=7 p=7 t=" TAG " n=node");
    assert_int_equal(fleet_entry_read(&entry, &item->reply, &why), 0);
    assert_int_equal(entry.kind, FLEET_ENTRY_EPOCH);
    assert_false(entry.wants_beat);
    free(item);
}

static void test_entries_that_are_none(void **state)
{
    (void)state;
    static const struct {
        const char *id, *fields, *why;
        uint64_t revision;
    } cases[] = {
        {"", WHOLE, "entry of a stream", 0},
        {"17", WHOLE, "entry of a stream", 0},
        {"x-1", WHOLE, "entry of a stream", 0},
        {"1-0", "foo=bar", "not a record of this store", 0},
        {"1-0", "v=2 k=write e=" EPOCH " r=7 p=6 t=" TAG, "newer version", 7},
        {"1-0", "v=1 k=write e=0123456789ABCDEF r=7 p=6 t=" TAG, "epoch", 7},
        {"1-0", "v=1 k=write e=01 r=7 p=6 t=" TAG, "epoch", 7},
        {"1-0", "v=1 k=write e=" EPOCH " r=6 p=7 t=" TAG, "revisions", 6},
        {"1-0", "v=1 k=write e=" EPOCH " r=7 p=7 t=" TAG, "revisions", 7},
        {"1-0", "v=1 k=write e=" EPOCH " r=-7 p=6 t=" TAG, "revisions", 0},
        {"1-0", "v=1 k=write e=" EPOCH " r=7 t=" TAG, "revisions", 0},
        {"1-0", "v=1 k=write e=" EPOCH " r=9007199254740992 p=6 t=" TAG, "revisions", 0},
        {"1-0", "v=1 k=write e=" EPOCH " r=99999999999999999999 p=6 t=" TAG, "revisions", 0},
        {"1-0", "v=1 k=write e=" EPOCH " r=7 p=6 t=short", "tag", 7},
        {"1-0", "v=1 k=other e=" EPOCH " r=7 p=6 t=" TAG, "kind", 7},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct item *item = make_item(cases[i].id, cases[i].fields);
        struct fleet_entry entry;
        const char *why;
        assert_int_equal(fleet_entry_read(&entry, &item->reply, &why), ERR_SYNTAX);
        assert_non_null(strstr(why, cases[i].why));
        assert_int_equal(entry.revision, cases[i].revision);
        assert_int_equal(entry.stream_id.len, strchr(cases[i].id, '-') == NULL ? 0
                                              : cases[i].id[0] == 'x'          ? 0
                                                                               : 3);
        free(item);
    }
    // Other shapes.
    struct item *item = make_item("1-0", WHOLE);
    struct fleet_entry entry;
    const char *why;
    item->list.count--;
    assert_int_equal(fleet_entry_read(&entry, &item->reply, &why), ERR_SYNTAX);
    item->list.count++;
    item->list.type = REDIS_NIL;
    assert_int_equal(fleet_entry_read(&entry, &item->reply, &why), ERR_SYNTAX);
    item->list.type = REDIS_ARRAY;
    item->texts[0].type = REDIS_INTEGER;
    assert_int_equal(fleet_entry_read(&entry, &item->reply, &why), ERR_SYNTAX);
    item->reply.count = 1;
    assert_int_equal(fleet_entry_read(&entry, &item->reply, &why), ERR_SYNTAX);
    item->reply.type = REDIS_STRING;
    assert_int_equal(fleet_entry_read(&entry, &item->reply, &why), ERR_SYNTAX);
    free(item);
}

static void test_changes(void **state)
{
    (void)state;
    struct str rest = STR("+route 3 7 -\na\nb{\"x\":1}"
                          "=certificate 1 2 6\nc{}secret"
                          "=pool 1 2 k\np{}"
                          "-tickets 7 0 -\ncurrent"
                          "+planet 1 2 -\nm{}");
    struct fleet_change change;
    assert_int_equal(fleet_changes_next(&rest, &change), STEP_DONE);
    assert_int_equal(change.op, '+');
    assert_int_equal(change.noun, NOUN_ROUTE);
    assert_true(str_eq(change.key, STR("a\nb")));
    assert_true(str_eq(change.value, STR("{\"x\":1}")));
    assert_int_equal(change.secret.len, 0);
    assert_false(change.keep_secret);
    assert_int_equal(fleet_changes_next(&rest, &change), STEP_DONE);
    assert_int_equal(change.noun, NOUN_CERTIFICATE);
    assert_true(str_eq(change.secret, STR("secret")));
    assert_int_equal(fleet_changes_next(&rest, &change), STEP_DONE);
    assert_true(change.keep_secret);
    assert_int_equal(fleet_changes_next(&rest, &change), STEP_DONE);
    assert_int_equal(change.op, '-');
    assert_int_equal(change.noun, NOUN_TICKETS);
    assert_int_equal(fleet_changes_next(&rest, &change), STEP_DONE);
    assert_int_equal(change.noun, NOUN_COUNT); // a newer node's
    assert_true(str_eq(change.key, STR("m")));
    assert_int_equal(fleet_changes_next(&rest, &change), STEP_AGAIN);
}

static void test_changes_that_are_none(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "+",
        "+\n",
        "+route",
        "*route 1 2 -\na{}",
        "+ 1 2 -\na{}",
        "+route 1 2\na{}",
        "+route 1 2 \na{}",
        "+route 1 2 -x\na{}",
        "+route 1 2 0\na{}",
        "+route 1 2 1 1\na{}s",
        "+route 1 3 -\na{}",
        "+route 1 2 1\na{}",
        "+route 0 2 -\n{}",
        "+route 1 0 -\na",
        "-route 1 2 -\na{}",
        "-route 1 0 k\na",
        "-route 1 0 1\nas",
        "+route 99999999999 2 -\na{}",
        "+route 18446744073709551615 2 -\na{}",
        "+route 4294967295 4294967295 4294967295\na{}",
        "+route -1 2 -\na{}",
        "+route +1 2 -\na{}",
        "+route 1  2 -\na{}",
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str rest = str_from_c(cases[i]);
        struct fleet_change change;
        assert_int_equal(fleet_changes_next(&rest, &change), ERR_SYNTAX);
    }
    // Every beginning of one is none.
    static const char whole[] = "+certificate 3 2 6\nabc{}secret";
    for (size_t len = 1; len < sizeof whole - 1; len++) {
        char *copy = malloc(len);
        memcpy(copy, whole, len);
        struct str rest = str_make(copy, len);
        struct fleet_change change;
        assert_int_equal(fleet_changes_next(&rest, &change), ERR_SYNTAX);
        free(copy);
    }
}

static void test_records(void **state)
{
    (void)state;
    uint64_t revision;
    struct str refs;
    struct str value;
    assert_int_equal(
        fleet_record_read(STR("12 pool:a\tcertificate:b\n{}\n"), &revision, &refs, &value), 0);
    assert_int_equal(revision, 12);
    assert_true(str_eq(refs, STR("pool:a\tcertificate:b")));
    assert_true(str_eq(value, STR("{}\n")));
    assert_int_equal(fleet_record_read(STR("12 \n{}"), &revision, NULL, &value), 0);
    static const char *const cases[] = {"",       "{}",    "12\n{}", "12 ",
                                        "x \n{}", "12 \n", " \n{}",  "9007199254740992 \n{}"};
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(fleet_record_read(str_from_c(cases[i]), &revision, &refs, &value),
                         ERR_SYNTAX);
    }
}

// ---- replies of the script ----

static enum fleet_call_result read_reply(const char *word, const char *revision, const char *list,
                                         struct store_request **request)
{
    struct redis_reply texts[3] = {{.type = REDIS_STRING, .text = str_from_c(word)},
                                   {.type = REDIS_STRING, .text = str_from_c(revision)},
                                   {.type = REDIS_STRING, .text = str_from_c(list)}};
    struct redis_reply *items[3] = {&texts[0], &texts[1], &texts[2]};
    struct redis_reply reply = {.type = REDIS_ARRAY, .count = list == NULL ? 1 : 3, .items = items};
    struct fleet_call_answer answer;
    if (request == NULL) {
        fleet_call_read(&answer, NULL, &reply, NULL);
        return answer.result;
    }
    *request = store_request_new(2);
    for (unsigned i = 0; i < 2; i++) {
        (*request)->changes[i].noun = NOUN_POOL;
        (*request)->changes[i].key = str_dup(STR("p"));
    }
    fleet_call_read(&answer, *request, &reply, NULL);
    return answer.result;
}

static void test_replies(void **state)
{
    (void)state;
    static const struct {
        const char *word, *revision, *list;
        enum fleet_call_result result;
        int err;
    } cases[] = {
        {"ok", "7", "n7 d7", FLEET_CALL_WRITTEN, 0},
        {"ok", "7", "s3 r4", FLEET_CALL_SAME, 0},
        {"ok", "7", "n7", FLEET_CALL_BROKEN, 0},
        {"ok", "7", "n7 n7 n7", FLEET_CALL_BROKEN, 0},
        {"ok", "7", "n7 n", FLEET_CALL_BROKEN, 0},
        {"ok", "7", "n7 nx", FLEET_CALL_BROKEN, 0},
        {"ok", "-7", "n7 n7", FLEET_CALL_BROKEN, 0},
        {"ok", "x", "n7 n7", FLEET_CALL_BROKEN, 0},
        {"refused", "7", "1 absent 0 ", FLEET_CALL_REFUSED, ERR_NOT_FOUND},
        {"refused", "7", "1 revision 9 0 exists 0 ", FLEET_CALL_REFUSED, ERR_PRECONDITION},
        {"refused", "7", "1 used 9 ", FLEET_CALL_REFUSED, ERR_IN_USE},
        {"refused", "7", "2 absent 0 ", FLEET_CALL_BROKEN, 0},
        {"refused", "7", "0 dangling 0 ", FLEET_CALL_BROKEN, 0},
        {"refused", "7", "0 other 0 ", FLEET_CALL_BROKEN, 0},
        {"refused", "7", "0 absent", FLEET_CALL_BROKEN, 0},
        {"refused", "7", "", FLEET_CALL_BROKEN, 0},
        {"epoch", "", NULL, FLEET_CALL_EPOCH, 0},
        {"fenced", "", NULL, FLEET_CALL_FENCED, 0},
        {"empty", "", NULL, FLEET_CALL_EMPTY, 0},
        {"guard", "", NULL, FLEET_CALL_REFUSED, ERR_PRECONDITION},
        {"what", "", NULL, FLEET_CALL_BROKEN, 0},
        {"ok", "", NULL, FLEET_CALL_BROKEN, 0},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct store_request *request;
        assert_int_equal(read_reply(cases[i].word, cases[i].revision, cases[i].list, &request),
                         cases[i].result);
        if (cases[i].result == FLEET_CALL_REFUSED) {
            assert_int_equal(request->err, cases[i].err);
        }
        store_request_free(&request);
    }
    // Nobody is there any more to take it.
    assert_int_equal(read_reply("ok", "7", "n7 d7", NULL), FLEET_CALL_WRITTEN);
    assert_int_equal(read_reply("refused", "7", "0 absent 0 ", NULL), FLEET_CALL_REFUSED);
    assert_int_equal(read_reply("guard", "", NULL, NULL), FLEET_CALL_REFUSED);
    assert_int_equal(read_reply("what", "", "", NULL), FLEET_CALL_BROKEN);
}

static void test_errors(void **state)
{
    (void)state;
    struct redis_reply reply = {
        .type = REDIS_ERROR,
        .text = STR("OOM command not allowed. script: abc, on @user_script:1.")};
    struct fleet_call_answer answer;
    fleet_call_read(&answer, NULL, &reply, NULL);
    assert_int_equal(answer.result, FLEET_CALL_FAILED);
    assert_string_equal(answer.detail, "OOM command not allowed.");
    reply.text = STR("NOSCRIPT No matching script. Please use EVAL.");
    fleet_call_read(&answer, NULL, &reply, NULL);
    assert_int_equal(answer.result, FLEET_CALL_UNKNOWN);
    reply.type = REDIS_NIL;
    fleet_call_read(&answer, NULL, &reply, NULL);
    assert_int_equal(answer.result, FLEET_CALL_BROKEN);
}

static void test_arguments(void **state)
{
    (void)state;
    struct fleet_keys keys;
    fleet_keys_init(&keys, "pm");
    const struct fleet_writer writer = {.keys = &keys,
                                        .epoch = STR(EPOCH),
                                        .seen = 7,
                                        .node = STR("n"),
                                        .session = 3,
                                        .stream_entries = 100,
                                        .stream_bytes = 1000};
    struct fleet_call call;
    struct store_request *request = store_request_new(3000); // the texts move while they grow
    for (unsigned i = 0; i < 3000; i++) {
        struct store_change *change = &request->changes[i];
        change->noun = NOUN_ROUTE;
        change->key = str_dup(STR("k"));
        change->value = str_dup(STR("{}"));
        change->if_match = i + 1000;
        change->reference_count = i % 3;
        change->references = calloc(2, sizeof *change->references);
        for (unsigned j = 0; j < change->reference_count; j++) {
            change->references[j] =
                (struct store_reference){.noun = NOUN_POOL, .key = str_dup(STR("p"))};
        }
    }
    fleet_call_init(&call);
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(fleet_call_format(&call, &writer, request, TAG, round == 1), 0);
        unsigned first = 3 + 5 + NOUN_COUNT + 12;
        assert_int_equal(call.argc, first + 3000 * 8);
        assert_true(str_eq(call.argv[0], round == 1 ? STR("EVAL") : STR("EVALSHA")));
        assert_true(str_eq(call.argv[2], STR("11")));
        assert_true(str_eq(call.argv[3], STR("pm:meta")));
        assert_true(str_eq(call.argv[first - 4], STR("3000")));
        assert_true(str_eq(call.argv[first - 1], STR("7")));
        for (unsigned i = 0; i < 3000; i++) {
            const struct str *at = &call.argv[first + i * 8];
            char number[12];
            snprintf(number, sizeof number, "%u", i + 1000);
            assert_true(str_eq(at[0], STR("route")));
            assert_true(str_eq(at[6], str_from_c(number)));
            assert_true(str_eq(at[7], i % 3 == 0   ? STR("")
                                      : i % 3 == 1 ? STR("pool:p")
                                                   : STR("pool:p\tpool:p")));
        }
    }
    assert_int_equal(strlen(fleet_script_write.sha), 40);
    fleet_call_fini(&call);
    store_request_free(&request);
}

int main(void)
{
    hash_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_entry), cmocka_unit_test(test_entries_that_are_none),
        cmocka_unit_test(test_changes),  cmocka_unit_test(test_changes_that_are_none),
        cmocka_unit_test(test_records),  cmocka_unit_test(test_replies),
        cmocka_unit_test(test_errors),   cmocka_unit_test(test_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
