// SPDX-License-Identifier: MIT
// Health without a prober, a resolver and a network: what it calls is here, and time passes on command.
#pragma once
#include "base/hash.h"
#include "base/log.h"
#include "publish/health_int.h"
#include "upstream/pool_counts.h"
#include "upstream/pool_member.h"
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { FAKE_MAX = 4096, EVENT_MAX = 4096 };

// ---- the prober ----

struct fake_probe {
    bool is_live;
    unsigned changes;
    struct probe_spec spec; // its texts are copies
    char host[300], path[300], body[64], server_name[300];
    probe_done *done;
    void *context;
};

static struct fake_probe *fakes[FAKE_MAX];
static unsigned fake_count;
static unsigned live_probes;
static bool no_memory;

static inline void take_spec(struct fake_probe *fake, const struct probe_spec *spec)
{
    fake->spec = *spec;
    str_copy(fake->host, sizeof fake->host, spec->host);
    str_copy(fake->path, sizeof fake->path, spec->path);
    str_copy(fake->body, sizeof fake->body, spec->body);
    str_copy(fake->server_name, sizeof fake->server_name, spec->server_name);
}

struct probe *probe_begin(struct prober *prober, const struct probe_spec *spec,
                          probe_done *on_result, void *context)
{
    (void)prober;
    if (no_memory) {
        return NULL;
    }
    struct fake_probe *fake = calloc(1, sizeof *fake);
    assert_true(fake != NULL && fake_count < FAKE_MAX);
    fake->is_live = true;
    fake->done = on_result;
    fake->context = context;
    take_spec(fake, spec);
    fakes[fake_count++] = fake;
    live_probes++;
    return (struct probe *)fake;
}

int probe_change(struct probe *probe, const struct probe_spec *spec)
{
    struct fake_probe *fake = (struct fake_probe *)probe;
    assert_true(fake->is_live);
    if (no_memory) {
        return ERR_MEMORY;
    }
    take_spec(fake, spec);
    fake->changes++;
    return 0;
}

void probe_end(struct probe **probe)
{
    struct fake_probe *fake = (struct fake_probe *)*probe;
    assert_true(fake->is_live);
    fake->is_live = false;
    live_probes--;
    *probe = NULL;
}

void prober_counts(const struct prober *prober, uint64_t *checks, uint64_t *failures)
{
    (void)prober;
    *checks = 7;
    *failures = 3;
}

// ---- the resolver ----

struct resolver_name {
    char host[256];
    resolver_answer *on_answer;
    void *context;
};

static struct resolver_name *watched; // the last one
static unsigned watched_count;

int resolver_watch(struct resolver *resolver, struct str host, resolver_answer *on_answer,
                   void *context, struct resolver_name **name)
{
    (void)resolver;
    if (no_memory) {
        return ERR_MEMORY;
    }
    *name = calloc(1, sizeof **name);
    assert_non_null(*name);
    str_copy((*name)->host, sizeof(*name)->host, host);
    (*name)->on_answer = on_answer;
    (*name)->context = context;
    watched = *name;
    watched_count++;
    return 0;
}

void resolver_unwatch(struct resolver_name **name)
{
    watched_count--;
    if (watched == *name) {
        watched = NULL;
    }
    free(*name);
    *name = NULL;
}

// The names that pools have: all are this one.
static struct watched_name pools_name = {.address_count = 1};

struct watched_name *name_watch(struct publisher *publisher, struct str host)
{
    (void)publisher;
    (void)host;
    if (no_memory) {
        return NULL;
    }
    pools_name.refs++;
    return &pools_name;
}

void name_unwatch(struct publisher *publisher, struct watched_name *name)
{
    (void)publisher;
    assert_true(name == &pools_name && name->refs > 0);
    name->refs--;
}

uint64_t resolver_failure_count(const struct resolver *resolver)
{
    (void)resolver;
    return 0;
}

uint64_t resolver_left_out_count(const struct resolver *resolver)
{
    (void)resolver;
    return 0;
}

// ---- the tables ----

struct test_live {
    struct pool_member *member;
    enum target_state declared;
};

struct test_pool {
    struct pool_version *version;
    struct pool_own own;
    struct named_pool *pool;
    struct test_live live[FAKE_MAX]; // of the live version
    unsigned live_count;
    struct pool_member *made[FAKE_MAX];
    unsigned made_count;
    unsigned refreshes;
    bool is_panic; // what the next view says
};

static struct loop loop;
static struct publisher publisher;
static struct test_pool *pools[4];
static unsigned pool_count;

