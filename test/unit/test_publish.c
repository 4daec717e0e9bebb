// SPDX-License-Identifier: MIT
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "loop/loop.h"
#include "loop/rcu.h"
#include "publish/publish.h"
#include "upstream/prober.h"
#include <arpa/inet.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static uint64_t revision;

// NULL: none may be picked.
static struct pool_member *pick_from(const struct pool_version *pool, struct pool_slot *slot,
                                     uint64_t random)
{
    struct pool_choice choice = {.random = random};
    struct pool_member *member;
    (void)pool_pick(pool, slot, &choice, &member);
    return member;
}

static struct publisher *setup(void)
{
    struct publisher *publisher;
    assert_int_equal(publisher_new(&publisher, NULL, NULL, NULL), 0);
    revision = 0;
    return publisher;
}

static struct store_record record_of(enum noun noun, const char *key, const char *value)
{
    return (struct store_record){
        .noun = noun, .key = str_from_c(key), .value = str_from_c(value), .revision = revision + 1};
}

static void apply(struct publisher *publisher, enum noun noun, const char *key, const char *value)
{
    struct store_record record = record_of(noun, key, value);
    publisher_apply(publisher, ++revision, &record, 1);
    rcu_turn_done();
}

static struct route_version *find(struct publisher *publisher, const char *host, const char *path)
{
    return route_find(publisher_routes(publisher), str_from_c(host), str_from_c(path));
}

static struct pool_member *pick(const struct route_version *route)
{
    struct pool_slot *named = NULL;
    const struct pool_version *pool = route == NULL ? NULL : route_pool(route, 0, &named);
    return pool == NULL ? NULL : pick_from(pool, named, 0);
}

// The address of a member that is picked and given back; "" if none.
static const char *target(struct publisher *publisher, const char *host, const char *path)
{
    static char text[POOL_MEMBER_TEXT_MAX];
    struct pool_member *member = pick(find(publisher, host, path));
    text[0] = 0;
    if (member != NULL) {
        pool_member_text(member, text, sizeof text);
        pool_member_put(member);
    }
    return text;
}

static uint64_t retired(struct publisher *publisher)
{
    uint64_t count;
    uint64_t oldest_ms;
    publisher_retired(publisher, &count, &oldest_ms);
    return count;
}

// Lets grace periods pass and the reaper look (an empty revision).
static void settle(struct publisher *publisher, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        rcu_turn_done();
        rcu_drain();
        publisher_apply(publisher, ++revision, NULL, 0);
    }
}

static void test_put_replace_delete(void **state)
{
    (void)state;
    struct publisher *publisher = setup();
    apply(publisher, NOUN_ROUTE, "a.example", "{\"targets\":[\"10.0.0.1:80\"]}");
    assert_string_equal(target(publisher, "a.example", "/x"), "10.0.0.1:80");
    assert_int_equal(publisher_route_count(publisher), 1);
    assert_int_equal(publisher_revision(publisher), 1);
    const struct route_version *route = find(publisher, "a.example", "/");
    assert_null(route->rules); // nothing but targets
    assert_true(route->access_log);
    apply(publisher, NOUN_ROUTE, "a.example",
          "{\"targets\":[\"10.0.0.2:80\"],\"strip_path\":true,\"tenant\":\"acme\","
          "\"allow\":[\"10.0.0.0/8\"],\"access_log\":false}");
    assert_string_equal(target(publisher, "a.example", "/x"), "10.0.0.2:80");
    route = find(publisher, "a.example", "/");
    assert_true(route->rules != NULL && route->rules->strip_path);
    assert_true(route->has_access_rules);
    assert_false(route->access_log);
    assert_true(str_eq(route->tenant->id, STR("acme")));
    assert_int_equal(publisher_route_count(publisher), 1);
    apply(publisher, NOUN_ROUTE, "a.example/p/q", "{\"redirect\":{\"to\":\"https://b.example\"}}");
    route = find(publisher, "a.example", "/p/q/r");
    assert_int_equal(route->action, ROUTE_REDIRECT);
    assert_non_null(route->rules);
    apply(publisher, NOUN_ROUTE, "a.example", "");
    assert_null(find(publisher, "a.example", "/x"));
    assert_non_null(find(publisher, "a.example", "/p/q"));
    apply(publisher, NOUN_ROUTE, "a.example/p/q", "");
    apply(publisher, NOUN_ROUTE, "a.example/p/q", ""); // again: nothing happens
    apply(publisher, NOUN_ROUTE, "never.example", "");
    assert_null(find(publisher, "a.example", "/p/q"));
    assert_int_equal(publisher_route_count(publisher), 0);
    assert_int_equal(publisher_skipped_count(publisher), 0);
    publisher_free(&publisher);
    assert_null(publisher);
}

