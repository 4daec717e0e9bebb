// SPDX-License-Identifier: MIT
// Members: kinds, ids, counts, failures.
#include "../support/pool_fixture.h"
#include <string.h>
#include <sys/un.h>

static void test_counts_are_packed_and_reused(void **unused)
{
    (void)unused;
    enum { COUNT = 5000 };
    struct pool_counts *counts = pool_counts_new();
    assert_non_null(counts);
    atomic_uint **taken = calloc(COUNT, sizeof *taken);
    assert_non_null(taken);
    for (unsigned i = 0; i < COUNT; i++) {
        taken[i] = pool_counts_get(counts);
        assert_non_null(taken[i]);
        assert_int_equal(atomic_load(taken[i]), 0);
        atomic_store(taken[i], i);
    }
    unsigned beside = 0;
    for (unsigned i = 1; i < COUNT; i++) {
        assert_int_equal(atomic_load(taken[i]), i); // nobody's place is another's
        beside += taken[i] == taken[i - 1] + 1;
    }
    assert_true(beside > COUNT - 16);
    // What is given back is taken again, the lowest place first.
    pool_counts_put(counts, taken[4000]);
    pool_counts_put(counts, taken[3]);
    pool_counts_put(counts, taken[900]);
    assert_ptr_equal(pool_counts_get(counts), taken[3]);
    assert_int_equal(atomic_load(taken[3]), 0);
    assert_ptr_equal(pool_counts_get(counts), taken[900]);
    assert_ptr_equal(pool_counts_get(counts), taken[4000]);
    free(taken);
    pool_counts_free(&counts);
    assert_null(counts);
}

// What an address is declared as.
struct sample {
    struct target_address address;
    struct sockaddr_storage resolved;
    bool is_resolved;
};

static const struct sockaddr *resolved_of(const struct sample *sample)
{
    return sample->is_resolved ? (const struct sockaddr *)(const void *)&sample->resolved : NULL;
}

static void put_in4(struct sockaddr_storage *to, const char *text, uint16_t port)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    assert_int_equal(inet_pton(AF_INET, text, &in4.sin_addr), 1);
    memcpy(to, &in4, sizeof in4);
}

static void put_in6(struct sockaddr_storage *to, const char *text, uint16_t port)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    memcpy(to, &in6, sizeof in6);
}

static unsigned make_samples(struct sample *samples)
{
    unsigned n = 0;
    put_in4(&samples[n++].address.sockaddr, "10.0.0.1", 80);
    put_in4(&samples[n++].address.sockaddr, "10.0.0.1", 81);
    put_in4(&samples[n].address.sockaddr, "10.0.0.1", 80);
    samples[n++].address.scheme = TARGET_HTTPS;
    put_in6(&samples[n++].address.sockaddr, "2001:db8::1", 80);
    put_in6(&samples[n++].address.sockaddr, "::ffff:10.0.0.1", 80);
    samples[n++].address = (struct target_address){
        .text = STR("unix:/run/x.sock"), .host = STR("/run/x.sock"), .is_unix = true};
    for (unsigned i = 0; i < 4; i++) {
        samples[n].address = (struct target_address){
            .text = STR("app:80"), .host = STR("app"), .port = 80, .is_name = true};
        samples[n].is_resolved = i > 0;
        if (i == 1) {
            put_in4(&samples[n].resolved, "10.0.0.1", 9);
        } else if (i == 2) {
            put_in4(&samples[n].resolved, "10.0.0.2", 9);
        } else if (i == 3) {
            put_in6(&samples[n].resolved, "2001:db8::1", 9);
        }
        n++;
    }
    samples[n] = samples[n - 1];
    samples[n].address.text = STR("h2c://app:80");
    samples[n++].address.scheme = TARGET_H2C;
    return n;
}

static void test_what_makes_members_the_same(void **unused)
{
    (void)unused;
    struct sample samples[16] = {0};
    unsigned count = make_samples(samples);
    struct pool_slot slot = {0};
    for (unsigned i = 0; i < count; i++) {
        struct pool_member *member =
            pool_member_new(&slot, &samples[i].address, resolved_of(&samples[i]));
        struct pool_member *bare =
            pool_member_new(NULL, &samples[i].address, resolved_of(&samples[i]));
        assert_non_null(member);
        assert_non_null(bare);
        assert_null(pool_target_of(bare));
        assert_ptr_equal(pool_target_of(member)->slot, &slot);
        assert_int_equal(pool_target_of(member)->health.says_weight, -1);
        struct member_key key;
        member_key_of(&key, member);
        assert_int_equal(member_key_id(&key), pool_target_of(member)->id);
        for (unsigned k = 0; k < count; k++) {
            struct member_key other;
            member_key_of_address(&other, &samples[k].address, resolved_of(&samples[k]));
            assert_int_equal(member_key_eq(&key, &other), i == k);
            assert_int_equal(member_key_id(&key) == member_key_id(&other), i == k);
            if (i == k) {
                assert_int_equal(member_key_hash(&key), member_key_hash(&other));
            }
        }
        pool_member_free(member);
        pool_member_free(bare);
    }
    pool_counts_free(&slot.counts);
}

