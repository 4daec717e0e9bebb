// SPDX-License-Identifier: MIT
// What Ceryx keeps of a host, as declarations and back; what is done in Redis with a write.
#include "ceryx/translate.h"
#include "model/config.h"
#include "model/value.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct ceryx_source source_of(const char *host, const char *target)
{
    return (struct ceryx_source){.host = str_from_c(host), .target = str_from_c(target)};
}

static void translate(const struct ceryx_source *source, struct ceryx_parts *parts)
{
    struct problems problems;
    problems_init(&problems);
    int err = ceryx_translate(source, parts, &problems);
    if (err != 0) {
        fail_msg("%.*s: %s", STR_ARG(source->target),
                 problems.count > 0 ? problems.items[0].detail : "no problem");
    }
    assert_int_equal(problems.count, 0);
    problems_fini(&problems);
}

static void expect_route(const struct ceryx_source *source, const char *route)
{
    struct ceryx_parts parts;
    translate(source, &parts);
    assert_string_equal(parts.route, route);
    assert_null(parts.pool);
    assert_null(parts.certificate);
    ceryx_parts_fini(&parts);
}

static void refuse(const struct ceryx_source *source, const char *pointer, const char *detail)
{
    struct problems problems;
    struct ceryx_parts parts;
    problems_init(&problems);
    assert_int_equal(ceryx_translate(source, &parts, &problems), ERR_INVALID);
    assert_int_equal(problems.count, 1);
    assert_string_equal(problems.items[0].pointer, pointer);
    if (strstr(problems.items[0].detail, detail) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", problems.items[0].detail, detail);
    }
    assert_null(parts.route);
    assert_null(parts.key);
    problems_fini(&problems);
}

