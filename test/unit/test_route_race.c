// SPDX-License-Identifier: MIT
// Readers look up, pick, pin and count while the control thread changes, replaces and removes what
// they use. For ThreadSanitizer, and for AddressSanitizer as well.
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "loop/rcu.h"
#include "publish/publish.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { READERS = 3, RUN_MS = 900, HELD = 8, HOSTS = 12 };

struct reader {
    pthread_t thread;
    struct publisher *publisher;
    unsigned index;
    _Atomic uint64_t found;
    _Atomic uint64_t picked;
    uint64_t wrong;
};

static atomic_bool stop;

// NULL: none may be picked.
static struct pool_member *pick(const struct pool_version *pool, struct pool_slot *slot,
                                uint64_t random)
{
    struct pool_choice choice = {.random = random};
    struct pool_member *member;
    (void)pool_pick(pool, slot, &choice, &member);
    return member;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// A request under way over several turns: pins and a count.
struct held {
    struct pin *route_pin;
    struct pin *pool_pin;
    struct route_version *route;
    struct pool_member *member;
};

static void end_request(struct reader *reader, struct pin_table *pins, struct held *held)
{
    if (held->member != NULL) {
        pool_member_put(held->member);
    }
    if (held->route != NULL) {
        stat_slot_add(&held->route->slot->stats, reader->index, 1, 200, 0, 0);
    }
    pin_put(pins, &held->pool_pin);
    pin_put(pins, &held->route_pin);
    *held = (struct held){0};
}

static void begin_request(struct reader *reader, struct pin_table *pins, struct held *held,
                          uint64_t random)
{
    char host[32];
    char text[128];
    struct pool_slot *named = NULL;
    int len = snprintf(host, sizeof host, "%sh%u.example", random & 256 ? "x." : "",
                       (unsigned)(random % HOSTS));
    struct route_version *route =
        route_find(publisher_routes(reader->publisher), str_make(host, (size_t)len),
                   random & 512 ? STR("/a/b/c") : STR("/"));
    if (route == NULL) {
        return;
    }
    atomic_fetch_add_explicit(&reader->found, 1, memory_order_relaxed);
    route_slot_text(route->slot, text, sizeof text);
    if (strstr(text, host + (random & 256 ? 2 : 0)) == NULL && text[0] != '*') {
        reader->wrong++;
    }
    held->route = route;
    held->route_pin = pin_get(pins, &route->version);
    const struct pool_version *pool = route_pool(route, random, &named);
    if (pool == NULL) {
        return;
    }
    held->pool_pin = pin_get(pins, pool->version);
    held->member = pick(pool, named, random);
    if (held->member != NULL) {
        struct sockaddr_storage address;
        socklen_t address_len;
        pool_member_address(held->member, &address, &address_len);
        atomic_fetch_add_explicit(&reader->picked, 1, memory_order_relaxed);
    }
    if (named != NULL) {
        stat_slot_add(&named->stats, reader->index, 1, 200, 0, 0);
    }
}

static void *run_reader(void *argument)
{
    struct reader *reader = argument;
    struct held held[HELD] = {0};
    struct pin_table pins;
    uint64_t random = 0x9E3779B97F4A7C15u * (reader->index + 1);
    if (pin_table_init(&pins, 64) != 0) {
        return NULL;
    }
    rcu_thread_begin();
    for (uint64_t turn = 0; !atomic_load_explicit(&stop, memory_order_relaxed); turn++) {
        for (unsigned i = 0; i < HELD / 2; i++) {
            struct held *one = &held[next_random(&random) % HELD];
            end_request(reader, &pins, one);
            begin_request(reader, &pins, one, next_random(&random));
        }
        if (turn % 16 == 0) {
            rcu_go_offline();
            rcu_go_online();
        } else {
            rcu_turn_done();
        }
    }
    for (unsigned i = 0; i < HELD; i++) {
        end_request(reader, &pins, &held[i]);
    }
    rcu_thread_end();
    pin_table_fini(&pins);
    return NULL;
}

// For RUN_MS, and until each reader has had its part of it (a minute at most).
static bool is_going_on(struct reader *readers, uint64_t began_ns)
{
    uint64_t passed_ms = (clock_monotonic_ns() - began_ns) / NS_PER_MS;
    bool has_read = true;
    for (unsigned i = 0; i < READERS; i++) {
        has_read = has_read && atomic_load_explicit(&readers[i].found, memory_order_relaxed) > 0 &&
                   atomic_load_explicit(&readers[i].picked, memory_order_relaxed) > 0;
    }
    return passed_ms < RUN_MS || (!has_read && passed_ms < 60000);
}

static void change_route(struct publisher *publisher, uint64_t revision, uint64_t random)
{
    static const char *const values[] = {
        "{\"targets\":[\"10.0.0.1:80\",\"10.0.0.2:80\"]}",
        "{\"targets\":[\"10.0.0.2:80\",\"localhost:80\"]}",
        "{\"pool\":\"p0\"}",
        "{\"split\":[{\"pool\":\"p0\",\"weight\":1},{\"pool\":\"p1\",\"weight\":3}]}",
        "{\"respond\":{\"status\":204}}",
        "",
    };
    char key[64];
    snprintf(key, sizeof key, "%sh%u.example%s", random & 256 ? "*." : "",
             (unsigned)(random % HOSTS), random & 512 ? "/a/b" : "");
    struct store_record record = {.noun = NOUN_ROUTE,
                                  .key = random >> 20 & 15 ? str_from_c(key) : STR("*"),
                                  .value = str_from_c(values[(random >> 32) % 6])};
    publisher_apply(publisher, revision, &record, 1);
}

static void change_pool(struct publisher *publisher, uint64_t revision, uint64_t random)
{
    static const char *const values[] = {
        "{\"targets\":[\"10.0.0.1:80\",\"10.0.0.2:80\"]}",
        ("{\"targets\":[{\"address\":\"10.0.0.2:80\",\"weight\":3},\"10.0.0.3:80\"],"
         "\"balance\":\"round_robin\"}"),
        "{\"targets\":[]}",
        "",
    };
    struct store_record record = {.noun = NOUN_POOL,
                                  .key = random & 1 ? STR("p0") : STR("p1"),
                                  .value = str_from_c(values[(random >> 32) % 4])};
    publisher_apply(publisher, revision, &record, 1);
    publisher_cut_member(publisher, STR("p0"), STR("10.0.0.1:80"));
}

static void see_stat(void *context, struct str name, const struct stat_sum *sum)
{
    (void)name;
    *(uint64_t *)context += sum->count;
}

static void test_readers_and_changes(void **state)
{
    (void)state;
    static struct reader readers[READERS];
    struct publisher *publisher;
    assert_int_equal(publisher_new(&publisher, NULL, NULL, NULL), 0);
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.publisher = publisher, .index = i};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, run_reader, &readers[i]), 0);
    }
    uint64_t random = 88172645463325252u;
    uint64_t revision = 0;
    uint64_t began = clock_monotonic_ns();
    while (is_going_on(readers, began)) {
        uint64_t counted = 0;
        for (unsigned i = 0; i < 20; i++) {
            change_route(publisher, ++revision, next_random(&random));
        }
        change_pool(publisher, ++revision, next_random(&random));
        publisher_stats(publisher, "routes", 0, 10, see_stat, &counted);
        if (revision == 2100) { // the table grows under way
            for (unsigned i = 0; i < 3000; i++) {
                char key[64];
                snprintf(key, sizeof key, "grow%u.example/x", i);
                struct store_record record = {.noun = NOUN_ROUTE,
                                              .key = str_from_c(key),
                                              .value = STR("{\"targets\":[\"10.0.0.1:80\"]}")};
                publisher_apply(publisher, ++revision, &record, 1);
            }
        }
        rcu_turn_done();
    }
    atomic_store(&stop, true);
    uint64_t found = 0;
    uint64_t picked = 0;
    for (unsigned i = 0; i < READERS; i++) {
        rcu_go_offline();
        pthread_join(readers[i].thread, NULL);
        rcu_go_online();
        found += readers[i].found;
        picked += readers[i].picked;
        assert_int_equal(readers[i].wrong, 0);
    }
    assert_true(found > 0);
    assert_true(picked > 0);
    assert_int_equal(publisher_skipped_count(publisher), 0);
    uint64_t retired = 1;
    for (unsigned i = 0; i < 1000 && retired > 0; i++) {
        uint64_t oldest_ms;
        rcu_drain();
        publisher_apply(publisher, ++revision, NULL, 0);
        publisher_retired(publisher, &retired, &oldest_ms);
    }
    assert_int_equal(retired, 0);
    publisher_free(&publisher);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_readers_and_changes)};
    hash_seed();
    log_set_level(LOG_ERROR);
    stats_set_worker_count(READERS);
    rcu_thread_begin();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rcu_drain();
    rcu_thread_end();
    return failed;
}