static void test_pools_are_referred_to(void **state)
{
    (void)state;
    struct publisher *publisher = setup();
    struct pool_slot *named;
    apply(publisher, NOUN_ROUTE, "a.example", "{\"pool\":\"web\"}");
    const struct route_version *route = find(publisher, "a.example", "/");
    assert_null(route_pool(route, 0, &named)); // 503: a slot without a version
    assert_true(str_eq(named->name, STR("web")));
    assert_int_equal(publisher_pool_count(publisher), 0);
    apply(publisher, NOUN_POOL, "web",
          "{\"targets\":[\"10.0.0.1:80\"],\"keepalive\":{\"idle\":7,\"timeout\":\"3s\"}}");
    assert_int_equal(publisher_pool_count(publisher), 1);
    assert_ptr_equal(find(publisher, "a.example", "/"), route); // one swap, not of the route
    const struct pool_version *pool = route_pool(route, 0, &named);
    assert_int_equal(pool_settings(pool)->keepalive_idle, 7);
    assert_int_equal(pool_settings(pool)->keepalive_timeout_ms, 3000);
    assert_string_equal(target(publisher, "a.example", "/"), "10.0.0.1:80");
    apply(publisher, NOUN_POOL, "web", "{\"targets\":[\"10.0.0.2:80\"]}");
    assert_string_equal(target(publisher, "a.example", "/"), "10.0.0.2:80");
    apply(publisher, NOUN_ROUTE, "b.example",
          "{\"split\":[{\"pool\":\"web\",\"weight\":1},{\"pool\":\"late\",\"weight\":0}]}");
    assert_string_equal(target(publisher, "b.example", "/"), "10.0.0.2:80");
    apply(publisher, NOUN_POOL, "web", "");
    assert_int_equal(publisher_pool_count(publisher), 0);
    assert_null(route_pool(find(publisher, "a.example", "/"), 0, &named));
    apply(publisher, NOUN_ROUTE, "a.example", "");
    apply(publisher, NOUN_ROUTE, "b.example", "");
    settle(publisher, 4);
    assert_int_equal(retired(publisher), 0);
    publisher_free(&publisher);
}

struct applied {
    struct publish_listener listener;
    unsigned calls;
    uint64_t revision;
    unsigned count;
};

static void on_applied(struct publish_listener *listener, uint64_t at,
                       const struct store_record *records, unsigned count, bool is_last)
{
    struct applied *applied = CONTAINER_OF(listener, struct applied, listener);
    (void)records;
    applied->calls += is_last;
    applied->revision = at;
    applied->count = count;
}

