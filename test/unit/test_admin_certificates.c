// SPDX-License-Identifier: MIT
// Certificates over the API: what is taken, what is kept, what is never shown.
#include "admin_check.h"
#include "support/test_certs.h"
#include <sys/stat.h>

struct fixture {
    struct admin_check *check;
    struct test_cert *ca;
    struct test_cert *shop;
    struct test_cert *other;
    char key_path[128];
    struct seal *seal;
};

static void write_key(const char *path, char digit)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    for (unsigned i = 0; i < 64; i++) {
        fputc(digit, file);
    }
    fputc('\n', file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0600), 0);
}

static struct seal *make_seal(const char *path, char digit)
{
    struct seal *seal = NULL;
    struct problems problems;
    problems_init(&problems);
    write_key(path, digit);
    assert_int_equal(seal_open_file(&seal, path, &problems), 0);
    problems_fini(&problems);
    unlink(path);
    return seal;
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    void *inner = NULL;
    assert_int_equal(admin_setup(&inner), 0);
    fixture->check = inner;
    snprintf(fixture->key_path, sizeof fixture->key_path, "%s/key", fixture->check->folder);
    fixture->seal = make_seal(fixture->key_path, 'a');
    fixture->check->admin->deps.seal = fixture->seal;
    fixture->ca = test_ca("test");
    fixture->shop = test_leaf(fixture->ca, "shop.example.com,www.example.com", TEST_KEY_EC, -1, 40);
    fixture->other = test_leaf(fixture->ca, "shop.example.com", TEST_KEY_EC, -1, 40);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    void *inner = fixture->check;
    admin_teardown(&inner);
    seal_free(&fixture->seal);
    test_cert_free(&fixture->ca);
    test_cert_free(&fixture->shop);
    test_cert_free(&fixture->other);
    free(fixture);
    return 0;
}

// A body with chain and key (malloc).
static char *body_of(const struct test_cert *chain, const struct test_cert *key)
{
    json_t *tree = json_pack("{s:s,s:s}", "chain", chain->chain_pem, "key", key->key_pem);
    assert_non_null(tree);
    char *text = json_dumps(tree, JSON_COMPACT);
    json_decref(tree);
    assert_non_null(text);
    return text;
}

// One exchange; the answer's text (malloc). No answer shows a key.
static char *ask(struct fixture *fixture, const char *method, const char *target, const char *body,
                 unsigned expected)
{
    struct script_stream script;
    unsigned status = admin_call(fixture->check, &script, method, target, NULL, body);
    if (status != expected) {
        fail_msg("%s %s: %u instead of %u: %s", method, target, status, expected,
                 script_stream_text(&script));
    }
    char *text = str_dup(str_from_c(script_stream_text(&script)));
    assert_non_null(text);
    script_stream_fini(&script);
    if (strstr(target, "secrets=true") == NULL) {
        assert_null(strstr(text, "PRIVATE KEY"));
    }
    return text;
}

static void expect(struct fixture *fixture, const char *method, const char *target,
                   const char *body, unsigned expected, const char *needle)
{
    char *text = ask(fixture, method, target, body, expected);
    if (strstr(text, needle) == NULL) {
        fail_msg("%s %s: no %s in %s", method, target, needle, text);
    }
    free(text);
}

static void put_shop(struct fixture *fixture, unsigned expected)
{
    char *body = body_of(fixture->shop, fixture->shop);
    expect(fixture, "PUT", "/v1/certificates/shop", body, expected, "\"fingerprint\"");
    free(body);
}

