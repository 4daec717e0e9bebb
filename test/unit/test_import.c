// SPDX-License-Identifier: MIT
// What other programs keep in Redis, read without one: rules of Traefik, backends of Hipache, certificates of
// lua-resty-auto-ssl.
#include "cli/import_rule.h"
#include "cli/import_traefik_int.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

// "a.example /x | b.example", or "! reason".
static void assert_rule(const char *text, const char *expected)
{
    static struct rule rule;
    char reason[RULE_REASON_MAX];
    struct buf shown;
    buf_init(&shown, 0);
    if (rule_parse(str_from_c(text), &rule, reason) != 0) {
        buf_printf(&shown, "! %s", reason);
    }
    for (unsigned i = 0; i < rule.count; i++) {
        const struct rule_term *term = &rule.terms[i];
        buf_printf(&shown, "%s%.*s%s%.*s", i > 0 ? " | " : "",
                   (int)(term->host.len > 0 ? term->host.len : 1),
                   term->host.len > 0 ? term->host.p : "*", term->path.len > 0 ? " " : "",
                   STR_ARG(term->path));
    }
    buf_put_char(&shown, '\0');
    assert_string_equal(shown.p, expected);
    buf_fini(&shown);
}

static void test_rules(void **state)
{
    (void)state;
    assert_rule("Host(`a.example`)", "a.example");
    assert_rule(" Host ( \"a.example\" , `b.example` ) ", "a.example | b.example");
    assert_rule("host(`a.example`)||HOST(`b.example`)", "a.example | b.example");
    assert_rule("Host(`a`) && PathPrefix(`/x`)", "a /x");
    assert_rule("Host(`a`) && (PathPrefix(`/x`) || PathPrefix(`/y`))", "a /x | a /y");
    assert_rule("PathPrefix(`/x`, `/y`) && Host(`a`, `b`)", "a /x | b /x | a /y | b /y");
    assert_rule("Host(`a`) || Host(`b`) && PathPrefix(`/x`)", "a | b /x");
    assert_rule("Host(`a`) && PathPrefix(`/x`) || Host(`b`)", "a /x | b");
    assert_rule("(Host(`a`) || Host(`b`)) && PathPrefix(`/x`)", "a /x | b /x");
    assert_rule("((Host(`a`)))", "a");
    assert_rule("PathPrefix(`/x`)", "* /x");
    assert_rule("PathPrefix(`/`)", "*");
    assert_rule("HostRegexp(`{any:.+}`) && PathPrefix(`/x`)", "* /x");
    assert_rule("HostRegexp(`^.+$`)", "*");
    assert_rule("Host(`*.a.example`) || Host(`**.b.example`)", "*.a.example | *.b.example");
}

static void test_what_a_rule_says_twice(void **state)
{
    (void)state;
    assert_rule("Host(`a`) || Host(`A`)", "a");
    assert_rule("Host(`a`) && Host(`a`)", "a");
    assert_rule("Host(`a`) && PathPrefix(`/x`) && PathPrefix(`/x/y`)", "a /x/y");
    assert_rule("Host(`a`) && Host(`b`)", ""); // no request
    assert_rule("Host(`a`) && Host(`b`) || Host(`c`)", "c");
    assert_rule("(Host(`a`) || PathPrefix(`/x`)) && (Host(`a`) || PathPrefix(`/x`))",
                "a | a /x | * /x");
}

static void test_rules_that_are_not_taken(void **state)
{
    (void)state;
    assert_rule("", "! the rule ends too early");
    assert_rule("Host(`a`) &&", "! the rule ends too early");
    assert_rule("Host(`a`", "! a ')' is missing behind a name: Host");
    assert_rule("Host(`a", "! a text of the rule does not end: `a");
    assert_rule("Host()", "! a text in backticks is missing: Host");
    assert_rule("Host(``)", "! a host is empty");
    assert_rule("Host", "! a '(' is missing behind a name: Host");
    assert_rule("(Host(`a`)", "! a '(' is not closed");
    assert_rule("Host(`a`))", "! a ')' has no '('");
    assert_rule("Host(`a`) Host(`b`)", "! the rule is not understood here: Host(`b`)");
    assert_rule("Host(`a`) & Host(`b`)", "! the rule is not understood here: & Host(`b`)");
    assert_rule("Host('a')", "! a text in backticks is missing: Host");
    assert_rule("!Host(`a`)", "! \"!\" is not understood: routes cannot say what they are not for");
    assert_rule("Path(`/x`)", "! routes know hosts and path prefixes, but not this: Path");
    assert_rule("Host(`a`) && Method(`GET`)",
                "! routes know hosts and path prefixes, but not this: Method");
    assert_rule("HostRegexp(`^a.+$`)",
                "! patterns of hosts are not understood, but that for any: ^a.+$");
    assert_rule("PathPrefix(`x`)", "! a path does not begin with '/': x");
    assert_rule("PathPrefix(`/{id:[0-9]+}`)",
                "! patterns in paths are not understood: /{id:[0-9]+}");
    assert_rule("Host(\"a\\\"b\")", "! escapes in texts are not understood: a\\");
}

