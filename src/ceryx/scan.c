// SPDX-License-Identifier: MIT
// Passes over all keys of Ceryx, by the one node that has the lease: what has changed without a notification,
// and what is gone.
//
//     SCAN a page ─► work ─► the next page … ─► HSCAN what was adopted ─► who has no key ─► work … ─► done
#include "base/log.h"
#include "ceryx/watch_int.h"
#include <stdlib.h>

enum { BACK_OFF_MS = 2000 };

static struct str key_of(const char *text)
{
    return str_from_c(text);
}

// ---- the lease ----

static const char lease_script[] =
    "local holder = redis.call('GET', KEYS[1])\n"
    "if holder and holder ~= ARGV[1] then return 0 end\n"
    "if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) return 0 end\n"
    "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])\n"
    "return 1\n";

static void set_lease(struct ceryx_watch *watch, bool has_lease)
{
    if (watch->has_lease != has_lease) {
        watch->has_lease = has_lease;
        watch_lock(watch)->is_scanning = has_lease;
        watch_unlock(watch);
        log_info("Ceryx' keys are watched by %s", has_lease ? "this node" : "another node");
        scan_end(watch);
    }
}

static void on_lease(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct ceryx_watch *watch = context;
    watch->wants_lease = false;
    int64_t is_ours = 0;
    bool is_known = reply != NULL && redis_reply_number(reply, &is_ours);
    set_lease(watch, is_known && is_ours == 1);
    watch_look(watch);
}

static bool send_lease(struct ceryx_watch *watch, struct str ms, redis_on_reply *on_reply)
{
    const struct str argv[] = {
        STR("EVAL"),
        str_make(lease_script, sizeof lease_script - 1),
        STR("1"),
        key_of(watch->lease_key),
        key_of(watch->holder),
        ms,
    };
    return redis_command(watch->redis, 6, argv, on_reply, watch);
}

void lease_look(struct ceryx_watch *watch)
{
    uint64_t now_ms = watch->config.loop->now_ms;
    char ms[16];
    if (watch->wants_lease || now_ms < watch->lease_ms) {
        return;
    }
    int len = snprintf(ms, sizeof ms, "%d", CERYX_LEASE_MS);
    watch->lease_ms = now_ms + CERYX_RENEW_MS;
    watch->wants_lease = send_lease(watch, str_make(ms, (size_t)len), on_lease);
}

static void on_given_back(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)context;
    (void)redis;
    (void)reply;
}

void lease_give_back(struct ceryx_watch *watch)
{
    watch->lease_ms = watch->config.loop->now_ms + BACK_OFF_MS;
    if (watch->has_lease && redis_is_ready(watch->redis) &&
        !send_lease(watch, STR("0"), on_given_back)) {
        log_debug("the lease was not given back");
    }
    set_lease(watch, false);
}

// ---- a pass ----

void scan_end(struct ceryx_watch *watch)
{
    work_end(watch);
    watch->scan.phase = SCAN_IDLE;
    watch->scan.is_waiting = false;
    watch->scan.number++;
    watch->scan.next_ms = 0;
}

static void end_pass(struct ceryx_watch *watch)
{
    struct watch_scan *scan = &watch->scan;
    uint64_t now_ms = watch->config.loop->now_ms;
    struct ceryx_watch_status *status = watch_lock(watch);
    status->scans++;
    status->scan_ms = now_ms - scan->started_ms;
    status->scanned = scan->hosts;
    uint64_t pause_ms = status->is_notified ? CERYX_PASS_NOTIFIED_MS : CERYX_PASS_MS;
    uint64_t adopted = status->adopted;
    watch_unlock(watch);
    if (!watch->has_said_first) {
        watch->has_said_first = true;
        log_info("Ceryx' keys: %llu hosts seen in %llu ms, %llu adopted",
                 (unsigned long long)scan->hosts, (unsigned long long)(now_ms - scan->started_ms),
                 (unsigned long long)adopted);
    }
    scan->phase = SCAN_IDLE;
    scan->next_ms = scan->started_ms + pause_ms;
}

// What redis_command() is given for a page.
struct page {
    struct ceryx_watch *watch;
    uint64_t number; // of the pass
};

static struct page *page_new(struct ceryx_watch *watch)
{
    struct page *page = malloc(sizeof *page);
    if (page != NULL) {
        *page = (struct page){.watch = watch, .number = watch->scan.number};
    }
    return page;
}

