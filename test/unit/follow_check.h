// SPDX-License-Identifier: MIT
// Nodes on a redis-server of the test's own: each a replica, a fleet, and a control loop that the test turns.
// What is written goes into Redis by a script of the test, as any node's would. Include after cmocka.h's headers.
#pragma once
#include "base/clock.h"
#include "base/hash.h"
#include "fleet/follow_int.h"
#include "support/redis_server.h"
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { CHECK_NODES = 3 };

struct check_node {
    char folder[64];
    char path[80];
    char name[16];
    struct loop control;
    struct store_line line;
    struct store_feed feed;
    struct store *store;
    struct fleet *fleet;
    struct buf events; // "resync resynced skipped "
    char skipped_by[64];
    bool accept_empty;
    bool is_open;
    bool is_slow; // what is fed is not live before store_line_resume()
};

struct check {
    struct redis_server server;
    struct redis_url url;
    struct seal *seal;
    struct redis_sync *sync;
    struct check_node nodes[CHECK_NODES];
    unsigned tag;
};

// One change, with its entry. ARGV: noun, key, value ("": deletion), tag, secret ("": none), references
static const char check_write[] =
    "local m = redis.call('HMGET', KEYS[1], 'epoch', 'revision') "
    "local p = m[2] local r = string.format('%.0f', tonumber(p) + 1) "
    "local h, n, k, v, s = KEYS[3], ARGV[1], ARGV[2], ARGV[3], ARGV[5] "
    "local op = v == '' and '-' or (redis.call('HEXISTS', h, k) == 1 and '=' or '+') "
    "if v == '' then redis.call('HDEL', h, k) redis.call('HDEL', KEYS[4], n .. ':' .. k) "
    "else redis.call('HSET', h, k, r .. ' ' .. ARGV[6] .. '\\n' .. v) end "
    "if s ~= '' then redis.call('HSET', KEYS[4], n .. ':' .. k, s) end "
    "redis.call('XADD', KEYS[2], '*', 'v', '1', 'k', 'write', 'e', m[1], 'r', r, 'p', p, "
    "'t', ARGV[4], 'n', 'test', 'w', '1', 'c', op .. n .. ' ' .. #k .. ' ' .. #v .. ' ' .. "
    "(s == '' and '-' or tostring(#s)) .. '\\n' .. k .. v .. s) "
    "redis.call('HSET', KEYS[1], 'revision', r, 'tag', ARGV[4]) return r";

static inline const struct redis_reply *check_ask(struct check *c, unsigned argc,
                                                  const struct str *argv)
{
    const struct redis_reply *reply = redis_sync_command(c->sync, argc, argv);
    if (reply == NULL) {
        fail_msg("%s", redis_sync_error(c->sync));
    }
    return reply;
}

// A line of words.
static inline const struct redis_reply *check_say(struct check *c, const char *line)
{
    struct str argv[32];
    unsigned argc = 0;
    struct str rest = str_from_c(line);
    while (rest.len > 0 && argc < 32) {
        str_split(rest, ' ', &argv[argc++], &rest);
    }
    const struct redis_reply *reply = check_ask(c, argc, argv);
    if (reply->type == REDIS_ERROR) {
        fail_msg("%s: %s", line, reply->text.p);
    }
    return reply;
}

static inline void check_connect(struct check *c)
{
    redis_sync_close(&c->sync);
    struct problems problems;
    problems_init(&problems);
    assert_int_equal(redis_sync_open(&c->sync, &c->url, NULL, 60000, &problems), 0);
    problems_fini(&problems);
}

static inline void check_init(struct check *c)
{
    memset(c, 0, sizeof *c);
    hash_seed();
    signal(SIGPIPE, SIG_IGN);
    redis_server_init(&c->server);
    redis_server_start(&c->server, NULL);
    char url[160];
    snprintf(url, sizeof url, "redis+unix://%s", c->server.socket);
    struct problems problems;
    problems_init(&problems);
    assert_int_equal(redis_url_parse(&c->url, str_from_c(url), &problems), 0);
    assert_int_equal(seal_open_file(&c->seal, "", &problems), 0);
    problems_fini(&problems);
    check_connect(c);
    for (unsigned i = 0; i < CHECK_NODES; i++) {
        struct check_node *node = &c->nodes[i];
        snprintf(node->folder, sizeof node->folder, "/tmp/follow-test-XXXXXX");
        assert_non_null(mkdtemp(node->folder));
        snprintf(node->path, sizeof node->path, "%s/replica.db", node->folder);
        snprintf(node->name, sizeof node->name, "node-%u", i);
        buf_init(&node->events, 0);
        assert_int_equal(loop_init(&node->control), 0);
    }
}

static inline bool check_on_change(void *context, uint64_t revision,
                                   const struct store_record *records, unsigned count)
{
    (void)revision;
    (void)records;
    (void)count;
    return !((struct check_node *)context)->is_slow;
}

