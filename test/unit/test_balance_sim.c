// SPDX-License-Identifier: MIT
// Least requests in simulated time, against one count that an ideal single worker would keep: targets serve one
// request at a time, from 10 to 5,000 ms (log-uniform); who waits, waits there.
#include "../support/pool_fixture.h"

enum {
    TARGETS = 20,
    WORKERS = 8,
    REQUESTS = 300000,
    STEPS = 1024,
    MEAN_US = 803000, // of service times
};

struct departure {
    uint64_t at_us;
    int target;
};

struct heap {
    struct departure items[REQUESTS];
    unsigned count;
};

static void push(struct heap *heap, struct departure item)
{
    unsigned at = heap->count++;
    while (at > 0 && heap->items[(at - 1) / 2].at_us > item.at_us) {
        heap->items[at] = heap->items[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap->items[at] = item;
}

static struct departure pop(struct heap *heap)
{
    struct departure first = heap->items[0];
    struct departure last = heap->items[--heap->count];
    unsigned at = 0;
    for (;;) {
        unsigned next = 2 * at + 1;
        if (next >= heap->count) {
            break;
        }
        next += next + 1 < heap->count && heap->items[next + 1].at_us < heap->items[next].at_us;
        if (heap->items[next].at_us >= last.at_us) {
            break;
        }
        heap->items[at] = heap->items[next];
        at = next;
    }
    heap->items[at] = last;
    return first;
}

struct ideal {
    unsigned counts[TARGETS];
    uint64_t random;
};

// The smallest count; equal ones by lot.
static int pick_ideal(struct ideal *ideal)
{
    int best = 0;
    unsigned equal = 1;
    for (int i = 1; i < TARGETS; i++) {
        if (ideal->counts[i] < ideal->counts[best]) {
            best = i;
            equal = 1;
        } else if (ideal->counts[i] == ideal->counts[best] &&
                   fixture_random(&ideal->random) % ++equal == 0) {
            best = i;
        }
    }
    ideal->counts[best]++;
    return best;
}

// Mean waiting time in us. `f` NULL: the ideal.
static double simulate(struct pool_fixture *f, double load, const double *service_us)
{
    struct heap *heap = calloc(1, sizeof *heap);
    assert_non_null(heap);
    struct ideal ideal = {.random = 99};
    uint64_t workers[WORKERS];
    uint64_t free_at[TARGETS] = {0};
    uint64_t state = 4711; // the same arrivals and service times for all
    uint64_t now = 0;
    double waited = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = 1000003u * (i + 1);
    }
    uint64_t spread = (uint64_t)(2.0 * MEAN_US / TARGETS / load);
    for (unsigned i = 0; i < REQUESTS; i++) {
        now += fixture_random(&state) % spread;
        uint64_t service = (uint64_t)service_us[fixture_random(&state) % STEPS];
        unsigned worker = (unsigned)(fixture_random(&state) % WORKERS);
        while (heap->count > 0 && heap->items[0].at_us <= now) {
            struct departure gone = pop(heap);
            if (f != NULL) {
                fixture_put(f, gone.target);
            } else {
                ideal.counts[gone.target]--;
            }
        }
        struct pool_choice choice = {.random = fixture_random(&workers[worker])};
        int target = f != NULL ? fixture_pick(f, &choice) : pick_ideal(&ideal);
        uint64_t start = free_at[target] > now ? free_at[target] : now;
        waited += (double)(start - now);
        free_at[target] = start + service;
        push(heap, (struct departure){.at_us = start + service, .target = target});
    }
    while (heap->count > 0) {
        struct departure gone = pop(heap);
        if (f != NULL) {
            fixture_put(f, gone.target);
        }
    }
    free(heap);
    return waited / REQUESTS;
}

static void test_waiting_time_is_ideal(void **unused)
{
    (void)unused;
    static double service_us[STEPS];
    static const double loads[] = {0.6, 0.8, 0.9};
    service_us[0] = 10000;
    for (unsigned i = 1; i < STEPS; i++) {
        service_us[i] = service_us[i - 1] * 1.0060874; // 500 to the power of 1/1024
    }
    assert_in_range((uint64_t)service_us[STEPS - 1], 4900000, 5000000);
    for (unsigned i = 0; i < 3; i++) {
        struct pool_fixture *f = fixture_new(BALANCE_LEAST_REQUESTS);
        for (unsigned k = 0; k < TARGETS; k++) {
            fixture_add(f, 1);
        }
        fixture_look(f);
        double ideal = simulate(NULL, loads[i], service_us);
        double ours = simulate(f, loads[i], service_us);
        print_message("load %.1f: waiting %.1f ms, ideal %.1f ms (%+.2f %%)\n", loads[i],
                      ours / 1000, ideal / 1000, (ours / ideal - 1) * 100);
        assert_true(ours <= ideal * 1.03);
        for (unsigned k = 0; k < TARGETS; k++) {
            assert_int_equal(pool_member_requests(f->candidates[k].member), 0);
        }
        fixture_free(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_waiting_time_is_ideal)};
    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
