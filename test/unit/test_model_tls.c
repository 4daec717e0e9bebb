// SPDX-License-Identifier: MIT
// What routes and pools say of TLS and protocols.
#include "base/buf.h"
#include "base/hash.h"
#include "model_check.h"

#define ROUTE(member) "{\"pool\":\"p\"," member "}"
#define KEEPS(member, canonical)               \
    check_form(NOUN_ROUTE, "h", ROUTE(member), \
               "{\"host\":\"h\",\"path\":\"/\",\"pool\":\"p\"" canonical "}")
#define REFUSES(member, pointer, detail) \
    check_refused(NOUN_ROUTE, "h", ROUTE(member), pointer, detail)
#define PEM "-----BEGIN CERTIFICATE-----\\nAA==\\n-----END CERTIFICATE-----\\n"

static void test_hsts(void **state)
{
    (void)state;
    KEEPS("\"hsts\":\"365d\"", ",\"hsts\":\"365d\"");
    KEEPS("\"hsts\":\"86400s\"", ",\"hsts\":\"1d\"");
    KEEPS("\"hsts\":\"36500d\"", ",\"hsts\":\"36500d\"");
    REFUSES("\"hsts\":\"0s\"", "/hsts", "must be 1s to 36500d");
    REFUSES("\"hsts\":\"36501d\"", "/hsts", "must be 1s to 36500d");
    REFUSES("\"hsts\":\"1500ms\"", "/hsts", "whole seconds");
    REFUSES("\"hsts\":31536000", "/hsts", "a duration");
    REFUSES("\"hsts\":true", "/hsts", "a duration");
    struct declaration *d =
        decode_as(NOUN_ROUTE, "h", ROUTE("\"hsts\":\"36500d\""),
                  "{\"host\":\"h\",\"path\":\"/\",\"pool\":\"p\",\"hsts\":\"36500d\"}");
    assert_true(d->route.hsts_sec == 36500ull * 86400);
    declaration_free(&d);
}

static void test_client_auth(void **state)
{
    (void)state;
    KEEPS("\"client_auth\":{\"ca\":\"" PEM "\"}", ",\"client_auth\":{\"ca\":\"" PEM "\"}");
    KEEPS("\"client_auth\":{\"mode\":\"require\",\"ca\":\"" PEM "\"}",
          ",\"client_auth\":{\"ca\":\"" PEM "\"}");
    KEEPS("\"client_auth\":{\"mode\":\"optional\",\"ca\":\"" PEM "\"}",
          ",\"client_auth\":{\"ca\":\"" PEM "\",\"mode\":\"optional\"}");
    REFUSES("\"client_auth\":{}", "/client_auth/ca", "missing");
    REFUSES("\"client_auth\":{\"mode\":\"optional\"}", "/client_auth/ca", "missing");
    REFUSES("\"client_auth\":\"ca\"", "/client_auth", "must be an object");
    REFUSES("\"client_auth\":{\"ca\":\"/etc/ca.pem\"}", "/client_auth/ca", "PEM text");
    REFUSES("\"client_auth\":{\"ca\":\"\"}", "/client_auth/ca", "PEM text");
    REFUSES("\"client_auth\":{\"ca\":\"" PEM "\",\"mode\":\"on\"}", "/client_auth/mode",
            "\"require\", \"optional\"");
    REFUSES("\"client_auth\":{\"ca\":\"" PEM "\",\"cas\":1}", "/client_auth/cas",
            "did you mean \"ca\"");
    check_refused(NOUN_ROUTE, "h/a", ROUTE("\"client_auth\":{\"ca\":\"" PEM "\"}"), "/client_auth",
                  "path \"/\"");
    // With any action: the host asks for it.
    check_form(
        NOUN_ROUTE, "*", "{\"respond\":{\"status\":204},\"client_auth\":{\"ca\":\"" PEM "\"}}",
        "{\"host\":\"*\",\"path\":\"/\",\"respond\":{\"status\":204},\"client_auth\":{\"ca\":"
        "\"" PEM "\"}}");
    // A feed does not pass over it either.
    struct problems problems;
    struct declaration *d;
    problems_init(&problems);
    assert_int_equal(decode_text(NOUN_ROUTE, "h/a", ROUTE("\"client_auth\":{\"ca\":\"" PEM "\"}"),
                                 DECODE_FEED, &d, NULL, &problems),
                     ERR_INVALID);
    problems_fini(&problems);
    struct declaration *both = decode_as(
        NOUN_ROUTE, "h", ROUTE("\"client_auth\":{\"ca\":\"" PEM "\"}"),
        "{\"host\":\"h\",\"path\":\"/\",\"pool\":\"p\",\"client_auth\":{\"ca\":\"" PEM "\"}}");
    assert_true(both->route.client_auth.is_required);
    assert_true(str_starts(both->route.client_auth.ca, STR("-----BEGIN CERTIFICATE-----\n")));
    declaration_free(&both);
}