static inline void check_on_store_state(void *context, bool is_writable, struct str detail)
{
    (void)context;
    (void)is_writable;
    (void)detail;
}

static inline void check_on_state(void *context, bool is_writable, const char *detail)
{
    (void)context;
    (void)is_writable;
    (void)detail;
}

static inline void check_on_event(void *context, const struct fleet_event *event)
{
    struct check_node *node = context;
    if (strcmp(event->type, "store") != 0) {
        return;
    }
    buf_printf(&node->events, "%s ", event->state);
    if (strcmp(event->state, "skipped") == 0) {
        str_copy(node->skipped_by, sizeof node->skipped_by, str_from_c(event->node));
    }
}

static inline void check_load(void *context, struct fleet_load *load)
{
    (void)context;
    load->workers = 1;
}

static inline void check_open(struct check *c, unsigned i)
{
    struct check_node *node = &c->nodes[i];
    struct problems problems;
    problems_init(&problems);
    assert_int_equal(store_open_replica(&node->store, node->path, &problems), 0);
    const struct fleet_config config = {
        .url = &c->url,
        .prefix = "t",
        .node_name = node->name,
        .node_zone = "",
        .address = "127.0.0.1:1",
        .version = "1",
        .accept_empty = node->accept_empty,
        .stream_entries = 100000,
        .stream_bytes = 256 << 20,
        .store = node->store,
        .seal = c->seal,
        .load = check_load,
        .on_state = check_on_state,
        .on_event = check_on_event,
        .context = node,
    };
    assert_int_equal(fleet_new(&node->fleet, &config, &problems), 0);
    store_line_init(&node->line, &node->control);
    node->feed = (struct store_feed){check_on_change, check_on_store_state, node, &node->line};
    assert_int_equal(store_start(node->store, &node->control, &node->feed), 0);
    assert_int_equal(fleet_start(node->fleet, &node->control), 0);
    problems_fini(&problems);
    node->is_open = true;
}

static inline void check_close(struct check *c, unsigned i)
{
    struct check_node *node = &c->nodes[i];
    if (!node->is_open) {
        return;
    }
    node->is_open = false;
    fleet_stop(node->fleet);
    store_stop(node->store);
    loop_turn(&node->control, 0);
    store_line_finish(&node->line);
    loop_turn(&node->control, 0);
    fleet_free(&node->fleet);
    store_close(&node->store);
    loop_turn(&node->control, 0);
}

static inline void check_fini(struct check *c)
{
    for (unsigned i = 0; i < CHECK_NODES; i++) {
        struct check_node *node = &c->nodes[i];
        check_close(c, i);
        loop_fini(&node->control);
        buf_fini(&node->events);
        DIR *folder = opendir(node->folder);
        assert_non_null(folder);
        const struct dirent *entry;
        while ((entry = readdir(folder)) != NULL) {
            if (entry->d_name[0] != '.') {
                unlinkat(dirfd(folder), entry->d_name, 0);
            }
        }
        closedir(folder);
        rmdir(node->folder);
    }
    redis_sync_close(&c->sync);
    seal_free(&c->seal);
    redis_url_fini(&c->url);
    redis_server_fini(&c->server);
}

static inline void check_turn(struct check *c, int wait_ms)
{
    for (unsigned i = 0; i < CHECK_NODES; i++) {
        if (c->nodes[i].is_open) {
            loop_turn(&c->nodes[i].control, i == 0 ? wait_ms : 0);
        }
    }
}

static inline void check_sleep(struct check *c, unsigned ms)
{
    uint64_t until = clock_monotonic_ns() + ms * NS_PER_MS;
    while (clock_monotonic_ns() < until) {
        check_turn(c, 5);
        usleep(1000);
    }
}