// Is it of the pass that is under way? Frees it.
static struct ceryx_watch *page_end(struct page *page)
{
    struct ceryx_watch *watch = page->number == page->watch->scan.number ? page->watch : NULL;
    free(page);
    if (watch != NULL) {
        watch->scan.is_waiting = false;
    }
    return watch;
}

// Redis has four times as long for others as for a page; large tables are read at an even pace.
static void plan_next(struct ceryx_watch *watch)
{
    struct watch_scan *scan = &watch->scan;
    uint64_t now_ms = watch->config.loop->now_ms;
    uint64_t pause_ms = (now_ms - scan->sent_ms) * 4;
    if (++scan->pages >= CERYX_PAGES_FAST && pause_ms < CERYX_PAGE_MS) {
        pause_ms = CERYX_PAGE_MS;
    }
    scan->next_ms = now_ms + (pause_ms > 200 ? 200 : pause_ms);
    if (scan->pages % 200 == 0) {
        log_info("Ceryx' keys: %llu hosts seen so far", (unsigned long long)scan->hosts);
    }
}

// Texts of an array, from `step` to `step`, each without its first `skip` bytes.
static unsigned copy_hosts(const struct redis_reply *texts, unsigned step, size_t skip,
                           char ***hosts)
{
    *hosts = texts->count == 0 ? NULL : calloc(texts->count, sizeof **hosts);
    unsigned count = 0;
    for (unsigned i = 0; *hosts != NULL && i < texts->count; i += step) {
        struct str host = str_from(texts->items[i]->text, skip);
        if (host.len == 0 || host.len > URI_HOST_MAX || memchr(host.p, '\0', host.len) != NULL) {
            continue; // no name of a host
        }
        (*hosts)[count] = str_dup(host);
        if ((*hosts)[count] == NULL) {
            break;
        }
        count++;
    }
    if (count == 0) {
        free(*hosts);
        *hosts = NULL;
    }
    return count;
}

static void fail_pass(struct ceryx_watch *watch, const struct redis_reply *reply)
{
    if (reply != NULL && reply->type == REDIS_ERROR) {
        log_warning("Ceryx' keys cannot be read: %.*s", STR_ARG(reply->text));
    }
    lease_give_back(watch);
}

// The cursor of the next page, and the texts of this one. NULL: it is no page.
static const struct redis_reply *read_page(struct ceryx_watch *watch,
                                           const struct redis_reply *reply)
{
    const struct redis_reply *cursor = redis_reply_item(reply, 0);
    const struct redis_reply *texts = redis_reply_item(reply, 1);
    if (cursor->type != REDIS_STRING || cursor->text.len >= sizeof watch->scan.cursor ||
        texts->type != REDIS_ARRAY) {
        return NULL;
    }
    str_copy(watch->scan.cursor, sizeof watch->scan.cursor, cursor->text);
    plan_next(watch);
    return texts;
}

static bool is_at_end(const struct watch_scan *scan)
{
    return strcmp(scan->cursor, "0") == 0;
}

static void on_routes(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct ceryx_watch *watch = page_end(context);
    if (watch == NULL) {
        return;
    }
    const struct redis_reply *texts = reply == NULL ? NULL : read_page(watch, reply);
    if (texts == NULL) {
        fail_pass(watch, reply);
        return;
    }
    char **hosts;
    unsigned count =
        copy_hosts(texts, 1, strlen(watch->config.prefix) + strlen(":routes:"), &hosts);
    watch->scan.hosts += count;
    if (is_at_end(&watch->scan)) {
        watch->scan.phase = SCAN_ADOPTED;
    }
    if (count > 0) {
        work_begin(watch, &hosts, count);
    } else {
        watch_look(watch);
    }
}

static void on_gone(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct ceryx_watch *watch = page_end(context);
    if (watch == NULL) {
        return;
    }
    if (reply == NULL || reply->type != REDIS_ARRAY) {
        fail_pass(watch, reply);
        return;
    }
    char **hosts;
    unsigned count = copy_hosts(reply, 1, 0, &hosts);
    bool is_over = is_at_end(&watch->scan);
    if (count > 0) {
        work_begin(watch, &hosts, count);
    }
    if (is_over) {
        end_pass(watch);
    }
    watch_look(watch);
}

