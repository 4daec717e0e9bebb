// SPDX-License-Identifier: MIT
// Whom a view offers, and in which order.
#include "../support/pool_fixture.h"

static uint64_t state = 88172645463325252u;

static int pick(struct pool_fixture *f)
{
    struct pool_choice choice = {.random = fixture_random(&state)};
    return fixture_pick(f, &choice);
}

// A bit for each that is picked when nobody is under way; nobody stays counted.
static unsigned offered(struct pool_fixture *f)
{
    unsigned seen = 0;
    fixture_look(f);
    for (unsigned i = 0; i < 200; i++) {
        int index = pick(f);
        if (index >= 0) {
            seen |= 1u << index;
            fixture_put(f, index);
        }
    }
    return seen;
}

static void test_unknown_ones_wait_for_the_known(void **unused)
{
    (void)unused;
    struct pool_fixture *f = fixture_new(BALANCE_LEAST_REQUESTS);
    for (unsigned i = 0; i < 4; i++) {
        fixture_add(f, 1)->health = HEALTH_UNKNOWN;
    }
    assert_int_equal(offered(f), 15); // nobody was checked yet
    assert_int_equal(f->facts.usable, 4);
    f->candidates[2].health = HEALTH_UP;
    assert_int_equal(offered(f), 4);
    f->candidates[2].health = HEALTH_DOWN;
    assert_int_equal(offered(f), 11);
    // A backup that is up says nothing of the others.
    f->candidates[2].health = HEALTH_UP;
    f->candidates[2].is_backup = true;
    assert_int_equal(offered(f), 11);
    fixture_free(&f);
}

static void test_all_down_is_nobody(void **unused)
{
    (void)unused;
    struct pool_fixture *f = fixture_new(BALANCE_LEAST_REQUESTS);
    f->own.settings.panic_percent = 100;
    for (unsigned i = 0; i < 3; i++) {
        fixture_add(f, 1)->health = HEALTH_DOWN;
    }
    assert_int_equal(offered(f), 0); // panic is for ejections alone
    assert_int_equal(pick(f), FIXTURE_NONE);
    assert_false(f->facts.is_panic);
    assert_int_equal(f->facts.usable, 0);
    assert_int_equal(f->facts.declared, 3);
    f->candidates[0].health = HEALTH_UP;
    f->candidates[0].declared = TARGET_DOWN;
    assert_int_equal(offered(f), 0);
    f->candidates[0].declared = TARGET_DRAIN;
    assert_int_equal(offered(f), 0);
    f->candidates[0].declared = TARGET_UP;
    f->candidates[0].weight = 0;
    assert_int_equal(offered(f), 0);
    assert_int_equal(f->facts.declared, 2);
    fixture_free(&f);
}

static void test_panic_at_its_edge(void **unused)
{
    (void)unused;
    struct pool_fixture *f = fixture_new(BALANCE_LEAST_REQUESTS);
    for (unsigned i = 0; i < 10; i++) {
        fixture_add(f, 1)->is_ejected = i < 5;
    }
    assert_int_equal(offered(f), 0x3e0); // half of them is not fewer than 50 percent
    assert_false(f->facts.is_panic);
    f->candidates[5].is_ejected = true;
    assert_int_equal(offered(f), 0x3ff);
    assert_true(f->facts.is_panic);
    assert_int_equal(f->facts.usable, 10);
    // Those that are down by checks are not asked for, and count for nothing.
    f->candidates[0].health = HEALTH_DOWN;
    assert_int_equal(offered(f), 0x3ff & ~1u);
    f->candidates[1].health = HEALTH_DOWN;
    assert_int_equal(offered(f), 0x3c0); // 4 of 8
    assert_false(f->facts.is_panic);
    f->own.settings.panic_percent = 51;
    assert_int_equal(offered(f), 0x3fc);
    f->own.settings.panic_percent = 0;
    for (unsigned i = 0; i < 10; i++) {
        f->candidates[i].is_ejected = true;
    }
    assert_int_equal(offered(f), 0); // never
    assert_false(f->facts.is_panic);
    fixture_free(&f);
}

