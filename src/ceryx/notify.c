// SPDX-License-Identifier: MIT
// Keyspace notifications of Ceryx' keys, where the server sends any. Whether it does, and of all kinds of
// commands that matter, is found out by commands on keys of our own.
#include "base/log.h"
#include "ceryx/watch_int.h"
#include <stdlib.h>

enum {
    PROBE_MS = 5000,
    PROBE_ANSWER_MS = 500,
    SEEN_SET = 1,
    SEEN_HSET = 2,
    SEEN_DEL = 4,
    SEEN_ALL = 7,
    PATTERNS = 3, // that are subscribed to
    PROBE_TTL_MS = 2000,
};

// ---- hosts that were named ----

static void drop_noted(struct ceryx_watch *watch)
{
    while (watch->noted != NULL) {
        struct noted *noted = watch->noted;
        watch->noted = noted->next;
        free(noted);
    }
    watch->noted_last = &watch->noted;
    watch->noted_count = 0;
}

static void note(struct ceryx_watch *watch, struct str host)
{
    if (host.len == 0 || host.len > URI_HOST_MAX || memchr(host.p, '\0', host.len) != NULL) {
        return;
    }
    struct noted *noted =
        watch->noted_count >= CERYX_NOTED_MAX ? NULL : malloc(sizeof *noted + host.len + 1);
    if (noted == NULL) {
        watch->scan.is_wanted = true; // it finds them all
        drop_noted(watch);
        return;
    }
    noted->next = NULL;
    str_copy(noted->host, host.len + 1, host);
    *watch->noted_last = noted;
    watch->noted_last = &noted->next;
    watch->noted_count++;
}

static int compare_hosts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// A host is often named by several commands in a row.
static unsigned drop_repeated(char **hosts, unsigned count)
{
    unsigned kept = 0;
    qsort(hosts, count, sizeof *hosts, compare_hosts);
    for (unsigned i = 0; i < count; i++) {
        if (kept > 0 && strcmp(hosts[kept - 1], hosts[i]) == 0) {
            free(hosts[i]);
        } else {
            hosts[kept++] = hosts[i];
        }
    }
    return kept;
}

unsigned notify_take(struct ceryx_watch *watch, char ***hosts)
{
    unsigned count = watch->noted_count < CERYX_PAGE ? watch->noted_count : CERYX_PAGE;
    *hosts = count == 0 ? NULL : calloc(count, sizeof **hosts);
    if (*hosts == NULL) {
        return 0;
    }
    unsigned taken = 0;
    while (taken < count) {
        struct noted *noted = watch->noted;
        (*hosts)[taken] = str_dup(str_from_c(noted->host));
        if ((*hosts)[taken] == NULL) {
            break;
        }
        taken++;
        watch->noted = noted->next;
        watch->noted_count--;
        free(noted);
    }
    if (watch->noted == NULL) {
        watch->noted_last = &watch->noted;
    }
    if (taken == 0) {
        free(*hosts);
        *hosts = NULL;
        return 0;
    }
    return drop_repeated(*hosts, taken);
}

void notify_end(struct ceryx_watch *watch)
{
    drop_noted(watch);
    watch->confirmed = 0;
}

// ---- what comes ----

static void set_notified(struct ceryx_watch *watch, bool is_notified)
{
    struct ceryx_watch_status *status = watch_lock(watch);
    bool is_other = status->is_notified != is_notified;
    status->is_notified = is_notified;
    watch_unlock(watch);
    if (is_other) {
        log_info("Redis %s of changes to Ceryx' keys", is_notified ? "tells" : "does not tell");
        watch->scan.is_wanted = true; // for what was missed until now
    }
}

// False: the channel is another.
static bool on_probe(struct ceryx_watch *watch, struct str key, struct str event)
{
    struct str probe = str_from_c(watch->probe_key);
    if (!str_starts(key, probe)) {
        return false;
    }
    bool is_hash = key.len > probe.len;
    watch->probe_seen |= !is_hash && str_eq(event, STR("set")) ? SEEN_SET : 0;
    watch->probe_seen |= is_hash && str_eq(event, STR("hset")) ? SEEN_HSET : 0;
    watch->probe_seen |= str_eq(event, STR("del")) ? SEEN_DEL : 0;
    if (watch->probe_seen == SEEN_ALL && watch->has_lease) {
        set_notified(watch, true); // also when the answer was slow
    }
    return true;
}

// The rest of "PREFIX:KIND:REST"; p NULL: it is another key.
static struct str rest_of(const struct ceryx_watch *watch, struct str key, struct str kind)
{
    struct str prefix = str_from_c(watch->config.prefix);
    if (!str_starts(key, prefix) || !str_starts(str_from(key, prefix.len), kind)) {
        return STR_NULL;
    }
    return str_from(key, prefix.len + kind.len);
}

