// SPDX-License-Identifier: MIT
#include "base/clock.h"
#include "net/address.h"
#include "net/dns_int.h"
#include "net/resolver.h"
#include "support/dns_peer.h"
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

struct asked {
    unsigned answers;
    unsigned failures;
    sa_family_t family;
    unsigned count;
    unsigned ttl_ms;
    unsigned failure_ttls[8]; // of the first ones
    char error[64];
    char text[4096]; // of the last good answer: "10.0.0.1 2001:db8::1 "
    struct resolver_name *name;
    bool is_once;
};

static void on_answer(void *context, const struct resolver_result *result)
{
    struct asked *asked = context;
    asked->ttl_ms = result->ttl_ms;
    if (result->count == 0) {
        assert_non_null(result->error);
        str_copy(asked->error, sizeof asked->error, str_from_c(result->error));
        if (asked->failures < 8) {
            asked->failure_ttls[asked->failures] = result->ttl_ms;
        }
        asked->failures++;
        return;
    }
    assert_null(result->error);
    assert_true(result->count <= RESOLVER_ADDRESS_MAX);
    asked->answers++;
    asked->count = result->count;
    asked->family = result->addresses[0].ss_family;
    size_t len = 0;
    for (unsigned i = 0; i < result->count; i++) {
        struct in6_addr in6;
        net_peer_in6(&result->addresses[i], &in6);
        len += net_format_in6(&in6, asked->text + len, sizeof asked->text - len);
        asked->text[len++] = ' ';
        asked->text[len] = '\0';
    }
    if (asked->is_once) {
        resolver_unwatch(&asked->name); // inside the call
    }
}

static void turn_until(struct loop *loop, const unsigned *count, unsigned wanted)
{
    uint64_t end = clock_monotonic_ns() + 60 * NS_PER_SEC;
    while (*count < wanted && clock_monotonic_ns() < end) {
        loop_turn(loop, 20);
    }
    assert_true(*count >= wanted);
}

static void turn_for(struct loop *loop, uint64_t ms)
{
    uint64_t end = clock_monotonic_ns() + ms * NS_PER_MS;
    while (clock_monotonic_ns() < end) {
        loop_turn(loop, 5);
    }
}

// A resolver that asks `peer`, on the control loop or on a thread of its own.
struct fixture {
    struct dns_peer peer;
    struct loop control;
    struct loop other;
    pthread_t thread;
    bool has_thread;
    struct resolver *resolver;
};

static void *run_loop(void *argument)
{
    loop_run(argument);
    return NULL;
}

static void begin(struct fixture *f, bool has_thread, unsigned timeout_ms)
{
    dns_peer_begin(&f->peer);
    const char *servers[] = {f->peer.server};
    const struct resolver_config config = {.servers = servers,
                                           .server_count = 1,
                                           .timeout_ms = timeout_ms,
                                           .min_ttl_ms = 50,
                                           .max_ttl_ms = 400};
    assert_int_equal(loop_init(&f->control), 0);
    assert_int_equal(loop_init(&f->other), 0);
    assert_int_equal(resolver_new(&f->resolver, &config), 0);
    f->has_thread = has_thread;
    if (has_thread) {
        assert_int_equal(pthread_create(&f->thread, NULL, run_loop, &f->other), 0);
    }
    assert_int_equal(resolver_start(f->resolver, has_thread ? &f->other : &f->control, &f->control),
                     0);
}

static void watch(struct fixture *f, const char *host, struct asked *asked)
{
    assert_int_equal(resolver_watch(f->resolver, str_from_c(host), on_answer, asked, &asked->name),
                     0);
}

static void stop(struct fixture *f)
{
    if (f->has_thread) {
        loop_stop(&f->other);
        pthread_join(f->thread, NULL);
        f->has_thread = false;
    }
    resolver_stop(f->resolver);
}

// The names are unwatched.
static void end(struct fixture *f)
{
    stop(f);
    resolver_free(&f->resolver);
    loop_empty_mailbox(&f->other);
    loop_empty_mailbox(&f->control);
    loop_fini(&f->other);
    loop_fini(&f->control);
    dns_peer_end(&f->peer);
}

static void set(struct fixture *f, const char *name, enum dns_peer_kind kind, const char *addresses,
                unsigned ttl)
{
    const struct dns_peer_name entry = {
        .name = name, .kind = kind, .addresses = addresses, .ttl = ttl};
    dns_peer_set(&f->peer, &entry);
}

