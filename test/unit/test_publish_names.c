// SPDX-License-Identifier: MIT
// Targets that are names, with a resolver that answers on command; and lists of routes.
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "loop/rcu.h"
#include "net/resolver.h"
#include "publish/health.h"
#include "upstream/pool_member.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

// ---- a resolver without a network ----

enum { NAME_MAX_COUNT = 8, ADDRESS_MAX = 8, PICK_MAX = 64 };

struct resolver {
    int unused;
};

struct resolver_name {
    bool is_used;
    char host[64];
    resolver_answer *on_answer;
    void *context;
};

static struct resolver the_resolver;
#include "resolver_stand_in.h"
static struct resolver_name names[NAME_MAX_COUNT];

int resolver_watch(struct resolver *resolver, struct str host, resolver_answer *on_answer,
                   void *context, struct resolver_name **name)
{
    (void)resolver;
    for (unsigned i = 0; i < NAME_MAX_COUNT; i++) {
        if (!names[i].is_used) {
            names[i] =
                (struct resolver_name){.is_used = true, .on_answer = on_answer, .context = context};
            str_copy(names[i].host, sizeof names[i].host, host);
            *name = &names[i];
            return 0;
        }
    }
    return ERR_MEMORY;
}

void resolver_unwatch(struct resolver_name **name)
{
    if (*name != NULL) {
        (*name)->is_used = false;
        *name = NULL;
    }
}

uint64_t resolver_failure_count(const struct resolver *resolver)
{
    (void)resolver;
    return 7;
}

static unsigned watched(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < NAME_MAX_COUNT; i++) {
        count += names[i].is_used;
    }
    return count;
}

// "10.0.0.1 ::1"; "" is a failure.
static void answer(const char *host, const char *addresses)
{
    struct sockaddr_storage list[ADDRESS_MAX];
    struct resolver_result result = {.addresses = list, .ttl_ms = 1000};
    struct str rest = str_from_c(addresses);
    memset(list, 0, sizeof list);
    while (rest.len > 0) {
        struct str head;
        char text[INET6_ADDRSTRLEN];
        str_split(rest, ' ', &head, &rest);
        str_copy(text, sizeof text, head);
        struct sockaddr_in in4 = {.sin_family = AF_INET};
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
        if (inet_pton(AF_INET, text, &in4.sin_addr) == 1) {
            memcpy(&list[result.count++], &in4, sizeof in4);
        } else {
            assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
            memcpy(&list[result.count++], &in6, sizeof in6);
        }
    }
    result.error = result.count == 0 ? "no such name" : NULL;
    for (unsigned i = 0; i < NAME_MAX_COUNT; i++) {
        if (names[i].is_used && strcmp(names[i].host, host) == 0) {
            names[i].on_answer(names[i].context, &result);
            return;
        }
    }
    fail_msg("%s is not watched", host);
}

// ---- a publisher on a loop that turns on command ----

struct fixture {
    struct publisher *publisher;
    struct loop loop;
    uint64_t revision;
    struct publish_health_listener listener;
    char events[4096];
};

static void on_event(struct publish_health_listener *listener,
                     const struct publish_health_event *event)
{
    struct fixture *f = CONTAINER_OF(listener, struct fixture, listener);
    size_t at = strlen(f->events);
    snprintf(f->events + at, sizeof f->events - at, "%.*s|%.*s|%s\n", STR_ARG(event->pool),
             STR_ARG(event->target), event->state);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    *state = f;
    assert_int_equal(loop_init(&f->loop), 0);
    assert_int_equal(publisher_new(&f->publisher, NULL, NULL, NULL), 0);
    f->listener.on_event = on_event;
    publisher_listen_health(f->publisher, &f->listener);
    assert_int_equal(
        publisher_configure(f->publisher, &(struct publish_config){.zone = STR("east")}), 0);
    assert_int_equal(publisher_start(f->publisher, &f->loop), 0);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    publisher_stop(f->publisher);
    publisher_free(&f->publisher);
    assert_int_equal(watched(), 0);
    loop_fini(&f->loop);
    free(f);
    return 0;
}

static void apply(struct fixture *f, enum noun noun, const char *key, const char *value)
{
    struct store_record record = {.noun = noun,
                                  .key = str_from_c(key),
                                  .value = str_from_c(value),
                                  .revision = f->revision + 1};
    publisher_apply(f->publisher, ++f->revision, &record, 1);
    rcu_turn_done();
}

static void turn(struct fixture *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        loop_turn(&f->loop, 0);
        rcu_turn_done();
    }
}

static void settle(struct fixture *f)
{
    for (unsigned i = 0; i < 30; i++) {
        turn(f, 2);
        rcu_drain();
        publisher_apply(f->publisher, ++f->revision, NULL, 0);
    }
}

static struct pool_member *pick(struct fixture *f, const char *host, uint64_t random)
{
    struct route_version *route =
        route_find(publisher_routes(f->publisher), str_from_c(host), STR("/"));
    struct pool_slot *slot = NULL;
    const struct pool_version *pool = route == NULL ? NULL : route_pool(route, random, &slot);
    struct pool_choice choice = {.random = random};
    struct pool_member *member = NULL;
    return pool != NULL && pool_pick(pool, slot, &choice, &member) == POOL_PICKED ? member : NULL;
}

static void write_address(const struct pool_member *member, char *to, size_t size)
{
    struct sockaddr_storage address;
    socklen_t len;
    assert_true(pool_member_address(member, &address, &len));
    const void *bytes = address.ss_family == AF_INET6
                            ? (const void *)&((struct sockaddr_in6 *)&address)->sin6_addr
                            : (const void *)&((struct sockaddr_in *)&address)->sin_addr;
    assert_non_null(inet_ntop(address.ss_family, bytes, to, (socklen_t)size));
}

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

