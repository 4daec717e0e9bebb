// SPDX-License-Identifier: MIT
// Workers pick, hold and report while answers of a name, health and lists of targets change under them. For
// ThreadSanitizer, and for AddressSanitizer as well.
#include "base/clock.h"
#include "base/hash.h"
#include "base/invariant.h"
#include "base/log.h"
#include "loop/rcu.h"
#include "publish/health.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { WORKERS = 3, RUN_MS = 900, HELD = 8, ADDRESS_MAX = 4 };

// ---- a resolver without a network: one name ----

struct resolver {
    resolver_answer *on_answer;
    void *context;
    bool is_watched;
};

struct resolver_name {
    int unused;
};

static struct resolver the_resolver;
#include "resolver_stand_in.h"
static struct resolver_name the_name;

int resolver_watch(struct resolver *resolver, struct str host, resolver_answer *on_answer,
                   void *context, struct resolver_name **name)
{
    (void)host;
    *resolver = (struct resolver){.on_answer = on_answer, .context = context, .is_watched = true};
    *name = &the_name;
    return 0;
}

void resolver_unwatch(struct resolver_name **name)
{
    the_resolver.is_watched &= *name == NULL;
    *name = NULL;
}

uint64_t resolver_failure_count(const struct resolver *resolver)
{
    (void)resolver;
    return 0;
}

static void answer(uint64_t random)
{
    struct sockaddr_storage list[ADDRESS_MAX];
    struct resolver_result result = {.addresses = list};
    memset(list, 0, sizeof list);
    for (unsigned i = 0; i < ADDRESS_MAX; i++) {
        struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a010000u + i)};
        if (random >> i & 1) {
            memcpy(&list[result.count++], &in4, sizeof in4);
        }
    }
    result.error = result.count == 0 ? "timeout" : NULL;
    if (the_resolver.is_watched) {
        the_resolver.on_answer(the_resolver.context, &result);
    }
}

// ---- workers ----

struct worker {
    pthread_t thread;
    struct publisher *publisher;
    unsigned index;
    _Atomic uint64_t picked;
};

static atomic_bool is_over;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static struct pool_member *begin(struct worker *worker, uint64_t random)
{
    static const char *const hosts[] = {"named.example", "list.example", "one.example"};
    struct route_version *route =
        route_find(publisher_routes(worker->publisher), str_from_c(hosts[random % 3]), STR("/"));
    struct pool_slot *slot = NULL;
    const struct pool_version *pool = route == NULL ? NULL : route_pool(route, random, &slot);
    struct pool_choice choice = {
        .random = random, .now_ms = random >> 40, .has_hash = true, .hash = random};
    struct pool_member *member = NULL;
    if (pool == NULL || pool_pick(pool, slot, &choice, &member) != POOL_PICKED) {
        return NULL;
    }
    struct sockaddr_storage address;
    socklen_t len;
    INVARIANT(pool_member_address(member, &address, &len));
    atomic_fetch_add_explicit(&worker->picked, 1, memory_order_relaxed);
    if (pool_settings(pool) != NULL && random % 5 == 0) {
        pool_member_failed(member, pool_settings(pool), random >> 40);
    }
    return member;
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    struct pool_member *held[HELD] = {0};
    uint64_t random = UINT64_C(0x9E3779B97F4A7C15) * (worker->index + 1);
    rcu_thread_begin();
    for (uint64_t turn = 0; !atomic_load_explicit(&is_over, memory_order_relaxed); turn++) {
        for (unsigned i = 0; i < HELD / 2; i++) {
            struct pool_member **one = &held[next_random(&random) % HELD];
            if (*one != NULL) {
                pool_member_put(*one);
            }
            *one = begin(worker, next_random(&random));
        }
        rcu_turn_done();
    }
    for (unsigned i = 0; i < HELD; i++) {
        if (held[i] != NULL) {
            pool_member_put(held[i]);
        }
    }
    rcu_thread_end();
    return NULL;
}

// ---- control ----

// For RUN_MS, and until each worker has had its part of it (a minute at most).
static bool is_going_on(struct worker *workers, uint64_t began_ns)
{
    uint64_t passed_ms = (clock_monotonic_ns() - began_ns) / NS_PER_MS;
    bool has_picked = true;
    for (unsigned i = 0; i < WORKERS; i++) {
        has_picked =
            has_picked && atomic_load_explicit(&workers[i].picked, memory_order_relaxed) > 0;
    }
    return passed_ms < RUN_MS || (!has_picked && passed_ms < 60000);
}

