// SPDX-License-Identifier: MIT
// What a pool says of the choice between its targets and of their health.
#include "base/hash.h"
#include "model/value.h"
#include "model_check.h"

#define TARGETS                  "\"targets\":[]"
#define WITH(member)             "{" TARGETS "," member "}"
#define KEEPS(member)            check_form(NOUN_POOL, "p", WITH(member), WITH(member))
#define BECOMES(member, written) check_form(NOUN_POOL, "p", WITH(member), WITH(written))
#define VANISHES(member)         check_form(NOUN_POOL, "p", WITH(member), "{" TARGETS "}")
#define REFUSES(member, pointer, detail) \
    check_refused(NOUN_POOL, "p", WITH(member), pointer, detail)

static void test_defaults(void **state)
{
    (void)state;
    struct declaration *d = decode_as(NOUN_POOL, "p", "{" TARGETS "}", "{" TARGETS "}");
    const struct pool_decl *pool = &d->pool;
    assert_int_equal(pool->hash.by, HASH_NONE);
    assert_int_equal(pool->sticky.cookie.len, 0);
    assert_int_equal(pool->health.type, HEALTH_OFF);
    assert_int_equal(pool->passive.max_fails, 3);
    assert_int_equal(pool->passive.fail_timeout_ms, 10000);
    assert_int_equal(pool->passive.status_count, 0);
    assert_int_equal(pool->eject.max_percent, 50);
    assert_int_equal(pool->eject.base_time_ms, 10000);
    assert_int_equal(pool->eject.max_time_ms, 300000);
    assert_int_equal(pool->panic_percent, 50);
    assert_int_equal(pool->limits.requests_per_target, 0);
    assert_int_equal(pool->limits.queue, 0);
    assert_int_equal(pool->limits.queue_timeout_ms, 1000);
    assert_int_equal(pool->retry_budget, 20);
    assert_int_equal(pool->slow_start_ms, 0);
    assert_int_equal(pool->timeouts.request_ms, 0);
    struct pool_decl made;
    memset(&made, 0xff, sizeof made);
    declaration_default_pool(&made);
    assert_int_equal(made.target_count, 0);
    assert_int_equal(made.keepalive.idle, 64);
    assert_true(made.tls.verify);
    assert_int_equal(made.eject.max_time_ms, 300000);
    assert_int_equal(made.passive.max_fails, 3);
    declaration_free(&d);
}

#define HASH(by) "\"balance\":\"hash\",\"hash\":\"" by "\""

static void check_hash(const char *text, enum hash_by by, const char *name)
{
    char json[600];
    snprintf(json, sizeof json, WITH(HASH("%s")), text);
    struct declaration *d = decode_as(NOUN_POOL, "p", json, json);
    assert_int_equal(d->pool.balance, BALANCE_HASH);
    assert_int_equal(d->pool.hash.by, by);
    assert_true(str_eq(d->pool.hash.name, str_from_c(name)));
    declaration_free(&d);
}

