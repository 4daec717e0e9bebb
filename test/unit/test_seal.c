// SPDX-License-Identifier: MIT
#include "cert/seal.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define KEY_A "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F"
#define KEY_B "c2VjcmV0IGtleSBvZiBleGFjdGx5IDMyIGJ5dGVzISE="

static char folder[] = "/tmp/test_seal_XXXXXX";
static char path[64];

static void write_file(const char *text, mode_t mode)
{
    (void)unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static struct seal *open_keys(const char *text)
{
    struct problems problems;
    struct seal *seal = NULL;
    problems_init(&problems);
    write_file(text, 0600);
    assert_int_equal(seal_open_file(&seal, path, &problems), 0);
    assert_int_equal(problems.count, 0);
    return seal;
}

static void refuses(const char *text, mode_t mode, const char *detail)
{
    struct problems problems;
    struct seal *seal = NULL;
    problems_init(&problems);
    write_file(text, mode);
    assert_int_equal(seal_open_file(&seal, path, &problems), ERR_INVALID);
    assert_null(seal);
    assert_int_equal(problems.count, 1);
    assert_non_null(strstr(problems.items[0].detail, detail));
    assert_non_null(strstr(problems.items[0].detail, path));
    problems_fini(&problems);
}

static void opens(const struct seal *seal, const char *context, struct str sealed, int err,
                  const char *plain)
{
    struct buf to;
    buf_init(&to, 0);
    assert_int_equal(seal_open(seal, str_from_c(context), sealed, &to), err);
    assert_true(str_eq(buf_str(&to), str_from_c(err == 0 ? plain : "")));
    buf_fini(&to);
}

static struct buf close_it(const struct seal *seal, const char *context, const char *plain)
{
    struct buf to;
    buf_init(&to, 0);
    assert_int_equal(seal_close(seal, str_from_c(context), str_from_c(plain), &to), 0);
    return to;
}

static void test_there_and_back(void **state)
{
    (void)state;
    struct seal *seal = open_keys("# keys\n\n  " KEY_A "  \r\n" KEY_B "\n");
    assert_true(seal_has_key(seal));
    struct buf sealed = close_it(seal, "certificates/shop", "the secret");
    assert_true(str_starts(buf_str(&sealed), STR("pm1:")));
    assert_int_equal(str_find(buf_str(&sealed), STR("secret")), SIZE_MAX);
    opens(seal, "certificates/shop", buf_str(&sealed), 0, "the secret");
    opens(seal, "certificates/other", buf_str(&sealed), ERR_INVALID, NULL);
    struct buf again = close_it(seal, "certificates/shop", "the secret");
    assert_false(str_eq(buf_str(&again), buf_str(&sealed))); // another nonce
    buf_fini(&again);
    again = close_it(seal, "c", "");
    opens(seal, "c", buf_str(&again), 0, "");
    buf_fini(&again);
    buf_fini(&sealed);
    seal_free(&seal);
}

static void test_damage_is_seen(void **state)
{
    (void)state;
    struct seal *seal = open_keys(KEY_A "\n");
    struct buf sealed = close_it(seal, "c", "the secret");
    for (size_t i = 4; i < sealed.len; i++) {
        struct buf to;
        buf_init(&to, 0);
        char before = sealed.p[i];
        for (int c = 1; c < 128; c++) {
            if (c != before) {
                sealed.p[i] = (char)c;
                assert_int_not_equal(seal_open(seal, STR("c"), buf_str(&sealed), &to), 0);
                assert_int_equal(to.len, 0);
            }
        }
        sealed.p[i] = before;
        assert_int_not_equal(seal_open(seal, STR("c"), str_sub(buf_str(&sealed), 0, i), &to), 0);
        buf_fini(&to);
    }
    opens(seal, "c", buf_str(&sealed), 0, "the secret");
    buf_fini(&sealed);
    seal_free(&seal);
}

static void test_keys_rotate(void **state)
{
    (void)state;
    struct seal *one = open_keys(KEY_A "\n");
    struct seal *two = open_keys(KEY_B "\n" KEY_A "\n");
    struct seal *other = open_keys(KEY_B "\n");
    struct buf sealed = close_it(one, "c", "old");
    assert_true(seal_is_current(one, buf_str(&sealed)));
    assert_false(seal_is_current(two, buf_str(&sealed)));
    opens(two, "c", buf_str(&sealed), 0, "old");
    opens(other, "c", buf_str(&sealed), ERR_NOT_FOUND, NULL);
    opens(NULL, "c", buf_str(&sealed), ERR_NOT_FOUND, NULL);
    opens(two, "c", STR("plain"), 0, "plain"); // from before there was a key
    assert_false(seal_is_current(two, STR("plain")));
    buf_fini(&sealed);
    sealed = close_it(two, "c", "new");
    opens(other, "c", buf_str(&sealed), 0, "new");
    buf_fini(&sealed);
    seal_free(&one);
    seal_free(&two);
    seal_free(&other);
}

static void test_without_keys(void **state)
{
    (void)state;
    struct problems problems;
    struct seal *seal = NULL;
    problems_init(&problems);
    assert_int_equal(seal_open_file(&seal, "", &problems), 0);
    assert_false(seal_has_key(seal));
    struct buf sealed = close_it(seal, "c", "text");
    assert_true(str_eq(buf_str(&sealed), STR("text")));
    assert_true(seal_is_current(seal, buf_str(&sealed)));
    assert_false(seal_is_current(seal, STR("pm1:00000000:AAAA")));
    buf_fini(&sealed);
    seal_free(&seal);
    assert_int_equal(seal_open_file(&seal, "/nowhere/keys", &problems), ERR_SYSTEM);
    problems_fini(&problems);
}

static void test_bad_files(void **state)
{
    (void)state;
    refuses(KEY_A "\n", 0644, "others than its owner");
    refuses(KEY_A "\n", 0620, "others than its owner");
    refuses("# nothing\n", 0600, "no key");
    refuses("", 0600, "no key");
    refuses("# one\n" KEY_A "0\n", 0600, ":2:");
    refuses(KEY_A "\nshort\n", 0600, ":2:");
    refuses("=" KEY_B, 0600, ":1:");
    static char many[65 * 66];
    for (unsigned i = 0; i < 65; i++) {
        memcpy(many + i * 65, KEY_A "\n", 65);
    }
    refuses(many, 0600, "at most 64");
    struct problems problems;
    struct seal *seal = NULL;
    problems_init(&problems);
    assert_int_equal(seal_open_file(&seal, folder, &problems), ERR_INVALID);
    problems_fini(&problems);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_damage_is_seen),
        cmocka_unit_test(test_keys_rotate),    cmocka_unit_test(test_without_keys),
        cmocka_unit_test(test_bad_files),
    };
    if (mkdtemp(folder) == NULL) {
        return 1;
    }
    (void)chmod(folder, 0700);
    snprintf(path, sizeof path, "%s/keys", folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)unlink(path);
    (void)rmdir(folder);
    return failed;
}
