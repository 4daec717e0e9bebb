// SPDX-License-Identifier: MIT
// A route's one target, what targets look like, and which members are known.
#include "base/hash.h"
#include "upstream/pool_build.h"
#include "upstream/pool_counts.h"
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <cmocka.h>

static char *parse(const char *text, struct target_decl *decl)
{
    struct problems problems;
    char *memory = NULL;
    problems_init(&problems);
    *decl = (struct target_decl){.weight = 1};
    assert_int_equal(target_address_parse(str_from_c(text), &decl->address, &memory, "", &problems),
                     0);
    problems_fini(&problems);
    return memory;
}

static struct pool_version *make_version(const struct target_decl *target,
                                         struct pool_member *known)
{
    struct pool_version *pool = calloc(1, sizeof *pool + sizeof pool->entries[0]);
    assert_non_null(pool);
    assert_int_equal(pool_fill_bare(pool, target, known), 0);
    return pool;
}

static void drop_version(struct pool_version *pool)
{
    if (--pool->entries[0].member->refs == 0) {
        pool_member_free(pool->entries[0].member);
    }
    free(pool);
}

static enum pool_result pick(const struct pool_version *pool, struct pool_member *tried)
{
    struct pool_choice choice = {.tried = &tried, .tried_count = tried != NULL, .sticky = 7};
    struct pool_member *member;
    enum pool_result result = pool_pick(pool, NULL, &choice, &member);
    if (result == POOL_PICKED) {
        assert_ptr_equal(member, pool->entries[0].member);
        assert_int_equal(pool_member_requests(member), 1);
        pool_member_put(member);
        assert_int_equal(pool_member_requests(member), 0);
    } else {
        assert_null(member);
    }
    return result;
}

static void test_one_target_of_a_route(void **state)
{
    (void)state;
    struct target_decl target;
    char *memory = parse("10.0.0.1:80", &target);
    struct pool_version *pool = make_version(&target, NULL);
    struct pool_member *member = pool->entries[0].member;
    assert_null(pool_target_of(member));
    assert_null(pool_settings(pool));
    assert_int_equal(pick(pool, NULL), POOL_PICKED);
    assert_int_equal(pick(pool, member), POOL_NONE); // tried
    struct pool_choice choice = {.beside = member};
    struct pool_member *picked;
    assert_int_equal(pool_pick(pool, NULL, &choice, &picked), POOL_NONE);
    pool_member_failed(member, NULL, 5); // nobody looks at them
    pool_member_answered(member, 5, 5);
    static const enum target_state states[] = {TARGET_DRAIN, TARGET_DOWN};
    for (unsigned i = 0; i < 2; i++) {
        target.state = states[i];
        struct pool_version *other = make_version(&target, NULL);
        assert_int_equal(pick(other, NULL), POOL_NONE);
        drop_version(other);
    }
    target.state = TARGET_UP;
    target.weight = 0;
    struct pool_version *other = make_version(&target, NULL);
    assert_int_equal(pick(other, NULL), POOL_NONE);
    drop_version(other);
    struct pool_version empty = {0};
    assert_int_equal(pool_pick(&empty, NULL, &choice, &picked), POOL_NONE);
    drop_version(pool);
    free(memory);
}

static void test_its_member_is_kept(void **state)
{
    (void)state;
    struct target_decl target;
    struct target_decl other;
    char *memory = parse("10.0.0.1:80", &target);
    char *memory_of_other = parse("https://10.0.0.1:80", &other);
    struct pool_version *first = make_version(&target, NULL);
    struct pool_member *member = first->entries[0].member;
    target.weight = 9;
    struct pool_version *second = make_version(&target, member);
    assert_ptr_equal(second->entries[0].member, member);
    assert_int_equal(member->refs, 2);
    struct pool_version *third = make_version(&other, member);
    assert_ptr_not_equal(third->entries[0].member, member);
    atomic_store(&member->cut, 1); // one that is being cut is not taken up again
    struct pool_version *fourth = make_version(&target, member);
    assert_ptr_not_equal(fourth->entries[0].member, member);
    assert_int_equal(member->refs, 2);
    drop_version(first);
    drop_version(second);
    drop_version(third);
    drop_version(fourth);
    free(memory);
    free(memory_of_other);
}