// Where requests to a host go now: "10.0.0.1 10.0.0.2", sorted. All are given back.
static const char *where(struct fixture *f, const char *host)
{
    static char text[1024];
    char found[ADDRESS_MAX][INET6_ADDRSTRLEN];
    unsigned count = 0;
    struct pool_member *picked[PICK_MAX];
    unsigned picked_count = 0;
    for (; picked_count < PICK_MAX; picked_count++) {
        char one[INET6_ADDRSTRLEN];
        unsigned i = 0;
        picked[picked_count] = pick(f, host, (uint64_t)picked_count << 58);
        if (picked[picked_count] == NULL) {
            break;
        }
        write_address(picked[picked_count], one, sizeof one);
        for (i = 0; i < count && strcmp(found[i], one) != 0; i++) {
        }
        if (i == count) {
            assert_true(count < ADDRESS_MAX);
            memcpy(found[count++], one, sizeof one);
        }
    }
    for (unsigned i = 0; i < picked_count; i++) {
        pool_member_put(picked[i]);
    }
    qsort(found, count, sizeof found[0], compare);
    text[0] = 0;
    for (unsigned i = 0; i < count; i++) {
        size_t at = strlen(text);
        snprintf(text + at, sizeof text - at, "%s%s", i == 0 ? "" : " ", found[i]);
    }
    return text;
}

struct listing {
    char text[2048];
};

static void list_target(void *context, const struct publish_target *target)
{
    struct listing *listing = context;
    size_t at = strlen(listing->text);
    snprintf(listing->text + at, sizeof listing->text - at, "%.*s(%.*s) %s w%u r%u%s\n",
             STR_ARG(target->address), STR_ARG(target->resolved), target->health, target->weight,
             target->requests, target->is_leaving ? " leaving" : "");
}

static const char *targets(struct fixture *f, const char *pool)
{
    static struct listing listing;
    listing.text[0] = 0;
    publisher_pool_targets(f->publisher, str_from_c(pool), list_target, &listing);
    return listing.text;
}

// ---- tests ----

static void test_a_name_is_all_its_addresses(void **state)
{
    struct fixture *f = *state;
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[{\"address\":\"app:80\",\"weight\":3}]}");
    assert_null(pick(f, "h", 0)); // no answer yet
    assert_int_equal(publisher_unresolved(f->publisher, NOUN_POOL, STR("p")), 1);
    assert_int_equal(watched(), 1);
    answer("app", "10.0.0.1 fd00::1");
    assert_int_equal(publisher_unresolved(f->publisher, NOUN_POOL, STR("p")), 1); // not yet live
    for (unsigned i = 0; i < 3; i++) {
        turn(f, 1);
        bool is_live = where(f, "h")[0] != '\0';
        assert_int_equal(publisher_unresolved(f->publisher, NOUN_POOL, STR("p")), !is_live);
    }
    assert_string_equal(where(f, "h"), "10.0.0.1 fd00::1");
    assert_string_equal(targets(f, "p"), "app:80(10.0.0.1) none w3 r0\n"
                                         "app:80(fd00::1) none w3 r0\n");
    // One of two pools goes: the name stays watched, once.
    apply(f, NOUN_POOL, "q", "{\"targets\":[\"app:80\",\"app:81\"]}");
    assert_int_equal(watched(), 1);
    assert_string_equal(targets(f, "q"), "app:80(10.0.0.1) none w1 r0\n"
                                         "app:80(fd00::1) none w1 r0\n"
                                         "app:81(10.0.0.1) none w1 r0\n"
                                         "app:81(fd00::1) none w1 r0\n");
    apply(f, NOUN_POOL, "p", "");
    settle(f);
    assert_int_equal(watched(), 1);
    apply(f, NOUN_POOL, "q", "{\"targets\":[\"10.0.0.9:80\"]}");
    settle(f);
    assert_int_equal(watched(), 0);
}

static struct publish_names *asked(struct fixture *f, enum noun noun, const char *key,
                                   const char *value, struct publish_names *more)
{
    const struct store_record record = {
        .noun = noun, .key = str_from_c(key), .value = str_from_c(value)};
    assert_int_equal(publisher_ask_names(f->publisher, &record, &more), 0);
    return more;
}

static void test_names_are_asked_for_before_they_are_live(void **state)
{
    struct fixture *f = *state;
    const char *later = "{\"targets\":[\"app:80\",\"web:80\",\"app:81\",\"10.0.0.8:80\"]}";
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
    struct publish_names *waited = asked(f, NOUN_POOL, "p", later, NULL);
    assert_int_equal(watched(), 2); // each name once
    answer("web", "10.0.0.2");
    turn(f, 1);
    assert_false(publish_names_are_answered(waited));
    assert_non_null(pick(f, "h", 0)); // what is to be replaced serves
    answer("app", "10.0.0.1");
    turn(f, 1);
    assert_true(publish_names_are_answered(waited));
    f->events[0] = '\0';
    apply(f, NOUN_POOL, "p", later);
    assert_int_equal(publisher_unresolved(f->publisher, NOUN_POOL, STR("p")), 0);
    assert_int_equal(watched(), 2);
    assert_non_null(strstr(where(f, "h"), "10.0.0.1")); // at once
    assert_non_null(strstr(f->events, "p|app:80|resolved\n"));
    assert_non_null(strstr(f->events, "p|web:80|resolved\n"));
    publish_names_free(&waited);
    assert_int_equal(watched(), 2); // the pool has them
    answer("app", "10.0.0.7");
    settle(f);
    assert_non_null(strstr(where(f, "h"), "10.0.0.7"));
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
    settle(f);
    assert_int_equal(watched(), 0);
}

static unsigned unresolved(struct fixture *f)
{
    return publisher_unresolved(f->publisher, NOUN_POOL, STR("p"));
}

// Nobody has asked for them before (a batch, another node's change): the same, from inside.
static void test_what_is_replaced_serves_until_an_answer(void **state)
{
    struct fixture *f = *state;
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\",\"web:80\"]}");
    turn(f, 3);
    assert_string_equal(where(f, "h"), "10.0.0.9");
    assert_string_equal(targets(f, "p"), "10.0.0.9:80() none w1 r0\n");
    assert_int_equal(unresolved(f), 2);
    answer("web", "10.0.0.2");
    turn(f, 3);
    assert_string_equal(where(f, "h"), "10.0.0.2");
    assert_int_equal(unresolved(f), 1);
    settle(f);
    assert_string_equal(targets(f, "p"), "web:80(10.0.0.2) none w1 r0\n");
    answer("app", "10.0.0.1");
    turn(f, 3);
    assert_string_equal(where(f, "h"), "10.0.0.1 10.0.0.2");
    // Where one can be used at once, or there is nobody, nothing waits.
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"other:80\",\"10.0.0.8:80\"]}");
    assert_string_equal(where(f, "h"), "10.0.0.8");
    apply(f, NOUN_POOL, "p", "{\"targets\":[]}");
    assert_string_equal(where(f, "h"), "");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"new:80\"]}");
    assert_int_equal(unresolved(f), 1);
    settle(f);
    assert_string_equal(targets(f, "p"), ""); // live, though nobody has answered
}

