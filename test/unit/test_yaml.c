// SPDX-License-Identifier: MIT
#include "base/buf.h"
#include "model/yaml.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct yaml_doc *parse(struct str text)
{
    struct problems problems;
    struct yaml_stream *stream;
    struct yaml_doc *doc;
    problems_init(&problems);
    assert_int_equal(yaml_stream_new(&stream, "f.yaml", text), 0);
    if (yaml_stream_next(stream, &doc, &problems) != STEP_DONE) {
        fail_msg("%.*s: %s", STR_ARG(text), problems.count > 0 ? problems.items[0].detail : "end");
    }
    yaml_stream_free(&stream);
    problems_fini(&problems);
    return doc;
}

static void assert_tree(const char *yaml, const char *json)
{
    struct yaml_doc *doc = parse(str_from_c(yaml));
    char *text = json_dumps(yaml_doc_root(doc), JSON_COMPACT | JSON_ENCODE_ANY);
    assert_string_equal(text, json);
    free(text);
    yaml_doc_free(&doc);
}

static void assert_refused(struct str yaml, const char *pointer, const char *detail)
{
    struct problems problems;
    struct yaml_stream *stream;
    struct yaml_doc *doc;
    problems_init(&problems);
    assert_int_equal(yaml_stream_new(&stream, "f.yaml", yaml), 0);
    int step = yaml_stream_next(stream, &doc, &problems);
    if (step >= 0 || problems.count != 1 || strstr(problems.items[0].detail, detail) == NULL ||
        strcmp(problems.items[0].pointer, pointer) != 0) {
        fail_msg("%.40s: %d, %s %s", yaml.p, step,
                 problems.count > 0 ? problems.items[0].pointer : "",
                 problems.count > 0 ? problems.items[0].detail : "");
    }
    assert_null(doc);
    assert_int_equal(yaml_stream_next(stream, &doc, &problems), STEP_AGAIN);
    yaml_stream_free(&stream);
    problems_fini(&problems);
}

static void test_scalars(void **state)
{
    (void)state;
    assert_tree("[yes, No, on, y, 32k, 1h, 08:15, 1_000, 1.2.3, 0b1, 0o8, 0x, -, +, ., e5]",
                "[\"yes\",\"No\",\"on\",\"y\",\"32k\",\"1h\",\"08:15\",\"1_000\",\"1.2.3\",\"0b1\","
                "\"0o8\",\"0x\",\"-\",\"+\",\".\",\"e5\"]");
    assert_tree("[0, -1, +2, 010, 0o17, 0x1F, 9223372036854775807, -9223372036854775808]",
                "[0,-1,2,10,15,31,9223372036854775807,-9223372036854775808]");
    assert_tree("[1.5, -0.25, 1e3, .5, 2.]", "[1.5,-0.25,1000.0,0.5,2.0]");
    assert_tree("[true, True, TRUE, tRUE, false, False, FALSE]",
                "[true,true,true,\"tRUE\",false,false,false]");
    assert_tree("[null, Null, NULL, ~, nULL, '']", "[null,null,null,null,\"nULL\",\"\"]");
    assert_tree("a:\nb: ''\n", "{\"a\":null,\"b\":\"\"}");
    assert_tree("['1', \"true\", !!str 1, ! 2, \"a\\nb\\u00e9\"]",
                "[\"1\",\"true\",\"1\",\"2\",\"a\\nb\xc3\xa9\"]");
    assert_tree("a: |\n  x\n  y\nb: >-\n  x\n  y\n", "{\"a\":\"x\\ny\\n\",\"b\":\"x y\"}");
    assert_tree("1: a\ntrue: b\n", "{\"1\":\"a\",\"true\":\"b\"}");
    assert_tree("{\"a\": [1, {\"b\": null}]}", "{\"a\":[1,{\"b\":null}]}");
    assert_tree("---\n", "null");
    assert_tree("text", "\"text\"");
}