// Which of these hosts have no key any more?
static bool ask_who_is_gone(struct ceryx_watch *watch, const struct redis_reply *marks)
{
    static const char script[] =
        "local out = {}\n"
        "for i = 2, #ARGV do\n"
        "  if redis.call('EXISTS', ARGV[1] .. ARGV[i]) == 0 then out[#out + 1] = ARGV[i] end\n"
        "end\n"
        "return out\n";
    struct buf prefix;
    buf_init(&prefix, 0);
    buf_printf(&prefix, "%s:routes:", watch->config.prefix);
    struct str *argv = calloc(4 + (size_t)marks->count / 2, sizeof *argv);
    struct page *page = page_new(watch);
    unsigned argc = 0;
    if (argv != NULL) {
        argv[argc++] = STR("EVAL");
        argv[argc++] = str_make(script, sizeof script - 1);
        argv[argc++] = STR("0");
        argv[argc++] = buf_str(&prefix);
        for (unsigned i = 0; i + 1 < marks->count; i += 2) {
            argv[argc++] = marks->items[i]->text;
        }
    }
    bool is_sent = argv != NULL && page != NULL && !prefix.failed &&
                   redis_command(watch->redis, argc, argv, on_gone, page);
    watch->scan.is_waiting = is_sent;
    if (!is_sent) {
        free(page);
    }
    free(argv);
    buf_fini(&prefix);
    return is_sent;
}

static void on_adopted(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)redis;
    struct ceryx_watch *watch = page_end(context);
    if (watch == NULL) {
        return;
    }
    const struct redis_reply *marks = reply == NULL ? NULL : read_page(watch, reply);
    if (marks == NULL || !ask_who_is_gone(watch, marks)) {
        fail_pass(watch, reply);
    }
}

// ---- the next page ----

// A text in which nothing is a pattern.
static void put_literal(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (strchr("*?[]\\^", *text) != NULL) {
            buf_put_char(out, '\\');
        }
        buf_put_char(out, *text);
    }
}

static bool send_page(struct ceryx_watch *watch)
{
    struct watch_scan *scan = &watch->scan;
    struct buf pattern;
    char count[16];
    struct page *page = page_new(watch);
    buf_init(&pattern, 0);
    put_literal(&pattern, watch->config.prefix);
    buf_put(&pattern, STR(":routes:*"));
    // Who is gone costs less to find than who has changed.
    snprintf(count, sizeof count, "%d", scan->phase == SCAN_ROUTES ? CERYX_PAGE : CERYX_PAGE * 4);
    bool is_sent = false;
    if (page != NULL && scan->phase == SCAN_ROUTES && !pattern.failed) {
        const struct str argv[] = {STR("SCAN"),  str_from_c(scan->cursor),
                                   STR("MATCH"), buf_str(&pattern),
                                   STR("COUNT"), str_from_c(count)};
        is_sent = redis_command(watch->redis, 6, argv, on_routes, page);
    } else if (page != NULL) {
        const struct str argv[] = {STR("HSCAN"), key_of(watch->mark_key), str_from_c(scan->cursor),
                                   STR("COUNT"), str_from_c(count)};
        is_sent = redis_command(watch->redis, 5, argv, on_adopted, page);
    }
    if (!is_sent) {
        free(page);
    }
    buf_fini(&pattern);
    return is_sent;
}

static void begin_pass(struct ceryx_watch *watch)
{
    struct watch_scan *scan = &watch->scan;
    scan->phase = SCAN_ROUTES;
    str_copy(scan->cursor, sizeof scan->cursor, STR("0"));
    scan->started_ms = watch->config.loop->now_ms;
    scan->pages = 0;
    scan->hosts = 0;
    scan->is_wanted = false;
}

void scan_look(struct ceryx_watch *watch)
{
    struct watch_scan *scan = &watch->scan;
    if (!watch->has_lease || !work_is_idle(watch) || scan->is_waiting) {
        return;
    }
    char **noted;
    unsigned count = notify_take(watch, &noted);
    if (count > 0) {
        work_begin(watch, &noted, count);
        return;
    }
    uint64_t now_ms = watch->config.loop->now_ms;
    if (now_ms < scan->next_ms && !(scan->phase == SCAN_IDLE && scan->is_wanted)) {
        uint64_t left_ms = scan->next_ms - now_ms;
        loop_timer_set(watch->config.loop, &watch->page_timer, left_ms);
        return;
    }
    if (scan->phase == SCAN_IDLE) {
        begin_pass(watch);
    }
    scan->sent_ms = now_ms;
    scan->is_waiting = send_page(watch);
    if (!scan->is_waiting) {
        lease_give_back(watch);
    }
}