static void test_ca_limit(void **state)
{
    (void)state;
    for (unsigned over = 0; over < 2; over++) {
        struct buf json;
        buf_init(&json, 0);
        buf_put(&json, STR("{\"pool\":\"p\",\"client_auth\":{\"ca\":\"-----BEGIN "));
        for (size_t i = 11; i < (256u << 10) + over; i++) {
            buf_put_char(&json, 'A');
        }
        buf_put(&json, STR("\"}}"));
        buf_put_char(&json, '\0');
        struct problems problems;
        struct declaration *d;
        problems_init(&problems);
        int err = decode_text(NOUN_ROUTE, "h", json.p, DECODE_STRICT, &d, NULL, &problems);
        assert_int_equal(err, over == 0 ? 0 : ERR_INVALID);
        if (over != 0) {
            assert_string_equal(problems.items[0].pointer, "/client_auth/ca");
            assert_non_null(strstr(problems.items[0].detail, "at most 262144"));
        }
        declaration_free(&d);
        problems_fini(&problems);
        buf_fini(&json);
    }
}

#define RAW(member) "\"passthrough\":true," member

static void test_passthrough(void **state)
{
    (void)state;
    KEEPS("\"passthrough\":true", ",\"passthrough\":true");
    KEEPS("\"passthrough\":false", "");
    KEEPS("\"passthrough\":false,\"https\":\"require\"", ",\"https\":\"require\"");
    REFUSES("\"passthrough\":1", "/passthrough", "true or false");
    check_form(NOUN_ROUTE, "*.h", "{\"targets\":[\"https://a\"],\"passthrough\":true}",
               "{\"host\":\"*.h\",\"path\":\"/\",\"targets\":[\"https://a:443\"],"
               "\"passthrough\":true}");
    check_refused(NOUN_ROUTE, "h/a", ROUTE("\"passthrough\":true"), "/passthrough", "path \"/\"");
    check_refused(NOUN_ROUTE, "h", "{\"respond\":{\"status\":204},\"passthrough\":true}",
                  "/passthrough", "needs pool, split or targets");
    check_refused(NOUN_ROUTE, "h", "{\"redirect\":{\"to\":\"/x\"},\"passthrough\":true}",
                  "/passthrough", "needs pool, split or targets");
    // What holds for a stream of bytes stays possible.
    KEEPS(RAW("\"allow\":[\"10.0.0.0/8\"],\"timeouts\":{\"connect\":\"2s\"},\"retries\":2"),
          ",\"passthrough\":true,\"allow\":[\"10.0.0.0/8\"],\"timeouts\":{\"connect\":\"2s\"},"
          "\"retries\":2");
    static const char *const needs_http[][2] = {
        {"https", "\"require\""},
        {"hsts", "\"1d\""},
        {"client_auth", "{\"ca\":\"" PEM "\"}"},
        {"target_path", "\"/x\""},
        {"strip_path", "true"},
        {"host_header", "\"target\""},
        {"request_headers", "{\"set\":{\"X-A\":\"1\"}}"},
        {"response_headers", "{\"remove\":[\"X-A\"]}"},
        {"buffer_request", "\"1k\""},
        {"limits", "{\"body\":\"0\"}"},
        {"retry_on", "[\"connect\",\"503\"]"},
        {"unavailable", "{\"body\":\"sorry\"}"},
    };
    for (size_t i = 0; i < sizeof needs_http / sizeof needs_http[0]; i++) {
        char json[300];
        char pointer[32];
        snprintf(json, sizeof json, ROUTE(RAW("\"%s\":%s")), needs_http[i][0], needs_http[i][1]);
        snprintf(pointer, sizeof pointer, "/%s", needs_http[i][0]);
        check_refused(NOUN_ROUTE, "h", json, pointer, "together with passthrough");
    }
}