static void test_hosts_file(void **state)
{
    (void)state;
    struct loop loop;
    struct resolver *resolver;
    struct asked before = {0};
    struct asked after = {.is_once = true};
    struct asked gone = {0};
    assert_int_equal(loop_init(&loop), 0);
    assert_int_equal(resolver_new(&resolver, NULL), 0);
    assert_int_equal(resolver_watch(resolver, STR("localhost"), on_answer, &before, &before.name),
                     0);
    assert_int_equal(resolver_watch(resolver, STR("localhost"), on_answer, &gone, &gone.name), 0);
    resolver_unwatch(&gone.name);
    assert_null(gone.name);
    assert_int_equal(resolver_start(resolver, &loop, &loop), 0);
    turn_until(&loop, &before.answers, 1);
    assert_string_equal(before.text, "127.0.0.1 "); // of localhost the IPv4 address alone
    assert_int_equal(before.ttl_ms, 300000);        // a file has no TTL
    assert_int_equal(resolver_watch(resolver, STR("127.0.0.2"), on_answer, &after, &after.name), 0);
    turn_until(&loop, &after.answers, 1);
    assert_string_equal(after.text, "127.0.0.2 ");
    assert_null(after.name);
    assert_int_equal(gone.answers, 0);
    resolver_unwatch(&before.name);
    resolver_stop(resolver);
    resolver_free(&resolver);
    loop_fini(&loop);
}

// A timeout that nothing comes to here, whatever the machine does.
enum { LONG_MS = 30000 };

static void check_answers(bool has_thread)
{
    struct fixture f;
    struct asked asked = {0};
    struct asked behind = {0};
    begin(&f, has_thread, LONG_MS);
    uint64_t began = clock_monotonic_ns();
    set(&f, "app.example", DNS_ANSWER, "10.0.0.2 10.0.0.1 2001:db8::2 10.0.0.2 2001:db8::1", 1);
    watch(&f, "app.example", &asked);
    turn_until(&f.control, &asked.answers, 1);
    // All of both families, in a stable order, each once.
    assert_string_equal(asked.text, "10.0.0.1 10.0.0.2 2001:db8::1 2001:db8::2 ");
    assert_int_equal(asked.ttl_ms, 400); // 1 s, but max_ttl
    // It is asked again when the time is up, not before, and what has changed is seen.
    unsigned questions = atomic_load(&f.peer.questions);
    assert_true(questions >= 1);
    assert_true((questions - 1) * 400 * NS_PER_MS <= clock_monotonic_ns() - began);
    set(&f, "app.example", DNS_ANSWER, "10.0.0.9", 0);
    unsigned answers = asked.answers;
    while (strcmp(asked.text, "10.0.0.9 ") != 0) {
        turn_until(&f.control, &asked.answers, ++answers);
    }
    assert_true(clock_monotonic_ns() - began >= 400 * NS_PER_MS);
    assert_int_equal(asked.ttl_ms, 50); // 0 s, but min_ttl
    turn_until(&f.control, &asked.answers, asked.answers + 3);
    resolver_unwatch(&asked.name);
    answers = asked.answers;
    // The resolver has heard of it when it answers what came behind it, and so has the server.
    set(&f, "behind.example", DNS_ANSWER, "10.0.0.1", 1);
    watch(&f, "behind.example", &behind);
    turn_until(&f.control, &behind.answers, 1);
    turn_for(&f.control, 150);
    assert_true(dns_peer_was_asked(&f.peer, "behind.example"));
    assert_int_equal(asked.answers, answers); // never asked for again
    resolver_unwatch(&behind.name);
    end(&f);
}

static void test_answers(void **state)
{
    (void)state;
    check_answers(false);
    check_answers(true);
}

static void test_failures(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        enum dns_peer_kind kind;
        const char *error;
        const char *or_error; // of some versions of c-ares
    } cases[] = {
        {"none.example", DNS_NO_NAME, "no such name", NULL},
        {"failing.example", DNS_FAIL, "the server failed", "no server could answer"},
        {"silent.example", DNS_SILENCE, "timeout", NULL},
        {"garbage.example", DNS_GARBAGE, "malformed answer", NULL},
        {"empty.example", DNS_ANSWER, "the name has no address", NULL},
    };
    struct fixture f;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct asked asked = {0};
        begin(&f, true, cases[i].kind == DNS_SILENCE ? 60 : LONG_MS);
        uint64_t before = resolver_failure_count(f.resolver);
        set(&f, cases[i].host, cases[i].kind, NULL, 1);
        watch(&f, cases[i].host, &asked);
        turn_until(&f.control, &asked.failures, 1);
        if (cases[i].or_error == NULL || strcmp(asked.error, cases[i].or_error) != 0) {
            assert_string_equal(asked.error, cases[i].error);
        }
        turn_until(&f.control, &asked.failures, 3);
        assert_int_equal(asked.failure_ttls[0], 50); // asked again from min_ttl on, doubling
        assert_int_equal(asked.failure_ttls[2], 200);
        assert_int_equal(asked.answers, 0);
        assert_true(resolver_failure_count(f.resolver) >= before + 3);
        set(&f, cases[i].host, DNS_ANSWER, "10.0.0.1", 1);
        turn_until(&f.control, &asked.answers, 1);
        resolver_unwatch(&asked.name);
        end(&f);
    }
}