static void takes_and_hides(void **state)
{
    struct fixture *fixture = *state;
    put_shop(fixture, 201);
    put_shop(fixture, 200);
    expect(fixture, "GET", "/v1/certificates/shop", NULL, 200, "\"key_type\":\"ec-p256\"");
    expect(fixture, "GET", "/v1/certificates", NULL, 200, "[{\"name\":\"shop\",\"names\":[");
    expect(fixture, "GET", "/v1/certificates?secrets=1", NULL, 200, "\"not_after\":\"");
    struct store_record record;
    assert_int_equal(
        store_get_secret(fixture->check->store, NOUN_CERTIFICATE, STR("shop"), &record), 0);
    assert_true(str_starts(record.secret, STR("pm1:")));
    assert_int_equal(record.revision, publisher_revision(fixture->check->publisher));
    assert_int_equal(admin_do(fixture->check, "DELETE", "/v1/certificates/shop", NULL, NULL), 204);
    assert_int_equal(
        store_get_secret(fixture->check->store, NOUN_CERTIFICATE, STR("shop"), &record),
        ERR_NOT_FOUND);
}

static void refuses_what_does_not_fit(void **state)
{
    struct fixture *fixture = *state;
    char *body = body_of(fixture->shop, fixture->other);
    expect(fixture, "PUT", "/v1/certificates/shop", body, 422, "\"pointer\":\"/key\"");
    free(body);
    json_t *tree = json_pack("{s:s,s:s,s:[s]}", "chain", fixture->shop->chain_pem, "key",
                             fixture->shop->key_pem, "hosts", "elsewhere.example.com");
    body = json_dumps(tree, 0);
    expect(fixture, "PUT", "/v1/certificates/shop", body, 422, "\"pointer\":\"/hosts/0\"");
    free(body);
    json_decref(tree);
    expect(fixture, "PUT", "/v1/certificates/shop", "{\"hosts\":[\"a.example\"]}", 422, "chain");
    expect(fixture, "PUT", "/v1/certificates/a%20b", "{}", 422, "name");
    expect(fixture, "PUT", "/v1/routes/a.example",
           "{\"targets\":[\"10.0.0.1\"],\"client_auth\":{\"ca\":\"x\"}}", 422, "/client_auth/ca");
    expect(fixture, "PUT", "/v1/pools/p",
           "{\"targets\":[\"https://10.0.0.1\"],\"tls\":{\"ca\":\"x\"}}", 422, "/tls/ca");
}

static void a_patch_keeps_the_rest(void **state)
{
    struct fixture *fixture = *state;
    const char *url = "/v1/certificates/shop";
    put_shop(fixture, 201);
    expect(fixture, "PATCH", url, "{\"hosts\":[\"www.example.com\"]}", 200,
           "\"names\":[\"www.example.com\"]");
    expect(fixture, "PATCH", url, "{\"hosts\":null}", 200, "\"shop.example.com\"");
    json_t *tree = json_pack("{s:s}", "chain", fixture->other->chain_pem);
    char *body = json_dumps(tree, 0);
    expect(fixture, "PATCH", url, body, 422, "\"pointer\":\"/key\"");
    free(body);
    json_decref(tree);
    body = body_of(fixture->other, fixture->other);
    expect(fixture, "PATCH", url, body, 200, "\"fingerprint\"");
    free(body);
    expect(fixture, "PATCH", url, "{\"key\":null}", 422, "key");
    char *shown = ask(fixture, "GET", url, NULL, 200);
    expect(fixture, "PUT", url, shown, 422, "chain");
    free(shown);
}

static void a_lost_seal_is_told(void **state)
{
    struct fixture *fixture = *state;
    put_shop(fixture, 201);
    struct seal *foreign = make_seal(fixture->key_path, 'b');
    fixture->check->admin->deps.seal = foreign;
    expect(fixture, "PATCH", "/v1/certificates/shop", "{\"hosts\":[\"www.example.com\"]}", 500,
           "encryption_key_file");
    // An export without it would be no backup: it breaks off.
    struct script_stream script;
    admin_begin(fixture->check, &script, "GET", "/v1/export?secrets=true", NULL, NULL);
    admin_finish(fixture->check, &script);
    assert_true(script.is_reset);
    script_stream_fini(&script);
    // Both sent anew: fine.
    char *body = body_of(fixture->other, fixture->other);
    expect(fixture, "PATCH", "/v1/certificates/shop", body, 200, "\"fingerprint\"");
    free(body);
    fixture->check->admin->deps.seal = fixture->seal;
    seal_free(&foreign);
}

