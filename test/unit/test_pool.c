// SPDX-License-Identifier: MIT
#include "base/hash.h"
#include "loop/rcu.h"
#include "upstream/pool_build.h"
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/un.h>
#include <cmocka.h>

enum { MAX = 1000 };

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

struct fixture {
    struct pool_decl decl;
    struct target_decl targets[MAX];
    char *memory[MAX];
    unsigned count;
    struct pool_own_version *own;
};

static void add(struct fixture *f, const char *address, unsigned weight, enum target_state target)
{
    struct problems problems;
    problems_init(&problems);
    struct target_decl *decl = &f->targets[f->count];
    *decl = (struct target_decl){.weight = weight, .state = target};
    assert_int_equal(target_address_parse(str_from_c(address), &decl->address, &f->memory[f->count],
                                          "", &problems),
                     0);
    problems_fini(&problems);
    f->count++;
}

static struct pool_own_version *build(struct fixture *f, enum balance balance,
                                      struct pool_member *const *known, unsigned known_count)
{
    f->decl.targets = f->targets;
    f->decl.target_count = f->count;
    f->decl.balance = balance;
    struct pool_own_version *own = pool_own_version_new(&f->decl, known, known_count);
    assert_non_null(own);
    return own;
}

static void destroy(struct pool_own_version *own)
{
    pool_unfill(&own->pool);
    version_unref(&own->version);
}

// NULL: none may be picked.
static struct pool_member *pick(const struct pool_version *pool, struct pool_slot *slot,
                                uint64_t random, struct pool_member *const *tried, unsigned count)
{
    struct pool_choice choice = {.random = random, .tried = tried, .tried_count = count};
    struct pool_member *member;
    (void)pool_pick(pool, slot, &choice, &member);
    return member;
}

static struct fixture *setup(void)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    return f;
}

static void teardown(struct fixture *f)
{
    for (unsigned i = 0; i < f->count; i++) {
        free(f->memory[i]);
    }
    free(f);
}

static unsigned index_of(const struct pool_own_version *own, const struct pool_member *member)
{
    for (unsigned i = 0; i < own->pool.entry_count; i++) {
        if (own->pool.entries[i].member == member) {
            return i;
        }
    }
    fail();
    return 0;
}

static void test_least_requests_is_exact(void **state)
{
    (void)state;
    struct fixture *f = setup();
    add(f, "10.0.0.1:80", 1, TARGET_UP);
    add(f, "10.0.0.2:80", 2, TARGET_UP);
    add(f, "10.0.0.3:80", 5, TARGET_UP);
    struct pool_own_version *own = build(f, BALANCE_LEAST_REQUESTS, NULL, 0);
    // 8 rounds' worth under way: shared out by weight to the last one.
    for (unsigned i = 0; i < 80; i++) {
        assert_non_null(pick(&own->pool, NULL, next_random(), NULL, 0));
    }
    assert_int_equal(atomic_load(&own->pool.entries[0].member->inflight), 10);
    assert_int_equal(atomic_load(&own->pool.entries[1].member->inflight), 20);
    assert_int_equal(atomic_load(&own->pool.entries[2].member->inflight), 50);
    // Whoever gets free is taken next.
    for (unsigned i = 0; i < 10; i++) {
        pool_member_put(own->pool.entries[0].member);
    }
    assert_int_equal(index_of(own, pick(&own->pool, NULL, next_random(), NULL, 0)), 0);
    destroy(own);
    teardown(f);
}

static void test_idle_targets_are_taken_evenly(void **state)
{
    (void)state;
    enum { TARGETS = 10, PICKS = 20000 };
    struct fixture *f = setup();
    unsigned counts[TARGETS] = {0};
    for (unsigned i = 0; i < TARGETS; i++) {
        char text[32];
        snprintf(text, sizeof text, "10.0.0.%u:80", i + 1);
        add(f, text, 7, TARGET_UP);
    }
    struct pool_own_version *own = build(f, BALANCE_LEAST_REQUESTS, NULL, 0);
    for (unsigned i = 0; i < PICKS; i++) {
        struct pool_member *member = pick(&own->pool, NULL, next_random(), NULL, 0);
        counts[index_of(own, member)]++;
        pool_member_put(member);
    }
    double chi = 0;
    for (unsigned i = 0; i < TARGETS; i++) {
        double off = (double)counts[i] - (double)PICKS / TARGETS;
        chi += off * off / ((double)PICKS / TARGETS);
    }
    assert_true(chi < 27.88); // 9 degrees of freedom, p = 0.001
    destroy(own);
    teardown(f);
}