static void test_zones_at_their_edge(void **unused)
{
    (void)unused;
    struct pool_fixture *f = fixture_new(BALANCE_LEAST_REQUESTS);
    for (unsigned i = 0; i < 8; i++) {
        fixture_add(f, 1)->is_far = i >= 4;
    }
    assert_int_equal(offered(f), 0x0f);
    f->candidates[0].health = HEALTH_DOWN;
    f->candidates[1].health = HEALTH_DOWN;
    assert_int_equal(offered(f), 0x0c); // half of the near ones
    f->candidates[2].health = HEALTH_DOWN;
    assert_int_equal(offered(f), 0xf8); // fewer: all are one tier
    f->candidates[3].health = HEALTH_DOWN;
    assert_int_equal(offered(f), 0xf0);
    // Full ones spill over before the threshold.
    for (unsigned i = 0; i < 4; i++) {
        f->candidates[i].health = HEALTH_UP;
    }
    f->own.settings.requests_per_target = 1;
    fixture_look(f);
    unsigned seen = 0;
    for (unsigned i = 0; i < 4; i++) {
        seen |= 1u << pick(f);
    }
    assert_int_equal(seen, 0x0f);
    for (unsigned i = 0; i < 4; i++) {
        seen |= 1u << pick(f);
    }
    assert_int_equal(seen, 0xff);
    assert_int_equal(pick(f), FIXTURE_FULL);
    fixture_put(f, 2);
    assert_int_equal(pick(f), 2);
    fixture_free(&f);
}

static void test_backups_come_last(void **unused)
{
    (void)unused;
    struct pool_fixture *f = fixture_new(BALANCE_LEAST_REQUESTS);
    for (unsigned i = 0; i < 4; i++) {
        fixture_add(f, 1)->is_backup = i >= 2;
    }
    assert_int_equal(offered(f), 3);
    assert_int_equal(f->facts.usable, 4);
    assert_int_equal(f->facts.declared, 2);
    f->candidates[0].health = HEALTH_DOWN;
    assert_int_equal(offered(f), 2);
    f->candidates[1].is_ejected = true; // 0 of 1: panic, it is used still
    assert_int_equal(offered(f), 2);
    f->candidates[1].health = HEALTH_DOWN;
    assert_int_equal(offered(f), 12);
    // One that was tried is not tried again: then the backups.
    f->candidates[1] = (struct pool_candidate){
        .member = f->candidates[1].member, .weight = 1, .warm = 1000, .health = HEALTH_UP};
    fixture_look(f);
    struct pool_member *tried[3];
    struct pool_choice choice = {.tried = tried};
    for (unsigned i = 0; i < 3; i++) {
        int index = fixture_pick(f, &choice);
        assert_true(i == 0 ? index == 1 : index == 2 || index == 3);
        tried[choice.tried_count++] = f->candidates[index].member;
    }
    assert_int_equal(fixture_pick(f, &choice), FIXTURE_NONE);
    fixture_free(&f);
}

static void check_full(enum balance balance)
{
    struct pool_fixture *f = fixture_new(balance);
    f->own.settings.requests_per_target = 7;
    for (unsigned i = 0; i < 9; i++) {
        fixture_add(f, 1 + i % 3);
    }
    fixture_look(f);
    struct pool_choice choice = {.has_hash = true};
    for (unsigned i = 0; i < 63; i++) {
        choice.random = fixture_random(&state);
        choice.hash = fixture_random(&state);
        assert_true(fixture_pick(f, &choice) >= 0);
    }
    for (unsigned i = 0; i < 9; i++) {
        assert_int_equal(pool_member_requests(f->candidates[i].member), 7);
    }
    assert_int_equal(fixture_pick(f, &choice), FIXTURE_FULL);
    struct pool_member *tried[] = {f->candidates[4].member};
    fixture_put(f, 4);
    choice.tried = tried;
    choice.tried_count = 1;
    assert_int_equal(fixture_pick(f, &choice), FIXTURE_FULL);
    choice.tried_count = 0;
    assert_int_equal(fixture_pick(f, &choice), 4);
    fixture_free(&f);
}