#define POOL(targets, member)               "{\"targets\":[" targets "]" member "}"
#define POOL_KEEPS(json, canonical)         check_form(NOUN_POOL, "p", json, canonical)
#define POOL_REFUSES(json, pointer, detail) check_refused(NOUN_POOL, "p", json, pointer, detail)

static void test_protocol(void **state)
{
    (void)state;
    POOL_KEEPS(POOL("", ",\"protocol\":\"auto\""), POOL("", ""));
    POOL_KEEPS(POOL("", ",\"protocol\":\"h2\""), POOL("", ",\"protocol\":\"h2\""));
    POOL_KEEPS(POOL("\"https://a\"", ",\"protocol\":\"h2\""),
               POOL("{\"address\":\"https://a:443\"}", ",\"protocol\":\"h2\""));
    POOL_KEEPS(POOL("\"a\",\"unix:/x\",\"h2c://a\"", ",\"protocol\":\"h2c\""),
               POOL("{\"address\":\"a:80\"},{\"address\":\"unix:/x\"},{\"address\":\"h2c://a:80\"}",
                    ",\"protocol\":\"h2c\""));
    POOL_KEEPS(
        POOL("\"a\",\"https://a\"", ",\"protocol\":\"http1\""),
        POOL("{\"address\":\"a:80\"},{\"address\":\"https://a:443\"}", ",\"protocol\":\"http1\""));
    POOL_REFUSES(POOL("\"https://a\",\"b\",\"c\"", ",\"protocol\":\"h2\""), "/protocol",
                 "needs https:// targets; h2c is HTTP/2 without TLS");
    POOL_REFUSES(POOL("\"unix:/x\"", ",\"protocol\":\"h2\""), "/protocol", "needs https://");
    POOL_REFUSES(POOL("\"h2c://a\"", ",\"protocol\":\"h2\""), "/protocol", "needs https://");
    POOL_REFUSES(POOL("\"a\",\"https://a\"", ",\"protocol\":\"h2c\""), "/protocol",
                 "cannot have https://");
    POOL_REFUSES(POOL("\"h2c://a\"", ",\"protocol\":\"http1\""), "/protocol", "speaks HTTP/2");
    POOL_REFUSES(POOL("", ",\"protocol\":\"h3\""), "/protocol",
                 "\"auto\", \"http1\", \"h2\", \"h2c\"");
    // One that is wrong already is not named again.
    POOL_REFUSES(POOL("\"a b\"", ",\"protocol\":\"h2\""), "/targets/0", "not a valid host");
    POOL_KEEPS(POOL("", ",\"send_proxy\":\"off\""), POOL("", ""));
    POOL_KEEPS(POOL("", ",\"send_proxy\":\"v1\""), POOL("", ",\"send_proxy\":\"v1\""));
    POOL_KEEPS(POOL("", ",\"send_proxy\":\"v2\""), POOL("", ",\"send_proxy\":\"v2\""));
    POOL_REFUSES(POOL("", ",\"send_proxy\":2"), "/send_proxy", "must be a string");
    POOL_REFUSES(POOL("", ",\"send_proxy\":\"v3\""), "/send_proxy", "\"off\", \"v1\", \"v2\"");
}