static void proxies(void **state)
{
    (void)state;
    static const struct {
        const char *target;
        const char *route;
    } rows[] = {
        {"http://app:8000", "{\"host\":\"a.test\",\"path\":\"/\",\"targets\":[\"app:8000\"]}"},
        {"app:8000", "{\"host\":\"a.test\",\"path\":\"/\",\"targets\":[\"app:8000\"]}"},
        {"HTTP://App", "{\"host\":\"a.test\",\"path\":\"/\",\"targets\":[\"app:80\"]}"},
        {"http://10.0.0.1/", "{\"host\":\"a.test\",\"path\":\"/"
                             "\",\"targets\":[\"10.0.0.1:80\"],\"target_path\":\"/\"}"},
        {"http://[::1]:90/base/", "{\"host\":\"a.test\",\"path\":\"/"
                                  "\",\"targets\":[\"[::1]:90\"],\"target_path\":\"/base\"}"},
        {"app:1/a/b",
         "{\"host\":\"a.test\",\"path\":\"/\",\"targets\":[\"app:1\"],\"target_path\":\"/a/b\"}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ceryx_source source = source_of("a.test", rows[i].target);
        expect_route(&source, rows[i].route);
        source.mode = STR("proxy");
        source.enforce_https = STR("0");
        expect_route(&source, rows[i].route);
        source.mode = STR("no such mode");
        expect_route(&source, rows[i].route);
    }
}

static void takes_settings(void **state)
{
    (void)state;
    struct ceryx_source source = source_of("a.test", "app:1");
    const char *required = "{\"host\":\"a.test\",\"path\":\"/\",\"targets\":[\"app:1\"],"
                           "\"https\":\"require\",\"redirect_status\":301}";
    source.enforce_https = STR("1");
    expect_route(&source, required);
    source.enforce_https = STR("True");
    expect_route(&source, required);
    source.enforce_https = STR("");
    source.mode = STR("redirect");
    source.target = STR("https://www.example.com/");
    expect_route(&source, "{\"host\":\"a.test\",\"path\":\"/\","
                          "\"redirect\":{\"to\":\"https://www.example.com/\",\"status\":301}}");
    source.target = STR("www.example.com/base");
    source.enforce_https = STR("1");
    expect_route(&source, "{\"host\":\"a.test\",\"path\":\"/\","
                          "\"redirect\":{\"to\":\"http://www.example.com/base\",\"status\":301},"
                          "\"https\":\"require\",\"redirect_status\":301}");
}

static void names_hosts(void **state)
{
    (void)state;
    struct ceryx_source source = source_of("$wildcard", "app:1");
    expect_route(&source, "{\"host\":\"*\",\"path\":\"/\",\"targets\":[\"app:1\"]}");
    source.host = STR("Shop.Example.COM.");
    expect_route(&source, "{\"host\":\"shop.example.com\",\"path\":\"/\",\"targets\":[\"app:1\"]}");
    static const char *const wrong[] = {"",    "*",    "*.example.com", "a b",
                                        "a/b", "a:80", "$other",        "a..b",
                                        "a?b", "[::1", "-\x01-",        "a\xff"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        source.host = str_from_c(wrong[i]);
        refuse(&source, "/source", "source");
    }
    assert_true(str_eq(ceryx_host(STR("*")), STR("$wildcard")));
    assert_true(str_eq(ceryx_host(STR("a.test")), STR("a.test")));
    assert_null(ceryx_host(STR("*.test")).p);
    assert_null(ceryx_host(STR("a.test/b")).p);
}

static void refuses_targets(void **state)
{
    (void)state;
    static const struct {
        const char *target;
        const char *detail;
    } rows[] = {
        {"", "missing"},
        {"http://", "missing"},
        {"https:///x", "missing"},
        {"ftp://app", "http:// or https://"},
        {"http://user:secret@app", "user or password"},
        {"http://app:0", "port"},
        {"http://app:99999", "port"},
        {"http://app/a?b=c", "target"},
        {"http://app?b", "query"},
        {"http://app/%zz", "target"},
        {"http://a b", "target"},
        {"unix:/run/x", "target"},
        {"http://\xff", "UTF-8"},
        {"http://app/\xff", "UTF-8"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ceryx_source source = source_of("a.test", rows[i].target);
        refuse(&source, "/target", rows[i].detail);
    }
    char long_target[CERYX_TARGET_MAX + 2];
    memset(long_target, 'a', sizeof long_target - 1);
    long_target[sizeof long_target - 1] = '\0';
    struct ceryx_source source = source_of("a.test", long_target);
    refuse(&source, "/target", "longer");
    source = source_of("a.test", "http://app/?x");
    source.mode = STR("redirect");
    refuse(&source, "/target", "target");
    struct problems problems;
    struct ceryx_parts parts;
    problems_init(&problems);
    source.target = STR_NULL;
    assert_int_equal(ceryx_translate(&source, &parts, &problems), ERR_NOT_FOUND);
    assert_int_equal(problems.count, 0);
    problems_fini(&problems);
}

static void makes_pools_of_https(void **state)
{
    (void)state;
    struct ceryx_parts parts;
    struct ceryx_source source = source_of("a.test", "https://App.internal/base");
    translate(&source, &parts);
    assert_string_equal(parts.name, "ceryx-a.test");
    assert_string_equal(parts.route,
                        "{\"host\":\"a.test\",\"path\":\"/\",\"pool\":\"ceryx-a.test\","
                        "\"target_path\":\"/base\"}");
    assert_string_equal(parts.pool, "{\"targets\":[{\"address\":\"https://app.internal:443\"}],"
                                    "\"tls\":{\"verify\":false,\"server_name\":\"app.internal\"}}");
    ceryx_parts_fini(&parts);
    source = source_of("$wildcard", "https://10.0.0.1:8443");
    translate(&source, &parts);
    assert_string_equal(parts.name, "ceryx:wildcard");
    assert_string_equal(parts.pool, "{\"targets\":[{\"address\":\"https://10.0.0.1:8443\"}],"
                                    "\"tls\":{\"verify\":false}}");
    ceryx_parts_fini(&parts);
}

static void makes_certificates(void **state)
{
    (void)state;
    struct ceryx_parts parts;
    struct ceryx_source source = source_of("a.test", "app");
    source.certificate_path = STR("/c/a.crt");
    translate(&source, &parts);
    assert_null(parts.certificate); // half of a pair
    ceryx_parts_fini(&parts);
    source.key_path = STR("/c/a.key");
    translate(&source, &parts);
    assert_string_equal(parts.certificate, "{\"chain_file\":\"/c/a.crt\",\"key_file\":\"/c/a.key\","
                                           "\"hosts\":[\"a.test\"]}");
    ceryx_parts_fini(&parts);
    source.key_path = STR("relative.key");
    refuse(&source, "/settings/certificate_path", "absolute");
    source.host = STR("$wildcard");
    translate(&source, &parts);
    assert_null(parts.certificate);
    ceryx_parts_fini(&parts);
}

static void names_fit(void **state)
{
    (void)state;
    char host[256];
    char name[CERYX_NAME_MAX + 1];
    char other[CERYX_NAME_MAX + 1];
    for (size_t len = 180; len <= 253; len++) {
        for (size_t i = 0; i < len; i++) {
            host[i] = i % 40 == 39 && i + 1 < len ? '.' : 'a';
        }
        host[len] = '\0';
        ceryx_name(str_from_c(host), name);
        assert_true(name_is_valid(str_from_c(name)));
        host[len - 1] = 'b';
        ceryx_name(str_from_c(host), other);
        assert_string_not_equal(name, other);
    }
    ceryx_name(STR("[2001:db8::1]"), name);
    assert_true(name_is_valid(str_from_c(name)));
    ceryx_name(STR("[2001:db8::2]"), other);
    assert_string_not_equal(name, other);
}

// What is shown of what was made of a source, and that it makes the same again.
static void expect_shown(const char *host, const char *target, const char *shown, const char *mode,
                         const char *https)
{
    struct ceryx_source source = source_of(host, target);
    source.mode = str_from_c(mode);
    source.enforce_https = str_from_c(https);
    struct ceryx_parts parts;
    translate(&source, &parts);
    struct ceryx_source back;
    char *memory = NULL;
    assert_int_equal(ceryx_show(str_from_c(parts.key), str_from_c(parts.route),
                                str_from_c(parts.pool), STR_NULL, &back, &memory),
                     0);
    assert_true(str_eq(back.host, str_from_c(host)));
    assert_true(str_eq(back.target, str_from_c(shown)));
    assert_true(str_eq(back.mode, str_from_c(mode)));
    assert_true(str_eq(back.enforce_https, str_from_c(https)));
    assert_null(back.certificate_path.p);
    struct ceryx_parts again;
    translate(&back, &again);
    assert_string_equal(again.route, parts.route);
    if (parts.pool != NULL) {
        assert_string_equal(again.pool, parts.pool);
    }
    free(memory);
    ceryx_parts_fini(&again);
    ceryx_parts_fini(&parts);
}

static void shows_what_was_written(void **state)
{
    (void)state;
    expect_shown("a.test", "http://app:8000", "http://app:8000", "proxy", "0");
    expect_shown("a.test", "app:8000", "http://app:8000", "proxy", "1");
    expect_shown("a.test", "http://app", "http://app", "proxy", "0");
    expect_shown("a.test", "http://app:80", "http://app", "proxy", "0");
    expect_shown("a.test", "http://app:8000/", "http://app:8000/", "proxy", "0");
    expect_shown("a.test", "http://app/base/", "http://app/base", "proxy", "0");
    expect_shown("a.test", "http://[::1]:80", "http://[::1]", "proxy", "0");
    expect_shown("$wildcard", "https://app", "https://app", "proxy", "0");
    expect_shown("$wildcard", "https://app:80/x", "https://app:80/x", "proxy", "1");
    expect_shown("a.test", "https://www.test/", "https://www.test/", "redirect", "1");
    expect_shown("a.test", "www.test/x", "http://www.test/x", "redirect", "0");
}

static void shows_no_other_routes(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        const char *route;
        const char *pool;
    } rows[] = {
        {"a.test", "{\"host\":\"a.test\",\"pool\":\"web\"}", ""},
        {"a.test", "{\"host\":\"a.test\",\"pool\":\"ceryx-a.test\"}", ""},
        {"a.test", "{\"host\":\"a.test\",\"pool\":\"ceryx-a.test\"}",
         "{\"targets\":[{\"address\":\"a:1\"},{\"address\":\"b:1\"}]}"},
        {"a.test", "{\"host\":\"a.test\",\"targets\":[\"a:1\",\"b:1\"]}", ""},
        {"a.test", "{\"host\":\"a.test\",\"targets\":[\"unix:/run/x\"]}", ""},
        {"a.test", "{\"host\":\"a.test\",\"targets\":[\"h2c://a:1\"]}", ""},
        {"a.test", "{\"host\":\"a.test\",\"targets\":[\"a:1\"],\"passthrough\":true}", ""},
        {"a.test", "{\"host\":\"a.test\",\"respond\":{\"status\":204}}", ""},
        {"a.test", "{\"host\":\"a.test\",\"redirect\":{\"to\":\"/x\"}}", ""},
        {"a.test",
         "{\"host\":\"a.test\",\"redirect\":{\"to\":\"http://x/?y\",\"keep_path\":false}}", ""},
        {"a.test/b", "{\"host\":\"a.test\",\"path\":\"/b\",\"targets\":[\"a:1\"]}", ""},
        {"*.test", "{\"host\":\"*.test\",\"targets\":[\"a:1\"]}", ""},
        {"a.test", "no JSON", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ceryx_source source;
        char *memory = NULL;
        assert_int_equal(ceryx_show(str_from_c(rows[i].key), str_from_c(rows[i].route),
                                    str_from_c(rows[i].pool), STR_NULL, &source, &memory),
                         ERR_NOT_FOUND);
        assert_null(memory);
    }
}

static void shows_certificates(void **state)
{
    (void)state;
    struct ceryx_source source;
    char *memory = NULL;
    assert_int_equal(
        ceryx_show(STR("a.test"), STR("{\"host\":\"a.test\",\"targets\":[{\"address\":\"a:1\"}]}"),
                   STR_NULL,
                   STR("{\"chain_file\":\"/c\",\"key_file\":\"/key\",\"hosts\":[\"a.test\"]}"),
                   &source, &memory),
        0);
    assert_true(str_eq(source.target, STR("http://a:1")));
    assert_true(str_eq(source.certificate_path, STR("/c")));
    assert_true(str_eq(source.key_path, STR("/key")));
    free(memory);
}

static void expect_changes(const struct ceryx_parts *parts, struct ceryx_present present,
                           const char *expected)
{
    struct store_change changes[CERYX_CHANGE_MAX];
    struct problems problems;
    unsigned count = 0;
    char text[256] = "";
    size_t len = 0;
    problems_init(&problems);
    assert_int_equal(ceryx_build(NULL, parts, &present, true, changes, &count, &problems), 0);
    for (unsigned i = 0; i < count; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%.*s %s",
                                changes[i].value == NULL ? " -" : " +",
                                STR_ARG(noun_name(changes[i].noun)), changes[i].key);
        store_change_fini(&changes[i]);
    }
    assert_string_equal(text, expected);
    problems_fini(&problems);
}

static void builds_requests(void **state)
{
    (void)state;
    struct ceryx_parts parts;
    struct ceryx_source source = source_of("a.test", "app");
    translate(&source, &parts);
    expect_changes(&parts, (struct ceryx_present){0}, " +route a.test");
    expect_changes(&parts, (struct ceryx_present){true, true, true},
                   " +route a.test -pool ceryx-a.test -certificate ceryx-a.test");
    free(parts.route);
    parts.route = NULL;
    expect_changes(&parts, (struct ceryx_present){true, true, true},
                   " -route a.test -pool ceryx-a.test -certificate ceryx-a.test");
    expect_changes(&parts, (struct ceryx_present){0}, "");
    ceryx_parts_fini(&parts);
    source = source_of("a.test", "https://app");
    translate(&source, &parts);
    expect_changes(&parts, (struct ceryx_present){true, true, false},
                   " +pool ceryx-a.test +route a.test");
    ceryx_parts_fini(&parts);

    // Files that are not there: the certificate alone is what cannot be made.
    source.certificate_path = STR("/nonexistent/a.crt");
    source.key_path = STR("/nonexistent/a.key");
    translate(&source, &parts);
    struct store_change changes[CERYX_CHANGE_MAX];
    struct problems problems;
    unsigned count = 0;
    problems_init(&problems);
    struct ceryx_present present = {0};
    assert_int_not_equal(ceryx_build(NULL, &parts, &present, true, changes, &count, &problems), 0);
    assert_int_equal(count, 0);
    assert_string_equal(problems.items[0].pointer, "/settings/certificate_path");
    problems_fini(&problems);
    assert_int_equal(ceryx_build(NULL, &parts, &present, false, changes, &count, &problems), 0);
    assert_int_equal(count, 2);
    store_change_fini(&changes[0]);
    store_change_fini(&changes[1]);
    ceryx_parts_fini(&parts);
}

// Takes the first off the list and checks it: "SET|key|value".
static void expect_extra(struct store_extra **extras, const char *command, const char *expected,
                         size_t expected_len)
{
    struct store_extra *extra = *extras;
    assert_non_null(extra);
    *extras = extra->next;
    char text[512] = "";
    size_t len = 0;
    for (unsigned i = 0; i < extra->argc; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", i == 0 ? "" : "|",
                                extra->argv[i]);
        free(extra->argv[i]);
    }
    assert_string_equal(text, command);
    assert_int_equal(extra->is_guard, expected != NULL);
    if (expected != NULL) {
        assert_int_equal(extra->expected_len, expected_len);
        assert_memory_equal(extra->expected, expected, expected_len);
    }
    free(extra->expected);
    free(extra->argv);
    free(extra);
}