static void test_bad_records_are_skipped_alone(void **state)
{
    (void)state;
    struct publisher *publisher = setup();
    struct applied applied = {.listener.on_applied = on_applied};
    publisher_listen(publisher, &applied.listener);
    apply(publisher, NOUN_ROUTE, "kept.example", "{\"targets\":[\"10.0.0.9:80\"]}");
    char deep[400] = "deep.example";
    for (unsigned i = 0; i < 65; i++) {
        memcpy(deep + 12 + 2 * (size_t)i, "/s", 3);
    }
    struct store_record records[] = {
        record_of(NOUN_ROUTE, "a.example", "{\"targets\":[\"10.0.0.1:80\"]}"),
        record_of(NOUN_ROUTE, "b.example", "{\"targets\":\"x\"}"),
        record_of(NOUN_ROUTE, "kept.example", "not json"),
        record_of(NOUN_POOL, "p", "{\"balance\":\"nonsense\"}"),
        record_of(NOUN_ROUTE, deep, "{\"targets\":[\"10.0.0.1:80\"]}"),
        record_of(NOUN_KEY, "k", "{\"whatever\":1}"),
        record_of(NOUN_ROUTE, "c.example", "{\"targets\":[\"10.0.0.3:80\"],\"new_field\":1}"),
    };
    publisher_apply(publisher, ++revision, records, sizeof records / sizeof records[0]);
    assert_int_equal(publisher_skipped_count(publisher), 4);
    assert_string_equal(target(publisher, "a.example", "/"), "10.0.0.1:80");
    assert_string_equal(target(publisher, "c.example", "/"), "10.0.0.3:80");
    assert_string_equal(target(publisher, "kept.example", "/"), "10.0.0.9:80");
    assert_null(find(publisher, "b.example", "/"));
    assert_int_equal(publisher_route_count(publisher), 3);
    assert_int_equal(applied.calls, 2);
    assert_int_equal(applied.revision, revision);
    assert_int_equal(applied.count, 7);
    publisher_free(&publisher);
}

static void test_one_revision_in_any_order(void **state)
{
    (void)state;
    struct publisher *publisher = setup();
    struct store_record first[] = {
        record_of(NOUN_ROUTE, "a.example", "{\"pool\":\"p\"}"),
        record_of(NOUN_POOL, "p", "{\"targets\":[\"10.0.0.1:80\"]}"),
        record_of(NOUN_ROUTE, "h/x", "{\"targets\":[\"10.0.0.2:80\"]}"),
    };
    publisher_apply(publisher, ++revision, first, 3);
    assert_string_equal(target(publisher, "a.example", "/"), "10.0.0.1:80");
    // The last route of a host goes and another one of it comes; keys twice.
    struct store_record second[] = {
        record_of(NOUN_ROUTE, "h/x", ""),
        record_of(NOUN_ROUTE, "h/y", "{\"targets\":[\"10.0.0.3:80\"]}"),
        record_of(NOUN_ROUTE, "t", "{\"targets\":[\"10.0.0.4:80\"]}"),
        record_of(NOUN_ROUTE, "t", "{\"targets\":[\"10.0.0.4:80\",\"10.0.0.5:80\"]}"),
        record_of(NOUN_ROUTE, "u", "{\"targets\":[\"10.0.0.4:80\"]}"),
        record_of(NOUN_ROUTE, "u", ""),
        record_of(NOUN_POOL, "p", ""),
        record_of(NOUN_POOL, "p", "{\"targets\":[\"10.0.0.1:80\",\"10.0.0.7:80\"]}"),
        record_of(NOUN_POOL, "gone", "{\"targets\":[\"10.0.0.1:80\"]}"),
        record_of(NOUN_POOL, "gone", ""),
    };
    publisher_apply(publisher, ++revision, second, sizeof second / sizeof second[0]);
    assert_null(find(publisher, "h", "/x"));
    assert_string_equal(target(publisher, "h", "/y"), "10.0.0.3:80");
    struct pool_member *both[] = {pick(find(publisher, "t", "/")), pick(find(publisher, "t", "/"))};
    assert_true(both[0] != NULL && both[1] != NULL && both[0] != both[1]); // the last one won
    pool_member_put(both[0]);
    pool_member_put(both[1]);
    assert_null(find(publisher, "u", "/"));
    assert_string_not_equal(target(publisher, "a.example", "/"), "");
    assert_int_equal(publisher_route_count(publisher), 3);
    assert_int_equal(publisher_pool_count(publisher), 1);
    settle(publisher, 4);
    assert_int_equal(retired(publisher), 0);
    publisher_free(&publisher);
}