static void exports_and_takes_back(void **state)
{
    struct fixture *fixture = *state;
    put_shop(fixture, 201);
    expect(fixture, "PUT", "/v1/pools/web",
           "{\"targets\":[\"https://10.0.0.1\"],\"tls\":{\"client_certificate\":\"shop\"}}", 201,
           "shop");
    expect(fixture, "DELETE", "/v1/certificates/shop", NULL, 409, "web");
    expect(fixture, "GET", "/v1/export", NULL, 200,
           "{\"op\":\"put\",\"kind\":\"certificate\",\"key\":\"shop\"");
    char *all = ask(fixture, "GET", "/v1/export?secrets=true", NULL, 200);
    assert_non_null(strstr(all, "PRIVATE KEY"));
    expect(fixture, "POST", "/v1/batch", all, 200, "\"unchanged\"");
    // The pool refers to what stands in the same block.
    assert_int_equal(admin_do(fixture->check, "DELETE", "/v1/pools/web", NULL, NULL), 204);
    assert_int_equal(admin_do(fixture->check, "DELETE", "/v1/certificates/shop", NULL, NULL), 204);
    expect(fixture, "POST", "/v1/batch", all, 200, "\"created\"");
    free(all);
    all = ask(fixture, "GET", "/v1/export", NULL, 200);
    expect(fixture, "POST", "/v1/batch", all, 422, "/value");
    free(all);
    expect(fixture, "POST", "/v1/batch", "{\"op\":\"delete\",\"kind\":\"tenant\",\"key\":\"a\"}\n",
           422, "not part of this version");
}

static void tells_of_certificates(void **state)
{
    struct fixture *fixture = *state;
    struct admin_check *check = fixture->check;
    struct script_stream script;
    admin_begin(check, &script, "GET", "/v1/events", NULL, NULL);
    loop_turn(&check->control, 0);
    uint64_t end = check->control.real_ns / NS_PER_SEC + 5 * 86400 + 60;
    struct publish_certificate_event events[] = {
        {STR("shop"), "expiring", end, 5, ""},
        {STR("a\"b"), "file_broken", 0, 0, "no PEM"},
    };
    events_add_certificate(check->admin->events, &events[0]);
    events_add_certificate(check->admin->events, &events[1]);
    loop_turn(&check->control, 0);
    char expected[200];
    char time_text[TEXT_TIME_LEN];
    text_time(time_text, end);
    snprintf(
        expected, sizeof expected,
        "data: {\"name\":\"shop\",\"state\":\"expiring\",\"not_after\":\"%s\",\"days_left\":5}",
        time_text);
    const char *text = script_stream_text(&script);
    assert_non_null(strstr(text, "event: certificate\n"));
    assert_non_null(strstr(text, expected));
    assert_non_null(strstr(text, "data: {\"name\":\"a\\\"b\",\"state\":\"file_broken\","
                                 "\"detail\":\"no PEM\"}"));
    script_stream_leave(&script);
    loop_turn(&check->control, 0);
    script_stream_fini(&script);
    put_shop(fixture, 201);
    expect(fixture, "GET", "/v1/status", NULL, 200, "\"tls\":{\"handshakes\":");
    expect(fixture, "GET", "/v1/status", NULL, 200, "\"certificates\":{\"count\":");
    expect(fixture, "GET", "/metrics", NULL, 200, "\npointsman_certificates_loaded 0\n");
}

static void writes_times(void **state)
{
    (void)state;
    char text[TEXT_TIME_LEN];
    assert_true(str_eq(text_time(text, 0), STR("1970-01-01T00:00:00Z")));
    assert_true(str_eq(text_time(text, 253402300799), STR("9999-12-31T23:59:59Z")));
    assert_true(str_eq(text_time(text, 253402300800), STR("")));
    assert_true(str_eq(text_time(text, UINT64_MAX), STR("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(takes_and_hides, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_what_does_not_fit, setup, teardown),
        cmocka_unit_test_setup_teardown(a_patch_keeps_the_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_seal_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(exports_and_takes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(tells_of_certificates, setup, teardown),
        cmocka_unit_test(writes_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