#define CHECK_WAIT(c, condition)                                    \
    do {                                                            \
        uint64_t until_ns = clock_monotonic_ns() + 60 * NS_PER_SEC; \
        while (!(condition)) {                                      \
            if (clock_monotonic_ns() > until_ns) {                  \
                fail_msg("never: %s", #condition);                  \
            }                                                       \
            check_turn(c, 2);                                       \
            usleep(500);                                            \
        }                                                           \
    } while (0)

static inline struct fleet_status check_status(struct check *c, unsigned i)
{
    struct fleet_status status;
    fleet_get_status(c->nodes[i].fleet, &status);
    return status;
}

static inline void check_write_secret(struct check *c, enum noun noun, const char *key,
                                      const char *value, const char *secret)
{
    char tag[STORE_ID_LEN + 1];
    char hash[40];
    snprintf(tag, sizeof tag, "%08x%024x", 0xabcd, ++c->tag);
    snprintf(hash, sizeof hash, "t:%.*s", STR_ARG(noun_plural(noun)));
    const struct str argv[] = {
        STR("EVAL"),     str_from_c(check_write), STR("4"),         STR("t:meta"),
        STR("t:stream"), str_from_c(hash),        STR("t:secrets"), noun_name(noun),
        str_from_c(key), str_from_c(value),       str_from_c(tag),  str_from_c(secret),
        STR(""),
    };
    const struct redis_reply *reply = check_ask(c, sizeof argv / sizeof argv[0], argv);
    if (reply->type == REDIS_ERROR) {
        fail_msg("%s", reply->text.p);
    }
}

static inline void check_put(struct check *c, enum noun noun, const char *key, const char *value)
{
    check_write_secret(c, noun, key, value, "");
}

static inline void check_route(struct check *c, const char *host, const char *status)
{
    char key[64];
    char value[160];
    snprintf(key, sizeof key, "%s", host);
    snprintf(value, sizeof value, "{\"host\":\"%s\",\"path\":\"/\",\"respond\":{\"status\":%s}}",
             host, status);
    check_put(c, NOUN_ROUTE, key, value);
}

static inline void check_drop_route(struct check *c, const char *host)
{
    check_put(c, NOUN_ROUTE, host, "");
}

// How many routes (those without a final '/').
static inline uint64_t check_revision(struct check *c)
{
    const struct redis_reply *reply = check_say(c, "HGET t:meta revision");
    uint64_t revision = 0;
    assert_int_equal(str_to_u64(reply->text, &revision), 0);
    return revision;
}

struct check_seen {
    struct buf text;
};

static inline bool check_on_record(void *context, const struct store_record *record)
{
    struct check_seen *seen = context;
    buf_printf(&seen->text, "%llu %.*s %.*s\n", (unsigned long long)record->revision,
               STR_ARG(record->key), STR_ARG(record->value));
    return true;
}

// Each record as "REVISION KEY VALUE" in order of keys.
static inline void check_put_replica(struct check_node *node, enum noun noun, struct buf *to)
{
    struct check_seen seen = {.text = *to};
    assert_int_equal(store_list(node->store, noun, STR_NULL, STR_NULL, 0, check_on_record, &seen),
                     0);
    *to = seen.text;
}

static inline int check_compare_pairs(const void *a, const void *b)
{
    const struct redis_reply *const *one = a;
    const struct redis_reply *const *other = b;
    return str_cmp((*one)->text, (*other)->text);
}

static inline void check_put_redis(struct check *c, enum noun noun, struct buf *to)
{
    char line[64];
    snprintf(line, sizeof line, "HGETALL t:%.*s", STR_ARG(noun_plural(noun)));
    const struct redis_reply *all = check_say(c, line);
    const struct redis_reply **pairs = calloc(all->count + 1, sizeof(void *));
    assert_non_null(pairs);
    memcpy(pairs, all->items, all->count * sizeof(void *));
    qsort(pairs, all->count / 2, 2 * sizeof(void *), check_compare_pairs);
    for (unsigned i = 0; i + 1 < all->count; i += 2) {
        uint64_t revision;
        struct str value;
        assert_int_equal(fleet_record_read(pairs[i + 1]->text, &revision, NULL, &value), 0);
        buf_printf(to, "%llu %.*s %.*s\n", (unsigned long long)revision, STR_ARG(pairs[i]->text),
                   STR_ARG(value));
    }
    free(pairs);
}

// Does the node have all that Redis has, and nothing else?
static inline bool check_is_same(struct check *c, unsigned i)
{
    struct buf here;
    struct buf there;
    buf_init(&here, 0);
    buf_init(&there, 0);
    for (int noun = 0; noun < NOUN_TICKETS; noun++) {
        check_put_replica(&c->nodes[i], (enum noun)noun, &here);
        check_put_redis(c, (enum noun)noun, &there);
    }
    bool is_same = str_eq(buf_str(&here), buf_str(&there));
    buf_fini(&here);
    buf_fini(&there);
    return is_same;
}

static inline bool check_is_following(struct check *c, unsigned i)
{
    struct fleet_status status = check_status(c, i);
    return status.state == FLEET_FOLLOWING && status.revision >= check_revision(c);
}

// All open nodes follow, and have what Redis has.
static inline bool check_is_converged(struct check *c)
{
    for (unsigned i = 0; i < CHECK_NODES; i++) {
        if (c->nodes[i].is_open && (!check_is_following(c, i) || !check_is_same(c, i))) {
            return false;
        }
    }
    return true;
}

static inline bool check_has_event(struct check *c, unsigned i, const char *state)
{
    return str_find(buf_str(&c->nodes[i].events), str_from_c(state)) != SIZE_MAX;
}

static inline unsigned check_count(struct check *c, unsigned i, enum noun noun)
{
    return (unsigned)store_count(c->nodes[i].store, noun);
}