static void test_limits_of_targets(void **unused)
{
    (void)unused;
    check_full(BALANCE_LEAST_REQUESTS);
    check_full(BALANCE_ROUND_ROBIN);
    check_full(BALANCE_RANDOM_TWO);
    check_full(BALANCE_HASH);
}

static uint64_t id_of(const struct pool_fixture *f, unsigned index)
{
    return pool_target_of(f->candidates[index].member)->id;
}

static void test_sticky(void **unused)
{
    (void)unused;
    struct pool_fixture *f = fixture_new(BALANCE_LEAST_REQUESTS);
    f->own.settings.sticky = (struct sticky_decl){.cookie = STR("s"), .stays = true};
    for (unsigned i = 0; i < 20; i++) {
        fixture_add(f, 1);
    }
    fixture_look(f);
    for (unsigned i = 0; i < 20; i++) {
        struct pool_choice choice = {.random = fixture_random(&state), .sticky = id_of(f, i)};
        for (unsigned k = 0; k < 3; k++) {
            assert_int_equal(fixture_pick(f, &choice), i);
        }
    }
    // Draining, and weight 0: still theirs. Down or ejected, or not to stay: another one.
    struct pool_choice choice = {.sticky = id_of(f, 7)};
    f->candidates[7].declared = TARGET_DRAIN;
    fixture_look(f);
    assert_int_equal(fixture_pick(f, &choice), 7);
    f->candidates[7].declared = TARGET_UP;
    f->candidates[7].weight = 0;
    fixture_look(f);
    assert_int_equal(fixture_pick(f, &choice), 7);
    f->own.settings.sticky.stays = false;
    fixture_look(f);
    assert_int_not_equal(fixture_pick(f, &choice), 7);
    f->own.settings.sticky.stays = true;
    f->candidates[7].health = HEALTH_DOWN;
    fixture_look(f);
    assert_int_not_equal(fixture_pick(f, &choice), 7);
    f->candidates[7].health = HEALTH_UP;
    f->candidates[7].is_ejected = true;
    fixture_look(f);
    assert_int_not_equal(fixture_pick(f, &choice), 7);
    // At its limit, or tried: not waited for.
    f->candidates[7].is_ejected = false;
    f->candidates[7].weight = 1;
    f->own.settings.requests_per_target = 6;
    fixture_look(f);
    while (pool_member_requests(f->candidates[7].member) < 6) {
        assert_int_equal(fixture_pick(f, &choice), 7);
    }
    assert_int_not_equal(fixture_pick(f, &choice), 7);
    struct pool_member *tried[] = {f->candidates[3].member};
    choice = (struct pool_choice){.sticky = id_of(f, 3), .tried = tried, .tried_count = 1};
    assert_int_not_equal(fixture_pick(f, &choice), 3);
    choice = (struct pool_choice){.sticky = 12345}; // of nobody
    assert_true(fixture_pick(f, &choice) >= 0);
    fixture_free(&f);
}

static void test_slow_start_has_its_share(void **unused)
{
    (void)unused;
    static const enum balance balances[] = {BALANCE_LEAST_REQUESTS, BALANCE_ROUND_ROBIN,
                                            BALANCE_HASH};
    for (unsigned b = 0; b < 3; b++) {
        struct pool_fixture *f = fixture_new(balances[b]);
        for (unsigned i = 0; i < 4; i++) {
            fixture_add(f, 3);
        }
        f->candidates[3].warm = 250;
        fixture_look(f);
        unsigned counts[4] = {0};
        for (unsigned i = 0; i < 13000; i++) {
            struct pool_choice choice = {
                .random = fixture_random(&state), .hash = fixture_random(&state), .has_hash = true};
            int index = fixture_pick(f, &choice);
            counts[index]++;
            if (balances[b] == BALANCE_HASH) {
                fixture_put(f, index); // all stay under way in the others
            }
        }
        assert_in_range(counts[3], 900, 1100);
        assert_in_range(counts[0], 3800, 4200);
        fixture_free(&f);
    }
}

