// SPDX-License-Identifier: MIT
#include "base/buf.h"
#include "base/hash.h"
#include "model_check.h"

#define CHAIN "-----BEGIN CERTIFICATE-----\\nAA==\\n-----END CERTIFICATE-----\\n"
#define KEY   "-----BEGIN PRIVATE KEY-----\\nBB==\\n-----END PRIVATE KEY-----\\n"
#define PAIR  "\"chain\":\"" CHAIN "\",\"key\":\"" KEY "\""
#define FILES "\"chain_file\":\"/etc/c.pem\",\"key_file\":\"/etc/k.pem\""
#define FACTS                                                                            \
    "\"names\":[\"a.example\",\"*.b.example\"],\"not_before\":\"2026-01-31T12:00:00Z\"," \
    "\"not_after\":\"2027-02-28T23:59:59Z\",\"subject\":\"CN=a\",\"issuer\":\"CN=ca\","  \
    "\"serial\":\"0a\",\"fingerprint\":\"ff\",\"key_type\":\"ec-p256\",\"content\":\"ee\""

static struct declaration *decode(const char *json, enum decode_mode mode, unsigned *unknown)
{
    struct problems problems;
    struct declaration *declaration;
    problems_init(&problems);
    if (decode_text(NOUN_CERTIFICATE, "c", json, mode, &declaration, unknown, &problems) != 0) {
        print_problems(&problems);
        fail_msg("refused: %s", json);
    }
    problems_fini(&problems);
    return declaration;
}

static void assert_encoded(const struct declaration *declaration, const char *expected)
{
    char *text = encode_text(declaration);
    assert_string_equal(text, expected);
    free(text);
}

#define REFUSES(json, pointer, detail) check_refused(NOUN_CERTIFICATE, "c", json, pointer, detail)

static void test_pair(void **state)
{
    (void)state;
    assert_true(noun_is_supported(NOUN_CERTIFICATE));
    struct declaration *d = decode("{" PAIR "}", DECODE_STRICT, NULL);
    assert_string_equal(d->key, "c");
    assert_true(str_starts(d->certificate.chain, STR("-----BEGIN CERTIFICATE-----\nAA")));
    assert_true(str_starts(d->certificate.key, STR("-----BEGIN PRIVATE KEY-----\nBB")));
    assert_encoded(d, "{}"); // never chain or key
    declaration_free(&d);
    d = decode("{" FILES "}", DECODE_STRICT, NULL);
    assert_true(str_eq(d->certificate.key_file, STR("/etc/k.pem")));
    assert_encoded(d, "{" FILES "}");
    declaration_free(&d);
    REFUSES("{\"chain\":\"" CHAIN "\"}", "/key", "is missing; \"chain\" and \"key\"");
    REFUSES("{\"key\":\"" KEY "\"}", "/chain", "is missing");
    REFUSES("{\"chain_file\":\"/a\"}", "/key_file", "is missing");
    REFUSES("{\"key_file\":\"/a\"}", "/chain_file", "is missing");
    REFUSES("{" PAIR "," FILES "}", "/chain_file", "together with chain and key");
    REFUSES("{" PAIR ",\"key_file\":\"/a\"}", "/key_file", "together with chain and key");
    REFUSES("{}", "/chain", "chain and key, or chain_file and key_file, must be declared");
    REFUSES("{\"hosts\":[\"a\"]}", "/chain", "must be declared");
    REFUSES("{" FACTS "}", "/chain", "have to be given again");
    REFUSES("[]", "", "must be an object");
    check_refused(NOUN_CERTIFICATE, "", "{" PAIR "}", "", "a certificate needs a name");
    REFUSES("{\"chain\":1,\"key\":\"" KEY "\"}", "/chain", "must be a string");
    REFUSES("{\"chain\":\"/etc/c.pem\",\"key\":\"" KEY "\"}", "/chain", "must be PEM text");
    REFUSES("{\"chain\":\"" CHAIN "\",\"key\":\"\"}", "/key", "must be PEM text");
    REFUSES("{\"chain_file\":\"c.pem\",\"key_file\":\"/k\"}", "/chain_file", "absolute path");
    REFUSES("{\"chain_file\":\"/c\",\"key_file\":\"\"}", "/key_file", "absolute path");
    REFUSES("{\"chain_file\":\"/c\\n\",\"key_file\":\"/k\"}", "/chain_file", "absolute path");
    REFUSES("{" PAIR ",\"host\":\"a\"}", "/host", "did you mean \"hosts\"");
    REFUSES("{" PAIR ",\"passphrase\":\"a\"}", "/passphrase", "no field");
}