static void test_hash(void **state)
{
    (void)state;
    check_hash("client_ip", HASH_CLIENT_IP, "");
    check_hash("path", HASH_PATH, "");
    check_hash("key", HASH_KEY, "");
    check_hash("header:x-tenant", HASH_HEADER, "x-tenant");
    check_hash("cookie:Session", HASH_COOKIE, "Session");
    check_hash("query:user id", HASH_QUERY, "user id");
    check_hash("query:a:b", HASH_QUERY, "a:b");
    check_hash("form:Ann\xc3\xa9", HASH_FORM, "Ann\xc3\xa9");
    BECOMES(HASH("header:X-Tenant"), HASH("header:x-tenant"));
    REFUSES("\"balance\":\"hash\"", "/hash", "is missing");
    REFUSES("\"hash\":\"path\"", "/hash", "needs \"balance\": \"hash\"");
    REFUSES("\"hash\":\"path\",\"balance\":\"round_robin\"", "/hash", "needs \"balance\"");
    // One that is wrong already is not named again.
    REFUSES("\"hash\":\"path\",\"balance\":\"hahs\"", "/balance", "must be one of");
    REFUSES("\"hash\":\"path\",\"balance\":1", "/balance", "a string");
    REFUSES("\"balance\":\"hash\",\"hash\":5", "/hash", "must be a string");
    REFUSES(HASH("ip"), "/hash",
            "must be one of \"client_ip\", \"path\", \"key\", \"header:NAME\"");
    REFUSES(HASH(""), "/hash", "must be one of");
    REFUSES(HASH("path:"), "/hash", "must be one of");
    REFUSES(HASH("key:x"), "/hash", "must be one of");
    REFUSES(HASH("Header:x"), "/hash", "must be one of");
    REFUSES(HASH("header"), "/hash", "needs a name, as in \"header:NAME\"");
    REFUSES(HASH("query:"), "/hash", "needs a name");
    REFUSES(HASH("header:a b"), "/hash", "letters, digits");
    REFUSES(HASH("header:a:b"), "/hash", "letters, digits");
    REFUSES(HASH("cookie:a=b"), "/hash", "letters, digits");
    REFUSES(HASH("form:a\\u0001"), "/hash", "control byte");
    char json[400];
    char name[202] = "";
    memset(name, 'x', 201);
    snprintf(json, sizeof json, WITH(HASH("header:%s")), name);
    check_refused(NOUN_POOL, "p", json, "/hash", "more than 200 bytes");
    char text[220];
    name[200] = '\0';
    snprintf(text, sizeof text, "header:%s", name);
    check_hash(text, HASH_HEADER, name);
}

static void test_sticky(void **state)
{
    (void)state;
    KEEPS("\"sticky\":{\"cookie\":\"pm_target\"}");
    KEEPS("\"sticky\":{\"cookie\":\"c\",\"ttl\":\"90s\",\"draining\":\"stay\"}");
    BECOMES("\"sticky\":{\"ttl\":\"1d\",\"draining\":\"move\",\"cookie\":\"c\"}",
            "\"sticky\":{\"cookie\":\"c\"}");
    BECOMES("\"sticky\":{\"ttl\":\"0\",\"cookie\":\"c\"}",
            "\"sticky\":{\"cookie\":\"c\",\"ttl\":\"0s\"}");
    struct declaration *d = decode_as(NOUN_POOL, "p", WITH("\"sticky\":{\"cookie\":\"c\"}"),
                                      WITH("\"sticky\":{\"cookie\":\"c\"}"));
    assert_int_equal(d->pool.sticky.ttl_sec, 86400);
    assert_false(d->pool.sticky.stays);
    declaration_free(&d);
    d = decode_as(NOUN_POOL, "p",
                  WITH("\"sticky\":{\"cookie\":\"c\",\"ttl\":\"400d\",\"draining\":\"stay\"}"),
                  WITH("\"sticky\":{\"cookie\":\"c\",\"ttl\":\"400d\",\"draining\":\"stay\"}"));
    assert_int_equal(d->pool.sticky.ttl_sec, 34560000);
    assert_true(d->pool.sticky.stays);
    declaration_free(&d);
    REFUSES("\"sticky\":true", "/sticky", "an object");
    REFUSES("\"sticky\":{}", "/sticky/cookie", "is missing");
    REFUSES("\"sticky\":{\"cookie\":\"\"}", "/sticky/cookie", "the name of a cookie");
    REFUSES("\"sticky\":{\"cookie\":\"a b\"}", "/sticky/cookie", "the name of a cookie");
    REFUSES("\"sticky\":{\"cookie\":\"a\\r\\nX: y\"}", "/sticky/cookie", "the name of a cookie");
    REFUSES("\"sticky\":{\"cookie\":1}", "/sticky/cookie", "a string");
    REFUSES("\"sticky\":{\"cookie\":\"c\",\"ttl\":5}", "/sticky/ttl", "a duration");
    REFUSES("\"sticky\":{\"cookie\":\"c\",\"ttl\":\"401d\"}", "/sticky/ttl", "0s to 400d");
    REFUSES("\"sticky\":{\"cookie\":\"c\",\"ttl\":\"1500ms\"}", "/sticky/ttl", "whole seconds");
    REFUSES("\"sticky\":{\"cookie\":\"c\",\"draining\":\"no\"}", "/sticky/draining",
            "\"move\", \"stay\"");
    REFUSES("\"sticky\":{\"cookie\":\"c\",\"draining\":true}", "/sticky/draining", "a string");
    REFUSES("\"sticky\":{\"cookie\":\"c\",\"tll\":\"1s\"}", "/sticky/tll", "did you mean \"ttl\"");
    char json[300];
    char name[102] = "";
    memset(name, 'x', 101);
    snprintf(json, sizeof json, WITH("\"sticky\":{\"cookie\":\"%s\"}"), name);
    check_refused(NOUN_POOL, "p", json, "/sticky/cookie", "at most 100");
}

