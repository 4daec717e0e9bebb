// SPDX-License-Identifier: MIT
// New targets tried before they are live.
#include "health_fixture.h"
#include "model_check.h"

static struct publish_trial *trial;
static unsigned end_count;
static bool was_good;
static char failed[4096];
static bool ends_inside;

static void on_end(void *context, const struct publish_trial_result *result)
{
    assert_ptr_equal(context, &trial);
    end_count++;
    was_good = result->is_good;
    str_copy(failed, sizeof failed, result->failed);
    if (ends_inside) {
        publish_trial_end(&trial);
    }
    trial = NULL;
}

// Begins a trial for the pool "shop" as it would be.
static int try(const char *json, uint64_t wait_ms)
{
    struct problems problems;
    struct declaration *decl;
    problems_init(&problems);
    end_count = 0;
    if (decode_text(NOUN_POOL, "shop", json, DECODE_STRICT, &decl, NULL, &problems) != 0) {
        print_problems(&problems);
        fail();
    }
    int err = publisher_try_targets(&publisher, STR("shop"), &decl->pool, wait_ms, on_end, &trial,
                                    &trial);
    declaration_free(&decl); // what it needs it has copied
    assert_int_equal(end_count, 0);
    return err;
}

// The answer to the check that was begun as number `i`.
static void result_of(unsigned i, bool is_good, const char *reason)
{
    struct probe_result result = {.is_good = is_good, .says_weight = -1, .status = 200};
    str_copy(result.reason, sizeof result.reason, str_from_c(reason));
    assert_true(i < fake_count && fakes[i]->is_live);
    fakes[i]->done(fakes[i]->context, &result);
}

static void test_all_good(void **state)
{
    (void)state;
    assert_int_equal(try("{\"targets\":[\"10.0.0.1:80\",\"https://10.0.0.2\",\"unix:/run/x\"],"
                         "\"health\":{\"path\":\"/up\",\"interval\":\"5s\",\"rise\":2,"
                         "\"status\":\"200\"}}",
                         30000),
                     0);
    assert_int_equal(live_probes, 3);
    assert_string_equal(fakes[0]->path, "/up");
    assert_string_equal(fakes[0]->host, "10.0.0.1:80");
    assert_int_equal(fakes[0]->spec.interval_ms, 1000);
    assert_int_equal(fakes[0]->spec.status_count, 1);
    assert_string_equal(fakes[1]->host, "10.0.0.2:443");
    assert_non_null(fakes[1]->spec.tls);
    assert_int_equal(fakes[2]->spec.address.ss_family, AF_UNIX);
    for (unsigned i = 0; i < 3; i++) {
        result_of(i, true, "ok");
        result_of(i, i != 0, "status 500"); // the first one begins again
    }
    pass(1);
    assert_int_equal(end_count, 0);
    result_of(0, true, "ok");
    result_of(0, true, "ok");
    assert_int_equal(end_count, 0); // never from within
    assert_int_equal(live_probes, 0);
    pass(1);
    assert_int_equal(end_count, 1);
    assert_true(was_good);
    assert_string_equal(failed, "[]");
    pass(60000);
    assert_int_equal(end_count, 1);
    assert_true(list_is_empty(&publisher.health.trials));
}

static void test_not_in_time(void **state)
{
    (void)state;
    assert_int_equal(try("{\"targets\":[\"10.0.0.1:80\",\"10.0.0.2:80\",\"10.0.0.3:80\","
                         "\"10.0.0.4:80\"],\"health\":{\"path\":\"/\",\"rise\":2}}",
                         5000),
                     0);
    result_of(0, false, "status 503");
    result_of(1, true, "ok");
    result_of(2, true, "ok");
    result_of(2, true, "ok");
    pass(5001);
    assert_int_equal(end_count, 1);
    assert_false(was_good);
    assert_string_equal(
        failed, "[{\"address\":\"10.0.0.1:80\",\"detail\":\"status 503\"},"
                "{\"address\":\"10.0.0.2:80\",\"detail\":\"only 1 of 2 good checks in a row\"},"
                "{\"address\":\"10.0.0.4:80\",\"detail\":\"no answer yet\"}]");
    assert_int_equal(live_probes, 0);
}