static void test_nobody_answers_for_what_replaces(void **state)
{
    struct fixture *f = *state;
    f->loop.is_simulated = true;
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"no:80\",\"nor:80\"]}");
    answer("no", "");
    turn(f, 3);
    assert_string_equal(where(f, "h"), "10.0.0.9");
    answer("nor", "");
    turn(f, 3);
    assert_string_equal(where(f, "h"), ""); // both have failed
    // Silence: a second.
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"silent:80\"]}");
    f->loop.now_ms += 999;
    turn(f, 1);
    assert_string_equal(where(f, "h"), "10.0.0.9");
    f->loop.now_ms += 2;
    turn(f, 2);
    assert_string_equal(where(f, "h"), "");
    assert_int_equal(unresolved(f), 1);
    answer("silent", "10.0.0.3");
    turn(f, 3);
    assert_string_equal(where(f, "h"), "10.0.0.3");
    // A call has waited that second already.
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
    struct publish_names *waited = asked(f, NOUN_POOL, "p", "{\"targets\":[\"quiet:80\"]}", NULL);
    f->loop.now_ms += 1000;
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"quiet:80\"]}");
    assert_string_equal(where(f, "h"), "");
    publish_names_free(&waited);
}

static void test_the_next_change_does_not_wait_for_the_last(void **state)
{
    struct fixture *f = *state;
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"]}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"web:80\"]}");
    assert_string_equal(where(f, "h"), "10.0.0.9");
    assert_int_equal(watched(), 1); // nobody wants app any more
    answer("web", "10.0.0.2");      // heard of, and not yet live
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.8:80\"]}");
    assert_string_equal(where(f, "h"), "10.0.0.8");
    turn(f, 3);
    assert_string_equal(where(f, "h"), "10.0.0.8");
    settle(f);
    assert_int_equal(watched(), 0);
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"]}");
    apply(f, NOUN_POOL, "p", ""); // deleted meanwhile
    settle(f);
    assert_string_equal(where(f, "h"), "");
    assert_int_equal(watched(), 0);
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"]}");
    // It ends while one waits.
}

// Who is found again by an answer may have requests, though nobody has seen the version that waits.
static void test_one_that_waited_in_vain_frees_nobody_at_work(void **state)
{
    struct fixture *f = *state;
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"]}");
    answer("app", "10.0.0.1");
    turn(f, 3);
    struct pool_member *held = pick(f, "h", 0);
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
    settle(f);
    assert_int_equal(watched(), 0);
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"]}");
    answer("app", "10.0.0.1");
    turn(f, 1); // heard of, and not yet live
    publisher_apply(f->publisher, ++f->revision, NULL, 0);
    assert_string_equal(where(f, "h"), "10.0.0.9");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.8:80\"]}");
    settle(f);
    assert_int_equal(pool_member_requests(held), 1);
    assert_string_equal(targets(f, "p"), "10.0.0.8:80() none w1 r0\n"
                                         "app:80(10.0.0.1) none w0 r1 leaving\n");
    pool_member_put(held);
    settle(f);
    assert_string_equal(targets(f, "p"), "10.0.0.8:80() none w1 r0\n");
}

struct worker {
    struct fixture *f;
    atomic_bool is_over;
    unsigned picked;
    unsigned refused;
};

static void *work(void *context)
{
    struct worker *worker = context;
    rcu_thread_begin();
    while (!atomic_load(&worker->is_over)) {
        struct pool_member *member = pick(worker->f, "h", 0);
        worker->picked += member != NULL;
        worker->refused += member == NULL;
        if (member != NULL) {
            pool_member_put(member);
        }
        rcu_turn_done();
    }
    rcu_thread_end();
    return NULL;
}