static void test_hosts(void **state)
{
    (void)state;
    struct declaration *d = decode("{" FILES ",\"hosts\":[\"Shop.Example.\",\"*.B\xc3\xbc"
                                   "cher.example\",\"*\"]}",
                                   DECODE_STRICT, NULL);
    assert_int_equal(d->certificate.host_count, 3);
    assert_encoded(d, "{" FILES ",\"hosts\":[\"shop.example\",\"*.xn--bcher-kva.example\",\"*\"]}");
    declaration_free(&d);
    d = decode("{" FILES ",\"hosts\":[]}", DECODE_STRICT, NULL);
    assert_encoded(d, "{" FILES "}");
    declaration_free(&d);
    REFUSES("{" FILES ",\"hosts\":\"a\"}", "/hosts", "must be a list");
    REFUSES("{" FILES ",\"hosts\":[\"a\",2]}", "/hosts/1", "must be a string");
    REFUSES("{" FILES ",\"hosts\":[\"a\",\"b\",\"A.\"]}", "/hosts/2",
            "is the same host as element 0, \"a\"");
    REFUSES("{" FILES ",\"hosts\":[\"a*.b\"]}", "/hosts/0", "wildcard");
    REFUSES("{" FILES ",\"hosts\":[\"a:443\"]}", "/hosts/0", "no port");
    REFUSES("{" FILES ",\"hosts\":[\"\"]}", "/hosts/0", "empty");
}

static char *make_hosts(unsigned count, unsigned last)
{
    struct buf json;
    buf_init(&json, 0);
    buf_put(&json, STR("{" FILES ",\"hosts\":["));
    for (unsigned i = 0; i < count; i++) {
        buf_printf(&json, "%s\"h%u\"", i == 0 ? "" : ",", i + 1 == count ? last : i);
    }
    buf_put(&json, STR("]}"));
    buf_put_char(&json, '\0');
    return json.p;
}

static void test_limits(void **state)
{
    (void)state;
    char *json = make_hosts(1000, 999);
    struct declaration *d = decode(json, DECODE_STRICT, NULL);
    assert_int_equal(d->certificate.host_count, 1000);
    declaration_free(&d);
    free(json);
    json = make_hosts(1000, 17);
    REFUSES(json, "/hosts/999", "element 17");
    free(json);
    json = make_hosts(1001, 1000);
    REFUSES(json, "/hosts", "at most 1000");
    free(json);
    for (unsigned over = 0; over < 2; over++) {
        struct buf pem;
        buf_init(&pem, 0);
        buf_put(&pem, STR("{\"key\":\"" KEY "\",\"chain\":\"-----BEGIN "));
        for (unsigned i = 11; i < (64u << 10) + over; i++) {
            buf_put_char(&pem, 'A');
        }
        buf_put(&pem, STR("\"}"));
        buf_put_char(&pem, '\0');
        if (over == 0) {
            d = decode(pem.p, DECODE_STRICT, NULL);
            assert_int_equal(d->certificate.chain.len, 64 << 10);
            declaration_free(&d);
        } else {
            REFUSES(pem.p, "/chain", "at most 65536");
        }
        buf_fini(&pem);
    }
}

// A client sends back what it got; what it says of the chain is not believed.
static void test_facts(void **state)
{
    (void)state;
    struct declaration *d = decode("{" FILES "," FACTS "}", DECODE_STRICT, NULL);
    assert_encoded(d, "{" FILES "}");
    declaration_free(&d);
    d = decode("{" FILES ",\"names\":7,\"not_after\":[],\"subject\":null}", DECODE_STRICT, NULL);
    assert_encoded(d, "{" FILES "}");
    declaration_free(&d);
    unsigned unknown;
    d = decode("{\"hosts\":[\"x\"]," FACTS ",\"newer\":1}", DECODE_FEED, &unknown);
    assert_int_equal(unknown, 1);
    assert_encoded(d, "{\"hosts\":[\"x\"]," FACTS "}");
    const struct certificate_decl *decl = &d->certificate;
    assert_int_equal(decl->name_count, 2);
    assert_true(decl->facts.not_before == 1769860800);
    assert_true(decl->facts.not_after == 1803859199);
    assert_true(str_eq(decl->facts.key_type, STR("ec-p256")));
    declaration_free(&d);
    d = decode("{}", DECODE_FEED, NULL);
    assert_encoded(d, "{}");
    declaration_free(&d);
}