static void check_known(unsigned count)
{
    struct target_decl *targets = calloc(count, sizeof *targets);
    char **memory = calloc(count, sizeof *memory);
    struct pool_member **members = calloc(count, sizeof(struct pool_member *));
    struct pool_slot slot = {0};
    struct known_members known;
    assert_true(targets != NULL && memory != NULL && members != NULL);
    for (unsigned i = 0; i < count; i++) {
        char text[64];
        if (i % 3 == 0) {
            snprintf(text, sizeof text, "[2001:db8::%x]:80", i + 1);
        } else if (i % 3 == 1) {
            snprintf(text, sizeof text, "unix:/run/%u.sock", i);
        } else {
            snprintf(text, sizeof text, "10.0.%u.%u:80", i / 200, i % 200);
        }
        memory[i] = parse(text, &targets[i]);
        members[i] = pool_member_new(&slot, &targets[i].address, NULL);
        assert_non_null(members[i]);
    }
    atomic_store(&members[1]->cut, 1);
    assert_int_equal(known_init(&known, members, count - 1), 0);
    for (unsigned i = 0; i < count; i++) {
        struct pool_member *expected = i == 1 || i == count - 1 ? NULL : members[i];
        assert_ptr_equal(known_find(&known, &targets[i].address), expected);
    }
    known_fini(&known);
    for (unsigned i = 0; i < count; i++) {
        pool_member_free(members[i]);
        free(memory[i]);
    }
    pool_counts_free(&slot.counts);
    free(targets);
    free(memory);
    free(members);
}

static void test_known_members_are_found(void **state)
{
    (void)state;
    check_known(4);
    check_known(KNOWN_FEW + 1);
    check_known(KNOWN_FEW + 2);
    check_known(1000);
}

static void check_text(const struct pool_member *member, const char *expected)
{
    char text[POOL_MEMBER_TEXT_MAX];
    assert_int_equal(pool_member_text(member, text, sizeof text), strlen(expected));
    assert_string_equal(text, expected);
    assert_int_equal(pool_member_text(member, text, 5), 4);
    assert_memory_equal(text, expected, 4);
    assert_int_equal(text[4], 0);
}

static void test_addresses(void **state)
{
    (void)state;
    static const char *const texts[] = {"10.1.2.3:8080", "[2001:db8::1]:443", "unix:/run/x.sock",
                                        "app.internal:3000", "https://10.1.2.3:443"};
    for (unsigned i = 0; i < 5; i++) {
        struct target_decl target;
        struct sockaddr_storage address;
        socklen_t len;
        char shown[POOL_MEMBER_TEXT_MAX];
        char *memory = parse(texts[i], &target);
        struct pool_member *member = pool_member_new(NULL, &target.address, NULL);
        assert_non_null(member);
        check_text(member, i == 4 ? texts[i] + 8 : texts[i]);
        pool_member_show(member, shown, sizeof shown);
        assert_string_equal(shown, texts[i]);
        assert_int_equal(pool_member_address(member, &address, &len), i != 3);
        if (i == 2) {
            struct sockaddr_un un;
            memcpy(&un, &address, sizeof un);
            assert_int_equal(un.sun_family, AF_UNIX);
            assert_string_equal(un.sun_path, "/run/x.sock");
        } else if (i != 3) {
            assert_int_equal(len, target.address.sockaddr_len);
            assert_memory_equal(&address, &target.address.sockaddr, len);
        }
        pool_member_free(member);
        free(memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_target_of_a_route),
        cmocka_unit_test(test_its_member_is_kept),
        cmocka_unit_test(test_known_members_are_found),
        cmocka_unit_test(test_addresses),
    };
    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
