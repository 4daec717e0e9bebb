// SPDX-License-Identifier: MIT
// What a route costs: loads N routes (default 1,000,000) with one target each, first through
// publisher_apply() and then, when a file is named, from a SQLite store, and prints time and memory.
//
//     load_routes [N [store.db]]
#include "base/clock.h"
#include "base/hash.h"
#include "loop/rcu.h"
#include "publish/publish.h"
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double resident_mib(void)
{
    long total = 0;
    long resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%ld %ld", &total, &resident) != 2) {
        resident = 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return (double)resident * 4096 / 1048576;
}

static uint64_t thread_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void report(const char *what, uint64_t start_ns, double before_mib, unsigned count)
{
    double ns = (double)(clock_monotonic_ns() - start_ns);
    struct mallinfo2 info = mallinfo2();
    printf(
        "%-20s %u routes, %.2f s, %.2f us CPU a route, %.1f MiB resident (+%.1f, %.1f B a route), "
        "heap in use %.1f MiB\n",
        what, count, ns / 1e9, (double)thread_ns() / 1e3 / count, resident_mib(),
        resident_mib() - before_mib, (resident_mib() - before_mib) * 1048576 / count,
        (double)(info.uordblks + info.hblkhd) / 1048576);
}

static int load_applied(unsigned count)
{
    struct publisher *publisher;
    if (publisher_new(&publisher, NULL, NULL, NULL) != 0) {
        return 1;
    }
    double before = resident_mib();
    uint64_t start = clock_monotonic_ns();
    for (unsigned i = 0; i < count; i++) {
        char key[64];
        char value[200];
        int key_len = snprintf(key, sizeof key, "h%06u.example.com", i);
        int len = snprintf(value, sizeof value,
                           "{\"host\":\"%s\",\"path\":\"/\",\"targets\":[\"10.%u.%u.%u:8080\"]}",
                           key, i >> 16 & 255, i >> 8 & 255, i & 255);
        struct store_record record = {.noun = NOUN_ROUTE,
                                      .key = str_make(key, (size_t)key_len),
                                      .value = str_make(value, (size_t)len),
                                      .revision = i + 1};
        publisher_apply(publisher, i + 1, &record, 1);
        if (i % 1000 == 0) {
            rcu_turn_done();
        }
    }
    report("applied one by one", start, before, count);
    start = clock_monotonic_ns();
    int failed = publisher_route_count(publisher) != count;
    publisher_free(&publisher);
    printf("%-20s %.2f s\n", "freed in", (double)(clock_monotonic_ns() - start) / 1e9);
    return failed;
}

static int load_stored(const char *path)
{
    struct problems problems;
    struct publisher *publisher;
    struct store *store;
    char url[512];
    snprintf(url, sizeof url, "sqlite:%s", path);
    problems_init(&problems);
    if (publisher_new(&publisher, NULL, NULL, NULL) != 0 ||
        store_open(&store, str_from_c(url), &problems) != 0) {
        return 1;
    }
    double before = resident_mib();
    uint64_t start = clock_monotonic_ns();
    int err = publisher_load(publisher, store);
    report("from the store", start, before, (unsigned)publisher_route_count(publisher));
    publisher_free(&publisher);
    store_close(&store);
    problems_fini(&problems);
    return err != 0;
}

int main(int argc, char **argv)
{
    unsigned count = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000000;
    hash_seed();
    rcu_thread_begin();
    int failed = argc > 2 ? load_stored(argv[2]) : load_applied(count);
    rcu_drain();
    rcu_thread_end();
    return failed;
}
