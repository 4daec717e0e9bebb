// SPDX-License-Identifier: MIT
#include "observe/access_log_int.h"
#include "base/clock.h"
#include "base/utf8.h"
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { SMALL_RING = 128 << 10 };

static struct access_record full_record(void)
{
    return (struct access_record){
        .real_ns = 1738324800123456789u, // 2025-01-31T12:00:00.123Z
        .duration_ns = 1234567,
        .bytes_in = 120,
        .bytes_out = 18446744073709551615u,
        .queue_ns = 9,
        .connect_ns = 10,
        .origin_ns = 100,
        .status = 200,
        .version = 11,
        .retries = 2,
        .client_ip = STR("192.0.2.1"),
        .method = STR("GET"),
        .host = STR("shop.example.com"),
        .path = STR("/a/b"),
        .query = STR("x=1&y=2"),
        .user_agent = STR("curl/8.0"),
        .referrer = STR("https://example.com/"),
        .trace_id = STR("4bf92f3577b34da6a3ce929d0e0e4736"),
        .request_id = STR("r-1"),
        .route = STR("shop.example.com/a"),
        .pool = STR("web"),
        .target = STR("10.0.0.5:8080"),
        .tenant = STR("acme"),
        .tls_version = "1.3",
        .end = "done",
    };
}

// The line of a record that went through a ring; static memory.
static struct str format_line(const struct access_record *record, enum access_log_format format)
{
    static char line[ACCESS_LINE_MAX + 1];
    static struct access_clock clock;
    access_clock_init(&clock);
    struct access_ring ring;
    assert_int_equal(access_ring_init(&ring, SMALL_RING), 0);
    assert_int_equal(access_ring_add(&ring, record), ACCESS_RING_ADDED);
    uint64_t position = 0;
    const struct access_entry *entry = access_ring_next(&ring, &position, access_ring_head(&ring));
    assert_non_null(entry);
    char *end = format == ACCESS_LOG_JSON ? access_format_json(line, entry, &clock)
                                          : access_format_combined(line, entry, &clock);
    *end = '\0';
    access_ring_fini(&ring);
    return str_make(line, (size_t)(end - line));
}

static void test_json(void **state)
{
    (void)state;
    struct access_record record = full_record();
    assert_string_equal(
        format_line(&record, ACCESS_LOG_JSON).p,
        "{\"@timestamp\":\"2025-01-31T12:00:00.123Z\",\"client.ip\":\"192.0.2.1\","
        "\"http.request.method\":\"GET\",\"url.domain\":\"shop.example.com\","
        "\"url.path\":\"/a/b\",\"url.query\":\"x=1&y=2\",\"http.version\":\"1.1\","
        "\"tls.version\":\"1.3\",\"http.response.status_code\":200,\"http.request.bytes\":120,"
        "\"http.response.bytes\":18446744073709551615,\"event.duration\":1234567,"
        "\"user_agent.original\":\"curl/8.0\",\"http.request.referrer\":\"https://example.com/\","
        "\"trace.id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"pointsman.request_id\":\"r-1\","
        "\"pointsman.route\":\"shop.example.com/a\",\"pointsman.pool\":\"web\","
        "\"pointsman.target\":\"10.0.0.5:8080\",\"pointsman.tenant\":\"acme\","
        "\"pointsman.queue_ns\":9,\"pointsman.connect_ns\":10,\"pointsman.origin_ns\":100,"
        "\"pointsman.retries\":2,\"pointsman.end\":\"done\"}\n");
    struct access_record empty = {.real_ns = 0};
    assert_string_equal(format_line(&empty, ACCESS_LOG_JSON).p,
                        "{\"@timestamp\":\"1970-01-01T00:00:00.000Z\",\"http.request.bytes\":0,"
                        "\"http.response.bytes\":0,\"event.duration\":0}\n");
}

