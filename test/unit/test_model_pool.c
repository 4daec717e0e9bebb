// SPDX-License-Identifier: MIT
#include "base/buf.h"
#include "base/hash.h"
#include "model/value.h"
#include "model_check.h"

#define POOL(json, canonical)    check_form(NOUN_POOL, "p", json, canonical)
#define WITH(member)             "{\"targets\":[]," member "}"
#define KEEPS(member, canonical) POOL(WITH(member), "{\"targets\":[]" canonical "}")
#define REFUSES(member, pointer, detail) \
    check_refused(NOUN_POOL, "p", WITH(member), pointer, detail)
#define TARGET(json) "{\"targets\":[{\"address\":\"a\"," json "}]}"

static void test_targets(void **state)
{
    (void)state;
    POOL("{\"targets\":[]}", "{\"targets\":[]}");
    POOL("{\"targets\":[\"10.0.0.5:8080\",{\"address\":\"[::1]\",\"weight\":0,\"state\":\"down\"},"
         "{\"zone\":\"z\",\"address\":\"unix:/run/x.sock\"}]}",
         "{\"targets\":[{\"address\":\"10.0.0.5:8080\"},"
         "{\"address\":\"[::1]:80\",\"weight\":0,\"state\":\"down\"},"
         "{\"address\":\"unix:/run/x.sock\",\"zone\":\"z\"}]}");
    check_refused(NOUN_POOL, "p", "{}", "/targets", "missing");
    check_refused(NOUN_POOL, "p", "[]", "", "must be an object");
    check_refused(NOUN_POOL, "", "{\"targets\":[]}", "", "needs a name");
    check_refused(NOUN_POOL, "p", "{\"targets\":{}}", "/targets", "a list");
    check_refused(NOUN_POOL, "p", "{\"targets\":[{}]}", "/targets/0/address", "missing");
    check_refused(NOUN_POOL, "p", "{\"targets\":[\"a\",\"b\",\"b:80\"]}", "/targets/2",
                  "element 1");
    check_refused(NOUN_POOL, "p", TARGET("\"weight\":65536"), "/targets/0/weight", "0 to 65535");
    check_refused(NOUN_POOL, "p", TARGET("\"weight\":\"1\""), "/targets/0/weight", "whole number");
    check_refused(NOUN_POOL, "p", TARGET("\"state\":\"off\""), "/targets/0/state",
                  "\"up\", \"drain\", \"down\"");
    check_refused(NOUN_POOL, "p", TARGET("\"zone\":\"a b\""), "/targets/0/zone", "must be a name");
    POOL(TARGET("\"backup\":false,\"max_connections\":0"),
         "{\"targets\":[{\"address\":\"a:80\"}]}");
    POOL(TARGET("\"max_connections\":65535,\"backup\":true"),
         "{\"targets\":[{\"address\":\"a:80\",\"backup\":true,\"max_connections\":65535}]}");
    check_refused(NOUN_POOL, "p", TARGET("\"backup\":1"), "/targets/0/backup", "true or false");
    check_refused(NOUN_POOL, "p", TARGET("\"max_connections\":65536"), "/targets/0/max_connections",
                  "0 to 65535");
    check_refused(NOUN_POOL, "p", TARGET("\"max_connections\":-1"), "/targets/0/max_connections",
                  "0 to 65535");
    check_refused(NOUN_POOL, "p", TARGET("\"max_connections\":false"), "/targets/0/max_connections",
                  "whole number");
    check_refused(NOUN_POOL, "p", TARGET("\"adress\":1"), "/targets/0/adress",
                  "did you mean \"address\"");
    check_refused(NOUN_POOL, "p", "{\"targets\":[\"a\",\"b\",\"c\",{\"address\":\"a b\"}]}",
                  "/targets/3/address", "not a valid host");
}

