// SPDX-License-Identifier: MIT
// When the connection is made, and who is told.
//
//   PAUSING ─► ASKING (a Sentinel) ─► NAMING ─► LINKING ─► GREETING ─► READY
//      ▲          └──────────┴───────────┴─────────┴───────────┴─────────┘
//      └── any failure, redis_drop(), another primary: pending commands get NULL, on_state is told
//
// Attempts begin in a timer, and go on in a task: never inside of an event of the socket before.
#include "base/clock.h"
#include "base/hash.h"
#include "base/invariant.h"
#include "net/tls_files.h"
#include "redis/redis_int.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

enum {
    STABLE_MS = 1000,    // a connection that lasted so long begins again with no pause
    DROP_AGAIN_MS = 100, // one that is dropped sooner than that does not
};

static void begin(struct redis *redis);

// ---- who is told ----

static void tell(struct redis *redis, bool is_ready, const char *detail)
{
    if (redis->was_told && redis->was_ready == is_ready &&
        (is_ready || strcmp(redis->why, detail) == 0)) {
        return;
    }
    redis->was_told = true;
    redis->was_ready = is_ready;
    str_copy(redis->why, sizeof redis->why, str_from_c(detail));
    redis->config.on_state(redis->config.context, redis, is_ready, detail);
}

static uint64_t jitter(struct redis *redis, uint64_t ms)
{
    redis->random ^= redis->random << 13;
    redis->random ^= redis->random >> 7;
    redis->random ^= redis->random << 17;
    uint64_t fifth = ms / 5;
    return ms - fifth + redis->random % (2 * fifth + 1);
}

static uint64_t next_pause(struct redis *redis)
{
    unsigned failures = redis->failures++;
    if (failures == 0) {
        return 0;
    }
    uint64_t ms = REDIS_RETRY_MIN_MS;
    for (unsigned i = 1; i < failures && ms < REDIS_RETRY_MAX_MS; i++) {
        ms *= 2;
    }
    return jitter(redis, ms < REDIS_RETRY_MAX_MS ? ms : REDIS_RETRY_MAX_MS);
}

// Ends the attempt, or the connection.
static void fail(struct redis *redis, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void fail(struct redis *redis, const char *format, ...)
{
    char why[REDIS_WHY_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (redis->step == REDIS_READY && redis->loop->now_ms - redis->ready_ms >= STABLE_MS) {
        redis->failures = 0;
    }
    redis->step = REDIS_PAUSING;
    redis_link_close(&redis->link);
    loop_task_cancel(&redis->again);
    loop_timer_set(redis->loop, &redis->timer, next_pause(redis));
    redis_link_answer_all(&redis->link);
    tell(redis, false, why);
}

void redis_drop(struct redis *redis, const char *why)
{
    if (redis->step == REDIS_IDLE || redis->step == REDIS_PAUSING) {
        return;
    }
    if (redis->loop->now_ms - redis->began_ms >= DROP_AGAIN_MS) {
        redis->failures = 0;
    }
    fail(redis, "%s", why);
}

// ---- what is said first ----

static void on_greeting_fault(struct redis *redis, const struct redis_reply *reply)
{
    char text[REDIS_WHY_MAX];
    redis_copy_printable(text, sizeof text, reply->text);
    fail(redis, "%s", text);
}

static void on_needed(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)context;
    if (reply != NULL && reply->type == REDIS_ERROR && redis->step == REDIS_GREETING) {
        on_greeting_fault(redis, reply);
    }
}

static void on_role(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)context;
    if (reply == NULL || redis->step != REDIS_GREETING) {
        return;
    }
    if (reply->type == REDIS_ERROR) {
        on_greeting_fault(redis, reply);
    } else if (!str_eq(redis_reply_item(reply, 0)->text, STR("master"))) {
        redis_sentinel_doubt(&redis->sentinel);
        fail(redis, "%s is not a primary, though a Sentinel says so", redis->peer);
    }
}

