// SPDX-License-Identifier: MIT
// Consistent hashing: how evenly it spreads, what it moves, how it bounds load.
#include "../support/pool_fixture.h"
#include <stdio.h>

enum { KEYS = 100000 };

static uint64_t state = 88172645463325252u;

// Of key number i: as a hash of it would be.
static uint64_t key_of(unsigned i)
{
    uint64_t key = i * UINT64_C(0x9e3779b97f4a7c15) + 1;
    key = (key ^ key >> 33) * UINT64_C(0xff51afd7ed558ccd);
    key = (key ^ key >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return key ^ key >> 33;
}

static int pick(struct pool_fixture *f, uint64_t key)
{
    struct pool_choice choice = {.random = fixture_random(&state), .hash = key, .has_hash = true};
    return fixture_pick(f, &choice);
}

// Where each key goes while nobody has load.
static void map_keys(struct pool_fixture *f, int *to)
{
    fixture_look(f);
    for (unsigned i = 0; i < KEYS; i++) {
        to[i] = pick(f, key_of(i));
        assert_true(to[i] >= 0);
        fixture_put(f, to[i]);
    }
}

static int *make_map(void)
{
    int *map = calloc(KEYS, sizeof *map);
    assert_non_null(map);
    return map;
}

static double find_chi_square(const struct pool_fixture *f, const int *map)
{
    unsigned counts[FIXTURE_MAX] = {0};
    uint64_t weights = 0;
    double chi = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        counts[map[i]]++;
    }
    for (unsigned i = 0; i < f->count; i++) {
        weights += f->candidates[i].weight;
    }
    for (unsigned i = 0; i < f->count; i++) {
        double due = (double)KEYS * f->candidates[i].weight / (double)weights;
        chi += ((double)counts[i] - due) * ((double)counts[i] - due) / due;
    }
    return chi;
}

// n targets of the given weights: spread; then one more; then one that is dead.
static void check_spread(unsigned count, unsigned heaviest, double bound)
{
    struct pool_fixture *f = fixture_new(BALANCE_HASH);
    int *before = make_map();
    int *after = make_map();
    unsigned weights = 0;
    for (unsigned i = 0; i < count; i++) {
        weights += 1 + i % heaviest;
        fixture_add(f, 1 + i % heaviest);
    }
    map_keys(f, before);
    double chi = find_chi_square(f, before);
    assert_true(chi < bound);

    fixture_add(f, 1);
    map_keys(f, after);
    unsigned moved = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        if (after[i] != before[i]) {
            assert_int_equal(after[i], count); // to the new one alone
            moved++;
        }
    }
    double share = (double)moved / KEYS * (weights + 1);
    assert_true(share > 0.7 && share < 1.3);

    f->candidates[0].health = HEALTH_DOWN;
    map_keys(f, before);
    unsigned counts[FIXTURE_MAX] = {0};
    unsigned lost = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        if (after[i] == 0) {
            counts[before[i]]++;
            lost++;
        } else {
            assert_int_equal(before[i], after[i]);
        }
    }
    // The keys of the dead one are spread over all others.
    for (unsigned i = 1; i <= count; i++) {
        double due = (double)lost * f->candidates[i].weight / weights;
        double off = (double)counts[i] - due;
        assert_true(off * off <= 25 * due + 25); // 5 standard deviations
    }
    // And back.
    f->candidates[0].health = HEALTH_UP;
    map_keys(f, before);
    assert_memory_equal(before, after, KEYS * sizeof *after);
    print_message("%u targets, weights to %u: chi-square %.1f of %.1f, moved %.3f/n\n", count,
                  heaviest, chi, bound, share);
    free(before);
    free(after);
    fixture_free(&f);
}

static void test_spread_and_moves(void **unused)
{
    (void)unused;
    // Chi-square with p = 0.001.
    check_spread(3, 1, 13.82);
    check_spread(10, 1, 27.88);
    check_spread(100, 1, 148.23);
    check_spread(10, 7, 27.88);
    check_spread(100, 7, 148.23);
}

// All requests stay under way; most are for a few keys.
static void check_bound(unsigned count, unsigned heaviest)
{
    struct pool_fixture *f = fixture_new(BALANCE_HASH);
    unsigned weights = 0;
    for (unsigned i = 0; i < count; i++) {
        weights += 1 + i % heaviest;
        fixture_add(f, 1 + i % heaviest);
    }
    fixture_look(f);
    unsigned requests = 200 * count;
    for (unsigned i = 0; i < requests; i++) {
        uint64_t random = fixture_random(&state);
        int index = pick(f, key_of(random % 2 == 0 ? 5 : (unsigned)(random >> 32) % 100));
        double has = pool_member_requests(f->candidates[index].member);
        double share = (double)(i + 1) * f->candidates[index].weight / weights;
        assert_true(has <= 4 || has <= 1.25 * share + 1);
    }
    double worst = 0;
    for (unsigned i = 0; i < count; i++) {
        double share = (double)requests * f->candidates[i].weight / weights;
        double has = pool_member_requests(f->candidates[i].member);
        assert_true(has <= 1.25 * share + 1);
        worst = has / share > worst ? has / share : worst;
    }
    print_message("%u targets, weights to %u: fullest %.3f of its share\n", count, heaviest, worst);
    fixture_free(&f);
}

static void test_load_is_bounded(void **unused)
{
    (void)unused;
    check_bound(2, 1);
    check_bound(10, 1);
    check_bound(100, 1);
    check_bound(10, 5);
}

static void test_one_key_stays_where_it_is(void **unused)
{
    (void)unused;
    struct pool_fixture *f = fixture_new(BALANCE_HASH);
    for (unsigned i = 0; i < 50; i++) {
        fixture_add(f, 1 + i % 3);
    }
    fixture_look(f);
    // Up to the floor all at one place, whatever the others have; then its second best.
    int first = pick(f, 42);
    for (unsigned i = 1; i < 4; i++) {
        assert_int_equal(pick(f, 42), first);
    }
    int second = pick(f, 42);
    assert_int_not_equal(second, first);
    fixture_put(f, first);
    assert_int_equal(pick(f, 42), first);
    struct pool_member *tried[] = {f->candidates[first].member};
    struct pool_choice choice = {.hash = 42, .has_hash = true, .tried = tried, .tried_count = 1};
    assert_int_equal(fixture_pick(f, &choice), second);
    // The order of the candidates is no matter.
    struct pool_candidate last = f->candidates[49];
    struct pool_member *member = f->candidates[first].member;
    if (first != 49) {
        f->candidates[49] = f->candidates[first];
        f->candidates[first] = last;
    }
    for (unsigned i = 0; i < 4; i++) {
        pool_member_put(member);
    }
    fixture_look(f);
    assert_int_equal(pick(f, 42), 49);
    // Without a key it is by requests.
    choice = (struct pool_choice){.random = 7};
    for (unsigned i = 0; i < 20; i++) {
        int index = fixture_pick(f, &choice);
        assert_int_equal(pool_member_requests(f->candidates[index].member), 1);
    }
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spread_and_moves),
        cmocka_unit_test(test_load_is_bounded),
        cmocka_unit_test(test_one_key_stays_where_it_is),
    };
    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