static void test_combined(void **state)
{
    (void)state;
    struct access_record record = full_record();
    record.bytes_out = 512;
    assert_string_equal(format_line(&record, ACCESS_LOG_COMBINED).p,
                        "192.0.2.1 - - [31/Jan/2025:12:00:00 +0000] \"GET /a/b?x=1&y=2 HTTP/1.1\" "
                        "200 512 \"https://example.com/\" \"curl/8.0\"\n");
    struct access_record empty = {.real_ns = 0};
    assert_string_equal(format_line(&empty, ACCESS_LOG_COMBINED).p,
                        "- - - [01/Jan/1970:00:00:00 +0000] \"-\" 000 - \"-\" \"-\"\n");
    record.user_agent = STR("a\"b\\c\nd\x7f\xc3\xa9");
    record.version = 20;
    assert_string_equal(format_line(&record, ACCESS_LOG_COMBINED).p,
                        "192.0.2.1 - - [31/Jan/2025:12:00:00 +0000] \"GET /a/b?x=1&y=2 HTTP/2.0\" "
                        "200 512 \"https://example.com/\" \"a\\\"b\\\\c\\x0ad\\x7f\\xc3\\xa9\"\n");
}

static void assert_user_agent(struct str input, const char *expected, size_t expected_len)
{
    struct access_record record = {.user_agent = input};
    struct str line = format_line(&record, ACCESS_LOG_JSON);
    assert_true(utf8_is_valid(line));
    json_t *json = json_loadb(line.p, line.len, JSON_ALLOW_NUL, NULL);
    assert_non_null(json);
    json_t *text = json_object_get(json, "user_agent.original");
    assert_int_equal(json_string_length(text), expected_len);
    assert_memory_equal(json_string_value(text), expected, expected_len);
    json_decref(json);
}

static void test_escapes_every_byte_at_every_place(void **state)
{
    (void)state;
    // A plain text of 20 bytes: the fast path sees each byte in each of its 8 places.
    for (unsigned c = 0; c < 256; c++) {
        for (size_t place = 0; place < 20; place++) {
            char input[20];
            memset(input, 'x', sizeof input);
            input[place] = (char)c;
            char expected[22];
            memcpy(expected, input, sizeof input);
            size_t len = sizeof input;
            if (c >= 0x80) {
                memcpy(expected + place, "\xEF\xBF\xBD", 3);
                memset(expected + place + 3, 'x', sizeof input - place - 1);
                len += 2;
            }
            assert_user_agent(str_make(input, sizeof input), expected, len);
        }
    }
}