static void brings_commands(void **state)
{
    (void)state;
    struct store_extra *extras = NULL;
    struct ceryx_source source = source_of("a.test", "http://app:1");
    source.enforce_https = STR("1");
    source.key_path = STR("/k");
    assert_int_equal(ceryx_guard("cx", &source, &extras), 0);
    assert_int_equal(ceryx_write("cx", &source, &extras), 0);
    assert_int_equal(ceryx_mark("pm", &source, STR("{}"), &extras), 0);
    assert_int_equal(ceryx_erase("cx", source.host, &extras), 0);
    assert_int_equal(ceryx_unmark("pm", source.host, &extras), 0);
    expect_extra(&extras, "GET|cx:routes:a.test", "http://app:1", 12);
    expect_extra(&extras, "HMGET|cx:settings:a.test|enforce_https|mode|certificate_path|key_path",
                 "1\0\0\0/k\0", 7);
    expect_extra(&extras, "SET|cx:routes:a.test|http://app:1", NULL, 0);
    expect_extra(&extras, "DEL|cx:settings:a.test", NULL, 0);
    expect_extra(&extras, "HSET|cx:settings:a.test|enforce_https|1|key_path|/k", NULL, 0);
    char mark[128];
    char digests[CERYX_DIGESTS_LEN + 1];
    ceryx_digests(&source, STR("{}"), digests);
    snprintf(mark, sizeof mark, "HSET|pm:ceryx|a.test|%s", digests);
    expect_extra(&extras, mark, NULL, 0);
    expect_extra(&extras, "DEL|cx:routes:a.test|cx:settings:a.test", NULL, 0);
    expect_extra(&extras, "HDEL|pm:ceryx|a.test", NULL, 0);
    assert_null(extras);

    source = source_of("a.test", "");
    assert_int_equal(ceryx_guard("cx", &source, &extras), 0);
    expect_extra(&extras, "GET|cx:routes:a.test", "", 0);
    expect_extra(&extras, "HMGET|cx:settings:a.test|enforce_https|mode|certificate_path|key_path",
                 "\0\0\0\0", 4);
}