#define HEALTH(members)                     "\"health\":{" members "}"
#define HEALTH_KEEPS(members)               KEEPS(HEALTH(members))
#define HEALTH_BECOMES(members, written)    BECOMES(HEALTH(members), HEALTH(written))
#define HEALTH_REFUSES(members, at, detail) REFUSES(HEALTH(members), "/health" at, detail)

static struct declaration *decode_health(const char *members)
{
    char json[1000];
    snprintf(json, sizeof json, WITH(HEALTH("%s")), members);
    struct problems problems;
    struct declaration *d;
    problems_init(&problems);
    if (decode_text(NOUN_POOL, "p", json, DECODE_STRICT, &d, NULL, &problems) != 0) {
        print_problems(&problems);
        fail_msg("refused: %s", json);
    }
    problems_fini(&problems);
    return d;
}

static void test_health_defaults(void **state)
{
    (void)state;
    struct declaration *d = decode_health("");
    const struct health_decl *health = &d->pool.health;
    assert_int_equal(health->type, HEALTH_HTTP);
    assert_true(str_eq(health->path, STR("/")));
    assert_int_equal(health->host.len, 0);
    assert_int_equal(health->port, 0);
    assert_int_equal(health->scheme, HEALTH_SCHEME_TARGET);
    assert_int_equal(health->interval_ms, 5000);
    assert_int_equal(health->timeout_ms, 2000);
    assert_int_equal(health->rise, 2);
    assert_int_equal(health->fall, 3);
    assert_int_equal(health->status_count, 1);
    assert_int_equal(health->statuses[0].from, 200);
    assert_int_equal(health->statuses[0].to, 399);
    assert_int_equal(health->body.len, 0);
    assert_false(health->has_tls);
    declaration_free(&d);
    HEALTH_KEEPS("");
    HEALTH_BECOMES("\"type\":\"http\",\"path\":\"/\",\"scheme\":\"target\",\"interval\":\"5s\","
                   "\"timeout\":\"2s\",\"rise\":2,\"fall\":3,\"status\":\"200-399\"",
                   "");
    d = decode_health("\"type\":\"tcp\"");
    assert_int_equal(d->pool.health.type, HEALTH_TCP);
    assert_int_equal(d->pool.health.path.len, 0);
    assert_int_equal(d->pool.health.status_count, 0);
    assert_int_equal(d->pool.health.interval_ms, 5000);
    declaration_free(&d);
}