static void test_retries_are_bounded(void **state)
{
    (void)state;
    struct fixture f;
    struct asked asked = {0};
    begin(&f, false, LONG_MS);
    set(&f, "none.example", DNS_NO_NAME, NULL, 1);
    watch(&f, "none.example", &asked);
    turn_until(&f.control, &asked.failures, 5);
    assert_int_equal(asked.failure_ttls[4], 800); // 50 doubled four times
    resolver_unwatch(&asked.name);
    end(&f);
}

static void test_truncated_answers_come_by_tcp(void **state)
{
    (void)state;
    struct fixture f;
    struct asked asked = {0};
    begin(&f, true, LONG_MS);
    struct dns_peer_name many = {
        .name = "many.example", .kind = DNS_TRUNCATED, .many = 100, .ttl = 60};
    dns_peer_set(&f.peer, &many);
    watch(&f, "many.example", &asked);
    turn_until(&f.control, &asked.answers, 1);
    assert_true(atomic_load(&f.peer.over_tcp) > 0);
    assert_int_equal(asked.count, RESOLVER_ADDRESS_MAX);
    assert_true(str_starts(str_from_c(asked.text), STR("10.1.0.0 10.1.0.1 ")));
    assert_int_equal(resolver_left_out_count(f.resolver), 100 - RESOLVER_ADDRESS_MAX);
    resolver_unwatch(&asked.name);
    end(&f);
}

// More names than may be under way at a time, on both kinds of loop.
static void test_many_names(void **state)
{
    (void)state;
    enum { COUNT = 700 };
    for (int has_thread = 0; has_thread <= 1; has_thread++) {
        struct fixture f;
        struct asked *asked = calloc(COUNT, sizeof *asked);
        begin(&f, has_thread == 1, 1000); // what the kernel drops is asked again
        set(&f, "app.example", DNS_ANSWER, "10.0.0.1", 3600);
        for (unsigned i = 0; i < COUNT; i++) {
            watch(&f, "app.example", &asked[i]);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            turn_until(&f.control, &asked[i].answers, 1);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            resolver_unwatch(&asked[i].name);
        }
        end(&f);
        free(asked);
    }
}

static void test_end_with_questions_under_way(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        struct fixture f;
        struct asked asked[3] = {0};
        begin(&f, i % 2 == 0, 1000);
        set(&f, "silent.example", DNS_SILENCE, NULL, 1);
        set(&f, "app.example", DNS_ANSWER, "10.0.0.1", 0);
        watch(&f, "silent.example", &asked[0]);
        watch(&f, "app.example", &asked[1]);
        watch(&f, "localhost", &asked[2]);
        if (i % 4 < 2) {
            turn_for(&f.control, i);
        }
        if (i % 8 < 4) { // else after the end
            stop(&f);
        }
        unsigned answers = asked[1].answers;
        for (unsigned k = 0; k < 3; k++) {
            resolver_unwatch(&asked[k].name);
        }
        turn_for(&f.control, 2);
        assert_int_equal(asked[1].answers, answers);
        end(&f);
    }
}

static void test_what_is_refused(void **state)
{
    (void)state;
    struct resolver *resolver;
    struct resolver_name *name;
    char text[RESOLVER_NAME_MAX + 1];
    memset(text, 'a', sizeof text);
    assert_int_equal(resolver_new(&resolver, NULL), 0);
    assert_int_equal(resolver_watch(resolver, str_make(text, sizeof text), on_answer, NULL, &name),
                     ERR_LIMIT);
    assert_int_equal(resolver_watch(resolver, STR_NULL, on_answer, NULL, &name), ERR_LIMIT);
    resolver_free(&resolver);
    static const char *const bad[] = {"",        "dns.example", "1.2.3.4:0", "1.2.3.4:65536",
                                      "1.2.3:5", "[::1",        "[::1]5",    "[::1]:x"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const struct resolver_config config = {.servers = &bad[i], .server_count = 1};
        assert_int_equal(resolver_new(&resolver, &config), ERR_INVALID);
    }
}