// They stand in cookies, and other nodes have them too: not to be changed.
static void test_ids_are_for_ever(void **unused)
{
    (void)unused;
    struct sample samples[16] = {0};
    make_samples(samples);
    static const uint64_t expected[] = {UINT64_C(0xe9cc30c67b3653d4), UINT64_C(0x7e712016d2fd090e),
                                        UINT64_C(0x5b1fe5488b45b3ef), UINT64_C(0xeaacce2fd771e0e8)};
    static const unsigned which[] = {0, 3, 5, 7};
    for (unsigned i = 0; i < 4; i++) {
        struct member_key key;
        const struct sample *sample = &samples[which[i]];
        member_key_of_address(&key, &sample->address, resolved_of(sample));
        assert_int_equal(member_key_id(&key), expected[i]);
    }
}

static void test_addresses_of_names(void **unused)
{
    (void)unused;
    struct pool_fixture *f = fixture_new(BALANCE_LEAST_REQUESTS);
    struct pool_member *four = fixture_add_name(f, "app.internal:3000", "10.1.2.3")->member;
    struct pool_member *six = fixture_add_name(f, "app.internal:3000", "2001:db8::7")->member;
    struct pool_member *literal = fixture_add(f, 1)->member;
    struct sockaddr_storage address;
    socklen_t len;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    char text[POOL_MEMBER_TEXT_MAX];
    assert_true(pool_member_address(four, &address, &len));
    assert_int_equal(len, sizeof in4);
    memcpy(&in4, &address, sizeof in4);
    assert_int_equal(in4.sin_family, AF_INET);
    assert_int_equal(ntohs(in4.sin_port), 3000);
    assert_int_equal(ntohl(in4.sin_addr.s_addr), 0x0a010203);
    assert_true(pool_member_address(six, &address, &len));
    assert_int_equal(len, sizeof in6);
    memcpy(&in6, &address, sizeof in6);
    assert_int_equal(ntohs(in6.sin6_port), 3000);
    assert_int_equal(in6.sin6_addr.s6_addr[15], 7);
    pool_member_text(six, text, sizeof text);
    assert_string_equal(text, "app.internal:3000");
    assert_int_equal(pool_member_family(four), AF_INET);
    assert_int_equal(pool_member_family(six), AF_INET6);
    assert_int_equal(pool_member_family(literal), AF_INET);
    assert_true(pool_member_is_beside(four, six));
    assert_false(pool_member_is_beside(four, four));
    assert_false(pool_member_is_beside(four, literal));
    assert_null(pool_member_name(literal));
    assert_non_null(pool_member_name(six));
    fixture_free(&f);
}

static unsigned reports;

static void on_report(struct loop *loop, struct loop_message *message)
{
    struct pool_target *target = CONTAINER_OF(message, struct pool_target, report);
    (void)loop;
    reports++;
    atomic_store_explicit(&target->fails, 0, memory_order_relaxed);
    atomic_store_explicit(&target->is_reported, false, memory_order_release);
}

static void fail_at(struct pool_fixture *f, unsigned times, uint64_t now_ms)
{
    for (unsigned i = 0; i < times; i++) {
        pool_member_failed(f->candidates[0].member, &f->own.settings, now_ms);
    }
}

static unsigned take_reports(struct loop *loop)
{
    reports = 0;
    loop_empty_mailbox(loop);
    return reports;
}

static void test_failures_in_their_window(void **unused)
{
    (void)unused;
    struct pool_fixture *f = fixture_new(BALANCE_LEAST_REQUESTS);
    struct loop loop;
    assert_int_equal(loop_init(&loop), 0);
    fixture_add(f, 1);
    f->slot.control = &loop;
    f->slot.on_report = on_report;
    f->own.settings.passive = (struct passive_decl){.max_fails = 3, .fail_timeout_ms = 10000};
    fail_at(f, 2, 100000);
    assert_int_equal(take_reports(&loop), 0);
    fail_at(f, 2, 110000); // a new window
    assert_int_equal(take_reports(&loop), 0);
    fail_at(f, 1, 119999);
    assert_int_equal(take_reports(&loop), 1);
    // Once, until control has looked.
    fail_at(f, 7, 119999);
    assert_int_equal(take_reports(&loop), 1);
    fail_at(f, 2, 119999);
    assert_int_equal(take_reports(&loop), 0);
    // A worker whose clock is a little behind begins no window.
    fail_at(f, 1, 109000);
    assert_int_equal(take_reports(&loop), 1);
    f->own.settings.passive.max_fails = 0; // off
    fail_at(f, 10, 130000);
    assert_int_equal(take_reports(&loop), 0);
    pool_member_failed(f->candidates[0].member, NULL, 130000);
    f->own.settings.passive.max_fails = 1;
    f->slot.control = NULL;
    fail_at(f, 10, 130000);
    assert_false(atomic_load(&pool_target_of(f->candidates[0].member)->is_reported));
    assert_int_equal(take_reports(&loop), 0);
    fixture_free(&f);
    loop_fini(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_are_packed_and_reused),
        cmocka_unit_test(test_what_makes_members_the_same),
        cmocka_unit_test(test_ids_are_for_ever),
        cmocka_unit_test(test_addresses_of_names),
        cmocka_unit_test(test_failures_in_their_window),
    };
    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