// There is somebody at each moment: those before, or those of the answer.
static void test_a_worker_finds_no_moment_without_targets(void **state)
{
    struct fixture *f = *state;
    struct worker worker = {.f = f};
    pthread_t thread;
    char many[4096] = "{\"targets\":[\"app:80\"";
    for (unsigned i = 1; i < 200; i++) {
        size_t at = strlen(many);
        snprintf(many + at, sizeof many - at, ",\"app:%u\"", 80 + i);
    }
    size_t end = strlen(many);
    snprintf(many + end, sizeof many - end, "]}");
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
    assert_int_equal(pthread_create(&thread, NULL, work, &worker), 0);
    for (unsigned i = 0; i < 100; i++) {
        apply(f, NOUN_POOL, "p", many);
        assert_string_equal(where(f, "h"), "10.0.0.9");
        answer("app", "10.0.0.1");
        turn(f, 4);
        assert_string_equal(where(f, "h"), "10.0.0.1");
        apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
        while (watched() > 0) {
            turn(f, 1);
            rcu_drain();
            publisher_apply(f->publisher, ++f->revision, NULL, 0);
        }
    }
    atomic_store(&worker.is_over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(worker.picked > 0);
    assert_int_equal(worker.refused, 0);
}

static void on_live(void *context)
{
    (void)context;
}

static void name_routes(struct store_record *records, char (*keys)[32], unsigned count,
                        struct str value)
{
    for (unsigned i = 0; i < count; i++) {
        snprintf(keys[i], sizeof keys[i], "h%u", i);
        records[i] =
            (struct store_record){.noun = NOUN_ROUTE, .key = str_from_c(keys[i]), .value = value};
    }
}

// Records of so many routes, for the test to free with their keys.
static struct store_record *make_routes(unsigned count, char (**keys)[32], struct str value)
{
    struct store_record *records = calloc(count, sizeof *records);
    *keys = calloc(count, sizeof **keys);
    assert_true(records != NULL && *keys != NULL);
    name_routes(records, *keys, count, value);
    return records;
}

// The answer comes between preparing and publishing: nobody is without targets until it is followed.
static void test_an_answer_to_what_was_to_wait(void **state)
{
    enum { COUNT = 4000 };
    struct fixture *f = *state;
    char(*keys)[32];
    struct store_record *records =
        make_routes(COUNT, &keys, STR("{\"targets\":[\"10.0.0.1:80\",\"10.0.0.2:80\"]}"));
    publisher_on_live(f->publisher, on_live, NULL);
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
    // Prepared before the answer, followed after all others: in the middle are those that take time.
    records[0] = (struct store_record){
        .noun = NOUN_POOL, .key = STR("q"), .value = STR("{\"targets\":[\"app:80\"]}")};
    records[COUNT / 2] = (struct store_record){
        .noun = NOUN_POOL, .key = STR("p"), .value = STR("{\"targets\":[\"web:80\"]}")};
    assert_false(publisher_begin(f->publisher, ++f->revision, records, COUNT));
    while (watched() < 2) {
        turn(f, 1);
    }
    assert_int_not_equal(publisher_revision(f->publisher), f->revision);
    answer("web", "10.0.0.3");
    for (unsigned i = 0; i < 1000 && publisher_revision(f->publisher) != f->revision; i++) {
        assert_string_equal(where(f, "h"), "10.0.0.9");
        turn(f, 1);
    }
    assert_string_equal(where(f, "h"), "10.0.0.3");
    publisher_hurry(f->publisher);
    settle(f);
    free(records);
    free(keys);
}

// It ends between preparing and publishing what is to wait.
static void test_it_ends_before_what_was_to_wait_is_live(void **state)
{
    enum { COUNT = 4000 };
    struct fixture *f = *state;
    char(*keys)[32];
    struct store_record *records =
        make_routes(COUNT, &keys, STR("{\"targets\":[\"10.0.0.1:80\",\"10.0.0.2:80\"]}"));
    publisher_on_live(f->publisher, on_live, NULL);
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
    records[0] = (struct store_record){
        .noun = NOUN_POOL, .key = STR("p"), .value = STR("{\"targets\":[\"web:80\"]}")};
    assert_false(publisher_begin(f->publisher, ++f->revision, records, COUNT));
    turn(f, 1);
    assert_int_not_equal(publisher_revision(f->publisher), f->revision);
    publisher_stop(f->publisher);
    publisher_hurry(f->publisher);
    assert_int_equal(publisher_revision(f->publisher), f->revision);
    free(records);
    free(keys);
}

// Who is drained has nobody to serve on for, and can be cut.
static void test_nothing_waits_for_those_that_serve_nobody(void **state)
{
    struct fixture *f = *state;
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\",\"app:80\"]}");
    struct pool_member *held = pick(f, "h", 0);
    apply(f, NOUN_POOL, "p",
          "{\"targets\":[{\"address\":\"10.0.0.9:80\",\"state\":\"drain\"},\"app:80\"]}");
    assert_string_equal(where(f, "h"), "");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"]}");
    assert_int_equal(publisher_cut_member(f->publisher, STR("p"), STR("10.0.0.9:80")), 1);
    pool_member_put(held);
    settle(f);
    assert_string_equal(targets(f, "p"), "");
}

// However often another one is declared: who was removed serves for a second, no longer.
static void test_changes_in_a_row_wait_one_second_in_all(void **state)
{
    struct fixture *f = *state;
    f->loop.is_simulated = true;
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"]}");
    f->loop.now_ms += 600;
    turn(f, 2);
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"web:80\"]}");
    f->loop.now_ms += 390;
    turn(f, 2);
    assert_string_equal(where(f, "h"), "10.0.0.9");
    f->loop.now_ms += 12;
    turn(f, 2);
    assert_string_equal(where(f, "h"), "");
    answer("web", "10.0.0.2");
    turn(f, 3);
    assert_string_equal(where(f, "h"), "10.0.0.2");
    // A second of their own for those that served in between.
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"]}");
    f->loop.now_ms += 600;
    turn(f, 2);
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.8:80\"]}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"new:80\"]}");
    f->loop.now_ms += 900;
    turn(f, 2);
    assert_string_equal(where(f, "h"), "10.0.0.8");
}

// Very many wait at a time for one name: when the second is over they go on in slices, and so when it answers.
static void test_many_that_wait_hold_nobody_up(void **state)
{
    enum { COUNT = 10000 };
    struct fixture *f = *state;
    struct store_record *records = calloc(COUNT, sizeof *records);
    char(*keys)[32] = calloc(COUNT, sizeof *keys);
    assert_true(records != NULL && keys != NULL);
    f->loop.is_simulated = true;
    for (unsigned round = 0; round < 2; round++) {
        name_routes(records, keys, COUNT, STR("{\"targets\":[\"10.0.0.1:80\",\"10.0.0.2:80\"]}"));
        publisher_apply(f->publisher, ++f->revision, records, COUNT);
        settle(f);
        name_routes(records, keys, COUNT,
                    round == 0 ? STR("{\"targets\":[\"silent:80\"]}")
                               : STR("{\"targets\":[\"app:80\"]}"));
        publisher_apply(f->publisher, ++f->revision, records, COUNT);
        turn(f, 2);
        assert_string_equal(where(f, "h0"), "10.0.0.1 10.0.0.2");
        if (round == 0) {
            f->loop.now_ms += 1002;
        } else {
            answer("app", "10.0.0.3");
        }
        const char *wanted = round == 0 ? "" : "10.0.0.3";
        unsigned turns = 0;
        uint64_t longest_ns = 0;
        for (unsigned at = 0; at < COUNT; turns++) {
            uint64_t start_ns = clock_monotonic_ns();
            turn(f, 1);
            uint64_t took_ns = clock_monotonic_ns() - start_ns;
            longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
            while (at < COUNT && strcmp(where(f, keys[at]), wanted) == 0) {
                at++;
            }
            assert_true(turns < 100000);
        }
        if (getenv("POINTSMAN_BENCH") != NULL) {
            print_message("10,000 that wait: %u turns, the longest %.3f ms\n", turns,
                          (double)longest_ns / 1e6);
        }
        assert_true(turns > 2);
    }
    free(records);
    free(keys);
}