static void test_members_keep_their_counts(void **state)
{
    (void)state;
    struct publisher *publisher = setup();
    apply(publisher, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.1:80\"]}");
    apply(publisher, NOUN_ROUTE, "n", "{\"pool\":\"p\"}");
    apply(publisher, NOUN_ROUTE, "i", "{\"targets\":[\"10.0.0.1:80\"]}");
    apply(publisher, NOUN_ROUTE, "l", "{\"targets\":[\"10.0.0.1:80\",\"10.0.0.2:80\"]}");
    struct pool_member *inlined = pick(find(publisher, "i", "/"));
    struct pool_member *listed = pick(find(publisher, "l", "/"));
    struct pool_member *member = pick(find(publisher, "n", "/"));
    char text[POOL_MEMBER_TEXT_MAX];
    char list[400];
    apply(publisher, NOUN_ROUTE, "i", "{\"targets\":[\"10.0.0.1:80\"],\"strip_path\":true}");
    assert_ptr_equal(find(publisher, "i", "/")->to.targets.entries[0].member, inlined);
    pool_member_text(listed, text, sizeof text);
    snprintf(list, sizeof list, "{\"targets\":[\"10.0.0.3:80\",\"%s\"]}", text);
    apply(publisher, NOUN_ROUTE, "l", list);
    assert_ptr_not_equal(pick(find(publisher, "l", "/")), listed); // it has one already
    assert_int_equal(pool_member_requests(listed), 1);
    snprintf(list, sizeof list, "{\"targets\":[\"%s\",\"no-such.invalid:80\"]}", text);
    apply(publisher, NOUN_ROUTE, "l", list);
    assert_ptr_equal(pick(find(publisher, "l", "/")), listed);
    assert_int_equal(pool_member_requests(listed), 2);
    apply(publisher, NOUN_ROUTE, "l", "");
    apply(publisher, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.3:80\"]}"); // without it
    settle(publisher, 3);
    assert_int_equal(pool_member_requests(member), 1);                   // still there
    apply(publisher, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.1:80\"]}"); // and again
    assert_ptr_equal(pick(find(publisher, "n", "/")), member);
    assert_int_equal(pool_member_requests(member), 2);
    apply(publisher, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.4:80\"]}");
    settle(publisher, 2);
    pool_member_put(member);
    pool_member_put(member);
    pool_member_put(inlined);
    pool_member_put(listed);
    pool_member_put(listed);
    settle(publisher, 4);
    publisher_free(&publisher);
}

struct members {
    unsigned count;
    unsigned inflight;
    unsigned state;
};

static void see_member(void *context, const struct publish_target *target)
{
    struct members *members = context;
    if (str_eq(target->address, STR("10.0.0.1:80"))) {
        members->count++;
        members->inflight += target->requests;
        members->state = atomic_load(&target->member->state);
    }
}