static void test_without_checks_a_connect_is_enough(void **state)
{
    (void)state;
    assert_int_equal(try("{\"targets\":[\"10.0.0.1:80\"]}", 1000), 0);
    assert_int_equal(fakes[0]->spec.type, HEALTH_TCP);
    result_of(0, false, "connect: refused");
    result_of(0, true, "ok");
    pass(1);
    assert_true(end_count == 1 && was_good);
}

static void test_no_waiting(void **state)
{
    (void)state;
    assert_int_equal(try("{\"targets\":[\"10.0.0.1:80\",\"app:80\"]}", 0), 0);
    assert_int_equal(live_probes, 0);
    pass(1);
    assert_true(end_count == 1 && was_good);
}

static void test_what_needs_no_trial(void **state)
{
    (void)state;
    struct test_pool *pool = make_pool("shop");
    struct pool_target *up = add_number(pool, 0);
    struct pool_target *down = add_number(pool, 1);
    struct pool_target *app = add_to(pool, "app:80", "10.1.0.9");
    struct pool_target *out = add_number(pool, 2);
    health_follow(&publisher, pool->pool);
    answer(up, true, "ok");
    answer(down, false, "status 503");
    answer(app, true, "ok");
    answer(out, true, "ok");
    atomic_store(&out->is_reported, true);
    health_on_report(&loop, &out->report);
    assert_true(out->health.is_ejected);
    assert_int_equal(try("{\"targets\":[\"10.0.0.1:80\",\"app:80\",\"10.0.0.2:80\",\"10.0.0.3:80\","
                         "{\"address\":\"10.0.0.8:80\",\"state\":\"drain\"},"
                         "{\"address\":\"10.0.0.9:80\",\"weight\":0}],\"health\":{\"rise\":1}}",
                         1000),
                     0);
    assert_int_equal(fake_count, 4 + 2); // that is down, and that is ejected
    result_of(4, true, "ok");
    result_of(5, true, "ok");
    pass(1);
    assert_true(end_count == 1 && was_good);
    assert_int_equal(try("{\"targets\":[\"10.0.0.1:80\"]}", 1000), 0);
    pass(1);
    assert_true(end_count == 1 && was_good);
}

static void give_answer(unsigned count, const char *first, const char *second, const char *error)
{
    struct sockaddr_storage addresses[2] = {0};
    const char *texts[] = {first, second};
    for (unsigned i = 0; i < count; i++) {
        struct sockaddr_in in4 = {.sin_family = AF_INET};
        assert_int_equal(inet_pton(AF_INET, texts[i], &in4.sin_addr), 1);
        memcpy(&addresses[i], &in4, sizeof in4);
    }
    const struct resolver_result result = {.addresses = addresses, .count = count, .error = error};
    watched->on_answer(watched->context, &result);
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(
        try("{\"targets\":[\"https://app.internal:8443\"],\"health\":{\"rise\":1}}", 5000), 0);
    assert_string_equal(watched->host, "app.internal");
    assert_int_equal(live_probes, 0);
    give_answer(0, NULL, NULL, "timeout");
    give_answer(2, "10.1.0.1", "10.1.0.2", NULL);
    assert_int_equal(live_probes, 2);
    assert_string_equal(fakes[0]->host, "app.internal:8443");
    assert_int_equal(((const struct sockaddr_in *)&fakes[1]->spec.address)->sin_port, htons(8443));
    give_answer(2, "10.1.0.1", "10.1.0.2", NULL); // the same
    give_answer(0, NULL, NULL, "timeout");        // the last answer holds
    assert_int_equal(fake_count, 2);
    result_of(0, true, "ok");
    pass(1);
    assert_int_equal(end_count, 0); // the other one was not looked at yet
    give_answer(2, "10.1.0.1", "10.1.0.3", NULL);
    assert_int_equal(live_probes, 2);
    result_of(2, true, "ok");
    result_of(3, false, "connect: refused"); // one that does not answer does not hold it up
    pass(1);
    assert_true(end_count == 1 && was_good);
    assert_int_equal(watched_count, 0);
}

