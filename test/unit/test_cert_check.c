// SPDX-License-Identifier: MIT
#include "base/buf.h"
#include "cert/check.h"
#include "support/test_certs.h"
#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static struct test_cert *root;
static struct test_cert *middle;
static char folder[] = "/tmp/test_cert_check_XXXXXX";

struct result {
    struct declaration *declaration;
    struct problems problems;
    int err;
};

static struct result check(const char *chain, const char *key, const char *hosts)
{
    struct result result = {0};
    struct buf text;
    buf_init(&text, 0);
    problems_init(&result.problems);
    bool are_files = chain[0] == '/';
    buf_put(&text, are_files ? STR("{\"chain_file\":") : STR("{\"chain\":"));
    buf_put_json(&text, str_from_c(chain));
    buf_put(&text, are_files ? STR(",\"key_file\":") : STR(",\"key\":"));
    buf_put_json(&text, str_from_c(key));
    buf_printf(&text, "%s%s}", hosts == NULL ? "" : ",\"hosts\":", hosts == NULL ? "" : hosts);
    json_t *value = model_json_parse(buf_str(&text), &result.problems);
    assert_non_null(value);
    result.err = declaration_decode(NOUN_CERTIFICATE, STR("shop"), value, DECODE_STRICT,
                                    &result.declaration, NULL, &result.problems);
    assert_int_equal(result.err, 0);
    result.err = cert_check(result.declaration, &result.problems);
    json_decref(value);
    buf_fini(&text);
    return result;
}

static void forget(struct result *result)
{
    declaration_free(&result->declaration);
    problems_fini(&result->problems);
}

static void refused(const char *chain, const char *key, const char *hosts, const char *pointer,
                    const char *detail)
{
    struct result result = check(chain, key, hosts);
    assert_int_equal(result.err, ERR_INVALID);
    bool is_found = false;
    for (unsigned i = 0; i < result.problems.count; i++) {
        const struct problem *problem = &result.problems.items[i];
        is_found |=
            strcmp(problem->pointer, pointer) == 0 && strstr(problem->detail, detail) != NULL;
    }
    if (!is_found) {
        print_message("%s %s\n", result.problems.items[0].pointer, result.problems.items[0].detail);
    }
    assert_true(is_found);
    assert_int_equal(result.declaration->certificate.facts.not_after, 0);
    forget(&result);
}

static char *join(const char *a, const char *b)
{
    size_t size = strlen(a) + strlen(b) + 1;
    char *text = malloc(size);
    snprintf(text, size, "%s%s", a, b);
    return text;
}

static void test_facts(void **state)
{
    (void)state;
    struct test_cert *leaf = test_leaf(
        middle, "Shop.example.com,*.shop.example.com,shop.example.com", TEST_KEY_EC, -1, 90);
    struct result result = check(leaf->chain_pem, leaf->key_pem, NULL);
    assert_int_equal(result.err, 0);
    const struct certificate_decl *decl = &result.declaration->certificate;
    assert_int_equal(decl->name_count, 2);
    assert_true(str_eq(decl->names[0], STR("shop.example.com")));
    assert_true(str_eq(decl->names[1], STR("*.shop.example.com")));
    assert_true(str_eq(decl->facts.key_type, STR("ec-p256")));
    assert_true(str_eq(decl->facts.subject, STR("CN=leaf")));
    assert_true(str_eq(decl->facts.issuer, STR("CN=middle")));
    assert_int_equal(decl->facts.fingerprint.len, 64);
    assert_int_equal(decl->facts.content.len, 64);
    assert_true(decl->facts.serial.len > 0);
    assert_int_equal((decl->facts.not_after - decl->facts.not_before) / 86400, 91);
    forget(&result);
    // The leaf alone is another content, the same fingerprint.
    struct result alone = check(leaf->leaf_pem, leaf->key_pem, "[\"a.shop.example.com\"]");
    assert_int_equal(alone.err, 0);
    assert_int_equal(alone.declaration->certificate.name_count, 1);
    forget(&alone);
    test_cert_free(&leaf);
}