static inline struct test_pool *test_pool_of(const struct named_pool *pool)
{
    for (unsigned i = 0; i < pool_count; i++) {
        if (pools[i]->pool == pool) {
            return pools[i];
        }
    }
    fail_msg("an unknown pool");
    return NULL;
}

void pool_refresh(struct publisher *of, struct named_pool *pool)
{
    struct test_pool *test = test_pool_of(pool);
    struct pool_view_facts facts = {.is_panic = test->is_panic};
    test->refreshes++;
    health_seen(of, pool, &facts);
}

void pool_visit_live(struct named_pool *pool,
                     void (*visit)(void *context, struct pool_member *member,
                                   enum target_state declared),
                     void *context)
{
    struct test_pool *test = test_pool_of(pool);
    for (unsigned i = 0; i < test->live_count; i++) {
        visit(context, test->live[i].member, test->live[i].declared);
    }
}

struct named_pool *pool_by_name(struct publisher *of, struct str name, bool is_made)
{
    (void)of;
    (void)is_made;
    for (unsigned i = 0; i < pool_count; i++) {
        if (str_eq(pools[i]->pool->slot.name, name)) {
            return pools[i]->pool;
        }
    }
    return NULL;
}

static struct named_tls shared_tls;

int tls_get(struct publisher *of, const struct pool_tls_decl *decl, struct named_tls **tls)
{
    (void)of;
    (void)decl;
    if (shared_tls.context == NULL) {
        const struct tls_client_config config = {.verify = false};
        assert_int_equal(tls_client_context_new(&shared_tls.context, &config), 0);
    }
    *tls = &shared_tls;
    return 0;
}

void tls_put(struct publisher *of, struct named_tls *tls)
{
    (void)of;
    (void)tls;
}

// ---- events ----

struct test_event {
    char pool[64], target[128], state[16], reason[HEALTH_REASON_MAX];
};

static struct test_event events[EVENT_MAX];
static unsigned event_count;
static struct publish_health_listener listener;

static inline void on_event(struct publish_health_listener *of,
                            const struct publish_health_event *event)
{
    (void)of;
    struct test_event *to = &events[event_count++ % EVENT_MAX];
    str_copy(to->pool, sizeof to->pool, event->pool);
    str_copy(to->target, sizeof to->target, event->target);
    str_copy(to->state, sizeof to->state, str_from_c(event->state));
    str_copy(to->reason, sizeof to->reason, str_from_c(event->reason));
}

// The events since the last call, "target state; …" without pool and reason.
static inline const char *told(void)
{
    static char text[4096];
    size_t len = 0;
    text[0] = 0;
    for (unsigned i = 0; i < event_count && i < EVENT_MAX && len + 200 < sizeof text; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s %s", i > 0 ? "; " : "",
                                events[i].target, events[i].state);
    }
    event_count = 0;
    return text;
}

// ---- the fixture ----

static inline void pass(uint64_t ms)
{
    loop.now_ms += ms;
    loop.now_ns = loop.now_ms * 1000000;
    loop.real_ns = loop.now_ns;
    loop_turn(&loop, 0);
    loop_turn(&loop, 0); // what timers of this turn have marked
}

static int setup(void **state)
{
    (void)state;
    hash_seed();
    log_set_level(LOG_ERROR);
    assert_int_equal(loop_init(&loop), 0);
    loop.is_simulated = true;
    memset(&publisher, 0, sizeof publisher);
    health_init(&publisher);
    publisher.control = &loop;
    publisher.health.prober = (struct prober *)&loop; // any address
    health_start(&publisher);
    listener.on_event = on_event;
    publisher_listen_health(&publisher, &listener);
    event_count = 0;
    fake_count = 0;
    pool_count = 0;
    no_memory = false;
    return 0;
}

static inline struct test_pool *make_pool(const char *name)
{
    struct test_pool *test = calloc(1, sizeof *test);
    assert_non_null(test);
    test->pool = calloc(1, sizeof *test->pool + strlen(name) + 1);
    assert_non_null(test->pool);
    str_copy(test->pool->name, strlen(name) + 1, str_from_c(name));
    test->pool->slot.name = str_from_c(test->pool->name);
    test->version = calloc(1, sizeof *test->version);
    assert_non_null(test->version);
    test->version->own = &test->own;
    test->own.settings = (struct pool_settings){
        .health = {.type = HEALTH_HTTP,
                   .path = STR("/up"),
                   .interval_ms = 5000,
                   .timeout_ms = 2000,
                   .rise = 2,
                   .fall = 3},
        .passive = {.max_fails = 3, .fail_timeout_ms = 10000},
        .eject_max_percent = 50,
        .eject_base_ms = 10000,
        .eject_max_ms = 300000,
    };
    test->pool->slot.current = test->version;
    pools[pool_count++] = test;
    return test;
}