static void test_members(void **state)
{
    (void)state;
    KEEPS("\"balance\":\"least_requests\"", "");
    KEEPS("\"balance\":\"round_robin\"", ",\"balance\":\"round_robin\"");
    REFUSES("\"balance\":\"random\"", "/balance",
            "\"least_requests\", \"round_robin\", \"random_two\", \"hash\"");
    KEEPS("\"balance\":\"random_two\"", ",\"balance\":\"random_two\"");
    KEEPS("\"keepalive\":{\"idle\":64,\"timeout\":\"60s\"}", "");
    KEEPS("\"keepalive\":{\"idle\":0,\"timeout\":\"5s\"}",
          ",\"keepalive\":{\"idle\":0,\"timeout\":\"5s\"}");
    REFUSES("\"keepalive\":{\"idle\":65536}", "/keepalive/idle", "0 to 65535");
    REFUSES("\"keepalive\":{\"timeout\":\"0s\"}", "/keepalive/timeout", "1ms to 24d");
    REFUSES("\"keepalive\":{\"x\":1}", "/keepalive/x", "no field");
    REFUSES("\"keepalive\":true", "/keepalive", "an object");
    KEEPS("\"timeouts\":{\"connect\":\"250ms\"}", ",\"timeouts\":{\"connect\":\"250ms\"}");
    REFUSES("\"timeouts\":{\"connect\":\"1y\"}", "/timeouts/connect", "duration");
    KEEPS("\"timeouts\":{\"request\":\"90s\"}", ",\"timeouts\":{\"request\":\"90s\"}");
    KEEPS("\"timeouts\":{}", "");
    REFUSES("\"timeouts\":{\"request\":\"0s\"}", "/timeouts/request", "1ms to 24d");
    REFUSES("\"target\":[]", "/target", "did you mean \"targets\"");
    struct declaration *d = decode_as(NOUN_POOL, "p", "{\"targets\":[\"a\"]}",
                                      "{\"targets\":[{\"address\":\"a:80\"}]}");
    assert_int_equal(d->pool.keepalive.idle, 64);
    assert_int_equal(d->pool.keepalive.timeout_ms, 60000);
    assert_int_equal(d->pool.targets[0].weight, 1);
    assert_int_equal(d->pool.balance, BALANCE_LEAST_REQUESTS);
    assert_string_equal(d->key, "p");
    declaration_free(&d);
}

static char *make_targets(int count, int same)
{
    struct buf json;
    buf_init(&json, 0);
    buf_put(&json, STR("{\"targets\":["));
    for (int i = 0; i < count; i++) {
        buf_printf(&json, "%s\"t%d:80\"", i == 0 ? "" : ",", i == count - 1 && same ? 7 : i);
    }
    buf_put(&json, STR("]}"));
    buf_put_char(&json, '\0');
    return json.p;
}

static void test_many_targets(void **state)
{
    (void)state;
    char *json = make_targets(1000, 0);
    struct problems problems;
    struct declaration *declaration;
    problems_init(&problems);
    assert_int_equal(
        decode_text(NOUN_POOL, "p", json, DECODE_STRICT, &declaration, NULL, &problems), 0);
    assert_int_equal(declaration->pool.target_count, 1000);
    assert_true(str_eq(declaration->pool.targets[999].address.text, STR("t999:80")));
    declaration_free(&declaration);
    free(json);
    json = make_targets(1000, 1);
    check_refused(NOUN_POOL, "p", json, "/targets/999", "element 7");
    free(json);
    json = make_targets(1001, 0);
    check_refused(NOUN_POOL, "p", json, "/targets", "at most 1000");
    free(json);
}

