// SPDX-License-Identifier: MIT
// A random walk: many transactions at once, and at each event some client, target, clock or table does
// something that it may do. What must hold is checked after each event (sim_check_transactions), at each
// call on a stream (sim_stream.c), and here: what was sent on is what came, in order; a message is
// complete only if its source was; a request that must not be repeated reaches no second target.
//
// SIM_SEED=n SIM_EVENTS=n repeats a walk that failed; a failure prints both.
#include "sim/sim_check.h"
#include <stdio.h>

enum {
    SEEDS = 8,
    EVENTS = 25000, // of each
    CLIENTS_MAX = 40,
    STREAMS_MAX = 100000, // of each side and walk
};

struct walk {
    struct sim *sim;
    uint64_t random;
    unsigned client_count;       // live
    struct sim_stream **clients; // by number, from the first head to a target on
    struct sim_stream **origins;
    struct sim_stream **last_of; // the last origin that got the request of a client
};

static struct walk walk;

// splitmix64
static uint64_t draw(void)
{
    uint64_t z = walk.random += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static unsigned below(unsigned n)
{
    return (unsigned)(draw() % n);
}

static bool chance(unsigned percent)
{
    return below(100) < percent;
}

// ---- what must hold ----

static void on_user_head(struct sim_stream *s)
{
    if (s->side != SIM_ORIGIN) {
        return;
    }
    SIM_REQUIRE(s->sim, s->out_key > 0 && s->out_key <= s->sim->client_count);
    const struct txn *txn = s->stream.user;
    walk.origins[s->number] = s;
    walk.clients[s->out_key] = sim_stream_of(txn->client);
    struct sim_stream *before = walk.last_of[s->out_key];
    walk.last_of[s->out_key] = s;
    if (s->method == METHOD_POST && before != NULL) {
        SIM_REQUIRE(s->sim, before->life == SIM_GONE && before->stream.was_reused &&
                                (before->stream.bytes_out == 0 || before->stream.never_arrived));
    }
}

static void on_user_end(struct sim_stream *s)
{
    if (s->side == SIM_CLIENT && s->out_key == 0) {
        return; // an answer of the proxy's own
    }
    struct sim_stream *source =
        s->side == SIM_CLIENT ? walk.origins[s->out_key] : walk.clients[s->out_key];
    SIM_REQUIRE(s->sim, source != NULL && source->in_ended);
    if (s->side == SIM_ORIGIN || s->method != METHOD_HEAD) {
        SIM_REQUIRE(s->sim, s->out_at == source->in_at);
    }
}

// ---- what happens ----

static size_t piece(const struct sim_stream *s)
{
    return s->number % 4 == 0 ? 10000 + below(20000) : 1 + below(300);
}

static void begin_request(void)
{
    static const char *const methods[] = {"GET", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"};
    struct sim *sim = walk.sim;
    char text[512];
    char framing[128] = "";
    unsigned kind = below(10);
    if (kind < 3) {
        snprintf(framing, sizeof framing, "Content-Length: %u\r\n",
                 below(chance(20) ? 200000 : 500));
    } else if (kind < 6) {
        snprintf(framing, sizeof framing, "Transfer-Encoding: chunked\r\n");
    } else if (kind == 6) {
        snprintf(framing, sizeof framing, "Connection: upgrade\r\nUpgrade: websocket\r\n");
    }
    snprintf(text, sizeof text, "%s /%u HTTP/1.1\r\nHost: a\r\nX-Key: %u\r\n%s%s%s\r\n",
             methods[below(7)], below(10), sim->client_count + 1, framing,
             chance(10) ? "Expect: 100-continue\r\n" : "",
             chance(10)   ? "TE: trailers\r\n"
             : chance(20) ? "Content-Type: application/x-www-form-urlencoded\r\n"
                          : "");
    walk.last_of[sim->client_count + 1] = NULL;
    sim_request(sim, text);
}

static void give_answer(struct sim_stream *s)
{
    static const unsigned statuses[] = {200, 200, 200, 201, 204, 304, 404, 413, 500, 502, 503, 504};
    char text[256];
    char framing[64] = "";
    if (chance(10)) {
        sim_respond(s, chance(50) ? "HTTP/1.1 100 Continue\r\n\r\n"
                                  : "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n");
        return;
    }
    if (s->out_upgrade ? chance(70) : chance(1)) {
        snprintf(text, sizeof text,
                 "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                 "Upgrade: websocket\r\nX-Key: %u\r\n\r\n",
                 s->number);
        sim_respond(s, text);
        return;
    }
    unsigned kind = below(4);
    if (kind < 2) {
        snprintf(framing, sizeof framing, "Content-Length: %u\r\n",
                 below(chance(30) ? 300000 : 500));
    } else if (kind == 2) {
        snprintf(framing, sizeof framing, "Transfer-Encoding: chunked\r\n");
    }
    unsigned status = statuses[below(12)];
    snprintf(text, sizeof text, "HTTP/1.1 %u X\r\nX-Key: %u\r\n%s\r\n", status, s->number,
             status == 204 ? "" : framing);
    sim_respond(s, text);
}

// More of the message, or its end.
static void speak(struct sim_stream *s)
{
    bool has_left = s->is_tunnel || s->in_body != BODY_LENGTH || s->in_left > 0;
    bool may_end = s->is_tunnel || s->in_body != BODY_LENGTH || s->in_left == 0;
    if (may_end && (!has_left || chance(15))) {
        if (!s->is_tunnel && s->in_body == BODY_CHUNKED && chance(20)) {
            sim_end_with_trailer(s, "X-Sum", "1");
        } else {
            sim_end(s);
        }
        return;
    }
    size_t len = piece(s);
    bool is_bound = !s->is_tunnel && s->in_body == BODY_LENGTH;
    sim_fill(s, is_bound && len > s->in_left ? s->in_left : len);
}

static bool may_speak(const struct sim_stream *s)
{
    return s->life == SIM_LIVE && !s->is_paused && !s->in_ended &&
           (s->side == SIM_CLIENT || s->in_head);
}

static void leave(struct sim_stream *s)
{
    static const int errs[] = {ERR_CLOSED, ERR_CLOSED, ERR_CLOSED, ERR_SYNTAX, ERR_MEMORY};
    int err = s->life == SIM_CONNECTING ? ERR_CLOSED : errs[below(5)];
    s->stream.never_arrived = s->side == SIM_ORIGIN && s->stream.was_reused && chance(20);
    sim_leave(s, s->side == SIM_CLIENT && chance(10) ? ERR_REQUEST_TIMEOUT : err);
}

static void act(struct sim_stream *s)
{
    if (s->life == SIM_CONNECTING) {
        if (chance(25)) {
            leave(s);
        } else if (chance(60)) {
            sim_connected(s);
        }
    } else if (chance(2)) {
        leave(s);
    } else if (chance(35)) {
        sim_read(s);
    } else if (s->side == SIM_ORIGIN && !s->in_head) {
        if (s->out_head && !s->is_paused && chance(60)) {
            give_answer(s);
        }
    } else if (may_speak(s)) {
        speak(s);
    }
}

static void change_settings(struct pool_settings *settings)
{
    static const enum hash_by keys[] = {HASH_CLIENT_IP, HASH_PATH, HASH_HEADER, HASH_FORM};
    settings->balance = (uint8_t)below(4);
    settings->hash.by = keys[below(4)];
    settings->hash.name = STR("x-key");
    settings->sticky.cookie = chance(30) ? STR("c") : STR_NULL;
    settings->retry_budget = chance(50) ? 100 : (uint8_t)(below(6) * 10);
    settings->passive.max_fails = below(3);
    settings->passive.fail_timeout_ms = 1000;
    settings->requests_per_target = chance(50) ? 0 : 1 + below(6);
    settings->queue = below(20);
    settings->queue_timeout_ms = 1 + below(300);
}

static void change_tables(void)
{
    struct sim *sim = walk.sim;
    change_settings(&sim->settings);
    if (chance(5)) {
        sim_drop_route(sim);
        return;
    }
    sim_swap_route(sim, chance(3) ? 0 : 1 + below(SIM_MEMBERS));
    struct route_decl *rules = sim_rules(sim);
    rules->retries = below(4);
    rules->retry_on = below(64);
    rules->buffer_request = chance(30) ? below(100000) : 0;
    rules->has_body_limit = chance(30);
    rules->body_limit = rules->has_body_limit ? below(100000) : 0;
    rules->timeouts.response_ms = chance(30) ? 100 + below(5000) : 0;
    rules->timeouts.connect_ms = chance(30) ? 10 + below(500) : 0;
    rules->timeouts.request_ms = chance(30) ? 100 + below(3000) : 0;
}

static void change_targets(void)
{
    struct sim *sim = walk.sim;
    static const size_t windows[] = {0, 100, 1000, 50000};
    sim->reuses = chance(50);
    sim->refuses_at_once = chance(2);
    sim->limited = chance(20) ? below(1u << SIM_MEMBERS) : 0;
    sim->is_unsent = chance(30);
    sim->window = windows[below(4)];
    if (chance(20)) {
        struct pool_member *member = sim->members[below(SIM_MEMBERS)];
        atomic_store(&member->cut, 1);
        proxy_cut(sim->proxy);
        sim_after_event(sim);
        atomic_store(&member->cut, 0);
    }
}

// Any of the live streams; all are counted on the way.
static struct sim_stream *choose(void)
{
    struct sim_stream *chosen = NULL;
    unsigned count = 0;
    walk.client_count = 0;
    LIST_FOR_EACH (node, &walk.sim->live) {
        struct sim_stream *s = CONTAINER_OF(node, struct sim_stream, node);
        walk.client_count += s->side == SIM_CLIENT;
        if (below(++count) == 0) {
            chosen = s;
        }
    }
    return chosen;
}

static void take_step(void)
{
    struct sim_stream *s = choose();
    unsigned what = below(1000);
    if (what < 10) {
        sim_leap(walk.sim, chance(3) ? 1000 + below(25000) : 1 + below(400));
    } else if (what < 13 || (walk.sim->slot->current == NULL && what < 200)) {
        change_tables();
    } else if (what < 17) {
        change_targets();
    } else if (s == NULL || (walk.client_count < CLIENTS_MAX && chance(10))) {
        begin_request();
    } else {
        act(s);
    }
}

struct met {
    unsigned ends[END_COUNT];
    uint64_t retries;
    uint64_t reuses;
    uint64_t queued;
    uint64_t seconds; // second addresses
    uint64_t over_budget;
    unsigned paused[2]; // by side
    unsigned dropped;   // the answer was there before the request was
};

static void add_met(struct met *met)
{
    struct sim *sim = walk.sim;
    for (int i = 0; i < END_COUNT; i++) {
        met->ends[i] += sim->ends[i];
    }
    met->retries += sim_counter(sim, COUNTER_upstream_retries_total);
    met->reuses += sim_counter(sim, COUNTER_upstream_reuses_total);
    met->queued += sim_counter(sim, COUNTER_queued_total);
    met->seconds += sim_counter(sim, COUNTER_upstream_second_address_total);
    met->over_budget += sim_counter(sim, COUNTER_retry_budget_total);
    LIST_FOR_EACH (node, &sim->dead) {
        const struct sim_stream *s = CONTAINER_OF(node, struct sim_stream, node);
        met->paused[s->side] += s->pauses > 0;
        met->dropped += s->life == SIM_RELEASED && !s->out_ended;
    }
}

static void go(uint64_t seed, uint64_t events, struct met *met)
{
    walk.sim = sim_new(SIM_MEMBERS);
    walk.sim->seed = seed;
    if (seed % 2 == 0) {
        sim_make_named(walk.sim, SIM_MEMBERS);
    }
    sim_make_queue(walk.sim, 10);
    walk.sim->on_user_head = on_user_head;
    walk.sim->on_user_end = on_user_end;
    walk.random = seed;
    for (uint64_t i = 0; i < events; i++) {
        if (walk.sim->client_count + 1 >= STREAMS_MAX ||
            walk.sim->origin_count + 20 >= STREAMS_MAX) {
            break;
        }
        take_step();
    }
    http_server_abort_all(walk.sim->server);
    sim_check_idle(walk.sim);
    add_met(met);
    sim_free(&walk.sim);
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t number;
    return text != NULL && str_to_u64(str_from_c(text), &number) == 0 ? number : otherwise;
}

static void test_walk(void **state)
{
    (void)state;
    uint64_t only = number_of("SIM_SEED", 0);
    uint64_t events = number_of("SIM_EVENTS", EVENTS);
    struct met all = {0};
    walk.clients = calloc(STREAMS_MAX, sizeof(struct sim_stream *));
    walk.origins = calloc(STREAMS_MAX, sizeof(struct sim_stream *));
    walk.last_of = calloc(STREAMS_MAX, sizeof(struct sim_stream *));
    assert_true(walk.clients != NULL && walk.origins != NULL && walk.last_of != NULL);
    for (uint64_t seed = only == 0 ? 1 : only; seed <= (only == 0 ? SEEDS : only); seed++) {
        go(seed, events, &all);
    }
    // The walk comes by every end that it can bring about.
    static const enum end_reason ends[] = {
        END_DONE,           END_TUNNEL,     END_TUNNEL_IDLE,     END_CUT,
        END_REFUSED,        END_NO_ROUTE,   END_BODY_TOO_LARGE,  END_CLIENT_LEFT,
        END_CLIENT_SLOW,    END_NO_TARGET,  END_CONNECT_REFUSED, END_CONNECT_TIMEOUT,
        END_ORIGIN_CLOSED,  END_ORIGIN_BAD, END_ORIGIN_SLOW,     END_TRUNCATED,
        END_UPGRADE_FAILED, END_QUEUE_FULL, END_QUEUE_TIMEOUT,   END_DEADLINE,
    };
    bool is_short = only != 0 || events < EVENTS;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        print_message("%-20s %u\n", end_info(ends[i])->token, all.ends[ends[i]]);
        assert_true(is_short || all.ends[ends[i]] > 0);
    }
    print_message("retries %llu, reuses %llu, clients paused %u, targets paused %u, early %u\n",
                  (unsigned long long)all.retries, (unsigned long long)all.reuses,
                  all.paused[SIM_CLIENT], all.paused[SIM_ORIGIN], all.dropped);
    print_message("queued %llu, second addresses %llu, over the budget %llu\n",
                  (unsigned long long)all.queued, (unsigned long long)all.seconds,
                  (unsigned long long)all.over_budget);
    assert_true(is_short || (all.queued > 0 && all.seconds > 0 && all.over_budget > 0));
    assert_true(is_short || (all.retries > 0 && all.reuses > 0 && all.paused[SIM_CLIENT] > 0 &&
                             all.paused[SIM_ORIGIN] > 0 && all.dropped > 0));
    free(walk.clients);
    free(walk.origins);
    free(walk.last_of);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_walk)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