// A switch begins with the addresses that pools know: it is not good before there are any.
static void test_a_name_that_pools_do_not_know_yet(void **state)
{
    (void)state;
    pools_name.address_count = 0;
    assert_int_equal(try("{\"targets\":[\"app.internal:80\"],\"health\":{\"rise\":1}}", 5000), 0);
    assert_int_equal(pools_name.refs, 1);
    give_answer(1, "10.1.0.1", NULL, NULL);
    result_of(0, true, "ok");
    pass(1);
    assert_int_equal(end_count, 0);
    pools_name.address_count = 1;
    result_of(0, true, "ok");
    pass(1);
    assert_true(end_count == 1 && was_good);
    assert_int_equal(pools_name.refs, 0);
}

static void test_names_that_fail(void **state)
{
    (void)state;
    assert_int_equal(try("{\"targets\":[\"a.internal:80\",\"b.internal:80\"]}", 5000), 0);
    give_answer(1, "10.1.0.1", NULL, NULL);
    result_of(0, false, "connect: timeout");
    pass(5001);
    assert_false(was_good);
    assert_string_equal(
        failed, "[{\"address\":\"a.internal:80\",\"detail\":\"name: no answer yet\"},"
                "{\"address\":\"b.internal:80\",\"detail\":\"10.1.0.1: connect: timeout\"}]");
    assert_int_equal(try("{\"targets\":[\"a.internal:80\"]}", 5000), 0);
    give_answer(0, NULL, NULL, "no such name");
    pass(5001);
    assert_string_equal(failed,
                        "[{\"address\":\"a.internal:80\",\"detail\":\"name: no such name\"}]");
    assert_int_equal(try("{\"targets\":[\"localhost:8080\"]}", 5000), 0);
    assert_int_equal(watched_count, 0); // nobody is asked
    result_of(fake_count - 1, true, "ok");
    pass(1);
    assert_true(was_good);
}

static void test_given_up(void **state)
{
    (void)state;
    assert_int_equal(try("{\"targets\":[\"10.0.0.1:80\",\"app:80\"]}", 5000), 0);
    publish_trial_end(&trial);
    assert_null(trial);
    assert_int_equal(live_probes + watched_count, 0);
    pass(6000);
    assert_int_equal(end_count, 0);
    assert_int_equal(try("{\"targets\":[\"10.0.0.1:80\"]}", 5000), 0);
    result_of(fake_count - 1, true, "ok"); // its end is on the way
    publish_trial_end(&trial);
    pass(1);
    assert_int_equal(end_count, 0);
    publish_trial_end(&trial); // NULL
    ends_inside = true;
    assert_int_equal(try("{\"targets\":[\"10.0.0.1:80\"]}", 0), 0);
    pass(1);
    assert_int_equal(end_count, 1);
    ends_inside = false;
}

static void test_the_publisher_stops(void **state)
{
    (void)state;
    assert_int_equal(try("{\"targets\":[\"10.0.0.1:80\",\"app:80\"]}", 5000), 0);
    struct publish_trial *first = trial;
    assert_int_equal(try("{\"targets\":[\"10.0.0.2:80\"]}", 5000), 0);
    health_stop(&publisher);
    assert_int_equal(live_probes + watched_count, 0);
    pass(6000);
    assert_int_equal(end_count, 0);
    publish_trial_end(&first); // the other one is freed with the publisher
}

static void test_memory_out(void **state)
{
    (void)state;
    no_memory = true;
    assert_int_equal(try("{\"targets\":[\"10.0.0.1:80\"]}", 5000), ERR_MEMORY);
    assert_int_equal(try("{\"targets\":[\"app:80\"]}", 5000), ERR_MEMORY);
    assert_true(list_is_empty(&publisher.health.trials));
    publisher.health.trial_probes = 20000;
    no_memory = false;
    assert_int_equal(try("{\"targets\":[\"10.0.0.1:80\"]}", 5000), ERR_LIMIT);
    publisher.health.trial_probes = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HEALTH_TEST(test_all_good),
        HEALTH_TEST(test_not_in_time),
        HEALTH_TEST(test_without_checks_a_connect_is_enough),
        HEALTH_TEST(test_no_waiting),
        HEALTH_TEST(test_what_needs_no_trial),
        HEALTH_TEST(test_names),
        HEALTH_TEST(test_a_name_that_pools_do_not_know_yet),
        HEALTH_TEST(test_names_that_fail),
        HEALTH_TEST(test_given_up),
        HEALTH_TEST(test_the_publisher_stops),
        HEALTH_TEST(test_memory_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