static void test_key_types(void **state)
{
    (void)state;
    struct test_cert *leaf = test_leaf(root, "a.example", TEST_KEY_RSA, -1, 90);
    struct result result = check(leaf->chain_pem, leaf->key_pem, NULL);
    assert_int_equal(result.err, 0);
    assert_true(str_eq(result.declaration->certificate.facts.key_type, STR("rsa-2048")));
    forget(&result);
    test_cert_free(&leaf);
    leaf = test_leaf(root, "a.example", TEST_KEY_ED25519, 10, 90); // not valid yet: taken
    result = check(leaf->chain_pem, leaf->key_pem, NULL);
    assert_int_equal(result.err, 0);
    assert_true(str_eq(result.declaration->certificate.facts.key_type, STR("ed25519")));
    forget(&result);
    test_cert_free(&leaf);
}

static void test_chain_order(void **state)
{
    (void)state;
    struct test_cert *leaf = test_leaf(middle, "a.example", TEST_KEY_EC, -1, 90);
    char *turned = join(middle->leaf_pem, leaf->leaf_pem);
    char *strange = join(leaf->leaf_pem, root->leaf_pem);
    char *whole = join(leaf->chain_pem, root->leaf_pem);
    char *mixed = join(leaf->chain_pem, leaf->key_pem);
    refused(turned, leaf->key_pem, NULL, "/chain", "not in order");
    refused(turned, leaf->key_pem, NULL, "/chain", "belongs to certificate 2");
    refused(strange, leaf->key_pem, NULL, "/chain", "not issued by certificate 2");
    refused(mixed, leaf->key_pem, NULL, "/chain", "private key in it");
    struct result result = check(whole, leaf->key_pem, NULL); // with the root: as it is
    assert_int_equal(result.err, 0);
    forget(&result);
    char *many = join(leaf->chain_pem, "");
    for (unsigned i = 0; i < 10; i++) {
        char *more = join(many, root->leaf_pem);
        free(many);
        many = more;
    }
    refused(many, leaf->key_pem, NULL, "/chain", "more than 10");
    free(many);
    free(turned);
    free(strange);
    free(whole);
    free(mixed);
    test_cert_free(&leaf);
}

static void test_keys_that_do_not_do(void **state)
{
    (void)state;
    struct test_cert *leaf = test_leaf(root, "a.example", TEST_KEY_EC, -1, 90);
    struct test_cert *other = test_leaf(root, "a.example", TEST_KEY_EC, -1, 90);
    refused(leaf->chain_pem, other->key_pem, NULL, "/key", "does not fit");
    refused(leaf->chain_pem, leaf->leaf_pem, NULL, "/key", "no PEM private key");
    BIO *bio = BIO_new(BIO_s_mem());
    char *data;
    unsigned char pass[] = "pass";
    assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, leaf->key, EVP_aes_128_cbc(), (char *)pass,
                                                   4, NULL, NULL),
                     1);
    long len = BIO_get_mem_data(bio, &data);
    char *text = test_text(data, (size_t)len);
    refused(leaf->chain_pem, text, NULL, "/key", "encrypted");
    free(text);
    BIO_free(bio);
    bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PrivateKey_traditional(bio, leaf->key, EVP_aes_128_cbc(), pass,
                                                          4, NULL, NULL),
                     1);
    len = BIO_get_mem_data(bio, &data);
    text = test_text(data, (size_t)len);
    refused(leaf->chain_pem, text, NULL, "/key", "encrypted");
    free(text);
    BIO_free(bio);
    bio = BIO_new(BIO_s_mem()); // SEC1
    assert_int_equal(
        PEM_write_bio_PrivateKey_traditional(bio, leaf->key, NULL, NULL, 0, NULL, NULL), 1);
    len = BIO_get_mem_data(bio, &data);
    text = test_text(data, (size_t)len);
    struct result result = check(leaf->chain_pem, text, NULL);
    assert_int_equal(result.err, 0);
    forget(&result);
    free(text);
    BIO_free(bio);
    test_cert_free(&leaf);
    test_cert_free(&other);
}

