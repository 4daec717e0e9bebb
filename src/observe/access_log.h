// SPDX-License-Identifier: MIT
// The access log: workers append a record to a ring of their own, the log thread formats and writes.
//
//   worker ─► ring (single producer, single consumer) ─► log thread ─► one write(2) for many lines
//
// A worker never waits: when its ring is full the record is dropped and counted
// (access_log_dropped_total of that worker). A file that cannot be written (full disk, closed pipe)
// is tried again at every turn of the log thread; meanwhile the rings take what fits.
#pragma once
#include "base/str.h"
#include "model/config.h"
#include "observe/stats.h"

enum {
    ACCESS_LOG_RING_BYTES = 4 << 20, // per worker, a power of 2
    ACCESS_LOG_TEXT_MAX = 4096,      // bytes of one text of a record; more is cut
    ACCESS_LOG_WAKE_MS = 50,         // at the latest a record is written after
};

struct access_log;

// One request. Views are copied before access_log_add() returns.
struct access_record {
    uint64_t real_ns; // when it ended
    uint64_t duration_ns;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t queue_ns;   // 0: left out, as the next two
    uint64_t connect_ns; //
    uint64_t origin_ns;  // from the request sent to the response head
    uint16_t status;     // 0: no answer was sent
    uint8_t version;     // 10, 11, 20; 0: not known
    uint8_t retries;
    struct str client_ip;
    struct str method;
    struct str host;
    struct str path;
    struct str query; // without '?'
    struct str user_agent;
    struct str referrer;
    struct str trace_id; // 32 hexadecimal digits, or empty
    struct str request_id;
    struct str route;
    struct str pool;
    struct str target;
    struct str tenant;
    const char *tls_version; // "1.3"; constant text, or NULL
    const char *end;         // end reason token; constant text, or NULL
};

// Opens `file` for appending (made with mode 0640; "-": standard output; "": no log, *log is NULL, which
// all functions here take). Control thread, before the workers start.
// 0; ERR_SYSTEM with a problem that names the file and the reason; ERR_MEMORY.
int access_log_open(struct access_log **log, const char *file, enum access_log_format format,
                    unsigned worker_count, struct problems *problems) WARN_UNUSED;
// Starts the log thread. 0, or ERR_SYSTEM.
int access_log_start(struct access_log *log) WARN_UNUSED;
// Writes what is left (waiting for at most a second for the reader of a pipe that takes nothing, for five
// for one that takes little), ends the thread and nulls *log. After the workers have ended.
void access_log_close(struct access_log **log);
// Worker, with its own index. No system call but one wake-up when the ring passes half full.
void access_log_add(struct access_log *log, unsigned worker, const struct access_record *record);
// Any thread, also a signal handler: the file is opened anew before the next write (SIGHUP). When that
// fails the old one is kept.
void access_log_reopen(struct access_log *log);
// Any thread: writes that failed, and records that were lost with them because the file was changed or
// closed meanwhile.
uint64_t access_log_write_errors(const struct access_log *log);
uint64_t access_log_lost(const struct access_log *log);