static void refuse_feed(const char *json, const char *pointer)
{
    struct problems problems;
    struct declaration *d;
    problems_init(&problems);
    assert_int_equal(decode_text(NOUN_CERTIFICATE, "c", json, DECODE_FEED, &d, NULL, &problems),
                     ERR_INVALID);
    assert_string_equal(problems.items[0].pointer, pointer);
    problems_fini(&problems);
}

static void test_bad_records(void **state)
{
    (void)state;
    static const char *const times[] = {
        "",
        "2026-01-31",
        "2026-01-31 12:00:00Z",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00:00+1",
        "2026-13-31T12:00:00Z",
        "2026-00-31T12:00:00Z",
        "2026-01-32T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "1969-12-31T23:59:59Z",
        "2026-01-3aT12:00:00Z",
    };
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        char json[100];
        snprintf(json, sizeof json, "{\"not_after\":\"%s\"}", times[i]);
        refuse_feed(json, "/not_after");
    }
    refuse_feed("{\"names\":[\"a b\"]}", "/names/0");
    refuse_feed("{\"serial\":7}", "/serial");
    refuse_feed("{\"chain_file\":\"/x\"}", "/key_file");
}

static void test_set_facts(void **state)
{
    (void)state;
    struct declaration *d = decode("{" PAIR ",\"hosts\":[\"a.example\"]}", DECODE_STRICT, NULL);
    char subject[] = "CN=a";
    char name[] = "a.example";
    struct certificate_facts facts = {
        .not_before = 1769860800,
        .not_after = 1803859199,
        .subject = str_from_c(subject),
        .issuer = STR("CN=ca"),
        .serial = STR("0a"),
        .fingerprint = STR("ff"),
        .content = STR("ee"),
        .key_type = STR("ec-p256"),
    };
    struct str names[] = {str_from_c(name), STR("*.b.example")};
    assert_int_equal(certificate_set_facts(d, &facts, names, 2), 0);
    memset(subject, 'x', sizeof subject - 1); // copies
    memset(name, 'x', sizeof name - 1);
    static const char expected[] = "{\"hosts\":[\"a.example\"]," FACTS "}";
    assert_encoded(d, expected);
    // What is stored is what a feed gives.
    struct declaration *again = decode(expected, DECODE_FEED, NULL);
    assert_encoded(again, expected);
    // Of the declaration itself, in another order; without names.
    assert_int_equal(certificate_set_facts(d, &d->certificate.facts, d->certificate.hosts, 1), 0);
    assert_int_equal(d->certificate.name_count, 1);
    facts = (struct certificate_facts){.not_after = 1ull << 60};
    assert_int_equal(certificate_set_facts(again, &facts, NULL, 0), 0);
    assert_encoded(again, "{\"hosts\":[\"a.example\"],\"not_after\":\"9999-12-31T23:59:59Z\"}");
    declaration_free(&again);
    declaration_free(&d);
}

static void test_secret(void **state)
{
    (void)state;
    int err = 1;
    struct declaration *d = decode("{" PAIR "}", DECODE_STRICT, NULL);
    char *text = certificate_encode_secret(d, &err);
    assert_int_equal(err, 0);
    assert_string_equal(text, "{" PAIR "}");
    char *chain;
    char *key;
    assert_int_equal(certificate_decode_secret(str_from_c(text), &chain, &key), 0);
    assert_true(str_eq(str_from_c(chain), d->certificate.chain));
    assert_true(str_eq(str_from_c(key), d->certificate.key));
    free(chain);
    free(key);
    free(text);
    declaration_free(&d);
    d = decode("{" FILES "}", DECODE_STRICT, NULL);
    err = 1;
    assert_null(certificate_encode_secret(d, &err));
    assert_int_equal(err, 0);
    declaration_free(&d);
    static const char *const bad[] = {"",
                                      "{",
                                      "[]",
                                      "\"x\"",
                                      "{}",
                                      "{\"chain\":\"a\"}",
                                      "{\"chain\":\"a\",\"key\":1}",
                                      "{\"chain\":null,\"key\":\"a\"}",
                                      "{\"chain\":\"a\",\"key\":\"b\"} x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(certificate_decode_secret(str_from_c(bad[i]), &chain, &key), ERR_INVALID);
        assert_null(chain);
        assert_null(key);
    }
}

int main(void)
{
    hash_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pair),        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_limits),      cmocka_unit_test(test_facts),
        cmocka_unit_test(test_bad_records), cmocka_unit_test(test_set_facts),
        cmocka_unit_test(test_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