// A self-signed certificate for a key.
static char *sign_own(EVP_PKEY *key, const EVP_MD *digest)
{
    X509 *leaf = X509_new();
    X509_set_version(leaf, X509_VERSION_3);
    X509_gmtime_adj(X509_getm_notBefore(leaf), 0);
    X509_gmtime_adj(X509_getm_notAfter(leaf), 86400);
    X509_set_pubkey(leaf, key);
    assert_true(X509_sign(leaf, key, digest) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    char *data;
    PEM_write_bio_X509(bio, leaf);
    long len = BIO_get_mem_data(bio, &data);
    char *text = test_text(data, (size_t)len);
    BIO_free(bio);
    X509_free(leaf);
    return text;
}

static char *write_key(EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data;
    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    long len = BIO_get_mem_data(bio, &data);
    char *text = test_text(data, (size_t)len);
    BIO_free(bio);
    return text;
}

static void test_key_sizes(void **state)
{
    (void)state;
    static const char *const curves[] = {"P-384", "P-521", "secp256k1"};
    static const char *const types[] = {"ec-p384", "ec-p521", NULL};
    for (unsigned i = 0; i < 3; i++) {
        EVP_PKEY *key = EVP_EC_gen(curves[i]);
        char *chain = sign_own(key, EVP_sha256());
        char *text = write_key(key);
        if (types[i] == NULL) {
            refused(chain, text, "[\"a.example\"]", "/key", "not supported");
        } else {
            struct result result = check(chain, text, "[\"a.example\"]");
            assert_int_equal(result.err, 0);
            assert_true(
                str_eq(result.declaration->certificate.facts.key_type, str_from_c(types[i])));
            forget(&result);
        }
        free(chain);
        free(text);
        EVP_PKEY_free(key);
    }
    EVP_PKEY *weak = EVP_RSA_gen(1024);
    char *chain = sign_own(weak, EVP_sha256());
    char *text = write_key(weak);
    refused(chain, text, "[\"a.example\"]", "/key", "shorter than 2048");
    free(chain);
    free(text);
    EVP_PKEY_free(weak);
}

static void test_dates_and_names(void **state)
{
    (void)state;
    struct test_cert *leaf = test_leaf(root, "a.example", TEST_KEY_EC, -10, -1);
    refused(leaf->chain_pem, leaf->key_pem, NULL, "/chain", "has expired on 2");
    test_cert_free(&leaf);
    leaf = test_leaf(root, "a.example,*.b.example", TEST_KEY_EC, -1, 10);
    refused(leaf->chain_pem, leaf->key_pem, "[\"a.example\",\"c.example\"]", "/hosts/1",
            "c.example");
    refused(leaf->chain_pem, leaf->key_pem, "[\"x.y.b.example\"]", "/hosts/0", "x.y.b.example");
    refused(leaf->chain_pem, leaf->key_pem, "[\"b.example\"]", "/hosts/0", "b.example");
    refused(leaf->chain_pem, leaf->key_pem, "[\"*.a.example\"]", "/hosts/0", "*.a.example");
    struct result result =
        check(leaf->chain_pem, leaf->key_pem, "[\"x.b.example\",\"*.b.example\",\"*\"]");
    assert_int_equal(result.err, 0);
    assert_int_equal(result.declaration->certificate.name_count, 3);
    forget(&result);
    test_cert_free(&leaf);
    leaf = test_leaf(root, "", TEST_KEY_EC, -1, 10); // no names at all, any usage: a client's
    result = check(leaf->chain_pem, leaf->key_pem, NULL);
    assert_int_equal(result.err, 0);
    assert_int_equal(result.declaration->certificate.name_count, 0);
    forget(&result);
    result = check(leaf->chain_pem, leaf->key_pem, "[\"any.example\"]");
    assert_int_equal(result.err, 0);
    forget(&result);
    test_cert_free(&leaf);
}

static void test_malformed(void **state)
{
    (void)state;
    static const char nothing[] = "-----BEGIN NOTHING-----\nAAAA\n-----END NOTHING-----\n";
    struct test_cert *leaf = test_leaf(root, "a.example", TEST_KEY_EC, -1, 10);
    size_t len = strlen(leaf->leaf_pem);
    for (size_t cut = 1; cut + 40 < len; cut += 7) {
        char *text = test_text(leaf->leaf_pem, len - cut);
        struct result result = check(text, leaf->key_pem, NULL);
        assert_true(result.err != 0 || cut < 2); // the last line feed is of no use
        forget(&result);
        free(text);
    }
    for (size_t i = 30; i + 30 < len; i += 11) {
        char *text = strdup(leaf->leaf_pem);
        text[i] = text[i] == 'A' ? 'Q' : 'A';
        struct result result = check(text, leaf->key_pem, NULL); // no crash; a signature may differ
        forget(&result);
        free(text);
    }
    refused(nothing, leaf->key_pem, NULL, "/chain", "no PEM certificate");
    refused(leaf->leaf_pem, nothing, NULL, "/key", "no PEM private key");
    test_cert_free(&leaf);
}

static void write_file(const char *name, const char *text, char *path, size_t size)
{
    snprintf(path, size, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    fclose(file);
}

static void test_files(void **state)
{
    (void)state;
    char chain[128];
    char key[128];
    char pipe[128];
    struct test_cert *leaf = test_leaf(middle, "a.example", TEST_KEY_EC, -1, 10);
    write_file("chain.pem", leaf->chain_pem, chain, sizeof chain);
    write_file("key.pem", leaf->key_pem, key, sizeof key);
    struct result result = check(chain, key, NULL);
    assert_int_equal(result.err, 0);
    assert_int_equal(result.declaration->certificate.name_count, 1);
    forget(&result);
    refused(chain, chain, NULL, "/key_file", "no PEM private key");
    refused("/nowhere/chain.pem", key, NULL, "/chain_file", "/nowhere/chain.pem: ");
    refused(folder, key, NULL, "/chain_file", "not a regular file");
    snprintf(pipe, sizeof pipe, "%s/pipe", folder);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    refused(pipe, key, NULL, "/chain_file", "not a regular file"); // and does not wait for a writer
    assert_int_equal(truncate(key, 65537), 0);
    refused(chain, key, NULL, "/key_file", "larger than 64 KiB");
    unlink(chain);
    unlink(key);
    unlink(pipe);
    test_cert_free(&leaf);
}

static void test_bundles(void **state)
{
    (void)state;
    struct problems problems;
    unsigned count = 0;
    problems_init(&problems);
    char *two = join(root->leaf_pem, middle->leaf_pem);
    assert_int_equal(cert_check_ca(str_from_c(two), "/tls/ca", &count, &problems), 0);
    assert_int_equal(count, 2);
    char *mixed = join(two, root->key_pem);
    assert_int_equal(cert_check_ca(str_from_c(mixed), "/tls/ca", &count, &problems), ERR_INVALID);
    assert_string_equal(problems.items[0].pointer, "/tls/ca");
    assert_int_equal(cert_check_ca(STR("none"), "/tls/ca", &count, &problems), ERR_INVALID);
    assert_int_equal(cert_check_ca(STR(""), "/tls/ca", &count, &problems), ERR_INVALID);
    assert_int_equal(cert_check_ca(str_make(two, strlen(two) - 40), "/ca", &count, &problems),
                     ERR_INVALID);
    struct buf many;
    buf_init(&many, 0);
    for (unsigned i = 0; i < 100; i++) {
        buf_put(&many, str_from_c(root->leaf_pem));
    }
    assert_int_equal(cert_check_ca(buf_str(&many), "/ca", &count, &problems), 0);
    assert_int_equal(count, 100);
    buf_put(&many, str_from_c(root->leaf_pem));
    assert_int_equal(cert_check_ca(buf_str(&many), "/ca", &count, &problems), ERR_INVALID);
    while (many.len <= 256 * 1024) {
        buf_put(&many, str_from_c(root->leaf_pem));
    }
    assert_int_equal(cert_check_ca(buf_str(&many), "/ca", &count, &problems), ERR_INVALID);
    buf_fini(&many);
    free(two);
    free(mixed);
    problems_fini(&problems);
}

static int begin(void **state)
{
    (void)state;
    root = test_ca("root");
    middle = test_intermediate(root, "middle");
    return mkdtemp(folder) == NULL;
}

static int end(void **state)
{
    (void)state;
    test_cert_free(&root);
    test_cert_free(&middle);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts),       cmocka_unit_test(test_key_types),
        cmocka_unit_test(test_chain_order), cmocka_unit_test(test_keys_that_do_not_do),
        cmocka_unit_test(test_key_sizes),   cmocka_unit_test(test_dates_and_names),
        cmocka_unit_test(test_malformed),   cmocka_unit_test(test_files),
        cmocka_unit_test(test_bundles),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