static void test_cut_a_member_that_left(void **state)
{
    (void)state;
    struct publisher *publisher = setup();
    struct members members = {0};
    assert_false(publisher_pool_targets(publisher, STR("p"), see_member, &members));
    apply(publisher, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.1:80\"]}");
    apply(publisher, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    struct pool_member *member = pick(find(publisher, "h", "/"));
    assert_int_equal(publisher_cut_member(publisher, STR("p"), STR("10.0.0.1:80")), 0); // declared
    assert_int_equal(atomic_load(&member->cut), 0);
    apply(publisher, NOUN_POOL, "p",
          "{\"targets\":[{\"address\":\"10.0.0.1:80\",\"state\":\"drain\"}]}");
    assert_true(publisher_pool_targets(publisher, STR("p"), see_member, &members));
    assert_int_equal(members.count, 1);
    assert_int_equal(members.inflight, 1);
    assert_int_equal(members.state, TARGET_DRAIN);
    assert_null(pick(find(publisher, "h", "/")));
    apply(publisher, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.2:80\"]}");
    settle(publisher, 3);
    assert_int_equal(publisher_cut_member(publisher, STR("p"), STR("10.0.0.1:80")), 1);
    assert_int_equal(atomic_load(&member->cut), 1);
    // Declared again it is another member: this one's requests are being ended.
    apply(publisher, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.1:80\"]}");
    struct pool_member *fresh = pick(find(publisher, "h", "/"));
    assert_ptr_not_equal(fresh, member);
    assert_int_equal(publisher_cut_member(publisher, STR("x"), STR("10.0.0.1:80")), 0);
    pool_member_put(member);
    pool_member_put(fresh);
    settle(publisher, 4);
    members = (struct members){0};
    assert_true(publisher_pool_targets(publisher, STR("p"), see_member, &members));
    assert_int_equal(members.count, 1);
    publisher_free(&publisher);
}

static void test_pinned_versions_wait(void **state)
{
    (void)state;
    struct publisher *publisher = setup();
    struct pin_table pins;
    assert_int_equal(pin_table_init(&pins, 16), 0);
    apply(publisher, NOUN_ROUTE, "h/p", "{\"targets\":[\"10.0.0.1:80\"]}");
    struct route_version *route = find(publisher, "h", "/p");
    struct pin *pin = pin_get(&pins, &route->version);
    assert_ptr_equal(route->to.targets.version, &route->version);
    apply(publisher, NOUN_ROUTE, "h/p", "");
    assert_int_equal(retired(publisher), 1);
    settle(publisher, 4);
    uint64_t count;
    uint64_t oldest_ms;
    publisher_retired(publisher, &count, &oldest_ms);
    assert_int_equal(count, 1);
    // All that a request needs is there, also the slot that was deleted.
    char text[64];
    route_slot_text(route->slot, text, sizeof text);
    assert_string_equal(text, "h/p");
    stat_slot_add(&route->slot->stats, 0, 1, 200, 0, 0);
    pool_member_put(pick(route));
    pin_put(&pins, &pin);
    settle(publisher, 3);
    assert_int_equal(retired(publisher), 0);
    pin_table_fini(&pins);
    publisher_free(&publisher);
}

struct listed {
    unsigned count;
    uint64_t requests;
    char names[4][64];
};

static void list_one(void *context, struct str name, const struct stat_sum *sum)
{
    struct listed *listed = context;
    str_copy(listed->names[listed->count++ % 4], 64, name);
    listed->requests += sum->count;
}

static void test_stats(void **state)
{
    (void)state;
    struct publisher *publisher = setup();
    apply(publisher, NOUN_ROUTE, "h/p", "{\"pool\":\"web\",\"tenant\":\"acme\"}");
    apply(publisher, NOUN_ROUTE, "idle", "{\"pool\":\"web\"}");
    struct route_version *route = find(publisher, "h", "/p");
    struct listed listed = {0};
    assert_int_equal(publisher_stats(publisher, "routes", 0, 10, list_one, &listed), 0);
    assert_int_equal(listed.count, 0);
    stat_slot_add(&route->slot->stats, 0, 5, 200, 1, 1);
    stat_slot_add(&route->tenant->stats, 0, 5, 200, 1, 1);
    stat_slot_add(&route->to.pool->stats, 0, 5, 200, 1, 1);
    static const char *const kinds[] = {"routes", "pools", "tenants", "nonsense"};
    static const char *const names[] = {"h/p", "web", "acme"};
    for (unsigned i = 0; i < 4; i++) {
        listed = (struct listed){0};
        assert_int_equal(publisher_stats(publisher, kinds[i], 0, 10, list_one, &listed), 0);
        assert_int_equal(listed.count, i < 3 ? 1 : 0);
        if (i < 3) {
            assert_string_equal(listed.names[0], names[i]);
            assert_int_equal(listed.requests, 1);
        }
    }
    apply(publisher, NOUN_ROUTE, "h/p", "");
    settle(publisher, 3);
    listed = (struct listed){0};
    publisher_stats(publisher, "routes", 0, 10, list_one, &listed);
    assert_int_equal(listed.count, 0);
    publisher_free(&publisher);
}

static void change_many(struct publisher *publisher, unsigned from, unsigned count)
{
    for (unsigned i = from; i < from + count; i++) {
        char key[64];
        char value[200];
        snprintf(key, sizeof key, i % 3 == 0 ? "h%u.example/p%u" : "h%u.example", i % 50, i % 7);
        snprintf(value, sizeof value, "{\"targets\":[\"10.0.%u.%u:80\"]}", i / 250 % 250, i % 250);
        apply(publisher, NOUN_ROUTE, key, i % 5 == 0 ? "" : value);
        if (i % 10 == 0) {
            snprintf(value, sizeof value, "{\"targets\":[\"10.1.0.%u:80\"]}", i % 250);
            apply(publisher, NOUN_POOL, i % 20 == 0 ? "p" : "q", value);
            apply(publisher, NOUN_ROUTE, "named", i % 20 == 0 ? "{\"pool\":\"p\"}" : "");
        }
        if (i % 200 == 0) {
            rcu_drain(); // the reclaim thread is not to fall far behind
        }
    }
    settle(publisher, 20);
}

static void test_memory_stays_flat(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    enum { CHANGES = 10000 };
#else
    enum { CHANGES = 100000 };
#endif
    struct publisher *publisher = setup();
    change_many(publisher, 0, CHANGES / 10);
    assert_int_equal(retired(publisher), 0);
    uint64_t waiting = rcu_retired_count();
    size_t before = mallinfo2().uordblks;
    change_many(publisher, 0, CHANGES);
    assert_int_equal(retired(publisher), 0);
    assert_int_equal(rcu_retired_count(), waiting);
    assert_true(mallinfo2().uordblks < before + 65536);
    assert_int_equal(publisher_skipped_count(publisher), 0);
    publisher_free(&publisher);
}

static void test_check(void **state)
{
    (void)state;
    struct publisher *publisher = setup();
    struct problems problems;
    struct declaration declaration = {.noun = NOUN_ROUTE, .route.path = STR("/a/b")};
    problems_init(&problems);
    assert_int_equal(publisher_check(publisher, &declaration, &problems), 0);
    char deep[400];
    for (unsigned i = 0; i < 65; i++) {
        memcpy(deep + 2 * (size_t)i, "/s", 3);
    }
    declaration.route.path = str_from_c(deep);
    assert_int_equal(publisher_check(publisher, &declaration, &problems), ERR_INVALID);
    assert_string_equal(problems.items[0].pointer, "/path");
    problems_fini(&problems);
    publisher_free(&publisher);
}

static void test_names_and_timer_on_the_loop(void **state)
{
    (void)state;
    struct publisher *publisher = setup();
    struct sockaddr_storage address;
    struct loop loop;
    socklen_t len;
    assert_int_equal(loop_init(&loop), 0);
    assert_int_equal(publisher_start(publisher, &loop), 0);
    apply(publisher, NOUN_ROUTE, "h", "{\"targets\":[\"localhost:3000\"]}");
    struct pool_member *member = pick(find(publisher, "h", "/"));
    assert_true(pool_member_address(member, &address, &len)); // at once
    struct sockaddr_in in4;
    memcpy(&in4, &address, sizeof in4);
    assert_int_equal(in4.sin_family, AF_INET);
    assert_int_equal(ntohs(in4.sin_port), 3000);
    assert_int_equal(ntohl(in4.sin_addr.s_addr), INADDR_LOOPBACK);
    apply(publisher, NOUN_ROUTE, "g", "{\"targets\":[\"localhost:3001\",\"no-such.invalid:80\"]}");
    apply(publisher, NOUN_ROUTE, "h", "{\"targets\":[\"10.0.0.1:80\"]}");
    pool_member_put(member);
    uint64_t end = clock_monotonic_ns() + 60 * NS_PER_SEC;
    while (retired(publisher) > 0 && clock_monotonic_ns() < end) {
        loop_turn(&loop, 20);
        rcu_turn_done();
    }
    assert_int_equal(retired(publisher), 0); // the timer alone
    publisher_stop(publisher);
    for (unsigned i = 0; i < 3; i++) {
        loop_turn(&loop, 0);
    }
    publisher_free(&publisher);
    loop_fini(&loop);
}

// A batch replaces 10,000 routes; the timer alone gives the memory back, usually in 0.2 s.
static void test_a_batch_is_given_back_soon(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    struct publisher *publisher = setup();
    struct store_record *records = calloc(COUNT, sizeof *records);
    char(*keys)[32] = calloc(COUNT, sizeof *keys);
    struct loop loop;
    assert_true(records != NULL && keys != NULL);
    assert_int_equal(loop_init(&loop), 0);
    assert_int_equal(publisher_start(publisher, &loop), 0);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            snprintf(keys[i], sizeof keys[i], "h%u.example", i);
            records[i] = record_of(NOUN_ROUTE, keys[i],
                                   round == 0 ? "{\"targets\":[\"10.0.0.1:80\"]}"
                                              : "{\"targets\":[\"10.0.0.2:80\"]}");
        }
        publisher_apply(publisher, ++revision, records, COUNT);
    }
    assert_int_equal(publisher_route_count(publisher), COUNT);
    uint64_t start = clock_monotonic_ns();
    while ((retired(publisher) > 0 || rcu_retired_count() > 0) &&
           clock_monotonic_ns() < start + 60 * NS_PER_SEC) {
        loop_turn(&loop, 5);
        rcu_turn_done();
    }
    assert_int_equal(retired(publisher), 0);
    assert_int_equal(rcu_retired_count(), 0);
    publisher_stop(publisher);
    publisher_free(&publisher);
    loop_fini(&loop);
    free(records);
    free(keys);
}

