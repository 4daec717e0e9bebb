// SPDX-License-Identifier: MIT
// The log thread: drains the rings in turn into one buffer, writes that to the file.
//
//   rings ──► out (256 KiB and room for one line) ──► fd
//
// What a write left over stays in `out` and goes first the next time, so that a line is never torn by
// a full disk; the rings fill meanwhile and count what they drop.
#include "observe/access_log_int.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    OUT_BYTES = 256 << 10,
    RELEASE_BYTES = 64 << 10, // of a ring between two releases
    CLOSE_WAIT_MS = 1000,     // at the end, a reader that takes nothing is waited for so long
    CLOSE_MOST_MS = 5000,     // and one that takes little
};

struct access_log {
    char *file;
    int fd;
    bool is_regular; // else a pipe, a terminal, a socket: its reader may stall
    bool is_standard;
    bool has_failed; // the last write did; logged when it changes
    bool is_started;
    enum access_log_format format;
    unsigned ring_count;
    struct access_ring *rings;
    struct access_clock clock;
    char *out;
    size_t out_start; // written up to here
    size_t out_len;
    uint64_t written; // bytes, ever
    int wake_fd;
    pthread_t thread;
    _Atomic bool must_stop;   // set by close, read by the log thread
    _Atomic bool must_reopen; // set by any thread, cleared by the log thread
    _Atomic uint64_t write_errors;
    _Atomic uint64_t lost;
};

static int open_file(const char *file)
{
    return open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
}

