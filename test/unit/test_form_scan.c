// SPDX-License-Identifier: MIT
// One field of a form: whole, byte by byte and split at each place with the same result.
#include "proxy/form_scan.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define MULTIPART "multipart/form-data; boundary=\"b-1\""

static enum form_state scan_pieces(struct form_scan *scan, struct str text, size_t first,
                                   size_t piece)
{
    enum form_state state = FORM_WANTS_MORE;
    size_t n = first;
    for (size_t at = 0; at < text.len; at += n, n = piece) {
        n = n < text.len - at ? n : text.len - at;
        state = form_scan_put(scan, str_sub(text, at, n));
    }
    return state;
}

static void begin(struct form_scan *scan, const char *type, const char *name)
{
    struct str boundary = STR_NULL;
    enum form_kind kind = form_kind_of(str_from_c(type), &boundary);
    form_scan_init(scan, kind, str_from_c(name), boundary);
}

// The field has this value (NULL: is absent), however the form comes.
static void check(const char *type, const char *form, const char *name, const char *value)
{
    struct str text = str_from_c(form);
    for (size_t first = 1; first <= text.len; first++) {
        for (int whole = 0; whole < 2; whole++) {
            struct form_scan scan;
            begin(&scan, type, name);
            scan_pieces(&scan, text, first, whole ? text.len : 1);
            assert_int_equal(form_scan_end(&scan), value == NULL ? FORM_ABSENT : FORM_FOUND);
            if (value != NULL) {
                assert_true(form_scan_hash(&scan) == key_hash(value, strlen(value)));
            }
        }
    }
}

static void test_pairs(void **state)
{
    (void)state;
    const char *type = "Application/X-WWW-Form-Urlencoded; charset=utf-8";
    check(type, "user=abc", "user", "abc");
    check(type, "a=1&user=abc&user=def", "user", "abc");
    check(type, "a=1&us%65r=%61+b%2B&c", "user", "a b+");
    check(type, "user=100%&x=1", "user", "100%");
    check(type, "user=%4&x=1", "user", "%4");
    check(type, "user=%zz%%41", "user", "%zz%A");
    check(type, "user==a=b", "user", "=a=b");
    check(type, "user", "user", "");
    check(type, "user=", "user", "");
    check(type, "a&user&b", "user", "");
    check(type, "users=1&use=2&xuser=3", "user", NULL);
    check(type, "&&&=user&", "user", NULL);
    check("text/plain", "user=abc", "user", NULL);
}

static void test_multipart(void **state)
{
    (void)state;
    const char *form = "--b-1\r\n"
                       "Content-Disposition: form-data; name=\"file\"; filename=\"name=user;x\"\r\n"
                       "Content-Type: text/plain\r\n"
                       "\r\n"
                       "--b-2\r\n--b-\r\nuser\r\n"
                       "--b-1 \r\n"
                       "content-disposition: form-data; name=user\r\n"
                       "\r\n"
                       "line\r\n--b-\r\r\n--b\r\n\r\n"
                       "--b-1\r\n"
                       "Content-Disposition: form-data; name=\"last\"\r\n"
                       "\r\n"
                       "\r\n"
                       "--b-1--\r\n"
                       "Content-Disposition: form-data; name=\"behind\"\r\n\r\nx\r\n--b-1\r\n";
    check(MULTIPART, form, "user", "line\r\n--b-\r\r\n--b\r\n");
    check(MULTIPART, form, "file", "--b-2\r\n--b-\r\nuser");
    check(MULTIPART, form, "last", "");
    check(MULTIPART, form, "behind", NULL);
    check(MULTIPART, form, "name=user;x", NULL);
    check("multipart/form-data", form, "user", NULL);
    check("multipart/form-data; boundary=", form, "user", NULL);
    // Of a part that does not end nothing is known.
    check(MULTIPART, "--b-1\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nabc", "user",
          NULL);
}

// What follows the field is not looked at.
static void test_stops_early(void **state)
{
    (void)state;
    struct form_scan scan;
    begin(&scan, "application/x-www-form-urlencoded", "user");
    assert_int_equal(form_scan_put(&scan, STR("user=a")), FORM_WANTS_MORE);
    assert_int_equal(form_scan_put(&scan, STR("b&")), FORM_FOUND);
    assert_int_equal(form_scan_put(&scan, STR("user=zz&")), FORM_FOUND);
    assert_true(form_scan_hash(&scan) == key_hash("ab", 2));
}

static void test_long_lines(void **state)
{
    (void)state;
    struct form_scan scan;
    begin(&scan, MULTIPART, "user");
    form_scan_put(&scan, STR("--b-1\r\nX-Long: "));
    for (int i = 0; i < 1000; i++) {
        form_scan_put(&scan, STR("0123456789"));
    }
    form_scan_put(&scan,
                  STR("\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nv\r\n--b-1"));
    assert_int_equal(form_scan_end(&scan), FORM_FOUND);
    assert_true(form_scan_hash(&scan) == key_hash("v", 1));
}

// Other nodes, and this one after a restart, must come to the same.
static void test_hash_is_fixed(void **state)
{
    (void)state;
    assert_true(key_hash("", 0) == UINT64_C(0xEFD01F60BA992926));
    assert_true(key_hash("pointsman", 9) == UINT64_C(0x5CAD0C407DCC2D2C));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),         cmocka_unit_test(test_multipart),
        cmocka_unit_test(test_stops_early),   cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_hash_is_fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