static void count_reference(void *context, enum noun noun, struct str key)
{
    assert_int_equal(noun, NOUN_CERTIFICATE);
    assert_true(str_eq(key, STR("mine")));
    ++*(unsigned *)context;
}

static void test_pool_tls(void **state)
{
    (void)state;
    POOL_KEEPS(POOL("", ",\"tls\":{}"), POOL("", ""));
    POOL_KEEPS(POOL("", ",\"tls\":{\"verify\":true}"), POOL("", ""));
    POOL_KEEPS(POOL("", ",\"tls\":{\"verify\":false}"), POOL("", ",\"tls\":{\"verify\":false}"));
    POOL_KEEPS(POOL("", ",\"tls\":{\"server_name\":\"App.Example.\"}"),
               POOL("", ",\"tls\":{\"server_name\":\"app.example\"}"));
    POOL_KEEPS(POOL("", ",\"tls\":{\"ca\":\"" PEM "\"}"),
               POOL("", ",\"tls\":{\"ca\":\"" PEM "\"}"));
    POOL_REFUSES(POOL("", ",\"tls\":true"), "/tls", "must be an object");
    POOL_REFUSES(POOL("", ",\"tls\":{\"verify\":\"no\"}"), "/tls/verify", "true or false");
    POOL_REFUSES(POOL("", ",\"tls\":{\"server_name\":\"10.0.0.1\"}"), "/tls/server_name",
                 "not an IP address");
    POOL_REFUSES(POOL("", ",\"tls\":{\"server_name\":\"[::1]\"}"), "/tls/server_name",
                 "not an IP address");
    POOL_REFUSES(POOL("", ",\"tls\":{\"server_name\":\"*.a\"}"), "/tls/server_name", "wildcard");
    POOL_REFUSES(POOL("", ",\"tls\":{\"server_name\":\"a:443\"}"), "/tls/server_name", "no port");
    POOL_REFUSES(POOL("", ",\"tls\":{\"ca\":\"x\"}"), "/tls/ca", "PEM text");
    POOL_REFUSES(POOL("", ",\"tls\":{\"client_certificate\":\"a b\"}"), "/tls/client_certificate",
                 "must be a name");
    POOL_REFUSES(POOL("", ",\"tls\":{\"servername\":\"a\"}"), "/tls/servername",
                 "did you mean \"server_name\"");
    struct declaration *d = decode_as(NOUN_POOL, "p", "{\"targets\":[]}", "{\"targets\":[]}");
    unsigned count = 0;
    assert_true(d->pool.tls.verify);
    assert_int_equal(d->pool.protocol, POOL_AUTO);
    assert_int_equal(d->pool.send_proxy, SEND_PROXY_OFF);
    declaration_references(d, count_reference, &count);
    assert_int_equal(count, 0);
    declaration_free(&d);
    d = decode_as(NOUN_POOL, "p", POOL("", ",\"tls\":{\"client_certificate\":\"mine\"}"),
                  POOL("", ",\"tls\":{\"client_certificate\":\"mine\"}"));
    declaration_references(d, count_reference, &count);
    assert_int_equal(count, 1);
    char pointer[32];
    size_t len = declaration_reference_pointer(d, 0, pointer, sizeof pointer);
    assert_string_equal(pointer, "/tls/client_certificate");
    assert_int_equal(len, strlen(pointer));
    declaration_free(&d);
}

int main(void)
{
    hash_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hsts),     cmocka_unit_test(test_client_auth),
        cmocka_unit_test(test_ca_limit), cmocka_unit_test(test_passthrough),
        cmocka_unit_test(test_protocol), cmocka_unit_test(test_pool_tls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