static void take_fd(struct access_log *log, int fd)
{
    struct stat status;
    log->fd = fd;
    log->is_regular = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

static int init_rings(struct access_log *log, unsigned worker_count)
{
    log->rings = aligned_alloc(_Alignof(struct access_ring), worker_count * sizeof *log->rings);
    if (log->rings == NULL) {
        return ERR_MEMORY;
    }
    memset(log->rings, 0, worker_count * sizeof *log->rings);
    for (; log->ring_count < worker_count; log->ring_count++) {
        if (access_ring_init(&log->rings[log->ring_count], ACCESS_LOG_RING_BYTES) != 0) {
            return ERR_MEMORY;
        }
    }
    return 0;
}

static void free_log(struct access_log *log)
{
    for (unsigned i = 0; i < log->ring_count; i++) {
        access_ring_fini(&log->rings[i]);
    }
    free(log->rings);
    if (log->fd >= 0 && !log->is_standard) {
        close(log->fd);
    }
    if (log->wake_fd >= 0) {
        close(log->wake_fd);
    }
    free(log->out);
    free(log->file);
    free(log);
}

static int open_output(struct access_log *log, const char *file, struct problems *problems)
{
    log->is_standard = strcmp(file, "-") == 0;
    int fd = log->is_standard ? STDOUT_FILENO : open_file(file);
    if (fd < 0) {
        return problems_add(problems, ERR_SYSTEM, "", "cannot open the access log %s: %s", file,
                            strerror(errno));
    }
    take_fd(log, fd);
    log->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (log->wake_fd < 0) {
        return problems_add(problems, ERR_SYSTEM, "", "cannot make an eventfd: %s",
                            strerror(errno));
    }
    return 0;
}

int access_log_open(struct access_log **log_out, const char *file, enum access_log_format format,
                    unsigned worker_count, struct problems *problems)
{
    *log_out = NULL;
    if (file[0] == '\0') {
        return 0;
    }
    struct access_log *log = calloc(1, sizeof *log);
    if (log == NULL) {
        return ERR_MEMORY;
    }
    log->fd = -1;
    log->wake_fd = -1;
    log->format = format;
    access_clock_init(&log->clock);
    log->file = strdup(file);
    log->out = malloc(OUT_BYTES + (size_t)ACCESS_LINE_MAX);
    int err = log->file == NULL || log->out == NULL ? ERR_MEMORY : init_rings(log, worker_count);
    if (err == 0) {
        err = open_output(log, file, problems);
    }
    if (err != 0) {
        free_log(log);
        return err;
    }
    *log_out = log;
    return 0;
}

void access_log_add(struct access_log *log, unsigned worker, const struct access_record *record)
{
    if (log == NULL) {
        return;
    }
    switch (access_ring_add(&log->rings[worker], record)) {
    case ACCESS_RING_ADDED:
        return;
    case ACCESS_RING_ADDED_WAKE: {
        uint64_t one = 1;
        // It can fail only when the counter is at its end, and then the thread is awake anyway.
        ssize_t n = write(log->wake_fd, &one, sizeof one);
        (void)n;
        return;
    }
    case ACCESS_RING_FULL:
        stat_count(stats_of_worker(worker), access_log_dropped_total);
        return;
    }
}

// Told once when writing begins to fail, and once when it works again.
static void set_failed(struct access_log *log, bool has_failed, int error)
{
    if (has_failed) {
        atomic_fetch_add_explicit(&log->write_errors, 1, memory_order_relaxed);
    }
    if (log->has_failed == has_failed) {
        return;
    }
    log->has_failed = has_failed;
    if (has_failed) {
        log_error("access log %s: cannot write: %s; records will be dropped", log->file,
                  strerror(error));
    } else {
        log_info("access log %s: writing works again", log->file);
    }
}

// One write of at most `len` bytes that does not block for ever: a pipe with room for PIPE_BUF bytes
// takes as many at once. Returns what write(2) does; -1 with ETIMEDOUT: the reader stalls.
static ssize_t write_some(const struct access_log *log, const char *p, size_t len)
{
    if (!log->is_regular) {
        struct pollfd wait = {.fd = log->fd, .events = POLLOUT};
        if (poll(&wait, 1, ACCESS_LOG_WAKE_MS) == 0) {
            errno = ETIMEDOUT;
            return -1;
        }
        len = len < PIPE_BUF ? len : PIPE_BUF;
    }
    return write(log->fd, p, len);
}

// True: `out` is empty. False: the rest waits for the next turn.
static bool flush_out(struct access_log *log)
{
    while (log->out_start < log->out_len) {
        ssize_t n = write_some(log, log->out + log->out_start, log->out_len - log->out_start);
        if (n > 0) {
            log->out_start += (size_t)n;
            log->written += (uint64_t)n;
            set_failed(log, false, 0);
        } else if (n == 0 || (errno != EINTR && errno != ETIMEDOUT && errno != EAGAIN)) {
            set_failed(log, true, n == 0 ? ENOSPC : errno);
            return false;
        } else if (errno != EINTR) {
            return false;
        }
    }
    log->out_start = 0;
    log->out_len = 0;
    return true;
}

static void format_entry(struct access_log *log, const struct access_entry *entry)
{
    char *to = log->out + log->out_len;
    char *end = to;
    switch (log->format) {
    case ACCESS_LOG_JSON:
        end = access_format_json(to, entry, &log->clock);
        break;
    case ACCESS_LOG_COMBINED:
        end = access_format_combined(to, entry, &log->clock);
        break;
    }
    log->out_len += (size_t)(end - to);
}

// Takes what is in the ring now. False: the output takes nothing more.
static bool drain_ring(struct access_log *log, struct access_ring *ring)
{
    uint64_t head = access_ring_head(ring);
    uint64_t position = atomic_load_explicit(&ring->tail, memory_order_relaxed); // only we write it
    uint64_t released = position;
    bool is_open = true;
    while (is_open) {
        const struct access_entry *entry = access_ring_next(ring, &position, head);
        if (entry == NULL) {
            break;
        }
        format_entry(log, entry);
        if (position - released >= RELEASE_BYTES) {
            access_ring_release(ring, position);
            released = position;
        }
        is_open = log->out_len < OUT_BYTES || flush_out(log);
    }
    access_ring_release(ring, position);
    return is_open;
}

static void drain_rings(struct access_log *log)
{
    // Room for a line is there only behind an empty or a half written buffer below OUT_BYTES.
    if (log->out_start > 0 && !flush_out(log)) {
        return;
    }
    if (log->out_len >= OUT_BYTES && !flush_out(log)) {
        return;
    }
    for (unsigned i = 0; i < log->ring_count; i++) {
        if (!drain_ring(log, &log->rings[i])) {
            return;
        }
    }
    (void)flush_out(log);
}

static uint64_t count_lines(const char *p, size_t len)
{
    uint64_t count = 0;
    for (const char *end = p + len; (p = memchr(p, '\n', (size_t)(end - p))) != NULL; p++) {
        count++;
    }
    return count;
}

static void drop_out(struct access_log *log, size_t len)
{
    uint64_t count = count_lines(log->out + log->out_start, len);
    atomic_fetch_add_explicit(&log->lost, count, memory_order_relaxed);
    log->out_start += len;
}

// Everything added before goes to the old file, the rest to the new one.
static void reopen_file(struct access_log *log)
{
    if (log->is_standard) {
        return;
    }
    drain_rings(log);
    int fd = open_file(log->file);
    if (fd < 0) {
        log_error("access log %s: cannot reopen: %s; the old file is kept", log->file,
                  strerror(errno));
        return;
    }
    close(log->fd);
    take_fd(log, fd);
    // The end of a line whose beginning is in the old file belongs nowhere.
    if (log->out_start > 0 && log->out[log->out_start - 1] != '\n') {
        const char *rest = log->out + log->out_start;
        const char *end = memchr(rest, '\n', log->out_len - log->out_start);
        drop_out(log, end == NULL ? log->out_len - log->out_start : (size_t)(end - rest) + 1);
    }
}

static bool is_drained(const struct access_log *log)
{
    for (unsigned i = 0; i < log->ring_count; i++) {
        if (access_ring_head(&log->rings[i]) !=
            atomic_load_explicit(&log->rings[i].tail, memory_order_relaxed)) {
            return false;
        }
    }
    return log->out_start == log->out_len;
}

// The last of it: a stalled reader gets CLOSE_WAIT_MS, a slow one CLOSE_MOST_MS, a failing file one attempt.
static void finish_output(struct access_log *log)
{
    uint64_t now = clock_monotonic_ns();
    uint64_t most = now + CLOSE_MOST_MS * NS_PER_MS;
    uint64_t deadline = now + CLOSE_WAIT_MS * NS_PER_MS;
    do {
        uint64_t before = log->written;
        drain_rings(log);
        now = clock_monotonic_ns();
        if (log->written != before) {
            deadline = now + CLOSE_WAIT_MS * NS_PER_MS;
        }
    } while (!is_drained(log) && !log->has_failed && now < deadline && now < most);
    if (is_drained(log)) {
        return;
    }
    drop_out(log, log->out_len - log->out_start);
    for (unsigned i = 0; i < log->ring_count; i++) {
        uint64_t head = access_ring_head(&log->rings[i]);
        uint64_t position = atomic_load_explicit(&log->rings[i].tail, memory_order_relaxed);
        while (access_ring_next(&log->rings[i], &position, head) != NULL) {
            atomic_fetch_add_explicit(&log->lost, 1, memory_order_relaxed);
        }
    }
    log_error("access log %s: %llu records were lost at the end", log->file,
              (unsigned long long)access_log_lost(log));
}

static void wait_for_records(const struct access_log *log)
{
    struct pollfd wake = {.fd = log->wake_fd, .events = POLLIN};
    if (poll(&wake, 1, ACCESS_LOG_WAKE_MS) > 0) {
        uint64_t count;
        ssize_t n = read(log->wake_fd, &count, sizeof count);
        (void)n; // EAGAIN: nobody woke us
    }
}

static void *run_log(void *argument)
{
    struct access_log *log = argument;
    // Acquire: pairs with the release in access_log_close(), after which no worker adds.
    while (!atomic_load_explicit(&log->must_stop, memory_order_acquire)) {
        wait_for_records(log);
        if (atomic_exchange_explicit(&log->must_reopen, false, memory_order_relaxed)) {
            reopen_file(log);
        }
        drain_rings(log);
    }
    finish_output(log);
    return NULL;
}

int access_log_start(struct access_log *log)
{
    if (log == NULL) {
        return 0;
    }
    // Signals are for other threads; SIGPIPE becomes EPIPE here.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&log->thread, NULL, run_log, log);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err != 0) {
        return ERR_SYSTEM;
    }
    pthread_setname_np(log->thread, "log");
    log->is_started = true;
    return 0;
}

void access_log_close(struct access_log **log_in)
{
    struct access_log *log = *log_in;
    *log_in = NULL;
    if (log == NULL) {
        return;
    }
    if (log->is_started) {
        atomic_store_explicit(&log->must_stop, true, memory_order_release); // to run_log()
        uint64_t one = 1;
        ssize_t n = write(log->wake_fd, &one, sizeof one);
        (void)n; // it wakes up in ACCESS_LOG_WAKE_MS anyway
        pthread_join(log->thread, NULL);
    }
    free_log(log);
}

void access_log_reopen(struct access_log *log)
{
    if (log != NULL) {
        atomic_store_explicit(&log->must_reopen, true, memory_order_relaxed);
    }
}

uint64_t access_log_write_errors(const struct access_log *log)
{
    return log == NULL ? 0 : atomic_load_explicit(&log->write_errors, memory_order_relaxed);
}

uint64_t access_log_lost(const struct access_log *log)
{
    return log == NULL ? 0 : atomic_load_explicit(&log->lost, memory_order_relaxed);
}
