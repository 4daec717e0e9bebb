// SPDX-License-Identifier: MIT
// Inside of the folder.
//
//     watch.c    from start to end, connections, status
//     lookup.c   a host that a worker does not know
//     examine.c  hosts as Redis has them now, and the request that makes routes of them
//     work.c     many hosts, one page after the other, all or one by one
//     scan.c     passes over all keys; who has to, by a lease
//     notify.c   what Redis tells of changes, and whether it does
//
// Everything is the loop's thread, unless it says otherwise.
#pragma once
#include "base/buf.h"
#include "ceryx/watch.h"
#include "ceryx/translate.h"
#include <pthread.h>

enum { WATCH_KEY_MAX = 120, WATCH_HOLDER_MAX = 40 };

// ---- examine.c ----

// What became of one host.
enum row_kind {
    ROW_SAME,    // it was adopted as it is
    ROW_ABSENT,  // there is no such host, and it was not adopted
    ROW_CHANGED, // the request has changes for it
    ROW_DELETED, // the same: they take its route away
    ROW_UNMARK,  // it is gone, and its route is not what was adopted: only the mark goes
    ROW_REFUSED, // it cannot be translated; its route, if it had one, is gone
    ROW_UNCLEAR, // read it again with its stored value (`whole`)
};

// Hosts that are read together, and the request made of them.
struct rows {
    const char *const *hosts;
    unsigned count;
    bool for_lookup;  // one host: the route is made if there is none, and nothing else is touched
    bool has_values;  // stored routes were read as well
    bool keeps_parts; // pools and certificates stay, though they are not needed any more
    // The outcome.
    enum row_kind *kinds;          // malloc, `count`
    struct store_request *request; // NULL: nothing is to be written
    bool has_route;                // of the last host: the store has one
    unsigned refused;
    char refused_mark[CERYX_DIGESTS_LEN + 1]; // of the last host, should it be refused
};

// Sends the script that reads `hosts`. False: not now.
bool examine_send(struct ceryx_watch *watch, const char *const *hosts, unsigned count,
                  bool with_values, redis_on_reply *on_reply, void *context) WARN_UNUSED;
// From its reply: *rows is filled (rows_fini()). 0; ERR_MEMORY; ERR_UNAVAILABLE: the reply is an error.
int examine_read(struct ceryx_watch *watch, const struct redis_reply *reply,
                 struct rows *rows) WARN_UNUSED;
void rows_fini(struct rows *rows);

// ---- watch.c  ----

struct noted {
    struct noted *next;
    char host[];
};

struct watch_scan {
    enum { SCAN_IDLE, SCAN_ROUTES, SCAN_ADOPTED } phase;
    char cursor[24];
    bool is_waiting; // for a reply
    uint64_t number; // of the pass: replies of another are thrown away
    bool is_wanted;  // at once, for notifications were lost
    unsigned pages;
    uint64_t hosts;
    uint64_t started_ms;
    uint64_t sent_ms;
    uint64_t next_ms; // loop time of the next page or pass
};

// Hosts of one page. Served in chunks: all of them, or fewer where one was refused.
struct watch_work {
    char **hosts; // malloc, with the texts
    unsigned count;
    unsigned at;
    unsigned limit; // hosts of a chunk
    unsigned chunk; // of the one under way; 0: none is
    bool has_values;
    bool keeps_parts; // of one host, whose pool others refer to
    unsigned tries;   // of one host that others change
    struct rows rows;
};

struct ceryx_watch {
    struct ceryx_watch_config config;
    struct misses_source misses;
    struct redis *redis;  // commands
    struct redis *events; // subscriptions
    struct loop_message start_message, leave_message;
    struct loop_timer tick;
    struct loop_timer page_timer; // the next page, or what was noted
    bool is_stopping;
    bool is_started;
    char lease_key[WATCH_KEY_MAX], mark_key[WATCH_KEY_MAX], probe_key[WATCH_KEY_MAX];
    char routes_key[WATCH_KEY_MAX], pools_key[WATCH_KEY_MAX], certificates_key[WATCH_KEY_MAX];

    // lookup.c
    struct list lookups;
    unsigned lookup_count;
    struct remembered {
        uint64_t hash;
        uint64_t until_ms;
    } * remembered;

    // scan.c
    char holder[WATCH_HOLDER_MAX];
    bool has_lease;
    bool wants_lease;  // it is being asked for
    uint64_t lease_ms; // loop time of the next try
    struct watch_scan scan;
    struct watch_work work;
    uint64_t work_number; // of the work: what comes back for another is thrown away
    char trouble[128];    // why hosts could not be adopted, as it was logged last

    // notify.c
    struct noted *noted;
    struct noted **noted_last;
    unsigned noted_count;
    bool has_events;    // `events` was started
    unsigned confirmed; // patterns that the server has subscribed us to
    unsigned probe_seen;
    uint64_t probe_ms; // loop time of the next
    bool is_probing;
    bool has_said_first; // the first pass was logged

    pthread_mutex_t mutex; // of `status`
    struct ceryx_watch_status status;
};

struct ceryx_watch_status *watch_lock(struct ceryx_watch *watch);
void watch_unlock(struct ceryx_watch *watch);
#define WATCH_COUNT(watch, field)   \
    do {                            \
        watch_lock(watch)->field++; \
        watch_unlock(watch);        \
    } while (0)
// Counts it, keeps it for the status, logs it.
void watch_refused(struct ceryx_watch *watch, const char *host, const char *detail,
                   bool is_certificate);
// Marks a host as looked at, with these digests (see ceryx_digests()).
void watch_mark(struct ceryx_watch *watch, const char *host, const char *digests);
// A command without anybody who waits for its reply.
void watch_send(struct ceryx_watch *watch, unsigned argc, const struct str *argv);
// Looks at the time and at all that is to do, soon or now.
void watch_look(struct ceryx_watch *watch);

// ---- lookup.c ----

void lookup_ask(void *context, struct miss *miss); // any thread
void lookup_end_all(struct ceryx_watch *watch);

// ---- work.c ----

bool work_is_idle(const struct ceryx_watch *watch);
// Takes *hosts (malloc, with its texts). Idle.
void work_begin(struct ceryx_watch *watch, char ***hosts, unsigned count);
// Gives up what is left.
void work_end(struct ceryx_watch *watch);

// ---- scan.c ----

void scan_look(struct ceryx_watch *watch);
void scan_end(struct ceryx_watch *watch);
void lease_look(struct ceryx_watch *watch);
// It can do nothing with it now: another node may.
void lease_give_back(struct ceryx_watch *watch);

// ---- notify.c ----

void notify_on_state(struct ceryx_watch *watch, bool is_ready);
void notify_on_message(struct ceryx_watch *watch, const struct redis_reply *message);
void notify_look(struct ceryx_watch *watch);
// Takes hosts that were named: *hosts (malloc); 0: none.
unsigned notify_take(struct ceryx_watch *watch, char ***hosts);
void notify_end(struct ceryx_watch *watch);
