// SPDX-License-Identifier: MIT
#include "base/hash.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

// SipHash-1-3 of 00 01 02 ... with the key 00 01 ... 0f, which is what stands before hash_seed().
static const struct {
    size_t len;
    uint64_t hash;
} vectors[] = {
    {0, 0xabac0158050fc4dcu},  {1, 0xc9f49bf37d57ca93u},  {7, 0xd3927d989bb11140u},
    {8, 0x369095118d299a8eu},  {9, 0x25a48eb36c063de4u},  {15, 0xd320d86d2a519956u},
    {16, 0xcc4fdd1a7d908b66u}, {63, 0x9d199062b7bbb3a8u},
};

static void test_vectors(void **state)
{
    (void)state;
    unsigned char input[65];
    for (size_t shift = 0; shift < 2; shift++) { // aligned and not
        for (size_t i = 0; i < 64; i++) {
            input[shift + i] = (unsigned char)i;
        }
        for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
            assert_true(hash_bytes(input + shift, vectors[i].len) == vectors[i].hash);
        }
    }
    assert_true(hash_str(STR_NULL) == vectors[0].hash);
}

static void test_seed(void **state)
{
    (void)state;
    uint64_t before = hash_str(STR("shop.example.com"));
    hash_seed();
    uint64_t seeded = hash_str(STR("shop.example.com"));
    assert_true(before != seeded);
    hash_seed(); // does nothing more
    assert_true(hash_str(STR("shop.example.com")) == seeded);
    assert_true(hash_str(STR("shop.example.con")) != seeded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors), // first: before the key is drawn
        cmocka_unit_test(test_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