static void digests_differ(void **state)
{
    (void)state;
    struct ceryx_source source = source_of("a.test", "app");
    char first[CERYX_DIGESTS_LEN + 1];
    char other[CERYX_DIGESTS_LEN + 1];
    ceryx_digests(&source, STR("{}"), first);
    assert_int_equal(strlen(first), CERYX_DIGESTS_LEN);
    // What stands in Redis is read by other versions: it never changes.
    assert_string_equal(first, "22d40448e09a2a4b:08f44b07b5901a25");
    ceryx_digests(&source, STR("{ }"), other);
    assert_memory_equal(first, other, 17);
    assert_string_not_equal(first, other);
    source.mode = STR("");
    ceryx_digests(&source, STR("{}"), other);
    assert_string_not_equal(first, other); // "" is not the same as none
    source.mode = STR_NULL;
    source.enforce_https = STR("");
    ceryx_digests(&source, STR("{}"), first);
    assert_string_not_equal(first, other);
}

// ---- the environment ----

static int read_variables(struct config *config, struct problems *problems,
                          const char *const *variables)
{
    char *environment[16] = {NULL};
    unsigned count = 0;
    for (; variables[count] != NULL; count++) {
        environment[count] = str_dup(str_from_c(variables[count]));
    }
    assert_int_equal(config_init(config), 0);
    problems_init(problems);
    int err = config_read_ceryx(config, environment, problems);
    if (err == 0) {
        err = config_read_environment(config, environment, problems);
    }
    for (unsigned i = 0; i < count; i++) {
        free(environment[i]);
    }
    return err;
}