static void test_least_requests_is_exact(void **unused)
{
    (void)unused;
    struct pool_fixture *f = fixture_new(BALANCE_LEAST_REQUESTS);
    static const unsigned weights[] = {1, 2, 5};
    for (unsigned i = 0; i < 3; i++) {
        fixture_add(f, weights[i]);
    }
    fixture_look(f);
    for (unsigned i = 0; i < 80; i++) {
        assert_true(pick(f) >= 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pool_member_requests(f->candidates[i].member), 10 * weights[i]);
    }
    // The count is the target's, whatever view it is seen by.
    fixture_look(f);
    fixture_put(f, 1);
    assert_int_equal(pick(f), 1);
    fixture_free(&f);
}

static void test_even_ones_fill_up_level(void **unused)
{
    (void)unused;
    struct pool_fixture *f = fixture_new(BALANCE_LEAST_REQUESTS);
    for (unsigned i = 0; i < 100; i++) {
        fixture_add(f, 4);
    }
    fixture_look(f);
    for (unsigned i = 0; i < 1000; i++) {
        int index = pick(f);
        assert_int_equal(pool_member_requests(f->candidates[index].member), i / 100 + 1);
    }
    for (unsigned i = 0; i < 500; i++) { // the emptiest, wherever it is
        unsigned index = (unsigned)(fixture_random(&state) % 100);
        fixture_put(f, (int)index);
        assert_int_equal(pick(f), index);
    }
    fixture_free(&f);
}

static void test_round_robin_is_smooth(void **unused)
{
    (void)unused;
    static const unsigned weights[] = {97, 89, 83, 79, 73};
    struct pool_fixture *f = fixture_new(BALANCE_ROUND_ROBIN);
    unsigned counts[5] = {0};
    unsigned total = 0;
    for (unsigned i = 0; i < 5; i++) {
        fixture_add(f, weights[i]);
        total += weights[i];
    }
    fixture_look(f);
    for (unsigned step = 1; step <= total; step++) {
        counts[pick(f)]++;
        for (unsigned i = 0; i < 5; i++) {
            double due = (double)step * weights[i] / total;
            assert_true((double)counts[i] - due < 3 && due - (double)counts[i] < 3);
        }
    }
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(counts[i], weights[i]);
        f->candidates[i].weight = 65535;
    }
    // Equal ones in turn; those that are out leave no gap.
    f->candidates[1].declared = TARGET_DRAIN;
    fixture_look(f);
    static const int order[] = {0, 2, 3, 4};
    int first = pick(f);
    unsigned at = 0;
    while (order[at] != first) {
        at++;
    }
    for (unsigned i = 1; i < 8; i++) {
        assert_int_equal(pick(f), order[(at + i) % 4]);
    }
    fixture_free(&f);
}

static void test_the_other_family_of_a_name(void **unused)
{
    (void)unused;
    struct pool_fixture *f = fixture_new(BALANCE_ROUND_ROBIN);
    fixture_add_name(f, "app.internal:80", "10.0.0.1");
    fixture_add_name(f, "app.internal:80", "10.0.0.2");
    fixture_add_name(f, "app.internal:81", "2001:db8::1");
    fixture_add_name(f, "app.internal:80", "2001:db8::2");
    fixture_add_name(f, "app.internal:80", "2001:db8::3")->health = HEALTH_DOWN;
    fixture_add(f, 1);
    fixture_look(f);
    struct pool_choice choice = {.beside = f->candidates[0].member};
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(fixture_pick(f, &choice), 3);
    }
    choice.beside = f->candidates[3].member;
    unsigned seen = 0;
    for (unsigned i = 0; i < 10; i++) {
        seen |= 1u << fixture_pick(f, &choice);
    }
    assert_int_equal(seen, 3);
    choice.beside = f->candidates[2].member;
    assert_int_equal(fixture_pick(f, &choice), FIXTURE_NONE);
    choice.beside = f->candidates[5].member;
    assert_int_equal(fixture_pick(f, &choice), FIXTURE_NONE);
    fixture_free(&f);
}