static void test_server_list(void **state)
{
    (void)state;
    static const char *const servers[] = {"10.0.0.2", "127.0.0.1:5353", "::1", "[2001:db8::1]:54"};
    char *list;
    assert_int_equal(dns_server_list(servers, 4, &list), 0);
    assert_string_equal(list, "10.0.0.2:53,127.0.0.1:5353,[::1]:53,[2001:db8::1]:54");
    free(list);
}

// ---- single questions ----

struct single {
    struct dns_question question;
    unsigned count;
    bool was_interrupted;
};

static void on_single(struct dns_question *question, const struct dns_answer *answer)
{
    struct single *single = CONTAINER_OF(question, struct single, question);
    single->count++;
    single->was_interrupted = answer->was_interrupted;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void ask_single(struct dns *dns, struct loop *loop, struct single *single, const char *host)
{
    unsigned before = single->count;
    dns_ask(dns, &single->question, host);
    turn_until(loop, &single->count, before + 1);
}

static void test_resolv_conf_is_taken_anew(void **state)
{
    (void)state;
    struct dns_peer peer;
    struct loop loop;
    struct dns *dns;
    struct single single = {.question.on_done = on_single};
    struct single waiting = {.question.on_done = on_single};
    char path[] = "/tmp/pointsman-resolv-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_file(path, "search one.example\noptions ndots:2\n");
    dns_peer_begin(&peer);
    assert_int_equal(loop_init(&loop), 0);
    const struct dns_config config = {
        .servers = peer.server, .resolv_conf = path, .timeout_ms = 1000};
    assert_int_equal(dns_new(&dns, &loop, &config, 8), 0);
    const struct dns_peer_name names[] = {
        {"app.one.example", DNS_ANSWER, "10.0.0.1", 0, 1},
        {"app.two.example", DNS_ANSWER, "10.0.0.2", 0, 1},
        {"silent.example", DNS_SILENCE, NULL, 0, 1},
        {"silent.example.one.example", DNS_SILENCE, NULL, 0, 1},
    };
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        dns_peer_set(&peer, &names[i]);
    }
    ask_single(dns, &loop, &single, "app");
    assert_true(dns_peer_was_asked(&peer, "app.one.example"));
    dns_renew(dns); // has not changed
    ask_single(dns, &loop, &single, "app");
    assert_true(dns_peer_was_asked(&peer, "app.one.example"));
    dns_ask(dns, &waiting.question, "silent.example");
    write_file(path, "search two.example\n# and longer\n");
    dns_renew(dns); // too soon after the last look
    assert_int_equal(waiting.count, 0);
    turn_for(&loop, 5);
    loop_read_clock(&loop);
    loop.now_ms += 6000;
    loop.is_simulated = true;
    turn_for(&loop, 5);
    loop.is_simulated = false;
    dns_renew(dns);
    assert_int_equal(waiting.count, 1); // by its timeout, or by the renewal
    ask_single(dns, &loop, &single, "app");
    assert_true(dns_peer_was_asked(&peer, "app.two.example"));
    dns_ask(dns, &waiting.question, "silent.example");
    dns_free(&dns);
    assert_int_equal(waiting.count, 2);
    assert_true(waiting.was_interrupted);
    loop_fini(&loop);
    dns_peer_end(&peer);
    unlink(path);
}

// Of two questions one is answered when the channel ends: not the whole answer, so none.
static void test_half_an_answer_is_none(void **state)
{
    (void)state;
    struct dns_peer peer;
    struct loop loop;
    struct dns *dns;
    struct single single = {.question.on_done = on_single};
    dns_peer_begin(&peer);
    assert_int_equal(loop_init(&loop), 0);
    const struct dns_config config = {.servers = peer.server, .timeout_ms = 5000};
    assert_int_equal(dns_new(&dns, &loop, &config, 8), 0);
    const struct dns_peer_name name = {"half.example", DNS_IN4_ALONE, "10.0.0.1", 0, 1};
    dns_peer_set(&peer, &name);
    dns_ask(dns, &single.question, "half.example");
    turn_for(&loop, 200); // A has come
    assert_int_equal(single.count, 0);
    dns_free(&dns);
    assert_int_equal(single.count, 1);
    assert_true(single.was_interrupted);
    loop_fini(&loop);
    dns_peer_end(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts_file),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_retries_are_bounded),
        cmocka_unit_test(test_truncated_answers_come_by_tcp),
        cmocka_unit_test(test_many_names),
        cmocka_unit_test(test_end_with_questions_under_way),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_server_list),
        cmocka_unit_test(test_resolv_conf_is_taken_anew),
        cmocka_unit_test(test_half_an_answer_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