struct slices {
    unsigned live; // revisions
};

static void on_live(void *context)
{
    ((struct slices *)context)->live++;
}

static void fill_block(struct store_record *records, char (*keys)[32], unsigned count,
                       const char *value)
{
    for (unsigned i = 0; i < count; i++) {
        snprintf(keys[i], sizeof keys[i], "h%u.example", i);
        records[i] = record_of(NOUN_ROUTE, keys[i], value);
    }
}

// A block of 10,000 changes: the loop goes on meanwhile, none of it is seen before all of it is.
static void test_a_block_is_applied_in_slices(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    struct publisher *publisher = setup();
    struct slices slices = {0};
    struct applied applied = {.listener.on_applied = on_applied};
    struct store_record *records = calloc(COUNT, sizeof *records);
    char(*keys)[32] = calloc(COUNT, sizeof *keys);
    struct loop loop;
    assert_true(records != NULL && keys != NULL);
    assert_int_equal(loop_init(&loop), 0);
    assert_int_equal(publisher_start(publisher, &loop), 0);
    publisher_listen(publisher, &applied.listener);
    publisher_on_live(publisher, on_live, &slices);
    for (unsigned round = 1; round <= 2; round++) {
        fill_block(records, keys, COUNT,
                   round == 1 ? "{\"targets\":[\"10.0.0.1:80\"]}"
                              : "{\"targets\":[\"10.0.0.2:80\"]}");
        const char *before = round == 1 ? "" : "10.0.0.1:80";
        unsigned turns = 0;
        uint64_t longest_ns = 0;
        assert_false(publisher_begin(publisher, ++revision, records, COUNT));
        while (slices.live < round) {
            bool is_published = publisher_revision(publisher) == revision;
            const char *after = round == 1 ? "10.0.0.1:80" : "10.0.0.2:80";
            assert_string_equal(target(publisher, "h0.example", "/"),
                                is_published ? after : before);
            assert_string_equal(target(publisher, "h9999.example", "/"),
                                is_published ? after : before);
            uint64_t start_ns = clock_monotonic_ns();
            loop_turn(&loop, 5);
            uint64_t took_ns = clock_monotonic_ns() - start_ns;
            longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
            rcu_turn_done();
            turns++;
        }
        assert_true(turns > 2);
        if (getenv("POINTSMAN_BENCH") != NULL) {
            print_message("%u turns, the longest %.2f ms\n", turns, (double)longest_ns / 1e6);
        }
        assert_int_equal(applied.calls, round);
    }
    assert_int_equal(publisher_route_count(publisher), COUNT);
    // At its end the node does not wait for slices.
    fill_block(records, keys, COUNT, "");
    assert_false(publisher_begin(publisher, ++revision, records, COUNT));
    loop_turn(&loop, 0);
    publisher_hurry(publisher);
    assert_int_equal(slices.live, 3);
    assert_int_equal(publisher_route_count(publisher), 0);
    assert_true(publisher_begin(publisher, ++revision, records, COUNT));
    publisher_stop(publisher);
    publisher_free(&publisher);
    loop_fini(&loop);
    free(records);
    free(keys);
}