static void test_escapes_utf8(void **state)
{
    (void)state;
    struct str good = STR("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x9a\x82 plain text behind it");
    assert_user_agent(good, good.p, good.len);
    // An overlong form, a surrogate, a cut sequence: one U+FFFD a byte.
    assert_user_agent(STR("\xc0\xaf"), "\xEF\xBF\xBD\xEF\xBF\xBD", 6);
    assert_user_agent(STR("\xed\xa0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 9);
    assert_user_agent(STR("a\xe2\x82"), "a\xEF\xBF\xBD\xEF\xBF\xBD", 7);
}

static void test_longest_line_fits(void **state)
{
    (void)state;
    static char ugly[ACCESS_LOG_TEXT_MAX + 100];
    memset(ugly, 1, sizeof ugly);
    struct access_record record = full_record();
#define X(name) record.name = str_make(ugly, sizeof ugly);
    ACCESS_TEXT_TABLE(X)
#undef X
    record.duration_ns = record.bytes_in = record.bytes_out = record.queue_ns = INT64_MAX;
    record.connect_ns = record.origin_ns = INT64_MAX;
    struct str line = format_line(&record, ACCESS_LOG_JSON);
    assert_true(line.len > ACCESS_TEXT_COUNT * ACCESS_LOG_TEXT_MAX * 6);
    assert_true(line.len <= ACCESS_LINE_MAX);
    json_t *json = json_loadb(line.p, line.len, 0, NULL);
    assert_non_null(json);
    assert_int_equal(json_string_length(json_object_get(json, "url.path")), ACCESS_LOG_TEXT_MAX);
    json_decref(json);
    assert_true(format_line(&record, ACCESS_LOG_COMBINED).len <= ACCESS_LINE_MAX);
}

static void test_clock_is_kept_for_a_second_only(void **state)
{
    (void)state;
    static char line[ACCESS_LINE_MAX];
    struct access_clock clock;
    access_clock_init(&clock);
    struct access_entry entry = {.real_ns = 0};
    for (uint64_t ms = 0; ms < 10000; ms += 37) {
        entry.real_ns = (1738324799ull * 1000 + ms) * NS_PER_MS;
        char expected[CLOCK_ISO_LEN];
        clock_iso(expected, entry.real_ns);
        access_format_json(line, &entry, &clock);
        assert_memory_equal(line + sizeof("{\"@timestamp\":\"") - 1, expected, CLOCK_ISO_LEN);
    }
}

// A text of `len` bytes that tells its number.
static struct str numbered_text(char *to, size_t len, unsigned number)
{
    for (size_t i = 0; i < len; i++) {
        to[i] = (char)('a' + (number + i) % 26);
    }
    return str_make(to, len);
}

static void check_entry(const struct access_entry *entry, unsigned number, size_t len)
{
    char expected[ACCESS_LOG_TEXT_MAX];
    assert_non_null(entry);
    assert_int_equal(entry->duration_ns, number);
    assert_int_equal(entry->lens[ACCESS_TEXT_path], len);
    (void)numbered_text(expected, len, number);
    assert_memory_equal(entry->texts, expected, len);
}

static void test_wraps_at_every_offset(void **state)
{
    (void)state;
    struct access_ring ring;
    assert_int_equal(access_ring_init(&ring, SMALL_RING), 0);
    char text[ACCESS_LOG_TEXT_MAX];
    uint64_t position = 0;
    unsigned number = 0;
    for (size_t offset = 0; offset <= 1024; offset += 8) {
        // Up to `offset` bytes before the end, in records of different sizes.
        while ((position & (SMALL_RING - 1)) < SMALL_RING - offset - 600 ||
               (position & (SMALL_RING - 1)) >= SMALL_RING - offset) {
            struct access_record record = {.duration_ns = number,
                                           .path = numbered_text(text, number % 300, number)};
            assert_int_not_equal(access_ring_add(&ring, &record), ACCESS_RING_FULL);
            check_entry(access_ring_next(&ring, &position, access_ring_head(&ring)), number,
                        number % 300);
            access_ring_release(&ring, position);
            number++;
        }
        for (size_t len = 0; len < 600; len += 31) {
            struct access_record record = {.duration_ns = number,
                                           .path = numbered_text(text, len, number)};
            assert_int_not_equal(access_ring_add(&ring, &record), ACCESS_RING_FULL);
            check_entry(access_ring_next(&ring, &position, access_ring_head(&ring)), number, len);
            access_ring_release(&ring, position);
            number++;
        }
        assert_null(access_ring_next(&ring, &position, access_ring_head(&ring)));
    }
    access_ring_fini(&ring);
}

static void test_wakes_once_at_half_and_refuses_when_full(void **state)
{
    (void)state;
    struct access_ring ring;
    assert_int_equal(access_ring_init(&ring, SMALL_RING), 0);
    char text[1000];
    uint64_t position = 0;
    for (int round = 0; round < 5; round++) {
        unsigned added = 0;
        unsigned wakes = 0;
        enum access_ring_result result;
        struct access_record record = {.path = numbered_text(text, sizeof text, 0)};
        while ((result = access_ring_add(&ring, &record)) != ACCESS_RING_FULL) {
            added++;
            wakes += result == ACCESS_RING_ADDED_WAKE;
        }
        assert_int_equal(wakes, 1);
        assert_in_range(added, SMALL_RING / 1200, SMALL_RING / 1000);
        assert_int_equal(access_ring_add(&ring, &record), ACCESS_RING_FULL);
        unsigned taken = 0;
        uint64_t head = access_ring_head(&ring);
        while (access_ring_next(&ring, &position, head) != NULL) {
            taken++;
        }
        assert_int_equal(taken, added);
        access_ring_release(&ring, position);
    }
    access_ring_fini(&ring);
}

struct producer {
    struct access_ring *ring;
    unsigned count;
};

static void *run_producer(void *argument)
{
    struct producer *producer = argument;
    char text[400];
    for (unsigned i = 0; i < producer->count; i++) {
        struct access_record record = {.duration_ns = i, .path = numbered_text(text, i % 400, i)};
        while (access_ring_add(producer->ring, &record) == ACCESS_RING_FULL) {
            sched_yield();
        }
    }
    return NULL;
}

static void test_ring_between_threads(void **state)
{
    (void)state;
    struct access_ring ring;
    assert_int_equal(access_ring_init(&ring, SMALL_RING), 0);
    struct producer producer = {&ring, 20000};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_producer, &producer), 0);
    uint64_t position = 0;
    for (unsigned number = 0; number < producer.count;) {
        uint64_t head = access_ring_head(&ring);
        const struct access_entry *entry;
        while ((entry = access_ring_next(&ring, &position, head)) != NULL) {
            check_entry(entry, number, number % 400);
            number++;
        }
        access_ring_release(&ring, position);
        sched_yield();
    }
    pthread_join(thread, NULL);
    access_ring_fini(&ring);
}