static void test_lists_of_routes_wait_as_well(void **state)
{
    struct fixture *f = *state;
    apply(f, NOUN_ROUTE, "h", "{\"targets\":[\"10.0.0.8:80\",\"10.0.0.9:80\"]}");
    apply(f, NOUN_ROUTE, "h", "{\"targets\":[\"app:80\"]}");
    assert_string_equal(where(f, "h"), "10.0.0.8 10.0.0.9");
    assert_int_equal(publisher_unresolved(f->publisher, NOUN_ROUTE, STR("h")), 1);
    answer("app", "10.0.0.1");
    turn(f, 3);
    assert_string_equal(where(f, "h"), "10.0.0.1");
    apply(f, NOUN_ROUTE, "h", "{\"targets\":[\"web:80\"]}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.7:80\"]}");
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}"); // the list ends while it waits
    assert_string_equal(where(f, "h"), "10.0.0.7");
    settle(f);
    assert_int_equal(watched(), 0);
    apply(f, NOUN_ROUTE, "h", "{\"targets\":[\"10.0.0.8:80\",\"10.0.0.9:80\"]}");
    apply(f, NOUN_ROUTE, "h", "{\"targets\":[\"web:80\"]}");
    assert_string_equal(where(f, "h"), "10.0.0.8 10.0.0.9");
    apply(f, NOUN_ROUTE, "h", "");
    settle(f);
    assert_int_equal(watched(), 0);
    apply(f, NOUN_ROUTE, "h", "{\"targets\":[\"10.0.0.8:80\",\"10.0.0.9:80\"]}");
    apply(f, NOUN_ROUTE, "h", "{\"targets\":[\"web:80\"]}"); // the end, as above
}

static void test_names_that_are_asked_for_in_vain(void **state)
{
    struct fixture *f = *state;
    const char *route = "{\"targets\":[\"no:80\",\"10.0.0.8:80\"]}";
    assert_true(publish_names_are_answered(NULL));
    struct publish_names *none = asked(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.8\"]}", NULL);
    assert_true(publish_names_are_answered(none));
    assert_int_equal(watched(), 0);
    none = asked(f, NOUN_ROUTE, "h", route, none); // more of them
    assert_false(publish_names_are_answered(none));
    f->events[0] = '\0';
    answer("no", "");
    assert_true(publish_names_are_answered(none));
    apply(f, NOUN_ROUTE, "h", route);
    assert_string_equal(f->events, "h|no:80|unresolved\n"); // once, though nobody had it then
    answer("no", "");
    answer("no", "10.0.0.1");
    settle(f);
    assert_non_null(strstr(f->events, "h|no:80|resolved\n"));
    apply(f, NOUN_ROUTE, "h", "");
    settle(f);
    assert_int_equal(watched(), 1); // who asked has it still
    publish_names_free(&none);
    publish_names_free(&none);
    assert_int_equal(watched(), 0);
}

// Nothing is changed by anybody: what an answer replaced is freed all the same.
static void test_what_an_answer_replaced_is_freed(void **state)
{
    struct fixture *f = *state;
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"]}");
    settle(f); // nothing of these changes is left to be freed
    answer("app", "10.0.0.1 10.0.0.2");
    turn(f, 3);
    for (unsigned i = 0; i < 3; i++) {
        answer("app", i % 2 == 0 ? "10.0.0.3" : "10.0.0.1 10.0.0.2");
        uint64_t end_ns = clock_monotonic_ns() + 30 * NS_PER_SEC;
        do {
            turn(f, 3);
            rcu_drain();
            usleep(1000);
        } while (strstr(targets(f, "p"), "leaving") != NULL && clock_monotonic_ns() < end_ns);
    }
    assert_string_equal(targets(f, "p"), "app:80(10.0.0.3) none w1 r0\n");
}

static uint64_t retired(struct fixture *f)
{
    uint64_t count;
    uint64_t oldest_ms;
    publisher_retired(f->publisher, &count, &oldest_ms);
    return count;
}

// What one look cannot free is looked at again soon, though members leave in that look as well.
static void test_much_is_freed_look_by_look(void **state)
{
    enum { COUNT = 10000, SOON_MS = 11 };
    struct fixture *f = *state;
    struct store_record *records = calloc(COUNT, sizeof *records);
    char(*keys)[32] = calloc(COUNT, sizeof *keys);
    assert_true(records != NULL && keys != NULL);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            snprintf(keys[i], sizeof keys[i], "h%u", i);
            records[i] =
                (struct store_record){.noun = NOUN_ROUTE,
                                      .key = str_from_c(keys[i]),
                                      .value = round == 0 ? STR("{\"targets\":[\"10.0.0.1:80\"]}")
                                                          : STR("{\"targets\":[\"10.0.0.2:80\"]}")};
        }
        publisher_apply(f->publisher, ++f->revision, records, COUNT);
    }
    rcu_turn_done();
    rcu_drain(); // nobody reads any of them
    unsigned look_count = 0;
    uint64_t left = retired(f);
    assert_int_equal(left, COUNT);
    while (left > 0) {
        loop_turn(&f->loop, 200);
        rcu_turn_done();
        uint64_t now = retired(f);
        if (now < left && now > 0) {
            look_count++;
            assert_true(f->publisher->timer.deadline_ms <= f->loop.now_ms + SOON_MS);
        }
        left = now;
    }
    assert_true(look_count > 0);
    free(records);
    free(keys);
}