static void test_the_faster_of_two(void **unused)
{
    (void)unused;
    struct pool_fixture *f = fixture_new(BALANCE_RANDOM_TWO);
    for (unsigned i = 0; i < 10; i++) {
        fixture_add(f, 1);
    }
    fixture_look(f);
    unsigned counts[10] = {0};
    struct pool_choice choice = {.now_ms = 1000};
    for (unsigned i = 0; i < 10; i++) {
        pool_member_answered(f->candidates[i].member, i == 4 ? 50000000 : 1000000, 1000);
    }
    for (unsigned i = 0; i < 10000; i++) {
        choice.random = fixture_random(&state);
        int index = fixture_pick(f, &choice);
        counts[index]++;
        fixture_put(f, index);
    }
    assert_int_equal(counts[4], 0); // never the worse of two
    for (unsigned i = 0; i < 10; i++) {
        assert_true(i == 4 || counts[i] > 900);
    }
    // With many under way on the others it is the better one.
    for (unsigned i = 0; i < 10; i++) {
        for (unsigned k = 0; k < 100 && i != 4; k++) {
            (*pool_target_of(f->candidates[i].member)->count)++;
        }
    }
    unsigned slow = 0;
    for (unsigned i = 0; i < 1000; i++) {
        choice.random = fixture_random(&state);
        int index = fixture_pick(f, &choice);
        slow += index == 4;
        fixture_put(f, index);
    }
    assert_in_range(slow, 120, 280); // whenever it was drawn: 1 of 5
    fixture_free(&f);
}

static void test_latency_peaks_and_fades(void **unused)
{
    (void)unused;
    struct pool_fixture *f = fixture_new(BALANCE_RANDOM_TWO);
    struct pool_member *member = fixture_add(f, 1)->member;
    struct pool_target *target = pool_target_of(member);
    pool_member_answered(member, 1000000, 1000);
    assert_int_equal(target->latency_ns, 1000000);
    pool_member_answered(member, 900000000, 1001); // at once
    assert_int_equal(target->latency_ns, 900000000);
    pool_member_answered(member, 1000000, 1001); // not at once
    assert_int_equal(target->latency_ns, 900000000);
    pool_member_answered(member, 1000000, 8001); // half of it
    assert_in_range(target->latency_ns, 450000000, 451000000);
    uint64_t before = target->latency_ns;
    for (unsigned ms = 8002; ms < 30000; ms++) {
        pool_member_answered(member, 1000000, ms);
        assert_true(target->latency_ns <= before);
        before = target->latency_ns;
    }
    assert_in_range(before, 45000000, 75000000); // 22 s later: about 1/9
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_ones_wait_for_the_known),
        cmocka_unit_test(test_all_down_is_nobody),
        cmocka_unit_test(test_panic_at_its_edge),
        cmocka_unit_test(test_zones_at_their_edge),
        cmocka_unit_test(test_backups_come_last),
        cmocka_unit_test(test_limits_of_targets),
        cmocka_unit_test(test_sticky),
        cmocka_unit_test(test_slow_start_has_its_share),
        cmocka_unit_test(test_least_requests_is_exact),
        cmocka_unit_test(test_even_ones_fill_up_level),
        cmocka_unit_test(test_round_robin_is_smooth),
        cmocka_unit_test(test_the_other_family_of_a_name),
        cmocka_unit_test(test_the_faster_of_two),
        cmocka_unit_test(test_latency_peaks_and_fades),
    };
    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