// The last of them.
static void on_ping(void *context, struct redis *redis, const struct redis_reply *reply)
{
    (void)context;
    if (reply == NULL || redis->step != REDIS_GREETING) {
        return;
    }
    // A user that may not PING is one that the server knows; one that cannot save refuses it, but can be read.
    if (reply->type == REDIS_ERROR && !redis_reply_is_error(reply, "NOPERM") &&
        !redis_reply_is_error(reply, "MISCONF")) {
        on_greeting_fault(redis, reply);
        return;
    }
    redis->step = REDIS_READY;
    redis->ready_ms = redis->loop->now_ms;
    loop_timer_cancel(redis->loop, &redis->timer);
    tell(redis, true, "");
}

bool redis_put_auth(struct redis_link *link, const char *user, const char *password,
                    redis_on_reply *on_reply, void *context)
{
    if (user[0] == 0 && password[0] == 0) {
        return true;
    }
    struct str auth[3] = {STR("AUTH"), str_from_c(user), str_from_c(password)};
    if (user[0] == 0) {
        auth[1] = auth[2];
        return redis_link_command(link, 2, auth, on_reply, context);
    }
    return redis_link_command(link, 3, auth, on_reply, context);
}

static bool put_greetings(struct redis *redis)
{
    struct redis_link *link = &redis->link;
    const struct redis_url *url = redis->config.url;
    char number[16];
    int len = snprintf(number, sizeof number, "%u", url->db);
    struct str select[2] = {STR("SELECT"), str_make(number, (size_t)len)};
    struct str set_name[3] = {STR("CLIENT"), STR("SETNAME"), str_from_c(redis->config.name)};
    struct str role = STR("ROLE");
    struct str ping = STR("PING");
    return redis_put_auth(link, url->user, url->password, on_needed, redis) &&
           (url->db == 0 || redis_link_command(link, 2, select, on_needed, redis)) &&
           (set_name[2].len == 0 || redis_link_command(link, 3, set_name, NULL, NULL)) &&
           (url->scheme != REDIS_SENTINEL || redis_link_command(link, 1, &role, on_role, redis)) &&
           redis_link_command(link, 1, &ping, on_ping, redis);
}

static void on_open(struct redis_link *link)
{
    struct redis *redis = link->redis;
    redis->step = REDIS_GREETING;
    if (!put_greetings(redis)) {
        fail(redis, "%s", err_text(ERR_MEMORY));
    }
}

static void on_lost(struct redis_link *link, const char *why)
{
    struct redis *redis = link->redis;
    if (redis->step == REDIS_LINKING && redis->config.url->scheme != REDIS_UNIX) {
        redis_names_failed(&redis->names,
                           redis->config.url->scheme == REDIS_SENTINEL ? REDIS_HOST_MAX : 0);
        if (redis->tries < redis->left) {
            redis->tries++;
            redis->step = REDIS_NAMING;
            loop_task_add(redis->loop, &redis->again);
            return;
        }
    }
    fail(redis, "%s", why);
}

static void on_message(struct redis_link *link, const struct redis_reply *message)
{
    struct redis *redis = link->redis;
    if (redis->config.on_message == NULL) {
        fail(redis, "protocol: a message that nobody asked for");
        return;
    }
    redis->config.on_message(redis->config.context, message);
}

static const struct redis_link_ops link_ops = {
    .on_open = on_open,
    .on_lost = on_lost,
    .on_message = on_message,
};

// ---- an attempt ----

static void set_peer(struct redis *redis)
{
    const struct redis_url *url = redis->config.url;
    if (url->scheme == REDIS_UNIX) {
        snprintf(redis->peer, sizeof redis->peer, "unix:%s", url->path);
    } else {
        bool is_v6 = strchr(redis->host, ':') != NULL;
        snprintf(redis->peer, sizeof redis->peer, is_v6 ? "[%.253s]:%u" : "%.253s:%u", redis->host,
                 redis->port);
    }
}

static bool open_unix(struct redis *redis)
{
    const char *path = redis->config.url->path;
    struct sockaddr_storage address = {0};
    struct sockaddr_un *un = (struct sockaddr_un *)&address;
    un->sun_family = AF_UNIX;
    str_copy(un->sun_path, sizeof un->sun_path, str_from_c(path));
    return redis_link_open(&redis->link, &address, sizeof *un, NULL, STR_NULL);
}