static void test_refused(void **state)
{
    (void)state;
    assert_refused(STR("a: 1\nb: 2\na: 3\n"), "f.yaml:3:1", "\"a\" is there twice");
    assert_refused(STR("a: 99999999999999999999"), "f.yaml:1:4", "too large");
    assert_refused(STR("a: 1e999"), "f.yaml:1:4", "too large");
    assert_refused(STR("a: -.inf"), "f.yaml:1:4", "infinity");
    assert_refused(STR("a: .nan"), "f.yaml:1:4", "infinity");
    assert_refused(STR("a: !!binary aGk="), "f.yaml:1:4", "tags");
    assert_refused(STR("a: !x {}"), "f.yaml:1:4", "tags");
    assert_refused(STR("a: &a {x: 1}\nb:\n  <<: *a\n"), "f.yaml:3:3", "merge keys");
    assert_refused(STR("a: \"x\\0y\""), "f.yaml:1:4", "NUL");
    assert_refused(STR("? [a]\n: b\n"), "f.yaml:1:3", "scalar");
    assert_refused(STR("a: &a 1\n*a : 2\n"), "f.yaml:2:1", "alias");
    assert_refused(STR("a: *b\n"), "f.yaml:1:4", "no such anchor");
    assert_refused(STR("a: &x [*x]\n"), "f.yaml:1:8", "no such anchor");
    assert_refused(STR("&k a: 1\n"), "f.yaml:1:1", "anchors");
    assert_refused(STR("a: 1\nb: [1, }\n"), "f.yaml:2:8", "did not find expected node");
    assert_refused(STR("a:\n\tb: 1\n"), "f.yaml:2:1", "cannot start any token");
    assert_refused(STR("a: \xff\n"), "f.yaml:1:1", "UTF-8");
    assert_refused(STR("%YAML 3.0\n--- a\n"), "f.yaml:1:1", "incompatible");
}

static void test_aliases(void **state)
{
    (void)state;
    assert_tree("a: &x {p: [1, 2]}\nb: *x\nc: &y t\nd: [*y, *y]\n",
                "{\"a\":{\"p\":[1,2]},\"b\":{\"p\":[1,2]},\"c\":\"t\",\"d\":[\"t\",\"t\"]}");
    assert_tree("a: &x 1\nb: &x 2\nc: *x\n", "{\"a\":1,\"b\":2,\"c\":2}");
}

// Ten aliases in each of many anchors: 10^n values from n lines.
static void test_laughs(void **state)
{
    (void)state;
    struct buf yaml;
    buf_init(&yaml, 0);
    buf_put(&yaml, STR("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"));
    for (int i = 1; i < 12; i++) {
        buf_printf(&yaml, "a%d: &a%d [", i, i);
        for (int j = 0; j < 10; j++) {
            buf_printf(&yaml, "%s*a%d", j == 0 ? "" : ", ", i - 1);
        }
        buf_put(&yaml, STR("]\n"));
    }
    struct problems problems;
    struct yaml_stream *stream;
    struct yaml_doc *doc;
    problems_init(&problems);
    assert_int_equal(yaml_stream_new(&stream, "f", buf_str(&yaml)), 0);
    assert_int_equal(yaml_stream_next(stream, &doc, &problems), ERR_SYNTAX);
    assert_non_null(strstr(problems.items[0].detail, "aliases grow"));
    yaml_stream_free(&stream);
    problems_fini(&problems);
    buf_clear(&yaml);
    // The same with one long text.
    buf_put(&yaml, STR("a: &a "));
    for (int i = 0; i < 100000; i++) {
        buf_put_char(&yaml, 'x');
    }
    buf_put(&yaml, STR("\nb: ["));
    for (int i = 0; i < 1000; i++) {
        buf_put(&yaml, STR("*a, "));
    }
    buf_put(&yaml, STR("]\n"));
    assert_int_equal(yaml_stream_new(&stream, "f", buf_str(&yaml)), 0);
    assert_int_equal(yaml_stream_next(stream, &doc, &problems), ERR_SYNTAX);
    assert_non_null(strstr(problems.items[0].detail, "aliases grow"));
    yaml_stream_free(&stream);
    problems_fini(&problems);
    buf_fini(&yaml);
}