static void on_tried(void *context, const struct publish_trial_result *result)
{
    (void)context;
    (void)result;
    fail();
}

// A trial that nobody ended is freed with the publisher, and its names with it.
static void test_a_trial_that_is_left(void **state)
{
    struct fixture *f = *state;
    struct publish_trial *trial;
    int nobody = 0;
    struct target_decl target = {.weight = 1,
                                 .address = {.text = STR("app:80"),
                                             .scheme = TARGET_HTTP,
                                             .host = STR("app"),
                                             .port = 80,
                                             .is_name = true}};
    struct pool_decl decl = {.targets = &target, .target_count = 1};
    // It is given nothing to check: no address is known.
    f->publisher->health.prober = (struct prober *)(void *)&nobody;
    assert_int_equal(
        publisher_try_targets(f->publisher, STR("p"), &decl, 1000, on_tried, NULL, &trial), 0);
    assert_int_equal(watched(), 2); // the trial's own question, and as pools ask
}

static void test_an_answer_is_a_difference(void **state)
{
    struct fixture *f = *state;
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"]}");
    answer("app", "10.0.0.1 10.0.0.2");
    turn(f, 3);
    struct pool_member *held[2] = {pick(f, "h", 0), pick(f, "h", 0)};
    assert_ptr_not_equal(held[0], held[1]);
    char text[2][INET6_ADDRSTRLEN];
    write_address(held[0], text[0], sizeof text[0]);
    struct pool_member *first = strcmp(text[0], "10.0.0.1") == 0 ? held[0] : held[1];
    struct pool_member *second = first == held[0] ? held[1] : held[0];
    answer("app", "10.0.0.2 10.0.0.3");
    turn(f, 3);
    assert_string_equal(where(f, "h"), "10.0.0.2 10.0.0.3");
    settle(f);
    assert_int_equal(pool_member_requests(first), 1); // it finishes what it has
    assert_string_equal(targets(f, "p"), "app:80(10.0.0.2) none w1 r1\n"
                                         "app:80(10.0.0.3) none w1 r0\n"
                                         "app:80(10.0.0.1) none w0 r1 leaving\n");
    answer("app", "10.0.0.2 10.0.0.3"); // the same: nothing
    answer("app", "");                  // the last one stays
    turn(f, 3);
    assert_string_equal(where(f, "h"), "10.0.0.2 10.0.0.3");
    answer("app", "");
    answer("app", "10.0.0.1 10.0.0.2"); // it comes back before it was gone
    turn(f, 3);
    struct pool_member *again = pick(f, "h", 0);
    assert_true(again == first || again == second);
    assert_int_equal(pool_member_requests(again), 2);
    pool_member_put(again);
    // Other settings of the pool change no member.
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"],\"keepalive\":{\"idle\":3}}");
    assert_int_equal(pool_member_requests(second), 1);
    pool_member_put(first);
    assert_ptr_equal(pick(f, "h", 0), first); // it has the fewest
    pool_member_put(first);
    pool_member_put(second);
    settle(f);
    assert_string_equal(targets(f, "p"), "app:80(10.0.0.1) none w1 r0\n"
                                         "app:80(10.0.0.2) none w1 r0\n");
    assert_string_equal(f->events, "p|app:80|resolved\n"
                                   "p|app:80|unresolved\n"
                                   "p|app:80|resolved\n");
}

// Who left the answer is found again while it is still there: by the name, and by the pool that has it anew.
static void test_members_that_come_back(void **state)
{
    struct fixture *f = *state;
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"]}");
    answer("app", "10.0.0.1");
    turn(f, 3);
    struct pool_member *held = pick(f, "h", 0);
    answer("app", "10.0.0.2");
    turn(f, 3);
    settle(f);
    answer("app", "10.0.0.1 10.0.0.2");
    turn(f, 3);
    assert_string_equal(targets(f, "p"), "app:80(10.0.0.1) none w1 r1\n"
                                         "app:80(10.0.0.2) none w1 r0\n");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
    settle(f);
    assert_int_equal(watched(), 0);
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"]}");
    answer("app", "10.0.0.1");
    settle(f);
    assert_string_equal(targets(f, "p"), "app:80(10.0.0.1) none w1 r1\n");
    pool_member_put(held);
    settle(f);
}

static void test_members_of_names_are_cut(void **state)
{
    struct fixture *f = *state;
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"]}");
    answer("app", "10.0.0.1 10.0.0.2");
    turn(f, 3);
    struct pool_member *held[2] = {pick(f, "h", 0), pick(f, "h", 0)};
    assert_int_equal(publisher_cut_member(f->publisher, STR("p"), STR("app:80")), 0);
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.9:80\"]}");
    assert_int_equal(publisher_cut_member(f->publisher, STR("p"), STR("app:80")), 2);
    assert_int_equal(atomic_load(&held[0]->cut), 1);
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"]}"); // others than those that are cut
    struct pool_member *fresh = pick(f, "h", 0);
    assert_true(fresh != NULL && fresh != held[0] && fresh != held[1]);
    pool_member_put(fresh);
    pool_member_put(held[0]);
    pool_member_put(held[1]);
    settle(f);
}