void notify_on_message(struct ceryx_watch *watch, const struct redis_reply *message)
{
    struct str kind = redis_reply_item(message, 0)->text;
    if (str_eq(kind, STR("psubscribe"))) {
        // The probe goes over another connection: sent any earlier, it could be ahead of the subscription.
        watch->confirmed++;
        watch_look(watch);
        return;
    }
    if (!str_eq(kind, STR("pmessage"))) {
        return;
    }
    struct str channel = redis_reply_item(message, 2)->text;
    struct str event = redis_reply_item(message, 3)->text;
    size_t at = str_find(channel, STR("__:"));
    if (at == SIZE_MAX || watch->is_stopping) {
        return;
    }
    struct str key = str_from(channel, at + 3);
    if (on_probe(watch, key, event)) {
        return;
    }
    struct str host = rest_of(watch, key, STR(":routes:"));
    if (host.p == NULL) {
        host = rest_of(watch, key, STR(":settings:"));
    }
    if (host.p != NULL && watch->has_lease) {
        WATCH_COUNT(watch, notifications);
        note(watch, host);
        loop_timer_set(watch->config.loop, &watch->page_timer, 1); // with those that follow
    }
}

// ---- the subscription ----

static void put_pattern(struct buf *out, const struct ceryx_watch *watch, const char *prefix,
                        const char *rest)
{
    buf_clear(out);
    buf_printf(out, "__keyspace@%u__:", watch->config.url->db);
    for (const char *at = prefix; *at != '\0'; at++) {
        if (strchr("*?[]\\^", *at) != NULL) {
            buf_put_char(out, '\\');
        }
        buf_put_char(out, *at);
    }
    buf_put(out, str_from_c(rest));
}

static bool subscribe(struct ceryx_watch *watch, const char *prefix, const char *rest)
{
    struct buf pattern;
    buf_init(&pattern, 0);
    put_pattern(&pattern, watch, prefix, rest);
    const struct str argv[] = {STR("PSUBSCRIBE"), buf_str(&pattern)};
    bool is_sent = !pattern.failed && redis_command(watch->events, 2, argv, NULL, NULL);
    buf_fini(&pattern);
    return is_sent;
}

void notify_on_state(struct ceryx_watch *watch, bool is_ready)
{
    watch->confirmed = 0;
    watch->probe_ms = 0;
    watch->is_probing = false;
    bool is_sent = is_ready && subscribe(watch, watch->config.prefix, ":routes:*") &&
                   subscribe(watch, watch->config.prefix, ":settings:*") &&
                   subscribe(watch, watch->probe_key, "*");
    if (!is_sent) {
        set_notified(watch, false);
    }
}

// ---- does it tell? ----

static void send_probe(struct ceryx_watch *watch)
{
    char hash[WATCH_KEY_MAX + 8];
    snprintf(hash, sizeof hash, "%s:hash", watch->probe_key);
    char ms[16];
    snprintf(ms, sizeof ms, "%d", PROBE_TTL_MS);
    struct str probe = str_from_c(watch->probe_key);
    watch->probe_seen = 0;
    watch_send(watch, 5,
               (const struct str[]){STR("SET"), probe, STR("1"), STR("PX"), str_from_c(ms)});
    watch_send(watch, 4,
               (const struct str[]){STR("HSET"), str_from_c(hash), STR("field"), STR("1")});
    watch_send(watch, 3, (const struct str[]){STR("DEL"), probe, str_from_c(hash)});
}

void notify_look(struct ceryx_watch *watch)
{
    uint64_t now_ms = watch->config.loop->now_ms;
    if (!watch->has_lease) {
        if (watch->noted_count > 0) {
            drop_noted(watch);
        }
        set_notified(watch, false);
        watch->probe_ms = 0;
        watch->is_probing = false;
        return;
    }
    if (!watch->has_events) {
        watch->has_events = true;
        redis_start(watch->events);
    }
    if (watch->confirmed < PATTERNS || now_ms < watch->probe_ms) {
        return;
    }
    if (watch->is_probing) {
        watch->is_probing = false;
        watch->probe_ms = now_ms + PROBE_MS;
        bool was_notified = watch_lock(watch)->is_notified;
        watch_unlock(watch);
        set_notified(watch, watch->probe_seen == SEEN_ALL);
        if (was_notified && watch->probe_seen != SEEN_ALL) {
            // Nobody but the server speaks on that connection: one that is dead is not found otherwise.
            redis_drop(watch->events, "notifications do not come any more");
        }
    } else {
        watch->is_probing = true;
        watch->probe_ms = now_ms + PROBE_ANSWER_MS;
        send_probe(watch);
    }
}