#define READ(...) \
    read_variables(&config, &problems, (const char *const[]){"PATH=/bin", __VA_ARGS__, NULL})

static void finish(struct config *config, struct problems *problems)
{
    config_fini(config);
    problems_fini(problems);
}

static void takes_the_environment(void **state)
{
    (void)state;
    struct config config;
    struct problems problems;
    assert_int_equal(READ("CERYX_REDIS_HOST=redis.internal", "CERYX_REDIS_PORT=6380",
                          "CERYX_REDIS_PASSWORD=p@ss/w:rd", "CERYX_REDIS_PREFIX=cx",
                          "CERYX_REDIS_TIMEOUT=100", "CERYX_API_HOST=0.0.0.0",
                          "CERYX_API_PORT=5556", "CERYX_MAX_REQUEST_BODY_SIZE=100m",
                          "CERYX_SSL_DEFAULT_CERTIFICATE=/c.crt", "CERYX_SSL_DEFAULT_KEY=/c.key",
                          "CERYX_DNS_RESOLVER=10.0.0.10 10.0.0.11:54 valid=30s ipv6=off",
                          "CERYX_LOG_LEVEL=warn"),
                     0);
    assert_string_equal(config.store.url, "redis://:p%40ss%2Fw%3Ard@redis.internal:6380/0");
    assert_string_equal(config.store.local, "pointsman.db");
    assert_string_equal(config.ceryx.prefix, "cx");
    assert_int_equal(config.ceryx.miss_timeout_ms, 100);
    assert_string_equal(config.ceryx.api_address, "0.0.0.0:5556");
    assert_int_equal(config.limits.body, 100 << 20);
    assert_string_equal(config.tls.default_certificate, "/c.crt");
    assert_string_equal(config.tls.default_key, "/c.key");
    assert_int_equal(config.dns.server_count, 2);
    assert_string_equal(config.dns.servers[0], "10.0.0.10");
    assert_string_equal(config.dns.servers[1], "10.0.0.11:54");
    assert_int_equal(config.log.level, LOG_WARNING);
    finish(&config, &problems);
}