// ---- the whole log ----

struct folder {
    char path[64];
    char file[80];
};

static void make_folder(struct folder *folder)
{
    snprintf(folder->path, sizeof folder->path, "/tmp/test_access_log.XXXXXX");
    assert_non_null(mkdtemp(folder->path));
    snprintf(folder->file, sizeof folder->file, "%s/access.log", folder->path);
}

// The file's whole text; the caller frees.
static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return strdup("");
    }
    size_t size = 64 << 20;
    char *text = malloc(size);
    assert_non_null(text);
    size_t len = fread(text, 1, size - 1, file);
    text[len] = '\0';
    fclose(file);
    return text;
}

static unsigned count_lines(const char *text)
{
    unsigned count = 0;
    // Not strchr: strict string checks of ASan measure all of the text at each call.
    for (; *text != '\0'; text++) {
        count += *text == '\n';
    }
    return count;
}

static void wait_for_lines(const char *path, unsigned count)
{
    uint64_t deadline = clock_monotonic_ns() + 60 * NS_PER_SEC;
    while (clock_monotonic_ns() < deadline) {
        char *text = read_file(path);
        unsigned lines = count_lines(text);
        free(text);
        if (lines == count) {
            return;
        }
        usleep(2000);
    }
    fail_msg("%s has not %u lines", path, count);
}

static struct access_log *open_log(const char *file, enum access_log_format format,
                                   unsigned workers)
{
    struct problems problems;
    problems_init(&problems);
    struct access_log *log = NULL;
    assert_int_equal(access_log_open(&log, file, format, workers, &problems), 0);
    assert_int_equal(access_log_start(log), 0);
    problems_fini(&problems);
    return log;
}

struct worker {
    struct access_log *log;
    unsigned index;
    unsigned count;
};

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    char text[200];
    for (unsigned i = 0; i < worker->count; i++) {
        struct access_record record = {.status = (uint16_t)(200 + worker->index),
                                       .duration_ns = i,
                                       .path = numbered_text(text, i % 200, i)};
        access_log_add(worker->log, worker->index, &record);
    }
    return NULL;
}