static void note_health(void *context, const struct publish_target *target)
{
    *(const char **)context = target->health;
}

static const char *health_of(struct publisher *publisher, const char *pool)
{
    const char *health = "";
    publisher_pool_targets(publisher, str_from_c(pool), note_health, &health);
    return health;
}

// Checks of very many pools begin in slices as well, and have begun when the block is said to be live.
static void test_checks_of_a_block_begin_in_slices(void **state)
{
    (void)state;
    enum { COUNT = 5000 };
    struct publisher *publisher = setup();
    struct slices slices = {0};
    struct store_record *records = calloc(COUNT, sizeof *records);
    char(*keys)[32] = calloc(COUNT, sizeof *keys);
    struct prober *prober;
    struct loop loop;
    assert_true(records != NULL && keys != NULL);
    assert_int_equal(loop_init(&loop), 0);
    assert_int_equal(prober_new(&prober, 1), 0); // its thread is never started
    assert_int_equal(publisher_configure(publisher, &(struct publish_config){.prober = prober}), 0);
    assert_int_equal(publisher_start(publisher, &loop), 0);
    publisher_on_live(publisher, on_live, &slices);
    fill_block(records, keys, COUNT, "{\"targets\":[\"10.0.0.1:80\"],\"health\":{}}");
    for (unsigned i = 0; i < COUNT; i++) {
        records[i].noun = NOUN_POOL;
    }
    assert_false(publisher_begin(publisher, ++revision, records, COUNT));
    while (publisher_revision(publisher) != revision) {
        loop_turn(&loop, 5);
        rcu_turn_done();
    }
    assert_int_equal(slices.live, 0);
    assert_string_equal(health_of(publisher, keys[COUNT - 1]),
                        "none"); // published, not yet checked
    while (slices.live == 0) {
        loop_turn(&loop, 5);
        rcu_turn_done();
    }
    for (unsigned i = 0; i < COUNT; i++) {
        assert_string_equal(health_of(publisher, keys[i]), "unknown");
    }
    publisher_stop(publisher);
    publisher_free(&publisher);
    prober_free(&prober);
    loop_fini(&loop);
    free(records);
    free(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_replace_delete),
        cmocka_unit_test(test_pools_are_referred_to),
        cmocka_unit_test(test_bad_records_are_skipped_alone),
        cmocka_unit_test(test_one_revision_in_any_order),
        cmocka_unit_test(test_members_keep_their_counts),
        cmocka_unit_test(test_cut_a_member_that_left),
        cmocka_unit_test(test_pinned_versions_wait),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_memory_stays_flat),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_names_and_timer_on_the_loop),
        cmocka_unit_test(test_a_batch_is_given_back_soon),
        cmocka_unit_test(test_a_block_is_applied_in_slices),
        cmocka_unit_test(test_checks_of_a_block_begin_in_slices),
    };
    hash_seed();
    log_set_level(LOG_ERROR);
    rcu_thread_begin();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rcu_drain();
    rcu_thread_end();
    return failed;
}