static void leaves_what_is_not_given(void **state)
{
    (void)state;
    struct config config;
    struct problems problems;
    // Empty, unknown, and what an orchestrator sets for services of these names.
    assert_int_equal(READ("CERYX_REDIS_PASSWORD=", "CERYX_NO_SUCH=1",
                          "CERYX_REDIS_PORT=tcp://10.1.2.3:6379",
                          "CERYX_API_PORT=tcp://10.1.2.3:5555", "CERYX_API_SERVICE_HOST=10.1.2.3",
                          "CERYX_DEBUG=false", "CERYX_DNS_RESOLVER=valid=5s"),
                     0);
    assert_string_equal(config.store.url, "sqlite:pointsman.db");
    assert_string_equal(config.ceryx.api_address, "");
    assert_int_equal(config.log.level, LOG_INFO);
    assert_int_equal(config.dns.server_count, 0);
    finish(&config, &problems);

    assert_int_equal(READ("CERYX_REDIS_HOST=::1", "CERYX_API_PORT=1", "CERYX_DEBUG=True",
                          "CERYX_LOG_LEVEL=emerg", "CERYX_SSL_CERT=/old.pem"),
                     0);
    assert_string_equal(config.store.url, "redis://[::1]:6379/0");
    assert_string_equal(config.ceryx.api_address, "127.0.0.1:1");
    assert_int_equal(config.log.level, LOG_DEBUG);
    assert_string_equal(config.tls.default_certificate, "/old.pem");
    assert_string_equal(config.tls.default_key, "");
    finish(&config, &problems);
}