static void check_round_robin(const unsigned *weights, unsigned count)
{
    struct fixture *f = setup();
    unsigned total = 0;
    for (unsigned i = 0; i < count; i++) {
        char text[32];
        snprintf(text, sizeof text, "10.0.%u.%u:80", i / 200, i % 200 + 1);
        add(f, text, weights[i], TARGET_UP);
        total += weights[i];
    }
    struct pool_own_version *own = build(f, BALANCE_ROUND_ROBIN, NULL, 0);
    struct pool_slot slot = {.cursor = 0};
    unsigned *counts = calloc(count, sizeof *counts);
    assert_non_null(counts);
    // A whole round is exact, and at each step of it everybody is near their share.
    for (unsigned step = 1; step <= total; step++) {
        struct pool_member *member = pick(&own->pool, &slot, 0, NULL, 0);
        counts[index_of(own, member)]++;
        pool_member_put(member);
        for (unsigned i = 0; total <= 1000 && i < count; i++) {
            double due = (double)step * weights[i] / total;
            assert_true((double)counts[i] - due < 3 && due - (double)counts[i] < 3);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(counts[i], weights[i]);
    }
    free(counts);
    destroy(own);
    teardown(f);
}

static void test_round_robin_is_smooth(void **state)
{
    (void)state;
    check_round_robin((const unsigned[]){1}, 1);
    check_round_robin((const unsigned[]){5, 1, 1}, 3);
    check_round_robin((const unsigned[]){1, 2}, 2);
    check_round_robin((const unsigned[]){100, 1, 50, 3}, 4);
    check_round_robin((const unsigned[]){97, 89, 83, 79, 73}, 5);
    check_round_robin((const unsigned[]){65535, 1, 65534}, 3);
}

static void test_round_robin_unweighted_goes_in_turn(void **state)
{
    (void)state;
    struct fixture *f = setup();
    add(f, "10.0.0.1:80", 65535, TARGET_UP);
    add(f, "10.0.0.9:80", 65535, TARGET_DRAIN);
    add(f, "10.0.0.2:80", 65535, TARGET_UP);
    add(f, "10.0.0.3:80", 65535, TARGET_UP);
    struct pool_own_version *own = build(f, BALANCE_ROUND_ROBIN, NULL, 0);
    static const unsigned expected[] = {0, 2, 3, 0, 2, 3};
    struct pool_slot slot = {.cursor = 0};
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(index_of(own, pick(&own->pool, &slot, 0, NULL, 0)), expected[i]);
    }
    destroy(own);
    teardown(f);
}

static void check_tried(enum balance balance)
{
    struct fixture *f = setup();
    add(f, "10.0.0.1:80", 1000, TARGET_UP);
    add(f, "10.0.0.2:80", 1, TARGET_UP);
    add(f, "10.0.0.3:80", 1, TARGET_DRAIN);
    add(f, "10.0.0.4:80", 1, TARGET_DOWN);
    add(f, "10.0.0.5:80", 0, TARGET_UP);
    add(f, "10.0.0.6:80", 3, TARGET_UP);
    struct pool_own_version *own = build(f, balance, NULL, 0);
    struct pool_slot slot = {.cursor = 0};
    for (unsigned round = 0; round < 100; round++) {
        struct pool_member *tried[POOL_TRIED_MAX];
        unsigned count = 0;
        unsigned seen = 0;
        struct pool_member *member;
        while ((member = pick(&own->pool, &slot, next_random(), tried, count)) != NULL) {
            assert_true(count < 3);
            seen |= 1u << index_of(own, member);
            tried[count++] = member;
            pool_member_put(member);
        }
        assert_int_equal(seen, 1u | 2u | 32u); // all that are up, each once
    }
    destroy(own);
    teardown(f);
}

static void test_tried_are_passed_over(void **state)
{
    (void)state;
    check_tried(BALANCE_LEAST_REQUESTS);
    check_tried(BALANCE_ROUND_ROBIN);
}

static void test_nobody_to_pick(void **state)
{
    (void)state;
    struct fixture *f = setup();
    struct pool_slot slot = {.cursor = 0};
    for (unsigned i = 0; i < 2; i++) {
        enum balance balance = i == 0 ? BALANCE_LEAST_REQUESTS : BALANCE_ROUND_ROBIN;
        struct pool_own_version *empty = build(f, balance, NULL, 0);
        assert_null(pick(&empty->pool, &slot, 1, NULL, 0));
        destroy(empty);
    }
    add(f, "10.0.0.1:80", 1, TARGET_DOWN);
    add(f, "10.0.0.2:80", 0, TARGET_UP);
    for (unsigned i = 0; i < 2; i++) {
        enum balance balance = i == 0 ? BALANCE_LEAST_REQUESTS : BALANCE_ROUND_ROBIN;
        struct pool_own_version *own = build(f, balance, NULL, 0);
        assert_null(pick(&own->pool, &slot, 1, NULL, 0));
        destroy(own);
    }
    teardown(f);
}