static void test_health_members(void **state)
{
    (void)state;
    HEALTH_KEEPS("\"path\":\"/healthz?full=1\",\"host\":\"app.example:8080\",\"port\":9000,"
                 "\"scheme\":\"https\",\"interval\":\"100ms\",\"timeout\":\"10ms\",\"rise\":1,"
                 "\"fall\":100,\"status\":\"200,204,300-399\",\"body\":\"\\\"ok\\\"\",\"tls\":{}");
    HEALTH_KEEPS("\"type\":\"tcp\",\"port\":1,\"scheme\":\"http\",\"interval\":\"1h\"");
    HEALTH_BECOMES("\"host\":\"App.Example.\"", "\"host\":\"app.example\"");
    HEALTH_KEEPS("\"host\":\"[::1]:80\"");
    HEALTH_REFUSES("\"type\":\"grpc\"", "/type", "\"http\", \"tcp\"");
    HEALTH_REFUSES("\"path\":\"healthz\"", "/path", "begins with '/'");
    HEALTH_REFUSES("\"path\":\"\"", "/path", "begins with '/'");
    HEALTH_REFUSES("\"path\":\"/a b\"", "/path", "begins with '/'");
    HEALTH_REFUSES("\"path\":\"/a\\r\\nHost: b\"", "/path", "begins with '/'");
    HEALTH_REFUSES("\"path\":\"/a#b\"", "/path", "begins with '/'");
    HEALTH_REFUSES("\"path\":\"http://h/\"", "/path", "begins with '/'");
    HEALTH_REFUSES("\"path\":[]", "/path", "a string");
    HEALTH_REFUSES("\"host\":\"a b\"", "/host", "not a valid host");
    HEALTH_REFUSES("\"host\":\"a:0\"", "/host", "1 to 65535");
    HEALTH_REFUSES("\"host\":\"\"", "/host", "is empty");
    HEALTH_REFUSES("\"host\":\"*.a\"", "/host", "wildcard");
    HEALTH_REFUSES("\"port\":0", "/port", "1 to 65535");
    HEALTH_REFUSES("\"port\":\"80\"", "/port", "whole number");
    HEALTH_REFUSES("\"scheme\":\"h2c\"", "/scheme", "\"target\", \"http\", \"https\"");
    HEALTH_REFUSES("\"interval\":\"99ms\"", "/interval", "100ms to 1h");
    HEALTH_REFUSES("\"interval\":\"61m\"", "/interval", "100ms to 1h");
    HEALTH_REFUSES("\"timeout\":\"9ms\"", "/timeout", "10ms to 1h");
    HEALTH_REFUSES("\"timeout\":2", "/timeout", "a duration");
    HEALTH_REFUSES("\"rise\":0", "/rise", "1 to 100");
    HEALTH_REFUSES("\"fall\":101", "/fall", "1 to 100");
    HEALTH_REFUSES("\"body\":\"\"", "/body", "not empty");
    HEALTH_REFUSES("\"tls\":true", "/tls", "an object");
    HEALTH_REFUSES("\"tls\":{\"verify\":1}", "/tls/verify", "true or false");
    HEALTH_REFUSES("\"tls\":{\"ca\":\"x\"}", "/tls/ca", "PEM text");
    HEALTH_REFUSES("\"tls\":{\"server_name\":\"10.0.0.1\"}", "/tls/server_name", "not an IP");
    HEALTH_REFUSES("\"tls\":{\"verify\":false},\"scheme\":\"http\"", "/tls", "contradicts");
    HEALTH_REFUSES("\"intervall\":\"1s\"", "/intervall", "did you mean \"interval\"");
    REFUSES("\"health\":true", "/health", "an object");
    REFUSES("\"health\":\"/healthz\"", "/health", "an object");
    REFUSES("\"health\":null", "/health", "an object");
    char json[3000] = "";
    char longest[2050] = "";
    memset(longest, 'x', 2048);
    snprintf(json, sizeof json, WITH(HEALTH("\"path\":\"/%s\"")), longest);
    check_refused(NOUN_POOL, "p", json, "/health/path", "at most 2048");
    longest[1025] = '\0';
    snprintf(json, sizeof json, WITH(HEALTH("\"body\":\"%s\"")), longest);
    check_refused(NOUN_POOL, "p", json, "/health/body", "at most 1024");
}