// "Host(`h0`) op Host(`h1`) op …", or so many parentheses.
static char *long_rule(unsigned count, const char *before, const char *between)
{
    struct buf text;
    buf_init(&text, 0);
    for (unsigned i = 0; i < count; i++) {
        buf_printf(&text, "%s%s", i > 0 ? between : "", before);
        if (before[0] != '(') {
            buf_printf(&text, "(`h%u`)", i);
        }
    }
    buf_put_char(&text, '\0');
    return text.p;
}

static void test_bounds_of_rules(void **state)
{
    (void)state;
    static struct rule rule;
    char reason[RULE_REASON_MAX];
    char *text = long_rule(RULE_TERM_MAX, "Host", "||");
    assert_int_equal(rule_parse(str_from_c(text), &rule, reason), 0);
    assert_int_equal(rule.count, RULE_TERM_MAX);
    free(text);
    text = long_rule(RULE_TERM_MAX + 1, "Host", "||");
    assert_rule(text, "! the rule has more than 256 routes");
    free(text);
    text = long_rule(RULE_DEPTH_MAX + 1, "(", "");
    assert_rule(text, "! the rule is nested too deeply");
    free(text);
    text = calloc(1, RULE_TEXT_MAX + 2);
    memset(text, ' ', RULE_TEXT_MAX + 1);
    assert_rule(text, "! the rule is longer than 16 KiB");
    free(text);
}

// No rule that is cut at some place does harm; the texts have their exact length.
static void test_rules_that_are_cut(void **state)
{
    (void)state;
    static const char text[] = "(Host(`a.example`) || Host(\"b\")) && PathPrefix(`/x`, `/y`)";
    static struct rule rule;
    char reason[RULE_REASON_MAX];
    for (size_t len = 0; len < sizeof text - 1; len++) {
        char *copy = malloc(len + 1);
        memcpy(copy, text, len);
        copy[len] = '`';
        int err = rule_parse(str_make(copy, len), &rule, reason);
        assert_true((err == 0) == (reason[0] == '\0'));
        assert_true((err == 0) == (rule.count > 0));
        free(copy);
    }
}

static void assert_backend(const char *url, const char *expected, bool has_path)
{
    char address[300];
    bool found = !has_path;
    assert_true(hipache_backend(str_from_c(url), address, sizeof address, &found));
    assert_string_equal(address, expected);
    assert_int_equal(found, has_path);
}

static void test_backends(void **state)
{
    (void)state;
    assert_backend("http://10.0.0.5:8080", "10.0.0.5:8080", false);
    assert_backend("http://10.0.0.5:8080/", "10.0.0.5:8080", false);
    assert_backend("http://10.0.0.5", "10.0.0.5:80", false);
    assert_backend("10.0.0.5:81", "10.0.0.5:81", false);
    assert_backend("HTTP://App.internal:81/base?x", "app.internal:81", true);
    assert_backend("https://10.0.0.5", "https://10.0.0.5:443", false);
    assert_backend("http://user:secret@10.0.0.5", "10.0.0.5:80", false);
    assert_backend("http://[::1]:81", "[::1]:81", false);
    char address[300];
    bool has_path;
    static const char *const wrong[] = {"",        "http://",        "http://:80", "ftp://a",
                                        "unix:/a", "http://a:99999", "mywebsite x"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(hipache_backend(str_from_c(wrong[i]), address, sizeof address, &has_path));
    }
}