static void own_variables_win(void **state)
{
    (void)state;
    struct config config;
    struct problems problems;
    assert_int_equal(READ("POINTSMAN_STORE=sqlite:x.db", "CERYX_REDIS_HOST=r",
                          "CERYX_DNS_RESOLVER=10.0.0.1", "POINTSMAN_DNS_SERVERS=10.0.0.2",
                          "CERYX_SSL_DEFAULT_CERTIFICATE=/c.crt", "CERYX_SSL_DEFAULT_KEY=/c.key",
                          "POINTSMAN_TLS_DEFAULT_CERTIFICATE=/own.pem",
                          "POINTSMAN_CERYX_API_ADDRESS=:1", "CERYX_API_PORT=2",
                          "CERYX_LOG_LEVEL=error", "POINTSMAN_LOG_LEVEL=info"),
                     0);
    assert_string_equal(config.store.url, "sqlite:x.db");
    assert_string_equal(config.store.local, "x.db");
    assert_int_equal(config.dns.server_count, 1);
    assert_string_equal(config.dns.servers[0], "10.0.0.2");
    assert_string_equal(config.tls.default_certificate, "/own.pem");
    assert_string_equal(config.tls.default_key, "");
    assert_string_equal(config.ceryx.api_address, ":1");
    assert_int_equal(config.log.level, LOG_INFO);
    finish(&config, &problems);
}

static void names_wrong_variables(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "CERYX_REDIS_PORT=x",           "CERYX_REDIS_PORT=0",
        "CERYX_REDIS_TIMEOUT=1s",       "CERYX_REDIS_TIMEOUT=0",
        "CERYX_REDIS_TIMEOUT=99999999", "CERYX_API_PORT=99999",
        "CERYX_API_HOST=no such",       "CERYX_MAX_REQUEST_BODY_SIZE=x",
        "CERYX_DNS_RESOLVER=ns",        "CERYX_LOG_LEVEL=loud",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct config config;
        struct problems problems;
        assert_int_equal(READ(wrong[i]), ERR_INVALID);
        size_t name_len = str_find_char(str_from_c(wrong[i]), '=');
        assert_int_equal(problems.count, 1);
        assert_int_equal(strlen(problems.items[0].pointer), name_len);
        assert_memory_equal(problems.items[0].pointer, wrong[i], name_len);
        finish(&config, &problems);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proxies),
        cmocka_unit_test(takes_settings),
        cmocka_unit_test(names_hosts),
        cmocka_unit_test(refuses_targets),
        cmocka_unit_test(makes_pools_of_https),
        cmocka_unit_test(makes_certificates),
        cmocka_unit_test(names_fit),
        cmocka_unit_test(shows_what_was_written),
        cmocka_unit_test(shows_no_other_routes),
        cmocka_unit_test(shows_certificates),
        cmocka_unit_test(builds_requests),
        cmocka_unit_test(brings_commands),
        cmocka_unit_test(digests_differ),
        cmocka_unit_test(takes_the_environment),
        cmocka_unit_test(leaves_what_is_not_given),
        cmocka_unit_test(own_variables_win),
        cmocka_unit_test(names_wrong_variables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