static void test_health_contradictions(void **state)
{
    (void)state;
    static const char *const members[][2] = {
        {"path", "\"/\""}, {"host", "\"a\""}, {"status", "\"200\""}, {"body", "\"x\""}};
    for (unsigned i = 0; i < sizeof members / sizeof members[0]; i++) {
        char json[200];
        char pointer[32];
        snprintf(json, sizeof json, WITH(HEALTH("\"%s\":%s,\"type\":\"tcp\"")), members[i][0],
                 members[i][1]);
        snprintf(pointer, sizeof pointer, "/health/%s", members[i][0]);
        check_refused(NOUN_POOL, "p", json, pointer, "needs \"type\": \"http\"");
    }
    // A timeout never reaches into the next check.
    HEALTH_REFUSES("\"timeout\":\"6s\"", "/timeout", "the interval, 5s");
    HEALTH_REFUSES("\"timeout\":\"2s\",\"interval\":\"1s\"", "/timeout", "the interval, 1s");
    HEALTH_KEEPS("\"timeout\":\"5s\"");
    HEALTH_BECOMES("\"timeout\":\"500ms\",\"interval\":\"500ms\"", "\"interval\":\"500ms\"");
    struct declaration *d = decode_health("\"interval\":\"500ms\"");
    assert_int_equal(d->pool.health.timeout_ms, 500);
    declaration_free(&d);
    d = decode_health("\"timeout\":\"500ms\",\"interval\":\"1s\"");
    assert_int_equal(d->pool.health.timeout_ms, 500);
    declaration_free(&d);
    check_refused(NOUN_POOL, "p",
                  "{\"health\":{\"port\":80},\"targets\":[\"a\",\"unix:/run/x.sock\"]}",
                  "/health/port", "unix:/run/x.sock has no ports");
}

static void check_statuses(const char *text, const char *canonical)
{
    char json[300];
    char written[300];
    snprintf(json, sizeof json, WITH(HEALTH("\"status\":%s")), text);
    snprintf(written, sizeof written,
             canonical[0] == '\0' ? WITH(HEALTH("%s")) : WITH(HEALTH("\"status\":\"%s\"")),
             canonical);
    check_form(NOUN_POOL, "p", json, written);
}

static void test_statuses(void **state)
{
    (void)state;
    check_statuses("\"200\"", "200");
    check_statuses("204", "204"); // as YAML has it
    check_statuses("\"100-599\"", "100-599");
    check_statuses("\"300-399 , 200,204\"", "200,204,300-399");
    check_statuses("\"200-299,250-310,311,300\"", "200-311");
    check_statuses("\"300-399,200-299\"", "");
    check_statuses("\"200,200,200\"", "200");
    static const char *const bad[] = {
        "\"\"",        "\"2xx\"",      "\"99\"",      "\"600\"",         "\"200-\"", "\"-200\"",
        "\"300-200\"", "\"200,,201\"", "\",200\"",    "\"200-300-400\"", "20",       "-200",
        "1e3",         "\"0200\"",     "\"200;201\"", "[\"200\"]",       "true"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char json[200];
        snprintf(json, sizeof json, WITH(HEALTH("\"status\":%s")), bad[i]);
        check_refused(NOUN_POOL, "p", json, "/health/status", "must be");
    }
    char json[400] = "";
    char list[300] = "";
    size_t len = 0;
    for (unsigned i = 0; i < 33; i++) {
        len +=
            (size_t)snprintf(list + len, sizeof list - len, "%s%u", i == 0 ? "" : ",", 599 - 2 * i);
    }
    snprintf(json, sizeof json, WITH(HEALTH("\"status\":\"%s\"")), list);
    check_refused(NOUN_POOL, "p", json, "/health/status", "more than 32");
    list[len - 4] = '\0';
    snprintf(json, sizeof json, HEALTH("\"status\":\"%s\""), list);
    char text[30 + sizeof list];
    snprintf(text, sizeof text, "\"status\":\"%s\"", list);
    struct declaration *d = decode_health(text);
    assert_int_equal(d->pool.health.status_count, 32);
    assert_int_equal(d->pool.health.statuses[0].from, 537);
    assert_int_equal(d->pool.health.statuses[31].to, 599);
    declaration_free(&d);
}