// A target of the live version, as of the next health_follow(). `resolved` NULL: it is an address.
static inline struct pool_target *add_to(struct test_pool *test, const char *text,
                                         const char *resolved)
{
    struct problems problems;
    struct target_address address;
    char *memory;
    problems_init(&problems);
    assert_int_equal(target_address_parse(str_from_c(text), &address, &memory, "", &problems), 0);
    struct sockaddr_in in4 = {.sin_family = AF_INET};
    if (resolved != NULL) {
        assert_int_equal(inet_pton(AF_INET, resolved, &in4.sin_addr), 1);
    }
    struct pool_member *member = pool_member_new(
        &test->pool->slot, &address, resolved == NULL ? NULL : (const struct sockaddr *)&in4);
    assert_non_null(member);
    free(memory);
    struct pool_target *target = pool_target_of(member);
    target->pool = test->pool;
    test->made[test->made_count++] = member;
    test->live[test->live_count++] = (struct test_live){member, TARGET_UP};
    return target;
}

static inline struct pool_target *add_number(struct test_pool *test, unsigned number)
{
    char text[32];
    snprintf(text, sizeof text, "10.0.%u.%u:80", number / 250, number % 250 + 1);
    return add_to(test, text, NULL);
}

// It is not of the live version any more, as of the next health_follow().
static inline void take_from(struct test_pool *test, const struct pool_target *target)
{
    for (unsigned i = 0; i < test->live_count; i++) {
        if (test->live[i].member == &target->member) {
            test->live[i] = test->live[--test->live_count];
            return;
        }
    }
    fail();
}

static inline void declare(struct test_pool *test, const struct pool_target *target,
                           enum target_state declared)
{
    for (unsigned i = 0; i < test->live_count; i++) {
        if (test->live[i].member == &target->member) {
            test->live[i].declared = declared;
        }
    }
    health_follow(&publisher, test->pool);
}

static inline struct fake_probe *probe_of(const struct pool_target *target)
{
    return (struct fake_probe *)target->health.probe;
}

static inline void answer(struct pool_target *target, bool is_good, const char *reason)
{
    struct fake_probe *probe = probe_of(target);
    struct probe_result result = {
        .is_good = is_good, .says_weight = -1, .status = is_good ? 200 : 0, .ns = 1000000};
    str_copy(result.reason, sizeof result.reason, str_from_c(reason));
    assert_non_null(probe);
    probe->done(probe->context, &result);
}

static inline void answer_times(struct pool_target *target, bool is_good, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        answer(target, is_good, is_good ? "ok" : "connect: refused");
    }
}

static inline struct pool_candidate rate(struct test_pool *test, struct pool_target *target,
                                         uint32_t weight)
{
    struct pool_candidate candidate = {
        .member = &target->member, .weight = weight, .declared = TARGET_UP};
    for (unsigned i = 0; i < test->live_count; i++) {
        if (test->live[i].member == &target->member) {
            candidate.declared = (uint8_t)test->live[i].declared;
        }
    }
    health_rate(&publisher, &test->own.settings, &candidate);
    return candidate;
}

static inline struct publish_health_sum sum_now(void)
{
    struct publish_health_sum sum;
    publisher_health(&publisher, &sum);
    return sum;
}

static int teardown(void **state)
{
    (void)state;
    health_stop(&publisher);
    publisher.control = NULL;
    assert_int_equal(live_probes, 0);
    for (unsigned i = 0; i < pool_count; i++) {
        struct test_pool *test = pools[i];
        for (unsigned k = 0; k < test->made_count; k++) {
            health_forget(&publisher, test->made[k]);
            pool_member_free(test->made[k]);
        }
        health_forget_pool(&publisher, test->pool);
        pool_counts_free(&test->pool->slot.counts);
        free(test->version);
        free(test->pool);
        free(test);
    }
    health_fini(&publisher);
    struct publish_health_sum sum = sum_now();
    assert_int_equal(sum.targets_down, 0);
    assert_int_equal(sum.targets_ejected, 0);
    assert_int_equal(sum.pools_in_panic, 0);
    assert_true(list_is_empty(&publisher.health.pools) && list_is_empty(&publisher.health.dirty));
    assert_true(list_is_empty(&publisher.health.warming) &&
                list_is_empty(&publisher.health.ejected));
    assert_int_equal(watched_count, 0);
    tls_context_unref(&shared_tls.context);
    for (unsigned i = 0; i < fake_count; i++) {
        free(fakes[i]);
    }
    loop_fini(&loop);
    return 0;
}

#define HEALTH_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