// Goes on as far as it can be gone now, in step NAMING.
static void go_on(struct redis *redis)
{
    bool is_sentinel = redis->config.url->scheme == REDIS_SENTINEL;
    unsigned at = is_sentinel ? REDIS_HOST_MAX : 0;
    bool is_open = false;
    while (!is_open) {
        struct sockaddr_storage address;
        socklen_t len;
        const char *why = NULL;
        int step = redis_names_find(&redis->names, at, redis->host, redis->port, &address, &len,
                                    &redis->left, &why);
        if (step == STEP_AGAIN) {
            return;
        }
        if (step < 0) {
            fail(redis, "name %.100s: %s", redis->host, why);
            return;
        }
        is_open = redis_link_open(&redis->link, &address, len, redis->tls, str_from_c(redis->host));
        if (!is_open) {
            redis_names_failed(&redis->names, at);
            if (redis->tries >= redis->left) {
                fail(redis, "%s", redis->link.why);
                return;
            }
            redis->tries++;
        }
    }
    redis->step = REDIS_LINKING;
}

static void begin_unix(struct redis *redis)
{
    redis->step = REDIS_LINKING;
    if (!open_unix(redis)) {
        fail(redis, "%s", redis->link.why);
    }
}

// Host and port are known.
static void begin_naming(struct redis *redis)
{
    redis->step = REDIS_NAMING;
    redis->tries = 0;
    set_peer(redis);
    loop_timer_set(redis->loop, &redis->timer, REDIS_CONNECT_MS);
}

static void begin(struct redis *redis)
{
    const struct redis_url *url = redis->config.url;
    redis->began_ms = redis->loop->now_ms;
    switch (url->scheme) {
    case REDIS_UNIX:
        set_peer(redis);
        loop_timer_set(redis->loop, &redis->timer, REDIS_CONNECT_MS);
        begin_unix(redis);
        break;
    case REDIS_TCP:
        str_copy(redis->host, sizeof redis->host, str_from_c(url->hosts[0].name));
        redis->port = url->hosts[0].port;
        begin_naming(redis);
        go_on(redis);
        break;
    case REDIS_SENTINEL:
        redis->step = REDIS_ASKING; // it has times of its own
        redis_sentinel_ask(&redis->sentinel);
        break;
    }
}

static void on_again(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    struct redis *redis = CONTAINER_OF(task, struct redis, again);
    if (redis->step == REDIS_NAMING) {
        go_on(redis);
    }
}

static void on_names(struct redis_names *names)
{
    struct redis *redis = CONTAINER_OF(names, struct redis, names);
    redis_sentinel_on_answer(&redis->sentinel);
    if (redis->step == REDIS_NAMING) {
        loop_task_add(redis->loop, &redis->again);
    }
}

void redis_on_primary(struct redis *redis, struct str host, uint16_t port)
{
    bool is_same = redis->port == port && str_eq(str_from_c(redis->host), host);
    if (redis->step == REDIS_ASKING) {
        str_copy(redis->host, sizeof redis->host, host);
        redis->port = port;
        begin_naming(redis);
        loop_task_add(redis->loop, &redis->again);
    } else if (!is_same && redis->step > REDIS_ASKING) {
        char why[REDIS_WHY_MAX];
        snprintf(why, sizeof why, "the primary is %.140s:%u now", host.p, port);
        redis_drop(redis, why);
    }
}

void redis_on_no_primary(struct redis *redis, const char *why)
{
    if (redis->step == REDIS_ASKING) {
        fail(redis, "%s", why);
    }
}

static void on_timer(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct redis *redis = CONTAINER_OF(timer, struct redis, timer);
    bool is_shaking = redis->link.phase == REDIS_SHAKING;
    switch (redis->step) {
    case REDIS_PAUSING:
        begin(redis);
        break;
    case REDIS_NAMING:
        fail(redis, "name %.100s: no answer in %d ms", redis->host, REDIS_CONNECT_MS);
        break;
    case REDIS_LINKING:
        redis_names_failed(&redis->names,
                           redis->config.url->scheme == REDIS_SENTINEL ? REDIS_HOST_MAX : 0);
        fail(redis, is_shaking ? "TLS: timeout" : "connect: timeout");
        break;
    case REDIS_GREETING:
        fail(redis, "connected, but no answer in %d ms", REDIS_CONNECT_MS);
        break;
    case REDIS_IDLE:
    case REDIS_ASKING:
    case REDIS_READY:
        break;
    }
}

// ---- its life ----