static void change(struct publisher *publisher, uint64_t revision, uint64_t random)
{
    static const char *const pools[] = {
        "{\"targets\":[\"10.0.0.1:80\",\"app:80\"],\"passive\":{\"max_fails\":2}}",
        "{\"targets\":[\"app:80\",\"app:81\",\"10.0.0.2:80\"],\"balance\":\"round_robin\"}",
        ("{\"targets\":[\"app:80\",{\"address\":\"10.0.0.2:80\",\"backup\":true}],"
         "\"balance\":\"hash\",\"hash\":\"path\",\"slow_start\":\"1s\"}"),
        ("{\"targets\":[{\"address\":\"10.0.0.1:80\",\"max_connections\":2},\"app:80\"],"
         "\"limits\":{\"requests_per_target\":3,\"queue\":4}}"),
        "",
    };
    static const char *const lists[] = {
        "{\"targets\":[\"10.0.0.1:80\",\"app:80\"]}",
        "{\"targets\":[\"app:80\"]}",
        "{\"targets\":[\"10.0.0.1:80\"]}",
        "{\"targets\":[\"10.0.0.1:80\",\"10.0.0.2:80\"]}",
        "",
    };
    struct store_record record = {
        .noun = NOUN_POOL, .key = STR("p"), .value = str_from_c(pools[(random >> 32) % 5])};
    if (random & 1) {
        record = (struct store_record){.noun = NOUN_ROUTE,
                                       .key = random & 2 ? STR("list.example") : STR("one.example"),
                                       .value = str_from_c(lists[(random >> 32) % 5])};
    }
    publisher_apply(publisher, revision, &record, 1);
    if (random % 16 == 0) {
        publisher_cut_member(publisher, STR("p"), STR("app:80"));
    }
}

static void visit_target(void *context, const struct publish_target *target)
{
    *(uint64_t *)context += target->requests;
}

static void test_workers_and_changes(void **state)
{
    (void)state;
    static struct worker workers[WORKERS];
    struct publisher *publisher;
    struct loop loop;
    assert_int_equal(loop_init(&loop), 0);
    assert_int_equal(publisher_new(&publisher, NULL, NULL, NULL), 0);
    assert_int_equal(publisher_start(publisher, &loop), 0);
    uint64_t revision = 1;
    struct store_record record = {
        .noun = NOUN_ROUTE, .key = STR("named.example"), .value = STR("{\"pool\":\"p\"}")};
    publisher_apply(publisher, revision, &record, 1);
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.publisher = publisher, .index = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]), 0);
    }
    uint64_t random = UINT64_C(88172645463325252);
    uint64_t began = clock_monotonic_ns();
    uint64_t requests = 0;
    while (is_going_on(workers, began)) {
        if (next_random(&random) % 2 == 0) {
            change(publisher, ++revision, next_random(&random));
        } else {
            answer(next_random(&random));
        }
        publisher_pool_targets(publisher, STR("p"), visit_target, &requests);
        loop_turn(&loop, 0);
        rcu_turn_done();
    }
    atomic_store(&is_over, true);
    uint64_t picked = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        rcu_go_offline();
        pthread_join(workers[i].thread, NULL);
        rcu_go_online();
        picked += workers[i].picked;
    }
    assert_true(picked > 0);
    assert_int_equal(publisher_skipped_count(publisher), 0);
    for (unsigned i = 0; i < 20; i++) {
        rcu_turn_done();
        rcu_drain();
        loop_turn(&loop, 0);
        publisher_apply(publisher, ++revision, NULL, 0);
    }
    requests = 0;
    publisher_pool_targets(publisher, STR("p"), visit_target, &requests);
    assert_int_equal(requests, 0); // no count has drifted
    publisher_stop(publisher);
    loop_empty_mailbox(&loop);
    publisher_free(&publisher);
    assert_false(the_resolver.is_watched);
    loop_fini(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_workers_and_changes)};
    hash_seed();
    log_set_level(LOG_ERROR);
    stats_set_worker_count(WORKERS);
    rcu_thread_begin();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rcu_drain();
    rcu_thread_end();
    return failed;
}