static void check_kept(unsigned count)
{
    struct fixture *f = setup();
    struct pool_member *known[MAX];
    for (unsigned i = 0; i < count; i++) {
        char text[64];
        if (i % 4 == 0) {
            snprintf(text, sizeof text, "[2001:db8::%x]:80", i + 1);
        } else if (i % 4 == 1) {
            snprintf(text, sizeof text, "host-%u.internal:80", i);
        } else if (i % 4 == 2) {
            snprintf(text, sizeof text, "unix:/run/%u.sock", i);
        } else {
            snprintf(text, sizeof text, "10.0.%u.%u:80", i / 200, i % 200);
        }
        add(f, text, 1, TARGET_UP);
    }
    struct pool_own_version *first = build(f, BALANCE_LEAST_REQUESTS, NULL, 0);
    for (unsigned i = 0; i < count; i++) {
        known[i] = first->pool.entries[i].member;
        assert_true(pool_member_is(known[i], &f->targets[i].address));
        assert_int_equal(known[i]->refs, 1);
    }
    atomic_store(&known[1]->cut, 1); // one that is being cut is not taken up again
    struct pool_own_version *second = build(f, BALANCE_LEAST_REQUESTS, known, count);
    for (unsigned i = 0; i < count; i++) {
        if (i == 1) {
            assert_ptr_not_equal(second->pool.entries[i].member, known[i]);
        } else {
            assert_ptr_equal(second->pool.entries[i].member, known[i]);
            assert_int_equal(known[i]->refs, 2);
        }
    }
    destroy(first);
    for (unsigned i = 2; i < count; i++) {
        assert_int_equal(known[i]->refs, 1);
    }
    destroy(second);
    teardown(f);
}

static void test_members_are_kept(void **state)
{
    (void)state;
    check_kept(4);
    check_kept(17);
    check_kept(MAX);
}

static void check_text(struct fixture *f, unsigned at, const struct pool_own_version *own,
                       const char *expected)
{
    char text[POOL_MEMBER_TEXT_MAX];
    (void)f;
    assert_int_equal(pool_member_text(own->pool.entries[at].member, text, sizeof text),
                     strlen(expected));
    assert_string_equal(text, expected);
    assert_int_equal(pool_member_text(own->pool.entries[at].member, text, 5), 4);
    assert_memory_equal(text, expected, 4);
    assert_int_equal(text[4], 0);
}

static void test_addresses(void **state)
{
    (void)state;
    struct fixture *f = setup();
    struct sockaddr_storage address;
    socklen_t len;
    add(f, "10.1.2.3:8080", 1, TARGET_UP);
    add(f, "[2001:db8::1]:443", 1, TARGET_UP);
    add(f, "unix:/run/x.sock", 1, TARGET_UP);
    add(f, "app.internal:3000", 1, TARGET_UP);
    struct pool_own_version *own = build(f, BALANCE_LEAST_REQUESTS, NULL, 0);
    check_text(f, 0, own, "10.1.2.3:8080");
    check_text(f, 1, own, "[2001:db8::1]:443");
    check_text(f, 2, own, "unix:/run/x.sock");
    check_text(f, 3, own, "app.internal:3000");
    for (unsigned i = 0; i < 2; i++) {
        assert_true(pool_member_address(own->pool.entries[i].member, &address, &len));
        assert_int_equal(len, f->targets[i].address.sockaddr_len);
        assert_memory_equal(&address, &f->targets[i].address.sockaddr, len);
    }
    assert_true(pool_member_address(own->pool.entries[2].member, &address, &len));
    struct sockaddr_un un;
    memcpy(&un, &address, sizeof un);
    assert_int_equal(un.sun_family, AF_UNIX);
    assert_string_equal(un.sun_path, "/run/x.sock");
    // A name: its answer with the target's port.
    struct pool_name name = {0};
    struct pool_answer answer = {.len = sizeof(struct sockaddr_in6)};
    struct member_named *named = pool_member_name(own->pool.entries[3].member);
    assert_non_null(named);
    assert_null(pool_member_name(own->pool.entries[2].member));
    assert_true(str_eq(str_make(named->text, named->host_len), STR("app.internal")));
    named->name = &name;
    assert_false(pool_member_address(&named->member, &address, &len));
    answer.address.in6.sin6_family = AF_INET6;
    answer.address.in6.sin6_addr = in6addr_loopback;
    name.answer = &answer;
    assert_true(pool_member_address(&named->member, &address, &len));
    struct sockaddr_in6 in6;
    memcpy(&in6, &address, sizeof in6);
    assert_int_equal(ntohs(in6.sin6_port), 3000);
    assert_memory_equal(&in6.sin6_addr, &in6addr_loopback, 16);
    destroy(own);
    teardown(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_least_requests_is_exact),
        cmocka_unit_test(test_idle_targets_are_taken_evenly),
        cmocka_unit_test(test_round_robin_is_smooth),
        cmocka_unit_test(test_round_robin_unweighted_goes_in_turn),
        cmocka_unit_test(test_tried_are_passed_over),
        cmocka_unit_test(test_nobody_to_pick),
        cmocka_unit_test(test_members_are_kept),
        cmocka_unit_test(test_addresses),
    };
    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