static void test_lists_of_routes_have_pools(void **state)
{
    struct fixture *f = *state;
    struct pool_slot *slot;
    apply(f, NOUN_ROUTE, "h", "{\"targets\":[\"10.0.0.1:80\",\"app:80\"]}");
    struct route_version *route = route_find(publisher_routes(f->publisher), STR("h"), STR("/"));
    assert_non_null(route_pool(route, 0, &slot));
    assert_true(slot->is_hidden);
    assert_int_equal(pool_slot_name(slot).len, 0);
    assert_true(str_eq(slot->name, STR("h")));
    assert_int_equal(publisher_pool_count(f->publisher), 0);
    assert_false(publisher_pool_targets(f->publisher, STR("h"), list_target, NULL));
    assert_int_equal(publisher_unresolved(f->publisher, NOUN_ROUTE, STR("h")), 1);
    answer("app", "10.0.0.2");
    turn(f, 3);
    assert_string_equal(where(f, "h"), "10.0.0.1 10.0.0.2");
    struct pool_slot *before = slot;
    apply(f, NOUN_ROUTE, "h", "{\"targets\":[\"app:80\",\"10.0.0.3:80\"],\"tenant\":\"t\"}");
    assert_string_equal(where(f, "h"), "10.0.0.2 10.0.0.3");
    route = route_find(publisher_routes(f->publisher), STR("h"), STR("/"));
    assert_non_null(route_pool(route, 0, &slot));
    assert_ptr_equal(slot, before); // a difference
    // A list, one address, a list again, a pool, nothing.
    apply(f, NOUN_ROUTE, "h", "{\"targets\":[\"10.0.0.4:80\"]}");
    assert_string_equal(where(f, "h"), "10.0.0.4");
    apply(f, NOUN_ROUTE, "h", "{\"targets\":[\"app:80\"]}");
    struct pool_member *held = pick(f, "h", 0);
    assert_non_null(held);
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"10.0.0.5:80\"]}");
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    assert_string_equal(where(f, "h"), "10.0.0.5");
    apply(f, NOUN_ROUTE, "h", "");
    settle(f);
    assert_int_equal(pool_member_requests(held), 1);
    pool_member_put(held);
    settle(f);
    assert_int_equal(watched(), 0);
    assert_string_equal(f->events, "h|app:80|resolved\n");
}

static void test_one_revision_changes_a_list_twice(void **state)
{
    struct fixture *f = *state;
    apply(f, NOUN_ROUTE, "h", "{\"targets\":[\"10.0.0.1:80\",\"10.0.0.2:80\"]}");
    const struct store_record records[] = {
        {.noun = NOUN_ROUTE, .key = STR("h"), .value = STR("{\"targets\":[\"app:80\"]}")},
        {.noun = NOUN_ROUTE, .key = STR("h"), .value = STR("")},
        {.noun = NOUN_ROUTE, .key = STR("h"), .value = STR("{\"targets\":[\"10.0.0.3:80\"]}")},
        {.noun = NOUN_ROUTE,
         .key = STR("h"),
         .value = STR("{\"targets\":[\"10.0.0.1:80\",\"10.0.0.4:80\"]}")},
        {.noun = NOUN_ROUTE,
         .key = STR("n"),
         .value = STR("{\"targets\":[\"10.0.0.1:80\",\"10.0.0.4:80\"]}")},
        {.noun = NOUN_ROUTE, .key = STR("n"), .value = STR("{\"targets\":[\"app:81\"]}")},
    };
    publisher_apply(f->publisher, ++f->revision, records, sizeof records / sizeof records[0]);
    assert_string_equal(where(f, "h"), "10.0.0.1 10.0.0.4");
    answer("app", "10.0.0.7");
    turn(f, 3);
    assert_string_equal(where(f, "n"), "10.0.0.7");
    assert_int_equal(publisher_skipped_count(f->publisher), 0);
    settle(f);
}

// An answer comes while a revision is prepared in slices: what is published knows it.
static void test_an_answer_between_preparing_and_publishing(void **state)
{
    enum { COUNT = 4000 };
    struct fixture *f = *state;
    char(*keys)[32];
    struct store_record *records =
        make_routes(COUNT, &keys, STR("{\"targets\":[\"10.0.0.1:80\"]}"));
    publisher_on_live(f->publisher, on_live, NULL);
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p", "{\"targets\":[\"app:80\"]}");
    answer("app", "10.0.0.1");
    turn(f, 3);
    records[0] = (struct store_record){.noun = NOUN_POOL,
                                       .key = STR("p"),
                                       .value = STR("{\"targets\":[\"app:80\",\"other:80\"]}")};
    assert_false(publisher_begin(f->publisher, ++f->revision, records, COUNT));
    turn(f, 1);
    assert_int_not_equal(publisher_revision(f->publisher), f->revision);
    answer("app", "10.0.0.2");
    answer("other", "10.0.0.3");
    for (unsigned i = 0; i < 1000 && publisher_revision(f->publisher) != f->revision; i++) {
        turn(f, 1);
    }
    turn(f, 3);
    assert_string_equal(where(f, "h"), "10.0.0.2 10.0.0.3");
    publisher_hurry(f->publisher);
    settle(f);
    free(records);
    free(keys);
}

// Very many routes have one name: they hear of its answer in slices.
static void test_many_users_of_one_name(void **state)
{
    enum { COUNT = 5000 };
    struct fixture *f = *state;
    char key[32];
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(key, sizeof key, "h%u", i);
        apply(f, NOUN_ROUTE, key, "{\"targets\":[\"app:80\"]}");
    }
    assert_int_equal(watched(), 1);
    answer("app", "10.0.0.1");
    unsigned turns = 0;
    for (unsigned at = 0; at < COUNT; turns++) {
        turn(f, 1);
        snprintf(key, sizeof key, "h%u", at);
        while (at < COUNT && strcmp(where(f, key), "10.0.0.1") == 0) {
            snprintf(key, sizeof key, "h%u", ++at);
        }
        assert_true(turns < 100000);
    }
    assert_true(turns > 1);
    // The next answer before all have heard of this one.
    answer("app", "10.0.0.2");
    turn(f, 1);
    answer("app", "10.0.0.3");
    for (unsigned i = 0; i < COUNT; i += 99) {
        snprintf(key, sizeof key, "h%u", i);
        for (unsigned k = 0; k < 10000 && strcmp(where(f, key), "10.0.0.3") != 0; k++) {
            turn(f, 1);
        }
        assert_string_equal(where(f, key), "10.0.0.3");
    }
}