static void test_certificates(void **state)
{
    (void)state;
    const char *why;
    json_t *value = auto_ssl_certificate(STR("a.example"),
                                         STR("{\"fullchain_pem\": \"C\", \"privkey_pem\": \"K\", "
                                             "\"cert_pem\": \"c\", \"expiry\": 1}"),
                                         &why);
    char *text = json_dumps(value, JSON_COMPACT);
    assert_string_equal(text, "{\"chain\":\"C\",\"key\":\"K\",\"hosts\":[\"a.example\"]}");
    free(text);
    json_decref(value);
    assert_null(auto_ssl_certificate(STR("a"), STR("{"), &why));
    assert_string_equal(why, "it is not JSON");
    assert_null(auto_ssl_certificate(STR("a"), STR("[]"), &why));
    assert_string_equal(why, "fullchain_pem and privkey_pem are not both there");
    assert_null(auto_ssl_certificate(STR("a"), STR("{\"fullchain_pem\": \"C\"}"), &why));
    assert_string_equal(why, "fullchain_pem and privkey_pem are not both there");
    assert_null(auto_ssl_certificate(
        STR("a"),
        STR("{\"fullchain_pem\": \"C\", \"privkey_pem\": \"-----BEGIN ENCRYPTED PRIVATE KEY\"}"),
        &why));
    assert_string_equal(why, "the private key is encrypted");
}

static void test_durations(void **state)
{
    (void)state;
    assert_int_equal(traefik_duration("10s"), 10000);
    assert_int_equal(traefik_duration("30"), 30000);
    assert_int_equal(traefik_duration("1m30s"), 90000);
    assert_int_equal(traefik_duration("1h"), 3600000);
    assert_int_equal(traefik_duration("250ms"), 250);
    assert_int_equal(traefik_duration(""), -1);
    assert_int_equal(traefik_duration("s"), -1);
    assert_int_equal(traefik_duration("10x"), -1);
    assert_int_equal(traefik_duration("99999999999999999999s"), -1);
}

static void fill(struct tree *tree, const char *const pairs[][2], unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_true(tree_add(tree, str_from_c(pairs[i][0]), str_from_c(pairs[i][1])));
    }
    tree_sort(tree);
}

static void test_tree(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"http/routers/b/rule", "B"},
        {"http/routers/a-1/rule", "A1"},
        {"http/routers/a/Rule", "A"},
        {"http/routers/a/middlewares/10", "ten"},
        {"http/routers/a/middlewares/2", "two"},
        {"http/routers/a/tls", "true"},
        {"http/routers/a/entryPoints", "web, websecure"},
        {"http/routersx/a", "no"},
    };
    struct import import = {.prefix = STR("traefik")};
    struct tree tree = {.import = &import};
    fill(&tree, pairs, sizeof pairs / sizeof pairs[0]);
    struct tree_node routers = tree_find(&tree, "http/routers");
    assert_int_equal(routers.to - routers.from, 7);
    struct tree_node a = node_at(&routers, STR("a"));
    assert_int_equal(a.to - a.from, 5);
    assert_string_equal(node_value(&a, "rule"), "A"); // without case
    assert_null(node_value(&a, "nothing"));
    assert_true(node_has(&a, "tls"));
    assert_false(node_has(&a, "middleware"));
    struct str texts[4];
    assert_int_equal(node_list(&a, "middlewares", texts, 4), 2);
    assert_true(str_eq(texts[0], STR("two")) && str_eq(texts[1], STR("ten")));
    assert_int_equal(node_list(&a, "entrypoints", texts, 4), 2);
    assert_true(str_eq(texts[1], STR("websecure")));
    assert_int_equal(node_list(&a, "entrypoints", texts, 1), -1);
    struct str name;
    struct tree_node child;
    unsigned count = 0;
    for (size_t at = routers.from; node_next(&routers, &at, &name, &child);) {
        count++;
    }
    assert_int_equal(count, 3);
    assert_true(str_eq(node_key(&a), STR("traefik/http/routers/a")));
    assert_true(str_eq(name, STR("b")));
    struct tree_node none = tree_find(&tree, "udp");
    assert_true(node_is_empty(&none));
    none = node_at(&none, STR("x"));
    assert_true(node_is_empty(&none));
    tree_fini(&tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_what_a_rule_says_twice),
        cmocka_unit_test(test_rules_that_are_not_taken),
        cmocka_unit_test(test_bounds_of_rules),
        cmocka_unit_test(test_rules_that_are_cut),
        cmocka_unit_test(test_backends),
        cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