static void test_passive_and_eject(void **state)
{
    (void)state;
    VANISHES("\"passive\":{}");
    VANISHES("\"passive\":{\"max_fails\":3,\"fail_timeout\":\"10s\"}");
    KEEPS("\"passive\":{\"max_fails\":0}");
    KEEPS("\"passive\":{\"max_fails\":1000,\"fail_timeout\":\"100ms\",\"status\":\"500-503\"}");
    BECOMES("\"passive\":{\"status\":503}", "\"passive\":{\"status\":\"503\"}");
    REFUSES("\"passive\":{\"max_fails\":1001}", "/passive/max_fails", "0 to 1000");
    REFUSES("\"passive\":{\"fail_timeout\":\"99ms\"}", "/passive/fail_timeout", "100ms to 1d");
    REFUSES("\"passive\":{\"status\":\"5xx\"}", "/passive/status", "must be statuses");
    REFUSES("\"passive\":false", "/passive", "an object");
    VANISHES("\"eject\":{}");
    VANISHES("\"eject\":{\"max_percent\":50,\"base_time\":\"10s\",\"max_time\":\"300s\"}");
    KEEPS("\"eject\":{\"max_percent\":0,\"base_time\":\"100ms\",\"max_time\":\"1d\"}");
    KEEPS("\"eject\":{\"max_percent\":100,\"base_time\":\"1s\",\"max_time\":\"1s\"}");
    KEEPS("\"eject\":{\"base_time\":\"10m\"}"); // max_time is as long
    BECOMES("\"eject\":{\"max_time\":\"10m\",\"base_time\":\"10m\"}",
            "\"eject\":{\"base_time\":\"10m\"}");
    REFUSES("\"eject\":{\"max_percent\":101}", "/eject/max_percent", "0 to 100");
    REFUSES("\"eject\":{\"base_time\":\"0s\"}", "/eject/base_time", "100ms to 1d");
    REFUSES("\"eject\":{\"max_time\":\"9s\"}", "/eject/max_time", "base_time, 10s");
    REFUSES("\"eject\":[]", "/eject", "an object");
    struct declaration *d = decode_as(NOUN_POOL, "p", WITH("\"eject\":{\"base_time\":\"10m\"}"),
                                      WITH("\"eject\":{\"base_time\":\"10m\"}"));
    assert_int_equal(d->pool.eject.max_time_ms, 600000);
    declaration_free(&d);
}

static void test_numbers(void **state)
{
    (void)state;
    VANISHES("\"panic_percent\":50,\"retry_budget\":20,\"slow_start\":\"0s\",\"limits\":{"
             "\"requests_per_target\":0,\"queue\":0,\"queue_timeout\":\"1s\"}");
    KEEPS("\"panic_percent\":0,\"limits\":{\"requests_per_target\":10,\"queue\":100000,"
          "\"queue_timeout\":\"250ms\"},\"retry_budget\":100,\"slow_start\":\"30s\"");
    REFUSES("\"panic_percent\":101", "/panic_percent", "0 to 100");
    REFUSES("\"panic_percent\":\"50%\"", "/panic_percent", "whole number");
    REFUSES("\"retry_budget\":101", "/retry_budget", "0 to 100");
    REFUSES("\"retry_budget\":0.2", "/retry_budget", "whole number");
    REFUSES("\"slow_start\":\"25h\"", "/slow_start", "0s to 1d");
    REFUSES("\"slow_start\":30", "/slow_start", "a duration");
    REFUSES("\"limits\":{\"queue\":100001}", "/limits/queue", "0 to 100000");
    REFUSES("\"limits\":{\"requests_per_target\":-1}", "/limits/requests_per_target", "0 to");
    REFUSES("\"limits\":{\"queue_timeout\":\"0s\"}", "/limits/queue_timeout", "1ms to 24d");
    REFUSES("\"limits\":{\"body\":\"1m\"}", "/limits/body", "no field");
}