static void test_depth(void **state)
{
    (void)state;
    char text[300];
    memset(text, '[', 150);
    memset(text + 150, ']', 150);
    struct yaml_doc *doc = parse(str_make(text + 150 - YAML_DEPTH_MAX, 2 * YAML_DEPTH_MAX));
    yaml_doc_free(&doc);
    assert_refused(str_make(text + 150 - YAML_DEPTH_MAX - 1, 2 * YAML_DEPTH_MAX + 2), "f.yaml:1:65",
                   "nested too deeply");
    // Through aliases: each line would be 20 levels deeper.
    struct buf yaml;
    buf_init(&yaml, 0);
    buf_put(&yaml, STR("a0: &a0 x\n"));
    for (int i = 1; i < 6; i++) {
        buf_printf(&yaml, "a%d: &a%d %.*s*a%d %.*s\n", i, i, 20, text, i - 1, 20, text + 150);
    }
    assert_refused(buf_str(&yaml), "f.yaml:5:29", "nest too deeply");
    buf_fini(&yaml);
}

static void test_documents(void **state)
{
    (void)state;
    struct problems problems;
    struct yaml_stream *stream;
    struct yaml_doc *doc;
    problems_init(&problems);
    assert_int_equal(
        yaml_stream_new(&stream, "f", STR("a: 1\n---\n- 2\n...\n---\n# c\n---\nx: [\n")), 0);
    static const char *const roots[] = {"{\"a\":1}", "[2]", "null"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(yaml_stream_next(stream, &doc, &problems), STEP_DONE);
        char *text = json_dumps(yaml_doc_root(doc), JSON_COMPACT | JSON_ENCODE_ANY);
        assert_string_equal(text, roots[i]);
        free(text);
        yaml_doc_free(&doc);
        assert_null(doc);
    }
    assert_int_equal(yaml_stream_next(stream, &doc, &problems), ERR_SYNTAX);
    assert_int_equal(yaml_stream_next(stream, &doc, &problems), STEP_AGAIN);
    yaml_stream_free(&stream);
    problems_fini(&problems);
    assert_int_equal(yaml_stream_new(&stream, "f", STR("# nothing\n")), 0);
    assert_int_equal(yaml_stream_next(stream, &doc, &problems), STEP_AGAIN);
    yaml_stream_free(&stream);
    yaml_stream_free(&stream);
}

static void assert_place(const struct yaml_doc *doc, const char *pointer, unsigned line,
                         unsigned column)
{
    unsigned at_line;
    unsigned at_column;
    yaml_doc_find(doc, str_from_c(pointer), &at_line, &at_column);
    if (at_line != line || at_column != column) {
        fail_msg("%s is at %u:%u", pointer, at_line, at_column);
    }
}

static void test_places(void **state)
{
    (void)state;
    struct yaml_doc *doc =
        parse(STR("# c\nhost: h\ntargets:\n  - a\n  - address: b\n    weight: x\n"
                  "h/e~r: {s: {X-A: 1}}\n"));
    assert_place(doc, "", 2, 1);
    assert_place(doc, "/host", 2, 1);
    assert_place(doc, "/targets", 3, 1);
    assert_place(doc, "/targets/0", 4, 5);
    assert_place(doc, "/targets/1", 5, 5);
    assert_place(doc, "/targets/1/weight", 6, 5);
    assert_place(doc, "/targets/1/missing", 5, 5);
    assert_place(doc, "/targets/7", 3, 1);
    assert_place(doc, "/h~1e~0r/s/X-A", 7, 13);
    assert_place(doc, "/nothing", 2, 1);
    yaml_doc_free(&doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_aliases), cmocka_unit_test(test_laughs),
        cmocka_unit_test(test_depth),   cmocka_unit_test(test_documents),
        cmocka_unit_test(test_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