static void test_lines_of_all_workers_are_whole(void **state)
{
    (void)state;
    enum { WORKERS = 3, RECORDS = 20000 };
    struct folder folder;
    make_folder(&folder);
    struct access_log *log = open_log(folder.file, ACCESS_LOG_JSON, WORKERS);
    struct worker workers[WORKERS];
    pthread_t threads[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){log, i, RECORDS};
        assert_int_equal(pthread_create(&threads[i], NULL, run_worker, &workers[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
    }
    uint64_t dropped = stats_counter_sum(COUNTER_access_log_dropped_total);
    access_log_close(&log);
    assert_null(log);

    struct stat status;
    assert_int_equal(stat(folder.file, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0640);
    char *text = read_file(folder.file);
    assert_int_equal(count_lines(text) + dropped, WORKERS * RECORDS);
    const char *text_end = text + strlen(text);
    json_int_t next[WORKERS] = {0};
    for (char *line = text; *line != '\0';) {
        char *end = memchr(line, '\n', (size_t)(text_end - line));
        json_t *json = json_loadb(line, (size_t)(end - line), 0, NULL);
        assert_non_null(json);
        json_int_t code = json_integer_value(json_object_get(json, "http.response.status_code"));
        json_int_t number = json_integer_value(json_object_get(json, "event.duration"));
        assert_in_range(code, 200, 200 + WORKERS - 1);
        assert_true(number >= next[code - 200]); // in order; a gap is a dropped record
        next[code - 200] = number + 1;
        json_decref(json);
        line = end + 1;
    }
    free(text);
    unlink(folder.file);
    rmdir(folder.path);
}

static void test_reopen(void **state)
{
    (void)state;
    struct folder folder;
    make_folder(&folder);
    char moved[96];
    snprintf(moved, sizeof moved, "%s.1", folder.file);
    struct access_log *log = open_log(folder.file, ACCESS_LOG_COMBINED, 1);
    struct access_record record = full_record();
    for (unsigned i = 0; i < 10; i++) {
        access_log_add(log, 0, &record);
    }
    wait_for_lines(folder.file, 10);
    assert_int_equal(rename(folder.file, moved), 0);
    access_log_add(log, 0, &record); // before the signal: belongs to the old file
    wait_for_lines(moved, 11);
    access_log_reopen(log);
    uint64_t deadline = clock_monotonic_ns() + 60 * NS_PER_SEC;
    while (access(folder.file, F_OK) != 0 && clock_monotonic_ns() < deadline) {
        usleep(2000);
    }
    for (unsigned i = 0; i < 5; i++) {
        access_log_add(log, 0, &record);
    }
    wait_for_lines(folder.file, 5);
    // A folder that is gone: the open file is kept.
    unlink(folder.file);
    unlink(moved);
    rmdir(folder.path);
    access_log_reopen(log);
    access_log_add(log, 0, &record);
    access_log_close(&log);
}

static void test_full_disk_tears_no_line(void **state)
{
    (void)state;
    // The pipe stands for a full disk: it takes a part, then nothing, then the rest.
    struct folder folder;
    make_folder(&folder);
    assert_int_equal(mkfifo(folder.file, 0600), 0);
    int reader = open(folder.file, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    struct access_log *log = open_log(folder.file, ACCESS_LOG_COMBINED, 1);
    struct access_record record = full_record();
    struct str line = format_line(&record, ACCESS_LOG_COMBINED);
    enum { RECORDS = 3000 }; // several times what a pipe holds
    for (unsigned i = 0; i < RECORDS; i++) {
        access_log_add(log, 0, &record);
    }
    size_t total = 0;
    uint64_t deadline = clock_monotonic_ns() + 60 * NS_PER_SEC;
    while (total < RECORDS * line.len && clock_monotonic_ns() < deadline) {
        char part[5000];
        ssize_t n = read(reader, part, sizeof part);
        for (ssize_t i = 0; i < n; i++, total++) {
            assert_int_equal(part[i], line.p[total % line.len]);
        }
        if (n <= 0) {
            usleep(1000);
        }
    }
    assert_int_equal(total, RECORDS * line.len);
    assert_int_equal(access_log_write_errors(log), 0);

    // The reader leaves: counted, no signal, and close does not hang.
    close(reader);
    access_log_add(log, 0, &record);
    deadline = clock_monotonic_ns() + 60 * NS_PER_SEC;
    while (access_log_write_errors(log) == 0 && clock_monotonic_ns() < deadline) {
        usleep(1000);
    }
    assert_true(access_log_write_errors(log) > 0);
    access_log_close(&log);
    unlink(folder.file);
    rmdir(folder.path);
}

static void test_stalled_reader_costs_records_not_workers(void **state)
{
    (void)state;
    struct folder folder;
    make_folder(&folder);
    assert_int_equal(mkfifo(folder.file, 0600), 0);
    int reader = open(folder.file, O_RDONLY | O_NONBLOCK);
    struct access_log *log = open_log(folder.file, ACCESS_LOG_JSON, 1);
    uint64_t before = stats_counter_sum(COUNTER_access_log_dropped_total);
    struct access_record record = full_record();
    for (unsigned i = 0; i < 20000; i++) { // 8 MB: two rings full
        access_log_add(log, 0, &record);
    }
    assert_true(stats_counter_sum(COUNTER_access_log_dropped_total) > before);
    uint64_t start = clock_monotonic_ns();
    access_log_close(&log); // gives up after a second
    assert_true(clock_monotonic_ns() - start < 60 * NS_PER_SEC);
    close(reader);
    unlink(folder.file);
    rmdir(folder.path);
}

struct slow_reader {
    int fd;
    size_t total;
};

// Pauses in which a pipe is full; no one of them is long.
static void *read_slowly(void *argument)
{
    struct slow_reader *reader = argument;
    char part[16384];
    ssize_t n;
    for (unsigned i = 0; (n = read(reader->fd, part, sizeof part)) > 0; i++) {
        reader->total += (size_t)n;
        if (i < 6) {
            usleep(300000);
        }
    }
    return NULL;
}

// At the end all is written for a reader that is slow but takes it, for longer than a stalled one gets.
static void test_slow_reader_gets_the_last_of_it(void **state)
{
    (void)state;
    struct folder folder;
    make_folder(&folder);
    assert_int_equal(mkfifo(folder.file, 0600), 0);
    struct slow_reader reader = {.fd = open(folder.file, O_RDONLY | O_NONBLOCK)};
    struct access_log *log = open_log(folder.file, ACCESS_LOG_COMBINED, 1);
    assert_int_equal(fcntl(reader.fd, F_SETFL, 0), 0);
    struct access_record record = full_record();
    size_t line_len = format_line(&record, ACCESS_LOG_COMBINED).len;
    enum { RECORDS = 3000 };
    for (unsigned i = 0; i < RECORDS; i++) {
        access_log_add(log, 0, &record);
    }
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, read_slowly, &reader), 0);
    access_log_close(&log);
    pthread_join(thread, NULL);
    assert_int_equal(reader.total, RECORDS * line_len);
    close(reader.fd);
    unlink(folder.file);
    rmdir(folder.path);
}

static void test_open_errors(void **state)
{
    (void)state;
    struct problems problems;
    problems_init(&problems);
    struct access_log *log = NULL;
    assert_int_equal(access_log_open(&log, "", ACCESS_LOG_JSON, 1, &problems), 0);
    assert_null(log);
    assert_int_equal(access_log_start(log), 0);
    access_log_add(log, 0, &(struct access_record){.status = 200});
    access_log_reopen(log);
    access_log_close(&log);
    assert_int_equal(access_log_open(&log, "/nonexistent/x", ACCESS_LOG_JSON, 1, &problems),
                     ERR_SYSTEM);
    assert_null(log);
    assert_int_equal(problems.count, 1);
    assert_non_null(strstr(problems.items[0].detail, "/nonexistent/x"));
    problems_fini(&problems);
}

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

// Not a check, as machines differ: POINTSMAN_BENCH=1 test_access_log prints what a record costs.
static void measure(void **state)
{
    (void)state;
    if (getenv("POINTSMAN_BENCH") == NULL) {
        skip();
    }
    enum { RECORDS = 400000, BURST = 2000 };
    struct folder folder;
    make_folder(&folder);
    struct access_log *log = open_log(folder.file, ACCESS_LOG_JSON, 1);
    struct access_record record = full_record();
    record.bytes_out = 1234;
    record.user_agent = STR("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128");
    uint64_t start = cpu_ns();
    uint64_t added = 0;
    for (unsigned i = 0; i < RECORDS; i += BURST) {
        uint64_t from = clock_monotonic_ns();
        for (unsigned k = 0; k < BURST; k++) {
            access_log_add(log, 0, &record);
        }
        added += clock_monotonic_ns() - from;
        usleep(5000); // 400,000 a second
    }
    access_log_close(&log);
    print_message("access_log_add: %.0f ns; in all: %.0f ns CPU a record\n",
                  (double)added / RECORDS, (double)(cpu_ns() - start) / RECORDS);
    unlink(folder.file);
    rmdir(folder.path);
}

int main(void)
{
    stats_set_worker_count(4);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_combined),
        cmocka_unit_test(test_escapes_every_byte_at_every_place),
        cmocka_unit_test(test_escapes_utf8),
        cmocka_unit_test(test_longest_line_fits),
        cmocka_unit_test(test_clock_is_kept_for_a_second_only),
        cmocka_unit_test(test_wraps_at_every_offset),
        cmocka_unit_test(test_wakes_once_at_half_and_refuses_when_full),
        cmocka_unit_test(test_ring_between_threads),
        cmocka_unit_test(test_lines_of_all_workers_are_whole),
        cmocka_unit_test(test_reopen),
        cmocka_unit_test(test_full_disk_tears_no_line),
        cmocka_unit_test(test_stalled_reader_costs_records_not_workers),
        cmocka_unit_test(test_slow_reader_gets_the_last_of_it),
        cmocka_unit_test(test_open_errors),
        cmocka_unit_test(measure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