// What a newer node has written is passed over; what this one knows is checked all the same.
static void test_feed(void **state)
{
    (void)state;
    struct problems problems;
    struct declaration *d;
    unsigned unknown;
    problems_init(&problems);
    const char *text = "{\"targets\":[{\"address\":\"a\",\"backup\":true,\"tier\":2}],\"newer\":1,"
                       "\"health\":{\"path\":\"/h\",\"proto\":\"grpc\",\"tls\":{\"alpn\":1}},"
                       "\"sticky\":{\"cookie\":\"c\",\"same_site\":\"lax\"}}";
    assert_int_equal(decode_text(NOUN_POOL, "p", text, DECODE_FEED, &d, &unknown, &problems), 0);
    assert_int_equal(unknown, 5);
    assert_true(d->pool.targets[0].backup);
    assert_true(d->pool.health.has_tls);
    assert_true(str_eq(d->pool.sticky.cookie, STR("c")));
    declaration_free(&d);
    assert_int_equal(decode_text(NOUN_POOL, "p", WITH(HEALTH("\"interval\":\"0s\"")), DECODE_FEED,
                                 &d, &unknown, &problems),
                     ERR_INVALID);
    assert_string_equal(problems.items[0].pointer, "/health/interval");
    problems_fini(&problems);
}

struct names {
    char text[64];
    unsigned count;
};

static void take_name(void *context, enum noun noun, struct str key)
{
    struct names *names = context;
    size_t len = strlen(names->text);
    assert_int_equal(noun, NOUN_CERTIFICATE);
    snprintf(names->text + len, sizeof names->text - len, "%.*s ", STR_ARG(key));
    names->count++;
}

static void check_references(const char *members, const char *expected, const char *pointer)
{
    char json[400];
    snprintf(json, sizeof json, WITH("%s"), members);
    struct declaration *d = decode_as(NOUN_POOL, "p", json, json);
    struct names names = {"", 0};
    declaration_references(d, take_name, &names);
    assert_string_equal(names.text, expected);
    char text[64];
    size_t len = declaration_reference_pointer(d, names.count - 1, text, sizeof text);
    assert_string_equal(text, pointer);
    assert_int_equal(len, strlen(pointer));
    declaration_free(&d);
}

static void test_references(void **state)
{
    (void)state;
#define SHOWS(name) "\"tls\":{\"client_certificate\":\"" name "\"}"
    check_references(HEALTH(SHOWS("a")), "a ", "/health/tls/client_certificate");
    check_references(HEALTH(SHOWS("a")) "," SHOWS("b"), "b a ", "/health/tls/client_certificate");
    // Once is enough.
    check_references(HEALTH(SHOWS("a")) "," SHOWS("a"), "a ", "/tls/client_certificate");
}

static void test_route_targets(void **state)
{
    (void)state;
    check_form(
        NOUN_ROUTE, "h",
        "{\"targets\":[{\"address\":\"a\",\"backup\":false},{\"address\":\"b\",\"backup\":true},"
        "{\"address\":\"c\",\"max_connections\":7,\"zone\":\"z\",\"weight\":2}]}",
        "{\"host\":\"h\",\"path\":\"/\",\"targets\":[\"a:80\","
        "{\"address\":\"b:80\",\"backup\":true},"
        "{\"address\":\"c:80\",\"weight\":2,\"zone\":\"z\",\"max_connections\":7}]}");
    check_form(NOUN_ROUTE, "h", "{\"pool\":\"p\",\"timeouts\":{\"request\":\"2m\"}}",
               "{\"host\":\"h\",\"path\":\"/\",\"pool\":\"p\",\"timeouts\":{\"request\":\"2m\"}}");
}

int main(void)
{
    hash_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),       cmocka_unit_test(test_hash),
        cmocka_unit_test(test_sticky),         cmocka_unit_test(test_health_defaults),
        cmocka_unit_test(test_health_members), cmocka_unit_test(test_health_contradictions),
        cmocka_unit_test(test_statuses),       cmocka_unit_test(test_passive_and_eject),
        cmocka_unit_test(test_numbers),        cmocka_unit_test(test_feed),
        cmocka_unit_test(test_references),     cmocka_unit_test(test_route_targets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