static unsigned near_picks(struct fixture *f)
{
    unsigned near = 0;
    for (unsigned i = 0; i < 10; i++) {
        struct pool_member *member = pick(f, "h", (uint64_t)i << 60);
        char text[INET6_ADDRSTRLEN];
        write_address(member, text, sizeof text);
        near += strcmp(text, "10.0.0.1") == 0;
        pool_member_put(member);
    }
    return near;
}

static void test_zones_states_and_limits(void **state)
{
    struct fixture *f = *state;
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    apply(f, NOUN_POOL, "p",
          "{\"targets\":[{\"address\":\"10.0.0.1:80\",\"zone\":\"east\"},"
          "{\"address\":\"10.0.0.2:80\",\"zone\":\"west\"}]}");
    assert_int_equal(near_picks(f), 10);
    apply(f, NOUN_POOL, "p",
          "{\"targets\":[{\"address\":\"10.0.0.1:80\",\"zone\":\"east\",\"state\":\"drain\"},"
          "{\"address\":\"10.0.0.2:80\",\"zone\":\"west\"}],"
          "\"limits\":{\"queue\":5,\"requests_per_target\":1}}");
    assert_int_equal(near_picks(f), 0);
    struct pool_member *only = pick(f, "h", 0);
    assert_null(pick(f, "h", 0)); // at its limit
    struct pool_target *target = pool_target_of(only);
    assert_non_null(atomic_load(&target->slot->queue));
    assert_null(target->limit);
    apply(f, NOUN_POOL, "p", "{\"targets\":[{\"address\":\"10.0.0.2:80\",\"max_connections\":3}]}");
    struct upstream_limit *limit = target->limit;
    assert_non_null(limit);
    apply(f, NOUN_POOL, "p", "{\"targets\":[{\"address\":\"10.0.0.2:80\",\"max_connections\":4}]}");
    assert_ptr_equal(target->limit, limit); // in place
    pool_member_put(only);
    // What a route says of one target stays with it.
    apply(f, NOUN_ROUTE, "one", "{\"targets\":[{\"address\":\"10.0.0.1:80\",\"state\":\"down\"}]}");
    assert_null(pick(f, "one", 0));
    assert_int_equal(sizeof(struct pool_member), 24);
    assert_true(sizeof(struct route_version) <= 104);
}

static void write_pool(char *to, size_t size, unsigned count, unsigned weight)
{
    size_t at = (size_t)snprintf(
        to, size, "{\"targets\":[{\"address\":\"10.9.9.9:80\",\"weight\":%u}", weight);
    for (unsigned i = 1; i < count; i++) {
        at += (size_t)snprintf(to + at, size - at, ",\"10.0.%u.%u:80\"", i / 250, i % 250);
    }
    snprintf(to + at, size - at, "]}");
}

// One of 1,000 targets changes: the others are who they were. POINTSMAN_BENCH prints what it costs.
static void test_one_change_in_a_large_pool(void **state)
{
    enum { COUNT = 1000, ROUNDS = 20, TEXT_LEN = 65536 };
    struct fixture *f = *state;
    char *text = malloc(TEXT_LEN);
    assert_non_null(text);
    apply(f, NOUN_ROUTE, "h", "{\"pool\":\"p\"}");
    write_pool(text, TEXT_LEN, COUNT, 1);
    apply(f, NOUN_POOL, "p", text);
    struct pool_member *held = pick(f, "h", UINT64_C(1) << 63);
    struct pool_slot *slot = pool_target_of(held)->slot;
    uint64_t apply_ns = 0;
    uint64_t refresh_ns = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        write_pool(text, TEXT_LEN, COUNT, 2 + i);
        uint64_t start_ns = clock_monotonic_ns();
        apply(f, NOUN_POOL, "p", text);
        apply_ns += clock_monotonic_ns() - start_ns;
        start_ns = clock_monotonic_ns();
        pool_refresh(f->publisher, pool_of_slot(slot));
        refresh_ns += clock_monotonic_ns() - start_ns;
        rcu_turn_done();
    }
    if (getenv("POINTSMAN_BENCH") != NULL) {
        print_message("1,000 targets: a change %.3f ms, a view %.3f ms\n",
                      (double)apply_ns / ROUNDS / 1e6, (double)refresh_ns / ROUNDS / 1e6);
    }
    assert_int_equal(pool_of_slot(slot)->member_count, COUNT);
    assert_int_equal(pool_member_requests(held), 1);
    pool_member_put(held);
    settle(f);
    free(text);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_name_is_all_its_addresses),
        TEST(test_names_are_asked_for_before_they_are_live),
        TEST(test_what_is_replaced_serves_until_an_answer),
        TEST(test_nobody_answers_for_what_replaces),
        TEST(test_the_next_change_does_not_wait_for_the_last),
        TEST(test_one_that_waited_in_vain_frees_nobody_at_work),
        TEST(test_a_worker_finds_no_moment_without_targets),
        TEST(test_an_answer_to_what_was_to_wait),
        TEST(test_it_ends_before_what_was_to_wait_is_live),
        TEST(test_nothing_waits_for_those_that_serve_nobody),
        TEST(test_changes_in_a_row_wait_one_second_in_all),
        TEST(test_many_that_wait_hold_nobody_up),
        TEST(test_lists_of_routes_wait_as_well),
        TEST(test_names_that_are_asked_for_in_vain),
        TEST(test_what_an_answer_replaced_is_freed),
        TEST(test_much_is_freed_look_by_look),
        TEST(test_a_trial_that_is_left),
        TEST(test_an_answer_is_a_difference),
        TEST(test_members_that_come_back),
        TEST(test_members_of_names_are_cut),
        TEST(test_lists_of_routes_have_pools),
        TEST(test_one_revision_changes_a_list_twice),
        TEST(test_an_answer_between_preparing_and_publishing),
        TEST(test_many_users_of_one_name),
        TEST(test_zones_states_and_limits),
        TEST(test_one_change_in_a_large_pool),
    };
    hash_seed();
    log_set_level(LOG_ERROR);
    rcu_thread_begin();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rcu_drain();
    rcu_thread_end();
    return failed;
}