static void test_names(void **state)
{
    (void)state;
    char longest[202];
    memset(longest, 'x', sizeof longest);
    assert_true(name_is_valid(STR("shop-web")));
    assert_true(name_is_valid(STR("0")));
    assert_true(name_is_valid(STR("_a.b:c@d-e")));
    assert_true(name_is_valid(str_make(longest, 200)));
    assert_false(name_is_valid(str_make(longest, 201)));
    assert_false(name_is_valid(STR("")));
    assert_false(name_is_valid(STR(".")));
    assert_false(name_is_valid(STR("..")));
    assert_false(name_is_valid(STR("-a")));
    assert_false(name_is_valid(STR("a/b")));
    assert_false(name_is_valid(STR("a b")));
    assert_false(name_is_valid(STR("a%20")));
    assert_false(name_is_valid(STR("\xc3\xa4")));
    struct problems problems;
    char *key;
    problems_init(&problems);
    assert_int_equal(declaration_key(NOUN_POOL, STR("Web"), &key, &problems), 0);
    assert_string_equal(key, "Web");
    free(key);
    assert_int_equal(declaration_key(NOUN_POOL, STR("a/b"), &key, &problems), ERR_INVALID);
    assert_null(key);
    problems_fini(&problems);
}

static void assert_duration(const char *text, uint64_t ms, const char *canonical)
{
    uint64_t value;
    char form[VALUE_TEXT_MAX];
    assert_int_equal(duration_parse(str_from_c(text), &value), 0);
    assert_int_equal(value, ms);
    assert_int_equal(duration_format(value, form), strlen(canonical));
    assert_string_equal(form, canonical);
}

static void assert_size(const char *text, uint64_t bytes, const char *canonical)
{
    uint64_t value;
    char form[VALUE_TEXT_MAX];
    assert_int_equal(size_parse(str_from_c(text), &value), 0);
    assert_int_equal(value, bytes);
    size_format(value, form);
    assert_string_equal(form, canonical);
}

static void test_values(void **state)
{
    (void)state;
    assert_duration("100ms", 100, "100ms");
    assert_duration("1000ms", 1000, "1s");
    assert_duration("90s", 90000, "90s");
    assert_duration("60m", 3600000, "1h");
    assert_duration("365d", 31536000000ull, "365d");
    assert_duration("0", 0, "0s");
    assert_duration("0h", 0, "0s");
    assert_size("0", 0, "0");
    assert_size("1500", 1500, "1500");
    assert_size("32k", 32768, "32k");
    assert_size("1024K", 1 << 20, "1m");
    assert_size("1g", 1 << 30, "1g");
    assert_size("2048g", 2048ull << 30, "2048g");
    uint64_t value;
    static const char *const bad[] = {
        "", "s", "5", "1.5s", "-1s", "1 s", "1w", "5ss", "18446744073709551615d", "1h30m"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(duration_parse(str_from_c(bad[i]), &value), ERR_SYNTAX);
    }
    static const char *const bad_sizes[] = {"", "k", "1kb", "-1", "1.5m", "18446744073709551615k"};
    for (size_t i = 0; i < sizeof bad_sizes / sizeof bad_sizes[0]; i++) {
        assert_int_equal(size_parse(str_from_c(bad_sizes[i]), &value), ERR_SYNTAX);
    }
}

static void test_nearest(void **state)
{
    (void)state;
    static const struct str names[] = {{"targets", 7}, {"target_path", 11}, {"to", 2}, {"tls", 3}};
    assert_int_equal(name_nearest(STR("target"), names, 4), 0);
    assert_int_equal(name_nearest(STR("tragets"), names, 4), 0);
    assert_int_equal(name_nearest(STR("targetpath"), names, 4), 1);
    assert_int_equal(name_nearest(STR("TLS"), names, 4), 3);
    assert_int_equal(name_nearest(STR("colour"), names, 4), 4);
    assert_int_equal(name_nearest(STR(""), names, 4), 4);
    char longest[100];
    memset(longest, 't', sizeof longest);
    assert_int_equal(name_nearest(str_make(longest, sizeof longest), names, 4), 4);
}

int main(void)
{
    hash_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets),      cmocka_unit_test(test_members),
        cmocka_unit_test(test_many_targets), cmocka_unit_test(test_names),
        cmocka_unit_test(test_values),       cmocka_unit_test(test_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