static int load_tls(struct redis *redis, struct problems *problems)
{
    static const struct redis_tls defaults = {0};
    const struct redis_tls *tls = redis->config.tls == NULL ? &defaults : redis->config.tls;
    struct tls_client_config config = {.profile = TLS_INTERMEDIATE, .verify = !tls->no_verify};
    char why[TLS_FILE_WHY_MAX];
    bool has_certificate = tls->certificate_file != NULL && tls->certificate_file[0] != 0;
    bool has_key = tls->key_file != NULL && tls->key_file[0] != 0;
    if (has_certificate != has_key) {
        return problems_add(problems, ERR_INVALID, "",
                            "a client certificate has a key, and a key "
                            "a certificate");
    }
    if (has_certificate) {
        int err = tls_identity_load(&redis->identity, tls->certificate_file, tls->key_file, why);
        if (err != 0) {
            return problems_add(problems, err, "", "%s", why);
        }
        config.on_certificate = tls_identity_give;
        config.owner = redis->identity;
    }
    if (tls->ca_file != NULL && tls->ca_file[0] != 0) {
        config.store = tls_store_from_file(tls->ca_file, why);
        if (config.store == NULL) {
            return problems_add(problems, ERR_INVALID, "", "%s", why);
        }
    }
    int err = tls_client_context_new(&redis->tls, &config);
    if (config.store != NULL) {
        tls_store_free(config.store);
    }
    return err == 0 ? 0 : problems_add(problems, err, "", "TLS: %s", err_text(err));
}

static void free_redis(struct loop *loop, struct loop_deferred *deferred)
{
    (void)loop;
    free(CONTAINER_OF(deferred, struct redis, deferred));
}

static void let_go(struct redis *redis)
{
    redis_link_fini(&redis->link);
    redis_sentinel_fini(&redis->sentinel);
    redis_names_fini(&redis->names);
    tls_context_unref(&redis->tls);
    tls_identity_free(&redis->identity);
}

int redis_new(struct redis **place, const struct redis_config *config, struct problems *problems)
{
    struct redis *redis = calloc(1, sizeof *redis);
    *place = NULL;
    if (redis == NULL) {
        return ERR_MEMORY;
    }
    redis->config = *config;
    redis->loop = config->loop;
    redis->random = clock_monotonic_ns() ^ (uintptr_t)redis ^ 1;
    redis->random = hash_bytes(&redis->random, sizeof redis->random) | 1;
    redis_link_init(&redis->link, redis, redis->loop, &link_ops);
    redis_names_init(&redis->names, redis->loop, on_names);
    redis_sentinel_init(&redis->sentinel, redis);
    loop_timer_init(&redis->timer, on_timer);
    loop_task_init(&redis->again, on_again);
    str_copy(redis->peer, sizeof redis->peer, str_from_c(config->url->shown));
    int err = config->url->is_tls ? load_tls(redis, problems) : 0;
    if (err != 0) {
        let_go(redis);
        free(redis);
        return err;
    }
    *place = redis;
    return 0;
}

void redis_start(struct redis *redis)
{
    if (redis->step == REDIS_IDLE) {
        redis->step = REDIS_PAUSING;
        loop_timer_set(redis->loop, &redis->timer, 0);
    }
}

void redis_free(struct redis **place)
{
    struct redis *redis = *place;
    *place = NULL;
    if (redis == NULL) {
        return;
    }
    redis->step = REDIS_IDLE;
    loop_timer_cancel(redis->loop, &redis->timer);
    loop_task_cancel(&redis->again);
    let_go(redis);
    // Events of its sockets may be on their way in this turn.
    loop_defer(redis->loop, &redis->deferred, free_redis);
}

// ---- its use ----

bool redis_is_ready(const struct redis *redis)
{
    return redis->step == REDIS_READY;
}

bool redis_command(struct redis *redis, unsigned argc, const struct str *argv,
                   redis_on_reply *on_reply, void *context)
{
    return redis->step == REDIS_READY &&
           redis_link_command(&redis->link, argc, argv, on_reply, context);
}

uint64_t redis_silent_ms(const struct redis *redis)
{
    return redis_link_silent_ms(&redis->link);
}

unsigned redis_pending(const struct redis *redis)
{
    return redis->link.line.count;
}

const char *redis_peer(const struct redis *redis)
{
    return redis->peer;
}
